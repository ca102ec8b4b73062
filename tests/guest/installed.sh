#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What is installed works without the tree: penumbra-guest makes the guest, and penumbra bench runs
# a workload of Linux's in it. And the tree before anything of bench/linux is built, as make linux finds it: the guest is made,
# and what wants a program that is not there says so.
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

tree=$work/tree top=$(dirname "$0")/../..
# Where it cannot write it says so, and what to do; without HOME the user's home is what the system says.
"$bin/penumbra-guest" --help > "$work/out" 2>&1 && grep -q -- '--kernel-package NAME' "$work/out" || fail "penumbra-guest --help"
PENUMBRA_CACHE=/proc/none/guest "$bin/penumbra-guest" > "$work/out" 2> "$work/err"
[ ! -s "$work/out" ] && [ "$(wc -l < "$work/err")" -eq 1 ] && grep -q '^guest: cannot write to /proc/none: PENUMBRA_CACHE=' "$work/err" ||
    fail "a cache that cannot be made: $(cat "$work/err")"
env -u HOME -u XDG_CACHE_HOME -u PENUMBRA_CACHE "$bin/penumbra-guest" --add /nonexistent > "$work/out" 2> "$work/err"
grep -q '^guest: --add: no such file: /nonexistent' "$work/err" || fail "without HOME: $(cat "$work/err")"
# A guest needs no browser: make linux installs what the build and guest.sh need, and no more.
[ "$(make -n -C "$top" linux | sed -n 's/^scripts.setup.sh //p' | sort -u | xargs)" = "build guest" ] ||
    fail "make linux installs other groups: $(make -n -C "$top" linux | grep setup.sh | xargs)"
mkdir -p "$tree/tests/guest" "$tree/bench"
cp -r "$top/scripts" "$tree/" && cp -r "$top/tests/guest/initramfs" "$tree/tests/guest/" && cp -r "$top/bench/debian" "$tree/bench/"
rm "$work"/cache/*.gz
guest=$(PENUMBRA_CACHE=$work/cache "$tree/scripts/guest.sh" 2> "$work/err") && [ -f "$guest/initrd.gz" ] ||
    fail "guest.sh of a tree that is not built: $(cat "$work/err")"
for script in "guest.sh --workloads" bench_image.sh; do
    # shellcheck disable=SC2086
    ! PENUMBRA_CACHE=$work/cache "$tree/scripts/"$script > "$work/out" 2> "$work/err" && [ ! -s "$work/out" ] &&
        [ "$(wc -l < "$work/err")" -eq 1 ] && grep -q 'pn-linux is not built' "$work/err" ||
        fail "$script of a tree that is not built: $(cat "$work/out" "$work/err")"
done
exit $bad
