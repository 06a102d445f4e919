import Synchronization

/// What the client has been told, and so may rely on.
final class Expectations: Sendable {
    enum Wish: String, Sendable { case running, stopped, terminated }

    struct Instance: Sendable {
        /// What the last call that was answered asked for; `nil` when chance has had its hand in it (guests shut down).
        var wish: Wish? = .running
        /// A call about it is under way.
        var isBusy = false
        /// It was stopped when the call under way began, and chance has not had its hand in it since: once the call is answered, a start is
        /// a promise. Otherwise it may have been running, and its guest's shutdown not noticed yet.
        var wasStopped = false
        /// Its guest or its host crashed: it may be given up.
        var hasCrashed = false
    }
    struct Volume: Sendable {
        var isBusy = false
        var isDeleted = false
    }
    struct Launch: Sendable {
        let token: String
        let count: ClosedRange<Int>
        let type: String
        var ids: [String]?
    }
    struct State: Sendable {
        var instances: [String: Instance] = [:]
        var volumes: [String: Volume] = [:]
        var launches: [Launch] = []
        var groups: [String] = []
    }
    private let state = Mutex(State())

    func with<R: Sendable>(_ body: (inout State) -> R) -> R { state.withLock { s in body(&s) } }
    var now: State { state.withLock { $0 } }

    /// An instance about which no call is under way, for one.
    func take(_ choose: ([String]) -> String?, where fits: (Instance) -> Bool) -> String? {
        state.withLock { s in
            let free = s.instances.filter { !$0.value.isBusy && fits($0.value) }.keys.sorted()
            guard let id = choose(free) else { return nil }
            s.instances[id]?.isBusy = true
            let wish = s.instances[id]?.wish
            s.instances[id]?.wasStopped = wish == .stopped
            return id
        }
    }
    func giveBackStarted(_ id: String) { giveBack(id, wish: now.instances[id]?.wasStopped == true ? .running : .some(nil)) }
    func giveBack(_ id: String, wish: Wish?? = nil) {
        state.withLock { s in
            s.instances[id]?.isBusy = false
            // Terminated is final, whatever else happened meanwhile.
            if let wish, s.instances[id]?.wish != .terminated { s.instances[id]?.wish = wish }
        }
    }
    func takeVolume(_ choose: ([String]) -> String?) -> String? {
        state.withLock { s in
            let free = s.volumes.filter { !$0.value.isBusy && !$0.value.isDeleted }.keys.sorted()
            guard let id = choose(free) else { return nil }
            s.volumes[id]?.isBusy = true
            return id
        }
    }
    func giveBackVolume(_ id: String, deleted: Bool = false) {
        state.withLock { s in
            s.volumes[id]?.isBusy = false
            if deleted { s.volumes[id]?.isDeleted = true }
        }
    }
}
