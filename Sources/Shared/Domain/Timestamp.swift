/// A moment in UTC, in milliseconds since 1970. Domain has no clock: callers pass moments in.
///
/// Formats are our own because Foundation's cost 50 MB (`docs/decisions`): ISO 8601 (EC2, S3, SOAP), the basic form of SigV4,
/// RFC 7231's IMF-fixdate (HTTP).
public struct Timestamp: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var milliseconds: Int64
    public init(milliseconds: Int64) { self.milliseconds = milliseconds }
    public init(seconds: Int64) { milliseconds = seconds * 1000 }

    public var seconds: Int64 { milliseconds.flooredDivision(by: 1000) }
    public static func < (a: Self, b: Self) -> Bool { a.milliseconds < b.milliseconds }
    public func adding(seconds: Int64) -> Timestamp { Timestamp(milliseconds: milliseconds + seconds * 1000) }
    public func adding(milliseconds more: Int64) -> Timestamp { Timestamp(milliseconds: milliseconds + more) }
    /// Seconds from `earlier` to `self`; negative when `self` is the earlier one.
    public func seconds(since earlier: Timestamp) -> Double { Double(milliseconds - earlier.milliseconds) / 1000 }

    /// `2026-11-22T14:33:36.000Z`
    public var iso8601: String {
        let (y, mo, d, h, mi, s, ms, _) = parts
        return "\(pad(y, 4))-\(pad(mo, 2))-\(pad(d, 2))T\(pad(h, 2)):\(pad(mi, 2)):\(pad(s, 2)).\(pad(ms, 3))Z"
    }
    /// `2026-11-22T14:33:36Z`
    public var iso8601Seconds: String { String(iso8601.prefix(19)) + "Z" }
    /// `20261122T143336Z`, as SigV4 writes it.
    public var basic: String {
        let (y, mo, d, h, mi, s, _, _) = parts
        return "\(pad(y, 4))\(pad(mo, 2))\(pad(d, 2))T\(pad(h, 2))\(pad(mi, 2))\(pad(s, 2))Z"
    }
    /// `Sun, 22 Nov 2026 14:33:36 GMT` (RFC 7231 §7.1.1.1).
    public var httpDate: String {
        let (y, mo, d, h, mi, s, _, weekday) = parts
        return "\(Self.weekdays[weekday]), \(pad(d, 2)) \(Self.months[mo - 1]) \(pad(y, 4)) \(pad(h, 2)):\(pad(mi, 2)):\(pad(s, 2)) GMT"
    }
    public var description: String { iso8601 }

    /// Strict `YYYY-MM-DDThh:mm:ss[.f{1,9}](Z|+00:00)`; `nil` for everything else, other zones and impossible dates included.
    public init?(iso8601 text: some StringProtocol) {
        let b = Array(text.utf8)
        guard b.count >= 20, b[4] == 0x2d, b[7] == 0x2d, b[10] == 0x54, b[13] == 0x3a, b[16] == 0x3a,
            let y = Self.number(b[0..<4]), let mo = Self.number(b[5..<7]), let d = Self.number(b[8..<10]),
            let h = Self.number(b[11..<13]), let mi = Self.number(b[14..<16]), let s = Self.number(b[17..<19])
        else { return nil }
        var i = 19
        var ms = 0
        if b[i] == 0x2e {
            i += 1
            let start = i
            while i < b.count, b[i] >= 0x30, b[i] <= 0x39 { i += 1 }
            guard i - start >= 1, i - start <= 9 else { return nil }
            for k in 0..<3 { ms = ms * 10 + (start + k < i ? Int(b[start + k] - 0x30) : 0) }
        }
        let zone = String(decoding: b[i...], as: UTF8.self)
        guard zone == "Z" || zone == "+00:00" else { return nil }
        self.init(year: y, month: mo, day: d, hour: h, minute: mi, second: s, millisecond: ms)
    }

    /// `20261122T143336Z`
    public init?(basic text: some StringProtocol) {
        let b = Array(text.utf8)
        guard b.count == 16, b[8] == 0x54, b[15] == 0x5a,
            let y = Self.number(b[0..<4]), let mo = Self.number(b[4..<6]), let d = Self.number(b[6..<8]),
            let h = Self.number(b[9..<11]), let mi = Self.number(b[11..<13]), let s = Self.number(b[13..<15])
        else { return nil }
        self.init(year: y, month: mo, day: d, hour: h, minute: mi, second: s, millisecond: 0)
    }

    /// RFC 7231 IMF-fixdate, and RFC 2822 with a numeric zone of +0000 or -0000 as old S3 clients write it.
    public init?(httpDate text: some StringProtocol) {
        var words = String(text).split(separator: " ").map { String($0) }
        if let first = words.first, first.hasSuffix(",") { words.removeFirst() }
        guard words.count == 5, ["GMT", "UTC", "+0000", "-0000"].contains(words[4]),
            let month = Self.months.firstIndex(of: words[1]), let d = Self.number(Array(words[0].utf8)[...]),
            let y = Self.number(Array(words[2].utf8)[...])
        else { return nil }
        let time = Array(words[3].utf8)
        guard time.count == 8, time[2] == 0x3a, time[5] == 0x3a, let h = Self.number(time[0..<2]), let mi = Self.number(time[3..<5]),
            let s = Self.number(time[6..<8])
        else { return nil }
        self.init(year: y, month: month + 1, day: d, hour: h, minute: mi, second: s, millisecond: 0)
    }

    /// `nil` when there is no such moment (the 30th of February, 24:00, a leap second).
    public init?(year: Int, month: Int, day: Int, hour: Int, minute: Int, second: Int, millisecond: Int) {
        guard (1...12).contains(month), (1...9999).contains(year), day >= 1, day <= Self.days(in: month, of: year),
            (0...23).contains(hour), (0...59).contains(minute), (0...59).contains(second), (0...999).contains(millisecond)
        else { return nil }
        let days = Self.daysFromCivil(year, month, day)
        milliseconds = ((Int64(days) * 24 + Int64(hour)) * 60 + Int64(minute)) * 60_000 + Int64(second) * 1000 + Int64(millisecond)
    }

    private static let weekdays = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    private static func days(in month: Int, of year: Int) -> Int {
        switch month {
        case 2: (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    private static func number(_ digits: ArraySlice<UInt8>) -> Int? {
        guard !digits.isEmpty, digits.count <= 4 else { return nil }
        var n = 0
        for c in digits {
            guard c >= 0x30, c <= 0x39 else { return nil }
            n = n * 10 + Int(c - 0x30)
        }
        return n
    }

    /// Days since 1970-01-01 of a date of the proleptic Gregorian calendar (the well-known era arithmetic: 400 years are 146,097 days).
    private static func daysFromCivil(_ year: Int, _ month: Int, _ day: Int) -> Int {
        let y = month <= 2 ? year - 1 : year
        let era = (y >= 0 ? y : y - 399) / 400
        let yearOfEra = y - era * 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    private var parts: (Int, Int, Int, Int, Int, Int, Int, Int) {
        let days = Int(milliseconds.flooredDivision(by: 86_400_000))
        let rest = Int(milliseconds - Int64(days) * 86_400_000)
        let z = days + 719_468
        let era = (z >= 0 ? z : z - 146_096) / 146_097
        let dayOfEra = z - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let mp = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * mp + 2) / 5 + 1
        let month = mp < 10 ? mp + 3 : mp - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        let weekday = ((days % 7) + 11) % 7
        return (year, month, day, rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60, rest % 1000, weekday)
    }

    private func pad(_ n: Int, _ width: Int) -> String {
        let s = String(n)
        return s.count >= width ? s : String(repeating: "0", count: width - s.count) + s
    }
}

extension Int64 {
    /// Division that rounds down, for moments before 1970.
    fileprivate func flooredDivision(by d: Int64) -> Int64 { self >= 0 ? self / d : -((-self + d - 1) / d) }
}
