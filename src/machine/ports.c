/* SPDX-License-Identifier: MIT */
/* Sockets of a console's ports: see ports.h. */
#define _GNU_SOURCE /* accept4 */
#include "machine/ports.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/wire.h"
#include "machine/link.h"

#define OUT_MAX (2 * CONSOLE_SEND_MOST) /* bytes that wait for a slow reader */
#define IN_MOST 4096u                   /* taken at once */

struct ports {
    struct machine *m;
    struct link link;
    struct virtio_console *console;
    unsigned count;
    struct port {
        char path[DEVICE_SOCKET_MAX];
        int door, fd; /* -1: none */
        int polled;   /* its place among the descriptors; -1: it is not waited for */
        uint8_t *out;
        size_t out_count;
    } port[CONSOLE_PORTS_MAX];
};

/* ---- Bytes ---- */

static void hang_up(struct port *p) {
    close(p->fd);
    p->fd = -1;
    p->out_count = 0;
}

static void drain(struct port *p) {
    ssize_t n = send(p->fd, p->out, p->out_count, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
        p->out_count -= (size_t)n;
        memmove(p->out, p->out + n, p->out_count);
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        hang_up(p);
    }
}

static size_t room(void *opaque, unsigned port) {
    const struct port *p = &((struct ports *)opaque)->port[port];
    return p->fd < 0 ? SIZE_MAX : OUT_MAX - p->out_count;
}

static void from_guest(void *opaque, unsigned port, const void *buf, size_t size) {
    struct port *p = &((struct ports *)opaque)->port[port];
    if (p->fd < 0)
        return;
    machine_look_soon(((struct ports *)opaque)->m);
    memcpy(p->out + p->out_count, buf, size);
    p->out_count += size;
    drain(p);
}

/* As much as the guest has room for: what it leaves is left in the socket. */
static void to_guest(struct ports *s, unsigned port) {
    struct port *p = &s->port[port];
    uint8_t buf[IN_MOST];
    ssize_t n = recv(p->fd, buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT);
    if (n > 0) {
        size_t taken = virtio_console_receive(s->console, port, buf, (size_t)n);
        if (taken)
            (void)!recv(p->fd, buf, taken, MSG_DONTWAIT);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        hang_up(p);
    }
}

/* ---- As a link ---- */

static int fill(void *opaque, struct pollfd *fd, int most, uint64_t *ns) {
    struct ports *s = opaque;
    int count = 0;
    for (unsigned i = 0; i < s->count; i++) {
        struct port *p = &s->port[i];
        short events = p->fd < 0                               ? POLLIN
                       : virtio_console_listens(s->console, i) ? POLLIN
                                                               : 0;
        if (p->fd >= 0 && p->out_count)
            events |= POLLOUT;
        p->polled = -1;
        if (count == most)
            continue;
        p->polled = count;
        fd[count++] =
            (struct pollfd){.fd = p->fd < 0 ? p->door : p->fd, .events = events};
    }
    return count;
}

static void serve(struct ports *s, unsigned i, short events) {
    struct port *p = &s->port[i];
    if (p->fd < 0 && events & POLLIN) {
        p->fd = accept4(p->door, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    } else if (p->fd >= 0) {
        if (events & POLLOUT)
            drain(p);
        if (p->fd >= 0 && events & POLLIN)
            to_guest(s, i);
        else if (p->fd >= 0 && events & (POLLHUP | POLLERR))
            hang_up(p);
    }
}

static void ready(void *opaque, const struct pollfd *fd, int count) {
    struct ports *s = opaque;
    for (unsigned i = 0; i < s->count; i++) {
        if (s->port[i].polled >= 0)
            serve(s, i, fd[s->port[i].polled].revents);
        virtio_console_connect(s->console, i, s->port[i].fd >= 0);
        virtio_console_room(s->console, i);
    }
}

/* ---- Life ---- */

int ports_create(struct machine *m, const struct device_spec *d, struct ports **out,
                 struct err *e) {
    struct ports *s = calloc(1, sizeof(*s));
    int rc = s ? 0 : err_set(e, -ENOMEM, "out of memory");
    if (rc)
        return rc;
    s->m = m;
    s->link = (struct link){.fill = fill, .ready = ready, .opaque = s};
    for (; rc == 0 && s->count < d->ports; s->count++) {
        struct port *p = &s->port[s->count];
        p->fd = -1;
        p->out = malloc(OUT_MAX);
        p->door = p->out ? wire_listen_unix(d->port[s->count].path) : -ENOMEM;
        if (p->door < 0)
            rc = err_sys(e, p->door, "%s", d->port[s->count].path);
        else
            strcpy(p->path, d->port[s->count].path);
    }
    link_add(m, &s->link);
    if (rc)
        ports_destroy(s);
    else
        *out = s;
    return rc;
}

void ports_destroy(struct ports *s) {
    for (unsigned i = 0; s && i < s->count; i++) {
        struct port *p = &s->port[i];
        if (p->fd >= 0)
            close(p->fd);
        if (p->door >= 0) {
            close(p->door);
            unlink(p->path);
        }
        free(p->out);
    }
    if (s)
        link_remove(s->m, &s->link);
    free(s);
}

void ports_attach(struct ports *s, struct virtio_console *console) {
    s->console = console;
}

struct dev_console ports_device(struct ports *s) {
    return (struct dev_console){.room = room, .send = from_guest, .opaque = s};
}
