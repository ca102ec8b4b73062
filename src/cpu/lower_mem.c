/* SPDX-License-Identifier: MIT */
/*
 * Memory operands: addresses, the TLB probe, its slow path, and its neighbour: an operand
 * that lies at a constant distance from the last one, on the same page, needs no probe.
 *
 * Invariant (reuse): while l->last.on, R10 is the host address of guest address
 * base + disp, in a page that the last probe found, and no C code has run since. The slow
 * path of an access that is reused leaves the block when it has bounced.
 */
#include <assert.h>

#include "cpu/lower.h"

void ea(struct lower *l, const struct dec *d) {
    const struct insn *in = &d->in;
    struct emit *e = &l->e;
    l->last.on = false;
    bool w = in->addrsize == 8;
    int64_t disp = in->disp;
    if (in->base == INSN_NOREG && in->index == INSN_NOREG) {
        uint64_t mask = w ? ~UINT64_C(0) : in->addrsize == 4 ? UINT32_MAX : UINT16_MAX;
        e_const(e, H_R10, (uint64_t)disp & mask);
        return;
    }
    unsigned base = 0;
    int index = -1;
    if (in->base != INSN_NOREG) {
        base = l->host_of[in->base] >= 0 ? (unsigned)l->host_of[in->base] : H_R10;
        if (base == H_R10)
            reg_load(l, H_R10, in->base);
    }
    if (in->index != INSN_NOREG) {
        index = l->host_of[in->index];
        if (index < 0) {
            index = H_AX;
            reg_load(l, H_AX, in->index);
        }
    }
    if (in->base == INSN_NOREG)
        e_lea_index(e, w, H_R10, (unsigned)index, in->scale, (int32_t)disp);
    else if (index < 0 && !disp)
        e_rr(e, w, OP_LOAD, H_R10, base);
    else
        e_lea(e, w, H_R10, base, index, in->scale, (int32_t)disp);
    if (in->addrsize == 2)
        e_rr2(e, false, OP2_MOVZX16, H_R10, H_R10);
}

/* Must every access go through the segment and its checks? */
static bool segmented(const struct lower *l, unsigned seg, bool write) {
    if (l->mode & (MODE_ALIGN | MODE_SLOWMEM) || !(l->mode & MODE_FLAT))
        return true;
    return !in64(l) && (seg == SEG_FS || seg == SEG_GS || (seg == SEG_CS && write));
}

/* ---- The probe ---- */

/* With a TLB model: the entry in RAX was hit (pn_tlb_used). */
static void stamp(struct emit *e) {
    e_lea(e, true, H_STAMP, H_STAMP, -1, 1, 1);
    e_rm(e, true, OP_STORE, H_STAMP, H_AX, offsetof(struct pn_tlb_entry, tag[PN_FETCH]));
}

/* RAX, an entry: in R10 what differs from the tag, which is the offset in the page if it is a
 * hit; then the operand's address. Return: the jump that a miss takes. */
static uint8_t *compare(struct emit *e, unsigned size, bool write) {
    e_rm(e, true, OP_XOR, H_R10, H_AX, write ? 8 : 0);
    e_alu(e, true, ALU_CMP, H_R10, (int32_t)(PN_PAGE_SIZE - size));
    uint8_t *miss = e_jcc(e, CC_NBE);
    e_rm(e, true, OP_ADD, H_R10, H_AX, offsetof(struct pn_tlb_entry, hva));
    return miss;
}

/* RAX = the TLB entry for the address in R10. tlb: displacement of the TLB's address. */
static void entry_of(struct emit *e, bool bmi2, int32_t tlb) {
    if (bmi2) { /* rorx eax, r10d, 7 */
        e8(e, 0xc4), e8(e, 0xc3), e8(e, 0x7b), e8(e, 0xf0), e8(e, 0xc2), e8(e, 7);
    } else {
        e_mov32(e, H_AX, H_R10);
        e_shift(e, false, SHIFT_SHR, H_AX, 7);
    }
    e8(e, 0x25), e32(e, (PN_TLB_ENTRIES - 1) << 5); /* and eax, imm */
    e_rm(e, true, OP_ADD, H_AX, H_SP, tlb);
}

/* From the address in R10: its TLB entry in RAX; else as compare. */
static uint8_t *probe(struct lower *l, unsigned size, bool write, bool constant,
                      uint64_t address) {
    struct emit *e = &l->e;
    if (constant) {
        e_rm(e, true, OP_LOAD, H_AX, H_SP, l->tlb);
        e8(e, 0x48), e8(e, 0x05); /* add rax, imm32 */
        e32(e, (uint32_t)(address >> PN_PAGE_SHIFT & (PN_TLB_ENTRIES - 1)) << 5);
    } else {
        entry_of(e, l->x->bmi2, l->tlb);
    }
    uint8_t *miss = compare(e, size, write);
    if (l->x->fetch_page)
        stamp(e);
    return miss;
}

/* The call has moved RSP by 8. */
const uint8_t *thunk_probe(struct emit *e, bool bmi2, enum pn_tlb_mode mode, bool write,
                           unsigned size) {
    const uint8_t *at = e->p;
    entry_of(e, bmi2, CO(view.tlb[0]) + 8 * (int32_t)mode + 8);
    uint8_t *miss = compare(e, 1u << size, write);
    e8(e, 0xf9); /* stc */
    e8(e, 0xc3); /* ret */
    e_link(miss, e->p);
    e8(e, 0xc3);
    return at;
}

uint8_t *mem_probe(struct lower *l, unsigned size, bool write) {
    return probe(l, size, write, false, 0);
}

static struct cold *cold_new(struct lower *l, const struct access *a) {
    struct cold *c = &l->cold[l->cold_count++];
    *c = (struct cold){.access = *a, .idx = (uint8_t)l->cur};
    c->access.flags |= l->vec ? SLOW_VEC : 0;
    return c;
}

static void run_body(struct lower *l, const struct dec *d, struct cold *c) {
    c->resume = l->e.p;
    c->access.body(l, d);
    c->end = l->e.p;
    c->flags = l->fs != FS_MEM;
    assert(c->end - c->resume <= BOUNCE_BODY);
}

void mem_access(struct lower *l, const struct dec *d, const struct access *a) {
    struct emit *e = &l->e;
    struct cold *c = cold_new(l, a);
    bool write = a->flags & SLOW_WRITE;
    flags_clobber(l);
    l->last.on = false;
    if (segmented(l, a->seg, write)) {
        c->access.flags |= SLOW_OFFS;
        c->from = e_jmp(e);
    } else {
        if (in64(l) && (a->seg == SEG_FS || a->seg == SEG_GS))
            e_rm(e, true, OP_ADD, H_R10, H_SP, CO(seg[0].base) + (int32_t)a->seg * 24);
        c->from = probe(l, a->size, write, false, 0);
    }
    run_body(l, d, c);
}

_Static_assert(sizeof(struct pn_segment) == 24, "mem_access adds seg * 24");
_Static_assert(sizeof(struct pn_tlb_entry) == 32, "the probe scales by 32");

/* ---- base + disp ---- */

static void based_ea(struct lower *l, unsigned base, int64_t disp) {
    struct emit *e = &l->e;
    bool w = in64(l);
    if (base == INSN_NOREG) {
        e_const(e, H_R10, w ? (uint64_t)disp : (uint32_t)disp);
        return;
    }
    unsigned h = l->host_of[base] >= 0 ? (unsigned)l->host_of[base] : H_R10;
    if (h == H_R10)
        reg_load(l, H_R10, base);
    if (disp)
        e_lea(e, w, H_R10, h, -1, 1, (int32_t)disp);
    else if (h != H_R10)
        e_rr(e, w, OP_LOAD, H_R10, h);
}

/* May R10, as it is, stand for the new operand's page? Then *by is their distance. */
static bool reusable(const struct lower *l, const struct access *a, unsigned base,
                     int64_t disp, int32_t *by) {
    const struct reuse *r = &l->last;
    int64_t dist =
        (int64_t)((uint64_t)disp - (uint64_t)r->disp); /* wraps, as addresses do */
    if (!r->on || r->base != base || (a->flags & SLOW_WRITE && !r->write) ||
        dist > REUSE_REACH || dist < -REUSE_REACH)
        return false;
    *by = (int32_t)dist;
    return dist >= 0 || dist + a->size <= r->size;
}

/* Step R10 to the new operand. Return: the jump taken when that leaves the page. */
static uint8_t *step(struct lower *l, int32_t by, unsigned size) {
    struct emit *e = &l->e;
    int32_t ahead = by >= 0 ? (int32_t)size - 1 : 0; /* look at its far end */
    e_lea(e, true, H_AX, H_R10, -1, 1, by + ahead);
    e_rr(e, true, OP_XOR, H_R10, H_AX);
    e_alu(e, true, ALU_CMP, H_R10, PN_PAGE_SIZE - 1);
    uint8_t *other = e_jcc(e, CC_NBE);
    if (ahead)
        e_lea(e, true, H_R10, H_AX, -1, 1, -ahead);
    else
        e_mov(e, H_R10, H_AX);
    return other;
}

void mem_based(struct lower *l, const struct dec *d, unsigned base, int64_t disp,
               const struct access *a) {
    bool write = a->flags & SLOW_WRITE;
    unsigned known = l->cold_count;
    int32_t by;
    if (segmented(l, a->seg, write)) {
        based_ea(l, base, disp);
        mem_access(l, d, a);
        return;
    }
    bool again = reusable(l, a, base, disp, &by);
    bool sure = again && !by && a->size <= l->last.size;
    if (again)
        l->cold[l->last.cold].reused = true;
    if (sure) {
        a->body(l, d);
    } else {
        struct cold *c = cold_new(l, a);
        flags_clobber(l);
        if (again) {
            c->from = step(l, by, a->size);
            c->base = (uint8_t)base;
            c->disp = disp;
            c->stepped = true;
        } else {
            based_ea(l, base, disp);
            c->from = probe(l, a->size, write, base == INSN_NOREG, (uint64_t)disp);
        }
        run_body(l, d, c);
    }
    l->last = (struct reuse){.on = !a->last,
                             .write = again ? l->last.write : write,
                             .base = (uint8_t)base,
                             .size = a->size,
                             .disp = disp,
                             .cold = sure ? l->last.cold : known};
}

/* Guests fill page tables by these and no others: MOV, XCHG, CMPXCHG, CMPXCHG8B, OR, AND,
 * BTS, BTC. KVM's flag PageTable (arch/x86/kvm/emulate.c), which a store of a segment
 * register has, too. */
uint8_t mem_fills_tables(const struct dec *d) {
    unsigned op = d->in.opcode, group = d->reg & 7;
    bool yes = false;
    if (d->vex || !d->has_modrm)
        yes = !d->vex && !d->map && (op & 0xfe) == 0xa2;
    else if (!d->map)
        yes = (op & 0xfe) == 0x08 || (op & 0xfe) == 0x20 || (op >= 0x86 && op <= 0x89) ||
              (op & 0xfe) == 0xc6 || ((op & 0xfc) == 0x80 && (group == 1 || group == 4));
    else if (d->map == 1)
        yes = op == 0xab || op == 0xbb || (op & 0xfe) == 0xb0 ||
              (op == 0xba && (group == 5 || group == 7)) || (op == 0xc7 && group == 1);
    return yes ? SLOW_TABLE : 0;
}

void mem_operand(struct lower *l, const struct dec *d, body_fn body) {
    const struct shape *s = d->sh;
    const struct insn *in = &d->in;
    struct access a = {.size = s->mem_size, .seg = in->seg, .body = body};
    a.masked = s->masked.k ? &s->masked : NULL;
    a.flags = (s->mem_acc & ACC_R ? SLOW_READ : 0) |
              (s->mem_acc & ACC_W ? SLOW_WRITE : 0) |
              (s->flags & SH_ALIGN ? SLOW_ALIGN : 0) |
              (s->flags & SH_WAITS ? SLOW_X87 : 0) | mem_fills_tables(d);
    if (in->index == INSN_NOREG && in->seg < SEG_FS &&
        in->addrsize == (in64(l) ? 8 : 4)) {
        mem_based(l, d, in->base, in->disp, &a);
        return;
    }
    ea(l, d);
    mem_access(l, d, &a);
}

/* What the instruction writes may be the base of the last operand. */
void mem_forget_written(struct lower *l, const struct dec *d) {
    const struct shape *s = d->sh;
    if (!l->last.on || l->last.base == INSN_NOREG)
        return;
    /* Who writes RSP implicitly has seen to l->last. */
    unsigned written = s->implicit_writes & ~(1u << R_SP), base = l->last.base;
    const struct role *role[3] = {&s->reg, &s->rm, &s->vvvv};
    unsigned num[3] = {d->reg, d->rm, d->vvvv};
    for (unsigned i = 0; i < 3; i++) {
        if (role[i]->kind != K_GPR || !(role[i]->acc & ACC_W))
            continue;
        written |= 1u << num[i];
        if (role[i]->size == 1) /* perhaps AH..BH */
            written |= 1u << (num[i] & 3);
    }
    if (!(written >> base & 1))
        return;
    /* add base, imm; sub base, imm */
    bool group1 = !d->vex && !d->map && (d->in.opcode == 0x81 || d->in.opcode == 0x83) &&
                  d->mod == 3 && d->rm == base && s->opsize == (in64(l) ? 8 : 4);
    if (group1 && (d->reg & 7) == 0)
        l->last.disp -= (int64_t)d->in.imm;
    else if (group1 && (d->reg & 7) == 5)
        l->last.disp += (int64_t)d->in.imm;
    else
        l->last.on = false;
}

/* ---- Out of line ---- */

void call_entry(struct emit *e, unsigned entry) {
    e8(e, 0xff); /* call [rsp + disp8] */
    e_mem(e, 2, H_SP, CO(jit.entry[0]) + (int32_t)entry * 8);
}

/* Another page: the whole probe after all. */
static void probe_after_step(struct lower *l, const struct cold *c) {
    struct emit *e = &l->e;
    const struct access *a = &c->access;
    bool write = a->flags & SLOW_WRITE;
    unsigned size = (unsigned)__builtin_ctz(a->size);
    based_ea(l, c->base, c->disp);
    if (a->size == 1u << size && size < PROBE_SIZES && !l->x->fetch_page) {
        e8(e, 0xe8); /* call */
        e->p += 4;
        e_link(e->p - 4, l->x->thunk_probe[tlb_mode_of(l->mode)][write][size]);
        e_link(e_jcc(e, CC_BE), c->resume);
    } else {
        uint8_t *miss = probe(l, a->size, write, false, 0);
        e_jmp_to(e, c->resume);
        e_link(miss, e->p);
    }
}

void emit_slow(struct lower *l, const struct cold *c) {
    struct emit *e = &l->e;
    const struct access *a = &c->access;
    e_link(c->from, e->p);
    if (c->stepped)
        probe_after_step(l, c);
    call_entry(e, ENTRY_SLOW);
    _Static_assert(BLOCK_MAX <= 1 << 6 && BLOCK_MAX * 15 < 1 << 10, "idx, at");
    struct slow_desc sd = {.block = l->block & 0xffffff,
                           .at = block_offset(l->x, l->b, c->idx) & 1023,
                           .idx = c->idx & 63,
                           .size = a->size,
                           .flags = a->flags,
                           .seg = a->seg,
                           .body = (uint8_t)(c->end - c->resume)};
    sd.flags |= a->last ? SLOW_LAST : 0;
    sd.seg |= (uint8_t)((c->flags ? SLOW_EFLAGS : 0) | (c->reused ? SLOW_LEAVE : 0) |
                        (lower_class(l, &l->dec[c->idx]) == CLS_CALL ? SLOW_JUMPS : 0) |
                        (a->masked ? SLOW_MASKED : 0));
    _Static_assert(BLOCK_CODE <= UINT16_MAX, "resume counts it");
    sd.resume = (uint16_t)(c->resume - l->x->rw - l->b->code);
    memcpy(e->p, &sd, sizeof sd);
    e->p += sizeof sd;
    if (a->masked) {
        memcpy(e->p, a->masked, sizeof *a->masked);
        e->p += sizeof *a->masked;
    }
}
