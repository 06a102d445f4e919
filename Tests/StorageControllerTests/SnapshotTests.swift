import API
import Database
import Domain
import StorageControllerKit
import Testing
import Workflow

private let a = "vol-00000000000000aaa"
private let b = "vol-00000000000000bbb"
private let snap = "snap-00000000000000001"
private let attach1 = "attach-00000000000000001"
private let attach2 = "attach-00000000000000002"

private func page(_ pattern: UInt8) -> [UInt8] { [UInt8](repeating: pattern, count: 4096) }

@Suite struct SnapshotTests {
    /// A volume with something on it, exported.
    private func written(_ bench: StorageBench, _ backend: SimulatedBlockBackend, _ pattern: UInt8) async throws -> String {
        try await bench.create(a)
        await bench.pass()
        let export = try await bench.export(a, attach1)
        let name = try #require(export.exportName)
        try await backend.guestWrite(a, secretName: name, node: "nc alpha", at: 8192, page(pattern))
        return name
    }

    private func read(_ bench: StorageBench, _ backend: SimulatedBlockBackend, _ id: String) async throws -> [UInt8] {
        let name = try #require(try await bench.export(id, attach2).exportName)
        return try await backend.guestRead(id, secretName: name, node: "nc alpha", at: 8192, count: 4096)
    }

    @Test func aSnapshotIsThePastAndBecomesAVolume() async throws {
        let backend = SimulatedBlockBackend(totalBytes: 1 << 40)
        let bench = try await StorageBench(backend: backend)
        let name = try await written(bench, backend, 0x41)
        let state = try await bench.snapshot(snap, of: a)
        #expect(state.state == "pending")
        #expect(state.sizeGiB == 1)
        try await backend.guestWrite(a, secretName: name, node: "nc alpha", at: 8192, page(0x42))
        let early = await #expect(throws: CloudError.self) { try await bench.create(b, snapshot: snap) }
        #expect(early?.reason == .incorrectState(.snapshot, id: snap, state: "pending"))
        await bench.settle()
        let done = try #require(try await bench.snapshotState(snap))
        #expect(done.state == "completed")
        #expect(done.progress == 100)
        // The local copy is gone, the objects are there.
        #expect(await backend.captureState(snap, of: a) == .absent)
        #expect(await bench.objects.keys == ["\(snap)/000000", "\(snap)/manifest.json"])
        #expect(try await bench.snapshot(snap, of: a).state == "completed")

        #expect(try await bench.create(b, 2, snapshot: snap).state == "creating")
        await bench.settle(2)
        #expect(try await bench.volume(b)?.state == "available")
        #expect(await backend.volumeBytes(b) == 2 << 30)
        #expect(try await read(bench, backend, b) == page(0x41))

        try await bench.deleteSnapshot(snap)
        await bench.settle(2)
        #expect(try await bench.snapshotState(snap)?.state == "deleted")
        #expect(await bench.objects.keys == [])
        bench.pool.close()
    }

    @Test func theObjectStoreIsOutOfReachForAWhile() async throws {
        let backend = SimulatedBlockBackend(totalBytes: 1 << 40)
        let bench = try await StorageBench(backend: backend)
        _ = try await written(bench, backend, 0x41)
        await bench.objects.setDown(true)
        try await bench.snapshot(snap, of: a)
        await bench.settle()
        #expect(try await bench.snapshotState(snap)?.state == "pending")
        await bench.objects.setDown(false)
        await bench.settle(2)
        #expect(try await bench.snapshotState(snap)?.state == "completed")
        await bench.objects.setDown(true)
        try await bench.create(b, snapshot: snap)
        await bench.settle(2)
        let waiting = try #require(try await bench.volume(b))
        #expect(waiting.state == "creating")
        #expect(waiting.error?.isEmpty == false)
        await bench.objects.setDown(false)
        await bench.settle(2)
        #expect(try await bench.volume(b)?.state == "available")
        #expect(try await bench.volume(b)?.error == nil)
        bench.pool.close()
    }

    @Test(arguments: ["part", "manifest", "missing part", "missing manifest"])
    func damagedObjectsGiveAFailedVolume(what: String) async throws {
        let backend = SimulatedBlockBackend(totalBytes: 1 << 40)
        let bench = try await StorageBench(backend: backend)
        _ = try await written(bench, backend, 0x41)
        try await bench.snapshot(snap, of: a)
        await bench.settle()
        var part = try #require(await bench.objects.objects["\(snap)/000000"])
        part[part.count - 1] ^= 1
        switch what {
        case "part": await bench.objects.replace("\(snap)/000000", part)
        case "manifest": await bench.objects.replace("\(snap)/manifest.json", Array("{}".utf8))
        case "missing part": await bench.objects.replace("\(snap)/000000", nil)
        default: await bench.objects.replace("\(snap)/manifest.json", nil)
        }
        try await bench.create(b, snapshot: snap)
        await bench.settle(2)
        let failed = try #require(try await bench.volume(b))
        #expect(failed.state == "failed")
        #expect(failed.error?.contains("damaged") == true)
        #expect(await backend.volumeBytes(b) == nil)
        try await bench.delete(b)
        await bench.settle(1)
        #expect(try await bench.volume(b)?.state == "deleted")
        bench.pool.close()
    }

    @Test func aLostCopyIsAnErrorNeverASnapshot() async throws {
        let backend = SimulatedBlockBackend(totalBytes: 1 << 40)
        let bench = try await StorageBench(backend: backend)
        _ = try await written(bench, backend, 0x41)
        try await bench.snapshot(snap, of: a)
        await backend.killDaemon(a)
        await bench.settle()
        let state = try #require(try await bench.snapshotState(snap))
        #expect(state.state == "error")
        #expect(state.error?.isEmpty == false)
        #expect(await bench.objects.keys == [])
        bench.pool.close()
    }

    @Test func theVolumeMayGoAtOnceTheSnapshotIsCompleteAllTheSame() async throws {
        let backend = SimulatedBlockBackend(totalBytes: 1 << 40, captureSteps: 5)
        let bench = try await StorageBench(backend: backend)
        _ = try await written(bench, backend, 0x41)
        try await bench.snapshot(snap, of: a)
        try await bench.unexport(a, attach1)
        try await bench.delete(a)
        await bench.pass()
        #expect(try await bench.volume(a)?.state == "available")
        await bench.settle()
        #expect(try await bench.volume(a)?.state == "deleted")
        #expect(try await bench.snapshotState(snap)?.state == "completed")
        bench.pool.close()
    }

    @Test func aSnapshotThatIsDeletedOnItsWay() async throws {
        for passes in 0..<5 {
            let backend = SimulatedBlockBackend(totalBytes: 1 << 40)
            let bench = try await StorageBench(backend: backend)
            _ = try await written(bench, backend, 0x41)
            try await bench.snapshot(snap, of: a)
            await bench.settle(passes)
            try await bench.deleteSnapshot(snap)
            await bench.settle(3)
            #expect(try await bench.snapshotState(snap)?.state == "deleted")
            #expect(await bench.objects.keys == [])
            #expect(await backend.captureState(snap, of: a) == .absent)
            bench.pool.close()
        }
    }
}

/// Killed at every place in turn, then started again: the end is always that of a life without a kill.
@Suite struct KillTests {
    /// Volume, export, write, snapshot, new volume, detach, delete: each request is repeated until it is answered, as the callers do.
    private func life(_ bench: inout StorageBench, _ backend: SimulatedBlockBackend, _ faults: KillAt) async throws {
        func insist<R>(_ body: () async throws -> R) async throws -> R {
            var last: (any Error)?
            for _ in 0..<5 {
                do { return try await body() } catch let error as CloudError {
                    guard case .unavailable = error.reason else { throw error }
                    last = error
                }
            }
            throw last ?? CloudError.bug("never")
        }
        bench.restart(faults: faults)
        let bench = bench
        _ = try await insist { try await bench.create(a) }
        await bench.settle(2)
        let name = try #require(try await insist { try await bench.export(a, attach1) }.exportName)
        try await backend.guestWrite(a, secretName: name, node: "nc alpha", at: 8192, page(0x51))
        _ = try await insist { try await bench.snapshot(snap, of: a) }
        try await backend.guestWrite(a, secretName: name, node: "nc alpha", at: 8192, page(0x52))
        await bench.settle()
        _ = try await insist { try await bench.create(b, snapshot: snap) }
        await bench.settle(3)
        try await insist { try await bench.unexport(a, attach1) }
        _ = try await insist { try await bench.delete(a) }
        await bench.settle(3)
        let other = try #require(try await insist { try await bench.export(b, attach2) }.exportName)
        #expect(try await backend.guestRead(b, secretName: other, node: "nc alpha", at: 8192, count: 4096) == page(0x51))
        _ = try await insist { try await bench.deleteSnapshot(snap) }
        await bench.settle(3)
    }

    @Test func atEveryPlace() async throws {
        var at = 1
        while true {
            let backend = SimulatedBlockBackend(totalBytes: 1 << 40)
            let faults = KillAt(at)
            var bench = try await StorageBench(backend: backend, faults: faults)
            try await life(&bench, backend, faults)
            #expect(try await bench.volume(a)?.state == "deleted", "killed at \(at)")
            #expect(try await bench.volume(b)?.state == "available", "killed at \(at)")
            #expect(try await bench.snapshotState(snap)?.state == "deleted", "killed at \(at)")
            #expect(await bench.objects.keys == [], "killed at \(at)")
            #expect(await backend.runningVolumes() == [b], "killed at \(at)")
            #expect(await backend.volumeBytes(a) == nil, "killed at \(at)")
            bench.pool.close()
            if faults.count < at { break }
            at += 1
        }
        #expect(at > 15)
    }
}
