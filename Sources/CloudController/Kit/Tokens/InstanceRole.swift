import Database
public import Domain
public import Identity
import Workflow

/// The credentials that an instance gets by its instance profile. The controller makes them, the node's metadata service shows them at
/// `iam/security-credentials/<role>`.
public struct InstanceRole: Sendable {
    /// The name at `iam/security-credentials/`.
    public let roleName: String
    public let profileARN: String
    public let profileID: String
    public let credentials: SessionCredentials
    public let issued: Timestamp

    /// Six hours, as on EC2: nodes ask again when half of it is over.
    public static let lifetimeSeconds: Int64 = 6 * 3600
}

extension CloudServices {
    /// Fresh credentials for an instance; `nil` when its profile is gone, has no role, or the role does not trust EC2.
    /// - Parameter profile: the ARN of the instance profile.
    public func instanceRole(profile arn: String, instanceID: String, accountID: String) async throws(CloudError) -> InstanceRole? {
        let now = clock.now()
        let found = try await pool.read { t -> (Entity, Role)? in
            guard let profile = try? RoleStore.profile(t, arn: arn, name: nil, account: accountID),
                let role = try RoleStore.role(t, of: profile)
            else { return nil }
            return (profile, role)
        }
        guard let (profile, role) = found, try TrustPolicy.allows(role, service: "ec2.amazonaws.com") else { return nil }
        let credentials = try identity.sessionCreate(
            SessionToken(
                accountID: accountID, subject: .role(id: role.entity.id, session: instanceID), issued: now,
                expires: now.adding(seconds: InstanceRole.lifetimeSeconds)))
        return InstanceRole(
            roleName: role.entity.name, profileARN: profile.arn, profileID: profile.id, credentials: credentials, issued: now)
    }

    /// The instance profile that a request names (`IamInstanceProfile.Arn` or `.Name`), which its caller must be allowed to pass on.
    /// - Throws: `InvalidIamInstanceProfileArn.Malformed`, `InvalidParameterValue` when there is none, `.forbidden`.
    public func instanceProfile(arn: String?, name: String?, _ op: OperationContext) async throws(CloudError) -> Entity {
        if let arn, !arn.isEmpty, !arn.hasPrefix("arn:aws:iam::\(op.accountID):instance-profile/") {
            throw CloudError(
                .named(code: "InvalidIamInstanceProfileArn.Malformed", status: 400),
                "The instance profile ARN '\(arn.prefix(200))' is invalid.")
        }
        let found: (profile: Entity, role: Role?)
        do throws(CloudError) {
            found = try await pool.read { t in
                let profile = try RoleStore.profile(t, arn: arn, name: name, account: op.accountID)
                return (profile, try RoleStore.role(t, of: profile))
            }
        } catch {
            guard case .named("NoSuchEntity", _) = error.reason else { throw error }
            throw CloudError(
                .invalidParameter("iamInstanceProfile"),
                "Value (\((name ?? arn ?? "").prefix(200))) for parameter iamInstanceProfile is invalid. Invalid IAM Instance Profile")
        }
        if let role = found.role {
            try op.authorize("iam:PassRole", resource: role.entity.arn, context: ["iam:PassedToService": "ec2.amazonaws.com"])
        }
        return found.profile
    }
}
