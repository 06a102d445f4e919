import Daemon
import Domain
import Identity
import Testing

@testable import WalrusKit

/// Every combination of who asks, whose the object is, what ownership, ACL, bucket policy, own policy and public access block say, and
/// what is asked, against a model written down from S3's documentation in another form than the code's: as a list of reasons.
@Suite struct AccessMatrixTests {
    private enum Who: CaseIterable { case ownerRoot, ownerUser, otherRoot, otherUser, nobody }
    private enum Own: CaseIterable { case allows, silent, denies }
    private enum Policy: CaseIterable { case none, allowsAll, allowsOther, deniesAll, allowsTagged }
    private enum Grants: CaseIterable { case ownerOnly, everybody, authenticated, other }
    private enum Block: CaseIterable { case none, ignoreACLs, restrict }
    private enum Action: CaseIterable { case list, put, get, getACL, delete, tag }

    private static let (alice, bob) = ("111111111111", "222222222222")
    private static func canonical(_ account: String) -> String { String(repeating: account == alice ? "a" : "b", count: 64) }

    private func requester(_ who: Who, _ own: Own) -> Requester {
        let http = HTTPRequest(id: "1", method: "GET", target: "/", headers: HTTPHeaderList(), remoteAddress: "10.0.0.1")
        let query = (try? S3Query(raw: nil))!
        let facts = RequestFacts(http: http, query: query, now: Timestamp(milliseconds: 0))
        if who == .nobody { return Requester(known: nil, signature: nil, facts: facts) }
        let account = who == .ownerRoot || who == .ownerUser ? Self.alice : Self.bob
        let isRoot = who == .ownerRoot || who == .otherRoot
        let arn = isRoot ? "arn:aws:iam::\(account):root" : "arn:aws:iam::\(account):user/u"
        let decision: PolicyDecision = own == .allows ? .allowed : own == .silent ? .notMentioned : .explicitlyDenied
        return Requester(
            known: KnownRequester(
                accountID: account, canonicalID: Self.canonical(account), arn: arn, isRoot: isRoot, isSystem: false, facts: [:],
                decide: { _, _, _ in decision }), signature: nil, facts: facts)
    }

    private func policy(_ policy: Policy) -> String? {
        func statement(_ effect: String, _ principal: String, _ condition: String = "") -> String {
            """
            {"Version":"2012-10-17","Statement":[{"Effect":"\(effect)","Principal":\(principal),"Action":"s3:*",
            "Resource":["arn:aws:s3:::bucket","arn:aws:s3:::bucket/*"]\(condition)}]}
            """
        }
        return switch policy {
        case .none: nil
        case .allowsAll: statement("Allow", "\"*\"")
        case .allowsOther: statement("Allow", "{\"AWS\":\"arn:aws:iam::\(Self.bob):root\"}")
        case .deniesAll: statement("Deny", "\"*\"")
        case .allowsTagged: statement("Allow", "\"*\"", ",\"Condition\":{\"StringEquals\":{\"s3:ExistingObjectTag/open\":\"yes\"}}")
        }
    }

    private func acl(_ grants: Grants, owner: String) -> AccessControlList {
        let own = AccessControlList.Grant(.canonicalUser(Self.canonical(owner)), .fullControl)
        let more: [AccessControlList.Grant] =
            switch grants {
            case .ownerOnly: []
            case .everybody: [.init(.allUsers, .read)]
            case .authenticated: [.init(.authenticatedUsers, .read), .init(.authenticatedUsers, .write)]
            case .other: [.init(.canonicalUser(Self.canonical(Self.bob)), .fullControl)]
            }
        return AccessControlList([own] + more)
    }

    /// The model. `tagged`: the object carries the tag that the conditional policy asks for.
    private func expected(
        _ who: Who, _ own: Own, _ policy: Policy, _ grants: Grants, _ block: Block, _ action: Action, _ ownership: ObjectOwnership,
        objectOwner: String, tagged: Bool
    ) -> Bool {
        let isObjectAction = action == .get || action == .getACL || action == .tag
        let owner = isObjectAction && ownership != .bucketOwnerEnforced ? objectOwner : Self.alice
        let account: String? = who == .nobody ? nil : who == .ownerRoot || who == .ownerUser ? Self.alice : Self.bob
        let isRoot = who == .ownerRoot || who == .otherRoot

        // 1. Denials.
        if policy == .deniesAll { return false }
        if own == .denies, account != nil, !isRoot { return false }

        // 2. What opens it: the bucket's policy.
        var byPolicy = policy == .allowsAll || policy == .allowsOther && account == Self.bob
        if policy == .allowsTagged { byPolicy = tagged && (isObjectAction || action == .put || action == .delete) }
        let policyIsPublic = policy == .allowsAll || policy == .allowsTagged
        if block == .restrict, policyIsPublic, account != Self.alice { byPolicy = false }
        if owner != Self.alice { byPolicy = false }

        // 3. The ACL: of the bucket for list, put and delete; of the object for the rest. Tags are given by no grant but full control.
        enum Wanted { case read, write, full }
        let wanted: Wanted = [.list, .get].contains(action) ? .read : [.put, .delete].contains(action) ? .write : .full
        let isACLOwner = account == (isObjectAction ? objectOwner : Self.alice)
        var toAll = grants == .everybody && wanted == .read
        var toAuthenticated = grants == .authenticated && wanted != .full
        let toNamed = isACLOwner || grants == .other && account == Self.bob
        if block == .ignoreACLs { (toAll, toAuthenticated) = (false, false) }
        if ownership == .bucketOwnerEnforced { (toAll, toAuthenticated) = (false, false) }
        let named = ownership == .bucketOwnerEnforced ? false : toNamed

        // 4. Together.
        guard let account else { return byPolicy || toAll }
        let mayByOwn = isRoot || own == .allows
        if account == owner { return mayByOwn || byPolicy || toAll || toAuthenticated }
        return mayByOwn && (byPolicy || toAll || toAuthenticated || named)
    }

    private func ask(_ action: Action, _ r: Requester, _ bucket: BucketRecord, _ object: ObjectRecord) -> Bool {
        do throws(CloudError) {
            switch action {
            case .list: try Authorization.bucket(r, bucket, "s3:ListBucket", .read)
            case .put: try Authorization.write(r, bucket, object.key, "s3:PutObject", current: object)
            case .delete: try Authorization.write(r, bucket, object.key, "s3:DeleteObject", current: object)
            case .get: try Authorization.object(r, bucket, object, "s3:GetObject", .read)
            case .getACL: try Authorization.object(r, bucket, object, "s3:GetObjectAcl", .readACP)
            case .tag: try Authorization.object(r, bucket, object, "s3:PutObjectTagging", .fullControl)
            }
            return true
        } catch {
            #expect(S3ErrorCode.of(error).code == "AccessDenied")
            return false
        }
    }

    @Test func everyCombinationAgreesWithTheModel() throws {
        var asked = 0
        var allowed = 0
        for ownership in ObjectOwnership.allCases {
            for block in Block.allCases {
                for policy in Policy.allCases {
                    var documents: [ConfigurationKind: [UInt8]] = [.ownership: ownership.document]
                    var settings = PublicAccessBlock()
                    settings.ignorePublicAcls = block == .ignoreACLs
                    settings.restrictPublicBuckets = block == .restrict
                    documents[.publicAccessBlock] = settings.document
                    if let text = self.policy(policy) { documents[.policy] = Array(text.utf8) }
                    let parsed = try BucketSettings(documents)
                    for grants in Grants.allCases {
                        for objectOwner in [Self.alice, Self.bob] {
                            for tagged in [false, true] {
                                var bucket = BucketRecord(
                                    id: 1, name: "bucket", account: Self.alice, region: "r", created: Timestamp(milliseconds: 0),
                                    acl: acl(grants, owner: Self.alice), tags: [])
                                bucket.settings = parsed
                                let object = ObjectRecord(
                                    key: try ObjectKey(Array("k".utf8)), size: 0, etag: "", modified: Timestamp(milliseconds: 0),
                                    account: objectOwner, acl: acl(grants, owner: objectOwner),
                                    attributes: ObjectAttributes(tags: tagged ? [("open", "yes")] : []), checksum: nil, content: .inline([])
                                )
                                for who in Who.allCases {
                                    for own in Own.allCases where own == .allows || who == .ownerUser || who == .otherUser {
                                        let r = requester(who, own)
                                        for action in Action.allCases {
                                            let want = expected(
                                                who, own, policy, grants, block, action, ownership, objectOwner: objectOwner, tagged: tagged
                                            )
                                            let got = ask(action, r, bucket, object)
                                            asked += 1
                                            allowed += got ? 1 : 0
                                            #expect(
                                                got == want,
                                                "\(who) \(own) \(policy) \(grants) \(block) \(action) \(ownership) \(objectOwner) \(tagged)"
                                            )
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        // The model must neither allow nor refuse everything.
        #expect(asked > 30_000 && allowed > asked / 10 && allowed < asked / 10 * 9, "\(allowed) of \(asked)")
    }

    /// Without its configurations a bucket stays closed, even for its owner.
    @Test func aBucketWhoseConfigurationsWereNotLookedAtIsClosed() throws {
        let bucket = BucketRecord(
            id: 1, name: "bucket", account: Self.alice, region: "r", created: Timestamp(milliseconds: 0), acl: AccessControlList([]),
            tags: [])
        #expect(throws: CloudError.self) { try Authorization.bucket(requester(.ownerRoot, .allows), bucket, "s3:ListBucket", .read) }
    }
}
