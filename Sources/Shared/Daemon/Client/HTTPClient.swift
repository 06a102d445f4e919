import CCurl
public import Domain
import Glibc
import Signing
import Synchronization

// libcurl's multi interface on one thread of our own: a third of the CPU of async-http-client (`ARCHITECTURE.md` §9). Connections are
// kept and used again; easy handles too. Redirects are not followed and proxies of the environment are not used: our daemons know
// whom they call.

/// An HTTP client. One instance has one thread; a daemon makes one for each identity that it shows.
public final class HTTPClient: HTTPRequesting {
    private let engine: CurlEngine

    /// - Parameter connectionsPerHost: more requests than this to one host wait for each other.
    public init(tls: ClientTLS? = nil, connectionsPerHost: Int = 32) {
        engine = CurlEngine(tls: tls, connectionsPerHost: connectionsPerHost)
        engine.start()
    }

    deinit { engine.stop() }

    public func execute(_ request: HTTPClientRequest) async throws(CloudError) -> HTTPClientResponse {
        let id = engine.nextID()
        let outcome = await withTaskCancellationHandler {
            await withCheckedContinuation { waiter in engine.submit(Transfer(request, id: id, waiter: waiter)) }
        } onCancel: {
            engine.cancel(id)
        }
        return try outcome.get()
    }
}

private final class CurlEngine: @unchecked Sendable {
    // SAFETY: `multi` is thread-safe for curl_multi_wakeup only; all else of curl, and `idle`, `active`, `certificates`, is touched by the
    // engine's thread alone.
    private struct Inbox {
        var pending: [Transfer] = []
        var cancelled: [UInt64] = []
        var isStopped = false
        var lastID: UInt64 = 0
    }
    private static let global: Void = { _ = curl_global_init(Int(CURL_GLOBAL_ALL)) }()
    private let multi: UnsafeMutableRawPointer
    private let tls: ClientTLS?
    private let inbox = Mutex(Inbox())
    private var idle: [UnsafeMutableRawPointer] = []
    private var active: [UInt64: Transfer] = [:]
    /// By connection (its two ends): curl shows the server's certificate only to the transfer that made the connection.
    private var certificates: [String: [UInt8]] = [:]

    init(tls: ClientTLS?, connectionsPerHost: Int) {
        _ = Self.global
        self.tls = tls
        guard let multi = curl_multi_init() else { preconditionFailure("curl_multi_init: out of memory") }
        self.multi = multi
        _ = karri_multi_setopt_long(multi, CURLMOPT_MAX_HOST_CONNECTIONS, connectionsPerHost)
        _ = karri_multi_setopt_long(multi, CURLMOPT_MAXCONNECTS, 64)
    }

    func start() { NativeThread.start { [self] in loop() } }

    func nextID() -> UInt64 {
        inbox.withLock {
            $0.lastID += 1
            return $0.lastID
        }
    }

    func submit(_ transfer: Transfer) {
        inbox.withLock { $0.pending.append(transfer) }
        curl_multi_wakeup(multi)
    }

    func cancel(_ id: UInt64) {
        inbox.withLock { $0.cancelled.append(id) }
        curl_multi_wakeup(multi)
    }

    func stop() {
        inbox.withLock { $0.isStopped = true }
        curl_multi_wakeup(multi)
    }

    // MARK: On the engine's thread

    private func loop() {
        var running: Int32 = 0
        while true {
            let (pending, cancelled, isStopped) = inbox.withLock { inbox in
                defer {
                    inbox.pending.removeAll(keepingCapacity: true)
                    inbox.cancelled.removeAll(keepingCapacity: true)
                }
                return (inbox.pending, inbox.cancelled, inbox.isStopped)
            }
            for transfer in pending {
                if isStopped { transfer.fail(Self.stopped) } else { begin(transfer) }
            }
            for id in cancelled { abort(id) }
            if isStopped {
                for transfer in active.values { release(transfer)?.fail(Self.stopped) }
                break
            }
            curl_multi_perform(multi, &running)
            finish()
            if inbox.withLock({ $0.pending.isEmpty && $0.cancelled.isEmpty && !$0.isStopped }) {
                curl_multi_poll(multi, nil, 0, 1000, nil)
            }
        }
        for handle in idle { curl_easy_cleanup(handle) }
        curl_multi_cleanup(multi)
    }

    private static let stopped = CloudError(.unavailable("The service"), context: "the HTTP client has been stopped")

    private func abort(_ id: UInt64) {
        guard let transfer = active[id] else { return }
        release(transfer)?.fail(CloudError(.unavailable("The service"), context: "\(transfer.request.method) request cancelled"))
    }

    private func release(_ transfer: Transfer) -> Transfer? {
        guard active.removeValue(forKey: transfer.id) != nil, let handle = transfer.handle else { return nil }
        curl_multi_remove_handle(multi, handle)
        idle.append(handle)
        transfer.handle = nil
        return transfer
    }

    private func finish() {
        var left: Int32 = 0
        while let message = curl_multi_info_read(multi, &left) {
            guard message.pointee.msg == CURLMSG_DONE, let handle = message.pointee.easy_handle else { continue }
            let code = message.pointee.data.result
            var raw: UnsafeMutableRawPointer?
            _ = karri_easy_getinfo_ptr(handle, CURLINFO_PRIVATE, &raw)
            guard let raw else { continue }
            // SAFETY: CURLOPT_PRIVATE is the transfer, which `active` holds until `release`.
            let transfer = Unmanaged<Transfer>.fromOpaque(raw).takeUnretainedValue()
            let certificate = tls == nil ? nil : peerCertificate(handle)
            var detail = ""
            if code != CURLE_OK {
                var verified = 0
                _ = karri_easy_getinfo_long(handle, CURLINFO_SSL_VERIFYRESULT, &verified)
                if verified != 0 { detail = "certificate verification \(verified)" }
            }
            release(transfer)?.end(code, detail: detail, certificate: certificate)
        }
    }

    private func begin(_ transfer: Transfer) {
        if let error = transfer.openInput() { return transfer.fail(error) }
        guard let handle = idle.popLast() ?? curl_easy_init() else {
            return transfer.fail(CloudError(.unavailable("The service"), context: "curl_easy_init: out of memory"))
        }
        curl_easy_reset(handle)
        transfer.handle = handle
        active[transfer.id] = transfer
        configure(handle, transfer)
        curl_multi_add_handle(multi, handle)
    }

    private func configure(_ handle: UnsafeMutableRawPointer, _ transfer: Transfer) {
        let request = transfer.request
        let opaque = Unmanaged.passUnretained(transfer).toOpaque()
        func number(_ option: CURLoption, _ value: Int) { _ = karri_easy_setopt_long(handle, option, value) }
        func text(_ option: CURLoption, _ value: String) { _ = karri_easy_setopt_ptr(handle, option, value) }
        text(CURLOPT_URL, request.url)
        text(CURLOPT_CUSTOMREQUEST, request.method)
        text(CURLOPT_PROTOCOLS_STR, "http,https")
        text(CURLOPT_PROXY, "")
        number(CURLOPT_NOSIGNAL, 1)
        number(CURLOPT_PATH_AS_IS, 1)  // object keys may hold ".."
        number(CURLOPT_CONNECTTIMEOUT_MS, 5000)
        number(CURLOPT_TIMEOUT_MS, request.timeoutMilliseconds)
        number(CURLOPT_LOW_SPEED_LIMIT, 1)
        number(CURLOPT_LOW_SPEED_TIME, request.stallSeconds)
        number(CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_1_1))
        number(CURLOPT_TCP_KEEPALIVE, 1)
        if request.method == "HEAD" { number(CURLOPT_NOBODY, 1) }
        if case .memory = request.sink {} else { number(CURLOPT_BUFFERSIZE, 256 * 1024) }
        if let tls {
            configure(tls, number, text)
            // Debian's curl would trust the system's CAs beside ours.
            if tls.ca != nil { _ = karri_easy_setopt_ptr(handle, CURLOPT_CAPATH, nil) }
        }
        var list: UnsafeMutablePointer<curl_slist>?
        for (name, value) in request.headers {
            list = curl_slist_append(list, value.isEmpty ? "\(name);" : "\(name): \(value)")
        }
        switch request.body {
        case .none:
            if request.method == "POST" || request.method == "PUT" { _ = karri_easy_setopt_off(handle, CURLOPT_POSTFIELDSIZE_LARGE, 0) }
            if request.method == "POST" || request.method == "PUT" { text(CURLOPT_COPYPOSTFIELDS, "") }
        case .bytes(let bytes):
            _ = karri_easy_setopt_off(handle, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(bytes.count))
            bytes.withUnsafeBytes { _ = karri_easy_setopt_ptr(handle, CURLOPT_COPYPOSTFIELDS, $0.baseAddress ?? UnsafeRawPointer(opaque)) }
            list = curl_slist_append(list, "Expect:")
        case .file(_, _, let length):
            number(CURLOPT_UPLOAD, 1)
            number(CURLOPT_UPLOAD_BUFFERSIZE, 256 * 1024)
            _ = karri_easy_setopt_off(handle, CURLOPT_INFILESIZE_LARGE, curl_off_t(length))
            _ = karri_easy_setopt_datacb(handle, CURLOPT_READFUNCTION) { buffer, size, count, opaque in
                let transfer = Unmanaged<Transfer>.fromOpaque(opaque!).takeUnretainedValue()
                return transfer.give(UnsafeMutableRawBufferPointer(start: buffer, count: size * count)) ?? Int(CURL_READFUNC_ABORT)
            }
            _ = karri_easy_setopt_ptr(handle, CURLOPT_READDATA, opaque)
            let seek: @convention(c) (UnsafeMutableRawPointer?, curl_off_t, Int32) -> Int32 = { opaque, offset, origin in
                guard origin == SEEK_SET else { return CURL_SEEKFUNC_CANTSEEK }
                Unmanaged<Transfer>.fromOpaque(opaque!).takeUnretainedValue().rewind(to: Int(offset))
                return CURL_SEEKFUNC_OK
            }
            _ = karri_easy_setopt_ptr(handle, CURLOPT_SEEKFUNCTION, unsafeBitCast(seek, to: UnsafeRawPointer.self))
            _ = karri_easy_setopt_ptr(handle, CURLOPT_SEEKDATA, opaque)
        }
        if !request.headers.contains(where: { HTTPHeaderList.same($0.0, "content-type") }) {
            list = curl_slist_append(list, "Content-Type:")  // curl would say that it is a form
        }
        list = curl_slist_append(list, "User-Agent: karri/\(KarriVersion.text)")
        transfer.headerList = list
        _ = karri_easy_setopt_ptr(handle, CURLOPT_HTTPHEADER, list)
        _ = karri_easy_setopt_datacb(handle, CURLOPT_WRITEFUNCTION) { bytes, size, count, opaque in
            Unmanaged<Transfer>.fromOpaque(opaque!).takeUnretainedValue().take(UnsafeRawBufferPointer(start: bytes, count: size * count))
        }
        _ = karri_easy_setopt_ptr(handle, CURLOPT_WRITEDATA, opaque)
        _ = karri_easy_setopt_datacb(handle, CURLOPT_HEADERFUNCTION) { bytes, size, count, opaque in
            Unmanaged<Transfer>.fromOpaque(opaque!).takeUnretainedValue()
                .takeHeader(UnsafeRawBufferPointer(start: bytes, count: size * count))
            return size * count
        }
        _ = karri_easy_setopt_ptr(handle, CURLOPT_HEADERDATA, opaque)
        _ = karri_easy_setopt_ptr(handle, CURLOPT_PRIVATE, opaque)
    }

    private func configure(_ tls: ClientTLS, _ number: (CURLoption, Int) -> Void, _ text: (CURLoption, String) -> Void) {
        if let ca = tls.ca { text(CURLOPT_CAINFO, ca) }
        if let certificate = tls.certificate, let key = tls.key {
            text(CURLOPT_SSLCERT, certificate)
            text(CURLOPT_SSLKEY, key)
        }
        number(CURLOPT_SSL_VERIFYPEER, 1)
        number(CURLOPT_SSL_VERIFYHOST, tls.verifiesHost ? 2 : 0)
        number(CURLOPT_SSLVERSION, tls.onlyTLS13 ? Int(CURL_SSLVERSION_TLSv1_3) : Int(CURL_SSLVERSION_TLSv1_2))
        number(CURLOPT_SSL_SESSIONID_CACHE, 0)
        number(CURLOPT_CERTINFO, 1)
    }

    private func peerCertificate(_ handle: UnsafeMutableRawPointer) -> [UInt8]? {
        var localPort = 0
        var remotePort = 0
        var made = 0
        var address: UnsafeMutableRawPointer?
        _ = karri_easy_getinfo_long(handle, CURLINFO_LOCAL_PORT, &localPort)
        _ = karri_easy_getinfo_long(handle, CURLINFO_PRIMARY_PORT, &remotePort)
        _ = karri_easy_getinfo_long(handle, CURLINFO_NUM_CONNECTS, &made)
        _ = karri_easy_getinfo_ptr(handle, CURLINFO_PRIMARY_IP, &address)
        guard localPort > 0, let address else { return nil }
        let key = "\(localPort) \(String(cString: address.assumingMemoryBound(to: CChar.self))) \(remotePort)"
        guard made > 0 else { return certificates[key] }
        certificates[key] = nil
        var raw: UnsafeMutableRawPointer?
        _ = karri_easy_getinfo_ptr(handle, CURLINFO_CERTINFO, &raw)
        guard let info = raw?.assumingMemoryBound(to: curl_certinfo.self), info.pointee.num_of_certs > 0 else { return nil }
        var item = info.pointee.certinfo?[0]
        while let current = item {
            if let data = current.pointee.data {
                let text = String(cString: data)
                if text.hasPrefix("Cert:"), let der = Self.der(pem: text.dropFirst(5)) {
                    if certificates.count > 4096 { certificates.removeAll() }
                    certificates[key] = der
                    return der
                }
            }
            item = current.pointee.next
        }
        return nil
    }

    private static func der(pem: Substring) -> [UInt8]? {
        let base64 = pem.split(separator: "\n").filter { !$0.hasPrefix("-----") }.joined()
        return Base64.decode(base64)
    }
}
