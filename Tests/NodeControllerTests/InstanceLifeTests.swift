import API
import Domain
import NodeControllerKit
import Synchronization
import Testing
import Wire
import Workflow

/// The life of an instance on a node: real keeper, journal and rules; simulated hypervisor, disks and images.
@Suite struct InstanceLifeTests {
    let i1 = "i-00000001"

    private func running(_ world: NodeWorld, _ id: String? = nil) async throws {
        let id = id ?? i1
        try await world.connect([id], generation: 1)
        try await world.run(id)
        try await world.until { try await world.state(id) == "running" }
    }

    @Test func runsOnceItsNetworkIsThere() async throws {
        let world = NodeWorld()
        try await world.life {
            let accepted = try await world.run(i1)
            #expect(accepted?.state == "pending")
            try await world.pass(seconds: 5)
            #expect(try await world.state(i1) == "pending", "no domain may start before its filters are there")
            #expect(world.hypervisor.starts(i1) == 0)
            try await world.connect([i1], generation: 1)
            try await world.until { try await world.state(i1) == "running" }
            let report = try await world.report(i1)
            #expect(report?.trace.map(\.step) == ["accepted", "image", "disk", "network", "boot"])
            #expect(report?.known == true)
            #expect(world.images.downloads == 3)
            let specification = try #require(world.hypervisor.specification(i1))
            #expect(specification.interface.tap == "kn00000001")
            #expect(specification.boot != .disk)
            try await world.until { world.nudges.withLock { $0.contains(i1) } }
        }
    }

    @Test func aRepeatAnswersTheSameAndAnOlderGenerationIsStale() async throws {
        let world = NodeWorld()
        try await world.life {
            try await running(world)
            #expect(try await world.run(i1)?.state == "running")
            let stop = NC.StopInstance(instanceId: i1, generation: 5)
            _ = try await world.actions.stopInstance(stop, world.context)
            await #expect(throws: CloudError(.stale(newest: 5))) { try await world.run(i1, generation: 4) }
            try await world.until { try await world.state(i1) == "stopped" }
            #expect(world.hypervisor.starts(i1) == 1)
            #expect(try await world.actions.stopInstance(stop, world.context).instance?.state == "stopped")
        }
    }

    @Test func aStopThatOvertakesTheOrderMakesItStale() async throws {
        let world = NodeWorld()
        try await world.life {
            try await world.connect([i1], generation: 1)
            let stop = NC.StopInstance(instanceId: i1, generation: 2)
            _ = try await world.actions.stopInstance(stop, world.context)
            try await world.until { try await world.state(i1) == "stopped" }
            await #expect(throws: CloudError(.stale(newest: 2))) { try await world.run(i1, generation: 1) }
            try await world.run(i1, generation: 3)
            try await world.until { try await world.state(i1) == "running" }
        }
    }

    @Test func stopsByACPIAndStartsAgainWithTheSameDisk() async throws {
        let world = NodeWorld()
        try await world.life {
            try await running(world)
            _ = try await world.actions.stopInstance(NC.StopInstance(instanceId: i1, generation: 2), world.context)
            #expect(try await world.state(i1) == "stopping")
            try await world.until { try await world.state(i1) == "stopped" }
            #expect(!world.hypervisor.calls.contains("destroy \(i1)"))
            #expect(world.disks.instances == [i1])
            try await world.run(i1, generation: 3)
            try await world.until { try await world.state(i1) == "running" }
            #expect(world.hypervisor.starts(i1) == 2)
        }
    }

    @Test func aDeafGuestIsEndedByForceAfterTheGrace() async throws {
        let world = NodeWorld()
        var deaf = SimulatedHypervisor.Behaviour()
        deaf.hearsACPI = false
        world.hypervisor.setBehaviour(deaf)
        try await world.life {
            try await running(world)
            let asked = world.clock.now()
            _ = try await world.actions.stopInstance(NC.StopInstance(instanceId: i1, generation: 2, graceSeconds: 25), world.context)
            try await world.until { try await world.state(i1) == "stopped" }
            #expect(world.clock.now().seconds(since: asked) >= 25)
            #expect(world.hypervisor.calls.filter { $0 == "shutdown \(i1)" }.count == 3, "asked at 0, 10 and 20 s")
            #expect(world.hypervisor.calls.contains("destroy \(i1)"))
        }
    }

    @Test func theGuestsOwnShutdownIsToldAndNotUndone() async throws {
        let world = NodeWorld()
        try await world.life {
            try await running(world)
            world.hypervisor.guestShutsDown(i1)
            try await world.until { try await world.state(i1) == "stopped" }
            #expect(try await world.report(i1)?.reason == "guest")
            try await world.pass(seconds: 20)
            #expect(world.hypervisor.starts(i1) == 1)
        }
        // The reason survives the node and libvirtd.
        world.hypervisor.restartHost()
        try await world.life {
            try await world.pass(seconds: 6)
            #expect(try await world.report(i1)?.reason == "guest")
            #expect(world.hypervisor.starts(i1) == 1)
        }
    }

    @Test func aCrashIsTold() async throws {
        let world = NodeWorld()
        try await world.life {
            try await running(world)
            world.hypervisor.crash(i1)
            try await world.until { try await world.state(i1) == "crashed" }
            try await world.pass(seconds: 10)
            #expect(world.hypervisor.starts(i1) == 1)
        }
    }

    @Test func theHostsRestartStartsNothing() async throws {
        let world = NodeWorld()
        try await world.life { try await running(world) }
        world.hypervisor.restartHost()
        try await world.life {
            try await world.until { try await world.state(i1) == "stopped" }
            #expect(try await world.report(i1)?.reason == "The node was restarted")
            #expect(world.hypervisor.starts(i1) == 1)
        }
    }

    @Test func aFullDiskPausesAndRoomLetsItGoOn() async throws {
        let world = NodeWorld()
        try await world.life {
            try await running(world)
            world.disks.setFreeBytes(0)
            world.hypervisor.diskFull(i1)
            try await world.until { try await world.state(i1) == "paused" }
            try await world.pass(seconds: 20)
            #expect(try await world.state(i1) == "paused")
            let node = try await world.actions.describeResource(NC.DescribeResource(), world.context).node
            #expect(node?.state == "degraded" && node?.usedDiskGiB == 100)
            #expect(node?.lastError == "The disk is full: 0 MiB are free, 64 are needed; standing still: \(i1)")
            let refused = await #expect(throws: CloudError.self) { try await world.run("i-00000099") }
            #expect(
                refused?.reason == .capacity(Shortage(.diskGiB, [.init("node node1", .diskGiB, asked: 4, free: 0, limit: 100)])))
            #expect(try await world.report("i-00000099") == nil)
            world.disks.setFreeBytes(1 << 30)
            try await world.until { try await world.state(i1) == "running" }
            #expect(world.hypervisor.starts(i1) == 1)
        }
    }

    @Test func terminateLeavesNothing() async throws {
        let world = NodeWorld()
        try await world.life {
            try await world.connect([i1], generation: 1)
            try await world.run(i1, volumes: [NodeWorld.volume(1)])
            try await world.until { try await world.state(i1) == "running" }
            #expect(world.storage.exports.count == 1)
            _ = try await world.actions.terminateInstance(NC.TerminateInstance(instanceId: i1, generation: 2), world.context)
            try await world.until { try await world.state(i1) == "terminated" }
            #expect(try await world.hypervisor.domain(named: i1) == nil)
            #expect(world.disks.instances == [])
            #expect(world.storage.exports == [])
            #expect(await world.network.removed == [i1])
            #expect(try await world.report(i1)?.diskGiB == 0)
            // The tombstone fences commands that were long on their way.
            await #expect(throws: CloudError(.stale(newest: 2))) { try await world.run(i1, generation: 1) }
            await #expect(throws: CloudError.self) { try await world.run(i1, generation: 3) }
            let again = try await world.actions.terminateInstance(NC.TerminateInstance(instanceId: i1, generation: 2), world.context)
            #expect(again.instance?.state == "terminated")
        }
    }

    @Test func terminatingWhatIsNotKnownSucceedsAndLeavesATombstone() async throws {
        let world = NodeWorld()
        try await world.life {
            _ = try await world.actions.terminateInstance(NC.TerminateInstance(instanceId: i1, generation: 4), world.context)
            try await world.until { try await world.state(i1) == "terminated" }
            await #expect(throws: CloudError(.stale(newest: 4))) { try await world.run(i1, generation: 3) }
        }
    }

    @Test func terminateDuringTheLaunchWins() async throws {
        let world = NodeWorld()
        try await world.life {
            try await world.run(i1)
            try await world.pass(seconds: 2)
            _ = try await world.actions.terminateInstance(NC.TerminateInstance(instanceId: i1, generation: 2), world.context)
            try await world.connect([i1], generation: 1)
            try await world.until { try await world.state(i1) == "terminated" }
            #expect(world.hypervisor.starts(i1) == 0)
            #expect(world.disks.instances == [])
        }
    }

    @Test func terminateEndsADownloadAtOnce() async throws {
        let world = NodeWorld()
        world.images.setDelay(milliseconds: 3_600_000, clock: world.clock)
        try await world.life {
            try await world.run(i1)
            try await world.pass(seconds: 2)
            let asked = world.clock.now()
            _ = try await world.actions.terminateInstance(NC.TerminateInstance(instanceId: i1, generation: 2), world.context)
            try await world.until { try await world.state(i1) == "terminated" }
            #expect(world.clock.now().seconds(since: asked) < 5)
        }
    }

    @Test func stopThenRunAtOnceGoesDownAndUp() async throws {
        let world = NodeWorld()
        try await world.life {
            try await running(world)
            _ = try await world.actions.stopInstance(NC.StopInstance(instanceId: i1, generation: 2), world.context)
            try await world.until { world.hypervisor.calls.contains("shutdown \(i1)") }
            try await world.run(i1, generation: 3)
            try await world.until { world.hypervisor.starts(i1) == 2 }
            try await world.until { try await world.state(i1) == "running" }
        }
    }

    @Test func rebootsOncePerCountAndResetsADeafGuest() async throws {
        let world = NodeWorld()
        try await world.life {
            try await running(world)
            for _ in 0..<3 { _ = try await world.actions.rebootInstance(NC.RebootInstance(instanceId: i1, rebootCount: 1), world.context) }
            try await world.until { try await world.report(i1)?.rebootCount == 1 }
            #expect(world.hypervisor.calls.filter { $0 == "reboot \(i1)" }.count == 1)
            #expect(!world.hypervisor.calls.contains("reset \(i1)"))
            var deaf = SimulatedHypervisor.Behaviour()
            deaf.hearsACPI = false
            world.hypervisor.setBehaviour(deaf)
            _ = try await world.actions.rebootInstance(NC.RebootInstance(instanceId: i1, rebootCount: 2), world.context)
            try await world.until { try await world.report(i1)?.rebootCount == 2 }
            #expect(world.hypervisor.calls.filter { $0 == "reset \(i1)" }.count == 1)
            #expect(try await world.state(i1) == "running")
        }
    }

    @Test func aLaunchThatCannotWorkFailsWithItsReason() async throws {
        let world = NodeWorld()
        world.images.setFailure { _ in CloudError(.named(code: "InvalidImage.Digest", status: 400), "the image is broken") }
        try await world.life {
            try await world.connect([i1], generation: 1)
            try await world.run(i1)
            try await world.until { try await world.state(i1) == "failed" }
            #expect(try await world.report(i1)?.reason == "the image is broken")
            // Nothing of it is kept busy, and a newer order may work.
            world.images.setFailure(nil)
            try await world.run(i1, generation: 2)
            try await world.until { try await world.state(i1) == "running" }
        }
    }

    @Test func aLaunchIsTriedAgainButNotForEver() async throws {
        let world = NodeWorld()
        world.hypervisor.setFailure { call, _ in call == "start" ? CloudError(.unavailable("The hypervisor")) : nil }
        try await world.life(attempts: 3) {
            try await world.connect([i1], generation: 1)
            try await world.run(i1)
            try await world.until { try await world.state(i1) == "failed" }
            world.hypervisor.setFailure(nil)
            try await world.run(i1, generation: 2)
            try await world.until { try await world.state(i1) == "running" }
        }
    }

    @Test func moreThanTheNodeHasIsRefusedWithNumbers() async throws {
        let world = NodeWorld(capacity: NodeCapacity(cores: 2, memoryMiB: 8192, diskGiB: 100))
        try await world.life {
            try await running(world)
            do {
                try await world.run("i-00000002", cores: 2)
                Issue.record("it was accepted")
            } catch let error as CloudError {
                #expect(error.message.contains("asked 2 cores, 1 free of 2"))
            }
            #expect(try await world.report("i-00000002") == nil)
            // A stopped one gives its core back, but keeps its disk.
            _ = try await world.actions.stopInstance(NC.StopInstance(instanceId: i1, generation: 2), world.context)
            try await world.until { try await world.state(i1) == "stopped" }
            try await world.run("i-00000002", cores: 2)
            let node = try await world.actions.describeResource(NC.DescribeResource(), world.context).node
            #expect(node?.usedCores == 2)
            #expect(node?.usedDiskGiB == 8)
        }
    }

    @Test func aDomainThatNobodyOrderedIsToldAndLeftAlone() async throws {
        let world = NodeWorld()
        let stray = "i-0badbad0"
        world.hypervisor.addForeign(
            DomainStatus(name: stray, uuid: "", instanceID: stray, state: .running, cores: 1, memoryMiB: 64, diskSerials: []))
        world.hypervisor.addForeign(
            DomainStatus(name: "their-web-server", uuid: "", instanceID: nil, state: .running, cores: 1, memoryMiB: 64, diskSerials: []))
        try await world.life {
            try await world.until { try await world.report(stray) != nil }
            let report = try #require(try await world.report(stray))
            #expect(report.known == false)
            #expect(report.state == "running")
            #expect(try await world.report("their-web-server") == nil)
            try await world.pass(seconds: 20)
            #expect(try await world.hypervisor.domain(named: stray) != nil)
        }
    }

    @Test func aFullJournalDiskRefusesTheCommandAndChangesNothing() async throws {
        let world = NodeWorld()
        try await world.life {
            try await running(world)
            world.records.fail(with: CloudError(.capacity(Shortage(.diskGiB, [])), "full"))
            await #expect(throws: CloudError.self) {
                try await world.actions.stopInstance(NC.StopInstance(instanceId: i1, generation: 2), world.context)
            }
            try await world.pass(seconds: 5)
            #expect(try await world.state(i1) == "running")
            world.records.fail(with: nil)
            _ = try await world.actions.stopInstance(NC.StopInstance(instanceId: i1, generation: 2), world.context)
            try await world.until { try await world.state(i1) == "stopped" }
        }
    }

    @Test(arguments: [
        "instance.launch.image", "instance.launch.disk", "instance.launch.defined", "instance.launch.started",
    ])
    func killedWhileItStartsItRunsOnce(_ place: String) async throws {
        let world = NodeWorld()
        let fault = FaultAt(place)
        try await world.life(faults: fault, attempts: 1_000) {
            try await world.connect([i1], generation: 1)
            try await world.run(i1)
            try await world.until { fault.wasHit }
        }
        try await world.life {
            try await world.connect([i1], generation: 1)
            try await world.until { try await world.state(i1) == "running" }
            #expect(world.hypervisor.starts(i1) == 1)
            #expect(world.images.downloads == 3)
        }
    }

    @Test(arguments: ["instance.remove.undefined", "instance.remove.files"])
    func killedWhileItGoesItIsGone(_ place: String) async throws {
        let world = NodeWorld()
        let fault = FaultAt(place)
        try await world.life(faults: fault) {
            try await running(world)
            _ = try await world.actions.terminateInstance(NC.TerminateInstance(instanceId: i1, generation: 2), world.context)
            try await world.until { fault.wasHit }
        }
        try await world.life {
            try await world.until { try await world.state(i1) == "terminated" }
            #expect(try await world.hypervisor.domain(named: i1) == nil)
            #expect(world.disks.instances == [])
        }
    }

    @Test func theMetadataServiceFindsOrdersByAddress() async throws {
        let world = NodeWorld()
        try await world.life {
            try await running(world)
            #expect(await world.keeper.order(privateAddress: "10.1.0.10")?.instanceId == i1)
            #expect(await world.keeper.order(privateAddress: "10.1.0.11") == nil)
            await world.keeper.metadataServed(instanceID: i1)
            #expect(try await world.report(i1)?.trace.last?.step == "metadata")
        }
    }
}
