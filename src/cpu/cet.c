/* SPDX-License-Identifier: MIT */
/*
 * Control-flow enforcement: shadow stacks and indirect-branch tracking.
 *
 * Invariants
 * 1. What faults has changed no register. What it pushed before stays in memory, and so does
 *    the busy bit of a token that it took ("prematurely busy").
 * 2. A store to a shadow stack is checked as one, whatever is found there.
 *
 * Code with CET on runs as any other; translated code of a mode with MODE_SHSTK or MODE_IBT
 * comes here at each near CALL, RET and indirect JMP, and with MODE_WAIT at each instruction.
 *
 * Sources: SDM volume 1, "Control-flow Enforcement Technology (CET)"; volume 2 under each
 * instruction's name; volume 3, "Task Switching". Where the pseudocode does not say which
 * width an address has while CS changes: pops and the release of a token go by the old code,
 * pushes and the taking of one by the new.
 */
#include "cpu/cet.h"
#include "cpu/control.h"
#include "cpu/xlat.h"

#define TOKEN_BUSY  1u
#define FRAME_BYTES 24u /* SSP, LIP, CS */

static enum cpu_rc cp(struct cpu *cpu, uint32_t error) {
    return cpu_raise_code(cpu, VEC_CP, error);
}

/* ---- Memory ---- */

static enum pn_tlb_mode mode_of(unsigned cpl) {
    return cpl == 3 ? PN_TLB_USER : PN_TLB_SUPER;
}

static enum cpu_rc load(struct cpu *cpu, uint64_t at, void *value, unsigned size) {
    return cpu_ss_read(cpu, mode_64(cpu) ? at : (uint32_t)at, value, size,
                       mode_of(cpu->cpl));
}

static enum cpu_rc store(struct cpu *cpu, bool wide, unsigned cpl, uint64_t at,
                         const void *value, unsigned size) {
    return cpu_ss_write(cpu, wide ? at : (uint32_t)at, value, size, mode_of(cpl));
}

/* Release the token at `at` if it is busy; else nothing is wrong. */
static enum cpu_rc token_release(struct cpu *cpu, uint64_t at) {
    uint64_t was;
    return cpu_ss_swap(cpu, mode_64(cpu) ? at : (uint32_t)at, at | TOKEN_BUSY, at, &was,
                       mode_of(cpu->cpl));
}

/* ---- Control ---- */

bool cet_control_valid(const struct cpu *cpu, uint64_t v) {
    const uint64_t shstk = CET_SHSTK | CET_WRSS;
    if (v & CET_RESERVED || (v & shstk && !cpu_has(cpu, CPU_F_shstk)) ||
        (v & ~(shstk | CET_RESERVED) && !cpu_has(cpu, CPU_F_ibt)))
        return false;
    return (v & (CET_SUPPRESS | CET_WAIT)) != (CET_SUPPRESS | CET_WAIT) &&
           loadable(cpu, v & CET_BITMAP);
}

static uint64_t *control(struct cpu *cpu, unsigned cpl) {
    return cpl == 3 ? &cpu->msr_u_cet : &cpu->msr_s_cet;
}

/* A far transfer to code of that CPL. */
static void track_far(struct cpu *cpu, unsigned cpl) {
    uint64_t *c = control(cpu, cpl);
    if (cet_on(cpu, cpl, CET_IBT))
        *c = (*c & ~CET_SUPPRESS) | CET_WAIT;
}

/* What PL3_SSP takes of SSP: as wide as the processor's linear addresses. */
static void keep_user_ssp(struct cpu *cpu) {
    unsigned unused = cpu_has(cpu, CPU_F_la57) ? 7 : 16;
    cpu->msr_pl_ssp[3] =
        mode_long(cpu) ? (uint64_t)((int64_t)(cpu->ssp << unused) >> unused) : cpu->ssp;
}

/* ---- Near branches ---- */

static unsigned slot(const struct cpu *cpu) {
    return mode_64(cpu) ? 8 : 4;
}

enum cpu_rc cet_call(struct cpu *cpu, uint64_t rip) {
    uint64_t at = cpu->ssp - slot(cpu);
    if (!mode_64(cpu))
        at = (uint32_t)at;
    if (store(cpu, mode_64(cpu), cpu->cpl, at, &rip, slot(cpu)))
        return CPU_FAULT;
    cpu->ssp = at;
    return CPU_NEXT;
}

enum cpu_rc cet_ret(struct cpu *cpu, uint64_t rip) {
    uint64_t kept = 0;
    if (load(cpu, cpu->ssp, &kept, slot(cpu)))
        return CPU_FAULT;
    return kept == rip ? CPU_NEXT : cp(cpu, CP_NEAR_RET);
}

void cet_ret_done(struct cpu *cpu) {
    cpu->ssp += slot(cpu);
    if (!mode_64(cpu))
        cpu->ssp = (uint32_t)cpu->ssp;
}

void cet_track(struct cpu *cpu, const struct insn *in) {
    uint64_t *c = control(cpu, cpu->cpl);
    if (*c & CET_SUPPRESS || (in->notrack && *c & CET_NOTRACK))
        return;
    *c |= CET_WAIT;
    cpu_update_mode(cpu);
}

enum cpu_rc op_endbr(struct cpu *cpu, const struct insn *in) {
    *control(cpu, cpu->cpl) &= ~(CET_WAIT | CET_SUPPRESS);
    if (!(cpu->mode & MODE_WAIT))
        return CPU_NEXT;
    cpu_update_mode(cpu);
    return CPU_STOP;
}

/* The legacy code page bitmap: a bit for each page, whose code needs no ENDBRANCH. */
static enum cpu_rc legacy_page(struct cpu *cpu, uint64_t c, bool *is) {
    uint64_t lip = cet_lip(cpu, cpu->rip);
    unsigned width = !mode_64(cpu) ? 32 : cpu->cr4 & CR4_LA57 ? 57 : 48;
    uint64_t at = (c & CET_BITMAP) + ((lip & (~UINT64_C(0) >> (64 - width))) >> 15);
    uint8_t byte;
    if (cpu_read_lin(cpu, sys_lin(cpu, at), &byte, 1, cpu_tlb_mode(cpu)))
        return CPU_FAULT;
    *is = byte >> (lip >> PN_PAGE_SHIFT & 7) & 1;
    return CPU_NEXT;
}

/* An instruction that is none that the tracker waits for. Of legacy code it runs: this is no
 * instruction of its own, and takes no time. */
enum cpu_rc xlat_no_endbranch(struct cpu *cpu, const struct insn *in) {
    uint64_t *c = control(cpu, cpu->cpl);
    bool is = false;
    if (*c & CET_LEGACY && legacy_page(cpu, *c, &is))
        return CPU_FAULT;
    if (!is)
        return cp(cpu, CP_ENDBRANCH);
    *c = (*c & ~(CET_WAIT | CET_SUPPRESS)) | (*c & CET_SUPP_DIS ? 0 : CET_SUPPRESS);
    cpu_update_mode(cpu);
    cpu->budget++;
    return CPU_JUMP;
}

/* ---- Far transfers inwards, and within a ring ---- */

enum cpu_rc cet_inner_stack(struct cpu *cpu, unsigned ist, struct cet_entry *e) {
    bool inward = e->cpl != cpu->cpl;
    e->token = inward || ist;
    e->frame = !(inward && cpu->cpl == 3);
    e->ssp = cpu->msr_pl_ssp[e->cpl];
    if (!ist || !cet_on(cpu, e->cpl, CET_SHSTK))
        return CPU_NEXT;
    return sys_read(cpu, cpu->msr_ssp_table + ist * 8u, &e->ssp, 8);
}

static enum cpu_rc take_token(struct cpu *cpu, const struct cet_entry *e) {
    uint64_t at = e->ssp, was;
    const uint64_t block = ~UINT64_C(31);
    if (at & 7 || (!e->wide && at >> 32) ||
        (cpu_follows(cpu, RULE_token_block) && ((at ^ (at - FRAME_BYTES)) & block)))
        return gp0(cpu);
    if (cpu_ss_swap(cpu, at, at, at | TOKEN_BUSY, &was, mode_of(e->cpl)))
        return CPU_FAULT;
    return was == at ? CPU_NEXT : gp0(cpu);
}

enum cpu_rc cet_enter(struct cpu *cpu, struct cet_entry *e) {
    const uint64_t frame[3] = {cpu->ssp, cet_lip(cpu, e->rip), cpu->seg[SEG_CS].sel};
    const uint32_t zero = 0;
    if (!cet_on(cpu, e->cpl, CET_SHSTK))
        return CPU_NEXT;
    if (e->token) {
        if (take_token(cpu, e))
            return CPU_FAULT;
    } else {
        e->ssp = cpu->ssp;
        if (!e->wide && e->ssp >> 32)
            return gp0(cpu);
    }
    if (!e->frame)
        return CPU_NEXT;
    if (!e->token && store(cpu, e->wide, e->cpl, e->ssp - 4, &zero, 4))
        return CPU_FAULT;
    e->ssp &= ~UINT64_C(7);
    for (unsigned i = 3; i-- > 0;)
        if (store(cpu, e->wide, e->cpl, e->ssp - FRAME_BYTES + 8 * i, &frame[i], 8))
            return CPU_FAULT;
    e->ssp -= FRAME_BYTES;
    return CPU_NEXT;
}

void cet_enter_done(struct cpu *cpu, const struct cet_entry *e) {
    if (cpu->mode & MODE_SHSTK && cpu->cpl == 3 && e->cpl != 3)
        keep_user_ssp(cpu);
    if (cet_on(cpu, e->cpl, CET_SHSTK))
        cpu->ssp = e->ssp;
    track_far(cpu, e->cpl);
}

enum cpu_rc cet_jump(struct cpu *cpu, bool wide) {
    return cpu->mode & MODE_SHSTK && !wide && cpu->ssp >> 32 ? gp0(cpu) : CPU_NEXT;
}

void cet_jump_done(struct cpu *cpu) {
    track_far(cpu, cpu->cpl);
}

void cet_syscall(struct cpu *cpu) {
    if (cpu->mode & MODE_SHSTK)
        keep_user_ssp(cpu);
    if (cet_on(cpu, 0, CET_SHSTK))
        cpu->ssp = 0;
    track_far(cpu, 0);
}

void cet_sysret(struct cpu *cpu) {
    if (cet_on(cpu, 3, CET_SHSTK))
        cpu->ssp = cpu->msr_pl_ssp[3];
}

/* ---- Far returns ---- */

/* What the shadow stack has of the return. *old: the SSP that is left behind. */
static enum cpu_rc pop_frame(struct cpu *cpu, struct cet_return *r, uint64_t *old) {
    uint64_t frame[3];
    for (unsigned i = 0; i < 3; i++)
        if (load(cpu, cpu->ssp + 8 * i, &frame[i], 8))
            return CPU_FAULT;
    if (frame[2] != r->cs || frame[1] != r->lip || frame[0] & 3)
        return cp(cpu, CP_FAR_RET);
    r->ssp = frame[0];
    *old = cpu->ssp + FRAME_BYTES;
    return CPU_NEXT;
}

enum cpu_rc cet_leave(struct cpu *cpu, struct cet_return *r) {
    bool from = cpu->mode & MODE_SHSTK, outward = r->cpl != cpu->cpl;
    bool to = outward ? cet_on(cpu, r->cpl, CET_SHSTK) : from;
    uint64_t old = cpu->ssp;
    r->ssp = old;
    if (from && old & 7)
        return cp(cpu, CP_FAR_RET);
    if (from && !(outward && r->cpl == 3) && pop_frame(cpu, r, &old))
        return CPU_FAULT;
    if (to && outward && r->cpl == 3)
        r->ssp = cpu->msr_pl_ssp[3];
    if (to && (r->wide ? !canonical(cpu, r->ssp) : r->ssp >> 32))
        return gp0(cpu);
    /* In long mode an IRET within a ring may leave an IST's stack. */
    bool leaves = outward || (r->iret && mode_long(cpu) && r->ssp != old);
    return from && leaves ? token_release(cpu, old) : CPU_NEXT;
}

void cet_leave_done(struct cpu *cpu, const struct cet_return *r) {
    if (r->cpl == cpu->cpl ? cpu->mode & MODE_SHSTK : cet_on(cpu, r->cpl, CET_SHSTK))
        cpu->ssp = r->ssp;
}

enum cpu_rc cet_leave_vm86(struct cpu *cpu) {
    if (cet_on(cpu, 3, CET_SHSTK | CET_IBT))
        return gp0(cpu);
    if (!(cpu->mode & MODE_SHSTK))
        return CPU_NEXT;
    return cpu->ssp & 7 ? cp(cpu, CP_FAR_RET) : token_release(cpu, cpu->ssp);
}

/* ---- Task switches ---- */

enum cpu_rc cet_task_out(struct cpu *cpu, unsigned cpl, bool nests, struct cet_task *t) {
    uint64_t frame[3] = {cpu->msr_pl_ssp[3], 0, 0};
    if (!(cpu->mode & MODE_SHSTK))
        return CPU_NEXT;
    if (nests) {
        t->keeps = cpl < cpu->cpl && cpu->cpl == 3;
        t->pushes = !t->keeps;
        t->ssp = cpu->ssp;
        t->cs = cpu->seg[SEG_CS].sel;
    }
    if (!t->iret)
        return CPU_NEXT;
    t->verifies = cpl == cpu->cpl || cpl < 3;
    for (unsigned i = 0; t->verifies && i < 3; i++)
        if (load(cpu, cpu->ssp + 8 * i, &frame[i], 8))
            return CPU_FAULT;
    t->ssp = frame[0];
    t->lip = frame[1];
    t->cs = frame[2];
    return token_release(cpu, cpu->ssp + (t->verifies ? FRAME_BYTES : 0));
}

/* The token lies where the new TSS says. */
static enum cpu_rc task_enter(struct cpu *cpu, const struct cet_task *t) {
    uint64_t at = t->new_ssp, was;
    uint32_t error = t->tss & ~3u;
    if (at & 7)
        return cpu_raise_code(cpu, VEC_TS, error);
    if (cpu_ss_swap(cpu, at, at, at | TOKEN_BUSY, &was, mode_of(cpu->cpl)))
        return CPU_FAULT;
    if (was != at)
        return cpu_raise_code(cpu, VEC_TS, error);
    const uint64_t frame[3] = {t->ssp, t->lip, t->cs};
    for (unsigned i = 3; t->pushes && i-- > 0;)
        if (store(cpu, false, cpu->cpl, at - FRAME_BYTES + 8 * i, &frame[i], 8))
            return CPU_FAULT;
    cpu->ssp = t->pushes ? at - FRAME_BYTES : at;
    return CPU_NEXT;
}

static enum cpu_rc task_back(struct cpu *cpu, const struct cet_task *t) {
    if (t->verifies &&
        (t->cs != cpu->seg[SEG_CS].sel || t->lip != cet_lip(cpu, cpu->rip)))
        return cp(cpu, CP_FAR_RET);
    if (!cet_on(cpu, cpu->cpl, CET_SHSTK))
        return CPU_NEXT;
    uint64_t ssp = t->verifies ? t->ssp : cpu->msr_pl_ssp[3];
    if (ssp & 3 || ssp >> 32)
        return cp(cpu, CP_FAR_RET);
    cpu->ssp = ssp;
    return CPU_NEXT;
}

enum cpu_rc cet_task_in(struct cpu *cpu, const struct cet_task *t) {
    bool stack = cet_on(cpu, cpu->cpl, CET_SHSTK);
    if (t->keeps)
        keep_user_ssp(cpu);
    if (cpu->mode & MODE_VM86)
        return stack || cet_on(cpu, 3, CET_IBT)
                   ? cpu_raise_code(cpu, VEC_TS, t->tss & ~3u)
                   : CPU_NEXT;
    enum cpu_rc rc = t->iret ? task_back(cpu, t) : stack ? task_enter(cpu, t) : CPU_NEXT;
    if (rc == CPU_NEXT && !t->iret)
        track_far(cpu, cpu->cpl);
    return rc;
}

/* ---- The instructions ---- */

/* #UD where it may not be used: without shadow stacks at this CPL. */
static enum cpu_rc needs_stack(struct cpu *cpu) {
    return cpu->mode & MODE_SHSTK ? CPU_NEXT : cpu_raise(cpu, VEC_UD);
}

enum cpu_rc op_rdssp(struct cpu *cpu, const struct insn *in) {
    if (!(cpu->mode & MODE_SHSTK))
        return CPU_NEXT; /* a NOP, which leaves all of the register */
    return cpu_op_write(cpu, in, 0, cpu->ssp);
}

enum cpu_rc op_incssp(struct cpu *cpu, const struct insn *in) {
    uint64_t first, last;
    if (needs_stack(cpu))
        return CPU_FAULT;
    unsigned size = in->op[0].size, n = cpu->gpr[in->op[0].reg] & 0xff;
    uint64_t at = cpu->ssp + (uint64_t)(n ? n - 1 : 0) * size;
    if (load(cpu, cpu->ssp, &first, size) || load(cpu, at, &last, size))
        return CPU_FAULT;
    cpu->ssp += (uint64_t)n * size;
    if (!mode_64(cpu))
        cpu->ssp = (uint32_t)cpu->ssp;
    return CPU_NEXT;
}

/* The memory operand of a token, 8 bytes, aligned. */
static enum cpu_rc token_operand(struct cpu *cpu, const struct insn *in, pn_gva *lin) {
    if (cpu_lin_operand(cpu, in, 8, PN_WRITE, lin))
        return CPU_FAULT;
    return *lin & 7 ? gp0(cpu) : CPU_NEXT;
}

enum cpu_rc op_saveprevssp(struct cpu *cpu, const struct insn *in) {
    uint64_t token, pops = 8;
    uint32_t hole = 0;
    const uint32_t zero = 0;
    bool wide = mode_64(cpu), cf = cpu_arith_flags(cpu) & FL_CF;
    if (needs_stack(cpu))
        return CPU_FAULT;
    if (cpu->ssp & 7)
        return gp0(cpu);
    if (load(cpu, cpu->ssp, &token, 8))
        return CPU_FAULT;
    if (cf) {
        if (wide)
            return gp0(cpu);
        if (load(cpu, cpu->ssp + 8, &hole, 4))
            return CPU_FAULT;
        pops += 4;
    }
    if (hole || !(token & 2) || (!wide && token >> 32))
        return gp0(cpu);
    uint64_t old = token & ~UINT64_C(3), restore = old | wide;
    if (store(cpu, wide, cpu->cpl, old - 4, &zero, 4) ||
        store(cpu, wide, cpu->cpl, (old & ~UINT64_C(7)) - 8, &restore, 8))
        return CPU_FAULT;
    cpu->ssp += pops;
    return CPU_NEXT;
}

enum cpu_rc op_rstorssp(struct cpu *cpu, const struct insn *in) {
    bool wide = mode_64(cpu);
    uint64_t token, was;
    pn_gva lin;
    if (needs_stack(cpu) || token_operand(cpu, in, &lin))
        return CPU_FAULT;
    /* Locked: the token is read, and written as it is or as the other one. */
    if (cpu_ss_swap(cpu, lin, 0, 0, &token, mode_of(cpu->cpl)))
        return CPU_FAULT;
    if ((token & 3) != wide || (!wide && token >> 32) ||
        (((token & ~UINT64_C(1)) - 8) & ~UINT64_C(7)) != lin)
        return cp(cpu, CP_RSTORSSP);
    if (cpu_ss_swap(cpu, lin, token, cpu->ssp | wide | 2, &was, mode_of(cpu->cpl)))
        return CPU_FAULT;
    cpu->ssp = lin;
    cpu_set_arith_flags(cpu, token & 4 ? FL_CF : 0);
    return CPU_NEXT;
}

/* WRSS and, with arg, WRUSS. */
enum cpu_rc op_wrss(struct cpu *cpu, const struct insn *in) {
    const uint64_t both = CET_SHSTK | CET_WRSS;
    unsigned size = in->op[0].size;
    uint64_t value = cpu->gpr[in->op[1].reg];
    bool may = in->arg
                   ? cpu->cr4 & CR4_CET && mode_prot(cpu)
                   : cpu->mode & MODE_SHSTK && (*control(cpu, cpu->cpl) & both) == both;
    pn_gva lin;
    if (!may)
        return cpu_raise(cpu, VEC_UD);
    if (in->arg && cpu->cpl)
        return gp0(cpu);
    if (cpu_lin_operand(cpu, in, size, PN_WRITE, &lin))
        return CPU_FAULT;
    if (lin & (size - 1))
        return gp0(cpu);
    return cpu_ss_write(cpu, lin, &value, size,
                        in->arg ? PN_TLB_USER : mode_of(cpu->cpl));
}

/* #UD, #GP: of SETSSBSY and CLRSSBSY. */
static enum cpu_rc needs_supervisor(struct cpu *cpu) {
    if (!cet_on(cpu, 0, CET_SHSTK) || !mode_prot(cpu))
        return cpu_raise(cpu, VEC_UD);
    return cpu->cpl ? gp0(cpu) : CPU_NEXT;
}

enum cpu_rc op_setssbsy(struct cpu *cpu, const struct insn *in) {
    uint64_t at = cpu->msr_pl_ssp[0], was;
    if (needs_supervisor(cpu))
        return CPU_FAULT;
    if (at & 7)
        return gp0(cpu);
    if (cpu_ss_swap(cpu, at, at, at | TOKEN_BUSY, &was, PN_TLB_SUPER))
        return CPU_FAULT;
    if (was != at)
        return cp(cpu, CP_SETSSBSY);
    cpu->ssp = at;
    return CPU_NEXT;
}

enum cpu_rc op_clrssbsy(struct cpu *cpu, const struct insn *in) {
    uint64_t was;
    pn_gva lin;
    if (needs_supervisor(cpu) || token_operand(cpu, in, &lin) ||
        cpu_ss_swap(cpu, lin, lin | TOKEN_BUSY, lin, &was, PN_TLB_SUPER))
        return CPU_FAULT;
    cpu_set_arith_flags(cpu, was == (lin | TOKEN_BUSY) ? 0 : FL_CF);
    cpu->ssp = 0;
    return CPU_NEXT;
}
