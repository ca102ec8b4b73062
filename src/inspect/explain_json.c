/* SPDX-License-Identifier: MIT */
/* One address explained for a program (explain.h). Addresses and entries are text, "0x...":
 * JSON's numbers do not hold 64 bits everywhere. */
#include <inttypes.h>

#include "inspect/explain.h"
#include "trace/trace.h"

static json_t *hex(uint64_t v) {
    return json_sprintf("0x%" PRIx64, v);
}

static json_t *words(unsigned type, uint64_t v) {
    char buf[WORDS_MAX];
    return json_string(words_of(type, v, buf));
}

static json_t *entry_json(const struct pn_explanation *x, const struct pn_step *s) {
    char buf[256] = "";
    FILE *f = fmemopen(buf, sizeof(buf), "w");
    if (f) {
        entry_print(x, s, f);
        fclose(f);
    }
    buf[sizeof(buf) - 1] = 0;
    return json_string(buf);
}

static json_t *steps_json(const struct pn_explanation *x, enum pn_dimension dimension) {
    static const char *const where[] = {[PN_DIM_GUEST] = "gpa",
                                        [PN_DIM_SHADOW] = "table",
                                        [PN_DIM_SECOND] = "gpa",
                                        [PN_DIM_NESTED] = "gpa"};
    json_t *all = json_array();
    for (unsigned i = 0; i < x->steps; i++) {
        const struct pn_step *s = &x->step[i];
        if (s->dimension != dimension)
            continue;
        json_t *j = json_pack("{s:i, s:i, s:o, s:o, s:o, s:o, s:b}", "level", s->level,
                              "index", s->index, where[dimension], hex(s->at), "entry",
                              hex(s->entry), "means", entry_json(x, s), "access",
                              words(PN_TYPE_access, s->acc), "reads", s->reads);
        if (dimension == PN_DIM_SHADOW || dimension == PN_DIM_SECOND)
            json_object_set_new(j, "role", words(PN_TYPE_role, s->role));
        if (dimension == PN_DIM_SHADOW)
            json_object_set_new(j, "unsync", json_boolean(s->unsync));
        if (dimension == PN_DIM_SECOND || dimension == PN_DIM_NESTED)
            json_object_set_new(j, "of_level", json_integer(s->of));
        json_array_append_new(all, j);
    }
    return all;
}

static json_t *frame_json(const struct view *v, const struct pn_explanation *x) {
    if (!x->has_slot)
        return json_null();
    json_t *j =
        json_pack("{s:i, s:o, s:o, s:o, s:o, s:b}", "slot", (int)x->slot.id, "slot_gpa",
                  hex(x->slot.gpa), "slot_size", hex(x->slot.size), "offset",
                  hex(x->gpa - x->slot.gpa), "flags",
                  words(PN_TYPE_slot_flags, x->slot.flags), "in_dirty_log", x->in_log);
    if (v->guest_only)
        return j;
    json_t *rmap = json_array(), *tables = json_array();
    for (unsigned i = 0; i < x->rmap_count && i < PN_EXPLAIN_LIST; i++)
        json_array_append_new(
            rmap, json_pack("{s:o, s:o, s:i, s:o}", "gfn", hex(x->rmap[i].gfn), "role",
                            words(PN_TYPE_role, x->rmap[i].role), "index",
                            x->rmap[i].index, "entry", hex(x->rmap[i].entry)));
    for (unsigned i = 0; i < x->shadowed_count && i < PN_EXPLAIN_LIST; i++) {
        const struct pn_table *t = &x->shadowed[i];
        json_array_append_new(
            tables, json_pack("{s:o, s:o, s:b, s:b, s:i, s:i, s:i, s:i}", "gfn",
                              hex(t->gfn), "role", words(PN_TYPE_role, t->role), "unsync",
                              t->unsync, "obsolete", t->obsolete, "used", (int)t->used,
                              "parents", (int)(t->parents + t->roots), "flood",
                              (int)t->flood, "age", (int)t->age));
    }
    json_object_update_new(
        j, json_pack("{s:b, s:[i, i], s:i, s:o, s:i, s:o}", "translated_code",
                     x->code_users != 0, "large_forbidden", (int)x->large_forbid[0],
                     (int)x->large_forbid[1], "sptes", (int)x->rmap_count, "rmap", rmap,
                     "shadow_pages", (int)x->shadowed_count, "shadowed_by", tables));
    return j;
}

static json_t *tlb_json(const struct pn_explanation *x) {
    static const char *const name[] = {"user", "supervisor", "supervisor_ac"};
    json_t *j = json_object();
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++) {
        json_t *list = json_array();
        for (unsigned a = 0; a < 3; a++)
            if (x->tlb[mode] >> a & 1)
                json_array_append_new(list, json_string(access_words(a)));
        json_object_set_new(j, name[mode], list);
    }
    json_object_set_new(j, "other_roots", json_integer(x->other_roots));
    return j;
}

static json_t *levels_json(unsigned bits) {
    json_t *list = json_array();
    for (unsigned level = 1; level <= 5; level++)
        if (bits >> level & 1)
            json_array_append_new(list, json_integer(level));
    return list;
}

static json_t *model_json(const struct pn_model_where *m) {
    return m->on ? json_pack("{s:i, s:i, s:i, s:i, s:o, s:o, s:o}", "l1i", m->l1i, "l1d",
                             m->l1d, "l2", m->l2, "l2i", m->l2i, "walk",
                             levels_json(m->walk), "second_walk", levels_json(m->second),
                             "nested", levels_json(m->nested))
                 : json_null();
}

static json_t *verdicts_json(const struct view *v, const struct pn_explanation *x) {
    json_t *all = json_array();
    for (unsigned a = 0; a < 3; a++)
        for (unsigned mode = 0; mode < PN_TLB_MODES; mode++) {
            const struct pn_verdict *d = &x->verdict[a][mode];
            bool pf = d->outcome == PN_OUT_guest_pf;
            json_array_append_new(
                all,
                json_pack("{s:s, s:s, s:o, s:b, s:s, s:s, s:i, s:o, s:o}", "access",
                          access_words(a), "mode", mode_words(mode), "outcome",
                          v->guest_only && !pf ? json_null()
                                               : json_string(outcome_words(d->outcome)),
                          "exact", d->exact, "rule", pn_rule_name(d->rule), "why",
                          pn_rule_words(d->rule), "rule_level", d->rule_level, "error",
                          pf ? words(PN_TYPE_pfec, d->fault.error) : json_null(), "gpa",
                          pf ? json_null() : hex(d->gpa)));
        }
    return all;
}

static json_t *cost_json(const struct pn_walk_cost *c) {
    json_t *guest = json_array(), *table = json_array();
    for (unsigned level = 1; level <= 5; level++) {
        json_array_append_new(guest, json_integer(c->guest[level]));
        json_array_append_new(table, json_integer(c->table[level]));
    }
    return json_pack("{s:i, s:i, s:o, s:o, s:b}", "references", (int)c->refs, "native",
                     (int)c->native, "guest_by_level", guest, "table_by_level", table,
                     "complete", c->complete);
}

static json_t *address_json(const struct pn_explanation *x) {
    return x->found
               ? json_pack("{s:o, s:i, s:o, s:i, s:b, s:b}", "gpa", hex(x->gpa), "level",
                           x->level, "access", words(PN_TYPE_access, x->acc), "pkey",
                           x->pkey, "dirty", x->dirty, "global", x->global)
               : json_null();
}

/* Of a guest's guest; null in the guest's own world. */
static json_t *world_json(const struct pn_explanation *x) {
    if (!x->asid)
        return json_null();
    return json_pack("{s:I, s:o, s:o, s:o}", "asid", (json_int_t)x->asid, "ncr3",
                     x->nested ? hex(x->ncr3) : json_null(), "ngpa",
                     x->nested && x->reaches ? hex(x->ngpa) : json_null(), "nested",
                     steps_json(x, PN_DIM_NESTED));
}

json_t *explain_json(const struct view *v, pn_gva gva) {
    struct pn_explanation x;
    if (pn_mmu_explain(v->vcpu, gva, &x))
        return NULL;
    json_t *j =
        json_pack("{s:s, s:o, s:i, s:s, s:o, s:o, s:i, s:b, s:o, s:o, s:o, s:o}",
                  "schema", "penumbra-explain-1", "gva", hex(gva), "vcpu", (int)v->cpu,
                  "mmu", v->ops->name, "mode", words(PN_TYPE_mode, x.mode), "cr3",
                  hex(x.paging.cr3), "maxphyaddr", x.maxphyaddr, "canonical", x.canonical,
                  "guest", steps_json(&x, PN_DIM_GUEST), "page", address_json(&x),
                  "frame", frame_json(v, &x), "accesses", verdicts_json(v, &x));
    bool costs = x.found;
    if (j)
        json_object_set_new(j, "world", world_json(&x));
    if (j)
        json_object_set_new(
            j, "costs",
            json_pack("{s:o, s:o, s:o, s:o}", "now",
                      v->guest_only ? json_null() : cost_json(&x.now), "shadow",
                      costs ? cost_json(&x.shadow) : json_null(), "two_dimensional",
                      costs ? cost_json(&x.two_dim) : json_null(), "nested",
                      costs ? json_integer(explain_nested(&x)) : json_null()));
    if (j && !v->guest_only) {
        json_object_set_new(j, "shadow", steps_json(&x, PN_DIM_SHADOW));
        json_object_set_new(j, "second", steps_json(&x, PN_DIM_SECOND));
        json_object_set_new(j, "tlb", tlb_json(&x));
        json_object_set_new(j, "model", model_json(&x.model));
    }
    return j;
}
