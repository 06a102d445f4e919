public import Domain

/// Who is at the other end of an internal call: the SAN URI `karri://<cloud>/<role>/<name>` of its certificate.
public struct PeerIdentity: Sendable, Hashable, CustomStringConvertible {
    public let cloud, role, name: String
    public init(cloud: String, role: String, name: String) {
        self.cloud = cloud
        self.role = role
        self.name = name
    }

    /// `nil` for everything but three non-empty parts of ASCII letters, digits, `-`, `.` and `_` after `karri://`.
    public init?(uri: String) {
        guard uri.utf8.starts(with: "karri://".utf8) else { return nil }
        let parts = uri.utf8.dropFirst(8).split(separator: 0x2f, omittingEmptySubsequences: false)
        guard parts.count == 3 else { return nil }
        for part in parts {
            guard !part.isEmpty,
                part.allSatisfy({
                    switch $0 {
                    case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x2e, 0x5f: true
                    default: false
                    }
                })
            else { return nil }
        }
        cloud = String(Substring(parts[0]))
        role = String(Substring(parts[1]))
        name = String(Substring(parts[2]))
    }

    public var uri: String { "karri://\(cloud)/\(role)/\(name)" }
    public var description: String { uri }
}

/// What goes with an internal call beside its message.
public struct CallContext: Sendable {
    /// Follows a client's request through all daemons, into every log.
    public var requestID: String
    /// Who calls; `nil` at the calling end.
    public var caller: PeerIdentity?
    public init(requestID: String, caller: PeerIdentity? = nil) {
        self.requestID = requestID
        self.caller = caller
    }
}

/// Carries one internal call. The daemons' is curl with mutual TLS and WS-Security; the simulation's is bytes over a lossy network.
public protocol MessageTransport: Sendable {
    /// - Parameters:
    ///   - input: a record of `operation.input`.
    ///   - endpoint: `host:port`.
    /// - Returns: a record of `operation.output`.
    /// - Throws: what the other end threw, with its reason; `.unavailable` when it cannot be reached or the answer is not sound.
    func call(
        _ service: ServiceDefinition, _ operation: Operation, _ input: Value, to endpoint: String, context: CallContext
    ) async throws(CloudError) -> Value
}
