/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes PCI and each virtio device as a driver that has gone mad: registers, configuration
 * space, rings and descriptors get bytes of the input, mostly where they do most. After each
 * operation this must hold:
 *
 * 1. No byte is touched outside guest memory or the disk; a line is one of PCI's.
 * 2. After clock_run every timer lies in the future.
 * And the same input gives the same history twice, and once more on devices that are replaced
 * by new ones with the same states all the time. Last, states with bytes of the input in them
 * are refused, or do no harm either.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dev/virtio_devices.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(x)                                                                       \
    do {                                                                                 \
        if (!(x)) {                                                                      \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                      \
            abort();                                                                     \
        }                                                                                \
    } while (0)

#define MEM   0x8000u
#define DISK  (32u * DISK_SECTOR)
#define QUEUE 16u /* descriptors */
#define STEPS 400u

enum { RNG, BLK, BALLOON, NET, DEVICES };

struct world {
    uint64_t now, hash;
    struct clock clock;
    struct dev_bus *bus;
    struct virtio_balloon *balloon;
    struct virtio_net *net;
    uint8_t mem[MEM], disk[DISK];
};

static void note(struct world *w, uint64_t v) {
    w->hash = (w->hash ^ v) * 0x100000001b3ull;
    w->hash ^= w->hash >> 29;
}

static uint64_t now(void *opaque) {
    return ((struct world *)opaque)->now;
}

static void set_irq(void *opaque, unsigned gsi, int level) {
    REQUIRE(gsi >= PCI_GSI && gsi < PCI_GSI + PCI_GSIS && (level == 0 || level == 1));
    note(opaque, gsi * 2 + (unsigned)level);
}

static bool msi(void *opaque, uint64_t address, uint32_t data) {
    note(opaque, address ^ (uint64_t)data << 32);
    return true;
}

static size_t fit(pn_gpa gpa, size_t size) {
    return gpa >= MEM ? 0 : size < MEM - gpa ? size : MEM - gpa;
}

static size_t read_phys(void *opaque, pn_gpa gpa, void *buf, size_t size) {
    size = fit(gpa, size);
    if (size)
        memcpy(buf, ((struct world *)opaque)->mem + gpa, size);
    return size;
}

static size_t write_phys(void *opaque, pn_gpa gpa, const void *buf, size_t size) {
    size = fit(gpa, size);
    if (size)
        memcpy(((struct world *)opaque)->mem + gpa, buf, size);
    return size;
}

static size_t discard_phys(void *opaque, pn_gpa gpa, size_t size) {
    REQUIRE(gpa % 4096 == 0 && size % 4096 == 0 && size);
    size = fit(gpa, size);
    if (size)
        memset(((struct world *)opaque)->mem + gpa, 0, size);
    return size;
}

static int disk_read(void *opaque, uint64_t at, void *buf, size_t size) {
    REQUIRE(at <= DISK && size <= DISK - at);
    memcpy(buf, ((struct world *)opaque)->disk + at, size);
    return 0;
}

static int disk_write(void *opaque, uint64_t at, const void *buf, size_t size) {
    REQUIRE(at <= DISK && size <= DISK - at);
    memcpy(((struct world *)opaque)->disk + at, buf, size);
    return 0;
}

static int disk_flush(void *opaque) {
    return 0;
}

static int disk_discard(void *opaque, uint64_t at, uint64_t size) {
    REQUIRE(at <= DISK && size <= DISK - at);
    memset(((struct world *)opaque)->disk + at, 0, size);
    return 0;
}

static void send_frame(void *opaque, const void *frame, size_t size) {
    REQUIRE(size && size <= NET_FRAME_MAX);
    for (size_t i = 0; i < size; i += 64)
        note(opaque, ((const uint8_t *)frame)[i]);
}

static void create(struct world *w) {
    w->clock = (struct clock){.now = now, .opaque = w};
    w->bus = dev_bus_create();
    REQUIRE(w->bus);
    const struct dev_env env = {.bus = w->bus,
                                .clock = &w->clock,
                                .irq = {set_irq, msi, w},
                                .host = {.read_phys = read_phys,
                                         .write_phys = write_phys,
                                         .discard_phys = discard_phys,
                                         .opaque = w}};
    struct pci_host *host = pci_host_create(&env);
    REQUIRE(host);
    const struct virtio_rng_config rng = {{host, 1 + RNG, false}, 1, NULL};
    const struct virtio_balloon_config balloon = {{host, 1 + BALLOON, false}};
    const struct virtio_net_config net = {{host, 1 + NET, false}, {send_frame, w}, {2}};
    const struct virtio_blk_config blk = {.virtio = {host, 1 + BLK, false},
                                          .disk = {.size = DISK,
                                                   .read = disk_read,
                                                   .write = disk_write,
                                                   .flush = disk_flush,
                                                   .discard = disk_discard,
                                                   .opaque = w},
                                          .queues = 2};
    REQUIRE(virtio_rng_create(&env, &rng) && virtio_blk_create(&env, &blk) &&
            (w->balloon = virtio_balloon_create(&env, &balloon)) &&
            (w->net = virtio_net_create(&env, &net)));
}

static void destroy(struct world *w) {
    dev_bus_destroy(w->bus);
    free(w);
}

/* ---- Operations ---- */

static uint64_t config(unsigned device, unsigned at) {
    return PCI_ECAM_BASE + ((uint64_t)(device + 1) << 15) + at;
}

static uint64_t bar(struct world *w, unsigned device) {
    return dev_bus_mmio_read(w->bus, config(device, 0x10), 4) & ~0xfull;
}

static void put(struct world *w, unsigned device, unsigned at, unsigned size,
                uint64_t value) {
    dev_bus_mmio_write(w->bus, bar(w, device) + at, size, value);
}

/* All that a driver does before it gives buffers. */
static void set_up(struct world *w, unsigned device, unsigned queue, bool packed,
                   uint64_t without) {
    uint64_t features = 0;
    dev_bus_mmio_write(w->bus, config(device, 4), 2, 6);
    put(w, device, 0x14, 1, 0);
    put(w, device, 0x14, 1, 3);
    for (unsigned half = 0; half < 2; half++) {
        put(w, device, 0, 4, half);
        features |= dev_bus_mmio_read(w->bus, bar(w, device) + 4, 4) << half * 32;
    }
    features &= ~(without & 0xffffffff) & ~(packed ? 0 : 1ull << 34);
    for (unsigned half = 0; half < 2; half++) {
        put(w, device, 8, 4, half);
        put(w, device, 0xc, 4, features >> half * 32 & 0xffffffff);
    }
    put(w, device, 0x14, 1, 11);
    put(w, device, 0x16, 2, queue);
    put(w, device, 0x18, 2, QUEUE);
    put(w, device, 0x20, 8, 0x1000);
    put(w, device, 0x28, 8, 0x2000);
    put(w, device, 0x30, 8, 0x3000);
    put(w, device, 0x1c, 2, 1);
    put(w, device, 0x14, 1, 15);
}

/* A descriptor that has a chance. */
static void describe(struct world *w, struct input *in, pn_gpa table) {
    uint64_t v = take(in, 6);
    uint64_t gpa = v & 0x8000 ? take(in, 8) : (v >> 16 & 0x7ff) * 16;
    uint32_t size = v & 0x4000 ? (uint32_t)take(in, 4) : (uint32_t)(v >> 32 & 0x3ff);
    uint16_t flags = (uint16_t)((v & 7) | (v & 8 ? 0x80 : 0) | (v & 0x10 ? 0x8000 : 0));
    uint16_t other = (uint16_t)(v >> 28 & 0x1f);
    uint8_t *p = w->mem + table + (v >> 5 & (QUEUE - 1)) * 16;
    memcpy(p, &gpa, 8);
    memcpy(p + 8, &size, 4);
    memcpy(p + (v & 0x800 ? 12 : 14), &flags, 2);
    memcpy(p + (v & 0x800 ? 14 : 12), &other, 2);
}

static void ring(struct world *w, struct input *in) {
    uint64_t v = take(in, 3);
    uint16_t index = (uint16_t)(v & 0x1f), head = (uint16_t)(v >> 5 & 0xf);
    memcpy(w->mem + 0x2002, &index, 2);
    memcpy(w->mem + 0x2004 + (v >> 9 & 0xf) * 2, &head, 2);
    memcpy(w->mem + 0x2024, (const uint8_t *)&v + 1, 2);
}

/* What a disk wants to read first, where descriptors may point. */
static void header(struct world *w, struct input *in) {
    static const uint32_t types[8] = {0, 1, 4, 8, 11, 13, 0, 99};
    uint64_t v = take(in, 3);
    uint8_t *p = w->mem + (v >> 3 & 0x7ff) * 16;
    uint64_t sector = v >> 14;
    memcpy(p, &types[v & 7], 4);
    memcpy(p + 8, &sector, 8);
}

static void registers(struct world *w, struct input *in, unsigned device) {
    static const uint8_t sizes[4] = {1, 2, 4, 8};
    uint64_t v = take(in, 3), at;
    unsigned size = sizes[v & 3];
    if (v & 4)
        at = config(device, v >> 4 & 0xff);
    else
        at = bar(w, device) + (v >> 4 & 7) * 0x1000 + (v >> 8 & 0x3f);
    if (v & 8)
        note(w, dev_bus_mmio_read(w->bus, at, size));
    else
        dev_bus_mmio_write(w->bus, at, size, take(in, size));
}

static void step(struct world *w, struct input *in) {
    uint64_t op = take(in, 1);
    unsigned device = (unsigned)(op >> 4) % DEVICES;
    switch (op & 15) {
    case 0:
        set_up(w, device, (unsigned)(op >> 6), take(in, 1) & 1, take(in, 4));
        break;
    case 1:
    case 2:
        registers(w, in, device);
        break;
    case 3:
    case 4:
    case 5:
    case 6:
        describe(w, in, op & 0x80 ? 0x4000 : 0x1000);
        break;
    case 7:
    case 8:
        ring(w, in);
        break;
    case 9:
        header(w, in);
        break;
    case 10:
        w->now += take(in, 2);
        break;
    case 11:
        virtio_balloon_set(w->balloon, (uint32_t)take(in, 2));
        note(w, virtio_net_receive(w->net, w->mem, take(in, 2) & 0x7ff));
        break;
    default:
        put(w, device, 0x3000 + 4 * (unsigned)(op >> 6), 2, 0);
        w->now += VIRTIO_LATENCY_NS;
        break;
    }
    clock_run(&w->clock);
    clock_run(&w->clock);
    REQUIRE(clock_next(&w->clock) > w->now);
}

/* ---- States ---- */

static struct world *moved(struct world *w) {
    struct world *to = calloc(1, sizeof(*to));
    struct dev_states *s = dev_bus_save(w->bus);
    REQUIRE(to && s);
    to->now = w->now;
    create(to);
    REQUIRE(dev_bus_load(to->bus, s) == 0);
    dev_states_free(s);
    to->hash = w->hash;
    memcpy(to->mem, w->mem, MEM);
    memcpy(to->disk, w->disk, DISK);
    destroy(w);
    return to;
}

static void corrupt(struct world *w, struct input *in) {
    struct device *d = *dev_bus_devices(w->bus);
    uint64_t which = take(in, 1) & 3, n = take(in, 1) & 15;
    while (d->next && which--)
        d = d->next;
    uint8_t *state = malloc(d->class->state_size);
    REQUIRE(state);
    dev_save(d, state);
    for (uint64_t i = 0; i < n; i++)
        state[take(in, 2) % d->class->state_size] = (uint8_t)take(in, 1);
    if (dev_load(d, state) == 0) {
        dev_save(d, state);
        REQUIRE(dev_load(d, state) == 0);
    }
    free(state);
    clock_run(&w->clock);
}

enum how { STAY, MOVE, CORRUPT };

static uint64_t run(const uint8_t *data, size_t size, enum how how) {
    struct input in = {data, size};
    struct world *w = calloc(1, sizeof(*w));
    REQUIRE(w);
    create(w);
    for (unsigned steps = 1; in.size && steps < STEPS; steps++) {
        if (how == CORRUPT && steps % 4 == 0)
            corrupt(w, &in);
        step(w, &in);
        if (how == MOVE && steps % (1 + size % 5) == 0)
            w = moved(w);
    }
    for (unsigned i = 0; i < MEM; i++)
        note(w, w->mem[i]);
    for (unsigned i = 0; i < DISK; i++)
        note(w, w->disk[i]);
    uint64_t hash = w->hash;
    destroy(w);
    return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t hash = run(data, size, STAY);
    REQUIRE(run(data, size, STAY) == hash);
    REQUIRE(run(data, size, MOVE) == hash);
    run(data, size, CORRUPT);
    return 0;
}
