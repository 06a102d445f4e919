"""Kill -9 at chosen moments: all controllers at once, while a machine starts, while a volume is in use. `test_5_storm.py` kills at random ones."""

import os
import random
import signal
import time

import pytest
from conftest import IMAGES, ZONE, Machine, client, daemon_pid, karri, until

SEED = int(os.environ.get("KARRI_SEED", time.time()))


def kill(name):
    """Ends it as a power cut would, and waits until the kernel has taken it away."""
    pid = daemon_pid(name)
    os.kill(pid, signal.SIGKILL)
    until(f"{name} is gone", 10, lambda: not os.path.exists(f"/proc/{pid}") or "State:\tZ" in open(f"/proc/{pid}/status").read(), every=0.02)


def test_machine_lives_while_every_controller_is_down(machine):
    address = machine.address
    for name in ["clc", "cc", "nc", "sc", "walrus", "postgres"]:
        kill(name)
    machine.ssh_up(limit=20, address=address)
    assert machine.ssh("echo alive", address=address).strip() == "alive"
    karri("up", "--no-build")
    until("described again", 60, lambda: machine.state == "running")


def test_metadata_answers_while_the_cloud_controller_is_down(machine):
    address = machine.address
    kill("clc")
    assert machine.ssh("wget -q -O - http://169.254.169.254/latest/meta-data/instance-id", address=address) == machine.id
    karri("up", "--no-build")
    until("described again", 60, lambda: machine.state == "running")


@pytest.mark.parametrize("name", ["clc", "nc"])
def test_kill_while_starting(ec2, key, group, name):
    """The same client token gives the same instance, whenever the daemon died; it runs once; then it ends."""
    print("seed", SEED)
    chance = random.Random(f"{SEED}{name}")
    token = f"fault-{name}-{SEED}"
    arguments = dict(
        ImageId=IMAGES["KARRI_IMAGE"], InstanceType="t1.micro", MinCount=1, MaxCount=1, KeyName=key.name, SecurityGroups=[group], ClientToken=token)
    first = ec2.run_instances(**arguments)["Instances"][0]["InstanceId"]
    time.sleep(chance.random() * 3)
    kill(name)
    karri("up", "--no-build")
    again = until("the same instance", 60, lambda: ec2.run_instances(**arguments)["Instances"][0]["InstanceId"])
    assert again == first
    machine = Machine.__new__(Machine)
    machine.ec2, machine.key, machine.id = ec2, key, first
    machine.running(limit=180).ssh_up()
    found = [i for r in ec2.describe_instances(Filters=[{"Name": "client-token", "Values": [token]}])["Reservations"] for i in r["Instances"]]
    assert [i["InstanceId"] for i in found] == [first]
    ec2.terminate_instances(InstanceIds=[first])
    time.sleep(chance.random() * 2)
    kill(name)
    karri("up", "--no-build")
    until("terminated", 180, lambda: machine.state == "terminated")


@pytest.mark.parametrize("name", ["sc"])
def test_kill_while_attaching(ec2, machine, name):
    chance = random.Random(f"{SEED}{name}a")
    volume = ec2.create_volume(Size=1, AvailabilityZone=ZONE)["VolumeId"]
    until("available", 60, lambda: ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available")
    ec2.attach_volume(VolumeId=volume, InstanceId=machine.id, Device="/dev/vdd")
    time.sleep(chance.random())
    kill(name)
    karri("up", "--no-build")
    until("attached", 90, lambda: ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["Attachments"][0]["State"] == "attached")
    find = f"for d in /sys/block/vd*; do [ \"$(cat $d/serial)\" = {volume[:20]} ] && echo /dev/${{d##*/}}; done"
    address = machine.address
    device = until("in the guest", 30, lambda: machine.ssh(find).strip())
    machine.ssh(f"dd if=/dev/zero of={device} bs=1M count=4 conv=fsync 2>/dev/null")
    kill(name)
    machine.ssh(f"dd if=/dev/zero of={device} bs=1M count=4 conv=fsync 2>/dev/null", address=address)
    karri("up", "--no-build")
    until("detach accepted", 60, lambda: ec2.detach_volume(VolumeId=volume))
    until("available", 90, lambda: ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available")
    ec2.delete_volume(VolumeId=volume)


def test_up_again_changes_nothing(machine):
    before = {name: daemon_pid(name) for name in ["clc", "cc", "nc", "sc", "walrus", "postgres"]}
    karri("up", "--no-build")
    assert {name: daemon_pid(name) for name in before} == before
    assert machine.state == "running"


def test_status_is_one_screen():
    text = karri("status")
    assert len(text.splitlines()) < 25
    for word in ["Cloud Controller", "Walrus", "Cluster Controller", "Storage Controller", "Node Controller", "node1", "up"]:
        assert word in text
    assert client("ec2").describe_regions()
