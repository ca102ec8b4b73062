/* SPDX-License-Identifier: MIT */
/* See fixture_svm.h. */
#include "fixture_svm.h"

static struct cpu_model *amd;

uint64_t sv_get(unsigned at) {
    return ram_get(VMCB + at, 8);
}
void sv_put(unsigned at, uint64_t value, unsigned size) {
    ram_put(VMCB + at, value, size);
}
static void save_seg(unsigned at, unsigned seg) {
    const struct pn_segment *s = &fx.cpu->seg[seg];
    sv_put(0x400 + at, s->sel, 2);
    sv_put(0x402 + at, (s->attr & 0xff) | (s->attr >> 4 & 0xf00), 2);
    sv_put(0x404 + at, s->limit, 4);
    sv_put(0x408 + at, s->base, 8);
}

/* L2 is as L1 is, at GUEST. */
void sv_fill(void) {
    struct cpu *c = fx.cpu;
    memset(fx.ram + VMCB, 0, 0x1000);
    memset(fx.ram + IOPM, 0, 0x6000);
    sv_put(MISC2, 1, 4);
    sv_put(0x40, IOPM, 8);
    sv_put(0x48, MSRPM, 8);
    sv_put(0x58, 1, 4);
    save_seg(0x00, SEG_ES);
    save_seg(0x10, SEG_CS);
    save_seg(0x20, SEG_SS);
    save_seg(0x30, SEG_DS);
    sv_put(0x464, c->gdtr.limit, 4);
    sv_put(0x468, c->gdtr.base, 8);
    sv_put(0x484, c->idtr.limit, 4);
    sv_put(0x488, c->idtr.base, 8);
    sv_put(0x4d0, c->efer, 8);
    sv_put(0x548, c->cr4, 8);
    sv_put(0x550, c->cr3, 8);
    sv_put(0x558, c->cr0, 8);
    sv_put(0x560, 0x400, 8);
    sv_put(0x568, 0xffff0ff0, 8);
    sv_put(0x570, 2, 8);
    sv_put(0x578, GUEST, 8);
    sv_put(0x5d8, 0x38000, 8);
    sv_put(0x668, 0x0007040600070406, 8);
}

void sv_create_as(const char *model) {
    char err[128];
    fix_create_unaudited();
    ck_assert_int_eq(cpu_model_parse(model, &amd, err, sizeof err), 0);
    fx.cpu->model = amd;
    fix_long();
    fx.cpu->efer |= 0x1000;
    fx.cpu->svm.hsave = HSAVE;
    sv_fill();
}
void sv_create(void) {
    sv_create_as("max,vendor=amd,+svm,-la57,-shstk");
}
void sv_destroy(void) {
    fix_destroy();
    cpu_model_free(amd);
}

enum cpu_rc sv_vmrun(void) {
    struct insn in = insn_new(8);
    in.len = 3;
    fx.cpu->gpr[R_AX] = VMCB;
    return op_vmrun(fx.cpu, &in);
}

void sv_enter(void) {
    fx.cpu->cpl = 0;
    fx.cpu->rip = 0x8000;
    ck_assert_int_eq(sv_vmrun(), CPU_JUMP);
    ck_assert_uint_eq(fx.cpu->svm.guest, 1);
    ck_assert_uint_eq(fx.cpu->rip, GUEST);
    ck_assert_uint_ne(fx.cpu->mode & MODE_GUEST, 0);
}

void sv_leave(void) {
    if (fx.cpu->svm.guest)
        svm_exit(fx.cpu, 0x81, 0, 0, 0);
}

/* L1 goes on behind VMRUN. */
void sv_left(uint64_t code) {
    ck_exits_counted();
    ck_assert_uint_eq(sv_get(CODE), code);
    ck_assert_uint_eq(fx.cpu->svm.guest, 0);
    ck_assert_uint_eq(fx.cpu->svm.gif, 0);
    ck_assert_uint_eq(fx.cpu->mode & MODE_GUEST, 0);
    ck_assert_uint_eq(fx.cpu->rip, 0x8003);
}

struct insn sv_insn(unsigned arg) {
    struct insn in = insn_mem(8, PAGES, 8);
    in.rip = GUEST;
    in.arg = (uint16_t)arg;
    return in;
}

enum cpu_rc sv_guarded(svm_helper *fn, const struct insn *in) {
    return svm_guard(fn)(fx.cpu, in);
}
