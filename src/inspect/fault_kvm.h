/* SPDX-License-Identifier: MIT */
/*
 * Faults out of a trace of KVM's tracepoints. KVM tells of an access (kvm_page_fault), of its walk of
 * the guest's tables, and of what it does then; what the access came to is what it did before it
 * enters the guest again:
 *
 *     walker_error                     guest_pf: the guest gets a #PF
 *     kvm_mmio_fault, mark_mmio_spte   mmio_cached, mmio
 *     kvm_fast_page_fault of a write   dirty_log: right to write was all that lacked
 *     set_spte, kvm_tdp_spte           mapped
 *     kvm_emulate_insn alone           tracked_table: a write to a table is emulated
 *     prepare_zap_page alone           the same, and the table is shadowed no longer
 *     nothing                          not known: the guest tries again, as while the host gets a page
 *
 * A KVM that runs guests without VMX and SVM tells of no access. There a walk that ends in an error or
 * an spte is one. Where the host gives no tracepoints, penumbra tells of the accesses to devices that
 * reached it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "trace/trace.h"

struct fault_kvm;
/* One fault, all of it that is known. */
struct fault_kvm_met {
    struct pn_event_rec rec; /* that began it */
    bool addressed;          /* its gva is known */
    uint64_t gva, error;     /* of the access */
    uint64_t outcome;        /* enum pn_outcome, or UINT64_MAX: not known */
    uint64_t own;            /* guest_pf: error of the #PF */
    uint64_t level;          /* of its spte; 0: none */
};

struct fault_kvm *fault_kvm_create(void); /* NULL: out of memory */
void fault_kvm_destroy(struct fault_kvm *k);
void fault_kvm_file(struct fault_kvm *k, const struct trace_file *file);
/* A record of KVM's, whatever it is: its cpl is PN_CPL_NONE. Return: whether a fault ends with
 * it; that is *met then. */
bool fault_kvm_event(struct fault_kvm *k, const struct pn_event_rec *rec,
                     struct fault_kvm_met *met);
/* The one that a vCPU is in the middle of. Return: as above. */
bool fault_kvm_last(struct fault_kvm *k, unsigned vcpu, struct fault_kvm_met *met);
