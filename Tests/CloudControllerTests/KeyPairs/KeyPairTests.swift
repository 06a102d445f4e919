import API
import Domain
import Signing
import Testing

@testable import CloudControllerKit

@Suite struct KeyPairTests {
    /// What EC2 documents: SHA-1 of the private key in PKCS#8 DER. OpenSSL and ssh are the witnesses.
    @Test func createdRSA() throws {
        let made = try KeyPairRules.create(type: "rsa", name: "alpha")
        #expect(made.privateKey.hasPrefix("-----BEGIN RSA PRIVATE KEY-----"))
        try withFolder { folder in
            _ = try shell("umask 077; cat > \(folder)/key <<'EOF'\n\(made.privateKey)\nEOF\n")
            let digest = try shell(
                "openssl pkcs8 -in \(folder)/key -inform PEM -outform DER -topk8 -nocrypt | openssl sha1 -c | sed 's/.*= *//'")
            #expect(made.fingerprint == digest)
            let line = try shell("ssh-keygen -y -f \(folder)/key")
            #expect(
                made.publicKey.split(separator: " ").prefix(2).joined(separator: " ")
                    == line.split(separator: " ").prefix(2).joined(separator: " "))
        }
    }

    @Test func createdEd25519() throws {
        let made = try KeyPairRules.create(type: "ed25519", name: "alpha")
        try withFolder { folder in
            _ = try shell("umask 077; cat > \(folder)/key <<'EOF'\n\(made.privateKey)\nEOF\n")
            let line = try shell("ssh-keygen -y -f \(folder)/key")
            #expect(
                made.publicKey.split(separator: " ").prefix(2).joined(separator: " ")
                    == line.split(separator: " ").prefix(2).joined(separator: " "))
            let shown = try shell("ssh-keygen -lf \(folder)/key | cut -d' ' -f2")
            #expect("SHA256:" + made.fingerprint.filter { $0 != "=" } == shown)
        }
    }

    @Test(arguments: ["rsa -b 2048", "rsa -b 4096", "ed25519"]) func imported(kind: String) throws {
        try withFolder { folder in
            _ = try shell("ssh-keygen -q -t \(kind) -N '' -C 'me@here' -f \(folder)/key")
            let line = try contents("\(folder)/key.pub")
            let parsed = try KeyPairRules.parseImported(line, name: "alpha")
            #expect(parsed.publicKey == String(decoding: line, as: UTF8.self).trimmed)
            if kind.hasPrefix("rsa") {
                let digest = try shell(
                    "ssh-keygen -e -m PKCS8 -f \(folder)/key.pub | openssl pkey -pubin -outform DER | openssl md5 -c | sed 's/.*= *//'")
                #expect(parsed.fingerprint == digest)
                // The other forms that EC2 takes are the same key.
                _ = try shell(
                    "ssh-keygen -e -m PKCS8 -f \(folder)/key.pub > \(folder)/pem; ssh-keygen -e -f \(folder)/key.pub > \(folder)/rfc4716")
                _ = try shell("openssl pkey -pubin -in \(folder)/pem -outform DER -out \(folder)/der")
                for other in ["pem", "rfc4716", "der"] {
                    #expect(
                        try KeyPairRules.parseImported(try contents("\(folder)/\(other)"), name: "alpha").fingerprint == digest, "\(other)")
                }
            } else {
                let shown = try shell("ssh-keygen -lf \(folder)/key.pub | cut -d' ' -f2")
                #expect("SHA256:" + parsed.fingerprint.filter { $0 != "=" } == shown)
            }
        }
    }

    @Test func importedRefusals() {
        for text in [
            "", "ssh-rsa", "ssh-rsa AAAA", "ssh-dss AAAAB3NzaC1kc3MAAA", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n",
            String(repeating: "A", count: 20_000),
        ] {
            #expect(code { _ = try KeyPairRules.parseImported(Array(text.utf8), name: "x") } == "InvalidKey.Format", "\(text.prefix(30))")
        }
        for name in ["", " a", "a ", "ü", String(repeating: "a", count: 256)] {
            #expect(code { try KeyPairRules.checkName(name) } == "InvalidParameterValue", "\(name.prefix(20))")
        }
    }

    @Test func life() async throws {
        let test = try await TestCloud()
        let (ec2, alice, bob) = (test.actions, test.alice, test.bob)
        let made = try await ec2.createKeyPair(
            EC2.CreateKeyPair(
                keyName: "alpha", keyType: "ed25519",
                tagSpecifications: [EC2.TagSpecification(resourceType: "key-pair", tags: [EC2.Tag(key: "a", value: "b")])]),
            alice)
        #expect(made.tags == [EC2.Tag(key: "a", value: "b")])
        #expect(
            await code { _ = try await ec2.createKeyPair(EC2.CreateKeyPair(keyName: "alpha", keyType: "ed25519"), alice) }
                == "InvalidKeyPair.Duplicate")
        _ = try await ec2.createKeyPair(EC2.CreateKeyPair(keyName: "alpha", keyType: "ed25519"), bob)
        let dry = EC2.CreateKeyPair(keyName: "beta", keyType: "ed25519", dryRun: true)
        #expect(await code { _ = try await ec2.createKeyPair(dry, alice) } == "DryRunOperation")
        let list = try await ec2.describeKeyPairs(
            EC2.DescribeKeyPairs(filters: [EC2.Filter(name: "tag:a", values: ["b"])], includePublicKey: true), alice)
        #expect(list.keyPairs.map(\.keyPairId) == [made.keyPairId])
        #expect(list.keyPairs.first?.publicKey?.hasPrefix("ssh-ed25519 ") == true)
        #expect(
            await code { _ = try await ec2.describeKeyPairs(EC2.DescribeKeyPairs(keyNames: ["beta"]), alice) } == "InvalidKeyPair.NotFound")
        // Another account's key is no key; deleting what is not there is no error.
        let id = try #require(made.keyPairId)
        #expect(try await ec2.deleteKeyPair(EC2.DeleteKeyPair(keyPairId: id), bob).keyPairId == nil)
        #expect(try await ec2.deleteKeyPair(EC2.DeleteKeyPair(keyName: "alpha"), alice).keyPairId == id)
        #expect(try await ec2.describeKeyPairs(EC2.DescribeKeyPairs(), alice).keyPairs.isEmpty)
        #expect(try await ec2.describeTags(EC2.DescribeTags(), alice).tags.isEmpty)
        #expect(await code { _ = try await ec2.deleteKeyPair(EC2.DeleteKeyPair(), alice) } == "MissingParameter")
    }
}
