/* SPDX-License-Identifier: MIT */
/* From guest bytes to one block: decode until something ends it, then lower. */
#include <stdlib.h>

#include "cpu/lower.h"
#include "cpu/nested.h"

struct lower *lower_create(void) {
    return calloc(1, sizeof(struct lower));
}

/* ---- Decoding ---- */

/* A block goes on behind a conditional jump at most SIDES_MAX times, and only where it
 * has at most SIDES_REACH instructions so far. */
#define SIDES_MAX   (EXITS_MAX - 3)
#define SIDES_REACH 32u

static bool ends_block(const struct lower *l, const struct dec *d) {
    if (odd_branch(l, d))
        return true;
    switch (lower_class(l, d)) {
    case CLS_UD:
    case CLS_JMP:
    case CLS_CALL:
    case CLS_RET:
    case CLS_LOOP:
    case CLS_JCXZ:
        return true;
    case CLS_JCC: /* a forward one is likely not taken */
        return d->in.imm <= d->in.rip || l->sides == SIDES_MAX || l->n > SIDES_REACH;
    case CLS_PUSH: /* two operands in memory: see SLOW_LAST */
    case CLS_POP:
        return d->has_modrm && d->mod != 3;
    case CLS_HELPER:
        return d->in.ends_block;
    default:
        return false;
    }
}

static const struct shape too_long = {.cls = CLS_HELPER, .fn = xlat_too_long};

/* Raises the fault, too. */
static bool beyond_limit(struct cpu *cpu, uint64_t rip, unsigned len) {
    if (rip + len - 1 <= cpu->seg[SEG_CS].limit)
        return false;
    cpu_raise_code(cpu, 13, 0);
    return true;
}

/* The first instruction may reach into the next page. */
static bool decode_across(struct xlat *x, struct block *b, const uint8_t *p,
                          unsigned avail, struct dec *d) {
    struct lower *l = x->lower;
    struct cpu *cpu = x->cpu;
    uint8_t bytes[15], *hva;
    uint64_t lin = b->rip + avail;
    if (!in64(l))
        lin = (uint32_t)(cpu->seg[SEG_CS].base + lin);
    pn_gpa gpa;
    if (cpu_fetch_page(cpu, lin, &hva, &gpa))
        return false;
    memcpy(bytes, p, avail);
    memcpy(bytes + avail, hva, sizeof bytes - avail);
    b->across = x->across_count;
    x->across[b->across].gpa2 = gpa & PN_PAGE_MASK;
    if (decode(x->dec, bytes, sizeof bytes, b->rip, b->mode, d) != DECODE_OK) {
        d->sh = &too_long;
        d->in.ends_block = 1;
    } else if (d->in.len <= avail) {
        b->across = NO_BLOCK; /* undefined already by its first bytes */
    }
    return in64(l) || !beyond_limit(cpu, b->rip, d->in.len);
}

/* Bytes of the page from rip on that may be executed. */
static unsigned fetch_limit(const struct cpu *cpu, uint64_t rip, pn_gpa gpa) {
    unsigned avail = PN_PAGE_SIZE - (gpa & (PN_PAGE_SIZE - 1));
    if (cpu->mode & MODE_CODE64)
        return avail;
    uint64_t left = (uint64_t)cpu->seg[SEG_CS].limit - rip + 1;
    return left < avail ? (unsigned)left : avail;
}

static bool decode_block(struct xlat *x, struct block *b, const uint8_t *hva,
                         unsigned max) {
    struct lower *l = x->lower;
    unsigned avail = fetch_limit(x->cpu, b->rip, b->gpa), off = 0;
    l->n = l->sides = 0;
    while (l->n < max && off < avail) {
        struct dec *d = &l->dec[l->n];
        uint64_t rip = b->rip + off;
        if (l->n && debug_splits(x->cpu, rip))
            break;
        enum decode_rc rc = decode(x->dec, hva + off, avail - off, rip, b->mode, d);
        if (rc == DECODE_MORE) {
            if (l->n)
                break;
            if (!in64(l) && beyond_limit(x->cpu, b->rip, avail + 1))
                return false;
            if (!decode_across(x, b, hva, avail, d))
                return false;
            max = 1;
        } else if (rc == DECODE_TOO_LONG) {
            d->sh = &too_long;
            d->in.ends_block = 1;
        }
        x->lens[x->len_count + l->n] = d->in.len;
        off += d->in.len;
        l->n++;
        l->vec |= d->sh->flags & SH_VEC;
        if (ends_block(l, d))
            break;
        l->sides += lower_class(l, d) == CLS_JCC;
    }
    b->bytes = (uint16_t)off;
    b->n = (uint8_t)l->n;
    return true;
}

/* ---- Lowering ---- */

/* Does the mode forbid the unit that d needs? Return: what raises the fault, or NULL. */
static enum cpu_rc (*unit_missing(const struct lower *l,
                                  const struct dec *d))(struct cpu *,
                                                        const struct insn *) {
    unsigned need = d->sh->flags & SH_NEEDFP;
    if (need & SH_NEEDEVEX && !(l->mode & MODE_EVEX))
        return xlat_no_evex;
    if (need & SH_NEEDAVX && l->mode & MODE_NOAVX)
        return xlat_no_avx;
    if (need & SH_NEEDSSE && l->mode & MODE_NOSSE)
        return xlat_no_sse;
    if (need & SH_NEEDMMX && l->mode & MODE_NOFPU)
        return xlat_no_mmx;
    if (need & SH_NEED387 && l->mode & MODE_NOFPU)
        return xlat_no_fpu;
    return NULL;
}

static void lower_ud(struct lower *l, const struct dec *d) {
    lower_helper(l, d, op_ud);
    l->ended = true;
}

static void lower_by_helper(struct lower *l, const struct dec *d) {
    if (unlikely(l->mode & MODE_GUEST)) {
        svm_helper *guard = nested_guard(l->x->cpu, d->sh->fn);
        if (guard != d->sh->fn) {
            lower_helper(l, d, guard);
            l->ended = d->in.ends_block;
            return;
        }
    }
    if (lower_inline(l, d))
        return;
    lower_helper(l, d, d->sh->fn);
    l->ended = d->in.ends_block;
}

static bool is_pause(const struct dec *d) {
    return d->in.rep == 0xf3 && d->in.opcode == 0x90 && !d->map;
}

/* LFENCE, MFENCE, SFENCE. */
static bool is_fence(const struct dec *d) {
    return d->map == 1 && d->in.opcode == 0xae;
}

/* Where vCPUs are threads fences are the host's, and who pauses says so (run.c). */
static void lower_nop(struct lower *l, const struct dec *d) {
    struct emit *e = &l->e;
    if (l->mode & MODE_GUEST && is_pause(d)) {
        lower_helper(l, d, nested_pause(l->x->cpu));
    } else if (l->x->cpu->par && is_fence(d)) {
        e8(e, 0x0f);
        e8(e, 0xae);
        e8(e, 0xc0 | (d->reg & 7) << 3);
    } else if (l->x->cpu->par && is_pause(d)) {
        e_rm(e, false, 0xc6, 0, H_SP, CO(paused)); /* mov byte, 1 */
        e8(e, 1);
    }
}

static const body_fn lowerings[CLS_COUNT] = {
    [CLS_UD] = lower_ud,           [CLS_HELPER] = lower_by_helper,
    [CLS_PLAIN] = lower_plain,     [CLS_LEA] = lower_lea,
    [CLS_NOP] = lower_nop,         [CLS_MOFFS] = lower_moffs,
    [CLS_ACC_IMM] = lower_acc_imm, [CLS_XCHG_ACC] = lower_xchg_acc,
    [CLS_INCDEC] = lower_incdec,   [CLS_BT_MEM] = lower_bt_mem,
    [CLS_DIR] = lower_dir,         [CLS_VZERO] = lower_vzero,
    [CLS_PUSH] = lower_push,       [CLS_POP] = lower_pop,
    [CLS_LEAVE] = lower_leave,     [CLS_JMP] = lower_jmp,
    [CLS_CALL] = lower_call,       [CLS_RET] = lower_ret,
    [CLS_JCC] = lower_jcc,         [CLS_LOOP] = lower_loop,
    [CLS_JCXZ] = lower_jcxz,
};

/* May it follow a tracked branch? A debugger's breakpoint may stand on an ENDBRANCH. */
static bool may_be_target(const struct dec *d) {
    return d->sh->flags & SH_ENDBR || d->sh->fn == op_int3;
}

static void lower_no_endbranch(struct lower *l, const struct dec *d) {
    lower_helper(l, d, xlat_no_endbranch);
    l->ended = true;
}

static void lower_one(struct lower *l, const struct dec *d) {
    enum cpu_rc (*missing)(struct cpu *, const struct insn *) = unit_missing(l, d);
    if (l->mode & MODE_WAIT && !may_be_target(d))
        lower_no_endbranch(l, d);
    else if (l->mode & MODE_IBT && d->sh->flags & SH_ENDBR)
        lower_helper(l, d, op_endbr);
    else if (missing)
        lower_helper(l, d, missing);
    else if (odd_branch(l, d) || cet_branch(l, d))
        lower_near_helper(l, d);
    else
        lowerings[lower_class(l, d)](l, d);
}

/* Not enough budget, or a dead block. */
static void emit_no_budget(struct lower *l, uint8_t *from) {
    e_link(from, l->e.p);
    l->dead_stub = here(l);
    leave_block(l, l->block << 2 | LEFT_BUDGET);
}

static void emit_at(struct lower *l, size_t at) {
    l->e.p = l->x->rw + at;
}

static size_t emitted(const struct lower *l) {
    return ((size_t)(l->e.p - l->x->rw) + 15) & ~(size_t)15;
}

static void emit_block(struct lower *l) {
    struct emit *e = &l->e;
    struct xlat *x = l->x;
    uint8_t *vec_from = NULL, *vec_back = NULL;
    emit_at(l, l->b->code);
    block_put_head(x, l->b);
    emit_budget(e, l->n);
    uint8_t *budget_from = e_jcc(e, CC_S);
    x->head = (uint8_t)(e->p - x->rw - l->b->code);
    if (l->vec) {
        e_cmp8(e, H_SP, CO(vec_live), 0);
        vec_from = e_jcc(e, CC_Z);
        vec_back = e->p;
    }
    l->fs = FS_MEM;
    l->last.on = false;
    for (l->cur = 0; l->cur < l->n; l->cur++) {
        lower_one(l, &l->dec[l->cur]);
        mem_forget_written(l, &l->dec[l->cur]);
    }
    l->cur = l->n - 1;
    if (!l->ended)
        lower_fall(l, rip_after(l));
    x->used = emitted(l);
    emit_at(l, x->cold);
    emit_cold(l);
    emit_no_budget(l, budget_from);
    if (vec_from) {
        e_link(vec_from, e->p);
        e8(e, 0xe8); /* call */
        e->p += 4;
        e_link(e->p - 4, x->thunk_vec);
        e_jmp_to(e, vec_back);
    }
    x->cold = (size_t)(e->p - x->rw);
}

PN_IN_TRANSLATE bool translate(struct xlat *x, struct block *b, uint8_t *hva, pn_gpa gpa,
                               unsigned max) {
    struct lower *l = x->lower;
    decoder_trim(x->dec);
    l->x = x;
    l->b = b;
    l->block = (uint32_t)(b - x->blocks);
    l->mode = b->mode;
    l->host_of = host_of[x->fetch_page != NULL];
    l->tlb = CO(view.tlb[0]) + 8 * (int32_t)cpu_tlb_mode(x->cpu);
    l->vec = l->ended = false;
    uint32_t flat32 = MODE_FLAT | MODE_CODE32 | MODE_SS32;
    l->flat32 = (b->mode & (flat32 | MODE_CODE64 | MODE_CET)) == flat32;
    if (b->mode & MODE_WAIT)
        max = 1;
    l->chain_ok = b->mode & MODE_FLAT;
    l->cold_count = l->stub_count = 0;
    b->gpa = gpa;
    b->across = NO_BLOCK;
    if (!decode_block(x, b, hva, max))
        return false;
    b->code = (uint32_t)(x->used + sizeof(struct block_head));
    b->lens = x->len_count;
    b->faults = x->fault_count;
    b->exits = x->exit_count;
    emit_block(l);
    b->cold_end = (uint32_t)x->cold;
    b->tail = (uint8_t)(b->cold_end - l->dead_stub);
    x->len_count += l->n;
    x->across_count += b->across != NO_BLOCK;
    b->fault_count = (uint8_t)(x->fault_count - b->faults);
    pn_count(x->cpu->stats, block_translated);
    x->cpu->stats->v[PN_STAT_block_insns] += l->n;
    return true;
}

unsigned cpu_insn_len(struct cpu *cpu) {
    uint8_t bytes[CODE_BYTES];
    struct dec d;
    unsigned n = cpu->xlat ? cpu_peek_code(cpu, bytes) : 0;
    bool is = n && decode(cpu->xlat->dec, bytes, n, cpu->rip, cpu->mode, &d) == DECODE_OK;
    return is ? d.in.len : 0;
}
