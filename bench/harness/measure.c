/* SPDX-License-Identifier: MIT */
/*
 * One run of a workload.
 *
 * Invariants
 * 1. Between the two readings of the clock nothing but the guest runs: counters are read
 *    before the first and after the second.
 * 2. A sample exists only for a guest that ended well and set both marks.
 * Locking: the marks come on the vCPU's thread while the caller's waits in machine_run.
 */
#include "bench/harness/measure.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/clock.h"
#include "bench/guest/guest.h"
#include "bench/workload.h"
#include "penumbra/mark.h"

#define LINE_BYTES 1024u

struct run {
    struct machine *machine;
    const struct pn_engine_ops *ops;
    struct measure_sample *sample;
    struct pn_stats stats0;
    json_t *foreign0;
    uint64_t ns0, insns0;
    bool begun, ended, whole;
    XXH3_state_t *written; /* whole: all that the guest wrote */
    char line[LINE_BYTES]; /* the guest's last line */
    size_t line_size;
    bool line_ended;
};

/* KVM's counters that are a level or a peak (its ICOUNTER and PCOUNTER descriptions). */
static bool foreign_is_gauge(const char *name) {
    static const char *const gauges[] = {"pages_4k",
                                         "pages_2m",
                                         "pages_1g",
                                         "mmu_unsync",
                                         "nx_lpage_splits",
                                         "max_mmu_rmap_size",
                                         "max_mmu_page_hash_collisions",
                                         "guest_mode",
                                         "blocking"};
    for (size_t i = 0; i < sizeof(gauges) / sizeof(gauges[0]); i++)
        if (!strcmp(name, gauges[i]))
            return true;
    return false;
}

/* Single numbers alone: a histogram's difference is of no use here. */
static void add_foreign(void *opaque, const char *group, const char *name,
                        const uint64_t *value, unsigned count) {
    json_t *all = opaque, *one = json_object_get(all, group);
    if (count != 1)
        return;
    if (!one) {
        one = json_object();
        json_object_set_new(all, group, one);
    }
    json_object_set_new(one, name, json_integer((json_int_t)*value));
}

static json_t *read_foreign(struct run *r) {
    if (!r->ops->foreign_stats)
        return NULL;
    json_t *all = json_object();
    r->ops->foreign_stats(machine_engine(r->machine), add_foreign, all);
    return all;
}

static void read_stats(struct run *r, struct pn_stats *out) {
    const struct pn_stats *s = machine_stats(r->machine, 0);
    if (s)
        *out = *s;
    else
        memset(out, 0, sizeof(*out));
}

static uint64_t read_insns(struct run *r) {
    return r->ops->insns ? r->ops->insns(machine_engine(r->machine)) : 0;
}

static void begin(struct run *r) {
    r->begun = true;
    r->ended = false;
    json_decref(r->foreign0);
    r->foreign0 = read_foreign(r);
    read_stats(r, &r->stats0);
    r->insns0 = read_insns(r);
    r->ns0 = host_ns();
}

static void subtract_foreign(json_t *after, const json_t *before) {
    const char *group, *name;
    json_t *counters, *value;
    json_object_foreach(after, group, counters)
        json_object_foreach(counters, name, value) {
        const json_t *old = json_object_get(json_object_get(before, group), name);
        if (!foreign_is_gauge(name))
            json_integer_set(value, json_integer_value(value) - json_integer_value(old));
    }
}

static void end(struct run *r) {
    struct measure_sample *s = r->sample;
    if (!r->begun || r->ended)
        return;
    s->ns = host_ns() - r->ns0;
    s->guest_insns = read_insns(r) - r->insns0;
    read_stats(r, &s->stats);
    for (unsigned i = 0; i < PN_STAT_COUNT; i++)
        if (pn_stat_kind(i) != PN_STAT_KIND_GAUGE)
            s->stats.v[i] -= r->stats0.v[i];
    for (unsigned i = 0; i < PN_WALK_HIST; i++)
        s->stats.walk_hist[i] -= r->stats0.walk_hist[i];
    json_decref(s->foreign);
    s->foreign = read_foreign(r);
    if (s->foreign)
        subtract_foreign(s->foreign, r->foreign0);
    r->ended = true;
}

static void on_mark(void *opaque, uint32_t value) {
    struct run *r = opaque;
    unsigned kind = PN_MARK_KIND(value), arg = PN_MARK_ARG(value);
    if (r->whole)
        return;
    if (kind == PN_MARK_PHASE && arg == PN_PHASE_BEGIN)
        begin(r);
    else if (kind == PN_MARK_PHASE && arg == PN_PHASE_END)
        end(r);
    else if (kind == PN_MARK_ROUND)
        r->sample->rounds++;
}

/* "workload: end name=touch ops=131072 checksum=HEX": what the guest did and found. */
static void read_line(struct run *r) {
    static const char prefix[] = WORKLOAD_PREFIX "end ";
    struct measure_sample *s = r->sample;
    if (strncmp(r->line, prefix, sizeof(prefix) - 1) != 0)
        return;
    const char *ops = strstr(r->line, " ops="), *sum = strstr(r->line, " checksum=");
    if (ops)
        s->ops = strtoull(ops + 5, NULL, 10);
    if (sum)
        snprintf(s->checksum, sizeof(s->checksum), "%.16s", sum + 10);
}

static void serial_out(void *opaque, const uint8_t *buf, size_t size) {
    struct run *r = opaque;
    if (r->whole)
        XXH3_64bits_update(r->written, buf, size);
    for (size_t i = 0; i < size; i++) {
        if (buf[i] == '\n' || buf[i] == '\r') {
            if (!r->line_ended)
                read_line(r);
            r->line_ended = true;
            continue;
        }
        if (r->line_ended)
            r->line_size = 0;
        r->line_ended = false;
        if (r->line_size < LINE_BYTES - 1)
            r->line[r->line_size++] = (char)buf[i];
        r->line[r->line_size] = 0;
    }
}

/* A whole run did one thing; what it wrote stands for what it computed. */
static void end_whole(struct run *r) {
    end(r);
    r->sample->ops = 1;
    snprintf(r->sample->checksum, sizeof(r->sample->checksum), "%016" PRIx64,
             XXH3_64bits_digest(r->written));
}

/* What the end of the run means for the sample. */
static int judge(const struct run *r, const struct measure_config *cfg,
                 const struct machine_result *res, struct err *e) {
    switch (res->end) {
    case END_TIMEOUT:
        return err_set(e, -ETIME, "not finished after %.0f s",
                       (double)res->host_ns / 1e9);
    case END_POWEROFF:
        break;
    case END_DEBUG_EXIT:
        if (res->code == 1)
            break;
        return err_set(e, -EPROTO, "the guest failed with %u: %s", res->code, r->line);
    default:
        return err_set(e, -EPROTO, "the guest crashed; it last wrote: %s", r->line);
    }
    if (!r->ended && cfg->devices)
        return err_set(e, -EPROTO, "its program did not end well; it last wrote: %s",
                       r->line);
    if (!r->ended && cfg->kernel)
        return err_set(e, -EPROTO,
                       "no pn-linux ran in it: its initrd must have that helper, as "
                       "'penumbra-guest --workloads' makes one; it last wrote: %s",
                       r->line);
    if (!r->ended)
        return err_set(e, -EPROTO,
                       "the guest marked no measured phase; it last wrote: %s", r->line);
    return 0;
}

/* Those between the rounds: the one before the first has all that came before. */
static void add_harvests(struct run *r) {
    unsigned count;
    const struct machine_harvest *h = machine_harvests(r->machine, &count);
    for (unsigned i = 0; i < count; i++) {
        if (!h[i].round)
            continue;
        r->sample->harvests++;
        r->sample->dirty_pages += h[i].pages;
        r->sample->harvest_ns += h[i].host_ns;
    }
}

static int boot_and_run(struct run *r, const struct measure_config *cfg, char *text,
                        size_t size) {
    struct err e = {text, size};
    struct machine_result res;
    r->ops->describe(machine_engine(r->machine), r->sample->detail,
                     sizeof(r->sample->detail));
    if (r->whole)
        begin(r);
    int rc = machine_run(r->machine, &res, text, size);
    if (r->whole && !rc)
        end_whole(r);
    add_harvests(r);
    if (cfg->digest && !rc)
        r->sample->ram_digest = machine_ram_digest(r->machine);
    if (rc)
        return *text ? rc : err_sys(&e, rc, "the run failed");
    return judge(r, cfg, &res, &e);
}

/* The first in the list that the engine has. */
static enum pn_dirty_tracker choose_tracker(const struct pn_engine_ops *ops) {
    unsigned t = PN_TRACKER_OFF + 1;
    while (t < PN_TRACKERS && !ops->has_tracker(t))
        t++;
    return t < PN_TRACKERS ? t : PN_TRACKER_OFF;
}

static void fill_config(struct machine_config *m, const struct measure_config *cfg,
                        struct run *r) {
    *m = (struct machine_config){
        .engine = cfg->engine,
        .ram = cfg->ram,
        .cpus = 1,
        .cpu_model = cfg->cpu_model,
        .append = cfg->append,
        .kernel = cfg->kernel,
        .initrd = cfg->initrd,
        .devices = cfg->devices,
        .numa = cfg->numa,
        .mmu = *cfg->mmu,
        .tlb = cfg->tlb,
        .seed = 1,
        .timeout_ns = cfg->timeout_ns,
        .serial_out = serial_out,
        .on_mark = on_mark,
        .opaque = r,
    };
    if (!cfg->kernel) {
        m->pv = PN_PV_SCHED_YIELD; /* any: hypercalls are taken, as KVM always does */
        m->kernel_blob = pn_guest_elf;
        m->kernel_blob_size = (size_t)(pn_guest_elf_end - pn_guest_elf);
        m->window = true;
    }
    if (cfg->log_dirty || cfg->tracker) {
        m->dirty = cfg->tracker ? cfg->tracker : choose_tracker(cfg->engine);
        r->sample->tracker = m->dirty;
    }
}

int measure_run(const struct measure_config *cfg, struct measure_sample *out, char *err,
                size_t err_size) {
    struct err e = {err, err_size};
    struct machine_config m;
    struct run r = {.ops = cfg->engine, .sample = out, .whole = cfg->whole};
    memset(out, 0, sizeof(*out));
    err[0] = 0;
    if (cfg->whole) {
        r.written = XXH3_createState();
        if (!r.written)
            return err_set(&e, -ENOMEM, "out of memory");
        XXH3_64bits_reset(r.written);
    }
    fill_config(&m, cfg, &r);
    int rc = machine_create(&m, &r.machine, err, err_size);
    if (rc && !*err)
        err_sys(&e, rc, "the machine cannot be made");
    if (cfg->tracker && (rc == -ENOSYS || rc == -EPERM))
        rc = -ENOTSUP; /* the tracker is none of this host's */
    if (!rc) {
        const char *doubt = machine_doubt(r.machine);
        rc = doubt ? err_set(&e, -ENOTSUP, "Linux does not boot here: %s", doubt)
                   : boot_and_run(&r, cfg, err, err_size);
        machine_destroy(r.machine);
    }
    json_decref(r.foreign0);
    XXH3_freeState(r.written);
    if (rc) {
        json_decref(out->foreign);
        out->foreign = NULL;
    }
    return rc;
}
