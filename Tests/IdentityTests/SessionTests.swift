import Database
import Domain
import Identity
import TestKit
import Testing
import Workflow

@Suite struct SessionTests {
    private func withStores(_ body: (IdentityStore, IdentityStore, DatabasePool) async throws -> Void) async throws {
        let pool = try TransientPostgres.pool()
        defer { pool.close() }
        let key = [UInt8](repeating: 7, count: 32)
        let one = IdentityStore(pool: pool, secretKey: key)
        try await one.migrate()
        try await body(one, IdentityStore(pool: pool, secretKey: key), pool)
    }

    private let now = SystemClock().now()

    /// A token that one daemon made another honours, without a row in between; another cloud's does not.
    @Test func tokensNeedNoRow() async throws {
        try await withStores { maker, reader, pool in
            let account = try await maker.accountCreate(name: "one")
            let made = try maker.sessionCreate(
                SessionToken(accountID: account.id, subject: .user(id: nil), issued: now, expires: now.adding(seconds: 900)))
            #expect(!"\(made)".contains(made.secret))
            let known = try #require(try await reader.credential(accessKeyID: made.accessKeyID, sessionToken: made.token))
            #expect(known.secret == made.secret && known.caller.principal == account.root && known.caller.session?.issued == now)
            #expect(try await reader.credential(accessKeyID: made.accessKeyID, sessionToken: nil)?.secret == nil)
            #expect(try await reader.credential(accessKeyID: "ASIAAAAAAAAAAAAAAAAA", sessionToken: made.token)?.secret == nil)
            #expect(try await reader.credential(accessKeyID: made.accessKeyID, sessionToken: "nonsense")?.secret == nil)
            let foreign = IdentityStore(pool: pool, secretKey: [UInt8](repeating: 8, count: 32))
            #expect(try await foreign.credential(accessKeyID: made.accessKeyID, sessionToken: made.token)?.secret == nil)
            let late = try maker.sessionCreate(
                SessionToken(accountID: account.id, subject: .user(id: nil), issued: now, expires: now.adding(seconds: -1)))
            let error = await #expect(throws: CloudError.self) {
                try await reader.credential(accessKeyID: late.accessKeyID, sessionToken: late.token)
            }
            #expect(error?.reason == .named(code: "ExpiredToken", status: 403))
        }
    }

    @Test func aSessionIsOnlyWhatItsRoleAndItsPoliciesAllow() async throws {
        try await withStores { maker, reader, _ in
            let account = try await maker.accountCreate(name: "one")
            let when = now
            let role = try await maker.change { t in
                let role = try RoleStore.create(
                    t, name: "r", path: "/",
                    RoleStore.Order(
                        trust: #"{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}}"#, description: "",
                        maxSessionSeconds: 3600, boundary: "arn:aws:iam::aws:policy/AmazonEC2FullAccess"),
                    account: account.id, random: SystemRandom(), now: when)
                try PolicyStore.attach(t, "arn:aws:iam::aws:policy/AdministratorAccess", to: role.entity)
                try EntityStore.tag(t, role.entity.id, [IdentityTag(key: "a", value: "role"), IdentityTag(key: "b", value: "role")])
                return role
            }
            let session = #"{"Statement":{"Effect":"Allow","Action":["ec2:Describe*","s3:*"],"Resource":"*"}}"#
            let made = try maker.sessionCreate(
                SessionToken(
                    accountID: account.id, subject: .role(id: role.entity.id, session: "s"), policies: [session],
                    tags: [IdentityTag(key: "b", value: "session")], issued: when, expires: when.adding(seconds: 900)))
            let caller = try #require(try await reader.credential(accessKeyID: made.accessKeyID, sessionToken: made.token)).caller
            #expect(caller.tags == ["a": "role", "b": "session"])
            for (action, expected) in [
                ("ec2:DescribeInstances", PolicyDecision.allowed), ("ec2:RunInstances", .notMentioned), ("s3:GetObject", .notMentioned),
            ] {
                #expect(Authorizer.decide(caller, action: action, resource: "*") == expected, "\(action)")
            }
            try await maker.change { t in
                try PolicyStore.detach(t, "arn:aws:iam::aws:policy/AdministratorAccess", from: role.entity)
                try EntityStore.delete(t, role.entity)
            }
            #expect(try await reader.credential(accessKeyID: made.accessKeyID, sessionToken: made.token)?.secret == nil)
        }
    }

    @Test func managedPoliciesOfTheCloudAreWhole() throws {
        #expect(AWSManagedPolicies.all.count == 12)
        #expect(Set(AWSManagedPolicies.all.map(\.arn)).count == 12 && Set(AWSManagedPolicies.all.map(\.id)).count == 12)
        #expect(AWSManagedPolicies.all.first?.name == "AdministratorAccess")
    }
}
