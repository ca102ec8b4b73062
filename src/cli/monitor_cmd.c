/* SPDX-License-Identifier: MIT */
/* `penumbra monitor`: a client of a run's monitor. It sends its lines, ends its side, and
 * prints the answers until the other side ends. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/monitor.h"
#include "cli/option.h"

#define LINE_BYTES 1024u

struct options {
    const char *path;
    char line[LINE_BYTES]; /* the command's words */
    bool json;
};

static int set_arg(void *options, const char *arg, struct err *e) {
    struct options *o = options;
    size_t used = strlen(o->line);
    if (!o->path) {
        o->path = arg;
        return 0;
    }
    int n =
        snprintf(o->line + used, sizeof(o->line) - used, "%s%s", used ? " " : "", arg);
    return n < (int)(sizeof(o->line) - used) - 1
               ? 0
               : err_set(e, -EINVAL, "the command is longer than %u bytes", LINE_BYTES);
}

#define OWN(field) OPTION_FIELD(struct options, field)

static const struct option_row rows[] = {
    {"json", 0, NULL, "Print the answers as JSON, an object on a line each",
     .kind = OPTION_FLAG, OWN(json)},
};

static const struct options defaults = {.json = false};

static const struct option_command command = {
    .name = "penumbra monitor",
    .args = "SOCKET [COMMAND...]",
    .doc =
        "Send a command to the monitor of 'penumbra run --monitor SOCKET', and print the "
        "answer. Without a command: the lines of standard input; at a terminal they can "
        "be "
        "edited, come again by the arrow keys, and Tab completes commands. The command "
        "help "
        "lists what there is.",
    .more =
        "Exit codes: 0 all was answered; 1 nobody listens there, or a command failed.",
    .rows = rows,
    .count = sizeof(rows) / sizeof(rows[0]),
    .defaults = &defaults,
    .arg = set_arg,
};

bool monitor_send(int fd, const char *buf, size_t size) {
    while (size) {
        ssize_t n = send(fd, buf, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        buf += n;
        size -= (size_t)n;
    }
    return true;
}

static bool send_input(int fd) {
    char line[LINE_BYTES];
    while (fgets(line, sizeof(line), stdin))
        if (!monitor_send(fd, line, strlen(line)))
            return false;
    return true;
}

/* skip: the answer to our own `json on`. Return: whether a command failed. */
static bool print_answers(int fd, bool skip) {
    FILE *in = fdopen(fd, "r");
    char *line = NULL;
    size_t room = 0;
    bool bad = !in;
    while (in && getline(&line, &room, in) > 0) {
        bad |= !strncmp(line, "Error: ", 7) || strstr(line, "\"ok\":false,\"error\"");
        if (!skip)
            fputs(line, stdout);
        skip = false;
    }
    free(line);
    if (in)
        fclose(in);
    return bad;
}

/* Return: a socket to the monitor, or -1 and errno. */
static int try_connect(const char *path) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = -1;
    errno = ENAMETOOLONG;
    if (snprintf(at.sun_path, sizeof(at.sun_path), "%s", path) < (int)sizeof(at.sun_path))
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && !connect(fd, (const struct sockaddr *)&at, sizeof(at)))
        return fd;
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return -1;
}

int monitor_connect(const char *path, struct err *e) {
    int fd = try_connect(path), error = errno;
    return fd < 0 ? err_set(e, -error, "%s: %s", path, strerror(error)) : fd;
}

/* Return: the same, or -1 after a line. */
static int connect_to(const char *path) {
    int fd = try_connect(path);
    if (fd < 0)
        cli_error("%s: %s", path, strerror(errno));
    return fd;
}

/* The answer in the line, or NULL. */
static json_t *answer_of(const char *line) {
    json_t *answer = json_loads(line, 0, NULL);
    if (json_is_object(answer))
        return answer;
    json_decref(answer);
    return NULL;
}

int monitor_query(const char *path, const char *line, json_t **result, struct err *e) {
    char ask[LINE_BYTES], *text = NULL;
    size_t room = 0;
    *result = NULL;
    int fd = try_connect(path);
    if (fd < 0) {
        err_set(e, -errno, "%s: %s", path, strerror(errno));
        return CLI_OK;
    }
    snprintf(ask, sizeof(ask), "json on\n%s\n", line);
    bool sent = monitor_send(fd, ask, strlen(ask));
    shutdown(fd, SHUT_WR);
    FILE *in = sent ? fdopen(fd, "r") : NULL;
    json_t *answer = NULL;
    if (in && getline(&text, &room, in) > 0 && getline(&text, &room, in) > 0)
        answer = answer_of(text);
    free(text);
    if (in)
        fclose(in);
    else
        close(fd);
    const char *error = json_string_value(json_object_get(answer, "error"));
    int code = error ? cli_error("%s: %s", path, error) : CLI_OK;
    if (answer && !error)
        *result = json_incref(json_object_get(answer, "result"));
    if (!answer)
        err_set(e, -EPIPE, "%s: no answer", path);
    json_decref(answer);
    return code;
}

int cli_monitor_ask(const char *path, const char *line) {
    static const char error[] = "Error: ";
    char *text = NULL;
    size_t room = 0;
    int code = CLI_OK, fd = connect_to(path);
    if (fd < 0)
        return CLI_HOST;
    bool sent = monitor_send(fd, line, strlen(line)) && monitor_send(fd, "\n", 1);
    shutdown(fd, SHUT_WR);
    FILE *in = sent ? fdopen(fd, "r") : NULL;
    bool any = false;
    while (in && getline(&text, &room, in) > 0) {
        any = true;
        text[strcspn(text, "\n")] = 0;
        if (strncmp(text, error, sizeof(error) - 1) != 0)
            puts(text);
        else
            code = cli_error("%s", text + sizeof(error) - 1);
    }
    if (!any)
        code = cli_error("%s: no answer", path);
    free(text);
    if (in)
        fclose(in);
    else
        close(fd);
    return code;
}

int cmd_monitor(int argc, char **argv) {
    struct options o = defaults;
    bool done;
    int code = option_parse(&command, argc, argv, &o, &done);
    if (code || done)
        return code;
    if (!o.path)
        return option_error(&command, "which socket?");
    int fd = connect_to(o.path);
    if (fd < 0)
        return CLI_HOST;
    if (!*o.line && isatty(STDIN_FILENO))
        return monitor_edit(fd, o.json);
    bool sent = !o.json || monitor_send(fd, "json on\n", 8);
    if (sent && *o.line)
        sent = monitor_send(fd, o.line, strlen(o.line)) && monitor_send(fd, "\n", 1);
    else if (sent)
        sent = send_input(fd);
    shutdown(fd, SHUT_WR);
    bool bad = print_answers(fd, o.json) || !sent;
    return bad ? CLI_HOST : CLI_OK;
}
