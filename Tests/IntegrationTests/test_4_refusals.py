"""Bad input and exhaustion: the documented error, with the numbers, and nothing changed."""

import pytest
from conftest import IMAGES, ZONE, client, error_code, run, until


def test_unknown_and_malformed_ids(ec2):
    assert error_code(ec2.describe_instances, InstanceIds=["i-0000000000000000f"]) == ("InvalidInstanceID.NotFound", 400)
    assert error_code(ec2.describe_instances, InstanceIds=["nonsense"]) == ("InvalidInstanceID.Malformed", 400)
    assert error_code(ec2.terminate_instances, InstanceIds=["i-0000000000000000f"])[0] == "InvalidInstanceID.NotFound"
    assert error_code(ec2.describe_volumes, VolumeIds=["vol-0000000f"])[0] == "InvalidVolume.NotFound"
    assert error_code(ec2.describe_snapshots, SnapshotIds=["snap-0000000f"])[0] == "InvalidSnapshot.NotFound"
    assert error_code(ec2.describe_images, ImageIds=["emi-0000000f"])[0] == "InvalidAMIID.NotFound"
    assert error_code(ec2.describe_security_groups, GroupNames=["no such"])[0] == "InvalidGroup.NotFound"
    assert error_code(ec2.describe_key_pairs, KeyNames=["no such"])[0] == "InvalidKeyPair.NotFound"
    assert error_code(ec2.release_address, PublicIp="198.18.0.250")[0] in ("InvalidAddress.NotFound", "AuthFailure")


def test_unknown_action_is_named(ec2):
    assert error_code(ec2.describe_trunk_interface_associations) == ("InvalidAction", 400)


def test_run_with_wrong_parameters(ec2):
    def refused(**changes):
        arguments = dict(ImageId=IMAGES["KARRI_IMAGE"], InstanceType="t1.micro", MinCount=1, MaxCount=1)
        arguments.update(changes)
        return error_code(ec2.run_instances, **arguments)[0]

    assert refused(ImageId="emi-0000000f") == "InvalidAMIID.NotFound"
    assert refused(KeyName="no such") == "InvalidKeyPair.NotFound"
    assert refused(SecurityGroups=["no such"]) == "InvalidGroup.NotFound"
    assert refused(InstanceType="t1.mega") in ("InvalidParameterValue", "InvalidInstanceType")
    assert refused(MinCount=2, MaxCount=1) in ("InvalidParameterValue", "InvalidParameterCombination")
    assert refused(Placement={"AvailabilityZone": "nowhere"}) in ("InvalidParameterValue", "InvalidZone.NotFound")
    assert refused(UserData="x" * 20_000) == "InvalidParameterValue"
    assert refused(ImageId=IMAGES["KARRI_KERNEL"]) in ("InvalidParameterValue", "InvalidAMIID.Malformed", "InvalidParameterCombination", "InvalidAMIID.NotFound")
    assert refused(DryRun=True) == "DryRunOperation"


def test_no_capacity_says_the_numbers_and_changes_nothing(ec2):
    before = ec2.describe_instances()["Reservations"]
    with pytest.raises(Exception) as caught:
        ec2.run_instances(ImageId=IMAGES["KARRI_IMAGE"], InstanceType="t1.micro", MinCount=500, MaxCount=500)
    code = caught.value.response["Error"]["Code"]
    assert code in ("InsufficientInstanceCapacity", "InstanceLimitExceeded")
    assert any(c.isdigit() for c in caught.value.response["Error"]["Message"])
    largest = max(ec2.describe_instance_types()["InstanceTypes"], key=lambda t: (t["VCpuInfo"]["DefaultVCpus"], t["MemoryInfo"]["SizeInMiB"]))
    with pytest.raises(Exception) as caught:
        ec2.run_instances(ImageId=IMAGES["KARRI_IMAGE"], InstanceType=largest["InstanceType"], MinCount=1, MaxCount=1)
    response = caught.value.response
    assert response["Error"]["Code"] == "InsufficientInstanceCapacity" and response["ResponseMetadata"]["HTTPStatusCode"] >= 500
    assert "node1" in response["Error"]["Message"] and "free" in response["Error"]["Message"]
    after = ec2.describe_instances()["Reservations"]
    assert [r["ReservationId"] for r in after] == [r["ReservationId"] for r in before]


def test_no_addresses(ec2):
    taken = []
    try:
        for _ in range(300):
            try:
                taken.append(ec2.allocate_address()["PublicIp"])
            except Exception as error:
                assert error.response["Error"]["Code"] in ("InsufficientAddressCapacity", "AddressLimitExceeded")
                assert any(c.isdigit() for c in error.response["Error"]["Message"])
                break
        else:
            raise AssertionError("300 addresses of a /24")
    finally:
        for address in taken:
            ec2.release_address(PublicIp=address)


def test_no_room_for_a_volume(ec2):
    with pytest.raises(Exception) as caught:
        ec2.create_volume(Size=16_000, AvailabilityZone=ZONE)
    assert any(c.isdigit() for c in caught.value.response["Error"]["Message"])
    assert not [v for v in ec2.describe_volumes()["Volumes"] if v["Size"] == 16_000 and v["State"] != "error"]


def test_too_large_and_malformed_requests():
    import os

    endpoint = os.environ["AWS_ENDPOINT_URL_EC2"]
    for data in ["Action=DescribeInstances", "=", "&&&", "Action=%zz", "Action=DescribeInstances&Action=RunInstances"]:
        status = run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", data, endpoint)
        assert status.startswith("4"), (data, status)
    status = run("bash", "-c", f"head -c 3000000 /dev/zero | tr '\\0' a | curl -s -o /dev/null -w '%{{http_code}}' --data-binary @- {endpoint}", check=False).stdout
    assert status in ("400", "413", "000", "401")
    assert until("still alive", 10, lambda: client("ec2").describe_regions()["Regions"])


def test_key_and_group_rules(ec2):
    ec2.create_key_pair(KeyName="twice")
    assert error_code(ec2.create_key_pair, KeyName="twice") == ("InvalidKeyPair.Duplicate", 400)
    ec2.delete_key_pair(KeyName="twice")
    ec2.delete_key_pair(KeyName="twice")
    group = ec2.create_security_group(GroupName="rules", Description="x")["GroupId"]
    assert error_code(ec2.create_security_group, GroupName="rules", Description="x") == ("InvalidGroup.Duplicate", 400)
    rule = dict(GroupId=group, IpProtocol="tcp", FromPort=80, ToPort=81, CidrIp="10.0.0.0/8")
    ec2.authorize_security_group_ingress(**rule)
    assert error_code(ec2.authorize_security_group_ingress, **rule) == ("InvalidPermission.Duplicate", 400)
    permission = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"]
    assert permission[0]["FromPort"] == 80 and permission[0]["IpRanges"][0]["CidrIp"] == "10.0.0.0/8"
    ec2.revoke_security_group_ingress(**rule)
    assert error_code(ec2.authorize_security_group_ingress, **{**rule, "CidrIp": "10.0.0.0/99"})[0] == "InvalidParameterValue"
    ec2.delete_security_group(GroupId=group)


def test_tags(ec2):
    volume = ec2.create_volume(Size=1, AvailabilityZone=ZONE, TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "1"}]}])["VolumeId"]
    ec2.create_tags(Resources=[volume], Tags=[{"Key": "b", "Value": "2"}])
    found = ec2.describe_volumes(Filters=[{"Name": "tag:b", "Values": ["2"]}])["Volumes"]
    assert [v["VolumeId"] for v in found] == [volume]
    assert {t["Key"]: t["Value"] for t in ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [volume]}])["Tags"]} == {"a": "1", "b": "2"}
    ec2.delete_tags(Resources=[volume], Tags=[{"Key": "a"}])
    assert [t["Key"] for t in ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["Tags"]] == ["b"]
    assert error_code(ec2.create_tags, Resources=[volume], Tags=[{"Key": "aws:x", "Value": "1"}])[0] in ("InvalidParameterValue", "TagPolicyViolation")
    until("available", 20, lambda: ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available")
    ec2.delete_volume(VolumeId=volume)
