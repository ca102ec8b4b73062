/* SPDX-License-Identifier: MIT */
/*
 * The serial console.
 *
 * Invariants
 * 1. While `raw` is set, `saved` holds the terminal's modes; whoever restores them clears
 *    `raw`. Restoring is async-signal-safe and happens on every way out.
 *    In the background the terminal is neither read nor changed.
 * 2. Reads never block: poll first, or the input is a regular file.
 * State: one static struct, as a process has one terminal; the handlers reach it there.
 */
#include "cli/console.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define ESCAPE         0x01 /* Ctrl-A */
#define LOOK_NS        200000000u
#define LINE_MAX_BYTES 1024u
#define PROMPT         "(penumbra) "

/* Keys for the monitor: a line that is being typed, and those that are whole. */
static struct {
    const char *(*name)(unsigned i); /* NULL: there is no monitor */
    bool on;
    char line[LINE_MAX_BYTES];
    size_t used;
    char lines[4 * LINE_MAX_BYTES]; /* each with a newline */
    size_t waiting;
} mon;

static struct {
    void (*on_quit)(void);
    struct termios saved;
    volatile sig_atomic_t raw;    /* the terminal is in raw mode */
    volatile sig_atomic_t signal; /* what asked us to end */
    int wake[2];                  /* pipe: a signal ends an idle wait */
    int out, out_error;           /* the output, and why it failed */
    bool open, tty, no_input, escaped;
} con = {.wake = {-1, -1}};

/* A process in the background would be stopped for touching the terminal. */
static bool in_foreground(void) {
    return tcgetpgrp(STDIN_FILENO) == getpgrp();
}

static void restore_terminal(void) {
    if (!con.raw)
        return;
    con.raw = 0;
    if (in_foreground())
        tcsetattr(STDIN_FILENO, TCSANOW, &con.saved);
}

static void set_raw(void) {
    if (!in_foreground())
        return;
    struct termios t;
    if (!con.raw && tcgetattr(STDIN_FILENO, &con.saved))
        return;
    t = con.saved;
    t.c_iflag &=
        ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    t.c_oflag &= ~(tcflag_t)OPOST; /* the guest's own CR LF are enough */
    t.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    t.c_cflag &= ~(tcflag_t)(CSIZE | PARENB);
    t.c_cflag |= CS8;
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    con.raw = 1;
    if (tcsetattr(STDIN_FILENO, TCSANOW, &t))
        con.raw = 0;
}

/* A shell may put us into the foreground, or take that away, without a signal. Return:
 * whether the keys are ours. */
static bool own_terminal(void) {
    if (!con.tty)
        return true;
    if (!in_foreground())
        con.raw = 0; /* its modes are the shell's now */
    else if (!con.raw)
        set_raw();
    return con.raw;
}

static void on_end_signal(int sig) {
    int saved = errno;
    if (con.signal) { /* the second one does not wait for the guest */
        restore_terminal();
        _exit(128 + sig);
    }
    con.signal = sig;
    con.on_quit();
    if (con.wake[1] >= 0 && write(con.wake[1], "", 1) < 0) {
        /* the pipe is full: the wait ends anyway */
    }
    errno = saved;
}

/* A crash of ours: leave the terminal usable, then die of it. */
static void on_fatal_signal(int sig) {
    restore_terminal();
    signal(sig, SIG_DFL);
    raise(sig);
}

static void on_stop(int sig) {
    int saved = errno;
    restore_terminal();
    raise(SIGSTOP);
    errno = saved;
}

static void on_continue(int sig) {
    int saved = errno;
    if (con.open && !in_foreground())
        con.raw = 0;
    else if (con.open)
        set_raw();
    errno = saved;
}

static void handle(int sig, void (*fn)(int), int flags) {
    struct sigaction sa = {.sa_handler = fn, .sa_flags = flags};
    sigemptyset(&sa.sa_mask);
    sigaction(sig, &sa, NULL);
}

static void handle_signals(void) {
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        handle(ends[i], on_end_signal, 0);
    if (!con.tty)
        return;
    for (unsigned i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
        handle(fatal[i], on_fatal_signal, SA_RESETHAND);
    handle(SIGTSTP, on_stop, SA_RESTART);
    handle(SIGCONT, on_continue, SA_RESTART);
}

void console_open(void (*on_quit)(void), int out) {
    con.out = out;
    con.on_quit = on_quit;
    con.tty = isatty(STDIN_FILENO);
    if (pipe2(con.wake, O_CLOEXEC | O_NONBLOCK))
        con.wake[0] = con.wake[1] = -1;
    con.open = true;
    con.no_input = !console_has_input(); /* /dev/null always has something to read */
    handle_signals();
    if (!con.tty)
        return;
    atexit(restore_terminal);
    set_raw();
}

void console_close(void) {
    con.open = false;
    restore_terminal();
}

bool console_has_input(void) {
    struct stat in, null;
    return fstat(STDIN_FILENO, &in) == 0 &&
           (stat("/dev/null", &null) || !S_ISCHR(in.st_mode) ||
            in.st_rdev != null.st_rdev);
}

/* Until the output takes bytes without blocking, or a signal asks us to end. A blocking write
 * could miss that signal: under KVM it happens on a thread that gets none. */
static bool wait_for_room(void) {
    struct pollfd fd[2] = {{.fd = con.out, .events = POLLOUT},
                           {.fd = con.wake[0], .events = POLLIN}};
    while (!con.signal && poll(fd, 2, -1) < 0 && errno == EINTR)
        ;
    return !con.signal;
}

static void write_out(const void *buf, size_t size) {
    const char *p = buf;
    while (size && !con.out_error && wait_for_room()) {
        ssize_t n = write(con.out, p, size < PIPE_BUF ? size : PIPE_BUF);
        if (n >= 0) {
            p += n;
            size -= (size_t)n;
        } else if (errno != EAGAIN && errno != EINTR) {
            con.out_error = errno;
            con.on_quit();
        }
    }
}

void console_out(void *opaque, const uint8_t *buf, size_t size) {
    write_out(buf, size);
}

static void show_help(void) {
    static const char text[] = "\r\nCtrl-A h       this help\r\n"
                               "Ctrl-A c       to the monitor, and back\r\n"
                               "Ctrl-A x       quit\r\n"
                               "Ctrl-A Ctrl-A  send Ctrl-A to the guest\r\n";
    write_out(text, sizeof(text) - 1);
}

/* ---- The monitor's line ---- */

void console_offer_monitor(const char *(*name)(unsigned i)) {
    mon.name = name;
}

static void prompt(void) {
    write_out(PROMPT, sizeof(PROMPT) - 1);
    write_out(mon.line, mon.used);
}

static void switch_monitor(void) {
    if (!mon.name)
        return;
    mon.on = !mon.on;
    write_out("\r\n", 2);
    if (mon.on)
        prompt();
}

/* Tab: the one command that goes on so, or all that do. */
static void complete(void) {
    const char *name, *only = NULL;
    unsigned found = 0;
    for (unsigned i = 0; (name = mon.name(i)); i++)
        if (!strncmp(name, mon.line, mon.used)) {
            only = name;
            found++;
        }
    if (found == 1) {
        size_t n = strlen(only);
        write_out(only + mon.used, n - mon.used);
        memcpy(mon.line, only, n);
        mon.used = n;
        return;
    }
    for (unsigned i = 0; found && (name = mon.name(i)); i++)
        if (!strncmp(name, mon.line, mon.used)) {
            write_out("\r\n", 2);
            write_out(name, strlen(name));
        }
    write_out("\r\n", 2);
    prompt();
}

static void end_line(void) {
    write_out("\r\n", 2);
    if (mon.waiting + mon.used + 1 <= sizeof(mon.lines)) {
        memcpy(mon.lines + mon.waiting, mon.line, mon.used);
        mon.waiting += mon.used;
        mon.lines[mon.waiting++] = '\n';
    }
    mon.used = 0;
}

static void monitor_key(uint8_t c) {
    if (c == '\r' || c == '\n') {
        end_line();
    } else if (c == '\t') {
        complete();
    } else if ((c == 0x7f || c == '\b') && mon.used) {
        mon.used--;
        write_out("\b \b", 3);
    } else if (c == 0x15) { /* Ctrl-U */
        for (; mon.used; mon.used--)
            write_out("\b \b", 3);
    } else if (c >= ' ' && c < 0x7f && mon.used + 1 < sizeof(mon.line)) {
        mon.line[mon.used++] = (char)c;
        write_out(&c, 1);
    }
}

bool console_has_line(void) {
    return mon.waiting != 0;
}

bool console_take_line(char *line, size_t size) {
    const char *end = memchr(mon.lines, '\n', mon.waiting);
    if (!end || !size)
        return false;
    size_t n = (size_t)(end - mon.lines), kept = n < size - 1 ? n : size - 1;
    memcpy(line, mon.lines, kept);
    line[kept] = 0;
    mon.waiting -= n + 1;
    memmove(mon.lines, end + 1, mon.waiting);
    return true;
}

void console_answer(const char *text, size_t size) {
    for (const char *nl; size; size -= (size_t)(nl - text) + 1, text = nl + 1) {
        nl = memchr(text, '\n', size);
        if (!nl) {
            write_out(text, size);
            break;
        }
        write_out(text, (size_t)(nl - text));
        write_out("\r\n", 2);
    }
    if (mon.on)
        prompt();
}

/* Take the escape sequences out. Return: how many bytes are left for the guest. */
static size_t unescape(uint8_t *buf, size_t size) {
    size_t kept = 0;
    for (size_t i = 0; i < size; i++) {
        uint8_t c = buf[i];
        if (!con.escaped) {
            if (c == ESCAPE)
                con.escaped = true;
            else if (mon.on)
                monitor_key(c);
            else
                buf[kept++] = c;
            continue;
        }
        con.escaped = false;
        if (c == ESCAPE) {
            buf[kept++] = c;
        } else if (c == 'h' || c == '?') {
            show_help();
        } else if (c == 'c') {
            switch_monitor();
        } else if (c == 'x') {
            write_out("\r\n", 2); /* the shell's prompt begins a line */
            con.on_quit();
        }
    }
    return kept;
}

size_t console_in(void *opaque, uint8_t *buf, size_t size) {
    if (con.no_input || !size || !own_terminal())
        return 0;
    struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
    if (poll(&fd, 1, 0) <= 0)
        return 0;
    ssize_t n = read(STDIN_FILENO, buf, size);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (n <= 0) { /* the end of input is not the end of the guest */
        con.no_input = true;
        return 0;
    }
    return con.tty ? unescape(buf, (size_t)n) : (size_t)n;
}

void console_idle(void *opaque, uint64_t ns, struct pollfd *also, unsigned count) {
    bool ours = own_terminal();
    struct pollfd fd[2 + CONSOLE_ALSO_MAX];
    fd[0] = (struct pollfd){.fd = con.wake[0], .events = POLLIN};
    fd[1] = (struct pollfd){.fd = con.no_input || !ours ? -1 : STDIN_FILENO,
                            .events = POLLIN};
    if (count > CONSOLE_ALSO_MAX)
        count = CONSOLE_ALSO_MAX;
    if (count)
        memcpy(fd + 2, also, count * sizeof(*fd));
    if (!ours && ns > LOOK_NS) /* at whether it is ours again */
        ns = LOOK_NS;
    struct timespec ts = {.tv_sec = (time_t)(ns / 1000000000u),
                          .tv_nsec = (long)(ns % 1000000000u)};
    if (ns / 1000000000u > 3600)
        ts = (struct timespec){.tv_sec = 3600};
    bool ready = ppoll(fd, 2 + count, &ts, NULL) > 0;
    for (unsigned i = 0; i < count; i++)
        also[i].revents = ready ? fd[2 + i].revents : 0;
}

int console_signal(void) {
    return con.signal;
}

int console_out_error(void) {
    return con.out_error;
}
