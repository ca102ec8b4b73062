/* SPDX-License-Identifier: MIT */
/*
 * SVM on the CPU of fixture_flat.h: a VMCB whose guest can be entered. Offsets, bits and codes
 * are the manual's, once more.
 */
#pragma once

#include "cpu/svm.h"
#include "fixture_flat.h"

#define VMCB     0x20000u
#define HSAVE    0x22000u
#define IOPM     0x24000u /* three pages */
#define MSRPM    0x28000u /* two */
#define NPT      0x30000u
#define GUEST    0x9000u /* where L2 begins */
#define MISC1    0x0cu
#define MISC2    0x10u
#define MISC3    0x14u
#define CODE     0x70u
#define INFO1    0x78u
#define INFO2    0x80u
#define INTINFO  0x88u
#define INJECT   0xa8u
#define CR_BITS  0x00u /* words of intercepts: reads of CRs, and from bit 16 writes */
#define DR_BITS  0x04u
#define EXC_BITS 0x08u

void sv_create(void);
void sv_create_as(const char *model); /* with that --cpu */
void sv_destroy(void);
/* The VMCB's words. */
uint64_t sv_get(unsigned at);
void sv_put(unsigned at, uint64_t value, unsigned size);
/* A VMCB whose L2 is as L1 is, at GUEST. */
void sv_fill(void);
enum cpu_rc sv_vmrun(void);
/* Enter L2, whatever it takes. */
void sv_enter(void);
/* Leave it, if it runs. */
void sv_leave(void);
/* L1 goes on behind VMRUN, and that is why. */
void sv_left(uint64_t code);
/* One of L2's, at GUEST, with an operand in memory and that arg. */
struct insn sv_insn(unsigned arg);
/* Run an instruction of L2's. */
enum cpu_rc sv_guarded(svm_helper *fn, const struct insn *in);
