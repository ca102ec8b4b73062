/* SPDX-License-Identifier: MIT */
/*
 * CPUID in snapshots: what the guest has seen, it sees again.
 *
 * Where both who saved it and who goes on are models of our CPU, every register is as it was.
 * A host's processor shows more than a model has (caches, sizes, what the guest has switched on):
 * there vendor, family and features are as they were.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "machine/snapshot_internal.h"

#define OSXSAVE  (1u << 27)
#define OSPKE    (1u << 4)
#define LEAF_SVM 0x8000000au

struct cpuid_leaf {
    uint32_t leaf, subleaf, out[4];
};
static const uint32_t cpuid_leaves[][2] = {
    {0, 0},           {1, 0},           {4, 0},           {6, 0},
    {7, 0},           {7, 1},           {0xd, 0},         {0xd, 1},
    {0x40000000u, 0}, {0x40000001u, 0}, {0x80000000u, 0}, {0x80000001u, 0},
    {0x80000007u, 0}, {0x80000008u, 0}, {LEAF_SVM, 0},
};
#define CPUID_LEAVES (sizeof(cpuid_leaves) / sizeof(cpuid_leaves[0]))
#define CPUID_FIRST  14u /* of them: what the first version had */

int snap_save_cpuid(struct machine *m, struct snap_writer *w, struct err *e) {
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

/* ---- As it is here ---- */

/* Registers that are features, and bits of them that the guest itself switches on. */
static const struct {
    uint32_t leaf, subleaf;
    uint8_t regs; /* bit 0: EAX ... 3: EDX */
    uint32_t but[4];
} features[] = {
    {1, 0, 0xc, {0, 0, OSXSAVE, 0}},
    {7, 0, 0xe, {0, 0, OSPKE, 0}},
    {7, 1, 0x1, {0}},
    {0xd, 1, 0x1, {0}},
    {0x40000001u, 0, 0x1, {0}},
    {0x80000001u, 0, 0xc, {0}},
    {LEAF_SVM, 0, 0x8, {0}},
};

static const char *const reg[] = {"eax", "ebx", "ecx", "edx"};

static int differs(const struct cpuid_leaf *l, const uint32_t out[4], unsigned r,
                   struct err *e) {
    return err_set(e, -EINVAL,
                   "section cpuid: leaf 0x%" PRIx32 " subleaf %" PRIu32
                   ": %s was 0x%" PRIx32
                   ", and this CPU model on this host has 0x%" PRIx32,
                   l->leaf, l->subleaf, reg[r], l->out[r], out[r]);
}

static int check_whole(const struct cpuid_leaf *l, const uint32_t out[4], struct err *e) {
    for (unsigned r = 0; r < 4; r++)
        if (out[r] != l->out[r])
            return differs(l, out, r, e);
    return 0;
}

/* Is every feature here that the guest has seen, and no family another? */
static int check_features(const struct cpuid_leaf *l, const uint32_t out[4],
                          struct err *e) {
    if (l->leaf == 1 && l->out[0] != out[0])
        return differs(l, out, 0, e);
    for (unsigned i = 0; i < sizeof(features) / sizeof(features[0]); i++)
        for (unsigned r = 0; r < 4; r++)
            if (l->leaf == features[i].leaf && l->subleaf == features[i].subleaf &&
                features[i].regs >> r & 1 && l->out[r] & ~out[r] & ~features[i].but[r])
                return differs(l, out, r, e);
    return 0;
}

/* A guest of the software CPU goes on under KVM as after a handover: of the same vendor, and with
 * what it has seen of SVM. */
int snap_check_cpuid(struct machine *m, struct err *e) {
    const struct snap_section *n = snap_section(m->cfg.restore, "cpuid", 1, e);
    bool was_host = snap_cpuid_of_host(m->cfg.restore);
    struct cpuid_leaf l;
    uint32_t out[4];
    if (!n)
        return -EINVAL;
    if (n->size % sizeof(l) || n->size < CPUID_FIRST * sizeof(l) ||
        n->size > CPUID_LEAVES * sizeof(l))
        return err_set(e, -EINVAL, "section cpuid: not of this version");
    for (unsigned i = 0; i < n->size / sizeof(l); i++) {
        memcpy(&l, n->data + i * sizeof(l), sizeof(l));
        m->ops->cpuid(m->engine, l.leaf, l.subleaf, out);
        int rc = l.leaf ? 0 : check_vendor(l.out, out, e);
        if (rc == 0 && (was_host || l.leaf == LEAF_SVM))
            rc = check_features(&l, out, e);
        else if (rc == 0 && !m->ops->host_cpu)
            rc = check_whole(&l, out, e);
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- As it was there ---- */

bool snap_cpuid_of_host(const struct snapshot *s) {
    const char *of = json_string_value(json_object_get(s->manifest, "cpuid_of"));
    return of && !strcmp(of, "host");
}

void snap_cpuid(const struct snapshot *s, uint32_t leaf, uint32_t subleaf,
                uint32_t out[4]) {
    const struct snap_section *n = snap_find(s, "cpuid");
    struct cpuid_leaf l;
    memset(out, 0, 4 * sizeof(*out));
    for (size_t at = 0; n && n->size - at >= sizeof(l); at += sizeof(l)) {
        memcpy(&l, n->data + at, sizeof(l));
        if (l.leaf == leaf && l.subleaf == subleaf) {
            memcpy(out, l.out, sizeof(l.out));
            return;
        }
    }
}
