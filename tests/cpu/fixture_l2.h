/* SPDX-License-Identifier: MIT */
/*
 * The guest of fixture_guest.h as a hypervisor, L1, with a guest of its own, L2: where things are in
 * memory, second-level tables, and a VMCS or a VMCB that may be entered.
 *
 * L2 is in L1's address space: 64-bit mode, memory at GUEST_BASE; or, narrow, in 32-bit code without
 * paging.
 */
#pragma once

#include "cpu/svm.h"
#include "cpu/vmx.h"
#include "fixture_guest.h"

#define L1_CODE  0x10000u
#define L1_STACK (GUEST_BASE + 0x18000)
#define L2_CODE  0x20000u
#define L2_STACK 0x28000u
#define NESTED   0x40000u /* four pages of second-level tables, of L1's */

/* Of VMX. PAGES: one for each field that is an address, in the order of l2_pages. */
#define L2_VMCS  0x30000u
#define L2_PAGES 0x31000u
#define L2_VMXON 0x3e000u
extern const uint8_t l2_pages[];
unsigned l2_pages_count(void);
/* Of SVM. */
#define L2_VMCB  0x30000u
#define L2_HSAVE 0x31000u
#define L2_IOPM  0x32000u /* three pages */
#define L2_MSRPM 0x36000u /* two */

void l2_store(struct guest *g, pn_gpa gpa, uint64_t value, unsigned size);
uint64_t l2_load(struct guest *g, pn_gpa gpa);

/* Second-level tables that map all memory one to one, the first 2 MiB by small pages, with these
 * bits in the entries of pages. */
void l2_nested(struct guest *g, uint64_t small, uint64_t large);

/* VMX operation, with the VMCS below as the current one. */
void l2_begin_vmx(struct guest *g);
pn_gpa l2_field(unsigned f);
/* A clear VMCS, of L2 at L2_CODE, with or without EPT; rip: where L1 goes on. */
void l2_vmcs(struct guest *g, bool ept, uint64_t rip);
/* The same L2 narrow: it needs EPT. */
void l2_narrow_vmcs(struct guest *g);

/* EFER.SVME and the host save area. */
void l2_begin_svm(struct guest *g);
/* A VMCB, of L2 at L2_CODE, with or without nested paging. */
void l2_vmcb(struct guest *g, bool nested);
void l2_narrow_vmcb(struct guest *g);
