public import Domain
import Glibc

/// A file beside the tests of a target, in its folder `Golden`: bytes that are compared, or that others recorded. `UPDATE_GOLDEN=1` rewrites
/// what is compared; read the difference before committing it.
public struct GoldenFile: Sendable {
    public let path: String

    /// - Parameter name: below `Tests/<target>/Golden` of the target that `source` belongs to.
    public init(_ name: String, source: String = #filePath) { path = Self.folder(source) + "/" + name }

    /// `Tests/<target>/Golden` of the target that `source` belongs to.
    public static func folder(_ source: String = #filePath) -> String {
        let parts = source.split(separator: "/")
        let target = (parts.lastIndex(of: "Tests") ?? 0) + 2
        return "/" + parts.prefix(target).joined(separator: "/") + "/Golden"
    }

    /// - Throws: `.unavailable` with the path when it cannot be read.
    public func bytes() throws(CloudError) -> [UInt8] { try Self.read(path) }

    public static func read(_ path: String) throws(CloudError) -> [UInt8] {
        guard let file = fopen(path, "rb") else { throw CloudError(.unavailable("The file \(path)")) }
        defer { fclose(file) }
        var out: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = fread(&buffer, 1, buffer.count, file)
            if count == 0 { return out }
            out += buffer[..<count]
        }
    }

    /// - Returns: what is wrong, for the test's report; `nil` when the file holds these bytes (with `UPDATE_GOLDEN`: from now on).
    public func difference(from bytes: [UInt8]) -> String? {
        if getenv("UPDATE_GOLDEN") != nil {
            guard let file = fopen(path, "wb") else { return "cannot write \(path)" }
            defer { fclose(file) }
            return fwrite(bytes, 1, bytes.count, file) == bytes.count ? nil : "cannot write \(path)"
        }
        guard let wanted = try? self.bytes() else { return "no golden file \(path): UPDATE_GOLDEN=1 writes it" }
        if wanted == bytes { return nil }
        let old = String(decoding: wanted, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        let new = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        let line = zip(old, new).prefix { $0 == $1 }.count
        func shown(_ lines: [Substring]) -> String { line < lines.count ? String(lines[line].prefix(400)) : "(the end)" }
        return "\(path) differs from line \(line + 1) on:\n  file: \(shown(old))\n  now:  \(shown(new))"
    }
}
