/* SPDX-License-Identifier: MIT */
/* CPU models: names, toggles, errors, and the leaves that guests depend on. */
#include <string.h>

#include "fixture_sys.h"
#include "tests/suite.h"

static struct cpu_model *parse(const char *text) {
    struct cpu_model *m = NULL;
    char err[160] = "";
    ck_assert_msg(cpu_model_parse(text, &m, err, sizeof(err)) == 0, "%s: %s", text, err);
    return m;
}

static void refuse(const char *text, const char *expect) {
    struct cpu_model *m = NULL;
    char err[160] = "";
    ck_assert_int_lt(cpu_model_parse(text, &m, err, sizeof(err)), 0);
    ck_assert_msg(strstr(err, expect) != NULL, "%s: %s", text, err);
    ck_assert_msg(!strchr(err, '\n'), "one line: %s", err);
}

START_TEST(every_model_name_parses) {
    static const char *const names[] = {"x86-64-v1", "x86-64", "qemu64", "max"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        cpu_model_free(parse(names[i]));
    struct cpu_model *m = parse(""), *d = parse("default");
    ck_assert_str_eq(cpu_model_name(m), cpu_model_name(d));
    ck_assert(!strncmp(cpu_model_name(m), "x86-64-v", 8));
    cpu_model_free(m), cpu_model_free(d);
}
END_TEST

START_TEST(a_bad_model_is_refused_by_what_is_wrong) {
    refuse("pentium", "no such model");
    refuse("x86-64-v1,+frobnicate", "no such feature");
    refuse("x86-64-v1,la57", "expected +feature");
    refuse("x86-64-v1,vendor=via", "expected vendor=intel or vendor=amd");
    refuse("x86-64-v1,phys-bits=35", "expected phys-bits=N, N from 36 to 46");
    refuse("x86-64-v1,phys-bits=47", "expected phys-bits=N, N from 36 to 46");
    refuse("x86-64-v1,phys-bits=40x", "expected phys-bits=N, N from 36 to 46");
    refuse("x86-64-v1,", "expected +feature");
    refuse("x86-64-v1,+avx2", "");
    refuse("x86-64-v1,+pku", "needs xsave");
    refuse("x86-64-v1,-apic,+x2apic", "needs apic");
}
END_TEST

START_TEST(the_bits_of_an_address_are_those_named) {
    uint32_t r[4];
    struct cpu_model *m = parse("x86-64-v1,phys-bits=40");
    cpu_model_leaf(m, 0x80000008, 0, r);
    ck_assert_uint_eq(r[0], 48 << 8 | 40);
    cpu_model_free(m);
}
END_TEST

START_TEST(a_toggle_takes_along_what_depends_on_it) {
    struct cpu_model *m = parse("x86-64-v1,+la57,-smep");
    ck_assert(cpu_model_has(m, CPU_F_la57));
    ck_assert(!cpu_model_has(m, CPU_F_smep));
    ck_assert(m->cr4_valid & CR4_LA57);
    ck_assert(!(m->cr4_valid & CR4_SMEP));
    uint32_t r[4];
    cpu_model_leaf(m, 0x80000008, 0, r);
    ck_assert_uint_eq(r[0] >> 8 & 0xff, 57);
    cpu_model_free(m);
    m = parse("x86-64-v1");
    cpu_model_leaf(m, 0x80000008, 0, r);
    ck_assert_uint_eq(r[0] >> 8 & 0xff, 48);
    ck_assert(!cpu_model_has(m, CPU_F_la57));
    cpu_model_free(m);
    m = parse("max,-xsave");
    ck_assert(!cpu_model_has(m, CPU_F_avx) && !cpu_model_has(m, CPU_F_avx2));
    ck_assert(!cpu_model_has(m, CPU_F_pku) && !cpu_model_has(m, CPU_F_xsaves));
    cpu_model_leaf(m, 0xd, 0, r);
    ck_assert_uint_eq(r[0] | r[1] | r[2] | r[3], 0);
    cpu_model_free(m);
    m = parse("max,-nx"); /* and with it long mode */
    ck_assert(!cpu_model_has(m, CPU_F_lm));
    ck_assert_uint_eq(m->efer_valid, 0);
    cpu_model_free(m);
}
END_TEST

START_TEST(leaves_name_vendor_hypervisor_and_tsc_frequency) {
    struct cpu_model *m = parse("");
    uint32_t r[4];
    char text[17] = "";
    cpu_model_leaf(m, 0, 0, r);
    ck_assert_uint_ge(r[0], 0x16);
    memcpy(text, &r[1], 4), memcpy(text + 4, &r[3], 4), memcpy(text + 8, &r[2], 4);
    ck_assert_str_eq(text, "GenuineIntel");
    cpu_model_leaf(m, 0x40000000, 0, r);
    memcpy(text, &r[1], 12), text[12] = 0;
    ck_assert_str_eq(text, "penumbra");
    ck_assert_uint_eq(r[0], 0x40000000);
    cpu_model_leaf(m, 0x15, 0, r);
    ck_assert_uint_eq((uint64_t)r[2] * r[1] / r[0], 1000000000u);
    cpu_model_leaf(m, 0x80000002, 0, r);
    memcpy(text, r, 16), text[16] = 0;
    ck_assert(!strncmp(text, "penumbra x86-64", 15));
    cpu_model_leaf(m, 1, 0, r);
    ck_assert(r[2] >> 31);        /* a hypervisor */
    ck_assert(!(r[2] >> 3 & 1));  /* no MONITOR */
    ck_assert(!(r[2] >> 27 & 1)); /* OSXSAVE comes at run time */
    cpu_model_leaf(m, 7, 0, r);
    ck_assert(!(r[1] >> 16 & 1));        /* no AVX-512 */
    ck_assert(r[3] >> 29 & 1);           /* ARCH_CAPABILITIES */
    cpu_model_leaf(m, 0x12345678, 0, r); /* the last basic leaf's answer */
    ck_assert_uint_eq(r[0], 1000);
    cpu_model_free(m);
}
END_TEST

START_TEST(the_xsave_leaf_adds_up) {
    struct cpu_model *m = parse("max");
    uint32_t r[4], sub[4];
    if (!cpu_model_has(m, CPU_F_avx)) {
        printf("skipped: this host has no AVX\n");
        cpu_model_free(m);
        return;
    }
    uint32_t xss;
    cpu_model_leaf(m, 0xd, 1, r);
    xss = r[2];
    ck_assert_uint_eq(xss, 0x1800); /* CET's user and supervisor state */
    cpu_model_leaf(m, 0xd, 0, r);
    ck_assert_uint_eq(r[0], cpu_model_has(m, CPU_F_avx512f) ? 0x2e7 : 0x207);
    uint32_t end = 576;
    for (unsigned i = 2; i < 32; i++) {
        cpu_model_leaf(m, 0xd, i, sub);
        ck_assert_int_eq(sub[0] != 0, (r[0] | xss) >> i & 1);
        ck_assert_int_eq(sub[2] & 1, xss >> i & 1);
        if (xss >> i & 1) {
            ck_assert_uint_eq(sub[0], i == 11 ? 16 : 24);
            ck_assert_uint_eq(sub[1], 0); /* no place in the standard format */
        } else if (sub[0]) {
            ck_assert_uint_ge(sub[1], end);
            end = sub[1] + sub[0];
        }
    }
    ck_assert_uint_eq(end, r[2]);
    cpu_model_free(m);
}
END_TEST

static void cpuid(struct sys *s, uint32_t leaf, uint32_t subleaf) {
    struct insn in = sys_insn(4, 8);
    s->cpu->gpr[R_AX] = leaf | UINT64_C(0xdead) << 32;
    s->cpu->gpr[R_CX] = subleaf;
    ck_assert_int_eq(op_cpuid(s->cpu, &in), CPU_NEXT);
}

START_TEST(cpuid_shows_apic_id_osxsave_and_ospke_as_they_are) {
    struct sys *s = sys_new("max");
    sys_long_mode(s);
    s->cpu->apic_id = 3;
    cpuid(s, 1, 0);
    ck_assert_uint_eq(s->cpu->gpr[R_BX] >> 24, 3);
    ck_assert_uint_eq(s->cpu->gpr[R_CX] >> 27 & 1, 0);
    ck_assert_uint_eq(s->cpu->gpr[R_DX] >> 9 & 1, 1);
    ck_assert_uint_eq(s->cpu->gpr[R_AX] >> 32, 0);
    s->apic_base &= ~UINT64_C(0x800);
    s->cpu->cr4 |= CR4_OSXSAVE | CR4_PKE;
    cpuid(s, 1, 0);
    ck_assert_uint_eq(s->cpu->gpr[R_CX] >> 27 & 1, 1);
    ck_assert_uint_eq(s->cpu->gpr[R_DX] >> 9 & 1, 0);
    cpuid(s, 7, 0);
    ck_assert_uint_eq(s->cpu->gpr[R_CX] >> 4 & 1, 1);
    cpuid(s, 0xb, 1);
    ck_assert_uint_eq(s->cpu->gpr[R_DX], 3);
    ck_assert_uint_eq(s->cpu->gpr[R_CX], 0x201);
    if (cpu_has(s->cpu, CPU_F_xsave)) {
        s->cpu->xcr0 = 3;
        cpuid(s, 0xd, 0);
        ck_assert_uint_eq(s->cpu->gpr[R_BX], 576);
    }
    sys_free(s);
}
END_TEST

SUITE("cpuid",
      .tests = {every_model_name_parses, a_bad_model_is_refused_by_what_is_wrong,
                a_toggle_takes_along_what_depends_on_it,
                the_bits_of_an_address_are_those_named,
                leaves_name_vendor_hypervisor_and_tsc_frequency, the_xsave_leaf_adds_up,
                cpuid_shows_apic_id_osxsave_and_ospke_as_they_are})
