import Daemon
import Domain
import Identity
import Signing
import Testing
import Wire
import Workflow

/// Requests as a test wants them, signed; the reply as it came.
struct RawS3: Sendable {
    struct Reply: Sendable {
        let status: Int
        let headers: HTTPHeaderList
        let body: [UInt8]

        var text: String { String(decoding: body, as: UTF8.self) }
        func header(_ name: String) -> String? { headers.first(name) }
        var version: String? { headers.first("x-amz-version-id") }
        /// Of an error document.
        var code: String? { (try? XMLReader.parse(body))?.first("Code")?.text }
        /// Of the elements that stand below the root.
        func children(_ name: String) throws -> [XMLElement] { try XMLReader.parse(body).all(name) }
    }

    let endpoint: String
    let key: (id: String, secret: String)

    init(_ w: TestWalrus, _ user: TestWalrus.User) {
        endpoint = w.endpoint
        key = (user.key.id, user.key.secret)
    }

    func callAsFunction(
        _ method: String, _ path: String, _ query: [(String, String)] = [], headers: [(String, String)] = [], body: [UInt8]? = nil
    ) async throws -> Reply {
        let encoded = Presign.encode(path: path)
        var headers = headers
        if let body, !headers.contains(where: { $0.0.lowercased() == "content-md5" }) {
            headers.append(("Content-MD5", Base64.encode(Digest.md5(body))))
        }
        let signed = SignV4.headers(
            method: method, host: String(endpoint.dropFirst("http://".count)), path: encoded, query: query, headers: headers,
            payloadHash: SignV4.payloadHash(body ?? []), accessKeyID: key.id, secret: key.secret, region: "karri-1",
            now: SystemClock().now())
        let text = query.map { "\(Presign.encode(component: $0.0))=\(Presign.encode(component: $0.1))" }.joined(separator: "&")
        let reply = try await HTTPClient().execute(
            HTTPClientRequest(
                method, url: endpoint + encoded + (text.isEmpty ? "" : "?" + text), headers: headers + signed,
                body: body.map { .bytes($0) } ?? .none))
        return Reply(status: reply.status, headers: reply.headers, body: reply.body)
    }

    func callAsFunction(
        _ method: String, _ path: String, _ query: [(String, String)] = [], headers: [(String, String)] = [], text: String
    ) async throws -> Reply {
        try await self(method, path, query, headers: headers, body: Array(text.utf8))
    }

    func setVersioning(_ bucket: String, _ status: String) async throws {
        let reply = try await self(
            "PUT", "/\(bucket)", [("versioning", "")],
            text: "<VersioningConfiguration><Status>\(status)</Status></VersioningConfiguration>")
        #expect(reply.status == 200, "\(reply.text)")
    }

    /// `key=version` of objects and `-key=version` of markers in the order of the list, with a star for the latest; pages of `limit`.
    func versions(_ bucket: String, limit: Int = 1000, _ query: [(String, String)] = []) async throws -> [String] {
        var out: [String] = []
        var marker: [(String, String)] = []
        while true {
            let reply = try await self("GET", "/\(bucket)", [("versions", ""), ("max-keys", "\(limit)")] + query + marker)
            #expect(reply.status == 200, "\(reply.text)")
            let root = try XMLReader.parse(reply.body)
            for child in root.children where ["Version", "DeleteMarker"].contains(child.name) {
                let isLatest = child.first("IsLatest")?.text == "true"
                out.append(
                    (child.name == "Version" ? "" : "-") + "\(child.first("Key")?.text ?? "")=\(child.first("VersionId")?.text ?? "")"
                        + (isLatest ? "*" : ""))
            }
            for child in root.all("CommonPrefixes") { out.append(child.first("Prefix")?.text ?? "") }
            guard root.first("IsTruncated")?.text == "true" else { return out }
            marker = [("key-marker", root.first("NextKeyMarker")?.text ?? "")]
            if let version = root.first("NextVersionIdMarker")?.text { marker.append(("version-id-marker", version)) }
        }
    }
}
