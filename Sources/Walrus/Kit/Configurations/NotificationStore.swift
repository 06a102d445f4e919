import Daemon
import Database
import Domain

/// What happened to an object, as it is told.
struct BucketEvent: Sendable {
    /// Without `s3:`, as `ObjectCreated:Put`.
    let name: String
    let key: ObjectKey
    let size: Int
    let etag: String
    let version: String?
}

/// Who did it.
struct EventOrigin: Sendable {
    let principal: String
    let address: String
    let requestID: String
    let now: Timestamp
}

extension EventOrigin {
    init(_ r: S3Request) {
        self.init(
            principal: r.requester.known?.arn ?? "anonymous", address: r.http.remoteAddress, requestID: r.http.id, now: r.now)
    }

    /// What the store does by itself.
    static func upkeep(_ now: Timestamp) -> EventOrigin {
        EventOrigin(principal: "s3.amazonaws.com", address: "127.0.0.1", requestID: "", now: now)
    }
}

/// The outbox of notifications: a row is written in the transaction that changes the object, so that an event is told when and only when it
/// happened; and it goes when its destination has taken it, so that it is told at least once.
enum NotificationStore {
    static let migration = Migration(
        21,
        """
        CREATE TABLE walrus.notifications (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            arn text NOT NULL,
            rule text NOT NULL,
            event text NOT NULL,
            bucket text NOT NULL,
            owner text NOT NULL,
            region text NOT NULL,
            key bytea NOT NULL,
            size bigint NOT NULL,
            etag text NOT NULL,
            version text,
            principal text NOT NULL,
            address text NOT NULL,
            request text NOT NULL,
            happened bigint NOT NULL,
            attempts integer NOT NULL DEFAULT 0,
            next_attempt bigint NOT NULL
        );
        CREATE INDEX notifications_due ON walrus.notifications (next_attempt, id);
        """)

    /// Inside the transaction of the change.
    static func record(_ t: Transaction, _ bucket: BucketRecord, _ event: BucketEvent, _ origin: EventOrigin) throws {
        guard let configuration = bucket.settings?.notification else { return }
        let key = event.key.text
        for rule in configuration.rules where rule.covers(event.name, key: key) {
            try t.execute(
                """
                INSERT INTO walrus.notifications (arn, rule, event, bucket, owner, region, key, size, etag, version, principal, address,
                    request, happened, next_attempt)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14)
                """, .text(rule.arn), .text(rule.id), .text(event.name), .text(bucket.name), .text(bucket.account), .text(bucket.region),
                .bytes(event.key.bytes), SQLValue(event.size), .text(event.etag), SQLValue(event.version), .text(origin.principal),
                .text(origin.address), .text(origin.requestID), .timestamp(origin.now))
        }
    }

    /// - Parameter how: `Put`, `Post`, `Copy` or `CompleteMultipartUpload`.
    static func recordCreated(
        _ t: Transaction, _ bucket: BucketRecord, _ how: String, _ object: ObjectRecord, _ version: String?, _ origin: EventOrigin
    ) throws {
        guard bucket.settings?.notification != nil else { return }
        try record(
            t, bucket,
            BucketEvent(name: "ObjectCreated:" + how, key: object.key, size: object.size, etag: object.etag, version: version), origin)
    }

    /// For DeleteObject: what its outcome is called. Nothing was there and nothing was made: nothing is told.
    static func recordDelete(
        _ t: Transaction, _ bucket: BucketRecord, _ key: ObjectKey, _ outcome: DeleteOutcome, asked version: String?,
        family: String = "ObjectRemoved", _ origin: EventOrigin
    ) throws {
        guard bucket.settings?.notification != nil else { return }
        let isNewMarker = outcome.isMarker && version == nil
        guard isNewMarker || outcome.removed != nil || outcome.isMarker else { return }
        try record(
            t, bucket,
            BucketEvent(
                name: family + (isNewMarker ? ":DeleteMarkerCreated" : ":Delete"), key: key, size: outcome.removed?.size ?? 0,
                etag: outcome.removed?.etag ?? "", version: outcome.version), origin)
    }

    struct Pending: Sendable {
        let id: Int64
        let arn, rule, bucket, owner, region, principal, address, request: String
        let event: BucketEvent
        let happened: Timestamp
        let attempts: Int
    }

    static func due(_ t: Transaction, now: Timestamp, limit: Int) throws -> [Pending] {
        try t.execute(
            """
            SELECT id, arn, rule, event, bucket, owner, region, key, size, etag, version, principal, address, request, happened, attempts
            FROM walrus.notifications WHERE next_attempt <= $1 ORDER BY next_attempt, id LIMIT $2
            """, .timestamp(now), SQLValue(limit)
        ).map { row in
            Pending(
                id: row.int64("id"), arn: row.text("arn"), rule: row.text("rule"), bucket: row.text("bucket"), owner: row.text("owner"),
                region: row.text("region"), principal: row.text("principal"), address: row.text("address"), request: row.text("request"),
                event: BucketEvent(
                    name: row.text("event"), key: ObjectKey(trusted: row.bytes("key")), size: row.int("size"), etag: row.text("etag"),
                    version: row.optionalText("version")),
                happened: row.timestamp("happened"), attempts: row.int("attempts"))
        }
    }

    static func delivered(_ t: Transaction, _ id: Int64) throws {
        try t.execute("DELETE FROM walrus.notifications WHERE id = $1", SQLValue(id))
    }

    static func postpone(_ t: Transaction, _ id: Int64, until: Timestamp) throws {
        try t.execute(
            "UPDATE walrus.notifications SET attempts = attempts + 1, next_attempt = $2 WHERE id = $1", SQLValue(id), .timestamp(until))
    }
}
