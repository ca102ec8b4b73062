/* SPDX-License-Identifier: MIT */
/* Command lines by table. A bad one is one line and exit code 2. */
#include "cli/option_internal.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/outfile.h"
#include "base/size.h"
#include "cli/cli.h"

/* *end: what follows the number. Return: 0 or -EINVAL. */
static int parse_real(const char *text, double *value, char **end) {
    if (!isdigit((unsigned char)text[0]) && text[0] != '.')
        return -EINVAL;
    *value = strtod(text, end);
    return *value >= 0 ? 0 : -EINVAL;
}

int parse_time(const char *text, double unit, uint64_t *ns) {
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}};
    double t;
    char *end;
    if (parse_real(text, &t, &end))
        return -EINVAL;
    if (*end) {
        unsigned i = 0;
        while (i < 4 && strcmp(units[i].name, end) != 0)
            i++;
        if (i == 4)
            return -EINVAL;
        unit = units[i].ns;
    }
    t *= unit;
    if (t < 1 || t > 1e18)
        return -ERANGE;
    *ns = (uint64_t)t;
    return 0;
}

int option_error(const struct option_command *c, const char *fmt, ...) {
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    for (char *p = line; *p; p++) /* it names what was given, which may be anything */
        if (iscntrl((unsigned char)*p))
            *p = '?';
    cli_error("%s (see %s --help)", line, c->name);
    return CLI_USAGE;
}

/* ---- Values ---- */

const char *option_word(const struct option_row *r, unsigned i, size_t *length) {
    const char *word = r->word ? r->word(i) : r->words;
    for (; word && !r->word && i; i--) {
        word = strchr(word, '|');
        word = word ? word + 1 : NULL;
    }
    *length = word ? strcspn(word, "|") : 0;
    return word;
}

void option_words(const struct option_row *r, char *buf, size_t size) {
    const char *word;
    size_t length, used = 0;
    buf[0] = 0;
    for (unsigned i = 0; (word = option_word(r, i, &length)) && used < size; i++)
        used += (size_t)snprintf(buf + used, size - used, "%s%.*s", i ? ", " : "",
                                 (int)length, word);
}

uint64_t option_value(const struct option_row *r, const void *options) {
    uint64_t value = 0;
    if (r->size <= sizeof(value))
        memcpy(&value, (const char *)options + r->offset, r->size);
    return value;
}

static void store(const struct option_row *r, void *options, const void *value) {
    memcpy((char *)options + r->offset, value, r->size);
}

/* What a row takes, as the end of "not ...". */
static void allowed(const struct option_row *r, char *buf, size_t size) {
    char words[256], low[SIZE_TEXT_MAX], high[SIZE_TEXT_MAX];
    switch (r->kind) {
    case OPTION_NUMBER:
        if (r->max)
            snprintf(buf, size, "a number from %" PRIu64 " to %" PRIu64, r->min, r->max);
        else if (r->min)
            snprintf(buf, size, "a number of at least %" PRIu64, r->min);
        else
            snprintf(buf, size, "a number of up to 64 bits");
        break;
    case OPTION_PERCENT:
        snprintf(buf, size, "a percentage from 0 to %" PRIu64, r->max);
        break;
    case OPTION_SIZE:
        size_text(r->min, low);
        if (r->max)
            snprintf(buf, size,
                     "a size from %s to %s in bytes, or whole pages in K, M, G or T "
                     "(also KiB ...), powers of 1024",
                     low, size_text(r->max, high));
        else
            snprintf(buf, size, "a size of at least %s, such as 512M", low);
        break;
    case OPTION_SECONDS:
        snprintf(buf, size, "seconds above 0 and up to 1000000000; 1ms, 1us are less");
        break;
    case OPTION_MILLISECONDS:
        snprintf(buf, size, "milliseconds above 0; 1s, 1us are other units");
        break;
    case OPTION_WORD:
        option_words(r, words, sizeof(words));
        snprintf(buf, size, "one of %s", words);
        break;
    default:
        snprintf(buf, size, "a name: it is empty");
    }
}

/* Return: 0, or below 0: it is not what allowed() says. */
static int convert(const struct option_row *r, const char *arg, void *options) {
    uint64_t max = r->max ? r->max : UINT64_MAX, n = 0;
    double real = 0;
    const char *word;
    char *end;
    size_t length;
    int rc = 0;
    switch (r->kind) {
    case OPTION_TEXT:
        if (strlen(arg) < r->min)
            return -ERANGE;
        store(r, options, &arg);
        return 0;
    case OPTION_PERCENT:
        if (parse_real(arg, &real, &end) || *end || real > (double)r->max)
            return -ERANGE;
        store(r, options, &real);
        return 0;
    case OPTION_NUMBER:
        rc = number_parse(arg, r->min, max, &n);
        break;
    case OPTION_SIZE:
        rc = size_parse(arg, &n);
        rc = !rc && (n < r->min || n > max) ? -ERANGE : rc;
        break;
    case OPTION_SECONDS:
        rc = parse_time(arg, 1e9, &n);
        break;
    case OPTION_MILLISECONDS:
        rc = parse_time(arg, 1e6, &n);
        break;
    default:
        while ((word = option_word(r, (unsigned)n, &length)) &&
               (strlen(arg) != length || memcmp(arg, word, length) != 0))
            n++;
        rc = word ? 0 : -EINVAL;
    }
    if (rc == 0)
        store(r, options, &n);
    return rc;
}

/* ---- The command line ---- */

const struct option_row option_help_row = {
    .name = "help", .letter = 'h', .doc = "Show this help", .kind = OPTION_FLAG};

/* The size that "512" or "512MB" is likely to be, into buf. Return: whether there is one.
 */
static bool size_meant(const char *arg, char *buf, size_t size) {
    size_t n = strspn(arg, "0123456789.");
    bool bare = n && !arg[n], decimal = n && !strcasecmp(arg + n + (arg[n] != 0), "b");
    snprintf(buf, size, "%.*s%s", (int)(bare ? n : n + 1), arg, bare ? "M" : "");
    return bare || decimal;
}

int option_apply(struct option_parse *p, const struct option_row *r, const char *name,
                 const char *arg) {
    char text[320], likely[64];
    struct err e = {text, sizeof(text)};
    const bool yes = true;
    if (r == &option_help_row) {
        option_help(p->c);
        p->done = true;
        return CLI_OK;
    }
    p->given[r - p->c->rows] = true;
    if (r->list && !strcmp(arg, "help")) {
        r->list(stdout);
        p->done = true;
        return CLI_OK;
    } else if (r->kind == OPTION_CONFIG) {
        return option_config(p, arg);
    } else if (r->kind == OPTION_FLAG) {
        store(r, p->options, &yes);
    } else if (r->kind == OPTION_CALL) {
        if (r->set(p->options, arg, &e))
            return option_error(p->c, "%s %s: %s", name, arg, text);
    } else if (convert(r, arg, p->options)) {
        allowed(r, text, sizeof(text));
        if (r->kind == OPTION_SIZE && size_meant(arg, likely, sizeof(likely)))
            return option_error(p->c, "%s %s: not %s: is %s meant?", name, arg, text,
                                likely);
        return option_error(p->c, "%s %s: not %s%s", name, *arg ? arg : "''", text,
                            r->list ? "; 'help' lists them" : "");
    }
    option_say(r, arg);
    return CLI_OK;
}

/* By its name, or by a beginning that no other has. Return: NULL: none, or several. */
static const struct option_row *find_name(const struct option_command *c,
                                          const char *name, size_t length) {
    const struct option_row *found = NULL;
    unsigned n = 0;
    for (size_t i = 0; i <= c->count; i++) {
        const struct option_row *r = i < c->count ? &c->rows[i] : &option_help_row;
        if (!r->name || strncmp(r->name, name, length) != 0)
            continue;
        if (!r->name[length])
            return r;
        found = r;
        n++;
    }
    return n == 1 ? found : NULL;
}

const struct option_row *option_exact(const struct option_command *c, const char *name) {
    for (size_t i = 0; i < c->count; i++)
        if (c->rows[i].name && !strcmp(c->rows[i].name, name))
            return &c->rows[i];
    return NULL;
}

/* Return: NULL: there is none. */
static const struct option_row *find_letter(const struct option_command *c, char letter) {
    for (size_t i = 0; letter && i < c->count; i++)
        if (c->rows[i].letter == letter)
            return &c->rows[i];
    return letter == option_help_row.letter ? &option_help_row : NULL;
}

const char *option_meant(const struct option_command *c, const char *name, size_t length,
                         char *buf, size_t size) {
    struct nearest near = {.word = name, .length = length};
    size_t used = 0;
    buf[0] = 0;
    for (size_t i = 0; i <= c->count; i++) {
        const struct option_row *r = i < c->count ? &c->rows[i] : &option_help_row;
        if (!r->name)
            continue;
        nearest_try(&near, r->name);
        if (length && !strncmp(r->name, name, length) && used < size)
            used += (size_t)snprintf(buf + used, size - used, "%s--%s",
                                     used ? ", " : ": it may be ", r->name);
    }
    if (!used && near.best)
        snprintf(buf, size, ": did you mean --%s?", near.best);
    return buf;
}

static int unknown(const struct option_command *c, const char *dashes, const char *name,
                   size_t length) {
    char hint[256];
    return option_error(c, "unknown option '%s%.*s'%s", dashes, (int)length, name,
                        option_meant(c, name, length, hint, sizeof(hint)));
}

/* A flag of another program. Return: whether argv[*i] is one; it is taken then, and *code
 * says how. */
static bool alias(struct option_parse *p, char **argv, int argc, int *i, int *code) {
    const char *shown = argv[*i], *flag = shown + 1 + (shown[1] == '-'), *value = NULL;
    const struct option_alias *a = p->c->aliases;
    while (a && a->flag && strcmp(a->flag, flag) != 0)
        a++;
    if (!a || !a->flag)
        return false;
    if (a->value && !a->line) {
        if (*i + 1 == argc) {
            *code = option_error(p->c, "%s needs a value", shown);
            return true;
        }
        value = argv[++*i];
        while (strcmp(a->value, "*") != 0 && strcmp(a->value, value) != 0)
            a++; /* the last one of a flag takes any */
    }
    if (a->line)
        *code = option_error(p->c, "%s%s%s: %s", shown, value ? " " : "",
                             value ? value : "", a->line);
    else if (a->ours)
        *code = option_apply(p, find_name(p->c, a->ours, strlen(a->ours)), shown,
                             a->as   ? a->as
                             : value ? value
                                     : "");
    return true;
}

/* "--name", "--name=value" or "--name value". */
static int long_option(struct option_parse *p, char **argv, int argc, int *i) {
    const char *name = argv[*i] + 2, *arg = strchr(name, '=');
    size_t length = arg ? (size_t)(arg - name) : strlen(name);
    const struct option_row *r = find_name(p->c, name, length);
    char shown[64];
    int code = CLI_OK;
    if (r == &option_help_row && arg && option_document(p->c, arg + 1)) {
        p->done = true;
        return CLI_OK;
    }
    if (!r && length > 1 && alias(p, argv, argc, i, &code)) /* --s is no -s */
        return code;
    if (!r)
        return unknown(p->c, "--", name, length);
    snprintf(shown, sizeof(shown), "--%s", r->name);
    if (r->kind == OPTION_FLAG)
        return arg ? option_error(p->c, "%s takes no value", shown)
                   : option_apply(p, r, shown, "");
    if (!arg && *i + 1 == argc)
        return option_error(p->c, "%s needs a value: %s", shown, r->arg);
    return option_apply(p, r, shown, arg ? arg + 1 : argv[++*i]);
}

/* "-m512M" or "-m 512M"; flags may stand together. A word of letters is one flag: its
 * first letter may be one of ours by chance. */
static int short_options(struct option_parse *p, char **argv, int argc, int *i) {
    const char *text = argv[*i] + 1, *at = text;
    const struct option_row *r = find_letter(p->c, *text);
    char shown[3] = {'-', *text, 0};
    int code = CLI_OK;
    if (r && r->kind != OPTION_FLAG && !isalpha((unsigned char)text[1])) {
        if (!text[1] && *i + 1 == argc)
            return option_error(p->c, "-%s needs a value: %s", text, r->arg);
        return option_apply(p, r, shown, text[1] ? text + 1 : argv[++*i]);
    }
    if (alias(p, argv, argc, i, &code))
        return code;
    while (r && r->kind == OPTION_FLAG)
        r = find_letter(p->c, *++at);
    if (*at) {
        r = find_name(p->c, text, strlen(text));
        return r ? option_error(p->c, "-%s: options have two dashes: --%s", text, r->name)
                 : unknown(p->c, "-", text, strlen(text));
    }
    for (at = text; *at && !code; at++) {
        shown[1] = *at;
        code = option_apply(p, find_letter(p->c, *at), shown, "");
    }
    return code;
}

/* Is one of the options "a|b" given, or set by default? Return: its name, or NULL. */
static const char *has_one(const struct option_command *c, const void *options,
                           const char *names) {
    for (size_t n; *names; names += n + (names[n] != 0)) {
        n = strcspn(names, "|");
        const struct option_row *r = find_name(c, names, n);
        if (r && option_value(r, options))
            return r->name;
    }
    return NULL;
}

static int check_needs(const struct option_parse *p) {
    for (size_t i = 0; i < p->c->count; i++) {
        const struct option_row *r = &p->c->rows[i];
        const char *with =
            r->without && p->given[i] ? has_one(p->c, p->options, r->without) : NULL;
        if (with)
            return option_error(p->c, "--%s does not go with --%s", r->name, with);
        if (!r->needs || !p->given[i] || has_one(p->c, p->options, r->needs))
            continue;
        const char *other = strchr(r->needs, '|');
        return option_error(p->c, "--%s needs --%.*s%s%s", r->name,
                            (int)strcspn(r->needs, "|"), r->needs, other ? " or --" : "",
                            other ? other + 1 : "");
    }
    return CLI_OK;
}

/* The name of the file of a row; NULL: it has none, or it is not given. */
static const char *file_of(const struct option_command *c, const void *options,
                           size_t i) {
    const char *name = NULL;
    if (c->rows[i].file)
        memcpy(&name, (const char *)options + c->rows[i].offset, sizeof(name));
    return name;
}

void option_files(const struct option_command *c, const void *options,
                  void (*each)(void *opaque, char file, const char *name), void *opaque) {
    for (size_t i = 0; i < c->count; i++)
        if (file_of(c, options, i))
            each(opaque, c->rows[i].file, file_of(c, options, i));
}

/* No file is written twice, or read and written. */
static int check_files(const struct option_parse *p) {
    const struct option_row *rows = p->c->rows;
    for (size_t i = 0; i < p->c->count; i++)
        for (size_t j = 0; j < p->c->count; j++) {
            const char *out = file_of(p->c, p->options, i),
                       *other = file_of(p->c, p->options, j);
            bool twice = rows[j].file == 'w';
            if (i == j || rows[i].file != 'w' || (twice && j < i) || !out || !other ||
                !outfile_same(out, other))
                continue;
            if (!twice)
                return option_error(p->c, "--%s %s would replace what --%s reads",
                                    rows[i].name, out, rows[j].name);
            return option_error(p->c, "--%s and --%s are one file: %s", rows[i].name,
                                rows[j].name, out);
        }
    return CLI_OK;
}

static int argument(struct option_parse *p, const char *arg) {
    char text[320];
    struct err e = {text, sizeof(text)};
    if (!p->c->arg)
        return p->c->meant
                   ? option_error(p->c, "unexpected argument '%s': is --%s %s meant?",
                                  arg, p->c->meant, arg)
                   : option_error(p->c, "unexpected argument '%s'", arg);
    return p->c->arg(p->options, arg, &e) ? option_error(p->c, "%s", text) : CLI_OK;
}

int option_only(const char **to, const char *arg, struct err *e) {
    if (*to)
        return err_set(e, -EINVAL, "unexpected argument '%s'", arg);
    *to = arg;
    return 0;
}

int option_of_mmu(struct pn_mmu_options *to, const char *arg, struct err *e) {
    char allowed[64];
    int rc = pn_mmu_option_set(to, arg);
    if (rc == -ENOENT)
        return err_set(e, rc, "no such option; 'help' lists them");
    if (rc && !strchr(arg, '='))
        return err_set(e, rc, "not NAME=VALUE");
    if (rc)
        return err_set(e, rc, "the value is not %s",
                       pn_mmu_option_allowed(arg, allowed, sizeof(allowed)));
    return 0;
}

int option_parse(const struct option_command *c, int argc, char **argv, void *options,
                 bool *done) {
    struct option_parse p = {.c = c, .options = options};
    bool only_arguments = false;
    int code = CLI_OK;
    for (int i = 1; i < argc && !code && !p.done; i++) {
        const char *a = argv[i];
        if (only_arguments || a[0] != '-' || !a[1])
            code = argument(&p, a);
        else if (!strcmp(a, "--version") || !strcmp(a, "-version")) {
            cli_version();
            p.done = true;
        } else if (!strcmp(a, "--"))
            only_arguments = true;
        else if (a[1] == '-')
            code = long_option(&p, argv, argc, &i);
        else
            code = short_options(&p, argv, argc, &i);
    }
    *done = p.done;
    if (!code && !p.done)
        code = check_needs(&p);
    return code || p.done ? code : check_files(&p);
}
