import API
import Domain
import Identity
import Signing
import Testing
import Wire

@testable import CloudControllerKit
@testable import Daemon

@Suite struct CoreFrontTests {
    private struct Answer {
        let status: Int
        let text: String
        let xml: XMLElement?
        init(_ reply: HTTPReply) {
            status = reply.status
            guard case .bytes(let bytes) = reply.body else {
                text = ""
                xml = nil
                return
            }
            text = String(decoding: bytes, as: UTF8.self)
            xml = try? XMLReader.parse(bytes)
        }
        var code: String { xml?.first("Errors")?.first("Error")?.first("Code")?.text ?? xml?.first("Error")?.first("Code")?.text ?? "" }
    }

    private func form(_ pairs: [(String, String)]) -> String {
        pairs.map { "\(Presign.encode(component: $0.0))=\(Presign.encode(component: $0.1))" }.joined(separator: "&")
    }

    /// A Query request by POST, signed with SigV4 for any scope.
    private func post(
        _ cloud: CoreCloud, _ pairs: [(String, String)], path: String = "/", secret: String? = nil, region: String = "undefined-4711",
        service: String = "ec2", keyID: String? = nil, tamper: Bool = false
    ) async -> Answer {
        let body = form(pairs)
        let headers = SignV4.headers(
            method: "POST", host: "cloud:8773", path: path, headers: [("content-type", "application/x-www-form-urlencoded")],
            payloadHash: SignV4.payloadHash(Array(body.utf8)), accessKeyID: keyID ?? cloud.key.id, secret: secret ?? cloud.key.secret,
            region: region,
            service: service, now: cloud.clock.now())
        var list = HTTPHeaderList([(name: "Host", value: "cloud:8773"), (name: "Content-Type", value: "application/x-www-form-urlencoded")])
        for (name, value) in headers where name.lowercased() != "host" && name.lowercased() != "content-type" { list.append(name, value) }
        let sent = tamper ? body + "&DryRun=true" : body
        return Answer(
            await cloud.front.answer(
                HTTPRequest(
                    id: "req-1", method: "POST", target: path, headers: list, remoteAddress: "192.0.2.1",
                    body: RequestBody(bytes: Array(sent.utf8)))))
    }

    /// A Query request by GET, signed with SigV2, as libcloud sends it.
    private func get(_ cloud: CoreCloud, _ pairs: [(String, String)]) async -> Answer {
        var all =
            pairs + [
                ("AWSAccessKeyId", cloud.key.id), ("SignatureVersion", "2"), ("SignatureMethod", "HmacSHA256"),
                ("Timestamp", cloud.clock.now().iso8601Seconds),
            ]
        all.sort { Array($0.0.utf8).lexicographicallyPrecedes(Array($1.0.utf8)) }
        let query = form(all)
        let signature = Base64.encode(HMAC.sha256(key: Array(cloud.key.secret.utf8), Array("GET\ncloud\n/\n\(query)".utf8)))
        return Answer(
            await cloud.front.answer(
                HTTPRequest(
                    id: "req-2", method: "GET", target: "/?\(query)&Signature=\(Presign.encode(component: signature))",
                    headers: [("Host", "cloud")],
                    remoteAddress: "192.0.2.1")))
    }

    private func soap(
        _ cloud: CoreCloud, _ xml: String, action: String = "", digest: Digest.Algorithm = .sha256, key: PrivateKey? = nil,
        certificate: Certificate? = nil, bytes: [UInt8]? = nil
    ) async throws -> Answer {
        let signed = try WSSecurity.sign(
            body: Array(xml.utf8), key: key ?? cloud.signingKey, certificate: certificate ?? cloud.signingCertificate, wsa: nil,
            now: cloud.clock.now(), ttl: 300, digest: digest)
        return Answer(
            await cloud.front.answer(
                HTTPRequest(
                    id: "req-3", method: "POST", target: "/services/Eucalyptus",
                    headers: [("SOAPAction", action), ("Content-Type", "text/xml")],
                    remoteAddress: "192.0.2.1", body: RequestBody(bytes: bytes ?? signed))))
    }

    @Test func aSignedQueryIsAnsweredInItsNamespace() async throws {
        let cloud = try await CoreCloud()
        let answer = await post(cloud, [("Action", "DescribeInstances"), ("Version", "2016-11-15")])
        #expect(answer.status == 200, "\(answer.text)")
        #expect(answer.xml?.name == "DescribeInstancesResponse")
        #expect(answer.xml?.namespace == "http://ec2.amazonaws.com/doc/2016-11-15/")
        #expect(answer.xml?.first("requestId")?.text == "req-1")
        let old = await get(cloud, [("Action", "DescribeInstances"), ("Version", "2008-05-05")])
        #expect(old.status == 200, "\(old.text)")
        #expect(old.xml?.namespace == "http://ec2.amazonaws.com/doc/2008-05-05/")
        #expect(old.xml?.first("requestId") == nil)
    }

    @Test func runInstancesGoesThroughTheWholeFront() async throws {
        let cloud = try await CoreCloud()
        let answer = await get(
            cloud,
            [
                ("Action", "RunInstances"), ("Version", "2016-11-15"), ("ImageId", CoreCloud.image), ("MinCount", "1"), ("MaxCount", "1"),
                ("InstanceType", "t1.micro"),
            ])
        #expect(answer.status == 200, "\(answer.text)")
        let id = answer.xml?.first("instancesSet")?.first("item")?.first("instanceId")?.text ?? ""
        await cloud.round(2)
        #expect(try await cloud.state(id) == "running")
    }

    @Test func failedAuthenticationSaysOneThing() async throws {
        let cloud = try await CoreCloud()
        let action = [("Action", "DescribeInstances"), ("Version", "2016-11-15")]
        let wrong = await post(cloud, action, secret: "wrong")
        let unknown = await post(cloud, action, keyID: "AKIAIOSFODNN7EXAMPLE")
        let tampered = await post(cloud, action, tamper: true)
        for answer in [wrong, unknown, tampered] {
            #expect(answer.status == 401)
            #expect(answer.text == wrong.text)
            #expect(answer.code == "AuthFailure")
        }
        let missing = Answer(
            await cloud.front.answer(
                HTTPRequest(id: "x", method: "GET", target: "/?Action=DescribeInstances", headers: [], remoteAddress: "192.0.2.1")))
        #expect(missing.code == "MissingAuthenticationToken")
        cloud.clock.advance(0)
        let iam = await post(cloud, [("Action", "GetUser"), ("Version", "2010-05-08")], secret: "wrong", service: "iam")
        #expect(iam.xml?.name == "ErrorResponse")
    }

    @Test func anExpiredSignatureIsRefused() async throws {
        let cloud = try await CoreCloud()
        let now = cloud.clock.now()
        let headers = SignV4.headers(
            method: "GET", host: "cloud", path: "/", query: [("Action", "DescribeInstances"), ("Version", "2016-11-15")],
            payloadHash: SignV4.payloadHash([UInt8]()), accessKeyID: cloud.key.id, secret: cloud.key.secret, region: "r", service: "ec2",
            now: now.adding(seconds: -3600))
        var list = HTTPHeaderList([(name: "Host", value: "cloud")])
        for (name, value) in headers where name.lowercased() != "host" { list.append(name, value) }
        let answer = Answer(
            await cloud.front.answer(
                HTTPRequest(
                    id: "x", method: "GET", target: "/?Action=DescribeInstances&Version=2016-11-15", headers: list,
                    remoteAddress: "192.0.2.1")))
        #expect(answer.code == "RequestExpired")
    }

    @Test func servicesAreToldApart() async throws {
        let cloud = try await CoreCloud()
        let sts = await post(cloud, [("Action", "GetCallerIdentity"), ("Version", "2011-06-15")], service: "sts")
        #expect(sts.text.contains("<Account>\(cloud.accountID)</Account>"), "\(sts.text)")
        #expect(sts.xml?.namespace == "https://sts.amazonaws.com/doc/2011-06-15/")
        let path = await post(cloud, [("Action", "GetUser"), ("Version", "2010-05-08")], path: "/services/Euare/")
        #expect(path.status == 200, "\(path.text)")
        #expect(await post(cloud, [("Action", "X")], path: "/services/Nothing").status == 404)
    }

    @Test func unknownActionsAreNamedAndCounted() async throws {
        let cloud = try await CoreCloud()
        let answer = await post(cloud, [("Action", "CreateTransitGateway"), ("Version", "2016-11-15")])
        #expect(answer.status == 400)
        #expect(answer.code == "InvalidAction")
        #expect(answer.text.contains("is not valid for this web service"))
        #expect(cloud.runtime.metrics.text().contains("karri_unknown_actions_total{action=\"CreateTransitGateway\",service=\"ec2\"} 1"))
        #expect(await post(cloud, [("Action", "DescribeInstances"), ("Version", "2006-06-26")]).code == "NoSuchVersion")
        #expect(
            await post(cloud, [("Action", "DescribeInstances"), ("Version", "2016-11-15"), ("Nonsense", "1")]).code == "UnknownParameter")
        #expect(await post(cloud, [("Version", "2016-11-15")]).code == "MissingAction")
    }

    @Test func eucalyptusTypesAreInItsNamespace() async throws {
        let cloud = try await CoreCloud()
        let answer = await post(cloud, [("Action", "DescribeInstanceTypes"), ("Version", "3.3.0")])
        #expect(answer.xml?.namespace == "http://msgs.eucalyptus.com/3.3.0", "\(answer.text.prefix(300))")
        #expect(answer.xml?.first("instanceTypeDetails")?.first("item")?.first("name")?.text == "t1.micro")
    }

    @Test func usersNeedAPolicy() async throws {
        let cloud = try await CoreCloud()
        let identity = cloud.cloud.identity
        _ = try await identity.userCreate(name: "bob", account: cloud.accountID)
        let key = try await identity.accessKeyCreate(account: cloud.accountID, user: "bob")
        func call(_ action: String, _ more: [(String, String)] = []) async -> String {
            await post(cloud, [("Action", action), ("Version", "2016-11-15")] + more, secret: key.secret, keyID: key.id).code
        }
        #expect(await call("DescribeInstances") == "UnauthorizedOperation")
        try await identity.policyPut(
            """
            {"Statement": [{"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"},
              {"Effect": "Allow", "Action": "ec2:TerminateInstances", "Resource": "arn:aws:ec2:*:*:instance/i-00000001"}]}
            """, name: "p", user: "bob", account: cloud.accountID)
        #expect(await call("DescribeInstances") == "")
        #expect(await call("TerminateInstances", [("InstanceId.1", "i-00000001")]) == "InvalidInstanceID.NotFound")
        #expect(await call("TerminateInstances", [("InstanceId.1", "i-00000002")]) == "UnauthorizedOperation")
        #expect(
            await call("TerminateInstances", [("InstanceId.1", "i-00000001"), ("InstanceId.2", "i-00000002")]) == "UnauthorizedOperation")
    }

    private static let describe =
        "<DescribeInstances xmlns=\"http://ec2.amazonaws.com/doc/2009-08-15/\"><instancesSet></instancesSet></DescribeInstances>"

    @Test func aSignedEnvelopeIsAnsweredInItsNamespace() async throws {
        let cloud = try await CoreCloud()
        let answer = try await soap(cloud, Self.describe, action: "\"DescribeInstances\"")
        #expect(answer.status == 200, "\(answer.text)")
        let body = answer.xml?.first("Body")?.children.first
        #expect(body?.name == "DescribeInstancesResponse")
        #expect(body?.namespace == "http://ec2.amazonaws.com/doc/2009-08-15/")
        let sha1 = try await soap(cloud, Self.describe, digest: .sha1)
        #expect(sha1.status == 200, "\(sha1.text)")
    }

    @Test func badEnvelopesAreRefusedAsFaults() async throws {
        let cloud = try await CoreCloud()
        func fault(_ a: Answer) -> String { a.xml?.first("Body")?.first("Fault")?.first("faultcode")?.text ?? a.text }
        #expect(fault(try await soap(cloud, Self.describe, action: "TerminateInstances")) == "aws:Client.InvalidRequest")
        let stranger = try PrivateKey.generateRSA(bits: 2048)
        let certificate = try CertificateAuthority.selfSigned(name: "mallory", key: stranger, days: 1)
        #expect(fault(try await soap(cloud, Self.describe, key: stranger, certificate: certificate)) == "aws:Client.AuthFailure")
        #expect(fault(try await soap(cloud, "<Nothing xmlns=\"http://ec2.amazonaws.com/doc/2009-08-15/\"/>")) == "aws:Client.InvalidAction")
        #expect(fault(try await soap(cloud, "<Nudge xmlns=\"urn:karri:clc:1\"/>")) == "aws:Client.InvalidAction")
        cloud.clock.advance(5)
        let replayed = try WSSecurity.sign(
            body: Array(Self.describe.utf8), key: cloud.signingKey, certificate: cloud.signingCertificate, wsa: nil, now: cloud.clock.now(),
            ttl: 300)
        #expect(try await soap(cloud, Self.describe, bytes: replayed).status == 200)
        #expect(fault(try await soap(cloud, Self.describe, bytes: replayed)) == "aws:Client.AuthFailure")
        #expect(fault(try await soap(cloud, Self.describe, bytes: Array("<x/>".utf8))).hasPrefix("aws:Client."))
    }

    @Test func theWSDLIsServed() async throws {
        let cloud = try await CoreCloud()
        for target in ["/?wsdl&Version=2009-08-15", "/doc/2009-08-15/AmazonEC2.wsdl"] {
            let answer = Answer(
                await cloud.front.answer(
                    HTTPRequest(id: "w", method: "GET", target: target, headers: [("Host", "cloud:8773")], remoteAddress: "192.0.2.1")))
            #expect(answer.status == 200)
            #expect(answer.text.contains("targetNamespace=\"http://ec2.amazonaws.com/doc/2009-08-15/\""), "\(answer.text.prefix(400))")
            #expect(answer.text.contains("http://cloud:8773/"))
        }
    }
}
