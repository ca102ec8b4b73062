/* SPDX-License-Identifier: MIT */
/* The interrupt controllers and the 8254, taken out of one machine and put into another
 * at random moments of random programs: both go on alike. */
#include <stdlib.h>
#include <string.h>

#include "dev/dev.h"
#include "fixture.h"
#include "tests/suite.h"

#define HZ       1000000000u
#define APIC     0xfee00000u
#define IOAPIC   0xfec00000u
#define STEPS    400u
#define RUNS     60u
#define LVT_ONCE 0x00040u

struct half {
    struct fx fx;
    struct pit *pit;
};

static void begin(struct half *h) {
    fx_init(&h->fx);
    fx_intc(&h->fx, HZ);
    struct dev_env env = h->fx.env;
    env.irq = intc_sink(h->fx.intc);
    h->pit = pit_create(&env);
}

static void done(struct half *h) {
    fx_done(&h->fx);
}

static uint32_t pick(unsigned *seed, uint32_t n) {
    *seed = *seed * 1103515245u + 12345u;
    return (*seed >> 8) % n;
}

/* One random access, the same for whoever gets the same seed. Return: what was read. */
static uint64_t poke(struct half *h, unsigned *seed) {
    struct fx *f = &h->fx;
    static const uint16_t ports[] = {0x20,  0x21, 0xa0, 0xa1, 0x4d0,
                                     0x4d1, 0x40, 0x42, 0x43, 0x61};
    static const uint16_t regs[] = {0x80,  0xd0,  0xe0,  0xf0,  0x320, 0x350,
                                    0x360, 0x370, 0x380, 0x3e0, 0xb0,  0x310};
    uint32_t what = pick(seed, 8), value = pick(seed, 1u << 24) << 8 | pick(seed, 256);
    unsigned n = pick(seed, 1000);
    switch (what) {
    case 0:
        out8(f, ports[n % 10], (uint8_t)value);
        return 0;
    case 1:
        return in8(f, ports[n % 10]);
    case 2:
        if (n % 12 == 8)
            value %= 5000000;
        wr32(f, APIC + regs[n % 12], value);
        return 0;
    case 3:
        return rd32(f, APIC + (n % 64) * 16);
    case 4:
        wr32(f, IOAPIC, 0x10 + n % 48);
        wr32(f, IOAPIC + 0x10, value & (n & 1 ? 0xff000000 : 0x1a8ff));
        return 0;
    case 5:
        wr32(f, IOAPIC, n % 64);
        return rd32(f, IOAPIC + 0x10);
    case 6:
        f->line.set(f->line.opaque, n % 24, value & 1);
        return 0;
    default:
        fx_by(f, value % 3000000);
        return (uint64_t)intc_ack(f->intc, n % FX_CPUS);
    }
}

static void move(struct half *from, struct half *to, uint32_t lines) {
    struct pn_chips s;
    uint8_t page[INTC_LAPIC_PAGE];
    memset(&s, 0, sizeof(s));
    to->fx.now = from->fx.now;
    intc_get_chips(from->fx.intc, &s);
    dev_save(from->pit, &s.pit);
    lines = (lines & ~1u) | (uint32_t)pit_adopt(to->pit, &s.pit);
    ck_assert_int_eq(intc_set_chips(to->fx.intc, &s, lines), 0);
    for (unsigned cpu = 0; cpu < FX_CPUS; cpu++) {
        uint64_t base;
        intc_get_lapic(from->fx.intc, cpu, page);
        ck_assert_int_eq(intc_msr_read(from->fx.intc, cpu, 0x1b, &base), 0);
        intc_set_lapic(to->fx.intc, cpu, base, page);
    }
}

/* The lines that random programs have set, followed beside them. */
static uint32_t lines_after(unsigned seed, unsigned steps) {
    struct half h;
    uint32_t lines = 0;
    begin(&h);
    for (unsigned i = 0; i < steps; i++) {
        unsigned look = seed;
        uint32_t what = pick(&look, 8), value = pick(&look, 1u << 24) << 8;
        value |= pick(&look, 256);
        unsigned gsi = pick(&look, 1000) % 24;
        if (what == 6)
            lines = value & 1 ? lines | 1u << gsi : lines & ~(1u << gsi);
        poke(&h, &seed);
    }
    done(&h);
    return lines;
}

/* Not the counter, which has no phase below a tick of its divider; and no register that
 * is not there: reading one is an error, and which errors are still to be told is
 * nobody's register. */
static bool exists(unsigned reg) {
    return (reg >= 0x10 && reg < 0x28) || (reg >= 0x30 && reg < 0x39) || reg == 0x2 ||
           reg == 0x3 || reg == 0x8 || reg == 0xa || (reg >= 0xd && reg <= 0xf) ||
           reg == 0x3e;
}

START_TEST(controllers_that_move_read_alike_after_random_programs) {
    struct half a, b;
    for (unsigned run = 0; run < RUNS; run++) {
        unsigned seed = run, steps = run * 7 % STEPS;
        uint32_t lines = lines_after(seed, steps);
        begin(&a);
        begin(&b);
        for (unsigned i = 0; i < steps; i++)
            poke(&a, &seed);
        move(&a, &b, lines);
        for (unsigned reg = 0; reg < 64; reg++)
            if (exists(reg))
                ck_assert_msg(rd32(&a.fx, APIC + reg * 16) ==
                                  rd32(&b.fx, APIC + reg * 16),
                              "run %u: APIC register %x", run, reg);
        for (unsigned reg = 0; reg < 64; reg++) {
            wr32(&a.fx, IOAPIC, reg);
            wr32(&b.fx, IOAPIC, reg);
            ck_assert_uint_eq(rd32(&a.fx, IOAPIC + 0x10), rd32(&b.fx, IOAPIC + 0x10));
        }
        for (unsigned cpu = 0; cpu < FX_CPUS; cpu++)
            for (int got; (got = intc_peek(a.fx.intc, cpu)) >= 0;) {
                ck_assert_int_eq(got, intc_peek(b.fx.intc, cpu));
                ck_assert_int_eq(intc_ack(a.fx.intc, cpu), intc_ack(b.fx.intc, cpu));
            }
        ck_assert_uint_eq(in8(&a.fx, 0x21), in8(&b.fx, 0x21));
        ck_assert_uint_eq(in8(&a.fx, 0xa1), in8(&b.fx, 0xa1));
        ck_assert_uint_eq(in8(&a.fx, 0x61) & 3, in8(&b.fx, 0x61) & 3);
        done(&a);
        done(&b);
    }
}
END_TEST

START_TEST(a_timer_that_moves_fires_when_it_would_have) {
    struct half a, b;
    begin(&a);
    begin(&b);
    wr32(&a.fx, APIC + 0xf0, 0x1ff);
    wr32(&a.fx, APIC + 0x3e0, 0xb);
    wr32(&a.fx, APIC + 0x320, LVT_ONCE);
    wr32(&a.fx, APIC + 0x380, 1000000);
    fx_by(&a.fx, 400000);
    move(&a, &b, 0);
    fx_by(&b.fx, 599999);
    ck_assert_int_eq(intc_peek(b.fx.intc, 0), -1);
    fx_by(&b.fx, 1);
    ck_assert_int_eq(intc_peek(b.fx.intc, 0), LVT_ONCE);
    done(&a);
    done(&b);
}
END_TEST

/* Off the bus: nobody answers at its ports any more, and another can take its place. */
START_TEST(destroyed_controllers_answer_nowhere) {
    struct half a;
    begin(&a);
    out8(&a.fx, 0x21, 0x5a);
    ck_assert_uint_eq(in8(&a.fx, 0x21), 0x5a);
    dev_destroy(a.fx.intc);
    ck_assert_uint_eq(in8(&a.fx, 0x21), 0xff);
    ck_assert_uint_eq(rd32(&a.fx, APIC + 0x30), 0xffffffff);
    ck_assert_uint_eq(rd32(&a.fx, IOAPIC), 0xffffffff);
    done(&a);
}
END_TEST

SUITE("intc_state", .timeout = 60,
      .tests = {controllers_that_move_read_alike_after_random_programs,
                a_timer_that_moves_fires_when_it_would_have,
                destroyed_controllers_answer_nowhere})
