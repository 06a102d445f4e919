public import Domain
import Signing

/// What a key pair may be called and be made of.
public enum KeyPairRules {
    /// - Throws: `.invalidParameter("KeyName")`: 1 to 255 printable ASCII characters, no blank at an end.
    public static func checkName(_ name: String) throws(CloudError) {
        guard (1...255).contains(name.utf8.count), name.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7f }), name.utf8.first != 0x20,
            name.utf8.last != 0x20
        else {
            throw CloudError(
                .invalidParameter("KeyName"), "A key pair's name has 1 to 255 printable ASCII characters, without blanks at the ends")
        }
    }

    /// What was made of a new private key: all that is kept, and the text that is given out once.
    public struct Created: Sendable {
        public let type, fingerprint, publicKey, privateKey: String
    }

    /// - Parameter type: `rsa` (2048 bits) or `ed25519`.
    public static func create(type: String, name: String) throws(CloudError) -> Created {
        let key = type == "ed25519" ? try PrivateKey.generateEd25519() : try PrivateKey.generateRSA(bits: 2048)
        return Created(
            type: key.isRSA ? "rsa" : "ed25519", fingerprint: Fingerprint.ofCreatedKeyPair(key),
            publicKey: key.publicKey.openSSHPublicKey(comment: name), privateKey: key.keyPairPEM)
    }

    /// - Parameter material: text in any form that EC2 takes, or the DER of a SubjectPublicKeyInfo.
    /// - Throws: `InvalidKey.Format`.
    public static func parseImported(_ material: [UInt8], name: String) throws(CloudError) -> (
        type: String, fingerprint: String, publicKey: String
    ) {
        guard material.count <= 16_384 else {
            throw CloudError(.named(code: "InvalidKey.Format", status: 400), "The public key is larger than 16384 bytes")
        }
        var text = String(decoding: material, as: UTF8.self)
        if material.first == 0x30 { text = "-----BEGIN PUBLIC KEY-----\n\(Base64.encode(material))\n-----END PUBLIC KEY-----\n" }
        let key = try OpenSSHKey(parsing: text)
        let line = "\(key.kind.rawValue) \(Base64.encode(key.blob)) \(key.comment.isEmpty ? name : key.comment)"
        return (key.kind == .rsa ? "rsa" : "ed25519", key.fingerprint, line)
    }

    static let filters: Set<String> = ["fingerprint", "key-name", "key-pair-id", "tag"]

    static func values(_ key: KeyPair, _ filter: String) -> [String] {
        switch filter {
        case "fingerprint": [key.fingerprint]
        case "key-name": [key.name]
        case "key-pair-id": [key.id.text]
        default: []
        }
    }
}
