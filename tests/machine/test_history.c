/* SPDX-License-Identifier: MIT */
/* A machine's history (machine/history.h): wherever somebody goes in it, everything is as it was,
 * console input too; and the machine itself does not notice. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine/history_internal.h"
#include "tests/suite.h"

#define CODE   0x100000ull
#define STORE  (CODE + 0x22)
#define MARK   (CODE + 0x41)
#define REP    (CODE + 0x54)
#define CELL   0x200000ull
#define MARKS  8u
#define KEYS   64u
#define MOST   4u
#define CYCLES 2u /* a key comes at every so many asks of the console's */

/*
 *        mov ebx, CELL
 *     1: inc r8
 *        a byte at the serial port: r9 = rol(r9, 5) ^ byte; STORE: mov [rbx], r9
 *        mov [0x300000 + (r8 * 4104 & 0x1ffff8)], r8
 *        test r8d, 0x1ffff; jnz 1b
 *  MARK: cmp r8d, MARKS << 17; jb 1b
 *        mov edi, 0x300000; mov ecx, 0x8000; REP: rep stosq; xor eax, eax; out 0xf4, al
 */
static const uint8_t code[] = {
    0xbb, 0x00, 0x00, 0x20, 0x00, 0x49, 0xff, 0xc0, 0xba, 0xfd, 0x03, 0x00, 0x00,
    0xec, 0xa8, 0x01, 0x74, 0x13, 0xba, 0xf8, 0x03, 0x00, 0x00, 0xec, 0x0f, 0xb6,
    0xc0, 0x49, 0xc1, 0xc1, 0x05, 0x49, 0x31, 0xc1, 0x4c, 0x89, 0x0b, 0x49, 0x69,
    0xc0, 0x08, 0x10, 0x00, 0x00, 0x25, 0xf8, 0xff, 0x1f, 0x00, 0x4c, 0x89, 0x80,
    0x00, 0x00, 0x30, 0x00, 0x41, 0xf7, 0xc0, 0xff, 0xff, 0x01, 0x00, 0x75, 0xc4,
    0x41, 0x81, 0xf8, 0x00, 0x00, 0x10, 0x00, 0x72, 0xbb, 0xbf, 0x00, 0x00, 0x30,
    0x00, 0xb9, 0x00, 0x80, 0x00, 0x00, 0xf3, 0x48, 0xab, 0x31, 0xc0, 0xe6, 0xf4};

static const char *const engines[] = {"shadow", "tdp"};

/* What is compared. */
struct picture {
    struct machine_place place;
    uint64_t rip, rflags, gpr[16], cell, ram;
};

struct world {
    struct machine *m;
    struct machine_stop stop;
    unsigned asks, keys;
    bool cancel;
    char line[256];
    struct err err;
};

/* What comes when is the host's affair: nobody could tell it from the guest's state. */
static size_t type(void *opaque, uint8_t *buf, size_t size) {
    struct world *w = opaque;
    if (w->asks++ % CYCLES || w->keys == KEYS || !size)
        return 0;
    *buf = (uint8_t)(w->keys++ * 37 + 1);
    return 1;
}

/* Without assertions: in the past they would go where the answers go. */
static void take(struct machine *m, struct picture *p) {
    struct pn_cpu_state s;
    memset(p, 0, sizeof(*p));
    if (machine_get_state(m, 0, &s))
        return;
    p->place = machine_place(m);
    p->rip = s.rip;
    p->rflags = s.rflags;
    memcpy(p->gpr, s.gpr, sizeof(p->gpr));
    machine_read(m, &s, CELL, &p->cell, 8);
    p->ram = machine_ram_digest(m);
}

static void answer(void *opaque, const void *question, size_t size, FILE *out) {
    struct picture p;
    take(((struct world *)opaque)->m, &p);
    fwrite(&p, sizeof(p), 1, out);
}

static void leave(void) {
    _exit(0);
}

static bool cancelled(void *opaque) {
    return ((struct world *)opaque)->cancel;
}

/* Of the place that is shown. */
static struct picture look(struct world *w) {
    struct picture p;
    char *text;
    size_t size;
    if (!machine_in_past(w->m)) {
        take(w->m, &p);
        return p;
    }
    ck_assert_int_eq(machine_past_ask(w->m, "?", 1, &text, &size), 0);
    ck_assert_uint_eq(size, sizeof(p));
    memcpy(&p, text, size);
    free(text);
    return p;
}

static void open_world(struct world *w, unsigned engine, uint64_t distance) {
    memset(w, 0, sizeof(*w));
    w->err = (struct err){w->line, sizeof(w->line)};
    struct machine_config cfg = {.engine = pn_engine_find(engines[engine]),
                                 .ram = 8 << 20,
                                 .cpus = 1,
                                 .kernel_blob = code,
                                 .kernel_blob_size = sizeof(code),
                                 .format = FMT_FLAT,
                                 .flat_addr = CODE,
                                 .flat_bits = 64,
                                 .serial_in = type,
                                 .opaque = w};
    const struct machine_history_config history = {.most = MOST,
                                                   .distance = distance,
                                                   .answer = answer,
                                                   .leave = leave,
                                                   .cancelled = cancelled,
                                                   .opaque = w};
    pn_mmu_options_default(&cfg.mmu);
    ck_assert_msg(!machine_create(&cfg, &w->m, w->line, sizeof(w->line)), "%s", w->line);
    ck_assert_msg(!machine_history_begin(w->m, &history, &w->err), "%s", w->line);
}

static enum machine_stop_why go(struct world *w) {
    ck_assert_msg(!machine_go(w->m, &w->stop, w->line, sizeof(w->line)), "%s", w->line);
    return w->stop.why;
}

static enum machine_stop_why back(struct world *w) {
    ck_assert_msg(!machine_back(w->m, &w->stop, &w->err), "%s", w->line);
    return w->stop.why;
}

static void close_world(struct world *w) {
    struct machine_result r;
    machine_leave_past(w->m);
    ck_assert_int_eq(machine_finish(w->m, 0, &r, w->line, sizeof(w->line)), 0);
    ck_assert_int_eq(r.end, END_DEBUG_EXIT);
    machine_destroy(w->m);
}

static void same(const struct picture *a, const struct picture *b) {
    ck_assert_uint_eq(a->place.insns, b->place.insns);
    ck_assert_uint_eq(a->rip, b->rip);
    ck_assert_uint_eq(a->cell, b->cell);
    ck_assert_msg(!memcmp(a, b, sizeof(*a)), "after %lu instructions",
                  (unsigned long)a->place.insns);
}

/* To the end, with a picture at each mark. */
static void run_by_marks(struct world *w, struct picture mark[MARKS]) {
    machine_break(w->m, MARK, true);
    for (unsigned i = 0; i < MARKS; i++) {
        ck_assert_int_eq(go(w), MACHINE_BREAK);
        mark[i] = look(w);
    }
    ck_assert_int_eq(go(w), MACHINE_ENDED);
    ck_assert_uint_gt(w->keys, 3);
}

START_TEST(every_breakpoint_is_found_again_as_it_was) {
    struct picture mark[MARKS], end, now;
    struct world w;
    open_world(&w, (unsigned)_i, 1000000);
    run_by_marks(&w, mark);
    end = look(&w);
    for (unsigned i = MARKS; i-- > 0;) {
        ck_assert_int_eq(back(&w), MACHINE_BREAK);
        ck_assert_uint_eq(w.stop.gva, MARK);
        now = look(&w);
        same(&mark[i], &now);
    }
    ck_assert_int_eq(back(&w), MACHINE_OLDEST);
    ck_assert_uint_eq(look(&w).place.insns, 0);
    for (unsigned i = 0; i < MARKS; i++) {
        ck_assert_int_eq(machine_past_go(w.m, -1, &w.stop, &w.err), 0);
        ck_assert_int_eq(w.stop.why, MACHINE_BREAK);
        now = look(&w);
        same(&mark[i], &now);
    }
    ck_assert_int_eq(machine_past_go(w.m, -1, &w.stop, &w.err), 0);
    ck_assert_int_eq(w.stop.why, MACHINE_NEWEST);
    ck_assert(!machine_in_past(w.m));
    now = look(&w);
    same(&end, &now);
    close_world(&w);
}
END_TEST

/* The watchpoint sees keys come; the last one first, each before its store. */
START_TEST(the_last_write_is_found_and_the_ones_before_it) {
    struct pn_watch watch = {CELL, 8, PN_WATCH_WRITE};
    uint64_t cell[KEYS + 1] = {0};
    struct world w;
    unsigned n = 0;
    open_world(&w, (unsigned)_i, 2000000);
    machine_watch(w.m, &watch, true);
    while (go(&w) == MACHINE_WATCH)
        cell[++n] = look(&w).cell;
    ck_assert_int_eq(w.stop.why, MACHINE_ENDED);
    ck_assert_uint_eq(n, w.keys);
    for (unsigned i = n; i > 0; i--) {
        ck_assert_int_eq(back(&w), MACHINE_WATCH);
        struct picture now = look(&w);
        ck_assert_uint_eq(now.rip, STORE);
        ck_assert_uint_eq(now.cell, cell[i - 1]);
        ck_assert_uint_eq(now.gpr[9], cell[i]);
    }
    ck_assert_int_eq(back(&w), MACHINE_OLDEST);
    close_world(&w);
}
END_TEST

START_TEST(a_step_back_undoes_a_step) {
    enum { STEPS = 40 };
    struct picture at[STEPS + 1], mark[MARKS], now;
    struct world w;
    open_world(&w, (unsigned)_i, 1000000);
    run_by_marks(&w, mark);
    ck_assert_int_eq(back(&w), MACHINE_BREAK);
    machine_break_none(w.m);
    at[0] = look(&w);
    for (unsigned i = 1; i <= STEPS && machine_in_past(w.m); i++) {
        ck_assert_int_eq(machine_past_go(w.m, 0, &w.stop, &w.err), 0);
        at[i] = look(&w);
        if (at[i].rip == REP + 3) /* the rest of it is the end's */
            break;
    }
    for (unsigned i = 5; i > 0; i--) {
        ck_assert_int_eq(machine_back_step(w.m, 0, &w.stop, &w.err), 0);
        ck_assert_int_eq(w.stop.why, MACHINE_STEP);
        now = look(&w);
        same(&at[i - 1], &now);
    }
    ck_assert_uint_eq(now.rip, MARK);
    close_world(&w);
}
END_TEST

START_TEST(checkpoints_are_as_many_as_were_allowed) {
    struct world w;
    unsigned most = 0;
    open_world(&w, (unsigned)_i, 300000);
    machine_break(w.m, MARK, true);
    while (go(&w) == MACHINE_BREAK)
        most = w.m->history->count > most ? w.m->history->count : most;
    ck_assert_uint_gt(w.m->history->distance, 300000);
    ck_assert_uint_le(most, MOST);
    ck_assert_uint_ge(w.m->history->count, MOST / 2);
    ck_assert_uint_eq(w.m->history->checkpoint[0].place.insns, 0);
    close_world(&w);
}
END_TEST

START_TEST(who_changes_the_guest_begins_its_history_anew) {
    struct picture here, now;
    struct world w;
    uint64_t word = 7;
    open_world(&w, (unsigned)_i, 1000000);
    machine_break(w.m, MARK, true);
    ck_assert_int_eq(go(&w), MACHINE_BREAK);
    ck_assert_uint_eq(machine_write(w.m, NULL, 0x600000, &word, 8), 8);
    ck_assert_int_eq(back(&w), MACHINE_OLDEST);
    ck_assert(!machine_in_past(w.m));
    here = look(&w);
    ck_assert_int_eq(go(&w), MACHINE_BREAK);
    ck_assert_int_eq(back(&w), MACHINE_BREAK); /* where it stood */
    now = look(&w);
    same(&here, &now);
    ck_assert_int_eq(back(&w), MACHINE_OLDEST);
    machine_leave_past(w.m);
    machine_break_none(w.m);
    ck_assert_int_eq(go(&w), MACHINE_ENDED);
    close_world(&w);
}
END_TEST

START_TEST(who_does_not_want_it_any_more_is_where_he_was) {
    struct picture mark[MARKS], end, now;
    struct world w;
    open_world(&w, (unsigned)_i, UINT64_MAX / 2); /* one checkpoint: a long search */
    run_by_marks(&w, mark);
    machine_break_none(w.m);
    machine_break(w.m, CODE, true);
    end = look(&w);
    w.cancel = true;
    ck_assert_int_eq(back(&w), MACHINE_ASKED);
    now = look(&w);
    same(&end, &now);
    w.cancel = false;
    ck_assert_int_eq(back(&w), MACHINE_BREAK);
    ck_assert_uint_eq(look(&w).rip, CODE);
    close_world(&w);
}
END_TEST

START_TEST(a_machine_that_cannot_be_copied_keeps_none) {
    struct world w = {.err = {w.line, sizeof(w.line)}};
    struct machine_config cfg = {.engine = pn_engine_find("shadow"),
                                 .ram = 4 << 20,
                                 .cpus = 1,
                                 .kernel_blob = code,
                                 .kernel_blob_size = sizeof(code),
                                 .format = FMT_FLAT,
                                 .flat_addr = CODE,
                                 .flat_bits = 64,
                                 .shared_ram = true};
    const struct machine_history_config history = {.most = 2, .distance = 1000};
    pn_mmu_options_default(&cfg.mmu);
    ck_assert_int_eq(machine_create(&cfg, &w.m, w.line, sizeof(w.line)), 0);
    ck_assert_int_eq(machine_history_begin(w.m, &history, &w.err), -EINVAL);
    ck_assert(!machine_history_kept(w.m));
    machine_destroy(w.m);
}
END_TEST

SUITE("machine.history", .timeout = 120,
      .tests = {a_machine_that_cannot_be_copied_keeps_none},
      .loops = {{every_breakpoint_is_found_again_as_it_was, 2},
                {the_last_write_is_found_and_the_ones_before_it, 2},
                {a_step_back_undoes_a_step, 2},
                {checkpoints_are_as_many_as_were_allowed, 2},
                {who_changes_the_guest_begins_its_history_anew, 2},
                {who_does_not_want_it_any_more_is_where_he_was, 2}})
