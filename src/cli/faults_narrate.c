/* SPDX-License-Identifier: MIT */
/* Faults told in words: `penumbra faults --narrate`, and `penumbra run --explain-faults`. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/faults.h"
#include "cli/run.h"
#include "inspect/fault_story.h"

/* Records one at a time: a fault is told between the events before it and those after. */
static int tell(struct trace_file *f, struct faults *faults, struct fault_story *story) {
    const struct pn_event_rec *rec;
    int rc = 0;
    for (size_t n; !rc && !fault_story_done(story) && (n = trace_file_next(f, &rec));)
        for (size_t i = 0; i < n && !rc && !fault_story_done(story); i++) {
            fault_story_event(story, f, &rec[i]);
            rc = faults_add(faults, f, &rec[i], 1);
        }
    return rc || fault_story_done(story) ? rc : faults_finish(faults);
}

int faults_narrate(struct trace_file *f, const struct faults_config *cfg, uint64_t most,
                   FILE *out) {
    struct faults_config c = *cfg;
    struct fault_story *story = fault_story_create(most, out);
    c.each = fault_story_fault;
    c.opaque = story;
    struct faults *faults = story ? faults_create(&c) : NULL;
    int rc = faults ? tell(f, faults, story) : -ENOMEM;
    if (!rc && !fault_story_told(story))
        fputs("No faults.\n", out);
    faults_destroy(faults);
    fault_story_destroy(story);
    return rc ? cli_error("out of memory") : CLI_OK;
}

/* ---- Of a run: through a trace of its own ---- */

#define FOLDER "/penumbra-XXXXXX"
#define FILE_  "/trace"

int run_faults_begin(struct run_options *o, char path[PATH_MAX]) {
    const char *tmp = getenv("TMPDIR");
    int n =
        snprintf(path, PATH_MAX - sizeof(FILE_), "%s" FOLDER, tmp && *tmp ? tmp : "/tmp");
    if (n >= (int)(PATH_MAX - sizeof(FILE_)) || !mkdtemp(path)) {
        int rc = n >= (int)(PATH_MAX - sizeof(FILE_)) ? ENAMETOOLONG : errno;
        cli_error("--explain-faults: no folder in TMPDIR: %s", strerror(rc));
        path[0] = 0;
        return CLI_HOST;
    }
    strcat(path, FILE_);
    o->trace = path;
    o->trace_limit = RUN_FAULTS_BYTES;
    return CLI_OK;
}

int run_faults_tell(const struct run_options *o, FILE *out) {
    struct faults_config c = {.where = {.vcpu = -1, .to = UINT64_MAX}};
    struct symbols *symbols = NULL;
    struct trace_file *f;
    struct err unsaid = {NULL, 0}; /* a kernel may have no symbols */
    int code = trace_input_open(o->trace, &f);
    if (code)
        return code;
    const struct trace_header *h = trace_file_header(f);
    if (o->machine.kernel && h->known & TRACE_KNOWS_KERNEL_MOVED &&
        !symbols_load(o->machine.kernel, &symbols, &unsaid)) {
        c.symbols = symbols;
        c.moved = h->kernel_moved;
    }
    code = faults_narrate(f, &c, o->explain_faults, out);
    trace_file_close(f);
    symbols_free(symbols);
    return code;
}

void run_faults_end(char path[PATH_MAX]) {
    if (!path[0])
        return;
    (void)unlink(path);
    path[strlen(path) - (sizeof(FILE_) - 1)] = 0;
    (void)rmdir(path);
    path[0] = 0;
}
