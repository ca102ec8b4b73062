/* SPDX-License-Identifier: MIT */
/* Names of the events of events.inc, and the producer's side of an event ring. */
#include "penumbra/events.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

static_assert(sizeof(struct pn_event_rec) == 80, "the record of a trace file");
static_assert(PN_EV_COUNT <= 64, "one bit per event in pn_ring.mask");

#define PN_EVENT(name, fields, doc)                                                      \
    static_assert(PN_FIELDS_##name <= PN_FIELDS_MAX, #name " has too many fields");
#include "penumbra/events.inc"

#define A(type, name) " " #type ":" #name
static const struct {
    const char *name, *fields, *doc;
} events[] = {
#define PN_EVENT(name, fields, doc) {#name, "" fields, doc},
#include "penumbra/events.inc"
};
#undef A

static const char *const types[] = {
#define PN_TYPE(name, doc) #name,
#include "penumbra/events.inc"
};

const char *pn_event_name(enum pn_event id) {
    assert(id < PN_EV_COUNT);
    return events[id].name;
}

const char *pn_event_fields(enum pn_event id) {
    assert(id < PN_EV_COUNT);
    return events[id].fields + (events[id].fields[0] == ' ');
}

const char *pn_event_doc(enum pn_event id) {
    assert(id < PN_EV_COUNT);
    return events[id].doc;
}

const char *pn_type_name(enum pn_type type) {
    assert(type < PN_TYPE_COUNT);
    return types[type];
}

/* Return: whether there is room for a record now; else it is lost. */
static __attribute__((noinline)) bool make_room(struct pn_ring *ring) {
    if (ring->drain)
        ring->drain(ring);
    if (ring->count < ring->size)
        return true;
    ring->lost++;
    return false;
}

/* Room for one record. Return: NULL, and the event is lost. */
static inline struct pn_event_rec *next(struct pn_ring *ring) {
    if (__builtin_expect(ring->count >= ring->size, 0) && !make_room(ring))
        return NULL;
    return &ring->rec[ring->count++];
}

struct pn_event_rec *pn_ring_next(struct pn_ring *ring, enum pn_event id) {
    struct pn_event_rec *r = next(ring);
    if (__builtin_expect(!r, 0))
        return NULL;
    uint64_t time = ring->time ? *ring->time : 0;
    if (ring->behind)
        time -= (uint64_t)*ring->behind;
    r->time = time;
    r->id = (uint16_t)id;
    r->vcpu = ring->vcpu;
    r->cpl = PN_CPL_NONE;
    memset(r->pad, 0, sizeof(r->pad));
    r->rip = r->cr3 = 0;
    if (ring->rip) {
        r->cpl = *ring->cpl;
        r->rip = *ring->rip;
        r->cr3 = *ring->cr3;
    }
    return r;
}

void pn_ring_add(struct pn_ring *ring, const struct pn_event_rec *rec) {
    struct pn_event_rec *r = next(ring);
    if (!r)
        return;
    *r = *rec;
    r->vcpu = ring->vcpu;
}
