/* SPDX-License-Identifier: MIT */
/* Causes of faults: events whose cause is known by construction. Each fault has an address of its
 * own as its instruction, by which its cause is asked. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inspect/faults.h"
#include "penumbra/mmu.h"
#include "tests/suite.h"

static char path[64], line[256];
static struct err e = {line, sizeof(line)};
static struct trace_writer *w;
static struct pn_ring *ring;
static uint64_t now, rip, cr3;
static uint8_t cpl;
static struct symbols *symbols;
static struct faults *faults;

static void begin_with(uint64_t mask) {
    const struct trace_config cfg = {.path = path, .vcpus = 1, .mask = mask};
    ck_assert_msg(trace_open(&cfg, &w, line, sizeof(line)) == 0, "%s", line);
    ring = trace_rings(w);
    ring->time = &now;
    ring->rip = &rip;
    ring->cr3 = &cr3;
    ring->cpl = &cpl;
}

static void setup(void) {
    strcpy(path, "/tmp/pn-causes-XXXXXX");
    close(mkstemp(path));
    cr3 = 0x1000;
    begin_with(TRACE_ALL_EVENTS);
}

static void teardown(void) {
    faults_destroy(faults);
    symbols_free(symbols);
    unlink(path);
}

/* ---- What happens ---- */

/* The table of a level that maps gva, and the role of its shadow page. */
static uint64_t table(uint64_t gva, unsigned level) {
    return 0x100000ull * level + (gva >> (12 + 9 * level) & 0xfffff);
}

static uint64_t gpte(uint64_t gva, unsigned level) {
    return table(gva, level) << 12 | (gva >> (12 + 9 * (level - 1)) & 511) * 8;
}

static void access_at(uint64_t by, uint64_t gva, uint64_t error) {
    now++;
    rip = by;
    pn_emit(ring, page_fault, gva, error);
}

static void walk(uint64_t gva, unsigned leaf) {
    pn_emit(ring, pagetable_walk, gva, 0);
    for (unsigned level = 4; level >= leaf; level--)
        pn_emit(ring, paging_element, level == leaf && leaf > 1 ? 0x80000083 : 0x3, level,
                gpte(gva, level));
}

static void comes_to(uint64_t gva, enum pn_outcome outcome) {
    pn_emit(ring, fault_outcome, gva, outcome, 1, 0);
}

/* A hidden fault that maps a page. */
static void maps(uint64_t by, uint64_t gva) {
    access_at(by, gva, 0);
    walk(gva, 1);
    pn_emit(ring, set_spte, gva >> 12, 1, 0);
    comes_to(gva, PN_OUT_mapped);
}

/* The same, which makes the shadow page of a level again. */
static void maps_anew(uint64_t by, uint64_t gva, unsigned level) {
    access_at(by, gva, 0);
    walk(gva, 1);
    pn_emit(ring, get_page, table(gva, level), level, 1);
    pn_emit(ring, set_spte, gva >> 12, 1, 0);
    comes_to(gva, PN_OUT_mapped);
}

static void own(uint64_t by, uint64_t gva, uint64_t error) {
    access_at(by, gva, error & PN_PF_WRITE);
    walk(gva, 1);
    pn_emit(ring, walker_error, gva, error);
    comes_to(gva, PN_OUT_guest_pf);
}

/* A tracked write to the gpte of gva; its store follows. */
static void stores(uint64_t by, uint64_t gva) {
    uint64_t at = 0xffff888000000000ull + gpte(gva, 1);
    access_at(by, at, PN_PF_WRITE | PN_PF_PRESENT);
    comes_to(at, PN_OUT_tracked_table);
    pn_emit(ring, pte_write, gpte(gva, 1), 0, 8);
}

static void zap(uint64_t gva, unsigned level, unsigned reason) {
    pn_emit(ring, prepare_zap_page, table(gva, level), level, reason);
}

static void enters(uint64_t syscall, uint64_t from, uint64_t caller) {
    pn_emit(ring, entry, syscall, from, caller);
}

static void runs(uint64_t tgid, uint64_t space, const char *name) {
    uint64_t word[2] = {0};
    memcpy(word, name, strlen(name));
    pn_emit(ring, task, tgid, tgid, space, word[0], word[1]);
}

/* ---- What is asked ---- */

static void study(void) {
    const struct pn_event_rec *rec;
    struct trace_file *f;
    struct faults_config cfg = {
        .symbols = symbols, .tables = 1, .by = {{2, {FAULT_KEY_rip, FAULT_KEY_cause}}}};
    ck_assert_int_eq(trace_close(w, NULL, line, sizeof(line)), 0);
    ck_assert_int_eq(trace_file_open(path, &f, line, sizeof(line)), 0);
    trace_filter_default(&cfg.where);
    faults = faults_create(&cfg);
    ck_assert_ptr_nonnull(faults);
    for (size_t n; (n = trace_file_next(f, &rec));)
        ck_assert_int_eq(faults_add(faults, f, rec, n), 0);
    ck_assert_int_eq(faults_finish(faults), 0);
    trace_file_close(f);
}

/* Of the fault by an instruction, which is one. */
static const char *cause(uint64_t by) {
    const struct fault_table t = faults_table(faults, 0);
    const char *found = "none";
    for (size_t i = 0; i < t.rows; i++)
        if (t.row[i].key[0] == by) {
            ck_assert_str_eq(found, "none");
            ck_assert_uint_eq(t.row[i].count, 1);
            found = fault_cause_name((enum fault_cause)t.row[i].key[1]);
        }
    return found;
}

START_TEST(what_takes_a_mapping_away_is_the_cause_of_the_next_fault) {
    static const struct {
        const char *cause;
        unsigned reason;
    } zaps[] = {{"flood", FAULT_ZAP_FLOOD},
                {"recycle", FAULT_ZAP_RECLAIM},
                {"slot", FAULT_ZAP_OBSOLETE},
                {"slot", FAULT_ZAP_SLOT},
                {"context_switch", FAULT_ZAP_ROOT}};
    const uint64_t a = 0x400000, b = 0x401000, c = 0x600000;
    maps(1, a);
    maps(2, b);
    maps(3, c);
    pn_emit(ring, invlpg, a, 0);
    maps(4, a);
    pn_emit(ring, sync_page, table(a, 1), 1);
    maps(5, a);
    maps(6, b);
    maps(7, c); /* another table's */
    for (unsigned i = 0; i < 5; i++) {
        zap(a, 1, zaps[i].reason);
        maps_anew(0x10 + i, a, 1);
        maps(0x20 + i, b); /* its table is there again, it is not */
    }
    zap(a, 3, FAULT_ZAP_RECLAIM); /* from above */
    maps_anew(0x30, a, 3);
    maps(0x31, c);
    study();
    ck_assert_str_eq(cause(1), "first_access");
    ck_assert_str_eq(cause(2), "first_access");
    ck_assert_str_eq(cause(3), "first_access");
    ck_assert_str_eq(cause(4), "flush");
    ck_assert_str_eq(cause(5), "sync");
    ck_assert_str_eq(cause(6), "sync");
    ck_assert_str_eq(cause(7), "unknown");
    for (unsigned i = 0; i < 5; i++) {
        ck_assert_str_eq(cause(0x10 + i), zaps[i].cause);
        ck_assert_str_eq(cause(0x20 + i), zaps[i].cause);
    }
    ck_assert_str_eq(cause(0x30), "recycle");
    ck_assert_str_eq(cause(0x31), "recycle");
}
END_TEST

START_TEST(a_frame_that_is_used_anew_is_no_table_that_was_lost) {
    const uint64_t a = 0x400000;
    maps(1, a);
    zap(a, 1, FAULT_ZAP_UNPROTECT);
    maps_anew(2, a, 1); /* later it is a table again */
    zap(a, 1, FAULT_ZAP_REUSED);
    maps(3, a);
    /* The frame's own page may be written again: no spte is new. */
    access_at(4, 0xffff888000400000, PN_PF_WRITE | PN_PF_PRESENT);
    comes_to(0xffff888000400000, PN_OUT_mapped);
    study();
    ck_assert_str_eq(cause(2), "new_table");
    ck_assert_str_eq(cause(3), "first_access");
    ck_assert_str_eq(cause(4), "reuse");
}
END_TEST

START_TEST(a_demand_fault_and_the_hidden_one_after_it_are_demand) {
    cpl = 3;
    own(1, 0x400000, PN_PF_WRITE | PN_PF_USER);
    maps(2, 0x400000);
    maps(3, 0x400000); /* nothing says why */
    cr3 = 0x2000;
    own(4, 0x500000, PN_PF_USER);
    cr3 = 0x1000;
    maps(5, 0x500000); /* another address space's */
    own(6, 0x600000, PN_PF_WRITE | PN_PF_PRESENT | PN_PF_USER);
    own(7, 0x700000, PN_PF_RSVD | PN_PF_PRESENT);
    study();
    ck_assert_str_eq(cause(1), "demand");
    ck_assert_str_eq(cause(2), "demand");
    ck_assert_str_eq(cause(3), "unknown");
    ck_assert_str_eq(cause(4), "demand");
    ck_assert_str_eq(cause(5), "first_access");
    ck_assert_str_eq(cause(6), "unknown"); /* not known to be Linux */
    ck_assert_str_eq(cause(7), "unknown");
}
END_TEST

START_TEST(under_linux_a_write_that_is_denied_is_copy_on_write) {
    cpl = 3;
    runs(7, 0x1000, "sh");
    own(1, 0x600000, PN_PF_WRITE | PN_PF_PRESENT | PN_PF_USER);
    maps(2, 0x600000);
    own(3, 0x600000, PN_PF_PRESENT | PN_PF_USER); /* a read: mprotect's, perhaps */
    own(4, 0xffff888000000000, PN_PF_WRITE | PN_PF_PRESENT);
    study();
    ck_assert_str_eq(cause(1), "copy_on_write");
    ck_assert_str_eq(cause(2), "copy_on_write");
    ck_assert_str_eq(cause(3), "unknown");
    ck_assert_str_eq(cause(4), "unknown");
}
END_TEST

static const struct {
    uint64_t number;
    const char *cause;
} syscalls[] = {
#define SYSCALL(cause, number, name) {number, #cause},
#include "inspect/fault_causes.inc"
};
#define SYSCALLS (sizeof(syscalls) / sizeof(syscalls[0]))

START_TEST(a_write_to_a_table_is_of_the_system_call_that_it_is_in) {
    for (unsigned i = 0; i < SYSCALLS; i++) {
        cpl = 0;
        enters(syscalls[i].number, 0x400000, 0);
        stores(0x100 + i, 0x1000ull * i);
        cpl = 3;
        maps(0x200 + i, 0x1000ull * i); /* what it wrote is why */
    }
    cpl = 0;
    enters(0, 0x400000, 0); /* read() */
    stores(1, 0x900000);
    study();
    for (unsigned i = 0; i < SYSCALLS; i++) {
        ck_assert_str_eq(cause(0x100 + i), syscalls[i].cause);
        ck_assert_str_eq(cause(0x200 + i), syscalls[i].cause);
    }
    ck_assert_str_eq(cause(1), "table_write");
}
END_TEST

START_TEST(a_write_to_a_table_in_the_handler_is_of_the_fault_that_it_handles) {
    runs(7, 0x1000, "sh");
    cpl = 3;
    own(1, 0x600000, PN_PF_USER);
    cpl = 0;
    enters(UINT64_MAX, 1, 0);
    stores(2, 0x600000);
    enters(UINT64_MAX, 0x123, 0); /* an interrupt elsewhere */
    stores(3, 0x600000);
    cpl = 3;
    own(4, 0x700000, PN_PF_USER | PN_PF_WRITE | PN_PF_PRESENT);
    cpl = 0;
    enters(UINT64_MAX, 4, 0);
    stores(5, 0x700000);
    runs(8, 0x1000, "sh"); /* another task, which was interrupted there */
    stores(6, 0x700000);
    study();
    ck_assert_str_eq(cause(2), "demand");
    ck_assert_str_eq(cause(3), "table_write");
    ck_assert_str_eq(cause(5), "copy_on_write");
    ck_assert_str_eq(cause(6), "table_write");
}
END_TEST

START_TEST(threads_of_the_kernel_are_causes_by_name) {
    runs(60, 0, "kswapd0");
    stores(1, 0x400000);
    runs(61, 0, "khugepaged");
    stores(2, 0x401000);
    runs(62, 0, "kworker/0:1");
    stores(3, 0x402000);
    runs(63, 0x1000, "kswapd"); /* a process that is called so */
    stores(4, 0x403000);
    study();
    ck_assert_str_eq(cause(1), "reclaim");
    ck_assert_str_eq(cause(2), "thp_collapse");
    ck_assert_str_eq(cause(3), "table_write");
    ck_assert_str_eq(cause(4), "table_write");
}
END_TEST

static const struct {
    const char *name, *cause;
    bool weak;
} functions[] = {
#define SURE                            false
#define WEAK                            true
#define FUNCTION(cause, strength, name) {#name, #cause, strength},
#include "inspect/fault_causes.inc"
};
#define FUNCTIONS (sizeof(functions) / sizeof(functions[0]))
#define TEXT      0xffffffff81000000ull

/* Every function of the list, 16 bytes each, every other one with what a compiler adds; then one
 * that sets an entry, and one of none. */
static void load_functions(void) {
    static char map[FUNCTIONS * 96 + 256];
    size_t n = 0;
    for (unsigned i = 0; i < FUNCTIONS; i++)
        n += (size_t)snprintf(map + n, sizeof(map) - n, "%llx t %s%s\n", TEXT + 16ull * i,
                              functions[i].name, i & 1 ? ".isra.0" : "");
    snprintf(map + n, sizeof(map) - n,
             "%llx T native_set_pte\n%llx T handle_mm_fault_elsewhere\n", TEXT + 0x100000,
             TEXT + 0x100010);
    ck_assert_int_eq(symbols_parse(map, strlen(map), "F", &symbols, &e), 0);
}

START_TEST(each_function_of_the_list_is_its_cause) {
    load_functions();
    enters(UINT64_MAX, 0, 0);
    for (unsigned i = 0; i < FUNCTIONS; i++)
        stores(TEXT + 16ull * i, 0x1000ull * i);
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        enters(UINT64_MAX, 0, TEXT + 16ull * i + 5);
        stores(TEXT + 0x100000 + (i % 16), 0x1000ull * (0x1000 + i));
        maps(0x1000 + i, 0x1000ull * (0x1000 + i));
    }
    enters(UINT64_MAX, 0, 0);
    stores(TEXT + 0x100010, 0x1000);
    enters(231, 0, 0); /* exit_group */
    for (unsigned i = 0; i < FUNCTIONS; i++)
        stores(TEXT + 16ull * i + 1, 0x1000ull * i);
    cpl = 3;
    stores(TEXT + 2, 0x1000);
    study();
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        ck_assert_str_eq(cause(TEXT + 16ull * i), functions[i].cause);
        /* the caller's, in a function that sets entries */
        ck_assert_str_eq(cause(0x1000 + i), functions[i].cause);
        /* what a function does for several counts after the system call */
        ck_assert_str_eq(cause(TEXT + 16ull * i + 1),
                         functions[i].weak ? "exit" : functions[i].cause);
    }
    ck_assert_str_eq(cause(TEXT + 0x100010), "table_write");
    ck_assert_str_eq(cause(TEXT + 2), "table_write");
}
END_TEST

START_TEST(a_table_that_goes_out_of_sync_again_is_of_its_sync) {
    const uint64_t at = 0xffff888000001000ull;
    for (unsigned i = 1; i <= 2; i++) {
        access_at(i, at, PN_PF_WRITE | PN_PF_PRESENT);
        pn_emit(ring, unsync_page, table(0x400000, 1), 1);
        comes_to(at, PN_OUT_mapped);
        pn_emit(ring, sync_page, table(0x400000, 1), 1);
    }
    enters(57, 0, 0); /* fork() */
    access_at(3, at, PN_PF_WRITE | PN_PF_PRESENT);
    pn_emit(ring, unsync_page, table(0x400000, 1), 1);
    comes_to(at, PN_OUT_mapped);
    study();
    ck_assert_str_eq(cause(1), "table_write");
    ck_assert_str_eq(cause(2), "sync");
    ck_assert_str_eq(cause(3), "fork");
}
END_TEST

START_TEST(outcomes_that_are_causes_by_themselves) {
    access_at(1, 0xfed40000, 0);
    comes_to(0xfed40000, PN_OUT_mmio);
    access_at(2, 0xfed40000, 0);
    comes_to(0xfed40000, PN_OUT_mmio_cached);
    access_at(3, 0x1000, PN_PF_WRITE);
    comes_to(0x1000, PN_OUT_dirty_log);
    access_at(4, 0x2000, 0);
    walk(0x2000, 2);
    pn_emit(ring, set_spte, 2, 1, 0);
    comes_to(0x2000, PN_OUT_mapped_split);
    maps(5, 0x3000);
    access_at(6, 0x3000, PN_PF_WRITE | PN_PF_PRESENT);
    walk(0x3000, 1);
    pn_emit(ring, set_dirty_bit, gpte(0x3000, 1), 1);
    pn_emit(ring, set_spte, 3, 1, 0);
    comes_to(0x3000, PN_OUT_mapped);
    access_at(7, 0x40000000, 0); /* links what another address space has */
    walk(0x40000000, 1);
    pn_emit(ring, get_page, table(0x40000000, 2), 2, 0);
    pn_emit(ring, set_spte, 4, 1, 0);
    comes_to(0x40000000, PN_OUT_mapped);
    maps_anew(8, 0x80000000, 1);
    study();
    ck_assert_str_eq(cause(1), "device");
    ck_assert_str_eq(cause(2), "device");
    ck_assert_str_eq(cause(3), "dirty_log");
    ck_assert_str_eq(cause(4), "split");
    ck_assert_str_eq(cause(5), "first_access");
    ck_assert_str_eq(cause(6), "first_write");
    ck_assert_str_eq(cause(7), "context_switch");
    ck_assert_str_eq(cause(8), "new_table");
}
END_TEST

/* A violation of tdp's, at some level of the second dimension. */
static void violates(uint64_t by, uint64_t gpa, unsigned level, bool splits) {
    access_at(by, 0x1000, 0);
    pn_emit(ring, ept_violation, 0x1000, gpa, 0, 1);
    if (splits)
        pn_emit(ring, split_huge_page, gpa >> 12, 0, 2);
    pn_emit(ring, fault_outcome, 0x1000, splits ? PN_OUT_mapped_split : PN_OUT_mapped,
            level, 0);
}

START_TEST(under_tdp_memory_is_touched_first_lost_with_a_slot_or_split_for_a_log) {
    enters(57, 0, 0); /* a system call is not why memory was never touched */
    violates(1, 0x200000, 2, false);
    violates(2, 0x400000, 2, false);
    violates(3, 0x201000, 2, false); /* the same 2 MiB */
    pn_emit(ring, zap_all_fast, 0);
    violates(4, 0x200000, 2, false);
    violates(5, 0x600000, 2, false);
    violates(6, 0x400000, 1, true);
    study();
    ck_assert_str_eq(cause(1), "first_access");
    ck_assert_str_eq(cause(2), "first_access");
    ck_assert_str_eq(cause(3), "unknown");
    ck_assert_str_eq(cause(4), "slot");
    ck_assert_str_eq(cause(5), "first_access");
    ck_assert_str_eq(cause(6), "dirty_log");
}
END_TEST

/* Without one of the events, nobody knows what it would have said. */
START_TEST(no_fault_is_the_first_of_its_page_where_an_event_is_not_recorded) {
    static const unsigned events[] = {
        PN_EV_pagetable_walk, PN_EV_paging_element, PN_EV_get_page,
        PN_EV_sync_page,      PN_EV_unsync_page,    PN_EV_prepare_zap_page,
        PN_EV_set_spte,       PN_EV_pte_write,      PN_EV_invlpg};
    trace_abandon(w);
    begin_with(TRACE_ALL_EVENTS & ~(1ull << events[_i]));
    maps(1, 0x400000);
    study();
    ck_assert_str_eq(cause(1), "unknown");
}
END_TEST

START_TEST(no_fault_is_the_first_of_its_page_when_no_more_is_remembered) {
    for (uint64_t i = 0; i < 400000; i++)
        maps(0x1000 + i, i << 15); /* eight entries further */
    study();
    ck_assert_str_eq(cause(0x1000), "first_access");
    ck_assert_str_eq(cause(0x1000 + 399999), "unknown");
}
END_TEST

SUITE("inspect.causes", .setup = setup, .teardown = teardown, .timeout = 120,
      .tests = {what_takes_a_mapping_away_is_the_cause_of_the_next_fault,
                a_frame_that_is_used_anew_is_no_table_that_was_lost,
                a_demand_fault_and_the_hidden_one_after_it_are_demand,
                under_linux_a_write_that_is_denied_is_copy_on_write,
                a_write_to_a_table_is_of_the_system_call_that_it_is_in,
                a_write_to_a_table_in_the_handler_is_of_the_fault_that_it_handles,
                threads_of_the_kernel_are_causes_by_name,
                each_function_of_the_list_is_its_cause,
                a_table_that_goes_out_of_sync_again_is_of_its_sync,
                outcomes_that_are_causes_by_themselves,
                under_tdp_memory_is_touched_first_lost_with_a_slot_or_split_for_a_log,
                no_fault_is_the_first_of_its_page_when_no_more_is_remembered},
      .loops = {{no_fault_is_the_first_of_its_page_where_an_event_is_not_recorded, 9}})
