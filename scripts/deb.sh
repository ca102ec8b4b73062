#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Debian packages of the tree as it is, into build/deb: penumbra, libpenumbra-mmu0 and
# libpenumbra-mmu-dev; lintian must have nothing to say.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^project(penumbra VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
work=build/deb/penumbra-$version
rm -rf build/deb
mkdir -p "$work"
git ls-files -z | tar --null -T - -c | tar -x -C "$work"
cp -r packaging/debian "$work/debian"
# build-essential has what is left out.
depends=$(awk '$1 == "build" && $2 !~ /^(gcc|libc6-dev|make)$/ { printf "%s%s", sep, $2; sep = ", " }' scripts/packages.txt)
sed "s/@BUILD_DEPENDS@/$depends/" "$work/debian/control.in" > "$work/debian/control"
sed "s/@VERSION@/$version/; s/@DATE@/$(git log -1 --format=%cD)/" "$work/debian/changelog.in" > "$work/debian/changelog"
rm "$work"/debian/*.in
(cd "$work" && dpkg-buildpackage -b -us -uc > ../log 2>&1) || {
    tail -n 30 build/deb/log
    exit 1
}
lintian --allow-root --fail-on error,warning build/deb/*.changes
ls build/deb/*.deb
