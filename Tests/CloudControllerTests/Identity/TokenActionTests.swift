import API
import Domain
import Identity
import Signing
import Synchronization
import Testing
import Wire

@testable import CloudControllerKit
@testable import Daemon

/// STS through the whole front end, and its tokens at every door.
@Suite struct TokenActionTests {
    private func role(_ cloud: CoreCloud, _ name: String, _ trust: String, _ policy: String?) async throws -> String {
        let made = await cloud.iam("CreateRole", ["RoleName": name, "AssumeRolePolicyDocument": trust])
        if let policy {
            #expect(await cloud.iam("PutRolePolicy", ["RoleName": name, "PolicyName": "p", "PolicyDocument": policy]).code == "")
        }
        return try #require(made.at("Role", "Arn"), "\(made.text)")
    }

    private func assume(_ cloud: CoreCloud, _ keys: Keys, _ arn: String, _ more: [String: String] = [:]) async -> Answer {
        await cloud.ask("sts", keys, "AssumeRole", ["RoleArn": arn, "RoleSessionName": "work"].merging(more) { $1 })
    }

    @Test func aRoleIsAssumedAndEnds() async throws {
        let cloud = try await CoreCloud()
        let bob = try await cloud.user("bob")
        let arn = try await role(
            cloud, "reader", trust(#"{"AWS":"arn:aws:iam::\#(cloud.accountID):user/bob"}"#), statement("ec2:Describe*"))
        let eve = try await cloud.user("eve", statement("sts:*"))
        #expect(await assume(cloud, eve, arn).code == "AccessDenied")
        #expect(await assume(cloud, cloud.root, arn).code == "AccessDenied")
        let answer = await assume(cloud, bob, arn)
        #expect(answer.at("AssumedRoleUser", "Arn") == "arn:aws:sts::\(cloud.accountID):assumed-role/reader/work", "\(answer.text)")
        let session = try Keys(answer)
        #expect(session.id.hasPrefix("ASIA"))
        let me = await cloud.ask("sts", session, "GetCallerIdentity")
        #expect(me.at("Arn") == "arn:aws:sts::\(cloud.accountID):assumed-role/reader/work")
        #expect(me.at("UserId")?.hasPrefix("AROA") == true && me.at("UserId")?.hasSuffix(":work") == true)
        #expect(await cloud.ask("ec2", session, "DescribeInstances").code == "")
        #expect(await cloud.ask("ec2", session, "CreateKeyPair", ["KeyName": "k"]).code == "UnauthorizedOperation")
        // Without the token, with another's, or with one that was touched, it is nobody's key.
        #expect(await cloud.ask("ec2", Keys(session.id, session.secret), "DescribeInstances").code == "AuthFailure")
        let other = try Keys(await assume(cloud, bob, arn))
        #expect(await cloud.ask("ec2", Keys(session.id, session.secret, other.token), "DescribeInstances").code == "AuthFailure")
        #expect(
            await cloud.ask("ec2", Keys(session.id, session.secret, "AAAA" + (session.token ?? "")), "DescribeInstances").code
                == "AuthFailure")
        #expect(await cloud.ask("ec2", Keys(bob.id, bob.secret, session.token), "DescribeInstances").code == "AuthFailure")
        // A policy that looks at the time of issue revokes what was given out before.
        let revoke = statement("*", effect: "Deny", condition: #"{"DateLessThan":{"aws:TokenIssueTime":"2100-01-01T00:00:00Z"}}"#)
        #expect(await cloud.iam("PutRolePolicy", ["RoleName": "reader", "PolicyName": "revoke", "PolicyDocument": revoke]).code == "")
        #expect(await cloud.ask("ec2", session, "DescribeInstances").code == "UnauthorizedOperation")
        #expect(await cloud.iam("DeleteRolePolicy", ["RoleName": "reader", "PolicyName": "revoke"]).code == "")
        #expect(await cloud.ask("ec2", session, "DescribeInstances").code == "")
        // A role that is gone takes its sessions with it; one of the same name is another.
        #expect(await cloud.iam("DeleteRole", ["RoleName": "reader"]).code == "DeleteConflict")
        #expect(await cloud.iam("DeleteRolePolicy", ["RoleName": "reader", "PolicyName": "p"]).code == "")
        #expect(await cloud.iam("DeleteRole", ["RoleName": "reader"]).code == "")
        _ = try await role(cloud, "reader", trust(#""*""#), statement("ec2:*"))
        #expect(await cloud.ask("ec2", session, "DescribeInstances").code == "AuthFailure")
    }

    @Test func sessionsExpire() async throws {
        let cloud = try await CoreCloud()
        let bob = try await cloud.user("bob", statement("ec2:*"))
        let session = try Keys(await cloud.ask("sts", bob, "GetSessionToken", ["DurationSeconds": "900"]))
        #expect(await cloud.ask("sts", session, "GetCallerIdentity").at("Arn") == "arn:aws:iam::\(cloud.accountID):user/bob")
        #expect(await cloud.ask("ec2", session, "DescribeInstances").code == "")
        #expect(await cloud.ask("sts", session, "GetSessionToken").code == "AccessDenied")
        cloud.clock.advance(901)
        #expect(await cloud.ask("ec2", session, "DescribeInstances").code == "RequestExpired")
        #expect(await cloud.ask("sts", session, "GetCallerIdentity").code == "ExpiredToken")
    }

    @Test func whatASessionIsGiven() async throws {
        let cloud = try await CoreCloud()
        let bob = try await cloud.user("bob", statement("sts:AssumeRole"))
        let condition = #"{"StringEquals":{"sts:ExternalId":"secret word"}}"#
        let arn = try await role(cloud, "admin", trust(#"{"AWS":"\#(cloud.accountID)"}"#, condition: condition), statement("*"))
        #expect(await assume(cloud, bob, arn).code == "AccessDenied")
        let given = ["ExternalId": "secret word"]
        #expect(await assume(cloud, bob, arn, given.merging(["DurationSeconds": "7200"]) { $1 }).code == "ValidationError")
        let session = try Keys(await assume(cloud, bob, arn, given.merging(["Policy": statement("ec2:DescribeVolumes")]) { $1 }))
        #expect(await cloud.ask("ec2", session, "DescribeVolumes").code == "")
        #expect(await cloud.ask("ec2", session, "DescribeInstances").code == "UnauthorizedOperation")
        #expect(await assume(cloud, bob, arn, given.merging(["Policy": "{}"]) { $1 }).code == "MalformedPolicyDocument")
        let long = statement("ec2:*" + String(repeating: "a", count: 3000))
        #expect(await assume(cloud, bob, arn, given.merging(["Policy": long]) { $1 }).code == "PackedPolicyTooLarge")
        let managed = given.merging(["PolicyArns.member.1.arn": "arn:aws:iam::aws:policy/AmazonEC2ReadOnlyAccess"]) { $1 }
        let reader = try Keys(await assume(cloud, bob, arn, managed))
        #expect(await cloud.ask("ec2", reader, "DescribeInstances").code == "")
        #expect(await cloud.ask("ec2", reader, "CreateKeyPair", ["KeyName": "k"]).code == "UnauthorizedOperation")
        // Tags need a permission of their own, on both sides.
        let tags = given.merging(["Tags.member.1.Key": "team", "Tags.member.1.Value": "red"]) { $1 }
        #expect(await assume(cloud, bob, arn, tags).code == "AccessDenied")
        #expect(await assume(cloud, bob, arn, ["SerialNumber": "arn:aws:iam::1:mfa/x", "TokenCode": "123456"]).code == "AccessDenied")
        #expect(await cloud.iam("GetRole", ["RoleName": "admin"]).at("Role", "RoleLastUsed", "Region") == "karri-1")
    }

    @Test func federatedUsersAreBoundedByTheirPolicy() async throws {
        let cloud = try await CoreCloud()
        let bob = try await cloud.user("bob", statement("*"))
        let bare = try Keys(await cloud.ask("sts", bob, "GetFederationToken", ["Name": "guest"]))
        #expect(await cloud.ask("sts", bare, "GetCallerIdentity").at("Arn") == "arn:aws:sts::\(cloud.accountID):federated-user/guest")
        #expect(await cloud.ask("ec2", bare, "DescribeInstances").code == "UnauthorizedOperation")
        let some = try Keys(
            await cloud.ask("sts", cloud.root, "GetFederationToken", ["Name": "guest", "Policy": statement("ec2:Describe*")]))
        #expect(await cloud.ask("ec2", some, "DescribeInstances").code == "")
        #expect(await cloud.ask("ec2", some, "CreateKeyPair", ["KeyName": "k"]).code == "UnauthorizedOperation")
        #expect(await cloud.ask("sts", cloud.root, "GetAccessKeyInfo", ["AccessKeyId": bob.id]).at("Account") == cloud.accountID)
    }

    @Test func refusalsAreDecodedByWhoMay() async throws {
        let cloud = try await CoreCloud()
        let bob = try await cloud.user("bob", statement("sts:DecodeAuthorizationMessage"))
        let refused = await cloud.ask("ec2", bob, "RunInstances", ["ImageId": CoreCloud.image, "MinCount": "1", "MaxCount": "1"])
        #expect(refused.code == "UnauthorizedOperation")
        let encoded = try #require(refused.message.split(separator: " ").last.map { String($0) })
        #expect(!refused.message.contains("aws:SourceIp"))
        let decoded = await cloud.ask("sts", bob, "DecodeAuthorizationMessage", ["EncodedMessage": encoded])
        let json = try JSONValue(parsing: try #require(decoded.at("DecodedMessage"), "\(decoded.text)"))
        #expect(json["allowed"]?.flag == false && json["context"]?["action"]?.text == "ec2:RunInstances")
        #expect(json["context"]?["principal"]?["arn"]?.text == "arn:aws:iam::\(cloud.accountID):user/bob")
        let touched = "A" + encoded.dropFirst()
        #expect(
            await cloud.ask("sts", bob, "DecodeAuthorizationMessage", ["EncodedMessage": String(touched)]).code
                == "InvalidAuthorizationMessageException")
    }
}

/// A provider of identities in memory: what it publishes, and tokens that it signs.
private final class Provider: HTTPRequesting {
    let key: PrivateKey
    let published = Mutex(0)

    init() throws { key = try CoreCloud.rsa.get() }

    func execute(_ request: HTTPClientRequest) async throws(CloudError) -> HTTPClientResponse {
        published.withLock { $0 += 1 }
        let text: String
        switch request.url {
        case "https://idp.example/realm/.well-known/openid-configuration":
            text = #"{"issuer":"https://idp.example/realm","jwks_uri":"https://idp.example/keys"}"#
        case "https://idp.example/keys":
            // An SSH key is a name and two numbers, each with its length before it.
            var rest = key.publicKey.openSSHBlob[...]
            func field() -> [UInt8] {
                let length = rest.prefix(4).reduce(0) { $0 << 8 | Int($1) }
                defer { rest = rest.dropFirst(4 + length) }
                return Array(rest.dropFirst(4).prefix(length))
            }
            _ = field()
            let exponent = field()
            let modulus = field()
            text =
                #"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"},{"kty":"RSA","kid":"one","use":"sig","n":""#
                + WebToken.base64URL(encode: modulus) + #"","e":""# + WebToken.base64URL(encode: exponent) + #""}]}"#
        default: return HTTPClientResponse(status: 404)
        }
        return HTTPClientResponse(status: 200, body: Array(text.utf8))
    }

    func token(_ claims: String, algorithm: String = "RS256") throws -> String {
        let head = WebToken.base64URL(encode: Array(#"{"alg":"\#(algorithm)","kid":"one"}"#.utf8))
        let body = WebToken.base64URL(encode: Array(claims.utf8))
        return "\(head).\(body).\(WebToken.base64URL(encode: try key.sign(Array("\(head).\(body)".utf8), .sha256)))"
    }
}

@Suite struct WebIdentityTests {
    @Test func aTokenOfATrustedProvider() async throws {
        let core = try await CoreCloud()
        let idp = try Provider()
        let old = core.cloud
        let services = CloudServices(
            pool: old.pool, identity: old.identity, clock: old.clock, random: old.random, settings: old.settings, cluster: old.cluster,
            keys: old.keys, http: idp)
        let sts = STSActions(services)
        let provider = await core.iam(
            "CreateOpenIDConnectProvider", ["Url": "https://idp.example/realm", "ClientIDList.member.1": "karri"])
        let arn = try #require(provider.at("OpenIDConnectProviderArn"), "\(provider.text)")
        let condition = #"{"StringEquals":{"idp.example/realm:sub":"system:node"}}"#
        let role = await core.iam(
            "CreateRole",
            [
                "RoleName": "pod",
                "AssumeRolePolicyDocument": trust(
                    #"{"Federated":"\#(arn)"}"#, condition: condition, action: "sts:AssumeRoleWithWebIdentity"),
            ])
        let roleARN = try #require(role.at("Role", "Arn"))
        let now = core.clock.now()
        func claims(
            _ subject: String = "system:node", audience: String = "karri", expires: Int64 = 600,
            issuer: String = "https://idp.example/realm"
        ) -> String {
            #"{"iss":"\#(issuer)","sub":"\#(subject)","aud":["\#(audience)"],"exp":\#(now.seconds + expires),"iat":\#(now.seconds)}"#
        }
        func outcome(_ token: String) async -> String {
            await code {
                let op = OperationContext(
                    caller: AuthenticatedCaller(principal: .nobody), requestID: "r", apiVersion: "2011-06-15", now: now)
                let answer = try await sts.assumeRoleWithWebIdentity(
                    STS.AssumeRoleWithWebIdentity(roleArn: roleARN, roleSessionName: "s", webIdentityToken: token), op)
                #expect(answer.provider == arn && answer.subjectFromWebIdentityToken == "system:node")
                let made = try #require(answer.credentials)
                let known = try await services.identity.credential(
                    accessKeyID: try #require(made.accessKeyId), sessionToken: made.sessionToken)
                #expect(known?.caller.principal.role?.roleARN == roleARN && known?.secret == made.secretAccessKey)
            }
        }
        #expect(await outcome(try idp.token(claims())) == "")
        #expect(await outcome(try idp.token(claims("somebody"))) == "UnauthorizedOperation")
        #expect(await outcome(try idp.token(claims(audience: "other"))) == "InvalidIdentityToken")
        #expect(await outcome(try idp.token(claims(expires: -61))) == "ExpiredTokenException")
        #expect(await outcome(try idp.token(claims(issuer: "https://evil.example"))) == "InvalidIdentityToken")
        #expect(await outcome(try idp.token(claims(), algorithm: "HS256")) == "InvalidIdentityToken")
        #expect(await outcome(try idp.token(claims(), algorithm: "none")) == "InvalidIdentityToken")
        // Signed by somebody else, or said to be so by another's header.
        let good = try idp.token(claims()).split(separator: ".")
        let other = try idp.token(claims("somebody")).split(separator: ".")
        #expect(await outcome("\(good[0]).\(good[1]).\(other[2])") == "InvalidIdentityToken")
        #expect(await outcome("nonsense") == "InvalidIdentityToken")
        // The keys were fetched once: the wrong signature alone does not make us ask again within half a minute.
        #expect(idp.published.withLock { $0 } == 2)
    }

    @Test func ellipticSignatures() throws {
        // RFC 7515, appendix A.3: the key, the signed text and the signature of an ES256 example.
        let key = try WebKey(
            p256X: try #require(WebToken.base64URL("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU")),
            y: try #require(WebToken.base64URL("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0")))
        let text = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        let signature = try #require(
            WebToken.base64URL("DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"))
        #expect(key.verify(signature, of: Array(text.utf8)))
        #expect(!key.verify(signature, of: Array((text + "x").utf8)))
        #expect(!key.verify(Array(signature.dropLast()), of: Array(text.utf8)))
        #expect(throws: CloudError.self) { try WebKey(rsaModulus: [UInt8](repeating: 1, count: 128), exponent: [3]) }
    }
}
