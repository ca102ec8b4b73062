/* SPDX-License-Identifier: MIT */
/*
 * A console with several ports (VIRTIO 1.2, "Console Device"). Queues 0 and 1 receive and send
 * of port 0, 2 and 3 of the control messages, 4 and 5 of port 1, and so on.
 *
 * Invariants
 * 1. A buffer is sent only when the host has room for SEND_MOST bytes, all of it or, of a
 *    larger one, its first SEND_MOST bytes.
 * 2. What the driver still has to be told is bits of the state: no message is lost for want of a
 *    buffer.
 */
#include <string.h>

#include "dev/virtio_devices.h"

#define F_MULTIPORT 1u
#define SEND_MOST   CONSOLE_SEND_MOST

enum { CONTROL_IN = 2, CONTROL_OUT = 3 };

/* "Device Operation: Multiport Device Operation" */
enum {
    DEVICE_READY,
    DEVICE_ADD,
    DEVICE_REMOVE,
    PORT_READY,
    CONSOLE_PORT,
    RESIZE,
    PORT_OPEN,
    PORT_NAME,
};

struct control {
    uint32_t id;
    uint16_t event, value;
};

struct console_config {
    uint16_t cols, rows;
    uint32_t max_ports;
};

struct virtio_console {
    struct virtio v;
    struct virtio_console_config cfg;
    struct {
        struct virtio_state v;
        struct console_port {
            uint16_t owed;      /* a bit for each event that the driver is to hear */
            uint8_t guest_open; /* a program of the guest's has it open */
            uint8_t host_open;
        } port[CONSOLE_PORTS_MAX];
    } s;
};

static unsigned queue_of(unsigned port) {
    return port ? 2 + 2 * port : 0;
}

/* ---- Control messages ---- */

/* The next event that a port owes, in the order in which drivers want them. */
static int next_event(const struct console_port *p) {
    static const uint8_t order[] = {DEVICE_ADD, CONSOLE_PORT, PORT_NAME, PORT_OPEN};
    for (unsigned i = 0; i < sizeof(order); i++)
        if (p->owed >> order[i] & 1)
            return order[i];
    return -1;
}

static void tell(struct virtio_console *c) {
    struct vq_chain chain;
    bool told = false;
    if (!virtio_has(&c->v, F_MULTIPORT))
        return;
    for (unsigned port = 0; port < c->cfg.ports; port++) {
        struct console_port *p = &c->s.port[port];
        for (int event; (event = next_event(p)) >= 0; told = true) {
            if (!virtio_pop(&c->v, CONTROL_IN, &chain))
                goto end;
            struct {
                struct control c;
                char name[CONSOLE_NAME_MAX];
            } m = {{port, (uint16_t)event, 1}, ""};
            uint32_t size = sizeof(m.c);
            if (event == PORT_OPEN)
                m.c.value = p->host_open;
            if (event == PORT_NAME) {
                memcpy(m.name, c->cfg.port[port].name, CONSOLE_NAME_MAX);
                size += (uint32_t)strnlen(m.name, CONSOLE_NAME_MAX - 1) + 1;
            }
            p->owed &= (uint16_t) ~(1u << event);
            if (virtio_write(&c->v, CONTROL_IN, &chain, 0, &m, size) <
                (chain.in_size < size ? chain.in_size : size))
                return;
            virtio_push(&c->v, CONTROL_IN, &chain,
                        chain.in_size < size ? chain.in_size : size);
        }
    }
end:
    if (told)
        virtio_interrupt(&c->v, CONTROL_IN);
}

static void owe(struct virtio_console *c, unsigned port, unsigned event) {
    c->s.port[port].owed |= (uint16_t)(1u << event);
}

static void hear(struct virtio_console *c, const struct control *m) {
    if (m->event == DEVICE_READY && m->value == 1)
        for (unsigned port = 0; port < c->cfg.ports; port++)
            owe(c, port, DEVICE_ADD);
    if (m->id >= c->cfg.ports)
        return;
    struct console_port *p = &c->s.port[m->id];
    if (m->event == PORT_OPEN)
        p->guest_open = m->value != 0;
    if (m->event != PORT_READY || m->value != 1)
        return;
    owe(c, m->id, c->cfg.port[m->id].console ? CONSOLE_PORT : PORT_NAME);
    if (p->host_open)
        owe(c, m->id, PORT_OPEN);
}

static void hear_all(struct virtio_console *c) {
    struct vq_chain chain;
    struct control m;
    while (virtio_pop(&c->v, CONTROL_OUT, &chain)) {
        if (chain.out_size >= sizeof(m)) {
            if (virtio_read(&c->v, CONTROL_OUT, &chain, 0, &m, sizeof(m)) < sizeof(m))
                return;
            hear(c, &m);
        }
        virtio_push(&c->v, CONTROL_OUT, &chain, 0);
    }
    virtio_interrupt(&c->v, CONTROL_OUT);
    tell(c);
}

/* ---- Bytes ---- */

/* Return: false: the device is broken. */
static bool send(struct virtio_console *c, unsigned port, const struct vq_chain *chain) {
    const struct dev_console *host = &c->cfg.host;
    uint32_t size = chain->out_size < SEND_MOST ? chain->out_size : SEND_MOST;
    uint8_t buf[4096];
    for (uint32_t at = 0, n; at < size; at += n) {
        n = size - at < sizeof(buf) ? size - at : sizeof(buf);
        if (virtio_read(&c->v, queue_of(port) + 1, chain, at, buf, n) < n)
            return false;
        host->send(host->opaque, port, buf, n);
    }
    return true;
}

static void send_all(struct virtio_console *c, unsigned port) {
    const struct dev_console *host = &c->cfg.host;
    unsigned queue = queue_of(port) + 1;
    struct vq_chain chain;
    while (host->room(host->opaque, port) >= SEND_MOST &&
           virtio_pop(&c->v, queue, &chain)) {
        if (!send(c, port, &chain))
            return;
        virtio_push(&c->v, queue, &chain, 0);
    }
    virtio_interrupt(&c->v, queue);
}

static void serve(struct virtio *v, unsigned queue) {
    struct virtio_console *c = (struct virtio_console *)v;
    if (queue == CONTROL_IN)
        tell(c);
    else if (queue == CONTROL_OUT)
        hear_all(c);
    else if (queue & 1)
        send_all(c, queue < 2 ? 0 : queue / 2 - 1);
}

bool virtio_console_listens(struct virtio_console *c, unsigned port) {
    const struct console_port *p = &c->s.port[port];
    bool open =
        p->guest_open || c->cfg.port[port].console || !virtio_has(&c->v, F_MULTIPORT);
    return open && virtio_has_next(&c->v, queue_of(port));
}

size_t virtio_console_receive(struct virtio_console *c, unsigned port, const void *buf,
                              size_t size) {
    unsigned queue = queue_of(port);
    struct vq_chain chain;
    size_t done = 0;
    while (done < size && virtio_console_listens(c, port) &&
           virtio_pop(&c->v, queue, &chain)) {
        size_t n = size - done < chain.in_size ? size - done : chain.in_size;
        if (virtio_write(&c->v, queue, &chain, 0, (const uint8_t *)buf + done, n) < n)
            break;
        virtio_push(&c->v, queue, &chain, (uint32_t)n);
        done += n;
    }
    if (done)
        virtio_interrupt(&c->v, queue);
    return done;
}

void virtio_console_room(struct virtio_console *c, unsigned port) {
    if (virtio_has_next(&c->v, queue_of(port) + 1))
        send_all(c, port);
}

void virtio_console_connect(struct virtio_console *c, unsigned port, bool open) {
    if (c->s.port[port].host_open == open)
        return;
    c->s.port[port].host_open = open;
    owe(c, port, PORT_OPEN);
    tell(c);
}

/* ---- As a device ---- */

static void restart(struct virtio *v) {
    struct virtio_console *c = (struct virtio_console *)v;
    const struct console_config config = {.max_ports = c->cfg.ports};
    memcpy(v->s->config, &config, sizeof(config));
    for (unsigned port = 0; port < CONSOLE_PORTS_MAX; port++)
        c->s.port[port] = (struct console_port){.host_open = c->s.port[port].host_open};
}

static const struct virtio_kind kind = {
    .type = VIRTIO_CONSOLE,
    .class = 0x078000,
    .queues = VIRTIO_QUEUES_MAX,
    .features = 1u << F_MULTIPORT,
    .config_size = sizeof(struct console_config),
    .serve = serve,
    .reset = restart,
};

static int create(void *dev, const void *config) {
    struct virtio_console *c = dev;
    c->cfg = *(const struct virtio_console_config *)config;
    c->v.queues = queue_of(c->cfg.ports - 1) + 2;
    if (c->v.queues < 4)
        c->v.queues = 4;
    return virtio_attach(&c->v, &c->s.v, &kind, &c->cfg.virtio);
}

static bool check(const void *dev, const void *state) {
    const struct virtio_console *c = dev;
    const __typeof__(c->s) *s = state;
    for (unsigned port = 0; port < CONSOLE_PORTS_MAX; port++)
        if (s->port[port].guest_open > 1 || s->port[port].host_open > 1)
            return false;
    return virtio_check(dev, state);
}

static const struct dev_class console_class = {
    .name = "virtio_console",
    .version = 1,
    VIRTIO_CLASS(struct virtio_console),
    .check = check,
    .create = create,
    .reset = virtio_reset,
};

struct virtio_console *virtio_console_create(const struct dev_env *env,
                                             const struct virtio_console_config *c) {
    return dev_create(&console_class, env, c->virtio.slot, c);
}
