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

postgres_start() {
    [ -z "$DATABASE_URL" ] || return 0
    local bin
    bin=$(postgres_bin)
    [ -n "$bin" ] || {
        echo "no PostgreSQL server is installed"
        return 1
    }
    if [ ! -f "$PG_DIR/data/PG_VERSION" ]; then
        # initdb and postgres refuse root: they run as the unprivileged user `postgres`; root connects as role `karri` by peer.
        install -d -o postgres -g postgres -m 700 "$PG_DIR"
        (cd / && setpriv --reuid=postgres --regid=postgres --init-groups "$bin/initdb" -D "$PG_DIR/data" -A peer -E UTF8 --locale=C.UTF-8 >/dev/null) || return 1
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
            background "$RUN_DIR/postgres.pid" "$KARRI_HOME/log/postgres.log" \
                setpriv --reuid=postgres --regid=postgres --init-groups env -C / \
                "$bin/postgres" -D "$PG_DIR/data" -c unix_socket_directories="$PG_SOCKETS" -c port=$PG_PORT
        fi
        tries=$((tries + 1))
        [ $tries -le 150 ] || {
            tail -n 15 "$KARRI_HOME/log/postgres.log"
            return 1
        }
        sleep 0.2
    done
    # `exec setpriv` replaced the process: what runs under the pid now is named postgres.
    echo "$(head -n 1 "$PG_DIR/data/postmaster.pid") postgres" >"$RUN_DIR/postgres.pid"
    [ "$($admin -c "select 1 from pg_roles where rolname='karri'")" = 1 ] || $admin -c 'create role karri login' || return 1
    [ "$($admin -c "select 1 from pg_database where datname='karri'")" = 1 ] || $admin -c "create database karri owner karri template template0 encoding 'UTF8' lc_collate 'C' lc_ctype 'C.UTF-8'" || return 1
}

postgres_stop() { end_process "$RUN_DIR/postgres.pid" INT 30; }

# libvirt: systemd's where it runs; else one of our own, in a mount namespace, so that nothing of the host's configuration is touched.
libvirt_uri() {
    if host_libvirt; then printf 'qemu:///system'; else printf 'qemu+unix:///system?socket=%s/libvirt/libvirt-sock' "$RUN_DIR"; fi
}
host_libvirt() { [ -d /run/systemd/system ] && systemctl is-active -q libvirtd.service libvirtd.socket 2>/dev/null; }

# What QEMU shows the storage controller when it opens a volume: this node's own certificate.
nbd_tls_dir() { if host_libvirt; then printf /etc/pki/libvirt-nbd; else printf '%s/libvirt/pki' "$KARRI_HOME"; fi; }
nbd_tls_install() {
    local dir
    dir=$(nbd_tls_dir)
    mkdir -p "$dir"
    install -m 644 "$KARRI_HOME/keys/ca.pem" "$dir/ca-cert.pem"
    install -m 644 "$KARRI_HOME/keys/node1.pem" "$dir/client-cert.pem"
    install -m 600 "$KARRI_HOME/keys/node1.key" "$dir/client-key.pem"
}

libvirt_start() {
    nbd_tls_install
    if host_libvirt; then return 0; fi
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
