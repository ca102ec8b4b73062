/* SPDX-License-Identifier: MIT */
/*
 * Code that all blocks share: jumps into entry.S, and what a jump cache's miss goes through.
 *
 * After a flush every block that is jumped to through the caches is looked up again: the
 * guest's tables may say otherwise now. Most say what they said. So the thunk of a miss makes
 * the look-up that finds the same block itself, and counts it as such; the dispatcher makes
 * the first one of each page, which fetches, and all others.
 *
 * With a TLB model control comes to another page by thunk_fetch alone, or by what does the same
 * for a constant target (lower_flow.c).
 */
#include "cpu/xlat.h"

const uint8_t *thunk_to(struct emit *e, const void *target) {
    const uint8_t *at = e->p;
    e_const(e, H_R10, (uint64_t)target);
    e_rr(e, false, OP_INDIRECT, INDIRECT_JMP, H_R10);
    return at;
}

#define HEAD(field)                                                                      \
    ((int32_t)offsetof(struct block_head, field) - (int32_t)sizeof(struct block_head))
#define FETCHED(field) (FETCH_OFFSET + (int32_t)offsetof(struct fetch_entry, field))
_Static_assert(sizeof(struct fetch_entry) == 1 << 5, "e_shift below");
_Static_assert(sizeof(struct jc_entry) == 1 << 4, "e_shift below");

/* Guest registers, kept where a trampoline would save them. */
static void keep(struct emit *e, unsigned op) {
    static const uint8_t regs[] = {H_CX, H_DX, H_BX, H_SI, H_DI};
    for (unsigned i = 0; i < sizeof(regs); i++)
        e_rm(e, true, op, regs[i], H_SP, CO(gpr[0]) + 8 * regs[i]);
}

/* rax: the tag. rcx: rip; rdx: where the first jump cache would have it. */
static void place(struct emit *e) {
    e_mov(e, H_CX, H_AX);
    e_rm(e, true, OP_XOR, H_CX, H_SP, CO(jc_salt));
    e_mov32(e, H_DX, H_CX);
    e_alu(e, false, ALU_AND, H_DX, JC_ENTRIES - 1);
    e_shift(e, false, SHIFT_SHL, H_DX, 4);
}

/* Is there an entry of the first jump cache for the same rip, by another salt, with code for
 * this mode? rcx, rdx: as place says; rbx: the code. *no: what goes on otherwise. */
static void known_before(struct emit *e, uint8_t ***no) {
    place(e);
    e_mov(e, H_BX, H_AX);
    e_rm_index(e, true, OP_XOR, H_BX, H_DX, JC_OFFSET);
    e_shift(e, true, SHIFT_SHR, H_BX, JC_BITS);
    *(*no)++ = e_jcc(e, CC_NZ);
    e_rm_index(e, true, OP_LOAD, H_BX, H_DX, JC_OFFSET + 8);
    e_rm(e, false, OP_LOAD, H_SI, H_SP, CO(mode));
    e_rm(e, false, OP_CMP, H_SI, H_BX, HEAD(mode));
    *(*no)++ = e_jcc(e, CC_NZ);
}

/* Was the page of rcx fetched since the flush, from where the block at rbx is? */
static void fetched_since(struct emit *e, uint8_t ***no) {
    e_shift(e, true, SHIFT_SHR, H_CX, PN_PAGE_SHIFT);
    e_mov32(e, H_DI, H_CX);
    e_alu(e, false, ALU_AND, H_DI, FETCH_ENTRIES - 1);
    e_shift(e, false, SHIFT_SHL, H_DI, 5);
    e_shift(e, true, SHIFT_SHL, H_CX, PN_PAGE_SHIFT);
    e_rm(e, false, OP_LOAD, H_SI, H_BX, HEAD(key));
    e_rr(e, true, OP_ADD, H_CX, H_SI);
    e_rm_index(e, true, OP_CMP, H_CX, H_DI, FETCHED(page));
    *(*no)++ = e_jcc(e, CC_NZ);
    e_rm(e, true, OP_LOAD, H_CX, H_SP, CO(view.fetch_gen));
    e_rm_index(e, true, OP_CMP, H_CX, H_DI, FETCHED(gen));
    *(*no)++ = e_jcc(e, CC_NZ);
    e_rm(e, true, OP_CMP, H_CX, H_SP, CO(jc_gen));
    *(*no)++ = e_jcc(e, CC_NZ);
    e_rm_index(e, true, OP_LOAD, H_CX, H_DI, FETCHED(gpa));
    e_rm(e, true, OP_CMP, H_CX, H_BX, HEAD(page));
    *(*no)++ = e_jcc(e, CC_NZ);
}

/* ---- With a TLB model ---- */

#define HIT(field) FETCHES(hit[0].field)
_Static_assert(sizeof(struct pn_fetch_hit) == 1 << 4, "8 is the page's shift less 4");

const uint8_t *thunk_fetch(struct emit *e) {
    const uint8_t *at = e->p;
    e_rm(e, true, OP_STORE, H_CX, H_SP, CO(jit.save[0]) + 8); /* by RSP in the call */
    e_mov32(e, H_CX, H_AX);
    e_shift(e, false, SHIFT_SHR, H_CX, PN_PAGE_SHIFT - 4);
    e_alu(e, false, ALU_AND, H_CX, (PN_FETCH_HITS - 1) << 4);
    e_rm_index(e, true, OP_CMP, H_AX, H_CX, HIT(page) + 8);
    uint8_t *no = e_jcc(e, CC_NZ);
    e_rm(e, true, OP_STORE, H_AX, H_SP, FETCHES(page) + 8);
    e_lea(e, true, H_STAMP, H_STAMP, -1, 1, 1);
    e_rm_index(e, true, OP_STORE, H_STAMP, H_CX, HIT(stamp) + 8);
    e_rm(e, true, OP_LOAD, H_CX, H_SP, CO(jit.save[0]) + 8);
    e8(e, 0xc3); /* ret */
    e_link(no, e->p);
    e_lea(e, true, H_SP, H_SP, -1, 1, 8);
    e_rm(e, true, OP_LOAD, H_CX, H_SP, CO(jit.save[0]));
    e_rm_index(e, true, OP_LOAD, H_AX, H_R10, JC_OFFSET);
    thunk_to(e, xlat_tramp_miss);
    return at;
}

void call_fetch(struct emit *e, const struct xlat *x) {
    uint8_t *same = e_jcc(e, CC_Z);
    e8(e, 0xe8); /* call */
    e->p += 4;
    e_link(e->p - 4, x->thunk_fetch);
    e_link(same, e->p);
}

/* rax: the tag, r10: its code, both in the first jump cache. Go there once the model knows. */
static void to_page(struct emit *e, const struct xlat *x) {
    e_mov32(e, H_R10, H_AX);
    e_rm(e, false, OP_XOR, H_R10, H_SP, CO(jc_salt));
    e_alu(e, false, ALU_AND, H_R10, JC_ENTRIES - 1);
    e_shift(e, false, SHIFT_SHL, H_R10, 4);
    e_rm(e, true, OP_XOR, H_AX, H_SP, CO(jc_salt));
    e_alu(e, true, ALU_AND, H_AX, -(int32_t)PN_PAGE_SIZE);
    e_rm(e, true, OP_CMP, H_AX, H_SP, FETCHES(page));
    call_fetch(e, x);
    e_rm_index(e, true, OP_LOAD, H_AX, H_R10, JC_OFFSET);
    e_rm_index(e, false, OP_INDIRECT, INDIRECT_JMP, H_R10, JC_OFFSET + 8);
}

/* ---- What a miss goes through ---- */

/* Go to the code at rbx, which the first jump cache has. With a model to_page. What jumps from
 * [no, n) goes on behind that. */
static void end(struct emit *e, const struct xlat *x, uint8_t **no, uint8_t **n) {
    e_mov(e, H_R10, H_BX);
    keep(e, OP_LOAD);
    if (x->fetch_page)
        to_page(e, x);
    else
        e_rr(e, false, OP_INDIRECT, INDIRECT_JMP, H_R10);
    while (n > no)
        e_link(*--n, e->p);
    keep(e, OP_LOAD);
}

/* rax: the tag; r10: where the second jump cache would have it. The look-up that finds what
 * was found before. A budget that is used up is for the dispatcher to see. */
static void look_again(struct emit *e, const struct xlat *x) {
    uint8_t *no[7], **n = no;
    keep(e, OP_STORE);
    e_alu_mem(e, true, ALU_CMP, H_SP, CO(budget), 1);
    *n++ = e_jcc(e, CC_S);
    known_before(e, &n);
    fetched_since(e, &n);
    e_rm_index(e, true, OP_STORE, H_AX, H_DX, JC_OFFSET);
    e_rm_index(e, true, OP_STORE, H_AX, H_R10, JC2_OFFSET);
    e_rm_index(e, true, OP_STORE, H_BX, H_R10, JC2_OFFSET + 8);
    e_rm(e, true, OP_LOAD, H_CX, H_SP, CO(stats));
    e_alu_mem(e, true, ALU_ADD, H_CX,
              (int32_t)offsetof(struct pn_stats, v[PN_STAT_block_lookup]), 1);
    end(e, x, no, n);
}

/* Ask the second jump cache; tell the first one. */
const uint8_t *thunk_miss(struct emit *e, const struct xlat *x) {
    const uint8_t *at = e->p;
    uint8_t *miss[2];
    e_mov(e, H_R10, H_AX);
    e_shift(e, true, SHIFT_SHR, H_R10, 16);
    e_rr(e, false, OP_XOR, H_R10, H_AX);
    e_shift(e, false, SHIFT_SHL, H_R10, JC_BITS);
    e_rr(e, false, OP_XOR, H_R10, H_AX);
    e_rm(e, false, OP_XOR, H_R10, H_SP, CO(jc_salt));
    e_alu(e, false, ALU_AND, H_R10, JC2_ENTRIES - 1);
    e_shift(e, false, SHIFT_SHL, H_R10, 4);
    e_rm_index(e, true, OP_CMP, H_AX, H_R10, JC2_OFFSET);
    miss[0] = e_jcc(e, CC_NZ);
    e_rm_index(e, true, OP_LOAD, H_R10, H_R10, JC2_OFFSET + 8); /* the code */
    if (x->fetch_page) {                                        /* of two pages, say */
        e_alu_mem(e, true, ALU_CMP, H_R10, HEAD(page), -1);
        miss[1] = e_jcc(e, CC_Z);
    }
    e_rm(e, true, OP_STORE, H_CX, H_SP, CO(jit.save[0]));
    e_mov(e, H_CX, H_AX);
    e_rm(e, true, OP_XOR, H_CX, H_SP, CO(jc_salt));
    e_alu(e, false, ALU_AND, H_CX, JC_ENTRIES - 1);
    e_shift(e, false, SHIFT_SHL, H_CX, 4);
    e_rm_index(e, true, OP_STORE, H_AX, H_CX, JC_OFFSET);
    e_rm_index(e, true, OP_STORE, H_R10, H_CX, JC_OFFSET + 8);
    e_rm(e, true, OP_LOAD, H_CX, H_SP, CO(jit.save[0]));
    if (x->fetch_page)
        to_page(e, x);
    else
        e_rr(e, false, OP_INDIRECT, INDIRECT_JMP, H_R10);
    e_link(miss[0], e->p);
    look_again(e, x);
    if (x->fetch_page)
        e_link(miss[1], e->p);
    thunk_to(e, xlat_tramp_miss);
    return at;
}
