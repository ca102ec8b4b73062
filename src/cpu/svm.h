/* SPDX-License-Identifier: MIT */
/*
 * AMD's virtualization, SVM: what a guest's hypervisor (L1) says in its VMCB, and how its
 * guest (L2) is entered and left. svm.c switches worlds, svm_check.c says which states may be
 * entered, svm_insn.c has the instructions and their intercepts, svm_event.c interrupts and
 * exceptions.
 *
 * Source of all of it: APM volume 2, chapter "Secure Virtual Machine", and appendix "Layout
 * of VMCB".
 *
 * Invariants
 * 1. While L2 runs (svm.guest) the mode has MODE_GUEST, and only then: code of L2's is
 *    translated by itself, and other code knows nothing of intercepts.
 * 2. L1's registers are in its host save area, in guest memory, as on a processor. What is
 *    read back there, as what is read from a VMCB, passes svm_check.c before it is used.
 * 3. svm.ctl is read from the VMCB at VMRUN, and again after a restore (svm.stale).
 */
#pragma once

#include "cpu/system.h"

/* ---- The VMCB: offsets ---- */

enum {
    VMCB_CR = 0x000, /* intercepts: reads, and in the upper half writes */
    VMCB_DR = 0x004,
    VMCB_EXCEPTIONS = 0x008,
    VMCB_MISC1 = 0x00c,
    VMCB_MISC2 = 0x010,
    VMCB_MISC3 = 0x014,
    VMCB_PAUSE_COUNT = 0x03e,
    VMCB_IOPM = 0x040,
    VMCB_MSRPM = 0x048,
    VMCB_TSC_OFFSET = 0x050,
    VMCB_ASID = 0x058,
    VMCB_TLB_CONTROL = 0x05c,
    VMCB_INT_CTL = 0x060,
    VMCB_INT_STATE = 0x068,
    VMCB_EXIT_CODE = 0x070,
    VMCB_EXIT_INFO1 = 0x078,
    VMCB_EXIT_INFO2 = 0x080,
    VMCB_EXIT_INT_INFO = 0x088,
    VMCB_NP = 0x090,
    VMCB_EVENT_INJ = 0x0a8,
    VMCB_NCR3 = 0x0b0,
    VMCB_NRIP = 0x0c8,
    VMCB_BYTES = 0x0d0, /* their number, then 15 of them */
    VMCB_CONTROL_END = 0x0e0,
    VMCB_SAVE = 0x400,
    VMCB_SAVE_END = 0x6a0,
    VMCB_SIZE = VMCB_SAVE_END
};

/* Of the state save area, from VMCB_SAVE on. */
enum {
    SAVE_ES = 0x000,
    SAVE_CS = 0x010,
    SAVE_SS = 0x020,
    SAVE_DS = 0x030,
    SAVE_FS = 0x040,
    SAVE_GS = 0x050,
    SAVE_GDTR = 0x060,
    SAVE_LDTR = 0x070,
    SAVE_IDTR = 0x080,
    SAVE_TR = 0x090,
    SAVE_CPL = 0x0cb,
    SAVE_EFER = 0x0d0,
    SAVE_CR4 = 0x148,
    SAVE_CR3 = 0x150,
    SAVE_CR0 = 0x158,
    SAVE_DR7 = 0x160,
    SAVE_DR6 = 0x168,
    SAVE_RFLAGS = 0x170,
    SAVE_RIP = 0x178,
    SAVE_RSP = 0x1d8,
    SAVE_S_CET = 0x1e0,
    SAVE_SSP = 0x1e8,
    SAVE_SSP_TABLE = 0x1f0,
    SAVE_RAX = 0x1f8,
    SAVE_STAR = 0x200,
    SAVE_LSTAR = 0x208,
    SAVE_CSTAR = 0x210,
    SAVE_SFMASK = 0x218,
    SAVE_KERNEL_GS_BASE = 0x220,
    SAVE_SYSENTER_CS = 0x228,
    SAVE_SYSENTER_ESP = 0x230,
    SAVE_SYSENTER_EIP = 0x238,
    SAVE_CR2 = 0x240,
    SAVE_PAT = 0x268,
    SAVE_SIZE = VMCB_SAVE_END - VMCB_SAVE
};

/* VMCB_MISC1, by bit, and the exit code of most: 0x60 more. */
enum {
    ICPT_INTR = 0,
    ICPT_NMI = 1,
    ICPT_INIT = 3,
    ICPT_VINTR = 4,
    ICPT_CR0_SELECTIVE = 5,
    ICPT_IDTR_READ = 6,
    ICPT_RDTSC = 14,
    ICPT_RDPMC = 15,
    ICPT_PUSHF = 16,
    ICPT_POPF = 17,
    ICPT_CPUID = 18,
    ICPT_RSM = 19,
    ICPT_IRET = 20,
    ICPT_INTN = 21,
    ICPT_INVD = 22,
    ICPT_PAUSE = 23,
    ICPT_HLT = 24,
    ICPT_INVLPG = 25,
    ICPT_INVLPGA = 26,
    ICPT_IOIO = 27,
    ICPT_MSR = 28,
    ICPT_TASK_SWITCH = 29,
    ICPT_SHUTDOWN = 31,
    /* VMCB_MISC2, 32 more: these, too, have exit codes 0x60 more. */
    ICPT_VMRUN = 32,
    ICPT_VMMCALL = 33,
    ICPT_VMLOAD = 34,
    ICPT_VMSAVE = 35,
    ICPT_STGI = 36,
    ICPT_CLGI = 37,
    ICPT_RDTSCP = 39,
    ICPT_ICEBP = 40,
    ICPT_WBINVD = 41,
    ICPT_XSETBV = 45,
    /* VMCB_MISC3, 64 more. */
    ICPT_INVPCID = 66
};

enum {
    SVM_EXIT_READ_CR0 = 0x00,
    SVM_EXIT_WRITE_CR0 = 0x10,
    SVM_EXIT_READ_DR0 = 0x20,
    SVM_EXIT_WRITE_DR0 = 0x30,
    SVM_EXIT_EXCEPTION = 0x40,
    SVM_EXIT_ICPT = 0x60, /* and the ICPT_* */
    SVM_EXIT_INVPCID = 0xa2,
    SVM_EXIT_NPF = 0x400
};
#define SVM_EXIT_INVALID (~UINT64_C(0))

/* VMCB_INT_CTL */
#define V_TPR          UINT64_C(0xf)
#define V_TPR_FIELD    UINT64_C(0xff)
#define V_IRQ          (UINT64_C(1) << 8)
#define V_GIF          (UINT64_C(1) << 9)
#define V_PRIO_SHIFT   16
#define V_IGN_TPR      (UINT64_C(1) << 20)
#define V_INTR_MASKING (UINT64_C(1) << 24)
#define V_GIF_ENABLE   (UINT64_C(1) << 25)
#define V_VECTOR_SHIFT 32

/* VMCB_EVENT_INJ, VMCB_EXIT_INT_INFO */
#define INJ_TYPE_SHIFT SVM_AT_INT_TYPE
#define INJ_INTR       0u
#define INJ_NMI        2u
#define INJ_EXCEPTION  3u
#define INJ_SOFT       4u
#define INJ_ERROR      SVM_SAYS(INT_ERROR, 1)
#define INJ_VALID      SVM_SAYS(INT_VALID, 1)

/* Where bits are in the words that an exit says: SVM_AT_<word>_<name>. */
enum {
#define SVM_WORD(word, at, size)
#define SVM_BITS(word, name, low, width, values) SVM_AT_##word##_##name = (low),
#include "cpu/svm_words.inc"
};
#define SVM_SAYS(bits, value) ((uint64_t)(value) << SVM_AT_##bits)

/* Of MSR VM_CR. */

#define VM_CR_SVMDIS UINT64_C(0x10)
#define VM_CR_LOCK   UINT64_C(0x08)
/* DPD, R_INIT, DIS_A20M */
#define VM_CR_WRITABLE UINT64_C(0x07)

/* Half a VMCB as it lies in memory. */
struct svm_save {
    uint8_t at[SAVE_SIZE];
};

static inline uint64_t save_get(const struct svm_save *s, unsigned at) {
    uint64_t v;
    memcpy(&v, s->at + at, sizeof v);
    return v;
}
static inline void save_put(struct svm_save *s, unsigned at, uint64_t v) {
    memcpy(s->at + at, &v, sizeof v);
}
void svm_save_segment(struct svm_save *s, unsigned at, const struct pn_segment *seg);
void svm_load_segment(const struct svm_save *s, unsigned at, struct pn_segment *seg);

/* ---- svm_check.c ---- */

/* May VMRUN deliver that, as EVENTINJ has it? */
bool svm_event_valid(uint64_t event);
/* May these control fields be entered with (APM "Canonicalization and Consistency Checks")? */
bool svm_control_valid(const struct cpu *cpu, const struct svm_ctl *c);
/* May this state be? host: L1's own, read back from its save area. */
bool svm_save_valid(const struct cpu *cpu, const struct svm_save *s, bool host);

/* ---- svm.c ---- */

/* Leave L2. code: SVM_EXIT_*; next: the NRIP, 0: none. Return: CPU_JUMP, or CPU_SHUTDOWN. */
enum cpu_rc svm_exit(struct cpu *cpu, uint64_t code, uint64_t info1, uint64_t info2,
                     uint64_t next);
/* L2 runs, and what another engine kept of L1 goes where VMRUN saves it. VMSAVE's part of save is
 * of no meaning, and that of the area stays. event: as EVENTINJ has it, what VMRUN has still to
 * deliver; without INJ_VALID there is none. */
void svm_put_host(struct cpu *cpu, const uint8_t save[SAVE_SIZE], uint64_t event);
/* Read the controls again, after a restore. */
void svm_refresh(struct cpu *cpu);

/* ---- svm_event.c ---- */

/* An exception of L2's that is about to be delivered. Return: it exits, and *rc is what the
 * exit came to. */
bool svm_fault(struct cpu *cpu, const struct pn_fault *f, enum cpu_rc *rc);
/* A triple fault of L2's, in the same way. */
bool svm_shutdown(struct cpu *cpu, enum cpu_rc *rc);
/* ev is being delivered: what an exit meanwhile says of it. */
void svm_in_flight(struct cpu *cpu, const struct event *ev);
/* In the place of what cpu_poll_events does while L2 runs or GIF is clear. */
enum cpu_rc svm_poll(struct cpu *cpu);
/* svm.entering, as nearly as a state can have it: an exception may then be intercepted. */
void svm_owes(const struct cpu *cpu, struct pn_cpu_state *s);
/* Deliver what EVENTINJ asks for; it was checked. */
enum cpu_rc svm_inject(struct cpu *cpu, uint64_t event);

/* ---- svm_insn.c ---- */

static inline bool svm_intercepts(const struct cpu *cpu, unsigned icpt) {
    return cpu->svm.ctl.icpt[icpt / 32] >> (icpt % 32) & 1;
}
/* What runs an instruction of L2's: fn itself, or what looks at its intercept first. */
typedef enum cpu_rc svm_helper(struct cpu *cpu, const struct insn *in);
svm_helper *svm_guard(svm_helper *fn);
/* L2 is about to access a port; its own checks are passed. Return: as svm_fault. */
bool svm_port(struct cpu *cpu, const struct insn *in, uint16_t port, unsigned size,
              bool out, bool string, enum cpu_rc *rc);
/* L2 is about to switch tasks, in the same way. ev: NULL, or the event that came through a
 * task gate. */
bool svm_task_switch(struct cpu *cpu, uint16_t sel, enum task_reason reason,
                     const struct event *ev, enum cpu_rc *rc);
/* INT3 and INTO of L2's, vector 3 or 4, in the same way. */
bool svm_soft_exception(struct cpu *cpu, const struct insn *in, uint8_t vector,
                        enum cpu_rc *rc);
enum cpu_rc svm_pause(struct cpu *cpu, const struct insn *in);
