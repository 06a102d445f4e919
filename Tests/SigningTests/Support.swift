import Domain
import Glibc
import TestKit
import Testing
import Wire

@testable import Signing

/// Files beside the tests.
enum Golden {
    static let directory = GoldenFile.folder()

    static func bytes(_ name: String) throws -> [UInt8] { try GoldenFile(name).bytes() }

    static func text(_ name: String) throws -> String { String(decoding: try bytes(name), as: UTF8.self) }

    static func names(in folder: String) throws -> [String] {
        let handle = try #require(opendir("\(directory)/\(folder)"))
        defer { closedir(handle) }
        var out: [String] = []
        while let entry = readdir(handle) {
            let name = withUnsafePointer(to: entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if !name.hasPrefix(".") { out.append(name) }
        }
        return out.sorted()
    }
}

/// A request as `make_requests.py` recorded it.
struct RecordedRequest {
    var facts: [String: String] = [:]
    var request: SignedRequest
    var body: [UInt8]

    init(_ bytes: [UInt8]) throws {
        let end = try #require((0..<(bytes.count - 1)).first { bytes[$0] == 0x0a && bytes[$0 + 1] == 0x0a })
        let lines = String(decoding: bytes[..<end], as: UTF8.self).split(separator: "\n").map(String.init)
        body = Array(bytes[(end + 2)...])
        for fact in lines[0].split(separator: " ") {
            let pair = fact.split(separator: "=").map(String.init)
            facts[pair[0]] = pair[1]
        }
        let line = lines[1].split(separator: " ", maxSplits: 1).map(String.init)
        let target = line[1].split(separator: "?", maxSplits: 1).map(String.init)
        let headers = lines.dropFirst(2).map { line -> (name: String, value: String) in
            let pair = line.split(separator: ":", maxSplits: 1).map(String.init)
            return (pair[0], pair.count > 1 ? String(pair[1].drop { $0 == " " }) : "")
        }
        request = SignedRequest(
            method: line[0], rawPath: target[0], rawQuery: target.count > 1 ? target[1] : nil, headers: headers,
            isTLS: facts["tls"] == "1", virtualBucket: facts["bucket"])
    }

    var now: Timestamp { Timestamp(seconds: Int64(facts["now"] ?? "") ?? 0) }
    var service: AWSSignature.Service { facts["service"] == "s3" ? .s3 : .ec2Query }
    var kind: SignatureKind {
        switch facts["kind"] {
        case "v4Header": .v4Header
        case "v4Query": .v4Query
        case "v2Header": .v2Header
        default: .v2Query
        }
    }
    var form: [(String, String)]? {
        guard service == .ec2Query, request.method == "POST" else { return nil }
        return URIEncoding.pairs(rawQuery: String(decoding: body, as: UTF8.self)).map {
            (String(decoding: $0.name, as: UTF8.self), String(decoding: $0.value, as: UTF8.self))
        }
    }
    var bodySHA256: String? { service == .ec2Query ? Hex.encode(Digest.sha256(body)) : nil }

    func verify(secret: String = exampleSecret, now: Timestamp? = nil) throws -> VerifiedSignature {
        let parsed = try #require(try AWSSignature.parse(request, form: form, service: service))
        return try parsed.verify(secret: secret, now: now ?? self.now, bodySHA256: bodySHA256)
    }
}

let exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

/// Keys are slow to make: one set for all tests.
enum TestKeys {
    static let key = try? PrivateKey.generateRSA()
    static let otherKey = try? PrivateKey.generateRSA()
    static let certificate = key.flatMap { try? CertificateAuthority.selfSigned(name: "user", key: $0, days: 30) }
    static let otherCertificate = otherKey.flatMap { try? CertificateAuthority.selfSigned(name: "mallory", key: $0, days: 30) }

    static func pair() throws -> (key: PrivateKey, certificate: Certificate) { (try #require(key), try #require(certificate)) }
    static func otherPair() throws -> (key: PrivateKey, certificate: Certificate) {
        (try #require(otherKey), try #require(otherCertificate))
    }
}

/// What a body threw, `nil` when it threw nothing or something that is no CloudError.
func refusal(_ body: () async throws -> Void) async -> CloudError? {
    do {
        try await body()
        return nil
    } catch { return error as? CloudError }
}

func refusal(_ body: () throws -> Void) -> CloudError? {
    do {
        try body()
        return nil
    } catch { return error as? CloudError }
}

/// `#require` for use inside another: macros do not nest.
func need<T>(_ value: T?) throws -> T {
    guard let value else { throw CloudError(.bug, context: "missing") }
    return value
}
