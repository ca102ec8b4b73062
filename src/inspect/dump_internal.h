/* SPDX-License-Identifier: MIT */
/* What dump.c and diff.c share. */
#pragma once

#include "inspect/dump.h"

/* A section of a dump: names of members, separated by blanks. */
struct dump_section {
    const char *name;
    const char *keys;       /* what makes an object this one; NULL: it is a range */
    const char *compared;   /* what may differ of it */
    const char *attributes; /* of a range: gpa and host move along with its beginning */
    bool ranges;
};
extern const struct dump_section dump_sections[]; /* up to one without a name */

/* "0x12" of a member. Return: false: it is none. */
bool dump_number(const json_t *o, const char *name, uint64_t *v);
void dump_print_object(const char *section, const json_t *o, FILE *out);
