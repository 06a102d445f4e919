# What `up` needs of a client, by curl alone (a fresh machine has no aws CLI): EC2 Query and S3 PUT with SigV4. Sourced by deploy/karri.

# ec2 ACTION [PARAMETER=VALUE...]: prints the reply; fails with the error's text.
ec2() {
    local action=$1 arguments=() reply status
    shift
    for pair in "$@"; do arguments+=(--data-urlencode "$pair"); done
    reply=$(curl -sS -m 60 -w '\n%{http_code}' --aws-sigv4 "aws:amz:$AWS_DEFAULT_REGION:ec2" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
        --data-urlencode "Action=$action" --data-urlencode "Version=2016-11-15" "${arguments[@]}" "$AWS_ENDPOINT_URL_EC2") || return 1
    status=${reply##*$'\n'}
    printf '%s\n' "${reply%$'\n'*}"
    [ "$status" = 200 ]
}
# text ELEMENT: the text of the first such element on standard input.
text() { sed -n "s/.*<$1>\([^<]*\)<.*/\1/p" | head -n 1; }

# s3_put BUCKET[/KEY] [FILE]
s3_put() {
    local hash file=${2:-} body=(-H 'Content-Length: 0')
    [ -z "$file" ] || body=(--upload-file "$file")
    hash=$(sha256sum "${file:-/dev/null}" | cut -d' ' -f1)
    curl -fsS -m 600 --aws-sigv4 "aws:amz:$AWS_DEFAULT_REGION:s3" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
        -H "x-amz-content-sha256: $hash" -H 'Expect:' -X PUT "${body[@]}" "${AWS_ENDPOINT_URL_S3%/}/$1"
}

# register_image LOCATION NAME [PARAMETER...]: an image of that location, registered once.
register_image() {
    local location=$1 name=$2 id reply
    shift 2
    id=$(ec2 DescribeImages Filter.1.Name=manifest-location "Filter.1.Value.1=$location" | text imageId)
    if [ -z "$id" ]; then
        reply=$(ec2 RegisterImage "ImageLocation=$location" "Name=$name" "$@") || {
            echo "$location: $(text Message <<<"$reply")" >&2
            return 1
        }
        id=$(text imageId <<<"$reply")
    fi
    [ -n "$id" ] || return 1
    printf '%s' "$id"
}

# The tiny Linux: built once per tree, bundled, uploaded and registered once per cloud.
IMAGE_DIR=$REPO/.build/karri-image
image_build() {
    [ -f "$IMAGE_DIR/disk.img" ] && [ "$IMAGE_DIR/disk.img" -nt "$REPO/deploy/build-image" ] || "$REPO/deploy/build-image" "$IMAGE_DIR"
}
# The bundles are temporary: they go also when a step of it fails.
image_install() {
    local bundles rc=0
    [ ! -s "$KARRI_HOME/admin/images.env" ] || return 0
    bundles=$(mktemp -d) || return 1
    image_install_from "$bundles" || rc=1
    rm -rf "$bundles"
    return $rc
}
# Each command says itself when it fails: under `||` the shell would go on.
image_install_from() {
    # shellcheck disable=SC1091
    . "$KARRI_HOME/admin/eucarc"
    local bundles=$1 kernel ramdisk machine disk file
    echo "bundling"
    s3_put karri-images >/dev/null || return 1
    "$REPO/deploy/bundle-image" --image "$IMAGE_DIR/vmlinuz" --kind kernel --prefix tiny-kernel --destination "$bundles" || return 1
    "$REPO/deploy/bundle-image" --image "$IMAGE_DIR/initrd.gz" --kind ramdisk --prefix tiny-ramdisk --destination "$bundles" || return 1
    "$REPO/deploy/bundle-image" --image "$IMAGE_DIR/root.img" --kind machine --prefix tiny --destination "$bundles" || return 1
    for file in "$bundles"/*.part.* "$bundles"/*.manifest.xml; do
        echo "uploading $(basename "$file")"
        s3_put "karri-images/$(basename "$file")" "$file" || return 1
    done
    echo "registering"
    kernel=$(register_image karri-images/tiny-kernel.manifest.xml tiny-kernel) || return 1
    ramdisk=$(register_image karri-images/tiny-ramdisk.manifest.xml tiny-ramdisk) || return 1
    machine=$(register_image karri-images/tiny.manifest.xml tiny "KernelId=$kernel" "RamdiskId=$ramdisk") || return 1
    echo "uploading tiny-disk.img"
    s3_put karri-images/tiny-disk.img "$IMAGE_DIR/disk.img" || return 1
    disk=$(register_image karri-images/tiny-disk.img tiny-disk) || return 1
    printf 'KARRI_KERNEL=%s\nKARRI_RAMDISK=%s\nKARRI_IMAGE=%s\nKARRI_DISK_IMAGE=%s\n' "$kernel" "$ramdisk" "$machine" "$disk" >"$KARRI_HOME/admin/images.env.new" &&
        mv "$KARRI_HOME/admin/images.env.new" "$KARRI_HOME/admin/images.env"
}
