/* SPDX-License-Identifier: MIT */
/*
 * What all devices have in common: they are made and destroyed, and their states are
 * taken and put back, as their classes say (dev.h).
 *
 * Invariants
 * 1. A state is checked before the first byte of any device is overwritten.
 * 2. settle runs when every state is in: a device may look at another one.
 * 3. Timers that are armed again get the order that they had: two of them with one
 *    deadline fire as they would have without the copy.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/dev.h"

static void *state_of(const struct device *d) {
    return (char *)d + d->class->state_at;
}

static int add_ranges(struct device *d) {
    for (unsigned n = 0; n < d->class->range_count; n++) {
        const struct dev_range *r = &d->class->range[n];
        d->range[n] = r->space == DEV_PIO
                          ? dev_bus_add_pio(d->env.bus, r->base, r->size, r->ops, d)
                          : dev_bus_add_mmio(d->env.bus, r->base, r->size, r->ops, d);
        if (d->range[n] < 0)
            return d->range[n];
    }
    return 0;
}

void *dev_create(const struct dev_class *c, const struct dev_env *env, unsigned instance,
                 const void *config) {
    struct device *d = calloc(1, c->size);
    if (!d)
        return NULL;
    d->class = c;
    d->env = *env;
    d->instance = instance;
    clock_timer_init(&d->timer, c->expire, d);
    if (add_ranges(d) || (c->create && c->create(d, config))) {
        dev_bus_remove(env->bus, d);
        free(d);
        return NULL;
    }
    if (c->reset)
        c->reset(d);
    struct device **head = dev_bus_devices(env->bus);
    d->next = *head;
    *head = d;
    return d;
}

void dev_destroy(void *dev) {
    struct device *d = dev;
    if (!d)
        return;
    for (struct device **p = dev_bus_devices(d->env.bus); *p; p = &(*p)->next) {
        if (*p == d) {
            *p = d->next;
            break;
        }
    }
    dev_bus_remove(d->env.bus, d);
    clock_cancel(d->env.clock, &d->timer);
    if (d->class->destroy)
        d->class->destroy(d);
    free(d);
}

void dev_arm(struct device *d, uint64_t deadline) {
    clock_arm(d->env.clock, &d->timer, deadline);
}

void dev_line(struct device *d, uint8_t *line, unsigned gsi, bool level) {
    if (level == *line)
        return;
    *line = level;
    d->env.irq.set(d->env.irq.opaque, gsi, level);
}

void dev_ask(struct device *d, enum dev_request what, unsigned code) {
    if (d->env.host.request)
        d->env.host.request(d->env.host.opaque, what, code);
}

/* ---- States ---- */

static int check(const struct device *d, const void *state) {
    return !d->class->check || d->class->check(d, state) ? 0 : -EINVAL;
}

static void put(struct device *d, const void *state) {
    clock_cancel(d->env.clock, &d->timer);
    memcpy(state_of(d), state, d->class->state_size);
}

static void settle(struct device *d) {
    if (d->class->settle)
        d->class->settle(d);
}

void dev_save(const void *dev, void *state) {
    const struct device *d = dev;
    memcpy(state, state_of(d), d->class->state_size);
}

int dev_load(void *dev, const void *state) {
    struct device *d = dev;
    int rc = check(d, state);
    if (rc)
        return rc;
    put(d, state);
    settle(d);
    return 0;
}

/* The place of its timer among those that are armed; their number when it is not. */
static unsigned turn_of(const struct device *d) {
    unsigned n = 0;
    for (const struct clock_timer *t = d->env.clock->head; t && t != &d->timer;
         t = t->next)
        n++;
    return n;
}

static int by_turn(const void *a, const void *b) {
    const struct dev_record *x = a, *y = b;
    return (x->turn > y->turn) - (x->turn < y->turn);
}

struct dev_states *dev_bus_save(const struct dev_bus *bus) {
    const struct device *first = *dev_bus_devices((struct dev_bus *)bus);
    unsigned count = 0;
    for (const struct device *d = first; d; d = d->next)
        count++;
    struct dev_states *s = calloc(1, sizeof *s + count * sizeof s->record[0]);
    for (const struct device *d = first; s && d; d = d->next) {
        struct dev_record *r = &s->record[s->count];
        *r = (struct dev_record){d->class, d->instance, turn_of(d),
                                 malloc(d->class->state_size)};
        if (!r->state) {
            dev_states_free(s);
            return NULL;
        }
        s->count++;
        dev_save(d, r->state);
    }
    if (s)
        qsort(s->record, s->count, sizeof s->record[0], by_turn);
    return s;
}

void dev_bus_sleep(struct dev_bus *bus) {
    struct device *first = *dev_bus_devices(bus);
    for (struct device *d = first; d; d = d->next) {
        if (d->class->kept)
            continue;
        clock_cancel(d->env.clock, &d->timer);
        memset(state_of(d), 0, d->class->state_size);
        if (d->class->reset)
            d->class->reset(d);
    }
    for (struct device *d = first; d; d = d->next)
        if (!d->class->kept)
            settle(d);
    for (struct device *d = first; d; d = d->next)
        if (d->class->kept)
            d->class->kept(d);
}

void dev_states_free(struct dev_states *s) {
    for (unsigned n = 0; s && n < s->count; n++)
        free(s->record[n].state);
    free(s);
}

static struct device *find(struct dev_bus *bus, const struct dev_record *r) {
    struct device *d = *dev_bus_devices(bus);
    while (d && (d->class != r->class || d->instance != r->instance))
        d = d->next;
    return d;
}

/* Is there one record for each device, and does every device take its own? */
static int check_all(struct dev_bus *bus, const struct dev_states *s) {
    unsigned devices = 0;
    for (const struct device *d = *dev_bus_devices(bus); d; d = d->next)
        devices++;
    for (unsigned n = 0; n < s->count; n++) {
        const struct device *d = find(bus, &s->record[n]);
        int rc = d ? check(d, s->record[n].state) : -ENOENT;
        if (rc)
            return rc;
        for (unsigned other = 0; other < n; other++)
            if (find(bus, &s->record[other]) == d)
                return -ENOENT;
    }
    return devices == s->count ? 0 : -ENOENT;
}

int dev_bus_load(struct dev_bus *bus, const struct dev_states *s) {
    int rc = check_all(bus, s);
    if (rc)
        return rc;
    for (unsigned n = 0; n < s->count; n++)
        put(find(bus, &s->record[n]), s->record[n].state);
    for (unsigned n = 0; n < s->count; n++)
        settle(find(bus, &s->record[n]));
    return 0;
}
