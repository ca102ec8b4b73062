/* SPDX-License-Identifier: MIT */
/* A benchmark's result for people. What was not counted is shown as '-', never as 0. */
#include <inttypes.h>
#include <string.h>

#include "bench/harness/rank.h"
#include "bench/harness/verdict.h"
#include "cli/bench.h"

#define BENCH_SIMULATED                                                                  \
    "The simulator's own speed: time that the software CPU took. It ranks MMUs in its "  \
    "own way, because\na 2D walk costs it a few loads and a VM exit a call; the "        \
    "modelled "                                                                          \
    "cycles say what a processor needs."

const char *bench_time(double ns, char buf[16]) {
    static const struct {
        double unit;
        const char *name;
    } units[] = {{1e9, "s"}, {1e6, "ms"}, {1e3, "us"}, {1, "ns"}};
    unsigned i = 0;
    while (i < 3 && ns < units[i].unit)
        i++;
    double v = ns / units[i].unit;
    snprintf(buf, 16, "%.*f %s", v < 10 ? 2 : v < 100 ? 1 : 0, v, units[i].name);
    return buf;
}

static const char *real_text(double v, bool digits, char buf[16]) {
    if (digits)
        snprintf(buf, 16, "%.2f", v);
    else if (v < 1e6)
        snprintf(buf, 16, "%.0f", v);
    else if (v < 1e9)
        snprintf(buf, 16, "%.2fM", v / 1e6);
    else
        snprintf(buf, 16, "%.2fG", v / 1e9);
    return buf;
}

static const char *number(const json_t *v, char buf[16]) {
    return json_is_number(v) ? real_text(json_number_value(v), json_is_real(v), buf)
                             : "-";
}

/* A ratio: two digits behind the point, or more where it is small. */
static const char *ratio_text(double v, char buf[16]) {
    snprintf(buf, 16, "%.*f", v < 0.1 ? 4 : v < 10 ? 3 : 1, v);
    return buf;
}

/* Of the column of MMUs. */
static int mmu_width(const json_t *results) {
    size_t i, width = 6;
    json_t *r;
    json_array_foreach(results, i, r) {
        size_t n = strlen(result_text(r, "mmu"));
        width = n > width ? n : width;
    }
    return (int)width;
}

static void print_host(const json_t *host, FILE *out) {
    const json_t *kvm = json_object_get(host, "kvm");
    fprintf(out, "%s, Linux %s, CPU %lld, KVM's MMU: %s\n",
            result_text(host, "cpu") ? result_text(host, "cpu") : "unknown CPU",
            result_text(host, "kernel") ? result_text(host, "kernel") : "?",
            cli_number(host, "pinned_cpu"),
            result_text(kvm, "mmu") ? result_text(kvm, "mmu") : "not known");
}

static bool same_point(const json_t *a, const json_t *b) {
    return cli_number(a, "index") == cli_number(b, "index");
}

/* Of that kind, and not failed. */
static bool is_kind(const json_t *r, const char *kind) {
    return !result_text(r, "error") && (!kind || !strcmp(result_text(r, "kind"), kind));
}

/* The first result of r's point and kind: what its ratio is to. Points stand together. */
static const json_t *first_of(const json_t *results, size_t at) {
    const json_t *r = json_array_get(results, at), *first = r, *x;
    while (at && same_point(x = json_array_get(results, --at), r))
        if (is_kind(x, result_text(r, "kind")))
            first = x;
    return first;
}

/* Does the result at that place begin a point? */
static bool begins(const json_t *results, size_t at) {
    return !at ||
           !same_point(json_array_get(results, at - 1), json_array_get(results, at));
}

static void print_failure(const json_t *r, FILE *out) {
    fprintf(out, "failed: %s\n", result_text(r, "error"));
}

/* ---- Modelled, and counted ---- */

/* Who wins the point that begins at `at`, and in a line of its own why. */
static void print_verdict(const json_t *results, size_t at, FILE *out) {
    struct verdict v;
    char text[256] = "", reason[1024] = "";
    if (verdict_find(results, at, &v)) {
        verdict_text(&v, text, sizeof(text));
        verdict_reason(&v, reason, sizeof(reason));
    }
    fprintf(out, "%s%s\n", *text ? ": " : "", text);
    if (*reason)
        fprintf(out, "  because %s\n", reason);
}

/* The columns that result_fields.inc gives: of a result, or without one their heads. */
static void print_columns(const json_t *r, bool modelled, FILE *out) {
    char buf[16];
    for (const struct result_field *f = result_fields; f->path; f++) {
        const json_t *v = r ? result_member(r, f->path) : NULL;
        const char *cell = r ? number(v, buf) : f->table;
        if (r && f->kind == RESULT_BYTES && json_is_number(v)) {
            snprintf(buf, sizeof(buf), "%.0fK", json_number_value(v) / 1024);
            cell = buf;
        }
        if (*f->table && (modelled || !f->modelled))
            fprintf(out, " %9s", cell);
    }
}

static void print_counts(const json_t *results, size_t at, bool modelled, FILE *out) {
    const json_t *r = json_array_get(results, at);
    double each = verdict_per_op(r), first = verdict_per_op(first_of(results, at));
    char buf[16];
    if (result_text(r, "error")) {
        print_failure(r, out);
        return;
    }
    if (modelled) {
        fprintf(out, "%10s", each > 0 ? real_text(each, each < 1000, buf) : "-");
        fprintf(out, " %7s", each > 0 && first > 0 ? ratio_text(each / first, buf) : "-");
    }
    print_columns(r, modelled, out);
    if (result_text(r, "dirty_tracker"))
        fprintf(out, "  dirty log: %s", result_text(r, "dirty_tracker"));
    double ns = json_number_value(result_member(r, "harvest_ns"));
    if (ns > 0)
        fprintf(out, ", %.1f us a harvest", ns / 1e3);
    fputc('\n', out);
}

static void print_legend(FILE *out) {
    fputs(
        "ratio: this MMU's over the first one's; below 1 this MMU is cheaper. What an op "
        "is: penumbra\nbench --list. insns: guest instructions. faults: met by the MMU's "
        "tables; guest's: of these,\ngiven to the guest. exits: from the guest. tables: "
        "shadow or second-level ones. -: not known.\n",
        out);
}

static void print_modelled(const json_t *doc, FILE *out) {
    const json_t *settings = json_object_get(doc, "settings"), *r;
    const json_t *results = json_object_get(doc, "results");
    int width = mmu_width(results);
    bool modelled = result_text(settings, "tlb.name") != NULL;
    if (modelled)
        fprintf(
            out,
            "\nModelled: what a processor would need, with TLBs of '%s' and prices of "
            "'%s'.\n",
            result_text(settings, "tlb.name"),
            result_text(settings, "cost_profile.name"));
    else
        fputs("\nCounted by the MMUs:\n", out);
    fprintf(out, "  %-*s", width, "MMU");
    if (modelled)
        fprintf(out, "%10s %7s", "cycles/op", "ratio");
    print_columns(NULL, modelled, out);
    fputc('\n', out);
    for (size_t i = 0; (r = json_array_get(results, i)); i++) {
        if (begins(results, i)) {
            fprintf(out, "%s%s%s", result_text(r, "workload"),
                    *result_text(r, "label") ? " " : "", result_text(r, "label"));
            print_verdict(results, i, out);
        }
        fprintf(out, "  %-*s", width, result_text(r, "mmu"));
        print_counts(results, i, modelled, out);
    }
}

/* ---- Time ---- */

/* How the time compares with the first one's of this kind: run by run, for they took
 * turns, and what slows the host down slows both. */
static void print_ratio(const json_t *first, const json_t *r, FILE *out) {
    static double a[RANK_MAX], b[RANK_MAX];
    char ratio[16], range[40] = "-", low[16], high[16];
    size_t n = result_samples(first, a, RANK_MAX);
    size_t nb = result_samples(r, b, RANK_MAX);
    n = n < nb ? n : nb;
    for (size_t j = 0; j < n; j++)
        a[j] = b[j] / a[j];
    struct interval i = rank_one(a, n);
    if (i.known)
        snprintf(range, sizeof(range), "%s..%s", ratio_text(i.low, low),
                 ratio_text(i.high, high));
    fprintf(out, " %7s  %s", ratio_text(i.median, ratio), range);
}

static void print_time(const json_t *results, size_t at, FILE *out) {
    const json_t *r = json_array_get(results, at), *first = first_of(results, at);
    const json_t *t = json_object_get(r, "time_ns");
    double median = json_number_value(json_object_get(t, "median")),
           ops = json_number_value(json_object_get(r, "ops"));
    char time[16], each[16], low[16], high[16], range[40] = "-";
    size_t n = json_array_size(json_object_get(t, "samples"));
    bench_time(median, time);
    bench_time(ops > 0 ? median / ops : 0, each);
    bench_time(json_number_value(json_object_get(t, "low")), low);
    bench_time(json_number_value(json_object_get(t, "high")), high);
    if (json_is_number(json_object_get(t, "low")))
        snprintf(range, sizeof(range), "%s..%s", low, high);
    fprintf(out, "%9s %9s  %-19s %3zu", time, each, range, n);
    if (first != r)
        print_ratio(first, r, out);
    fputc('\n', out);
}

/* The times of one kind; nothing where there are none. */
static void print_times(const json_t *results, const char *kind, const char *title,
                        FILE *out) {
    const json_t *r, *last = NULL;
    int width = mmu_width(results);
    for (size_t i = 0; (r = json_array_get(results, i)); i++) {
        if (!is_kind(r, kind))
            continue;
        if (!last)
            fprintf(out, "\n%s\n  %-*s%9s %9s  %-19s %3s %7s  %s\n", title, width, "MMU",
                    "median", "each op", "95% interval", "n", "ratio", "95% interval");
        if (!last || !same_point(last, r))
            fprintf(out, "%s%s%s\n", result_text(r, "workload"),
                    *result_text(r, "label") ? " " : "", result_text(r, "label"));
        last = r;
        fprintf(out, "  %-*s", width, result_text(r, "mmu"));
        print_time(results, i, out);
    }
}

void bench_table_print(const json_t *doc, bool legend, FILE *out) {
    const json_t *results = json_object_get(doc, "results");
    json_t *host;
    size_t i;
    json_array_foreach(json_object_get(doc, "hosts"), i, host) print_host(host, out);
    if (!json_array_size(results))
        return;
    print_modelled(doc, out);
    if (legend)
        print_legend(out);
    print_times(results, "measured", "Measured: time on the host's CPU.", out);
    print_times(results, "simulated", BENCH_SIMULATED, out);
}
