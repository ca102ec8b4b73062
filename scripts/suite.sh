# SPDX-License-Identifier: MIT
# Sourced: packages of any of Debian's suites, from the mirror that apt has here. Nothing is installed.
# The program that sources this has die(), which says its arguments and ends.
# shellcheck disable=SC2034

# The options of every apt-get and apt-cache.
apt=(-o APT::Sandbox::User=root)

debian_mirror() {
    local uri
    uri=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Label: Debian' | head -n 1)
    [ -n "$uri" ] || die "apt has no lists of a Debian mirror: run apt-get update"
    echo "$uri"
}

# apt_of DIR SUITE ARCH: give $apt lists of its own, in DIR/apt. A suite of backports stands on
# another one.
apt_of() {
    local dir=$1/apt suite=$2 arch=$3 mirror name
    mirror=$(debian_mirror) || exit
    mkdir -p "$dir"/lists/partial "$dir"/cache/archives/partial
    for name in "$suite" "${suite%-backports}"; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $name main"
    done | sort -u > "$dir/sources.list"
    apt+=(-o "Dir::Etc::sourcelist=$dir/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$dir/lists"
        -o "Dir::Cache=$dir/cache" -o Acquire::Languages=none -o "APT::Default-Release=$suite"
        -o "APT::Architecture=$arch" -o "APT::Architectures::=$arch")
}
