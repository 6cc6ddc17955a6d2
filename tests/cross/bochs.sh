#!/bin/sh
# The C core's test with AVX-512 instructions as Bochs executes them, under a Debian cloud kernel:
# fetched from the machine's own apt sources, or given as KERNEL=vmlinuz. Takes two to five minutes,
# TIMEOUT seconds at most.
set -eu
. "$(dirname "$0")/common.sh"
need "${CC:=cc}" gcc
need "${BOCHS:=bochs}" 'bochs bochs-term'
need grub-mkrescue 'grub-common grub-pc-bin xorriso mtools'
need xorriso xorriso
need mformat mtools
need cpio cpio
share=${BOCHS_SHARE:-/usr/share/bochs}
# Bochs 2.7 reports a size of the XSAVE area that makes Linux switch AVX off.
"$BOCHS" --help 2>&1 | grep -q 'x86 Emulator [3-9]' ||
    { echo 'Bochs 3.0 or newer is needed: apt-get install bochs bochs-term on Debian 13' >&2; exit 1; }

if [ -z "${KERNEL:-}" ]; then
    need apt-get apt
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p')
    (cd "$dir" && apt-get download "$package" && dpkg-deb -x ./*.deb kernel) >"$dir/log" 2>&1 ||
        { cat "$dir/log" >&2; exit 1; }
    KERNEL=$(echo "$dir"/kernel/boot/vmlinuz-*)
fi

mkdir -p "$dir/src" "$dir/root" "$dir/iso/boot/grub"
cp "$(dirname "$0")/init.c" "$dir/src"
sed 's/^int main(/int test_main(/' "$csrc/test_core.c" >"$dir/src/test_core.c"
build_core "$CC" -static -D_DEFAULT_SOURCE
mv "$dir/test_core" "$dir/root/init"
(cd "$dir/root" && echo init | cpio -o -H newc --quiet) >"$dir/iso/boot/initrd"
cp "$KERNEL" "$dir/iso/boot/vmlinuz"
cat >"$dir/iso/boot/grub/grub.cfg" <<'END'
linux /boot/vmlinuz console=ttyS0 quiet nosmp lsm= mitigations=off panic=-1 DMSIGN_TEST_QUICK=1
initrd /boot/initrd
boot
END
grub-mkrescue -d /usr/lib/grub/i386-pc -o "$dir/test.iso" "$dir/iso" >"$dir/log" 2>&1 ||
    { cat "$dir/log" >&2; exit 1; }

cat >"$dir/bochsrc" <<END
display_library: term
cpu: model=corei7_skylake_x, reset_on_triple_fault=0
memory: guest=256, host=256
romimage: file=$share/BIOS-bochs-latest
vgaromimage: file=$share/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path=$dir/test.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$dir/serial
panic: action=fatal
log: $dir/bochs.log
END
echo c >"$dir/continue" # some builds have the debugger, which waits for this command
rc=
"$BOCHS" --help 2>&1 | grep -q -e -rc && rc="-rc $dir/continue"
# shellcheck disable=SC2086 # two words or none
TERM=linux timeout -k 5 "${TIMEOUT:=1200}" "$BOCHS" -q -f "$dir/bochsrc" $rc \
    </dev/null >"$dir/screen" 2>&1 || true
tr -d '\r' <"$dir/serial" >"$dir/result"
tail -n 40 "$dir/result"
grep -q '^avx512: agrees' "$dir/result" && grep -q '^test_core ended with status 0$' "$dir/result" ||
    { echo "the test did not pass within $TIMEOUT seconds" >&2; exit 1; }
