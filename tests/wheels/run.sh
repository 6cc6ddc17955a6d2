#!/bin/sh
# Installs the wheels in clean roots of Debian and Ubuntu, and runs what they install there.
# usage, as root: tests/wheels/run.sh DIRECTORY_OF_WHEELS [SUITE-ARCHITECTURE...]
# The roots stay in .cache/roots; each run gets an overlay on them, which goes with the run.
set -eu
[ "$(id -u)" = 0 ] || { echo "clean roots need root" >&2; exit 1; }
PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")" && pwd)
roots=$(readlink -f "$here/../../.cache")/roots
wheels=$(cd "$1" && pwd)
mkdir -p "$roots"

if [ -z "${DMSIGN_ROOTS_NAMESPACE-}" ]; then # mounts end with the script
    DMSIGN_ROOTS_NAMESPACE=1 exec unshare --mount "$0" "$@"
fi

# Programs of arm64 run by qemu-user, as on a machine where systemd reads binfmt.d.
binfmt=/proc/sys/fs/binfmt_misc
[ -e $binfmt/register ] || mount -t binfmt_misc none $binfmt
[ -e $binfmt/qemu-aarch64 ] || cat /usr/lib/binfmt.d/qemu-aarch64.conf >$binfmt/register

root() { # SUITE ARCHITECTURE PYTHON_PACKAGES: makes the root once
    [ ! -e "$roots/$1-$2" ] || return 0
    mirror=http://deb.debian.org/debian components=main
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    variant=apt
    case $1-$2 in
    *-arm64) # nothing is configured: under qemu that takes half an hour
        variant=extract
        set -- "$@" ,base-files,?essential
        ;;
    trixie-*) set -- "$@" ,ubuntu-keyring ;; # which Debian 12 does not have, for
    noble-*)
        mirror=http://archive.ubuntu.com/ubuntu components=main,universe
        keyring=$roots/trixie-amd64/usr/share/keyrings/ubuntu-archive-keyring.gpg
        ;;
    esac
    rm -rf "$roots/new"
    # a mirror of sid may lag behind its own dates; its signature is checked all the same
    mmdebstrap --quiet --mode=root --variant=$variant --architectures="$2" --components=$components \
        --keyring="$keyring" --aptopt='Acquire::Check-Valid-Until "false"' \
        --include="$3,ca-certificates,cryptsetup-bin${4-}" "$1" "$roots/new" $mirror
    mv "$roots/new" "$roots/$1-$2"
}

try() { # SUITE ARCHITECTURE PYTHON MACHINE
    layers=$(mktemp -d)
    mount -t tmpfs none "$layers"
    mkdir "$layers/upper" "$layers/work" "$layers/root"
    mount -t overlay none -o "lowerdir=$roots/$1-$2,upperdir=$layers/upper,workdir=$layers/work" \
        "$layers/root"
    mount -t proc none "$layers/root/proc"
    mount --rbind /dev "$layers/root/dev"
    mount -t tmpfs none "$layers/root/tmp"
    # names and certificates as here
    cp /etc/resolv.conf "$layers/root/etc/"
    cp /etc/ssl/certs/ca-certificates.crt "$layers/root/etc/ssl/certs/"
    cp "$wheels"/dmsign_fast-*-manylinux*_"$4".whl "$here/in_root.sh" "$layers/root/tmp/"
    printf '\n== %s, %s, %s\n' "$1" "$2" "$3"
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
        chroot "$layers/root" sh -eu /tmp/in_root.sh "$3"
    umount -R "$layers"
    rmdir "$layers"
}

shift
while read -r suite architecture python packages machine; do
    case " ${*:-$suite-$architecture} " in *" $suite-$architecture "*) ;; *) continue ;; esac
    root "$suite" "$architecture" "$packages" </dev/null
    try "$suite" "$architecture" "$python" "$machine" </dev/null
done <<TABLE
bookworm amd64 python3.11 python3-venv                      x86_64
trixie   amd64 python3.13 python3-venv                      x86_64
noble    amd64 python3.12 python3-venv                      x86_64
sid      amd64 python3.14 python3-venv,python3.14-venv      x86_64
trixie   arm64 python3.13 python3-venv                      aarch64
TABLE
