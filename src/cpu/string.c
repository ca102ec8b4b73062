/* SPDX-License-Identifier: MIT */
/*
 * MOVS, CMPS, STOS, LODS, SCAS, alone and repeated.
 *
 * A repeated string runs by spans: as many iterations as lie within one page of source
 * and destination, on host pointers, or where others must see the stores, on a guest
 * address that was asked for once. (KVM's emulator, too, has one exit for all of them.)
 * What a span cannot do (an element across pages, MMIO, segment limits, watchpoints) is
 * one iteration through mem.c.
 *
 * Invariants
 * 1. The result is that of single iterations in order: overlap replicates as on hardware.
 * 2. A fault in a repeated string leaves the registers after the last whole iteration,
 *    and the flags of before the instruction.
 * 3. A repeated string is left, to be resumed, after REP_CHUNK iterations. That place
 *    never depends on how the iterations were done. It counts as one instruction, however long
 *    it took: where guest time is the host's, a timer may be due by then, and the run ends.
 */
#include "cpu/bulk.h"

#define REP_CHUNK 65536u

/* ---- Spans ---- */

/* Up to n elements, the first at p, the next ones above or, with DF, below it. */
struct span {
    uint8_t *p;  /* NULL: stores go to `seen`, by store_seen */
    pn_gpa seen; /* or NOT_SEEN */
    uint64_t n;
};
#define NOT_SEEN (~(pn_gpa)0)

/* How many elements from address a on, of at most `max`, stay in [0, limit)? The first
 * must lie in it whole. */
static uint64_t fit(uint64_t a, uint64_t limit, unsigned size, bool down, uint64_t max) {
    uint64_t n;
    if (limit - a < size)
        return 0;
    n = down ? a / size + 1 : (limit - a) / size;
    return n < max ? n : max;
}

/* The linear address of a string operand where segments need no check. */
static bool flat_address(const struct cpu *cpu, unsigned seg, uint64_t offset,
                         pn_gva *lin) {
    if (mode_64(cpu)) {
        *lin = offset + (seg >= SEG_FS ? cpu->seg[seg].base : 0);
        return canonical(cpu, *lin);
    }
    *lin = (uint32_t)offset;
    return cpu->mode & MODE_FLAT && seg < SEG_FS;
}

/* Return: CPU_NEXT with s->n 0 when the slow way must be taken; CPU_FAULT. */
static enum cpu_rc get_span(struct cpu *cpu, const struct insn *in, unsigned seg,
                            unsigned reg, enum pn_access access, uint64_t max,
                            struct span *s) {
    pn_gva lin;
    bool down = cpu->sys_flags & FL_DF;
    uint64_t offset = string_reg(cpu, reg, in->addrsize);
    s->n = 0;
    s->seen = NOT_SEEN;
    if (cpu->mode & (MODE_SLOWMEM | MODE_ALIGN) ||
        !flat_address(cpu, seg, offset, &lin) ||
        debug_watched(cpu, lin) & (access == PN_WRITE ? PN_WATCH_WRITE : PN_WATCH_READ))
        return CPU_NEXT;
    if (in->addrsize < 8)
        max = fit(offset, addr_mask(in->addrsize) + 1, in->opsize, down, max);
    max = fit(lin & (PN_PAGE_SIZE - 1), PN_PAGE_SIZE, in->opsize, down, max);
    if (!max)
        return CPU_NEXT;
    if (bulk_page(cpu, lin, access, cpu_tlb_mode(cpu), &s->p, &s->seen))
        return CPU_FAULT;
    s->n = s->p || s->seen != NOT_SEEN ? max : 0;
    return CPU_NEXT;
}

/* ---- One element ---- */

static inline uint64_t load(const void *p, unsigned size) {
    uint64_t v = 0;
    mem_copy(&v, p, size);
    return v;
}

static enum cpu_rc read_element(struct cpu *cpu, const struct insn *in, unsigned seg,
                                unsigned reg, uint64_t *v) {
    *v = 0;
    return seg_read(cpu, seg, string_reg(cpu, reg, in->addrsize), v, in->opsize);
}

static enum cpu_rc write_element(struct cpu *cpu, const struct insn *in, uint64_t v) {
    return seg_write(cpu, SEG_ES, string_reg(cpu, R_DI, in->addrsize), &v, in->opsize);
}

static void set_accumulator(struct cpu *cpu, uint64_t v, unsigned size) {
    if (size >= 4)
        cpu->gpr[R_AX] = v;
    else
        memcpy(&cpu->gpr[R_AX], &v, size);
}

/* Flags of a - b, by the host's own CMP. */
static void compare(struct cpu *cpu, uint64_t a, uint64_t b, unsigned size) {
    uint64_t fl = 0;
    switch (size) {
    case 1:
        __asm__("cmpb %b2, %b1; lahf; seto %%al" : "+a"(fl) : "q"(a), "q"(b) : "cc");
        break;
    case 2:
        __asm__("cmpw %w2, %w1; lahf; seto %%al" : "+a"(fl) : "r"(a), "r"(b) : "cc");
        break;
    case 4:
        __asm__("cmpl %k2, %k1; lahf; seto %%al" : "+a"(fl) : "r"(a), "r"(b) : "cc");
        break;
    default:
        __asm__("cmpq %2, %1; lahf; seto %%al" : "+a"(fl) : "r"(a), "r"(b) : "cc");
    }
    cpu->fl = fl;
}

/* ---- The five, by what they do to their operands ---- */

/* What is at ES:DI. */
enum dest { DEST_NONE, DEST_WRITTEN, DEST_COMPARED };

struct string_op {
    bool source; /* reads the operand at SI, else the accumulator */
    enum dest dest;
    /* Iterations on d->n elements of each span; without a source s->p is NULL. Return: how
     * many. */
    uint64_t (*run)(struct cpu *cpu, const struct insn *in, const struct span *s,
                    const struct span *d);
};

static void step(struct cpu *cpu, const struct insn *in, const struct string_op *op,
                 uint64_t n) {
    int64_t by = (int64_t)((uint64_t)string_step(cpu, in->opsize) * n);
    if (op->source)
        string_advance(cpu, R_SI, in->addrsize, by);
    if (op->dest != DEST_NONE)
        string_advance(cpu, R_DI, in->addrsize, by);
}

/* One iteration. */
static enum cpu_rc once(struct cpu *cpu, const struct insn *in,
                        const struct string_op *op) {
    uint64_t a = cpu->gpr[R_AX], b;
    if (op->source && read_element(cpu, in, in->seg, R_SI, &a))
        return CPU_FAULT;
    if (op->dest == DEST_NONE) {
        set_accumulator(cpu, a, in->opsize);
    } else if (op->dest == DEST_WRITTEN) {
        if (write_element(cpu, in, a))
            return CPU_FAULT;
    } else {
        if (read_element(cpu, in, SEG_ES, R_DI, &b))
            return CPU_FAULT;
        compare(cpu, a, b, in->opsize);
    }
    step(cpu, in, op, 1);
    return CPU_NEXT;
}

/* Stores that others see, one after another, until nobody watches the page any more: what
 * is left of the spans is plain memory. Without a source s->p is NULL. Return: how many. */
static uint64_t store_seen(struct cpu *cpu, const struct insn *in, struct span *s,
                           struct span *d) {
    int64_t by = string_step(cpu, in->opsize);
    uint64_t n = 0;
    while (d->n && !d->p) {
        uint64_t v = s->p ? load(s->p, in->opsize) : cpu->gpr[R_AX];
        pn_mmu_vcpu_write(cpu->vmmu, d->seen, &v, in->opsize);
        if (s->p)
            s->p += by;
        d->seen += (uint64_t)by;
        n++;
        if (--d->n)
            d->p = pn_mmu_unseen(cpu->vmmu, d->seen);
    }
    return n;
}

/* What at most max iterations work on. */
static enum cpu_rc get_spans(struct cpu *cpu, const struct insn *in,
                             const struct string_op *op, uint64_t max, struct span *s,
                             struct span *d) {
    enum pn_access access = op->dest == DEST_WRITTEN ? PN_WRITE : PN_READ;
    *s = (struct span){.n = max};
    if (op->source && get_span(cpu, in, in->seg, R_SI, PN_READ, max, s))
        return CPU_FAULT;
    d->n = s->n;
    if (op->dest != DEST_NONE && s->n && get_span(cpu, in, SEG_ES, R_DI, access, s->n, d))
        return CPU_FAULT;
    return CPU_NEXT;
}

/* At most max iterations at one go; *done: how many, 0 when it takes `once`. */
static enum cpu_rc run(struct cpu *cpu, const struct insn *in, const struct string_op *op,
                       uint64_t max, uint64_t *done) {
    struct span s, d;
    bool turn = cpu->turn;
    if (get_spans(cpu, in, op, max, &s, &d))
        return CPU_FAULT;
    /* To come in for the one has ended what held for the other. */
    if (cpu->turn != turn && get_spans(cpu, in, op, max, &s, &d))
        return CPU_FAULT;
    if (!d.n)
        return CPU_NEXT;
    *done = op->dest == DEST_WRITTEN && !d.p ? store_seen(cpu, in, &s, &d) : 0;
    if (d.n)
        *done += op->run(cpu, in, &s, &d);
    step(cpu, in, op, *done);
    return CPU_NEXT;
}

/* Element by element upwards; d and s are the lowest addresses. */
static void move_up(uint8_t *d, const uint8_t *s, size_t bytes, unsigned size) {
    size_t gap = (size_t)(d - s);
    if (gap >= bytes) { /* apart, or d below s: what memmove does */
        memmove(d, s, bytes);
    } else if (gap >= size) { /* the bytes between s and d repeat */
        for (size_t n; bytes; d += n, bytes -= n) {
            n = (size_t)(d - s) < bytes ? (size_t)(d - s) : bytes;
            memcpy(d, s, n);
        }
    } else if (gap) {
        for (size_t i = 0; i < bytes; i += size)
            mem_copy(d + i, s + i, size);
    }
}

/* Element by element downwards; d and s are the lowest addresses. */
static void move_down(uint8_t *d, const uint8_t *s, size_t bytes, unsigned size) {
    size_t gap = (size_t)(s - d);
    if (gap >= bytes)
        memmove(d, s, bytes);
    else if (gap)
        for (size_t i = bytes; i; i -= size)
            mem_copy(d + i - size, s + i - size, size);
}

static uint64_t movs_run(struct cpu *cpu, const struct insn *in, const struct span *s,
                         const struct span *d) {
    size_t bytes = d->n * in->opsize, low = bytes - in->opsize;
    if (cpu->sys_flags & FL_DF)
        move_down(d->p - low, s->p - low, bytes, in->opsize);
    else
        move_up(d->p, s->p, bytes, in->opsize);
    return d->n;
}

static uint64_t stos_run(struct cpu *cpu, const struct insn *in, const struct span *s,
                         const struct span *d) {
    uint64_t v = cpu->gpr[R_AX], same = (uint8_t)v * UINT64_C(0x0101010101010101);
    unsigned size = in->opsize;
    uint8_t *low = cpu->sys_flags & FL_DF ? d->p - (d->n - 1) * size : d->p;
    if (load(&v, size) == load(&same, size))
        memset(low, (uint8_t)v, d->n * size);
    else
        for (uint64_t i = 0; i < d->n; i++)
            mem_copy(low + i * size, &v, size);
    return d->n;
}

static uint64_t lods_run(struct cpu *cpu, const struct insn *in, const struct span *s,
                         const struct span *d) {
    int64_t last = string_step(cpu, in->opsize) * (int64_t)(s->n - 1);
    set_accumulator(cpu, load(s->p + last, in->opsize), in->opsize);
    return s->n;
}

/* CMPS, and SCAS, which has no source. */
static uint64_t compare_run(struct cpu *cpu, const struct insn *in, const struct span *s,
                            const struct span *d) {
    int64_t by = string_step(cpu, in->opsize), at = 0;
    bool while_equal = in->rep == 0xf3;
    uint64_t b, n = 0, a = load(&cpu->gpr[R_AX], in->opsize);
    do {
        if (s->p)
            a = load(s->p + at, in->opsize);
        b = load(d->p + at, in->opsize);
        at += by;
        n++;
    } while (n < d->n && (a == b) == while_equal);
    compare(cpu, a, b, in->opsize);
    return n;
}

/* ---- Repetition ---- */

/* What an iteration may have changed under the running block. */
struct mark {
    uint64_t fetch_gen, disturbed;
};

static struct mark mark_now(const struct cpu *cpu) {
    return (struct mark){cpu->view.fetch_gen, cpu->disturbed};
}

static enum cpu_rc finish(const struct cpu *cpu, const struct mark *before) {
    struct mark m = mark_now(cpu);
    bool same = m.fetch_gen == before->fetch_gen && m.disturbed == before->disturbed;
    return same ? CPU_NEXT : CPU_STOP;
}

static bool condition_fails(const struct cpu *cpu, const struct insn *in) {
    bool zf = cpu_arith_flags(cpu) & FL_ZF;
    return zf != (in->rep == 0xf3);
}

static enum cpu_rc leave_repeat(struct cpu *cpu) {
    if (cpu->host_clock && !(cpu->mode & (MODE_TF | MODE_SLOWMEM)))
        cpu_set_limit(cpu, cpu_insns(cpu) + 1);
    return string_resume(cpu);
}

static enum cpu_rc repeat(struct cpu *cpu, const struct insn *in,
                          const struct string_op *op) {
    struct mark before = mark_now(cpu);
    uint64_t count, fl = cpu->fl;
    uint64_t left = cpu->mode & (MODE_TF | MODE_SLOWMEM) ? 1 : REP_CHUNK;
    while ((count = string_reg(cpu, R_CX, in->addrsize))) {
        uint64_t done = 0;
        if (!left)
            return leave_repeat(cpu);
        enum cpu_rc rc = run(cpu, in, op, count < left ? count : left, &done);
        if (rc == CPU_NEXT && !done) {
            rc = once(cpu, in, op);
            done = 1;
        }
        if (rc) {
            cpu->fl = fl;
            return rc;
        }
        string_advance(cpu, R_CX, in->addrsize, -(int64_t)done);
        left = cpu->stop_request ? 0 : left - done;
        if (op->dest == DEST_COMPARED && condition_fails(cpu, in))
            break;
    }
    return finish(cpu, &before);
}

/* By the opcode: a4 MOVS, a6 CMPS, aa STOS, ac LODS, ae SCAS. */
enum cpu_rc op_string(struct cpu *cpu, const struct insn *in) {
    static const struct string_op ops[8] = {[2] = {true, DEST_WRITTEN, movs_run},
                                            [3] = {true, DEST_COMPARED, compare_run},
                                            [5] = {false, DEST_WRITTEN, stos_run},
                                            [6] = {true, DEST_NONE, lods_run},
                                            [7] = {false, DEST_COMPARED, compare_run}};
    const struct string_op *op = &ops[in->opcode >> 1 & 7];
    if (in->rep)
        return repeat(cpu, in, op);
    struct mark before = mark_now(cpu);
    enum cpu_rc rc = once(cpu, in, op);
    return rc ? rc : finish(cpu, &before);
}
