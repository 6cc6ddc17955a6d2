#!/bin/sh
# The C core's tests, built for aarch64 and run under QEMU's user mode.
set -eu
. "$(dirname "$0")/common.sh"
need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
need qemu-aarch64-static qemu-user-static

build_core aarch64-linux-gnu-gcc -static -Wall -Wextra -Werror
qemu-aarch64-static "$dir/test_core" | tee "$dir/result"
grep -q '^armv8: agrees' "$dir/result"

rm -r "$dir/src"
TEST=test_fec build_core aarch64-linux-gnu-gcc -static -Wall -Wextra -Werror
DMSIGN_TEST_QUICK=1 qemu-aarch64-static "$dir/test_fec" | tee "$dir/result"
grep -q '^fec neon: agrees' "$dir/result"
