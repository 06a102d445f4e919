import Domain
import Signing

@testable import CloudControllerKit

/// A bundle made with openssl, tar and gzip, the way ec2-bundle-image makes one: independent of our own writer.
struct BundleFixture {
    var manifest: [UInt8]
    let parts: [(name: String, bytes: [UInt8])]
    /// PEM of whoever bundled it.
    let certificate: String
    let image: [UInt8]

    /// - Parameters:
    ///   - cloud: PEM of the cloud's certificate.
    ///   - edit: changes the manifest's text before it is signed.
    init(cloud: String, type: String = "machine", configuration: String = "", edit: @escaping (String) -> String = { $0 }) throws {
        (manifest, parts, certificate, image) = try withFolder { folder in
            _ = try shell(
                """
                cd \(folder); cat > cloud.pem <<'EOF'
                \(cloud)
                EOF
                openssl req -x509 -newkey rsa:2048 -nodes -keyout user.key -out user.pem -days 30 -subj /CN=user 2>/dev/null
                head -c 1500000 /dev/urandom > disk.img; head -c 36 /dev/zero >> disk.img
                openssl rand -hex 16 > aes.key; openssl rand -hex 16 > aes.iv
                tar -cSf disk.tar disk.img; sha1sum disk.tar | cut -d' ' -f1 > digest
                gzip -c disk.tar | openssl enc -e -aes-128-cbc -K $(cat aes.key) -iv $(cat aes.iv) > disk.enc
                split -b 400000 -d -a 1 disk.enc disk.img.part.
                wrap() { tr -d '\\n' < $1 | openssl pkeyutl -encrypt -certin -inkey $2 -pkeyopt rsa_padding_mode:pkcs1 |
                    od -An -v -tx1 | tr -d ' \\n'; }
                wrap aes.key cloud.pem > ec2.key; wrap aes.iv cloud.pem > ec2.iv
                wrap aes.key user.pem > user.wkey; wrap aes.iv user.pem > user.wiv
                """)
            func text(_ name: String) throws -> String { String(decoding: try contents("\(folder)/\(name)"), as: UTF8.self).trimmed }
            let names = try shell("cd \(folder); ls disk.img.part.*").split(separator: "\n").map { String($0) }
            let parts = try names.map { (name: $0, bytes: try contents("\(folder)/\($0)")) }
            let list = parts.enumerated().map { index, part in
                "<part index=\"\(index)\"><filename>\(part.name)</filename>"
                    + "<digest algorithm=\"SHA1\">\(Hex.encode(Digest.sha1(part.bytes)))</digest></part>"
            }
            let machine = "<machine_configuration><architecture>x86_64</architecture>\(configuration)</machine_configuration>"
            let size = try shell("stat -c %s \(folder)/disk.img")
            let bundled = try shell("stat -c %s \(folder)/disk.enc")
            let image = try """
            <image><name>disk.img</name><user>123456789012</user><type>\(type)</type><digest algorithm="SHA1">\(text("digest"))</digest>\
            <size>\(size)</size><bundled_size>\(bundled)</bundled_size>\
            <ec2_encrypted_key algorithm="AES-128-CBC">\(text("ec2.key"))</ec2_encrypted_key>\
            <user_encrypted_key algorithm="AES-128-CBC">\(text("user.wkey"))</user_encrypted_key>\
            <ec2_encrypted_iv>\(text("ec2.iv"))</ec2_encrypted_iv><user_encrypted_iv>\(text("user.wiv"))</user_encrypted_iv>\
            <parts count="\(parts.count)">\(list.joined())</parts></image>
            """
            let signed = edit(machine + image)
            _ = try shell("cd \(folder); printf '%s' '\(signed)' > signed")
            let signature = try shell("cd \(folder); openssl dgst -sha1 -sign user.key signed | od -An -v -tx1 | tr -d ' \\n'")
            let document = """
                <?xml version="1.0" encoding="UTF-8"?>
                <manifest><version>2007-10-10</version><bundler><name>ec2-ami-tools</name><version>1.3</version>\
                <release>1</release></bundler>\
                \(signed)<signature>\(signature)</signature></manifest>
                """
            return (Array(document.utf8), parts, try text("user.pem"), try contents("\(folder)/disk.img"))
        }
    }

    func upload(_ store: MemoryStore, bucket: String = "images", folder: String = "") {
        store.put("\(bucket)/\(folder)disk.img.manifest.xml", manifest)
        for part in parts { store.put("\(bucket)/\(folder)\(part.name)", part.bytes) }
    }
}
