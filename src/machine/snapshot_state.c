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
#include <time.h>

#include "machine/snapshot_internal.h"
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

static json_t *config_json(const struct machine_config *cfg) {
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
static int config_whole(const json_t *j, struct err *e) {
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
};
#define VCPU_OTHERS (sizeof(vcpu_others) / sizeof(vcpu_others[0]))

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
        unsigned count = vcpu_fields(f);
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

/* Section `name` of a version that is known here. Return: NULL with a line in e. */
static const struct snap_section *section(const struct snapshot *s, const char *name,
                                          uint32_t version, struct err *e) {
    const struct snap_section *n = snap_find(s, name);
    if (!n)
        err_set(e, -EINVAL, "section %s: there is none", name);
    else if (n->version != version)
        err_set(e, -EINVAL, "section %s: version %" PRIu32 ", and not %" PRIu32, name,
                n->version, version);
    return n && n->version == version ? n : NULL;
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
    const struct snap_section *n = section(s, name, 1, e);
    struct vcpu *v = n ? calloc(1, sizeof(*v)) : NULL;
    if (!v)
        return n ? err_set(e, -ENOMEM, "out of memory") : -EINVAL;
    unsigned count = vcpu_fields(f);
    int rc = snap_get_fields(name, n->data, n->size, f, count, v, seen, e);
    for (unsigned i = 0; rc == 0 && i < count; i++) {
        int msr = i < pn_cpu_field_count ? pn_cpu_fields[i].msr : -1;
        if (msr >= 0 && snap_seen(seen, i))
            v->state.msr_known |= 1ull << msr;
        else if (msr < 0 && !snap_seen(seen, i))
            rc = err_set(e, -EINVAL, "section %s: it has no field %s", name, f[i].name);
    }
    if (rc == 0 && (!plausible(&v->state) || v->run.state > CPU_WAIT_SIPI ||
                    v->run.sipi < -1 || v->run.sipi > 255))
        rc = err_set(e, -EINVAL, "section %s: no state that a CPU can be in", name);
    *state = v->state;
    *run = v->run;
    free(v);
    return rc;
}

static int restore_vcpu(struct machine *m, unsigned cpu, struct machine_cpu *run,
                        struct err *e) {
    uint32_t leaf[4];
    struct pn_cpu_state *s = calloc(1, sizeof(*s));
    int rc = s ? snap_get_vcpu(m->cfg.restore, cpu, s, run, e)
               : err_set(e, -ENOMEM, "out of memory");
    if (rc == 0) {
        m->ops->cpuid(m->engine, 0xd, 0, leaf);
        s->msr_known &= ~snap_msrs_of_devices();
        /* x87 state is always enabled, also where there is no XSAVE to say so. */
        rc = s->xcr0 & ~(leaf[0] | (uint64_t)leaf[3] << 32 | 1)
                 ? -EINVAL
                 : m->ops->set_state(m->engine, cpu, s);
        if (rc)
            err_set(e, rc, "section vcpu%u: no state that this CPU model can be in", cpu);
    }
    free(s);
    return rc;
}

/* ---- CPUID: what the guest has seen, it sees again ---- */

struct cpuid_leaf {
    uint32_t leaf, subleaf, out[4];
};
static const uint32_t cpuid_leaves[][2] = {
    {0, 0},           {1, 0},           {4, 0},           {6, 0},
    {7, 0},           {7, 1},           {0xd, 0},         {0xd, 1},
    {0x40000000u, 0}, {0x40000001u, 0}, {0x80000000u, 0}, {0x80000001u, 0},
    {0x80000007u, 0}, {0x80000008u, 0},
};
#define CPUID_LEAVES (sizeof(cpuid_leaves) / sizeof(cpuid_leaves[0]))

static int save_cpuid(struct machine *m, struct snap_writer *w, struct err *e) {
    struct cpuid_leaf l[CPUID_LEAVES];
    for (unsigned i = 0; i < CPUID_LEAVES; i++) {
        l[i] = (struct cpuid_leaf){.leaf = cpuid_leaves[i][0],
                                   .subleaf = cpuid_leaves[i][1]};
        m->ops->cpuid(m->engine, l[i].leaf, l[i].subleaf, l[i].out);
    }
    return snap_writer_section(w, "cpuid", 1, l, sizeof(l), e);
}

static void vendor_name(const uint32_t leaf0[4], char name[13]) {
    memcpy(name, &leaf0[1], 4);
    memcpy(name + 4, &leaf0[3], 4);
    memcpy(name + 8, &leaf0[2], 4);
    name[12] = 0;
}

/* Leaf 0: KVM has the vendor of the host's processor. */
static int check_vendor(const uint32_t was[4], const uint32_t is[4], struct err *e) {
    char old[13], now[13];
    vendor_name(was, old);
    vendor_name(is, now);
    return strcmp(old, now)
               ? err_set(e, -EINVAL,
                         "section cpuid: the guest has seen a processor of %s, and "
                         "here it is %s: boot it with --cpu MODEL,vendor=%s",
                         old, now, strcmp(now, "AuthenticAMD") ? "intel" : "amd")
               : 0;
}

static int check_cpuid(struct machine *m, struct err *e) {
    static const char *const reg[] = {"eax", "ebx", "ecx", "edx"};
    const struct snap_section *n = section(m->cfg.restore, "cpuid", 1, e);
    struct cpuid_leaf l;
    uint32_t out[4];
    if (!n)
        return -EINVAL;
    if (n->size != CPUID_LEAVES * sizeof(l))
        return err_set(e, -EINVAL, "section cpuid: not of this version");
    for (unsigned i = 0; i < CPUID_LEAVES; i++) {
        memcpy(&l, n->data + i * sizeof(l), sizeof(l));
        m->ops->cpuid(m->engine, l.leaf, l.subleaf, out);
        int rc = l.leaf ? 0 : check_vendor(l.out, out, e);
        if (rc)
            return rc;
        for (unsigned r = 0; r < 4; r++)
            if (out[r] != l.out[r])
                return err_set(e, -EINVAL,
                               "section cpuid: leaf 0x%" PRIx32 " subleaf %" PRIu32
                               ": %s was 0x%" PRIx32 ", and this CPU model on this host "
                               "has 0x%" PRIx32,
                               l.leaf, l.subleaf, reg[r], l.out[r], out[r]);
    }
    return 0;
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
    const struct snap_section *n = section(s, name, c->version, e);
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

/* ---- Memory ---- */

static unsigned regions(struct machine *m, struct snap_region r[SNAP_REGIONS_MAX]) {
    r[0] = (struct snap_region){"ram", m->cfg.ram / PN_PAGE_SIZE, m->ram.base, NULL};
    r[1] = (struct snap_region){"window", PN_WINDOW_PAGES_MAX, m->window.base, NULL};
    return m->window.base ? 2 : 1;
}

struct filling {
    struct machine *m;
    const struct snap_memory *memory;
};

static uint8_t *page_at(const struct filling *f, uint64_t page) {
    uint64_t ram = f->memory->region[0].pages;
    return page < ram ? f->m->ram.base + page * PN_PAGE_SIZE
                      : f->m->window.base + (page - ram) * PN_PAGE_SIZE;
}

/* Into RAM as a loader writes: a dirty log has it. The window is no slot yet. */
static int put_page(const struct filling *f, uint64_t page, const uint8_t *data) {
    struct machine *m = f->m;
    uint64_t at = page * PN_PAGE_SIZE;
    if (page >= f->memory->region[0].pages) {
        memcpy(page_at(f, page), data, PN_PAGE_SIZE);
        machine_dirty_mark_window(m, page - f->memory->region[0].pages);
        return 0;
    }
    pn_gpa gpa = at < LOW_RAM_MAX ? at : HIGH_RAM_BASE + (at - LOW_RAM_MAX);
    return m->ops->write_phys(m->engine, gpa, data, PN_PAGE_SIZE) == PN_PAGE_SIZE
               ? 0
               : -EFAULT;
}

static int put_stored(void *opaque, uint64_t page, const uint8_t *data) {
    return put_page(opaque, page, data);
}

static int restore_memory(struct machine *m, struct err *e) {
    const struct snap_memory *s = &m->cfg.restore->memory;
    const struct filling f = {m, s};
    struct snap_region r[SNAP_REGIONS_MAX];
    int rc = s->regions > 1 ? window_take_memory(m) : 0;
    if (rc)
        return err_sys(e, rc, "the window's memory");
    unsigned count = regions(m, r);
    for (unsigned i = 0; i < SNAP_REGIONS_MAX; i++)
        if (s->regions != count ||
            (i < count && (strcmp(r[i].name, s->region[i].name) != 0 ||
                           r[i].pages != s->region[i].pages)))
            return err_set(e, -EINVAL,
                           "%s: not the memory of a guest of %" PRIu64 " pages",
                           SNAPSHOT_MEMORY, m->cfg.ram / PN_PAGE_SIZE);
    rc = snap_read_pages(m->cfg.restore, put_stored, (void *)(uintptr_t)&f, e);
    for (uint64_t p = 0; rc == 0 && p < s->pages; p++)
        if (s->page[p] && snap_first(s, p) != p)
            rc = put_page(&f, p, page_at(&f, snap_first(s, p)));
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
    const struct snap_section *n = section(m->cfg.restore, "machine", 1, e);
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

int snapshot_begin(struct machine *m, uint64_t *now, struct err *e) {
    char line[200] = "";
    struct err inner = {line, sizeof(line)};
    struct machine *in = read_machine(m, &inner);
    if (!in)
        return named(m, -EINVAL, line, e);
    *now = in->now_max;
    m->epoch = in->epoch;
    free(in);
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

static int restore(struct machine *m, struct err *e) {
    struct machine_cpu run[MACHINE_CPUS_MAX];
    const struct snapshot *s = m->cfg.restore;
    int rc = check_cpuid(m, e);
    if (rc == 0)
        rc = restore_memory(m, e);
    for (unsigned i = 0; rc == 0 && i < m->cfg.cpus; i++)
        rc = restore_vcpu(m, i, &run[i], e);
    if (rc == 0)
        rc = restore_devices(m, e);
    if (rc)
        return rc;
    unsigned used = 2 + m->cfg.cpus; /* machine, cpuid, vCPUs, devices */
    for (const struct device *d = *dev_bus_devices(m->bus); d; d = d->next)
        used++;
    if (used != s->sections)
        return err_set(e, -EINVAL, "%u sections of %u are of no use to this version",
                       s->sections - used, s->sections);
    rc = restore_machine(m, run, e);
    return rc ? rc : restored_is_base(m, e);
}

int snapshot_restore(struct machine *m, struct err *e) {
    char line[200] = "";
    struct err inner = {line, sizeof(line)};
    return named(m, restore(m, &inner), line, e);
}

/* ---- Saving ---- */

static json_t *manifest(struct machine *m, json_t *memory, json_t *about) {
    char when[32];
    time_t t = time(NULL);
    struct tm tm;
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
    json_t *j = json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:o, s:O}", "schema", SNAPSHOT_SCHEMA, "time", when,
        "mmu", m->ops->name, "guest_ns", (json_int_t)m->now_max, "guest_insns",
        (json_int_t)machine_insns(m), "machine", config_json(&m->cfg), "memory", memory);
    if (j && about)
        json_object_set(j, "about", about);
    return j;
}

/* What the new one stands on. */
struct stand {
    json_t *parent;            /* for the manifest; NULL: on nothing */
    struct machine_base *base; /* what was written since */
    bool window;               /* the parent has it, too */
};

static int find_stand(struct machine *m, const struct snapshot_request *r,
                      struct stand *s, struct err *e) {
    json_t *manifest;
    uint64_t digest = 0;
    *s = (struct stand){0};
    if (!r->parent)
        return 0;
    if (!m->dirty)
        return err_set(e, -EINVAL,
                       "--parent: this run has no dirty log: begin it with --dirty-log");
    int rc = snap_read_manifest(r->parent, &manifest, e);
    if (rc)
        return rc;
    if (snap_hex(manifest, "xxh3", &digest))
        s->base = machine_base_find(m, digest);
    s->window = json_array_size(
                    json_object_get(json_object_get(manifest, "memory"), "regions")) > 1;
    if (!s->base)
        rc = err_set(e, -EINVAL,
                     "%s: not one of the last 64 snapshots that this run has saved, used "
                     "as a parent or begun from",
                     r->parent);
    else if (!(s->parent = snap_parent_json(r->dir, r->parent, manifest, e)))
        rc = -EINVAL;
    json_decref(manifest);
    return rc;
}

static int save_memory(struct machine *m, struct snap_writer *w, const struct stand *s,
                       json_t **out, struct err *e) {
    struct snap_region r[SNAP_REGIONS_MAX];
    const uint64_t *ram, *window;
    unsigned count = regions(m, r);
    if (s->parent) {
        int rc = machine_base_changed(s->base, &ram, &window);
        if (rc)
            return err_sys(e, rc, "the dirty log");
        r[0].changed = ram;
        r[1].changed = s->window ? window : NULL;
    }
    *out = snap_memory_write(w->memory_fd, r, count, e);
    return *out ? 0 : -EIO;
}

static int save(struct machine *m, struct snap_writer *w,
                const struct snapshot_request *r, const struct stand *s, uint64_t *digest,
                struct err *e) {
    json_t *memory = NULL;
    int rc = save_machine(m, w, e);
    if (rc == 0)
        rc = save_cpuid(m, w, e);
    for (unsigned i = 0; rc == 0 && i < m->cfg.cpus; i++)
        rc = save_vcpu(m, w, i, e);
    if (rc == 0)
        rc = save_devices(m, w, e);
    if (rc == 0)
        rc = save_memory(m, w, s, &memory, e);
    if (rc)
        return rc;
    json_t *j = manifest(m, memory, r->about);
    if (j && s->parent)
        json_object_set(j, "parent", s->parent);
    rc = j ? config_whole(json_object_get(j, "machine"), e)
           : err_set(e, -ENOMEM, "out of memory");
    if (rc == 0)
        rc = snap_writer_commit(w, j, e);
    if (rc == 0)
        snap_hex(j, "xxh3", digest);
    json_decref(memory);
    json_decref(j);
    return rc;
}

int snap_can_be_saved(struct machine *m, struct err *e) {
    if (m->ops->threaded)
        return err_set(e, -ENOTSUP,
                       "--mmu %s keeps the interrupt controllers: hand the guest over to "
                       "shadow or tdp first",
                       m->ops->name);
    clock_run(&m->clock);
    m->ops->skip(m->engine, clock_now(&m->clock));
    if (machine_is_over(m))
        return err_set(e, -EINVAL, "the guest has ended");
    if (m->sleep != AWAKE)
        return err_set(e, -EINVAL, "the guest sleeps (ACPI S3): wake it first");
    return 0;
}

int machine_snapshot_save(struct machine *m, const struct snapshot_request *r,
                          struct err *e) {
    struct snap_writer w;
    struct stand s = {0};
    struct machine_base *base = NULL;
    uint64_t digest = 0;
    int rc = snap_can_be_saved(m, e);
    if (rc == 0)
        rc = find_stand(m, r, &s, e);
    if (rc == 0)
        rc = snap_writer_open(&w, r->dir, r->force, e);
    if (rc == 0) {
        rc = machine_base_begin(m, &base);
        rc = rc ? err_sys(e, rc, "the dirty log") : save(m, &w, r, &s, &digest, e);
        snap_writer_abandon(&w);
    }
    if (rc == 0)
        machine_base_keep(m, base, digest);
    else
        machine_base_drop(base);
    json_decref(s.parent);
    return rc;
}
