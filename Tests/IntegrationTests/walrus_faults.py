"""Walrus under faults, on a real process and a real PostgreSQL: kill -9 of either under load, a full disk, TLS with trailers, deletes during
reads. `python3 walrus_faults.py [part of a name ...]`. Ends with code 1 when a test failed.

The promise that the kill tests check: what was answered with 200 is there, whole; what was answered with an error, or not at all, is there whole or
not at all; and after the collector's period there is not one byte without an owner.
"""

import concurrent.futures
import hashlib
import os
import random
import subprocess
import sys
import threading
import time
import traceback

from botocore.exceptions import BotoCoreError, ClientError

from walrus_server import Walrus

ROUNDS = int(os.environ.get("KARRI_ROUNDS", "6"))


class Load:
    """Writers that each own some keys and remember what they were told."""

    def __init__(self, w, bucket, writers=6):
        self.w, self.bucket, self.stop = w, bucket, False
        # key -> (digest or None that is certain, digests that are possible as well)
        self.state = {f"{i}/{n}": [None, set()] for i in range(writers) for n in range(4)}
        self.writers, self.acknowledged, self.lock = writers, 0, threading.Lock()

    def run(self, i):
        rng = random.Random(i * 1000 + time.time_ns())
        c = self.w.client(connect_timeout=2, read_timeout=5)
        while not self.stop:
            key = f"{i}/{rng.randrange(4)}"
            certain, possible = self.state[key]
            action = rng.random()
            data = rng.randbytes(rng.choice((100, 16000, 17000, 300000)))
            digest = hashlib.md5(data).hexdigest()
            try:
                if action < 0.15:
                    possible.add(None)
                    c.delete_object(Bucket=self.bucket, Key=key)
                    digest = None
                elif action < 0.25:
                    data = rng.randbytes(5 << 20) + data
                    digest = hashlib.md5(data).hexdigest()
                    possible.add(digest)
                    u = c.create_multipart_upload(Bucket=self.bucket, Key=key)["UploadId"]
                    parts = [{"PartNumber": n, "ETag": c.upload_part(Bucket=self.bucket, Key=key, UploadId=u, PartNumber=n, Body=piece)["ETag"]}
                             for n, piece in ((1, data[:5 << 20]), (2, data[5 << 20:]))]
                    c.complete_multipart_upload(Bucket=self.bucket, Key=key, UploadId=u, MultipartUpload={"Parts": parts})
                else:
                    possible.add(digest)
                    c.put_object(Bucket=self.bucket, Key=key, Body=data)
                self.state[key] = [digest, set()]
                with self.lock:
                    self.acknowledged += 1
            except (ClientError, BotoCoreError, OSError):
                time.sleep(0.02)

    def check(self):
        c = self.w.client()
        for key, (certain, possible) in self.state.items():
            try:
                got = hashlib.md5(c.get_object(Bucket=self.bucket, Key=key)["Body"].read()).hexdigest()
            except ClientError as e:
                assert e.response["Error"]["Code"] == "NoSuchKey", e
                got = None
            assert got == certain or got in possible, f"{key}: {got} is neither {certain} nor one of {possible}"
            self.state[key] = [got, set()]


def kills(victim):
    with Walrus() as w:
        w.client().create_bucket(Bucket="load")
        load = Load(w, "load")
        with concurrent.futures.ThreadPoolExecutor(load.writers) as pool:
            jobs = [pool.submit(load.run, i) for i in range(load.writers)]
            try:
                for n in range(ROUNDS):
                    time.sleep(random.uniform(0.4, 1.5))
                    if victim == "walrus":
                        w.kill()
                        w.start()
                    else:
                        subprocess.run(["kill", "-9", str(w.postgres.process.pid)])
                        w.postgres.process.wait()
                        time.sleep(0.2)
                        w.postgres.start()
            finally:
                load.stop = True
            for j in jobs:
                j.result()
        load.check()
        code, text = w.fsck()
        assert code == 0, text
        summary = text.strip().splitlines()[-1]
        print(f"  {load.acknowledged} writes acknowledged over {ROUNDS} kills; {summary}")
        assert load.acknowledged > 20


def walrus_killed():
    kills("walrus")


def postgres_killed():
    kills("postgres")


def full_disk():
    """Uploads are refused by name and number while reads and deletes go on; space given back is used again."""
    with Walrus() as w:
        c = w.client()
        c.create_bucket(Bucket="full")
        c.put_object(Bucket="full", Key="before", Body=b"x" * 100000)
        free = os.statvfs(w.folder)
        need = (free.f_bavail * free.f_frsize >> 20) - 20
        original = open(w.config).read()
        w.process.terminate()
        w.process.wait()
        open(w.config, "w").write(original.replace("min_free_mib = 64", f"min_free_mib = {need}"))
        w.start()
        try:
            c.put_object(Bucket="full", Key="big", Body=b"y" * (60 << 20))
            raise AssertionError("accepted")
        except ClientError as e:
            assert e.response["ResponseMetadata"]["HTTPStatusCode"] == 507 and e.response["Error"]["Code"] == "InsufficientStorage", e
            assert str(60 << 20) in e.response["Error"]["Message"], e
            print("  " + e.response["Error"]["Message"])
        assert c.get_object(Bucket="full", Key="before")["Body"].read() == b"x" * 100000
        c.delete_object(Bucket="full", Key="before")
        w.process.terminate()
        w.process.wait()
        open(w.config, "w").write(original)
        w.start()
        c.put_object(Bucket="full", Key="big", Body=b"y" * (60 << 20))
        assert w.fsck()[0] == 0


def tls():
    """Over TLS SDKs send unsigned trailers; bodies go by pread instead of sendfile."""
    with Walrus(tls=True) as w:
        import io

        import boto3
        from boto3.s3.transfer import TransferConfig
        from botocore.config import Config
        c = boto3.client("s3", endpoint_url=w.endpoint, aws_access_key_id=w.alice.access, aws_secret_access_key=w.alice.secret, region_name="karri-1",
                         verify=w.certificate, config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}))
        c.create_bucket(Bucket="tls")
        for size in (0, 5, 16385, 3 << 20):
            data = os.urandom(size)
            r = c.put_object(Bucket="tls", Key=f"k{size}", Body=io.BytesIO(data))
            assert r["ETag"] == f'"{hashlib.md5(data).hexdigest()}"' and r["ChecksumCRC32"]
            assert c.get_object(Bucket="tls", Key=f"k{size}")["Body"].read() == data
        data = os.urandom(17 << 20)
        for a in ("CRC32", "SHA256"):
            c.upload_fileobj(io.BytesIO(data), "tls", "mp", ExtraArgs={"ChecksumAlgorithm": a},
                             Config=TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20))
            assert c.get_object(Bucket="tls", Key="mp")["Body"].read() == data
        env = dict(w.environment(), AWS_CA_BUNDLE=w.certificate)
        subprocess.run(["aws", "s3", "cp", "--quiet", "/proc/self/exe", "s3://tls/exe"], env=env, check=True)
        url = c.generate_presigned_url("get_object", Params={"Bucket": "tls", "Key": "mp"})
        assert hashlib.md5(subprocess.run(["curl", "-sS", "--cacert", w.certificate, url], capture_output=True, check=True).stdout).digest() == hashlib.md5(data).digest()
        assert w.fsck()[0] == 0


def delete_during_read():
    """A reader of an object that is deleted, or replaced, and collected meanwhile gets the bytes that it began to read."""
    with Walrus() as w:
        c = w.client()
        c.create_bucket(Bucket="reads")
        data = os.urandom(24 << 20)
        import io

        from boto3.s3.transfer import TransferConfig
        for key in ("one", "parts"):
            if key == "one":
                c.put_object(Bucket="reads", Key=key, Body=data)
            else:
                c.upload_fileobj(io.BytesIO(data), "reads", key, Config=TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20))
        bodies = [c.get_object(Bucket="reads", Key=k)["Body"] for k in ("one", "parts")]
        heads = [b.read(1000) for b in bodies]
        c.delete_object(Bucket="reads", Key="one")
        c.put_object(Bucket="reads", Key="parts", Body=b"other")
        time.sleep(45)
        left = [os.path.join(d, f) for d, _, fs in os.walk(f"{w.folder}/data/objects") for f in fs]
        # The single file is gone by name; the parts are leased.
        assert len(left) == 5, left
        for head, body in zip(heads, bodies):
            assert head + body.read() == data
        assert c.get_object(Bucket="reads", Key="parts")["Body"].read() == b"other"
        time.sleep(12)
        left = [f for d, _, fs in os.walk(f"{w.folder}/data/objects") for f in fs]
        assert left == [], left
        assert w.fsck()[0] == 0


def fsck_sees():
    """fsck names damage and orphans, repairs what can be repaired, and leaves damage alone."""
    with Walrus() as w:
        c = w.client()
        c.create_bucket(Bucket="check")
        for n in range(4):
            c.put_object(Bucket="check", Key=f"k{n}", Body=os.urandom(50000 + n))
        c.put_object(Bucket="check", Key="small", Body=b"inline")
        assert w.fsck()[0] == 0
        files = sorted(os.path.join(d, f) for d, _, fs in os.walk(f"{w.folder}/data/objects") for f in fs)
        assert len(files) == 4
        with open(files[0], "r+b") as f:
            f.seek(100)
            f.write(b"rotten")
        os.truncate(files[1], 10)
        os.remove(files[2])
        stranger = os.path.join(os.path.dirname(files[3]), os.path.basename(files[3])[:4] + "f" * 28)
        open(stranger, "w").write("nobody's")
        code, text = w.fsck()
        assert code == 1 and text.count("damaged:") == 3 and text.count("orphan:") == 1, text
        assert "MD5" in text and "has 10 bytes" in text and "is missing" in text, text
        code, text = w.fsck("--repair")
        assert code != 0 and "another karri-walrus" in text and os.path.exists(stranger), text
        w.process.terminate()
        w.process.wait()
        code, text = w.fsck("--repair")
        assert code == 1 and not os.path.exists(stranger), text
        code, text = w.fsck()
        assert text.count("damaged:") == 3 and text.count("orphan:") == 0, text


def main():
    failed = 0
    for f in (walrus_killed, postgres_killed, full_disk, tls, delete_during_read, fsck_sees):
        if sys.argv[1:] and not any(x in f.__name__ for x in sys.argv[1:]):
            continue
        began = time.time()
        try:
            f()
            print(f"ok     {f.__name__} {time.time() - began:.1f} s", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED {f.__name__} {time.time() - began:.1f} s", flush=True)
            traceback.print_exc(limit=-3)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
