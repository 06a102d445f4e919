public import Domain

/// Who may do what with a bucket or an object, beside its owner. Source: Amazon S3 User Guide, "Access control list (ACL) overview".
public struct AccessControlList: Sendable, Equatable {
    public enum Permission: String, Sendable, CaseIterable {
        case fullControl = "FULL_CONTROL"
        case read = "READ"
        case write = "WRITE"
        case readACP = "READ_ACP"
        case writeACP = "WRITE_ACP"
    }

    public enum Grantee: Sendable, Hashable {
        /// An account by its canonical user id.
        case canonicalUser(String)
        case allUsers
        case authenticatedUsers
        case logDelivery

        static let groups: [(Grantee, String)] = [
            (.allUsers, "http://acs.amazonaws.com/groups/global/AllUsers"),
            (.authenticatedUsers, "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"),
            (.logDelivery, "http://acs.amazonaws.com/groups/s3/LogDelivery"),
        ]
        public var uri: String? { Self.groups.first { $0.0 == self }?.1 }
        public init?(uri: String) {
            guard let found = Self.groups.first(where: { $0.1 == uri }) else { return nil }
            self = found.0
        }
    }

    public struct Grant: Sendable, Hashable {
        public let grantee: Grantee
        public let permission: Permission
        public init(_ grantee: Grantee, _ permission: Permission) {
            self.grantee = grantee
            self.permission = permission
        }
    }

    /// In the order they were given.
    public var grants: [Grant]
    public init(_ grants: [Grant]) { self.grants = grants }

    /// More would make every check slow. Source: S3 User Guide ("an ACL can have up to 100 grants").
    static let grantLimit = 100

    /// The canned ACLs.
    /// - Parameters:
    ///   - owner: canonical id of the owner of the thing.
    ///   - bucketOwner: of the bucket that it is in (for objects).
    /// - Throws: `InvalidArgument` for a name that S3 does not know.
    public init(canned name: String, owner: String, bucketOwner: String) throws(CloudError) {
        let all = Grant(.canonicalUser(owner), .fullControl)
        switch name {
        case "private": grants = [all]
        case "public-read": grants = [Grant(.allUsers, .read), all]
        case "public-read-write": grants = [Grant(.allUsers, .read), Grant(.allUsers, .write), all]
        case "authenticated-read": grants = [Grant(.authenticatedUsers, .read), all]
        case "bucket-owner-read": grants = owner == bucketOwner ? [all] : [all, Grant(.canonicalUser(bucketOwner), .read)]
        case "bucket-owner-full-control": grants = owner == bucketOwner ? [all] : [all, Grant(.canonicalUser(bucketOwner), .fullControl)]
        case "aws-exec-read": grants = [all]
        case "log-delivery-write": grants = [Grant(.logDelivery, .write), Grant(.logDelivery, .readACP), all]
        default: throw S3Failure.invalidArgument("The canned ACL '\(name)' is not known")
        }
    }

    /// By which kind of grant somebody has a permission.
    enum Reach: Sendable, Equatable { case anyone, authenticated, named }

    /// The widest grant of a permission that reaches the caller; `nil`: none.
    /// - Parameter caller: canonical id; `nil` for an anonymous request.
    func grantee(_ permission: Permission, caller: String?) -> Reach? {
        var reach: Reach?
        for grant in grants where grant.permission == permission || grant.permission == .fullControl {
            switch grant.grantee {
            case .allUsers: return .anyone
            case .authenticatedUsers: if caller != nil { reach = .authenticated }
            case .canonicalUser(let id): if id == caller, reach == nil { reach = .named }
            case .logDelivery: continue
            }
        }
        return reach
    }

    /// - Parameter caller: canonical id; `nil` for an anonymous request.
    public func allows(_ permission: Permission, caller: String?) -> Bool { grantee(permission, caller: caller) != nil }

    /// Grants something to everybody, or to everybody with an account. Source: S3 User Guide, "The meaning of public".
    var isPublic: Bool { grants.contains { $0.grantee == .allUsers || $0.grantee == .authenticatedUsers } }

    /// For the database: `PERMISSION grantee` each.
    public var stored: [String] {
        grants.map { grant in
            switch grant.grantee {
            case .canonicalUser(let id): "\(grant.permission.rawValue) \(id)"
            case .allUsers: "\(grant.permission.rawValue) *all"
            case .authenticatedUsers: "\(grant.permission.rawValue) *authenticated"
            case .logDelivery: "\(grant.permission.rawValue) *log"
            }
        }
    }

    public init(stored: [String]) {
        grants = stored.compactMap { line in
            guard let space = line.firstIndex(of: " "), let permission = Permission(rawValue: String(line[..<space])) else { return nil }
            let grantee = String(line[line.index(after: space)...])
            switch grantee {
            case "*all": return Grant(.allUsers, permission)
            case "*authenticated": return Grant(.authenticatedUsers, permission)
            case "*log": return Grant(.logDelivery, permission)
            default: return Grant(.canonicalUser(grantee), permission)
            }
        }
    }
}
