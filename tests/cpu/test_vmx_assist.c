/* SPDX-License-Identifier: MIT */
/*
 * What VMX does for a hypervisor beside exits: the preemption timer, and mode-based execute
 * control. Numbers are the manual's (SDM volume 3, "VMX Non-Root Operation", "Mode-Based Execute
 * Control for EPT"), once more.
 */
#include "fixture_guest.h"
#include "fixture_vmx.h"

/* ---- The preemption timer ---- */

#define TIMER      0x482eu
#define TIMER_ON   (1u << 6)
#define SAVE_TIMER (1u << 22)
#define RATE       0 /* IA32_VMX_MISC[4:0] */

/* Let so much time pass. */
static void pass(uint64_t ticks) {
    fx.cpu->insn_limit += ticks;
    fx.cpu->intr_line = 1; /* the dispatcher looks */
}

static void with_timer(uint32_t count) {
    vx_fill();
    vx_put(PIN, PIN_MUST | TIMER_ON);
    vx_put(TIMER, count);
    vx_enter();
}

START_TEST(the_timer_exits_when_it_has_run_down) {
    uint64_t misc;
    ck_assert(vmx_capability(fx.cpu, 0x485, &misc));
    ck_assert_uint_eq(misc & 31, RATE);
    with_timer(3);
    cpu_poll_events(fx.cpu);
    ck_assert_uint_eq(fx.cpu->vmx.guest, 1);
    pass((3 << RATE) - 1);
    cpu_poll_events(fx.cpu);
    ck_assert_uint_eq(fx.cpu->vmx.guest, 1);
    pass(1);
    cpu_poll_events(fx.cpu);
    vx_left(52);
    ck_assert_uint_eq(vx_get(TIMER), 3); /* it is not saved */
}
END_TEST

START_TEST(a_timer_of_0_exits_behind_the_injected_event) {
    vx_fill();
    vx_put(PIN, PIN_MUST | TIMER_ON);
    gate_set(6, KCODE, 0x5000, 14, 0, 0);
    vx_put(INJECT, VALID | 3u << 8 | 6);
    ck_assert_int_eq(vx_launch(), CPU_JUMP);
    uint64_t handler = fx.cpu->rip;
    ck_assert_uint_ne(handler, GUEST);
    cpu_poll_events(fx.cpu);
    vx_left(52);
    ck_assert_uint_eq(vx_get(RIP), handler);
}
END_TEST

START_TEST(what_is_left_of_the_timer_is_saved_if_asked) {
    vx_fill();
    vx_put(PIN, PIN_MUST | TIMER_ON);
    vx_set(EXIT, SAVE_TIMER);
    vx_put(TIMER, 100);
    vx_enter();
    pass(10 << RATE);
    vx_leave();
    ck_assert_uint_eq(vx_get(TIMER), 90);
    vx_enter();
    pass(1000 << RATE);
    vx_leave();
    ck_assert_uint_eq(vx_get(TIMER), 0);
    vx_put(PIN, PIN_MUST);
    vx_fails(vx_go(1), 7);
}
END_TEST

/* The TSC offset is L2's alone; a halted L2 wakes by its timer. */
START_TEST(the_timer_counts_the_processors_tsc_in_hlt_too) {
    vx_fill();
    vx_put(PIN, PIN_MUST | TIMER_ON);
    vx_set(PROC, 1u << 3);
    vx_put(0x2010, UINT64_C(1) << 40);
    vx_put(TIMER, 4);
    vx_put(ACTIVITY, 1);
    vx_enter();
    uint64_t now = cpu_insns(fx.cpu), until = 4 << RATE;
    ck_assert_uint_eq(cpu_wakes(fx.cpu), now + until);
    pass(until);
    cpu_poll_events(fx.cpu);
    vx_left(52);
    ck_assert_uint_eq(vx_get(ACTIVITY), 1);
    ck_assert_uint_eq(fx.cpu->halted, PN_RUNS);
    ck_assert_uint_eq(cpu_wakes(fx.cpu), UINT64_MAX);
}
END_TEST

START_TEST(a_restored_guest_keeps_its_timer) {
    with_timer(1000);
    uint64_t left = vmx_timer_left(fx.cpu);
    fx.cpu->vmx.timer = 0;
    vmx_refresh(fx.cpu);
    ck_assert_uint_eq(fx.cpu->vmx.timer, 1);
    ck_assert_uint_eq(vmx_timer_left(fx.cpu), left);
}
END_TEST

/* A guest whose timer runs down after so many instructions. The VMCS is all zeros: the exit aborts,
 * and the CPU stands still. */
static void begin_timed(struct guest *g, unsigned count) {
    static const uint8_t code[] = {0x48, 0xff, 0xc0, 0x48, 0xff, 0xc3, 0x48,
                                   0xff, 0xc1, 0x48, 0xff, 0xc2, 0xeb, 0xf2};
    guest_create(g, &(const struct guest_options){.kind = PN_MMU_TDP,
                                                  .model = "max,vendor=intel,+vmx"});
    pn_mmu_write_phys(g->mmu, 0x100000, code, sizeof code);
    guest_start(g, GUEST_BASE + 0x100000, GUEST_BASE + 0x8000);
    g->cpu->vmx.on = g->cpu->vmx.guest = g->cpu->vmx.timer = 1;
    g->cpu->vmx.vmcs = 0x30000;
    g->cpu->vmx.ctl.pin = TIMER_ON;
    g->cpu->vmx.timer_at = count + (uint64_t)cpu_own_tsc_offset(g->cpu);
    cpu_update_mode(g->cpu);
}

/* A debug exception is more urgent; no instruction of its handler is. SDM vol. 3, "VMX-Preemption Timer". */
START_TEST(a_timer_of_0_exits_behind_a_pending_debug_exception) {
    static struct guest g;
    begin_timed(&g, 0);
    guest_idt(&g);
    g.cpu->db_pending = 1u << 14;
    g.cpu->intr_line = 1;
    ck_assert_int_eq(cpu_run(g.cpu, 10000), CPU_EXIT_SHUTDOWN);
    ck_assert_uint_eq(cpu_insns(g.cpu), 0);
    ck_assert_uint_eq(g.cpu->db_pending, 0);
    guest_destroy(&g);
}
END_TEST

/* Translated code is left exactly then, wherever in a block that is. */
START_TEST(the_timer_ends_translated_code_at_its_time) {
    for (unsigned count = 1; count < 24; count++) {
        static struct guest g;
        begin_timed(&g, count);
        ck_assert_int_eq(cpu_run(g.cpu, 10000), CPU_EXIT_SHUTDOWN);
        ck_assert_uint_eq(cpu_insns(g.cpu), count);
        guest_destroy(&g);
    }
}
END_TEST

/* ---- Mode-based execute control ---- */

#define MBEC (1u << 22)
#define AT   (PAGES + 0x4000)

/* L2, in ring 0, fetches from a page of its own that is the user's or not. */
static enum cpu_rc fetch(unsigned rights, bool user, bool mbec) {
    uint8_t *code;
    pn_gpa gpa;
    vx_fill();
    vx_nest(0);
    ram_put(EPT, (EPT + 0x1000) | 0x407, 8);
    ram_put(EPT + 0x1000, (EPT + 0x2000) | 0x407, 8);
    ram_put(EPT + 0x2008, (EPT + 0x3000) | 0x407, 8);
    if (mbec)
        vx_set(PROC2, MBEC);
    ram_put(EPT + 0x3020, AT | 0x30 | (rights & 7) | (uint64_t)(rights & 8) << 7, 8);
    ram_put(PT + 4 * 8, AT | 0x63 | (user ? 4 : 0), 8);
    vx_enter();
    pn_mmu_invlpg(fx.cpu->vmmu, AT);
    return cpu_fetch_page(fx.cpu, AT, &code, &gpa);
}

START_TEST(two_bits_let_code_be_executed) {
    for (unsigned rights = 1; rights < 16; rights += 2)
        for (unsigned i = 0; i < 4; i++) {
            bool user = i & 1, mbec = i & 2;
            bool may = rights & (mbec && user ? 8 : 4);
            ck_assert_int_eq(fetch(rights, user, mbec), may ? CPU_NEXT : CPU_FAULT);
            if (may) {
                vx_leave();
                continue;
            }
            ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
            vx_left(48);
            ck_assert_uint_eq(vx_get(QUALIFICATION), 0x184 | (rights & (mbec ? 15 : 7))
                                                                 << 3);
        }
}
END_TEST

/* One page is seen through both kinds of addresses. */
START_TEST(what_one_kind_may_execute_says_nothing_of_the_other) {
    uint8_t *code;
    pn_gpa gpa;
    ck_assert_int_eq(fetch(1 | 8, true, true), CPU_NEXT);
    ram_put(PT + 4 * 8, AT | 0x63, 8);
    pn_mmu_invlpg(fx.cpu->vmmu, AT);
    ck_assert_int_eq(cpu_fetch_page(fx.cpu, AT, &code, &gpa), CPU_FAULT);
    ram_put(PT + 4 * 8, AT | 0x67, 8);
    pn_mmu_invlpg(fx.cpu->vmmu, AT);
    ck_assert_int_eq(cpu_fetch_page(fx.cpu, AT, &code, &gpa), CPU_NEXT);
}
END_TEST

START_TEST(it_needs_ept_and_makes_an_entry_present) {
    vx_fill();
    vx_set(PROC2, MBEC);
    vx_fails(vx_launch(), 7);
    for (unsigned mbec = 0; mbec < 2; mbec++) {
        uint8_t *code;
        pn_gpa gpa;
        ck_assert_int_eq(fetch(0, true, mbec), CPU_FAULT);
        vx_leave();
        ck_assert_int_eq(fetch(8, true, mbec), mbec ? CPU_NEXT : CPU_FAULT);
        if (mbec) /* and each time */
            ck_assert_int_eq(cpu_fetch_page(fx.cpu, AT, &code, &gpa), CPU_NEXT);
        vx_leave();
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("vmx_assist");
    TCase *t = fix_case("vmx_assist");
    tcase_add_checked_fixture(t, vx_create, vx_destroy);
    tcase_add_test(t, the_timer_exits_when_it_has_run_down);
    tcase_add_test(t, a_timer_of_0_exits_behind_the_injected_event);
    tcase_add_test(t, what_is_left_of_the_timer_is_saved_if_asked);
    tcase_add_test(t, the_timer_counts_the_processors_tsc_in_hlt_too);
    tcase_add_test(t, a_restored_guest_keeps_its_timer);
    tcase_add_test(t, the_timer_ends_translated_code_at_its_time);
    tcase_add_test(t, a_timer_of_0_exits_behind_a_pending_debug_exception);
    tcase_add_test(t, two_bits_let_code_be_executed);
    tcase_add_test(t, what_one_kind_may_execute_says_nothing_of_the_other);
    tcase_add_test(t, it_needs_ept_and_makes_an_entry_present);
    suite_add_tcase(suite, t);
    return fix_run(suite);
}
