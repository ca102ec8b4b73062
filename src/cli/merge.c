/* SPDX-License-Identifier: MIT */
/*
 * `penumbra merge`: one result of several shards.
 *
 * Invariant: a file that is read is never written, and no other is replaced unasked.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/bench.h"
#include "cli/option.h"

#define MERGE_MAX 4096u

struct merge {
    const char *out, *html;
    bool force, partial;
    const char *path[MERGE_MAX];
    json_t *doc[MERGE_MAX];
    unsigned paths;
};

static int merge_arg(void *options, const char *arg, struct err *e) {
    struct merge *m = options;
    if (m->paths == MERGE_MAX)
        return err_set(e, -EINVAL, "more than %u files", MERGE_MAX);
    m->path[m->paths++] = arg;
    return 0;
}

static const struct option_row merge_rows[] = {
    {"output", 'o', "FILE", "Write the whole to FILE (needed)", .kind = OPTION_TEXT,
     OPTION_FIELD(struct merge, out), .min = 1, .file = 'w'},
    {"html", 0, "FILE", "Write the page of the whole, too", .kind = OPTION_TEXT,
     OPTION_FIELD(struct merge, html), .min = 1, .file = 'w'},
    {"force", 0, NULL, "Replace files that exist, but never one of those to merge",
     .kind = OPTION_FLAG, OPTION_FIELD(struct merge, force)},
    {"partial", 0, NULL,
     "Merge although shards are missing; the result says which it has",
     .kind = OPTION_FLAG, OPTION_FIELD(struct merge, partial)},
};

static const struct option_command merge_command = {
    .name = "penumbra merge",
    .args = "-o OUT.json IN.json...",
    .doc = "Make one result of those of 'penumbra bench --shard I/N'.",
    .more = "Exit codes: 0 written; 1 a host failure; 2 usage, a file is no such result, "
            "a shard is missing, or the files do not go together.",
    .rows = merge_rows,
    .count = sizeof(merge_rows) / sizeof(merge_rows[0]),
    .arg = merge_arg,
};

/* May a file of that name be written? NULL: none is. What is no regular file (/dev/null,
 * a FIFO) loses nothing. */
static int check_output(const struct merge *m, const char *name) {
    struct stat st;
    for (unsigned i = 0; name && i < m->paths; i++)
        if (outfile_same(name, m->path[i]))
            return option_error(&merge_command,
                                "%s is one of the files to merge: not replaced", name);
    if (name && !m->force && !stat(name, &st) && S_ISREG(st.st_mode))
        return option_error(&merge_command, "%s exists: --force replaces it", name);
    return CLI_OK;
}

static int check_usage(const struct merge *m) {
    if (!m->out)
        return option_error(&merge_command,
                            "no output: write 'penumbra merge -o OUT.json IN.json...'");
    if (!m->paths)
        return option_error(&merge_command, "no files to merge");
    int code = check_output(m, m->out);
    return code ? code : check_output(m, m->html);
}

/* "all.json: 14 results of 3 shards"; stdout may be the output. */
static void print_whole(const struct merge *m, const json_t *whole) {
    size_t of, shards = result_shards(whole, &of);
    size_t n = json_array_size(json_object_get(whole, "results"));
    fprintf(stderr, "%s: %zu result%s", m->out, n, n == 1 ? "" : "s");
    if (shards)
        fprintf(stderr, " of %zu", shards);
    if (shards < of)
        fprintf(stderr, " of %zu", of);
    if (shards)
        fprintf(stderr, " shard%s", of == 1 ? "" : "s");
    fputc('\n', stderr);
}

static int merge_loaded(struct merge *m) {
    char line[512];
    struct err e = {line, sizeof(line)};
    struct bench_out json = {.file.fd = -1}, html = {.file.fd = -1};
    json_t *whole = NULL;
    int rc = result_merge(m->doc, m->path, m->paths, m->partial, &whole, &e);
    if (rc) {
        cli_error("%s%s", line,
                  rc == -ENODATA ? " (--partial merges without, and says so)" : "");
        return rc == -ENOMEM ? CLI_HOST : CLI_USAGE;
    }
    int code = bench_out_open(&json, m->out);
    if (!code)
        code = bench_out_open(&html, m->html);
    if (!code)
        code = bench_out_json(&json, whole);
    if (!code)
        code = bench_out_page(&html, whole);
    if (!code)
        print_whole(m, whole);
    outfile_abandon(&json.file);
    outfile_abandon(&html.file);
    json_decref(whole);
    return code;
}

int cmd_merge(int argc, char **argv) {
    struct merge *m = calloc(1, sizeof(*m));
    bool done;
    if (!m)
        return cli_error("out of memory");
    int code = option_parse(&merge_command, argc, argv, m, &done);
    if (!code && !done)
        code = check_usage(m);
    for (unsigned i = 0; i < m->paths && !code && !done; i++)
        code = bench_load(m->path[i], &m->doc[i]);
    if (!code && !done)
        code = merge_loaded(m);
    for (unsigned i = 0; i < m->paths; i++)
        json_decref(m->doc[i]);
    free(m);
    return code;
}
