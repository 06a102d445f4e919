public import Domain

/// The signature of a POST form's policy, versions 2 and 4: over the policy's Base64 text as it was sent.
/// Source: S3 API reference, "Authenticating requests: browser-based uploads using POST".
public struct PolicySignature: Sendable {
    public let accessKeyID: String
    public let sessionToken: String?
    private let policy: String
    private let form: Form
    private enum Form: Sendable {
        case v2(signature: [UInt8])
        case v4(scope: CredentialScope, date: Timestamp, signature: [UInt8])
    }

    /// - Parameter field: the form's fields by lower-case names.
    /// - Returns: `nil` when no field speaks of a signature: an anonymous form.
    /// - Throws: `InvalidArgument` for half a signature; it never falls through to anonymous.
    public static func parse(_ field: (String) -> String?) throws(CloudError) -> PolicySignature? {
        let names = [
            "policy", "signature", "awsaccesskeyid", "x-amz-signature", "x-amz-algorithm", "x-amz-credential", "x-amz-security-token",
        ]
        guard names.contains(where: { field($0) != nil }) else { return nil }
        func needed(_ name: String, _ shown: String) throws(CloudError) -> String {
            guard let value = field(name) else {
                throw invalid(
                    "Bucket POST must contain a field named '\(shown)'.  If it is specified, please check the order of the fields.")
            }
            return value
        }
        let policy = try needed("policy", "policy")
        let token = field("x-amz-security-token")
        let isV4 = ["x-amz-signature", "x-amz-algorithm", "x-amz-credential"].contains { field($0) != nil }
        guard isV4 else {
            let key = try needed("awsaccesskeyid", "AWSAccessKeyId")
            // A signature of a wrong form cannot be right; it is compared as an empty one.
            let signature = Base64.decode(try needed("signature", "signature")) ?? []
            return PolicySignature(accessKeyID: key, sessionToken: token, policy: policy, form: .v2(signature: signature))
        }
        guard field("signature") == nil, field("awsaccesskeyid") == nil else {
            throw invalid("A form is signed by version 2 or version 4, not by both")
        }
        guard try needed("x-amz-algorithm", "X-Amz-Algorithm") == CanonicalV4.algorithm else {
            throw invalid("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"")
        }
        guard let scope = CredentialScope(credential: try needed("x-amz-credential", "X-Amz-Credential")) else {
            throw invalid("Error parsing the X-Amz-Credential parameter; the Credential is malformed")
        }
        let dateText = try needed("x-amz-date", "X-Amz-Date")
        guard let date = Timestamp(basic: dateText), dateText.hasPrefix(scope.day) else {
            throw invalid("X-Amz-Date must be in the ISO8601 Long Format and on the day of the Credential")
        }
        let signature = Hex.decode(try needed("x-amz-signature", "X-Amz-Signature").asciiLowercased) ?? []
        return PolicySignature(
            accessKeyID: scope.accessKeyID, sessionToken: token, policy: policy, form: .v4(scope: scope, date: date, signature: signature))
    }

    /// - Throws: `.unauthenticated(.badSignature)`; `AccessDenied` for a form that was signed in the future, or longer ago than a
    ///   presigned URL may live. How long the policy holds is in the policy.
    public func verify(secret: String, now: Timestamp) throws(CloudError) {
        switch form {
        case .v2(let signature):
            guard constantTimeEqual(HMAC.sha1(key: Array(secret.utf8), policy.utf8), signature) else { throw mismatch }
        case .v4(let scope, let date, let signature):
            let key = CanonicalV4.signingKey(secret: secret, day: scope.day, region: scope.region, service: scope.service)
            guard constantTimeEqual(CanonicalV4.signature(key: key, policy), signature) else { throw mismatch }
            let age = now.milliseconds - date.milliseconds
            guard age >= -AWSSignature.skewSeconds * 1000, age <= Int64(AWSSignature.longestExpiry) * 1000 else {
                throw CloudError(.named(code: "AccessDenied", status: 403), "Invalid according to Policy: Policy expired.")
            }
        }
    }

    private var mismatch: CloudError {
        CloudError(.unauthenticated(.badSignature), context: "the policy's signature by \(accessKeyID) does not match")
    }

    private static func invalid(_ message: String) -> CloudError { CloudError(.named(code: "InvalidArgument", status: 400), message) }
}
