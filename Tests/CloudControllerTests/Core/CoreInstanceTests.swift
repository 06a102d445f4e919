import API
import Database
import Domain
import Synchronization
import Testing
import Workflow

@testable import CloudControllerKit

@Suite struct CoreInstanceTests {
    @Test func anInstancesWholeLife() async throws {
        let cloud = try await CoreCloud()
        let id = try await cloud.run { $0.userData = Array("hello".utf8) }[0]
        #expect(try await cloud.state(id) == "pending")
        await cloud.round(2)
        let running = try await cloud.describe(id)
        #expect(running.state?.name == "running")
        #expect(running.privateIpAddress == "10.1.0.2")
        #expect(running.publicIpAddress == "198.18.0.1")
        #expect(running.securityGroups.map(\.groupName) == ["default"])
        let order = try #require(cloud.zone.state.withLock { $0.nodes["node1"]?.orders[id] })
        #expect(order.macAddress == "02:00:0a:01:00:02")
        #expect(order.metadata?.userData == Array("hello".utf8))
        #expect(order.machine.parts.first?.url?.hasPrefix("http://127.0.0.1:8778/images/tiny.part.0?X-Amz-Algorithm=") == true)
        #expect(order.machine.encryptedKey?.count == 512)
        let network = try #require(cloud.zone.state.withLock { $0.network })
        #expect(network.instances.map(\.address?.publicAddress) == ["198.18.0.1"])
        #expect(network.groups.first?.members == ["10.1.0.2"])

        _ = try await cloud.actions.rebootInstances(EC2.RebootInstances(instanceIds: [id]), try await cloud.op)
        await cloud.round(2)
        #expect(cloud.zone.count("RebootInstance") == 1)

        let ended = try await cloud.actions.terminateInstances(EC2.TerminateInstances(instanceIds: [id]), try await cloud.op)
        #expect(ended.terminatingInstances.map(\.currentState?.name) == ["shutting-down"])
        #expect(ended.terminatingInstances.map(\.previousState?.name) == ["running"])
        await cloud.round(1)
        #expect(try await cloud.state(id) == "shutting-down")
        #expect(try await cloud.number("SELECT count(*) AS n FROM cloud.private_addresses") == 1)
        await cloud.round(2)
        #expect(try await cloud.state(id) == "terminated")
        #expect(try await cloud.number("SELECT count(*) AS n FROM cloud.private_addresses") == 0)
        #expect(try await cloud.number("SELECT count(*) AS n FROM cloud.addresses") == 0)
        cloud.clock.advance(3700)
        #expect(await code { _ = try await cloud.describe(id) } == "InvalidInstanceID.NotFound")
        #expect(try await cloud.number("SELECT count(*) AS n FROM cloud.audit WHERE action IN ('RunInstances', 'TerminateInstances')") == 2)
    }

    @Test func theSameClientTokenIsTheSameReservation() async throws {
        let cloud = try await CoreCloud()
        let first = try await cloud.run { $0.clientToken = "abc" }
        #expect(try await cloud.run { $0.clientToken = "abc" } == first)
        #expect(await code { _ = try await cloud.run(type: "m1.small") { $0.clientToken = "abc" } } == "IdempotentParameterMismatch")
        #expect(try await cloud.number("SELECT count(*) AS n FROM cloud.instances") == 1)
        #expect(cloud.zone.state.withLock { $0.reserved.count } == 1)
    }

    @Test func simultaneousCallsWithOneTokenMakeOneReservation() async throws {
        let cloud = try await CoreCloud(nodes: ["node1": 16])
        let all = try await withThrowingTaskGroup(of: [String].self) { group in
            for _ in 0..<6 { group.addTask { try await cloud.run { $0.clientToken = "race" } } }
            var out: Set<[String]> = []
            for try await ids in group { out.insert(ids) }
            return out
        }
        #expect(all.count == 1)
        #expect(try await cloud.number("SELECT count(*) AS n FROM cloud.instances") == 1)
    }

    @Test func noCapacityLeavesNothingBehindAndSaysTheNumbers() async throws {
        let cloud = try await CoreCloud(nodes: ["node1": 2])
        do {
            _ = try await cloud.run(count: 3)
            Issue.record("it was accepted")
        } catch let error as CloudError {
            #expect(error.message.contains("node1: asked 1 cores, 0 free of 2"), "\(error.message)")
        }
        #expect(try await cloud.number("SELECT count(*) AS n FROM cloud.instances") == 0)
        #expect(try await cloud.number("SELECT count(*) AS n FROM cloud.private_addresses") == 0)
    }

    @Test func minCountAndMaxCountAreExact() async throws {
        let cloud = try await CoreCloud(nodes: ["node1": 2, "node2": 1])
        let ids = try await cloud.run { $0.maxCount = 10 }
        #expect(ids.count == 3)
    }

    @Test func theAddressPoolBoundsALaunch() async throws {
        var settings = CloudSettings()
        settings.publicPool = CIDR(parsing: "198.18.0.0/30")!
        let cloud = try await CoreCloud(nodes: ["node1": 8], settings: settings)
        #expect(await code { _ = try await cloud.run(count: 3) } == "InsufficientAddressCapacity")
        #expect(try await cloud.number("SELECT count(*) AS n FROM cloud.addresses") == 0)
        #expect(cloud.zone.state.withLock { $0.reserved.isEmpty })
        let ids = try await cloud.run { $0.maxCount = 3 }
        #expect(ids.count == 2)
        #expect(cloud.zone.state.withLock { $0.reserved.values.first?.count } == 2)
    }

    @Test func quotasAreKept() async throws {
        var settings = CloudSettings()
        settings.quotas.instances = 2
        let cloud = try await CoreCloud(settings: settings)
        _ = try await cloud.run(count: 2)
        #expect(await code { _ = try await cloud.run() } == "InstanceLimitExceeded")
    }

    @Test func badLaunchesAreNamed() async throws {
        let cloud = try await CoreCloud()
        #expect(await code { _ = try await cloud.run(type: "x9.huge") } == "InvalidParameterValue")
        #expect(await code { _ = try await cloud.run { $0.imageId = "emi-22222222222222222" } } == "InvalidAMIID.NotFound")
        #expect(await code { _ = try await cloud.run { $0.keyName = "nobody" } } == "InvalidKeyPair.NotFound")
        #expect(await code { _ = try await cloud.run { $0.securityGroups = ["nobody"] } } == "InvalidGroup.NotFound")
        #expect(await code { _ = try await cloud.run { $0.minCount = 2 } } == "InvalidParameterCombination")
        #expect(await code { _ = try await cloud.run { $0.placement = .init(availabilityZone: "mars") } } == "InvalidZone.NotFound")
        #expect(await code { _ = try await cloud.run { $0.dryRun = true } } == "DryRunOperation")
        #expect(try await cloud.number("SELECT count(*) AS n FROM cloud.instances") == 0)
    }

    @Test func stopAndStartKeepTheNode() async throws {
        let cloud = try await CoreCloud()
        let id = try await cloud.run()[0]
        #expect(
            await code { _ = try await cloud.actions.stopInstances(EC2.StopInstances(instanceIds: [id]), try await cloud.op) }
                == "IncorrectInstanceState")
        await cloud.round(3)
        _ = try await cloud.actions.stopInstances(EC2.StopInstances(instanceIds: [id]), try await cloud.op)
        #expect(try await cloud.state(id) == "stopping")
        await cloud.round(2)
        #expect(try await cloud.state(id) == "stopped")
        _ = try await cloud.actions.startInstances(EC2.StartInstances(instanceIds: [id]), try await cloud.op)
        #expect(try await cloud.state(id) == "pending")
        await cloud.round(2)
        #expect(try await cloud.state(id) == "running")
        #expect(try await cloud.row(id).node == "node1")
    }

    @Test func startingWithoutRoomIsRefusedWithNumbers() async throws {
        let cloud = try await CoreCloud(nodes: ["node1": 1])
        let id = try await cloud.run()[0]
        await cloud.round(3)
        _ = try await cloud.actions.stopInstances(EC2.StopInstances(instanceIds: [id]), try await cloud.op)
        await cloud.round(2)
        cloud.zone.state.withLock {
            $0.nodes["node1"]?.instances["i-other"] = NC.InstanceReport(
                instanceId: "i-other", state: "running", desired: "running", generation: 1, cores: 1, memoryMiB: 128, known: false)
        }
        #expect(
            await code { _ = try await cloud.actions.startInstances(EC2.StartInstances(instanceIds: [id]), try await cloud.op) }
                == "InsufficientInstanceCapacity")
        #expect(try await cloud.state(id) == "stopped")
    }

    /// All that are named or none; the room is reserved before anything changes, and given back when nothing did.
    @Test func startsReserveAllOrNothing() async throws {
        let cloud = try await CoreCloud(nodes: ["node1": 2])
        let ids = try await cloud.run(count: 2)
        await cloud.round(3)
        cloud.zone.state.withLock { $0.reserved = [:] }
        func start(_ ids: [String], dryRun: Bool? = nil) async -> String {
            await code {
                _ = try await cloud.actions.startInstances(EC2.StartInstances(instanceIds: ids, dryRun: dryRun), try await cloud.op)
            }
        }
        #expect(await start(ids) == "", "they run already")
        #expect(cloud.zone.state.withLock { $0.reserved.isEmpty })
        _ = try await cloud.actions.stopInstances(EC2.StopInstances(instanceIds: ids), try await cloud.op)
        await cloud.round(2)
        let other = NC.InstanceReport(
            instanceId: "i-other", state: "running", desired: "running", generation: 1, cores: 1, memoryMiB: 128, known: false)
        cloud.zone.state.withLock { $0.nodes["node1"]?.instances["i-other"] = other }
        #expect(await start(ids) == "InsufficientInstanceCapacity")
        for id in ids { #expect(try await cloud.state(id) == "stopped") }
        cloud.zone.state.withLock { $0.nodes["node1"]?.instances["i-other"] = nil }
        #expect(await start(ids, dryRun: true) == "DryRunOperation")
        #expect(await start(ids + ["i-22222222222222222"]) == "InvalidInstanceID.NotFound")
        #expect(cloud.zone.state.withLock { $0.reserved.isEmpty })
        let before = try await cloud.number("SELECT value AS n FROM cloud.counters WHERE name = 'network'")
        #expect(await start(ids) == "")
        #expect(await start(ids) == "", "a repeat changes nothing")
        #expect(cloud.zone.state.withLock { $0.reserved.values.map { $0.map(\.node) } } == [["node1", "node1"]])
        #expect(try await cloud.number("SELECT value AS n FROM cloud.counters WHERE name = 'network'") > before)
        let placed = try await cloud.cloud.pool.read { tx in try NetworkStore.placed(tx) }
        #expect(placed.map { $0.claim?.generation } == [3, 3], "the cluster controller counts them, whatever it has forgotten")
        await cloud.round(2)
        for id in ids { #expect(try await cloud.state(id) == "running") }
    }

    @Test func aGuestsShutdownEndsTheInstance() async throws {
        let cloud = try await CoreCloud()
        let id = try await cloud.run()[0]
        await cloud.round(2)
        cloud.zone.setInstance(id) {
            $0.state = "stopped"
            $0.reason = "guest"
        }
        await cloud.round(3)
        let shown = try await cloud.describe(id)
        #expect(shown.state?.name == "terminated")
        #expect(shown.stateReason?.code == "Client.InstanceInitiatedShutdown")
    }

    @Test func aGuestsShutdownStopsTheInstanceThatIsToldSo() async throws {
        let cloud = try await CoreCloud()
        let id = try await cloud.run { $0.instanceInitiatedShutdownBehavior = "stop" }[0]
        await cloud.round(2)
        cloud.zone.setInstance(id) {
            $0.state = "stopped"
            $0.reason = "guest"
        }
        await cloud.round(2)
        #expect(try await cloud.state(id) == "stopped")
    }

    @Test func anImageThatDoesNotBootIsGivenUpWithItsReason() async throws {
        let cloud = try await CoreCloud()
        cloud.zone.state.withLock { _ = $0.failing.insert(CoreCloud.image) }
        let id = try await cloud.run()[0]
        await cloud.round(40)
        let shown = try await cloud.describe(id)
        #expect(shown.state?.name == "terminated")
        #expect(shown.stateReason?.message?.contains("the kernel is no kernel") == true)
        #expect(cloud.zone.state.withLock { $0.nodes["node1"]?.instances[id]?.generation } == 5)
        #expect(try await cloud.number("SELECT count(*) AS n FROM cloud.addresses") == 0)
    }

    @Test func aSilentNodeIsUnknownNotEmpty() async throws {
        let cloud = try await CoreCloud()
        let id = try await cloud.run()[0]
        await cloud.round(2)
        cloud.zone.state.withLock { $0.nodes["node1"]?.isSilent = true }
        await cloud.round(3)
        #expect(try await cloud.state(id) == "running")
        let status = try await cloud.actions.describeInstanceStatus(EC2.DescribeInstanceStatus(instanceIds: [id]), try await cloud.op)
        #expect(status.instanceStatuses.first?.systemStatus?.status == "impaired")
        _ = try await cloud.actions.terminateInstances(EC2.TerminateInstances(instanceIds: [id]), try await cloud.op)
        await cloud.round(3)
        #expect(try await cloud.state(id) == "shutting-down")
        #expect(try await cloud.number("SELECT count(*) AS n FROM cloud.addresses") == 1)
        cloud.zone.state.withLock { $0.nodes["node1"]?.isSilent = false }
        await cloud.round(3)
        #expect(try await cloud.state(id) == "terminated")
    }

    @Test func aClusterControllerThatForgotIsToldAgain() async throws {
        let cloud = try await CoreCloud()
        await cloud.round()
        #expect(cloud.zone.count("SetCluster") == 1)
        await cloud.round()
        #expect(cloud.zone.count("SetCluster") == 1)
        #expect(cloud.zone.count("ApplyNetwork") == 1, "what was confirmed is not sent again")
        cloud.zone.state.withLock {
            $0.generation = 0
            $0.network = nil
        }
        await cloud.round()
        #expect(cloud.zone.count("SetCluster") == 2)
        #expect(cloud.zone.count("ApplyNetwork") == 2, "nor believed of a controller that says it has none")
    }

    /// An instance whose node's disk is full is impaired, and its owner reads why.
    @Test func anInstanceThatStandsStillSaysWhy() async throws {
        let cloud = try await CoreCloud()
        let id = try await cloud.run()[0]
        await cloud.round(3)
        func status() async throws -> EC2.InstanceStatus? {
            try await cloud.actions.describeInstanceStatus(EC2.DescribeInstanceStatus(instanceIds: [id]), try await cloud.op)
                .instanceStatuses.first
        }
        #expect(try await status()?.events.isEmpty == true)
        cloud.zone.setInstance(id) {
            $0.state = "paused"
            $0.reason = "The node's disk is full"
        }
        await cloud.round(2)
        #expect(try await cloud.state(id) == "running")
        #expect(try await status()?.instanceStatus?.status == "impaired")
        #expect(try await status()?.events.map(\.description) == ["The node's disk is full"])
        cloud.zone.setInstance(id) {
            $0.state = "running"
            $0.reason = nil
        }
        await cloud.round(2)
        #expect(try await status()?.instanceStatus?.status == "ok")
        #expect(try await status()?.events.isEmpty == true)
    }

    @Test func protectionAndUnknownIdsChangeNothing() async throws {
        let cloud = try await CoreCloud()
        let id = try await cloud.run { $0.disableApiTermination = true }[0]
        func terminate(_ ids: [String]) async -> String {
            await code { _ = try await cloud.actions.terminateInstances(EC2.TerminateInstances(instanceIds: ids), try await cloud.op) }
        }
        #expect(await terminate([id]) == "OperationNotPermitted")
        #expect(await terminate([id, "i-00000000"]) == "InvalidInstanceID.NotFound")
        #expect(await terminate(["x"]) == "InvalidInstanceID.Malformed")
        #expect(await terminate([]) == "MissingParameter")
        #expect(try await cloud.state(id) == "pending")
    }

    @Test func aRestoredDatabaseOvertakesTheNode() async throws {
        let cloud = try await CoreCloud()
        let id = try await cloud.run()[0]
        await cloud.round(2)
        cloud.zone.setInstance(id) { $0.generation = 40 }
        await cloud.round(3)
        #expect(try await cloud.row(id).generation == 41)
        #expect(try await cloud.state(id) == "running")
    }

    @Test func everySavedDiskIsSavedBeforeItGoes() async throws {
        let cloud = try await CoreCloud()
        let tags = [EC2.TagSpecification(resourceType: "instance", tags: [EC2.Tag(key: ImageLocation.saveTag, value: "backup/web")])]
        let id = try await cloud.run { $0.tagSpecifications = tags }[0]
        await cloud.round(2)
        _ = try await cloud.actions.terminateInstances(EC2.TerminateInstances(instanceIds: [id]), try await cloud.op)
        await cloud.round(6)
        // Its upload hangs: the instance waits, stopped, and is not removed.
        #expect(try await cloud.state(id) == "shutting-down")
        #expect(cloud.zone.count("BundleInstance") == 1)
        #expect(cloud.zone.count("TerminateInstance") == 0)
        #expect(cloud.zone.state.withLock { $0.nodes["node1"]?.instances[id]?.state } == "stopped")
        let tasks = try await cloud.actions.describeBundleTasks(EC2.DescribeBundleTasks(), try await cloud.op)
        #expect(tasks.bundleTasks.map(\.storage?.s3?.bucket) == ["backup"])
    }

    @Test func consoleTypesAndPages() async throws {
        let cloud = try await CoreCloud(nodes: ["node1": 16])
        let ids = try await cloud.run(count: 7)
        await cloud.round(2)
        let console = try await cloud.actions.getConsoleOutput(EC2.GetConsoleOutput(instanceId: ids[0]), try await cloud.op)
        #expect(console.output == Array("login:".utf8))
        var seen: [String] = []
        var token: String?
        repeat {
            let page = try await cloud.actions.describeInstances(EC2.DescribeInstances(nextToken: token, maxResults: 5), try await cloud.op)
            seen += page.reservations.flatMap(\.instances).compactMap(\.instanceId)
            token = page.nextToken
        } while token != nil
        #expect(seen.sorted() == ids.sorted())
        let types = try await cloud.actions.describeInstanceTypes(
            EC2.DescribeInstanceTypes(instanceTypes: ["t1.micro"]), try await cloud.op)
        #expect(types.instanceTypes.map(\.memoryInfo?.sizeInMiB) == [128])
        let filtered = try await cloud.actions.describeInstances(
            EC2.DescribeInstances(filters: [EC2.Filter(name: "instance-state-name", values: ["run*"])]), try await cloud.op)
        #expect(filtered.reservations.first?.instances.count == 7)
    }
}
