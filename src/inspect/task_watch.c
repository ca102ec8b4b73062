/* SPDX-License-Identifier: MIT */
/* Events about whose a fault is: see task_watch.h. */
#include "inspect/task_watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/linux_internal.h"
#include "inspect/linux_machine.h"

#define NAME_WORDS (LINUX_NAME / 8)
#define COMM_WORDS (LINUX_COMM / 8)

/* A range of addresses and its name, as `region` and the events of modules say it. */
struct range {
    uint64_t from, to, name[NAME_WORDS];
};

/* What a vCPU's last events said; all 0 at first, which no event says. */
struct told {
    bool task, region, entry;
    uint64_t pid, tgid, space;
    uint64_t comm[COMM_WORDS];
    struct range range, module, function;
    struct linux_entry from;
    uint64_t caller;
};

/* Functions that set a table entry, and are called for nothing else. They have no frame: the
 * word at RSP is where their caller goes on. */
static const char *const setters[] = {
#define SETTER(name) name,
#include "inspect/fault_causes.inc"
};
#define SETTERS (sizeof(setters) / sizeof(setters[0]))

struct task_watch {
    struct linux_image *image;
    struct linux_machine guest;
    struct linux_functions *functions; /* of modules */
    struct pn_ring *rings;
    unsigned cpus;
    struct told told[MACHINE_CPUS_MAX];
};

static void tell_task(struct pn_ring *ring, struct told *old,
                      const struct linux_task *t) {
    struct told now = *old;
    now.task = true;
    now.pid = t ? t->pid : UINT64_MAX;
    now.tgid = t ? t->tgid : UINT64_MAX;
    now.space = t ? t->cr3 : 0;
    memset(now.comm, 0, sizeof(now.comm));
    if (t)
        memcpy(now.comm, t->leader, strlen(t->leader));
    if (old->task && old->pid == now.pid && old->tgid == now.tgid &&
        old->space == now.space && !memcmp(old->comm, now.comm, sizeof(now.comm)))
        return;
    *old = now;
    pn_emit(ring, task, now.pid, now.tgid, now.space, now.comm[0], now.comm[1]);
}

static struct range range_of(uint64_t from, uint64_t to, const char *name) {
    struct range r = {.from = from, .to = to};
    memcpy(r.name, name, strnlen(name, sizeof(r.name)));
    return r;
}

/* Is it another one than the vCPU was told? It is told then. */
static bool is_new(struct range *old, const struct range *now) {
    bool same = !memcmp(old, now, sizeof(*now));
    *old = *now;
    return !same;
}

static void tell_region(struct pn_ring *ring, struct told *old,
                        const struct linux_region *r) {
    const struct range now = r ? range_of(r->from, r->to, r->name) : range_of(0, 0, "");
    bool other = is_new(&old->range, &now);
    if (old->region && !other)
        return;
    old->region = true;
    pn_emit(ring, region, now.from, now.to, now.name[0], now.name[1], now.name[2],
            now.name[3]);
}

/* In which module the instruction is, and in which of its functions. Nobody has told of one, and
 * it is in none: nothing is said. */
static void tell_module(const struct task_watch *w, struct pn_ring *ring,
                        struct told *old) {
    const struct linux_guest *g = &w->guest.guest;
    struct linux_function f;
    struct range module = range_of(0, 0, ""), function = module;
    if (*ring->cpl != 0 ||
        symbols_at(w->image->symbols, *ring->rip - g->moved) != SYMBOLS_NONE)
        return; /* what was told does not lie there */
    if (linux_function_at(w->functions, g, *ring->rip, &f)) {
        module = range_of(f.text.from, f.text.to - 1, f.module);
        function = range_of(f.of.from, f.of.to - 1, f.name);
    }
    if (is_new(&old->module, &module))
        pn_emit(ring, module, module.from, module.to, module.name[0], module.name[1],
                module.name[2], module.name[3]);
    if (is_new(&old->function, &function))
        pn_emit(ring, module_function, function.from, function.to, function.name[0],
                function.name[1], function.name[2], function.name[3]);
}

/* Is an address of the kernel in a function that only sets an entry? */
static bool in_setter(const struct task_watch *w, uint64_t address) {
    const struct symbols *s = w->image->symbols;
    uint32_t number = symbols_at(s, address - w->guest.guest.moved);
    const char *name = number == SYMBOLS_NONE ? "" : symbols_name(s, number);
    for (unsigned i = 0; i < SETTERS; i++)
        if (!strcmp(name, setters[i]))
            return true;
    return false;
}

/* Who called the function that the kernel is in, perhaps by another one of them, or 0. */
static uint64_t caller_of(const struct task_watch *w, const struct pn_ring *ring) {
    uint64_t word[2];
    if (!ring->rsp || !in_setter(w, *ring->rip) ||
        !linux_read(&w->guest.guest, *ring->rsp, word, sizeof(word)))
        return 0;
    return word[in_setter(w, word[0] - 1)];
}

static void tell_entry(const struct task_watch *w, struct pn_ring *ring, struct told *old,
                       const struct linux_task *t) {
    struct linux_entry now = {.syscall = UINT64_MAX};
    uint64_t caller = 0;
    if (*ring->cpl == 0 && t) {
        caller = caller_of(w, ring);
        if (!linux_entry_read(&w->guest.guest, t, *ring->rip, &now))
            now = (struct linux_entry){.syscall = UINT64_MAX};
    }
    if (old->entry && old->from.syscall == now.syscall && old->from.rip == now.rip &&
        old->caller == caller)
        return;
    old->entry = true;
    old->from = now;
    old->caller = caller;
    pn_emit(ring, entry, now.syscall, now.rip, caller);
}

static void before(struct pn_ring *ring, enum pn_event id, uint64_t gva) {
    struct task_watch *w = ring->watcher;
    /* The first of a fault's two records, or an access that is none. */
    enum pn_event first =
        ring->mask >> PN_EV_page_fault & 1 ? PN_EV_page_fault : PN_EV_fault_outcome;
    if ((id != first && id != PN_EV_page_accessed) || !ring->cr3 || !ring->rip ||
        !ring->cpl)
        return;
    struct told *told = &w->told[ring->vcpu];
    struct linux_task t;
    struct linux_region r;
    bool there = linux_machine_look(&w->guest, *ring->cr3);
    bool known = there && linux_current(&w->guest.guest, ring->vcpu, &t);
    tell_task(ring, told, known ? &t : NULL);
    bool region =
        there && linux_region_of(&w->guest.guest, known ? &t : NULL, *ring->cr3, gva, &r);
    tell_region(ring, told, region ? &r : NULL);
    tell_entry(w, ring, told, known ? &t : NULL);
    if (there)
        tell_module(w, ring, told);
}

int task_watch_create(struct machine *m, const char *kernel, struct pn_ring *rings,
                      struct task_watch **out, struct err *e) {
    struct task_watch *w = calloc(1, sizeof(*w));
    if (!w)
        return err_set(e, -ENOMEM, "out of memory");
    int rc = linux_image_load(kernel, &w->image, e);
    w->functions = rc ? NULL : linux_functions_create();
    if (!rc && !w->functions) {
        linux_image_free(w->image);
        rc = err_set(e, -ENOMEM, "out of memory");
    }
    if (rc) {
        free(w);
        return rc;
    }
    linux_machine_begin(&w->guest, m, w->image);
    w->rings = rings;
    w->cpus = machine_cpus(m);
    for (unsigned i = 0; i < w->cpus; i++) {
        rings[i].watcher = w;
        rings[i].before = before;
    }
    *out = w;
    return 0;
}

void task_watch_destroy(struct task_watch *w) {
    if (!w)
        return;
    for (unsigned i = 0; i < w->cpus; i++)
        w->rings[i].before = NULL;
    linux_functions_destroy(w->functions);
    linux_image_free(w->image);
    free(w);
}
