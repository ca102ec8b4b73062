/* SPDX-License-Identifier: MIT */
/* Delivery of events: gates, stacks, error codes, double and triple faults, debug. */
#include "fixture_flat.h"
#include "tests/suite.h"

#define HANDLER 0xffff800000123456ull

static enum cpu_rc fault(unsigned vector, long error) {
    if (error < 0)
        cpu_raise(fx.cpu, (uint8_t)vector);
    else
        cpu_raise_code(fx.cpu, (uint8_t)vector, (uint32_t)error);
    return cpu_deliver_fault(fx.cpu);
}

static uint64_t slot(unsigned i) { /* of the handler's frame */
    return ram_get((uint32_t)fx.cpu->gpr[R_SP] + i * 8, 8);
}

START_TEST(an_exception_in_ring_0_stays_on_its_aligned_stack) {
    fix_long();
    struct cpu *c = fx.cpu;
    gate_set(VEC_GP, KCODE, HANDLER, 14, 0, 0);
    c->gpr[R_SP] = 0x30008; /* misaligned on purpose */
    cpu_set_rflags(c, 2 | FL_IF | FL_TF | FL_NT | FL_CF | FL_OF);
    ck_assert_int_eq(fault(VEC_GP, 0x18), CPU_JUMP);
    ck_assert_uint_eq(c->rip, HANDLER);
    ck_assert_uint_eq(c->gpr[R_SP], 0x30000 - 48);
    ck_assert_uint_eq(slot(0), 0x18);
    ck_assert_uint_eq(slot(1), 0x8000);
    ck_assert_uint_eq(slot(2), KCODE);
    ck_assert_uint_eq(slot(3), 2 | FL_IF | FL_TF | FL_NT | FL_CF | FL_OF | FL_RF);
    ck_assert_uint_eq(slot(4), 0x30008);
    ck_assert_uint_eq(slot(5), KDATA);
    ck_assert_uint_eq(cpu_rflags(c), 2 | FL_CF | FL_OF);
    ck_assert_uint_eq(c->seg[SEG_SS].sel, KDATA);
}
END_TEST

START_TEST(an_exception_in_ring_3_takes_the_stack_of_the_tss) {
    fix_long();
    fix_user();
    struct cpu *c = fx.cpu;
    gate_set(VEC_UD, KCODE, HANDLER, 15, 0, 0);
    cpu_set_rflags(c, 2 | FL_IF);
    ck_assert_int_eq(fault(VEC_UD, -1), CPU_JUMP);
    ck_assert_uint_eq(c->cpl, 0);
    ck_assert_uint_eq(c->gpr[R_SP], 0x28000 - 40);
    ck_assert_uint_eq(slot(0), 0x8000);
    ck_assert_uint_eq(slot(1), UCODE | 3);
    ck_assert_uint_eq(slot(4), UDATA | 3);
    ck_assert_uint_eq(c->seg[SEG_SS].sel, 0);
    ck_assert(c->seg[SEG_SS].attr & ATTR_UNUSABLE);
    ck_assert(c->sys_flags & FL_IF); /* a trap gate */
    ck_assert(!(c->mode & MODE_CPL3));
}
END_TEST

START_TEST(a_gate_with_an_ist_takes_that_stack) {
    fix_long();
    gate_set(VEC_DF, KCODE, HANDLER, 14, 0, 1);
    ck_assert_int_eq(fault(VEC_DF, 0), CPU_JUMP);
    ck_assert_uint_eq(fx.cpu->gpr[R_SP], 0x2a000 - 48);
    ck_assert_uint_eq(fx.cpu->seg[SEG_SS].sel, KDATA);
}
END_TEST

static struct event event(unsigned vector, unsigned kind) {
    return (struct event){
        .vector = (uint8_t)vector, .kind = (uint8_t)kind, .rip = 0x8002};
}

START_TEST(a_bad_gate_faults_with_its_selector) {
    fix_long();
    struct cpu *c = fx.cpu;
    struct event soft = event(0x40, EVENT_SOFT), ext = event(0x40, EVENT_EXTERNAL);
    const uint32_t gate = 0x40 * 8 + 2;
    ck_fault(event_deliver(c, &soft), VEC_GP, gate); /* an empty gate */
    ck_fault(event_deliver(c, &ext), VEC_GP, gate + 1);
    gate_set(0x40, KCODE, HANDLER, 12, 0, 0); /* a call gate */
    ck_fault(event_deliver(c, &soft), VEC_GP, gate);
    gate_set(0x40, KCODE, HANDLER, 14, 0, 0);
    ram_put(IDT + 0x40 * 16 + 5, 0x0e, 1);
    ck_fault(event_deliver(c, &soft), VEC_NP, gate);
    ck_fault(event_deliver(c, &ext), VEC_NP, gate + 1);
    gate_set(0x40, 0, HANDLER, 14, 0, 0);
    ck_fault(event_deliver(c, &soft), VEC_GP, 0);
    ck_fault(event_deliver(c, &ext), VEC_GP, 1);
    gate_set(0x40, KDATA, HANDLER, 14, 0, 0);
    ck_fault(event_deliver(c, &ext), VEC_GP, KDATA + 1);
    gate_set(0x40, KCODE32, HANDLER, 14, 0, 0);
    ck_fault(event_deliver(c, &soft), VEC_GP, KCODE32);
    gate_set(0x40, UCODE, HANDLER, 14, 0, 0); /* DPL 3 > CPL 0 */
    ck_fault(event_deliver(c, &soft), VEC_GP, UCODE);
    gate_set(0x40, 0x1000, HANDLER, 14, 0, 0);
    ck_fault(event_deliver(c, &ext), VEC_GP, 0x1001);
    gate_set(0x40, KCODE, 1ull << 47, 14, 0, 0);
    ck_fault(event_deliver(c, &soft), VEC_GP, 0);
    gate_set(0x40, KCODE, HANDLER, 14, 0, 0);
    c->gpr[R_SP] = 1ull << 47 | 0x1000;
    ck_fault(event_deliver(c, &soft), VEC_SS, 0);
    c->idtr.limit = 0x40 * 16 + 14;
    ck_fault(event_deliver(c, &soft), VEC_GP, gate);
    /* INT n from ring 3 through a gate of DPL 0; INT1 does not ask. */
    c->idtr.limit = 0xfff;
    fix_user();
    ck_fault(event_deliver(c, &soft), VEC_GP, gate);
    struct event icebp = event(0x40, EVENT_ICEBP);
    ck_assert_int_eq(event_deliver(c, &icebp), CPU_JUMP);
}
END_TEST

START_TEST(a_short_tss_is_an_invalid_tss_fault) {
    fix_long();
    fix_user();
    gate_set(0x40, KCODE, HANDLER, 14, 3, 0);
    struct event soft = event(0x40, EVENT_SOFT);
    fx.cpu->seg[SEG_TR].limit = 10;
    ck_fault(event_deliver(fx.cpu, &soft), VEC_TS, TSS_SEL);
}
END_TEST

START_TEST(delivery_sets_the_code_segments_accessed_bit) {
    fix_long();
    gdt_set(KCODE, make_desc(0, ~0u, A_CODE64 & ~1u));
    gate_set(VEC_UD, KCODE, HANDLER, 14, 0, 0);
    ck_assert_int_eq(fault(VEC_UD, -1), CPU_JUMP);
    ck_assert_uint_eq(ram_get(GDT + KCODE + 5, 1), 0x9b);
}
END_TEST

START_TEST(page_fault_sets_cr2) {
    fix_long();
    gate_set(VEC_PF, KCODE, HANDLER, 14, 0, 0);
    fx.cpu->fault = (struct pn_fault){VEC_PF, true, 6, 0x1234567, 0};
    ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
    ck_assert_uint_eq(fx.cpu->cr2, 0x1234567);
    ck_assert_uint_eq(slot(0), 6);
    ck_assert_uint_eq(fx.stats.v[PN_STAT_exceptions], 1);
}
END_TEST

/* Which pairs make a double fault (SDM, "Conditions for Generating a Double Fault"). */
START_TEST(two_contributory_faults_make_a_double_fault) {
    fix_long();
    struct cpu *c = fx.cpu;
    gate_set(VEC_DF, KCODE, 0x1000, 14, 0, 0);
    gate_set(VEC_GP, KCODE, 0x2000, 14, 0, 0);
    /* #GP from the empty gates of: benign #UD, contributory #NP, page fault. */
    ck_assert_int_eq(fault(VEC_UD, -1), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x2000);
    ck_assert_uint_eq(slot(0), VEC_UD * 8 + 3);
    ck_assert_int_eq(fault(VEC_NP, 8), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x1000);
    ck_assert_uint_eq(slot(0), 0);
    c->fault = (struct pn_fault){VEC_PF, true, 2, 0x5555, 0};
    ck_assert_int_eq(cpu_deliver_fault(c), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x1000);
    ck_assert_uint_eq(c->cr2, 0x5555);
    /* A contributory fault, then a page fault: no double fault. */
    gate_set(VEC_PF, KCODE, 0x3000, 14, 0, 1);
    gate_set(VEC_NP, KCODE, 0x4000, 14, 0, 0);
    ram_put(PT + 8, 0, 8);
    pn_mmu_invlpg(c->vmmu, PAGES + 0x1000);
    c->gpr[R_SP] = PAGES + 0x1800;
    ck_assert_int_eq(fault(VEC_NP, 8), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x3000);
    ck_assert_uint_eq(c->cr2, PAGES + 0x1800 - 8); /* SS is pushed first */
    ck_assert_uint_eq(slot(0), PN_PF_WRITE);
    /* Page fault upon page fault. */
    gate_set(VEC_PF, KCODE, 0x3000, 14, 0, 0);
    gate_set(VEC_DF, KCODE, 0x1000, 14, 0, 1);
    c->gpr[R_SP] = PAGES + 0x1800;
    c->fault = (struct pn_fault){VEC_PF, true, 2, 0x5555, 0};
    ck_assert_int_eq(cpu_deliver_fault(c), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x1000);
    ck_assert_uint_eq(c->cr2, PAGES + 0x1800 - 8);
}
END_TEST

/* With and without an error code; some words of the frame are in a page that is there. */
START_TEST(the_first_push_that_cannot_be_faults) {
    for (unsigned error = 0; error < 2; error++)
        for (unsigned above = 0; above < 6; above += 2) { /* words */
            unsigned vector = error ? VEC_NP : VEC_UD;
            fix_long();
            gate_set(VEC_PF, KCODE, 0x3000, 14, 0, 1);
            gate_set(vector, KCODE, 0x4000, 14, 0, 0);
            ram_put(PT + 8, 0, 8);
            pn_mmu_invlpg(fx.cpu->vmmu, PAGES + 0x1000);
            fx.cpu->gpr[R_SP] = PAGES + 0x2000 + above * 8;
            ck_assert_int_eq(fault(vector, error ? 8 : -1), CPU_JUMP);
            ck_assert_uint_eq(fx.cpu->rip, 0x3000);
            ck_assert_uint_eq(fx.cpu->cr2, PAGES + 0x2000 - 8);
            if (above)
                ck_assert_uint_eq(ram_get(PAGES + 0x2000 + above * 8 - 8, 8), KDATA);
        }
}
END_TEST

START_TEST(a_fault_without_an_idt_shuts_down) {
    fix_long();
    uint64_t rsp = fx.cpu->gpr[R_SP];
    fx.cpu->idtr.limit = 0;
    ck_assert_int_eq(fault(VEC_UD, -1), CPU_SHUTDOWN);
    ck_assert_ptr_nonnull(fx.cpu->fault_name);
    ck_assert_uint_eq(fx.cpu->rip, 0x8000);
    ck_assert_uint_eq(fx.cpu->gpr[R_SP], rsp);
}
END_TEST

START_TEST(endless_faults_take_time) {
    fix_long();
    gate_set(VEC_UD, KCODE, 0x8000, 14, 0, 1);
    uint64_t before = cpu_insns(fx.cpu);
    for (unsigned i = 0; i < 100; i++)
        ck_assert_int_eq(fault(VEC_UD, -1), CPU_JUMP);
    ck_assert_uint_gt(cpu_insns(fx.cpu), before + 30);
    ck_assert_uint_lt(cpu_insns(fx.cpu), before + 40);
}
END_TEST

/* ---- Pending events ---- */

static void retire(unsigned n) {
    fx.cpu->budget -= n;
}

START_TEST(sti_shadows_one_instruction) {
    fix_long();
    struct cpu *c = fx.cpu;
    struct insn in = insn_new(8);
    gate_set(0x31, KCODE, HANDLER, 14, 0, 0);
    fx.irq = 0x31;
    ck_assert_int_eq(op_sti(c, &in), CPU_NEXT); /* nothing waits */
    c->intr_line = 1;
    op_cli(c, &in);
    ck_assert_int_eq(op_sti(c, &in), CPU_STOP);
    retire(1);
    ck_assert(cpu_shadowed(c));
    ck_assert_int_eq(cpu_poll_events(c), CPU_NEXT);
    retire(1);
    ck_assert_int_eq(cpu_poll_events(c), CPU_JUMP);
    ck_assert_uint_eq(c->rip, HANDLER);
    ck_assert(!(c->sys_flags & FL_IF));
    ck_assert_uint_eq(slot(2) & FL_RF, 0);
    fx.irq = 0x31;
    ck_assert_int_eq(cpu_poll_events(c), CPU_NEXT); /* IF is clear; the line stays */
    ck_assert_uint_eq(c->intr_line, 1);
    fx.irq = -1;
    ck_assert_int_eq(cpu_poll_events(c), CPU_NEXT); /* nothing waits: it goes */
    ck_assert_uint_eq(c->intr_line, 0);
    c->intr_line = 1;
    op_sti(c, &in);
    retire(2);
    ck_assert_int_eq(cpu_poll_events(c), CPU_NEXT); /* spurious: the line goes */
    ck_assert_uint_eq(c->intr_line, 0);
    /* STI with IF already set casts no shadow. */
    ck_assert_int_eq(op_sti(c, &in), CPU_NEXT);
    retire(1);
    ck_assert(!cpu_shadowed(c));
}
END_TEST

START_TEST(nmi_blocks_until_iret) {
    fix_long();
    struct cpu *c = fx.cpu;
    gate_set(VEC_NMI, KCODE, HANDLER, 14, 0, 0);
    c->nmi_pending = 1;
    c->halted = 1;
    ck_assert_int_eq(cpu_poll_events(c), CPU_JUMP);
    ck_assert_uint_eq(c->halted, 0);
    c->nmi_pending = 1;
    ck_assert_int_eq(cpu_poll_events(c), CPU_NEXT);
    struct insn in = insn_new(8);
    ck_assert_int_eq(op_iret(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x8000);
    ck_assert_int_eq(cpu_poll_events(c), CPU_JUMP);
}
END_TEST

START_TEST(an_nmi_waits_for_the_instruction_behind_sti) {
    fix_long();
    struct cpu *c = fx.cpu;
    struct insn in = insn_new(8);
    gate_set(VEC_NMI, KCODE, HANDLER, 14, 0, 0);
    c->sys_flags &= ~(uint64_t)FL_IF;
    c->nmi_pending = 1;
    op_sti(c, &in);
    retire(1);
    ck_assert_int_eq(cpu_poll_events(c), CPU_NEXT);
    retire(1);
    ck_assert_int_eq(cpu_poll_events(c), CPU_JUMP);
    ck_assert_uint_eq(c->rip, HANDLER);
}
END_TEST

START_TEST(what_another_engine_had_begun_is_delivered_first) {
    fix_long();
    struct cpu *c = fx.cpu;
    gate_set(VEC_PF, KCODE, HANDLER, 14, 0, 0);
    gate_set(0x31, KCODE, HANDLER, 14, 0, 0);
    c->nmi_pending = 1;
    c->inject.any = 1;
    c->inject.exception = VEC_PF;
    c->inject.has_error = c->inject.has_payload = 1;
    c->inject.error = PN_PF_WRITE;
    c->inject.payload = 0x123456;
    c->inject.interrupt = 0x31;
    ck_assert(cpu_attention(c));
    ck_assert_int_eq(cpu_poll_events(c), CPU_JUMP);
    ck_assert_uint_eq(c->cr2, 0x123456);
    ck_assert_uint_eq(slot(0), PN_PF_WRITE);
    ck_assert_uint_eq(slot(1), 0x8000);
    ck_assert_int_eq(cpu_poll_events(c), CPU_JUMP); /* the interrupt, IF or not */
    ck_assert_uint_eq(slot(0), HANDLER);
    ck_assert_uint_eq(c->inject.any, 0);
    ck_assert_uint_eq(c->nmi_pending, 1);
}
END_TEST

START_TEST(a_page_fault_without_payload_keeps_cr2) {
    fix_long();
    struct cpu *c = fx.cpu;
    gate_set(VEC_PF, KCODE, HANDLER, 14, 0, 0);
    c->cr2 = 0x777000;
    c->inject.any = 1;
    c->inject.exception = VEC_PF;
    c->inject.interrupt = -1;
    ck_assert_int_eq(cpu_poll_events(c), CPU_JUMP);
    ck_assert_uint_eq(c->cr2, 0x777000);
    ck_assert_uint_eq(c->inject.any, 0);
}
END_TEST

START_TEST(a_debug_trap_comes_before_an_nmi) {
    fix_long();
    struct cpu *c = fx.cpu;
    gate_set(VEC_DB, KCODE, 0x1000, 14, 0, 0);
    gate_set(VEC_NMI, KCODE, 0x2000, 14, 0, 0);
    c->nmi_pending = 1;
    cpu_insn_done(c, MODE_TF);
    ck_assert_int_eq(cpu_poll_events(c), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x1000);
    ck_assert_uint_eq(c->dr[6], DR6_FIXED | DR6_BS);
    ck_assert_uint_eq(slot(2) & FL_RF, 0);
    ck_assert_int_eq(cpu_poll_events(c), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x2000);
}
END_TEST

/* ---- Debug registers ---- */

START_TEST(int1_takes_the_data_breakpoint_that_mov_ss_held_back) {
    fix_long();
    struct cpu *c = fx.cpu;
    struct insn in = insn_new(8);
    gate_set(VEC_DB, KCODE, 0x1000, 14, 0, 0);
    gate_set(VEC_BP, KCODE, 0x2000, 14, 0, 0);
    for (unsigned k = 0; k < 2; k++) {
        in.arg = k ? VEC_BP : VEC_DB;
        c->dr[6] = DR6_FIXED;
        c->db_pending = 2;
        c->intr_shadow = PN_SHADOW_MOV_SS;
        c->shadow_at = cpu_insns(c);
        ck_assert_int_eq(op_int3(c, &in), CPU_JUMP);
        retire(1);
        ck_assert_uint_eq(c->rip, k ? 0x2000 : 0x1000);
        ck_assert_int_eq(cpu_poll_events(c), k ? CPU_JUMP : CPU_NEXT);
        ck_assert_uint_eq(c->rip, 0x1000);
        ck_assert_uint_eq(c->dr[6], DR6_FIXED | 2);
    }
}
END_TEST

START_TEST(rf_steps_over_a_code_breakpoint_once) {
    fix_long();
    struct cpu *c = fx.cpu;
    c->dr[1] = 0x8000;
    c->dr[7] = 0x400 | 4;
    cpu_update_mode(c);
    ck_assert(c->mode & MODE_SLOWMEM);
    ck_assert_int_eq(cpu_check_breakpoint(c), CPU_FAULT);
    gate_set(VEC_DB, KCODE, 0x1000, 14, 0, 0);
    ck_assert_int_eq(cpu_deliver_fault(c), CPU_JUMP);
    ck_assert_uint_eq(c->dr[6], DR6_FIXED | 2);
    /* The handler sets RF in the frame; IRET then steps over the breakpoint, once. */
    ram_put((uint32_t)c->gpr[R_SP] + 16, slot(2) | FL_RF, 8);
    struct insn in = insn_new(8);
    ck_assert_int_eq(op_iret(c, &in), CPU_JUMP);
    retire(1);
    ck_assert_int_eq(cpu_check_breakpoint(c), CPU_NEXT);
    ck_assert_uint_ne(cpu_rflags(c) & FL_RF, 0);
    retire(1);
    ck_assert_int_eq(cpu_check_breakpoint(c), CPU_FAULT);
    ck_assert_uint_eq(cpu_rflags(c) & FL_RF, 0);
}
END_TEST

START_TEST(a_data_breakpoint_hits_each_access_it_overlaps) {
    fix_long();
    struct cpu *c = fx.cpu;
    uint32_t v = 0;
    c->dr[0] = PAGES + 4;
    c->dr[7] = 0x400 | 1 | 1u << 16 | 3u << 18; /* write, 4 bytes */
    c->dr[3] = PAGES + 16;
    c->dr[7] |= 0x40 | 3ull << 28 | 2ull << 30; /* read or write, 8 bytes */
    cpu_update_mode(c);
    cpu_read_lin(c, PAGES + 4, &v, 4, PN_TLB_SUPER);
    cpu_write_lin(c, PAGES, &v, 4, PN_TLB_SUPER);
    cpu_write_lin(c, PAGES + 8, &v, 4, PN_TLB_SUPER);
    ck_assert_uint_eq(c->db_pending, 0);
    cpu_write_lin(c, PAGES + 2, &v, 4, PN_TLB_SUPER);
    ck_assert_uint_eq(c->db_pending, 1);
    cpu_read_lin(c, PAGES + 23, &v, 1, PN_TLB_SUPER);
    ck_assert_uint_eq(c->db_pending, 9);
    c->db_pending = 0;
    void *p;
    cpu_mem_prepare(c, PAGES + 7, 1, MEM_READ | MEM_WRITE, PN_TLB_SUPER, &p);
    ck_assert_uint_eq(c->db_pending, 1);
}
END_TEST

START_TEST(mov_ss_holds_debug_traps) {
    fix_long();
    struct cpu *c = fx.cpu;
    gate_set(VEC_DB, KCODE, 0x1000, 14, 0, 0);
    struct insn in = insn_new(2);
    in.op[0] = (struct operand){.kind = OP_SREG, .reg = SEG_SS, .size = 2};
    in.op[1] = (struct operand){.kind = OP_REG, .reg = R_AX, .size = 2};
    c->gpr[R_AX] = KDATA;
    c->sys_flags |= FL_TF;
    cpu_update_mode(c);
    uint32_t before = c->mode;
    c->db_pending = 1; /* a watchpoint on its operand */
    ck_assert_int_eq(op_mov_sreg(c, &in), CPU_STOP);
    retire(1);
    cpu_insn_done(c, before);
    ck_assert_uint_eq(c->db_pending, 1); /* its own single-step is lost */
    ck_assert_int_eq(cpu_poll_events(c), CPU_NEXT);
    retire(1);
    cpu_insn_done(c, before);
    ck_assert_int_eq(cpu_poll_events(c), CPU_JUMP);
    ck_assert_uint_eq(c->dr[6] & (DR6_BS | 15), DR6_BS | 1);
}
END_TEST

START_TEST(int_owes_no_step) {
    fix_long();
    struct cpu *c = fx.cpu;
    gate_set(0x80, KCODE, 0x1000, 14, 0, 0);
    c->sys_flags |= FL_TF;
    cpu_update_mode(c);
    uint32_t before = c->mode;
    struct insn in = insn_new(8);
    in.imm = 0x80;
    ck_assert_int_eq(op_int(c, &in), CPU_JUMP);
    ck_assert_uint_eq(slot(0), 0x8002);
    cpu_insn_done(c, before);
    ck_assert_uint_eq(c->db_pending, 0);
    cpu_insn_done(c, before);
    ck_assert_uint_eq(c->db_pending, DR6_BS);
}
END_TEST

START_TEST(init_keeps_vector_state_msrs_and_caching) {
    fix_long();
    struct cpu *c = fx.cpu;
    c->msr_lstar = 0x1234;
    c->xsave[FX_XMM] = 0x56;
    c->cr0 |= CR0_NW | CR0_CD;
    c->db_pending = DR6_BS;
    c->tsc_offset = 1000;
    cpu_init(c, false);
    ck_assert_uint_eq(c->halted, PN_RUNS);
    ck_assert_uint_eq(c->rip, 0xfff0);
    ck_assert_uint_eq(c->mode & MODE_PE, 0);
    ck_assert_uint_eq(c->cr0, CR0_ET | CR0_NW | CR0_CD);
    ck_assert_uint_eq(c->efer, 0);
    ck_assert_uint_eq(c->db_pending, 0);
    ck_assert_uint_eq(c->msr_lstar, 0x1234);
    ck_assert_uint_eq(c->xsave[FX_XMM], 0x56);
    ck_assert_int_eq(c->tsc_offset, 1000);
}
END_TEST

START_TEST(a_cpu_that_waits_for_sipi_takes_nothing_else) {
    fix_long();
    struct cpu *c = fx.cpu;
    cpu_init(c, true);
    c->nmi_pending = 1;
    cpu_unhalt(c);
    ck_assert_int_eq(cpu_poll_events(c), CPU_NEXT);
    ck_assert_uint_eq(c->halted, PN_WAITS_SIPI);
    cpu_sipi(c, 0x9f);
    ck_assert_uint_eq(c->seg[SEG_CS].base + c->rip, 0x9f000);
    ck_assert_uint_eq(c->halted, PN_RUNS);
    cpu_sipi(c, 0x77); /* it waits no more */
    ck_assert_uint_eq(c->seg[SEG_CS].base, 0x9f000);
}
END_TEST

SUITE("cpu events", .setup = fix_create, .teardown = fix_destroy,
      .tests = {an_exception_in_ring_0_stays_on_its_aligned_stack,
                an_exception_in_ring_3_takes_the_stack_of_the_tss,
                a_gate_with_an_ist_takes_that_stack,
                a_bad_gate_faults_with_its_selector,
                a_short_tss_is_an_invalid_tss_fault,
                delivery_sets_the_code_segments_accessed_bit,
                page_fault_sets_cr2,
                two_contributory_faults_make_a_double_fault,
                the_first_push_that_cannot_be_faults,
                a_fault_without_an_idt_shuts_down,
                endless_faults_take_time,
                sti_shadows_one_instruction,
                nmi_blocks_until_iret,
                an_nmi_waits_for_the_instruction_behind_sti,
                what_another_engine_had_begun_is_delivered_first,
                a_page_fault_without_payload_keeps_cr2,
                a_debug_trap_comes_before_an_nmi,
                int1_takes_the_data_breakpoint_that_mov_ss_held_back,
                rf_steps_over_a_code_breakpoint_once,
                a_data_breakpoint_hits_each_access_it_overlaps,
                mov_ss_holds_debug_traps,
                int_owes_no_step,
                init_keeps_vector_state_msrs_and_caching,
                a_cpu_that_waits_for_sipi_takes_nothing_else})
