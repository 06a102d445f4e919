public import Domain

/// What keeps a version from being deleted. Source: S3 User Guide, "Locking objects with Object Lock".
public struct ObjectLock: Sendable, Equatable {
    public enum Mode: String, Sendable {
        /// May be lifted by whoever has `s3:BypassGovernanceRetention`.
        case governance = "GOVERNANCE"
        /// By nobody.
        case compliance = "COMPLIANCE"
    }

    public var mode: Mode?
    public var until: Timestamp?
    /// `nil`: never said.
    public var legalHold: Bool?

    public init(mode: Mode? = nil, until: Timestamp? = nil, legalHold: Bool? = nil) {
        self.mode = mode
        self.until = until
        self.legalHold = legalHold
    }

    public var isEmpty: Bool { mode == nil && until == nil && legalHold == nil }

    /// - Parameter bypass: the caller may, and wants to, lift governance.
    /// - Throws: `AccessDenied` while the version must stay.
    public func checkRemoval(now: Timestamp, bypass: Bool) throws(CloudError) {
        if legalHold == true { throw Self.refusal("a legal hold") }
        guard let mode, let until, until > now else { return }
        if mode == .governance, bypass { return }
        throw Self.refusal("\(mode.rawValue) retention until \(until.iso8601)")
    }

    /// Whether retention may become `wanted`: it may be made longer; shorter, otherwise or none only when it is over, or governance and
    /// bypassed.
    /// - Throws: `AccessDenied`.
    public func checkChange(to wanted: ObjectLock, now: Timestamp, bypass: Bool) throws(CloudError) {
        guard let mode, let until, until > now else { return }
        if wanted.mode == mode, let longer = wanted.until, longer >= until { return }
        if mode == .governance, bypass { return }
        throw Self.refusal("\(mode.rawValue) retention until \(until.iso8601)")
    }

    private static func refusal(_ why: String) -> CloudError {
        S3Failure.named("AccessDenied", 403, "Access Denied because object protected by object lock.", context: why)
    }
}

/// A bucket's Object Lock: new versions are kept so long when their writer says nothing.
public struct BucketLock: Sendable, Equatable {
    public var mode: ObjectLock.Mode?
    public var days: Int?
    public var years: Int?

    public init(mode: ObjectLock.Mode? = nil, days: Int? = nil, years: Int? = nil) {
        self.mode = mode
        self.days = days
        self.years = years
    }

    /// What a version made now gets; `nil` without a default.
    public func retention(from now: Timestamp) -> ObjectLock? {
        guard let mode else { return nil }
        let day: Int64 = 86_400_000
        if let days { return ObjectLock(mode: mode, until: now.adding(milliseconds: Int64(days) * day)) }
        if let years { return ObjectLock(mode: mode, until: now.adding(milliseconds: Int64(years) * 365 * day)) }
        return nil
    }
}
