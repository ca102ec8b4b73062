#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# How a run ends and the exit code that says so.
. "$(dirname "$0")/lib.sh"

flat() { run run --kernel "$1" --format flat --flat-addr 0x100000 "${@:2}"; }

# ends CODE WHAT: the last run's exit code, and one line on stderr that says WHAT.
ends() {
    [ "$rc" -eq "$1" ] || fail "exit code $rc, not $1 ($2): $(head -n 3 "$work/err")"
    [ -z "$2" ] || grep -q "^penumbra: .*$2" "$work/err" || fail "stderr does not say '$2'"
}

run run
ends 0 ''
grep -q 'penumbra guest: done' "$work/out" || fail "the embedded guest did not finish"
run run --append "exit=1 pages=16 compute=1"
ends 1 ''
run run --append "exit=21 pages=16 compute=1"
ends 41 ''

bytes "$work/spin" eb fe
flat "$work/spin" --max-insns 100000
ends 4 max-insns
flat "$work/spin" --timeout 0.3
ends 4 'timeout reached after 0.3 s'
flat "$work/spin" --flat-bits 16 --flat-addr 0x7c00 --max-insns 1000
ends 4 max-insns

# UD2 without an IDT: #UD, #GP, triple fault.
bytes "$work/triple" 0f 0b
for bits in 32 64; do
    flat "$work/triple" --flat-bits $bits --timeout 20
    ends 3 'triple fault'
    grep -qi 'rip' "$work/err" && grep -qi 'cr3' "$work/err" || fail "no register dump"
done

# HLT with interrupts off: nothing can wake it.
bytes "$work/halt" fa f4 eb fd
flat "$work/halt" --timeout 20
ends 3 'halted'

# mov al,7; out 0xf4,al
bytes "$work/exit" b0 07 e6 f4 eb fe
for bits in 16 32 64; do
    flat "$work/exit" --flat-bits $bits --flat-addr 0x8000 --timeout 20
    ends 15 ''
done

# A kernel's panic on the console: it ends a guest that spins, and makes a reset a crash. What
# merely holds the words is none.
says_and() { # LINE HEX...: a guest that prints LINE, then does HEX
    bytes "$work/says" 66 ba f8 03 be 20 00 10 00 ac 84 c0 74 03 ee eb f8 "${@:2}"
    truncate -s 32 "$work/says"
    printf '%b\0' "$1" >> "$work/says"
}
panic='[    1.5] Kernel panic - not syncing: x\n'
end='[    1.6] ---[ end Kernel panic - not syncing: x ]---\n'
says_and "$panic$end" eb fe
flat "$work/says" --timeout 60 --stats "$work/panic.json"
ends 3 'kernel panicked'
grep -q '"reason": "panic"' "$work/panic.json" || fail "a panic: $(grep -A 2 '"exit"' "$work/panic.json")"
flat "$work/says" --timeout 0.3 --panic-exit off
ends 4 'timeout'
reset=(b0 06 66 ba f9 0c ee eb fe) # mov al,6; mov dx,0xcf9; out dx,al
says_and "$panic" "${reset[@]}"
flat "$work/says" --timeout 20
ends 3 'kernel panicked'
bytes "$work/pvpanic" b0 01 66 ba 05 05 ee eb fe # mov al,1; mov dx,0x505; out dx,al
flat "$work/pvpanic" --timeout 20
ends 3 'kernel panicked'
flat "$work/pvpanic" --timeout 0.3 --panic-exit off
ends 4 'timeout'
bytes "$work/crash" b0 02 66 ba 05 05 ee eb fe # a crash kernel takes over
flat "$work/crash" --timeout 0.3
ends 4 'timeout'
says_and "# echo $panic$end" "${reset[@]}"
flat "$work/says" --timeout 20
ends 0 'asked for a reset'
flat "$work/says" --timeout 20 --quiet
[ "$rc" -eq 0 ] && [ ! -s "$work/err" ] || fail "--quiet: exit code $rc: $(cat "$work/err")"
says_and "$end" eb fe
flat "$work/says" --timeout 0.3
ends 4 'timeout'

# A signal ends the run within a second, and what started it can tell.
bytes "$work/begins" $hello eb fe
for sig in TERM INT HUP; do
    begin run --kernel "$work/begins" --format flat --stats "$work/$sig.json"
    by_signal $sig $((128 + $(kill -l $sig))) "SIG$sig"
    grep -q '"reason": "quit"' "$work/$sig.json" || fail "SIG$sig: no stats"
done

# A closed console: a message, no hang.
"$penumbra" run < /dev/null 2> "$work/err" | head -c 10 > /dev/null
rc=${PIPESTATUS[0]}
ends 1 "console"
# Descriptors that nobody opened: nothing of ours takes their place.
rc=0
"$penumbra" run --stats "$work/closed.json" < /dev/null >&- 2> "$work/err" || rc=$?
ends 1 "console"
grep -q 'penumbra guest' "$work/closed.json" && fail "the console went into a file"
rc=0
"$penumbra" run --append "pages=16 compute=1000" <&- > "$work/out" 2>&- || rc=$?
[ $rc -eq 0 ] && grep -q 'done, checksum' "$work/out" || fail "stdin and stderr closed: exit code $rc"
[ -z "$(find "$work" -name '*.part')" ] || fail "files left behind"
exit $bad
