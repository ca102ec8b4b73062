/* SPDX-License-Identifier: MIT */
/*
 * VMX on the CPU of fixture_flat.h: a VMXON region, and a VMCS whose guest can be entered.
 * Encodings, bits and reasons are the manual's, once more.
 */
#pragma once

#include "cpu/control.h"
#include "cpu/vmx.h"
#include "fixture_flat.h"

#define VMXON_AT 0x20000u
#define VMCS_AT  0x21000u
#define OTHER_AT 0x22000u
#define IO_A     0x24000u
#define IO_B     0x25000u
#define MSRS     0x26000u
#define LIST     0x29000u
#define EPT      0x30000u
#define OPERAND  0x38100u /* of instructions, in memory */
#define GUEST    0x9000u  /* where L2 begins */
#define HOST     0xd000u  /* and where L1 goes on */
#define REVISION 0x50454e56u
#define UNUSABLE 0x10000u
#define VALID    (1ull << 31)

/* The fields that are named here, by their encodings. */
enum {
    PIN = 0x4000,
    PROC = 0x4002,
    EXCEPTIONS = 0x4004,
    PF_MASK = 0x4006,
    PF_MATCH = 0x4008,
    TARGETS = 0x400a,
    EXIT = 0x400c,
    ENTRY = 0x4012,
    INJECT = 0x4016,
    INJECT_ERROR = 0x4018,
    INJECT_LEN = 0x401a,
    PROC2 = 0x401e,
    ERROR = 0x4400,
    REASON = 0x4402,
    EVENT = 0x4404,
    EVENT_ERROR = 0x4406,
    VECTORING = 0x4408,
    LENGTH = 0x440c,
    INFO = 0x440e,
    QUALIFICATION = 0x6400,
    PHYSICAL = 0x2400,
    LINEAR = 0x640a,
    RIP = 0x681e,
    RFLAGS = 0x6820,
    BLOCKED = 0x4824,
    ACTIVITY = 0x4826,
    PENDING = 0x6822
};
/* Controls that must be 1 (appendix "Reserved Controls and Default Settings"). */
#define PIN_MUST   0x16u
#define PROC_MUST  0x04006172u
#define EXIT_MUST  0x00036dfbu
#define ENTRY_MUST 0x000011fbu
/* And what vx_fill puts there. */
#define VX_PROC  (PROC_MUST | 1u << 31 | 1u << 28 | 1u << 25)
#define VX_PROC2 (1u << 3 | 1u << 12 | 1u << 20)
#define VX_EXIT  (EXIT_MUST | 1u << 9 | 1u << 2)
#define VX_ENTRY (ENTRY_MUST | 1u << 9)

void vx_create(void);
void vx_destroy(void);
/* An instruction with an operand of that size in memory, at OPERAND. */
struct insn vx_memory(unsigned size);
/* VMsucceed. */
void vx_ok(enum cpu_rc rc);
/* VMfailValid, with that number; VMfailInvalid. */
void vx_fails(enum cpu_rc rc, unsigned error);
void vx_fails_invalid(enum cpu_rc rc);
/* Run it with that address as its operand. */
enum cpu_rc vx_at(vmx_helper *fn, uint64_t at);
/* VMREAD and VMWRITE; bits of a field set and cleared. */
uint64_t vx_get(unsigned field);
void vx_put(unsigned field, uint64_t value);
enum cpu_rc vx_write(unsigned field, uint64_t value);
void vx_set(unsigned field, uint64_t bits);
void vx_clear(unsigned field, uint64_t bits);
/* A current VMCS, clear, whose L2 is as L1 is, at GUEST. */
void vx_fill(void);
/* VMLAUNCH, or VMRESUME. */
enum cpu_rc vx_go(unsigned resume);
enum cpu_rc vx_launch(void);
/* Enter L2, whatever it takes. */
void vx_enter(void);
/* Leave it, if it runs. */
void vx_leave(void);
/* L1 goes on where its VMCS says, and that is why. */
void vx_left(unsigned reason);
/* Run an instruction of L2's. */
enum cpu_rc vx_run(vmx_helper *fn, const struct insn *in);
/* One of L2's, at GUEST, with an operand in memory and that arg. */
struct insn vx_insn(unsigned arg);
/* MOV of a control or debug register to or from R11. */
struct insn vx_mov(bool dr, unsigned nr, bool write);
/* One to one up to 4 MiB, but PAGES + 0x1000 is absent, + 0x2000 read-only, + 0x3000 holds what
 * stands in + 0x4000, + 0x5000 may be executed alone, + 0x6000 is misconfigured. */
void vx_nest(unsigned ad);
