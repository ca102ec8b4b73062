/* SPDX-License-Identifier: MIT */
/* See fixture_vmxl2.h. */
#include "fixture_vmxl2.h"

#define FAILED_AT (GUEST_BASE + L1_CODE + 3) /* behind VMLAUNCH: a VMfail */
#define LEFT_AT   (GUEST_BASE + L1_CODE + 8)

struct guest v2;
int v2_irq;
static size_t code_size;

static const struct words_row rows[] = {
#define VMX_WORD(word, field)
#define VMX_BITS(word, name, low, width, values)                                         \
    {W_##word, #word " " #name, low, width, values},
#include "cpu/vmx_words.inc"
};
static const uint8_t fields[] = {
#define VMX_WORD(word, field) VMCS_##field,
#define VMX_BITS(word, name, low, width, values)
#include "cpu/vmx_words.inc"
};
static struct words words = {.row = rows, .rows = sizeof rows / sizeof rows[0]};

static int peek(void *opaque, unsigned vcpu) {
    return v2_irq;
}
static int ack(void *opaque, unsigned vcpu) {
    int vector = v2_irq;
    v2_irq = -1;
    return vector;
}
static void eoi(void *opaque, unsigned vcpu) {
}
/* OUT is an NMI. */
static void raise_nmi(void *opaque, unsigned vcpu, uint16_t port, unsigned size,
                      uint64_t value) {
    v2.cpu->nmi_pending = 1;
}

void v2_create(enum pn_mmu_kind kind) {
    static const uint8_t l1[] = {0x0f, 0x01, 0xc2, 0xf4, 0, 0, 0, 0, 0xf4}; /* vmlaunch */
    struct guest_options opt = {.kind = kind,
                                .model = "max,vendor=intel,+vmx",
                                .max_block = 64,
                                .code_bytes = 1u << 20};
    guest_create(&v2, &opt);
    guest_idt(&v2);
    v2.bus.intr_peek = peek;
    v2.bus.intr_ack = ack;
    v2.bus.intr_eoi = eoi;
    v2.bus.pio_write = raise_nmi;
    l2_begin_vmx(&v2);
    pn_mmu_write_phys(v2.mmu, L1_CODE, l1, sizeof l1);
}

void v2_destroy(void) {
    guest_destroy(&v2);
}

void v2_put(unsigned f, uint64_t value) {
    l2_store(&v2, l2_field(f), value, 8);
}
uint64_t v2_get(unsigned f) {
    return l2_load(&v2, l2_field(f));
}
void v2_set(unsigned f, uint64_t bits) {
    v2_put(f, v2_get(f) | bits);
}

void v2_flush(void) {
    pn_mmu_flush_second(v2.cpu->vmmu);
    pn_mmu_flush_asid(v2.cpu->vmmu, 0, true);
}

void v2_page(pn_gpa page, uint64_t bits) {
    l2_store(&v2, NESTED + 0x3000 + (page >> 12) * 8, bits, 8);
}
void v2_own_page(pn_gpa page, uint64_t entry) {
    guest_gpte(&v2, GUEST_BASE + page, entry);
}

void v2_fresh(void) {
    struct cpu *c = v2.cpu;
    static const uint8_t none[PN_PAGE_SIZE];
    l2_nested(&v2, 0x37, 0xb7);
    l2_vmcs(&v2, true, LEFT_AT);
    for (unsigned i = 0; i < l2_pages_count(); i++)
        pn_mmu_write_phys(v2.mmu, L2_PAGES + i * 0x1000, none, sizeof none);
    pn_mmu_write_phys(v2.mmu, L2_CODE, none, sizeof none);
    v2_put(VMCS_PROC_CONTROLS,
           (vmx_allowed(VMX_PROC).must & ~vmx_allowed(VMX_PROC).free) |
               1u << VMX_PROC_SECONDARY);
    v2_put(VMCS_GUEST_RFLAGS, 2);
    v2_put(VMCS_EPTP, NESTED | 3 << 3 | 6);
    memset(c->gpr, 0, sizeof c->gpr);
    c->dr[0] = c->dr[1] = c->dr[2] = c->dr[3] = 0;
    c->dr[6] = 0xffff0ff0;
    c->nmi_pending = c->nmi_blocked = 0;
    code_size = 0;
    v2_irq = -1;
    v2_flush();
}

void v2_narrow(void) {
    v2_fresh();
    l2_narrow_vmcs(&v2);
}

void v2_code(const void *code, size_t size) {
    pn_mmu_write_phys(v2.mmu, L2_CODE + code_size, code, size);
    code_size += size;
}

static void left(uint32_t reason) {
    const struct cpu *c = v2.cpu;
    ck_assert_msg(!c->vmx.guest, "L2 halted at %llx", (unsigned long long)c->rip);
    ck_assert_msg(c->rip != FAILED_AT + 1, "VMfail %u",
                  (unsigned)v2_get(VMCS_INSN_ERROR));
    ck_assert_uint_eq(c->rip, LEFT_AT + 1);
    ck_assert_msg(v2_get(VMCS_EXIT_REASON) == reason,
                  "reason %x, not %x; qualification %llx; event %x",
                  (unsigned)v2_get(VMCS_EXIT_REASON), reason,
                  (unsigned long long)v2_get(VMCS_QUALIFICATION),
                  (unsigned)v2_get(VMCS_EXIT_EVENT));
    words_see(&words, W_REASON, reason);
}

static void run(void) {
    struct cpu *c = v2.cpu;
    c->intr_line = 1;
    ck_assert_int_eq(cpu_run(c, cpu_insns(c) + 10000), CPU_EXIT_HALT);
}

static void launch(void) {
    v2.cpu->halted = PN_RUNS;
    guest_start(&v2, GUEST_BASE + L1_CODE, L1_STACK);
    run();
}

void v2_run(uint32_t reason) {
    launch();
    left(reason);
}

void v2_run_halted(int vector, uint32_t reason) {
    launch();
    ck_assert_uint_eq(v2.cpu->vmx.guest, 1);
    v2_irq = vector;
    run();
    left(reason);
}

void v2_says(enum vmx_word word, uint64_t value) {
    uint64_t is = v2_get(fields[word]);
    ck_assert_msg(is == value, "word %u is %llx, not %llx (reason %u)", word,
                  (unsigned long long)is, (unsigned long long)value,
                  (unsigned)v2_get(VMCS_EXIT_REASON));
    words_see(&words, word, is);
}

void v2_all_seen(enum vmx_word first, enum vmx_word last) {
    words_all_seen(&words, first, last);
}
