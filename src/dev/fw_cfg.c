/* SPDX-License-Identifier: MIT */
/*
 * QEMU's fw_cfg through ports: 0x510 selector (16 bits), 0x511 data (bytes), 0x514 DMA
 * address (64 bits, big-endian). Source: QEMU docs/specs/fw_cfg.
 *
 * DMA control structure in guest memory, big-endian: u32 control, u32 length, u64
 * address. control: 0 error | 1 read | 2 skip | 3 select (key in 31..16) | 4 write
 *
 * Invariants
 * 1. Items are added by the machine only; a guest can but select and read. The offset
 *    never passes the end of the item.
 * 2. One DMA command moves at most the rest of its item and DMA_SLACK zero bytes: a
 *    command costs no more than what was put there, whatever its length says.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/dev.h"

#define PORT_BASE  0x510u
#define PORT_COUNT 12u
#define OFF_SELECT 0u
#define OFF_DATA   1u
#define OFF_DMA    4u

#define KEY_SIGNATURE 0x00u
#define KEY_ID        0x01u
#define KEY_DIRECTORY 0x19u
#define KEY_FILE0     0x20u
#define KEY_MASK      0xbfffu /* without the old write channel */
#define KEY_NONE      0xffffu /* no key under KEY_MASK */

#define ID_PORTS 1u
#define ID_DMA   2u

#define ITEMS_MAX 128u
#define FILES_MAX 64u
#define NAME_SIZE 56u
#define DMA_SLACK 0x10000u
#define CHUNK     4096u

#define DMA_ERROR  0x01u
#define DMA_READ   0x02u
#define DMA_SKIP   0x04u
#define DMA_SELECT 0x08u
#define DMA_WRITE  0x10u

static const char dma_signature[8] = {'Q', 'E', 'M', 'U', ' ', 'C', 'F', 'G'};

struct item {
    uint16_t key;
    uint8_t *data;
    size_t size;
};

struct dir_entry {
    uint8_t size[4], select[2], reserved[2];
    char name[NAME_SIZE];
};

struct directory {
    uint8_t count[4];
    struct dir_entry file[FILES_MAX];
};
_Static_assert(sizeof(struct dir_entry) == 64, "layout of the file directory");

struct fw_state {
    uint64_t offset; /* into the item */
    uint64_t dma;    /* the high half of a DMA address */
    uint16_t key;    /* as it was selected; KEY_NONE: nothing yet */
};

/* The items are configuration, not state: they never change while a guest runs. */
struct fw_cfg {
    struct device dev;
    struct item item[ITEMS_MAX];
    unsigned items, files;
    struct directory dir;
    const struct item *current; /* of the key; NULL: there is none */
    struct fw_state s;
};

static void put_be(uint8_t *p, unsigned size, uint64_t value) {
    for (unsigned n = 0; n < size; n++)
        p[n] = (uint8_t)(value >> (size - 1 - n) * 8);
}

static uint64_t get_be(const uint8_t *p, unsigned size) {
    uint64_t value = 0;
    for (unsigned n = 0; n < size; n++)
        value = value << 8 | p[n];
    return value;
}

static const struct item *find(const struct fw_cfg *f, uint16_t key) {
    for (unsigned n = 0; n < f->items; n++)
        if (f->item[n].key == key)
            return &f->item[n];
    return NULL;
}

static void select_key(struct fw_cfg *f, uint16_t key) {
    f->s.key = key & KEY_MASK;
    f->current = find(f, f->s.key);
    f->s.offset = 0;
}

static uint64_t left(const struct fw_cfg *f) {
    return f->current ? f->current->size - f->s.offset : 0;
}

static uint8_t read_data(struct fw_cfg *f) {
    return left(f) ? f->current->data[f->s.offset++] : 0;
}

/* Return: whether all of it went into guest memory. */
static bool dma_read(struct fw_cfg *f, pn_gpa gpa, uint32_t length) {
    static const uint8_t zero[CHUNK];
    size_t n = left(f) < length ? left(f) : length;
    if (!f->dev.env.host.write_phys)
        return false;
    if (n && f->dev.env.host.write_phys(f->dev.env.host.opaque, gpa,
                                        f->current->data + f->s.offset, n) != n)
        return false;
    f->s.offset += n;
    length -= (uint32_t)n;
    gpa += n;
    if (length > DMA_SLACK)
        return false;
    for (; length; length -= (uint32_t)n, gpa += n) {
        n = length < CHUNK ? length : CHUNK;
        if (f->dev.env.host.write_phys(f->dev.env.host.opaque, gpa, zero, n) != n)
            return false;
    }
    return true;
}

/* The low half of the address was written: run the command there. */
static void run_dma(struct fw_cfg *f) {
    pn_gpa at = f->s.dma;
    uint8_t raw[16];
    uint32_t control, length;
    bool ok = true;
    f->s.dma = 0;
    if (!f->dev.env.host.read_phys || !f->dev.env.host.write_phys ||
        f->dev.env.host.read_phys(f->dev.env.host.opaque, at, raw, sizeof raw) !=
            sizeof raw)
        return;
    control = (uint32_t)get_be(raw, 4);
    length = (uint32_t)get_be(raw + 4, 4);
    if (control & DMA_SELECT)
        select_key(f, (uint16_t)(control >> 16));
    if (control & DMA_READ)
        ok = dma_read(f, get_be(raw + 8, 8), length);
    else if (control & DMA_WRITE)
        ok = false; /* nothing here may be written */
    else if (control & DMA_SKIP)
        f->s.offset += left(f) < length ? left(f) : length;
    put_be(raw, 4, ok ? 0 : DMA_ERROR);
    f->dev.env.host.write_phys(f->dev.env.host.opaque, at, raw, 4);
}

static uint64_t fw_read(void *dev, uint64_t offset, unsigned size) {
    struct fw_cfg *f = dev;
    uint64_t value = 0;
    if (offset == OFF_DATA && size == 1)
        return read_data(f);
    if (offset < OFF_DMA)
        return UINT64_MAX;
    for (unsigned n = 0; n < size; n++)
        value |= (uint64_t)(uint8_t)dma_signature[offset - OFF_DMA + n] << n * 8;
    return value;
}

static void fw_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct fw_cfg *f = dev;
    uint8_t raw[8];
    if (offset == OFF_SELECT && size == 2)
        select_key(f, (uint16_t)value);
    if (size != 4 || (offset != OFF_DMA && offset != OFF_DMA + 4))
        return;
    /* The registers are big-endian on a little-endian bus. */
    memcpy(raw, &value, sizeof raw);
    value = get_be(raw, 4);
    if (offset == OFF_DMA) {
        f->s.dma = value << 32;
        return;
    }
    f->s.dma |= value;
    run_dma(f);
}

static const struct dev_ops fw_ops = {"fw_cfg", 1, 4, fw_read, fw_write};

int fw_cfg_add(struct fw_cfg *f, uint16_t key, const void *data, size_t size) {
    uint8_t *copy;
    if (find(f, key))
        return -EEXIST;
    if (f->items == ITEMS_MAX)
        return -ENOMEM;
    copy = malloc(size ? size : 1);
    if (!copy)
        return -ENOMEM;
    if (size)
        memcpy(copy, data, size);
    f->item[f->items++] = (struct item){.key = key, .data = copy, .size = size};
    return 0;
}

/* The directory is an item like any other, made anew with each file. */
static int publish_directory(struct fw_cfg *f) {
    size_t size = 4 + f->files * sizeof f->dir.file[0];
    for (unsigned n = 0; n < f->items; n++) {
        uint8_t *copy;
        if (f->item[n].key != KEY_DIRECTORY)
            continue;
        copy = realloc(f->item[n].data, size);
        if (!copy)
            return -ENOMEM;
        put_be(f->dir.count, 4, f->files);
        memcpy(copy, &f->dir, size);
        f->item[n].data = copy;
        f->item[n].size = size;
    }
    return 0;
}

int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t size) {
    struct dir_entry *e = &f->dir.file[f->files];
    uint16_t key = (uint16_t)(KEY_FILE0 + f->files);
    int rc;
    if (!*name || strlen(name) >= NAME_SIZE || size > UINT32_MAX)
        return -EINVAL;
    if (f->files == FILES_MAX || f->items == ITEMS_MAX)
        return -ENOSPC;
    for (unsigned n = 0; n < f->files; n++)
        if (!strcmp(f->dir.file[n].name, name))
            return -EINVAL;
    rc = fw_cfg_add(f, key, data, size);
    if (rc)
        return rc;
    memset(e, 0, sizeof *e);
    put_be(e->size, 4, size);
    put_be(e->select, 2, key);
    memcpy(e->name, name, strlen(name));
    f->files++;
    rc = publish_directory(f);
    if (rc) {
        f->files--;
        free(f->item[--f->items].data);
    }
    return rc;
}

/* ---- As a device ---- */

static const struct dev_range fw_ranges[] = {{DEV_PIO, PORT_BASE, PORT_COUNT, &fw_ops}};

static void fw_destroy(void *dev) {
    struct fw_cfg *f = dev;
    for (unsigned n = 0; n < f->items; n++)
        free(f->item[n].data);
}

static int fw_create(void *dev, const void *config) {
    static const uint8_t id[4] = {ID_PORTS | ID_DMA};
    struct fw_cfg *f = dev;
    if (!fw_cfg_add(f, KEY_SIGNATURE, "QEMU", 4) &&
        !fw_cfg_add(f, KEY_ID, id, sizeof id) &&
        !fw_cfg_add(f, KEY_DIRECTORY, &f->dir, 4))
        return 0;
    fw_destroy(f);
    return -ENOMEM;
}

static void fw_reset(void *dev) {
    struct fw_cfg *f = dev;
    f->s = (struct fw_state){.key = KEY_NONE};
    f->current = NULL;
}

static bool fw_check(const void *dev, const void *state) {
    const struct fw_state *s = state;
    const struct item *item = find(dev, s->key);
    return s->offset <= (item ? item->size : 0) && !(uint32_t)s->dma &&
           (s->key == KEY_NONE || !(s->key & ~KEY_MASK));
}

static void fw_settle(void *dev) {
    struct fw_cfg *f = dev;
    f->current = find(f, f->s.key);
}

static const struct dev_class fw_class = {
    .name = "fw_cfg",
    .version = 1,
    DEV_STATE(struct fw_cfg, s),
    DEV_RANGES(fw_ranges),
    .create = fw_create,
    .destroy = fw_destroy,
    .reset = fw_reset,
    .check = fw_check,
    .settle = fw_settle,
};

struct fw_cfg *fw_cfg_create(const struct dev_env *env) {
    return dev_create(&fw_class, env, 0, NULL);
}
