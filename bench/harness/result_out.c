/* SPDX-License-Identifier: MIT */
/* Result documents written: as JSON, and as the page that holds it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "bench/harness/result.h"
#include "bench/workload.h"

int result_write(const json_t *doc, int fd) {
    char *text = json_dumps(doc, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
    int rc = text ? file_write(fd, text, strlen(text)) : -ENOMEM;
    free(text);
    return rc ? rc : file_write(fd, "\n", 1);
}

/* ---- The page ---- */

extern const char bench_page[], bench_page_end[], bench_script[], bench_script_end[],
    bench_chart[], bench_chart_end[];

/* The page's template up to `marker`, and then what stands for it. Return: 0 or -errno.
 */
static int put_until(int fd, const char **at, const char *marker, const char *text,
                     size_t size) {
    const char *m = memmem(*at, (size_t)(bench_page_end - *at), marker, strlen(marker));
    if (!m)
        return -EINVAL;
    int rc = file_write(fd, *at, (size_t)(m - *at));
    *at = m + strlen(marker);
    return rc ? rc : file_write(fd, text, size);
}

/* The document as text that may stand inside a script element: '<' occurs in JSON's
 * strings alone, and is written as an escape there. Return: NULL: no memory. */
static char *page_data(const json_t *doc) {
    char *text =
        json_dumps(doc, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(12));
    char *out = text ? malloc(strlen(text) * 6 + 1) : NULL, *to = out;
    for (const char *p = text; out && *p; p++) {
        if (*p == '<')
            to = stpcpy(to, "\\u003c");
        else
            *to++ = *p;
    }
    if (out)
        *to = 0;
    free(text);
    return out;
}

/* The columns of the page's table. */
static json_t *columns(void) {
    json_t *all = json_array();
    for (const struct result_field *f = result_fields; f->path; f++)
        if (*f->page)
            json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:b}", "path", f->path,
                                                 "heading", f->page, "doc", f->doc,
                                                 "modelled", f->modelled));
    return all;
}

/* What the embedded guest's workloads do: { name: [unit of an op, what] }. */
static json_t *workload_docs(void) {
    json_t *all = json_object();
    for (unsigned i = 0; i < WORKLOADS; i++)
        json_object_set_new(all, workloads[i].name,
                            json_pack("[s, s]", workloads[i].unit, workloads[i].doc));
    return all;
}

static int put_json(int fd, const char **at, const char *marker, const json_t *value) {
    char *data = value ? page_data(value) : NULL;
    int rc = data ? put_until(fd, at, marker, data, strlen(data)) : -ENOMEM;
    free(data);
    return rc;
}

int result_page(const json_t *doc, int fd) {
    const char *at = bench_page;
    json_t *heads = columns(), *docs = workload_docs();
    int rc = put_json(fd, &at, "@DATA@", doc);
    if (!rc)
        rc = put_json(fd, &at, "@COLUMNS@", heads);
    if (!rc)
        rc = put_json(fd, &at, "@DOCS@", docs);
    json_decref(heads);
    json_decref(docs);
    if (!rc)
        rc = put_until(fd, &at, "@CHART@", bench_chart,
                       (size_t)(bench_chart_end - bench_chart));
    if (!rc)
        rc = put_until(fd, &at, "@SCRIPT@", bench_script,
                       (size_t)(bench_script_end - bench_script));
    return rc ? rc : file_write(fd, at, (size_t)(bench_page_end - at));
}
