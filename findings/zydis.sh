# SPDX-License-Identifier: MIT
# For the findings about Zydis: sourced. In a folder of its own, which is gone at the end, `see` compiles
# see.c beside the packages, runs it, and compares what it prints with want.
set -euo pipefail
version=4.0.0-1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
die() { echo "$(basename "$0"): $*" >&2; exit 2; }

cd "$work"
apt-get -q -o APT::Sandbox::User=root download "libzydis4.0=$version" "libzydis-dev=$version" libzycore1.4 \
    libzycore-dev > log 2>&1 || die "apt-get: $(grep -m 1 '^E:' log)"
for deb in ./*.deb; do
    dpkg-deb -x "$deb" root
done

see() {
    local lib=root/usr/lib/x86_64-linux-gnu
    cc -Iroot/usr/include -o see see.c -L"$lib" -lZydis -lZycore 2> log || die "$(head -n 1 log)"
    LD_LIBRARY_PATH=$lib ./see | tee got
    cmp -s want got || { echo "$(basename "$0"): the behaviour has changed" >&2; exit 1; }
}
