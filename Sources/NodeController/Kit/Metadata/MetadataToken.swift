import Domain
import Signing

/// Session tokens of the metadata service, version 2. Nothing is stored: a token is its end and a MAC over it and the instance, so it is
/// good for one instance only, on this node, until it ends; a restart of the daemon keeps it good.
struct MetadataToken: Sendable {
    /// Six hours, as EC2 has it.
    static let longestSeconds = 21_600
    private let secret: [UInt8]

    /// - Parameter secret: 32 bytes.
    init(secret: [UInt8]) { self.secret = secret }

    func make(for instanceID: String, seconds: Int, now: Timestamp) -> String {
        let end = now.seconds + Int64(seconds)
        let bytes = Self.bytes(end)
        return Base64.encode(bytes + mac(instanceID, bytes))
    }

    func isValid(_ token: String, for instanceID: String, now: Timestamp) -> Bool {
        guard token.utf8.count <= 128, let bytes = Base64.decode(token, strict: true), bytes.count == 40 else { return false }
        let end = bytes[..<8].reduce(Int64(0)) { $0 << 8 | Int64($1) }
        return constantTimeEqual(mac(instanceID, Array(bytes[..<8])), Array(bytes[8...])) && end > now.seconds
    }

    private func mac(_ instanceID: String, _ end: [UInt8]) -> [UInt8] {
        HMAC.sha256(key: secret, Array("karri metadata token\n\(instanceID)\n".utf8) + end)
    }

    private static func bytes(_ value: Int64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: value >> Int64(56 - $0 * 8)) } }
}
