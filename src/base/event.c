/* SPDX-License-Identifier: MIT */
/* Names of the events of events.inc, and the producer's side of an event ring. */
#include "penumbra/events.h"

#include <assert.h>
#include <string.h>

static_assert(sizeof(struct pn_event_rec) == 64, "the record of a trace file");
static_assert(PN_EV_COUNT <= 64, "one bit per event in pn_ring.mask");

static const struct {
    const char *name, *fields, *doc;
} events[] = {
#define PN_EVENT(name, fields, doc) {#name, fields, doc},
#include "penumbra/events.inc"
#undef PN_EVENT
};

const char *pn_event_name(enum pn_event id) {
    assert(id < PN_EV_COUNT);
    return events[id].name;
}

const char *pn_event_fields(enum pn_event id) {
    assert(id < PN_EV_COUNT);
    return events[id].fields;
}

const char *pn_event_doc(enum pn_event id) {
    assert(id < PN_EV_COUNT);
    return events[id].doc;
}

void pn_ring_push(struct pn_ring *ring, enum pn_event id, const uint64_t arg[6]) {
    if (ring->count >= ring->size && ring->drain)
        ring->drain(ring);
    if (ring->count >= ring->size) {
        ring->lost++;
        return;
    }
    struct pn_event_rec *r = &ring->rec[ring->count++];
    r->time = ring->time ? *ring->time : 0;
    if (ring->behind)
        r->time -= (uint64_t)*ring->behind;
    r->id = (uint16_t)id;
    r->vcpu = ring->vcpu;
    r->pad = 0;
    memcpy(r->arg, arg, sizeof(r->arg));
}
