/* SPDX-License-Identifier: MIT */
/* --gdb, --monitor and Ctrl-A c: the run goes on until somebody wants the guest to stand, and
 * again after that. */
#include "cli/run_attend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/channel.h"
#include "cli/console.h"
#include "inspect/gdb.h"
#include "inspect/monitor_session.h"
#include "machine/migrate.h"
#include "machine/snapshot.h"

#define LOOK_NS  100000000u /* at whether the run is to end */
#define MOVES_NS 2000000u   /* at whether the guest may go on, while it is on its way */

struct run_attend {
    const struct run_options *options;
    struct machine *machine;             /* NULL: not yet */
    struct channel *gdb_at, *monitor_at; /* NULL: nobody may come */
    struct gdb *gdb;
    struct monitor *monitor;
    struct monitor_session session;           /* at monitor_at */
    struct monitor_client by_gdb, by_console; /* who have a monitor, too */
    bool past; /* of a process that stands in the past, where gdb looks around */
};

int run_attend_open(const struct run_options *o, struct run_attend **out) {
    char text[256] = "";
    struct err e = {text, sizeof(text)};
    *out = NULL;
    if (!o->gdb && !o->monitor && !isatty(STDIN_FILENO))
        return CLI_OK;
    struct run_attend *a = calloc(1, sizeof(*a));
    if (!a)
        return cli_error("out of memory");
    a->options = o;
    int rc = o->gdb ? channel_open(o->gdb, &a->gdb_at, &e) : 0;
    bool gdb = rc != 0;
    if (!rc && o->monitor)
        rc = channel_open(o->monitor, &a->monitor_at, &e);
    if (rc) {
        run_attend_close(a);
        cli_error("--%s: %s", gdb ? "gdb" : "monitor", text);
        return rc == -EINVAL ? CLI_USAGE : CLI_HOST;
    }
    *out = a;
    return CLI_OK;
}

void run_attend_close(struct run_attend *a) {
    if (!a)
        return;
    gdb_destroy(a->gdb);
    monitor_destroy(a->monitor);
    channel_close(a->gdb_at);
    channel_close(a->monitor_at);
    free(a);
}

bool run_attend_asked(struct run_attend *a) {
    return (a->gdb_at && channel_ready(a->gdb_at)) ||
           (a->monitor_at && channel_ready(a->monitor_at)) || console_has_line() ||
           (a->machine && machine_migrate_asks(a->machine));
}

void run_attend_idle(struct run_attend *a, uint64_t ns, struct pollfd *also,
                     unsigned count) {
    struct pollfd fd[CONSOLE_ALSO_MAX];
    const int own[] = {a->machine ? machine_migrate_fd(a->machine) : -1,
                       a->gdb_at ? channel_fd(a->gdb_at) : -1,
                       a->monitor_at ? channel_fd(a->monitor_at) : -1};
    const unsigned first = sizeof(own) / sizeof(own[0]);
    for (unsigned i = 0; i < first; i++)
        fd[i] = (struct pollfd){.fd = own[i], .events = POLLIN}; /* -1: none */
    if (count > CONSOLE_ALSO_MAX - first)
        count = CONSOLE_ALSO_MAX - first;
    if (count)
        memcpy(fd + first, also, count * sizeof(*fd));
    console_idle(NULL, ns, fd, first + count);
    if (count)
        memcpy(also, fd + first, count * sizeof(*fd));
}

/* gdb's `monitor LINE`. */
static void command_of_gdb(void *opaque, const char *line, FILE *out) {
    struct run_attend *a = opaque;
    monitor_command(a->monitor, &a->by_gdb, line, out);
}

static const char *command_name(unsigned i) {
    return monitor_name(i, NULL, NULL);
}

static void serve_console(struct run_attend *a) {
    char line[MONITOR_LINE_MAX], *text = NULL;
    size_t size = 0;
    while (console_take_line(line, sizeof(line))) {
        FILE *out = open_memstream(&text, &size);
        if (!out)
            return;
        monitor_command(a->monitor, &a->by_console, line, out);
        fclose(out);
        console_answer(text, size);
        free(text);
    }
}

static void serve(struct run_attend *a) {
    if (a->gdb)
        gdb_serve(a->gdb);
    if (a->monitor_at)
        monitor_session_serve(&a->session);
    serve_console(a);
}

/* ---- Migration ---- */

/* Whoever asked for it hears how it went; and so does who started the run. */
static void tell(struct run_attend *a, const struct migrate_progress *p) {
    struct monitor_client *client = &a->session.client;
    bool json = client->migrates && client->json;
    char *text = NULL, *plain = NULL;
    size_t size = 0, plain_size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out) {
        monitor_migrated(p, json, out);
        fclose(out);
    }
    out = open_memstream(&plain, &plain_size);
    if (out) {
        monitor_migrated(p, false, out);
        fclose(out);
    }
    if (text && client->migrates && a->monitor_at)
        channel_write(a->monitor_at, text, size);
    if (plain && a->by_console.migrates)
        console_answer(plain, plain_size);
    else if (plain && !a->options->quiet)
        cli_error("%.*s", (int)strcspn(plain, "\n"), plain);
    client->migrates = a->by_console.migrates = false;
    free(text);
    free(plain);
}

/* Return: whether the machine has to stand on for a migration. */
static bool serve_migration(struct run_attend *a, struct machine *m) {
    struct migrate_progress p;
    bool holds = machine_migrate_serve(m);
    if (machine_migrate_ended(m, &p)) {
        tell(a, &p);
        if (p.phase == MIGRATE_UNSURE)
            monitor_stop_guest(a->monitor);
    }
    return holds;
}

/* The machine stands until nobody wants it to any more. */
static void attend(struct run_attend *a, struct machine *m) {
    if (machine_was_full(m)) {
        cli_error("the host has no room for what the guest writes to a disk: it stands, "
                  "until 'cont' in the monitor");
        monitor_stop_guest(a->monitor);
    }
    serve(a);
    for (;;) {
        bool moves = serve_migration(a, m);
        bool stands = (a->gdb && gdb_holds(a->gdb)) || monitor_stopped(a->monitor);
        if ((!moves && !stands) || machine_is_over(m)) {
            machine_was_full(m); /* while it stood: it is tried again now */
            return;
        }
        if (moves)
            machine_migrate_wait(m, MOVES_NS);
        else
            machine_stand(m, LOOK_NS);
        serve(a);
    }
}

#define SHUT_IN                                                                          \
    "the run's sandbox knows the folder of its --monitor alone, or those of "            \
    "--allow-dir DIR"

/* Of this process, that stands in the past or writes a snapshot. */
static void leave_copy(void) {
    _exit(CLI_OK);
}

static bool debugged(void *opaque) {
    const struct run_attend *a = opaque;
    return a->past || (a->gdb && gdb_holds(a->gdb));
}

static int create(struct run_attend *a, struct machine *m) {
    bool shut_in = a->options->sandbox == RUN_SANDBOX_ON;
    const struct monitor_config monitor = {.machine = m,
                                           .rings = a->options->machine.rings,
                                           .events = a->options->trace_mask,
                                           .trace = a->options->writer,
                                           .kernel = a->options->machine.kernel,
                                           .about = a->options->about,
                                           .leave = leave_copy,
                                           .denied = shut_in ? SHUT_IN : NULL,
                                           .debugged = debugged,
                                           .opaque = a};
    const struct gdb_config gdb = {.machine = m,
                                   .channel = a->gdb_at,
                                   .stopped = a->options->stopped,
                                   .command = command_of_gdb,
                                   .opaque = a};
    a->monitor = monitor_create(&monitor);
    if (!a->monitor)
        return -ENOMEM;
    a->machine = m;
    a->session = (struct monitor_session){.mon = a->monitor, .channel = a->monitor_at};
    console_offer_monitor(command_name);
    return a->gdb_at ? gdb_create(&gdb, &a->gdb) : 0;
}

/* ---- History ---- */

/* In a process in the past. */
static void answer(void *opaque, const void *question, size_t size, FILE *out) {
    struct run_attend *a = opaque;
    const char *what = question;
    a->past = true;
    if (size && *what == GDB_QUESTION)
        gdb_answer(a->gdb, question, size, out);
    else if (size && *what == MONITOR_QUESTION)
        monitor_answer(a->monitor, question, size, out);
}

static bool cancelled(void *opaque) {
    return gdb_cancels(((struct run_attend *)opaque)->gdb);
}

static int keep_history(struct run_attend *a, struct machine *m, struct err *e) {
    const struct machine_history_config cfg = {.most = a->options->checkpoints,
                                               .distance =
                                                   a->options->checkpoint_distance,
                                               .answer = answer,
                                               .leave = leave_copy,
                                               .cancelled = cancelled,
                                               .opaque = a};
    return cfg.most ? machine_history_begin(m, &cfg, e) : 0;
}

/* The guest has ended: a live save is still to be told of, and gdb may want to know how that
 * came. */
static void attend_end(struct run_attend *a, struct machine *m) {
    const struct machine_stop stop = {.why = MACHINE_NEWEST};
    while (machine_saving(m, false, NULL) == SAVING_GOES_ON) {
        machine_stand(m, LOOK_NS);
        serve(a);
    }
    if (!a->gdb || !machine_history_kept(m))
        return;
    gdb_stopped(a->gdb, &stop);
    while (gdb_holds(a->gdb) && !machine_quits(m)) {
        machine_stand(m, LOOK_NS);
        serve(a);
    }
}

int run_attend_go(struct run_attend *a, struct machine *m, struct machine_result *result,
                  char *err, size_t err_size) {
    struct machine_stop stop = {.why = MACHINE_ASKED};
    struct err e = {err, err_size};
    int rc = create(a, m);
    if (!rc)
        rc = keep_history(a, m, &e);
    if (rc)
        return machine_finish(m, rc, result, err, err_size);
    if (a->options->stopped && !a->options->quiet)
        cli_error("the guest waits for gdb: target remote %s%s",
                  strspn(a->options->gdb, "0123456789") == strlen(a->options->gdb) ? ":"
                                                                                   : "",
                  a->options->gdb);
    attend(a, m);
    while ((rc = machine_go(m, &stop, err, err_size)) == 0 && stop.why != MACHINE_ENDED) {
        if (a->gdb)
            gdb_stopped(a->gdb, &stop);
        attend(a, m);
    }
    if (!rc)
        attend_end(a, m);
    return machine_finish(m, rc, result, err, err_size);
}

void run_attend_ended(struct run_attend *a, int code) {
    if (a->gdb)
        gdb_ended(a->gdb, (unsigned)code);
}
