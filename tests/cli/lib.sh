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

# lit_entries FILE: how many entries the drawing of `explain` has lit.
lit_entries() {
    python3 -c 'import sys, xml.dom.minidom as x; print(sum(r.getAttribute("class") == "lit" for r in x.parse(sys.argv[1]).getElementsByTagName("rect")))' "$1"
}

# begin ARG...: penumbra in the background, as $pid, in a process group of its own. Returns
# when its guest has written a byte to the console.
begin() {
    [ -p "$work/console" ] || mkfifo "$work/console"
    exec {console}<> "$work/console"
    setsid env --default-signal=INT "$penumbra" "$@" < /dev/null > "$work/console" 2> "$work/err" &
    pid=$!
    read -rN 1 -t 60 -u "$console" || fail "no guest began: penumbra $*: $(head -n 3 "$work/err")"
    exec {console}<&-
}

# by_signal SIG CODE WHAT: SIG ends the process of begin within a second, exit code CODE.
by_signal() {
    local start=${EPOCHREALTIME/./} rc=0 took
    kill "-$1" "$pid"
    wait "$pid" || rc=$?
    took=$((${EPOCHREALTIME/./} - start))
    [ "$rc" -eq "$2" ] || fail "$3: exit code $rc, not $2"
    [ "$took" -lt 1500000 ] || fail "$3: took $took us"
}

# The bytes of: mov dx, 0x3f8; mov al, 'A'; out dx, al. A guest has begun.
hello="66 ba f8 03 b0 41 ee"

# bytes FILE HEX...: a flat image.
bytes() {
    local file=$1
    shift
    printf "$(printf '\\x%s' "$@")" > "$file"
}
