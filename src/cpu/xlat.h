/* SPDX-License-Identifier: MIT */
/*
 * The translator's own state: code memory, blocks, jump cache, and what translated code
 * and its trampolines (entry.S) agree on. Not for the system half.
 *
 * Translated code
 *   RSP is cpu + JIT_BIAS. A call pushes into gpr[15], which is dead there, and a signal
 *   frame, below the red zone, into the headroom that cpu_create leaves below the cpu.
 *   RAX and R10 are scratch; the other thirteen hold guest registers (host_of); guest R9,
 *   R10, R11 stay in memory, and R8 with a TLB model (H_STAMP). rip in memory is stale; budget has the whole block deducted.
 *   At entry and exit of a block the arithmetic flags are in cpu->fl.
 *
 * Invariants
 * 1. A block's code never changes but for its exits' jumps, and its entry when it is
 *    dropped: that then leads to the dispatcher, so that jump caches may keep it. Code of
 *    dropped blocks stays until the whole cache is dropped, in the dispatcher alone.
 * 2. A block that spans two pages is entered by the dispatcher or the jump cache, never
 *    by a chained jump: only those know that its second page is still the same.
 * 3. A jump-cache entry is valid while its tag is: salts (cpu->jc_salt) are never reused
 *    while an entry with them may exist.
 * 4. With a TLB model, fetches go unseen by it only within the page of the last one seen; those
 *    that hit its first level are told of by translated code (pn_fetches). So the first jump
 *    cache has no block of two pages then, and 64-bit code alone.
 */
#pragma once

#include <signal.h>

#include "cpu/cpu.h"
#include "cpu/emit.h"
#include "cpu/entry_offsets.h"
#include "cpu/insn.h"

#define JIT_BIAS     128
#define JIT_HEADROOM 65536
/* Displacement from RSP of a field of struct cpu. */
#define CO(field) ((int32_t)offsetof(struct cpu, field) - JIT_BIAS)

enum { ENTRY_SLOW, ENTRY_DONE, ENTRY_HELPER, ENTRY_EXIT };

#define JC_BITS    15
#define JC_ENTRIES (1u << JC_BITS)
struct jc_entry {
    uint64_t tag; /* rip ^ salt */
    const uint8_t *code;
};

/* The second jump cache: larger, and indexed by the salt too, so that it keeps what other
 * address spaces and modes know. The thunk that a miss of the first one goes to asks it.
 * The low JC_BITS of the index are those of rip here as well: see salt_update. */
#define JC2_BITS    17
#define JC2_ENTRIES (1u << JC2_BITS)
static inline uint32_t jc2_index(uint64_t rip, uint64_t tag) {
    return (uint32_t)(rip ^ (tag ^ tag >> 16) << JC_BITS) & (JC2_ENTRIES - 1);
}

/* What a page was last fetched from. */
struct fetch_entry {
    uint64_t page, gen; /* linear address of the page plus fetch_key; fetch_gen */
    uint8_t *hva;
    pn_gpa gpa;
};
#define FETCH_ENTRIES 256u
static inline unsigned fetch_key(uint32_t mode) {
    return tlb_mode_of(mode) + 1;
}

/* The CPU in its frame: what stands around it in memory. */
struct cpu_frame {
    uint8_t headroom[JIT_HEADROOM];
    struct cpu cpu;
    struct jc_entry jc[JC_ENTRIES];
    struct jc_entry jc2[JC2_ENTRIES];
    struct fetch_entry fetch[FETCH_ENTRIES];
    struct pn_fetches fetches; /* with a TLB model */
};
static inline struct cpu_frame *frame_of(struct cpu *cpu) {
    return (struct cpu_frame *)(void *)((uint8_t *)cpu - offsetof(struct cpu_frame, cpu));
}
#define JC_OFFSET                                                                        \
    ((int32_t)(offsetof(struct cpu_frame, jc) - offsetof(struct cpu_frame, cpu)) -       \
     JIT_BIAS)

#define JC2_OFFSET     (JC_OFFSET + (int32_t)sizeof(struct jc_entry[JC_ENTRIES]))
#define FETCH_OFFSET   (JC2_OFFSET + (int32_t)sizeof(struct jc_entry[JC2_ENTRIES]))
#define FETCHES_OFFSET (FETCH_OFFSET + (int32_t)sizeof(struct fetch_entry[FETCH_ENTRIES]))
#define FETCHES(field) (FETCHES_OFFSET + (int32_t)offsetof(struct pn_fetches, field))

/* Guest register -> host register, or -1: in memory; [1]: with a TLB model. */
extern const int8_t host_of[2][16];
/* The last stamp (struct pn_tlb_view) while translated code runs, with a TLB model. */
#define H_STAMP H_R8

#define NO_BLOCK   UINT32_MAX
#define BLOCK_MAX  64    /* instructions */
#define BLOCK_CODE 49152 /* host bytes that a block may need at most */
#define EXITS_MAX  8     /* of a block */
#define NO_PAGE    UINT64_MAX

struct block_exit {
    uint32_t from : 24; /* the block it leaves */
    uint32_t idx : 8;   /* the instruction that leaves */
    uint32_t patch;     /* code offset of the rel32; 0: it is never chained (any more) */
    uint32_t to;        /* block it is chained to, or NO_BLOCK */
    uint32_t next;      /* next exit chained to the same block */
    int16_t ahead;      /* of the block's rip: the target's, in the same page */
    uint16_t
        stub; /* where it points while not chained: from where its block's code out of
                      line begins */
};
_Static_assert(sizeof(struct block_exit) == 20, "there are many");

/* What blocks take of the cache: bytes of code, and entries of the arrays. */
struct cache_use {
    size_t code, cold;
    uint32_t blocks, across, lens, exits, faults, insns;
};

/* There are as many as ran in the guest: one cache line each. */
struct block {
    pn_gpa gpa; /* of the first byte */
    uint64_t rip;
    uint32_t mode;
    union {
        uint32_t hash_next;
        uint32_t whole; /* of a part */
    };
    uint32_t code;      /* offset of its code */
    uint32_t cold_end;  /* its code out of line begins where the block before ends */
    uint32_t page_next; /* next block * 2 + side on the same page's list */
    uint32_t across;    /* index of its struct across, or NO_BLOCK */
    uint32_t incoming;  /* first exit chained to this block */
    uint32_t lens;      /* index of its first instruction's length in x->lens */
    uint32_t faults;    /* index of its first fault record */
    uint32_t exits;     /* index of its first exit in x->exits */
    uint16_t bytes;     /* of guest code */
    uint8_t n;          /* instructions */
    uint8_t exit_count, fault_count;
    uint8_t first;      /* of a part: number of its first instruction in the whole */
    uint8_t tail;       /* before cold_end: where its entry jumps to once it is dropped */
    uint8_t single : 1; /* made for stepping */
    uint8_t
        part : 1; /* of block `whole`, made for a debugger: no look-up finds it, no event
                         counts it, it has room of its own and is dropped with `whole` */
    uint8_t dead : 1;
    uint8_t trap : 1; /* its entry leads to the dispatcher: see debugger.c */
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct block) == 64, "one cache line");

/* Of a block that goes on in a second page. */
struct across {
    pn_gpa gpa2; /* of that page */
    uint32_t page_next;
};

/* Before a block's code: what a look-up of 64-bit code asks. */
struct block_head {
    pn_gpa page;        /* of its first byte; ~0: look at the block itself */
    uint32_t mode, key; /* fetch_key */
};
_Static_assert(sizeof(struct block_head) == 16, "code is aligned");

/* Where host code may fault for the guest: [start, end) runs instruction idx. */
struct fault_rec {
    uint32_t start;
    uint16_t len;
    uint8_t idx;
};

/* After `call [ENTRY_SLOW]`: an operand that the TLB did not answer. */
struct slow_desc {
    uint64_t block : 24;
    uint64_t at : 10; /* bytes of the block before the instruction */
    uint64_t idx : 6;
    uint64_t resume : 16; /* from the block's code: with the operand's address in R10 */
    uint64_t size : 8;
    uint8_t flags, seg; /* seg: SEG_*, and more flags */
    uint8_t body;       /* bytes from resume on that use R10 */
} __attribute__((packed));
_Static_assert(sizeof(struct slow_desc) == 11, "one for each operand in memory");
#define SLOW_SEG    7u /* SEG_* */
#define SLOW_EFLAGS 8u /* behind the body EFLAGS holds the flags */
#define SLOW_LEAVE                                                                       \
    16u /* a bounced one leaves the block: later operands assume that R10 \
                         * points into this page, and it points at the bounce buffer */
#define SLOW_JUMPS  32u  /* CALL: its jump is still to be made */
#define SLOW_MASKED 128u /* a struct masked follows */
#define SLOW_READ   MEM_READ
#define SLOW_WRITE  MEM_WRITE
#define SLOW_TABLE  MEM_TABLES
#define SLOW_VEC    128u /* vector state must be live again */
#define SLOW_ALIGN  8u   /* #GP unless aligned */
#define SLOW_OFFS   16u  /* R10 is an offset in segment seg, not a TLB difference */
#define SLOW_X87    64u  /* a pending x87 exception comes first */
#define SLOW_LAST   32u  /* no ENTRY_DONE follows: the block ends soon */

/* Copies of bodies that run on the bounce buffer: see bounce.c. */
#define BOUNCES     256u
#define BOUNCE_SLOT 256u
#define BOUNCE_BODY 224u

/* After `call [ENTRY_HELPER]`. */
struct helper_desc {
    const struct insn *in;
    uint32_t block;
    uint16_t at; /* bytes of the block before the instruction */
    uint8_t idx, vec;
} __attribute__((packed));

/* What translated code leaves with, in EAX. LEFT_OTHER: state is current, see x->rc;
 * LEFT_MISS: rip is current, and the jump cache did not know it. */
#define LEFT_CHAIN 0u /* | exit << 2 */
#define LEFT_BUDGET                                                                      \
    2u /* | block << 2: it does not fit, and has deducted; or is dead or a trap */

#define PROBE_SIZES 7 /* 1, 2 .. 64 bytes */

struct page {
    pn_gfn gfn;
    uint64_t granules; /* bit i: code in bytes 64i..64i+63 */
    uint32_t blocks;   /* first block * 2 + side, or NO_BLOCK */
    uint32_t next;     /* hash chain */
    bool tracked;
};

struct salt {
    uint64_t gen, base;
    uint32_t mode, limit;
    bool used;
    uint64_t value;
};
#define SALTS_BITS 10
#define SALTS      (1u << SALTS_BITS)

#define CACHE_ARRAYS 6 /* see arrays() in block.c */

struct xlat {
    struct cpu *cpu;
    struct decoder *dec;
    uint8_t *rw, *rx;         /* one code memory, two views */
    size_t size, used, start; /* size: with the room of parts */
    /* What of a block seldom runs is away from what always does, so that the latter lies
     * close in the host's caches and TLBs: behind the code of all blocks, from cold_start
     * to cold. */
    size_t cold_start, cold;
    struct cache_use most, parts; /* of blocks that are no parts; taken by parts */
    size_t wanted, cold_wanted;   /* of rw, to where its pages are there */
    int fd;
    bool for_perf;                                                    /* see code.c */
    const uint8_t *thunk_miss, *thunk_vec, *thunk_fetch, *thunk_show; /* RW addresses */
    const uint8_t *thunk_probe[PN_TLB_MODES][2][PROBE_SIZES];
    const uint8_t *none; /* RX address of code that only misses */
    size_t bounce;       /* code offset of the slots */
    uint32_t
        bounce_of[BOUNCES]; /* code offset of the descriptor that each is for; 0: none */
    const struct slow_desc *bounced; /* whose body a slot ran last */

    struct block *blocks;
    uint32_t block_count;
    uint8_t head; /* bytes of a block's code that deduct from the budget */
    struct across *across;
    uint32_t across_count;
    uint32_t *hash;
    uint8_t *lens; /* of instructions, in bytes */
    uint32_t len_count;
    struct block_exit *exits;
    uint32_t exit_count;
    struct fault_rec *faults;
    uint32_t fault_count;
    struct insn *insns;
    uint32_t insn_count;
    uint32_t odd_target; /* index of the last one for xlat_odd_target */
    struct page *pages;
    uint32_t page_count, page_free;
    uint32_t *page_hash;
    size_t array_wanted[CACHE_ARRAYS]; /* bytes of these arrays whose pages are there */

    struct salt salts[SALTS];
    uint64_t salt_next;

    uint64_t limit; /* of cpu_run */
    uint32_t max_n; /* instructions per block */
    enum cpu_rc rc; /* of what made translated code leave */
    bool flush;     /* drop the cache before anything runs again */
    /* A debugger's stop came before instruction idx of a block, or behind an exit; the
     * other one is NO_BLOCK. */
    struct {
        uint32_t block, exit, epoch;
        unsigned idx;
        uint64_t gen;
    } resume;
    uint32_t epoch; /* how often that has happened */
    bool bmi2;      /* the host has RORX */
    /* The page that the TLB model has last seen a fetch from; NULL without a model. With a
     * model only chained jumps, which stay within a page, do not go to the dispatcher. */
    const uint64_t *fetch_page;
    bool signals; /* this cpu holds a reference on the handlers */
    uint8_t *altstack;
    struct lower *lower;
};

#define BLOCK_HASH_BITS 17
#define BLOCK_HASH      (1u << BLOCK_HASH_BITS)
#define PAGE_HASH       8192u
#define PAGE_MAX        65536u

/* ---- entry.S ---- */

/* Load the guest's registers and jump to code. Return: LEFT_*. */
uint64_t xlat_enter(struct cpu *cpu, const void *code);
extern const uint8_t xlat_tramp_slow[], xlat_tramp_done[], xlat_tramp_helper[],
    xlat_tramp_exit[], xlat_tramp_miss[], xlat_tramp_vec[], xlat_tramp_fault[];

/* ---- slow.c: called by the trampolines; return the address to resume at, or NULL to
 * leave translated code ---- */

const uint8_t *xlat_slow(struct cpu *cpu);
const uint8_t *xlat_done(struct cpu *cpu);
const uint8_t *xlat_helper(struct cpu *cpu);
/* A host fault at code offset `at`: make it the guest's (called before xlat_tramp_fault,
 * in the signal handler). Return: false when it is not one of translated code's. */
bool xlat_host_fault(struct cpu *cpu, uint32_t at, unsigned trap);
/* MODE_NOFPU, _NOSSE, _NOAVX, no MODE_EVEX: raise what the instruction must. */
enum cpu_rc xlat_no_fpu(struct cpu *cpu, const struct insn *in);
enum cpu_rc xlat_no_mmx(struct cpu *cpu, const struct insn *in);
enum cpu_rc xlat_no_sse(struct cpu *cpu, const struct insn *in);
enum cpu_rc xlat_no_avx(struct cpu *cpu, const struct insn *in);
enum cpu_rc xlat_no_evex(struct cpu *cpu, const struct insn *in);
enum cpu_rc xlat_too_long(struct cpu *cpu, const struct insn *in);
/* With MODE_WAIT: neither ENDBRANCH nor what may stand for it (cet.c). */
enum cpu_rc xlat_no_endbranch(struct cpu *cpu, const struct insn *in);
/* Indirect branches whose target may be no canonical address: it is in jit.rax, salted, of
 * JMP and RET; of CALL in op[0] or in jit.save[0]. */
enum cpu_rc xlat_odd_target(struct cpu *cpu, const struct insn *in);
enum cpu_rc xlat_odd_call(struct cpu *cpu, const struct insn *in);

/* ---- vecmem.c: gathers and masked moves, element by element ---- */

enum vecmem {
    VECMEM_GATHER,
    VECMEM_GATHER_K, /* EVEX */
    VECMEM_SCATTER_K,
    VECMEM_VMASKMOV,
    VECMEM_XMM,
    VECMEM_MMX
};
extern enum cpu_rc (*const vecmem_helper[])(struct cpu *, const struct insn *);

/* ---- thunk.c: code that all blocks share. Return: where it is ---- */

const uint8_t *thunk_to(struct emit *e, const void *target);
/* rax: a tag that the first jump cache does not know. */
const uint8_t *thunk_miss(struct emit *e, const struct xlat *x);
/* With a TLB model, called. rax: another page; r10: where the first jump cache has the place in it.
 * Return: the page is told of, and rax is lost; else the dispatcher goes there. */
const uint8_t *thunk_fetch(struct emit *e);
/* Call it unless ZF says that it is the same page. */
void call_fetch(struct emit *e, const struct xlat *x);
/* Called: the probe of the address in R10 (lower_mem.c), for 1 << size bytes. CF or ZF: a hit;
 * else as after a probe that missed. */
const uint8_t *thunk_probe(struct emit *e, bool bmi2, enum pn_tlb_mode mode, bool write,
                           unsigned size);

/* ---- bounce.c ---- */

/* What runs sd's body on the bounce buffer. Return: its RX address. */
const uint8_t *bounce_code(struct xlat *x, const struct slow_desc *sd);
/* The code offset that `at`, which may be in a slot, is a copy of. */
uint32_t bounce_origin(const struct xlat *x, uint32_t at);
void bounces_forget(struct xlat *x);

/* ---- code.c ---- */

/* x->size bytes, as rw and rx. Return: 0, or -1. */
int code_create(struct xlat *x);

/* ---- block.c ---- */

int blocks_create(struct xlat *x);
void blocks_destroy(struct xlat *x);
/* The block at rip under the present mode, translated if need be. single: of one
 * instruction. Return: NULL with cpu->fault set. */
struct block *block_find(struct xlat *x, bool single);
/* The code of the same, single not set. */
const uint8_t *block_code(struct xlat *x);
/* max instructions of b from number idx on, where rip is, as a block of their own. Nothing is
 * fetched: who runs the rest of a block does not either. Return: NULL: it cannot be. */
struct block *block_part(struct xlat *x, const struct block *b, unsigned idx,
                         unsigned max);
/* The block that this code offset lies in, or NULL. Live or dead. */
const struct block *block_at(const struct xlat *x, uint32_t at);
/* Let an exit jump to its target directly, where that is sound. */
void block_chain(struct xlat *x, uint32_t exit, struct block *to);
/* An exit whose target may not be chained to goes through the jump cache instead. */
void block_cache_exit(struct xlat *x, uint32_t exit);
void block_drop(struct xlat *x, struct block *b);
/* Its struct block_head, as it is now. */
struct block_head block_head(const struct block *b);
void block_put_head(struct xlat *x, const struct block *b);
/* Let blocks that begin at rip be traps: their entry leads to the dispatcher, which deducts
 * their instructions and enters them behind the head. No block goes on across rip. */
void blocks_split(struct xlat *x, uint64_t rip);
/* debugger.c: does a block end before the instruction at rip? */
bool debug_splits(const struct cpu *cpu, uint64_t rip);
/* Drop everything and start over; only while no translated code runs. */
void blocks_flush(struct xlat *x);
/* jc_salt for the present mode and fetch_gen. */
void salt_update(struct xlat *x);
/* Linear address of the byte `ahead` bytes after rip. */
static inline uint64_t code_linear(const struct cpu *cpu, uint64_t ahead) {
    if (cpu->mode & MODE_CODE64)
        return cpu->rip + ahead;
    return (uint32_t)(cpu->seg[SEG_CS].base + cpu->rip + ahead);
}
/* Show the TLB model that control came to that page. Only with a model. */
void fetch_show(struct xlat *x, uint64_t lin);
/* Code for rip in the jump caches, or NULL. It may be dead: see LEFT_BUDGET. */
const uint8_t *jc_find(struct cpu *cpu, uint64_t rip);
void jc_put(struct cpu *cpu, uint64_t rip, const uint8_t *code);
/* jc_find at rip, where control is going: the TLB model is shown the page. */
const uint8_t *code_known(struct xlat *x);

/* ---- translate.c ---- */

struct lower *lower_create(void);
/* Translate a block at rip (one page at gpa/hva) into b, the next free one. Return: false
 * with cpu->fault set when not even its first instruction could be fetched. */
bool translate(struct xlat *x, struct block *b, uint8_t *hva, pn_gpa gpa, unsigned max);

/* Bytes of the first idx instructions of a block. Eight lengths, each at most 15, are added at a
 * time: what the array has behind the last one is shifted out. */
static inline unsigned block_offset(const struct xlat *x, const struct block *b,
                                    unsigned idx) {
    const uint8_t *p = x->lens + b->lens;
    uint64_t eight;
    unsigned sum = 0;
    for (; idx; p += 8) {
        unsigned n = idx < 8 ? idx : 8;
        memcpy(&eight, p, sizeof(eight));
        sum += (unsigned)((eight << (64 - 8 * n)) * UINT64_C(0x0101010101010101) >> 56);
        idx -= n;
    }
    return sum;
}

/* `at` bytes behind its beginning. */
static inline uint64_t block_rip_at(const struct block *b, unsigned at) {
    uint64_t rip = b->rip + at;
    return b->mode & MODE_CODE64 ? rip : (uint32_t)rip;
}
static inline uint64_t block_rip(const struct xlat *x, const struct block *b,
                                 unsigned idx) {
    return block_rip_at(b, block_offset(x, b, idx));
}

/* The second page of a block, or NO_PAGE. */
static inline pn_gpa block_gpa2(const struct xlat *x, const struct block *b) {
    return b->across == NO_BLOCK ? NO_PAGE : x->across[b->across].gpa2;
}
/* Where an exit goes. */
static inline uint64_t exit_rip(const struct xlat *x, const struct block_exit *ex) {
    return x->blocks[ex->from].rip + (uint64_t)(int64_t)ex->ahead;
}
/* Code offset of where block i's code out of line begins. */
static inline uint32_t block_cold(const struct xlat *x, uint32_t i) {
    return i ? x->blocks[i - 1].cold_end : (uint32_t)x->cold_start;
}
/* Code offset of where an exit points while not chained. */
static inline uint32_t exit_stub(const struct xlat *x, const struct block_exit *ex) {
    return block_cold(x, ex->from) + ex->stub;
}
/* Code offset of where a dropped block's entry leads. */
static inline uint32_t block_dead_stub(const struct block *b) {
    return b->cold_end - b->tail;
}
/* Code offset of the end of its code that is not out of line, rounded up. */
static inline uint32_t block_code_end(const struct xlat *x, const struct block *b) {
    uint32_t next = (uint32_t)(b - x->blocks) + 1;
    return next == x->block_count
               ? (uint32_t)x->used
               : x->blocks[next].code - (uint32_t)sizeof(struct block_head);
}

/* ---- signal.c ---- */

int signals_acquire(void);
void signals_release(void);
#define ALTSTACK_SIZE 65536
/* This thread runs translated code of x's between these two. */
void signals_enter(struct xlat *x, stack_t *saved);
void signals_leave(const stack_t *saved);
