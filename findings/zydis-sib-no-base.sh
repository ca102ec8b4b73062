#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A SIB byte with base 5 and mod 0 has no base but a displacement of 32 bits, whatever REX.B is (SDM
# volume 2, "32-Bit Addressing Forms with the SIB Byte"). Zydis reads it so with 64-bit addresses, and
# without REX.B. With the prefix 67 and REX.B it says that the base is R13D and the displacement 0,
# though it has read the four bytes: the instruction's length and raw.disp are right. Who takes the
# operand's address from it looks at another place than the processor.
# Seen: Zydis 4.0.0-1 of Debian 12. The host has apt-get of Debian 12, dpkg-deb and a C compiler.
# shellcheck source=findings/zydis.sh
. "$(dirname "$(readlink -f "$0")")/zydis.sh"

cat > see.c <<'C'
#include <Zydis/Zydis.h>
#include <stdio.h>
/* mov eax, [r12 * 4 + 0x11223344], with these prefixes: 67 or none, REX with B or without. */
int main(void) {
    static const struct {
        const char *what;
        unsigned char code[16];
    } t[] = {{"REX.X", {0x42, 0x8b, 0x04, 0xa5, 0x44, 0x33, 0x22, 0x11}},
             {"REX.XB", {0x43, 0x8b, 0x04, 0xa5, 0x44, 0x33, 0x22, 0x11}},
             {"67 REX.X", {0x67, 0x42, 0x8b, 0x04, 0xa5, 0x44, 0x33, 0x22, 0x11}},
             {"67 REX.XB", {0x67, 0x43, 0x8b, 0x04, 0xa5, 0x44, 0x33, 0x22, 0x11}}};
    for (unsigned i = 0; i < sizeof t / sizeof *t; i++) {
        ZydisDisassembledInstruction d;
        if (!ZYAN_SUCCESS(ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, 0, t[i].code, sizeof t[i].code, &d)))
            return 2;
        printf("%s: %s, %u bytes, raw displacement %llx\n", t[i].what, d.text, d.info.length,
               (unsigned long long)d.info.raw.disp.value);
    }
}
C
cat > want << 'W'
REX.X: mov eax, [r12*4+0x11223344], 8 bytes, raw displacement 11223344
REX.XB: mov eax, [r12*4+0x11223344], 8 bytes, raw displacement 11223344
67 REX.X: mov eax, [r12d*4+0x11223344], 9 bytes, raw displacement 11223344
67 REX.XB: mov eax, [r13d+r12d*4], 9 bytes, raw displacement 11223344
W
see
