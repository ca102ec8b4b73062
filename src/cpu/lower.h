/* SPDX-License-Identifier: MIT */
/*
 * Lowering: from decoded guest instructions to host code. One struct lower is the state
 * of one block's translation.
 *
 * Flags. Between instructions the guest's arithmetic flags are in memory (FS_MEM), in the
 * host's EFLAGS (FS_HOST), or in both. Whatever clobbers EFLAGS first makes sure that
 * memory has them (flags_spill); whatever needs them in EFLAGS asks flags_fill. Both use
 * RAX.
 *
 * Memory operands. mem_access emits the TLB probe and then `body`, which finds the
 * operand's host address in R10 and may use RAX. A copy of the body runs on the bounce
 * buffer (bounce.c). So it must not know where it is: it jumps nowhere outside itself. It
 * leaves R10 alone before its last use, and has at most BOUNCE_BODY bytes.
 */
#pragma once

#include "cpu/decode.h"
#include "cpu/xlat.h"

enum fs { FS_MEM, FS_BOTH, FS_HOST };

struct lower;
typedef void (*body_fn)(struct lower *l, const struct dec *d);

/* One access. flags: SLOW_READ, _WRITE, _ALIGN, _X87. last: nothing after body needs
 * ENTRY_DONE: it has no side effects, and the block ends within two instructions. */
struct access {
    body_fn body;
    uint8_t size, flags, seg;
    bool last;
    const struct masked *masked; /* of the shape, or NULL */
};

/* Its part out of line. */
struct cold {
    struct access access;
    uint8_t *from; /* rel32 that jumps here */
    uint8_t *resume, *end;
    int64_t disp;
    uint8_t base; /* base + disp: its address, when it stepped from the last one's */
    bool stepped;
    bool reused; /* the next operand relies on R10 */
    bool flags;  /* EFLAGS holds the guest's behind the body */
    uint8_t idx;
};

/* What R10 is the address of; see lower_mem.c. */
struct reuse {
    bool on, write;
    uint8_t base, size;
    unsigned cold; /* whose probe it was */
    int64_t disp;
};
#define REUSE_REACH 1024

/* The way out of the block, out of line. */
struct stub {
    uint8_t *from;
    uint64_t rip;
    uint8_t fs;   /* where the flags are */
    uint8_t rest; /* instructions that the block has not run */
};

struct lower {
    struct emit e;
    struct xlat *x;
    struct block *b;
    uint32_t block; /* its index */
    uint32_t mode;
    const int8_t *host_of; /* guest register -> host register, or -1: in memory */
    int32_t tlb;           /* displacement of the TLB pointer for this mode */
    unsigned n, cur;
    unsigned sides; /* conditional jumps that the block goes on behind */
    enum fs fs;
    bool vec;      /* the block touches vector state */
    bool ended;    /* control has left the block */
    bool flat32;   /* flat 32-bit code with a 32-bit stack */
    bool chain_ok; /* exits within the page may be chained */
    struct reuse last;
    uint32_t dead_stub; /* code offset of what a dead block's entry jumps to */
    unsigned cold_count, stub_count;
    struct cold cold[BLOCK_MAX * 2];
    struct stub stub[EXITS_MAX];
    struct dec dec[BLOCK_MAX];
};

static inline bool in64(const struct lower *l) {
    return l->mode & MODE_CODE64;
}
/* How this block lowers d. Flat 32-bit code has classes of its own for instructions that
 * are helpers elsewhere. */
static inline unsigned lower_class(const struct lower *l, const struct dec *d) {
    return l->flat32 && d->sh->flow ? d->sh->flow : d->sh->cls;
}
/* Code offset of the byte to be emitted next. */
static inline uint32_t here(const struct lower *l) {
    return (uint32_t)(l->e.p - l->x->rw);
}
static inline uint64_t rip_after(const struct lower *l) {
    const struct insn *in = &l->dec[l->cur].in;
    uint64_t rip = in->rip + in->len;
    return in64(l) ? rip : (uint32_t)rip;
}

/* ---- lower.c ---- */

void eflags_store(struct emit *e);
void eflags_load(struct emit *e);
void flags_spill(struct lower *l); /* memory has them; EFLAGS too, if they had */
void flags_fill(struct lower *l);  /* EFLAGS has them */
static inline void flags_clobber(struct lower *l) {
    flags_spill(l);
    l->fs = FS_MEM;
}

/* Load or store a guest register, wherever it lives. */
void reg_load(struct lower *l, unsigned to, unsigned guest);
void reg_store(struct lower *l, unsigned guest, unsigned from);

/* Leave for a constant address; cc: on that condition, or -1. Flags are in memory, or the
 * exit is conditional. */
void exit_to(struct lower *l, uint64_t rip, int cc);
/* Leave for the dispatcher, which is told `left` (LEFT_CHAIN, LEFT_BUDGET). */
void leave_block(struct lower *l, uint32_t left);
/* Out-of-line parts of the block. */
void emit_cold(struct lower *l);

/* ---- lower_mem.c ---- */

/* R10 = effective address of d's memory operand, without a segment base. May use RAX.
 * Leaves flags alone. */
void ea(struct lower *l, const struct dec *d);
/* Access the operand at R10 (offset in a->seg). Clobbers flags. */
void mem_access(struct lower *l, const struct dec *d, const struct access *a);
/* The same at base + disp, in a segment without base; base: a guest register or
 * INSN_NOREG. Knows whether R10 is near already. */
void mem_based(struct lower *l, const struct dec *d, unsigned base, int64_t disp,
               const struct access *a);
/* The access that d's own memory operand asks for. */
void mem_operand(struct lower *l, const struct dec *d, body_fn body);
/* Return: SLOW_TABLE for an instruction that fills page tables, or 0. */
uint8_t mem_fills_tables(const struct dec *d);
/* The bare probe of the address in R10, which becomes the host's. Uses RAX. Return: the
 * jump taken on a miss, R10 then being of no use. */
uint8_t *mem_probe(struct lower *l, unsigned size, bool write);
/* d has been lowered: what it wrote may have been the base that R10 depends on. */
void mem_forget_written(struct lower *l, const struct dec *d);
void emit_slow(struct lower *l, const struct cold *c);
/* A call of ENTRY_*; its descriptor is to follow. */
void call_entry(struct emit *e, unsigned entry);

/* ---- lower_plain.c ---- */

void body_plain(struct lower *l, const struct dec *d);
void lower_plain(struct lower *l, const struct dec *d);

/* ---- lower_misc.c ---- */

void lower_lea(struct lower *l, const struct dec *d);
void lower_moffs(struct lower *l, const struct dec *d);
void lower_acc_imm(struct lower *l, const struct dec *d);
void lower_xchg_acc(struct lower *l, const struct dec *d);
void lower_incdec(struct lower *l, const struct dec *d);
void lower_bt_mem(struct lower *l, const struct dec *d);
void lower_dir(struct lower *l, const struct dec *d);
void lower_vzero(struct lower *l, const struct dec *d);
void lower_helper(struct lower *l, const struct dec *d,
                  enum cpu_rc (*fn)(struct cpu *, const struct insn *));

/* xlat_odd_target of d, which is the last instruction of the block. */
void lower_odd_target(struct lower *l, const struct dec *d);

/* ---- lower_sys.c ---- */

/* Inline what a frequent helper does, where the mode lets it be simple. */
bool lower_inline(struct lower *l, const struct dec *d);

/* ---- lower_string.c ---- */

bool lower_string(struct lower *l, const struct dec *d);

/* ---- lower_flow.c ---- */

/* Push jit.save[0]. */
void lower_push_saved(struct lower *l, const struct dec *d);
void lower_push(struct lower *l, const struct dec *d);
void lower_pop(struct lower *l, const struct dec *d);
void lower_leave(struct lower *l, const struct dec *d);
void lower_jmp(struct lower *l, const struct dec *d);
void lower_call(struct lower *l, const struct dec *d);
void lower_ret(struct lower *l, const struct dec *d);
void lower_jcc(struct lower *l, const struct dec *d);
void lower_loop(struct lower *l, const struct dec *d);
void lower_jcxz(struct lower *l, const struct dec *d);
/* Go on at rip, which follows the block. */
void lower_fall(struct lower *l, uint64_t rip);
/* A direct branch of 64-bit code into the other half of the addresses, or into what is
 * between the halves: no other can leave the canonical ones. */
static inline bool odd_branch(const struct lower *l, const struct dec *d) {
    unsigned cls = d->sh->cls;
    return in64(l) && cls >= CLS_JMP && cls <= CLS_JCXZ && cls != CLS_RET &&
           !d->has_modrm && (d->in.imm ^ d->in.rip) >> 47;
}
/* With CET on: near branches that a shadow stack or the tracker has a part in. */
static inline bool cet_branch(const struct lower *l, const struct dec *d) {
    bool indirect = d->has_modrm;
    switch (d->sh->cls) {
    case CLS_JMP:
        return l->mode & MODE_IBT && indirect;
    case CLS_CALL:
        return l->mode & MODE_SHSTK || (l->mode & MODE_IBT && indirect);
    case CLS_RET:
        return l->mode & MODE_SHSTK;
    default:
        return false;
    }
}
/* Through near.c. */
void lower_near_helper(struct lower *l, const struct dec *d);
/* How every block begins: n instructions off the budget. */
static inline void emit_budget(struct emit *e, unsigned n) {
    e_alu_mem(e, true, ALU_SUB, H_SP, CO(budget), (int32_t)n);
}
/* The code of an exit to a constant address through the jump cache. */
void emit_cache_exit(struct emit *e, const struct xlat *x, uint32_t mode, uint64_t rip);
