public import Daemon
public import Database
public import Domain
public import Identity
public import Workflow

/// What every handler, rule and reconciler of the controller shares. Made once, by hand, in `CloudController.assemble`.
public struct CloudServices: Sendable {
    public let pool: DatabasePool
    public let identity: IdentityStore
    public let clock: any Workflow.Clock
    public let random: any Workflow.Random
    public let faults: any Workflow.Faults
    public let settings: CloudSettings
    /// The other daemons of each zone.
    public let cluster: ClusterRegistry
    /// The cloud's image key, its user-facing counterpart and what presigns object addresses.
    public let keys: CloudKeys
    /// For the object store. One client for all: each has its own thread and connections.
    public let http: any HTTPRequesting

    public init(
        pool: DatabasePool, identity: IdentityStore, clock: any Workflow.Clock, random: any Workflow.Random,
        faults: any Workflow.Faults = NoFaults(), settings: CloudSettings, cluster: ClusterRegistry, keys: CloudKeys,
        http: (any HTTPRequesting)? = nil
    ) {
        self.pool = pool
        self.identity = identity
        self.clock = clock
        self.random = random
        self.faults = faults
        self.settings = settings
        self.cluster = cluster
        self.keys = keys
        self.http = http ?? HTTPClient()
    }
}

/// The one value that implements the EC2 actions. Each resource's folder adds the conformance for its protocol
/// (`extension EC2Actions: EC2VolumesActions`), so that an action without an implementation does not compile.
public struct EC2Actions: Sendable {
    public typealias Context = OperationContext
    public let cloud: CloudServices
    public init(_ cloud: CloudServices) { self.cloud = cloud }
}

/// Names, ranges and limits of this cloud, from `clc.conf`.
public struct CloudSettings: Sendable {
    public var region: String
    public var zone: String
    /// The host name that clients see in answers (DescribeRegions' endpoint, the WSDL's address).
    public var serviceHost: String
    public var servicePort: Int
    /// `http://127.0.0.1:8778`: what nodes and this controller call Walrus by.
    public var walrusEndpoint: String
    public var publicPool: CIDR
    public var privateNetwork: CIDR
    public var gateway: IPv4Address
    public var dns: [String]
    /// External SOAP signed with RSA-SHA1, as the EC2 API tools do.
    public var allowSHA1: Bool
    /// How many of each an account may have.
    public var quotas: Quotas

    public struct Quotas: Sendable {
        public var instances = 500
        public var cores = 1000
        public var volumes = 1000
        public var volumeGiB = 20_000
        public var snapshots = 2000
        public var addresses = 100
        public var keyPairs = 1000
        public var securityGroups = 500
        public var rulesPerGroup = 200
        public init() {}
    }

    public init(
        region: String = "karri-1", zone: String = "karri-1a", serviceHost: String = "127.0.0.1", servicePort: Int = 8773,
        walrusEndpoint: String = "http://127.0.0.1:8778", publicPool: CIDR = CIDR(parsing: "198.18.0.0/24")!,
        privateNetwork: CIDR = CIDR(parsing: "10.1.0.0/16")!, gateway: IPv4Address = IPv4Address(parsing: "10.1.0.1")!,
        dns: [String] = [], allowSHA1: Bool = true, quotas: Quotas = Quotas()
    ) {
        self.region = region
        self.zone = zone
        self.serviceHost = serviceHost
        self.servicePort = servicePort
        self.walrusEndpoint = walrusEndpoint
        self.publicPool = publicPool
        self.privateNetwork = privateNetwork
        self.gateway = gateway
        self.dns = dns
        self.allowSHA1 = allowSHA1
        self.quotas = quotas
    }

    /// `arn:aws:ec2:<region>:<account>:<type>/<id>`
    public func arn(_ type: String, _ id: String, account: String) -> String { "arn:aws:ec2:\(region):\(account):\(type)/\(id)" }
}
