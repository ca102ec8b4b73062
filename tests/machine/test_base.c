/* SPDX-License-Identifier: MIT */
/* What the machine stands on: sizes, files, error lines, host memory. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/hostmem.h"
#include "base/size.h"
#include "tests/suite.h"

START_TEST(sizes_have_units_and_bounds) {
    static const struct {
        const char *text;
        int rc;
        uint64_t want;
    } t[] = {{"0", 0, 0},
             {"4096", 0, 4096},
             {"512M", 0, 512ull << 20},
             {"8g", 0, 8ull << 30},
             {"1k", 0, 1024},
             {"3T", 0, 3ull << 40},
             {"18446744073709551615", 0, UINT64_MAX},
             {"18446744073709551616", -ERANGE, 0},
             {"16777216T", -ERANGE, 0},
             {"16777215T", 0, 16777215ull << 40},
             {"", -EINVAL, 0},
             {"M", -EINVAL, 0},
             {"-1", -EINVAL, 0},
             {"+1", -EINVAL, 0},
             {" 1", -EINVAL, 0},
             {"1 ", -EINVAL, 0},
             {"1MB", -EINVAL, 0},
             {"1Q", -EINVAL, 0},
             {"0x10", -EINVAL, 0},
             {"512MiB", 0, 512ull << 20},
             {"1.5G", 0, 3ull << 29},
             {"0.25GiB", 0, 1ull << 28},
             {"1.000000T", 0, 1ull << 40},
             {"0.00390625M", -EINVAL, 0},
             {"1.1G", -EINVAL, 0},
             {"0.5K", -EINVAL, 0},
             {"1.5", -EINVAL, 0},
             {".5G", -EINVAL, 0},
             {"1.G", -EINVAL, 0},
             {"1.G5", -EINVAL, 0},
             {"1iB", -EINVAL, 0},
             {"1Mi", -EINVAL, 0},
             {"1MiBs", -EINVAL, 0},
             {"1\x0b", -EINVAL, 0}};
    for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        uint64_t v = 0;
        ck_assert_msg(size_parse(t[i].text, &v) == t[i].rc, "%s", t[i].text);
        ck_assert_uint_eq(v, t[i].want);
    }
}
END_TEST

START_TEST(size_texts_parse_back) {
    const uint64_t t[] = {0, 1, 1023, 1024, 1536, 3ull << 20, 64ull << 30, UINT64_MAX};
    for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        char text[SIZE_TEXT_MAX];
        uint64_t v;
        ck_assert_int_eq(size_parse(size_text(t[i], text), &v), 0);
        ck_assert_uint_eq(v, t[i]);
    }
}
END_TEST

START_TEST(errors_are_one_line) {
    char text[32];
    struct err e = {text, sizeof(text)};
    ck_assert_int_eq(err_set(&e, -EINVAL, "%s\n\033[2J", "bad"), -EINVAL);
    ck_assert_str_eq(text, "bad??[2J");
    ck_assert_int_eq(err_sys(&e, -ENOENT, "a path that is much longer than the buffer"),
                     -ENOENT);
    ck_assert_uint_eq(strlen(text), 31);
    ck_assert_int_eq(err_set(NULL, -1, "x"), -1);
    struct err none = {NULL, 0};
    ck_assert_int_eq(err_sys(&none, -1, "x"), -1);
}
END_TEST

START_TEST(a_file_is_read_whole_or_refused) {
    char path[] = "/tmp/penumbra-file-XXXXXX", text[256];
    struct err e = {text, sizeof(text)};
    int fd = mkstemp(path);
    void *data = NULL;
    size_t size;
    ck_assert_int_eq(file_read(path, 10, &data, &size, &e), 0);
    ck_assert_uint_eq(size, 0);
    free(data);
    ck_assert_int_eq(write(fd, "0123456789", 10), 10);
    ck_assert_int_eq(file_read(path, 10, &data, &size, &e), 0);
    ck_assert_uint_eq(size, 10);
    ck_assert_int_eq(memcmp(data, "0123456789", 10), 0);
    free(data);
    ck_assert_int_eq(file_read(path, 9, &data, &size, &e), -EFBIG);
    ck_assert_ptr_nonnull(strstr(text, path));
    ck_assert_int_eq(file_read("/tmp", 9, &data, &size, &e), -EISDIR);
    ck_assert_int_eq(file_read("/nonexistent/x", 9, &data, &size, &e), -ENOENT);
    ck_assert_int_eq(file_read("/dev/zero", 1 << 20, &data, &size, &e), -EFBIG);
    close(fd);
    unlink(path);
}
END_TEST

START_TEST(memory_is_zero_aligned_and_guarded) {
    static const char *kinds[] = {NULL, "thp", "off"};
    for (unsigned i = 0; i < 6; i++) {
        char text[256];
        struct err e = {text, sizeof(text)};
        struct hostmem m;
        struct hostmem_config cfg = {
            .size = (3u << 20) + 4096, .hugepages = kinds[i / 2], .shared = i % 2};
        ck_assert_int_eq(hostmem_create(&cfg, &m, &e), 0);
        ck_assert_uint_eq((uintptr_t)m.base % (2u << 20), 0);
        ck_assert_int_eq(m.fd >= 0, i % 2);
        for (uint64_t at = 0; at < m.size; at += 4096)
            ck_assert_uint_eq(m.base[at], 0);
        m.base[m.size - 1] = 1;
        unsigned char in_core;
        ck_assert_int_eq(mincore(m.base + m.size, 4096, &in_core), 0); /* mapped, but */
        int out[2];
        ck_assert_int_eq(pipe(out), 0); /* the kernel, at least, may not read it */
        ck_assert_int_eq(write(out[1], m.base + m.size, 1), -1);
        ck_assert_int_eq(write(out[1], m.base - 1, 1), -1);
        close(out[0]);
        close(out[1]);
        if (i % 2) {
            uint8_t *again = mmap(NULL, m.size, PROT_READ, MAP_SHARED, m.fd, 0);
            ck_assert_ptr_ne(again, MAP_FAILED);
            ck_assert_uint_eq(again[m.size - 1], 1);
            munmap(again, m.size);
        }
        hostmem_destroy(&m);
    }
}
END_TEST

START_TEST(memory_refusals_say_why) {
    static const struct {
        uint64_t size;
        const char *hugepages, *numa, *want;
    } t[] = {{1ull << 50, NULL, NULL, "this host has"},
             {1 << 20, "4K", NULL, "--hugepages 4K"},
             {1 << 20, "", NULL, "--hugepages"},
             {1 << 20, NULL, "", "--numa"},
             {1 << 20, NULL, "remote", "--numa remote"},
             {1 << 20, NULL, "bind=", "--numa bind="},
             {1 << 20, NULL, "bind=0,", "--numa"},
             {1 << 20, NULL, "bind=4000000000", "--numa"},
             {1 << 20, NULL, "bind=1023", "--numa"},
             {1 << 20, NULL, "interleave=0,x", "--numa"},
             {1 << 20, NULL, "interleave=0,999", "--numa"}};
    for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        char text[256] = "";
        struct err e = {text, sizeof(text)};
        struct hostmem m;
        struct hostmem_config cfg = {
            .size = t[i].size, .hugepages = t[i].hugepages, .numa = t[i].numa};
        ck_assert_int_eq(hostmem_create(&cfg, &m, &e), -EINVAL);
        ck_assert_msg(strstr(text, t[i].want) != NULL, "%s: %s", t[i].want, text);
    }
}
END_TEST

/* Node 0 is every host's; huge pages are there or the line names the pool. */
START_TEST(placement_and_huge_pages_work_or_say_why_not) {
    static const struct {
        const char *hugepages, *numa;
    } t[] = {{NULL, "local"},
             {NULL, "bind=0"},
             {NULL, "interleave=0"},
             {"2M", NULL},
             {"1G", NULL}};
    for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        char text[256] = "";
        struct err e = {text, sizeof(text)};
        struct hostmem m;
        struct hostmem_config cfg = {
            .size = 4u << 20, .hugepages = t[i].hugepages, .numa = t[i].numa};
        int rc = hostmem_create(&cfg, &m, &e);
        if (rc) {
            ck_assert_ptr_nonnull(strstr(text, t[i].numa ? t[i].numa : t[i].hugepages));
            continue;
        }
        m.base[0] = m.base[m.size - 1] = 1;
        hostmem_destroy(&m);
    }
}
END_TEST

SUITE("base",
      .tests = {sizes_have_units_and_bounds, size_texts_parse_back, errors_are_one_line,
                a_file_is_read_whole_or_refused, memory_is_zero_aligned_and_guarded,
                memory_refusals_say_why, placement_and_huge_pages_work_or_say_why_not})
