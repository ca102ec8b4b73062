/* SPDX-License-Identifier: MIT */
/* What is run: workloads, and the points of their sweeps. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define PLAN_UNITS_MAX 512u

/* One point: a workload with its parameters. */
struct plan_unit {
    unsigned index; /* in the whole plan, whatever the shard */
    const char *workload;
    char params[320];  /* every parameter, "bytes=4096 page=4K": what the guest is told */
    char label[96];    /* those that make this point: "bytes=64K page=2M"; may be "" */
    const char *axis;  /* the parameter that is swept, or NULL */
    double value;      /* of the axis */
    bool linux_guest;  /* it needs a kernel and an initramfs with pn-linux */
    bool debian_guest; /* it needs the disk of scripts/bench_image.sh */
    bool boots;        /* the whole boot is measured, instead of what a program marks */
    bool needs_svm;    /* AMD's virtualization: of the software CPU alone */
    bool logs_dirty;   /* with a dirty log, harvested at each round's end */
};

#define PLAN_APPEND_MAX 160u /* bytes */

struct plan {
    const char *append; /* more words for a Linux guest's command line, or NULL */
    struct plan_unit unit[PLAN_UNITS_MAX];
    unsigned units;
};

/*
 * Add one WORKLOAD argument: "chase" with every point of its sweep, or
 * "chase:bytes=64K,steps=1000" as one point. Return: 0; -EINVAL no such workload, a bad
 * or repeated parameter, or a point that is there already; -ENOSPC too many; with one
 * line in e.
 */
int plan_add(struct plan *p, const char *text, bool quick, struct err *e);
/* Does this argument stand for workloads of a Linux guest? plan_add_all adds none. */
bool plan_is_linux(const char *text);
/* The same of a Debian guest. */
bool plan_is_debian(const char *text);
/* Every workload of the embedded guest. Return: 0 or -errno as plan_add. */
int plan_add_all(struct plan *p, bool quick, struct err *e);
#define PLAN_SHARDS_MAX 100000u
/* Keep the units whose index is shard - 1 modulo of (1 <= shard <= of). */
void plan_shard(struct plan *p, unsigned shard, unsigned of);
/* The guest's command line for a unit. */
void plan_append(const struct plan_unit *u, char *buf, size_t size);
