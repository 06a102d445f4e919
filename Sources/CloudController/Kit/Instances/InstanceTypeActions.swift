public import API
import Database
public import Domain
import Wire

extension EC2Actions {
    public func describeInstanceTypes(
        _ request: EC2.DescribeInstanceTypes, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeInstanceTypesResponse {
        let filters = try Filters(request.filters, known: Self.typeFilters)
        let paging = try cloud.paging(request, op, maxResults: request.maxResults, nextToken: request.nextToken)
        try op.endDryRun(request.dryRun)
        let all = try await cloud.pool.read { tx in try InstanceTypeStore.all(tx) }
        let unknown = request.instanceTypes.filter { name in !name.contains("*") && !all.contains { $0.name == name } }
        guard unknown.isEmpty else {
            throw CloudError(
                .named(code: "InvalidInstanceType", status: 400),
                "The following supplied instance types do not exist: [\(unknown.map { String($0.prefix(60)) }.joined(separator: ", "))]")
        }
        let patterns = request.instanceTypes.map { FilterPattern($0) }
        let matching = all.filter { type in
            (patterns.isEmpty || patterns.contains { $0.matches(type.name) }) && filters.match { Self.values(type, $0) }
        }
        // Two actions under one name (`reference/ec2.md` §1.6): a Version that is no EC2 date is Eucalyptus' own client.
        if !APIDate.isDate(op.apiVersion) {
            let views = request.availability == true ? try await nodeViews(op) : [:]
            return EC2.DescribeInstanceTypesResponse(instanceTypeDetails: matching.map { Self.details($0, views) })
        }
        let (page, next) = paging.page(matching.sorted { $0.name < $1.name }, by: \.name)
        return EC2.DescribeInstanceTypesResponse(instanceTypes: page.map(Self.info), nextToken: next)
    }

    static let typeFilters: Set<String> = [
        "instance-type", "current-generation", "bare-metal", "hypervisor", "memory-info.size-in-mib", "vcpu-info.default-vcpus",
        "vcpu-info.default-cores", "processor-info.supported-architecture", "supported-root-device-type", "supported-virtualization-type",
        "supported-usage-class", "instance-storage-supported", "instance-storage-info.total-size-in-gb", "burstable-performance-supported",
        "hibernation-supported", "free-tier-eligible",
    ]

    private static func values(_ type: InstanceType, _ name: String) -> [String] {
        switch name {
        case "instance-type": [type.name]
        case "current-generation", "instance-storage-supported": ["true"]
        case "bare-metal", "burstable-performance-supported", "hibernation-supported", "free-tier-eligible": ["false"]
        case "memory-info.size-in-mib": [String(type.memoryMiB)]
        case "vcpu-info.default-vcpus", "vcpu-info.default-cores": [String(type.cores)]
        case "processor-info.supported-architecture": ["x86_64"]
        case "supported-root-device-type": ["instance-store"]
        case "supported-virtualization-type": ["hvm"]
        case "supported-usage-class": ["on-demand"]
        case "instance-storage-info.total-size-in-gb": [String(type.diskGiB)]
        default: []
        }
    }

    private static func info(_ type: InstanceType) -> EC2.InstanceTypeInfo {
        EC2.InstanceTypeInfo(
            instanceType: type.name, currentGeneration: true, freeTierEligible: false, supportedUsageClasses: ["on-demand"],
            supportedRootDeviceTypes: ["instance-store"], supportedVirtualizationTypes: ["hvm"], bareMetal: false,
            processorInfo: EC2.ProcessorInfo(supportedArchitectures: ["x86_64"]),
            vCpuInfo: EC2.VCpuInfo(defaultVCpus: type.cores, defaultCores: type.cores, defaultThreadsPerCore: 1),
            memoryInfo: EC2.MemoryInfo(sizeInMiB: type.memoryMiB), instanceStorageSupported: true,
            instanceStorageInfo: EC2.InstanceStorageInfo(
                totalSizeInGB: type.diskGiB, disks: [EC2.DiskInfo(sizeInGB: type.diskGiB, count: 1, type: "ssd")],
                nvmeSupport: "unsupported"),
            ebsInfo: EC2.EbsInfo(ebsOptimizedSupport: "unsupported", encryptionSupport: "unsupported", nvmeSupport: "unsupported"),
            networkInfo: EC2.NetworkInfo(
                networkPerformance: "Moderate", maximumNetworkInterfaces: 1, ipv4AddressesPerInterface: 1, ipv6AddressesPerInterface: 0,
                ipv6Supported: false, enaSupport: "unsupported"),
            hibernationSupported: false, burstablePerformanceSupported: false, dedicatedHostsSupported: false, autoRecoverySupported: false,
            supportedBootModes: ["legacy-bios"])
    }

    /// How many of this type each zone has room for, in all and now.
    private static func details(_ type: InstanceType, _ zones: [String: [CC.NodeView]]) -> EC2.InstanceTypeDetails {
        func fits(_ cores: Int?, _ memory: Int?, _ disk: Int?) -> Int {
            max(0, min((cores ?? 0) / type.cores, (memory ?? 0) / type.memoryMiB, (disk ?? 0) / type.diskGiB))
        }
        return EC2.InstanceTypeDetails(
            name: type.name, cpu: type.cores, disk: type.diskGiB, memory: type.memoryMiB,
            availability: zones.sorted { $0.key < $1.key }.map { zone, nodes in
                EC2.InstanceTypeZone(
                    zoneName: zone, max: nodes.reduce(0) { $0 + fits($1.report?.cores, $1.report?.memoryMiB, $1.report?.diskGiB) },
                    available: nodes.reduce(0) { $0 + ($1.state == "up" ? fits($1.freeCores, $1.freeMemoryMiB, $1.freeDiskGiB) : 0) })
            })
    }

    private func nodeViews(_ op: OperationContext) async throws(CloudError) -> [String: [CC.NodeView]] {
        var out: [String: [CC.NodeView]] = [:]
        for component in try await cloud.cluster.components() where component.role == .cc {
            // A zone that does not answer has nothing available, and the others still show.
            out[component.zone] =
                (try? await cloud.cluster.client(component).describeNodes(CC.DescribeNodes(), cloud.callContext(op.requestID)))?.nodes ?? []
        }
        return out
    }
}
