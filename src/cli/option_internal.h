/* SPDX-License-Identifier: MIT */
/* Options of a command while they are read: the command line (option.c) and files of --config
 * (option_config.c). */
#pragma once

#include "cli/option.h"

struct option_parse {
    const struct option_command *c;
    void *options;
    bool given[OPTION_ROWS_MAX];
    bool done;
};

/* Take one option, named in error lines as `name`. Return: CLI_OK, or CLI_USAGE after a line. */
int option_apply(struct option_parse *p, const struct option_row *r, const char *name,
                 const char *arg);
/* By its whole name. Return: NULL: there is none. */
const struct option_row *option_exact(const struct option_command *c, const char *name);
/* What else may have been meant, as the end of a line, into buf. Return: buf. */
const char *option_meant(const struct option_command *c, const char *name, size_t length,
                         char *buf, size_t size);

/* Take all options of a file. Return: CLI_OK; CLI_USAGE or CLI_HOST after a line. */
int option_config(struct option_parse *p, const char *path);
/* An option that has been taken: --dump-config tells of it. */
void option_say(const struct option_row *r, const char *arg);
