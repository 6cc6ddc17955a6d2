#!/bin/sh
# The main job on a real image, in the words a user would type.
# usage: DMSIGN_FAST=.venv/bin/dmsign-fast PYTHON=.venv/bin/python docs/demo.sh DIRECTORY
set -eu
PATH=$PATH:/usr/sbin:/sbin
dmsign_fast=${DMSIGN_FAST:-dmsign-fast}
docs=$(cd "$(dirname "$0")" && pwd)
umask 077
mkdir -p "$1"
cd "$1"
export NOTATION_CONFIG="$PWD/notation" # ours and that of notation
export NOTATION_EXPERIMENTAL=1         # notation wants it for layouts
for directory in "$docs"/../.cache/debian/notation-*/usr/bin; do # where the tests put it
    PATH=$PATH:$directory
done
registry=
trap '[ -z "$registry" ] || kill "$registry" 2>/dev/null' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n== %s\n' "$*"; }
quoted() { # as a shell would take it
    for word; do
        case $word in *[!A-Za-z0-9@%+=:,./_-]*) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac
    done
}
run() { printf '$%s\n' "$(quoted "$@")" | sed "s|$dmsign_fast|dmsign-fast|"; "$@"; }
has() { command -v "$1" >/dev/null; }
fail() { echo "$*" >&2; exit 1; }
blob() { echo "blobs/sha256/${1#sha256:}"; }
members() { tr ',' '\n' | sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p"; } # of that name, in JSON

lacks=
for program in notation docker-registry skopeo; do
    has $program || lacks="$lacks $program"
done
[ -z "$lacks" ] || say "Not on this machine, so what needs it is left out:$lacks"

say "An image of real packages of this machine: five layers, by gzip and zstd"
[ -e image ] || "${PYTHON:-python3}" "$docs/demo_image.py" image:1.0
[ -e unsigned.json ] || cp image/index.json unsigned.json
cp unsigned.json image/index.json # without the signatures of an earlier run
du -sh image

say "A test chain and a policy that trusts it, for notation too (yours comes from your own CA)"
rm -rf notation # of an earlier run
run "$dmsign_fast" cert generate-test --default demo
run "$dmsign_fast" policy init --name demo --trust-store ca:demo --trusted-identity '*'

say "Sign: each layer for the kernel, the manifest for the Notary Project"
run "$dmsign_fast" sign --oci-layout image:1.0

say "What is attached to the image, and what the signatures say"
run "$dmsign_fast" list --oci-layout image:1.0
run "$dmsign_fast" inspect --oci-layout image:1.0 >inspect.txt
sed 33q inspect.txt
echo "... $(wc -l <inspect.txt) lines, in inspect.txt"

say "Verify: signatures, trust, and the root hashes made again from the layers"
run "$dmsign_fast" verify --oci-layout image:1.0 --scope local/demo --deep

say "The programs of others agree: openssl and veritysetup on what a node has of the first layer"
artifact=$("$dmsign_fast" list --oci-layout image:1.0 | sed -n 's/.*\(sha256:[0-9a-f]*\) .*dm-verity.*/\1/p')
signature=$(members digest <"image/$(blob "$artifact")" | sed -n 2p) # the first is the config's
layer=$(members io.cncf.notary.layer.digest <"image/$(blob "$artifact")" | sed -n 1p)
run "$dmsign_fast" layer convert "image/$(blob "$layer")" -o layer.erofs --verity separate
run veritysetup verify layer.erofs layer.erofs.verity "$(cat layer.erofs.roothash)"
run openssl smime -verify -binary -inform DER -in "image/$(blob "$signature")" \
    -content layer.erofs.roothash -CAfile "$NOTATION_CONFIG/truststore/x509/ca/demo/demo.crt" \
    -purpose any -out /dev/null
echo "A kernel that trusts demo.crt opens it by: veritysetup open layer.erofs NAME layer.erofs.verity" \
    "--root-hash-file layer.erofs.roothash --root-hash-signature image/$(blob "$signature")"

if has notation; then
    say "notation agrees"
    digest=$(members digest <image/index.json | sed -n 1p)
    run notation verify --oci-layout "image@$digest" --scope local/demo
fi

if has docker-registry && has skopeo; then
    say "The same in a registry"
    rm -rf registry
    printf '%s\n' 'version: 0.1' "storage: {filesystem: {rootdirectory: $PWD/registry}}" \
        "http: {addr: '127.0.0.1:0'}" >registry.yml
    docker-registry serve registry.yml >registry.log 2>&1 &
    registry=$!
    host=
    while [ -z "$host" ]; do
        kill -0 "$registry" 2>/dev/null || fail "docker-registry ended: $(cat registry.log)"
        sleep 0.1
        host=$(sed -n 's/.*listening on \(127\.0\.0\.1:[0-9]*\).*/\1/p' registry.log)
    done
    run skopeo copy --quiet --dest-tls-verify=false oci:image:1.0 "docker://$host/demo/image:1.0"
    run "$dmsign_fast" sign "$host/demo/image:1.0"
    run "$dmsign_fast" verify "$host/demo/image:1.0"
    if has notation; then
        run notation verify --insecure-registry "$host/demo/image:1.0"
    fi
fi

say "One byte of a layer changed, in a copy of the image"
rm -rf damaged
cp -al image damaged # links, but for that layer
cp --remove-destination "image/$(blob "$layer")" "damaged/$(blob "$layer")"
byte=$(od -An -tu1 -j 123456 -N 1 "damaged/$(blob "$layer")")
printf "\\$(printf %o $((255 - byte)))" |
    dd of="damaged/$(blob "$layer")" bs=1 seek=123456 conv=notrunc status=none
status=0
run "$dmsign_fast" verify --oci-layout damaged:1.0 --scope local/demo --deep || status=$?
[ "$status" = 1 ] || fail "expected exit status 1, got $status"

say "One byte changed on the node's disk: which file is it?"
cp layer.erofs damaged.erofs
at=$(($(stat -c %s damaged.erofs) / 2))
byte=$(od -An -tu1 -j $at -N 1 damaged.erofs)
printf "\\$(printf %o $((255 - byte)))" | dd of=damaged.erofs bs=1 seek=$at conv=notrunc status=none
status=0
run "$dmsign_fast" verity verify damaged.erofs layer.erofs.verity --root-hash-file layer.erofs.roothash \
    --explain --html damaged.html || status=$?
[ "$status" = 1 ] || fail "expected exit status 1, got $status"
printf '\nBoth are refused: exit status 1. Everything is in %s; open damaged.html there.\n' "$PWD"
echo "To type such commands there: export NOTATION_CONFIG=$NOTATION_CONFIG"
