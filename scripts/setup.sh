#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Install the Debian packages of the named groups (packages.txt) that are missing.
# Quick when all are there. Needs root or sudo only when something is missing.
#
#   scripts/setup.sh GROUP...
set -euo pipefail
cd "$(dirname "$0")"

wanted=()
while read -r group package _; do
    case $group in '' | \#*) continue ;; esac
    for g in "$@"; do
        if [ "$g" = "$group" ]; then wanted+=("$package"); fi
    done
done < packages.txt
if [ ${#wanted[@]} -eq 0 ]; then
    echo "setup: no such group: $*" >&2
    exit 2
fi
if ! command -v dpkg-query >/dev/null; then
    echo "setup: not a Debian system; install yourself: ${wanted[*]}" >&2
    exit 0
fi

missing=()
installed=$(dpkg-query -W -f='${db:Status-Abbrev}${Package}\n' "${wanted[@]}" 2>/dev/null || true)
for p in "${wanted[@]}"; do
    grep -qx "ii  *$p" <<<"$installed" || missing+=("$p")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "setup: missing packages, and neither root nor sudo: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
echo "setup: installing ${missing[*]}" >&2
"${as_root[@]}" apt-get update -q >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
