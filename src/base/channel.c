/* SPDX-License-Identifier: MIT */
/* A listening socket and its one client. */
#define _GNU_SOURCE /* accept4 */
#include "base/channel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/wire.h"

#define TCP_PREFIX "tcp::"

struct channel {
    int listener, client; /* client -1: none */
    char *path;           /* of a Unix socket, to be removed; NULL: TCP */
    bool left; /* channel_write met a client that was gone: channel_take says so */
};

/* ---- Opening ---- */

/* Return: 1..65535, or 0: no port. */
static unsigned port_of(const char *where) {
    char *end;
    if (!strncmp(where, TCP_PREFIX, strlen(TCP_PREFIX)))
        where += strlen(TCP_PREFIX);
    if (!*where || strspn(where, "0123456789") != strlen(where))
        return 0;
    unsigned long port = strtoul(where, &end, 10);
    return port <= 65535 ? (unsigned)port : 0;
}

static int listen_tcp(unsigned port) {
    const struct sockaddr_in at = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)&at, sizeof(at)) || listen(fd, 1)) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

int channel_open(const char *where, struct channel **out, struct err *e) {
    unsigned port = port_of(where);
    bool tcp = port || !strncmp(where, TCP_PREFIX, strlen(TCP_PREFIX));
    if (!*where || (tcp && !port) ||
        (!tcp && strspn(where, "0123456789") == strlen(where)))
        return err_set(e, -EINVAL, "%s: neither a port from 1 to 65535 nor a path",
                       where);
    struct channel *c = calloc(1, sizeof(*c));
    if (!c || (!tcp && !(c->path = strdup(where)))) {
        free(c);
        return err_set(e, -ENOMEM, "out of memory");
    }
    c->client = -1;
    c->listener = tcp ? listen_tcp(port) : wire_listen_unix(where);
    if (c->listener < 0) {
        int rc = c->listener;
        free(c->path);
        free(c);
        return err_sys(e, rc, "cannot listen at %s", where);
    }
    *out = c;
    return 0;
}

void channel_close(struct channel *c) {
    if (!c)
        return;
    channel_drop(c);
    close(c->listener);
    if (c->path)
        unlink(c->path);
    free(c->path);
    free(c);
}

/* ---- Talking ---- */

void channel_drop(struct channel *c) {
    if (c->client >= 0)
        close(c->client);
    c->client = -1;
}

int channel_fd(const struct channel *c) {
    return c->client >= 0 ? c->client : c->listener;
}

bool channel_ready(const struct channel *c) {
    struct pollfd fd = {.fd = channel_fd(c), .events = POLLIN};
    return c->left || poll(&fd, 1, 0) > 0;
}

static enum channel_event welcome(struct channel *c) {
    int on = 1;
    c->client = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (c->client < 0)
        return CHANNEL_NONE;
    if (!c->path) /* small packets, each of which is waited for */
        setsockopt(c->client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return CHANNEL_CAME;
}

enum channel_event channel_take(struct channel *c, void *buf, size_t size, size_t *got) {
    *got = 0;
    if (c->left) {
        c->left = false;
        return CHANNEL_LEFT;
    }
    if (c->client < 0)
        return welcome(c);
    ssize_t n = recv(c->client, buf, size, 0);
    if (n > 0) {
        *got = (size_t)n;
        return CHANNEL_DATA;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return CHANNEL_NONE;
    channel_drop(c);
    return CHANNEL_LEFT;
}

int channel_write(struct channel *c, const void *buf, size_t size) {
    const char *p = buf;
    uint64_t until = host_ns() + CHANNEL_WRITE_NS;
    while (size && c->client >= 0) {
        ssize_t n = send(c->client, p, size, MSG_NOSIGNAL);
        if (n > 0) {
            p += n;
            size -= (size_t)n;
            continue;
        }
        uint64_t now = host_ns();
        struct pollfd fd = {.fd = c->client, .events = POLLOUT};
        if ((n < 0 && errno != EAGAIN && errno != EINTR) || now >= until) {
            channel_drop(c);
            c->left = true;
        } else
            poll(&fd, 1, (int)((until - now) / 1000000u) + 1);
    }
    return c->client >= 0 ? 0 : -ENOTCONN;
}
