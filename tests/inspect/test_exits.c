/* SPDX-License-Identifier: MIT */
/* Exits: from events that are known to perf kvm stat's numbers, which are known. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inspect/exits.h"
#include "penumbra/mmu.h"
#include "tests/suite.h"

static char path[64], line[256];
static struct trace_writer *w;
static uint64_t now, rip, cr3;
static uint8_t cpl;
static struct exits *exits;

static void record(uint64_t mask) {
    const struct trace_config cfg = {.path = path, .vcpus = 2, .mask = mask};
    ck_assert_msg(trace_open(&cfg, &w, line, sizeof(line)) == 0, "%s", line);
    for (unsigned i = 0; i < 2; i++) {
        trace_rings(w)[i].time = &now;
        trace_rings(w)[i].rip = NULL; /* as KVM's */
    }
    cpl = 0;
}

static void setup(void) {
    strcpy(path, "/tmp/pn-exits-XXXXXX");
    close(mkstemp(path));
    record(TRACE_ALL_EVENTS);
}

static void teardown(void) {
    exits_destroy(exits);
    unlink(path);
}

/* From here on the events are a vCPU's of ours, not KVM's. */
static void ours(void) {
    for (unsigned i = 0; i < 2; i++) {
        trace_rings(w)[i].rip = &rip;
        trace_rings(w)[i].cr3 = &cr3;
        trace_rings(w)[i].cpl = &cpl;
    }
}

static struct pn_ring *at(unsigned vcpu, uint64_t time) {
    now = time;
    return &trace_rings(w)[vcpu];
}

static void study(enum exits_kind kind, const struct trace_filter *where) {
    const struct pn_event_rec *rec;
    struct trace_filter all;
    struct trace_file *f;
    trace_filter_default(&all);
    ck_assert_int_eq(trace_close(w, NULL, line, sizeof(line)), 0);
    ck_assert_int_eq(trace_file_open(path, &f, line, sizeof(line)), 0);
    exits = exits_create(kind, where ? where : &all, f);
    ck_assert_ptr_nonnull(exits);
    for (size_t n; (n = trace_file_next(f, &rec));)
        exits_add(exits, rec, n);
    exits_finish(exits, false);
    trace_file_close(f);
}

/* Row i as "name samples time min max". */
static const char *row(size_t i) {
    static char text[160];
    const struct exits_row *r = exits_row(exits, i);
    text[0] = 0;
    if (r) {
        exits_text(exits, r, text, 64);
        size_t n = strlen(text);
        snprintf(text + n, sizeof(text) - n, " %lu %lu %lu %lu", r->samples, r->time,
                 r->min, r->max);
    }
    return text;
}

static uint64_t counter(const char *name) {
    const char *is;
    uint64_t value;
    for (unsigned i = 0; (is = exits_counter(exits, i, &value)); i++)
        if (!strcmp(is, name))
            return value;
    return UINT64_MAX;
}

START_TEST(an_exit_lasts_from_kvm_exit_to_kvm_entry_of_its_vcpu) {
    pn_emit(at(0, 100), kvm_exit, 48, 0, 0, 0, 0);
    pn_emit(at(1, 110), kvm_exit, 12, 0, 0, 0, 0);
    pn_emit(at(0, 300), kvm_entry);
    pn_emit(at(1, 5110), kvm_entry);
    pn_emit(at(0, 6000), kvm_exit, 48, 0, 0, 0, 0);
    pn_emit(at(0, 6400), kvm_entry);
    pn_emit(at(0, 7000), kvm_exit, 48, 0, 0, 0, 0); /* the trace ends in it */
    study(EXITS_VMEXIT, NULL);
    ck_assert_str_eq(row(0), "EPT_VIOLATION 2 600 200 400");
    ck_assert_str_eq(row(1), "HLT 1 5000 5000 5000");
    ck_assert_str_eq(row(2), "");
    ck_assert_uint_eq(exits_totals(exits)->samples, 3);
    ck_assert_uint_eq(exits_totals(exits)->time, 5600);
    ck_assert_uint_eq(counter("exits"), 4);
    /* perf's: stddev 141.4 of 2 samples, of their mean 100, of which 300 is 33.33%. */
    ck_assert(fabs(exits_deviation(exits_row(exits, 0)) - 33.3333) < 0.001);
}
END_TEST

START_TEST(an_exit_reason_that_intel_does_not_have_is_amds) {
    pn_emit(at(0, 1), kvm_exit, 0x400, 0, 0, 0, 0);
    pn_emit(at(0, 2), kvm_entry);
    pn_emit(at(0, 3), kvm_exit, 0x78, 0, 0, 0, 0);
    pn_emit(at(0, 4), kvm_entry);
    pn_emit(at(0, 5), kvm_exit, 0x12345, 0, 0, 0, 0);
    pn_emit(at(0, 6), kvm_entry);
    study(EXITS_VMEXIT, NULL);
    ck_assert_str_eq(row(0), "hlt 1 1 1 1");
    ck_assert_str_eq(row(1), "npf 1 1 1 1");
    ck_assert_str_eq(row(2), "0x12345 1 1 1 1");
}
END_TEST

START_TEST(a_device_write_lasts_to_the_entry_and_a_read_from_the_exit_to_its_value) {
    pn_emit(at(0, 100), kvm_exit, 49, 0, 0, 0, 0);
    pn_emit(at(0, 110), mmio, 0xfee000b0, 4, 1, 0);
    pn_emit(at(0, 150), kvm_entry);
    pn_emit(at(0, 200), kvm_exit, 49, 0, 0, 0, 0);
    pn_emit(at(0, 210), mmio, 0xfed00000, 4, 0, 0); /* not there yet */
    pn_emit(at(0, 270), mmio, 0xfed00000, 4, 0, 7);
    pn_emit(at(0, 290), kvm_entry);
    study(EXITS_MMIO, NULL);
    ck_assert_str_eq(row(0), "0xfed00000:R 1 70 70 70");
    ck_assert_str_eq(row(1), "0xfee000b0:W 1 40 40 40");
    ck_assert_uint_eq(counter("mmio_exits"), 3);
}
END_TEST

START_TEST(ports_and_msrs_last_from_their_event_to_the_entry) {
    pn_emit(at(0, 90), kvm_exit, 30, 0, 0, 0, 0);
    pn_emit(at(0, 100), pio, 0x3f8, 1, 1, 0x41);
    pn_emit(at(0, 130), kvm_entry);
    pn_emit(at(0, 190), kvm_exit, 32, 0, 0, 0, 0);
    pn_emit(at(0, 200), kvm_msr, 0x6e0, 1, 5, 0);
    pn_emit(at(0, 205), kvm_entry);
    study(EXITS_IOPORT, NULL);
    ck_assert_str_eq(row(0), "0x3f8:POUT 1 30 30 30");
    ck_assert_str_eq(row(1), "");
}
END_TEST

START_TEST(the_same_trace_tells_of_msrs) {
    pn_emit(at(0, 190), kvm_exit, 32, 0, 0, 0, 0);
    pn_emit(at(0, 200), kvm_msr, 0x6e0, 1, 5, 0);
    pn_emit(at(0, 205), kvm_entry);
    study(EXITS_MSR, NULL);
    ck_assert_str_eq(row(0), "0x6e0:W 1 5 5 5");
}
END_TEST

START_TEST(events_of_shadow_are_exits_and_take_no_time_but_hlt) {
    ours();
    pn_emit(at(0, 100), page_fault, 0x1000, 2);
    pn_emit(at(0, 100), fault_outcome, 0x1000, PN_OUT_mapped, 1, 0);
    pn_emit(at(0, 110), page_fault, 0x1000, 2);
    pn_emit(at(0, 110), fault_outcome, 0x1000, PN_OUT_mmio_cached, 1, 0);
    pn_emit(at(0, 120), invlpg, 0x1000, 0);
    pn_emit(at(0, 130), hlt, 930);
    pn_emit(at(0, 930), page_fault, 0x2000, 2);
    pn_emit(at(0, 930), fault_outcome, 0x2000, 1000, 1, 0); /* there is no such outcome */
    study(EXITS_VMEXIT, NULL);
    ck_assert_str_eq(row(0), "EXCEPTION_NMI 3 0 0 0");
    ck_assert_str_eq(row(1), "INVLPG 1 0 0 0");
    ck_assert_str_eq(row(2), "HLT 1 800 800 800");
    ck_assert_uint_eq(counter("pf_taken"), 1);
    ck_assert_uint_eq(counter("pf_mapped"), 1);
    ck_assert_uint_eq(counter("pf_fixed"), 1);
    ck_assert_uint_eq(counter("pf_mmio_spte"), 1);
}
END_TEST

START_TEST(under_tdp_faults_of_the_guest_are_no_exits) {
    ours();
    pn_emit(at(0, 100), page_fault, 0x1000, 2);
    pn_emit(at(0, 100), ept_violation, 0x1000, 0x1000, 1, 1);
    pn_emit(at(0, 100), invlpg, 0x1000, 0);
    study(EXITS_VMEXIT, NULL);
    ck_assert_str_eq(row(0), "EPT_VIOLATION 1 0 0 0");
    ck_assert_str_eq(row(1), "");
    ck_assert_uint_eq(exits_totals(exits)->samples, 1);
}
END_TEST

START_TEST(a_trace_that_cannot_tell_shadow_from_tdp_is_unsure) {
    ours();
    pn_emit(at(0, 100), page_fault, 0x1000, 2);
    study(EXITS_VMEXIT, NULL);
    ck_assert(!exits_unsure(exits));
    exits_destroy(exits);
    record(1ull << PN_EV_page_fault | 1ull << PN_EV_hlt);
    ours();
    pn_emit(at(0, 100), page_fault, 0x1000, 2);
    study(EXITS_VMEXIT, NULL);
    ck_assert(exits_unsure(exits));
}
END_TEST

START_TEST(a_filter_leaves_one_vcpu_and_a_time) {
    const struct trace_filter where = {
        .events = UINT64_MAX, .vcpu = 1, .from = 20, .to = 90};
    for (uint64_t t = 0; t < 200; t += 10)
        for (unsigned vcpu = 0; vcpu < 2; vcpu++) {
            pn_emit(at(vcpu, t), kvm_exit, vcpu ? 10 : 12, 0, 0, 0, 0);
            pn_emit(at(vcpu, t + 3), kvm_entry);
        }
    study(EXITS_VMEXIT, &where);
    ck_assert_str_eq(row(0), "CPUID 7 21 3 3");
    ck_assert_str_eq(row(1), "");
}
END_TEST

START_TEST(keys_without_end_find_no_room_and_are_counted) {
    ours();
    for (uint64_t i = 0; i < EXITS_ROWS_MAX + 10; i++)
        pn_emit(at(0, i), mmio, i << 32, 4, 1, 0);
    study(EXITS_MMIO, NULL);
    ck_assert_uint_eq(exits_totals(exits)->samples, EXITS_ROWS_MAX);
    ck_assert_uint_eq(exits_totals(exits)->beyond, 10);
}
END_TEST

SUITE("exits", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {
          an_exit_lasts_from_kvm_exit_to_kvm_entry_of_its_vcpu,
          an_exit_reason_that_intel_does_not_have_is_amds,
          a_device_write_lasts_to_the_entry_and_a_read_from_the_exit_to_its_value,
          ports_and_msrs_last_from_their_event_to_the_entry, the_same_trace_tells_of_msrs,
          events_of_shadow_are_exits_and_take_no_time_but_hlt,
          under_tdp_faults_of_the_guest_are_no_exits, a_filter_leaves_one_vcpu_and_a_time,
          a_trace_that_cannot_tell_shadow_from_tdp_is_unsure,
          keys_without_end_find_no_room_and_are_counted})
