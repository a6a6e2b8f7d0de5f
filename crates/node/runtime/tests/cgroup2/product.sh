#!/bin/busybox sh
# One pod end to end, with everything gone in the end. Says its result in the words of a Rust test.
bb=/bin/busybox
export PATH=/bin HOME=/root

fail() {
    echo "--- $1"
    cloudeck status
    cloudeck get pods lane -o yaml
    $bb tail -n 40 /var/lib/cloudeck/*.log
    echo "test product::one_pod_end_to_end ... FAILED"
    echo "test result: FAILED. 0 passed; 1 failed"
    exit 1
}

cloudeck up -d || fail "it does not start"
cloudeck image import /image.tar || fail "the image is not imported"
cloudeck apply -f /pod.yaml || fail "the pod is not accepted"
cloudeck wait pod/lane --for condition=Ready --timeout 120s || fail "the pod is not ready"
cloudeck down --purge || fail "it does not stop"
test -z "$($bb find /sys/fs/cgroup -name 'cloudeck*')" || fail "cgroups are left"
! $bb grep -q cloudeck /proc/mounts || fail "mounts are left"
! $bb ps | $bb grep -v grep | $bb grep -q 'cloudeck' || fail "processes are left"
echo "test product::one_pod_end_to_end ... ok"
echo "test result: ok. 1 passed; 0 failed"
