/// What went wrong, by what the caller can do about it. Each wire maps it to its own codes in one exhaustive switch
/// (`EC2ErrorCode`, `S3ErrorCode`); nothing else in Karri knows a wire's code, except `.named`.
///
/// `message` goes to the caller; `context` goes to the log only and may hold what a caller must not see.
public struct CloudError: Error, Sendable, Equatable {
    public enum Reason: Sendable, Equatable {
        /// No such resource, or one that the caller may not know of.
        case notFound(ResourceKind, id: String)
        case malformedID(ResourceKind, id: String)
        case duplicate(ResourceKind, name: String)
        /// The resource is used by `by`, so that it cannot be deleted or changed.
        case inUse(ResourceKind, id: String, by: String)
        /// The resource's state does not allow the action.
        case incorrectState(ResourceKind, id: String, state: String)
        case missingParameter(String)
        case invalidParameter(String)
        case invalidCombination(String)
        case unknownAction(String)
        case malformedRequest
        case requestTooLarge(limit: Int)
        /// A quota of the account: says which, what was asked and what the limit is.
        case limitExceeded(LimitName, asked: Int, limit: Int)
        /// The cloud has not got it now.
        case capacity(Shortage)
        case unauthenticated(AuthenticationFailure)
        case forbidden(action: String)
        case dryRunSucceeded
        /// A client token was used before with other parameters.
        case idempotencyMismatch
        /// An older command than one that has been seen (`ARCHITECTURE.md` §4, generations).
        case stale(newest: Int64)
        /// A part of the cloud cannot be reached or is not ready: try again.
        case unavailable(String)
        case bug
        /// A code that only one wire knows (S3's `InvalidPart`, EC2's `InvalidManifest`).
        case named(code: String, status: Int)
    }

    public let reason: Reason
    public let message: String
    public let context: String

    public init(_ reason: Reason, _ message: String? = nil, context: String = "") {
        self.reason = reason
        self.message = message ?? Self.standardMessage(reason)
        self.context = context
    }

    /// Our own fault: the caller sees "internal error", the log sees `context`.
    public static func bug(_ context: String) -> CloudError { CloudError(.bug, context: context) }

    private static func standardMessage(_ reason: Reason) -> String {
        switch reason {
        case .notFound(let kind, let id): "The \(kind.words) '\(id)' does not exist"
        case .malformedID(let kind, let id): "Invalid id: \"\(id)\" (expecting \"\(kind.prefix)-...\")"
        case .duplicate(let kind, let name): "The \(kind.words) '\(name)' already exists."
        case .inUse(let kind, let id, let by): "The \(kind.words) '\(id)' is in use by \(by)"
        case .incorrectState(let kind, let id, let state): "The \(kind.words) '\(id)' is in state '\(state)', which does not allow this"
        case .missingParameter(let name): "The request must contain the parameter \(name)"
        case .invalidParameter(let name): "The value of the parameter \(name) is not valid"
        case .invalidCombination(let what): what
        case .unknownAction(let name): "The action \(name) is not valid for this web service."
        case .malformedRequest: "The request is malformed"
        case .requestTooLarge(let limit): "The request is larger than the limit of \(limit) bytes"
        case .limitExceeded(let name, let asked, let limit):
            "You have requested more \(name.words) (\(asked)) than your current limit of \(limit) allows for."
        case .capacity(let shortage): shortage.description
        case .unauthenticated(let failure): failure.message
        case .forbidden: "You are not authorized to perform this operation."
        case .dryRunSucceeded: "Request would have succeeded, but DryRun flag is set."
        case .idempotencyMismatch: "Arguments on this idempotent request are inconsistent with arguments used in previous request(s)."
        case .stale(let newest): "The command is older than generation \(newest), which was seen before"
        case .unavailable(let what): "\(what) is not available at this time; try again"
        case .bug: "An internal error has occurred"
        case .named(let code, _): code
        }
    }
}

public enum ResourceKind: String, Sendable, CaseIterable {
    case address, addressAssociation, attachment, bucket, bundleTask, dhcpOptions, image, instance, instanceType, internetGateway, keyPair
    case launchTemplate, networkAcl, networkInterface, node, object, placementGroup, reservation, routeTable, securityGroup
    case securityGroupRule, snapshot, subnet, upload, user, volume, vpc, zone

    /// The prefix of its ids, for messages.
    public var prefix: String {
        switch self {
        case .address: "eipalloc"
        case .addressAssociation: "eipassoc"
        case .attachment: "attach"
        case .bundleTask: "bun"
        case .dhcpOptions: "dopt"
        case .image: "emi"
        case .instance: "i"
        case .internetGateway: "igw"
        case .keyPair: "key"
        case .launchTemplate: "lt"
        case .networkAcl: "acl"
        case .networkInterface: "eni"
        case .placementGroup: "pg"
        case .reservation: "r"
        case .routeTable: "rtb"
        case .securityGroup: "sg"
        case .securityGroupRule: "sgr"
        case .snapshot: "snap"
        case .subnet: "subnet"
        case .volume: "vol"
        case .vpc: "vpc"
        case .bucket, .instanceType, .node, .object, .upload, .user, .zone: rawValue
        }
    }

    /// As a message says it.
    public var words: String {
        switch self {
        case .addressAssociation: "address association"
        case .bundleTask: "bundle task"
        case .dhcpOptions: "dhcpOption ID"
        case .image: "image id"
        case .instance: "instance ID"
        case .instanceType: "instance type"
        case .internetGateway: "internetGateway ID"
        case .keyPair: "key pair"
        case .launchTemplate: "launch template"
        case .networkAcl: "networkAcl ID"
        case .networkInterface: "networkInterface ID"
        case .placementGroup: "placement group"
        case .routeTable: "routeTable ID"
        case .securityGroup: "security group"
        case .securityGroupRule: "security group rule"
        case .subnet: "subnet ID"
        case .vpc: "vpc ID"
        case .zone: "availability zone"
        case .address, .attachment, .bucket, .node, .object, .reservation, .snapshot, .upload, .user, .volume: rawValue
        }
    }
}

public enum LimitName: String, Sendable {
    case instances, cores, volumes, volumeGiB, snapshots, addresses, keyPairs, securityGroups, rulesPerGroup, buckets, objectBytes
    public var words: String {
        switch self {
        case .volumeGiB: "gigabytes of volumes"
        case .keyPairs: "key pairs"
        case .securityGroups: "security groups"
        case .rulesPerGroup: "rules per security group"
        case .objectBytes: "bytes of objects"
        case .instances, .cores, .volumes, .snapshots, .addresses, .buckets: rawValue
        }
    }
}

/// Why authentication failed. The caller sees the message of its class only; the exact cause goes to the log.
public enum AuthenticationFailure: String, Sendable {
    case missing, badSignature, unknownKey, expired, notYetValid, replayed, malformed, insecure
    public var message: String {
        switch self {
        case .missing: "The request must contain authentication: a signature with an access key, or an X.509 certificate"
        case .expired, .notYetValid: "Request has expired. The difference between the request time and the current time is too large"
        case .badSignature, .unknownKey, .replayed, .malformed, .insecure:
            "The cloud was not able to validate the provided access credentials"
        }
    }
}

/// A finite thing that has run out: what was asked, what is free, what the limit is, and where.
/// Source: `ARCHITECTURE.md` §6.
public struct Shortage: Sendable, Equatable, CustomStringConvertible {
    public enum Resource: String, Sendable {
        case cores, memoryMiB, diskGiB, cacheMiB, privateAddresses, publicAddresses, volumeGiB, snapshotGiB, objectBytes, connections
        case nodes
        public var words: String {
            switch self {
            case .cores: "cores"
            case .memoryMiB: "MiB of memory"
            case .diskGiB: "GiB of disk"
            case .cacheMiB: "MiB of image cache"
            case .privateAddresses: "private addresses"
            case .publicAddresses: "public addresses"
            case .volumeGiB: "GiB of volumes"
            case .snapshotGiB: "GiB of snapshots"
            case .objectBytes: "bytes of objects"
            case .connections: "connections"
            case .nodes: "nodes"
            }
        }
    }
    /// One place where it does not fit, and by how much.
    public struct Place: Sendable, Equatable, CustomStringConvertible {
        public let place: String
        public let resource: Resource
        public let asked, free, limit: Int
        public init(_ place: String, _ resource: Resource, asked: Int, free: Int, limit: Int) {
            self.place = place
            self.resource = resource
            self.asked = asked
            self.free = free
            self.limit = limit
        }
        public var description: String { "\(place): asked \(asked) \(resource.words), \(free) free of \(limit)" }
    }
    public let resource: Resource
    public let places: [Place]
    public init(_ resource: Resource, _ places: [Place]) {
        self.resource = resource
        self.places = places
    }
    public var description: String {
        let head = "Insufficient capacity."
        return places.isEmpty ? head + " No node is available." : head + " " + places.map(\.description).joined(separator: "; ")
    }
}
