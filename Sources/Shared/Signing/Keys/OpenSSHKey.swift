public import Domain

/// A public key in OpenSSH's form, as `ImportKeyPair` takes it.
public struct OpenSSHKey: Sendable, Equatable {
    public enum Kind: String, Sendable { case rsa = "ssh-rsa", ed25519 = "ssh-ed25519" }
    public let kind: Kind
    public let blob: [UInt8]
    public let comment: String

    /// Parses `type base64 [comment]`, a bare base64 blob, RFC 4716 (`---- BEGIN SSH2 PUBLIC KEY ----`) or a PEM public key:
    /// the forms that EC2 accepts (EC2 API Reference, ImportKeyPair).
    /// - Throws: `InvalidKey.Format`.
    public init(parsing text: String) throws(CloudError) {
        let refusal = CloudError(.named(code: "InvalidKey.Format", status: 400), "Key is not in valid OpenSSH public key format")
        let lines = text.split(whereSeparator: \.isNewline).map(String.init)
        var blob: [UInt8]?
        var comment = ""
        if let first = lines.first, first.hasPrefix("-----BEGIN PUBLIC KEY") {
            let body = lines.dropFirst().prefix { !$0.hasPrefix("-----END") }.joined()
            guard let der = Base64.decode(body), let key = try? PublicKey(der: der) else { throw refusal }
            blob = key.openSSHBlob
        } else if let first = lines.first, first.hasPrefix("---- BEGIN SSH2 PUBLIC KEY") {
            let body = lines.dropFirst().prefix { !$0.hasPrefix("---- END") }.filter { !$0.contains(":") && !$0.hasSuffix("\\") }.joined()
            blob = Base64.decode(body)
        } else {
            let words = text.split(separator: " ", maxSplits: 2).map { $0.filter { !$0.isNewline } }
            if words.count >= 2 {
                blob = Base64.decode(words[1], strict: true)
                comment = words.count == 3 ? words[2].collapsedSpaces : ""
                guard let named = Kind(rawValue: words[0].collapsedSpaces), let blob,
                    blob.starts(with: SSHWire.string(Array(named.rawValue.utf8)))
                else { throw refusal }
            } else {
                blob = words.first.flatMap { Base64.decode($0) }
            }
        }
        guard let blob, let kind = Self.check(blob) else { throw refusal }
        self.kind = kind
        self.blob = blob
        self.comment = comment.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7f } ? comment : ""
    }

    /// The whole blob is one key of a kind that EC2 takes: RSA of 1024...16384 bits, or Ed25519.
    private static func check(_ blob: [UInt8]) -> Kind? {
        var rest = blob[...]
        guard let name = SSHWire.takeString(&rest), let kind = Kind(rawValue: String(decoding: name, as: UTF8.self)) else { return nil }
        switch kind {
        case .rsa:
            guard let e = SSHWire.takeString(&rest), let n = SSHWire.takeString(&rest), rest.isEmpty, !e.isEmpty, e.count <= 8,
                (128...2049).contains(n.count)
            else { return nil }
        case .ed25519:
            guard let point = SSHWire.takeString(&rest), point.count == 32, rest.isEmpty else { return nil }
        }
        return kind
    }

    /// One line of `authorized_keys`.
    public var line: String { "\(kind.rawValue) \(Base64.encode(blob))" + (comment.isEmpty ? "" : " \(comment)") }

    /// As EC2 shows it for imported keys: MD5 of SubjectPublicKeyInfo, colons between the bytes; Ed25519: SHA-256 of the blob, base64.
    public var fingerprint: String {
        switch kind {
        case .rsa: Fingerprint.colons(Digest.md5(subjectPublicKeyInfo))
        case .ed25519: Base64.encode(Digest.sha256(blob))
        }
    }

    /// SubjectPublicKeyInfo (RFC 5280 §4.1), written by hand: two integers in three shells.
    private var subjectPublicKeyInfo: [UInt8] {
        var rest = blob[...]
        _ = SSHWire.takeString(&rest)
        let e = SSHWire.takeString(&rest) ?? []
        let n = SSHWire.takeString(&rest) ?? []
        let key = Self.tlv(0x30, Self.tlv(0x02, n) + Self.tlv(0x02, e))
        // rsaEncryption, NULL
        let algorithm: [UInt8] = [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00]
        return Self.tlv(0x30, algorithm + Self.tlv(0x03, [0] + key))
    }

    private static func tlv(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
        let n = content.count
        let length: [UInt8] =
            n < 0x80
            ? [UInt8(n)]
            : n < 0x100 ? [0x81, UInt8(n)] : [0x82, UInt8(truncatingIfNeeded: n >> 8), UInt8(truncatingIfNeeded: n)]
        return [tag] + length + content
    }
}

/// How fingerprints are shown.
public enum Fingerprint {
    /// `1f:51:ae:…`
    public static func colons(_ digest: [UInt8]) -> String { digest.map { Hex.encode([$0]) }.joined(separator: ":") }
    /// EC2's fingerprint of a key pair that it made itself: SHA-1 of the PKCS#8 private key; Ed25519: SHA-256 of the public blob, base64.
    public static func ofCreatedKeyPair(_ key: PrivateKey) -> String {
        key.isRSA ? colons(Digest.sha1(key.pkcs8DER)) : Base64.encode(Digest.sha256(key.publicKey.openSSHBlob))
    }
}
