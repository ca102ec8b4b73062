/* SPDX-License-Identifier: MIT */
/*
 * The event ring: rooms emit, src/trace drains.
 *
 * Invariants
 * 1. One producer thread per ring. A full ring calls drain(); with no drain the event is
 *    counted in `lost` and dropped, never overwritten.
 * 2. With mask 0 (tracing off) an emit is one load, one test and nothing else.
 * 3. An emit with another number of arguments than the event has fields does not compile.
 */
#pragma once

#include <stdint.h>

#include "penumbra/types.h"

PN_BEGIN_DECLS

enum pn_event {
#define PN_EVENT(name, fields, doc) PN_EV_##name,
#include "penumbra/events.inc"
    PN_EV_COUNT
};

/* Types of fields. */
enum pn_type {
#define PN_TYPE(name, doc) PN_TYPE_##name,
#include "penumbra/events.inc"
    PN_TYPE_COUNT
};

/* PN_FIELDS_name: how many fields an event has. Of no type that there is not. */
#define A(type, name) +(PN_TYPE_##type < PN_TYPE_COUNT)
enum {
#define PN_EVENT(name, fields, doc) PN_FIELDS_##name = 0 fields,
#include "penumbra/events.inc"
};
#undef A

#define PN_FIELDS_MAX 6

/* 80 bytes, little-endian, as written to a trace file. */
struct pn_event_rec {
    uint64_t time; /* virtual time: retired guest instructions of this vCPU; under KVM the
                      machine's nanoseconds; under --clock host those at which the
                      vCPU's slice began */
    uint16_t id;   /* enum pn_event */
    uint16_t vcpu;
    uint8_t cpl; /* 0..3, or PN_CPL_NONE: the producer knows neither CPL nor CR3 */
    uint8_t pad[3];
    uint64_t rip; /* of the instruction that the event belongs to; 0: not known */
    uint64_t cr3;
    uint64_t arg[PN_FIELDS_MAX]; /* in the order of events.inc; unused ones 0 */
};
#define PN_CPL_NONE 0xffu

struct pn_ring {
    uint64_t mask; /* bit per enum pn_event: which are recorded */
    /* The producer's clock: *time - *behind; NULL counts as 0. Two parts, since the CPU
     * keeps its clock as a limit and what is left of it. */
    const uint64_t *time;
    const int64_t *behind;
    /* Where the producer is, read when an event is recorded. NULL, all three: unknown. */
    const uint64_t *rip, *cr3;
    const uint8_t *cpl;
    const uint64_t *rsp; /* for `before`; NULL: unknown */
    struct pn_event_rec *rec;
    uint32_t size, count; /* capacity and fill, in records */
    uint16_t vcpu;
    uint64_t lost;
    void (*drain)(struct pn_ring *); /* must leave count < size, or the event is lost */
    void *opaque;                    /* the drain's */
    /* Called before one of a fault's two records, page_fault and fault_outcome, is; NULL:
     * nobody. It may emit other events. */
    void (*before)(struct pn_ring *ring, enum pn_event id, uint64_t gva);
    void *watcher; /* before's */
};

/* Append a record that lacks nothing but its arguments, which the caller sets, all of them.
 * Return: NULL: there is no room, and the event is lost. */
struct pn_event_rec *pn_ring_next(struct pn_ring *ring, enum pn_event id);
/* Append a record that is complete but for its vcpu. */
void pn_ring_add(struct pn_ring *ring, const struct pn_event_rec *rec);

/* One by one: an array on the stack would be read back before it is stored. */
static inline void pn_rec_args(struct pn_event_rec *rec, uint64_t a, uint64_t b,
                               uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
    rec->arg[0] = a;
    rec->arg[1] = b;
    rec->arg[2] = c;
    rec->arg[3] = d;
    rec->arg[4] = e;
    rec->arg[5] = f;
}
#define PN_SIX_ARGS(rec, a, b, c, d, e, f, ...) pn_rec_args(rec, a, b, c, d, e, f)

#define PN_SECOND(a, b, ...) b

/* The arguments are evaluated only when the event is recorded, the address of a fault perhaps
 * twice, and emit nothing. */
#define pn_emit(ring, name, ...)                                                         \
    do {                                                                                 \
        _Static_assert(sizeof((const uint64_t[]){0, ##__VA_ARGS__}) ==                   \
                           (1 + PN_FIELDS_##name) * sizeof(uint64_t),                    \
                       "events.inc gives " #name " another number of fields");           \
        struct pn_ring *pn_ring_ = (ring);                                               \
        if (pn_ring_ && pn_ring_->mask >> PN_EV_##name & 1) {                            \
            if ((PN_EV_##name == PN_EV_page_fault ||                                     \
                 PN_EV_##name == PN_EV_fault_outcome ||                                  \
                 PN_EV_##name == PN_EV_page_accessed) &&                                 \
                pn_ring_->before)                                                        \
                pn_ring_->before(pn_ring_, PN_EV_##name,                                 \
                                 PN_SECOND(0, ##__VA_ARGS__, 0));                        \
            struct pn_event_rec *pn_rec_ = pn_ring_next(pn_ring_, PN_EV_##name);         \
            if (pn_rec_)                                                                 \
                PN_SIX_ARGS(pn_rec_, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0);                \
        }                                                                                \
    } while (0)

/* Return: the event's name, its fields as "type:name" separated by blanks, its meaning.
 */
const char *pn_event_name(enum pn_event id);
const char *pn_event_fields(enum pn_event id);
const char *pn_event_doc(enum pn_event id);
const char *pn_type_name(enum pn_type type);

/* ---- What bits in fields mean ---- */

/* The type `role`: KVM's kvm_mmu_page_role.word (Linux 5.18 and later), so that its
 * tracepoints' roles and ours read the same; bits 20..22 are ours alone. */
#define PN_ROLE_LEVEL      0x0000000fu
#define PN_ROLE_4BYTE      0x00000010u /* has_4_byte_gpte */
#define PN_ROLE_QUAD_SHIFT 5           /* 2 bits: which part of a table of 1024 entries */
#define PN_ROLE_DIRECT     0x00000080u /* no guest table behind it */
#define PN_ROLE_ACC_SHIFT  8           /* PN_ACC_*, 3 bits: KVM's alone, as are */
#define PN_ROLE_INVALID    0x00000800u
#define PN_ROLE_NX         0x00001000u /* EFER.NXE: ours, too */
#define PN_ROLE_WP         0x00002000u
#define PN_ROLE_SMEP       0x00004000u
#define PN_ROLE_SMAP       0x00008000u
#define PN_ROLE_AD_OFF     0x00010000u
#define PN_ROLE_GUEST_MODE 0x00020000u
#define PN_ROLE_LONG       0x00100000u /* 4- or 5-level tables */
#define PN_ROLE_PSE        0x00200000u /* of 4-byte gptes: PS maps 4 MiB */
#define PN_ROLE_ROOT       0x00400000u /* the top of a root, no guest table behind it */

/* The type `mode`: how a root's guest tables are read. */
#define PN_MODE_LEVELS 0x007u /* 0: paging off; 2, 3 (PAE), 4, 5 */
#define PN_MODE_PSE    0x008u
#define PN_MODE_NX     0x010u
#define PN_MODE_WP     0x020u
#define PN_MODE_SMEP   0x040u
#define PN_MODE_SMAP   0x080u
#define PN_MODE_PKE    0x100u
#define PN_MODE_PKS    0x200u
#define PN_MODE_LMA    0x400u

PN_END_DECLS
