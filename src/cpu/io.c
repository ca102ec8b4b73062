/* SPDX-License-Identifier: MIT */
/*
 * Ports: IN, OUT, INS, OUTS, with IOPL and the TSS's I/O permission bitmap.
 *
 * Invariants
 * 1. Every check, that of the memory operand included, precedes the access to the bus:
 *    a device sees an access once.
 * 2. After an access the block is left: a device may have moved an interrupt, the clock's
 *    next deadline, or asked to stop.
 */
#include "cpu/bulk.h"
#include "cpu/control.h"
#include "cpu/nested.h"
#include "cpu/vme.h"

/* May the guest touch ports port .. port+size-1? (SDM volume 1, "I/O Permission Bit Map")
 */
static enum cpu_rc port_allowed(struct cpu *cpu, uint16_t port, unsigned size) {
    if (!(cpu->mode & MODE_PE) || (!(cpu->mode & MODE_VM86) && cpu->cpl <= iopl(cpu)))
        return CPU_NEXT;
    const struct pn_segment *tr = &cpu->seg[SEG_TR];
    uint16_t base, bits;
    if (!tss_has_maps(tr))
        return gp0(cpu);
    if (sys_read(cpu, tr->base + TSS_MAP_BASE, &base, 2))
        return CPU_FAULT;
    uint32_t at = base + port / 8u;
    if (at + 1 > tr->limit)
        return gp0(cpu);
    if (sys_read(cpu, tr->base + at, &bits, 2))
        return CPU_FAULT;
    return bits >> (port & 7) & ((1u << size) - 1) ? gp0(cpu) : CPU_NEXT;
}

static void note(struct cpu *cpu, uint16_t port, unsigned size, bool write, uint64_t v) {
    pn_count(cpu->stats, io_exits);
    pn_mmu_exited(cpu->vmmu, PN_VM_PIO);
    pn_emit(cpu->ring, pio, port, size, write, v);
    if (cpu->mode & MODE_SLOWMEM)
        cpu_watch(cpu, port, size, 2);
}

static uint32_t port_read(struct cpu *cpu, uint16_t port, unsigned size) {
    uint64_t v = cpu->bus->pio_read(cpu->bus->opaque, cpu->apic_id, port, size);
    if (size < 4)
        v &= (1u << size * 8) - 1;
    note(cpu, port, size, false, v);
    return (uint32_t)v;
}

static void port_write(struct cpu *cpu, uint16_t port, unsigned size, uint32_t v) {
    if (size < 4)
        v &= (1u << size * 8) - 1;
    note(cpu, port, size, true, v);
    cpu->bus->pio_write(cpu->bus->opaque, cpu->apic_id, port, size, v);
}

/* E4 E5 E6 E7 name the port in an immediate byte, EC ED EE EF in DX; even opcodes move a
 * byte. */
static uint16_t port_of(const struct cpu *cpu, const struct insn *in) {
    return in->opcode & 8 ? (uint16_t)cpu->gpr[R_DX] : (uint8_t)in->imm;
}
static unsigned size_of(const struct insn *in) {
    return !(in->opcode & 1) ? 1 : in->opsize == 2 ? 2 : 4;
}

/* The second bit of the opcode: OUT, OUTS. */
static bool is_out(const struct insn *in) {
    return in->opcode & 2;
}

enum cpu_rc op_port(struct cpu *cpu, const struct insn *in) {
    uint16_t port = port_of(cpu, in);
    unsigned size = size_of(in);
    enum cpu_rc exit;
    if (port_allowed(cpu, port, size))
        return CPU_FAULT;
    if (unlikely(cpu_in_guest(cpu)) &&
        nested_port(cpu, in, port, size, is_out(in), false, &exit))
        return exit;
    if (is_out(in)) {
        port_write(cpu, port, size, (uint32_t)cpu->gpr[R_AX]);
        return CPU_STOP;
    }
    uint32_t v = port_read(cpu, port, size);
    if (size == 4)
        cpu->gpr[R_AX] = v;
    else
        memcpy(&cpu->gpr[R_AX], &v, size);
    return CPU_STOP;
}

/* ---- Strings ---- */

/* Iterations of one REP INS or OUTS before pending interrupts get their chance. */
#define PORT_CHUNK 256u

static enum cpu_rc ins_once(struct cpu *cpu, const struct insn *in, unsigned size) {
    void *p;
    pn_gva lin;
    uint64_t offset = string_reg(cpu, R_DI, in->addrsize);
    if (cpu_lin(cpu, SEG_ES, offset, size, PN_WRITE, &lin) ||
        cpu_mem_prepare(cpu, lin, size, MEM_WRITE, cpu_tlb_mode(cpu), &p))
        return CPU_FAULT;
    uint32_t v = port_read(cpu, (uint16_t)cpu->gpr[R_DX], size);
    memcpy(p, &v, size);
    cpu_mem_commit(cpu);
    string_advance(cpu, R_DI, in->addrsize, string_step(cpu, size));
    return CPU_NEXT;
}

static enum cpu_rc outs_once(struct cpu *cpu, const struct insn *in, unsigned size) {
    uint32_t v = 0;
    if (seg_read(cpu, in->seg, string_reg(cpu, R_SI, in->addrsize), &v, size))
        return CPU_FAULT;
    port_write(cpu, (uint16_t)cpu->gpr[R_DX], size, v);
    string_advance(cpu, R_SI, in->addrsize, string_step(cpu, size));
    return CPU_NEXT;
}

static enum cpu_rc once(struct cpu *cpu, const struct insn *in, unsigned size) {
    return is_out(in) ? outs_once(cpu, in, size) : ins_once(cpu, in, size);
}

enum cpu_rc op_port_string(struct cpu *cpu, const struct insn *in) {
    unsigned size = size_of(in);
    enum cpu_rc exit;
    if (port_allowed(cpu, (uint16_t)cpu->gpr[R_DX], size))
        return CPU_FAULT;
    bool any = !in->rep || string_reg(cpu, R_CX, in->addrsize);
    if (unlikely(cpu_in_guest(cpu)) && any &&
        nested_port(cpu, in, (uint16_t)cpu->gpr[R_DX], size, is_out(in), true, &exit))
        return exit;
    if (!in->rep)
        return once(cpu, in, size) == CPU_NEXT ? CPU_STOP : CPU_FAULT;
    unsigned chunk = cpu->mode & (MODE_TF | MODE_SLOWMEM) ? 1 : PORT_CHUNK;
    while (string_reg(cpu, R_CX, in->addrsize)) {
        if (once(cpu, in, size))
            return CPU_FAULT;
        string_advance(cpu, R_CX, in->addrsize, -1);
        if (--chunk == 0 || cpu->intr_line || cpu->stop_request)
            return string_reg(cpu, R_CX, in->addrsize) ? string_resume(cpu) : CPU_STOP;
    }
    return CPU_STOP;
}
