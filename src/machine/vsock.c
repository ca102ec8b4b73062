/* SPDX-License-Identifier: MIT */
/* Connections of a guest's vsock: see vsock.h. */
#define _GNU_SOURCE /* accept4 */
#include "machine/vsock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/wire.h"
#include "machine/devices.h"
#include "machine/link.h"

#define PORT_FIRST (1u << 30) /* of this host's side, where programs connect */
#define LINE_MOST  32u
#define RESETS_MAX 64u /* that wait for a buffer; others are not sent */
#define DATA_MOST  4096u
#define NO_RECEIVE 1u /* flags of a shutdown */
#define NO_SEND    2u

enum how { FREE, GREETS, ASKED, OPEN };

struct connection {
    enum how how; /* GREETS: its line is read; ASKED: the guest has to answer */
    int fd, polled;
    uint32_t guest_port, host_port;
    uint32_t room, taken;     /* what the guest has said of its side */
    uint32_t sent;            /* to the guest */
    uint32_t got, told;       /* given to fd; what the guest knows of that */
    bool asks, answers, ends; /* owed to the guest: a request, an answer, an end */
    bool credit;
    bool finished, told_finished; /* the program here sends no more */
    uint32_t line_length, out_count;
    char line[LINE_MOST];
    uint8_t *out; /* VSOCK_ROOM bytes, which fd has not taken */
};

struct vsock {
    struct machine *m;
    struct link link;
    struct virtio_vsock *device;
    int door;
    uint32_t next_port;
    char path[DEVICE_SOCKET_MAX];
    struct connection c[VSOCK_CONNECTIONS_MAX];
    struct vsock_header reset[RESETS_MAX];
    unsigned resets;
};

/* ---- Connections ---- */

static struct connection *find(struct vsock *k, uint32_t guest_port, uint32_t host_port) {
    for (unsigned i = 0; i < VSOCK_CONNECTIONS_MAX; i++) {
        struct connection *c = &k->c[i];
        if (c->how > GREETS && c->guest_port == guest_port && c->host_port == host_port)
            return c;
    }
    return NULL;
}

static struct connection *new (struct vsock *k, int fd, enum how how) {
    for (unsigned i = 0; i < VSOCK_CONNECTIONS_MAX; i++) {
        struct connection *c = &k->c[i];
        if (c->how != FREE)
            continue;
        uint8_t *out = malloc(VSOCK_ROOM);
        if (!out)
            return NULL;
        *c = (struct connection){.how = how, .fd = fd, .polled = -1, .out = out};
        return c;
    }
    return NULL;
}

static void drop(struct connection *c) {
    close(c->fd);
    free(c->out);
    c->how = FREE;
}

static void drop_all(void *opaque) {
    struct vsock *k = opaque;
    for (unsigned i = 0; i < VSOCK_CONNECTIONS_MAX; i++)
        if (k->c[i].how != FREE)
            drop(&k->c[i]);
    k->resets = 0;
}

/* ---- To the guest ---- */

static struct vsock_header header(const struct connection *c, uint16_t op,
                                  uint32_t flags) {
    return (struct vsock_header){.from_cid = VSOCK_HOST_CID,
                                 .to_cid = VSOCK_GUEST_CID,
                                 .from_port = c->host_port,
                                 .to_port = c->guest_port,
                                 .type = VSOCK_STREAM,
                                 .op = op,
                                 .flags = flags,
                                 .room = VSOCK_ROOM,
                                 .taken = c->got};
}

static bool say(struct vsock *k, struct connection *c, uint16_t op, uint32_t flags) {
    const struct vsock_header h = header(c, op, flags);
    if (virtio_vsock_send(k->device, &h, NULL, 0) < 0)
        return false;
    c->told = c->got;
    return true;
}

/* There is no such connection, or no more. */
static void refuse(struct vsock *k, const struct vsock_header *h) {
    if (k->resets == RESETS_MAX || h->op == VSOCK_RESET)
        return;
    k->reset[k->resets++] = (struct vsock_header){.from_cid = h->to_cid,
                                                  .to_cid = h->from_cid,
                                                  .from_port = h->to_port,
                                                  .to_port = h->from_port,
                                                  .type = h->type,
                                                  .op = VSOCK_RESET};
}

/* What a connection owes the guest. */
static void pay(struct vsock *k, struct connection *c) {
    if (c->asks && say(k, c, VSOCK_REQUEST, 0))
        c->asks = false;
    if (c->answers && say(k, c, VSOCK_RESPONSE, 0))
        c->answers = false;
    if (c->how == OPEN && !c->answers &&
        (c->credit || c->got - c->told >= VSOCK_ROOM / 2) && say(k, c, VSOCK_CREDIT, 0))
        c->credit = false;
    if (c->finished && !c->told_finished && say(k, c, VSOCK_SHUTDOWN, NO_SEND))
        c->told_finished = true;
    if (c->ends && !c->answers && !c->out_count && say(k, c, VSOCK_RESET, 0))
        drop(c);
}

static void pay_all(struct vsock *k) {
    while (k->resets && virtio_vsock_send(k->device, &k->reset[0], NULL, 0) >= 0)
        memmove(k->reset, k->reset + 1, --k->resets * sizeof(k->reset[0]));
    for (unsigned i = 0; i < VSOCK_CONNECTIONS_MAX; i++)
        if (k->c[i].how > GREETS)
            pay(k, &k->c[i]);
}

static uint32_t may_send(const struct connection *c) {
    uint32_t out = c->sent - c->taken;
    return out < c->room ? c->room - out : 0;
}

static void to_guest(struct vsock *k, struct connection *c) {
    uint8_t buf[DATA_MOST];
    uint32_t most = may_send(c) < DATA_MOST ? may_send(c) : DATA_MOST;
    if (!most)
        return;
    ssize_t n = recv(c->fd, buf, most, MSG_PEEK | MSG_DONTWAIT);
    if (n > 0) {
        const struct vsock_header h = header(c, VSOCK_DATA, 0);
        int64_t taken = virtio_vsock_send(k->device, &h, buf, (uint32_t)n);
        if (taken > 0) {
            c->sent += (uint32_t)taken;
            c->told = c->got;
            (void)!recv(c->fd, buf, (size_t)taken, MSG_DONTWAIT);
        }
    } else if (n == 0) {
        c->finished = true;
    } else if (errno != EAGAIN && errno != EINTR) {
        c->ends = true;
    }
}

/* ---- To this host ---- */

static void drain(struct connection *c) {
    ssize_t n = send(c->fd, c->out, c->out_count, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
        c->out_count -= (uint32_t)n;
        c->got += (uint32_t)n;
        memmove(c->out, c->out + n, c->out_count);
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        c->out_count = 0;
        c->ends = true;
    }
}

/* A guest connects to a port of ours. */
static void guest_asks(struct vsock *k, const struct vsock_header *h) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int length =
        snprintf(at.sun_path, sizeof(at.sun_path), "%s_%" PRIu32, k->path, h->to_port);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct connection *c = NULL;
    if (fd >= 0 && length < (int)sizeof(at.sun_path) &&
        !connect(fd, (const struct sockaddr *)&at, sizeof(at)))
        c = new (k, fd, OPEN);
    if (!c) {
        if (fd >= 0)
            close(fd);
        refuse(k, h);
        return;
    }
    c->guest_port = h->from_port;
    c->host_port = h->to_port;
    c->room = h->room;
    c->taken = h->taken;
    c->answers = true;
}

static void guest_sends(struct vsock *k, struct connection *c,
                        const struct vsock_header *h, const void *data) {
    if (h->length > VSOCK_ROOM - c->out_count) {
        c->out_count = 0;
        c->ends = true;
        return;
    }
    memcpy(c->out + c->out_count, data, h->length);
    c->out_count += h->length;
    drain(c);
}

/* The guest has taken a connection that a program here asked for. */
static void guest_answers(struct connection *c) {
    char text[LINE_MOST];
    int length = snprintf(text, sizeof(text), "OK %" PRIu32 "\n", c->host_port);
    c->how = OPEN;
    if (send(c->fd, text, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT) != length)
        c->ends = true;
}

static bool room(void *opaque) {
    return ((struct vsock *)opaque)->resets < RESETS_MAX;
}

static void packet(void *opaque, const struct vsock_header *h, const void *data) {
    struct vsock *k = opaque;
    machine_look_soon(k->m);
    struct connection *c = find(k, h->from_port, h->to_port);
    if (h->from_cid != VSOCK_GUEST_CID || h->to_cid != VSOCK_HOST_CID ||
        h->type != VSOCK_STREAM || (!c && h->op != VSOCK_REQUEST) ||
        (c && h->op == VSOCK_REQUEST)) {
        refuse(k, h);
        return;
    }
    if (!c) {
        guest_asks(k, h);
        return;
    }
    c->room = h->room;
    c->taken = h->taken;
    if (h->op == VSOCK_RESPONSE && c->how == ASKED)
        guest_answers(c);
    else if (h->op == VSOCK_DATA && c->how == OPEN)
        guest_sends(k, c, h, data);
    else if (h->op == VSOCK_SHUTDOWN && h->flags & NO_SEND && h->flags & NO_RECEIVE)
        c->ends = true;
    else if (h->op == VSOCK_SHUTDOWN && h->flags & NO_SEND)
        shutdown(c->fd, SHUT_WR);
    else if (h->op == VSOCK_CREDIT_WANTED)
        c->credit = true;
    else if (h->op == VSOCK_RESET)
        drop(c);
}

/* ---- As a link ---- */

/* A program's first line: which port it wants. */
static void greet(struct vsock *k, struct connection *c) {
    char *end;
    ssize_t n = recv(c->fd, c->line + c->line_length, 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || c->line_length + 1 == LINE_MOST) {
        drop(c);
        return;
    }
    if (c->line[c->line_length++] != '\n')
        return;
    c->line[c->line_length - 1] = 0;
    unsigned long port =
        strncmp(c->line, "CONNECT ", 8) ? 0 : strtoul(c->line + 8, &end, 10);
    if (!port || port > UINT32_MAX || *end) {
        drop(c);
        return;
    }
    c->guest_port = (uint32_t)port;
    c->host_port = k->next_port++;
    c->how = ASKED;
    c->asks = true;
}

static int fill(void *opaque, struct pollfd *fd, int most, uint64_t *ns) {
    struct vsock *k = opaque;
    bool listens = virtio_vsock_listens(k->device);
    int count = 0;
    if (most)
        fd[count++] = (struct pollfd){.fd = k->door, .events = POLLIN};
    for (unsigned i = 0; i < VSOCK_CONNECTIONS_MAX; i++) {
        struct connection *c = &k->c[i];
        short events = c->out_count ? POLLOUT : 0;
        bool open = c->how == OPEN && !c->answers && !c->ends && !c->finished &&
                    listens && may_send(c);
        c->polled = -1;
        if (c->how == FREE || count == most)
            continue;
        if (open || c->how == GREETS)
            events |= POLLIN;
        if (!events) /* a hang-up alone would keep it from waiting */
            continue;
        c->polled = count;
        fd[count++] = (struct pollfd){.fd = c->fd, .events = events};
    }
    return count;
}

static void ready(void *opaque, const struct pollfd *fd, int count) {
    struct vsock *k = opaque;
    int in = count && fd[0].revents & POLLIN
                 ? accept4(k->door, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)
                 : -1;
    for (unsigned i = 0; i < VSOCK_CONNECTIONS_MAX; i++) {
        struct connection *c = &k->c[i];
        short events = c->how != FREE && c->polled >= 0 ? fd[c->polled].revents : 0;
        if (events & POLLOUT && c->out_count)
            drain(c);
        if (!(events & (POLLIN | POLLHUP | POLLERR)))
            continue;
        if (c->how == GREETS)
            greet(k, c);
        else if (c->how == OPEN && !c->answers && !c->ends && !c->finished)
            to_guest(k, c);
    }
    if (in >= 0 && !new (k, in, GREETS))
        close(in);
    pay_all(k);
    virtio_vsock_room(k->device);
}

/* ---- Life ---- */

int vsock_create(struct machine *m, const char *path, struct vsock **out, struct err *e) {
    struct vsock *k = calloc(1, sizeof(*k));
    if (!k)
        return err_set(e, -ENOMEM, "out of memory");
    k->m = m;
    k->next_port = PORT_FIRST;
    k->link = (struct link){.fill = fill, .ready = ready, .opaque = k};
    k->door = wire_listen_unix(path);
    if (k->door < 0) {
        int rc = err_sys(e, k->door, "%s", path);
        free(k);
        return rc;
    }
    strcpy(k->path, path);
    link_add(m, &k->link);
    *out = k;
    return 0;
}

void vsock_destroy(struct vsock *k) {
    if (!k)
        return;
    drop_all(k);
    link_remove(k->m, &k->link);
    close(k->door);
    unlink(k->path);
    free(k);
}

void vsock_attach(struct vsock *k, struct virtio_vsock *device) {
    k->device = device;
}

struct dev_vsock vsock_device(struct vsock *k) {
    return (struct dev_vsock){
        .room = room, .packet = packet, .restart = drop_all, .opaque = k};
}
