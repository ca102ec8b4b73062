/* SPDX-License-Identifier: MIT */
/*
 * The life of a CPU and its dispatcher.
 *
 * Time. cpu->budget counts down to insn_limit: the end of a slice or the caller's limit,
 * whichever is nearer. A slice only makes the CPU look at `kick` now and then, before a block
 * that does not fit into it; nobody can tell where slices end. A block that does not fit in
 * before the limit is not begun: its instructions run one at a time, so every deadline is exact.
 *
 * Invariant: events are polled between blocks only. That is enough because everything
 * that can raise one leaves translated code.
 * This file is compiled without vector registers: while vec_live they are the guest's.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/pages.h"
#include "cpu/decode.h"
#include "cpu/nested.h"
#include "cpu/turn.h"
#include "cpu/xlat.h"
#include "cpu/xstate.h"

#define SLICE (1u << 20)
/* With vCPUs that are threads others may wait for the end of one, as may an interrupt: a
 * microsecond or two. */
#define SLICE_PAR (1u << 11)
/* Who pauses in so many of them, one after another, waits for another vCPU, which may wait for a
 * processor of the host's. (KVM: pause-loop exiting and kvm_vcpu_on_spin.) */
#define SPIN_SLICES  8u
#define CODE_DEFAULT (32u << 20)
/* A guest that is a hypervisor has its own code and its guests'. */
#define CODE_NESTED (64u << 20)
#define CODE_MODEL  (48u << 20) /* code that tells a TLB model what it does is longer */
#define CODE_MIN    (2u << 20)
#define CODE_MOST   (512u << 20)

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
    size_t size = cfg->code_bytes             ? cfg->code_bytes
                  : pn_mmu_fetches(cpu->vmmu) ? CODE_MODEL
                                              : CODE_DEFAULT;
    if (!cfg->code_bytes && (cpu_has(cpu, CPU_F_svm) || cpu_has(cpu, CPU_F_vmx)))
        size = CODE_NESTED;
    size = size < CODE_MIN ? CODE_MIN : size > CODE_MOST ? CODE_MOST : size;
    cpu->xlat = x;
    x->cpu = cpu;
    x->fd = -1;
    x->for_perf = cfg->code_for_perf;
    x->resume.block = x->resume.exit = NO_BLOCK;
    x->size = (size + PN_PAGE_SIZE - 1) & PN_PAGE_MASK;
    x->max_n = cfg->max_block && cfg->max_block < BLOCK_MAX ? cfg->max_block : BLOCK_MAX;
    x->bmi2 = __builtin_cpu_supports("bmi2");
    if (pn_mmu_fetches(cpu->vmmu)) {
        cpu->fetches = &frame_of(cpu)->fetches;
        pn_mmu_fetches_move(cpu->vmmu, cpu->fetches);
    }
    x->fetch_page = cpu->fetches ? &cpu->fetches->page : NULL;
    cpu->jit.r8 = cpu->fetches ? &cpu->view.stamp : &cpu->gpr[8];
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
    cpu->ring->rsp = &cpu->gpr[4];
}

int cpu_create(const struct cpu_config *cfg, struct cpu **out) {
    struct cpu_frame *f =
        mmap(NULL, sizeof *f, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (f == MAP_FAILED)
        return -ENOMEM;
    pages_want(f, sizeof *f);
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
    cpu->par = cfg->par;
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
    __atomic_store_n(&cpu->kick, 1, __ATOMIC_RELAXED);
}

/* ---- Running blocks ---- */

/* xlat_enter, without the lock; afterwards it is not held, or still is what C code left it. */
static inline uint64_t enter_out(struct cpu *cpu, const uint8_t *code) {
    if (unlikely(cpu->par && cpu->turn))
        turn_give(cpu);
    uint64_t left = xlat_enter(cpu, code);
    if ((left & 3) == LEFT_BUDGET) {
        const struct block *b = &cpu->xlat->blocks[left >> 2];
        cpu->budget += b->dead || b->trap ? 0 : b->n;
    }
    return left;
}

/* Under the lock again. */
static void come_in(struct cpu *cpu) {
    if (likely(!cpu->par))
        return;
    turn_take(cpu);
    cpu->owed.count = 0; /* of an instruction that has faulted */
}

static bool is_debugged(const struct cpu *cpu) {
    return cpu->mode & (MODE_TF | MODE_SLOWMEM);
}

static uint64_t enter(struct cpu *cpu, const uint8_t *code) {
    uint64_t left = enter_out(cpu, code);
    come_in(cpu);
    return left;
}

static const uint8_t *code_of(const struct xlat *x, const struct block *b) {
    return x->rx + b->code;
}

/* What the block cache has at rip, for the jump caches too. Return: NULL with a fault. */
static const uint8_t *code_fresh(struct xlat *x) {
    struct cpu *cpu = x->cpu;
    const uint8_t *code = block_code(x);
    if (code && cpu->view.fetch_gen == cpu->jc_gen) /* else fetching flushed something */
        jc_put(cpu, cpu->rip, code);
    return code;
}

/* The TLB model has to see the page at rip, and the second one of a block that has two.
 */
static void show_code(struct xlat *x, const uint8_t *code) {
    const struct block_head *head = (const void *)(code - sizeof(*head));
    unsigned room = PN_PAGE_SIZE - (code_linear(x->cpu, 0) & (PN_PAGE_SIZE - 1));
    fetch_show(x, code_linear(x->cpu, 0));
    if (room < INSN_BYTES_MAX && head->page == NO_PAGE &&
        block_at(x, (uint32_t)(code - x->rx))->across != NO_BLOCK)
        fetch_show(x, code_linear(x->cpu, room));
}

const uint8_t *code_known(struct xlat *x) {
    const uint8_t *code = jc_find(x->cpu, x->cpu->rip);
    if (code && x->fetch_page)
        show_code(x, code);
    return code;
}

static const uint8_t *code_at(struct xlat *x) {
    const uint8_t *code = code_known(x);
    return code ? code : code_fresh(x);
}

/* A part of a block leaves as the whole one would. Return: that one's exit. */
static uint32_t exit_of_whole(const struct xlat *x, uint32_t id) {
    const struct block *part = &x->blocks[x->exits[id].from],
                       *b = &x->blocks[part->whole];
    unsigned idx = part->first + x->exits[id].idx;
    for (uint32_t i = b->exits; !b->dead && i < b->exits + b->exit_count; i++)
        if (x->exits[i].idx == idx &&
            exit_rip(x, &x->exits[i]) == exit_rip(x, &x->exits[id]))
            return i;
    return id;
}

/* After LEFT_CHAIN: find the target and link to it. */
static const uint8_t *follow(struct xlat *x, uint64_t left) {
    uint32_t id = (uint32_t)left >> 2, epoch = x->epoch;
    x->cpu->rip = exit_rip(x, &x->exits[id]);
    if (unlikely(x->blocks[x->exits[id].from].part)) {
        id = exit_of_whole(x, id);
        if (x->exits[id].to != NO_BLOCK)
            return code_of(x, &x->blocks[x->exits[id].to]);
        if (!x->exits[id].patch)
            return code_at(x);
    }
    struct block *to = block_find(x, false);
    if (!to)
        return NULL;
    if (x->epoch == epoch && to->across == NO_BLOCK)
        block_chain(x, id, to);
    else if (x->epoch == epoch)
        block_cache_exit(x, id);
    return code_of(x, to);
}

/* The run that follows a debugger's stop goes on there, as this run would have: it fetches
 * nothing anew. */
static void resume_at(struct xlat *x, const struct block *b, unsigned idx,
                      uint32_t exit) {
    x->resume.block = b ? (uint32_t)(b - x->blocks) : NO_BLOCK;
    x->resume.exit = exit;
    x->resume.idx = idx;
    x->resume.epoch = x->epoch;
    x->resume.gen = x->cpu->view.fetch_gen;
}

/* Is there a breakpoint that counts? */
static bool stops_before(struct xlat *x, const struct block *b) {
    if (!x->cpu->debug.set || !debug_breaks(x->cpu))
        return false;
    resume_at(x, b, 0, NO_BLOCK);
    return true;
}

static const uint8_t *code_behind_head(struct xlat *x, const struct block *b) {
    x->cpu->budget -= b->n;
    return code_of(x, b) + x->head;
}

static void give_way(struct cpu *cpu) {
    if (!cpu->paused)
        cpu->waits = 0;
    else if (cpu->waits < SPIN_SLICES)
        cpu->waits++;
    cpu->paused = 0;
    if (cpu->waits == SPIN_SLICES)
        sched_yield();
}

/* Where vCPUs are threads a slice that ends is no reason to come in while nothing is due. */
static bool next_slice(struct xlat *x) {
    struct cpu *cpu = x->cpu;
    if (likely(!cpu->par) || cpu->turn || turn_due(cpu) || cpu_kicked(cpu) ||
        cpu->stop_request || x->flush || parallel_asked(cpu->par, cpu->apic_id))
        return false;
    give_way(cpu);
    set_slice(cpu, SLICE_PAR);
    return true;
}

/* After LEFT_BUDGET, which is also what a trap leaves with. Return: NULL with a fault, or when the budget is used up. */
static const uint8_t *misfit(struct xlat *x, const struct block *b, enum cpu_rc *rc) {
    struct cpu *cpu = x->cpu;
    cpu->rip = b->rip;
    if (b->dead)
        return code_fresh(x);
    if (cpu->budget < b->n && cpu->insn_limit < x->limit && !cpu->vmx.timer &&
        !next_slice(x)) { /* the slice ends, and nothing is due there */
        resume_at(x, b, 0, NO_BLOCK);
        *rc = CPU_NEXT;
        return NULL;
    }
    if (cpu->budget <= 0 || (b->trap && stops_before(x, b))) {
        *rc = CPU_NEXT;
        return NULL;
    }
    if (cpu->budget >= b->n)
        return b->trap ? code_behind_head(x, b) : code_of(x, b);
    struct block *one = block_find(x, true);
    return one ? code_of(x, one) : NULL;
}

/* The word that a debugger's stop left of what comes next holds once, and only if nothing has
 * changed it. */
static bool word_holds(struct xlat *x) {
    const struct cpu *cpu = x->cpu;
    uint32_t block = x->resume.block, exit = x->resume.exit;
    bool holds = x->resume.epoch == x->epoch && x->resume.gen == cpu->view.fetch_gen;
    if (holds && exit != NO_BLOCK)
        holds = exit_rip(x, &x->exits[exit]) == cpu->rip &&
                x->blocks[x->exits[exit].from].mode == cpu->mode;
    else if (holds)
        holds = block_rip(x, &x->blocks[block], x->resume.idx) == cpu->rip &&
                x->blocks[block].mode == cpu->mode;
    x->resume.block = x->resume.exit = NO_BLOCK;
    if (!holds)
        return false;
    x->resume.block = block;
    x->resume.exit = exit;
    return true;
}

static inline bool takes_word(struct xlat *x) {
    return unlikely(x->resume.block != NO_BLOCK || x->resume.exit != NO_BLOCK) &&
           word_holds(x);
}

/* Where a run begins: see misfit for rc. */
static const uint8_t *code_first(struct xlat *x, enum cpu_rc *rc) {
    if (!takes_word(x))
        return code_at(x);
    uint32_t block = x->resume.block, exit = x->resume.exit;
    unsigned idx = x->resume.idx;
    x->resume.block = x->resume.exit = NO_BLOCK;
    if (exit != NO_BLOCK)
        return follow(x, (uint64_t)exit << 2);
    const struct block *b = &x->blocks[block];
    if (idx)
        b = block_part(x, b, idx, b->n - idx);
    if (!b)
        return code_at(x);
    return b->dead || b->trap ? misfit(x, b, rc) : code_of(x, b);
}

/* A #PF that was found out of the lock is delivered there, too. *rc: why code was left, and is
 * left. Return: the handler's code; NULL: what is to be done next needs the lock. */
static const uint8_t *faulted(struct xlat *x, enum cpu_rc *rc) {
    struct cpu *cpu = x->cpu;
    *rc = x->rc;
    if (likely(!cpu->par) || cpu->turn || *rc != CPU_FAULT ||
        cpu->fault.vector != VEC_PF || cpu->debug.set || cpu->debug.step)
        return NULL;
    cpu_vec_save(cpu);
    cpu->owed.count = 0;
    *rc = cpu_deliver_fault(cpu);
    if (*rc != CPU_JUMP || turn_due(cpu) || cpu_kicked(cpu) || cpu->stop_request ||
        x->flush || cpu->budget <= 0 || is_debugged(cpu))
        return NULL;
    *rc = CPU_FAULT; /* should there be no code */
    salt_update(x);
    return code_at(x);
}

/* Run translated code until it leaves for a reason that a look-up does not answer.
 * Return: as a helper; CPU_NEXT also when only the budget ended. */
static enum cpu_rc run_blocks(struct xlat *x) {
    enum cpu_rc rc = CPU_FAULT;
    const uint8_t *code = code_first(x, &rc);
    while (code) {
        uint64_t left = enter_out(x->cpu, code);
        if (left == LEFT_MISS)
            code = x->fetch_page ? code_at(x) : code_fresh(x);
        else if ((left & 3) == LEFT_OTHER)
            code = faulted(x, &rc);
        else if ((left & 3) == LEFT_BUDGET)
            code = misfit(x, &x->blocks[left >> 2], &rc);
        else
            code = follow(x, left);
    }
    come_in(x->cpu);
    return rc;
}

/* Run exactly one instruction. */
static enum cpu_rc run_one(struct xlat *x) {
    struct cpu *cpu = x->cpu;
    set_slice(cpu, 1);
    struct block *b = block_find(x, true);
    if (!b)
        return CPU_FAULT;
    if (b->trap && stops_before(x, b))
        return CPU_NEXT;
    uint64_t left = enter(cpu, code_behind_head(x, b));
    if (left == LEFT_MISS)
        return CPU_NEXT;
    if ((left & 3) == LEFT_OTHER)
        return x->rc;
    cpu->rip = (left & 3) == LEFT_BUDGET ? x->blocks[left >> 2].rip
                                         : exit_rip(x, &x->exits[left >> 2]);
    return CPU_NEXT;
}

/* The block that comes next, and in *idx at which instruction. Return: NULL with a fault, or
 * when a breakpoint stops the step: *rc says which. */
static const struct block *step_first(struct xlat *x, unsigned *idx, enum cpu_rc *rc) {
    *idx = 0;
    *rc = CPU_FAULT;
    if (takes_word(x) && x->resume.block != NO_BLOCK &&
        !x->blocks[x->resume.block].dead) {
        *idx = x->resume.idx;
        return &x->blocks[x->resume.block];
    }
    const uint8_t *code = code_first(x, rc);
    if (code && block_at(x, (uint32_t)(code - x->rx))->dead)
        code = code_fresh(x);
    return code ? block_at(x, (uint32_t)(code - x->rx)) : NULL;
}

/* A debugger's step: the first instruction of what would run now, and nothing else. */
static enum cpu_rc run_step(struct xlat *x) {
    struct cpu *cpu = x->cpu;
    enum cpu_rc rc;
    unsigned idx;
    const struct block *b = step_first(x, &idx, &rc);
    if (!b)
        return rc;
    uint32_t epoch = x->epoch;
    uint64_t next = idx + 1 < b->n ? block_rip(x, b, idx + 1) : cpu->rip;
    const struct block *one = b->n == 1 ? b : block_part(x, b, idx, 1);
    if (!one || one->dead)
        return run_one(x);
    x->resume.block = x->resume.exit = NO_BLOCK;
    if (one->trap && stops_before(x, one))
        return CPU_NEXT;
    set_slice(cpu, 1);
    uint64_t left = enter(cpu, code_behind_head(x, one));
    if (left == LEFT_MISS)
        return CPU_NEXT;
    if ((left & 3) == LEFT_OTHER)
        return x->rc;
    if ((left & 3) == LEFT_BUDGET) {
        cpu->rip = x->blocks[left >> 2].rip;
        resume_at(x, &x->blocks[left >> 2], 0, NO_BLOCK);
        return CPU_NEXT;
    }
    cpu->rip = exit_rip(x, &x->exits[left >> 2]);
    if (epoch == x->epoch && cpu->rip == next && idx + 1 < b->n)
        resume_at(x, b, idx + 1, NO_BLOCK);
    else
        resume_at(x, NULL, 0, (uint32_t)left >> 2);
    return CPU_NEXT;
}

/* With TF set or a breakpoint armed. */
static enum cpu_rc run_debugged(struct xlat *x) {
    struct cpu *cpu = x->cpu;
    uint32_t mode = cpu->mode;
    uint64_t before = cpu_insns(cpu);
    bool guest = cpu_in_guest(cpu);
    enum cpu_rc rc = cpu_check_breakpoint(cpu);
    if (rc == CPU_FAULT)
        return rc;
    rc = run_one(x);
    if (rc != CPU_FAULT && rc != CPU_SHUTDOWN && cpu_insns(cpu) != before &&
        cpu_in_guest(cpu) == guest)
        cpu_insn_done(cpu, mode);
    return rc;
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
    else if (cpu_attention(cpu) && cpu_shadowed(cpu))
        rc = run_one(x);
    else if (unlikely(cpu->debug.step))
        rc = run_step(x);
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
    if (unlikely(cpu->debug.hit.why))
        debug_settle(cpu);
    if (unlikely(cpu->debug.stop.why)) {
        *why = CPU_EXIT_DEBUG;
        return true;
    }
    if (cpu_kicked(cpu) || cpu->stop_request) {
        __atomic_store_n(&cpu->kick, 0, __ATOMIC_RELAXED);
        cpu->stop_request = 0;
        *why = CPU_EXIT_STOP;
        return true;
    }
    if (cpu_insns(cpu) >= cpu->xlat->limit) {
        *why = CPU_EXIT_DEADLINE;
        return true;
    }
    return false;
}

/* How long to go on, of `most`, without a look at VMX's preemption timer, which is on; once it
 * has run down vmx_poll sees it. */
static uint64_t timer_slice(struct cpu *cpu, uint64_t most) {
    uint64_t left = vmx_timer_left(cpu);
    cpu->intr_line |= !left;
    return left < most ? left + !left : most;
}

uint64_t cpu_wakes(const struct cpu *cpu) {
    return cpu->vmx.timer && cpu->halted == PN_HALTED
               ? cpu_insns(cpu) + vmx_timer_left(cpu)
               : UINT64_MAX;
}

static enum cpu_exit run_loop(struct xlat *x) {
    struct cpu *cpu = x->cpu;
    enum cpu_exit why;
    enum cpu_rc rc = CPU_NEXT;
    while (!must_return(cpu, &why)) {
        uint64_t slice = cpu->par ? SLICE_PAR : SLICE;
        if (unlikely(cpu->vmx.timer))
            slice = timer_slice(cpu, slice);
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
        if (unlikely(cpu->vmx.timer) && rc != CPU_NEXT && !vmx_timer_left(cpu))
            continue; /* an event was delivered; the exit comes before its handler */
        if (x->flush)
            blocks_flush(x);
        set_slice(cpu, slice);
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
    cpu->turn = cpu->par; /* whose lock the caller holds */
    if (unlikely(cpu->svm.stale | cpu->vmx.stale))
        nested_refresh(cpu);
    debug_begin(cpu);
    signals_enter(x, &saved);
    enum cpu_exit why = run_loop(x);
    cpu_vec_save(cpu);
    debug_end(cpu);
    signals_leave(&saved);
    return why;
}
