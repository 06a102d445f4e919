# The two servers that the daemons stand on: PostgreSQL and libvirt. Each is the host's own where it runs one, else a private one.
# Sourced by deploy/karri after common.sh.

PG_DIR=$KARRI_HOME/postgres
PG_PORT=5432
PG_SOCKETS=$RUN_DIR/postgres
postgres_bin() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1; }

# The URL that the daemons use.
database_url() {
    if [ -n "$DATABASE_URL" ]; then printf %s "$DATABASE_URL"; else printf 'host=%s port=%s dbname=karri user=karri' "$PG_SOCKETS" "$PG_PORT"; fi
}

# initdb and postgres refuse root: they run as the unprivileged user `postgres`. That user may not be able to enter KARRI_HOME (below /root, say),
# so in a mount namespace of its own it sees the folder at PG_SEEN.
PG_SEEN=$RUN_DIR/database
# shellcheck disable=SC2016
AS_POSTGRES=(unshare --mount --propagation private sh -c
    'mount --bind "$1" "$2" && shift 2 && exec setpriv --reuid=postgres --regid=postgres --init-groups env -C / "$@"' - "$PG_DIR" "$PG_SEEN")
postgres_start() {
    [ -z "$DATABASE_URL" ] || return 0
    local bin
    bin=$(postgres_bin)
    [ -n "$bin" ] || {
        echo "no PostgreSQL server is installed"
        return 1
    }
    mkdir -p "$PG_SEEN"
    if [ ! -f "$PG_DIR/data/PG_VERSION" ]; then
        # Root connects as role `karri` by peer.
        install -d -o postgres -g postgres -m 700 "$PG_DIR"
        "${AS_POSTGRES[@]}" "$bin/initdb" -D "$PG_SEEN/data" -A peer -E UTF8 --locale=C.UTF-8 >/dev/null || return 1
        printf 'karri root karri\nkarri postgres postgres\n' >>"$PG_DIR/data/pg_ident.conf"
        sed -i '1i local all postgres peer\nlocal all karri peer map=karri' "$PG_DIR/data/pg_hba.conf"
        cat >>"$PG_DIR/data/postgresql.conf" <<X
listen_addresses = ''
max_connections = 100
shared_buffers = 32MB
max_wal_size = 256MB
log_min_messages = warning
X
    fi
    local admin="setpriv --reuid=postgres --regid=postgres --init-groups env -C / $bin/psql -h $PG_SOCKETS -p $PG_PORT -d postgres -qtAX"
    install -d -o postgres -g postgres -m 755 "$PG_SOCKETS"
    # One that was killed leaves children for a moment, and while they live no other starts: tried again until it answers.
    local tries=0
    until $admin -c 'select 1' >/dev/null 2>&1; do
        if ! alive "$RUN_DIR/postgres.pid"; then
            background "$RUN_DIR/postgres.pid" postgres "$KARRI_HOME/log/postgres.log" "${AS_POSTGRES[@]}" \
                "$bin/postgres" -D "$PG_SEEN/data" -c unix_socket_directories="$PG_SOCKETS" -c port=$PG_PORT
        fi
        tries=$((tries + 1))
        [ $tries -le 150 ] || {
            tail -n 15 "$KARRI_HOME/log/postgres.log"
            return 1
        }
        sleep 0.2
    done
    # Each `exec` replaced the process: what runs under the pid now is named postgres.
    echo "$(head -n 1 "$PG_DIR/data/postmaster.pid") postgres" >"$RUN_DIR/postgres.pid"
    [ "$($admin -c "select 1 from pg_roles where rolname='karri'")" = 1 ] || $admin -c 'create role karri login' || return 1
    [ "$($admin -c "select 1 from pg_database where datname='karri'")" = 1 ] || $admin -c "create database karri owner karri template template0 encoding 'UTF8' lc_collate 'C' lc_ctype 'C.UTF-8'" || return 1
}

postgres_stop() { end_process "$RUN_DIR/postgres.pid" INT 30; }

# libvirt: systemd's where it runs; else one of our own, in a mount namespace, so that nothing of the host's configuration is touched. Which
# of the two is decided by the first `up` and stands in nc.conf, so that a libvirtd that stops for a while does not change it.
HOST_LIBVIRT=qemu:///system
libvirt_uri() {
    if host_libvirt; then printf '%s' "$HOST_LIBVIRT"; else printf 'qemu+unix:///system?socket=%s/libvirt/libvirt-sock' "$RUN_DIR"; fi
}
host_libvirt() {
    local uri
    uri=$(config_value nc libvirt_uri)
    if [ -n "$uri" ]; then [ "$uri" = "$HOST_LIBVIRT" ]; else [ "$WANTED_LIBVIRT" != private ] && host_libvirt_runs && [ -z "$(host_libvirt_unfit)" ]; fi
}
# Why systemd's libvirtd cannot be used; nothing when it can.
host_libvirt_unfit() {
    local owner
    owner=$(host_qemu_owner)
    if nbd_tls_foreign; then
        echo "$(host_nbd_tls_dir) has certificates that are not this cloud's"
    elif ! setpriv --reuid="${owner%:*}" --regid="${owner#*:}" --clear-groups test -x "$KARRI_HOME"; then
        echo "its QEMU (user ${owner%:*}) may not enter $KARRI_HOME"
    fi
}
# The user and group that systemd's libvirtd runs QEMU as, as numbers.
host_qemu_owner() {
    local owner
    owner=$(virsh -c "$HOST_LIBVIRT" capabilities 2>/dev/null | grep -A 3 '<model>dac</model>' |
        sed -n 's/.*<baselabel[^>]*>+\([0-9]*:\)+\([0-9]*\)<.*/\1\2/p' | head -n 1 || true)
    printf '%s' "${owner:-0:0}"
}
host_libvirt_runs() {
    [ -d /run/systemd/system ] && systemctl is-active -q libvirtd.service libvirtd.socket virtqemud.service virtqemud.socket 2>/dev/null
}

# What QEMU shows the storage controller when it opens a volume: this node's own certificate. libvirt knows one folder for all its guests. A
# file `karri` in it says that the certificates are ours, whose, and which folders were made for it; certificates without it belong to the
# operator and are never touched: then libvirtd is a private one.
nbd_tls_dir() {
    if host_libvirt; then host_nbd_tls_dir; else printf '%s/libvirt/pki' "$KARRI_HOME"; fi
}
host_nbd_tls_dir() {
    local dir
    dir=$(sed -n 's/^[[:space:]]*nbd_tls_x509_cert_dir[[:space:]]*=[[:space:]]*"\([^"]*\)".*/\1/p' /etc/libvirt/qemu.conf 2>/dev/null | tail -n 1 || true)
    printf '%s' "${dir:-/etc/pki/libvirt-nbd}"
}
NBD_TLS_FILES="ca-cert.pem client-cert.pem client-key.pem"
nbd_tls_foreign() {
    local dir file owner
    dir=$(host_nbd_tls_dir)
    # Ours, or left behind by a cloud whose folder is gone.
    if [ -f "$dir/karri" ]; then
        owner=$(head -n 1 "$dir/karri")
        [ "$owner" != "$KARRI_HOME" ] && [ -d "$owner" ]
        return
    fi
    for file in $NBD_TLS_FILES; do [ ! -e "$dir/$file" ] || return 0; done
    return 1
}
nbd_tls_install() {
    local dir made='' folder owner=0:0
    dir=$(nbd_tls_dir)
    if host_libvirt; then
        if nbd_tls_foreign; then
            echo "$dir has certificates that are not Karri's; they stay as they are. To use a private libvirtd beside systemd's:"
            echo "deploy/karri erase; KARRI_LIBVIRT=private deploy/karri up"
            return 1
        fi
        # QEMU runs as a user of its own there, and reads the key itself.
        owner=$(host_qemu_owner)
        for folder in "$(dirname "$dir")" "$dir"; do [ -d "$folder" ] || made="$folder $made"; done
        mkdir -p "$dir"
        [ -f "$dir/karri" ] && [ "$(head -n 1 "$dir/karri")" = "$KARRI_HOME" ] || printf '%s\n%s\n' "$KARRI_HOME" "$made" >"$dir/karri"
    fi
    mkdir -p "$dir"
    install -m 644 "$KARRI_HOME/keys/ca.pem" "$dir/ca-cert.pem"
    install -m 644 "$KARRI_HOME/keys/node1.pem" "$dir/client-cert.pem"
    install -m 640 -o 0 -g "${owner#*:}" "$KARRI_HOME/keys/node1.key" "$dir/client-key.pem"
    # libvirtd looks for the folder when it starts, and takes another one if there is none. Guests do not notice its restart.
    [ -z "$made" ] || systemctl try-restart libvirtd.service virtqemud.service 2>/dev/null || true
}
nbd_tls_remove() {
    local dir file folder
    dir=$(host_nbd_tls_dir)
    [ -f "$dir/karri" ] && [ "$(head -n 1 "$dir/karri")" = "$KARRI_HOME" ] || return 0
    for file in $NBD_TLS_FILES; do rm -f "$dir/$file"; done
    local made
    made=$(sed -n 2p "$dir/karri")
    rm -f "$dir/karri"
    for folder in $made; do rmdir --ignore-fail-on-non-empty "$folder"; done
    [ -z "$made" ] || systemctl try-restart libvirtd.service virtqemud.service 2>/dev/null || true
}

# The domains whose disks are this cloud's: libvirt may have others, of another cloud too.
our_domains() {
    local name data
    data=$(config_value nc data_dir)
    for name in $(virsh -c "$(libvirt_uri)" list --all --name 2>/dev/null | grep '^i-' || true); do
        if virsh -c "$(libvirt_uri)" dumpxml "$name" 2>/dev/null | grep -qF "'${data:-$KARRI_HOME/node}/"; then echo "$name"; fi
    done
}
domains_end() {
    local name logs data
    data=$(config_value nc data_dir)
    for name in $(our_domains); do
        virsh -c "$(libvirt_uri)" destroy "$name" >/dev/null 2>&1 || true
        virsh -c "$(libvirt_uri)" undefine "$name" >/dev/null 2>&1 || true
    done
    # QEMU's logs with systemd's libvirtd: each begins with the command line, so the disk's folder says whose it is.
    if host_libvirt; then
        logs=$(grep -lF "${data:-$KARRI_HOME/node}/" /var/log/libvirt/qemu/i-*.log 2>/dev/null || true)
        [ -z "$logs" ] || rm -f $logs
    fi
}

libvirt_start() {
    if host_libvirt; then
        wait_for 20 "libvirtd of systemd (systemctl start libvirtd)" virsh -c "$HOST_LIBVIRT" version || return 1
        nbd_tls_install || return 1
        wait_for 20 "libvirtd of systemd after its restart" virsh -c "$HOST_LIBVIRT" version
        return
    fi
    nbd_tls_install
    if ! alive "$RUN_DIR/libvirtd.pid" || ! [ -S "$RUN_DIR/libvirt/libvirt-sock" ]; then
        local dir=$KARRI_HOME/libvirt
        mkdir -p "$dir"/{lib,log,cache,etc/qemu} "$dir"/lib/{qemu,images,boot,secrets} "$RUN_DIR/libvirt"
        [ -s "$dir/host-uuid" ] || cat /proc/sys/kernel/random/uuid >"$dir/host-uuid"
        # virtlogd and libvirtd read these instead of /etc/libvirt: no polkit, no TCP; QEMU without cgroups and namespaces (we may be in a
        # container), TLS for volumes with this node's certificate.
        cat >"$dir/etc/libvirtd.conf" <<X
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
host_uuid = "$(cat "$dir/host-uuid")"
log_level = 3
X
        cat >"$dir/etc/qemu.conf" <<X
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
security_driver = "none"
namespaces = []
nbd_tls_x509_cert_dir = "$(nbd_tls_dir)"
X
        : >"$dir/etc/virtlogd.conf"
        unshare -m --propagation private bash -c "
            set -e
            mkdir -p /run/libvirt /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt
            mount --bind '$RUN_DIR/libvirt' /run/libvirt
            mount --bind '$dir/etc' /etc/libvirt
            mount --bind '$dir/lib' /var/lib/libvirt
            mount --bind '$dir/log' /var/log/libvirt
            mount --bind '$dir/cache' /var/cache/libvirt
            virtlogd -d -p '$RUN_DIR/virtlogd.pid'
            libvirtd -d -p '$RUN_DIR/libvirtd.pid'
        " </dev/null >>"$KARRI_HOME/log/libvirt.log" 2>&1 || return 1
        echo "$(cat "$RUN_DIR/virtlogd.pid") virtlogd" >"$RUN_DIR/virtlogd.pid"
        echo "$(cat "$RUN_DIR/libvirtd.pid") libvirtd" >"$RUN_DIR/libvirtd.pid"
    fi
    wait_for 20 "libvirtd" virsh -c "$(libvirt_uri)" version
}

libvirt_stop() {
    end_process "$RUN_DIR/libvirtd.pid"
    end_process "$RUN_DIR/virtlogd.pid"
}

# The volumes' servers outlive the storage controller.
exports_end() { pkill -KILL -f "qemu-storage-daemon.*$KARRI_HOME/storage" || true; }
