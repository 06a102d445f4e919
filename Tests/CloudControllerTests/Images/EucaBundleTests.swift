import Domain
import Signing
import TestKit
import Testing

@testable import CloudControllerKit

/// A bundle that the original `euca-bundle-image` (euca2ools 3.4.1, Python 2.7) wrote of the numbers 1 to 4000 with two certificates of
/// its own: `Golden/euca2ools`. Recorded by
/// `euca-bundle-image -i tiny.img -d . -r x86_64 -k user.key -c user.pem --ec2cert cloud.pem -u 123456789012 --kernel eki-12345678
/// --ramdisk eri-12345678 -B root=/dev/sda1,ephemeral0=sdb`.
@Suite struct EucaBundleTests {
    private static let folder = GoldenFile.folder() + "/euca2ools"

    private func file(_ name: String) throws -> [UInt8] { try contents("\(Self.folder)/\(name)") }
    private func text(_ name: String) throws -> String { String(decoding: try file(name), as: UTF8.self) }

    @Test func isVerifiedAndOpened() throws {
        let manifest = try SignedManifest(try file("tiny.img.manifest.xml")).verify([try Certificate(pem: try text("user.pem"))])
        #expect(manifest.architecture == "x86_64" && manifest.role == .machine)
        #expect(manifest.kernelID == "eki-12345678" && manifest.ramdiskID == "eri-12345678")
        #expect(manifest.mappings.map(\.device) == ["sdb", "/dev/sda1"])
        let part = try file("tiny.img.part.00")
        #expect(manifest.parts.map(\.filename) == ["tiny.img.part.00"] && manifest.bundledSize == part.count)
        #expect(manifest.parts[0].digest == Hex.encode(Digest.sha1(part)))
        let secret = try ImageRegistrar.secret(manifest, try PrivateKey(pem: try text("cloud.key")))
        let opened = try withFolder { folder in
            try shell(
                "cd \(folder); openssl enc -d -aes-128-cbc -K \(Hex.encode(secret[..<16])) -iv \(Hex.encode(secret[16...]))"
                    + " -in '\(Self.folder)/tiny.img.part.00' | gunzip > tiny.tar; sha1sum tiny.tar | cut -d' ' -f1; tar -xf tiny.tar;"
                    + " stat -c %s tiny.img; seq 1 4000 | cmp - tiny.img && echo same")
        }
        #expect(opened.split(separator: "\n") == [Substring(manifest.digest), "\(manifest.size)", "same"])
    }

    @Test func aChangedOneIsRefused() throws {
        let signer = try Certificate(pem: try text("user.pem"))
        for (a, b) in [("<user>123456789012", "<user>210987654321"), ("sda1", "sda2"), ("eki-12345678", "eki-87654321")] {
            let pieces = try text("tiny.img.manifest.xml").split(separator: a, omittingEmptySubsequences: false)
            #expect(pieces.count == 2)
            let changed = Array(pieces.joined(separator: b).utf8)
            #expect(code { _ = try SignedManifest(changed).verify([signer]) } == "InvalidManifest")
        }
    }
}
