import API
import Database
import Domain
import StorageControllerKit
import Testing

private let a = "vol-00000000000000aaa"
private let b = "vol-00000000000000bbb"
private let attach1 = "attach-00000000000000001"
private let attach2 = "attach-00000000000000002"

@Suite struct VolumeTests {
    @Test func aVolumeIsMadeAfterTheAnswerAndDeletedForGood() async throws {
        let bench = try await StorageBench()
        #expect(try await bench.create(a, 3).state == "creating")
        #expect(try await bench.backend.volumeBytes(a) == nil)
        #expect(await bench.pass() == [])
        let made = try #require(try await bench.volume(a))
        #expect(made.state == "available")
        #expect(made.sizeGiB == 3)
        #expect(try await bench.backend.volumeBytes(a) == 3 << 30)
        // The same again is the stored answer.
        #expect(try await bench.create(a, 3).state == "available")
        try await bench.delete(a)
        await bench.pass()
        #expect(try await bench.volume(a)?.state == "deleted")
        #expect(try await bench.backend.volumeBytes(a) == nil)
        #expect(try await bench.delete(a).state == "deleted")
        bench.pool.close()
    }

    @Test func olderCommandsAreStaleAndTombstonesHold() async throws {
        let bench = try await StorageBench()
        try await bench.create(a, generation: 5)
        let stale = await #expect(throws: CloudError.self) { try await bench.delete(a, generation: 4) }
        #expect(stale?.reason == .stale(newest: 5))
        let other = await #expect(throws: CloudError.self) { try await bench.create(a, 2, generation: 5) }
        #expect(other?.reason == .idempotencyMismatch)
        // Deleted before it was created: the late creation must not bring it to life.
        #expect(try await bench.delete(b, generation: 7).state == "deleted")
        let late = await #expect(throws: CloudError.self) { try await bench.create(b, generation: 6) }
        #expect(late?.reason == .stale(newest: 7))
        let again = await #expect(throws: CloudError.self) { try await bench.create(b, generation: 8) }
        #expect(again?.reason == .incorrectState(.volume, id: b, state: "deleted"))
        bench.pool.close()
    }

    @Test func badInputIsNamed() async throws {
        let bench = try await StorageBench()
        for id in ["vol-xyz", "", "snap-00000000", "vol-00000000/../x"] {
            let error = await #expect(throws: CloudError.self) { try await bench.create(id) }
            #expect(error?.reason == .malformedID(.volume, id: id))
        }
        for size in [0, -1, 16_385] {
            let error = await #expect(throws: CloudError.self) { try await bench.create(a, size) }
            #expect(error?.reason == .invalidParameter("sizeGiB"))
        }
        let unknown = await #expect(throws: CloudError.self) { try await bench.snapshot("snap-00000001", of: a) }
        #expect(unknown?.reason == .notFound(.volume, id: a))
        let export = await #expect(throws: CloudError.self) { try await bench.export(a, attach1) }
        #expect(export?.reason == .notFound(.volume, id: a))
        #expect(try await bench.volume(a) == nil)
        bench.pool.close()
    }

    @Test func spaceIsReservedInFullAndRefusedWithNumbers() async throws {
        let bench = try await StorageBench(capacityGiB: 10)
        let made = await withTaskGroup(of: Bool.self) { group in
            for number in 0..<10 {
                group.addTask { (try? await bench.create("vol-0000000\(number)", 3)) != nil }
            }
            return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(made == 3)
        let error = await #expect(throws: CloudError.self) { try await bench.create(a, 2) }
        let place = Shortage.Place("zone karri-1a", .volumeGiB, asked: 2, free: 1, limit: 10)
        #expect(error?.reason == .capacity(Shortage(.volumeGiB, [place])))
        #expect(try await bench.volume(a) == nil)
        let capacity = try await bench.controller.describeCapacity(.init(), StorageBench.cloud)
        #expect(capacity.freeGiB == 1)
        #expect(capacity.totalGiB == 10)
        await bench.pass()
        // A snapshot needs room for its copy.
        let first = try #require(
            try await bench.controller.describeVolumes(.init(volumeIds: []), StorageBench.cloud).volumes.first?.volumeId)
        let refused = await #expect(throws: CloudError.self) { try await bench.snapshot("snap-00000001", of: first) }
        guard case .capacity(let shortage) = refused?.reason else {
            Issue.record("\(String(describing: refused))")
            return
        }
        #expect(shortage.resource == .snapshotGiB)
        // What is deleted is free again, but not before it is gone.
        try await bench.delete(first)
        await #expect(throws: CloudError.self) { try await bench.create(a, 2) }
        await bench.pass()
        try await bench.create(a, 2)
        bench.pool.close()
    }

    @Test func theMediumLimitsToo() async throws {
        let bench = try await StorageBench(capacityGiB: 1000, backend: SimulatedBlockBackend(totalBytes: 8 << 30))
        try await bench.create(a, 5)
        let error = await #expect(throws: CloudError.self) { try await bench.create(b, 4) }
        let place = Shortage.Place("zone karri-1a", .volumeGiB, asked: 4, free: 3, limit: 8)
        #expect(error?.reason == .capacity(Shortage(.volumeGiB, [place])))
        bench.pool.close()
    }
}

@Suite struct ExportTests {
    @Test func oneCredentialForOneAttachment() async throws {
        let bench = try await StorageBench()
        try await bench.create(a)
        let early = await #expect(throws: CloudError.self) { try await bench.export(a, attach1) }
        #expect(early?.reason == .incorrectState(.volume, id: a, state: "creating"))
        await bench.pass()
        let export = try await bench.export(a, attach1)
        #expect(export.sizeBytes == 1 << 30)
        #expect(export.exportName?.utf8.count == 32)
        #expect(try await bench.export(a, attach1) == export)
        #expect(try await bench.volume(a)?.attachments == [attach1])
        // Another node cannot have this attachment's credential, nor end it.
        await #expect(throws: CloudError.self) { try await bench.export(a, attach1, StorageBench.otherNode) }
        await #expect(throws: CloudError.self) { try await bench.unexport(a, attach1, StorageBench.otherNode) }
        let used = await #expect(throws: CloudError.self) { try await bench.delete(a) }
        #expect(used?.reason == .inUse(.volume, id: a, by: attach1))

        try await bench.unexport(a, attach1)
        try await bench.unexport(a, attach1)
        #expect(try await bench.backend.runningVolumes() == [])
        // It does not come back; a new attachment gets a new one.
        await #expect(throws: CloudError.self) { try await bench.export(a, attach1) }
        let next = try await bench.export(a, attach2, StorageBench.otherNode)
        #expect(next.exportName != export.exportName)
        try await bench.unexport(a, attach2, StorageBench.cloud)
        try await bench.delete(a)
        bench.pool.close()
    }

    @Test func anEndThatOvertookItsBeginning() async throws {
        let bench = try await StorageBench()
        try await bench.create(a)
        await bench.pass()
        try await bench.unexport(a, attach1)
        await #expect(throws: CloudError.self) { try await bench.export(a, attach1) }
        #expect(try await bench.backend.runningVolumes() == [])
        bench.pool.close()
    }

    @Test func aDaemonThatDiedIsStartedAgain() async throws {
        let backend = SimulatedBlockBackend(totalBytes: 1 << 40)
        var bench = try await StorageBench(backend: backend)
        try await bench.create(a)
        await bench.pass()
        _ = try await bench.export(a, attach1)
        await backend.killDaemon(a)
        #expect(await backend.runningVolumes() == [])
        bench.restart()
        await bench.pass()
        #expect(await backend.runningVolumes() == [a])
        bench.pool.close()
    }

    @Test func noPortLeavesNothingBehind() async throws {
        let bench = try await StorageBench(backend: SimulatedBlockBackend(totalBytes: 1 << 40, ports: 5000...5000))
        for id in [a, b] { try await bench.create(id) }
        await bench.pass()
        _ = try await bench.export(a, attach1)
        let error = await #expect(throws: CloudError.self) { try await bench.export(b, attach2) }
        guard case .capacity = error?.reason else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(try await bench.volume(b)?.attachments == [])
        try await bench.unexport(a, attach1)
        _ = try await bench.export(b, attach2)
        bench.pool.close()
    }

    /// Its row is lost, its daemon runs: somebody's data may hang on it.
    @Test func aDaemonThatNobodyKnowsIsLeftAloneAndReported() async throws {
        let backend = SimulatedBlockBackend(totalBytes: 1 << 40)
        let bench = try await StorageBench(backend: backend)
        await backend.volumeCreate(a, bytes: 1 << 30)
        _ = try await backend.exportsApply(a, [ExportGrant(attachment: attach1, secretName: "x", node: "nc alpha")])
        let failures = await bench.pass()
        #expect(failures.count == 1)
        #expect(failures.first?.contains(a) == true)
        #expect(await backend.runningVolumes() == [a])
        bench.pool.close()
    }
}
