/* SPDX-License-Identifier: MIT */
/* The monitor's commands about the MMU (monitor.inc). */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/outfile.h"
#include "inspect/dump.h"
#include "inspect/explain.h"
#include "inspect/json_out.h"
#include "inspect/monitor_internal.h"

static json_t *region_json(struct linux_machine *l, unsigned cpu, uint64_t gva) {
    struct linux_region r;
    return l && linux_machine_region(l, cpu, gva, &r)
               ? json_pack("{s:s, s:o, s:o}", "name", r.name, "from",
                           json_sprintf("0x%" PRIx64, r.from), "to",
                           json_sprintf("0x%" PRIx64, r.to))
               : json_null();
}

/* ---- Files ---- */

int monitor_may_use_files(struct request *r) {
    return r->mon->cfg.no_files ? err_set(&r->err, -EPERM, "no files here") : 0;
}

/* Write a file by write(), which returns 0 or -errno; what: its own. */
static int write_file(struct request *r, const char *path,
                      int (*write)(const struct request *r, const void *what, int fd),
                      const void *what) {
    struct outfile f;
    int rc = monitor_may_use_files(r);
    if (rc)
        return rc;
    rc = outfile_open(&f, path);
    if (!rc)
        rc = write(r, what, f.fd);
    if (!rc)
        rc = outfile_commit(&f);
    else if (f.fd >= 0)
        outfile_abandon(&f);
    return rc ? err_sys(&r->err, rc, "%s", path) : 0;
}

static int write_dump(const struct request *r, const void *what, int fd) {
    return json_out(what, fd, 1);
}

static int write_drawing(const struct request *r, const void *what, int fd) {
    return explain_svg_file(&r->view, *(const uint64_t *)what, fd);
}

/* ---- One address, dumps ---- */

int monitor_explain(struct request *r) {
    uint64_t gva;
    int rc = monitor_address(r, r->arg[0], &gva);
    if (!rc && r->args > 1)
        rc = write_file(r, r->arg[1], write_drawing, &gva);
    if (rc)
        return rc;
    struct linux_machine *l = monitor_linux_machine(r);
    if (r->wants_json) {
        r->json = explain_json(&r->view, gva);
        if (r->json)
            json_object_set_new(r->json, "region", region_json(l, r->view.cpu, gva));
        return r->json ? 0 : -ENOMEM;
    }
    rc = explain_print(&r->view, gva, r->out);
    if (!rc && l)
        linux_machine_explain(l, r->view.cpu, gva, r->out);
    return rc;
}

int monitor_dump(struct request *r) {
    int rc = 0;
    json_t *j = dump_json(&r->view);
    if (!j)
        return -ENOMEM;
    if (r->args)
        rc = write_file(r, r->arg[0], write_dump, j);
    else if (r->wants_json)
        r->json = json_incref(j);
    else
        dump_print(j, r->out);
    json_decref(j);
    return rc;
}

int monitor_diff(struct request *r) {
    json_t *a = NULL, *b = NULL;
    int rc = monitor_may_use_files(r);
    if (!rc)
        rc = dump_load(r->arg[0], &a, &r->err);
    if (!rc && r->args > 1)
        rc = dump_load(r->arg[1], &b, &r->err);
    else if (!rc && !(b = dump_json(&r->view)))
        rc = -ENOMEM;
    json_t *diff = rc ? NULL : dump_diff(a, b);
    if (diff && r->wants_json)
        r->json = json_incref(diff);
    else if (diff)
        dump_diff_print(diff, r->out);
    else if (!rc)
        rc = -ENOMEM;
    json_decref(diff);
    json_decref(a);
    json_decref(b);
    return rc;
}

int monitor_audit(struct request *r) {
    if (r->view.guest_only)
        return err_set(&r->err, -ENOTSUP, "--mmu %s: the MMU is the hypervisor's",
                       r->view.ops->name);
    int bad = pn_mmu_audit(pn_mmu_of(r->view.vcpu), r->out);
    if (bad)
        fprintf(r->out, "%d violations\n", bad);
    else
        fputs("every invariant holds\n", r->out);
    if (r->wants_json)
        r->json = json_pack("{s:i}", "violations", bad);
    return 0;
}

/* ---- Counters ---- */

static uint64_t total(struct request *r, enum pn_stat id) {
    uint64_t n = 0;
    for (unsigned i = 0; i < machine_cpus(r->mon->machine); i++)
        n += r->view.ops->stats(r->view.engine, i)->v[id];
    return n;
}

static bool counted(const struct request *r, enum pn_stat id) {
    return !r->view.ops->counts || r->view.ops->counts(id);
}

int monitor_stats(struct request *r) {
    json_t *j = r->wants_json ? json_object() : NULL;
    for (unsigned i = 0; i < PN_STAT_COUNT; i++) {
        uint64_t n = total(r, i);
        bool asked = r->args ? strstr(pn_stat_name(i), r->arg[0]) != NULL : n != 0;
        if (!asked || !counted(r, i))
            continue;
        fprintf(r->out, "%-20s %16" PRIu64 "\n", pn_stat_name(i), n);
        if (j)
            json_object_set_new(j, pn_stat_name(i), json_integer((json_int_t)n));
    }
    r->json = j;
    return 0;
}

int monitor_faults(struct request *r) {
    static const struct {
        const char *name, *doc;
        enum pn_stat counter;
    } outcomes[] = {
#define PN_OUTCOME(name, answer, counter, sum, doc) {#name, doc, PN_STAT_##counter},
#include "penumbra/outcomes.inc"
    };
    json_t *j = r->wants_json ? json_object() : NULL;
    for (unsigned i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++) {
        enum pn_stat id = outcomes[i].counter;
        if (!counted(r, id))
            continue;
        fprintf(r->out, "%14" PRIu64 "  %-14s %s\n", total(r, id), outcomes[i].name,
                outcomes[i].doc);
        if (j)
            json_object_set_new(j, outcomes[i].name,
                                json_integer((json_int_t)total(r, id)));
    }
    r->json = j;
    return 0;
}
