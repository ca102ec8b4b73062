/* SPDX-License-Identifier: MIT */
/* What the files of the system half share: descriptors, stacks, events. Not for the
 * translator. */
#pragma once

#include <string.h>

#include "cpu/cpu.h"
#include "cpu/insn.h"
#include "cpu/model.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

static inline enum cpu_rc gp0(struct cpu *cpu) {
    return cpu_raise_code(cpu, VEC_GP, 0);
}

/* ---- Modes ---- */

static inline bool mode_long(const struct cpu *cpu) {
    return cpu->mode & MODE_LMA;
}
static inline bool mode_64(const struct cpu *cpu) {
    return cpu->mode & MODE_CODE64;
}
/* Protected mode proper: segments come from descriptor tables. */
static inline bool mode_prot(const struct cpu *cpu) {
    return (cpu->mode & (MODE_PE | MODE_VM86)) == MODE_PE;
}
/* May a shadow stack or the tracker have a part in a transfer of control? */
static inline bool cet_asked(const struct cpu *cpu) {
    return unlikely(cpu->cr4 & CR4_CET);
}
static inline unsigned iopl(const struct cpu *cpu) {
    return cpu->sys_flags >> 12 & 3;
}

static inline bool sign_extended(uint64_t a, bool la57) {
    unsigned shift = la57 ? 7 : 16;
    return (uint64_t)((int64_t)(a << shift) >> shift) == a;
}
/* May RIP or an access be there, under the paging that CR4 names? */
static inline bool canonical(const struct cpu *cpu, uint64_t a) {
    return sign_extended(a, cpu->cr4 & CR4_LA57);
}
/* May a register that holds an address be loaded with it: a base, a table, an MSR; or INVPCID
 * name it? That is up to the model, whatever CR4 says (Linux, arch/x86/kvm/mmu.h,
 * is_noncanonical_base_address and its neighbours, found on processors). */
static inline bool loadable(const struct cpu *cpu, uint64_t a) {
    return sign_extended(a, cpu_has(cpu, CPU_F_la57));
}

/* ---- A debugger's stops (debugger.c) ---- */

/* With cpu->debug.set, before the instruction at rip: is there a breakpoint that counts? It
 * is noted then. */
bool debug_breaks(struct cpu *cpu);
/* With cpu->debug.step: has one instruction, or the delivery of one event, been done? */
void debug_stepped(struct cpu *cpu);
/* Note an access that a watchpoint is for. */
void debug_watch(struct cpu *cpu, uint64_t address, unsigned size, bool write);
/* The accesses (enum pn_watch_access) that watchpoints in the page of lin are for. */
unsigned debug_watches(const struct cpu *cpu, pn_gva lin);
static inline unsigned debug_watched(const struct cpu *cpu, pn_gva lin) {
    return unlikely(cpu->debug.set) ? debug_watches(cpu, lin) : 0;
}
/* The TLB may have been filled for lin: what is watched there is kept back. */
void debug_keep_back(struct cpu *cpu, pn_gva lin);
/* A watched access was made: is the stop due? It is noted then. */
void debug_settle(struct cpu *cpu);
void debug_begin(struct cpu *cpu); /* cpu_run begins, and ends */
void debug_end(struct cpu *cpu);

/* ---- Descriptors ---- */

struct desc {
    uint64_t raw;
    pn_gva addr; /* linear address of its eight bytes */
};

static inline uint32_t desc_attr(uint64_t raw) {
    return raw >> 40 & 0xf0ff;
}
static inline unsigned desc_type(uint64_t raw) {
    return raw >> 40 & 15;
}
static inline unsigned desc_dpl(uint64_t raw) {
    return raw >> 45 & 3;
}
static inline bool desc_present(uint64_t raw) {
    return raw >> 47 & 1;
}
static inline bool desc_is_segment(uint64_t raw) { /* code or data, not system */
    return raw >> 44 & 1;
}
static inline bool desc_is_code(uint64_t raw) {
    return (raw >> 40 & (ATTR_S | TYPE_CODE)) == (ATTR_S | TYPE_CODE);
}
static inline bool desc_is_data(uint64_t raw) {
    return (raw >> 40 & (ATTR_S | TYPE_CODE)) == ATTR_S;
}
static inline bool desc_long(uint64_t raw) {
    return raw >> 53 & 1;
}
static inline bool desc_big(uint64_t raw) {
    return raw >> 54 & 1;
}
static inline uint32_t desc_base(uint64_t raw) {
    return (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000);
}
static inline uint32_t desc_limit(uint64_t raw) {
    uint32_t limit = (raw & 0xffff) | (raw >> 32 & 0xf0000);
    return raw >> 55 & 1 ? limit << 12 | 0xfff : limit;
}

static inline unsigned attr_dpl(uint32_t attr) {
    return attr >> 5 & 3;
}

static inline bool sel_null(uint16_t sel) {
    return !(sel & 0xfffc);
}

/* seg.c. Read the descriptor of sel. Beyond its table, or in an unusable LDT: `vector`
 * with the selector and `ext` as error code. Return: CPU_NEXT or CPU_FAULT. */
enum cpu_rc desc_fetch(struct cpu *cpu, uint16_t sel, uint8_t vector, unsigned ext,
                       struct desc *d);
/* Set the accessed bit in memory and in d, if clear. */
enum cpu_rc desc_touch(struct cpu *cpu, struct desc *d);
/* Fill a segment register from a descriptor that has passed its checks. */
void seg_set(struct pn_segment *s, uint16_t sel, uint64_t raw);
/* A null selector: unusable, base and limit 0. */
void seg_set_null(struct pn_segment *s, uint16_t sel);
/* As real mode (vm86: as virtual-8086 mode) loads a segment register. */
void seg_set_real(struct pn_segment *s, uint16_t sel, bool vm86);
/* Check sel and descriptor for SS at `cpl`; faults are `vector` with sel|ext (SDM: #GP
 * for MOV SS and IRET, #TS for inner stacks), #SS when not present. sel is not null. */
enum cpu_rc ss_fetch(struct cpu *cpu, uint16_t sel, unsigned cpl, uint8_t vector,
                     unsigned ext, struct desc *d);
/* Load DS, ES, FS, GS or SS as MOV does in the present mode. */
enum cpu_rc seg_load(struct cpu *cpu, unsigned seg, uint16_t sel);
/* On a return to an outer ring: data segments that the new CPL may not use become null. Their
 * base and limit stay (SDM volume 2, "IRET": the selector becomes null; kvm-unit-tests' emulator
 * test reads by such a GS on any processor). */
void seg_drop_privileged(struct cpu *cpu, unsigned cpl);

/* ---- Memory (mem.c, segmem.c) ---- */

/* Do size bytes at offset end beyond a segment of 4 GiB, where the vendor looks at that? */
bool seg_past_4g(const struct cpu *cpu, uint64_t offset, unsigned size);

/* What an address size leaves of an offset or a count. */
static inline uint64_t addr_mask(unsigned addrsize) {
    return addrsize == 8 ? ~UINT64_C(0) : (UINT64_C(1) << addrsize * 8) - 1;
}

/* Read or write at an offset of a segment; the offset of in's memory operand. */
enum cpu_rc seg_read(struct cpu *cpu, unsigned seg, uint64_t offset, void *buf,
                     unsigned size);
enum cpu_rc seg_write(struct cpu *cpu, unsigned seg, uint64_t offset, const void *buf,
                      unsigned size);
uint64_t operand_offset(const struct cpu *cpu, const struct insn *in);
/* State areas: a misaligned one is #GP before its address is looked at in any other way.
 * Return: CPU_NEXT or CPU_FAULT. */
enum cpu_rc operand_aligned(struct cpu *cpu, const struct insn *in, unsigned align);
/* With MODE_ALIGN: #AC unless lin is aligned as an operand of that size must be. */
enum cpu_rc lin_aligned(struct cpu *cpu, pn_gva lin, unsigned size);
/* The memory operand of in as a whole; as a far pointer with an offset of `size` bytes;
 * op i as a selector (in memory always 16 bits; a register takes its operand's size). */
enum cpu_rc operand_read(struct cpu *cpu, const struct insn *in, void *buf,
                         unsigned size);
enum cpu_rc operand_write(struct cpu *cpu, const struct insn *in, const void *buf,
                          unsigned size);
enum cpu_rc far_read(struct cpu *cpu, const struct insn *in, unsigned size,
                     uint64_t *offset, uint16_t *sel);
enum cpu_rc sel_read(struct cpu *cpu, const struct insn *in, unsigned i, uint16_t *sel);
enum cpu_rc sel_write(struct cpu *cpu, const struct insn *in, uint16_t sel);

/* The inline TLB hit, as translated code does it, of an access that is made. Return: host
 * address, or NULL. */
static inline uint8_t *mem_hit(struct cpu *cpu, pn_gva lin, unsigned size,
                               enum pn_access access, enum pn_tlb_mode mode) {
    const struct pn_tlb_entry *e =
        &cpu->view.tlb[mode][lin >> PN_PAGE_SHIFT & (PN_TLB_ENTRIES - 1)];
    if (unlikely((e->tag[access] ^ lin) > PN_PAGE_SIZE - size))
        return NULL;
    if (unlikely(cpu->fetches != NULL))
        pn_tlb_used(&cpu->view, e);
    return (uint8_t *)e->hva + (lin & (PN_PAGE_SIZE - 1));
}

/* Naturally sized accesses stay single accesses, for other threads' sake. */
static inline void mem_copy(void *to, const void *from, unsigned size) {
    switch (size) {
    case 1:
        memcpy(to, from, 1);
        break;
    case 2:
        memcpy(to, from, 2);
        break;
    case 4:
        memcpy(to, from, 4);
        break;
    case 8:
        memcpy(to, from, 8);
        break;
    default:
        memcpy(to, from, size);
    }
}

/* cpu_read_lin and cpu_write_lin with the hit inline. */
static inline enum cpu_rc lin_read(struct cpu *cpu, pn_gva lin, void *buf, unsigned size,
                                   enum pn_tlb_mode mode) {
    const uint8_t *p = mem_hit(cpu, lin, size, PN_READ, mode);
    if (unlikely(!p || cpu->mode & MODE_SLOWMEM))
        return cpu_read_lin(cpu, lin, buf, size, mode);
    mem_copy(buf, p, size);
    return CPU_NEXT;
}
static inline enum cpu_rc lin_write(struct cpu *cpu, pn_gva lin, const void *buf,
                                    unsigned size, enum pn_tlb_mode mode) {
    uint8_t *p = mem_hit(cpu, lin, size, PN_WRITE, mode);
    if (unlikely(!p || cpu->mode & MODE_SLOWMEM))
        return cpu_write_lin(cpu, lin, buf, size, mode);
    mem_copy(p, buf, size);
    return CPU_NEXT;
}

/* Descriptor tables, TSS: supervisor accesses whatever the CPL. Outside long mode they
 * wrap at 4 GiB. */
static inline pn_gva sys_lin(const struct cpu *cpu, pn_gva lin) {
    return likely(mode_long(cpu)) ? lin : (uint32_t)lin;
}
static inline enum cpu_rc sys_read(struct cpu *cpu, pn_gva lin, void *buf, unsigned n) {
    return lin_read(cpu, sys_lin(cpu, lin), buf, n, PN_TLB_SUPER);
}
static inline enum cpu_rc sys_write(struct cpu *cpu, pn_gva lin, const void *buf,
                                    unsigned n) {
    return lin_write(cpu, sys_lin(cpu, lin), buf, n, PN_TLB_SUPER);
}

/* A stack while it is pushed to or popped from; nothing is committed to RSP until
 * stack_commit. */
struct stack {
    const struct pn_segment *seg; /* NULL: 64-bit, no segment */
    uint64_t sp;
    uint64_t mask;  /* stack pointer width: 0xffff, 0xffffffff, ~0 */
    uint32_t error; /* error code of #SS */
    enum pn_tlb_mode mode;
};
enum cpu_rc stack_push_slow(struct cpu *cpu, struct stack *st, uint64_t value,
                            unsigned size);
enum cpu_rc stack_pop_slow(struct cpu *cpu, struct stack *st, unsigned size,
                           uint64_t *value);

/* The present stack. */
static inline void stack_here(const struct cpu *cpu, struct stack *st) {
    bool wide = mode_64(cpu);
    st->seg = wide ? NULL : &cpu->seg[SEG_SS];
    st->mask = wide ? UINT64_MAX : cpu->mode & MODE_SS32 ? UINT32_MAX : UINT16_MAX;
    st->sp = cpu->gpr[R_SP];
    st->error = 0;
    st->mode = cpu_tlb_mode(cpu);
}

/* A TLB hit needs no canonical check. */
static inline bool stack_plain(const struct cpu *cpu, const struct stack *st) {
    return !st->seg && !(cpu->mode & (MODE_ALIGN | MODE_SLOWMEM));
}

static inline enum cpu_rc stack_push(struct cpu *cpu, struct stack *st, uint64_t value,
                                     unsigned size) {
    uint8_t *p = mem_hit(cpu, st->sp - size, size, PN_WRITE, st->mode);
    if (unlikely(!p || !stack_plain(cpu, st)))
        return stack_push_slow(cpu, st, value, size);
    mem_copy(p, &value, size);
    st->sp -= size;
    return CPU_NEXT;
}

static inline enum cpu_rc stack_pop(struct cpu *cpu, struct stack *st, unsigned size,
                                    uint64_t *value) {
    const uint8_t *p = mem_hit(cpu, st->sp, size, PN_READ, st->mode);
    if (unlikely(!p || !stack_plain(cpu, st)))
        return stack_pop_slow(cpu, st, size, value);
    *value = 0;
    mem_copy(value, p, size);
    st->sp += size;
    return CPU_NEXT;
}

void stack_commit(struct cpu *cpu, const struct stack *st);
/* Push one value onto the present stack. */
enum cpu_rc stack_push_one(struct cpu *cpu, uint64_t value, unsigned size);

/* An inner ring's stack (inner.c). inner_stack reads and checks it (faults #TS, #SS);
 * after the pushes inner_touch, then, when nothing can fault any more, inner_commit. */
struct inner {
    struct stack st;
    struct pn_segment ss;
    struct desc d;
    unsigned cpl;
    bool null; /* long mode: no segment, SS becomes null */
};
enum cpu_rc inner_stack(struct cpu *cpu, unsigned cpl, unsigned ext, struct inner *in);
enum cpu_rc inner_touch(struct cpu *cpu, struct inner *in);
void inner_commit(struct cpu *cpu, const struct inner *in);

/* Load RSP from a frame: all of it, or as wide as the SS now loaded says. */
void set_stack_pointer(struct cpu *cpu, bool to64, uint64_t sp);
/* May control go to offset rip of the code segment raw? #GP(0); #GP(sel) for L with D. */
enum cpu_rc code_offset_check(struct cpu *cpu, uint64_t raw, uint16_t sel, uint64_t rip);

/* iret.c, for RETF too: check the code segment and offset returned to; then SS, if the
 * return pops it (a null one that is allowed has d->raw 0), and load it. */
enum cpu_rc ret_code(struct cpu *cpu, uint16_t sel, uint64_t rip, struct desc *d);
enum cpu_rc ret_stack(struct cpu *cpu, uint16_t sel, unsigned cpl, bool to64,
                      struct desc *d);
void ret_set_stack(struct cpu *cpu, uint16_t sel, const struct desc *d);

static inline uint64_t next_rip(const struct cpu *cpu, const struct insn *in) {
    uint64_t next = in->rip + in->len;
    return mode_64(cpu)              ? next
           : cpu->mode & MODE_CODE32 ? (uint32_t)next
                                     : (uint16_t)next;
}

/* ---- Flags (flags.c) ---- */

/* cpu_update_mode when nothing changed but CS, SS, CPL and RFLAGS. */
static inline void mode_ring_changed(struct cpu *cpu) {
    const uint32_t kept = MODE_NOFPU | MODE_NOSSE | MODE_NOAVX | MODE_EVEX |
                          MODE_SLOWMEM | MODE_PE | MODE_LMA | MODE_GUEST;
    if (unlikely(!(cpu->seg[SEG_CS].attr & ATTR_L) || !mode_long(cpu) ||
                 cpu->sys_flags & (FL_AC | FL_TF) || cpu->cr4 & CR4_CET)) {
        cpu_update_mode(cpu);
        return;
    }
    cpu->mode = (cpu->mode & kept) | MODE_CODE64 | MODE_FLAT |
                (cpu->cpl == 3 ? MODE_CPL3 : 0) |
                (cpu->cpl <= iopl(cpu) ? MODE_IOPRIV : 0);
}

/* What IRET and friends load: RF is live for the instruction after this one. */
void flags_load(struct cpu *cpu, uint64_t rflags);

/* ---- Events (exc.c) ---- */

enum event_kind {
    EVENT_FAULT,    /* an exception of the processor's */
    EVENT_SOFT,     /* INT n, INT3, INTO: gate DPL is checked, EXT is 0 */
    EVENT_ICEBP,    /* INT1: no DPL check, EXT is 1 */
    EVENT_EXTERNAL, /* interrupt or NMI */
};

struct event {
    uint8_t vector;
    uint8_t kind;
    bool has_error;
    bool redirected; /* to the vector table of virtual-8086 mode's program (vme.h) */
    uint32_t error;
    uint64_t rip; /* pushed: of the instruction, or of the next one */
};

/* One attempt at delivery. Return: CPU_JUMP, or CPU_FAULT with what came in between. */
enum cpu_rc event_deliver(struct cpu *cpu, const struct event *ev);
/* The same outside long mode (exc_legacy.c). */
enum cpu_rc event_deliver_real(struct cpu *cpu, const struct event *ev);
enum cpu_rc event_deliver_prot(struct cpu *cpu, const struct event *ev);
/* Deliver ev, and whatever its delivery brings, until a handler is entered. Return: as
 * cpu_deliver_fault. */
enum cpu_rc event_chain(struct cpu *cpu, struct event ev);
/* The handler's code segment, and the CPL that it runs at. */
enum cpu_rc event_code(struct cpu *cpu, uint16_t sel, unsigned ext, struct desc *cs,
                       uint8_t *cpl);
/* Does the pushed image have RF set? */
static inline bool event_sets_rf(const struct event *ev) {
    return ev->kind == EVENT_FAULT && ev->vector != VEC_DB && ev->vector != VEC_BP &&
           ev->vector != VEC_OF && ev->vector != VEC_DF && ev->vector != VEC_MC;
}
/* RFLAGS as the event pushes it. */
static inline uint64_t event_rflags(const struct cpu *cpu, const struct event *ev) {
    uint64_t rflags = cpu_rflags(cpu);
    if (ev->kind == EVENT_FAULT && ev->vector == VEC_DB &&
        !cpu_follows(cpu, RULE_step_rf))
        rflags &= ~(uint64_t)FL_RF;
    return rflags | (event_sets_rf(ev) ? FL_RF : 0);
}
static inline unsigned event_ext(const struct event *ev) {
    return ev->kind != EVENT_SOFT;
}

/* debug.c. Go on with a delivery that another engine had begun. */
enum cpu_rc cpu_poll_injected(struct cpu *cpu);

/* ---- Task switch (task.c) ---- */

enum task_reason { TASK_JMP, TASK_CALL, TASK_IRET, TASK_GATE };

/* Switch to the TSS that sel names. rip: what the old task's EIP becomes. ev: the event
 * that came through a task gate (its error code goes onto the new stack), else NULL. Once
 * the new task's registers are loaded faults belong to it: those of JMP, CALL and IRET
 * are delivered here, those of events are returned. Return: as event_deliver, or what
 * cpu_deliver_fault returned. */
enum cpu_rc task_switch(struct cpu *cpu, uint16_t sel, enum task_reason reason,
                        uint64_t rip, const struct event *ev);
