/* SPDX-License-Identifier: MIT */
/*
 * The event ring: rooms emit, src/trace drains.
 *
 * Invariants
 * 1. One producer thread per ring. A full ring calls drain(); with no drain the event is
 *    counted in `lost` and dropped, never overwritten.
 * 2. With mask 0 (tracing off) an emit is one load, one test and nothing else.
 */
#ifndef PENUMBRA_EVENTS_H
#define PENUMBRA_EVENTS_H

#include <stdint.h>

enum pn_event {
#define PN_EVENT(name, fields, doc) PN_EV_##name,
#include "penumbra/events.inc"
#undef PN_EVENT
    PN_EV_COUNT
};

/* 64 bytes, little-endian, as written to a trace file. */
struct pn_event_rec {
    uint64_t time; /* virtual time: retired guest instructions of this vCPU; under KVM the
                      machine's nanoseconds */
    uint16_t id;   /* enum pn_event */
    uint16_t vcpu;
    uint32_t pad;    /* 0 */
    uint64_t arg[6]; /* in the order of events.inc; unused ones 0 */
};

struct pn_ring {
    uint64_t mask; /* bit per enum pn_event: which are recorded */
    /* The producer's clock: *time - *behind; NULL counts as 0. Two parts, since the CPU
     * keeps its clock as a limit and what is left of it. */
    const uint64_t *time;
    const int64_t *behind;
    struct pn_event_rec *rec;
    uint32_t size, count; /* capacity and fill, in records */
    uint16_t vcpu;
    uint64_t lost;
    void (*drain)(struct pn_ring *); /* must leave count < size, or the event is lost */
    void *opaque;                    /* the drain's */
};

/* Out of line: append one record. */
void pn_ring_push(struct pn_ring *ring, enum pn_event id, const uint64_t arg[6]);

#define pn_emit(ring, name, ...)                                                         \
    do {                                                                                 \
        struct pn_ring *pn_ring_ = (ring);                                               \
        if (pn_ring_ && pn_ring_->mask >> PN_EV_##name & 1)                              \
            pn_ring_push(pn_ring_, PN_EV_##name, (const uint64_t[6]){__VA_ARGS__});      \
    } while (0)

/* Return: the event's name, its fields separated by blanks, its meaning. */
const char *pn_event_name(enum pn_event id);
const char *pn_event_fields(enum pn_event id);
const char *pn_event_doc(enum pn_event id);

#endif
