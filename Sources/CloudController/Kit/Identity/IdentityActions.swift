public import API
public import Domain
import Identity

/// The value that implements the IAM actions.
public struct IAMActions: Sendable {
    public typealias Context = OperationContext
    public let cloud: CloudServices
    public init(_ cloud: CloudServices) { self.cloud = cloud }
}

/// The value that implements the STS actions.
public struct STSActions: Sendable {
    public typealias Context = OperationContext
    public let cloud: CloudServices
    public init(_ cloud: CloudServices) { self.cloud = cloud }
}

extension IAMActions: IAMUsersActions {
    public func getUser(_ request: IAM.GetUser, _ op: OperationContext) async throws(CloudError) -> IAM.GetUserResponse {
        let me = op.caller.principal
        // The root of an account is a user without a name; what it is called stands in its ARN.
        if request.userName == nil, me.isRoot {
            let account = try await cloud.identity.accountFetch(me.accountID)
            return IAM.GetUserResponse(user: IAM.User(path: "/", userId: me.accountID, arn: me.arn, createDate: account.created))
        }
        let name = request.userName ?? me.userName
        let user: User
        do throws(CloudError) {
            user = try await cloud.identity.userFetch(name: name, account: op.accountID)
        } catch {
            guard case .notFound = error.reason else { throw error }
            throw CloudError(
                .named(code: "NoSuchEntity", status: 404), "The user with name \(name) cannot be found.", context: error.context)
        }
        return IAM.GetUserResponse(
            user: IAM.User(
                path: user.principal.path, userName: user.principal.userName, userId: user.principal.userID, arn: user.principal.arn,
                createDate: user.created))
    }
}

extension STSActions: STSIdentityActions {
    public func getCallerIdentity(
        _ request: STS.GetCallerIdentity, _ op: OperationContext
    ) async throws(CloudError) -> STS.GetCallerIdentityResponse {
        let me = op.caller.principal
        return STS.GetCallerIdentityResponse(arn: me.arn, userId: me.isRoot ? me.accountID : me.userID, account: me.accountID)
    }
}
