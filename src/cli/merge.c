/* SPDX-License-Identifier: MIT */
/* `penumbra merge`: one result of several shards. */
#include <errno.h>
#include <stdlib.h>

#include "cli/bench.h"
#include "cli/option.h"

#define MERGE_MAX 4096u

struct merge {
    const char *out, *html;
    const char *path[MERGE_MAX];
    json_t *doc[MERGE_MAX];
    unsigned paths;
};

static int merge_arg(void *options, const char *arg, struct err *e) {
    struct merge *m = options;
    if (m->paths == MERGE_MAX)
        return err_set(e, -EINVAL, "more than %u files", MERGE_MAX);
    if (m->out)
        m->path[m->paths++] = arg;
    else
        m->out = arg;
    return 0;
}

static const struct option_row merge_rows[] = {
    {"html", 0, "FILE", "Write the page of the whole, too", .kind = OPTION_TEXT,
     OPTION_FIELD(struct merge, html), .min = 1},
};

static const struct option_command merge_command = {
    .name = "penumbra merge",
    .args = "OUT.json IN.json...",
    .doc = "Make one result of those of 'penumbra bench --shard I/N'.",
    .more = "Exit codes: 0 written; 1 a host failure; 2 usage, a file is no such result, "
            "or they do not go together.",
    .rows = merge_rows,
    .count = 1,
    .arg = merge_arg,
};

static int merge_loaded(struct merge *m) {
    char line[512];
    struct err e = {line, sizeof(line)};
    struct bench_out json = {.file.fd = -1}, html = {.file.fd = -1};
    json_t *whole = NULL;
    int rc = result_merge(m->doc, m->path, m->paths, &whole, &e);
    if (rc) {
        cli_error("%s", line);
        return rc == -ENOMEM ? CLI_HOST : CLI_USAGE;
    }
    int code = bench_out_open(&json, m->out);
    if (!code)
        code = bench_out_open(&html, m->html);
    if (!code)
        code = bench_out_json(&json, whole);
    if (!code)
        code = bench_out_page(&html, whole);
    outfile_abandon(&json.file);
    outfile_abandon(&html.file);
    json_decref(whole);
    return code;
}

int cmd_merge(int argc, char **argv) {
    struct merge *m = calloc(1, sizeof(*m));
    bool done;
    if (!m) {
        cli_error("out of memory");
        return CLI_HOST;
    }
    int code = option_parse(&merge_command, argc, argv, m, &done);
    if (!code && !done && !m->paths)
        code = option_error(&merge_command, "an output and an input are needed");
    for (unsigned i = 0; i < m->paths && !code && !done; i++)
        code = bench_load(m->path[i], &m->doc[i]);
    if (!code && !done)
        code = merge_loaded(m);
    for (unsigned i = 0; i < m->paths; i++)
        json_decref(m->doc[i]);
    free(m);
    return code;
}
