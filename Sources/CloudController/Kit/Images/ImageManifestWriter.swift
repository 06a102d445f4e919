public import Domain
public import Signing
import Wire

extension ImageManifest {
    /// The manifest as text, signed.
    ///
    /// What is signed is written without white space between the elements, byte for byte as it stands in the document.
    /// - Parameters:
    ///   - bundler: name and version of the program.
    ///   - key: the bundler's: the user's for `deploy/bundle-image`, the cloud's image key for BundleInstance.
    public func write(bundler: (name: String, version: String), signedBy key: PrivateKey) throws(CloudError) -> [UInt8] {
        let configuration = configurationText
        let image = imageText
        let signature = Hex.encode(try key.sign(configuration + image, .sha1))
        var writer = XMLWriter(capacity: 4096 + parts.count * 192)
        writer.raw("<?xml version=\"1.0\" encoding=\"UTF-8\"?>")
        writer.open("manifest")
        writer.element("version", "2007-10-10")
        writer.open("bundler")
        writer.element("name", bundler.name)
        writer.element("version", bundler.version)
        writer.element("release", "1")
        writer.close()
        writer.raw(configuration)
        writer.raw(image)
        writer.element("signature", signature)
        writer.close()
        return writer.bytes
    }

    private var configurationText: [UInt8] {
        var writer = XMLWriter(capacity: 1024)
        writer.open("machine_configuration")
        writer.element("architecture", architecture)
        if role == .kernel { writer.element("kernel_id", "true") } else if let kernelID { writer.element("kernel_id", kernelID) }
        if role == .ramdisk { writer.element("ramdisk_id", "true") } else if let ramdiskID { writer.element("ramdisk_id", ramdiskID) }
        if !mappings.isEmpty {
            writer.open("block_device_mapping")
            for mapping in mappings {
                writer.open("mapping")
                writer.element("virtual", mapping.virtual)
                writer.element("device", mapping.device)
                writer.close()
            }
            writer.close()
        }
        if !productCodes.isEmpty {
            writer.open("product_codes")
            for code in productCodes { writer.element("product_code", code) }
            writer.close()
        }
        writer.close()
        return writer.bytes
    }

    private var imageText: [UInt8] {
        let aes = [("algorithm", "AES-128-CBC")]
        let sha1 = [("algorithm", "SHA1")]
        var writer = XMLWriter(capacity: 2048 + parts.count * 192)
        writer.open("image")
        writer.element("name", name)
        writer.element("user", user)
        writer.element("type", role.rawValue)
        writer.element("digest", digest, attributes: sha1)
        writer.element("size", String(size))
        writer.element("bundled_size", String(bundledSize))
        writer.element("ec2_encrypted_key", cloudKey, attributes: aes)
        writer.element("user_encrypted_key", userKey, attributes: aes)
        writer.element("ec2_encrypted_iv", cloudIV)
        writer.element("user_encrypted_iv", userIV)
        writer.open("parts", attributes: [("count", String(parts.count))])
        for (index, part) in parts.enumerated() {
            writer.open("part", attributes: [("index", String(index))])
            writer.element("filename", part.filename)
            writer.element("digest", part.digest, attributes: sha1)
            writer.close()
        }
        writer.close()
        writer.close()
        return writer.bytes
    }
}
