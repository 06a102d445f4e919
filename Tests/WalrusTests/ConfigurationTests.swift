import Daemon
import Database
import Domain
import Identity
import Logging
import NIOPosix
import Synchronization
import TestKit
import Testing
import Wire
import Workflow

@testable import WalrusKit

/// Configurations of buckets against a real server: what clients send, and what then holds.
@Suite(.serialized) struct ConfigurationTests {
    private func anonymous(_ w: TestWalrus, _ method: String, _ path: String, headers: [(String, String)] = []) async throws
        -> HTTPClientResponse
    {
        try await HTTPClient().execute(HTTPClientRequest(method, url: w.endpoint + path, headers: headers))
    }

    private func policy(_ action: String, _ effect: String = "Allow", condition: String = "") -> String {
        """
        {"Version":"2012-10-17","Statement":[{"Effect":"\(effect)","Principal":"*","Action":"\(action)",
        "Resource":["arn:aws:s3:::bbb","arn:aws:s3:::bbb/*"]\(condition)}]}
        """
    }

    @Test func policiesOpenAndClose() async throws {
        try await TestWalrus.run { w in
            let (alice, bob) = (RawS3(w, w.alice), RawS3(w, w.bob))
            _ = try await alice("PUT", "/bbb")
            _ = try await alice("PUT", "/bbb/k", text: "hello")
            #expect(try await alice("GET", "/bbb", [("policy", "")]).code == "NoSuchBucketPolicy")
            #expect(try await anonymous(w, "GET", "/bbb/k").status == 403)
            #expect(try await bob("GET", "/bbb/k").status == 403)

            let open = policy("s3:GetObject")
            #expect(try await alice("PUT", "/bbb", [("policy", "")], text: open).status == 204)
            #expect(try await alice("GET", "/bbb", [("policy", "")]).text == open)
            #expect(try await alice("GET", "/bbb", [("policyStatus", "")]).text.contains("<IsPublic>true</IsPublic>"))
            #expect(try await anonymous(w, "GET", "/bbb/k").status == 200)
            #expect(try await anonymous(w, "PUT", "/bbb/k").status == 403)
            #expect(try await anonymous(w, "GET", "/bbb").status == 403)

            // Conditions on the request: what it asks, and from where.
            let prefix = ",\"Condition\":{\"StringEquals\":{\"s3:prefix\":\"pub/\"}}"
            _ = try await alice("PUT", "/bbb", [("policy", "")], text: policy("s3:ListBucket", condition: prefix))
            #expect(try await bob("GET", "/bbb", [("prefix", "pub/")]).status == 200)
            #expect(try await bob("GET", "/bbb", [("prefix", "other/")]).status == 403)
            #expect(try await anonymous(w, "GET", "/bbb/k").status == 403)
            let far = ",\"Condition\":{\"IpAddress\":{\"aws:SourceIp\":\"192.0.2.0/24\"}}"
            _ = try await alice("PUT", "/bbb", [("policy", "")], text: policy("s3:GetObject", condition: far))
            #expect(try await anonymous(w, "GET", "/bbb/k").status == 403)
            #expect(try await alice("GET", "/bbb", [("policyStatus", "")]).text.contains("<IsPublic>false</IsPublic>"))

            // A denial holds the owner too, but never keeps the root from its policy.
            _ = try await alice("PUT", "/bbb", [("policy", "")], text: policy("s3:*", "Deny"))
            #expect(try await alice("GET", "/bbb/k").code == "AccessDenied")
            #expect(try await alice("DELETE", "/bbb", [("policy", "")]).status == 204)
            #expect(try await alice("GET", "/bbb/k").status == 200)

            for (text, code) in [
                ("", "MalformedPolicy"), ("{}", "MalformedPolicy"), (open.replacing("Allow", with: "Maybe"), "MalformedPolicy"),
                (open.replacing(":::bbb", with: ":::c"), "MalformedPolicy"), (open.replacing("s3:Get", with: "ec2:Get"), "MalformedPolicy"),
            ] {
                let reply = try await alice("PUT", "/bbb", [("policy", "")], text: text)
                #expect(reply.status == 400 && reply.code == code, "\(text): \(reply.text)")
            }
            #expect(try await alice("GET", "/bbb", headers: [("x-amz-expected-bucket-owner", "999999999999")]).code == "AccessDenied")
        }
    }

    @Test func ownershipAndPublicAccess() async throws {
        try await TestWalrus.run { w in
            let (alice, bob) = (RawS3(w, w.alice), RawS3(w, w.bob))
            _ = try await alice("PUT", "/bbb", headers: [("x-amz-object-ownership", "BucketOwnerEnforced")])
            #expect(
                try await alice("PUT", "/bbb", [("acl", "")], headers: [("x-amz-acl", "public-read")]).code
                    == "AccessControlListNotSupported")
            #expect(
                try await alice("PUT", "/bbb/k", headers: [("x-amz-acl", "private")], text: "x").code == "AccessControlListNotSupported")
            _ = try await alice("PUT", "/bbb", [("policy", "")], text: policy("s3:*"))
            #expect(try await bob("PUT", "/bbb/bobs", text: "x").status == 200)
            let acl = try await alice("GET", "/bbb/bobs", [("acl", "")])
            #expect(acl.text.contains("<ID>\(w.alice.account.canonicalUserID)</ID>") && !acl.text.contains(w.bob.account.canonicalUserID))

            // As others' objects are theirs where ACLs count, the owner of the bucket cannot read them, but can delete them.
            _ = try await alice("PUT", "/www")
            let open = policy("s3:*").replacing(":::bbb", with: ":::www")
            _ = try await alice("PUT", "/www", [("policy", "")], text: open)
            _ = try await bob("PUT", "/www/k", text: "x")
            #expect(try await alice("GET", "/www/k").status == 403)
            #expect(try await bob("GET", "/www/k").status == 200)
            #expect(try await alice("DELETE", "/www/k").status == 204)

            func block(_ flags: String...) -> String {
                "<PublicAccessBlockConfiguration>\(flags.map { "<\($0)>true</\($0)>" }.joined())</PublicAccessBlockConfiguration>"
            }
            #expect(try await alice("GET", "/www", [("publicAccessBlock", "")]).code == "NoSuchPublicAccessBlockConfiguration")
            _ = try await alice(
                "PUT", "/www", [("publicAccessBlock", "")], text: block("BlockPublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"))
            #expect(try await alice("PUT", "/www/p", headers: [("x-amz-acl", "public-read")], text: "x").code == "AccessDenied")
            #expect(try await alice("PUT", "/www", [("policy", "")], text: open).code == "AccessDenied")
            #expect(try await bob("PUT", "/www/k", text: "x").status == 403)
            _ = try await alice("DELETE", "/www", [("publicAccessBlock", "")])
            #expect(try await bob("PUT", "/www/k", text: "x").status == 200)
        }
    }

    @Test func crossOriginRequests() async throws {
        try await TestWalrus.run { w in
            let alice = RawS3(w, w.alice)
            _ = try await alice("PUT", "/bbb")
            let ask = [
                ("Origin", "https://app.example"), ("Access-Control-Request-Method", "PUT"),
                ("Access-Control-Request-Headers", "X-Amz-Date"),
            ]
            #expect(try await anonymous(w, "OPTIONS", "/bbb/k", headers: ask).status == 403)
            let rules = """
                <CORSConfiguration><CORSRule><AllowedOrigin>https://*.example</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>
                <AllowedHeader>x-amz-*</AllowedHeader><ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule>
                <CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>
                """
            #expect(try await alice("PUT", "/bbb", [("cors", "")], text: rules).status == 200)
            let preflight = try await anonymous(w, "OPTIONS", "/bbb/k", headers: ask)
            #expect(preflight.status == 200)
            #expect(preflight.headers.first("access-control-allow-origin") == "https://app.example")
            #expect(preflight.headers.first("access-control-allow-headers") == "x-amz-date")
            #expect(preflight.headers.first("access-control-max-age") == "60")
            #expect(try await anonymous(w, "OPTIONS", "/bbb/k", headers: [("Origin", "https://app.other"), ask[1]]).status == 403)
            #expect(try await anonymous(w, "OPTIONS", "/bbb/k", headers: [ask[0]]).status == 400)
            // On answers too, and on refusals.
            let refused = try await anonymous(w, "GET", "/bbb/k", headers: [("Origin", "https://any.where")])
            #expect(refused.status == 403 && refused.headers.first("access-control-allow-origin") == "*")
            #expect(try await anonymous(w, "GET", "/bbb/k").headers.first("access-control-allow-origin") == nil)
            #expect(try await alice("DELETE", "/bbb", [("cors", "")]).status == 204)
            #expect(try await alice("GET", "/bbb", [("cors", "")]).code == "NoSuchCORSConfiguration")
        }
    }

    @Test func whatThereIsNotIsSaid() async throws {
        try await TestWalrus.run { w in
            let alice = RawS3(w, w.alice)
            _ = try await alice("PUT", "/bbb")
            for name in ["analytics", "inventory", "metrics", "intelligent-tiering"] {
                #expect(try await alice("GET", "/bbb", [(name, "")]).text.contains("<IsTruncated>false</IsTruncated>"))
                #expect(try await alice("GET", "/bbb", [(name, ""), ("id", "x")]).code == "NoSuchConfiguration")
                #expect(try await alice("PUT", "/bbb", [(name, ""), ("id", "x")], text: "<X/>").code == "NotImplemented")
            }
            #expect(try await alice("GET", "/bbb", [("replication", "")]).code == "ReplicationConfigurationNotFoundError")
            #expect(try await alice("PUT", "/bbb", [("replication", "")], text: "<X/>").code == "NotImplemented")
            #expect(try await alice("PUT", "/bbb", [("accelerate", "")], text: "<X/>").code == "NotImplemented")
            #expect(try await alice("GET", "/bbb", [("requestPayment", "")]).text.contains("<Payer>BucketOwner</Payer>"))
        }
    }

    /// A lifecycle pass on a store with a clock of its own: old objects, old versions, lonely markers and old uploads go, the rest stays.
    @Test func lifecycleDoesWhatItsRulesSay() async throws {
        try await TestWalrus.run { w in
            let alice = RawS3(w, w.alice)
            _ = try await alice("PUT", "/bbb")
            for key in ["old/1", "old/2", "keep/1"] { _ = try await alice("PUT", "/bbb/\(key)", text: "x") }
            _ = try await alice("PUT", "/bbb/old/tagged", headers: [("x-amz-tagging", "stay=yes")], text: "x")
            _ = try await alice("POST", "/bbb/old/upload", [("uploads", "")])
            _ = try await alice("PUT", "/vvv")
            try await alice.setVersioning("vvv", "Enabled")
            for n in 0..<4 { _ = try await alice("PUT", "/vvv/k", text: "\(n)") }
            _ = try await alice("PUT", "/vvv/gone", text: "x")
            _ = try await alice("DELETE", "/vvv/gone")
            let days = "<Days>1</Days>"
            let put = try await alice(
                "PUT", "/bbb", [("lifecycle", "")],
                text: """
                    <LifecycleConfiguration><Rule><ID>e</ID><Filter><Prefix>old/</Prefix></Filter><Status>Enabled</Status>
                    <Expiration>\(days)</Expiration>
                    <AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>
                    <Rule><ID>off</ID><Prefix>keep/</Prefix><Status>Disabled</Status><Expiration>\(days)</Expiration></Rule>
                    </LifecycleConfiguration>
                    """)
            #expect(put.status == 200, "\(put.text)")
            #expect(try await alice("HEAD", "/bbb/old/1").header("x-amz-expiration")?.contains("rule-id=\"e\"") == true)
            _ = try await alice(
                "PUT", "/vvv", [("lifecycle", "")],
                text: """
                    <LifecycleConfiguration><Rule><ID>n</ID><Filter/><Status>Enabled</Status>
                    <Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>
                    <NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>1</NewerNoncurrentVersions>
                    </NoncurrentVersionExpiration></Rule></LifecycleConfiguration>
                    """)
            #expect(try await alice.versions("vvv").count == 6)

            let bytes = try LocalBytes(root: w.folder + "/data", pool: .singleton, exclusive: false)
            let clock = TestClock()
            let directory = try await IdentityDirectory.open(
                w.pool, secretKeyFile: w.folder + "/secret.key", clock: clock, random: SystemRandom())
            let ledger = SpaceLedger(bytes: bytes, clock: clock, keepMiB: 0)
            let core = WalrusCore(
                pool: w.pool, bytes: bytes, intake: Intake(bytes: bytes, ledger: ledger, random: SystemRandom()), directory: directory,
                leases: BlobLeases(), clock: clock, random: SystemRandom(), logger: Logger(label: "t"), region: "r", domain: "")
            let lifecycle = Lifecycle(core: core, calendar: LifecycleCalendar(day: LifecycleCalendar.realDay))
            // Before their time nothing happens.
            clock.turn(milliseconds: Int(SystemClock().now().milliseconds - clock.now().milliseconds))
            let early = await lifecycle.pass()
            #expect(early.failures.isEmpty)
            #expect(try await alice("GET", "/bbb/old/1").status == 200)

            clock.turn(milliseconds: 3 * 86_400_000)
            let report = await lifecycle.pass()
            #expect(report.failures.isEmpty, "\(report)")
            #expect(try await alice("GET", "/bbb/old/1").status == 404)
            #expect(try await alice("GET", "/bbb/old/tagged").status == 404)
            #expect(try await alice("GET", "/bbb/keep/1").status == 200)
            #expect(try await alice("GET", "/bbb", [("uploads", "")]).children("Upload").isEmpty)
            // Of `k` the current version and one more; of `gone` nothing after its last old version went (a pass later, its marker).
            let second = await lifecycle.pass()
            #expect(second.failures.isEmpty)
            let left = try await alice.versions("vvv")
            #expect(left.filter { $0.hasPrefix("k=") }.count == 2, "\(left)")
            let third = await lifecycle.pass()
            #expect(third.changed == 0, "\(third) \(left)")
        }
    }

    /// Events reach the address that the ARN stands for, again until it takes them; and logs reach their bucket.
    @Test func eventsAreToldAndRequestsLogged() async throws {
        let received = Mutex<[String]>([])
        let refusals = Mutex(1)
        var logger = Logger(label: "hook")
        logger.logLevel = .critical
        let hook = HTTPServer(
            address: "127.0.0.1", port: 0, tls: nil, limits: HTTPLimits(), runtime: DaemonRuntime(name: "hook", logger: logger),
            name: "hook"
        ) { request in
            let body = (try? await request.body.collect(upTo: 1 << 20)) ?? []
            if refusals.withLock({ left in
                left -= 1
                return left >= 0
            }) {
                return HTTPReply(status: 500)
            }
            received.withLock { $0.append(String(decoding: body, as: UTF8.self)) }
            return HTTPReply(status: 200)
        }
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await hook.run() }
            let port = await hook.waitUntilListening()
            let arn = "arn:aws:sqs:karri-1:123456789012:builds"
            var options = BucketOptions()
            options.webhooks = [arn: "http://127.0.0.1:\(port)/hook"]
            options.accessLogSeconds = 1
            let chosen = options
            try await TestWalrus.run(buckets: chosen) { w in
                let alice = RawS3(w, w.alice)
                _ = try await alice("PUT", "/bbb")
                _ = try await alice("PUT", "/logs")
                func notification(_ arn: String) -> String {
                    """
                    <NotificationConfiguration><QueueConfiguration><Id>q</Id><Queue>\(arn)</Queue><Event>s3:ObjectCreated:*</Event>
                    <Event>s3:ObjectRemoved:*</Event><Filter><S3Key><FilterRule><Name>prefix</Name><Value>in/</Value></FilterRule></S3Key>
                    </Filter></QueueConfiguration></NotificationConfiguration>
                    """
                }
                #expect(try await alice("PUT", "/bbb", [("notification", "")], text: notification(arn + "x")).code == "InvalidArgument")
                #expect(try await alice("PUT", "/bbb", [("notification", "")], text: notification(arn)).status == 200)
                let logging = "<LoggingEnabled><TargetBucket>logs</TargetBucket><TargetPrefix>l/</TargetPrefix></LoggingEnabled>"
                #expect(
                    try await alice("PUT", "/bbb", [("logging", "")], text: "<BucketLoggingStatus>\(logging)</BucketLoggingStatus>").status
                        == 200)
                _ = try await alice("PUT", "/bbb/in/a", text: "x")
                _ = try await alice("PUT", "/bbb/out/a", text: "x")
                _ = try await alice("DELETE", "/bbb/in/a")
                for _ in 0..<300 where received.withLock({ $0.count }) < 2 { try await SystemClock().sleep(milliseconds: 100) }
                let events = received.withLock { $0 }
                #expect(events.count == 2, "\(events)")
                #expect(
                    events.contains { $0.contains("\"ObjectCreated:Put\"") && $0.contains("\"key\":\"in/a\"") && $0.contains("\"size\":1") }
                )
                #expect(events.contains { $0.contains("\"ObjectRemoved:Delete\"") })

                var logs: [XMLElement] = []
                for _ in 0..<300 where logs.isEmpty {
                    logs = try await alice("GET", "/logs", [("prefix", "l/")]).children("Contents")
                    if logs.isEmpty { try await SystemClock().sleep(milliseconds: 100) }
                }
                var text = ""
                for log in logs { text += try await alice("GET", "/logs/\(log.first("Key")?.text ?? "")").text }
                let line = try #require(text.split(separator: "\n").first { $0.contains("REST.PUT.OBJECT in/a") }, "\(text)")
                #expect(line.hasPrefix("\(w.alice.account.canonicalUserID) bbb [") && line.contains("\"PUT /bbb/in/a HTTP/1.1\" 200 - "))
            }
            tasks.cancelAll()
        }
    }

    @Test func bucketsAreWebSites() async throws {
        var options = BucketOptions()
        options.websiteDomain = "web.test"
        let chosen = options
        try await TestWalrus.run(buckets: chosen) { w in
            let alice = RawS3(w, w.alice)
            _ = try await alice("PUT", "/bbb")
            for (key, text) in [("index.html", "home"), ("dir/index.html", "dir"), ("error.html", "sorry")] {
                _ = try await alice(
                    "PUT", "/bbb/\(key)", headers: [("x-amz-acl", "public-read"), ("Content-Type", "text/html")], text: text)
            }
            _ = try await alice("PUT", "/bbb/secret", text: "x")
            let host = [("Host", "bbb.web.test")]
            #expect(try await anonymous(w, "GET", "/", headers: host).status == 404)
            let put = try await alice(
                "PUT", "/bbb", [("website", "")],
                text: """
                    <WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument>
                    <ErrorDocument><Key>error.html</Key></ErrorDocument><RoutingRules><RoutingRule>
                    <Condition><KeyPrefixEquals>docs/</KeyPrefixEquals></Condition><Redirect><ReplaceKeyPrefixWith>new/</ReplaceKeyPrefixWith>
                    </Redirect></RoutingRule></RoutingRules></WebsiteConfiguration>
                    """)
            #expect(put.status == 200, "\(put.text)")
            _ = try await alice("PUT", "/bbb", [("acl", "")], headers: [("x-amz-acl", "public-read")])
            func get(_ path: String) async throws -> (Int, String, String?) {
                let r = try await anonymous(w, "GET", path, headers: host)
                return (r.status, String(decoding: r.body, as: UTF8.self), r.headers.first("location"))
            }
            #expect(try await get("/") == (200, "home", nil))
            #expect(try await get("/dir/") == (200, "dir", nil))
            #expect(try await get("/dir").2 == "/dir/")
            #expect(try await get("/none") == (404, "sorry", nil))
            #expect(try await get("/secret").0 == 403)
            let moved = try await get("/docs/a b".replacing(" ", with: "%20"))
            #expect(moved.0 == 301 && moved.2 == "http://bbb.web.test/new/a%20b")
        }
    }
}
