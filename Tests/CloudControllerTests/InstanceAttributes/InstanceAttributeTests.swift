import API
import Domain
import Signing
import Testing

@testable import CloudControllerKit

/// Attributes of an instance, described, changed, and kept to when it is stopped, started and ended.
@Suite struct InstanceAttributeTests {
    @Test func describedWithValues() async throws {
        let cloud = try await CoreCloud()
        let (ec2, op) = (cloud.actions, try await cloud.op)
        let id = try #require(try await cloud.run { $0.userData = Array("hello".utf8) }.first)
        func attribute(_ name: String) async throws -> EC2.DescribeInstanceAttributeResponse {
            try await ec2.describeInstanceAttribute(EC2.DescribeInstanceAttribute(instanceId: id, attribute: name), op)
        }
        #expect(try await attribute("instanceType").instanceType?.value == "t1.micro")
        #expect(try await attribute("userData").userData?.value == Base64.encode(Array("hello".utf8)))
        #expect(try await attribute("disableApiTermination").disableApiTermination?.value == false)
        #expect(try await attribute("disableApiStop").disableApiStop?.value == false)
        #expect(try await attribute("instanceInitiatedShutdownBehavior").instanceInitiatedShutdownBehavior?.value == "terminate")
        #expect(try await attribute("sourceDestCheck").sourceDestCheck?.value == true)
        #expect(try await attribute("groupSet").groups.map(\.groupName) == ["default"])
        #expect(try await attribute("rootDeviceName").rootDeviceName?.value == "/dev/vda")
    }

    @Test func changedWhereItMayBe() async throws {
        let cloud = try await CoreCloud()
        let (ec2, op) = (cloud.actions, try await cloud.op)
        let id = try #require(try await cloud.run().first)
        await cloud.round(3)
        func modify(_ change: (inout EC2.ModifyInstanceAttribute) -> Void) -> EC2.ModifyInstanceAttribute {
            var request = EC2.ModifyInstanceAttribute(instanceId: id)
            change(&request)
            return request
        }
        let type = modify { $0.instanceType = EC2.AttributeValue(value: "m1.small") }
        #expect(await code { _ = try await ec2.modifyInstanceAttribute(type, op) } == "IncorrectInstanceState")
        #expect(await code { _ = try await ec2.modifyInstanceAttribute(modify { _ in }, op) } == "MissingParameter")
        let two = modify { r in
            r.disableApiStop = EC2.AttributeBooleanValue(value: true)
            r.disableApiTermination = EC2.AttributeBooleanValue(value: true)
        }
        #expect(await code { _ = try await ec2.modifyInstanceAttribute(two, op) } == "InvalidParameterCombination")
        // Protected from both ends, then not any more.
        for (attribute, value) in [("disableApiStop", "true"), ("disableApiTermination", "true")] {
            _ = try await ec2.modifyInstanceAttribute(modify { ($0.attribute, $0.value) = (attribute, value) }, op)
        }
        #expect(await code { _ = try await ec2.stopInstances(EC2.StopInstances(instanceIds: [id]), op) } == "OperationNotPermitted")
        #expect(
            await code { _ = try await ec2.terminateInstances(EC2.TerminateInstances(instanceIds: [id]), op) } == "OperationNotPermitted")
        _ = try await ec2.modifyInstanceAttribute(modify { $0.disableApiStop = EC2.AttributeBooleanValue(value: false) }, op)
        _ = try await ec2.stopInstances(EC2.StopInstances(instanceIds: [id]), op)
        await cloud.round(3)
        #expect(try await cloud.state(id) == "stopped")
        _ = try await ec2.modifyInstanceAttribute(type, op)
        _ = try await ec2.modifyInstanceAttribute(
            modify { $0.userData = EC2.BlobAttributeValue(value: Array("new".utf8)) }, op)
        let row = try await cloud.row(id)
        #expect(row.instanceType == "m1.small" && row.memoryMiB == 256 && row.userData == Array("new".utf8))
        let big = modify { $0.instanceType = EC2.AttributeValue(value: "x9.unknown") }
        #expect(await code { _ = try await ec2.modifyInstanceAttribute(big, op) } == "InvalidParameterValue")
        let loose = modify { $0.sourceDestCheck = EC2.AttributeBooleanValue(value: false) }
        #expect(await code { _ = try await ec2.modifyInstanceAttribute(loose, op) } == "UnsupportedOperation")
    }

    /// A node that runs the instance hears of new metadata options; the instance does not look as if it started again.
    @Test func metadataOptionsReachTheNode() async throws {
        let cloud = try await CoreCloud()
        let (ec2, op) = (cloud.actions, try await cloud.op)
        let id = try #require(try await cloud.run().first)
        await cloud.round(3)
        let before = try await cloud.row(id).generation
        let answer = try await ec2.modifyInstanceMetadataOptions(
            EC2.ModifyInstanceMetadataOptions(instanceId: id, httpTokens: "required", httpPutResponseHopLimit: 2), op)
        #expect(answer.instanceMetadataOptions?.httpTokens == "required" && answer.instanceMetadataOptions?.httpPutResponseHopLimit == 2)
        #expect(try await cloud.state(id) == "running")
        #expect(try await cloud.row(id).generation == before + 1)
        await cloud.round(3)
        #expect(try await cloud.state(id) == "running")
        #expect(try await cloud.row(id).facts?.generation == before + 1)
    }

    @Test func whatThereIsNoneOf() async throws {
        let cloud = try await CoreCloud()
        let (ec2, op) = (cloud.actions, try await cloud.op)
        let id = try #require(try await cloud.run().first)
        await cloud.round(3)
        #expect(await code { _ = try await ec2.monitorInstances(EC2.MonitorInstances(instanceIds: [id]), op) } == "UnsupportedOperation")
        #expect(
            try await ec2.unmonitorInstances(EC2.UnmonitorInstances(instanceIds: [id]), op).instanceMonitorings.first?.monitoring?.state
                == "disabled")
        let credits = EC2.ModifyInstanceCreditSpecification(
            instanceCreditSpecifications: [EC2.InstanceCreditSpecificationRequest(instanceId: id, cpuCredits: "unlimited")])
        #expect(
            try await ec2.modifyInstanceCreditSpecification(credits, op).unsuccessfulInstanceCreditSpecifications.first?.error?.code
                == "InstanceCreditSpecification.NotSupported")
        let offerings = try await ec2.describeInstanceTypeOfferings(
            EC2.DescribeInstanceTypeOfferings(
                locationType: "availability-zone", filters: [EC2.Filter(name: "instance-type", values: ["m1.*"])]), op)
        #expect(offerings.instanceTypeOfferings.count == 4 && offerings.instanceTypeOfferings.first?.location == "karri-1a")
        let topology = try await ec2.describeInstanceTopology(EC2.DescribeInstanceTopology(instanceIds: [id]), op).instances
        #expect(topology.first?.networkNodes.count == 3)
        #expect(InstanceAttributeRules.password(onConsole: Array("x <Password>\nQUJD\n</Password> y".utf8)) == "QUJD")
        #expect(InstanceAttributeRules.password(onConsole: Array("x <Password>".utf8)) == "")
    }
}
