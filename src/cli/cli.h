/* SPDX-License-Identifier: MIT */
/* What the subcommands share. The only room that prints to the user and exits. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <argp.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Exit codes; a debug-exit guest gives (value << 1) | 1 instead. */
enum cli_exit {
    CLI_OK = 0,     /* the guest powered off, or the command succeeded */
    CLI_HOST = 1,   /* a host failure */
    CLI_USAGE = 2,  /* usage, or an image that is none */
    CLI_CRASH = 3,  /* the guest crashed */
    CLI_LIMIT = 4,  /* --timeout or --max-insns */
    CLI_CROSSED = 5 /* compare --fail-above */
};

int cmd_run(int argc, char **argv);
int cmd_host(int argc, char **argv);
int cmd_trace(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_compare(int argc, char **argv);
int cmd_merge(int argc, char **argv);

/* One line to stderr, "penumbra: ..." (the console may be raw: ends in CR LF there). */
void cli_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- Arguments ---- */

/* A decimal or 0x number, within [min, max]; sizes with suffixes are base/size.h's.
 * Return: 0, -EINVAL or -ERANGE. */
int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *value);
/* Seconds, "2" or "0.5", as nanoseconds. Return: 0, -EINVAL or -ERANGE. */
int parse_seconds(const char *text, uint64_t *ns);

/* In an argp parser: one line about a bad argument. Return: EINVAL, for the parser to
 * return. */
error_t cli_bad_arg(struct argp_state *state, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* argp_parse with our manners: a bad command line is one line and exit code 2; --help
 * goes to stdout. Return: CLI_OK, or CLI_USAGE after the line; *done is set when --help
 * was all. */
int cli_parse(const struct argp *argp, int argc, char **argv, const char *name,
              void *input, bool *done);
/* Keys that every parser hands to cli_default_key. */
#define CLI_HELP_OPTION                                                                  \
    { "help", 'h', 0, 0, "Show this help", -1 }
error_t cli_default_key(int key, char *arg, struct argp_state *state);

/* ---- The host's description (host.c), as in every result file ---- */
json_t *host_json(void);

#endif
