/* SPDX-License-Identifier: MIT */
/*
 * Replay: see replay.h.
 *
 * Guest memory is the memslots', empty but for what the recording tells: pages that some
 * walk read as tables. An access asks the TLB first, as the CPU does: the recorded MMU's
 * may have had it while this one's has it not, and the other way round.
 *
 * Invariants
 * 1. Whatever a recording says, nothing outside of the memslots' memory is touched: numbers
 *    are checked here, addresses by the MMU.
 * 2. Into an equal MMU all happens as it was recorded; what the CPU decided by the answers
 *    (unprotect, and the access again) is decided here by this MMU's.
 */
#include "inspect/replay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "inspect/recording_read.h"

#define REGIONS_MAX 1024u
#define GIB         ((uint64_t)1 << 30)

/* The memory of one memslot, at the same address modulo 1 GiB as in the run: large mappings
 * depend on it. */
struct region {
    uint32_t id;
    void *map;
    size_t span;
    uint8_t *hva;
    uint64_t size;
};

struct vcpu {
    struct pn_mmu_vcpu *mmu;
    struct pn_tlb_view view;
    struct pn_stats stats;
    bool begun; /* how its guest pages has been told */
};

struct replay {
    struct pn_mmu *mmu;
    bool model;
    struct vcpu vcpu[RECORDING_VCPUS];
    unsigned vcpus;
    struct region region[REGIONS_MAX];
    unsigned regions;
    uint64_t memory, memory_max; /* bytes of all regions */
    /* The last access: what unprotect is about. */
    struct vcpu *by;
    pn_gva gva;
    pn_gpa gpa;
    enum pn_access access;
    enum pn_tlb_mode mode;
    bool tracked;
    uint64_t accesses, hits, fetches;
    uint64_t *bitmap; /* of harvests */
};

bool replay_counts(enum pn_stat id) {
    return id <= PN_STAT_dbit_scanned || id == PN_STAT_code_stores ||
           pn_stat_kind(id) == PN_STAT_KIND_MODEL;
}

/* ---- Accesses ---- */

static void translate(struct replay *p) {
    struct pn_xlate x;
    enum pn_outcome outcome =
        pn_mmu_translate(p->by->mmu, p->gva, p->access, p->mode, &x);
    p->tracked = outcome != PN_OUT_NO_FAULT && pn_answer(outcome) == PN_TRACKED;
    p->gpa = x.gpa;
}

static inline bool hit(struct vcpu *v, pn_gva gva, unsigned access, unsigned mode) {
    const struct pn_tlb_entry *e =
        &v->view.tlb[mode][gva >> PN_PAGE_SHIFT & (PN_TLB_ENTRIES - 1)];
    if ((e->tag[access] ^ gva) >= PN_PAGE_SIZE)
        return false;
    pn_tlb_used(&v->view, e);
    return true;
}

static int do_access(struct replay *p, struct vcpu *v, const struct pn_op *op) {
    unsigned access = op->how & PN_OP_ACCESS, mode = op->how >> PN_OP_MODE & 3;
    if (access > PN_FETCH || mode >= PN_TLB_MODES)
        return -EBADMSG;
    if (op->how & PN_OP_AGAIN) /* done by unprotect, where it is to be done */
        return 0;
    p->tracked = false;
    p->accesses++;
    if (!(op->how & PN_OP_FORCED) && hit(v, op->w[0], access, mode)) {
        p->hits++;
        return 0;
    }
    p->by = v;
    p->gva = op->w[0];
    p->access = (enum pn_access)access;
    p->mode = (enum pn_tlb_mode)mode;
    translate(p);
    return 0;
}

static void unprotect(struct replay *p) {
    if (p->tracked && pn_mmu_unprotect(p->by->mmu, p->gpa))
        translate(p);
    p->tracked = false;
}

/* ---- Memory ---- */

static int poke(struct replay *p, pn_gpa gpa, const uint8_t *data, size_t size) {
    while (size) {
        const struct pn_memslot *s = pn_mmu_slot_find(p->mmu, gpa);
        if (!s)
            break;
        size_t room = s->size - (gpa - s->gpa), n = size < room ? size : room;
        memcpy((uint8_t *)s->hva + (gpa - s->gpa), data, n);
        gpa += n;
        data += n;
        size -= n;
    }
    return 0;
}

/* Bytes that nobody recorded are no table's: those that are there do. */
static int do_write(struct replay *p, struct vcpu *v, const struct pn_op *op) {
    uint64_t size = op->w[1];
    const void *data = op->size ? op->data : NULL;
    if (op->size ? op->size != size : size > p->memory)
        return -EBADMSG;
    if (v)
        pn_mmu_vcpu_write(v->mmu, op->w[0], data, size);
    else
        pn_mmu_write_phys(p->mmu, op->w[0], data, size);
    return 0;
}

static struct region *region_of(struct replay *p, uint64_t id) {
    for (unsigned i = 0; i < p->regions; i++)
        if (p->region[i].id == id)
            return &p->region[i];
    return NULL;
}

static void unmap(struct replay *p, struct region *g) {
    munmap(g->map, g->span);
    p->memory -= g->size;
    *g = p->region[--p->regions];
}

static int map(struct replay *p, uint32_t id, uint64_t size, uint64_t phase,
               struct region **out) {
    if (!size || (size | phase) & ~PN_PAGE_MASK || phase >= GIB ||
        size > p->memory_max - p->memory || p->regions == REGIONS_MAX)
        return -EBADMSG;
    struct region *g = &p->region[p->regions];
    size_t span = size + GIB;
    void *map = mmap(NULL, span, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return -errno;
    madvise(map, span, MADV_NOHUGEPAGE); /* few of its pages are touched */
    uint8_t *hva = (uint8_t *)map + ((phase - (uintptr_t)map) & (GIB - 1));
    *g = (struct region){id, map, span, hva, size};
    p->regions++;
    p->memory += size;
    *out = g;
    return 0;
}

static int do_slot(struct replay *p, const struct pn_op *op) {
    if (op->w[0] >= PN_SLOTS_MAX || op->w[1] > UINT32_MAX)
        return -EBADMSG;
    struct region *g = region_of(p, op->w[0]);
    bool fresh = !g && op->w[3];
    int rc = fresh ? map(p, (uint32_t)op->w[0], op->w[3], op->w[4], &g) : 0;
    if (rc)
        return rc;
    const struct pn_memslot slot = {.id = (uint32_t)op->w[0],
                                    .flags = (uint32_t)op->w[1],
                                    .gpa = op->w[2],
                                    .size = op->w[3],
                                    .hva = g ? g->hva : NULL};
    rc = pn_mmu_slot_set(p->mmu, &slot);
    if (g && (rc ? fresh : !slot.size))
        unmap(p, g);
    return rc == -ENOMEM ? rc : 0; /* the run's call may have failed, too */
}

static int do_harvest(struct replay *p, uint64_t id) {
    const struct region *g = region_of(p, id);
    size_t words = g ? (g->size / PN_PAGE_SIZE + 63) / 64 : 0;
    uint64_t *grown = realloc(p->bitmap, (words + 1) * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    p->bitmap = grown;
    pn_mmu_dirty_harvest(p->mmu, (uint32_t)id, p->bitmap, words);
    return 0;
}

/* ---- What vCPUs do besides ---- */

static int do_vcpu(struct replay *p, const struct pn_op *op) {
    if (op->vcpu != p->vcpus)
        return -EBADMSG;
    struct vcpu *v = &p->vcpu[p->vcpus];
    int rc = pn_mmu_vcpu_create(p->mmu, &v->view, &v->stats, NULL, &v->mmu);
    p->vcpus += !rc;
    return rc;
}

static void do_paging(struct vcpu *v, const uint64_t w[PN_OP_WORDS]) {
    struct pn_paging paging = {.cr0 = w[0],
                               .cr3 = w[1],
                               .cr4 = w[2],
                               .efer = w[3],
                               .pkru = (uint32_t)w[8],
                               .pkrs = (uint32_t)w[9]};
    memcpy(paging.pdpte, &w[4], sizeof(paging.pdpte));
    pn_mmu_set_paging(v->mmu, &paging);
    v->begun = true;
}

/* Operations of a vCPU that is there, but for accesses. */
static int by_vcpu(struct replay *p, struct vcpu *v, const struct pn_op *op) {
    const uint64_t *w = op->w;
    switch (op->kind) {
    case PN_OP_paging:
        do_paging(v, w);
        break;
    case PN_OP_cr3:
        pn_mmu_set_cr3(v->mmu, w[0], w[1], &w[2]);
        break;
    case PN_OP_pkr:
        pn_mmu_set_pkr(v->mmu, (uint32_t)w[0], (uint32_t)w[1]);
        break;
    case PN_OP_invlpg:
        pn_mmu_invlpg(v->mmu, w[0]);
        break;
    case PN_OP_invpcid:
        if (w[0] > 3 || w[1] > 0xfff)
            return -EBADMSG;
        pn_mmu_invpcid(v->mmu, (unsigned)w[0], (uint16_t)w[1], w[2]);
        break;
    case PN_OP_drop_tlb:
        pn_mmu_drop_tlb(v->mmu);
        break;
    case PN_OP_fetched:
        if (w[1] >= PN_TLB_MODES)
            return -EBADMSG;
        if (p->model) {
            p->fetches++;
            pn_mmu_fetched(v->mmu, w[0], (enum pn_tlb_mode)w[1]);
        }
        break;
    case PN_OP_exited:
        if (w[0] > PN_VM_OTHER)
            return -EBADMSG;
        pn_mmu_exited(v->mmu, (enum pn_vm_exit)w[0]);
        break;
    case PN_OP_unprotect:
        unprotect(p);
        break;
    default:
        return do_write(p, v, op);
    }
    return 0;
}

static int other(struct replay *p, const struct pn_op *op) {
    switch (op->kind) {
    case PN_OP_vcpu:
        return do_vcpu(p, op);
    case PN_OP_write:
        return do_write(p, NULL, op);
    case PN_OP_memory:
        pn_mmu_replace(p->mmu, op->w[0], op->data, op->size);
        return 0;
    case PN_OP_poke:
        return poke(p, op->w[0], op->data, op->size);
    case PN_OP_track_add:
        return pn_mmu_track_add(p->mmu, op->w[0]) == -ENOMEM ? -ENOMEM : 0;
    case PN_OP_track_remove:
        pn_mmu_track_remove(p->mmu, op->w[0]);
        return 0;
    case PN_OP_slot:
        return do_slot(p, op);
    case PN_OP_harvest:
        return do_harvest(p, op->w[0]);
    case PN_OP_zap_all:
        pn_mmu_zap_all(p->mmu);
        return 0;
    case PN_OP_access:
        return -EBADMSG; /* of a vCPU that is not there */
    default:
        return op->vcpu < p->vcpus ? by_vcpu(p, &p->vcpu[op->vcpu], op) : -EBADMSG;
    }
}

static inline int one(struct replay *p, const struct pn_op *op) {
    if (__builtin_expect(op->kind == PN_OP_access && op->vcpu < p->vcpus, 1))
        return do_access(p, &p->vcpu[op->vcpu], op);
    return other(p, op);
}

/* ---- All of it ---- */

/* Return: 0 or -errno: *bad could not be done. */
static int do_all(struct replay *p, struct recording *r, uint64_t most,
                  enum pn_op_kind *bad) {
    struct pn_op op = {.w = {0}};
    int rc = 0;
    while (!rc && r->ops < most && recording_take(r, &op))
        rc = one(p, &op);
    *bad = op.kind;
    return rc;
}

static void add_up(const struct replay *p, struct replay_result *out) {
    for (unsigned v = 0; v < p->vcpus; v++) {
        for (unsigned i = 0; i < PN_STAT_COUNT; i++)
            out->total.v[i] += p->vcpu[v].stats.v[i];
        for (unsigned i = 0; i < PN_WALK_HIST; i++)
            out->total.walk_hist[i] += p->vcpu[v].stats.walk_hist[i];
    }
    out->accesses = p->accesses;
    out->hits = p->hits;
    out->fetches = p->fetches;
}

static void destroy(struct replay *p) {
    pn_mmu_destroy(p->mmu);
    while (p->regions)
        unmap(p, &p->region[p->regions - 1]);
    free(p->bitmap);
    free(p);
}

/* Has r been done as far as that? */
static bool is_there(const struct recording *r, const struct replay_look *look) {
    bool stopped;
    recording_time(r, &stopped);
    return (look->ops == UINT64_MAX || look->ops == recording_ops(r)) &&
           (look->time == UINT64_MAX || stopped);
}

/* look, out: one is NULL. */
static int replay(struct recording *r, const struct pn_mmu_config *cfg,
                  uint64_t memory_max, const struct replay_look *look,
                  struct replay_result *out, struct err *e) {
    struct replay *p = calloc(1, sizeof(*p));
    enum pn_op_kind bad;
    if (!p)
        return err_set(e, -ENOMEM, "out of memory");
    p->memory_max = memory_max;
    p->model = cfg->tlb;
    recording_until(r, look ? look->time : UINT64_MAX);
    int rc = pn_mmu_create(cfg, &p->mmu);
    if (rc) {
        free(p);
        return err_set(e, rc,
                       rc == -EINVAL ? "there is no such MMU" : "cannot make the MMU");
    }
    uint64_t begin = host_ns(), cpu = cpu_ns();
    rc = do_all(p, r, look ? look->ops : UINT64_MAX, &bad);
    if (out) {
        out->host_ns = host_ns() - begin;
        out->cpu_ns = cpu_ns() - cpu;
        add_up(p, out);
    }
    if (rc == -EBADMSG)
        err_set(e, rc, "operation %llu (%s) is none that a run does",
                (unsigned long long)recording_ops(r), pn_op_name(bad));
    else if (rc)
        err_sys(e, rc, "replay");
    else if (look && is_there(r, look))
        rc = look->see(look->opaque, look->vcpu < p->vcpus && p->vcpu[look->vcpu].begun
                                         ? p->vcpu[look->vcpu].mmu
                                         : NULL);
    destroy(p);
    return rc;
}

int replay_run(struct recording *r, const struct pn_mmu_config *cfg, uint64_t memory_max,
               struct replay_result *out, struct err *e) {
    *out = (struct replay_result){.hits = 0};
    return replay(r, cfg, memory_max, NULL, out, e);
}

int replay_look(struct recording *r, const struct pn_mmu_config *cfg, uint64_t memory_max,
                const struct replay_look *look, struct err *e) {
    return replay(r, cfg, memory_max, look, NULL, e);
}
