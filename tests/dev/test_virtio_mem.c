/* SPDX-License-Identifier: MIT */
/* Memory that comes and goes: what a driver may plug, and what it may not. */
#include "driver.h"
#include "tests/suite.h"

#include <string.h>

#define SLOT   1u
#define START  0x40000000ull
#define BLOCKS 64u
#define ASK    DRV_BUFFERS
#define ANSWER (DRV_BUFFERS + 0x100u)

enum { PLUG, UNPLUG, UNPLUG_ALL, STATE };
enum { ACK, NACK, BUSY, ERROR };

static struct world {
    struct fx fx;
    struct drv d;
    struct virtio_mem *m;
    uint64_t discarded;
} w;

static size_t discard(void *opaque, pn_gpa gpa, size_t size) {
    ck_assert_uint_ge(gpa, START);
    ck_assert_uint_le(gpa + size, START + BLOCKS * (uint64_t)MEM_BLOCK);
    w.discarded += size;
    return size;
}

static void setup(void) {
    memset(&w, 0, sizeof(w));
    fx_init(&w.fx);
    w.fx.env.host.discard_phys = discard;
    const struct virtio_mem_config cfg = {
        .virtio = {.host = pci_host_create(&w.fx.env), .slot = SLOT},
        .start = START,
        .size = BLOCKS * (uint64_t)MEM_BLOCK};
    w.m = virtio_mem_create(&w.fx.env, &cfg);
    ck_assert_ptr_nonnull(w.m);
}

static void teardown(void) {
    fx_done(&w.fx);
}

/* Return: the answer's type; *state: what STATE says. */
static int ask(uint16_t type, uint64_t gpa, uint16_t blocks, int *state) {
    const struct {
        uint16_t type, pad[3];
        uint64_t gpa;
        uint16_t blocks, pad1[3];
    } r = {.type = type, .gpa = gpa, .blocks = blocks};
    const struct drv_segment s[] = {{ASK, sizeof(r), DRV_READ}, {ANSWER, 10, DRV_WRITE}};
    uint16_t got[5];
    memcpy(w.fx.mem + ASK, &r, sizeof(r));
    ck_assert_int_eq(drv_do(&w.d, s, 2), 10);
    memcpy(got, w.fx.mem + ANSWER, sizeof(got));
    if (state)
        *state = got[4];
    return got[0];
}

static uint64_t plugged(void) {
    uint64_t requested;
    return virtio_mem_plugged(w.m, &requested) / MEM_BLOCK;
}

START_TEST(as_much_is_plugged_as_was_asked_for) {
    int state;
    drv_begin(&w.d, &w.fx, SLOT, 0, _i ? 0 : DRV_PACKED_BIT);
    ck_assert_int_eq(ask(PLUG, START, 1, NULL), NACK);
    ck_assert(virtio_mem_ask(w.m, 4ull * MEM_BLOCK));
    ck_assert_int_eq(ask(PLUG, START + MEM_BLOCK, 3, NULL), ACK);
    ck_assert_int_eq(ask(PLUG, START + 8ull * MEM_BLOCK, 2, NULL), NACK);
    ck_assert_int_eq(ask(PLUG, START, 2, NULL), ERROR); /* one is plugged */
    ck_assert_int_eq(ask(STATE, START, 2, &state), ACK);
    ck_assert_int_eq(state, 2);
    ck_assert_int_eq(ask(STATE, START + MEM_BLOCK, 3, &state), ACK);
    ck_assert_int_eq(state, 0);
    ck_assert_uint_eq(plugged(), 3);
    w.discarded = 0;
    ck_assert_int_eq(ask(UNPLUG, START + 2ull * MEM_BLOCK, 1, NULL), ACK);
    ck_assert_uint_eq(w.discarded, MEM_BLOCK);
    ck_assert_int_eq(ask(UNPLUG, START + MEM_BLOCK, 3, NULL), ERROR);
    ck_assert_int_eq(ask(UNPLUG_ALL, 0, 0, NULL), ACK);
    ck_assert_uint_eq(plugged(), 0);
}
END_TEST

START_TEST(what_is_outside_the_region_is_an_error) {
    static const struct {
        uint64_t gpa;
        uint16_t blocks;
    } bad[] = {{0, 1},
               {START - MEM_BLOCK, 1},
               {START + 4096, 1},
               {START, 0},
               {START, BLOCKS + 1},
               {START + (BLOCKS - 1ull) * MEM_BLOCK, 2},
               {START + BLOCKS * (uint64_t)MEM_BLOCK, 1},
               {UINT64_MAX - MEM_BLOCK + 1, 1}};
    drv_begin(&w.d, &w.fx, SLOT, 0, _i ? 0 : DRV_PACKED_BIT);
    ck_assert(virtio_mem_ask(w.m, BLOCKS * (uint64_t)MEM_BLOCK));
    ck_assert(!virtio_mem_ask(w.m, (BLOCKS + 1) * (uint64_t)MEM_BLOCK));
    ck_assert(!virtio_mem_ask(w.m, 4096));
    for (unsigned n = 0; n < sizeof(bad) / sizeof(bad[0]); n++)
        for (uint16_t type = PLUG; type <= STATE; type++)
            if (type != UNPLUG_ALL)
                ck_assert_int_eq(ask(type, bad[n].gpa, bad[n].blocks, NULL), ERROR);
    ck_assert_int_eq(ask(4, START, 1, NULL), ERROR);
    ck_assert_uint_eq(plugged(), 0);
}
END_TEST

START_TEST(a_state_whose_sum_is_wrong_is_refused) {
    static uint8_t state[65536];
    struct device *d = (struct device *)w.m;
    ck_assert_uint_le(d->class->state_size, sizeof(state));
    dev_save(w.m, state);
    ck_assert_int_eq(dev_load(w.m, state), 0);
    state[d->class->state_size - 1] = 1; /* a block behind the region's end */
    ck_assert_int_ne(dev_load(w.m, state), 0);
    state[d->class->state_size - 1] = 0;
    state[d->class->state_size - MEM_BLOCKS_MAX / 8] = 1; /* one that is not counted */
    ck_assert_int_ne(dev_load(w.m, state), 0);
}
END_TEST

SUITE("virtio_mem", .setup = setup, .teardown = teardown,
      .tests = {a_state_whose_sum_is_wrong_is_refused},
      .loops = {{as_much_is_plugged_as_was_asked_for, 2},
                {what_is_outside_the_region_is_an_error, 2}})
