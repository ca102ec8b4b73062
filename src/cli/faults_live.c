/* SPDX-License-Identifier: MIT */
/*
 * `penumbra faults --live`: the study of a run that goes on.
 *
 * The run writes its trace into a file as it would anyway; its monitor says which, and first puts into
 * it what is still on its way. So the study costs the run nothing between two updates, knows all that
 * one of the finished trace knows, and comes to the same figures.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/faults.h"
#include "cli/monitor.h"

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig) {
    interrupted = sig;
}

/* Return: CLI_OK; *gone: nobody is there. Else the exit code after a line. */
static int ask(const struct faults_options *o, json_t **trace, bool *gone,
               struct err *e) {
    int code = monitor_query(o->live, "info trace", trace, e);
    *gone = !code && !*trace;
    return code;
}

int faults_live_file(const struct faults_options *o, char *path, size_t size) {
    char text[320] = "";
    struct err e = {text, sizeof(text)};
    json_t *trace;
    bool gone;
    int code = ask(o, &trace, &gone, &e);
    if (code)
        return code;
    if (gone)
        return cli_error("%s", text);
    const char *file = json_string_value(json_object_get(trace, "file"));
    if (!file || snprintf(path, size, "%s", file) >= (int)size)
        code = cli_error("%s: no answer that tells a file", o->live);
    json_decref(trace);
    return code;
}

/* Let the run trace on, for a while. */
static void pause_for(uint64_t ns) {
    const struct timespec t = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    ppoll(NULL, 0, &t, NULL);
}

static int show(const struct faults_report *r, FILE *out) {
    fputs(isatty(fileno(out)) ? "\033[H\033[J" : "", out);
    if (faults_print(r, out))
        return cli_error("out of memory");
    fputc('\n', out);
    return fflush(out) ? cli_error("standard output: %s", strerror(errno)) : CLI_OK;
}

int faults_live(const struct faults_report *r, struct trace_file *f,
                struct faults *faults, FILE *out, bool *ended) {
    const struct faults_options *o = r->options;
    const struct sigaction sa = {.sa_handler = on_interrupt};
    struct err unsaid = {NULL, 0};
    bool gone = false;
    int code = CLI_OK;
    sigaction(SIGINT, &sa, NULL);
    for (unsigned n = 1; !code; n++) {
        if (faults_read(f, faults))
            return cli_error("out of memory");
        *ended = gone || trace_file_state(f) != TRACE_INCOMPLETE;
        if (*ended || n == o->updates || interrupted)
            break;
        faults_sort(faults);
        code = show(r, out);
        pause_for(interrupted ? 0 : o->every);
        json_t *trace = NULL;
        if (!code)
            code = ask(o, &trace, &gone, &unsaid);
        json_decref(trace);
        if (!code && !trace_file_more(f))
            code = cli_error("%s: it cannot be read again", o->path);
    }
    return code;
}
