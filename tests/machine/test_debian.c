/* SPDX-License-Identifier: MIT */
/*
 * Debian's own kernel through the loader: PENUMBRA_KERNEL, or vmlinuz in the guest cache
 * (PENUMBRA_CACHE; scripts/guest.sh fills it). Skipped, with 77, where there is none.
 */
#include "fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/suite.h"

#define KERNEL_MAP 0xffffffff80000000ull
#define PREF       0x1000000ull /* CONFIG_PHYSICAL_START, its default */

static void *image;
static size_t image_size;
static uint64_t span;      /* what it needs from its address: init_size of its header */
static uint64_t entry_off; /* from its address to its entry point: 0 up to Linux 6.6 */

static int load(struct fixture *f, uint64_t ram, const char *append, uint64_t seed) {
    fixture_init(f, ram);
    f->l.append = append;
    f->l.seed = seed;
    return fixture_load(f, image, image_size);
}

static uint64_t phys_of(struct fixture *f) {
    return f->l.entry.rip - entry_off;
}

/* Return: can it be loaded? */
static bool learn_the_image(void) {
    struct fixture f;
    uint32_t init_size;
    if (load(&f, 512u << 20, "nokaslr", 0) != 0) {
        printf("%s\n", f.text);
        return false;
    }
    memcpy(&init_size, (uint8_t *)image + 0x260, sizeof(init_size));
    span = init_size;
    entry_off = f.l.entry.rip - PREF;
    fixture_free(&f);
    return entry_off < span;
}

START_TEST(nokaslr_lies_at_its_preferred_address) {
    struct fixture f;
    ck_assert_int_eq(load(&f, 512u << 20, "console=ttyS0 nokaslr", 7), 0);
    ck_assert_uint_eq(phys_of(&f), PREF);
    ck_assert_uint_ne(fixture_u64(&f, f.l.entry.rip), 0);
    ck_assert_int_eq(f.l.entry.mode, ENTRY_LONG);
    ck_assert_uint_eq(f.l.entry.rsi, BOOT_INFO);
    ck_assert_uint_eq(*fixture_at(&f, BOOT_INFO + 0x211) & 2, 0);
    ck_assert_str_eq((char *)fixture_at(&f, fixture_u32(&f, BOOT_INFO + 0x228)),
                     "console=ttyS0 nokaslr");
    ck_assert_uint_ne(fixture_u64(&f, PREF), 0);
    ck_assert(!f.strayed);
    fixture_free(&f);
}
END_TEST

START_TEST(kaslr_is_a_function_of_the_seed) {
    unsigned moved = 0;
    uint64_t last = 0;
    for (uint64_t seed = 0; seed < 8; seed++) {
        struct fixture a, b;
        ck_assert_int_eq(load(&a, 512u << 20, "", seed), 0);
        ck_assert_int_eq(load(&b, 512u << 20, "", seed), 0);
        ck_assert_uint_eq(a.l.entry.rip, b.l.entry.rip);
        ck_assert_int_eq(memcmp(a.low, b.low, a.low_size), 0);
        ck_assert_uint_eq(*fixture_at(&a, BOOT_INFO + 0x211) & 2, 2);
        ck_assert_uint_eq(phys_of(&a) & 0x1fffff, 0);
        moved += phys_of(&a) != last;
        last = phys_of(&a);
        fixture_free(&a);
        fixture_free(&b);
    }
    ck_assert_uint_gt(moved, 5);
}
END_TEST

/* Every place that KASLR changed held a kernel address before, moved by one distance. */
START_TEST(relocation_moves_kernel_addresses_alone) {
    struct fixture a, b;
    ck_assert_int_eq(load(&a, 512u << 20, "nokaslr", 3), 0);
    ck_assert_int_eq(load(&b, 512u << 20, "", 3), 0);
    const uint8_t *p = a.low + PREF, *q = b.low + phys_of(&b);
    uint64_t places = 0, delta = 0;
    ck_assert_uint_le(phys_of(&b) + span, b.low_size);
    for (uint64_t i = 0; i + 8 <= span; i += 8) {
        uint64_t x, y;
        memcpy(&x, p + i, 8);
        memcpy(&y, q + i, 8);
        if (x == y || x < KERNEL_MAP + PREF || x >= KERNEL_MAP + PREF + span)
            continue; /* 32-bit places may straddle: counted by the guest's boot */
        if (!delta)
            delta = y - x;
        places += y - x == delta;
    }
    ck_assert_uint_gt(places, 100000);
    ck_assert_uint_eq(delta & 0x1fffff, 0);
    ck_assert_uint_lt(delta, 1u << 30);
    fixture_free(&a);
    fixture_free(&b);
}
END_TEST

START_TEST(too_little_memory_is_one_line) {
    struct fixture f;
    ck_assert_int_eq(load(&f, 2u << 20, "", 0), -EINVAL);
    ck_assert_ptr_nonnull(strstr(f.text, "does not fit"));
    fixture_free(&f);
    ck_assert_int_eq(load(&f, 64u << 20, "", 0), -EINVAL);
    ck_assert_ptr_nonnull(strstr(f.text, "-m 64M"));
    fixture_free(&f);
}
END_TEST

START_TEST(initrd_lies_high_and_clear_of_the_kernel) {
    size_t size = (20u << 20) + 123;
    uint8_t *initrd = malloc(size);
    memset(initrd, 0xa5, size);
    for (uint64_t seed = 0; seed < 16; seed++) {
        struct fixture f;
        fixture_init(&f, 128u << 20);
        f.l.initrd = initrd;
        f.l.initrd_size = size;
        f.l.seed = seed;
        ck_assert_int_eq(fixture_load(&f, image, image_size), 0);
        uint64_t at = fixture_u32(&f, BOOT_INFO + 0x218);
        ck_assert_uint_eq(fixture_u32(&f, BOOT_INFO + 0x21c), size);
        ck_assert_uint_eq(at & 0xfff, 0);
        ck_assert_int_eq(memcmp(fixture_at(&f, at), initrd, size), 0);
        ck_assert_uint_le(phys_of(&f) + span, at);
        fixture_free(&f);
    }
    free(initrd);
}
END_TEST

START_TEST(truncation_anywhere_is_an_error) {
    for (size_t size = 0; size < image_size; size += size < 2048 ? 7 : image_size / 13) {
        struct fixture f;
        fixture_init(&f, 256u << 20);
        ck_assert_int_lt(fixture_load(&f, image, size), 0);
        ck_assert_int_gt((int)strlen(f.text), 8);
        fixture_free(&f);
    }
}
END_TEST

START_TEST(la57_only_where_cpu_kernel_and_command_line_agree) {
    static const struct {
        bool cpu, want;
        const char *append;
    } t[] = {{false, false, ""}, {true, true, ""}, {true, false, "quiet no5lvl"}};
    for (unsigned i = 0; i < 3; i++) {
        struct fixture f;
        fixture_init(&f, 256u << 20);
        f.l.cpu_la57 = t[i].cpu;
        f.l.append = t[i].append;
        ck_assert_int_eq(fixture_load(&f, image, image_size), 0);
        ck_assert_int_eq(f.l.entry.la57, t[i].want);
        fixture_free(&f);
    }
}
END_TEST

static const char *kernel_path(char *buf, size_t size) {
    const char *path = getenv("PENUMBRA_KERNEL"), *cache = getenv("PENUMBRA_CACHE");
    if (path)
        return path;
    if (!cache)
        cache = getenv("PENUMBRA_CACHE_DEFAULT");
    snprintf(buf, size, "%s/vmlinuz", cache ? cache : ".cache/guest");
    return buf;
}

int main(void) {
    char buf[4096], text[512];
    struct err e = {text, sizeof(text)};
    const char *path = kernel_path(buf, sizeof(buf));
    if (access(path, R_OK) != 0) {
        printf("skipped: no Debian kernel at %s (make linux fetches one)\n", path);
        return 77;
    }
    if (file_read(path, 1u << 30, &image, &image_size, &e) != 0) {
        printf("%s\n", text);
        return 1;
    }
    if (!learn_the_image())
        return 1;
    const struct suite s = {
        .name = "debian",
        .timeout = 300,
        .tests = {nokaslr_lies_at_its_preferred_address, kaslr_is_a_function_of_the_seed,
                  relocation_moves_kernel_addresses_alone, too_little_memory_is_one_line,
                  initrd_lies_high_and_clear_of_the_kernel,
                  truncation_anywhere_is_an_error,
                  la57_only_where_cpu_kernel_and_command_line_agree}};
    int rc = suite_run(&s);
    free(image);
    return rc;
}
