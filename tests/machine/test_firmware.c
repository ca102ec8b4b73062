/* SPDX-License-Identifier: MIT */
/*
 * What firmware leaves in memory, as a guest finds it: the MP tables (Intel MultiProcessor
 * Specification 1.4, chapter 4), SMBIOS (DMTF DSP0134, 2.8) and the vectors.
 */
#include <stdlib.h>
#include <string.h>

#include "dev/dev.h"
#include "fixture.h"
#include "tests/suite.h"

#define MIB (1ull << 20)

static void begin(struct fixture *f, uint64_t ram, unsigned cpus) {
    fixture_init(f, ram);
    const struct firmware what = {.cpus = cpus};
    ck_assert_int_eq(firmware_put(&f->l, &what), 0);
    ck_assert(!f->strayed);
}

static uint32_t get(struct fixture *f, pn_gpa gpa, unsigned size) {
    uint32_t v = 0;
    memcpy(&v, fixture_at(f, gpa), size);
    return v;
}

/* As guests search: each 16 bytes of the last 64 KiB below 1 MiB. */
static pn_gpa find(struct fixture *f, const char *signature) {
    for (pn_gpa at = 0xf0000; at < 0x100000; at += 16)
        if (memcmp(fixture_at(f, at), signature, strlen(signature)) == 0)
            return at;
    ck_abort_msg("no %s", signature);
}

static void expect_sum(struct fixture *f, pn_gpa at, size_t size) {
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + *fixture_at(f, at + i));
    ck_assert_uint_eq(sum, 0);
}

START_TEST(the_mp_tables_say_what_the_madt_says) {
    static const unsigned counts[] = {1, 4, 64};
    for (unsigned k = 0; k < 3; k++) {
        struct fixture f;
        begin(&f, 16 * MIB, counts[k]);
        pn_gpa mp = find(&f, "_MP_"), table = get(&f, mp + 4, 4);
        expect_sum(&f, mp, 16);
        ck_assert_uint_eq(get(&f, mp + 8, 2), 0x0401);
        ck_assert_uint_eq(get(&f, mp + 11, 4), 0); /* a table; no IMCR */
        ck_assert_uint_eq(table, mp + 16);
        ck_assert_int_eq(memcmp(fixture_at(&f, table), "PCMP", 4), 0);
        expect_sum(&f, table, get(&f, table + 4, 2));
        ck_assert_uint_eq(get(&f, table + 36, 4), LAPIC_BASE);
        unsigned cpus = 0, boot = 0, kinds[5] = {0}, pins = 0, n = get(&f, table + 34, 2);
        pn_gpa at = table + 44;
        for (unsigned i = 0; i < n; i++) {
            unsigned type = get(&f, at, 1);
            ck_assert_uint_le(type, 4);
            kinds[type]++;
            if (type == 0) {
                ck_assert_uint_eq(get(&f, at + 1, 1), cpus++);
                boot += get(&f, at + 3, 1) >> 1 & 1;
                ck_assert_uint_eq(get(&f, at + 4, 4), 0x600); /* family 6 */
            }
            if (type == 3) {
                unsigned line = get(&f, at + 5, 1), pin = get(&f, at + 7, 1);
                ck_assert_uint_eq(pin, line ? line : 2);
                ck_assert_uint_eq(get(&f, at + 2, 2), line == ACPI_SCI_GSI ? 0xd : 0);
                pins |= 1u << pin;
            }
            at += type == 0 ? 20 : 8;
        }
        ck_assert_uint_eq(at - table, get(&f, table + 4, 2));
        ck_assert_uint_eq(cpus, counts[k]);
        ck_assert_uint_eq(boot, 1);
        ck_assert_uint_eq(kinds[1], 1);
        ck_assert_uint_eq(kinds[2], 1);
        ck_assert_uint_eq(kinds[4], 2);
        ck_assert_uint_eq(pins, 0xfffe);
        fixture_free(&f);
    }
}
END_TEST

/* Return: where the first structure of a type is; 0: none. *count: how many. */
static pn_gpa structure(struct fixture *f, unsigned type, unsigned *count) {
    pn_gpa sm = find(f, "_SM_"), at = get(f, sm + 24, 4), end = at + get(f, sm + 22, 2);
    pn_gpa first = 0;
    unsigned all = 0, largest = 0;
    *count = 0;
    while (at < end) {
        pn_gpa begin_at = at;
        if (get(f, at, 1) == type && (*count)++ == 0)
            first = at;
        ck_assert_uint_ge(get(f, at + 1, 1), 4);
        at += get(f, at + 1, 1);
        while (get(f, at, 2))
            at++;
        at += 2;
        all++;
        if (at - begin_at > largest)
            largest = (unsigned)(at - begin_at);
    }
    ck_assert_uint_eq(at, end);
    ck_assert_uint_eq(all, get(f, sm + 28, 2));
    ck_assert_uint_eq(largest, get(f, sm + 8, 2));
    return first;
}

START_TEST(smbios_has_what_is_required_of_it) {
    static const struct {
        uint64_t ram;
        uint32_t size, extended, ranges;
    } t[] = {{2 * MIB, 0x8000 | 2048, 0, 1},
             {31 * MIB, 0x8000 | 31 * 1024, 0, 1},
             {512 * MIB, 512, 0, 1},
             {4096 * MIB, 4096, 0, 2},
             {40960 * MIB, 0x7fff, 40960, 2}};
    for (unsigned k = 0; k < sizeof(t) / sizeof(t[0]); k++) {
        struct fixture f;
        begin(&f, t[k].ram, 2);
        pn_gpa sm = find(&f, "_SM_");
        expect_sum(&f, sm, 31);
        expect_sum(&f, sm + 16, 15);
        static const uint8_t once[] = {0, 1, 3, 16, 17, 32, 127};
        unsigned n;
        for (unsigned i = 0; i < sizeof(once); i++) {
            structure(&f, once[i], &n);
            ck_assert_uint_eq(n, 1);
        }
        structure(&f, 4, &n);
        ck_assert_uint_eq(n, 2);
        structure(&f, 19, &n);
        ck_assert_uint_eq(n, t[k].ranges);
        pn_gpa device = structure(&f, 17, &n);
        ck_assert_uint_eq(get(&f, device + 12, 2), t[k].size);
        ck_assert_uint_eq(get(&f, device + 28, 4), t[k].extended);
        ck_assert_str_eq((char *)fixture_at(&f, structure(&f, 1, &n) + 27), "penumbra");
        fixture_free(&f);
    }
}
END_TEST

START_TEST(every_vector_leads_into_the_rom) {
    struct fixture f;
    begin(&f, 16 * MIB, 1);
    for (unsigned v = 0; v < 256; v++) {
        uint32_t vector = get(&f, v * 4, 4);
        ck_assert_uint_eq(vector >> 16, 0xf000);
        ck_assert_uint_ge(vector & 0xffff, 0xf044);
        ck_assert_uint_lt(vector & 0xffff, 0xfe00);
    }
    ck_assert_uint_eq(get(&f, 0xffff0, 1), 0xea); /* the reset vector: a far JMP */
    ck_assert_uint_eq(get(&f, 0xffffe, 1), 0xfc); /* an AT */
    ck_assert_uint_eq(get(&f, 0x40e, 2), 0x9fc0);
    ck_assert_int_eq(memcmp(f.l.rsdp_bytes, "RSD PTR ", 8), 0);
    ck_assert_uint_eq(f.l.rsdp, find(&f, "RSD PTR "));
    fixture_free(&f);
}
END_TEST

SUITE("firmware",
      .tests = {the_mp_tables_say_what_the_madt_says, smbios_has_what_is_required_of_it,
                every_vector_leads_into_the_rom})
