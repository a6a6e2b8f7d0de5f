#!/bin/busybox sh
# Process 1 of the machine that `run.sh` boots: a root that can be pivoted away from, cgroup version 2, the tests.
bb=/bin/busybox
if ! $bb test -e /moved; then
    # pivot_root does not work on the initial root.
    $bb mkdir /new
    $bb mount -t tmpfs -o mode=755 root /new
    # Programs lie wherever they were built.
    for entry in /*; do
        case $entry in
        /new | /proc | /sys | /dev) ;;
        *) $bb cp -a "$entry" /new/ ;;
        esac
    done
    $bb touch /new/moved
    exec $bb switch_root /new /init
fi

$bb mkdir -p /proc /sys /dev /tmp /run /root /etc
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
$bb mount -t devtmpfs dev /dev
$bb mkdir -p /dev/pts /dev/shm
$bb mount -t devpts -o mode=600,ptmxmode=666 pts /dev/pts
$bb mount -t tmpfs shm /dev/shm
$bb mount -t tmpfs run /run
$bb mount -t cgroup2 cgroup /sys/fs/cgroup
$bb mkdir -p /sbin /var/lib
$bb ln -s $bb /sbin/modprobe
$bb modprobe overlay
$bb ip link set lo up
$bb hostname lane

echo "LANE begin: $($bb uname -r), cgroup controllers: $($bb cat /sys/fs/cgroup/cgroup.controllers)"
export RUST_BACKTRACE=0 TMPDIR=/tmp
result=0
for tests in $($bb cat /tests); do
    # Four at a time: without an emulated processor for each, more only wait for each other.
    $tests --test-threads 4 $($bb cat /arguments) 2>&1 || result=1
done
if $bb test -e /product.sh; then
    $bb sh /product.sh 2>&1 || result=1
fi
echo "LANE end $result"
$bb poweroff -f
