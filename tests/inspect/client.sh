#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# client.py under both MMUs.
. "$(dirname "$0")/../cli/lib.sh"
for mmu in shadow tdp; do
    timeout 200 python3 "$(dirname "$0")/client.py" "$penumbra" $mmu "$work" > "$work/why" 2>&1 ||
        fail "$mmu: $(tail -n 3 "$work/why")"
done
exit $bad
