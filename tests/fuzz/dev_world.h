/* SPDX-License-Identifier: MIT */
/*
 * What fuzzed devices live in: time, a bus, guest memory, and a digest of all that they did.
 * A target's own world begins with this one, and is what the devices' calls are given.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dev/dev.h"
#include "input.h"

#define MEM 0x8000u

struct dev_world {
    uint64_t now, hash;
    struct clock clock;
    struct dev_bus *bus;
    size_t written; /* guest memory, since the target set it to 0 */
    uint8_t mem[MEM];
};

static inline void note(void *world, uint64_t v) {
    struct dev_world *w = world;
    w->hash = (w->hash ^ v) * 0x100000001b3ull;
    w->hash ^= w->hash >> 29;
}

static inline uint64_t world_now(void *opaque) {
    return ((struct dev_world *)opaque)->now;
}

static inline size_t fit(pn_gpa gpa, size_t size) {
    return gpa >= MEM ? 0 : size < MEM - gpa ? size : MEM - gpa;
}

static inline size_t read_phys(void *opaque, pn_gpa gpa, void *buf, size_t size) {
    size = fit(gpa, size);
    if (size)
        memcpy(buf, ((struct dev_world *)opaque)->mem + gpa, size);
    return size;
}

static inline size_t write_phys(void *opaque, pn_gpa gpa, const void *buf, size_t size) {
    struct dev_world *w = opaque;
    w->written += size;
    size = fit(gpa, size);
    if (size && buf)
        memcpy(w->mem + gpa, buf, size);
    return size;
}

static inline void *memory_at(void *opaque, pn_gpa gpa, size_t size) {
    return fit(gpa, size) == size ? ((struct dev_world *)opaque)->mem + gpa : NULL;
}

/* A bus and a clock; the rest is zeros. */
static inline void world_begin(struct dev_world *w) {
    w->clock = (struct clock){.now = world_now, .opaque = w};
    REQUIRE((w->bus = dev_bus_create()));
}

static inline void world_end(struct dev_world *w) {
    dev_bus_destroy(w->bus);
    REQUIRE(clock_next(&w->clock) == CLOCK_NEVER);
    free(w);
}

static inline void run_clock(struct dev_world *w) {
    clock_run(&w->clock);
    clock_run(&w->clock); /* what the first run armed in the past */
    REQUIRE(clock_next(&w->clock) > w->now);
}

/* The devices of `to`, new ones, go on where those of w are, which ends. */
static inline void world_move(struct dev_world *w, struct dev_world *to) {
    struct dev_states *s = dev_bus_save(w->bus);
    REQUIRE(s);
    to->now = w->now;
    REQUIRE(dev_bus_load(to->bus, s) == 0);
    dev_states_free(s);
    to->hash = w->hash;
    memcpy(to->mem, w->mem, MEM);
    world_end(w);
}

/* Give a device a state that has `n` bytes of the input in it. What it takes it takes
 * back, too. */
static inline void corrupt(struct dev_world *w, struct input *in) {
    struct device *d = *dev_bus_devices(w->bus);
    uint64_t which = take(in, 1), n = take(in, 1) & 31;
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
    run_clock(w);
}

enum how { STAY, MOVE, CORRUPT };

/* run returns a digest of everything that happened. */
static inline int world_try(uint64_t (*run)(const uint8_t *, size_t, enum how),
                            const uint8_t *data, size_t size) {
    uint64_t hash = run(data, size, STAY);
    REQUIRE(run(data, size, STAY) == hash);
    REQUIRE(run(data, size, MOVE) == hash);
    run(data, size, CORRUPT);
    return 0;
}
