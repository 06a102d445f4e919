import CCurl
import Domain
import Glibc
import Signing

/// One request under way. Touched only by the client's thread after it has been handed over.
final class Transfer: @unchecked Sendable {
    // SAFETY: handed from the caller to the curl thread once, under the engine's lock; never used by both.
    let request: HTTPClientRequest
    let id: UInt64
    private let waiter: CheckedContinuation<Result<HTTPClientResponse, CloudError>, Never>
    private(set) var headers = HTTPHeaderList()
    private(set) var body: [UInt8] = []
    private(set) var received = 0
    private var status = 0
    private var failure: CloudError?
    private var output: Int32 = -1
    private var input: Int32 = -1
    private var position = 0
    var headerList: UnsafeMutablePointer<curl_slist>?
    var handle: UnsafeMutableRawPointer?

    static let errorBodyLimit = 64 * 1024

    init(
        _ request: HTTPClientRequest, id: UInt64, waiter: CheckedContinuation<Result<HTTPClientResponse, CloudError>, Never>
    ) {
        self.request = request
        self.id = id
        self.waiter = waiter
    }

    deinit {
        curl_slist_free_all(headerList)
        if output >= 0 { close(output) }
        if input >= 0 { close(input) }
    }

    /// Where the file to be sent cannot be opened the request does not start.
    func openInput() -> CloudError? {
        guard case .file(let path, _, _) = request.body else { return nil }
        input = open(path, O_RDONLY | O_CLOEXEC)
        return input >= 0 ? nil : CloudError(.unavailable(path), context: "cannot open \(path): \(FileSystem.lastError)")
    }

    /// - Returns: how much was taken; anything else than all of it ends the transfer.
    func take(_ bytes: UnsafeRawBufferPointer) -> Int {
        received += bytes.count
        guard (200..<300).contains(status) else {
            body += bytes.prefix(max(0, Self.errorBodyLimit - body.count))
            return bytes.count
        }
        switch request.sink {
        case .memory(let limit):
            if body.count + bytes.count > limit {
                failure = CloudError(.requestTooLarge(limit: limit), context: "the reply of \(request.url) is larger than \(limit) bytes")
                return 0
            }
            body += bytes
        case .consumer(let take):
            if !take(bytes) {
                failure = CloudError(.unavailable(host), context: "the consumer of \(request.url) ended the transfer")
                return 0
            }
        case .file(let path):
            if !prepareOutput(path) || !append(bytes, path) { return 0 }
        }
        return bytes.count
    }

    private func prepareOutput(_ path: String) -> Bool {
        if output >= 0 { return true }
        output = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        if output < 0 { failure = CloudError(.unavailable(path), context: "cannot create \(path): \(FileSystem.lastError)") }
        return output >= 0
    }

    private func append(_ bytes: UnsafeRawBufferPointer, _ path: String) -> Bool {
        var offset = 0
        while offset < bytes.count {
            let n = write(output, bytes.baseAddress! + offset, bytes.count - offset)
            if n < 0 && errno == EINTR { continue }
            guard n > 0 else {
                failure = CloudError(.unavailable(path), context: "cannot write \(path): \(FileSystem.lastError)")
                return false
            }
            offset += n
        }
        return true
    }

    func takeHeader(_ line: UnsafeRawBufferPointer) {
        if line.starts(with: "HTTP/".utf8) {
            // A new head: what came before was informational (100 Continue).
            headers = HTTPHeaderList()
            let words = line.split(separator: 0x20, maxSplits: 2)
            status = words.count > 1 ? Int(String(decoding: words[1].prefix(3), as: UTF8.self)) ?? 0 : 0
            return
        }
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { return }
        var value = line[(colon + 1)...]
        while let first = value.first, first == 0x20 || first == 0x09 { value = value.dropFirst() }
        while let last = value.last, last == 0x0a || last == 0x0d || last == 0x20 || last == 0x09 { value = value.dropLast() }
        headers.append(String(decoding: line[..<colon], as: UTF8.self), String(decoding: value, as: UTF8.self))
    }

    /// The next bytes to send. `nil` ends the transfer with an error.
    func give(_ buffer: UnsafeMutableRawBufferPointer) -> Int? {
        guard case .file(let path, let offset, let length) = request.body else { return 0 }
        let want = min(buffer.count, length - position)
        if want <= 0 { return 0 }
        let got = pread(input, buffer.baseAddress, want, off_t(offset + position))
        guard got > 0 else {
            failure = CloudError(.unavailable(path), context: "\(path) ends before byte \(offset + length), or cannot be read")
            return nil
        }
        position += got
        return got
    }

    /// curl sends again when a kept connection turns out to be closed.
    func rewind(to offset: Int) { position = offset }

    func end(_ code: CURLcode, detail: String, certificate: [UInt8]?) {
        if let failure { return waiter.resume(returning: .failure(failure)) }
        guard code == CURLE_OK else { return waiter.resume(returning: .failure(error(code, detail))) }
        if case .file(let path) = request.sink, (200..<300).contains(status), !prepareOutput(path), let failure {
            return waiter.resume(returning: .failure(failure))
        }
        waiter.resume(
            returning: .success(
                HTTPClientResponse(
                    status: status, headers: headers, body: body, received: received, peerCertificateDER: certificate)))
    }

    func fail(_ error: CloudError) { waiter.resume(returning: .failure(error)) }

    private var host: String {
        let rest = request.url.split(separator: "/", omittingEmptySubsequences: true).dropFirst().first
        return rest.map { String($0.split(separator: "?").first ?? $0) } ?? request.url
    }

    private func error(_ code: CURLcode, _ detail: String) -> CloudError {
        let text = curl_easy_strerror(code).map { String(cString: $0) } ?? ""
        // Signatures stand in the query of presigned addresses: they stay out of the log.
        let url = request.url.split(separator: "?", maxSplits: 1).first.map(String.init) ?? ""
        return CloudError(
            .unavailable(host), context: "\(request.method) \(url): curl \(code.rawValue): \(text)\(detail.isEmpty ? "" : ": \(detail)")")
    }
}
