/* SPDX-License-Identifier: MIT */
/*
 * Intel's virtualization, VMX: what a guest's hypervisor (L1) says in its VMCS, and how its
 * guest (L2) is entered and left. vmx.c switches worlds, vmx_check.c says which VMCSs may be
 * entered, vmx_vmcs.c has VMX's own instructions, vmx_insn.c those of L2's that may exit,
 * vmx_event.c interrupts and exceptions, vmx_apic.c the virtual APIC, vmx_msr.c the capability
 * MSRs.
 *
 * Source of all of it: SDM volume 3, the chapters on VMX, and its appendices.
 *
 * Invariants
 * 1. While L2 runs (vmx.guest) the mode has MODE_GUEST, and only then: code of L2's is
 *    translated by itself, and other code knows nothing of exits.
 * 2. A VMCS is in guest memory, in its region, at every moment: a header, and vmx_fields.inc in
 *    its order, eight bytes each. What is read from it is checked before it is used.
 * 3. vmx.ctl is read from the VMCS at VM entry, and again after a restore (vmx.stale).
 */
#pragma once

#include "cpu/system.h"

/* ---- The VMCS ---- */

enum vmcs_field {
#define VMCS_FIELD(name, encoding) VMCS_##name,
#include "cpu/vmx_fields.inc"
    VMCS_FIELDS
};

struct vmcs {
    uint64_t f[VMCS_FIELDS];
};

#define VMCS_REVISION  0x50454e56u
#define VMCS_NONE      (~UINT64_C(0))
#define VMCS_SHADOW    0x80000000u /* of the header: a VMCS that L2 may name */
#define VMCS_AT_ABORT  4
#define VMCS_AT_LAUNCH 8
#define VMCS_AT_FIELDS 64

/* ---- Controls ---- */

enum {
#define VMX_DEFAULT1(group, mask, free)
#define VMX_CONTROL(group, name, bit) VMX_##group##_##name = bit,
#include "cpu/vmx_controls.inc"
};

enum vmx_group { VMX_PIN, VMX_PROC, VMX_PROC2, VMX_EXIT, VMX_ENTRY };
/* Bits of a group that may be 1, those that must be, and of the latter those that may be 0
 * by the TRUE MSRs. */
struct vmx_allowed {
    uint32_t may, must, free;
};

/* Of MSR_VMX_EPT_VPID. */
#define EPT_CAP_EXECUTE_ONLY (UINT64_C(1) << 0)
#define EPT_CAP_4_LEVELS     (UINT64_C(1) << 6)
#define EPT_CAP_5_LEVELS     (UINT64_C(1) << 7)
#define EPT_CAP_UC           (UINT64_C(1) << 8)
#define EPT_CAP_WB           (UINT64_C(1) << 14)
#define EPT_CAP_2M           (UINT64_C(1) << 16)
#define EPT_CAP_1G           (UINT64_C(1) << 17)
#define EPT_CAP_INVEPT       (UINT64_C(0x61) << 20) /* of one context, and all */
#define EPT_CAP_AD           (UINT64_C(1) << 21)
#define VPID_CAP_INVVPID     (UINT64_C(0xf01) << 32) /* all four types */

/* ---- Exits ---- */

enum vmx_reason {
    VMX_EXIT_EXCEPTION = 0,
    VMX_EXIT_INTERRUPT = 1,
    VMX_EXIT_TRIPLE_FAULT = 2,
    VMX_EXIT_INIT = 3,
    VMX_EXIT_INTR_WINDOW = 7,
    VMX_EXIT_NMI_WINDOW = 8,
    VMX_EXIT_TASK_SWITCH = 9,
    VMX_EXIT_CPUID = 10,
    VMX_EXIT_HLT = 12,
    VMX_EXIT_INVD = 13,
    VMX_EXIT_INVLPG = 14,
    VMX_EXIT_RDPMC = 15,
    VMX_EXIT_RDTSC = 16,
    VMX_EXIT_VMCALL = 18,
    VMX_EXIT_VMCLEAR = 19,
    VMX_EXIT_VMLAUNCH = 20,
    VMX_EXIT_VMPTRLD = 21,
    VMX_EXIT_VMPTRST = 22,
    VMX_EXIT_VMREAD = 23,
    VMX_EXIT_VMRESUME = 24,
    VMX_EXIT_VMWRITE = 25,
    VMX_EXIT_VMXOFF = 26,
    VMX_EXIT_VMXON = 27,
    VMX_EXIT_CR = 28,
    VMX_EXIT_DR = 29,
    VMX_EXIT_IO = 30,
    VMX_EXIT_RDMSR = 31,
    VMX_EXIT_WRMSR = 32,
    VMX_EXIT_GUEST_STATE = 33,
    VMX_EXIT_MSR_LOAD = 34,
    VMX_EXIT_TRAP = 37,
    VMX_EXIT_PAUSE = 40,
    VMX_EXIT_TPR = 43,
    VMX_EXIT_APIC_ACCESS = 44,
    VMX_EXIT_EOI = 45,
    VMX_EXIT_GDTR_IDTR = 46,
    VMX_EXIT_LDTR_TR = 47,
    VMX_EXIT_EPT_VIOLATION = 48,
    VMX_EXIT_EPT_MISCONFIG = 49,
    VMX_EXIT_INVEPT = 50,
    VMX_EXIT_RDTSCP = 51,
    VMX_EXIT_TIMER = 52,
    VMX_EXIT_INVVPID = 53,
    VMX_EXIT_WBINVD = 54,
    VMX_EXIT_XSETBV = 55,
    VMX_EXIT_APIC_WRITE = 56,
    VMX_EXIT_RDRAND = 57,
    VMX_EXIT_INVPCID = 58,
    VMX_EXIT_VMFUNC = 59,
    VMX_EXIT_RDSEED = 61,
    VMX_EXIT_PML_FULL = 62,
    VMX_EXIT_XSAVES = 63,
    VMX_EXIT_XRSTORS = 64
};

/* Where bits are in the words that an exit says: VMX_AT_<word>_<name>. */
enum {
#define VMX_WORD(word, field)
#define VMX_BITS(word, name, low, width, values) VMX_AT_##word##_##name = (low),
#include "cpu/vmx_words.inc"
};
#define VMX_SAYS(bits, value) ((uint64_t)(value) << VMX_AT_##bits)
#define VMX_ENTRY_FAILED      (UINT32_C(1) << VMX_AT_REASON_ENTRY_FAILED)
/* Qualifications of VMX_EXIT_GUEST_STATE. */
enum {
    ENTRY_WRONG = 0,
    ENTRY_WRONG_PDPTE = 2,
    ENTRY_WRONG_NMI = 3,
    ENTRY_WRONG_LINK = 4
};

/* What VMfail says (SDM volume 3, "VM Instruction Error Numbers"). */
enum vmx_error {
    VMX_OK = 0,
    VMX_ERROR_VMCALL = 1,
    VMX_ERROR_VMCLEAR_ADDRESS = 2,
    VMX_ERROR_VMCLEAR_VMXON = 3,
    VMX_ERROR_NOT_CLEAR = 4,
    VMX_ERROR_NOT_LAUNCHED = 5,
    VMX_ERROR_CONTROLS = 7,
    VMX_ERROR_HOST = 8,
    VMX_ERROR_VMPTRLD_ADDRESS = 9,
    VMX_ERROR_VMPTRLD_VMXON = 10,
    VMX_ERROR_VMPTRLD_REVISION = 11,
    VMX_ERROR_FIELD = 12,
    VMX_ERROR_VMXON = 15,
    VMX_ERROR_MOV_SS = 26,
    VMX_ERROR_OPERAND = 28
};

/* An event, as VM entry injects it and an exit tells of it; its error code is in the upper
 * half. */
#define VMX_EVENT_TYPE_SHIFT VMX_AT_EVENT_TYPE
enum {
    VMX_TYPE_EXTERNAL = 0,
    VMX_TYPE_NMI = 2,
    VMX_TYPE_EXCEPTION = 3,
    VMX_TYPE_SOFT = 4,
    VMX_TYPE_ICEBP = 5,
    VMX_TYPE_SOFT_EXCEPTION = 6,
    VMX_TYPE_OTHER = 7
};
#define VMX_EVENT_ERROR VMX_SAYS(EVENT_ERROR, 1)
#define VMX_EVENT_VALID VMX_SAYS(EVENT_VALID, 1)

/* Of an EPTP: accessed and dirty flags. */
#define EPTP_AD        UINT64_C(0x40)
#define EPTP_WALK(p)   (((p) >> 3 & 7) + 1)
#define EPTP_TYPE(p)   ((p)&7)
#define EPT_TYPE_UC    0
#define EPT_TYPE_WB    6
#define MSR_LIST_MAX   512u
#define VPID_NONE_ASID 0x10000u /* what the MMU takes for a guest without a VPID */

/* VMFUNC: function 0 switches to one of a list of EPTPs. */
#define VMFUNC_EPTP    UINT64_C(1)
#define EPTP_LIST_SIZE 512u

#define VAPIC_TPR 0x80u /* of the virtual-APIC page */

/* The virtualization-exception information area: what a #VE tells, which there may be none of
 * while busy is not 0. */
struct ve_info {
    uint32_t reason, busy;
    uint64_t qualification, linear, physical;
    uint16_t eptp_index;
};

/* Interruptibility and activity state. */
#define BLOCKED_STI    (UINT32_C(1) << VMX_AT_BLOCKED_STI)
#define BLOCKED_MOV_SS (UINT32_C(1) << VMX_AT_BLOCKED_MOV_SS)
#define BLOCKED_NMI    (UINT32_C(1) << VMX_AT_BLOCKED_NMI)
enum { ACTIVITY_ACTIVE, ACTIVITY_HLT, ACTIVITY_SHUTDOWN, ACTIVITY_SIPI };

/* Pending debug exceptions: a breakpoint was met that DR7 enables. */
#define PENDING_ENABLED (UINT32_C(1) << VMX_AT_PENDING_ENABLED)

/* LBR and BTF: kept. Nothing records branches. */
#define DEBUGCTL_VALID UINT64_C(3)
#define DEBUGCTL_BTF   UINT64_C(2)

#define FEATURE_CONTROL_VALID (FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMXON)
#define VMX_CR0_FIXED         (CR0_PE | CR0_NE | CR0_PG) /* must be 1 in VMX operation */
#define VMX_CR0_WRITABLE      UINT64_C(0xe005003f)       /* bits that can be 1 */
#define VMX_CR0_ALLOWED       UINT64_C(0xffffffff)
#define VMX_TIMER_RATE        0 /* the timer counts where this bit of the TSC changes */
#define VMX_MISC_ACTIVITY_HLT (UINT64_C(1) << 6)
#define VMX_MISC_STORES_LMA   (UINT64_C(1) << 5)
#define VMX_MISC_CR3_TARGETS  (UINT64_C(4) << 16)
#define VMX_MISC_WRITES_ANY   (UINT64_C(1) << 29)
#define VMX_MISC_LENGTH_0     (UINT64_C(1) << 30)

static inline bool vmx_control(uint32_t word, unsigned bit) {
    return word >> bit & 1;
}
static inline bool vmx_pin(const struct cpu *cpu, unsigned bit) {
    return vmx_control(cpu->vmx.ctl.pin, bit);
}
static inline bool vmx_proc(const struct cpu *cpu, unsigned bit) {
    return vmx_control(cpu->vmx.ctl.proc, bit);
}
static inline bool vmx_proc2(const struct cpu *cpu, unsigned bit) {
    return vmx_control(cpu->vmx.ctl.proc2, bit);
}

/* ---- vmx_vmcs.c ---- */

/* The whole of a VMCS, and its fields from..to. */
void vmcs_read(struct cpu *cpu, pn_gpa at, struct vmcs *v);
void vmcs_write(struct cpu *cpu, pn_gpa at, const struct vmcs *v, enum vmcs_field from,
                enum vmcs_field to);

/* ---- vmx_check.c ---- */

/* May a VM entry be tried with these controls, and with this host state? */
bool vmx_controls_valid(const struct cpu *cpu, const struct vmcs *v);
bool vmx_host_valid(const struct cpu *cpu, const struct vmcs *v);
/* Is the host's width that of the hypervisor as it runs now? */
bool vmx_host_mode_valid(const struct cpu *cpu, const struct vmcs *v);
/* May this guest state be, with the controls in vmx.ctl? Else *why: the exit's qualification. */
bool vmx_guest_valid(const struct cpu *cpu, const struct vmcs *v, uint64_t *why);
bool vmx_eptp_valid(const struct cpu *cpu, uint64_t eptp);

/* ---- vmx.c ---- */

/* An exit: reason and what else there is to say of it. */
struct vmx_exit {
    uint32_t reason;
    uint64_t qualification, linear, physical;
    uint64_t event; /* EXIT_EVENT, and its error code in the upper half */
    uint32_t insn_len, insn_info;
};
/* Leave L2. Return: CPU_JUMP, or CPU_SHUTDOWN. */
enum cpu_rc vmx_leave(struct cpu *cpu, const struct vmx_exit *x);
/* VMLAUNCH, or VMRESUME; its own checks are passed. Return: VMX_OK and *rc; else VMfail. */
enum vmx_error vmx_enter(struct cpu *cpu, enum cpu_rc *rc);
/* Read the controls again, after a restore. */
void vmx_refresh(struct cpu *cpu);
/* Ticks of the TSC until the preemption timer, which is on, has run down; 0: its exit is due. */
uint64_t vmx_timer_left(const struct cpu *cpu);
/* L2 goes on with other tables: EPTP switching, to one of the list. It was checked. */
void vmx_set_eptp(struct cpu *cpu, uint64_t eptp, uint16_t index);

/* ---- vmx_event.c: as their likes in svm.h ---- */

bool vmx_fault(struct cpu *cpu, const struct pn_fault *f, enum cpu_rc *rc);
bool vmx_shutdown(struct cpu *cpu, enum cpu_rc *rc);
void vmx_in_flight(struct cpu *cpu, const struct event *ev);
enum cpu_rc vmx_poll(struct cpu *cpu);
/* An event has been delivered; an instruction of L2's is done, with the monitor trap flag. */
void vmx_landed(struct cpu *cpu);
/* Deliver what VM entry injects; it was checked. */
enum cpu_rc vmx_inject(struct cpu *cpu, const struct vmcs *v);

/* ---- vmx_apic.c ---- */

/* What VM entry, and a restore, make of the virtual APIC. */
void vmx_apic_enter(struct cpu *cpu);
void vmx_apic_refresh(struct cpu *cpu);
/* May that exit be noted in vmx.after? */
static inline bool vmx_after_possible(uint32_t after) {
    uint32_t reason = after >> 16;
    return !after ||
           (!(after & 0xf000) && (reason == VMX_EXIT_TPR || reason == VMX_EXIT_EOI ||
                                  reason == VMX_EXIT_APIC_WRITE));
}
/* The recognized virtual interrupt; L2 can take one. */
enum cpu_rc vmx_deliver_virtual(struct cpu *cpu);
/* The notification vector has come: posted interrupts are requested, those of the descriptor. */
void vmx_take_posted(struct cpu *cpu);
/* What the MMU answers for the APIC-access page, and whether gpa, where there is no memslot, is
 * in that page. While L2 runs. */
pn_gpa vmx_apic_page(const struct cpu *cpu);
bool vmx_is_apic(const struct cpu *cpu, pn_gpa gpa);
/* An access there is about to be made. Return: CPU_NEXT: by the two calls below; CPU_FAULT: an
 * exit, as cpu_deliver_fault makes it of cpu->fault. */
enum cpu_rc vmx_apic_access(struct cpu *cpu, enum pn_access access, pn_gpa gpa,
                            unsigned size);
void vmx_apic_load(struct cpu *cpu, pn_gpa gpa, uint8_t *out, unsigned size);
void vmx_apic_store(struct cpu *cpu, pn_gpa gpa, const uint8_t *in, unsigned size);
/* RDMSR and WRMSR, which did not exit. Return: the virtual APIC answers, and *rc. */
bool vmx_x2apic_read(struct cpu *cpu, uint32_t index, enum cpu_rc *rc);
bool vmx_x2apic_write(struct cpu *cpu, uint32_t index, uint64_t value, enum cpu_rc *rc);
/* CR8 with the TPR shadow. */
enum cpu_rc vmx_write_tpr(struct cpu *cpu, uint64_t v);
uint64_t vmx_read_tpr(struct cpu *cpu);

/* ---- vmx_insn.c ---- */

typedef enum cpu_rc vmx_helper(struct cpu *cpu, const struct insn *in);
vmx_helper *vmx_guard(vmx_helper *fn);
bool vmx_port(struct cpu *cpu, const struct insn *in, uint16_t port, unsigned size,
              bool out, bool string, enum cpu_rc *rc);
/* rip: of the instruction behind the one that switches. */
bool vmx_task_switch(struct cpu *cpu, uint16_t sel, enum task_reason reason, uint64_t rip,
                     const struct event *ev, enum cpu_rc *rc);
bool vmx_soft_exception(struct cpu *cpu, const struct insn *in, uint8_t vector,
                        enum cpu_rc *rc);
enum cpu_rc vmx_pause(struct cpu *cpu, const struct insn *in);
/* Leave for an instruction; what its operand in memory is the exit says, beside info. */
enum cpu_rc vmx_leave_operand(struct cpu *cpu, const struct insn *in,
                              enum vmx_reason reason, uint32_t info);

/* ---- vmx_msr.c ---- */

struct vmx_allowed vmx_allowed(enum vmx_group group);
/* Return: the model has that capability MSR, and *value is what it says. */
bool vmx_capability(const struct cpu *cpu, uint32_t index, uint64_t *value);
