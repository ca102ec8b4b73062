/* SPDX-License-Identifier: MIT */
/*
 * What gdb asks, packet by packet ("Packets" and "General Query Packets" of gdb's manual). A
 * packet that is not known gets the empty answer; one that is not as it should be, an error.
 * Every number in a packet is checked before it is used.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/gdb_internal.h"
#include "inspect/gdb_regs.h"

#define SIGNAL_TRAP 5u
#define MEMORY_MAX  (GDB_PACKET_MAX / 2 - 64) /* bytes of guest memory in a packet */
#define LINE_BYTES  2048u                     /* of a command's output in one packet */

static void put_error(struct gdb *g, int error) {
    g->out_size = 0;
    gdb_put(g, "E%02x", (unsigned)(error < 0 ? -error : error) & 0xff);
}

static void put_result(struct gdb *g, int rc) {
    if (rc)
        put_error(g, rc);
    else
        gdb_put(g, "OK");
}

static bool skip(const char **p, char c) {
    bool there = **p == c;
    *p += there;
    return there;
}

/* "-1" and "0": all, or any. Return: false: no thread; *cpu -1: all or any. */
static bool thread(const struct gdb *g, const char **p, int *cpu) {
    uint64_t n;
    *cpu = -1;
    if (skip(p, '-'))
        return skip(p, '1');
    if (!gdb_number(p, &n) || n > machine_cpus(g->m))
        return false;
    *cpu = (int)n - 1;
    return true;
}

/* ---- Threads ---- */

static void do_choose(struct gdb *g, const char *p, size_t size) {
    int cpu;
    char what = *p;
    if (what)
        p++;
    if ((what != 'g' && what != 'c') || !thread(g, &p, &cpu) || *p) {
        put_error(g, EINVAL);
        return;
    }
    if (what == 'c')
        g->go_cpu = cpu;
    else
        g->cpu = cpu < 0 ? g->last.cpu : (unsigned)cpu;
    gdb_put(g, "OK");
}

static void do_alive(struct gdb *g, const char *p, size_t size) {
    int cpu;
    put_result(g, thread(g, &p, &cpu) && !*p && cpu >= 0 ? 0 : EINVAL);
}

static void do_threads(struct gdb *g, const char *p, size_t size) {
    for (unsigned i = 0; i < machine_cpus(g->m); i++)
        gdb_put(g, "%c%x", i ? ',' : 'm', i + 1);
}

static void do_threads_end(struct gdb *g, const char *p, size_t size) {
    gdb_put(g, "l");
}

static void do_thread_words(struct gdb *g, const char *p, size_t size) {
    static const char *const activity[] = {"running", "halted", "waits for SIPI"};
    char text[64];
    int cpu;
    if (!thread(g, &p, &cpu) || *p || cpu < 0 ||
        machine_get_state(g->m, (unsigned)cpu, &g->state) || g->state.activity > 2) {
        put_error(g, EINVAL);
        return;
    }
    int n = snprintf(text, sizeof(text), "vCPU %d, %s, CPL %u", cpu,
                     activity[g->state.activity], g->state.seg[PN_SS].attr >> 5 & 3);
    gdb_put_hex(g, text, (size_t)n);
}

static void do_current(struct gdb *g, const char *p, size_t size) {
    gdb_put(g, "QC%x", g->last.cpu + 1);
}

/* ---- Registers ---- */

static bool get_state(struct gdb *g) {
    int rc = machine_get_state(g->m, g->cpu, &g->state);
    if (rc)
        put_error(g, rc);
    return rc == 0;
}

static void do_get_all(struct gdb *g, const char *p, size_t size) {
    uint8_t value[GDB_REG_BYTES];
    if (!get_state(g))
        return;
    for (unsigned nr = 0; nr < gdb_reg_end(); nr++)
        gdb_put_hex(g, value, gdb_reg_get(&g->state, nr, value));
}

static void do_set_all(struct gdb *g, const char *p, size_t size) {
    uint8_t value[GDB_REG_BYTES];
    if (!get_state(g))
        return;
    for (unsigned nr = 0; nr < gdb_reg_end() && size; nr++) {
        size_t n = gdb_reg_get(&g->state, nr, value);
        if (!n)
            continue;
        if (size < 2 * n || !gdb_unhex(p, 2 * n, value, n) ||
            !gdb_reg_set(&g->state, nr, value, n)) {
            put_error(g, EINVAL);
            return;
        }
        p += 2 * n;
        size -= 2 * n;
    }
    put_result(g, machine_set_state(g->m, g->cpu, &g->state));
}

static void do_get_one(struct gdb *g, const char *p, size_t size) {
    uint8_t value[GDB_REG_BYTES];
    uint64_t nr;
    size_t n = 0;
    if (!get_state(g))
        return;
    if (gdb_number(&p, &nr) && !*p && nr < gdb_reg_end())
        n = gdb_reg_get(&g->state, (unsigned)nr, value);
    if (n)
        gdb_put_hex(g, value, n);
    else
        put_error(g, EINVAL);
}

static void do_set_one(struct gdb *g, const char *p, size_t size) {
    uint8_t value[GDB_REG_BYTES];
    const char *end = p + size;
    uint64_t nr;
    if (!get_state(g))
        return;
    if (!gdb_number(&p, &nr) || !skip(&p, '=') || nr >= gdb_reg_end()) {
        put_error(g, EINVAL);
        return;
    }
    size_t n = gdb_reg_get(&g->state, (unsigned)nr, value);
    if (!n || !gdb_unhex(p, (size_t)(end - p), value, n) ||
        !gdb_reg_set(&g->state, (unsigned)nr, value, n))
        put_error(g, EINVAL);
    else
        put_result(g, machine_set_state(g->m, g->cpu, &g->state));
}

/* ---- Memory ---- */

/* "ADDR,LENGTH" and what follows it. */
static bool span(struct gdb *g, const char **p, uint64_t *addr, uint64_t *length) {
    bool ok = gdb_number(p, addr) && skip(p, ',') && gdb_number(p, length) &&
              *length <= MEMORY_MAX;
    if (!ok)
        put_error(g, EINVAL);
    return ok && (g->physical || get_state(g));
}

static void do_read(struct gdb *g, const char *p, size_t size) {
    uint8_t bytes[MEMORY_MAX];
    uint64_t addr, length;
    if (!span(g, &p, &addr, &length))
        return;
    size_t n = machine_read(g->m, g->physical ? NULL : &g->state, addr, bytes, length);
    if (!n && length)
        put_error(g, EFAULT);
    else
        gdb_put_hex(g, bytes, n);
}

static void write_memory(struct gdb *g, uint64_t addr, const void *bytes, size_t size) {
    size_t n = machine_write(g->m, g->physical ? NULL : &g->state, addr, bytes, size);
    put_result(g, n == size ? 0 : EFAULT);
}

static void do_write(struct gdb *g, const char *p, size_t size) {
    uint8_t bytes[MEMORY_MAX];
    const char *end = p + size;
    uint64_t addr, length;
    if (!span(g, &p, &addr, &length))
        return;
    if (!skip(&p, ':') || !gdb_unhex(p, (size_t)(end - p), bytes, length))
        put_error(g, EINVAL);
    else
        write_memory(g, addr, bytes, length);
}

static void do_write_binary(struct gdb *g, const char *p, size_t size) {
    const char *end = p + size;
    uint64_t addr, length;
    if (!span(g, &p, &addr, &length))
        return;
    if (!skip(&p, ':') || (size_t)(end - p) != length)
        put_error(g, EINVAL);
    else
        write_memory(g, addr, p, length);
}

static void do_get_physical(struct gdb *g, const char *p, size_t size) {
    gdb_put(g, "%d", g->physical);
}

static void do_set_physical(struct gdb *g, const char *p, size_t size) {
    bool ok = (*p == '0' || *p == '1') && !p[1];
    if (ok)
        g->physical = *p == '1';
    put_result(g, ok ? 0 : EINVAL);
}

/* ---- Breakpoints ---- */

/* gdb may set one address as a software and as a hardware breakpoint. */
static int set_break(struct gdb *g, uint64_t addr, bool hard, bool on) {
    unsigned at = g->break_count, others = 0;
    for (unsigned i = 0; i < g->break_count; i++) {
        if (g->breaks[i].addr != addr)
            continue;
        if (g->breaks[i].hard == hard)
            at = i;
        else
            others++;
    }
    if (on == (at < g->break_count))
        return 0;
    if (on && g->break_count == PN_BREAKS_MAX)
        return -ENOSPC;
    int rc = others ? 0 : machine_break(g->m, addr, on);
    if (rc)
        return rc;
    if (on)
        g->breaks[g->break_count++] = (struct gdb_break){addr, hard};
    else
        g->breaks[at] = g->breaks[--g->break_count];
    return 0;
}

static void do_point(struct gdb *g, const char *p, bool on) {
    static const enum pn_watch_access access[] = {PN_WATCH_WRITE, PN_WATCH_READ,
                                                  PN_WATCH_BOTH};
    uint64_t type, addr, kind;
    if (!gdb_number(&p, &type) || !skip(&p, ',') || !gdb_number(&p, &addr) ||
        !skip(&p, ',') || !gdb_number(&p, &kind) || kind > PN_WATCH_BYTES) {
        put_error(g, EINVAL);
    } else if (type < 2) {
        put_result(g, set_break(g, addr, type, on));
    } else if (type < 5) {
        const struct pn_watch w = {addr, (uint32_t)kind, access[type - 2]};
        put_result(g, machine_watch(g->m, &w, on));
    }
}

static void do_set_point(struct gdb *g, const char *p, size_t size) {
    do_point(g, p, true);
}

static void do_clear_point(struct gdb *g, const char *p, size_t size) {
    do_point(g, p, false);
}

/* ---- Going ---- */

/* Something has been done in the past, or could not be. */
static void come_out(struct gdb *g, int rc, const struct machine_stop *stop,
                     const char *line) {
    bool here = g->here;
    g->silent = true;
    if (!here) { /* the client has left meanwhile */
        gdb_forget(g);
    } else if (rc) {
        g->silent = false;
        gdb_put(g, "E.%s", line);
    } else {
        gdb_tell_stop(g, stop);
    }
}

static void past_go(struct gdb *g, int cpu) {
    struct machine_stop stop;
    char line[200] = "";
    struct err e = {line, sizeof(line)};
    g->interrupted = false;
    int rc = machine_past_go(g->m, cpu, &stop, &e);
    come_out(g, rc, &stop, line);
}

static void go(struct gdb *g) {
    if (machine_in_past(g->m)) {
        past_go(g, -1);
        return;
    }
    g->running = true;
    g->waits = false;
    g->silent = true;
}

/* cpu -1: the one that stopped. */
static void step(struct gdb *g, int cpu) {
    unsigned which = cpu < 0 ? g->last.cpu : (unsigned)cpu;
    if (machine_in_past(g->m)) {
        past_go(g, (int)which);
        return;
    }
    int rc = machine_step(g->m, which);
    if (rc)
        put_error(g, rc);
    else
        go(g);
}

/* Without a history there is no such packet, and gdb says that the target cannot do it. */
static void go_back(struct gdb *g, bool steps) {
    struct machine_stop stop;
    char line[200] = "";
    struct err e = {line, sizeof(line)};
    if (!machine_history_kept(g->m))
        return;
    unsigned cpu = g->go_cpu < 0 ? g->last.cpu : (unsigned)g->go_cpu;
    g->interrupted = false;
    int rc =
        steps ? machine_back_step(g->m, cpu, &stop, &e) : machine_back(g->m, &stop, &e);
    come_out(g, rc, &stop, line);
}

static void do_back(struct gdb *g, const char *p, size_t size) {
    go_back(g, false);
}

static void do_back_step(struct gdb *g, const char *p, size_t size) {
    go_back(g, true);
}

/* The old packets "c", "s" with an address, "C", "S" with a signal before it, which a
 * vCPU cannot take. */
static void old_go(struct gdb *g, const char *p, bool steps) {
    uint64_t addr;
    if (*p) {
        if (machine_in_past(g->m)) {
            put_error(g, EROFS);
            return;
        }
        if (!gdb_number(&p, &addr) || *p) {
            put_error(g, EINVAL);
            return;
        }
        g->cpu = g->go_cpu < 0 ? g->last.cpu : (unsigned)g->go_cpu;
        if (!get_state(g))
            return;
        g->state.rip = addr;
        int rc = machine_set_state(g->m, g->cpu, &g->state);
        if (rc) {
            put_error(g, rc);
            return;
        }
    }
    if (steps)
        step(g, g->go_cpu);
    else
        go(g);
}

static void do_continue(struct gdb *g, const char *p, size_t size) {
    old_go(g, p, false);
}

static void do_step(struct gdb *g, const char *p, size_t size) {
    old_go(g, p, true);
}

static const char *behind_signal(const char *p) {
    const char *addr = strchr(p, ';');
    return addr ? addr + 1 : "";
}

static void do_continue_signal(struct gdb *g, const char *p, size_t size) {
    old_go(g, behind_signal(p), false);
}

static void do_step_signal(struct gdb *g, const char *p, size_t size) {
    old_go(g, behind_signal(p), true);
}

/* "vCont;s:1;c": the first action that steps counts, as all others go on with it. */
static void do_vcont(struct gdb *g, const char *p, size_t size) {
    bool steps = false;
    int whom = -1;
    while (skip(&p, ';')) {
        char action = *p;
        uint64_t signal;
        int cpu = -1;
        bool ok = action && strchr("cCsS", action);
        p += ok;
        if (ok && (action == 'C' || action == 'S'))
            ok = gdb_number(&p, &signal);
        if (ok && skip(&p, ':'))
            ok = thread(g, &p, &cpu);
        if (!ok || (*p && *p != ';')) {
            put_error(g, EINVAL);
            return;
        }
        if ((action == 's' || action == 'S') && !steps) {
            steps = true;
            whom = cpu;
        }
    }
    if (*p)
        put_error(g, EINVAL);
    else if (steps)
        step(g, whom);
    else
        go(g);
}

static void do_vcont_query(struct gdb *g, const char *p, size_t size) {
    gdb_put(g, "vCont;c;C;s;S");
}

static void do_why(struct gdb *g, const char *p, size_t size) {
    gdb_put_stop(g, SIGNAL_TRAP);
}

static void do_detach(struct gdb *g, const char *p, size_t size) {
    gdb_put(g, "OK");
    gdb_send(g);
    g->silent = true;
    channel_drop(g->cfg.channel);
    gdb_forget(g);
}

static void do_kill(struct gdb *g, const char *p, size_t size) {
    machine_quit(g->m);
    do_detach(g, p, size);
}

/* ---- Queries ---- */

static void do_supported(struct gdb *g, const char *p, size_t size) {
    g->says_break = strstr(p, "swbreak+") && strstr(p, "hwbreak+");
    gdb_put(g,
            "PacketSize=%x;qXfer:features:read+;QStartNoAckMode+;vContSupported+;"
            "swbreak+;hwbreak+%s",
            GDB_PACKET_MAX,
            machine_history_kept(g->m) ? ";ReverseStep+;ReverseContinue+" : "");
}

static void do_no_ack(struct gdb *g, const char *p, size_t size) {
    g->no_ack = true;
    gdb_put(g, "OK");
}

static void do_attached(struct gdb *g, const char *p, size_t size) {
    gdb_put(g, "1"); /* gdb that quits detaches, and kills nothing */
}

static void do_ok(struct gdb *g, const char *p, size_t size) {
    gdb_put(g, "OK");
}

/* "OFFSET,LENGTH" of the target description. */
static void do_features(struct gdb *g, const char *p, size_t size) {
    uint64_t offset, length;
    char *xml = NULL;
    size_t bytes = 0;
    if (!gdb_number(&p, &offset) || !skip(&p, ',') || !gdb_number(&p, &length) || *p) {
        put_error(g, EINVAL);
        return;
    }
    FILE *f = open_memstream(&xml, &bytes);
    if (f)
        gdb_reg_xml(f);
    if (!f || fclose(f)) {
        put_error(g, ENOMEM);
        return;
    }
    if (offset > bytes)
        offset = bytes;
    if (length > sizeof(g->out) / 2)
        length = sizeof(g->out) / 2;
    bool rest = bytes - offset > length;
    gdb_put(g, "%c", rest ? 'm' : 'l');
    size_t n = rest ? length : bytes - offset;
    memcpy(g->out + g->out_size, xml + offset, n);
    g->out_size += n;
    free(xml);
}

/* What a command prints, then OK. */
static void run_command(struct gdb *g, const char *line) {
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (f)
        g->cfg.command(g->cfg.opaque, line, f);
    if (!f || fclose(f)) {
        put_error(g, ENOMEM);
        return;
    }
    for (size_t at = 0, n; at < size; at += n) {
        n = size - at < LINE_BYTES ? size - at : LINE_BYTES;
        gdb_put(g, "O");
        gdb_put_hex(g, text + at, n);
        gdb_send(g);
    }
    free(text);
    gdb_put(g, "OK");
}

static void do_monitor(struct gdb *g, const char *p, size_t size) {
    char line[1024] = "";
    if (!g->cfg.command)
        return;
    if (size / 2 >= sizeof(line) || !gdb_unhex(p, size, line, size / 2))
        put_error(g, EINVAL);
    else
        run_command(g, line);
}

/* ---- Which packet it is ---- */

/* What it is about: the session; the machine at the place that is shown, be it in the past; or
 * what is to be changed, which the past cannot be. */
enum about { SESSION, SHOWN, CHANGES };

/* A longer name before a shorter one that it begins with. */
static const struct {
    const char *name;
    void (*fn)(struct gdb *g, const char *p, size_t size);
    bool whole; /* nothing follows the name */
    enum about about;
} commands[] = {
    {"?", do_why, true, SESSION},
    {"C", do_continue_signal, false, SESSION},
    {"D", do_detach, false, SESSION},
    {"G", do_set_all, false, CHANGES},
    {"H", do_choose, false, SESSION},
    {"M", do_write, false, CHANGES},
    {"P", do_set_one, false, CHANGES},
    {"QStartNoAckMode", do_no_ack, true, SESSION},
    {"Qqemu.PhyMemMode:", do_set_physical, false, SESSION},
    {"S", do_step_signal, false, SESSION},
    {"T", do_alive, false, SESSION},
    {"X", do_write_binary, false, CHANGES},
    {"Z", do_set_point, false, SESSION},
    {"bc", do_back, true, SESSION},
    {"bs", do_back_step, true, SESSION},
    {"c", do_continue, false, SESSION},
    {"g", do_get_all, true, SHOWN},
    {"k", do_kill, true, SESSION},
    {"m", do_read, false, SHOWN},
    {"p", do_get_one, false, SHOWN},
    {"qAttached", do_attached, false, SESSION},
    {"qC", do_current, true, SESSION},
    {"qRcmd,", do_monitor, false, SESSION},
    {"qSupported", do_supported, false, SESSION},
    {"qSymbol::", do_ok, true, SESSION},
    {"qThreadExtraInfo,", do_thread_words, false, SHOWN},
    {"qXfer:features:read:target.xml:", do_features, false, SESSION},
    {"qfThreadInfo", do_threads, true, SESSION},
    {"qqemu.PhyMemMode", do_get_physical, true, SESSION},
    {"qsThreadInfo", do_threads_end, true, SESSION},
    {"s", do_step, false, SESSION},
    {"vCont?", do_vcont_query, true, SESSION},
    {"vCont", do_vcont, false, SESSION},
    {"vKill;", do_kill, false, SESSION},
    {"z", do_clear_point, false, SESSION},
};

/* A packet about the machine in the past, with what of the session it is about. */
struct question {
    char what; /* GDB_QUESTION */
    bool physical;
    uint32_t cpu;
    char data[GDB_PACKET_MAX + 1];
};

static void ask_past(struct gdb *g, const char *data, size_t size) {
    struct question q = {GDB_QUESTION, g->physical, g->cpu, ""};
    char *answer;
    size_t n;
    memcpy(q.data, data, size);
    int rc =
        machine_past_ask(g->m, &q, offsetof(struct question, data) + size, &answer, &n);
    if (rc) {
        put_error(g, rc);
    } else if (n <= sizeof(g->out)) {
        memcpy(g->out, answer, n);
        g->out_size = n;
    }
    free(answer);
}

void gdb_answer(struct gdb *g, const void *question, size_t size, FILE *out) {
    struct question q;
    memset(&q, 0, sizeof(q));
    memcpy(&q, question, size < sizeof(q) - 1 ? size : sizeof(q) - 1);
    g->physical = q.physical;
    g->cpu = q.cpu;
    g->out_size = 0;
    gdb_command(g, q.data, strlen(q.data));
    fwrite(g->out, 1, g->out_size, out);
}

void gdb_command(struct gdb *g, const char *data, size_t size) {
    bool past = machine_in_past(g->m);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        size_t n = strlen(commands[i].name);
        if (strncmp(data, commands[i].name, n) != 0 || (commands[i].whole && size != n))
            continue;
        if (past && commands[i].about == SHOWN)
            ask_past(g, data, size);
        else if (past && commands[i].about == CHANGES)
            put_error(g, EROFS);
        else
            commands[i].fn(g, data + n, size - n);
        return;
    }
}
