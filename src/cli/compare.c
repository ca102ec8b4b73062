/* SPDX-License-Identifier: MIT */
/*
 * `penumbra compare`: which differences between two results are real.
 *
 * A difference is real when the 95% interval of the ratio of times leaves 1 out. Modelled
 * cycles are exact: any difference between them is real.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/harness/rank.h"
#include "cli/bench.h"
#include "cli/option.h"

struct compare {
    const char *path[2];
    unsigned paths;
    double fail_above; /* per cent; below 0: never */
    json_t *doc[2];
    unsigned same, slower, faster, unsure, crossed, unmatched;
    unsigned modelled, more, fewer; /* pairs with modelled cycles; B has more, fewer */
};

static int compare_arg(void *options, const char *arg, struct err *e) {
    struct compare *c = options;
    if (c->paths == 2)
        return err_set(e, -EINVAL, "unexpected argument '%s'", arg);
    c->path[c->paths++] = arg;
    return 0;
}

static const struct option_row compare_rows[] = {
    {"fail-above", 0, "PCT",
     "Exit with 5 when a real difference makes B slower by more than PCT per cent, in "
     "time or in modelled cycles",
     .kind = OPTION_PERCENT, OPTION_FIELD(struct compare, fail_above), .max = 1000000},
};

static const struct option_command compare_command = {
    .name = "penumbra compare",
    .args = "A.json B.json",
    .doc = "Say which differences between two results of 'penumbra bench' are real.",
    .more = "Exit codes: 0 compared; 1 a file cannot be read; 2 usage, or a file is no "
            "such result; 5 --fail-above is crossed.",
    .rows = compare_rows,
    .count = 1,
    .arg = compare_arg,
};

static json_t *find(const json_t *doc, const json_t *like) {
    json_t *r;
    size_t i;
    json_array_foreach(json_object_get(doc, "results"), i,
                       r) if (result_same_key(r, like)) return r;
    return NULL;
}

/* One pair of results: a row, and its verdict counted. */
static void compare_pair(struct compare *c, const json_t *a, const json_t *b) {
    static double va[RANK_MAX], vb[RANK_MAX];
    size_t na = result_samples(a, va, RANK_MAX);
    size_t nb = result_samples(b, vb, RANK_MAX);
    char ta[16], tb[16];
    const char *verdict = "no difference";
    struct interval r;
    if (rank_ratio(va, na, vb, nb, &r))
        return;
    bool differs = r.low > 1 || r.high < 1;
    if (!r.known) {
        verdict = "too few samples to tell";
        c->unsure++;
    } else if (!differs) {
        c->same++;
    } else if (r.median > 1) {
        verdict = "B is slower";
        c->slower++;
        if (c->fail_above >= 0 && (r.median - 1) * 100 > c->fail_above) {
            verdict = "B is slower, beyond the limit";
            c->crossed++;
        }
    } else {
        verdict = "B is faster";
        c->faster++;
    }
    bench_time(rank_median(va, na), ta);
    bench_time(rank_median(vb, nb), tb);
    printf("%-9s %-28s %-6s %-9s %9s %9s  %.3f [%.3f, %.3f]  %s\n",
           result_text(a, "workload"), result_text(a, "label"), result_text(a, "mmu"),
           result_text(a, "kind"), ta, tb, r.median, r.low, r.high, verdict);
}

/* Of one pair, under the same models: a row where the cycles differ. */
static void compare_modelled(struct compare *c, const json_t *a, const json_t *b) {
    const json_t *x = json_object_get(a, "modelled"), *y = json_object_get(b, "modelled");
    if (!json_is_object(x) || !json_is_object(y) ||
        strcmp(result_text(x, "tlb"), result_text(y, "tlb")) != 0 ||
        strcmp(result_text(x, "cost_profile"), result_text(y, "cost_profile")) != 0)
        return;
    double ca = json_number_value(json_object_get(x, "cycles"));
    double cb = json_number_value(json_object_get(y, "cycles"));
    double ratio = ca > 0 ? cb / ca : 1;
    c->modelled++;
    if (ratio > 1 - 1e-9 && ratio < 1 + 1e-9) /* as many digits as a file has */
        return;
    bool crossed = c->fail_above >= 0 && (ratio - 1) * 100 > c->fail_above;
    c->more += ratio > 1;
    c->fewer += ratio < 1;
    c->crossed += crossed;
    printf("%9s modelled cycles: %.0f and %.0f, %.3f: B has %s%s\n", "", ca, cb, ratio,
           ratio > 1 ? "more" : "fewer", crossed ? ", beyond the limit" : "");
}

static void compare_hosts(const struct compare *c) {
    const json_t *a = json_array_get(json_object_get(c->doc[0], "hosts"), 0);
    const json_t *b = json_array_get(json_object_get(c->doc[1], "hosts"), 0);
    static const char *const names[] = {"cpu", "kernel"};
    for (unsigned i = 0; i < 2; i++) {
        const char *x = result_text(a, names[i]), *y = result_text(b, names[i]);
        if (x && y && strcmp(x, y) != 0)
            printf("The %ss differ: A on %s, B on %s\n", names[i], x, y);
    }
}

static void compare_all(struct compare *c) {
    json_t *a, *b;
    size_t i;
    compare_hosts(c);
    printf("%-9s %-28s %-6s %-9s %9s %9s  %s\n", "workload", "", "MMU", "time is", "A",
           "B", "B/A [95% interval]");
    json_array_foreach(json_object_get(c->doc[0], "results"), i, a) {
        b = find(c->doc[1], a);
        if (!b || result_text(a, "error") || result_text(b, "error")) {
            c->unmatched++;
            continue;
        }
        compare_pair(c, a, b);
        compare_modelled(c, a, b);
        const json_t *na = json_object_get(a, "guest_insns"),
                     *nb = json_object_get(b, "guest_insns");
        if (json_is_number(na) && json_is_number(nb) && !json_equal(na, nb))
            printf("%9s the guests ran %" JSON_INTEGER_FORMAT " and %" JSON_INTEGER_FORMAT
                   " instructions\n",
                   "", json_integer_value(na), json_integer_value(nb));
    }
    json_array_foreach(json_object_get(c->doc[1], "results"), i,
                       b) if (!find(c->doc[0], b)) c->unmatched++;
    printf("\n%u without a difference, %u slower in B, %u faster in B, %u with too few "
           "samples, %u in one file alone or failed\n",
           c->same, c->slower, c->faster, c->unsure, c->unmatched);
    printf("modelled cycles: %u pairs under the same models, %u with more in B, %u with "
           "fewer\n",
           c->modelled, c->more, c->fewer);
}

int cmd_compare(int argc, char **argv) {
    struct compare c = {.fail_above = -1};
    bool done;
    int code = option_parse(&compare_command, argc, argv, &c, &done);
    if (code || done)
        return code;
    if (c.paths < 2)
        return option_error(&compare_command, "two result files are needed");
    for (unsigned i = 0; i < 2 && !code; i++)
        code = bench_load(c.path[i], &c.doc[i]);
    if (!code) {
        compare_all(&c);
        code = cli_flush(c.crossed ? CLI_CROSSED : CLI_OK);
    }
    json_decref(c.doc[0]);
    json_decref(c.doc[1]);
    return code;
}
