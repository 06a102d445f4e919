import Domain
import NodeControllerKit
import Synchronization
import TestKit

/// A node's journal as a disk keeps it: a write takes a moment, and a kill during it leaves the old text or the new one. What was not yet
/// synced when the power went is lost.
final class DurableRecords: Sendable {
    private struct Write {
        let folder, name: String
        /// `nil`: removed.
        let bytes: [UInt8]?
    }
    private struct State {
        var files: [String: [String: [UInt8]]] = [:]
        var underWay: [UInt64: Write] = [:]
        var nextID: UInt64 = 0
    }
    private let state = Mutex(State())
    /// The test double whose node has no memory of what it has ended: a restart drops its tombstones.
    let forgetsTombstones: Bool

    init(forgetsTombstones: Bool) { self.forgetsTombstones = forgetsTombstones }

    func load(_ folder: String) -> [String: [UInt8]] {
        let files = state.withLock { $0.files[folder] ?? [:] }
        guard forgetsTombstones, folder == "instances" else { return files }
        return files.filter { !String(decoding: $0.value, as: UTF8.self).contains("\"endedAt\"") }
    }

    func begin(_ folder: String, _ name: String, _ bytes: [UInt8]?) -> UInt64 {
        state.withLock { s in
            s.nextID += 1
            s.underWay[s.nextID] = Write(folder: folder, name: name, bytes: bytes)
            return s.nextID
        }
    }

    func finish(_ id: UInt64) {
        state.withLock { s in
            if let write = s.underWay.removeValue(forKey: id) { s.files[write.folder, default: [:]][write.name] = write.bytes }
        }
    }

    /// At the moment of a kill: of what was being written, chance says what is on the disk.
    func crash(_ random: SeededRandom) {
        state.withLock { s in
            for id in s.underWay.keys.sorted() {
                guard let write = s.underWay.removeValue(forKey: id), random.chance(perMille: 500) else { continue }
                s.files[write.folder, default: [:]][write.name] = write.bytes
            }
        }
    }
}

/// The journal of one life of a node.
struct LifeJournal: JournalStorage {
    let records: DurableRecords
    let deeds: Deeds

    func load(_ folder: String) async throws(CloudError) -> [String: [UInt8]] {
        try deeds.life.check()
        return records.load(folder)
    }

    func save(_ folder: String, _ name: String, _ bytes: [UInt8]) async throws(CloudError) { try await write(folder, name, bytes) }
    func remove(_ folder: String, _ name: String) async throws(CloudError) { try await write(folder, name, nil) }

    private func write(_ folder: String, _ name: String, _ bytes: [UInt8]?) async throws(CloudError) {
        try deeds.life.check()
        let id = records.begin(folder, name, bytes)
        await deeds.pause(atMost: 4)
        // Killed meanwhile: `crash` has decided.
        try deeds.life.check()
        records.finish(id)
    }
}
