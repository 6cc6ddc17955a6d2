# Sourced by the scripts beside it: `need PROGRAM PACKAGE` ends the run if PROGRAM is missing.
need() {
    command -v "$1" >/dev/null || { echo "$1 is missing: apt-get install $2" >&2; exit 1; }
}
