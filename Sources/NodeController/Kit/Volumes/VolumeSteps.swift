import API
import Domain
import Logging
import Wire
import Workflow

/// Volumes of one instance: exports at the storage controller, disks at the hypervisor. Each step is journaled before or after it
/// in such an order that a kill anywhere leaves something that the next pass finishes.
extension InstanceKeeper {
    /// One step for every attachment that has something to do.
    /// - Returns: when to look again; `nil` when there is nothing to wait for.
    func reconcileVolumes(_ record: InstanceRecord, _ domain: DomainStatus?) async throws(CloudError) -> Timestamp? {
        // While the machine is being started its disks belong to the start.
        if record.desired == .running, record.startedGeneration < record.generation, record.failure.isEmpty { return nil }
        var again: Timestamp?
        var firstError: CloudError?
        for volume in record.volumes {
            do throws(CloudError) {
                let next = try await reconcile(volume, record.instanceID, domain)
                if let next { again = min(again ?? next, next) }
            } catch {
                // One volume's trouble does not keep the others from going on.
                firstError = firstError ?? error
                try await noteError(record.instanceID, volume, error)
            }
        }
        if let firstError { throw firstError }
        return again
    }

    private func reconcile(_ volume: VolumeRecord, _ id: String, _ domain: DomainStatus?) async throws(CloudError) -> Timestamp? {
        let e = environment
        let now = e.clock.now()
        let key = id + "/" + volume.order.attachmentId
        switch VolumePlan.next(volume, domain) {
        case .nothing: return nil
        case .noteAttachedForNextStart, .noteAttached:
            try await change(id, volume) {
                $0.state = .attached
                $0.error = ""
            }
            return now
        case .attach:
            let export = try await export(volume, id)
            try await e.faults.point("volume.attach.exported")
            do throws(CloudError) {
                try await e.hypervisor.attachDisk(disk(volume, export), to: id)
            } catch {
                // The machine ended meanwhile: the next look finds it off.
                if case .incorrectState = error.reason { return now.adding(milliseconds: 200) }
                throw error
            }
            try await e.faults.point("volume.attach.plugged")
            saw(id, try await e.hypervisor.domain(named: id))
            try await change(id, volume) {
                $0.state = .attached
                $0.error = ""
            }
            return now
        case .fence:
            try await unexport(volume)
            try await change(id, volume) {
                $0.fenced = true
                $0.export = nil
            }
            return now
        case .detach:
            if let asked = detachAsked[key], now < asked.adding(seconds: VolumePlan.askAgainSeconds) {
                return asked.adding(seconds: VolumePlan.askAgainSeconds)
            }
            detachAsked[key] = now
            try await e.hypervisor.detachDisk(serial: volume.order.volumeId, from: id)
            // The event wakes us as soon as the device is gone; a first look comes soon for hypervisors without events.
            return now.adding(milliseconds: 500)
        case .finish:
            if !volume.fenced { try await unexport(volume) }
            try await e.faults.point("volume.detach.unexported")
            detachAsked[key] = nil
            try await change(id, volume) {
                $0.state = .detached
                $0.detachedAt = now
                $0.export = nil
                $0.error = ""
            }
            return now
        }
    }

    /// Exports for the definition of a machine that is about to start: every volume that is attached, or is to be.
    func exportsForStart(_ record: InstanceRecord) async throws(CloudError) -> [NetworkDisk] {
        var out: [NetworkDisk] = []
        for volume in record.volumes where volume.state == .attached || volume.state == .attaching {
            out.append(disk(volume, try await export(volume, record.instanceID)))
        }
        return out
    }

    private func disk(_ volume: VolumeRecord, _ export: VolumeRecord.Export) -> NetworkDisk {
        NetworkDisk(
            serial: volume.order.volumeId, target: volume.target, host: export.host, port: export.port, export: export.name,
            tlsHostname: export.tlsHostname.isEmpty ? nil : export.tlsHostname, tls: environment.settings.volumeTLS)
    }

    /// Asks for the export, each time: repeating it answers the same, and a storage controller that was restarted may have another port.
    private func export(_ volume: VolumeRecord, _ id: String) async throws(CloudError) -> VolumeRecord.Export {
        let answer = try await environment.storage(volume.order.storage).exportVolume(
            SC.ExportVolume(volumeId: volume.order.volumeId, attachmentId: volume.order.attachmentId), context())
        guard let given = answer.export, let host = given.host, let port = given.port, let name = given.exportName else {
            throw CloudError.bug("the storage controller gave no export for \(volume.order.volumeId)")
        }
        let export = VolumeRecord.Export(host: host, port: port, name: name, tlsHostname: given.tlsHostname ?? "")
        try await change(id, volume) { $0.export = export }
        return export
    }

    /// Repeating it, or an export that is not there, is fine.
    func unexport(_ volume: VolumeRecord) async throws(CloudError) {
        do throws(CloudError) {
            _ = try await environment.storage(volume.order.storage).unexportVolume(
                SC.UnexportVolume(volumeId: volume.order.volumeId, attachmentId: volume.order.attachmentId), context())
        } catch {
            if case .notFound = error.reason { return }
            throw error
        }
    }

    nonisolated func context() -> CallContext {
        CallContext(requestID: "nc-" + Hex.encode(environment.random.bytes(8)))
    }

    /// Changes this attachment's record, if it is still this attachment.
    private func change(
        _ id: String, _ volume: VolumeRecord, _ body: @escaping @Sendable (inout VolumeRecord) -> Void
    ) async throws(CloudError) {
        try await environment.journal.update(id) { record in
            guard
                let i = record?.volumes.firstIndex(where: {
                    $0.order.attachmentId == volume.order.attachmentId && $0.generation == volume.generation
                })
            else { return }
            body(&record!.volumes[i])
        }
    }

    private func noteError(_ id: String, _ volume: VolumeRecord, _ error: CloudError) async throws(CloudError) {
        let fatal = volume.state == .attaching && !error.isWorthRetrying
        try await change(id, volume) {
            $0.error = error.message
            if fatal { $0.state = .failed }
        }
        environment.logger.warning(
            "a volume's step did not work",
            metadata: [
                "instance": "\(id)", "volume": "\(volume.order.volumeId)", "error": "\(error.message)", "context": "\(error.context)",
            ])
    }
}
