/* SPDX-License-Identifier: MIT */
/*
 * Operands on the bounce buffer: in device memory, across two pages, in a page whose stores
 * have to be seen. The instruction's own code runs on them, in a copy: behind it the
 * instruction is committed (ENTRY_DONE), where the block's code would go on with the next one.
 *
 * A copy is made when it is first needed. It stays in its slot until another descriptor needs
 * that one: few instructions do this, and they do it again and again.
 */
#include "cpu/lower.h"

/* A body; flags stored; a call; flags loaded; a jump. */
_Static_assert(BOUNCE_BODY + 9 + 4 + 8 + 5 <= BOUNCE_SLOT, "a slot holds it");
_Static_assert(BOUNCE_BODY <= UINT8_MAX, "a descriptor counts its bytes");

/* Where sd's body is. */
static uint32_t body_of(const struct xlat *x, const struct slow_desc *sd) {
    return x->blocks[sd->block].code + sd->resume;
}

static void make(const struct xlat *x, const struct slow_desc *sd, uint8_t *slot) {
    struct emit e = {slot};
    const uint8_t *body = x->rw + body_of(x, sd);
    memcpy(e.p, body, sd->body);
    e.p += sd->body;
    if (!(sd->flags & SLOW_LAST)) {
        if (sd->seg & SLOW_EFLAGS)
            eflags_store(&e);
        call_entry(&e, ENTRY_DONE);
        if (sd->seg & SLOW_EFLAGS)
            eflags_load(&e);
    }
    e_jmp_to(&e, body + sd->body);
}

const uint8_t *bounce_code(struct xlat *x, const struct slow_desc *sd) {
    uint32_t of = (uint32_t)((const uint8_t *)sd - x->rx);
    unsigned i = of * 0x9e3779b1u >> 24;
    _Static_assert(BOUNCES == 1u << 8, "the shift above");
    size_t slot = x->bounce + i * BOUNCE_SLOT;
    if (x->bounce_of[i] != of) {
        make(x, sd, x->rw + slot);
        x->bounce_of[i] = of;
    }
    x->bounced = sd;
    return x->rx + slot;
}

uint32_t bounce_origin(const struct xlat *x, uint32_t at) {
    if (at - x->bounce >= BOUNCES * BOUNCE_SLOT)
        return at;
    return body_of(x, x->bounced) + at % BOUNCE_SLOT;
}

void bounces_forget(struct xlat *x) {
    memset(x->bounce_of, 0, sizeof(x->bounce_of));
}
