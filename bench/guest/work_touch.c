/* SPDX-License-Identifier: MIT */
/* Workloads whose guest tables stand still: what counts is which pages are used. */
#include "user.h"

/* Every place of a region, in the order that is asked for. */
struct places {
    uint64_t n, stride, i;
    struct shuffle shuffle;
    int random;
};

static struct places places_of(uint64_t bytes, uint64_t stride, uint64_t order) {
    uint64_t n = bytes / stride ? bytes / stride : 1;
    return (struct places){n, stride, 0, shuffle_of(n), order != 0};
}

static inline uint64_t next_place(struct places *p) {
    uint64_t i = p->random ? shuffle_next(&p->shuffle) : p->i++;
    if (p->i == p->n)
        p->i = 0;
    return REGION + i * p->stride;
}

/* One round. `write` per cent of the touches write. They are spread evenly, and others
 * each round. Return: a checksum of what was read. */
static uint64_t touch_all(struct places *p, uint64_t write, uint64_t round) {
    uint64_t sum = 0, part = round * 37 % 100;
    for (uint64_t i = 0; i < p->n; i++) {
        volatile uint64_t *w = at(next_place(p));
        part += write;
        if (part >= 100) {
            part -= 100;
            *w = i + round;
        } else {
            sum += *w ^ i;
        }
    }
    return sum;
}

uint64_t work_touch(uint64_t *sum) {
    uint64_t bytes = ARG(touch, bytes), rounds = ARG(touch, rounds);
    struct places p = places_of(bytes, ARG(touch, stride), ARG(touch, order));
    region(bytes, ARG(touch, page) == 1);
    if (ARG(touch, warm))
        touch_all(&p, 100, 0);
    begin();
    for (uint64_t i = 1; i <= rounds; i++)
        *sum = mix(*sum, touch_all(&p, ARG(touch, write), i));
    end();
    return rounds * p.n;
}

/* Phases as in KVM's dirty_log_perf_test: populate, then rounds with a harvest after
 * each. */
uint64_t work_dirty(uint64_t *sum) {
    uint64_t bytes = ARG(dirty, bytes), rounds = ARG(dirty, rounds);
    struct places p = places_of(bytes, ARG(dirty, stride), ARG(dirty, order));
    region(bytes, ARG(dirty, page) == 1);
    touch_all(&p, 100, 0);
    begin();
    round_done(0);
    for (uint64_t i = 1; i <= rounds; i++) {
        *sum = mix(*sum, touch_all(&p, ARG(dirty, write), i));
        round_done(i);
    }
    end();
    return rounds * p.n;
}

uint64_t work_demand(uint64_t *sum) {
    uint64_t n = ARG(demand, pages), total = 0;
    struct places p = places_of(n * PAGE, PAGE, ARG(demand, order));
    if (ARG(demand, by) == 0)
        call4(CALL_ON_FAULT, FAULT_DEMAND, REGION, n, frames(n * PAGE, PAGE));
    else
        region(n * PAGE, 0);
    begin();
    for (uint64_t i = 0; i < n; i++) {
        volatile uint64_t *w = at(next_place(&p));
        if (i & 1)
            total += *w;
        *w = i;
    }
    end();
    expect(total == 0, "a fresh page is not zero");
    if (ARG(demand, by) == 0)
        expect(call(CALL_COUNT, COUNT_DEMAND, 0) == n, "demand faults");
    for (uint64_t i = 0; i < n; i++)
        *sum = mix(*sum, *at(REGION + i * PAGE));
    return n;
}

/* Clear the A bits, use some pages, and look which pages have A. A CPU may set A
 * speculatively, but it never leaves A clear for a page that was used. */
uint64_t work_access(uint64_t *sum) {
    uint64_t n = ARG(access, pages), rounds = ARG(access, rounds);
    uint64_t use = n * ARG(access, touch) / 100, idle = 0, total = 0;
    struct places p = places_of(n * PAGE, PAGE, 1);
    region(n * PAGE, 0);
    touch_all(&p, 100, 0);
    begin();
    for (uint64_t r = 1; r <= rounds; r++) {
        call(CALL_CLEAN, REGION, n);
        for (uint64_t i = 0; i < use; i++)
            total += *at(next_place(&p));
        uint64_t seen = call(CALL_ACCESSED, REGION, n);
        idle += seen < use;
        round_done(r);
    }
    end();
    expect(!idle, "accessed bits");
    *sum = total;
    return rounds * n;
}

/* ---- Pointer chase ---- */

/* The pointer of place i: another cache line in each page, or all would share a set. */
static inline uint64_t pointer_at(uint64_t i, uint64_t stride) {
    return REGION + i * stride + i * 0x9e3779b1u % (stride / 64) * 64;
}

/* One ring through all places, in random order (Sattolo's algorithm). */
static void make_ring(uint64_t n, uint64_t stride) {
    uint64_t x = 88172645463325252ul;
    for (uint64_t i = 0; i < n; i++)
        *at(pointer_at(i, stride)) = i;
    for (uint64_t i = n - 1; i > 0; i--) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        uint64_t j = x % i, a = pointer_at(i, stride), b = pointer_at(j, stride);
        uint64_t v = *at(a);
        *at(a) = *at(b);
        *at(b) = v;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t a = pointer_at(i, stride);
        *at(a) = pointer_at(*at(a), stride);
    }
}

uint64_t work_chase(uint64_t *sum) {
    uint64_t stride = ARG(chase, stride) & ~63ul, steps = ARG(chase, steps);
    uint64_t n = ARG(chase, bytes) / stride ? ARG(chase, bytes) / stride : 1;
    region(n * stride, ARG(chase, page) == 1);
    make_ring(n, stride);
    uint64_t p = pointer_at(0, stride), i = 0;
    for (uint64_t k = 0; k < n; k++) /* once around: every page has been used */
        p = *at(p);
    expect(p == pointer_at(0, stride), "the ring is not closed");
    begin();
    for (; i + 8 <= steps; i += 8) {
        p = *at(p);
        p = *at(p);
        p = *at(p);
        p = *at(p);
        p = *at(p);
        p = *at(p);
        p = *at(p);
        p = *at(p);
    }
    for (; i < steps; i++)
        p = *at(p);
    end();
    *sum = p;
    return steps;
}
