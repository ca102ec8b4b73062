/* SPDX-License-Identifier: MIT */
/*
 * `penumbra monitor SOCKET` at a terminal: lines are edited, remembered and completed by
 * libedit, and each answer comes before the next line is asked for.
 *
 * The monitor does not mark where an answer in text ends. So each line is followed by `json on`
 * and `json off`: they are answered by an object on a line each.
 */
#include <errno.h>
#include <histedit.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/monitor.h"

#define COMMANDS_MAX 64u
#define HISTORY      500
static const char mark_on[] = "json on\njson off\n";
static const char mark_first[] = "{\"command\":\"json on\"";
static const char mark_last[] = "{\"command\":\"json off\"";

struct talk {
    FILE *in;
    int fd;
    bool json;
    char *line; /* the last one that came */
    size_t room;
    char *command[COMMANDS_MAX];
    unsigned commands;
};

static bool is(const char *line, const char *mark) {
    return !strncmp(line, mark, strlen(mark));
}

/* Send a line, and take its answer. Return: false: the other side has ended. */
static bool ask(struct talk *t, const char *line, bool (*take)(struct talk *t)) {
    if (!monitor_send(t->fd, line, strlen(line)) || !monitor_send(t->fd, "\n", 1) ||
        (!t->json && !monitor_send(t->fd, mark_on, sizeof(mark_on) - 1)))
        return false;
    while (getline(&t->line, &t->room, t->in) > 0) {
        if (!t->json && is(t->line, mark_last))
            return true;
        if (!is(t->line, mark_first) && !take(t))
            return false;
        if (t->json)
            return true;
    }
    return false;
}

static bool print_line(struct talk *t) {
    return fputs(t->line, stdout) >= 0;
}

/* "info status -- does the guest run?": its words up to the arguments. */
static bool learn_command(struct talk *t) {
    char *end = strstr(t->line, " -- ");
    if (!end || t->commands == COMMANDS_MAX)
        return true;
    *end = 0;
    size_t n = 0;
    while (t->line[n] == ' ' || t->line[n] == '_' ||
           (t->line[n] >= 'a' && t->line[n] <= 'z') ||
           (t->line[n] >= '0' && t->line[n] <= '9'))
        n++;
    while (n && t->line[n - 1] == ' ')
        n--;
    t->line[n] = 0;
    t->command[t->commands] = strdup(t->line);
    t->commands += t->command[t->commands] != NULL;
    return true;
}

/* ---- At the terminal ---- */

static char *prompt(EditLine *el) {
    static char text[] = "(penumbra) ";
    return text;
}

/* What all commands that begin so have in common is typed; where that is nothing more, they
 * are listed. */
static unsigned char complete(EditLine *el, int key) {
    struct talk *t;
    const LineInfo *info = el_line(el);
    size_t n = (size_t)(info->cursor - info->buffer), common = 0;
    const char *first = NULL;
    unsigned found = 0;
    el_get(el, EL_CLIENTDATA, &t);
    for (unsigned i = 0; i < t->commands; i++) {
        const char *c = t->command[i];
        if (strncmp(c, info->buffer, n) != 0)
            continue;
        size_t same = 0;
        while (first && same < common && c[same] == first[same])
            same++;
        common = first ? same : strlen(c);
        first = first ? first : c;
        found++;
    }
    if (!found)
        return CC_ERROR;
    if (common > n || found == 1) {
        char text[96];
        snprintf(text, sizeof(text), "%.*s%s", (int)(common - n), first + n,
                 found == 1 ? " " : "");
        return el_insertstr(el, text) ? CC_ERROR : CC_REFRESH;
    }
    fputc('\n', stdout);
    for (unsigned i = 0; i < t->commands; i++)
        if (!strncmp(t->command[i], info->buffer, n))
            printf("%s\n", t->command[i]);
    return CC_REDISPLAY;
}

/* The next key. Return: 1; 0: no more, or the run has ended; -1: an error. */
static int next_key(EditLine *el, wchar_t *key) {
    struct talk *t;
    unsigned char byte;
    el_get(el, EL_CLIENTDATA, &t);
    struct pollfd p[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                         {.fd = t->fd, .events = POLLIN}};
    int n;
    do
        n = poll(p, 2, -1);
    while (n < 0 && errno == EINTR);
    if (n < 0 || p[1].revents) /* the monitor speaks when it is asked, or it has gone */
        return n < 0 ? -1 : 0;
    ssize_t got = read(STDIN_FILENO, &byte, 1);
    *key = byte;
    return (int)got;
}

static EditLine *open_editor(struct talk *t, History **past) {
    HistEvent event;
    EditLine *el = el_init("penumbra", stdin, stdout, stderr);
    *past = history_init();
    if (!el || !*past)
        return el;
    history(*past, &event, H_SETSIZE, HISTORY);
    history(*past, &event, H_SETUNIQUE, 1);
    el_set(el, EL_CLIENTDATA, t);
    el_set(el, EL_PROMPT, prompt);
    el_set(el, EL_EDITOR, "emacs");
    el_set(el, EL_SIGNAL, 1);
    el_set(el, EL_GETCFN, next_key);
    el_set(el, EL_HIST, history, *past);
    /* The narrow form copies both words, and forgets to free them. */
    el_wset(el, EL_ADDFN, L"pn-complete", L"complete a command", complete);
    el_set(el, EL_BIND, "^I", "pn-complete", NULL);
    return el;
}

static void talk(struct talk *t, EditLine *el, History *h) {
    HistEvent event;
    const char *typed;
    int n;
    char *line = NULL;
    bool goes_on = true;
    while (goes_on && (typed = el_gets(el, &n)) && n > 0) {
        line = strndup(typed, strcspn(typed, "\r\n"));
        if (!line)
            break;
        if (line[strspn(line, " \t")]) {
            history(h, &event, H_ENTER, line);
            goes_on = ask(t, line, print_line);
        }
        fflush(stdout);
        free(line);
    }
    if (goes_on)
        fputc('\n', stdout); /* Ctrl-D */
}

int monitor_edit(int fd, bool json) {
    struct talk t = {.fd = fd, .in = fdopen(fd, "r"), .json = false};
    History *h = NULL;
    if (!t.in)
        return cli_error("out of memory");
    bool there = ask(&t, "help", learn_command);
    EditLine *el = open_editor(&t, &h);
    int code = CLI_OK;
    if (!there)
        code = cli_error("the monitor has closed the connection");
    else if (!el || !h)
        code = cli_error("no line editor for this terminal");
    else if (!json ||
             (monitor_send(fd, "json on\n", 8) && getline(&t.line, &t.room, t.in) > 0)) {
        t.json = json;
        talk(&t, el, h);
    }
    if (h)
        history_end(h);
    if (el)
        el_end(el);
    while (t.commands)
        free(t.command[--t.commands]);
    free(t.line);
    fclose(t.in);
    return code;
}
