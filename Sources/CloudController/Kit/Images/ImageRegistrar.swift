public import Daemon
public import Domain
public import Signing

/// Looks at what is to become an image, and registers it.
///
/// A bundle: its manifest's signature must be of a certificate of the account (or the cloud's own, for what BundleInstance made), its key
/// must unwrap with the cloud's, each part must be there, and their sizes together be what the manifest says. Small bundles are read and
/// their parts' digests compared; those of large ones are compared by the node that downloads them, where they must be read anyway.
/// One object: its kind is told from its head, and it is read once for its SHA-256.
///
/// `cacheKey` names an image in nodes' caches, where a hit needs no download. So it must not be had by claiming another's digest: for a
/// bundle it depends on the AES key, which only the bundler and the cloud know; for an object on the bytes that the cloud has read itself.
public struct ImageRegistrar: Sendable {
    /// Bundles up to here are read at registration. Too high: RegisterImage takes long; too low: damage is noticed at the first start.
    static let fullCheckBytes = 64 << 20
    /// Objects looked at together.
    static let parallel = 8

    /// What the request says of the image.
    public struct Order: Sendable {
        public var location: ImageLocation
        /// As the request wrote it.
        public var locationText: String
        public var name: String?
        public var description = ""
        public var architecture: String?
        public var kernelID, ramdiskID: String?
        public var rootDeviceName: String?
        public var virtualizationType: String?
        public var mappings: [StoredImage.Mapping] = []
        public var sourceInstanceID: String?
        public init(location: ImageLocation, locationText: String? = nil, name: String? = nil) {
            self.location = location
            self.locationText = locationText ?? location.description
            self.name = name
        }
    }

    /// Unwraps image keys.
    let imageKey: PrivateKey
    /// With the rights of whoever registers.
    let objects: S3Client

    public init(imageKey: PrivateKey, objects: S3Client) {
        self.imageKey = imageKey
        self.objects = objects
    }

    /// - Parameters:
    ///   - signers: certificates that a manifest may be signed with.
    ///   - random: 9 bytes for the id.
    /// - Returns: the image, in no table yet.
    /// - Throws: `InvalidManifest` naming what is wrong; `.forbidden` for an object that may not be read; `.unavailable`.
    public func inspect(
        _ order: Order, accountID: String, signers: [Certificate], random: [UInt8], now: Timestamp
    ) async throws(CloudError) -> StoredImage {
        let (bucket, key) = (order.location.bucket, order.location.key)
        let size = try await self.size(bucket, key)
        guard size > 0 else { throw Self.refused("The object \(order.location) is empty") }
        let head = try await read(bucket, key, 0..<min(size, ImageContent.headBytes))
        let isManifest = key.hasSuffix(".manifest.xml") || head.starts(with: "<?xml".utf8) || head.starts(with: "<manifest".utf8)
        var image =
            isManifest
            ? try await bundle(order, accountID: accountID, size: size, signers: signers, random: random, now: now)
            : try await object(order, accountID: accountID, size: size, head: head, random: random, now: now)
        image.description = order.description
        image.sourceInstanceID = order.sourceInstanceID
        return image
    }

    private func bundle(
        _ order: Order, accountID: String, size: Int, signers: [Certificate], random: [UInt8], now: Timestamp
    ) async throws(CloudError) -> StoredImage {
        guard size <= ImageManifest.maxBytes else { throw ImageManifest.refused("it is larger than \(ImageManifest.maxBytes) bytes") }
        let bytes = try await objects.get(order.location.bucket, order.location.key, limit: ImageManifest.maxBytes)
        let manifest = try SignedManifest(bytes).verify(signers)
        let secret = try Self.secret(manifest, imageKey)
        let parts = try await self.parts(manifest, order.location)
        let isMachine = manifest.role == .machine
        let cacheText =
            "karri bundle\n\(manifest.digest)\n\(manifest.size)\n\(manifest.bundledSize)\n\(parts.map(\.digest).joined(separator: "\n"))"
        let mappings =
            order.mappings.isEmpty
            ? manifest.mappings.filter { !$0.device.isEmpty && $0.virtual != "ami" && $0.virtual != "root" }
                .map { StoredImage.Mapping(device: $0.device, virtual: $0.virtual) } : order.mappings
        let root = manifest.mappings.first { $0.virtual == "root" }?.device
        let kernel = isMachine ? order.kernelID ?? ImageRules.known(kernel: manifest.kernelID) : nil
        let role = ImageContent.Role(rawValue: manifest.role.rawValue) ?? .machine
        return StoredImage(
            id: ImageRules.newID(role, random: random), accountID: accountID, name: order.name, location: order.locationText,
            bucket: order.location.bucket, role: role, format: .bundle,
            architecture: ImageRules.architecture(order.architecture, manifest.architecture), kernelID: kernel,
            ramdiskID: isMachine ? order.ramdiskID ?? ImageRules.known(ramdisk: manifest.ramdiskID) : nil,
            rootDeviceName: order.rootDeviceName ?? root ?? ImageRules.standardRootDevice,
            virtualizationType: order.virtualizationType ?? "hvm", mappings: mappings, digest: manifest.digest,
            cacheKey: Hex.encode(HMAC.sha256(key: secret, Array(cacheText.utf8))), size: manifest.size, virtualSize: manifest.size,
            bundledSize: manifest.bundledSize, encryptedKey: manifest.cloudKey, encryptedIV: manifest.cloudIV, parts: parts, createdAt: now,
            productCodes: manifest.productCodes)
    }

    private func object(
        _ order: Order, accountID: String, size: Int, head: [UInt8], random: [UInt8], now: Timestamp
    ) async throws(CloudError) -> StoredImage {
        let name = order.location.key.split(separator: "/").last.map { String($0) } ?? order.location.key
        let content = try ImageContent(head: head, size: size, name: name)
        let (digest, received) = try await digest(order.location.bucket, order.location.key, .sha256)
        guard received == size else {
            throw Self.refused("The object \(order.location) changed while it was read: \(received) bytes came, \(size) were announced")
        }
        let isMachine = content.role == .machine
        return StoredImage(
            id: ImageRules.newID(content.role, random: random), accountID: accountID, name: order.name, location: order.locationText,
            bucket: order.location.bucket, role: content.role, format: content.format,
            architecture: ImageRules.architecture(order.architecture, ""), kernelID: isMachine ? order.kernelID : nil,
            ramdiskID: isMachine ? order.ramdiskID : nil, rootDeviceName: order.rootDeviceName ?? ImageRules.standardRootDevice,
            virtualizationType: order.virtualizationType ?? "hvm", mappings: order.mappings, digest: digest, cacheKey: digest, size: size,
            virtualSize: content.virtualSize, bundledSize: size,
            parts: [StoredImage.Part(key: order.location.key, size: size, digest: "")], createdAt: now)
    }

    /// The AES key and IV, as a check that the cloud can open the bundle at all.
    static func secret(_ manifest: ImageManifest, _ imageKey: PrivateKey) throws(CloudError) -> [UInt8] {
        var out: [UInt8] = []
        for (name, wrapped) in [("ec2_encrypted_key", manifest.cloudKey), ("ec2_encrypted_iv", manifest.cloudIV)] {
            guard let bytes = Hex.decode(wrapped), let plain = try? imageKey.unwrap(bytes),
                let value = Hex.decode(String(decoding: plain, as: UTF8.self)), value.count == 16
            else {
                throw ImageManifest.refused(
                    "<\(name)> was not made for this cloud's certificate (EUCALYPTUS_CERT); bundle the image for this cloud")
            }
            out += value
        }
        return out
    }

    /// The parts beside the manifest, each with the size that the store says.
    private func parts(_ manifest: ImageManifest, _ location: ImageLocation) async throws(CloudError) -> [StoredImage.Part] {
        let folder = location.key.split(separator: "/", omittingEmptySubsequences: false).dropLast().map { $0 + "/" }.joined()
        let bucket = location.bucket
        let isSmall = manifest.bundledSize <= Self.fullCheckBytes
        let parts = manifest.parts
        let found = try await Self.inParallel(parts.count) { index throws(CloudError) -> StoredImage.Part in
            let part = parts[index]
            let key = folder + part.filename
            guard let info = try await objects.head(bucket, key) else {
                throw ImageManifest.refused("its part \(index), \(bucket)/\(key), does not exist")
            }
            if isSmall {
                let (digest, received) = try await digest(bucket, key, .sha1)
                guard digest == part.digest else {
                    throw ImageManifest.refused(
                        "its part \(index), \(bucket)/\(key), is damaged: its SHA-1 is \(digest) (\(received) bytes), "
                            + "the manifest says \(part.digest)"
                    )
                }
            }
            return StoredImage.Part(key: key, size: info.size, digest: part.digest)
        }
        let total = found.reduce(0) { $0 + $1.size }
        if total != manifest.bundledSize {
            throw ImageManifest.refused(
                "its parts have \(total) bytes together, it says \(manifest.bundledSize); "
                    + Self.suspect(found, missing: manifest.bundledSize - total)
            )
        }
        return found
    }

    /// All parts but the last have one size: which of them does not?
    static func suspect(_ parts: [StoredImage.Part], missing: Int) -> String {
        var counts: [Int: Int] = [:]
        for part in parts.dropLast() { counts[part.size, default: 0] += 1 }
        let usual = counts.max { ($0.value, $0.key) < ($1.value, $1.key) }?.key
        let odd = parts.dropLast().first { $0.size != usual } ?? parts.last
        guard let odd else { return "" }
        return "\(odd.key) has \(odd.size) bytes" + (missing > 0 ? " and seems to be cut off" : "")
    }

    // MARK: objects

    private func size(_ bucket: String, _ key: String) async throws(CloudError) -> Int {
        guard let info = try await objects.head(bucket, key) else { throw Self.refused("The object \(bucket)/\(key) does not exist") }
        return info.size
    }

    private func read(_ bucket: String, _ key: String, _ range: Range<Int>) async throws(CloudError) -> [UInt8] {
        let buffer = ByteCollector(limit: range.count)
        try await objects.get(bucket, key, range: range, into: .consumer { buffer.append($0) })
        return buffer.bytes
    }

    private func digest(_ bucket: String, _ key: String, _ algorithm: Digest.Algorithm) async throws(CloudError) -> (
        hex: String, received: Int
    ) {
        let hasher = Digest.Hasher(algorithm)
        let counter = ByteCollector(limit: 0)
        try await objects.get(
            bucket, key,
            into: .consumer { bytes in
                hasher.update(bytes)
                counter.count(bytes)
                return true
            })
        return (Hex.encode(hasher.finish()), counter.total)
    }

    private static func refused(_ why: String) -> CloudError { CloudError(.named(code: "InvalidManifest", status: 400), why) }

    /// `0..<count`, a few at a time; the results in order, or the first error.
    private static func inParallel<T: Sendable>(
        _ count: Int, _ body: @escaping @Sendable (Int) async throws(CloudError) -> T
    ) async throws(CloudError) -> [T] {
        let results = await withTaskGroup(of: (Int, Result<T, CloudError>).self) { group -> [Int: Result<T, CloudError>] in
            func run(_ index: Int) {
                group.addTask {
                    do throws(CloudError) { return (index, .success(try await body(index))) } catch { return (index, .failure(error)) }
                }
            }
            var next = 0
            while next < min(count, parallel) {
                run(next)
                next += 1
            }
            var out: [Int: Result<T, CloudError>] = [:]
            for await (index, result) in group {
                out[index] = result
                if case .failure = result { break }
                if next < count {
                    run(next)
                    next += 1
                }
            }
            group.cancelAll()
            return out
        }
        var out: [T] = []
        out.reserveCapacity(count)
        // The lowest failure first: the answer does not depend on which reply was the quickest, as far as both were seen.
        for index in results.keys.sorted() { if case .failure(let error)? = results[index] { throw error } }
        for index in 0..<count {
            guard case .success(let value)? = results[index] else { throw .bug("part \(index) was not looked at") }
            out.append(value)
        }
        return out
    }
}
