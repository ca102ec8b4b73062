/* SPDX-License-Identifier: MIT */
/*
 * The instruction that KVM cannot emulate, run by the software CPU on the vCPU's own
 * state.
 *
 * KVM without VMX or SVM emulates ring 0 with an emulator that lacks instructions; it
 * then exits with KVM_EXIT_INTERNAL_ERROR. A software CPU over the same memory takes the
 * state over, executes one instruction, and hands the state back. Each vCPU has its own.
 *
 * Invariants
 * 1. The software CPU's MMU starts each step with no shadow page and an empty TLB: the
 *    guest has changed its tables meanwhile, unseen by it.
 * 2. Pages that it writes are reported to the dirty log as penumbra's own writes.
 * 3. A debug trap that the instruction owes is delivered here, before KVM goes on: when an
 *    emulator of KVM's looks for one that userspace hands over is its own affair, and
 *    where MOV SS holds the trap back, KVM would deliver it at once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cpu/cpu.h"
#include "engine/engines.h"
#include "engine/kvm_vm.h"

struct kvm_fallback {
    struct pn_engine *engine;
    struct kvm_vcpu *vcpu;
    const char *refused; /* what the instruction wanted and cannot have here */
    struct pn_mmu *mmu;
    struct cpu_model *model;
    struct cpu *cpu;
    struct pn_bus bus;
    struct pn_stats stats;
    unsigned slot_changes; /* the engine's when our slots were made */
    uint64_t cr8;
    struct pn_cpu_state state, after;
};

/* An MSR of the local APIC, which is KVM's. Return: 0, or -1 for #GP. */
static int fb_msr(struct kvm_fallback *f, unsigned long request, uint32_t index,
                  uint64_t *value) {
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } m = {.head.nmsrs = 1, .entry = {.index = index, .data = *value}};
    if (ioctl(f->vcpu->fd, request, &m) != 1)
        return -1;
    *value = m.entry.data;
    return 0;
}

static uint64_t fb_pio_read(void *o, unsigned cpu, uint16_t port, unsigned size) {
    const struct pn_bus *bus = &((struct kvm_fallback *)o)->engine->bus;
    return bus->pio_read(bus->opaque, cpu, port, size);
}

static void fb_pio_write(void *o, unsigned cpu, uint16_t port, unsigned size,
                         uint64_t value) {
    const struct pn_bus *bus = &((struct kvm_fallback *)o)->engine->bus;
    bus->pio_write(bus->opaque, cpu, port, size, value);
}

/* The pages of KVM's own interrupt controllers, which nothing here can reach. */
static bool is_irqchip(struct kvm_fallback *f, pn_gpa gpa) {
    uint64_t base = APIC_BASE_RESET;
    fb_msr(f, KVM_GET_MSRS, MSR_APIC_BASE, &base);
    if ((gpa & PN_PAGE_MASK) != IOAPIC_BASE &&
        (gpa & PN_PAGE_MASK) != (base & PN_PAGE_MASK))
        return false;
    f->refused = "it uses an interrupt controller, which is KVM's";
    return true;
}

static uint64_t fb_mmio_read(void *o, unsigned cpu, pn_gpa gpa, unsigned size) {
    struct kvm_fallback *f = o;
    const struct pn_bus *bus = &f->engine->bus;
    return is_irqchip(f, gpa) ? 0 : bus->mmio_read(bus->opaque, cpu, gpa, size);
}

static void fb_mmio_write(void *o, unsigned cpu, pn_gpa gpa, unsigned size,
                          uint64_t value) {
    struct kvm_fallback *f = o;
    const struct pn_bus *bus = &f->engine->bus;
    if (!is_irqchip(f, gpa))
        bus->mmio_write(bus->opaque, cpu, gpa, size, value);
}

static int fb_no_interrupt(void *o, unsigned cpu) {
    return -1; /* KVM's own irqchip delivers them */
}

static int fb_msr_read(void *o, unsigned cpu, uint32_t index, uint64_t *value) {
    return fb_msr(o, KVM_GET_MSRS, index, value);
}

static int fb_msr_write(void *o, unsigned cpu, uint32_t index, uint64_t value) {
    return fb_msr(o, KVM_SET_MSRS, index, &value);
}

static uint64_t fb_cr8_read(void *o, unsigned cpu) {
    return ((struct kvm_fallback *)o)->cr8;
}

static void fb_cr8_write(void *o, unsigned cpu, uint64_t value) {
    ((struct kvm_fallback *)o)->cr8 = value;
}

#define CPUID_EBX_AMD 0x68747541u /* "Auth" */

static int create_cpu(struct pn_engine *e, struct kvm_fallback *f) {
    char err[128];
    uint32_t name[4], leaf[4], basic[4], extended[4];
    kvm_cpuid(e, 0, 0, name);
    static const char *const models[2][2] = {
        {"max,vendor=intel", "max,vendor=intel,+vmx"},
        {"max,vendor=amd", "max,vendor=amd,+svm"}};
    const char *text = models[name[1] == CPUID_EBX_AMD][e->nested];
    int rc = cpu_model_parse(text, &f->model, err, sizeof(err));
    if (rc)
        return rc;
    kvm_cpuid(e, 1, 0, basic);
    kvm_cpuid(e, 0x80000001u, 0, extended);
    kvm_cpuid(e, 0x80000008u, 0, leaf);
    f->slot_changes = e->slot_changes;
    struct pn_mmu_config m = {.maxphyaddr = (uint8_t)leaf[0],
                              .lacks = pn_mmu_lacks(basic[3], extended[3])};
    pn_mmu_options_default(&m.opt);
    rc = pn_mmu_create(&m, &f->mmu);
    pthread_mutex_lock(&e->slot_lock);
    for (unsigned i = 0; rc == 0 && i < e->slot_count; i++)
        rc = pn_mmu_slot_set(f->mmu, &e->slots[i].slot);
    pthread_mutex_unlock(&e->slot_lock);
    if (rc)
        return rc;
    f->bus = (struct pn_bus){
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
                           .apic_id = f->vcpu->index,
                           .max_block = 1,
                           .code_bytes = 2u << 20};
    return cpu_create(&c, &f->cpu);
}

void kvm_fallback_free(struct kvm_vcpu *v) {
    struct kvm_fallback *f = v->fallback;
    if (!f)
        return;
    if (f->cpu)
        cpu_destroy(f->cpu);
    if (f->mmu)
        pn_mmu_destroy(f->mmu);
    if (f->model)
        cpu_model_free(f->model);
    free(f);
    v->fallback = NULL;
}

static int ensure(struct pn_engine *e, struct kvm_vcpu *v) {
    if (v->fallback && v->fallback->slot_changes == e->slot_changes)
        return 0;
    kvm_fallback_free(v);
    v->fallback = calloc(1, sizeof(*v->fallback));
    if (!v->fallback)
        return -ENOMEM;
    v->fallback->engine = e;
    v->fallback->vcpu = v;
    int rc = create_cpu(e, v->fallback);
    if (rc)
        kvm_fallback_free(v);
    return rc;
}

static int note_slot(struct kvm_fallback *f, struct kvm_slot *s) {
    size_t words = (s->slot.size / PN_PAGE_SIZE + 63) / 64;
    uint64_t *bitmap = calloc(words, sizeof(*bitmap));
    if (!bitmap)
        return -ENOMEM;
    long n = pn_mmu_dirty_harvest(f->mmu, s->slot.id, bitmap, words);
    for (size_t w = 0; n > 0 && w < words; w++)
        if (bitmap[w])
            __atomic_fetch_or(&s->extra_dirty[w], bitmap[w], __ATOMIC_RELAXED);
    free(bitmap);
    return 0;
}

/* Give the pages that the software CPU wrote to the engine's own record. */
static int note_dirty(struct pn_engine *e, struct kvm_fallback *f) {
    int rc = 0;
    pthread_mutex_lock(&e->slot_lock);
    for (unsigned i = 0; rc == 0 && i < e->slot_count; i++)
        if (e->slots[i].extra_dirty)
            rc = note_slot(f, &e->slots[i]);
    pthread_mutex_unlock(&e->slot_lock);
    return rc;
}

static int fail(struct kvm_vcpu *v, int rc, const char *what) {
    snprintf(v->error, sizeof(v->error), "%s: %s", what, strerror(-rc));
    return rc;
}

/* The software CPU in that state, with nothing left of what it knew. */
static int take_state(struct kvm_fallback *f, const struct pn_cpu_state *s) {
    f->cr8 = s->cr8;
    f->refused = NULL;
    pn_mmu_zap_all(f->mmu);
    cpu_drop_blocks(f->cpu);
    return cpu_set_state(f->cpu, s);
}

size_t kvm_fallback_fetch(struct kvm_vcpu *v, const struct pn_cpu_state *s, uint64_t lin,
                          uint8_t *buf, size_t size) {
    size_t done = 0;
    if (kvm_runs_nested(s) || ensure(v->engine, v) || take_state(v->fallback, s))
        return 0;
    struct cpu *cpu = v->fallback->cpu;
    while (done < size) {
        struct pn_xlate x;
        if (pn_mmu_probe(cpu->vmmu, lin + done, PN_FETCH, cpu_tlb_mode(cpu), &x) !=
            PN_MAPPED)
            break;
        size_t n = PN_PAGE_SIZE - (x.gpa & (PN_PAGE_SIZE - 1));
        if (n > size - done)
            n = size - done;
        memcpy(buf + done, x.hva, n);
        done += n;
    }
    return done;
}

#define HELD_MAX 4u /* instructions that MOV SS before MOV SS before .. may take */

/* One instruction and its debug trap. Where MOV SS holds the trap back, the next one, too. */
static enum cpu_exit step(struct cpu *cpu) {
    for (unsigned i = 0; i < HELD_MAX; i++) {
        enum cpu_exit x = cpu_run(cpu, cpu_insns(cpu) + 1);
        if (x == CPU_EXIT_SHUTDOWN || !cpu->db_pending)
            return x;
        if (cpu_poll_events(cpu) == CPU_SHUTDOWN)
            return CPU_EXIT_SHUTDOWN;
        if (!cpu->db_pending)
            return x;
    }
    return CPU_EXIT_DEADLINE;
}

int kvm_fallback_step(struct pn_engine *e, struct kvm_vcpu *v) {
    int rc = ensure(e, v);
    if (rc == 0)
        rc = kvm_get_cpu(v, &v->fallback->state);
    if (rc)
        return fail(v, rc, "the software CPU cannot take over");
    struct kvm_fallback *f = v->fallback;
    struct cpu *cpu = f->cpu;
    if (kvm_runs_nested(&f->state))
        return fail(
            v, -ENOTSUP,
            "KVM cannot run an instruction of the guest's guest, and the software "
            "CPU does not");
    rc = take_state(f, &f->state);
    if (rc)
        return fail(v, rc, "the software CPU cannot take KVM's state");
    if (step(cpu) == CPU_EXIT_SHUTDOWN) {
        v->emulated++;
        return 1;
    }
    if (f->refused)
        return fail(v, -ENOTSUP, f->refused);
    v->emulated++;
    rc = note_dirty(e, f);
    cpu_get_state(cpu, &f->after);
    f->after.tsc = 0; /* KVM's TSC goes on by itself */
    f->after.nested_size = f->state.nested_size;
    memcpy(f->after.nested, f->state.nested, f->state.nested_size);
    if (rc == 0)
        rc = kvm_set_state(e, v->index, &f->after);
    return rc ? fail(v, rc, "KVM does not take the state back") : 0;
}
