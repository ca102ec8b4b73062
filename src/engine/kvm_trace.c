/* SPDX-License-Identifier: MIT */
/*
 * KVM's tracepoints as our events: a tracing instance of our own in tracefs, whose events
 * a thread reads, translates (kvm_tracepoints.inc) and puts into the vCPUs' rings.
 *
 * Invariants
 * 1. Only what our own threads cause is recorded. An event of no vCPU's thread goes to
 *    vCPU 0's ring: a memslot that changes, for one. Where there are no tracepoints, what reaches
 *    penumbra's own devices is recorded.
 * 2. The instance is removed when tracing ends; one that a killed process left behind is
 *    removed by the next.
 * 3. Events enter the rings in order of time, which is the machine's (ns).
 * Locking: between kvm_trace_begin and kvm_trace_end the reader thread owns the rings, but while
 * another has kvm_trace_hold. Without a reader own_lock guards them.
 */
#include "base/clock.h"
#include "base/thread.h"
#include "engine/engines.h"
#include "engine/kvm_vm.h"

#ifdef PENUMBRA_TRACEFS

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <tracefs.h>
#include <unistd.h>

#define READ_EVERY_NS 20000000u
#define BUFFER_KIB    4096u         /* of each host CPU's, in the kernel */
#define SETTLE_NS     1000000u      /* how far apart two CPUs' events may come in */
#define WAITING_MAX   (128u * 1024) /* records that wait to be sorted */
#define INSTANCE      "penumbra-"
#define FIELDS        (1 + PN_FIELDS_MAX) /* rip, then those of the event */

struct point {
    const char *system, *name;
    enum pn_event id;
    const char *field[FIELDS];
};

static const struct point points[] = {
#define POINT(system, name, id, ...) {system, name, PN_EV_##id, {__VA_ARGS__}},
#include "engine/kvm_tracepoints.inc"
#undef POINT
};
#define POINTS (sizeof(points) / sizeof(points[0]))

/* A tracepoint as this kernel has it. */
struct bound {
    int id; /* the kernel's; -1: not enabled */
    enum pn_event event;
    struct {
        struct tep_format_field *field; /* NULL: 0 */
        bool compare;
        unsigned long long with;
    } arg[FIELDS];
};

struct kvm_trace {
    struct pn_engine *engine;
    struct pn_ring *rings;
    struct tracefs_instance *instance;
    struct tep_handle *tep;
    struct bound bound[POINTS];
    struct pn_event_rec *waiting; /* time: CLOCK_MONOTONIC */
    size_t count;
    pthread_t thread;
    bool started;
    pthread_mutex_t filling; /* held by who fills or drains the rings */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop;
};

/* ---- From tracefs into the rings ---- */

static int by_time(const void *a, const void *b) {
    const struct pn_event_rec *x = a, *y = b;
    return (x->time > y->time) - (x->time < y->time);
}

/* Sort, and put into the rings what is not younger than `until`. */
static void pass_on(struct kvm_trace *t, uint64_t until) {
    size_t n = 0;
    qsort(t->waiting, t->count, sizeof(*t->waiting), by_time);
    for (; n < t->count && t->waiting[n].time <= until; n++) {
        struct pn_event_rec *r = &t->waiting[n];
        uint64_t start = t->engine->start_ns;
        t->engine->trace_time = r->time > start ? r->time - start : 0;
        r->time = t->engine->trace_time;
        pn_ring_add(&t->rings[r->vcpu], r);
    }
    t->count -= n;
    memmove(t->waiting, t->waiting + n, t->count * sizeof(*t->waiting));
}

static unsigned vcpu_of(const struct pn_engine *e, int pid) {
    for (unsigned i = 0; i < e->cpus; i++)
        if (e->vcpu[i].tid == pid)
            return i;
    return 0;
}

static struct bound *find_bound(struct kvm_trace *t, int id) {
    for (size_t i = 0; i < POINTS; i++)
        if (t->bound[i].id == id)
            return &t->bound[i];
    return NULL;
}

static uint64_t value_of(const struct bound *b, unsigned i, const void *data) {
    unsigned long long value = 0;
    if (b->arg[i].field && tep_read_number_field(b->arg[i].field, data, &value))
        value = 0;
    return b->arg[i].compare ? value == b->arg[i].with : value;
}

static int on_event(struct tep_event *event, struct tep_record *record, int cpu,
                    void *opaque) {
    struct kvm_trace *t = opaque;
    struct bound *b = find_bound(t, event->id);
    (void)cpu;
    if (record->missed_events)
        t->rings[0].lost +=
            record->missed_events > 0 ? (uint64_t)record->missed_events : 1;
    if (!b)
        return 0;
    if (t->count == WAITING_MAX)
        pass_on(t, t->waiting[t->count - 1].time - SETTLE_NS);
    if (t->count == WAITING_MAX)
        pass_on(t, UINT64_MAX);
    struct pn_event_rec *r = &t->waiting[t->count++];
    *r = (struct pn_event_rec){
        .time = record->ts, .id = (uint16_t)b->event, .cpl = PN_CPL_NONE};
    r->vcpu = (uint16_t)vcpu_of(t->engine, tep_data_pid(t->tep, record));
    r->rip = value_of(b, 0, record->data);
    for (unsigned i = 0; i < PN_FIELDS_MAX; i++)
        r->arg[i] = value_of(b, 1 + i, record->data);
    return 0;
}

static void *reader(void *opaque) {
    struct kvm_trace *t = opaque;
    bool stop = false;
    while (!stop) {
        pthread_mutex_lock(&t->lock);
        if (!t->stop) {
            struct timespec until = host_in_ns(CLOCK_MONOTONIC, READ_EVERY_NS);
            pthread_cond_timedwait(&t->wake, &t->lock, &until);
        }
        stop = t->stop;
        pthread_mutex_unlock(&t->lock);
        uint64_t before = host_ns();
        pthread_mutex_lock(&t->filling);
        tracefs_iterate_raw_events(t->tep, t->instance, NULL, 0, on_event, t);
        pass_on(t, stop ? UINT64_MAX : before - SETTLE_NS);
        pthread_mutex_unlock(&t->filling);
    }
    return NULL;
}

/* ---- Setting up ---- */

/* "a|b", "a=2", "". */
static void bind_field(struct bound *b, unsigned i, struct tep_event *event,
                       const char *spec) {
    char text[64], *save = NULL;
    snprintf(text, sizeof(text), "%s", spec ? spec : "");
    char *with = strchr(text, '=');
    if (with) {
        *with = 0;
        b->arg[i].compare = true;
        b->arg[i].with = strtoull(with + 1, NULL, 10);
    }
    for (char *name = strtok_r(text, "|", &save); name && !b->arg[i].field;
         name = strtok_r(NULL, "|", &save))
        b->arg[i].field = tep_find_any_field(event, name);
}

/* Enable what the rings ask for. Return: how many. */
static unsigned enable_points(struct kvm_trace *t) {
    unsigned enabled = 0;
    for (size_t i = 0; i < POINTS; i++) {
        const struct point *p = &points[i];
        struct bound *b = &t->bound[i];
        b->id = -1;
        b->event = p->id;
        if (p->id == PN_EV_page_fault && t->engine->host.mmu == PN_KVM_MMU_TDP)
            b->event = PN_EV_kvm_tdp_fault; /* its address is a gpa */
        struct tep_event *event = tep_find_event_by_name(t->tep, p->system, p->name);
        if (!event || !(t->rings[0].mask >> b->event & 1) ||
            tracefs_event_enable(t->instance, p->system, p->name))
            continue;
        b->id = event->id;
        for (unsigned j = 0; j < FIELDS; j++)
            bind_field(b, j, event, p->field[j]);
        enabled++;
    }
    return enabled;
}

/* Instances of processes that are gone. */
static void remove_stale(void) {
    char **names = tracefs_instances("^" INSTANCE "[0-9]*$");
    for (unsigned i = 0; names && names[i]; i++) {
        pid_t pid = (pid_t)atol(names[i] + strlen(INSTANCE));
        if (pid <= 0 || !kill(pid, 0) || errno != ESRCH)
            continue;
        struct tracefs_instance *old = tracefs_instance_create(names[i]);
        if (old)
            tracefs_instance_destroy(old);
        tracefs_instance_free(old);
    }
    tracefs_list_free(names);
}

static int problem(struct pn_engine *e, const char *what, const char *path, int error) {
    snprintf(e->trace_problem, sizeof(e->trace_problem), "%s%s%s%s%s", what,
             path ? " " : "", path ? path : "", error ? ": " : "",
             error ? strerror(error) : "");
    return -1;
}

static int open_instance(struct kvm_trace *t) {
    static const char *const systems[] = {"kvm", "kvmmmu", NULL};
    struct pn_engine *e = t->engine;
    const char *path = NULL;
    char name[32], pid[16];
    if (tracefs_tracing_dir_is_mounted(false, &path) != 1)
        return problem(e, "tracefs is not mounted at", "/sys/kernel/tracing", 0);
    if (access(path, R_OK | W_OK | X_OK))
        return problem(e, "tracefs is not readable:", path, errno);
    remove_stale();
    snprintf(name, sizeof(name), INSTANCE "%d", (int)getpid());
    t->instance = tracefs_instance_create(name);
    if (!t->instance)
        return problem(e, "tracefs gives no instance:", path, errno);
    t->tep = tracefs_local_events_system(path, systems);
    if (!t->tep)
        return problem(e, "tracefs has no events of KVM:", path, 0);
    snprintf(pid, sizeof(pid), "%ld", syscall(SYS_gettid));
    tracefs_instance_set_buffer_size(t->instance, BUFFER_KIB, -1);
    if (tracefs_instance_file_write(t->instance, "trace_clock", "mono") < 0 ||
        tracefs_instance_file_write(t->instance, "options/event-fork", "1") < 0 ||
        tracefs_instance_file_write(t->instance, "set_event_pid", pid) < 0)
        return problem(e, "tracefs does not take our settings:", path, errno);
    return enable_points(t) ? 0
                            : problem(e, "no tracepoint of KVM is asked for", NULL, 0);
}

static int start_reader(struct kvm_trace *t) {
    int rc = thread_start(&t->thread, reader, t);
    t->started = rc == 0;
    return rc ? problem(t->engine, "no thread for KVM's events", NULL, -rc) : 0;
}

/* Take down what there is of it. */
static void close_trace(struct kvm_trace *t) {
    if (t->instance) {
        tracefs_event_disable(t->instance, NULL, NULL);
        tracefs_instance_destroy(t->instance);
        tracefs_instance_free(t->instance);
    }
    if (t->tep)
        tep_free(t->tep);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    pthread_mutex_destroy(&t->filling);
    free(t->waiting);
    free(t);
}

static void trace_begin(struct pn_engine *e, struct pn_ring *rings) {
    struct kvm_trace *t = calloc(1, sizeof(*t));
    if (!t)
        return;
    t->engine = e;
    t->rings = rings;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&t->lock, NULL);
    pthread_mutex_init(&t->filling, NULL);
    pthread_cond_init(&t->wake, &attr);
    pthread_condattr_destroy(&attr);
    t->waiting = malloc(WAITING_MAX * sizeof(*t->waiting));
    if (t->waiting && !open_instance(t) && !start_reader(t))
        e->trace = t;
    else
        close_trace(t);
}

static void trace_end(struct pn_engine *e) {
    struct kvm_trace *t = e->trace;
    if (!t)
        return;
    e->trace = NULL;
    tracefs_trace_off(t->instance);
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    close_trace(t);
}

static pthread_mutex_t *lock_of(struct pn_engine *e) {
    return e->trace ? &e->trace->filling : &e->own_lock;
}

#else

static void trace_begin(struct pn_engine *e, struct pn_ring *rings) {
    (void)rings;
    snprintf(e->trace_problem, sizeof(e->trace_problem), "this build has no libtracefs");
}

static void trace_end(struct pn_engine *e) {
    (void)e;
}

static pthread_mutex_t *lock_of(struct pn_engine *e) {
    return &e->own_lock;
}

#endif

void kvm_trace_begin(struct pn_engine *e, struct pn_ring *rings) {
    if (!rings || !rings[0].mask)
        return;
    for (unsigned i = 0; i < e->cpus; i++) {
        rings[i].time = &e->trace_time;
        rings[i].behind = NULL;
        rings[i].rip = rings[i].cr3 = NULL;
        rings[i].cpl = NULL;
    }
    trace_begin(e, rings);
    e->own_rings = e->trace ? NULL : rings;
}

void kvm_trace_mmio(struct pn_engine *e, unsigned cpu, const struct kvm_run *r,
                    uint64_t value) {
    if (!e->own_rings)
        return;
    pthread_mutex_lock(&e->own_lock);
    e->trace_time = engine_kvm.now(e);
    pn_emit(&e->own_rings[cpu], mmio, r->mmio.phys_addr, r->mmio.len, r->mmio.is_write,
            value);
    pthread_mutex_unlock(&e->own_lock);
}

void kvm_trace_end(struct pn_engine *e) {
    trace_end(e);
    e->own_rings = NULL;
    e->trace_time = engine_kvm.now(e);
}

void kvm_trace_hold(struct pn_engine *e, bool hold) {
    if (hold)
        pthread_mutex_lock(lock_of(e));
    else
        pthread_mutex_unlock(lock_of(e));
}

const char *kvm_trace_problem(struct pn_engine *e) {
    return e->trace_problem[0] ? e->trace_problem : NULL;
}
