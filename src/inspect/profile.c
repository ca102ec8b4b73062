/* SPDX-License-Identifier: MIT */
/*
 * Sampling, and the names of what was sampled.
 *
 * The signal handler writes into an array that is there before. In translated code the engine tells
 * the block; in C the addresses on the thread's stack tell the part (penumbra/parts.h). Whose
 * the guest's instruction is has to be asked at once: the process may be gone a moment later.
 *
 * Invariant: guest memory is read in the handler only where nobody changes the memory slots, that is
 * not in a device's part, nor between two runs.
 */
#include "inspect/profile.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include "base/clock.h"
#include "base/outfile.h"
#include "inspect/faults_internal.h"

#define SAMPLES_MAX (1u << 22)
#define NS_PER_S    1000000000u
#define FRAMES_MAX  64u

struct sample {
    uint64_t rip, cr3;
    uint8_t part, cpl;
    bool known, nested; /* the task is */
    struct guest_task task;
};

struct profile {
    struct machine *machine;
    struct guest_names *names;
    timer_t timer;
    bool begun;
    struct sigaction before;
    uint64_t period_ns, begin_ns, at_ns, took_ns;
    struct sample *sample; /* SAMPLES_MAX, of which the host gives what is written */
    struct sample last[MACHINE_CPUS_MAX];
    unsigned cpu; /* the last one */
    uint32_t samples;
    uint64_t missed, lost;
    struct fault_names texts;
    struct profile_rows rows;
};

/* ---- The part, by the stack ---- */

#define PART(name, sections, meaning)                                                    \
    extern const char __start_pn_part_##name[] __attribute__((weak)),                    \
        __stop_pn_part_##name[] __attribute__((weak));
#include "penumbra/parts.inc"

static const struct {
    const char *from, *to;
} code[PN_PARTS] = {
#define PART(name, sections, meaning)                                                    \
    [PN_PART_##name] = {__start_pn_part_##name, __stop_pn_part_##name},
#include "penumbra/parts.inc"
};

struct look {
    unsigned frames;
    enum pn_part part;
};

/* The innermost part that is named, but what a device does is the device's. */
static _Unwind_Reason_Code look_at(struct _Unwind_Context *c, void *opaque) {
    struct look *l = opaque;
    int before = 0;
    uintptr_t ip = _Unwind_GetIPInfo(c, &before);
    const char *at = (const char *)(ip - !before);
    if (l->frames++ == FRAMES_MAX)
        return _URC_END_OF_STACK;
    for (unsigned i = 0; i < PN_PARTS; i++)
        if (at >= code[i].from && at < code[i].to &&
            (l->part == PN_PART_engine || i == PN_PART_device))
            l->part = i;
    return _URC_NO_REASON;
}

static enum pn_part part_here(void) {
    struct look l = {.part = PN_PART_engine};
    _Unwind_Backtrace(look_at, &l);
    return l.part;
}

/* ---- The handler ---- */

static void take(struct profile *p, uint64_t pc) {
    struct sample *s = &p->sample[p->samples++];
    struct pn_where w = {.cpu = p->cpu};
    enum machine_doing doing = machine_doing(p->machine, pc, &w);
    enum pn_part part = doing == MACHINE_SERVES  ? PN_PART_device
                        : doing == MACHINE_WAITS ? PN_PART_wait
                        : w.translated           ? PN_PART_code
                                                 : part_here();
    if (doing != MACHINE_SERVES && part != PN_PART_device) {
        *s =
            (struct sample){.rip = w.rip, .cr3 = w.cr3, .cpl = w.cpl, .nested = w.nested};
        s->known = guest_names_task(p->names, &w, &s->task);
        p->last[w.cpu] = *s;
    } else {
        *s = p->last[w.cpu]; /* the guest was there, a moment ago */
        if (doing != MACHINE_SERVES) {
            s->rip = w.rip;
            s->cpl = w.cpl;
        }
    }
    s->part = part;
    p->cpu = w.cpu;
}

static void on_tick(int sig, siginfo_t *info, void *context) {
    const ucontext_t *uc = context;
    int saved = errno;
    if (info->si_code != SI_TIMER)
        return;
    struct profile *p = info->si_value.sival_ptr;
    p->missed += (unsigned)info->si_overrun;
    if (p->samples < SAMPLES_MAX)
        take(p, (uint64_t)uc->uc_mcontext.gregs[REG_RIP]);
    else
        p->lost++;
    errno = saved;
}

/* ---- Life ---- */

int profile_create(const struct profile_config *cfg, struct profile **out,
                   struct err *e) {
    struct profile *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(e, -ENOMEM, "out of memory");
    p->machine = cfg->machine;
    p->period_ns = NS_PER_S / cfg->rate;
    p->sample = mmap(NULL, SAMPLES_MAX * sizeof(*p->sample), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int rc = p->sample == MAP_FAILED
                 ? err_set(e, -ENOMEM, "out of memory")
                 : guest_names_create(cfg->machine, cfg->kernel, cfg->blob,
                                      cfg->blob_size, &p->names, e);
    if (rc) {
        profile_destroy(p);
        return rc;
    }
    (void)part_here(); /* what the unwinder makes at its first call is there */
    *out = p;
    return 0;
}

void profile_destroy(struct profile *p) {
    if (!p)
        return;
    profile_end(p);
    if (p->sample != MAP_FAILED)
        munmap(p->sample, SAMPLES_MAX * sizeof(*p->sample));
    guest_names_destroy(p->names);
    fault_names_free(&p->texts);
    free(p->rows.row);
    free(p);
}

int profile_begin(struct profile *p, struct err *e) {
    struct sigaction sa = {.sa_sigaction = on_tick,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF};
    const struct itimerspec every = {{0, (long)p->period_ns}, {0, (long)p->period_ns}};
    ev.sigev_value.sival_ptr = p;
    ev._sigev_un._tid = gettid();
    sigemptyset(&sa.sa_mask);
    if (sigaction(SIGPROF, &sa, &p->before) ||
        timer_create(CLOCK_MONOTONIC, &ev, &p->timer))
        return err_sys(e, -errno, "a timer for --profile");
    p->begun = true;
    p->at_ns = host_clock_ns(CLOCK_REALTIME);
    p->begin_ns = host_ns();
    timer_settime(p->timer, 0, &every, NULL);
    return 0;
}

void profile_end(struct profile *p) {
    if (!p->begun)
        return;
    timer_delete(p->timer);
    sigaction(SIGPROF, &p->before, NULL);
    p->took_ns = host_ns() - p->begin_ns;
    p->begun = false;
}

/* ---- What was sampled ---- */

const char *profile_part(unsigned part) {
    static const char *const names[] = {
#define PART(name, sections, meaning) #name,
#include "penumbra/parts.inc"
    };
    return names[part];
}

void profile_count(const struct profile *p, struct profile_counts *c) {
    *c = (struct profile_counts){
        .samples = p->samples, .missed = p->missed, .lost = p->lost};
    for (uint32_t i = 0; i < p->samples; i++)
        c->part[p->sample[i].part]++;
}

static void name_process(const struct profile *p, const struct sample *s,
                         char name[GUEST_NAME]) {
    if (s->known)
        snprintf(name, GUEST_NAME, "%s", s->task.pid ? s->task.comm : "idle");
    else if (guest_names_processes(p->names))
        snprintf(name, GUEST_NAME, "boot");
    else
        snprintf(name, GUEST_NAME, "cr3 0x%" PRIx64, s->cr3);
}

static void name_function(const struct profile *p, const struct sample *s,
                          char name[GUEST_NAME]) {
    if (s->nested)
        snprintf(name, GUEST_NAME, "[nested guest]");
    else if (*s->task.region)
        snprintf(name, GUEST_NAME, "%s", s->task.region);
    else if (s->known && s->cpl == 3)
        snprintf(name, GUEST_NAME, "[user space]");
    else
        guest_names_function(p->names, s->rip, name);
}

/* A separator of the folded form is none of a name's. Names beyond the most are the first. */
static int number_of(struct profile *p, char *name, uint32_t *number) {
    uint64_t n;
    for (char *c = name; *c; c++)
        if (*c == ';')
            *c = ':';
    int rc = fault_names_add(&p->texts, name, &n);
    *number = n == FAULT_UNKNOWN ? 0 : (uint32_t)n;
    return rc;
}

static int by_key(const void *x, const void *y) {
    return memcmp(x, y, offsetof(struct profile_row, count));
}

/* Rows of equal keys become one. */
static void merge(struct profile_rows *r) {
    size_t n = 0;
    qsort(r->row, r->rows, sizeof(*r->row), by_key);
    for (size_t i = 0; i < r->rows; i++)
        if (n && by_key(&r->row[n - 1], &r->row[i]) == 0)
            r->row[n - 1].count += r->row[i].count;
        else
            r->row[n++] = r->row[i];
    r->rows = n;
}

/* Its three names. Return: 0 or -ENOMEM. */
static int name_sample(struct profile *p, const struct sample *s,
                       struct profile_row *row) {
    char text[GUEST_NAME];
    row->count = 1;
    row->pid = s->task.pid;
    name_process(p, s, text);
    int rc = number_of(p, text, &row->process);
    name_function(p, s, text);
    rc = rc ? rc : number_of(p, text, &row->function);
    snprintf(text, sizeof(text), "[%s]", profile_part(s->part));
    return rc ? rc : number_of(p, text, &row->part);
}

int profile_name(struct profile *p) {
    struct profile_rows *r = &p->rows;
    char other[] = "[other]";
    uint32_t first;
    *r = (struct profile_rows){
        .period_ns = p->period_ns, .begin_ns = p->at_ns, .took_ns = p->took_ns};
    r->row = calloc(p->samples + 1u, sizeof(*r->row));
    int rc = r->row ? number_of(p, other, &first) : -ENOMEM;
    for (uint32_t i = 0; i < p->samples && !rc; i++)
        rc = name_sample(p, &p->sample[i], &r->row[i]);
    if (rc)
        return rc;
    r->rows = p->samples;
    r->name = p->texts.name;
    r->names = p->texts.names;
    merge(r);
    return 0;
}

const struct profile_rows *profile_rows(const struct profile *p) {
    return &p->rows;
}

/* ---- perf's map ---- */

struct map {
    FILE *out;
    struct guest_names *names;
};

static void put_block(void *opaque, const void *at, size_t size, uint64_t rip) {
    const struct map *m = opaque;
    char name[GUEST_NAME];
    guest_names_function(m->names, rip, name);
    fprintf(m->out, "%" PRIxPTR " %zx guest:%s\n", (uintptr_t)at, size, name);
}

int perf_map_write(struct machine *m, struct guest_names *n, int fd) {
    struct map map = {outfile_stream(fd), n};
    if (!map.out)
        return -errno;
    if (machine_ops(m)->blocks)
        machine_ops(m)->blocks(machine_engine(m), put_block, &map);
    return outfile_close_stream(map.out);
}
