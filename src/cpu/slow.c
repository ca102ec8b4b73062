/* SPDX-License-Identifier: MIT */
/*
 * Where translated code calls C: operands that the TLB does not know, bounced stores,
 * helpers, host faults.
 *
 * Invariant: while C runs, rip names the instruction and budget is exact; on resuming,
 * budget has the rest of the block deducted again.
 */
#include "cpu/decode.h"
#include "cpu/turn.h"
#include "cpu/xlat.h"
#include "cpu/xstate.h"

_Static_assert(offsetof(struct cpu, gpr) == 0, "entry.S");
_Static_assert(offsetof(struct cpu, rip) == OFF_RIP, "entry.S");
_Static_assert(offsetof(struct cpu, jc_salt) == OFF_SALT, "entry.S");
_Static_assert(offsetof(struct cpu, jit.host_sp) == OFF_HOST_SP, "entry.S");
_Static_assert(offsetof(struct cpu, jit.ret) == OFF_RET, "entry.S");
_Static_assert(offsetof(struct cpu, jit.r10) == OFF_R10, "entry.S");
_Static_assert(offsetof(struct cpu, jit.rax) == OFF_RAX, "entry.S");
_Static_assert(offsetof(struct cpu, jit.vec) == OFF_VEC, "entry.S");
_Static_assert(offsetof(struct cpu, jit.r8) == OFF_R8, "entry.S");
_Static_assert(offsetof(struct cpu, vec_live) == OFF_VEC_LIVE, "entry.S");

static void enter_insn(struct cpu *cpu, const struct block *b, unsigned idx,
                       unsigned at) {
    cpu->budget += b->n - idx;
    cpu->rip = block_rip_at(b, at);
}

/* Must translated code be left, although it could go on? `rest`: instructions of the
 * block still to run. A kick, which comes at any time, waits for the end of the slice where
 * runs are to be alike: what is translated must not depend on it. */
static bool must_leave(const struct xlat *x, const struct block *b, unsigned rest) {
    const struct cpu *cpu = x->cpu;
    return b->dead || x->flush || turn_due(cpu) || cpu->stop_request ||
           cpu->debug.hit.why || (cpu_kicked(cpu) && cpu->host_clock) ||
           cpu->view.fetch_gen != cpu->jc_gen || cpu->budget < (int64_t)rest ||
           (x->fetch_page &&
            *x->fetch_page == NO_PAGE); /* the next fetch is to be seen */
}

static const uint8_t *leave(struct xlat *x, enum cpu_rc rc) {
    x->rc = rc;
    return NULL;
}

/* State is current, rip names the next instruction: go on there at once if the dispatcher
 * would do nothing else. */
static const uint8_t *go_on(struct xlat *x, enum cpu_rc rc) {
    struct cpu *cpu = x->cpu;
    const uint8_t *code = NULL;
    if (rc != CPU_HALT && !x->flush && !turn_due(cpu) && !cpu->stop_request &&
        !cpu->debug.hit.why && !cpu_kicked(cpu) && cpu->budget > 0 &&
        !(cpu->mode & (MODE_TF | MODE_SLOWMEM))) {
        salt_update(x);
        code = code_known(x);
        cpu->jit.vec = 0; /* the block sees to it, if it needs any */
    }
    return code ? code : leave(x, rc);
}

static unsigned seg_of(const struct slow_desc *sd) {
    return sd->seg & SLOW_SEG;
}

/* The tag of the probe, which R10 was XORed with. */
static uint64_t probe_tag(const struct cpu *cpu, const struct slow_desc *sd) {
    const struct pn_tlb_entry *e = (const void *)cpu->jit.rax;
    return e->tag[sd->flags & SLOW_WRITE ? PN_WRITE : PN_READ];
}

/* What R10 held before the probe. */
static pn_gva probed(const struct cpu *cpu, const struct slow_desc *sd) {
    return cpu->jit.r10 ^ probe_tag(cpu, sd);
}

static inline enum cpu_rc linear(struct cpu *cpu, const struct slow_desc *sd,
                                 unsigned size, pn_gva *lin) {
    bool write = sd->flags & SLOW_WRITE;
    if (sd->flags & SLOW_OFFS)
        return cpu_lin(cpu, seg_of(sd), cpu->jit.r10, size, write ? PN_WRITE : PN_READ,
                       lin);
    *lin = probed(cpu, sd);
    if (mode_64(cpu) ? !canonical(cpu, *lin) || !canonical(cpu, *lin + size - 1)
                     : seg_past_4g(cpu, *lin, size))
        return cpu_raise_code(cpu, seg_of(sd) == SEG_SS ? VEC_SS : VEC_GP, 0);
    return CPU_NEXT;
}

/* An operand that must be aligned whatever RFLAGS.AC says is looked at for that first: #GP,
 * be it canonical or not (tests/diff). */
static bool misaligned(const struct cpu *cpu, const struct slow_desc *sd) {
    unsigned seg = seg_of(sd);
    bool based = seg >= SEG_FS || !mode_64(cpu);
    uint64_t lin = sd->flags & SLOW_OFFS ? cpu->jit.r10 + (based ? cpu->seg[seg].base : 0)
                                         : probed(cpu, sd);
    return sd->flags & SLOW_ALIGN && lin & (sd->size - 1);
}

/* The state is at rest: the trampoline saw to it. */
static bool x87_pending(const struct cpu *cpu) {
    return xstate_get(cpu->xsave, XSAVE_HEADER, 8) & XSTATE_X87 &&
           xstate_get(cpu->xsave, FX_FSW, 2) & FSW_ES;
}

static enum cpu_rc prepare(struct cpu *cpu, const struct slow_desc *sd, void **ptr) {
    pn_gva lin;
    if (linear(cpu, sd, sd->size, &lin)) {
        /* An 80-bit operand is two: what is wrong with the mantissa comes first (tests/diff).
         */
        struct pn_fault fault = cpu->fault;
        if (sd->size == 10 && linear(cpu, sd, 8, &lin) == CPU_NEXT &&
            cpu_mem_prepare(cpu, lin, 8, sd->flags & (SLOW_READ | SLOW_WRITE),
                            cpu_tlb_mode(cpu), ptr) == CPU_NEXT)
            cpu->fault = fault;
        return CPU_FAULT;
    }
    return cpu_mem_prepare(cpu, lin, sd->size,
                           sd->flags & (SLOW_READ | SLOW_WRITE | SLOW_TABLE),
                           cpu_tlb_mode(cpu), ptr);
}

/* ---- Operands under an AVX-512 mask: what it does not choose is not accessed ---- */

static uint64_t low_bits(unsigned n) {
    return n < 64 ? (UINT64_C(1) << n) - 1 : ~UINT64_C(0);
}

/* The bytes of the operand that are accessed, one bit each. */
static uint64_t chosen_bytes(const struct cpu *cpu, const struct masked *m) {
    bool live = xstate_get(cpu->xsave, XSAVE_HEADER, 8) & XSTATE_OPMASK;
    uint64_t k = live ? xstate_get(cpu->xsave, XSAVE_OPMASK + 8 * m->k, 8) : 0;
    uint64_t elements = 0, bytes = 0;
    k &= low_bits(m->count);
    if (m->packed)
        elements = low_bits((unsigned)__builtin_popcountll(k));
    else
        for (unsigned i = 0; i < m->count; i++)
            elements |= (k >> i & 1) << i % m->from;
    for (unsigned i = 0; i * m->size < 64; i++)
        bytes |= elements >> i & 1 ? low_bits(m->size) << i * m->size : 0;
    return bytes;
}

/* Those of bytes that are not canonical or lie beyond a segment of 4 GiB. */
static uint64_t bytes_outside(const struct cpu *cpu, const struct slow_desc *sd,
                              uint64_t bytes) {
    bool offs = sd->flags & SLOW_OFFS, based = mode_64(cpu) && seg_of(sd) >= SEG_FS;
    uint64_t at =
        offs ? cpu->jit.r10 + (based ? cpu->seg[seg_of(sd)].base : 0) : probed(cpu, sd);
    uint64_t out = 0;
    if (mode_64(cpu) ? canonical(cpu, at) && canonical(cpu, at + 63)
                     : !seg_past_4g(cpu, at, 64))
        return 0;
    for (unsigned i = 0; i < 64; i++)
        if (mode_64(cpu) ? !canonical(cpu, at + i) : seg_past_4g(cpu, at + i, 1))
            out |= UINT64_C(1) << i;
    return bytes & out;
}

/* Where the operand is, as far as its segment lets it be accessed. Of what is beyond, the
 * first element is looked at here, the others when those before them were accessed
 * (tests/diff). */
static enum cpu_rc masked_linear(struct cpu *cpu, const struct slow_desc *sd,
                                 const struct masked *m, uint64_t bytes, uint64_t beyond,
                                 pn_gva *lin) {
    enum pn_access access = sd->flags & SLOW_WRITE ? PN_WRITE : PN_READ;
    unsigned seg = seg_of(sd), first = bytes ? (unsigned)__builtin_ctzll(bytes) : 0;
    pn_gva last;
    *lin = 0;
    if (beyond & low_bits(first + m->size))
        return cpu_raise_code(cpu, seg == SEG_SS ? VEC_SS : VEC_GP, 0);
    if (!(sd->flags & SLOW_OFFS)) {
        *lin = probed(cpu, sd);
    } else if (bytes) {
        unsigned end = 63 - (unsigned)__builtin_clzll(bytes & ~beyond);
        if (cpu_lin(cpu, seg, cpu->jit.r10 + first, 1, access, lin) ||
            cpu_lin(cpu, seg, cpu->jit.r10 + end, 1, access, &last))
            return CPU_FAULT;
        *lin -= first;
    }
    if (!mode_64(cpu))
        *lin = (uint32_t)*lin;
    return CPU_NEXT;
}

static enum cpu_rc prepare_masked(struct cpu *cpu, const struct slow_desc *sd,
                                  const struct masked *m, void **ptr) {
    uint64_t bytes = chosen_bytes(cpu, m) & low_bits(sd->size);
    uint64_t beyond = bytes_outside(cpu, sd, bytes);
    pn_gva lin;
    if (bytes && misaligned(cpu, sd))
        return gp0(cpu);
    if (masked_linear(cpu, sd, m, bytes, beyond, &lin) ||
        (bytes && lin_aligned(cpu, lin, m->size)))
        return CPU_FAULT;
    return cpu_mem_prepare_chosen(cpu, lin, sd->size, bytes, beyond,
                                  sd->flags & SLOW_WRITE,
                                  seg_of(sd) == SEG_SS ? VEC_SS : VEC_GP, ptr);
}

/* ---- The three ways in ---- */

/* Is what is owed to memory one store to everybody who looks? */
static bool owed_at_once(const struct cpu *cpu) {
    unsigned size = cpu->owed.piece[0].size;
    return cpu->owed.count == 1 && size <= 8 && !(size & (size - 1)) &&
           !(cpu->owed.piece[0].gpa & (size - 1));
}

/* With vCPUs that are threads: under the lock. An operand that is read, changed on the bounce
 * buffer and written back keeps it until that is done; where others could see that it is no
 * single store, they stand still meanwhile. */
static const uint8_t *in_turn(struct cpu *cpu, const uint8_t *(*fn)(struct cpu *cpu)) {
    turn_take(cpu);
    const uint8_t *go = fn(cpu);
    if (go && !cpu->owed.count)
        turn_give(cpu);
    else if (go && !owed_at_once(cpu))
        turn_alone(cpu);
    return go;
}

PN_IN_MISS static const uint8_t *slow(struct cpu *cpu) {
    struct xlat *x = cpu->xlat;
    const struct slow_desc *sd = (const void *)cpu->jit.ret;
    const struct block *b = &x->blocks[sd->block];
    void *ptr = NULL;
    enter_insn(cpu, b, sd->idx, sd->at);
    pn_count(cpu->stats, mem_slow);
    enum cpu_rc rc = CPU_NEXT;
    if (sd->flags & SLOW_X87 && x87_pending(cpu)) {
        rc = cpu_raise(cpu, VEC_MF);
    } else if (sd->seg & SLOW_MASKED) {
        rc = prepare_masked(cpu, sd, (const void *)(sd + 1), &ptr);
    } else {
        rc = misaligned(cpu, sd) ? gp0(cpu) : prepare(cpu, sd, &ptr);
    }
    if (rc)
        return leave(x, rc);
    cpu->jit.r10 = (uint64_t)ptr;
    cpu->jit.vec = sd->flags & SLOW_VEC;
    unsigned rest = b->n - sd->idx - 1;
    if (sd->flags & SLOW_LAST && must_leave(x, b, rest)) {
        /* The block ends with this instruction: let the next one not begin. */
        cpu->insn_limit = cpu_insns(cpu) + rest + 1;
        cpu->budget = rest + 1;
    }
    cpu->budget -= rest + 1;
    return ptr == cpu->bounce ? bounce_code(x, sd) : x->rx + b->code + sd->resume;
}

/* Out of the lock: what becomes of the operand. */
enum looked { LOOKED_NOT, LOOKED_UP, LOOKED_FAULT };

static enum looked look(struct cpu *cpu, const struct slow_desc *sd) {
    enum pn_access access = sd->flags & SLOW_WRITE ? PN_WRITE : PN_READ;
    enum pn_tlb_mode mode = cpu_tlb_mode(cpu);
    struct pn_xlate x;
    pn_gva lin;
    if (cpu->turn || sd->seg & SLOW_MASKED || misaligned(cpu, sd) ||
        linear(cpu, sd, sd->size, &lin) ||
        (lin & (PN_PAGE_SIZE - 1)) > PN_PAGE_SIZE - sd->size)
        return LOOKED_NOT;
    if (turn_look_up(cpu, lin, access, mode, &x))
        return LOOKED_UP;
    bool fault = !(sd->flags & SLOW_X87) && turn_look_fault(cpu, lin, access, mode);
    return fault ? LOOKED_FAULT : LOOKED_NOT;
}

static const uint8_t *fault_out(struct cpu *cpu, const struct slow_desc *sd) {
    struct xlat *x = cpu->xlat;
    enter_insn(cpu, &x->blocks[sd->block], sd->idx, sd->at);
    pn_count(cpu->stats, mem_slow);
    return leave(x, CPU_FAULT);
}

/* The entry that was probed may be another one when the vCPU has come in: somebody dropped it
 * meanwhile. R10 is then as if it had been probed now. */
static __attribute__((noinline)) const uint8_t *slow_par(struct cpu *cpu) {
    const struct slow_desc *sd = (const void *)cpu->jit.ret;
    bool offset = sd->flags & SLOW_OFFS;
    uint64_t operand = offset ? cpu->jit.r10 : probed(cpu, sd);
    enum looked found = look(cpu, sd);
    if (found == LOOKED_FAULT)
        return fault_out(cpu, sd);
    if (found == LOOKED_NOT)
        turn_take(cpu);
    cpu->jit.r10 = offset ? operand : operand ^ probe_tag(cpu, sd);
    return found ? slow(cpu) : in_turn(cpu, slow);
}

PN_IN_MISS const uint8_t *xlat_slow(struct cpu *cpu) {
    return likely(!cpu->par) ? slow(cpu) : slow_par(cpu);
}

PN_IN_MISS static const uint8_t *done(struct cpu *cpu) {
    struct xlat *x = cpu->xlat;
    const struct slow_desc *sd = x->bounced;
    const struct block *b = &x->blocks[sd->block];
    unsigned rest = b->n - sd->idx - 1;
    enum cpu_rc rc = CPU_NEXT;
    enter_insn(cpu, b, sd->idx, sd->at);
    if (cpu->owed.count)
        rc = cpu_mem_commit(cpu);
    cpu->budget--;
    bool out = rc || sd->seg & SLOW_LEAVE || must_leave(x, b, rest);
    if (out && sd->seg & SLOW_JUMPS) { /* let it jump, and what it jumps to not begin */
        cpu->insn_limit = cpu_insns(cpu);
        cpu->budget = 0;
    } else if (out) {
        cpu->rip = block_rip_at(b, sd->at + x->lens[b->lens + sd->idx]);
        return go_on(x, CPU_NEXT);
    }
    cpu->budget -= rest;
    cpu->jit.vec = sd->flags & SLOW_VEC;
    return (const uint8_t *)cpu->jit.ret;
}

PN_IN_MISS const uint8_t *xlat_done(struct cpu *cpu) {
    return likely(!cpu->par) ? done(cpu) : in_turn(cpu, done);
}

PN_IN_HELPER static const uint8_t *helper(struct cpu *cpu) {
    struct xlat *x = cpu->xlat;
    const struct helper_desc *hd = (const void *)cpu->jit.ret;
    const struct block *b = &x->blocks[hd->block];
    const struct insn *in = hd->in;
    unsigned rest = b->n - hd->idx - 1;
    cpu->budget += b->n - hd->idx;
    cpu->rip = block_rip_at(b, hd->at);
    pn_count(cpu->stats, helper_calls);
    enum cpu_rc rc = in->fn(cpu, in);
    if (rc == CPU_FAULT || rc == CPU_SHUTDOWN)
        return leave(x, rc);
    cpu->budget--;
    if (rc != CPU_JUMP)
        cpu->rip = block_rip_at(b, hd->at + x->lens[b->lens + hd->idx]);
    if (rc || in->ends_block || must_leave(x, b, rest))
        return go_on(x, rc);
    cpu->budget -= rest;
    cpu->jit.vec = hd->vec;
    return (const uint8_t *)(hd + 1);
}

/* IRET serializes (SDM volume 3, "Serializing Instructions"); the others need not. */
static const uint8_t *own_helper(struct cpu *cpu) {
    const struct helper_desc *hd = (const void *)cpu->jit.ret;
    const uint8_t *go = helper(cpu);
    if (hd->in->fn == op_iret)
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (go && cpu->turn)
        turn_give(cpu);
    return go;
}

PN_IN_HELPER const uint8_t *xlat_helper(struct cpu *cpu) {
    const struct helper_desc *hd = (const void *)cpu->jit.ret;
    if (likely(!cpu->par))
        return helper(cpu);
    return hd->in->own ? own_helper(cpu) : in_turn(cpu, helper);
}

/* ---- Faults of the host's ---- */

static bool guest_fault(struct cpu *cpu, unsigned trap) {
    switch (trap) {
    case VEC_DE:
    case VEC_MF:
        cpu_raise(cpu, (uint8_t)trap);
        return true;
    case VEC_XM:
        cpu_raise(cpu, cpu->cr4 & CR4_OSXMMEXCPT ? VEC_XM : VEC_UD);
        return true;
    case VEC_UD:
        cpu_raise(cpu, VEC_UD);
        return true;
    case VEC_GP: /* alignment */
        gp0(cpu);
        return true;
    default:
        return false;
    }
}

bool xlat_host_fault(struct cpu *cpu, uint32_t at, unsigned trap) {
    struct xlat *x = cpu->xlat;
    at = bounce_origin(x, at);
    const struct block *b = block_at(x, at);
    for (unsigned i = 0; b && i < b->fault_count; i++) {
        const struct fault_rec *f = &x->faults[b->faults + i];
        if (at - f->start >= f->len)
            continue;
        if (!guest_fault(cpu, trap))
            return false;
        enter_insn(cpu, b, f->idx, block_offset(x, b, f->idx));
        x->rc = CPU_FAULT;
        return true;
    }
    return false;
}

/* ---- Instructions that the mode, or nobody, allows ---- */

#define CR0_EM_TS (CR0_EM | CR0_TS)

enum cpu_rc xlat_too_long(struct cpu *cpu, const struct insn *in) {
    return gp0(cpu);
}

/* RET's immediate is 0 where it has none; JMP is ff. */
enum cpu_rc xlat_odd_target(struct cpu *cpu, const struct insn *in) {
    uint64_t rip = cpu->jit.rax ^ cpu->jc_salt;
    if (!canonical(cpu, rip))
        return gp0(cpu);
    if (in->opcode != 0xff)
        cpu->gpr[R_SP] += 8 + (in->imm & 0xffff);
    cpu->rip = rip;
    return CPU_JUMP;
}

enum cpu_rc xlat_odd_call(struct cpu *cpu, const struct insn *in) {
    uint64_t rip = cpu->jit.save[0];
    if (in->op[0].kind == OP_REG)
        rip = cpu->gpr[in->op[0].reg];
    if (!canonical(cpu, rip))
        return gp0(cpu);
    if (stack_push_one(cpu, next_rip(cpu, in), 8))
        return CPU_FAULT;
    cpu->rip = rip;
    return CPU_JUMP;
}

enum cpu_rc xlat_no_fpu(struct cpu *cpu, const struct insn *in) {
    bool wait = in->opcode == 0x9b;
    uint64_t want = wait ? CR0_MP | CR0_TS : CR0_EM_TS;
    if (wait ? (cpu->cr0 & want) == want : cpu->cr0 & want)
        return cpu_raise(cpu, VEC_NM);
    return CPU_NEXT; /* WAIT with nothing pending that could be seen */
}

enum cpu_rc xlat_no_mmx(struct cpu *cpu, const struct insn *in) {
    return cpu_raise(cpu, cpu->cr0 & CR0_EM ? VEC_UD : VEC_NM);
}

enum cpu_rc xlat_no_sse(struct cpu *cpu, const struct insn *in) {
    bool off = cpu->cr0 & CR0_EM || !(cpu->cr4 & CR4_OSFXSR);
    return cpu_raise(cpu, off ? VEC_UD : VEC_NM);
}

enum cpu_rc xlat_no_avx(struct cpu *cpu, const struct insn *in) {
    bool off = !(cpu->cr4 & CR4_OSXSAVE) || (cpu->xcr0 & 6) != 6;
    return cpu_raise(cpu, off ? VEC_UD : VEC_NM);
}

enum cpu_rc xlat_no_evex(struct cpu *cpu, const struct insn *in) {
    const uint64_t need = XSTATE_SSE | XSTATE_AVX | XSTATE_AVX512;
    bool off = !(cpu->cr4 & CR4_OSXSAVE) || (cpu->xcr0 & need) != need;
    return cpu_raise(cpu, off ? VEC_UD : VEC_NM);
}
