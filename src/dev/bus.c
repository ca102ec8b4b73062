/* SPDX-License-Identifier: MIT */
/*
 * The bus: which device answers a port or an address, and in which pieces.
 *
 * Invariants
 * 1. Ranges of one kind never overlap. A range that cannot be where it was moved to is
 *    nowhere (base DEV_NOWHERE) until it is moved again.
 * 2. A device is called with min_size <= size <= max_size, offset + size <= its size.
 * 3. An access is cut at the end of the range that holds its first byte and into pieces
 *    of at most max_size; each piece goes to whoever holds the piece's first byte, as
 *    the ISA and PCI bridges do. A read narrower than min_size is cut out of a wider
 *    one; a write narrower than min_size is dropped.
 * 4. Nobody at home: reads are all ones, writes are dropped.
 * 5. A handle is the range's place in its table, and MMIO_HANDLE; a range that was
 *    removed has no device, and its place is free for another.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/dev.h"

#define PORTS       0x10000u
#define SPACE_MAX   255u
#define MMIO_HANDLE 0x100
#define BYTE_ONES   0xffu

struct region {
    uint64_t base, size;
    const struct dev_ops *ops;
    void *dev; /* NULL: the place is free */
};

struct space {
    struct region region[SPACE_MAX];
    unsigned count; /* places that were ever used */
    uint64_t end;   /* the first address beyond it; 0: 2^64 */
};

struct dev_bus {
    struct space pio, mmio;
    unsigned last;       /* MMIO region of the last hit */
    uint8_t port[PORTS]; /* 1 + index into pio.region; 0: nobody */
    struct device *devices;
};

struct dev_bus *dev_bus_create(void) {
    struct dev_bus *bus = calloc(1, sizeof *bus);
    if (bus)
        bus->pio.end = PORTS;
    return bus;
}

void dev_bus_destroy(struct dev_bus *bus) {
    if (!bus)
        return;
    while (bus->devices)
        dev_destroy(bus->devices);
    free(bus);
}

struct device **dev_bus_devices(struct dev_bus *bus) {
    return &bus->devices;
}

static bool is_mapped(const struct region *r) {
    return r->dev && r->base != DEV_NOWHERE;
}

static bool holds(const struct region *r, uint64_t addr) {
    return is_mapped(r) && addr >= r->base && addr - r->base < r->size;
}

/* Return: 0, -EINVAL or -EEXIST. */
static int fits(const struct space *s, uint64_t base, uint64_t size,
                const struct region *but) {
    if (base + (size - 1) < base || base + (size - 1) > s->end - 1)
        return -EINVAL;
    for (unsigned i = 0; i < s->count; i++) {
        const struct region *r = &s->region[i];
        if (r != but && is_mapped(r) && base <= r->base + (r->size - 1) &&
            r->base <= base + (size - 1))
            return -EEXIST;
    }
    return 0;
}

/* Return: its place, or -errno. */
static int add(struct space *s, uint64_t base, uint64_t size, const struct dev_ops *ops,
               void *dev) {
    unsigned place = 0;
    if (!size || !ops->min_size || ops->min_size > ops->max_size || ops->max_size > 8 ||
        (ops->min_size & (ops->min_size - 1)) || (ops->max_size & (ops->max_size - 1)))
        return -EINVAL;
    int rc = base == DEV_NOWHERE ? 0 : fits(s, base, size, NULL);
    if (rc)
        return rc;
    while (place < s->count && s->region[place].dev)
        place++;
    if (place == SPACE_MAX)
        return -ENOMEM;
    if (place == s->count)
        s->count++;
    s->region[place] =
        (struct region){.base = base, .size = size, .ops = ops, .dev = dev};
    return (int)place;
}

/* Ports are found through a table, which follows the regions. */
static void map_ports(struct dev_bus *bus) {
    memset(bus->port, 0, sizeof bus->port);
    for (unsigned i = 0; i < bus->pio.count; i++) {
        const struct region *r = &bus->pio.region[i];
        if (is_mapped(r))
            memset(bus->port + r->base, (int)(i + 1), r->size);
    }
}

int dev_bus_add_pio(struct dev_bus *bus, uint64_t port, uint64_t count,
                    const struct dev_ops *ops, void *dev) {
    int place = add(&bus->pio, port, count, ops, dev);
    map_ports(bus);
    return place;
}

int dev_bus_add_mmio(struct dev_bus *bus, pn_gpa gpa, uint64_t size,
                     const struct dev_ops *ops, void *dev) {
    int place = add(&bus->mmio, gpa, size, ops, dev);
    return place < 0 ? place : place | MMIO_HANDLE;
}

static void drop(struct space *s, const void *dev) {
    for (unsigned i = 0; i < s->count; i++) {
        if (s->region[i].dev == dev)
            s->region[i] = (struct region){.base = DEV_NOWHERE};
    }
}

void dev_bus_remove(struct dev_bus *bus, const void *dev) {
    drop(&bus->pio, dev);
    drop(&bus->mmio, dev);
    map_ports(bus);
}

int dev_bus_move(struct dev_bus *bus, int range, uint64_t base) {
    struct space *s = range >= 0 && range & MMIO_HANDLE ? &bus->mmio : &bus->pio;
    unsigned place = (unsigned)range & ~(unsigned)MMIO_HANDLE;
    if (place >= s->count || !s->region[place].dev)
        return -ENOENT;
    struct region *r = &s->region[place];
    int rc = base == DEV_NOWHERE ? 0 : fits(s, base, r->size, r);
    r->base = rc ? DEV_NOWHERE : base;
    if (s == &bus->pio)
        map_ports(bus);
    return rc;
}

uint64_t dev_bus_where(const struct dev_bus *bus, int range) {
    const struct space *s = range >= 0 && range & MMIO_HANDLE ? &bus->mmio : &bus->pio;
    unsigned place = (unsigned)range & ~(unsigned)MMIO_HANDLE;
    return place < s->count && is_mapped(&s->region[place]) ? s->region[place].base
                                                            : DEV_NOWHERE;
}

static const struct region *find_pio(struct dev_bus *bus, uint64_t port) {
    if (port >= PORTS || !bus->port[port])
        return NULL;
    return &bus->pio.region[bus->port[port] - 1];
}

static const struct region *find_mmio(struct dev_bus *bus, uint64_t gpa) {
    if (bus->last < bus->mmio.count && holds(&bus->mmio.region[bus->last], gpa))
        return &bus->mmio.region[bus->last];
    for (unsigned i = 0; i < bus->mmio.count; i++) {
        if (holds(&bus->mmio.region[i], gpa)) {
            bus->last = i;
            return &bus->mmio.region[i];
        }
    }
    return NULL;
}

static uint64_t ones(unsigned size) {
    return size >= 8 ? UINT64_MAX : ((uint64_t)1 << size * 8) - 1;
}

/* How many of `size` bytes at offset go to the region in one piece: a power of two, and
 * when below min_size, within one aligned unit of it. */
static unsigned piece(const struct region *r, uint64_t offset, unsigned size) {
    unsigned min = r->ops->min_size;
    uint64_t n = r->size - offset;
    if (n > size)
        n = size;
    if (n > r->ops->max_size)
        n = r->ops->max_size;
    if (n < min && n > min - (offset & (min - 1)))
        n = min - (offset & (min - 1));
    return 1u << (31 - __builtin_clz((unsigned)n));
}

static uint64_t read_piece(const struct region *r, uint64_t offset, unsigned size) {
    unsigned min = r->ops->min_size;
    if (!r->ops->read)
        return ones(size);
    if (size >= min)
        return r->ops->read(r->dev, offset, size) & ones(size);
    uint64_t start = offset & ~(uint64_t)(min - 1);
    if (start + min > r->size)
        return ones(size);
    return r->ops->read(r->dev, start, min) >> (offset - start) * 8 & ones(size);
}

typedef const struct region *(*find_fn)(struct dev_bus *bus, uint64_t addr);

static uint64_t bus_read(struct dev_bus *bus, find_fn find, uint64_t addr,
                         unsigned size) {
    uint64_t value = 0;
    if (!size || size > 8)
        return UINT64_MAX;
    for (unsigned done = 0, n; done < size; done += n) {
        const struct region *r = addr + done < addr ? NULL : find(bus, addr + done);
        uint64_t v = BYTE_ONES;
        n = 1;
        if (r) {
            uint64_t offset = addr + done - r->base;
            n = piece(r, offset, size - done);
            v = read_piece(r, offset, n);
        }
        value |= v << done * 8;
    }
    return value;
}

static void bus_write(struct dev_bus *bus, find_fn find, uint64_t addr, unsigned size,
                      uint64_t value) {
    if (!size || size > 8)
        return;
    for (unsigned done = 0, n; done < size; done += n) {
        const struct region *r = addr + done < addr ? NULL : find(bus, addr + done);
        n = 1;
        if (!r)
            continue;
        uint64_t offset = addr + done - r->base;
        n = piece(r, offset, size - done);
        if (n >= r->ops->min_size && r->ops->write)
            r->ops->write(r->dev, offset, n, value >> done * 8 & ones(n));
    }
}

uint64_t dev_bus_pio_read(struct dev_bus *bus, uint16_t port, unsigned size) {
    return bus_read(bus, find_pio, port, size);
}

void dev_bus_pio_write(struct dev_bus *bus, uint16_t port, unsigned size,
                       uint64_t value) {
    bus_write(bus, find_pio, port, size, value);
}

uint64_t dev_bus_mmio_read(struct dev_bus *bus, pn_gpa gpa, unsigned size) {
    return bus_read(bus, find_mmio, gpa, size);
}

void dev_bus_mmio_write(struct dev_bus *bus, pn_gpa gpa, unsigned size, uint64_t value) {
    bus_write(bus, find_mmio, gpa, size, value);
}
