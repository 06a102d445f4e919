# Shared by every subcommand of deploy/karri: where things are, how progress and errors are said.
# Sourced, never run.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
KARRI_HOME=${KARRI_HOME:-$REPO/.cloud}
KARRI_BUILD=${KARRI_BUILD:-release} # or debug: what `test` uses, to build once only
# Release and debug have folders of their own: neither waits for the other, nor undoes it.
BUILD_DIR=$REPO/.build
if [ "$KARRI_BUILD" = release ]; then BUILD_DIR+=-release; fi
BIN=$BUILD_DIR/$KARRI_BUILD
# Sockets live here because a unix socket's path may have 107 bytes only, and KARRI_HOME may be deep.
RUN_DIR=/run/karri-$(printf %s "$KARRI_HOME" | cksum | cut -d' ' -f1)
CONFIG_DIR=$KARRI_HOME/config
AS=() # what goes before commands that work on the database: another user, where the daemons are services

REGION=karri-1
ZONE=karri-1a
HOST=${KARRI_HOST:-127.0.0.1}
PUBLIC_POOL=${KARRI_PUBLIC_POOL:-198.18.0.0/24}
PRIVATE_NETWORK=${KARRI_PRIVATE_NETWORK:-10.119.0.0/24}
GATEWAY=${KARRI_GATEWAY:-${PRIVATE_NETWORK%.*}.1}
WANTED_LIBVIRT=${KARRI_LIBVIRT:-auto} # or private: one of our own also where systemd runs one

# config_value DAEMON KEY: what its configuration says; nothing before the first `up`.
config_value() { sed -n "s/^[[:space:]]*$2[[:space:]]*=[[:space:]]*//p" "$CONFIG_DIR/$1.conf" 2>/dev/null | tail -n 1 || true; }
# Empty: a private PostgreSQL is started. The first `up` decides, so that the later ones need not be told again.
DATABASE_URL=$(config_value clc database_url)
case $DATABASE_URL in
'') DATABASE_URL=${KARRI_DATABASE_URL:-} ;;
"host=$RUN_DIR/"*) DATABASE_URL='' ;;
esac
DAEMONS="walrus sc nc cc clc"

declare -A PORT=([clc]=8773 [clc_internal]=8779 [walrus]=8778 [cc]=8774 [nc]=8775 [sc]=8776)
declare -A METRICS_PORT=([cc]=8784 [nc]=8785 [sc]=8786)
declare -A TITLE=([clc]="Cloud Controller" [walrus]="Walrus" [cc]="Cluster Controller" [sc]="Storage Controller" [nc]="Node Controller")

if [ -t 2 ]; then BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' YELLOW=$'\e[33m' RESET=$'\e[0m'; else BOLD='' DIM='' RED='' GREEN='' YELLOW='' RESET=''; fi

say() { printf '%s\n' "$*" >&2; }
warn() { printf '%s\n' "${YELLOW}warning:${RESET} $*" >&2; }
die() {
    printf '%s\n' "${RED}error:${RESET} $*" >&2
    exit 1
}
need_root() { [ "$(id -u)" = 0 ] || die "'karri $1' needs root (it makes a bridge, firewall tables and virtual machines): try sudo $0 $1"; }

# step "what" command...: runs it; what takes longer than two seconds shows a line that counts the seconds and the last line of output.
# On failure the whole output is shown. The command runs in this shell's process group, so that Ctrl-C ends it.
step() {
    local what=$1 log started=$SECONDS pid rc=0
    shift
    log=$(mktemp)
    if [ -t 2 ]; then
        "$@" >"$log" 2>&1 &
        pid=$!
        while kill -0 $pid 2>/dev/null; do
            if [ $((SECONDS - started)) -ge 2 ]; then
                printf '\r\e[K  … %s %s(%ds) %s%s' "$what" "$DIM" $((SECONDS - started)) "$(tail -n 1 "$log" | tr -d '\r' | cut -c1-60)" "$RESET" >&2
            fi
            sleep 0.2
        done
        wait $pid || rc=$?
        printf '\r\e[K' >&2
    else
        "$@" >"$log" 2>&1 &
        pid=$!
        (
            pause=2
            while sleep $pause >/dev/null 2>&1; do
                printf '  … %s (%ds) %s\n' "$what" $((SECONDS - started)) "$(tail -n 1 "$log" | tr -d '\r' | cut -c1-80)" >&2
                pause=20
            done
        ) &
        local ticker=$!
        wait $pid || rc=$?
        kill $ticker 2>/dev/null
        wait $ticker 2>/dev/null || true
    fi
    if [ $rc -ne 0 ]; then
        say "  ${RED}✗${RESET} $what"
        tail -n 60 "$log" >&2
        rm -f "$log"
        return $rc
    fi
    say "  ${GREEN}✓${RESET} $what ${DIM}($((SECONDS - started)) s)${RESET}"
    rm -f "$log"
}

# wait_for SECONDS "what" command...: polls until the command succeeds.
wait_for() {
    local limit=$1 what=$2 deadline=$(($(date +%s) + $1))
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt $deadline ] || {
            echo "$what: not within $limit s"
            return 1
        }
        sleep 0.1
    done
}

# alive PIDFILE: is the process that wrote it still the same program? (A pid alone may have been given to another; one that has ended stays
# as a zombie where the host's first process does not reap.)
alive() {
    local pid name
    [ -f "$1" ] && read -r pid name <"$1" || return 1
    [ -n "$pid" ] && [ -n "$name" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$name" ] && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null
}

# background PIDFILE NAME LOGFILE command...: starts a process of its own session, remembers pid and name.
background() {
    local pidfile=$1 name=${2:0:15} log=$3
    shift 3
    setsid "$@" >>"$log" 2>&1 </dev/null &
    local pid=$!
    disown $pid 2>/dev/null || true
    echo "$pid $name" >"$pidfile"
    # Until the new process has become the command it has the shell's name, and `alive` would not know it.
    for _ in $(seq 100); do
        if alive "$pidfile" || ! kill -0 $pid 2>/dev/null; then break; fi
        sleep 0.05
    done
}

# end_process PIDFILE [SIGNAL] [SECONDS]: asks, waits, then kills.
end_process() {
    local pidfile=$1 signal=${2:-TERM} limit=${3:-15} pid name
    alive "$pidfile" || {
        rm -f "$pidfile"
        return 0
    }
    read -r pid name <"$pidfile"
    kill "-$signal" "$pid" 2>/dev/null || true
    for _ in $(seq $((limit * 10))); do
        alive "$pidfile" || break
        sleep 0.1
    done
    if alive "$pidfile"; then kill -KILL "$pid" 2>/dev/null || true; fi
    rm -f "$pidfile"
}

packages_install() {
    local missing=() name
    for name in $(grep -hv '^#' "$@"); do
        dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "  packages to install: ${missing[*]}"
    packages_get() {
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"
    }
    step "installing ${#missing[@]} Debian packages" packages_get
}
