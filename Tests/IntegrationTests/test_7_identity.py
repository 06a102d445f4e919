"""Users, groups, roles and sessions as boto3 sees them: what a policy says holds at EC2 at once."""

import json
import os
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError
from conftest import client, error_code


def policy(action, effect="Allow", resource="*", **more):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": action, "Resource": resource, **more}]})


def with_keys(service, key):
    return client(
        service, aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"], aws_session_token=key.get("SessionToken"))


@pytest.fixture(scope="module")
def iam():
    return client("iam")


@pytest.fixture(scope="module")
def user(iam):
    name = f"alice-{os.getpid()}"
    iam.create_user(UserName=name, Tags=[{"Key": "team", "Value": "red"}])
    key = iam.create_access_key(UserName=name)["AccessKey"]
    yield name, key
    for policy_name in iam.list_user_policies(UserName=name)["PolicyNames"]:
        iam.delete_user_policy(UserName=name, PolicyName=policy_name)
    for group in iam.list_groups_for_user(UserName=name)["Groups"]:
        iam.remove_user_from_group(UserName=name, GroupName=group["GroupName"])
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName=name)


def test_a_policy_and_a_group(iam, user):
    name, key = user
    ec2 = with_keys("ec2", key)
    assert error_code(ec2.describe_instances) == ("UnauthorizedOperation", 403)
    iam.put_user_policy(UserName=name, PolicyName="look", PolicyDocument=policy("ec2:Describe*"))
    ec2.describe_instances()
    assert iam.get_user_policy(UserName=name, PolicyName="look")["PolicyDocument"]["Statement"][0]["Action"] == "ec2:Describe*"
    group = f"makers-{os.getpid()}"
    iam.create_group(GroupName=group)
    iam.attach_group_policy(GroupName=group, PolicyArn="arn:aws:iam::aws:policy/AmazonEC2FullAccess")
    iam.add_user_to_group(GroupName=group, UserName=name)
    pair = f"identity-{os.getpid()}"
    ec2.create_key_pair(KeyName=pair)
    ec2.delete_key_pair(KeyName=pair)
    iam.remove_user_from_group(GroupName=group, UserName=name)
    with pytest.raises(ClientError) as caught:
        ec2.create_key_pair(KeyName=pair)
    message = caught.value.response["Error"]["Message"]
    decoded = client("sts").decode_authorization_message(EncodedMessage=message.rsplit(" ", 1)[1])["DecodedMessage"]
    assert json.loads(decoded)["context"]["action"] == "ec2:CreateKeyPair"
    iam.detach_group_policy(GroupName=group, PolicyArn="arn:aws:iam::aws:policy/AmazonEC2FullAccess")
    iam.delete_group(GroupName=group)
    simulated = iam.simulate_principal_policy(
        PolicySourceArn=iam.get_user(UserName=name)["User"]["Arn"], ActionNames=["ec2:DescribeVolumes", "ec2:CreateVolume"])
    assert [r["EvalDecision"] for r in simulated["EvaluationResults"]] == ["allowed", "implicitDeny"]


def test_a_role_and_its_session(iam, user):
    name, key = user
    me = with_keys("sts", key).get_caller_identity()
    assert me["Arn"].endswith(f":user/{name}")
    role = f"reader-{os.getpid()}"
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": me["Arn"]}, "Action": "sts:AssumeRole"}]}
    arn = iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    iam.put_role_policy(RoleName=role, PolicyName="look", PolicyDocument=policy("ec2:Describe*"))
    assert iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"] == trust
    session = with_keys("sts", key).assume_role(RoleArn=arn, RoleSessionName="work")["Credentials"]
    assert with_keys("sts", session).get_caller_identity()["Arn"].endswith(f":assumed-role/{role}/work")
    ec2 = with_keys("ec2", session)
    ec2.describe_volumes()
    narrow = with_keys("sts", key).assume_role(RoleArn=arn, RoleSessionName="narrow", Policy=policy("ec2:DescribeVolumes"))["Credentials"]
    with_keys("ec2", narrow).describe_volumes()
    assert error_code(with_keys("ec2", narrow).describe_instances) == ("UnauthorizedOperation", 403)
    assert error_code(iam.delete_role, RoleName=role) == ("DeleteConflict", 409)
    iam.delete_role_policy(RoleName=role, PolicyName="look")
    assert error_code(ec2.describe_volumes) == ("UnauthorizedOperation", 403)
    iam.delete_role(RoleName=role)
    assert error_code(ec2.describe_volumes) == ("AuthFailure", 401)


def test_paginators_and_managed_policies(iam):
    names = [f"page-{os.getpid()}-{n}" for n in range(5)]
    for name in names:
        iam.create_user(UserName=name, Path="/page/")
    try:
        found = [u["UserName"] for page in iam.get_paginator("list_users").paginate(PathPrefix="/page/", PaginationConfig={"PageSize": 2}) for u in page["Users"]]
        assert found == names
    finally:
        for name in names:
            iam.delete_user(UserName=name)
    made = iam.create_policy(PolicyName=f"p-{os.getpid()}", PolicyDocument=policy("s3:*"))["Policy"]
    assert iam.get_policy_version(PolicyArn=made["Arn"], VersionId="v1")["PolicyVersion"]["Document"]["Statement"][0]["Action"] == "s3:*"
    iam.create_policy_version(PolicyArn=made["Arn"], PolicyDocument=policy("ec2:*"), SetAsDefault=True)
    iam.delete_policy_version(PolicyArn=made["Arn"], VersionId="v1")
    iam.delete_policy(PolicyArn=made["Arn"])
    assert iam.get_account_summary()["SummaryMap"]["UsersQuota"] == 5000
    assert any(p["PolicyName"] == "AdministratorAccess" for p in iam.list_policies(Scope="AWS")["Policies"])


def test_accounts(iam):
    account = f"guest-{os.getpid()}"
    # boto3's model has no CreateAccount: the request is signed by hand, as euca2ools signs it.
    session = boto3.session.Session()

    def euare(**parameters):
        request = AWSRequest("POST", iam.meta.endpoint_url, data=urlencode({"Version": "2010-05-08", **parameters}),
                             headers={"Content-Type": "application/x-www-form-urlencoded"})
        SigV4Auth(session.get_credentials(), "iam", "karri-1").add_auth(request)
        prepared = request.prepare()
        return urlopen(Request(prepared.url, data=prepared.body.encode() if isinstance(prepared.body, str) else prepared.body, headers=dict(prepared.headers))).read().decode()

    reply = euare(Action="CreateAccount", AccountName=account)
    between = lambda tag: reply.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
    key = {"AccessKeyId": between("AccessKeyId"), "SecretAccessKey": between("SecretAccessKey")}
    assert with_keys("sts", key).get_caller_identity()["Account"] == between("AccountId")
    assert with_keys("ec2", key).describe_instances()["Reservations"] == []
    assert account in euare(Action="ListAccounts")


def test_sessions_at_s3(iam, user):
    """Walrus honours a session's token, what its role may do, and nothing with a token that is not the key's."""
    own = client("s3")
    bucket = f"sessions-{os.getpid()}"
    own.create_bucket(Bucket=bucket)
    own.put_object(Bucket=bucket, Key="k", Body=b"v")
    account = with_keys("s3", client("sts").get_session_token()["Credentials"])
    assert bucket in [b["Name"] for b in account.list_buckets()["Buckets"]]
    name, key = user
    me = with_keys("sts", key).get_caller_identity()
    role = f"s3-reader-{os.getpid()}"
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": me["Arn"]}, "Action": "sts:AssumeRole"}]}
    arn = iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    iam.put_role_policy(RoleName=role, PolicyName="read", PolicyDocument=policy("s3:GetObject"))
    session = with_keys("sts", key).assume_role(RoleArn=arn, RoleSessionName="work")["Credentials"]
    reader = with_keys("s3", session)
    assert reader.get_object(Bucket=bucket, Key="k")["Body"].read() == b"v"
    assert error_code(reader.put_object, Bucket=bucket, Key="k", Body=b"w") == ("AccessDenied", 403)
    other = client("sts").get_session_token()["Credentials"]["SessionToken"]
    assert error_code(with_keys("s3", {**session, "SessionToken": other}).get_object, Bucket=bucket, Key="k") == ("InvalidToken", 400)
    assert error_code(with_keys("s3", {**session, "SessionToken": None}).get_object, Bucket=bucket, Key="k") == ("InvalidAccessKeyId", 403)
    iam.delete_role_policy(RoleName=role, PolicyName="read")
    assert error_code(reader.get_object, Bucket=bucket, Key="k") == ("AccessDenied", 403)
    iam.delete_role(RoleName=role)
    own.delete_object(Bucket=bucket, Key="k")
    own.delete_bucket(Bucket=bucket)
