/* SPDX-License-Identifier: MIT */
/*
 * The states of all devices, out of a machine that stands still and into another one.
 *
 * Invariants
 * 1. No timer is due while states are taken: what fires at that time has fired before.
 * 2. The clock of the other machine shows the same time before states come in: they name
 *    times of that clock.
 */
#include <errno.h>
#include <stdlib.h>

#include "machine/state.h"

struct machine_devices {
    uint64_t now;
    uint32_t lines; /* levels of the gsis */
    struct dev_states *states;
};

int machine_save_devices(struct machine *m, struct machine_devices **out) {
    if (m->ops->threaded)
        return -ENOTSUP; /* it holds the interrupt controllers, and its time goes on */
    if (m->sleep != AWAKE)
        return -ENOTSUP; /* no device says so */
    struct machine_devices *d = calloc(1, sizeof(*d));
    if (!d)
        return -ENOMEM;
    clock_run(&m->clock);
    d->now = clock_now(&m->clock);
    d->lines = m->lines;
    d->states = dev_bus_save(m->bus);
    if (!d->states) {
        free(d);
        return -ENOMEM;
    }
    *out = d;
    return 0;
}

int machine_load_devices(struct machine *m, const struct machine_devices *d) {
    if (m->ops->threaded)
        return -ENOTSUP;
    if (clock_now(&m->clock) > d->now)
        return -EINVAL;
    m->ops->skip(m->engine, d->now);
    int rc = dev_bus_load(m->bus, d->states);
    if (rc == 0)
        m->lines = d->lines;
    return rc;
}

void machine_devices_free(struct machine_devices *d) {
    if (d)
        dev_states_free(d->states);
    free(d);
}
