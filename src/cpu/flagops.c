/* SPDX-License-Identifier: MIT */
/*
 * PUSHF, POPF, CLI, STI, HLT, and the instructions that raise an interrupt.
 *
 * STI's shadow and POPF's IF only leave the block when something waits for them
 * (cpu_attention): devices that raise a line later stop the block themselves.
 */
#include "cpu/nested.h"
#include "cpu/vme.h"

enum cpu_rc op_pushf(struct cpu *cpu, const struct insn *in) {
    bool virtual;
    if (vif_flags(cpu, in->opsize, &virtual))
        return CPU_FAULT;
    uint64_t image = (cpu->sys_flags | cpu_arith_flags(cpu)) & ~(uint64_t)FL_VM;
    return stack_push_one(cpu, virtual ? vif_image(cpu) : image, in->opsize);
}

enum cpu_rc op_popf(struct cpu *cpu, const struct insn *in) {
    struct stack st;
    uint64_t image, mask = FL_TF | FL_DF | FL_NT | FL_AC | FL_ID, virtual_if = 0;
    bool virtual;
    if (vif_flags(cpu, in->opsize, &virtual))
        return CPU_FAULT;
    stack_here(cpu, &st);
    if (stack_pop(cpu, &st, in->opsize, &image) ||
        (virtual && vif_load_check(cpu, image)))
        return CPU_FAULT;
    stack_commit(cpu, &st);

    if (cpu->cpl <= iopl(cpu))
        mask |= FL_IF;
    if (cpu->cpl == 0)
        mask |= FL_IOPL;
    if (!(cpu->mode & MODE_VM86))
        mask |= FL_VIF | FL_VIP;
    if (in->opsize == 2)
        mask &= 0xffff;
    if (virtual) {
        mask |= FL_VIF;
        virtual_if = image & FL_IF ? FL_VIF : 0;
    }
    uint64_t old = cpu->sys_flags;
    cpu->sys_flags =
        (old & ~mask) | (image & mask & ~(uint64_t)(FL_VIF | FL_VIP)) | virtual_if;
    cpu_set_arith_flags(cpu, image);
    cpu->rf_at = UINT64_MAX;
    uint32_t mode = cpu->mode;
    if (unlikely((old ^ cpu->sys_flags) & (FL_TF | FL_AC | FL_IOPL)))
        cpu_update_mode(cpu);
    bool wait = cpu->sys_flags & FL_IF && cpu_attention(cpu);
    return wait || mode != cpu->mode ? CPU_STOP : CPU_NEXT;
}

enum cpu_rc op_cli(struct cpu *cpu, const struct insn *in) {
    if (unlikely(!(cpu->mode & MODE_IOPRIV)))
        return vif_set(cpu, false);
    cpu->sys_flags &= ~(uint64_t)FL_IF;
    return CPU_NEXT;
}

enum cpu_rc op_sti(struct cpu *cpu, const struct insn *in) {
    if (unlikely(!(cpu->mode & MODE_IOPRIV)))
        return vif_set(cpu, true);
    if (!(cpu->sys_flags & FL_IF)) {
        cpu->sys_flags |= FL_IF;
        cpu->intr_shadow = PN_SHADOW_STI;
        cpu->shadow_at = cpu_insns(cpu) + 1;
    }
    return cpu_attention(cpu) ? CPU_STOP : CPU_NEXT;
}

enum cpu_rc op_hlt(struct cpu *cpu, const struct insn *in) {
    if (cpu->cpl)
        return gp0(cpu);
    cpu->halted = PN_HALTED;
    pn_mmu_exited(cpu->vmmu, PN_VM_OTHER);
    return CPU_HALT;
}

/* ---- INT n, INT3, INTO, INT1 ---- */

static enum cpu_rc soft_interrupt(struct cpu *cpu, const struct insn *in, uint8_t vector,
                                  uint8_t kind, bool redirected) {
    struct event ev = {.vector = vector,
                       .kind = kind,
                       .rip = next_rip(cpu, in),
                       .redirected = redirected};
    bool stepping = cpu->mode & MODE_TF;
    enum cpu_rc rc;
    if (unlikely(cpu_in_guest(cpu))) {
        if (in->fn != op_int && nested_soft_exception(cpu, in, vector, &rc))
            return rc;
        nested_in_flight(cpu, &ev);
    }
    rc = event_deliver(cpu, &ev);
    if (rc == CPU_JUMP) {
        cpu->step_skip = stepping;
        nested_landed(cpu);
    }
    return rc;
}

enum cpu_rc op_int(struct cpu *cpu, const struct insn *in) {
    bool redirects = false;
    if (cpu->mode & MODE_VM86 && vm86_redirects(cpu, (uint8_t)in->imm, &redirects))
        return CPU_FAULT;
    return soft_interrupt(cpu, in, (uint8_t)in->imm, EVENT_SOFT, redirects);
}

/* INT3, INT1; arg: the vector. A data breakpoint that MOV SS holds back for INT1 becomes part
 * of its #DB: one comes, and not two (kvm-unit-tests' debug test wants that of any processor). */
enum cpu_rc op_int3(struct cpu *cpu, const struct insn *in) {
    if (in->arg != VEC_DB)
        return soft_interrupt(cpu, in, (uint8_t)in->arg, EVENT_SOFT, false);
    uint32_t held = cpu->db_pending;
    enum cpu_rc rc = soft_interrupt(cpu, in, VEC_DB, EVENT_ICEBP, false);
    if (rc == CPU_JUMP && held) {
        cpu->db_pending &= ~held;
        cpu->dr[6] |= held;
    }
    return rc;
}

enum cpu_rc op_into(struct cpu *cpu, const struct insn *in) {
    if (mode_64(cpu))
        return cpu_raise(cpu, VEC_UD);
    if (!(cpu_arith_flags(cpu) & FL_OF)) {
        cpu->rip = next_rip(cpu, in);
        return CPU_JUMP;
    }
    return soft_interrupt(cpu, in, VEC_OF, EVENT_SOFT, false);
}
