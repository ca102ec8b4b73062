/* SPDX-License-Identifier: MIT */
/*
 * Firmware from a file (`--firmware`): a ROM that ends at 4 GiB, in which the processor starts,
 * its last 128 KiB again below 1 MiB, and the RAM that may stand there instead (PAM, dev/pci.h).
 */
#pragma once

#include "machine/state.h"

#define BIOS_SIZE_MIN 0x10000u  /* the segment that the reset vector leads to */
#define BIOS_SIZE_MAX 0x800000u /* above pc-testdev */

/* Everything that --firmware names, after the engine; nothing without it. Return: 0, or -errno with a
 * line in e: -EINVAL: no firmware. */
int bios_create(struct machine *m, struct err *e);
/* After the PCI devices: the files by which firmware is told of the machine (bios_files.c). Return: 0,
 * or -errno with a line in e. */
int bios_tell(struct machine *m, const struct firmware *f, struct err *e);
void bios_destroy(struct machine *m);

/* Where low RAM stops, and where it goes on. */
#define BIOS_HOLE     0xc0000u
#define BIOS_HOLE_END 0x100000u
/* For struct pci_pam: the registers may have changed. */
void bios_pam(void *machine, const uint8_t pam[]);
/* To another engine. Return: 0 or -errno. */
int bios_slots_again(struct machine *m);
/* Its memslots as they are now. Return: how many, at most BIOS_SLOTS. */
#define BIOS_SLOTS 14u
unsigned bios_slots(const struct machine *m, struct pn_memslot slot[BIOS_SLOTS]);
/* Is that address in the hole, where the processor may see other bytes than RAM's? */
static inline bool bios_covers(const struct machine *m, pn_gpa gpa) {
    return m->bios && gpa - BIOS_HOLE < BIOS_HOLE_END - BIOS_HOLE;
}
/* A page of RAM there, as a snapshot brings it, whatever the processor sees. Return: 0 or -errno. */
int bios_put_page(struct machine *m, pn_gpa gpa, const uint8_t *data);
/* XXH3 of the ROM. */
uint64_t bios_digest(const struct machine *m);
