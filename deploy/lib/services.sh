# `deploy/karri install` and `uninstall`: the five daemons as systemd services, with the host's libvirtd and PostgreSQL. Sourced by deploy/karri.

[ -d /run/systemd/system ] || die "systemd does not run here: deploy/karri up needs none"
BUILT=$BIN
KARRI_HOME=/var/lib/karri
RUN_DIR=/run/karri
CONFIG_DIR=/etc/karri
BIN=/usr/bin
AS=(runuser -u karri --)
UNITS="karri-walrus karri-sc karri-nc karri-cc karri-clc"
LOCAL_DATABASE="host=/run/postgresql dbname=karri user=karri"
DATABASE_URL=$(config_value clc database_url)
DATABASE_URL=${DATABASE_URL:-${KARRI_DATABASE_URL:-$LOCAL_DATABASE}}

postgres_admin() { runuser -u postgres -- "$@"; }
# Without a URL: a role and a database of this host's PostgreSQL, which the user karri enters by peer.
local_database_make() {
    [ "$DATABASE_URL" = "$LOCAL_DATABASE" ] || return 0
    systemctl is-active -q postgresql || systemctl start postgresql || return 1
    [ "$(postgres_admin psql -qtAX -c "select 1 from pg_roles where rolname='karri'")" = 1 ] || postgres_admin createuser karri || return 1
    [ "$(postgres_admin psql -qtAX -c "select 1 from pg_database where datname='karri'")" = 1 ] ||
        postgres_admin createdb -O karri -T template0 -E UTF8 --lc-collate=C --lc-ctype=C.UTF-8 karri
}

files_install() {
    local name
    getent passwd karri >/dev/null || useradd --system --user-group --home-dir "$KARRI_HOME" --shell /usr/sbin/nologin karri || return 1
    # `install` writes a new file: a daemon that runs keeps the one that it has.
    for name in clc walrus cc sc nc; do install -m 755 "$BUILT/karri-$name" "$BIN/karri-$name" || return 1; done
    install -m 644 "$REPO"/deploy/systemd/*.service /etc/systemd/system/
    configure
    chown -R karri:karri "$KARRI_HOME"/{keys,admin,walrus,storage}
    chown -R root:karri "$CONFIG_DIR"
    chmod 750 "$CONFIG_DIR"
    chmod 640 "$CONFIG_DIR"/*.conf
    systemctl daemon-reload
}
units_start() {
    # shellcheck disable=SC2086
    systemctl enable --now $UNITS
}
units_stop() {
    # shellcheck disable=SC2086
    systemctl disable --now $UNITS 2>&1 || true
}

command_install() {
    need_root install
    if [ "${1:-}" != --no-build ]; then
        packages_install "$REPO/deploy/packages.txt"
        (BIN=$BUILT && command_build)
    fi
    [ -x "$BUILT/karri-clc" ] || die "nothing is built: deploy/karri build"
    step "user, binaries, configuration, units" files_install
    host_libvirt || die "systemd's libvirtd cannot be used: $(host_libvirt_runs && host_libvirt_unfit || echo "it does not run")"
    step "database" local_database_make
    step "keys, certificates, first account" initialise
    step "libvirt's certificate for volumes" libvirt_start
    write_eucarc
    step "starting the services" units_start
    step "registering the components" components_register
    step "node is ready" wait_for 60 "a node in state up" cloud_ready
    step "tiny Linux image from Debian packages" image_build
    step "bundling, uploading, registering the image" image_install
    say "The cloud is up: systemctl status 'karri-*', journalctl -u karri-clc, source $KARRI_HOME/admin/eucarc"
}

command_uninstall() {
    need_root uninstall
    [ -d "$CONFIG_DIR" ] || die "no cloud in $CONFIG_DIR"
    step "stopping the services" units_stop
    step "ending instances" domains_end
    step "ending volume exports" exports_end
    step "removing bridge, firewall tables and addresses" "$BIN/karri-nc" teardown --config "$CONFIG_DIR/nc.conf"
    step "emptying the database" "${AS[@]}" "$BIN/karri-clc" database drop --config "$CONFIG_DIR/clc.conf" ||
        warn "Karri's schemas (cloud, identity, storage, walrus) are still in the database"
    if [ "$DATABASE_URL" = "$LOCAL_DATABASE" ]; then
        local_database_drop() { postgres_admin dropdb --if-exists karri && postgres_admin dropuser --if-exists karri; }
        step "removing database and role" local_database_drop
    fi
    step "removing libvirt's certificates" nbd_tls_remove
    files_remove() {
        local unit
        for unit in $UNITS; do rm -f "/etc/systemd/system/$unit.service" "$BIN/$unit"; done
        systemctl daemon-reload
        rm -rf "$CONFIG_DIR" "$KARRI_HOME" "$RUN_DIR"
        userdel karri
    }
    step "removing files and user" files_remove
}
