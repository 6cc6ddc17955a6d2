# Sourced by the scripts beside it.
csrc=$(cd "$(dirname "$0")/../../csrc" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM

# need PROGRAM PACKAGE: ends the run if PROGRAM is missing.
need() {
    command -v "$1" >/dev/null || { echo "$1 is missing: apt-get install $2" >&2; exit 1; }
}

# build_core COMPILER [ARGUMENT...]: the core and a test as $dir/test_core, or what TEST names. The
# sources are copied to $dir/src, where a script may have put one of its own instead.
build_core() {
    mkdir -p "$dir/src"
    cp -rn "$csrc"/. "$dir/src"
    rm -f "$dir"/src/fuzz_*.c
    find "$dir/src" -name 'test_*.c' ! -name "${TEST:-test_core}.c" -delete
    "$@" -std=c11 -O2 -pthread "$dir"/src/*.c "$dir"/src/*/*.c -o "$dir/${TEST:-test_core}"
}
