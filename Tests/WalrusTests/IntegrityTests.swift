import Domain
import Signing
import Testing
import WalrusKit

@Suite struct IntegrityTests {
    private let digits = Array("123456789".utf8)

    /// Check values of the CRC catalogue (reveng.sourceforge.io): the CRC of "123456789".
    @Test func checkValues() {
        #expect(ChecksumAlgorithm.crc32.of(digits) == [0xCB, 0xF4, 0x39, 0x26])
        #expect(ChecksumAlgorithm.crc32c.of(digits) == [0xE3, 0x06, 0x92, 0x83])
        #expect(ChecksumAlgorithm.crc64nvme.of(digits) == [0xAE, 0x8B, 0x14, 0x86, 0x0A, 0x79, 0x98, 0x88])
        #expect(Hex.encode(ChecksumAlgorithm.sha1.of(digits)) == "f7c3bc1d808e04732adf679965ccc34ca7ae3441")
        #expect(ChecksumAlgorithm.sha256.of([]) == Hex.decode("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"))
        #expect(ChecksumAlgorithm.crc32.of([]) == [0, 0, 0, 0])
    }

    @Test func anyCutGivesTheSame() {
        let data = (0..<1000).map { UInt8(truncatingIfNeeded: $0 &* 131 &+ $0 >> 3) }
        for algorithm in ChecksumAlgorithm.allCases {
            let whole = algorithm.of(data)
            for cut in [0, 1, 7, 8, 9, 500, 999, 1000] {
                let running = RunningChecksum(algorithm)
                data[..<cut].withUnsafeBytes { running.update($0) }
                data[cut...].withUnsafeBytes { running.update($0) }
                #expect(running.finish() == whole, "\(algorithm) cut at \(cut)")
            }
        }
    }

    @Test func fullObjectChecksumsOfPartsAreThoseOfTheWhole() {
        let data = (0..<5000).map { UInt8(truncatingIfNeeded: $0 &* 17 &+ $0 >> 5) }
        let cuts = [0, 1, 1000, 1000, 4097, 5000]
        for algorithm in [ChecksumAlgorithm.crc32, .crc32c, .crc64nvme] {
            let parts = zip(cuts, cuts.dropFirst()).map { PartChecksums.Part(value: algorithm.of(Array(data[$0..<$1])), size: $1 - $0) }
            #expect(PartChecksums.combine(parts, algorithm, .fullObject) == Base64.encode(algorithm.of(data)), "\(algorithm)")
        }
        #expect(PartChecksums.combine([.init(value: [], size: 0)], .sha256, .fullObject) == nil)
    }

    @Test func compositeIsTheChecksumOfTheChecksums() {
        let first = ChecksumAlgorithm.sha256.of([1]), second = ChecksumAlgorithm.sha256.of([2, 3])
        let combined = PartChecksums.combine([.init(value: first, size: 1), .init(value: second, size: 2)], .sha256, .composite)
        #expect(combined == Base64.encode(Digest.sha256(first + second)) + "-2")
    }

    @Test func names() throws {
        #expect(try ChecksumAlgorithm(parsing: "crc64nvme") == .crc64nvme)
        #expect(ChecksumAlgorithm.crc32c.header == "x-amz-checksum-crc32c")
        #expect(ChecksumAlgorithm.sha1.element == "ChecksumSHA1")
        #expect(throws: CloudError.self) { try ChecksumAlgorithm(parsing: "md4") }
    }
}
