# SPDX-License-Identifier: MIT
# Inside the lab, for debian.sh: a Debian on the lab's drive, by KVM.
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
    [ -d /sys/module/$module ] || insmod /lab/$module.ko || exit 1
done
ifconfig lo up
mkfifo /tmp/keys
: > /tmp/out
./penumbra run --mmu kvm -m 512M --disk /dev/vda,snapshot --net user,open,hostfwd=tcp::2222-:22 --device rng --kernel vmlinuz \
    --initrd initrd.img --append "console=ttyS0 root=/dev/vda rw systemd.default_timeout_start_sec=900 systemd.default_device_timeout_sec=900" --timeout 1300 < /tmp/keys > /tmp/out 2> /tmp/err &
guest=$!
exec 3> /tmp/keys
until_says() { # PATTERN
    echo "waits for '$1'" > /dev/console
    until grep -q "$1" /tmp/out; do
        kill -0 $guest 2> /dev/null && [ "$(cut -d. -f1 /proc/uptime)" -lt 1200 ] || {
            echo "no '$1': $(cat /tmp/err) $(tail -n 5 /tmp/out)"
            exit 1
        }
        sleep 1
    done
}
until_says 'login: '
echo "login after $(cut -d. -f1 /proc/uptime) s"
echo root >&3
until_says '# '
echo 'until ip -4 -o address show scope global | grep 10.0.2.; do sleep 1; done; echo kernel $(uname -r), and a network' >&3
until_says '^kernel .* network'
grep -o '^kernel .*' /tmp/out
until nc -w 20 127.0.0.1 2222 < /dev/null > /tmp/greeting && grep -a SSH- /tmp/greeting; do
    until_says .
    sleep 1
done
echo 'systemctl poweroff' >&3
wait $guest
code=$?
grep -q 'Power down' /tmp/out || code=1
echo "exit code $code"
exit $code
