import Daemon
import Domain
import Logging
import Signing
import TestKit
import Wire

/// What every simulated machine has to do with: time, chance, the network and the record of what happened.
struct Wires: Sendable {
    let clock: VirtualClock
    let random: SeededRandom
    let network: LossyNetwork
    let trace: Trace
    /// PostgreSQL's connection string.
    let database: String

    func logger(_ label: String) -> Logger { Logger(label: label) { TraceLog(label: $0, trace: trace) } }

    /// One for all seeds: making a key costs more than a simulated minute.
    static let key = Result { try PrivateKey.generateRSA(bits: 2048) }
    static let certificate = Result { try CertificateAuthority.selfSigned(name: "simulation", key: try key.get(), days: 3650) }
}

/// Warnings of daemons go into the trace.
private struct TraceLog: LogHandler {
    let label: String
    let trace: Trace
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .notice

    init(label: String, trace: Trace) {
        self.label = label
        self.trace = trace
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let facts = (event.metadata ?? [:]).sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
        trace.note("\(label): \(event.message) \(facts)")
    }
}

/// Nobody answers HTTP here: images come from `SimulatedImages`.
struct NoHTTP: HTTPRequesting {
    func execute(_ request: HTTPClientRequest) async throws(CloudError) -> HTTPClientResponse {
        throw CloudError(.unavailable("HTTP"), context: request.url)
    }
}
