#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The sandbox: what a run asks for beyond its needs is refused, from inside the process (ask.c); what it
# needs works. --sandbox off and log; what the monitor may touch.
#
#   sandbox.sh PENUMBRA SHIM
. "$(dirname "$0")/lib.sh"
shim=$2
small="pages=16 swaps=1 flips=1 switches=1 compute=1"
mkdir "$work/other" "$work/own" "$work/allowed"
echo secret > "$work/other/there"
landlock=$(python3 -c 'import ctypes; print(max(0, ctypes.CDLL(None).syscall(444, None, 0, 1)))')

# ask ARG...: a run that asks; its lines in $work/asked.
ask() {
    rc=0
    PN_ASK=$work/other LD_PRELOAD=$shim timeout 60 "$penumbra" run --append "$small" "$@" \
        < /dev/null 77< "$0" > "$work/out" 2> "$work/err" || rc=$?
    grep '^ask: ' "$work/err" > "$work/asked"
    [ "$rc" -eq 0 ] || fail "exit code $rc: run $*: $(grep -v '^ask: .*refused' "$work/err" | head -n 5)"
    [ "$(wc -l < "$work/asked")" -gt 40 ] || fail "it did not ask: run $*"
}

# Of --sandbox on: all is refused but what the arguments allow.
refuses() {
    local but=$1
    shift
    ask "$@"
    [ "$landlock" -gt 0 ] || but="$but|a file|a folder|link|rename|through /proc|OOM" # of Landlock's
    grep -v ': refused$' "$work/asked" | grep -vE "ask: ($but): allowed" > "$work/more"
    [ ! -s "$work/more" ] || fail "run $*: $(cat "$work/more")"
    [ "$(cat "$work/other/there")" = secret ] || fail "run $*: a file changed"
}

refuses 'nothing'
refuses 'nothing' --mmu tdp --stats "$work/own/s.json" --trace "$work/own/t" --event-digest
grep -q '"exit"' "$work/own/s.json" && [ -s "$work/own/t" ] || fail "no results"
refuses 'map written memory to execute' --handover tdp
refuses 'fork|clone a process|send a signal to a thread|a socket of IPv.|a Unix socket|connect|page faults of its own' --monitor "$work/own/mon"
[ ! -e "$work/own/mon" ] || fail "a socket is left behind"

# Without it nearly all is allowed: the questions are real ones.
ask --sandbox off
grep -v '^ask: privileged' "$work/asked" | grep ': refused$' > "$work/refused"
[ "$(wc -l < "$work/refused")" -le 12 ] || fail "refused without a sandbox: $(cat "$work/refused")"
for one in 'read a file' 'execute a program' fork 'send a signal' 'a Unix socket' 'make memory executable' \
    'a descriptor that was left open' 'a thread without the filter'; do
    grep -qx "ask: $one: allowed" "$work/asked" || fail "refused without a sandbox: $one"
done
echo secret > "$work/other/there"
rm -rf "$work/other/fresh"

# log: the calls are done and named.
ask --sandbox log
grep -q '^penumbra: sandbox: it would refuse execve(' "$work/err" && grep -q '^ask: fork: allowed' "$work/asked" ||
    fail "log: $(grep -v '^ask' "$work/err" | head -n 3)"
echo secret > "$work/other/there"
rm -rf "$work/other/fresh"
run run --append "$small" --sandbox log --stats "$work/own/s.json" --trace "$work/own/t" --dump-mmu "$work/own/d.json"
[ "$rc" -eq 0 ] && ! grep sandbox "$work/err" || fail "a plain run asks for more than it may: $(cat "$work/err")"

# What the monitor writes: in the folder of its socket, or where --allow-dir says.
saves() {
    local folder=$1 want=$2 code=0
    shift 2
    "$penumbra" run --append "compute=3000000000" --monitor "$work/own/mon" "$@" > /dev/null 2> "$work/err" < /dev/null &
    local pid=$!
    until [ -S "$work/own/mon" ]; do kill -0 "$pid" || break; done
    "$penumbra" snapshot save "$work/own/mon" "$folder/snap" > "$work/out" 2>&1 || code=$?
    "$penumbra" monitor "$work/own/mon" quit > /dev/null 2>&1
    wait "$pid"
    [ $((code != 0)) -eq "$want" ] || fail "snapshot save $folder, run $*: exit code $code: $(cat "$work/out")"
    rm -rf "$folder/snap"
}
saves "$work/own" 0
saves "$work/allowed" 0 --allow-dir "$work/allowed"
if [ "$landlock" -gt 0 ]; then
    saves "$work/own" 1 --allow-dir "$work/allowed"
    grep -q 'Permission denied; .*--allow-dir' "$work/out" || fail "no reason: $(cat "$work/out")"
fi
refused 2 run --allow-dir "$work/nowhere"
refused 2 run --sandbox maybe
exit $bad
