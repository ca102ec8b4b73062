/* SPDX-License-Identifier: MIT */
/*
 * A recording (inspect/recording.h) is done to another MMU, without the guest.
 *
 * Into an MMU like the recorded one it gives the same counters, all of them. Into another it
 * gives what that one would have done with what was recorded: see docs/replay.md for what
 * a recording cannot know.
 */
#pragma once

#include "base/err.h"
#include "inspect/recording.h"

struct replay_result {
    struct pn_stats total;    /* of all vCPUs */
    uint64_t accesses, hits;  /* done; of these, answered by the TLB */
    uint64_t fetches;         /* beside them, that a TLB model alone is told of */
    uint64_t host_ns, cpu_ns; /* by the clock, and of this thread */
};

/* Bytes of memslots that a recording may have. */
#define REPLAY_MEMORY_MAX ((uint64_t)1 << 40)

/*
 * Do all of r, which nobody has read yet, to an MMU made as cfg says. memory_max: bytes of
 * memslots at most; what no table stands in takes no memory.
 * Return: 0, and recording_state(r) says whether it was whole; or -errno with a line in e:
 * -EBADMSG: an operation that no run can have done; -EINVAL: there is no such MMU.
 */
int replay_run(struct recording *r, const struct pn_mmu_config *cfg, uint64_t memory_max,
               struct replay_result *out, struct err *e);
/*
 * Do the first `ops` of r (UINT64_MAX: all) up to `time` (UINT64_MAX: to its end), and show the
 * MMU as it is then; not, if r ends before. see: called with that vCPU, or with NULL: there is
 * none, or nobody has told it yet how its guest pages. Return: what it returns; or -errno with
 * a line in e, as above.
 */
struct replay_look {
    uint64_t ops, time;
    unsigned vcpu;
    int (*see)(void *opaque, struct pn_mmu_vcpu *vcpu);
    void *opaque;
};
int replay_look(struct recording *r, const struct pn_mmu_config *cfg, uint64_t memory_max,
                const struct replay_look *look, struct err *e);
/* Is it a counter that replay moves: of the MMU and its TLB model, not of the CPU? */
bool replay_counts(enum pn_stat id);
