"""The life of a machine on real parts: addresses, metadata, ssh, reboot, volumes, snapshots, shutdown, back to storage."""

import base64
import hashlib
import hmac
import json
import os
import subprocess
from datetime import datetime, timedelta, timezone

from conftest import HOME, IMAGES, RC, REPO, ZONE, Machine, error_code, run, terminate_all, until


def test_user_data_and_metadata(machine):
    assert machine.ssh("cat /root/user-data").strip() == "user data ran"
    described = machine.describe()
    base = "wget -q -O - http://169.254.169.254/latest/meta-data"
    assert machine.ssh(f"{base}/instance-id") == machine.id
    assert machine.ssh(f"{base}/public-ipv4") == described["PublicIpAddress"]
    assert machine.ssh(f"{base}/local-ipv4") == described["PrivateIpAddress"]
    assert machine.ssh(f"{base}/instance-type") == "t1.micro"
    assert '"instanceId"' in machine.ssh("wget -q -O - http://169.254.169.254/latest/dynamic/instance-identity/document")


def test_metadata_version_2(machine):
    """A token by PUT (busybox has no PUT: by nc), then a GET with it; a wrong token is refused."""
    script = (
        "t=$(printf 'PUT /latest/api/token HTTP/1.1\\r\\nHost: x\\r\\nX-aws-ec2-metadata-token-ttl-seconds: 60\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n'"
        " | nc 169.254.169.254 80 | tr -d '\\r' | sed '1,/^$/d');"
        " wget -q -O - --header \"X-aws-ec2-metadata-token: $t\" http://169.254.169.254/latest/meta-data/instance-id;"
        " wget -q -O - --header 'X-aws-ec2-metadata-token: wrong' http://169.254.169.254/latest/meta-data/instance-id || echo refused")
    assert machine.ssh(script).strip() == f"{machine.id}refused"


def test_console_output(ec2, machine):
    text = until("the boot in the console", 30, lambda: ec2.get_console_output(InstanceId=machine.id)["Output"])
    assert "Linux version" in text and "ssh up" in text


def test_new_group_lets_nothing_in(ec2, key, machine):
    group = ec2.create_security_group(GroupName="closed", Description="lets nothing in")["GroupId"]
    closed = Machine(ec2, key, groups=["closed"]).running()
    try:
        until("console says ssh up", 120, lambda: "ssh up" in ec2.get_console_output(InstanceId=closed.id).get("Output", ""), every=1)
        assert closed.ssh("true", check=False).returncode == 255
        # From a neighbour neither, until the rule is there; then yes; then, revoked, no more.
        private = closed.describe()["PrivateIpAddress"]
        probe = f"nc -w 3 {private} 22 </dev/null | head -c 3"
        assert machine.ssh(probe, check=False).stdout == ""
        ec2.authorize_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0")
        until("the opened port", 30, lambda: machine.ssh(probe, check=False).stdout == "SSH")
        closed.ssh_up(limit=30)
        ec2.revoke_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0")
        # A connection that was let in just before hangs: ssh is given up sooner than the whole wait.
        until("the closed port", 40, lambda: closed.ssh("true", check=False, timeout=8).returncode == 255)
    finally:
        closed.terminate()
    until("the group can go", 30, lambda: ec2.delete_security_group(GroupId=group))


def test_elastic_address_associates_and_moves(ec2, machine):
    public = machine.address
    elastic = ec2.allocate_address()["PublicIp"]
    ec2.associate_address(InstanceId=machine.id, PublicIp=elastic)
    machine.ssh_up(limit=30, address=elastic)
    until("described", 20, lambda: machine.address == elastic)
    ec2.disassociate_address(PublicIp=elastic)
    until("a public address again", 30, lambda: machine.address not in (None, elastic))
    machine.ssh_up(limit=30)
    until("the old address is silent", 40, lambda: machine.ssh("true", address=elastic, check=False, timeout=8).returncode == 255)
    ec2.release_address(PublicIp=elastic)
    assert error_code(ec2.release_address, PublicIp=elastic)[0] in ("InvalidAddress.NotFound", "AuthFailure")
    assert public


def test_spoofed_source_is_dropped(machine):
    """A guest that takes another address is cut off and comes back with its own."""
    script = (
        "a=$(ip -4 -o addr show eth0 | awk '{print $4}'); g=$(ip route | awk '/default/{print $3}');"
        " ip addr add 10.119.0.250/32 dev eth0; ping -c 2 -W 1 -I 10.119.0.250 $g >/dev/null 2>&1; echo spoofed=$?;"
        " ip addr del 10.119.0.250/32 dev eth0; ping -c 1 -W 2 $g >/dev/null 2>&1; echo own=$?")
    assert machine.ssh(script).split() == ["spoofed=1", "own=0"]


def test_reboot_keeps_disk_and_addresses(ec2, machine):
    machine.ssh("echo kept > /root/kept; sync")
    before = (machine.address, machine.describe()["PrivateIpAddress"])
    boot = machine.ssh("cat /proc/sys/kernel/random/boot_id")
    ec2.reboot_instances(InstanceIds=[machine.id])
    until("another boot", 120, lambda: machine.ssh("cat /proc/sys/kernel/random/boot_id", check=False).stdout not in ("", boot), every=1)
    assert machine.ssh("cat /root/kept").strip() == "kept"
    assert (machine.address, machine.describe()["PrivateIpAddress"]) == before


def test_volume_and_snapshot(ec2, machine):
    volume = ec2.create_volume(Size=1, AvailabilityZone=ZONE)["VolumeId"]
    ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig={"Delay": 1})
    ec2.attach_volume(VolumeId=volume, InstanceId=machine.id, Device="/dev/vdb")
    ec2.get_waiter("volume_in_use").wait(VolumeIds=[volume], WaiterConfig={"Delay": 1})
    until("attached", 30, lambda: ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["Attachments"][0]["State"] == "attached")
    assert error_code(ec2.delete_volume, VolumeId=volume)[0] == "VolumeInUse"
    find = "for d in /sys/block/vd*; do [ \"$(cat $d/serial)\" = %s ] && echo /dev/${d##*/}; done"
    device = until("the disk in the guest", 20, lambda: machine.ssh(find % volume[:20]).strip())
    machine.ssh(f"mkfs.ext4 -q {device} && mount {device} /mnt && echo on the volume > /mnt/file && umount /mnt && sync")
    ec2.detach_volume(VolumeId=volume)
    ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig={"Delay": 1})
    assert machine.ssh(find % volume[:20], check=False).stdout.strip() == ""
    snapshot = ec2.create_snapshot(VolumeId=volume, Description="it")["SnapshotId"]
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig={"Delay": 1})
    copy = ec2.create_volume(SnapshotId=snapshot, AvailabilityZone=ZONE)["VolumeId"]
    ec2.get_waiter("volume_available").wait(VolumeIds=[copy], WaiterConfig={"Delay": 1})
    ec2.attach_volume(VolumeId=copy, InstanceId=machine.id, Device="/dev/vdc")
    device = until("the copy in the guest", 40, lambda: machine.ssh(find % copy[:20]).strip())
    assert machine.ssh(f"mount {device} /mnt && cat /mnt/file && umount /mnt").strip() == "on the volume"
    ec2.detach_volume(VolumeId=copy)
    ec2.get_waiter("volume_available").wait(VolumeIds=[copy], WaiterConfig={"Delay": 1})
    for v in (volume, copy):
        ec2.delete_volume(VolumeId=v)
    ec2.delete_snapshot(SnapshotId=snapshot)
    ec2.get_waiter("volume_deleted").wait(VolumeIds=[volume, copy], WaiterConfig={"Delay": 1})
    assert error_code(ec2.describe_snapshots, SnapshotIds=[snapshot])[0] == "InvalidSnapshot.NotFound"


def test_full_disk_image_boots_stops_and_starts(ec2, key, group):
    machine = Machine(ec2, key, image=IMAGES["KARRI_DISK_IMAGE"], groups=[group]).running().ssh_up(limit=200)
    try:
        assert "/dev/vda1" in machine.ssh("mount | head -1; cat /proc/cmdline")
        machine.ssh("echo still here > /root/file; sync")
        ec2.stop_instances(InstanceIds=[machine.id])
        ec2.get_waiter("instance_stopped").wait(InstanceIds=[machine.id], WaiterConfig={"Delay": 1, "MaxAttempts": 120})
        ec2.start_instances(InstanceIds=[machine.id])
        machine.running().ssh_up(limit=200)
        assert machine.ssh("cat /root/file").strip() == "still here"
    finally:
        machine.terminate()


def upload_storage(bucket, prefix):
    """Storage of BundleInstance with an upload policy, signed as the EC2 tools sign it: HMAC-SHA1 over the policy in base64."""
    expires = (datetime.now(timezone.utc) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    policy = json.dumps({
        "expiration": expires, "conditions": [{"bucket": bucket}, {"acl": "ec2-bundle-read"}, ["starts-with", "$key", prefix]]}).encode()
    mac = hmac.new(RC["AWS_SECRET_ACCESS_KEY"].encode(), base64.b64encode(policy), hashlib.sha1)
    return {"S3": {
        "Bucket": bucket, "Prefix": prefix, "AWSAccessKeyId": RC["AWS_ACCESS_KEY_ID"], "UploadPolicy": policy,
        "UploadPolicySignature": base64.b64encode(mac.digest()).decode()}}


def test_bundles_on_request_and_at_shutdown(ec2, s3, key, group):
    """The disk of one machine goes to storage three ways: bundled on request, on request but cancelled, and because it shut down."""
    bucket = f"it-saved-{os.getpid()}"
    s3.create_bucket(Bucket=bucket)
    machine = Machine(
        ec2, key, groups=[group],
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "karri:save-on-shutdown", "Value": f"{bucket}/first"}]}]).running().ssh_up()

    def task(bundle):
        return ec2.describe_bundle_tasks(BundleIds=[bundle])["BundleTasks"][0]

    def stored(prefix):
        return [item["Key"] for item in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]

    def image_of(prefix):
        return [i for i in ec2.describe_images(Owners=["self"])["Images"] if i["ImageLocation"].startswith(f"{bucket}/{prefix}")]

    # Cancelled in the middle: the task says so, the bucket and the images are as they were, and the machine can be bundled again at once.
    cancelled = ec2.bundle_instance(InstanceId=machine.id, Storage=upload_storage(bucket, "cancelled"))["BundleTask"]["BundleId"]
    assert error_code(ec2.bundle_instance, InstanceId=machine.id, Storage=upload_storage(bucket, "second"))[0] == "BundlingInProgress"
    until("under way", 30, lambda: task(cancelled)["State"] in ("bundling", "storing"), every=0.05)
    assert ec2.cancel_bundle_task(BundleId=cancelled)["BundleTask"]["State"] in ("cancelling", "failed")
    ended = until("cancelled", 60, lambda: (t := task(cancelled))["State"] == "failed" and t)
    assert ended["BundleTaskError"]["Code"] == "Client.Cancelled" and ended["InstanceId"] == machine.id
    assert stored("cancelled") == [] and image_of("cancelled") == []
    assert error_code(ec2.cancel_bundle_task, BundleId=cancelled)[1] == 400

    machine.ssh("echo it lives on > /root/file; sync")
    asked = ec2.bundle_instance(InstanceId=machine.id, Storage=upload_storage(bucket, "asked"))["BundleTask"]["BundleId"]
    until("bundled", 120, lambda: task(asked)["State"] == "complete")
    assert task(asked)["Progress"] == "100%" and machine.state == "running"
    assert "asked.manifest.xml" in stored("asked") and len(stored("asked")) >= 2
    # It is registered already; its manifest registers like any other too.
    assert [i["KernelId"] for i in image_of("asked")] == [IMAGES["KARRI_KERNEL"]]
    ec2.deregister_image(ImageId=image_of("asked")[0]["ImageId"])
    registered = ec2.register_image(Name="asked", ImageLocation=f"{bucket}/asked.manifest.xml")["ImageId"]

    machine.ssh("echo it lives on still > /root/file; sync")
    machine.ssh("poweroff", check=False)
    until("terminated", 180, lambda: machine.state == "terminated")
    saved = image_of("first")
    assert len(saved) == 1 and saved[0]["KernelId"] == IMAGES["KARRI_KERNEL"]
    # The two images' machines boot at the same time.
    copies = [(Machine(ec2, key, image=image, groups=[group]), text) for image, text in
              [(registered, "it lives on"), (saved[0]["ImageId"], "it lives on still")]]
    try:
        for again, text in copies:
            assert again.running().ssh_up().ssh("cat /root/file").strip() == text
    finally:
        terminate_all([again for again, _ in copies])
    for image in (registered, saved[0]["ImageId"]):
        ec2.deregister_image(ImageId=image)


def test_bundle_written_by_hand_is_refused_when_broken(ec2, s3, tmp_path):
    image = tmp_path / "image"
    image.write_bytes(b"\0" * (4 << 20))
    run(REPO / "deploy/bundle-image", "--image", image, "--destination", tmp_path / "b", "--prefix", "broken")
    s3.create_bucket(Bucket="it-broken")
    manifest = (tmp_path / "b/broken.manifest.xml").read_text()
    part = (tmp_path / "b/broken.part.000").read_bytes()

    def register(text, body):
        s3.put_object(Bucket="it-broken", Key="m.xml", Body=text.encode())
        if body is None:
            s3.delete_object(Bucket="it-broken", Key="broken.part.000")
        else:
            s3.put_object(Bucket="it-broken", Key="broken.part.000", Body=body)
        return error_code(ec2.register_image, Name="broken", ImageLocation="it-broken/m.xml")

    assert register(manifest, None)[1] == 400
    assert register(manifest, part[:-16])[1] == 400
    assert register(manifest, part[:-1] + bytes([part[-1] ^ 1]))[1] == 400
    assert register(manifest.replace("<architecture>x86_64", "<architecture>i386"), part)[1] == 400
    assert register("<manifest>", part)[1] == 400
    assert not [i for i in ec2.describe_images(Owners=["self"])["Images"] if i["ImageLocation"].startswith("it-broken")]


def test_client_token_and_counts(ec2, key, group):
    arguments = dict(ImageId=IMAGES["KARRI_IMAGE"], InstanceType="t1.micro", MinCount=2, MaxCount=2, KeyName=key.name, ClientToken=f"twice-{os.getpid()}")
    first = [i["InstanceId"] for i in ec2.run_instances(**arguments)["Instances"]]
    again = [i["InstanceId"] for i in ec2.run_instances(**arguments)["Instances"]]
    assert len(first) == 2 and sorted(first) == sorted(again)
    assert error_code(ec2.run_instances, **{**arguments, "MaxCount": 1, "MinCount": 1})[0] == "IdempotentParameterMismatch"
    ec2.terminate_instances(InstanceIds=first)
    ec2.get_waiter("instance_terminated").wait(InstanceIds=first, WaiterConfig={"Delay": 1, "MaxAttempts": 120})


def test_nothing_is_left_behind(ec2, machine):
    """After the tests above only the shared machine has a domain, a disk and addresses."""
    uri = run("bash", "-c", f". {REPO}/deploy/lib/common.sh; . {REPO}/deploy/lib/servers.sh; libvirt_uri")
    until("one domain", 30, lambda: run("virsh", "-c", uri, "list", "--all", "--name").split() == [machine.id])
    taps = run("bash", "-c", "ls /sys/class/net/karri0/brif").split()
    assert len(taps) == 1
    assert subprocess.run(["pgrep", "-f", f"qemu-storage-daemon.*{HOME}"], capture_output=True).returncode == 1
