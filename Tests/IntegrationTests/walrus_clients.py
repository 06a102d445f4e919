"""Stock clients against Walrus: boto3, aws CLI, s3cmd, curl. Each test does real work on a bucket of its own.

`python3 walrus_clients.py [part of a name ...]` starts a Walrus of its own; with KARRI_S3_ENDPOINT and KARRI_S3_{ALICE,BOB,SYSTEM}
(access:secret:canonical id:account) set, it uses that one. Ends with code 1 when a test failed.
"""

import base64
import concurrent.futures
import hashlib
import hmac
import http.client
import io
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.parse
import urllib.request
import zlib

import boto3
from boto3.s3.transfer import TransferConfig
from botocore import UNSIGNED
from botocore.auth import HmacV1Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

REGION = "karri-1"
TESTS = []


def test(f):
    TESTS.append(f)
    return f


class Account:
    def __init__(self, text):
        self.access, self.secret, self.canonical, self.id = text.split(":")


class World:
    def __init__(self, endpoint, alice, bob, system):
        self.endpoint, self.alice, self.bob, self.system = endpoint, alice, bob, system
        self.host = endpoint.split("//")[1]
        self.count = 0

    def client(self, account=None, **config):
        account = account or self.alice
        options = dict(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, read_timeout=60)
        options.update(config)
        keys = {} if account == "anonymous" else dict(aws_access_key_id=account.access, aws_secret_access_key=account.secret)
        if account == "anonymous":
            options["signature_version"] = UNSIGNED
        return boto3.client("s3", endpoint_url=self.endpoint, region_name=REGION, config=Config(**options), **keys)

    def bucket(self, client=None, **more):
        self.count += 1
        name = f"test-{os.getpid()}-{self.count}-{random.randrange(1 << 32):x}"
        (client or self.client()).create_bucket(Bucket=name, **more)
        return name

    def environment(self, account=None):
        account = account or self.alice
        return dict(os.environ, AWS_ACCESS_KEY_ID=account.access, AWS_SECRET_ACCESS_KEY=account.secret, AWS_DEFAULT_REGION=REGION,
                    AWS_ENDPOINT_URL_S3=self.endpoint, AWS_PAGER="", AWS_CONFIG_FILE="/dev/null", AWS_EC2_METADATA_DISABLED="true")

    def raw(self, method, path, headers=None, body=None):
        c = http.client.HTTPConnection(self.host, timeout=30)
        c.request(method, path, body=body, headers=headers or {})
        r = c.getresponse()
        data = r.read()
        c.close()
        return r.status, dict((k.lower(), v) for k, v in r.getheaders()), data


def refused(code, status, call, *args, **kw):
    try:
        call(*args, **kw)
    except ClientError as e:
        got = (e.response["Error"]["Code"], e.response["ResponseMetadata"]["HTTPStatusCode"])
        assert got == (code, status), f"expected {(code, status)}, got {got}: {e}"
        return e.response
    raise AssertionError(f"expected {code} {status}, but it was allowed")


# ---- buckets

@test
def buckets(w):
    c = w.client()
    name = w.bucket(c)
    assert name in [b["Name"] for b in c.list_buckets()["Buckets"]]
    assert c.list_buckets()["Owner"]["ID"] == w.alice.canonical
    c.create_bucket(Bucket=name)
    refused("BucketAlreadyOwnedByYou", 409, c.create_bucket, Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    refused("BucketAlreadyOwnedByYou", 409, c.create_bucket, Bucket=name, ACL="public-read")
    refused("BucketAlreadyExists", 409, w.client(w.bob).create_bucket, Bucket=name)
    assert c.get_bucket_location(Bucket=name)["LocationConstraint"] == REGION
    assert "Status" not in c.get_bucket_versioning(Bucket=name)
    versioned = w.bucket(c)
    c.put_bucket_versioning(Bucket=versioned, VersioningConfiguration={"Status": "Enabled"})
    assert c.get_bucket_versioning(Bucket=versioned)["Status"] == "Enabled"
    c.delete_bucket(Bucket=versioned)
    refused("404", 404, c.head_bucket, Bucket="no-such-bucket-here")
    refused("NoSuchBucket", 404, c.list_objects_v2, Bucket="no-such-bucket-here")
    refused("NoSuchBucketPolicy", 404, c.get_bucket_policy, Bucket=name)
    refused("NoSuchTagSet", 404, c.get_bucket_tagging, Bucket=name)
    c.put_bucket_tagging(Bucket=name, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert c.get_bucket_tagging(Bucket=name)["TagSet"] == [{"Key": "a", "Value": "b"}]
    c.put_object(Bucket=name, Key="k", Body=b"x")
    refused("BucketNotEmpty", 409, c.delete_bucket, Bucket=name)
    c.delete_object(Bucket=name, Key="k")
    c.delete_object(Bucket=name, Key="k")
    c.create_multipart_upload(Bucket=name, Key="unfinished")
    c.delete_bucket(Bucket=name)
    refused("NoSuchBucket", 404, c.delete_bucket, Bucket=name)
    for bad in ("ab", "Upper", "a..b", "-a-b", "192.168.1.1", "x" * 64, "under_score"):
        status, _, body = w.raw("PUT", "/" + bad)
        assert status in (400, 403), (bad, status)
    refused("InvalidLocationConstraint", 400, c.create_bucket, Bucket="some-bucket", CreateBucketConfiguration={"LocationConstraint": "mars"})
    pages = [w.bucket(c) for _ in range(3)]
    first = c.list_buckets(MaxBuckets=1)
    assert len(first["Buckets"]) == 1 and first["ContinuationToken"]
    for p in pages:
        c.delete_bucket(Bucket=p)


# ---- objects

@test
def objects(w):
    c = w.client()
    b = w.bucket(c)
    for size in (0, 1, 16384, 16385, 70000, 3 << 20):
        data = os.urandom(size)
        r = c.put_object(Bucket=b, Key=f"s{size}", Body=data, ContentType="x/y", CacheControl="no-cache", ContentDisposition="inline",
                         ContentLanguage="de", Metadata={"One": "1", "two": "a b"})
        assert r["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
        g = c.get_object(Bucket=b, Key=f"s{size}")
        assert g["Body"].read() == data and g["ContentType"] == "x/y" and g["CacheControl"] == "no-cache"
        assert g["Metadata"] == {"one": "1", "two": "a b"} and g["ContentLanguage"] == "de"
        h = c.head_object(Bucket=b, Key=f"s{size}")
        assert h["ContentLength"] == size and h["ETag"] == r["ETag"]
        if size > 10:
            for spec, want in (("bytes=0-0", data[:1]), ("bytes=5-", data[5:]), ("bytes=-3", data[-3:]), (f"bytes=2-{size * 2}", data[2:])):
                g = c.get_object(Bucket=b, Key=f"s{size}", Range=spec)
                assert g["Body"].read() == want and g["ResponseMetadata"]["HTTPStatusCode"] == 206, spec
                assert g["ContentRange"].endswith(f"/{size}")
        refused("InvalidRange", 416, c.get_object, Bucket=b, Key=f"s{size}", Range=f"bytes={size}-")
    refused("NoSuchKey", 404, c.get_object, Bucket=b, Key="none")
    refused("404", 404, c.head_object, Bucket=b, Key="none")
    g = c.get_object(Bucket=b, Key="s1", ResponseContentType="text/x", ResponseCacheControl="max-age=1", ResponseExpires="Thu, 01 Jan 1970 00:00:00 GMT",
                     ResponseContentDisposition="attachment", ResponseContentEncoding="gzip", ResponseContentLanguage="fr")
    assert g["ContentType"] == "text/x" and g["CacheControl"] == "max-age=1" and g["ContentDisposition"] == "attachment"
    c.put_object(Bucket=b, Key="s1", Body=b"new")
    assert c.get_object(Bucket=b, Key="s1")["Body"].read() == b"new"
    assert c.get_object(Bucket=b, Key="s1")["ContentType"] == "binary/octet-stream"


@test
def odd_keys(w):
    c = w.client()
    b = w.bucket(c)
    keys = ["a//b", "../up", "./x", "/lead", "sp ace", "plus+plus", "per%20cent", "quo\"te'", "ünï/çødé", "emoji-🦭", "q?m=1&x", "h#ash", "a;b=c",
            "tab\tx", "*!()'~", "new\nline", "x" * 1024, "<&>", "back\\slash", "ctrl\x01", "trail/", "@:,$"]
    for k in keys:
        c.put_object(Bucket=b, Key=k, Body=k.encode())
    for k in keys:
        assert c.get_object(Bucket=b, Key=k)["Body"].read() == k.encode(), k
    listed = [o["Key"] for p in c.get_paginator("list_objects_v2").paginate(Bucket=b) for o in p.get("Contents", [])]
    assert listed == sorted(keys, key=lambda k: k.encode()), listed
    for k in keys:
        c.copy_object(Bucket=b, Key="copy-" + k[:900], CopySource={"Bucket": b, "Key": k})
    refused("KeyTooLongError", 400, c.put_object, Bucket=b, Key="x" * 1025, Body=b"")
    status, _, body = w.raw("GET", f"/{b}/%ff%fe")
    assert status in (400, 403), status


@test
def conditions(w):
    c = w.client()
    b = w.bucket(c)
    etag = c.put_object(Bucket=b, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    refused("PreconditionFailed", 412, c.put_object, Bucket=b, Key="k", Body=b"2", IfNoneMatch="*")
    refused("PreconditionFailed", 412, c.put_object, Bucket=b, Key="k", Body=b"2", IfMatch='"bad"')
    refused("NoSuchKey", 404, c.put_object, Bucket=b, Key="none", Body=b"2", IfMatch=etag)
    etag2 = c.put_object(Bucket=b, Key="k", Body=b"2", IfMatch=etag)["ETag"]
    refused("PreconditionFailed", 412, c.get_object, Bucket=b, Key="k", IfMatch=etag)
    refused("304", 304, c.get_object, Bucket=b, Key="k", IfNoneMatch=etag2)
    assert c.get_object(Bucket=b, Key="k", IfMatch=etag2)["Body"].read() == b"2"
    refused("304", 304, c.head_object, Bucket=b, Key="k", IfModifiedSince=time.time() + 60)
    refused("PreconditionFailed", 412, c.get_object, Bucket=b, Key="k", IfUnmodifiedSince=0)
    refused("PreconditionFailed", 412, c.delete_object, Bucket=b, Key="k", IfMatch=etag)
    c.delete_object(Bucket=b, Key="k", IfMatch=etag2)
    # Only one of many writers of a new key wins.
    def attempt(i):
        try:
            w.client().put_object(Bucket=b, Key="race", Body=str(i).encode(), IfNoneMatch="*")
            return i
        except ClientError as e:
            assert e.response["ResponseMetadata"]["HTTPStatusCode"] == 412, e
            return None
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        won = [i for i in pool.map(attempt, range(12)) if i is not None]
    # Compare and swap: no increment is lost.
    c.put_object(Bucket=b, Key="counter", Body=b"0")
    def add(_):
        k = w.client()
        for _ in range(200):
            g = k.get_object(Bucket=b, Key="counter")
            try:
                return k.put_object(Bucket=b, Key="counter", Body=str(int(g["Body"].read()) + 1).encode(), IfMatch=g["ETag"])
            except ClientError as e:
                assert e.response["ResponseMetadata"]["HTTPStatusCode"] == 412, e
        raise AssertionError("never won")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(30)))
    assert c.get_object(Bucket=b, Key="counter")["Body"].read() == b"30"
    assert len(won) == 1 and c.get_object(Bucket=b, Key="race")["Body"].read() == str(won[0]).encode(), won


@test
def checksums(w):
    c = w.client()
    b = w.bucket(c)
    data = os.urandom(100000)
    for a in ("CRC32", "SHA1", "SHA256"):
        r = c.put_object(Bucket=b, Key=a, Body=data, ChecksumAlgorithm=a)
        h = c.head_object(Bucket=b, Key=a, ChecksumMode="ENABLED")
        assert h["Checksum" + a] == r["Checksum" + a] and h["ChecksumType"] == "FULL_OBJECT"
        assert c.get_object(Bucket=b, Key=a, ChecksumMode="ENABLED")["Body"].read() == data
        at = c.get_object_attributes(Bucket=b, Key=a, ObjectAttributes=["Checksum", "ETag", "ObjectSize", "StorageClass"])
        assert at["Checksum"]["Checksum" + a] == r["Checksum" + a] and at["ObjectSize"] == 100000
    assert base64.b64decode(c.head_object(Bucket=b, Key="CRC32", ChecksumMode="ENABLED")["ChecksumCRC32"]) == zlib.crc32(data).to_bytes(4, "big")
    assert base64.b64decode(c.head_object(Bucket=b, Key="SHA256", ChecksumMode="ENABLED")["ChecksumSHA256"]) == hashlib.sha256(data).digest()
    refused("BadDigest", 400, c.put_object, Bucket=b, Key="bad", Body=data, ChecksumCRC32="AAAAAA==")
    refused("BadDigest", 400, c.put_object, Bucket=b, Key="bad", Body=data, ChecksumCRC32="AAAA")
    refused("BadDigest", 400, c.put_object, Bucket=b, Key="bad", Body=data, ContentMD5=base64.b64encode(b"0" * 16).decode())
    refused("InvalidDigest", 400, c.put_object, Bucket=b, Key="bad", Body=data, ContentMD5="zzz")
    refused("NoSuchKey", 404, c.get_object, Bucket=b, Key="bad")


@test
def multipart(w):
    c = w.client()
    b = w.bucket(c)
    data = os.urandom(20 << 20)
    c.upload_fileobj(io.BytesIO(data), b, "big", ExtraArgs={"Metadata": {"k": "v"}, "ContentType": "a/b"},
                     Config=TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=6 << 20, max_concurrency=4))
    out = io.BytesIO()
    c.download_fileobj(b, "big", out, Config=TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=7 << 20))
    assert out.getvalue() == data
    h = c.head_object(Bucket=b, Key="big")
    assert h["ETag"].endswith('-4"') and h["Metadata"] == {"k": "v"} and h["ContentType"] == "a/b"
    for a, z in ((0, 10), ((6 << 20) - 5, (6 << 20) + 5), ((12 << 20) - 1, 20 << 20), ((6 << 20), (12 << 20) + 1)):
        assert c.get_object(Bucket=b, Key="big", Range=f"bytes={a}-{z - 1}")["Body"].read() == data[a:z]
    assert c.get_object(Bucket=b, Key="big", PartNumber=2)["Body"].read() == data[6 << 20:12 << 20]
    assert c.head_object(Bucket=b, Key="big", PartNumber=4)["PartsCount"] == 4
    # by hand
    u = c.create_multipart_upload(Bucket=b, Key="hand")["UploadId"]
    assert [x["UploadId"] for x in c.list_multipart_uploads(Bucket=b)["Uploads"]] == [u]
    parts = []
    for n, size in ((1, 5 << 20), (3, 5 << 20), (7, 100)):
        r = c.upload_part(Bucket=b, Key="hand", UploadId=u, PartNumber=n, Body=bytes([n]) * size)
        parts.append({"PartNumber": n, "ETag": r["ETag"]})
    listed = c.list_parts(Bucket=b, Key="hand", UploadId=u, MaxParts=2)
    assert [p["PartNumber"] for p in listed["Parts"]] == [1, 3] and listed["IsTruncated"] and listed["NextPartNumberMarker"] == 3
    refused("InvalidPart", 400, c.complete_multipart_upload, Bucket=b, Key="hand", UploadId=u, MultipartUpload={"Parts": parts + [{"PartNumber": 9, "ETag": "x"}]})
    refused("InvalidPartOrder", 400, c.complete_multipart_upload, Bucket=b, Key="hand", UploadId=u, MultipartUpload={"Parts": parts[::-1]})
    refused("EntityTooSmall", 400, c.complete_multipart_upload, Bucket=b, Key="hand", UploadId=u,
            MultipartUpload={"Parts": [parts[2], {"PartNumber": 8, "ETag": c.upload_part(Bucket=b, Key="hand", UploadId=u, PartNumber=8, Body=b"z")["ETag"]}]})
    done = c.complete_multipart_upload(Bucket=b, Key="hand", UploadId=u, MultipartUpload={"Parts": parts})
    again = c.complete_multipart_upload(Bucket=b, Key="hand", UploadId=u, MultipartUpload={"Parts": parts})
    assert done["ETag"] == again["ETag"]
    assert c.get_object(Bucket=b, Key="hand")["Body"].read() == b"\1" * (5 << 20) + b"\3" * (5 << 20) + b"\7" * 100
    refused("NoSuchUpload", 404, c.upload_part, Bucket=b, Key="hand", UploadId=u, PartNumber=1, Body=b"")
    refused("NoSuchUpload", 404, c.abort_multipart_upload, Bucket=b, Key="hand", UploadId="nope")
    # copies of parts, conditional complete
    u = c.create_multipart_upload(Bucket=b, Key="copied")["UploadId"]
    p1 = c.upload_part_copy(Bucket=b, Key="copied", UploadId=u, PartNumber=1, CopySource=f"{b}/big", CopySourceRange=f"bytes=1-{6 << 20}")
    p2 = c.upload_part_copy(Bucket=b, Key="copied", UploadId=u, PartNumber=2, CopySource=f"{b}/hand")
    refused("InvalidRange", 416, c.upload_part_copy, Bucket=b, Key="copied", UploadId=u, PartNumber=3, CopySource=f"{b}/big", CopySourceRange=f"bytes=0-{21 << 20}")
    both = {"Parts": [{"PartNumber": 1, "ETag": p1["CopyPartResult"]["ETag"]}, {"PartNumber": 2, "ETag": p2["CopyPartResult"]["ETag"]}]}
    c.put_object(Bucket=b, Key="copied", Body=b"there")
    refused("PreconditionFailed", 412, c.complete_multipart_upload, Bucket=b, Key="copied", UploadId=u, MultipartUpload=both, IfNoneMatch="*")
    c.delete_object(Bucket=b, Key="copied")
    c.complete_multipart_upload(Bucket=b, Key="copied", UploadId=u, MultipartUpload=both, IfNoneMatch="*")
    assert c.get_object(Bucket=b, Key="copied")["Body"].read()[:6 << 20] == data[1:(6 << 20) + 1]
    c.copy_object(Bucket=b, Key="whole", CopySource=f"{b}/big")
    assert c.get_object(Bucket=b, Key="whole")["Body"].read() == data
    u = c.create_multipart_upload(Bucket=b, Key="gone")["UploadId"]
    c.upload_part(Bucket=b, Key="gone", UploadId=u, PartNumber=1, Body=b"x")
    c.abort_multipart_upload(Bucket=b, Key="gone", UploadId=u)
    assert "Uploads" not in c.list_multipart_uploads(Bucket=b)


@test
def multipart_checksums(w):
    c = w.client()
    b = w.bucket(c)
    pieces = [os.urandom(5 << 20), os.urandom(5 << 20), os.urandom(12345)]
    whole = b"".join(pieces)
    for a, kind in (("CRC32", "COMPOSITE"), ("CRC32", "FULL_OBJECT"), ("SHA256", "COMPOSITE"), ("SHA1", "COMPOSITE")):
        key = a + kind
        u = c.create_multipart_upload(Bucket=b, Key=key, ChecksumAlgorithm=a, ChecksumType=kind)
        assert u["ChecksumAlgorithm"] == a and u["ChecksumType"] == kind
        parts = []
        for n, piece in enumerate(pieces, 1):
            r = c.upload_part(Bucket=b, Key=key, UploadId=u["UploadId"], PartNumber=n, Body=piece, ChecksumAlgorithm=a)
            parts.append({"PartNumber": n, "ETag": r["ETag"], "Checksum" + a: r["Checksum" + a]})
        done = c.complete_multipart_upload(Bucket=b, Key=key, UploadId=u["UploadId"], MultipartUpload={"Parts": parts}, ChecksumType=kind)
        value = done["Checksum" + a]
        if kind == "FULL_OBJECT":
            assert base64.b64decode(value) == zlib.crc32(whole).to_bytes(4, "big")
        else:
            f = {"CRC32": lambda x: zlib.crc32(x).to_bytes(4, "big"), "SHA256": lambda x: hashlib.sha256(x).digest(), "SHA1": lambda x: hashlib.sha1(x).digest()}[a]
            assert value == base64.b64encode(f(b"".join(f(p) for p in pieces))).decode() + "-3", value
        h = c.head_object(Bucket=b, Key=key, ChecksumMode="ENABLED")
        assert h["Checksum" + a] == value and h["ChecksumType"] == kind
        assert c.get_object(Bucket=b, Key=key, ChecksumMode="ENABLED")["Body"].read() == whole
    refused("InvalidRequest", 400, c.create_multipart_upload, Bucket=b, Key="x", ChecksumAlgorithm="SHA256", ChecksumType="FULL_OBJECT")
    u = c.create_multipart_upload(Bucket=b, Key="mismatch", ChecksumAlgorithm="SHA256")["UploadId"]
    refused("InvalidRequest", 400, c.upload_part, Bucket=b, Key="mismatch", UploadId=u, PartNumber=1, Body=b"x", ChecksumAlgorithm="CRC32")


@test
def lists(w):
    c = w.client()
    b = w.bucket(c)
    keys = [f"dir{i % 7}/sub{i % 3}/k{i:04}" for i in range(1500)] + [f"plain{i:04}" for i in range(1490)] + ["ä", "z", "Z", "a-", "a/", "a/x", "a0", "dir", "dir0", "\U0001F600"]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda k: c.put_object(Bucket=b, Key=k, Body=b""), keys))
    want = sorted(keys, key=lambda k: k.encode())

    def model(prefix, delimiter):
        out = []
        for k in want:
            if not k.startswith(prefix):
                continue
            at = k.find(delimiter, len(prefix)) if delimiter else -1
            e = (k[:at + len(delimiter)], True) if at >= 0 else (k, False)
            if not out or out[-1] != e:
                out.append(e)
        return out

    for prefix in ("", "dir", "dir3/", "dir3/sub1/", "plain1", "nothing", "a", "\u00e4"):
        for delimiter in ("", "/", "sub", "0"):
            for size in ((1000, 7) if prefix else (1000, 333)):
                got = []
                for page in c.get_paginator("list_objects_v2").paginate(Bucket=b, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": size}):
                    e = [(o["Key"], False) for o in page.get("Contents", [])] + [(p["Prefix"], True) for p in page.get("CommonPrefixes", [])]
                    assert len(e) == page["KeyCount"] <= size
                    got += sorted(e, key=lambda x: x[0].encode())
                assert got == model(prefix, delimiter), (prefix, delimiter, size, len(got))
                got = []
                for page in c.get_paginator("list_objects").paginate(Bucket=b, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": size}):
                    e = [(o["Key"], False) for o in page.get("Contents", [])] + [(p["Prefix"], True) for p in page.get("CommonPrefixes", [])]
                    got += sorted(e, key=lambda x: x[0].encode())
                assert got == model(prefix, delimiter), ("v1", prefix, delimiter, size, len(got))
    r = c.list_objects_v2(Bucket=b, StartAfter="plain1480", MaxKeys=3, FetchOwner=True)
    assert [o["Key"] for o in r["Contents"]] == ["plain1481", "plain1482", "plain1483"] and r["Contents"][0]["Owner"]["ID"] == w.alice.canonical
    assert "Contents" not in c.list_objects_v2(Bucket=b, MaxKeys=0)
    refused("InvalidArgument", 400, c.list_objects_v2, Bucket=b, ContinuationToken="nonsense")
    v = c.list_object_versions(Bucket=b, MaxKeys=5)
    assert len(v["Versions"]) == 5 and v["Versions"][0]["VersionId"] == "null" and v["IsTruncated"]
    # multi-object delete
    for at in range(0, len(keys), 1000):
        r = c.delete_objects(Bucket=b, Delete={"Objects": [{"Key": k} for k in keys[at:at + 1000]]})
        assert len(r["Deleted"]) == len(keys[at:at + 1000]) and "Errors" not in r
    assert "Contents" not in c.list_objects_v2(Bucket=b)
    c.delete_bucket(Bucket=b)


@test
def copies(w):
    c = w.client()
    b, b2 = w.bucket(c), w.bucket(c)
    for size in (10, 100000):
        data = os.urandom(size)
        etag = c.put_object(Bucket=b, Key="src", Body=data, Metadata={"a": "1"}, ContentType="t/1", Tagging="x=y")["ETag"]
        r = c.copy_object(Bucket=b2, Key="dst", CopySource=f"/{b}/src")
        assert r["CopyObjectResult"]["ETag"] == etag
        g = c.get_object(Bucket=b2, Key="dst")
        assert g["Body"].read() == data and g["Metadata"] == {"a": "1"} and g["ContentType"] == "t/1" and g["TagCount"] == 1
        c.copy_object(Bucket=b, Key="src", CopySource=f"{b}/src", MetadataDirective="REPLACE", Metadata={"b": "2"}, ContentType="t/2")
        g = c.get_object(Bucket=b, Key="src")
        assert g["Body"].read() == data and g["Metadata"] == {"b": "2"} and g["ContentType"] == "t/2"
        refused("InvalidRequest", 400, c.copy_object, Bucket=b, Key="src", CopySource=f"{b}/src")
        refused("PreconditionFailed", 412, c.copy_object, Bucket=b2, Key="d2", CopySource=f"{b}/src", CopySourceIfMatch='"x"')
        refused("PreconditionFailed", 412, c.copy_object, Bucket=b2, Key="d2", CopySource=f"{b}/src", CopySourceIfNoneMatch=etag)
        refused("NoSuchKey", 404, c.copy_object, Bucket=b2, Key="d2", CopySource=f"{b}/none")
        refused("NoSuchBucket", 404, c.copy_object, Bucket=b2, Key="d2", CopySource="no-such-bucket-x/none")
    c.put_object_tagging(Bucket=b, Key="src", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    assert c.get_object_tagging(Bucket=b, Key="src")["TagSet"] == [{"Key": "k", "Value": "v"}]
    c.delete_object_tagging(Bucket=b, Key="src")
    assert c.get_object_tagging(Bucket=b, Key="src")["TagSet"] == []


# ---- rights

@test
def rights(w):
    a, bob, anyone, system = w.client(), w.client(w.bob), w.client("anonymous"), w.client(w.system)
    b = w.bucket(a)
    a.put_object(Bucket=b, Key="private", Body=b"p")
    a.put_object(Bucket=b, Key="public", Body=b"q", ACL="public-read")
    a.put_object(Bucket=b, Key="authenticated", Body=b"r", ACL="authenticated-read")
    for who in (bob, anyone):
        refused("AccessDenied", 403, who.get_object, Bucket=b, Key="private")
        refused("AccessDenied", 403, who.get_object, Bucket=b, Key="missing")
        refused("AccessDenied", 403, who.list_objects_v2, Bucket=b)
        refused("AccessDenied", 403, who.put_object, Bucket=b, Key="x", Body=b"")
        refused("AccessDenied", 403, who.delete_object, Bucket=b, Key="public")
        refused("AccessDenied", 403, who.delete_bucket, Bucket=b)
        refused("AccessDenied", 403, who.get_bucket_acl, Bucket=b)
        refused("AccessDenied", 403, who.put_bucket_acl, Bucket=b, ACL="public-read")
        refused("AccessDenied", 403, who.create_multipart_upload, Bucket=b, Key="x")
        assert who.get_object(Bucket=b, Key="public")["Body"].read() == b"q"
    refused("AccessDenied", 403, anyone.get_object, Bucket=b, Key="authenticated")
    assert bob.get_object(Bucket=b, Key="authenticated")["Body"].read() == b"r"
    refused("AccessDenied", 403, bob.copy_object, Bucket=w.bucket(bob), Key="x", CopySource=f"{b}/private")
    errors = bob.delete_objects(Bucket=b, Delete={"Objects": [{"Key": "private"}]})["Errors"]
    assert errors[0]["Code"] == "AccessDenied"
    a.put_bucket_acl(Bucket=b, ACL="public-read")
    assert len(anyone.list_objects_v2(Bucket=b)["Contents"]) == 3
    grants = a.get_bucket_acl(Bucket=b)["Grants"]
    assert {g["Permission"] for g in grants} == {"FULL_CONTROL", "READ"}
    refused("NoSuchKey", 404, anyone.get_object, Bucket=b, Key="missing")
    a.put_object_acl(Bucket=b, Key="private", GrantRead=f"id={w.bob.canonical}", GrantFullControl=f"id={w.alice.canonical}")
    assert bob.get_object(Bucket=b, Key="private")["Body"].read() == b"p"
    refused("InvalidArgument", 400, a.put_object_acl, Bucket=b, Key="private", GrantRead=f"id={'0' * 64}")
    policy = a.get_object_acl(Bucket=b, Key="private")
    a.put_object_acl(Bucket=b, Key="private", AccessControlPolicy={"Owner": policy["Owner"], "Grants": policy["Grants"][:1]})
    # the cloud's own account writes for the bucket's owner
    system.put_object(Bucket=b, Key="image", Body=b"i")
    assert a.get_object(Bucket=b, Key="image")["Body"].read() == b"i"
    assert system.get_object(Bucket=b, Key="private")["Body"].read() == b"p"
    a.put_bucket_acl(Bucket=b, ACL="public-read-write")
    bob.put_object(Bucket=b, Key="bobs", Body=b"b")
    refused("AccessDenied", 403, a.get_object, Bucket=b, Key="bobs")
    a.delete_object(Bucket=b, Key="bobs")


# ---- signatures

@test
def signatures(w):
    c = w.client()
    b = w.bucket(c)
    c.put_object(Bucket=b, Key="k", Body=b"value")
    for version in ("s3v4", "s3"):
        s = w.client(signature_version=version)
        assert s.get_object(Bucket=b, Key="k")["Body"].read() == b"value"
        s.put_object(Bucket=b, Key=f"by {version}+x", Body=b"v", ContentType="a/b", Metadata={"m": "n"})
        assert [o["Key"] for o in s.list_objects(Bucket=b, Prefix="by ")["Contents"]]
        s.get_bucket_acl(Bucket=b)
        url = s.generate_presigned_url("get_object", Params={"Bucket": b, "Key": "k", "ResponseContentType": "x/z"}, ExpiresIn=60)
        with urllib.request.urlopen(url) as r:
            assert r.read() == b"value" and r.headers["Content-Type"] == "x/z"
        url = s.generate_presigned_url("put_object", Params={"Bucket": b, "Key": "up"}, ExpiresIn=60)
        done = subprocess.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-T", "-", "-H", "Content-Length: 3", "-H", "Transfer-Encoding:", url],
                              input=b"abc", capture_output=True)
        assert done.stdout == b"200", done
        assert c.get_object(Bucket=b, Key="up")["Body"].read() == b"abc"
        path = url.split(w.host)[1]
        assert w.raw("PUT", path.replace("up", "uq"), body=b"x")[0] == 403
        expired = s.generate_presigned_url("get_object", Params={"Bucket": b, "Key": "k"}, ExpiresIn=1)
        time.sleep(2.1)
        status, _, body = w.raw("GET", expired.split(w.host)[1])
        assert status == 403 and b"<Code>AccessDenied</Code>" in body and b"expired" in body, body
    wrong = Account(f"{w.alice.access}:wrongwrong:{w.alice.canonical}:1")
    refused("SignatureDoesNotMatch", 403, w.client(wrong).list_buckets)
    nobody = Account("AKIAAAAAAAAAAAAAAAAA:x:y:1")
    refused("InvalidAccessKeyId", 403, w.client(nobody).list_buckets)
    token = boto3.client("s3", endpoint_url=w.endpoint, aws_access_key_id=w.alice.access, aws_secret_access_key=w.alice.secret,
                         aws_session_token="made-up", region_name=REGION, config=Config(s3={"addressing_style": "path"}))
    refused("InvalidToken", 400, token.list_buckets)
    status, _, body = w.raw("GET", f"/{b}/k", {"Authorization": "AWS4-HMAC-SHA256 nonsense"})
    assert status == 400 and b"AuthorizationHeaderMalformed" in body, body
    assert w.raw("GET", "/")[0] == 403
    # a signed header hash that is not that of the body
    import botocore.auth, botocore.awsrequest
    creds = Credentials(w.alice.access, w.alice.secret)
    request = AWSRequest("PUT", f"{w.endpoint}/{b}/tampered", data=b"right", headers={"x-amz-content-sha256": hashlib.sha256(b"right").hexdigest()})
    botocore.auth.S3SigV4Auth(creds, "s3", REGION).add_auth(request)
    status, _, body = w.raw("PUT", f"/{b}/tampered", dict(request.headers), b"wrong")
    assert status == 400 and b"XAmzContentSHA256Mismatch" in body, body
    refused("NoSuchKey", 404, c.get_object, Bucket=b, Key="tampered")
    # an old request
    old = {"Date": "Thu, 01 Jan 2015 00:00:00 GMT"}
    sts = f"GET\n\n\n{old['Date']}\n/{b}/k"
    old["Authorization"] = f"AWS {w.alice.access}:" + base64.b64encode(hmac.new(w.alice.secret.encode(), sts.encode(), "sha1").digest()).decode()
    status, _, body = w.raw("GET", f"/{b}/k", old)
    assert status == 403 and b"RequestTimeTooSkewed" in body, body


@test
def chunked_uploads(w):
    """aws-chunked by hand: signed chunks, with and without a trailer, and each way to break them."""
    import datetime
    c = w.client()
    b = w.bucket(c)
    secret = w.alice.secret
    data = os.urandom(150000)

    def upload(key, trailer=None, spoil=None, chunk=65536, declared=None):
        now = datetime.datetime.now(datetime.timezone.utc)
        date, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        scope = f"{day}/{REGION}/s3/aws4_request"
        k = f"AWS4{secret}".encode()
        for part in (day, REGION, "s3", "aws4_request"):
            k = hmac.new(k, part.encode(), "sha256").digest()
        sign = lambda text: hmac.new(k, text.encode(), "sha256").hexdigest()
        payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailer else "")
        headers = {"content-encoding": "aws-chunked,gzip", "host": w.host, "x-amz-content-sha256": payload, "x-amz-date": date,
                   "x-amz-decoded-content-length": str(declared if declared is not None else len(data))}
        if trailer:
            headers["x-amz-trailer"] = trailer[0]
        names = sorted(headers)
        canonical = "\n".join(["PUT", f"/{b}/{key}", ""] + [f"{n}:{headers[n]}" for n in names] + ["", ";".join(names), payload])
        previous = sign("\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()]))
        headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={w.alice.access}/{scope},SignedHeaders={';'.join(names)},Signature={previous}"
        empty = hashlib.sha256(b"").hexdigest()
        body = b""
        pieces = [data[i:i + chunk] for i in range(0, len(data), chunk)] + [b""]
        for n, piece in enumerate(pieces):
            previous = sign("\n".join(["AWS4-HMAC-SHA256-PAYLOAD", date, scope, previous, empty, hashlib.sha256(piece).hexdigest()]))
            shown = "0" * 64 if spoil == n else previous
            if spoil == "byte" and n == 1:
                piece = bytes([piece[0] ^ 1]) + piece[1:]
            if spoil == "cut" and not piece:
                break
            body += f"{len(piece):x};chunk-signature={shown}\r\n".encode() + piece + (b"\r\n" if piece or not trailer else b"")
        if trailer and spoil != "cut":
            line = f"{trailer[0]}:{trailer[1]}"
            s = sign("\n".join(["AWS4-HMAC-SHA256-TRAILER", date, scope, previous, hashlib.sha256((line + "\n").encode()).hexdigest()]))
            body += f"{line}\r\nx-amz-trailer-signature:{'0' * 64 if spoil == 'trailer' else s}\r\n\r\n".encode()
        headers["Content-Length"] = str(len(body))
        return w.raw("PUT", f"/{b}/{key}", headers, body)

    crc = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    assert upload("plain")[0] == 200
    g = c.get_object(Bucket=b, Key="plain")
    assert g["Body"].read() == data and g["ContentEncoding"] == "gzip"
    status, headers, body = upload("trailer", ("x-amz-checksum-crc32", crc))
    assert status == 200 and headers["x-amz-checksum-crc32"] == crc, (status, body)
    for name, kw, want in (("s0", dict(spoil=0), (403, b"SignatureDoesNotMatch")), ("last", dict(spoil=3), (403, b"SignatureDoesNotMatch")),
                           ("byte", dict(spoil="byte"), (403, b"SignatureDoesNotMatch")), ("cut", dict(spoil="cut"), (400, b"IncompleteBody")),
                           ("tsig", dict(trailer=("x-amz-checksum-crc32", crc), spoil="trailer"), (403, b"SignatureDoesNotMatch")),
                           ("tval", dict(trailer=("x-amz-checksum-crc32", "AAAAAA==")), (400, b"BadDigest")),
                           ("length", dict(declared=140000), (400, b"IncompleteBody")), ("more", dict(declared=150001), (400, b"IncompleteBody"))):
        status, _, body = upload(name, **kw)
        assert status == want[0] and want[1] in body, (name, status, body)
        refused("NoSuchKey", 404, c.get_object, Bucket=b, Key=name)


@test
def paths_and_hosts(w):
    c = w.client()
    b = w.bucket(c)
    c.put_object(Bucket=b, Key="k/1", Body=b"v", ACL="public-read")
    for prefix in ("/services/Walrus", "/services/objectstorage"):
        assert w.raw("GET", f"{prefix}/{b}/k/1")[2] == b"v"
        e = boto3.client("s3", endpoint_url=w.endpoint + prefix, aws_access_key_id=w.alice.access, aws_secret_access_key=w.alice.secret,
                         region_name=REGION, config=Config(s3={"addressing_style": "path"}))
        assert e.get_object(Bucket=b, Key="k/1")["Body"].read() == b"v"
        e.list_objects_v2(Bucket=b)
    assert w.raw("GET", "/k/1", {"Host": f"{b}.s3.test:8778"})[2] == b"v"
    # virtual-host style, signed: V4 and V2
    for version in ("s3v4", "s3"):
        import botocore.auth
        request = AWSRequest("GET", f"http://{b}.s3.test/k/1", headers={"Host": f"{b}.s3.test"})
        creds = Credentials(w.alice.access, w.alice.secret)
        if version == "s3v4":
            botocore.auth.S3SigV4Auth(creds, "s3", REGION).add_auth(request)
        else:
            date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
            mac = hmac.new(w.alice.secret.encode(), f"GET\n\n\n{date}\n/{b}/k/1".encode(), "sha1").digest()
            request.headers["Date"] = date
            request.headers["Authorization"] = f"AWS {w.alice.access}:" + base64.b64encode(mac).decode()
        status, _, body = w.raw("GET", "/k/1", dict(request.headers))
        assert status == 200 and body == b"v", (version, status, body)


@test
def continue_after_refusal(w):
    """A PUT that is refused must not have sent its body."""
    c = w.client()
    b = w.bucket(c)
    c.put_object(Bucket=b, Key="k", Body=b"v")
    url = c.generate_presigned_url("put_object", Params={"Bucket": b, "Key": "k", "IfNoneMatch": "*"}, ExpiresIn=60)
    path = url.split(w.host)[1]
    for p, headers, want in ((path, "If-None-Match: *\r\n", b"412"), (path.replace("/k?", "/x?"), "", b"403")):
        s = socket.create_connection(w.host.split(":"))
        s.settimeout(10)
        s.sendall(f"PUT {p} HTTP/1.1\r\nHost: {w.host}\r\nContent-Length: 1000000000\r\n{headers}Expect: 100-continue\r\n\r\n".encode())
        first = s.recv(4096).split(b"\r\n")[0]
        assert want in first and b"100" not in first.split()[1:2], first
        s.close()
    url = c.generate_presigned_url("put_object", Params={"Bucket": b, "Key": "fine"}, ExpiresIn=60)
    s = socket.create_connection(w.host.split(":"))
    s.settimeout(10)
    s.sendall(f"PUT {url.split(w.host)[1]} HTTP/1.1\r\nHost: {w.host}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n".encode())
    assert s.recv(4096).startswith(b"HTTP/1.1 100")
    s.sendall(b"hello")
    assert s.recv(4096).startswith(b"HTTP/1.1 200")
    s.close()
    assert c.get_object(Bucket=b, Key="fine")["Body"].read() == b"hello"


@test
def bad_input(w):
    c = w.client()
    b = w.bucket(c, ACL="public-read-write")
    for method, path, headers, body, status, code in (
            ("PUT", f"/{b}/x", {"Transfer-Encoding": "chunked"}, None, 411, b"MissingContentLength"),
            ("PUT", f"/{b}/x", {"Content-Length": "99999999999999"}, None, 400, b"EntityTooLarge"),
            ("POST", f"/{b}?delete", {"Content-MD5": base64.b64encode(hashlib.md5(b"<Delete>").digest()).decode()}, b"<Delete>", 400, b"MalformedXML"),
            ("POST", f"/{b}?delete", {}, b"<Delete/>", 400, b"InvalidRequest"),
            ("GET", f"/{b}?max-keys=x", {}, None, 400, b"InvalidArgument"),
            ("GET", f"/{b}?encoding-type=zip", {}, None, 400, b"InvalidArgument"),
            ("GET", f"/{b}/%zz", {}, None, 400, b"InvalidURI"),
            ("PATCH", f"/{b}/k", {}, None, 405, b"MethodNotAllowed"),
            ("PUT", f"/{b}/x", {"x-amz-server-side-encryption": "ROT13", "Content-Length": "0"}, None, 400, b"InvalidArgument"),
            ("PUT", f"/{b}/x", {"x-amz-storage-class": "FAST", "Content-Length": "0"}, None, 400, b"InvalidStorageClass"),
            ("PUT", f"/{b}/x", {"x-amz-meta-a": "x" * 3000, "Content-Length": "0"}, None, 400, b"MetadataTooLarge"),
            ("PUT", f"/{b}/x?partNumber=1&uploadId=nope", {"Content-Length": "0"}, None, 404, b"NoSuchUpload"),
            ("GET", f"/{b}?lifecycle", {}, None, 403, b"AccessDenied")):
        got, h, text = w.raw(method, path, headers, body)
        assert got == status and code in text, (method, path, got, text)
        assert b"<RequestId>" in text and h.get("x-amz-request-id")
    # half a body, then gone: nothing is left
    s = socket.create_connection(w.host.split(":"))
    s.sendall(f"PUT /{b}/half HTTP/1.1\r\nHost: {w.host}\r\nContent-Length: 1000000\r\n\r\n".encode() + b"x" * 500000)
    s.close()
    time.sleep(0.3)
    assert w.raw("GET", f"/{b}/half")[0] == 404


# ---- command line clients

def run(*command, env=None, ok=True, **more):
    done = subprocess.run([str(x) for x in command], capture_output=True, text=True, env=env, timeout=300, **more)
    if ok and done.returncode != 0:
        raise AssertionError(f"{command}: {done.stdout}\n{done.stderr}")
    return done.stdout


def tree(folder):
    random.seed(7)
    for n in range(40):
        path = os.path.join(folder, f"d{n % 5}", f"e {n % 3}", f"f-{n}.bin")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(random.randbytes(random.choice((0, 10, 5000, 200000))))
    with open(os.path.join(folder, "big.bin"), "wb") as f:
        f.write(random.randbytes(18 << 20))


@test
def aws_cli(w):
    if not shutil.which("aws"):
        return print("  no aws CLI")
    env = w.environment()
    b = f"cli-{os.getpid()}-{random.randrange(1 << 32):x}"
    with tempfile.TemporaryDirectory() as up, tempfile.TemporaryDirectory() as down:
        tree(up)
        run("aws", "s3", "mb", f"s3://{b}", env=env)
        run("aws", "s3", "sync", "--quiet", up, f"s3://{b}/x", env=env)
        run("aws", "s3", "sync", "--quiet", f"s3://{b}/x", down, env=env)
        run("diff", "-r", up, down)
        os.remove(os.path.join(up, "big.bin"))
        with open(os.path.join(up, "d0", "new"), "w") as f:
            f.write("changed")
        run("aws", "s3", "sync", "--quiet", "--delete", up, f"s3://{b}/x", env=env)
        assert "big.bin" not in run("aws", "s3", "ls", "--recursive", f"s3://{b}", env=env)
        run("aws", "s3", "mv", "--quiet", f"s3://{b}/x/d0/new", f"s3://{b}/y", env=env)
        url = run("aws", "s3", "presign", f"s3://{b}/y", env=env).strip()
        assert run("curl", "-sS", url) == "changed"
        run("aws", "s3", "rb", "--force", f"s3://{b}", env=env)


@test
def s3cmd(w):
    if not shutil.which("s3cmd"):
        return print("  no s3cmd")
    b = f"s3cmd-{os.getpid()}-{random.randrange(1 << 32):x}"
    with tempfile.TemporaryDirectory() as up, tempfile.TemporaryDirectory() as down, tempfile.NamedTemporaryFile("w") as cfg:
        for v2 in (False, True):
            cfg.seek(0)
            cfg.truncate()
            cfg.write(f"[default]\naccess_key = {w.alice.access}\nsecret_key = {w.alice.secret}\nhost_base = {w.host}\nhost_bucket = {w.host}\n"
                      f"use_https = False\nsignature_v2 = {v2}\nbucket_location = {REGION}\nmultipart_chunk_size_mb = 5\n")
            cfg.flush()
            s3 = lambda *a: run("s3cmd", "-c", cfg.name, "-q", *a)
            tree(up)
            s3("mb", f"s3://{b}")
            s3("sync", up + "/", f"s3://{b}/x/")
            shutil.rmtree(down)
            os.mkdir(down)
            s3("sync", f"s3://{b}/x/", down + "/")
            run("diff", "-r", up, down)
            s3("setacl", "--acl-public", f"s3://{b}/x/big.bin")
            assert len(w.raw("GET", f"/{b}/x/big.bin")[2]) == 18 << 20
            s3("setacl", "--acl-private", f"s3://{b}/x/big.bin")
            assert w.raw("GET", f"/{b}/x/big.bin")[0] == 403
            assert "18874368" in run("s3cmd", "-c", cfg.name, "info", f"s3://{b}/x/big.bin")
            run("s3cmd", "-c", cfg.name, "info", f"s3://{b}")
            s3("cp", f"s3://{b}/x/big.bin", f"s3://{b}/copy with space")
            s3("del", "-r", "-f", f"s3://{b}/")
            s3("rb", f"s3://{b}")


@test
def rclone(w):
    if not shutil.which("rclone"):
        return print("  no rclone")
    # A bundle of certificates from the environment, which rclone's client does not take, is for nothing here.
    outside = {k: v for k, v in os.environ.items() if k != "AWS_CA_BUNDLE"}
    env = dict(outside, RCLONE_CONFIG="/dev/null", RCLONE_CONFIG_W_TYPE="s3", RCLONE_CONFIG_W_PROVIDER="Other", RCLONE_CONFIG_W_REGION=REGION,
               RCLONE_CONFIG_W_ACCESS_KEY_ID=w.alice.access, RCLONE_CONFIG_W_SECRET_ACCESS_KEY=w.alice.secret, RCLONE_CONFIG_W_ENDPOINT=w.endpoint)
    b = f"w:rclone-{os.getpid()}-{random.randrange(1 << 32):x}"
    with tempfile.TemporaryDirectory() as up:
        tree(up)
        run("rclone", "mkdir", b, env=env)
        run("rclone", "copy", "--s3-upload-cutoff", "6M", up, b + "/x", env=env)
        run("rclone", "check", "--download", up, b + "/x", env=env)
        run("rclone", "touch", b + "/x/big.bin", env=env)
        run("rclone", "move", b + "/x", b + "/y", env=env)
        run("rclone", "check", up, b + "/y", env=env)
        run("rclone", "purge", b, env=env)


def main():
    own = None
    if "KARRI_S3_ENDPOINT" in os.environ:
        w = World(os.environ["KARRI_S3_ENDPOINT"], *(Account(os.environ["KARRI_S3_" + n]) for n in ("ALICE", "BOB", "SYSTEM")))
    else:
        from walrus_server import Walrus
        own = Walrus()
        w = World(own.endpoint, *(Account(f"{a.access}:{a.secret}:{a.canonical}:{a.id}") for a in (own.alice, own.bob, own.system)))
    wanted = sys.argv[1:]
    failed = 0
    for f in TESTS:
        if wanted and not any(x in f.__name__ for x in wanted):
            continue
        began = time.time()
        try:
            f(w)
            print(f"ok     {f.__name__} {time.time() - began:.1f} s", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED {f.__name__} {time.time() - began:.1f} s", flush=True)
            traceback.print_exc(limit=-3)
    if own:
        code, text = own.fsck()
        print(text.strip())
        failed += code != 0
        if failed:
            print(open(f"{own.folder}/walrus.log").read()[-1500:])
        own.stop()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
