#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# check_lengths.sh and check_names.sh find what they are for, and nothing else.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{include/penumbra,src/cpu,mmu,bench,tests}

# function LINES: one of that many lines, with a signature on two.
function_of() {
    printf 'static int f(int a,\n             int b) {\n'
    yes '    a++;' | head -n $(($1 - 3)) || true
    printf '}\n'
}
# expect CHECK "" | the start of its complaint: and its exit code accordingly.
expect() {
    local out bad=0
    out=$("$here/$1" "$tree") || bad=1
    case $out in
    "$2"*) [ -n "$out" ] && [ -n "$2" ] && [ $bad = 1 ] && return ;;
    esac
    [ -z "$out$2" ] && [ $bad = 0 ] && return
    echo "$1 said: ${out:-nothing} ($bad); expected: ${2:-nothing}"
    exit 1
}

function_of 60 > "$tree/src/cpu/a.c"
printf '\nstruct s x[] = {\n' >> "$tree/src/cpu/a.c"
yes '    {1},' | head -n 100 >> "$tree/src/cpu/a.c" || true
echo '};' >> "$tree/src/cpu/a.c"
expect check_lengths.sh ""
function_of 61 >> "$tree/src/cpu/a.c"
expect check_lengths.sh "src/cpu/a.c:164: 61 lines, more than 60"
yes '/* */' | head -n 800 > "$tree/src/cpu/a.c" || true
expect check_lengths.sh ""
echo >> "$tree/src/cpu/a.c"
expect check_lengths.sh "src/cpu/a.c: 801 lines, more than 800"

# name TEXT: a comment with it.
name() {
    printf '/*\n * %s\n */\nint gone_c; char s[] = "gone.c";\n' "$1" > "$tree/src/cpu/a.c"
}
touch "$tree/mmu/walk.c"
for fine in walk.c mmu/walk.c 'mmu/w*.c' 'w<what>.c' arch/x86/kvm/x86.c '<gone.h>'; do
    name "see $fine, and more"
    expect check_names.sh ""
done
for gone in gone.c cpu/walk.c 'walk*.h' mmu/gone.S src/cpu/gone.inc GONE.md; do
    name "see $gone"
    expect check_names.sh "src/cpu/a.c:2: there is no $gone"
done
name nothing
printf 'See `walk.c`.\n\n    cc gone.c\n\nSee [it](gone.md).\n' > "$tree/README.md"
expect check_names.sh "README.md:5: there is no gone.md"
rm "$tree/README.md"
printf '#!/bin/sh\n# As walk.c.\nrun gone.sh\n' > "$tree/tests/a.sh"
expect check_names.sh ""
hash='#'
echo "true $hash see gone.sh" >> "$tree/tests/a.sh"
expect check_names.sh "tests/a.sh:4: there is no gone.sh"
