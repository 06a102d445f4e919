"""What docs/performance.md tells, measured on a cloud that Tests/Benchmarks/run brought up. Only the standard library, boto3 and stock tools.

launch    RunInstances to ssh answering, against `virsh create` of the same domain XML and disk to ssh answering, alternating, warm cache
memory    resident memory of the five daemons, idle
calls     server CPU per DescribeInstances: SigV4 Query, and SOAP with WS-Security
download  image download, decryption and verification on the node, against `openssl enc -d`, gunzip, sha1sum of the same file
"""

import os
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "IntegrationTests"))
from conftest import HOME, IMAGES, RC, REPO, Key, Machine, client, daemon_pid, run, until  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
DAEMONS = ["clc", "walrus", "cc", "sc", "nc"]


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident_mib(pid):
    """(Rss, Pss) in MiB: Pss shares what several processes map."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return tuple(int(re.search(rf"^{k}:\s+(\d+)", text, re.M)[1]) / 1024 for k in ("Rss", "Pss"))


def banner_time(address, started, limit=180):
    """Seconds from `started` until the ssh server at the address says its banner."""
    while time.monotonic() - started < limit:
        try:
            with socket.create_connection((address, 22), timeout=0.5) as connection:
                connection.settimeout(2)
                if connection.recv(4) == b"SSH-":
                    return time.monotonic() - started
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"no ssh at {address}")


def launch(ec2, key, rounds=3):
    uri = run("bash", "-c", f". {REPO}/deploy/lib/common.sh; . {REPO}/deploy/lib/servers.sh; libvirt_uri")
    group = "benchmark"
    ec2.create_security_group(GroupName=group, Description=group)
    ec2.authorize_security_group_ingress(GroupName=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0")
    warm = Machine(ec2, key, groups=[group]).running().ssh_up()
    warm.terminate()
    cloud, bare = [], []
    for _ in range(rounds):
        started = time.monotonic()
        machine = Machine(ec2, key, groups=[group])
        address = None
        while not address:
            address = machine.describe().get("PublicIpAddress")
        cloud.append(banner_time(address, started))
        # The same XML, a fresh overlay on the same base, the same network: only the controllers are out of the way.
        xml = run("virsh", "-c", uri, "dumpxml", "--inactive", machine.id)
        disk = re.search(r"<source file='([^']+\.qcow2|[^']+)'", xml)[1]
        run("virsh", "-c", uri, "destroy", machine.id)
        backing = re.search(r"backing file: (\S+)", run("qemu-img", "info", disk))[1]
        form = re.search(r"backing file format: (\S+)", run("qemu-img", "info", disk))[1]
        size = re.search(r"\((\d+) bytes\)", run("qemu-img", "info", disk))[1]
        fresh = Path(disk).with_name("benchmark.qcow2")
        xml = xml.replace(disk, str(fresh)).replace(f"<name>{machine.id}</name>", "<name>karri-benchmark</name>")
        xml = re.sub(r"<uuid>.*?</uuid>", "", xml)
        (HOME / "benchmark.xml").write_text(xml)
        started = time.monotonic()
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", form, fresh, size)
        run("virsh", "-c", uri, "create", HOME / "benchmark.xml")
        bare.append(banner_time(address, started))
        run("virsh", "-c", uri, "destroy", "karri-benchmark")
        fresh.unlink()
        machine.terminate()
    c, b = statistics.median(cloud), statistics.median(bare)
    print(f"launch: RunInstances to ssh {c:.2f} s (of {', '.join(f'{x:.2f}' for x in cloud)}); virsh create to ssh {b:.2f} s "
          f"(of {', '.join(f'{x:.2f}' for x in bare)}); ratio {c / b:.3f} (wanted: at most 1.15)")


def memory():
    time.sleep(5)
    total_rss = total_pss = 0
    for name in DAEMONS:
        rss, pss = resident_mib(daemon_pid(name))
        total_rss += rss
        total_pss += pss
        print(f"memory: karri-{name} {rss:.1f} MiB resident, {pss:.1f} proportional")
    print(f"memory: five daemons {total_rss:.1f} MiB resident, {total_pss:.1f} proportional (wanted: under 150)")


def calls(ec2, count=2000):
    import http.client
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    pid = daemon_pid("clc")
    host = urllib.parse.urlparse(RC["AWS_ENDPOINT_URL_EC2"]).netloc
    credentials = Credentials(RC["AWS_ACCESS_KEY_ID"], RC["AWS_SECRET_ACCESS_KEY"])
    body = "Action=DescribeInstances&Version=2016-11-15"

    def measure(label, requests):
        connection = http.client.HTTPConnection(host)
        for method, path, data, headers in requests[:100]:
            connection.request(method, path, data, headers)
            reply = connection.getresponse()
            text = reply.read()
            assert reply.status == 200, text[:500]
        before = cpu_seconds(pid)
        for method, path, data, headers in requests[100:]:
            connection.request(method, path, data, headers)
            connection.getresponse().read()
        used = cpu_seconds(pid) - before
        print(f"calls: {label}: {used / (len(requests) - 100) * 1e6:.0f} us of the Cloud Controller's CPU per call, {len(data or '')} bytes in")

    def signed(_):
        request = AWSRequest("POST", f"http://{host}/", data=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
        SigV4Auth(credentials, "ec2", "karri-1").add_auth(request)
        return "POST", "/", body, dict(request.headers)

    measure("DescribeInstances, Query with SigV4", [signed(i) for i in range(count + 100)])
    import test_1_clients
    from lxml import etree

    service = test_1_clients.soap("2010-08-31", "sha256")

    def envelope(_):
        # zeep makes and signs the message, as a client would; it is sent by us over one connection.
        built = service._client.create_message(service, "DescribeInstances", instancesSet={"item": []})
        return "POST", "/services/compute", etree.tostring(built), {"SOAPAction": '"DescribeInstances"', "Content-Type": "text/xml; charset=utf-8"}

    measure("DescribeInstances, SOAP with rsa-sha256", [envelope(i) for i in range(600)])


def download(ec2, s3, key, mib=256):
    folder = HOME / "benchmark"
    folder.mkdir(exist_ok=True)
    image = folder / "random.img"
    run("bash", "-c", f"cp {REPO}/.build/karri-image/root.img {image}; head -c {mib}M /dev/urandom >> {image}")
    run(REPO / "deploy/bundle-image", "--image", image, "--destination", folder, "--prefix", "random", "--kernel", IMAGES["KARRI_KERNEL"],
        "--ramdisk", IMAGES["KARRI_RAMDISK"], timeout=600)
    s3.create_bucket(Bucket="benchmark")
    for file in sorted(folder.glob("random.*")):
        if file != image:
            s3.upload_file(str(file), "benchmark", file.name)
    registered = ec2.register_image(Name="random", ImageLocation="benchmark/random.manifest.xml")["ImageId"]
    nc, walrus = daemon_pid("nc"), daemon_pid("walrus")
    before = cpu_seconds(nc), cpu_seconds(walrus), children_cpu(nc)
    started = time.monotonic()
    machine = Machine(ec2, key, image=registered)
    machine.running(limit=300)
    elapsed = time.monotonic() - started
    used = cpu_seconds(nc) - before[0] + children_cpu(nc) - before[2]
    size = image.stat().st_size / 1e6
    print(f"download: {size:.0f} MB unpacked on the node, {used:.2f} CPU s of karri-nc and its children ({size / used:.0f} MB per CPU s), "
          f"{elapsed:.1f} s from the call to running, Walrus {cpu_seconds(walrus) - before[1]:.2f} CPU s")
    machine.terminate()
    # The yardstick: the same parts, the same steps, by stock tools in a pipe.
    private = HOME / "keys/cloud.key"
    manifest = (folder / "random.manifest.xml").read_text()

    def unwrapped(element):
        text = re.search(rf"<{element}[^>]*>([0-9a-f]+)<", manifest)[1]
        return subprocess.run(["openssl", "pkeyutl", "-decrypt", "-inkey", private], input=bytes.fromhex(text), capture_output=True, check=True).stdout.decode()

    k, iv = unwrapped("ec2_encrypted_key"), unwrapped("ec2_encrypted_iv")
    script = (f"set -o pipefail; cat {folder}/random.part.* | openssl enc -d -aes-128-cbc -K {k} -iv {iv} | gzip -dc | tee >(sha1sum >/dev/null)"
              f" | tar -xSOf - > {folder}/out && sync {folder}/out && cmp {folder}/out {image}")
    started = time.monotonic()
    used_before = os.times()
    subprocess.run(["bash", "-c", script], check=True, stdout=subprocess.DEVNULL)
    used_after = os.times()
    children = used_after.children_user + used_after.children_system - used_before.children_user - used_before.children_system
    elapsed = time.monotonic() - started
    print(f"download: openssl enc -d | gzip -dc | sha1sum | tar of the same parts: {size / elapsed:.0f} MB/s, {children:.2f} CPU s "
          f"({size / children:.0f} MB per CPU s)")


def children_cpu(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[13]) + int(fields[14])) / TICK


def main():
    wanted = sys.argv[1:] or ["memory", "calls", "download", "launch"]
    ec2, s3 = client("ec2"), client("s3")
    folder = HOME / "benchmark"
    folder.mkdir(exist_ok=True)
    key = Key(ec2, "benchmark", folder)
    print(f"machine: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}")
    if "memory" in wanted:
        memory()
    if "calls" in wanted:
        calls(ec2)
    if "download" in wanted:
        download(ec2, s3, key)
    if "launch" in wanted:
        launch(ec2, key)


if __name__ == "__main__":
    until("cloud", 10, lambda: client("ec2").describe_regions())
    main()
