/* SPDX-License-Identifier: MIT */
/* `penumbra bench`, `compare` and `merge`: what their files share. */
#pragma once

#include <limits.h>

#include "base/outfile.h"
#include "bench/harness/lineup.h"
#include "bench/harness/plan.h"
#include "bench/harness/result.h"
#include "cli/cli.h"

/* A disk of Debian's with programs, and what is beside it. */
struct bench_disk {
    char disk[PATH_MAX], kernel[PATH_MAX], initrd[PATH_MAX];
    char devices[PATH_MAX + 64]; /* as a machine has them: its writes are lost */
};

struct bench_options {
    struct plan plan;
    struct lineup lineup;
    bool mmus_named; /* by --mmu, and so that all of them must do */
    unsigned repeat, warmup;
    bool quick, quiet;
    const char *json, *html;
    const char *kernel, *initrd;          /* for Linux workloads */
    const char *disk;                     /* for Debian's; NULL: the one that is made */
    struct bench_disk debian;             /* of it, where it is needed */
    const char *workload[PLAN_UNITS_MAX]; /* as named */
    unsigned workloads;
    bool list;
    unsigned shard, shards; /* shard 1..shards; shards 0: all */
    int cpu;                /* to pin to; -1: choose one; -2: none */
    const char *numa;       /* policy of guest memory; NULL: the host's */
    char near[32];          /* the policy that stands for the CPU's node */
    uint64_t ram, timeout_ns;
    uint64_t budget_ns; /* of one point under one MMU; 0: none */
    uint64_t total_ns;  /* of all; 0: none */
    const char *tlb_name, *cost_name;
    struct cli_model model; /* on: a modelled run of each point beside the others */
};

/* Fill *o from the command line (bench_options.c). Return: CLI_OK, CLI_USAGE or CLI_HOST
 * after one line on stderr; *done: it only asked for help or a list. */
int bench_options_parse(struct bench_options *o, int argc, char **argv, bool *done);

/* The workloads and their parameters, of those named or all, to stdout. */
void bench_list(const struct bench_options *o);

/* Find the disk that is named, or the one that scripts/bench_image.sh makes (bench_disk.c). Return:
 * 0; -ENOENT, with a line that says how to make it. */
int bench_find_disk(const char *named, struct bench_disk *out, struct err *e);
/* { bytes, xxh3 of what a guest reads from it }; null: it cannot be read. */
json_t *bench_disk_json(const struct bench_disk *d);

/* Pin this thread, and those it starts, to the CPU asked for; choose memory beside it
 * (bench_host.c). Return: CLI_OK, or CLI_USAGE after a line: there is no such CPU. */
int bench_place(struct bench_options *o);
/* The host as it matters for a measurement. */
json_t *bench_host_json(const struct bench_options *o);

/* The result as a table (bench_table.c); legend: with what its columns mean. */
void bench_table_print(const json_t *doc, bool legend, FILE *out);
/* 1234567890 ns as "1.23 s", 1234 as "1.23 us". Return: buf. */
const char *bench_time(double ns, char buf[16]);

/* Read a result file (bench_out.c). Return: CLI_OK; CLI_USAGE (it is none) or CLI_HOST
 * (unreadable), after a line. */
int bench_load(const char *path, json_t **doc);

/* A result file to be written (bench_out.c): opened before the work, written after it. */
struct bench_out {
    struct outfile file;
    const char *path; /* NULL: not asked for */
};
/* Return: CLI_OK, or CLI_HOST after a line. */
int bench_out_open(struct bench_out *out, const char *path);
/* Nothing where it was not asked for. */
int bench_out_with(struct bench_out *out, const json_t *doc,
                   int (*write_doc)(const json_t *doc, int fd));
int bench_out_json(struct bench_out *out, const json_t *doc);
int bench_out_page(struct bench_out *out, const json_t *doc);
