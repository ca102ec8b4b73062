# SPDX-License-Identifier: MIT
# gdb in batch mode, for the tests here and in tests/lab: sourced, after $work, fail, and $elf, the embedded guest's, are there.

# debug TARGET GDB-ARG...: what gdb prints is $work/said.
debug() {
    local target=$1
    shift
    timeout 240 gdb -nx -batch -ex "set remotetimeout 30" -ex "set pagination off" -ex "set confirm off" -ex "target remote $target" "$@" > "$work/said" 2>&1
}
# said REGEX...: those lines, in that order.
said() {
    local at=1 line
    for line; do
        n=$(tail -n "+$at" "$work/said" | grep -nE -m 1 -- "$line" | cut -d: -f1)
        [ -n "$n" ] || fail "$about: gdb did not say: $line: $(tail -n "+$at" "$work/said")"
        at=$((at + ${n:-0}))
    done
}
# value N: of gdb's $N.
value() {
    sed -n "s/^.$1 = //p" "$work/said"
}

# The embedded guest under a hypervisor: breakpoints of both kinds, single steps, registers, the end of a
# function; and on.
gdb_embedded=(-m 64M --append "pages=64 swaps=50 flips=20 switches=20 compute=1000000")
gdb_embedded_session=(-ex "symbol-file $elf" -ex "info registers rip" -ex "break kernel_main" -ex continue -ex stepi -ex stepi
    -ex "info symbol \$pc" -ex "hbreak new_table" -ex continue -ex continue -ex "backtrace 1" -ex "p \$xmm0.uint128"
    -ex "p \$st0" -ex "delete" -ex "finish" -ex "info threads" -ex "monitor info status" -ex detach)
gdb_embedded_said() {
    said "^rip .*0x100000" "Breakpoint 1, 0x[0-9a-f]* in kernel_main" "kernel_main \+ 7" "Breakpoint 2, 0x[0-9a-f]* in new_table" \
        "Breakpoint 2, 0x[0-9a-f]* in new_table" "#0 .*in new_table" "^\\\$1 = " "^\\\$2 = " "^0x[0-9a-f]+ in " \
        "Thread 1 .*vCPU 0, running, CPL 0" "VM status: paused \(debug\)" "detached"
}
