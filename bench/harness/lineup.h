/* SPDX-License-Identifier: MIT */
/* Whom a benchmark compares: MMU configurations, each an engine with options of its MMU. */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "penumbra/engine.h"

#define LINEUP_MAX 32u

struct lineup_mmu {
    const struct pn_engine_ops *engine;
    struct pn_mmu_options opt;
    /* Of the dirty log: "log=pml". OFF: of a workload that wants one the engine's first. */
    enum pn_dirty_tracker log;
    bool no_log;      /* "log=off": none, whatever the workload wants */
    char label[96];   /* "tdp:large_pages=0+tdp_levels=5" */
    char axis[24];    /* the one option that is swept; "": none */
    unsigned options; /* named, for messages */
};

struct lineup {
    struct lineup_mmu mmu[LINEUP_MAX];
    unsigned n;
};

/*
 * Add what `text` names: "shadow,shadow:unsync=0,tdp:large_pages=0+tdp_levels=5". An
 * option with several values, "shadow:page_budget=64/128/256", is a sweep: one
 * configuration for each value. "log=wp/dbit", of any engine, is a dirty log of that tracker;
 * "log=all" one of each that the engine has; "log=off" is none.
 * Return: 0; -EINVAL no such engine, option or value, or a configuration that is there
 * already; -ENOSPC too many; with one line in e.
 */
int lineup_add(struct lineup *l, const char *text, struct err *e);
/* An engine with its default options. Return: as lineup_add. */
int lineup_add_engine(struct lineup *l, const struct pn_engine_ops *engine,
                      struct err *e);

/* The options in effect, every one by name; null: opt is NULL, for no MMU of ours runs. */
json_t *lineup_options(const struct pn_mmu_options *opt);
/* { "parameter", "value" } of the option that is swept, or null. */
json_t *lineup_sweep(const struct lineup_mmu *m);
