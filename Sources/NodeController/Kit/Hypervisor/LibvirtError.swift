import CLibvirt
import Domain

/// libvirt's last error of this thread. Thread-local: read it where the call failed, before anything else.
struct LibvirtError: Error {
    var code: UInt32
    var domain: Int32
    var message: String

    static func last() -> LibvirtError {
        guard let e = virGetLastError() else { return LibvirtError(code: 0, domain: 0, message: "unknown error") }
        // SAFETY: the error belongs to this thread and stays until its next libvirt call.
        return LibvirtError(
            code: UInt32(bitPattern: e.pointee.code), domain: e.pointee.domain,
            message: e.pointee.message.map { String(cString: $0) } ?? "unknown error")
    }

    var isNoDomain: Bool { code == VIR_ERR_NO_DOMAIN.rawValue }
    /// "Requested operation is not valid": mostly that the domain is (or is not) running.
    var isInvalidOperation: Bool { code == VIR_ERR_OPERATION_INVALID.rawValue }
    var isNoDevice: Bool { code == VIR_ERR_DEVICE_MISSING.rawValue }
    /// The connection itself is gone.
    var isLostConnection: Bool {
        code == VIR_ERR_RPC.rawValue || code == VIR_ERR_NO_CONNECT.rawValue || code == VIR_ERR_INVALID_CONN.rawValue
            || code == VIR_ERR_SYSTEM_ERROR.rawValue
            || (code == VIR_ERR_INTERNAL_ERROR.rawValue
                && (message.contains("client socket is closed") || message.contains("keepalive") || message.contains("End of file")))
    }

    func cloudError(_ doing: String) -> CloudError {
        if isLostConnection { return CloudError(.unavailable("The hypervisor"), context: "libvirt, \(doing): \(message)") }
        return CloudError(
            .named(code: "HypervisorError", status: 500), "\(doing): \(message)", context: "libvirt error \(code) of domain \(domain)")
    }
}
