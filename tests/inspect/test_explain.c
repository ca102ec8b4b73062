/* SPDX-License-Identifier: MIT */
/*
 * Explain against a walk of this file's own, on every page that a booted Linux guest maps,
 * under each of our MMUs, and where only the guest's tables can be seen, as under a hypervisor;
 * and to explain changes nothing. The walk knows 4-level paging alone
 * and shares no code with the MMU. Sources: SDM volume 3, "Determination of Access Rights".
 *
 * PENUMBRA_CACHE: the folder of scripts/guest.sh; skipped, with 77, where there is no guest.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "inspect/dump.h"
#include "inspect/explain.h"
#include "machine/machine.h"
#include "tests/suite.h"

#define ADDRESS 0x000ffffffffff000ull
#define WP      (1ull << 16)
#define SMEP    (1ull << 20)
#define SMAP    (1ull << 21)

static char kernel[512], initrd[512];
static struct machine *m;
static struct view v;
static struct pn_cpu_state cpu;
static uint64_t leaves, looked;

static void begin(int which) {
    static struct pn_engine_ops hidden; /* a hypervisor's: its MMU cannot be asked */
    hidden = *pn_engine_find("shadow");
    hidden.mmu = NULL;
    struct machine_config cfg = {
        .engine = which == 2 ? &hidden : pn_engine_find(which ? "tdp" : "shadow"),
        .ram = 256ull << 20,
        .cpus = 1,
        .kernel = kernel,
        .initrd = initrd,
        .append = "console=ttyS0 quiet panic=-1 pn.off",
        .seed = 1,
        .timeout_ns = 100000000000ull,
    };
    struct machine_result result;
    char text[256] = "";
    struct err e = {text, sizeof(text)};
    pn_mmu_options_default(&cfg.mmu);
    ck_assert_msg(!machine_create(&cfg, &m, text, sizeof(text)), "%s", text);
    ck_assert_msg(!machine_run(m, &result, text, sizeof(text)), "%s", text);
    ck_assert_int_eq(result.end, END_POWEROFF);
    ck_assert_msg(!view_open(&v, m, 0, &e), "%s", text);
    ck_assert_int_eq(v.ops->get_state(v.engine, 0, &cpu), 0);
    ck_assert(cpu.efer >> 10 & 1 && !(cpu.cr4 >> 12 & 1)); /* 4-level paging */
    leaves = looked = 0;
}

static void end(void) {
    view_close(&v);
    machine_destroy(m);
}

/* ---- The walk ---- */

struct page {
    pn_gva gva;
    pn_gpa gpa;
    unsigned level;
    bool write, user, exec;
};

static bool faults(const struct page *p, unsigned access, unsigned mode) {
    bool user = mode == PN_TLB_USER;
    if (user && !p->user)
        return true;
    if (access == PN_FETCH)
        return !p->exec || (!user && p->user && cpu.cr4 & SMEP);
    if (mode == PN_TLB_SUPER && p->user && cpu.cr4 & SMAP)
        return true;
    return access == PN_WRITE && !p->write && (user || cpu.cr0 & WP);
}

static void compare(const struct page *p) {
    struct pn_explanation x;
    ck_assert_int_eq(pn_mmu_explain(v.vcpu, p->gva, &x), 0);
    looked++;
    ck_assert_msg(x.found && x.gpa == p->gpa && x.level == p->level,
                  "gva %#llx leads to %#llx level %u, not %#llx level %u",
                  (unsigned long long)p->gva, (unsigned long long)x.gpa, x.level,
                  (unsigned long long)p->gpa, p->level);
    ck_assert_uint_eq(x.acc,
                      (p->exec ? 1u : 0) | (p->write ? 2u : 0) | (p->user ? 4u : 0));
    for (unsigned access = 0; access < 3; access++)
        for (unsigned mode = 0; mode < PN_TLB_MODES; mode++) {
            const struct pn_verdict *d = &x.verdict[access][mode];
            bool pf = d->outcome == PN_OUT_guest_pf;
            ck_assert_msg(pf == faults(p, access, mode),
                          "gva %#llx access %u mode %u: %s", (unsigned long long)p->gva,
                          access, mode, outcome_words(d->outcome));
            ck_assert(pf == (d->rule != PN_RULE_allowed));
            if (!pf)
                ck_assert_uint_eq(d->gpa, p->gpa);
        }
}

static uint64_t entry(pn_gpa gpa) {
    uint64_t e = 0;
    v.ops->read_phys(v.engine, gpa, &e, sizeof(e));
    return e;
}

/* Below the table: pages of every size, their first, last and some 4 KiB. */
static void walk(pn_gpa table, unsigned level, pn_gva gva, struct page p) {
    for (unsigned i = 0; i < 512; i++) {
        uint64_t e = entry(table + 8 * i), size = 1ull << (12 + 9 * (level - 1));
        struct page q = p;
        if (!(e & 1))
            continue;
        q.write &= e >> 1 & 1;
        q.user &= e >> 2 & 1;
        q.exec &= !(e >> 63);
        q.gva = gva + i * size;
        if (level == 4 && i >= 256)
            q.gva |= 0xffff000000000000ull;
        if (level > 1 && !(e & 0x80)) {
            walk(e & ADDRESS, level - 1, q.gva, q);
            continue;
        }
        leaves++;
        q.level = level;
        pn_gva first = q.gva;
        for (uint64_t o = 0; o < size; o += size / (level > 1 ? 4 : 1)) {
            q.gva = first + o;
            q.gpa = (e & ADDRESS & ~(size - 1)) + o;
            compare(&q);
        }
        q.gva = first + size - 1;
        q.gpa = (e & ADDRESS & ~(size - 1)) + size - 1;
        compare(&q);
    }
}

START_TEST(explain_agrees_with_a_walk_of_every_page_of_linux) {
    begin(_i);
    ck_assert(v.guest_only == (_i == 2));
    struct pn_stats before = *machine_stats(m, 0);
    uint64_t ram = machine_ram_digest(m);
    json_t *dump = dump_json(&v);
    ck_assert_ptr_nonnull(dump);
    walk(cpu.cr3 & ADDRESS, 4, 0,
         (struct page){.write = true, .user = true, .exec = true});
    ck_assert_uint_gt(leaves, 1000);
    json_t *after = dump_json(&v);
    ck_assert_msg(json_equal(dump, after), "to explain has changed the tables");
    ck_assert_uint_eq(machine_ram_digest(m), ram);
    ck_assert(!memcmp(&before, machine_stats(m, 0), sizeof(before)));
    ck_assert_int_eq(pn_mmu_audit(pn_mmu_of(v.vcpu), stderr), 0);
    printf("%llu pages, looked at %llu addresses\n", (unsigned long long)leaves,
           (unsigned long long)looked);
    json_decref(dump);
    json_decref(after);
    end();
}
END_TEST

static bool exists(char path[512], const char *folder, const char *name) {
    struct stat st;
    snprintf(path, 512, "%s/%s", folder, name);
    return stat(path, &st) == 0;
}

int main(void) {
    const char *folder = getenv("PENUMBRA_CACHE");
    if (!folder)
        folder = getenv("PENUMBRA_CACHE_DEFAULT");
    if (!folder || !exists(kernel, folder, "vmlinuz") ||
        !exists(initrd, folder, "initrd.gz")) {
        printf("SKIPPED: no guest: scripts/guest.sh makes it\n");
        return 77;
    }
    return suite_run(&(const struct suite){
        .name = "inspect explain",
        .timeout = 200,
        .loops = {{explain_agrees_with_a_walk_of_every_page_of_linux, 3}}});
}
