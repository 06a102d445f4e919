import Domain
import Workflow

/// What names, ids and secrets look like. Sources: IAM User Guide, "IAM and STS quotas" (names) and "IAM identifiers" (prefixes).
enum IdentityRules {
    static let policyLimit = 2048
    static let policiesPerUser = 10
    static let keysPerUser = 2
    static let certificatesPerUser = 2

    static func checkAccountName(_ name: String) throws(CloudError) {
        let fits = (1...63).contains(name.utf8.count) && name.utf8.allSatisfy { isLowerOrDigit($0) || $0 == UInt8(ascii: "-") }
        guard fits, !name.hasPrefix("-"), !name.hasSuffix("-") else {
            throw CloudError(
                .invalidParameter("AccountName"), "An account's name has 1 to 63 lower-case letters, digits and inner hyphens: '\(name)'")
        }
    }

    static func checkUserName(_ name: String) throws(CloudError) {
        let fits = (1...64).contains(name.utf8.count) && name.utf8.allSatisfy { isNameByte($0) }
        guard fits, name != "root" else {
            throw CloudError(
                .invalidParameter("UserName"), "A user's name has 1 to 64 letters, digits and characters of +=,.@_- and is not 'root'")
        }
    }

    static func checkPolicyName(_ name: String) throws(CloudError) {
        guard (1...128).contains(name.utf8.count), name.utf8.allSatisfy({ isNameByte($0) }) else {
            throw CloudError(.invalidParameter("PolicyName"), "A policy's name has 1 to 128 letters, digits and characters of +=,.@_-")
        }
    }

    static func checkPath(_ path: String) throws(CloudError) {
        let fits = path.utf8.count <= 512 && path.utf8.allSatisfy { $0 >= 0x21 && $0 <= 0x7e }
        guard fits, path.hasPrefix("/"), path.hasSuffix("/") else {
            throw CloudError(.invalidParameter("Path"), "A path begins and ends with a slash and has at most 512 printable characters")
        }
    }

    private static func isLowerOrDigit(_ byte: UInt8) -> Bool { (byte >= 0x61 && byte <= 0x7a) || (byte >= 0x30 && byte <= 0x39) }
    private static func isNameByte(_ byte: UInt8) -> Bool {
        isLowerOrDigit(byte) || (byte >= 0x41 && byte <= 0x5a) || "+=,.@_-".utf8.contains(byte)
    }

    private static let base32 = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".utf8)
    private static let base64 = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    static func accountID(_ random: any Random) -> String {
        String(1 + random.below(9)) + String(decoding: (0..<11).map { _ in UInt8(0x30 + random.below(10)) }, as: UTF8.self)
    }
    static func userID(_ random: any Random) -> String { "AIDA" + text(16, base32, random) }
    static func accessKeyID(_ random: any Random) -> String { "AKIA" + text(16, base32, random) }
    /// 240 random bits.
    static func secret(_ random: any Random) -> String { text(40, base64, random) }
    static func canonicalUserID(_ random: any Random) -> String { Hex.encode(random.bytes(32)) }

    /// Both alphabets have a power of two of characters, so a byte's low bits choose evenly.
    private static func text(_ count: Int, _ alphabet: [UInt8], _ random: any Random) -> String {
        String(decoding: random.bytes(count).map { alphabet[Int($0) % alphabet.count] }, as: UTF8.self)
    }
}
