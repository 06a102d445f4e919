import API
import Domain
import Signing

/// One change that ModifyInstanceAttribute asks for. A request asks for exactly one.
enum InstanceAttributeChange: Sendable, Equatable {
    case type(String)
    case kernel(String)
    case ramdisk(String)
    case userData([UInt8])
    case terminationProtected(Bool)
    case stopProtected(Bool)
    case shutdownBehaviour(ShutdownBehaviour)
    case groups([String])
    /// By device name.
    case deleteOnTermination([String: Bool])
    /// It is asked to be what it is anyway.
    case nothing

    /// Whether the instance must be stopped for it.
    var needsStop: Bool {
        switch self {
        case .type, .kernel, .ramdisk, .userData: true
        case .terminationProtected, .stopProtected, .shutdownBehaviour, .groups, .deleteOnTermination, .nothing: false
        }
    }

    /// From either form: `DisableApiTermination.Value=true`, or `Attribute=disableApiTermination&Value=true`.
    /// - Throws: `.invalidCombination` for none or several; `.invalidParameter`; `UnsupportedOperation` for what cannot be here.
    init(_ r: EC2.ModifyInstanceAttribute) throws(CloudError) {
        var found: [InstanceAttributeChange] = []
        if let attribute = r.attribute, let value = r.value { found.append(try Self.named(attribute, value)) }
        if let value = r.instanceType?.value { found.append(.type(value)) }
        if let value = r.kernel?.value { found.append(.kernel(value)) }
        if let value = r.ramdisk?.value { found.append(.ramdisk(value)) }
        if let data = r.userData { found.append(try Self.checkedUserData(data.value ?? [])) }
        if let value = r.disableApiTermination?.value { found.append(.terminationProtected(value)) }
        if let value = r.disableApiStop?.value { found.append(.stopProtected(value)) }
        if let value = r.instanceInitiatedShutdownBehavior?.value { found.append(try Self.behaviour(value)) }
        if let value = r.sourceDestCheck?.value { found.append(try Self.fixed(value, true, NetworkInterfaceRules.sourceCheck)) }
        if let value = r.ebsOptimized?.value { found.append(try Self.fixed(value, false, Self.notHere("EBS optimisation"))) }
        if let value = r.enaSupport?.value { found.append(try Self.fixed(value, false, Self.notHere("ENA"))) }
        if r.sriovNetSupport?.value != nil { throw Self.notHere("SR-IOV") }
        if !r.groups.isEmpty { found.append(.groups(r.groups)) }
        if !r.blockDeviceMappings.isEmpty { found.append(try Self.mappings(r.blockDeviceMappings)) }
        guard let first = found.first else { throw CloudError(.missingParameter("Attribute")) }
        guard found.count == 1 else { throw CloudError(.invalidCombination("Fields for multiple attribute types specified")) }
        self = first
    }

    private static func named(_ attribute: String, _ value: String) throws(CloudError) -> InstanceAttributeChange {
        switch attribute {
        case "instanceType": return .type(value)
        case "kernel": return .kernel(value)
        case "ramdisk": return .ramdisk(value)
        case "userData":
            guard let bytes = Base64.decode(value) else { throw CloudError(.invalidParameter("Value"), "User data is base64") }
            return try checkedUserData(bytes)
        case "disableApiTermination": return .terminationProtected(try boolean(value))
        case "disableApiStop": return .stopProtected(try boolean(value))
        case "instanceInitiatedShutdownBehavior": return try behaviour(value)
        case "sourceDestCheck": return try fixed(try boolean(value), true, NetworkInterfaceRules.sourceCheck)
        case "ebsOptimized": return try fixed(try boolean(value), false, notHere("EBS optimisation"))
        case "enaSupport": return try fixed(try boolean(value), false, notHere("ENA"))
        default: throw notHere("Changing \(attribute)")
        }
    }

    private static func boolean(_ text: String) throws(CloudError) -> Bool {
        switch text.lowercased() {
        case "true": return true
        case "false": return false
        default: throw CloudError(.invalidParameter("Value"), "Value (\(text.prefix(20))) is neither true nor false")
        }
    }

    private static func behaviour(_ text: String) throws(CloudError) -> InstanceAttributeChange {
        guard let behaviour = ShutdownBehaviour(rawValue: text) else {
            throw CloudError(
                .invalidParameter("instanceInitiatedShutdownBehavior"),
                "Value (\(text.prefix(20))) for parameter instanceInitiatedShutdownBehavior is invalid: stop or terminate")
        }
        return .shutdownBehaviour(behaviour)
    }

    private static func checkedUserData(_ bytes: [UInt8]) throws(CloudError) -> InstanceAttributeChange {
        guard bytes.count <= 16_384 else { throw CloudError(.invalidParameter("UserData"), "User data is limited to 16384 bytes") }
        return .userData(bytes)
    }

    private static func fixed(_ value: Bool, _ only: Bool, _ refusal: CloudError) throws(CloudError) -> InstanceAttributeChange {
        guard value == only else { throw refusal }
        return .nothing
    }

    private static func mappings(_ list: [EC2.InstanceBlockDeviceMappingSpecification]) throws(CloudError) -> InstanceAttributeChange {
        var out: [String: Bool] = [:]
        for mapping in list {
            guard let device = mapping.deviceName else { throw CloudError(.missingParameter("BlockDeviceMapping.DeviceName")) }
            guard let value = mapping.ebs?.deleteOnTermination else {
                throw CloudError(.missingParameter("BlockDeviceMapping.Ebs.DeleteOnTermination"))
            }
            out[device] = value
        }
        return .deleteOnTermination(out)
    }

    static func notHere(_ what: String) -> CloudError { VpcRules.unsupported("\(what) is not supported by this cloud.") }
}

enum InstanceAttributeRules {
    static func mustBeStopped(_ row: InstanceRow) -> CloudError {
        CloudError(
            .named(code: "IncorrectInstanceState", status: 400),
            "The instance '\(row.id)' is not in the 'stopped' state: it is '\(row.state.rawValue)'.")
    }

    /// The last password that a Windows machine has written on its console: `<Password>` and base64, encrypted for the key pair.
    /// Source: EC2 API Reference, GetPasswordData; EC2Launch writes it in this form.
    static func password(onConsole bytes: [UInt8]) -> String {
        let text = String(decoding: bytes, as: UTF8.self)
        guard let open = text.ranges(of: "<Password>").last else { return "" }
        guard let close = text[open.upperBound...].firstRange(of: "</Password>") else { return "" }
        return String(text[open.upperBound..<close.lowerBound].filter { !$0.isWhitespace })
    }
}
