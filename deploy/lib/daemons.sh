# The five daemons: their configuration, start, stop, health. Sourced by deploy/karri after common.sh and servers.sh.

# write_config NAME: from stdin, only when there is none: an operator's edits stay.
write_config() { [ -f "$CONFIG_DIR/$1.conf" ] && cat >/dev/null || cat >"$CONFIG_DIR/$1.conf"; }

configure() {
    mkdir -p "$CONFIG_DIR" "$KARRI_HOME"/{keys,admin,walrus,storage,node,log} "$RUN_DIR"
    chmod 711 "$KARRI_HOME" "$RUN_DIR"
    chmod 700 "$CONFIG_DIR" "$KARRI_HOME"/{keys,admin}
    local keys=$KARRI_HOME/keys database
    database=$(database_url)
    write_config clc <<X
# Cloud Controller. What each key means: karri-clc check-config --help
listen_address = $HOST
port = ${PORT[clc]}
internal_port = ${PORT[clc_internal]}
database_url = $database
keys_dir = $keys
region = $REGION
zone = $ZONE
service_host = $HOST
walrus_endpoint = http://$HOST:${PORT[walrus]}
public_pool = $PUBLIC_POOL
private_network = $PRIVATE_NETWORK
gateway = $GATEWAY
allow_sha1 = yes
X
    write_config walrus <<X
# Walrus, the object store
listen_address = $HOST
port = ${PORT[walrus]}
database_url = $database
data_dir = $KARRI_HOME/walrus
secret_key_file = $keys/secret.key
region = $REGION
min_free_mib = 512
X
    write_config sc <<X
# Storage Controller: volumes and snapshots
listen_address = $HOST
port = ${PORT[sc]}
metrics_port = ${METRICS_PORT[sc]}
database_url = $database
cert = $keys/sc.pem
key = $keys/sc.key
ca = $keys/ca.pem
zone = $ZONE
data_dir = $KARRI_HOME/storage
capacity_gib = ${KARRI_VOLUME_GIB:-$(free_gib 4)}
walrus_endpoint = http://$HOST:${PORT[walrus]}
system_credentials = $keys/system.env
export_address = $HOST
export_ports = 10900-11899
X
    write_config nc <<X
# Node Controller
name = node1
listen_address = $HOST
port = ${PORT[nc]}
metrics_port = ${METRICS_PORT[nc]}
certificate = $keys/node1.pem
key = $keys/node1.key
ca = $keys/ca.pem
cc_endpoint = $HOST:${PORT[cc]}
data_dir = $KARRI_HOME/node
network_run_dir = $RUN_DIR/network
libvirt_uri = $(libvirt_uri)
cores = ${KARRI_CORES:-$(($(nproc) * 4))}
disk_gib = ${KARRI_DISK_GIB:-$(free_gib 2)}
cache_mib = ${KARRI_CACHE_MIB:-4096}
hypervisor = auto
X
    write_config cc <<X
# Cluster Controller of the zone
listen_address = $HOST
port = ${PORT[cc]}
metrics_port = ${METRICS_PORT[cc]}
certificate = $keys/cc.pem
key = $keys/cc.key
ca = $keys/ca.pem
zone = $ZONE
clc_endpoint = $HOST:${PORT[clc_internal]}
X
}

# Keys, certificates, schemas, the first account: made once. The node's certificate has the node's name in it.
initialise() {
    local clc="$BIN/karri-clc" config=$CONFIG_DIR/clc.conf
    "${AS[@]}" "$clc" init --config "$config" --home "$KARRI_HOME" &&
        { [ -f "$KARRI_HOME/keys/node1.pem" ] || "${AS[@]}" "$clc" certificate issue --config "$config" --role nc --name node1 --out-prefix "$KARRI_HOME/keys/node1" --ip "$HOST" --dns "$(hostname)"; }
}

# free_gib N: a N-th of the free disk under KARRI_HOME, at least 4.
free_gib() {
    local gib
    gib=$(($(df --output=avail -k "$KARRI_HOME" | tail -n 1) / 1048576 / $1))
    echo $((gib < 4 ? 4 : gib))
}

daemon_pidfile() { printf '%s/%s.pid' "$RUN_DIR" "$1"; }
# Started when it does not run; one that dies while we wait (it may have been dying when we looked) is started again.
daemon_start() {
    local tries=0
    for _ in $(seq 300); do
        if ! alive "$(daemon_pidfile "$1")"; then
            tries=$((tries + 1))
            [ $tries -le 3 ] || break
            background "$(daemon_pidfile "$1")" "karri-$1" "$KARRI_HOME/log/$1.log" "$BIN/karri-$1" run --config "$CONFIG_DIR/$1.conf"
        fi
        if daemon_healthy "$1" >/dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    echo "karri-$1 does not become healthy; the end of its log:"
    tail -n 15 "$KARRI_HOME/log/$1.log"
    return 1
}
daemon_url() {
    case $1 in
    clc | walrus) printf 'http://%s:%s' "$HOST" "${PORT[$1]}" ;;
    *) printf 'http://127.0.0.1:%s' "${METRICS_PORT[$1]}" ;;
    esac
}
daemon_healthy() { alive "$(daemon_pidfile "$1")" && curl -fsS -m 2 "$(daemon_url "$1")/health"; }
daemon_stop() { end_process "$(daemon_pidfile "$1")" TERM 20; }

components_register() {
    local clc="$BIN/karri-clc" config=$CONFIG_DIR/clc.conf
    "${AS[@]}" "$clc" register --config "$config" --role walrus --name walrus --zone "$ZONE" --endpoint "$HOST:${PORT[walrus]}" &&
        "${AS[@]}" "$clc" register --config "$config" --role sc --name sc --zone "$ZONE" --endpoint "$HOST:${PORT[sc]}" &&
        "${AS[@]}" "$clc" register --config "$config" --role cc --name cc --zone "$ZONE" --endpoint "$HOST:${PORT[cc]}" &&
        "${AS[@]}" "$clc" register --config "$config" --role nc --name node1 --zone "$ZONE" --endpoint "$HOST:${PORT[nc]}"
}

cloud_ready() { "${AS[@]}" "$BIN/karri-clc" status --config "$CONFIG_DIR/clc.conf" --json | jq -e '[.nodes[] | select(.state == "up")] | length > 0'; }

write_eucarc() {
    local admin=$KARRI_HOME/admin
    # shellcheck disable=SC1091
    . "$admin/credentials.env"
    local ec2="http://$HOST:${PORT[clc]}" s3="http://$HOST:${PORT[walrus]}"
    cat >"$admin/eucarc" <<X
# Source this file to use the cloud: aws, boto3, s3cmd (-c $admin/s3cfg), euca2ools and SOAP clients.
EUCA_KEY_DIR=$admin
export EC2_URL=$ec2/services/compute
export S3_URL=$s3/
export EUARE_URL=$ec2/services/Euare
export TOKEN_URL=$ec2/services/Tokens
export AWS_ENDPOINT_URL_EC2=$ec2/
export AWS_ENDPOINT_URL_S3=$s3/
export AWS_ENDPOINT_URL_IAM=$ec2/services/Euare
export AWS_ENDPOINT_URL_STS=$ec2/services/Tokens
export AWS_DEFAULT_REGION=$REGION
export AWS_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID
export AWS_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY
export EC2_ACCESS_KEY=$AWS_ACCESS_KEY_ID
export EC2_SECRET_KEY=$AWS_SECRET_ACCESS_KEY
export EC2_USER_ID=$ACCOUNT_ID
export EC2_ACCOUNT_NUMBER=$ACCOUNT_ID
export EC2_CERT=$admin/cert.pem
export EC2_PRIVATE_KEY=$admin/pk.pem
export EUCALYPTUS_CERT=$admin/cloud-cert.pem
X
    cat >"$admin/s3cfg" <<X
[default]
access_key = $AWS_ACCESS_KEY_ID
secret_key = $AWS_SECRET_ACCESS_KEY
host_base = $HOST:${PORT[walrus]}
host_bucket = $HOST:${PORT[walrus]}
bucket_location = $REGION
use_https = False
signature_v2 = False
X
    chmod 600 "$admin/eucarc" "$admin/s3cfg"
}
