/* SPDX-License-Identifier: MIT */
/*
 * The life of a CPU and its dispatcher.
 *
 * Time. cpu->budget counts down to insn_limit: the end of a slice or the caller's limit,
 * whichever is nearer. A slice only makes the CPU look at `kick` now and then. A block
 * that does not fit into the budget is not begun: its instructions run one at a time, so
 * every deadline is exact.
 *
 * Invariant: events are polled between blocks only. That is enough because everything
 * that can raise one leaves translated code.
 * This file is compiled without vector registers: while vec_live they are the guest's.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "cpu/decode.h"
#include "cpu/system.h"
#include "cpu/xlat.h"
#include "cpu/xstate.h"

#define SLICE        (1u << 20)
#define CODE_DEFAULT (32u << 20)
#define CODE_MIN     (1u << 20)
#define CODE_MOST    (512u << 20)

#define INSN_BYTES_MAX 15

/* ---- Life ---- */

static void set_entries(struct cpu *cpu) {
    cpu->jit.entry[ENTRY_SLOW] = xlat_tramp_slow;
    cpu->jit.entry[ENTRY_DONE] = xlat_tramp_done;
    cpu->jit.entry[ENTRY_HELPER] = xlat_tramp_helper;
    cpu->jit.entry[ENTRY_EXIT] = xlat_tramp_exit;
}

static int xlat_create(struct cpu *cpu, const struct cpu_config *cfg) {
    struct xlat *x = calloc(1, sizeof *x);
    if (!x)
        return -ENOMEM;
    size_t size = cfg->code_bytes ? cfg->code_bytes : CODE_DEFAULT;
    size = size < CODE_MIN ? CODE_MIN : size > CODE_MOST ? CODE_MOST : size;
    cpu->xlat = x;
    x->cpu = cpu;
    x->fd = -1;
    x->size = (size + PN_PAGE_SIZE - 1) & PN_PAGE_MASK;
    x->max_n = cfg->max_block && cfg->max_block < BLOCK_MAX ? cfg->max_block : BLOCK_MAX;
    x->bmi2 = __builtin_cpu_supports("bmi2");
    x->fetch_page = pn_mmu_fetch_page(cpu->vmmu);
    x->altstack = malloc(ALTSTACK_SIZE);
    x->dec = decoder_create(cfg->model);
    x->lower = lower_create();
    if (!x->altstack || !x->dec || !x->lower || blocks_create(x))
        return -ENOMEM;
    int err = signals_acquire();
    x->signals = !err;
    return err;
}

/* What its events are stamped with. */
static void set_place(struct cpu *cpu) {
    if (!cpu->ring)
        return;
    cpu->ring->time = &cpu->insn_limit;
    cpu->ring->behind = &cpu->budget;
    cpu->ring->rip = &cpu->rip;
    cpu->ring->cr3 = &cpu->cr3;
    cpu->ring->cpl = &cpu->cpl;
}

int cpu_create(const struct cpu_config *cfg, struct cpu **out) {
    struct cpu_frame *f =
        mmap(NULL, sizeof *f, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (f == MAP_FAILED)
        return -ENOMEM;
    struct cpu *cpu = &f->cpu;
    cpu->mmu = cfg->mmu;
    cpu->bus = cfg->bus;
    cpu->model = cfg->model;
    cpu->stats = cfg->stats;
    cpu->ring = cfg->ring;
    cpu->apic_id = cfg->apic_id;
    cpu->rng = cfg->seed;
    cpu->host_clock = cfg->host_clock;
    cpu->host_start = cfg->host_start;
    set_entries(cpu);
    set_place(cpu);
    int err = pn_mmu_vcpu_create(cfg->mmu, &cpu->view, cfg->stats, cfg->ring, &cpu->vmmu);
    if (!err)
        err = xlat_create(cpu, cfg);
    if (err) {
        cpu_destroy(cpu);
        return err;
    }
    cpu_reset(cpu);
    *out = cpu;
    return 0;
}

void cpu_destroy(struct cpu *cpu) {
    if (!cpu)
        return;
    struct xlat *x = cpu->xlat;
    if (x) {
        if (x->hash)
            blocks_flush(x); /* gives the tracked pages back */
        blocks_destroy(x);
        if (x->signals)
            signals_release();
        decoder_destroy(x->dec);
        free(x->altstack);
        free(x->lower);
        free(x);
    }
    if (cpu->vmmu)
        pn_mmu_vcpu_destroy(cpu->vmmu);
    munmap(frame_of(cpu), sizeof(struct cpu_frame));
}

/* ---- Time ---- */

/* The clock stays; the budget reaches to the limit or to the end of a slice. */
static void set_slice(struct cpu *cpu, uint64_t slice) {
    uint64_t now = cpu_insns(cpu), limit = cpu->xlat->limit;
    uint64_t left = limit > now ? limit - now : 0;
    if (left > slice)
        left = slice;
    cpu->insn_limit = now + left;
    cpu->budget = (int64_t)left;
}

uint64_t cpu_clock(const struct cpu *cpu) {
    return cpu->host_clock ? host_ns() - cpu->host_start : cpu_insns(cpu);
}

void cpu_set_limit(struct cpu *cpu, uint64_t limit) {
    cpu->xlat->limit = limit;
    set_slice(cpu, SLICE);
}

/* What holds for the instruction that comes next goes along. */
void cpu_skip(struct cpu *cpu, uint64_t n) {
    uint64_t now = cpu_insns(cpu);
    uint64_t *const at[] = {&cpu->shadow_at, &cpu->rf_at, &cpu->fault_at};
    for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++)
        if (*at[i] == now)
            *at[i] += n;
    cpu->insn_limit += n; /* the clock is insn_limit - budget */
    set_slice(cpu, SLICE);
}

void cpu_kick(struct cpu *cpu) {
    cpu->kick = 1;
}

/* ---- Running blocks ---- */

static const uint8_t *code_of(const struct xlat *x, const struct block *b) {
    return x->rx + b->code;
}

/* What the block cache has at rip, for the jump caches too. Return: NULL with a fault. */
static const uint8_t *code_fresh(struct xlat *x) {
    struct cpu *cpu = x->cpu;
    struct block *b = block_find(x, false);
    if (!b)
        return NULL;
    if (cpu->view.fetch_gen == x->gen) /* else fetching flushed something */
        jc_put(cpu, cpu->rip, code_of(x, b));
    return code_of(x, b);
}

/* The TLB model has to see the page at rip, and the second one of a block that has two.
 */
static void show_code(struct xlat *x, const uint8_t *code) {
    unsigned room = PN_PAGE_SIZE - (code_linear(x->cpu, 0) & (PN_PAGE_SIZE - 1));
    fetch_show(x, code_linear(x->cpu, 0));
    if (room < INSN_BYTES_MAX && block_at(x, (uint32_t)(code - x->rx))->gpa2 != NO_PAGE)
        fetch_show(x, code_linear(x->cpu, room));
}

static const uint8_t *code_at(struct xlat *x) {
    const uint8_t *code = jc_find(x->cpu, x->cpu->rip);
    if (code && x->fetch_page)
        show_code(x, code);
    return code ? code : code_fresh(x);
}

/* After LEFT_CHAIN: find the target and link to it. */
static const uint8_t *follow(struct xlat *x, uint64_t left) {
    uint32_t id = (uint32_t)left >> 2, epoch = x->epoch;
    x->cpu->rip = x->exits[id].rip;
    struct block *to = block_find(x, false);
    if (!to)
        return NULL;
    if (x->epoch == epoch && to->gpa2 == NO_PAGE)
        block_chain(x, id, to);
    else if (x->epoch == epoch)
        block_cache_exit(x, id);
    return code_of(x, to);
}

/* After LEFT_BUDGET. Return: NULL with a fault, or when the budget is used up. */
static const uint8_t *misfit(struct xlat *x, const struct block *b, enum cpu_rc *rc) {
    struct cpu *cpu = x->cpu;
    cpu->rip = b->rip;
    if (b->dead)
        return code_fresh(x);
    if (cpu->budget <= 0) {
        *rc = CPU_NEXT;
        return NULL;
    }
    struct block *one = block_find(x, true);
    return one ? code_of(x, one) : NULL;
}

/* Run translated code until it leaves for a reason that a look-up does not answer.
 * Return: as a helper; CPU_NEXT also when only the budget ended. */
static enum cpu_rc run_blocks(struct xlat *x) {
    const uint8_t *code = code_at(x);
    enum cpu_rc rc = CPU_FAULT;
    while (code) {
        if (unlikely(x->cpu->debug.set != NULL) && debug_breaks(x->cpu))
            return CPU_NEXT;
        uint64_t left = xlat_enter(x->cpu, code);
        if (left == LEFT_MISS)
            code = x->fetch_page ? code_at(x) : code_fresh(x);
        else if ((left & 3) == LEFT_OTHER)
            return x->rc;
        else if ((left & 3) == LEFT_BUDGET)
            code = misfit(x, &x->blocks[left >> 2], &rc);
        else
            code = follow(x, left);
    }
    return rc;
}

/* Run exactly one instruction. */
static enum cpu_rc run_one(struct xlat *x) {
    struct cpu *cpu = x->cpu;
    set_slice(cpu, 1);
    struct block *b = block_find(x, true);
    if (!b)
        return CPU_FAULT;
    if (unlikely(cpu->debug.set != NULL) && debug_breaks(cpu))
        return CPU_NEXT;
    uint64_t left = xlat_enter(cpu, code_of(x, b));
    if (left == LEFT_MISS)
        return CPU_NEXT;
    if ((left & 3) == LEFT_OTHER)
        return x->rc;
    cpu->rip =
        (left & 3) == LEFT_BUDGET ? x->blocks[left >> 2].rip : x->exits[left >> 2].rip;
    return CPU_NEXT;
}

/* With TF set or a breakpoint armed. */
static enum cpu_rc run_debugged(struct xlat *x) {
    struct cpu *cpu = x->cpu;
    uint32_t mode = cpu->mode;
    uint64_t before = cpu_insns(cpu);
    enum cpu_rc rc = cpu_check_breakpoint(cpu);
    if (rc == CPU_FAULT)
        return rc;
    rc = run_one(x);
    if (rc != CPU_FAULT && rc != CPU_SHUTDOWN && cpu_insns(cpu) != before)
        cpu_insn_done(cpu, mode);
    return rc;
}

static bool is_debugged(const struct cpu *cpu) {
    return cpu->mode & (MODE_TF | MODE_SLOWMEM);
}

/* An interrupt would be taken before the next instruction. */
static bool interrupt_is_next(const struct cpu *cpu) {
    return cpu->intr_line && cpu->sys_flags & FL_IF && !cpu_shadowed(cpu) &&
           cpu->bus->intr_peek(cpu->bus->opaque, cpu->apic_id) >= 0;
}

/* With CR0.NE clear a pending x87 exception is told to the chipset, which interrupts (SDM
 * volume 1, "MS-DOS Compatibility Sub-mode"). Where no interrupt can come, be it that the
 * chipset asserts IGNNE#, the instruction runs as if the exception were masked: a processor
 * without IGNNE# would stand still there. */
static enum cpu_rc tell_ferr(struct xlat *x) {
    struct cpu *cpu = x->cpu;
    cpu->bus->ferr(cpu->bus->opaque, cpu->apic_id, true);
    if (interrupt_is_next(cpu))
        return CPU_NEXT;
    uint16_t ignored = x87_ignore(cpu);
    enum cpu_rc rc = is_debugged(cpu) ? run_debugged(x) : run_one(x);
    cpu_vec_save(cpu);
    x87_heed(cpu, ignored);
    return rc;
}

static enum cpu_rc take_fault(struct xlat *x) {
    struct cpu *cpu = x->cpu;
    enum cpu_rc rc = CPU_FAULT;
    cpu_vec_save(cpu);
    if (cpu->fault.vector == VEC_MF && !(cpu->cr0 & CR0_NE) && cpu->bus->ferr)
        rc = tell_ferr(x);
    return rc == CPU_FAULT ? cpu_deliver_fault(cpu) : rc;
}

static enum cpu_rc run_some(struct xlat *x) {
    struct cpu *cpu = x->cpu;
    enum cpu_rc rc;
    if (is_debugged(cpu))
        rc = run_debugged(x);
    else if (unlikely(cpu->debug.step) || (cpu_attention(cpu) && cpu_shadowed(cpu)))
        rc = run_one(x);
    else
        rc = run_blocks(x);
    if (rc == CPU_FAULT)
        rc = take_fault(x);
    if (unlikely(cpu->debug.step))
        debug_stepped(cpu);
    return rc;
}

/* Return: true when cpu_run is to return *why. */
static bool must_return(struct cpu *cpu, enum cpu_exit *why) {
    if (unlikely(cpu->debug.stop.why)) {
        *why = CPU_EXIT_DEBUG;
        return true;
    }
    if (cpu->kick || cpu->stop_request) {
        cpu->kick = cpu->stop_request = 0;
        *why = CPU_EXIT_STOP;
        return true;
    }
    if (cpu_insns(cpu) >= cpu->xlat->limit) {
        *why = CPU_EXIT_DEADLINE;
        return true;
    }
    return false;
}

static enum cpu_exit run_loop(struct xlat *x) {
    struct cpu *cpu = x->cpu;
    enum cpu_exit why;
    enum cpu_rc rc = CPU_NEXT;
    while (!must_return(cpu, &why)) {
        if (cpu_attention(cpu)) {
            cpu_vec_save(cpu);
            rc = cpu_poll_events(cpu);
        }
        if (rc == CPU_SHUTDOWN)
            return CPU_EXIT_SHUTDOWN;
        if (cpu->halted)
            return CPU_EXIT_HALT;
        if (unlikely(cpu->debug.step) && rc != CPU_NEXT) { /* an event was delivered */
            debug_stepped(cpu);
            continue;
        }
        if (x->flush)
            blocks_flush(x);
        set_slice(cpu, SLICE);
        salt_update(x);
        rc = run_some(x);
        if (rc == CPU_SHUTDOWN)
            return CPU_EXIT_SHUTDOWN;
    }
    return why;
}

enum cpu_exit cpu_run(struct cpu *cpu, uint64_t limit) {
    struct xlat *x = cpu->xlat;
    stack_t saved;
    x->limit = limit;
    debug_begin(cpu);
    signals_enter(x, &saved);
    enum cpu_exit why = run_loop(x);
    cpu_vec_save(cpu);
    debug_end(cpu);
    signals_leave(&saved);
    return why;
}
