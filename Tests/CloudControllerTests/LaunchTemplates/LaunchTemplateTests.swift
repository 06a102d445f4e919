import API
import Domain
import Signing
import Testing
import Wire

@testable import CloudControllerKit

@Suite struct LaunchTemplateTests {
    private static func data(_ type: String, user: String? = nil) -> EC2.RequestLaunchTemplateData {
        EC2.RequestLaunchTemplateData(
            imageId: CoreCloud.image, instanceType: type, userData: user.map { Base64.encode(Array($0.utf8)) },
            tagSpecifications: [
                EC2.LaunchTemplateTagSpecificationRequest(resourceType: "instance", tags: [EC2.Tag(key: "from", value: "template")])
            ])
    }

    @Test func versionsAndLaunches() async throws {
        let cloud = try await CoreCloud()
        let (ec2, op) = (cloud.actions, try await cloud.op)
        let order = EC2.CreateLaunchTemplate(
            clientToken: "t", launchTemplateName: "web", launchTemplateData: Self.data("t1.micro", user: "hello"),
            tagSpecifications: [EC2.TagSpecification(resourceType: "launch-template", tags: [EC2.Tag(key: "a", value: "b")])])
        let id = try #require(try await ec2.createLaunchTemplate(order, op).launchTemplate?.launchTemplateId)
        #expect(try await ec2.createLaunchTemplate(order, op).launchTemplate?.launchTemplateId == id)
        var other = order
        other.clientToken = nil
        #expect(await code { _ = try await ec2.createLaunchTemplate(other, op) } == "InvalidLaunchTemplateName.AlreadyExistsException")

        // Version 2 is version 1 with another type.
        let second = try await ec2.createLaunchTemplateVersion(
            EC2.CreateLaunchTemplateVersion(
                launchTemplateName: "web", sourceVersion: "1", versionDescription: "larger",
                launchTemplateData: EC2.RequestLaunchTemplateData(instanceType: "m1.small")), op
        ).launchTemplateVersion
        #expect(second?.versionNumber == 2 && second?.launchTemplateData?.imageId == CoreCloud.image)
        #expect(second?.launchTemplateData?.instanceType == "m1.small" && second?.defaultVersion == false)

        // By template alone, the default version; what the request says itself counts.
        func run(_ version: String?, _ change: (inout EC2.RunInstances) -> Void = { _ in }) async throws -> EC2.Instance {
            var request = EC2.RunInstances(
                minCount: 1, maxCount: 1, launchTemplate: EC2.LaunchTemplateSpecification(launchTemplateId: id, version: version))
            change(&request)
            return try #require(try await ec2.runInstances(request, op).instances.first)
        }
        let first = try await run(nil)
        #expect(first.instanceType == "t1.micro" && first.tags == [EC2.Tag(key: "from", value: "template")])
        #expect(try await cloud.row(first.instanceId ?? "").userData == Array("hello".utf8))
        #expect(try await run("$Latest").instanceType == "m1.small")
        #expect(try await run("2") { $0.instanceType = "t1.micro" }.instanceType == "t1.micro")
        #expect(await code { _ = try await run("7") } == "InvalidLaunchTemplateId.VersionNotFound")

        #expect(
            try await ec2.modifyLaunchTemplate(
                EC2.ModifyLaunchTemplate(launchTemplateId: id, defaultVersion: "2"), op
            ).launchTemplate?.defaultVersionNumber == 2)
        let gone = try await ec2.deleteLaunchTemplateVersions(
            EC2.DeleteLaunchTemplateVersions(launchTemplateId: id, versions: ["1", "2"]), op)
        #expect(gone.successfullyDeletedLaunchTemplateVersions.map(\.versionNumber) == [1])
        #expect(gone.unsuccessfullyDeletedLaunchTemplateVersions.map(\.versionNumber) == [2])
        let versions = try await ec2.describeLaunchTemplateVersions(
            EC2.DescribeLaunchTemplateVersions(versions: ["$Default"]), op
        ).launchTemplateVersions
        #expect(versions.map(\.versionNumber) == [2])
        let shown = try await ec2.describeLaunchTemplates(
            EC2.DescribeLaunchTemplates(filters: [EC2.Filter(name: "tag:a", values: ["b"])]), op
        ).launchTemplates
        #expect(shown.first?.latestVersionNumber == 2)
        _ = try await ec2.deleteLaunchTemplate(EC2.DeleteLaunchTemplate(launchTemplateName: "web"), op)
        #expect(
            await code { _ = try await ec2.describeLaunchTemplates(EC2.DescribeLaunchTemplates(launchTemplateNames: ["web"]), op) }
                == "InvalidLaunchTemplateName.NotFoundException")
    }

    @Test func textKeepsTheTree() throws {
        let value = Self.data("m1.small", user: "x").wireValue
        #expect(try LaunchTemplateRules.value(LaunchTemplateRules.text(value)) == value)
    }

    @Test func nothingToDescribe() async throws {
        let test = try await TestCloud()
        let (ec2, alice) = (test.actions, test.alice)
        #expect(try await ec2.describeSpotInstanceRequests(EC2.DescribeSpotInstanceRequests(), alice).spotInstanceRequests.isEmpty)
        #expect(
            await code {
                _ = try await ec2.describeNatGateways(EC2.DescribeNatGateways(natGatewayIds: ["nat-1"]), alice)
            } == "NatGatewayNotFound")
        #expect(
            await code {
                _ = try await ec2.describeNatGateways(
                    EC2.DescribeNatGateways(filter: [EC2.Filter(name: "no-such", values: ["x"])]), alice)
            } == "InvalidParameterValue")
        #expect(
            try await ec2.describeNatGateways(
                EC2.DescribeNatGateways(filter: [EC2.Filter(name: "vpc-id", values: ["x"])]), alice
            ).natGateways.isEmpty)
    }
}
