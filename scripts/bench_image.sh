#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The disk of `penumbra bench debian.*`: a Debian with the programs that are measured (penumbra image), and the
# scripts and pn-linux that measure them.
#
#   bench_image.sh        prints the disk, .cache/debian-bench/disk, which it makes where there is none; where the scripts on it are old
#                         another takes its place, and who has it open keeps it
#
# In the source tree scripts/bench_image.sh, installed penumbra-bench-image. PENUMBRA_CACHE is as for guest.sh.
set -euo pipefail
top=$(dirname "$(dirname "$(readlink -f "$0")")")
die() { echo "bench image: $*" >&2; exit 1; }
[ $# -eq 0 ] || die "takes no argument"
if [ -d "$top/bench/debian" ]; then # the source tree
    files=$top/bench/debian cache=${PENUMBRA_CACHE:-$top/.cache/guest} image=$top/scripts/image.sh
    program=$(ls -t "$top"/build/*/bench/linux/pn-linux 2> /dev/null | head -n 1) || true
else
    files=$top/share/penumbra/debian image=$top/bin/penumbra-image program=$top/libexec/penumbra/pn-linux
    cache=${PENUMBRA_CACHE:-${XDG_CACHE_HOME:-~/.cache}/penumbra/guest}
fi
[ -f "$program" ] || die "pn-linux is not built: it needs a static libc"
packages=gcc,libc6-dev,make,zlib1g-dev,linux-headers-cloud-amd64,sqlite3,postgresql,redis-server,redis-tools,openssl,python3,sysbench,stress-ng
packages+=,default-jdk-headless,iperf3,fio
folder=$(dirname "$cache")/debian-bench disk=$folder/disk
mkdir -p "$folder"
exec 9> "$folder/lock"
flock 9
[ -f "$disk.cmdline" ] || "$image" "$disk" --release bookworm --size 4G --packages "$packages" >&2
# Scripts and program, by their content: a disk that has them is left alone.
stamp=$(cat "$files"/*.sh "$program" | sha256sum)
if [ "$(cat "$folder/stamp" 2> /dev/null)" != "$stamp" ]; then
    # Beside it, with its name in the end: who runs from the disk keeps the one that he has.
    trap 'rm -f "$disk.part"' EXIT
    cp --sparse=always --reflink=auto "$disk" "$disk.part"
    {
        echo mkdir /usr/local/lib/penumbra
        while read -r from to; do
            printf 'rm %s\nwrite %s %s\nsif %s mode 0100755\nsif %s uid 0\nsif %s gid 0\n' "$to" "$from" "$to" "$to" "$to" "$to"
        done << LIST
$files/init.sh /usr/local/lib/penumbra/init
$files/program.sh /usr/local/lib/penumbra/program
$files/programs.sh /usr/local/lib/penumbra/programs.sh
$program /usr/local/bin/pn-linux
LIST
    } | PATH=$PATH:/usr/sbin debugfs -w -f /dev/stdin "$disk.part?offset=1048576" > "$folder/log" 2>&1
    ! grep -v 'File not found\|already exists\|^debugfs' "$folder/log" | grep -i 'error\|no space\|cannot' >&2 || die "$disk: the programs"
    mv "$disk.part" "$disk"
    echo "$stamp" > "$folder/stamp"
fi
echo "$disk"
