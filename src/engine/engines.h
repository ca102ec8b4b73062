/* SPDX-License-Identifier: MIT */
/* The ops tables that engine.c lists, and what their files share. */
#ifndef ENGINE_ENGINES_H
#define ENGINE_ENGINES_H

#include "penumbra/engine.h"

struct cpu;

extern const struct pn_engine_ops engine_shadow; /* --mmu shadow */
extern const struct pn_engine_ops engine_tdp;    /* --mmu tdp */
extern const struct pn_engine_ops engine_kvm;    /* --mmu kvm */

/* state.c: the software CPU's state to and from the neutral one.
 * Return: 0, or -EINVAL when the state is none that a CPU can be in. */
int soft_state_get(struct cpu *cpu, struct pn_cpu_state *s);
int soft_state_set(struct cpu *cpu, const struct pn_cpu_state *s);

#endif
