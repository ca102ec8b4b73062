#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Where results go: standard output, links, one path twice, and what must not be overwritten.
. "$(dirname "$0")/lib.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
small="pages=16 swaps=1 flips=1 switches=1 compute=1"
bench=(bench compute:rounds=1000 --mmu shadow --tlb off --repeat 1)

says() {
    refused 2 "${@:2}"
    grep -qF -- "penumbra: $1" "$work/err" || fail "not '$1': $(cat "$work/err")"
}

# - is standard output; what a person reads goes to stderr then.
run run --append "$small" --stats - --summary
[ "$rc" -eq 0 ] && [ "$(head -c 1 "$work/out")" = '{' ] && [ "$(tail -n 1 "$work/out")" = '}' ] ||
    fail "--stats -: stdout is not JSON alone: $(head -n 2 "$work/out")"
grep -q 'penumbra guest: done' "$work/err" && grep -q 'met by the MMU' "$work/err" || fail "--stats -: no console on stderr"
[ ! -e - ] || fail "--stats -: a file called -"
run "${bench[@]}" --json -
[ "$rc" -eq 0 ] && [ "$(head -c 1 "$work/out")" = '{' ] && grep -q "ratio: this MMU's" "$work/err" || fail "bench --json -"
run "${bench[@]}" --html /dev/stdout
[ "$rc" -eq 0 ] && head -n 1 "$work/out" | grep -qi '^<!doctype html>' && grep -q "ratio: this MMU's" "$work/err" || fail "bench --html /dev/stdout"
run "${bench[@]}" --json "$work/b.json"
[ "$rc" -eq 0 ] && grep -q "ratio: this MMU's" "$work/out" && [ ! -s "$work/err" ] || fail "bench --json FILE: $(cat "$work/err")"
run compare "$work/b.json" "$work/b.json" --json -
[ "$rc" -eq 0 ] && [ "$(head -c 1 "$work/out")" = '{' ] && [ "$(tail -n 1 "$work/out")" = '}' ] && grep -q '^workload' "$work/err" ||
    fail "compare --json -: stdout is not JSON alone: $(head -n 2 "$work/out")"

# Two outputs, one file; an output that is an input.
cd "$work" || exit 1
says "--stats and --trace are one file: -" run --stats - --trace /dev/stdout
says "--stats and --trace are one file: x" run --stats x --trace ./x
says "--json and --html are one file: x" bench compute --json x --html "$work/x"
ln -s x link
says "--stats and --trace are one file: link" run --stats link --trace x
: > kernel
ln kernel hard
says "--stats hard would replace what --kernel reads" run --kernel kernel --stats hard
says "--trace kernel would replace what --kernel reads" run --kernel hard --initrd kernel --trace kernel
says "--json b.json would replace what --tlb reads" bench compute --tlb b.json --json b.json
[ ! -s kernel ] && [ ! -e x ] || fail "a refused command line wrote something"
run run --append "$small" --stats /dev/null --trace /dev/null
[ "$rc" -eq 0 ] || fail "/dev/null twice: $(cat err)"
# Memory that is a folder of files, though it is below /dev.
shm=$(mktemp -d -p /dev/shm pn-files-XXXXXX)
run run --append "$small" --stats "$shm/s.json" --trace "$shm/t"
[ "$rc" -eq 0 ] && [ -s "$shm/s.json" ] && [ -s "$shm/t" ] || fail "files in /dev/shm: $(cat err)"
rm -rf "$shm"

run run --append "$small" --stats /dev/full
[ "$rc" -eq 1 ] && grep -q 'cannot write /dev/full: No space left on device' err || fail "--stats /dev/full: $(cat err)"

# A link stays, and leads to the result, even where nothing was yet; the file keeps its mode.
run run --append "$small" --stats link
[ -L link ] && grep -q penumbra-stats x || fail "--stats LINK"
chmod 640 x
run run --append "$small" --stats link
[ -L link ] && [ "$(stat -c %a x)" = 640 ] || fail "--stats LINK: mode $(stat -c %a x)"
mkdir folder
ln -s ../y folder/up
run run --append "$small" --stats folder/up
[ -s y ] || fail "a link relative to its own folder"
ln -s loop loop
refused 1 run --stats loop
(umask 027 && "$penumbra" run --append "$small" --stats z > /dev/null < /dev/null)
[ "$(stat -c %a z)" = 640 ] || fail "umask 027: mode $(stat -c %a z)"
if [ "$(id -u)" -ne 0 ]; then
    chmod 400 z
    refused 1 run --stats z
fi

# Nobody reads: what wrote the results has not failed, and says nothing.
unread() {
    rc=0
    mkfifo pipe
    exec {both}<> pipe {out}> pipe {both}<&-
    "$penumbra" "$@" < /dev/null >&$out 2> err || rc=$?
    exec {out}>&-
    rm pipe
    [ "$rc" -eq 0 ] && ! grep -q '^penumbra: ' err || fail "nobody reads: exit code $rc: penumbra $*: $(cat err)"
}
run run --append "$small" --trace t --dump-mmu dump
[ "$rc" -eq 0 ] || fail "exit code $rc: $(cat err)"
unread run --append "$small" --stats -
unread run --append "$small" --dump-mmu -
unread "${bench[@]}" --json -
unread compare b.json b.json --json -
unread diff dump dump --json -
for how in '' '--count' '--to ftrace -o -' '--to perfetto -o -' '--to folded -o -'; do
    # shellcheck disable=SC2086
    unread trace t $how
done
unread faults t --json - --html page
[ -s page ] || fail "nobody reads one output: the other is missing"
unread faults t --csv -
unread stat t --csv -

# A disk that is full: whatever was to be printed, a command tells, once.
for what in help version host "run --mmu-opt help" "run --dump-config" "bench --list" "trace t" "trace t --list" "faults t" \
    "faults t --by help" "stat t" "dump dump" $(sed -n 's/^COMMAND("\([a-z-]*\)".*/\1/p' "$top/src/cli/commands.inc"); do
    case $what in *[\ /]* | help | version | host) ;; *) what+=" --help" ;; esac
    rc=0
    # shellcheck disable=SC2086
    "$penumbra" $what < /dev/null > /dev/full 2> err || rc=$?
    [ "$rc" -eq 1 ] && [ "$(cat err)" = "penumbra: cannot write: No space left on device" ] ||
        fail "a full disk: exit code $rc: penumbra $what: $(cat err)"
done

# Two runs, one path: both succeed, and the file is that of one of them.
for mmu in shadow tdp; do
    "$penumbra" run --mmu $mmu --append "pages=64 compute=100000" --trace both --stats both.json < /dev/null > /dev/null 2> $mmu.err &
    pids+=($!)
done
for pid in "${pids[@]}"; do
    wait "$pid" || fail "two runs that write one path: exit code $?: $(cat ./*.err)"
done
run trace both --digest
[ "$rc" -eq 0 ] || fail "two runs that write one path: $(cat err)"
[ -z "$(find . -name '*.part')" ] || fail "files left behind"
exit $bad
