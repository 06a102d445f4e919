import Domain
import Wire

/// How a bucket encrypts what comes without a wish of its own. Source: S3 API reference, PutBucketEncryption.
struct BucketEncryption: Sendable, Equatable {
    enum Algorithm: String, Sendable { case aes256 = "AES256", kms = "aws:kms", kmsDSSE = "aws:kms:dsse" }
    let algorithm: Algorithm
    /// `nil`: the key that the store makes by itself.
    let keyID: String?
    let bucketKey: Bool

    init(document: [UInt8]) throws(CloudError) {
        let root = try S3Document.parse(document, root: "ServerSideEncryptionConfiguration")
        let rules = root.all("Rule")
        guard rules.count == 1, let standard = rules[0].first("ApplyServerSideEncryptionByDefault"),
            let algorithm = Algorithm(rawValue: standard.first("SSEAlgorithm")?.text.trimmed ?? "")
        else { throw S3Failure.malformedXML("one Rule with an SSEAlgorithm is needed") }
        let key = standard.first("KMSMasterKeyID")?.text.trimmed ?? ""
        guard key.isEmpty || algorithm != .aes256 else {
            throw S3Failure.invalidArgument(
                "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse")
        }
        self.algorithm = algorithm
        keyID = key.isEmpty ? nil : key
        bucketKey = rules[0].first("BucketKeyEnabled")?.text.trimmed == "true"
    }

    var document: [UInt8] {
        S3Document.make("ServerSideEncryptionConfiguration") { xml in
            xml.open("Rule")
            xml.open("ApplyServerSideEncryptionByDefault")
            xml.element("SSEAlgorithm", algorithm.rawValue)
            if let keyID { xml.element("KMSMasterKeyID", keyID) }
            xml.close()
            xml.element("BucketKeyEnabled", bucketKey ? "true" : "false")
            xml.close()
        }
    }
}
