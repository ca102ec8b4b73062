/* SPDX-License-Identifier: MIT */
/*
 * The options of a subcommand as a table: parsing, range checks, error lines and --help
 * come from its rows. A new option is one row and the field that it sets; an option of
 * both `run` and `bench` is a row of option_common.inc.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "penumbra/mmu.h"

/* What the argument is, and the type of the field that it goes into. */
enum option_kind {
    OPTION_HEADING,      /* no option: doc stands over those that follow */
    OPTION_FLAG,         /* bool: no argument */
    OPTION_TEXT,         /* const char *: at least min bytes */
    OPTION_NUMBER,       /* any integer: decimal or 0x, from min to max */
    OPTION_PERCENT,      /* double: from 0 to max */
    OPTION_SIZE,         /* uint64_t: bytes, K, M, G or T may follow; from min to max */
    OPTION_SECONDS,      /* uint64_t: nanoseconds of "2" or "0.5" seconds, above 0 */
    OPTION_MILLISECONDS, /* the same of milliseconds */
    OPTION_WORD,         /* unsigned or enum: which of the words it is */
    OPTION_CONFIG,       /* a file with more options */
    OPTION_CALL          /* what set() does with it */
};

struct option_row {
    const char *name; /* without dashes */
    char letter;      /* 'm' for -m; 0: none */
    const char *arg;  /* its argument in the help: "FILE" */
    const char *doc;  /* words, the default and "'help' lists them" are added to it */
    enum option_kind kind;
    size_t offset, size; /* of the field in the command's options */
    uint64_t min, max;   /* max 0: no limit */
    const char *words;   /* "auto|elf|flat"; or word(i), NULL beyond the last */
    const char *(*word)(unsigned i);
    /* Return: 0, or -errno with what is wrong in e ("not I/N"): the line begins with
     * option and argument. */
    int (*set)(void *options, const char *arg, struct err *e);
    void (*list)(FILE *out); /* with the argument "help"; NULL: that is no help */
    const char *needs; /* one of these options, "trace|event-digest", must be given too */
    const char *without; /* none of these may be given too; a command may lack them */
    char file;           /* OPTION_TEXT: a file that is 'r'ead or 'w'ritten; 0: neither */
    bool unsaid;         /* no part of what option_dump prints */
};

/* A flag of another program, with one dash or two, that is understood or answered. */
struct option_alias {
    const char *flag;  /* "enable-kvm" */
    const char *value; /* NULL: it takes none; "*": it takes any; else of that value */
    const char *ours;  /* the option that it stands for; NULL: what is done anyway */
    const char *as;    /* its value then; NULL: the same */
    const char *line;  /* not NULL: refused with this line */
};

/* offset and size of a row's field. */
#define OPTION_FIELD(type, field) offsetof(type, field), sizeof(((type *)0)->field)

#define OPTION_ROWS_MAX 128

struct option_command {
    const char *name; /* "penumbra run" */
    const char *args; /* "A.json B.json"; NULL: none */
    const char *doc,
        *more; /* above the options in the help, and below; more may be NULL */
    const struct option_row *rows;
    size_t count;         /* at most OPTION_ROWS_MAX */
    const void *defaults; /* options before the command line; NULL: nothing is set */
    /* One argument that is no option, as row.set; its line names it. NULL: none. */
    int (*arg)(void *options, const char *arg, struct err *e);
    const char
        *meant; /* without arg: the option whose value a bare word may be; or NULL */
    const struct option_alias *aliases; /* up to one without a flag; NULL: none */
};

/*
 * Set options from the command line; they hold their defaults.
 * Return: CLI_OK; CLI_USAGE after one line on stderr. *done: it only asked for help or a
 * list, which is on stdout.
 */
int option_parse(const struct option_command *c, int argc, char **argv, void *options,
                 bool *done);
/* What was given so far, as a file of an OPTION_CONFIG. */
void option_dump(FILE *out);
/* Every file that options name in rows of OPTION_TEXT, with row.file. */
void option_files(const struct option_command *c, const void *options,
                  void (*each)(void *opaque, char file, const char *name), void *opaque);
/* For calls of rows. The only argument of its kind goes to *to; NAME=VALUE into an MMU's
 * options. Return: 0, or -errno with a line in e. */
int option_only(const char **to, const char *arg, struct err *e);
int option_of_mmu(struct pn_mmu_options *to, const char *arg, struct err *e);
/* One line on stderr about a command line that does not do. Return: CLI_USAGE. */
int option_error(const struct option_command *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* --help (option_help.c); every command has its row. */
extern const struct option_row option_help_row;
void option_help(const struct option_command *c);
/* What a row does, with its words and its default. Return: buf. */
const char *option_doc(const struct option_row *r, const void *defaults, char *buf,
                       size_t size);
/* The command as "man", "md", "bash" or "zsh" has it (option_doc.c). Return: whether there is
 * such a form. */
bool option_document(const struct option_command *c, const char *as);
/* The head of a manual page, and a section (NULL: the one before goes on) of text. */
void man_begin(const char *name, const char *does);
void man_text(const char *section, const char *text);
/* The same for a page of Markdown; a table of two columns under a heading, and its rows
 * (reference.c). */
void md_begin(const char *title, const char *what);
void md_text(const char *text);
void md_heading(const char *section, const char *first, const char *second);
void md_row(const char *name, const char *doc);
/* Whole pages of the reference. */
void md_counters(void);
void md_events(void);
void md_choices(void);

/* Word i of a row, and its length. Return: NULL beyond the last. */
const char *option_word(const struct option_row *r, unsigned i, size_t *length);
/* "shadow, tdp, kvm" into buf. */
void option_words(const struct option_row *r, char *buf, size_t size);
/* An unsigned field of up to 8 bytes. */
uint64_t option_value(const struct option_row *r, const void *options);

/* "2" or "0.5" of a unit that has `unit` nanoseconds, or "2ms" of a unit that it names. Return: 0, -EINVAL or -ERANGE. */
int parse_time(const char *text, double unit, uint64_t *ns);
