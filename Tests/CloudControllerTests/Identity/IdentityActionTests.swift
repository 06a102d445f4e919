import Domain
import Identity
import Testing
import Wire

@testable import CloudControllerKit

/// IAM through the whole front end: what is written is in force at the next request.
@Suite struct IdentityActionTests {
    @Test func aUserMayWhatItsPoliciesSay() async throws {
        let cloud = try await CoreCloud()
        let keys = try await cloud.user("bob")
        func describe() async -> String { await cloud.ask("ec2", keys, "DescribeInstances").code }
        #expect(await describe() == "UnauthorizedOperation")
        // By a group.
        #expect(
            await cloud.iam("CreateGroup", ["GroupName": "readers", "Path": "/team/"]).at("Group", "Arn")?.hasSuffix(":group/team/readers")
                == true)
        #expect(await cloud.iam("AddUserToGroup", ["GroupName": "readers", "UserName": "bob"]).code == "")
        #expect(
            await cloud.iam("AttachGroupPolicy", ["GroupName": "readers", "PolicyArn": "arn:aws:iam::aws:policy/AmazonEC2ReadOnlyAccess"])
                .code == "")
        #expect(await describe() == "")
        #expect(
            await cloud.ask("ec2", keys, "CreateVolume", ["Size": "1", "AvailabilityZone": "karri-1a"]).code == "UnauthorizedOperation")
        // A boundary takes it away, whatever is allowed.
        let bound = await cloud.iam("CreatePolicy", ["PolicyName": "only-s3", "PolicyDocument": statement("s3:*")])
        let arn = try #require(bound.at("Policy", "Arn"))
        #expect(await cloud.iam("PutUserPermissionsBoundary", ["UserName": "bob", "PermissionsBoundary": arn]).code == "")
        #expect(await describe() == "UnauthorizedOperation")
        #expect(await cloud.iam("GetUser", ["UserName": "bob"]).at("User", "PermissionsBoundary", "PermissionsBoundaryArn") == arn)
        #expect(await cloud.iam("DeletePolicy", ["PolicyArn": arn]).code == "DeleteConflict")
        #expect(await cloud.iam("DeleteUserPermissionsBoundary", ["UserName": "bob"]).code == "")
        #expect(await describe() == "")
        // An explicit Deny wins; a key that is switched off is nobody's.
        #expect(
            await cloud.iam("PutUserPolicy", ["UserName": "bob", "PolicyName": "no", "PolicyDocument": statement("ec2:*", effect: "Deny")])
                .code == "")
        #expect(await describe() == "UnauthorizedOperation")
        #expect(await cloud.iam("DeleteUserPolicy", ["UserName": "bob", "PolicyName": "no"]).code == "")
        #expect(await cloud.iam("UpdateAccessKey", ["UserName": "bob", "AccessKeyId": keys.id, "Status": "Inactive"]).code == "")
        #expect(await describe() == "AuthFailure")
    }

    @Test func whatHangsTogetherDoesNotGoAlone() async throws {
        let cloud = try await CoreCloud()
        _ = try await cloud.user("bob", statement("ec2:*"))
        #expect(await cloud.iam("CreateUser", ["UserName": "BOB"]).code == "EntityAlreadyExists")
        #expect(await cloud.iam("GetUser", ["UserName": "eve"]).code == "NoSuchEntity")
        let refused = await cloud.iam("DeleteUser", ["UserName": "bob"])
        #expect(refused.code == "DeleteConflict" && refused.status == 409)
        #expect(await cloud.iam("DeleteUserPolicy", ["UserName": "bob", "PolicyName": "own"]).code == "")
        #expect(await cloud.iam("DeleteUser", ["UserName": "bob"]).code == "DeleteConflict")
        let keys = await cloud.iam("ListAccessKeys", ["UserName": "bob"])
        let id = try #require(keys.members("AccessKeyMetadata", "AccessKeyId").first)
        #expect(await cloud.iam("DeleteAccessKey", ["UserName": "eve", "AccessKeyId": id]).code == "NoSuchEntity")
        #expect(await cloud.iam("DeleteAccessKey", ["UserName": "bob", "AccessKeyId": id]).code == "")
        #expect(await cloud.iam("DeleteUser", ["UserName": "bob"]).code == "")
        let third = try await cloud.user("carol")
        #expect(await cloud.iam("CreateAccessKey", ["UserName": "carol"]).code == "")
        #expect(await cloud.iam("CreateAccessKey", ["UserName": "carol"]).code == "LimitExceeded")
        #expect(await cloud.iam("ListUsers", [:], as: third).code == "AccessDenied")
        // Each change has its row in the audit table, and a refused one has none.
        #expect(try await cloud.number("SELECT count(*) AS n FROM cloud.audit WHERE action = 'DeleteUser'") == 1)
        #expect(try await cloud.number("SELECT count(*) AS n FROM cloud.audit WHERE action = 'CreateAccessKey'") == 3)
    }

    @Test func pagesAndPaths() async throws {
        let cloud = try await CoreCloud()
        for name in ["a", "b", "c", "d", "e"] {
            #expect(await cloud.iam("CreateUser", ["UserName": name, "Path": name < "d" ? "/x/" : "/y/"]).code == "")
        }
        var seen: [String] = []
        var marker: String?
        repeat {
            var parameters = ["MaxItems": "2", "PathPrefix": "/"]
            parameters["Marker"] = marker
            let page = await cloud.iam("ListUsers", parameters)
            seen += page.members("Users", "UserName")
            marker = page.at("Marker")
            #expect((page.at("IsTruncated") == "true") == (marker != nil))
        } while marker != nil && seen.count < 20
        #expect(seen == ["a", "b", "c", "d", "e"])
        #expect(await cloud.iam("ListUsers", ["PathPrefix": "/y/"]).members("Users", "UserName") == ["d", "e"])
        #expect(await cloud.iam("ListUsers", ["Marker": "nonsense"]).code == "ValidationError")
        #expect(await cloud.iam("ListUsers", ["MaxItems": "0"]).code == "ValidationError")
    }

    @Test func versionsOfAPolicy() async throws {
        let cloud = try await CoreCloud()
        let keys = try await cloud.user("bob")
        let made = await cloud.iam(
            "CreatePolicy", ["PolicyName": "p", "PolicyDocument": statement("s3:*"), "Tags.member.1.Key": "a", "Tags.member.1.Value": "b"])
        let arn = try #require(made.at("Policy", "Arn"))
        #expect(await cloud.iam("AttachUserPolicy", ["UserName": "bob", "PolicyArn": arn]).code == "")
        #expect(await cloud.ask("ec2", keys, "DescribeVolumes").code == "UnauthorizedOperation")
        let second = ["PolicyArn": arn, "PolicyDocument": statement("ec2:Describe*"), "SetAsDefault": "true"]
        #expect(await cloud.iam("CreatePolicyVersion", second).at("PolicyVersion", "VersionId") == "v2")
        #expect(await cloud.ask("ec2", keys, "DescribeVolumes").code == "")
        #expect(await cloud.iam("SetDefaultPolicyVersion", ["PolicyArn": arn, "VersionId": "v1"]).code == "")
        #expect(await cloud.ask("ec2", keys, "DescribeVolumes").code == "UnauthorizedOperation")
        #expect(await cloud.iam("DeletePolicyVersion", ["PolicyArn": arn, "VersionId": "v1"]).code == "DeleteConflict")
        for _ in 0..<3 { #expect(await cloud.iam("CreatePolicyVersion", second).code == "") }
        #expect(await cloud.iam("CreatePolicyVersion", second).code == "LimitExceeded")
        #expect(
            await cloud.iam("ListPolicyVersions", ["PolicyArn": arn]).members("Versions", "VersionId") == ["v1", "v2", "v3", "v4", "v5"])
        // Documents are percent-encoded.
        let document = await cloud.iam("GetPolicyVersion", ["PolicyArn": arn, "VersionId": "v1"]).at("PolicyVersion", "Document")
        #expect(document?.hasPrefix("%7B%22Version%22") == true)
        #expect(await cloud.iam("CreatePolicy", ["PolicyName": "q", "PolicyDocument": "{}"]).code == "MalformedPolicyDocument")
        #expect(
            await cloud.iam("AttachUserPolicy", ["UserName": "bob", "PolicyArn": "arn:aws:iam::aws:policy/None"]).code == "NoSuchEntity")
        #expect(
            await cloud.iam(
                "CreatePolicyVersion", ["PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess", "PolicyDocument": statement("*")]
            ).code
                == "AccessDenied")
        let users = await cloud.iam("ListEntitiesForPolicy", ["PolicyArn": arn])
        #expect(users.members("PolicyUsers", "UserName") == ["bob"])
        #expect(await cloud.iam("GetPolicy", ["PolicyArn": arn]).at("Policy", "AttachmentCount") == "1")
    }

    /// `${aws:username}`, and the resource of IAM's own actions.
    @Test func aUserMayCareForItself() async throws {
        let cloud = try await CoreCloud()
        let own = statement("iam:*AccessKey*", "arn:aws:iam::*:user/${aws:username}")
        let bob = try await cloud.user("bob", own)
        _ = try await cloud.user("eve")
        #expect(await cloud.iam("ListAccessKeys", [:], as: bob).code == "")
        #expect(await cloud.iam("CreateAccessKey", [:], as: bob).code == "")
        #expect(await cloud.iam("ListAccessKeys", ["UserName": "eve"], as: bob).code == "AccessDenied")
        #expect(await cloud.iam("CreateUser", ["UserName": "mallory"], as: bob).code == "AccessDenied")
    }

    @Test func tagsDecide() async throws {
        let cloud = try await CoreCloud()
        let condition = #"{"StringEquals":{"aws:ResourceTag/team":"${aws:PrincipalTag/team}"}}"#
        let bob = try await cloud.user("bob", statement("ec2:*Instances", condition: condition))
        #expect(await cloud.iam("TagUser", ["UserName": "bob", "Tags.member.1.Key": "team", "Tags.member.1.Value": "red"]).code == "")
        let ids = try await cloud.run(count: 2)
        let tagged = await cloud.ask(
            "ec2", cloud.root, "CreateTags", ["ResourceId.1": ids[0], "Tag.1.Key": "team", "Tag.1.Value": "red"])
        #expect(tagged.code == "", "\(tagged.text)")
        await cloud.round(2)
        #expect(await cloud.ask("ec2", bob, "TerminateInstances", ["InstanceId.1": ids[1]]).code == "UnauthorizedOperation")
        let gone = await cloud.ask("ec2", bob, "TerminateInstances", ["InstanceId.1": ids[0]])
        #expect(gone.code == "", "\(gone.text)")
    }

    @Test func simulations() async throws {
        let cloud = try await CoreCloud()
        _ = try await cloud.user("bob", statement("ec2:Describe*", condition: #"{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#))
        let arn = "arn:aws:iam::\(cloud.accountID):user/bob"
        var ask = [
            "PolicySourceArn": arn, "ActionNames.member.1": "ec2:DescribeInstances", "ActionNames.member.2": "ec2:RunInstances",
            "ContextEntries.member.1.ContextKeyName": "aws:SourceIp", "ContextEntries.member.1.ContextKeyType": "ip",
            "ContextEntries.member.1.ContextKeyValues.member.1": "10.1.2.3",
        ]
        let answer = await cloud.iam("SimulatePrincipalPolicy", ask)
        #expect(answer.members("EvaluationResults", "EvalDecision") == ["allowed", "implicitDeny"], "\(answer.text)")
        ask["PolicyInputList.member.1"] = statement("ec2:*", effect: "Deny")
        #expect(
            await cloud.iam("SimulatePrincipalPolicy", ask).members("EvaluationResults", "EvalDecision") == [
                "explicitDeny", "explicitDeny",
            ])
        let keys = await cloud.iam("GetContextKeysForPrincipalPolicy", ["PolicySourceArn": arn])
        #expect(keys.members("ContextKeyNames", "") == ["aws:SourceIp"])
        let custom = await cloud.iam(
            "SimulateCustomPolicy", ["PolicyInputList.member.1": statement("s3:*"), "ActionNames.member.1": "s3:GetObject"])
        #expect(custom.members("EvaluationResults", "EvalDecision") == ["allowed"])
    }

    @Test func passwordsAndTheAccount() async throws {
        let cloud = try await CoreCloud()
        let bob = try await cloud.user("bob", statement("iam:ChangePassword"))
        #expect(await cloud.iam("GetAccountPasswordPolicy").code == "NoSuchEntity")
        #expect(
            await cloud.iam(
                "UpdateAccountPasswordPolicy",
                [
                    "MinimumPasswordLength": "10", "RequireNumbers": "true", "AllowUsersToChangePassword": "true",
                    "PasswordReusePrevention": "1",
                ]
            ).code == "")
        #expect(await cloud.iam("CreateLoginProfile", ["UserName": "bob", "Password": "short"]).code == "PasswordPolicyViolation")
        #expect(await cloud.iam("CreateLoginProfile", ["UserName": "bob", "Password": "long enough 1"]).code == "")
        #expect(await cloud.iam("CreateLoginProfile", ["UserName": "bob", "Password": "long enough 1"]).code == "EntityAlreadyExists")
        let change = ["OldPassword": "long enough 1", "NewPassword": "long enough 1"]
        #expect(await cloud.iam("ChangePassword", change, as: bob).code == "PasswordPolicyViolation")
        #expect(
            await cloud.iam("ChangePassword", ["OldPassword": "wrong", "NewPassword": "another one 2"], as: bob).code == "AccessDenied")
        #expect(await cloud.iam("CreateAccountAlias", ["AccountAlias": "red-team"]).code == "")
        #expect(await cloud.iam("ListAccountAliases").members("AccountAliases", "") == ["red-team"])
        let summary = await cloud.iam("GetAccountSummary")
        let entries = summary.result?.first("SummaryMap")?.all("entry") ?? []
        #expect(entries.first { $0.first("key")?.text == "Users" }?.first("value")?.text == "1")
        let details = await cloud.iam("GetAccountAuthorizationDetails")
        #expect(details.members("UserDetailList", "UserName") == ["bob"])
    }

    @Test func accountsAreTheAdministratorsOwn() async throws {
        let cloud = try await CoreCloud()
        let made = await cloud.iam("CreateAccount", ["AccountName": "other"])
        let keys = Keys(
            try #require(made.at("AccessKey", "AccessKeyId"), "\(made.text)"), try #require(made.at("AccessKey", "SecretAccessKey")))
        #expect(await cloud.iam("CreateAccount", ["AccountName": "other"]).code == "EntityAlreadyExists")
        #expect(await cloud.iam("CreateAccount", ["AccountName": "third"], as: keys).code == "AccessDenied")
        #expect(await cloud.iam("ListAccounts").members("Accounts", "AccountName").sorted() == ["karri", "other"])
        let me = await cloud.ask("sts", keys, "GetCallerIdentity")
        #expect(me.at("Account") == made.at("Account", "AccountId") && me.at("Arn")?.hasSuffix(":root") == true)
        #expect(await cloud.iam("DeleteAccount", ["AccountName": "karri"]).code == "DeleteConflict")
    }

    @Test func quotasOfAccountAndUser() async throws {
        let cloud = try await CoreCloud()
        let bob = try await cloud.user("bob", statement("ec2:*"))
        let account = cloud.accountID
        try await cloud.cloud.identity.change { t in
            try QuotaStore.set(t, account: account, user: nil, name: .instances, value: 2)
            try QuotaStore.set(
                t, account: account, user: try EntityStore.fetch(t, .user, "bob", account: account), name: .instances, value: 1)
            try QuotaStore.set(t, account: account, user: nil, name: .keyPairs, value: 0)
        }
        let launch = ["ImageId": CoreCloud.image, "MinCount": "1", "MaxCount": "1", "InstanceType": "t1.micro"]
        #expect(await cloud.ask("ec2", bob, "RunInstances", launch).code == "")
        let second = await cloud.ask("ec2", bob, "RunInstances", launch)
        #expect(second.code == "InstanceLimitExceeded")
        #expect(second.message.contains("the user bob") && second.message.contains("1 too many"), "\(second.message)")
        #expect(await cloud.ask("ec2", cloud.root, "RunInstances", launch).code == "")
        let third = await cloud.ask("ec2", cloud.root, "RunInstances", launch)
        #expect(third.code == "InstanceLimitExceeded" && third.message.contains("the account"), "\(third.message)")
        #expect(await cloud.ask("ec2", cloud.root, "CreateKeyPair", ["KeyName": "k"]).code == "KeyPairLimitExceeded")
    }
}
