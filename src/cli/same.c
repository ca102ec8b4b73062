/* SPDX-License-Identifier: MIT */
/* `penumbra same`: which pages of guests, as they are in snapshots, are equal. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/outfile.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "cli/option.h"
#include "machine/snapshot.h"

#define SNAPSHOTS_MAX 64u
#define MIB(pages)    ((double)(pages) / 256)

struct options {
    const char *dir[SNAPSHOTS_MAX], *json;
    unsigned dirs;
};

static int set_dir(void *options, const char *arg, struct err *e) {
    struct options *o = options;
    if (o->dirs == SNAPSHOTS_MAX)
        return err_set(e, -EINVAL, "more than %u snapshots", SNAPSHOTS_MAX);
    o->dir[o->dirs++] = arg;
    return 0;
}

static const struct option_row rows[] = {
    {"json", 0, "FILE", "All of it as JSON; see bench/FORMATS.md", .kind = OPTION_TEXT,
     OPTION_FIELD(struct options, json), .min = 1, .file = 'w'},
};

static const struct option_command command = {
    .name = "penumbra same",
    .args = "DIR...",
    .doc = "How many pages of guests are equal, as a host that merges pages (KSM) could "
           "keep them. "
           "Each DIR is a snapshot: guests beside each other, or one guest at several "
           "times. "
           "zeros: pages of zeros. alone: no other page holds the same. within: another "
           "page of "
           "that snapshot does. between: a page of another snapshot does. in place: the "
           "same "
           "page of the first snapshot does.",
    .more =
        "Pages are told apart by their XXH3, which the snapshot has; 'penumbra snapshot "
        "verify' checks "
        "them against the pages.\n\n"
        "Exit codes: 0 done; 7 a snapshot is damaged; 1 a host failure; 2 usage, or no "
        "snapshot.\n\nExample: penumbra same monday tuesday",
    .rows = rows,
    .count = sizeof(rows) / sizeof(rows[0]),
    .arg = set_dir,
};

static const struct {
    const char *name, *key;
    size_t offset;
} columns[] = {
#define COLUMN(name, key, field)                                                         \
    { name, key, offsetof(struct snapshot_same, field) }
    COLUMN("pages", "pages", pages),       COLUMN("zeros", "zeros", zeros),
    COLUMN("alone", "alone", alone),       COLUMN("within", "within", within),
    COLUMN("between", "between", between), COLUMN("in place", "in_place", in_place),
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

static uint64_t column(const struct snapshot_same *s, unsigned i) {
    uint64_t v;
    memcpy(&v, (const uint8_t *)s + columns[i].offset, sizeof(v));
    return v;
}

static void print(const struct options *o, const struct snapshot_same *s,
                  uint64_t contents, FILE *out) {
    uint64_t pages = 0, used = 0;
    char grouped[32];
    for (unsigned i = 0; i < COLUMNS; i++)
        fprintf(out, "%13s", columns[i].name);
    fputs("  snapshot\n", out);
    for (unsigned k = 0; k < o->dirs; k++) {
        for (unsigned i = 0; i < COLUMNS; i++)
            fprintf(out, "%13s", cli_grouped(column(&s[k], i), grouped));
        fprintf(out, "  %s\n", o->dir[k]);
        pages += s[k].pages;
        used += s[k].pages - s[k].zeros;
    }
    fprintf(out,
            "\nin all: %.1f MiB, %.1f without zeros, %.1f with each content kept once: "
            "%.1f%% of the pages that hold something are copies\n",
            MIB(pages), MIB(used), MIB(contents),
            used ? 100 * (double)(used - contents) / (double)used : 0.0);
}

static json_t *document(const struct options *o, const struct snapshot_same *s,
                        uint64_t contents, json_t *typed) {
    json_t *all = json_array();
    for (unsigned k = 0; k < o->dirs; k++) {
        json_t *one = json_pack("{s:s, s:I}", "snapshot", o->dir[k], "contents",
                                (json_int_t)s[k].contents);
        for (unsigned i = 0; i < COLUMNS; i++)
            json_object_set_new(one, columns[i].key,
                                json_integer((json_int_t)column(&s[k], i)));
        json_array_append_new(all, one);
    }
    return json_pack("{s:s, s:s, s:s?, s:O, s:I, s:o}", "schema", "penumbra-same-1",
                     "version", PENUMBRA_VERSION, "revision",
                     *PENUMBRA_REVISION ? PENUMBRA_REVISION : NULL, "command", typed,
                     "contents", (json_int_t)contents, "snapshots", all);
}

static int tell(const struct options *o, const struct snapshot_same *s, uint64_t contents,
                json_t *typed, struct bench_out *out) {
    print(o, s, contents, o->json && outfile_is_stdout(o->json) ? stderr : stdout);
    json_t *doc = document(o, s, contents, typed);
    int code = bench_out_json(out, doc);
    json_decref(doc);
    return code;
}

static int study(const struct options *o, json_t *typed, struct bench_out *out) {
    struct snapshot *s[SNAPSHOTS_MAX];
    struct snapshot_same found[SNAPSHOTS_MAX];
    char text[320];
    struct err e = {text, sizeof(text)};
    uint64_t contents;
    unsigned open = 0;
    int code = CLI_OK;
    while (code == CLI_OK && open < o->dirs) {
        int rc = snapshot_open(o->dir[open], &s[open], &e);
        code = rc ? cli_error("%s", text), cli_snapshot_code(rc) : CLI_OK;
        open += !rc;
    }
    if (code == CLI_OK &&
        snapshot_same((const struct snapshot *const *)s, open, found, &contents))
        code = cli_error("out of memory");
    if (code == CLI_OK)
        code = tell(o, found, contents, typed, out);
    while (open)
        snapshot_close(s[--open]);
    return code;
}

int cmd_same(int argc, char **argv) {
    struct options o = {.dirs = 0};
    struct bench_out out = {.file.fd = -1};
    bool done;
    int code = option_parse(&command, argc, argv, &o, &done);
    if (code || done)
        return code;
    if (!o.dirs)
        return option_error(&command, "which snapshots?");
    json_t *typed = cli_command(argc, argv);
    code = bench_out_open(&out, o.json);
    if (!code)
        code = study(&o, typed, &out);
    outfile_abandon(&out.file);
    json_decref(typed);
    return code;
}
