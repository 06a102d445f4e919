import Domain
import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// Writes one reply to a connection.
struct ReplyWriter {
    /// What is handed to the channel at once. Larger: a slow client looks like a dead one (`ConnectionGuard`). Smaller: more wake-ups.
    private static let piece = 1 << 20

    enum Failure: Error { case streamLength(declared: Int, written: Int), fileTooShort }

    let outbound: NIOAsyncChannelOutboundWriter<HTTPServerResponsePart>
    let channel: any Channel
    let isTLS: Bool
    let isHead: Bool
    let version: HTTPVersion

    func write(_ reply: HTTPReply, keepAlive: Bool) async throws {
        var keep = keepAlive
        var headers = HTTPHeaders()
        headers.reserveCapacity(reply.headers.count + 3)
        var given: String?
        for (name, value) in reply.headers {
            if HTTPHeaderList.same(name, "content-length") {
                given = value
            } else if !HTTPHeaderList.same(name, "transfer-encoding") && !HTTPHeaderList.same(name, "connection") {
                headers.add(name: name, value: value)
            }
        }
        let hasNoBody = reply.status == 204 || reply.status == 304 || reply.status < 200
        if !hasNoBody {
            switch reply.body {
            case .empty: headers.add(name: "Content-Length", value: isHead ? given ?? "0" : "0")
            case .bytes(let bytes): headers.add(name: "Content-Length", value: isHead ? given ?? "\(bytes.count)" : "\(bytes.count)")
            case .file(_, _, let length): headers.add(name: "Content-Length", value: "\(length)")
            case .stream(.some(let length), _): headers.add(name: "Content-Length", value: "\(length)")
            case .stream(.none, _):
                if version != .http1_0 {
                    if !isHead { headers.add(name: "Transfer-Encoding", value: "chunked") }
                } else {
                    keep = false  // HTTP/1.0 has no chunks: the end of the connection is the end of the body
                }
            }
        }
        if !keep {
            headers.add(name: "Connection", value: "close")
        } else if version == .http1_0 {
            headers.add(name: "Connection", value: "keep-alive")
        }
        let head = HTTPServerResponsePart.head(
            HTTPResponseHead(
                version: version == .http1_0 ? .http1_0 : .http1_1, status: HTTPResponseStatus(statusCode: reply.status), headers: headers))
        if isHead || hasNoBody { return try await outbound.write(contentsOf: [head, .end(nil)]) }
        switch reply.body {
        case .empty:
            try await outbound.write(contentsOf: [head, .end(nil)])
        case .bytes(let bytes):
            if bytes.isEmpty { return try await outbound.write(contentsOf: [head, .end(nil)]) }
            if bytes.count <= Self.piece {
                return try await outbound.write(contentsOf: [head, .body(.byteBuffer(ByteBuffer(bytes: bytes))), .end(nil)])
            }
            try await outbound.write(head)
            var rest = ByteBuffer(bytes: bytes)
            while let slice = rest.readSlice(length: min(Self.piece, rest.readableBytes)), slice.readableBytes > 0 {
                try await outbound.write(.body(.byteBuffer(slice)))
            }
            try await outbound.write(.end(nil))
        case .file(let source, let offset, let length):
            try await outbound.write(head)
            if isTLS {
                try await pread(source, offset, length)
            } else {
                try await sendfile(source, offset, length)
            }
            try await outbound.write(.end(nil))
        case .stream(let length, let produce):
            try await outbound.write(head)
            try await stream(length, produce)
            try await outbound.write(.end(nil))
        }
    }

    private func stream(_ length: Int?, _ produce: @Sendable (BodyWriter) async throws -> Void) async throws {
        let written = ByteCount()
        try await produce(
            BodyWriter { buffer in
                let total = written.add(buffer.readableBytes)
                if let length, total > length { throw Failure.streamLength(declared: length, written: total) }
                var rest = buffer
                while let slice = rest.readSlice(length: min(Self.piece, rest.readableBytes)), slice.readableBytes > 0 {
                    try await outbound.write(.body(.byteBuffer(slice)))
                }
            })
        let total = written.add(0)
        if let length, total != length { throw Failure.streamLength(declared: length, written: total) }
    }

    private final class ByteCount: Sendable {
        private let value = Mutex(0)
        func add(_ n: Int) -> Int {
            value.withLock {
                $0 += n
                return $0
            }
        }
    }

    private func sendfile(_ source: FileSource, _ offset: Int, _ length: Int) async throws {
        // Past the async writer, whose `write` returns before the kernel has the bytes: the descriptor must stay ours until then. Both
        // ways go through the event loop's queue, so the order holds.
        let handle = NIOFileHandle(_deprecatedTakingOwnershipOfDescriptor: source.descriptor)
        defer { _ = try? handle.takeDescriptorOwnership() }
        var position = offset
        while position < offset + length {
            let end = min(position + Self.piece, offset + length)
            let region = FileRegion(fileHandle: handle, readerIndex: position, endIndex: end)
            try await channel.writeAndFlush(HTTPServerResponsePart.body(.fileRegion(region)))
            position = end
        }
    }

    private func pread(_ source: FileSource, _ offset: Int, _ length: Int) async throws {
        var position = offset
        let end = offset + length
        while position < end {
            let want = min(Self.piece, end - position)
            let at = position
            let buffer = try await BlockingPool.threads.runIfActive { () throws -> ByteBuffer in
                var buffer = ByteBuffer()
                buffer.reserveCapacity(want)
                let got = buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: want) { bytes in
                    max(0, Glibc.pread(source.descriptor, bytes.baseAddress, want, off_t(at)))
                }
                guard got > 0 else { throw Failure.fileTooShort }
                return buffer
            }
            position += buffer.readableBytes
            try await outbound.write(.body(.byteBuffer(buffer)))
        }
    }
}
