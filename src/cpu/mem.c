/* SPDX-License-Identifier: MIT */
/*
 * Memory at linear addresses: the inline TLB hit, and everything that is not one.
 *
 * Invariants
 * 1. A write that faults has written nothing: every page is translated for the access
 *    before the first byte is stored.
 * 2. A store that spans pages, or that others must see, goes through pn_mmu_vcpu_write:
 *    translating its second page may have made the first one a tracked page.
 * 3. With cpu_watches every access that is not a hit is shown to cpu_watch after it has
 *    passed its checks; with MODE_SLOWMEM all are.
 */
#include "cpu/turn.h"
#include "cpu/vmx.h"

struct piece {
    pn_gpa gpa;
    uint8_t *hva;
    unsigned size;
    uint8_t kind; /* enum pn_answer */
};

/* ---- Faults ---- */

enum cpu_rc cpu_raise(struct cpu *cpu, uint8_t vector) {
    cpu->fault = (struct pn_fault){.vector = vector};
    return CPU_FAULT;
}

enum cpu_rc cpu_raise_code(struct cpu *cpu, uint8_t vector, uint32_t error) {
    cpu->fault = (struct pn_fault){.vector = vector, .has_error = true, .error = error};
    return CPU_FAULT;
}

enum cpu_rc cpu_raise_debug(struct cpu *cpu, uint64_t dr6_bits) {
    cpu->fault = (struct pn_fault){.vector = VEC_DB, .address = dr6_bits};
    return CPU_FAULT;
}

/* ---- Pieces: what a slow access consists of ---- */

/* pn_mmu_translate, for a debugger that watches, too. */
static enum pn_answer translate(struct cpu *cpu, pn_gva lin, enum pn_access access,
                                enum pn_tlb_mode mode, struct pn_xlate *x) {
    enum pn_answer out = pn_answer(pn_mmu_translate(cpu->vmmu, lin, access, mode, x));
    if (unlikely(cpu->debug.set))
        debug_keep_back(cpu, lin);
    return out;
}

/* Is that MMIO the APIC-access page of L2's hypervisor? */
static bool to_apic(const struct cpu *cpu, pn_gpa gpa) {
    return unlikely(cpu->vmx.guest) && vmx_is_apic(cpu, gpa);
}

enum cpu_rc cpu_may_access(struct cpu *cpu, enum pn_answer out, pn_gpa gpa,
                           enum pn_access access, unsigned size) {
    return out == PN_MMIO && to_apic(cpu, gpa) ? vmx_apic_access(cpu, access, gpa, size)
                                               : CPU_NEXT;
}

/* A store that fills no tables is answered as if nobody tracked them, if that can be. */
static enum pn_answer untracked(struct cpu *cpu, pn_gva lin, enum pn_access access,
                                enum pn_tlb_mode mode, bool tables, enum pn_answer out,
                                struct pn_xlate *x) {
    if (out == PN_TRACKED && !tables && pn_mmu_unprotect(cpu->vmmu, x->gpa))
        out = translate(cpu, lin, access, mode, x);
    return out;
}

enum pn_answer cpu_translate(struct cpu *cpu, pn_gva lin, enum pn_access access,
                             enum pn_tlb_mode mode, bool tables, struct pn_xlate *x) {
    enum pn_answer out = translate(cpu, lin, access, mode, x);
    return untracked(cpu, lin, access, mode, tables, out, x);
}

/* Translate n bytes at lin, all in one page. tables: as for cpu_translate. */
static inline enum cpu_rc resolve_piece(struct cpu *cpu, pn_gva lin, unsigned n,
                                        enum pn_access access, enum pn_tlb_mode mode,
                                        bool tables, struct piece *p) {
    if (unlikely(!canonical(cpu, lin)))
        return gp0(cpu);
    struct pn_xlate x;
    enum pn_answer out = cpu_translate(cpu, lin, access, mode, tables, &x);
    if (out == PN_GUEST_PF) {
        cpu->fault = x.fault;
        return CPU_FAULT;
    }
    *p = (struct piece){x.gpa, x.hva, n, out};
    return cpu_may_access(cpu, out, x.gpa, access, n);
}

/* Translate [lin, lin+size), size <= 64, into one or two pieces. */
static enum cpu_rc resolve(struct cpu *cpu, pn_gva lin, unsigned size,
                           enum pn_access access, enum pn_tlb_mode mode, bool tables,
                           struct piece pc[2], unsigned *count) {
    unsigned room = PN_PAGE_SIZE - (lin & (PN_PAGE_SIZE - 1));
    unsigned n = size < room ? size : room;
    for (*count = 0; size; ++*count) {
        if (resolve_piece(cpu, lin, n, access, mode, tables, &pc[*count]))
            return CPU_FAULT;
        /* Outside 64-bit code linear addresses wrap at 4 GiB. */
        bool low = !mode_64(cpu) && lin <= UINT32_MAX;
        lin += n;
        if (low)
            lin = (uint32_t)lin;
        size -= n;
        n = size;
    }
    return CPU_NEXT;
}

/* Devices see pieces of eight, four, two bytes or one. One of out and in is NULL. */
static void mmio(struct cpu *cpu, pn_gpa gpa, uint8_t *out, const uint8_t *in,
                 unsigned size) {
    const struct pn_bus *bus = cpu->bus;
    if (to_apic(cpu, gpa)) {
        if (in)
            vmx_apic_store(cpu, gpa, in, size);
        else
            vmx_apic_load(cpu, gpa, out, size);
        return;
    }
    for (unsigned at = 0, n = 8; at < size; at += n, gpa += n) {
        uint64_t v = 0;
        while (n > size - at)
            n >>= 1;
        if (in)
            memcpy(&v, in + at, n);
        else
            v = bus->mmio_read(bus->opaque, cpu->apic_id, gpa, n);
        pn_count(cpu->stats, mmio_exits);
        cpu->disturbed++;
        pn_emit(cpu->ring, mmio, gpa, n, in != NULL, v);
        if (in)
            bus->mmio_write(bus->opaque, cpu->apic_id, gpa, n, v);
        else
            memcpy(out + at, &v, n);
    }
}

void cpu_load(struct cpu *cpu, pn_gpa gpa, void *out, unsigned size) {
    /* A read-only slot answers writes as MMIO, but it is read as memory. */
    if (pn_mmu_read_phys(cpu->mmu, gpa, out, size) != size)
        mmio(cpu, gpa, out, NULL, size);
}

static void piece_read(struct cpu *cpu, const struct piece *p, uint8_t *out) {
    if (p->kind != PN_MMIO && p->hva)
        mem_copy(out, p->hva, p->size);
    else
        cpu_load(cpu, p->gpa, out, p->size);
}

void cpu_store(struct cpu *cpu, pn_gpa gpa, unsigned kind, const void *in,
               unsigned size) {
    if (kind == PN_MMIO)
        mmio(cpu, gpa, NULL, in, size);
    else
        pn_mmu_vcpu_write(cpu->vmmu, gpa, in, size);
}

static inline void watch(struct cpu *cpu, pn_gva lin, unsigned size, unsigned rw) {
    if (unlikely(cpu_watches(cpu)))
        cpu_watch(cpu, lin, size, rw);
}

static inline bool in_one_page(pn_gva lin, unsigned size) {
    return (lin & (PN_PAGE_SIZE - 1)) <= PN_PAGE_SIZE - size;
}

/* A load that spans two pages, both in the TLB. */
static bool crossing_hit(struct cpu *cpu, pn_gva lin, uint8_t *out, unsigned size,
                         enum pn_tlb_mode mode) {
    unsigned room = PN_PAGE_SIZE - (lin & (PN_PAGE_SIZE - 1));
    if (size <= room || cpu->mode & MODE_SLOWMEM || !mode_64(cpu))
        return false;
    const uint8_t *p = mem_hit(cpu, lin, room, PN_READ, mode);
    const uint8_t *q = p ? mem_hit(cpu, lin + room, size - room, PN_READ, mode) : NULL;
    if (!q)
        return false;
    memcpy(out, p, room);
    memcpy(out + room, q, size - room);
    return true;
}

/* ---- Reads and writes by helpers ---- */

static enum cpu_rc read_pages(struct cpu *cpu, pn_gva lin, uint8_t *out, unsigned size,
                              enum pn_access access, enum pn_tlb_mode mode) {
    struct piece pc[2];
    unsigned count;
    turn_want(cpu);
    enum cpu_rc rc = resolve(cpu, lin, size, access, mode, false, pc, &count);
    if (rc)
        return rc;
    piece_read(cpu, &pc[0], out);
    if (count == 2)
        piece_read(cpu, &pc[1], out + pc[0].size);
    watch(cpu, lin, size, 3);
    return CPU_NEXT;
}

enum cpu_rc cpu_ss_read(struct cpu *cpu, pn_gva lin, void *buf, unsigned size,
                        enum pn_tlb_mode mode) {
    return read_pages(cpu, lin, buf, size, PN_SS_READ, mode);
}

static __attribute__((noinline)) enum cpu_rc read_slow(struct cpu *cpu, pn_gva lin,
                                                       uint8_t *out, unsigned size,
                                                       enum pn_tlb_mode mode) {
    struct pn_xlate x;
    pn_count(cpu->stats, mem_slow);
    if (crossing_hit(cpu, lin, out, size, mode))
        return CPU_NEXT;
    if (in_one_page(lin, size) && turn_looks(cpu, lin, PN_READ, mode, &x)) {
        mem_copy(out, x.hva, size);
        return CPU_NEXT;
    }
    if (in_one_page(lin, size) && turn_faults(cpu, lin, PN_READ, mode))
        return CPU_FAULT;
    return read_pages(cpu, lin, out, size, PN_READ, mode);
}

enum cpu_rc cpu_read_lin(struct cpu *cpu, pn_gva lin, void *buf, unsigned size,
                         enum pn_tlb_mode mode) {
    const uint8_t *p = mem_hit(cpu, lin, size, PN_READ, mode);
    if (likely(p && !(cpu->mode & MODE_SLOWMEM))) {
        mem_copy(buf, p, size);
        return CPU_NEXT;
    }
    return read_slow(cpu, lin, buf, size, mode);
}

static enum cpu_rc write_pages(struct cpu *cpu, pn_gva lin, const uint8_t *in,
                               unsigned size, enum pn_access access,
                               enum pn_tlb_mode mode) {
    struct piece pc[2];
    unsigned count;
    turn_want(cpu);
    enum cpu_rc rc = resolve(cpu, lin, size, access, mode, false, pc, &count);
    if (rc)
        return rc;
    if (count == 1 && pc[0].kind == PN_MAPPED) {
        mem_copy(pc[0].hva, in, size);
    } else {
        cpu_store(cpu, pc[0].gpa, pc[0].kind, in, pc[0].size);
        if (count == 2)
            cpu_store(cpu, pc[1].gpa, pc[1].kind, in + pc[0].size, pc[1].size);
    }
    watch(cpu, lin, size, 1);
    return CPU_NEXT;
}

enum cpu_rc cpu_ss_write(struct cpu *cpu, pn_gva lin, const void *buf, unsigned size,
                         enum pn_tlb_mode mode) {
    return write_pages(cpu, lin, buf, size, PN_SS_WRITE, mode);
}

/* Others may store there meanwhile. Return: what was there. */
static uint64_t ss_exchange(uint8_t *at, uint64_t expected, uint64_t value) {
    __atomic_compare_exchange_n((uint64_t *)(void *)at, &expected, value, false,
                                __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return expected;
}

enum cpu_rc cpu_ss_swap(struct cpu *cpu, pn_gva lin, uint64_t expected, uint64_t value,
                        uint64_t *was, enum pn_tlb_mode mode) {
    struct piece pc[2];
    unsigned count;
    turn_want(cpu);
    enum cpu_rc rc = resolve(cpu, lin, 8, PN_SS_WRITE, mode, false, pc, &count);
    if (rc)
        return rc;
    piece_read(cpu, &pc[0], (uint8_t *)was);
    if (*was == expected && pc[0].kind == PN_MAPPED)
        *was = ss_exchange(pc[0].hva, expected, value);
    else if (*was == expected)
        cpu_store(cpu, pc[0].gpa, pc[0].kind, &value, 8);
    watch(cpu, lin, 8, 1);
    return CPU_NEXT;
}

static __attribute__((noinline)) enum cpu_rc write_slow(struct cpu *cpu, pn_gva lin,
                                                        const uint8_t *in, unsigned size,
                                                        enum pn_tlb_mode mode) {
    struct pn_xlate x;
    pn_count(cpu->stats, mem_slow);
    if (in_one_page(lin, size) && turn_looks(cpu, lin, PN_WRITE, mode, &x)) {
        mem_copy(x.hva, in, size);
        return CPU_NEXT;
    }
    if (in_one_page(lin, size) && turn_faults(cpu, lin, PN_WRITE, mode))
        return CPU_FAULT;
    return write_pages(cpu, lin, in, size, PN_WRITE, mode);
}

enum cpu_rc cpu_write_lin(struct cpu *cpu, pn_gva lin, const void *buf, unsigned size,
                          enum pn_tlb_mode mode) {
    uint8_t *p = mem_hit(cpu, lin, size, PN_WRITE, mode);
    if (likely(p && !(cpu->mode & MODE_SLOWMEM))) {
        mem_copy(p, buf, size);
        return CPU_NEXT;
    }
    return write_slow(cpu, lin, buf, size, mode);
}

/* ---- Operands of translated instructions ---- */

/* n > 0 bits from bit `from` on. */
static uint64_t bits(unsigned from, unsigned n) {
    return ~UINT64_C(0) >> (64 - n) << from;
}

/* Take the lowest run of bits from *bytes. Return: false when there is none. */
static bool next_run(uint64_t *bytes, unsigned *at, unsigned *n) {
    if (!*bytes)
        return false;
    *at = (unsigned)__builtin_ctzll(*bytes);
    uint64_t end = ~(*bytes >> *at);
    *n = end ? (unsigned)__builtin_ctzll(end) : 64;
    *bytes &= ~bits(*at, *n);
    return true;
}

/* Fill the bounce buffer and note what is owed. bytes: those that are accessed. */
static void bounce(struct cpu *cpu, const struct piece *pc, unsigned count,
                   uint64_t bytes, bool read, bool write) {
    unsigned from = 0, at, n;
    for (unsigned i = 0; i < count; i++) {
        uint64_t left = read ? bytes & bits(from, pc[i].size) : 0;
        while (next_run(&left, &at, &n)) {
            unsigned skip = at - from;
            struct piece part = {pc[i].gpa + skip, pc[i].hva ? pc[i].hva + skip : NULL, n,
                                 pc[i].kind};
            piece_read(cpu, &part, cpu->bounce + at);
        }
        from += pc[i].size;
        cpu->owed.piece[i].gpa = pc[i].gpa;
        cpu->owed.piece[i].size = (uint8_t)pc[i].size;
        cpu->owed.piece[i].kind = pc[i].kind;
    }
    cpu->owed.bytes = bytes;
    cpu->owed.count = write ? (uint8_t)count : 0;
}

static __attribute__((noinline)) enum cpu_rc prepare_crossing(struct cpu *cpu, pn_gva lin,
                                                              unsigned size, unsigned how,
                                                              enum pn_tlb_mode mode,
                                                              void **ptr) {
    bool write = how & MEM_WRITE;
    struct piece pc[2];
    unsigned count;
    *ptr = cpu->bounce;
    if (!write && crossing_hit(cpu, lin, cpu->bounce, size, mode))
        return CPU_NEXT;
    if (resolve(cpu, lin, size, write ? PN_WRITE : PN_READ, mode, how & MEM_TABLES, pc,
                &count))
        return CPU_FAULT;
    bounce(cpu, pc, count, ~UINT64_C(0), how & MEM_READ, write);
    watch(cpu, lin, size, write ? 1 : 3);
    return CPU_NEXT;
}

/* Where vCPUs are threads: no TLB entry says that this one accesses the page, so nobody would
 * wait for it. */
static inline bool unlisted(struct cpu *cpu, pn_gva lin, bool write,
                            enum pn_tlb_mode mode) {
    return unlikely(cpu->par != NULL) &&
           !mem_hit(cpu, lin, 1, write ? PN_WRITE : PN_READ, mode);
}

/* Is the operand to leave no address behind that later ones would reuse, unseen by a
 * watchpoint? Loads may come after a store. Nor one that is used after the lock is gone. */
static bool keeps(struct cpu *cpu, pn_gva lin, bool write, enum pn_tlb_mode mode) {
    return debug_watched(cpu, lin) & (write ? PN_WATCH_BOTH : PN_WATCH_READ) ||
           unlisted(cpu, lin, write, mode);
}

/* The MMU's answer to an operand in one page. */
static __attribute__((noinline)) enum cpu_rc
prepared(struct cpu *cpu, pn_gva lin, unsigned size, unsigned how, enum pn_tlb_mode mode,
         enum pn_answer out, const struct pn_xlate *x, void **ptr) {
    bool write = how & MEM_WRITE;
    if (out == PN_GUEST_PF) {
        cpu->fault = x->fault;
        return CPU_FAULT;
    }
    if (cpu_may_access(cpu, out, x->gpa, write ? PN_WRITE : PN_READ, size))
        return CPU_FAULT;
    *ptr = x->hva;
    if (out != PN_MAPPED || keeps(cpu, lin, write, mode)) {
        const struct piece pc = {x->gpa, x->hva, size, out};
        bounce(cpu, &pc, 1, ~UINT64_C(0), how & MEM_READ, write);
        *ptr = cpu->bounce;
    }
    watch(cpu, lin, size, write ? 1 : 3);
    return CPU_NEXT;
}

static __attribute__((noinline)) enum cpu_rc prepare_watched(struct cpu *cpu, pn_gva lin,
                                                             unsigned size, unsigned how,
                                                             enum pn_tlb_mode mode,
                                                             void **ptr) {
    enum pn_access access = how & MEM_WRITE ? PN_WRITE : PN_READ;
    *ptr = mem_hit(cpu, lin, size, access, mode);
    if (*ptr) {
        watch(cpu, lin, size, how & MEM_WRITE ? 1 : 3);
        return CPU_NEXT;
    }
    if (!canonical(cpu, lin))
        return gp0(cpu);
    struct pn_xlate x;
    enum pn_answer out = cpu_translate(cpu, lin, access, mode, how & MEM_TABLES, &x);
    return prepared(cpu, lin, size, how, mode, out, &x, ptr);
}

/* Every TLB miss of an operand comes by here: who watches has a way of his own. */
enum cpu_rc cpu_mem_prepare(struct cpu *cpu, pn_gva lin, unsigned size, unsigned how,
                            enum pn_tlb_mode mode, void **ptr) {
    enum pn_access access = how & MEM_WRITE ? PN_WRITE : PN_READ;
    cpu->owed.count = 0;
    if (unlikely((lin & (PN_PAGE_SIZE - 1)) > PN_PAGE_SIZE - size))
        return prepare_crossing(cpu, lin, size, how, mode, ptr);
    if (unlikely(cpu_watches(cpu)))
        return prepare_watched(cpu, lin, size, how, mode, ptr);
    *ptr = mem_hit(cpu, lin, size, access, mode);
    if (*ptr)
        return CPU_NEXT;
    if (unlikely(!canonical(cpu, lin)))
        return gp0(cpu);
    struct pn_xlate x;
    enum pn_answer out = pn_answer(pn_mmu_translate(cpu->vmmu, lin, access, mode, &x));
    if (likely(out == PN_MAPPED && !unlisted(cpu, lin, how & MEM_WRITE, mode))) {
        *ptr = x.hva;
        return CPU_NEXT;
    }
    out = untracked(cpu, lin, access, mode, how & MEM_TABLES, out, &x);
    return prepared(cpu, lin, size, how, mode, out, &x, ptr);
}

/* As resolve, for the pages that hold a chosen byte. hva of any other is NULL. */
static enum cpu_rc resolve_chosen(struct cpu *cpu, pn_gva lin, unsigned size,
                                  uint64_t bytes, uint64_t beyond, enum pn_access access,
                                  uint8_t vector, struct piece pc[2], unsigned *count) {
    unsigned room = PN_PAGE_SIZE - (lin & (PN_PAGE_SIZE - 1)), from = 0;
    for (*count = 0; from < size; ++*count) {
        unsigned n = *count || size <= room ? size - from : room;
        struct piece *p = &pc[*count];
        uint64_t part = bytes & bits(from, n);
        *p = (struct piece){.size = n, .kind = PN_MAPPED};
        if (part) {
            unsigned first = (unsigned)__builtin_ctzll(part);
            pn_gva a = mode_64(cpu) ? lin + first : (uint32_t)(lin + first);
            struct pn_xlate x;
            if (part & beyond)
                return cpu_raise_code(cpu, vector, 0);
            p->kind =
                (uint8_t)cpu_translate(cpu, a, access, cpu_tlb_mode(cpu), false, &x);
            if (p->kind == PN_GUEST_PF) {
                cpu->fault = x.fault;
                return CPU_FAULT;
            }
            if (cpu_may_access(cpu, p->kind, x.gpa, access, n))
                return CPU_FAULT;
            p->gpa = x.gpa - (first - from);
            p->hva = x.hva ? x.hva - (first - from) : NULL;
        }
        from += n;
    }
    return CPU_NEXT;
}

enum cpu_rc cpu_mem_prepare_chosen(struct cpu *cpu, pn_gva lin, unsigned size,
                                   uint64_t bytes, uint64_t beyond, bool write,
                                   uint8_t out, void **ptr) {
    struct piece pc[2];
    unsigned count, at, n;
    cpu->owed.count = 0;
    if (resolve_chosen(cpu, lin, size, bytes, beyond, write ? PN_WRITE : PN_READ, out, pc,
                       &count))
        return CPU_FAULT;
    if (count == 1 && pc[0].kind == PN_MAPPED && pc[0].hva &&
        !keeps(cpu, lin, write, cpu_tlb_mode(cpu))) {
        *ptr = pc[0].hva;
    } else {
        bounce(cpu, pc, count, bytes, !write, write);
        *ptr = cpu->bounce;
    }
    while (next_run(&bytes, &at, &n))
        watch(cpu, lin + at, n, write ? 1 : 3);
    return CPU_NEXT;
}

enum cpu_rc cpu_mem_commit(struct cpu *cpu) {
    uint64_t fetch_gen = cpu->view.fetch_gen;
    uint64_t disturbed = cpu->disturbed;
    unsigned from = 0, at, n;
    for (unsigned i = 0; i < cpu->owed.count; i++) {
        unsigned size = cpu->owed.piece[i].size, kind = cpu->owed.piece[i].kind;
        uint64_t left = cpu->owed.bytes & bits(from, size);
        while (next_run(&left, &at, &n))
            cpu_store(cpu, cpu->owed.piece[i].gpa + (at - from), kind, cpu->bounce + at,
                      n);
        from += size;
    }
    cpu->owed.count = 0;
    if (fetch_gen != cpu->view.fetch_gen || disturbed != cpu->disturbed)
        return CPU_STOP;
    return CPU_NEXT;
}

/* ---- Fetch ---- */

PN_IN_MISS enum cpu_rc cpu_fetch_page(struct cpu *cpu, pn_gva lin, uint8_t **hva,
                                      pn_gpa *gpa) {
    struct pn_xlate x;
    if (unlikely(!canonical(cpu, lin)))
        return gp0(cpu);
    switch (translate(cpu, lin, PN_FETCH, cpu_tlb_mode(cpu), &x)) {
    case PN_GUEST_PF:
        cpu->fault = x.fault;
        return CPU_FAULT;
    case PN_MMIO:
        return cpu_may_access(cpu, PN_MMIO, x.gpa, PN_FETCH, 1) ? CPU_FAULT : gp0(cpu);
    default:
        *hva = x.hva;
        *gpa = x.gpa;
        return CPU_NEXT;
    }
}

unsigned cpu_peek_code(struct cpu *cpu, uint8_t bytes[CODE_BYTES]) {
    pn_gva lin = mode_64(cpu) ? cpu->rip : (uint32_t)(cpu->seg[SEG_CS].base + cpu->rip);
    unsigned n = 0;
    while (n < CODE_BYTES) {
        struct pn_xlate x;
        unsigned room = PN_PAGE_SIZE - (lin & (PN_PAGE_SIZE - 1));
        unsigned k = room < CODE_BYTES - n ? room : CODE_BYTES - n;
        if (pn_mmu_probe(cpu->vmmu, lin, PN_FETCH, cpu_tlb_mode(cpu), &x) != PN_MAPPED)
            break;
        memcpy(bytes + n, x.hva, k);
        n += k;
        lin += k;
    }
    return n;
}
