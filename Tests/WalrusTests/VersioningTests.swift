import Database
import Domain
import TestKit
import Testing
import Wire

@testable import WalrusKit

/// What S3 says of one key with versions, in the simplest form: a list, newest first.
private struct KeyModel {
    struct Version: Equatable {
        let id: String
        /// `nil`: a marker.
        let etag: String?
    }
    var versions: [Version] = []

    mutating func put(_ id: String, _ etag: String?, _ state: Versioning) {
        if state != .enabled { versions.removeAll { $0.id == VersionID.null } }
        versions.insert(Version(id: state == .enabled ? id : VersionID.null, etag: etag), at: 0)
    }
    mutating func delete(_ id: String) { versions.removeAll { $0.id == id } }
}

@Suite struct VersionStoreTests {
    private func migrated() async throws -> (DatabasePool, Int64) {
        let pool = try TransientPostgres.pool()
        try await pool.migrate(schema: SchemaStore.name, SchemaStore.migrations)
        let id = try await pool.transaction { t in
            try BucketStore.bucketCreate(
                t, name: "bucket", account: "1", region: "r", now: Timestamp(milliseconds: 1), acl: AccessControlList([])
            ).bucket.id
        }
        return (pool, id)
    }

    private func object(_ key: ObjectKey, _ etag: String) -> ObjectRecord {
        ObjectRecord(
            key: key, size: 1, etag: etag, modified: Timestamp(milliseconds: 5), account: "1", acl: AccessControlList([]),
            attributes: ObjectAttributes(), checksum: nil, content: .inline([1]))
    }

    /// A random history of puts, deletes, deletes of versions and changes of state, against the model; every list too, in pages.
    @Test(arguments: [UInt64(1), 20, 300]) func historiesAgreeWithTheModel(seed: UInt64) async throws {
        let (pool, bucket) = try await migrated()
        defer { pool.close() }
        var state = seed
        func next(_ n: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % n
        }
        let names = ["a", "a/b", "a/c", "b", "ü/x"]
        var model: [String: KeyModel] = [:]
        var versioning = Versioning.off
        for step in 0..<220 {
            let name = names[next(names.count)]
            let key = try ObjectKey(Array(name.utf8))
            let id = VersionID.make(now: Timestamp(milliseconds: 1000 + Int64(step)), random: [UInt8](repeating: UInt8(step), count: 10))
            let plan = VersionPlan(seen: versioning, id: id)
            switch next(10) {
            case 0...4:
                let new = object(key, "e\(step)")
                try await pool.transaction { try ObjectStore.objectPut($0, bucket: bucket, new, plan) { _ in } }
                model[name, default: KeyModel()].put(id, "e\(step)", versioning)
            case 5, 6:
                let outcome = try await pool.transaction {
                    try ObjectStore.objectDelete(
                        $0, bucket: bucket, key: key, plan, account: "1", now: Timestamp(milliseconds: 9)
                    ) { _ in }
                }
                if versioning == .off {
                    model[name]?.delete(VersionID.null)
                    #expect(!outcome.isMarker && outcome.version == nil)
                } else {
                    model[name, default: KeyModel()].put(id, nil, versioning)
                    #expect(outcome.isMarker && outcome.version == model[name]?.versions.first?.id)
                }
            case 7, 8:
                let there = model[name]?.versions ?? []
                guard !there.isEmpty else { continue }
                let victim = there[next(there.count)]
                let outcome = try await pool.transaction {
                    try ObjectStore.objectDelete(
                        $0, bucket: bucket, key: key, version: victim.id, plan, account: "1", now: Timestamp(milliseconds: 9)
                    ) { _ in }
                }
                #expect(outcome.version == victim.id && outcome.isMarker == (victim.etag == nil))
                model[name]?.delete(victim.id)
            default:
                // Never off again.
                versioning = step < 40 ? versioning : next(2) == 0 ? .enabled : .suspended
                let wanted = versioning
                if wanted != .off { #expect(try await pool.transaction { try VersionStore.bucketSetVersioning($0, bucket, wanted) }) }
            }
            let found = try await pool.read { try ObjectStore.objectFetch($0, bucket: "bucket", key: key, withBytes: false) }
            let newest = model[name]?.versions.first
            #expect(found.object?.etag == newest?.etag && found.object?.version == (newest?.etag == nil ? nil : newest?.id), "step \(step)")
            #expect(found.marker?.version == (newest?.etag == nil ? newest?.id : nil), "step \(step)")
        }
        for (name, key) in model {
            for version in key.versions {
                let found = try await pool.read {
                    try ObjectStore.objectFetch(
                        $0, bucket: "bucket", key: try ObjectKey(Array(name.utf8)), version: version.id, withBytes: false)
                }
                #expect(found.object?.etag == version.etag)
                #expect((found.marker?.version == version.id) == (version.etag == nil))
            }
        }
        let all = model.sorted { Array($0.key.utf8).lexicographicallyPrecedes(Array($1.key.utf8)) }.flatMap { name, key in
            key.versions.enumerated().map { "\(name) \($1.id) \($1.etag ?? "marker") \($0 == 0)" }
        }
        #expect(all.count > 20, "the history is worth its name")
        for limit in [1, 2, 7, 1000] {
            #expect(try await list(pool, bucket, delimiter: "", limit: limit) == all, "pages of \(limit)")
        }
        let rolled = all.filter { $0.hasPrefix("a ") } + ["a/"] + all.filter { $0.hasPrefix("b ") } + ["ü/"]
        for limit in [1, 3, 1000] { #expect(try await list(pool, bucket, delimiter: "/", limit: limit) == rolled, "pages of \(limit)") }
    }

    private func list(_ pool: DatabasePool, _ bucket: Int64, delimiter: String, limit: Int) async throws -> [String] {
        var query = ListQuery(prefix: [], delimiter: Array(delimiter.utf8), after: [], maxKeys: limit)
        var version: String?
        var out: [String] = []
        while true {
            let (q, v) = (query, version)
            let page = try await pool.read {
                try VersionListStore.versionPage($0, bucket: bucket, q, afterVersion: v, limit: limit)
            }
            #expect(page.count <= limit)
            for entry in page {
                switch entry {
                case .commonPrefix(let prefix): out.append(String(decoding: prefix, as: UTF8.self))
                case .object(let o, let isLatest): out.append("\(o.key) \(o.version) \(o.etag) \(isLatest)")
                case .marker(let key, let marker, let isLatest):
                    out.append("\(String(decoding: key, as: UTF8.self)) \(marker.version) marker \(isLatest)")
                }
            }
            guard let last = page.last?.place else { return out }
            (query.after, version) = (last.key, last.version)
        }
    }

    /// A page of a list reads neither markers nor old versions.
    @Test func listsDoNotPayForHistory() async throws {
        let (pool, bucket) = try await migrated()
        defer { pool.close() }
        try await pool.transaction { t in
            try t.execute(
                """
                INSERT INTO walrus.objects
                    (bucket, key, size, etag, modified, account, grants, headers, metadata, version, sequence, live, marker, inline)
                SELECT $1, convert_to('k' || lpad((n / 10)::text, 6, '0'), 'UTF8'), 0, '', 0, '1', '{}', '{}', '{}', 'v' || n, n,
                    n % 10000 = 9, n % 10 = 8, CASE WHEN n % 10 <> 8 THEN ''::bytea END
                FROM generate_series(0, 29999) n
                """, SQLValue(bucket))
        }
        try await pool.transaction { t in try t.script("ANALYZE walrus.objects") }
        let (entries, fetched) = try await pool.read { t in
            let counted = """
                SELECT COALESCE(sum(idx_tup_fetch + seq_tup_read), 0)::bigint AS n FROM pg_stat_xact_user_tables
                WHERE relname = 'objects'
                """
            let before = try t.execute(counted)[0].int("n")
            let entries = try ListStore.listPage(t, bucket: bucket, prefix: [], delimiter: [], reach: [], limit: 1001)
            return (entries, try t.execute(counted)[0].int("n") - before)
        }
        #expect(entries.map { String(decoding: $0.key, as: UTF8.self) } == ["k000000", "k001000", "k002000"])
        #expect(fetched < 20, "\(fetched) rows read for 3 entries")
    }

    /// A writer that still takes the bucket for an unversioned one loses nothing.
    @Test func staleWritersKeepVersions() async throws {
        let (pool, bucket) = try await migrated()
        defer { pool.close() }
        let key = try ObjectKey(Array("k".utf8))
        let first = object(key, "first"), second = object(key, "second"), third = object(key, "third")
        func plan(_ seen: Versioning, _ n: UInt8) -> VersionPlan {
            VersionPlan(seen: seen, id: VersionID.make(now: Timestamp(milliseconds: Int64(n)), random: [UInt8](repeating: n, count: 10)))
        }
        #expect(try await pool.transaction { try VersionStore.bucketSetVersioning($0, bucket, .enabled) })
        let (one, two, three) = (plan(.off, 1), plan(.off, 2), plan(.off, 3))
        #expect(try await pool.transaction { try ObjectStore.objectPut($0, bucket: bucket, first, one) { _ in } } == one.id)
        #expect(try await pool.transaction { try ObjectStore.objectPut($0, bucket: bucket, second, two) { _ in } } == two.id)
        let gone = try await pool.transaction {
            try ObjectStore.objectDelete($0, bucket: bucket, key: key, three, account: "1", now: Timestamp(milliseconds: 9)) { _ in }
        }
        #expect(gone.isMarker)
        let four = plan(.off, 4)
        #expect(try await pool.transaction { try ObjectStore.objectPut($0, bucket: bucket, third, four) { _ in } } == four.id)
        let listed = try await list(pool, bucket, delimiter: "", limit: 10)
        #expect(listed == ["k \(four.id) third true", "k \(three.id) marker false", "k \(two.id) second false", "k \(one.id) first false"])
    }

    /// Writers and deleters of one key at once: every put is a version, none twice, and exactly one is the latest.
    @Test func concurrentWritersLeaveEveryVersion() async throws {
        let (pool, bucket) = try await migrated()
        defer { pool.close() }
        #expect(try await pool.transaction { try VersionStore.bucketSetVersioning($0, bucket, .enabled) })
        let key = try ObjectKey(Array("k".utf8))
        try await withThrowingTaskGroup(of: Void.self) { group in
            for n in 0..<40 {
                let new = object(key, "e\(n)")
                let plan = VersionPlan(
                    seen: .enabled, id: VersionID.make(now: Timestamp(milliseconds: 7), random: [UInt8](repeating: UInt8(n), count: 10)))
                group.addTask {
                    try await pool.transaction(isolation: .readCommitted) { t in
                        if n % 4 == 3 {
                            _ = try ObjectStore.objectDelete(
                                t, bucket: bucket, key: key, plan, account: "1", now: Timestamp(milliseconds: 9)
                            ) { _ in }
                        } else {
                            try ObjectStore.objectPut(t, bucket: bucket, new, plan) { _ in }
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        let listed = try await list(pool, bucket, delimiter: "", limit: 1000)
        #expect(listed.count == 40 && Set(listed).count == 40)
        #expect(listed.filter { $0.hasSuffix("true") } == [listed[0]])
        #expect(listed.filter { $0.contains("marker") }.count == 10)
    }
}

@Suite(.serialized) struct VersioningTests {
    /// Over HTTP: the answers and their headers.
    @Test func theLifeOfAVersionedKey() async throws {
        try await TestWalrus.run { w in
            let s3 = RawS3(w, w.alice)
            #expect(try await s3("PUT", "/versions").status == 200)
            #expect(try await s3("GET", "/versions", [("versioning", "")]).text.contains("Status") == false)
            let plain = try await s3("PUT", "/versions/k", text: "null")
            #expect(plain.status == 200 && plain.version == nil)
            #expect(try await s3("GET", "/versions/k").version == nil)
            try await s3.setVersioning("versions", "Enabled")
            #expect(try await s3("GET", "/versions", [("versioning", "")]).text.contains("<Status>Enabled</Status>"))
            #expect(try await s3("GET", "/versions/k").version == "null")
            let one = try #require(try await s3("PUT", "/versions/k", text: "one").version)
            let two = try #require(try await s3("PUT", "/versions/k", text: "two").version)
            #expect(try await s3.versions("versions") == ["k=\(two)*", "k=\(one)", "k=null"])
            for (id, body) in [(two, "two"), (one, "one"), ("null", "null")] {
                let got = try await s3("GET", "/versions/k", [("versionId", id)])
                #expect(got.text == body && got.version == id)
            }
            #expect(try await s3("GET", "/versions/k", [("versionId", String(repeating: "0", count: 32))]).code == "NoSuchVersion")
            #expect(try await s3("GET", "/versions/k", [("versionId", "x")]).code == "InvalidArgument")

            // A marker in front.
            let deleted = try await s3("DELETE", "/versions/k")
            let marker = try #require(deleted.version)
            #expect(deleted.status == 204 && deleted.header("x-amz-delete-marker") == "true")
            let hidden = try await s3("GET", "/versions/k")
            #expect(hidden.status == 404 && hidden.code == "NoSuchKey" && hidden.header("x-amz-delete-marker") == "true")
            #expect(hidden.version == marker)
            for method in ["GET", "HEAD"] {
                let named = try await s3(method, "/versions/k", [("versionId", marker)])
                #expect(named.status == 405 && named.header("x-amz-delete-marker") == "true" && named.header("last-modified") != nil)
            }
            #expect(try await s3("GET", "/versions/k", [("tagging", ""), ("versionId", marker)]).code == "MethodNotAllowed")
            #expect(try await s3.versions("versions") == ["-k=\(marker)*", "k=\(two)", "k=\(one)", "k=null"])
            #expect(try await s3("GET", "/versions", [("list-type", "2")]).text.contains("<KeyCount>0</KeyCount>"))

            // What describes a version, and a copy of an old one.
            let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
            #expect(try await s3("PUT", "/versions/k", [("tagging", ""), ("versionId", one)], text: tags).version == one)
            #expect(try await s3("GET", "/versions/k", [("tagging", ""), ("versionId", one)]).text.contains("<Key>a</Key>"))
            #expect(try await s3("GET", "/versions/k", [("tagging", ""), ("versionId", two)]).text.contains("<Key>a</Key>") == false)
            let copied = try await s3("PUT", "/versions/copy", headers: [("x-amz-copy-source", "versions/k?versionId=\(one)")])
            #expect(copied.status == 200 && copied.header("x-amz-copy-source-version-id") == one && copied.version != nil)
            let copy = try await s3("GET", "/versions/copy")
            #expect(copy.text == "one" && copy.header("x-amz-tagging-count") == "1")
            let ofMarker = try await s3("PUT", "/versions/no", headers: [("x-amz-copy-source", "versions/k?versionId=\(marker)")])
            #expect(ofMarker.code == "InvalidRequest")

            // Without the marker the version behind it is current again.
            let lifted = try await s3("DELETE", "/versions/k", [("versionId", marker)])
            #expect(lifted.status == 204 && lifted.version == marker && lifted.header("x-amz-delete-marker") == "true")
            #expect(try await s3("GET", "/versions/k").text == "two")
            #expect(try await s3("DELETE", "/versions").code == "BucketNotEmpty")

            // Suspended: one null version, overwritten and deleted in place.
            try await s3.setVersioning("versions", "Suspended")
            #expect(try await s3("PUT", "/versions/k", text: "new null").version == nil)
            #expect(try await s3.versions("versions", [("prefix", "k")]) == ["k=null*", "k=\(two)", "k=\(one)"])
            #expect(try await s3("DELETE", "/versions/k").version == "null")
            #expect(try await s3.versions("versions", limit: 1, [("prefix", "k")]) == ["-k=null*", "k=\(two)", "k=\(one)"])
            let many = """
                <Delete><Object><Key>k</Key><VersionId>null</VersionId></Object><Object><Key>k</Key><VersionId>\(two)</VersionId></Object>
                <Object><Key>k</Key><VersionId>\(one)</VersionId></Object><Object><Key>copy</Key></Object></Delete>
                """
            let answer = try await s3("POST", "/versions", [("delete", "")], text: many)
            #expect(try answer.children("Deleted").count == 4 && answer.children("Error").isEmpty, "\(answer.text)")
            #expect(try answer.children("Deleted")[0].first("DeleteMarkerVersionId")?.text == "null")
            #expect(try answer.children("Deleted")[3].first("DeleteMarker")?.text == "true")
            #expect(try await s3.versions("versions").map { $0.prefix(5) } == ["-copy", "copy="])
            for entry in try await s3.versions("versions") {
                let id = entry.split(separator: "=")[1].filter { $0 != "*" }
                #expect(try await s3("DELETE", "/versions/copy", [("versionId", id)]).status == 204)
            }
            #expect(try await s3("DELETE", "/versions").status == 204)
        }
    }

    /// Clients delete what a page listed, and then ask for what follows.
    @Test func aListGoesOnBehindADeletedVersion() async throws {
        try await TestWalrus.run { w in
            let s3 = RawS3(w, w.alice)
            _ = try await s3("PUT", "/emptied")
            try await s3.setVersioning("emptied", "Enabled")
            for n in 0..<7 { _ = try await s3("PUT", "/emptied/k", text: "\(n)") }
            var rounds = 0
            while rounds < 10 {
                rounds += 1
                let page = try await s3("GET", "/emptied", [("versions", ""), ("max-keys", "3")])
                let ids = try page.children("Version").map { $0.first("VersionId")?.text ?? "" }
                if ids.isEmpty { break }
                for id in ids { _ = try await s3("DELETE", "/emptied/k", [("versionId", id)]) }
                let next = try await s3(
                    "GET", "/emptied", [("versions", ""), ("key-marker", "k"), ("version-id-marker", ids[ids.count - 1])])
                let left = try await s3.versions("emptied")
                // The newest that is left has become current meanwhile.
                let wanted = left.map { $0.split { "=*".contains($0) }.last.map(String.init) }
                #expect(try next.children("Version").map { $0.first("VersionId")?.text } == wanted)
                #expect(try next.children("Version").first?.first("IsLatest")?.text == (left.isEmpty ? nil : "true"))
            }
            #expect(try await s3.versions("emptied").isEmpty && rounds == 4)
        }
    }
}
