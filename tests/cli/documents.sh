#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Help, version, manual pages and completions: all from the tables of options.
#
#   documents.sh PENUMBRA FOLDER    the folder that the build made them in
. "$(dirname "$0")/lib.sh"
doc=$2
run help
commands=$(sed -n '/^Exit codes/q; s/^  \([a-z]*\)  *[^ ].*/\1/p' "$work/out" | grep -vx 'help\|version')
[ "$(wc -w <<< "$commands")" -ge 11 ] || fail "commands of help: $commands"

for c in $commands; do
    run "$c" --help
    cp "$work/out" "$work/help"
    run help "$c"
    [ "$rc" -eq 0 ] && cmp -s "$work/out" "$work/help" || fail "help $c is not $c --help"
    run "$c" --version
    [ "$rc" -eq 0 ] && grep -q '^penumbra [0-9.]*' "$work/out" || fail "$c --version"
    # Each option of the help stands in the manual page, and in both completions.
    while read -r option; do
        grep -qF -- "${option//-/\\-}" "$doc/penumbra-$c.1" || fail "penumbra-$c.1 has no $option"
        grep -qF -- "$option" "$doc/penumbra" && grep -qF -- "$option" "$doc/_penumbra" ||
            fail "the completions have no $option"
    done < <(grep -oE '^ +(-., )?--[a-z-]+' "$work/help" | grep -oE -- '--[a-z-]+')
done
for a in version --version -V -v -version; do
    run $a
    [ "$rc" -eq 0 ] && grep -Eq '^penumbra [0-9.]+( \([0-9a-z.-]+\))?$' "$work/out" || fail "$a: $(cat "$work/out")"
done
refused 2 help frob
run help
[ "$rc" -eq 0 ] && grep -q '^Usage' "$work/out" || fail help

# The pages are roff without a warning.
if command -v groff > /dev/null; then
    for page in "$doc"/*.1; do
        groff -ww -man -Tutf8 "$page" 2>&1 > "$work/page" | grep . && fail "$page: warnings"
        [ "$(wc -l < "$work/page")" -gt 15 ] || fail "$page: hardly anything in it"
    done
fi
! command -v zsh > /dev/null || zsh -n "$doc/_penumbra" || fail "_penumbra"

# Completion, as bash calls it. completes WANT WORD...: the last word is at the cursor.
. "$doc/penumbra"
completes() {
    local want=$1 got
    shift
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _penumbra
    got="${COMPREPLY[*]}"
    [ "$got" = "$want" ] || fail "completion of '$*': '$got', not '$want'"
}
cd "$work" || exit 1
mkdir files && cd files && touch vmlinuz vmlinux && cd .. || exit 1
completes "run replay" penumbra r
completes "run" penumbra ru
completes "compare" penumbra help com
completes "--summary" penumbra run --su
completes "--dirty-log= --dirty-every= --dirty-verify --dirty-pages" penumbra run --dirty
completes "shadow" penumbra run --mmu s
completes "shadow" penumbra run --mmu = s
completes "shadow tdp kvm" penumbra run --mmu =
completes "files/vmlinux files/vmlinuz" penumbra run -m 1G --kernel files/v
completes "" penumbra run --append x
completes "files/vmlinuz" penumbra trace files/vmlinuz
completes "--from=" penumbra trace --fr
completes "--kaslr=" penumbra faults --ka
exit $bad
