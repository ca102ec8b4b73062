/* SPDX-License-Identifier: MIT */
/* `penumbra compare`: two results, or as many of each side, compared
 * (bench/harness/comparison.h), and printed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/harness/comparison.h"
#include "bench/harness/result.h"
#include "cli/bench.h"
#include "cli/option.h"

#define FILES_MAX 128u /* of both sides */

struct compare {
    struct comparison_config cfg;
    const char *path[FILES_MAX];
    unsigned paths;
    const char *json;
    json_t *command;
};

static int compare_arg(void *options, const char *arg, struct err *e) {
    struct compare *c = options;
    if (c->paths == FILES_MAX)
        return err_set(e, -EINVAL, "more than %u files", FILES_MAX);
    c->path[c->paths++] = arg;
    return 0;
}

static const struct option_row compare_rows[] = {
    {"fail-above", 0, "PCT",
     "A gate: exit with 5 when B takes more than PCT per cent longer, or so many more "
     "modelled cycles, and with 8 when that cannot be told",
     .kind = OPTION_PERCENT, OPTION_FIELD(struct compare, cfg.limit), .max = 1000000},
    {"exact", 0, NULL,
     "Compare what is exact alone, for which one run is enough: exit with 5 when a "
     "counter, a modelled figure or what the guest computed differs; with --fail-above, "
     "when modelled cycles do by more",
     .kind = OPTION_FLAG, OPTION_FIELD(struct compare, cfg.exact)},
    {"json", 0, "FILE", "The comparison as JSON; see bench/FORMATS.md",
     .kind = OPTION_TEXT, OPTION_FIELD(struct compare, json), .min = 1},
};

static const struct compare defaults = {.cfg.limit = -1};

static const struct option_command compare_command = {
    .name = "penumbra compare",
    .args = "A.json... B.json...",
    .doc =
        "Say which differences between two results of 'penumbra bench' are real. Times "
        "differ by chance, one pair in twenty; what is counted or modelled does not: "
        "--exact is the gate for CI. Of several files the first half is A, as in "
        "'penumbra compare a?.json b?.json'. A sample of times is the median of a file "
        "then, so that a host whose pace changes from one invocation to the next is seen "
        "as spread, and not as a difference: make four files or more of each side, in "
        "turn.",
    .more = "Exit codes: 0 compared, and the gate passed; 1 a file cannot be read; 2 "
            "usage, or a file is no such result; 5 the gate is crossed; 8 the gate "
            "compared nothing, not all, or too few samples to tell.",
    .rows = compare_rows,
    .count = sizeof(compare_rows) / sizeof(compare_rows[0]),
    .defaults = &defaults,
    .arg = compare_arg,
};

static void print_hosts(const json_t *const doc[2]) {
    const json_t *a = json_array_get(json_object_get(doc[0], "hosts"), 0);
    const json_t *b = json_array_get(json_object_get(doc[1], "hosts"), 0);
    static const char *const names[] = {"cpu", "kernel"};
    for (unsigned i = 0; i < 2; i++) {
        const char *x = result_text(a, names[i]), *y = result_text(b, names[i]);
        if (x && y && strcmp(x, y) != 0)
            printf("The %ss differ: A on %s, B on %s\n", names[i], x, y);
    }
}

/* "skylake 0123456789abcdef", or none. */
static void print_model(const char *what, const json_t *a, const json_t *b) {
    const char *na = result_text(a, "name"), *nb = result_text(b, "name");
    if (!profile_same(a, b))
        printf("The %s differ: A has %s %s, B has %s %s\n", what, na ? na : "none",
               na ? result_text(a, "xxh3") : "", nb ? nb : "none",
               nb ? result_text(b, "xxh3") : "");
}

static void print_name(const json_t *pair) {
    printf("%-9s %-28s %-6s ", result_text(pair, "workload"), result_text(pair, "label"),
           result_text(pair, "mmu"));
}

static const char *beyond(const json_t *figure) {
    return json_is_true(json_object_get(figure, "beyond")) ? ", beyond the limit" : "";
}

static double number(const json_t *object, const char *name) {
    return json_number_value(json_object_get(object, name));
}

static void print_time(const json_t *pair) {
    const json_t *t = json_object_get(pair, "time");
    const char *verdict = result_text(t, "verdict");
    char a[16], b[16];
    print_name(pair);
    bench_time(number(t, "a"), a);
    bench_time(number(t, "b"), b);
    printf("%-9s %9s %9s  %.3f ", result_text(pair, "kind"), a, b, number(t, "ratio"));
    if (json_is_number(json_object_get(t, "low")))
        printf("[%.3f, %.3f]  ", number(t, "low"), number(t, "high"));
    if (!strcmp(verdict, "same"))
        puts("no difference");
    else if (!strcmp(verdict, "unsure"))
        printf(" too few samples to tell%s\n", beyond(t));
    else
        printf("B is %s%s\n", verdict, beyond(t));
}

static void print_cycles(const json_t *pair) {
    const json_t *c = json_object_get(pair, "cycles");
    const char *verdict = result_text(c, "verdict");
    if (verdict && strcmp(verdict, "same") != 0)
        printf("%9s modelled cycles: %.0f and %.0f, %.3f: B has %s%s\n", "",
               number(c, "a"), number(c, "b"), number(c, "ratio"), verdict, beyond(c));
}

static void print_differences(const json_t *pair) {
    const json_t *d;
    size_t i;
    json_array_foreach(json_object_get(pair, "differences"), i, d) {
        char *a = json_dumps(json_object_get(d, "a"),
                             JSON_ENCODE_ANY | JSON_REAL_PRECISION(12));
        char *b = json_dumps(json_object_get(d, "b"),
                             JSON_ENCODE_ANY | JSON_REAL_PRECISION(12));
        print_name(pair);
        printf("%s: %s and %s\n", result_text(d, "figure"), a ? a : "?", b ? b : "?");
        free(a);
        free(b);
    }
}

static void print_pairs(const struct compare *c, const json_t *all) {
    const json_t *pair, *n = json_object_get(all, "counts");
    size_t i, pairs = json_array_size(json_object_get(all, "pairs"));
    if (!c->cfg.exact)
        printf("%-9s %-28s %-6s %-9s %9s %9s  %s\n", "workload", "", "MMU", "time is",
               "A", "B", "B/A [95% interval]");
    json_array_foreach(json_object_get(all, "pairs"), i, pair) {
        if (c->cfg.exact) {
            print_differences(pair);
        } else {
            print_time(pair);
            print_cycles(pair);
        }
    }
    json_array_foreach(json_object_get(all, "unpaired"), i, pair) {
        print_name(pair);
        printf("only in %s: %s\n", result_text(pair, "in"), result_text(pair, "why"));
    }
    if (c->cfg.exact)
        printf("\nexact figures: %zu pairs, %.0f differ\n", pairs, number(n, "unequal"));
    else
        printf(
            "\n%.0f without a difference, %.0f slower in B, %.0f faster in B, %.0f with "
            "too few samples, %zu in one file alone or failed\n",
            number(n, "same"), number(n, "slower"), number(n, "faster"),
            number(n, "unsure"), json_array_size(json_object_get(all, "unpaired")));
    printf("modelled cycles: %.0f pairs under the same models, %.0f with more in B, %.0f "
           "with fewer\n",
           number(n, "cycles"), number(n, "more_cycles"), number(n, "fewer_cycles"));
}

/* What the gate says. Return: the exit code. */
static int print_gate(const json_t *all) {
    const char *verdict = result_text(all, "verdict");
    const json_t *why;
    size_t i;
    if (!verdict)
        return CLI_OK;
    printf("gate: %s\n", verdict);
    json_array_foreach(json_object_get(all, "reasons"), i, why) {
        cli_error("the gate cannot tell all: %s", json_string_value(why));
    }
    return !strcmp(verdict, "passed")    ? CLI_OK
           : !strcmp(verdict, "crossed") ? CLI_CROSSED
                                         : CLI_UNTOLD;
}

static void print_files(const struct compare *c) {
    if (c->cfg.files > 1)
        printf(
            "A: %u files from %s on; B: %u from %s on; a sample is the median of one\n",
            c->cfg.files, c->path[0], c->cfg.files, c->path[c->cfg.files]);
}

/* What compared, and what exactly was compared. */
static void add_origin(const struct compare *c, json_t *all) {
    json_t *inputs[2] = {json_array(), json_array()};
    for (unsigned i = 0; i < c->paths; i++)
        json_array_append_new(inputs[i >= c->cfg.files], result_input(c->path[i]));
    json_object_update_new(
        all, json_pack("{s:s, s:s?, s:O?, s:{s:o, s:o}}", "version", PENUMBRA_VERSION,
                       "revision", *PENUMBRA_REVISION ? PENUMBRA_REVISION : NULL,
                       "command", c->command, "inputs", "a", inputs[0], "b", inputs[1]));
}

static int compare_loaded(struct compare *c, const json_t *const doc[2]) {
    const json_t *a = json_object_get(doc[0], "settings");
    const json_t *b = json_object_get(doc[1], "settings");
    struct bench_out out;
    json_t *all = comparison_make(doc[0], doc[1], &c->cfg);
    int code = all ? bench_out_open(&out, c->json) : CLI_HOST;
    if (!all)
        cli_error("out of memory");
    if (!code && c->json && outfile_is_stdout(c->json) &&
        dup2(STDERR_FILENO, STDOUT_FILENO) < 0) /* the text goes beside the JSON */
        code = cli_error("stderr: %s", strerror(errno));
    if (!code) {
        print_files(c);
        print_hosts(doc);
        print_model("TLB models", json_object_get(a, "tlb"), json_object_get(b, "tlb"));
        print_model("prices", json_object_get(a, "cost_profile"),
                    json_object_get(b, "cost_profile"));
        print_pairs(c, all);
        code = cli_flush(print_gate(all));
        add_origin(c, all);
        if (bench_out_json(&out, all))
            code = CLI_HOST;
        outfile_abandon(&out.file);
    }
    json_decref(all);
    return code;
}

/* Both sides' files into one document each, docs[0] and docs[files]. */
static int load(const struct compare *c, json_t **docs) {
    char text[1024];
    struct err e = {text, sizeof(text)};
    unsigned files = c->cfg.files;
    int code = CLI_OK;
    for (unsigned i = 0; i < c->paths && !code; i++)
        code = bench_load(c->path[i], &docs[i]);
    for (unsigned at = 0; at < c->paths && !code; at += files) {
        int rc = result_fold(docs + at, c->path + at, files, &e);
        if (rc) {
            cli_error("%s", text);
            code = rc == -ENOMEM ? CLI_HOST : CLI_USAGE;
        }
    }
    return code;
}

static int check(struct compare *c) {
    if (c->paths < 2 || c->paths % 2)
        return option_error(&compare_command,
                            c->paths < 2 ? "two result files are needed"
                                         : "as many files of B are needed as of A");
    c->cfg.path = c->path;
    c->cfg.files = c->paths / 2;
    if (c->cfg.exact && c->cfg.files > 1)
        return option_error(&compare_command, "--exact compares one file of each side");
    for (unsigned i = 0; i < c->paths && c->json; i++)
        if (outfile_same(c->json, c->path[i]))
            return option_error(&compare_command, "--json %s would replace a result",
                                c->json);
    return CLI_OK;
}

int cmd_compare(int argc, char **argv) {
    struct compare c = defaults;
    json_t *docs[FILES_MAX] = {NULL};
    bool done;
    int code = option_parse(&compare_command, argc, argv, &c, &done);
    if (code || done)
        return code;
    code = check(&c);
    c.command = cli_command(argc, argv);
    if (!code)
        code = load(&c, docs);
    if (!code)
        code = compare_loaded(&c, (const json_t *const[]){docs[0], docs[c.cfg.files]});
    for (unsigned i = 0; i < c.paths; i++)
        json_decref(docs[i]);
    json_decref(c.command);
    return code;
}
