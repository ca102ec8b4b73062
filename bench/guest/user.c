/* SPDX-License-Identifier: MIT */
/*
 * Ring 3 of the embedded guest: which workload, with what; what all of them share. The
 * lines that it prints are described in bench/workload.h.
 */
#include "user.h"

struct params user_params;
char user_stack[USER_STACK] __attribute__((aligned(4096)));
void user_main(const struct params *p);

uint64_t workload_args[WORKLOAD_PARAMS];
static uint64_t tsc;

/* ---- Output: the serial port, which the TSS's bitmap lets ring 3 use ---- */

static void put(char c) {
    while (!(inb(PORT_SERIAL + 5) & 0x20))
        ;
    outb(PORT_SERIAL, (uint8_t)c);
}

void text(const char *s, int width) {
    for (; *s; s++, width--)
        put(*s);
    for (; width > 0; width--)
        put(' ');
}

static void text_n(const char *s, size_t size) {
    while (size--)
        put(*s++);
}

void number(uint64_t v, int width) {
    char buf[21];
    int n = 0;
    do {
        buf[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    for (; width > n; width--)
        put(' ');
    while (n)
        put(buf[--n]);
}

void hex(uint64_t v) {
    for (int i = 0; i < 16; i++, v <<= 4) {
        unsigned d = v >> 60;
        put((char)(d < 10 ? '0' + d : 'a' + d - 10));
    }
}

static __attribute__((noreturn)) void exit_with(unsigned code) {
    call(CALL_EXIT, code ? (code >> 1) + 1 : 0, 0);
    for (;;)
        ;
}

void expect(int ok, const char *what) {
    if (ok)
        return;
    text("guest: wrong result: ", 0);
    text(what, 0);
    text("\r\n", 0);
    exit_with(WORKLOAD_EXIT_WRONG);
}

void fail(unsigned code, const char *what) {
    text(WORKLOAD_PREFIX "error: ", 0);
    text(what, 0);
    text("\r\n", 0);
    exit_with(code);
}

void note(const char *what) {
    text(WORKLOAD_PREFIX "note ", 0);
    text(what, 0);
    text("\r\n", 0);
}

/* ---- Memory ---- */

uint64_t frames(uint64_t bytes, uint64_t align) {
    uint64_t pa = call(CALL_ALLOC, bytes, align);
    if (!pa)
        fail(WORKLOAD_EXIT_MEMORY, "the guest has too little memory for it");
    return pa;
}

uint64_t region(uint64_t bytes, int large) {
    uint64_t size = large ? LARGE_PAGE : PAGE, n = (bytes + size - 1) / size;
    uint64_t pa = frames(n * size, size);
    call4(CALL_MAP, REGION, pa, n, MAP_WRITE | (large ? MAP_LARGE : 0));
    return pa;
}

/* ---- The measured part ---- */

void begin(void) {
    mark(PN_MARK_PHASE, PN_PHASE_BEGIN);
    tsc = rdtsc();
}

void round_done(uint64_t round) {
    mark(PN_MARK_ROUND, round);
}

void end(void) {
    tsc = rdtsc() - tsc;
    mark(PN_MARK_PHASE, PN_PHASE_END);
}

/* ---- The command line ---- */

const char *next_word(const char *p, struct word *w) {
    while (*p == ' ')
        p++;
    if (!*p)
        return NULL;
    *w = (struct word){.name = p};
    for (; *p && *p != ' ' && *p != '='; p++)
        w->name_size++;
    if (*p == '=')
        for (w->value = ++p; *p && *p != ' '; p++)
            w->value_size++;
    return p;
}

int is_word(const struct word *w, const char *name) {
    size_t i = 0;
    while (i < w->name_size && name[i] == w->name[i])
        i++;
    return i == w->name_size && !name[i];
}

static int find_workload(const char *line, struct word *out) {
    struct word w;
    while ((line = next_word(line, &w)))
        if (is_word(&w, "workload")) {
            *out = w;
            return 1;
        }
    return 0;
}

void bad_word(const struct word *w, const char *what, const struct workload_param *p) {
    text(WORKLOAD_PREFIX "error: ", 0);
    text_n(w->name, w->name_size + (w->value ? 1 + w->value_size : 0));
    text(": ", 0);
    text(what, 0);
    if (p && *p->words) {
        text(p->words, 0);
    } else if (p) {
        number(p->min, 0);
        text(" to ", 0);
        number(p->max, 0);
    }
    text("\r\n", 0);
    exit_with(WORKLOAD_EXIT_USAGE);
}

static void read_args(int id, const char *line) {
    struct word w;
    for (int i = 0; i < WORKLOAD_PARAMS; i++)
        workload_args[i] = workload_params[i].standard;
    while ((line = next_word(line, &w))) {
        if (is_word(&w, "workload"))
            continue;
        int param = workload_param_find(id, w.name, w.name_size);
        if (param < 0 || !w.value)
            bad_word(&w, "no parameter of this workload", NULL);
        const struct workload_param *p = &workload_params[param];
        switch (workload_value(param, w.value, w.value_size, &workload_args[param])) {
        case WORKLOAD_OK:
            break;
        case WORKLOAD_BAD_TEXT:
            bad_word(&w, *p->words ? "not one of " : "not a number, ", p);
        case WORKLOAD_OUT_OF_RANGE:
            bad_word(&w, "out of range ", p);
        }
    }
}

/* ---- Running one ---- */

static void print_begin(int id) {
    text(WORKLOAD_PREFIX "begin name=", 0);
    text(workloads[id].name, 0);
    for (int i = 0; i < WORKLOAD_PARAMS; i++) {
        if (workload_params[i].workload != id)
            continue;
        size_t size;
        const char *word = workload_word(i, workload_args[i], &size);
        put(' ');
        text(workload_params[i].name, 0);
        put('=');
        if (word)
            text_n(word, size);
        else
            number(workload_args[i], 0);
    }
    text("\r\n", 0);
}

static uint64_t dispatch(int id, uint64_t *sum) {
    switch (id) {
#define WORKLOAD(name, ...)                                                              \
    case WORKLOAD_##name:                                                                \
        return work_##name(sum);
#define PARAM(...)
#include "bench/workloads.inc"
    }
    return 0;
}

static void run_workload(int id) {
    uint64_t sum = 0, ops;
    print_begin(id);
    ops = dispatch(id, &sum);
    text(WORKLOAD_PREFIX "time tsc=", 0);
    number(tsc, 0);
    text("\r\n" WORKLOAD_PREFIX "end name=", 0);
    text(workloads[id].name, 0);
    text(" ops=", 0);
    number(ops, 0);
    text(" checksum=", 0);
    hex(mix(mix(sum, (uint64_t)id + 1), ops));
    text("\r\n", 0);
    exit_with(0);
}

void user_main(const struct params *p) {
    struct word w;
    if (!find_workload(p->line, &w)) {
        demo(p);
        return;
    }
    int id = w.value ? workload_find(w.value, w.value_size) : -1;
    if (id < 0)
        bad_word(&w, "no such workload", NULL);
    read_args(id, p->line);
    run_workload(id);
}
