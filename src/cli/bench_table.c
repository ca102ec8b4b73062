/* SPDX-License-Identifier: MIT */
/* A benchmark's result for people. What was not counted is shown as '-', never as 0. */
#include <inttypes.h>
#include <string.h>

#include "bench/harness/resample.h"
#include "cli/bench.h"

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

/* The columns that result_fields.inc gives: of a result, or without one their heads. */
static void print_columns(const json_t *r, FILE *out) {
    char buf[16];
    for (const struct result_field *f = result_fields; f->path; f++) {
        const json_t *v = r ? result_member(r, f->path) : NULL;
        const char *cell = r ? number(v, buf) : f->table;
        if (r && f->kind == RESULT_BYTES && json_is_number(v)) {
            snprintf(buf, sizeof(buf), "%.0fK", json_number_value(v) / 1024);
            cell = buf;
        }
        if (*f->table)
            fprintf(out, " %8s", cell);
    }
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

static void print_row(const json_t *results, const json_t *r, FILE *out) {
    const json_t *t = json_object_get(r, "time_ns");
    double median = json_number_value(json_object_get(t, "median")),
           ops = json_number_value(json_object_get(r, "ops"));
    char time[16], each[16], low[16], high[16], range[40];
    size_t n = json_array_size(json_object_get(t, "samples"));
    fprintf(out, "  %-*s %-9s ", mmu_width(results), result_text(r, "mmu"),
            result_text(r, "kind"));
    if (result_text(r, "error")) {
        fprintf(out, "failed: %s\n", result_text(r, "error"));
        return;
    }
    bench_time(median, time);
    bench_time(ops > 0 ? median / ops : 0, each);
    bench_time(json_number_value(json_object_get(t, "low")), low);
    bench_time(json_number_value(json_object_get(t, "high")), high);
    snprintf(range, sizeof(range), "%s..%s", low, high);
    fprintf(out, "%9s %9s  %-19s %3zu", time, each, range, n);
    print_columns(r, out);
    if (result_text(r, "dirty_tracker"))
        fprintf(out, "  dirty log: %s", result_text(r, "dirty_tracker"));
    fputc('\n', out);
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

/* The result of the point at i under that MMU, or NULL. Points stand together. */
static const json_t *of_point(const json_t *results, size_t i, const char *mmu) {
    const json_t *r = json_array_get(results, i), *x = r;
    for (; x && same_point(x, r); x = json_array_get(results, ++i))
        if (!strcmp(result_text(x, "mmu"), mmu))
            return x;
    return NULL;
}

/* How the simulated times of the point at i compare: run by run, for they took turns, and
 * what slows the host down slows both. */
static void print_ratio(const json_t *results, size_t i, FILE *out) {
    static double a[RESAMPLE_MAX], b[RESAMPLE_MAX];
    char range[40];
    const json_t *shadow = of_point(results, i, "shadow");
    const json_t *tdp = of_point(results, i, "tdp");
    size_t n = shadow ? result_samples(shadow, a, RESAMPLE_MAX) : 0;
    size_t nb = tdp ? result_samples(tdp, b, RESAMPLE_MAX) : 0;
    n = n < nb ? n : nb;
    if (!n)
        return;
    for (size_t j = 0; j < n; j++)
        a[j] = b[j] / a[j];
    struct interval r = resample_one(a, n);
    snprintf(range, sizeof(range), "%.3f..%.3f", r.low, r.high);
    fprintf(out, "  tdp/shadow       %9.3f %9s  %s\n", r.median, "", range);
}

static void print_times(const json_t *results, FILE *out) {
    const json_t *r, *next;
    size_t first = 0;
    fprintf(out, "\n  %-*s %-9s %9s %9s  %-19s %3s", mmu_width(results), "MMU", "time is",
            "median", "each", "95% interval", "n");
    print_columns(NULL, out);
    fputc('\n', out);
    for (size_t i = 0; (r = json_array_get(results, i)); i++) {
        if (i == first)
            fprintf(out, "%s %s\n", result_text(r, "workload"), result_text(r, "label"));
        print_row(results, r, out);
        next = json_array_get(results, i + 1);
        if (next && same_point(next, r))
            continue;
        print_ratio(results, first, out);
        first = i + 1;
    }
    fputs("\nmeasured: on the host's CPU. simulated: by the software CPU; its times "
          "compare with each\nother alone. each: the median by operations. n: runs. "
          "insns: guest instructions. faults: met\nby the MMU's tables; guest's: of "
          "these, given to the guest. refs: table entries read per\nTLB miss. -: not "
          "counted. tdp/shadow: run by run.\n",
          out);
}

/* ---- What is modelled ---- */

/* Modelled cycles for each operation; 0: not modelled. */
static double per_op(const json_t *r) {
    double ops = json_number_value(result_member(r, "ops"));
    return json_number_value(result_member(r, "modelled.cycles")) / (ops > 0 ? ops : 1);
}

/* One point, under shadow and under tdp; NULL: not run under it. */
static void print_modelled_row(const json_t *r, const json_t *const pair[2], FILE *out) {
    static const struct {
        const char *path;
        int width;
    } cells[] = {{"modelled.walks.count", 8},
                 {"modelled.walks.mean", 6},
                 {"modelled.vm_exits.all", 8}};
    char name[128], buf[16];
    double each[] = {per_op(pair[0]), per_op(pair[1])};
    snprintf(name, sizeof(name), "%s %s", result_text(r, "workload"),
             result_text(r, "label"));
    fprintf(out, "%-30.30s", name);
    for (unsigned m = 0; m < 2; m++)
        fprintf(out, " %9s", each[m] > 0 ? real_text(each[m], each[m] < 1000, buf) : "-");
    fprintf(out, " %6s",
            each[0] > 0 && each[1] > 0 ? real_text(each[0] / each[1], true, buf) : "-");
    for (unsigned i = 0; i < sizeof(cells) / sizeof(cells[0]); i++)
        for (unsigned m = 0; m < 2; m++)
            fprintf(out, "%*s%*s", m ? 1 : 2, "", cells[i].width,
                    number(result_member(pair[m], cells[i].path), buf));
    fputc('\n', out);
}

static void print_modelled(const json_t *doc, FILE *out) {
    const json_t *settings = json_object_get(doc, "settings"), *r, *last = NULL;
    const json_t *results = json_object_get(doc, "results");
    if (!result_text(settings, "tlb") || !json_array_size(results))
        return;
    fprintf(
        out,
        "\nmodelled: TLBs of '%s', costs of '%s'; neither measured nor simulated\n"
        "%-30s %26s  %17s  %13s  %17s\n%-30s %9s %9s %6s  %8s %8s  %6s %6s  %8s %8s\n",
        result_text(settings, "tlb"), result_text(settings, "cost_profile"), "",
        "cycles per op    ", "TLB walks    ", "refs per walk", "VM exits    ", "",
        "shadow", "tdp", "ratio", "shadow", "tdp", "shadow", "tdp", "shadow", "tdp");
    for (size_t i = 0; (r = json_array_get(results, i)); i++) {
        if (last && same_point(last, r))
            continue;
        last = r;
        const json_t *const pair[] = {of_point(results, i, "shadow"),
                                      of_point(results, i, "tdp")};
        if (per_op(pair[0]) > 0 || per_op(pair[1]) > 0)
            print_modelled_row(r, pair, out);
    }
    fputs("ratio: shadow over tdp; above 1 tdp is cheaper. What an op is: "
          "penumbra bench --list.\n",
          out);
}

void bench_table_print(const json_t *doc, FILE *out) {
    json_t *host;
    size_t i;
    json_array_foreach(json_object_get(doc, "hosts"), i, host) print_host(host, out);
    print_times(json_object_get(doc, "results"), out);
    print_modelled(doc, out);
}
