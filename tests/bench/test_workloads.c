/* SPDX-License-Identifier: MIT */
/* The table of workloads, the text of parameters, and the marks a host sees. */
#include <stdlib.h>
#include <string.h>

#include "bench/guest/guest.h"
#include "bench/workload.h"
#include "machine/machine.h"
#include "penumbra/mark.h"
#include "tests/suite.h"

/* ---- The table ---- */

START_TEST(names_are_unique_and_values_in_range) {
    for (int w = 0; w < WORKLOADS; w++)
        ck_assert_int_eq(workload_find(workloads[w].name, strlen(workloads[w].name)), w);
    for (int i = 0; i < WORKLOAD_PARAMS; i++) {
        const struct workload_param *p = &workload_params[i];
        ck_assert_int_eq(workload_param_find(p->workload, p->name, strlen(p->name)), i);
        ck_assert_msg(p->standard >= p->min && p->standard <= p->max, "%s", p->name);
        ck_assert_msg(p->quick >= p->min && p->quick <= p->max, "%s", p->name);
        ck_assert(i == 0 || p->workload >= workload_params[i - 1].workload);
    }
    ck_assert_int_eq(workload_find("tou", 3), -1);
    ck_assert_int_eq(workload_find("touchy", 6), -1);
    ck_assert_int_eq(workload_find("touchy", 5), WORKLOAD_touch);
    ck_assert_int_eq(workload_param_find(WORKLOAD_touch, "steps", 5), -1);
}
END_TEST

START_TEST(words_stand_for_numbers) {
    int via = WORKLOAD_PARAM_syscall_via;
    static const char *const words[] = {"ud2", "int3", "syscall"};
    for (uint64_t i = 0; i < 3; i++) {
        uint64_t v = 99;
        size_t n;
        ck_assert_int_eq(workload_value(via, words[i], strlen(words[i]), &v),
                         WORKLOAD_OK);
        ck_assert_uint_eq(v, i);
        const char *word = workload_word(via, i, &n);
        ck_assert(!strncmp(word, words[i], n));
        ck_assert_uint_eq(n, strlen(words[i]));
    }
    uint64_t v;
    ck_assert_int_eq(workload_value(via, "ud", 2, &v), WORKLOAD_BAD_TEXT);
    ck_assert_int_eq(workload_value(via, "", 0, &v), WORKLOAD_BAD_TEXT);
    ck_assert_int_eq(workload_value(via, "1", 1, &v), WORKLOAD_BAD_TEXT);
}
END_TEST

static enum workload_text value(const char *text, uint64_t *v) {
    return workload_value(WORKLOAD_PARAM_chase_steps, text, strlen(text), v);
}

START_TEST(numbers_have_units_and_bounds) {
    uint64_t v;
    ck_assert_int_eq(value("17", &v), WORKLOAD_OK);
    ck_assert_uint_eq(v, 17);
    ck_assert_int_eq(value("3K", &v), WORKLOAD_OK);
    ck_assert_uint_eq(v, 3072);
    ck_assert_int_eq(value("2M", &v), WORKLOAD_OK);
    ck_assert_uint_eq(v, 2u << 20);
    ck_assert_int_eq(value("1024G", &v), WORKLOAD_OK);
    ck_assert_int_eq(value("1025G", &v), WORKLOAD_OUT_OF_RANGE);
    ck_assert_int_eq(value("0", &v), WORKLOAD_OUT_OF_RANGE);
    ck_assert_int_eq(value("18446744073709551616", &v), WORKLOAD_OUT_OF_RANGE);
    ck_assert_int_eq(value("184467440737095516160000", &v), WORKLOAD_OUT_OF_RANGE);
    ck_assert_int_eq(value("18446744073709551615G", &v), WORKLOAD_OUT_OF_RANGE);
    static const char *const bad[] = {"", "K", "-1", "1k", "1KB", "1 ", "0x10", "1.5M"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(value(bad[i], &v) == WORKLOAD_BAD_TEXT, "%s", bad[i]);
}
END_TEST

/* ---- Marks ---- */

struct seen {
    struct machine *m;
    uint32_t value[64];
    uint64_t insns[64];
    unsigned n;
    char serial[4096];
    size_t size;
};

static void on_mark(void *opaque, uint32_t value) {
    struct seen *s = opaque;
    if (s->n == 64)
        return;
    s->insns[s->n] =
        pn_engine_find("shadow")->insns(machine_engine(s->m)); /* may be asked inside */
    s->value[s->n++] = value;
}

static void serial_out(void *opaque, const uint8_t *buf, size_t size) {
    struct seen *s = opaque;
    for (size_t i = 0; i < size && s->size + 1 < sizeof(s->serial); i++)
        s->serial[s->size++] = (char)buf[i];
}

static struct machine_result run(struct seen *s, const char *append, bool window) {
    struct machine_result result;
    char err[256] = "";
    struct machine_config cfg = {
        .engine = pn_engine_find("shadow"),
        .ram = 32u << 20,
        .cpus = 1,
        .kernel_blob = pn_guest_elf,
        .kernel_blob_size = (size_t)(pn_guest_elf_end - pn_guest_elf),
        .append = append,
        .serial_out = serial_out,
        .on_mark = on_mark,
        .window = window,
        .opaque = s,
        .timeout_ns = 100000000000u,
    };
    pn_mmu_options_default(&cfg.mmu);
    memset(s, 0, sizeof(*s));
    ck_assert_msg(machine_create(&cfg, &s->m, err, sizeof(err)) == 0, "%s", err);
    ck_assert_msg(machine_run(s->m, &result, err, sizeof(err)) == 0, "%s", err);
    machine_destroy(s->m);
    return result;
}

START_TEST(marks_come_in_order) {
    struct seen s;
    struct machine_result r = run(&s, "workload=dirty bytes=64K rounds=3", false);
    ck_assert_int_eq(r.end, END_POWEROFF);
    ck_assert_uint_eq(s.n, 6);
    ck_assert_uint_eq(s.value[0], PN_MARK_VALUE(PN_MARK_PHASE, PN_PHASE_BEGIN));
    for (unsigned i = 0; i <= 3; i++)
        ck_assert_uint_eq(s.value[1 + i], PN_MARK_VALUE(PN_MARK_ROUND, i));
    ck_assert_uint_eq(s.value[5], PN_MARK_VALUE(PN_MARK_PHASE, PN_PHASE_END));
    for (unsigned i = 1; i < s.n; i++)
        ck_assert_uint_gt(s.insns[i], s.insns[i - 1]);
}
END_TEST

START_TEST(counters_at_marks_are_exact) {
    struct seen a, b;
    run(&a, "workload=chase bytes=64K steps=1000", false);
    run(&b, "workload=chase bytes=64K steps=1800", false);
    ck_assert_uint_eq(a.n, 2);
    ck_assert_uint_eq(b.n, 2);
    /* 100 turns of the loop: eight loads, the count, the comparison and the jump, and
     * what the compiler makes of it */
    uint64_t more = (b.insns[1] - b.insns[0]) - (a.insns[1] - a.insns[0]);
    ck_assert_uint_eq(more % 100, 0);
    ck_assert_uint_ge(more, 1000);
    ck_assert_uint_le(more, 1300);
}
END_TEST

START_TEST(slots_need_a_host_that_serves_them) {
    struct seen s;
    struct machine_result r = run(&s, "workload=memslot pages=2 rounds=2 load=2", false);
    ck_assert_int_eq(r.end, END_DEBUG_EXIT);
    ck_assert_uint_eq(r.code, WORKLOAD_EXIT_HOST);
    ck_assert(strstr(s.serial, "workload: error: the host serves no slot requests"));
    r = run(&s, "workload=memslot pages=2 rounds=2 load=2", true);
    ck_assert_int_eq(r.end, END_POWEROFF);
    ck_assert(strstr(s.serial, "workload: end name=memslot ops=6 "));
    ck_assert_uint_eq(s.n, 2 + 2 + 6);
}
END_TEST

SUITE("workloads", .timeout = 120,
      .tests = {names_are_unique_and_values_in_range, words_stand_for_numbers,
                numbers_have_units_and_bounds, marks_come_in_order,
                counters_at_marks_are_exact, slots_need_a_host_that_serves_them})
