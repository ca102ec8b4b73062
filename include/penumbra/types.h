/* SPDX-License-Identifier: MIT */
/* Addresses, access kinds and guest faults: the words that every room shares. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Around what libpenumbra-mmu offers: C's names in C++, and the only names that the shared
 * library exports. */
#ifdef __cplusplus
#define PN_BEGIN_DECLS _Pragma("GCC visibility push(default)") extern "C" {
#define PN_END_DECLS                                                                     \
    }                                                                                    \
    _Pragma("GCC visibility pop")
#else
#define PN_BEGIN_DECLS _Pragma("GCC visibility push(default)")
#define PN_END_DECLS   _Pragma("GCC visibility pop")
#endif

typedef uint64_t pn_gva; /* guest virtual (linear) address */
typedef uint64_t pn_gpa; /* guest physical address */
typedef uint64_t pn_gfn; /* guest frame number: gpa >> 12 */

#define PN_PAGE_SHIFT 12
#define PN_PAGE_SIZE  4096u
#define PN_PAGE_MASK  (~(uint64_t)0xfff)

/* The last two are shadow-stack accesses (SDM volume 1, "Shadow Stacks"): only a page of a
 * shadow stack allows them, and no TLB that a CPU reads answers them. */
enum pn_access { PN_READ, PN_WRITE, PN_FETCH, PN_SS_READ, PN_SS_WRITE };
#define PN_ACCESSES 5
static inline bool pn_stores(enum pn_access access) {
    return access == PN_WRITE || access == PN_SS_WRITE;
}
static inline bool pn_on_shadow_stack(enum pn_access access) {
    return access >= PN_SS_READ;
}

/* Rights of a mapping, KVM's ACC_* sense. */
#define PN_ACC_EXEC  1u
#define PN_ACC_WRITE 2u
#define PN_ACC_USER  4u

/* Bits of a #PF error code (SDM volume 3, "Interrupt 14 - Page-Fault Exception (#PF)").
 */
#define PN_PF_PRESENT 0x01u
#define PN_PF_WRITE   0x02u
#define PN_PF_USER    0x04u
#define PN_PF_RSVD    0x08u
#define PN_PF_FETCH   0x10u
#define PN_PF_PK      0x20u
#define PN_PF_SS      0x40u /* a shadow-stack access */

/* The vector of what is no exception: a nested page fault, an exit to the hypervisor that the
 * guest is. Its error code is that of a #PF; PN_NPF_TABLE: it was met by a walk of its guest's
 * tables. address: guest-physical to that guest. */
#define PN_VEC_NPF   0xffu
#define PN_NPF_TABLE 0x80000000u
/* Of EPT: it was met on the way from a linear address, which is in linear (else by the CPU's
 * own use of an address of its guest's); what the entries grant: R, W, X from this bit on, and
 * with mode-based execute control X of user addresses. */
#define PN_NPF_LINEAR       0x40000000u
#define PN_NPF_RIGHTS_SHIFT 16
/* Of EPT: nothing denies it, but the log of pages that become dirty has no room. */
#define PN_NPF_LOG_FULL 0x20000000u
/* Of EPT: bit 63 of the entry that denies it is clear, so that it may be a #VE. */
#define PN_NPF_CONVERTIBLE 0x10000000u
/* Nothing denies it, but a table lies in the APIC-access page (struct pn_world). */
#define PN_NPF_APIC 0x08000000u

/* A fault for the guest: delivered to it, never an error of ours. */
struct pn_fault {
    uint8_t vector;
    bool has_error;
    uint32_t error;
    uint64_t address; /* CR2 for #PF; else 0 */
    uint64_t linear;  /* of PN_VEC_NPF with PN_NPF_LINEAR */
};
