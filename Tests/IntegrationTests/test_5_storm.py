"""A storm: machines start, stop, reboot and end, volumes attach and detach, while each daemon and PostgreSQL are killed with -9 again and
again at random instants. Afterwards nothing is lost, doubled or leaked, and a machine that ran all the time has not noticed."""

import os
import random
import subprocess
import threading
import time
import uuid

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from conftest import HOME, IMAGES, REPO, ZONE, client, environment_of, karri, run, until
from test_5_faults import SEED, kill

SECONDS = int(os.environ.get("KARRI_STORM_SECONDS", 45))
NAMES = ["clc", "cc", "nc", "sc", "walrus", "postgres"]


class Refused(Exception):
    """An answer that no waiting mends: a finding."""


class Worker(threading.Thread):
    """A client that does one thing after another and insists: what fails because somebody is down is repeated, as an SDK does."""

    def __init__(self, seed, until_time):
        super().__init__(daemon=True)
        self.random, self.until_time, self.ec2, self.error, self.done = random.Random(seed), until_time, client("ec2"), None, 0

    def insist(self, call, tolerate=(), limit=120, **arguments):
        deadline = time.monotonic() + limit
        while True:
            try:
                return call(**arguments)
            except BotoCoreError as error:  # nobody listens, or the answer was lost
                reason = error
            except ClientError as error:
                reason = error.response["Error"]["Code"]
                if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500 and reason not in tolerate:
                    raise Refused(f"{call.__name__} {arguments}: {error}")
            if time.monotonic() > deadline:
                raise Refused(f"{call.__name__} {arguments}: not within {limit} s: {reason}")
            time.sleep(0.2)

    def wait(self, what, probe, limit=150):
        until(what, limit, probe)

    def run(self):
        try:
            while time.monotonic() < self.until_time:
                self.once()
                self.done += 1
        except Exception as error:
            self.error = error


class Lives(Worker):
    """One instance after the other, each a random piece of a machine's life."""

    def __init__(self, *arguments, key, group):
        super().__init__(*arguments)
        self.key, self.group, self.tokens = key, group, {}

    def state(self, id):
        found = self.insist(self.ec2.describe_instances, InstanceIds=[id])["Reservations"][0]["Instances"][0]
        return found["State"]["Name"]

    def once(self):
        token = uuid.UUID(int=self.random.getrandbits(128)).hex
        arguments = dict(
            ImageId=IMAGES["KARRI_IMAGE"], InstanceType="t1.micro", MinCount=1, MaxCount=1, KeyName=self.key, SecurityGroups=[self.group], ClientToken=token)
        id = self.insist(self.ec2.run_instances, **arguments)["Instances"][0]["InstanceId"]
        again = self.insist(self.ec2.run_instances, **arguments)["Instances"][0]["InstanceId"]
        if id != again:
            raise Refused(f"{token} made {id} and {again}")
        self.tokens[token] = id
        plan = self.random.choice(["end", "run", "run", "stop", "reboot"])
        if plan == "end":
            time.sleep(self.random.random() * 3)
        else:
            self.wait(f"{id} running", lambda: self.state(id) == "running")
        if plan == "stop":
            self.insist(self.ec2.stop_instances, InstanceIds=[id], Force=True)
            self.wait(f"{id} stopped", lambda: self.state(id) == "stopped")
            self.insist(self.ec2.start_instances, InstanceIds=[id])
            time.sleep(self.random.random() * 2)
        if plan == "reboot":
            self.insist(self.ec2.reboot_instances, InstanceIds=[id])
        self.insist(self.ec2.terminate_instances, InstanceIds=[id])
        self.wait(f"{id} terminated", lambda: self.state(id) == "terminated")


class Volumes(Worker):
    """One volume after the other on the machine that runs all the time."""

    def __init__(self, *arguments, machine):
        super().__init__(*arguments)
        self.machine, self.device = machine, 0

    def volume(self, id):
        return self.insist(self.ec2.describe_volumes, VolumeIds=[id])["Volumes"][0]

    def once(self):
        token = uuid.UUID(int=self.random.getrandbits(128)).hex
        self.device = (self.device + 1) % 8
        id = self.insist(self.ec2.create_volume, Size=1, AvailabilityZone=ZONE, ClientToken=token)["VolumeId"]
        if self.insist(self.ec2.create_volume, Size=1, AvailabilityZone=ZONE, ClientToken=token)["VolumeId"] != id:
            raise Refused(f"{token} made two volumes")
        self.wait(f"{id} available", lambda: self.volume(id)["State"] == "available")
        self.insist(
            self.ec2.attach_volume, VolumeId=id, InstanceId=self.machine.id, Device=f"/dev/vd{chr(ord('h') + self.device)}", tolerate=("VolumeInUse",))
        if self.random.random() < 0.7:
            self.wait(f"{id} attached", lambda: self.volume(id)["Attachments"][0]["State"] == "attached")
        if self.volume(id)["State"] == "in-use":
            self.insist(self.ec2.detach_volume, VolumeId=id, tolerate=("IncorrectState",))
        self.wait(f"{id} available", lambda: self.volume(id)["State"] == "available")
        self.insist(self.ec2.delete_volume, VolumeId=id, tolerate=("VolumeInUse",))


def left_on_the_node():
    """What one node holds: domains, taps, disks, volumes, exports."""
    settings = dict(line.split(" = ", 1) for line in (HOME / "config/nc.conf").read_text().splitlines() if " = " in line)
    domains = run("virsh", "-q", "-c", settings["libvirt_uri"], "list", "--all", "--name").split()
    taps = [line.split()[0] for line in run("ip", "-br", "link").splitlines() if line.startswith("kn")]
    disks = sorted(p.name for p in (HOME / "node/instances").iterdir())
    volumes = sorted(p.name for p in (HOME / "storage/volumes").iterdir())
    exports = subprocess.run(["pgrep", "-fa", f"qemu-storage-daemon.*{HOME}"], capture_output=True, text=True).stdout.split("\n")
    return {"domains": len(domains), "taps": len(taps), "disks": disks, "volumes": volumes, "exports": [e for e in exports if e]}


def test_a_storm(ec2, machine, key, group):
    print("seed", SEED, "seconds", SECONDS)
    boot = machine.ssh("cat /proc/sys/kernel/random/boot_id").strip()
    address = machine.address
    until("nothing of the tests before", 60, lambda: left_on_the_node()["volumes"] == [] and left_on_the_node()["disks"] == [machine.id])
    end = time.monotonic() + SECONDS
    chance = random.Random(SEED)
    workers = [Lives(f"{SEED}a", end, key=key.name, group=group), Lives(f"{SEED}b", end, key=key.name, group=group), Volumes(f"{SEED}c", end, machine=machine)]
    for worker in workers:
        worker.start()
    kills, round = [], []
    while time.monotonic() < end:
        time.sleep(chance.random() * 3)
        for _ in range(chance.choice([1, 1, 1, 2])):
            round = round or chance.sample(NAMES, len(NAMES))  # each of them in turn, in another order each time
            kill(round[-1])
            kills.append(round.pop())
        karri("up", "--no-build")
    print("kills", kills)
    for worker in workers:
        worker.join(300)
        assert not worker.is_alive() and worker.error is None, worker.error
    print("done", [worker.done for worker in workers])
    assert all(worker.done for worker in workers)
    for worker in workers[:2]:
        for token, id in worker.tokens.items():
            found = [i["InstanceId"] for r in ec2.describe_instances(Filters=[{"Name": "client-token", "Values": [token]}])["Reservations"] for i in r["Instances"]]
            assert found == [id]
    assert machine.ssh("cat /proc/sys/kernel/random/boot_id", address=address).strip() == boot
    until(
        "nothing left behind", 60,
        lambda: left_on_the_node() == {"domains": 1, "taps": 1, "disks": [machine.id], "volumes": [], "exports": []} or print(left_on_the_node()))
    assert [a["PublicIp"] for a in ec2.describe_addresses()["Addresses"]] == []
