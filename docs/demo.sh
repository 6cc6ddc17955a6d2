#!/bin/sh
# The main job on real input, in the words a user would type.
# usage: DMSIGN_FAST=.venv/bin/dmsign-fast docs/demo.sh DIRECTORY
set -eu
PATH=$PATH:/usr/sbin:/sbin
dmsign_fast=${DMSIGN_FAST:-dmsign-fast}
mib=${DEMO_MIB:-1024}
mkdir -p "$1"
cd "$1"

say() { printf '\n== %s\n' "$*"; }
run() { printf '$ %s\n' "$*" | sed "s|$dmsign_fast|dmsign-fast|"; "$@"; }

if [ ! -e layer.tar.gz ]; then
    say "A real container layer of up to $mib MiB, from files of this machine's /usr"
    # whole files, in the order of their names, until enough
    find /usr -xdev -type f -readable -size -256M -printf '%s %P\n' | LC_ALL=C sort -k 2 |
        awk -v left=$((mib * 1048576)) \
            '{ if (left <= 0) exit; left -= $1; sub(/^[0-9]* /, ""); print }' |
        tar -C /usr --no-recursion --verbatim-files-from --format=pax -T - -cf - |
        gzip -1 >layer.tmp
    mv layer.tmp layer.tar.gz
fi
ls -l layer.tar.gz

say "What a node's kernel will be told of the layer: nothing is written to know it"
run "$dmsign_fast" layer roothash layer.tar.gz | tee expected

say "The image that the node makes of the layer"
run "$dmsign_fast" layer convert layer.tar.gz -o image.erofs --verity none

say "A signing key and its certificate (yours come from your own CA)"
umask 077
[ -e root.pem ] || openssl req -x509 -newkey rsa:3072 -nodes -keyout root.key -out root.pem \
    -days 3650 -subj "/O=Demo/CN=Demo Root CA" -addext keyUsage=critical,keyCertSign 2>/dev/null
if [ ! -e chain.pem ]; then
    openssl req -newkey rsa:3072 -nodes -keyout key.pem -out key.csr \
        -subj "/O=Demo/CN=Demo Image Signer" 2>/dev/null
    printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n' >key.ext
    openssl x509 -req -in key.csr -CA root.pem -CAkey root.key -CAcreateserial -days 365 \
        -extfile key.ext -out leaf.pem 2>/dev/null
    cat leaf.pem root.pem >chain.pem
fi

say "Hash and sign, with the salt that nodes use: the root hash is the one above"
run "$dmsign_fast" verity sign image.erofs --key key.pem --cert chain.pem \
    --salt 0000000000000000000000000000000000000000000000000000000000000000
ls -l image.erofs.*
grep -q "^$(cat image.erofs.roothash) " expected

say "Verify the data, the hash area and the signature"
run "$dmsign_fast" verity verify image.erofs image.erofs.verity \
    --root-hash-file image.erofs.roothash --signature image.erofs.roothash.p7s --cert root.pem

say "The programs of others agree: veritysetup and openssl"
run veritysetup verify image.erofs image.erofs.verity --root-hash-file image.erofs.roothash
run openssl smime -verify -binary -inform DER -in image.erofs.roothash.p7s \
    -content image.erofs.roothash -CAfile root.pem -purpose any -out /dev/null

say "The same tree by veritysetup, for its time"
began=$(date +%s%N)
run veritysetup format image.erofs theirs.verity --salt \
    "$("$dmsign_fast" verity dump image.erofs.verity | awk '/^Salt:/ { print $2 }')" --uuid \
    "$("$dmsign_fast" verity dump image.erofs.verity | awk '/^UUID:/ { print $2 }')" >/dev/null
echo "veritysetup format took $((($(date +%s%N) - began) / 1000000)) ms"
cmp image.erofs.verity theirs.verity
echo "The two hash files are identical, byte for byte."
rm theirs.verity

say "One byte changed in block 1000"
byte=$(dd if=image.erofs bs=1 skip=4096123 count=1 2>/dev/null | od -An -tu1)
put() { printf "\\$(printf %o "$1")" | dd of=image.erofs bs=1 seek=4096123 conv=notrunc 2>/dev/null; }
put $((255 - byte))
status=0
run "$dmsign_fast" verity verify image.erofs image.erofs.verity \
    --root-hash-file image.erofs.roothash || status=$?
put $((byte))
[ "$status" = 1 ] || { echo "expected exit status 1, got $status" >&2; exit 1; }
printf '\nThe block is named, and the exit status is 1. Everything is in %s.\n' "$PWD"
