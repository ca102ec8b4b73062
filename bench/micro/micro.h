/* SPDX-License-Identifier: MIT */
/* A stage of the MMU or the translator, done many times, and how many that were. */
#pragma once

#include "bench/micro/rig.h"

#define STAGE_OPTIONS 4u

struct stage {
    const char *name, *what;
    unsigned kinds;                     /* KIND_ of both: under which MMUs */
    const char *options[STAGE_OPTIONS]; /* of the MMU, up to NULL */
    double goal_ns;                     /* 0: none */
    double published;   /* cycles of KVM's shadow paging or EPT; 0: none */
    const char *source; /* of it */
    bool cpu;           /* the rig has one */
    /* Bring about what the next `run` is to meet; not timed. Either may be NULL. */
    void (*prepare)(struct rig *r);
    /* Return: operations done; 0: they were not what they should be. */
    unsigned (*run)(struct rig *r);
    /* The same without the operation, whose time is taken off; NULL: nothing is. */
    void (*prepare_beside)(struct rig *r);
    unsigned (*beside)(struct rig *r);
};
#define KIND_SHADOW (1u << PN_MMU_SHADOW)
#define KIND_TDP    (1u << PN_MMU_TDP)
#define KIND_BOTH   (KIND_SHADOW | KIND_TDP)

extern const struct stage stages[];
extern const unsigned stage_count;

/* blocks.c: of the stage of blocks. */
void blocks_prepare(struct rig *r);
unsigned blocks_run(struct rig *r);
void blocks_prepare_again(struct rig *r);
unsigned blocks_again(struct rig *r);

/* Of the stage in which the cache is dropped that has code of so many pages. */
#define FLUSH_PAGES 8192u
void flush_prepare(struct rig *r);
unsigned flush_run(struct rig *r);
unsigned flush_not(struct rig *r);
