#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# OpenSSL, and glibc's string functions, choose their code by CPUID. On --cpu max they choose
# AVX-512 and the like where the host has them, and their results are those on the host.
#
#   arithmetic.sh PENUMBRA STRINGS MMU
#
# STRINGS: pn-strings, built from strings.c. The guest has the host's openssl, its libraries and the
# same script. Exit: 0, 1 with what is wrong, 77 when packages are not there (skipped).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1 strings=$2 mmu=$3
. "$here/../lib.sh"
command -v openssl > /dev/null || skip "openssl is not installed"
need_guest
work_folder

# Bits of OPENSSL_ia32cap's first and second half that select code: PCLMULQDQ, SSSE3, MOVBE, AES,
# AVX; BMI1, AVX2, BMI2, AVX512F, DQ, ADX, IFMA, SHA, BW, VL, VBMI2's neighbours VAES, VPCLMULQDQ.
caps=(0x1240020200000000 0x00000600e02b0128)

interpreter=$(ldd "$(command -v openssl)" | awk '$1 ~ /^\// { print $1 }')
tree=$work/tree
mkdir -p "$tree/bin" "$tree/lib64" "$tree/lib/x86_64-linux-gnu" "$tree/data"
cp "$(command -v openssl)" "$strings" "$tree/bin/"
cp -L "$interpreter" "$tree/lib64/"
ldd "$(command -v openssl)" | awk '$3 ~ /^\// { print $3 }' | xargs cp -L -t "$tree/lib/x86_64-linux-gnu/"
(
    cd "$tree/data" || exit
    seq 1 40000 > text
    openssl genrsa -out key 2048
    openssl cms -encrypt -binary -in text -outform DER -out message -aes-256-gcm \
        -secretkey 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f -secretkeyid 01
) 2> /dev/null

cat > "$tree/data/run" << 'END'
for digest in md5 sha1 sha224 sha256 sha384 sha512 sha512-256 sha3-256 sha3-512 shake128 blake2b512 sm3; do
    echo $digest $(openssl dgst -$digest -r < text)
done
key=000102030405060708090a0b0c0d0e0f iv=0f0e0d0c0b0a09080706050403020100
for cipher in aes-128-ecb aes-128-cbc aes-192-ctr aes-256-cfb camellia-128-cbc chacha20; do
    case $cipher in aes-192*) long=${key}0011223344556677 ;; *256* | chacha*) long=$key$key ;; *) long=$key ;; esac
    echo $cipher $(openssl enc -$cipher -K $long -iv $iv -in text 2> /dev/null | openssl dgst -sha256 -r)
done
echo gmac $(openssl mac -cipher AES-256-GCM -macopt hexkey:$key$key -macopt hexiv:00112233445566778899aabb -in text GMAC)
echo poly1305 $(openssl mac -macopt hexkey:$key$key -in text Poly1305)
echo gcm $(openssl cms -decrypt -binary -in message -inform DER -secretkey $key'101112131415161718191a1b1c1d1e1f' -secretkeyid 01 | openssl dgst -sha256 -r)
echo rsa $(openssl dgst -sha256 -sign key text | openssl dgst -sha256 -r)
pn-strings
END

# results FILE: the lines of the script.
results() { tr -d '\r' < "$1" | sed -n '/^RESULTS/,/^END/p' | grep -v '^[RE][EN]'; }
# cap FILE N: half N of OPENSSL_ia32cap.
cap() { tr -d '\r' < "$1" | sed -n 's/^OPENSSL_ia32cap=//p' | cut -d: -f"$2"; }
script='echo RESULTS; sh ./run; echo END; openssl info -cpusettings'

(cd "$tree/data" && PATH=$tree/bin:$PATH sh -c "$script") > "$work/host" 2>&1
(cd "$tree" && find . | LC_ALL=C sort | cpio --quiet -o -H newc --owner=0:0) | gzip -n -1 |
    cat "$cache/initrd.gz" - > "$work/initrd"
# What is echoed by the console is no line of its own.
printf '%s\n' 'cd /data' "sh -c '$script' > /tmp/out 2>&1" 'cat /tmp/out' exit |
    "$penumbra" run --mmu "$mmu" --cpu max -m 256M --timeout 300 --kernel "$cache/vmlinuz" --initrd "$work/initrd" \
        --append "console=ttyS0 panic=-1 quiet" > "$work/guest" 2> "$work/err"
rc=$?
[ $rc -eq 0 ] || fail "exit code $rc: $(cat "$work/err")"
[ "$(results "$work/host" | wc -l)" -ge 27 ] || fail "the host's results: $(cat "$work/host")"
diff <(results "$work/host") <(results "$work/guest") || fail "the guest has other results than the host (<)"
for half in 1 2; do
    host=$(cap "$work/host" $half) guest=$(cap "$work/guest" $half) wanted=${caps[half - 1]}
    ((((host & wanted) & ~guest) == 0)) || fail "OPENSSL_ia32cap, half $half: host $host, guest $guest"
done
exit $bad
