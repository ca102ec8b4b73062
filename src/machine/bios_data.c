/* SPDX-License-Identifier: MIT */
/*
 * What firmware leaves in low memory for code that has no other way to ask: the BIOS data
 * area at 0x400, and the extended one that its segment 0x40e points to. Offsets as in IBM's
 * "PS/2 and PC BIOS Interface Technical Reference", "BIOS Data Area".
 */
#include <string.h>

#include "machine/internal.h"

enum {
    BDA_COM1 = 0x00,      /* I/O port of the first serial port, 0: none */
    BDA_EBDA = 0x0e,      /* segment */
    BDA_EQUIPMENT = 0x10, /* what is installed */
    BDA_MEMORY = 0x13,    /* KiB below the EBDA */
    BDA_KEYS_HEAD = 0x1a, /* keyboard buffer: it is empty where head and tail are equal */
    BDA_KEYS_TAIL = 0x1c,
    BDA_KEYS_START = 0x80,
    BDA_KEYS_END = 0x82,
};
#define EQUIPMENT_FPU     (1u << 1)
#define EQUIPMENT_SERIALS (1u << 9) /* their number, from this bit on */
#define KEYS_START        0x1eu
#define KEYS_END          0x3eu

static void put16(uint8_t *p, uint16_t value) {
    memcpy(p, &value, sizeof(value));
}

void bios_data_build(uint8_t bda[BDA_SIZE], uint8_t ebda[EBDA_SIZE]) {
    memset(bda, 0, BDA_SIZE);
    memset(ebda, 0, EBDA_SIZE);
    put16(bda + BDA_COM1, 0x3f8);
    put16(bda + BDA_EBDA, EBDA_BASE >> 4);
    put16(bda + BDA_EQUIPMENT, EQUIPMENT_FPU | EQUIPMENT_SERIALS);
    put16(bda + BDA_MEMORY, EBDA_BASE >> 10);
    put16(bda + BDA_KEYS_HEAD, KEYS_START);
    put16(bda + BDA_KEYS_TAIL, KEYS_START);
    put16(bda + BDA_KEYS_START, KEYS_START);
    put16(bda + BDA_KEYS_END, KEYS_END);
    ebda[0] = EBDA_SIZE >> 10; /* its own size in KiB */
}
