/* SPDX-License-Identifier: MIT */
/*
 * One tracker, several consumers (penumbra/dirty.h).
 *
 * Invariant: `pending` of a consumer holds what the tracker gave since that consumer's
 * last harvest; `result` is the last harvest of whoever asked last.
 */
#include "penumbra/dirty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "penumbra/engine.h"

static const struct {
    const char *name, *doc;
} trackers[PN_TRACKERS] = {
#define PN_TRACKER(id, name, doc) [PN_TRACKER_##id] = {name, doc},
#include "penumbra/trackers.inc"
};

const char *pn_dirty_name(unsigned tracker) {
    return tracker < PN_TRACKERS ? trackers[tracker].name : NULL;
}

void pn_dirty_print(FILE *out) {
    const struct pn_engine_ops *ops;
    for (int t = PN_TRACKER_OFF + 1; t < PN_TRACKERS; t++) {
        const char *between = ": under ";
        fprintf(out, "%-8s %s", trackers[t].name, trackers[t].doc);
        for (unsigned i = 0; (ops = pn_engine_at(i)); i++)
            if (ops->has_tracker(t)) {
                fprintf(out, "%s%s", between, ops->name);
                between = ", ";
            }
        fputc('\n', out);
    }
}

struct log_slot {
    uint32_t id;
    size_t words;
    uint64_t *result;
    uint64_t *pending[PN_DIRTY_CONSUMERS_MAX]; /* NULL: no such consumer */
};

struct pn_dirty_log {
    const struct pn_engine_ops *ops;
    struct pn_engine *engine;
    unsigned count;
    struct log_slot slot[];
};

void pn_dirty_close(struct pn_dirty_log *log) {
    for (unsigned i = 0; log && i < log->count; i++) {
        free(log->slot[i].result);
        for (unsigned c = 0; c < PN_DIRTY_CONSUMERS_MAX; c++)
            free(log->slot[i].pending[c]);
    }
    free(log);
}

int pn_dirty_open(const struct pn_engine_ops *ops, struct pn_engine *engine,
                  const struct pn_memslot *slots, unsigned count,
                  struct pn_dirty_log **out) {
    struct pn_dirty_log *log = calloc(1, sizeof(*log) + count * sizeof(log->slot[0]));
    if (!log)
        return -ENOMEM;
    log->ops = ops;
    log->engine = engine;
    for (; log->count < count; log->count++) {
        struct log_slot *s = &log->slot[log->count];
        s->id = slots[log->count].id;
        s->words = (slots[log->count].size / PN_PAGE_SIZE + 63) / 64;
        s->result = calloc(s->words, sizeof(uint64_t));
        if (!s->result) {
            pn_dirty_close(log);
            return -ENOMEM;
        }
    }
    *out = log;
    return 0;
}

int pn_dirty_attach(struct pn_dirty_log *log) {
    int c = 0;
    while (c < (int)PN_DIRTY_CONSUMERS_MAX && log->count && log->slot[0].pending[c])
        c++;
    if (c == PN_DIRTY_CONSUMERS_MAX)
        return -ENOSPC;
    for (unsigned i = 0; i < log->count; i++) {
        log->slot[i].pending[c] = calloc(log->slot[i].words, sizeof(uint64_t));
        if (!log->slot[i].pending[c]) {
            pn_dirty_detach(log, c);
            return -ENOMEM;
        }
    }
    return c;
}

void pn_dirty_detach(struct pn_dirty_log *log, int consumer) {
    for (unsigned i = 0; i < log->count; i++) {
        free(log->slot[i].pending[consumer]);
        log->slot[i].pending[consumer] = NULL;
    }
}

/* Add the tracker's pages to every consumer but one, and that one's to the result. */
static long distribute(struct log_slot *s, int consumer) {
    long pages = 0;
    for (unsigned c = 0; c < PN_DIRTY_CONSUMERS_MAX; c++)
        for (size_t w = 0; s->pending[c] && (int)c != consumer && w < s->words; w++)
            s->pending[c][w] |= s->result[w];
    for (size_t w = 0; w < s->words; w++) {
        s->result[w] |= s->pending[consumer][w];
        pages += __builtin_popcountll(s->result[w]);
    }
    memset(s->pending[consumer], 0, s->words * sizeof(uint64_t));
    return pages;
}

long pn_dirty_harvest(struct pn_dirty_log *log, int consumer) {
    long pages = 0;
    for (unsigned i = 0; i < log->count; i++) {
        struct log_slot *s = &log->slot[i];
        memset(s->result, 0, s->words * sizeof(uint64_t));
        long rc = log->ops->dirty_harvest(log->engine, s->id, s->result, s->words);
        if (rc < 0)
            return rc;
        pages += distribute(s, consumer);
    }
    return pages;
}

const uint64_t *pn_dirty_bitmap(const struct pn_dirty_log *log, unsigned slot_index) {
    return log->slot[slot_index].result;
}
