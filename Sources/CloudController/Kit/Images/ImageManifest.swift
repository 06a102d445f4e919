import Domain
import Signing
import Wire

/// An image bundle's manifest of version 2007-10-10, as ec2-bundle-image and euca-bundle-image write it.
///
/// The image is one file in a tar archive, compressed by gzip, encrypted with AES-128-CBC and cut into parts. `digest` is the SHA-1 of
/// the archive before compression; the AES key and IV stand in the manifest as hexadecimal text, wrapped by RSA (PKCS#1 v1.5) for the cloud
/// and for the user. The signature is RSA-SHA1 of the texts of `machine_configuration` and `image`, one after the other.
///
/// One parse: what the signature covers is cut out first, and only that is read, so that nothing outside can stand in for it.
public struct ImageManifest: Sendable, Equatable {
    public struct Part: Sendable, Equatable {
        public let filename: String
        /// SHA-1, hexadecimal.
        public let digest: String
        public init(filename: String, digest: String) {
            self.filename = filename
            self.digest = digest
        }
    }
    public enum Role: String, Sendable { case machine, kernel, ramdisk }

    public var architecture: String
    /// The kernel that it is to boot with; `nil` when it has none, and for kernels themselves.
    public var kernelID, ramdiskID: String?
    public var productCodes: [String] = []
    /// Device by virtual name: `ami` on `sda1`.
    public var mappings: [(virtual: String, device: String)] = []
    public var name: String
    /// The account of whoever bundled it, as the bundler wrote it.
    public var user: String
    public var role: Role
    /// SHA-1 of the tar archive, hexadecimal.
    public var digest: String
    /// Bytes of the image, and of the parts together.
    public var size, bundledSize: Int
    /// Hexadecimal, wrapped for the cloud's certificate.
    public var cloudKey, cloudIV: String
    /// Hexadecimal, wrapped for the user's certificate.
    public var userKey, userIV: String
    public var parts: [Part]

    public static func == (a: Self, b: Self) -> Bool {
        a.architecture == b.architecture && a.kernelID == b.kernelID && a.ramdiskID == b.ramdiskID && a.productCodes == b.productCodes
            && a.mappings.map(\.virtual) == b.mappings.map(\.virtual) && a.mappings.map(\.device) == b.mappings.map(\.device)
            && a.name == b.name && a.user == b.user && a.role == b.role && a.digest == b.digest && a.size == b.size
            && a.bundledSize == b.bundledSize && a.cloudKey == b.cloudKey && a.cloudIV == b.cloudIV && a.userKey == b.userKey
            && a.userIV == b.userIV && a.parts == b.parts
    }

    /// Too low: large images do not register (an entry has about 150 bytes, a part 10 MB); too high: a hostile object costs memory.
    public static let maxBytes = 4 << 20
    static let maxParts = 20_000

    /// - Throws: `InvalidManifest`, saying what is wrong.
    static func refused(_ why: String) -> CloudError {
        CloudError(.named(code: "InvalidManifest", status: 400), "The manifest is not valid: \(why)")
    }
}

/// A manifest as it came, not yet trusted.
struct SignedManifest: Sendable {
    /// The two elements' texts, byte for byte.
    let configuration, image: [UInt8]
    let signature: [UInt8]

    /// - Throws: `InvalidManifest`.
    init(_ bytes: [UInt8]) throws(CloudError) {
        guard bytes.count <= ImageManifest.maxBytes else {
            throw ImageManifest.refused("it is larger than \(ImageManifest.maxBytes) bytes")
        }
        let limits = XMLLimits(maxBytes: ImageManifest.maxBytes, maxDepth: 16, maxElements: 5 * ImageManifest.maxParts)
        let root: XMLElement
        do throws(CloudError) {
            root = try XMLReader.parse(bytes, limits: limits)
        } catch {
            throw ImageManifest.refused("it is no XML that can be read (\(error.message))")
        }
        guard root.name == "manifest" else { throw ImageManifest.refused("its root is <\(root.name.prefix(40))>") }
        guard let version = root.first("version")?.text, version == "2007-10-10" else {
            throw ImageManifest.refused("its version is '\((root.first("version")?.text ?? "").prefix(40))'; 2007-10-10 is known")
        }
        guard let text = root.first("signature")?.text.trimmed, let signature = Hex.decode(text), !signature.isEmpty else {
            throw ImageManifest.refused("it has no signature")
        }
        configuration = try Self.element("machine_configuration", in: bytes)
        image = try Self.element("image", in: bytes)
        self.signature = signature
    }

    /// The text of the one element of this name, tags included.
    private static func element(_ name: String, in bytes: [UInt8]) throws(CloudError) -> [UInt8] {
        let open = Array("<\(name)>".utf8)
        let close = Array("</\(name)>".utf8)
        let starts = bytes.places(of: open)
        let ends = bytes.places(of: close)
        guard starts.count == 1, ends.count == 1, let start = starts.first, let end = ends.first, start < end else {
            throw ImageManifest.refused("<\(name)> does not stand in it exactly once")
        }
        return Array(bytes[start..<end + close.count])
    }

    /// What the signature covers.
    var signedBytes: [UInt8] { configuration + image }

    /// Checks the signature with each key that may have made it and reads what it covers.
    /// - Throws: `InvalidManifest` when none fits.
    func verify(_ signers: [Certificate]) throws(CloudError) -> ImageManifest {
        guard signers.contains(where: { $0.verify(signature: signature, of: signedBytes, digest: .sha1) }) else {
            throw ImageManifest.refused(
                "its signature fits none of the \(signers.count) certificates of the account; register the one that it was bundled with")
        }
        return try ImageManifest(verified: signedBytes)
    }
}

extension ImageManifest {
    /// - Parameter bytes: `<machine_configuration>…</machine_configuration><image>…</image>`.
    /// - Throws: `InvalidManifest`.
    init(verified bytes: [UInt8]) throws(CloudError) {
        let limits = XMLLimits(maxBytes: Self.maxBytes + 64, maxDepth: 16, maxElements: 5 * Self.maxParts)
        let root: XMLElement
        do throws(CloudError) {
            root = try XMLReader.parse(Array("<manifest>".utf8) + bytes + Array("</manifest>".utf8), limits: limits)
        } catch {
            throw Self.refused("what is signed is no XML that can be read (\(error.message))")
        }
        guard let configuration = root.first("machine_configuration"), let image = root.first("image") else {
            throw Self.refused("what is signed is not complete")
        }
        func text(_ name: String) throws(CloudError) -> String {
            guard let text = image.first(name)?.text.trimmed, !text.isEmpty else { throw Self.refused("<\(name)> is missing") }
            return text
        }
        func hex(_ name: String) throws(CloudError) -> String {
            let text = try text(name).lowercased()
            guard Hex.decode(text) != nil else { throw Self.refused("<\(name)> is not hexadecimal") }
            return text
        }
        func number(_ name: String) throws(CloudError) -> Int {
            guard let n = Int(try text(name)), n > 0, n <= 1 << 50 else { throw Self.refused("<\(name)> is not a size in bytes") }
            return n
        }
        architecture = configuration.first("architecture")?.text.trimmed ?? ""
        name = try text("name")
        user = image.first("user")?.text.trimmed ?? ""
        digest = try Self.digest(image.first("digest"), "the image")
        size = try number("size")
        bundledSize = try number("bundled_size")
        for element in ["ec2_encrypted_key", "user_encrypted_key"] {
            if let algorithm = image.first(element)?.attribute("algorithm"), algorithm != "AES-128-CBC" {
                throw Self.refused("<\(element)> is for \(algorithm.prefix(40)); AES-128-CBC is known")
            }
        }
        cloudKey = try hex("ec2_encrypted_key")
        cloudIV = try hex("ec2_encrypted_iv")
        userKey = try hex("user_encrypted_key")
        userIV = try hex("user_encrypted_iv")
        mappings = (configuration.first("block_device_mapping")?.all("mapping") ?? []).map {
            (virtual: $0.first("virtual")?.text.trimmed ?? "", device: $0.first("device")?.text.trimmed ?? "")
        }
        productCodes = (configuration.first("product_codes")?.all("product_code") ?? []).map(\.text.trimmed)
        (role, kernelID, ramdiskID) = try Self.role(
            type: image.first("type")?.text.trimmed ?? "machine", kernel: configuration.first("kernel_id")?.text.trimmed,
            ramdisk: configuration.first("ramdisk_id")?.text.trimmed)
        parts = try Self.parts(image)
    }

    /// A kernel or ramdisk says so by its type, or (Eucalyptus' tools) by `true` where the id of another would stand.
    private static func role(type: String, kernel: String?, ramdisk: String?) throws(CloudError) -> (Role, String?, String?) {
        guard let named = Role(rawValue: type) else {
            throw refused("its type is '\(type.prefix(40))'; machine, kernel and ramdisk are known")
        }
        if named == .kernel || kernel == "true" { return (.kernel, nil, nil) }
        if named == .ramdisk || ramdisk == "true" { return (.ramdisk, nil, nil) }
        return (.machine, kernel.flatMap { $0.isEmpty ? nil : $0 }, ramdisk.flatMap { $0.isEmpty ? nil : $0 })
    }

    private static func digest(_ element: XMLElement?, _ what: String) throws(CloudError) -> String {
        guard let element else { throw refused("the digest of \(what) is missing") }
        let algorithm = element.attribute("algorithm") ?? "SHA1"
        guard algorithm == "SHA1" else { throw refused("the digest of \(what) is \(algorithm.prefix(40)); SHA1 is known") }
        let text = element.text.trimmed.lowercased()
        guard text.utf8.count == 40, Hex.decode(text) != nil else { throw refused("the digest of \(what) is no SHA-1") }
        return text
    }

    private static func parts(_ image: XMLElement) throws(CloudError) -> [Part] {
        guard let list = image.first("parts") else { throw refused("<parts> is missing") }
        let elements = list.all("part")
        guard let count = list.attribute("count").flatMap({ Int($0) }), count == elements.count, !elements.isEmpty else {
            throw refused("it has \(elements.count) parts and says \(list.attribute("count") ?? "nothing")")
        }
        guard count <= maxParts else { throw refused("it has more than \(maxParts) parts") }
        var out: [Part] = []
        for (index, element) in elements.enumerated() {
            guard element.attribute("index") == String(index) else {
                throw refused("part \(index) has index '\((element.attribute("index") ?? "").prefix(20))'")
            }
            guard let filename = element.first("filename")?.text.trimmed, isFilename(filename) else {
                throw refused("part \(index) has no file name that can be one")
            }
            out.append(Part(filename: filename, digest: try digest(element.first("digest"), filename)))
        }
        guard Set(out.map(\.filename)).count == out.count else { throw refused("two parts have one file name") }
        return out
    }

    /// Parts lie beside the manifest: a name with a slash could reach elsewhere.
    private static func isFilename(_ name: String) -> Bool {
        (1...255).contains(name.utf8.count) && !name.utf8.contains(where: { $0 == 0x2f || $0 < 0x20 || $0 == 0x7f }) && name != "."
            && name != ".."
    }
}

extension String {
    /// Without white space at the ends.
    var trimmed: String {
        let isBlank: (Unicode.Scalar) -> Bool = { $0 == " " || $0 == "\n" || $0 == "\r" || $0 == "\t" }
        var scalars = unicodeScalars[...]
        while let first = scalars.first, isBlank(first) { scalars = scalars.dropFirst() }
        while let last = scalars.last, isBlank(last) { scalars = scalars.dropLast() }
        return String(scalars)
    }
}

extension [UInt8] {
    /// Where `needle` begins, every time.
    func places(of needle: [UInt8]) -> [Int] {
        guard let first = needle.first, count >= needle.count else { return [] }
        var out: [Int] = []
        var i = 0
        while i <= count - needle.count {
            if self[i] == first, self[i..<i + needle.count].elementsEqual(needle) {
                out.append(i)
                i += needle.count
            } else {
                i += 1
            }
        }
        return out
    }
}
