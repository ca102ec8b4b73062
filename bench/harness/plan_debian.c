/* SPDX-License-Identifier: MIT */
/* Programs in a Debian guest as points: "debian" stands for all, "debian.gcc" and
 * "debian.gcc:n=10" for one. Each point is a boot of its own, down to the program alone: no
 * other process runs beside it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/harness/plan_internal.h"

static const struct job {
    const char *name; /* as results have it */
    uint64_t n, quick;
} jobs[] = {
#define DEBIAN(name, unit, n, quick, doc) {"debian." #name, n, quick},
#include "bench/debian/debian.inc"
};
#define JOBS (sizeof(jobs) / sizeof(jobs[0]))
#define ALL  6u /* bytes of "debian" */

bool plan_is_debian(const char *text) {
    return !strncmp(text, "debian", ALL) && strchr(".:", text[ALL]);
}

static int add(struct plan *p, const struct job *job, const char *list, bool quick,
               struct err *e) {
    struct plan_unit u = {.workload = job->name, .debian_guest = true};
    uint64_t n = quick ? job->quick : job->n;
    char *copy = strdup(list), *at = copy, *item;
    int rc = copy ? 0 : -ENOMEM;
    while (!rc && *list && (item = strsep(&at, ",")))
        rc = plan_give(job->name, item, &n, NULL, e);
    free(copy);
    snprintf(u.params, sizeof(u.params), "n=%" PRIu64, n);
    plan_name_unit(p, list, &u);
    return rc ? rc : plan_append_unit(p, &u, e);
}

int plan_add_debian(struct plan *p, const char *text, bool quick, struct err *e) {
    size_t size = strcspn(text, ":");
    bool any = false;
    int rc = 0;
    for (size_t i = 0; i < JOBS && !rc; i++)
        if (size == ALL ||
            (strlen(jobs[i].name) == size && !memcmp(jobs[i].name, text, size))) {
            rc = add(p, &jobs[i], text[size] ? text + size + 1 : "", quick, e);
            any = true;
        }
    return any ? rc
               : err_set(e, -EINVAL, "no workload is called '%.*s'; --list has them",
                         (int)size, text);
}

void plan_debian_append(const struct plan_unit *u, char *buf, size_t size) {
    const char *append = plan_unit_append(u);
    uint64_t n = strtoull(u->params + strlen("n="), NULL, 10);
    snprintf(buf, size,
             "root=/dev/vda1 rw console=ttyS0 panic=-1 quiet "
             "init=/usr/local/lib/penumbra/init pn.debian=%s:%" PRIu64 "%s%s",
             u->workload + ALL + 1, n, *append ? " " : "", append);
}
