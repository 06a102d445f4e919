import Domain
public import Signing
import Wire
import Workflow

/// The secrets of the cloud that its controller works with. None of them is ever written into a log, an error or an answer.
public struct CloudKeys: Sendable {
    /// What image bundles are encrypted for; the certificate is public (`EUCALYPTUS_CERT`).
    public let imageKey: PrivateKey
    public let imageCertificate: Certificate
    /// The internal system account's key to the object store.
    public let systemAccessKeyID: String
    public let systemSecret: String
    /// 32 bytes from which tokens of paged answers are authenticated.
    public let paging: [UInt8]
    /// 32 bytes with which the reasons of refusals are sealed.
    let authorization: [UInt8]

    public init(imageKey: PrivateKey, imageCertificate: Certificate, systemAccessKeyID: String, systemSecret: String, secret: [UInt8]) {
        self.imageKey = imageKey
        self.imageCertificate = imageCertificate
        self.systemAccessKeyID = systemAccessKeyID
        self.systemSecret = systemSecret
        // A key of its own for each use: what leaks of one says nothing about the other.
        authorization = HMAC.sha256(key: secret, Array("karri authorization message".utf8))
        paging = HMAC.sha256(key: secret, Array("karri paging".utf8))
    }

    /// An address of one object that works without credentials for a while, with the system account's rights.
    func presign(_ method: String, bucket: String, key: String, expires: Int, settings: CloudSettings, now: Timestamp) -> String {
        Self.presign(
            method, bucket: bucket, key: key, accessKeyID: systemAccessKeyID, secret: systemSecret, expires: expires, settings: settings,
            now: now)
    }

    /// The same with the rights of whoever has the access key.
    static func presign(
        _ method: String, bucket: String, key: String, accessKeyID: String, secret: String, expires: Int, settings: CloudSettings,
        now: Timestamp
    ) -> String {
        Presign.url(
            method: method, endpoint: settings.walrusEndpoint, path: Presign.encode(path: "/\(bucket)/\(key)"), accessKeyID: accessKeyID,
            secret: secret, region: settings.region, expires: expires, now: now)
    }
}

extension CloudServices {
    /// The context of an internal call: the request that causes it, or an id of its own for a reconciler's.
    func callContext(_ requestID: String? = nil) -> CallContext {
        CallContext(requestID: requestID ?? "clc-" + Hex.encode(random.bytes(8)))
    }
}
