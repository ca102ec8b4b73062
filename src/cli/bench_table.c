/* SPDX-License-Identifier: MIT */
/* A benchmark's result for people. What was not counted is shown as '-', never as 0. */
#include <inttypes.h>
#include <string.h>

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

static const char *number(const json_t *v, char buf[16]) {
    double d = json_number_value(v);
    if (!json_is_number(v))
        return "-";
    if (json_is_real(v))
        snprintf(buf, 16, "%.2f", d);
    else if (d < 1e6)
        snprintf(buf, 16, "%.0f", d);
    else if (d < 1e9)
        snprintf(buf, 16, "%.2fM", d / 1e6);
    else
        snprintf(buf, 16, "%.2fG", d / 1e9);
    return buf;
}

static const char *size(const json_t *v, char buf[16]) {
    if (!json_is_number(v))
        return "-";
    snprintf(buf, 16, "%.0fK", json_number_value(v) / 1024);
    return buf;
}

static const char *text(const json_t *r, const char *name) {
    return json_string_value(json_object_get(r, name));
}

static void print_row(const json_t *r, FILE *out) {
    const json_t *t = json_object_get(r, "time_ns"), *f = json_object_get(r, "faults"),
                 *w = json_object_get(r, "walks");
    double median = json_number_value(json_object_get(t, "median")),
           ops = json_number_value(json_object_get(r, "ops"));
    char time[16], each[16], low[16], high[16], range[40], b[7][16];
    size_t n = json_array_size(json_object_get(t, "samples"));
    fprintf(out, "  %-6s %-9s ", text(r, "mmu"), text(r, "kind"));
    if (text(r, "error")) {
        fprintf(out, "failed: %s\n", text(r, "error"));
        return;
    }
    bench_time(median, time);
    bench_time(ops > 0 ? median / ops : 0, each);
    bench_time(json_number_value(json_object_get(t, "low")), low);
    bench_time(json_number_value(json_object_get(t, "high")), high);
    snprintf(range, sizeof(range), "%s..%s", low, high);
    fprintf(out, "%9s %9s  %-19s %3zu %8s %8s %8s %8s %6s %8s %7s\n", time, each, range,
            n, number(json_object_get(r, "guest_insns"), b[0]),
            number(json_object_get(f, "taken"), b[1]),
            number(json_object_get(f, "guest"), b[2]),
            number(json_object_get(r, "tlb_misses"), b[3]),
            number(json_object_get(w, "per_miss"), b[4]),
            number(json_object_get(r, "exits"), b[5]),
            size(json_object_get(r, "table_bytes"), b[6]));
}

static void print_host(const json_t *host, FILE *out) {
    const json_t *kvm = json_object_get(host, "kvm");
    fprintf(out, "%s, Linux %s, CPU %" JSON_INTEGER_FORMAT ", KVM's MMU: %s\n",
            text(host, "cpu") ? text(host, "cpu") : "unknown CPU",
            text(host, "kernel") ? text(host, "kernel") : "?",
            json_integer_value(json_object_get(host, "pinned_cpu")),
            text(kvm, "mmu") ? text(kvm, "mmu") : "not known");
}

void bench_table_print(const json_t *doc, FILE *out) {
    json_t *r, *host, *results = json_object_get(doc, "results");
    const json_t *last = NULL;
    size_t i;
    json_array_foreach(json_object_get(doc, "hosts"), i, host) print_host(host, out);
    fprintf(out, "\n  %-6s %-9s %9s %9s  %-19s   n %8s %8s %8s %8s %6s %8s %7s\n", "MMU",
            "time is", "median", "each", "95% interval", "insns", "faults", "guest's",
            "TLB miss", "refs", "exits", "tables");
    json_array_foreach(results, i, r) {
        if (!last || json_integer_value(json_object_get(last, "index")) !=
                         json_integer_value(json_object_get(r, "index")))
            fprintf(out, "%s %s\n", text(r, "workload"), text(r, "label"));
        print_row(r, out);
        last = r;
    }
    fputs("\nmeasured: on the host's CPU. simulated: by the software CPU; its times "
          "compare with each\nother alone. each: the median by operations. n: runs. "
          "insns: guest instructions. faults: met\nby the MMU's tables; guest's: of "
          "these, given to the guest. refs: table entries read per\nTLB miss. -: not "
          "counted.\n",
          out);
}
