/* SPDX-License-Identifier: MIT */
/* What a machine has outside: see link.h. */
#define _GNU_SOURCE /* ppoll */
#include "machine/link.h"

void link_add(struct machine *m, struct link *l) {
    l->next = m->links;
    m->links = l;
}

void link_remove(struct machine *m, struct link *l) {
    for (struct link **p = &m->links; *p; p = &(*p)->next) {
        if (*p == l) {
            *p = l->next;
            break;
        }
    }
}

bool machine_has_links(const struct machine *m) {
    return m->links;
}

/* Whoever looks at the console waits for the links, too, unless nobody takes its input. */
static void wait_for(struct machine *m, struct pollfd *fd, unsigned count, uint64_t ns) {
    const struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    if (ns && m->cfg.idle && m->input_count < sizeof(m->input))
        m->cfg.idle(m->cfg.opaque, ns, fd, count);
    else if (ppoll(fd, count, &t, NULL) <= 0)
        for (unsigned i = 0; i < count; i++)
            fd[i].revents = 0;
}

bool machine_poll_links(struct machine *m, uint64_t ns) {
    struct pollfd fd[LINK_FDS_MAX];
    int count = 0, ready = 0;
    if (!m->links)
        return false;
    for (struct link *l = m->links; l; count += l->count, l = l->next)
        l->count = l->fill(l->opaque, fd + count, LINK_FDS_MAX - count, &ns);
    wait_for(m, fd, (unsigned)count, ns);
    for (int i = 0; i < count; i++)
        ready += fd[i].revents != 0;
    count = 0;
    for (struct link *l = m->links; l; count += l->count, l = l->next)
        l->ready(l->opaque, fd + count, l->count);
    return ready > 0;
}
