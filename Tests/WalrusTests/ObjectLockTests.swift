import Domain
import Testing
import Wire
import Workflow

@testable import WalrusKit

@Suite struct ObjectLockRuleTests {
    private let now = Timestamp(seconds: 1000), later = Timestamp(seconds: 2000), much = Timestamp(seconds: 3000)

    @Test func removal() {
        #expect(code { try ObjectLock().checkRemoval(now: now, bypass: false) } == nil)
        #expect(code { try ObjectLock(legalHold: true).checkRemoval(now: now, bypass: true) } == "AccessDenied")
        #expect(code { try ObjectLock(legalHold: false).checkRemoval(now: now, bypass: false) } == nil)
        for mode in [ObjectLock.Mode.governance, .compliance] {
            let lock = ObjectLock(mode: mode, until: later)
            #expect(code { try lock.checkRemoval(now: now, bypass: false) } == "AccessDenied")
            #expect(code { try lock.checkRemoval(now: later, bypass: false) } == nil)
            #expect(code { try lock.checkRemoval(now: now, bypass: true) } == (mode == .governance ? nil : "AccessDenied"))
        }
    }

    @Test func changes() {
        func change(_ from: ObjectLock, _ to: ObjectLock, bypass: Bool = false, at: Timestamp? = nil) -> String? {
            code { try from.checkChange(to: to, now: at ?? now, bypass: bypass) }
        }
        let governance = ObjectLock(mode: .governance, until: later), compliance = ObjectLock(mode: .compliance, until: later)
        #expect(change(ObjectLock(), compliance) == nil)
        #expect(change(governance, ObjectLock(mode: .governance, until: much)) == nil)
        #expect(change(governance, ObjectLock(mode: .governance, until: now)) == "AccessDenied")
        #expect(change(governance, ObjectLock(mode: .governance, until: now), bypass: true) == nil)
        #expect(change(governance, compliance) == "AccessDenied")
        #expect(change(governance, compliance, bypass: true) == nil)
        #expect(change(governance, ObjectLock(), bypass: true) == nil)
        #expect(change(compliance, ObjectLock(mode: .compliance, until: much)) == nil)
        for lesser in [governance, ObjectLock(), ObjectLock(mode: .compliance, until: now), ObjectLock(mode: .governance, until: much)] {
            #expect(change(compliance, lesser, bypass: true) == "AccessDenied")
            #expect(change(compliance, lesser, at: much) == nil)
        }
    }

    @Test func configurations() throws {
        func parse(_ rule: String, enabled: String = "Enabled") throws -> BucketLock {
            try LockActions.configuration(
                Array("<ObjectLockConfiguration><ObjectLockEnabled>\(enabled)</ObjectLockEnabled>\(rule)</ObjectLockConfiguration>".utf8))
        }
        func rule(_ text: String) -> String { "<Rule><DefaultRetention>\(text)</DefaultRetention></Rule>" }
        #expect(try parse("") == BucketLock())
        #expect(try parse(rule("<Mode>GOVERNANCE</Mode><Days>3</Days>")) == BucketLock(mode: .governance, days: 3))
        let year = try parse(rule("<Mode>COMPLIANCE</Mode><Years>1</Years>"))
        #expect(year.retention(from: now)?.until == now.adding(milliseconds: 365 * 86_400_000))
        for bad in ["<Mode>X</Mode><Days>1</Days>", "<Days>1</Days>", "<Mode>GOVERNANCE</Mode>", "<Mode>GOVERNANCE</Mode><Days>x</Days>"] {
            #expect(code { _ = try parse(rule(bad)) } == "MalformedXML", "\(bad)")
        }
        #expect(code { _ = try parse(rule("<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>")) } == "MalformedXML")
        #expect(code { _ = try parse(rule("<Mode>GOVERNANCE</Mode><Days>0</Days>")) } == "InvalidRetentionPeriod")
        #expect(code { _ = try parse("", enabled: "Disabled") } == "MalformedXML")
    }
}

@Suite(.serialized) struct ObjectLockTests {
    @Test func lockedVersionsStay() async throws {
        try await TestWalrus.run { w in
            let s3 = RawS3(w, w.alice)
            #expect(try await s3("PUT", "/locked", headers: [("x-amz-bucket-object-lock-enabled", "true")]).status == 200)
            #expect(try await s3("GET", "/locked", [("object-lock", "")]).text.contains("<ObjectLockEnabled>Enabled<"))
            #expect(
                try await s3(
                    "PUT", "/locked", [("versioning", "")],
                    text: "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
                ).code == "InvalidBucketState")
            let rule = """
                <ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode>\
                <Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>
                """
            #expect(try await s3("PUT", "/locked", [("object-lock", "")], text: rule).status == 200)

            let one = try #require(try await s3("PUT", "/locked/k", text: "one").version)
            let head = try await s3("HEAD", "/locked/k")
            #expect(head.header("x-amz-object-lock-mode") == "GOVERNANCE" && head.header("x-amz-object-lock-retain-until-date") != nil)
            let until = SystemClock().now().adding(milliseconds: 3_600_000).iso8601
            let headers = [
                ("x-amz-object-lock-mode", "COMPLIANCE"), ("x-amz-object-lock-retain-until-date", until),
                ("x-amz-object-lock-legal-hold", "ON"),
            ]
            let two = try #require(try await s3("PUT", "/locked/k", headers: headers, text: "two").version)

            // A marker may always be put in front; what is locked stays behind it.
            let marker = try #require(try await s3("DELETE", "/locked/k").version)
            let bypass = [("x-amz-bypass-governance-retention", "true")]
            #expect(try await s3("DELETE", "/locked/k", [("versionId", one)]).code == "AccessDenied")
            #expect(try await s3("DELETE", "/locked/k", [("versionId", two)], headers: bypass).code == "AccessDenied")
            #expect(
                try await s3(
                    "PUT", "/locked/k", [("legal-hold", ""), ("versionId", two)], text: "<LegalHold><Status>OFF</Status></LegalHold>"
                )
                .status == 200)
            #expect(try await s3("GET", "/locked/k", [("legal-hold", ""), ("versionId", two)]).text.contains("<Status>OFF<"))
            #expect(try await s3("DELETE", "/locked/k", [("versionId", two)], headers: bypass).code == "AccessDenied")
            let weaker = "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>\(until)</RetainUntilDate></Retention>"
            #expect(try await s3("PUT", "/locked/k", [("retention", ""), ("versionId", two)], headers: bypass, text: weaker).status == 403)
            let many = "<Delete><Object><Key>k</Key><VersionId>\(one)</VersionId></Object></Delete>"
            let refused = try await s3("POST", "/locked", [("delete", "")], text: many)
            #expect(try refused.children("Error").first?.first("Code")?.text == "AccessDenied")
            #expect(try await s3("POST", "/locked", [("delete", "")], headers: bypass, text: many).children("Deleted").count == 1)
            #expect(try await s3.versions("locked") == ["-k=\(marker)*", "k=\(two)"])

            // Another account may not bypass, and buckets without Object Lock refuse it by name.
            _ = try await s3("PUT", "/plain")
            #expect(try await s3("PUT", "/plain/k", headers: headers, text: "x").code == "InvalidRequest")
            #expect(try await s3("GET", "/plain", [("object-lock", "")]).code == "ObjectLockConfigurationNotFoundError")
            #expect(try await s3("PUT", "/plain", [("object-lock", "")], text: rule).code == "InvalidBucketState")
            #expect(try await RawS3(w, w.bob)("DELETE", "/locked/k", [("versionId", two)], headers: bypass).status == 403)
        }
    }
}
