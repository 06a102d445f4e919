import API
import Domain

extension InstanceRecord {
    /// What the node says of this instance, from its record and its domain.
    /// - Parameter hasLooked: false while a node that was just started has not seen the hypervisor yet: no domain means nothing then.
    func report(_ domain: DomainStatus?, hasLooked: Bool) -> NC.InstanceReport {
        let (state, reason) = stateAndReason(domain, hasLooked)
        return NC.InstanceReport(
            instanceId: instanceID, state: state, desired: desired.rawValue, generation: generation, reason: reason,
            cores: order?.cores ?? 0,
            memoryMiB: order?.memoryMiB ?? 0, diskGiB: isTombstone ? 0 : order?.diskGiB ?? 0, volumes: volumes.map(\.report),
            rebootCount: rebootsDone, known: true, trace: trace.map { NC.TraceStep(step: $0.step, at: $0.at) })
    }

    /// Why a machine stands still that wrote to a full disk.
    static let diskFull = "The node's disk is full: the instance stands still, has lost nothing, and goes on when there is room"

    private func stateAndReason(_ domain: DomainStatus?, _ hasLooked: Bool) -> (state: String, reason: String?) {
        let active = domain?.state.isActive ?? (order != nil && !hasLooked)
        switch desired {
        case .terminated: return (isTombstone ? "terminated" : "terminating", nil)
        case .stopped: return (active ? "stopping" : "stopped", nil)
        case .running:
            if !failure.isEmpty { return ("failed", failure) }
            if startedGeneration < generation { return ("pending", nil) }
            switch domain?.state {
            case .running, .paused(.starting): return ("running", nil)
            case .paused(.ioError): return ("paused", Self.diskFull)
            case .paused: return ("paused", "by the node")
            case .shuttingDown: return ("stopping", "guest")
            case nil, .shutOff:
                switch ending {
                case "guest": return ("stopped", "guest")
                case "crashed": return ("crashed", "The hypervisor's process ended")
                case "gone": return ("crashed", "The domain is not there any more")
                case "host": return ("stopped", "The node was restarted")
                case "destroyed": return ("stopped", "The domain was destroyed on the node")
                // Seen here before its record says how: the next pass does.
                default: return ("running", nil)
                }
            }
        }
    }
}

extension VolumeRecord {
    var report: NC.VolumeReport {
        NC.VolumeReport(
            volumeId: order.volumeId, attachmentId: order.attachmentId, device: order.device, state: state.rawValue, generation: generation,
            error: error.isEmpty ? nil : error)
    }
}

extension DomainStatus {
    /// A domain that nobody ordered: told, and left alone.
    var unknownReport: NC.InstanceReport {
        let word =
            switch state {
            case .running: "running"
            case .paused: "paused"
            case .shuttingDown: "stopping"
            case .shutOff(.crashed), .shutOff(.failed): "crashed"
            case .shutOff: "stopped"
            }
        return NC.InstanceReport(
            instanceId: name, state: word, desired: nil, generation: 0, reason: "Nobody ordered this domain: it is left alone",
            cores: cores,
            memoryMiB: memoryMiB, diskGiB: 0, volumes: [], rebootCount: 0, known: false, trace: [])
    }
}
