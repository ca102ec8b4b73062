# SPDX-License-Identifier: MIT
# Sourced: programs of another of Debian's suites, unpacked with all that they need; nothing is installed. The
# program that sources this has die(), and has sourced scripts/suite.sh.
# shellcheck shell=bash disable=SC2154
lib=usr/lib/x86_64-linux-gnu

# unpack_program DIR SUITE PACKAGE: download and unpack it into DIR/root.
unpack_program() {
    local work=$1 suite=$2 package=$3 root=$1/root dir deb
    command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null || die "needs apt-get and dpkg-deb (Debian)"
    apt_of "$work" "$suite" amd64
    : > "$work/status" # as if nothing were installed: the libraries come, too
    apt+=(-o "Dir::State::status=$work/status" -o Debug::NoLocking=1)
    echo "downloading $package of $suite" >&2
    apt-get "${apt[@]}" update -q >&2 || die "apt-get update of $suite failed"
    apt-get "${apt[@]}" install -q -y --no-install-recommends --download-only "$package" >&2 ||
        die "apt cannot give $package of $suite"
    mkdir "$root"
    # Since Debian 13 /lib and the like are links that no package makes but base-files.
    for dir in bin lib lib64 sbin; do
        mkdir -p "$root/usr/$dir"
        ln -s "usr/$dir" "$root/$dir"
    done
    for deb in "$work"/apt/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink --no-same-owner \
            --exclude=./usr/share/doc --exclude=./usr/share/locale --exclude=./etc || die "cannot unpack $deb"
    done
    (cd "$work/apt/cache/archives" && sha256sum ./*.deb) > "$work/manifest"
    rm -rf "$work/apt" "$work/status"
}
