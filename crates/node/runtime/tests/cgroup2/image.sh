#!/bin/sh
# Writes a docker archive to $1: an image named `lane:1` with busybox in it.
set -eu

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/root/bin" "$dir/archive"
cp /bin/busybox "$dir/root/bin/busybox"
for name in sh sleep cat test; do
    ln -s busybox "$dir/root/bin/$name"
done
tar -C "$dir/root" --sort=name --owner=0 --group=0 -cf "$dir/archive/layer.tar" .
digest=$(sha256sum "$dir/archive/layer.tar" | cut -d ' ' -f 1)
cat >"$dir/archive/config.json" <<JSON
{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:$digest"]}}
JSON
cat >"$dir/archive/manifest.json" <<JSON
[{"Config":"config.json","RepoTags":["lane:1"],"Layers":["layer.tar"]}]
JSON
tar -C "$dir/archive" -cf "$1" manifest.json config.json layer.tar
