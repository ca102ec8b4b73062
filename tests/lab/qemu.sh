#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Which QEMU hosts the lab, where PENUMBRA_LAB_QEMU asks for one: prints the command that starts it.
#
#   qemu.sh --npt 0|1
#
# PENUMBRA_LAB_QEMU=installed is this host's; else it names one of Debian's suites (bookworm: 7.2, trixie: 10.0,
# trixie-backports: 11.1), whose packages and all that they need are unpacked beside the guests (qemu-SUITE); nothing
# is installed.
#
# npt=0 needs exits for reads of CR3 and CR4. QEMU 7.2's software CPU makes them. That of 10.0 and 11.1
# does not: a guest then sees KVM's own values, and Linux halts in its first page fault. 8 and 9 were
# not tried. So where this host's is newer than 7, npt=0 takes QEMU 7.2 of Debian 12; a newer one that
# was asked for is refused.
# Exit: 0; 1 with the reason when there is none.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)

die() { echo "lab: $*" >&2; exit 1; }
# shellcheck source=scripts/suite.sh
. "$top/scripts/suite.sh"
# shellcheck source=tests/unpack.sh
. "$top/tests/unpack.sh"

[ "${1-}" = --npt ] || die "see the top of $0"
npt=$2 suite=${PENUMBRA_LAB_QEMU:-installed}
newest_for_npt0=7
[[ $suite =~ ^[a-z][a-z0-9-]*$ ]] || die "PENUMBRA_LAB_QEMU is installed or names a suite of Debian's, as trixie, not $suite"

version() { "$@" --version | sed -n 's/^QEMU emulator version \([0-9]*\).*/\1/p'; }
hosts_npt0() { [ "$(version "$@")" -le $newest_for_npt0 ]; }

# Download and unpack into $1 what qemu-system-x86 of $suite needs; write the command.
unpack() {
    local work=$1
    unpack_program "$work" "$suite" qemu-system-x86
    cat > "$work/qemu" <<COMMAND
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/root
export QEMU_MODULE_DIR=\$root/$lib/qemu
exec "\$root/$lib/ld-linux-x86-64.so.2" --library-path "\$root/$lib:\$root/$lib/pulseaudio" \\
    "\$root/usr/bin/qemu-system-x86_64" -L "\$root/usr/share/qemu" -L "\$root/usr/share/seabios" "\$@"
COMMAND
    chmod +x "$work/qemu"
    [ -n "$(version "$work/qemu")" ] || die "QEMU of $suite does not start"
}

# Sets $qemu to the command of $suite's QEMU, which is made when it is missing.
unpacked() {
    local folder=${PENUMBRA_CACHE:-$top/.cache/guest} work
    folder=$(dirname "$folder")/qemu-$suite
    mkdir -p "$(dirname "$folder")"
    exec 9> "$(dirname "$folder")/.lock"
    flock 9
    if [ ! -x "$folder/qemu" ]; then
        work=$(mktemp -d "$folder.XXXXXX")
        trap 'rm -rf "$work"' EXIT
        unpack "$work"
        chmod 0755 "$work"
        rm -rf "$folder"
        mv "$work" "$folder"
        trap - EXIT
    fi
    exec 9>&-
    qemu=$folder/qemu
}

qemu=
if [ "$suite" != installed ]; then
    unpacked
    [ "$npt" = 1 ] || hosts_npt0 "$qemu" ||
        die "npt=0 needs QEMU 7.2: the software CPU of QEMU $(version "$qemu") makes no exit for reads of CR3"
else
    qemu=$(command -v qemu-system-x86_64) || die "qemu-system-x86_64 is not installed"
    if [ "$npt" = 0 ] && ! hosts_npt0 "$qemu"; then
        suite=bookworm
        unpacked
    fi
fi
echo "$qemu"
