/* SPDX-License-Identifier: MIT */
/* The guest's side: cases in the software CPU. */
#pragma once

#include "cpu/model.h"
#include "diff.h"
#include "tests/cpu/fixture_guest.h"

struct diff_guest {
    struct guest g;
    uint8_t *data; /* the data area in guest memory */
    uint32_t code_at, code_len;
    const struct diff_shared *sh;
    const char *name;
    bool steps; /* with TF, as the host does; else the block runs on */
};

/* How a guest runs the cases. */
struct diff_guest_kind {
    const char *name;
    enum pn_mmu_kind mmu;
    uint32_t max_block; /* 0: unlimited */
    bool steps;
};

/* model: as for --cpu. sh: before[] and gdt[] are filled in. Aborts when the host refuses. */
void diff_guest_create(struct diff_guest *d, const struct diff_guest_kind *kind,
                       const char *model, const struct diff_shared *sh);
void diff_guest_destroy(struct diff_guest *d);
/* Run c. after: NULL, or DIFF_DATA_SIZE bytes for the data area as c left it. */
void diff_guest_run(struct diff_guest *d, const struct diff_case *c,
                    struct diff_outcome *o, uint8_t *after);
