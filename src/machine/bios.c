/* SPDX-License-Identifier: MIT */
/*
 * The ROM and what stands between 768 KiB and 1 MiB: see bios.h. 12 regions of 16 KiB and one of
 * 64 KiB, for each of which two bits of a PAM register say what answers:
 *
 *     read enable   write enable
 *          0             0         the ROM, from 0xe0000 on; below, nothing
 *          0             1         the same: writes that reach RAM behind the ROM are lost
 *          1             0         RAM that cannot be written
 *          1             1         RAM
 *
 * Source: Intel 440FX data sheet (290549-001), "PAM: Programmable Attribute Map Registers".
 *
 * Invariants
 * 1. The ROM's memslots are read-only, and its memory is no part of RAM: nothing that a guest does
 *    changes it.
 * 2. A region's memslot is exactly what the registers say, or, where the engine refused it, absent.
 * 3. Slots change inside the access that asks for it: the guest's next instruction sees it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/size.h"
#include "dev/pci.h"
#include "machine/bios.h"

#define REGIONS      13u
#define REGION_SIZE  0x4000u
#define LAST_REGION  0xf0000u
#define ISA_ROM      0xe0000u /* where the ROM's end stands again */
#define ISA_ROM_SIZE 0x20000u
#define FOUR_GIB     0x100000000ull
#define RESET_VECTOR 16u /* bytes before the end */
#define READ_ENABLE  1u
#define WRITE_ENABLE 2u
#define SLOT_BIOS    32u /* and the next ones: pmem.c has lower ones */

_Static_assert(BIOS_SLOTS == REGIONS + 1, "the ROM below 4 GiB, and the regions");

struct bios {
    struct hostmem rom;
    struct pn_memslot slot[BIOS_SLOTS]; /* the regions', and the ROM's; size 0: absent */
    uint8_t pam[PCI_PAM_SIZE];
};

/* ---- What a region is ---- */

static pn_gpa region_at(unsigned i) {
    return i < REGIONS - 1 ? BIOS_HOLE + i * REGION_SIZE : LAST_REGION;
}

/* Register 0 has the last region, each other one two of 16 KiB. */
static unsigned region_mode(const uint8_t *pam, unsigned i) {
    uint8_t reg = i < REGIONS - 1 ? pam[1 + i / 2] : pam[0];
    unsigned shift = i == REGIONS - 1 || i % 2 ? 4 : 0;
    return reg >> shift & (READ_ENABLE | WRITE_ENABLE);
}

static struct pn_memslot wanted(const struct machine *m, const uint8_t *pam, unsigned i) {
    const struct bios *b = m->bios;
    unsigned mode = region_mode(pam, i);
    pn_gpa at = region_at(i);
    struct pn_memslot s = {.id = SLOT_BIOS + i,
                           .gpa = at,
                           .size = i < REGIONS - 1 ? REGION_SIZE : BIOS_HOLE_END - at};
    if (mode & READ_ENABLE) {
        s.flags = mode & WRITE_ENABLE ? 0 : PN_SLOT_READONLY;
        s.hva = m->ram.base + at;
        return s;
    }
    uint64_t from_end = BIOS_HOLE_END - at;
    s.flags = PN_SLOT_READONLY;
    if (at < ISA_ROM || from_end > b->rom.size)
        s.size = 0;
    else
        s.hva = b->rom.base + b->rom.size - from_end;
    return s;
}

static int set(struct machine *m, struct pn_memslot *now, const struct pn_memslot *s) {
    int rc = 0;
    if (now->size) {
        now->size = 0;
        rc = m->ops->set_slot(m->engine, now);
    }
    if (rc == 0 && s->size && (rc = m->ops->set_slot(m->engine, s)) == 0)
        *now = *s;
    return rc;
}

static int apply(struct machine *m, const uint8_t *pam) {
    struct bios *b = m->bios;
    for (unsigned i = 0; i < REGIONS; i++) {
        struct pn_memslot s = wanted(m, pam, i), *now = &b->slot[i];
        if (s.size == now->size && s.hva == now->hva && s.flags == now->flags)
            continue;
        int rc = set(m, now, &s);
        if (rc)
            return rc;
    }
    memcpy(b->pam, pam, sizeof(b->pam));
    return 0;
}

void bios_pam(void *machine, const uint8_t pam[]) {
    struct machine *m = machine;
    int rc = memcmp(pam, m->bios->pam, PCI_PAM_SIZE) ? apply(m, pam) : 0;
    if (rc)
        machine_fail(m, "the memory between 768 KiB and 1 MiB: %s", strerror(-rc));
}

/* The memslot goes and comes, and with it what was made of the old bytes. */
int bios_put_page(struct machine *m, pn_gpa gpa, const uint8_t *data) {
    unsigned i =
        gpa < LAST_REGION ? (unsigned)((gpa - BIOS_HOLE) / REGION_SIZE) : REGIONS - 1;
    const struct pn_memslot s = m->bios->slot[i];
    memcpy(m->ram.base + gpa, data, PN_PAGE_SIZE);
    return set(m, &m->bios->slot[i], &s);
}

int bios_slots_again(struct machine *m) {
    int rc = 0;
    for (unsigned i = 0; rc == 0 && m->bios && i < BIOS_SLOTS; i++)
        if (m->bios->slot[i].size)
            rc = m->ops->set_slot(m->engine, &m->bios->slot[i]);
    return rc;
}

unsigned bios_slots(const struct machine *m, struct pn_memslot slot[BIOS_SLOTS]) {
    unsigned n = 0;
    for (unsigned i = 0; m->bios && i < BIOS_SLOTS; i++)
        if (m->bios->slot[i].size)
            slot[n++] = m->bios->slot[i];
    return n;
}

/* ---- The file ---- */

/* Can code begin at the reset vector? It has no room for more than a jump, and what leads to it. */
static bool has_reset_vector(const uint8_t *rom, size_t size) {
    const uint8_t *p = rom + size - RESET_VECTOR;
    for (unsigned i = 0; i + 2 < RESET_VECTOR; i++)
        if (p[i] == 0xe9 || p[i] == 0xea || p[i] == 0xeb)
            return true;
    return false;
}

static int check_file(const char *name, const uint8_t *rom, size_t size, struct err *e) {
    char text[SIZE_TEXT_MAX];
    if (size < BIOS_SIZE_MIN || size % PN_PAGE_SIZE)
        return err_set(
            e, -EINVAL,
            "%s: no firmware: its size, %zu bytes, is not a multiple of 4K from "
            "%s on",
            name, size, size_text(BIOS_SIZE_MIN, text));
    if (!has_reset_vector(rom, size))
        return err_set(e, -EINVAL,
                       "%s: no firmware: there is no jump 16 bytes before its end, where "
                       "the processor starts",
                       name);
    return 0;
}

static int read_rom(struct machine *m, struct err *e) {
    struct bios *b = m->bios;
    char text[SIZE_TEXT_MAX];
    void *data = NULL;
    size_t size = 0;
    int rc = file_read(m->cfg.firmware, BIOS_SIZE_MAX, &data, &size, e);
    if (rc == -EFBIG)
        return err_set(e, -EINVAL, "%s: no firmware: larger than %s", m->cfg.firmware,
                       size_text(BIOS_SIZE_MAX, text));
    if (rc)
        return rc;
    rc = check_file(m->cfg.firmware, data, size, e);
    const struct hostmem_config cfg = {.size = size, .hugepages = "off"};
    if (rc == 0)
        rc = hostmem_create(&cfg, &b->rom, e);
    if (rc == 0)
        memcpy(b->rom.base, data, size);
    if (rc == 0 && mprotect(b->rom.base, size, PROT_READ))
        rc = err_sys(e, -errno, "%s", m->cfg.firmware);
    free(data);
    return rc;
}

/* ---- Life ---- */

int bios_create(struct machine *m, struct err *e) {
    static const uint8_t none[PCI_PAM_SIZE];
    if (!m->cfg.firmware)
        return 0;
    m->bios = calloc(1, sizeof(*m->bios));
    if (!m->bios)
        return err_set(e, -ENOMEM, "out of memory");
    m->bios->rom.fd = -1;
    int rc = read_rom(m, e);
    if (rc)
        return rc;
    const struct hostmem *rom = &m->bios->rom;
    const struct pn_memslot s = {.id = SLOT_BIOS + REGIONS,
                                 .flags = PN_SLOT_READONLY,
                                 .gpa = FOUR_GIB - rom->size,
                                 .size = rom->size,
                                 .hva = rom->base};
    rc = set(m, &m->bios->slot[REGIONS], &s);
    if (rc == 0)
        rc = apply(m, none);
    return rc ? err_sys(e, rc, "%s: its memslots", m->cfg.firmware) : 0;
}

void bios_destroy(struct machine *m) {
    if (m->bios)
        hostmem_destroy(&m->bios->rom);
    free(m->bios);
    m->bios = NULL;
}

uint64_t bios_digest(const struct machine *m) {
    return XXH3_64bits(m->bios->rom.base, m->bios->rom.size);
}
