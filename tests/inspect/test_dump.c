/* SPDX-License-Identifier: MIT */
/* Dumps as files: what is none is refused; what differs, page by page. */
#include "inspect/dump.h"

#include <errno.h>
#include <string.h>

#include "tests/suite.h"

#define HEAD                                                                             \
    "{\"schema\":\"penumbra-dump-1\",\"mmu\":\"shadow\",\"mode\":\"4level\",\"cr3\":"    \
    "\"0x1000\","

static json_t *parse(const char *text) {
    char line[256] = "";
    struct err e = {line, sizeof(line)};
    json_t *j = NULL;
    ck_assert_msg(dump_parse(text, strlen(text), "test", &j, &e) == 0, "%s", line);
    return j;
}

static void refused(const char *text) {
    char line[256] = "";
    struct err e = {line, sizeof(line)};
    json_t *j = NULL;
    ck_assert_int_eq(dump_parse(text, strlen(text), "test", &j, &e), -EINVAL);
    ck_assert_msg(!strncmp(line, "test: ", 6), "%s", line);
}

/* Lines of what differs between two lists of ranges of the guest's. */
static char *difference(const char *a, const char *b) {
    static char text[4096];
    char both[2][2048];
    snprintf(both[0], sizeof(both[0]), HEAD "\"guest\":[%s]}", a);
    snprintf(both[1], sizeof(both[1]), HEAD "\"guest\":[%s]}", b);
    json_t *x = parse(both[0]), *y = parse(both[1]), *diff = dump_diff(x, y);
    ck_assert_ptr_nonnull(diff);
    FILE *f = fmemopen(text, sizeof(text), "w");
    *text = 0;
    dump_diff_print(diff, f);
    fclose(f);
    json_decref(x);
    json_decref(y);
    json_decref(diff);
    return text;
}

#define RANGE(from, to, gpa, access)                                                     \
    "{\"from\":\"" from "\",\"to\":\"" to "\",\"gpa\":\"" gpa                            \
    "\",\"page\":\"4 KiB\",\"access\":\"" access "\",\"pkey\":0,\"host\":\"slot0+" gpa   \
    "\"}"

START_TEST(ranges_that_are_merged_otherwise_do_not_differ) {
    ck_assert_str_eq(difference(RANGE("0x1000", "0x3fff", "0x5000", "write"),
                                RANGE("0x1000", "0x1fff", "0x5000", "write") "," RANGE(
                                    "0x2000", "0x3fff", "0x6000", "write")),
                     "");
}
END_TEST

START_TEST(a_range_is_cut_to_what_differs_of_it) {
    ck_assert_str_eq(difference(RANGE("0x1000", "0x3fff", "0x5000", "write"),
                                RANGE("0x2000", "0x2fff", "0x6000", "user")),
                     "- guest 0x1000-0x1fff -> gpa 0x5000 4 KiB write at slot0+0x5000\n"
                     "- guest 0x2000-0x2fff -> gpa 0x6000 4 KiB write at slot0+0x6000\n"
                     "+ guest 0x2000-0x2fff -> gpa 0x6000 4 KiB user at slot0+0x6000\n"
                     "- guest 0x3000-0x3fff -> gpa 0x7000 4 KiB write at slot0+0x7000\n");
}
END_TEST

START_TEST(the_last_address_of_all_is_compared_too) {
#define TOP(access) RANGE("0xfffffffffffff000", "0xffffffffffffffff", "0x5000", access)
    ck_assert_str_eq(difference(TOP("write"), TOP("write")), "");
    ck_assert_str_eq(difference("", TOP("write")),
                     "+ guest 0xfffffffffffff000-0xffffffffffffffff -> gpa 0x5000 4 KiB "
                     "write at slot0+0x5000\n");
    ck_assert_str_eq(difference(RANGE("0x0", "0xfff", "0x0", "write"), ""),
                     "- guest 0x0-0xfff -> gpa 0x0 4 KiB write at slot0+0x0\n");
}
END_TEST

#define TABLE(gfn, unsync, age)                                                          \
    "{\"gfn\":\"" gfn "\",\"role\":\"level1\",\"unsync\":" unsync                        \
    ",\"used\":1,\"parents\":1,\"read_only\":false,\"obsolete\":false,\"age\":" age "}"

START_TEST(tables_are_known_by_frame_and_role_and_may_age) {
    json_t *a = parse(HEAD "\"guest\":[],\"tables\":[" TABLE(
        "0x1", "false", "1") "," TABLE("0x2", "false", "2") "]}");
    json_t *b = parse(HEAD "\"guest\":[],\"tables\":[" TABLE(
        "0x1", "false", "7") "," TABLE("0x3", "true", "2") "]}");
    json_t *diff = dump_diff(a, b);
    ck_assert_uint_eq(json_array_size(diff), 2);
    json_decref(diff);
    diff = dump_diff(a, a);
    ck_assert_uint_eq(json_array_size(diff), 0);
    json_decref(diff);
    json_decref(a);
    json_decref(b);
}
END_TEST

START_TEST(what_is_no_dump_is_refused) {
    refused("");
    refused("[]");
    refused("{}");
    refused(HEAD "\"guest\":7}");
    refused(HEAD "\"guest\":[7]}");
    refused(HEAD "\"guest\":[{}]}");
    refused(HEAD "\"guest\":[" RANGE("0x1", "yes", "0x0", "write") "]}");
    refused(HEAD "\"guest\":[" RANGE("0x2000", "0x1fff", "0x0", "write") "]}");
    refused(HEAD "\"guest\":[" RANGE("0x1000", "0x1fff", "0x0", "write") "," RANGE(
        "0x1000", "0x1fff", "0x0", "write") "]}");
    refused(HEAD "\"guest\":[],\"tables\":[{\"gfn\":\"0x1\"}]}");
}
END_TEST

SUITE("inspect dump", .tests = {ranges_that_are_merged_otherwise_do_not_differ,
                                a_range_is_cut_to_what_differs_of_it,
                                the_last_address_of_all_is_compared_too,
                                tables_are_known_by_frame_and_role_and_may_age,
                                what_is_no_dump_is_refused})
