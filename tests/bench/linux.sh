#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The Linux workloads: natively, then in Debian's kernel under shadow and tdp, with the same
# operations and checksums; shadow and tdp print the same bytes, times included. Broken
# arguments are one line and exit code 2.
#
#   linux.sh PENUMBRA PN-LINUX
# Exit: 0, 1 with what is wrong, 77 when the guest's packages are not there (skipped).
set -uo pipefail
penumbra=$1 program=$2
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
work_folder

jobs=fork:5,exec:3,sh:2,pagefault:300:1M,protfault:100,mapfile:3:1M,sigcatch:50,sigsend:50,mmap:3:1M,ctx:100,pipe:20,syscall:100,sort:2000,hash:2000:64K,compress:20K
jobs+=,threads:50,build:4,integer:1000,simd:1000,touch:300,stream:9000:64K,chase:2000:256K,memset:3:1M,churn:3:1M
for w in $(sed -n 's/^LINUX(\([a-z]*\),.*/\1/p' "$here/../../bench/linux/linux.inc"); do
    case ,$jobs in *",$w:"*) ;; *) fail "no job for $w" ;; esac
done

# refused REGEX ARG...
refused() {
    local re=$1 rc=0
    shift
    "$program" "$@" > "$work/out" || rc=$?
    [ $rc -eq 2 ] || fail "exit code $rc, not 2: pn-linux $*"
    [ "$(wc -l < "$work/out")" -eq 1 ] || fail "not one line: pn-linux $*"
    grep -q "^workload: error: .*$re" "$work/out" || fail "no '$re': $(cat "$work/out")"
}
refused "no such workload" forks
refused "no such workload" fork:1 nothing
refused "how many is not a number" fork:
refused "how many is not a number" fork:0
refused "how many is not a number" fork:99999999999999999999
refused "how many is not a number" fork:1x
refused "has no size" fork:1:1M
refused "its size is not a number" mmap:1:3
refused "not NAME:N:BYTES" mmap:1:1M:1
refused "NAME"

# shellcheck disable=SC2086
"$program" ${jobs//,/ } > "$work/native" || fail "exit code $? natively"
grep '^workload: end ' "$work/native" > "$work/want"
[ "$(wc -l < "$work/want")" -eq "$(echo "$jobs" | tr , '\n' | wc -l)" ] || fail "not every workload natively"

need_guest --add "$program"
initrd=$cache/initrd-$(basename "$program").gz
for mmu in shadow tdp; do
    timeout 500 "$penumbra" run --mmu $mmu --kernel "$cache/vmlinuz" --initrd "$initrd" \
        --append "console=ttyS0 panic=-1 quiet pn.bench=$jobs" \
        < /dev/null 2> "$work/err" | tr -d '\r' > "$work/$mmu" || fail "exit code $? under $mmu: $(cat "$work/err")"
    grep '^workload: end ' "$work/$mmu" | diff "$work/want" - || fail "$mmu is not as native"
done
cmp "$work/shadow" "$work/tdp" || fail "shadow and tdp print different bytes"

# The boot itself as a point of the benchmark: the same instructions, console and memory under
# both, or penumbra bench says so. Its kernel gets the words that are asked for.
. "$here/lib.sh"
timeout 500 "$penumbra" bench linux.boot --mmu shadow,tdp --repeat 1 --warmup 0 --append "nosmp lpj=1000" \
    --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" --json "$work/boot.json" < /dev/null \
    > "$work/out" 2> "$work/err" || fail "linux.boot: exit code $?: $(cat "$work/err")"
[ "$(value "$work/boot.json" params | sort -u)" = '"n=1 append=nosmp lpj=1000"' ] || fail "linux.boot: parameters"
[ "$(value "$work/boot.json" ops | tr '\n' ' ')" = "1 1 " ] || fail "linux.boot: operations"
for m in guest_insns checksum memory_digest insns; do
    [ "$(value "$work/boot.json" $m | grep -v null | sort | uniq -c | awk '{ print $1 }')" = 2 ] ||
        fail "linux.boot: $m differs: $(value "$work/boot.json" $m)"
done

# A workload that the initrd has no program for: how to come by one.
timeout 500 "$penumbra" bench linux.fork --mmu shadow --tlb off --repeat 1 --warmup 0 --kernel "$cache/vmlinuz" \
    --initrd "$cache/initrd.gz" < /dev/null > "$work/out" 2> "$work/err" && fail "linux.fork without pn-linux passed"
grep -q "no pn-linux ran in it: .*'penumbra-guest --workloads' makes one" "$work/err" ||
    fail "linux.fork without pn-linux: $(cat "$work/err")"
exit $bad
