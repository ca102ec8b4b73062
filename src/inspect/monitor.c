/* SPDX-License-Identifier: MIT */
/* Lines of the monitor: taken apart, found in the list, answered (monitor.h). */
#include "inspect/monitor_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "machine/migrate.h"

static const struct command {
    const char *name, *args, *doc;
    unsigned least, most;
    monitor_fn run;
} commands[] = {
#define MONITOR(function, name, args, least, most, doc)                                  \
    {name, args, doc, least, most, monitor_##function},
#include "inspect/monitor.inc"
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct {
    const char *typed, *means;
} aliases[] = {{"c", "cont"}, {"q", "quit"}, {"?", "help"}, {"s", "stop"}};

const char *monitor_name(unsigned i, const char **args, const char **doc) {
    if (i >= COMMANDS)
        return NULL;
    if (args)
        *args = commands[i].args;
    if (doc)
        *doc = commands[i].doc;
    return commands[i].name;
}

/* ---- Life ---- */

struct monitor *monitor_create(const struct monitor_config *cfg) {
    struct monitor *mon = calloc(1, sizeof(*mon));
    if (mon) {
        mon->cfg = *cfg;
        mon->machine = cfg->machine;
    }
    return mon;
}

void monitor_destroy(struct monitor *mon) {
    if (!mon)
        return;
    monitor_linux_free(mon->linux_guest);
    free(mon);
}

void monitor_stop_guest(struct monitor *mon) {
    mon->stopped = true;
}

bool monitor_stopped(const struct monitor *mon) {
    return mon->stopped;
}

bool monitor_quits(const struct monitor *mon) {
    return mon->quits;
}

/* ---- A line ---- */

#define WORDS_MOST (MONITOR_ARGS_MAX + 3)

/* Return: how many words; more than WORDS_MOST are one too many. */
static unsigned split(char *line, char *word[WORDS_MOST]) {
    unsigned n = 0;
    char *save = NULL;
    for (char *w = strtok_r(line, " \t", &save); w; w = strtok_r(NULL, " \t", &save)) {
        if (n == WORDS_MOST)
            return n + 1;
        word[n++] = w;
    }
    return n;
}

/* Does the command's name stand at the beginning? Return: how many words it is. */
static unsigned matches(const char *name, char *const *word, unsigned words) {
    const char *space = strchr(name, ' ');
    size_t first = space ? (size_t)(space - name) : strlen(name);
    if (!words || strlen(word[0]) != first || memcmp(word[0], name, first) != 0)
        return 0;
    if (!space)
        return 1;
    return words > 1 && !strcmp(word[1], space + 1) ? 2 : 0;
}

static const struct command *find(char **word, unsigned words, unsigned *taken) {
    for (unsigned i = 0; i < sizeof(aliases) / sizeof(aliases[0]) && words; i++)
        if (!strcmp(word[0], aliases[i].typed))
            word[0] = (char *)(uintptr_t)aliases[i].means;
    for (unsigned i = 0; i < COMMANDS; i++) {
        *taken = matches(commands[i].name, word, words);
        if (*taken)
            return &commands[i];
    }
    return NULL;
}

static int call(struct request *r, char *line) {
    char *word[WORDS_MOST];
    unsigned taken;
    char *slash = strchr(line, '/');
    /* "x/4xg" and "x /4xg" */
    if (slash && slash > line && slash[-1] != ' ' && line[0] == 'x') {
        snprintf(r->format, sizeof(r->format), "%.*s", (int)strcspn(slash + 1, " \t"),
                 slash + 1);
        memset(slash, ' ', strcspn(slash, " \t"));
    }
    unsigned words = split(line, word);
    const struct command *c = find(word, words, &taken);
    if (!c)
        return err_set(&r->err, -ENOENT, "no command is called '%s': try help",
                       words ? word[0] : "");
    for (unsigned i = taken; i < words && i < WORDS_MOST; i++) {
        bool format = *word[i] == '/' && word[0][0] == 'x' && !r->args && !*r->format;
        if (format)
            snprintf(r->format, sizeof(r->format), "%s", word[i] + 1);
        else if (r->args < MONITOR_ARGS_MAX)
            r->arg[r->args++] = word[i];
    }
    if (words > WORDS_MOST || r->args < c->least || r->args > c->most)
        return err_set(&r->err, -EINVAL, "usage: %s%s%s", c->name, *c->args ? " " : "",
                       c->args);
    int rc = view_open(&r->view, r->mon->machine, r->client->cpu, &r->err);
    if (rc)
        return rc;
    rc = c->run(r);
    view_close(&r->view);
    return rc;
}

/* ---- Answers ---- */

static json_t *lines_json(const char *text, size_t size) {
    json_t *list = json_array();
    for (const char *end; size; size -= (size_t)(end - text), text = end) {
        const char *nl = memchr(text, '\n', size);
        size_t n = nl ? (size_t)(nl - text) : size;
        json_t *s = json_stringn(text, n);
        json_array_append_new(list, s ? s : json_string("?"));
        end = text + n + (nl != NULL);
    }
    return list;
}

/* Bytes of a client that are no UTF-8 are no JSON either. */
static json_t *command_json(const char *line) {
    json_t *s = json_string(line);
    return s ? s : json_null();
}

static void answer_json(const struct request *r, const char *line, int rc,
                        const char *text, size_t size, FILE *out) {
    json_t *j =
        rc ? json_pack("{s:o, s:b, s:s}", "command", command_json(line), "ok", 0, "error",
                       r->err.text)
           : json_pack("{s:o, s:b, s:o}", "command", command_json(line), "ok", 1,
                       "result", r->json ? json_incref(r->json) : lines_json(text, size));
    char *s = j ? json_dumps(j, JSON_COMPACT) : NULL;
    fprintf(out, "%s\n", s ? s : "{\"ok\":false,\"error\":\"out of memory\"}");
    free(s);
    json_decref(j);
}

/* ---- The past ---- */

/* Commands that are about the monitor, its client or the run, and not about the guest. */
static const monitor_fn of_the_run[] = {monitor_help,  monitor_cpu,  monitor_stop,
                                        monitor_cont,  monitor_quit, monitor_json,
                                        monitor_events};

struct question {
    char what; /* MONITOR_QUESTION */
    struct monitor_client client;
    char line[MONITOR_LINE_MAX];
};

/* Return: whether the line is about the guest, and the past has answered. */
static bool asked_past(struct monitor *mon, const struct monitor_client *client,
                       const char *line, FILE *out) {
    struct question q = {.what = MONITOR_QUESTION, .client = *client};
    char copy[MONITOR_LINE_MAX], *word[WORDS_MOST], *answer;
    unsigned taken;
    size_t size;
    if (!machine_in_past(mon->machine))
        return false;
    snprintf(copy, sizeof(copy), "%s", line);
    snprintf(q.line, sizeof(q.line), "%s", line);
    copy[strcspn(copy, "/")] = 0; /* x/4xg */
    const struct command *c = find(word, split(copy, word), &taken);
    for (size_t i = 0; c && i < sizeof(of_the_run) / sizeof(of_the_run[0]); i++)
        if (c->run == of_the_run[i])
            return false;
    if (!c || machine_past_ask(mon->machine, &q, sizeof(q), &answer, &size))
        return false;
    fwrite(answer, 1, size, out);
    free(answer);
    return true;
}

void monitor_answer(struct monitor *mon, const void *question, size_t size, FILE *out) {
    struct question q;
    memset(&q, 0, sizeof(q));
    memcpy(&q, question, size < sizeof(q) - 1 ? size : sizeof(q) - 1);
    monitor_command(mon, &q.client, q.line, out);
}

void monitor_command(struct monitor *mon, struct monitor_client *client, const char *line,
                     FILE *out) {
    char copy[MONITOR_LINE_MAX], error[256] = "";
    char *text = NULL;
    size_t size = 0;
    line += strspn(line, " \t");
    if (!*line || asked_past(mon, client, line, out))
        return;
    struct request r = {.mon = mon,
                        .client = client,
                        .wants_json = client->json,
                        .err = {error, sizeof(error)}};
    r.out = open_memstream(&text, &size);
    int rc = r.out ? 0 : err_set(&r.err, -ENOMEM, "out of memory");
    if (!rc && snprintf(copy, sizeof(copy), "%s", line) >= (int)sizeof(copy))
        rc =
            err_set(&r.err, -E2BIG, "a line of more than %u bytes", MONITOR_LINE_MAX - 1);
    if (!rc)
        rc = call(&r, copy);
    if (r.out)
        fclose(r.out);
    if (rc && !*error)
        err_sys(&r.err, rc, "it failed");
    size_t used = strlen(error);
    if (rc == -EACCES && mon->cfg.denied)
        snprintf(error + used, sizeof(error) - used, "; %s", mon->cfg.denied);
    if (r.wants_json || client->json)
        answer_json(&r, line, rc, text, size, out);
    else if (rc)
        fprintf(out, "Error: %s\n", error);
    else
        fwrite(text, 1, size, out);
    json_decref(r.json);
    free(text);
}

/* ---- Commands about the monitor itself ---- */

int monitor_help(struct request *r) {
    const char *args, *doc, *name;
    char asked[64] = "";
    bool any = false;
    for (unsigned i = 0; i < r->args; i++)
        snprintf(asked + strlen(asked), sizeof(asked) - strlen(asked), "%s%s",
                 i ? " " : "", r->arg[i]);
    for (unsigned i = 0; (name = monitor_name(i, &args, &doc)); i++) {
        size_t n = strlen(asked);
        if (strncmp(name, asked, n) != 0 || (n && name[n] && name[n] != ' '))
            continue;
        any = true;
        fprintf(r->out, "%s%s%s -- %s\n", name, *args ? " " : "", args, doc);
    }
    return any ? 0 : err_set(&r->err, -ENOENT, "no command is called '%s'", asked);
}

static int on_or_off(struct request *r, bool *on) {
    *on = !strcmp(r->arg[0], "on");
    return *on || !strcmp(r->arg[0], "off")
               ? 0
               : err_set(&r->err, -EINVAL, "'%s' is neither on nor off", r->arg[0]);
}

int monitor_json(struct request *r) {
    bool on;
    int rc = on_or_off(r, &on);
    if (!rc)
        r->client->json = on;
    return rc;
}

int monitor_events(struct request *r) {
    bool on;
    int rc = on_or_off(r, &on);
    if (!rc && !r->mon->cfg.rings)
        return err_set(&r->err, -ENOENT, "no events are recorded (run --trace)");
    for (unsigned i = 0; !rc && i < machine_cpus(r->mon->machine); i++)
        r->mon->cfg.rings[i].mask = on ? r->mon->cfg.events : 0;
    return rc;
}

int monitor_info_trace(struct request *r) {
    struct trace_so_far now;
    char path[PATH_MAX];
    if (!r->mon->cfg.trace)
        return err_set(&r->err, -ENOENT, "no events are recorded (run --trace)");
    const struct pn_engine_ops *ops = r->view.ops;
    if (ops->trace_hold)
        ops->trace_hold(r->view.engine, true);
    int rc = trace_flush(r->mon->cfg.trace, &now);
    if (ops->trace_hold)
        ops->trace_hold(r->view.engine, false);
    if (rc == -ENOTSUP)
        return err_set(&r->err, rc, "the trace is in no regular file");
    if (rc)
        return err_sys(&r->err, rc, "the trace cannot be written");
    if (!realpath(now.path, path))
        return err_sys(&r->err, -errno, "%s", now.path);
    fprintf(r->out, "%s: %" PRIu64 " events, %" PRIu64 " lost\n", path, now.records,
            now.lost);
    if (r->wants_json)
        r->json = json_pack("{s:s, s:I, s:I}", "file", path, "records",
                            (json_int_t)now.records, "lost", (json_int_t)now.lost);
    return 0;
}

int monitor_stop(struct request *r) {
    r->mon->stopped = true;
    return 0;
}

int monitor_cont(struct request *r) {
    r->mon->stopped = false;
    return 0;
}

int monitor_may_change(struct request *r) {
    if (machine_migrate_holds(r->mon->machine))
        return err_set(&r->err, -EBUSY, "the guest is on its way to another process");
    bool past = machine_history_replays(r->mon->machine);
    return past ? err_set(&r->err, -EROFS, "the past cannot be changed") : 0;
}

int monitor_system_powerdown(struct request *r) {
    int rc = monitor_may_change(r);
    if (rc == 0)
        machine_press_power(r->mon->machine);
    return rc;
}

int monitor_quit(struct request *r) {
    r->mon->quits = true;
    machine_quit(r->mon->machine);
    return 0;
}

int monitor_cpu(struct request *r) {
    uint64_t n;
    int rc = monitor_address(r, r->arg[0], &n);
    if (!rc && n >= machine_cpus(r->mon->machine))
        return err_set(&r->err, -EINVAL, "there is no vCPU %s", r->arg[0]);
    if (!rc)
        r->client->cpu = (unsigned)n;
    return rc;
}

int monitor_info_status(struct request *r) {
    const struct monitor_config *cfg = &r->mon->cfg;
    bool debugged = cfg->debugged && cfg->debugged(cfg->opaque);
    bool stands = r->mon->stopped || debugged;
    fprintf(r->out, "VM status: %s%s\n", stands ? "paused" : "running",
            debugged ? " (debug)" : "");
    if (r->wants_json)
        r->json = json_pack("{s:b, s:s}", "running", !stands, "status",
                            debugged ? "debug"
                            : stands ? "paused"
                                     : "running");
    return 0;
}
