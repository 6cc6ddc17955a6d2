#!/bin/bash
# The incumbent of `dmsign-fast sign`: an image in a registry signed by one program after another.
# usage: by_hand.sh REGISTRY/REPOSITORY MANIFEST-DIGEST MANIFEST-SIZE LAYER-DIGEST=UUID...
# Environment: MKFS (mkfs.erofs with options), NOTATION (the program), KEY, CERT, ISSUERS, TMPDIR.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
repository=$1 manifest=$2 size=$3
shift 3
url=http://${repository%%/*}/v2/${repository#*/}
oci=application/vnd.oci
notary=cncf.notary
dm_verity=application/vnd.$notary.signature.dm-verity
zeros=$(printf '0%.0s' {1..64})
cd "$(mktemp -d)"
trap 'rm -r "$PWD"' EXIT

digest_of() { echo "sha256:$(sha256sum "$1" | cut -d ' ' -f 1)"; }
descriptor() { # FILE MEDIA-TYPE
    printf '"mediaType":"%s","digest":"%s","size":%s' "$2" "$(digest_of "$1")" "$(stat -c %s "$1")"
}
push_blob() {
    place=$(curl -fsS -X POST -o /dev/null -w '%header{location}' "$url/blobs/uploads/")
    curl -fsS -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$1" \
        "$place&digest=$(digest_of "$1")"
}
push_manifest() { # FILE MEDIA-TYPE TAG
    curl -fsS -X PUT -H "Content-Type: $2" --data-binary "@$1" "$url/manifests/$3"
}

# The root hash of each layer, and its signature: PKCS#7 over the root hash as text.
layers='' number=0
for layer; do
    digest=${layer%=*}
    # shellcheck disable=SC2086
    curl -fsS "$url/blobs/$digest" | gunzip | $MKFS -U "${layer#*=}" image
    root=$(veritysetup format --data-block-size 4096 --hash-block-size 4096 --salt "$zeros" \
        image hashes | sed -n 's/^Root hash:[[:space:]]*//p')
    rm image hashes
    printf %s "$root" >root
    openssl cms -sign -binary -noattr -md sha256 -in root -inkey "$KEY" -signer "$CERT" \
        -certfile "$ISSUERS" -outform DER -out signature
    push_blob signature
    layers+="${layers:+,}{$(descriptor signature application/pkcs7-signature),\"annotations\":{
        \"io.$notary.layer.digest\":\"$digest\",\"io.$notary.dm-verity.root-hash\":\"$root\",
        \"org.opencontainers.image.title\":\"layer-$number.pkcs7.sig\"}}"
    number=$((number + 1))
    echo "$root  $digest"
done

# The artifact with these signatures, and the index that says so where there is no Referrers API.
printf '{}' >config
push_blob config
cat >artifact <<END
{"schemaVersion":2,"mediaType":"$oci.image.manifest.v1+json","artifactType":"$dm_verity",
"config":{$(descriptor config $oci.empty.v1+json)},"layers":[$layers],
"subject":{"mediaType":"$oci.image.manifest.v1+json","digest":"$manifest","size":$size},
"annotations":{"io.$notary.dm-verity.signature":"true"}}
END
push_manifest artifact $oci.image.manifest.v1+json "$(digest_of artifact)"
cat >index <<END
{"schemaVersion":2,"mediaType":"$oci.image.index.v1+json","manifests":
[{$(descriptor artifact $oci.image.manifest.v1+json),"artifactType":"$dm_verity"}]}
END
push_manifest index $oci.image.index.v1+json "${manifest/:/-}"

"$NOTATION" sign --insecure-registry "$repository@$manifest" >&2
