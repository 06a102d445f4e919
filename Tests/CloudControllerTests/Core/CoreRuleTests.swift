import API
import Domain
import Testing
import Wire

@testable import CloudControllerKit

@Suite struct CoreRuleTests {
    private func arns(_ operation: Wire.Operation, _ value: Value) -> [String] {
        RequestResources.arns(operation, value, region: "r", account: "1")
    }

    @Test func requestsNameTheirResources() {
        #expect(arns(EC2.DescribeInstances.operation, EC2.DescribeInstances(instanceIds: ["i-1"]).wireValue) == ["*"])
        #expect(
            arns(EC2.TerminateInstances.operation, EC2.TerminateInstances(instanceIds: ["i-1", "i-2"]).wireValue)
                == ["arn:aws:ec2:r:1:instance/i-1", "arn:aws:ec2:r:1:instance/i-2"])
        #expect(
            arns(EC2.RunInstances.operation, EC2.RunInstances(imageId: "emi-1", minCount: 1, maxCount: 1, keyName: "k").wireValue)
                == ["arn:aws:ec2:r::image/emi-1", "arn:aws:ec2:r:1:key-pair/k", "arn:aws:ec2:r:1:instance/*"])
        #expect(
            arns(EC2.CreateTags.operation, EC2.CreateTags(resources: ["vol-1"], tags: []).wireValue) == ["arn:aws:ec2:r:1:volume/vol-1"])
        #expect(arns(EC2.AllocateAddress.operation, EC2.AllocateAddress().wireValue) == ["arn:aws:ec2:r:1:elastic-ip/*"])
        #expect(arns(IAM.GetUser.operation, IAM.GetUser().wireValue) == ["*"])
    }

    @Test func pathsVersionsAndScopesLeadToServices() throws {
        #expect(try ServiceRoute.byPath("/services/Euare//") == .iam)
        #expect(try ServiceRoute.byPath("/") == nil)
        #expect(ServiceRoute.byContent(version: "2010-05-08", scope: "ec2") == .iam)
        #expect(ServiceRoute.byContent(version: nil, scope: "sts") == .sts)
        #expect(ServiceRoute.byContent(version: "2016-11-15", scope: "iam") == .ec2)
        #expect(ServiceRoute.byNamespace("urn:karri:cc:1") == nil)
        #expect(try RequestVersion("eucalyptus", .ec2).namespace == "http://msgs.eucalyptus.com/eucalyptus")
        #expect(try RequestVersion(nil, .ec2).date == APIDate.newest)
        #expect(throws: CloudError.self) { try RequestVersion("<script>", .ec2) }
    }

    @Test func bundleNamesAreNamesOfFiles() {
        #expect(BundleSaga.fileName("daily/web") == "web")
        #expect(BundleSaga.fileName("daily/..we b&") == "we_b_")
        #expect(BundleSaga.fileName("///") == nil)
    }

    @Test func environmentFilesAreRead() {
        let file = EnvironmentFile("# comment\nA=1\nB = two=2 \nC=\n")
        #expect(file["A"] == "1")
        #expect(file["B"] == "two=2")
        #expect(file["C"] == nil)
    }

    @Test func hostsForCertificates() {
        let hosts = Hosts.here(and: ["10.0.0.7", "cloud.example", "bad name", ""])
        #expect(hosts.addresses == ["127.0.0.1", "10.0.0.7"])
        #expect(hosts.names.contains("cloud.example"))
        #expect(!hosts.names.contains("bad name"))
    }
}
