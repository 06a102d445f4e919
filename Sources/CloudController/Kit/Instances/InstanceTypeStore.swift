public import Database
public import Domain

/// What an instance gets: data, not code. Sizes are set in the table `cloud.instance_types`.
public struct InstanceType: Sendable, Equatable {
    public let name: String
    public let cores: Int
    public let memoryMiB: Int
    public let diskGiB: Int
    public init(name: String, cores: Int, memoryMiB: Int, diskGiB: Int) {
        self.name = name
        self.cores = cores
        self.memoryMiB = memoryMiB
        self.diskGiB = diskGiB
    }
}

public enum InstanceTypeStore {
    /// What RunInstances takes when no type is named. Source: EC2 API Reference, RunInstances.
    public static let standard = "m1.small"

    public static func all(_ tx: Transaction) throws(CloudError) -> [InstanceType] {
        try tx.execute("SELECT * FROM cloud.instance_types ORDER BY ordinal, name").map { type($0) }
    }

    /// - Throws: `InvalidParameterValue`, as EC2 answers a type that it has not got.
    public static func fetch(_ tx: Transaction, name: String) throws(CloudError) -> InstanceType {
        guard let row = try tx.execute("SELECT * FROM cloud.instance_types WHERE name = $1", .text(name)).first else {
            throw CloudError(
                .invalidParameter("InstanceType"),
                "Invalid value '\(name.prefix(60))' for InstanceType. See DescribeInstanceTypes for the types of this cloud.")
        }
        return type(row)
    }

    private static func type(_ r: Row) -> InstanceType {
        InstanceType(name: r.text("name"), cores: r.int("cores"), memoryMiB: r.int("memory_mib"), diskGiB: r.int("disk_gib"))
    }
}
