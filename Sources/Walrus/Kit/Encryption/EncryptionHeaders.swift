import Daemon
import Domain
import Signing
import Workflow

/// What a request says of encryption. Source: S3 API reference, PutObject, GetObject, CopyObject; S3 User Guide, "Specifying server-side
/// encryption with customer-provided keys".
struct EncryptionHeaders: Sendable {
    private static let prefix = "x-amz-server-side-encryption"
    private static let copyPrefix = "x-amz-copy-source-server-side-encryption"

    /// `-customer-algorithm`, `-customer-key`, `-customer-key-MD5`: all three or none.
    /// - Throws: `InvalidArgument`, `InvalidEncryptionAlgorithmError`, `InvalidRequest` over plain HTTP.
    static func customer(_ r: S3Request, _ keys: KeyRing, ofSource: Bool = false) throws(CloudError) -> CustomerKey? {
        let base = (ofSource ? copyPrefix : prefix) + "-customer-"
        let algorithm = r.header(base + "algorithm")
        let keyText = r.header(base + "key")
        let md5Text = r.header(base + "key-md5")
        if algorithm == nil, keyText == nil, md5Text == nil { return nil }
        guard r.http.isTLS || keys.acceptsCustomerKeysOnHTTP else {
            throw S3Failure.invalidRequest(
                "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure connection.")
        }
        guard let algorithm else {
            throw S3Failure.invalidArgument(
                "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption algorithm.")
        }
        guard algorithm == "AES256" else {
            throw S3Failure.named(
                "InvalidEncryptionAlgorithmError", 400,
                "The Encryption request you specified is not valid. Supported value: AES256.")
        }
        guard let keyText else {
            throw S3Failure.invalidArgument(
                "Requests specifying Server Side Encryption with Customer provided keys must provide an appropriate secret key.")
        }
        guard let key = Base64.decode(keyText.trimmed, strict: true), key.count == 32 else {
            throw S3Failure.invalidArgument("The secret key was invalid for the specified algorithm.")
        }
        guard let md5Text else {
            throw S3Failure.invalidArgument(
                "Requests specifying Server Side Encryption with Customer provided keys must provide the client calculated MD5 of the "
                    + "secret key.")
        }
        guard let md5 = Base64.decode(md5Text.trimmed, strict: true), md5 == Digest.md5(key) else {
            throw S3Failure.invalidArgument("The calculated MD5 hash of the key did not match the hash that was provided.")
        }
        return CustomerKey(key: key, md5: Base64.encode(md5))
    }

    /// Whether the request wishes for an encryption of its own.
    static func isGiven(_ r: S3Request) -> Bool {
        r.http.headers.contains { $0.name.lowercased().hasPrefix(prefix) }
    }

    /// How a new object, or upload, is to be encrypted: as the request says, else as the bucket does; `nil`: not.
    /// - Throws: `InvalidArgument` and others for what cannot be.
    static func new(_ r: S3Request, _ bucket: BucketRecord, _ core: WalrusCore) throws(CloudError) -> OpenEncryption? {
        let keys = core.keys
        let named = r.header(prefix)
        let keyID = r.header(prefix + "-aws-kms-key-id")
        let context = r.header(prefix + "-context")
        let bucketKey = r.header(prefix + "-bucket-key-enabled")
        let dataKey = { core.random.bytes(32) }
        if let customer = try customer(r, keys) {
            guard named == nil else {
                throw S3Failure.invalidArgument(
                    "Server Side Encryption with Customer provided key is incompatible with the encryption method specified")
            }
            guard keyID == nil, context == nil else {
                throw S3Failure.invalidArgument("Server Side Encryption with Customer provided key takes no KMS key")
            }
            return try keys.make(.customer, customer: customer, dataKey: dataKey())
        }
        guard let named else {
            guard keyID == nil, context == nil else {
                throw S3Failure.invalidArgument(
                    "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms")
            }
            guard let standard = try bucket.loaded().encryption else { return nil }
            guard let kind = Encryption.Kind(rawValue: standard.algorithm.rawValue) else {
                throw .bug("no encryption \(standard.algorithm)")
            }
            return try keys.make(kind, keyID: standard.keyID ?? "", bucketKey: standard.bucketKey && kind != .s3, dataKey: dataKey())
        }
        guard let kind = Encryption.Kind(rawValue: named), kind != .customer else {
            throw S3Failure.invalidArgument("The encryption method specified is not supported")
        }
        if kind == .s3 {
            guard keyID == nil, context == nil else {
                throw S3Failure.invalidArgument(
                    "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms")
            }
            return try keys.make(.s3, dataKey: dataKey())
        }
        if let context { try check(context: context) }
        let standard = try bucket.loaded().encryption
        // The bucket's own key stands in when the request names the kind only.
        let used = keyID ?? (standard?.algorithm.rawValue == named ? standard?.keyID : nil) ?? ""
        guard keyID == nil || !used.isEmpty else { throw S3Failure.invalidArgument("The KMS key id is empty") }
        return try keys.make(
            kind, keyID: used, bucketKey: bucketKey.map { $0.lowercased() == "true" } ?? standard?.bucketKey ?? false,
            context: context ?? "", dataKey: dataKey())
    }

    /// A JSON object of strings in Base64.
    private static func check(context: String) throws(CloudError) {
        let refusal = S3Failure.invalidArgument(
            "The header 'x-amz-server-side-encryption-context' shall be Base64-encoded UTF-8 string of JSON")
        guard let bytes = Base64.decode(context.trimmed), let json = try? JSONValue(parsing: bytes, maxBytes: 8192),
            let members = json.members, members.allSatisfy({ $0.value.text != nil })
        else { throw refusal }
    }

    /// The encryption of an object that is to be read, with its key.
    /// - Parameter ofSource: of a copy: the other names of the headers.
    /// - Throws: `InvalidRequest` when the client's key is missing, or given for an object that has none; `InvalidArgument` for headers
    ///   that belong to writing.
    static func opened(
        _ r: S3Request, _ record: Encryption?, _ keys: KeyRing, ofSource: Bool = false
    ) throws(CloudError) -> OpenEncryption? {
        if !ofSource {
            for name in [prefix, prefix + "-aws-kms-key-id"] where r.header(name) != nil {
                throw S3Failure.invalidArgument("\(name) header is not supported for this operation.")
            }
        }
        return try match(record, try customer(r, keys, ofSource: ofSource), keys)
    }

    private static func match(_ record: Encryption?, _ customer: CustomerKey?, _ keys: KeyRing) throws(CloudError) -> OpenEncryption? {
        guard let record else {
            guard customer == nil else {
                throw S3Failure.invalidRequest("The encryption parameters are not applicable to this object.")
            }
            return nil
        }
        guard (record.kind == .customer) == (customer != nil) else {
            throw S3Failure.invalidRequest(
                customer == nil
                    ? "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve "
                        + "the object."
                    : "The encryption parameters are not applicable to this object.")
        }
        return try keys.open(record, customer: customer)
    }

    /// CompleteMultipartUpload: an upload with a customer key is completed by those who show it. (S3 itself asks for it only where the
    /// upload has a checksum; RGW, and ceph's s3-tests, always do.)
    static func checkCompletion(_ r: S3Request, of record: Encryption?, _ keys: KeyRing) throws(CloudError) {
        guard try customer(r, keys) != nil || record?.kind == .customer else { return }
        _ = try part(r, of: record, keys)
    }

    /// The encryption of a part: that of its upload. - Throws: `InvalidRequest` for another key than the upload's, or none.
    static func part(_ r: S3Request, of record: Encryption?, _ keys: KeyRing) throws(CloudError) -> OpenEncryption? {
        let customer = try customer(r, keys)
        guard let record else {
            guard customer == nil else {
                throw S3Failure.invalidRequest(
                    "The multipart upload initiate did not request encryption. Please resend the request without sending encryption "
                        + "parameters.")
            }
            return nil
        }
        guard record.kind == .customer else {
            guard customer == nil else {
                throw S3Failure.invalidRequest("The provided encryption parameters did not match the ones used originally.")
            }
            return try keys.open(record, customer: nil)
        }
        guard let customer else {
            throw S3Failure.invalidRequest(
                "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption "
                    + "parameters.")
        }
        do throws(CloudError) { return try keys.open(record, customer: customer) } catch {
            throw S3Failure.invalidRequest("The provided encryption parameters did not match the ones used originally.")
        }
    }
}
