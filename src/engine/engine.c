/* SPDX-License-Identifier: MIT */
/* The engines there are: one visible table. */
#include "penumbra/engine.h"

#include <string.h>

#include "engine/engines.h"

static const struct pn_engine_ops *const engines[] = {
    &engine_shadow,
    &engine_tdp,
    &engine_kvm,
};

const struct pn_engine_ops *pn_engine_at(unsigned i) {
    return i < sizeof(engines) / sizeof(engines[0]) ? engines[i] : NULL;
}

const struct pn_engine_ops *pn_engine_find(const char *name) {
    for (unsigned i = 0; pn_engine_at(i); i++)
        if (!strcmp(pn_engine_at(i)->name, name))
            return pn_engine_at(i);
    return NULL;
}
