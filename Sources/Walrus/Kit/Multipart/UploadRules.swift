import Domain
import Signing
import Wire

/// Which parts become the object, and whether they may.
struct CompletionOrder: Sendable {
    struct Part: Sendable {
        let number: Int
        /// Without quotes.
        let etag: String
        let checksums: [(algorithm: ChecksumAlgorithm, value: String)]
    }
    let parts: [Part]

    /// Source: S3 User Guide, "Amazon S3 multipart upload limits".
    static let partLimit = 10_000
    static let smallestPart = 5 << 20
    static let objectLimit = 5 << 40

    /// Reads `CompleteMultipartUpload`. - Throws: `MalformedXML`, `InvalidPartOrder`.
    init(_ bytes: [UInt8]) throws(CloudError) {
        let root = try S3Document.parse(bytes, root: "CompleteMultipartUpload", limits: XMLLimits(maxBytes: 8 << 20, maxElements: 90_000))
        var parts: [Part] = []
        for element in root.all("Part") {
            guard let number = Int(element.first("PartNumber")?.text.trimmed ?? ""), let etag = element.first("ETag")?.text.trimmed else {
                throw S3Failure.malformedXML("a Part without PartNumber or ETag")
            }
            let bare = etag.hasPrefix("\"") && etag.hasSuffix("\"") && etag.count > 1 ? String(etag.dropFirst().dropLast()) : etag
            let checksums = ChecksumAlgorithm.allCases.compactMap { a in
                element.first(a.element).map { (algorithm: a, value: $0.text.trimmed) }
            }
            // A part that is named twice is the one that is named last.
            if parts.last?.number == number { parts.removeLast() }
            if let last = parts.last, last.number >= number {
                throw S3Failure.named(
                    "InvalidPartOrder", 400,
                    "The list of parts was not in ascending order. The parts list must be specified in order by part number.")
            }
            parts.append(Part(number: number, etag: bare, checksums: checksums))
        }
        guard !parts.isEmpty, parts.count <= Self.partLimit else { throw S3Failure.malformedXML("\(parts.count) parts") }
        self.parts = parts
    }

    /// Matches the order against the parts that are there.
    /// - Returns: the chosen parts in order.
    /// - Throws: `InvalidPart` also when a checksum is given for a part that has another one, `EntityTooSmall`, `EntityTooLarge`.
    func choose(from stored: [PartRecord]) throws(CloudError) -> [PartRecord] {
        var byNumber: [Int: PartRecord] = [:]
        for part in stored { byNumber[part.number] = part }
        var chosen: [PartRecord] = []
        var total = 0
        for part in parts {
            guard let found = byNumber[part.number], found.etag == part.etag else { throw S3Failure.invalidPart() }
            for given in part.checksums {
                guard let own = found.checksum, own.algorithm == given.algorithm, own.value == given.value else {
                    throw S3Failure.invalidPart()
                }
            }
            total += found.size
            chosen.append(found)
        }
        for part in chosen.dropLast() where part.size < Self.smallestPart { throw S3Failure.entityTooSmall(part.number, size: part.size) }
        guard total <= Self.objectLimit else { throw S3Failure.entityTooLarge(limit: Self.objectLimit) }
        return chosen
    }

    /// MD5 of the parts' MD5s, and their number.
    static func etag(_ parts: [PartRecord]) -> String {
        "\(Hex.encode(Digest.md5(parts.flatMap { Hex.decode($0.etag) ?? [] })))-\(parts.count)"
    }
}

/// Which checksum an upload has. Source: S3 User Guide, "Checking object integrity": CRC-64/NVME is of the full object always, CRC-32 and
/// CRC-32C are as asked, composite when not, all others are composite.
enum UploadChecksum {
    static func parse(algorithm: String?, type: String?) throws(CloudError) -> (algorithm: ChecksumAlgorithm, type: ChecksumType)? {
        guard let algorithm else {
            guard type == nil else {
                throw S3Failure.invalidRequest("The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")
            }
            return nil
        }
        let parsed = try ChecksumAlgorithm(parsing: algorithm)
        var wanted: ChecksumType?
        if let type {
            guard let known = ChecksumType(rawValue: type.uppercased()) else {
                throw S3Failure.invalidRequest("Value for x-amz-checksum-type header is invalid.")
            }
            wanted = known
        }
        guard let type = wanted ?? parsed.multipartTypes.first, parsed.multipartTypes.contains(type) else {
            throw S3Failure.invalidRequest(
                "The \(wanted?.rawValue ?? "") checksum type cannot be used with the \(parsed.rawValue.lowercased()) checksum algorithm.")
        }
        return (parsed, type)
    }
}

enum UploadRules {
    /// Who started an upload: an account's root has the account's canonical id and name, a user its ARN.
    static func initiator(_ stored: String, _ owner: OwnerNames) -> OwnerNames {
        stored == owner.id ? owner : OwnerNames(id: stored, displayName: stored)
    }
}
