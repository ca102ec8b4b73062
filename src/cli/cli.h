/* SPDX-License-Identifier: MIT */
/* What the subcommands share. The only room that prints to the user and exits. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "bench/harness/profile.h"
#include "penumbra/engine.h"

enum cli_exit {
#define EXIT(name, code, when) CLI_##name = (code),
#include "cli/exit_codes.inc"
};

#define COMMAND(name, run, doc) int run(int argc, char **argv);
#include "cli/commands.inc"
int cmd_measure(int argc, char **argv);

/* One line to stderr, "penumbra: ...". Return: CLI_HOST, for `return cli_error(...)`. */
int cli_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The result file path got no further: rc is -errno. Silent where the reader of standard
 * output has had enough, as `| head`. Return: CLI_HOST, or then CLI_OK. */
int cli_cannot_write(const char *path, int rc);

/* The exit code for a snapshot that was not taken, by -errno. */
int cli_snapshot_code(int rc);
/* monitor_cmd.c: send one line to the monitor at that socket and print its answer, or after
 * "penumbra: " its error. Return: CLI_OK or CLI_HOST. */
int cli_monitor_ask(const char *socket, const char *line);

/* "penumbra", then argv: what was typed, for a result. */
json_t *cli_command(int argc, char **argv);
/* "penumbra 0.1.0 (9748f63)" to stdout. */
void cli_version(void);

/* Every counter of a result: its name, its kind and what one more means. */
void cli_counters(FILE *out);

/* What was printed is written now. main does it at the end of every command: others need it
 * where something has to come after. Return: code, or CLI_HOST after a line, said once. */
int cli_flush(int code);

/* The candidate nearest to a mistyped word (nearest.c): set word and length, try each. */
struct nearest {
    const char *word;
    size_t length;
    const char *best; /* NULL: none is near */
    unsigned distance;
};
void nearest_try(struct nearest *n, const char *candidate);

/* ---- What a command line names ---- */

/* Name i in the list of engines; NULL beyond the last. */
const char *cli_engine_name(unsigned i);
/* The engine of that name. Return: 0, or -EINVAL and in e which there are. */
int cli_engine(const char *name, size_t length, const struct pn_engine_ops **ops,
               struct err *e);

/* --tlb and --cost. */
struct cli_model {
    bool on;
    struct pn_tlb_model tlb;
    struct pn_cost_profile cost;
};
/* Read what they name; NULL: not given. A model is on unless tlb is NULL or "off".
 * Return: 0; -EINVAL: not as it should be, or no such name; -errno: a file
 * cannot be read; with a line in e. */
int cli_model(const char *tlb, const char *cost, struct cli_model *model, struct err *e);

/* 1234567 as "1,234,567". Return: buf. */
const char *cli_grouped(uint64_t v, char buf[32]);
/* A member of a JSON object: its text, or NULL; its integer, or 0. */
const char *cli_text(const json_t *object, const char *key);
long long cli_number(const json_t *object, const char *key);

/* ---- The host's description (host.c), as in every result file ---- */
json_t *host_json(void);
/* The first line of a small file without its newline; "" when unreadable. */
void host_read_line(const char *path, char *buf, size_t size);
