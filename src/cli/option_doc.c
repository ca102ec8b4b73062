/* SPDX-License-Identifier: MIT */
/* Manual pages, reference and completions, from a command's table. The build asks for
 * them with --help=man, --help=md, --help=bash and --help=zsh. */
#include <ctype.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/option.h"

/* As roff text: no character of it is an escape or a request. */
static void roff(const char *text) {
    bool begins = true;
    for (; *text; text++) {
        if (begins && (*text == '.' || *text == '\''))
            fputs("\\&", stdout);
        if (*text == '-')
            fputs("\\-", stdout);
        else if (*text == '\\')
            fputs("\\e", stdout);
        else
            putchar(*text);
        begins = *text == '\n';
    }
}

void man_begin(const char *name, const char *does) {
    char title[64];
    size_t n = 0;
    for (; name[n] && n < sizeof(title) - 1; n++)
        title[n] = name[n] == ' ' ? '-' : (char)toupper((unsigned char)name[n]);
    title[n] = 0;
    printf(".TH %s 1 \"\" \"penumbra %s\" \"penumbra\"\n.SH NAME\n", title,
           PENUMBRA_VERSION);
    for (; *name; name++)
        putchar(*name == ' ' ? '-' : *name);
    fputs(" \\- ", stdout);
    roff(does);
}

void man_text(const char *section, const char *text) {
    if (section)
        printf("\n.SH %s\n", section);
    for (const char *end; (end = strstr(text, "\n\n")); text = end + 2) {
        char part[1024];
        snprintf(part, sizeof(part), "%.*s", (int)(end - text), text);
        roff(part);
        fputs("\n.PP\n", stdout);
    }
    roff(text);
    putchar('\n');
}

static void man_row(const struct option_row *r, const void *defaults) {
    char doc[512];
    fputs(".TP\n", stdout);
    if (r->letter)
        printf("\\fB\\-%c\\fR, ", r->letter);
    fputs("\\fB\\-\\-", stdout);
    roff(r->name);
    fputs("\\fR", stdout);
    if (r->arg) {
        fputs("=\\fI", stdout);
        roff(r->arg);
        fputs("\\fR", stdout);
    }
    putchar('\n');
    roff(option_doc(r, defaults, doc, sizeof(doc)));
    putchar('\n');
}

/* The first sentence of a command's description, as a clause. */
static const char *clause(const char *doc, char *buf, size_t size) {
    snprintf(buf, size, "%.*s", (int)strcspn(doc, "."), doc);
    buf[0] = (char)tolower((unsigned char)buf[0]);
    return buf;
}

static void man_page(const struct option_command *c) {
    char does[256];
    man_begin(c->name, clause(c->doc, does, sizeof(does)));
    printf("\n.SH SYNOPSIS\n\\fB%s\\fR [\\fIOPTION\\fR...]%s", c->name,
           c->args ? " " : "");
    man_text(NULL, c->args ? c->args : "");
    man_text("DESCRIPTION", c->doc);
    fputs(".SH OPTIONS\n", stdout);
    for (size_t i = 0; i < c->count; i++) {
        if (c->rows[i].kind != OPTION_HEADING)
            man_row(&c->rows[i], c->defaults);
        else if (printf(".SS ") > 0)
            man_text(NULL, c->rows[i].doc);
    }
    man_row(&option_help_row, NULL);
    if (c->more)
        man_text("NOTES", c->more);
    man_text("SEE ALSO", "penumbra(1)");
}

static void md_option(const struct option_row *r, const void *defaults) {
    char doc[512], name[96], letter[8] = "";
    if (r->letter)
        snprintf(letter, sizeof(letter), "-%c, ", r->letter);
    snprintf(name, sizeof(name), "%s--%s%s%s", letter, r->name, r->arg ? "=" : "",
             r->arg ? r->arg : "");
    for (char *p = name; *p; p++) /* it would divide the table's columns */
        *p = *p == '|' ? '/' : *p;
    md_row(name, option_doc(r, defaults, doc, sizeof(doc)));
}

static void md_page(const struct option_command *c) {
    printf("\n## %s\n\n`%s [OPTION...]%s%s`\n\n", c->name, c->name, c->args ? " " : "",
           c->args ? c->args : "");
    md_text(c->doc);
    puts("\n\n| option | |\n|---|---|");
    for (size_t i = 0; i < c->count; i++)
        if (c->rows[i].name)
            md_option(&c->rows[i], c->defaults);
        else
            printf("| **%s** | |\n", c->rows[i].doc);
    if (c->more) {
        putchar('\n');
        md_text(c->more);
        putchar('\n');
    }
}

/* The words that a row's value may be, with what stands between them. */
static void value_words(const struct option_row *r, const char *between) {
    const char *word;
    size_t length;
    unsigned i = 0;
    for (; (word = option_word(r, i, &length)); i++)
        printf("%s%.*s", i ? between : "", (int)length, word);
    if (r->list)
        printf("%shelp", i ? between : "");
}

/* "  run) options=...; case $option in ..." of bash's script. */
static void bash_case(const struct option_command *c) {
    const char *name = strrchr(c->name, ' ') + 1;
    printf("    %s)\n        options='--help", name);
    for (size_t i = 0; i < c->count; i++)
        if (c->rows[i].name)
            printf(" --%s%s", c->rows[i].name, c->rows[i].kind == OPTION_FLAG ? "" : "=");
    fputs("'\n        case $option in\n", stdout);
    for (size_t i = 0; i < c->count; i++) {
        const struct option_row *r = &c->rows[i];
        if (!r->name || r->kind == OPTION_FLAG)
            continue;
        printf("        --%s%s%c) ", r->name, r->letter ? "|-" : "",
               r->letter ? r->letter : ' ');
        printf("takes=%s words='", r->file ? "file" : "value");
        value_words(r, " ");
        fputs("' ;;\n", stdout);
    }
    printf("        esac\n        arguments=%s ;;\n", c->arg ? "file" : "none");
}

/* Text inside single quotes and brackets of zsh's _arguments. */
static void zsh_text(const char *text) {
    for (; *text; text++) {
        if (strchr("[]:\\", *text))
            putchar('\\');
        if (*text == '\'')
            fputs("'\\'", stdout);
        putchar(*text);
    }
}

static void zsh_case(const struct option_command *c) {
    printf("    %s) _arguments '--help[Show this help]'", strrchr(c->name, ' ') + 1);
    for (size_t i = 0; i < c->count; i++) {
        const struct option_row *r = &c->rows[i];
        if (!r->name)
            continue;
        printf(" \\\n        '*--%s%s[", r->name, r->kind == OPTION_FLAG ? "" : "=");
        zsh_text(r->doc);
        putchar(']');
        if (r->kind != OPTION_FLAG) {
            putchar(':');
            zsh_text(r->arg);
            putchar(':');
            if (r->file) {
                fputs("_files", stdout);
            } else if (r->list || option_word(r, 0, &(size_t){0})) {
                putchar('(');
                value_words(r, " ");
                putchar(')');
            }
        }
        putchar('\'');
    }
    printf("%s ;;\n", c->arg ? " \\\n        '*:argument:_files'" : "");
}

bool option_document(const struct option_command *c, const char *as) {
    if (!strcmp(as, "man"))
        man_page(c);
    else if (!strcmp(as, "md"))
        md_page(c);
    else if (!strcmp(as, "bash"))
        bash_case(c);
    else if (!strcmp(as, "zsh"))
        zsh_case(c);
    else
        return false;
    return true;
}
