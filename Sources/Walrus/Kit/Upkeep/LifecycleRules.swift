import Domain

/// When a rule's time has come. Pure.
struct LifecycleCalendar: Sendable {
    /// Milliseconds of a "day". Other than 86,400,000 only in tests.
    let day: Int64

    static let realDay: Int64 = 86_400_000

    /// Source: S3 User Guide, "How S3 calculates how long an object has been noncurrent / its age": days are added, and the time is rounded
    /// up to the next midnight UTC.
    func due(_ since: Timestamp, days: Int) -> Timestamp {
        let time = since.milliseconds + Int64(days) * day
        guard day == Self.realDay else { return Timestamp(milliseconds: time) }
        return Timestamp(milliseconds: (time + day - 1) / day * day)
    }

    func due(_ moment: LifecycleConfiguration.Moment, since: Timestamp) -> Timestamp {
        switch moment {
        case .days(let days): due(since, days: days)
        case .date(let date): date
        }
    }
}

extension LifecycleConfiguration.Filter {
    func covers(key: ObjectKey, size: Int, tags own: [(name: String, value: String)]) -> Bool {
        key.bytes.starts(with: prefix.utf8) && size > sizeAbove ?? -1 && size < sizeBelow ?? .max
            && tags.allSatisfy { wanted in own.contains { $0.name == wanted.name && $0.value == wanted.value } }
    }
}

extension LifecycleConfiguration {
    /// What is to be done with a current object now; expiration comes before transitions.
    enum Step: Sendable, Equatable {
        case expire
        case move(String)
    }

    static func current(
        _ rule: Rule, _ v: LifecycleStore.Version, _ calendar: LifecycleCalendar, now: Timestamp
    ) -> Step? {
        guard rule.filter.covers(key: v.key, size: v.size, tags: v.tags) else { return nil }
        if let moment = rule.expiration, calendar.due(moment, since: v.modified) <= now { return .expire }
        let due = rule.transitions.filter { calendar.due($0.at, since: v.modified) <= now }
        // The one that came last is where it belongs now.
        guard let last = due.max(by: { calendar.due($0.at, since: v.modified) < calendar.due($1.at, since: v.modified) }),
            last.storageClass != v.storageClass
        else { return nil }
        return .move(last.storageClass)
    }

    /// The same for what is not live: old versions, and the marker that is current.
    static func old(_ rule: Rule, _ v: LifecycleStore.Version, _ calendar: LifecycleCalendar, now: Timestamp) -> Step? {
        guard let replaced = v.replaced else {
            // The current version is a marker. With nothing under it, it says nothing any more.
            guard v.isMarker, v.isAlone, rule.filter.tags.isEmpty, v.key.bytes.starts(with: rule.filter.prefix.utf8) else { return nil }
            if rule.expiredDeleteMarker { return .expire }
            guard let moment = rule.expiration, calendar.due(moment, since: v.modified) <= now else { return nil }
            return .expire
        }
        guard rule.filter.covers(key: v.key, size: v.size, tags: v.tags) else { return nil }
        if let expiration = rule.noncurrentExpiration, v.rank > expiration.newerNoncurrentVersions ?? 0,
            calendar.due(replaced, days: expiration.days) <= now
        {
            return .expire
        }
        let due = rule.noncurrentTransitions.filter {
            v.rank > $0.newerNoncurrentVersions ?? 0 && calendar.due($0.at, since: replaced) <= now
        }
        guard !v.isMarker, let last = due.max(by: { calendar.due($0.at, since: replaced) < calendar.due($1.at, since: replaced) }),
            last.storageClass != v.storageClass
        else { return nil }
        return .move(last.storageClass)
    }

    /// `x-amz-expiration`: when the object expires and by which rule; `nil`: it does not. In calendar days, whatever a test calls a day.
    func expirationHeader(key: ObjectKey, size: Int, tags: [(name: String, value: String)], modified: Timestamp) -> String? {
        let calendar = LifecycleCalendar(day: LifecycleCalendar.realDay)
        var first: (time: Timestamp, id: String)?
        for rule in rules where rule.isEnabled {
            guard let moment = rule.expiration, rule.filter.covers(key: key, size: size, tags: tags) else { continue }
            let time = calendar.due(moment, since: modified)
            if first.map({ time < $0.time }) ?? true { first = (time, rule.id) }
        }
        return first.map { "expiry-date=\"\($0.time.httpDate)\", rule-id=\"\(S3Encoding.url(Array($0.id.utf8)))\"" }
    }
}

extension BucketRecord {
    /// `x-amz-expiration` of an object, where a lifecycle rule will delete it.
    func expiration(_ o: ObjectRecord) -> [(String, String)] {
        guard let lifecycle = settings?.lifecycle,
            let text = lifecycle.expirationHeader(key: o.key, size: o.size, tags: o.attributes.tags, modified: o.modified)
        else { return [] }
        return [("x-amz-expiration", text)]
    }
}
