import Daemon
import Domain
import Signing

/// How the bytes of an object, or of an upload's parts, are encrypted: what stands in its row. Decision 10.
///
/// Each object has a data key of its own. It is kept sealed (AES-256-GCM) by the key of its kind, so opening it with another key fails,
/// and the bytes are AES-256 in counter mode under it. A blob's nonce is its id, which is random and used once; bytes in a row have the
/// nonce 0, because their data key is used for nothing else.
public struct Encryption: Sendable, Equatable {
    public enum Kind: String, Sendable {
        case s3 = "AES256"
        case kms = "aws:kms"
        case kmsDSSE = "aws:kms:dsse"
        /// With the client's key, which is never stored.
        case customer = "SSE-C"
    }
    let kind: Kind
    /// Of `kms`: as the client named it; empty: the store's own.
    let keyID: String
    /// Said back to the client; there is nothing to save here.
    let bucketKey: Bool
    /// The client's context of `kms`, as it was sent (Base64): part of what the seal authenticates.
    let context: String
    let sealedKey: [UInt8]

    /// As the row keeps it. No part of it is secret.
    var stored: String {
        [
            "1", kind.rawValue, Base64.encode(sealedKey), bucketKey ? "bucket-key" : "-", Base64.encode(Array(keyID.utf8)),
            Base64.encode(Array(context.utf8)),
        ].joined(separator: " ")
    }

    init(kind: Kind, keyID: String = "", bucketKey: Bool = false, context: String = "", sealedKey: [UInt8]) {
        self.kind = kind
        self.keyID = keyID
        self.bucketKey = bucketKey
        self.context = context
        self.sealedKey = sealedKey
    }

    /// `nil` for what we did not write.
    init?(stored: String) {
        let parts = stored.split(separator: " ", omittingEmptySubsequences: false)
        guard parts.count == 6, parts[0] == "1", let kind = Kind(rawValue: String(parts[1])), let sealed = Base64.decode(parts[2]),
            let key = Base64.decode(parts[4]), let context = Base64.decode(parts[5])
        else { return nil }
        self.init(
            kind: kind, keyID: String(decoding: key, as: UTF8.self), bucketKey: parts[3] == "bucket-key",
            context: String(decoding: context, as: UTF8.self), sealedKey: sealed)
    }

    /// Whether the ETag is the MD5 of what the client sent. With keys that are the client's or managed it is not, so that it tells nothing
    /// of the bytes. Source: S3 API reference, "Object" (ETag).
    var hasPlainETag: Bool { kind == .s3 }

    /// What every answer about the object says.
    /// - Parameter customer: the MD5 of the client's key as this request showed it.
    func headers(customer: CustomerKey?) -> [(String, String)] {
        let prefix = "x-amz-server-side-encryption"
        switch kind {
        case .s3: return [(prefix, kind.rawValue)]
        case .kms, .kmsDSSE:
            var headers = [(prefix, kind.rawValue), (prefix + "-aws-kms-key-id", keyID.isEmpty ? KeyRing.ownKeyID : keyID)]
            if bucketKey { headers.append((prefix + "-bucket-key-enabled", "true")) }
            return headers
        case .customer:
            guard let customer else { return [] }
            return [(prefix + "-customer-algorithm", "AES256"), (prefix + "-customer-key-MD5", customer.md5)]
        }
    }
}

/// A client's key, shown with a request.
struct CustomerKey: Sendable, CustomStringConvertible {
    /// 32 bytes.
    let key: [UInt8]
    /// Base64.
    let md5: String
    /// Never the key.
    var description: String { "customer key" }
}

/// An encryption with its data key open: what reads and writes bytes.
struct OpenEncryption: Sendable, CustomStringConvertible {
    let record: Encryption
    private let key: [UInt8]
    let headers: [(String, String)]

    init(record: Encryption, key: [UInt8], customer: CustomerKey?) {
        self.record = record
        self.key = key
        headers = record.headers(customer: customer)
    }

    /// - Parameters:
    ///   - blob: `nil`: bytes that stand in a row.
    ///   - offset: of the first byte, in the blob or row.
    func cipher(_ blob: BlobID?, offset: Int = 0) throws(CloudError) -> AESCounter {
        let nonce = blob.flatMap { Hex.decode($0.text) } ?? [UInt8](repeating: 0, count: 16)
        return try AESCounter(key: key, nonce: nonce, offset: offset)
    }

    /// The ETag of bytes with this MD5 (both hexadecimal). Where it may not be the MD5 it is the same for the same bytes under the same
    /// data key (a part that is sent again), and tells nothing of them to those who do not have it.
    func etag(_ md5: String) -> String {
        record.hasPlainETag ? md5 : Hex.encode(HMAC.sha256(key: key, "etag \(md5)".utf8).prefix(16))
    }

    /// Never the key.
    var description: String { "encryption \(record.kind.rawValue)" }
}

/// The cloud's keys for objects: all of them come from the cloud key, by HMAC-SHA-256 over their names.
struct KeyRing: Sendable, CustomStringConvertible {
    /// The key that `aws:kms` without a key id means. Source: S3 User Guide, "Using SSE-KMS": the AWS managed key `aws/s3`.
    static let ownKeyID = "alias/aws/s3"

    /// `nil`: nothing can be encrypted, nor read if it is.
    private let cloudKey: [UInt8]?
    private let names: Set<String>
    let acceptsCustomerKeysOnHTTP: Bool

    /// - Parameters:
    ///   - cloudKey: 32 bytes.
    ///   - names: the ids of managed keys that clients may name.
    init(cloudKey: [UInt8]?, names: [String], acceptsCustomerKeysOnHTTP: Bool) {
        self.cloudKey = cloudKey
        self.names = Set(names)
        self.acceptsCustomerKeysOnHTTP = acceptsCustomerKeysOnHTTP
    }

    /// For parts that never meet encrypted objects.
    static let none = KeyRing(cloudKey: nil, names: [], acceptsCustomerKeysOnHTTP: false)

    var description: String { "\(names.count) keys" }

    /// The cloud's key from its file. - Throws: `.unavailable` when it cannot be read or holds something else.
    static func cloudKey(file: String) throws(CloudError) -> [UInt8] {
        let text = String(decoding: try FileSystem.read(file, limit: 4096), as: UTF8.self).filter { !$0.isWhitespace }
        guard let key = Hex.decode(text), key.count == 32 else {
            throw CloudError(.unavailable("secret_key_file"), "\(file) does not hold 32 bytes in hexadecimal")
        }
        return key
    }

    private func derived(_ name: String) throws(CloudError) -> [UInt8] {
        guard let cloudKey else { throw CloudError(.unavailable("secret_key_file"), context: "no cloud key for objects") }
        return HMAC.sha256(key: cloudKey, name.utf8)
    }

    /// The key of `aws:kms` by its id, alias or ARN. - Throws: `KMS.NotFoundException`.
    func check(keyID: String) throws(CloudError) {
        if keyID.isEmpty || keyID == Self.ownKeyID { return }
        guard names.contains(Self.bare(keyID)) else {
            throw S3Failure.named("KMS.NotFoundException", 400, "Key '\(keyID)' does not exist")
        }
    }

    /// `arn:aws:kms:<region>:<account>:key/<id>` and `…:alias/<name>` are their last parts.
    private static func bare(_ keyID: String) -> String {
        guard keyID.hasPrefix("arn:") else { return keyID }
        let resource = keyID.split(separator: ":", maxSplits: 5).last.map(String.init) ?? keyID
        return resource.hasPrefix("key/") ? String(resource.dropFirst(4)) : resource
    }

    private func sealingKey(_ kind: Encryption.Kind, _ keyID: String, _ customer: CustomerKey?) throws(CloudError) -> [UInt8] {
        switch kind {
        case .s3: return try derived("walrus sse-s3")
        case .kms, .kmsDSSE:
            try check(keyID: keyID)
            let name = keyID.isEmpty ? Self.ownKeyID : Self.bare(keyID)
            return try derived("walrus sse-kms \(name)")
        case .customer:
            guard let customer else { throw .bug("a customer's encryption without its key") }
            return customer.key
        }
    }

    private static func authenticated(_ kind: Encryption.Kind, _ context: String) -> [UInt8] {
        Array("walrus object \(kind.rawValue) \(context)".utf8)
    }

    /// A new data key, sealed.
    func make(
        _ kind: Encryption.Kind, keyID: String = "", bucketKey: Bool = false, context: String = "", customer: CustomerKey? = nil,
        dataKey: [UInt8]
    ) throws(CloudError) -> OpenEncryption {
        let sealed = try AES.seal(dataKey, key: try sealingKey(kind, keyID, customer), context: Self.authenticated(kind, context))
        let record = Encryption(kind: kind, keyID: keyID, bucketKey: bucketKey, context: context, sealedKey: sealed)
        return OpenEncryption(record: record, key: dataKey, customer: customer)
    }

    /// - Throws: `AccessDenied` for another customer's key; `KMS.NotFoundException` for a managed key that is not there any more.
    func open(_ record: Encryption, customer: CustomerKey?) throws(CloudError) -> OpenEncryption {
        let sealing = try sealingKey(record.kind, record.keyID, customer)
        do throws(CloudError) {
            let key = try AES.open(record.sealedKey, key: sealing, context: Self.authenticated(record.kind, record.context))
            return OpenEncryption(record: record, key: key, customer: customer)
        } catch {
            guard record.kind == .customer else { throw error }
            throw S3Failure.accessDenied("another customer key than the object's")
        }
    }
}
