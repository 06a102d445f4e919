"""Walrus by stock clients: boto3, aws CLI, s3cmd."""

import hashlib
import os
import urllib.request
import urllib.error

import pytest
from conftest import HOME, client, error_code, run


@pytest.fixture(scope="module")
def bucket(s3):
    s3.create_bucket(Bucket="it-bucket")
    yield "it-bucket"
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="it-bucket"):
        for item in page.get("Contents", []):
            s3.delete_object(Bucket="it-bucket", Key=item["Key"])
    s3.delete_bucket(Bucket="it-bucket")


def test_put_get_head_range(s3, bucket):
    body = os.urandom(300_000)
    put = s3.put_object(Bucket=bucket, Key="a/b ü%2F+", Body=body, Metadata={"colour": "karri"}, ContentType="x/y")
    assert put["ETag"].strip('"') == hashlib.md5(body).hexdigest()
    got = s3.get_object(Bucket=bucket, Key="a/b ü%2F+")
    assert got["Body"].read() == body and got["Metadata"] == {"colour": "karri"} and got["ContentType"] == "x/y"
    part = s3.get_object(Bucket=bucket, Key="a/b ü%2F+", Range="bytes=100-199")
    assert part["Body"].read() == body[100:200] and part["ContentRange"] == "bytes 100-199/300000"
    assert error_code(s3.get_object, Bucket=bucket, Key="a/b ü%2F+", Range="bytes=400000-")[0] == "InvalidRange"
    assert s3.head_object(Bucket=bucket, Key="a/b ü%2F+")["ContentLength"] == 300_000


def test_conditional_requests(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="once", Body=b"1", IfNoneMatch="*")["ETag"]
    assert error_code(s3.put_object, Bucket=bucket, Key="once", Body=b"2", IfNoneMatch="*") == ("PreconditionFailed", 412)
    assert error_code(s3.get_object, Bucket=bucket, Key="once", IfNoneMatch=etag)[1] == 304
    s3.put_object(Bucket=bucket, Key="once", Body=b"3", IfMatch=etag)
    assert error_code(s3.put_object, Bucket=bucket, Key="once", Body=b"4", IfMatch=etag) == ("PreconditionFailed", 412)


def test_multipart(s3, bucket, tmp_path):
    big = tmp_path / "big"
    big.write_bytes(os.urandom(20 * 1024 * 1024))
    s3.upload_file(str(big), bucket, "big")
    back = tmp_path / "back"
    s3.download_file(bucket, "big", str(back))
    assert back.read_bytes() == big.read_bytes()
    assert s3.head_object(Bucket=bucket, Key="big")["ETag"].strip('"').endswith("-3")


def test_lists(s3, bucket):
    for name in ["l/1", "l/2", "l/d/3", "l/d/4", "l/é"]:
        s3.put_object(Bucket=bucket, Key=name, Body=b"")
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="l/", Delimiter="/")
    assert [c["Key"] for c in listed["Contents"]] == ["l/1", "l/2", "l/é"]
    assert [p["Prefix"] for p in listed["CommonPrefixes"]] == ["l/d/"]
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="l/", PaginationConfig={"PageSize": 2})
    assert [c["Key"] for page in pages for c in page["Contents"]] == ["l/1", "l/2", "l/d/3", "l/d/4", "l/é"]
    assert [c["Key"] for c in s3.list_objects(Bucket=bucket, Prefix="l/", Marker="l/2")["Contents"]] == ["l/d/3", "l/d/4", "l/é"]


def test_presigned(s3, bucket):
    s3.put_object(Bucket=bucket, Key="shared", Body=b"shared with a link")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "shared"}, ExpiresIn=60)
    assert urllib.request.urlopen(url, timeout=20).read() == b"shared with a link"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url.replace("shared", "once"), timeout=20)
    assert caught.value.code == 403 and b"SignatureDoesNotMatch" in caught.value.read()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url.split("?")[0], timeout=20)
    assert caught.value.code == 403


def test_refusals(s3, bucket):
    assert error_code(s3.get_object, Bucket=bucket, Key="nothing") == ("NoSuchKey", 404)
    assert error_code(s3.list_objects_v2, Bucket="no-such-bucket-here") == ("NoSuchBucket", 404)
    assert error_code(s3.delete_bucket, Bucket=bucket) == ("BucketNotEmpty", 409)
    assert error_code(s3.put_object, Bucket=bucket, Key="bad", Body=b"x", ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==")[0] == "BadDigest"
    wrong = client("s3", aws_secret_access_key="wrong", aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"])
    assert error_code(wrong.list_buckets) == ("SignatureDoesNotMatch", 403)
    nobody = client("s3", aws_access_key_id="AKIANOBODY", aws_secret_access_key="x")
    assert error_code(nobody.list_buckets) == ("InvalidAccessKeyId", 403)


def test_aws_cli(bucket, tmp_path):
    source = tmp_path / "file"
    source.write_bytes(os.urandom(9 * 1024 * 1024))
    run("aws", "s3", "cp", "--no-progress", source, f"s3://{bucket}/cli/file")
    run("aws", "s3", "cp", "--no-progress", f"s3://{bucket}/cli/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert "cli/" in run("aws", "s3", "ls", f"s3://{bucket}/")


def test_s3cmd(bucket, tmp_path):
    s3cmd = ["s3cmd", "-c", str(HOME / "admin/s3cfg")]
    source = tmp_path / "file"
    source.write_bytes(os.urandom(16 * 1024 * 1024))
    run(*s3cmd, "put", source, f"s3://{bucket}/s3cmd/file")
    run(*s3cmd, "get", f"s3://{bucket}/s3cmd/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert f"s3://{bucket}/s3cmd/file" in run(*s3cmd, "ls", f"s3://{bucket}/s3cmd/")
    run(*s3cmd, "del", f"s3://{bucket}/s3cmd/file")
