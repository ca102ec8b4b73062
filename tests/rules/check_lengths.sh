#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A function has at most 60 lines, its signature included; a file at most 800. Both are
# errors. Functions are found by clang-format's layout: the signature begins in the first
# column, and the closing brace stands alone there.
#
#   check_lengths.sh [TREE]
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"

find include src mmu bench tests -type f \( -name '*.[chS]' -o -name '*.inc' \
    -o -name '*.sh' -o -name '*.js' \) -print0 | sort -z | xargs -0 awk '
    function end_of_file() {
        if (lines > 800) {
            print file ": " lines " lines, more than 800"
            bad = 1
        }
    }
    FNR == 1 {
        end_of_file()
        file = FILENAME
        head = open = 0
    }
    { lines = FNR }
    FILENAME !~ /\.[ch]$/ { next }
    /^[A-Za-z_].*[^:]$/ { head = FNR; text = $0 }
    /\) *\{$/ && head && !open { open = head }
    /^}/ {
        if (open && FNR - open + 1 > 60) {
            print FILENAME ":" open ": " FNR - open + 1 " lines, more than 60: " text
            bad = 1
        }
        head = open = 0
    }
    END {
        end_of_file()
        exit bad
    }'
