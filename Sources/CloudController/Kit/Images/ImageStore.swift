public import Database
public import Domain

/// A registered image: what clients see of it, and what a node needs to fetch it.
public struct StoredImage: Sendable, Equatable {
    public struct Part: Sendable, Equatable {
        public let key: String
        public let size: Int
        /// SHA-1, hexadecimal; empty for a single object.
        public let digest: String
        public init(key: String, size: Int, digest: String) {
            self.key = key
            self.size = size
            self.digest = digest
        }
    }
    /// `emi-`, `eki-` or `eri-`, by the role.
    public var id: String
    public var accountID: String
    public var name: String?
    /// As it was registered: the manifest's or the object's `bucket/key`.
    public var location: String
    public var bucket: String
    public var role: ImageContent.Role
    public var format: ImageContent.Format
    public var architecture: String
    public var kernelID, ramdiskID: String?
    public var description = ""
    public var rootDeviceName: String
    public var virtualizationType: String
    /// Virtual name by device, as registered.
    public var mappings: [Mapping] = []
    /// Bundle: SHA-1 of the tar archive; one object: SHA-256 of it.
    public var digest: String
    /// Names the file in nodes' caches. It cannot be had by who does not have the image itself: see `ImageRegistrar`.
    public var cacheKey: String
    public var size, virtualSize, bundledSize: Int
    /// Wrapped for the cloud's image key, hexadecimal; `nil` for single objects.
    public var encryptedKey, encryptedIV: String?
    public var parts: [Part]
    public var sourceInstanceID: String?
    public var createdAt: Timestamp
    public var isDeregistered = false
    /// `all` and account ids.
    public var launchPermissions: Set<String> = []
    public var productCodes: [String] = []
    /// From this moment on others find it only when they ask for deprecated images.
    public var deprecateAt: Timestamp?
    public var isDeregistrationProtected = false

    public struct Mapping: Sendable, Equatable {
        public let device, virtual: String
        public init(device: String, virtual: String) {
            self.device = device
            self.virtual = virtual
        }
    }

    public var isPublic: Bool { launchPermissions.contains(ImageRules.everyone) }
    func isVisible(to accountID: String) -> Bool { self.accountID == accountID || isPublic || launchPermissions.contains(accountID) }
}

/// What a launch needs of an image.
public typealias LaunchImage = StoredImage

public enum ImageStore {
    enum Attribute: String { case launch, productCode = "product-code" }

    // MARK: launches

    /// An image that the account may run.
    /// - Throws: `.notFound(.image)`, also for one that it may not know of; `.malformedID`.
    public static func launchImage(_ tx: Transaction, id: String, accountID: String) throws(CloudError) -> LaunchImage {
        try ImageRules.checkID(id)
        guard let image = try find(tx, id: id), !image.isDeregistered, image.isVisible(to: accountID) else {
            throw CloudError(.notFound(.image, id: id))
        }
        return image
    }

    /// An image that an instance was started of, whatever has become of it since.
    public static func imageForOrder(_ tx: Transaction, id: String) throws(CloudError) -> LaunchImage {
        guard let image = try find(tx, id: id) else { throw CloudError(.notFound(.image, id: id)) }
        return image
    }

    // MARK: images

    /// - Throws: `.duplicate(.image)` when the account has one of this name.
    public static func insert(_ tx: Transaction, _ image: StoredImage) throws(CloudError) {
        if let name = image.name {
            let taken = try tx.execute(
                "SELECT id FROM cloud.images WHERE account_id = $1 AND name = $2 AND deregistered_at IS NULL", .text(image.accountID),
                .text(name)
            ).first
            if let taken {
                throw CloudError(
                    .duplicate(.image, name: name), "AMI name \(name) is already in use by AMI \(taken.text("id"))")
            }
        }
        try tx.execute(
            """
            INSERT INTO cloud.images (id, account_id, name, location, bucket, role, format, architecture, kernel_id, ramdisk_id,
                description, root_device_name, virtualization_type, device_names, virtual_names, digest, cache_key,
                size, virtual_size, bundled_size,
                encrypted_key, encrypted_iv, source_instance_id, part_keys, part_sizes, part_digests, created_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
                $21, $22, $23, $24, $25, $26, $27)
            """,
            parameters: [
                .text(image.id), .text(image.accountID), SQLValue(image.name), .text(image.location), .text(image.bucket),
                .text(image.role.rawValue), .text(image.format.rawValue), .text(image.architecture), SQLValue(image.kernelID),
                SQLValue(image.ramdiskID), .text(image.description), .text(image.rootDeviceName), .text(image.virtualizationType),
                .textArray(image.mappings.map(\.device)), .textArray(image.mappings.map(\.virtual)), .text(image.digest),
                .text(image.cacheKey), .integer(Int64(image.size)), .integer(Int64(image.virtualSize)), .integer(Int64(image.bundledSize)),
                SQLValue(image.encryptedKey), SQLValue(image.encryptedIV), SQLValue(image.sourceInstanceID),
                .textArray(image.parts.map(\.key)), .textArray(image.parts.map { String($0.size) }), .textArray(image.parts.map(\.digest)),
                .timestamp(image.createdAt),
            ])
        for code in image.productCodes { try add(tx, id: image.id, .productCode, code) }
        for account in image.launchPermissions.sorted() { try add(tx, id: image.id, .launch, account) }
    }

    static func find(_ tx: Transaction, id: String) throws(CloudError) -> StoredImage? {
        try select(tx, "i.id = $1", [.text(id)]).first
    }

    /// An image of the account itself, for changes.
    /// - Throws: `.notFound(.image)`; `AuthFailure` for one that the account may run but does not own.
    static func fetchOwned(_ tx: Transaction, id: String, accountID: String) throws(CloudError) -> StoredImage {
        let image = try launchImage(tx, id: id, accountID: accountID)
        guard image.accountID == accountID else {
            throw CloudError(.named(code: "AuthFailure", status: 403), "Not authorized for image:\(id)")
        }
        return image
    }

    /// All that the account may see, in the order of ids.
    static func list(_ tx: Transaction, visibleTo accountID: String) throws(CloudError) -> [StoredImage] {
        try select(
            tx,
            """
            i.deregistered_at IS NULL AND (i.account_id = $1 OR EXISTS (
                SELECT 1 FROM cloud.image_attributes p WHERE p.image_id = i.id AND p.kind = 'launch' AND p.value IN ($1, 'all')))
            ORDER BY i.id COLLATE "C"
            """, [.text(accountID)])
    }

    static func deregister(_ tx: Transaction, id: String, now: Timestamp) throws(CloudError) {
        try TagStore.deleteAll(tx, id)
        try tx.execute("UPDATE cloud.images SET deregistered_at = $2 WHERE id = $1 AND deregistered_at IS NULL", .text(id), .timestamp(now))
    }

    static func setDescription(_ tx: Transaction, id: String, _ text: String) throws(CloudError) {
        try tx.execute("UPDATE cloud.images SET description = $2 WHERE id = $1", .text(id), .text(text))
    }

    // MARK: attributes

    static func add(_ tx: Transaction, id: String, _ kind: Attribute, _ value: String) throws(CloudError) {
        try tx.execute(
            "INSERT INTO cloud.image_attributes (image_id, kind, value) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            .text(id), .text(kind.rawValue), .text(value))
    }

    static func remove(_ tx: Transaction, id: String, _ kind: Attribute, _ value: String) throws(CloudError) {
        try tx.execute(
            "DELETE FROM cloud.image_attributes WHERE image_id = $1 AND kind = $2 AND value = $3", .text(id), .text(kind.rawValue),
            .text(value))
    }

    static func removeAll(_ tx: Transaction, id: String, _ kind: Attribute) throws(CloudError) {
        try tx.execute("DELETE FROM cloud.image_attributes WHERE image_id = $1 AND kind = $2", .text(id), .text(kind.rawValue))
    }

    // MARK: rows

    private static func select(_ tx: Transaction, _ condition: String, _ parameters: [SQLValue]) throws(CloudError) -> [StoredImage] {
        let sql = """
            SELECT i.*,
                (SELECT array_agg(a.value ORDER BY a.value) FROM cloud.image_attributes a
                 WHERE a.image_id = i.id AND a.kind = 'launch') AS launch,
                (SELECT array_agg(a.value ORDER BY a.value) FROM cloud.image_attributes a
                 WHERE a.image_id = i.id AND a.kind = 'product-code') AS codes
            FROM cloud.images i WHERE \(condition)
            """
        var out: [StoredImage] = []
        for row in try tx.execute(sql, parameters: parameters) { out.append(try image(row)) }
        return out
    }

    private static func image(_ row: Row) throws(CloudError) -> StoredImage {
        guard let role = ImageContent.Role(rawValue: row.text("role")), let format = ImageContent.Format(rawValue: row.text("format"))
        else {
            throw .bug("image \(row.text("id")): role '\(row.text("role"))', format '\(row.text("format"))'")
        }
        let keys = row.textArray("part_keys")
        let sizes = row.textArray("part_sizes")
        let digests = row.textArray("part_digests")
        guard keys.count == sizes.count, keys.count == digests.count else {
            throw .bug("image \(row.text("id")): its parts do not fit together")
        }
        let parts = zip(keys, zip(sizes, digests)).map { StoredImage.Part(key: $0, size: Int($1.0) ?? 0, digest: $1.1) }
        let mappings = zip(row.textArray("device_names"), row.textArray("virtual_names")).map {
            StoredImage.Mapping(device: $0, virtual: $1)
        }
        return StoredImage(
            id: row.text("id"), accountID: row.text("account_id"), name: row.optionalText("name"), location: row.text("location"),
            bucket: row.text("bucket"), role: role, format: format, architecture: row.text("architecture"),
            kernelID: row.optionalText("kernel_id"), ramdiskID: row.optionalText("ramdisk_id"), description: row.text("description"),
            rootDeviceName: row.text("root_device_name"), virtualizationType: row.text("virtualization_type"), mappings: mappings,
            digest: row.text("digest"), cacheKey: row.text("cache_key"), size: row.int("size"), virtualSize: row.int("virtual_size"),
            bundledSize: row.int("bundled_size"), encryptedKey: row.optionalText("encrypted_key"),
            encryptedIV: row.optionalText("encrypted_iv"),
            parts: parts, sourceInstanceID: row.optionalText("source_instance_id"), createdAt: row.timestamp("created_at"),
            isDeregistered: !row.isNull("deregistered_at"), launchPermissions: Set(row.textArray("launch")),
            productCodes: row.textArray("codes"), deprecateAt: row.optionalTimestamp("deprecate_at"),
            isDeregistrationProtected: row.bool("deregistration_protected"))
    }
}
