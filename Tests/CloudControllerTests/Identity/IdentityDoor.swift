import Daemon
import Domain
import Identity
import Signing
import Testing
import Wire

@testable import CloudControllerKit

/// Somebody's keys, with the session token of temporary ones.
struct Keys: Sendable {
    let id, secret: String
    var token: String?

    init(_ pair: AccessKeyPair) { (id, secret, token) = (pair.id, pair.secret, nil) }
    init(_ id: String, _ secret: String, _ token: String? = nil) { (self.id, self.secret, self.token) = (id, secret, token) }
    /// Of an answer of STS.
    init(_ answer: Answer) throws {
        let credentials = try #require(answer.result?.first("Credentials"), "\(answer.text)")
        id = try #require(credentials.first("AccessKeyId")?.text)
        secret = try #require(credentials.first("SecretAccessKey")?.text)
        token = try #require(credentials.first("SessionToken")?.text)
    }
}

/// What came out of the door.
struct Answer {
    let status: Int
    let text: String
    let xml: XMLElement?

    init(_ reply: HTTPReply) {
        status = reply.status
        guard case .bytes(let bytes) = reply.body else {
            (text, xml) = ("", nil)
            return
        }
        text = String(decoding: bytes, as: UTF8.self)
        xml = try? XMLReader.parse(bytes)
    }

    var code: String {
        status == 200 ? "" : xml?.first("Errors")?.first("Error")?.first("Code")?.text ?? xml?.first("Error")?.first("Code")?.text ?? "?"
    }
    var message: String {
        xml?.first("Errors")?.first("Error")?.first("Message")?.text ?? xml?.first("Error")?.first("Message")?.text ?? ""
    }
    /// `<XxxResult>` of IAM and STS.
    var result: XMLElement? { xml?.children.first { $0.name.hasSuffix("Result") } }
    /// The text at a path below the result.
    func at(_ path: String...) -> String? {
        var element = result
        for name in path { element = element?.first(name) }
        return element?.text
    }
    /// The texts of a leaf of all members of a list.
    func members(_ list: String, _ leaf: String) -> [String] {
        (result?.first(list)?.all("member") ?? []).compactMap { leaf.isEmpty ? $0.text : $0.first(leaf)?.text }
    }
}

extension CoreCloud {
    var root: Keys { Keys(key) }

    /// A signed request through the whole front end. `nil` keys: unsigned.
    func ask(_ service: String, _ keys: Keys?, _ action: String, _ parameters: [String: String] = [:]) async -> Answer {
        let version = ["iam": "2010-05-08", "sts": "2011-06-15"][service] ?? "2016-11-15"
        let pairs = [("Action", action), ("Version", version)] + parameters.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
        let body = pairs.map { "\(Presign.encode(component: $0.0))=\(Presign.encode(component: $0.1))" }.joined(separator: "&")
        var list = HTTPHeaderList([(name: "Host", value: "cloud:8773"), (name: "Content-Type", value: "application/x-www-form-urlencoded")])
        if let keys {
            let headers = SignV4.headers(
                method: "POST", host: "cloud:8773", path: "/", headers: [("content-type", "application/x-www-form-urlencoded")],
                payloadHash: SignV4.payloadHash(Array(body.utf8)), accessKeyID: keys.id, secret: keys.secret, sessionToken: keys.token,
                region: "karri-1", service: service, now: clock.now())
            for (name, value) in headers where name.lowercased() != "host" && name.lowercased() != "content-type" {
                list.append(name, value)
            }
        }
        return Answer(
            await front.answer(
                HTTPRequest(
                    id: "req-1", method: "POST", target: "/", headers: list, remoteAddress: "192.0.2.1",
                    body: RequestBody(bytes: Array(body.utf8)))))
    }

    func iam(_ action: String, _ parameters: [String: String] = [:], as keys: Keys? = nil) async -> Answer {
        await ask("iam", keys ?? root, action, parameters)
    }

    /// A user with a key, and with an inline policy when one is given.
    func user(_ name: String, _ policy: String? = nil) async throws -> Keys {
        let made = await iam("CreateUser", ["UserName": name])
        #expect(made.code == "", "\(made.text)")
        if let policy {
            let put = await iam("PutUserPolicy", ["UserName": name, "PolicyName": "own", "PolicyDocument": policy])
            #expect(put.code == "", "\(put.text)")
        }
        let key = await iam("CreateAccessKey", ["UserName": name])
        return Keys(
            try #require(key.at("AccessKey", "AccessKeyId"), "\(key.text)"), try #require(key.at("AccessKey", "SecretAccessKey")))
    }
}

func statement(_ action: String, _ resource: String = "*", effect: String = "Allow", condition: String? = nil) -> String {
    let more = condition.map { ",\"Condition\":\($0)" } ?? ""
    return #"{"Version":"2012-10-17","Statement":[{"Effect":"\#(effect)","Action":"\#(action)","Resource":"\#(resource)"\#(more)}]}"#
}

func trust(_ principal: String, condition: String? = nil, action: String = "sts:AssumeRole") -> String {
    let more = condition.map { ",\"Condition\":\($0)" } ?? ""
    return #"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":\#(principal),"Action":"\#(action)"\#(more)}]}"#
}
