#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `penumbra dirty check`: no tracker that claims to name what was written misses a page, the software
# engines' and the host's under them name no other, and what it prints and writes is one thing.
#
#   dirty_check.sh PENUMBRA [kvm]    the software engines, or this host's KVM
. "$(dirname "$0")/lib.sh"

# judge EXACT: every tracker in $work/c.json; EXACT: a page that nobody wrote is an error, too.
judge() {
    python3 - "$work/c.json" "$1" <<'END' || fail "the result is not as it should be"
import json, sys

doc, exact = json.load(open(sys.argv[1])), sys.argv[2] == "exact"
assert doc["schema"] == "penumbra-dirty-check-1"
names = [c["name"] for c in doc["corpus"]]
assert len(names) == len(set(names)) >= 18 and all(c["bug"] for c in doc["corpus"])
for t in doc["trackers"]:
    who = f'{t["mmu"]}, {t["tracker"]}'
    if t["failed"]:
        assert t["tracker"] in ("uffd-wp", "pagemap-scan", "soft-dirty", "rw-scan"), f'{who}: {t["failed"]}'
        continue
    assert [c["case"] for c in t["cases"]] == names, who
    for key in ("harvests", "changed", "named", "missed", "false", "guest_ns", "harvest_ns"):
        assert t[key] == sum(c[key] for c in t["cases"]), (who, key)
    if not t["judged"]:
        assert t["false"] > t["changed"], f"{who}: it is wrong, and is not shown to be"
        continue
    assert t["changed"] > 5000 and not t["missed"], who
    false = sum(c["false"] for c in t["cases"]
                if t["tracker"] != "soft-dirty" or c["case"] not in ("large", "huge", "folios"))
    if t["tracker"] in ("wp-2m", "accessed", "rw-scan"):  # more than pages that were written, by what they are
        assert false, who
        continue
    assert not exact or not false, f"{who}: {false} pages that nobody wrote"
END
}

if [ "${2:-}" = kvm ]; then
    need_kvm
    run dirty check --mmu kvm --json "$work/c.json"
    [ "$rc" -eq 0 ] || fail "kvm: exit code $rc: $(cat "$work/err" "$work/out")"
    judge any
    exit $bad
fi

run dirty check --mmu shadow,tdp --json "$work/c.json"
[ "$rc" -eq 0 ] || fail "exit code $rc: $(cat "$work/err" "$work/out")"
judge exact
[ "$(grep -cE '^(shadow|tdp) ' "$work/out")" -eq "$(grep -c '"tracker": ' "$work/c.json")" ] ||
    fail "the table has not the trackers of the JSON"

run dirty check --mmu shadow --tracker wp --case failed,ends --json -
[ "$rc" -eq 0 ] && [ "$(grep -c '"case": ' "$work/out")" -eq 2 ] || fail "two cases were asked for"
run dirty check --case help
[ "$rc" -eq 0 ] && grep -q 'after: .*propolis' "$work/out" || fail "the cases do not say which bugs they are of"
for bad_line in "--case nonsense" "--tracker all" "--mmu qemu" "nonsense" ""; do
    # shellcheck disable=SC2086 # words
    run dirty ${bad_line:+${bad_line/#--/check --}}
    [ "$rc" -eq 2 ] && [ "$(wc -l < "$work/err")" -le 2 ] || fail "$bad_line: exit code $rc: $(cat "$work/err")"
done
run dirty check --mmu shadow --tracker bitmap
[ "$rc" -eq 2 ] && grep -q 'has such a tracker' "$work/err" || fail "no engine has it: exit code $rc"
exit $bad
