/* SPDX-License-Identifier: MIT */
/*
 * Virtio devices, each test with split rings (_i 0) and packed ones (_i 1): what a driver gets,
 * when, and what becomes of a driver that breaks the rules.
 */
#include "driver.h"
#include "tests/suite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SECTORS 64u
#define HEADER  DRV_BUFFERS
#define DATA    (DRV_BUFFERS + 0x100u)
#define STATUS  (DRV_BUFFERS + 0x4000u)
#define TABLE   (DRV_BUFFERS + 0x5000u)
#define MSI     0xfee01000u

enum { RNG = 1, BLK, BALLOON, RO, NET };

struct world {
    struct fx fx;
    struct drv d;
    struct virtio_balloon *balloon;
    struct virtio_net *net;
    uint8_t frame[NET_FRAME_MAX];
    size_t frame_size;
    unsigned frames;
    uint8_t disk[SECTORS * DISK_SECTOR];
    bool direct;         /* the disk is read into guest memory, and written from there */
    unsigned refused;    /* accesses of the disk that are not let to guest memory */
    struct dev_job *job; /* that a device has given away */
    bool real_time;
    unsigned flushes, messages;
    uint32_t message;
    uint64_t discarded, hinted;
};
static struct world a, b;

static int access_disk(struct world *w, uint64_t at, const struct iovec *v,
                       unsigned pieces, bool write) {
    const uint8_t *mem = w->fx.mem, *first = v->iov_base;
    if (first >= mem && first < mem + FX_MEM && w->refused) {
        w->refused--;
        return -EFAULT;
    }
    for (unsigned i = 0; i < pieces; at += v[i++].iov_len)
        memcpy(write ? w->disk + at : v[i].iov_base, write ? v[i].iov_base : w->disk + at,
               v[i].iov_len);
    return 0;
}

static int disk_read(void *opaque, uint64_t at, const struct iovec *to, unsigned pieces) {
    return access_disk(opaque, at, to, pieces, false);
}

static int disk_write(void *opaque, uint64_t at, const struct iovec *from,
                      unsigned pieces) {
    return access_disk(opaque, at, from, pieces, true);
}

static void *memory_at(void *opaque, pn_gpa gpa, size_t size) {
    struct world *w = opaque;
    return w->direct && gpa < FX_MEM && size <= FX_MEM - gpa ? w->fx.mem + gpa : NULL;
}

static bool real_time(void *opaque) {
    return ((struct world *)opaque)->real_time;
}

static void keep_job(void *opaque, struct dev_job *job) {
    ((struct world *)opaque)->job = job;
}

static int disk_flush(void *opaque) {
    ((struct world *)opaque)->flushes++;
    return 0;
}

static int disk_discard(void *opaque, uint64_t at, uint64_t size) {
    memset(((struct world *)opaque)->disk + at, 0, size);
    return 0;
}

static bool msi(void *opaque, uint64_t address, uint32_t data) {
    struct world *w = opaque; /* the fixture is its first member */
    ck_assert_uint_eq(address, MSI);
    w->messages++;
    w->message = data;
    return true;
}

static size_t discard(void *opaque, pn_gpa gpa, size_t size) {
    struct world *w = opaque;
    if (gpa >= FX_MEM || size > FX_MEM - gpa)
        return 0;
    memset(w->fx.mem + gpa, 0, size);
    w->discarded += size;
    return size;
}

static void hint(void *opaque, pn_gpa gpa, size_t size) {
    struct world *w = opaque;
    ck_assert(gpa < FX_MEM && size <= FX_MEM - gpa);
    w->hinted += size;
}

static void send_frame(void *opaque, const void *frame, size_t size) {
    struct world *w = opaque;
    ck_assert_uint_le(size, NET_FRAME_MAX);
    memcpy(w->frame, frame, size);
    w->frame_size = size;
    w->frames++;
}

static void create(struct world *w) {
    memset(w, 0, sizeof(*w));
    fx_init(&w->fx);
    w->fx.env.irq.msi = msi;
    w->fx.env.host.discard_phys = discard;
    w->fx.env.host.memory_at = memory_at;
    w->fx.env.host.real_time = real_time;
    w->fx.env.host.offload = keep_job;
    struct pci_host *host = pci_host_create(&w->fx.env);
    ck_assert_ptr_nonnull(host);
    const struct virtio_rng_config rng = {.virtio = {.host = host, .slot = RNG},
                                          .seed = 7};
    const struct virtio_balloon_config balloon = {
        .virtio = {.host = host, .slot = BALLOON}, .hint = hint, .opaque = w};
    struct virtio_blk_config blk = {.virtio = {.host = host, .slot = BLK},
                                    .disk = {.size = sizeof(w->disk),
                                             .direct = true,
                                             .read = disk_read,
                                             .write = disk_write,
                                             .flush = disk_flush,
                                             .discard = disk_discard,
                                             .opaque = w},
                                    .serial = "serial",
                                    .queues = 2};
    ck_assert_ptr_nonnull(virtio_rng_create(&w->fx.env, &rng));
    ck_assert_ptr_nonnull(virtio_blk_create(&w->fx.env, &blk));
    w->balloon = virtio_balloon_create(&w->fx.env, &balloon);
    ck_assert_ptr_nonnull(w->balloon);
    const struct virtio_net_config net = {.virtio = {.host = host, .slot = NET},
                                          .net = {send_frame, w, NET_MTU},
                                          .mac = {2, 0, 0, 0, 0, 1}};
    w->net = virtio_net_create(&w->fx.env, &net);
    ck_assert_ptr_nonnull(w->net);
    blk.disk.read_only = true;
    blk.virtio.slot = RO;
    ck_assert_ptr_nonnull(virtio_blk_create(&w->fx.env, &blk));
}

static void setup(void) {
    create(&a);
    create(&b);
}

static void teardown(void) {
    fx_done(&a.fx);
    fx_done(&b.fx);
}

static void begin(struct world *w, unsigned slot, int packed) {
    drv_begin(&w->d, &w->fx, slot, 0, (packed ? 0 : DRV_PACKED_BIT) | DRV_EVENT_BIT);
    ck_assert_int_eq(w->d.packed, packed);
}

/* One request of a disk. Return: its status; -1: no answer. */
static int request(struct world *w, uint32_t type, uint64_t sector, uint32_t size) {
    const struct {
        uint32_t type, zero;
        uint64_t sector;
    } header = {type, 0, sector};
    const struct drv_segment s[] = {{HEADER, 16, DRV_READ},
                                    {DATA, size, type & 1 ? DRV_READ : DRV_WRITE},
                                    {STATUS, 1, DRV_WRITE}};
    memcpy(w->fx.mem + HEADER, &header, 16);
    w->fx.mem[STATUS] = 0xee;
    int64_t got = size ? drv_do(&w->d, s, 3)
                       : drv_do(&w->d, (const struct drv_segment[]){s[0], s[2]}, 2);
    return got < 0 ? -1 : w->fx.mem[STATUS];
}

/* ---- What a driver gets ---- */

START_TEST(random_bytes_follow_from_the_seed) {
    const struct drv_segment s = {DATA, 100, DRV_WRITE};
    begin(&a, RNG, _i);
    begin(&b, RNG, !_i);
    for (unsigned n = 0; n < 20; n++) { /* twice around */
        ck_assert_int_eq(drv_do(&a.d, &s, 1), 100);
        ck_assert_int_eq(drv_do(&b.d, &s, 1), 100);
        ck_assert_int_eq(memcmp(a.fx.mem + DATA, b.fx.mem + DATA, 100), 0);
        ck_assert_uint_eq(a.fx.mem[DATA + 100], 0);
    }
}
END_TEST

START_TEST(a_disk_gives_back_what_was_written) {
    begin(&a, BLK, _i & 1);
    a.direct = _i & 2;
    memset(a.fx.mem + DATA, 0x5a, 1024);
    ck_assert_int_eq(request(&a, 1, 3, 1024), 0);
    ck_assert_uint_eq(a.disk[3 * 512], 0x5a);
    ck_assert_uint_eq(a.disk[5 * 512], 0);
    memset(a.fx.mem + DATA, 0, 1024);
    ck_assert_int_eq(request(&a, 0, 4, 512), 0);
    ck_assert_uint_eq(a.fx.mem[DATA + 511], 0x5a);
    ck_assert_uint_eq(a.fx.mem[DATA + 512], 0);
    ck_assert_int_eq(request(&a, 4, 0, 0), 0);
    ck_assert_uint_eq(a.flushes, 1);
    ck_assert_int_eq(request(&a, 8, 0, 20), 0);
    ck_assert_str_eq((char *)a.fx.mem + DATA, "serial");
    const uint32_t range[4] = {3, 0, 1, 0};
    memcpy(a.fx.mem + DATA, range, 16);
    ck_assert_int_eq(request(&a, 11, 0, 16), 0);
    ck_assert_uint_eq(a.disk[3 * 512], 0);
    ck_assert_uint_eq(a.disk[4 * 512], 0x5a);
}
END_TEST

START_TEST(a_disk_is_read_into_guest_memory_which_is_told) {
    begin(&a, BLK, _i);
    a.direct = true;
    memset(a.disk, 0x5a, sizeof(a.disk));
    ck_assert_int_eq(request(&a, 0, 0, 1024), 0);
    ck_assert_uint_eq(a.fx.told, 1024);
    ck_assert_uint_eq(a.fx.mem[DATA + 1023], 0x5a);
    ck_assert_uint_eq(a.fx.mem[DATA + 1024], 0);
    a.fx.mem[DATA] = 1;
    ck_assert_int_eq(request(&a, 1, 7, 512), 0); /* a write tells nothing */
    ck_assert_uint_eq(a.fx.told, 1024);
    ck_assert_uint_eq(a.disk[7 * 512], 1);
}
END_TEST

START_TEST(a_place_that_the_host_refuses_is_reached_by_a_buffer) {
    begin(&a, BLK, _i);
    a.direct = true;
    memset(a.disk, 0x5a, sizeof(a.disk));
    for (unsigned write = 0; write < 2; write++) {
        a.refused = 1;
        a.fx.mem[DATA] = 1;
        ck_assert_int_eq(request(&a, write, 0, 1024), 0);
        ck_assert_uint_eq(a.refused, 0);
        ck_assert_uint_eq(a.fx.mem[DATA], write ? 1 : 0x5a);
        ck_assert_uint_eq(a.disk[0], write ? 1 : 0x5a);
    }
}
END_TEST

/* _i & 2: the host has read before the reset, and guest memory is told within it. */
START_TEST(nothing_is_stored_in_guest_memory_after_a_reset) {
    const uint64_t header[2] = {0, 0};
    const struct drv_segment s[] = {
        {HEADER, 16, DRV_READ}, {DATA, 512, DRV_WRITE}, {STATUS, 1, DRV_WRITE}};
    begin(&a, BLK, _i & 1);
    a.direct = a.real_time = true;
    memset(a.disk, 0x5a, sizeof(a.disk));
    memcpy(a.fx.mem + HEADER, header, sizeof(header));
    drv_give(&a.d, s, 3);
    ck_assert_ptr_nonnull(a.job);
    if (_i & 2)
        a.job->run(a.job);
    dev_bus_mmio_write(a.fx.bus, a.d.bar + DRV_STATUS, 1, 0);
    ck_assert_uint_eq(a.fx.told, _i & 2 ? 512 : 0);
    if (!(_i & 2))
        a.job->run(a.job);
    a.job->done(a.job);
    ck_assert_uint_eq(a.fx.told, _i & 2 ? 512 : 0);
    ck_assert_uint_eq(a.fx.mem[DATA], _i & 2 ? 0x5a : 0);
    ck_assert_int_eq(drv_take(&a.d), -1);
    a.job = NULL;
    begin(&a, BLK, _i & 1);
    a.real_time = false;
    ck_assert_int_eq(request(&a, 0, 0, 512), 0); /* and it goes on */
}
END_TEST

START_TEST(a_request_beyond_the_disk_or_of_no_kind_is_an_error) {
    static const struct {
        uint32_t type;
        uint64_t sector;
        uint32_t size;
        int status;
    } bad[] = {{0, SECTORS, 512, 1},    {0, SECTORS - 1, 1024, 1},
               {1, UINT64_MAX, 512, 1}, {0, 1ull << 55, 512, 1},
               {0, 0, 100, 1},          {1, 0, 0, 1},
               {99, 0, 0, 2},           {11, 0, 15, 1}};
    begin(&a, BLK, _i);
    memset(a.disk, 0x77, sizeof(a.disk));
    for (unsigned n = 0; n < sizeof(bad) / sizeof(bad[0]); n++)
        ck_assert_int_eq(request(&a, bad[n].type, bad[n].sector, bad[n].size),
                         bad[n].status);
    for (unsigned n = 0; n < sizeof(a.disk); n++)
        ck_assert_uint_eq(a.disk[n], 0x77);
    ck_assert_int_eq(request(&a, 0, 0, 512), 0); /* it goes on */
}
END_TEST

START_TEST(a_disk_that_is_read_only_is_not_written) {
    begin(&a, RO, _i);
    a.disk[0] = 1;
    ck_assert_int_eq(request(&a, 0, 0, 512), 0);
    ck_assert_uint_eq(a.fx.mem[DATA], 1);
    a.fx.mem[DATA] = 2;
    ck_assert_int_eq(request(&a, 1, 0, 512), 1);
    ck_assert_uint_eq(a.disk[0], 1);
}
END_TEST

START_TEST(descriptors_may_be_in_a_table) {
    const struct drv_segment table = {TABLE, 32, DRV_INDIRECT};
    begin(&a, RNG, _i);
    for (unsigned n = 0; n < 2; n++) {
        const uint64_t gpa = DATA + n * 0x200;
        const uint32_t size = 10;
        const uint16_t flags = n ? DRV_WRITE : DRV_WRITE | DRV_NEXT, next = 1;
        uint8_t *p = a.fx.mem + TABLE + n * 16;
        memcpy(p, &gpa, 8);
        memcpy(p + 8, &size, 4);
        memcpy(p + (_i ? 14 : 12), &flags, 2);
        memcpy(p + (_i ? 12 : 14), &next, 2);
    }
    ck_assert_int_eq(drv_do(&a.d, &table, 1), 20);
    ck_assert_uint_ne(a.fx.mem[DATA + 0x200] | a.fx.mem[DATA + 0x201], 0);
    ck_assert_uint_eq(a.fx.mem[DATA + 10], 0);
}
END_TEST

START_TEST(pages_of_a_balloon_are_given_back) {
    const uint32_t number[2] = {0xc, 0xd};
    const struct drv_segment s = {HEADER, 8, DRV_READ}, far = {HEADER + 8, 4, DRV_READ};
    const uint32_t beyond = FX_MEM >> 12;
    begin(&a, BALLOON, _i);
    virtio_balloon_set(a.balloon, 2);
    memcpy(a.fx.mem + HEADER, number, 8);
    memset(a.fx.mem + 0xc000, 1, 0x2000);
    ck_assert_int_eq(drv_do(&a.d, &s, 1), 0);
    ck_assert_uint_eq(a.discarded, 0x2000);
    ck_assert_uint_eq(a.fx.mem[0xdfff], 0);
    wr32(&a.fx, a.d.bar + 0x2004, 2);
    ck_assert_uint_eq(virtio_balloon_ask(a.balloon).actual, 2);
    ck_assert_uint_eq(virtio_balloon_ask(a.balloon).inflated, 2);
    memcpy(a.fx.mem + HEADER + 8, &beyond, 4);
    ck_assert_int_eq(drv_do(&a.d, &far, 1), -1);
    ck_assert(drv_status(&a.d) & DRV_NEEDS_RESET);
}
END_TEST

START_TEST(free_pages_that_are_reported_are_given_back) {
    const struct drv_segment s[] = {{0xc000, 0x1000, DRV_WRITE},
                                    {0xd800, 0x1800, DRV_WRITE}};
    const uint64_t stats = _i ? 2 : 0; /* without them the queue has another number */
    drv_begin(&a.d, &a.fx, BALLOON, 4 - _i, (_i ? 0 : DRV_PACKED_BIT) | stats);
    ck_assert_int_eq(drv_do(&a.d, s, 2), 0);
    ck_assert_uint_eq(a.discarded, 0x2000); /* whole pages */
    ck_assert_uint_eq(virtio_balloon_ask(a.balloon).reported, 2);
}
END_TEST

/* What the guest says between the number that it was asked by and 0 is heard; nothing else is. _i & 1: without
 * statistics the queue has another number. */
START_TEST(free_pages_are_hinted_at_as_often_as_it_is_asked) {
    const struct drv_segment number = {HEADER, 4, DRV_READ},
                             page = {0xc000, 0x2000, DRV_WRITE},
                             odd = {0xc800, 0x1000, DRV_WRITE};
    const uint64_t stats = _i & 1 ? 2 : 0;
    drv_begin(&a.d, &a.fx, BALLOON, 3 - (_i & 1), (_i & 2 ? 0 : DRV_PACKED_BIT) | stats);
    memset(a.fx.mem + 0xc000, 1, 0x2000);
    for (unsigned round = 1; round < 3; round++) {
        uint32_t before = rd32(&a.fx, a.d.bar + 0x2008), asked;
        wr32(&a.fx, HEADER, before);
        virtio_balloon_hints(a.balloon, HINTS_ANEW);
        asked = rd32(&a.fx, a.d.bar + 0x2008);
        ck_assert_uint_ne(asked, before);
        ck_assert_uint_ge(asked, HINTS_ANEW);
        ck_assert_int_eq(drv_do(&a.d, &number, 1), 0); /* the last one */
        ck_assert_int_eq(drv_do(&a.d, &page, 1), 0);
        ck_assert_uint_eq(a.hinted, (round - 1) * 0x2000);
        memcpy(a.fx.mem + HEADER, &asked, 4);
        ck_assert_int_eq(drv_do(&a.d, &number, 1), 0);
        ck_assert_int_eq(drv_do(&a.d, &page, 1), 0);
        ck_assert_int_eq(drv_do(&a.d, &odd, 1), 0); /* no whole page */
        ck_assert_uint_eq(a.hinted, round * 0x2000);
        memset(a.fx.mem + HEADER, 0, 4);
        ck_assert_int_eq(drv_do(&a.d, &number, 1), 0);
        ck_assert_int_eq(drv_do(&a.d, &page, 1), 0);
        ck_assert_uint_eq(a.hinted, round * 0x2000);
    }
    virtio_balloon_hints(a.balloon, HINTS_DONE);
    ck_assert_uint_eq(rd32(&a.fx, a.d.bar + 0x2008), HINTS_DONE);
    ck_assert_uint_eq(a.fx.mem[0xc000], 1); /* the host has not taken it */
    ck_assert_uint_eq(a.discarded, 0);
}
END_TEST

START_TEST(statistics_are_said_when_they_are_asked_for) {
    uint8_t item[20] = {4, 0, 0x77, 0, 0, 0, 0, 0, 0, 0, 99, 0, 1};
    const struct drv_segment s = {DATA, 20, DRV_READ};
    drv_begin(&a.d, &a.fx, BALLOON, 2, (_i ? 0 : DRV_PACKED_BIT) | DRV_EVENT_BIT);
    ck_assert(!virtio_balloon_ask_stats(a.balloon));
    memcpy(a.fx.mem + DATA, item, sizeof(item));
    ck_assert_int_eq(drv_do(&a.d, &s, 1), -1); /* the device keeps it */
    ck_assert_uint_eq(virtio_balloon_ask(a.balloon).known, 1u << BALLOON_FREE);
    ck_assert_uint_eq(virtio_balloon_ask(a.balloon).stat[BALLOON_FREE], 0x77);
    ck_assert(virtio_balloon_ask_stats(a.balloon));
    ck_assert_int_eq(drv_take(&a.d), 0);
    a.fx.mem[DATA + 2] = 0x78;
    ck_assert_int_eq(drv_do(&a.d, &s, 1), -1);
    ck_assert_uint_eq(virtio_balloon_ask(a.balloon).stat[BALLOON_FREE], 0x78);
}
END_TEST

START_TEST(a_frame_is_sent_without_its_header) {
    const struct drv_segment s[] = {{HEADER, 12, DRV_READ}, {DATA, 60, DRV_READ}};
    const struct drv_segment large[] = {{HEADER, 12, DRV_READ},
                                        {DATA, NET_FRAME_MAX + 1, DRV_READ}};
    drv_begin(&a.d, &a.fx, NET, 1, _i ? 0 : DRV_PACKED_BIT);
    memset(a.fx.mem + DATA, 0x42, 60);
    ck_assert_int_eq(drv_do(&a.d, s, 2), 0);
    ck_assert_uint_eq(a.frame_size, 60);
    ck_assert_uint_eq(a.frame[59], 0x42);
    ck_assert_int_eq(drv_do(&a.d, large, 2), 0); /* it is dropped */
    ck_assert_int_eq(drv_do(&a.d, s, 1), 0);     /* and this one is none */
    ck_assert_uint_eq(a.frames, 1);
}
END_TEST

START_TEST(a_frame_is_received_where_there_is_room) {
    const struct drv_segment s = {DATA, 1526, DRV_WRITE}, small = {DATA, 20, DRV_WRITE};
    uint8_t frame[100];
    memset(frame, 0x33, sizeof(frame));
    drv_begin(&a.d, &a.fx, NET, 0, _i ? 0 : DRV_PACKED_BIT);
    ck_assert(!virtio_net_receive(a.net, frame, sizeof(frame))); /* no buffer */
    ck_assert_int_eq(drv_do(&a.d, &s, 1), -1);
    ck_assert(virtio_net_receive(a.net, frame, sizeof(frame)));
    ck_assert_int_eq(drv_take(&a.d), 112);
    ck_assert_uint_eq(a.fx.mem[DATA + 10], 1); /* buffers of it */
    ck_assert_uint_eq(a.fx.mem[DATA + 111], 0x33);
    ck_assert_int_eq(a.fx.level[PCI_GSI + NET % PCI_GSIS], 1);
    drv_give(&a.d, &small, 1);
    ck_assert(!virtio_net_receive(a.net, frame, sizeof(frame)));
    ck_assert_int_eq(drv_take(&a.d), 0);
}
END_TEST

/* ---- When, and how it is told ---- */

START_TEST(a_queue_is_served_at_a_fixed_time) {
    const struct drv_segment s = {DATA, 4, DRV_WRITE};
    begin(&a, RNG, _i);
    drv_give(&a.d, &s, 1);
    fx_by(&a.fx, VIRTIO_LATENCY_NS - 1);
    ck_assert_int_eq(drv_take(&a.d), -1);
    fx_by(&a.fx, 1);
    ck_assert_int_eq(drv_take(&a.d), 4);
    ck_assert_int_eq(a.fx.level[PCI_GSI + RNG], 1);
    ck_assert_uint_eq(dev_bus_mmio_read(a.fx.bus, a.d.bar + 0x1000, 1), 1);
    ck_assert_int_eq(a.fx.level[PCI_GSI + RNG], 0);
}
END_TEST

START_TEST(a_message_waits_while_its_vector_is_masked) {
    const struct drv_segment s = {DATA, 4, DRV_WRITE};
    unsigned at = rd32(&a.fx, drv_config(RNG, 0x34)) & 0xff;
    begin(&a, RNG, _i);
    while ((rd32(&a.fx, drv_config(RNG, at)) & 0xff) != 0x11)
        at = rd32(&a.fx, drv_config(RNG, at)) >> 8 & 0xff;
    dev_bus_mmio_write(a.fx.bus, drv_config(RNG, at + 2), 2, 0x8000);
    dev_bus_mmio_write(a.fx.bus, a.d.bar + 0x1a, 2, 1); /* the queue's vector */
    wr32(&a.fx, a.d.bar + 0x4010, MSI);
    wr32(&a.fx, a.d.bar + 0x4018, 0x55);
    ck_assert_int_eq(drv_do(&a.d, &s, 1), 4);
    ck_assert_uint_eq(a.messages, 0);
    ck_assert_uint_eq(rd32(&a.fx, a.d.bar + 0x5000), 2);
    wr32(&a.fx, a.d.bar + 0x401c, 0);
    ck_assert_uint_eq(a.messages, 1);
    ck_assert_uint_eq(a.message, 0x55);
    ck_assert_uint_eq(rd32(&a.fx, a.d.bar + 0x5000), 0);
    ck_assert_int_eq(drv_do(&a.d, &s, 1), 4);
    ck_assert_uint_eq(a.messages, 2);
    ck_assert_int_eq(a.fx.level[PCI_GSI + RNG], 0);
}
END_TEST

/* MSI: where its capability is, and whether it is on or masked. */
static unsigned set_msi(unsigned on, unsigned masked) {
    unsigned at = rd32(&a.fx, drv_config(RNG, 0x34)) & 0xff;
    while ((rd32(&a.fx, drv_config(RNG, at)) & 0xff) != 5)
        at = rd32(&a.fx, drv_config(RNG, at)) >> 8 & 0xff;
    wr32(&a.fx, drv_config(RNG, at + 4), MSI | 3); /* whose low bits are none */
    dev_bus_mmio_write(a.fx.bus, drv_config(RNG, at + 12), 2, 0x66);
    wr32(&a.fx, drv_config(RNG, at + 16), masked);
    dev_bus_mmio_write(a.fx.bus, drv_config(RNG, at + 2), 2, on);
    return at;
}

START_TEST(a_message_takes_the_place_of_the_line) {
    const struct drv_segment s = {DATA, 4, DRV_WRITE};
    begin(&a, RNG, 0);
    unsigned at = set_msi(1, 0);
    ck_assert_int_eq(drv_do(&a.d, &s, 1), 4);
    ck_assert_uint_eq(a.messages, 1);
    ck_assert_uint_eq(a.message, 0x66);
    ck_assert_int_eq(a.fx.level[PCI_GSI + RNG], 0);
    set_msi(0, 0); /* the line is asked for as before */
    ck_assert_int_eq(a.fx.level[PCI_GSI + RNG], 1);
    set_msi(1, 0); /* and what was not answered is said again */
    ck_assert_int_eq(a.fx.level[PCI_GSI + RNG], 0);
    ck_assert_uint_eq(a.messages, 2);
    ck_assert_uint_eq(dev_bus_mmio_read(a.fx.bus, a.d.bar + 0x1000, 1), 1);
    set_msi(1, 1);
    ck_assert_int_eq(drv_do(&a.d, &s, 1), 4);
    ck_assert_uint_eq(a.messages, 2);
    ck_assert_uint_eq(rd32(&a.fx, drv_config(RNG, at + 20)), 1);
    set_msi(1, 0);
    ck_assert_uint_eq(rd32(&a.fx, drv_config(RNG, at + 20)), 0);
    ck_assert_uint_eq(a.messages, 3);
}
END_TEST

START_TEST(a_message_that_waits_is_part_of_the_state) {
    const struct drv_segment s = {DATA, 4, DRV_WRITE};
    begin(&a, RNG, 0);
    unsigned at = set_msi(1, 1);
    ck_assert_int_eq(drv_do(&a.d, &s, 1), 4);
    struct device *d = *dev_bus_devices(a.fx.bus);
    while (d->range[0] < 0 || dev_bus_where(a.fx.bus, d->range[0]) != a.d.bar)
        d = d->next;
    struct virtio_state *state = malloc(d->class->state_size);
    dev_save(d, state);
    wr32(&a.fx, drv_config(RNG, at + 16), 0);
    ck_assert_uint_eq(a.messages, 1);
    ck_assert_int_eq(dev_load(d, state), 0);
    wr32(&a.fx, drv_config(RNG, at + 16), 0);
    ck_assert_uint_eq(a.messages, 2);
    state->pci.config[at + 16] =
        0; /* waits, and is not masked: no device comes to that */
    ck_assert_int_ne(dev_load(d, state), 0);
    free(state);
}
END_TEST

START_TEST(the_event_index_says_which_buffer_interrupts) {
    const struct drv_segment s = {DATA, 4, DRV_WRITE};
    drv_begin(&a.d, &a.fx, RNG, 0, _i ? 0 : DRV_PACKED_BIT);
    ck_assert_int_eq(drv_do(&a.d, &s, 1), 4); /* the first one always does */
    dev_bus_mmio_read(a.fx.bus, a.d.bar + 0x1000, 1);
    const uint16_t third[2] = {_i ? 0x8003 : 0, 2}, split = 3;
    if (_i)
        memcpy(a.fx.mem + a.d.driver, third, 4);
    else
        memcpy(a.fx.mem + a.d.driver + 4 + 2 * DRV_SIZE, &split, 2);
    for (unsigned n = 1; n < 5; n++) {
        ck_assert_int_eq(drv_do(&a.d, &s, 1), 4);
        ck_assert_uint_eq(dev_bus_mmio_read(a.fx.bus, a.d.bar + 0x1000, 1), n == 3);
    }
}
END_TEST

START_TEST(a_whole_ring_at_once_interrupts) {
    const struct drv_segment s = {DATA, 4, DRV_WRITE};
    drv_begin(&a.d, &a.fx, RNG, 0, _i ? 0 : DRV_PACKED_BIT);
    ck_assert_int_eq(drv_do(&a.d, &s, 1), 4);
    dev_bus_mmio_read(a.fx.bus, a.d.bar + 0x1000, 1);
    const uint16_t next[2] = {_i ? 0x8001 : 0, 2}, split = 1;
    if (_i)
        memcpy(a.fx.mem + a.d.driver, next, 4);
    else
        memcpy(a.fx.mem + a.d.driver + 4 + 2 * DRV_SIZE, &split, 2);
    for (unsigned n = 0; n < DRV_SIZE; n++)
        drv_give(&a.d, &s, 1);
    fx_by(&a.fx, VIRTIO_LATENCY_NS);
    ck_assert_uint_eq(dev_bus_mmio_read(a.fx.bus, a.d.bar + 0x1000, 1), 1);
}
END_TEST

START_TEST(a_copy_goes_on_with_what_was_waiting) {
    const struct drv_segment s = {DATA, 8, DRV_WRITE};
    begin(&a, RNG, _i);
    ck_assert_int_eq(drv_do(&a.d, &s, 1), 8);
    dev_bus_mmio_read(a.fx.bus, a.d.bar + 0x1000, 1); /* the line falls */
    drv_give(&a.d, &s, 1);
    fx_by(&a.fx, VIRTIO_LATENCY_NS / 2);
    struct dev_states *states = dev_bus_save(a.fx.bus);
    b.fx.now = a.fx.now;
    memcpy(b.fx.mem, a.fx.mem, FX_MEM);
    b.d = a.d;
    b.d.f = &b.fx;
    ck_assert_int_eq(dev_bus_load(b.fx.bus, states), 0);
    dev_states_free(states);
    fx_by(&a.fx, VIRTIO_LATENCY_NS);
    fx_by(&b.fx, VIRTIO_LATENCY_NS);
    ck_assert_int_eq(drv_take(&b.d), 8);
    ck_assert_int_eq(memcmp(a.fx.mem, b.fx.mem, FX_MEM), 0);
    ck_assert_uint_eq(a.fx.rise_at[PCI_GSI + RNG], b.fx.rise_at[PCI_GSI + RNG]);
}
END_TEST

/* ---- A driver that breaks the rules ---- */

static void broken(struct world *w) {
    fx_by(&w->fx, VIRTIO_LATENCY_NS);
    ck_assert_int_eq(drv_take(&w->d), -1);
    ck_assert(drv_status(&w->d) & DRV_NEEDS_RESET);
    const struct drv_segment s = {DATA, 4, DRV_WRITE};
    begin(w, w->d.slot, w->d.packed); /* a reset is enough */
    ck_assert_int_eq(drv_do(&w->d, &s, 1), 4);
}

START_TEST(a_chain_that_loops_ends_the_device) {
    struct drv_segment s[DRV_SIZE];
    begin(&a, RNG, _i);
    for (unsigned n = 0; n < DRV_SIZE; n++)
        s[n] = (struct drv_segment){DATA, 4, DRV_WRITE};
    if (_i)
        s[DRV_SIZE - 1].flags |= DRV_NEXT;
    drv_give(&a.d, s, DRV_SIZE);
    if (!_i)
        drv_put(&a.d, DRV_SIZE - 1, DATA, 4, DRV_WRITE | DRV_NEXT, 0);
    broken(&a);
}
END_TEST

START_TEST(a_table_within_a_table_ends_the_device) {
    const struct drv_segment table = {TABLE, 16, DRV_INDIRECT};
    const uint64_t gpa = TABLE;
    const uint32_t size = 16;
    const uint16_t flags = DRV_INDIRECT;
    begin(&a, RNG, _i);
    memcpy(a.fx.mem + TABLE, &gpa, 8);
    memcpy(a.fx.mem + TABLE + 8, &size, 4);
    memcpy(a.fx.mem + TABLE + (_i ? 14 : 12), &flags, 2);
    drv_give(&a.d, &table, 1);
    broken(&a);
}
END_TEST

START_TEST(a_table_of_no_whole_descriptors_ends_the_device) {
    static const uint32_t sizes[] = {0, 15, 17};
    for (unsigned n = 0; n < 3; n++) {
        const struct drv_segment table = {TABLE, sizes[n], DRV_INDIRECT};
        begin(&a, RNG, _i);
        drv_give(&a.d, &table, 1);
        broken(&a);
    }
}
END_TEST

START_TEST(memory_that_is_not_there_ends_the_device) {
    static const uint64_t gpas[] = {FX_MEM - 4, FX_MEM, UINT64_MAX - 3, 1ull << 63};
    for (unsigned n = 0; n < 4; n++) {
        const struct drv_segment s = {gpas[n], 16, DRV_WRITE};
        begin(&a, RNG, _i);
        drv_give(&a.d, &s, 1);
        broken(&a);
    }
}
END_TEST

START_TEST(what_is_read_behind_what_is_written_ends_the_device) {
    const struct drv_segment s[] = {{DATA, 4, DRV_WRITE}, {DATA, 4, DRV_READ}};
    begin(&a, RNG, _i);
    drv_give(&a.d, s, 2);
    broken(&a);
}
END_TEST

START_TEST(an_index_that_jumps_ends_the_device) {
    const struct drv_segment s = {DATA, 4, DRV_WRITE};
    const uint16_t index = DRV_SIZE + 1;
    begin(&a, RNG, 0);
    drv_give(&a.d, &s, 1);
    memcpy(a.fx.mem + a.d.driver + 2, &index, 2);
    broken(&a);
}
END_TEST

START_TEST(a_reset_while_a_request_waits_forgets_it) {
    const struct drv_segment s = {DATA, 4, DRV_WRITE};
    begin(&a, RNG, _i);
    drv_give(&a.d, &s, 1);
    dev_bus_mmio_write(a.fx.bus, a.d.bar + DRV_STATUS, 1, 0);
    fx_by(&a.fx, 10 * VIRTIO_LATENCY_NS);
    ck_assert_int_eq(drv_take(&a.d), -1);
    ck_assert_uint_eq(a.fx.mem[DATA] | a.fx.mem[DATA + 1] | a.fx.mem[DATA + 2], 0);
}
END_TEST

START_TEST(who_is_no_bus_master_reaches_no_memory) {
    const struct drv_segment s = {DATA, 4, DRV_WRITE};
    begin(&a, RNG, _i);
    drv_give(&a.d, &s, 1);
    dev_bus_mmio_write(a.fx.bus, drv_config(RNG, 4), 2, 2);
    fx_by(&a.fx, VIRTIO_LATENCY_NS);
    ck_assert_int_eq(drv_take(&a.d), -1);
}
END_TEST

SUITE("virtio", .setup = setup, .teardown = teardown,
      .tests = {an_index_that_jumps_ends_the_device,
                a_reset_while_a_request_waits_forgets_it,
                a_message_takes_the_place_of_the_line,
                a_message_that_waits_is_part_of_the_state,
                who_is_no_bus_master_reaches_no_memory},
      .loops = {{random_bytes_follow_from_the_seed, 2},
                {a_disk_gives_back_what_was_written, 4},
                {a_disk_is_read_into_guest_memory_which_is_told, 2},
                {a_place_that_the_host_refuses_is_reached_by_a_buffer, 2},
                {nothing_is_stored_in_guest_memory_after_a_reset, 4},
                {a_request_beyond_the_disk_or_of_no_kind_is_an_error, 2},
                {a_disk_that_is_read_only_is_not_written, 2},
                {descriptors_may_be_in_a_table, 2},
                {pages_of_a_balloon_are_given_back, 2},
                {free_pages_that_are_reported_are_given_back, 2},
                {free_pages_are_hinted_at_as_often_as_it_is_asked, 4},
                {statistics_are_said_when_they_are_asked_for, 2},
                {a_frame_is_sent_without_its_header, 2},
                {a_frame_is_received_where_there_is_room, 2},
                {a_queue_is_served_at_a_fixed_time, 2},
                {a_message_waits_while_its_vector_is_masked, 2},
                {the_event_index_says_which_buffer_interrupts, 2},
                {a_whole_ring_at_once_interrupts, 2},
                {a_copy_goes_on_with_what_was_waiting, 2},
                {a_chain_that_loops_ends_the_device, 2},
                {a_table_within_a_table_ends_the_device, 2},
                {a_table_of_no_whole_descriptors_ends_the_device, 2},
                {memory_that_is_not_there_ends_the_device, 2},
                {what_is_read_behind_what_is_written_ends_the_device, 2}})
