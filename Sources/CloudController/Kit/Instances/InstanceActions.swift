public import API
import Database
public import Domain

extension EC2Actions: EC2InstancesActions {
    private var rules: InstanceRules { InstanceRules(cloud: cloud) }

    public func runInstances(_ request: EC2.RunInstances, _ op: OperationContext) async throws(CloudError) -> EC2.RunInstancesResponse {
        let order = try LaunchOrder(try await resolved(request, op))
        let reservation = try await rules.launch(order, dryRun: request.dryRun == true, op)
        let view = try await cloud.pool.read { tx in
            try InstanceView(tx, try InstanceStore.reservation(tx, reservation), op)
        }
        guard let shown = view.reservations.first else { throw .bug("the reservation \(reservation) has no instances") }
        return EC2.RunInstancesResponse(
            reservationId: shown.reservationId, ownerId: shown.ownerId, groups: shown.groups, instances: shown.instances,
            requesterId: shown.requesterId)
    }

    public func describeInstances(
        _ request: EC2.DescribeInstances, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeInstancesResponse {
        try InstanceView.check(ids: request.instanceIds, maxResults: request.maxResults)
        let filters = try Filters(request.filters, known: InstanceView.filters)
        let paging = try cloud.paging(request, op, maxResults: request.maxResults, nextToken: request.nextToken)
        try op.endDryRun(request.dryRun)
        let view = try await cloud.pool.read { tx in
            let rows = try InstanceStore.list(
                tx, accountID: op.accountID, ids: request.instanceIds.isEmpty ? nil : request.instanceIds, now: op.now)
            return try InstanceView(tx, rows, op)
        }
        let matching = view.rows.filter { row in
            filters.match(tags: view.tags[row.id]?.byKey ?? [:]) { view.values(row, $0) }
        }
        let (page, next) = paging.page(matching, by: InstanceView.sortKey)
        return EC2.DescribeInstancesResponse(reservations: view.reservations(of: page), nextToken: next)
    }

    public func terminateInstances(
        _ request: EC2.TerminateInstances, _ op: OperationContext
    ) async throws(CloudError) -> EC2.TerminateInstancesResponse {
        let force = request.force == true || request.skipOsShutdown == true
        let changes = try await change(request.instanceIds, "TerminateInstances", request.dryRun, op) { tx, rows in
            for row in rows where row.terminationProtected && row.desired != .terminated {
                throw CloudError(
                    .named(code: "OperationNotPermitted", status: 400),
                    "The instance '\(row.id)' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.")
            }
            for row in rows {
                if row.desired == .terminated {
                    if force, row.finishedAt == nil { try InstanceStore.setForce(tx, id: row.id) }
                    continue
                }
                try InstanceRules.terminate(
                    tx, row, force: force, code: "Client.UserInitiatedShutdown",
                    message: "Client.UserInitiatedShutdown: User initiated shutdown",
                    transition: "User initiated (\(op.now.iso8601Seconds))")
            }
        }
        return EC2.TerminateInstancesResponse(terminatingInstances: changes)
    }

    public func rebootInstances(
        _ request: EC2.RebootInstances, _ op: OperationContext
    ) async throws(CloudError) -> EC2.RebootInstancesResponse {
        _ = try await change(request.instanceIds, "RebootInstances", request.dryRun, op) { tx, rows in
            for row in rows where row.state != .running { throw Self.incorrectState("IncorrectState", row, "rebooted") }
            for row in rows { try InstanceStore.countReboot(tx, id: row.id) }
        }
        return EC2.RebootInstancesResponse(result: true)
    }

    public func stopInstances(_ request: EC2.StopInstances, _ op: OperationContext) async throws(CloudError) -> EC2.StopInstancesResponse {
        if request.hibernate == true {
            throw CloudError(.named(code: "UnsupportedOperation", status: 400), "Hibernation is not supported by this cloud.")
        }
        let force = request.force == true || request.skipOsShutdown == true
        let changes = try await change(request.instanceIds, "StopInstances", request.dryRun, op) { tx, rows in
            for row in rows where row.desired == .terminated { throw Self.incorrectState("IncorrectInstanceState", row, "stopped") }
            for row in rows where row.stopProtected && row.desired == .running {
                throw CloudError(
                    .named(code: "OperationNotPermitted", status: 400),
                    "The instance '\(row.id)' may not be stopped. Modify its 'disableApiStop' instance attribute and try again.")
            }
            // As on EC2: what has never run has no disk yet that could be kept.
            for row in rows where row.desired == .running && !row.hasRun {
                throw Self.incorrectState("IncorrectInstanceState", row, "stopped")
            }
            for row in rows {
                if row.desired == .stopped {
                    if force, row.state == .stopping, !row.force { try InstanceStore.setForce(tx, id: row.id) }
                    continue
                }
                try InstanceStore.setDesired(
                    tx, id: row.id, .stopped, force: force, code: "Client.UserInitiatedShutdown",
                    message: "Client.UserInitiatedShutdown: User initiated shutdown",
                    transition: "User initiated (\(op.now.iso8601Seconds))")
            }
        }
        return EC2.StopInstancesResponse(stoppingInstances: changes)
    }

    public func startInstances(
        _ request: EC2.StartInstances, _ op: OperationContext
    ) async throws(CloudError) -> EC2.StartInstancesResponse {
        let ids = try InstanceView.parse(request.instanceIds)
        let stopped =
            request.dryRun == true
            ? []
            : try await cloud.pool.read { tx in
                try InstanceStore.list(tx, accountID: op.accountID, ids: ids, now: op.now)
            }.filter { $0.desired == .stopped && $0.state == .stopped }
        let reserved = Set(stopped.map(\.id))
        let changes = try await rules.start(stopped, op) { () async throws(CloudError) in
            try await change(request.instanceIds, "StartInstances", request.dryRun, op) { tx, rows in
                for row in rows where row.state == .stopping || row.desired == .terminated {
                    throw Self.incorrectState("IncorrectInstanceState", row, "started")
                }
                for row in rows where row.desired == .stopped {
                    if try BundleTaskStore.openTask(tx, instanceID: row.id) != nil {
                        throw CloudError(
                            .named(code: "IncorrectInstanceState", status: 400),
                            "The instance '\(row.id)' is being bundled and cannot be started yet.")
                    }
                    try op.endDryRun(request.dryRun)
                    guard reserved.contains(row.id) else {
                        // It was running when the call came in, and was stopped meanwhile.
                        throw CloudError(
                            .named(code: "IncorrectInstanceState", status: 400),
                            "The instance '\(row.id)' was stopped while it was being started. Start it again.")
                    }
                    try InstanceStore.setStarted(tx, id: row.id, now: op.now)
                }
            }
        }
        return EC2.StartInstancesResponse(startingInstances: changes)
    }

    public func getConsoleOutput(
        _ request: EC2.GetConsoleOutput, _ op: OperationContext
    ) async throws(CloudError) -> EC2.GetConsoleOutputResponse {
        let id = try InstanceID(parsing: request.instanceId).text
        try op.endDryRun(request.dryRun)
        let row = try await cloud.pool.read { tx in try InstanceStore.fetch(tx, id: id, accountID: op.accountID, now: op.now) }
        var output: [UInt8] = []
        var at = op.now
        if row.finishedAt == nil, row.facts != nil {
            let cluster = try await cloud.cluster.cluster(zone: row.zone)
            do throws(CloudError) {
                let answer = try await cluster.getConsoleOutput(
                    CC.GetConsoleOutput(node: row.node, instanceId: id), cloud.callContext(op.requestID))
                output = answer.output ?? []
                at = answer.timestamp ?? op.now
            } catch {
                // The node has not made it yet, or has removed it just now: it has written nothing that could be shown.
                guard case .notFound = error.reason else { throw error }
            }
        }
        return EC2.GetConsoleOutputResponse(instanceId: id, timestamp: at, output: output)
    }

    public func describeInstanceStatus(
        _ request: EC2.DescribeInstanceStatus, _ op: OperationContext
    ) async throws(CloudError) -> EC2.DescribeInstanceStatusResponse {
        try InstanceView.check(ids: request.instanceIds, maxResults: request.maxResults)
        let filters = try Filters(request.filters, known: InstanceView.statusFilters)
        let paging = try cloud.paging(request, op, maxResults: request.maxResults, nextToken: request.nextToken)
        try op.endDryRun(request.dryRun)
        let rows = try await cloud.pool.read { tx in
            try InstanceStore.list(tx, accountID: op.accountID, ids: request.instanceIds.isEmpty ? nil : request.instanceIds, now: op.now)
        }
        let shown = rows.filter { row in
            (request.includeAllInstances == true || row.state == .running) && filters.match { InstanceView.statusValues(row, $0) }
        }
        let (page, next) = paging.page(shown, by: InstanceView.sortKey)
        return EC2.DescribeInstanceStatusResponse(instanceStatuses: page.map { InstanceView.status($0) }, nextToken: next)
    }

    // MARK: the common part of state changes

    /// All ids or none: unknown ones change nothing.
    private func change(
        _ ids: [String], _ action: String, _ dryRun: Bool?, _ op: OperationContext,
        _ body: @escaping @Sendable (Transaction, [InstanceRow]) throws -> Void
    ) async throws(CloudError) -> [EC2.InstanceStateChange] {
        let ids = try InstanceView.parse(ids)
        let (before, after) = try await cloud.pool.transaction { tx in
            let before = try InstanceStore.list(tx, accountID: op.accountID, ids: ids, now: op.now)
            try body(tx, before)
            try op.endDryRun(dryRun)
            try AuditStore.record(tx, op, action: action, resource: ids.joined(separator: " "))
            return (before, try InstanceStore.list(tx, accountID: op.accountID, ids: ids, now: op.now))
        }
        let old = Dictionary(before.map { ($0.id, $0.state) }, uniquingKeysWith: { first, _ in first })
        let new = Dictionary(after.map { ($0.id, $0.state) }, uniquingKeysWith: { first, _ in first })
        return ids.map { id in
            let current = (new[id] ?? .terminated).wire
            return EC2.InstanceStateChange(
                instanceId: id, currentState: current, shutdownState: current, previousState: (old[id] ?? .terminated).wire)
        }
    }

    private static func incorrectState(_ code: String, _ row: InstanceRow, _ verb: String) -> CloudError {
        CloudError(
            .named(code: code, status: 400),
            "The instance '\(row.id)' is not in a state from which it can be \(verb): it is \(row.state.rawValue).")
    }
}

extension EC2InstanceState {
    var wire: EC2.InstanceState { EC2.InstanceState(code: code, name: rawValue) }
}
