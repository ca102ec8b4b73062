/* SPDX-License-Identifier: MIT */
/*
 * The state of one vCPU, neutral of the engine: a machine stopped under one MMU goes on
 * under another from this. Layouts are architectural (SDM), not an engine's own. What it
 * consists of is the list in penumbra/cpu_state.inc.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "penumbra/x86.h"

/* attr: ATTR_* of penumbra/x86.h. */
struct pn_segment {
    uint16_t sel;
    uint32_t attr;
    uint32_t limit; /* bytes, scaled */
    uint64_t base;
};

enum pn_segment_id {
#define PN_SEG(id, name, gdb, kvm, sel, attr, base) PN_##id,
#include "penumbra/cpu_state.inc"
    PN_SEGMENTS
};

enum pn_msr_id {
#define PN_MSR(name, index, soft, present, take, reset) PN_MSR_##name,
#define PN_MSR_BUS(name, index, present)                PN_MSR_##name,
#include "penumbra/cpu_state.inc"
    PN_MSRS
};
_Static_assert(PN_MSRS <= 64, "msr_known");

/* activity. WAITS_SIPI: an AP that nobody has started yet. */
enum { PN_RUNS, PN_HALTED, PN_WAITS_SIPI };
/* intr_shadow: of which instruction. MOV SS also holds NMIs and debug traps back. */
enum { PN_NO_SHADOW, PN_SHADOW_STI, PN_SHADOW_MOV_SS };

#define PN_XSAVE_SIZE 4096u
/* struct kvm_nested_state with two VMCSs. */
#define PN_NESTED_SIZE 8320u

struct pn_cpu_state {
    uint64_t gpr[16]; /* RAX RCX RDX RBX RSP RBP RSI RDI R8.. */
    struct pn_segment seg[PN_SEGMENTS];
    uint64_t msr[PN_MSRS]; /* by enum pn_msr_id */
    uint64_t msr_known;    /* a bit per MSR: the engine has it, and its value is here */
#define PN_REG(name, type, digits, gdb, soft, kvm, reset, init) type name;
#define PN_REG_BY(name, type, digits, gdb, kvm)                 type name;
#define PN_EVENT(name, type, none, soft)                        type name;
#define PN_EVENT_BY(name, type, none)                           type name;
#include "penumbra/cpu_state.inc"
    uint8_t xsave[PN_XSAVE_SIZE]; /* XSAVE standard format */
    /* The local APIC's registers, 4 bytes every 16, where has_lapic says that they are
     * here: an engine without interrupt controllers of its own leaves them to the
     * machine. In x2APIC mode as KVM_GET_LAPIC has it. */
    uint8_t has_lapic;
    uint8_t lapic[1024];
    /* Of KVM, where the guest's guest runs, or the guest is in VMX operation: what KVM keeps of
     * it, nested_size bytes of struct kvm_nested_state. 0: there is nothing, or the rows of SVM
     * and VMX in cpu_state.inc say it all. */
    uint32_t nested_size;
    uint8_t nested[PN_NESTED_SIZE];
};

/* One scalar of struct pn_cpu_state: its registers, parts of segments ("cs.base"), MSRs
 * and events. */
struct pn_cpu_field {
    const char *name;
    uint16_t offset, size; /* size: 1, 2, 4 or 8 bytes */
    uint8_t digits;        /* hexadecimal, in a dump; 0: not printed */
    int8_t gdb;            /* number in gdb's amd64 target, or -1 */
    int8_t msr;            /* enum pn_msr_id, or -1 */
};
extern const struct pn_cpu_field pn_cpu_fields[];
extern const unsigned pn_cpu_field_count;

uint64_t pn_cpu_field_get(const struct pn_cpu_state *s, const struct pn_cpu_field *f);
/* value is cut to the field's size. */
void pn_cpu_field_set(struct pn_cpu_state *s, const struct pn_cpu_field *f,
                      uint64_t value);

/* One line for each field that differs, and one for XSAVE and for nested; MSRs that both know. out may
 * be NULL. Return: how many differ. */
unsigned pn_cpu_state_diff(const struct pn_cpu_state *a, const struct pn_cpu_state *b,
                           FILE *out);
/* Registers for a person, and what is owed to the guest. */
void pn_cpu_state_print(const struct pn_cpu_state *s, FILE *out);
/* "real", "64-bit" ... */
const char *pn_cpu_state_mode(const struct pn_cpu_state *s);
/* Width of the code at RIP: 16, 32 or 64. */
unsigned pn_cpu_state_code_bits(const struct pn_cpu_state *s);
