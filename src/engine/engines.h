/* SPDX-License-Identifier: MIT */
/* The ops tables that engine.c lists, and what their files share. */
#pragma once

#include "penumbra/engine.h"

extern const struct pn_engine_ops engine_shadow; /* --mmu shadow */
extern const struct pn_engine_ops engine_tdp;    /* --mmu tdp */
extern const struct pn_engine_ops engine_kvm;    /* --mmu kvm */
