#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Boot Debian's kernel under penumbra and check what came of it.
#
#   boot.sh --penumbra P --name N [--memory 512M] [--append "..."] [--cpu MODEL]
#           [--expect REGEX]... [--rss MIB] [--twice] [--mmu M] [--against M] [--timeout S]
#           [--run "OPTION..."] [--guest "OPTION..."] [--pvh]
#
# Checks: exit code 0, the script's last line on the serial console, every --expect there, no MSR that
# the kernel missed;
# --rss: resident memory beyond guest memory stayed below so many MiB; --twice: a second
# run has the same instructions, counters, event digest and serial bytes; --against: under
# that MMU too, the instructions, serial bytes and all of memory at the end are the same.
# --run: options of penumbra run; --guest: of scripts/guest.sh. --pvh: the vmlinux in the bzImage (packed by
# xz), entered by PVH.
# Exit: 0, 1 with what is wrong, 77 when the guest's packages are not there (skipped).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)

penumbra='' name='' memory=512M append='' cpu='' rss='' twice='' mmu=shadow against='' limit=300 pvh='' expect=() extra=() guest=()
while [ $# -gt 0 ]; do
    case $1 in
    --penumbra) penumbra=$2; shift ;;
    --name) name=$2; shift ;;
    --memory) memory=$2; shift ;;
    --append) append=$2; shift ;;
    --cpu) cpu=$2; shift ;;
    --expect) expect+=("$2"); shift ;;
    --rss) rss=$2; shift ;;
    --twice) twice=1 ;;
    --pvh) pvh=1 ;;
    --mmu) mmu=$2; shift ;;
    --against) against=$2; shift ;;
    --run) read -r -a extra <<<"$2"; shift ;;
    --guest) read -r -a guest <<<"$2"; shift ;;
    --timeout) limit=$2; shift ;;
    *) echo "boot.sh: unknown option $1"; exit 1 ;;
    esac
    shift
done
. "$here/../lib.sh"
need_guest "${guest[@]}"
work_folder
kernel=$cache/vmlinuz
if [ -n "$pvh" ]; then
    # Linux, Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length.
    python3 - "$kernel" "$work/vmlinux" <<'EOF' || fail "cannot unpack $kernel"
import lzma, struct, sys
image = open(sys.argv[1], "rb").read()
offset, length = struct.unpack_from("<II", image, 0x248)
offset += (image[0x1f1] + 1) * 512
open(sys.argv[2], "wb").write(lzma.LZMADecompressor().decompress(image[offset:offset + length]))
EOF
    kernel=$work/vmlinux
    extra+=(--format pvh)
fi

# Resident memory of a process beyond the mappings that are as large as guest memory, in KiB.
beyond() {
    awk -v ram="$2" '
        /^[0-9a-f]+-[0-9a-f]+ / { next }
        $1 == "Size:" { guest = $2 >= ram }
        $1 == "Rss:" && !guest { sum += $2 }
        END { print sum + 0 }' "/proc/$1/smaps" 2>/dev/null
}
kib() {
    case $1 in
    *G) echo $((${1%G} << 20)) ;;
    *M) echo $((${1%M} << 10)) ;;
    esac
}

# boot N: one run; its files are $work/N.*
boot() {
    local n=$1 pid rc most=0 now args=()
    [ -z "$cpu" ] || args+=(--cpu "$cpu")
    [ -z "$against" ] || args+=(--ram-digest)
    "$penumbra" run --mmu "$mmu" -m "$memory" --timeout "$limit" --event-digest "${args[@]}" "${extra[@]}" \
        --kernel "$kernel" --initrd "$cache/initrd.gz" --stats "$work/$n.json" \
        --append "console=ttyS0 panic=-1 pn.script $append" \
        < /dev/null > "$work/$n.serial" 2> "$work/$n.err" &
    pid=$!
    if [ -n "$rss" ]; then
        while [ -e "/proc/$pid/smaps" ] && [ "$(cut -d' ' -f3 "/proc/$pid/stat" 2>/dev/null)" != Z ]; do
            now=$(beyond "$pid" "$(kib "$memory")")
            [ "${now:-0}" -le "$most" ] || most=$now
            sleep 0.2
        done
    fi
    wait "$pid"
    rc=$?
    [ $rc -eq 0 ] || fail "exit code $rc: $(cat "$work/$n.err")"
    grep -q '^GUEST-DONE' "$work/$n.serial" || fail "the guest's script did not finish"
    ! grep 'unchecked MSR access' "$work/$n.serial" || fail "the CPU lacks an MSR"
    if [ -n "$rss" ]; then
        echo "$name: $((most >> 10)) MiB beyond guest memory"
        [ "$most" -gt 0 ] && [ "$most" -lt $((rss << 10)) ] || fail "resident beyond guest memory: $most KiB"
    fi
}

# What two equal runs share: the JSON without host, host times, and the name of its own file.
shared() {
    awk -v own="\"$1\"" '/"host": \{/ { skip = 1 } !skip && !/"host_ns"/ && !index($0, own) { print } /^  \}/ { skip = 0 }' "$1"
}

boot 1
for re in "${expect[@]}"; do
    grep -qE -- "$re" "$work/1.serial" || fail "not on the console: $re"
done
if [ -n "$twice" ] && [ $bad -eq 0 ]; then
    boot 2
    cmp "$work/1.serial" "$work/2.serial" || fail "two runs print different bytes"
    diff <(shared "$work/1.json") <(shared "$work/2.json") || fail "two runs count differently"
    shared "$work/1.json" | grep -q '"digest": "[0-9a-f]\{16\}"' || fail "no event digest"
fi
if [ -n "$against" ] && [ $bad -eq 0 ]; then
    insns() { awk '/"guest_insns"/ { print $2 }' "$1"; }
    first=$mmu mmu=$against rss=''
    boot 3
    cmp "$work/1.serial" "$work/3.serial" || fail "$first and $mmu print different bytes"
    [ "$(insns "$work/1.json")" = "$(insns "$work/3.json")" ] ||
        fail "$first ran $(insns "$work/1.json") instructions, $mmu $(insns "$work/3.json")"
    ram() { awk '/"ram_digest"/ { print $2 }' "$1"; }
    [ -n "$(ram "$work/1.json")" ] && [ "$(ram "$work/1.json")" = "$(ram "$work/3.json")" ] ||
        fail "$first and $mmu leave different memory"
fi
if [ $bad -ne 0 ]; then
    echo "--- the end of the console"
    tail -n 25 "$work/1.serial"
fi
exit $bad
