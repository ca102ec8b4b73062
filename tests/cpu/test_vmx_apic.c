/* SPDX-License-Identifier: MIT */
/*
 * VMX's virtual APIC: which accesses exit and which do not, what a write does, virtual and posted
 * interrupts, the checks of their controls; and EPT violations that become a #VE.
 */
#include "fixture_vmx.h"

#define APIC   (PAGES + 0x4000) /* the APIC-access page */
#define VAPIC  0x2a000u
#define POSTED 0x2b000u
#define VE     0x2c000u
#define NOTIFY 0xf2

enum {
    STATUS = 0x810,
    APIC_AT = 0x2014,
    POSTED_AT = 0x2016,
    EOI_EXITS = 0x201c,
    VE_AT = 0x202a
};
enum {
    TPR = 0x80,
    PPR = 0xa0,
    EOI = 0xb0,
    ISR = 0x100,
    IRR = 0x200,
    ICR = 0x300,
    SELF = 0x3f0
};
/* Controls. */
#define SHADOW   (1u << 21)
#define ACCESSES (1u << 0)
#define X2       (1u << 4)
#define REGS     (1u << 8)
#define VIRTUAL  (1u << 9)
#define VE_ON    (1u << 18)
#define EPT_ON   (1u << 1)

static void use(bool shadow, uint32_t proc2) {
    vx_leave();
    vx_fill();
    memset(fx.ram + VAPIC, 0, 0x1000);
    fx.cpu->halted = PN_RUNS;
    vx_set(PROC, shadow ? SHADOW : 0);
    if (proc2 & VIRTUAL)
        vx_set(PIN, 1);
    vx_set(PROC2, proc2);
    vx_put(0x2012, VAPIC);
    vx_put(APIC_AT, APIC);
    vx_put(VE_AT, VE);
}

static uint32_t reg(unsigned at) {
    return (uint32_t)ram_get(VAPIC + at, 4);
}
static void put_reg(unsigned at, uint32_t value) {
    ram_put(VAPIC + at, value, 4);
}
static bool vector_is_in(unsigned set, unsigned vector) {
    return reg(set + vector / 32 * 16) >> vector % 32 & 1;
}

static enum cpu_rc load(unsigned at, unsigned size) {
    uint64_t v = 0;
    return cpu_read_lin(fx.cpu, APIC + at, &v, size, PN_TLB_SUPER);
}
static enum cpu_rc store(unsigned at, uint64_t v, unsigned size) {
    return cpu_write_lin(fx.cpu, APIC + at, &v, size, PN_TLB_SUPER);
}

/* The access was an APIC-access exit: type and offset. */
static void exits(enum cpu_rc rc, unsigned type, unsigned at) {
    ck_assert_int_eq(rc, CPU_FAULT);
    ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
    vx_left(44);
    ck_assert_uint_eq(vx_get(QUALIFICATION), type << 12 | at);
}

/* A trap-like exit is due. */
static void owes(unsigned reason, uint64_t qualification) {
    cpu_poll_events(fx.cpu);
    vx_left(reason);
    ck_assert_uint_eq(vx_get(QUALIFICATION), qualification);
}

/* ---- Which accesses exit ---- */

/* SDM volume 3, "Virtualizing Reads (Writes) from (to) the APIC-Access Page". */
static bool read_virtualized(unsigned r, bool shadow, uint32_t proc2) {
    bool some = r == 0x20 || r == 0x30 || r == 0x80 || r == 0xb0 || r == 0xd0 ||
                r == 0xe0 || r == 0xf0 || (r >= 0x100 && r <= 0x280) ||
                (r >= 0x300 && r <= 0x380) || r == 0x3e0;
    return shadow && (r == 0x80 || (proc2 & REGS && some));
}
static bool write_virtualized(unsigned r, bool shadow, uint32_t proc2) {
    bool some = r == 0x20 || r == 0x80 || r == 0xb0 || r == 0xd0 || r == 0xe0 ||
                r == 0xf0 || r == 0x280 || (r >= 0x300 && r <= 0x380) || r == 0x3e0;
    return shadow && (r == 0x80 || (proc2 & REGS && some) ||
                      (proc2 & VIRTUAL && (r == 0xb0 || r == 0x300)));
}

/* What a write of zeros there owes: no virtual interrupt is in service. */
static bool write_exits(unsigned r, uint32_t proc2) {
    return r != 0x80 && r != 0x310 && !(r == 0xb0 && proc2 & VIRTUAL);
}

START_TEST(each_register_exits_or_is_virtualized_by_the_controls) {
    static const uint32_t sets[] = {0, REGS, VIRTUAL, REGS | VIRTUAL};
    for (unsigned i = 0; i < 10; i++) {
        bool shadow = i > 1, ept = i & 1;
        uint32_t proc2 = shadow ? sets[i / 2 - 1] : 0;
        for (unsigned r = 0; r < 0x1000; r += 0x10) {
            use(shadow, ACCESSES | proc2);
            if (ept)
                vx_nest(0);
            put_reg(r, 0x5a000000);
            vx_enter();
            uint32_t v = 0;
            enum cpu_rc rc = cpu_read_lin(fx.cpu, APIC + r, &v, 4, PN_TLB_SUPER);
            if (!read_virtualized(r, shadow, proc2)) {
                exits(rc, 0, r);
                vx_enter();
            } else {
                ck_assert_int_eq(rc, CPU_NEXT);
                ck_assert_uint_eq(v, reg(r));
            }
            rc = store(r, 0, 4);
            if (!write_virtualized(r, shadow, proc2)) {
                exits(rc, 1, r);
                continue;
            }
            ck_assert_int_eq(rc, CPU_NEXT);
            ck_assert_uint_eq(reg(r), 0);
            if (write_exits(r, proc2))
                owes(56, r);
            else
                cpu_poll_events(fx.cpu);
            ck_assert_uint_eq(fx.cpu->vmx.guest, !write_exits(r, proc2));
        }
    }
    ck_assert_uint_eq(ram_get(APIC + TPR, 4), 0); /* the page itself was not touched */
}
END_TEST

START_TEST(accesses_beyond_a_register_and_fetches_exit) {
    static const struct {
        unsigned at, size;
    } wide[] = {{TPR, 8}, {TPR + 2, 4}, {TPR + 4, 4}, {TPR + 8, 1}, {TPR - 1, 2}};
    for (unsigned i = 0; i < sizeof wide / sizeof wide[0]; i++) {
        use(true, ACCESSES | REGS);
        vx_enter();
        exits(load(wide[i].at, wide[i].size), 0, wide[i].at);
        vx_enter();
        exits(store(wide[i].at, 0, wide[i].size), 1, wide[i].at);
    }
    use(true, ACCESSES | REGS);
    vx_enter();
    uint8_t *code;
    pn_gpa gpa;
    exits(cpu_fetch_page(fx.cpu, APIC + 0x123, &code, &gpa), 2, 0x123);
    use(true, ACCESSES);
    vx_enter();
    ck_assert_int_eq(load(TPR + 1, 2), CPU_NEXT);
}
END_TEST

START_TEST(an_access_of_a_delivery_tells_of_it) {
    use(true, ACCESSES | REGS);
    vx_put(0x681c, APIC + 0xa8); /* RSP: the frame ends in TPR's register */
    vx_put(INJECT, VALID | 4u << 8 | 0x80);
    vx_put(INJECT_LEN, 2);
    gate_set(0x80, KCODE, 0xb000, 14, 3, 0);
    ck_assert_int_eq(vx_launch(), CPU_JUMP);
    vx_left(44);
    ck_assert_uint_eq(vx_get(QUALIFICATION) >> 12, 3);
    ck_assert_uint_eq(vx_get(VECTORING), VALID | 4u << 8 | 0x80);
}
END_TEST

START_TEST(a_table_in_the_page_exits_as_a_guest_physical_access) {
    use(true, ACCESSES);
    vx_nest(0);
    vx_put(APIC_AT, PT);
    vx_enter();
    ck_assert_int_eq(load(0, 4), CPU_FAULT);
    ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
    vx_left(44);
    ck_assert_uint_eq(vx_get(QUALIFICATION) >> 12, 15);
}
END_TEST

START_TEST(other_pages_and_other_worlds_are_as_before) {
    uint64_t v = 1;
    ram_put(APIC + TPR, 0x77, 4);
    ram_put(APIC + 0x1000, 0x55, 1);
    use(true, ACCESSES);
    vx_enter();
    ck_assert_int_eq(cpu_read_lin(fx.cpu, APIC + 0x1000, &v, 1, PN_TLB_SUPER), CPU_NEXT);
    ck_assert_uint_eq(v, 0x55);
    vx_leave();
    ck_assert_int_eq(cpu_read_lin(fx.cpu, APIC + TPR, &v, 1, PN_TLB_SUPER), CPU_NEXT);
    ck_assert_uint_eq(v, 0x77);
    use(true, 0);
    vx_enter();
    ck_assert_int_eq(cpu_read_lin(fx.cpu, APIC + TPR, &v, 1, PN_TLB_SUPER), CPU_NEXT);
    ck_assert_uint_eq(v, 0x77);
}
END_TEST

/* ---- The TPR ---- */

START_TEST(a_tpr_below_its_threshold_exits_at_once_or_behind_the_write) {
    use(true, ACCESSES);
    vx_put(0x401c, 3);
    put_reg(TPR, 0x20);
    ck_assert_int_eq(vx_launch(), CPU_JUMP);
    owes(43, 0);
    put_reg(TPR, 0x30);
    vx_enter();
    cpu_poll_events(fx.cpu);
    ck_assert_uint_eq(fx.cpu->vmx.guest, 1);
    ck_assert_int_eq(store(TPR, 0x2345672f, 4), CPU_NEXT);
    ck_assert_uint_eq(reg(TPR), 0x2f);
    owes(43, 0);
    use(true, ACCESSES | VIRTUAL); /* then there is no threshold */
    vx_put(0x401c, 0xff);
    vx_enter();
    ck_assert_int_eq(store(TPR, 0, 4), CPU_NEXT);
    cpu_poll_events(fx.cpu);
    ck_assert_uint_eq(fx.cpu->vmx.guest, 1);
}
END_TEST

/* ---- Virtual interrupts ---- */

START_TEST(a_virtual_interrupt_is_delivered_when_l2_is_open) {
    gate_set(0x61, KCODE, 0xa000, 14, 0, 0);
    use(true, VIRTUAL);
    vx_put(STATUS, 0x4161); /* SVI, RVI */
    put_reg(IRR + 0x61 / 32 * 16, 2);
    put_reg(IRR + 0x52 / 32 * 16, 1u << 0x12);
    put_reg(TPR, 0x30);
    vx_enter();
    ck_assert_uint_eq(reg(PPR), 0x40);
    cpu_poll_events(fx.cpu);
    ck_assert_uint_eq(fx.cpu->rip, GUEST);
    ck_assert_uint_ne(cpu_attention(fx.cpu), 0); /* it waits for IF */
    fx.cpu->halted = PN_HALTED;
    fx.cpu->sys_flags |= FL_IF;
    fx.cpu->intr_shadow = PN_SHADOW_STI;
    fx.cpu->shadow_at = cpu_insns(fx.cpu);
    cpu_poll_events(fx.cpu);
    ck_assert_uint_eq(fx.cpu->rip, GUEST);
    fx.cpu->intr_shadow = 0;
    ck_assert_int_eq(cpu_poll_events(fx.cpu), CPU_JUMP);
    ck_assert_uint_eq(fx.cpu->rip, 0xa000);
    ck_assert_uint_eq(fx.cpu->halted, PN_RUNS);
    ck_assert(vector_is_in(ISR, 0x61) && !vector_is_in(IRR, 0x61));
    ck_assert_uint_eq(reg(PPR), 0x60);
    ck_assert_uint_eq(fx.cpu->vmx.guest, 1);
    vx_leave();
    ck_assert_uint_eq(vx_get(STATUS), 0x6152);
}
END_TEST

START_TEST(a_lower_priority_and_an_interrupt_window_hold_it) {
    for (unsigned i = 0; i < 3; i++) {
        use(true, VIRTUAL);
        vx_put(STATUS, 0x61);
        put_reg(TPR, i == 0 ? 0x60 : 0);
        vx_put(RFLAGS, 0x202);
        if (i == 1)
            vx_set(PROC, 1u << 2);
        gate_set(0x61, KCODE, 0xa000, 14, 0, 0);
        vx_enter();
        cpu_poll_events(fx.cpu);
        if (i == 1)
            vx_left(7);
        else
            ck_assert_uint_eq(fx.cpu->rip, i ? 0xa000 : GUEST);
    }
}
END_TEST

START_TEST(an_eoi_ends_the_virtual_interrupt_in_service) {
    for (unsigned exit = 0; exit < 2; exit++) {
        gate_set(0x51, KCODE, 0xa000, 14, 0, 0);
        use(true, VIRTUAL | ACCESSES);
        vx_put(STATUS, 0x6151);
        put_reg(ISR + 0x30, 2);
        put_reg(ISR + 0x20, 1u << 1);
        put_reg(IRR + 0x20, 1u << 0x11);
        vx_put(EOI_EXITS + 2, exit ? 1ull << (0x61 - 64) : ~(1ull << (0x61 - 64)));
        vx_put(RFLAGS, 0x202);
        vx_enter();
        ck_assert_int_eq(store(EOI, 0x1234, 4), CPU_NEXT);
        ck_assert_uint_eq(reg(EOI), 0);
        ck_assert(!vector_is_in(ISR, 0x61) && vector_is_in(ISR, 0x41));
        ck_assert_uint_eq(reg(PPR), 0x40);
        if (exit) {
            owes(45, 0x61);
            ck_assert_uint_eq(vx_get(STATUS), 0x4151);
        } else {
            cpu_poll_events(fx.cpu);
            ck_assert_uint_eq(fx.cpu->rip, 0xa000);
        }
    }
}
END_TEST

START_TEST(a_self_ipi_is_requested_and_any_other_exits) {
    static const uint32_t other[] = {0x0000a1, 0x0800a1, 0x040100, 0x04000f, 0x0480a1,
                                     0x0420a1, 0x0410a1, 0x0500a1, 0x1400a1};
    use(true, VIRTUAL | ACCESSES);
    vx_enter();
    ck_assert_int_eq(store(ICR, 0x0448a1, 4), CPU_NEXT);
    ck_assert(vector_is_in(IRR, 0xa1));
    ck_assert_uint_eq(fx.cpu->vmx.virtual, 1);
    vx_leave();
    ck_assert_uint_eq(vx_get(STATUS), 0xa1);
    for (unsigned i = 0; i < sizeof other / sizeof other[0]; i++) {
        use(true, VIRTUAL | ACCESSES);
        vx_enter();
        ck_assert_int_eq(store(ICR, other[i], 4), CPU_NEXT);
        owes(56, ICR);
        ck_assert_uint_eq(vx_get(STATUS), 0);
    }
}
END_TEST

START_TEST(icrs_upper_half_is_stored_alone) {
    use(true, REGS | ACCESSES);
    vx_enter();
    ck_assert_int_eq(store(0x310, 0x12345678, 4), CPU_NEXT);
    ck_assert_uint_eq(reg(0x310), 0x12000000);
    cpu_poll_events(fx.cpu);
    ck_assert_uint_eq(fx.cpu->vmx.guest, 1);
}
END_TEST

/* Of the rest tests/engine/test_state.c sees that it is carried. */
START_TEST(what_a_restore_does_not_carry_is_evaluated_anew) {
    use(true, VIRTUAL);
    vx_put(STATUS, 0x61);
    vx_enter();
    fx.cpu->vmx.virtual = 0;
    vmx_refresh(fx.cpu);
    ck_assert_uint_eq(fx.cpu->vmx.virtual, 1);
    ck_assert(vmx_after_possible(0) && vmx_after_possible(45u << 16 | 0x31));
    ck_assert(!vmx_after_possible(12u << 16) && !vmx_after_possible(56u << 16 | 0x1000));
}
END_TEST

/* ---- Posted interrupts ---- */

static void use_posted(void) {
    use(true, VIRTUAL);
    vx_set(PIN, 1u << 7);
    vx_set(EXIT, 1u << 15);
    vx_put(2, NOTIFY);
    vx_put(POSTED_AT, POSTED);
    for (unsigned i = 0; i < 8; i++)
        ram_put(POSTED + i * 8, i < 4 ? 0 : 0x1111111111111111u, 8);
}

START_TEST(a_notification_requests_what_was_posted) {
    gate_set(0xb1, KCODE, 0xa000, 14, 0, 0);
    use_posted();
    ram_put(POSTED + 0xb1 / 8, 1u << 1, 1);
    ram_put(POSTED + 0x35 / 8, 1u << 5, 1);
    put_reg(IRR + 0x20, 1u << 2);
    vx_put(STATUS, 0x42);
    vx_put(RFLAGS, 0x202);
    put_reg(TPR, 0x50);
    vx_enter();
    fx.irq = NOTIFY;
    fx.eois = 0;
    fx.cpu->intr_line = 1;
    ck_assert_int_eq(cpu_poll_events(fx.cpu), CPU_JUMP);
    ck_assert_uint_eq(fx.cpu->rip, 0xa000);
    ck_assert_uint_eq(fx.eois, 1);
    ck_assert(vector_is_in(ISR, 0xb1) && vector_is_in(IRR, 0x35) &&
              vector_is_in(IRR, 0x42));
    ck_assert_uint_eq(ram_get(POSTED + 0xb1 / 8, 1) | ram_get(POSTED + 0x35 / 8, 1), 0);
    ck_assert_uint_eq(ram_get(POSTED + 32, 8), 0x1111111111111110u); /* ON */
    vx_leave();
    ck_assert_uint_eq(vx_get(STATUS), 0xb142);
}
END_TEST

START_TEST(any_other_interrupt_exits_acknowledged) {
    use_posted();
    vx_enter();
    fx.irq = NOTIFY + 1;
    fx.cpu->intr_line = 1;
    cpu_poll_events(fx.cpu);
    vx_left(1);
    ck_assert_uint_eq(vx_get(EVENT), VALID | (NOTIFY + 1));
}
END_TEST

/* ---- x2APIC ---- */

static enum cpu_rc msr(bool write, unsigned at, uint64_t value) {
    struct insn in = vx_insn(0);
    fx.cpu->gpr[R_CX] = 0x800 + at / 16;
    fx.cpu->gpr[R_AX] = (uint32_t)value;
    fx.cpu->gpr[R_DX] = value >> 32;
    return vx_run(write ? op_wrmsr : op_rdmsr, &in);
}

START_TEST(msrs_of_x2apic_are_read_from_the_page) {
    for (unsigned regs = 0; regs < 2; regs++)
        for (unsigned r = 0; r < 0x1000; r += 0x10) {
            use(true, X2 | (regs ? REGS : 0));
            ram_put(VAPIC + r, 0x1122334455667788, 8);
            vx_enter();
            msr(false, r, 0);
            uint64_t v = fx.cpu->gpr[R_DX] << 32 | fx.cpu->gpr[R_AX];
            bool mine = regs || r == TPR; /* else the bus, which says 0x100 */
            ck_assert_uint_eq(v, mine ? 0x1122334455667788 : 0x100);
        }
}
END_TEST

START_TEST(msrs_of_x2apic_are_written_as_the_registers_are) {
    use(true, X2);
    vx_put(0x401c, 3);
    put_reg(TPR, 0x30);
    vx_enter();
    ck_fault(msr(true, TPR, 0x100), VEC_GP, 0);
    ck_assert_int_eq(msr(true, TPR, 0x25), CPU_STOP);
    owes(43, 0);
    use(true, X2 | VIRTUAL);
    vx_put(STATUS, 0x6100);
    vx_enter();
    ck_fault(msr(true, EOI, 1), VEC_GP, 0);
    ck_assert_int_eq(msr(true, EOI, 0), CPU_STOP);
    ck_fault(msr(true, SELF, 0x1a1), VEC_GP, 0);
    ck_assert_int_eq(msr(true, SELF, 0xa1), CPU_STOP);
    ck_assert(vector_is_in(IRR, 0xa1));
    ck_assert_int_eq(msr(true, SELF, 0xf), CPU_STOP);
    owes(56, SELF);
    ck_assert_uint_eq(vx_get(STATUS), 0xa1);
}
END_TEST

/* ---- Checks ---- */

START_TEST(controls_need_one_another) {
    static const struct {
        bool shadow, exits, ack;
        uint32_t proc2;
        unsigned field;
        uint64_t value;
        bool good;
    } each[] = {
        {true, true, false, X2 | REGS | VIRTUAL, 0, 0, true},
        {false, true, false, X2, 0, 0, false},
        {false, true, false, REGS, 0, 0, false},
        {false, true, false, VIRTUAL, 0, 0, false},
        {true, true, false, X2 | ACCESSES, 0, 0, false},
        {true, false, false, VIRTUAL, 0, 0, false},
        {false, true, false, ACCESSES, 0, 0, true},
        {false, true, false, ACCESSES, APIC_AT, APIC + 8, false},
        {false, true, false, ACCESSES, APIC_AT, 1ull << 46, false},
        {true, true, false, VIRTUAL, 0x401c, 0x10, true}, /* the TPR threshold */
        {true, true, false, 0, 0x401c, 0x10, false},
        {false, true, false, VE_ON, 0, 0, true},
        {false, true, false, VE_ON, VE_AT, VE + 8, false},
        {false, true, false, VE_ON, VE_AT, 1ull << 46, false},
        {true, true, true, VIRTUAL, PIN, PIN_MUST | 0x81, true}, /* posted interrupts */
        {true, true, true, 0, PIN, PIN_MUST | 0x81, false},
        {true, true, false, VIRTUAL, PIN, PIN_MUST | 0x81, false},
    };
    for (unsigned i = 0; i < sizeof each / sizeof each[0]; i++) {
        use(each[i].shadow, each[i].proc2);
        vx_put(PIN, PIN_MUST | (each[i].exits ? 1 : 0));
        vx_set(EXIT, each[i].ack ? 1u << 15 : 0);
        if (each[i].field)
            vx_put(each[i].field, each[i].value);
        if (each[i].good)
            vx_enter();
        else
            vx_fails(vx_launch(), 7);
    }
}
END_TEST

START_TEST(a_descriptor_of_posted_interrupts_may_be_anywhere_but) {
    static const struct {
        unsigned field;
        uint64_t value;
    } bad[] = {{2, 0x100}, {POSTED_AT, POSTED + 32}, {POSTED_AT, 1ull << 46}};
    for (unsigned i = 0; i < 3; i++) {
        use_posted();
        vx_put(bad[i].field, bad[i].value);
        vx_fails(vx_launch(), 7);
    }
    use_posted();
    vx_put(POSTED_AT, POSTED + 64);
    vx_enter();
}
END_TEST

/* ---- #VE ---- */

enum { ABSENT_AT = 0x3008, READ_ONLY_AT = 0x3010 }; /* entries of vx_nest's tables */

static enum cpu_rc violate(unsigned page, bool write) {
    uint64_t v = 0;
    return write ? cpu_write_lin(fx.cpu, PAGES + page, &v, 8, PN_TLB_SUPER)
                 : cpu_read_lin(fx.cpu, PAGES + page, &v, 8, PN_TLB_SUPER);
}

static void use_ve(void) {
    use(false, VE_ON);
    vx_nest(0);
    vx_put(4, 7); /* the EPTP index */
    memset(fx.ram + VE, 0, 64);
    gate_set(20, KCODE, 0xa000, 14, 0, 0);
}

START_TEST(a_violation_becomes_an_exception_of_l2s) {
    use_ve();
    vx_enter();
    ck_assert_int_eq(violate(0x2018, true), CPU_FAULT);
    ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
    ck_assert_uint_eq(fx.cpu->vmx.guest, 1);
    ck_assert_uint_eq(fx.cpu->rip, 0xa000);
    ck_assert_uint_eq(ram_get((uint32_t)fx.cpu->gpr[R_SP], 8), GUEST); /* no error code */
    ck_assert_uint_eq(ram_get(VE, 4), 48);
    ck_assert_uint_eq(ram_get(VE + 4, 4), 0xffffffff);
    ck_assert_uint_eq(ram_get(VE + 8, 8), 0x182 | 1 << 3);
    ck_assert_uint_eq(ram_get(VE + 16, 8), PAGES + 0x2018);
    ck_assert_uint_eq(ram_get(VE + 24, 8), PAGES + 0x2018);
    ck_assert_uint_eq(ram_get(VE + 32, 2), 7);
    /* Until the area is free again the next one exits. */
    ck_assert_int_eq(violate(0x1008, false), CPU_FAULT);
    ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
    vx_left(48);
}
END_TEST

START_TEST(what_is_not_convertible_exits) {
    for (unsigned i = 0; i < 5; i++) {
        use_ve();
        if (i == 0) /* SUPPRESS_VE of what is absent, and of a leaf that denies */
            ram_put(EPT + ABSENT_AT, 1ull << 63, 8);
        if (i == 1)
            ram_put(EPT + READ_ONLY_AT, (PAGES + 0x2000) | 0x31 | 1ull << 63, 8);
        if (i == 2)
            vx_clear(PROC2, VE_ON);
        if (i == 3) /* the exception is one that exits */
            vx_put(EXCEPTIONS, 1u << 20);
        vx_enter();
        ck_assert_int_eq(violate(i == 1   ? 0x2000
                                 : i == 4 ? 0x6000
                                          : 0x1000,
                                 i == 1),
                         CPU_FAULT);
        ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
        vx_left(i == 3 ? 0 : i == 4 ? 49 : 48); /* a misconfiguration never is */
        ck_assert_uint_eq(ram_get(VE + 4, 4), i == 3 ? 0xffffffff : 0);
    }
}
END_TEST

START_TEST(a_violation_of_a_delivery_exits) {
    use_ve();
    vx_put(0x681c, PAGES + 0x1800); /* RSP in an absent page */
    gate_set(VEC_UD, KCODE, 0xb000, 14, 0, 0);
    vx_enter();
    cpu_raise(fx.cpu, VEC_UD);
    ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
    vx_left(48);
    ck_assert_uint_eq(vx_get(VECTORING), VALID | 3u << 8 | VEC_UD);
}
END_TEST

START_TEST(eptp_switching_notes_the_index) {
    for (unsigned on = 0; on < 2; on++) {
        struct insn in = vx_insn(0);
        use_ve();
        if (!on)
            vx_clear(PROC2, VE_ON);
        vx_set(PROC2, 1u << 13);
        vx_put(0x2018, 1);
        vx_put(0x2024, LIST);
        ram_put(LIST + 5 * 8, EPT | 0x1e, 8);
        vx_enter();
        fx.cpu->gpr[R_AX] = 0;
        fx.cpu->gpr[R_CX] = 5;
        ck_assert_int_eq(vx_run(op_vmfunc, &in), CPU_STOP);
        vx_leave();
        ck_assert_uint_eq(vx_get(4), on ? 5 : 7);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("vmx_apic");
    TCase *t = fix_case("vmx_apic");
    tcase_add_checked_fixture(t, vx_create, vx_destroy);
    tcase_add_test(t, each_register_exits_or_is_virtualized_by_the_controls);
    tcase_add_test(t, accesses_beyond_a_register_and_fetches_exit);
    tcase_add_test(t, an_access_of_a_delivery_tells_of_it);
    tcase_add_test(t, a_table_in_the_page_exits_as_a_guest_physical_access);
    tcase_add_test(t, other_pages_and_other_worlds_are_as_before);
    tcase_add_test(t, a_tpr_below_its_threshold_exits_at_once_or_behind_the_write);
    tcase_add_test(t, a_virtual_interrupt_is_delivered_when_l2_is_open);
    tcase_add_test(t, a_lower_priority_and_an_interrupt_window_hold_it);
    tcase_add_test(t, an_eoi_ends_the_virtual_interrupt_in_service);
    tcase_add_test(t, a_self_ipi_is_requested_and_any_other_exits);
    tcase_add_test(t, icrs_upper_half_is_stored_alone);
    tcase_add_test(t, what_a_restore_does_not_carry_is_evaluated_anew);
    tcase_add_test(t, a_notification_requests_what_was_posted);
    tcase_add_test(t, any_other_interrupt_exits_acknowledged);
    tcase_add_test(t, msrs_of_x2apic_are_read_from_the_page);
    tcase_add_test(t, msrs_of_x2apic_are_written_as_the_registers_are);
    tcase_add_test(t, controls_need_one_another);
    tcase_add_test(t, a_descriptor_of_posted_interrupts_may_be_anywhere_but);
    tcase_add_test(t, a_violation_becomes_an_exception_of_l2s);
    tcase_add_test(t, what_is_not_convertible_exits);
    tcase_add_test(t, a_violation_of_a_delivery_exits);
    tcase_add_test(t, eptp_switching_notes_the_index);
    suite_add_tcase(suite, t);
    return fix_run(suite);
}
