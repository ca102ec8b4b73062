/* SPDX-License-Identifier: MIT */
/*
 * Snapshots: a machine that stands, in a folder, and a new machine that goes on from there,
 * under the same MMU or another one. README.md, "Snapshots", has the files.
 *
 * A folder is as hostile as a guest: any bytes are safe, and what is damaged is refused by
 * the name of the section.
 */
#pragma once

#include <jansson.h>

#include "machine/control.h"

struct snapshot; /* an open one: everything but its pages has been read and checked */

/* What is to be saved where. */
struct snapshot_request {
    const char *dir;
    const char *parent; /* write what was written since that snapshot alone; NULL: all */
    bool raw;           /* memory as it is, to be mapped; no parent goes with it */
    bool
        disks; /* a copy of each disk that the guest writes to goes into the folder, too */
    bool force;    /* replace a snapshot that is there; nothing else is ever replaced */
    json_t *about; /* an object of the caller's for the manifest, or NULL */
    /* The guest runs on while its pages are written, by a copy of this process. leave: ends that
     * one, at once and without handlers: _exit. */
    bool live;
    void (*leave)(void);
};

/* Write the machine, which stands (control.h), into a new folder; it appears whole or not at
 * all. The machine goes on as it would have. The parent is one that this machine has saved
 * or begun from, with a dirty log since; it stays one, and a save that fails takes nothing
 * from the next.
 * Return: 0, or -errno with a line in e: -EEXIST; -EINVAL: no such parent; -EBUSY: a live
 * save is on its way; -ENOTSUP: a guest with all of KVM's paravirtual interface, or (live) whose
 * memory is shared. live: 0 says that it is on its way (machine_saving). */
int machine_snapshot_save(struct machine *m, const struct snapshot_request *r,
                          struct err *e);

/* What became of the last live save: the caller asks, or (wait) waits for its end. out may be
 * NULL. */
enum machine_saving_state { SAVING_NONE, SAVING_GOES_ON, SAVING_DONE, SAVING_FAILED };
struct machine_saving_report {
    const char *dir; /* valid until the next save */
    int rc;          /* FAILED: -errno; error: its line */
    const char *error;
    uint64_t host_ns; /* since it began, or until it ended */
};
enum machine_saving_state machine_saving(struct machine *m, bool wait,
                                         struct machine_saving_report *out);

/* With all that it stands on. Return: 0; -EINVAL: no snapshot, or another version; -EBADMSG: it
 * is damaged, or its parent is not what it was; other -errno: it cannot be read; with a line
 * in e. */
int snapshot_open(const char *dir, struct snapshot **out, struct err *e);
/* The same for a restore that maps memory: nothing is read of it, and none of its digests. -EINVAL,
 * too: it is not raw. */
int snapshot_open_to_map(const char *dir, struct snapshot **out, struct err *e);
void snapshot_close(struct snapshot *s); /* NULL: nothing */

/* Take what the guest's machine is made of into cfg: memory, vCPUs, CPU model, devices. Its
 * texts are the snapshot's. cfg->restore is set: machine_create then goes on from it. Return: 0, or
 * -EINVAL with a line in e. */
int snapshot_config(const struct snapshot *s, struct machine_config *cfg, struct err *e);

/* How many snapshots it is made of: 1: it stands alone. */
unsigned snapshot_depth(const struct snapshot *s);
/* The same guest in a new folder that stands alone, raw or compressed. Memory: what the guest's takes. Return: 0,
 * or -errno with a line in e. */
int snapshot_merge(const struct snapshot *s, const char *dir, bool raw, bool force,
                   struct err *e);
/* manifest.json, as it was read. */
const json_t *snapshot_manifest(const struct snapshot *s);
/* Read every page, too. A line to out for each damaged part. Return: how many. */
unsigned snapshot_verify(const struct snapshot *s, FILE *out);
/* One line for each difference: machine, fields of vCPUs, devices, pages. Of pages the
 * digests are compared. Return: how many lines, or -ENOMEM. */
int snapshot_diff(const struct snapshot *a, const struct snapshot *b, FILE *out);

/* Pages of one of several snapshots. pages = zeros + alone + within + between. */
struct snapshot_same {
    uint64_t pages, zeros;
    uint64_t contents; /* different ones, zeros aside */
    uint64_t alone;    /* no other page holds what this one does */
    uint64_t within;  /* another one of the same snapshot does, and none of the others' */
    uint64_t between; /* a page of another snapshot does */
    uint64_t in_place; /* the same page of the first snapshot does, zeros included */
};
/* out: one for each; *contents: different ones in all of them, zeros aside. Return: 0 or -ENOMEM. */
int snapshot_same(const struct snapshot *const *s, unsigned count,
                  struct snapshot_same *out, uint64_t *contents);
