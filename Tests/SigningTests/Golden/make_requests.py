"""Records what boto3 really sends, at a fixed moment, as golden files for SigningTests (requests/*.http).

Run with any botocore; `pip install boto3`. Format: one line of facts, then the HTTP request with LF line ends, the body as it is.
"""
import datetime, io, os, time, types
from email.utils import formatdate
import boto3, botocore.auth
from botocore.awsrequest import AWSResponse
from botocore.config import Config

HERE = os.path.dirname(os.path.abspath(__file__))
MOMENT = datetime.datetime(2026, 11, 22, 15, 0, 0, tzinfo=datetime.timezone.utc)
EPOCH = int(MOMENT.timestamp())
KEY, SECRET = "AKIAKARRIEXAMPLE0001", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

botocore.auth.get_current_datetime = lambda *a, **k: MOMENT.replace(tzinfo=None)
botocore.auth.formatdate = lambda *a, **k: formatdate(EPOCH, usegmt=True)
botocore.auth.time = types.SimpleNamespace(
    time=lambda: EPOCH, gmtime=lambda *a: time.gmtime(EPOCH), strftime=time.strftime, mktime=time.mktime)

class Raw(io.BytesIO):
    def stream(self, *a, **k): yield b""

def record(name, facts, request):
    body = request.body
    if hasattr(body, "read"): body = body.read()
    if isinstance(body, str): body = body.encode()
    body = body or b""
    scheme, rest = request.url.split("://", 1)
    host, slash, target = rest.partition("/")
    lines = [f"now={EPOCH} tls={int(scheme == 'https')} {facts}", f"{request.method} /{target}"]
    headers = dict(request.headers)
    lower = {k.lower() for k in headers}
    if "host" not in lower: lines.append(f"Host: {host}")
    for k, v in headers.items():
        v = v.decode() if isinstance(v, bytes) else str(v)
        lines.append(f"{k}: {v}")
    with open(f"{HERE}/requests/{name}.http", "wb") as f:
        f.write("\n".join(lines).encode() + b"\n\n" + body)

def client(service, url, **kw):
    token = kw.pop("token", None)
    region = kw.pop("region", "karri-1")
    return boto3.client(service, endpoint_url=url, region_name=region, aws_access_key_id=KEY, aws_secret_access_key=SECRET,
                        aws_session_token=token, config=Config(retries={"max_attempts": 0}, **kw))

def call(name, facts, c, operation, **args):
    def hook(request, **kw):
        record(name, facts, request)
        return AWSResponse(request.url, 500, {}, Raw(b""))
    c.meta.events.register_last("before-send.*.*", hook)
    try: getattr(c, operation)(**args)
    except Exception as e: pass

EC2 = "http://127.0.0.1:8773/"
run = dict(ImageId="emi-12345678", MinCount=1, MaxCount=2, UserData="a+b c&d=é~*", KeyName="my key")
call("ec2-v4-run", "service=ec2 kind=v4Header", client("ec2", EC2), "run_instances", **run)
call("ec2-v4-describe-path", "service=ec2 kind=v4Header", client("ec2", EC2 + "services/compute/"), "describe_instances",
     InstanceIds=["i-12345678"], Filters=[{"Name": "tag:a b", "Values": ["x*y", "ü"]}])
call("ec2-v4-token", "service=ec2 kind=v4Header", client("ec2", EC2, token="TOKEN/+=="), "describe_images")
call("ec2-v4-odd-region", "service=ec2 kind=v4Header", client("ec2", EC2, region="undefined-4711"), "describe_zones" if False else "describe_availability_zones")
call("ec2-v2-run", "service=ec2 kind=v2Query", client("ec2", EC2, signature_version="v2"), "run_instances", **run)
call("ec2-v2-path", "service=ec2 kind=v2Query", client("ec2", EC2 + "services/Eucalyptus", signature_version="v2"), "describe_instances",
     Filters=[{"Name": "tag:a b", "Values": ["x*y", "ü+1"]}])
call("ec2-v2-token", "service=ec2 kind=v2Query", client("ec2", EC2, signature_version="v2", token="TOKEN/+=="), "describe_images")
call("sts-v4-caller", "service=ec2 kind=v4Header", client("sts", EC2 + "services/Tokens"), "get_caller_identity")
call("iam-v4-user", "service=ec2 kind=v4Header", client("iam", EC2 + "services/Euare"), "get_user", UserName="joe+1@example.com")
sts = client("sts", "http://127.0.0.1:8773")
url = sts.generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET")
def presigned(name, facts, method, url, headers={}, body=b""):
    record(name, facts, types.SimpleNamespace(url=url, method=method, headers=headers, body=body))
presigned("sts-v4-presigned", "service=ec2 kind=v4Query", "GET", url)

S3 = "http://127.0.0.1:8778"
ODD = "a b+c/ü//x/../y~!'()*;,:@&=$.txt"
path = {"s3": {"addressing_style": "path"}}
virt = {"s3": {"addressing_style": "virtual"}}
def s3(url=S3, style=path, **kw): return client("s3", url, **style, **kw)
call("s3-v4-get-odd-key", "service=s3 kind=v4Header", s3(), "get_object", Bucket="bucket", Key=ODD, Range="bytes=0-9")
call("s3-v4-put", "service=s3 kind=v4Header", s3(), "put_object", Bucket="bucket", Key="k", Body=b"hello world", ContentType="text/plain",
     Metadata={"colour": "dark  blue"}, ACL="public-read")
call("s3-v4-put-service-path", "service=s3 kind=v4Header", s3("http://127.0.0.1:8778/services/objectstorage"), "put_object", Bucket="bucket", Key="k", Body=b"hello")
call("s3-v4-list", "service=s3 kind=v4Header", s3(), "list_objects_v2", Bucket="bucket", Prefix="a b/+ü", Delimiter="/", StartAfter="~*")
call("s3-v4-acl", "service=s3 kind=v4Header", s3(), "get_bucket_acl", Bucket="bucket")
call("s3-v4-upload-part", "service=s3 kind=v4Header", s3(), "upload_part", Bucket="bucket", Key="k/2", UploadId="a+b/c==", PartNumber=3, Body=b"part")
call("s3-v4-virtual-host", "service=s3 kind=v4Header", s3("http://s3.cloud.internal:8778", virt), "get_object", Bucket="bucket", Key="k")
call("s3-v4-token", "service=s3 kind=v4Header", s3(token="TOKEN/+=="), "list_buckets")
call("s3-v4-trailer-unsigned", "service=s3 kind=v4Header", s3("https://s3.cloud.internal"), "put_object", Bucket="bucket", Key="k", Body=io.BytesIO(b"hello world" * 1000))
call("s3-v4-unsigned-payload", "service=s3 kind=v4Header", s3("https://s3.cloud.internal", {"s3": {"addressing_style": "path", "payload_signing_enabled": False}}),
     "upload_part", Bucket="bucket", Key="k", UploadId="u", PartNumber=1, Body=b"hello", ChecksumAlgorithm="CRC32")
v4 = s3(signature_version="s3v4")
presigned("s3-v4-presigned-get", "service=s3 kind=v4Query", "GET",
     v4.generate_presigned_url("get_object", Params=dict(Bucket="bucket", Key=ODD, ResponseContentDisposition="attachment; filename=\"a b.txt\""), ExpiresIn=3600))
presigned("s3-v4-presigned-put", "service=s3 kind=v4Query", "PUT",
     v4.generate_presigned_url("put_object", Params=dict(Bucket="bucket", Key="k", ContentType="text/plain"), ExpiresIn=600),
     {"Content-Type": "text/plain"}, b"any body")
presigned("s3-v4-presigned-token", "service=s3 kind=v4Query", "GET",
     s3(token="TOKEN/+==", signature_version="s3v4").generate_presigned_url("get_object", Params=dict(Bucket="bucket", Key="k"), ExpiresIn=604800))
call("s3-v2-get-odd-key", "service=s3 kind=v2Header", s3(signature_version="s3"), "get_object", Bucket="bucket", Key=ODD)
call("s3-v2-put", "service=s3 kind=v2Header", s3(signature_version="s3"), "put_object", Bucket="bucket", Key="k", Body=b"hello", ContentType="text/plain",
     Metadata={"colour": "blue", "b": "c"})
call("s3-v2-upload-part", "service=s3 kind=v2Header", s3(signature_version="s3"), "upload_part", Bucket="bucket", Key="k", UploadId="a+b/c==", PartNumber=3, Body=b"part")
call("s3-v2-acl", "service=s3 kind=v2Header", s3(signature_version="s3"), "get_bucket_acl", Bucket="bucket")
call("s3-v2-virtual-host", "service=s3 kind=v2Header bucket=bucket", s3("http://s3.cloud.internal:8778", virt, signature_version="s3"), "get_object", Bucket="bucket", Key="k")
presigned("s3-v2-presigned", "service=s3 kind=v2Query", "GET",
     s3(signature_version="s3").generate_presigned_url("get_object", Params=dict(Bucket="bucket", Key="a b", ResponseContentType="text/html"), ExpiresIn=600))
print(len(os.listdir(f"{HERE}/requests")), "requests")
