/* SPDX-License-Identifier: MIT */
/*
 * The software CPU: its state and the calls between its files.
 *
 * Two halves. The translator (decode, lower, emit, block, run) executes everything
 * unprivileged with the host's own units. The system half (mem, seg, exc, far, string,
 * sys, msr, cpuid, fpu, task, io) executes the rest as C helpers over decoded operands
 * (insn.h). Both see one struct cpu.
 *
 * Invariants
 * 1. Between blocks and in every helper: gpr[], rip, fl and sys_flags are the guest's;
 *    the host's registers hold nothing of it, but vector state while vec_live.
 * 2. In a helper, rip is the address of the instruction being executed; cpu_insns()
 *    counts the instructions retired before it. The translator advances rip after a
 *    helper that returned CPU_NEXT.
 * 3. A helper that returns CPU_FAULT has changed no guest-visible state but A/D bits,
 *    CR2 not included (delivery sets it), and, for a repeated string or a gather, whole
 *    completed iterations or elements.
 */
#pragma once

#include "penumbra/bus.h"
#include "penumbra/cpu_state.h"
#include "penumbra/debug.h"
#include "penumbra/events.h"
#include "penumbra/mmu.h"
#include "penumbra/parts.h"
#include "penumbra/stats.h"

struct insn;
struct cpu;

enum { R_AX, R_CX, R_DX, R_BX, R_SP, R_BP, R_SI, R_DI };
enum {
#define PN_SEG(id, name, gdb, kvm, sel, attr, base) SEG_##id,
#include "penumbra/cpu_state.inc"
    SEG_COUNT
};

#define FL_ARITH (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)

/* What a helper, or the delivery of an event, returns. */
enum cpu_rc {
    CPU_NEXT,  /* 0: done; go on with the next instruction */
    CPU_JUMP,  /* done; rip is already the new one (far transfers, iret, a rep to be
                  resumed) */
    CPU_FAULT, /* cpu->fault is for the guest; rip still names this instruction */
    CPU_STOP,  /* done, rip advanced or not as for NEXT; leave translated code: state that
                  blocks depend on changed (mode, TLB, interrupt flag, clock) */
    CPU_HALT,  /* HLT: as STOP, and wait for an interrupt */
    CPU_SHUTDOWN /* triple fault */
};

/* Why cpu_run returned. */
enum cpu_exit {
    CPU_EXIT_DEADLINE, /* insns reached the limit given to cpu_run */
    CPU_EXIT_HALT,     /* halted and nothing pending */
    CPU_EXIT_SHUTDOWN, /* triple fault; cpu->fault_name says of what */
    CPU_EXIT_STOP,     /* cpu_kick, or a device asked for it through the bus */
    CPU_EXIT_DEBUG     /* a debugger's stop: cpu->debug.stop says which */
};

/* Static description of a CPU model: see cpuid.c and `--cpu`. */
struct cpu_model;
enum cpu_vendor { CPU_INTEL, CPU_AMD };
/* "name[,+feature][,-feature]...[,vendor=intel|amd]" Return: 0 and *out, or -EINVAL with
 * one line in err. */
int cpu_model_parse(const char *text, struct cpu_model **out, char *err, size_t err_size);
void cpu_model_free(struct cpu_model *model);
void cpu_model_print(FILE *out); /* names and features, for --cpu help */
/* Be of the host's vendor, whatever its features. */
void cpu_model_take_host_vendor(struct cpu_model *model);
/* Be what these leaves say, as far as the model's features go: vendor, family, features,
 * MAXPHYADDR. They are those of a CPU that the guest has run on so far. */
typedef void (*cpu_leaf_fn)(void *opaque, uint32_t leaf, uint32_t subleaf,
                            uint32_t out[4]);
void cpu_model_follow(struct cpu_model *model, cpu_leaf_fn fn, void *opaque);
/* Did the text name a vendor? Without one the model is Intel's. */
bool cpu_model_names_vendor(const struct cpu_model *model);
/* The bits of physical addresses that it named; 0: none. */
unsigned cpu_model_named_bits(const struct cpu_model *model);
/* What a guest may be a hypervisor by: "svm", "vmx", or NULL. */
const char *cpu_model_hypervisor(const struct cpu_model *model);
const char *cpu_model_name(const struct cpu_model *model); /* as --cpu takes it */
/* Offer KVM's paravirtual interface with these features (EAX of CPUID leaf 0x40000001):
 * its signature, its MSRs and hypercalls, which the bus answers. 0: none of it, and the
 * hypercall instructions are #UD. Before the model is used. */
void cpu_model_set_pv(struct cpu_model *model, uint32_t features);
/* Fill one CPUID leaf of the model as the guest sees it (no run-time bits). */
void cpu_model_leaf(const struct cpu_model *model, uint32_t leaf, uint32_t subleaf,
                    uint32_t out[4]);

#define CPU_XSAVE_SIZE 4096
#define CPU_SPLITS_MAX (2 * PN_BREAKS_MAX)
#define CPU_VEC_MASK   0xe7u /* x87, SSE, AVX, AVX-512 */

/* Modes that blocks depend on: the block key. */
#define MODE_CODE64 0x001u /* CS.L in long mode */
#define MODE_CODE32 0x002u /* CS.D; neither bit: 16-bit code */
#define MODE_SS32   0x004u /* SS.B: stack width 32 outside 64-bit mode */
#define MODE_CPL3   0x008u
#define MODE_AC     0x010u /* CPL < 3 and RFLAGS.AC: TLB mode SUPER_AC */
#define MODE_FLAT                                                                        \
    0x020u /* ES, CS, SS, DS flat (base 0, limit 4 GiB, present, writable data):         \
              no segment checks needed; always set in 64-bit mode */
#define MODE_NOFPU 0x040u /* CR0.EM, CR0.TS or CR0.MP with TS: x87 raises #NM */
#define MODE_NOSSE 0x080u /* SSE instructions fault (#UD or #NM): CR0.EM, !OSFXSR, TS */
#define MODE_NOAVX                                                                       \
    0x100u /* AVX instructions fault: !OSXSAVE, XCR0 lacks AVX or SSE, TS */
#define MODE_TF    0x200u /* single-step: blocks of one instruction, then #DB */
#define MODE_ALIGN 0x400u /* CR0.AM, RFLAGS.AC, CPL 3: alignment check */
#define MODE_SLOWMEM                                                                     \
    0x800u /* DR7 arms a breakpoint: one instruction at a time, and every memory operand \
              takes the slow path */
#define MODE_PE     0x1000u /* protected mode */
#define MODE_VM86   0x2000u
#define MODE_LMA    0x4000u  /* EFER.LMA */
#define MODE_IOPRIV 0x8000u  /* CPL <= IOPL */
#define MODE_EVEX   0x10000u /* AVX-512 instructions do not fault */
/* CET at this CPL: near calls and returns use a shadow stack; indirect branches are tracked;
 * and one has been made, so that an ENDBRANCH must come next. */
#define MODE_SHSTK 0x20000u
#define MODE_IBT   0x40000u
#define MODE_WAIT  0x80000u
#define MODE_CET   (MODE_SHSTK | MODE_IBT | MODE_WAIT)
#define MODE_GUEST                                                                       \
    0x100000u /* the guest of a guest's hypervisor runs: intercepts (svm.h) */

/* The controls of the guest's guest, as VMRUN read them from its VMCB. */
struct svm_ctl {
    uint32_t cr, dr, exceptions, icpt[3]; /* intercepts */
    uint32_t asid;
    uint16_t pause_count;
    uint8_t tlb_control;
    bool nested;                             /* nested paging, from ncr3 on */
    uint64_t ncr3, iopm, msrpm, event, next; /* next: nRIP */
    int64_t tsc_offset;
};

/* The controls of the guest's guest, as VM entry read them from its VMCS. */
struct vmx_ctl {
    uint32_t pin, proc, proc2, exit, entry;
    uint32_t exceptions, pf_mask, pf_match, cr3_targets, tpr_threshold;
    uint16_t vpid;
    uint64_t cr0_mask, cr4_mask, cr0_shadow, cr4_shadow, cr3_target[4];
    uint64_t io[2], msr_map, eptp, xss_bitmap, vapic;
    uint64_t functions, eptp_list, link, vmread_map, vmwrite_map, pml;
    uint64_t apic_access, posted_at, eoi_exit[4], ve_at;
    uint8_t posted_vector;
    int64_t tsc_offset;
};

struct cpu {
    /* Read and written by translated code at fixed offsets. */
    uint64_t gpr[16];
    uint64_t rip;
    uint64_t
        fl; /* arithmetic flags: low byte OF (0 or 1), next byte as LAHF gives them */
    uint64_t sys_flags; /* the other bits of RFLAGS, FL_ARITH clear, bit 1 set */
    int64_t budget; /* instructions left before the deadline; may run below 0 by no more
                       than what a block deducts before it leaves */
    uint64_t insn_limit; /* cpu_insns() == insn_limit - budget (see cpu_insns) */
    uint64_t jc_salt;    /* xored into jump-cache tags; follows view.fetch_gen */
    struct pn_tlb_view view;
    struct { /* the translator's: see xlat.h */
        uint64_t save[2];
        const void *entry[4];
        uint64_t host_sp, ret, r10, rax, vec;
        uint64_t *r8; /* where the host's R8 is kept: gpr[8], or view.stamp */
    } jit;
    struct pn_segment seg[SEG_COUNT];
    uint32_t mode;    /* MODE_* of now; cpu_update_mode */
    uint8_t vec_live; /* host's vector and x87 registers hold the guest's */
    uint8_t cpl;
    uint8_t halted;      /* PN_RUNS, PN_HALTED, PN_WAITS_SIPI */
    uint8_t intr_shadow; /* PN_SHADOW_*: no interrupt before the next instruction is done;
                            kept exact by shadow_at, so nobody needs to clear it */
    uint8_t nmi_pending, nmi_blocked;
    uint8_t kick;         /* atomic: leave translated code as soon as possible */
    uint8_t stop_request; /* a device asked cpu_run to return */
    uint8_t intr_line;    /* the controller may have an interrupt: ask intr_peek */
    uint8_t paused;       /* a PAUSE since the slice began; where vCPUs are threads */
    uint8_t waits;        /* slices with one, in a row */
    uint8_t
        step_skip; /* the instruction just done (INT n, SYSCALL) owes no single-step */
    uint32_t db_pending; /* DR6 bits of debug traps owed: cpu_poll_events delivers #DB */
    struct pn_fetches *fetches; /* with a TLB model; else NULL */
    uint64_t jc_gen;            /* view.fetch_gen that jc_salt stands for */
    uint64_t shadow_at;    /* intr_shadow holds only while cpu_insns() == shadow_at */
    uint64_t rf_at;        /* RFLAGS.RF reads as 1 only while cpu_insns() == rf_at */
    uint64_t fault_at;     /* cpu_insns() at the last exception, and how many in a row */
    uint32_t fault_streak; /* were delivered there: see exc.c */
    struct {               /* what another engine had on its way to the guest */
        uint8_t any;       /* one of the two is not -1 */
        uint8_t has_error, has_payload;
        int16_t exception, interrupt;
        uint32_t error;
        uint64_t payload;
    } inject;

    struct pn_fault fault;  /* of the last CPU_FAULT */
    const char *fault_name; /* what shut the CPU down */

    /* System state. */
    uint64_t cr0, cr2, cr3, cr4, efer, xcr0;
    uint64_t pdpte[4];
    struct cpu_table {
        uint64_t base;
        uint32_t limit;
    } gdtr, idtr;
    uint64_t dr[8];
    uint32_t pkru;
    uint64_t pkrs;
    uint64_t msr_star, msr_lstar, msr_cstar, msr_sfmask, msr_kernel_gs_base;
    uint64_t msr_sysenter_cs, msr_sysenter_esp, msr_sysenter_eip;
    uint64_t msr_pat, msr_tsc_aux, msr_misc_enable, msr_spec_ctrl, msr_xss;
    uint64_t ssp; /* the shadow-stack pointer */
    uint64_t msr_u_cet, msr_s_cet, msr_pl_ssp[4], msr_ssp_table;
    uint64_t msr_mtrr[32]; /* def type, fixed and variable ranges: stored, not acted on */
    int64_t tsc_offset;    /* TSC = cpu_clock() + tsc_offset */
    uint64_t tsc_adjust;   /* IA32_TSC_ADJUST: the guest's own share of tsc_offset */
    uint64_t rng;          /* RDRAND, RDSEED: a generator seeded from the configuration */

    /* Guest vector and x87 state while !vec_live; XSAVE standard format. */
    uint8_t xsave[CPU_XSAVE_SIZE] __attribute__((aligned(64)));

    /* The last x87 instruction that is no control instruction, as its code notes it: its
     * address, that of its memory operand, and its opcode (11 bits). See x87env.c. */
    struct {
        uint64_t ip, dp;
        uint32_t op, fault_op; /* the latter: of the last exception not masked */
        uint16_t cs, ds;
    } x87;

    /* Bounce buffer of a slow memory operand, and what is owed to memory after it. */
    uint8_t bounce[64] __attribute__((aligned(64)));
    struct {
        uint8_t count; /* pieces, 0: nothing owed */
        struct {
            pn_gpa gpa;
            uint8_t size, kind;
        } piece[2];
        uint64_t bytes; /* of the bounce buffer that are owed, one bit each */
    } owed;
    /* Advances with each block that a write drops and each access that reaches a device:
     * what comes next in the running block may have changed. */
    uint64_t disturbed;

    struct {
        uint8_t guest;  /* L2 runs */
        uint8_t gif;    /* the global interrupt flag */
        uint8_t active; /* L2 runs, or GIF is clear: events are svm_poll's */
        uint8_t stale;  /* ctl is to be read from the VMCB */
        uint64_t
            entering; /* an event as EVENTINJ has it, which VMRUN has still to deliver: in a
                              state of KVM's alone */
        uint8_t host_if; /* L1's RFLAGS.IF */
        uint16_t pauses; /* left before one exits */
        uint64_t vmcb, vm_cr, hsave;
        uint64_t tsc_ratio; /* TSC_RATIO_ONE: 1 */
        uint64_t int_ctl;   /* of the VMCB, as it is now */
        uint64_t in_flight; /* EXITINTINFO, should an exit come now */
        struct svm_ctl ctl;
    } svm; /* svm.h */

    struct {
        uint8_t on;      /* in VMX operation */
        uint8_t init;    /* an INIT waits: 1, or 2 for one to be followed by a SIPI */
        uint8_t trap;    /* the monitor trap flag's exit is due */
        uint8_t guest;   /* L2 runs */
        uint8_t stale;   /* ctl is to be read from the VMCS */
        uint8_t timer;   /* L2 runs with the preemption timer on */
        uint8_t virtual; /* a virtual interrupt is recognized */
        uint32_t
            after; /* a trap-like exit is due: reason, and 16 bits of qualification */
        uint32_t in_flight_len; /* of the instruction that makes it */
        uint64_t in_flight;     /* the vectoring information, should an exit come now */
        uint64_t iret_at;       /* an IRET of then unblocked NMIs: cpu_insns() and 1 */
        uint64_t timer_at;      /* the TSC when that timer has run down */
        uint64_t vmxon, vmcs;   /* regions; vmcs is the current one, all ones: none */
        uint64_t feature_control, debugctl;
        struct vmx_ctl ctl;
    } vmx; /* vmx.h */

    struct {
        const struct pn_debug *set; /* NULL: nobody debugs */
        bool step;                  /* one instruction, then stop */
        struct pn_debug_stop stop;
        /* A watched access was made at that time, after that many events: the stop is due
         * when the instruction is done, or an event has been delivered instead. */
        struct pn_debug_stop hit;
        uint64_t hit_at, hit_events;
        uint64_t from_at, from_events; /* when the run began */
        /* It stopped here last: while time is pass_at the breakpoint at pass_rip does not
         * count. */
        bool pass;
        uint64_t pass_at, pass_rip;
        uint64_t split[CPU_SPLITS_MAX]; /* ascending: where blocks begin and end */
        unsigned split_count;
    } debug; /* debugger.c */

    struct pn_mmu *mmu;
    struct pn_mmu_vcpu *vmmu;
    const struct pn_bus *bus;
    const struct cpu_model *model;
    struct pn_stats *stats;
    struct pn_ring *ring;
    uint32_t apic_id;    /* the vCPU's number, also on the bus */
    uint64_t host_start; /* see cpu_config */
    bool host_clock;
    struct parallel *par; /* vCPUs are threads (turn.h); NULL: one thread runs all */
    bool turn;            /* with par: this vCPU's thread holds the lock */
    struct xlat *xlat;    /* the translator's own: blocks, code memory, jump cache */
};

/* ---- Life ---- */

struct cpu_config {
    struct pn_mmu *mmu;
    const struct pn_bus *bus;
    const struct cpu_model *model;
    struct pn_stats *stats;
    struct pn_ring *ring; /* may be NULL */
    uint32_t apic_id;     /* the vCPU's number, also on the bus */
    uint64_t seed;        /* of RDRAND */
    /* The TSC counts the ns of host_ns() since host_start, and no instructions. */
    bool host_clock;
    uint64_t host_start;
    /* Its runs are on a thread of their own, and begin and end under the lock (base/parallel.h);
     * needs host_clock. NULL: one thread runs all vCPUs. */
    struct parallel *par;
    uint32_t
        max_block; /* instructions per block at most; 1: the stepping mode; 0: default */
    size_t code_bytes;  /* code cache; 0: default (32 MiB, with SVM or VMX 64) */
    bool code_for_perf; /* code memory is one of which perf asks a map for names */
};

/* Return: 0 and a CPU in its reset state (SDM volume 3, "Processor State After Reset").
 */
int cpu_create(const struct cpu_config *cfg, struct cpu **out);
void cpu_destroy(struct cpu *cpu);

/* state.c, between two runs. Reset; INIT, and with `wait` (application processors)
 * nothing runs before a SIPI (return: false: it is held back, for the CPU is in VMX
 * operation, and comes at its end); SIPI, for a CPU that waits. */
void cpu_reset(struct cpu *cpu);
bool cpu_init(struct cpu *cpu, bool wait);
void cpu_sipi(struct cpu *cpu, uint8_t vector);
/* The whole state, to and from that of other engines. Return: 0, or -EINVAL when the
 * state is none that a CPU can be in; then nothing has changed. */
void cpu_get_state(struct cpu *cpu, struct pn_cpu_state *s);
int cpu_set_state(struct cpu *cpu, const struct pn_cpu_state *s);

/* Run until cpu_insns() reaches `limit` or something stops it. */
enum cpu_exit cpu_run(struct cpu *cpu, uint64_t limit);
/* After CPU_EXIT_HALT: the time in instructions at which the CPU goes on by itself, if not
 * before; UINT64_MAX: it does not. */
uint64_t cpu_wakes(const struct cpu *cpu);
/* With cpu_config.par, under the lock: return when the CPU runs no translated code. */
void cpu_still(struct cpu *cpu);
/* From any thread or a signal handler: make cpu_run return soon with CPU_EXIT_STOP. */
void cpu_kick(struct cpu *cpu);
static inline bool cpu_kicked(const struct cpu *cpu) {
    return __atomic_load_n(&cpu->kick, __ATOMIC_RELAXED);
}
/* Lower (or raise) the limit of the running cpu_run; callable from bus callbacks. */
void cpu_set_limit(struct cpu *cpu, uint64_t limit);

/* Between two runs (debugger.c): see pn_engine_ops.set_debug. set stays the caller's, and
 * must not be changed while it is this CPU's. */
void cpu_set_debug(struct cpu *cpu, const struct pn_debug *set, bool step);

/* Instructions retired so far. Exact in helpers and between blocks. */
static inline uint64_t cpu_insns(const struct cpu *cpu) {
    return cpu->insn_limit - (uint64_t)cpu->budget;
}
/* Does the guest of the guest's hypervisor run? */
static inline bool cpu_in_guest(const struct cpu *cpu) {
    return cpu->svm.guest | cpu->vmx.guest;
}
/* What a read of the TSC there adds. */
static inline int64_t cpu_guest_tsc_offset(const struct cpu *cpu) {
    return cpu->svm.guest   ? cpu->svm.ctl.tsc_offset
           : cpu->vmx.guest ? cpu->vmx.ctl.tsc_offset
                            : 0;
}
/* Of the processor's own TSC, to which L1's timers belong: L2's has an offset more. */
static inline int64_t cpu_own_tsc_offset(const struct cpu *cpu) {
    return cpu->tsc_offset - cpu_guest_tsc_offset(cpu);
}
/* What the TSC counts: instructions, or the host's ns. */
uint64_t cpu_clock(const struct cpu *cpu);
/* End a HLT without an event; a CPU that waits for SIPI waits on. */
void cpu_unhalt(struct cpu *cpu);
/* HLT skips time: retire n instructions' worth of time at once. */
void cpu_skip(struct cpu *cpu, uint64_t n);

/* The translator's hook for pn_mmu_config.on_track: drop blocks at [gpa, gpa+size). */
void cpu_code_written(void *cpu, pn_gpa gpa, size_t size);
/* Drop every translated block. Tests call it at random. */
void cpu_drop_blocks(struct cpu *cpu);
/* In a process that was forked from the one that made the CPU, or from such a one, before
 * anything runs in it and while the other one stands still: code memory, which both share,
 * becomes this one's own copy. Return: 0 or -errno. */
int cpu_own_code(struct cpu *cpu);

/* ---- System half: flags and modes ---- */

uint64_t cpu_rflags(const struct cpu *cpu);
void cpu_set_rflags(struct cpu *cpu, uint64_t rflags); /* all bits; the caller masks */
static inline uint64_t cpu_arith_flags(const struct cpu *cpu) {
    return (cpu->fl >> 8 & (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF)) | (cpu->fl & 1) << 11;
}
static inline void cpu_set_arith_flags(struct cpu *cpu, uint64_t f) {
    cpu->fl = (f & (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF)) << 8 | (f >> 11 & 1) | 0x200;
}
/* Recompute cpu->mode after any change of segments, flags, control registers. */
void cpu_update_mode(struct cpu *cpu);
/* PAE without long mode: the four PDPTEs at cr3. Return: CPU_NEXT and out, or CPU_FAULT
 * (#GP(0): a reserved bit). MOV CR0/CR3/CR4 call it when they load PDPTEs, before they
 * change anything; the result goes to cpu->pdpte. */
enum cpu_rc cpu_load_pdptes(struct cpu *cpu, uint64_t cr3, uint64_t out[4]);
/* Tell the MMU of cr0, cr3, cr4, efer, pdpte, pkru, pkrs. */
void cpu_update_paging(struct cpu *cpu);
void cpu_paging(const struct cpu *cpu, struct pn_paging *p);
static inline enum pn_tlb_mode tlb_mode_of(uint32_t mode) {
    return mode & MODE_CPL3 ? PN_TLB_USER
           : mode & MODE_AC ? PN_TLB_SUPER_AC
                            : PN_TLB_SUPER;
}
static inline enum pn_tlb_mode cpu_tlb_mode(const struct cpu *cpu) {
    return tlb_mode_of(cpu->mode);
}

/* ---- System half: memory (mem.c) ---- */

/* Set cpu->fault. Return: CPU_FAULT, for `return cpu_raise(...)`. */
enum cpu_rc cpu_raise(struct cpu *cpu, uint8_t vector);
enum cpu_rc cpu_raise_code(struct cpu *cpu, uint8_t vector, uint32_t error);
/* A #DB fault (instruction breakpoint, general detect); its DR6 bits travel in
 * fault.address until delivery puts them into DR6. */
enum cpu_rc cpu_raise_debug(struct cpu *cpu, uint64_t dr6_bits);

/* Effective address of insn's memory operand, segmented and checked for `size` bytes.
 * Return: CPU_NEXT and *lin (canonical, or wrapped to 32 bits), or CPU_FAULT (#GP, #SS,
 * #AC). */
enum cpu_rc cpu_lin_operand(struct cpu *cpu, const struct insn *in, unsigned size,
                            enum pn_access access, pn_gva *lin);
/* The same for an offset in a segment. */
enum cpu_rc cpu_lin(struct cpu *cpu, unsigned seg, uint64_t offset, unsigned size,
                    enum pn_access access, pn_gva *lin);

/* pn_mmu_translate, and once more where a store is seen for the sake of tables that its
 * instruction does not fill; tables: it does (pn_mmu_unprotect). */
enum pn_answer cpu_translate(struct cpu *cpu, pn_gva lin, enum pn_access access,
                             enum pn_tlb_mode mode, bool tables, struct pn_xlate *x);
/* The bytes at RIP, without any side effect. Return: their number. */
#define CODE_BYTES 15u
unsigned cpu_peek_code(struct cpu *cpu, uint8_t bytes[CODE_BYTES]);
/* The length of the instruction there; 0: it cannot be read. */
unsigned cpu_insn_len(struct cpu *cpu);
/* An access of that many bytes is about to be made where cpu_translate gave a guest address, out
 * being what it returned: does it come to VMX's APIC-access page, and is an exit? Return:
 * CPU_NEXT: no; CPU_FAULT. */
enum cpu_rc cpu_may_access(struct cpu *cpu, enum pn_answer out, pn_gpa gpa,
                           enum pn_access access, unsigned size);
/* Load or store where cpu_translate gave a guest address: kind is what it returned, not
 * PN_GUEST_PF. All bytes are in one page. */
void cpu_load(struct cpu *cpu, pn_gpa gpa, void *out, unsigned size);
void cpu_store(struct cpu *cpu, pn_gpa gpa, unsigned kind, const void *in, unsigned size);
/* Read or write 1..64 bytes at a linear address: page crossing, MMIO, tracked pages; a
 * write that faults has written nothing. mode: cpu_tlb_mode(), or PN_TLB_SUPER for
 * implicit supervisor accesses (descriptor tables, TSS, stacks of inner rings). */
enum cpu_rc cpu_read_lin(struct cpu *cpu, pn_gva lin, void *buf, unsigned size,
                         enum pn_tlb_mode mode);
enum cpu_rc cpu_write_lin(struct cpu *cpu, pn_gva lin, const void *buf, unsigned size,
                          enum pn_tlb_mode mode);

/* The same on a shadow stack, 4 or 8 bytes (SDM volume 3, "Access Rights"). mode: PN_TLB_USER
 * for a user's, PN_TLB_SUPER for a supervisor's. */
enum cpu_rc cpu_ss_read(struct cpu *cpu, pn_gva lin, void *buf, unsigned size,
                        enum pn_tlb_mode mode);
enum cpu_rc cpu_ss_write(struct cpu *cpu, pn_gva lin, const void *buf, unsigned size,
                         enum pn_tlb_mode mode);

/* Compare and exchange 8 aligned bytes there; a store, whatever is found: *was. */
enum cpu_rc cpu_ss_swap(struct cpu *cpu, pn_gva lin, uint64_t expected, uint64_t value,
                        uint64_t *was, enum pn_tlb_mode mode);

/* For the translator's slow path: make an operand of `size` bytes at lin addressable.
 * *ptr: guest memory itself, or cpu->bounce filled with its contents. With a write that
 * bounces (both pages already checked), cpu->owed says what cpu_mem_commit must store.
 * how: MEM_*. Return: CPU_NEXT or CPU_FAULT. */
#define MEM_READ   1u
#define MEM_WRITE  2u
#define MEM_TABLES 4u /* by an instruction that fills page tables (pn_mmu_unprotect) */
enum cpu_rc cpu_mem_prepare(struct cpu *cpu, pn_gva lin, unsigned size, unsigned how,
                            enum pn_tlb_mode mode, void **ptr);
/* The same for an operand of which only the chosen bytes (a bit each, from the lowest on)
 * are accessed and may fault; beyond: those that are not canonical or outside the segment;
 * out: the vector that these raise. */
enum cpu_rc cpu_mem_prepare_chosen(struct cpu *cpu, pn_gva lin, unsigned size,
                                   uint64_t bytes, uint64_t beyond, bool write,
                                   uint8_t out, void **ptr);
/* Store the bounce buffer. Return: CPU_NEXT, or CPU_STOP when the block must be left (a
 * device was written, or code was). Never faults. */
enum cpu_rc cpu_mem_commit(struct cpu *cpu);

/* Fetch: translate the page of lin for execution. Return: CPU_NEXT with *hva (of the
 * byte) and *gpa, or CPU_FAULT. MMIO cannot be executed: #GP. */
enum cpu_rc cpu_fetch_page(struct cpu *cpu, pn_gva lin, uint8_t **hva, pn_gpa *gpa);

/* ---- System half: events (exc.c) ---- */

/* Deliver cpu->fault as an exception at cpu->rip, with double- and triple-fault rules.
 * Return: CPU_JUMP, or CPU_SHUTDOWN. */
enum cpu_rc cpu_deliver_fault(struct cpu *cpu);
/* Deliver INT n (soft), an external interrupt, or an NMI (vector 2). */
enum cpu_rc cpu_deliver_intr(struct cpu *cpu, uint8_t vector);
enum cpu_rc cpu_deliver_nmi(struct cpu *cpu);
/* Anything to inject now (NMI, external interrupt, with IF and the shadow)? Delivers at
 * most one event. Return: CPU_NEXT when there was nothing, else as delivery. */
enum cpu_rc cpu_poll_events(struct cpu *cpu);

/* Anything at all for cpu_poll_events to look at? For the dispatcher, between blocks. */
static inline bool cpu_attention(const struct cpu *cpu) {
    return __atomic_load_n(&cpu->intr_line, __ATOMIC_RELAXED) |
               __atomic_load_n(&cpu->nmi_pending, __ATOMIC_RELAXED) | cpu->inject.any ||
           cpu->db_pending;
}

/* The instruction at rip is in the shadow of STI or MOV SS: with cpu_attention the
 * dispatcher runs it alone and then polls again. */
static inline bool cpu_shadowed(const struct cpu *cpu) {
    return cpu->intr_shadow && cpu->shadow_at == cpu_insns(cpu);
}

/*
 * Debug registers. With MODE_TF or MODE_SLOWMEM the dispatcher runs one instruction at a
 * time: cpu_check_breakpoint before it is fetched (CPU_FAULT: #DB), and after it has
 * completed cpu_insn_done with the mode it began in, then cpu_poll_events.
 */
enum cpu_rc cpu_check_breakpoint(struct cpu *cpu);
void cpu_insn_done(struct cpu *cpu, uint32_t mode_before);
/* An access of `size` bytes at a linear address or port: note the data breakpoints it
 * hits in db_pending. rw as in DR7: 1 write, 2 port, 3 read. Only with cpu_watches. */
void cpu_watch(struct cpu *cpu, uint64_t address, unsigned size, unsigned rw);
/* Is cpu_watch to see accesses? Of a debugger's watchpoints it sees those that no TLB has
 * answered, which are all of a watched page (debugger.c). */
static inline bool cpu_watches(const struct cpu *cpu) {
    return cpu->mode & MODE_SLOWMEM || cpu->debug.set;
}

/* ---- Vector state (fpu.c) ---- */

/* Put guest vector state into host registers, or back into cpu->xsave. Idempotent. */
void cpu_vec_load(struct cpu *cpu);
void cpu_vec_save(struct cpu *cpu);

/* sample.c: see pn_engine_ops.where, which says in addition which CPU it is, and .blocks. */
void cpu_where(const struct cpu *cpu, uint64_t pc, struct pn_where *out);
void cpu_blocks(const struct cpu *cpu,
                void (*fn)(void *opaque, const void *code, size_t size, uint64_t rip),
                void *opaque);

/* Registers and the code at rip, for a crash report. */
void cpu_dump(struct cpu *cpu, FILE *out);
