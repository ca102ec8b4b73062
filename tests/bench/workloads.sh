#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every workload of the embedded guest, in a tiny size and in each of its ways, runs to its
# end under every MMU that this host has, with the same checksum; under the two MMUs of the
# software CPU every byte of its output is the same. Broken parameters are one line and 35.
#
#   workloads.sh PENUMBRA
# Exit: 0, or 1 with what is wrong.
set -uo pipefail
penumbra=$1
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
work_folder

mapfile -t cases < "$here/cases.txt"

mmus=(shadow tdp)
if "$penumbra" run --mmu kvm -m 16M --append "workload=syscall calls=1" < /dev/null > /dev/null 2> "$work/why"; then
    mmus+=(kvm)
else
    echo "not under --mmu kvm here: $(head -n 1 "$work/why")"
fi

for c in "${cases[@]}"; do
    cpu=()
    [[ $c != nested* ]] || cpu=(--cpu max,vendor=amd,+svm)
    for mmu in "${mmus[@]}"; do
        [[ $c != nested* ]] || [ "$mmu" != kvm ] || continue
        rc=0
        timeout 100 "$penumbra" run --mmu "$mmu" "${cpu[@]}" -m 64M --append "workload=$c" < /dev/null \
            > "$work/$mmu" 2> "$work/err" || rc=$?
        [ $rc -eq 0 ] || fail "exit code $rc under $mmu: $c: $(cat "$work/$mmu" "$work/err")"
        grep '^workload: end ' "$work/$mmu" > "$work/$mmu.end"
        grep -Eq '^workload: end name=[a-z]+ ops=[1-9][0-9]* checksum=[0-9a-f]{16}.?$' "$work/$mmu.end" ||
            fail "no end line under $mmu: $c"
        cmp -s "$work/shadow.end" "$work/$mmu.end" || fail "$mmu and shadow differ: $c"
    done
    cmp "$work/shadow" "$work/tdp" || fail "shadow and tdp print different bytes: $c"
done

# All of the table is here.
for w in $(sed -n 's/^WORKLOAD(\([a-z]*\),.*/\1/p' "$here/../../bench/workloads.inc"); do
    grep -q "^$w " < <(printf '%s\n' "${cases[@]}") || fail "no case for workload $w"
done

# refused CODE REGEX APPEND
refused() {
    local rc=0
    timeout 100 "$penumbra" run -m 16M --append "$3" < /dev/null > "$work/out" 2> /dev/null || rc=$?
    [ $rc -eq "$1" ] || fail "exit code $rc, not $1: $3"
    [ "$(grep -vc '^workload: begin' "$work/out")" -eq 1 ] || fail "not one line: $3"
    grep -q "^workload: error: .*$2" "$work/out" || fail "no '$2' in: $(cat "$work/out")"
}
refused 35 "workload=no: no such workload" "workload=no"
refused 35 "workload: no such workload" "workload"
refused 35 "pages=3: no parameter" "workload=touch pages=3"
refused 35 "rounds: no parameter" "workload=touch rounds"
refused 35 "bytes=12q: not a number, 4096 to" "workload=touch bytes=12q"
refused 35 "bytes=: not a number" "workload=touch bytes="
refused 35 "bytes=99999999999999999999: out of range 4096 to" "workload=touch bytes=99999999999999999999"
refused 35 "bytes=17179869184G: out of range" "workload=touch bytes=17179869184G"
refused 35 "write=101: out of range 0 to 100" "workload=dirty write=101"
refused 35 "order=rand: not one of seq|random" "workload=touch order=rand"
refused 35 "order=seq|random: not one of" "workload=touch order=seq|random"
refused 35 "console=ttyS0: no parameter" "console=ttyS0 workload=exit"
refused 37 "too little memory" "workload=touch bytes=1G"
exit $bad
