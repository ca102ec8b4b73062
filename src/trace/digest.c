/* SPDX-License-Identifier: MIT */
/* The digest of an event stream: one XXH3 stream per vCPU. No locks. */
#include <stddef.h>
#include <stdlib.h>

#include <xxhash.h>

#include "trace/trace.h"

struct trace_digest {
    unsigned vcpus;
    XXH3_state_t *stream[];
};

struct trace_digest *trace_digest_create(unsigned vcpus) {
    struct trace_digest *d = calloc(1, sizeof(*d) + vcpus * sizeof(d->stream[0]));
    if (!d)
        return NULL;
    for (; d->vcpus < vcpus; d->vcpus++) {
        XXH3_state_t *s = XXH3_createState();
        if (!s || XXH3_64bits_reset(s) != XXH_OK) {
            XXH3_freeState(s);
            trace_digest_destroy(d);
            return NULL;
        }
        d->stream[d->vcpus] = s;
    }
    return d;
}

void trace_digest_destroy(struct trace_digest *d) {
    if (!d)
        return;
    for (unsigned i = 0; i < d->vcpus; i++)
        XXH3_freeState(d->stream[i]);
    free(d);
}

void trace_digest_add(struct trace_digest *d, const struct pn_event_rec *rec, size_t n) {
    /* Runs of one vCPU go in at once: a ring's records all are. */
    for (size_t i = 0; i < n;) {
        size_t j = i + 1;
        while (j < n && rec[j].vcpu == rec[i].vcpu)
            j++;
        if (rec[i].vcpu < d->vcpus)
            XXH3_64bits_update(d->stream[rec[i].vcpu], &rec[i], (j - i) * sizeof(*rec));
        i = j;
    }
}

uint64_t trace_digest_value(const struct trace_digest *d) {
    XXH64_hash_t all = 0;
    for (unsigned i = 0; i < d->vcpus; i++) {
        XXH64_hash_t one = XXH3_64bits_digest(d->stream[i]);
        all = XXH3_64bits_withSeed(&one, sizeof(one), all);
    }
    return all;
}

uint64_t trace_end_check(const struct trace_end *end) {
    return XXH3_64bits(end, offsetof(struct trace_end, check));
}
