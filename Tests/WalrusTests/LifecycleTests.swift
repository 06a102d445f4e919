import Database
import Domain
import Logging
import TestKit
import Testing
import Workflow

@testable import WalrusKit

@Suite struct LifecycleRuleTests {
    private func rules(_ xml: String) throws -> LifecycleConfiguration {
        try LifecycleConfiguration(document: Array("<LifecycleConfiguration>\(xml)</LifecycleConfiguration>".utf8))
    }
    private func code(_ xml: String) -> String? {
        do {
            _ = try rules(xml)
            return nil
        } catch let error as CloudError { return S3ErrorCode.of(error).code } catch { return "?" }
    }

    @Test func refusesAsS3Does() {
        let expiration = "<Expiration><Days>1</Days></Expiration>"
        #expect(code("<Rule><Prefix/><Status>Enabled</Status>\(expiration)</Rule>") == nil)
        #expect(code("<Rule><Filter/><Status>Enabled</Status>\(expiration)</Rule>") == nil)
        #expect(code("<Rule><Prefix/><Status>enabled</Status>\(expiration)</Rule>") == "MalformedXML")
        #expect(code("<Rule><Status>Enabled</Status>\(expiration)</Rule>") == "MalformedXML")
        #expect(code("<Rule><Prefix/><Status>Enabled</Status></Rule>") == "InvalidRequest")
        #expect(code("<Rule><Prefix/><Status>Enabled</Status><Expiration><Days>0</Days></Expiration></Rule>") == "InvalidArgument")
        #expect(
            code("<Rule><Prefix/><Status>Enabled</Status><Expiration><Date>2026-01-01T01:00:00Z</Date></Expiration></Rule>")
                == "InvalidArgument")
        let same = "<Rule><ID>a</ID><Prefix/><Status>Enabled</Status>\(expiration)</Rule>"
        #expect(code(same + same) == "InvalidArgument")
        #expect(
            code("<Rule><ID>\(String(repeating: "a", count: 256))</ID><Prefix/><Status>Enabled</Status>\(expiration)</Rule>")
                == "InvalidArgument")
        let both = "<Prefix>a</Prefix><ObjectSizeLessThan>5</ObjectSizeLessThan>"
        #expect(code("<Rule><Filter>\(both)</Filter><Status>Enabled</Status>\(expiration)</Rule>") == "MalformedXML")
        #expect(code("<Rule><Filter><And>\(both)</And></Filter><Status>Enabled</Status>\(expiration)</Rule>") == nil)
    }

    /// What is stored is what was said: written and read again it is the same.
    @Test func writesWhatItReads() throws {
        let said = try rules(
            """
            <Rule><ID>r</ID><Filter><And><Prefix>a/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag>
            <ObjectSizeGreaterThan>10</ObjectSizeGreaterThan></And></Filter><Status>Enabled</Status>
            <Transition><Days>3</Days><StorageClass>GLACIER</StorageClass></Transition><Expiration><Days>9</Days></Expiration>
            <NoncurrentVersionExpiration><NewerNoncurrentVersions>2</NewerNoncurrentVersions><NoncurrentDays>4</NoncurrentDays>
            </NoncurrentVersionExpiration></Rule>
            <Rule><ID>o</ID><Prefix>b</Prefix><Status>Disabled</Status>
            <AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>
            """)
        #expect(try LifecycleConfiguration(document: said.document) == said)
    }

    @Test func daysAreRoundedUpToMidnight() throws {
        let calendar = LifecycleCalendar(day: LifecycleCalendar.realDay)
        let noon = try #require(Timestamp(iso8601: "2026-11-22T12:00:00Z"))
        #expect(calendar.due(noon, days: 1).iso8601 == "2026-11-24T00:00:00.000Z")
        let said = try rules(
            "<Rule><ID>my rule</ID><Prefix>a</Prefix><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule>")
        let key = try ObjectKey(Array("abc".utf8))
        #expect(
            said.expirationHeader(key: key, size: 1, tags: [], modified: noon)
                == "expiry-date=\"Tue, 24 Nov 2026 00:00:00 GMT\", rule-id=\"my%20rule\"")
        #expect(said.expirationHeader(key: try ObjectKey(Array("b".utf8)), size: 1, tags: [], modified: noon) == nil)
    }
}
