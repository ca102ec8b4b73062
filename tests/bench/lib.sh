# SPDX-License-Identifier: MIT
# Common to the tests of penumbra bench: a small benchmark, and a look into its result.
# shellcheck disable=SC2034
tiny=(touch:bytes=64K,rounds=1 remap:pages=8,rounds=1 exit:count=10)
soft=(--mmu shadow,tdp --warmup 0 --budget 100) # all repetitions, however busy the host

# value FILE MEMBER: the numbers of a member, in order (the JSON has one per line).
value() { sed -n "s/^ *\"$2\": \([^,]*\),\{0,1\}\$/\1/p" "$1"; }
