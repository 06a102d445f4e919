import Domain
import Signing
import Testing
import Wire

@testable import WalrusKit

@Suite(.serialized) struct ObjectDetailTests {
    @Test func whatIsSaidOfObjects() async throws {
        try await TestWalrus.run { w in
            let s3 = RawS3(w, w.alice)
            _ = try await s3("PUT", "/details")

            // Metadata, plain and not.
            let meta = [
                ("x-amz-meta-plain", "a b"), ("x-amz-meta-other", "grün"), ("x-amz-tagging", "a=b&c=%2B"),
                ("x-amz-storage-class", "GLACIER"),
            ]
            #expect(try await s3("PUT", "/details/k", headers: meta, text: "body").status == 200)
            let head = try await s3("HEAD", "/details/k")
            #expect(head.header("x-amz-meta-plain") == "a b")
            #expect(head.header("x-amz-meta-other") == "=?UTF-8?B?\(Base64.encode(Array("grün".utf8)))?=")
            #expect(head.header("x-amz-tagging-count") == "2" && head.header("x-amz-storage-class") == "GLACIER")
            #expect(head.version == nil && head.header("x-amz-delete-marker") == nil)

            // Copies: directives, and classes that are the copy's own.
            let source = ("x-amz-copy-source", "details/k")
            #expect(try await s3("PUT", "/details/c", headers: [source]).status == 200)
            let copy = try await s3("HEAD", "/details/c")
            #expect(copy.header("x-amz-meta-plain") == "a b" && copy.header("x-amz-tagging-count") == "2")
            #expect(copy.header("x-amz-storage-class") == nil)
            let replaced = [
                source, ("x-amz-metadata-directive", "REPLACE"), ("x-amz-tagging-directive", "REPLACE"), ("x-amz-meta-new", "1"),
            ]
            #expect(try await s3("PUT", "/details/c", headers: replaced).status == 200)
            let changed = try await s3("HEAD", "/details/c")
            #expect(changed.header("x-amz-meta-plain") == nil && changed.header("x-amz-meta-new") == "1")
            #expect(changed.header("x-amz-tagging-count") == nil)
            #expect(try await s3("PUT", "/details/c", headers: [source, ("x-amz-metadata-directive", "X")]).code == "InvalidArgument")

            // Restore and torrent.
            let restore = "<RestoreRequest><Days>2</Days></RestoreRequest>"
            #expect(try await s3("POST", "/details/k", [("restore", "")], text: restore).status == 200)
            #expect(try await s3("POST", "/details/c", [("restore", "")], text: restore).code == "InvalidObjectState")
            #expect(try await s3("POST", "/details/none", [("restore", "")], text: restore).code == "NoSuchKey")
            #expect(try await s3("POST", "/details/k", [("restore", "")], text: "<RestoreRequest/>").code == "MalformedXML")
            #expect(try await s3("GET", "/details/k", [("torrent", "")]).code == "NoSuchKey")
            #expect(try await RawS3(w, w.bob)("POST", "/details/k", [("restore", "")], text: restore).status == 403)

            // Parts, ranges and what is not there.
            let one = try await s3("GET", "/details/k", [("partNumber", "1")])
            #expect(one.status == 206 && one.text == "body" && one.header("content-range") == "bytes 0-3/4")
            #expect(try await s3("GET", "/details/k", [("partNumber", "2")]).code == "InvalidPartNumber")
            #expect(try await s3("GET", "/details/k", [("partNumber", "1")], headers: [("Range", "bytes=0-1")]).code == "InvalidRequest")
            #expect(try await s3("GET", "/details/k", [("response-content-type", "x/y")]).header("content-type") == "x/y")
            let missing = try await s3("GET", "/details/none")
            #expect(missing.status == 404 && missing.code == "NoSuchKey" && missing.header("x-amz-delete-marker") == "false")
            #expect(try await s3("PUT", "/details/k", [("versionId", "null")], text: "x").code == "InvalidArgument")
        }
    }

    /// To make one's own bucket again is no error where no region is named.
    @Test func bucketsThatAreThereAlready() async throws {
        try await TestWalrus.run { w in
            let s3 = RawS3(w, w.alice)
            let (first, second) = (try await s3("PUT", "/again"), try await s3("PUT", "/again"))
            #expect(first.status == 200 && second.status == 200)
            let named = "<CreateBucketConfiguration><LocationConstraint>karri-1</LocationConstraint></CreateBucketConfiguration>"
            #expect(try await s3("PUT", "/again", text: named).code == "BucketAlreadyOwnedByYou")
            #expect(try await s3("PUT", "/again", headers: [("x-amz-acl", "public-read")]).code == "BucketAlreadyOwnedByYou")
            #expect(try await RawS3(w, w.bob)("PUT", "/again").code == "BucketAlreadyExists")
        }
    }
}
