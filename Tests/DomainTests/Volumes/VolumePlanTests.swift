import Domain
import Testing

@Suite struct VolumePlanTests {
    private func stored(_ s: StoredVolumeState, _ g: Int64 = 2) -> Sight<StoredVolumeState> { .reported(Stamped(s, generation: g)) }
    private func node(_ s: NodeVolumeState, _ g: Int64 = 2, _ error: String = "") -> Sight<NodeVolumeState> {
        .reported(Stamped(s, generation: g, error: error))
    }

    @Test func aVolumeIsMadeOnceAndNeverMadeAnew() {
        #expect(VolumePlanner.plan(.available, generation: 2, .silent) == .wait)
        #expect(VolumePlanner.plan(.available, generation: 2, .absent) == .create)
        #expect(VolumePlanner.plan(.available, generation: 2, stored(.creating)) == .wait)
        #expect(VolumePlanner.plan(.available, generation: 2, stored(.available)) == .settled)
        #expect(VolumePlanner.plan(.available, generation: 2, stored(.failed)) == .settled)
        #expect(VolumePlanner.state(.available, .failed, attached: false, finished: false) == .error)
    }

    @Test func aDeletionIsSentUntilConfirmed() {
        #expect(VolumePlanner.plan(.deleted, generation: 2, .absent) == .delete)
        #expect(VolumePlanner.plan(.deleted, generation: 2, stored(.available)) == .delete)
        #expect(VolumePlanner.plan(.deleted, generation: 2, stored(.deleted, 1)) == .delete)
        #expect(VolumePlanner.plan(.deleted, generation: 2, stored(.deleted)) == .finish)
        #expect(VolumePlanner.plan(.deleted, generation: 2, stored(.deleted, 5)) == .overtake(5))
    }

    @Test func aSnapshotIsNotMadeLaterThanItsAnswer() {
        #expect(SnapshotPlanner.plan(.available, generation: 1, .absent) == .settled)
        #expect(SnapshotPlanner.state(nil) == .pending)
    }

    @Test func aDetachCountsOnlyWhenTheHypervisorHasLetGo() {
        func plan(_ d: DesiredAttachment, _ s: Sight<NodeVolumeState>, host: AttachmentHost = .running) -> AttachmentStep {
            AttachmentPlanner.plan(d, generation: 2, force: false, host: host, s)
        }
        #expect(plan(.attached, .absent) == .attach)
        #expect(plan(.attached, .absent, host: .stopped) == .wait)
        #expect(plan(.attached, node(.attaching)) == .wait)
        #expect(plan(.attached, node(.attached)) == .settled)
        #expect(plan(.attached, node(.attached, 7)) == .settled)
        #expect(plan(.attached, node(.failed, 2, "no export")) == .giveUp("no export"))
        #expect(plan(.detached, node(.attached, 7)) == .overtake(7))
        #expect(plan(.detached, node(.attached, 1)) == .detach(force: false))
        #expect(plan(.detached, node(.detaching)) == .wait)
        #expect(plan(.detached, .silent) == .wait)
        #expect(plan(.detached, node(.detached)) == .finish)
        #expect(plan(.detached, node(.detached, 1)) == .detach(force: false))
        #expect(plan(.detached, node(.attached), host: .ended) == .finish)
    }

    @Test func clientsSeeInUseAndTheAttachmentsState() {
        #expect(VolumePlanner.state(.available, .available, attached: true, finished: false) == .inUse)
        #expect(VolumePlanner.state(.available, .available, attached: false, finished: false) == .available)
        #expect(VolumePlanner.state(.deleted, .available, attached: false, finished: false) == .deleting)
        #expect(AttachmentPlanner.state(.attached, .attaching, finished: false) == .attaching)
        #expect(AttachmentPlanner.state(.attached, .attached, finished: false) == .attached)
        #expect(AttachmentPlanner.state(.detached, .attached, finished: false) == .detaching)
        #expect(AttachmentPlanner.state(.detached, .detached, finished: true) == .detached)
    }

    @Test(arguments: ["/dev/sdf", "sdf", "/dev/vdc", "xvdz", "/dev/xvdb"]) func deviceNames(_ text: String) throws {
        let device = try DeviceName(parsing: text)
        #expect(device.text == text)
        #expect(device.letter == text.last)
    }
    @Test(arguments: ["", "/dev/sda", "/dev/sda1", "sd", "/dev/sdf1", "/etc/passwd", "/dev/sdF"]) func badDeviceNames(_ text: String) {
        #expect(throws: CloudError.self) { try DeviceName(parsing: text) }
    }
}
