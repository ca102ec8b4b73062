/* SPDX-License-Identifier: MIT */
/*
 * Ask Zydis about an encoding: what it is, which operands and flags it touches, whether
 * the CPU model has it, and how the translator is to lower it.
 *
 * Invariant: an instruction is CLS_PLAIN only if all its effects are seen here. One of an
 * instruction set that is not listed, with a hidden memory operand, or with an operand on
 * host system state is undefined: nothing of the guest's runs natively by accident.
 */
#include <Zydis/Zydis.h>

#include "cpu/model.h"
#include "cpu/shape.h"
#include "cpu/system.h"
#include "cpu/xlat.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Instructions of a set that holds others, too, and their own features. */
static const struct {
    uint16_t mnemonic, feature;
} own_features[] = {
    {ZYDIS_MNEMONIC_RDTSC, CPU_F_tsc},       {ZYDIS_MNEMONIC_RDMSR, CPU_F_msr},
    {ZYDIS_MNEMONIC_WRMSR, CPU_F_msr},       {ZYDIS_MNEMONIC_CMPXCHG8B, CPU_F_cx8},
    {ZYDIS_MNEMONIC_SYSENTER, CPU_F_sep},    {ZYDIS_MNEMONIC_SYSEXIT, CPU_F_sep},
    {ZYDIS_MNEMONIC_SYSCALL, CPU_F_syscall}, {ZYDIS_MNEMONIC_SYSRET, CPU_F_syscall},
};

/* ---- Helpers by mnemonic ---- */

enum form { FORM_ANY, FORM_SREG, FORM_CR, FORM_DR, FORM_STR, FORM_FAR };

struct helper {
    uint16_t mnemonic, flags;
    uint8_t form;
    enum cpu_rc (*fn)(struct cpu *, const struct insn *);
};

static const struct helper helpers[] = {
#define OP(m, fn, flags)        {ZYDIS_MNEMONIC_##m, flags, FORM_ANY, fn},
#define OPF(m, form, fn, flags) {ZYDIS_MNEMONIC_##m, flags, FORM_##form, fn},
#include "cpu/helpers.inc"
};

static bool has_register(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op,
                         ZydisRegisterClass cls) {
    for (unsigned i = 0; i < zi->operand_count_visible; i++)
        if (op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(op[i].reg.value) == cls)
            return true;
    return false;
}

static bool in_form(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op,
                    unsigned form) {
    switch (form) {
    case FORM_SREG:
        return has_register(zi, op, ZYDIS_REGCLASS_SEGMENT);
    case FORM_CR:
        return has_register(zi, op, ZYDIS_REGCLASS_CONTROL);
    case FORM_DR:
        return has_register(zi, op, ZYDIS_REGCLASS_DEBUG);
    case FORM_STR:
        return zi->meta.category == ZYDIS_CATEGORY_STRINGOP;
    case FORM_FAR:
        return zi->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
    default:
        return true;
    }
}

static const struct helper *helper_find(const ZydisDecodedInstruction *zi,
                                        const ZydisDecodedOperand *op, unsigned kind) {
    const struct helper *any = NULL;
    for (size_t i = 0; i < sizeof helpers / sizeof *helpers; i++) {
        const struct helper *h = &helpers[i];
        if (h->mnemonic != zi->mnemonic)
            continue;
        if (h->form != FORM_ANY) {
            if (in_form(zi, op, h->form))
                return h;
        } else if ((kind == KIND_64 && h->flags & HF_N64) ||
                   (kind != KIND_64 && h->flags & HF_64)) {
            continue;
        } else {
            any = h;
        }
    }
    return any;
}

/* ---- Classes ---- */

static bool any_of(uint16_t mnemonic, const uint16_t *list) {
    while (*list && *list != mnemonic)
        list++;
    return *list;
}

/* Legacy 16-byte memory operands that need no alignment. */
static const uint16_t unaligned[] = {
    ZYDIS_MNEMONIC_MOVUPS,    ZYDIS_MNEMONIC_MOVUPD,    ZYDIS_MNEMONIC_MOVDQU,
    ZYDIS_MNEMONIC_LDDQU,     ZYDIS_MNEMONIC_PCMPISTRI, ZYDIS_MNEMONIC_PCMPISTRM,
    ZYDIS_MNEMONIC_PCMPESTRI, ZYDIS_MNEMONIC_PCMPESTRM, 0};
/* x87's control instructions (SDM volume 1, "x87 FPU Instruction and Operand (Data)
 * Pointers"), and what is one no longer. */
static const uint16_t control[] = {
    ZYDIS_MNEMONIC_FNINIT,        ZYDIS_MNEMONIC_FNCLEX,
    ZYDIS_MNEMONIC_FLDCW,         ZYDIS_MNEMONIC_FNSTCW,
    ZYDIS_MNEMONIC_FNSTSW,        ZYDIS_MNEMONIC_FNSTENV,
    ZYDIS_MNEMONIC_FLDENV,        ZYDIS_MNEMONIC_FNSAVE,
    ZYDIS_MNEMONIC_FRSTOR,        ZYDIS_MNEMONIC_FWAIT,
    ZYDIS_MNEMONIC_FDISI8087_NOP, ZYDIS_MNEMONIC_FENI8087_NOP,
    ZYDIS_MNEMONIC_FSETPM287_NOP, 0};
/* VEX ones that do. */
static const uint16_t aligned[] = {ZYDIS_MNEMONIC_VMOVAPS,   ZYDIS_MNEMONIC_VMOVAPD,
                                   ZYDIS_MNEMONIC_VMOVDQA,   ZYDIS_MNEMONIC_VMOVDQA32,
                                   ZYDIS_MNEMONIC_VMOVDQA64, ZYDIS_MNEMONIC_VMOVNTPS,
                                   ZYDIS_MNEMONIC_VMOVNTPD,  ZYDIS_MNEMONIC_VMOVNTDQ,
                                   ZYDIS_MNEMONIC_VMOVNTDQA, 0};
/* Flags that the manuals leave undefined, but that no implementation takes from what was
 * there before (test_oracle checks this host). */
static const uint16_t own_flags[] = {ZYDIS_MNEMONIC_AND,
                                     ZYDIS_MNEMONIC_OR,
                                     ZYDIS_MNEMONIC_XOR,
                                     ZYDIS_MNEMONIC_TEST,
                                     ZYDIS_MNEMONIC_ANDN,
                                     ZYDIS_MNEMONIC_SHL,
                                     ZYDIS_MNEMONIC_SHR,
                                     ZYDIS_MNEMONIC_SAR,
                                     ZYDIS_MNEMONIC_SHLD,
                                     ZYDIS_MNEMONIC_SHRD,
                                     0};
/* Element-wise through vecmem.c. */
static const uint16_t masked[] = {ZYDIS_MNEMONIC_VMASKMOVPS,  ZYDIS_MNEMONIC_VMASKMOVPD,
                                  ZYDIS_MNEMONIC_VPMASKMOVD,  ZYDIS_MNEMONIC_VPMASKMOVQ,
                                  ZYDIS_MNEMONIC_MASKMOVQ,    ZYDIS_MNEMONIC_MASKMOVDQU,
                                  ZYDIS_MNEMONIC_VMASKMOVDQU, 0};

static unsigned classify64(const ZydisDecodedInstruction *zi) {
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
        return CLS_PUSH;
    case ZYDIS_MNEMONIC_POP:
        return CLS_POP;
    case ZYDIS_MNEMONIC_LEAVE:
        return CLS_LEAVE;
    case ZYDIS_MNEMONIC_CALL:
        return CLS_CALL;
    case ZYDIS_MNEMONIC_RET:
        return CLS_RET;
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
        return CLS_LOOP;
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
        return CLS_JCXZ;
    case ZYDIS_MNEMONIC_JMP:
        return CLS_JMP;
    default:
        return zi->meta.category == ZYDIS_CATEGORY_COND_BR ? CLS_JCC : CLS_PLAIN;
    }
}

static bool is_prefetch_register(const struct dec *d) {
    return d->map == 1 && d->in.opcode == 0x0d && d->mod == 3;
}

/* ENDBR, to whom it is of no use, and RDSSP without shadow stacks are NOPs. */
static bool is_cet_nop(const struct cpu_model *model, const ZydisDecodedInstruction *zi) {
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_ENDBR32:
    case ZYDIS_MNEMONIC_ENDBR64:
        return true;
    case ZYDIS_MNEMONIC_RDSSPD:
    case ZYDIS_MNEMONIC_RDSSPQ:
        return !cpu_model_has(model, CPU_F_shstk);
    default:
        return false;
    }
}

/* A hint is a NOP in any model. VEX makes an accelerator's of it; a register is up to the
 * vendor. */
static bool is_hint(const struct cpu_model *model, const ZydisDecodedInstruction *zi,
                    const struct dec *d) {
    if (is_prefetch_register(d))
        return !d->vex && cpu_model_follows(model, RULE_prefetch_register);
    return !d->vex && (zi->meta.category == ZYDIS_CATEGORY_PREFETCH ||
                       zi->mnemonic == ZYDIS_MNEMONIC_PREFETCHWT1);
}

static unsigned classify(const struct shape_source *src,
                         const ZydisDecodedInstruction *zi, const struct dec *d,
                         unsigned kind) {
    unsigned op = d->in.opcode;
    /* With REX.B not even F3 makes 90 a PAUSE. */
    if (!d->vex && !d->map && op == 0x90 && d->rm & 8)
        return CLS_XCHG_ACC;
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_LEA:
        return CLS_LEA;
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_PAUSE:
    case ZYDIS_MNEMONIC_LFENCE:
    case ZYDIS_MNEMONIC_SFENCE:
    case ZYDIS_MNEMONIC_MFENCE:
        return CLS_NOP;
    case ZYDIS_MNEMONIC_CLD:
    case ZYDIS_MNEMONIC_STD:
        return CLS_DIR;
    default:
        break;
    }
    if (is_hint(src->model, zi, d) || is_cet_nop(src->model, zi))
        return CLS_NOP;
    if (kind != KIND_64 && (zi->mnemonic == ZYDIS_MNEMONIC_VZEROUPPER ||
                            zi->mnemonic == ZYDIS_MNEMONIC_VZEROALL))
        return CLS_VZERO;
    if (d->vex || d->map > 1)
        return CLS_PLAIN;
    if (d->map == 1) {
        bool bit = op == 0xa3 || op == 0xab || op == 0xb3 || op == 0xbb;
        if (bit && d->mod != 3)
            return CLS_BT_MEM;
        return kind == KIND_64 ? classify64(zi) : CLS_PLAIN;
    }
    if ((op & 0xfc) == 0xa0)
        return CLS_MOFFS;
    if ((op < 0x40 && (op & 6) == 4) || op == 0xa8 || op == 0xa9)
        return CLS_ACC_IMM;
    if (op >= 0x90 && op <= 0x97)
        return CLS_XCHG_ACC;
    if (kind != KIND_64 && (op & 0xf0) == 0x40)
        return CLS_INCDEC;
    return kind == KIND_64 ? classify64(zi) : CLS_PLAIN;
}

/* ---- Operands ---- */

static bool is_gpr(ZydisRegisterClass c) {
    return c == ZYDIS_REGCLASS_GPR8 || c == ZYDIS_REGCLASS_GPR16 ||
           c == ZYDIS_REGCLASS_GPR32 || c == ZYDIS_REGCLASS_GPR64;
}

static unsigned access_of(const ZydisDecodedOperand *o) {
    unsigned a = 0;
    if (o->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
        a |= ACC_R;
    if (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
        a |= ACC_W;
    if (o->actions & ZYDIS_OPERAND_ACTION_CONDWRITE)
        a |= ACC_R;
    return a;
}

static void vector_needs(ZydisRegisterClass c, const struct dec *d, struct shape *s) {
    switch (c) {
    case ZYDIS_REGCLASS_X87:
        s->flags |= SH_VEC | SH_NEED387;
        break;
    case ZYDIS_REGCLASS_MMX:
        s->flags |= SH_VEC | SH_NEEDMMX;
        break;
    case ZYDIS_REGCLASS_XMM:
    case ZYDIS_REGCLASS_YMM:
        s->flags |= SH_VEC | (d->evex ? SH_NEEDEVEX : d->vex ? SH_NEEDAVX : SH_NEEDSSE);
        break;
    case ZYDIS_REGCLASS_ZMM:
    case ZYDIS_REGCLASS_MASK:
        s->flags |= SH_VEC | SH_NEEDEVEX;
        break;
    default:
        break;
    }
}

static bool is_vector_class(ZydisRegisterClass c) {
    return c == ZYDIS_REGCLASS_X87 || c == ZYDIS_REGCLASS_MMX ||
           c == ZYDIS_REGCLASS_XMM || c == ZYDIS_REGCLASS_YMM ||
           c == ZYDIS_REGCLASS_ZMM || c == ZYDIS_REGCLASS_MASK;
}

/* Does the field that is encoded again name the register that Zydis sees? */
static bool same_register(const ZydisDecodedOperand *o, const struct dec *d,
                          ZydisRegisterClass c) {
    unsigned field = o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG  ? d->reg
                     : o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ? d->rm
                                                                      : d->vvvv;
    unsigned mask = c == ZYDIS_REGCLASS_MASK ? 7 : is_gpr(c) ? 15 : 31;
    return (field & mask) == (unsigned)ZydisRegisterGetId(o->reg.value);
}

/* Return: false when the translator cannot run it natively. */
static bool register_operand(const ZydisDecodedOperand *o, const struct dec *d,
                             struct shape *s) {
    ZydisRegisterClass c = ZydisRegisterGetClass(o->reg.value);
    bool gpr = is_gpr(c);
    struct role *r = NULL;
    vector_needs(c, d, s);
    switch (o->encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG:
        r = &s->reg;
        break;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
    case ZYDIS_OPERAND_ENCODING_OPCODE:
        r = &s->rm;
        break;
    case ZYDIS_OPERAND_ENCODING_NDSNDD:
        r = &s->vvvv;
        break;
    case ZYDIS_OPERAND_ENCODING_IS4:
        s->flags |= SH_IS4;
        return !gpr;
    default:
        break;
    }
    if (r) {
        if (gpr && r->kind) { /* one field as two operands */
            r->acc |= access_of(o);
            return true;
        }
        *r = (struct role){gpr ? K_GPR : K_OTHER, (uint8_t)(o->size / 8),
                           (uint8_t)access_of(o)};
        if (c == ZYDIS_REGCLASS_MASK)
            s->flags |= SH_NOMEMO; /* the fields' high bits are no part of the key */
        if ((d->evex || c == ZYDIS_REGCLASS_MASK) && !same_register(o, d, c))
            return false;
        return gpr || is_vector_class(c);
    }
    if (gpr) {
        ZydisRegister full =
            ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, o->reg.value);
        if (access_of(o) & ACC_W)
            s->implicit_writes |= (uint16_t)(1u << (full - ZYDIS_REGISTER_RAX));
        if (full == ZYDIS_REGISTER_RSP)
            return false;
        if (full == ZYDIS_REGISTER_RAX) {
            s->flags |= SH_RAX;
            if (access_of(o) & ACC_W)
                s->flags |= SH_RAX_W;
        }
        return true;
    }
    return c == ZYDIS_REGCLASS_FLAGS || is_vector_class(c) || c == ZYDIS_REGCLASS_IP ||
           o->reg.value == ZYDIS_REGISTER_MXCSR ||
           o->reg.value == ZYDIS_REGISTER_X87CONTROL ||
           o->reg.value == ZYDIS_REGISTER_X87STATUS ||
           o->reg.value == ZYDIS_REGISTER_X87TAG;
}

static bool operands(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op,
                     const struct dec *d, struct shape *s) {
    bool ok = true;
    for (unsigned i = 0; i < zi->operand_count; i++) {
        const ZydisDecodedOperand *o = &op[i];
        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
            ok &= register_operand(o, d, s);
        } else if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            if (o->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
                continue;
            if (o->mem.type != ZYDIS_MEMOP_TYPE_MEM ||
                (o->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM && s->cls != CLS_MOFFS)) {
                ok = false; /* implicit: stack, string, VSIB */
                continue;
            }
            s->flags |= SH_MEM;
            s->mem_size = (uint8_t)(o->size / 8);
            s->mem_acc = (uint8_t)access_of(o);
            if (d->evex)
                shape_masked(zi, op, o, d, &s->masked);
            ok &= o->size && o->size <= 64 * 8 && s->mem_acc;
        }
    }
    return ok;
}

static void flags_of(const ZydisDecodedInstruction *zi, struct shape *s) {
    const ZydisAccessedFlags *f = zi->cpu_flags;
    if (!f)
        return;
    s->fin = f->tested & FL_ARITH;
    s->fdef = (f->modified | f->set_0 | f->set_1) & FL_ARITH;
    s->fout = (s->fdef | f->undefined) & FL_ARITH;
    if (any_of(s->mnemonic, own_flags))
        s->fdef = s->fout;
    else
        s->fdef &= (uint16_t)~f->undefined;
}

static void quirks(const ZydisDecodedInstruction *zi, const struct dec *d,
                   struct shape *s) {
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_BSF: /* a zero source leaves the destination as it was */
    case ZYDIS_MNEMONIC_BSR:
        s->reg.acc = ACC_R | ACC_W;
        break;
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
        s->flags |= SH_FAULT;
        break;
    case ZYDIS_MNEMONIC_CMPXCHG16B:
        s->flags |= SH_FAULT | SH_ALIGN;
        break;
    case ZYDIS_MNEMONIC_EMMS:
        s->flags |= SH_VEC | SH_NEEDMMX;
        break;
    case ZYDIS_MNEMONIC_VZEROUPPER:
    case ZYDIS_MNEMONIC_VZEROALL:
        s->flags |= SH_VEC | SH_NEEDAVX;
        break;
    default:
        break;
    }
    if (zi->meta.isa_ext == ZYDIS_ISA_EXT_X87)
        s->flags |= SH_VEC | SH_NEED387 |
                    (any_of((uint16_t)zi->mnemonic, control) ? 0 : SH_NOTED);
    /* CVTSS2SI from memory names no vector register, but obeys MXCSR. */
    if (!(s->flags & SH_VEC) && zi->meta.category == ZYDIS_CATEGORY_CONVERT &&
        zi->meta.isa_set != ZYDIS_ISA_SET_I86 && zi->meta.isa_set != ZYDIS_ISA_SET_I386 &&
        zi->meta.isa_set != ZYDIS_ISA_SET_LONGMODE)
        vector_needs(ZYDIS_REGCLASS_XMM, d, s);
    if (s->flags & (SH_NEED387 | SH_NEEDMMX) && zi->mnemonic != ZYDIS_MNEMONIC_FNSTCW &&
        zi->mnemonic != ZYDIS_MNEMONIC_FNSTSW)
        s->flags |= SH_WAITS;
    if (s->flags & SH_VEC) {
        s->flags |= SH_FAULT;
        if (s->flags & SH_MEM && s->mem_size >= 16 &&
            zi->meta.isa_set != ZYDIS_ISA_SET_SHA && /* AMD does not check these */
            (d->vex ? any_of(zi->mnemonic, aligned) : !any_of(zi->mnemonic, unaligned)))
            s->flags |= SH_ALIGN;
    }
    unsigned op = d->in.opcode;
    bool shift = d->map == 0 && (op == 0xc0 || op == 0xc1 || (op & 0xfc) == 0xd0);
    bool shxd = d->map == 1 && !d->vex && (op & 0xf6) == 0xa4;
    if (shift || shxd)
        s->flags |= SH_SHIFT;
}

static void prefixes_of(const ZydisDecodedInstruction *zi, const struct dec *d,
                        struct shape *s) {
    for (unsigned i = 0; i < zi->raw.prefix_count; i++)
        if (zi->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY && !d->vex)
            s->mand = zi->raw.prefixes[i].value;
    s->p66 =
        !d->vex && !(s->flags & SH_VEC) && zi->operand_width == 16 && s->mand != 0x66;
}

/* LOCK before MOV CRn is op_mov_cr's to judge, but Zydis refuses it: show it a prefix
 * that does nothing there. Return: p, or copy. */
static const uint8_t *without_lock(const struct dec *d, const uint8_t *p, unsigned avail,
                                   uint8_t copy[15]) {
    if (!d->lock || d->vex || d->map != 1 || (d->in.opcode & 0xfd) != 0x20)
        return p;
    memcpy(copy, p, avail);
    for (unsigned i = 0; i < avail && copy[i] != 0x0f; i++)
        if (copy[i] == 0xf0)
            copy[i] = 0x3e;
    return copy;
}

/* avail: 15 at most. */
static bool decode_full(struct shape_source *src, const struct dec *d, const uint8_t *p,
                        unsigned avail, unsigned kind, ZydisDecodedInstruction *zi,
                        ZydisDecodedOperand *op, ZyanStatus *st) {
    uint8_t copy[15];
    p = without_lock(d, p, avail, copy);
    *st = ZydisDecoderDecodeFull(&src->dec[kind], p, avail, zi, op);
    return ZYAN_SUCCESS(*st);
}

/* Outside 64-bit code W of many instructions means nothing, and what is encoded again must
 * not have it: is it the same instruction without? (SDM volume 2, "VCVTSI2SD", "MOVD":
 * "VEX.W1 in non-64 bit is ignored".) */
static bool w_ignored(struct shape_source *src, const struct dec *d, const uint8_t *p,
                      unsigned avail, unsigned kind, const ZydisDecodedInstruction *zi,
                      const ZydisDecodedOperand *op) {
    ZydisDecodedInstruction narrow;
    ZydisDecodedOperand other[ZYDIS_MAX_OPERAND_COUNT];
    ZyanStatus st;
    uint8_t copy[15];
    unsigned at = d->evex ? zi->raw.evex.offset : zi->raw.vex.offset;
    if (kind == KIND_64 || !d->vex || !d->w)
        return false;
    memcpy(copy, p, avail);
    copy[at + 2] &= 0x7f;
    if (!decode_full(src, d, copy, avail, kind, &narrow, other, &st) ||
        narrow.mnemonic != zi->mnemonic || narrow.operand_count != zi->operand_count)
        return false;
    /* A register that is not named, EDX of VPCMPESTRI, has 32 bits all the same. */
    for (unsigned i = 0; i < zi->operand_count; i++)
        if (other[i].size != op[i].size &&
            op[i].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
            return false;
    return true;
}

static bool is_lane(const ZydisDecodedInstruction *zi, const struct dec *d) {
    return !d->evex && (zi->mnemonic == ZYDIS_MNEMONIC_VPEXTRD ||
                        zi->mnemonic == ZYDIS_MNEMONIC_VPINSRD);
}

static enum vecmem vecmem_kind(const ZydisDecodedInstruction *zi) {
    if (zi->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX)
        return zi->meta.category == ZYDIS_CATEGORY_GATHER ? VECMEM_GATHER_K
                                                          : VECMEM_SCATTER_K;
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_MASKMOVQ:
        return VECMEM_MMX;
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
        return VECMEM_XMM;
    default:
        return any_of((uint16_t)zi->mnemonic, masked) ? VECMEM_VMASKMOV : VECMEM_GATHER;
    }
}

static bool is_vecmem(const ZydisDecodedInstruction *zi) {
    return zi->meta.category == ZYDIS_CATEGORY_AVX2GATHER ||
           zi->meta.category == ZYDIS_CATEGORY_GATHER ||
           zi->meta.category == ZYDIS_CATEGORY_SCATTER ||
           any_of((uint16_t)zi->mnemonic, masked);
}

static void make_vecmem(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op,
                        const struct dec *d, struct shape *s) {
    const ZydisDecodedOperand *vector = &op[op[1].type == ZYDIS_OPERAND_TYPE_REGISTER];
    s->cls = CLS_HELPER;
    s->fn = vecmem_helper[vecmem_kind(zi)];
    s->flags |= SH_NOMEMO;
    vector_needs(ZydisRegisterGetClass(vector->reg.value), d, s);
}

static void make_helper(const ZydisDecodedInstruction *zi, const struct helper *h,
                        unsigned kind, const struct dec *d, struct shape *s) {
    s->cls = CLS_HELPER;
    s->fn = h->fn;
    s->helper_flags = h->flags;
    if (kind == KIND_32 && h->flags & HF_N64 && s->opsize == 4 && d->in.addrsize == 4 &&
        zi->meta.branch_type != ZYDIS_BRANCH_TYPE_FAR && classify64(zi) >= CLS_PUSH)
        s->flow = (uint8_t)classify64(zi);
}

static bool is_privileged(const ZydisDecodedInstruction *zi) {
    return zi->meta.category == ZYDIS_CATEGORY_SYSTEM ||
           zi->meta.category == ZYDIS_CATEGORY_IO ||
           zi->meta.category == ZYDIS_CATEGORY_INTERRUPT;
}

/* Has the CPU model it, or does its helper decide that for itself? */
static bool in_model(const struct shape_source *src, const ZydisDecodedInstruction *zi,
                     const struct helper *h, const struct dec *d, unsigned kind) {
    if (is_prefetch_register(d))
        return is_hint(src->model, zi, d);
    for (size_t i = 0; i < COUNT(own_features); i++)
        if (own_features[i].mnemonic == zi->mnemonic)
            return cpu_model_has(src->model, (enum cpu_feature)own_features[i].feature);
    if (zi->meta.isa_set == ZYDIS_ISA_SET_LAHF && kind != KIND_64)
        return true; /* CPUID tells of 64-bit code alone */
    return src->isa[zi->meta.isa_set] || (h && h->fn == op_hypercall) ||
           is_hint(src->model, zi, d) || is_cet_nop(src->model, zi);
}

/* The class by the encoding alone. Return: the helper, or NULL. */
static const struct helper *class_and_helper(const struct shape_source *src,
                                             const ZydisDecodedInstruction *zi,
                                             const ZydisDecodedOperand *op, unsigned kind,
                                             const struct dec *d, struct shape *s) {
    s->cls = (uint8_t)classify(src, zi, d, kind);
    if (zi->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
        zi->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX &&
        !(zi->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX && d->evex)) {
        s->cls = CLS_UD;
        return NULL;
    }
    /* Zydis may call XCHG with the accumulator PAUSE. */
    return s->cls == CLS_XCHG_ACC ? NULL : helper_find(zi, op, kind);
}

/* Near branches of 64-bit code with a 16-bit operand. Zydis takes 66 from short ones. */
static bool make_near_16(const struct shape_source *src, const struct helper *h,
                         const struct dec *d, unsigned kind, struct shape *s) {
    static enum cpu_rc (*const by[CLS_COUNT])(struct cpu *, const struct insn *) = {
        [CLS_JMP] = op_jmp_near, [CLS_CALL] = op_call_near, [CLS_RET] = op_ret_near,
        [CLS_JCC] = op_jcc,      [CLS_LOOP] = op_loop,      [CLS_JCXZ] = op_jcxz,
    };
    if (h || kind != KIND_64 || !d->p66 || d->w || !by[s->cls] ||
        !cpu_model_follows(src->model, RULE_near_16))
        return false;
    s->fn = by[s->cls];
    s->cls = CLS_HELPER;
    s->opsize = 2;
    s->helper_flags = HF_END;
    return true;
}

/* Everything of an instruction that is neither undefined, a NOP nor in vecmem.c. */
static void make_rest(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op,
                      unsigned kind, const struct dec *d, const struct helper *h,
                      struct shape *s) {
    bool stack = s->cls == CLS_PUSH || s->cls == CLS_POP || s->cls == CLS_LEAVE;
    if (!h && stack && s->opsize != 8) {
        s->fn = s->cls == CLS_PUSH ? op_push : s->cls == CLS_POP ? op_pop : op_leave;
        s->cls = CLS_HELPER;
        return;
    }
    bool native = operands(zi, op, d, s);
    flags_of(zi, s);
    quirks(zi, d, s);
    prefixes_of(zi, d, s);
    if (h)
        make_helper(zi, h, kind, d, s);
    else if (s->cls == CLS_PLAIN && (!native || is_privileged(zi)))
        s->cls = CLS_UD;
}

/* What an 8-bit displacement counts: Zydis multiplies that of the operand. */
static uint8_t disp8_unit(const ZydisDecodedInstruction *zi,
                          const ZydisDecodedOperand *op) {
    for (unsigned i = 0; zi->raw.disp.value && i < zi->operand_count; i++)
        if (op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            return (uint8_t)(op[i].mem.disp.value / zi->raw.disp.value);
    return 1;
}

bool shape_make(struct shape_source *src, const uint8_t *p, unsigned avail, unsigned kind,
                const struct dec *d, struct shape *s) {
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    ZyanStatus st;
    memset(s, 0, sizeof *s);
    s->cls = CLS_UD;
    if (!decode_full(src, d, p, avail, kind, &zi, op, &st)) {
        /* Which registers it names may be what Zydis refuses: those of a gather. */
        s->flags = d->vex ? SH_NOMEMO : 0;
        return st != ZYDIS_STATUS_NO_MORE_DATA && st != ZYDIS_STATUS_INSTRUCTION_TOO_LONG;
    }
    s->mnemonic = (uint16_t)zi.mnemonic;
    s->opsize = zi.operand_width / 8;
    s->imm_len = (zi.raw.imm[0].size + zi.raw.imm[1].size) / 8;
    s->disp_n = d->evex ? disp8_unit(&zi, op) : 1;
    const struct helper *h = class_and_helper(src, &zi, op, kind, d, s);
    if (w_ignored(src, d, p, avail, kind, &zi, op)) {
        s->flags |= SH_W0;
        if (is_lane(&zi, d) && !cpu_model_follows(src->model, RULE_narrow_lanes))
            s->cls = CLS_UD;
    }
    if (zi.mnemonic ==
        (kind == KIND_64 ? ZYDIS_MNEMONIC_ENDBR64 : ZYDIS_MNEMONIC_ENDBR32))
        s->flags |= SH_ENDBR;
    if (!in_model(src, &zi, h, d, kind))
        s->cls = CLS_UD;
    else if (is_vecmem(&zi))
        make_vecmem(&zi, op, d, s);
    else if (s->cls != CLS_UD && s->cls != CLS_NOP && !make_near_16(src, h, d, kind, s))
        make_rest(&zi, op, kind, d, h, s);
    return true;
}

/* ---- For helpers ---- */

static void fill_register(const ZydisDecodedOperand *o, struct operand *out) {
    ZydisRegister r = o->reg.value;
    out->kind = OP_REG;
    out->reg = (uint8_t)ZydisRegisterGetId(r);
    switch (ZydisRegisterGetClass(r)) {
    case ZYDIS_REGCLASS_SEGMENT:
        out->kind = OP_SREG;
        break;
    case ZYDIS_REGCLASS_CONTROL:
        out->kind = OP_CR;
        break;
    case ZYDIS_REGCLASS_DEBUG:
        out->kind = OP_DR;
        break;
    case ZYDIS_REGCLASS_GPR8:
        if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH) {
            out->kind = OP_REG_HIGH;
            out->reg = (uint8_t)(r - ZYDIS_REGISTER_AH);
        } else if (r <= ZYDIS_REGISTER_BL) {
            out->reg = (uint8_t)(r - ZYDIS_REGISTER_AL);
        } else {
            out->reg = (uint8_t)(r - ZYDIS_REGISTER_SPL + 4);
        }
        break;
    default:
        break;
    }
}

/* See vecmem.c. VSIB's index is a vector register, 4 included. */
static void fill_vecmem(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op,
                        struct dec *d) {
    struct insn *in = &d->in;
    enum vecmem kind = vecmem_kind(zi);
    in->opsize = kind >= VECMEM_XMM ? 1
                 : d->evex          ? 4 << d->w
                                    : (uint8_t)(op[0].element_size / 8);
    in->imm = kind == VECMEM_MMX ? 8 : 16u << d->l;
    for (unsigned i = 0; kind <= VECMEM_SCATTER_K && i < zi->operand_count_visible; i++)
        if (op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            in->index = (uint8_t)ZydisRegisterGetId(op[i].mem.index);
}

static void fill_immediates(const ZydisDecodedInstruction *zi, struct insn *in) {
    in->imm = zi->raw.imm[0].value.u; /* sign-extended by Zydis where it is signed */
    in->imm2 = (uint16_t)zi->raw.imm[1].value.u;
    if (zi->raw.imm[0].is_relative) {
        in->imm += in->rip + in->len;
        if (in->opsize < 8)
            in->imm &= in->opsize == 2 ? 0xffff : 0xffffffff;
    }
}

void shape_operands(struct shape_source *src, const uint8_t *p, unsigned kind,
                    struct dec *d) {
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    ZyanStatus st;
    struct insn *in = &d->in;
    in->fn = d->sh->fn;
    in->ends_block = d->sh->helper_flags & HF_END;
    in->own = d->sh->helper_flags & HF_OWN;
    in->arg = d->sh->helper_flags >> HF_ARG_SHIFT;
    if (!decode_full(src, d, p, in->len, kind, &zi, op, &st)) {
        in->fn = op_ud;
        return;
    }
    fill_immediates(&zi, in);
    if (d->sh->flags & SH_NOMEMO)
        fill_vecmem(&zi, op, d);
    for (unsigned i = 0; i < zi.operand_count_visible && i < 4; i++) {
        struct operand *out = &in->op[in->op_count++];
        out->size = (uint8_t)(op[i].size / 8);
        switch (op[i].type) {
        case ZYDIS_OPERAND_TYPE_REGISTER:
            fill_register(&op[i], out);
            break;
        case ZYDIS_OPERAND_TYPE_MEMORY:
            out->kind = OP_MEM;
            break;
        default:
            out->kind = OP_IMM;
            break;
        }
    }
    /* 66 before FF /2 and /4 of 64-bit code, which Zydis does not tell of. */
    if (zi.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR && d->has_modrm && in->opsize == 2)
        in->op[0].size = 2;
}
