import Daemon
import Domain
import Glibc
import NIOCore

/// Reads `multipart/form-data` (RFC 7578) as it comes: the fields before the file into memory, the file piece by piece. What follows the
/// file is not looked at.
actor FormReader {
    struct Field: Sendable {
        /// As it was sent.
        let name: String
        let value: String
    }
    struct Head: Sendable {
        let fields: [Field]
        /// Of the file's part; without any folders that a browser may have put before it.
        let fileName: String?
        let fileType: String?
    }

    /// Source: S3 API reference, POST Object: what precedes the file is at most 20 KB.
    static let headLimit = 20_000
    /// Bytes of one part's own headers.
    static let partHeaderLimit = 4096

    private let body: RequestBody
    /// CR LF and the boundary with its dashes. The body's first one has no CR LF before it, so the buffer begins with one.
    private let delimiter: [UInt8]
    private var buffer = ByteBuffer(bytes: [0x0d, 0x0a])
    private var isAtEnd = false
    private var isFileOver = false
    /// Bytes that came from the body so far.
    private var consumed = 0

    /// - Throws: `MalformedPOSTRequest` without a boundary of 1 to 70 characters.
    init(body: RequestBody, contentType: String) throws(CloudError) {
        guard let boundary = Self.parameter("boundary", of: contentType), (1...70).contains(boundary.utf8.count) else {
            throw Self.malformed("the Content-Type has no boundary")
        }
        self.body = body
        delimiter = [0x0d, 0x0a, 0x2d, 0x2d] + Array(boundary.utf8)
    }

    static func malformed(_ context: String) -> CloudError {
        S3Failure.named(
            "MalformedPOSTRequest", 400, "The body of your POST request is not well-formed multipart/form-data.", context: context)
    }

    /// `name=value` or `name="value"` behind a semicolon; names in any case. A backslash in quotes keeps the next character.
    static func parameter(_ name: String, of header: String) -> String? {
        var rest = Array(header.utf8)[...]
        guard let first = rest.firstIndex(of: 0x3b) else { return nil }
        rest = rest[first...]
        while let start = rest.firstIndex(of: 0x3b) {
            rest = rest[(start + 1)...].drop { $0 == 0x20 || $0 == 0x09 }
            guard let equals = rest.firstIndex(where: { $0 == 0x3d || $0 == 0x3b }), rest[equals] == 0x3d else { continue }
            let key = String(decoding: rest[..<equals], as: UTF8.self).lowercased()
            rest = rest[(equals + 1)...]
            var value: [UInt8] = []
            if rest.first == 0x22 {
                rest = rest.dropFirst()
                while let c = rest.first, c != 0x22 {
                    rest = rest.dropFirst()
                    // Browsers send folders of Windows unescaped: only a quote or a backslash is escaped by a backslash.
                    if c == 0x5c, let next = rest.first, next == 0x22 || next == 0x5c {
                        value.append(next)
                        rest = rest.dropFirst()
                    } else {
                        value.append(c)
                    }
                }
                guard rest.first == 0x22 else { return nil }
            } else {
                let end = rest.firstIndex(of: 0x3b) ?? rest.endIndex
                value = Array(rest[..<end])
                while let last = value.last, last == 0x20 || last == 0x09 { value.removeLast() }
            }
            if key == name { return String(decoding: value, as: UTF8.self) }
        }
        return nil
    }

    /// Reads up to the first byte of the file.
    /// - Throws: `MalformedPOSTRequest`, `MaxPostPreDataLengthExceeded`, `InvalidArgument` when there is no file.
    func head() async throws(CloudError) -> Head {
        var fields: [Field] = []
        // The first delimiter ends what may stand before it, which is nothing with all known clients.
        guard try await through(delimiter, limit: 1024) != nil else { throw Self.malformed("no boundary") }
        while true {
            guard let end = try await peek(2) else { throw Self.malformed("it ends after a boundary") }
            if end == [0x2d, 0x2d] {
                throw S3Failure.invalidArgument("POST requires exactly one file upload per request.")
            }
            guard let headers = try await through([0x0d, 0x0a, 0x0d, 0x0a], limit: Self.partHeaderLimit) else {
                throw Self.malformed("a part without an end of its headers")
            }
            guard consumed - buffer.readableBytes <= Self.headLimit + 2 else { throw Self.tooLong() }
            let lines = String(decoding: headers, as: UTF8.self).split(separator: "\r\n")
            func header(_ name: String) -> String? {
                lines.first { $0.lowercased().hasPrefix(name + ":") }.map { String($0.dropFirst(name.count + 1)).trimmed }
            }
            guard let disposition = header("content-disposition"), disposition.lowercased().hasPrefix("form-data"),
                let name = Self.parameter("name", of: disposition)
            else { throw Self.malformed("a part without a name") }
            if name.lowercased() == "file" {
                let path = Self.parameter("filename", of: disposition)
                let file = path?.split(omittingEmptySubsequences: false) { $0 == "/" || $0 == "\\" }.last.map(String.init)
                return Head(fields: fields, fileName: file, fileType: header("content-type"))
            }
            guard let value = try await through(delimiter, limit: Self.headLimit) else {
                throw Self.malformed("the field \(name) has no end")
            }
            guard consumed - buffer.readableBytes <= Self.headLimit + 2 else { throw Self.tooLong() }
            guard let text = String(validating: value, as: UTF8.self) else { throw Self.malformed("the field \(name) is not UTF-8") }
            fields.append(Field(name: name, value: text))
        }
    }

    private static func tooLong() -> CloudError {
        S3Failure.named(
            "MaxPostPreDataLengthExceeded", 400,
            "Your POST request fields preceding the upload file were too large (limit \(headLimit) bytes).")
    }

    /// The next bytes of the file; `nil` at its end. - Throws: `MalformedPOSTRequest` when the body ends before the file does.
    func next() async throws(CloudError) -> ByteBuffer? {
        while !isFileOver {
            if let at = index(of: delimiter) {
                isFileOver = true
                let piece = buffer.readSlice(length: at)
                return at == 0 ? nil : piece
            }
            // The end of what is there may be the beginning of the delimiter.
            let sure = buffer.readableBytes - delimiter.count + 1
            if sure > 0, let piece = buffer.readSlice(length: sure) { return piece }
            guard try await more() else { throw Self.malformed("the file has no end") }
        }
        return nil
    }

    /// - Returns: false at the end of the body.
    private func more() async throws(CloudError) -> Bool {
        guard !isAtEnd else { return false }
        var iterator = body.makeAsyncIterator()
        let piece: ByteBuffer?
        do { piece = try await iterator.next() } catch {
            throw error as? CloudError ?? S3Failure.incompleteBody(received: consumed, expected: consumed + 1)
        }
        guard var piece else {
            isAtEnd = true
            return false
        }
        consumed += piece.readableBytes
        if buffer.readableBytes == 0 { buffer = piece } else { buffer.writeBuffer(&piece) }
        return true
    }

    private func peek(_ count: Int) async throws(CloudError) -> [UInt8]? {
        while buffer.readableBytes < count { guard try await more() else { return nil } }
        return Array(buffer.readableBytesView.prefix(count))
    }

    /// The bytes before `mark`; the mark itself is consumed. `nil` when the body ends first.
    private func through(_ mark: [UInt8], limit: Int) async throws(CloudError) -> [UInt8]? {
        while true {
            if let at = index(of: mark) {
                guard at <= limit else { throw Self.tooLong() }
                let bytes = buffer.readBytes(length: at)
                buffer.moveReaderIndex(forwardBy: mark.count)
                return bytes
            }
            guard buffer.readableBytes <= limit + mark.count else { throw Self.tooLong() }
            guard try await more() else { return nil }
        }
    }

    private func index(of mark: [UInt8]) -> Int? {
        buffer.withUnsafeReadableBytes { hay in
            guard let base = hay.baseAddress, let first = mark.first else { return nil }
            var at = 0
            while at + mark.count <= hay.count, let found = memchr(base + at, Int32(first), hay.count - mark.count + 1 - at) {
                at = UnsafeRawPointer(found) - base
                if memcmp(base + at, mark, mark.count) == 0 { return at }
                at += 1
            }
            return nil
        }
    }
}
