import API
import Domain
import Testing
import Wire

/// The bytes of IAM's and STS's replies: the Result element, lists of members, maps, documents.
@Suite struct IdentityReplyTests {
    private let requestID = "4dbc7fbb-4dbc-7fbb-4dbc-4dbc7fbb4dbc"
    private let date = Timestamp(milliseconds: 1_795_357_416_000)

    private func iam(_ operation: Operation, _ value: Value, _ name: String) {
        expectGolden(ReplyBody.query(IAM.service, operation, value, version: "2010-05-08", requestID: requestID), "iam-\(name).xml")
    }

    @Test func users() {
        var user = IAM.User(
            path: "/a/", userName: "bob", userId: "AIDAEXAMPLE", arn: "arn:aws:iam::123456789012:user/a/bob", createDate: date)
        user.tags = [IAM.Tag(key: "team", value: "a & b")]
        user.permissionsBoundary = IAM.AttachedPermissionsBoundary(
            permissionsBoundaryType: "PermissionsBoundaryPolicy", permissionsBoundaryArn: "arn:aws:iam::aws:policy/ReadOnlyAccess")
        iam(IAM.GetUser.operation, IAM.GetUserResponse(user: user).wireValue, "get-user")
        iam(
            IAM.ListUsers.operation, IAM.ListUsersResponse(users: [user], isTruncated: true, marker: "AAAA").wireValue, "list-users")
        iam(IAM.DeleteUser.operation, IAM.DeleteUserResponse().wireValue, "delete-user")
    }

    @Test func rolesAndProfiles() {
        var role = IAM.Role(path: "/", roleName: "r", roleId: "AROAEXAMPLE", arn: "arn:aws:iam::123456789012:role/r", createDate: date)
        role.assumeRolePolicyDocument = "%7B%7D"
        role.maxSessionDuration = 3600
        iam(IAM.GetRole.operation, IAM.GetRoleResponse(role: role).wireValue, "get-role")
        let profile = IAM.InstanceProfile(
            path: "/", instanceProfileName: "p", instanceProfileId: "AIPAEXAMPLE", arn: "arn:aws:iam::123456789012:instance-profile/p",
            createDate: date, roles: [role])
        iam(
            IAM.GetInstanceProfile.operation, IAM.GetInstanceProfileResponse(instanceProfile: profile).wireValue, "get-instance-profile")
    }

    @Test func keysPoliciesAndMaps() {
        let key = IAM.AccessKey(userName: "bob", accessKeyId: "AKIAEXAMPLE", status: "Active", secretAccessKey: "s/+", createDate: date)
        iam(IAM.CreateAccessKey.operation, IAM.CreateAccessKeyResponse(accessKey: key).wireValue, "create-access-key")
        let attached = IAM.AttachedPolicy(policyName: "ReadOnlyAccess", policyArn: "arn:aws:iam::aws:policy/ReadOnlyAccess")
        iam(
            IAM.ListAttachedUserPolicies.operation,
            IAM.ListAttachedUserPoliciesResponse(attachedPolicies: [attached], isTruncated: false).wireValue, "list-attached-user-policies")
        iam(
            IAM.GetAccountSummary.operation,
            IAM.GetAccountSummaryResponse(summaryMap: [IAM.SummaryMapEntry(key: "Users", value: 1)]).wireValue, "get-account-summary")
        let result = IAM.EvaluationResult(
            evalActionName: "s3:GetObject", evalResourceName: "*", evalDecision: "allowed",
            matchedStatements: [IAM.Statement(sourcePolicyId: "own", sourcePolicyType: "user")])
        iam(
            IAM.SimulatePrincipalPolicy.operation,
            IAM.SimulatePrincipalPolicyResponse(evaluationResults: [result], isTruncated: false).wireValue, "simulate-principal-policy")
    }

    @Test func tokens() {
        let credentials = STS.Credentials(accessKeyId: "ASIAEXAMPLE", secretAccessKey: "s", sessionToken: "t", expiration: date)
        let value = STS.AssumeRoleResponse(
            credentials: credentials,
            assumedRoleUser: STS.AssumedRoleUser(
                assumedRoleId: "AROAEXAMPLE:s", arn: "arn:aws:sts::123456789012:assumed-role/r/s"), packedPolicySize: 3
        ).wireValue
        expectGolden(
            ReplyBody.query(STS.service, STS.AssumeRole.operation, value, version: "2011-06-15", requestID: requestID),
            "sts-assume-role.xml")
    }
}
