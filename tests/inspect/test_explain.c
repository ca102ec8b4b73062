/* SPDX-License-Identifier: MIT */
/*
 * Explain against a walk of this file's own, on every page that a booted Linux guest maps,
 * under each of our MMUs, and where only the guest's tables can be seen, as under a hypervisor;
 * and to explain changes nothing. The walk knows 4-level paging alone
 * and shares no code with the MMU. Sources: SDM volume 3, "Determination of Access Rights".
 *
 * With `translate ENGINE`: against KVM_TRANSLATE as well, on a guest that ran under that engine.
 * KVM is asked about a copy of the guest's memory, for it sets accessed bits there.
 *
 * PENUMBRA_CACHE: the folder of scripts/guest.sh; skipped, with 77, where there is no guest.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inspect/dump.h"
#include "inspect/explain.h"
#include "machine/machine.h"
#include "tests/suite.h"

#define RAM     (256ull << 20)
#define HOLES   100000
#define ADDRESS 0x000ffffffffff000ull
#define WP      (1ull << 16)
#define SMEP    (1ull << 20)
#define SMAP    (1ull << 21)

static char kernel[512], initrd[512];
static struct machine *m;
static struct view v;
static struct pn_cpu_state cpu;
static uint64_t leaves, looked;

static void begin(const struct pn_engine_ops *engine) {
    struct machine_config cfg = {
        .engine = engine,
        .ram = RAM,
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

/* ---- KVM, on a copy ---- */

static int copy_vcpu = -1; /* -1: it is not asked */
static uint64_t holes;     /* where both found nothing */

/* A VM with the guest's memory as it is now and the registers that its paging goes by. SMEP, SMAP
 * and the like are left out: KVM_TRANSLATE is then the guest kernel's read. */
static void copy_begin(void) {
    struct {
        struct kvm_cpuid2 c;
        struct kvm_cpuid_entry2 e[256];
    } cpuid = {.c.nent = 256};
    struct kvm_sregs s;
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(kvm, 0);
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    ck_assert_int_ge(vm, 0);
    uint8_t *ram =
        mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(ram, MAP_FAILED);
    for (uint64_t gpa = 0; gpa < RAM; gpa += 4096)
        v.ops->read_phys(v.engine, gpa, ram + gpa, 4096);
    struct kvm_userspace_memory_region slot = {.memory_size = RAM,
                                               .userspace_addr = (uintptr_t)ram};
    ck_assert_int_eq(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), 0);
    copy_vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    ck_assert_int_ge(copy_vcpu, 0);
    ck_assert_int_eq(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), 0);
    ck_assert_int_eq(ioctl(copy_vcpu, KVM_SET_CPUID2, &cpuid), 0);
    ck_assert_int_eq(ioctl(copy_vcpu, KVM_GET_SREGS, &s), 0);
    s.cr0 = 0x80010033; /* PG, WP, NE, ET, MP, PE */
    s.cr3 = cpu.cr3 & ADDRESS;
    s.cr4 = 0xa0;   /* PGE, PAE */
    s.efer = 0xd00; /* NXE, LMA, LME */
    s.cs.l = 1, s.cs.db = 0;
    ck_assert_int_eq(ioctl(copy_vcpu, KVM_SET_SREGS, &s), 0);
}

/* found: whether explain has found a page, at gpa. */
static void copy_compare(pn_gva gva, bool found, pn_gpa gpa) {
    struct kvm_translation t = {.linear_address = gva};
    ck_assert_int_eq(ioctl(copy_vcpu, KVM_TRANSLATE, &t), 0);
    ck_assert_msg(t.valid == found && (!found || t.physical_address == gpa),
                  "gva %#llx: KVM says %#llx, valid %d; explain %#llx, found %d",
                  (unsigned long long)gva, (unsigned long long)t.physical_address,
                  t.valid, (unsigned long long)gpa, found);
}

static void compare(const struct page *p) {
    struct pn_explanation x;
    ck_assert_int_eq(pn_mmu_explain(v.vcpu, p->gva, &x), 0);
    looked++;
    ck_assert_msg(x.found && x.gpa == p->gpa && x.level == p->level,
                  "gva %#llx leads to %#llx level %u, not %#llx level %u",
                  (unsigned long long)p->gva, (unsigned long long)x.gpa, x.level,
                  (unsigned long long)p->gpa, p->level);
    if (copy_vcpu >= 0)
        copy_compare(p->gva, x.found, x.gpa);
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
    static struct pn_engine_ops hidden; /* a hypervisor's: its MMU cannot be asked */
    hidden = *pn_engine_find("shadow");
    hidden.mmu = NULL;
    begin(_i == 2 ? &hidden : pn_engine_find(_i ? "tdp" : "shadow"));
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

static const char *translate_engine;

START_TEST(explain_agrees_with_kvm_translate_of_a_copy) {
    uint64_t seed = 1;
    begin(pn_engine_find(translate_engine));
    uint64_t ram = machine_ram_digest(m);
    copy_begin();
    walk(cpu.cr3 & ADDRESS, 4, 0,
         (struct page){.write = true, .user = true, .exec = true});
    ck_assert_uint_gt(leaves, 1000);
    /* Near what is mapped, and anywhere. */
    for (unsigned i = 0; i < HOLES; i++) {
        struct pn_explanation x;
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        pn_gva gva = i & 1 ? cpu.rip ^ seed >> (32 + i % 24)
                           : (pn_gva)((int64_t)(seed & ~0xfull) >> 16);
        ck_assert_int_eq(pn_mmu_explain(v.vcpu, gva, &x), 0);
        copy_compare(gva, x.found, x.gpa);
        holes += !x.found;
    }
    ck_assert_uint_gt(holes, HOLES / 10);
    ck_assert_uint_eq(machine_ram_digest(m), ram);
    printf("%llu pages, KVM asked about %llu addresses and %d more, of which %llu lead "
           "nowhere\n",
           (unsigned long long)leaves, (unsigned long long)looked, HOLES,
           (unsigned long long)holes);
    end();
}
END_TEST

static bool exists(char path[512], const char *folder, const char *name) {
    struct stat st;
    snprintf(path, 512, "%s/%s", folder, name);
    return stat(path, &st) == 0;
}

int main(int argc, char **argv) {
    const char *folder = getenv("PENUMBRA_CACHE");
    if (!folder)
        folder = getenv("PENUMBRA_CACHE_DEFAULT");
    if (!folder || !exists(kernel, folder, "vmlinuz") ||
        !exists(initrd, folder, "initrd.gz")) {
        printf("SKIPPED: no guest: scripts/guest.sh makes it\n");
        return 77;
    }
    if (argc == 3 && !strcmp(argv[1], "translate")) {
        translate_engine = argv[2];
        return suite_run(&(const struct suite){
            .name = "inspect explain beside KVM_TRANSLATE",
            .timeout = 600,
            .tests = {explain_agrees_with_kvm_translate_of_a_copy}});
    }
    return suite_run(&(const struct suite){
        .name = "inspect explain",
        .timeout = 200,
        .loops = {{explain_agrees_with_a_walk_of_every_page_of_linux, 3}}});
}
