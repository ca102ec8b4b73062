# SPDX-License-Identifier: MIT
# Common to the tests of the command line: run penumbra, compare what came of it.
set -uo pipefail
penumbra=$1
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
work_folder

# run ARG...: exit code in $rc, output in $work/out and $work/err.
run() {
    rc=0
    timeout 120 "$penumbra" "$@" < /dev/null > "$work/out" 2> "$work/err" || rc=$?
}

# refused CODE ARG...: exit code CODE, nothing on stdout, one line on stderr, which names
# no internals.
refused() {
    local want=$1 lines
    shift
    run "$@"
    lines=$(wc -l < "$work/err")
    [ "$rc" -eq "$want" ] || fail "exit code $rc, not $want: penumbra $*: $(head -n 3 "$work/err")"
    [ "$lines" -eq 1 ] || fail "$lines lines on stderr, not 1: penumbra $*: $(head -n 3 "$work/err")"
    grep -q '^penumbra: [^ ]' "$work/err" || fail "no 'penumbra: ...' line: penumbra $*"
    [ ! -s "$work/out" ] || fail "output on stdout: penumbra $*"
}

# bytes FILE HEX...: a flat image.
bytes() {
    local file=$1
    shift
    printf "$(printf '\\x%s' "$@")" > "$file"
}
