"""Tools that people keep their data with, each doing its real work on Walrus: rclone, restic, s3fs, Terraform's lock, curl."""

import concurrent.futures
import hashlib
import json
import os
import random
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from conftest import RC, client, run

# Some machines set a bundle of certificates for every AWS client, which rclone's transport refuses.
BARE = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
SEED = int(os.environ.get("KARRI_SEED", random.randrange(1 << 31)))


@pytest.fixture
def bucket(s3):
    name = f"tools-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    yield name
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=name):
        for item in page.get("Contents", []):
            s3.delete_object(Bucket=name, Key=item["Key"])
    s3.delete_bucket(Bucket=name)


def make_tree(folder, seed=SEED):
    """A small tree with the names and sizes that trip clients."""
    chance = random.Random(seed)
    print("seed", seed)
    for name in ["a.txt", "empty", "deep/er/file", "sp ace/plus+and%25.txt", "ünïcode/ß€.bin", "dot.d/.hidden", "quote'\"&<>.txt"]:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty" else chance.randbytes(chance.randrange(1, 70_000)))
    Path(folder, "big.bin").write_bytes(chance.randbytes(13 * 1024 * 1024 + 1))
    return folder


def digest(folder):
    root = Path(folder)
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*")) if p.is_file()}


def test_rclone(bucket, tmp_path):
    """Copies, compares by hash and by bytes, moves on the server, syncs a change, and purges."""
    env = {
        **BARE, "RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_W_TYPE": "s3", "RCLONE_CONFIG_W_PROVIDER": "Other", "RCLONE_CONFIG_W_ENDPOINT": RC["S3_URL"],
        "RCLONE_CONFIG_W_ACCESS_KEY_ID": RC["AWS_ACCESS_KEY_ID"], "RCLONE_CONFIG_W_SECRET_ACCESS_KEY": RC["AWS_SECRET_ACCESS_KEY"],
        "RCLONE_CONFIG_W_FORCE_PATH_STYLE": "true", "RCLONE_CONFIG_W_REGION": RC["AWS_DEFAULT_REGION"]}
    up = make_tree(tmp_path / "up")
    there = f"w:{bucket}/tree"
    run("rclone", "copy", "--s3-upload-cutoff", "6M", "--s3-chunk-size", "5M", up, there, env=env)
    run("rclone", "check", up, there, env=env)
    run("rclone", "check", "--download", up, there, env=env)
    (up / "a.txt").write_text("changed")
    (up / "empty").unlink()
    run("rclone", "sync", up, there, env=env)
    run("rclone", "check", "--download", up, there, env=env)
    run("rclone", "move", there, f"w:{bucket}/moved", env=env)
    run("rclone", "copy", f"w:{bucket}/moved", tmp_path / "down", env=env)
    assert digest(tmp_path / "down") == digest(up)
    assert json.loads(run("rclone", "lsjson", there, env=env, check=False).stdout or "[]") == []


def test_restic(bucket, tmp_path):
    """Backs up twice, checks all data, restores the older and the newer, forgets and prunes, checks again."""
    env = {
        **BARE, "RESTIC_REPOSITORY": f"s3:{RC['AWS_ENDPOINT_URL_S3'].rstrip('/')}/{bucket}/restic", "RESTIC_PASSWORD": "karri", "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
        "HOME": str(tmp_path)}
    up = make_tree(tmp_path / "up")
    run("restic", "init", "-q", env=env)
    run("restic", "backup", "-q", up, env=env)
    first = digest(up)
    (up / "a.txt").write_text("changed")
    shutil.rmtree(up / "deep")
    run("restic", "backup", "-q", up, env=env)
    run("restic", "check", "-q", "--read-data", env=env)
    snapshots = [s["id"] for s in json.loads(run("restic", "snapshots", "--json", env=env))]
    assert len(snapshots) == 2
    for snapshot, expected in zip(snapshots, [first, digest(up)]):
        target = tmp_path / f"restored-{snapshot[:8]}"
        run("restic", "restore", "-q", snapshot, "--target", target, env=env)
        assert digest(Path(str(target) + str(up))) == expected
    run("restic", "forget", "-q", "--keep-last", "1", "--prune", env=env)
    run("restic", "check", "-q", "--read-data", env=env)
    assert len(json.loads(run("restic", "snapshots", "--json", env=env))) == 1


def test_s3fs(bucket, tmp_path):
    """Mounted: files are written, appended, renamed, listed and removed as on a disk, and S3 clients see them."""
    if not Path("/dev/fuse").exists():
        pytest.skip("this machine has no FUSE")
    mount = tmp_path / "mount"
    mount.mkdir()
    passwords = tmp_path / "passwd"
    passwords.write_text(f"{RC['AWS_ACCESS_KEY_ID']}:{RC['AWS_SECRET_ACCESS_KEY']}")
    passwords.chmod(0o600)
    options = f"passwd_file={passwords},url={RC['AWS_ENDPOINT_URL_S3'].rstrip('/')},use_path_request_style,endpoint={RC['AWS_DEFAULT_REGION']}"
    run("s3fs", bucket, mount, "-o", options)
    try:
        tree = make_tree(mount / "tree")
        (mount / "tree/log").write_text("one\n")
        with open(mount / "tree/log", "a") as log:
            log.write("two\n")
        os.rename(mount / "tree/log", mount / "tree/log.old")
        os.chmod(mount / "tree/a.txt", 0o640)
        before = digest(tree)
        assert (mount / "tree/a.txt").stat().st_mode & 0o777 == 0o640
        os.unlink(mount / "tree/empty")
        assert not (mount / "tree/log").exists()
    finally:
        run("umount", mount)
    s3 = client("s3")
    assert s3.get_object(Bucket=bucket, Key="tree/log.old")["Body"].read() == b"one\ntwo\n"
    run("s3fs", bucket, mount, "-o", options)
    try:
        del before["empty"]
        assert digest(mount / "tree") == before
    finally:
        run("umount", mount)


def test_terraforms_lock(s3, bucket):
    """`use_lockfile`: who creates STATE.tflock with If-None-Match holds the lock; everybody else is told 412, and reads who it is."""
    lock, state = "env/terraform.tfstate.tflock", "env/terraform.tfstate"

    def attempt(who):
        try:
            client("s3").put_object(
                Bucket=bucket, Key=lock, Body=json.dumps({"ID": who}).encode(), ContentType="application/json", IfNoneMatch="*", ChecksumAlgorithm="SHA256")
            return who
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412), error
            return None

    for _ in range(3):
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            winners = [w for w in pool.map(attempt, [f"run-{n}" for n in range(12)]) if w]
        assert len(winners) == 1
        assert json.loads(s3.get_object(Bucket=bucket, Key=lock)["Body"].read())["ID"] == winners[0]
        s3.put_object(Bucket=bucket, Key=state, Body=b'{"version":4}', ContentType="application/json", ChecksumAlgorithm="SHA256")
        s3.delete_object(Bucket=bucket, Key=lock)
    assert json.loads(s3.get_object(Bucket=bucket, Key=state)["Body"].read()) == {"version": 4}


def test_curl_with_presigned_urls(s3, bucket, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(os.urandom(100_000))
    put = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "by curl.bin"}, ExpiresIn=300)
    assert run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-T", body, put) == "200"
    get = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "by curl.bin"}, ExpiresIn=300)
    run("curl", "-sf", "-o", tmp_path / "back", get)
    assert (tmp_path / "back").read_bytes() == body.read_bytes()
    assert run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", get.replace("by%20curl", "another")) == "403"
    assert subprocess.run(["curl", "-sf", "-r", "10-19", get], capture_output=True).stdout == body.read_bytes()[10:20]
