/* SPDX-License-Identifier: MIT */
/* The formatter: the decoder's third user beside the translator and its tests. */
#include "cpu/disasm.h"

#include <Zydis/Zydis.h>
#include <stdio.h>

unsigned cpu_disassemble(const uint8_t *bytes, size_t size, unsigned bits, uint64_t rip,
                         char text[CPU_DISASM_TEXT]) {
    ZydisMachineMode mode = bits == 64   ? ZYDIS_MACHINE_MODE_LONG_64
                            : bits == 32 ? ZYDIS_MACHINE_MODE_LEGACY_32
                                         : ZYDIS_MACHINE_MODE_LEGACY_16;
    ZydisDisassembledInstruction in;
    if (!size || !ZYAN_SUCCESS(ZydisDisassembleIntel(mode, rip, bytes, size, &in))) {
        snprintf(text, CPU_DISASM_TEXT, "(no instruction)");
        return 0;
    }
    snprintf(text, CPU_DISASM_TEXT, "%s", in.text);
    return in.info.length;
}
