import Domain

/// Takes the one file out of a tar stream as it comes. Knows what bundlers write: ustar, GNU long names and sparse files (`tar -S`, which
/// `ec2-bundle-image` and `euca-bundle-image` use), pax headers with sparse maps. Source: GNU tar manual, "Basic Tar Format" and "Storing
/// Sparse Files"; POSIX pax.
///
/// Names in the archive mean nothing here: there is one file, and it goes where the caller says.
struct TarReader {
    private enum State {
        case header
        /// The data of an extension header: kind and what is still to come.
        case meta(UInt8, remaining: Int, padding: Int)
        /// Old GNU: further blocks of the sparse map.
        case sparseMap
        /// pax sparse 1.0: the map is text in front of the data.
        case sparseText(UInt8)
        case data(remaining: Int, padding: Int)
        case padding(Int)
        case end
    }
    private struct Segment {
        var offset, length: Int
    }

    private var state = State.header
    private var block: [UInt8] = []
    private var meta: [UInt8] = []
    private var pax: [String: String] = [:]
    private var archived = 0
    private var realSize = 0
    private var segments: [Segment]?
    private var segment = 0
    private var inSegment = 0
    private(set) var files = 0
    private let file: SparseFile

    /// An extension header larger than this is no name or map of a disk image.
    private static let metaLimit = 1 << 20
    private static let segmentLimit = 1 << 20

    init(into file: SparseFile) { self.file = file }

    static func broken(_ what: String) -> CloudError {
        CloudError(.named(code: "InvalidImage.Archive", status: 400), "The bundle's archive is broken: \(what)")
    }

    /// Whether the file has come to its end.
    var isComplete: Bool {
        switch state {
        case .end, .header, .padding: files == 1
        case .meta, .sparseMap, .sparseText, .data: false
        }
    }

    mutating func feed(_ bytes: UnsafeRawBufferPointer) throws(CloudError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            switch state {
            case .end: return
            case .padding(let n):
                let skipped = min(n, rest.count)
                rest = rest.dropFirst(skipped)
                state = n == skipped ? .header : .padding(n - skipped)
            case .header, .sparseMap, .sparseText:
                let taken = rest.prefix(512 - block.count)
                block += taken
                rest = rest.dropFirst(taken.count)
                guard block.count == 512 else { continue }
                let full = block
                block.removeAll(keepingCapacity: true)
                switch state {
                case .sparseMap: try sparseBlock(full)
                case .sparseText: try sparseTextBlock(full)
                default: try header(full)
                }
            case .meta(let kind, let remaining, let padding):
                let taken = rest.prefix(remaining)
                meta += taken
                rest = rest.dropFirst(taken.count)
                guard remaining == taken.count else {
                    state = .meta(kind, remaining: remaining - taken.count, padding: padding)
                    continue
                }
                if kind == UInt8(ascii: "x") { try paxRecords() }
                meta.removeAll(keepingCapacity: true)
                state = padding > 0 ? .padding(padding) : .header
            case .data(let remaining, let padding):
                let taken = rest.prefix(remaining)
                rest = rest.dropFirst(taken.count)
                try write(UnsafeRawBufferPointer(rebasing: taken))
                if remaining == taken.count {
                    try finishFile()
                    state = padding > 0 ? .padding(padding) : .header
                } else {
                    state = .data(remaining: remaining - taken.count, padding: padding)
                }
            }
        }
    }

    // MARK: Headers

    private mutating func header(_ b: [UInt8]) throws(CloudError) {
        if b.allSatisfy({ $0 == 0 }) {
            state = .end
            return
        }
        // The checksum is of the header with blanks in its own place.
        var sum = 0
        for (i, byte) in b.enumerated() { sum += (148..<156).contains(i) ? 0x20 : Int(byte) }
        guard Self.number(b[148..<156]) == sum else { throw Self.broken("a header's checksum is wrong") }
        guard let size = Self.number(b[124..<136]), size >= 0 else { throw Self.broken("a header's size is wrong") }
        let kind = b[156]
        let padding = (512 - size % 512) % 512
        switch kind {
        case UInt8(ascii: "L"), UInt8(ascii: "K"), UInt8(ascii: "x"), UInt8(ascii: "g"):
            guard size <= Self.metaLimit else { throw Self.broken("an extension header is too large") }
            state = size == 0 ? .header : .meta(kind, remaining: size, padding: padding)
        case UInt8(ascii: "5"):
            guard size == 0 else { throw Self.broken("a folder with data") }
        case 0, UInt8(ascii: "0"), UInt8(ascii: "7"), UInt8(ascii: "S"):
            guard files == 0 else { throw Self.broken("it has more than one file") }
            files = 1
            try beginFile(b, kind, size)
        default: throw Self.broken("it has something that is no file")
        }
    }

    private mutating func beginFile(_ b: [UInt8], _ kind: UInt8, _ size: Int) throws(CloudError) {
        archived = size
        if let text = pax["size"], let n = Int(text), n >= 0 { archived = n }
        realSize = archived
        segments = nil
        if kind == UInt8(ascii: "S") {
            guard let real = Self.number(b[483..<495]) else { throw Self.broken("a sparse file without a size") }
            realSize = real
            segments = []
            try addSegments(b[386..<482], count: 4)
            if b[482] != 0 {
                state = .sparseMap
                return
            }
        } else if pax["GNU.sparse.major"] == "1" {
            guard let text = pax["GNU.sparse.realsize"], let real = Int(text) else { throw Self.broken("a sparse file without a size") }
            realSize = real
            segments = []
            meta = []
            state = .sparseText(0)
            return
        } else if let map = pax["GNU.sparse.map"] {
            guard let text = pax["GNU.sparse.size"] ?? pax["GNU.sparse.realsize"], let real = Int(text) else {
                throw Self.broken("a sparse file without a size")
            }
            realSize = real
            let numbers = map.split(separator: ",").map { Int($0) }
            guard numbers.count % 2 == 0, numbers.count / 2 <= Self.segmentLimit else { throw Self.broken("a sparse map is wrong") }
            segments = []
            for i in stride(from: 0, to: numbers.count, by: 2) {
                guard let offset = numbers[i], let length = numbers[i + 1] else { throw Self.broken("a sparse map is wrong") }
                segments?.append(Segment(offset: offset, length: length))
            }
        }
        try beginData(archived)
    }

    /// - Parameter rest: what of the archived bytes is still to come (a text map is part of them).
    private mutating func beginData(_ rest: Int) throws(CloudError) {
        pax = [:]
        if let segments {
            var end = 0
            var sum = 0
            for s in segments {
                guard s.offset >= end, s.length >= 0, s.offset <= realSize, s.length <= realSize - s.offset else {
                    throw Self.broken("a sparse map is wrong")
                }
                end = s.offset + s.length
                sum += s.length
            }
            guard sum == rest else { throw Self.broken("a sparse map does not fit its data") }
        }
        segment = 0
        inSegment = 0
        let padding = (512 - archived % 512) % 512
        if rest == 0 {
            try finishFile()
            state = padding > 0 ? .padding(padding) : .header
        } else {
            state = .data(remaining: rest, padding: padding)
        }
    }

    private mutating func addSegments(_ bytes: ArraySlice<UInt8>, count: Int) throws(CloudError) {
        for i in 0..<count {
            let at = bytes.startIndex + i * 24
            let entry = bytes[at..<(at + 24)]
            if entry.allSatisfy({ $0 == 0 }) { return }
            guard let offset = Self.number(entry.prefix(12)), let length = Self.number(entry.suffix(12)) else {
                throw Self.broken("a sparse map is wrong")
            }
            guard (segments?.count ?? 0) < Self.segmentLimit else { throw Self.broken("a sparse map is too long") }
            // An empty segment at the end only says how large the file is.
            if length > 0 { segments?.append(Segment(offset: offset, length: length)) }
        }
    }

    private mutating func sparseBlock(_ b: [UInt8]) throws(CloudError) {
        try addSegments(b[0..<504], count: 21)
        if b[504] == 0 { try beginData(archived) }
    }

    private mutating func sparseTextBlock(_ b: [UInt8]) throws(CloudError) {
        meta += b
        guard meta.count <= Self.metaLimit * 16 else { throw Self.broken("a sparse map is too long") }
        // Numbers, one a line: how many segments, then offset and length of each; then zeros to the end of the block.
        var numbers: [Int] = []
        var n: Int?
        var used = 0
        for (i, c) in meta.enumerated() {
            if c == 0x0a {
                guard let value = n else { throw Self.broken("a sparse map is wrong") }
                numbers.append(value)
                n = nil
                if let count = numbers.first, count <= Self.segmentLimit, numbers.count == 1 + 2 * count {
                    used = i + 1
                    break
                }
            } else if c >= 0x30, c <= 0x39 {
                let (m, o1) = (n ?? 0).multipliedReportingOverflow(by: 10)
                let (v, o2) = m.addingReportingOverflow(Int(c - 0x30))
                guard !o1, !o2 else { throw Self.broken("a sparse map is wrong") }
                n = v
            } else {
                throw Self.broken("a sparse map is wrong")
            }
        }
        guard used > 0 else {
            if let count = numbers.first, count > Self.segmentLimit { throw Self.broken("a sparse map is too long") }
            return
        }
        for i in stride(from: 1, to: numbers.count, by: 2) where numbers[i + 1] > 0 {
            segments?.append(Segment(offset: numbers[i], length: numbers[i + 1]))
        }
        let map = meta.count
        meta = []
        guard archived >= map else { throw Self.broken("a sparse map is longer than its file") }
        try beginData(archived - map)
    }

    private mutating func paxRecords() throws(CloudError) {
        var rest = meta[...]
        while let space = rest.firstIndex(of: 0x20) {
            guard let length = Int(String(decoding: rest[..<space], as: UTF8.self)), length > 0, length <= rest.count,
                length > space - rest.startIndex + 1
            else { throw Self.broken("a pax header is wrong") }
            let record = String(decoding: rest[(space + 1)..<(rest.startIndex + length - 1)], as: UTF8.self)
            rest = rest.dropFirst(length)
            guard let equals = record.firstIndex(of: "=") else { throw Self.broken("a pax header is wrong") }
            pax[String(record[..<equals])] = String(record[record.index(after: equals)...])
        }
    }

    /// Octal digits, or base 256 where the first bit is set (GNU, for what does not fit).
    private static func number(_ field: ArraySlice<UInt8>) -> Int? {
        guard let first = field.first else { return nil }
        if first & 0x80 != 0 {
            var n = Int(first & 0x3f)
            for byte in field.dropFirst() {
                guard n < 1 << 54 else { return nil }
                n = n << 8 | Int(byte)
            }
            return n
        }
        var n = 0
        for c in field {
            if c == 0x20 && n == 0 { continue }
            if c == 0 || c == 0x20 { break }
            guard c >= 0x30, c <= 0x37, n < 1 << 59 else { return nil }
            n = n << 3 | Int(c - 0x30)
        }
        return n
    }

    // MARK: Data

    private mutating func write(_ bytes: UnsafeRawBufferPointer) throws(CloudError) {
        guard let segments else { return try file.append(bytes) }
        var rest = bytes[...]
        while !rest.isEmpty {
            guard segment < segments.count else { throw Self.broken("more data than its sparse map") }
            let s = segments[segment]
            if inSegment == 0, file.length < s.offset { try file.skip(s.offset - file.length) }
            let taken = rest.prefix(s.length - inSegment)
            try file.append(UnsafeRawBufferPointer(rebasing: taken))
            rest = rest.dropFirst(taken.count)
            inSegment += taken.count
            if inSegment == s.length {
                segment += 1
                inSegment = 0
            }
        }
    }

    private mutating func finishFile() throws(CloudError) {
        if file.length < realSize { try file.skip(realSize - file.length) }
    }
}
