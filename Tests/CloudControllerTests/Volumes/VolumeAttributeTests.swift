import API
import Database
import Domain
import Testing

@testable import CloudControllerKit

@Suite struct VolumeAttributeTests {
    @Test func snapshotsAreShared() async throws {
        let cloud = try await CoreCloud()
        let (ec2, op) = (cloud.actions, try await cloud.op)
        let volume = try #require(try await ec2.createVolume(EC2.CreateVolume(availabilityZone: "karri-1a", size: 1), op).volumeId)
        await cloud.round(3)
        let id = try #require(try await ec2.createSnapshot(EC2.CreateSnapshot(volumeId: volume), op).snapshotId)
        await cloud.round(4)
        let other = "123456789012"
        func seen() async throws -> [String] {
            try await cloud.cloud.pool.read { tx in try SnapshotStore.list(tx, accountID: other, ids: nil).map(\.id) }
        }
        #expect(try await seen().isEmpty)
        let add = EC2.CreateVolumePermissionModifications(add: [EC2.CreateVolumePermission(userId: other)])
        _ = try await ec2.modifySnapshotAttribute(EC2.ModifySnapshotAttribute(createVolumePermission: add, snapshotId: id), op)
        #expect(try await seen() == [id])
        let shown = try await ec2.describeSnapshotAttribute(
            EC2.DescribeSnapshotAttribute(attribute: "createVolumePermission", snapshotId: id), op)
        #expect(shown.createVolumePermissions.map(\.userId) == [other])
        _ = try await ec2.resetSnapshotAttribute(
            EC2.ResetSnapshotAttribute(attribute: "createVolumePermission", snapshotId: id), op)
        #expect(try await seen().isEmpty)
        let bad = EC2.CreateVolumePermissionModifications(add: [EC2.CreateVolumePermission(group: "some")])
        #expect(
            await code {
                _ = try await ec2.modifySnapshotAttribute(EC2.ModifySnapshotAttribute(createVolumePermission: bad, snapshotId: id), op)
            } == "InvalidParameterValue")
    }

    @Test func volumesKeepWhatTheyAre() async throws {
        let cloud = try await CoreCloud()
        let (ec2, op) = (cloud.actions, try await cloud.op)
        let id = try #require(try await ec2.createVolume(EC2.CreateVolume(availabilityZone: "karri-1a", size: 2), op).volumeId)
        await cloud.round(3)
        #expect(await code { _ = try await ec2.modifyVolume(EC2.ModifyVolume(volumeId: id, size: 3), op) } == "UnsupportedOperation")
        #expect(await code { _ = try await ec2.modifyVolume(EC2.ModifyVolume(volumeId: id, size: 1), op) } == "InvalidParameterValue")
        #expect(
            await code {
                _ = try await ec2.describeVolumesModifications(EC2.DescribeVolumesModifications(volumeIds: [id]), op)
            } == "InvalidVolumeModification.NotFound")
        let status = try await ec2.describeVolumeStatus(EC2.DescribeVolumeStatus(volumeIds: [id]), op).volumeStatuses
        #expect(status.first?.volumeStatus?.status == "ok")
    }

    @Test func imagesAreProtected() async throws {
        let cloud = try await CoreCloud()
        let (ec2, op) = (cloud.actions, try await cloud.op)
        let id = CoreCloud.image
        _ = try await ec2.enableImageDeregistrationProtection(EC2.EnableImageDeregistrationProtection(imageId: id), op)
        #expect(await code { _ = try await ec2.deregisterImage(EC2.DeregisterImage(imageId: id), op) } == "OperationNotPermitted")
        #expect(
            try await ec2.describeImages(EC2.DescribeImages(imageIds: [id]), op).images.first?.deregistrationProtection == "enabled")
        let past = EC2.EnableImageDeprecation(imageId: id, deprecateAt: Timestamp(milliseconds: 0))
        #expect(await code { _ = try await ec2.enableImageDeprecation(past, op) } == "InvalidParameterValue")
        _ = try await ec2.enableImageDeprecation(
            EC2.EnableImageDeprecation(imageId: id, deprecateAt: cloud.clock.now().adding(seconds: 90)), op)
        #expect(try await ec2.describeImages(EC2.DescribeImages(imageIds: [id]), op).images.first?.deprecationTime != nil)
        _ = try await ec2.disableImageDeregistrationProtection(EC2.DisableImageDeregistrationProtection(imageId: id), op)
        _ = try await ec2.deregisterImage(EC2.DeregisterImage(imageId: id), op)
    }
}
