"""Each stock client finds itself at home: identity, regions, zones, types, images; SOAP by the WSDL that the cloud serves."""

import hashlib
import hmac
import base64
import json
import urllib.parse
import urllib.request
import urllib.error
from datetime import datetime, timezone

import pytest
from conftest import HOME, IMAGES, RC, ZONE, client, run
from messages import signer


def test_identity_by_sts_and_iam():
    identity = client("sts").get_caller_identity()
    assert identity["Account"] == RC["EC2_USER_ID"]
    assert identity["Arn"].startswith(f"arn:aws:iam::{identity['Account']}:")
    user = client("iam").get_user()["User"]
    assert user["Arn"] == identity["Arn"]


def test_aws_cli_reads():
    regions = json.loads(run("aws", "ec2", "describe-regions", "--output", "json"))
    assert [r["RegionName"] for r in regions["Regions"]] == ["karri-1"]
    zones = json.loads(run("aws", "ec2", "describe-availability-zones", "--output", "json"))
    assert zones["AvailabilityZones"][0]["ZoneName"] == ZONE and zones["AvailabilityZones"][0]["State"] == "available"
    types = json.loads(run("aws", "ec2", "describe-instance-types", "--instance-types", "t1.micro", "--output", "json"))
    assert types["InstanceTypes"][0]["VCpuInfo"]["DefaultVCpus"] >= 1


def test_images_are_described(ec2):
    images = {i["ImageId"]: i for i in ec2.describe_images(Owners=["self"])["Images"]}
    machine = images[IMAGES["KARRI_IMAGE"]]
    assert machine["ImageType"] == "machine" and machine["State"] == "available"
    assert machine["KernelId"] == IMAGES["KARRI_KERNEL"] and machine["KernelId"].startswith("eki-")
    assert images[IMAGES["KARRI_RAMDISK"]]["ImageType"] == "ramdisk"


def test_paginator_and_filter(ec2):
    pages = list(ec2.get_paginator("describe_images").paginate(Owners=["self"], PaginationConfig={"PageSize": 1000}))
    assert pages
    found = ec2.describe_images(Filters=[{"Name": "image-type", "Values": ["kern*"]}])["Images"]
    assert [i["ImageId"] for i in found] == [IMAGES["KARRI_KERNEL"]]


def signature_v2(parameters, host, path="/", method="GET", secret=None):
    encoded = "&".join(f"{urllib.parse.quote(k, safe='-_.~')}={urllib.parse.quote(v, safe='-_.~')}" for k, v in sorted(parameters.items()))
    text = f"{method}\n{host}\n{path}\n{encoded}"
    mac = hmac.new((secret or RC["AWS_SECRET_ACCESS_KEY"]).encode(), text.encode(), hashlib.sha256).digest()
    return encoded + "&Signature=" + urllib.parse.quote(base64.b64encode(mac).decode(), safe="-_.~")


def query_v2(action, secret=None, timestamp=None, **extra):
    host = urllib.parse.urlparse(RC["AWS_ENDPOINT_URL_EC2"]).netloc
    parameters = {
        "Action": action, "Version": "2016-11-15", "AWSAccessKeyId": RC["AWS_ACCESS_KEY_ID"], "SignatureVersion": "2",
        "SignatureMethod": "HmacSHA256", "Timestamp": timestamp or datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), **extra}
    try:
        with urllib.request.urlopen(f"http://{host}/?" + signature_v2(parameters, host, secret=secret), timeout=20) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_signature_version_2_in_the_query_string():
    """libcloud's EC2 driver: GET, everything in the query, lists from 0, a namespace with a trailing slash."""
    status, text = query_v2("DescribeImages", **{"ImageId.0": IMAGES["KARRI_IMAGE"]})
    assert status == 200 and IMAGES["KARRI_IMAGE"] in text
    assert 'xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"' in text
    status, text = query_v2("DescribeImages", secret="wrong")
    assert status in (401, 403) and ("AuthFailure" in text or "SignatureDoesNotMatch" in text)
    status, text = query_v2("DescribeImages", timestamp="2020-01-01T00:00:00Z")
    assert status == 400 and "RequestExpired" in text


def test_any_claimed_region_is_accepted():
    assert client("ec2", region_name="undefined-4711").describe_regions()["Regions"]


SOAP_DATES = ["2008-05-05", "2009-08-15", "2010-08-31", "2014-02-01"]


def soap(version, algorithm="sha1"):
    import zeep

    served = zeep.Client(f"{RC['AWS_ENDPOINT_URL_EC2']}?wsdl&Version={version}", wsse=signer(algorithm))
    binding = next(iter(served.wsdl.bindings))
    return served.create_service(binding, RC["EC2_URL"])


@pytest.mark.parametrize("version", SOAP_DATES)
def test_soap_with_the_served_wsdl(version):
    service = soap(version)
    zones = service.DescribeAvailabilityZones(availabilityZoneSet={"item": []})
    assert ZONE in str(zones)
    images = service.DescribeImages(executableBySet={"item": []}, imagesSet={"item": [{"imageId": IMAGES["KARRI_IMAGE"]}]}, ownersSet={"item": []})
    assert IMAGES["KARRI_IMAGE"] in str(images)


def test_soap_with_sha256_and_its_faults():
    import zeep

    service = soap("2010-08-31", "sha256")
    with pytest.raises(zeep.exceptions.Fault) as caught:
        service.DescribeInstances(instancesSet={"item": [{"instanceId": "i-00000000"}]})
    assert caught.value.code == "aws:Client.InvalidInstanceID.NotFound" or caught.value.code.endswith("InvalidInstanceID.NotFound")


def test_soap_refuses_what_is_not_signed():
    body = (
        '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Header/><soapenv:Body>'
        '<DescribeRegions xmlns="http://ec2.amazonaws.com/doc/2010-08-31/"/></soapenv:Body></soapenv:Envelope>')
    request = urllib.request.Request(RC["EC2_URL"], data=body.encode(), headers={"SOAPAction": "", "Content-Type": "text/xml"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=20)
    text = caught.value.read().decode()
    assert caught.value.code == 500 and "Fault" in text and "regionName" not in text


def test_eucarc_has_the_contract():
    names = """AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION AWS_ENDPOINT_URL_EC2 AWS_ENDPOINT_URL_S3 AWS_ENDPOINT_URL_IAM
    AWS_ENDPOINT_URL_STS EC2_URL S3_URL EUARE_URL TOKEN_URL EC2_ACCESS_KEY EC2_SECRET_KEY EC2_USER_ID EC2_CERT EC2_PRIVATE_KEY EUCALYPTUS_CERT""".split()
    assert [n for n in names if not RC.get(n)] == []
    assert (HOME / "admin/s3cfg").exists()
