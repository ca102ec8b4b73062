/* SPDX-License-Identifier: MIT */
/* Result files of the benchmark: read back; JSON and page, whole or absent. */
#include <errno.h>
#include <string.h>

#include "cli/bench.h"

int bench_load(const char *path, json_t **doc) {
    char line[512];
    struct err e = {line, sizeof(line)};
    int rc = result_load(path, doc, &e);
    if (rc)
        cli_error("%s", line);
    return rc == -EINVAL ? CLI_USAGE : rc ? CLI_HOST : CLI_OK;
}

static int failed(const char *path, int rc) {
    return cli_cannot_write(path, rc);
}

int bench_out_open(struct bench_out *out, const char *path) {
    *out = (struct bench_out){.file.fd = -1, .path = path};
    int rc = path ? outfile_open(&out->file, path) : 0;
    return rc ? failed(path, rc) : CLI_OK;
}

int bench_out_with(struct bench_out *out, const json_t *doc,
                   int (*write_doc)(const json_t *, int)) {
    if (!out->path)
        return CLI_OK;
    int rc = write_doc(doc, out->file.fd);
    if (rc)
        outfile_abandon(&out->file);
    else
        rc = outfile_commit(&out->file);
    return rc ? failed(out->path, rc) : CLI_OK;
}

int bench_out_json(struct bench_out *out, const json_t *doc) {
    return bench_out_with(out, doc, result_write);
}

int bench_out_page(struct bench_out *out, const json_t *doc) {
    return bench_out_with(out, doc, result_page);
}
