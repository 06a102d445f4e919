import API
import Domain
import NodeControllerKit
import Testing
import Wire
import Workflow

/// Attachments: exports at the storage controller and disks at the hypervisor, in the right order whatever happens.
@Suite struct InstanceVolumeTests {
    let i1 = "i-00000001"
    let v1 = "vol-00000001"

    private func attach(_ world: NodeWorld, generation: Int = 2, attachment: Int = 1) async throws {
        _ = try await world.actions.attachVolume(
            NC.AttachVolume(instanceId: i1, volume: NodeWorld.volume(1, attachment: attachment), generation: generation), world.context)
    }
    private func detach(_ world: NodeWorld, generation: Int = 3, attachment: Int = 1, force: Bool = false) async throws {
        _ = try await world.actions.detachVolume(
            NC.DetachVolume(
                instanceId: i1, volumeId: v1, attachmentId: "attach-0000000\(attachment)", generation: generation, force: force),
            world.context)
    }
    private func plugged(_ world: NodeWorld) async throws -> Bool {
        try await world.hypervisor.domain(named: i1)?.diskSerials.contains(v1) ?? false
    }
    private func running(_ world: NodeWorld) async throws {
        try await world.connect([i1], generation: 1)
        try await world.run(i1)
        try await world.until { try await world.state(i1) == "running" }
    }

    @Test func attachesAndDetaches() async throws {
        let world = NodeWorld()
        try await world.life {
            try await running(world)
            try await attach(world)
            try await world.until { try await world.volume(i1, v1)?.state == "attached" }
            #expect(try await plugged(world))
            #expect(world.storage.exports.count == 1)
            try await detach(world)
            try await world.until { try await world.volume(i1, v1)?.state == "detached" }
            #expect(try await !plugged(world))
            #expect(world.storage.exports == [])
            #expect(world.storage.log.last?.hasPrefix("UnexportVolume") == true)
            // Again, by a new attachment.
            try await attach(world, generation: 4, attachment: 2)
            try await world.until { try await world.volume(i1, v1)?.state == "attached" }
            #expect(try await world.volume(i1, v1)?.attachmentId == "attach-00000002")
        }
    }

    @Test func aDetachCountsOnlyWhenTheDeviceIsGone() async throws {
        let world = NodeWorld()
        var stubborn = SimulatedHypervisor.Behaviour()
        stubborn.releasesDisks = false
        try await world.life {
            try await running(world)
            try await attach(world)
            try await world.until { try await world.volume(i1, v1)?.state == "attached" }
            world.hypervisor.setBehaviour(stubborn)
            try await detach(world)
            try await world.pass(seconds: 30)
            #expect(try await world.volume(i1, v1)?.state == "detaching")
            #expect(world.storage.exports.count == 1, "the export must live as long as the device")
            #expect(world.hypervisor.calls.filter { $0 == "detachDisk \(i1)" }.count > 3, "asked again and again")
            // Force: revoked first; then the guest lets go at last.
            try await detach(world, generation: 4, force: true)
            try await world.until { world.storage.exports.isEmpty }
            #expect(try await world.volume(i1, v1)?.state == "detaching")
            world.hypervisor.setBehaviour(SimulatedHypervisor.Behaviour())
            try await world.until { try await world.volume(i1, v1)?.state == "detached" }
        }
    }

    @Test func aStartBringsItsVolumesAlong() async throws {
        let world = NodeWorld()
        try await world.life {
            try await running(world)
            try await attach(world)
            try await world.until { try await world.volume(i1, v1)?.state == "attached" }
            _ = try await world.actions.stopInstance(NC.StopInstance(instanceId: i1, generation: 5), world.context)
            try await world.until { try await world.state(i1) == "stopped" }
            #expect(try await world.volume(i1, v1)?.state == "attached")
            try await world.run(i1, generation: 6)
            try await world.until { try await world.state(i1) == "running" }
            #expect(try await plugged(world))
            #expect(world.hypervisor.specification(i1)?.volumes.map(\.serial) == [v1])
        }
    }

    @Test func generationsOfAttachmentsAreTheirOwn() async throws {
        let world = NodeWorld()
        try await world.life {
            try await world.connect([i1], generation: 1)
            // The instance is at generation 50, its attachment at 1.
            try await world.run(i1, generation: 50, volumes: [NodeWorld.volume(1)])
            try await world.until { try await world.volume(i1, v1)?.state == "attached" }
            try await attach(world, generation: 1)
            #expect(try await world.volume(i1, v1)?.generation == 1)
            #expect(try await world.volume(i1, v1)?.state == "attached")
            try await detach(world, generation: 2)
            try await world.until { try await world.volume(i1, v1)?.state == "detached" }
            #expect(try await world.volume(i1, v1)?.generation == 2)
            #expect(world.storage.exports == [])
        }
    }

    @Test func aDetachOfAStoppedInstanceOnlyRevokes() async throws {
        let world = NodeWorld()
        try await world.life {
            try await running(world)
            try await attach(world)
            try await world.until { try await world.volume(i1, v1)?.state == "attached" }
            _ = try await world.actions.stopInstance(NC.StopInstance(instanceId: i1, generation: 5), world.context)
            try await world.until { try await world.state(i1) == "stopped" }
            try await detach(world, generation: 6)
            try await world.until { try await world.volume(i1, v1)?.state == "detached" }
            #expect(world.storage.exports == [])
        }
    }

    @Test func anAttachThatComesAfterItsDetachIsStale() async throws {
        let world = NodeWorld()
        try await world.life {
            try await running(world)
            try await detach(world, generation: 7)
            await #expect(throws: CloudError(.stale(newest: 7))) {
                try await world.actions.attachVolume(
                    NC.AttachVolume(instanceId: i1, volume: NodeWorld.volume(1, attachment: 2), generation: 6), world.context)
            }
            await #expect(throws: CloudError(.stale(newest: 7))) { try await attach(world, generation: 6) }
            try await attach(world, generation: 8)
            try await world.pass(seconds: 3)
            #expect(try await !plugged(world), "the same attachment was detached before")
        }
    }

    @Test func aStorageControllerThatIsAwayOnlyDelays() async throws {
        let world = NodeWorld()
        try await world.life {
            try await running(world)
            world.storage.fail(with: CloudError(.unavailable("The storage controller")))
            try await attach(world)
            try await world.pass(seconds: 5)
            #expect(try await world.volume(i1, v1)?.state == "attaching")
            #expect(try await world.volume(i1, v1)?.error != nil)
            world.storage.fail(with: nil)
            try await world.until { try await world.volume(i1, v1)?.state == "attached" }
            #expect(try await world.volume(i1, v1)?.error == nil)
        }
    }

    @Test func aVolumeThatCannotBeExportedFails() async throws {
        let world = NodeWorld()
        try await world.life {
            try await running(world)
            world.storage.fail(with: CloudError(.notFound(.volume, id: v1)))
            try await attach(world)
            try await world.until { try await world.volume(i1, v1)?.state == "failed" }
        }
    }

    @Test(arguments: ["volume.attach.exported", "volume.attach.plugged"])
    func killedWhileItAttaches(_ place: String) async throws {
        let world = NodeWorld()
        let fault = FaultAt(place)
        try await world.life(faults: fault) {
            try await running(world)
            try await attach(world)
            try await world.until { fault.wasHit }
        }
        try await world.life {
            try await world.until { try await world.volume(i1, v1)?.state == "attached" }
            #expect(world.storage.exports.count == 1)
            try await detach(world)
            try await world.until { try await world.volume(i1, v1)?.state == "detached" }
            #expect(world.storage.exports == [])
        }
    }

    @Test func killedWhileItDetaches() async throws {
        let world = NodeWorld()
        let fault = FaultAt("volume.detach.unexported")
        try await world.life(faults: fault) {
            try await running(world)
            try await attach(world)
            try await world.until { try await world.volume(i1, v1)?.state == "attached" }
            try await detach(world)
            try await world.until { fault.wasHit }
        }
        try await world.life {
            try await world.until { try await world.volume(i1, v1)?.state == "detached" }
            #expect(world.storage.exports == [])
        }
    }

    @Test func deviceNamesAreTakenOnceEach() {
        #expect(InstanceNames.diskTarget(for: "/dev/sdf", taken: []) == "vdf")
        #expect(InstanceNames.diskTarget(for: "/dev/vdb1", taken: []) == "vdb")
        #expect(InstanceNames.diskTarget(for: "/dev/sda", taken: []) == "vdb", "vda is the root disk")
        #expect(InstanceNames.diskTarget(for: "/dev/sdf", taken: ["vdf", "vdb"]) == "vdc")
        #expect(InstanceNames.diskTarget(for: "", taken: Set("bcdefghijklmnopqrstuvwxyz".map { "vd\($0)" })) == nil)
    }
}
