#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A file that a comment or a .md names exists: a word that ends in .c, .h, .inc, .S, .sh or
# .md, with or without its folders. A pattern (kvm*.c) must match something.
# A path that begins with a folder of no room is another project's: arch/x86/kvm/x86.c is
# Linux's, kvmtool/kvm.c kvmtool's. Left out are <system headers> and code blocks of a .md.
#
#   check_names.sh [TREE]
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"

tops=()
for top in .ci .github bench cmake docs include mmu scripts src tests *.md Makefile CMakeLists.txt; do
    [ ! -e "$top" ] || tops+=("$top")
done
files=$(find "${tops[@]}" -type f ! -path '*/corpus/*' | sort)

awk '
    # Every way to name a file: its path, and each end of it.
    FNR == NR {
        n = split($0, part, "/")
        name = ""
        for (i = n; i >= 1; i--) {
            name = part[i] (name == "" ? "" : "/" name)
            known[name] = 1
            if (i < n)
                folder[part[i]] = 1
        }
        if ($0 ~ /\.([chS]|inc|sh|md|cmake|txt)$/ || $0 ~ /Makefile|\.ci\//)
            ARGV[ARGC++] = $0
        next
    }
    FNR == 1 { inside = 0 }

    function exists(name,   k, re) {
        sub(/^(\.\.?\/)+/, "", name)
        if (name in known)
            return 1
        if (name ~ /\*/) {
            re = name
            gsub(/\./, "\\.", re)
            gsub(/\*/, ".*", re)
            for (k in known)
                if (k ~ "^" re "$")
                    return 1
            return 0
        }
        k = name
        sub(/\/.*/, "", k)
        return name ~ /\// && !(k in folder)
    }

    # The comments of a line of C.
    function comments(line,   at, out) {
        out = ""
        while (line != "") {
            at = index(line, inside ? "*/" : "/*")
            if (inside)
                out = out " " (at ? substr(line, 1, at - 1) : line)
            if (!at)
                break
            line = substr(line, at + 2)
            inside = !inside
        }
        return out
    }

    {
        if (FILENAME ~ /\.([chS]|inc)$/)
            text = comments($0)
        else if (FILENAME ~ /\.md$/)
            text = /^    / ? "" : $0
        else
            text = match($0, /(^|[ \t])#/) ? substr($0, RSTART) : ""
        gsub(/<[a-z]+>/, "*", text) # load_<name>.c
        gsub(/<[^>]*>/, "", text)
        while (match(text, /[A-Za-z0-9_*.\/-]*[A-Za-z0-9_*]\.([chS]|inc|sh|md)/)) {
            name = substr(text, RSTART, RLENGTH)
            text = substr(text, RSTART + RLENGTH)
            if (text ~ /^[A-Za-z0-9_-]/ || exists(name))
                continue
            print FILENAME ":" FNR ": there is no " name
            bad = 1
        }
    }
    END { exit bad }' <(printf '%s\n' "$files")
