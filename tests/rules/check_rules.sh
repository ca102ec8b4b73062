#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The house rules that a machine can check (ARCHITECTURE.md, CONTRIBUTING.md):
# - a room includes only itself, the rooms below it, and include/penumbra
# - only src/engine/kvm*.c includes <linux/kvm.h> (and bench/startup/least.c, a VMM of its own)
# - only the decoder and encoder files of src/cpu include Zydis
# - exit() and its kin stand in src/cli alone
# - every source names its licence
# Files over 800 lines are named, but are no error.
#
#   check_rules.sh [TREE]
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"

# room: the rooms whose headers it may include (its own and include/penumbra always).
rooms='base:
trace: base
mmu: base
dev: base
cpu: mmu base
engine: cpu mmu base
machine: engine cpu mmu dev base
inspect: machine engine cpu mmu dev trace base
cli: inspect machine engine cpu mmu dev trace base bench
bench: inspect machine engine cpu mmu dev trace base'

mapfile -t files < <(find include src mmu bench tests -type f \( -name '*.[chS]' -o -name '*.inc' \) | sort)

# One pass over all lines of all files. Folders of src/ are rooms, whatever they hold.
awk -v rooms="$rooms" -v folders="$(cd src && echo */)" '
    function complain(text) { print FILENAME ":" FNR ": " text; bad = 1 }
    # The room a path belongs to, or nothing.
    function room_of(path,  part) {
        split(path, part, "/")
        return part[1] == "src" && part[3] != "" ? part[2] : part[1] ~ /^(mmu|bench)$/ ? part[1] : ""
    }
    # The room that an include names. Paths are written from src/ or from the top, or the
    # file lies beside its includer.
    function room_of_include(name,  part) {
        if (split(name, part, "/") > 1) {
            if (part[1] ~ /^(penumbra|mmu|bench)$/)
                return part[1]
            if (part[1] in folder)
                return part[1]
        }
        return room
    }
    function end_of_file() {
        if (lines > 800)
            print "note: " file " has " lines " lines; does it hold one subject?"
        lines = 0
    }
    BEGIN {
        n = split(rooms, line, "\n")
        for (i = 1; i <= n; i++) {
            m = split(line[i], word, " ")
            for (j = 2; j <= m; j++)
                may[substr(word[1], 1, length(word[1]) - 1), word[j]]
        }
        n = split(folders, word, " ")
        for (i = 1; i <= n; i++)
            folder[substr(word[i], 1, length(word[i]) - 1)]
    }
    FNR == 1 {
        end_of_file()
        seen[file = FILENAME]
        room = room_of(file)
        if (!/SPDX-License-Identifier: MIT/)
            complain("no SPDX line")
        test = file ~ /^tests\//
    }
    { lines++ }
    /#[ \t]*include[ \t]*["<]/ {
        if (/^[ \t]*#[ \t]*include[ \t]*"/ && room != "") {
            name = $0
            sub(/^[^"]*"/, "", name)
            sub(/".*/, "", name)
            target = room_of_include(name)
            if (target != "penumbra" && target != room && !((room, target) in may))
                complain("room " room " may not include " name " (room " target ")")
        }
        if (file ~ /^include\/penumbra\/[^\/]*$/ && /include[ \t]*"/ && !/"penumbra\//)
            complain("include/penumbra includes only penumbra/: " $0)
        if (/include[ \t]*<linux\/kvm/ && !test && file != "bench/startup/least.c" &&
            file !~ /^src\/engine\/kvm[a-z_]*\.[ch]$/)
            complain("only src/engine/kvm*.c includes <linux/kvm.h>")
        if (/include[ \t]*[<"]Zydis/ && !test &&
            file !~ /^src\/cpu\/(decode|disasm|shape|lower|emit|encode)[a-z_]*\.[ch]$/)
            complain("only the decoder and encoder files of src/cpu include Zydis")
    }
    /exit|_Exit/ && file !~ /^(src\/cli|tests|bench)\// && !/^[ \t]*(\*|\/\*|\/\/)/ &&
    /(^|[^a-zA-Z0-9_.>])(exit|_exit|_Exit|quick_exit)[ \t]*\(/ {
        complain("ends the process outside src/cli:" $0)
    }
    END {
        end_of_file()
        for (i = 1; i < ARGC; i++)
            if (!(ARGV[i] in seen)) { # an empty file
                print ARGV[i] ":1: no SPDX line"
                bad = 1
            }
        exit bad
    }' "${files[@]}"
