public import Domain

/// Managed policies that every cloud has under Amazon's names, since tools attach them by ARN. Ours in content: what this cloud knows.
public struct AWSManagedPolicy: Sendable {
    public let name: String
    /// `/` or `/service-role/`.
    public let path: String
    public let id: String
    public let description: String
    public let document: String
    public let parsed: PolicyDocument

    public var arn: String { "arn:aws:iam::aws:policy\(path)\(name)" }
}

public enum AWSManagedPolicies {
    public static let prefix = "arn:aws:iam::aws:policy/"
    /// Of all of them: they were written once, and have one version.
    public static let created = Timestamp(seconds: 1_767_225_600)

    public static let all: [AWSManagedPolicy] = [
        allow("AdministratorAccess", 1, "Everything", actions: ["*"]),
        policy(
            "PowerUserAccess", 2, "Everything but identities",
            #"""
            {"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotAction":["iam:*"],"Resource":"*"},
            {"Effect":"Allow","Action":["iam:ListRoles","iam:ListAccountAliases","iam:GetAccountSummary"],"Resource":"*"}]}
            """#),
        allow(
            "ReadOnlyAccess", 3, "Reading everything",
            actions: [
                "ec2:Describe*", "ec2:Get*", "ec2:Search*", "ec2:Explain*", "iam:Get*", "iam:List*", "iam:Simulate*", "s3:Get*", "s3:List*",
                "sts:GetCallerIdentity", "sts:GetAccessKeyInfo",
            ]),
        allow("IAMFullAccess", 4, "Everything of identities", actions: ["iam:*"]),
        allow("IAMReadOnlyAccess", 5, "Reading identities", actions: ["iam:Get*", "iam:List*", "iam:Simulate*"]),
        allow("AmazonEC2FullAccess", 6, "Everything of instances, volumes, images and the network", actions: ["ec2:*"]),
        allow("AmazonEC2ReadOnlyAccess", 7, "Reading instances, volumes, images and the network", actions: ["ec2:Describe*", "ec2:Get*"]),
        allow("AmazonS3FullAccess", 8, "Everything of buckets and objects", actions: ["s3:*"]),
        allow("AmazonS3ReadOnlyAccess", 9, "Reading buckets and objects", actions: ["s3:Get*", "s3:List*"]),
        allow(
            "AmazonVPCFullAccess", 10, "Everything of the network",
            actions: [
                "ec2:*Address*", "ec2:*Vpc*", "ec2:*Subnet*", "ec2:*Route*", "ec2:*Gateway*", "ec2:*SecurityGroup*", "ec2:*NetworkAcl*",
                "ec2:*NetworkInterface*", "ec2:*DhcpOptions*", "ec2:DescribeAvailabilityZones", "ec2:DescribeInstances", "ec2:*Tags",
            ]),
        policy(
            "IAMUserChangePassword", 11, "Changing one's own password",
            #"""
            {"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Action":"iam:ChangePassword","Resource":"arn:aws:iam::*:user/*${aws:username}"},
            {"Effect":"Allow","Action":"iam:GetAccountPasswordPolicy","Resource":"*"}]}
            """#),
        allow(
            "AmazonEBSCSIDriverPolicy", 12, "What the EBS driver of Kubernetes needs", path: "/service-role/",
            actions: [
                "ec2:CreateSnapshot", "ec2:AttachVolume", "ec2:DetachVolume", "ec2:ModifyVolume", "ec2:CreateVolume", "ec2:DeleteVolume",
                "ec2:DeleteSnapshot", "ec2:CreateTags", "ec2:DeleteTags", "ec2:Describe*",
            ]),
    ].compactMap { $0 }

    private static let byARN = Dictionary(all.map { ($0.arn, $0) }, uniquingKeysWith: { first, _ in first })

    public static func find(_ arn: String) -> AWSManagedPolicy? { byARN[arn] }

    /// Everything is allowed: what the root of an account has.
    static let administrator = all.first?.parsed ?? Self.nothing
    /// What a text that were no policy would mean; the tests see to it that there is none.
    private static let nothing = PolicyDocument.none

    private static func allow(
        _ name: String, _ number: Int, _ description: String, path: String = "/", actions: [String]
    ) -> AWSManagedPolicy? {
        let list = actions.map { "\"\($0)\"" }.joined(separator: ",")
        return policy(
            name, number, description,
            #"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":[\#(list)],"Resource":"*"}]}"#, path: path)
    }

    private static func policy(
        _ name: String, _ number: Int, _ description: String, _ document: String, path: String = "/"
    ) -> AWSManagedPolicy? {
        guard let parsed = try? PolicyDocument(parsing: document) else { return nil }
        let id =
            "ANPAKARRI" + String(repeating: "A", count: 10) + String(decoding: [UInt8(ascii: "A") + UInt8(number)], as: UTF8.self) + "A"
        return AWSManagedPolicy(name: name, path: path, id: id, description: description, document: document, parsed: parsed)
    }
}
