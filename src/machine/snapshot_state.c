/* SPDX-License-Identifier: MIT */
/*
 * A machine as sections of a snapshot, and back. The lists of the machine, of the vCPUs
 * (penumbra/cpu_state.inc) and of the devices (dev_class) say what there is.
 *
 * Invariants
 * 1. Time has reached every vCPU, and no timer is due, while states are taken: what the
 *    next turn would do first is done.
 * 2. Nothing of a snapshot is used unchecked: a field has its size, a flag is 0 or 1, an
 *    index is below its bound, and a device's class has looked at its state.
 * 3. What a device holds (APIC base, deadline, paravirtual MSRs) comes with the device
 *    alone: to write it into a vCPU, too, would do what the guest's WRMSR does.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "machine/pci.h"
#include "machine/snapshot_internal.h"
#include "machine/work.h"
#include "penumbra/mark.h"

#define TIME_MAX     (1ull << 62)
#define EPOCH_MAX    (1ll << 40)
#define TURN_MOST_NS 1000000000u
#define FLAGS        UINT64_C(0x3f7fd7) /* of RFLAGS: SDM volume 1, "EFLAGS Register" */
#define WINDOW_BYTES ((uint64_t)PN_WINDOW_PAGES_MAX * PN_PAGE_SIZE)

const struct snap_field snap_machine_fields[] = {
#define FIELD(member) SNAP_FIELD(struct machine, #member, member),
#include "machine/snapshot_machine.inc"
};
const unsigned snap_machine_field_count =
    sizeof(snap_machine_fields) / sizeof(snap_machine_fields[0]);

/* ---- Configuration ---- */

json_t *snap_config_json(const struct machine_config *cfg) {
    json_t *j = json_object();
#define CONFIG_NUMBER(key, member, most)                                                 \
    json_object_set_new(j, key, json_integer((json_int_t)cfg->member));
#define CONFIG_FLAG(key, member) json_object_set_new(j, key, json_boolean(cfg->member));
#define CONFIG_TEXT(key, member)                                                         \
    json_object_set_new(j, key, cfg->member ? json_string(cfg->member) : json_null());
#include "machine/snapshot_config.inc"
    return j;
}

/* Are all there? A text that is no UTF-8 is no JSON. */
int snap_config_whole(const json_t *j, struct err *e) {
#define CONFIG_TEXT(key, member)                                                         \
    if (!json_object_get(j, key))                                                        \
        return err_set(e, -EINVAL, "%s is no UTF-8: no snapshot", key);
#include "machine/snapshot_config.inc"
    return 0;
}

int snapshot_config(const struct snapshot *s, struct machine_config *cfg, struct err *e) {
    const json_t *j = json_object_get(s->manifest, "machine"), *one;
    const char *bad = NULL;
    uint64_t value;
#define CONFIG_NUMBER(key, member, most)                                                 \
    if (!snap_number(j, key, most, &value))                                              \
        bad = key;                                                                       \
    cfg->member = (__typeof__(cfg->member))value;
#define CONFIG_FLAG(key, member)                                                         \
    one = json_object_get(j, key);                                                       \
    if (!json_is_boolean(one))                                                           \
        bad = key;                                                                       \
    cfg->member = json_is_true(one);
#define CONFIG_TEXT(key, member)                                                         \
    one = json_object_get(j, key);                                                       \
    if (!json_is_string(one) && !json_is_null(one))                                      \
        bad = key;                                                                       \
    cfg->member = json_string_value(one);
#include "machine/snapshot_config.inc"
    if (bad)
        return err_set(e, -EINVAL, "%s: %s: its machine has no '%s'", s->dir,
                       SNAPSHOT_MANIFEST, bad);
    cfg->restore = s;
    return 0;
}

/* ---- vCPUs ---- */

struct vcpu {
    struct pn_cpu_state state;
    struct machine_cpu run;
};

static const struct snap_field vcpu_others[] = {
    SNAP_FIELD(struct vcpu, "xsave", state.xsave),
    SNAP_FIELD(struct vcpu, "run.state", run.state),
    SNAP_FIELD(struct vcpu, "run.init", run.init),
    SNAP_FIELD(struct vcpu, "run.sipi", run.sipi),
    /* Where there is something. */
    SNAP_FIELD(struct vcpu, "nested_size", state.nested_size),
    SNAP_FIELD(struct vcpu, "nested", state.nested),
};
#define VCPU_OTHERS (sizeof(vcpu_others) / sizeof(vcpu_others[0]))
#define VCPU_NESTED 2 /* of them, the last ones */

/* Those of cpu_state.inc come first. Return: how many there are. */
static unsigned vcpu_fields(struct snap_field f[SNAP_FIELDS_MAX]) {
    unsigned n = 0;
    for (; n < pn_cpu_field_count; n++)
        f[n] = (struct snap_field){pn_cpu_fields[n].name, pn_cpu_fields[n].offset,
                                   pn_cpu_fields[n].size, false};
    memcpy(f + n, vcpu_others, sizeof(vcpu_others));
    return n + VCPU_OTHERS;
}

uint64_t snap_msrs_of_devices(void) {
    uint64_t set = 0;
#define PN_MSR_BUS(name, index, present) set |= 1ull << PN_MSR_##name;
#include "penumbra/cpu_state.inc"
    return set;
}

static int save_vcpu(struct machine *m, struct snap_writer *w, unsigned cpu,
                     struct err *e) {
    struct snap_field f[SNAP_FIELDS_MAX];
    struct snap_bytes b = {0};
    struct vcpu *v = calloc(1, sizeof(*v));
    char name[32];
    int rc = v ? m->ops->get_state(m->engine, cpu, &v->state) : -ENOMEM;
    if (rc == 0) {
        v->run = m->cpu[cpu];
        unsigned count = vcpu_fields(f) - (v->state.nested_size ? 0 : VCPU_NESTED);
        for (unsigned i = 0; i < count; i++)
            if (i >= pn_cpu_field_count || pn_cpu_fields[i].msr < 0 ||
                v->state.msr_known >> pn_cpu_fields[i].msr & 1)
                snap_put_field(&b, &f[i], v);
        rc = b.failed ? -ENOMEM : 0;
    }
    snprintf(name, sizeof(name), "vcpu%u", cpu);
    rc = rc ? err_sys(e, rc, "section %s", name)
            : snap_writer_section(w, name, 1, b.data, b.size, e);
    free(b.data);
    free(v);
    return rc;
}

/* Could a CPU be in it? SDM volume 3, "Paging-Mode Modifiers" and "Initializing IA-32e
 * Mode": control registers that go together. Outside 64-bit code addresses have 32 bits. */
static bool plausible(const struct pn_cpu_state *s) {
    bool lma = s->efer & EFER_LMA;
    if ((s->cr0 & CR0_PG && !(s->cr0 & CR0_PE)) || s->cr0 >> 32 || s->cr4 >> 32 ||
        lma != (s->efer & EFER_LME && s->cr0 & CR0_PG) || (lma && !(s->cr4 & CR4_PAE)) ||
        (lma && s->rflags & FL_VM) || (!lma && s->cr3 >> 32) ||
        (s->rflags & FL_VM && !(s->cr0 & CR0_PE)) || s->rflags & ~FLAGS)
        return false;
    if (pn_cpu_state_code_bits(s) == 64)
        return true;
    for (unsigned i = 0; i < PN_SEGMENTS; i++)
        if (!lma && s->seg[i].base >> 32)
            return false;
    return !(s->rip >> 32) && !(s->seg[PN_CS].base >> 32);
}

int snap_get_vcpu(const struct snapshot *s, unsigned cpu, struct pn_cpu_state *state,
                  struct machine_cpu *run, struct err *e) {
    struct snap_field f[SNAP_FIELDS_MAX];
    uint64_t seen[SNAP_FIELDS_MAX / 64];
    char name[32];
    snprintf(name, sizeof(name), "vcpu%u", cpu);
    const struct snap_section *n = snap_section(s, name, 1, e);
    struct vcpu *v = n ? calloc(1, sizeof(*v)) : NULL;
    if (!v)
        return n ? err_set(e, -ENOMEM, "out of memory") : -EINVAL;
    unsigned count = vcpu_fields(f);
    int rc = snap_get_fields(name, n->data, n->size, f, count, v, seen, e);
    for (unsigned i = 0; rc == 0 && i < count; i++) {
        int msr = i < pn_cpu_field_count ? pn_cpu_fields[i].msr : -1;
        if (msr >= 0 && snap_seen(seen, i))
            v->state.msr_known |= 1ull << msr;
        else if (msr < 0 && !snap_seen(seen, i) && i < count - VCPU_NESTED)
            rc = err_set(e, -EINVAL, "section %s: it has no field %s", name, f[i].name);
    }
    if (rc == 0 &&
        (!plausible(&v->state) || v->state.nested_size > PN_NESTED_SIZE ||
         v->run.state > CPU_WAIT_SIPI || v->run.sipi < -1 || v->run.sipi > 255))
        rc = err_set(e, -EINVAL, "section %s: no state that a CPU can be in", name);
    *state = v->state;
    *run = v->run;
    free(v);
    return rc;
}

static int restore_vcpus(struct machine *m, const struct pn_cpu_state *cpu,
                         struct err *e) {
    uint32_t leaf[4];
    int rc = 0;
    m->ops->cpuid(m->engine, 0xd, 0, leaf);
    for (unsigned i = 0; rc == 0 && i < m->cfg.cpus; i++) {
        /* x87 state is always enabled, also where there is no XSAVE to say so. */
        rc = cpu[i].xcr0 & ~(leaf[0] | (uint64_t)leaf[3] << 32 | 1) ? -EINVAL : 0;
        if (rc == 0 && !m->ops->threaded)
            rc = m->ops->set_state(m->engine, i, &cpu[i]);
        if (rc)
            err_set(e, rc, "section vcpu%u: no state that this CPU model can be in", i);
    }
    return rc;
}

/* ---- Devices ---- */

static void device_name(char name[32], const struct dev_class *c, unsigned instance) {
    snprintf(name, 32, "dev.%.20s.%u", c->name, instance);
}

/* The place of the timer, and the state. */
static int save_devices(struct machine *m, struct snap_writer *w, struct err *e) {
    struct dev_states *all = dev_bus_save(m->bus);
    int rc = all ? 0 : err_set(e, -ENOMEM, "out of memory");
    for (unsigned i = 0; rc == 0 && i < all->count; i++) {
        const struct dev_record *r = &all->record[i];
        const uint32_t turn = r->turn;
        struct snap_bytes b = {0};
        char name[32];
        device_name(name, r->class, r->instance);
        snap_put(&b, &turn, sizeof(turn));
        snap_put(&b, r->state, r->class->state_size);
        rc = b.failed
                 ? err_set(e, -ENOMEM, "out of memory")
                 : snap_writer_section(w, name, r->class->version, b.data, b.size, e);
        free(b.data);
    }
    dev_states_free(all);
    return rc;
}

static int read_device(const struct snapshot *s, const struct device *d,
                       struct dev_record *r, struct err *e) {
    const struct dev_class *c = d->class;
    uint32_t turn;
    char name[32];
    device_name(name, c, d->instance);
    const struct snap_section *n = snap_section(s, name, c->version, e);
    if (!n)
        return -EINVAL;
    if (n->size != sizeof(turn) + c->state_size)
        return err_set(e, -EINVAL, "section %s: %zu bytes, and not %zu", name, n->size,
                       sizeof(turn) + c->state_size);
    memcpy(&turn, n->data, sizeof(turn));
    *r = (struct dev_record){c, d->instance, turn, malloc(c->state_size)};
    if (!r->state)
        return err_set(e, -ENOMEM, "out of memory");
    memcpy(r->state, n->data + sizeof(turn), c->state_size);
    return c->check && !c->check(d, r->state)
               ? err_set(e, -EINVAL, "section %s: no state that the device can be in",
                         name)
               : 0;
}

static int by_turn(const void *a, const void *b) {
    const struct dev_record *x = a, *y = b;
    return x->turn < y->turn ? -1 : x->turn > y->turn;
}

static int restore_devices(struct machine *m, struct err *e) {
    unsigned count = 0;
    for (const struct device *d = *dev_bus_devices(m->bus); d; d = d->next)
        count++;
    struct dev_states *all = calloc(1, sizeof(*all) + count * sizeof(all->record[0]));
    int rc = all ? 0 : err_set(e, -ENOMEM, "out of memory");
    for (const struct device *d = *dev_bus_devices(m->bus); rc == 0 && d; d = d->next)
        rc = read_device(m->cfg.restore, d, &all->record[all->count++], e);
    if (rc == 0) {
        qsort(all->record, all->count, sizeof(all->record[0]), by_turn);
        rc = dev_bus_load(m->bus, all);
        if (rc)
            err_sys(e, rc, "the devices' sections");
    }
    dev_states_free(all);
    return rc;
}

/* ---- The machine ---- */

static int save_machine(struct machine *m, struct snap_writer *w, struct err *e) {
    struct snap_bytes b = {0};
    uint64_t before = m->insns_before;
    clock_now(&m->clock); /* now_max is now */
    m->insns_before = machine_insns(m);
    for (unsigned i = 0; i < snap_machine_field_count; i++)
        snap_put_field(&b, &snap_machine_fields[i], m);
    m->insns_before = before;
    int rc = b.failed ? err_set(e, -ENOMEM, "out of memory")
                      : snap_writer_section(w, "machine", 1, b.data, b.size, e);
    free(b.data);
    return rc;
}

static bool machine_is_possible(const struct machine *in, unsigned cpus) {
    bool window = in->window_gpa == PN_WINDOW_A || in->window_gpa == PN_WINDOW_B;
    return in->now_max < TIME_MAX && in->insns_before < TIME_MAX && in->epoch >= 0 &&
           in->epoch < EPOCH_MAX && in->current < cpus && in->turn < cpus &&
           in->input_count <= sizeof(in->input) &&
           in->deadline < in->now_max + TURN_MOST_NS &&
           !(in->window_size % PN_PAGE_SIZE) && in->window_size <= WINDOW_BYTES &&
           (window || !in->window_size);
}

/* Return: as malloced; NULL with a line in e. */
static struct machine *read_machine(const struct machine *m, struct err *e) {
    uint64_t seen[SNAP_FIELDS_MAX / 64];
    const struct snap_section *n = snap_section(m->cfg.restore, "machine", 1, e);
    struct machine *in = n ? calloc(1, sizeof(*in)) : NULL;
    if (!in) {
        if (n)
            err_set(e, -ENOMEM, "out of memory");
        return NULL;
    }
    int rc = snap_get_fields(n->name, n->data, n->size, snap_machine_fields,
                             snap_machine_field_count, in, seen, e);
    for (unsigned i = 0; rc == 0 && i < snap_machine_field_count; i++)
        if (!snap_seen(seen, i))
            rc = err_set(e, -EINVAL, "section machine: it has no field %s",
                         snap_machine_fields[i].name);
    if (rc == 0 && !machine_is_possible(in, m->cfg.cpus))
        rc = err_set(e, -EINVAL, "section machine: not possible");
    if (rc == 0)
        return in;
    free(in);
    return NULL;
}

/* The line, with the folder before it. Return: rc. */
static int named(const struct machine *m, int rc, const char *line, struct err *e) {
    return rc ? err_set(e, rc, "%s: %s", m->cfg.restore->dir, line) : 0;
}

int snapshot_begin(struct machine *m, uint64_t *now, struct machine_past **from,
                   struct err *e) {
    char line[200] = "";
    struct err inner = {line, sizeof(line)};
    struct machine *in = read_machine(m, &inner);
    if (!in)
        return named(m, -EINVAL, line, e);
    *now = in->now_max;
    m->epoch = in->epoch;
    free(in);
    *from = NULL;
    if (!m->ops->host_cpu && snap_cpuid_of_host(m->cfg.restore) &&
        !(*from = snap_cpuid_from(m->cfg.restore)))
        return err_set(e, -ENOMEM, "out of memory");
    m->cpuid_of_host = m->ops->host_cpu || *from;
    return 0;
}

static int restore_machine(struct machine *m, const struct machine_cpu *run,
                           struct err *e) {
    struct machine *in = read_machine(m, e);
    if (!in)
        return -EINVAL;
    for (unsigned i = 0; i < snap_machine_field_count; i++) {
        const struct snap_field *f = &snap_machine_fields[i];
        memcpy((uint8_t *)m + f->offset, (const uint8_t *)in + f->offset, f->size);
    }
    free(in);
    memcpy(m->cpu, run, m->cfg.cpus * sizeof(*run));
    if (m->window_size && !m->window.base)
        return err_set(e, -EINVAL, "%s: it has no window", SNAPSHOT_MEMORY);
    int rc = m->window_size ? window_add_again(m) : 0;
    return rc ? err_sys(e, rc, "the window's memslot") : 0;
}

/* The machine is as the snapshot is: the next one can stand on it. */
static int restored_is_base(struct machine *m, struct err *e) {
    struct machine_base *b;
    uint64_t digest;
    int rc = machine_base_begin(m, &b);
    if (rc)
        return err_sys(e, rc, "the dirty log");
    if (snap_hex(m->cfg.restore->manifest, "xxh3", &digest))
        machine_base_keep(m, b, digest);
    else /* of a snapshot that was not read from a folder */
        machine_base_drop(b);
    return 0;
}

/* All of the vCPUs' sections. Return: 0, or -errno with a line in e. */
static int read_vcpus(struct machine *m, struct pn_cpu_state *cpu,
                      struct machine_cpu *run, struct err *e) {
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < m->cfg.cpus; i++) {
        rc = snap_get_vcpu(m->cfg.restore, i, &cpu[i], &run[i], e);
        cpu[i].msr_known &= ~snap_msrs_of_devices();
    }
    return rc;
}

/* Sections that the machine, CPUID, vCPUs and the devices of that bus have no use for? */
static int all_used(const struct machine *m, struct dev_bus *bus, struct err *e) {
    const struct snapshot *s = m->cfg.restore;
    unsigned used = 2 + m->cfg.cpus + machine_disks(m) + !!m->bios;
    for (const struct device *d = *dev_bus_devices(bus); d; d = d->next)
        used++;
    return used == s->sections
               ? 0
               : err_set(e, -EINVAL, "%u sections of %u are of no use to this version",
                         s->sections - used, s->sections);
}

/* An engine that has the interrupt controllers gets them, and the vCPUs, at the end. */
static int restore_threaded(struct machine *m, const struct pn_cpu_state *cpu,
                            const struct machine_cpu *run, struct err *e) {
    struct snap_still *still;
    if (m->cfg.devices)
        return err_set(e, -ENOTSUP,
                       "a guest with devices on PCI goes on under shadow or tdp, not %s",
                       m->ops->name);
    int rc = snap_still_for(m, &still, e);
    if (rc)
        return rc;
    struct machine *t = snap_still_machine(still);
    rc = restore_devices(t, e);
    if (rc == 0)
        rc = all_used(m, t->bus, e);
    if (rc == 0)
        rc = restore_machine(m, run, e);
    if (rc == 0) {
        t->lines = m->lines;
        rc = snap_still_put(still, cpu, run, e);
    }
    snap_still_free(still);
    return rc;
}

static int restore_states(struct machine *m, struct pn_cpu_state *cpu, struct err *e) {
    struct machine_cpu run[MACHINE_CPUS_MAX];
    const char *mmu = json_string_value(json_object_get(m->cfg.restore->manifest, "mmu"));
    int rc = read_vcpus(m, cpu, run, e);
    if (rc == 0 &&
        machine_vmx_stays(mmu && !strcmp(mmu, "kvm"), m->ops->host_cpu, cpu, m->cfg.cpus))
        rc = err_set(e, -ENOTSUP, MACHINE_VMX_STAYS);
    if (rc == 0)
        rc = restore_vcpus(m, cpu, e);
    if (rc || m->ops->threaded)
        return rc ? rc : restore_threaded(m, cpu, run, e);
    rc = restore_devices(m, e);
    if (rc == 0)
        rc = snap_disks_check(m, e);
    if (rc == 0)
        rc = all_used(m, m->bus, e);
    return rc ? rc : restore_machine(m, run, e);
}

static int restore(struct machine *m, struct err *e) {
    struct pn_cpu_state *cpu = calloc(m->cfg.cpus, sizeof(*cpu));
    int rc = cpu ? snap_check_cpuid(m, e) : err_set(e, -ENOMEM, "out of memory");
    if (rc == 0)
        rc = snap_fill(m, e);
    if (rc == 0)
        rc = restore_states(m, cpu, e);
    free(cpu);
    return rc ? rc : restored_is_base(m, e);
}

int snapshot_restore(struct machine *m, struct err *e) {
    char line[200] = "";
    struct err inner = {line, sizeof(line)};
    return named(m, restore(m, &inner), line, e);
}

int snap_save_sections(struct machine *m, struct snap_writer *w, struct err *e) {
    int rc = save_machine(m, w, e);
    if (rc == 0)
        rc = snap_save_cpuid(m, w, e);
    for (unsigned i = 0; rc == 0 && i < m->cfg.cpus; i++)
        rc = save_vcpu(m, w, i, e);
    if (rc == 0)
        rc = save_devices(m, w, e);
    return rc ? rc : snap_disks_save(m, w, e);
}
