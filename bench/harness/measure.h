/* SPDX-License-Identifier: MIT */
/*
 * One run of a workload: a fresh machine, counters and time between two marks.
 *
 * Where a process has its code, its heap and its stacks decides which of them collide in the
 * processor's predictors and caches, and makes the software CPU faster or slower by a third
 * (bench/FINDINGS.md). So a run is measured in a process of its own: the place is drawn
 * anew for each sample, and samples are independent of the program that takes them.
 */
#pragma once

#include <jansson.h>
#include <signal.h>

#include "base/err.h"
#include "machine/machine.h"

struct measure_config {
    const struct pn_engine_ops *engine;
    const struct pn_mmu_options *mmu;
    const char *append;          /* the workload and its parameters */
    const char *kernel, *initrd; /* of a Linux guest; NULL: the embedded guest */
    const char *devices;         /* as machine_config has them; may be NULL */
    const char *cpu_model;       /* as for --cpu; NULL: the engine's own */
    uint64_t ram;
    const char *numa; /* as machine_config has it; may be NULL */
    uint64_t timeout_ns;
    bool
        log_dirty; /* harvest a dirty log at each round's end: by `tracker`, or by the first
                       that the engine has */
    enum pn_dirty_tracker tracker; /* OFF: log_dirty says whether there is a log */
    bool whole;  /* the measured phase is the whole run, boot and all; no marks */
    bool digest; /* take ram_digest */
    const struct pn_tlb_model *tlb; /* count model_*; NULL: no model. Not under kvm */
};

struct measure_sample {
    uint64_t ns;          /* host time between PHASE 1 and PHASE 2 */
    uint64_t guest_insns; /* in between; 0: the engine does not count them */
    uint64_t rounds;
    struct pn_stats stats; /* in between; gauges: their value at PHASE 2 */
    json_t *foreign;       /* the hypervisor's, the same; NULL: it has none */
    uint64_t ops;          /* as the guest says: workloads.inc tells its unit */
    char checksum[17];     /* of what it computed; "" none. whole: of all it wrote */
    char detail[256];      /* which MMU it was */
    enum pn_dirty_tracker tracker; /* of the dirty log; PN_TRACKER_OFF: there was none */
    uint64_t harvests, dirty_pages, harvest_ns; /* at the ends of rounds, but the first */
    uint64_t ram_digest; /* of guest memory at the end; 0: not taken */
};

/* The process of a run, for a signal handler that ends it: it sets *stop, and kills pid
 * where that is above 0. */
struct measure_child {
    volatile pid_t pid;
    volatile sig_atomic_t *stop;
};

/*
 * measure_run in a process of its own, this program started anew as `penumbra
 * MEASURE_COMMAND`.
 * Return: as measure_run; -EINTR *stop was set; -ECHILD the process came to grief.
 */
int measure_apart(const struct measure_config *cfg, struct measure_child *child,
                  struct measure_sample *out, char *err, size_t err_size);
#define MEASURE_COMMAND "measure"
/* What that process does: one request from the socket fd. Return: 0 or -errno. */
int measure_serve(int fd);

/*
 * Boot, run to the end, take the difference between the marks. The sample's JSON is the
 * caller's (json_decref).
 * Return: 0; -ETIME the time-out; -EPROTO the guest failed or set no marks; -ENOTSUP the
 * engine does not boot Linux here; others host failures; with one line in err.
 */
int measure_run(const struct measure_config *cfg, struct measure_sample *out, char *err,
                size_t err_size);
