/* SPDX-License-Identifier: MIT */
/*
 * Plans.
 *
 * Invariants
 * 1. A unit names every parameter of its workload, so that two results can be told apart
 *    and a later change of a standard value is no silent change of what is compared.
 * 2. The order of units depends on the arguments alone: shards of one command line made
 *    on different machines are parts of one plan.
 */
#include "bench/harness/plan_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "bench/workload.h"

/* The points that a bare workload name stands for: one for each text, over the row's base
 * (or its quick base). Where an axis is named, each text is a value of it. A base keeps a
 * run below half a second even under a KVM that emulates ring 0. A workload that is not
 * listed has one point. */
static const struct points {
    const char *workload, *axis, *base, *quick_base;
    const char *text[12];
    const char *quick[6]; /* over the quick values */
} table[] = {
    {"touch",
     NULL,
     "rounds=8",
     "",
     {"order=seq", "order=random", "order=random,page=2M"},
     {"order=random"}},
    {"chase",
     "bytes",
     "steps=500000",
     "",
     {"bytes=64K", "bytes=256K", "bytes=1M", "bytes=2M", "bytes=4M", "bytes=8M",
      "bytes=16M", "bytes=64M"},
     {"bytes=64K", "bytes=1M", "bytes=4M", "bytes=16M"}},
    {"chase",
     "bytes",
     "steps=500000",
     "",
     {"bytes=4M,page=2M", "bytes=64M,page=2M"},
     {0}},
    /* The accesses go beyond the reach of the modelled TLBs. Within that reach a walk
     * costs nothing, and shadow paging pays at no rate of updates. */
    {"remap",
     "touches",
     "pages=256,rounds=2,span=4096",
     "pages=256,rounds=1,span=4096",
     {"touches=1", "touches=16", "touches=128", "touches=512", "touches=1024",
      "touches=2048", "touches=4096"},
     {"touches=1", "touches=64", "touches=1024", "touches=2048"}},
    {"remap", NULL, "pages=128,rounds=4", "", {"batch=1", "flush=cr3"}, {0}},
    {"protect", NULL, "pages=512,rounds=2", "", {""}, {""}},
    {"cow", NULL, "pages=256,rounds=2", "", {""}, {""}},
    {"ctxsw", NULL, "switches=1000", "", {"pcid=0", "pcid=1"}, {"pcid=0", "pcid=1"}},
    {"split", NULL, "rounds=4", "", {""}, {""}},
    {"compute", NULL, "", "", {""}, {""}},
    {"syscall", NULL, "calls=4000", "", {""}, {""}},
    {"exit",
     NULL,
     "",
     "",
     {"kind=out", "kind=cpuid", "kind=mmio", "kind=hypercall"},
     {"kind=out", "kind=mmio"}},
    {"dirty",
     NULL,
     "",
     "",
     {"write=1", "write=10", "write=50", "write=100", "stride=64K,write=100", "page=2M"},
     {"write=50"}},
    {"demand", NULL, "pages=1024", "", {"by=guest", "by=host"}, {"by=guest"}},
    {"access", NULL, "rounds=4", "", {""}, {""}},
    {"memslot", NULL, "rounds=8", "", {""}, {""}},
    {"nested",
     NULL,
     "pages=512",
     "",
     {"way=npt", "way=shadow", "way=hypercall", "way=npt,rounds=16",
      "way=shadow,rounds=16"},
     {"way=npt", "way=shadow"}},
};

#define LOG_DIRTY 1u
#define SVM       2u
static const unsigned flags[WORKLOADS] = {
#define WORKLOAD(name, unit, flags, doc) flags,
#define PARAM(...)
#include "bench/workloads.inc"
};

/* Values of all parameters, those given by the user or the table, and the axis. */
struct values {
    int workload;
    uint64_t v[WORKLOAD_PARAMS];
    bool given[WORKLOAD_PARAMS];
};

static void value_text(int param, uint64_t v, char *buf, size_t size) {
    size_t n = 0;
    const char *word = workload_word(param, v, &n);
    if (word)
        snprintf(buf, size, "%.*s", (int)n, word);
    else
        snprintf(buf, size, "%" PRIu64, v);
}

/* A number as people write it (1e8) becomes the digits that the guest reads. */
static enum workload_text read_value(int param, const char *text, size_t n,
                                     uint64_t *value) {
    char plain[32];
    if (!*workload_params[param].words && n < sizeof(plain)) {
        memcpy(plain, text, n);
        plain[n] = 0;
        if (!number_parse(plain, 0, UINT64_MAX, value)) {
            n = (size_t)snprintf(plain, sizeof(plain), "%" PRIu64, *value);
            text = plain;
        }
    }
    return workload_value(param, text, n, value);
}

/* Names beginning with "name=value" up to a comma or the end. */
static int give(struct values *val, const char *item, size_t n, struct err *e) {
    const char *workload = workloads[val->workload].name;
    const char *eq = memchr(item, '=', n);
    size_t name = eq ? (size_t)(eq - item) : n;
    int param = workload_param_find(val->workload, item, name);
    if (!eq || param < 0)
        return err_set(e, -EINVAL, "%s has no parameter '%.*s'; --list has them",
                       workload, (int)name, item);
    if (val->given[param])
        return err_set(e, -EINVAL, "%s: %.*s is given twice", workload, (int)name, item);
    val->given[param] = true;
    if (read_value(param, eq + 1, n - name - 1, &val->v[param]) == WORKLOAD_OK)
        return 0;
    const struct workload_param *p = &workload_params[param];
    return *p->words ? err_set(e, -EINVAL, "%s: %.*s: not one of %s", workload, (int)n,
                               item, p->words)
                     : err_set(e, -EINVAL,
                               "%s: %.*s: not a number from %" PRIu64 " to %" PRIu64,
                               workload, (int)n, item, p->min, p->max);
}

static int give_list(struct values *val, const char *list, struct err *e) {
    while (*list) {
        size_t n = strcspn(list, ",");
        int rc = give(val, list, n, e);
        if (rc)
            return rc;
        list += n + (list[n] != 0);
    }
    return 0;
}

static void standard_values(struct values *val, int workload, bool quick) {
    memset(val, 0, sizeof(*val));
    val->workload = workload;
    for (int i = 0; i < WORKLOAD_PARAMS; i++)
        val->v[i] = quick ? workload_params[i].quick : workload_params[i].standard;
}

static void put(char *buf, size_t size, const char *name, const char *value) {
    size_t n = strlen(buf);
    snprintf(buf + n, size - n, "%s%s=%s", n ? " " : "", name, value);
}

int plan_append_unit(struct plan *p, const struct plan_unit *u, struct err *e) {
    for (unsigned i = 0; i < p->units; i++)
        if (!strcmp(p->unit[i].workload, u->workload) &&
            !strcmp(p->unit[i].params, u->params))
            return err_set(e, -EINVAL, "%s %s is asked for twice", u->workload, u->label);
    if (p->units == PLAN_UNITS_MAX)
        return err_set(e, -ENOSPC, "more than %u points", PLAN_UNITS_MAX);
    p->unit[p->units] = *u;
    p->unit[p->units].index = p->units;
    p->units++;
    return 0;
}

static int append_unit(struct plan *p, const struct values *val, const char *axis,
                       struct err *e) {
    struct plan_unit u = {.workload = workloads[val->workload].name,
                          .needs_svm = flags[val->workload] & SVM,
                          .logs_dirty = flags[val->workload] & LOG_DIRTY};
    for (int i = 0; i < WORKLOAD_PARAMS; i++) {
        char text[32], size[SIZE_TEXT_MAX];
        if (workload_params[i].workload != val->workload)
            continue;
        const char *name = workload_params[i].name;
        value_text(i, val->v[i], text, sizeof(text));
        put(u.params, sizeof(u.params), name, text);
        if (val->given[i])
            put(u.label, sizeof(u.label), name,
                !strcmp(name, "bytes") ? size_text(val->v[i], size) : text);
        if (axis && !strcmp(axis, name)) {
            u.axis = name;
            u.value = (double)val->v[i];
        }
    }
    return plan_append_unit(p, &u, e);
}

/* One point: the standard values, or the quick ones, then those of base, then those of
 * list. Only list's values are in the label. */
static int add_point(struct plan *p, int workload, const char *base, const char *list,
                     const char *axis, bool quick, struct err *e) {
    struct values val;
    standard_values(&val, workload, quick);
    int rc = give_list(&val, base, e);
    memset(val.given, 0, sizeof(val.given));
    if (!rc)
        rc = give_list(&val, list, e);
    return rc ? rc : append_unit(p, &val, axis, e);
}

static int add_points(struct plan *p, int workload, bool quick, struct err *e) {
    bool any = false;
    int rc = 0;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (strcmp(table[i].workload, workloads[workload].name) != 0)
            continue;
        const char *const *text = quick ? table[i].quick : table[i].text;
        for (any = true; *text && !rc; text++)
            rc = add_point(p, workload, quick ? table[i].quick_base : table[i].base,
                           *text, table[i].axis, quick, e);
    }
    return any ? rc : add_point(p, workload, "", "", NULL, quick, e);
}

int plan_add(struct plan *p, const char *text, bool quick, struct err *e) {
    if (plan_is_linux(text))
        return plan_add_linux(p, text, quick, e);
    if (plan_is_debian(text))
        return plan_add_debian(p, text, quick, e);
    size_t n = strcspn(text, ":");
    int workload = workload_find(text, n);
    if (workload < 0)
        return err_set(e, -EINVAL, "no workload is called '%.*s'; --list has them",
                       (int)n, text);
    return text[n] ? add_point(p, workload, "", text + n + 1, NULL, quick, e)
                   : add_points(p, workload, quick, e);
}

int plan_add_all(struct plan *p, bool quick, struct err *e) {
    int rc = 0;
    for (int i = 0; i < WORKLOADS && !rc; i++)
        rc = add_points(p, i, quick, e);
    return rc;
}

void plan_shard(struct plan *p, unsigned shard, unsigned of) {
    unsigned kept = 0;
    for (unsigned i = 0; i < p->units; i++)
        if (p->unit[i].index % of == shard - 1)
            p->unit[kept++] = p->unit[i];
    p->units = kept;
}

void plan_append(const struct plan_unit *u, char *buf, size_t size) {
    if (u->linux_guest)
        plan_linux_append(u, buf, size);
    else if (u->debian_guest)
        plan_debian_append(u, buf, size);
    else
        snprintf(buf, size, "workload=%s %s", u->workload, u->params);
}
