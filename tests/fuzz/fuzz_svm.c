/* SPDX-License-Identifier: MIT */
/*
 * A hostile hypervisor by SVM (hypervisor_world.h): the input changes its VMCB, its maps, its
 * nested tables, the tables and code of L2, and what interrupts.
 */
#include "cpu/svm.h"
#include "hypervisor_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void good_vmcb(struct machine *m, bool nested) {
    l2_vmcb(&m->g, nested);
}

/* ---- What L1 does between two entries ---- */

static void change_field(struct machine *m) {
    static const uint16_t fields[] = {VMCB_CR,
                                      VMCB_DR,
                                      VMCB_EXCEPTIONS,
                                      VMCB_MISC1,
                                      VMCB_MISC2,
                                      VMCB_MISC3,
                                      VMCB_ASID,
                                      VMCB_TLB_CONTROL,
                                      VMCB_INT_CTL,
                                      VMCB_INT_STATE,
                                      VMCB_NP,
                                      VMCB_EVENT_INJ,
                                      VMCB_NCR3,
                                      VMCB_TSC_OFFSET,
                                      VMCB_IOPM,
                                      VMCB_SAVE + SAVE_CS + 2,
                                      VMCB_SAVE + 0xcb,
                                      0x4d0,
                                      0x548,
                                      0x550,
                                      0x558,
                                      0x560,
                                      0x568,
                                      0x570,
                                      0x578,
                                      0x5d8,
                                      0x422,
                                      0x668};
    uint8_t how = (uint8_t)take(&m->in, 1);
    unsigned at = fields[how % (sizeof fields / sizeof fields[0])];
    uint64_t bits = 1ull << take(&m->in, 1) % 64;
    if (how & 0x80)
        bits |= take(&m->in, 4);
    put(m, L2_VMCB + at, get(m, L2_VMCB + at) ^ bits, 8);
}

static void change_page(struct machine *m, uint8_t op) {
    put(m, L2_IOPM + take(&m->in, 2) % 0x6000, take(&m->in, 1), 1);
}

static void change(struct machine *m) {
    uint8_t op = (uint8_t)take(&m->in, 1);
    unsigned which = op % 12, rest = op / 12;
    if (which == 0)
        put(m, L2_VMCB + take(&m->in, 1) % VMCB_CONTROL_END, take(&m->in, 8),
            1 + rest % 8);
    else if (which == 1)
        put(m, L2_VMCB + VMCB_SAVE + take(&m->in, 2) % SAVE_SIZE, take(&m->in, 8),
            1 + rest % 8);
    else if (which < 2 + COMMON)
        change_common(m, which - 2, op, rest);
    else
        change_field(m);
}

/* What a hypervisor does after most exits. */
static void go_on(struct machine *m) {
    const pn_gpa rip = m->hv->rip;
    uint64_t code = get(m, L2_VMCB + VMCB_EXIT_CODE), next = get(m, L2_VMCB + VMCB_NRIP);
    if (code == SVM_EXIT_INVALID || code == SVM_EXIT_ICPT + ICPT_SHUTDOWN)
        good_vmcb(m, m->rounds & 1);
    else if (code == SVM_EXIT_ICPT + ICPT_INTR)
        m->irq = -1;
    else if (code == SVM_EXIT_ICPT + ICPT_HLT) /* an exception of L2's */
        put(m, rip, GUEST_BASE + L2_CODE + m->rounds * 3 % 64, 8);
    else if (next && m->rounds & 1)
        put(m, rip, next, 8);
}

/* VMLOAD, VMRUN, VMSAVE; OUT and IN, by which the input is taken; INVLPGA; STGI, CLGI. */
static void l1_code(struct machine *m) {
    static const uint8_t code[] = {
        0x48, 0xb8, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0f, 0x01, 0xda,
        0x0f, 0x01, 0xd8, 0x0f, 0x01, 0xdb, 0xe6, 0x80, 0xe5, 0x81, 0x89, 0xc1, 0x0f,
        0x01, 0xdf, 0x0f, 0x01, 0xdc, 0x90, 0x0f, 0x01, 0xdd, 0xeb, 0xdb};
    pn_mmu_write_phys(m->g.mmu, L1_CODE, code, sizeof code);
}

static void begin(struct machine *m, uint8_t how) {
    l2_begin_svm(&m->g);
    l1_code(m);
    l2_nested(&m->g, 7, 0x87);
    good_vmcb(m, how & 4);
}

static bool in_guest(const struct cpu *cpu) {
    return cpu->svm.guest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t insns[OWN][8] = {
        {0x0f, 0x01, 0xd8},    /* vmrun */
        {0x0f, 0x01, 0xda},    /* vmload */
        {0x0f, 0x01, 0xdb},    /* vmsave */
        {0x0f, 0x01, 0xdc},    /* stgi */
        {0x0f, 0x01, 0xdd},    /* clgi */
        {0x0f, 0x01, 0xdf},    /* invlpga */
        {0x0f, 0x01, 0xd9},    /* vmmcall */
        {0x48, 0xb8, 0, 0, 3}, /* mov rax, the VMCB (and five bytes that follow) */
    };
    static const struct hypervisor hv = {.model = "max,vendor=amd,+svm",
                                         .begin = begin,
                                         .go_on = go_on,
                                         .change = change,
                                         .good = good_vmcb,
                                         .change_page = change_page,
                                         .rip = L2_VMCB + VMCB_SAVE + SAVE_RIP,
                                         .insns = insns,
                                         .in_guest = in_guest};
    return hv_try(&hv, data, size);
}
