#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The floors of mmu/, by what its objects call (ARCHITECTURE.md, "The floors of mmu/"):
# - core/ calls nothing of shadow/, tdp/ and model/ by name; shadow/ and tdp/ do not know
#   each other; model/ may call them all, and mmu.c, the roof, too
# - no circle of calls has more than three files
# - the same floors hold for who includes whom
#
#   check_floors.sh TREE OBJECTS    TREE: with mmu/ in it; OBJECTS: a folder with its .o files
set -euo pipefail
[ $# -eq 2 ] && [ -d "$1/mmu/core" ] || { echo "usage: check_floors.sh TREE OBJECTS" >&2; exit 2; }
tree=$1 objects=$2
most=3 # files of a circle

# floor: the floors that it may call and include, besides itself.
floors='core:
shadow: core
tdp: core
model: core shadow tdp
roof: core shadow tdp model'

includes() {
    (cd "$tree/mmu" && grep -HoE '^#include "mmu/[^"]*"' -- *.c */*.[ch]) |
        sed -E 's/^([^:]*):#include "mmu\/([^"]*)"/\1 \2/'
}

# Objects whose source has gone are left from an older build.
calls() {
    find . -name '*.o' | sed 's/^\.\///' | while IFS= read -r o; do
        [ ! -f "$tree/mmu/${o%.o}" ] || echo "$o"
    done | xargs -r nm -A -P |
        sed -E 's/\.o(\[[^]]*\])?: / /' |
        awk '$3 ~ /[TDRBV]/ { at[$2] = $1 } $3 == "U" { from[++n] = $1; to[n] = $2 }
             END { for (i = 1; i <= n; i++) if (to[i] in at) print from[i], at[to[i]] }' |
        sort -u
}

cd "$tree"
tree=$PWD
cd "$OLDPWD"
objects=$(cd "$objects" && pwd)
all=$(cd "$objects" && calls)
[ -n "$all" ] || { echo "check_floors: no objects in $objects" >&2; exit 2; }

{
    sed 's/^/floor /' <<<"$floors"
    includes | sed 's/^/include /'
    sed 's/^/call /' <<<"$all"
} | awk -v most=$most '
    function floor_of(file) { return file ~ /\// ? substr(file, 1, index(file, "/") - 1) : "roof" }
    $1 == "floor" { sub(":", "", $2); for (i = 3; i <= NF; i++) may[$2, $i] = 1; next }
    {
        a = floor_of($2); b = floor_of($3)
        if (a != b && !((a, b) in may)) {
            print "mmu/" $2 ": " a " may not " $1 " " b " (mmu/" $3 ")"
            bad = 1
        }
    }
    $1 == "call" && $2 != $3 {
        reach[$2, $3] = 1
        if (!($2 in seen)) { seen[$2] = 1; name[++n] = $2 }
        if (!($3 in seen)) { seen[$3] = 1; name[++n] = $3 }
    }
    END {
        for (k = 1; k <= n; k++)
            for (i = 1; i <= n; i++)
                if ((name[i], name[k]) in reach)
                    for (j = 1; j <= n; j++)
                        if ((name[k], name[j]) in reach)
                            reach[name[i], name[j]] = 1
        for (i = 1; i <= n; i++) {
            if (name[i] in told)
                continue
            size = 1; circle = name[i]
            for (j = 1; j <= n; j++)
                if (j != i && (name[i], name[j]) in reach && (name[j], name[i]) in reach) {
                    size++; circle = circle " " name[j]; told[name[j]] = 1
                }
            if (size > most) {
                print "mmu/: a circle of " size " files, at most " most ": " circle
                bad = 1
            } else if (size > 1) {
                print "note: mmu/: a circle of " size " files: " circle
            }
        }
        exit bad
    }'
