public import API
public import Domain
import Wire

/// What a node was told about one instance and what it has done about it. The world (libvirt, files) says the rest; nothing is
/// written here that can be seen there.
public struct InstanceRecord: Sendable, Equatable {
    public enum Desired: String, Sendable { case running, stopped, terminated }

    public let instanceID: String
    public var desired: Desired
    /// The newest generation that was accepted; older commands are stale.
    public var generation: Int
    /// `nil` for a tombstone of an instance that this node never had.
    public var order: NC.InstanceOrder?
    /// The generation whose start is done. A domain that is shut off later was shut down by somebody: it is not started again.
    public var startedGeneration = 0
    /// Why the generation could not be carried out; empty when it could, or is being.
    public var failure = ""
    /// How the started domain ended by itself, as first seen (`guest`, `crashed`, `host`, …): libvirtd forgets it when it is restarted.
    public var ending = ""
    /// For stop and terminate: no ACPI.
    public var force = false
    public var graceSeconds = 0
    /// When the guest was asked by ACPI to shut down, for the grace.
    public var shutdownAskedAt: Timestamp?
    /// The newest reboot asked for, and the newest done.
    public var rebootCount = 0
    public var rebootsDone = 0
    public var rebootAskedAt: Timestamp?
    public var volumes: [VolumeRecord] = []
    public var trace: [TracePoint] = []
    /// When a terminated instance was gone from the node: it is a tombstone from then on.
    public var endedAt: Timestamp?

    public struct TracePoint: Sendable, Equatable {
        public var step: String
        public var at: Timestamp
    }

    public init(instanceID: String, desired: Desired, generation: Int, order: NC.InstanceOrder?) {
        self.instanceID = instanceID
        self.desired = desired
        self.generation = generation
        self.order = order
    }

    public var isTombstone: Bool { endedAt != nil }

    /// Notes the first time of a step; a repeated step keeps its time.
    public mutating func note(_ step: String, at: Timestamp) {
        if !trace.contains(where: { $0.step == step }) { trace.append(TracePoint(step: step, at: at)) }
    }

    /// Keys of the cache files that this instance is made of.
    public var cacheKeys: [String] {
        guard let order, !isTombstone else { return [] }
        return [order.machine, order.kernel, order.ramdisk].compactMap { $0?.cacheKey }
    }
}

/// One attachment of a volume to an instance, as journaled. A detached one stays as a tombstone with its generation.
public struct VolumeRecord: Sendable, Equatable {
    public enum State: String, Sendable { case attaching, attached, detaching, detached, failed }

    public var order: NC.VolumeOrder
    public var generation: Int
    public var state: State
    public var force = false
    /// The export was revoked before the guest let go.
    public var fenced = false
    public var error = ""
    /// `vdb` … `vdz`, taken when the attachment was accepted.
    public var target: String
    /// The export, once the storage controller gave it.
    public var export: Export?
    public var detachedAt: Timestamp?

    /// An answer of the storage controller to ExportVolume.
    public struct Export: Sendable, Equatable {
        public var host: String
        public var port: Int
        /// Secret of the attachment.
        public var name: String
        public var tlsHostname: String
    }

    public init(order: NC.VolumeOrder, generation: Int, state: State, target: String) {
        self.order = order
        self.generation = generation
        self.state = state
        self.target = target
    }

    public var isGone: Bool { state == .detached }
}

// MARK: Text

extension InstanceRecord {
    var recordValue: Value {
        var f: [String: Value] = [
            "instanceId": .text(instanceID), "desired": .text(desired.rawValue), "generation": .integer(generation),
            "startedGeneration": .integer(startedGeneration), "failure": .text(failure), "ending": .text(ending), "force": .boolean(force),
            "graceSeconds": .integer(graceSeconds), "rebootCount": .integer(rebootCount), "rebootsDone": .integer(rebootsDone),
            "volumes": .list(volumes.map(\.recordValue)),
            "trace": .list(trace.map { .record(["step": .text($0.step), "at": .timestamp($0.at)]) }),
        ]
        if let order { f["order"] = order.wireValue }
        if let shutdownAskedAt { f["shutdownAskedAt"] = .timestamp(shutdownAskedAt) }
        if let rebootAskedAt { f["rebootAskedAt"] = .timestamp(rebootAskedAt) }
        if let endedAt { f["endedAt"] = .timestamp(endedAt) }
        return .record(f)
    }

    init(recordValue: Value) throws(CloudError) {
        let f = try recordValue.fields()
        let word = try f.text("desired")
        guard let desired = Desired(rawValue: word) else { throw CloudError.bug("a journal record desires \(word)") }
        var order: NC.InstanceOrder?
        if let value = f["order"] { order = try NC.InstanceOrder(value) }
        self.init(instanceID: try f.text("instanceId"), desired: desired, generation: try f.integer("generation"), order: order)
        startedGeneration = try f.integer("startedGeneration")
        failure = try f.text("failure")
        ending = try f.textIfPresent("ending") ?? ""
        force = try f.boolean("force")
        graceSeconds = try f.integer("graceSeconds")
        rebootCount = try f.integer("rebootCount")
        rebootsDone = try f.integer("rebootsDone")
        shutdownAskedAt = try f.timestampIfPresent("shutdownAskedAt")
        rebootAskedAt = try f.timestampIfPresent("rebootAskedAt")
        endedAt = try f.timestampIfPresent("endedAt")
        for value in try f.list("volumes") { volumes.append(try VolumeRecord(recordValue: value)) }
        for value in try f.list("trace") {
            let point = try value.fields()
            trace.append(TracePoint(step: try point.text("step"), at: try point.timestamp("at")))
        }
    }
}

extension VolumeRecord {
    var recordValue: Value {
        var f: [String: Value] = [
            "order": order.wireValue, "generation": .integer(generation), "state": .text(state.rawValue), "force": .boolean(force),
            "fenced": .boolean(fenced), "error": .text(error), "target": .text(target),
        ]
        if let export {
            f["export"] = .record([
                "host": .text(export.host), "port": .integer(export.port), "name": .text(export.name),
                "tlsHostname": .text(export.tlsHostname),
            ])
        }
        if let detachedAt { f["detachedAt"] = .timestamp(detachedAt) }
        return .record(f)
    }

    init(recordValue: Value) throws(CloudError) {
        let f = try recordValue.fields()
        let word = try f.text("state")
        guard let state = State(rawValue: word) else { throw CloudError.bug("a journal record has a volume in state \(word)") }
        self.init(
            order: try NC.VolumeOrder(try f.need("order")), generation: try f.integer("generation"), state: state,
            target: try f.text("target"))
        force = try f.boolean("force")
        fenced = try f.boolean("fenced")
        error = try f.text("error")
        detachedAt = try f.timestampIfPresent("detachedAt")
        if let value = f["export"] {
            let e = try value.fields()
            export = Export(
                host: try e.text("host"), port: try e.integer("port"), name: try e.text("name"), tlsHostname: try e.text("tlsHostname"))
        }
    }
}
