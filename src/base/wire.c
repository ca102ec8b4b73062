/* SPDX-License-Identifier: MIT */
/* Sockets as wires (wire.h): addresses, connections, bytes, and how long is waited. */
#define _GNU_SOURCE /* accept4 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/wire_internal.h"

#define LOOK_US  100000 /* at whether the group is cut, or the peer silent too long */
#define HOST_MAX 256u
#define BACKLOG  32

static const char unix_prefix[] = "unix:", tcp_prefix[] = "tcp:";

/* ---- Groups ---- */

void wire_group_init(struct wire_group *g, uint64_t stall_ns) {
    g->stall_ns = stall_ns;
    atomic_init(&g->cut, false);
    atomic_init(&g->last, host_ns());
    atomic_init(&g->bytes, 0);
}

void wire_cut(struct wire_group *g) {
    atomic_store(&g->cut, true);
}

void wire_group_fresh(struct wire_group *g) {
    atomic_store(&g->last, host_ns());
}

int wire_may_wait(const struct wire_group *g) {
    if (atomic_load(&g->cut))
        return -ECANCELED;
    uint64_t last = atomic_load(&g->last), now = host_ns();
    return now > last && now - last > g->stall_ns ? -ETIMEDOUT : 0;
}

const char *wire_words(int rc) {
    switch (rc) {
    case -EPIPE:
    case -ECONNRESET:
        return "the peer has closed the connection";
    case -ETIMEDOUT:
        return "the peer has been silent for too long";
    case -ECANCELED:
        return "cancelled";
    case -EPROTO:
        return "the peer does not speak TLS as it should";
    default:
        return strerror(-rc);
    }
}

/* ---- Addresses ---- */

static const char *unix_path(const char *where) {
    size_t n = sizeof(unix_prefix) - 1;
    return !strncmp(where, unix_prefix, n) && where[n] ? where + n : NULL;
}

/* "tcp:HOST:PORT"; HOST may be [::1]. Return: the port's text, or NULL. */
static const char *tcp_parts(const char *where, char host[HOST_MAX]) {
    size_t n = sizeof(tcp_prefix) - 1;
    if (strncmp(where, tcp_prefix, n) != 0)
        return NULL;
    where += n;
    const char *colon = strrchr(where, ':');
    if (!colon || colon == where || (size_t)(colon - where) >= HOST_MAX ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return NULL;
    unsigned long port = strtoul(colon + 1, NULL, 10);
    size_t length = (size_t)(colon - where);
    if (length > 2 && where[0] == '[' && colon[-1] == ']') {
        where++;
        length -= 2;
    }
    memcpy(host, where, length);
    host[length] = 0;
    return port >= 1 && port <= 65535 ? colon + 1 : NULL;
}

int wire_check(const char *where, struct err *e) {
    char host[HOST_MAX];
    const char *path = unix_path(where);
    if (path && strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
        return err_set(e, -EINVAL, "%s: the path is too long for a socket", where);
    return path || tcp_parts(where, host)
               ? 0
               : err_set(e, -EINVAL, "%s: neither unix:PATH nor tcp:HOST:PORT", where);
}

static void unix_address(const char *path, struct sockaddr_un *at) {
    memset(at, 0, sizeof(*at));
    at->sun_family = AF_UNIX;
    memcpy(at->sun_path, path, strnlen(path, sizeof(at->sun_path) - 1));
}

/* Return: 0, or -errno with a line. */
static int resolve(const char *where, bool passive, struct addrinfo **out,
                   struct err *e) {
    char host[HOST_MAX];
    const char *port = tcp_parts(where, host);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = passive ? AI_PASSIVE : 0};
    int rc = getaddrinfo(host, port, &hints, out);
    return rc ? err_set(e, -EHOSTUNREACH, "%s: %s", where, gai_strerror(rc)) : 0;
}

/* ---- Connecting ---- */

static struct wire *wire_new(struct wire_group *g, int fd, bool tcp) {
    const struct timeval look = {.tv_usec = LOOK_US};
    struct wire *w = calloc(1, sizeof(*w));
    int on = 1;
    if (!w) {
        close(fd);
        return NULL;
    }
    w->group = g;
    w->fd = fd;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &look, sizeof(look));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &look, sizeof(look));
    if (tcp) /* small records, each of which is waited for */
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return w;
}

void wire_close(struct wire *w) {
    if (!w)
        return;
    wire_tls_end(w);
    close(w->fd);
    free(w);
}

/* The descriptor, connected, within the group's stall time. Return: it or -errno. */
static int connect_one(struct wire_group *g, int family, const void *at, socklen_t size) {
    int error = 0, fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t length = sizeof(error);
    if (fd < 0)
        return -errno;
    int rc = connect(fd, at, size) ? -errno : 0;
    while (rc == -EINPROGRESS || rc == -EAGAIN) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        bool done = poll(&p, 1, LOOK_US / 1000) > 0;
        if (done && rc == -EAGAIN) /* a Unix socket whose backlog is full */
            rc = connect(fd, at, size) ? -errno : 0;
        else if (done)
            rc = getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) ? -errno : -error;
        if (wire_may_wait(g))
            rc = wire_may_wait(g);
    }
    int flags = fcntl(fd, F_GETFL);
    if (rc == 0 && fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
        rc = -errno;
    if (rc)
        close(fd);
    return rc ? rc : fd;
}

static int connect_to(struct wire_group *g, const char *where, struct err *e) {
    struct addrinfo *list, *one;
    struct sockaddr_un at;
    int fd = -EHOSTUNREACH;
    if (unix_path(where)) {
        unix_address(unix_path(where), &at);
        fd = connect_one(g, AF_UNIX, &at, sizeof(at));
    } else {
        int rc = resolve(where, false, &list, e);
        if (rc)
            return rc;
        for (one = list; one && fd < 0 && fd != -ECANCELED; one = one->ai_next)
            fd = connect_one(g, one->ai_family, one->ai_addr, one->ai_addrlen);
        freeaddrinfo(list);
    }
    return fd < 0 ? err_set(e, fd, "%s: %s", where,
                            fd == -EPIPE ? strerror(EPIPE) : wire_words(fd))
                  : fd;
}

int wire_connect(struct wire_group *g, const char *where, struct wire_tls *t,
                 struct wire **out, struct err *e) {
    char host[HOST_MAX];
    bool tcp = !unix_path(where);
    wire_group_fresh(g);
    int fd = connect_to(g, where, e);
    if (fd < 0)
        return fd;
    struct wire *w = wire_new(g, fd, tcp);
    if (!w)
        return err_set(e, -ENOMEM, "out of memory");
    int rc = t ? wire_tls_begin(w, t, tcp && tcp_parts(where, host) ? host : NULL, e) : 0;
    if (rc)
        wire_close(w);
    else
        *out = w;
    return rc;
}

/* ---- Coming in ---- */

struct wire_door {
    int fd;
    char *path; /* to be removed; NULL: TCP */
    char *where;
};

/* A socket's file that its process left behind. */
static bool is_stale(const struct sockaddr_un *at) {
    struct stat st;
    if (stat(at->sun_path, &st) || !S_ISSOCK(st.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool stale = fd >= 0 && connect(fd, (const struct sockaddr *)at, sizeof(*at)) &&
                 errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return stale;
}

int wire_listen_unix(const char *path) {
    struct sockaddr_un at;
    if (strlen(path) >= sizeof(at.sun_path))
        return -ENAMETOOLONG;
    unix_address(path, &at);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (is_stale(&at))
        unlink(path);
    /* The file gets the socket's own mode, never a wider one for a moment. */
    if (fchmod(fd, S_IRUSR | S_IWUSR) ||
        bind(fd, (const struct sockaddr *)&at, sizeof(at)) || listen(fd, BACKLOG)) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

static int listen_tcp(const char *where, struct err *e) {
    struct addrinfo *list, *one;
    int on = 1, fd = -EADDRNOTAVAIL, rc = resolve(where, true, &list, e);
    if (rc)
        return rc;
    for (one = list; one && fd < 0; one = one->ai_next) {
        fd = socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) {
            fd = -errno;
            continue;
        }
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (bind(fd, one->ai_addr, one->ai_addrlen) || listen(fd, BACKLOG)) {
            rc = -errno;
            close(fd);
            fd = rc;
        }
    }
    freeaddrinfo(list);
    return fd < 0 ? err_sys(e, fd, "cannot listen at %s", where) : fd;
}

int wire_listen(const char *where, struct wire_door **out, struct err *e) {
    const char *path = unix_path(where);
    int rc = wire_check(where, e);
    struct wire_door *d = rc ? NULL : calloc(1, sizeof(*d));
    if (rc)
        return rc;
    if (!d || !(d->where = strdup(where)) || (path && !(d->path = strdup(path)))) {
        if (d)
            free(d->where);
        free(d);
        return err_set(e, -ENOMEM, "out of memory");
    }
    d->fd = path ? wire_listen_unix(path) : listen_tcp(where, e);
    if (d->fd >= 0) {
        *out = d;
        return 0;
    }
    rc = path ? err_sys(e, d->fd, "cannot listen at %s", where) : d->fd;
    free(d->path);
    free(d->where);
    free(d);
    return rc;
}

void wire_door_close(struct wire_door *d) {
    if (!d)
        return;
    close(d->fd);
    if (d->path)
        unlink(d->path);
    free(d->path);
    free(d->where);
    free(d);
}

int wire_accept(struct wire_door *d, struct wire_group *g, struct wire_tls *t,
                bool patient, struct wire **out, struct err *e) {
    int fd = -1, rc = 0;
    while (rc == 0 && fd < 0) {
        struct pollfd p = {.fd = d->fd, .events = POLLIN};
        poll(&p, 1, LOOK_US / 1000);
        fd = accept4(d->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
            rc = -errno;
        if (patient)
            wire_group_fresh(g);
        if (fd < 0 && rc == 0)
            rc = wire_may_wait(g);
    }
    if (rc)
        return err_set(e, rc, "%s: %s", d->where, wire_words(rc));
    wire_group_fresh(g);
    struct wire *w = wire_new(g, fd, !d->path);
    if (!w)
        return err_set(e, -ENOMEM, "out of memory");
    rc = t ? wire_tls_begin(w, t, NULL, e) : 0;
    if (rc)
        wire_close(w);
    else
        *out = w;
    return rc;
}

/* ---- Bytes ---- */

/* n: what a call that moved no byte returned. Return: 0: again, or -errno. */
static int may_retry(struct wire *w, ssize_t n) {
    int error = w->session ? (int)n : -errno;
    return error == -EAGAIN || error == -EINTR ? wire_may_wait(w->group) : error;
}

int wire_read(struct wire *w, void *to, size_t size) {
    uint8_t *p = to;
    if (atomic_load(&w->group->cut))
        return -ECANCELED;
    while (size) {
        ssize_t n = w->session ? wire_tls_recv(w, p, size) : recv(w->fd, p, size, 0);
        if (n == 0)
            return -EPIPE;
        if (n > 0) {
            p += n;
            size -= (size_t)n;
            wire_group_fresh(w->group);
            continue;
        }
        int rc = may_retry(w, n);
        if (rc)
            return rc;
    }
    return 0;
}

int wire_write(struct wire *w, const void *from, size_t size) {
    const uint8_t *p = from;
    if (atomic_load(&w->group->cut)) /* what has been written is no failure */
        return -ECANCELED;
    while (size) {
        ssize_t n =
            w->session ? wire_tls_send(w, p, size) : send(w->fd, p, size, MSG_NOSIGNAL);
        if (n > 0) {
            p += n;
            size -= (size_t)n;
            wire_group_fresh(w->group);
            atomic_fetch_add(&w->group->bytes, (uint64_t)n);
            continue;
        }
        int rc = may_retry(w, n);
        if (rc)
            return rc;
    }
    return 0;
}
