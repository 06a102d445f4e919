"""Every action of the definitions, each kind of bad request: the documented error, nothing changed in the database, the daemon alive.

The requests are the examples of the definitions, so that an action that is added is tested by being added."""

import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
import uuid
from datetime import datetime, timedelta, timezone

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from conftest import HOME, IMAGES, RC, REPO, ZONE, client, daemon_pid, environment_of, run, until
from messages import soap_envelope

ENDPOINTS = {"EC2": RC["AWS_ENDPOINT_URL_EC2"], "IAM": RC["AWS_ENDPOINT_URL_IAM"], "STS": RC["AWS_ENDPOINT_URL_STS"]}
VERSIONS = {"EC2": "2016-11-15", "IAM": "2010-05-08", "STS": "2011-06-15"}
OWN = Credentials(RC["AWS_ACCESS_KEY_ID"], RC["AWS_SECRET_ACCESS_KEY"])
# What STS answers without looking at a policy or an id, and what needs a token of somebody else instead of a key.
KEYLESS = {"AssumeRoleWithWebIdentity", "AssumeRoleWithSAML"}


def definitions():
    for path in sorted((REPO / "Sources/Shared/API/Definitions").glob("*/*.json")):
        definition = json.loads(path.read_text())
        if definition["audience"] == "external":
            for action in definition["actions"]:
                yield definition["service"], action


ACTIONS = [(service, action["name"], action.get("example", {}).get("query", "")) for service, action in definitions()]
# EC2 itself has actions without DryRun.
DRY = {action["name"] for service, action in definitions() if any(m["name"] == "dryRun" for m in action.get("input", []) if isinstance(m, dict))}
IDS = [f"{service}.{name}" for service, name, _ in ACTIONS]


def post(url, data, headers=None):
    """Status and text, whatever the status."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data, headers=headers or {}), timeout=30) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def query(service, action, example, credentials=OWN, age=0, **extra):
    """A Query request, signed with Signature Version 4 (`credentials` None: not signed) `age` seconds ago."""
    pairs = [("Action", action), ("Version", VERSIONS[service])] + urllib.parse.parse_qsl(example, keep_blank_values=True) + list(extra.items())
    body = urllib.parse.urlencode(pairs).encode()
    url = ENDPOINTS[service] if urllib.parse.urlparse(ENDPOINTS[service]).path else ENDPOINTS[service] + "/"
    request = AWSRequest("POST", url, data=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
    if credentials:
        signer = SigV4Auth(credentials, service.lower(), "karri-1")
        moment = (datetime.now(timezone.utc) - timedelta(seconds=age)).strftime("%Y%m%dT%H%M%SZ")
        request.context["timestamp"] = moment
        request.headers["X-Amz-Date"] = moment
        canonical = signer.canonical_request(request)
        request.headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={signer.signed_headers(signer.headers_to_sign(request))}, "
            f"Signature={signer.signature(signer.string_to_sign(request, canonical), request)}")
    return post(url, body, dict(request.headers))


def code(text):
    found = re.search(r"<Code>([^<]+)</Code>", text)
    return found.group(1) if found else None


# What succeeds for an id that is not there, as in EC2: there is nothing to delete. The digest tells that nothing went.
SILENT = {"DeleteTags", "DeleteKeyPair"}
# What is only kept to be said later: EC2 looks at a launch template's ids when it is used.
KEPT = {"CreateLaunchTemplate", "CreateLaunchTemplateVersion"}
# What moves by itself while machines run: what nodes report, and when.
MOVING = {"cloud.components", "cloud.counters", "walrus.garbage"}
MOVING_COLUMNS = {"observed", "observed_at", "seen", "last_used", "reported", "progress", "last_seen", "updated"}


def state():
    """A digest for each table of the cloud's and the identities' rows, without the columns that reports of nodes move."""
    def sql(text):
        url = next(line.split("=", 1)[1].strip() for line in open(HOME / "config/clc.conf") if line.startswith("database_url"))
        return run("psql", "-d", url, "-v", "ON_ERROR_STOP=1", "-At", "-c", text)

    columns = {}
    for line in sql("SELECT table_schema || '.' || table_name, column_name FROM information_schema.columns"
                    " WHERE table_schema IN ('cloud', 'identity') ORDER BY 1, 2").splitlines():
        table, column = line.split("|")
        if column not in MOVING_COLUMNS and not column.startswith("observed"):
            columns.setdefault(table, []).append(f't."{column}"')
    tables = [t for t in columns if t not in MOVING]
    text = " UNION ALL ".join(
        f"SELECT '{t}', md5(coalesce(string_agg(md5(ROW({', '.join(columns[t])})::text), '' ORDER BY md5(ROW({', '.join(columns[t])})::text)), '')) FROM {t} t"
        + (f" WHERE t.action <> ALL ('{{{','.join(SILENT)}}}')" if t == "cloud.audit" else "")
        for t in tables)
    return dict(line.split("|") for line in sql(text).splitlines())


def settled_state():
    """The state once nothing moves any more (the machine of the other tests runs on)."""
    seen = [None]

    def still():
        before, seen[0] = seen[0], state()
        return before == seen[0]

    until("a settled state", 60, still, every=2)
    return seen[0]


@pytest.fixture(scope="class")
def unchanged(machine):
    """Whatever the tests of a class ask for, the rows stay and the daemon lives."""
    before, pid = settled_state(), daemon_pid("clc")
    yield
    assert state() == before
    assert daemon_pid("clc") == pid


@pytest.fixture(scope="module")
def stranger():
    """Credentials of the root of a second account, which owns nothing."""
    folder = HOME / "admin" / f"stranger-{os.getpid()}"
    binary = REPO / (".build/debug" if os.environ.get("KARRI_BUILD") == "debug" else ".build-release/release") / "karri-clc"
    run(binary, "account", "create", "--config", HOME / "config/clc.conf", "--out", folder, folder.name)
    made = environment_of(folder / "credentials.env")
    return Credentials(made["AWS_ACCESS_KEY_ID"], made["AWS_SECRET_ACCESS_KEY"])


def refused(answer, *codes, statuses=range(400, 500)):
    status, text = answer
    if status == 200 and "<unsuccessful" in text:  # EC2's form for lists: each item with its error
        inner = re.search(r"<code>([^<]+)</code>", text)
        assert inner and not re.search(r"<successful\w*><item>", text), answer
        return inner.group(1)
    assert status in statuses and code(text), answer
    if codes:
        assert code(text) in codes, answer
    return code(text)


NAMES_A_RESOURCE = re.compile(r"(?:^|[=&])((?:i|vol|snap|emi|eki|eri|sg|eipalloc|eipassoc|bun|key|eni|subnet|vpc|rtb|igw|acl|lt|sgr)-[0-9a-f]{8,17})")


@pytest.mark.usefixtures("unchanged")
class TestNothingChanges:
    @pytest.mark.parametrize("service, action, example", ACTIONS, ids=IDS)
    def test_requests_that_nobody_signed(self, service, action, example):
        """Not signed, signed with a wrong or an unknown key, signed 20 minutes ago or ahead, changed after it was signed."""
        if action in KEYLESS:
            pytest.skip("answers to a token instead of a signature")
        authentication = ("AuthFailure", "MissingAuthenticationToken", "InvalidClientTokenId", "SignatureDoesNotMatch")
        refused(query(service, action, example, credentials=None), *authentication)
        refused(query(service, action, example, credentials=Credentials(OWN.access_key, "wrong")), *authentication)
        refused(query(service, action, example, credentials=Credentials("AKIDUNKNOWNUNKNOWN00", "wrong")), *authentication)
        expired = ("RequestExpired", "SignatureDoesNotMatch", "AuthFailure")
        refused(query(service, action, example, age=1200), *expired)
        refused(query(service, action, example, age=-1200), *expired)

    @pytest.mark.parametrize("service, action, example", ACTIONS, ids=IDS)
    def test_malformed_and_oversized_requests(self, service, action, example):
        assert refused(query(service, action, example, Nonsense="1")) in (
            "UnknownParameter", "MalformedInput", "ValidationError", "InvalidParameterValue", "MissingParameter")
        if service == "EC2" and action in DRY:
            assert refused(query(service, action, example, DryRun="perhaps")).startswith("Invalid")
        assert query(service, action, example, Padding="x" * 3_000_000)[0] in (400, 413)
        soap_refused = post(RC["EC2_URL"], f"<Envelope><{action}></Envelope>".encode(), {"SOAPAction": action, "Content-Type": "text/xml"})
        assert soap_refused[0] in (400, 500) and "Fault" in soap_refused[1], soap_refused

    @pytest.mark.parametrize("action", [action for service, action, _ in ACTIONS if service == "EC2"])
    def test_soap_messages_that_are_not_signed_or_come_again(self, action):
        """DryRun, so that the first one, which is right, changes nothing either."""
        namespace = "http://ec2.amazonaws.com/doc/2016-11-15/"
        body = f'<{action} xmlns="{namespace}"><dryRun>true</dryRun></{action}>'
        headers = {"SOAPAction": action, "Content-Type": "text/xml"}
        status, text = post(RC["EC2_URL"], soap_envelope(body, signed=False), headers)
        assert status == 500 and "Fault" in text and action + "Response" not in text
        envelope = soap_envelope(body)
        status, text = post(RC["EC2_URL"], envelope, headers)
        assert "AuthFailure" not in text and "InvalidSecurity" not in text, text
        status, text = post(RC["EC2_URL"], envelope, headers)
        assert status == 500 and ("AuthFailure" in text or "InvalidSecurity" in text or "Replay" in text), text
        changed = soap_envelope(body).replace(b"<dryRun>true", b"<dryRun>false")
        status, text = post(RC["EC2_URL"], changed, headers)
        assert status == 500 and ("AuthFailure" in text or "InvalidSecurity" in text), text

    @pytest.mark.parametrize("action, example", [(a, e) for s, a, e in ACTIONS if s == "EC2" and a not in KEPT and NAMES_A_RESOURCE.search(e)])
    def test_ids_that_nobody_has(self, action, example):
        answer = query("EC2", action, example)
        if action not in SILENT or answer[0] != 200:
            name = refused(answer)
            assert "NotFound" in name or name.startswith("Invalid"), answer


@pytest.fixture(scope="module")
def own(ec2, machine):
    """One resource of each kind, owned by the first account."""
    tag = uuid.uuid4().hex[:8]
    volume = ec2.create_volume(Size=1, AvailabilityZone=ZONE)["VolumeId"]
    until("available", 60, lambda: ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available")
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    until("completed", 60, lambda: ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"] == "completed")
    address = ec2.allocate_address(Domain="vpc")
    group = ec2.create_security_group(GroupName=f"own-{tag}", Description="x")["GroupId"]
    key = ec2.create_key_pair(KeyName=f"own-{tag}")
    yield {
        "i": machine.id, "vol": volume, "snap": snapshot, "eipalloc": address["AllocationId"], "sg": group, "key": key["KeyPairId"],
        "emi": IMAGES["KARRI_IMAGE"], "eki": IMAGES["KARRI_KERNEL"], "eri": IMAGES["KARRI_RAMDISK"], "name": f"own-{tag}", "ip": address["PublicIp"]}
    ec2.delete_key_pair(KeyName=f"own-{tag}")
    ec2.delete_security_group(GroupId=group)
    ec2.release_address(AllocationId=address["AllocationId"])
    ec2.delete_snapshot(SnapshotId=snapshot)
    ec2.delete_volume(VolumeId=volume)


def test_ids_of_somebody_else(own, stranger):
    """Every action that names a resource, asked by another account for resources that exist: as if they did not."""
    assert query("EC2", "DescribeSecurityGroups", "", credentials=stranger)[0] == 200  # an account's defaults are made when it first asks
    before = settled_state()
    asked = 0
    for service, action, example in ACTIONS:
        if service != "EC2" or action in KEPT:
            continue
        theirs = NAMES_A_RESOURCE.sub(lambda m: m.group(0).replace(m.group(1), own.get(m.group(1).split("-")[0], m.group(1))), example)
        theirs = re.sub(r"198\.18\.0\.\d+", own["ip"], theirs)
        if not action.startswith("Create") and action != "ImportKeyPair":
            theirs = re.sub(r"((?:Key|Group)Name(?:\.1)?=)(?:alpha|web)\b", lambda m: m.group(1) + own["name"], theirs)
        if theirs == example:
            continue
        asked += 1
        answer = query("EC2", action, theirs, credentials=stranger)
        if action not in SILENT or answer[0] != 200:
            name = refused(answer)
            assert re.search(r"NotFound|AuthFailure|Malformed|Unavailable|UnauthorizedOperation|InvalidParameter|InvalidAMIID", name), (action, answer)
    assert asked > 20
    assert state() == before
