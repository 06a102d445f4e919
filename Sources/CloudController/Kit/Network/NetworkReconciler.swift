import API
import Database
import Domain
import Synchronization
public import Workflow

/// Sends each zone's cluster controller the whole network of the zone, whenever its generation is not the one that the tables have: after a
/// change, and after a restart of the controller below. Takes no input.
///
/// The generation is read in the same snapshot as the content, so a generation always names one content. What nodes have not confirmed is
/// the cluster controller's to repeat; this reconciler only asks again to hear of it.
public struct NetworkReconciler: Sendable {
    private let cloud: CloudServices
    private let confirmed = Confirmations()
    public init(_ cloud: CloudServices) { self.cloud = cloud }

    /// How long a confirmation is believed. Too high: a cluster controller that restarted with a node that restarted too waits so long for
    /// its network; too low: the whole network goes over the wire for nothing.
    static let confirmationSeconds = 15.0

    /// A cluster controller has no network, whatever it confirmed in an earlier life.
    func forget(zone: String) { confirmed.forget(zone: zone) }

    struct Content: Sendable {
        let generation: Int64
        let rules: [String: [NC.GroupRule]]
        let egress: [String: [NC.GroupRule]]
        let borders: [SubnetBorder]
        let placed: [NetworkStore.Placed]
        let publicAddresses: [String: PublicAddress]
        let controllers: [Component]
    }

    public func pass() async -> ReconcileReport {
        var report = ReconcileReport()
        do throws(CloudError) {
            let content = try await cloud.pool.read { tx in
                let placed = try NetworkStore.placed(tx)
                return Content(
                    generation: try NetworkStore.generation(tx), rules: try SecurityGroupStore.nodeRules(tx),
                    egress: try SecurityGroupStore.nodeRules(tx, egress: true), borders: try SubnetBorderStore.borders(tx), placed: placed,
                    publicAddresses: try AddressStore.publicAddresses(tx, instanceIDs: placed.map(\.id)),
                    controllers: try ComponentStore.all(tx).filter { $0.role == .cc })
            }
            report.examined = content.placed.count
            for controller in content.controllers {
                let now = cloud.clock.now()
                guard !confirmed.isFresh(controller, content.generation, now) else { continue }
                do throws(CloudError) {
                    let answer = try await cloud.cluster.client(controller).applyNetwork(
                        CC.ApplyNetwork(
                            network: Self.network(of: controller.zone, content, cloud.settings), generation: Int(content.generation)),
                        cloud.callContext())
                    report.changed += 1
                    if answer.pendingNodes.isEmpty { confirmed.note(controller, content.generation, now) }
                } catch {
                    if case .stale(let newest) = error.reason {
                        try await cloud.pool.transaction { tx in try NetworkStore.overtake(tx, newest) }
                        report.again = true
                    } else {
                        report.failures.append("network of \(controller.zone): \(error.message) \(error.context)")
                    }
                }
            }
        } catch {
            report.failures.append("network: \(error.message) \(error.context)")
        }
        return report
    }

    /// Pure: the zone's instances with their addresses, and every group with its members and rules. Members are cluster-wide: a rule may
    /// name a group whose members are elsewhere.
    static func network(of zone: String, _ content: Content, _ settings: CloudSettings) -> CC.ClusterNetwork {
        var members: [String: [String]] = [:]
        for instance in content.placed {
            for group in instance.groups { members[group, default: []].append(instance.privateAddress) }
        }
        let borders = content.borders.filter(\.stops)
        let limited = Set(borders.map(\.subnetID))
        return CC.ClusterNetwork(
            gateway: settings.gateway.description, prefixLength: settings.privateNetwork.prefixLength, dns: settings.dns,
            groups: Set(members.keys).union(content.rules.keys).sorted().map {
                group($0, members[$0] ?? [], content.rules[$0] ?? [], egress: content.egress[$0] ?? [])
            },
            instances: content.placed.filter { $0.zone == zone }.map { instance in
                CC.PlacedAddress(
                    node: instance.node,
                    address: NC.InstanceAddress(
                        instanceId: instance.id, macAddress: instance.macAddress, privateAddress: instance.privateAddress,
                        publicAddress: content.publicAddresses[instance.id]?.address, groups: instance.groups,
                        hostname: hostname(of: instance.privateAddress),
                        subnetId: instance.subnetID.flatMap { limited.contains($0) ? $0 : nil }),
                    claim: instance.claim)
            },
            subnets: borders.map { border in
                subnet(border, content.placed.filter { $0.subnetID == border.subnetID }.map(\.privateAddress))
            })
    }

    /// A group that lets everything out, as every new one does, says nothing of it.
    private static func group(
        _ id: String, _ members: [String], _ rules: [NC.GroupRule], egress: [NC.GroupRule]
    ) -> NC.GroupState {
        let isOpen = egress.contains { $0.proto == "-1" && $0.cidr == "0.0.0.0/0" }
        return NC.GroupState(
            groupId: id, members: members, rules: rules, egressLimited: isOpen ? nil : true, egress: isOpen ? [] : egress)
    }

    private static func subnet(_ border: SubnetBorder, _ members: [String]) -> NC.SubnetState {
        let isOpen = NetworkAcl.isOpen(border.entries)
        let routes = RouteTableRules.outside(border.routes)
        return NC.SubnetState(
            subnetId: border.subnetID, members: members, entriesLimited: isOpen ? nil : true,
            entries: isOpen
                ? []
                : border.entries.map {
                    NC.SubnetEntry(
                        egress: $0.egress, allow: $0.allow, proto: String($0.proto), fromPort: $0.first, toPort: $0.last,
                        cidr: $0.cidr.description)
                },
            routesLimited: border.hasWayOut && routes.isEmpty ? nil : true,
            routes: routes.map { NC.SubnetRoute(cidr: $0.destination.description, reached: $0.isActive) })
    }
}

/// What each cluster controller has confirmed for all of its nodes, and when: an economy only, forgotten at every restart.
private final class Confirmations: Sendable {
    private let known = Mutex<[String: (zone: String, generation: Int64, at: Timestamp)]>([:])

    func isFresh(_ controller: Component, _ generation: Int64, _ now: Timestamp) -> Bool {
        known.withLock { known in
            guard let last = known[controller.endpoint], last.generation == generation else { return false }
            return now.seconds(since: last.at) < NetworkReconciler.confirmationSeconds
        }
    }
    func note(_ controller: Component, _ generation: Int64, _ now: Timestamp) {
        known.withLock { $0[controller.endpoint] = (controller.zone, generation, now) }
    }
    func forget(zone: String) { known.withLock { known in known = known.filter { $0.value.zone != zone } } }
}
