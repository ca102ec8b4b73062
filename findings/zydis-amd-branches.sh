#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Zydis has a mode ZYDIS_DECODER_MODE_AMD_BRANCHES for processors that obey the prefix 66 before a
# near branch of 64-bit code. It changes CALL, JMP and Jcc with a displacement of 32 bits alone. Of
# the other near branches, RET, short JMP and Jcc, CALL and JMP by register or memory, it goes on
# to say that operands have 64 bits, where AMD's processors use 16 (APM volume 3, "CALL (Near)",
# "JMP (Near)", "RET (Near)", "Jcc"). An emulator that believes the mode pops eight bytes by
# `66 ret` and reads eight by `66 call [mem]`.
# Seen: Zydis 4.0.0-1 of Debian 12. The host has apt-get of Debian 12, dpkg-deb and a C compiler.
# shellcheck source=findings/zydis.sh
. "$(dirname "$(readlink -f "$0")")/zydis.sh"

cat > see.c <<'C'
#include <Zydis/Zydis.h>
#include <stdio.h>
int main(void) {
    static const struct {
        const char *what;
        unsigned char code[8];
        unsigned size;
    } t[] = {{"call rel", {0x66, 0xe8, 1, 0, 0, 0}, 6}, {"ret", {0x66, 0xc3}, 2}, {"jz short", {0x66, 0x74, 1}, 3},
             {"call rax", {0x66, 0xff, 0xd0}, 3},       {"call [rax]", {0x66, 0xff, 0x10}, 3},
             {"jmp [rax]", {0x66, 0xff, 0x20}, 3}};
    for (unsigned i = 0; i < sizeof t / sizeof *t; i++) {
        printf("66 %s:", t[i].what);
        for (int amd = 0; amd < 2; amd++) {
            ZydisDecoder d;
            ZydisDecodedInstruction in;
            ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
            ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
            ZydisDecoderEnableMode(&d, ZYDIS_DECODER_MODE_AMD_BRANCHES, amd);
            if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, t[i].code, t[i].size, &in, op)))
                printf(" %s %u bits", amd ? "amd" : "intel", in.operand_width);
            else
                printf(" %s none", amd ? "amd" : "intel");
        }
        printf("\n");
    }
}
C
cat > want << 'W'
66 call rel: intel 64 bits amd 16 bits
66 ret: intel 64 bits amd 64 bits
66 jz short: intel 64 bits amd 64 bits
66 call rax: intel 64 bits amd 64 bits
66 call [rax]: intel 64 bits amd 64 bits
66 jmp [rax]: intel 64 bits amd 64 bits
W
see
