"""Records what other people's clients really send: requests/client-*.http, for SigningTests.

Needs curl, s3cmd, and `pip install boto==2.49.0 apache-libcloud`. Each client talks to a socket here that keeps the bytes and answers 500,
so the moment in the file is the moment of the recording.
"""
import os, socket, subprocess, sys, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
KEY, SECRET = "AKIAKARRIEXAMPLE0001", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
seen = []

def serve(listener):
    while True:
        c, _ = listener.accept()
        c.settimeout(3)
        data = b""
        try:
            while b"\r\n\r\n" not in data: data += c.recv(65536)
            head, body = data.split(b"\r\n\r\n", 1)
            headers = {l.split(b":", 1)[0].lower(): l.split(b":", 1)[1].strip() for l in head.split(b"\r\n")[1:]}
            if headers.get(b"expect"): c.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            while len(body) < int(headers.get(b"content-length", 0)): body += c.recv(65536)
            seen.append((head, body))
            c.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        except OSError: pass
        c.close()

listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen(64)
PORT = listener.getsockname()[1]
threading.Thread(target=serve, args=(listener,), daemon=True).start()

def record(name, facts, run):
    seen.clear()
    now = int(time.time())
    try: run()
    except BaseException as e: print(name, type(e).__name__, str(e)[:80])
    time.sleep(0.2)
    if not seen: return print("nothing from", name)
    head, body = seen[0]
    lines = head.decode().split("\r\n")
    method, target, _ = lines[0].split(" ")
    with open(f"{HERE}/requests/client-{name}.http", "wb") as f:
        f.write("\n".join([f"now={now} tls=0 {facts}", f"{method} {target}"] + lines[1:]).encode() + b"\n\n" + body)

def shell(*args, **kw): return lambda: subprocess.run(args, timeout=20, capture_output=True, **kw)

U = f"http://127.0.0.1:{PORT}"
curl = ("curl", "-s", "--user", f"{KEY}:{SECRET}")
record("curl-ec2-post", "service=ec2 kind=v4Header", shell(*curl, "--aws-sigv4", "aws:amz:karri-1:ec2", "-d", "Action=DescribeInstances&Version=2016-11-15", U + "/"))
record("curl-ec2-get", "service=ec2 kind=v4Header", shell(*curl, "--aws-sigv4", "aws:amz:karri-1:ec2", U + "/?Action=DescribeInstances&Version=2016-11-15"))
record("curl-s3-get", "service=s3 kind=v4Header", shell(*curl, "--aws-sigv4", "aws:amz:karri-1:s3", "-H", "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", U + "/bucket/key"))

base = ["s3cmd", "--no-ssl", f"--access_key={KEY}", f"--secret_key={SECRET}", f"--host=127.0.0.1:{PORT}", f"--host-bucket=127.0.0.1:{PORT}", "--region=karri-1", "--config=/dev/null"]
open("/tmp/karri-small.txt", "w").write("hello")
record("s3cmd-ls", "service=s3 kind=v4Header", shell(*base, "ls"))
record("s3cmd-put", "service=s3 kind=v4Header", shell(*base, "put", "/tmp/karri-small.txt", "s3://bucket/a b/ü+.txt"))
record("s3cmd-v2-ls", "service=s3 kind=v2Header", shell(*base, "--signature-v2", "ls", "s3://bucket/a b"))
record("s3cmd-v2-put", "service=s3 kind=v2Header", shell(*base, "--signature-v2", "put", "/tmp/karri-small.txt", "s3://bucket/a b/ü+.txt"))
record("s3cmd-v2-multipart", "service=s3 kind=v2Header", shell(*base, "--signature-v2", "multipart", "s3://bucket"))

import boto, boto.ec2, boto.ec2.regioninfo, boto.s3.connection
boto.config.add_section("Boto"); boto.config.set("Boto", "num_retries", "0")
region = boto.ec2.regioninfo.RegionInfo(name="eucalyptus", endpoint="127.0.0.1")
def ec2(): return boto.ec2.connection.EC2Connection(KEY, SECRET, is_secure=False, port=PORT, region=region, path="/services/Eucalyptus")
record("boto-ec2", "service=ec2 kind=v4Header", lambda: ec2().get_all_instances(filters={"tag:a b": "x*y~"}))
def s3(**kw): return boto.s3.connection.S3Connection(KEY, SECRET, is_secure=False, port=PORT, host="127.0.0.1", path="/services/Walrus", calling_format=boto.s3.connection.OrdinaryCallingFormat())
record("boto-s3-list", "service=s3 kind=v2Header", lambda: s3().get_all_buckets())
record("boto-s3-acl", "service=s3 kind=v2Header", lambda: s3().get_bucket("bucket", validate=False).get_acl())
record("boto-s3-put", "service=s3 kind=v2Header", lambda: s3().get_bucket("bucket", validate=False).new_key("a b/ü+").set_contents_from_string("hello", policy="public-read"))

from libcloud.compute.providers import get_driver
from libcloud.compute.types import Provider
def cloud(**kw): return get_driver(Provider.EUCALYPTUS)(KEY, SECRET, secure=False, host="127.0.0.1", port=PORT, path="/services/Eucalyptus", **kw)
record("libcloud-v2", "service=ec2 kind=v2Query", lambda: cloud().list_nodes())
record("libcloud-tags", "service=ec2 kind=v2Query", lambda: cloud().ex_create_tags(type("N", (), {"id": "i-12345678"})(), {"a b": "ü+*"}))
def amazon(**kw):
    d = get_driver(Provider.EC2)(KEY, SECRET, region="us-east-1", secure=False, host="127.0.0.1", port=PORT, **kw)
    return d
record("libcloud-ec2", "service=ec2 kind=v2Query", lambda: amazon().list_locations())
record("libcloud-ec2-v4", "service=ec2 kind=v4Header", lambda: amazon(signature_version="4").list_locations())
print(sorted(n for n in os.listdir(HERE + "/requests") if n.startswith("client-")))
