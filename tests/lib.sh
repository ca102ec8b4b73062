# SPDX-License-Identifier: MIT
# Common to the shell tests: sourced, with the test's own arguments left alone.
# shellcheck disable=SC2034
bad=0
fail() {
    echo "FAIL: $*"
    bad=1
}

# $work: a folder that goes when the test ends.
work_folder() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
}

# Exit code 77 is how ctest knows a skipped test; in make test and CI it is a failure.
skip() {
    echo "SKIPPED: $*"
    exit 77
}
# need_lab 0|1 [NAME]: what hosts the lab with that npt, $lab_host for lab.sh: $penumbra, or the QEMU that PENUMBRA_LAB_QEMU
# asks for (tests/lab/qemu.sh). And $host, the guest of scripts/guests.txt with that name, whose KVM it runs; without NAME the
# default one.
need_lab() {
    local err options=() top
    top=$(dirname "${BASH_SOURCE[0]}")/..
    [ -z "${2-}" ] || read -r -a options < <(sed -n "s/^$2 *[a-z]* *--/--/p" "$top/scripts/guests.txt")
    [ -z "${2-}" ] || [ ${#options[@]} -gt 0 ] || skip "no guest $2 in scripts/guests.txt"
    lab_host=()
    [ -n "${PENUMBRA_LAB_QEMU-}" ] || { lab_host=(--host "$penumbra") && options+=(--drivers); }
    need_guest "${options[@]}"
    host=$cache
    [ ${#lab_host[@]} -eq 0 ] || return 0
    err=$(mktemp)
    "$top/tests/lab/qemu.sh" --npt "$1" > /dev/null 2> "$err" ||
        skip "$(tail -n 1 "$err" && rm -f "$err")"
    rm -f "$err"
}
need_kvm() {
    [ -r /dev/kvm ] && [ -w /dev/kvm ] || skip "/dev/kvm is not usable here"
}
# need_guest [ARG...]: $cache, the folder of scripts/guest.sh ARG...
need_guest() {
    local script err
    script=$(dirname "${BASH_SOURCE[0]}")/../scripts/guest.sh err=$(mktemp)
    cache=$("$script" "$@" 2> "$err") || skip "scripts/guest.sh${*:+ $*}: $(tail -n 1 "$err" && rm -f "$err")"
    rm -f "$err"
}

# initrd_with_drivers OUT GUEST SCRIPT FILE...: an initramfs: that of GUEST, a folder of guest.sh --drivers, then its drivers, the
# files, and the script that runs in it.
initrd_with_drivers() {
    local out=$1 guest=$2 script=$3
    shift 3
    mkdir "$out.tree" && cp -r "$guest/drivers" "$@" "$out.tree/" && cp "$script" "$out.tree/script.sh" || exit 1
    (cd "$out.tree" && find . | cpio --quiet -o -H newc | gzip -1 | cat "$guest/initrd.gz" - > "$out")
}
