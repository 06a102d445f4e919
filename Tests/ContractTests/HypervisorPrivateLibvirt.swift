import Daemon
import Domain
import Glibc
import Synchronization

/// A libvirtd of our own, in its own mount and network namespaces, with a bridge and an NBD export: the host's libvirt and network
/// are not touched. Needs root, libvirtd and QEMU; where they are missing there is none, and the contract runs on the simulated
/// hypervisor alone.
final class PrivateLibvirt: Sendable {
    static let bridge = "ctbr0"
    static let exportPort = 10_819
    let folder: String
    var uri: String { "qemu+unix:///system?socket=\(folder)/run/libvirt/libvirt-sock" }
    var rootDisk: String { folder + "/root.qcow2" }
    var consolePath: String { folder + "/console.log" }

    private init(folder: String) { self.folder = folder }

    /// `nil` when this machine cannot have one.
    static func start() async throws -> PrivateLibvirt? {
        let needed = [
            "/usr/sbin/libvirtd", "/usr/sbin/virtlogd", "/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-img", "/usr/bin/qemu-storage-daemon",
            "/usr/bin/unshare",
        ]
        guard getuid() == 0, needed.allSatisfy({ access($0, X_OK) == 0 }) else { return nil }
        let folder = "/tmp/karri-ct-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
        let result = try await CommandRunner().run(
            Command("sh", ["-c", startScript, "sh", folder, bridge, "\(exportPort)"], timeoutMilliseconds: 60_000))
        guard result.status == 0 else {
            // Such as a container without namespaces.
            await PrivateLibvirt(folder: folder).stop()
            return nil
        }
        return PrivateLibvirt(folder: folder)
    }

    func stop() async {
        _ = try? await CommandRunner().run(Command("sh", ["-c", Self.stopScript, "sh", folder], timeoutMilliseconds: 30_000))
    }

    /// libvirtd only: what runs goes on.
    func restartDaemon() async throws {
        _ = try await CommandRunner().check(Command("sh", ["-c", Self.restartScript, "sh", folder], timeoutMilliseconds: 30_000))
    }

    private static let startScript = """
        set -e
        D=$1 B=$2 P=$3
        mkdir -p $D/run/libvirt $D/etc $D/lib/qemu $D/log $D/cache
        cp -a /etc/libvirt $D/etc/libvirt; rm -rf $D/etc/libvirt/qemu; mkdir -p $D/etc/libvirt/qemu
        printf 'unix_sock_rw_perms = "0770"\\nauth_unix_ro = "none"\\nauth_unix_rw = "none"\\nhost_uuid = "00000000-0000-4000-8000-0000000000c1"\\n' > $D/etc/libvirt/libvirtd.conf
        printf 'user = "root"\\ngroup = "root"\\ndynamic_ownership = 0\\nremember_owner = 0\\ncgroup_controllers = []\\nsecurity_driver = "none"\\nnamespaces = []\\nstdio_handler = "file"\\n' > $D/etc/libvirt/qemu.conf
        qemu-img create -q -f qcow2 $D/root.qcow2 16M
        truncate -s 16M $D/volume.raw
        cat > $D/inside.sh <<END
        set -e
        # libvirt sets the ports' flags through sysfs, which must be that of the new network namespace.
        mount -t sysfs sysfs /sys
        ip link set lo up
        ip link add $B type bridge; ip link set $B up
        mkdir -p /run/libvirt
        for m in run/libvirt:/run/libvirt etc/libvirt:/etc/libvirt lib:/var/lib/libvirt log:/var/log/libvirt cache:/var/cache/libvirt; do
          mkdir -p \\${m#*:}; mount --bind $D/\\${m%%:*} \\${m#*:}
        done
        virtlogd -d -p $D/virtlogd.pid
        libvirtd -d -p $D/libvirtd.pid </dev/null >$D/log/daemon.out 2>&1
        qemu-storage-daemon --daemonize --pidfile $D/qsd.pid --blockdev driver=file,node-name=v,filename=$D/volume.raw \\
          --nbd-server addr.type=inet,addr.host=127.0.0.1,addr.port=$P,max-connections=8 --export type=nbd,id=e,node-name=v,name=secret,writable=on
        END
        unshare -m -n --propagation private sh $D/inside.sh </dev/null >$D/log/inside.out 2>&1
        n=0; until [ -S $D/run/libvirt/libvirt-sock ]; do n=$((n+1)); [ $n -gt 100 ] && exit 1; sleep 0.1; done
        """
    private static let restartScript = """
        set -e
        D=$1; P=$(cat $D/libvirtd.pid)
        # Its namespaces go on in the log daemon.
        N=$(cat $D/virtlogd.pid)
        kill -9 $P; n=0; while kill -0 $P 2>/dev/null; do n=$((n+1)); [ $n -gt 50 ] && exit 1; sleep 0.1; done
        rm -f $D/libvirtd.pid
        nsenter -t $N -m -n libvirtd -d -p $D/libvirtd.pid </dev/null >>$D/log/daemon.out 2>&1
        """
    private static let stopScript = """
        D=$1
        case $D in /tmp/karri-ct-*) ;; *) exit 1 ;; esac
        for f in $D/run/libvirt/qemu/*.pid $D/qsd.pid $D/libvirtd.pid $D/virtlogd.pid; do [ -f $f ] && kill -9 $(cat $f) 2>/dev/null; done
        sleep 0.2
        rm -rf $D
        """
}
