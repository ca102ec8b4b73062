/* SPDX-License-Identifier: MIT */
/*
 * The dirty guest: it writes memory in rounds (plan.h), and after each says "round N" on COM1 and
 * waits for a byte there, so that a VMM can be made to save what the round has dirtied: a
 * newline lets it go on, 'q' ends it. It never stops by itself. penumbra's mark port (penumbra/mark.h)
 * hears of rounds, too; elsewhere nobody does.
 */
#include "penumbra/mark.h"
#include "tests/dirty/plan.h"

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define COM1   0x3f8
#define LSR_RX 1
#define LSR_TX 0x20

static void out8(unsigned short port, u8 v) {
    __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static u8 in8(unsigned short port) {
    u8 v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static void mark(u32 value) {
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"((unsigned short)PN_MARK_PORT));
}

static void say(const char *s) {
    for (; *s; s++) {
        while (!(in8(COM1 + 5) & LSR_TX))
            ;
        out8(COM1, (u8)*s);
    }
}

static void say_number(u64 v, unsigned base) {
    char text[24], *p = text + sizeof(text) - 1;
    *p = 0;
    do
        *--p = "0123456789abcdef"[v % base];
    while (v /= base);
    say(p);
}

static u8 hear(void) {
    while (!(in8(COM1 + 5) & LSR_RX))
        __asm__ volatile("pause");
    return in8(COM1);
}

struct multiboot {
    u32 flags, lower, upper, device, cmdline, modules, module_at, syms[4], map_size,
        map_at;
};
struct map_entry {
    u32 size;
    u64 base, length;
    u32 type;
} __attribute__((packed));

static struct { u64 base, pages; } region[8];
static unsigned regions;

static void find_regions(const struct multiboot *m) {
    const u8 *at = (const u8 *)(u64)m->map_at, *end = at + m->map_size;
    for (const struct map_entry *e; at < end && regions < 8; at += e->size + 4) {
        e = (const struct map_entry *)(const void *)at;
        u64 base = e->base < LOW_FIRST ? LOW_FIRST : (e->base + PAGE - 1) & ~(PAGE - 1);
        u64 top = (e->base + e->length) & ~(PAGE - 1);
        top = top > MAPPED ? MAPPED : top;
        if (e->type != 1 || top <= base || top - base < 16 * BLOCK * PAGE)
            continue;
        region[regions].base = base;
        region[regions++].pages = (top - base) / PAGE;
        say("region ");
        say_number(base, 16);
        say(" ");
        say_number(top, 16);
        say("\n");
    }
}

static void write_round(u64 round) {
    for (unsigned i = 0; i < regions; i++)
        for (u64 p = 0; p < region[i].pages; p++) {
            if (!plan_writes(region[i].pages, p, round))
                continue;
            volatile u64 *w = (volatile u64 *)(region[i].base + p * PAGE);
            w[0] = MAGIC;
            w[1] = region[i].base + p * PAGE;
            w[2] = round;
            w[3] = w[0] + w[1] + w[2];
        }
}

void dirty_main(const struct multiboot *m);
void dirty_main(const struct multiboot *m) {
    say("penumbra dirty guest\n");
    find_regions(m);
    mark(PN_MARK_VALUE(PN_MARK_PHASE, PN_PHASE_BEGIN));
    for (u64 round = 1;; round++) {
        u8 heard;
        write_round(round);
        mark(PN_MARK_VALUE(PN_MARK_ROUND, round));
        say("round ");
        say_number(round, 10);
        say("\n");
        do
            heard = hear();
        while (heard != '\n' && heard != 'q');
        if (heard == 'q')
            break;
    }
    mark(PN_MARK_VALUE(PN_MARK_PHASE, PN_PHASE_END));
    say("done\n");
    out8(0xf4, 0); /* the debug-exit port, where there is one */
}
