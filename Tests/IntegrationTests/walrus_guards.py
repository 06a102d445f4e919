"""What Walrus refuses so that nothing is lost: a full disk (a small tmpfs), a full database, quotas, damaged bytes. Needs root for the mounts.
`python3 walrus_guards.py [part of a name ...]`. Ends with code 1 when a test failed.
"""

import concurrent.futures
import glob
import os
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request

from botocore.exceptions import ClientError

from walrus_server import Walrus


def refusal(call):
    """The status, code and message of an error."""
    try:
        call()
    except ClientError as e:
        return e.response["ResponseMetadata"]["HTTPStatusCode"], e.response["Error"].get("Code"), e.response["Error"].get("Message")
    raise AssertionError("accepted")


def restart(w, change=lambda text: text):
    w.process.terminate()
    w.process.wait()
    text = open(w.config).read()
    open(w.config, "w").write(change(text))
    w.start()


def metric(w, name):
    text = urllib.request.urlopen(w.endpoint + "/metrics").read().decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name) and line[len(name)] in " {")


class Tmpfs:
    def __init__(self, folder, mib, owner="root"):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0700,uid={owner}", "tmpfs", folder], check=True)

    def resize(self, mib):
        subprocess.run(["mount", "-o", f"remount,size={mib}m", self.folder], check=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.folder])
        os.rmdir(self.folder)


def small_disk():
    """A store on a file system of 128 MiB: uploads beyond it are refused with numbers, also when others take the space meanwhile."""
    folder = tempfile.mkdtemp(prefix="karri-guards-")
    with Tmpfs(folder, 128), Walrus(min_free_mib=16) as w:
        restart(w, lambda text: text.replace(f"data_dir = {w.folder}/data", f"data_dir = {folder}/data"))
        c = w.client()
        c.create_bucket(Bucket="disk")
        c.put_object(Bucket="disk", Key="kept", Body=b"k" * (20 << 20))
        with open(f"{folder}/ballast", "wb") as f:
            f.write(b"b" * (80 << 20))
        status, code, message = refusal(lambda: c.put_object(Bucket="disk", Key="big", Body=b"y" * (30 << 20)))
        assert (status, code) == (507, "InsufficientStorage") and str(30 << 20) in message, message
        # Many at once, each of which would fit alone.
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            def put(n):
                try:
                    w.client().put_object(Bucket="disk", Key=f"n{n}", Body=b"n" * (4 << 20))
                    return True
                except ClientError as e:
                    assert e.response["Error"]["Code"] == "InsufficientStorage", e
                    return False
            stored = sum(pool.map(put, range(6)))
        assert stored <= 3, stored
        assert c.get_object(Bucket="disk", Key="kept")["Body"].read() == b"k" * (20 << 20)
        c.delete_object(Bucket="disk", Key="kept")
        os.unlink(f"{folder}/ballast")
        c.put_object(Bucket="disk", Key="big", Body=b"y" * (30 << 20))
        code, text = w.fsck()
        assert code == 0, text
        print(f"  {message}")


def full_database():
    """The table of objects on a file system of its own that fills up: refused by name, and on again when it has grown."""
    folder = tempfile.mkdtemp(prefix="karri-guards-")
    with Tmpfs(folder, 24, "postgres" if os.geteuid() == 0 else "root") as disk, Walrus() as w:
        c = w.client()
        c.create_bucket(Bucket="rows")
        c.put_object(Bucket="rows", Key="kept", Body=b"k" * 1000)
        w.postgres.sql(f"CREATE TABLESPACE small LOCATION '{folder}'")
        w.postgres.sql("ALTER TABLE walrus.objects SET TABLESPACE small")
        message = None
        for n in range(3000):
            try:
                c.put_object(Bucket="rows", Key=f"{n}", Body=os.urandom(16_000))
            except ClientError as e:
                message = (e.response["ResponseMetadata"]["HTTPStatusCode"], e.response["Error"]["Code"], e.response["Error"]["Message"])
                break
        assert message and message[:2] == (507, "InsufficientStorage"), message
        assert c.get_object(Bucket="rows", Key="kept")["Body"].read() == b"k" * 1000
        c.delete_object(Bucket="rows", Key="0")
        assert refusal(lambda: c.head_object(Bucket="rows", Key=f"{n}"))[0] == 404
        disk.resize(64)
        c.put_object(Bucket="rows", Key="after", Body=os.urandom(16_000))
        code, text = w.fsck()
        assert code == 0, text
        print(f"  after {n} objects: {message[2]}")


def quotas():
    """Bytes, objects and buckets of an account; many writers at once do not pass a limit together; what is deleted counts no more."""
    with Walrus() as w:
        def quota(*arguments):
            done = subprocess.run([w.binary, "quota", "--config", w.config, *arguments], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        c = w.client()
        c.create_bucket(Bucket="quota")
        quota(w.alice.id, "--bytes", "5000000", "--buckets", "2")
        time.sleep(1.2)

        def put(n):
            try:
                w.client().put_object(Bucket="quota", Key=f"{n}", Body=b"q" * 1_000_000)
                return None
            except ClientError as e:
                assert e.response["ResponseMetadata"]["HTTPStatusCode"] == 403 and e.response["Error"]["Code"] == "QuotaExceeded", e
                return e.response["Error"]["Message"]

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            refused = [m for m in pool.map(put, range(16)) if m]
        assert len(refused) == 11, refused
        assert "5000000" in refused[0] and w.alice.id in refused[0], refused[0]
        used = quota(w.alice.id)
        assert "bytes 5000000 of 5000000" in used, used
        c.create_bucket(Bucket="quota-two")
        assert refusal(lambda: c.create_bucket(Bucket="quota-three"))[1] == "TooManyBuckets"
        upload = c.create_multipart_upload(Bucket="quota", Key="parts")["UploadId"]
        assert refusal(lambda: c.upload_part(Bucket="quota", Key="parts", UploadId=upload, PartNumber=1, Body=b"p"))[1] == "QuotaExceeded"
        for item in c.list_objects_v2(Bucket="quota")["Contents"][:2]:
            c.delete_object(Bucket="quota", Key=item["Key"])
        time.sleep(0.3)
        c.put_object(Bucket="quota", Key="again", Body=b"q" * 1_000_000)
        quota(w.alice.id, "--objects", "4")
        time.sleep(1.2)
        assert "object asked" in refusal(lambda: c.put_object(Bucket="quota", Key="fifth", Body=b"x"))[2]
        c.put_object(Bucket="quota", Key="again", Body=b"over")
        w.client(w.bob).create_bucket(Bucket="of-bob")
        assert metric(w, "karri_walrus_quota_refusals_total") >= 12
        quota(w.alice.id, "--clear")
        time.sleep(1.2)
        c.put_object(Bucket="quota", Key="fifth", Body=b"x")
        print(f"  {refused[0]}")


def scrub():
    """A flipped bit on the disk: found by the scrub, counted, and never served; right again, it is served again."""
    with Walrus(extra="scrub_mib_per_second = 500\n") as w:
        c = w.client()
        c.create_bucket(Bucket="scrub")
        bodies = {f"o{n}": os.urandom(300_000) for n in range(3)}
        for key, body in bodies.items():
            c.put_object(Bucket="scrub", Key=key, Body=body)
        c.put_object(Bucket="scrub", Key="row", Body=b"in a row")
        name = w.postgres.sql("SELECT blob FROM walrus.objects WHERE key = 'o1'")
        path = glob.glob(f"{w.folder}/data/objects/*/*/{name}")[0]

        def flip():
            w.process.terminate()
            w.process.wait()
            with open(path, "r+b") as f:
                f.seek(1234)
                byte = f.read(1)[0]
                f.seek(1234)
                f.write(bytes([byte ^ 4]))
            w.postgres.sql("DELETE FROM walrus.scrub")
            w.start()

        def until(what):
            for _ in range(1200):
                if what():
                    return
                time.sleep(0.1)
            raise AssertionError("the scrub did not come")

        flip()
        until(lambda: metric(w, "karri_walrus_quarantined") == 1)
        status, code, message = refusal(lambda: c.get_object(Bucket="scrub", Key="o1"))
        assert (status, code) == (500, "ObjectQuarantined"), (status, code)
        assert refusal(lambda: c.copy_object(Bucket="scrub", Key="copy", CopySource="scrub/o1"))[1] == "ObjectQuarantined"
        assert c.head_object(Bucket="scrub", Key="o1")["ContentLength"] == 300_000
        assert c.get_object(Bucket="scrub", Key="o0")["Body"].read() == bodies["o0"]
        assert metric(w, "karri_walrus_scrub_damaged_total") == 1 and metric(w, "karri_walrus_scrubbed_bytes_total") > 0
        restart(w)
        assert refusal(lambda: c.get_object(Bucket="scrub", Key="o1"))[1] == "ObjectQuarantined"
        flip()
        until(lambda: metric(w, "karri_walrus_quarantined") == 0)
        assert c.get_object(Bucket="scrub", Key="o1")["Body"].read() == bodies["o1"]
        # A row's own bytes.
        w.postgres.sql("UPDATE walrus.objects SET inline = 'in a rox' WHERE key = 'row'; DELETE FROM walrus.scrub")
        restart(w)
        until(lambda: metric(w, "karri_walrus_quarantined") == 1)
        assert refusal(lambda: c.get_object(Bucket="scrub", Key="row"))[1] == "ObjectQuarantined"
        c.put_object(Bucket="scrub", Key="row", Body=b"new")
        assert c.get_object(Bucket="scrub", Key="row")["Body"].read() == b"new"
        print(f"  {message}")


def main():
    failed = 0
    for f in (small_disk, full_database, quotas, scrub):
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
