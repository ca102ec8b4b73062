# SPDX-License-Identifier: MIT
# Sourced: what a hypervisor in a guest boots. The test that sources this has work_folder of lib.sh.
# shellcheck shell=bash disable=SC2154

# pack FOLDER: what is in it becomes the initrd of that name.
pack() {
    (cd "$1" && find . | cpio -o -H newc -R 0:0 --quiet | gzip -1) > "$1.gz"
}

# make_inner BUSYBOX: $inner.gz, an initrd that says how many CPUs it has, works, and powers off.
make_inner() {
    inner=$work/inner
    mkdir -p "$inner"/{bin,proc}
    cp "$1" "$inner/bin/"
    cat > "$inner/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
echo "INNER UP $(/bin/busybox grep -c ^processor /proc/cpuinfo)"
i=0; while [ $i -lt 30 ]; do /bin/busybox true; i=$((i+1)); done
echo "INNER DOWN"
/bin/busybox poweroff -f
INIT
    chmod +x "$inner/init"
    pack "$inner"
}

# entries_of STATS: how often the run of that file entered its hypervisor's guest; it fails below 1000.
entries_of() {
    local entries
    entries=$(grep -o '"world_entries": *[0-9]*' "$1" | grep -o '[0-9]*$' | head -n 1)
    [ "${entries:-0}" -gt 1000 ] || fail "$1: the guest was entered ${entries:-0} times"
}
