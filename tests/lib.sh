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
need_qemu() {
    command -v qemu-system-x86_64 > /dev/null || skip "qemu-system-x86_64 is not installed"
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
