/* SPDX-License-Identifier: MIT */
/* Legacy, VEX and EVEX encodings from their fields (SDM volume 2, "Instruction Format"). */
#include "cpu/emit.h"

static void legacy(struct emit *e, const struct enc *n) {
    if (n->lock)
        e8(e, 0xf0);
    if (n->p66)
        e8(e, 0x66);
    if (n->rep)
        e8(e, n->rep);
    unsigned rex = 0x40 | n->w << 3 | (n->reg & 8) >> 1 | n->rm >> 3;
    if (rex != 0x40 || n->rex)
        e8(e, rex);
    if (n->map) {
        e8(e, 0x0f);
        if (n->map == 2)
            e8(e, 0x38);
        else if (n->map == 3)
            e8(e, 0x3a);
    }
    e8(e, n->has_modrm ? n->opcode : n->opcode | (n->rm & 7));
}

static void vex(struct emit *e, const struct enc *n) {
    unsigned r = n->reg & 8 ? 0 : 0x80, b = n->rm & 8 ? 0 : 0x20;
    unsigned low = (~n->vvvv & 15u) << 3 | n->l << 2 | n->pp;
    if (b && !n->w && n->map == 1) {
        e8(e, 0xc5);
        e8(e, r | low);
    } else {
        e8(e, 0xc4);
        e8(e, r | 0x40 | b | n->map);
        e8(e, n->w << 7 | low);
    }
    e8(e, n->opcode);
}

/* Registers have five bits; the fifth of one in ModRM.rm is X. */
static void evex(struct emit *e, const struct enc *n) {
    unsigned r = (n->reg & 8 ? 0 : 0x80) | (n->reg & 16 ? 0 : 0x10);
    unsigned x = n->rm & 16 ? 0 : 0x40, b = n->rm & 8 ? 0 : 0x20;
    e8(e, 0x62);
    e8(e, r | x | b | n->map);
    e8(e, n->w << 7 | (~n->vvvv & 15u) << 3 | 4 | n->pp);
    e8(e, n->z << 7 | n->l << 5 | n->b << 4 | (n->vvvv & 16 ? 0 : 8) | n->aaa);
    e8(e, n->opcode);
}

void e_insn(struct emit *e, const struct enc *n) {
    if (n->evex)
        evex(e, n);
    else if (n->vex)
        vex(e, n);
    else
        legacy(e, n);
    if (n->has_modrm) {
        if (n->rm_mem)
            e_mem(e, n->reg, n->rm, n->disp);
        else
            e8(e, 0xc0 | (n->reg & 7) << 3 | (n->rm & 7));
    }
    memcpy(e->p, &n->imm, 8);
    e->p += n->imm_len;
}
