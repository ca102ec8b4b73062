/* SPDX-License-Identifier: MIT */
/* See fixture_l2.h. */
#include "fixture_l2.h"

#include "cpu/control.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define PAT_KVM  UINT64_C(0x0007040600070406)

void l2_store(struct guest *g, pn_gpa gpa, uint64_t value, unsigned size) {
    pn_mmu_write_phys(g->mmu, gpa, &value, size);
}

uint64_t l2_load(struct guest *g, pn_gpa gpa) {
    uint64_t v = 0;
    pn_mmu_read_phys(g->mmu, gpa, &v, sizeof v);
    return v;
}

void l2_nested(struct guest *g, uint64_t small, uint64_t large) {
    l2_store(g, NESTED, (NESTED + 0x1000) | 7, 8);
    l2_store(g, NESTED + 0x1000, (NESTED + 0x2000) | 7, 8);
    l2_store(g, NESTED + 0x2000, (NESTED + 0x3000) | 7, 8);
    for (uint64_t i = 1; i < GUEST_RAM >> 21; i++)
        l2_store(g, NESTED + 0x2000 + 8 * i, i << 21 | large, 8);
    for (uint64_t i = 0; i < 512; i++)
        l2_store(g, NESTED + 0x3000 + 8 * i, i << 12 | small, 8);
}

static void clear_page(struct guest *g, pn_gpa at) {
    static const uint8_t none[PN_PAGE_SIZE];
    pn_mmu_write_phys(g->mmu, at, none, sizeof none);
}

/* ---- VMX ---- */

const uint8_t l2_pages[] = {VMCS_IO_BITMAP_A,    VMCS_IO_BITMAP_B,    VMCS_MSR_BITMAPS,
                            VMCS_PML_ADDRESS,    VMCS_VIRTUAL_APIC,   VMCS_EPTP_LIST,
                            VMCS_VMREAD_BITMAP,  VMCS_VMWRITE_BITMAP, VMCS_LINK_POINTER,
                            VMCS_ENTRY_MSR_LOAD, VMCS_APIC_ACCESS,    VMCS_POSTED_ADDRESS,
                            VMCS_VE_ADDRESS};

unsigned l2_pages_count(void) {
    return COUNT(l2_pages);
}

pn_gpa l2_field(unsigned f) {
    return L2_VMCS + VMCS_AT_FIELDS + f * sizeof(uint64_t);
}
static void put_field(struct guest *g, unsigned f, uint64_t value) {
    l2_store(g, l2_field(f), value, 8);
}

static void put_controls(struct guest *g, bool ept) {
    uint32_t proc2 = 1u << VMX_PROC2_RDTSCP | 1u << VMX_PROC2_INVPCID |
                     1u << VMX_PROC2_XSAVES | (uint32_t)ept << VMX_PROC2_EPT;
    put_field(g, VMCS_PIN_CONTROLS, vmx_allowed(VMX_PIN).must | 1u << VMX_PIN_EXTERNAL);
    put_field(g, VMCS_PROC_CONTROLS,
              (vmx_allowed(VMX_PROC).must & ~vmx_allowed(VMX_PROC).free) |
                  1u << VMX_PROC_SECONDARY | 1u << VMX_PROC_HLT |
                  1u << VMX_PROC_MSR_BITMAPS | 1u << VMX_PROC_IO_BITMAPS);
    put_field(g, VMCS_PROC2_CONTROLS, proc2);
    put_field(g, VMCS_EXIT_CONTROLS, vmx_allowed(VMX_EXIT).must | 1u << VMX_EXIT_HOST_64);
    put_field(g, VMCS_ENTRY_CONTROLS,
              vmx_allowed(VMX_ENTRY).must | 1u << VMX_ENTRY_GUEST_64);
    put_field(g, VMCS_EPTP, NESTED | 3 << 3 | EPT_TYPE_WB | EPTP_AD);
    put_field(g, VMCS_VPID, 1);
    for (unsigned i = 0; i < COUNT(l2_pages); i++)
        put_field(g, l2_pages[i], L2_PAGES + i * 0x1000);
    put_field(g, VMCS_LINK_POINTER, VMCS_NONE);
}

static void put_guest(struct guest *g) {
    const struct cpu *c = g->cpu;
    for (unsigned i = 0; i < 8; i++) {
        static const uint32_t ar[] = {0xc093, 0xa09b, 0xc093,        0xc093,
                                      0xc093, 0xc093, ATTR_UNUSABLE, 0x8b};
        put_field(g, VMCS_GUEST_ES_SEL + i, i == 7 ? 0x40 : i == 1 ? 8 : 0x10);
        put_field(g, VMCS_GUEST_ES_LIMIT + i, i == 7 ? 0x67 : UINT32_MAX);
        put_field(g, VMCS_GUEST_ES_AR + i, ar[i]);
    }
    put_field(g, VMCS_GUEST_TR_BASE, c->seg[SEG_TR].base);
    put_field(g, VMCS_GUEST_GDTR_BASE, c->gdtr.base);
    put_field(g, VMCS_GUEST_GDTR_LIMIT, 0x2f);
    put_field(g, VMCS_GUEST_IDTR_BASE, c->idtr.base);
    put_field(g, VMCS_GUEST_IDTR_LIMIT, 0x1ff);
    put_field(g, VMCS_GUEST_PAT, PAT_KVM);
    put_field(g, VMCS_GUEST_CR0, c->cr0);
    put_field(g, VMCS_GUEST_CR3, GUEST_CR3);
    put_field(g, VMCS_GUEST_CR4, c->cr4);
    put_field(g, VMCS_GUEST_EFER, EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE);
    put_field(g, VMCS_GUEST_DR7, 0x400);
    put_field(g, VMCS_GUEST_RFLAGS, 0x202);
    put_field(g, VMCS_GUEST_RIP, GUEST_BASE + L2_CODE);
    put_field(g, VMCS_GUEST_RSP, GUEST_BASE + L2_STACK);
}

/* Segments are what VM exit makes of these. */
static void put_host(struct guest *g, uint64_t rip) {
    const struct cpu *c = g->cpu;
    for (unsigned i = VMCS_HOST_ES_SEL; i <= VMCS_HOST_GS_SEL; i++)
        put_field(g, i, i == VMCS_HOST_CS_SEL ? 8 : 0x10);
    put_field(g, VMCS_HOST_TR_SEL, 0x40);
    put_field(g, VMCS_HOST_TR_BASE, c->seg[SEG_TR].base);
    put_field(g, VMCS_HOST_GDTR_BASE, c->gdtr.base);
    put_field(g, VMCS_HOST_IDTR_BASE, c->idtr.base);
    put_field(g, VMCS_HOST_PAT, PAT_KVM);
    put_field(g, VMCS_HOST_EFER, EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE);
    put_field(g, VMCS_HOST_CR0, c->cr0);
    put_field(g, VMCS_HOST_CR3, GUEST_CR3);
    put_field(g, VMCS_HOST_CR4, c->cr4);
    put_field(g, VMCS_HOST_RIP, rip);
    put_field(g, VMCS_HOST_RSP, L1_STACK);
}

void l2_begin_vmx(struct guest *g) {
    g->cpu->cr4 |= CR4_VMXE;
    g->cpu->vmx.on = 1;
    g->cpu->vmx.vmxon = L2_VMXON;
    g->cpu->vmx.vmcs = L2_VMCS;
    g->cpu->vmx.feature_control = FEATURE_CONTROL_VALID;
}

void l2_vmcs(struct guest *g, bool ept, uint64_t rip) {
    clear_page(g, L2_VMCS);
    l2_store(g, L2_VMCS, VMCS_REVISION, 4);
    put_controls(g, ept);
    put_guest(g);
    put_host(g, rip);
}

void l2_narrow_vmcs(struct guest *g) {
    uint64_t proc2 = l2_load(g, l2_field(VMCS_PROC2_CONTROLS));
    put_field(g, VMCS_PROC2_CONTROLS, proc2 | 1u << VMX_PROC2_UNRESTRICTED);
    put_field(g, VMCS_ENTRY_CONTROLS, vmx_allowed(VMX_ENTRY).must);
    put_field(g, VMCS_GUEST_CS_AR, 0xc09b);
    put_field(g, VMCS_GUEST_CR0, g->cpu->cr0 & ~(uint64_t)CR0_PG);
    put_field(g, VMCS_GUEST_TR_BASE, g->cpu->seg[SEG_TR].base - GUEST_BASE);
    put_field(g, VMCS_GUEST_GDTR_BASE, g->cpu->gdtr.base - GUEST_BASE);
    put_field(g, VMCS_GUEST_IDTR_BASE, g->cpu->idtr.base - GUEST_BASE);
    put_field(g, VMCS_GUEST_RIP, L2_CODE);
    put_field(g, VMCS_GUEST_RSP, L2_STACK);
}

/* ---- SVM ---- */

static void put_segment(struct guest *g, unsigned at, uint16_t attr) {
    l2_store(g, L2_VMCB + VMCB_SAVE + at, 8, 2);
    l2_store(g, L2_VMCB + VMCB_SAVE + at + 2, attr, 2);
    l2_store(g, L2_VMCB + VMCB_SAVE + at + 4, ~0u, 4);
    l2_store(g, L2_VMCB + VMCB_SAVE + at + 8, 0, 8);
}

static void put_table(struct guest *g, unsigned at, uint64_t base, uint16_t limit) {
    l2_store(g, L2_VMCB + VMCB_SAVE + at + 8, base, 8);
    l2_store(g, L2_VMCB + VMCB_SAVE + at + 4, limit, 4);
}

void l2_begin_svm(struct guest *g) {
    g->cpu->efer |= EFER_SVME;
    g->cpu->svm.hsave = L2_HSAVE;
}

static void put_save(struct guest *g, unsigned at, uint64_t value) {
    l2_store(g, L2_VMCB + VMCB_SAVE + at, value, 8);
}

void l2_vmcb(struct guest *g, bool nested) {
    const struct cpu *cpu = g->cpu;
    clear_page(g, L2_VMCB);
    l2_store(g, L2_VMCB + VMCB_MISC1,
             1u << ICPT_SHUTDOWN | 1u << ICPT_INTR | 1u << ICPT_HLT, 4);
    l2_store(g, L2_VMCB + VMCB_MISC2, 1, 4);
    l2_store(g, L2_VMCB + VMCB_IOPM, L2_IOPM, 8);
    l2_store(g, L2_VMCB + VMCB_MSRPM, L2_MSRPM, 8);
    l2_store(g, L2_VMCB + VMCB_ASID, 1, 4);
    l2_store(g, L2_VMCB + VMCB_NP, nested, 8);
    l2_store(g, L2_VMCB + VMCB_NCR3, NESTED, 8);
    put_segment(g, SAVE_CS, 0xa9b);
    for (unsigned at = SAVE_ES; at <= SAVE_GS; at += 16)
        if (at != SAVE_CS)
            put_segment(g, at, 0xc93);
    put_segment(g, SAVE_TR, 0x8b);
    put_table(g, SAVE_TR, cpu->seg[SEG_TR].base, 0x67);
    put_table(g, SAVE_GDTR, cpu->gdtr.base, 0x2f);
    put_table(g, SAVE_IDTR, cpu->idtr.base, 0x1ff);
    const struct {
        unsigned at;
        uint64_t value;
    } fixed[] = {{SAVE_CR3, GUEST_CR3},
                 {SAVE_DR7, 0x400},
                 {SAVE_DR6, 0xffff0ff0},
                 {SAVE_RFLAGS, 0x202},
                 {SAVE_RIP, GUEST_BASE + L2_CODE},
                 {SAVE_RSP, GUEST_BASE + L2_STACK},
                 {SAVE_RAX, GUEST_BASE + 0x50000},
                 {SAVE_PAT, PAT_KVM},
                 {SAVE_EFER, cpu->efer | EFER_SVME},
                 {SAVE_CR4, cpu->cr4},
                 {SAVE_CR0, cpu->cr0}};
    for (unsigned i = 0; i < COUNT(fixed); i++)
        put_save(g, fixed[i].at, fixed[i].value);
}

void l2_narrow_vmcb(struct guest *g) {
    const struct cpu *cpu = g->cpu;
    l2_store(g, L2_VMCB + VMCB_SAVE + SAVE_CS + 2, 0xc9b, 2);
    put_table(g, SAVE_TR, cpu->seg[SEG_TR].base - GUEST_BASE, 0x67);
    put_table(g, SAVE_GDTR, cpu->gdtr.base - GUEST_BASE, 0x2f);
    put_table(g, SAVE_IDTR, cpu->idtr.base - GUEST_BASE, 0x1ff);
    put_save(g, SAVE_EFER, EFER_SVME);
    put_save(g, SAVE_CR0, cpu->cr0 & ~(uint64_t)CR0_PG);
    put_save(g, SAVE_RIP, L2_CODE);
    put_save(g, SAVE_RSP, L2_STACK);
}
