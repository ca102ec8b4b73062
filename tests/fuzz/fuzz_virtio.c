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
#include "dev/virtio_devices.h"
#include "dev_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DISK          (32u * DISK_SECTOR)
#define QUEUE         16u /* descriptors */
#define STEPS         400u
#define MEMORY_BASE   0x40000000u
#define MEMORY_BLOCKS 8u
#define BELLS         (DEVICES * VIRTIO_QUEUES_MAX)

enum { RNG, BLK, BALLOON, NET, CONSOLE, P9, PMEM, VSOCK, MEMORY, DEVICES };

struct world {
    struct dev_world d;
    struct virtio_balloon *balloon;
    struct virtio_net *net;
    struct virtio_console *console;
    struct virtio_vsock *vsock;
    struct virtio_mem *memory;
    uint8_t disk[DISK];
    struct dev_bell *bell[BELLS];
    unsigned bells;
};

/* At the notification of a queue that is enabled, in a BAR, and never two in one place. */
static void put_bell(void *opaque, struct dev_bell *bell, pn_gpa at) {
    struct world *w = opaque;
    bool known = false;
    REQUIRE(at == DEV_NOWHERE || (at & 0x7fff) - 0x3000 < 4 * VIRTIO_QUEUES_MAX);
    bell->at = at;
    for (unsigned i = 0; i < w->bells; i++) {
        known |= w->bell[i] == bell;
        REQUIRE(w->bell[i] == bell || w->bell[i]->at != at || at == DEV_NOWHERE);
    }
    if (known)
        return;
    REQUIRE(w->bells < BELLS);
    w->bell[w->bells++] = bell;
}

static void set_irq(void *opaque, unsigned gsi, int level) {
    REQUIRE(gsi >= PCI_GSI && gsi < PCI_GSI + PCI_GSIS && (level == 0 || level == 1));
    note(opaque, gsi * 2 + (unsigned)level);
}

static bool msi(void *opaque, uint64_t address, uint32_t data) {
    note(opaque, address ^ (uint64_t)data << 32);
    return true;
}

static size_t discard_phys(void *opaque, pn_gpa gpa, size_t size) {
    const uint64_t region = MEMORY_BLOCKS * (uint64_t)MEM_BLOCK;
    if (gpa >= MEMORY_BASE && gpa - MEMORY_BASE < region)
        return size <= region - (gpa - MEMORY_BASE) ? size : 0;
    REQUIRE(gpa % 4096 == 0 && size % 4096 == 0 && size);
    size = fit(gpa, size);
    if (size)
        memset(((struct world *)opaque)->d.mem + gpa, 0, size);
    return size;
}

static int access_disk(struct world *w, uint64_t at, const struct iovec *v,
                       unsigned pieces, bool write) {
    for (unsigned i = 0; i < pieces; at += v[i++].iov_len) {
        REQUIRE(at <= DISK && v[i].iov_len <= DISK - at);
        memcpy(write ? w->disk + at : v[i].iov_base, write ? v[i].iov_base : w->disk + at,
               v[i].iov_len);
    }
    return 0;
}

static int disk_read(void *opaque, uint64_t at, const struct iovec *to, unsigned pieces) {
    return access_disk(opaque, at, to, pieces, false);
}

static int disk_write(void *opaque, uint64_t at, const struct iovec *from,
                      unsigned pieces) {
    return access_disk(opaque, at, from, pieces, true);
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

static size_t port_room(void *opaque, unsigned port) {
    REQUIRE(port < 2);
    return port ? SIZE_MAX : CONSOLE_SEND_MOST;
}

static void port_send(void *opaque, unsigned port, const void *buf, size_t size) {
    REQUIRE(port < 2 && size <= CONSOLE_SEND_MOST);
    for (size_t i = 0; i < size; i += 64)
        note(opaque, ((const uint8_t *)buf)[i]);
}

/* Whatever the server says fits. */
static size_t answer_9p(void *opaque, uint32_t epoch, const uint8_t *in, size_t size,
                        uint8_t *out, size_t room) {
    REQUIRE(size <= P9_MESSAGE_MAX && room <= P9_MESSAGE_MAX);
    size_t n = size < room ? size : room;
    memcpy(out, in, n);
    note(opaque, n);
    return n;
}

/* Whole pages, wherever. */
static void hint(void *opaque, pn_gpa gpa, size_t size) {
    REQUIRE(size && gpa % PN_PAGE_SIZE == 0 && size % PN_PAGE_SIZE == 0);
    note(opaque, gpa ^ size);
}

static bool packet_room(void *opaque) {
    return true;
}

static void packet(void *opaque, const struct vsock_header *h, const void *data) {
    REQUIRE(h->length <= VSOCK_DATA_MAX);
    for (uint32_t i = 0; i < h->length; i += 64)
        note(opaque, ((const uint8_t *)data)[i]);
}

static void create(struct world *w) {
    world_begin(&w->d);
    const struct dev_env env = {.bus = w->d.bus,
                                .clock = &w->d.clock,
                                .irq = {set_irq, msi, w},
                                .host = {.read_phys = read_phys,
                                         .write_phys = write_phys,
                                         .memory_at = memory_at,
                                         .discard_phys = discard_phys,
                                         .put_bell = put_bell,
                                         .opaque = w}};
    struct pci_host *host = pci_host_create(&env);
    REQUIRE(host);
    const struct virtio_rng_config rng = {{host, 1 + RNG, false}, 1, NULL};
    const struct virtio_balloon_config balloon = {
        .virtio = {host, 1 + BALLOON, false}, .hint = hint, .opaque = w};
    const struct virtio_net_config net = {
        {host, 1 + NET, false}, {send_frame, w, NET_MTU}, {2}};
    const struct virtio_blk_config blk = {.virtio = {host, 1 + BLK, false},
                                          .disk = {.size = DISK,
                                                   .direct = true,
                                                   .read = disk_read,
                                                   .write = disk_write,
                                                   .flush = disk_flush,
                                                   .discard = disk_discard,
                                                   .opaque = w},
                                          .queues = 2};
    const struct virtio_console_config console = {{host, 1 + CONSOLE, false},
                                                  {port_room, port_send, w},
                                                  2,
                                                  {{"", true}, {"b", false}}};
    const struct virtio_9p_config p9 = {{host, 1 + P9, false}, {answer_9p, w}, "tag"};
    const struct virtio_pmem_config pmem = {
        {host, 1 + PMEM, false}, 1ull << 32, 1u << 21, {disk_flush, w}};
    REQUIRE(virtio_9p_create(&env, &p9) && virtio_pmem_create(&env, &pmem));
    const struct virtio_vsock_config vsock = {
        {host, 1 + VSOCK, false}, 3, {packet_room, packet, NULL, w}};
    const struct virtio_mem_config memory = {
        {host, 1 + MEMORY, false}, MEMORY_BASE, MEMORY_BLOCKS * (uint64_t)MEM_BLOCK};
    REQUIRE((w->memory = virtio_mem_create(&env, &memory)));
    REQUIRE((w->vsock = virtio_vsock_create(&env, &vsock)));
    REQUIRE((w->console = virtio_console_create(&env, &console)));
    REQUIRE(virtio_rng_create(&env, &rng) && virtio_blk_create(&env, &blk) &&
            (w->balloon = virtio_balloon_create(&env, &balloon)) &&
            (w->net = virtio_net_create(&env, &net)));
}

/* ---- Operations ---- */

static uint64_t config(unsigned device, unsigned at) {
    return PCI_ECAM_BASE + ((uint64_t)(device + 1) << 15) + at;
}

static uint64_t bar(struct world *w, unsigned device) {
    return dev_bus_mmio_read(w->d.bus, config(device, 0x10), 4) & ~0xfull;
}

static void put(struct world *w, unsigned device, unsigned at, unsigned size,
                uint64_t value) {
    dev_bus_mmio_write(w->d.bus, bar(w, device) + at, size, value);
}

/* All that a driver does before it gives buffers. */
static void set_up(struct world *w, unsigned device, unsigned queue, bool packed,
                   uint64_t without) {
    uint64_t features = 0;
    dev_bus_mmio_write(w->d.bus, config(device, 4), 2, 6);
    put(w, device, 0x14, 1, 0);
    put(w, device, 0x14, 1, 3);
    for (unsigned half = 0; half < 2; half++) {
        put(w, device, 0, 4, half);
        features |= dev_bus_mmio_read(w->d.bus, bar(w, device) + 4, 4) << half * 32;
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
    uint8_t *p = w->d.mem + table + (v >> 5 & (QUEUE - 1)) * 16;
    memcpy(p, &gpa, 8);
    memcpy(p + 8, &size, 4);
    memcpy(p + (v & 0x800 ? 12 : 14), &flags, 2);
    memcpy(p + (v & 0x800 ? 14 : 12), &other, 2);
}

static void ring(struct world *w, struct input *in) {
    uint64_t v = take(in, 3);
    uint16_t index = (uint16_t)(v & 0x1f), head = (uint16_t)(v >> 5 & 0xf);
    memcpy(w->d.mem + 0x2002, &index, 2);
    memcpy(w->d.mem + 0x2004 + (v >> 9 & 0xf) * 2, &head, 2);
    memcpy(w->d.mem + 0x2024, (const uint8_t *)&v + 1, 2);
}

/* What a disk wants to read first, where descriptors may point. */
static void header(struct world *w, struct input *in) {
    static const uint32_t types[8] = {0, 1, 4, 8, 11, 13, 0, 99};
    uint64_t v = take(in, 3);
    uint8_t *p = w->d.mem + (v >> 3 & 0x7ff) * 16;
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
        note(w, dev_bus_mmio_read(w->d.bus, at, size));
    else
        dev_bus_mmio_write(w->d.bus, at, size, take(in, size));
}

static void step(struct world *w, struct input *in) {
    uint64_t op = take(in, 1);
    unsigned device = (unsigned)(op >> 4) % DEVICES;
    switch (op & 15) {
    case 0:
        set_up(w, device, (unsigned)(op >> 5), take(in, 1) & 1, take(in, 4));
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
        w->d.now += take(in, 2);
        break;
    case 11:
        note(w, (uint64_t)virtio_vsock_send(w->vsock, &(struct vsock_header){.op = 5},
                                            w->d.mem, op & 0xff));
        virtio_vsock_room(w->vsock);
        note(w, virtio_mem_ask(w->memory, (op >> 4) * (uint64_t)MEM_BLOCK));
        virtio_console_connect(w->console, op >> 4 & 1, op & 0x20);
        note(w, virtio_console_receive(w->console, op >> 4 & 1, w->d.mem, op & 0xff));
        virtio_console_room(w->console, op >> 4 & 1);
        note(w, virtio_balloon_ask_stats(w->balloon));
        virtio_balloon_set(w->balloon, (uint32_t)take(in, 2));
        virtio_balloon_hints(w->balloon, (op >> 4) % 3);
        note(w, virtio_net_receive(w->net, w->d.mem, take(in, 2) & 0x7ff));
        break;
    case 12: { /* by a bell, if there is one */
        pn_gpa at = bar(w, device) + 0x3000 + 4 * (unsigned)(op >> 5);
        for (unsigned i = 0; i < w->bells; i++)
            if (w->bell[i]->at == at)
                w->bell[i]->rung(w->bell[i]);
        w->d.now += VIRTIO_LATENCY_NS;
        break;
    }
    default:
        put(w, device, 0x3000 + 4 * (unsigned)(op >> 5), 2, 0);
        w->d.now += VIRTIO_LATENCY_NS;
        break;
    }
    run_clock(&w->d);
}

/* ---- States ---- */

static struct world *moved(struct world *w) {
    struct world *to = calloc(1, sizeof(*to));
    REQUIRE(to);
    create(to);
    memcpy(to->disk, w->disk, DISK);
    world_move(&w->d, &to->d);
    return to;
}

static uint64_t run(const uint8_t *data, size_t size, enum how how) {
    struct input in = {data, size};
    struct world *w = calloc(1, sizeof(*w));
    REQUIRE(w);
    create(w);
    for (unsigned steps = 1; in.size && steps < STEPS; steps++) {
        if (how == CORRUPT && steps % 4 == 0)
            corrupt(&w->d, &in);
        step(w, &in);
        if (how == MOVE && steps % (1 + size % 5) == 0)
            w = moved(w);
    }
    for (unsigned i = 0; i < MEM; i++)
        note(w, w->d.mem[i]);
    for (unsigned i = 0; i < DISK; i++)
        note(w, w->disk[i]);
    uint64_t hash = w->d.hash;
    world_end(&w->d);
    return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return world_try(run, data, size);
}
