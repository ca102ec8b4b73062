#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# bench/vs_commit: a program equals itself; a counter, a byte of the console or a time that
# differs is found and named; what one side alone has is named and is no difference.
set -uo pipefail
penumbra=$1
. "$(dirname "$0")/../lib.sh"
work_folder

# compare CODE ARG...: one workload, the second program this build; output in $work/out.
compare() {
    local want=$1 rc=0
    shift
    "$(dirname "$0")/../../bench/vs_commit" --penumbra "$penumbra" --mmu shadow --workloads exit "$@" \
        < /dev/null > "$work/out" 2>&1 || rc=$?
    [ $rc -eq "$want" ] || fail "exit code $rc, not $want: $*: $(tail -n 5 "$work/out")"
}
said() { grep -qE -- "$1" "$work/out" || fail "not said: $1: $(cat "$work/out")"; }

compare 0 --baseline "$penumbra" --repeat 1 --limit 1000 --json "$work/same.json"
said '^exact: [1-9][0-9]* values equal, 0 different$'
said '^exit +shadow +[0-9.]+ +[0-9.]+ +[0-9.]+ +[0-9.]+\.\.[0-9.]+$'
grep -q '"different": \[\],' "$work/same.json" || fail "the JSON names differences"
grep -q '{"workload": "exit", "mmu": "shadow", "ratio": [0-9.]*,' "$work/same.json" || fail "the JSON has no times"
compare 1 --baseline "$penumbra" --repeat 1 --limit 0.001
said ' ABOVE 0.001$'
said '^exact: .* 0 different$'

# An older program: another count, a counter less and one more, another line of the console,
# another event.
cat > "$work/older" << END
#!/usr/bin/env bash
"$penumbra" "\$@" > "$work/older.out"; rc=\$?
sed -e 's/^workload: end name=exit/& older/' "$work/older.out"
case "\$*" in *--list*) [ "\$1" != trace ] || echo "older_event gva" ;; esac
while [ \$# -gt 0 ]; do
    [ "\$1" != --stats ] || sed -i -e 's/"io_exits": \([0-9]\)/"io_exits": 7\1/' \
        -e 's/"invlpg":/"older":/' "\$2"
    shift
done
exit \$rc
END
chmod +x "$work/older"
compare 1 --baseline "$work/older" --exact-only --json "$work/older.json"
said 'the events have other fields'
said '^exit shadow .* 2 DIFFERENT'
said '^ +counters\.io_exits +7([0-9]+) +\1$'
said '^ +console +[0-9a-f]{16} +[0-9a-f]{16}$'
said '^ +console < workload: end name=exit older'
said '^only in .*/older: counters.older events.older_event $'
said "^only in $penumbra: counters.invlpg \$"
grep -q '"run": "exit shadow", "value": "counters.io_exits", "before": "7\([0-9]*\)", "after": "\1"' "$work/older.json" ||
    fail "the JSON does not name the difference"

compare 2 --baseline "$penumbra" --workloads nonsense
compare 2 --baseline "$penumbra" --commit HEAD
compare 2 --commit no-such-commit
compare 2 --limit fast
compare 2 --baseline "$work/absent"
exit $bad
