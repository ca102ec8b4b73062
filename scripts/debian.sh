#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Another Debian than this one: a container of it (mmdebstrap), and in it `make demo` and `make test`
# of a clean clone of HEAD. Needs root: it mounts. All mounts are in a mount namespace of their
# own, and all processes in a PID namespace of their own: both are gone when this program is, whatever
# ended it.
#
#   debian.sh [--suite SUITE] [--folder DIR] [--fresh | --keep] [--kvm] [COMMAND...]
#
# SUITE: trixie (Debian 13, the default), forky, ... of apt's mirror here.
# DIR: what stays: root/ (the container), cache/ (the guests; .cache of the clone). Default
#   penumbra/SUITE in the user's cache. It has to be outside the source tree.
# --fresh: make the container anew. What scripts/setup.sh has installed in it stays otherwise.
# --keep: what was built in the clone stays, and is brought to HEAD. It is cloned anew otherwise.
# --kvm: the container has this host's /dev/kvm. Without it the tests of the label host-kvm are left out.
# COMMAND: instead of make demo and make test; runs in the clone.
# Exit: COMMAND's, or that of the first make that failed; 2 bad option, 1 no container.
set -euo pipefail
top=$(dirname "$(dirname "$(readlink -f "$0")")")

die() { echo "debian: $*" >&2; exit 1; }
# shellcheck source=scripts/suite.sh
. "$top/scripts/suite.sh"
usage() { echo "debian: $*" >&2; exit 2; }

# ---- Inside the namespaces, as their first process ----

# Give the container what programs expect, and nothing of this host's but the network.
mount_container() {
    local root=$1 cache=$2 kvm=$3 name
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    for name in null zero full random urandom tty $kvm; do
        touch "$root/dev/$name"
        mount --bind "/dev/$name" "$root/dev/$name"
    done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    for name in 0:stdin 1:stdout 2:stderr; do
        ln -s "/proc/self/fd/${name%:*}" "$root/dev/${name#*:}"
    done
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    mount --bind "$cache" "$root/penumbra/.cache"
}

if [ "${1-}" = --inside ]; then
    shift
    mount_container "$1" "$2" "$3" || die "cannot mount the container"
    root=$1
    shift 3
    env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        TERM="${TERM:-dumb}" DEBIAN_FRONTEND=noninteractive chroot "$root" sh -c 'cd /penumbra && "$@"' sh "$@" &
    wait $!
    exit
fi

# ---- Outside ----

suite=trixie folder='' fresh='' keep='' kvm='' command=()
while [ $# -gt 0 ]; do
    case $1 in
    --suite) suite=${2-} && shift ;;
    --folder) folder=${2-} && shift ;;
    --fresh) fresh=1 ;;
    --keep) keep=1 ;;
    --kvm) kvm=kvm ;;
    --help)
        sed -n '3,/^set /{/^#/!d;s/^# \{0,1\}//;p}' "$0"
        exit
        ;;
    -*) usage "unknown option $1: see --help" ;;
    *)
        command=("$@")
        break
        ;;
    esac
    shift || usage "the last option needs a value"
done
[[ $suite =~ ^[a-z][a-z0-9-]*$ ]] || usage "--suite needs the name of a suite, as trixie"
standard=${XDG_CACHE_HOME:-~/.cache}/penumbra/$suite
folder=$(realpath -m "${folder:-$standard}")
case $folder/ in "$top"/*) usage "--folder has to be outside the source tree: $folder" ;; esac
[ "$(id -u)" -eq 0 ] || die "needs root, because it mounts: sudo make test-debian13"
for tool in mmdebstrap unshare git; do
    command -v $tool > /dev/null || die "needs $tool: scripts/setup.sh container"
done
[ -z "$kvm" ] || [ -c /dev/kvm ] || die "--kvm: this host has no /dev/kvm"

make_container() {
    local uri old
    uri=$(debian_mirror) || exit
    # A mirror that stands still has suites whose lists have expired, where apt here may take them.
    old=$(apt-config dump Acquire::Check-Valid-Until)
    rm -rf --one-file-system "$folder/root" "$folder/root.part"
    echo "debian: making a container of $suite in $folder" >&2
    trap 'rm -rf --one-file-system "$folder/root.part"' EXIT
    unshare --mount mmdebstrap --mode=root --variant=minbase --include=ca-certificates,make --quiet ${old:+--aptopt="$old"} \
        "$suite" "$folder/root.part" "$uri" || die "mmdebstrap cannot make a container of $suite from $uri"
    mv "$folder/root.part" "$folder/root"
    trap - EXIT
}

mkdir -p "$folder/cache"
exec 9> "$folder/lock"
flock -n 9 || die "another debian.sh uses $folder"
if [ -n "$fresh" ] || [ ! -d "$folder/root" ]; then
    make_container
fi
cp -L /etc/resolv.conf /etc/hosts "$folder/root/etc/"

# What is not committed does not come along, and without --keep nothing of an earlier clone.
clone=$folder/root/penumbra
head=$(git -C "$top" rev-parse HEAD)
if [ -n "$keep" ] && [ -d "$clone/.git" ]; then
    git -C "$clone" fetch -q "$top" HEAD && git -C "$clone" reset -q --hard "$head" || die "cannot bring $clone to HEAD"
else
    rm -rf --one-file-system "$clone"
    git clone -q "$top" "$clone" || die "cannot clone $top"
fi
mkdir -p "$clone/.cache"
[ -z "$(git -C "$top" status --porcelain)" ] ||
    echo "debian: what is not committed is not in the clone" >&2
[ ${#command[@]} -gt 0 ] || command=(sh -c 'make demo && make test')
echo "debian: $suite, $(git -C "$clone" log -1 --format='%h %s'): ${command[*]}" >&2

trap 'kill -KILL $inside 2> /dev/null; exit 143' TERM HUP
trap 'kill -KILL $inside 2> /dev/null; exit 130' INT
unshare --mount --pid --fork --kill-child "$0" --inside "$folder/root" "$folder/cache" "$kvm" "${command[@]}" 9>&- &
inside=$!
wait $inside
