/* SPDX-License-Identifier: MIT */
/* The guest's network: see net.h. All calls are of who may touch devices. */
#include <arpa/inet.h>
#include <errno.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/late.h"
#include "machine/link.h"
#include "machine/net.h"
#include "machine/tap.h"

#define NETWORK   0x0a000200u /* 10.0.2.0 */
#define NETMASK   0xffffff00u
#define HOST      (NETWORK | 2)
#define NAMES     (NETWORK | 3)
#define GUEST     (NETWORK | 15)
#define NS_PER_MS 1000000
#define FRAME_MAX 65536u
#define FRAMES    64u /* at once, of a tap interface */

/* What of the library is used. */
#define CALLS                                                                            \
    CALL(add_hostfwd)                                                                    \
    CALL(cleanup)                                                                        \
    CALL(input)                                                                          \
    CALL(new)                                                                            \
    CALL(pollfds_fill)                                                                   \
    CALL(pollfds_poll)

static struct {
#define CALL(name) __typeof__(slirp_##name) *name;
    CALLS
#undef CALL
} slirp;

static int library_open(struct err *e) {
    static const struct late_call calls[] = {
#define CALL(name) {"slirp_" #name, &slirp.name},
        CALLS
#undef CALL
    };
    return late_open(SLIRP_SONAME, calls, sizeof(calls) / sizeof(calls[0]), e);
}

struct net {
    Slirp *slirp; /* NULL: there is a tap interface instead */
    int tap;      /* -1: none */
    unsigned mtu;
    struct clock *clock;
    struct virtio_net *card;
    struct machine *m;
    struct link link;
    struct pollfd *fd; /* in fill: to be filled in */
    const struct pollfd *polled;
    int fds, room;
};

/* ---- What libslirp calls ---- */

static ssize_t send_packet(const void *buf, size_t size, void *opaque) {
    struct net *n = opaque;
    if (n->card)
        virtio_net_receive(n->card, buf, size);
    return (ssize_t)size; /* what is lost is sent again */
}

static void guest_error(const char *text, void *opaque) {
}

static int64_t get_clock(void *opaque) {
    return (int64_t)clock_now(((struct net *)opaque)->clock);
}

static void *new_timer(SlirpTimerCb fn, void *fn_opaque, void *opaque) {
    struct clock_timer *t = calloc(1, sizeof(*t));
    if (t)
        clock_timer_init(t, fn, fn_opaque);
    return t;
}

static void free_timer(void *timer, void *opaque) {
    if (timer)
        clock_cancel(((struct net *)opaque)->clock, timer);
    free(timer);
}

static void set_timer(void *timer, int64_t ms, void *opaque) {
    if (timer)
        clock_arm(((struct net *)opaque)->clock, timer, (uint64_t)ms * NS_PER_MS);
}

static void poll_fd(int fd, void *opaque) {
}

static void notify(void *opaque) {
}

static const SlirpCb callbacks = {
    .send_packet = send_packet,
    .guest_error = guest_error,
    .clock_get_ns = get_clock,
    .timer_new = new_timer,
    .timer_free = free_timer,
    .timer_mod = set_timer,
    .register_poll_fd = poll_fd,
    .unregister_poll_fd = poll_fd,
    .notify = notify,
};

/* ---- Waiting ---- */

static const struct {
    int theirs;
    short ours;
} events[] = {{SLIRP_POLL_IN, POLLIN},
              {SLIRP_POLL_OUT, POLLOUT},
              {SLIRP_POLL_PRI, POLLPRI},
              {SLIRP_POLL_ERR, POLLERR},
              {SLIRP_POLL_HUP, POLLHUP}};
#define EVENTS (sizeof(events) / sizeof(events[0]))

static int add_poll(int fd, int wanted, void *opaque) {
    struct net *n = opaque;
    short set = 0;
    if (n->fds == n->room)
        return -1;
    for (unsigned i = 0; i < EVENTS; i++)
        if (wanted & events[i].theirs)
            set |= events[i].ours;
    n->fd[n->fds] = (struct pollfd){.fd = fd, .events = set};
    return n->fds++;
}

static int got(int at, void *opaque) {
    const struct net *n = opaque;
    int set = 0;
    if (at < 0 || at >= n->fds)
        return 0;
    for (unsigned i = 0; i < EVENTS; i++)
        if (n->polled[at].revents & events[i].ours)
            set |= events[i].theirs;
    return set;
}

static int fill(void *opaque, struct pollfd *fd, int room, uint64_t *ns) {
    struct net *n = opaque;
    uint32_t ms = UINT32_MAX;
    if (n->tap >= 0) {
        if (room)
            *fd = (struct pollfd){.fd = n->tap, .events = POLLIN};
        return room > 0;
    }
    n->fd = fd;
    n->room = room;
    n->fds = 0;
    slirp.pollfds_fill(n->slirp, &ms, add_poll, n);
    if (*ns / NS_PER_MS > ms)
        *ns = (uint64_t)ms * NS_PER_MS;
    return n->fds;
}

static void take_frames(struct net *n) {
    uint8_t frame[FRAME_MAX];
    for (unsigned i = 0; i < FRAMES; i++) {
        ssize_t size = read(n->tap, frame, sizeof(frame));
        if (size <= 0)
            return;
        if (n->card)
            virtio_net_receive(n->card, frame, (size_t)size);
    }
}

static void ready(void *opaque, const struct pollfd *fd, int count) {
    struct net *n = opaque;
    if (n->tap >= 0) {
        if (count && fd->revents)
            take_frames(n);
        return;
    }
    n->polled = fd;
    slirp.pollfds_poll(n->slirp, 0, got, n);
}

/* ---- Life ---- */

/* "[ADDRESS]:PORT" up to `end`. Return: what is behind it, or NULL. */
static const char *endpoint(const char *text, char end, uint32_t unset, struct in_addr *a,
                            uint16_t *port) {
    char address[INET_ADDRSTRLEN] = "", *stop;
    size_t length = strcspn(text, ":");
    if (text[length] != ':' || length >= sizeof(address))
        return NULL;
    memcpy(address, text, length);
    a->s_addr = htonl(unset);
    if (length && inet_pton(AF_INET, address, a) != 1)
        return NULL;
    text += length + 1;
    unsigned long n = strtoul(text, &stop, 10);
    if (stop == text || *stop != end || *text < '0' || *text > '9' || !n || n > 65535)
        return NULL;
    *port = (uint16_t)n;
    return stop + (end != 0);
}

int net_parse_forward(const char *text, struct net_config *c, struct err *e) {
    struct net_forward f = {.udp = !strncmp(text, "udp:", 4)};
    const char *p = !strncmp(text, "tcp:", 4) || f.udp ? text + 4 : NULL;
    if (p)
        p = endpoint(p, '-', INADDR_LOOPBACK, &f.host, &f.host_port);
    if (p)
        p = endpoint(p, 0, GUEST, &f.guest, &f.guest_port);
    if (!p)
        return err_set(e, -EINVAL, "hostfwd=%s: not as tcp::2222-:22", text);
    if (c->forwards == NET_FORWARDS_MAX)
        return err_set(e, -EINVAL, "more than %u of hostfwd", NET_FORWARDS_MAX);
    c->forward[c->forwards++] = f;
    return 0;
}

static int add_forward(struct net *n, const struct net_forward *f, struct err *e) {
    if (!slirp.add_hostfwd(n->slirp, f->udp, f->host, f->host_port, f->guest,
                           f->guest_port))
        return 0;
    return err_sys(e, errno ? -errno : -EADDRINUSE, "hostfwd: port %u of this host",
                   f->host_port);
}

int net_create(struct machine *m, const struct net_config *c, struct net **out,
               struct err *e) {
    const SlirpConfig cfg = {.version = 1,
                             .restricted = !c->open,
                             .in_enabled = true,
                             .if_mtu = NET_MTU,
                             .if_mru = NET_MTU,
                             .vnetwork = {htonl(NETWORK)},
                             .vnetmask = {htonl(NETMASK)},
                             .vhost = {htonl(HOST)},
                             .vhostname = "penumbra",
                             .vdhcp_start = {htonl(GUEST)},
                             .vnameserver = {htonl(NAMES)},
                             .disable_host_loopback = !c->open};
    int rc = *c->tap ? 0 : library_open(e);
    if (rc)
        return rc;
    struct net *n = calloc(1, sizeof(*n));
    if (!n)
        return err_set(e, -ENOMEM, "out of memory");
    n->tap = -1;
    n->mtu = NET_MTU;
    n->clock = &m->clock;
    n->m = m;
    n->link = (struct link){.fill = fill, .ready = ready, .opaque = n};
    link_add(m, &n->link);
    if (*c->tap)
        rc = tap_open(c->tap, &n->tap, &n->mtu, e);
    else if (!(n->slirp = slirp.new(&cfg, &callbacks, n)))
        rc = err_set(e, -ENOMEM, "libslirp does not begin");
    for (unsigned i = 0; rc == 0 && i < c->forwards; i++)
        rc = add_forward(n, &c->forward[i], e);
    if (rc)
        net_destroy(n);
    else
        *out = n;
    return rc;
}

void net_destroy(struct net *n) {
    if (n)
        link_remove(n->m, &n->link);
    if (n && n->slirp)
        slirp.cleanup(n->slirp);
    if (n && n->tap >= 0)
        close(n->tap);
    free(n);
}

void net_attach(struct net *n, struct virtio_net *card) {
    n->card = card;
}

static void from_guest(void *opaque, const void *frame, size_t size) {
    struct net *n = opaque;
    machine_look_soon(n->m);
    if (n->slirp)
        slirp.input(n->slirp, frame, (int)size);
    else
        (void)!write(n->tap, frame, size); /* a full queue loses frames, as a wire does */
}

struct dev_net net_device(struct net *n) {
    uint16_t mtu = n->mtu < NET_MTU ? (uint16_t)n->mtu : NET_MTU;
    return (struct dev_net){.send = from_guest, .opaque = n, .mtu = mtu};
}
