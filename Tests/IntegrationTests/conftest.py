"""Fixtures of the integration ring: clients of the cloud that `run` brought up, and one running machine shared by the tests that use it."""

import os
import subprocess
import time
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

REPO = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("KARRI_HOME", REPO / ".cloud"))
ZONE = "karri-1a"


def environment_of(path):
    """The exported variables of a shell file."""
    text = subprocess.run(["bash", "-c", f"set -a; . {path}; env -0"], capture_output=True, check=True, env={"PATH": os.environ["PATH"]}).stdout
    return dict(item.split("=", 1) for item in text.decode().split("\0") if "=" in item)


RC = environment_of(HOME / "admin/eucarc")
IMAGES = environment_of(HOME / "admin/images.env")
os.environ.update({k: v for k, v in RC.items() if k.startswith(("AWS_", "EC2_", "S3_", "EUCA", "EUARE", "TOKEN"))})
os.environ.update(AWS_CONFIG_FILE="/dev/null", AWS_SHARED_CREDENTIALS_FILE="/dev/null", AWS_PAGER="", AWS_EC2_METADATA_DISABLED="true")


def client(service, **options):
    config = options.pop("config", Config(retries={"max_attempts": 1, "mode": "standard"}, read_timeout=90))
    return boto3.client(service, config=config, **options)


@pytest.fixture(scope="session")
def ec2():
    return client("ec2")


@pytest.fixture(scope="session")
def s3():
    return client("s3", config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1, "mode": "standard"}))


def run(*command, check=True, timeout=120, **options):
    """Runs a stock client; its output as text."""
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout, **options)
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}\n{result.stdout}\n{result.stderr}")
    return result.stdout if check else result


def karri(*arguments, timeout=180):
    return run(REPO / "deploy/karri", *arguments, timeout=timeout)


def until(what, limit, probe, every=0.25):
    """Polls until probe() is truthy and returns it; fails with what it last saw."""
    deadline = time.monotonic() + limit
    seen = None
    while time.monotonic() < deadline:
        try:
            seen = probe()
            if seen:
                return seen
        except Exception as error:  # the probe says why; the last reason is shown
            seen = error
        time.sleep(every)
    raise AssertionError(f"{what}: not within {limit} s; last seen: {seen!r}")


class Machine:
    """A running instance with ssh."""

    def __init__(self, ec2, key, image=None, groups=None, **options):
        self.ec2, self.key = ec2, key
        arguments = dict(ImageId=image or IMAGES["KARRI_IMAGE"], InstanceType="t1.micro", MinCount=1, MaxCount=1, KeyName=key.name)
        if groups:
            arguments["SecurityGroups"] = groups
        arguments.update(options)
        self.id = ec2.run_instances(**arguments)["Instances"][0]["InstanceId"]

    def describe(self):
        return self.ec2.describe_instances(InstanceIds=[self.id])["Reservations"][0]["Instances"][0]

    @property
    def state(self):
        return self.describe()["State"]["Name"]

    @property
    def address(self):
        return self.describe().get("PublicIpAddress")

    def running(self, limit=120):
        until(f"{self.id} running", limit, lambda: self.state == "running")
        return self

    def ssh(self, command, address=None, check=True, timeout=30):
        return run(
            "ssh", "-n", "-i", self.key.path, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
            "-o", "ConnectTimeout=4", f"root@{address or self.address}", command, check=check, timeout=timeout)

    def ssh_up(self, limit=150, address=None):
        address = address or self.address
        until(f"ssh to {self.id} at {address}", limit, lambda: self.ssh("true", address=address, check=False, timeout=15).returncode == 0, every=0.5)
        return self

    def terminate(self, limit=150):
        self.ec2.terminate_instances(InstanceIds=[self.id])
        until(f"{self.id} terminated", limit, lambda: self.state == "terminated")


def terminate_all(machines, limit=150):
    """Ends machines at the same time."""
    machines[0].ec2.terminate_instances(InstanceIds=[machine.id for machine in machines])
    for machine in machines:
        until(f"{machine.id} terminated", limit, lambda: machine.state == "terminated")


class Key:
    def __init__(self, ec2, name, folder):
        self.name = name
        self.path = Path(folder) / f"{name}.pem"
        material = ec2.create_key_pair(KeyName=name)["KeyMaterial"]
        self.path.write_text(material)
        self.path.chmod(0o600)


@pytest.fixture(scope="session")
def key(ec2, tmp_path_factory):
    key = Key(ec2, f"integration-{os.getpid()}", tmp_path_factory.mktemp("keys"))
    yield key
    ec2.delete_key_pair(KeyName=key.name)


@pytest.fixture(scope="session")
def group(ec2):
    name = f"integration-{os.getpid()}"
    ec2.create_security_group(GroupName=name, Description="ssh")
    ec2.authorize_security_group_ingress(GroupName=name, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0")
    yield name
    until(f"{name} deleted", 30, lambda: ec2.delete_security_group(GroupName=name))


@pytest.fixture(scope="session")
def machine(ec2, key, group):
    """One machine for the tests that only use one."""
    machine = Machine(ec2, key, groups=[group], UserData="#!/bin/sh\necho user data ran > /root/user-data\n").running().ssh_up()
    yield machine
    machine.terminate()


def daemon_pid(name):
    run_dir = run("bash", "-c", f". {REPO}/deploy/lib/common.sh; echo $RUN_DIR", env={**os.environ, "KARRI_HOME": str(HOME)}).strip()
    return int(Path(run_dir, f"{name}.pid").read_text().split()[0])


def error_code(call, **arguments):
    """The code and HTTP status of the error that a call must end in."""
    from botocore.exceptions import ClientError

    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]
