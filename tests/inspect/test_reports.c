/* SPDX-License-Identifier: MIT */
/* Reports and figures of the study of faults: from events that are known to values that are. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inspect/faults.h"
#include "penumbra/mmu.h"
#include "tests/suite.h"

static char path[64], line[256];
static struct trace_writer *w;
static struct pn_ring *ring;
static uint64_t now, rip, cr3;
static uint8_t cpl;
static struct faults *faults;
static struct pn_cost_profile prices;

static void setup(void) {
    strcpy(path, "/tmp/pn-reports-XXXXXX");
    close(mkstemp(path));
    const struct trace_config cfg = {.path = path, .vcpus = 1, .mask = TRACE_ALL_EVENTS};
    ck_assert_msg(trace_open(&cfg, &w, line, sizeof(line)) == 0, "%s", line);
    ring = trace_rings(w);
    ring->time = &now;
    ring->rip = &rip;
    ring->cr3 = &cr3;
    ring->cpl = &cpl;
}

static void teardown(void) {
    faults_destroy(faults);
    unlink(path);
}

static void study(struct trace_filter *where) {
    const struct pn_event_rec *rec;
    struct trace_file *f;
    struct faults_config cfg = {
        .tables = 1, .by = {{1, {FAULT_KEY_page}}}, .prices = &prices, .reports = true};
    ck_assert_int_eq(trace_close(w, NULL, line, sizeof(line)), 0);
    ck_assert_int_eq(trace_file_open(path, &f, line, sizeof(line)), 0);
    trace_filter_default(&cfg.where);
    if (where)
        cfg.where = *where;
    faults = faults_create(&cfg);
    ck_assert_ptr_nonnull(faults);
    for (size_t n; (n = trace_file_next(f, &rec));)
        ck_assert_int_eq(faults_add(faults, f, rec, n), 0);
    ck_assert_int_eq(faults_finish(faults), 0);
    trace_file_close(f);
}

/* Row i of a report, its values in decimal. */
static const char *row(enum fault_report_id id, size_t i) {
    static char text[512];
    uint64_t *value, beyond;
    size_t rows, n = 0;
    ck_assert_int_eq(
        fault_reports_rows(faults_reports(faults), id, &value, &rows, &beyond), 0);
    ck_assert_uint_eq(beyond, 0);
    text[0] = 0;
    unsigned columns = fault_report_at(id)->columns;
    for (unsigned c = 0; i < rows && c < columns; c++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, c ? " %lu" : "%lu",
                              (unsigned long)value[i * columns + c]);
    free(value);
    return text;
}

/* A fault whose walk comes to the leaf table of frame `table`. */
static void maps(uint64_t gva, uint64_t table, bool built) {
    pn_emit(ring, page_fault, gva, 0);
    pn_emit(ring, pagetable_walk, gva, 0);
    pn_emit(ring, paging_element, 3, 2, 0x9000);
    pn_emit(ring, paging_element, 3, 1, table << 12);
    if (built)
        pn_emit(ring, get_page, table, 1, 1);
    pn_emit(ring, set_spte, gva >> 12, 1, 0);
    pn_emit(ring, fault_outcome, gva, PN_OUT_mapped, 1, 0);
}

START_TEST(tables_are_listed_by_how_often_they_went_out_of_sync) {
    for (now = 1; now <= 3; now++) {
        rip = 0x100 + now;
        pn_emit(ring, unsync_page, 7, 1);
        pn_emit(ring, sync_page, 7, 1);
    }
    pn_emit(ring, unsync_page, 8, 1);
    pn_emit(ring, sync_page, 9, 1); /* it went so before the recording */
    study(NULL);
    ck_assert_str_eq(row(FAULT_REPORT_unsync, 0), "3 3 28672 1 3 259");
    ck_assert_str_eq(row(FAULT_REPORT_unsync, 1), "1 0 32768 4 4 259");
    ck_assert_str_eq(row(FAULT_REPORT_unsync, 2), "");
}
END_TEST

START_TEST(a_shadow_page_that_one_fault_alone_used_was_built_in_vain) {
    now = 10;
    maps(0x1000, 7, true);
    now = 14;
    pn_emit(ring, prepare_zap_page, 7, 1, FAULT_ZAP_RECLAIM);
    now = 20;
    maps(0x1000, 7, true);
    maps(0x2000, 7, false); /* a second one */
    now = 30;
    pn_emit(ring, prepare_zap_page, 7, 1, FAULT_ZAP_FLOOD);
    maps(0x1000, 8, true); /* still there at the end */
    pn_emit(ring, get_page, 9, PN_ROLE_DIRECT | 1, 1);
    pn_emit(ring, prepare_zap_page, 9, PN_ROLE_DIRECT | 1,
            FAULT_ZAP_ROOT); /* no guest table's */
    study(NULL);
    snprintf(line, sizeof(line), "1 2 2 28672 1 7 %u", FAULT_ZAP_FLOOD);
    ck_assert_str_eq(row(FAULT_REPORT_unused, 0), line);
    ck_assert_str_eq(row(FAULT_REPORT_unused, 1), "");
}
END_TEST

START_TEST(a_part_of_the_time_has_the_pages_that_faulted_in_it) {
    now = 1000;
    maps(0x1000, 7, false);
    maps(0x1ff8, 7, false); /* the same page */
    cr3 = 0x5000;
    maps(0x1000, 7, false);             /* another address space's */
    maps(0xffff888000001000, 7, false); /* the kernel's is one */
    cr3 = 0;
    maps(0xffff888000001000, 7, false);
    now = 1064; /* parts are of 2 now */
    maps(0x1000, 7, false);
    maps(0x3000, 7, false);
    study(NULL);
    ck_assert_str_eq(row(FAULT_REPORT_working_set, 0), "1000 3 3 3");
    ck_assert_str_eq(row(FAULT_REPORT_working_set, 1), "1002 0 0 3");
    ck_assert_str_eq(row(FAULT_REPORT_working_set, 32), "1064 2 1 4");
    ck_assert_str_eq(row(FAULT_REPORT_working_set, 33), "");
}
END_TEST

START_TEST(filters_leave_the_pages_that_they_name) {
    struct trace_filter where;
    trace_filter_default(&where);
    where.by_gva = true, where.gva_from = 0x2000, where.gva_to = 0x2fff;
    maps(0x1000, 7, false);
    maps(0x2000, 7, false);
    study(&where);
    ck_assert_str_eq(row(FAULT_REPORT_working_set, 0), "0 1 1 1");
}
END_TEST

/* The cycles of the faults of a page, and the references. */
static void costs(uint64_t page, double cycles, uint64_t refs) {
    const struct fault_table t = faults_table(faults, 0);
    for (size_t i = 0; i < t.rows; i++)
        if (t.row[i].key[0] == page) {
            ck_assert_double_eq(t.row[i].cycles, cycles);
            ck_assert_uint_eq(t.row[i].refs, refs);
            return;
        }
    ck_abort_msg("no faults of page %lx", (unsigned long)page);
}

static void outcome(uint64_t page, enum pn_outcome is) {
    pn_emit(ring, page_fault, page, 0);
    pn_emit(ring, fault_outcome, page, is, 1, 0);
}

static void set_prices(void) {
    const enum pn_cost cost[] = {PN_COST_exit,       PN_COST_shadow_fault,
                                 PN_COST_exception,  PN_COST_inject,
                                 PN_COST_gpte_write, PN_COST_exit_mmio,
                                 PN_COST_table_made, PN_COST_table_zapped,
                                 PN_COST_gpte_sync,  PN_COST_violation};
    double price = 1;
    for (unsigned i = 0; i < sizeof(cost) / sizeof(cost[0]); i++, price *= 10)
        prices.price[cost[i]] = price;
}

START_TEST(a_shadow_fault_costs_its_exit_and_its_work) {
    set_prices();
    maps(0x1000, 7, true);
    maps(0x1000, 7, false);
    outcome(0x2000, PN_OUT_guest_pf);
    outcome(0x3000, PN_OUT_tracked_table);
    outcome(0x4000, PN_OUT_mmio_cached);
    pn_emit(ring, sync_page, 1, 1); /* no fault's */
    pn_emit(ring, page_fault, 0x5000, 0);
    pn_emit(ring, prepare_zap_page, 1, 1, FAULT_ZAP_RECLAIM);
    pn_emit(ring, prepare_zap_page, 2, 1, FAULT_ZAP_RECLAIM);
    pn_emit(ring, sync_page, 3, 1);
    pn_emit(ring, fault_outcome, 0x5000, PN_OUT_mapped_split, 1, 0);
    study(NULL);
    costs(0x1000, 1000022, 4);
    costs(0x2000, 1101, 0);
    costs(0x3000, 10001, 0);
    costs(0x4000, 100001, 0);
    costs(0x5000, 120000011, 0);
}
END_TEST

START_TEST(under_tdp_a_guests_own_fault_needs_no_exit) {
    set_prices();
    pn_emit(ring, page_fault, 0x1000, 0);
    pn_emit(ring, ept_violation, 0x1000, 0x2000, 0, 1);
    pn_emit(ring, fault_outcome, 0x1000, PN_OUT_mapped, 1, 0);
    outcome(0x2000, PN_OUT_guest_pf);
    study(NULL);
    costs(0x1000, 1000000001, 0);
    costs(0x2000, 100, 0);
}
END_TEST

SUITE("inspect.reports", .setup = setup, .teardown = teardown,
      .tests = {tables_are_listed_by_how_often_they_went_out_of_sync,
                a_shadow_page_that_one_fault_alone_used_was_built_in_vain,
                a_part_of_the_time_has_the_pages_that_faulted_in_it,
                filters_leave_the_pages_that_they_name,
                a_shadow_fault_costs_its_exit_and_its_work,
                under_tdp_a_guests_own_fault_needs_no_exit})
