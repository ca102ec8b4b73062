/* SPDX-License-Identifier: MIT */
/* Exports of records that no run makes: every one is there, nothing is left behind. What
 * the exports of a run hold tests/cli/export.sh looks at. */
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "penumbra/mmu.h"
#include "tests/suite.h"
#include "trace/export.h"

static char dir[64], trace[96], out[96], err[256];
static struct trace_file *file;
static struct export_result result;

/* A trace of two vCPUs and no records: the records come from the tests. */
static void setup(void) {
    const struct trace_config cfg = {.path = trace, .vcpus = 2, .mask = TRACE_ALL_EVENTS};
    struct trace_writer *w;
    strcpy(dir, "/tmp/pn-export-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(trace, sizeof(trace), "%s/t", dir);
    snprintf(out, sizeof(out), "%s/out", dir);
    ck_assert_int_eq(trace_open(&cfg, &w, err, sizeof(err)), 0);
    ck_assert_int_eq(trace_close(w, NULL, err, sizeof(err)), 0);
    ck_assert_int_eq(trace_file_open(trace, &file, err, sizeof(err)), 0);
}

static void teardown(void) {
    char command[160];
    trace_file_close(file);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

static const struct export_format *format(const char *name) {
    const struct export_format *f;
    for (unsigned i = 0; (f = export_format(i)) && strcmp(f->name, name) != 0; i++)
        ;
    return f;
}

static void write_records(const char *name, const struct pn_event_rec *rec, size_t n) {
    struct export *x;
    ck_assert_msg(!export_begin(format(name), file, out, &x, err, sizeof(err)), "%s",
                  err);
    for (size_t i = 0; i < n; i++)
        ck_assert_int_eq(export_add(x, &rec[i]), 0);
    ck_assert_int_eq(export_end(x, &result), 0);
}

/* The output, or a file of the folder that it is. */
static char *content(const char *name) {
    static char text[1 << 20];
    char path[160];
    snprintf(path, sizeof(path), name ? "%s/%s" : "%s", out, name);
    FILE *f = fopen(path, "rb");
    ck_assert_ptr_nonnull(f);
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = 0;
    fclose(f);
    return text;
}

static const struct pn_event_rec hostile[] = {
    {.time = 10, .id = PN_EV_fault_outcome, .arg = {1, UINT64_MAX, UINT64_MAX, 3}},
    {.time = 20,
     .id = PN_EV_exit,
     .cpl = 77,
     .cr3 = UINT64_MAX,
     .arg = {1000, UINT64_MAX}},
    {.time = 5, .id = PN_EV_page_fault, .arg = {UINT64_MAX, UINT64_MAX}},
    {.time = UINT64_MAX, .id = PN_EV_get_page, .arg = {1, UINT64_MAX, 2}},
    {.time = 30, .id = PN_EV_root_switch, .arg = {UINT64_MAX, UINT64_MAX, 9}},
    {.time = 40, .id = 9999, .arg = {1, 2, 3, 4, 5, UINT64_MAX}},
    {.time = 50, .id = PN_EV_nmi, .vcpu = 1, .cpl = PN_CPL_NONE},
    {.time = 60, .id = PN_EV_nmi, .vcpu = 2},
    {.time = 60, .id = PN_EV_nmi, .vcpu = UINT16_MAX},
};
#define HOSTILE (sizeof(hostile) / sizeof(hostile[0]))

START_TEST(values_out_of_range_are_numbers_and_times_go_forward) {
    write_records("ftrace", hostile, HOSTILE);
    ck_assert_uint_eq(result.events, HOSTILE - 2);
    ck_assert_uint_eq(result.moved, 2);
    ck_assert_uint_eq(result.left_out, 2);
    const char *text = content(NULL);
    static const char *const lines[] = {
        "             0x0-0       [000] ....     0.000000010: fault_outcome: gva=0x1 "
        "outcome=18446744073709551615 level=18446744073709551615 spte=0x3 rip=0x0 cpl=0 "
        "cr3=0x0\n",
        " 0xffffffffff000-2147483647 [000] ....     0.000000020: exit: reason=1000 ",
        "[000] ....     0.000000020: page_fault: gva=0xffffffffffffffff "
        "error=present,write,user,rsvd,fetch,pkey,shadow_stack,0xffff",
        "[000] ....     0.000000020: get_page: ",
        "[000] ....     0.000000040: unnamed: id=9999 arg0=0x1 arg1=0x2 arg2=0x3 "
        "arg3=0x4 "
        "arg4=0x5 arg5=0xffffffffffffffff rip=0x0 cpl=0 cr3=0x0\n",
        "           <...>-0       [001] ....     0.000000050: nmi: \n",
    };
    for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        ck_assert_msg(strstr(text, lines[i]), "no '%s' in %s", lines[i], text);
}
END_TEST

START_TEST(slices_of_hostile_events_still_nest) {
    write_records("perfetto", hostile, HOSTILE);
    int depth = 0;
    for (const char *p = content(NULL); (p = strstr(p, "\"ph\": \"")); p += 7) {
        depth += p[7] == 'B';
        depth -= p[7] == 'E';
        ck_assert_int_ge(depth, 0);
    }
    ck_assert_int_eq(depth, 0);
}
END_TEST

START_TEST(a_folder_has_its_description_and_a_stream_for_each_vcpu) {
    struct stat st;
    char path[128];
    write_records("ctf", hostile, HOSTILE);
    ck_assert_ptr_nonnull(strstr(content("metadata"), "/* CTF 1.8 */"));
    for (unsigned i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/vcpu%u", out, i);
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_int_gt(st.st_size, 64);
    }
}
END_TEST

START_TEST(an_abandoned_export_leaves_nothing) {
    const struct export_format *f;
    for (unsigned i = 0; (f = export_format(i)); i++) {
        struct export *x;
        glob_t g;
        char pattern[112];
        ck_assert_int_eq(export_begin(f, file, out, &x, err, sizeof(err)), 0);
        ck_assert_int_eq(export_add(x, &hostile[0]), 0);
        export_abandon(x);
        snprintf(pattern, sizeof(pattern), "%s*", out);
        ck_assert_int_eq(glob(pattern, 0, NULL, &g), GLOB_NOMATCH);
    }
}
END_TEST

/* A trace whose text has these lines for events. */
static int export_named(const char *names) {
    struct {
        struct trace_header h;
        char text[192];
    } t = {
        .h = {.version = TRACE_VERSION, .text_size = 192, .record_size = 80, .vcpus = 1}};
    struct trace_file *f;
    struct export *x;
    memcpy(t.h.magic, TRACE_MAGIC, 8);
    memset(t.text, '\n', sizeof(t.text));
    size_t n = (size_t)sprintf(t.text, TRACE_SCHEMA "\n%s", names);
    t.text[n] = '\n';
    ck_assert_msg(!trace_file_parse(&t, sizeof(t), &f, err, sizeof(err)), "%s", err);
    int rc = export_begin(format("ctf"), f, out, &x, err, sizeof(err));
    if (!rc)
        export_abandon(x);
    trace_file_close(f);
    return rc;
}

START_TEST(names_that_no_language_takes_are_refused) {
    ck_assert_int_eq(export_named("event gva:field"), 0);
    ck_assert_int_eq(export_named("event gva:field hex:int u64:struct"), 0);
    ck_assert_int_eq(export_named("e\"vent gva:field"), -EBADMSG);
    ck_assert_str_eq(err, "damaged trace: no other program takes the name 'e\"vent'");
    ck_assert_int_eq(export_named("event gva:fi-eld"), -EBADMSG);
    ck_assert_int_eq(export_named("event gva:"), -EBADMSG);
    ck_assert_int_eq(export_named("event gva:1st"), -EBADMSG);
    ck_assert_int_eq(export_named("event gva:a hex:a"), -EBADMSG);
    ck_assert_int_eq(
        export_named("a123456789012345678901234567890123456789012345678901234567890123"),
        -EBADMSG);
}
END_TEST

SUITE("export", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {values_out_of_range_are_numbers_and_times_go_forward,
                slices_of_hostile_events_still_nest,
                a_folder_has_its_description_and_a_stream_for_each_vcpu,
                an_abandoned_export_leaves_nothing,
                names_that_no_language_takes_are_refused})
