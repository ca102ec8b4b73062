/* SPDX-License-Identifier: MIT */
/* `penumbra faults`: the study of a trace's page faults (inspect/faults.h). */
#include "cli/faults.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "cli/cli.h"
#include "cli/option.h"
#include "penumbra/mmu.h"

#define OUTPUTS 3u /* --json, --csv, --html */

static const char *key_name(unsigned i) {
    return i < FAULT_KEYS ? fault_key_name(i) : NULL;
}

static const char *outcome_name(unsigned i) {
    return fault_outcome_name(i + 1); /* 0 is no fault */
}

static const char *cause_name(unsigned i) {
    return fault_cause_name(i);
}

static void list_keys(FILE *out) {
    for (unsigned i = 0; i < FAULT_KEYS; i++)
        fprintf(out, "  %-10s %s\n", fault_key_name(i), fault_key_doc(i));
}

static void list_outcomes(FILE *out) {
    for (unsigned i = 0; outcome_name(i); i++)
        fprintf(out, "  %-14s %s\n", outcome_name(i), fault_outcome_doc(i + 1));
}

static void list_causes(FILE *out) {
    for (unsigned i = 0; i < FAULT_CAUSES; i++)
        fprintf(out, "  %-14s %s\n  %-14s   shown by: %s\n", fault_cause_name(i),
                fault_cause_doc(i), "", fault_cause_shown(i));
}

/* The number of the word that *arg begins with; *arg is then behind it and its comma.
 * Return: -EINVAL with a line in e: there is none. */
static int next_word(const char **arg, const char *(*word)(unsigned i), struct err *e) {
    size_t length = strcspn(*arg, ",");
    struct nearest near = {.word = *arg, .length = length};
    for (unsigned i = 0; word(i); i++) {
        if (strlen(word(i)) == length && !memcmp(word(i), *arg, length)) {
            *arg += length + ((*arg)[length] != 0);
            return (int)i;
        }
        nearest_try(&near, word(i));
    }
    return err_set(e, -EINVAL, "there is no '%.*s'%s%s%s; 'help' lists what there is",
                   (int)length, *arg, near.best ? ": did you mean " : "",
                   near.best ? near.best : "", near.best ? "?" : "");
}

static int set_by(void *options, const char *arg, struct err *e) {
    struct fault_by *by = &((struct faults_options *)options)->by;
    by->keys = 0;
    do {
        int key = next_word(&arg, key_name, e);
        if (key < 0)
            return key;
        for (unsigned i = 0; i < by->keys; i++)
            if (by->key[i] == (enum fault_key)key)
                return err_set(e, -EINVAL, "%s twice", fault_key_name(by->key[i]));
        if (by->keys == FAULT_BY_MAX)
            return err_set(e, -EINVAL, "more than %u keys", FAULT_BY_MAX);
        by->key[by->keys++] = (enum fault_key)key;
    } while (*arg);
    return 0;
}

static int set_outcome(void *options, const char *arg, struct err *e) {
    struct faults_options *o = options;
    do {
        int outcome = next_word(&arg, outcome_name, e);
        if (outcome < 0)
            return outcome;
        o->outcomes |= (uint64_t)1 << (outcome + 1);
    } while (*arg);
    return 0;
}

static int set_cause(void *options, const char *arg, struct err *e) {
    struct faults_options *o = options;
    do {
        int cause = next_word(&arg, cause_name, e);
        if (cause < 0)
            return cause;
        o->causes |= (uint64_t)1 << cause;
    } while (*arg);
    return 0;
}

static const char *report_name(unsigned i) {
    const struct fault_report *r = fault_report_at(i);
    return r ? r->name : NULL;
}

static void list_reports(FILE *out) {
    const struct fault_report *r;
    for (unsigned i = 0; (r = fault_report_at(i)); i++)
        fprintf(out, "  %-12s %s\n", r->name, r->doc);
}

static int set_report(void *options, const char *arg, struct err *e) {
    struct faults_options *o = options;
    do {
        int report = next_word(&arg, report_name, e);
        if (report < 0)
            return report;
        o->reports |= 1u << report;
    } while (*arg);
    return 0;
}

static int set_cr3(void *options, const char *arg, struct err *e) {
    struct faults_options *o = options;
    o->by_cr3 = true;
    if (number_parse(arg, 0, UINT64_MAX, &o->cr3))
        return err_set(e, -EINVAL, "not a value of CR3");
    o->cr3 &= FAULT_CR3_PAGE;
    return 0;
}

static int set_kaslr(void *options, const char *arg, struct err *e) {
    return trace_set_moved(&((struct faults_options *)options)->names, arg, e);
}

static int set_path(void *options, const char *arg, struct err *e) {
    return option_only(&((struct faults_options *)options)->path, arg, e);
}

#define OWN(field) OPTION_FIELD(struct faults_options, field)

static const struct option_row rows[] = {
    {.kind = OPTION_HEADING, .doc = "What is counted together:"},
    {"by", 0, "KEY,...", "Count by these keys, instead of by outcome and by function",
     .kind = OPTION_CALL, .set = set_by, .list = list_keys},
    {"top", 0, "N", "Print the N rows of a table that have most faults",
     .kind = OPTION_NUMBER, OWN(top), .min = 1},
    {"figures", 0, NULL,
     "With every row, how far its faults are apart, references to the guest's tables and "
     "modelled cycles",
     .kind = OPTION_FLAG, OWN(figures)},
    {"cost", 0, "PROFILE",
     "Prices of these cycles: a shipped profile or a JSON file "
     "(default " PROFILE_COST_DEFAULT ")",
     .kind = OPTION_TEXT, OWN(cost), .min = 1, .file = 'r', .list = profile_list,
     .needs = "figures"},
    {"report", 0, "NAME,...", "These tables, instead of those that count faults",
     .kind = OPTION_CALL, .set = set_report, .list = list_reports},
    {"narrate", 0, "N",
     "Instead of tables, tell the first N of these faults in words: who made the access, "
     "what the guest's tables said, what the MMU did, what it came to and why",
     .kind = OPTION_NUMBER, OWN(narrate), .min = 1},
    {.kind = OPTION_HEADING, .doc = "A run as it goes:"},
    {"live", 0, "SOCKET",
     "Instead of a file: study what 'run --trace FILE --monitor SOCKET' has traced so "
     "far, and go on "
     "until that run ends",
     .kind = OPTION_TEXT, OWN(live), .min = 1},
    {"every", 0, "S", "Print anew after so many seconds", .kind = OPTION_SECONDS,
     OWN(every), .needs = "live"},
    {"updates", 0, "N", "End after the Nth time, though the run goes on",
     .kind = OPTION_NUMBER, OWN(updates), .min = 1, .needs = "live"},
    {.kind = OPTION_HEADING, .doc = "Which faults:"},
    {"outcome", 0, "NAME,...", "Only those that came to this; may be repeated",
     .kind = OPTION_CALL, .set = set_outcome, .list = list_outcomes},
    {"cause", 0, "NAME,...", "Only those that this made necessary; may be repeated",
     .kind = OPTION_CALL, .set = set_cause, .list = list_causes},
    {"cr3", 0, "ADDR", "Only those of this address space: CR3, its PCID does not matter",
     .kind = OPTION_CALL, .set = set_cr3},
    {"rip", 0, "NAME|A[-B]",
     "Only those of instructions in this function, 'NAME [MODULE]' in a module's, or "
     "here",
     .kind = OPTION_TEXT, OWN(rip), .min = 1},
#define FILTER_WHAT "faults"
#define NAMES       names
#define FILTER_TO   TRACE_TO
#include "cli/trace_filter.inc"
    {.kind = OPTION_HEADING, .doc = "Names of functions:"},
#include "cli/trace_names.inc"
    {.kind = OPTION_HEADING, .doc = "What is written, with every row:"},
    {"json", 0, "FILE", "All of it as JSON; see bench/FORMATS.md", .kind = OPTION_TEXT,
     OWN(json), .min = 1, .file = 'w'},
    {"csv", 0, "FILE",
     "The table of --by, or else the first --report, or else faults by outcome, as CSV",
     .kind = OPTION_TEXT, OWN(csv), .min = 1, .file = 'w'},
    {"html", 0, "FILE", "A page with charts, which needs nothing else",
     .kind = OPTION_TEXT, OWN(html), .min = 1, .file = 'w'},
};

static const struct faults_options defaults = {
    .filter = {.events = UINT64_MAX, .vcpu = -1, .to = UINT64_MAX},
    .top = 20,
    .every = 2000000000};

static const struct option_command command = {
    .name = "penumbra faults",
    .args = "[FILE]",
    .doc =
        "Study the page faults of a trace that 'penumbra run --trace FILE' recorded. How "
        "many there were, how many of them were the guest's own and how many hidden from "
        "it, what became of them, and which functions, pages and address spaces they "
        "come from. FILE may be -: standard input. With --live, of a run that goes on.",
    .more =
        "A fault is an event page_fault with its fault_outcome; walker_error tells the "
        "reason of a guest's own. A recording of these three is enough: --trace-events "
        "page_fault,fault_outcome,walker_error. With run --trace-tasks it also tells "
        "whose faults they are: --by process,region. What made them necessary takes all "
        "events: --by cause.\n\n"
        "Exit codes: 0 the trace is whole; 1 a file cannot be read or written; 2 usage, "
        "no trace, or no symbols; 7 damaged or incomplete: what can be read was counted.",
    .rows = rows,
    .count = sizeof(rows) / sizeof(rows[0]),
    .defaults = &defaults,
    .arg = set_path,
};

/* A function's name, or addresses as they are in the trace. Return: CLI_OK, or CLI_USAGE
 * after a line. */
static int find_rip(const struct faults_report *r, struct faults_config *c) {
    const char *name = r->options->rip;
    char text[160];
    struct err e = {text, sizeof(text)};
    c->by_rip = name != NULL;
    if (!name)
        return CLI_OK;
    if (isdigit((unsigned char)*name))
        return parse_range(name, &c->rip_from, &c->rip_to, &e)
                   ? option_error(&command, "--rip %s: %s", name, text)
                   : CLI_OK;
    if (name[strlen(name) - 1] == ']' && strstr(name, " [")) {
        c->by_rip =
            false; /* the trace has the modules' names, and no file need have them */
        c->function = name;
        return CLI_OK;
    }
    if (!r->symbols)
        return option_error(&command, "--rip %s: a function's name needs --symbols",
                            name);
    uint32_t number = symbols_named(r->symbols, name);
    struct nearest near = {.word = name, .length = strlen(name)};
    for (uint32_t i = 0; number == SYMBOLS_NONE && i < symbols_count(r->symbols); i++)
        nearest_try(&near, symbols_name(r->symbols, i));
    if (number == SYMBOLS_NONE)
        return option_error(&command, "--rip %s: no such function in %s%s%s%s", name,
                            r->options->names.symbols, near.best ? ": did you mean " : "",
                            near.best ? near.best : "", near.best ? "?" : "");
    symbols_range(r->symbols, number, &c->rip_from, &c->rip_to);
    if (faults_moves(c->rip_from)) {
        c->rip_from += r->moved;
        c->rip_to += r->moved;
    }
    c->rip_to--;
    return CLI_OK;
}

int faults_read(struct trace_file *f, struct faults *faults) {
    const struct pn_event_rec *rec;
    int rc = 0;
    for (size_t n; !rc && (n = trace_file_next(f, &rec));)
        rc = faults_add(faults, f, rec, n);
    return rc;
}

/* *ended: the trace goes no further. */
static int read_all(const struct faults_report *r, struct trace_file *f,
                    struct faults *faults, FILE *out, bool *ended) {
    int code = CLI_OK;
    *ended = true;
    if (r->options->live)
        code = faults_live(r, f, faults, out, ended);
    else if (faults_read(f, faults))
        code = cli_error("out of memory");
    if (!code && *ended && faults_finish(faults))
        code = cli_error("out of memory");
    if (!code && !*ended) {
        faults_sort(faults);
        if (r->cells)
            fault_cells_finish(r->cells);
    }
    return code;
}

/* Into the files, which are open. */
static int write_files(const struct faults_report *r, struct bench_out out[OUTPUTS]) {
    static int (*const how[OUTPUTS])(const struct faults_report *, int) = {
        faults_write_json, faults_write_csv, faults_write_page};
    for (unsigned i = 0; i < OUTPUTS; i++) {
        if (!out[i].path)
            continue;
        int rc = how[i](r, out[i].file.fd);
        if (!rc)
            rc = outfile_commit(&out[i].file);
        if (rc && cli_cannot_write(out[i].path, rc))
            return CLI_HOST;
    }
    return CLI_OK;
}

static int study(struct faults_report *r, struct trace_file *f,
                 struct bench_out out[OUTPUTS]) {
    const struct faults_options *o = r->options;
    struct faults_config c = {
        .symbols = r->symbols,
        .lines = r->lines,
        .moved = r->moved,
        .where = o->filter,
        .outcomes = o->outcomes,
        .causes = o->causes,
        .by_cr3 = o->by_cr3,
        .cr3 = o->cr3,
        .prices = o->figures ? &r->prices : NULL,
        .reports = o->reports,
        .tables = o->by.keys ? TABLE_BY + 1 : TABLE_BY,
        .by = {[TABLE_OUTCOME] = {1, {FAULT_KEY_outcome}},
               [TABLE_FUNCTION] = {1, {FAULT_KEY_function}},
               [TABLE_PAGE] = {1, {FAULT_KEY_page}},
               [TABLE_BY] = o->by},
    };
    int code = find_rip(r, &c);
    if (!code && o->narrate)
        code = faults_narrate(f, &c, o->narrate, stdout);
    if (code || o->narrate)
        return code;
    if (o->html) {
        r->cells = c.cells = fault_cells_create(o->filter.from);
        if (!r->cells)
            return cli_error("out of memory");
    }
    struct faults *faults = faults_create(&c);
    if (!faults)
        return cli_error("out of memory");
    r->faults = faults;
    bool beside = (o->json && outfile_is_stdout(o->json)) ||
                  (o->csv && outfile_is_stdout(o->csv)) ||
                  (o->html && outfile_is_stdout(o->html));
    FILE *text = beside ? stderr : stdout;
    bool ended;
    code = read_all(r, f, faults, text, &ended);
    if (!code)
        code = faults_print(r, text) ? cli_error("out of memory") : write_files(r, out);
    if (!code && ended)
        code = trace_input_end(f, o->path);
    faults_destroy(faults);
    return code;
}

/* Does the trace hold faults? One of the two events is half of the answer. */
static int check_events(const struct faults_report *r) {
    const char *path = r->options->path;
    unsigned lacks = faults_lacks(r->trace);
    if (lacks == (FAULTS_LACKS_FAULT | FAULTS_LACKS_OUTCOME)) {
        cli_error("%s: recorded without page_fault and fault_outcome: nothing to study",
                  path);
        return CLI_USAGE;
    }
    if (lacks)
        cli_error("%s: recorded without %s: %s of a fault is not known", path,
                  lacks & FAULTS_LACKS_FAULT ? "page_fault" : "fault_outcome",
                  lacks & FAULTS_LACKS_FAULT ? "the access" : "the outcome");
    for (unsigned i = 0; i < r->options->by.keys; i++)
        if (!faults_tells(r->trace, r->options->by.key[i]))
            cli_error(
                r->options->by.key[i] == FAULT_KEY_cause
                    ? "%s: recorded without some events: the %s of many faults is not "
                      "known"
                    : "%s: recorded without run --trace-tasks: the %s of a fault is not "
                      "known",
                path, fault_key_name(r->options->by.key[i]));
    return CLI_OK;
}

/* Return: CLI_OK, or the exit code after a line. */
static int read_prices(struct faults_report *r) {
    const struct faults_options *o = r->options;
    char text[512];
    struct err e = {text, sizeof(text)};
    int rc = o->figures
                 ? profile_cost(o->cost ? o->cost : PROFILE_COST_DEFAULT, &r->prices, &e)
                 : 0;
    if (rc == -EINVAL || (rc == -ENOENT && !strpbrk(o->cost, "/.")))
        return option_error(&command, "--cost: %s", text);
    return rc ? cli_error("--cost: %s", text) : CLI_OK;
}

/* Return: CLI_OK, or the exit code after a line. */
static int open_lines(struct faults_report *r) {
    const struct faults_options *o = r->options;
    char text[512];
    struct err e = {text, sizeof(text)};
    bool wanted = false;
    for (unsigned i = 0; i < o->by.keys; i++)
        wanted |= o->by.key[i] == FAULT_KEY_line;
    if (!wanted)
        return CLI_OK;
    if (!o->names.symbols)
        return option_error(&command,
                            "--by line needs --symbols, an ELF with debug information");
    int rc = lines_open(o->names.symbols, &r->lines, &e);
    if (rc == -EINVAL)
        return option_error(&command, "--by line: %s", text);
    return rc ? cli_error("--by line: %s", text) : CLI_OK;
}

static int with_files(struct faults_report *r, struct bench_out out[OUTPUTS]) {
    const struct faults_options *o = r->options;
    struct symbols *symbols = NULL;
    struct trace_file *f = NULL;
    int code = read_prices(r);
    if (!code)
        code = trace_input_symbols(&o->names, &symbols);
    if (!code)
        code = open_lines(r);
    if (!code)
        code = trace_input_open(o->path, &f);
    r->symbols = symbols;
    r->trace = f;
    if (!code)
        code = check_events(r);
    if (!code) {
        r->knows_moved = trace_input_moved(f, o->path, &o->names, &r->moved);
        code = study(r, f, out);
    }
    trace_file_close(f);
    symbols_free(symbols);
    lines_close(r->lines);
    return code;
}

int cmd_faults(int argc, char **argv) {
    static const char *const names[OUTPUTS] = {"json", "csv", "html"};
    struct faults_options o = defaults;
    struct faults_report r = {.options = &o};
    struct bench_out out[OUTPUTS] = {{.file.fd = -1}, {.file.fd = -1}, {.file.fd = -1}};
    bool done;
    int code = option_parse(&command, argc, argv, &o, &done);
    if (code || done)
        return code;
    if (!o.path == !o.live)
        return option_error(&command, o.live ? "--live SOCKET is instead of a file"
                                             : "which file?");
    if (o.live && o.narrate)
        return option_error(&command, "--narrate does not go with --live");
    char now[PATH_MAX];
    if (o.live) {
        code = faults_live_file(&o, now, sizeof(now));
        if (code)
            return code;
        o.path = now;
    }
    if (o.narrate && (o.by.keys || o.reports || o.figures || o.json || o.csv || o.html))
        return option_error(&command, "--narrate tells faults: it does not go with --by, "
                                      "--report, --figures, --json, --csv or --html");
    const char *const to[OUTPUTS] = {o.json, o.csv, o.html};
    for (unsigned i = 0; i < OUTPUTS; i++)
        if (to[i] && strcmp(o.path, "-") != 0 && outfile_same(to[i], o.path))
            return option_error(&command, "--%s %s would replace the trace", names[i],
                                to[i]);
    r.command = cli_command(argc, argv);
    for (unsigned i = 0; i < OUTPUTS && !code; i++)
        code = bench_out_open(&out[i], to[i]);
    if (!code)
        code = with_files(&r, out);
    for (unsigned i = 0; i < OUTPUTS; i++)
        outfile_abandon(&out[i].file);
    free(r.cells);
    json_decref(r.command);
    return code;
}
