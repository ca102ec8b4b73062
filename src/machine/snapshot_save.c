/* SPDX-License-Identifier: MIT */
/*
 * Saving: the sections are written while the machine stands, the pages too, or (live) by a copy
 * of this process while the guest runs on (snapshot_live.c).
 *
 * Invariants
 * 1. What a child has is what the dirty log has of its parent at the moment of the save; a save
 *    that fails commits nothing.
 * 2. Sections and pages are of one moment.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "machine/snapshot_internal.h"
#include "machine/work.h"
#include "penumbra/pv.h"

/* What the new one stands on. */
struct stand {
    json_t *parent;            /* for the manifest; NULL: on nothing */
    struct machine_base *base; /* what was written since; NULL: it stands on nothing */
    bool window;               /* the parent has it, too */
    struct snapshot
        *clone; /* raw: the parent, whose file the new one begins as; or NULL */
};

struct saver {
    const struct snapshot_request *r;
    struct machine
        *m; /* whose states are saved: the machine, or one that stands for it */
    struct stand stand;
    struct snap_writer w;
    unsigned regions;
    struct snap_region region[SNAP_REGIONS_MAX];
    unsigned kept; /* CPUs of the host that a guest that runs on keeps */
};

/* memory NULL: it is elsewhere. */
static json_t *manifest(struct machine *m, json_t *memory, json_t *about) {
    char when[32];
    time_t t = time(NULL);
    struct tm tm;
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
    json_t *j = json_pack(
        "{s:s, s:s, s:s, s:s, s:I, s:I, s:o, s:O*}", "schema", SNAPSHOT_SCHEMA, "time",
        when, "mmu", m->ops->name, "cpuid_of", m->cpuid_of_host ? "host" : "model",
        "guest_ns", (json_int_t)m->now_max, "guest_insns", (json_int_t)machine_insns(m),
        "machine", snap_config_json(&m->cfg), "memory", memory);
    if (j && about)
        json_object_set(j, "about", about);
    return j;
}

/* A raw one has all of memory: it may begin as its parent's file, and names no parent. */
static int find_clone(const struct snapshot_request *r, uint64_t digest, struct stand *s,
                      struct err *e) {
    uint64_t is;
    int rc = snap_open_one(r->parent, true, &s->clone, e);
    if (rc)
        return rc;
    if (!snap_hex(s->clone->manifest, "xxh3", &is) || is != digest)
        return err_set(e, -EBUSY, "%s: somebody writes it", r->parent);
    if (!s->clone->memory.raw)
        return err_set(
            e, -EINVAL,
            "%s is not raw, and a raw snapshot has no parent but for its file: "
            "'snapshot merge --raw' makes one of several",
            r->parent);
    return 0;
}

static int find_stand(struct machine *m, const struct snapshot_request *r,
                      struct stand *s, struct err *e) {
    json_t *j;
    uint64_t digest = 0;
    *s = (struct stand){0};
    if (!r->parent)
        return 0;
    if (!m->dirty)
        return err_set(e, -EINVAL,
                       "--parent: this run has no dirty log: begin it with --dirty-log");
    int rc = snap_read_manifest(r->parent, &j, e);
    if (rc)
        return rc;
    if (snap_hex(j, "xxh3", &digest))
        s->base = machine_base_find(m, digest);
    s->window =
        json_array_size(json_object_get(json_object_get(j, "memory"), "regions")) > 1;
    if (!s->base)
        rc = err_set(e, -EINVAL,
                     "%s: not one of the last 64 snapshots that this run has saved, used "
                     "as a parent or begun from",
                     r->parent);
    else if (r->raw)
        rc = find_clone(r, digest, s, e);
    else if (!(s->parent = snap_parent_json(r->dir, r->parent, j, e)))
        rc = -EINVAL;
    json_decref(j);
    return rc;
}

/* The pages, and then all is there. */
static int save_memory(void *opaque, uint64_t *digest, struct err *e) {
    struct saver *v = opaque;
    const struct snap_memory *clone = v->stand.clone ? &v->stand.clone->memory : NULL;
    if (clone && snap_memory_clone(v->w.memory_fd, clone)) {
        clone = NULL; /* this file system has it not: all of memory is written */
        for (unsigned i = 0; i < v->regions; i++)
            v->region[i].changed = NULL;
    }
    json_t *memory = snap_memory_write(v->w.memory_fd, v->region, v->regions, v->r->raw,
                                       clone, snap_threads(v->kept), e);
    if (!memory)
        return -EIO;
    json_t *j = manifest(v->m, memory, v->r->about);
    if (j && v->stand.parent)
        json_object_set(j, "parent", v->stand.parent);
    int rc = j ? snap_config_whole(json_object_get(j, "machine"), e)
               : err_set(e, -ENOMEM, "out of memory");
    if (rc == 0)
        rc = snap_writer_commit(&v->w, j, e);
    if (rc == 0)
        snap_hex(j, "xxh3", digest);
    json_decref(memory);
    json_decref(j);
    return rc;
}

/* What is of this moment: the sections, and which pages are to be written. */
static int save_moment(struct saver *v, struct err *e) {
    const uint64_t *ram, *window;
    int rc = snap_save_sections(v->m, &v->w, e);
    if (rc == 0 && v->r->disks)
        rc = snap_disks_copy(v->m, &v->w, e);
    v->regions = snap_regions(v->m, v->region);
    if (rc || !v->stand.base)
        return rc;
    rc = machine_base_changed(v->stand.base, &ram, &window);
    if (rc)
        return err_sys(e, rc, "the dirty log");
    v->region[0].changed = ram;
    v->region[1].changed = v->stand.window ? window : NULL;
    return 0;
}

/* base: kept or dropped here, or (live) when the copy has ended. */
static int save(struct machine *m, struct saver *v, struct machine_base *base,
                struct err *e) {
    struct snap_still *still = NULL;
    uint64_t digest = 0;
    int rc = m->ops->threaded ? snap_still_of(m, &still, e) : 0;
    v->kept = !v->r->live ? 0 : machine_has_threads(m) ? m->cfg.cpus : 1;
    v->m = still ? snap_still_machine(still) : m;
    if (rc == 0)
        rc = save_moment(v, e);
    if (rc == 0 && v->r->live)
        rc = snap_live_begin(m, &v->w, base, v->r->leave, save_memory, v, e);
    else if (rc == 0 && !(rc = save_memory(v, &digest, e)))
        machine_base_keep(m, base, digest);
    if (rc)
        machine_base_drop(base);
    snap_still_free(still);
    return rc;
}

json_t *snap_save_state(struct machine *m, struct snap_writer *w, struct err *e) {
    json_t *j = snap_save_sections(m, w, e) ? NULL : manifest(m, NULL, NULL);
    if (j && snap_config_whole(json_object_get(j, "machine"), e)) {
        json_decref(j);
        return NULL;
    }
    if (j)
        json_object_set(j, "sections", w->sections);
    return j;
}

json_t *snap_config(const struct machine *m, struct err *e) {
    json_t *j = snap_config_json(&m->cfg);
    if (!j || !snap_config_whole(j, e))
        return j;
    json_decref(j);
    return NULL;
}

int snap_can_be_saved(struct machine *m, struct err *e) {
    if (m->ops->threaded && m->cfg.pv == PN_PV_DEFAULT)
        return err_set(
            e, -ENOTSUP,
            "the guest has seen all of KVM's paravirtual interface, which no "
            "snapshot has: begin the run with --pv (none, or what it may use)");
    if (m->ops->threaded && m->cfg.devices)
        return err_set(e, -ENOTSUP,
                       "--mmu %s saves no guest with devices on PCI: hand it over to "
                       "shadow or tdp first",
                       m->ops->name);
    work_drain(m);
    clock_run(&m->clock);
    work_drain(m); /* what waited for room may have been given away again */
    if (!m->ops->threaded)
        m->ops->skip(m->engine, clock_now(&m->clock));
    if (machine_is_over(m))
        return err_set(e, -EINVAL, "the guest has ended");
    if (m->sleep != AWAKE)
        return err_set(e, -EINVAL, "the guest sleeps (ACPI S3): wake it first");
    return snap_disks_can_be_saved(m, e);
}

int machine_snapshot_save(struct machine *m, const struct snapshot_request *r,
                          struct err *e) {
    struct saver v = {.r = r};
    struct machine_base *base = NULL;
    int rc = snap_can_be_saved(m, e);
    if (rc == 0)
        rc = machine_memory_whole(m, e);
    if (rc == 0 && r->live)
        rc = snap_live_can_begin(m, e);
    if (rc == 0)
        rc = find_stand(m, r, &v.stand, e);
    if (rc == 0)
        rc = snap_writer_open(&v.w, r->dir, r->force, e);
    if (rc == 0) {
        v.w.clone_fd = v.stand.clone ? v.stand.clone->memory.fd : -1;
        rc = machine_base_begin(m, &base);
        rc = rc ? err_sys(e, rc, "the dirty log") : save(m, &v, base, e);
        snap_writer_abandon(&v.w);
    }
    json_decref(v.stand.parent);
    snapshot_close(v.stand.clone);
    return rc;
}
