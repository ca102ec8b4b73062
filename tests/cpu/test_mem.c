/* SPDX-License-Identifier: MIT */
/* Memory at linear addresses, segment limits, canonical and alignment checks. */
#include "fixture_flat.h"
#include "tests/suite.h"

START_TEST(a_store_across_pages_is_all_or_nothing) {
    fix_long();
    uint64_t v = 0x1122334455667788, back;
    ck_assert_int_eq(cpu_write_lin(fx.cpu, PAGES + 0xffc, &v, 8, PN_TLB_SUPER), CPU_NEXT);
    ck_assert_int_eq(cpu_read_lin(fx.cpu, PAGES + 0xffc, &back, 8, PN_TLB_SUPER),
                     CPU_NEXT);
    ck_assert_uint_eq(back, v);
    ram_put(PT + 8, 0, 8);
    pn_mmu_invlpg(fx.cpu->vmmu, PAGES + 0x1000);
    v = ~0ull;
    ck_fault(cpu_write_lin(fx.cpu, PAGES + 0xffc, &v, 8, PN_TLB_SUPER), VEC_PF,
             PN_PF_WRITE);
    ck_assert_uint_eq(fx.cpu->fault.address, PAGES + 0x1000);
    ck_assert_uint_eq(ram_get(PAGES + 0xffc, 4), 0x55667788);
}
END_TEST

START_TEST(a_page_fault_has_its_error_code_and_cr2) {
    uint64_t v;
    fix_long();
    ram_put(PT, PAGES | 5, 8); /* user, read-only */
    ram_put(PT + 8, (PAGES + 0x1000) | 3, 8);
    fx.cpu->cr0 |= 0x10000;
    ck_fault(cpu_write_lin(fx.cpu, PAGES, &v, 8, PN_TLB_USER), VEC_PF,
             PN_PF_PRESENT | PN_PF_WRITE | PN_PF_USER);
    ck_fault(cpu_read_lin(fx.cpu, PAGES + 0x1008, &v, 8, PN_TLB_USER), VEC_PF,
             PN_PF_PRESENT | PN_PF_USER);
    ck_assert_uint_eq(fx.cpu->fault.address, PAGES + 0x1008);
    ck_fault(cpu_read_lin(fx.cpu, 1ull << 47, &v, 8, PN_TLB_USER), VEC_GP, 0);
}
END_TEST

START_TEST(mmio_goes_through_the_bounce_buffer) {
    void *p;
    fix_long();
    fx.mmio_val = 0xabcd;
    ck_assert_int_eq(
        cpu_mem_prepare(fx.cpu, MMIO + 0x10, 4, MEM_READ | MEM_WRITE, PN_TLB_SUPER, &p),
        CPU_NEXT);
    ck_assert_ptr_eq(p, fx.cpu->bounce);
    ck_assert_uint_eq(*(uint32_t *)p, 0xabcd);
    *(uint32_t *)p = 0x77;
    ck_assert_int_eq(cpu_mem_commit(fx.cpu), CPU_STOP);
    ck_assert_uint_eq(fx.mmio_val, 0x77);
    ck_assert_uint_eq(fx.mmio_gpa, MMIO + 0x10);
    ck_assert_uint_eq(fx.mmio_size, 4);
    /* 16 bytes: two device accesses, and no write owed by a load. */
    fx.mmio_count = 0;
    ck_assert_int_eq(cpu_mem_prepare(fx.cpu, MMIO, 16, MEM_READ, PN_TLB_SUPER, &p),
                     CPU_NEXT);
    ck_assert_uint_eq(fx.mmio_count, 2);
    ck_assert_uint_eq(fx.cpu->owed.count, 0);
    uint8_t *hva;
    pn_gpa gpa;
    ck_fault(cpu_fetch_page(fx.cpu, MMIO, &hva, &gpa), VEC_GP, 0);
}
END_TEST

START_TEST(a_store_to_a_tracked_page_stops_the_block) {
    void *p;
    fix_long();
    ck_assert_int_eq(pn_mmu_track_add(fx.cpu->mmu, PAGES >> 12), 0);
    ck_assert_int_eq(
        cpu_mem_prepare(fx.cpu, PAGES, 8, MEM_READ | MEM_WRITE, PN_TLB_SUPER, &p),
        CPU_NEXT);
    ck_assert_ptr_eq(p, fx.cpu->bounce);
    *(uint64_t *)p = 5;
    ck_assert_int_eq(cpu_mem_commit(fx.cpu), CPU_STOP);
    ck_assert_uint_eq(ram_get(PAGES, 8), 5);
    /* Plain memory: no bounce, nothing owed. */
    ck_assert_int_eq(cpu_mem_prepare(fx.cpu, PAGES + 0x1008, 8, MEM_READ | MEM_WRITE,
                                     PN_TLB_SUPER, &p),
                     CPU_NEXT);
    ck_assert_ptr_eq(p, fx.ram + PAGES + 0x1008);
    ck_assert_int_eq(cpu_mem_commit(fx.cpu), CPU_NEXT);
}
END_TEST

START_TEST(a_load_across_pages_is_one_value) {
    void *p;
    uint64_t v = 0x1122334455667788;
    fix_long();
    ck_assert_int_eq(cpu_write_lin(fx.cpu, PAGES + 0xffd, &v, 8, PN_TLB_SUPER), CPU_NEXT);
    for (unsigned i = 0; i < 2; i++) { /* by the MMU, then by two TLB hits */
        ck_assert_int_eq(
            cpu_mem_prepare(fx.cpu, PAGES + 0xffd, 8, MEM_READ, PN_TLB_SUPER, &p),
            CPU_NEXT);
        ck_assert_ptr_eq(p, fx.cpu->bounce);
        ck_assert_uint_eq(*(uint64_t *)p, v);
        ck_assert_int_eq(cpu_mem_commit(fx.cpu), CPU_NEXT);
        cpu_read_lin(fx.cpu, PAGES + 0x800, &v, 8, PN_TLB_SUPER);
        cpu_read_lin(fx.cpu, PAGES + 0x1800, &v, 8, PN_TLB_SUPER);
        v = 0x1122334455667788;
        memset(fx.cpu->bounce, 0, 64);
    }
}
END_TEST

START_TEST(a_fetch_obeys_nx_and_smep) {
    uint8_t *hva;
    pn_gpa gpa;
    fix_long();
    ck_assert_int_eq(cpu_fetch_page(fx.cpu, PAGES + 0x123, &hva, &gpa), CPU_NEXT);
    ck_assert_ptr_eq(hva, fx.ram + PAGES + 0x123);
    ck_assert_uint_eq(gpa, PAGES + 0x123);
    ram_put(PT + 8, (PAGES + 0x1000) | 7 | 1ull << 63, 8);
    ck_fault(cpu_fetch_page(fx.cpu, PAGES + 0x1000, &hva, &gpa), VEC_PF,
             PN_PF_PRESENT | PN_PF_FETCH);
    ck_fault(cpu_fetch_page(fx.cpu, 1ull << 47, &hva, &gpa), VEC_GP, 0);
}
END_TEST

START_TEST(pdptes_with_reserved_bits_are_refused) {
    uint64_t out[4];
    fix_prot();
    for (unsigned i = 0; i < 4; i++)
        ram_put(0x6020 + i * 8, 0x7000u + i * 0x1000 + 1, 8);
    ck_assert_int_eq(cpu_load_pdptes(fx.cpu, 0x603f, out),
                     CPU_NEXT); /* low 5 bits: none */
    ck_assert_uint_eq(out[3], 0xa001);
    ram_put(0x6020, 0x7003, 8); /* bit 1 is reserved */
    ck_fault(cpu_load_pdptes(fx.cpu, 0x6020, out), VEC_GP, 0);
    ram_put(0x6020, 0x7002, 8); /* not present: nothing is checked */
    ck_assert_int_eq(cpu_load_pdptes(fx.cpu, 0x6020, out), CPU_NEXT);
}
END_TEST

START_TEST(ac_lets_the_supervisor_through_smap) {
    uint64_t v;
    fix_long();
    fx.cpu->cr4 |= CR4_SMAP;
    cpu_update_paging(fx.cpu);
    cpu_update_mode(fx.cpu);
    ck_fault(cpu_read_lin(fx.cpu, PAGES, &v, 8, cpu_tlb_mode(fx.cpu)), VEC_PF,
             PN_PF_PRESENT);
    fx.cpu->sys_flags |= FL_AC;
    cpu_update_mode(fx.cpu);
    ck_assert_int_eq(cpu_tlb_mode(fx.cpu), PN_TLB_SUPER_AC);
    ck_assert_int_eq(cpu_read_lin(fx.cpu, PAGES, &v, 8, cpu_tlb_mode(fx.cpu)), CPU_NEXT);
}
END_TEST

START_TEST(a_non_canonical_address_faults_by_its_segment) {
    pn_gva lin;
    fix_long();
    uint64_t top = (1ull << 47) - 4;
    ck_assert_int_eq(cpu_lin(fx.cpu, SEG_DS, top, 4, PN_READ, &lin), CPU_NEXT);
    ck_fault(cpu_lin(fx.cpu, SEG_DS, top, 8, PN_READ, &lin), VEC_GP, 0);
    ck_fault(cpu_lin(fx.cpu, SEG_SS, top, 8, PN_READ, &lin), VEC_SS, 0);
    fx.cpu->seg[SEG_FS].base = 0x1000;
    fx.cpu->seg[SEG_DS].base = 0x1000; /* ignored */
    cpu_lin(fx.cpu, SEG_FS, 8, 8, PN_READ, &lin);
    ck_assert_uint_eq(lin, 0x1008);
    cpu_lin(fx.cpu, SEG_DS, 8, 8, PN_READ, &lin);
    ck_assert_uint_eq(lin, 8);
    fx.cpu->cr4 |= CR4_LA57;
    ck_assert_int_eq(cpu_lin(fx.cpu, SEG_DS, top, 8, PN_READ, &lin), CPU_NEXT);
}
END_TEST

START_TEST(a_segment_checks_its_limit_and_type) {
    pn_gva lin;
    fix_prot();
    struct cpu *c = fx.cpu;
    c->seg[SEG_DS].limit = 0xfff;
    ck_assert_int_eq(cpu_lin(c, SEG_DS, 0xffc, 4, PN_READ, &lin), CPU_NEXT);
    ck_fault(cpu_lin(c, SEG_DS, 0xffd, 4, PN_READ, &lin), VEC_GP, 0);
    c->seg[SEG_SS].limit = 0xfff;
    ck_fault(cpu_lin(c, SEG_SS, 0xffd, 4, PN_READ, &lin), VEC_SS, 0);
    seg_set(&c->seg[SEG_ES], READONLY, ram_get(GDT + READONLY, 8));
    ck_assert_int_eq(cpu_lin(c, SEG_ES, 0, 4, PN_READ, &lin), CPU_NEXT);
    ck_fault(cpu_lin(c, SEG_ES, 0, 4, PN_WRITE, &lin), VEC_GP, 0);
    ck_fault(cpu_lin(c, SEG_CS, 0, 4, PN_WRITE, &lin), VEC_GP, 0);
    seg_set(&c->seg[SEG_ES], EXECONLY, ram_get(GDT + EXECONLY, 8));
    ck_fault(cpu_lin(c, SEG_ES, 0, 4, PN_READ, &lin), VEC_GP, 0);
    seg_set_null(&c->seg[SEG_ES], 0);
    ck_fault(cpu_lin(c, SEG_ES, 0, 1, PN_READ, &lin), VEC_GP, 0);
    seg_set(&c->seg[SEG_ES], DOWN, ram_get(GDT + DOWN, 8));
    ck_fault(cpu_lin(c, SEG_ES, 0xfff, 1, PN_WRITE, &lin), VEC_GP, 0);
    ck_assert_int_eq(cpu_lin(c, SEG_ES, 0x1000, 4, PN_WRITE, &lin), CPU_NEXT);
    ck_fault(cpu_lin(c, SEG_ES, 0xfffffffd, 4, PN_WRITE, &lin), VEC_GP, 0);
    c->seg[SEG_ES].attr &= ~ATTR_DB;
    ck_fault(cpu_lin(c, SEG_ES, 0xfffd, 4, PN_WRITE, &lin), VEC_GP, 0);
    /* A flat segment wraps at 4 GiB. */
    ck_assert_int_eq(cpu_lin(c, SEG_FS, 0xfffffffe, 4, PN_READ, &lin), CPU_NEXT);
}
END_TEST

START_TEST(addresses_wrap_at_their_size) {
    pn_gva lin;
    fix_prot();
    struct insn in = insn_mem(4, 0xffff, 4);
    in.base = R_BX;
    fx.cpu->gpr[R_BX] = 0x10002;
    in.addrsize = 2;
    ck_assert_int_eq(cpu_lin_operand(fx.cpu, &in, 4, PN_READ, &lin), CPU_NEXT);
    ck_assert_uint_eq(lin, 1);
    in.addrsize = 4;
    in.index = R_SI;
    in.scale = 4;
    fx.cpu->gpr[R_SI] = 0x40000000;
    ck_assert_int_eq(cpu_lin_operand(fx.cpu, &in, 4, PN_READ, &lin), CPU_NEXT);
    ck_assert_uint_eq(lin, 0x20001);
    fx.cpu->seg[SEG_DS].base = 0xffff0000;
    ck_assert_int_eq(cpu_lin_operand(fx.cpu, &in, 4, PN_READ, &lin), CPU_NEXT);
    ck_assert_uint_eq(lin, 0x10001);
}
END_TEST

START_TEST(alignment_is_checked_in_ring_3_alone) {
    pn_gva lin;
    fix_long();
    fx.cpu->cr0 |= CR0_AM;
    fx.cpu->sys_flags |= FL_AC;
    cpu_update_mode(fx.cpu);
    ck_assert_int_eq(cpu_lin(fx.cpu, SEG_DS, 1, 4, PN_READ, &lin), CPU_NEXT); /* ring 0 */
    fix_user();
    ck_fault(cpu_lin(fx.cpu, SEG_DS, 1, 4, PN_READ, &lin), VEC_AC, 0);
    ck_fault(cpu_lin(fx.cpu, SEG_DS, 4, 8, PN_READ, &lin), VEC_AC, 0);
    ck_assert_int_eq(cpu_lin(fx.cpu, SEG_DS, 8, 8, PN_READ, &lin), CPU_NEXT);
    ck_assert_int_eq(cpu_lin(fx.cpu, SEG_DS, 3, 1, PN_READ, &lin), CPU_NEXT);
}
END_TEST

START_TEST(operands_read_and_write_their_part_of_a_register) {
    uint64_t v;
    fix_long();
    struct cpu *c = fx.cpu;
    c->gpr[R_BX] = 0x1122334455667788;
    struct insn in = insn_reg(1, R_BX, 1);
    in.op[0].kind = OP_REG_HIGH;
    cpu_op_read(c, &in, 0, &v);
    ck_assert_uint_eq(v, 0x77);
    cpu_op_write(c, &in, 0, 0xaa);
    ck_assert_uint_eq(c->gpr[R_BX], 0x112233445566aa88);
    in = insn_reg(2, R_BX, 2);
    cpu_op_write(c, &in, 0, 0x1bbcc);
    ck_assert_uint_eq(c->gpr[R_BX], 0x112233445566bbcc);
    in = insn_reg(4, R_BX, 4);
    cpu_op_write(c, &in, 0, ~0ull);
    ck_assert_uint_eq(c->gpr[R_BX], 0xffffffff);
    in = insn_mem(8, PAGES + 0x20, 8);
    ck_assert_int_eq(cpu_op_write(c, &in, 0, 42), CPU_NEXT);
    ck_assert_int_eq(cpu_op_read(c, &in, 0, &v), CPU_NEXT);
    ck_assert_uint_eq(v, 42);
}
END_TEST

SUITE("cpu memory", .setup = fix_create, .teardown = fix_destroy,
      .tests = {
          a_store_across_pages_is_all_or_nothing, a_page_fault_has_its_error_code_and_cr2,
          mmio_goes_through_the_bounce_buffer, a_store_to_a_tracked_page_stops_the_block,
          a_load_across_pages_is_one_value, a_fetch_obeys_nx_and_smep,
          pdptes_with_reserved_bits_are_refused, ac_lets_the_supervisor_through_smap,
          a_non_canonical_address_faults_by_its_segment,
          a_segment_checks_its_limit_and_type, addresses_wrap_at_their_size,
          alignment_is_checked_in_ring_3_alone,
          operands_read_and_write_their_part_of_a_register})
