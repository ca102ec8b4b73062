/* SPDX-License-Identifier: MIT */
/*
 * The state of one vCPU, neutral of the engine: a machine stopped under one MMU goes on
 * under another from this. Layouts are architectural (SDM), not an engine's own.
 */
#ifndef PENUMBRA_CPU_STATE_H
#define PENUMBRA_CPU_STATE_H

#include <stdint.h>

/* attr: bits 40..55 of the descriptor shifted down by 40; bit 16: unusable. */
struct pn_segment {
    uint16_t sel;
    uint32_t attr;
    uint32_t limit; /* bytes, scaled */
    uint64_t base;
};

enum { PN_ES, PN_CS, PN_SS, PN_DS, PN_FS, PN_GS, PN_LDTR, PN_TR, PN_SEGMENTS };

struct pn_msr {
    uint32_t index;
    uint64_t value;
};
#define PN_MSRS_MAX 96

struct pn_cpu_state {
    uint64_t gpr[16]; /* RAX RCX RDX RBX RSP RBP RSI RDI R8.. */
    uint64_t rip, rflags;
    struct pn_segment seg[PN_SEGMENTS];
    struct {
        uint64_t base;
        uint16_t limit;
    } gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer, xcr0;
    uint64_t pdpte[4];
    uint64_t dr[8];
    uint64_t tsc;
    uint32_t pkru;
    unsigned msr_count;
    struct pn_msr msr[PN_MSRS_MAX];
    uint8_t xsave[4096]; /* XSAVE standard format */
    struct {
        uint8_t halted, intr_shadow, nmi_pending, nmi_blocked;
        uint8_t wait_sipi; /* an AP that nobody has started yet */
        int16_t exception; /* pending vector, or -1 */
        int16_t interrupt; /* acknowledged and not delivered yet, or -1 */
        uint8_t has_error;
        uint32_t error;
    } pending;
    /* The local APIC's registers, 4 bytes every 16, where has_lapic says that they are
     * here: an engine without interrupt controllers of its own leaves them to the
     * machine. In x2APIC mode as KVM_GET_LAPIC has it. */
    uint8_t has_lapic;
    uint8_t lapic[1024];
};

#endif
