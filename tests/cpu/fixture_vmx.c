/* SPDX-License-Identifier: MIT */
/* See fixture_vmx.h. */
#include "fixture_vmx.h"

static struct cpu_model *intel;

/* ---- Instructions ---- */

struct insn vx_memory(unsigned size) {
    struct insn in = insn_mem(8, OPERAND, size);
    in.len = 4;
    return in;
}

void vx_ok(enum cpu_rc rc) {
    ck_assert_int_eq(rc, CPU_STOP);
    ck_assert_uint_eq(cpu_arith_flags(fx.cpu), 0);
}

uint64_t vx_get(unsigned field) {
    struct insn in = insn_reg(8, 11, 8);
    in.op[1] = (struct operand){.kind = OP_REG, .reg = 10, .size = 8};
    in.op_count = 2;
    fx.cpu->gpr[10] = field;
    fx.cpu->gpr[11] = 0xdeadbeef;
    vx_ok(op_vmread(fx.cpu, &in));
    return fx.cpu->gpr[11];
}

enum cpu_rc vx_write(unsigned field, uint64_t value) {
    struct insn in = insn_reg(8, 10, 8);
    in.op[1] = (struct operand){.kind = OP_REG, .reg = 11, .size = 8};
    in.op_count = 2;
    fx.cpu->gpr[10] = field;
    fx.cpu->gpr[11] = value;
    return op_vmwrite(fx.cpu, &in);
}
void vx_put(unsigned field, uint64_t value) {
    vx_ok(vx_write(field, value));
}

enum cpu_rc vx_at(vmx_helper *fn, uint64_t at) {
    struct insn in = vx_memory(8);
    ram_put(OPERAND, at, 8);
    return fn(fx.cpu, &in);
}

/* VMfailValid, with that number. */
void vx_fails(enum cpu_rc rc, unsigned error) {
    ck_assert_int_eq(rc, CPU_STOP);
    ck_assert_uint_eq(cpu_arith_flags(fx.cpu), FL_ZF);
    ck_assert_uint_eq(vx_get(ERROR), error);
}
void vx_fails_invalid(enum cpu_rc rc) {
    ck_assert_int_eq(rc, CPU_STOP);
    ck_assert_uint_eq(cpu_arith_flags(fx.cpu), FL_CF);
}

/* ---- A VMCS whose L2 is as L1 is, at GUEST ---- */

static void put_segments(void) {
    static const uint8_t order[] = {SEG_ES, SEG_CS, SEG_SS,   SEG_DS,
                                    SEG_FS, SEG_GS, SEG_LDTR, SEG_TR};
    for (unsigned i = 0; i < 8; i++) {
        const struct pn_segment *s = &fx.cpu->seg[order[i]];
        bool unusable = s->attr & UNUSABLE || !(s->attr & 0x80);
        vx_put(0x800 + i * 2, s->sel);
        vx_put(0x4800 + i * 2, s->limit);
        vx_put(0x4814 + i * 2, unusable ? UNUSABLE : (s->attr | 1) & 0xf0ff);
        vx_put(0x6806 + i * 2, s->base);
    }
    vx_put(0x480e, 0x67);
    vx_put(0x4822, 0x8b);
    vx_put(0x4820, UNUSABLE);
}

static void put_guest(void) {
    const struct cpu *c = fx.cpu;
    put_segments();
    vx_put(0x4810, c->gdtr.limit);
    vx_put(0x6816, c->gdtr.base);
    vx_put(0x4812, c->idtr.limit);
    vx_put(0x6818, c->idtr.base);
    vx_put(0x2800, ~0ull);
    vx_put(0x2804, 0x0007040600070406);
    vx_put(0x2806, c->efer);
    vx_put(0x6800, c->cr0);
    vx_put(0x6802, c->cr3);
    vx_put(0x6804, c->cr4);
    vx_put(0x681a, 0x400);
    vx_put(0x681c, 0x39000);
    vx_put(RIP, GUEST);
    vx_put(RFLAGS, 2);
}

static void put_host(void) {
    const struct cpu *c = fx.cpu;
    for (unsigned field = 0xc00; field <= 0xc0a; field += 2)
        vx_put(field, KDATA);
    vx_put(0xc02, KCODE);
    vx_put(0xc0c, TSS_SEL);
    vx_put(0x2c00, 0x0007040600070406);
    vx_put(0x2c02, c->efer);
    vx_put(0x6c00, c->cr0);
    vx_put(0x6c02, c->cr3);
    vx_put(0x6c04, c->cr4);
    vx_put(0x6c0a, TSS);
    vx_put(0x6c0c, GDT);
    vx_put(0x6c0e, IDT);
    vx_put(0x6c14, 0x39800);
    vx_put(0x6c16, HOST);
}

void vx_fill(void) {
    memset(fx.ram + VMCS_AT, 0, 0x1000);
    memset(fx.ram + IO_A, 0, 0x4000);
    ram_put(VMCS_AT, REVISION, 4);
    vx_ok(vx_at(op_vmclear, VMCS_AT));
    vx_ok(vx_at(op_vmptrld, VMCS_AT));
    vx_put(PIN, PIN_MUST);
    vx_put(PROC, VX_PROC);
    vx_put(PROC2, VX_PROC2);
    vx_put(EXIT, VX_EXIT);
    vx_put(ENTRY, VX_ENTRY);
    vx_put(0x2000, IO_A);
    vx_put(0x2002, IO_B);
    vx_put(0x2004, MSRS);
    put_guest();
    put_host();
}

void vx_create(void) {
    char err[128];
    fix_create_unaudited();
    ck_assert_int_eq(cpu_model_parse("max,vendor=intel,+vmx,-la57,-shstk,-ibt", &intel,
                                     err, sizeof err),
                     0);
    fx.cpu->model = intel;
    fix_long();
    fx.cpu->cr0 |= CR0_NE;
    fx.cpu->cr4 |= CR4_VMXE;
    fx.cpu->vmx.feature_control = 5;
    ram_put(VMXON_AT, REVISION, 4);
    ram_put(OTHER_AT, REVISION, 4);
    vx_ok(vx_at(op_vmxon, VMXON_AT));
    vx_fill();
}
void vx_destroy(void) {
    fix_destroy();
    cpu_model_free(intel);
}

enum cpu_rc vx_go(unsigned resume) {
    struct insn in = insn_new(8);
    in.arg = (uint16_t)resume;
    fx.cpu->cpl = 0;
    fx.cpu->rip = 0x8000;
    return op_vmlaunch(fx.cpu, &in);
}

enum cpu_rc vx_launch(void) {
    return vx_go(0);
}

void vx_enter(void) {
    enum cpu_rc rc = vx_go((unsigned)ram_get(VMCS_AT + 8, 4));
    if (rc == CPU_STOP)
        ck_abort_msg("VM-instruction error %u", (unsigned)vx_get(ERROR));
    ck_assert_int_eq(rc, CPU_JUMP);
    if (!fx.cpu->vmx.guest)
        ck_abort_msg("reason %x, qualification %u", (unsigned)vx_get(REASON),
                     (unsigned)vx_get(QUALIFICATION));
    ck_assert_uint_eq(fx.cpu->rip, GUEST);
    ck_assert_uint_ne(fx.cpu->mode & MODE_GUEST, 0);
}

void vx_leave(void) {
    const struct vmx_exit x = {.reason = 18};
    if (fx.cpu->vmx.guest)
        vmx_leave(fx.cpu, &x);
}

/* L1 goes on where its VMCS says. */
void vx_left(unsigned reason) {
    ck_exits_counted();
    ck_assert_uint_eq(fx.cpu->vmx.guest, 0);
    ck_assert_uint_eq(fx.cpu->mode & MODE_GUEST, 0);
    ck_assert_uint_eq(vx_get(REASON), reason);
    ck_assert_uint_eq(fx.cpu->rip, HOST);
    ck_assert_uint_eq(fx.cpu->gpr[R_SP], 0x39800);
}

enum cpu_rc vx_run(vmx_helper *fn, const struct insn *in) {
    return vmx_guard(fn)(fx.cpu, in);
}

void vx_set(unsigned field, uint64_t bits) {
    vx_put(field, vx_get(field) | bits);
}
void vx_clear(unsigned field, uint64_t bits) {
    vx_put(field, vx_get(field) & ~bits);
}

struct insn vx_insn(unsigned arg) {
    struct insn in = vx_memory(8);
    in.op_count = 1;
    in.rip = GUEST;
    in.arg = (uint16_t)arg;
    return in;
}

void vx_nest(unsigned ad) {
    ram_put(EPT, (EPT + 0x1000) | 7, 8);
    ram_put(EPT + 0x1000, (EPT + 0x2000) | 7, 8);
    ram_put(EPT + 0x2000, 0xb7, 8);
    ram_put(EPT + 0x2008, (EPT + 0x3000) | 7, 8);
    for (unsigned i = 0; i < 512; i++)
        ram_put(EPT + 0x3000 + i * 8, (PAGES + i * 0x1000) | 0x37, 8);
    ram_put(EPT + 0x3008, 0, 8);
    ram_put(EPT + 0x3010, (PAGES + 0x2000) | 0x31, 8);
    ram_put(EPT + 0x3018, (PAGES + 0x4000) | 0x37, 8);
    ram_put(EPT + 0x3028, (PAGES + 0x5000) | 0x34, 8);
    ram_put(EPT + 0x3030, (PAGES + 0x6000) | 0x32, 8);
    vx_set(PROC2, 1u << 1);
    vx_put(0x201a, EPT | 0x1e | ad);
}

struct insn vx_mov(bool dr, unsigned nr, bool write) {
    struct insn in = vx_insn(0);
    in.op[write ? 0 : 1] =
        (struct operand){.kind = dr ? OP_DR : OP_CR, .reg = (uint8_t)nr};
    in.op[write ? 1 : 0] = (struct operand){.kind = OP_REG, .reg = 11, .size = 8};
    return in;
}
