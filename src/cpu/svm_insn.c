/* SPDX-License-Identifier: MIT */
/*
 * Instruction intercepts: what of L2's exits before it is done.
 *
 * Blocks of L2's, whose mode has MODE_GUEST, call these in the place of the helpers
 * (svm_guard); no other block does. Where the instruction's own checks come first, and one
 * does not hold, the helper raises its fault: each check here repeats only whether it would.
 *
 * Source: APM volume 2, "Instruction Intercepts" (which exceptions are checked before the
 * intercept), "IOIO Intercepts", "MSR Intercepts", "Decode Assists".
 */
#include "cpu/svm.h"

#include "cpu/bulk.h"
#include "cpu/control.h"
#include "cpu/nested.h"

/* Leave for that instruction. Return: true. */
static bool leave(struct cpu *cpu, const struct insn *in, uint64_t code, uint64_t info1,
                  enum cpu_rc *rc) {
    *rc = svm_exit(cpu, code, info1, 0, next_rip(cpu, in));
    return true;
}

/* Leave if it is intercepted. Return: it was. */
static bool plain(struct cpu *cpu, const struct insn *in, unsigned icpt,
                  enum cpu_rc *rc) {
    return svm_intercepts(cpu, icpt) && leave(cpu, in, SVM_EXIT_ICPT + icpt, 0, rc);
}
static bool ring0(struct cpu *cpu, const struct insn *in, unsigned icpt,
                  enum cpu_rc *rc) {
    return !cpu->cpl && plain(cpu, in, icpt, rc);
}

static uint64_t assist(const struct cpu *cpu, uint64_t info) {
    return cpu_has(cpu, CPU_F_decodeassists) ? info : 0;
}

/* ---- Control and debug registers ---- */

#define CR0_SELECTIVE (CR0_TS | CR0_MP)

static bool cr_read(const struct cpu *cpu, unsigned cr) {
    return cpu->svm.ctl.cr >> cr & 1;
}
static bool cr_write(const struct cpu *cpu, unsigned cr) {
    return cpu->svm.ctl.cr >> (16 + cr) & 1;
}

static bool check_cr(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    bool write = in->op[0].kind == OP_CR;
    unsigned cr = in->op[write ? 0 : 1].reg, reg = in->op[write ? 1 : 0].reg;
    if (in->lock)
        cr = cr == 0 && cpu_follows(cpu, RULE_lock_cr8) ? 8 : 1;
    if (cpu->cpl || (cr != 0 && cr != 2 && cr != 3 && cr != 4 && cr != 8))
        return false;
    uint64_t info = assist(cpu, SVM_SAYS(CR_MOV, 1) | SVM_SAYS(CR_REGISTER, reg));
    if (!write)
        return cr_read(cpu, cr) && leave(cpu, in, SVM_EXIT_READ_CR0 + cr, info, rc);
    if (cr_write(cpu, cr))
        return leave(cpu, in, SVM_EXIT_WRITE_CR0 + cr, info, rc);
    uint64_t v = mode_64(cpu) ? cpu->gpr[reg] : (uint32_t)cpu->gpr[reg];
    return cr == 0 && (v ^ cpu->cr0) & ~CR0_SELECTIVE & ~CR0_ET &&
           svm_intercepts(cpu, ICPT_CR0_SELECTIVE) &&
           leave(cpu, in, SVM_EXIT_ICPT + ICPT_CR0_SELECTIVE, info, rc);
}

static bool check_dr(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    bool write = in->op[0].kind == OP_DR;
    unsigned dr = in->op[write ? 0 : 1].reg, reg = in->op[write ? 1 : 0].reg;
    if (cpu->cpl || dr > 7 || in->lock || ((dr == 4 || dr == 5) && cpu->cr4 & CR4_DE) ||
        cpu->dr[7] & DR7_GD)
        return false;
    unsigned bit = dr + (write ? 16 : 0);
    return cpu->svm.ctl.dr >> bit & 1 &&
           leave(cpu, in, SVM_EXIT_READ_DR0 + bit,
                 assist(cpu, SVM_SAYS(DR_REGISTER, reg)), rc);
}

static bool check_smsw(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    if (cpu->cpl && cpu->cr4 & CR4_UMIP)
        return false;
    return cr_read(cpu, 0) && leave(cpu, in, SVM_EXIT_READ_CR0, 0, rc);
}

static bool check_lmsw(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    if (cpu->cpl)
        return false;
    if (cr_write(cpu, 0))
        return leave(cpu, in, SVM_EXIT_WRITE_CR0, 0, rc);
    return plain(cpu, in, ICPT_CR0_SELECTIVE, rc); /* whatever it writes */
}

static bool check_clts(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return !cpu->cpl && cr_write(cpu, 0) && leave(cpu, in, SVM_EXIT_WRITE_CR0, 0, rc);
}

/* ---- Descriptor tables: reads of IDTR, GDTR, LDTR, TR, then writes ---- */

static bool umip_denies(const struct cpu *cpu) {
    return cpu->cr4 & CR4_UMIP && cpu->cpl;
}

static bool check_table(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    bool write = in->fn == op_load_table;
    if (write ? cpu->cpl : umip_denies(cpu))
        return false;
    return plain(cpu, in, ICPT_IDTR_READ + (in->arg ? 0 : 1) + (write ? 4 : 0), rc);
}

static bool check_system(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    bool write = in->fn == op_load_system;
    if (!mode_prot(cpu) || (write ? cpu->cpl : umip_denies(cpu)))
        return false;
    return plain(cpu, in, ICPT_IDTR_READ + (in->arg == SEG_TR ? 3 : 2) + (write ? 4 : 0),
                 rc);
}

/* ---- The rest, by one bit each ---- */

static bool check_rdtsc(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    if ((in->arg && !cpu_has(cpu, CPU_F_rdtscp)) || (cpu->cr4 & CR4_TSD && cpu->cpl))
        return false;
    return plain(cpu, in, in->arg ? ICPT_RDTSCP : ICPT_RDTSC, rc);
}
static bool check_rdpmc(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return (!cpu->cpl || cpu->cr4 & CR4_PCE) && plain(cpu, in, ICPT_RDPMC, rc);
}
static bool check_pushf(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return plain(cpu, in, ICPT_PUSHF, rc);
}
static bool check_popf(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return plain(cpu, in, ICPT_POPF, rc);
}
static bool check_cpuid(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return plain(cpu, in, ICPT_CPUID, rc);
}
static bool check_rsm(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return in->arg && plain(cpu, in, ICPT_RSM, rc);
}
static bool check_iret(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return plain(cpu, in, ICPT_IRET, rc);
}
static bool check_intn(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return svm_intercepts(cpu, ICPT_INTN) &&
           leave(cpu, in, SVM_EXIT_ICPT + ICPT_INTN, assist(cpu, (uint8_t)in->imm), rc);
}
static bool check_cache(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return ring0(cpu, in, in->arg ? ICPT_WBINVD : ICPT_INVD, rc);
}
static bool check_hlt(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return ring0(cpu, in, ICPT_HLT, rc);
}
static bool check_xsetbv(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return cpu->cr4 & CR4_OSXSAVE && plain(cpu, in, ICPT_XSETBV, rc);
}
static bool check_int1(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return in->arg == VEC_DB && plain(cpu, in, ICPT_ICEBP, rc);
}

static pn_gva linear(const struct cpu *cpu, const struct insn *in) {
    uint64_t ea = operand_offset(cpu, in);
    bool flat = mode_64(cpu) && in->seg != SEG_FS && in->seg != SEG_GS;
    uint64_t lin = ea + (flat ? 0 : cpu->seg[in->seg].base);
    return mode_64(cpu) ? lin : (uint32_t)lin;
}

static bool check_invlpg(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    if (cpu->cpl || !svm_intercepts(cpu, ICPT_INVLPG))
        return false;
    return leave(cpu, in, SVM_EXIT_ICPT + ICPT_INVLPG, assist(cpu, linear(cpu, in)), rc);
}

static bool check_invpcid(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    if (cpu->cpl || !cpu_has(cpu, CPU_F_invpcid) || !(cpu->mode & MODE_PE))
        return false;
    if (!svm_intercepts(cpu, ICPT_INVPCID))
        return false;
    *rc = svm_exit(cpu, SVM_EXIT_INVPCID, linear(cpu, in), cpu->gpr[in->op[0].reg],
                   next_rip(cpu, in));
    return true;
}

/* L2's hypercalls are for L1: without the intercept there is no such instruction, and L1
 * gets to see VMCALL as #UD. */
static bool check_hypercall(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    if (in->arg && plain(cpu, in, ICPT_VMMCALL, rc))
        return true;
    *rc = cpu_raise(cpu, VEC_UD);
    return true;
}

enum cpu_rc svm_pause(struct cpu *cpu, const struct insn *in) {
    enum cpu_rc rc;
    bool filter = cpu_has(cpu, CPU_F_pausefilter) && cpu->svm.ctl.pause_count;
    if (filter && cpu->svm.pauses) {
        cpu->svm.pauses--;
        return CPU_NEXT;
    }
    return plain(cpu, in, ICPT_PAUSE, &rc) ? rc : CPU_NEXT;
}

/* ---- MSRs and ports ---- */

/* Is a bit of an L1 bitmap set? What is in no memslot reads as set. */
static bool map_bits(struct cpu *cpu, pn_gpa map, unsigned bit, unsigned n) {
    uint16_t word = 0xffff;
    pn_mmu_read_phys(cpu->mmu, map + bit / 8, &word, sizeof word);
    return word >> (bit & 7) & ((1u << n) - 1);
}

/* Two bits each, RDMSR's and WRMSR's, of three ranges. */
static bool msr_intercepted(struct cpu *cpu, uint32_t index, bool write) {
    static const uint32_t first[] = {0, 0xc0000000u, 0xc0010000u};
    for (unsigned i = 0; i < 3; i++)
        if (index - first[i] < 0x2000)
            return map_bits(cpu, cpu->svm.ctl.msrpm,
                            i * 0x4000 + (index - first[i]) * 2 + write, 1);
    return true;
}

static bool check_msr(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    bool write = in->fn == op_wrmsr;
    return !cpu->cpl && svm_intercepts(cpu, ICPT_MSR) &&
           msr_intercepted(cpu, (uint32_t)cpu->gpr[R_CX], write) &&
           leave(cpu, in, SVM_EXIT_ICPT + ICPT_MSR, SVM_SAYS(MSR_WRITE, write), rc);
}

bool svm_port(struct cpu *cpu, const struct insn *in, uint16_t port, unsigned size,
              bool out, bool string, enum cpu_rc *rc) {
    if (!svm_intercepts(cpu, ICPT_IOIO) || !map_bits(cpu, cpu->svm.ctl.iopm, port, size))
        return false;
    uint64_t next = next_rip(cpu, in);
    uint64_t info = SVM_SAYS(IO_PORT, port) | SVM_SAYS(IO_IN, !out) |
                    SVM_SAYS(IO_SIZE, size) | SVM_SAYS(IO_ADDRESS, in->addrsize / 2);
    if (string) {
        info |= SVM_SAYS(IO_STRING, 1) | SVM_SAYS(IO_REP, in->rep != 0);
        info |= assist(cpu, SVM_SAYS(IO_SEGMENT, out ? in->seg : SEG_ES));
    }
    *rc = svm_exit(cpu, SVM_EXIT_ICPT + ICPT_IOIO, info, next, next);
    return true;
}

/* ---- What looks for itself ---- */

bool svm_task_switch(struct cpu *cpu, uint16_t sel, enum task_reason reason,
                     const struct event *ev, enum cpu_rc *rc) {
    if (!svm_intercepts(cpu, ICPT_TASK_SWITCH))
        return false;
    /* RF as the outgoing TSS would have it. */
    uint64_t eflags = ev ? event_rflags(cpu, ev) : cpu_rflags(cpu);
    uint64_t info = SVM_SAYS(TASK_WHY_IRET, reason == TASK_IRET) |
                    SVM_SAYS(TASK_WHY_JUMP, reason == TASK_JMP) |
                    SVM_SAYS(TASK_WHY_RF, (eflags & FL_RF) != 0);
    if (ev && ev->has_error)
        info |= SVM_SAYS(TASK_WHY_HAS_ERROR, 1) | SVM_SAYS(TASK_WHY_ERROR, ev->error);
    *rc = svm_exit(cpu, SVM_EXIT_ICPT + ICPT_TASK_SWITCH, sel, info, 0);
    return true;
}

bool svm_soft_exception(struct cpu *cpu, const struct insn *in, uint8_t vector,
                        enum cpu_rc *rc) {
    return cpu->svm.ctl.exceptions >> vector & 1 &&
           leave(cpu, in, SVM_EXIT_EXCEPTION + vector, 0, rc);
}

/* ---- The guards ---- */

#define ICPT(helper, check)                                                              \
    static enum cpu_rc guard_##helper(struct cpu *cpu, const struct insn *in) {          \
        return nested_guarded(cpu, in, helper, check_##check);                           \
    }
#include "cpu/svm_insn.inc"

svm_helper *svm_guard(svm_helper *fn) {
    static const struct nested_guard guards[] = {
#define ICPT(helper, check) {helper, guard_##helper},
#include "cpu/svm_insn.inc"
    };
    return nested_find_guard(guards, sizeof guards / sizeof guards[0], fn);
}
