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

/* Write the machine, which stands (control.h), into a new folder; it appears whole or not at
 * all. force: replace a snapshot that is there; nothing else is ever replaced. about: an
 * object of the caller's for the manifest, or NULL. The machine goes on as it would have.
 * Return: 0, or -errno with a line in e: -EEXIST; -ENOTSUP: an engine that keeps the
 * interrupt controllers. */
int machine_snapshot_save(struct machine *m, const char *dir, bool force, json_t *about,
                          struct err *e);

/* Return: 0; -EINVAL: no snapshot, or another version; -EBADMSG: it is damaged; other -errno:
 * it cannot be read; with a line in e. */
int snapshot_open(const char *dir, struct snapshot **out, struct err *e);
void snapshot_close(struct snapshot *s); /* NULL: nothing */

/* Take what the guest's machine is made of into cfg: memory, vCPUs, CPU model, devices. Its
 * texts are the snapshot's. cfg->restore is set: machine_create then goes on from it. Return: 0, or
 * -EINVAL with a line in e. */
int snapshot_config(const struct snapshot *s, struct machine_config *cfg, struct err *e);

/* manifest.json, as it was read. */
const json_t *snapshot_manifest(const struct snapshot *s);
/* Read every page, too. A line to out for each damaged part. Return: how many. */
unsigned snapshot_verify(const struct snapshot *s, FILE *out);
/* One line for each difference: machine, fields of vCPUs, devices, pages. Of pages the
 * digests are compared. Return: how many lines, or -ENOMEM. */
int snapshot_diff(const struct snapshot *a, const struct snapshot *b, FILE *out);
