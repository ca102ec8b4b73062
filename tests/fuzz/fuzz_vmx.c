/* SPDX-License-Identifier: MIT */
/*
 * A hostile hypervisor by VMX (hypervisor_world.h): the input changes its VMCS, whatever the
 * VMCS points to, its EPT, the tables and code of L2, and what interrupts; and L1 itself runs
 * VMREAD, VMWRITE, VMPTRLD, VMCLEAR and invalidations with operands of the input's.
 */
#include "cpu/control.h"
#include "cpu/vmx.h"
#include "hypervisor_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In the order of `pages`, which has each field that is an address. */
#define VMCS    0x30000u
#define PAGES   0x31000u
#define SHADOW  (PAGES + 8 * 0x1000u) /* a VMCS for L2 */
#define VMXON   0x3e000u
#define OPERAND 0x3f000u /* of L1's VMPTRLD and invalidations */
#define STACK   (GUEST_BASE + 0x18000)

static const uint8_t pages[] = {
    VMCS_IO_BITMAP_A,  VMCS_IO_BITMAP_B,    VMCS_MSR_BITMAPS,   VMCS_PML_ADDRESS,
    VMCS_VIRTUAL_APIC, VMCS_EPTP_LIST,      VMCS_VMREAD_BITMAP, VMCS_VMWRITE_BITMAP,
    VMCS_LINK_POINTER, VMCS_ENTRY_MSR_LOAD, VMCS_APIC_ACCESS,   VMCS_POSTED_ADDRESS,
    VMCS_VE_ADDRESS};

/* ---- The VMCS ---- */

static pn_gpa field(unsigned f) {
    return VMCS + VMCS_AT_FIELDS + f * sizeof(uint64_t);
}
static void put_field(struct machine *m, unsigned f, uint64_t value) {
    put(m, field(f), value, 8);
}
static uint64_t get_field(struct machine *m, unsigned f) {
    return get(m, field(f));
}

static void put_controls(struct machine *m, bool ept) {
    uint32_t proc2 = 1u << VMX_PROC2_RDTSCP | 1u << VMX_PROC2_INVPCID |
                     1u << VMX_PROC2_XSAVES | (uint32_t)ept << VMX_PROC2_EPT;
    put_field(m, VMCS_PIN_CONTROLS, vmx_allowed(VMX_PIN).must | 1u << VMX_PIN_EXTERNAL);
    put_field(m, VMCS_PROC_CONTROLS,
              (vmx_allowed(VMX_PROC).must & ~vmx_allowed(VMX_PROC).free) |
                  1u << VMX_PROC_SECONDARY | 1u << VMX_PROC_HLT |
                  1u << VMX_PROC_MSR_BITMAPS | 1u << VMX_PROC_IO_BITMAPS);
    put_field(m, VMCS_PROC2_CONTROLS, proc2);
    put_field(m, VMCS_EXIT_CONTROLS, vmx_allowed(VMX_EXIT).must | 1u << VMX_EXIT_HOST_64);
    put_field(m, VMCS_ENTRY_CONTROLS,
              vmx_allowed(VMX_ENTRY).must | 1u << VMX_ENTRY_GUEST_64);
    put_field(m, VMCS_EPTP, NESTED | 3 << 3 | EPT_TYPE_WB | EPTP_AD);
    put_field(m, VMCS_VPID, 1);
    for (unsigned i = 0; i < sizeof pages; i++)
        put_field(m, pages[i], PAGES + i * 0x1000);
    put_field(m, VMCS_LINK_POINTER, VMCS_NONE);
}

static void put_guest(struct machine *m) {
    const struct cpu *c = m->g.cpu;
    for (unsigned i = 0; i < 8; i++) {
        static const uint32_t ar[] = {0xc093, 0xa09b, 0xc093,        0xc093,
                                      0xc093, 0xc093, ATTR_UNUSABLE, 0x8b};
        put_field(m, VMCS_GUEST_ES_SEL + i, i == 7 ? 0x40 : i == 1 ? 8 : 0x10);
        put_field(m, VMCS_GUEST_ES_LIMIT + i, i == 7 ? 0x67 : UINT32_MAX);
        put_field(m, VMCS_GUEST_ES_AR + i, ar[i]);
    }
    put_field(m, VMCS_GUEST_TR_BASE, c->seg[SEG_TR].base);
    put_field(m, VMCS_GUEST_GDTR_BASE, c->gdtr.base);
    put_field(m, VMCS_GUEST_GDTR_LIMIT, 0x2f);
    put_field(m, VMCS_GUEST_IDTR_BASE, c->idtr.base);
    put_field(m, VMCS_GUEST_IDTR_LIMIT, 0x1ff);
    put_field(m, VMCS_GUEST_PAT, 0x0007040600070406);
    put_field(m, VMCS_GUEST_CR0, c->cr0);
    put_field(m, VMCS_GUEST_CR3, GUEST_CR3);
    put_field(m, VMCS_GUEST_CR4, c->cr4);
    put_field(m, VMCS_GUEST_EFER, EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE);
    put_field(m, VMCS_GUEST_DR7, 0x400);
    put_field(m, VMCS_GUEST_RFLAGS, 0x202);
    put_field(m, VMCS_GUEST_RIP, GUEST_BASE + L2_CODE);
    put_field(m, VMCS_GUEST_RSP, GUEST_BASE + 0x28000);
}

/* Segments are what VM exit makes of these; L1's code is where L1 goes on after the two entries. */
static void put_host(struct machine *m, uint64_t rip) {
    const struct cpu *c = m->g.cpu;
    for (unsigned i = VMCS_HOST_ES_SEL; i <= VMCS_HOST_GS_SEL; i++)
        put_field(m, i, i == VMCS_HOST_CS_SEL ? 8 : 0x10);
    put_field(m, VMCS_HOST_TR_SEL, 0x40);
    put_field(m, VMCS_HOST_TR_BASE, c->seg[SEG_TR].base);
    put_field(m, VMCS_HOST_GDTR_BASE, c->gdtr.base);
    put_field(m, VMCS_HOST_IDTR_BASE, c->idtr.base);
    put_field(m, VMCS_HOST_PAT, 0x0007040600070406);
    put_field(m, VMCS_HOST_EFER, EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE);
    put_field(m, VMCS_HOST_CR0, c->cr0);
    put_field(m, VMCS_HOST_CR3, GUEST_CR3);
    put_field(m, VMCS_HOST_CR4, c->cr4);
    put_field(m, VMCS_HOST_RIP, rip);
    put_field(m, VMCS_HOST_RSP, STACK);
}

/* VMPTRLD, VMLAUNCH, VMRESUME; here L1 goes on: OUT and IN, by which the input is taken; VMWRITE,
 * VMREAD, VMPTRLD or VMCLEAR, INVEPT, INVVPID. */
static const uint8_t l1_code[] = {
    0xb8, 0x08, 0xf0, 0x03, 0x10,       /* mov eax, OPERAND + 8 */
    0x0f, 0xc7, 0x30,                   /* vmptrld [rax] */
    0x0f, 0x01, 0xc2, 0x0f, 0x01, 0xc3, /* vmlaunch; vmresume */
    0xe6, 0x80,                         /* out 0x80, al */
    0xb9, 0x00, 0xf0, 0x03, 0x10,       /* mov ecx, OPERAND */
    0x0f, 0xc7, 0x31,                   /* vmptrld [rcx] */
    0xe5, 0x81, 0x89, 0xc2,             /* in eax, 0x81; mov edx, eax */
    0xe5, 0x81,                         /* in eax, 0x81 */
    0x0f, 0x79, 0xd0, 0x0f, 0x78, 0xd0, /* vmwrite rdx, rax; vmread rax, rdx */
    0x83, 0xe2, 0x03,                   /* and edx, 3 */
    0x66, 0x0f, 0x38, 0x80, 0x51, 0x10, /* invept rdx, [rcx + 16] */
    0x66, 0x0f, 0x38, 0x81, 0x51, 0x10, /* invvpid rdx, [rcx + 16] */
    0x66, 0x0f, 0xc7, 0x71, 0x20,       /* vmclear [rcx + 32] */
    0xfb, 0x90, 0xfa,                   /* sti; nop; cli */
    0xeb, 0xc3,                         /* jmp the beginning */
};
#define L1_GOES_ON 14 /* into it */

/* A VMCS that may be entered: L2 in L1's address space, with or without EPT. */
static void good_vmcs(struct machine *m, bool ept) {
    static const uint8_t none[PN_PAGE_SIZE];
    pn_mmu_write_phys(m->g.mmu, VMCS, none, sizeof none);
    put(m, VMCS, VMCS_REVISION, 4);
    put(m, SHADOW, VMCS_REVISION | VMCS_SHADOW, 4);
    put_controls(m, ept);
    put_guest(m);
    put_host(m, GUEST_BASE + L1_CODE + L1_GOES_ON);
}

/* ---- What L1 does between two entries ---- */

/* A bit of a control that is there, or any. */
static void change_control(struct machine *m) {
    static const struct {
        uint8_t field, group;
    } words[] = {{VMCS_PIN_CONTROLS, VMX_PIN},
                 {VMCS_PROC_CONTROLS, VMX_PROC},
                 {VMCS_PROC2_CONTROLS, VMX_PROC2},
                 {VMCS_EXIT_CONTROLS, VMX_EXIT},
                 {VMCS_ENTRY_CONTROLS, VMX_ENTRY}};
    uint8_t how = (uint8_t)take(&m->in, 1);
    unsigned i = how % (sizeof words / sizeof words[0]);
    struct vmx_allowed a = vmx_allowed(words[i].group);
    uint32_t bits = UINT32_C(1) << take(&m->in, 1) % 32;
    if (how & 0x80)
        bits |= (uint32_t)take(&m->in, 4);
    if (how & 0x40)
        bits &= a.may & ~(a.must & ~a.free);
    put_field(m, words[i].field, get_field(m, words[i].field) ^ bits);
}

static void change_field(struct machine *m) {
    uint8_t how = (uint8_t)take(&m->in, 1);
    unsigned f = (unsigned)take(&m->in, 1) % VMCS_FIELDS;
    uint64_t bits = UINT64_C(1) << (how & 63);
    if (how & 0x80)
        bits |= take(&m->in, 8);
    put_field(m, f, how & 0x40 ? bits : get_field(m, f) ^ bits);
}

/* In the pages that the VMCS points to, and in L1's operands. */
static void change_page(struct machine *m, uint8_t op) {
    unsigned at = (unsigned)take(&m->in, 2) % (OPERAND + 0x40 - PAGES);
    unsigned size = 1 + op / 13 % 8;
    put(m, PAGES + at, take(&m->in, size), size);
}

static void change(struct machine *m) {
    uint8_t op = (uint8_t)take(&m->in, 1);
    unsigned which = op % 13, rest = op / 13;
    if (which < COMMON)
        change_common(m, which, op, rest);
    else if (which == 8)
        put(m, OPERAND + rest * 8 % 0x28, take(&m->in, 3) << 4, 8);
    else if (which == 9) /* an event for L2 */
        put_field(m, VMCS_ENTRY_EVENT, VMX_EVENT_VALID | take(&m->in, 2));
    else if (which == 10)
        change_field(m);
    else
        change_control(m);
}

/* What a hypervisor does after most exits, and what one that goes on needs. */
static void go_on(struct machine *m) {
    uint64_t reason = get_field(m, VMCS_EXIT_REASON);
    uint64_t error = get_field(m, VMCS_INSN_ERROR);
    put(m, OPERAND + 8, VMCS, 8);
    put_field(m, VMCS_INSN_ERROR, 0);
    if (reason & VMX_ENTRY_FAILED || reason == VMX_EXIT_TRIPLE_FAULT ||
        error == VMX_ERROR_CONTROLS || error == VMX_ERROR_HOST)
        good_vmcs(m, m->rounds & 1);
    else if (reason == VMX_EXIT_INTERRUPT)
        m->irq = -1;
    else if (reason == VMX_EXIT_HLT) /* an exception of L2's */
        put_field(m, VMCS_GUEST_RIP, GUEST_BASE + L2_CODE + m->rounds * 3 % 64);
    else if (m->rounds & 1)
        put_field(m, VMCS_GUEST_RIP,
                  get_field(m, VMCS_GUEST_RIP) + (get_field(m, VMCS_EXIT_INSN_LEN) & 15));
}

static void begin(struct machine *m, uint8_t how) {
    struct cpu *cpu = m->g.cpu;
    cpu->cr4 |= CR4_VMXE;
    cpu->vmx.on = 1;
    cpu->vmx.vmxon = VMXON;
    cpu->vmx.vmcs = VMCS;
    cpu->vmx.feature_control = FEATURE_CONTROL_VALID;
    pn_mmu_write_phys(m->g.mmu, L1_CODE, l1_code, sizeof l1_code);
    put(m, OPERAND, VMCS, 8);
    put(m, OPERAND + 8, VMCS, 8);
    good_nested(m, 0x37, 0xb7);
    good_vmcs(m, how & 4);
}

static bool in_guest(const struct cpu *cpu) {
    return cpu->vmx.guest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t insns[OWN][8] = {
        {0x0f, 0x01, 0xc1}, /* vmcall */
        {0x0f, 0x01, 0xd4}, /* vmfunc */
        {0x0f, 0x78, 0xc2}, /* vmread rdx, rax */
        {0x0f, 0x79, 0xc2}, /* vmwrite rax, rdx */
        {0x0f, 0xc7, 0x30}, /* vmptrld [rax] */
        {0x0f, 0x01, 0xc2}, /* vmlaunch */
        {0xb8, 0, 0, 3},    /* mov eax, the VMCS (and a byte that follows) */
        {0xb9, 0x02, 0x68}, /* mov ecx, a field (and two bytes that follow) */
    };
    static const struct hypervisor hv = {.model = "max,vendor=intel,+vmx",
                                         .begin = begin,
                                         .go_on = go_on,
                                         .change = change,
                                         .good = good_vmcs,
                                         .change_page = change_page,
                                         .rip = VMCS + VMCS_AT_FIELDS +
                                                VMCS_GUEST_RIP * sizeof(uint64_t),
                                         .insns = insns,
                                         .in_guest = in_guest};
    return hv_try(&hv, data, size);
}
