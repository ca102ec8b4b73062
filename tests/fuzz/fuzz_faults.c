/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the study of faults: whatever the records of a trace say, every fault is counted once in
 * every table and told in words, and reports come to an end.
 *
 * Byte 0 says whether reports are asked for. Then come records, 4 bytes each and a value for every
 * argument of its own: event, vCPU and CPL, and two bytes for arguments that are small.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inspect/fault_story.h"

#define INPUT_MAX 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A trace without records, whose events are all there. */
static struct trace_file *empty_file(void) {
    static const struct trace_config cfg = {.vcpus = 2, .mask = TRACE_ALL_EVENTS};
    struct trace_config to_path = cfg;
    struct trace_writer *w;
    struct trace_file *f;
    char path[64], err[160];
    snprintf(path, sizeof(path), "/tmp/pn-fuzz-faults-%d", (int)getpid());
    to_path.path = path;
    if (trace_open(&to_path, &w, err, sizeof(err)) ||
        trace_close(w, NULL, err, sizeof(err)) ||
        trace_file_open(path, &f, err, sizeof(err)))
        abort();
    unlink(path);
    return f;
}

static struct symbols *kernel(void) {
    static const char map[] = "ffffffff81000000 T handle_mm_fault\n"
                              "ffffffff81000100 t native_set_pte\n"
                              "ffffffff81000200 t copy_pte_range.isra.0\n"
                              "ffffffff81000300 T last\n";
    struct symbols *s;
    struct err e = {NULL, 0};
    if (symbols_parse(map, strlen(map), "map", &s, &e))
        abort();
    return s;
}

/* Small numbers, and now and then any: what is small meets what is small. */
static uint64_t value(const uint8_t *byte, unsigned i) {
    static const uint64_t base[] = {0, 0x1000, 0xffff888000000000, 0xffffffff81000000};
    uint8_t b = byte[i % 2 + 2];
    return b & 0x80 ? base[b >> 5 & 3] + (uint64_t)(b & 31) * 0x10 * (i + 1)
                    : (uint64_t)b >> (i & 3);
}

static void add(struct faults *faults, struct fault_story *story,
                const struct trace_file *f, const uint8_t *byte, uint64_t time) {
    struct pn_event_rec rec = {.time = time,
                               .id = byte[0] & 63,
                               .vcpu = byte[1] & 1,
                               .cpl = byte[1] & 4   ? PN_CPL_NONE
                                      : byte[1] & 2 ? 3
                                                    : 0,
                               .rip = value(byte, 1),
                               .cr3 = (uint64_t)(byte[1] >> 4) << 12};
    for (unsigned i = 0; i < PN_FIELDS_MAX; i++)
        rec.arg[i] = value(byte, i);
    fault_story_event(story, f, &rec);
    if (faults_add(faults, f, &rec, 1))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct trace_file *f;
    static struct symbols *symbols;
    static const struct pn_cost_profile prices;
    static FILE *null;
    if (!f) {
        null = fopen("/dev/null", "w");
        f = empty_file();
        symbols = kernel();
    }
    if (!size)
        return 0;
    if (size > INPUT_MAX)
        size = INPUT_MAX;
    struct faults_config cfg = {
        .symbols = symbols,
        .prices = &prices,
        .reports = !(data[0] & 15),
        .each = fault_story_fault,
        .opaque = fault_story_create(UINT64_MAX, null),
        .tables = 2,
        .by = {{2, {FAULT_KEY_cause, FAULT_KEY_outcome}}, {1, {FAULT_KEY_page}}}};
    trace_filter_default(&cfg.where);
    struct faults *faults = faults_create(&cfg);
    if (!faults || !cfg.opaque)
        abort();
    for (size_t at = 1; at + 4 <= size; at += 4)
        add(faults, cfg.opaque, f, data + at, at * at);
    if (faults_finish(faults))
        abort();
    if (fault_story_told(cfg.opaque) != faults_totals(faults)->faults)
        abort();
    fault_story_destroy(cfg.opaque);
    for (unsigned i = 0; i < cfg.tables; i++) {
        const struct fault_table t = faults_table(faults, i);
        uint64_t sum = t.beyond;
        for (size_t k = 0; k < t.rows; k++)
            sum += t.row[k].count;
        for (size_t k = 0; i == 0 && k < t.rows; k++)
            if (!fault_cause_name((enum fault_cause)t.row[k].key[0]))
                abort();
        if (sum != faults_totals(faults)->faults)
            abort();
    }
    for (unsigned i = 0; cfg.reports && i < FAULT_REPORTS; i++) {
        uint64_t *values, beyond;
        size_t rows;
        if (fault_reports_rows(faults_reports(faults), i, &values, &rows, &beyond))
            abort();
        free(values);
    }
    faults_destroy(faults);
    return 0;
}
