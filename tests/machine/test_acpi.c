/* SPDX-License-Identifier: MIT */
/* ACPI tables: checksums, the chain from the RSDP, and what iasl reads in them. */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dev/pci.h"
#include "tests/suite.h"

static uint8_t buf[0x10000];

/* The first one lies on both sides of the hole. */
static const struct machine_nodes nodes = {
    .count = 2,
    .distance = 21,
    .node = {
        {.size = LOW_RAM_MAX + (1u << 30), .cpus = 1},
        {.from = LOW_RAM_MAX + (1u << 30), .size = 2u << 20, .first_cpu = 1, .cpus = 2}}};

static const struct firmware *with_cpus(unsigned cpus) {
    static struct firmware f;
    f = (struct firmware){.cpus = cpus, .hpet = true, .pci_slots = 4, .nodes = &nodes};
    return &f;
}

static uint64_t le(const uint8_t *p, unsigned size) {
    uint64_t v = 0;
    memcpy(&v, p, size);
    return v;
}

static void expect_sum(const uint8_t *p, size_t size) {
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + p[i]);
    ck_assert_uint_eq(sum, 0);
}

static const uint8_t *table(uint64_t gpa) {
    ck_assert_uint_ge(gpa, ACPI_BASE);
    ck_assert_uint_lt(gpa, 0x100000);
    return buf + (gpa - ACPI_BASE);
}

static const uint8_t *by_name(const char *signature) {
    const uint8_t *xsdt = table(le(buf + 24, 8));
    for (unsigned i = 36; i < le(xsdt + 4, 4); i += 8) {
        const uint8_t *t = table(le(xsdt + i, 8));
        if (memcmp(t, signature, 4) == 0)
            return t;
    }
    if (memcmp(signature, "DSDT", 4) == 0)
        return table(le(by_name("FACP") + 140, 8));
    ck_abort_msg("no table %s", signature);
}

START_TEST(the_rsdp_leads_to_every_table_and_sums_are_0) {
    ck_assert_uint_gt(acpi_build(buf, sizeof(buf), with_cpus(4)), 0);
    ck_assert_int_eq(memcmp(buf, "RSD PTR ", 8), 0);
    expect_sum(buf, 20);
    expect_sum(buf, 36);
    const uint8_t *rsdt = table(le(buf + 16, 4)), *xsdt = table(le(buf + 24, 8));
    expect_sum(rsdt, le(rsdt + 4, 4));
    expect_sum(xsdt, le(xsdt + 4, 4));
    for (unsigned i = 0; i < 6; i++)
        ck_assert_uint_eq(le(rsdt + 36 + 4 * i, 4), le(xsdt + 36 + 8 * i, 8));
    static const char *names[] = {"FACP", "APIC", "HPET", "MCFG", "SRAT", "SLIT", "DSDT"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        expect_sum(by_name(names[i]), le(by_name(names[i]) + 4, 4));
    const uint8_t *fadt = by_name("FACP");
    ck_assert_uint_eq(le(fadt + 36, 4) % 64, 0);
    ck_assert_int_eq(memcmp(table(le(fadt + 36, 4)), "FACS", 4), 0);
    ck_assert_uint_eq(le(fadt + 64, 4), ACPI_PM_BASE + ACPI_PM_CNT);
    ck_assert_uint_eq(le(fadt + 46, 2), ACPI_SCI_GSI);
}
END_TEST

START_TEST(there_is_pci_or_no_word_of_it) {
    const struct firmware f = {.cpus = 1};
    size_t without = acpi_build(buf, sizeof(buf), &f);
    ck_assert_uint_eq(le(table(le(buf + 24, 8)) + 4, 4), 36 + 2 * 8);
    ck_assert_uint_gt(acpi_build(buf, sizeof(buf), with_cpus(1)), without);
    const uint8_t *mcfg = by_name("MCFG");
    ck_assert_uint_eq(le(mcfg + 4, 4), 60);
    ck_assert_uint_eq(le(mcfg + 44, 8), PCI_ECAM_BASE);
    ck_assert_uint_eq(le(mcfg + 52, 4), 0); /* segment 0, bus 0 to bus 0 */
}
END_TEST

START_TEST(there_is_an_hpet_or_no_table_of_one) {
    const struct firmware f = {.cpus = 1};
    acpi_build(buf, sizeof(buf), &f);
    ck_assert_uint_eq(le(table(le(buf + 24, 8)) + 4, 4), 36 + 2 * 8);
    ck_assert_uint_eq(le(table(le(buf + 16, 4)) + 4, 4), 36 + 2 * 4);
    acpi_build(buf, sizeof(buf), with_cpus(1));
    ck_assert_uint_eq(le(by_name("HPET") + 44, 8), HPET_BASE);
    ck_assert_uint_eq(le(by_name("HPET") + 36, 4), HPET_BLOCK_ID);
}
END_TEST

START_TEST(srat_and_slit_tell_of_the_nodes) {
    static const uint64_t part[3][3] = {{0, 0, LOW_RAM_MAX},
                                        {0, HIGH_RAM_BASE, 1u << 30},
                                        {1, HIGH_RAM_BASE + (1u << 30), 2u << 20}};
    unsigned parts = 0, cpus = 0;
    acpi_build(buf, sizeof(buf), with_cpus(3));
    const uint8_t *srat = by_name("SRAT"), *slit = by_name("SLIT");
    for (unsigned i = 48; i < le(srat + 4, 4); i += srat[i + 1]) {
        ck_assert_uint_gt(srat[i + 1], 0);
        if (srat[i] == 0) {
            ck_assert_uint_eq(srat[i + 3], cpus);
            ck_assert_uint_eq(srat[i + 2], cpus++ > 0);
        } else {
            ck_assert_uint_eq(srat[i + 2], part[parts][0]);
            ck_assert_uint_eq(le(srat + i + 8, 8), part[parts][1]);
            ck_assert_uint_eq(le(srat + i + 16, 8), part[parts++][2]);
        }
    }
    ck_assert_uint_eq(cpus, 3);
    ck_assert_uint_eq(parts, 3);
    ck_assert_uint_eq(le(slit + 4, 4), 48);
    ck_assert_uint_eq(le(slit + 36, 8), 2);
    ck_assert_int_eq(memcmp(slit + 44, (const uint8_t[]){10, 21, 21, 10}, 4), 0);
}
END_TEST

START_TEST(madt_names_every_cpu) {
    static const unsigned counts[] = {1, 2, 64, 255, 300};
    for (unsigned k = 0; k < 5; k++) {
        ck_assert_uint_gt(acpi_build(buf, sizeof(buf), with_cpus(counts[k])), 0);
        const uint8_t *m = by_name("APIC");
        unsigned cpus = 0, size = (unsigned)le(m + 4, 4), i;
        for (i = 44; i < size; i += m[i + 1]) {
            ck_assert_uint_gt(m[i + 1], 0);
            cpus += m[i] == 0 || m[i] == 9;
        }
        ck_assert_uint_eq(i, size);
        ck_assert_uint_eq(cpus, counts[k]);
    }
}
END_TEST

START_TEST(too_small_a_buffer_is_refused) {
    size_t need = acpi_build(buf, sizeof(buf), with_cpus(2));
    uint8_t *small = malloc(need);
    for (size_t size = 0; size < need; size += 13)
        ck_assert_uint_eq(acpi_build(small, size, with_cpus(2)), 0);
    ck_assert_uint_eq(acpi_build(small, need, with_cpus(2)), need);
    free(small);
}
END_TEST

static bool have_iasl(void) {
    return system("command -v iasl > /dev/null 2>&1") == 0;
}

static char *read_text(const char *path) {
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    char *text = calloc(1, 1 << 20);
    size_t n = fread(text, 1, (1 << 20) - 1, f);
    text[n] = 0;
    fclose(f);
    return text;
}

/* Disassemble each table, and compile the DSDT's source to the same bytes again. */
START_TEST(iasl_reads_them_back) {
    if (!have_iasl()) {
        printf("skipped: iasl_reads_them_back (no iasl: package acpica-tools)\n");
        return;
    }
    char dir[] = "/tmp/penumbra-acpi-XXXXXX", cmd[512], path[256];
    static const char *names[] = {"DSDT", "FACP", "APIC", "HPET", "MCFG", "SRAT", "SLIT"};
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_uint_gt(acpi_build(buf, sizeof(buf), with_cpus(3)), 0);
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const uint8_t *t = by_name(names[i]);
        snprintf(path, sizeof(path), "%s/%s.aml", dir, names[i]);
        FILE *f = fopen(path, "w");
        ck_assert_ptr_nonnull(f);
        fwrite(t, 1, le(t + 4, 4), f);
        fclose(f);
        snprintf(cmd, sizeof(cmd), "cd %s && iasl -d %s.aml > %s.log 2>&1", dir, names[i],
                 names[i]);
        ck_assert_int_eq(system(cmd), 0);
        snprintf(path, sizeof(path), "%s/%s.dsl", dir, names[i]);
        char *text = read_text(path);
        ck_assert_ptr_null(strstr(text, "ncorrect"));
        ck_assert_ptr_null(strstr(text, "rror"));
        if (i == 0) {
            ck_assert_ptr_nonnull(strstr(text, "PNP0501"));
            ck_assert_ptr_nonnull(strstr(text, "PNP0A08"));
            ck_assert_ptr_nonnull(strstr(text, "PNP0B00"));
            ck_assert_ptr_nonnull(strstr(text, "_S3"));
            ck_assert_ptr_nonnull(strstr(text, "_S5"));
        }
        free(text);
    }
    snprintf(cmd, sizeof(cmd),
             "cd %s && iasl -oa -p again DSDT.dsl > again.log 2>&1 && "
             "tail -c +37 DSDT.aml > a && tail -c +37 again.aml > b && cmp a b",
             dir);
    ck_assert_int_eq(system(cmd), 0);
    snprintf(cmd, sizeof(cmd), "grep -q ' 0 Errors, 0 Warnings' %s/again.log", dir);
    ck_assert_int_eq(system(cmd), 0);
    snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
    ck_assert_int_eq(system(cmd), 0);
}
END_TEST

SUITE("acpi", .tests = {the_rsdp_leads_to_every_table_and_sums_are_0,
                        madt_names_every_cpu, there_is_an_hpet_or_no_table_of_one,
                        srat_and_slit_tell_of_the_nodes, there_is_pci_or_no_word_of_it,
                        too_small_a_buffer_is_refused, iasl_reads_them_back})
