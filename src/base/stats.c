/* SPDX-License-Identifier: MIT */
/* Names, kinds and meanings of the counters of stats.inc. */
#include "penumbra/stats.h"

#include <assert.h>

static const struct {
    const char *name, *doc;
    enum pn_stat_kind kind;
} stats[] = {
#define PN_STAT(name, kind, doc) {#name, doc, PN_STAT_KIND_##kind},
#include "penumbra/stats.inc"
};

const char *pn_stat_name(enum pn_stat id) {
    assert(id < PN_STAT_COUNT);
    return stats[id].name;
}

const char *pn_stat_doc(enum pn_stat id) {
    assert(id < PN_STAT_COUNT);
    return stats[id].doc;
}

enum pn_stat_kind pn_stat_kind(enum pn_stat id) {
    assert(id < PN_STAT_COUNT);
    return stats[id].kind;
}
