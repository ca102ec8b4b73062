#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# gdb itself, in batch mode: the embedded guest by its symbols, and with `linux` Debian's
# kernel, on one vCPU and on two. A guest that was stopped, stepped and watched retires the
# same instructions, writes the same memory and has the same events as one that was not. With `kvm`:
# the embedded guest on this host's KVM.
#
#   gdb.sh PENUMBRA GUEST.ELF ADDRESS_OF [linux | kvm]
. "$(dirname "$0")/../cli/lib.sh"
elf=$2 address_of=$3 kind=${4:-}
. "$(dirname "$0")/gdb_lib.sh"
command -v gdb > /dev/null || skip "gdb is not installed"

# session NAME ARG... -- GDB-ARG...: gdb on a guest that stands; what it prints is $work/said.
session() {
    local name=$1 args=() pid rc=0
    shift
    while [ "$1" != -- ]; do
        args+=("$1")
        shift
    done
    shift
    rm -f "$work/socket"
    timeout 250 "$penumbra" run "${args[@]}" --gdb "$work/socket" -S --stats "$work/$name.json" --event-digest --ram-digest \
        < /dev/null > "$work/out" 2> "$work/err" &
    pid=$!
    until [ -S "$work/socket" ] || ! kill -0 $pid 2> /dev/null; do sleep 0.02; done
    debug "$work/socket" "$@" || fail "$name: gdb: $(tail -n 3 "$work/said")"
    wait $pid || rc=$?
    [ $rc -eq 0 ] || fail "$name: exit code $rc: $(cat "$work/err")"
}
# same A B: two runs of one guest.
same() {
    local key
    for key in guest_insns guest_ns digest ram_digest; do
        grep "\"$key\":" "$work/$1.json" > "$work/a"
        grep "\"$key\":" "$work/$2.json" | diff - "$work/a" || fail "$about: $key differs"
    done
}

if [ "$kind" = kvm ]; then
    need_kvm
    run run --mmu kvm "${gdb_embedded[@]}"
    cp "$work/out" "$work/without"
    about="kvm, embedded guest"
    session with --mmu kvm "${gdb_embedded[@]}" -- "${gdb_embedded_session[@]}"
    gdb_embedded_said
    cmp "$work/out" "$work/without" || fail "$about: the guest ends otherwise"
    exit $bad
fi
for mmu in shadow tdp; do
    if [ "$kind" = linux ]; then
        need_guest
        sys=$("$address_of" "$cache/vmlinuz" __x64_sys_newuname) && clone=$("$address_of" "$cache/vmlinuz" kernel_clone) &&
            forks=$("$address_of" "$cache/vmlinuz" total_forks) ||
            skip "no symbols in the kernel"
        for cpus in 1 2; do
            about="$mmu, Linux, $cpus vCPUs"
            guest=(--mmu $mmu -c $cpus -m 128M --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz"
                --append "console=ttyS0 panic=-1 nokaslr pn.script")
            run run "${guest[@]}" --stats "$work/without.json" --event-digest --ram-digest
            session with "${guest[@]}" -- -ex "hbreak *$clone" -ex "ignore 1 20" -ex continue -ex "info breakpoints" \
                -ex "info threads" -ex "monitor info tasks" -ex "stepi 100" -ex "break *$sys" -ex "delete 1" -ex continue \
                -ex "info registers rip cs cr3 gs_base" -ex "x/1i \$pc" -ex delete -ex detach
            said "breakpoint already hit 21 times" "Thread 1 .*vCPU 0, running, CPL 0" "^ +0 +2 +2 +0  kthreadd" "Breakpoint 2, $sys" \
                "^rip +$sys" "^cs +0x10" "^gs_base +0xffff" "=> $sys"
            [ $cpus -eq 1 ] || grep -q "Thread 2 .*vCPU 1" "$work/said" || fail "$about: no second thread"
            grep -q '^GUEST-DONE' "$work/out" || fail "$about: the guest did not finish"
            same without with
            if [ $mmu$cpus = shadow1 ]; then
                session watched "${guest[@]}" -- -ex "break *$clone" -ex continue -ex "watch -l *(long *)(\$rsp - 8)" -ex continue \
                    -ex "delete" -ex "x/1i \$pc" -ex detach
                said "Hardware watchpoint 2" "Old value" "New value"
                same without watched
            fi
            # To the last write of a variable and to the one before it, and on as if nothing had been.
            [ $mmu$cpus = tdp1 ] || [ $mmu$cpus = shadow2 ] || continue
            session back "${guest[@]}" --checkpoints 8 --checkpoint-distance 200000000 -- -ex "break *$sys" -ex continue \
                -ex "delete" -ex "monitor info tasks" -ex "watch *(long *)$forks" -ex reverse-continue -ex "x/1i \$pc" \
                -ex "p *(long *)$forks" -ex reverse-continue -ex "p *(long *)$forks" -ex "monitor explain $forks" -ex stepi \
                -ex "p *(long *)$forks" -ex delete -ex reverse-stepi -ex reverse-stepi -ex "break *$sys" -ex continue -ex detach
            said "Breakpoint 1, $sys" "^ +2 +2 +0  kthreadd" "watchpoint 2" "Old value = [0-9]+" "=> .*\\\$0x1,.*$forks" "^\\\$1 = " \
                "watchpoint 2" "^\\\$2 = " "^The guest's walk" "^\\\$3 = " "No more reverse-execution history" "^$sys in"
            before=$(value 2) after=$(value 1)
            [ "$((before + 1))" = "$after" ] || fail "$about: it was $before, then $after"
            [ "$after" = "$(value 3)" ] || fail "$about: a step forward writes something else"
            same without back
        done
        continue
    fi
    about="$mmu, embedded guest"
    guest=(--mmu $mmu -m 64M --append "pages=64 swaps=50 flips=20 switches=20 compute=1000000")
    run run "${guest[@]}" --stats "$work/without.json" --event-digest --ram-digest
    session with "${guest[@]}" -- -ex "symbol-file $elf" -ex "info registers rip" -ex "break kernel_main" -ex continue \
        -ex "stepi" -ex "stepi" -ex "info symbol \$pc" -ex "hbreak new_table" -ex continue -ex continue -ex "backtrace 1" \
        -ex "p \$xmm0.uint128" -ex "p \$st0" -ex "info float" -ex "delete" -ex "finish" -ex "detach"
    said "^rip .*0x100000" "Breakpoint 1, 0x[0-9a-f]* in kernel_main" "kernel_main \+ " "Breakpoint 2, 0x[0-9a-f]* in new_table" \
        "#0 .*in new_table" "^\\\$1 = " "^\\\$2 = " "^0x[0-9a-f]+ in " "detached"
    same without with
    # Back, and on again; in the past nothing can be changed, and it ends at both sides.
    session back "${guest[@]}" --checkpoints 6 --checkpoint-distance 300000 -- -ex "symbol-file $elf" -ex "break new_table" \
        -ex continue -ex continue -ex continue -ex "p \$rsp" -ex "p \$eflags" -ex reverse-stepi -ex reverse-stepi -ex "x/1i \$pc" \
        -ex stepi -ex stepi -ex "p \$rsp" -ex "p \$eflags" -ex "watch -l *(long *)\$rsp" -ex "disable 1" -ex reverse-continue -ex "x/1i \$pc" \
        -ex "delete 2" -ex "enable 1" -ex "info threads" -ex continue -ex "info breakpoints" -ex "delete" -ex reverse-continue \
        -ex "p \$pc" -ex "set \$rax = 1" -ex "set {long}\$rsp = 1" -ex "monitor info status" -ex continue -ex "info symbol \$pc" \
        -ex continue -ex "reverse-stepi" -ex "x/1i \$pc" -ex "stepi" -ex "detach"
    said "Breakpoint 1, .*in new_table" "^\\\$1 = " "jne " "Breakpoint 1, .*in new_table" "^\\\$3 = " "atchpoint 2" "call .*<new_table>" \
        "Thread 1 .*vCPU 0, running, CPL 0" "Breakpoint 1, .*in new_table" "already hit 5 times" "No more reverse-execution history" \
        "^\\\$5 = .*0x100000" "Could not write register" "Cannot access memory" "VM status: paused \\(debug\\)" "No more reverse-execution history" \
        "^new_table in section" "No more reverse-execution history" "=> " "detached"
    for i in 1 2; do
        [ "$(value $i)" = "$(value $((i + 2)))" ] ||
            fail "$about: there and back, and register $i is another"
    done
    same without back
    # Registers and memory that gdb changes are the guest's.
    session changed "${guest[@]}" -- -ex "symbol-file $elf" -ex "break kernel_main" -ex continue -ex "set \$rax = 0x1234567890" \
        -ex "p/x \$rax" -ex "set \$xmm3.uint128 = 77" -ex "p \$xmm3.uint128" -ex "set {long}\$rsp = 0x55" -ex "x/1gx \$rsp" \
        -ex "maintenance packet Qqemu.PhyMemMode:1" -ex "x/1xb 0x100000" -ex "reverse-stepi" -ex "kill"
    said "^\\\$1 = 0x1234567890" "^\\\$2 = 77" "0x0*55" "received: \"OK\"" "0x100000" "does not support this command"
done
exit $bad
