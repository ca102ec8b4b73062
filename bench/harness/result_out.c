/* SPDX-License-Identifier: MIT */
/* Result documents written: as JSON, and as the page that holds it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "bench/harness/page.h"
#include "bench/harness/result.h"
#include "bench/harness/verdict.h"
#include "bench/workload.h"

int result_write(const json_t *doc, int fd) {
    char *text = json_dumps(doc, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
    int rc = text ? file_write(fd, text, strlen(text)) : -ENOMEM;
    free(text);
    return rc ? rc : file_write(fd, "\n", 1);
}

/* ---- The page ---- */

extern const char bench_page[], bench_page_end[], bench_script[], bench_script_end[];

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

/* What the workloads do: { name: [unit of an op, what] }. */
static json_t *workload_docs(void) {
    json_t *all = json_object();
#define LINUX(name, unit, n, quick, bytes, quick_bytes, doc)                             \
    json_object_set_new(all, "linux." #name, json_pack("[s, s]", unit, doc));
#include "bench/linux/linux.inc"
#define DEBIAN(name, unit, n, quick, doc)                                                \
    json_object_set_new(all, "debian." #name, json_pack("[s, s]", unit, doc));
#include "bench/debian/debian.inc"
    for (unsigned i = 0; i < WORKLOADS; i++)
        json_object_set_new(all, workloads[i].name,
                            json_pack("[s, s]", workloads[i].unit, workloads[i].doc));
    return all;
}

int result_page(const json_t *doc, int fd) {
    json_t *heads = columns(), *docs = workload_docs();
    json_t *verdicts = verdict_sentences(json_object_get(doc, "results"));
    char *data = page_json(doc), *head = page_json(heads), *what = page_json(docs);
    char *said = page_json(verdicts);
    const struct page_part parts[] = {
        {"@DATA@", data, data ? strlen(data) : 0},
        {"@COLUMNS@", head, head ? strlen(head) : 0},
        {"@DOCS@", what, what ? strlen(what) : 0},
        {"@VERDICTS@", said, said ? strlen(said) : 0},
        {"@CHART@", bench_chart, (size_t)(bench_chart_end - bench_chart)},
        {"@SCRIPT@", bench_script, (size_t)(bench_script_end - bench_script)},
    };
    int rc = page_write(fd, bench_page, bench_page_end, parts,
                        sizeof(parts) / sizeof(parts[0]));
    json_decref(heads);
    json_decref(docs);
    json_decref(verdicts);
    free(data);
    free(head);
    free(what);
    free(said);
    return rc;
}
