#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Whose compiler made a penumbra and its embedded guest, as "GCC 12". What the documents show, exact to the
# last instruction, is of a guest by the one that winners.svg names: another one makes other instructions.
#
#   compiler.sh PENUMBRA
set -euo pipefail
readelf -p .comment "$1" | sed -n 's/.*] *\(GCC\|clang\).* \([0-9]*\)\.[0-9.]*.*/\1 \2/p' | head -n 1
