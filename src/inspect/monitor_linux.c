/* SPDX-License-Identifier: MIT */
/* The monitor's commands about a Linux guest (monitor.inc). Its kernel's image is read when the first
 * of them comes. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/linux_machine.h"
#include "inspect/monitor_internal.h"

struct monitor_linux {
    struct linux_image *image; /* NULL: there is none, as `why` says */
    char why[256];
    struct linux_machine machine;
};

void monitor_linux_free(struct monitor_linux *l) {
    if (!l)
        return;
    linux_image_free(l->image);
    free(l);
}

static int load(struct request *r) {
    struct monitor *mon = r->mon;
    struct monitor_linux *l = calloc(1, sizeof(*l));
    if (!l)
        return -ENOMEM;
    struct err e = {l->why, sizeof(l->why)};
    mon->linux_guest = l;
    if (!mon->cfg.kernel)
        err_set(&e, -ENOENT, "the guest is not a Linux kernel of its own file");
    else if (!linux_image_load(mon->cfg.kernel, &l->image, &e))
        linux_machine_begin(&l->machine, mon->machine, l->image);
    return 0;
}

static int look(struct request *r, const struct linux_guest **g) {
    if (!r->mon->linux_guest) {
        int rc = load(r);
        if (rc)
            return rc;
    }
    struct monitor_linux *l = r->mon->linux_guest;
    struct pn_cpu_state *s;
    if (!l->image)
        return err_set(&r->err, -ENOENT, "%s", l->why);
    int rc = monitor_state(r, &s);
    if (rc)
        return rc;
    bool there = linux_machine_look(&l->machine, s->cr3);
    free(s);
    *g = &l->machine.guest;
    return there ? 0 : err_set(&r->err, -ENOENT, "the kernel is not in memory yet");
}

/* ---- Tasks ---- */

struct listing {
    struct request *r;
    const struct linux_guest *g;
    json_t *list;
    uint64_t current[MACHINE_CPUS_MAX]; /* task_struct of each vCPU; 0: not known */
    uint32_t pid;                       /* find it */
    struct linux_task found;
};

static bool list_task(void *opaque, const struct linux_task *t) {
    struct listing *l = opaque;
    unsigned cpu = 0, cpus = machine_cpus(l->r->mon->machine);
    while (cpu < cpus && l->current[cpu] != t->at)
        cpu++;
    char on[16] = "";
    if (cpu < cpus)
        snprintf(on, sizeof(on), "%u", cpu);
    fprintf(l->r->out, "%4s %7" PRIu32 " %7" PRIu32 " %#14" PRIx64 "  %s\n", on, t->tgid,
            t->pid, t->cr3, t->comm);
    if (l->list)
        json_array_append_new(
            l->list, json_pack("{s:o, s:i, s:i, s:o, s:s, s:s}", "vcpu",
                               cpu < cpus ? json_integer(cpu) : json_null(), "tgid",
                               (int)t->tgid, "pid", (int)t->pid, "cr3",
                               t->cr3 ? json_sprintf("0x%" PRIx64, t->cr3) : json_null(),
                               "comm", t->comm, "process", t->leader));
    return true;
}

static void look_at_current(struct listing *l) {
    struct linux_task t;
    for (unsigned i = 0; i < machine_cpus(l->r->mon->machine); i++)
        l->current[i] = linux_current(l->g, i, &t) ? t.at : 0;
}

int monitor_info_tasks(struct request *r) {
    struct listing l = {.r = r};
    int rc = look(r, &l.g);
    if (rc)
        return rc;
    look_at_current(&l);
    l.list = r->wants_json ? json_array() : NULL;
    fprintf(r->out, "vCPU    TGID     PID            CR3  COMM\n");
    /* The idle tasks are in no list. */
    for (unsigned i = 0; i < machine_cpus(r->mon->machine); i++) {
        struct linux_task t;
        if (l.current[i] && linux_task_read(l.g, l.current[i], &t) && !t.pid)
            list_task(&l, &t);
    }
    r->json = l.list;
    return linux_tasks(l.g, list_task, &l)
               ? 0
               : err_set(&r->err, -EFAULT,
                         "the guest's list of tasks cannot be followed");
}

/* ---- Mappings ---- */

static bool find_task(void *opaque, const struct linux_task *t) {
    struct listing *l = opaque;
    if (t->pid != l->pid)
        return true;
    l->found = *t;
    return false;
}

static bool list_vma(void *opaque, const struct linux_vma *v) {
    struct listing *l = opaque;
    char path[LINUX_PATH];
    bool has_path = linux_vma_path(l->g, v, path);
    const char rights[] = {
        v->flags & LINUX_VM_READ ? 'r' : '-', v->flags & LINUX_VM_WRITE ? 'w' : '-',
        v->flags & LINUX_VM_EXEC ? 'x' : '-', v->flags & LINUX_VM_SHARED ? 's' : 'p', 0};
    fprintf(l->r->out, "%08" PRIx64 "-%08" PRIx64 " %s %s\n", v->start, v->end, rights,
            has_path ? path : v->name);
    if (l->list)
        json_array_append_new(l->list,
                              json_pack("{s:o, s:o, s:s, s:s}", "start",
                                        json_sprintf("0x%" PRIx64, v->start), "end",
                                        json_sprintf("0x%" PRIx64, v->end), "rights",
                                        rights, "name", has_path ? path : v->name));
    return true;
}

/* The task of the number that is asked for, or the one that the vCPU runs. */
static int choose(struct request *r, struct listing *l) {
    uint64_t pid;
    if (!r->args)
        return linux_current(l->g, r->view.cpu, &l->found)
                   ? 0
                   : err_set(&r->err, -EFAULT, "it is not known what vCPU %u runs",
                             r->view.cpu);
    int rc = monitor_address(r, r->arg[0], &pid);
    if (rc)
        return rc;
    l->pid = (uint32_t)pid;
    if (pid > UINT32_MAX || linux_tasks(l->g, find_task, l) || !l->found.at)
        return err_set(&r->err, -ESRCH, "there is no task %s", r->arg[0]);
    return 0;
}

int monitor_info_vmas(struct request *r) {
    struct listing l = {.r = r};
    int rc = look(r, &l.g);
    if (!rc)
        rc = choose(r, &l);
    if (rc)
        return rc;
    l.list = r->wants_json ? json_array() : NULL;
    r->json = l.list;
    if (!l.found.mm) /* a thread of the kernel */
        return 0;
    return linux_vmas(l.g, l.found.mm, list_vma, &l)
               ? 0
               : err_set(&r->err, -EFAULT, "its mappings cannot be followed");
}

/* ---- Modules ---- */

static bool list_module(void *opaque, const struct linux_module *m) {
    struct listing *l = opaque;
    json_t *texts = l->list ? json_array() : NULL;
    fprintf(l->r->out, "%-24s", m->name);
    for (unsigned i = 0; i < LINUX_TEXTS; i++) {
        const struct linux_text *t = &m->text[i];
        if (t->from == t->to)
            continue;
        fprintf(l->r->out, " %" PRIx64 "-%" PRIx64, t->from, t->to);
        if (texts)
            json_array_append_new(texts,
                                  json_pack("{s:o, s:o}", "from",
                                            json_sprintf("0x%" PRIx64, t->from), "to",
                                            json_sprintf("0x%" PRIx64, t->to - 1)));
    }
    fputc('\n', l->r->out);
    if (l->list)
        json_array_append_new(l->list,
                              json_pack("{s:s, s:o}", "name", m->name, "text", texts));
    return true;
}

int monitor_info_modules(struct request *r) {
    struct listing l = {.r = r};
    int rc = look(r, &l.g);
    if (rc)
        return rc;
    if (!linux_has_modules(l.g->image))
        return err_set(&r->err, -ENOENT,
                       "the kernel does not tell where its modules are");
    l.list = r->wants_json ? json_array() : NULL;
    r->json = l.list;
    return linux_modules(l.g, list_module, &l)
               ? 0
               : err_set(&r->err, -EFAULT,
                         "the guest's list of modules cannot be followed");
}

/* ---- One address ---- */

struct linux_machine *monitor_linux_machine(struct request *r) {
    if (!r->mon->cfg.kernel || (!r->mon->linux_guest && load(r)))
        return NULL;
    struct monitor_linux *l = r->mon->linux_guest;
    return l->image ? &l->machine : NULL;
}
