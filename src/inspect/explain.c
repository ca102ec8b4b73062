/* SPDX-License-Identifier: MIT */
/* One address explained in words (explain.h). */
#include "inspect/explain.h"

#include <inttypes.h>
#include <string.h>

#include "trace/trace.h"

#define NESTED_LEVELS 4u

static bool is_pse(const struct pn_explanation *x) {
    return (x->mode & PN_MODE_LEVELS) == 2;
}

static const char *rights_words(unsigned acc) {
    static const char *const words[] = {"supervisor: read",
                                        "supervisor: read exec",
                                        "supervisor: read write",
                                        "supervisor: read write exec",
                                        "user: read",
                                        "user: read exec",
                                        "user: read write",
                                        "user: read write exec"};
    return words[acc & 7];
}

/* ---- Parts ---- */

static void print_head(const struct view *v, const struct pn_explanation *x, FILE *out) {
    char mode[WORDS_MAX];
    fprintf(out, "gva 0x%" PRIx64 ", vCPU %u under --mmu %s\n", x->gva, v->cpu,
            v->ops->name);
    fprintf(out, "  paging: %s, CR3 0x%" PRIx64 ", physical addresses of %u bits\n",
            words_of(PN_TYPE_mode, x->mode, mode), x->paging.cr3, x->maxphyaddr);
    if (!x->canonical)
        fputs("  no linear address of this mode: the CPU raises #GP or wraps, and makes "
              "no walk\n",
              out);
}

static void print_guest(const struct pn_explanation *x, FILE *out) {
    fputs("The guest's walk\n", out);
    for (unsigned i = 0; i < x->steps; i++) {
        const struct pn_step *s = &x->step[i];
        if (s->dimension != PN_DIM_GUEST)
            continue;
        if (s->reads)
            fprintf(out, "  level %u  entry %3u at 0x%-10" PRIx64 "  ", s->level,
                    s->index, s->at);
        else
            fprintf(out, "  level %u  entry %3u, a register   ", s->level, s->index);
        fprintf(out, "%016" PRIx64 " ", s->entry);
        entry_print(x, s, out);
        fputc('\n', out);
    }
    if (!x->found && !x->reaches) {
        const struct pn_verdict *d = &x->verdict[PN_READ][PN_TLB_SUPER_AC];
        fprintf(out, "  It ends at level %u: %s.\n", d->rule_level,
                pn_rule_words(d->rule));
        return;
    }
    pn_gpa to = x->nested ? x->ngpa : x->gpa;
    const char *name = x->nested ? "ngpa" : "gpa";
    if (x->level)
        fprintf(out, "  It leads to %s 0x%" PRIx64 ", a page of %s%s; %s.\n", name, to,
                page_words(x->level, is_pse(x)), x->global ? ", global" : "",
                rights_words(x->acc));
    else
        fprintf(out, "  Paging is off: %s 0x%" PRIx64 ".\n", name, to);
}

/* One way of the nested tables. of: the guest's entry that it is for; 0: the page. */
static void print_nested_way(const struct pn_explanation *x, unsigned of, FILE *out) {
    for (unsigned i = 0; i < x->steps; i++) {
        const struct pn_step *s = &x->step[i];
        if (s->dimension != PN_DIM_NESTED || s->of != of)
            continue;
        fprintf(out, "    level %u  entry %3u at 0x%-10" PRIx64 "  %016" PRIx64 " ",
                s->level, s->index, s->at, s->entry);
        entry_print(x, s, out);
        fputc('\n', out);
    }
}

static void print_nested(const struct pn_explanation *x, FILE *out) {
    if (x->asid)
        fprintf(out, "  A guest of the guest's runs, with ASID %u.\n", x->asid);
    if (!x->nested)
        return;
    fprintf(out, "The nested tables of its hypervisor, from 0x%" PRIx64 " on\n", x->ncr3);
    for (unsigned i = 0; i < x->steps; i++) {
        const struct pn_step *s = &x->step[i];
        if (s->dimension != PN_DIM_GUEST || !s->reads)
            continue;
        fprintf(out, "  for the guest's entry of level %u, ngpa 0x%" PRIx64 "\n",
                s->level, s->at);
        print_nested_way(x, s->level, out);
    }
    if (!x->reaches)
        return;
    fprintf(out, "  for the page itself, ngpa 0x%" PRIx64 "\n", x->ngpa);
    print_nested_way(x, 0, out);
    if (x->found)
        fprintf(out, "  ngva 0x%" PRIx64 " is ngpa 0x%" PRIx64 " is gpa 0x%" PRIx64 ".\n",
                x->gva, x->ngpa, x->gpa);
}

static void print_table(const struct pn_table *t, FILE *out) {
    char role[WORDS_MAX];
    fprintf(out, "gfn 0x%" PRIx64 " role %s: %s, %u entries, %u parents, age %u", t->gfn,
            words_of(PN_TYPE_role, t->role, role), t->unsync ? "unsync" : "synced",
            t->used, t->parents + t->roots, t->age);
    if (t->flood)
        fprintf(out, ", %u tracked writes", t->flood);
    fprintf(out, "%s\n", t->obsolete ? ", obsolete" : "");
}

static void print_slot(const struct view *v, const struct pn_explanation *x, FILE *out) {
    if (!x->has_slot) {
        fputs("  No memslot is there: MMIO.\n", out);
        return;
    }
    const struct pn_memslot *s = &x->slot;
    fprintf(out,
            "  Memslot %u has it, 0x%" PRIx64 "-0x%" PRIx64 "%s, at its offset 0x%" PRIx64
            " (host address %p).\n",
            s->id, s->gpa, s->gpa + s->size - 1,
            s->flags & PN_SLOT_READONLY ? ", read-only" : "", x->gpa - s->gpa,
            (void *)((uint8_t *)s->hva + (x->gpa - s->gpa)));
    if (s->flags & PN_SLOT_LOG_DIRTY)
        fprintf(out, "  Its dirty log %s the page.\n", x->in_log ? "has" : "has not");
    if (x->code_users && !v->guest_only)
        fputs("  Translated code is there: the CPU sees every store.\n", out);
}

static void print_frame(const struct view *v, const struct pn_explanation *x, FILE *out) {
    fprintf(out, "The frame, gfn 0x%" PRIx64 "\n", x->gpa >> PN_PAGE_SHIFT);
    print_slot(v, x, out);
    if (!x->has_slot || v->guest_only)
        return;
    for (unsigned i = 0; i < 2; i++)
        fprintf(out, "  A mapping of %s may %s.\n", page_words(i + 2, false),
                x->large_forbid[i] ? "not cover it" : "cover it");
    if (x->kind != PN_MMU_SHADOW)
        return;
    for (unsigned i = 0; i < x->shadowed_count && i < PN_EXPLAIN_LIST; i++) {
        fputs("  It is shadowed as a guest table: ", out);
        print_table(&x->shadowed[i], out);
    }
    fprintf(out, "  rmap: %u sptes map it\n", x->rmap_count);
    for (unsigned i = 0; i < x->rmap_count && i < PN_EXPLAIN_LIST; i++) {
        const struct pn_rmap *r = &x->rmap[i];
        char role[WORDS_MAX];
        fprintf(out, "    spte %3u of gfn 0x%" PRIx64 " role %s: ", r->index, r->gfn,
                words_of(PN_TYPE_role, r->role, role));
        spte_print(r->entry, out);
        fputc('\n', out);
    }
}

static void print_ours(const struct pn_explanation *x, FILE *out) {
    bool shadow = x->kind == PN_MMU_SHADOW;
    int of = -1;
    char role[WORDS_MAX];
    unsigned n = 0;
    fprintf(out, "%s\n", shadow ? "The shadow tables" : "The second-level tables");
    for (unsigned i = 0; i < x->steps; i++) {
        const struct pn_step *s = &x->step[i];
        if (s->dimension == PN_DIM_GUEST || s->dimension == PN_DIM_NESTED)
            continue;
        n++;
        if (!shadow && s->of != of) {
            of = s->of;
            if (of)
                fprintf(out, "  for the guest's entry of level %d", of);
            else
                fputs("  for the page itself", out);
            fprintf(out, ", gpa 0x%" PRIx64 "\n", s->at);
        }
        fprintf(out, "  level %u  entry %3u", s->level, s->index);
        if (shadow)
            fprintf(out, " of gfn 0x%" PRIx64 " role %s%s", s->at >> PN_PAGE_SHIFT,
                    words_of(PN_TYPE_role, s->role, role), s->unsync ? ", unsync" : "");
        fputs("  ", out);
        entry_print(x, s, out);
        fputc('\n', out);
    }
    if (!n)
        fputs("  There are none for it yet.\n", out);
}

static void print_tlb(const struct pn_explanation *x, FILE *out) {
    fputs("The TLB of this root answers\n", out);
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++) {
        fprintf(out, "  %-12s", mode_words(mode));
        for (unsigned a = 0; a < 3; a++)
            if (x->tlb[mode] >> a & 1)
                fprintf(out, " %s", access_words(a));
        fprintf(out, "%s%s\n", x->tlb[mode] ? "" : " nothing",
                x->held[mode] ? " (stores are kept back: translated code)" : "");
    }
    if (x->other_roots)
        fprintf(out, "  and those of %u other cached roots\n", x->other_roots);
}

static void print_levels(const char *what, unsigned bits, FILE *out) {
    fprintf(out, "  %s:", what);
    for (unsigned level = 1; level <= 5; level++)
        if (bits >> level & 1)
            fprintf(out, " level %u", level);
    fputs(bits ? "\n" : " nothing\n", out);
}

static void print_model(const struct pn_explanation *x, FILE *out) {
    const struct pn_model_where *m = &x->model;
    const struct {
        const char *name;
        unsigned level;
    } tlb[] = {{"l1i", m->l1i}, {"l1d", m->l1d}, {"l2", m->l2}, {"l2i", m->l2i}};
    fputs("The modelled TLBs and walk caches hold\n", out);
    for (unsigned i = 0; i < 4; i++)
        if (tlb[i].level)
            fprintf(out, "  %s: a page of %s\n", tlb[i].name,
                    page_words(tlb[i].level, false));
        else
            fprintf(out, "  %s: nothing\n", tlb[i].name);
    print_levels("walk caches", m->walk, out);
    if (x->kind == PN_MMU_TDP) {
        print_levels("second-level walk caches", m->second, out);
        print_levels("nested TLB, pages of the guest's entries", m->nested, out);
    }
}

/* A line each: what it comes to, and why. */
static void print_verdicts(const struct view *v, const struct pn_explanation *x,
                           FILE *out) {
    fputs("What an access would come to\n", out);
    for (unsigned a = 0; a < 3; a++)
        for (unsigned mode = 0; mode < PN_TLB_MODES; mode++) {
            const struct pn_verdict *d = &x->verdict[a][mode];
            char pfec[WORDS_MAX];
            bool pf = d->outcome == PN_OUT_guest_pf;
            fprintf(out, "  %-5s %-12s ", access_words(a), mode_words(mode));
            if (pf)
                fprintf(out, "#PF for the guest (%s): ",
                        words_of(PN_TYPE_pfec, d->fault.error, pfec));
            else if (v->guest_only)
                fputs(x->has_slot ? "allowed: " : "MMIO: ", out);
            else
                fprintf(out, "%s%s: ", outcome_words(d->outcome),
                        d->exact ? "" : " (or another that is mapped)");
            if (pf && d->rule_level)
                fprintf(out, "level %u, ", d->rule_level);
            fprintf(out, "%s\n",
                    pf || v->guest_only ? pn_rule_words(d->rule)
                                        : outcome_means(d->outcome));
        }
}

static void print_cost(const char *what, const struct pn_walk_cost *c, FILE *out) {
    unsigned guest = 0, table = 0;
    for (unsigned level = 1; level <= 5; level++) {
        guest += c->guest[level];
        table += c->table[level];
    }
    fprintf(out, "  %-24s %2u", what, c->refs);
    if (guest)
        fprintf(out, ": %u of guest tables, %u of second-level ones", guest, table);
    fprintf(out, "%s\n", c->complete ? "" : ", and it does not reach the page");
}

unsigned explain_nested(const struct pn_explanation *x) {
    return (x->shadow.native + 1) * (NESTED_LEVELS + 1) * (NESTED_LEVELS + 1) - 1;
}

static void print_costs(const struct view *v, const struct pn_explanation *x, FILE *out) {
    fputs("References of one walk, nothing cached\n", out);
    if (!v->guest_only)
        print_cost("this MMU, now", &x->now, out);
    if (!x->found)
        return;
    fprintf(out, "  %-24s %2u\n", "without a hypervisor", x->shadow.native);
    print_cost("shadow, all mapped", &x->shadow, out);
    print_cost("two-dimensional, the same", &x->two_dim, out);
    fprintf(out, "  %-24s %2u\n", "nested, 4 and 4 levels", explain_nested(x));
}

int explain_print(const struct view *v, pn_gva gva, FILE *out) {
    struct pn_explanation x;
    int rc = pn_mmu_explain(v->vcpu, gva, &x);
    if (rc)
        return rc;
    print_head(v, &x, out);
    print_guest(&x, out);
    print_nested(&x, out);
    if (x.found)
        print_frame(v, &x, out);
    if (!v->guest_only) {
        print_ours(&x, out);
        print_tlb(&x, out);
    }
    if (x.model.on)
        print_model(&x, out);
    print_verdicts(v, &x, out);
    print_costs(v, &x, out);
    return 0;
}
