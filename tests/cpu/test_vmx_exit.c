/* SPDX-License-Identifier: MIT */
/*
 * VMX: which events of L2's exit and what the exits say, injection, EPT, and VMCSs of random
 * bytes.
 */
#include "fixture_vmx.h"

/* ---- Events ---- */

static void deliver(uint8_t vector, bool has_error, uint32_t error, uint64_t address) {
    fx.cpu->fault = (struct pn_fault){vector, has_error, error, address, 0};
    ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
}

START_TEST(an_exception_exits_by_its_vector_with_its_code) {
    vx_put(EXCEPTIONS, 1u << VEC_GP);
    vx_enter();
    deliver(VEC_GP, true, 0x55, 0);
    vx_left(0);
    ck_assert_uint_eq(vx_get(EVENT), VALID | 1u << 11 | 3u << 8 | VEC_GP);
    ck_assert_uint_eq(vx_get(EVENT_ERROR), 0x55);
    ck_assert_uint_eq(vx_get(VECTORING), 0);
}
END_TEST

START_TEST(page_faults_exit_by_mask_and_match) {
    gate_set(VEC_PF, KCODE, 0xa000, 14, 0, 0);
    for (unsigned i = 0; i < 8; i++) {
        bool bit = i & 1, match = i & 2, write = i & 4;
        vx_fill();
        vx_put(EXCEPTIONS, bit ? 1u << VEC_PF : 0);
        vx_put(PF_MASK, PN_PF_WRITE);
        vx_put(PF_MATCH, match ? PN_PF_WRITE : 0);
        vx_enter();
        fx.cpu->cr2 = 1;
        deliver(VEC_PF, true, write ? 7 : 5, 0xabc000);
        bool exits = bit == (write == match);
        ck_assert_uint_eq(fx.cpu->vmx.guest, !exits);
        ck_assert_uint_eq(fx.cpu->cr2, exits ? 1 : 0xabc000);
        vx_leave();
        if (exits)
            ck_assert_uint_eq(vx_get(QUALIFICATION), 0xabc000);
    }
}
END_TEST

START_TEST(an_injected_event_is_delivered_before_l2_begins) {
    gate_set(VEC_GP, KCODE, 0xa000, 14, 0, 0);
    vx_put(EXCEPTIONS, 1u << VEC_GP); /* the bitmap is not for what is injected */
    vx_put(INJECT, VALID | 1u << 11 | 3u << 8 | VEC_GP);
    vx_put(INJECT_ERROR, 0x55);
    ck_assert_int_eq(vx_launch(), CPU_JUMP);
    ck_assert_uint_eq(fx.cpu->vmx.guest, 1);
    ck_assert_uint_eq(fx.cpu->rip, 0xa000);
    ck_assert_uint_eq(ram_get((uint32_t)fx.cpu->gpr[R_SP], 8), 0x55);
    ck_assert_uint_eq(ram_get((uint32_t)fx.cpu->gpr[R_SP] + 8, 8), GUEST);
    vx_leave();
    gate_set(0x80, KCODE, 0xb000, 14, 3, 0);
    vx_fill();
    vx_put(INJECT, VALID | 4u << 8 | 0x80); /* INT n */
    vx_put(INJECT_LEN, 2);
    ck_assert_int_eq(vx_launch(), CPU_JUMP);
    ck_assert_uint_eq(fx.cpu->rip, 0xb000);
    ck_assert_uint_eq(ram_get((uint32_t)fx.cpu->gpr[R_SP], 8), GUEST + 2);
}
END_TEST

START_TEST(what_interrupts_a_delivery_tells_of_it) {
    vx_put(0x4812, 0); /* no IDT */
    vx_put(EXCEPTIONS, 1u << VEC_GP);
    vx_put(INJECT, VALID | 4u << 8 | 0x80);
    vx_put(INJECT_LEN, 2);
    ck_assert_int_eq(vx_launch(), CPU_JUMP);
    vx_left(0);
    ck_assert_uint_eq(vx_get(VECTORING), VALID | 4u << 8 | 0x80);
    ck_assert_uint_eq(vx_get(LENGTH), 2);
    ck_assert_uint_eq(vx_get(INJECT) >> 31 & 1, 0);
}
END_TEST

START_TEST(double_and_triple_faults_exit_by_themselves) {
    vx_put(0x4812, 0);
    vx_put(EXCEPTIONS, 1u << VEC_DF);
    vx_enter();
    deliver(VEC_GP, true, 0, 0);
    vx_left(0);
    ck_assert_uint_eq(vx_get(EVENT) & 0xff, VEC_DF);
    ck_assert_uint_eq(vx_get(VECTORING), 0);
    vx_fill();
    vx_put(0x4812, 0);
    vx_enter();
    deliver(VEC_GP, true, 0, 0);
    vx_left(2);
}
END_TEST

START_TEST(an_interrupt_exits_acknowledged_or_not) {
    for (unsigned ack = 0; ack < 2; ack++) {
        vx_fill();
        vx_set(PIN, 1);
        vx_set(EXIT, ack ? 1u << 15 : 0);
        vx_enter(); /* with IF clear */
        fx.irq = 0x31;
        fx.cpu->intr_line = 1;
        cpu_poll_events(fx.cpu);
        vx_left(1);
        ck_assert_int_eq(fx.irq, ack ? -1 : 0x31);
        ck_assert_uint_eq(vx_get(EVENT), ack ? VALID | 0x31 : 0);
        fx.irq = -1;
    }
}
END_TEST

START_TEST(windows_open_when_nothing_blocks) {
    vx_set(PROC, 1u << 2);
    vx_enter();
    cpu_poll_events(fx.cpu);
    ck_assert_uint_eq(fx.cpu->vmx.guest, 1);
    ck_assert_uint_ne(fx.cpu->intr_line, 0); /* it will be asked again */
    fx.cpu->sys_flags |= FL_IF;
    cpu_poll_events(fx.cpu);
    vx_left(7);
    vx_fill();
    vx_set(PIN, 1u << 3 | 1u << 5);
    vx_set(PROC, 1u << 22);
    vx_put(BLOCKED, 8);
    vx_enter();
    cpu_poll_events(fx.cpu);
    ck_assert_uint_eq(fx.cpu->vmx.guest, 1);
    fx.cpu->nmi_blocked = 0;
    cpu_poll_events(fx.cpu);
    vx_left(8);
}
END_TEST

START_TEST(an_nmi_exits_and_blocks_others) {
    vx_set(PIN, 1u << 3);
    vx_enter();
    fx.cpu->nmi_pending = 1;
    cpu_poll_events(fx.cpu);
    vx_left(0);
    ck_assert_uint_eq(vx_get(EVENT), VALID | 2u << 8 | 2);
    ck_assert_uint_eq(fx.cpu->nmi_blocked, 1);
}
END_TEST

/* ---- EPT ---- */

START_TEST(ept_violations_say_what_was_asked_and_granted) {
    static const struct {
        pn_gva at;
        bool write;
        unsigned reason;
        uint64_t qualification;
    } each[] = {
        {PAGES + 0x1008, false, 48, 0x181},
        {PAGES + 0x1008, true, 48, 0x182},
        {PAGES + 0x2010, true, 48, 0x182 | 1 << 3},
        {PAGES + 0x5000, false, 48, 0x181 | 4 << 3},
        {PAGES + 0x6000, false, 49, 0},
    };
    for (unsigned i = 0; i < sizeof each / sizeof each[0]; i++) {
        uint64_t q = 7;
        vx_fill();
        vx_nest(0);
        vx_enter();
        enum cpu_rc rc = each[i].write
                             ? cpu_write_lin(fx.cpu, each[i].at, &q, 8, PN_TLB_SUPER)
                             : cpu_read_lin(fx.cpu, each[i].at, &q, 8, PN_TLB_SUPER);
        ck_assert_int_eq(rc, CPU_FAULT);
        ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
        vx_left(each[i].reason);
        ck_assert_uint_eq(vx_get(QUALIFICATION), each[i].qualification);
        ck_assert_uint_eq(vx_get(PHYSICAL), each[i].at);
        ck_assert_uint_eq(vx_get(LINEAR), each[i].reason == 48 ? each[i].at : 0);
    }
}
END_TEST

/* What was asked for (R W X), against each set of rights that an entry may grant. With mode-based
 * execute control L2's page, which is a user's, is executed by the right of its own. */
START_TEST(each_right_is_told_of_each_access) {
    static const uint8_t rights[] = {0, 1, 3, 4, 5, 7};
    for (unsigned mbec = 0; mbec < 2; mbec++)
        for (unsigned i = 0; i < sizeof rights * 2; i++)
            for (unsigned access = 0; access < 3; access++) {
                unsigned r = rights[i / 2], xu = mbec && i & 1;
                uint64_t q = 7;
                uint8_t *code;
                pn_gpa gpa;
                bool allowed = access < 2 ? r >> access & 1 : mbec ? xu : r & 4;
                if (allowed || (!mbec && i & 1))
                    continue;
                vx_fill();
                vx_nest(0);
                vx_set(PROC2, mbec << 22);
                ram_put(EPT, (EPT + 0x1000) | 0x407, 8);
                ram_put(EPT + 0x1000, (EPT + 0x2000) | 0x407, 8);
                ram_put(EPT + 0x2008, (EPT + 0x3000) | 0x407, 8);
                ram_put(EPT + 0x3038,
                        r || xu ? (PAGES + 0x7000) | r | xu << 10 | 0x30 : 0, 8);
                vx_enter();
                enum cpu_rc rc =
                    access == 2 ? cpu_fetch_page(fx.cpu, PAGES + 0x7000, &code, &gpa)
                    : access == 1
                        ? cpu_write_lin(fx.cpu, PAGES + 0x7010, &q, 8, PN_TLB_SUPER)
                        : cpu_read_lin(fx.cpu, PAGES + 0x7010, &q, 8, PN_TLB_SUPER);
                ck_assert_int_eq(rc, CPU_FAULT);
                ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
                vx_left(48);
                q = vx_get(QUALIFICATION);
                ck_assert_msg(q == (0x180u | 1u << access | r << 3 | xu << 6),
                              "%u of %u, %u: %llx", access, r, xu, (unsigned long long)q);
            }
}
END_TEST

/* The access that faults is one of IRET's, which has unblocked NMIs. */
START_TEST(an_iret_that_faults_tells_that_it_unblocked_nmis) {
    static const unsigned pins[] = {0, 1u << 3 | 1u << 5, 1u << 3};
    for (unsigned i = 0; i < 12; i++) {
        struct insn in = vx_insn(0);
        bool blocked = i & 1, violates = i & 2;
        vx_fill();
        if (violates)
            vx_nest(0);
        else
            ram_put(PT + 8, 0, 8); /* a page fault in L2's own tables */
        vx_set(PIN, pins[i / 4]);
        vx_put(EXCEPTIONS, 1u << VEC_PF);
        vx_put(0x681c, PAGES + 0x1100);
        vx_put(BLOCKED, blocked ? 8 : 0);
        vx_enter();
        fx.cpu->gpr[R_SP] = PAGES + 0x1100;
        ck_assert_int_eq(vx_run(op_iret, &in), CPU_FAULT);
        ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
        vx_left(violates ? 48 : 0);
        uint64_t word = vx_get(violates ? QUALIFICATION : EVENT);
        ck_assert_uint_eq(word >> 12 & 1, blocked && i / 4 < 2);
        ck_assert_uint_eq(vx_get(BLOCKED), blocked && i / 4 == 2 ? 8 : 0);
        ram_put(PT + 8, (PAGES + 0x1000) | 7, 8);
        fx.cpu->nmi_blocked = 0;
    }
}
END_TEST

START_TEST(what_may_be_executed_alone_is_not_read) {
    uint8_t *code;
    pn_gpa gpa;
    uint64_t q;
    vx_nest(0);
    vx_enter();
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(cpu_fetch_page(fx.cpu, PAGES + 0x5000, &code, &gpa), CPU_NEXT);
    ck_assert_uint_eq(gpa, PAGES + 0x5000);
    ck_assert_int_eq(cpu_read_lin(fx.cpu, PAGES + 0x5000, &q, 8, PN_TLB_SUPER),
                     CPU_FAULT);
}
END_TEST

START_TEST(references_to_tables_are_told_apart) {
    for (unsigned ad = 0; ad < 2; ad++) {
        uint64_t q;
        vx_fill();
        vx_nest(ad ? 0x40 : 0);
        /* L2's tables: what maps PAGES lies in the page that is absent. */
        ram_put(PAGES + 0x4000, ram_get(0x1000, 8), 8);
        ram_put(0x2000, ram_get(0x2000, 8), 8);
        vx_put(0x6802, PAGES + 0x1000);
        vx_enter();
        ck_assert_int_eq(cpu_read_lin(fx.cpu, 0x5008, &q, 8, PN_TLB_SUPER), CPU_FAULT);
        cpu_deliver_fault(fx.cpu);
        vx_left(48);
        ck_assert_uint_eq(vx_get(QUALIFICATION), ad ? 0x83 : 0x81);
        ck_assert_uint_eq(vx_get(LINEAR), 0x5008);
        ck_assert_uint_eq(vx_get(PHYSICAL), PAGES + 0x1000);
    }
}
END_TEST

START_TEST(l2_reads_where_both_tables_lead_and_sees_changes_after_invept) {
    uint64_t q;
    struct insn in = vx_memory(16);
    in.op[0] = (struct operand){.kind = OP_REG, .reg = 11, .size = 8};
    vx_nest(0x40);
    ram_put(PAGES + 0x4000, 0x1111, 8);
    ram_put(PAGES + 0x7000, 0x2222, 8);
    vx_enter();
    ck_assert_int_eq(cpu_read_lin(fx.cpu, PAGES + 0x3000, &q, 8, PN_TLB_SUPER), CPU_NEXT);
    ck_assert_uint_eq(q, 0x1111);
    ck_assert_uint_eq(ram_get(EPT + 0x3018, 8) >> 8 & 3, 1); /* A, and not D */
    ck_assert_uint_eq(ram_get(EPT + 0x2000, 8) >> 8 & 3,
                      3); /* the guest's tables are there */
    vx_leave();
    ck_assert_int_eq(cpu_read_lin(fx.cpu, PAGES + 0x4000, &q, 8, PN_TLB_SUPER), CPU_NEXT);
    ram_put(EPT + 0x3018, (PAGES + 0x7000) | 0x37, 8);
    fx.cpu->gpr[11] = 1;
    ram_put(OPERAND, EPT | 0x5e, 8);
    ram_put(OPERAND + 8, 0, 8);
    vx_ok(op_invept(fx.cpu, &in));
    in = insn_new(8);
    in.arg = 1;
    ck_assert_int_eq(op_vmlaunch(fx.cpu, &in), CPU_JUMP);
    ck_assert_int_eq(cpu_read_lin(fx.cpu, PAGES + 0x3000, &q, 8, PN_TLB_SUPER), CPU_NEXT);
    ck_assert_uint_eq(q, 0x2222);
}
END_TEST

/* ---- What spares exits, and makes them ---- */

START_TEST(cr8_is_the_virtual_tpr_down_to_its_threshold) {
    struct insn in = vx_mov(false, 8, true);
    vx_set(PROC, 1u << 21);
    vx_put(0x2012, LIST);
    vx_put(0x401c, 3);
    vx_fails(vx_launch(), 7); /* it lies below already */
    ram_put(LIST + 0x80, 0x50, 1);
    vx_enter();
    fx.cpu->gpr[11] = 4;
    ck_assert_int_eq(vx_run(op_mov_cr, &in), CPU_STOP);
    ck_assert_uint_eq(ram_get(LIST + 0x80, 1), 0x40);
    struct insn read = vx_mov(false, 8, false);
    vx_run(op_mov_cr, &read);
    ck_assert_uint_eq(fx.cpu->gpr[11], 4);
    fx.cpu->gpr[11] = 16;
    ck_fault(vx_run(op_mov_cr, &in), VEC_GP, 0);
    fx.cpu->gpr[11] = 2;
    ck_assert_int_eq(vx_run(op_mov_cr, &in), CPU_STOP);
    ck_assert_uint_ne(cpu_attention(fx.cpu), 0); /* the exit comes behind it */
    cpu_poll_events(fx.cpu);
    vx_left(43);
}
END_TEST

START_TEST(the_trap_flag_exits_behind_one_instruction) {
    gate_set(0x80, KCODE, 0xb000, 14, 3, 0);
    vx_set(PROC, 1u << 27);
    vx_enter();
    cpu_poll_events(fx.cpu);
    ck_assert_uint_eq(fx.cpu->vmx.guest, 1);
    cpu_insn_done(fx.cpu, fx.cpu->mode);
    cpu_poll_events(fx.cpu);
    vx_left(37);
    vx_fill();
    vx_put(INJECT, VALID | 7u << 8); /* one that is owed, without the control */
    ck_assert_int_eq(vx_launch(), CPU_JUMP);
    cpu_poll_events(fx.cpu);
    vx_left(37);
    vx_fill();
    vx_set(PROC, 1u << 27);
    vx_put(INJECT, VALID | 4u << 8 | 0x80);
    ck_assert_int_eq(vx_launch(), CPU_JUMP);
    cpu_poll_events(fx.cpu);
    vx_left(37);
    ck_assert_uint_eq(vx_get(RIP), 0xb000); /* the delivery is done */
}
END_TEST

START_TEST(an_init_waits_in_l1_and_exits_from_l2) {
    ck_assert(!cpu_init(fx.cpu, true));
    ck_assert_uint_eq(fx.cpu->vmx.on, 1);
    vx_enter();
    cpu_poll_events(fx.cpu);
    vx_left(3);
    ck_assert(!cpu_init(fx.cpu, true));
    ck_assert_int_eq(op_vmxoff(fx.cpu, &(struct insn){.len = 3}), CPU_JUMP);
    ck_assert_uint_eq(fx.cpu->halted, PN_WAITS_SIPI);
    ck_assert_uint_eq(fx.cpu->cr4, 0);
}
END_TEST

START_TEST(shadowed_fields_are_those_of_the_linked_vmcs) {
    struct insn in = insn_reg(8, 11, 8);
    in.op[1] = (struct operand){.kind = OP_REG, .reg = 10, .size = 8};
    in.op_count = 2;
    ram_put(OTHER_AT, REVISION | 1u << 31, 4);
    vx_ok(vx_at(op_vmptrld, OTHER_AT));
    vx_put(RIP, 0x7654000);
    ck_assert_int_eq(vx_launch(), CPU_STOP); /* it is none that L2 can be entered with */
    vx_ok(vx_at(op_vmptrld, VMCS_AT));
    vx_set(PROC2, 1u << 14);
    vx_put(0x2026, IO_A);
    vx_put(0x2028, IO_B);
    vx_put(0x2800, OTHER_AT);
    ram_put(IO_A + RFLAGS / 8, 1u << (RFLAGS & 7), 1);
    vx_enter();
    fx.cpu->gpr[10] = RIP;
    ck_assert_int_eq(op_vmread(fx.cpu, &in), CPU_STOP);
    ck_assert_uint_eq(fx.cpu->gpr[11], 0x7654000);
    fx.cpu->gpr[10] = RFLAGS;
    op_vmread(fx.cpu, &in);
    vx_left(23);
    ck_assert_uint_eq(vx_get(INFO), 1u << 10 | 11u << 3 | 10u << 28);
}
END_TEST

START_TEST(vmfunc_switches_to_an_eptp_of_the_list) {
    struct insn in = vx_insn(0);
    in.op_count = 0;
    uint64_t q;
    ck_fault(op_vmfunc(fx.cpu, &in), VEC_UD, -1); /* in L1 */
    vx_nest(0x40);
    vx_set(PROC2, 1u << 13);
    vx_put(0x2018, 1);
    vx_put(0x2024, LIST);
    ram_put(EPT + 0x4000, ram_get(EPT, 8), 8); /* another root, for the same tables */
    ram_put(LIST + 8, (EPT + 0x4000) | 0x5e, 8);
    ram_put(LIST + 16, EPT | 0x5f, 8);
    vx_enter();
    fx.cpu->gpr[R_AX] = 0, fx.cpu->gpr[R_CX] = 1;
    ck_assert_int_eq(op_vmfunc(fx.cpu, &in), CPU_STOP);
    ck_assert_int_eq(cpu_read_lin(fx.cpu, PAGES + 0x3000, &q, 8, PN_TLB_SUPER), CPU_NEXT);
    ck_assert_uint_eq(ram_get(EPT + 0x4000, 8) >> 8 & 1, 1);
    for (unsigned i = 0; i < 3; i++) {
        static const uint64_t ask[][2] = {{1, 1}, {0, 512}, {0, 2}};
        if (!fx.cpu->vmx.guest) {
            vx_fill();
            vx_nest(0x40);
            vx_set(PROC2, 1u << 13);
            vx_put(0x2018, 1);
            vx_put(0x2024, LIST);
            vx_enter();
        }
        fx.cpu->gpr[R_AX] = ask[i][0], fx.cpu->gpr[R_CX] = ask[i][1];
        op_vmfunc(fx.cpu, &in);
        vx_left(59);
        if (!i)
            ck_assert_uint_eq(vx_get(0x201a), (EPT + 0x4000) | 0x5e);
    }
}
END_TEST

START_TEST(pages_that_become_dirty_are_logged_until_there_is_no_room) {
    uint64_t q = 7;
    vx_nest(0x40);
    ram_put(EPT + 0x2000, 0x3b7, 8); /* L2's tables are dirty already */
    vx_set(PROC2, 1u << 17);
    vx_put(0x200e, LIST);
    vx_put(0x812, 0);
    vx_enter();
    ck_assert_int_eq(cpu_write_lin(fx.cpu, PAGES + 0x4010, &q, 8, PN_TLB_SUPER),
                     CPU_NEXT);
    ck_assert_int_eq(cpu_write_lin(fx.cpu, PAGES + 0x4020, &q, 8, PN_TLB_SUPER),
                     CPU_NEXT);
    ck_assert_uint_eq(ram_get(LIST, 8), PAGES + 0x4000);
    ck_assert_int_eq(cpu_write_lin(fx.cpu, PAGES + 0x7010, &q, 8, PN_TLB_SUPER),
                     CPU_FAULT);
    cpu_deliver_fault(fx.cpu);
    vx_left(62);
    ck_assert_uint_eq(vx_get(0x812), 0xffff);
    ck_assert_uint_eq(ram_get(EPT + 0x3038, 8) >> 9 & 1, 0);
}
END_TEST

/* ---- Hostile ---- */

static const uint16_t fields[] = {
#define VMCS_FIELD(name, encoding) (encoding),
#include "cpu/vmx_fields.inc"
};
#define FIELDS (sizeof fields / sizeof fields[0])

static uint64_t rnd(uint64_t *s) {
    *s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
    return *s;
}

START_TEST(random_vmcss_end_in_l2_or_in_l1) {
    uint64_t seed = 0x9e3779b97f4a7c15 + (uint64_t)_i, entered = 0;
    for (unsigned round = 0; round < 500; round++) {
        if (rnd(&seed) & 1)
            vx_nest(0x40);
        unsigned changes = rnd(&seed) % 6;
        for (unsigned i = 0; i < changes; i++)
            vx_put(fields[rnd(&seed) % FIELDS],
                   rnd(&seed) & (rnd(&seed) & 1 ? ~0ull : rnd(&seed) & rnd(&seed)));
        enum cpu_rc rc = vx_launch();
        ck_assert(rc == CPU_JUMP || rc == CPU_SHUTDOWN || rc == CPU_STOP);
        entered += fx.cpu->vmx.guest;
        for (unsigned i = 0; fx.cpu->vmx.guest && i < 4; i++) {
            uint64_t q = rnd(&seed);
            pn_gva at = (rnd(&seed) & 0x3fffff) | (i == 3 ? rnd(&seed) : 0);
            if (cpu_write_lin(fx.cpu, at & ~7ull, &q, 8, cpu_tlb_mode(fx.cpu)) ==
                CPU_FAULT)
                cpu_deliver_fault(fx.cpu);
        }
        vx_leave();
        ck_assert_uint_eq(fx.cpu->vmx.guest, 0);
        vx_destroy();
        vx_create();
    }
    ck_assert_uint_gt(entered, 50);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("vmx_exit");
    TCase *t = fix_case("vmx_exit");
    tcase_add_checked_fixture(t, vx_create, vx_destroy);
    tcase_add_test(t, an_exception_exits_by_its_vector_with_its_code);
    tcase_add_test(t, page_faults_exit_by_mask_and_match);
    tcase_add_test(t, an_injected_event_is_delivered_before_l2_begins);
    tcase_add_test(t, what_interrupts_a_delivery_tells_of_it);
    tcase_add_test(t, double_and_triple_faults_exit_by_themselves);
    tcase_add_test(t, an_interrupt_exits_acknowledged_or_not);
    tcase_add_test(t, windows_open_when_nothing_blocks);
    tcase_add_test(t, an_nmi_exits_and_blocks_others);
    tcase_add_test(t, ept_violations_say_what_was_asked_and_granted);
    tcase_add_test(t, each_right_is_told_of_each_access);
    tcase_add_test(t, an_iret_that_faults_tells_that_it_unblocked_nmis);
    tcase_add_test(t, what_may_be_executed_alone_is_not_read);
    tcase_add_test(t, references_to_tables_are_told_apart);
    tcase_add_test(t, l2_reads_where_both_tables_lead_and_sees_changes_after_invept);
    tcase_add_test(t, cr8_is_the_virtual_tpr_down_to_its_threshold);
    tcase_add_test(t, the_trap_flag_exits_behind_one_instruction);
    tcase_add_test(t, an_init_waits_in_l1_and_exits_from_l2);
    tcase_add_test(t, shadowed_fields_are_those_of_the_linked_vmcs);
    tcase_add_test(t, vmfunc_switches_to_an_eptp_of_the_list);
    tcase_add_test(t, pages_that_become_dirty_are_logged_until_there_is_no_room);
    tcase_add_loop_test(t, random_vmcss_end_in_l2_or_in_l1, 0, 4);
    suite_add_tcase(suite, t);
    return fix_run(suite);
}
