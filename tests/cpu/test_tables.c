/* SPDX-License-Identifier: MIT */
/*
 * Which stores say that a shadowed frame is no table any more: those of all instructions
 * but the few by which guests fill tables.
 * Source: KVM, arch/x86/kvm/emulate.c, the instructions with the flag PageTable, and
 * x86_emulate_instruction, which unprotects the page for the others.
 */
#include <string.h>

#include "cpu/system.h"
#include "fixture_guest.h"
#include "tests/suite.h"

#define CODE  (GUEST_BASE + 0x8000)
#define STACK (GUEST_BASE + 0x20000)
/* An entry of the PD that no address goes by; the PD itself is needed to get there. */
#define SPARE (GUEST_BASE + GUEST_CR3 + 0x2000 + 0x40)

struct store_case {
    const char *name;
    uint8_t code[12]; /* RDI: the entry */
    uint8_t len;
    bool fills;
};

static const struct store_case cases[] = {
    {"mov [rdi], rax", {0x48, 0x89, 0x07}, 3, true},
    {"mov [rdi], al", {0x88, 0x07}, 2, true},
    {"mov dword [rdi], imm", {0xc7, 0x07, 0, 0, 0, 0}, 6, true},
    {"mov byte [rdi], imm", {0xc6, 0x07, 0}, 3, true},
    {"xchg [rdi], rax", {0x48, 0x87, 0x07}, 3, true},
    {"lock cmpxchg [rdi], rcx", {0xf0, 0x48, 0x0f, 0xb1, 0x0f}, 5, true},
    {"lock cmpxchg8b [rdi]", {0xf0, 0x0f, 0xc7, 0x0f}, 4, true},
    {"lock and [rdi], rax", {0xf0, 0x48, 0x21, 0x07}, 4, true},
    {"lock or qword [rdi], imm", {0xf0, 0x48, 0x83, 0x0f, 0}, 5, true},
    {"lock and qword [rdi], imm", {0xf0, 0x48, 0x81, 0x27, 0, 0, 0, 0}, 8, true},
    {"or [rdi], eax", {0x09, 0x07}, 2, true},
    {"lock bts qword [rdi], imm", {0xf0, 0x48, 0x0f, 0xba, 0x2f, 1}, 6, true},
    {"lock btc qword [rdi], imm", {0xf0, 0x48, 0x0f, 0xba, 0x3f, 1}, 6, true},
    {"lock bts [rdi], rax", {0xf0, 0x48, 0x0f, 0xab, 0x07}, 5, true},
    {"lock btr qword [rdi], imm", {0xf0, 0x48, 0x0f, 0xba, 0x37, 1}, 6, false},
    {"add [rdi], rax", {0x48, 0x01, 0x07}, 3, false},
    {"sub [rdi], rax", {0x48, 0x29, 0x07}, 3, false},
    {"lock add qword [rdi], imm", {0xf0, 0x48, 0x83, 0x07, 0}, 5, false},
    {"xor [rdi], rax", {0x48, 0x31, 0x07}, 3, false},
    {"lock inc qword [rdi]", {0xf0, 0x48, 0xff, 0x07}, 4, false},
    {"lock xadd [rdi], rax", {0xf0, 0x48, 0x0f, 0xc1, 0x07}, 5, false},
    {"not qword [rdi]", {0x48, 0xf7, 0x17}, 3, false},
    {"shl qword [rdi], 1", {0x48, 0xd1, 0x27}, 3, false},
    {"sete [rdi]", {0x0f, 0x94, 0x07}, 3, false},
    {"movnti [rdi], rax", {0x48, 0x0f, 0xc3, 0x07}, 4, false},
    {"movups [rdi], xmm0", {0x0f, 0x11, 0x07}, 3, false},
    {"movq [rdi], mm0", {0x0f, 0x7f, 0x07}, 3, false},
    {"stosq", {0x48, 0xab}, 2, false},
    {"rep stosq, two", {0x6a, 2, 0x59, 0xf3, 0x48, 0xab}, 6, false},
    {"movsb", {0xa4}, 1, false},
    {"push", {0x48, 0x8d, 0x67, 8, 0x50}, 5, false}, /* lea rsp, [rdi+8] */
    {"call", {0x48, 0x8d, 0x67, 8, 0xe8, 0, 0, 0, 0}, 9, false},
    {"pop [rdi]", {0x50, 0x8f, 0x07}, 3, false},
};
#define CASES ((int)(sizeof cases / sizeof *cases))

START_TEST(a_store_that_fills_no_tables_unprotects_the_frame) {
    const struct store_case *c = &cases[_i / 2];
    struct guest g;
    guest_create(
        &g, &(struct guest_options){.small_pages = true, .max_block = _i % 2 ? 1 : 0});
    memcpy(g.ram + (CODE - GUEST_BASE), c->code, c->len);
    g.ram[CODE - GUEST_BASE + c->len] = 0xf4; /* hlt */
    guest_start(&g, CODE, STACK);
    g.cpu->gpr[R_DI] = SPARE;
    g.cpu->gpr[R_SI] = STACK;
    /* The entry was looked at before: its frame is shadowed, the store's way stands. */
    uint64_t v;
    ck_assert_int_eq(cpu_read_lin(g.cpu, SPARE, &v, 8, PN_TLB_SUPER), CPU_NEXT);
    uint64_t zapped = g.stats.v[PN_STAT_sp_zapped];
    ck_assert_int_eq(cpu_run(g.cpu, cpu_insns(g.cpu) + 1000), CPU_EXIT_HALT);
    ck_assert_uint_gt(g.stats.v[PN_STAT_mmu_pte_write], 0);
    ck_assert_msg((g.stats.v[PN_STAT_sp_zapped] == zapped) == c->fills,
                  "%s: %u shadow pages zapped", c->name,
                  (unsigned)(g.stats.v[PN_STAT_sp_zapped] - zapped));
    ck_assert_uint_eq(g.stats.v[PN_STAT_mmu_flooded], 0);
    guest_destroy(&g);
}
END_TEST

SUITE("cpu tables",
      .loops = {{a_store_that_fills_no_tables_unprotects_the_frame, 2 * CASES}})
