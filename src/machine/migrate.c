/* SPDX-License-Identifier: MIT */
/*
 * A migration as the machine's own thread sees it: it begins one, and does what the thread that
 * talks to the destination asks for whenever the machine stands.
 *
 * Invariants
 * 1. The machine and its dirty log are touched by the machine's own thread alone, while no vCPU
 *    runs; guest memory is read by others, too.
 * 2. A harvest is committed when all of it has been sent (migrate_source.c asks for the next
 *    one only then).
 */
#include "machine/migrate.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/thread.h"
#include "dev/virtio_devices.h"
#include "machine/history.h"
#include "machine/migrate_source.h"
#include "machine/pci.h"

#define THROTTLE_NS 20000000u /* the guest runs and stands within so long */

static const char *const compressions[] = {"none", "lz4", "zstd"};
static const char *const phases[] = {"none",    "connects", "copies", "stopped",
                                     "follows", "failed",   "moved",  "unsure"};

const char *migrate_compression_name(unsigned i) {
    return i < sizeof(compressions) / sizeof(compressions[0]) ? compressions[i] : NULL;
}

const char *migrate_phase_name(enum migrate_phase p) {
    return phases[p];
}

void migrate_options_default(struct migrate_options *o) {
    *o = (struct migrate_options){
        .streams = 1, .downtime_ns = 300000000u, .stall_ns = MIGRATE_STALL_NS};
}

/* ---- What is written ---- */

/* By the run's own log, or by the host's kernel. Return: 0; -ENOSYS: by nobody; or -errno. */
static int track(struct migration *g) {
    static const enum pn_dirty_tracker host[] = {PN_TRACKER_SCAN, PN_TRACKER_UFFD};
    struct pn_memslot slot[MACHINE_SLOTS];
    struct machine *m = g->m;
    const char *huge = m->cfg.hugepages;
    if (m->dirty)
        return machine_base_begin(m, &g->base);
    int rc = -ENOSYS;
    if (huge && (!strcmp(huge, "2M") || !strcmp(huge, "1G")))
        return rc; /* which the kernel protects as a whole */
    unsigned count = machine_ram_slots(m, slot);
    for (unsigned i = 0; rc && i < sizeof(host) / sizeof(host[0]); i++)
        rc = pn_dirty_open(m->ops, m->engine, host[i], slot, count, &g->log);
    if (rc == 0 && (rc = pn_dirty_attach(g->log, &g->since))) {
        pn_dirty_close(g->log);
        g->log = NULL;
    }
    return rc;
}

static void untrack(struct migration *g) {
    machine_base_drop(g->base);
    pn_dirty_close(g->log);
    g->base = NULL;
    g->log = NULL;
}

/* The pages of RAM that were written; slots are whole words (machine_dirty.c). Return: 0 and
 * the bitmap, or -errno. */
static int written(struct migration *g, const uint64_t **ram) {
    const uint64_t *window;
    if (g->base) {
        if (g->harvested)
            machine_base_taken(g->base);
        return machine_base_changed(g->base, ram, &window);
    }
    if (g->harvested)
        pn_dirty_commit(g->since);
    long pages = pn_dirty_harvest(g->since);
    *ram = pages < 0 ? NULL : pn_dirty_bitmap(g->since, 0);
    return pages < 0 ? (int)pages : 0;
}

static int harvest(struct migration *g, bool last) {
    struct migrate_pages *p = &g->sending.pages;
    const uint64_t *ram = NULL;
    size_t words = (p->ram + 63) / 64;
    int rc = g->base || g->log ? written(g, &ram) : 0;
    if (rc)
        return rc;
    g->harvested = true;
    for (size_t w = 0; ram && w < words; w++) {
        g->sending.todo[w] |= ram[w];
        g->sending.free[w] &= ~ram[w];
    }
    p->window = g->m->window.base;
    for (uint64_t page = p->ram; last && p->window && page < p->all; page++)
        g->sending.todo[page / 64] |= 1ull << page % 64;
    return 0;
}

/* ---- Pages that the guest says are free ---- */

/* What it says counts from one harvest to the next: what it writes afterwards is in the next. */
static void ask_hints(struct migration *g, enum virtio_balloon_hints what) {
    if (what == HINTS_ANEW || g->hints)
        g->hints = machine_ask_hints(g->m, what) && what == HINTS_ANEW;
}

void machine_migrate_free(struct machine *m, uint64_t page, uint64_t count) {
    struct migration *g = m->migration;
    uint64_t n = 0;
    if (!g || !g->hints)
        return;
    for (; count && page < g->sending.pages.ram; page++, count--)
        n += migrate_sending_skip(&g->sending, page);
    pthread_mutex_lock(&g->lock);
    g->p.free += n;
    pthread_mutex_unlock(&g->lock);
}

/* ---- Beginning ---- */

static char *hello(struct machine *m, const struct migrate_options *o, uint64_t session,
                   struct err *e) {
    json_t *machine = snap_config(m, e);
    if (!machine)
        return NULL;
    json_t *j = json_pack("{s:s, s:s, s:o, s:i, s:b, s:o}", "schema", MIGRATE_SCHEMA,
                          "mmu", m->ops->name, "machine", machine, "streams",
                          (int)o->streams, "postcopy", o->postcopy, "session",
                          json_sprintf("%016llx", (unsigned long long)session));
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    if (!text)
        err_set(e, -ENOMEM, "out of memory");
    return text;
}

static void destroy(struct migration *g) {
    ask_hints(g, HINTS_DONE);
    untrack(g);
    pthread_mutex_destroy(&g->sending.lock);
    pthread_cond_destroy(&g->sending.change);
    migrate_pages_close(&g->sending.pages);
    free(g->sending.todo);
    free(g->sending.free);
    if (g->event >= 0)
        close(g->event);
    wire_tls_close(g->tls);
    pthread_mutex_destroy(&g->lock);
    pthread_cond_destroy(&g->change);
    free(g->state);
    free(g->hello);
    free(g->to);
    free(g->tls_dir);
    free(g);
}

static int may_begin(struct machine *m, const char *to, const struct migrate_options *o,
                     struct err *e) {
    const struct migration *old = m->migration;
    if (old && old->p.phase < MIGRATE_FAILED)
        return err_set(e, -EBUSY, "a migration is on its way: migrate cancel");
    if (old && old->p.phase != MIGRATE_FAILED && old->p.phase != MIGRATE_UNSURE)
        return err_set(e, -EBUSY, "the guest has gone");
    if (machine_history_kept(m))
        return err_set(e, -ENOTSUP, "a guest with --checkpoints cannot be moved");
    int rc = migrate_devices(m->cfg.devices, e);
    if (rc)
        return rc;
    if (m->bios)
        return err_set(e, -ENOTSUP, "a guest with --firmware cannot be moved");
    if (!o->streams || o->streams > MIGRATE_STREAMS_MAX)
        return err_set(e, -EINVAL, "from 1 to %u streams", MIGRATE_STREAMS_MAX);
    rc = wire_check(to, e);
    return rc ? rc : snap_can_be_saved(m, e);
}

static int begin(struct migration *g, struct err *e) {
    struct machine *m = g->m;
    struct migrate_pages *p = &g->sending.pages;
    g->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (g->event < 0 || !g->to ||
        getrandom(&g->session[0], sizeof(g->session[0]), 0) != sizeof(g->session[0]) ||
        migrate_pages_open(p, m->cfg.ram / PN_PAGE_SIZE, m->cfg.window) ||
        !(g->sending.todo = calloc(migrate_words(p), sizeof(uint64_t))) ||
        !(g->sending.free = calloc(migrate_words(p), sizeof(uint64_t))))
        return err_set(e, -ENOMEM, "out of memory");
    for (uint64_t page = 0; page < p->ram; page++)
        g->sending.todo[page / 64] |= 1ull << page % 64;
    p->base = m->ram.base;
    p->window = m->window.base;
    g->sending.group = &g->group;
    g->sending.compression = g->o.compression;
    g->sending.streams = g->o.streams;
    g->hello = hello(m, &g->o, g->session[0], e);
    int rc = g->hello ? 0 : -EINVAL;
    if (rc == 0 && g->o.tls)
        rc = wire_tls_open(g->o.tls, false, &g->tls, e);
    if (rc == 0) {
        rc = track(g);
        if (rc == -ENOSYS || rc == -EPERM) /* then the guest stands for all of it */
            rc = 0;
        else if (rc)
            err_sys(e, rc, "the dirty log");
        else
            ask_hints(g, HINTS_ANEW);
    }
    return rc;
}

static int start(struct migration *g) {
    int rc = thread_start(&g->thread, migrate_source, g);
    g->started = rc == 0;
    return rc;
}

int machine_migrate(struct machine *m, const char *to, const struct migrate_options *o,
                    struct err *e) {
    int rc = may_begin(m, to, o, e);
    if (rc == 0)
        rc = machine_memory_whole(m, e);
    struct migration *g = rc ? NULL : calloc(1, sizeof(*g));
    if (rc)
        return rc;
    if (!g)
        return err_set(e, -ENOMEM, "out of memory");
    machine_migrate_end(m);
    g->m = m;
    g->o = *o;
    g->to = strdup(to);
    g->tls_dir = o->tls ? strdup(o->tls) : NULL;
    g->o.tls = g->tls_dir;
    g->began = host_ns();
    g->p.phase = MIGRATE_CONNECTS;
    g->event = -1;
    wire_group_init(&g->group, o->stall_ns);
    pthread_mutex_init(&g->lock, NULL);
    pthread_mutex_init(&g->sending.lock, NULL);
    pthread_cond_init(&g->sending.change, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&g->change, &monotonic);
    pthread_condattr_destroy(&monotonic);
    rc = begin(g, e);
    if (rc == 0 && (rc = start(g)))
        err_sys(e, rc, "a thread for the migration");
    if (rc)
        destroy(g);
    else
        m->migration = g;
    return rc;
}

void machine_migrate_end(struct machine *m) {
    struct migration *g = m->migration;
    if (!g)
        return;
    pthread_mutex_lock(&g->lock);
    g->stop = true;
    pthread_cond_broadcast(&g->change);
    pthread_mutex_unlock(&g->lock);
    if (!g->over)
        wire_cut(&g->group);
    if (g->started)
        pthread_join(g->thread, NULL);
    destroy(g);
    m->migration = NULL;
}

int machine_migrate_cancel(struct machine *m, struct err *e) {
    struct migration *g = m->migration;
    int rc = 0;
    if (!g)
        return err_set(e, -EINVAL, "no migration is on its way");
    pthread_mutex_lock(&g->lock);
    if (g->p.phase >= MIGRATE_FAILED)
        rc = err_set(e, -EINVAL, "no migration is on its way");
    else if (g->p.phase == MIGRATE_FOLLOWS)
        rc = err_set(e, -EINVAL, "the guest runs over there");
    else
        g->stop = true;
    pthread_cond_broadcast(&g->change);
    pthread_mutex_unlock(&g->lock);
    if (rc == 0)
        wire_cut(&g->group);
    return rc;
}

struct migrate_progress machine_migrate_progress(const struct machine *m) {
    struct migration *g = m->migration;
    if (!g)
        return (struct migrate_progress){.phase = MIGRATE_NONE};
    pthread_mutex_lock(&g->sending.lock);
    uint64_t pages = g->sending.sent, zeros = g->sending.zeros;
    pthread_mutex_unlock(&g->sending.lock);
    pthread_mutex_lock(&g->lock);
    struct migrate_progress p = g->p;
    if (!g->over)
        p.total_ns = host_ns() - g->began;
    pthread_mutex_unlock(&g->lock);
    p.pages = pages;
    p.zeros = zeros;
    p.bytes = atomic_load(&g->group.bytes);
    return p;
}

/* ---- While it is on its way ---- */

/* Is it time to stand, as throttle wants? Under the lock. */
static bool slows(const struct migration *g) {
    return g->p.throttle && !g->over && host_ns() >= g->slow_at;
}

bool machine_migrate_asks(struct machine *m) {
    struct migration *g = m->migration;
    if (!g)
        return false;
    pthread_mutex_lock(&g->lock);
    bool asks = g->want != WANT_NOTHING || slows(g) || (g->over && !g->told);
    pthread_mutex_unlock(&g->lock);
    return asks;
}

int machine_migrate_fd(const struct machine *m) {
    return m->migration ? m->migration->event : -1;
}

bool machine_migrate_holds(const struct machine *m) {
    struct migration *g = m->migration;
    if (!g)
        return false;
    pthread_mutex_lock(&g->lock);
    bool holds = g->holds;
    pthread_mutex_unlock(&g->lock);
    return holds;
}

/* Not under the lock: the other thread waits for it alone. */
static void give(struct migration *g, enum migrate_want want) {
    char line[sizeof(g->want_line)] = "";
    struct err e = {line, sizeof(line)};
    bool last = want == WANT_LAST;
    uint64_t now = host_ns();
    int rc = last ? snap_can_be_saved(g->m, &e) : 0;
    if (rc == 0 && last)
        ask_hints(g, HINTS_DONE); /* which the guest hears over there */
    if (rc == 0 && last) { /* before the harvest: whoever reads it may write memory */
        free(g->state);
        g->state = migrate_state_pack(g->m, &g->state_size, &e);
        rc = g->state ? 0 : -EIO;
    }
    if (rc == 0 && (rc = harvest(g, last)))
        err_sys(&e, rc, "the dirty log");
    else if (rc == 0 && !last && g->hints)
        ask_hints(g, HINTS_ANEW);
    pthread_mutex_lock(&g->lock);
    g->want_rc = rc;
    memcpy(g->want_line, line, sizeof(line));
    g->holds = last && rc == 0 && !g->over;
    g->stood = last ? now : g->stood;
    g->want = WANT_NOTHING;
    pthread_cond_broadcast(&g->change);
    pthread_mutex_unlock(&g->lock);
}

bool machine_migrate_serve(struct machine *m) {
    struct migration *g = m->migration;
    uint64_t ignored, now = host_ns();
    if (!g)
        return false;
    (void)!read(g->event, &ignored, sizeof(ignored));
    pthread_mutex_lock(&g->lock);
    enum migrate_want want = g->want;
    if (slows(g)) {
        uint64_t stands = THROTTLE_NS / 100 * g->p.throttle;
        g->slow_until = now + stands;
        g->slow_at = now + THROTTLE_NS;
    }
    pthread_mutex_unlock(&g->lock);
    if (want != WANT_NOTHING)
        give(g, want);
    pthread_mutex_lock(&g->lock);
    bool over = g->over, holds = g->holds || (!over && now < g->slow_until);
    enum migrate_phase phase = g->p.phase;
    pthread_mutex_unlock(&g->lock);
    if (over) {
        ask_hints(g, HINTS_DONE);
        untrack(g);
    }
    if (over && phase == MIGRATE_MOVED)
        machine_end_with(m, END_MIGRATED, 0);
    return holds;
}

void machine_migrate_wait(struct machine *m, uint64_t ns) {
    struct pollfd p = {.fd = machine_migrate_fd(m), .events = POLLIN};
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    ppoll(&p, 1, &t, NULL);
}

bool machine_migrate_ended(struct machine *m, struct migrate_progress *p) {
    struct migration *g = m->migration;
    if (!g || g->told)
        return false;
    pthread_mutex_lock(&g->lock);
    g->told = g->over;
    pthread_mutex_unlock(&g->lock);
    *p = machine_migrate_progress(m);
    return g->told;
}

int migrate_ask(struct migration *g, enum migrate_want want, struct err *e) {
    const uint64_t one = 1;
    pthread_mutex_lock(&g->lock);
    g->want = want;
    (void)!write(g->event, &one, sizeof(one));
    machine_ask(g->m);
    while (g->want != WANT_NOTHING && !g->stop) {
        struct timespec until = host_in_ns(CLOCK_MONOTONIC, g->group.stall_ns / 4);
        if (pthread_cond_timedwait(&g->change, &g->lock, &until) == ETIMEDOUT) {
            pthread_mutex_unlock(&g->lock); /* the peer hears of us meanwhile */
            int rc = migrate_put(&g->control, MIGRATE_ALIVE, NULL, 0, e);
            pthread_mutex_lock(&g->lock);
            if (rc) {
                pthread_mutex_unlock(&g->lock);
                return rc;
            }
        }
    }
    int rc = g->want != WANT_NOTHING ? err_set(e, -ECANCELED, "cancelled")
             : g->want_rc            ? err_set(e, g->want_rc, "%s", g->want_line)
                                     : 0;
    pthread_mutex_unlock(&g->lock);
    return rc;
}

void migrate_let_go(struct migration *g) {
    const uint64_t one = 1;
    pthread_mutex_lock(&g->lock);
    g->holds = false;
    g->want = WANT_NOTHING;
    pthread_mutex_unlock(&g->lock);
    (void)!write(g->event, &one, sizeof(one));
    machine_ask(g->m);
}
