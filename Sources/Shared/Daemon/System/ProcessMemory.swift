import Glibc

/// What the C library does with freed memory.
public enum ProcessMemory {
    /// Few heaps instead of one for almost every thread: large buffers that wander between threads otherwise leave their holes in all of
    /// them, and the daemon grows to a multiple of what it holds. Call it first of all.
    public static func useFewHeaps() {
        // malloc.h is not in the Glibc module; on a C library without mallopt (musl) there is nothing to do.
        guard let program = dlopen(nil, RTLD_NOW), let symbol = dlsym(program, "mallopt") else { return }
        // SAFETY: `int mallopt(int, int)` (mallopt(3)); M_ARENA_MAX is -8.
        let mallopt = unsafeBitCast(symbol, to: (@convention(c) (Int32, Int32) -> Int32).self)
        _ = mallopt(-8, 2)
    }
}
