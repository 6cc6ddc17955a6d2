#!/bin/sh
# The C core's tests, built for musl as the wheels are, and run: Debian has no Python for musl that could
# import those. usage: tests/wheels/musl.sh ZIG
set -eu
. "$(dirname "$0")/../cross/common.sh"
need qemu-aarch64-static qemu-user-static

try() { # MACHINE [EMULATOR]
    for TEST in test_core test_fec; do
        rm -rf "$dir/src"
        build_core "$zig" cc -target "$1-linux-musl" -static
        DMSIGN_TEST_QUICK=1 ${2-} "$dir/$TEST"
    done
}

zig=$1
[ "$(uname -m)" != x86_64 ] || try x86_64
try aarch64 qemu-aarch64-static
