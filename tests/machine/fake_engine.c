/* SPDX-License-Identifier: MIT */
/* An engine that runs a script: see fake_engine.h. */
#include "fake_engine.h"

#include <stdlib.h>
#include <string.h>

struct fake_cpu {
    struct pn_cpu_state state;
    uint64_t time, retired, deadline, partial;
    unsigned at;
    bool halted, interrupts, kicked, pending, ran;
    struct pn_stats stats;
};

struct pn_engine {
    struct fake *fake;
    struct pn_bus bus;
    unsigned cpus, current;
    struct pn_memslot slot[2];
    unsigned slots;
    struct fake_cpu cpu[FAKE_CPUS];
};

static int create(const struct pn_engine_config *cfg, struct pn_engine **out, char *err,
                  size_t err_size) {
    struct pn_engine *e = calloc(1, sizeof(*e));
    if (!e || cfg->cpus > FAKE_CPUS)
        abort();
    memcpy(&e->fake, cfg->cpu_model, sizeof(e->fake));
    e->bus = *cfg->bus;
    e->cpus = cfg->cpus;
    for (; e->slots < cfg->slot_count; e->slots++)
        e->slot[e->slots] = cfg->slot[e->slots];
    *out = e;
    return 0;
}

static void destroy(struct pn_engine *e) {
    free(e);
}

static int set_slot(struct pn_engine *e, const struct pn_memslot *slot) {
    e->slot[e->slots++] = *slot;
    return 0;
}

static uint8_t *at(struct pn_engine *e, pn_gpa gpa, size_t size) {
    for (unsigned i = 0; i < e->slots; i++)
        if (gpa >= e->slot[i].gpa && gpa - e->slot[i].gpa <= e->slot[i].size - size)
            return (uint8_t *)e->slot[i].hva + (gpa - e->slot[i].gpa);
    return NULL;
}

static size_t read_phys(struct pn_engine *e, pn_gpa gpa, void *buf, size_t size) {
    uint8_t *p = at(e, gpa, size);
    if (p)
        memcpy(buf, p, size);
    return p ? size : 0;
}

static size_t write_phys(struct pn_engine *e, pn_gpa gpa, const void *buf, size_t size) {
    uint8_t *p = at(e, gpa, size);
    if (p)
        memcpy(p, buf, size);
    return p ? size : 0;
}

static void see(struct pn_engine *e, unsigned cpu, uint64_t value) {
    struct fake *f = e->fake;
    if (f->seen_count == FAKE_SEEN)
        return;
    f->seen[f->seen_count].cpu = cpu;
    f->seen[f->seen_count].time = e->cpu[cpu].time;
    f->seen[f->seen_count++].value = value;
}

/* One instruction. Return: false when the run ends, with *why. */
static bool step(struct pn_engine *e, unsigned i, enum pn_exit_reason *why) {
    struct fake_cpu *c = &e->cpu[i];
    const struct step *s = &e->fake->script[i][c->at++];
    if (s->kind != STEP_RUN)
        c->time++, c->retired++;
    switch (s->kind) {
    case STEP_RUN: {
        uint64_t left = s->a - c->partial, room = c->deadline - c->time;
        uint64_t n = left < room ? left : room;
        c->time += n, c->retired += n, c->partial += n;
        if (c->partial < s->a)
            c->at--;
        else
            c->partial = 0;
        break;
    }
    case STEP_OUT:
        e->bus.pio_write(e->bus.opaque, i, (uint16_t)s->a, 1, s->b);
        break;
    case STEP_IN:
        see(e, i, e->bus.pio_read(e->bus.opaque, i, (uint16_t)s->a, 1));
        break;
    case STEP_MMIO:
        e->bus.mmio_write(e->bus.opaque, i, s->a, 4, s->b);
        break;
    case STEP_STI:
        c->interrupts = true;
        break;
    case STEP_HLT:
        c->halted = true;
        break;
    case STEP_LOOP:
        c->at = (unsigned)s->a;
        break;
    case STEP_CRASH:
        *why = PN_EXIT_SHUTDOWN;
        return false;
    case STEP_FAIL:
        *why = PN_EXIT_ERROR;
        return false;
    }
    return true;
}

static void take_interrupt(struct pn_engine *e, unsigned i) {
    struct fake_cpu *c = &e->cpu[i];
    int vector = e->bus.intr_peek(e->bus.opaque, i);
    if (vector < 0 || !c->interrupts)
        return;
    see(e, i, 0x100u + (unsigned)e->bus.intr_ack(e->bus.opaque, i));
    c->halted = false;
}

static enum pn_exit_reason run(struct pn_engine *e, unsigned i, uint64_t deadline) {
    struct fake_cpu *c = &e->cpu[i];
    enum pn_exit_reason why = PN_EXIT_DEADLINE;
    e->current = i;
    c->deadline = deadline;
    if (!c->ran)
        e->fake->start[i] = c->state.seg[PN_CS].base + c->state.rip;
    c->ran = true;
    while (why == PN_EXIT_DEADLINE) {
        if (c->kicked) {
            c->kicked = false;
            return PN_EXIT_STOP;
        }
        take_interrupt(e, i);
        if (c->halted)
            return PN_EXIT_HALT;
        if (c->time >= c->deadline || !step(e, i, &why))
            break;
    }
    return why;
}

static void kick(struct pn_engine *e, unsigned i) {
    e->cpu[i].kicked = true;
    e->fake->kicks++;
}

static void interrupt(struct pn_engine *e, unsigned i) {
}

static void set_deadline(struct pn_engine *e, uint64_t deadline) {
    e->cpu[e->current].deadline = deadline;
}

static uint64_t now(struct pn_engine *e) {
    return e->cpu[e->current].time;
}

static void skip(struct pn_engine *e, uint64_t until) {
    for (unsigned i = 0; i < e->cpus; i++)
        if (e->cpu[i].time < until)
            e->cpu[i].time = until;
}

static void cpuid(struct pn_engine *e, uint32_t leaf, uint32_t subleaf, uint32_t out[4]) {
    memset(out, 0, 16);
    if (leaf == 0x80000008u)
        out[0] = 40;
}

static int get_state(struct pn_engine *e, unsigned i, struct pn_cpu_state *s) {
    *s = e->cpu[i].state;
    s->rflags = e->cpu[i].interrupts ? 0x202 : 2;
    return 0;
}

static int set_state(struct pn_engine *e, unsigned i, const struct pn_cpu_state *s) {
    e->cpu[i].state = *s;
    return 0;
}

static bool init(struct pn_engine *e, unsigned i, bool wait) {
    memset(&e->cpu[i].state, 0, sizeof(e->cpu[i].state));
    e->cpu[i].at = 0;
    e->cpu[i].halted = e->cpu[i].interrupts = e->cpu[i].ran = false;
    return true;
}

static void sipi(struct pn_engine *e, unsigned i, uint8_t vector) {
    e->cpu[i].state.seg[PN_CS].base = (uint64_t)vector << 12;
}

static uint64_t insns(struct pn_engine *e) {
    uint64_t n = 0;
    for (unsigned i = 0; i < e->cpus; i++)
        n += e->cpu[i].retired;
    return n;
}

static uint64_t tsc(struct pn_engine *e, unsigned i, uint64_t now) {
    return e->cpu[i].time;
}

static struct pn_stats *stats(struct pn_engine *e, unsigned i) {
    return &e->cpu[i].stats;
}

static void dump(struct pn_engine *e, unsigned i, FILE *out) {
    fprintf(out, "vCPU %u\n", i);
}

static const char *error(struct pn_engine *e) {
    return "the script says so";
}

const struct pn_engine_ops fake_engine = {
    .name = "fake",
    .create = create,
    .destroy = destroy,
    .set_slot = set_slot,
    .read_phys = read_phys,
    .write_phys = write_phys,
    .run = run,
    .kick = kick,
    .interrupt = interrupt,
    .nmi = kick,
    .set_deadline = set_deadline,
    .now = now,
    .skip = skip,
    .cpuid = cpuid,
    .get_state = get_state,
    .set_state = set_state,
    .init = init,
    .sipi = sipi,
    .insns = insns,
    .tsc = tsc,
    .stats = stats,
    .dump = dump,
    .error = error,
};
