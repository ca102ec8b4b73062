/* SPDX-License-Identifier: MIT */
/* KVM's paravirtual interface: what stands in guest memory, and what is refused. */
#include "machine/pv.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/suite.h"

#define RAM        0x10000u
#define CPUS       4u
#define WALL       0x4b564d00u
#define TIME       0x4b564d01u
#define ASYNC_PF   0x4b564d02u
#define STEAL      0x4b564d03u
#define EOI        0x4b564d04u
#define EPOCH      1767225600
#define ENOSYS_KVM (-1000)

static struct {
    uint8_t ram[RAM];
    uint64_t now, writes;
    int64_t tsc_offset[CPUS];
    bool halted[CPUS];
    int yielded;
    unsigned sent[CPUS];
    uint32_t last_low;
} w;
static struct pv *pv;
static struct clock clock_;
static struct dev_bus *bus;

static uint64_t now(void *o) {
    return w.now;
}
static uint64_t tsc(void *o, unsigned cpu, uint64_t now) {
    return now + (uint64_t)w.tsc_offset[cpu];
}
static size_t fit(pn_gpa gpa, size_t size) {
    return gpa >= RAM ? 0 : size < RAM - gpa ? size : RAM - gpa;
}
static size_t read_phys(void *o, pn_gpa gpa, void *buf, size_t size) {
    size = fit(gpa, size);
    if (size)
        memcpy(buf, w.ram + gpa, size);
    return size;
}
static size_t write_phys(void *o, pn_gpa gpa, const void *buf, size_t size) {
    size = fit(gpa, size);
    w.writes++;
    if (size)
        memcpy(w.ram + gpa, buf, size);
    return size;
}
static bool wake(void *o, unsigned cpu) {
    bool was = w.halted[cpu];
    w.halted[cpu] = false;
    return was;
}
static void yield_to(void *o, unsigned cpu) {
    w.yielded = (int)cpu;
}
static bool send_low(void *o, unsigned cpu, uint32_t low) {
    w.sent[cpu]++;
    w.last_low = low;
    return cpu != 3; /* a local APIC that is off */
}

static void start(uint32_t features) {
    memset(&w, 0, sizeof(w));
    w.yielded = -1;
    clock_ = (struct clock){.now = now};
    bus = dev_bus_create();
    const struct dev_env env = {
        .bus = bus,
        .clock = &clock_,
        .host = {.read_phys = read_phys, .write_phys = write_phys}};
    const struct pv_config cfg = {.features = features,
                                  .cpus = CPUS,
                                  .epoch = EPOCH,
                                  .tsc = tsc,
                                  .wake = wake,
                                  .yield_to = yield_to,
                                  .send = send_low};
    pv = pv_create(&env, &cfg);
    ck_assert_ptr_nonnull(pv);
}

static void setup(void) {
    start(PN_PV_ALL);
}
static void teardown(void) {
    dev_bus_destroy(bus);
}

static uint32_t u32(pn_gpa gpa) {
    uint32_t v;
    memcpy(&v, w.ram + gpa, 4);
    return v;
}
static uint64_t u64(pn_gpa gpa) {
    uint64_t v;
    memcpy(&v, w.ram + gpa, 8);
    return v;
}
static int wr(unsigned cpu, uint32_t index, uint64_t value) {
    return pv_msr_write(pv, cpu, index, value);
}
static uint64_t rd(unsigned cpu, uint32_t index) {
    uint64_t value = ~0ull;
    ck_assert_int_eq(pv_msr_read(pv, cpu, index, &value), 0);
    return value;
}

/* The guest's way to read the clock (msr.rst). */
static uint64_t guest_ns(pn_gpa at, unsigned cpu) {
    uint64_t delta = tsc(NULL, cpu, w.now) - u64(at + 8);
    int8_t shift = (int8_t)w.ram[at + 28];
    ck_assert_uint_eq(u32(at) & 1, 0);
    delta = shift < 0 ? delta >> -shift : delta << shift;
    return u64(at + 16) + (uint64_t)((unsigned __int128)delta * u32(at + 24) >> 32);
}

START_TEST(pvclock_tells_the_machines_time) {
    w.now = 1000;
    w.tsc_offset[1] = 777;
    ck_assert_int_eq(wr(1, TIME, 0x2000 | 1), 0);
    ck_assert_uint_eq(rd(1, TIME), 0x2001);
    ck_assert_uint_eq(rd(1, 0x12), 0x2001); /* the old name of the same */
    ck_assert_uint_eq(rd(0, TIME), 0);
    ck_assert_uint_eq(w.ram[0x2000 + 29], 1); /* stable */
    w.now = 123456789012;
    ck_assert_uint_eq(guest_ns(0x2000, 1), w.now);
    /* Nothing is written while nothing changes, and at once when the TSC moved. */
    uint64_t writes = w.writes;
    pv_enter(pv, 1);
    ck_assert_uint_eq(w.writes, writes);
    w.tsc_offset[1] = -5000000;
    uint32_t version = u32(0x2000);
    pv_enter(pv, 1);
    ck_assert_uint_gt(u32(0x2000), version);
    w.now += 99;
    ck_assert_uint_eq(guest_ns(0x2000, 1), w.now);
    ck_assert_int_eq(wr(1, TIME, 0), 0);
    memset(w.ram + 0x2000, 0, 32);
    w.tsc_offset[1] = 1;
    pv_enter(pv, 1);
    ck_assert_uint_eq(u32(0x2000), 0);
}
END_TEST

START_TEST(the_wall_clock_is_epoch_and_time) {
    w.now = 5000000000;
    ck_assert_int_eq(wr(0, WALL, 0x3000), 0);
    ck_assert_uint_eq(u32(0x3004), EPOCH);
    ck_assert_uint_eq(u32(0x3008), 0);
    ck_assert_uint_eq(u32(0x3000) & 1, 0);
    ck_assert_uint_eq(rd(2, 0x11), 0x3000); /* one for all vCPUs */
}
END_TEST

START_TEST(steal_time_counts_what_others_had) {
    ck_assert_int_eq(wr(0, STEAL, 0x1000 | 0x3e), -1);
    ck_assert_int_eq(wr(0, STEAL, 0x1000 | 2), -1);
    ck_assert_int_eq(wr(0, STEAL, 0x1000 | 1), 0);
    ck_assert_uint_eq(rd(0, STEAL), 0x1001);
    pv_enter(pv, 0);
    w.now = 100;
    pv_leave(pv, 0, true);
    ck_assert_uint_eq(w.ram[0x1010], 1); /* preempted */
    w.now = 350;
    pv_enter(pv, 0);
    ck_assert_uint_eq(u64(0x1000), 250);
    ck_assert_uint_eq(w.ram[0x1010], 0);
    ck_assert_uint_eq(u32(0x1008) & 1, 0);
    /* Halted is not stolen, until something wakes it. */
    pv_leave(pv, 0, false);
    w.now = 1000;
    pv_ready(pv, 0);
    w.now = 1040;
    pv_ready(pv, 0);
    pv_enter(pv, 0);
    ck_assert_uint_eq(u64(0x1000), 290);
    /* Off: counts no more. */
    ck_assert_int_eq(wr(0, STEAL, 0), 0);
    pv_leave(pv, 0, true);
    w.now = 2000;
    pv_enter(pv, 0);
    ck_assert_uint_eq(u64(0x1000), 290);
}
END_TEST

START_TEST(an_eoi_offer_stays_where_it_was_made) {
    ck_assert(!pv_eoi_offer(pv, 0));
    ck_assert_int_eq(wr(0, EOI, 0x1000 | 2), -1);
    ck_assert_int_eq(wr(0, EOI, RAM | 1), -1); /* no RAM there */
    ck_assert_int_eq(wr(0, EOI, 0x1000 | 1), 0);
    w.ram[0x1000] = 0x80;
    ck_assert(pv_eoi_offer(pv, 0));
    ck_assert_uint_eq(w.ram[0x1000], 0x81);
    ck_assert_int_eq(wr(0, EOI, 0x4000 | 1), 0); /* the offer stays where it was made */
    ck_assert(pv_eoi_withdraw(pv, 0));
    ck_assert_uint_eq(w.ram[0x1000], 0x80);
    ck_assert(!pv_eoi_withdraw(pv, 0));
    ck_assert(pv_eoi_offer(pv, 0));
    w.ram[0x4000] = 0; /* the guest takes it */
    ck_assert(!pv_eoi_withdraw(pv, 0));
}
END_TEST

/* Addresses that are not RAM, whole or in part: nothing is written, nothing breaks. */
START_TEST(an_address_beyond_ram_writes_nothing) {
    static const uint64_t bad[] = {RAM,        RAM - 4,        RAM - 28,
                                   1ull << 40, ~0ull & ~0xfff, ~0x3full};
    uint8_t before[RAM];
    memcpy(before, w.ram, RAM);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        wr(0, TIME, bad[i] | 1);
        wr(0, WALL, bad[i]);
        wr(0, STEAL, (bad[i] & ~0x3full) | 1);
        wr(0, EOI, (bad[i] & ~3ull) | 1);
        for (unsigned n = 0; n < 3; n++) {
            w.now += 10, w.tsc_offset[0]++;
            pv_enter(pv, 0);
            pv_leave(pv, 0, true);
        }
        if (bad[i] != RAM - 4 && bad[i] != RAM - 28) /* a word fits there */
            ck_assert(!pv_eoi_offer(pv, 0));
        wr(0, TIME, 0);
        wr(0, EOI, 0);
    }
    wr(0, WALL, RAM - 12); /* the wall clock is 12 bytes: it fits */
    ck_assert_uint_eq(u32(RAM - 8), EPOCH);
    memset(w.ram + RAM - 64, 0, 64);
    ck_assert_mem_eq(before, w.ram, RAM - 64);
}
END_TEST

START_TEST(each_msr_is_behind_its_own_switch) {
    uint64_t v;
    ck_assert_int_eq(wr(0, ASYNC_PF, 0), -1);
    ck_assert_int_eq(pv_msr_read(pv, 0, 0x4b564dff, &v), -1);
    ck_assert(pv_is_msr(0x11) && pv_is_msr(0x4b564d00) && pv_is_msr(0x4b564dff));
    ck_assert(!pv_is_msr(0x10) && !pv_is_msr(0x13) && !pv_is_msr(0x4b564e00));
    /* Each behind its own switch. */
    static const struct {
        uint32_t index, feature;
    } msr[] = {{WALL, PN_PV_PVCLOCK}, {TIME, PN_PV_PVCLOCK},     {0x11, PN_PV_PVCLOCK},
               {0x12, PN_PV_PVCLOCK}, {STEAL, PN_PV_STEAL_TIME}, {EOI, PN_PV_EOI}};
    for (unsigned f = 1; f < PN_PV_ALL; f <<= 1) {
        dev_bus_destroy(bus);
        start(f);
        for (size_t i = 0; i < sizeof(msr) / sizeof(msr[0]); i++) {
            int rc = msr[i].feature == f ? 0 : -1;
            ck_assert_int_eq(pv_msr_read(pv, 0, msr[i].index, &v), rc);
            ck_assert_int_eq(wr(0, msr[i].index, 0), rc);
        }
    }
}
END_TEST

static int64_t call(uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3) {
    return pv_hypercall(pv, 0, nr, (const uint64_t[4]){a0, a1, a2, a3});
}

START_TEST(a_kick_wakes_now_or_at_the_next_halt) {
    w.halted[2] = true;
    ck_assert_int_eq(call(5, 0, 2, 0, 0), 0);
    ck_assert(!w.halted[2]);
    ck_assert_int_eq(w.yielded, 2);
    ck_assert(!pv_was_kicked(pv, 2));
    /* Before it halts: the next halt is none. */
    ck_assert_int_eq(call(5, 0, 2, 0, 0), 0);
    ck_assert(pv_was_kicked(pv, 2));
    ck_assert(!pv_was_kicked(pv, 2));
    ck_assert_int_eq(call(5, 0, CPUS, 0, 0), 0);
    ck_assert_int_eq(call(5, 0, ~0ull, 0, 0), 0);
    call(5, 0, 1, 0, 0);
    pv_reset(pv, 1);
    ck_assert(!pv_was_kicked(pv, 1));
}
END_TEST

START_TEST(one_hypercall_sends_to_many_vcpus) {
    ck_assert_int_eq(call(10, 0xf, 0, 0, 0xfb), 3); /* vCPU 3 takes none */
    for (unsigned i = 0; i < CPUS; i++)
        ck_assert_uint_eq(w.sent[i], 1);
    ck_assert_uint_eq(w.last_low, 0xfb);
    ck_assert_int_eq(call(10, 1, 0, 2, 0x400), 1); /* an NMI to vCPU 2 */
    ck_assert_uint_eq(w.sent[2], 2);
    ck_assert_uint_eq(w.last_low, 0x400);
    ck_assert_int_eq(call(10, ~0ull, ~0ull, 4, 0xfb), 0);         /* nobody there */
    ck_assert_int_eq(call(10, ~0ull, ~0ull, ~0ull - 1, 0xfb), 0); /* nor past the end */
    ck_assert_int_eq(call(10, 1, 0, 0, 0x800), -22);
    ck_assert_int_eq(call(10, 1, 0, 0, 0x40000), -22);
    ck_assert_uint_eq(w.sent[0], 1);
}
END_TEST

START_TEST(a_yield_to_nobody_is_nothing) {
    ck_assert_int_eq(call(11, 3, 0, 0, 0), 0);
    ck_assert_int_eq(w.yielded, 3);
    ck_assert_int_eq(call(11, 99, 0, 0, 0), 0);
    ck_assert_int_eq(w.yielded, 3);
    ck_assert_int_eq(call(1, 0, 0, 0, 0), 0); /* VAPIC_POLL_IRQ: always there */
    ck_assert_int_eq(call(9, 0, 0, 0, 0), ENOSYS_KVM);
    ck_assert_int_eq(call(~0ull, 0, 0, 0, 0), ENOSYS_KVM);
    dev_bus_destroy(bus);
    start(PN_PV_PVCLOCK);
    ck_assert_int_eq(call(5, 0, 1, 0, 0), ENOSYS_KVM);
    ck_assert_int_eq(call(10, 1, 0, 0, 0xfb), ENOSYS_KVM);
    ck_assert_int_eq(call(11, 1, 0, 0, 0), ENOSYS_KVM);
}
END_TEST

START_TEST(feature_lists_parse_and_print) {
    uint32_t set = 99;
    char err[160], text[PN_PV_TEXT_MAX];
    ck_assert_int_eq(pn_pv_parse("all", &set, err, sizeof(err)), 0);
    ck_assert_uint_eq(set, PN_PV_ALL);
    ck_assert_int_eq(pn_pv_parse("none", &set, err, sizeof(err)), 0);
    ck_assert_uint_eq(set, 0);
    ck_assert_int_eq(pn_pv_parse("pv-eoi,pvclock", &set, err, sizeof(err)), 0);
    ck_assert_uint_eq(set, PN_PV_EOI | PN_PV_PVCLOCK);
    ck_assert_str_eq(pn_pv_text(set, text), "pvclock,pv-eoi");
    ck_assert_str_eq(pn_pv_text(PN_PV_DEFAULT, text), "default");
    pn_pv_text(PN_PV_ALL & ~PN_PV_PVCLOCK, text);
    ck_assert_int_eq(pn_pv_parse(text, &set, err, sizeof(err)), 0);
    ck_assert_uint_eq(set, PN_PV_ALL & ~PN_PV_PVCLOCK);
    static const char *const wrong[] = {
        "", ",", "pvclock,", "pvclock,,pv-eoi", "all,none", "PVCLOCK"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        ck_assert_int_ne(pn_pv_parse(wrong[i], &set, err, sizeof(err)), 0);
    ck_assert_uint_eq(pn_pv_cpuid(PN_PV_ALL), 0x010028e9);
    ck_assert_uint_eq(pn_pv_cpuid(0), 0);
    for (unsigned i = 0; pn_pv_name(i); i++)
        ck_assert(*pn_pv_doc(i));
}
END_TEST

SUITE("pv", .setup = setup, .teardown = teardown,
      .tests = {pvclock_tells_the_machines_time, the_wall_clock_is_epoch_and_time,
                steal_time_counts_what_others_had, an_eoi_offer_stays_where_it_was_made,
                an_address_beyond_ram_writes_nothing, each_msr_is_behind_its_own_switch,
                a_kick_wakes_now_or_at_the_next_halt, one_hypercall_sends_to_many_vcpus,
                a_yield_to_nobody_is_nothing, feature_lists_parse_and_print})
