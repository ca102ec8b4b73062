/* SPDX-License-Identifier: MIT */
/* An instruction as text, for crash reports and the monitor. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define CPU_DISASM_TEXT 128

/* The first instruction of `bytes` in Intel syntax; bits: 16, 32 or 64; rip: its address.
 * Any bytes are safe. Return: its length, or 0 when it is no instruction (text then says
 * so). */
unsigned cpu_disassemble(const uint8_t *bytes, size_t size, unsigned bits, uint64_t rip,
                         char text[CPU_DISASM_TEXT]);
