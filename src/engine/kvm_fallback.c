/* SPDX-License-Identifier: MIT */
/*
 * The instruction that KVM cannot emulate, run by the software CPU on the vCPU's own
 * state.
 *
 * KVM without VMX or SVM emulates ring 0 with an emulator that lacks instructions; it
 * then exits with KVM_EXIT_INTERNAL_ERROR. A software CPU over the same memory takes the
 * state over, executes one instruction, and hands the state back.
 *
 * Invariants
 * 1. The software CPU's MMU starts each step with no shadow page and an empty TLB: the
 * guest has changed its tables meanwhile, unseen by it.
 * 2. Pages that it writes are reported to the dirty log as penumbra's own writes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "engine/engines.h"
#include "engine/kvm_vm.h"

struct kvm_fallback {
    struct pn_engine *engine;
    struct kvm_vcpu *vcpu; /* whose instruction it is now */
    struct pn_mmu *mmu;
    struct cpu_model *model;
    struct cpu *cpu;
    struct cpu_bus bus;
    struct pn_stats stats;
    uint64_t cr8;
    struct pn_cpu_state state;
};

static uint64_t fb_pio_read(void *o, uint16_t port, unsigned size) {
    struct kvm_fallback *f = o;
    return f->engine->bus.pio_read(f->engine->bus.opaque, f->vcpu->index, port, size);
}

static void fb_pio_write(void *o, uint16_t port, unsigned size, uint64_t value) {
    struct kvm_fallback *f = o;
    f->engine->bus.pio_write(f->engine->bus.opaque, f->vcpu->index, port, size, value);
}

static uint64_t fb_mmio_read(void *o, pn_gpa gpa, unsigned size) {
    struct kvm_fallback *f = o;
    return f->engine->bus.mmio_read(f->engine->bus.opaque, f->vcpu->index, gpa, size);
}

static void fb_mmio_write(void *o, pn_gpa gpa, unsigned size, uint64_t value) {
    struct kvm_fallback *f = o;
    f->engine->bus.mmio_write(f->engine->bus.opaque, f->vcpu->index, gpa, size, value);
}

static int fb_no_interrupt(void *o) {
    (void)o;
    return -1; /* KVM's own irqchip delivers them */
}

/* The APIC's MSRs belong to KVM's irqchip, which a single instruction cannot reach from
 * here. */
static int fb_msr_read(void *o, uint32_t index, uint64_t *value) {
    struct kvm_fallback *f = o;
    for (unsigned i = 0; i < f->state.msr_count; i++)
        if (f->state.msr[i].index == index) {
            *value = f->state.msr[i].value;
            return 0;
        }
    return -1;
}

static int fb_msr_write(void *o, uint32_t index, uint64_t value) {
    uint64_t old;
    return fb_msr_read(o, index, &old) == 0 && old == value ? 0 : -1;
}

static uint64_t fb_cr8_read(void *o) {
    return ((struct kvm_fallback *)o)->cr8;
}

static void fb_cr8_write(void *o, uint64_t value) {
    ((struct kvm_fallback *)o)->cr8 = value;
}

static int create_cpu(struct pn_engine *e, struct kvm_fallback *f) {
    char err[128];
    int rc = cpu_model_parse("max", &f->model, err, sizeof(err));
    if (rc)
        return rc;
    struct pn_mmu_config m = {.maxphyaddr = 46};
    pn_mmu_options_default(&m.opt);
    rc = pn_mmu_create(&m, &f->mmu);
    for (unsigned i = 0; rc == 0 && i < e->slot_count; i++)
        rc = pn_mmu_slot_set(f->mmu, &e->slots[i].slot);
    if (rc)
        return rc;
    f->bus = (struct cpu_bus){
        .pio_read = fb_pio_read,
        .pio_write = fb_pio_write,
        .mmio_read = fb_mmio_read,
        .mmio_write = fb_mmio_write,
        .intr_peek = fb_no_interrupt,
        .intr_ack = fb_no_interrupt,
        .msr_read = fb_msr_read,
        .msr_write = fb_msr_write,
        .cr8_read = fb_cr8_read,
        .cr8_write = fb_cr8_write,
        .opaque = f,
    };
    struct cpu_config c = {.mmu = f->mmu,
                           .bus = &f->bus,
                           .model = f->model,
                           .stats = &f->stats,
                           .max_block = 1,
                           .code_bytes = 1u << 20};
    return cpu_create(&c, &f->cpu);
}

void kvm_fallback_free(struct pn_engine *e) {
    struct kvm_fallback *f = e->fallback;
    if (!f)
        return;
    if (f->cpu)
        cpu_destroy(f->cpu);
    if (f->mmu)
        pn_mmu_destroy(f->mmu);
    if (f->model)
        cpu_model_free(f->model);
    free(f);
    e->fallback = NULL;
}

static int ensure(struct pn_engine *e) {
    if (e->fallback)
        return 0;
    e->fallback = calloc(1, sizeof(*e->fallback));
    if (!e->fallback)
        return -ENOMEM;
    e->fallback->engine = e;
    int rc = create_cpu(e, e->fallback);
    if (rc)
        kvm_fallback_free(e);
    return rc;
}

/* Give the pages that the software CPU wrote to the engine's own record. */
static int note_dirty(struct pn_engine *e, struct kvm_fallback *f) {
    for (unsigned i = 0; i < e->slot_count; i++) {
        struct kvm_slot *s = &e->slots[i];
        if (!s->extra_dirty)
            continue;
        size_t words = (s->slot.size / PN_PAGE_SIZE + 63) / 64;
        uint64_t *bitmap = calloc(words, sizeof(*bitmap));
        if (!bitmap)
            return -ENOMEM;
        long n = pn_mmu_dirty_harvest(f->mmu, s->slot.id, bitmap, words);
        for (size_t w = 0; n > 0 && w < words; w++)
            __atomic_fetch_or(&s->extra_dirty[w], bitmap[w], __ATOMIC_RELAXED);
        free(bitmap);
    }
    return 0;
}

int kvm_fallback_step(struct pn_engine *e, struct kvm_vcpu *v) {
    int rc = ensure(e);
    if (rc == 0)
        rc = kvm_get_state(e, v->index, &e->fallback->state);
    if (rc) {
        snprintf(e->error, sizeof(e->error), "software CPU for KVM: %s", strerror(-rc));
        return rc;
    }
    struct kvm_fallback *f = e->fallback;
    struct cpu *cpu = f->cpu;
    f->vcpu = v;
    f->cr8 = f->state.cr8;
    pn_mmu_zap_all(f->mmu);
    cpu_drop_blocks(cpu);
    soft_state_set(cpu, &f->state);
    uint64_t rip = cpu->rip;
    enum cpu_exit x = cpu_run(cpu, cpu_insns(cpu) + 1);
    if (x == CPU_EXIT_SHUTDOWN) {
        snprintf(e->error, sizeof(e->error),
                 "triple fault in the instruction at %llx, which KVM could not emulate",
                 (unsigned long long)rip);
        return -EIO;
    }
    v->emulated++;
    rc = note_dirty(e, f);
    if (rc == 0)
        rc = soft_state_get(cpu, &f->state);
    f->state.tsc = 0; /* KVM's TSC goes on by itself */
    if (rc == 0)
        rc = kvm_set_state(e, v->index, &f->state);
    if (rc)
        snprintf(e->error, sizeof(e->error), "state from the software CPU: %s",
                 strerror(-rc));
    return rc;
}
