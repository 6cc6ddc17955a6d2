#!/bin/sh
# The C core's test with AVX-512: of the processor if it has it, else emulated in C by SIMDe, which
# checks the algorithm and not the instructions (bochs.sh does that).
set -eu
. "$(dirname "$0")/common.sh"
need "${CC:=cc}" gcc

if grep -qw avx512bw /proc/cpuinfo; then
    build_core "$CC"
else
    [ -e /usr/include/simde/x86/avx512.h ] ||
        { echo 'simde/x86/avx512.h is missing: apt-get install libsimde-dev' >&2; exit 1; }
    mkdir -p "$dir/include" "$dir/src/sha256"
    cat >"$dir/include/immintrin.h" <<'END'
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
END
    {
        sed 's/^#define TARGET .*/#define TARGET/' "$csrc/sha256/avx512.c"
        echo 'int emulated(unsigned features) { return features == CPU_AVX512; }'
    } >"$dir/emulated.c"
    "$CC" -std=c11 -O2 -w -Wno-psabi -DSIMDE_NO_NATIVE -Dcpu_has=emulated -I "$dir/include" \
        -I "$csrc/sha256" -c "$dir/emulated.c" -o "$dir/avx512.o"
    : >"$dir/src/sha256/avx512.c"
    build_core "$CC" "$dir/avx512.o"
fi
"$dir/test_core" | tee "$dir/result"
grep -q '^avx512: agrees' "$dir/result"
