#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The check itself: a tree that breaks each rule once must be told so, line by line.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{include/penumbra,src/{base,dev,cpu,cli,engine},mmu,bench,tests}
spdx='/* SPDX-License-Identifier: MIT */'
put() { printf '%s\n' "$spdx" "$2" > "$tree/$1"; }

put include/penumbra/a.h '#include "penumbra/b.h"'
put src/base/a.c '#include "base/a.h"'
put src/cli/a.c 'void f(void) { exit(1); }'
put src/engine/kvm_a.c '#include <linux/kvm.h>'
put src/cpu/decode.c '#include <Zydis/Zydis.h>'
put src/cpu/ok.c '#include "mmu/x.h"'
"$here/check_rules.sh" "$tree" || { echo "a clean tree is refused"; exit 1; }

expect() {
    local out
    if out=$("$here/check_rules.sh" "$tree"); then
        echo "not found: $1"
        exit 1
    fi
    grep -q "^$1:" <<<"$out" || { echo "wrong answer for $1: $out"; exit 1; }
    rm "$tree/$1"
}
put mmu/a.c '#include "cpu/cpu.h"' && expect mmu/a.c
put src/base/b.c '#include "dev/dev.h"' && expect src/base/b.c
put src/dev/a.c '#include "mmu/internal.h"' && expect src/dev/a.c
put src/engine/soft.c '#include <linux/kvm.h>' && expect src/engine/soft.c
put src/cpu/run.c '#include <Zydis/Zydis.h>' && expect src/cpu/run.c
put mmu/b.c 'void f(void) { _exit(1); }' && expect mmu/b.c
put include/penumbra/c.h '#include "base/size.h"' && expect include/penumbra/c.h
echo 'int x;' > "$tree/src/base/c.c" && expect src/base/c.c
