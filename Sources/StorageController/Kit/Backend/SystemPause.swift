import Glibc

/// A short wait for another process, on a thread of the blocking pool (never on the cooperative pool).
enum SystemPause {
    static func milliseconds(_ count: UInt32) { usleep(count * 1000) }
}
