#!/bin/sh
# Runs root tests (the runtime's, or those it is told) and the product with one pod on cgroup version 2 and on kernel 6.1:
# what users have and development machines may not.
#
# Boots Debian's cloud kernel under QEMU's software emulation. Packages are downloaded and unpacked into a cache outside
# the tree; nothing is installed into the machine's own boot. Needs apt, busybox-static and QEMU (installed if missing).
#
# usage: run.sh [arguments for the test programs, e.g. the name of a test]
# environment: CLOUDECK_LANE_TESTS, CLOUDECK_LANE_SHIMS: programs that are built already, separated by spaces;
# CLOUDECK_LANE_PRODUCT: the product, which is left out without it; CLOUDECK_CACHE: where to keep the kernel.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${CLOUDECK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cloudeck}/cgroup2
mkdir -p "$cache"

command -v qemu-system-x86_64 >/dev/null ||
    apt-get install -y -q --no-install-recommends qemu-system-x86 >"$cache/apt.log" 2>&1
test -x /bin/busybox || apt-get install -y -q busybox-static >>"$cache/apt.log" 2>&1

if ! test -e "$cache/kernel/ready"; then
    rm -rf "$cache/kernel" "$cache/download"
    mkdir -p "$cache/download"
    # A fresh machine has no lists of packages.
    apt-get update -q >"$cache/apt.log" 2>&1
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-6[^ ]*\)/\1/p' | head -n 1)
    (cd "$cache/download" && apt-get download -q "$package" >>"$cache/apt.log" 2>&1)
    dpkg -x "$cache"/download/*.deb "$cache/kernel"
    rm -rf "$cache/download"
    touch "$cache/kernel/ready"
fi
kernel=$(echo "$cache"/kernel/boot/vmlinuz-*)
release=$(basename "$(echo "$cache"/kernel/lib/modules/*)")

# What was built already is told by the caller. Test programs know their shims by absolute paths, so all keep theirs.
tests=${CLOUDECK_LANE_TESTS:-$(cargo test -q -p cloudeck-runtime --test it --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/it-[^"]*\)".*/\1/p' | tail -n 1)}
shims=${CLOUDECK_LANE_SHIMS:-$(dirname "$(dirname "$tests")")/cloudeck-shimhost}

root=$(mktemp -d "$cache/root.XXXXXX")
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin"
cp /bin/busybox "$root/bin/busybox"
# The kernel loads what it needs by itself, through modprobe, as on a user's machine.
modules=lib/modules/$release
for part in kernel/fs/overlayfs kernel/net kernel/drivers/net kernel/lib kernel/crypto kernel/arch modules.builtin modules.order; do
    test -e "$cache/kernel/$modules/$part" || continue
    mkdir -p "$root/$modules/$(dirname $part)"
    cp -a "$cache/kernel/$modules/$part" "$root/$modules/$part"
done
/bin/busybox depmod -b "$root" "$release"
for program in $tests $shims; do
    mkdir -p "$root$(dirname "$program")"
    cp "$program" "$root$program"
done
cp "$here/init.sh" "$root/init"
chmod +x "$root/init"
if test -n "${CLOUDECK_LANE_PRODUCT:-}"; then
    cp "$CLOUDECK_LANE_PRODUCT" "$root/bin/cloudeck"
    cp "$here/product.sh" "$here/pod.yaml" "$root/"
    "$here/image.sh" "$root/image.tar"
fi
printf '%s\n' $tests >"$root/tests"
printf '%s\n' "$@" >"$root/arguments"
(cd "$root" && find . | /bin/busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$root.gz"
trap 'rm -rf "$root" "$root.gz"' EXIT

# A machine that hangs is a failure, not a wait for ever. One whose kernel finds its own processor stuck ends by itself:
# software emulation does that once in a while. It says nothing of the tests, so such a machine is booted again.
boot() {
    timeout 600 qemu-system-x86_64 -accel tcg,thread=multi -smp 2 -m 3072 -nographic -no-reboot -net none \
        -kernel "$kernel" -initrd "$root.gz" \
        -append "console=ttyS0 quiet panic=-1 softlockup_panic=1 cgroup_no_v1=all rdinit=/init" </dev/null |
        tr -d '\r' >"$cache/console.log"
}
for attempt in 1 2 3; do
    boot
    grep -q '^LANE end' "$cache/console.log" || ! grep -q 'soft lockup - CPU' "$cache/console.log" || continue
    break
done
sed -n '/LANE begin/,/^LANE end/p' "$cache/console.log"
test "$attempt" = 1 || echo "the emulated machine was booted $attempt times: its kernel found a processor stuck"
grep -q '^LANE end 0' "$cache/console.log"
