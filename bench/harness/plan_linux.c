/* SPDX-License-Identifier: MIT */
/* Linux workloads as points: "linux" stands for all, "linux.fork" and
 * "linux.mmap:n=10,bytes=1M" for one. Each point is a boot of its own; "linux.boot" is
 * the boot itself, from the first instruction to power-off. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "bench/harness/plan_internal.h"

#define APPEND " append=" /* the rest of the parameters: for the kernel */

static const struct job {
    const char *name; /* as results have it */
    uint64_t n, quick, bytes, quick_bytes;
    bool boots; /* the boot itself is the work, done once */
} jobs[] = {
#define LINUX(name, unit, n, quick, bytes, quick_bytes, doc)                             \
    {"linux." #name, n, quick, bytes, quick_bytes, false},
#include "bench/linux/linux.inc"
    {"linux.boot", 1, 1, 0, 0, true},
};
#define JOBS (sizeof(jobs) / sizeof(jobs[0]))

bool plan_is_linux(const char *text) {
    return !strncmp(text, "linux", 5) && strchr(".:", text[5]);
}

int plan_give(const char *workload, char *item, uint64_t *n, uint64_t *bytes,
              struct err *e) {
    char *eq = strchr(item, '=');
    uint64_t *to = NULL;
    if (eq) {
        *eq = 0;
        to = !strcmp(item, "n") ? n : !strcmp(item, "bytes") ? bytes : NULL;
    }
    if (!to)
        return err_set(e, -EINVAL, "%s has no parameter '%s'", workload, item);
    if ((size_parse(eq + 1, to) && number_parse(eq + 1, 0, UINT64_MAX, to)) || !*to)
        return err_set(e, -EINVAL, "%s: %s=%s: not a number above 0", workload, item,
                       eq + 1);
    return 0;
}

const char *plan_unit_append(const struct plan_unit *u) {
    const char *append = strstr(u->params, APPEND);
    return append ? append + strlen(APPEND) : "";
}

void plan_name_unit(const struct plan *p, const char *list, struct plan_unit *u) {
    snprintf(u->label, sizeof(u->label), "%s", list);
    for (char *c = u->label; *c; c++)
        if (*c == ',')
            *c = ' ';
    if (p->append)
        snprintf(strchr(u->params, 0), PLAN_APPEND_MAX + sizeof(APPEND), APPEND "%s",
                 p->append);
}

static int add(struct plan *p, const struct job *job, const char *list, bool quick,
               struct err *e) {
    struct plan_unit u = {
        .workload = job->name, .linux_guest = true, .boots = job->boots};
    uint64_t n = quick ? job->quick : job->n;
    uint64_t bytes = quick ? job->quick_bytes : job->bytes;
    char *copy = strdup(list), *at = copy, *item;
    int rc = copy ? 0 : -ENOMEM;
    while (!rc && *list && (item = strsep(&at, ",")))
        rc = plan_give(job->name, item, job->boots ? NULL : &n,
                       job->bytes ? &bytes : NULL, e);
    free(copy);
    snprintf(u.params, sizeof(u.params), "n=%" PRIu64, n);
    if (bytes)
        snprintf(u.params, sizeof(u.params), "n=%" PRIu64 " bytes=%" PRIu64, n, bytes);
    plan_name_unit(p, list, &u);
    return rc ? rc : plan_append_unit(p, &u, e);
}

int plan_add_linux(struct plan *p, const char *text, bool quick, struct err *e) {
    size_t size = strcspn(text, ":");
    bool all = size == 5, any = false;
    int rc = 0;
    for (size_t i = 0; i < JOBS && !rc; i++)
        if (all || (strlen(jobs[i].name) == size && !memcmp(jobs[i].name, text, size))) {
            rc = add(p, &jobs[i], text[size] ? text + size + 1 : "", quick, e);
            any = true;
        }
    return any ? rc
               : err_set(e, -EINVAL, "no workload is called '%.*s'; --list has them",
                         (int)size, text);
}

void plan_linux_append(const struct plan_unit *u, char *buf, size_t size) {
    uint64_t n = 0, bytes = 0;
    const char *append = plan_unit_append(u);
    char job[64] = "pn.off";
    int got = sscanf(u->params, "n=%" SCNu64 " bytes=%" SCNu64, &n, &bytes);
    const char *name = u->workload + strlen("linux.");
    if (!u->boots && got == 2)
        snprintf(job, sizeof(job), "pn.bench=%s:%" PRIu64 ":%" PRIu64, name, n, bytes);
    else if (!u->boots)
        snprintf(job, sizeof(job), "pn.bench=%s:%" PRIu64, name, n);
    snprintf(buf, size, "console=ttyS0 panic=-1 quiet %s%s%s", job, *append ? " " : "",
             append);
}
