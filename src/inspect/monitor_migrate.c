/* SPDX-License-Identifier: MIT */
/* The monitor's commands about live migration (monitor.inc). */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/size.h"
#include "inspect/monitor_internal.h"
#include "machine/migrate.h"

#define NS_PER_MS 1000000u
#define MS_MAX    3600000u

/* A number of the option's, in units of `unit`. Return: 0, or -EINVAL with a line. */
static int number(struct request *r, const char *option, const char *text, uint64_t most,
                  uint64_t unit, uint64_t *out) {
    uint64_t n;
    if (!text || number_parse(text, 1, most, &n))
        return err_set(&r->err, -EINVAL, "%s: a number from 1 to %" PRIu64, option, most);
    *out = n * unit;
    return 0;
}

static int compression(struct request *r, const char *text, struct migrate_options *o) {
    const char *name;
    for (unsigned i = 0; text && (name = migrate_compression_name(i)); i++)
        if (!strcmp(text, name)) {
            o->compression = i;
            return 0;
        }
    return err_set(&r->err, -EINVAL, "--compress: none, lz4 or zstd");
}

/* The option at argument *i, and its own argument. Return: 0, or -errno with a line. */
static int take_option(struct request *r, unsigned *i, struct migrate_options *o) {
    const char *name = r->arg[*i], *next = *i + 1 < r->args ? r->arg[*i + 1] : NULL;
    uint64_t n = 0;
    int rc = 0;
    if (!strcmp(name, "--throttle")) {
        o->throttle = true;
        return 0;
    }
    if (!strcmp(name, "--post-copy")) {
        o->postcopy = true;
        return 0;
    }
    if (!strcmp(name, "--verify")) {
        o->verify = true;
        return 0;
    }
    ++*i;
    if (!strcmp(name, "--streams")) {
        rc = number(r, name, next, MIGRATE_STREAMS_MAX, 1, &n);
        o->streams = (unsigned)n;
    } else if (!strcmp(name, "--downtime")) {
        rc = number(r, name, next, MS_MAX, NS_PER_MS, &o->downtime_ns);
    } else if (!strcmp(name, "--stall")) {
        rc = number(r, name, next, MS_MAX, UINT64_C(1000) * NS_PER_MS, &o->stall_ns);
    } else if (!strcmp(name, "--compress")) {
        rc = compression(r, next, o);
    } else if (!strcmp(name, "--tls") && next) {
        rc = monitor_may_use_files(r);
        o->tls = next;
    } else {
        rc = err_set(&r->err, -EINVAL, "'%s': no option of migrate: help migrate", name);
    }
    return rc;
}

int monitor_migrate(struct request *r) {
    struct migrate_options o;
    migrate_options_default(&o);
    int rc = monitor_may_use_files(r);
    if (rc == 0)
        rc = monitor_may_change(r);
    for (unsigned i = 1; rc == 0 && i < r->args; i++)
        rc = take_option(r, &i, &o);
    if (rc == 0)
        rc = machine_migrate(r->mon->machine, r->arg[0], &o, &r->err);
    if (rc)
        return rc;
    r->client->migrates = true;
    if (r->wants_json)
        r->json = json_pack("{s:s}", "migrates", r->arg[0]);
    return 0;
}

int monitor_migrate_cancel(struct request *r) {
    return machine_migrate_cancel(r->mon->machine, &r->err);
}

static json_t *progress_json(const struct migrate_progress *p) {
    return json_pack("{s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "phase",
                     migrate_phase_name(p->phase), "rounds", (int)p->rounds, "throttle",
                     (int)p->throttle, "pages", (json_int_t)p->pages, "zeros",
                     (json_int_t)p->zeros, "free", (json_int_t)p->free, "dirty",
                     (json_int_t)p->dirty, "bytes", (json_int_t)p->bytes, "total_ns",
                     (json_int_t)p->total_ns, "downtime_ns", (json_int_t)p->downtime_ns,
                     "line", p->line);
}

static void print(const struct migrate_progress *p, FILE *out) {
    fprintf(out,
            "%u rounds, %" PRIu64 " pages and %" PRIu64
            " that became zeros, %.1f MiB sent, %.1f ms",
            p->rounds, p->pages, p->zeros, (double)p->bytes / (1u << 20),
            (double)p->total_ns / NS_PER_MS);
    if (p->free)
        fprintf(out, ", %" PRIu64 " pages left out that the guest said were free",
                p->free);
}

int monitor_info_migrate(struct request *r) {
    const struct migrate_progress p = machine_migrate_progress(r->mon->machine);
    fprintf(r->out, "migration: %s", migrate_phase_name(p.phase));
    if (p.phase != MIGRATE_NONE) {
        fputs(": ", r->out);
        print(&p, r->out);
        fprintf(r->out, ", %" PRIu64 " pages left, throttle %u%%", p.dirty, p.throttle);
    }
    fprintf(r->out, "%s%s\n", *p.line ? ": " : "", p.line);
    if (r->wants_json)
        r->json = progress_json(&p);
    return 0;
}

void monitor_migrated(const struct migrate_progress *p, bool json, FILE *out) {
    if (json) {
        json_t *j =
            json_pack("{s:s, s:o}", "event", "migration", "result", progress_json(p));
        json_dumpf(j, out, JSON_COMPACT);
        fputc('\n', out);
        json_decref(j);
    } else if (p->phase == MIGRATE_MOVED) {
        fputs("the guest has moved: ", out);
        print(p, out);
        fprintf(out, ", it stood for %.1f ms\n", (double)p->downtime_ns / NS_PER_MS);
    } else if (p->phase == MIGRATE_UNSURE) {
        fprintf(out,
                "Error: %s; nobody knows whether the guest runs over there: here it "
                "stands (cont, quit)\n",
                p->line);
    } else {
        fprintf(out, "Error: %s; the guest goes on here\n", p->line);
    }
}
