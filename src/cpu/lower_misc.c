/* SPDX-License-Identifier: MIT */
/* Instructions that are not simply re-encoded, and calls of C helpers. */
#include "cpu/lower.h"

/* Write `size` bytes of host register `from` to a guest register, as MOV does. Narrow
 * values go through jit.save when the register is in memory. */
static void narrow_store(struct lower *l, unsigned guest, unsigned size, unsigned from) {
    struct emit *e = &l->e;
    if (size == 4)
        e_mov32(e, from, from);
    if (size >= 4) {
        reg_store(l, guest, from);
    } else if (l->host_of[guest] >= 0) {
        e_word(e);
        e_rr(e, false, OP_STORE, from, (unsigned)l->host_of[guest]);
    } else {
        e_word(e);
        e_rm(e, false, OP_STORE, from, H_SP, CO(gpr[0]) + (int32_t)guest * 8);
    }
}

void lower_lea(struct lower *l, const struct dec *d) {
    const struct insn *in = &d->in;
    unsigned size = d->sh->opsize;
    int to = l->host_of[d->reg];
    bool wide = in->addrsize == 8;
    if (wide && in->base != INSN_NOREG && l->host_of[in->base] >= 0 && to >= 0 &&
        size >= 4 && (in->index == INSN_NOREG || l->host_of[in->index] >= 0)) {
        int index = in->index == INSN_NOREG ? -1 : l->host_of[in->index];
        e_lea(&l->e, size == 8, (unsigned)to, (unsigned)l->host_of[in->base], index,
              in->scale, (int32_t)in->disp);
        return;
    }
    ea(l, d);
    narrow_store(l, d->reg, size, H_R10);
}

/* mov accumulator, [disp]; mov [disp], accumulator */
static void body_moffs(struct lower *l, const struct dec *d) {
    struct enc n = {
        .p66 = d->sh->p66,
        .w = d->w,
        /* a0 -> 8a, a1 -> 8b, a2 -> 88, a3 -> 89 */
        .opcode = (uint8_t)(0x88 | ((d->in.opcode & 2) ^ 2) | (d->in.opcode & 1)),
        .has_modrm = 1,
        .reg = H_R9,
        .rm_mem = 1,
        .rm = H_R10,
    };
    e_insn(&l->e, &n);
}

void lower_moffs(struct lower *l, const struct dec *d) {
    mem_operand(l, d, body_moffs);
}

/* op accumulator, imm: 04, 0c .. 3c, 05 .. 3d: group 1; a8, a9: group 3, /0 */
void lower_acc_imm(struct lower *l, const struct dec *d) {
    const struct shape *s = d->sh;
    unsigned op = d->in.opcode;
    bool wide = op & 1, test = op >= 0xa8;
    struct enc n = {
        .p66 = s->p66,
        .w = d->w,
        .opcode = (uint8_t)((test ? 0xf6 : 0x80) | wide),
        .has_modrm = 1,
        .reg = test ? 0 : op >> 3,
        .rm = H_R9,
        .imm_len = s->imm_len,
        .imm = d->imm_raw,
    };
    if (s->fin)
        flags_fill(l);
    e_insn(&l->e, &n);
    l->fs = FS_HOST;
}

void lower_xchg_acc(struct lower *l, const struct dec *d) {
    struct enc n = {
        .p66 = d->sh->p66,
        .w = d->w,
        .opcode = 0x87,
        .has_modrm = 1,
        .reg = H_R9,
        .rm = (uint8_t)l->host_of[d->rm],
    };
    bool slot = l->host_of[d->rm] < 0;
    if (slot) {
        reg_load(l, H_AX, d->rm);
        n.rm = H_AX;
    }
    e_insn(&l->e, &n);
    if (slot)
        reg_store(l, d->rm, H_AX);
}

void lower_incdec(struct lower *l, const struct dec *d) {
    struct enc n = {
        .p66 = d->sh->p66,
        .opcode = 0xff,
        .has_modrm = 1,
        .reg = d->in.opcode >> 3 & 1,
        .rm = (uint8_t)l->host_of[d->in.opcode & 7],
    };
    flags_fill(l); /* CF stays */
    e_insn(&l->e, &n);
    l->fs = FS_HOST;
}

/* ---- Bit strings in memory: the register holds a signed bit offset ---- */

static void body_bt_mem(struct lower *l, const struct dec *d) {
    struct enc n = {
        .p66 = d->sh->p66,
        .lock = d->lock,
        .w = d->w,
        .map = 1,
        .opcode = d->in.opcode,
        .has_modrm = 1,
        .reg = H_AX,
        .rm_mem = 1,
        .rm = H_R10,
    };
    flags_fill(l);
    e_rm(&l->e, false, OP_LOAD, H_AX, H_SP, CO(jit.save[0]));
    e_insn(&l->e, &n);
    l->fs = FS_HOST;
}

void lower_bt_mem(struct lower *l, const struct dec *d) {
    struct emit *e = &l->e;
    unsigned size = d->sh->opsize;
    flags_clobber(l);
    reg_load(l, H_AX, d->reg); /* the bit within the operand */
    e_alu(e, false, ALU_AND, H_AX, (int32_t)(size * 8 - 1));
    e_rm(e, false, OP_STORE, H_AX, H_SP, CO(jit.save[0]));
    ea(l, d);
    if (l->host_of[d->reg] >= 0 && size == 8)
        e_mov(e, H_AX, (unsigned)l->host_of[d->reg]);
    else
        reg_load(l, H_AX, d->reg);
    if (size == 4)
        e_rr(e, true, 0x63, H_AX, H_AX); /* movsxd rax, eax */
    else if (size == 2)
        e_rr2(e, true, OP2_MOVSX16, H_AX, H_AX);
    e_shift(e, true, SHIFT_SAR, H_AX, 3);
    e_alu(e, true, ALU_AND, H_AX, -(int32_t)size);
    e_rr(e, d->in.addrsize == 8, OP_ADD, H_R10, H_AX);
    if (d->in.addrsize == 2)
        e_rr2(e, false, OP2_MOVZX16, H_R10, H_R10);
    unsigned flags =
        SLOW_READ | (d->sh->mem_acc & ACC_W ? SLOW_WRITE : 0) | mem_fills_tables(d);
    struct access a = {body_bt_mem, (uint8_t)size, (uint8_t)flags,
                       d->in.seg,   false,         NULL};
    mem_access(l, d, &a);
    l->last.on = false;
}

/* ---- Flags beyond the arithmetic ones ---- */

void lower_dir(struct lower *l, const struct dec *d) {
    flags_clobber(l);
    e_alu_mem(&l->e, false, d->in.opcode & 1 ? ALU_OR : ALU_AND, H_SP, CO(sys_flags),
              d->in.opcode & 1 ? (int32_t)FL_DF : ~(int32_t)FL_DF);
}

/* ---- Upper halves ---- */

/* SDM volume 2, "VZEROALL", "VZEROUPPER": outside 64-bit mode of the first eight registers
 * alone. What writes 128 bits of one clears the rest: VXORPS x, x, x; VMOVAPS x, x. */
void lower_vzero(struct lower *l, const struct dec *d) {
    bool all = d->l;
    struct enc n = {.vex = 1, .map = 1, .opcode = all ? 0x57 : 0x28, .has_modrm = 1};
    for (unsigned i = 0; i < 8; i++) {
        n.reg = n.rm = (uint8_t)i;
        n.vvvv = all ? (uint8_t)i : 0;
        e_insn(&l->e, &n);
    }
}

/* ---- Helpers ---- */

static void call_helper(struct lower *l, const struct insn *in) {
    struct emit *e = &l->e;
    l->last.on = false;
    flags_clobber(l);
    call_entry(e, ENTRY_HELPER);
    struct helper_desc hd = {in, l->block, (uint16_t)block_offset(l->x, l->b, l->cur),
                             (uint8_t)l->cur, l->vec};
    memcpy(e->p, &hd, sizeof hd);
    e->p += sizeof hd;
}

/* There is one for each return of the guest's, and most are alike: the last one serves again. */
void lower_odd_target(struct lower *l, const struct dec *d) {
    struct xlat *x = l->x;
    const struct insn want = {.fn = xlat_odd_target,
                              .opcode = d->in.opcode,
                              .imm = d->in.imm & 0xffff,
                              .own = d->in.own,
                              .ends_block = 1};
    struct insn *in = &x->insns[x->odd_target];
    if (x->odd_target >= x->insn_count || in->fn != want.fn ||
        in->opcode != want.opcode || in->imm != want.imm || in->own != want.own) {
        x->odd_target = x->insn_count++;
        in = &x->insns[x->odd_target];
        *in = want;
    }
    call_helper(l, in);
}

void lower_helper(struct lower *l, const struct dec *d,
                  enum cpu_rc (*fn)(struct cpu *, const struct insn *)) {
    struct insn *in = &l->x->insns[l->x->insn_count++];
    *in = d->in;
    in->fn = fn;
    call_helper(l, in);
}
