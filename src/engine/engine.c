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

const struct pn_engine_ops *pn_engine_find(const char *name) {
    for (size_t i = 0; i < sizeof(engines) / sizeof(engines[0]); i++)
        if (strcmp(engines[i]->name, name) == 0)
            return engines[i];
    return NULL;
}
