# SPDX-License-Identifier: MIT
# Sourced: what the files of --stats say.

# value FILE KEY [N]: the Nth number or string of that key.
value() { sed -n "s/^ *\"$2\": \"\{0,1\}\([^\",]*\).*/\1/p" "$1" | sed -n "${3:-1}p"; }

# foreign FILE KEY: the hypervisor's counter of that name, of the VM or the first vCPU.
foreign() { sed -n '/"hypervisor_counters"/,$p' "$1" | sed -n "s/^ *\"$2\": \([0-9]*\).*/\1/p" | head -n 1; }

# frames NAME: the frames of each harvest in NAME.json (--dirty-pages), one line each,
# without those that the guest names as page tables in NAME.out (tables=1).
frames() {
    local name=$1 range first last f line
    local -A table=()
    for f in $(sed -n 's/^page tables: *\([^\r]*\).*/\1/p' "$name.out"); do
        table[$((16#$f))]=1
    done
    [ ${#table[@]} -gt 4 ] || echo "no page tables named"
    sed -n 's/^ *"gfns": "\([^"]*\)".*/\1/p' "$name.json" | while read -r line; do
        for range in $line; do
            first=$((16#${range%-*})) last=$((16#${range#*-}))
            for ((f = first; f <= last; f++)); do
                [ -n "${table[$f]-}" ] || echo -n "$f "
            done
        done
        echo
    done
}
