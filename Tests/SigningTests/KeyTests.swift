import Domain
import Signing
import Testing

@Suite struct DigestTests {
    @Test func digestsOfABC() {
        let abc = Array("abc".utf8)
        #expect(Hex.encode(Digest.md5(abc)) == "900150983cd24fb0d6963f7d28e17f72")
        #expect(Hex.encode(Digest.sha1(abc)) == "a9993e364706816aba3e25717850c26c9cd0d89d")
        #expect(Hex.encode(Digest.sha256(abc)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(Hex.encode(Digest.sha256([UInt8]())) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        #expect(Digest.sha256("abc".utf8) == Digest.sha256(abc) && Digest.sha256(abc[...]) == Digest.sha256(abc))
        // A collection that is not in one piece.
        #expect(Digest.sha1(abc.lazy.map { $0 }) == Digest.sha1(abc))
    }

    @Test func inPieces() {
        let hasher = Digest.Hasher(.sha256)
        for _ in 0..<2 {
            hasher.update(Array("a".utf8))
            hasher.update([UInt8]())
            hasher.update(Array("xbcx".utf8)[1...2])
            #expect(hasher.finish() == Digest.sha256(Array("abc".utf8)))
        }
    }

    /// RFC 2202 and RFC 4231, test case 2.
    @Test func hmac() {
        let key = Array("Jefe".utf8)
        let data = Array("what do ya want for nothing?".utf8)
        #expect(Hex.encode(HMAC.sha1(key: key, data)) == "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")
        #expect(Hex.encode(HMAC.sha256(key: key, data)) == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    }

    /// RFC 4648 §10, and what is not base64.
    @Test func base64() {
        for (text, code) in [
            ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy"),
        ] {
            #expect(Base64.encode(text.utf8) == code)
            #expect(Base64.decode(code) == Array(text.utf8))
        }
        #expect(Base64.decode(" Zm9v\r\nYmFy\t") == Array("foobar".utf8))
        #expect(Base64.decode("Zm9v YmFy", strict: true) == nil)
        for bad in ["Z", "Zg", "Zg=", "=Zg=", "Zg==Zg==", "Zm9-", "Z===", "====", "Zg==x", "é"] {
            #expect(Base64.decode(bad) == nil, "\(bad)")
        }
        #expect(constantTimeEqual([1, 2], [1, 2]) && !constantTimeEqual([1, 2], [1, 3]) && !constantTimeEqual([1], [1, 2]))
        #expect(constantTimeEqual([UInt8](), [UInt8]()))
    }
}

@Suite struct KeyTests {
    @Test func pemRoundTrips() throws {
        let (key, _) = try TestKeys.pair()
        #expect(key.pem.hasPrefix("-----BEGIN PRIVATE KEY-----\n"))
        #expect(key.keyPairPEM.hasPrefix("-----BEGIN RSA PRIVATE KEY-----\n"))
        #expect(try PrivateKey(pem: key.pem).pkcs8DER == key.pkcs8DER)
        #expect(try PrivateKey(pem: key.keyPairPEM).pkcs8DER == key.pkcs8DER)
        #expect(key.isRSA && key.publicKey.bits == 2048 && key.publicKey.isStrongRSA)
        #expect(try PublicKey(der: key.publicKey.der).der == key.publicKey.der)
        #expect(throws: CloudError.self) { try PrivateKey(pem: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n") }
        #expect(throws: CloudError.self) { try PrivateKey(pem: "") }
        #expect(throws: CloudError.self) { try PublicKey(der: key.publicKey.der + [0]) }
        #expect(throws: CloudError.self) { try PrivateKey.generateRSA(bits: 1024) }
    }

    @Test(arguments: [Digest.Algorithm.sha1, .sha256]) func signatures(_ digest: Digest.Algorithm) throws {
        let (key, certificate) = try TestKeys.pair()
        let text = Array("manifest".utf8)
        let signature = try key.sign(text, digest)
        #expect(certificate.verify(signature: signature, of: text, digest: digest))
        #expect(!certificate.verify(signature: signature, of: text + [0], digest: digest))
        #expect(!certificate.verify(signature: signature, of: text, digest: digest == .sha1 ? .sha256 : .sha1))
        #expect(!certificate.verify(signature: [0] + signature, of: text, digest: digest))
        #expect(!certificate.verify(signature: Array(signature.dropLast()), of: text, digest: digest))
        #expect(!certificate.verify(signature: [], of: text, digest: digest))
        #expect(!(try TestKeys.otherPair().certificate.verify(signature: signature, of: text, digest: digest)))
    }

    @Test func wrapping() throws {
        let (key, certificate) = try TestKeys.pair()
        let secret = Array("0123456789abcdef0123456789abcdef".utf8)
        let wrapped = try certificate.wrap(secret)
        #expect(wrapped.count == 256)
        #expect(try key.unwrap(wrapped) == secret)
        #expect(throws: CloudError.self) { try key.unwrap(wrapped.dropLast()) }
        #expect(throws: CloudError.self) { try key.unwrap([UInt8]()) }
        #expect(throws: CloudError.self) { try certificate.wrap([UInt8](repeating: 1, count: 246)) }
        #expect((try? TestKeys.otherPair().key.unwrap(wrapped)) != secret)
    }

    @Test func certificatesOfTheCloud() throws {
        let (ca, caKey) = try CertificateAuthority.makeRoot(name: "Karri root", days: 3650)
        let (key, _) = try TestKeys.pair()
        let uri = "karri://cloud-1/nc/node-1"
        let leaf = try CertificateAuthority.issue(
            name: "nc node-1", uris: [uri], dns: ["node-1.example", "*.s3.local"], ips: ["127.0.0.1", "fe80::1"], ca: ca, caKey: caKey,
            publicKey: key.publicKey, days: 90)
        #expect(leaf.subjectAltURIs == [uri])
        #expect(leaf.subjectAltDNSNames == ["node-1.example", "*.s3.local"])
        #expect(leaf.subjectAltAddresses.first == [127, 0, 0, 1] && leaf.subjectAltAddresses.last?.count == 16)
        #expect(leaf.commonName == "nc node-1" && ca.commonName == "Karri root")
        #expect(leaf.isIssued(by: ca) && ca.isIssued(by: ca))
        #expect(!leaf.isIssued(by: try TestKeys.pair().certificate))
        let (other, _) = try CertificateAuthority.makeRoot(name: "Karri root", days: 3650)
        #expect(!leaf.isIssued(by: other), "the same name is not the same authority")
        #expect(leaf.fingerprintSHA256 == Hex.encode(Digest.sha256(leaf.der)))
        #expect(try leaf.publicKey.der == key.publicKey.der)
        let days = try #require(leaf.notAfter).seconds(since: try #require(leaf.notBefore)) / 86_400
        #expect(days > 89.9 && days < 90.1)
        let copy = try Certificate(pem: leaf.pem)
        #expect(copy.der == leaf.der && copy.fingerprintSHA256 == leaf.fingerprintSHA256)
        #expect(try Certificate(der: leaf.der).der == leaf.der)
        #expect(throws: CloudError.self) { try Certificate(der: leaf.der + [0]) }
        #expect(throws: CloudError.self) { try Certificate(der: Array(leaf.der.dropLast())) }
        #expect(throws: CloudError.self) { try Certificate(pem: "nonsense") }
        #expect(ca.subjectAltURIs.isEmpty)
    }

    /// OpenSSL's text form of extensions has a syntax of its own; names must not reach into it.
    @Test(arguments: ["a,DNS:evil", "a\nb", "", "a b", "critical;x", "é"]) func namesCannotInject(_ name: String) throws {
        let (key, _) = try TestKeys.pair()
        let (ca, caKey) = try CertificateAuthority.makeRoot(name: "root", days: 1)
        #expect(throws: CloudError.self) {
            try CertificateAuthority.issue(name: "x", dns: [name], ca: ca, caKey: caKey, publicKey: key.publicKey, days: 1)
        }
        #expect(throws: CloudError.self) {
            try CertificateAuthority.issue(name: "x", ips: ["1.2.3"], ca: ca, caKey: caKey, publicKey: key.publicKey, days: 1)
        }
    }

    @Test func sshKeys() throws {
        let (key, _) = try TestKeys.pair()
        let line = key.publicKey.openSSHPublicKey(comment: "my-key")
        #expect(line.hasPrefix("ssh-rsa AAAAB3NzaC1yc2EAAAADAQAB") && line.hasSuffix(" my-key"))
        let parsed = try OpenSSHKey(parsing: line + "\n")
        #expect(parsed.line == line && parsed.kind == .rsa && parsed.comment == "my-key")
        #expect(parsed.fingerprint == Fingerprint.colons(Digest.md5(key.publicKey.der)))
        #expect(try OpenSSHKey(parsing: key.publicKey.pem).blob == parsed.blob)
        #expect(try OpenSSHKey(parsing: Base64.encode(parsed.blob)).blob == parsed.blob)
        let old = "---- BEGIN SSH2 PUBLIC KEY ----\nComment: \"x\"\n\(Base64.encode(parsed.blob))\n---- END SSH2 PUBLIC KEY ----\n"
        #expect(try OpenSSHKey(parsing: old).blob == parsed.blob)
        #expect(Fingerprint.ofCreatedKeyPair(key).utf8.count == 59)
        let modern = try PrivateKey.generateEd25519()
        #expect(modern.keyPairPEM.hasPrefix("-----BEGIN OPENSSH PRIVATE KEY-----\n"))
        let modernLine = modern.publicKey.openSSHPublicKey(comment: "")
        #expect(try OpenSSHKey(parsing: modernLine).line == modernLine)
        let blob = Base64.encode(parsed.blob)
        for bad in [
            "", "ssh-rsa", "ssh-rsa AAAA", "ssh-dss \(blob)", "ssh-ed25519 \(blob)", "ssh-rsa \(blob.dropLast(8))", "ssh-rsa \(blob)AAAA x",
            "x",
        ] {
            #expect(refusal { _ = try OpenSSHKey(parsing: bad) }?.reason == .named(code: "InvalidKey.Format", status: 400), "\(bad)")
        }
    }
}

@Suite struct CipherTests {
    private func hex(_ text: String) -> [UInt8] { Hex.decode(text) ?? [] }

    /// NIST SP 800-38A, F.2.1, without its padding.
    @Test func cbcVector() throws {
        let key = hex("2b7e151628aed2a6abf7158809cf4f3c")
        let iv = hex("000102030405060708090a0b0c0d0e0f")
        let plain = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51")
        let sealed = try AES.cbc128Encrypt(plain, key: key, iv: iv)
        #expect(Array(sealed.prefix(32)) == hex("7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"))
        #expect(sealed.count == 48)
        #expect(try AES.cbc128Decrypt(sealed, key: key, iv: iv) == plain)
        #expect(throws: CloudError.self) { try AES.cbc128Decrypt(Array(sealed.dropLast()), key: key, iv: iv) }
        #expect(throws: CloudError.self) { try AES.cbc128Decrypt([], key: key, iv: iv) }
        #expect(throws: CloudError.self) { try AES.cbc128Decrypt(sealed, key: key + [0], iv: iv) }
        #expect(throws: CloudError.self) { try AES.cbc128Decrypt(sealed, key: key, iv: []) }
    }

    @Test(arguments: [1, 15, 16, 17, 4096]) func cbcInPieces(_ step: Int) throws {
        let key = [UInt8](repeating: 7, count: 16)
        let iv = [UInt8](repeating: 9, count: 16)
        let plain = (0..<10_000).map { UInt8(truncatingIfNeeded: $0) }
        let encryptor = try AES.CBCEncryptor(key: key, iv: iv)
        let decryptor = try AES.CBCDecryptor(key: key, iv: iv)
        var out: [UInt8] = []
        var i = 0
        while i < plain.count {
            out += try decryptor.update(try encryptor.update(plain[i..<min(i + step, plain.count)]))
            i += step
        }
        out += try decryptor.update(try encryptor.finish())
        out += try decryptor.finish()
        #expect(out == plain)
    }

    @Test func secretsAtRest() throws {
        let key = [UInt8](repeating: 3, count: 32)
        let secret = Array("wJalrXUtnFEMI".utf8)
        let sealed = try AES.seal(secret, key: key, context: Array("AKIA1".utf8))
        #expect(try AES.seal(secret, key: key, context: Array("AKIA1".utf8)) != sealed, "each has its own nonce")
        #expect(try AES.open(sealed, key: key, context: Array("AKIA1".utf8)) == secret)
        #expect(throws: CloudError.self) { try AES.open(sealed, key: key, context: Array("AKIA2".utf8)) }
        #expect(throws: CloudError.self) { try AES.open(sealed, key: [UInt8](repeating: 4, count: 32), context: Array("AKIA1".utf8)) }
        for i in [0, 12, sealed.count - 1] {
            var changed = sealed
            changed[i] ^= 1
            #expect(throws: CloudError.self) { try AES.open(changed, key: key, context: Array("AKIA1".utf8)) }
        }
        #expect(throws: CloudError.self) { try AES.open([], key: key) }
        #expect(try AES.open(try AES.seal([], key: key), key: key) == [])
    }
}
