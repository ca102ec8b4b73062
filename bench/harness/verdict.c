/* SPDX-License-Identifier: MIT */
/*
 * Verdicts.
 *
 * Each cycle of the model is put down to one cause (verdict.inc): by the cost that it was paid for, but the price of an
 * exit to the cause that the exit was for. Of the causes the one with the largest difference for each operation is the reason.
 */
#include "bench/harness/verdict.h"

#include <stdio.h>
#include <string.h>

#include "bench/harness/result.h"

#define COSTS_MAX 8u
#define ASIDE                                                                            \
    0.2 /* of the difference: what goes the other way by less is not worth words */

static const struct cause {
    const char *words, *unit, *count, *exits;
    const char *cost[COSTS_MAX];
} causes[] = {
#define CAUSE(words, unit, count, exits, ...) {words, unit, count, exits, {__VA_ARGS__}},
#include "bench/harness/verdict.inc"
};
#define CAUSES (sizeof(causes) / sizeof(causes[0]))

static double figure(const json_t *r, const char *path) {
    return json_number_value(result_member(r, path));
}

static double operations(const json_t *r) {
    double ops = figure(r, "ops");
    return ops > 0 ? ops : 1;
}

double verdict_per_op(const json_t *r) {
    return figure(r, "modelled.cycles") / operations(r);
}

static bool same_point(const json_t *a, const json_t *b) {
    return json_integer_value(json_object_get(a, "index")) ==
           json_integer_value(json_object_get(b, "index"));
}

bool verdict_find(const json_t *results, size_t at, struct verdict *v) {
    const json_t *first = json_array_get(results, at), *r;
    *v = (struct verdict){NULL, NULL, 0};
    for (; (r = json_array_get(results, at)) && same_point(r, first); at++) {
        if (verdict_per_op(r) <= 0)
            continue;
        if (!v->best || verdict_per_op(r) < verdict_per_op(v->best)) {
            v->next = v->best;
            v->best = r;
        } else if (!v->next || verdict_per_op(r) < verdict_per_op(v->next))
            v->next = r;
    }
    if (v->next)
        v->times = verdict_per_op(v->next) / verdict_per_op(v->best);
    return v->next != NULL;
}

void verdict_text(const struct verdict *v, char *buf, size_t size) {
    const char *best = result_text(v->best, "mmu"), *next = result_text(v->next, "mmu");
    if (v->times < VERDICT_EQUAL)
        snprintf(buf, size, "%s and %s are equal", best, next);
    else
        snprintf(buf, size, "%s wins, %s takes %.2f times as many cycles", best, next,
                 v->times);
}

/* ---- Why ---- */

static size_t cause_of(const char *cost) {
    for (size_t i = 0; i < CAUSES; i++)
        for (size_t k = 0; k < COSTS_MAX && causes[i].cost[k]; k++)
            if (!strncmp(cost, causes[i].cost[k], strlen(causes[i].cost[k])))
                return i;
    return CAUSES - 1;
}

/* Cycles of an operation by cause. */
static void spend(const json_t *r, double by_cause[CAUSES]) {
    const json_t *costs = result_member(r, "modelled.cycles_by_cost"), *cycles;
    const char *name;
    double all = figure(r, "modelled.vm_exits.all"), exits = 0;
    memset(by_cause, 0, CAUSES * sizeof(*by_cause));
    /* jansson's loops take no const. */
    for (void *i = json_object_iter((json_t *)(uintptr_t)costs); i;
         i = json_object_iter_next((json_t *)(uintptr_t)costs, i)) {
        name = json_object_iter_key(i);
        cycles = json_object_iter_value(i);
        if (!strcmp(name, "exit"))
            exits = json_number_value(cycles);
        else
            by_cause[cause_of(name)] += json_number_value(cycles);
    }
    double each = all > 0 ? exits / all : 0;
    for (size_t i = 0; i < CAUSES; i++) {
        char path[64];
        snprintf(path, sizeof(path), "modelled.vm_exits.%s",
                 causes[i].exits ? causes[i].exits : "");
        double paid = causes[i].exits ? figure(r, path) * each : 0;
        by_cause[i] += paid;
        exits -= paid;
    }
    by_cause[CAUSES - 1] += exits;
    for (size_t i = 0; i < CAUSES; i++)
        by_cause[i] /= operations(r);
}

static const char *short_text(double v, char buf[16]) {
    if (v < 1e4)
        snprintf(buf, 16, "%.0f", v);
    else if (v < 1e6)
        snprintf(buf, 16, "%.0fK", v / 1e3);
    else if (v < 1e9)
        snprintf(buf, 16, "%.1fM", v / 1e6);
    else
        snprintf(buf, 16, "%.1fG", v / 1e9);
    return buf;
}

/* "walks of page tables (table entries read: 3.1M, shadow 1.2M)" of a result that pays more. */
static void say(const struct cause *c, const json_t *more, const json_t *less, char *buf,
                size_t size) {
    char a[16], b[16];
    snprintf(buf, size, "%s (%s: %s, %s %s)", c->words, c->unit,
             short_text(figure(more, c->count), a), result_text(less, "mmu"),
             short_text(figure(less, c->count), b));
}

void verdict_reason(const struct verdict *v, char *buf, size_t size) {
    double best[CAUSES], next[CAUSES], whole = 0;
    size_t most = 0, other = 0;
    char why[256], but[256];
    *buf = 0;
    if (v->times < VERDICT_EQUAL)
        return;
    spend(v->best, best);
    spend(v->next, next);
    for (size_t i = 0; i < CAUSES; i++) {
        whole += next[i] - best[i];
        most = next[i] - best[i] > next[most] - best[most] ? i : most;
        other = next[i] - best[i] < next[other] - best[other] ? i : other;
    }
    say(&causes[most], v->next, v->best, why, sizeof(why));
    say(&causes[other], v->best, v->next, but, sizeof(but));
    bool aside = best[other] - next[other] > ASIDE * whole;
    snprintf(buf, size, "%s pays more for %s%s%s%s%s", result_text(v->next, "mmu"), why,
             aside ? ", " : "", aside ? result_text(v->best, "mmu") : "",
             aside ? " for " : "", aside ? but : "");
}

json_t *verdict_sentences(const json_t *results) {
    json_t *all = json_array();
    struct verdict v;
    char text[256], reason[1024];
    for (size_t i = 0; i < json_array_size(results); i++) {
        const json_t *r = json_array_get(results, i);
        if ((i && same_point(json_array_get(results, i - 1), r)) ||
            !verdict_find(results, i, &v))
            continue;
        const char *label = result_text(r, "label");
        verdict_text(&v, text, sizeof(text));
        verdict_reason(&v, reason, sizeof(reason));
        json_array_append_new(all,
                              json_sprintf("%s%s%s: %s%s%s.", result_text(r, "workload"),
                                           *label ? " " : "", label, text,
                                           *reason ? ", because " : "", reason));
    }
    return all;
}
