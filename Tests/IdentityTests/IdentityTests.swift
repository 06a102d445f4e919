import Database
import Domain
import Identity
import Signing
import TestKit
import Testing
import Workflow

private let secretKey = [UInt8](repeating: 7, count: 32)

private func store(_ pool: DatabasePool, key: [UInt8] = secretKey) -> IdentityStore { IdentityStore(pool: pool, secretKey: key) }

private func withStore(_ body: (IdentityStore, DatabasePool) async throws -> Void) async throws {
    let pool = try TransientPostgres.pool()
    defer { pool.close() }
    let identity = store(pool)
    try await identity.migrate()
    try await body(identity, pool)
}

@Suite struct AccountTests {
    @Test func theFirstAccountIsMadeOnceHoweverOftenAsked() async throws {
        try await withStore { identity, _ in
            let all = try await withThrowingTaskGroup(of: Account.self) { group in
                for _ in 0..<6 { group.addTask { try await identity.accountEnsure(name: "first") } }
                return try await group.reduce(into: Set<Account>()) { $0.insert($1) }
            }
            #expect(all.count == 1)
            let account = try #require(all.first)
            #expect(account.id.utf8.count == 12 && Int(account.id) != nil)
            #expect(account.canonicalUserID.utf8.count == 64)
            let key = try await identity.accessKeyEnsure(account: account.id)
            #expect(try await identity.accessKeyEnsure(account: account.id) == key)
            let error = await #expect(throws: CloudError.self) { try await identity.accountCreate(name: "first") }
            #expect(error?.reason == .duplicate(.user, name: "first"))
            #expect(try await identity.accountFetch(account.id) == account)
            #expect(try await identity.accountFetch(canonicalUserID: account.canonicalUserID) == account)
            #expect(try await identity.accountFetch(name: "first") == account)
            #expect(try await identity.accountList() == [account])
            await #expect(throws: CloudError.self) { try await identity.accountFetch("999999999999") }
        }
    }

    @Test func theSystemAccount() async throws {
        try await withStore { identity, _ in
            let account = try await identity.systemAccountEnsure()
            #expect(try await identity.systemAccountEnsure() == account)
            #expect(account.id == "000000000000")
            let key = try await identity.accessKeyEnsure(account: account.id)
            let found = try #require(try await identity.credential(accessKeyID: key.id))
            #expect(found.caller.principal.isSystem)
            try Authorizer.allow(found.caller, action: "s3:PutObject", resource: "arn:aws:s3:::any/thing")
            #expect(try await identity.accountList() == [])
        }
    }

    @Test(arguments: ["", "Upper", "-a", "a-", "a b", String(repeating: "a", count: 64), "ü"])
    func badAccountNames(name: String) async throws {
        try await withStore { identity, _ in
            let error = await #expect(throws: CloudError.self) { try await identity.accountCreate(name: name) }
            #expect(error?.reason == .invalidParameter("AccountName"))
        }
    }
}

@Suite struct UserTests {
    @Test func usersBelongToTheirAccounts() async throws {
        try await withStore { identity, _ in
            let one = try await identity.accountCreate(name: "one")
            let two = try await identity.accountCreate(name: "two")
            let bob = try await identity.userCreate(name: "bob", account: one.id, path: "/dev/")
            #expect(bob.principal.arn == "arn:aws:iam::\(one.id):user/dev/bob")
            #expect(bob.principal.userID.hasPrefix("AIDA"))
            #expect(one.root.arn == "arn:aws:iam::\(one.id):root")
            _ = try await identity.userCreate(name: "bob", account: two.id)
            let error = await #expect(throws: CloudError.self) { try await identity.userCreate(name: "bob", account: one.id) }
            #expect(error?.reason == .named(code: "EntityAlreadyExists", status: 409))
            #expect(try await identity.userFetch(name: "bob", account: one.id) == bob)
            await #expect(throws: CloudError.self) { try await identity.userFetch(name: "eve", account: one.id) }
            for name in ["", "root", "a b", "a/b"] {
                await #expect(throws: CloudError.self) { try await identity.userCreate(name: name, account: one.id) }
            }
            let key = try await identity.accessKeyCreate(account: one.id, user: "bob")
            let used = await #expect(throws: CloudError.self) { try await identity.userDelete(name: "bob", account: one.id) }
            #expect(used?.reason == .named(code: "DeleteConflict", status: 409))
            try await identity.accessKeyDelete(key.id, account: one.id)
            try await identity.userDelete(name: "bob", account: one.id)
            #expect(try await identity.userList(account: one.id) == [])
            #expect(try await identity.userList(account: two.id).count == 1)
        }
    }

    @Test func policiesDecide() async throws {
        try await withStore { identity, _ in
            let account = try await identity.accountCreate(name: "one")
            _ = try await identity.userCreate(name: "bob", account: account.id)
            let key = try await identity.accessKeyCreate(account: account.id, user: "bob")
            func caller() async throws -> AuthenticatedCaller { try #require(try await identity.credential(accessKeyID: key.id)).caller }
            let none = try await caller()
            let refused = #expect(throws: CloudError.self) { try Authorizer.allow(none, action: "ec2:RunInstances") }
            #expect(refused?.reason == .forbidden(action: "ec2:RunInstances"))
            #expect(refused?.message.contains("user/bob is not authorized to perform: ec2:RunInstances") == true)
            let bad = await #expect(throws: CloudError.self) {
                try await identity.policyPut("{}", name: "p", user: "bob", account: account.id)
            }
            #expect(bad?.reason == .named(code: "MalformedPolicyDocument", status: 400))
            try await identity.policyPut(
                #"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ec2:*","Resource":"*"}}"#, name: "p", user: "bob",
                account: account.id)
            try Authorizer.allow(try await caller(), action: "ec2:RunInstances")
            try await identity.policyPut(
                #"{"Statement":{"Effect":"Deny","Action":"ec2:Terminate*","Resource":"*"}}"#, name: "q", user: "bob", account: account.id)
            let both = try await caller()
            #expect(throws: CloudError.self) { try Authorizer.allow(both, action: "ec2:TerminateInstances") }
            #expect(try await identity.policyList(user: "bob", account: account.id).map(\.name) == ["p", "q"])
            try await identity.policyDelete(name: "q", user: "bob", account: account.id)
            try Authorizer.allow(try await caller(), action: "ec2:TerminateInstances")
            await #expect(throws: CloudError.self) { try await identity.policyDelete(name: "q", user: "bob", account: account.id) }
            // White space does not count.
            let spaced = #"{"Statement":{"Effect":"Allow","Action":"ec2:*","Resource":"*"}}"# + String(repeating: " ", count: 2048)
            try await identity.policyPut(spaced, name: "l", user: "bob", account: account.id)
            let long = #"{"Statement":{"Effect":"Allow","Action":"ec2:\#(String(repeating: "a", count: 2048))","Resource":"*"}}"#
            await #expect(throws: CloudError.self) { try await identity.policyPut(long, name: "l", user: "bob", account: account.id) }
        }
    }
}

@Suite struct KeyTests {
    @Test func secretsAreNotInTheDatabase() async throws {
        try await withStore { identity, pool in
            let account = try await identity.accountCreate(name: "one")
            let key = try await identity.accessKeyCreate(account: account.id)
            #expect(key.id.hasPrefix("AKIA") && key.id.utf8.count == 20)
            #expect(key.secret.utf8.count == 40)
            #expect("\(key)" == key.id)
            let row = try await pool.read { try $0.execute("SELECT secret FROM identity.access_keys")[0].bytes("secret") }
            #expect(row.count > 40)
            #expect(!String(decoding: row, as: UTF8.self).contains(key.secret))
            #expect(try await identity.credential(accessKeyID: key.id)?.secret == key.secret)
            // Another cloud key does not open it, and a secret cannot be moved to another row.
            let wrong = store(pool, key: [UInt8](repeating: 8, count: 32))
            let error = await #expect(throws: CloudError.self) { try await wrong.credential(accessKeyID: key.id) }
            #expect(error?.reason == .bug)
            let other = try await identity.accessKeyCreate(account: account.id)
            try await pool.transaction {
                try $0.execute("UPDATE identity.access_keys SET secret = $1 WHERE id = $2", .bytes(row), .text(other.id))
            }
            await #expect(throws: CloudError.self) { try await identity.credential(accessKeyID: other.id) }
        }
    }

    @Test func unknownAndInactiveKeysAreNobody() async throws {
        try await withStore { identity, _ in
            let account = try await identity.accountCreate(name: "one")
            let key = try await identity.accessKeyCreate(account: account.id)
            for id in [
                "", "AKIA", "AKIAAAAAAAAAAAAAAAAA", "'; DROP TABLE identity.accounts; --", String(repeating: "A", count: 5000),
                "A\0BCDEFGHIJKLMNOPQ",
            ] {
                #expect(try await identity.credential(accessKeyID: id)?.secret == nil)
            }
            try await identity.accessKeySetActive(key.id, account: account.id, active: false)
            #expect(try await identity.credential(accessKeyID: key.id)?.secret == nil)
            #expect(try await identity.accessKeyList(account: account.id).map(\.isActive) == [false])
            try await identity.accessKeySetActive(key.id, account: account.id, active: true)
            #expect(try await identity.credential(accessKeyID: key.id)?.secret != nil)
            let stranger = try await identity.accountCreate(name: "two")
            await #expect(throws: CloudError.self) { try await identity.accessKeyDelete(key.id, account: stranger.id) }
            _ = try await identity.accessKeyCreate(account: account.id)
            let third = await #expect(throws: CloudError.self) { try await identity.accessKeyCreate(account: account.id) }
            #expect(third?.reason == .named(code: "LimitExceeded", status: 409))
        }
    }

    @Test func certificates() async throws {
        try await withStore { identity, _ in
            let account = try await identity.accountCreate(name: "one")
            let other = try await identity.accountCreate(name: "two")
            let certificate = try CertificateAuthority.selfSigned(name: "bob", key: try PrivateKey.generateRSA(), days: 10)
            let fingerprint = try await identity.certificateAdd(pem: certificate.pem, account: account.id)
            #expect(fingerprint == certificate.fingerprintSHA256)
            #expect(try await identity.certificateAdd(pem: certificate.pem, account: account.id) == fingerprint)
            await #expect(throws: CloudError.self) { try await identity.certificateAdd(pem: certificate.pem, account: other.id) }
            await #expect(throws: CloudError.self) { try await identity.certificateAdd(pem: "no", account: account.id) }
            let caller = try #require(try await identity.caller(certificateFingerprint: fingerprint))
            #expect(caller.principal == account.root)
            #expect(caller.certificateFingerprint == fingerprint)
            #expect(try await identity.caller(certificateFingerprint: String(repeating: "0", count: 64))?.principal == nil)
            #expect(try await identity.caller(certificateFingerprint: "x")?.principal == nil)
            #expect(try await identity.certificateList(account: account.id).map(\.fingerprint) == [fingerprint])
            try await identity.certificateDelete(fingerprint: fingerprint, account: account.id)
            #expect(try await identity.caller(certificateFingerprint: fingerprint)?.principal == nil)
        }
    }
}

@Suite struct CacheTests {
    /// Two processes share a database: what one changes, the other knows at once.
    @Test(.timeLimit(.minutes(1))) func aKeyThatIsSwitchedOffIsRefusedElsewhere() async throws {
        try await withStore { writer, pool in
            let reader = store(pool)
            let account = try await writer.accountCreate(name: "one")
            let key = try await writer.accessKeyCreate(account: account.id)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await reader.run() }
                // The cache is on when, after a change behind its back (without a notification), it still says what was.
                var isCached = false
                for _ in 0..<200 where !isCached {
                    _ = try await reader.credential(accessKeyID: key.id)
                    try await pool.transaction { try $0.execute("UPDATE identity.access_keys SET active = false") }
                    isCached = try await reader.credential(accessKeyID: key.id)?.secret != nil
                    try await pool.transaction { try $0.execute("UPDATE identity.access_keys SET active = true") }
                    try await Task.sleep(for: .milliseconds(20))
                }
                #expect(isCached)
                try await writer.accessKeySetActive(key.id, account: account.id, active: false)
                var isRefused = false
                for _ in 0..<200 where !isRefused {
                    isRefused = try await reader.credential(accessKeyID: key.id)?.secret == nil
                    try await Task.sleep(for: .milliseconds(10))
                }
                #expect(isRefused)
                group.cancelAll()
            }
        }
    }
}

@Suite struct ResourcePolicyTests {
    private let owner = "111111111111"
    private func caller(_ account: String, _ user: String?, _ policy: String? = nil) throws -> AuthenticatedCaller {
        let principal = Principal(
            accountID: account, accountAlias: nil, userName: user ?? "root", userID: "x", path: "/",
            canonicalUserID: String(repeating: "a", count: 64), isRoot: user == nil)
        return AuthenticatedCaller(principal: principal, policies: try policy.map { [try PolicyDocument(parsing: $0)] } ?? [])
    }
    private func decide(_ caller: AuthenticatedCaller?, _ policy: String?) throws -> PolicyDecision {
        Authorizer.decide(
            caller, action: "s3:GetObject", resource: "arn:aws:s3:::b/k", ownerAccountID: owner,
            resourcePolicy: try policy.map { try PolicyDocument(parsing: $0, for: .resource) })
    }
    private let allowAll = #"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#
    private func grant(_ effect: String, _ principal: String) -> String {
        #"{"Statement":{"Effect":"\#(effect)","Principal":\#(principal),"Action":"s3:*","Resource":"*"}}"#
    }

    @Test func whoMayReadABucket() throws {
        #expect(try decide(nil, nil) == .notMentioned)
        #expect(try decide(nil, grant("Allow", "\"*\"")) == .allowed)
        #expect(try decide(try caller(owner, nil), nil) == .allowed)
        #expect(try decide(try caller(owner, "bob"), nil) == .notMentioned)
        #expect(try decide(try caller(owner, "bob"), grant("Allow", #"{"AWS":"arn:aws:iam::\#(owner):user/bob"}"#)) == .allowed)
        #expect(try decide(try caller(owner, "bob", allowAll), nil) == .allowed)
        // From another account both sides must allow.
        #expect(try decide(try caller("222222222222", nil), nil) == .notMentioned)
        #expect(try decide(try caller("222222222222", nil), grant("Allow", #"{"AWS":"222222222222"}"#)) == .allowed)
        #expect(try decide(try caller("222222222222", "eve"), grant("Allow", #"{"AWS":"222222222222"}"#)) == .notMentioned)
        #expect(try decide(try caller("222222222222", "eve", allowAll), grant("Allow", #"{"AWS":"222222222222"}"#)) == .allowed)
        // A Deny holds for the owner too, but not for the cloud's own daemons.
        #expect(try decide(try caller(owner, nil), grant("Deny", "\"*\"")) == .explicitlyDenied)
        #expect(try decide(try caller(Account.systemID, nil), grant("Deny", "\"*\"")) == .allowed)
    }
}
