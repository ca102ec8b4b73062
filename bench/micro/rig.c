/* SPDX-License-Identifier: MIT */
#include "bench/micro/rig.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "penumbra/x86.h"

#define PDPT       0x3000u
#define PD_DATA    0x4000u
#define PD_TABLES  0x5000u
#define PT_TABLES  0x6000u
#define FRAMES     8192u /* of data, from FRAMES_GPA on */
#define FRAMES_GPA (16u << 20)
#define ENTRY      (PTE_P | PTE_W | PTE_A | PTE_D)

uint64_t leaf_value(unsigned page, bool other) {
    return (FRAMES_GPA + (uint64_t)((page ^ other) % FRAMES) * PN_PAGE_SIZE) | ENTRY;
}

static void put(struct rig *r, uint64_t table, unsigned index, uint64_t value) {
    memcpy(r->ram + table + 8ull * index, &value, sizeof(value));
}

static void put_tables(struct rig *r) {
    put(r, ROOT_A, 0, PDPT | ENTRY);
    put(r, ROOT_B, 0, PDPT | ENTRY);
    put(r, PDPT, DATA_GVA >> 30, PD_DATA | ENTRY);
    put(r, PDPT, TABLES_GVA >> 30, PD_TABLES | ENTRY);
    put(r, PD_TABLES, 0, PT_TABLES | ENTRY);
    for (unsigned i = 0; i < 512; i++)
        put(r, PT_TABLES, i, (uint64_t)i * PN_PAGE_SIZE | ENTRY);
    for (unsigned i = 0; i < LEAVES; i++)
        put(r, PD_DATA, i, (LEAF_GPA + (uint64_t)i * PN_PAGE_SIZE) | ENTRY);
    for (unsigned i = 0; i < LEAVES * 512; i++)
        put(r, LEAF_GPA, i, leaf_value(i, false));
}

static int no_interrupt(void *opaque, unsigned cpu) {
    return -1;
}

/* Its local APIC is switched off. */
static int msr_read(void *opaque, unsigned cpu, uint32_t index, uint64_t *value) {
    *value = 0;
    return 0;
}

static int msr_write(void *opaque, unsigned cpu, uint32_t index, uint64_t value) {
    return 0;
}

static uint64_t cr8_read(void *opaque, unsigned cpu) {
    return 0;
}

static void cr8_write(void *opaque, unsigned cpu, uint64_t value) {
}

static void code_written(void *opaque, pn_gpa gpa, size_t size) {
    struct rig *r = opaque;
    if (r->cpu)
        cpu_code_written(r->cpu, gpa, size);
}

static int create_cpu(struct rig *r) {
    char text[128];
    int rc = cpu_model_parse("", &r->model, text, sizeof(text));
    r->bus = (struct pn_bus){.intr_peek = no_interrupt,
                             .intr_ack = no_interrupt,
                             .msr_read = msr_read,
                             .msr_write = msr_write,
                             .cr8_read = cr8_read,
                             .cr8_write = cr8_write};
    const struct cpu_config cfg = {
        .mmu = r->mmu, .bus = &r->bus, .model = r->model, .stats = &r->stats, .seed = 1};
    if (!rc)
        rc = cpu_create(&cfg, &r->cpu);
    if (rc)
        return rc;
    r->vcpu = r->cpu->vmmu;
    return 0;
}

static int create_mmu(struct rig *r, const char *const *options) {
    struct pn_mmu_config cfg = {
        .kind = r->kind, .maxphyaddr = 40, .on_track = code_written, .opaque = r};
    const struct pn_memslot slot = {.size = RIG_RAM, .hva = r->ram};
    pn_mmu_options_default(&cfg.opt);
    int rc = 0;
    for (; *options && !rc; options++)
        rc = pn_mmu_option_set(&cfg.opt, *options);
    if (!rc)
        rc = pn_mmu_create(&cfg, &r->mmu);
    return rc ? rc : pn_mmu_slot_set(r->mmu, &slot);
}

void rig_set_cr3(struct rig *r, uint64_t cr3) {
    static const uint64_t none[4];
    pn_mmu_set_cr3(r->vcpu, cr3, false, none);
}

int rig_create(struct rig *r, enum pn_mmu_kind kind, const char *const *options,
               bool with_cpu) {
    const struct pn_paging paging = {.cr0 = CR0_PE | CR0_PG | CR0_WP,
                                     .cr3 = ROOT_A,
                                     .cr4 = CR4_PAE,
                                     .efer = EFER_LME | EFER_LMA};
    *r = (struct rig){.kind = kind};
    r->ram =
        mmap(NULL, RIG_RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r->ram == MAP_FAILED)
        return -ENOMEM;
    memset(r->ram, 0, RIG_RAM); /* no fault of the host's while anything is timed */
    put_tables(r);
    int rc = create_mmu(r, options);
    if (!rc)
        rc = with_cpu
                 ? create_cpu(r)
                 : pn_mmu_vcpu_create(r->mmu, &r->own_view, &r->stats, NULL, &r->vcpu);
    if (!rc && !with_cpu)
        pn_mmu_set_paging(r->vcpu, &paging);
    if (rc)
        rig_destroy(r);
    return rc;
}

void rig_destroy(struct rig *r) {
    if (r->cpu)
        cpu_destroy(r->cpu);
    if (r->mmu)
        pn_mmu_destroy(r->mmu);
    if (r->model)
        cpu_model_free(r->model);
    if (r->ram != MAP_FAILED)
        munmap(r->ram, RIG_RAM);
}
