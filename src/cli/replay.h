/* SPDX-License-Identifier: MIT */
/* `penumbra replay`: what its options, its work and its output share. */
#pragma once

#include "bench/harness/lineup.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "inspect/replay.h"

/* One MMU that the recording is done to. */
struct replay_one {
    char label[sizeof(((struct lineup_mmu *)0)->label)];
    struct pn_mmu_config cfg;
    const struct lineup_mmu *mmu; /* NULL: as recorded, but for --mmu-opt and --tlb */
    bool as_recorded;             /* the MMU that was recorded, in every option */
    struct replay_result result;
    int rc; /* of replay_run */
    char err[256];
    enum recording_state state;
    uint64_t ops; /* read */
    /* As recorded, of a whole recording: how many counters are not what they were, and the
     * first of them. */
    unsigned differ;
    enum pn_stat first;
    uint64_t recorded;
};

struct replay_study {
    const char *path;
    struct pn_mmu_config recorded; /* its tlb lives as long as the study */
    struct replay_one one[LINEUP_MAX];
    unsigned n;
};

/* The table (replay_out.c); counters: every counter, in place of the chosen ones. */
void replay_print(const struct replay_study *s, bool counters, FILE *out);
/* Return: the heading of the counter's column; NULL: it has none. */
const char *replay_column(enum pn_stat id);
/* The page with the document of replay_json (replay_page.c). Return: 0 or -errno. */
int replay_write_page(const json_t *doc, int fd);
json_t *replay_json(const struct replay_study *s, json_t *typed);
/* Return: 0 or -errno. */
int replay_csv(const struct replay_study *s, int fd);
