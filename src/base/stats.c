/* SPDX-License-Identifier: MIT */
/* Names and meanings of the counters of stats.inc. */
#include "penumbra/stats.h"

#include <assert.h>
#include <string.h>

static const struct {
    const char *name, *doc;
} stats[] = {
#define PN_STAT(name, doc) {#name, doc},
#include "penumbra/stats.inc"
#undef PN_STAT
};

const char *pn_stat_name(enum pn_stat id) {
    assert(id < PN_STAT_COUNT);
    return stats[id].name;
}

const char *pn_stat_doc(enum pn_stat id) {
    assert(id < PN_STAT_COUNT);
    return stats[id].doc;
}

bool pn_stat_modelled(enum pn_stat id) {
    return !strncmp(pn_stat_name(id), "model_", 6);
}
