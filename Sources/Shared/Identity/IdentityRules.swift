import Domain
import Workflow

/// What names, ids and secrets look like. Sources: IAM User Guide, "IAM and STS quotas" (names) and "IAM identifiers" (prefixes).
enum IdentityRules {
    static let managedLimit = 6144
    static let trustLimit = 4096
    static let managedPolicies = 1500
    static let policyVersions = 5
    static let attachmentsPerEntity = 10
    static let groupsPerUser = 10
    static let tagsPerEntity = 50
    static let oidcProviders = 100
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

    /// Of a user, group, role or instance profile.
    static func checkName(_ name: String, _ kind: EntityKind) throws(CloudError) {
        let fits = (1...kind.nameLimit).contains(name.utf8.count) && name.utf8.allSatisfy { isNameByte($0) }
        guard fits, kind != .user || name.lowercased() != "root" else {
            throw IdentityError.invalid(
                "the name of the \(kind.words)", "it has 1 to \(kind.nameLimit) letters, digits and characters of +=,.@_-")
        }
    }

    static func checkEntityPath(_ path: String) throws(CloudError) {
        do throws(CloudError) { try checkPath(path) } catch { throw IdentityError.invalid("Path", error.message) }
    }

    /// Source: IAM User Guide, "Rules for tagging in IAM and AWS STS".
    static func checkTag(_ tag: IdentityTag) throws(CloudError) {
        let texts = [tag.key, tag.value]
        let fits = texts.allSatisfy { text in
            text.unicodeScalars.allSatisfy {
                $0.properties.isAlphabetic || $0.properties.numericType != nil || " _.:/=+-@".unicodeScalars.contains($0)
            }
        }
        guard fits, (1...128).contains(tag.key.unicodeScalars.count), tag.value.unicodeScalars.count <= 256,
            !tag.key.lowercased().hasPrefix("aws:")
        else {
            throw IdentityError.invalid(
                "the tag \(tag.key.prefix(40))",
                "a key has 1 to 128 and a value up to 256 letters, digits, spaces and characters of _.:/=+-@, and does not begin with aws:")
        }
    }

    /// The size of a policy that counts: without white space.
    static func size(_ document: String) -> Int { document.utf8.count { $0 != 0x20 && $0 != 0x0a && $0 != 0x0d && $0 != 0x09 } }

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
    static func id(_ prefix: String, _ random: any Random) -> String { prefix + text(17, base32, random) }
    static func sessionKeyID(_ random: any Random) -> String { "ASIA" + text(16, base32, random) }
    static func accessKeyID(_ random: any Random) -> String { "AKIA" + text(16, base32, random) }
    /// 240 random bits.
    static func secret(_ random: any Random) -> String { text(40, base64, random) }
    static func canonicalUserID(_ random: any Random) -> String { Hex.encode(random.bytes(32)) }

    /// Both alphabets have a power of two of characters, so a byte's low bits choose evenly.
    private static func text(_ count: Int, _ alphabet: [UInt8], _ random: any Random) -> String {
        String(decoding: random.bytes(count).map { alphabet[Int($0) % alphabet.count] }, as: UTF8.self)
    }
}
