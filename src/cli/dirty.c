/* SPDX-License-Identifier: MIT */
/* `penumbra dirty check`: every tracker of written pages over the corpus of inspect/dirty_check.h. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/outfile.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "cli/option.h"
#include "inspect/dirty_check.h"
#include "penumbra/kvm_host.h"

struct options {
    const char *word, *json;
    uint64_t mmus, trackers, cases; /* bit i: number i of its list; 0: all */
};

/* "a,b" by the names of a list. Return: 0, or -EINVAL and in e which there are. */
static int set_names(uint64_t *bits, const char *arg, const char *(*name)(unsigned i),
                     struct err *e) {
    const struct option_row row = {.word = name};
    char words[512];
    for (const char *at = arg; *at;) {
        size_t length = strcspn(at, ",");
        const char *one;
        unsigned i = 0;
        while ((one = name(i)) && (strlen(one) != length || memcmp(one, at, length)))
            i++;
        if (!one) {
            option_words(&row, words, sizeof(words));
            return err_set(e, -EINVAL, "not one of %s", words);
        }
        *bits |= UINT64_C(1) << i;
        at += length + (at[length] == ',');
    }
    return 0;
}

static const char *tracker_name(unsigned i) {
    return pn_dirty_name(i + PN_TRACKER_OFF + 1);
}

static int set_mmus(void *options, const char *arg, struct err *e) {
    return set_names(&((struct options *)options)->mmus, arg, cli_engine_name, e);
}

static int set_trackers(void *options, const char *arg, struct err *e) {
    return set_names(&((struct options *)options)->trackers, arg, tracker_name, e);
}

static int set_cases(void *options, const char *arg, struct err *e) {
    return set_names(&((struct options *)options)->cases, arg, dirty_case_name, e);
}

static void list_cases(FILE *out) {
    for (unsigned i = 0; dirty_case_name(i); i++)
        fprintf(out, "%-10s %s\n%-10s after: %s\n", dirty_case_name(i),
                dirty_case_what(i), "", dirty_case_bug(i));
}

static int set_word(void *options, const char *arg, struct err *e) {
    return option_only(&((struct options *)options)->word, arg, e);
}

static const struct option_row rows[] = {
    {"mmu", 0, "M,...", "The engines (default: all that this host has)",
     .kind = OPTION_CALL, .set = set_mmus},
    {"tracker", 0, "T,...", "The trackers (default: all that the engines have)",
     .kind = OPTION_CALL, .set = set_trackers, .list = pn_dirty_print},
    {"case", 0, "C,...", "The cases (default: all)", .kind = OPTION_CALL,
     .set = set_cases, .list = list_cases},
    {"json", 0, "FILE", "All of it as JSON; see bench/FORMATS.md", .kind = OPTION_TEXT,
     OPTION_FIELD(struct options, json), .min = 1, .file = 'w'},
};

static const struct option_command command = {
    .name = "penumbra dirty",
    .args = "check",
    .doc =
        "Is each tracker of written pages right? check: every tracker of every engine, "
        "over "
        "cases that were bugs of hypervisors, against an oracle that hashes every page "
        "at "
        "every harvest (XXH3). missed: pages that changed and were not named, which is "
        "silent corruption. false: pages that were named and had not changed.",
    .more = "A tracker that names what is in memory, not what was written (mincore), is "
            "shown "
            "and not judged.\n\nExit codes: 0 no page was missed; 6 a tracker missed "
            "pages; 1 "
            "an engine or the host failed; 2 usage.",
    .rows = rows,
    .count = sizeof(rows) / sizeof(rows[0]),
    .arg = set_word,
};

/* ---- One tracker ---- */

/* Under one engine: its cases, and their sum. */
struct subject {
    const struct pn_engine_ops *ops;
    enum pn_dirty_tracker tracker;
    unsigned played, skipped;
    struct dirty_score sum;
    int rc; /* of the engine or the host, with `text` */
    char text[320];
    json_t *cases;
};

static void add(struct dirty_score *sum, const struct dirty_score *s) {
    sum->harvests += s->harvests;
    sum->changed += s->changed;
    sum->named += s->named;
    sum->missed += s->missed;
    sum->unwritten += s->unwritten;
    sum->guest_ns += s->guest_ns;
    sum->harvest_ns += s->harvest_ns;
}

static json_t *score_json(const struct dirty_score *s) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "harvests",
                     (json_int_t)s->harvests, "changed", (json_int_t)s->changed, "named",
                     (json_int_t)s->named, "missed", (json_int_t)s->missed, "false",
                     (json_int_t)s->unwritten, "guest_ns", (json_int_t)s->guest_ns,
                     "harvest_ns", (json_int_t)s->harvest_ns);
}

static void note(struct subject *u, unsigned which, const struct dirty_score *s,
                 FILE *out) {
    json_t *j = score_json(s);
    json_object_set_new(j, "case", json_string(dirty_case_name(which)));
    json_object_set_new(j, "skipped", s->skipped ? json_string(s->why) : json_null());
    json_array_append_new(u->cases, j);
    u->skipped += s->skipped;
    u->played += !s->skipped;
    add(&u->sum, s);
    if (s->missed)
        fprintf(out, "%s, %s, %s: missed %" PRIu64 " pages, the first at %" PRIx64 "%s\n",
                u->ops->name, pn_dirty_name(u->tracker), dirty_case_name(which),
                s->missed, s->missed_gpa,
                dirty_claims(u->tracker) ? "" : " (it does not claim to)");
}

static void play(struct subject *u, uint64_t cases, FILE *out) {
    struct err e = {u->text, sizeof(u->text)};
    for (unsigned i = 0; u->rc == 0 && i < DIRTY_CASES; i++) {
        struct dirty_score s;
        if (cases && !(cases >> i & 1))
            continue;
        u->rc = dirty_check(u->ops, u->tracker, (enum dirty_case)i, &s, &e);
        if (u->rc == 0)
            note(u, i, &s, out);
        else if (u->rc != -ENOSYS && u->rc != -EPERM)
            cli_error("%s, %s, %s: %s", u->ops->name, pn_dirty_name(u->tracker),
                      dirty_case_name(i), u->text);
    }
}

static bool lacks(const struct subject *u) {
    return u->rc == -ENOSYS || u->rc == -EPERM;
}

static void print_subject(const struct subject *u, FILE *out) {
    const struct dirty_score *s = &u->sum;
    fprintf(out, "%-7s %-13s", u->ops->name, pn_dirty_name(u->tracker));
    if (u->rc)
        fprintf(out, " %s\n",
                lacks(u) ? "this host has it not, or does not permit it" : "failed");
    else
        fprintf(out,
                "%6u %7u %9" PRIu64 " %9" PRIu64 " %8" PRIu64 " %8" PRIu64 " %10.1f\n",
                u->played, u->skipped, s->changed, s->named, s->missed, s->unwritten,
                s->harvests ? (double)s->harvest_ns / 1e3 / (double)s->harvests : 0.0);
}

static json_t *subject_json(const struct subject *u) {
    json_t *j = score_json(&u->sum);
    json_object_set_new(j, "mmu", json_string(u->ops->name));
    json_object_set_new(j, "tracker", json_string(pn_dirty_name(u->tracker)));
    json_object_set_new(j, "judged", json_boolean(dirty_claims(u->tracker)));
    json_object_set_new(j, "failed", u->rc ? json_string(u->text) : json_null());
    json_object_set(j, "cases", u->cases);
    return j;
}

/* ---- All of them ---- */

/* Return: CLI_OK, CLI_MISSED, or CLI_HOST where a tracker that there is failed. */
static int verdict(const struct subject *u) {
    if (u->rc)
        return lacks(u) ? CLI_OK : CLI_HOST;
    return u->sum.missed && dirty_claims(u->tracker) ? CLI_MISSED : CLI_OK;
}

static int check_all(const struct options *o, json_t *list, FILE *out) {
    const struct pn_engine_ops *ops;
    struct pn_kvm_host kvm;
    unsigned any = 0;
    int code = CLI_OK;
    pn_kvm_host_probe(&kvm);
    fprintf(out, "%-7s %-13s%6s %7s %9s %9s %8s %8s %10s\n", "mmu", "tracker", "cases",
            "skipped", "changed", "named", "missed", "false", "us/harvest");
    for (unsigned i = 0; (ops = pn_engine_at(i)); i++) {
        bool absent = ops->host_cpu && kvm.status != PN_KVM_OK;
        if (!o->mmus && absent)
            fprintf(out, "%-7s left out: %s\n", ops->name, kvm.reason);
        if (o->mmus ? !(o->mmus >> i & 1) : absent)
            continue;
        for (unsigned t = PN_TRACKER_OFF + 1; t < PN_TRACKERS; t++) {
            struct subject u = {.ops = ops, .tracker = t};
            if (!ops->has_tracker(t) ||
                (o->trackers && !(o->trackers >> (t - PN_TRACKER_OFF - 1) & 1)))
                continue;
            u.cases = json_array();
            play(&u, o->cases, out);
            print_subject(&u, out);
            json_array_append_new(list, subject_json(&u));
            json_decref(u.cases);
            int one = verdict(&u);
            code = code ? code : one;
            any++;
        }
    }
    return any ? code
               : option_error(&command, "none of these engines has such a tracker");
}

static json_t *document(json_t *list, json_t *typed) {
    json_t *cases = json_array();
    for (unsigned i = 0; dirty_case_name(i); i++)
        json_array_append_new(
            cases, json_pack("{s:s, s:s, s:s}", "name", dirty_case_name(i), "what",
                             dirty_case_what(i), "bug", dirty_case_bug(i)));
    return json_pack("{s:s, s:s, s:s?, s:O, s:o, s:o, s:O}", "schema",
                     "penumbra-dirty-check-1", "version", PENUMBRA_VERSION, "revision",
                     *PENUMBRA_REVISION ? PENUMBRA_REVISION : NULL, "command", typed,
                     "host", host_json(), "corpus", cases, "trackers", list);
}

static int check(const struct options *o, json_t *typed, struct bench_out *out) {
    json_t *list = json_array();
    bool beside = o->json && outfile_is_stdout(o->json);
    int code = check_all(o, list, beside ? stderr : stdout);
    if (o->json && code != CLI_USAGE) {
        json_t *doc = document(list, typed);
        int written = bench_out_json(out, doc);
        json_decref(doc);
        code = code ? code : written;
    }
    json_decref(list);
    return code;
}

int cmd_dirty(int argc, char **argv) {
    struct options o = {0};
    struct bench_out out = {.file.fd = -1};
    bool done;
    int code = option_parse(&command, argc, argv, &o, &done);
    if (code || done)
        return code;
    if (!o.word || strcmp(o.word, "check"))
        return option_error(&command, "what? 'penumbra dirty check'");
    json_t *typed = cli_command(argc, argv);
    code = bench_out_open(&out, o.json);
    if (!code)
        code = check(&o, typed, &out);
    outfile_abandon(&out.file);
    json_decref(typed);
    return code;
}
