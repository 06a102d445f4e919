import Domain
import Testing

@Suite struct InstancePlanTests {
    private func intent(_ desired: DesiredInstance, _ generation: Int64 = 3, attempts: Int = 0, save: SaveProgress = .none)
        -> InstanceIntent
    {
        InstanceIntent(desired, generation: generation, rebootCount: 1, attempts: attempts, onGuestShutdown: .stop, save: save)
    }
    private func seen(_ state: NodeInstanceState, _ generation: Int64 = 3, reboots: Int = 1, reason: String = "") -> InstanceSight {
        .reported(InstanceFacts(state, generation: generation, rebootCount: reboots, reason: reason))
    }

    @Test func aRowIsRunOnceTheNodeIsSeenWithoutIt() {
        #expect(InstancePlanner.plan(intent(.running), .silent) == .wait(.nodeSilent))
        #expect(InstancePlanner.plan(intent(.running), .absent) == .run)
        #expect(InstancePlanner.plan(intent(.running), seen(.stopped, 2)) == .run)
        #expect(InstancePlanner.plan(intent(.running), seen(.pending)) == .wait(.nodeWorking))
        #expect(InstancePlanner.plan(intent(.running), seen(.running)) == .settled)
    }

    @Test func aRebootIsSentUntilTheNodeHasCountedIt() {
        #expect(InstancePlanner.plan(intent(.running), seen(.running, reboots: 0)) == .reboot)
        #expect(InstancePlanner.plan(intent(.running), seen(.running, reboots: 2)) == .settled)
    }

    @Test func failuresAreTriedAgainThenGivenUpWithTheirReason() {
        #expect(InstancePlanner.plan(intent(.running, attempts: 0), seen(.failed, reason: "no disk")) == .retry(reason: "no disk"))
        #expect(
            InstancePlanner.plan(intent(.running, attempts: 3), seen(.failed, reason: "no disk"))
                == .giveUp(reason: "Server.InternalError: no disk"))
    }

    @Test func theGuestsOwnShutdownFollowsTheBehaviour() {
        #expect(InstancePlanner.plan(intent(.running), seen(.stopped, reason: "guest")) == .guestShutDown(.stop))
        #expect(InstancePlanner.plan(intent(.running), seen(.stopped)) == .retry(reason: "the instance stopped on its node"))
    }

    @Test func onlyATombstoneOfOurGenerationEndsAnInstance() {
        #expect(InstancePlanner.plan(intent(.terminated), .silent) == .wait(.nodeSilent))
        #expect(InstancePlanner.plan(intent(.terminated), .absent) == .terminate(force: false))
        #expect(InstancePlanner.plan(intent(.stopped), .absent) == .stop(force: false))
        #expect(InstancePlanner.plan(intent(.terminated), seen(.running, 2)) == .terminate(force: false))
        #expect(InstancePlanner.plan(intent(.terminated), seen(.terminating)) == .wait(.nodeWorking))
        #expect(InstancePlanner.plan(intent(.terminated), seen(.terminated, 2)) == .terminate(force: false))
        #expect(InstancePlanner.plan(intent(.terminated), seen(.terminated)) == .finish)
        #expect(InstancePlanner.plan(intent(.terminated), .nodeGone) == .finish)
    }

    @Test func aDiskToBeSavedIsStoppedSavedAndOnlyThenRemoved() {
        let wanted = intent(.terminated, save: .wanted)
        #expect(InstancePlanner.plan(wanted, seen(.running, 2)) == .stop(force: false))
        #expect(InstancePlanner.plan(wanted, seen(.stopping)) == .wait(.nodeWorking))
        #expect(InstancePlanner.plan(wanted, seen(.stopped)) == .beginSave)
        #expect(InstancePlanner.plan(intent(.terminated, save: .saving), seen(.stopped)) == .wait(.saving))
        #expect(InstancePlanner.plan(intent(.terminated, 4, save: .saved), seen(.stopped)) == .terminate(force: false))
    }

    @Test func aNewerGenerationThanTheRowsIsOvertaken() {
        for desired in DesiredInstance.allCases {
            #expect(InstancePlanner.plan(intent(desired), seen(.running, 9)) == .overtake(9))
        }
    }

    /// Whatever is wanted and seen, a fair node brings the row to rest in a few rounds, and never by way of a lost disk.
    @Test func everyPairComesToRest() {
        for desired in DesiredInstance.allCases {
            for state in NodeInstanceState.allCases {
                for generation in [Int64(1), 3] {
                    var row = intent(desired)
                    var world: InstanceSight = seen(state, generation)
                    var rounds = 0
                    loop: while rounds < 20 {
                        rounds += 1
                        switch InstancePlanner.plan(row, world) {
                        case .settled, .finish: break loop
                        case .wait:
                            guard case .reported(let f) = world else { break loop }
                            let next: NodeInstanceState =
                                switch f.state {
                                case .terminating: .terminated
                                case .pending where row.desired == .running: .running
                                case .stopping where row.desired == .running, .stopped, .crashed, .failed, .terminated: .stopped
                                case .pending, .running, .paused, .stopping: .stopped
                                }
                            world = seen(next, f.generation, reboots: f.rebootCount)
                        case .run: world = seen(.pending, row.generation)
                        case .stop: world = seen(.stopping, row.generation)
                        case .terminate: world = seen(.terminating, row.generation)
                        case .reboot: world = seen(.running, row.generation, reboots: row.rebootCount)
                        case .retry:
                            row.attempts += 1
                            row.generation += 1
                        case .giveUp:
                            row.desired = .terminated
                            row.generation += 1
                        case .guestShutDown: row.desired = .stopped
                        case .overtake(let g): row.generation = g + 1
                        case .beginSave: row.save = .saved
                        }
                    }
                    #expect(rounds < 20, "\(desired) \(state) \(generation)")
                }
            }
        }
    }

    @Test func clientsSeeTheDerivedState() {
        func state(_ d: DesiredInstance, _ f: InstanceFacts?, finished: Bool = false) -> EC2InstanceState {
            InstancePlanner.state(intent(d), f, finished: finished)
        }
        #expect(state(.running, nil) == .pending)
        #expect(state(.running, InstanceFacts(.running, generation: 3)) == .running)
        #expect(state(.running, InstanceFacts(.running, generation: 2)) == .pending)
        #expect(state(.running, InstanceFacts(.paused, generation: 3)) == .running)
        #expect(state(.stopped, InstanceFacts(.running, generation: 2)) == .stopping)
        #expect(state(.stopped, InstanceFacts(.stopped, generation: 3)) == .stopped)
        #expect(state(.terminated, InstanceFacts(.terminated, generation: 3)) == .shuttingDown)
        #expect(state(.terminated, nil, finished: true) == .terminated)
        #expect(EC2InstanceState.allCases.map(\.code) == [0, 16, 32, 48, 64, 80])
    }
}
