import Domain
import Synchronization

/// The texts of AWS Signature Version 4 (AWS General Reference, "Signature Version 4 signing process"), used by verifier and signer
/// alike.
enum CanonicalV4 {
    static let algorithm = "AWS4-HMAC-SHA256"
    static let emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

    static func request(
        method: String, path: String, query: String, headers: [(name: String, value: String)], signedHeaders: String, payload: String
    ) -> String {
        var text = "\(method)\n\(path)\n\(query)\n"
        for header in headers { text += "\(header.name):\(header.value)\n" }
        return text + "\n\(signedHeaders)\n\(payload)"
    }

    static func stringToSign(date: String, scope: String, canonicalRequest: String) -> String {
        "\(algorithm)\n\(date)\n\(scope)\n\(Hex.encode(Digest.sha256(canonicalRequest.utf8)))"
    }

    /// Keys of a day's callers, so that each request needs one HMAC and not five.
    private static let recentKeys = Mutex<[SigningScope: [UInt8]]>([:])
    /// Too low: busy servers with many callers derive again; too high: memory.
    private static let recentLimit = 256
    private struct SigningScope: Hashable { let secret, day, region, service: String }

    static func signingKey(secret: String, day: String, region: String, service: String) -> [UInt8] {
        let scope = SigningScope(secret: secret, day: day, region: region, service: service)
        if let known = recentKeys.withLock({ $0[scope] }) { return known }
        let key = derivedKey(secret: secret, day: day, region: region, service: service)
        recentKeys.withLock { keys in
            if keys.count >= recentLimit { keys = [:] }
            keys[scope] = key
        }
        return key
    }

    private static func derivedKey(secret: String, day: String, region: String, service: String) -> [UInt8] {
        let dayKey = HMAC.sha256(key: Array("AWS4\(secret)".utf8), day.utf8)
        let regionKey = HMAC.sha256(key: dayKey, region.utf8)
        let serviceKey = HMAC.sha256(key: regionKey, service.utf8)
        return HMAC.sha256(key: serviceKey, "aws4_request".utf8)
    }

    static func signature(key: [UInt8], _ stringToSign: String) -> [UInt8] { HMAC.sha256(key: key, stringToSign.utf8) }

    /// Names and values encoded, sorted by encoded name, then by encoded value; `excluded` is a name left out.
    static func query(_ pairs: [(name: [UInt8], value: [UInt8])], excluding excluded: String? = nil) -> String {
        var encoded = pairs.map { (URIEncoding.encode($0.name), URIEncoding.encode($0.value)) }
        if let excluded { encoded.removeAll { $0.0 == excluded } }
        encoded.sort { $0.0 == $1.0 ? byteOrder($0.1, $1.1) : byteOrder($0.0, $1.0) }
        return encoded.map { "\($0.0)=\($0.1)" }.joined(separator: "&")
    }

    /// One header's canonical value: duplicates keep their order, joined by commas.
    static func value(_ values: [String]) -> String { values.map(\.collapsedSpaces).joined(separator: ",") }

    /// RFC 3986 §5.2.4 on the segments, and `//` collapsed, as every service but S3 wants the path.
    static func normalized(path: String) -> String {
        var out: [Substring.UTF8View] = []
        let parts = path.utf8.split(separator: 0x2f)
        for part in parts {
            if part.elementsEqual(".".utf8) { continue }
            if part.elementsEqual("..".utf8) {
                if !out.isEmpty { out.removeLast() }
                continue
            }
            out.append(part)
        }
        let joined = "/" + out.map { String(Substring($0)) }.joined(separator: "/")
        let last = parts.last.map { $0.elementsEqual(".".utf8) || $0.elementsEqual("..".utf8) } ?? false
        return out.isEmpty || !(path.utf8.last == 0x2f || last) ? joined : joined + "/"
    }
}

/// `<access key>/<day>/<region>/<service>/aws4_request`. Region and service may be anything: euca2ools signs
/// `undefined-<pid>`, boto 2 takes both from the host's name; the client's own words go into the key.
struct CredentialScope: Sendable, Equatable {
    let accessKeyID, day, region, service: String
    var scope: String { "\(day)/\(region)/\(service)/aws4_request" }

    init?(credential: String) {
        let parts = credential.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        // An access key id may hold slashes; the scope is the last four.
        guard parts.count >= 5, parts[parts.count - 1] == "aws4_request" else { return nil }
        let key = parts[0..<(parts.count - 4)].joined(separator: "/")
        let day = parts[parts.count - 4]
        guard !key.isEmpty, key.utf8.count <= 128, day.utf8.count == 8, day.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }),
            parts[parts.count - 2].utf8.count <= 128, parts[parts.count - 3].utf8.count <= 128
        else { return nil }
        accessKeyID = key
        self.day = day
        region = parts[parts.count - 3]
        service = parts[parts.count - 2]
    }
}
