#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What is installed works without the tree: penumbra-guest makes the guest, and penumbra bench runs
# a workload of Linux's in it.
#
#   installed.sh BUILD    the build folder that is installed
set -uo pipefail
. "$(dirname "$0")/../lib.sh"
need_guest
work_folder
# Moved once: nothing remembers where it was installed.
cmake --install "$1" --prefix "$work/first" > "$work/log" && mv "$work/first" "$work/prefix" ||
    fail "cmake --install: $(tail -n 3 "$work/log")"
mkdir -p "$work/cache/root/bin"
cp "$cache/vmlinuz" "$work/cache/"
cp "$(find "$cache/root" -name busybox -perm /111 -type f | head -n 1)" "$work/cache/root/bin/"

bin=$work/prefix/bin
guest=$(cd / && PENUMBRA_CACHE=$work/cache "$bin/penumbra-guest" --workloads) || fail "penumbra-guest"
[ "$guest" = "$work/cache" ] || fail "penumbra-guest prints $guest"
(cd "$work" && "$bin/penumbra" bench linux.fork:n=2 --mmu tdp --repeat 1 --json one.json \
    --kernel "$guest/vmlinuz" --initrd "$guest/initrd-pn-linux.gz" < /dev/null > out 2>&1) ||
    fail "penumbra bench linux.fork: $(cat "$work/out")"
grep -q '"workload": "linux.fork"' "$work/one.json" || fail "no result"
exit $bad
