/* SPDX-License-Identifier: MIT */
/* --gdb: the run goes on until somebody wants the guest to stand, and again after that. */
#include "cli/run_attend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/channel.h"
#include "cli/console.h"
#include "inspect/gdb.h"

#define LOOK_NS 100000000u /* at whether the run is to end */

struct run_attend {
    const struct run_options *options;
    struct channel *gdb_at;
    struct gdb *gdb;
};

int run_attend_open(const struct run_options *o, struct run_attend **out) {
    char text[256] = "";
    struct err e = {text, sizeof(text)};
    *out = NULL;
    if (!o->gdb)
        return CLI_OK;
    struct run_attend *a = calloc(1, sizeof(*a));
    if (!a)
        return cli_error("out of memory");
    a->options = o;
    int rc = channel_open(o->gdb, &a->gdb_at, &e);
    if (rc) {
        run_attend_close(a);
        cli_error("--gdb: %s", text);
        return rc == -EINVAL ? CLI_USAGE : CLI_HOST;
    }
    *out = a;
    return CLI_OK;
}

void run_attend_close(struct run_attend *a) {
    if (!a)
        return;
    gdb_destroy(a->gdb);
    channel_close(a->gdb_at);
    free(a);
}

bool run_attend_asked(struct run_attend *a) {
    return channel_ready(a->gdb_at);
}

void run_attend_idle(struct run_attend *a, uint64_t ns) {
    int fd = channel_fd(a->gdb_at);
    console_wait(&fd, 1, ns);
}

/* The machine stands until nobody wants it to any more. */
static void attend(struct run_attend *a, struct machine *m) {
    gdb_serve(a->gdb);
    while (gdb_holds(a->gdb) && !machine_is_over(m)) {
        machine_stand(m, LOOK_NS);
        gdb_serve(a->gdb);
    }
}

int run_attend_go(struct run_attend *a, struct machine *m, struct machine_result *result,
                  char *err, size_t err_size) {
    const struct gdb_config cfg = {
        .machine = m, .channel = a->gdb_at, .stopped = a->options->stopped};
    struct machine_stop stop = {.why = MACHINE_ASKED};
    int rc = gdb_create(&cfg, &a->gdb);
    if (rc)
        return machine_finish(m, rc, result, err, err_size);
    if (a->options->stopped && !a->options->quiet)
        cli_error("the guest waits for gdb: target remote %s%s",
                  strspn(a->options->gdb, "0123456789") == strlen(a->options->gdb) ? ":"
                                                                                   : "",
                  a->options->gdb);
    attend(a, m);
    while ((rc = machine_go(m, &stop, err, err_size)) == 0 && stop.why != MACHINE_ENDED) {
        gdb_stopped(a->gdb, &stop);
        attend(a, m);
    }
    return machine_finish(m, rc, result, err, err_size);
}

void run_attend_ended(struct run_attend *a, int code) {
    if (a->gdb)
        gdb_ended(a->gdb, (unsigned)code);
}
