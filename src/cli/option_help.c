/* SPDX-License-Identifier: MIT */
/* --help, from a command's table. */
#include <inttypes.h>
#include <string.h>

#include "base/size.h"
#include "cli/option.h"

#define WIDTH  79u
#define COLUMN 29u /* where the docs begin */

/* Words up to WIDTH, from column `at` on; further lines begin at `indent`. */
static void wrap(const char *text, unsigned indent, unsigned at) {
    bool begins = true; /* a line */
    while (*text) {
        size_t n = strcspn(text, " \n");
        if (!begins && at + 1 + n > WIDTH) {
            printf("\n%*s", (int)indent, "");
            at = indent;
        } else if (!begins) {
            putchar(' ');
            at++;
        }
        printf("%.*s", (int)n, text);
        at += (unsigned)n;
        begins = text[n] == '\n';
        if (begins) {
            putchar('\n');
            at = 0;
        }
        text += n + (text[n] != 0);
    }
    putchar('\n');
}

/* The value that an option has when it is not given; "": none that can be told. */
static const char *standard(const struct option_row *r, const void *options,
                            char buf[64]) {
    uint64_t v = options ? option_value(r, options) : 0;
    size_t length;
    const char *text, *word;
    buf[0] = 0;
    switch (r->kind) {
    case OPTION_WORD:
        word = option_word(r, (unsigned)v, &length);
        if (options && word)
            snprintf(buf, 64, "%.*s", (int)length, word);
        return buf;
    case OPTION_TEXT:
        if (v) {
            memcpy(&text, (const char *)options + r->offset, sizeof(text));
            snprintf(buf, 64, "%s", text);
        }
        return buf;
    case OPTION_NUMBER:
        if (v && (!r->max || v <= r->max))
            snprintf(buf, 64, v < 65536 ? "%" PRIu64 : "0x%" PRIx64, v);
        return buf;
    case OPTION_SIZE:
        return v ? size_text(v, buf) : buf;
    case OPTION_SECONDS:
        if (v)
            snprintf(buf, 64, "%g", (double)v / 1e9);
        return buf;
    default:
        return buf;
    }
}

const char *option_doc(const struct option_row *r, const void *defaults, char *buf,
                       size_t size) {
    char words[160], value[64];
    option_words(r, words, sizeof(words));
    standard(r, defaults, value);
    snprintf(buf, size, "%s%s%s%s%s%s%s%s", r->doc, *words ? ": " : "", words,
             *value ? " (default " : "", value, *value ? ")" : "",
             r->file == 'w' ? "; -: standard output" : "",
             r->list && r->file != 'w' ? "; 'help' lists them" : "");
    return buf;
}

static void print_row(const struct option_row *r, const void *options) {
    char head[64], doc[512];
    int n = r->letter ? snprintf(head, sizeof(head), "  -%c, --%s", r->letter, r->name)
                      : snprintf(head, sizeof(head), "      --%s", r->name);
    if (r->arg)
        n += snprintf(head + n, sizeof(head) - (size_t)n, "=%s", r->arg);
    option_doc(r, options, doc, sizeof(doc));
    if ((unsigned)n + 2 > COLUMN)
        printf("%s\n%*s", head, (int)COLUMN, "");
    else
        printf("%-*s", (int)COLUMN, head);
    wrap(doc, COLUMN, COLUMN);
}

void option_help(const struct option_command *c) {
    printf("Usage: %s [OPTION...]%s%s\n", c->name, c->args ? " " : "",
           c->args ? c->args : "");
    wrap(c->doc, 0, 0);
    putchar('\n');
    for (size_t i = 0; i < c->count; i++) {
        if (c->rows[i].kind == OPTION_HEADING)
            printf("%s %s\n", i ? "\n" : "", c->rows[i].doc);
        else
            print_row(&c->rows[i], c->defaults);
    }
    putchar('\n');
    print_row(&option_help_row, NULL);
    if (c->more) {
        putchar('\n');
        wrap(c->more, 0, 0);
    }
}
