#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A babeltrace2 that reads CTF 2: prints the command that starts it.
#
#   babeltrace.sh [--download]
#
# It is this host's where that is 2.1 or newer, as Debian 13's is. Else it is Debian 13's, unpacked with all
# that it needs beside the guests (babeltrace2-trixie), which --download does; nothing is installed.
# Exit: 0; 1 with the reason when there is none.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)

die() { echo "babeltrace2: $*" >&2; exit 1; }
# shellcheck source=scripts/suite.sh
. "$top/scripts/suite.sh"
# shellcheck source=tests/unpack.sh
. "$top/tests/unpack.sh"
suite=trixie

# Download and unpack into $1 what babeltrace2 of $suite needs; write the command.
unpack() {
    local work=$1
    unpack_program "$work" "$suite" babeltrace2
    cat > "$work/babeltrace2" <<COMMAND
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/root
export BABELTRACE_PLUGIN_PATH="\$root/$lib/babeltrace2/plugins" LIBBABELTRACE2_PLUGIN_PROVIDER_DIR="\$root/$lib/babeltrace2/plugin-providers"
exec "\$root/$lib/ld-linux-x86-64.so.2" --library-path "\$root/$lib" "\$root/usr/bin/babeltrace2" "\$@"
COMMAND
    chmod 0755 "$work" "$work/babeltrace2"
}

version=$(babeltrace2 --version 2> /dev/null | sed -n 's/^Babeltrace \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
read -r major minor <<< "${version:-0 0}"
if [ "$major" -gt 2 ] || { [ "$major" -eq 2 ] && [ "$minor" -ge 1 ]; }; then
    command -v babeltrace2
    exit
fi
cache=${PENUMBRA_CACHE:-$top/.cache/guest}
folder=$(dirname "$cache")/babeltrace2-$suite
if [ ! -x "$folder/babeltrace2" ]; then
    [ "${1-}" = --download ] || die "this host's is older than 2.1, and none is in $folder"
    mkdir -p "$(dirname "$folder")"
    exec 9> "$(dirname "$folder")/.lock"
    flock 9
    work=$(mktemp -d "$folder.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    unpack "$work"
    rm -rf "$folder"
    mv "$work" "$folder"
    trap - EXIT
fi
echo "$folder/babeltrace2"
