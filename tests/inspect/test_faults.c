/* SPDX-License-Identifier: MIT */
/* The study of faults: from events that are known to rows that are known. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inspect/faults.h"
#include "penumbra/mmu.h"
#include "tests/suite.h"

static char path[64], line[256];
static struct err e = {line, sizeof(line)};
static struct trace_writer *w;
static uint64_t now, rip, cr3;
static uint8_t cpl;
static struct symbols *symbols;
static struct faults *faults;

static void begin_with(uint64_t mask) {
    const struct trace_config cfg = {.path = path, .vcpus = 2, .mask = mask};
    ck_assert_msg(trace_open(&cfg, &w, line, sizeof(line)) == 0, "%s", line);
    for (unsigned i = 0; i < 2; i++) {
        struct pn_ring *r = &trace_rings(w)[i];
        r->time = &now;
        r->rip = &rip;
        r->cr3 = &cr3;
        r->cpl = &cpl;
    }
}

static void setup(void) {
    strcpy(path, "/tmp/pn-faults-XXXXXX");
    close(mkstemp(path));
    begin_with(TRACE_ALL_EVENTS);
}

static void teardown(void) {
    faults_destroy(faults);
    symbols_free(symbols);
    unlink(path);
}

/* One fault of vCPU 0 at a time, by an instruction. */
static void fault(uint64_t at, uint64_t by, uint64_t gva, uint64_t error,
                  enum pn_outcome outcome, unsigned level) {
    struct pn_ring *r = trace_rings(w);
    now = at;
    rip = by;
    pn_emit(r, page_fault, gva, error);
    pn_emit(r, fault_outcome, gva, outcome, level, 0);
}

/* The study of what was emitted. */
static void study(struct faults_config *cfg) {
    const struct pn_event_rec *rec;
    struct trace_file *f;
    ck_assert_int_eq(trace_close(w, NULL, line, sizeof(line)), 0);
    ck_assert_int_eq(trace_file_open(path, &f, line, sizeof(line)), 0);
    ck_assert(!cfg->by[0].keys || faults_tells(f, cfg->by[0].key[0]));
    if (!cfg->where.to)
        trace_filter_default(&cfg->where);
    faults = faults_create(cfg);
    ck_assert_ptr_nonnull(faults);
    for (size_t n; (n = trace_file_next(f, &rec));)
        ck_assert_int_eq(faults_add(faults, f, rec, n), 0);
    ck_assert_int_eq(faults_finish(faults), 0);
    trace_file_close(f);
}

/* Row i of the first table, as "key key... faults own first last". */
static const char *row(size_t i) {
    static char text[512];
    const struct fault_table t = faults_table(faults, 0);
    size_t n = 0;
    text[0] = 0;
    for (unsigned k = 0; i < t.rows && k < t.by.keys; k++) {
        fault_key_text(faults, t.by.key[k], t.row[i].key[k], text + n, sizeof(text) - n);
        strcat(text, " ");
        n = strlen(text);
    }
    if (i < t.rows)
        snprintf(text + n, sizeof(text) - n, "%lu %lu %lu %lu",
                 (unsigned long)t.row[i].count, (unsigned long)t.row[i].own,
                 (unsigned long)t.row[i].first, (unsigned long)t.row[i].last);
    return text;
}

#define BY(...)                                                                          \
    (struct faults_config) {                                                             \
        .tables = 1, .by = {                                                             \
            {sizeof((enum fault_key[]){__VA_ARGS__}) / sizeof(enum fault_key),           \
             {__VA_ARGS__}}                                                              \
        }                                                                                \
    }

START_TEST(faults_are_counted_by_their_keys_the_most_first) {
    cpl = 3, cr3 = 0x8000000000123005;
    fault(10, 0x400000, 0x1234, PN_PF_WRITE, PN_OUT_mapped, 1);
    fault(20, 0x400000, 0x1ff8, PN_PF_WRITE | PN_PF_PRESENT, PN_OUT_mapped, 1);
    fault(30, 0x400008, 0x400008, 0, PN_OUT_mapped, 2);
    cpl = 0;
    fault(40, 0x500000, 0x1008, PN_PF_PRESENT, PN_OUT_mmio_cached, 1);
    study(&BY(FAULT_KEY_page, FAULT_KEY_outcome, FAULT_KEY_access, FAULT_KEY_level));
    ck_assert_str_eq(row(0), "0x1000 mapped write 1 2 0 10 20");
    ck_assert_str_eq(row(1), "0x1000 mmio_cached read 1 1 0 40 40");
    ck_assert_str_eq(row(2), "0x400000 mapped fetch 2 1 0 30 30");
    ck_assert_str_eq(row(3), "");
    ck_assert_uint_eq(faults_totals(faults)->faults, 4);
    ck_assert_uint_eq(faults_totals(faults)->own, 0);
}
END_TEST

START_TEST(where_the_guest_was_is_a_key) {
    cpl = 3, cr3 = 0x8000000000123005;
    fault(10, 0x400000, 0x1000, 0, PN_OUT_mapped, 1);
    cr3 = 0x123000; /* another PCID */
    fault(11, 0x400000, 0x1000, 0, PN_OUT_mapped, 1);
    cpl = 0;
    fault(12, 0x400001, 0x1000, 0, PN_OUT_mapped, 1);
    study(&BY(FAULT_KEY_cr3, FAULT_KEY_cpl, FAULT_KEY_rip, FAULT_KEY_vcpu));
    ck_assert_str_eq(row(0), "0x123000 3 0x400000 0 2 0 10 11");
    ck_assert_str_eq(row(1), "0x123000 0 0x400001 0 1 0 12 12");
}
END_TEST

START_TEST(the_reason_of_the_guests_own_is_its_error_code) {
    static const struct {
        uint64_t error;
        const char *reason;
    } own[] = {{PN_PF_WRITE, "not_present 1 1 0 0"},
               {PN_PF_PRESENT | PN_PF_WRITE, "protection 1 1 1 1"},
               {PN_PF_PRESENT | PN_PF_RSVD, "reserved 1 1 2 2"},
               {PN_PF_PRESENT | PN_PF_PK, "pkey 1 1 3 3"}};
    struct pn_ring *r = trace_rings(w);
    for (now = 0; now < 4; now++) {
        /* in shadow the walk follows page_fault, in tdp it comes first */
        if (now & 1)
            pn_emit(r, walker_error, 0x1000, own[now].error);
        pn_emit(r, page_fault, 0x1000, 0);
        if (!(now & 1))
            pn_emit(r, walker_error, 0x1000, own[now].error);
        pn_emit(r, fault_outcome, 0x1000, PN_OUT_guest_pf, 1, 0);
    }
    fault(4, 0, 0x1000, 0, PN_OUT_mapped, 1);
    fault(5, 0, 0x1000, 0, PN_OUT_guest_pf, 1); /* its walk was not recorded */
    study(&BY(FAULT_KEY_reason));
    for (unsigned i = 0; i < 4; i++)
        ck_assert_str_eq(row(i), own[i].reason);
    ck_assert_str_eq(row(4), "- 1 0 4 4");
    ck_assert_str_eq(row(5), "? 1 1 5 5");
    ck_assert_uint_eq(faults_totals(faults)->own, 5);
}
END_TEST

START_TEST(half_of_a_fault_is_a_fault_of_which_half_is_not_known) {
    struct pn_ring *r = trace_rings(w);
    now = 1;
    pn_emit(r, page_fault, 0x1000, PN_PF_WRITE);
    now = 2;
    pn_emit(r, page_fault, 0x2000, PN_PF_WRITE);
    pn_emit(r, fault_outcome, 0x3000, PN_OUT_mapped, 1, 0); /* of another address */
    now = 3;
    pn_emit(r, fault_outcome, 0x4000, PN_OUT_mmio, 0, 0);
    pn_emit(&r[1], page_fault, 0x5000, 0); /* the last one of its vCPU */
    study(&BY(FAULT_KEY_page, FAULT_KEY_outcome, FAULT_KEY_access, FAULT_KEY_vcpu));
    ck_assert_str_eq(row(0), "0x1000 ? write 0 1 0 1 1");
    ck_assert_str_eq(row(1), "0x2000 ? write 0 1 0 2 2");
    ck_assert_str_eq(row(2), "0x3000 mapped ? 0 1 0 2 2");
    ck_assert_str_eq(row(3), "0x4000 mmio ? 0 1 0 3 3");
    ck_assert_str_eq(row(4), "0x5000 ? read 1 1 0 3 3");
    ck_assert_uint_eq(faults_totals(faults)->faults, 5);
    ck_assert_uint_eq(faults_totals(faults)->untold, 3);
}
END_TEST

/* The ring of vCPU 0 as KVM's tracepoints fill it. */
static struct pn_ring *kvm(void) {
    static const uint8_t none = PN_CPL_NONE;
    struct pn_ring *r = trace_rings(w);
    r->cpl = &none;
    return r;
}

START_TEST(a_fault_of_kvms_tdp_of_which_nothing_more_is_told_has_no_outcome) {
    struct pn_ring *r = kvm();
    now = 7, rip = 0x400000;
    pn_emit(r, kvm_tdp_fault, 0x1000, PN_PF_WRITE);
    pn_emit(r, kvm_entry);
    pn_emit(r, set_spte, 1, 1, 0x1007);
    study(&BY(FAULT_KEY_outcome, FAULT_KEY_access, FAULT_KEY_page, FAULT_KEY_rip));
    ck_assert_str_eq(row(0), "? write ? 0x400000 1 0 7 7");
    ck_assert_uint_eq(faults_totals(faults)->untold, 1);
}
END_TEST

START_TEST(what_kvm_does_before_it_enters_the_guest_is_the_outcome) {
    struct pn_ring *r = kvm();
    now = 1;
    pn_emit(r, page_fault, 0x1234, PN_PF_USER | PN_PF_WRITE);
    pn_emit(r, pagetable_walk, 0x1234, PN_PF_USER | PN_PF_WRITE);
    pn_emit(r, walker_error, 0, PN_PF_USER | PN_PF_WRITE);
    pn_emit(r, kvm_entry);
    now = 2;
    pn_emit(r, page_fault, 0x2000, PN_PF_USER);
    pn_emit(r, set_spte, 2, 2, 0x2007); /* its own; the next is a neighbour's */
    pn_emit(r, set_spte, 3, 1, 0x3007);
    now = 3;
    pn_emit(r, page_fault, 0x3000, PN_PF_WRITE | PN_PF_PRESENT); /* a table's */
    pn_emit(r, pagetable_walk, 0xffff800000000000, PN_PF_FETCH); /* the emulator's */
    pn_emit(r, kvm_emulate_insn, 0);
    pn_emit(r, kvm_entry);
    now = 4;
    pn_emit(r, page_fault, 0x4000, 0);
    pn_emit(r, mark_mmio_spte, 4, 0, 0);
    pn_emit(r, kvm_emulate_insn, 0);
    pn_emit(r, mmio, 0x4000, 4, 0, 0); /* the same access */
    now = 5;
    pn_emit(r, page_fault, 0x4008, 0);
    pn_emit(r, kvm_mmio_fault, 0x4008, 4, 0);
    now = 6;
    pn_emit(r, page_fault, 0x5000, PN_PF_WRITE | PN_PF_PRESENT);
    pn_emit(r, kvm_fast_page_fault, 0x5000, PN_PF_WRITE | PN_PF_PRESENT, 0x5005, 0x5007);
    now = 7;
    pn_emit(r, page_fault, 0x6000, PN_PF_WRITE | PN_PF_PRESENT); /* a table's no longer */
    pn_emit(r, prepare_zap_page, 6, 1, 0);
    study(&BY(FAULT_KEY_page, FAULT_KEY_outcome, FAULT_KEY_reason, FAULT_KEY_cause));
    ck_assert_str_eq(row(6), "0x6000 tracked_table - unknown 1 0 7 7");
    ck_assert_str_eq(row(5), "0x5000 dirty_log - dirty_log 1 0 6 6");
    ck_assert_str_eq(row(0), "0x1000 guest_pf not_present demand 1 1 1 1");
    ck_assert_str_eq(row(1), "0x2000 mapped - unknown 1 0 2 2");
    ck_assert_str_eq(row(2), "0x3000 tracked_table - unknown 1 0 3 3");
    ck_assert_str_eq(row(3), "0x4000 mmio - device 1 0 4 4");
    ck_assert_str_eq(row(4), "0x4000 mmio_cached - device 1 0 5 5");
    ck_assert_uint_eq(faults_totals(faults)->faults, 7);
}
END_TEST

/* What KVM has in an spte that is not present, since 6.9. */
#define KVM_NONE 0x8000000000000000

START_TEST(what_kvms_tdp_mmu_drops_is_no_mapping) {
    struct pn_ring *r = kvm();
    now = 1;
    pn_emit(r, kvm_tdp_fault, 0x200000, PN_PF_WRITE | PN_PF_PRESENT);
    pn_emit(r, kvm_tdp_spte, 0x200, 2, 0x38008a5, KVM_NONE);
    pn_emit(r, kvm_entry);
    now = 2;
    pn_emit(r, kvm_tdp_fault, 0x200000, PN_PF_WRITE);
    pn_emit(r, kvm_tdp_spte, 0x200, 2, KVM_NONE, 0x4200ee7);
    pn_emit(r, kvm_entry);
    now = 3;
    pn_emit(r, kvm_tdp_fault, 0x300000, 0);
    pn_emit(r, prepare_zap_page, 6, 1, 0); /* to make room */
    study(&BY(FAULT_KEY_outcome, FAULT_KEY_access));
    ck_assert_str_eq(row(0), "mapped write 1 0 2 2");
    ck_assert_str_eq(row(1), "? read 1 0 3 3");
    ck_assert_str_eq(row(2), "? write 1 0 1 1");
}
END_TEST

START_TEST(a_kvm_that_tells_of_no_access_has_the_walks_that_came_to_something) {
    struct pn_ring *r = kvm();
    pn_emit(r, pagetable_walk, 0x1000, PN_PF_FETCH); /* the emulator's */
    pn_emit(r, kvm_emulate_insn, 0);
    pn_emit(r, pagetable_walk, 0x2000, PN_PF_USER);
    pn_emit(r, walker_error, 0, PN_PF_USER | PN_PF_PRESENT);
    pn_emit(r, pagetable_walk, 0x3000, PN_PF_USER);
    pn_emit(r, set_spte, 3, 1, 0x3007);
    pn_emit(r, mmio, 0x4000, 4, 1, 0); /* KVM's own: who knows of which access */
    study(&BY(FAULT_KEY_page, FAULT_KEY_outcome, FAULT_KEY_reason));
    ck_assert_uint_eq(faults_totals(faults)->faults, 2);
    ck_assert_str_eq(row(0), "0x2000 guest_pf protection 1 1 0 0");
    ck_assert_str_eq(row(1), "0x3000 mapped - 1 0 0 0");
}
END_TEST

START_TEST(without_tracepoints_accesses_to_devices_are_the_faults) {
    struct pn_ring *r = kvm();
    pn_emit(r, mmio, 0xfed00000, 4, 1, 0);
    pn_emit(r, mmio, 0xfed00000, 4, 0, 0);
    study(&BY(FAULT_KEY_outcome, FAULT_KEY_access, FAULT_KEY_page));
    ck_assert_str_eq(row(0), "mmio read ? 1 0 0 0");
    ck_assert_str_eq(row(1), "mmio write ? 1 0 0 0");
}
END_TEST

/* A study that goes on after its tables were asked for comes to the same. */
START_TEST(tables_may_be_asked_for_before_all_records_are_there) {
    struct faults_config cfg = BY(FAULT_KEY_page);
    struct fault_row half[64];
    size_t rows = 0;
    for (unsigned i = 0; i < 3000; i++)
        fault(i, 1, 0x1000ull * (i * i % 61), 0, PN_OUT_mapped, 1);
    study(&cfg);
    struct fault_table all = faults_table(faults, 0);
    ck_assert_uint_le(all.rows, 64);
    memcpy(half, all.row, all.rows * sizeof(*half));
    rows = all.rows;
    struct faults *again = faults_create(&cfg);
    const struct pn_event_rec *rec;
    struct trace_file *f;
    ck_assert_int_eq(trace_file_open(path, &f, line, sizeof(line)), 0);
    for (size_t n; (n = trace_file_next(f, &rec));)
        for (size_t i = 0; i < n; i++) {
            ck_assert_int_eq(faults_add(again, f, &rec[i], 1), 0);
            if (i % 7 == 0)
                faults_sort(again);
        }
    ck_assert_int_eq(faults_finish(again), 0);
    all = faults_table(again, 0);
    ck_assert(all.rows == rows && !memcmp(half, all.row, rows * sizeof(*half)));
    trace_file_close(f);
    faults_destroy(again);
}
END_TEST

START_TEST(vcpus_faults_do_not_mix) {
    struct pn_ring *r = trace_rings(w);
    pn_emit(&r[0], page_fault, 0x1000, PN_PF_WRITE);
    pn_emit(&r[1], page_fault, 0x1000, 0);
    pn_emit(&r[1], fault_outcome, 0x1000, PN_OUT_mapped, 1, 0);
    pn_emit(&r[0], fault_outcome, 0x1000, PN_OUT_tracked_table, 1, 0);
    study(&BY(FAULT_KEY_vcpu, FAULT_KEY_access, FAULT_KEY_outcome));
    ck_assert_str_eq(row(0), "0 write tracked_table 1 0 0 0");
    ck_assert_str_eq(row(1), "1 read mapped 1 0 0 0");
}
END_TEST

START_TEST(functions_are_named_where_the_kernel_was_moved_to) {
    static const char map[] = "0000000000400000 T user_function\n"
                              "0000000000400100 D user_data\n"
                              "ffffffff81000000 T kernel_function\n"
                              "ffffffff81001000 D kernel_data\n";
    ck_assert_int_eq(symbols_parse(map, strlen(map), "F", &symbols, &e), 0);
    cpl = 0;
    fault(1, 0xffffffff9b000010, 0x1000, 0, PN_OUT_mapped, 1);
    fault(2, 0xffffffff9b000ff0, 0x1000, 0, PN_OUT_mapped, 1);
    fault(3, 0xffffffff81000010, 0x1000, 0, PN_OUT_mapped, 1); /* not moved: before it */
    cpl = 3;
    fault(4, 0x400010, 0x1000, 0, PN_OUT_mapped, 1); /* user space is not moved */
    fault(5, 0x500000, 0x1000, 0, PN_OUT_mapped, 1);
    struct faults_config c = BY(FAULT_KEY_function);
    c.symbols = symbols;
    c.moved = 0x1a000000;
    study(&c);
    ck_assert_str_eq(row(0), "kernel_function 2 0 1 2");
    ck_assert_str_eq(row(1), "user_function 1 0 4 4");
    ck_assert_str_eq(row(2), "(user space) 1 0 5 5");
    ck_assert_str_eq(row(3), "(unknown) 1 0 3 3");
}
END_TEST

/* Of ten faults at times 1 to 10; each filter leaves those that it names. */
START_TEST(filters_leave_the_faults_that_they_name) {
    for (unsigned i = 1; i <= 10; i++) {
        cr3 = i <= 4 ? 0x1000 : 0x2000;
        fault(i, 0x100 * i, 0x1000ull * i, 0, i <= 3 ? PN_OUT_guest_pf : PN_OUT_mapped,
              1);
    }
    struct faults_config c = BY(FAULT_KEY_vcpu);
    trace_filter_default(&c.where);
    const char *want = "";
    switch (_i) {
    case 0:
        c.where.from = 3, c.where.to = 5, want = "0 3 1 3 5";
        break;
    case 1:
        c.where.by_gva = true, c.where.gva_from = 0x2000, c.where.gva_to = 0x2fff;
        want = "0 1 1 2 2";
        break;
    case 2:
        c.by_cr3 = true, c.cr3 = 0x2000, want = "0 6 0 5 10";
        break;
    case 3:
        c.by_rip = true, c.rip_from = 0x900, c.rip_to = 0xa00, want = "0 2 0 9 10";
        break;
    case 4:
        c.outcomes = 1u << PN_OUT_guest_pf, want = "0 3 3 1 3";
        break;
    case 5:
        c.where.vcpu = 1;
        break;
    }
    study(&c);
    ck_assert_str_eq(row(0), want);
    ck_assert_str_eq(row(1), "");
}
END_TEST

START_TEST(the_time_is_that_of_all_events) {
    struct pn_ring *r = trace_rings(w);
    now = 5;
    pn_emit(r, tlb_flush, 1);
    fault(10, 0, 0x1000, 0, PN_OUT_mapped, 1);
    now = 100;
    pn_emit(r, tlb_flush, 1);
    study(&BY(FAULT_KEY_vcpu));
    ck_assert(faults_totals(faults)->any);
    ck_assert_uint_eq(faults_totals(faults)->from, 5);
    ck_assert_uint_eq(faults_totals(faults)->to, 100);
}
END_TEST

START_TEST(what_finds_no_row_is_counted_as_beyond) {
    for (uint64_t i = 0; i < FAULT_ROWS_MAX + 7; i++)
        fault(i, 0, i << PN_PAGE_SHIFT, 0, PN_OUT_mapped, 1);
    fault(1, 0, 0x1000, 0, PN_OUT_mapped, 1);
    study(&BY(FAULT_KEY_page));
    const struct fault_table t = faults_table(faults, 0);
    ck_assert_uint_eq(t.rows, FAULT_ROWS_MAX);
    ck_assert_uint_eq(t.beyond, 7);
    ck_assert_str_eq(row(0), "0x1000 2 0 1 1");
    ck_assert_uint_eq(faults_totals(faults)->faults, FAULT_ROWS_MAX + 8);
}
END_TEST

START_TEST(a_trace_says_which_events_it_was_recorded_without) {
    static const uint64_t one = 1;
    static const struct {
        uint64_t mask;
        unsigned lacks;
    } c[] = {{one << PN_EV_page_fault | one << PN_EV_fault_outcome, 0},
             {one << PN_EV_page_fault, FAULTS_LACKS_OUTCOME},
             {one << PN_EV_fault_outcome, FAULTS_LACKS_FAULT},
             {one << PN_EV_tlb_flush, FAULTS_LACKS_FAULT | FAULTS_LACKS_OUTCOME}};
    trace_abandon(w);
    begin_with(c[_i].mask);
    ck_assert_int_eq(trace_close(w, NULL, line, sizeof(line)), 0);
    struct trace_file *f;
    ck_assert_int_eq(trace_file_open(path, &f, line, sizeof(line)), 0);
    ck_assert_uint_eq(faults_lacks(f), c[_i].lacks);
    ck_assert(faults_tells(f, FAULT_KEY_page) && !faults_tells(f, FAULT_KEY_process) &&
              !faults_tells(f, FAULT_KEY_region));
    trace_file_close(f);
}
END_TEST

/* A name in events' fields, as the recorder puts it. */
static void put_text(const char *name, uint64_t word[4]) {
    char text[32] = "";
    snprintf(text, sizeof(text), "%s", name);
    memcpy(word, text, sizeof(text));
}

static void process(unsigned vcpu, uint64_t tgid, const char *name) {
    uint64_t word[4];
    put_text(name, word);
    pn_emit(&trace_rings(w)[vcpu], task, tgid, tgid, 0x1000, word[0], word[1]);
}

static void region(uint64_t from, uint64_t to, const char *name) {
    uint64_t word[4];
    put_text(name, word);
    pn_emit(trace_rings(w), region, from, to, word[0], word[1], word[2], word[3]);
}

START_TEST(a_fault_is_of_the_process_and_region_that_were_told_before_it) {
    fault(1, 0x400000, 0x1000, 0, PN_OUT_mapped, 1);
    process(1, 9, "elsewhere");
    process(0, 7, "sh");
    region(0x1000, 0x1fff, "busybox");
    fault(2, 0x400000, 0x1000, 0, PN_OUT_mapped, 1);
    fault(3, 0x400000, 0x1ff0, 0, PN_OUT_mapped, 1);
    region(0xffff888000000000, 0xffff8880ffffffff, "[direct map]");
    fault(4, 0x400000, 0xffff888000123000, 0, PN_OUT_mapped, 1);
    process(0, 7, "a-name-of-15-ch");
    fault(5, 0x400000, 0x3000, 0, PN_OUT_mapped, 1); /* not in the region */
    process(0, UINT64_MAX, "");
    region(0, 0, "");
    fault(6, 0x400000, 0x40, 0, PN_OUT_mapped, 1);
    study(&BY(FAULT_KEY_process, FAULT_KEY_region));
    ck_assert_str_eq(row(0), "7 sh busybox 2 0 2 3");
    ck_assert_str_eq(row(1), "? ? 2 0 1 6");
    ck_assert_str_eq(row(2), "7 sh [direct map] 1 0 4 4");
    ck_assert_str_eq(row(3), "7 a-name-of-15-ch ? 1 0 5 5");
}
END_TEST

START_TEST(a_page_fault_alone_is_of_the_process_before_the_next) {
    process(0, 1, "one");
    now = 1;
    pn_emit(trace_rings(w), page_fault, 0x1000, 0);
    process(0, 2, "two");
    now = 2;
    pn_emit(trace_rings(w), page_fault, 0x2000, 0);
    study(&BY(FAULT_KEY_process, FAULT_KEY_page));
    ck_assert_str_eq(row(0), "1 one 0x1000 1 0 1 1");
    ck_assert_str_eq(row(1), "2 two 0x2000 1 0 2 2");
}
END_TEST

SUITE("inspect.faults", .setup = setup, .teardown = teardown, .timeout = 120,
      .tests = {faults_are_counted_by_their_keys_the_most_first,
                where_the_guest_was_is_a_key,
                the_reason_of_the_guests_own_is_its_error_code,
                half_of_a_fault_is_a_fault_of_which_half_is_not_known,
                vcpus_faults_do_not_mix,
                a_fault_of_kvms_tdp_of_which_nothing_more_is_told_has_no_outcome,
                what_kvm_does_before_it_enters_the_guest_is_the_outcome,
                what_kvms_tdp_mmu_drops_is_no_mapping,
                a_kvm_that_tells_of_no_access_has_the_walks_that_came_to_something,
                without_tracepoints_accesses_to_devices_are_the_faults,
                tables_may_be_asked_for_before_all_records_are_there,
                functions_are_named_where_the_kernel_was_moved_to,
                the_time_is_that_of_all_events, what_finds_no_row_is_counted_as_beyond,
                a_fault_is_of_the_process_and_region_that_were_told_before_it,
                a_page_fault_alone_is_of_the_process_before_the_next},
      .loops = {{filters_leave_the_faults_that_they_name, 6},
                {a_trace_says_which_events_it_was_recorded_without, 4}})
