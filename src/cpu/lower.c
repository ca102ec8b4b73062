/* SPDX-License-Identifier: MIT */
/* Lowering's ground: flags, registers, exits. */
#include "cpu/lower.h"

const int8_t host_of[2][16] = {{H_R9, H_CX, H_DX, H_BX, H_R11, H_BP, H_SI, H_DI, H_R8, -1,
                                -1, -1, H_R12, H_R13, H_R14, H_R15},
                               {H_R9, H_CX, H_DX, H_BX, H_R11, H_BP, H_SI, H_DI, -1, -1,
                                -1, -1, H_R12, H_R13, H_R14, H_R15}};

/* ---- Flags ---- */

void eflags_store(struct emit *e) {
    e8(e, 0x9f);                           /* lahf */
    e8(e, 0x0f), e8(e, 0x90), e8(e, 0xc0); /* seto al */
    e_word(e);
    e_rm(e, false, OP_STORE, H_AX, H_SP, CO(fl));
}

void eflags_load(struct emit *e) {
    e_rm2(e, OP2_MOVZX16, H_AX, H_SP, CO(fl)); /* as wide as it was stored */
    e8(e, 0x04), e8(e, 0x7f);                  /* add al, 0x7f: OF */
    e8(e, 0x9e);                               /* sahf: the others */
}

void flags_spill(struct lower *l) {
    if (l->fs != FS_HOST)
        return;
    eflags_store(&l->e);
    l->fs = FS_BOTH;
}

void flags_fill(struct lower *l) {
    if (l->fs != FS_MEM)
        return;
    eflags_load(&l->e);
    l->fs = FS_BOTH;
}

/* ---- Registers ---- */

void reg_load(struct lower *l, unsigned to, unsigned guest) {
    if (l->host_of[guest] >= 0)
        e_mov(&l->e, to, (unsigned)l->host_of[guest]);
    else
        e_rm(&l->e, true, OP_LOAD, to, H_SP, CO(gpr[guest]));
}

void reg_store(struct lower *l, unsigned guest, unsigned from) {
    if (l->host_of[guest] >= 0)
        e_mov(&l->e, (unsigned)l->host_of[guest], from);
    else
        e_rm(&l->e, true, OP_STORE, from, H_SP, CO(gpr[guest]));
}

/* ---- Out of line ---- */

static bool near(const struct lower *l, uint64_t rip) {
    return l->chain_ok && (rip ^ l->b->rip) < PN_PAGE_SIZE;
}

void leave_block(struct lower *l, uint32_t left) {
    e_const(&l->e, H_AX, left);
    e_rm(&l->e, false, OP_INDIRECT, INDIRECT_JMP, H_SP, CO(jit.entry[ENTRY_EXIT]));
}

/* An exit that may be chained: a jump whose target is patched. */
_Static_assert(BLOCK_CODE <= UINT16_MAX,
               "a block's stubs count from its code out of line");
static void chained_exit(struct lower *l, uint8_t *rel32, const struct stub *s) {
    struct emit *e = &l->e;
    struct xlat *x = l->x;
    uint32_t id = x->exit_count++;
    l->b->exit_count++;
    e_link(rel32, e->p);
    x->exits[id] = (struct block_exit){.ahead = (int16_t)(s->rip - l->b->rip),
                                       .idx = (uint8_t)(l->n - 1 - s->rest),
                                       .from = l->block & 0xffffff,
                                       .patch = (uint32_t)(rel32 - x->rw),
                                       .stub = (uint16_t)(here(l) - x->cold),
                                       .to = NO_BLOCK};
    leave_block(l, id << 2 | LEFT_CHAIN);
}

static void emit_stub(struct lower *l, const struct stub *s) {
    struct emit *e = &l->e;
    bool plain = s->fs != FS_HOST && !s->rest;
    if (!plain || !near(l, s->rip))
        e_link(s->from, e->p);
    if (s->fs == FS_HOST)
        eflags_store(e);
    if (s->rest)
        e_alu_mem(e, true, ALU_ADD, H_SP, CO(budget), s->rest);
    if (near(l, s->rip))
        chained_exit(l, plain ? s->from : e_jmp(e), s);
    else
        emit_cache_exit(e, l->x, l->mode, s->rip);
}

void exit_to(struct lower *l, uint64_t rip, int cc) {
    struct emit *e = &l->e;
    unsigned rest = l->n - l->cur - 1;
    if (cc < 0 && !near(l, rip)) {
        emit_cache_exit(e, l->x, l->mode, rip);
        return;
    }
    uint8_t *rel = cc < 0 ? e_jmp(e) : e_jcc(e, (unsigned)cc);
    l->stub[l->stub_count++] = (struct stub){rel, rip, (uint8_t)l->fs, (uint8_t)rest};
}

void emit_cold(struct lower *l) {
    for (unsigned i = 0; i < l->stub_count; i++)
        emit_stub(l, &l->stub[i]);
    for (unsigned i = 0; i < l->cold_count; i++)
        emit_slow(l, &l->cold[i]);
}
