#!/bin/sh
# The C core's test, built for aarch64 and run under QEMU's user mode.
set -eu
. "$(dirname "$0")/common.sh"
need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
need qemu-aarch64-static qemu-user-static

build_core aarch64-linux-gnu-gcc -static -Wall -Wextra -Werror
qemu-aarch64-static "$dir/test_core" | tee "$dir/result"
grep -q '^armv8: agrees' "$dir/result"
