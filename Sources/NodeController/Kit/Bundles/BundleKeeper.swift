public import API
public import Daemon
public import Domain
import Glibc
import Logging
import Synchronization
import Workflow

/// Makes images of instances' disks: flatten, bundle, upload, forget. The journal has the task before it is answered; a task that a
/// kill cut off is bundled again from the start, an upload goes on with the parts that are missing when it is asked again
/// (addresses are not kept).
public actor BundleKeeper {
    private let environment: NodeEnvironment
    private let staging: any BundleStaging
    private let http: any HTTPRequesting
    private let nudge: @Sendable ([String]) -> Void
    private nonisolated let tasks: AsyncStream<String>
    private nonisolated let taskContinuation: AsyncStream<String>.Continuation
    private var addresses: [String: [Int: String]] = [:]
    private var progress: [String: Int] = [:]
    private var active: Set<String> = []
    private nonisolated let cancelled = Mutex<Set<String>>([])

    /// Tries for each part's upload.
    static let attempts = 4
    /// Uploads of one task at a time.
    static let parallel = 3

    public init(
        environment: NodeEnvironment, staging: any BundleStaging, http: any HTTPRequesting, nudge: @escaping @Sendable ([String]) -> Void
    ) {
        self.environment = environment
        self.staging = staging
        self.http = http
        self.nudge = nudge
        (tasks, taskContinuation) = AsyncStream.makeStream(of: String.self)
    }

    private var journal: Journal { environment.journal }

    // MARK: Commands

    public func begin(_ request: NC.BundleInstance) async throws(CloudError) -> NC.BundleReport {
        let id = try BundleTaskID(parsing: request.taskId).text
        let instanceID = try InstanceID(parsing: request.instanceId).text
        guard Self.isName(request.imageName) else { throw CloudError(.invalidParameter("imageName")) }
        guard !request.recipients.isEmpty else { throw CloudError(.missingParameter("recipients")) }
        if let known = await journal.bundle(id) { return known.report(progress: percent(known)) }
        guard let instance = await journal.instance(instanceID), instance.desired != .terminated else {
            throw CloudError(.notFound(.instance, id: instanceID))
        }
        guard await environment.disks.existingRoot(instanceID) != nil else {
            throw CloudError(.incorrectState(.instance, id: instanceID, state: "pending"))
        }
        let record = try await journal.updateBundle(id) { record in
            if record == nil {
                record = BundleRecord(taskID: id, instanceID: instanceID, imageName: request.imageName, recipients: request.recipients)
            }
        }
        guard let record else { throw CloudError.bug("a bundle task left no record") }
        taskContinuation.yield(id)
        return record.report(progress: 0)
    }

    public func upload(_ request: NC.UploadBundleParts) async throws(CloudError) -> NC.BundleReport {
        let id = request.taskId
        guard let known = await journal.bundle(id) else { throw CloudError(.notFound(.bundleTask, id: id)) }
        switch known.state {
        case .bundling, .failed: throw CloudError(.incorrectState(.bundleTask, id: id, state: known.state.rawValue))
        case .uploaded: return known.report(progress: 100)
        case .ready, .uploading: break
        }
        for part in request.parts {
            guard let index = part.index, known.parts.indices.contains(index), let url = part.url else {
                throw CloudError(.invalidParameter("parts"))
            }
            addresses[id, default: [:]][index] = url
        }
        let record = try await journal.updateBundle(id) { record in
            record?.state = .uploading
            record?.error = ""
        }
        taskContinuation.yield(id)
        guard let record else { throw CloudError(.notFound(.bundleTask, id: id)) }
        return record.report(progress: percent(record))
    }

    /// Forgets the task; one that is being worked on stops first.
    public func end(_ id: String) async throws(CloudError) {
        _ = try BundleTaskID(parsing: id)
        guard let record = await journal.bundle(id) else { return }
        cancelled.withLock { _ = $0.insert(id) }
        // The worker sees the mark within a piece of work, and leaves nothing half done.
        var waited = 0
        while active.contains(id), waited < 600 {
            do { try await environment.clock.sleep(milliseconds: 50) } catch {
                throw CloudError(.unavailable("The bundle task"), context: "cancelled")
            }
            waited += 1
        }
        guard !active.contains(id) else {
            throw CloudError(.unavailable("The bundle task"), "The bundle task is still stopping; try again")
        }
        try await letGo(record)
        try await staging.remove(id)
        try await journal.updateBundle(id) { $0 = nil }
        addresses[id] = nil
        progress[id] = nil
        cancelled.withLock { _ = $0.remove(id) }
    }

    public func reports() async -> [NC.BundleReport] { await journal.allBundles().map { $0.report(progress: percent($0)) } }

    private func percent(_ record: BundleRecord) -> Int {
        switch record.state {
        case .bundling: return min(99, progress[record.taskID] ?? 0)
        case .uploading, .ready: return record.parts.isEmpty ? 0 : record.parts.filter(\.uploaded).count * 100 / record.parts.count
        case .uploaded: return 100
        case .failed: return 0
        }
    }

    /// The name becomes a file name and an archive member.
    static func isName(_ name: String) -> Bool {
        (1...128).contains(name.utf8.count) && !name.hasPrefix(".") && !name.hasPrefix("-")
            && name.utf8.allSatisfy {
                ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x41 && $0 <= 0x5a) || ($0 >= 0x61 && $0 <= 0x7a) || [0x2d, 0x2e, 0x5f].contains($0)
            }
    }

    // MARK: Work

    /// Runs until the task is cancelled. One task at a time: bundling takes a core.
    public func run() async {
        for record in await journal.allBundles() where record.state == .bundling { taskContinuation.yield(record.taskID) }
        for await id in tasks {
            if Task.isCancelled { return }
            guard let record = await journal.bundle(id), !isCancelled(id) else { continue }
            active.insert(id)
            switch record.state {
            case .bundling: await bundle(record)
            case .uploading: await uploadParts(id)
            case .ready, .uploaded, .failed: break
            }
            active.remove(id)
            nudge([id])
        }
    }

    private nonisolated func isCancelled(_ id: String) -> Bool { cancelled.withLock { $0.contains(id) } }

    private func note(_ id: String, progress percent: Int) { progress[id] = percent }

    private func bundle(_ record: BundleRecord) async {
        let id = record.taskID
        do throws(CloudError) {
            try await staging.remove(id)
            note(id, progress: 5)
            let size = try await flatten(record)
            note(id, progress: 40)
            try await environment.faults.point("bundle.flattened")
            let image = try await staging.bundle(id, record.imageName, for: record.recipients) { self.isCancelled(id) }
            try await journal.updateBundle(id) { record in
                guard var changed = record else { return }
                changed.state = .ready
                changed.size = size
                changed.digest = image.digest
                changed.parts = image.parts
                changed.bundledSize = image.parts.reduce(0) { $0 + $1.size }
                changed.encryptedKeys = image.encryptedKeys
                changed.encryptedIVs = image.encryptedIVs
                record = changed
            }
            environment.logger.info("bundle ready", metadata: ["task": "\(id)", "parts": "\(image.parts.count)", "bytes": "\(size)"])
        } catch {
            await fail(id, error)
            do throws(CloudError) { try await staging.remove(id) } catch {
                environment.logger.warning(
                    "a bundle's files could not be removed", metadata: ["task": "\(id)", "error": "\(error.context)"])
            }
        }
    }

    /// The disk as one raw file in staging. A running machine stands still meanwhile: a copy of a disk that is being written is no image.
    /// - Returns: bytes of the image.
    private func flatten(_ record: BundleRecord) async throws(CloudError) -> Int {
        let (id, instanceID) = (record.taskID, record.instanceID)
        guard let root = await environment.disks.existingRoot(instanceID) else { throw CloudError(.notFound(.instance, id: instanceID)) }
        let hypervisor = environment.hypervisor
        let status = try await hypervisor.domain(named: instanceID)
        switch status?.state {
        case .running:
            guard hypervisor.capabilities.pause else {
                throw CloudError(.incorrectState(.instance, id: instanceID, state: "running"))
            }
            // Written first: whoever finds it paused after a kill knows who did it.
            try await journal.updateBundle(id) { $0?.paused = true }
            try await hypervisor.pause(instanceID)
        case .paused(.user) where record.paused, nil, .shutOff: break
        case .paused, .shuttingDown: throw CloudError(.incorrectState(.instance, id: instanceID, state: "paused"))
        }
        let outcome: Result<Int, CloudError>
        do throws(CloudError) { outcome = .success(try await staging.flatten(id, root.path, record.imageName)) } catch {
            outcome = .failure(error)
        }
        if let now = await journal.bundle(id) { try await letGo(now) }
        return try outcome.get()
    }

    /// Lets a machine that was paused for a task go on.
    private func letGo(_ record: BundleRecord) async throws(CloudError) {
        guard record.paused else { return }
        if case .paused(.user)? = try await environment.hypervisor.domain(named: record.instanceID)?.state {
            try await environment.hypervisor.resume(record.instanceID)
        }
        try await journal.updateBundle(record.taskID) { $0?.paused = false }
    }

    private func uploadParts(_ id: String) async {
        guard let record = await journal.bundle(id) else { return }
        let urls = addresses[id] ?? [:]
        let missing = record.parts.indices.filter { !record.parts[$0].uploaded && urls[$0] != nil }
        do throws(CloudError) {
            typealias Outcome = Result<Int, CloudError>
            let problem = await withTaskGroup(of: Outcome.self) { group -> CloudError? in
                var next = 0
                var problem: CloudError?
                func start() {
                    guard next < missing.count, problem == nil else { return }
                    let index = missing[next]
                    next += 1
                    group.addTask {
                        do throws(CloudError) { return .success(try await self.uploadPart(record, index, urls[index] ?? "")) } catch {
                            return .failure(error)
                        }
                    }
                }
                for _ in 0..<Self.parallel { start() }
                // After a failure no new part begins, and what is on its way is still counted: it need not be sent again.
                for await outcome in group {
                    do throws(CloudError) {
                        let index = try outcome.get()
                        addresses[id]?[index] = nil
                        try await journal.updateBundle(id) { $0?.parts[index].uploaded = true }
                    } catch { problem = problem ?? error }
                    start()
                }
                return problem
            }
            if let problem { throw problem }
            try await journal.updateBundle(id) { record in
                if record?.parts.allSatisfy(\.uploaded) == true { record?.state = .uploaded }
            }
        } catch {
            environment.logger.warning(
                "an upload did not work", metadata: ["task": "\(id)", "error": "\(error.message)", "context": "\(error.context)"])
            do throws(CloudError) {
                // Ready again: with new addresses it can go on where it was.
                try await journal.updateBundle(id) { record in
                    record?.state = .ready
                    record?.error = error.message
                }
            } catch { environment.logger.error("a bundle's state could not be journaled", metadata: ["task": "\(id)"]) }
        }
    }

    private nonisolated func uploadPart(_ record: BundleRecord, _ index: Int, _ url: String) async throws(CloudError) -> Int {
        let part = record.parts[index]
        let path = await staging.path(record.taskID, part.filename)
        var attempt = 1
        while true {
            if isCancelled(record.taskID) { throw CloudError(.unavailable("The bundle task"), "The task was cancelled") }
            do throws(CloudError) {
                let reply = try await http.execute(
                    HTTPClientRequest(
                        "PUT", url: url, body: .file(path: path, offset: 0, length: part.size), timeoutMilliseconds: 0, stallSeconds: 30))
                if reply.isSuccess { return index }
                let said = "part \(index): the object store answers \(reply.status)"
                throw (400..<500).contains(reply.status)
                    ? CloudError(
                        .named(code: "UploadRefused", status: 400), said, context: String(decoding: reply.body.prefix(300), as: UTF8.self))
                    : CloudError(.unavailable("The object store"), said)
            } catch {
                guard case .unavailable = error.reason, attempt < Self.attempts else { throw error }
                do { try await environment.clock.sleep(milliseconds: 500 << (attempt - 1)) } catch {
                    throw CloudError(.unavailable("The upload"), context: "cancelled")
                }
                attempt += 1
            }
        }
    }

    private func fail(_ id: String, _ error: CloudError) async {
        environment.logger.warning(
            "a bundle failed", metadata: ["task": "\(id)", "error": "\(error.message)", "context": "\(error.context)"])
        do throws(CloudError) {
            if let record = await journal.bundle(id) { try await letGo(record) }
            try await journal.updateBundle(id) { record in
                record?.state = .failed
                record?.error = error.message
            }
        } catch {
            environment.logger.error("a bundle's failure could not be journaled", metadata: ["task": "\(id)", "error": "\(error.context)"])
        }
    }
}
