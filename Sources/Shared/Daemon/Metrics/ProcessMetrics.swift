import Domain
import Glibc
import Workflow

/// The process's own numbers, under the names that Prometheus' clients use.
enum ProcessMetrics {
    static func register(in registry: MetricsRegistry, daemon: String, version: String) {
        registry.gauge("karri_info", ["daemon": daemon, "version": version], help: "Always 1; its labels say what runs").set(1)
        let start = registry.gauge("process_start_time_seconds", help: "Start of the process, Unix time")
        start.set(Double(SystemClock().now().milliseconds) / 1000)
        let memory = registry.gauge("process_resident_memory_bytes", help: "Resident memory")
        let virtual = registry.gauge("process_virtual_memory_bytes", help: "Virtual memory")
        let cpu = registry.gauge("process_cpu_seconds_total", help: "CPU time, user and system")
        let files = registry.gauge("process_open_fds", help: "Open file descriptors")
        registry.collect {
            if let pages = statm() {
                memory.set(Double(pages.resident) * Double(getpagesize()))
                virtual.set(Double(pages.size) * Double(getpagesize()))
            }
            var usage = rusage()
            if getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 {
                cpu.set(
                    Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6)
            }
            files.set(Double(openDescriptors()))
        }
    }

    private static func statm() -> (size: Int, resident: Int)? {
        guard let bytes = try? FileSystem.read("/proc/self/statm", limit: 4096) else { return nil }
        let words = String(decoding: bytes, as: UTF8.self).split(separator: " ").compactMap { Int($0) }
        return words.count >= 2 ? (words[0], words[1]) : nil
    }

    private static func openDescriptors() -> Int {
        guard let folder = opendir("/proc/self/fd") else { return 0 }
        defer { closedir(folder) }
        var count = -3  // ".", ".." and the descriptor of this walk
        while readdir(folder) != nil { count += 1 }
        return max(0, count)
    }
}
