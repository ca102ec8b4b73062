/* SPDX-License-Identifier: MIT */
/* `penumbra migrate`: a guest that runs goes on in another process, which `penumbra run
 * --incoming` has made. */
#include "machine/migrate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/wire.h"
#include "cli/cli.h"
#include "cli/monitor.h"
#include "cli/option.h"

#define LINE_BYTES 1024u /* of the monitor's */
#define NS_PER_MS  1000000u

struct options {
    const char *monitor, *to, *tls;
    struct migrate_options migrate;
};

static int set_word(void *options, const char *arg, struct err *e) {
    struct options *o = options;
    if (!o->monitor)
        o->monitor = arg;
    else if (!o->to)
        o->to = arg;
    else
        return err_set(e, -EINVAL, "unexpected argument '%s'", arg);
    return o->to == arg ? wire_check(arg, e) : 0;
}

#define OWN(field) OPTION_FIELD(struct options, field)

static const struct option_row rows[] = {
    {"streams", 0, "N", "Connections that pages are sent on, a thread each",
     .kind = OPTION_NUMBER, OWN(migrate.streams), .min = 1, .max = MIGRATE_STREAMS_MAX},
    {"downtime", 0, "MS",
     "The guest stands for the last pages when they can be sent within so long, by what "
     "was measured so far",
     .kind = OPTION_MILLISECONDS, OWN(migrate.downtime_ns)},
    {"compress", 0, "C", "How pages are sent", .kind = OPTION_WORD,
     OWN(migrate.compression), .word = migrate_compression_name},
    {"throttle", 0, NULL,
     "Where the guest writes faster than that, let it stand for a part of the time, from "
     "30 to 90%",
     .kind = OPTION_FLAG, OWN(migrate.throttle)},
    {"post-copy", 0, NULL,
     "After the first round, or where throttle does not do, go on over there and send "
     "the "
     "rest then. RISK: until all has come, neither side has the whole guest; if one of "
     "them or the network fails then, the guest is lost",
     .kind = OPTION_FLAG, OWN(migrate.postcopy)},
    {"verify", 0, NULL,
     "Hash all memory once more while the guest stands, and keep the guest where a page "
     "has changed that no dirty log had",
     .kind = OPTION_FLAG, OWN(migrate.verify)},
    {"stall", 0, "S", "Give up when the other side is silent for so long",
     .kind = OPTION_SECONDS, OWN(migrate.stall_ns)},
    {"tls", 0, "DIR",
     "By TLS: ca-cert.pem, client-cert.pem and client-key.pem in that folder; over TCP "
     "the "
     "other side's certificate must be of its host",
     .kind = OPTION_TEXT, OWN(tls), .min = 1},
};

static const struct options defaults = {
    .migrate = {.streams = 1, .downtime_ns = 300000000u, .stall_ns = MIGRATE_STALL_NS}};

static const struct option_command command = {
    .name = "penumbra migrate",
    .args = "MONITOR unix:PATH|tcp:HOST:PORT",
    .doc = "Move a guest that runs, whose --monitor that is, into a process that waits "
           "there: 'penumbra run --incoming unix:PATH'. All pages are sent while the "
           "guest runs, then those that it wrote meanwhile, and so on; at the end it "
           "stands for the rest, and goes on over there, under the MMU of that process. "
           "The run here then ends.",
    .more =
        "Whatever fails before the other side has taken the guest over, the guest goes "
        "on here. Without TLS whoever can read or write the connection reads or writes "
        "the guest.\n\nExit codes: 0 it has moved; 1 it has not, and why; 2 usage.",
    .rows = rows,
    .count = sizeof(rows) / sizeof(rows[0]),
    .defaults = &defaults,
    .arg = set_word,
};

/* The run has a working folder of its own: paths are whole there. Return: CLI_OK, or an exit
 * code after a line. */
static int compose(const struct options *o, char line[LINE_BYTES]) {
    static const char prefix[] = "unix:";
    const struct migrate_options *m = &o->migrate;
    char here[LINE_BYTES] = "", *tls = o->tls ? realpath(o->tls, NULL) : NULL;
    const char *to = o->to;
    bool relative = !strncmp(to, prefix, strlen(prefix)) && to[strlen(prefix)] != '/';
    if (o->tls && !tls)
        return cli_error("--tls %s: %s", o->tls, strerror(errno));
    if (relative && !getcwd(here, sizeof(here) - 1)) {
        free(tls);
        return cli_error("the working folder: %s", strerror(errno));
    }
    if (relative) {
        strcat(here, "/");
        to += strlen(prefix);
    }
    bool blanks =
        strpbrk(here, " \t\n") || strpbrk(to, " \t\n") || (tls && strpbrk(tls, " \t\n"));
    int n = snprintf(line, LINE_BYTES,
                     "migrate %s%s%s --streams %u --downtime %llu --compress %s --stall "
                     "%llu%s%s%s%s%s\n",
                     relative ? prefix : "", here, to, m->streams,
                     (unsigned long long)(m->downtime_ns + NS_PER_MS - 1) / NS_PER_MS,
                     migrate_compression_name(m->compression),
                     (unsigned long long)(m->stall_ns + 999999999u) / 1000000000u,
                     m->throttle ? " --throttle" : "", m->postcopy ? " --post-copy" : "",
                     m->verify ? " --verify" : "", tls ? " --tls " : "", tls ? tls : "");
    free(tls);
    return n >= (int)LINE_BYTES || blanks
               ? option_error(&command, "a path is too long, or has blanks: the monitor "
                                        "takes none")
               : CLI_OK;
}

/* The answer comes when it is over. */
static int wait_for_it(int fd, const char *monitor) {
    static const char error[] = "Error: ";
    FILE *in = fdopen(fd, "r");
    char *text = NULL;
    size_t room = 0;
    int code;
    if (!in || getline(&text, &room, in) <= 0)
        code = cli_error("%s: no answer: the run there has ended", monitor);
    else if (!strncmp(text, error, strlen(error))) {
        text[strcspn(text, "\n")] = 0;
        code = cli_error("%s", text + strlen(error));
    } else {
        fputs(text, stdout);
        code = CLI_OK;
    }
    free(text);
    if (in)
        fclose(in);
    else
        close(fd);
    return code;
}

int cmd_migrate(int argc, char **argv) {
    struct options o = defaults;
    char line[LINE_BYTES], text[256];
    struct err e = {text, sizeof(text)};
    bool done;
    int code = option_parse(&command, argc, argv, &o, &done);
    if (code || done)
        return code;
    if (!o.to)
        return option_error(&command, "which monitor, and where to: %s", command.args);
    code = compose(&o, line);
    if (code)
        return code;
    int fd = monitor_connect(o.monitor, &e);
    if (fd < 0)
        return cli_error("%s", text);
    if (!monitor_send(fd, line, strlen(line))) {
        close(fd);
        return cli_error("%s: no answer", o.monitor);
    }
    return wait_for_it(fd, o.monitor);
}
