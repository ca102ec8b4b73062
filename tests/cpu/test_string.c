/* SPDX-License-Identifier: MIT */
/*
 * String helpers against the host's own string instructions: random sizes, overlaps,
 * directions, address sizes, over linear pages that are not contiguous in memory; then
 * what the host cannot show: faults midway, chunks, stepping, MMIO, tracked pages.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fixture_sys.h"
#include "ops.h"
#include "tests/suite.h"

#define WINDOW 16u      /* pages */
#define BASE   0x10000u /* linear address of the window */
#define BYTES  (WINDOW * 0x1000u)
#define CASES  200000u

enum { MOVS, CMPS, STOS, LODS, SCAS, OPS };
static const uint8_t opcode[OPS] = {0xa4, 0xa6, 0xaa, 0xac, 0xae};
typedef enum cpu_rc (*helper)(struct cpu *, const struct insn *);
static const helper helpers[OPS] = {op_movs, op_cmps, op_stos, op_lods, op_scas};

/* One case: registers in and out. */
struct regs {
    uint64_t rax, rcx, rsi, rdi, flags;
};

/* ---- The host's side ---- */

static uint8_t *code; /* slots of 16 bytes: [op][log2 size][rep][addr32] */

static unsigned slot(unsigned op, unsigned size, unsigned rep, bool addr32) {
    return (((op * 4 + (unsigned)__builtin_ctz(size)) * 3 + rep) * 2 + addr32) * 16;
}

static void make_code(void) {
    code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(code != MAP_FAILED);
    for (unsigned op = 0; op < OPS; op++)
        for (unsigned size = 1; size <= 8; size *= 2)
            for (unsigned rep = 0; rep < 3; rep++)
                for (unsigned a = 0; a < 2; a++) {
                    uint8_t *p = code + slot(op, size, rep, a);
                    if (a)
                        *p++ = 0x67;
                    if (size == 2)
                        *p++ = 0x66;
                    if (rep)
                        *p++ = rep == 1 ? 0xf2 : 0xf3;
                    if (size == 8)
                        *p++ = 0x48;
                    *p++ = (uint8_t)(opcode[op] | (size > 1));
                    *p = 0xc3;
                }
    ck_assert_int_eq(mprotect(code, 4096, PROT_READ | PROT_EXEC), 0);
}

static void native(struct regs *r, const uint8_t *fn) {
    uint64_t flags = r->flags;
    __asm__ volatile("lea -256(%%rsp), %%rsp\n\t"
                     "push %[fl]\n\t"
                     "popfq\n\t"
                     "call *%[fn]\n\t"
                     "pushfq\n\t"
                     "pop %[fl]\n\t"
                     "cld\n\t"
                     "lea 256(%%rsp), %%rsp"
                     : "+a"(r->rax), "+c"(r->rcx), "+S"(r->rsi),
                       "+D"(r->rdi), [fl] "+r"(flags)
                     : [fn] "r"(fn)
                     : "memory", "cc");
    r->flags = flags;
}

/* ---- The guest's side ---- */

static unsigned frame_of[WINDOW];

/* The window's pages, shuffled over twice as many frames. */
static void shuffle(struct sys *s) {
    unsigned frames[2 * WINDOW];
    for (unsigned i = 0; i < 2 * WINDOW; i++)
        frames[i] = 0x100 + i;
    for (unsigned i = 2 * WINDOW - 1; i > 0; i--) {
        unsigned j = (unsigned)rand() % (i + 1), t = frames[i];
        frames[i] = frames[j], frames[j] = t;
    }
    for (unsigned i = 0; i < WINDOW; i++) {
        frame_of[i] = frames[i];
        sys_map(s, BASE / 0x1000 + i, frames[i], 7);
    }
}

static uint8_t *guest_page(struct sys *s, unsigned page) {
    return s->ram + frame_of[page] * 0x1000u;
}

static struct insn string_insn(unsigned size, unsigned rep, unsigned addrsize) {
    struct insn in = sys_insn(size, addrsize);
    in.rep = rep == 1 ? 0xf2 : rep ? 0xf3 : 0;
    return in;
}

static void load_regs(struct cpu *cpu, const struct regs *r) {
    cpu->gpr[R_AX] = r->rax, cpu->gpr[R_CX] = r->rcx;
    cpu->gpr[R_SI] = r->rsi, cpu->gpr[R_DI] = r->rdi;
    cpu_set_rflags(cpu, r->flags | FL_IF);
    cpu_update_mode(cpu);
}

/* ---- Random cases ---- */

static uint8_t *host; /* the window's twin, at a low address */

static uint64_t random64(void) {
    return (uint64_t)rand() << 42 ^ (uint64_t)rand() << 21 ^ (uint64_t)rand();
}

/* Elements that may be reached from offset `at` in this direction. */
static uint64_t reach(uint64_t at, unsigned size, bool down) {
    return down ? at / size + 1 : (BYTES - at) / size;
}

static void random_case(struct sys *s, unsigned op) {
    unsigned size = 1u << rand() % 4, rep = (unsigned)rand() % 3;
    bool down = rand() % 3 == 0, addr32 = rand() % 4 == 0;
    uint64_t src = (unsigned)rand() % (BYTES - size), dst;
    dst = rand() % 2 ? (unsigned)rand() % (BYTES - size)
                     : (src + (unsigned)rand() % 64 - 32) % (BYTES - size);
    uint64_t most = reach(src, size, down), other = reach(dst, size, down);
    most = most < other ? most : other;
    uint64_t count = rand() % 3 ? (unsigned)rand() % 40 : (unsigned)rand() % 5000;
    count = count < most ? count : most;
    if (op == CMPS || op == SCAS) { /* runs of equal elements */
        unsigned n = (unsigned)rand() % 3000;
        uint8_t fill = (uint8_t)rand();
        for (unsigned i = 0; i < n && src + i < BYTES && dst + i < BYTES; i++) {
            host[src + i] = host[dst + i] = fill;
            guest_page(s, (unsigned)(src + i) >> 12)[(src + i) & 0xfff] = fill;
            guest_page(s, (unsigned)(dst + i) >> 12)[(dst + i) & 0xfff] = fill;
        }
    }
    struct regs n = {.rax = rand() % 4 ? random64() : host[dst] * 0x0101010101010101u,
                     .rcx = count,
                     .rsi = (uintptr_t)host + src,
                     .rdi = (uintptr_t)host + dst,
                     .flags = 2 | (down ? FL_DF : 0) | ((uint64_t)rand() & 0x8d5)};
    struct regs g = n;
    g.rsi = BASE + src, g.rdi = BASE + dst;
    struct insn in = string_insn(size, rep, addr32 ? 4 : 8);
    load_regs(s->cpu, &g);
    native(&n, code + slot(op, size, rep, addr32));
    enum cpu_rc rc = helpers[op](s->cpu, &in);
    ck_assert_int_eq(rc, CPU_NEXT);
    ck_assert_uint_eq(s->cpu->gpr[R_AX], n.rax);
    ck_assert_uint_eq(s->cpu->gpr[R_CX], n.rcx);
    ck_assert_uint_eq(s->cpu->gpr[R_SI] - BASE, n.rsi - (uintptr_t)host);
    ck_assert_uint_eq(s->cpu->gpr[R_DI] - BASE, n.rdi - (uintptr_t)host);
    ck_assert_uint_eq(cpu_arith_flags(s->cpu), n.flags & FL_ARITH);
}

static void same_memory(struct sys *s) {
    for (unsigned i = 0; i < WINDOW; i++)
        ck_assert_msg(!memcmp(guest_page(s, i), host + i * 0x1000u, 0x1000), "page %u",
                      i);
}

START_TEST(random_strings_end_as_on_the_host) {
    struct sys *s = sys_new("");
    sys_long_mode(s);
    make_code();
    srand(7);
    host = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    ck_assert(host != MAP_FAILED);
    shuffle(s);
    for (unsigned i = 0; i < CASES; i++) {
        if (i % 1000 == 0) {
            if (i)
                same_memory(s);
            shuffle(s);
            for (unsigned at = 0; at < BYTES; at++)
                host[at] = (uint8_t)rand();
            for (unsigned p = 0; p < WINDOW; p++)
                memcpy(guest_page(s, p), host + p * 0x1000u, 0x1000);
        }
        random_case(s, i % OPS);
        if (i % 16 == 0)
            same_memory(s);
        if (i % 64 == 0)
            pn_mmu_drop_tlb(s->cpu->vmmu);
    }
    same_memory(s);
    sys_free(s);
}
END_TEST

/* ---- Faults ---- */

START_TEST(a_fault_midway_leaves_whole_iterations) {
    struct sys *s = sys_new("");
    sys_long_mode(s);
    struct insn in = string_insn(8, 2, 8);
    sys_map(s, 0x12, 0, 0);
    memset(s->ram + 0x10000, 0x5a, 0x2000);
    load_regs(s->cpu, &(struct regs){0, 0x400, 0x20000, 0x11f80, 2 | FL_CF});
    assert_fault(s, op_movs(s->cpu, &in), VEC_PF, PN_PF_WRITE);
    ck_assert_uint_eq(s->cpu->fault.address, 0x12000);
    ck_assert_uint_eq(s->cpu->gpr[R_CX], 0x400 - 16);
    ck_assert_uint_eq(s->cpu->gpr[R_SI], 0x20080);
    ck_assert_uint_eq(s->cpu->gpr[R_DI], 0x12000);
    /* Mapped now, it goes on where it was. */
    sys_map(s, 0x12, 0x12, 7);
    ck_assert_int_eq(op_movs(s->cpu, &in), CPU_NEXT);
    ck_assert_uint_eq(s->cpu->gpr[R_CX], 0);
    /* An element across the hole faults before anything of it is stored. */
    sys_map(s, 0x12, 0, 0);
    s->ram[0x11ffe] = 0x77;
    load_regs(s->cpu, &(struct regs){0, 1, 0x20000, 0x11ffe, 2});
    assert_fault(s, op_movs(s->cpu, &in), VEC_PF, PN_PF_WRITE);
    ck_assert_uint_eq(s->ram[0x11ffe], 0x77);
    ck_assert_uint_eq(s->cpu->gpr[R_CX], 1);
    /* A read fault of CMPS restores the flags. */
    memset(s->ram + 0x11000, 1, 0x1000), memset(s->ram + 0x20000, 1, 0x3000);
    load_regs(s->cpu, &(struct regs){0, 0x1000, 0x11f00, 0x20000, 2 | FL_CF | FL_OF});
    in.opsize = 1, in.rep = 0xf3;
    assert_fault(s, op_cmps(s->cpu, &in), VEC_PF, 0);
    ck_assert_uint_eq(cpu_arith_flags(s->cpu), FL_CF | FL_OF);
    ck_assert_uint_eq(s->cpu->gpr[R_CX], 0x1000 - 0x100);
    /* A non-canonical destination. */
    load_regs(s->cpu, &(struct regs){0, 4, 0x20000, UINT64_C(0x800000000000), 2});
    assert_fault(s, op_movs(s->cpu, &in), VEC_GP, 0);
    sys_free(s);
}
END_TEST

/* ---- Chunks and stepping ---- */

START_TEST(a_long_string_stops_every_so_often) {
    struct sys *s = sys_new("");
    sys_long_mode(s);
    struct insn in = string_insn(1, 2, 8);
    uint64_t total = 0x1a0000;
    unsigned jumps = 0;
    enum cpu_rc rc;
    load_regs(s->cpu, &(struct regs){0xcc, total, 0, 0x20000, 2});
    while ((rc = op_stos(s->cpu, &in)) == CPU_JUMP) {
        ck_assert_uint_eq(s->cpu->gpr[R_DI] + s->cpu->gpr[R_CX], 0x20000 + total);
        jumps++;
    }
    ck_assert_int_eq(rc, CPU_NEXT);
    ck_assert_uint_eq(jumps, (total - 1) / 65536);
    for (uint64_t i = 0; i < total; i++)
        ck_assert_uint_eq(s->ram[0x20000 + i], 0xcc);
    load_regs(s->cpu, &(struct regs){0, 3, 0x10000, 0x20000, 2 | FL_TF});
    ck_assert_int_eq(op_movs(s->cpu, &in), CPU_JUMP);
    ck_assert_uint_eq(s->cpu->gpr[R_CX], 2);
    ck_assert_int_eq(op_movs(s->cpu, &in), CPU_JUMP);
    ck_assert_int_eq(op_movs(s->cpu, &in), CPU_NEXT);
    ck_assert_uint_eq(s->cpu->gpr[R_CX], 0);
    sys_free(s);
}
END_TEST

/* ---- What is not plain memory ---- */

START_TEST(devices_and_tracked_pages_see_each_element) {
    struct sys *s = sys_new("");
    sys_long_mode(s);
    struct insn in = string_insn(4, 2, 8);
    sys_map(s, 0x30, SYS_MMIO >> 12, 7);
    load_regs(s->cpu, &(struct regs){0x11223344, 5, 0, 0x30010, 2});
    ck_assert_int_eq(op_stos(s->cpu, &in), CPU_STOP);
    ck_assert_uint_eq(s->mmio_writes, 5);
    ck_assert_uint_eq(s->last_address, SYS_MMIO + 0x20);
    ck_assert_uint_eq(s->last_value, 0x11223344);
    load_regs(s->cpu, &(struct regs){0, 4, 0x30000, 0x21000, 2});
    s->next_read = 0x100;
    ck_assert_int_eq(op_movs(s->cpu, &in), CPU_STOP);
    ck_assert_uint_eq(s->mmio_reads, 4);
    ck_assert_uint_eq(s->ram[0x2100c], 3);
    ck_assert_int_eq(pn_mmu_track_add(s->cpu->mmu, 0x22), 0);
    load_regs(s->cpu, &(struct regs){0x01020304, 0x402, 0, 0x21ffc, 2});
    uint64_t slow = s->cpu->stats->v[PN_STAT_mem_slow];
    op_stos(s->cpu, &in);
    ck_assert_uint_eq(s->cpu->gpr[R_CX], 0);
    /* Each element is told of, and its page asked for once. */
    ck_assert_uint_eq(s->tracked, 1024);
    ck_assert_uint_eq(s->cpu->stats->v[PN_STAT_code_stores], 1024);
    ck_assert_uint_le(s->cpu->stats->v[PN_STAT_mem_slow] - slow, 1);
    ck_assert_uint_eq(s->ram[0x22ffc], 4);
    ck_assert_uint_eq(s->ram[0x23000], 4);
    sys_free(s);
}
END_TEST

/* _i & 1: downwards; _i & 2: MOVS that overlaps by less than an element. */
START_TEST(what_is_left_of_a_string_is_memory_once_its_page_is_tracked_no_more) {
    struct sys *s = sys_new("");
    sys_long_mode(s);
    struct insn in = string_insn(8, 2, 8);
    bool down = _i & 1, move = _i & 2;
    uint8_t model[0x1010];
    uint64_t first = 0x22000 + (down ? 0xff8 : 0), from = first + (down ? 4 : -4);
    for (unsigned i = 0; i < 0x1010; i++)
        s->ram[0x22000 - 8 + i] = (uint8_t)(i * 7 + 1);
    memcpy(model, s->ram + 0x22000 - 8, sizeof model);
    for (int i = 0; i < 511; i++) { /* one element after another */
        uint64_t at = first - 0x22000 + 8 + (uint64_t)(down ? -8 * i : 8 * i), v = 0x55;
        if (move)
            memcpy(&v, model + at + (down ? 4 : -4), 8);
        memcpy(model + at, &v, 8);
    }
    ck_assert_int_eq(pn_mmu_track_add(s->cpu->mmu, 0x22), 0);
    s->track_ends = 3;
    load_regs(s->cpu, &(struct regs){0x55, 511, from, first, 2 | (down ? FL_DF : 0)});
    (move ? op_movs : op_stos)(s->cpu, &in);
    ck_assert_uint_eq(s->cpu->gpr[R_CX], 0);
    ck_assert_uint_eq(s->cpu->gpr[R_DI], down ? first - 511 * 8 : first + 511 * 8);
    ck_assert_uint_eq(s->tracked, 3);
    ck_assert_uint_eq(s->cpu->stats->v[PN_STAT_code_stores], 3);
    ck_assert_mem_eq(s->ram + 0x22000 - 8, model, sizeof model);
    sys_free(s);
}
END_TEST

/* ---- 16-bit addresses ---- */

START_TEST(strings_with_16_bit_addresses_wrap_at_64k) {
    struct sys *s = sys_new("");
    struct insn in = string_insn(1, 2, 2);
    s->cpu->seg[SEG_DS].base = 0x10000;
    s->cpu->seg[SEG_ES].base = 0x30000;
    for (unsigned i = 0; i < 0x10000; i++)
        s->ram[0x10000 + i] = (uint8_t)(i * 7);
    load_regs(s->cpu,
              &(struct regs){0, 0xabcd0020, UINT64_C(0xff0000fff0), 0x12340000, 2});
    ck_assert_int_eq(op_movs(s->cpu, &in), CPU_NEXT);
    ck_assert_uint_eq(s->cpu->gpr[R_SI], UINT64_C(0xff00000010)); /* wraps at 64 KiB */
    ck_assert_uint_eq(s->cpu->gpr[R_DI], 0x12340020);
    ck_assert_uint_eq(s->cpu->gpr[R_CX], 0xabcd0000);
    for (unsigned i = 0; i < 0x20; i++)
        ck_assert_uint_eq(s->ram[0x30000 + i], s->ram[0x10000 + (uint16_t)(0xfff0 + i)]);
    /* A word across the segment's end faults. */
    in.opsize = 2;
    load_regs(s->cpu, &(struct regs){0, 1, 0xffff, 0, 2});
    assert_fault(s, op_movs(s->cpu, &in), VEC_GP, 0);
    sys_free(s);
}
END_TEST

/* ---- Ports ---- */

START_TEST(ins_and_outs_check_before_the_port) {
    struct sys *s = sys_new("");
    sys_long_mode(s);
    struct insn in = string_insn(1, 2, 8);
    in.opcode = 0x6c;
    s->next_read = 0x40;
    load_regs(s->cpu, &(struct regs){0, 3, 0, 0x20000, 2});
    s->cpu->gpr[R_DX] = 0x3f8;
    ck_assert_int_eq(op_port_string(s->cpu, &in), CPU_STOP);
    ck_assert_uint_eq(s->pio_reads, 3);
    ck_assert(!memcmp(s->ram + 0x20000, "\x40\x41\x42", 3));
    in.opcode = 0x6f, in.opsize = 4, in.rep = 0;
    load_regs(s->cpu, &(struct regs){0, 0, 0x20000, 0, 2});
    ck_assert_int_eq(op_port_string(s->cpu, &in), CPU_STOP);
    ck_assert_uint_eq(s->pio_writes, 1);
    ck_assert_uint_eq(s->last_value, 0x00424140);
    ck_assert_uint_eq(s->cpu->gpr[R_SI], 0x20004);
    /* CPL 3, IOPL 0: the bitmap decides; no byte beyond the limit. */
    sys_cpl(s, 3);
    s->cpu->seg[SEG_TR] = (struct pn_segment){.attr = ATTR_P | 11, .limit = 0x68 + 0x80};
    s->cpu->seg[SEG_TR].base = 0x40000;
    s->ram[0x40066] = 0x68;
    memset(s->ram + 0x40068, 0xff, 0x100);
    s->ram[0x40068 + 0x3f8 / 8] = 0xfe;
    in = sys_insn(1, 8);
    in.opcode = 0xec;
    s->cpu->gpr[R_DX] = 0x3f8;
    ck_assert_int_eq(op_port(s->cpu, &in), CPU_STOP);
    ck_assert_uint_eq(s->cpu->gpr[R_AX], 0x43);
    in.opcode = 0xed, in.opsize = 2;
    assert_fault(s, op_port(s->cpu, &in), VEC_GP, 0);
    in.opcode = 0xec;
    s->cpu->gpr[R_DX] = 0x400;
    s->ram[0x40068 + 0x80] = 0;
    assert_fault(s, op_port(s->cpu, &in), VEC_GP, 0);
    s->cpu->sys_flags |= FL_IOPL;
    ck_assert_int_eq(op_port(s->cpu, &in), CPU_STOP);
    sys_free(s);
}
END_TEST

SUITE("string", .timeout = 300,
      .tests = {random_strings_end_as_on_the_host, a_fault_midway_leaves_whole_iterations,
                a_long_string_stops_every_so_often,
                devices_and_tracked_pages_see_each_element,
                strings_with_16_bit_addresses_wrap_at_64k,
                ins_and_outs_check_before_the_port},
      .loops = {{what_is_left_of_a_string_is_memory_once_its_page_is_tracked_no_more, 4}})
