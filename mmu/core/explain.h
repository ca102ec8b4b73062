/* SPDX-License-Identifier: MIT */
/* What the parts of explain share: core/explain.c, and one in each of shadow/, tdp/ and
 * model/ (penumbra/explain.h). Nothing here has a side effect. */
#pragma once

#include "mmu/core/root.h"
#include "penumbra/explain.h"

/* A look through tables that lead into each other ends after so many entries. */
#define EXPLAIN_ENTRIES_MAX (1u << 27)

/* Which rule decided a probe of an access, and at which level. rc: stage_walk's. */
enum pn_rule explain_rule(const struct stage *s, const struct walk *w, int rc,
                          enum pn_access access, enum pn_tlb_mode mode, uint8_t *level);
/* The next step of x; NULL: there is no room for one. */
struct pn_step *explain_step(struct pn_explanation *x);
/* Begin x: the guest's walk, the memslot, TLBs, costs of walks with all mapped. *w: the walk,
 * whose levels below w->level are 0. Return: stage_walk's. */
int explain_guest(struct pn_mmu_vcpu *vcpu, pn_gva gva, struct walk *w,
                  struct pn_explanation *x);
/* Which gptes a walk of an access would write to: A everywhere, D in the leaf of a store. */
uint64_t explain_missing_ad(const struct stage *s, const struct walk *w, unsigned level,
                            enum pn_access access);
