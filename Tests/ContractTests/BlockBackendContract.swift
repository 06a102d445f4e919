import Domain
import StorageControllerKit
import Testing

// What every `BlockBackend` promises, held against the one in memory and against real qemu-storage-daemons.

/// A backend and what a test needs around it.
protocol BlockBench: Sendable {
    var backend: any BlockBackend { get }
    /// The same storage seen by a controller that was started again (after a kill -9).
    func reopened() throws -> any BlockBackend
    func write(_ volume: String, _ grant: ExportGrant, _ address: ExportAddress, at offset: Int, count: Int, pattern: UInt8) async throws
        -> Bool
    /// Whether the bytes are all `pattern`.
    func holds(_ volume: String, _ grant: ExportGrant, _ address: ExportAddress, at offset: Int, count: Int, pattern: UInt8) async throws
        -> Bool
    /// The volume's daemon is killed.
    func killDaemon(_ volume: String) async throws
    func close() async
}

private let kib64 = 65_536

@Suite(.serialized) struct BlockBackendContract {
    enum Kind: String, CaseIterable, Sendable { case simulated, qcow2 }

    private func bench(_ kind: Kind) throws -> any BlockBench {
        switch kind {
        case .simulated: SimulatedBlockBench()
        case .qcow2: try FileBlockBench()
        }
    }

    private let volume = "vol-0123456789abcdef0"
    private let node = "nc alpha"
    private let other = "nc beta"
    private let bytes = 64 << 20

    private func grant(_ number: Int, _ node: String) -> ExportGrant {
        ExportGrant(attachment: "attach-0000000\(number)", secretName: String(repeating: "\(number)", count: 32), node: node)
    }

    private func finished(_ backend: any BlockBackend, _ capture: String) async throws -> Int {
        for _ in 0..<600 {
            switch try await backend.captureState(capture, of: volume) {
            case .done(let bytes): return bytes
            case .running: try await Task.sleep(for: .milliseconds(50))
            case let state: throw CloudError.bug("\(state)")
            }
        }
        throw CloudError.bug("the capture does not end")
    }

    /// Through the interface that the transfers use.
    private func restore(_ backend: any BlockBackend, _ capture: String, bytes count: Int, as copy: String) async throws {
        var offset = 0
        while offset < count {
            let piece = try await backend.captureRead(capture, at: offset, count: min(100_000, count - offset))
            try await backend.restoreWrite(copy, at: offset, piece)
            offset += piece.count
        }
        #expect(try await backend.restoreOffset(copy) == count)
        try await backend.restoreFinish(copy, bytes: bytes * 2, sha256: try await backend.captureDigest(capture))
    }

    @Test(arguments: Kind.allCases) func volumesAreMadeOnceAndDeletedOnce(kind: Kind) async throws {
        let bench = try bench(kind)
        let backend = bench.backend
        #expect(try await backend.volumeBytes(volume) == nil)
        try await backend.volumeCreate(volume, bytes: bytes)
        try await backend.volumeCreate(volume, bytes: bytes)
        #expect(try await backend.volumeBytes(volume) == bytes)
        #expect(try await bench.reopened().volumeBytes(volume) == bytes)
        #expect(try await backend.space().free > 0)
        try await backend.volumeDelete(volume)
        try await backend.volumeDelete(volume)
        #expect(try await backend.volumeBytes(volume) == nil)
        await bench.close()
    }

    @Test(arguments: Kind.allCases) func anExportIsForItsNodeAndItsTime(kind: Kind) async throws {
        let bench = try bench(kind)
        let backend = bench.backend
        try await backend.volumeCreate(volume, bytes: bytes)
        let mine = grant(1, node)
        let address = try #require(try await backend.exportsApply(volume, [mine]))
        #expect(try await backend.exportsApply(volume, [mine]) == address)
        #expect(try await backend.runningVolumes() == [volume])

        #expect(try await bench.write(volume, mine, address, at: kib64, count: kib64, pattern: 0x5a))
        #expect(try await bench.holds(volume, mine, address, at: kib64, count: kib64, pattern: 0x5a))
        #expect(try await bench.holds(volume, mine, address, at: 0, count: kib64, pattern: 0))
        // The right name from another node, and a wrong name from the right node.
        let stolen = ExportGrant(attachment: mine.attachment, secretName: mine.secretName, node: other)
        #expect(try await bench.holds(volume, stolen, address, at: 0, count: kib64, pattern: 0) == false)
        #expect(try await bench.holds(volume, grant(2, node), address, at: 0, count: kib64, pattern: 0) == false)

        // Another attachment on another node: then both; then the first one's is ended.
        let theirs = grant(3, other)
        #expect(try await backend.exportsApply(volume, [mine, theirs]) == address)
        #expect(try await bench.holds(volume, theirs, address, at: kib64, count: kib64, pattern: 0x5a))
        #expect(try await backend.exportsApply(volume, [theirs]) == address)
        #expect(try await bench.holds(volume, mine, address, at: 0, count: kib64, pattern: 0) == false)
        #expect(try await bench.holds(volume, theirs, address, at: kib64, count: kib64, pattern: 0x5a))

        await #expect(throws: CloudError.self) { try await backend.volumeDelete(volume) }
        #expect(try await backend.exportsApply(volume, []) == nil)
        #expect(try await backend.runningVolumes() == [])
        #expect(try await bench.holds(volume, theirs, address, at: 0, count: kib64, pattern: 0) == false)
        try await backend.volumeDelete(volume)
        await bench.close()
    }

    @Test(arguments: Kind.allCases) func exportsOutliveTheController(kind: Kind) async throws {
        let bench = try bench(kind)
        try await bench.backend.volumeCreate(volume, bytes: bytes)
        let mine = grant(1, node)
        let address = try #require(try await bench.backend.exportsApply(volume, [mine]))
        #expect(try await bench.write(volume, mine, address, at: 0, count: kib64, pattern: 0x11))
        let again = try bench.reopened()
        #expect(try await bench.holds(volume, mine, address, at: 0, count: kib64, pattern: 0x11))
        #expect(try await again.runningVolumes() == [volume])
        #expect(try await again.exportsApply(volume, [mine]) == address)
        #expect(try await bench.holds(volume, mine, address, at: 0, count: kib64, pattern: 0x11))
        // The daemon dies (not the controller): it is started again, at the same address, and the data is there.
        try await bench.killDaemon(volume)
        #expect(try await bench.holds(volume, mine, address, at: 0, count: kib64, pattern: 0x11) == false)
        #expect(try await again.exportsApply(volume, [mine]) == address)
        #expect(try await bench.holds(volume, mine, address, at: 0, count: kib64, pattern: 0x11))
        _ = try await again.exportsApply(volume, [])
        await bench.close()
    }

    @Test(arguments: Kind.allCases) func aVolumeThatIsNotThereCannotBeExported(kind: Kind) async throws {
        let bench = try bench(kind)
        let error = await #expect(throws: CloudError.self) { try await bench.backend.exportsApply(volume, [grant(1, node)]) }
        #expect(error?.reason == .notFound(.volume, id: volume))
        await bench.close()
    }

    @Test(arguments: Kind.allCases) func aCaptureIsThePastWhateverIsWrittenAfterIt(kind: Kind) async throws {
        let bench = try bench(kind)
        let backend = bench.backend
        try await backend.volumeCreate(volume, bytes: bytes)
        let mine = grant(1, node)
        let address = try #require(try await backend.exportsApply(volume, [mine]))
        #expect(try await bench.write(volume, mine, address, at: 0, count: 16 * kib64, pattern: 0x21))

        let capture = "snap-0123456789abcdef0"
        #expect(try await backend.captureState(capture, of: volume) == .absent)
        try await backend.captureStart(capture, of: volume)
        #expect(try await bench.write(volume, mine, address, at: 0, count: 8 * kib64, pattern: 0x22))
        try await backend.captureStart(capture, of: volume)
        let size = try await finished(try bench.reopened(), capture)
        #expect(size < bytes)
        #expect(try await finished(backend, capture) == size)
        #expect(try await backend.captureDigest(capture).utf8.count == 64)

        let copy = "vol-0123456789abcdef1"
        try await restore(backend, capture, bytes: size, as: copy)
        #expect(try await backend.volumeBytes(copy) == bytes * 2)
        let second = grant(2, other)
        let place = try #require(try await backend.exportsApply(copy, [second]))
        #expect(place != address)
        #expect(try await bench.holds(copy, second, place, at: 0, count: 16 * kib64, pattern: 0x21))
        #expect(try await bench.holds(volume, mine, address, at: 0, count: 8 * kib64, pattern: 0x22))
        #expect(try await bench.write(copy, second, place, at: bytes, count: kib64, pattern: 0x33))

        try await backend.captureDelete(capture, of: volume)
        try await backend.captureDelete(capture, of: volume)
        #expect(try await backend.captureState(capture, of: volume) == .absent)
        _ = try await backend.exportsApply(copy, [])
        _ = try await backend.exportsApply(volume, [])
        #expect(try await backend.runningVolumes() == [])
        await bench.close()
    }

    @Test(arguments: Kind.allCases) func aVolumeWithoutExportsCanBeCaptured(kind: Kind) async throws {
        let bench = try bench(kind)
        let backend = bench.backend
        try await backend.volumeCreate(volume, bytes: bytes)
        let capture = "snap-0123456789abcdef0"
        try await backend.captureStart(capture, of: volume)
        _ = try await finished(backend, capture)
        try await backend.captureDelete(capture, of: volume)
        _ = try await backend.exportsApply(volume, [])
        #expect(try await backend.runningVolumes() == [])
        try await backend.volumeDelete(volume)
        await bench.close()
    }

    @Test(arguments: Kind.allCases) func aCaptureThatLostItsDaemonHasFailed(kind: Kind) async throws {
        let bench = try bench(kind)
        let backend = bench.backend
        try await backend.volumeCreate(volume, bytes: bytes)
        let capture = "snap-0123456789abcdef0"
        try await backend.captureStart(capture, of: volume)
        try await bench.killDaemon(volume)
        guard case .failed = try await backend.captureState(capture, of: volume) else {
            Issue.record("a lost capture must not look complete")
            return
        }
        try await backend.captureDelete(capture, of: volume)
        _ = try await backend.exportsApply(volume, [])
        await bench.close()
    }

    @Test(arguments: Kind.allCases) func damagedCopiesAreRefused(kind: Kind) async throws {
        let bench = try bench(kind)
        let backend = bench.backend
        try await backend.restoreWrite(volume, at: 0, [1, 2, 3])
        try await backend.restoreWrite(volume, at: 3, [4])
        #expect(try await backend.restoreOffset(volume) == 4)
        let error = await #expect(throws: CloudError.self) {
            try await backend.restoreFinish(volume, bytes: bytes, sha256: String(repeating: "0", count: 64))
        }
        #expect(error?.reason == .named(code: "SnapshotDamaged", status: 500))
        #expect(try await backend.volumeBytes(volume) == nil)
        #expect(try await backend.restoreOffset(volume) == 0)
        // The right digest of something that is no image.
        try await backend.restoreWrite(volume, at: 0, Array("abc".utf8))
        await #expect(throws: CloudError.self) {
            try await backend.restoreFinish(
                volume, bytes: bytes, sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        }
        try await backend.restoreAbandon(volume)
        #expect(try await backend.volumeBytes(volume) == nil)
        await bench.close()
    }

    @Test(arguments: Kind.allCases) func portsRunOut(kind: Kind) async throws {
        let bench = try bench(kind)
        let backend = bench.backend
        var held: [String] = []
        var refused: CloudError?
        for number in 0..<8 {
            let id = "vol-0000000\(number)"
            try await backend.volumeCreate(id, bytes: bytes)
            do throws(CloudError) {
                _ = try await backend.exportsApply(id, [grant(number, node)])
                held.append(id)
            } catch {
                refused = error
                _ = try await backend.exportsApply(id, [])
                break
            }
        }
        #expect(held.count == FileBlockBench.ports.count)
        guard case .capacity = refused?.reason else {
            Issue.record("\(String(describing: refused))")
            return
        }
        for id in held { _ = try await backend.exportsApply(id, []) }
        await bench.close()
    }
}
