# `deploy/karri demo`: the life of a machine with stock clients only (aws CLI, curl, ssh). Each command is shown before it runs, with the
# time it took after it. Everything that it made is removed at the end, also when a step fails. Sourced by deploy/karri.
# shellcheck source=/dev/null
. "$REPO/deploy/lib/clients.sh"

declare -a DEMO_UNDO=()
undo() { DEMO_UNDO=("$*" "${DEMO_UNDO[@]}"); }
demo_clean() {
    local rc=$? command
    set +e
    say ""
    say "${BOLD}Cleaning up${RESET}"
    for command in "${DEMO_UNDO[@]}"; do eval "$command" >/dev/null 2>&1; done
    rm -rf "$DEMO_DIR"
    if [ $rc -eq 0 ]; then say "${GREEN}The machine has lived its life.${RESET} ($((SECONDS - DEMO_STARTED)) s)"; else say "${RED}the demo failed${RESET} (status $rc)"; fi
    exit $rc
}

chapter() { say "" && say "${BOLD}$*${RESET}"; }
# run command...: shows it, runs it, shows output and time; the output is also in $OUT.
run() {
    say "${DIM}\$${RESET} $*"
    local started ended
    started=$(date +%s%N)
    if ! OUT=$("$@" 2>&1); then
        say "$OUT"
        say "${RED}failed${RESET}: $*"
        return 1
    fi
    ended=$(date +%s%N)
    [ -z "$OUT" ] || printf '%s\n' "$OUT" | cut -c1-160 | sed -n '1,20p' >&2
    say "${DIM}  ($(((ended - started) / 1000000)) ms)${RESET}"
}
# until_is SECONDS WANTED command...: polls a query until it says what is wanted.
until_is() {
    local limit=$1 wanted=$2 deadline=$((SECONDS + $1)) got=''
    shift 2
    say "${DIM}\$ until [ \"\$($*)\" = $wanted ]; do sleep 0.5; done${RESET}"
    local started=$SECONDS
    while got=$("$@" 2>/dev/null) || true; [ "$got" != "$wanted" ]; do
        [ $SECONDS -lt $deadline ] || {
            say "${RED}after $limit s it says '$got', not '$wanted'${RESET}"
            return 1
        }
        sleep 0.5
    done
    say "${DIM}  ($((SECONDS - started)) s)${RESET}"
}
instance_state() { aws ec2 describe-instances --instance-ids "$1" --query 'Reservations[0].Instances[0].State.Name' --output text; }
volume_state() { aws ec2 describe-volumes --volume-ids "$1" --query 'Volumes[0].State' --output text; }
attachment_state() { aws ec2 describe-volumes --volume-ids "$1" --query 'Volumes[0].Attachments[0].State' --output text; }
guest() { ssh -n -i "$DEMO_DIR/key.pem" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=5 "root@$ADDRESS" "$@"; }
ssh_answers() {
    local deadline=$((SECONDS + $1)) started=$SECONDS
    say "${DIM}\$ until ssh -i key.pem root@$ADDRESS true; do sleep 0.5; done${RESET}"
    until guest true 2>/dev/null; do
        [ $SECONDS -lt $deadline ] || {
            say "${RED}no ssh after $1 s${RESET}"
            return 1
        }
        sleep 0.5
    done
    say "${DIM}  ($((SECONDS - started)) s)${RESET}"
}
launch() { # launch IMAGE [extra arguments]: sets INSTANCE and ADDRESS when ssh answers
    local image=$1
    shift
    run aws ec2 run-instances --image-id "$image" --instance-type t1.micro --key-name "$NAME" --security-groups "$NAME" "$@" \
        --query 'Instances[0].InstanceId' --output text
    INSTANCE=$OUT
    undo "aws ec2 terminate-instances --instance-ids $INSTANCE; aws ec2 wait instance-terminated --instance-ids $INSTANCE"
    until_is 90 running instance_state "$INSTANCE"
    run aws ec2 describe-instances --instance-ids "$INSTANCE" --query 'Reservations[0].Instances[0].PublicIpAddress' --output text
    ADDRESS=$OUT
    ssh_answers 120
}

command_demo() {
    need_root demo
    [ -f "$KARRI_HOME/admin/images.env" ] || die "no cloud is up: deploy/karri up"
    command -v aws >/dev/null || clients_install
    # shellcheck disable=SC1091
    . "$KARRI_HOME/admin/eucarc"
    # shellcheck disable=SC1091
    . "$KARRI_HOME/admin/images.env"
    export AWS_PAGER='' AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
    DEMO_DIR=$(mktemp -d)
    DEMO_STARTED=$SECONDS
    NAME=demo-$$
    trap demo_clean EXIT
    set -e

    chapter "1. Bundle an image (AMI format, with tar and openssl)"
    cp "$IMAGE_DIR/root.img" "$DEMO_DIR/root.img"
    run "$REPO/deploy/bundle-image" --image "$DEMO_DIR/root.img" --prefix "$NAME" --kernel "$KARRI_KERNEL" --ramdisk "$KARRI_RAMDISK" --destination "$DEMO_DIR/bundle"

    chapter "2. Upload and register it"
    run aws s3 mb "s3://$NAME"
    undo "aws s3 rb --force s3://$NAME"
    run aws s3 cp --recursive --no-progress "$DEMO_DIR/bundle" "s3://$NAME"
    run aws ec2 register-image --name "$NAME" --image-location "$NAME/$NAME.manifest.xml" --query ImageId --output text
    IMAGE=$OUT
    undo "aws ec2 deregister-image --image-id $IMAGE"

    chapter "3. Run it"
    say "${DIM}\$ aws ec2 create-key-pair --key-name $NAME --query KeyMaterial --output text > key.pem${RESET}"
    aws ec2 create-key-pair --key-name "$NAME" --query KeyMaterial --output text >"$DEMO_DIR/key.pem"
    chmod 600 "$DEMO_DIR/key.pem"
    undo "aws ec2 delete-key-pair --key-name $NAME"
    run aws ec2 create-security-group --group-name "$NAME" --description "the demo's" --query GroupId --output text
    undo "aws ec2 delete-security-group --group-name $NAME"
    run aws ec2 authorize-security-group-ingress --group-name "$NAME" --protocol tcp --port 22 --cidr 0.0.0.0/0 --query Return
    launch "$IMAGE" --user-data $'#!/bin/sh\necho hello from user data > /root/user-data-ran'

    chapter "4. Address, metadata, user data"
    run guest 'wget -q -O - http://169.254.169.254/latest/meta-data/public-ipv4; echo; cat /root/user-data-ran'
    run aws ec2 allocate-address --query PublicIp --output text
    ELASTIC=$OUT
    undo "aws ec2 release-address --public-ip $ELASTIC"
    run aws ec2 associate-address --instance-id "$INSTANCE" --public-ip "$ELASTIC"
    undo "aws ec2 disassociate-address --public-ip $ELASTIC"
    ADDRESS=$ELASTIC
    ssh_answers 30

    chapter "5. Use it"
    run guest 'uname -a; df -h /; cat /proc/meminfo | head -1; echo written before the reboot > /root/file; sync'
    run aws ec2 get-console-output --instance-id "$INSTANCE" --latest --query Output --output text
    run aws ec2 reboot-instances --instance-ids "$INSTANCE"
    sleep 5
    ssh_answers 120
    run guest 'cat /root/file; cut -d" " -f1 /proc/uptime'

    chapter "6. A volume"
    run aws ec2 create-volume --size 1 --availability-zone "$ZONE" --query VolumeId --output text
    VOLUME=$OUT
    undo "aws ec2 delete-volume --volume-id $VOLUME"
    until_is 30 available volume_state "$VOLUME"
    run aws ec2 attach-volume --volume-id "$VOLUME" --instance-id "$INSTANCE" --device /dev/vdb --query State --output text
    undo "aws ec2 detach-volume --volume-id $VOLUME; aws ec2 wait volume-available --volume-ids $VOLUME"
    until_is 30 attached attachment_state "$VOLUME"
    run guest "n=0; until [ -b /dev/vdb ] || [ \$n -gt 50 ]; do sleep 0.1; n=\$((n+1)); done; mkfs.ext4 -q /dev/vdb && mount /dev/vdb /mnt && echo kept on a volume > /mnt/file && umount /mnt && cat /sys/block/vdb/serial"
    run aws ec2 detach-volume --volume-id "$VOLUME" --query State --output text
    until_is 60 available volume_state "$VOLUME"
    run aws ec2 create-snapshot --volume-id "$VOLUME" --query SnapshotId --output text
    SNAPSHOT=$OUT
    undo "aws ec2 delete-snapshot --snapshot-id $SNAPSHOT"
    run aws ec2 wait snapshot-completed --snapshot-ids "$SNAPSHOT"
    run aws ec2 create-volume --snapshot-id "$SNAPSHOT" --availability-zone "$ZONE" --query VolumeId --output text
    COPY=$OUT
    undo "aws ec2 delete-volume --volume-id $COPY"
    until_is 60 available volume_state "$COPY"
    run aws ec2 attach-volume --volume-id "$COPY" --instance-id "$INSTANCE" --device /dev/vdb --query State --output text
    undo "aws ec2 detach-volume --volume-id $COPY; aws ec2 wait volume-available --volume-ids $COPY"
    until_is 30 attached attachment_state "$COPY"
    run guest "n=0; until [ -b /dev/vdb ] || [ \$n -gt 50 ]; do sleep 0.1; n=\$((n+1)); done; mount /dev/vdb /mnt && cat /mnt/file && umount /mnt"
    run aws ec2 detach-volume --volume-id "$COPY" --query State --output text
    until_is 60 available volume_state "$COPY"

    chapter "7. Shut it down; its image goes back to storage"
    run aws ec2 create-tags --resources "$INSTANCE" --tags "Key=karri:save-on-shutdown,Value=$NAME/saved"
    run aws ec2 terminate-instances --instance-ids "$INSTANCE" --query 'TerminatingInstances[0].CurrentState.Name' --output text
    until_is 180 terminated instance_state "$INSTANCE"
    run aws ec2 describe-images --owners self --filters "Name=manifest-location,Values=$NAME/saved*" --query 'Images[0].ImageId' --output text
    SAVED=$OUT
    [ "$SAVED" != None ] || {
        say "${RED}no saved image${RESET}"
        return 1
    }
    undo "aws ec2 deregister-image --image-id $SAVED"
    launch "$SAVED"
    run guest 'cat /root/file'
    [ "$OUT" = "written before the reboot" ]
    run aws ec2 terminate-instances --instance-ids "$INSTANCE" --query 'TerminatingInstances[0].CurrentState.Name' --output text
    until_is 120 terminated instance_state "$INSTANCE"
}
