public import Domain

/// IAM's refusals, in its words. Source: IAM API Reference, the errors of each action.
public enum IdentityError {
    public static func missing(_ what: String, _ name: String) -> CloudError {
        CloudError(.named(code: "NoSuchEntity", status: 404), "The \(what) with name \(name) cannot be found.")
    }

    public static func exists(_ what: String, _ name: String) -> CloudError {
        CloudError(.named(code: "EntityAlreadyExists", status: 409), "The \(what) with name \(name) already exists.")
    }

    /// It cannot go while others hang on it.
    public static func conflict(_ problem: String) -> CloudError {
        CloudError(.named(code: "DeleteConflict", status: 409), problem)
    }

    /// - Parameters:
    ///   - asked: the number that there would be.
    public static func limit(_ what: String, asked: Int, limit: Int) -> CloudError {
        CloudError(.named(code: "LimitExceeded", status: 409), "Cannot exceed quota for \(what): \(limit) (asked for \(asked)).")
    }

    public static func invalid(_ parameter: String, _ problem: String) -> CloudError {
        CloudError(.named(code: "ValidationError", status: 400), "The value of \(parameter) is not valid: \(problem)")
    }

    public static func input(_ problem: String) -> CloudError {
        CloudError(.named(code: "InvalidInput", status: 400), problem)
    }
}
