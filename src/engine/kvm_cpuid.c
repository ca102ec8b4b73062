/* SPDX-License-Identifier: MIT */
/*
 * CPUID of a KVM vCPU: what KVM supports, less the features that the chosen model lacks,
 * with this vCPU's APIC id. Vendor and family stay the host's: KVM's guests run on its
 * cores.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cpu/cpu.h"
#include "engine/kvm_vm.h"

#define CPUID_MAX       256
#define LEAF_XSTATE     0xdu
#define LEAF_HYPERVISOR 0x40000000u

/* Leaves whose registers are feature bits: mask says which registers (bit 0 EAX .. 3
 * EDX). */
static const struct {
    uint32_t leaf, subleaf;
    uint8_t regs;
} feature_leaves[] = {
    {1, 0, 0xc},   {7, 0, 0xe},           {7, 1, 0x1},
    {0xd, 1, 0x1}, {0x80000001u, 0, 0xc}, {0x8000000au, 0, 0x8},
};

/* Bits that run-time state decides, not the model. */
#define LEAF1_ECX_KEEP (1u << 27) /* OSXSAVE */
/* What KVM does and KVM_GET_SUPPORTED_CPUID leaves to its user to say (api.rst). */
#define HYPERVISOR   (1u << 31)
#define TSC_DEADLINE (1u << 24)

static void add_unsaid(struct pn_engine *e, struct kvm_cpuid_entry2 *c) {
    if (c->function != 1)
        return;
    c->ecx |= HYPERVISOR;
    if (ioctl(e->vm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
        c->ecx |= TSC_DEADLINE;
}

static void mask_features(struct kvm_cpuid_entry2 *c, const struct cpu_model *model) {
    unsigned bits = cpu_model_named_bits(model);
    if (c->function == 0x80000008u && bits && bits < (c->eax & 0xff))
        c->eax = (c->eax & ~0xffu) | bits;
    for (size_t i = 0; i < sizeof(feature_leaves) / sizeof(feature_leaves[0]); i++) {
        if (c->function != feature_leaves[i].leaf ||
            c->index != feature_leaves[i].subleaf)
            continue;
        uint32_t out[4];
        cpu_model_leaf(model, c->function, c->index, out);
        uint32_t *reg[4] = {&c->eax, &c->ebx, &c->ecx, &c->edx};
        uint32_t keep[4] = {0, 0, c->function == 1 ? LEAF1_ECX_KEEP : 0, 0};
        for (unsigned r = 0; r < 4; r++)
            if (feature_leaves[i].regs >> r & 1)
                *reg[r] &= out[r] | keep[r];
    }
}

/* XCR0 may hold what the model has: its components, their size, no other sub-leaf. */
static void mask_xstate(struct kvm_cpuid_entry2 *c, const struct cpu_model *model) {
    uint32_t top[4], supervisor[4];
    cpu_model_leaf(model, LEAF_XSTATE, 0, top);
    cpu_model_leaf(model, LEAF_XSTATE, 1, supervisor);
    if (c->index == 0) {
        c->eax &= top[0];
        c->edx &= top[3];
        if (c->ecx > top[2])
            c->ecx = top[2];
    } else if (c->index == 1) {
        c->ecx &= supervisor[2];
    } else if (c->index >= 2 && c->index < 32 &&
               !((top[0] | supervisor[2]) >> c->index & 1)) {
        c->eax = c->ebx = c->ecx = c->edx = 0;
    }
}

/* KVM offers what the model is a hypervisor by? */
static int check_nested(const struct kvm_cpuid_entry2 *c, const char *by, char *err,
                        size_t err_size) {
    if (!by || c->function != (*by == 's' ? 0x80000001u : 1) ||
        c->ecx >> (*by == 's' ? 2 : 5) & 1)
        return 0;
    snprintf(
        err, err_size,
        "--cpu: +%s: this host's KVM does not offer it to guests (kvm_%s's parameter "
        "nested): leave it out, or take --mmu shadow or tdp",
        by, *by == 's' ? "amd" : "intel");
    return -EINVAL;
}

/* The processor's own rules hold, so a vendor may be named but not chosen. */
static int check_vendor(const struct kvm_cpuid_entry2 *c, const struct cpu_model *model,
                        char *err, size_t err_size) {
    uint32_t name[4];
    cpu_model_leaf(model, 0, 0, name);
    if (c->function || !cpu_model_names_vendor(model) ||
        (c->ebx == name[1] && c->ecx == name[2] && c->edx == name[3]))
        return 0;
    snprintf(err, err_size, "--cpu vendor: under kvm it is the host processor's");
    return -EINVAL;
}

static void set_topology(struct kvm_cpuid_entry2 *c, unsigned index, unsigned cpus) {
    if (c->function == 1)
        c->ebx = (c->ebx & 0x0000ffffu) | index << 24 | (cpus & 0xff) << 16;
    if (c->function == 0xb || c->function == 0x1f)
        c->edx = index;
}

int kvm_set_cpuid(struct pn_engine *e, struct kvm_vcpu *v, char *err, size_t err_size) {
    struct cpu_model *model = NULL;
    const char *name = e->cpu_model ? e->cpu_model : "";
    int rc = cpu_model_parse(name, &model, err, err_size);
    if (rc)
        return rc;
    const char *by = cpu_model_hypervisor(model);
    rc = by ? kvm_may_nest(e, by, err, err_size) : 0;
    if (rc) {
        cpu_model_free(model);
        return rc;
    }
    struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + CPUID_MAX * sizeof(c->entries[0]));
    if (!c) {
        cpu_model_free(model);
        return -ENOMEM;
    }
    c->nent = CPUID_MAX;
    if (ioctl(e->kvm, KVM_GET_SUPPORTED_CPUID, c) < 0)
        rc = -errno;
    bool told = false;
    for (unsigned i = 0; rc == 0 && i < c->nent; i++) {
        rc = check_vendor(&c->entries[i], model, err, err_size);
        if (rc == 0)
            rc = check_nested(&c->entries[i], by, err, err_size);
        told |= rc != 0;
        add_unsaid(e, &c->entries[i]);
        if (c->entries[i].function < LEAF_HYPERVISOR ||
            c->entries[i].function >= 0x80000000u)
            mask_features(&c->entries[i], model);
        if (c->entries[i].function == LEAF_XSTATE)
            mask_xstate(&c->entries[i], model);
        if (c->entries[i].function == LEAF_XSTATE && !c->entries[i].index)
            e->xcr0 = c->entries[i].eax;
        set_topology(&c->entries[i], v->index, e->cpus);
    }
    if (rc == 0)
        kvm_pv_cpuid(e, v, c);
    if (rc == 0 && ioctl(v->fd, KVM_SET_CPUID2, c) < 0)
        rc = -errno;
    if (rc && !told)
        snprintf(err, err_size, "kvm: CPUID of vCPU %u: %s", v->index, strerror(-rc));
    free(c);
    cpu_model_free(model);
    return rc;
}

/* A KVM without VMX or SVM shows a guest more than it is told: what the model has not is not
 * what the guest is meant to see. */
static void hide(const struct pn_engine *e, struct kvm_cpuid_entry2 *c) {
    struct cpu_model *model;
    char text[160];
    if (cpu_model_parse(e->cpu_model ? e->cpu_model : "", &model, text, sizeof(text)))
        return;
    if (c->function < LEAF_HYPERVISOR || c->function >= 0x80000000u)
        mask_features(c, model);
    cpu_model_free(model);
}

void kvm_cpuid(struct pn_engine *e, uint32_t leaf, uint32_t subleaf, uint32_t out[4]) {
    memset(out, 0, 4 * sizeof(*out));
    struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + CPUID_MAX * sizeof(c->entries[0]));
    if (!c)
        return;
    c->nent = CPUID_MAX;
    if (ioctl(e->vcpu[0].fd, KVM_GET_CPUID2, c) == 0)
        for (unsigned i = 0; i < c->nent; i++) {
            struct kvm_cpuid_entry2 *one = &c->entries[i];
            if (one->function != leaf || one->index != subleaf)
                continue;
            hide(e, one);
            out[0] = one->eax, out[1] = one->ebx, out[2] = one->ecx, out[3] = one->edx;
            break;
        }
    free(c);
}
