import API
import Domain
import Wire

/// What of the network must outlive the daemon: the newest desired network with its generation, and the host's kernel settings of before
/// us.
struct NetworkStore: Sendable {
    private static let folder = "network"
    let storage: any JournalStorage

    func save(_ state: NC.NetworkState, generation: Int) async throws(CloudError) {
        let record: Value = .record(["generation": .integer(generation), "network": state.wireValue])
        try await storage.save(Self.folder, "desired", RecordText.encode(record))
    }

    func load() async throws(CloudError) -> (state: NC.NetworkState, generation: Int)? {
        guard let bytes = try await storage.load(Self.folder)["desired"] else { return nil }
        let fields = try RecordText.decode(bytes).fields()
        guard let network = fields["network"] else { throw CloudError.bug("the kept network is empty") }
        return (try NC.NetworkState(network), try fields.integer("generation"))
    }

    /// Adds to what is known: the first value that was seen is the one to go back to.
    func saveHostSettings(_ changed: [String: String]) async throws(CloudError) {
        let all = changed.merging(try await hostSettings()) { _, first in first }
        try await storage.save(Self.folder, "host", RecordText.encode(.record(all.mapValues { .text($0) })))
    }

    func hostSettings() async throws(CloudError) -> [String: String] {
        guard let bytes = try await storage.load(Self.folder)["host"] else { return [:] }
        var out: [String: String] = [:]
        for (key, value) in try RecordText.decode(bytes).fields() {
            if case .text(let text) = value { out[key] = text }
        }
        return out
    }

    func clear() async throws(CloudError) {
        try await storage.remove(Self.folder, "desired")
        try await storage.remove(Self.folder, "host")
        try await storage.remove(Self.folder, "metadata")
    }
}
