import Database
import Domain
import Logging
import Workflow

/// Applies the lifecycle configurations of all buckets. Takes no input (`ARCHITECTURE.md` §4): a pass walks what the rules are about, in
/// pages along the indexes, and does what is due; what a kill interrupts the next pass finds again. Each object is changed in a
/// transaction of its own, which looks once more whether it is still the one that was seen: what a client writes meanwhile stays.
/// Object locks hold the lifecycle as they hold everybody.
struct Lifecycle: Sendable {
    let core: WalrusCore
    let calendar: LifecycleCalendar

    /// Rows of one page. Too high: long transactions; too low: many.
    static let page = 500
    /// Buckets whose configurations are fetched at once.
    static let bucketPage = 100

    func pass() async -> ReconcileReport {
        var report = ReconcileReport()
        var after: Int64 = 0
        do throws(CloudError) {
            while true {
                let from = after
                let buckets = try await core.pool.read {
                    try ConfigurationStore.bucketsWith($0, .lifecycle, after: from, limit: Self.bucketPage)
                }
                for bucket in buckets {
                    after = bucket.id
                    do throws(CloudError) { try await apply(try await core.configured(bucket), &report) } catch {
                        report.failures.append("lifecycle of \(bucket.name): \(error.message) \(error.context)")
                    }
                    if Task.isCancelled { return report }
                }
                if buckets.count < Self.bucketPage { return report }
            }
        } catch {
            report.failures.append("lifecycle: \(error.message) \(error.context)")
        }
        return report
    }

    private func apply(_ bucket: BucketRecord, _ report: inout ReconcileReport) async throws(CloudError) {
        guard let configuration = try bucket.loaded().lifecycle else { return }
        for rule in configuration.rules where rule.isEnabled {
            if rule.expiration != nil || !rule.transitions.isEmpty { try await current(bucket, rule, &report) }
            let isAboutOld =
                rule.noncurrentExpiration != nil || !rule.noncurrentTransitions.isEmpty || rule.expiredDeleteMarker
                || rule.expiration != nil
            if isAboutOld, bucket.versioning != .off { try await old(bucket, rule, &report) }
            if let days = rule.abortUploadsAfterDays { try await uploads(bucket, rule, days, &report) }
        }
    }

    private func current(
        _ bucket: BucketRecord, _ rule: LifecycleConfiguration.Rule, _ report: inout ReconcileReport
    ) async throws(CloudError) {
        let now = core.clock.now()
        let prefix = Array(rule.filter.prefix.utf8)
        var after: [UInt8]?
        repeat {
            let from = after
            let page = try await core.pool.read {
                try LifecycleStore.currentPage($0, bucket: bucket.id, prefix: prefix, after: from, before: now, limit: Self.page)
            }
            for item in page.versions {
                report.examined += 1
                switch LifecycleConfiguration.current(rule, item, calendar, now: now) {
                case .expire?: try await expire(bucket, item, version: nil, &report)
                case .move(let storageClass)?: try await move(bucket, item, storageClass, &report)
                case nil: continue
                }
                if Task.isCancelled { return }
            }
            after = page.last
        } while after != nil
    }

    private func old(
        _ bucket: BucketRecord, _ rule: LifecycleConfiguration.Rule, _ report: inout ReconcileReport
    ) async throws(CloudError) {
        let now = core.clock.now()
        let prefix = Array(rule.filter.prefix.utf8)
        var after: [UInt8]?
        repeat {
            let from = after
            let page = try await core.pool.read {
                try LifecycleStore.oldPage($0, bucket: bucket.id, prefix: prefix, after: from, keys: Self.page)
            }
            for item in page.versions {
                report.examined += 1
                switch LifecycleConfiguration.old(rule, item, calendar, now: now) {
                case .expire?: try await expire(bucket, item, version: item.version, &report)
                case .move(let storageClass)?: try await move(bucket, item, storageClass, &report)
                case nil: continue
                }
                if Task.isCancelled { return }
            }
            after = page.last
        } while after != nil
    }

    /// - Parameter version: `nil`: as DELETE without a version does, which leaves a marker in a versioned bucket.
    private func expire(
        _ bucket: BucketRecord, _ item: LifecycleStore.Version, version: String?, _ report: inout ReconcileReport
    ) async throws(CloudError) {
        let (now, plan) = (core.clock.now(), core.plan(bucket))
        let changed = CloudError(.named(code: "OperationAborted", status: 409), "the object is another one now")
        do throws(CloudError) {
            try await core.pool.transaction(isolation: .readCommitted) { t in
                let outcome = try ObjectStore.objectDelete(
                    t, bucket: bucket.id, key: item.key, version: version, plan, account: bucket.account, now: now
                ) { present in
                    switch present {
                    case .object(let o) where o.version == item.version && o.modified == item.modified && o.etag == item.etag: return
                    case .marker(let marker) where item.isMarker && marker.version == item.version: return
                    default: throw changed
                    }
                }
                try NotificationStore.recordDelete(
                    t, bucket, item.key, outcome, asked: version, family: "LifecycleExpiration", .upkeep(now))
            }
            report.changed += 1
        } catch {
            // Changed meanwhile, or locked: the next pass looks again.
            guard case .named(let code, _) = error.reason, code == "OperationAborted" || code == "AccessDenied" else { throw error }
        }
    }

    private func move(
        _ bucket: BucketRecord, _ item: LifecycleStore.Version, _ storageClass: String, _ report: inout ReconcileReport
    ) async throws(CloudError) {
        let isDone = try await core.pool.transaction(isolation: .readCommitted) {
            try LifecycleStore.setStorageClass($0, bucket: bucket.id, item, storageClass)
        }
        if isDone { report.changed += 1 }
    }

    private func uploads(
        _ bucket: BucketRecord, _ rule: LifecycleConfiguration.Rule, _ days: Int, _ report: inout ReconcileReport
    ) async throws(CloudError) {
        let now = core.clock.now()
        let before = Timestamp(milliseconds: now.milliseconds - Int64(days) * calendar.day)
        let prefix = Array(rule.filter.prefix.utf8)
        while true {
            let found = try await core.pool.read {
                try LifecycleStore.oldUploads($0, bucket: bucket.id, prefix: prefix, before: before, limit: Self.page)
            }
            report.examined += found.count
            for (key, id) in found {
                try await core.pool.transaction(isolation: .readCommitted) { t in
                    guard let upload = try UploadStore.uploadFetch(t, id: id, bucket: bucket.id, key: key, lock: .update),
                        upload.completed == nil
                    else { return }
                    try UploadStore.uploadAbort(t, upload, now: now)
                }
                report.changed += 1
            }
            // Those that were found are gone, so the next look begins at the same place.
            if found.count < Self.page || Task.isCancelled { return }
        }
    }
}
