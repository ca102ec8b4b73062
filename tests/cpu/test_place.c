/* SPDX-License-Identifier: MIT */
/*
 * Where events say that the guest was: the instruction, the ring and the address space,
 * of guest code whose instruction addresses are known, in blocks of any length.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/system.h"
#include "fixture_guest.h"

#define AT_CODE  (GUEST_BASE + 0x10000)
#define AT_STACK (GUEST_BASE + 0x300000)
#define AT_FAR   (GUEST_BASE + 0x800000)
#define NO_PAGE  (GUEST_BASE + 0x900000)
#define OTHER    0xa00000u /* gpa of a second top table */

static struct guest g;
static struct pn_event_rec rec[4096];
static struct pn_ring ring;

/* Each access is to a page of its own, far from the others' (prefetch maps neighbours).
 */
__asm__(".pushsection .rodata\n"
        "place_code:\n"
        "place_load:  mov 0x10100000, %eax\n"
        "  add $1, %eax\n"
        "place_store: mov %eax, 0x10200000\n"
        "  add $1, %eax\n"
        "place_push:  push %rax\n"
        "  mov $0x10400000, %edi\n"
        "  mov $0x10500000, %esi\n"
        "  mov $8, %ecx\n"
        "place_movs:  rep movsb\n"
        "place_rmw:   lock incl 0x10600000\n"
        "place_sse:   movups 0x10700100, %xmm0\n"
        "  mov $0x10800000, %ecx\n"
        "  call *%rcx\n"
        "  nop\n"
        "place_none:  mov 0x10900000, %eax\n"
        "place_end:\n"
        "other_code:\n"
        "  mov $0xa00000, %eax\n"
        "other_cr3:   mov %rax, %cr3\n"
        "  nop\n"
        "other_load:  mov 0x10100000, %eax\n"
        "  hlt\n"
        "other_end:\n"
        ".popsection");
extern const uint8_t place_code[], place_load[], place_store[], place_push[],
    place_movs[], place_rmw[], place_sse[], place_none[], place_end[];
extern const uint8_t other_code[], other_cr3[], other_load[], other_end[];

static const struct {
    enum pn_mmu_kind kind;
    bool user;
    uint32_t max_block;
} how[] = {
    {PN_MMU_SHADOW, false, 0}, {PN_MMU_SHADOW, true, 0}, {PN_MMU_SHADOW, true, 1},
    {PN_MMU_TDP, false, 0},    {PN_MMU_TDP, true, 0},    {PN_MMU_TDP, true, 1},
};
#define HOWS ((int)(sizeof(how) / sizeof(how[0])))

static void start(int i, const uint8_t *code, const uint8_t *end) {
    ring = (struct pn_ring){
        .mask = UINT64_MAX, .rec = rec, .size = sizeof(rec) / sizeof(rec[0])};
    guest_create(&g, &(struct guest_options){.max_block = how[i].max_block,
                                             .kind = how[i].kind,
                                             .small_pages = true,
                                             .ring = &ring});
    guest_idt(&g);
    if (how[i].user)
        guest_user(&g);
    memcpy(g.ram + (AT_CODE - GUEST_BASE), code, (size_t)(end - code));
    g.ram[AT_FAR - GUEST_BASE] = 0xc3; /* RET */
    guest_start(&g, AT_CODE, AT_STACK);
    ring.count = 0;
}

static void run(void) {
    ck_assert_int_eq(cpu_run(g.cpu, cpu_insns(g.cpu) + 1000), CPU_EXIT_HALT);
    ck_assert_uint_eq(ring.lost, 0);
}

/* The first event of this kind whose first field is `first`. */
static const struct pn_event_rec *event(enum pn_event id, uint64_t first) {
    for (uint32_t i = 0; i < ring.count; i++)
        if (rec[i].id == id && rec[i].arg[0] == first)
            return &rec[i];
    ck_abort_msg("no %s of 0x%llx", pn_event_name(id), (unsigned long long)first);
    return NULL;
}

START_TEST(a_fault_has_the_rip_of_its_instruction) {
    const struct {
        uint64_t gva, rip;
    } want[] = {
        {AT_CODE, AT_CODE},
        {GUEST_BASE + 0x100000, AT_CODE + (uint64_t)(place_load - place_code)},
        {GUEST_BASE + 0x200000, AT_CODE + (uint64_t)(place_store - place_code)},
        {AT_STACK - 8, AT_CODE + (uint64_t)(place_push - place_code)},
        {GUEST_BASE + 0x400000, AT_CODE + (uint64_t)(place_movs - place_code)},
        {GUEST_BASE + 0x500000, AT_CODE + (uint64_t)(place_movs - place_code)},
        {GUEST_BASE + 0x600000, AT_CODE + (uint64_t)(place_rmw - place_code)},
        {GUEST_BASE + 0x700100, AT_CODE + (uint64_t)(place_sse - place_code)},
        {AT_FAR, AT_FAR},
        {NO_PAGE, AT_CODE + (uint64_t)(place_none - place_code)},
    };
    const uint64_t insns[] = {0, 0, 2, 4, 8, 8, 9, 10, 13, 15};
    start(_i, place_code, place_end);
    guest_gpte(&g, NO_PAGE, 0);
    ring.count = 0;
    uint64_t begin = cpu_insns(g.cpu);
    run();
    for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        const struct pn_event_rec *r = event(PN_EV_fault_outcome, want[i].gva);
        ck_assert_uint_eq(r->rip, want[i].rip);
        ck_assert_uint_eq(r->cpl, how[_i].user ? 3 : 0);
        ck_assert_uint_eq(r->cr3, GUEST_CR3);
        ck_assert_uint_eq(r->time - begin, insns[i]);
    }
    /* Delivery's own accesses belong to the instruction that is interrupted. */
    const struct pn_event_rec *r = event(PN_EV_exception, VEC_PF);
    ck_assert_uint_eq(r->rip, want[9].rip);
    ck_assert_uint_eq(r->arg[2], NO_PAGE);
    for (; r < rec + ring.count; r++)
        if (r->id == PN_EV_fault_outcome && r->arg[0] < GUEST_BASE + 0x4000)
            ck_assert_uint_eq(r->rip, want[9].rip);
    guest_destroy(&g);
}
END_TEST

START_TEST(events_have_the_cr3_in_force) {
    start(_i, other_code, other_end);
    uint8_t top[4096];
    pn_mmu_read_phys(g.mmu, GUEST_CR3, top, sizeof(top));
    pn_mmu_write_phys(g.mmu, OTHER, top, sizeof(top));
    ring.count = 0;
    run();
    const struct pn_event_rec *r = event(PN_EV_root_switch, OTHER);
    ck_assert_uint_eq(r->rip, AT_CODE + (uint64_t)(other_cr3 - other_code));
    ck_assert_uint_eq(r->cr3, OTHER);
    r = event(PN_EV_fault_outcome, AT_CODE);
    ck_assert_uint_eq(r->cr3, GUEST_CR3);
    r = event(PN_EV_fault_outcome, GUEST_BASE + 0x100000);
    ck_assert_uint_eq(r->cr3, OTHER);
    ck_assert_uint_eq(r->rip, AT_CODE + (uint64_t)(other_load - other_code));
    guest_destroy(&g);
}
END_TEST

int main(void) {
    Suite *s = suite_create("place");
    TCase *t = tcase_create("place");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, a_fault_has_the_rip_of_its_instruction, 0, HOWS);
    tcase_add_loop_test(t, events_have_the_cr3_in_force, 0, 1);
    tcase_add_loop_test(t, events_have_the_cr3_in_force, 3, 4);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
