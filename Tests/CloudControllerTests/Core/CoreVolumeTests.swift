import API
import Database
import Domain
import Synchronization
import Testing

@testable import CloudControllerKit

@Suite struct CoreVolumeTests {
    private func create(_ cloud: CoreCloud, _ size: Int? = 1, snapshot: String? = nil) async throws -> String {
        let answer = try await cloud.actions.createVolume(
            EC2.CreateVolume(availabilityZone: "karri-1a", size: size, snapshotId: snapshot), try await cloud.op)
        return try #require(answer.volumeId)
    }
    private func volume(_ cloud: CoreCloud, _ id: String) async throws -> EC2.Volume {
        try #require(try await cloud.actions.describeVolumes(EC2.DescribeVolumes(volumeIds: [id]), try await cloud.op).volumes.first)
    }

    @Test func aVolumesWholeLife() async throws {
        let cloud = try await CoreCloud()
        let instance = try await cloud.run()[0]
        let id = try await create(cloud)
        #expect(try await volume(cloud, id).state == "creating")
        await cloud.round(2)
        #expect(try await volume(cloud, id).state == "available")
        let attached = try await cloud.actions.attachVolume(
            EC2.AttachVolume(volumeId: id, instanceId: instance, device: "/dev/sdf"), try await cloud.op)
        #expect(attached.state == "attaching")
        #expect(try await volume(cloud, id).state == "in-use")
        await cloud.round(3)
        #expect(try await volume(cloud, id).attachments.map(\.state) == ["attached"])
        #expect(try await cloud.describe(instance).blockDeviceMappings.map(\.ebs?.volumeId) == [id])
        #expect(
            await code { _ = try await cloud.actions.deleteVolume(EC2.DeleteVolume(volumeId: id), try await cloud.op) } == "VolumeInUse")

        let snapshot = try await cloud.actions.createSnapshot(EC2.CreateSnapshot(volumeId: id, description: "d"), try await cloud.op)
        #expect(snapshot.state == "pending")
        let snapshotID = try #require(snapshot.snapshotId)
        #expect(await code { _ = try await create(cloud, nil, snapshot: snapshotID) } == "IncorrectState")
        await cloud.round(2)
        let described = try await cloud.actions.describeSnapshots(EC2.DescribeSnapshots(snapshotIds: [snapshotID]), try await cloud.op)
        #expect(described.snapshots.map(\.progress) == ["100%"])
        let copy = try await create(cloud, nil, snapshot: snapshotID)
        await cloud.round(2)
        #expect(try await volume(cloud, copy).snapshotId == snapshotID)

        let detached = try await cloud.actions.detachVolume(EC2.DetachVolume(volumeId: id), try await cloud.op)
        #expect(detached.state == "detaching")
        await cloud.round(1)
        #expect(try await volume(cloud, id).state == "in-use")
        await cloud.round(2)
        #expect(try await volume(cloud, id).state == "available")
        #expect(try await volume(cloud, id).attachments.isEmpty)
        _ = try await cloud.actions.deleteVolume(EC2.DeleteVolume(volumeId: id), try await cloud.op)
        await cloud.round(2)
        #expect(await code { _ = try await volume(cloud, id) } == "InvalidVolume.NotFound")
        _ = try await cloud.actions.deleteSnapshot(EC2.DeleteSnapshot(snapshotId: snapshotID), try await cloud.op)
        await cloud.round(2)
        #expect(try await cloud.number("SELECT count(*) AS n FROM cloud.snapshots WHERE finished_at IS NULL") == 0)
    }

    @Test func aShortageIsTheCallsAnswerAndLeavesNothing() async throws {
        let cloud = try await CoreCloud()
        do {
            _ = try await create(cloud, 500)
            Issue.record("it was accepted")
        } catch let error as CloudError {
            #expect(error.message.contains("asked 500 GiB of volumes, 100 free of 100"), "\(error.message)")
        }
        #expect(try await cloud.number("SELECT count(*) AS n FROM cloud.volumes") == 0)
    }

    @Test func aSilentStorageControllerDelaysAndLosesNothing() async throws {
        let cloud = try await CoreCloud()
        cloud.zone.state.withLock { $0.isDown = true }
        let id = try await create(cloud)
        await cloud.round(2)
        #expect(try await volume(cloud, id).state == "creating")
        cloud.zone.state.withLock { $0.isDown = false }
        await cloud.round(3)
        #expect(try await volume(cloud, id).state == "available")
    }

    @Test func aShortageThatIsHeardLateIsAnError() async throws {
        let cloud = try await CoreCloud()
        cloud.zone.state.withLock { $0.isDown = true }
        let id = try await create(cloud, 50)
        cloud.zone.state.withLock {
            $0.isDown = false
            $0.storageFreeGiB = 10
        }
        await cloud.round(3)
        #expect(try await volume(cloud, id).state == "error")
        #expect(cloud.zone.count("CreateVolume") == 2)
        _ = try await cloud.actions.deleteVolume(EC2.DeleteVolume(volumeId: id), try await cloud.op)
        await cloud.round(2)
        #expect(await code { _ = try await volume(cloud, id) } == "InvalidVolume.NotFound")
    }

    @Test func aVolumeIsAttachedAgainAboveItsOldFence() async throws {
        let cloud = try await CoreCloud()
        let instance = try await cloud.run()[0]
        let id = try await create(cloud)
        await cloud.round(2)
        var generations: [Int64] = []
        for _ in 0..<2 {
            _ = try await cloud.actions.attachVolume(
                EC2.AttachVolume(volumeId: id, instanceId: instance, device: "/dev/sdf"), try await cloud.op)
            await cloud.round(3)
            #expect(try await volume(cloud, id).attachments.map(\.state) == ["attached"])
            generations += try await cloud.cloud.pool.read { tx in try VolumeStore.attachments(tx, volumeIDs: [id]).map(\.generation) }
            _ = try await cloud.actions.detachVolume(EC2.DetachVolume(volumeId: id), try await cloud.op)
            await cloud.round(3)
        }
        #expect(generations == [1, 3])
    }

    @Test func terminatingFreesTheVolumes() async throws {
        let cloud = try await CoreCloud()
        let instance = try await cloud.run()[0]
        let id = try await create(cloud)
        await cloud.round(2)
        _ = try await cloud.actions.attachVolume(EC2.AttachVolume(volumeId: id, instanceId: instance, device: "sdg"), try await cloud.op)
        await cloud.round(3)
        _ = try await cloud.actions.terminateInstances(EC2.TerminateInstances(instanceIds: [instance]), try await cloud.op)
        #expect(try await volume(cloud, id).state == "in-use")
        await cloud.round(3)
        #expect(try await volume(cloud, id).state == "available")
    }

    @Test func badAttachmentsAreNamed() async throws {
        let cloud = try await CoreCloud()
        let instance = try await cloud.run()[0]
        let first = try await create(cloud)
        let second = try await create(cloud)
        await cloud.round(2)
        func attach(_ volume: String, _ instance: String, _ device: String) async -> String {
            await code {
                _ = try await cloud.actions.attachVolume(
                    EC2.AttachVolume(volumeId: volume, instanceId: instance, device: device), try await cloud.op)
            }
        }
        #expect(await attach(first, instance, "/dev/sda1") == "InvalidParameterValue")
        #expect(await attach("vol-00000000", instance, "/dev/sdf") == "InvalidVolume.NotFound")
        #expect(await attach(first, "i-00000000", "/dev/sdf") == "InvalidInstanceID.NotFound")
        #expect(await attach(first, instance, "/dev/sdf") == "")
        #expect(await attach(first, instance, "/dev/sdg") == "VolumeInUse")
        #expect(await attach(second, instance, "/dev/xvdf") == "InvalidParameterValue")
        #expect(
            await code { _ = try await cloud.actions.detachVolume(EC2.DetachVolume(volumeId: second), try await cloud.op) }
                == "IncorrectState")
    }
}
