/* SPDX-License-Identifier: MIT */
/*
 * Ring 3 of the embedded guest: the work that an MMU is watched at. Each part prints one
 * line with a checksum that depends on nothing but the parameters.
 *
 * The file's sections lie in pages of ring 3's own (guest.ld), so nothing here may call
 * into the others.
 */
#include "abi.h"

struct params user_params;
char user_stack[USER_STACK] __attribute__((aligned(4096)));
void user_main(const struct params *p);

static inline uint64_t call(enum call number, uint64_t a, uint64_t b) {
    uint64_t rax = number;
    __asm__ volatile("ud2" : "+a"(rax) : "D"(a), "S"(b) : "memory");
    return rax;
}

/* ---- Output: the serial port, which the TSS's bitmap lets ring 3 use ---- */

static inline void outb(uint16_t port, uint8_t v) {
    __asm__ volatile("outb %0, %1" : : "a"(v), "d"(port));
}

static inline uint8_t inb(uint16_t port) {
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "d"(port));
    return v;
}

static void put(char c) {
    while (!(inb(PORT_SERIAL + 5) & 0x20))
        ;
    outb(PORT_SERIAL, (uint8_t)c);
}

/* Print and pad with blanks to `width`. */
static void text(const char *s, int width) {
    for (; *s; s++, width--)
        put(*s);
    for (; width > 0; width--)
        put(' ');
}

static void number(uint64_t v, int width) {
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

static void hex(uint64_t v) {
    for (int i = 0; i < 16; i++, v <<= 4) {
        unsigned d = v >> 60;
        put((char)(d < 10 ? '0' + d : 'a' + d - 10));
    }
}

static void line(const char *what, uint64_t n, const char *unit, uint64_t sum) {
    text(what, 24);
    number(n, 10);
    put(' ');
    text(unit, 20);
    text("checksum ", 0);
    hex(sum);
    text("\r\n", 0);
}

static void expect(int ok, const char *what) {
    if (ok)
        return;
    text("guest: wrong result: ", 0);
    text(what, 0);
    text("\r\n", 0);
    call(CALL_EXIT, 1, 0);
}

/* ---- The work ---- */

static inline uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9e3779b97f4a7c15ul;
    return h ^ h >> 29;
}

static inline volatile uint64_t *word(uint64_t page) {
    return (volatile uint64_t *)(REGION + page * PAGE);
}

/* First touches: half by a write, half by a read that must see zero. */
static uint64_t touch(uint64_t pages) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < pages; i++) {
        volatile uint64_t *w = word(i);
        if (i & 1)
            expect(w[i % 512] == 0, "a fresh page is not zero");
        w[0] = mix(i, 1);
        w[511] = mix(i, 2);
    }
    expect(call(CALL_COUNT, COUNT_DEMAND, 0) == pages, "demand faults");
    for (uint64_t i = 0; i < pages; i++)
        sum = mix(sum, word(i)[0] ^ word(i)[511]);
    line("demand faults", pages, "pages", sum);
    return sum;
}

/* Exchange pairs of entries; the contents must follow. Odd rounds undo even ones. */
static uint64_t swap(uint64_t rounds, uint64_t pages) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < rounds; i++) {
        uint64_t a = (i / 2 * 37) % pages, b = (i / 2 * 101 + 7) % pages;
        if (a == b)
            continue;
        uint64_t va = word(a)[0], vb = word(b)[0];
        call(CALL_SWAP, REGION + a * PAGE, REGION + b * PAGE);
        expect(word(a)[0] == vb && word(b)[0] == va, "exchanged pages");
        sum = mix(sum, word(a)[511]);
    }
    line("page table edits", rounds, "swaps, INVLPG", sum);
    return sum;
}

/* Read-only and writable again: each first write faults once. */
static uint64_t flip(uint64_t pages) {
    uint64_t sum = 0;
    call(CALL_PROTECT, REGION, pages);
    for (uint64_t i = 0; i < pages; i++) {
        sum = mix(sum, word(i)[0]);
        word(i)[1] = i;
        word(i)[2] = i + 1;
    }
    expect(call(CALL_COUNT, COUNT_WRITE_FAULTS, 0) == pages, "write faults");
    for (uint64_t i = 0; i < pages; i++)
        sum = mix(sum, word(i)[1] + word(i)[2]);
    line("permission flips", pages, "write faults", sum);
    return sum;
}

/* Two address spaces that share all but one page. */
static uint64_t switch_spaces(uint64_t switches) {
    volatile uint64_t *own = (volatile uint64_t *)PRIVATE;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < switches; i++) {
        call(CALL_SWITCH, i & 1, 0);
        expect(own[0] == i / 2, "the private page of a space");
        own[0] = i / 2 + 1;
        sum = mix(sum, own[0] + word(i % 16)[0]);
    }
    call(CALL_SWITCH, 0, 0);
    line("address spaces", switches, "CR3 switches", sum);
    return sum;
}

/* D bits: exactly the pages written since they were cleared. */
static uint64_t dirty(uint64_t pages) {
    uint64_t written = 0, sum = 0;
    call(CALL_CLEAN, REGION, pages);
    for (uint64_t i = 0; i < pages; i++) {
        sum = mix(sum, word(i)[0]);
        if (i % 3 == 0) {
            word(i)[3] = i;
            written++;
        }
    }
    expect(call(CALL_DIRTY, REGION, pages) == written, "dirty bits");
    line("dirty bits", written, "pages written", sum);
    return sum;
}

/* Straight ring-3 work, with a few loads and stores. */
static uint64_t compute(uint64_t rounds, uint64_t pages) {
    uint64_t x = 88172645463325252ul, sum = 0, at = 0;
    for (uint64_t i = 0; i < rounds; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        sum += x;
        if (!(i & 15)) {
            volatile uint64_t *w = word(at);
            w[4] += x;
            sum ^= w[4];
            at = at + 1 == pages ? 0 : at + 1;
        }
    }
    line("compute loop", rounds, "rounds", sum);
    return sum;
}

void user_main(const struct params *p) {
    uint64_t sum = 0;
    text("penumbra guest: 64-bit ring 3, ", 0);
    number((p->memory + 0xfffff) >> 20, 0); /* the BIOS area is not RAM */
    text(" MiB of memory\r\n", 0);
    sum = mix(sum, touch(p->pages));
    sum = mix(sum, swap(p->swaps, p->pages));
    sum = mix(sum, flip(p->flips));
    sum = mix(sum, switch_spaces(p->switches));
    sum = mix(sum, dirty(p->pages));
    outb(PORT_DENIED, 1);
    expect(call(CALL_COUNT, COUNT_DENIED_IO, 0) == 1, "a denied port");
    sum = mix(sum, compute(p->compute, p->pages));
    text("penumbra guest: done, checksum ", 0);
    hex(sum);
    text("\r\n", 0);
    call(CALL_EXIT, 0, 0);
}
