#!/bin/sh
# The C core's test built for aarch64 and run under QEMU's user mode.
set -eu

here=$(dirname "$0")
. "$here/need.sh"
need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
need qemu-aarch64-static qemu-user-static
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

aarch64-linux-gnu-gcc -std=c11 -O2 -Wall -Wextra -Werror -static -pthread "$here"/../../csrc/*.c -o "$dir/test_core"
qemu-aarch64-static "$dir/test_core"
