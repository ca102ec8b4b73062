/* SPDX-License-Identifier: MIT */
/* Faults out of KVM's tracepoints: see fault_kvm.h. */
#include "inspect/fault_kvm.h"

#include <stdlib.h>
#include <string.h>

#include "inspect/faults_internal.h"
#include "penumbra/mmu.h"

#define UNKNOWN UINT64_MAX

/* SPTE_MMU_PRESENT_MASK of Linux, arch/x86/kvm/mmu/spte.h. */
#define SPTE_PRESENT (1ull << 11)
#define STORE        (PN_PF_WRITE | PN_PF_PRESENT)

#define EVENTS                                                                           \
    EVENT(page_fault, "gva", "error")                                                    \
    EVENT(kvm_tdp_fault, "gpa", "error")                                                 \
    EVENT(pagetable_walk, "gva", "error")                                                \
    EVENT(walker_error, "gva", "error")                                                  \
    EVENT(set_spte, "gfn", "level")                                                      \
    EVENT(kvm_tdp_spte, "gfn", "level", "new_spte")                                      \
    EVENT(prepare_zap_page, "gfn")                                                       \
    EVENT(mark_mmio_spte, "gfn", "access")                                               \
    EVENT(kvm_mmio_fault, "address", "gfn")                                              \
    EVENT(kvm_fast_page_fault, "old_spte", "error", "new_spte")                          \
    EVENT(kvm_emulate_insn, "failed")                                                    \
    EVENT(mmio, "gpa", "write")                                                          \
    EVENT(kvm_entry)                                                                     \
    EVENT(kvm_exit, "reason")
#define FIELDS 3u

enum kind {
    NONE,
#define EVENT(name, ...) KIND_##name,
    EVENTS
#undef EVENT
        KINDS
};

static const struct {
    const char *name, *field[FIELDS + 1]; /* NULL: no more */
} wanted[KINDS] = {
#define EVENT(name, ...) [KIND_##name] = {#name, {__VA_ARGS__}},
    EVENTS
#undef EVENT
};

struct vcpu {
    bool begun, access; /* access: KVM told of it; else it is a walk so far */
    bool zapped;        /* a shadow page went, so that a store may be tried again */
    struct fault_kvm_met met;
};

struct fault_kvm {
    uint8_t kind[64]; /* enum kind by the file's id */
    uint8_t field[KINDS][FIELDS];
    bool accesses; /* this KVM tells of them */
    bool points;   /* there is a tracepoint's event */
    struct vcpu vcpu[TRACE_VCPUS_MAX];
};

struct fault_kvm *fault_kvm_create(void) {
    return calloc(1, sizeof(struct fault_kvm));
}

void fault_kvm_destroy(struct fault_kvm *k) {
    free(k);
}

void fault_kvm_file(struct fault_kvm *k, const struct trace_file *file) {
    memset(k->kind, 0, sizeof(k->kind));
    for (unsigned i = NONE + 1; i < KINDS; i++) {
        unsigned at[FIELDS] = {0}, fields = 0;
        while (wanted[i].field[fields])
            fields++;
        int id = faults_find(file, wanted[i].name, wanted[i].field,
                             (unsigned *[]){&at[0], &at[1], &at[2]}, fields);
        if (id < 0 || id > 63)
            continue;
        k->kind[id] = (uint8_t)i;
        for (unsigned f = 0; f < FIELDS; f++)
            k->field[i][f] = (uint8_t)at[f];
    }
}

/* The first that KVM does about it counts. */
static void comes_to(struct vcpu *v, enum pn_outcome outcome, uint64_t level) {
    if (!v->begun || v->met.outcome != UNKNOWN)
        return;
    v->met.outcome = outcome;
    v->met.level = level;
}

/* What was begun is over. A walk that came to nothing is none of a fault: KVM's emulator
 * walks, too. */
static bool end(struct vcpu *v, struct fault_kvm_met *met) {
    if (v->zapped) /* and nothing else came of it */
        comes_to(v, PN_OUT_tracked_table, 1);
    bool is = v->begun && (v->access || v->met.outcome != UNKNOWN);
    if (is)
        *met = v->met;
    v->begun = false;
    return is;
}

static void begin(struct vcpu *v, const struct pn_event_rec *rec, bool access,
                  bool addressed, uint64_t gva, uint64_t error) {
    v->begun = true;
    v->access = access;
    v->zapped = false;
    v->met = (struct fault_kvm_met){.rec = *rec,
                                    .addressed = addressed,
                                    .gva = gva,
                                    .error = error,
                                    .outcome = UNKNOWN};
}

/* What KVM does about what was begun. */
static void take_deed(struct vcpu *v, enum kind kind, uint64_t first, uint64_t second,
                      uint64_t third) {
    switch (kind) {
    case KIND_walker_error:
        if (v->begun && v->met.outcome == UNKNOWN)
            v->met.own = second;
        comes_to(v, PN_OUT_guest_pf, 0);
        break;
    case KIND_set_spte:
        comes_to(v, PN_OUT_mapped, second);
        break;
    case KIND_kvm_tdp_spte:
        if (third &
            SPTE_PRESENT) /* else one goes; what KVM has there then is not always 0 */
            comes_to(v, PN_OUT_mapped, second);
        break;
    case KIND_prepare_zap_page:
        /* A store to a shadowed table: since 7.2 KVM lets the guest try again without it. */
        v->zapped = v->access && (v->met.error & STORE) == STORE;
        break;
    case KIND_mark_mmio_spte:
        comes_to(v, PN_OUT_mmio, 0);
        break;
    case KIND_kvm_mmio_fault:
        comes_to(v, PN_OUT_mmio_cached, 0);
        break;
    case KIND_kvm_fast_page_fault:
        if (first != third) /* else it was not fixed by this */
            comes_to(v, second & PN_PF_WRITE ? PN_OUT_dirty_log : PN_OUT_mapped, 1);
        break;
    case KIND_kvm_emulate_insn:
        if (v->access)
            comes_to(v, PN_OUT_tracked_table, 1);
        break;
    default:
        break;
    }
}

bool fault_kvm_event(struct fault_kvm *k, const struct pn_event_rec *rec,
                     struct fault_kvm_met *met) {
    enum kind kind = rec->id > 63 ? NONE : k->kind[rec->id];
    struct vcpu *v = &k->vcpu[rec->vcpu];
    uint64_t a = rec->arg[k->field[kind][0]], b = rec->arg[k->field[kind][1]],
             c = rec->arg[k->field[kind][2]];
    bool is = false;
    if (!kind)
        return false;
    k->points |= kind != KIND_mmio;
    switch (kind) {
    case KIND_page_fault:
    case KIND_kvm_tdp_fault:
        is = end(v, met);
        begin(v, rec, true, kind == KIND_page_fault, a, b);
        k->accesses = true;
        break;
    case KIND_pagetable_walk:
        if (k->accesses) /* it is of one, or of an emulated instruction */
            break;
        is = end(v, met);
        begin(v, rec, false, true, a, b);
        break;
    case KIND_mmio:
        if (k->points)
            break;
        begin(v, rec, true, false, 0, b ? PN_PF_WRITE : 0);
        comes_to(v, PN_OUT_mmio, 0);
        is = end(v, met);
        break;
    case KIND_kvm_entry:
        is = end(v, met);
        break;
    default:
        take_deed(v, kind, a, b, c);
    }
    return is;
}

bool fault_kvm_last(struct fault_kvm *k, unsigned vcpu, struct fault_kvm_met *met) {
    return end(&k->vcpu[vcpu], met);
}
