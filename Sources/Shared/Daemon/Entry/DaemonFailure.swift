public import Domain

/// What the log says about an error: with the context that callers must not see.
public enum DaemonFailure {
    public static func text(_ error: any Error) -> String {
        guard let known = error as? CloudError else { return "\(error)" }
        return known.context.isEmpty ? known.message : "\(known.message) (\(known.context))"
    }

    /// Anything as a `CloudError`; what is not one is our own fault, except a cancelled task.
    public static func cloudError(_ error: any Error) -> CloudError {
        if let known = error as? CloudError { return known }
        if error is CancellationError { return CloudError(.unavailable("The service"), context: "the task was cancelled") }
        return .bug("\(error)")
    }
}
