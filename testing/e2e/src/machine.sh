#!/bin/sh
# Becomes a machine: machine.sh NAME. Says "ready" and lives until its standard input ends.
#
# Every controller of the host gets a group NAME, whose inside the machine sees as its root; /sys, /run and the boot id
# are its own. Process 1 is this shell, which reaps whatever loses its parent.
set -eu

if [ "$1" != inside ]; then
    name=$1
    grep -q ' cgroup ' /proc/mounts || for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
    done
    while read -r _ dir type _; do
        case $type in cgroup | cgroup2) ;; *) continue ;; esac
        mkdir -p "$dir/$name"
        for file in cpuset.cpus cpuset.mems; do
            if [ -e "$dir/$file" ]; then cat "$dir/$file" >"$dir/$name/$file"; fi
        done
        echo $$ >"$dir/$name/cgroup.procs"
    done </proc/mounts
    exec unshare --mount --net --uts --ipc --pid --cgroup --fork --kill-child --mount-proc --propagation private \
        "$0" inside "$name"
fi

name=$2
hierarchies=$(grep ' cgroup ' /proc/mounts || true)
umount -l -R /sys
mount -t sysfs sysfs /sys
if [ -n "$hierarchies" ]; then
    mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
    echo "$hierarchies" | while read -r _ dir _ options _; do
        own=
        for option in $(echo "$options" | tr , ' '); do
            case $option in rw | ro | relatime | noatime | nosuid | nodev | noexec) ;; *) own=$own,$option ;; esac
        done
        mkdir -p "$dir"
        mount -t cgroup -o "${own#,}" cgroup "$dir"
    done
else
    mount -t cgroup2 cgroup /sys/fs/cgroup
    mkdir -p /sys/fs/cgroup/init
    echo $$ >/sys/fs/cgroup/init/cgroup.procs
fi
mount -t tmpfs -o mode=755 run /run
cat /proc/sys/kernel/random/uuid >/run/boot-id
mount --bind /run/boot-id /proc/sys/kernel/random/boot_id
hostname "$name"
busybox ip link set lo up
echo ready
cat >/dev/null <&3 3<&- &
wait $!
