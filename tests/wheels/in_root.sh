# What a user does after `pip install`: in a root of tests/wheels/run.sh, as `sh -eu in_root.sh PYTHON`.
cd /tmp
"$1" -m venv home
PATH=/tmp/home/bin:$PATH
pip install --quiet --disable-pip-version-check --no-compile --only-binary :all: dmsign_fast-*.whl
dmsign-fast --version --verbose | tee version
case $(uname -m) in
x86_64) pairs='avx512bw:avx512 sha_ni:shani avx2:avx2' ;;
*) pairs=:armv8 ;; # as qemu has it
esac
for pair in $pairs; do # what the processor can do is used
    ! grep -qw "${pair%:*}" /proc/cpuinfo || grep -q "  ${pair#*:}: runs here" version
done

# the same root hash as veritysetup's
head -c 5000000 /dev/urandom >data
head -c $((4096 * 1220)) data >data.blocks
salt=$(printf '%064d' 7)
veritysetup format data.blocks hashes --salt "$salt" --uuid 01234567-89ab-cdef-0123-456789abcdef |
    sed -n 's/^Root hash:[[:space:]]*//p' >theirs
dmsign-fast verity format data.blocks ours.hashes --salt "$salt" \
    --uuid 01234567-89ab-cdef-0123-456789abcdef | sed -n 's/^Root hash:[[:space:]]*//p' >ours
test -s ours
cmp ours theirs
cmp ours.hashes hashes

# an image of a layer, signed and verified; damaged, refused
mkdir -p layout/blobs/sha256
echo '{"imageLayoutVersion":"1.0.0"}' >layout/oci-layout
blob() { # FILE: into the layout; prints its descriptor's digest and size
    digest=$(sha256sum "$1" | cut -d ' ' -f 1)
    cp "$1" "layout/blobs/sha256/$digest"
    printf '"digest":"sha256:%s","size":%s' "$digest" "$(stat -c %s "$1")"
}
tar -C /usr/lib -cf layer.tar os-release python3
printf '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$(sha256sum layer.tar | cut -d ' ' -f 1)" >config
gzip -n layer.tar
oci=application/vnd.oci.image
printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s",%s},"layers":[{"mediaType":"%s",%s}]}' \
    $oci.manifest.v1+json $oci.config.v1+json "$(blob config)" \
    $oci.layer.v1.tar+gzip "$(blob layer.tar.gz)" >manifest
printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s",%s,"annotations":{"%s":"1.0"}}]}' \
    $oci.manifest.v1+json "$(blob manifest)" org.opencontainers.image.ref.name >layout/index.json
dmsign-fast cert generate-test --default tests
dmsign-fast policy init --name tests --trust-store ca:tests --trusted-identity '*'
dmsign-fast sign --oci-layout layout:1.0
dmsign-fast verify --oci-layout layout:1.0 --scope local/tests --deep
printf x >>"layout/blobs/sha256/$(sha256sum layer.tar.gz | cut -d ' ' -f 1)"
status=0
dmsign-fast verify --oci-layout layout:1.0 --scope local/tests --deep 2>refusal || status=$?
cat refusal
test $status = 1

# pages and completions are where programs look for them
test -s home/share/man/man1/dmsign-fast-sign.1
test -s home/share/bash-completion/completions/dmsign-fast
test -s home/share/zsh/site-functions/_dmsign-fast
test -s home/share/fish/vendor_completions.d/dmsign-fast.fish
echo "good: $("$1" --version), $(uname -m)"
