#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# check_floors.sh finds what it is for in a made-up mmu/, and nothing else.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cc=${CC:-cc}
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

# put FILE CALLED...: a source with a function of its own name that calls the others',
# and its object.
put() {
    local file=$1 called
    shift
    {
        echo '/* SPDX-License-Identifier: MIT */'
        [ -z "${include:-}" ] || echo "#include \"mmu/$include\""
        for called; do echo "void $called(void);"; done
        echo "void $(basename "$file" .c)(void);"
        echo "void $(basename "$file" .c)(void) {"
        for called; do echo "    $called();"; done
        echo '}'
    } > "$tree/mmu/$file"
    "$cc" -I "$tree" -c "$tree/mmu/$file" -o "$tree/objects/$file.o"
}
# clean: the tree in which each floor calls and includes what it may.
clean() {
    rm -rf "$tree"/{mmu,objects}
    cp -r "$tree"/clean/* "$tree"
}
# expect CODE "" | SAID: the whole answer.
expect() {
    local out code=0
    out=$("$here/check_floors.sh" "$tree" "$tree/objects" 2>&1) || code=$?
    [ "$code $out" = "$1 $2" ] && return
    echo "check_floors.sh said: ${out:-nothing} ($code); expected: ${2:-nothing} ($1)"
    exit 1
}

mkdir -p "$tree"/{mmu,objects}/{core,shadow,tdp,model} "$tree/clean"
touch "$tree"/mmu/{core,shadow}/a.h
put core/walk.c
include=core/a.h put shadow/sync.c walk
put tdp/fault.c walk
include=shadow/a.h put model/tree.c walk sync fault
put mmu.c walk sync fault tree
expect 0 ""
cp -r "$tree"/{mmu,objects} "$tree/clean"

put core/walk.c sync
expect 1 "mmu/core/walk.c: core may not call shadow (mmu/shadow/sync.c)
note: mmu/: a circle of 2 files: core/walk.c shadow/sync.c"
clean
put shadow/sync.c walk fault
expect 1 "mmu/shadow/sync.c: shadow may not call tdp (mmu/tdp/fault.c)"
clean
include=shadow/a.h put core/walk.c
expect 1 "mmu/core/walk.c: core may not include shadow (mmu/shadow/a.h)"

# The same files in a circle, with and without the fourth.
clean
put core/c1.c c2
put core/c2.c c3
put core/c3.c c1
expect 0 "note: mmu/: a circle of 3 files: core/c1.c core/c2.c core/c3.c"
put core/c3.c c4
put core/c4.c c1
expect 1 "mmu/: a circle of 4 files, at most 3: core/c1.c core/c2.c core/c3.c core/c4.c"

# An object of an older build, whose source is gone.
clean
put core/gone.c sync
expect 1 "mmu/core/gone.c: core may not call shadow (mmu/shadow/sync.c)"
rm "$tree/mmu/core/gone.c"
expect 0 ""

rm -r "$tree/objects" && mkdir "$tree/objects"
expect 2 "check_floors: no objects in $tree/objects"
