#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Bad command lines: one line, the documented exit code. Good ones: what they print.
. "$(dirname "$0")/lib.sh"

refused 2 frob
refused 2 run --frob
refused 2 run -Z
refused 2 run --kernel
refused 2 run --mmu
refused 2 run extra
refused 2 run --mmu magic
refused 2 run --mmu-opt nosuch=1
refused 2 run --mmu-opt unsync
refused 2 run --mmu-opt unsync=banana
refused 2 run --mmu-opt page_budget=1
refused 2 run --cpu nosuchcpu
refused 2 run --cpu x86-64-v3,+nosuchfeature
refused 2 run -m 0
refused 2 run -m 512
refused 2 run -m -1
refused 2 run -m 12Q
refused 2 run -m 1M
refused 2 run -m 65G
refused 2 run -m 99999999999999999999
refused 2 run -c 0
refused 2 run -c many
refused 2 run --numa nowhere
refused 2 run --numa bind=4096
refused 2 run --numa-guest 256M
refused 2 run --numa-guest 256M/0,256M/0
refused 2 run --numa-guest 512M@4000
refused 2 run --numa-guest 512M@0 --numa local
refused 2 run --numa-guest 512M --numa-distance 10
refused 2 run --numa-distance 20
refused 2 run --hugepages 3M
refused 2 run --clock sundial
refused 2 run --seed x
refused 2 run --block-len 0
refused 2 run --max-insns 0
refused 2 run --timeout 0
refused 2 run --timeout soon
refused 2 run --format exe
refused 2 run --format flat
refused 2 run --flat-bits 8
refused 2 run --trace-events nosuch
refused 2 run --trace-limit 1
refused 2 run --initrd "$0"
refused 2 run --event-digest
refused 1 run --stats /nonexistent/s.json
refused 1 run --trace /nonexistent/t
refused 2 host extra
refused 2 trace
refused 2 trace a b
refused 1 trace /nonexistent/t
refused 2 trace "$0"
refused 2 trace /dev/null
refused 1 trace "$work"

top=$(cd "$(dirname "$0")/../.." && pwd)
run
[ "$rc" -eq 2 ] && grep -q Usage "$work/err" || fail "no command: usage, exit code 2"
for c in --help -h "run -h" "run -help" "run --help" "host --help" "trace --help"; do
    run $c
    [ "$rc" -eq 0 ] && grep -q Usage "$work/out" && [ ! -s "$work/err" ] || fail "$c"
done
# says CODE LINE ARG...: refused, and the line says what was wrong and what is allowed.
says() {
    local want=$2
    refused "$1" "${@:3}"
    grep -qF -- "penumbra: $want" "$work/err" || fail "not '$want': $(cat "$work/err")"
}
says 2 "-c 300: not a number from 1 to 64" run -c 300
says 2 "--block-len 99999: not a number from 1 to 1024" run --block-len 99999
says 2 "--max-insns 0: not a number of at least 1" run --max-insns 0
says 2 "--seed 99999999999999999999: not a number of up to 64 bits" run --seed 99999999999999999999
size="not a size from 2M to 64G in bytes, or whole pages in K, M, G or T (also KiB ...), powers of 1024"
says 2 "-m 512: $size: is 512M meant?" run -m 512
says 2 "-m 512MB: $size: is 512M meant?" run -m 512MB
says 2 "-m 1.1G: $size (see" run -m 1.1G
says 2 "-m b: $size (see" run -m b
says 2 "--memory 512: not a size" run --memory 512
says 2 "--timeout 0: not seconds above 0" run --timeout 0
says 2 "--clock sundial: not one of virtual, host" run --clock sundial
says 2 "--mmu magic: not one of shadow, tdp, kvm" run --mmu magic
says 2 "--handover magic: not one of shadow, tdp, kvm" run --handover magic
says 2 "--handover tdp@5: not later than the handover before it" run --handover shadow@9 --handover tdp@5
says 2 "--dirty-log nosuch: not one of off, wp, bitmap, clear, ring, dbit, pml, hdbss, uffd-wp, pagemap-scan, soft-dirty, mincore, sub-page, all-set, wp-2m, accessed, rw-scan" run --dirty-log nosuch
says 2 "--kernel '': not a name: it is empty" run --kernel ""
says 2 "--kernel needs a value: FILE" run --kernel
says 2 "--summary takes no value" run --summary=yes
says 2 "unknown option '--frob'" run --frob
says 2 "unknown option '-Z'" run -Z
says 2 "unknown option '--m': it may be --mmu, --mmu-opt, --memory, --module, --max-insns, --monitor" run --m 512M
says 2 "unknown option '--s': it may be --shared-memory, --share, --seed, --sandbox, --stats, --summary" run --s
says 2 "--mmu-opt: --mmu has each MMU's options: --mmu shadow,shadow:unsync=0" bench chase --mmu-opt unsync=0
# Numbers and times as people write them.
says 2 "--max-insns 1e20: not a number of at least 1" run --max-insns 1e20
says 2 "--max-insns 1e: not a number" run --max-insns 1e
says 2 "--timeout 5x: not seconds above 0 and up to 1000000000; 1ms" run --timeout 5x
says 4 "--max-insns reached after 1000 instructions" run --max-insns 1e3 --cpus 1
says 4 "--max-insns reached after 1250 instructions" run --max-insns 1.25e3 --cpus 1
for number in 1.255e2 1.5 1. 1.e 1.e5x .5e3 1.5e-3 0x1.8e3; do
    says 2 "--max-insns $number: not a number" run --max-insns $number
done
says 2 "--max-insns 99.9e18: not a number" run --max-insns 99.9e18
run run --timeout 20ms --append compute=1000000000000
[ "$rc" -eq 4 ] && grep -qF -- "--timeout reached after 0.02 s" "$work/err" || fail "--timeout 20ms: $(cat "$work/err")"
says 2 "/bin/sh: an ELF with an interpreter: a program, no kernel" run --kernel /bin/sh
(cd "$work" && cp "$top/bench/profiles/skylake.json" mine) || fail "no profile to copy"
(cd "$work" && says 2 "--tlb: no profile 'mine'; ./mine is a file: write ./mine" run --tlb mine; exit $bad) || bad=1
says 2 "--tlb: no profile '.'; there are skylake, icelake" run --tlb .
sed 's/"entries": *64/"entries": 64.0/' "$work/mine" > "$work/real.json"
says 2 "--tlb: $work/real.json: 'l1" run --tlb "$work/real.json"
grep -q 'whole numbers; bench/FORMATS.md has the members' "$work/err" || fail "entries: 64.0: $(cat "$work/err")"
says 2 "chase: bytes=1T: not a number from 4096 to 2147483648" bench chase:bytes=1T --mmu shadow
# A slip of the finger.
says 2 "unknown option '--sumary': did you mean --summary?" run --sumary
says 2 "unknown option '--kernle': did you mean --kernel?" run --kernle=x
says 2 "unknown option '-sumary': did you mean --summary?" run -sumary
says 2 "no command is called 'bnech': did you mean bench?" bnech
says 2 "no command is called 'frob' (see" frob
says 2 "-kernel: the command comes first: is penumbra run -kernel meant?" -kernel x
says 2 "--mmu: the command comes first" --mmu tdp
says 2 "unexpected argument 'vmlinuz': is --kernel vmlinuz meant?" run vmlinuz
says 2 "--device toaster: no such device: 'toaster'; there are disk, rng" run --device toaster
says 2 "--device $(printf %040d 0): no such device" run --device "$(printf %040d 0)"
says 2 "--trace-events nosuch: no event is called 'nosuch'; 'help' lists them" run --trace-events nosuch
# One dash, as other programs have it: the whole word is named, no letter of it is taken.
says 2 "-stats: options have two dashes: --stats" run -stats x
says 2 "unknown option '-kernal': did you mean --kernel?" run -kernal x
# QEMU's flags: each is taken for what it is here, or its line names that.
says 2 "-machine: there is one machine" run -machine q35
says 2 "-M: there is one machine" run -M pc
says 1 "x.img: No such file" run -hda x.img
says 2 "-drive: --disk FILE[,ro][,snapshot] is a disk" run -drive file=x.img
says 2 "--stopped needs --gdb" run -S
says 2 "--checkpoints needs --gdb" run --checkpoints 8
says 2 "--checkpoint-distance needs --checkpoints" run --gdb 1234 --checkpoint-distance 5000
says 2 "--checkpoints 1: not a number from 2 to 256" run --gdb 1234 --checkpoints 1
says 2 "--checkpoints: not under --mmu kvm, whose guest cannot be copied" run --gdb 1234 --checkpoints 8 --mmu kvm
says 2 "--checkpoints does not go with --clock host" run --gdb 1234 --checkpoints 8 --clock host
says 2 "-monitor: Ctrl-A c at the console is the monitor" run -monitor stdio
says 2 "-serial null: the serial console is stdin and stdout" run -serial null
says 2 "-accel hvf: --mmu chooses" run -accel hvf
says 2 "-smp many: not a number from 1 to 64" run -smp many
says 2 "-smp needs a value" run -smp
says 2 "--initrd needs --kernel" run -initrd x
run run -smp 2 -m 64M -cpu host -accel tcg -nographic -no-reboot -nodefaults -serial mon:stdio -display none \
    -append "pages=16 compute=1" --stats "$work/s.json"
[ "$rc" -eq 0 ] && grep -q '"cpus": 2' "$work/s.json" && grep -q '"mmu": "shadow"' "$work/s.json" &&
    grep -q '"cpu": "host"' "$work/s.json" && grep -q '"memory": 67108864' "$work/s.json" ||
    fail "QEMU's flags: exit code $rc: $(cat "$work/err")"
refused 1 run -kernel /nonexistent/vmlinuz -append console=ttyS0
says 1 "/nonexistent/bios: No such file" run -bios /nonexistent/bios
says 2 "-virtfs: --share DIR" run -virtfs local,path=.
says 2 "-boot: --kernel FILE is entered at once; --firmware" run -boot c
# kvmtool's.
says 1 "/nonexistent/bzImage: No such file" run -k /nonexistent/bzImage -i x -p console=ttyS0 -c 1 -m 64M
says 2 "--dirty-every needs --dirty-log" run -enable-kvm --dirty-every 5
# A value of an option of the MMU; one tracker is chosen in one place.
says 2 "--mmu-opt unsync=yes: the value is not from 0 to 1" run --mmu-opt unsync=yes
says 2 "--mmu-opt unsync=2: the value is not from 0 to 1" run --mmu-opt unsync=2
says 2 "--mmu-opt nosuch=1: no such option; 'help' lists them" run --mmu-opt nosuch=1
says 2 "--mmu-opt unsync: not NAME=VALUE" run --mmu-opt unsync
says 2 "--mmu-opt dirty_method=dbit: unknown; use --dirty-log dbit" run --mmu tdp --mmu-opt dirty_method=dbit
says 2 "--pin 1023: not one of the CPUs that this process may use: " bench touch --pin 1023 --mmu shadow
grep -q "use: [0-9][0-9,-]* (see" "$work/err" || fail "--pin 1023 names no CPU: $(cat "$work/err")"
# A part of a trace by time: an instruction is a nanosecond.
run run --append "pages=16 swaps=1 flips=1 switches=1 compute=1" --trace "$work/t"
run trace "$work/t" --from 20000 --to 30000
cp "$work/out" "$work/part"
[ -s "$work/part" ] || fail "no events from 20000 to 30000"
run trace "$work/t" --from 20us --to 0.03ms
cmp "$work/out" "$work/part" || fail "--from 20us --to 0.03ms is not --from 20000 --to 30000"
says 2 "--from 1day: not a time such as" trace "$work/t" --from 1day
says 2 "--to 1h: not a time such as" trace "$work/t" --to 1h
# What would do nothing.
says 2 "--trace-events needs --trace or --event-digest" run --trace-events page_fault
says 2 "--trace-limit needs --trace" run --trace-limit 1M
says 2 "--trace-tasks needs --trace or --event-digest" run --trace-tasks --kernel x
bytes "$work/no-linux" f4
refused 2 run --trace-tasks --trace "$work/t" --kernel "$work/no-linux" --format flat
says 2 "--trace-tasks needs --kernel" run --trace-tasks --trace "$work/t"
says 2 "--trace-events task, region, entry need --trace-tasks" run --trace-events task --trace "$work/t"
says 2 "--dirty-every needs --dirty-log" run --dirty-every 5
says 2 "--initrd needs --kernel" run --initrd "$0"
says 2 "--event-digest needs --stats" run --event-digest
says 2 "--cost needs --tlb" run --cost kvm
says 2 "--halt-poll-ns needs --mmu kvm" run --halt-poll-ns 5
says 2 "--eventfds off needs --mmu kvm" run --eventfds off
says 2 "--mmu-opt: not under --mmu kvm" run --mmu kvm --mmu-opt unsync=0
says 2 "--mmu-opt tdp_levels=5: only --mmu tdp has it" run --mmu-opt tdp_levels=5
says 2 "--mmu-opt unsync=0: only --mmu shadow has it" run --mmu tdp --mmu-opt large_pages=0 --mmu-opt unsync=0
says 2 "--seed: not under --mmu kvm" run --mmu kvm --seed 5
says 2 "--block-len: not under --mmu kvm" run --mmu kvm --block-len 1
says 2 "--flat-bits needs --kernel" run --flat-bits 32
says 2 "--flat-addr and --flat-bits need --format flat" run --kernel "$0" --flat-addr 0x200000
says 2 "--flat-addr and --flat-bits need --format flat" run --kernel "$0" --format elf --flat-bits 32
for o in "--event nmi" "--vcpu 0" "--from 1" "--to 1" "--gva 0" --count --list; do
    says 2 "--digest is of the whole file" trace "$0" --digest $o
done
says 2 "--list is of the whole file" trace "$0" --list --count
says 2 "--kernel: no workload here boots it" bench touch --kernel a --initrd b

# An option of the MMU that the guest goes on under does something.
run run --mmu-opt tdp_levels=5 --handover tdp@0.02 --append "pages=16 compute=1"
[ "$rc" -eq 0 ] || fail "--mmu-opt tdp_levels=5 --handover tdp: exit code $rc: $(cat "$work/err")"

# A beginning that no other option has; a value in the same word; arguments behind --.
run run --summ --max-insns=1000
[ "$rc" -eq 4 ] && grep -q 'max-insns, exit code 4' "$work/err" || fail "--summ --max-insns=1000: exit code $rc"
run run -m16M -c2 --append "pages=16 compute=1"
[ "$rc" -eq 0 ] && grep -q '16 MiB of memory' "$work/out" || fail "-m16M -c2: exit code $rc"
run run -m 15.5MiB --append "pages=16 compute=1" --stats "$work/s.json"
[ "$rc" -eq 0 ] && grep -q '"memory": 16252928' "$work/s.json" || fail "-m 15.5MiB: exit code $rc: $(cat "$work/err")"
says 2 "unexpected argument '--summary'" run -- --summary

# The embedded guest refuses what it does not know, as its workloads do, with their exit code.
guest_says() {
    run run --append "$2"
    [ "$rc" -eq 35 ] || fail "--append '$2': exit code $rc"
    grep -qF -- "workload: error: $1" "$work/out" || fail "--append '$2': not '$1': $(head -n 1 "$work/out")"
}
guest_says "pagez=5: no parameter of the demonstration, nor a workload" "compute=1 pagez=5"
guest_says "pages: no parameter" "pages"
guest_says "pages=banana: not a number, 16 to " "pages=banana"
guest_says "pages=: not a number" "pages="
guest_says "pages=-1: not a number" "pages=-1"
guest_says "pages=15: out of range 16 to " "pages=15"
guest_says "pages=1G: out of range" "pages=1G"
guest_says "exit=257: out of range 0 to 256" "exit=257"
guest_says "bytez=1: no parameter of this workload" "workload=chase bytez=1"

says 2 "--dirty-log uffd-wp: not with --hugepages 2M, which the host writes as a whole" run --dirty-log uffd-wp --hugepages 2M

# The trackers' list is true: what it says of an MMU that runs here works there.
run run --dirty-log help
[ "$rc" -eq 0 ] || fail "--dirty-log help"
cp "$work/out" "$work/trackers"
for mmu in shadow tdp; do
    while read -r tracker _; do
        if grep -q "^$tracker .*: under .*\b$mmu\b" "$work/trackers"; then
            run run --mmu $mmu --dirty-log "$tracker" --dirty-verify --stats "$work/s.json" \
                --append "pages=16 swaps=1 flips=1 switches=1 compute=1"
            grep -q "this host's kernel" "$work/err" && continue
            [ "$rc" -eq 0 ] && grep -q "\"tracker\": \"$tracker\"" "$work/s.json" ||
                fail "--mmu $mmu --dirty-log $tracker: exit code $rc: $(cat "$work/err")"
        else
            says 2 "--dirty-log $tracker: not under --mmu $mmu" run --mmu $mmu --dirty-log "$tracker"
        fi
    done < "$work/trackers"
done

# The tables of options in the READMEs name options that there are, with their arguments.
top=$(cd "$(dirname "$0")/../.." && pwd)
for command in run bench; do
    run $command --help
    cp "$work/out" "$work/help"
    n=0
    while read -r option arg; do
        n=$((n + 1))
        grep -qF -- "$option${arg:+=$arg} " <(sed 's/$/ /' "$work/help") ||
            fail "$command --help has no $option${arg:+=$arg}, as a README says"
    done < <(sed -n "/^| option of \`$command\` /,/^\$/p" "$top/README.md" "$top"/bench/*.md |
        sed 's/\\|/%/g' | cut -d '|' -f 2 | grep -o '`--[^`]*`' | tr -d '`' | tr % '|')
    [ $n -ge 12 ] || fail "the README's table of $command has only $n options"
done

for o in mmu mmu-opt kernel initrd append cpu memory cpus stats trace clock max-insns timeout \
    numa hugepages seed; do
    run run --help
    grep -q -- "--$o\b" "$work/out" || fail "run --help does not tell of --$o"
done
run --version
[ "$rc" -eq 0 ] && grep -q '^penumbra [0-9]' "$work/out" || fail "--version"
run run --mmu-opt help
[ "$rc" -eq 0 ] && grep -q unsync "$work/out" || fail "--mmu-opt help"
run run --cpu help
[ "$rc" -eq 0 ] && grep -q x86-64-v3 "$work/out" && grep -q qemu64 "$work/out" || fail "--cpu help"
run run --trace-events help
[ "$rc" -eq 0 ] && grep -q page_fault "$work/out" || fail "--trace-events help"
run host
[ "$rc" -eq 0 ] && grep -q '^--mmu shadow *works here' "$work/out" || fail "host"
run host --json
[ "$rc" -eq 0 ] && grep -q '"schema": "penumbra-host-1"' "$work/out" || fail "host --json"
exit $bad
