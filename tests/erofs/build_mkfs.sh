#!/bin/sh
# mkfs.erofs of tagged releases, for $DMSIGN_MKFS_BUILT of mkfs_twin.py. GIT is any clone of erofs-utils.
# usage: tests/erofs/build_mkfs.sh GIT DIRECTORY VERSION...     makes DIRECTORY/VERSION/mkfs.erofs
# Debian: apt-get install git gcc make autoconf automake libtool pkg-config uuid-dev zlib1g-dev
set -eu
[ $# -ge 3 ] || { sed -n 's/^# usage: /usage: /p' "$0" >&2; exit 2; }
git=$1 target=$2
shift 2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for version; do
    tree=$work/$version log=$work/$version.log
    mkdir -p "$tree" "$target/$version"
    git -C "$git" archive "v$version" | tar -x -C "$tree"
    # compressors and fuse decide nothing about images of uncompressed tars
    if ! (cd "$tree" && ./autogen.sh &&
        ./configure CFLAGS='-O2 -g' --disable-fuse --without-lz4 --without-liblzma \
            --without-libzstd --without-libdeflate &&
        make) >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        exit 1
    fi
    install "$tree/mkfs/mkfs.erofs" "$target/$version/mkfs.erofs"
    "$target/$version/mkfs.erofs" -V 2>&1 | head -n 1
done
