import Daemon
import Domain
import Signing

/// The headers of a PUT that belong to the object. Source: S3 API reference, PutObject; S3 User Guide, "Working with object metadata".
enum ObjectHeaders {
    private static let kept = [
        "cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires",
        "x-amz-website-redirect-location",
    ]
    /// Names and values of all user metadata together.
    static let metadataLimit = 2048
    private static let storageClasses = [
        "STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER", "DEEP_ARCHIVE", "GLACIER_IR",
    ]

    /// As S3 writes it: words begin with capitals, `x-amz-…` stays small.
    static func shown(_ name: String) -> String {
        if name.hasPrefix("x-amz-") { return name }
        return name.split(separator: "-").map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined(separator: "-")
    }

    /// Metadata as a header may carry it: what is not ASCII as a word of RFC 2047.
    /// Source: S3 User Guide, "Working with object metadata".
    static func encoded(_ value: String) -> String {
        guard value.utf8.contains(where: { $0 >= 0x80 }) else { return value }
        return "=?UTF-8?B?\(Base64.encode(Array(value.utf8)))?="
    }

    /// - Throws: `MetadataTooLarge`, `InvalidStorageClass`, `InvalidTag`, and `NotImplemented` for what would be ignored otherwise
    ///   (encryption): a store that says yes to these and does not do them lies.
    static func attributes(_ r: S3Request) throws(CloudError) -> ObjectAttributes {
        try refuseUnknown(r)
        var attributes = ObjectAttributes()
        for name in kept {
            guard let value = r.header(name) else { continue }
            if name == "content-encoding" {
                // The framing of the upload is no property of the object.
                let rest = value.split(separator: ",").map { String($0).trimmed }.filter { $0.lowercased() != "aws-chunked" && !$0.isEmpty }
                if !rest.isEmpty { attributes.headers.append((name, rest.joined(separator: ", "))) }
            } else if !value.isEmpty {
                attributes.headers.append((name, value))
            }
        }
        attributes.metadata = try metadata(r)
        if let tags = r.header("x-amz-tagging"), !tags.isEmpty { attributes.tags = try Tagging.fromHeader(tags) }
        if let name = r.header("x-amz-storage-class"), !name.isEmpty {
            guard storageClasses.contains(name) else {
                throw S3Failure.named("InvalidStorageClass", 400, "The storage class you specified is not valid")
            }
            attributes.storageClass = name
        }
        return attributes
    }

    private static func metadata(_ r: S3Request) throws(CloudError) -> [(name: String, value: String)] {
        var pairs: [(name: String, value: String)] = []
        var size = 0
        for (name, value) in r.http.headers {
            let name = name.lowercased()
            guard name.hasPrefix("x-amz-meta-") else { continue }
            let short = String(name.dropFirst("x-amz-meta-".count))
            guard !short.isEmpty else { throw S3Failure.invalidArgument("A metadata header has no name") }
            size += short.utf8.count + value.utf8.count
            if let same = pairs.firstIndex(where: { $0.name == short }) {
                pairs[same].value += "," + value
            } else {
                pairs.append((short, value))
            }
        }
        guard size <= metadataLimit else {
            throw S3Failure.named(
                "MetadataTooLarge", 400, "Your metadata headers exceed the maximum allowed metadata size of \(metadataLimit) bytes")
        }
        return pairs
    }

    private static func refuseUnknown(_ r: S3Request) throws(CloudError) {
        for (name, _) in r.http.headers {
            let name = name.lowercased()
            if name == "x-amz-write-offset-bytes" {
                throw S3Failure.notImplemented("A header you provided implies functionality that is not implemented: \(name)")
            }
        }
    }
}
