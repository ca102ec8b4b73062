/* SPDX-License-Identifier: MIT */
/*
 * SVM: VMRUN, injection, interrupts, nested paging's exits, and VMCBs of random bytes.
 */
#include "cpu/control.h"
#include "fixture_svm.h"

/* ---- VMRUN itself ---- */

START_TEST(vmrun_needs_svme_ring_0_and_an_aligned_page) {
    struct insn in = insn_new(8);
    fx.cpu->gpr[R_AX] = VMCB + 8;
    ck_fault(op_vmrun(fx.cpu, &in), VEC_GP, 0);
    fx.cpu->gpr[R_AX] = 1ull << 46;
    ck_fault(op_vmrun(fx.cpu, &in), VEC_GP, 0);
    fx.cpu->gpr[R_AX] = VMCB;
    fx.cpu->cpl = 3;
    ck_fault(op_vmrun(fx.cpu, &in), VEC_GP, 0);
    fx.cpu->cpl = 0;
    fx.cpu->efer &= ~(uint64_t)0x1000;
    ck_fault(op_vmrun(fx.cpu, &in), VEC_UD, -1);
}
END_TEST

struct poke {
    unsigned at, size;
    uint64_t value;
};
/* Of VMCB and save area what the row says; the rest is as sv_fill makes it. */
static const struct row {
    struct poke poke[3];
    bool good;
} rows[] = {
    {{{MISC2, 4, 0}}, false},        /* VMRUN not intercepted */
    {{{0x58, 4, 0}}, false},         /* ASID 0 */
    {{{0x58, 4, 0xffffffff}}, true}, /* they are not counted */
    {{{0x5c, 1, 1}}, true},          /* TLB_CONTROL: all */
    {{{0x5c, 1, 2}}, false},
    {{{0x5c, 1, 3}}, true}, /* this guest's */
    {{{0x5c, 1, 4}}, false},
    {{{0x5c, 1, 7}}, true}, /* its own that are not global */
    {{{0x5c, 1, 8}}, false},
    {{{0x40, 8, (1ull << 46) - 0x3000}}, true},  /* IOPM ends with memory's limit */
    {{{0x40, 8, (1ull << 46) - 0x2000}}, false}, /* and beyond */
    {{{0x40, 8, ~0xfffull}}, false},             /* it wraps */
    {{{0x48, 8, (1ull << 46) - 0x3000}}, true},  /* MSRPM */
    {{{0x48, 8, (1ull << 46) - 0x2000}}, false},
    {{{0x48, 8, 1ull << 46}}, false},
    {{{0x90, 8, 1}, {0xb0, 8, 1ull << 46}}, false},         /* nCR3 */
    {{{0xb0, 8, 1ull << 46}}, true},                        /* without nested paging */
    {{{0x90, 8, 1}, {0xb0, 8, NPT}, {0x668, 8, 2}}, false}, /* its PAT: types 2, 3, 8 */
    {{{0x90, 8, 1}, {0xb0, 8, NPT}, {0x668, 8, 3ull << 56}}, false},
    {{{0x90, 8, 1}, {0xb0, 8, NPT}, {0x668, 8, 8u << 8}}, false},
    {{{0x90, 8, 1}, {0xb0, 8, NPT}, {0x668, 8, 0x0706050401000000}}, true},
    {{{0x668, 8, 2}}, true},           /* without nested paging */
    {{{0x4d0, 8, 0xd01}}, false},      /* EFER.SVME */
    {{{0x4d0, 8, 0x21d01}}, false},    /* EFER, a bit that must be 0 */
    {{{0x558, 8, 0xc0010011}}, true},  /* CR0.CD without NW */
    {{{0x558, 8, 0xa0010011}}, false}, /* NW without CD */
    {{{0x558, 8, 0xe0010011}}, true},
    {{{0x558, 8, 0x180010011}}, false},       /* CR0, upper half */
    {{{0x558, 8, 0x80010010}}, false},        /* long mode without PE */
    {{{0x550, 8, 1ull << 46}}, false},        /* CR3 */
    {{{0x548, 8, 0}}, false},                 /* long mode without PAE */
    {{{0x548, 8, 1ull << 40 | 0x20}}, false}, /* CR4 */
    {{{0x4d0, 8, 0x1801}, {0x548, 8, 1u << 17 | 0x20}}, false}, /* PCIDE in legacy mode */
    {{{0x558, 8, 0x11}, {0x548, 8, 1u << 17 | 0x20}}, false},
    {{{0x568, 8, 1ull << 32}}, false},            /* DR6 */
    {{{0x560, 8, 1ull << 32}}, false},            /* DR7 */
    {{{0x412, 2, 0xe9b}}, false},                 /* CS.L and CS.D: attributes G D L */
    {{{INJECT, 8, 1ull << 31 | 1u << 8}}, false}, /* types that are none */
    {{{INJECT, 8, 1ull << 31 | 5u << 8}}, false},
    {{{INJECT, 8, 1ull << 31 | 6u << 8}}, false},
    {{{INJECT, 8, 1ull << 31 | 7u << 8}}, false},
    {{{INJECT, 8, 1u << 8}}, true},                    /* not valid */
    {{{INJECT, 8, 1ull << 31 | 3u << 8 | 32}}, false}, /* no exception */
    {{{INJECT, 8, 1ull << 31 | 3u << 8 | 2}}, false},  /* NMI as an exception */
    /* ---- Edges that are passed ---- */
    {{{MISC2, 4, ~0u}}, true},
    {{{0x550, 8, (1ull << 46) - 0x1000}}, true},
    {{{0x548, 8, 0x200a0}}, true}, /* PCIDE in long mode */
    {{{0x4d0, 8, 0x1d01}}, true},
    {{{0x568, 8, ~0u}}, true},
    {{{0x560, 8, ~0u}}, true},
    {{{0x412, 2, 0xa9b}}, true},
};

/* What the rules of VMRUN are about, by offset (APM volume 2, "Canonicalization and Consistency
 * Checks"): for each there is a row that fails and one that enters. Those of shadow stacks are below. */
static const uint16_t checked[] = {MISC2, 0x40,  0x48,  0x58,  0x5c,  INJECT, 0xb0, 0x412,
                                   0x4d0, 0x548, 0x550, 0x558, 0x560, 0x568,  0x668};

START_TEST(what_is_checked_enters_and_fails) {
    for (unsigned i = 0; i < sizeof checked / sizeof checked[0]; i++) {
        unsigned enters = 0, fails = 0;
        for (unsigned k = 0; k < sizeof rows / sizeof rows[0]; k++)
            for (unsigned p = 0; p < 3; p++)
                if (rows[k].poke[p].size && rows[k].poke[p].at == checked[i])
                    *(rows[k].good ? &enters : &fails) += 1;
        ck_assert_msg(enters && fails, "at %#x: %u rows enter, %u fail", checked[i],
                      enters, fails);
    }
}
END_TEST

START_TEST(a_state_that_may_not_be_is_refused) {
    for (unsigned i = 0; i < 3 && rows[_i].poke[i].size; i++)
        sv_put(rows[_i].poke[i].at, rows[_i].poke[i].value, rows[_i].poke[i].size);
    ck_assert_int_eq(sv_vmrun(), CPU_JUMP);
    if (rows[_i].good)
        ck_assert_uint_eq(fx.cpu->svm.guest, 1);
    else
        sv_left(~0ull);
}
END_TEST

START_TEST(tlb_control_by_asid_needs_its_feature) {
    sv_destroy();
    sv_create_as("max,vendor=amd,+svm,-la57,-shstk,-flushbyasid");
    for (unsigned how = 0; how < 8; how++) {
        sv_fill();
        sv_put(0x5c, how, 1);
        fx.cpu->rip = 0x8000;
        ck_assert_int_eq(sv_vmrun(), CPU_JUMP);
        ck_assert_uint_eq(fx.cpu->svm.guest, how < 2);
        sv_leave();
    }
}
END_TEST

START_TEST(shadow_stacks_have_checks_of_their_own) {
    static const struct row each[] = {
        {{{0x548, 8, 1u << 23 | 0x20}}, false}, /* CR4.CET without CR0.WP */
        {{{0x548, 8, 1u << 23 | 0x20}, {0x558, 8, 0x80010011 | 1u << 16}}, true},
        {{{0x5e0, 8, 0x40}}, false}, /* S_CET, a reserved bit */
        {{{0x5e0, 8, 1}}, true},
        {{{0x5e8, 8, 1}}, false}, /* SSP is aligned to 4 */
        {{{0x5e8, 8, 1ull << 47}}, false},
        {{{0x5e8, 8, 0x30000}}, true},
        {{{0x5f0, 8, 1ull << 47}}, false}, /* the table's address */
        {{{0x5f0, 8, 0x30000}}, true},
    };
    sv_destroy();
    sv_create_as("max,vendor=amd,+svm,-la57");
    for (unsigned i = 0; i < sizeof each / sizeof each[0]; i++) {
        fx.cpu->cr0 &= ~CR0_WP;
        sv_fill();
        for (unsigned k = 0; k < 3 && each[i].poke[k].size; k++)
            sv_put(each[i].poke[k].at, each[i].poke[k].value, each[i].poke[k].size);
        fx.cpu->rip = 0x8000;
        ck_assert_int_eq(sv_vmrun(), CPU_JUMP);
        ck_assert_msg(fx.cpu->svm.guest == each[i].good, "row %u", i);
        if (each[i].good) {
            ck_assert_uint_eq(fx.cpu->msr_s_cet, sv_get(0x5e0));
            ck_assert_uint_eq(fx.cpu->ssp, sv_get(0x5e8));
            fx.cpu->msr_ssp_table = 0x8888;
            svm_exit(fx.cpu, 0x81, 0, 0, 0);
            ck_assert_uint_eq(sv_get(0x5f0), 0x8888);
        }
    }
}
END_TEST

/* Another vCPU can change what VMRUN saved of L1. */
START_TEST(a_host_state_that_is_none_shuts_down) {
    sv_enter();
    ram_put(HSAVE + 0x558, 0x180010011, 8); /* CR0, upper half */
    ck_assert_int_eq(svm_exit(fx.cpu, 0x81, 0, 0, 0), CPU_SHUTDOWN);
    ck_assert_uint_eq(fx.cpu->svm.guest, 0);
}
END_TEST

START_TEST(l1s_state_comes_back_and_l2s_is_saved) {
    struct cpu *c = fx.cpu;
    struct insn in = sv_insn(1);
    sv_put(MISC2, 3, 4);
    c->gpr[R_SP] = 0x31110;
    c->sys_flags |= FL_IF;
    c->tsc_offset = 100;
    sv_put(0x50, 5000, 8);
    sv_enter();
    ck_assert_int_eq(c->tsc_offset, 5100);
    ck_assert_uint_eq(c->sys_flags & FL_IF, 0);
    c->gpr[R_AX] = 0x1234, c->cr2 = 0x5678;
    sv_guarded(op_hypercall, &in);
    sv_left(0x81);
    ck_assert_int_eq(c->tsc_offset, 100);
    ck_assert_uint_eq(c->gpr[R_AX], VMCB);
    ck_assert_uint_eq(c->gpr[R_SP], 0x31110);
    ck_assert_uint_eq(c->sys_flags & FL_IF, FL_IF);
    ck_assert_uint_eq(sv_get(0x5f8), 0x1234);
    ck_assert_uint_eq(sv_get(0x640), 0x5678);
    ck_assert_uint_eq(sv_get(0x5d8), 0x38000);
}
END_TEST

/* Of RDTSC and of the MSR: L1's TSC times the ratio, and then the offset. L1's own is not multiplied. */
START_TEST(l2s_tsc_is_l1s_times_the_ratio_and_an_offset) {
    static const struct {
        uint64_t own, ratio, sees;
    } want[] = {{1000, 0x180000000, 1500 + 70},
                {1000, 0x080000000, 500 + 70},
                {0x123456789abcdef, UINT64_C(1) << 32, 0x123456789abcdef + 70},
                {UINT64_C(3) << 60, 0xff00000000, (UINT64_C(0xd) << 60) + 70},
                {3, 0x0ffffffff, 2 + 70}};
    struct cpu *c = fx.cpu;
    struct insn in = sv_insn(1);
    uint64_t value;
    ck_fault(msr_write(c, 0xc0000104, UINT64_C(1) << 40), VEC_GP, 0);
    sv_put(MISC2, 3, 4);
    for (unsigned i = 0; i < sizeof want / sizeof want[0]; i++) {
        uint64_t own = want[i].own;
        ck_assert_int_eq(msr_write(c, 0xc0000104, want[i].ratio), CPU_NEXT);
        sv_put(0x50, 70, 8);
        sv_enter();
        c->tsc_offset = (int64_t)(own - cpu_clock(c)) + 70;
        ck_assert_int_eq(op_rdtsc(c, &in), CPU_NEXT);
        ck_assert_uint_eq((uint64_t)(uint32_t)c->gpr[R_DX] << 32 | c->gpr[R_AX],
                          want[i].sees);
        ck_assert_int_eq(msr_read(c, MSR_TSC, &value), CPU_NEXT);
        ck_assert_uint_eq(value, want[i].sees);
        sv_guarded(op_hypercall, &in);
        sv_left(0x81);
        ck_assert_int_eq(msr_read(c, MSR_TSC, &value), CPU_NEXT);
        ck_assert_uint_eq(value, own);
    }
}
END_TEST

/* ---- Events ---- */

START_TEST(an_exception_exits_by_its_vector_with_its_code) {
    sv_put(8, 1u << VEC_PF | 1u << VEC_GP, 4);
    sv_enter();
    fx.cpu->fault = (struct pn_fault){VEC_PF, true, 6, 0xabc000, 0};
    fx.cpu->cr2 = 1;
    ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
    sv_left(0x40 + VEC_PF);
    ck_assert_uint_eq(sv_get(INFO1), 6);
    ck_assert_uint_eq(sv_get(INFO2), 0xabc000);
    ck_assert_uint_eq(sv_get(0x640), 1); /* CR2 is as it was */
    ck_assert_uint_eq(sv_get(INTINFO), 0);
}
END_TEST

START_TEST(an_injected_event_is_delivered_before_l2_begins) {
    gate_set(VEC_GP, KCODE, 0xa000, 14, 0, 0);
    sv_put(8, 1u << VEC_GP, 4); /* the intercept is not for what is injected */
    sv_put(INJECT, 1ull << 31 | 1u << 11 | 3u << 8 | VEC_GP | 0x55ull << 32, 8);
    fx.cpu->rip = 0x8000;
    ck_assert_int_eq(sv_vmrun(), CPU_JUMP);
    ck_assert_uint_eq(fx.cpu->svm.guest, 1);
    ck_assert_uint_eq(fx.cpu->rip, 0xa000);
    ck_assert_uint_eq(ram_get((uint32_t)fx.cpu->gpr[R_SP], 8), 0x55);
    ck_assert_uint_eq(ram_get((uint32_t)fx.cpu->gpr[R_SP] + 8, 8), GUEST);
}
END_TEST

START_TEST(an_injected_software_event_returns_to_where_nrip_says) {
    static const unsigned events[] = {3u << 8 | VEC_BP, 3u << 8 | VEC_OF, 4u << 8 | 0x80};
    for (unsigned i = 0; i < 3; i++) {
        sv_fill();
        gate_set((uint8_t)events[i], KCODE, 0xa000, 14, 0, 0);
        sv_put(INJECT, 1ull << 31 | events[i], 8);
        sv_put(0xc8, GUEST + 2, 8);
        fx.cpu->rip = 0x8000;
        ck_assert_int_eq(sv_vmrun(), CPU_JUMP);
        ck_assert_uint_eq(fx.cpu->rip, 0xa000);
        ck_assert_uint_eq(ram_get((uint32_t)fx.cpu->gpr[R_SP], 8), GUEST + 2);
        fx.cpu->svm.guest = 0;
    }
}
END_TEST

START_TEST(what_interrupts_a_delivery_tells_of_it) {
    sv_put(0x484, 0, 4); /* no IDT */
    sv_put(8, 1u << VEC_GP, 4);
    sv_put(INJECT, 1ull << 31 | 0x80, 8); /* an interrupt */
    fx.cpu->rip = 0x8000;
    ck_assert_int_eq(sv_vmrun(), CPU_JUMP);
    sv_left(0x40 + VEC_GP);
    ck_assert_uint_eq(sv_get(INTINFO), 1ull << 31 | 0x80);
    ck_assert_uint_eq(sv_get(INJECT) >> 31 & 1, 0);
}
END_TEST

START_TEST(a_triple_fault_exits_as_shutdown) {
    sv_put(0x484, 0, 4);
    sv_put(MISC1, 1u << 31, 4);
    sv_enter();
    fx.cpu->fault = (struct pn_fault){.vector = VEC_UD};
    ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
    sv_left(0x7f);
}
END_TEST

START_TEST(an_interrupt_exits_by_l1s_flag_and_stays_pending) {
    for (unsigned host_if = 0; host_if < 2; host_if++) {
        sv_fill();
        sv_put(MISC1, 1, 4);
        sv_put(0x60, 1u << 24, 8); /* V_INTR_MASKING */
        fx.cpu->sys_flags = 2 | (host_if ? FL_IF : 0);
        sv_enter();
        fx.irq = 0x31;
        fx.cpu->intr_line = 1;
        cpu_poll_events(fx.cpu);
        ck_assert_uint_eq(fx.cpu->svm.guest, !host_if);
        ck_assert_int_eq(fx.irq, 0x31);
        if (host_if) {
            sv_left(0x60);
            cpu_poll_events(fx.cpu); /* GIF is clear */
            ck_assert_int_eq(fx.irq, 0x31);
        }
        sv_leave();
    }
}
END_TEST

START_TEST(a_virtual_interrupt_waits_for_if_and_its_priority) {
    gate_set(0x41, KCODE, 0xb000, 14, 0, 0);
    for (unsigned open = 0; open < 2; open++)
        for (unsigned prio = 3; prio < 6; prio++) {
            sv_fill();
            sv_put(0x60, 4 | 1u << 8 | prio << 16 | 1u << 24 | 0x41ull << 32, 8);
            sv_put(0x570, 2 | (open ? FL_IF : 0), 8);
            sv_enter();
            cpu_poll_events(fx.cpu);
            bool comes = open && prio > 4;
            ck_assert_uint_eq(fx.cpu->rip, comes ? 0xb000 : GUEST);
            ck_assert_uint_eq(fx.cpu->svm.int_ctl >> 8 & 1, !comes);
            sv_leave();
        }
    sv_fill();
    sv_put(MISC1, 1u << 4, 4);
    sv_put(0x60, 1u << 8 | 1u << 20 | 1u << 24 | 0x41ull << 32, 8);
    sv_put(0x570, 2 | FL_IF, 8);
    sv_enter();
    cpu_poll_events(fx.cpu);
    sv_left(0x64);
    ck_assert_uint_eq(sv_get(0x60) >> 8 & 1, 1);
}
END_TEST

START_TEST(an_nmi_exits_and_waits_for_stgi) {
    struct insn in = insn_new(8);
    gate_set(2, KCODE, 0xc000, 14, 0, 0);
    sv_put(MISC1, 2, 4);
    sv_enter();
    fx.cpu->nmi_pending = 1;
    cpu_poll_events(fx.cpu);
    sv_left(0x61);
    cpu_poll_events(fx.cpu);
    ck_assert_uint_eq(fx.cpu->nmi_pending, 1);
    in.arg = 1;
    ck_assert_int_eq(op_stgi(fx.cpu, &in), CPU_STOP);
    cpu_poll_events(fx.cpu);
    ck_assert_uint_eq(fx.cpu->rip, 0xc000);
}
END_TEST

START_TEST(an_injected_nmi_blocks_others) {
    gate_set(VEC_NMI, KCODE, 0xc000, 14, 0, 0);
    sv_put(INJECT, 1ull << 31 | 2u << 8, 8);
    fx.cpu->rip = 0x8000;
    ck_assert_int_eq(sv_vmrun(), CPU_JUMP);
    ck_assert_uint_eq(fx.cpu->rip, 0xc000);
    ck_assert_uint_eq(fx.cpu->nmi_blocked, 1);
}
END_TEST

/* DR6 and DR7.GD are as after the exception, which L1 has to inject. */
START_TEST(a_debug_exception_exits_with_dr6_set) {
    sv_put(EXC_BITS, 1u << VEC_DB, 4);
    sv_put(0x560, 0x2400, 8);
    sv_enter();
    fx.cpu->fault = (struct pn_fault){.vector = VEC_DB, .address = 1u << 13};
    ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
    sv_left(0x40 + VEC_DB);
    ck_assert_uint_eq(sv_get(0x568) >> 13 & 1, 1);
    ck_assert_uint_eq(sv_get(0x560) >> 13 & 1, 0);
}
END_TEST

/* Without their intercepts L1's interrupts and NMIs are L2's, once nothing blocks them. */
START_TEST(what_is_not_intercepted_is_delivered_to_l2) {
    gate_set(0x31, KCODE, 0xb000, 14, 0, 0);
    gate_set(VEC_NMI, KCODE, 0xc000, 14, 0, 0);
    for (unsigned nmi = 0; nmi < 2; nmi++) {
        sv_fill();
        sv_put(0x570, 2 | FL_IF, 8);
        sv_put(0x68, 1, 8); /* an interrupt shadow */
        sv_enter();
        fx.irq = nmi ? -1 : 0x31;
        fx.cpu->intr_line = !nmi;
        fx.cpu->nmi_pending = nmi;
        fx.cpu->budget--; /* VMRUN is done */
        cpu_poll_events(fx.cpu);
        ck_assert_uint_eq(fx.cpu->rip, GUEST);
        fx.cpu->budget--;
        cpu_poll_events(fx.cpu);
        ck_assert_uint_eq(fx.cpu->rip, nmi ? 0xc000 : 0xb000);
        ck_assert_uint_eq(fx.cpu->svm.guest, 1);
        sv_leave();
        fx.cpu->nmi_blocked = 0;
    }
}
END_TEST

START_TEST(a_virtual_interrupt_waits_for_the_virtual_gif) {
    gate_set(0x41, KCODE, 0xb000, 14, 0, 0);
    for (unsigned gif = 0; gif < 2; gif++) {
        sv_fill();
        sv_put(0x60, 1u << 8 | gif << 9 | 5u << 16 | 1u << 24 | 1u << 25 | 0x41ull << 32,
               8);
        sv_put(0x570, 2 | FL_IF, 8);
        sv_enter();
        cpu_poll_events(fx.cpu);
        ck_assert_uint_eq(fx.cpu->rip, gif ? 0xb000 : GUEST);
        sv_leave();
    }
}
END_TEST

/* ---- Nested paging ---- */

/* One to one up to 4 MiB, but PAGES + 0x1000 is absent, + 0x2000 read-only, + 0x3000 holds
 * what stands in + 0x4000. */
static void nest(void) {
    ram_put(NPT, (NPT + 0x1000) | 7, 8);
    ram_put(NPT + 0x1000, (NPT + 0x2000) | 7, 8);
    ram_put(NPT + 0x2000, 0x87, 8);
    ram_put(NPT + 0x2008, (NPT + 0x3000) | 7, 8);
    for (unsigned i = 0; i < 512; i++)
        ram_put(NPT + 0x3000 + i * 8, (PAGES + i * 0x1000) | 7, 8);
    ram_put(NPT + 0x3008, 0, 8);
    ram_put(NPT + 0x3010, (PAGES + 0x2000) | 5, 8);
    ram_put(NPT + 0x3018, (PAGES + 0x4000) | 7, 8);
    sv_put(0x90, 1, 8);
    sv_put(0xb0, NPT, 8);
}

START_TEST(nested_faults_exit_with_what_was_asked_for) {
    uint64_t q = 7;
    nest();
    sv_enter();
    ck_assert_int_eq(cpu_read_lin(fx.cpu, PAGES + 0x1008, &q, 8, PN_TLB_SUPER),
                     CPU_FAULT);
    ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
    sv_left(0x400);
    ck_assert_uint_eq(sv_get(INFO1), 1ull << 32 | 4);
    ck_assert_uint_eq(sv_get(INFO2), PAGES + 0x1008);
    sv_enter();
    ck_assert_int_eq(cpu_write_lin(fx.cpu, PAGES + 0x2010, &q, 8, PN_TLB_SUPER),
                     CPU_FAULT);
    ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
    sv_left(0x400);
    ck_assert_uint_eq(sv_get(INFO1), 1ull << 32 | 7);
    ck_assert_uint_eq(sv_get(INFO2), PAGES + 0x2010);
}
END_TEST

/* Each bit of a nested fault's information: P, W, U, RSV, ID, 32: the page, 33: a table. */
START_TEST(each_bit_of_a_nested_faults_information) {
    static const struct {
        unsigned at; /* the entry, of NPT's last level or of its second */
        uint64_t entry;
        enum pn_access access;
        uint64_t info1;
    } each[] = {
        {0x3038, 0, PN_READ, 1ull << 32 | 4},
        {0x3038, 0, PN_WRITE, 1ull << 32 | 6},
        {0x3038, 0, PN_FETCH, 1ull << 32 | 0x14},
        {0x3038, 5, PN_WRITE, 1ull << 32 | 7},
        {0x3038, 3, PN_READ, 1ull << 32 | 5}, /* a supervisor's page */
        {0x3038, 3, PN_WRITE, 1ull << 32 | 7},
        {0x3038, 1ull << 63 | 7, PN_FETCH, 1ull << 32 | 0x15},
        {0x3038, 1ull << 50 | 7, PN_READ, 1ull << 32 | 0xd},
        {0x3038, 1ull << 50 | 7, PN_WRITE, 1ull << 32 | 0xf},
        {0x2000, 0x85, PN_READ, 1ull << 33 | 7}, /* L2's tables may not be written */
        {0x2000, 0, PN_READ, 1ull << 33 | 6},
    };
    for (unsigned i = 0; i < sizeof each / sizeof each[0]; i++) {
        uint64_t q = 7;
        uint8_t *code;
        pn_gpa gpa;
        unsigned page = each[i].at == 0x3038;
        sv_fill();
        nest();
        if (page && each[i].entry)
            ram_put(NPT + each[i].at, (PAGES + 0x7000) | each[i].entry, 8);
        else
            ram_put(NPT + each[i].at, each[i].entry, 8);
        sv_put(0x5c, 1, 1);
        sv_enter();
        enum cpu_rc rc = each[i].access == PN_FETCH
                             ? cpu_fetch_page(fx.cpu, PAGES + 0x7000, &code, &gpa)
                         : each[i].access == PN_WRITE
                             ? cpu_write_lin(fx.cpu, PAGES + 0x7010, &q, 8, PN_TLB_SUPER)
                             : cpu_read_lin(fx.cpu, PAGES + 0x7010, &q, 8, PN_TLB_SUPER);
        ck_assert_int_eq(rc, CPU_FAULT);
        ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
        sv_left(0x400);
        ck_assert_msg(sv_get(INFO1) == each[i].info1, "row %u: %llx", i,
                      (unsigned long long)sv_get(INFO1));
        ck_assert_uint_eq(sv_get(INFO2) & ~0xfffull, page ? PAGES + 0x7000 : 0x1000);
    }
}
END_TEST

START_TEST(l2_reads_where_both_tables_lead_and_sees_changes_after_a_flush) {
    uint64_t q;
    nest();
    ram_put(PAGES + 0x4000, 0x1111, 8);
    ram_put(PAGES + 0x5000, 0x2222, 8);
    sv_enter();
    ck_assert_int_eq(cpu_read_lin(fx.cpu, PAGES + 0x3000, &q, 8, PN_TLB_SUPER), CPU_NEXT);
    ck_assert_uint_eq(q, 0x1111);
    /* A and D, as by a user's store to the guest's tables, and by the read. */
    ck_assert_uint_eq(ram_get(NPT + 0x2000, 8) & 0x60, 0x60);
    ck_assert_uint_eq(ram_get(NPT + 0x3018, 8) & 0x60, 0x20);
    svm_exit(fx.cpu, 0x81, 0, 0, 0);
    ck_assert_int_eq(cpu_read_lin(fx.cpu, PAGES + 0x4000, &q, 8, PN_TLB_SUPER), CPU_NEXT);
    ck_assert_uint_eq(q, 0x1111); /* L1's own is not L2's */
    ram_put(NPT + 0x3018, (PAGES + 0x5000) | 7, 8);
    sv_put(0x5c, 3, 1);
    sv_enter();
    ck_assert_int_eq(cpu_read_lin(fx.cpu, PAGES + 0x3000, &q, 8, PN_TLB_SUPER), CPU_NEXT);
    ck_assert_uint_eq(q, 0x2222);
}
END_TEST

/* ---- Hostile ---- */

static uint64_t rnd(uint64_t *s) {
    *s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
    return *s;
}

START_TEST(random_vmcbs_end_in_l2_or_in_l1) {
    uint64_t seed = 0x9e3779b97f4a7c15 + (uint64_t)_i, entered = 0;
    for (unsigned round = 0; round < 1000; round++) {
        sv_fill();
        nest();
        sv_put(0x90, rnd(&seed) & 1, 8);
        unsigned changes = rnd(&seed) % 6;
        for (unsigned i = 0; i < changes; i++) {
            unsigned at = rnd(&seed) % (round & 1 ? 0xe0 : 0x6a0);
            sv_put(at, rnd(&seed) & rnd(&seed), 1 + rnd(&seed) % 8);
        }
        fx.cpu->rip = 0x8000;
        enum cpu_rc rc = sv_vmrun();
        ck_assert(rc == CPU_JUMP || rc == CPU_SHUTDOWN);
        if (rc == CPU_SHUTDOWN) { /* a triple fault of L2's that L1 wants */
            ck_assert_uint_eq(fx.cpu->svm.guest, 1);
        }
        entered += fx.cpu->svm.guest;
        for (unsigned i = 0; fx.cpu->svm.guest && i < 4; i++) {
            uint64_t q = rnd(&seed);
            pn_gva at = (rnd(&seed) & 0x3fffff) | (i == 3 ? rnd(&seed) : 0);
            if (cpu_write_lin(fx.cpu, at & ~7ull, &q, 8, cpu_tlb_mode(fx.cpu)) ==
                CPU_FAULT)
                cpu_deliver_fault(fx.cpu);
        }
        sv_leave();
        ck_assert_uint_eq(fx.cpu->svm.guest, 0);
        sv_destroy();
        sv_create();
    }
    ck_assert_uint_gt(entered, 100);
}
END_TEST

/* ---- What there is ---- */

/* NP, NRIP, TSC ratio, clean bits, flush by ASID, decode assists, the PAUSE filter, virtual GIF: and no LBR
 * virtualization, threshold of the filter, AVIC, virtual VMLOAD, virtual NMIs. */
START_TEST(cpuid_offers_what_is_built_alone) {
    uint32_t out[4];
    uint64_t value;
    cpu_model_leaf(fx.cpu->model, 0x8000000a, 0, out);
    ck_assert_uint_eq(out[3], 1u << 0 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 7 |
                                  1u << 10 | 1u << 16);
    ck_assert_int_eq(msr_read(fx.cpu, 0xc0000104, &value), CPU_NEXT); /* TSC ratio */
    ck_assert_uint_eq(value, UINT64_C(1) << 32);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("svm");
    TCase *t = fix_case("svm");
    tcase_add_checked_fixture(t, sv_create, sv_destroy);
    tcase_add_test(t, vmrun_needs_svme_ring_0_and_an_aligned_page);
    tcase_add_test(t, cpuid_offers_what_is_built_alone);
    tcase_add_test(t, what_is_checked_enters_and_fails);
    tcase_add_loop_test(t, a_state_that_may_not_be_is_refused, 0,
                        (int)(sizeof rows / sizeof rows[0]));
    tcase_add_test(t, l1s_state_comes_back_and_l2s_is_saved);
    tcase_add_test(t, l2s_tsc_is_l1s_times_the_ratio_and_an_offset);
    tcase_add_test(t, an_exception_exits_by_its_vector_with_its_code);
    tcase_add_test(t, an_injected_event_is_delivered_before_l2_begins);
    tcase_add_test(t, an_injected_software_event_returns_to_where_nrip_says);
    tcase_add_test(t, what_interrupts_a_delivery_tells_of_it);
    tcase_add_test(t, a_triple_fault_exits_as_shutdown);
    tcase_add_test(t, an_interrupt_exits_by_l1s_flag_and_stays_pending);
    tcase_add_test(t, a_virtual_interrupt_waits_for_if_and_its_priority);
    tcase_add_test(t, an_nmi_exits_and_waits_for_stgi);
    tcase_add_test(t, nested_faults_exit_with_what_was_asked_for);
    tcase_add_test(t, l2_reads_where_both_tables_lead_and_sees_changes_after_a_flush);
    tcase_add_test(t, tlb_control_by_asid_needs_its_feature);
    tcase_add_test(t, shadow_stacks_have_checks_of_their_own);
    tcase_add_test(t, a_host_state_that_is_none_shuts_down);
    tcase_add_test(t, an_injected_nmi_blocks_others);
    tcase_add_test(t, a_debug_exception_exits_with_dr6_set);
    tcase_add_test(t, what_is_not_intercepted_is_delivered_to_l2);
    tcase_add_test(t, a_virtual_interrupt_waits_for_the_virtual_gif);
    tcase_add_test(t, each_bit_of_a_nested_faults_information);
    tcase_add_loop_test(t, random_vmcbs_end_in_l2_or_in_l1, 0, 4);
    suite_add_tcase(suite, t);
    return fix_run(suite);
}
