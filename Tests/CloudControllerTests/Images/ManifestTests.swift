import Domain
import Signing
import Testing

@testable import CloudControllerKit

@Suite struct ManifestTests {
    private func cloud() throws -> (key: PrivateKey, certificate: Certificate) {
        let key = try TestCloud.imageKey.get()
        return (key, try CertificateAuthority.selfSigned(name: "cloud", key: key, days: 30))
    }

    @Test func bundleOfTheTools() throws {
        let (key, certificate) = try cloud()
        let fixture = try BundleFixture(
            cloud: certificate.pem,
            configuration:
                "<kernel_id>eki-12345678</kernel_id><block_device_mapping><mapping><virtual>root</virtual><device>/dev/sda1</device>"
                + "</mapping></block_device_mapping>"
        )
        let manifest = try SignedManifest(fixture.manifest).verify([try Certificate(pem: fixture.certificate)])
        #expect(
            manifest.architecture == "x86_64" && manifest.role == .machine && manifest.kernelID == "eki-12345678"
                && manifest.ramdiskID == nil)
        #expect(manifest.size == fixture.image.count)
        #expect(manifest.bundledSize == fixture.parts.reduce(0) { $0 + $1.bytes.count })
        #expect(manifest.parts.map(\.filename) == fixture.parts.map(\.name))
        #expect(manifest.mappings.map(\.device) == ["/dev/sda1"])
        // What we unwrap opens the parts: the archive has the digest that the manifest says.
        let secret = try ImageRegistrar.secret(manifest, key)
        let plain = try AES.cbc128Decrypt(fixture.parts.flatMap(\.bytes), key: Array(secret[..<16]), iv: Array(secret[16...]))
        #expect(plain.starts(with: [0x1f, 0x8b]))
    }

    @Test func anotherSignerIsRefused() throws {
        let (_, certificate) = try cloud()
        let fixture = try BundleFixture(cloud: certificate.pem)
        let manifest = try SignedManifest(fixture.manifest)
        #expect(code { _ = try manifest.verify([certificate]) } == "InvalidManifest")
        #expect(code { _ = try manifest.verify([]) } == "InvalidManifest")
    }

    /// Whatever is changed after signing, or stands twice, is refused; what is outside of the signature changes nothing.
    @Test func tampering() throws {
        let (_, certificate) = try cloud()
        let fixture = try BundleFixture(cloud: certificate.pem)
        let signer = try Certificate(pem: fixture.certificate)
        let text = String(decoding: fixture.manifest, as: UTF8.self)
        func verify(_ text: String) -> String { code { _ = try SignedManifest(Array(text.utf8)).verify([signer]) } }
        func replacing(_ a: String, _ b: String) -> String {
            let parts = text.split(separator: a, maxSplits: 1, omittingEmptySubsequences: false)
            return parts.count == 2 ? parts[0] + b + parts[1] : text
        }
        #expect(verify(text) == "")
        #expect(verify(replacing("<bundler>", "<bundler><x/>")) == "")
        for (a, b) in [
            ("<size>", "<size>9"), ("x86_64", "arm64"), ("<type>machine", "<type>kernel"), ("<signature>", "<signature>00"),
            ("<signature>", "<signature>zz"),
            ("2007-10-10", "2006-01-01"), ("</image>", "</image><image></image>"), ("<image>", "<image ><size>1</size></image><image>"),
            ("<manifest>", "<manifest><image/>"),
            ("<image>", "<image><!-- x -->"), ("<manifest>", "<!DOCTYPE x><manifest>"), ("<signature>", "<sig>"),
        ] {
            #expect(replacing(a, b) != text, "\(a)")
            // An empty second <image/> is ignored by the signature's rule only if it is not read: it is not.
            let expected = a == "<manifest>" && b == "<manifest><image/>" ? "" : "InvalidManifest"
            #expect(verify(replacing(a, b)) == expected, "\(a) -> \(b)")
        }
        #expect(verify("") == "InvalidManifest")
        #expect(verify(String(text.dropLast(30))) == "InvalidManifest")
        #expect(code { _ = try SignedManifest([UInt8](repeating: 0x20, count: ImageManifest.maxBytes + 1)) } == "InvalidManifest")
    }

    /// Well signed, and still wrong.
    @Test(arguments: [
        ("<parts count=\"4\">", "<parts count=\"3\">"), ("index=\"1\"", "index=\"2\""), ("disk.img.part.1", "../part"),
        ("disk.img.part.1", "disk.img.part.0"),
        ("algorithm=\"SHA1\"", "algorithm=\"MD5\""), ("AES-128-CBC", "AES-256-CBC"), ("<bundled_size>", "<bundled_size>-"),
        ("<name>disk.img</name>", ""),
        ("<type>machine", "<type>floppy"), ("<ec2_encrypted_iv>", "<ec2_encrypted_iv>x"),
    ]) func badContent(from: String, to: String) throws {
        let (_, certificate) = try cloud()
        let fixture = try BundleFixture(cloud: certificate.pem) { text in
            let parts = text.split(separator: from, maxSplits: 1, omittingEmptySubsequences: false)
            return parts.count == 2 ? parts[0] + to + parts[1] : "not found"
        }
        let signer = try Certificate(pem: fixture.certificate)
        #expect(code { _ = try SignedManifest(fixture.manifest).verify([signer]) } == "InvalidManifest")
    }

    /// Both ways to say that it is a kernel or ramdisk.
    @Test(arguments: [
        ("kernel", "", ImageManifest.Role.kernel), ("machine", "<kernel_id>true</kernel_id>", .kernel), ("ramdisk", "", .ramdisk),
        ("machine", "<ramdisk_id>true</ramdisk_id>", .ramdisk), ("machine", "<kernel_id>eki-12345678</kernel_id>", .machine),
    ]) func roles(type: String, configuration: String, role: ImageManifest.Role) throws {
        let (_, certificate) = try cloud()
        let fixture = try BundleFixture(cloud: certificate.pem, type: type, configuration: configuration)
        let manifest = try SignedManifest(fixture.manifest).verify([try Certificate(pem: fixture.certificate)])
        #expect(manifest.role == role)
        #expect((manifest.kernelID != nil) == (role == .machine))
    }

    @Test func whatWeWriteReadsBack() throws {
        let (key, certificate) = try cloud()
        let manifest = ImageManifest(
            architecture: "x86_64", kernelID: "eki-12345678", ramdiskID: nil, productCodes: ["a&b"],
            mappings: [(virtual: "ami", device: "sda1")],
            name: "a <name>", user: "123456789012", role: .machine, digest: String(repeating: "ab", count: 20), size: 10, bundledSize: 20,
            cloudKey: "00ff", cloudIV: "01", userKey: "02", userIV: "03",
            parts: (0..<3).map { ImageManifest.Part(filename: "x.part.\($0)", digest: String(repeating: "0\($0)", count: 20)) })
        let bytes = try manifest.write(bundler: (name: "karri", version: "1"), signedBy: key)
        #expect(try SignedManifest(bytes).verify([certificate]) == manifest)
        // OpenSSL agrees with our signature over the two elements' texts.
        try withFolder { folder in
            let text = String(decoding: bytes, as: UTF8.self)
            _ = try shell(
                """
                cd \(folder); cat > m <<'EOF'
                \(text)
                EOF
                cat > cert.pem <<'EOF'
                \(certificate.pem)
                EOF
                python3 - <<'EOF'
                import re
                t = open('m').read()
                names = ('machine_configuration', 'image')
                open('signed', 'w').write(''.join(re.search('<%s>.*</%s>' % (n, n), t, re.S).group(0) for n in names))
                open('sig', 'wb').write(bytes.fromhex(re.search('<signature>(.*)</signature>', t).group(1)))
                EOF
                openssl x509 -in cert.pem -pubkey -noout > pub.pem
                """)
            #expect(try shell("cd \(folder); openssl dgst -sha1 -verify pub.pem -signature sig signed") == "Verified OK")
        }
    }
}

@Suite struct ImageContentTests {
    private func head(_ prefix: [UInt8], at offset: Int = 0, size: Int = 4096) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: size)
        for (i, b) in prefix.enumerated() { bytes[offset + i] = b }
        return bytes
    }

    private func qcow2(version: UInt8 = 3, backing: UInt8 = 0, encrypted: UInt8 = 0, features: UInt8 = 0) -> [UInt8] {
        var bytes = head([0x51, 0x46, 0x49, 0xfb, 0, 0, 0, version])
        bytes[15] = backing
        bytes[27] = 1  // 2^32 bytes
        bytes[35] = encrypted
        bytes[79] = features
        return bytes
    }

    @Test func kinds() throws {
        #expect(
            try ImageContent(head: qcow2(), size: 200_000, name: "d") == ImageContent(role: .machine, format: .qcow2, virtualSize: 1 << 32))
        #expect(
            try ImageContent(head: head([]), size: 1 << 20, name: "d") == ImageContent(role: .machine, format: .raw, virtualSize: 1 << 20))
        #expect(try ImageContent(head: head(Array("HdrS".utf8), at: 0x202), size: 7_000_001, name: "vmlinuz").role == .kernel)
        #expect(try ImageContent(head: head(Array("070701".utf8)), size: 700, name: "x").role == .ramdisk)
        #expect(try ImageContent(head: head([0x1f, 0x8b]), size: 700, name: "initrd.img").role == .ramdisk)
    }

    @Test func refused() {
        for (name, bytes, size) in [
            ("backing", qcow2(backing: 1), 1 << 20), ("encrypted", qcow2(encrypted: 1), 1 << 20), ("external", qcow2(features: 4), 1 << 20),
            ("version", qcow2(version: 9), 1 << 20), ("cut", Array(qcow2().prefix(60)), 60), ("compressed", head([0x1f, 0x8b]), 700),
            ("vmdk", head(Array("KDMV".utf8)), 1 << 20), ("sectors", head([]), 1000), ("small", head([], size: 100), 100),
        ] {
            #expect(code { _ = try ImageContent(head: bytes, size: size, name: name) } == "InvalidManifest", "\(name)")
        }
    }

    @Test func qcow2OfQemu() throws {
        guard try shell("command -v qemu-img || true") != "" else { return }
        try withFolder { folder in
            _ = try shell("cd \(folder); qemu-img create -q -f qcow2 a.qcow2 3G; qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 b.qcow2")
            let plain = try contents("\(folder)/a.qcow2")
            #expect(try ImageContent(head: Array(plain.prefix(4096)), size: plain.count, name: "a").virtualSize == 3 << 30)
            let overlay = try contents("\(folder)/b.qcow2")
            #expect(code { _ = try ImageContent(head: Array(overlay.prefix(4096)), size: overlay.count, name: "b") } == "InvalidManifest")
        }
    }
}
