/* SPDX-License-Identifier: MIT */
/*
 * A result file: one JSON document, schema "penumbra-bench-3" (bench/FORMATS.md), made
 * while a benchmark runs, read back to compare and to merge. Tables, page and comparison
 * are printed from it, so that they cannot differ.
 */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "bench/harness/lineup.h"
#include "bench/harness/measure.h"
#include "bench/harness/plan.h"
#include "penumbra/model.h"

#define RESULT_SCHEMA "penumbra-bench-3"

/* A document without results. Takes command, host and settings over. revision: of the
 * source; "": not known. Return: NULL: no memory. */
json_t *result_new(const char *version, const char *revision, json_t *command,
                   json_t *host, json_t *settings);
/* A file that is an input: { bytes, xxh3 }; null: the path is NULL, no regular file, or
 * cannot be read. */
json_t *result_input(const char *path);
/* Both of a guest's: "kernel" and "initrd". */
json_t *result_inputs(const char *kernel, const char *initrd);

/* What one unit gave under one MMU. */
struct result_input {
    const struct plan_unit *unit;
    const struct lineup_mmu *mmu;
    const struct measure_sample *samples;
    size_t n;            /* 0: there are none, */
    const char *failure; /* and this is why */
    /* Of a run with modelled TLBs, and with what models; NULL: there was none. */
    const struct measure_sample *model;
    const struct pn_tlb_model *tlb;
    const struct pn_cost_profile *cost;
    uint64_t digest; /* of guest memory; 0: not taken */
};

/* A member of a result (result_fields.inc). */
enum result_kind {
    RESULT_TEXT,
    RESULT_TEXT_OR_NULL,
    RESULT_FLAG_OR_NULL,
    RESULT_ANY,
    RESULT_NUMBER,
    RESULT_COUNT, /* or null */
    RESULT_BYTES, /* or null */
    RESULT_SAMPLES,
    RESULT_LEVELS,
    RESULT_HISTOGRAM,
    RESULT_GROUP,
    RESULT_GROUP_OR_NULL,
    RESULT_SUM,
};
struct result_field {
    const char *path; /* "faults.taken" */
    enum result_kind kind;
    bool key;                       /* of failed ones, too */
    bool modelled;                  /* its column is */
    const char *table, *page, *doc; /* headings of its column; "": it has none */
};
extern const struct result_field result_fields[]; /* up to one without a path */
/* Return: what a result has at that path, or NULL; the same if it is a text. */
json_t *result_member(const json_t *result, const char *path);
const char *result_text(const json_t *result, const char *path);

/* Append it. Return: 0 or -ENOMEM. */
int result_add(json_t *doc, const struct result_input *in);

/* Read and check a file. Return: 0; -EINVAL it is no result of this schema, or damaged;
 * others as file_read; one line in e that names the path. */
int result_load(const char *path, json_t **doc, struct err *e);

/*
 * One document of all the shards of one plan, or of one whole result. Results stand in
 * order of the plan, and settings.shard lists the shards. Hosts that are equal but for
 * load and free memory become one. partial: shards may be missing.
 * Return: 0; -EINVAL settings differ, or the number of shards; -EEXIST two are the same
 * shard, or hold the same result; -ENODATA a shard is missing; -ENOMEM; with one line in
 * e.
 */
int result_merge(json_t *const *docs, const char *const *names, size_t n, bool partial,
                 json_t **out, struct err *e);
/*
 * Several invocations of one command as one document, the first, which is changed: a
 * sample is the median of an invocation then. What differs between invocations (the
 * host's pace, where memory lies) is a part of the spread, as runs of one do not show it.
 * Return: 0; -EINVAL they are not of one plan or its models differ; -ENOMEM; with one line
 * in e.
 */
int result_fold(json_t *const *docs, const char *const *names, size_t n, struct err *e);
/* How many shards a document has, and of how many. Return: 0: it is no shard. */
size_t result_shards(const json_t *doc, size_t *of);

/* Of modelled figures: walks by their references; cycles by what was paid for. */
json_t *result_histogram(const struct pn_stats *stats);
json_t *result_costs(const double by_cost[PN_COST_COUNT]);

/* Write the document to fd. Return: 0 or -errno. */
int result_write(const json_t *doc, int fd);
/* The self-contained HTML page. Return: 0 or -errno. */
int result_page(const json_t *doc, int fd);

/* Do two results stand for the same workload, parameters, engine and MMU options? */
bool result_same_key(const json_t *a, const json_t *b);
/* Return: the result of a document that has the key of `like`, or NULL. */
json_t *result_find(const json_t *doc, const json_t *like);
/* The time's samples as doubles. Return: how many, at most max; 0: it failed. */
size_t result_samples(const json_t *result, double *out, size_t max);
