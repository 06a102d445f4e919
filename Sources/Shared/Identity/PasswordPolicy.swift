public import Domain

/// What the passwords of an account's users must be. Source: IAM User Guide, "Setting an account password policy for IAM users".
public struct PasswordPolicy: Sendable, Hashable {
    public var minimumLength = 8
    public var requireSymbols = false
    public var requireNumbers = false
    public var requireUppercase = false
    public var requireLowercase = false
    public var allowUsersToChange = true
    /// Days; `nil`: for ever.
    public var maxAgeDays: Int?
    /// How many of the last passwords may not come again.
    public var reusePrevention: Int?
    public var hardExpiry = false

    public init() {}

    /// - Throws: `PasswordPolicyViolation`, which says what is missing and never the password.
    public func check(_ password: String) throws(CloudError) {
        func refused(_ what: String) -> CloudError {
            CloudError(
                .named(code: "PasswordPolicyViolation", status: 400),
                "The password does not conform to the account password policy: \(what).")
        }
        let bytes = Array(password.utf8)
        guard (minimumLength...128).contains(password.count) else { throw refused("it has \(minimumLength) to 128 characters") }
        if requireNumbers, !bytes.contains(where: { $0 >= 0x30 && $0 <= 0x39 }) { throw refused("it needs a digit") }
        if requireUppercase, !bytes.contains(where: { $0 >= 0x41 && $0 <= 0x5a }) { throw refused("it needs an upper-case letter") }
        if requireLowercase, !bytes.contains(where: { $0 >= 0x61 && $0 <= 0x7a }) { throw refused("it needs a lower-case letter") }
        if requireSymbols, !bytes.contains(where: { "!@#$%^&*()_+-=[]{}|'".utf8.contains($0) }) { throw refused("it needs a symbol") }
    }

    var json: JSONValue {
        var members: [JSONValue.Member] = [
            .init("minimumLength", .integer(minimumLength)), .init("requireSymbols", .boolean(requireSymbols)),
            .init("requireNumbers", .boolean(requireNumbers)), .init("requireUppercase", .boolean(requireUppercase)),
            .init("requireLowercase", .boolean(requireLowercase)), .init("allowUsersToChange", .boolean(allowUsersToChange)),
            .init("hardExpiry", .boolean(hardExpiry)),
        ]
        if let maxAgeDays { members.append(.init("maxAgeDays", .integer(maxAgeDays))) }
        if let reusePrevention { members.append(.init("reusePrevention", .integer(reusePrevention))) }
        return .object(members)
    }

    init(_ json: JSONValue) {
        minimumLength = json["minimumLength"]?.integer ?? 8
        requireSymbols = json["requireSymbols"]?.flag ?? false
        requireNumbers = json["requireNumbers"]?.flag ?? false
        requireUppercase = json["requireUppercase"]?.flag ?? false
        requireLowercase = json["requireLowercase"]?.flag ?? false
        allowUsersToChange = json["allowUsersToChange"]?.flag ?? true
        hardExpiry = json["hardExpiry"]?.flag ?? false
        maxAgeDays = json["maxAgeDays"]?.integer
        reusePrevention = json["reusePrevention"]?.integer
    }
}
