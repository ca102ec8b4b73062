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

#define SHADOW  (L2_PAGES + 8 * 0x1000u) /* a VMCS for L2: the link pointer's page */
#define OPERAND 0x3f000u                 /* of L1's VMPTRLD and invalidations */

/* ---- The VMCS ---- */

static void put_field(struct machine *m, unsigned f, uint64_t value) {
    put(m, l2_field(f), value, 8);
}
static uint64_t get_field(struct machine *m, unsigned f) {
    return get(m, l2_field(f));
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

static void good_vmcs(struct machine *m, bool ept) {
    l2_vmcs(&m->g, ept, GUEST_BASE + L1_CODE + L1_GOES_ON);
    put(m, SHADOW, VMCS_REVISION | VMCS_SHADOW, 4);
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
    unsigned at = (unsigned)take(&m->in, 2) % (OPERAND + 0x40 - L2_PAGES);
    unsigned size = 1 + op / 13 % 8;
    put(m, L2_PAGES + at, take(&m->in, size), size);
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
    put(m, OPERAND + 8, L2_VMCS, 8);
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
    l2_begin_vmx(&m->g);
    pn_mmu_write_phys(m->g.mmu, L1_CODE, l1_code, sizeof l1_code);
    put(m, OPERAND, L2_VMCS, 8);
    put(m, OPERAND + 8, L2_VMCS, 8);
    l2_nested(&m->g, 0x37, 0xb7);
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
                                         .rip = L2_VMCS + VMCS_AT_FIELDS +
                                                VMCS_GUEST_RIP * sizeof(uint64_t),
                                         .insns = insns,
                                         .in_guest = in_guest};
    return hv_try(&hv, data, size);
}
