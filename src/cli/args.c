/* SPDX-License-Identifier: MIT */
/* Numbers, sizes and argp with one-line errors. No state but what argp carries. */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

void cli_error(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fputs("penumbra: ", stderr);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *value) {
    if (!isdigit((unsigned char)text[0])) /* no sign, no blanks */
        return -EINVAL;
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    char *end;
    errno = 0;
    *value = strtoull(text, &end, hex ? 16 : 10);
    if (errno)
        return -ERANGE;
    if (*end)
        return -EINVAL;
    return *value < min || *value > max ? -ERANGE : 0;
}

int parse_seconds(const char *text, uint64_t *ns) {
    if (!isdigit((unsigned char)text[0]) && text[0] != '.')
        return -EINVAL;
    char *end;
    double s = strtod(text, &end);
    if (*end || !(s >= 0))
        return -EINVAL;
    if (s == 0 || s > 1e9)
        return -ERANGE;
    *ns = (uint64_t)(s * 1e9);
    return 0;
}

/* What a parse needs beside the caller's input; argp's input points at it. */
struct parse {
    const struct argp *argp;
    const char *name;
    void *input;
    bool told, done;
};

error_t cli_bad_arg(struct argp_state *state, const char *fmt, ...) {
    struct parse *p = state->hook;
    va_list ap;
    if (p->done) /* only help was wanted */
        return 0;
    if (!p->told) {
        va_start(ap, fmt);
        fputs("penumbra: ", stderr);
        vfprintf(stderr, fmt, ap);
        fprintf(stderr, " (see %s --help)\n", p->name);
        va_end(ap);
    }
    p->told = true;
    return EINVAL;
}

error_t cli_default_key(int key, char *arg, struct argp_state *state) {
    struct parse *p = state->hook;
    switch (key) {
    case 'h':
        setenv("ARGP_HELP_FMT", "no-dup-args-note", 0);
        argp_help(p->argp, stdout, ARGP_HELP_STD_HELP & ~ARGP_HELP_EXIT_OK,
                  (char *)p->name);
        p->done = true;
        state->next = state->argc; /* the rest does not matter */
        return 0;
    case ARGP_KEY_ARG:
        return cli_bad_arg(state, "unexpected argument '%s'", arg);
    case ARGP_KEY_ERROR:
        if (p->told || state->next < 1)
            return 0;
        cli_bad_arg(state, "unknown option, or its value is missing: '%s'",
                    state->argv[state->next - 1]);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* The first key of every parse: hand the caller's input on, keep ours in the hook. */
static error_t outer(int key, char *arg, struct argp_state *state) {
    struct parse *p = state->input;
    if (key == ARGP_KEY_INIT) {
        state->hook = p;
        return 0;
    }
    struct argp_state inner = *state;
    inner.input = p->input;
    inner.hook = p;
    error_t rc = p->argp->parser(key, arg, &inner);
    if (rc == ARGP_ERR_UNKNOWN)
        rc = cli_default_key(key, arg, &inner);
    state->next = inner.next;
    return rc;
}

int cli_parse(const struct argp *argp, int argc, char **argv, const char *name,
              void *input, bool *done) {
    struct parse p = {.argp = argp, .name = name, .input = input};
    struct argp wrap = *argp;
    wrap.parser = outer;
    error_t rc = argp_parse(&wrap, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP | ARGP_NO_EXIT,
                            NULL, &p);
    *done = p.done;
    if (rc && !p.told && !p.done)
        cli_error("%s: bad command line", name);
    return rc && !p.done ? CLI_USAGE : CLI_OK;
}
