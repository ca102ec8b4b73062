/* SPDX-License-Identifier: MIT */
#include "compare.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "penumbra/x86.h"

/* Linux tells ring 3 of no hole in the kernel's half: arch/x86/mm/fault.c,
 * set_signal_archinfo. */
#define MXCSR_MM  0x20000u /* AMD's misaligned exception mask: no model has it */
#define TASK_SIZE UINT64_C(0x7ffffffff000)

static bool pushes_error(uint64_t trap) {
    return trap < 32 && (0x227d00u >> trap & 1);
}

static uint64_t error_of(const struct diff_outcome *o) {
    if (!pushes_error(o->trap))
        return 0;
    return o->trap == VEC_PF && o->cr2 >= TASK_SIZE ? o->error | 1 : o->error;
}

/* Ring 3 and the upper half of the addresses: with linear-address-space separation, and
 * under some hypervisors, #GP or #SS comes before the page fault (SDM volume 3, "Linear-
 * Address-Space Separation"). */
static bool separated(const struct diff_outcome *a, const struct diff_outcome *b) {
    return a->trap == VEC_PF && a->cr2 >> 63 && a->rip == b->rip && b->error == 0 &&
           (b->trap == VEC_GP || b->trap == VEC_SS);
}

/* Instructions of several accesses and checks; the manuals do not say which one of two
 * faults comes. */
static bool has_several(const struct diff_insn *in) {
    if (!in->defined)
        return false;
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_ENTER:
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_FNSAVE:
        return true;
    default:
        return in->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ||
               in->zi.meta.category == ZYDIS_CATEGORY_XSAVE ||
               in->zi.meta.category == ZYDIS_CATEGORY_XSAVEOPT;
    }
}

static bool is_fault(const struct diff_case *c, const struct diff_outcome *o) {
    return o->rip == c->rip &&
           ((o->trap >= VEC_TS && o->trap <= VEC_PF) || o->trap == VEC_AC);
}

/* An undefined encoding has no length: fetching it may fault, or find it too long, before it
 * is found undefined. */
static bool ends_fetch(const struct diff_case *c, const struct diff_outcome *o) {
    return o->rip == c->rip &&
           (o->trap == VEC_UD || (o->trap == VEC_GP && o->error == 0) ||
            (o->trap == VEC_PF && o->error == 0x14 &&
             o->cr2 == DIFF_CODE + DIFF_CODE_SIZE));
}
static bool fetched_further(const struct diff_case *c, const struct diff_insn *in,
                            const struct diff_outcome *a, const struct diff_outcome *b) {
    return !in->defined && ends_fetch(c, a) && ends_fetch(c, b);
}

/* The undefined is #UD here, but this host does something with it, where the manual names one
 * value of VEX.W and AMD's processors take both (VPERMQ), or where LOCK is ignored (VERW).
 * Both are reserved. */
static bool reserved(const struct diff_case *c, const struct diff_insn *in,
                     const struct diff_outcome *a, const struct diff_outcome *b) {
    if (in->defined || a->trap != VEC_UD || b->trap == VEC_UD)
        return false;
    return in->other_w || in->locked;
}

/* The host's XSAVE area is as large as its own XCR0 makes it, and may end in an absent page.
 */
static bool beyond_area(const struct diff_insn *in, const struct diff_outcome *b) {
    return in->defined && in->has_address && b->trap == VEC_PF &&
           (in->zi.meta.category == ZYDIS_CATEGORY_XSAVE ||
            in->zi.meta.category == ZYDIS_CATEGORY_XSAVEOPT) &&
           b->cr2 >= in->address + DIFF_XSAVE_AVX;
}

/* INT n through a gate that the host's kernel, or its hypervisor, has opened. */
static bool foreign_gate(const struct diff_case *c, const struct diff_insn *in,
                         const struct diff_outcome *a, const struct diff_outcome *b) {
    return in->defined && in->zi.mnemonic == ZYDIS_MNEMONIC_INT && a->trap == VEC_GP &&
           a->rip == c->rip && (b->trap != VEC_GP || b->rip != c->rip);
}

/* KVM takes #UD to emulate what the other vendor has, and looks at the ring first
 * (arch/x86/kvm/emulate.c: SYSEXIT is EmulateOnUD and Priv). */
static bool emulated(const struct diff_insn *in, const struct diff_outcome *a,
                     const struct diff_outcome *b) {
    return in->defined && in->zi.mnemonic == ZYDIS_MNEMONIC_SYSEXIT &&
           a->trap == VEC_UD && b->trap == VEC_GP && !b->error && a->rip == b->rip;
}

/* KVM on AMD's processors takes #DB, and injects INT1's with RIP still at the instruction
 * (arch/x86/kvm/svm/svm.c, db_interception). */
static bool early_int1(const struct diff_case *c, const struct diff_insn *in,
                       const struct diff_outcome *a, const struct diff_outcome *b) {
    return in->defined && in->zi.mnemonic == ZYDIS_MNEMONIC_INT1 && a->trap == VEC_DB &&
           b->trap == VEC_DB && b->rip == c->rip;
}

/* What is absent in the guest is the host's process itself. */
static bool of_the_host(const struct diff_own *own, const struct diff_outcome *a) {
    for (unsigned i = 0; i < DIFF_OWN && own[i].to; i++)
        if (a->trap == VEC_PF && a->cr2 >= own[i].from && a->cr2 < own[i].to)
            return true;
    return false;
}

static bool same_cause(const struct diff_case *c, const struct diff_insn *in,
                       const struct diff_outcome *a, const struct diff_outcome *b) {
    if (separated(a, b) || fetched_further(c, in, a, b))
        return true;
    if (has_several(in) && is_fault(c, a) && is_fault(c, b))
        return true;
    return a->trap == b->trap && a->rip == b->rip && error_of(a) == error_of(b) &&
           (a->trap != VEC_PF || a->cr2 == b->cr2);
}

/* The host's step ended at a new RIP, where the guest's block went on: to INT3, or to what
 * cannot be fetched. */
static bool arrived(const struct diff_outcome *a, const struct diff_outcome *b) {
    if (b->trap != VEC_DB)
        return false;
    return (a->trap == VEC_BP && a->rip == b->rip + 1) ||
           (a->rip == b->rip &&
            ((a->trap == VEC_PF && a->cr2 == b->rip && a->error & 0x10) ||
             (a->trap == VEC_GP && a->error == 0)));
}

static uint64_t flags_compared(const struct diff_mask *m, bool steps) {
    return steps ? m->rflags : m->rflags & ~(uint64_t)(FL_TF | FL_RF);
}

/* The host's kernel returns to the test's handler, which makes 0 of any null selector (SDM
 * volume 2, "IRET"). */
static uint16_t settled(uint16_t sel) {
    return sel < 4 ? 0 : sel;
}

/* A kernel need not tell of a base in its own half of the addresses (Linux,
 * arch/x86/kernel/process_64.c, do_arch_prctl_64). */
static bool same_base(uint64_t a, uint64_t b) {
    return a == b || a >> 63;
}

/* The upper halves are undefined outside 64-bit mode, to which a far jump may have led (SDM
 * volume 1, "General-Purpose Registers in 64-Bit Mode"). */
static bool same_registers(const struct diff_case *c, const struct diff_mask *m,
                           const struct diff_outcome *a, const struct diff_outcome *b) {
    uint64_t seen = b->sel[DIFF_CS_] == DIFF_CS64 ? ~UINT64_C(0) : UINT32_MAX;
    for (unsigned i = 0; i < 16; i++)
        if ((a->gpr[i] ^ b->gpr[i]) & seen && !(m->gpr >> i & 1))
            return false;
    if (c->bases && c->code64 &&
        (!same_base(a->fs_base, b->fs_base) || !same_base(a->gs_base, b->gs_base)))
        return false;
    for (unsigned i = 0; i < DIFF_SEGS; i++)
        if (settled(a->sel[i]) != settled(b->sel[i]))
            return false;
    return a->memory == b->memory;
}

static bool same_vectors(const struct diff_outcome *a, const struct diff_outcome *b) {
    return a->fcw == b->fcw && a->fsw == b->fsw && a->ftw == b->ftw &&
           a->mxcsr == b->mxcsr && !memcmp(a->st, b->st, sizeof a->st) &&
           !memcmp(a->xmm, b->xmm, sizeof a->xmm) &&
           !memcmp(a->ymm, b->ymm, sizeof a->ymm) &&
           !memcmp(a->zmm, b->zmm, sizeof a->zmm) &&
           !memcmp(a->high, b->high, sizeof a->high) && !memcmp(a->k, b->k, sizeof a->k);
}

bool diff_equal(const struct diff_own *own, const struct diff_case *c,
                const struct diff_insn *in, const struct diff_mask *m, bool steps,
                const struct diff_outcome *a, const struct diff_outcome *b) {
    if (b->mxcsr & MXCSR_MM || foreign_gate(c, in, a, b) || reserved(c, in, a, b) ||
        emulated(in, a, b) || early_int1(c, in, a, b) || beyond_area(in, b) ||
        of_the_host(own, a))
        return true;
    if (!same_cause(c, in, a, b) && !(!steps && arrived(a, b)))
        return false;
    return !((a->rflags ^ b->rflags) & flags_compared(m, steps)) &&
           same_registers(c, m, a, b) && same_vectors(a, b);
}

/* ---- Words ---- */

const char *diff_name(const struct diff_insn *in) {
    return in->defined ? ZydisMnemonicGetString(in->zi.mnemonic) : "undefined";
}

static void print_code(const struct diff_case *c) {
    ZydisDisassembledInstruction di;
    fprintf(stderr, "  %s code at %" PRIx64 ":", c->code64 ? "64-bit" : "32-bit", c->rip);
    for (unsigned i = 0; i < c->len; i++)
        fprintf(stderr, " %02x", c->code[i]);
    ZydisMachineMode mode =
        c->code64 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LONG_COMPAT_32;
    bool ok = ZYAN_SUCCESS(ZydisDisassembleIntel(mode, c->rip, c->code, 15, &di));
    fprintf(stderr, "  %s\n", ok ? di.text : "(undefined)");
}

static void print_before(const struct diff_case *c, const struct diff_insn *in) {
    static const char *const name[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
                                       "rsi", "rdi", "r8",  "r9",  "r10", "r11",
                                       "r12", "r13", "r14", "r15"};
    for (unsigned i = 0; i < (c->code64 ? 16 : 8); i++)
        fprintf(stderr, "%s%s %" PRIx64, i % 8 ? " " : "\n  ", name[i], c->gpr[i]);
    fprintf(stderr, "\n  rflags %" PRIx64 " fcw %02x%02x fsw %02x%02x ftw %02x",
            c->rflags, c->xsave[1], c->xsave[0], c->xsave[3], c->xsave[2], c->xsave[4]);
    if (in->has_address)
        fprintf(stderr, " operand at %" PRIx64, in->address);
    if (in->defined && in->zi.avx.mask.reg) {
        uint64_t k;
        memcpy(&k,
               c->xsave + DIFF_XSAVE_AVX + 8 * ZydisRegisterGetId(in->zi.avx.mask.reg),
               8);
        fprintf(stderr, " mask %" PRIx64, k);
    }
    fprintf(stderr, "\n");
}

static void field(const char *name, uint64_t guest, uint64_t host) {
    if (guest != host)
        fprintf(stderr, "  %-8s guest %" PRIx64 " host %" PRIx64 "\n", name, guest, host);
}

static void print_bytes(const uint8_t *p, unsigned size) {
    while (size--)
        fprintf(stderr, "%02x", p[size]);
}

/* n registers of `size` bytes, the first one being number `first`. */
static void vectors(const char *name, unsigned first, const void *guest, const void *host,
                    unsigned n, unsigned size) {
    const uint8_t *a = guest, *b = host;
    for (unsigned i = 0; i < n; i++, a += size, b += size) {
        if (!memcmp(a, b, size))
            continue;
        fprintf(stderr, "  %s%-5u guest ", name, first + i);
        print_bytes(a, size);
        fprintf(stderr, " host ");
        print_bytes(b, size);
        fprintf(stderr, "\n");
    }
}

void diff_print(const struct diff_case *c, const struct diff_insn *in,
                const struct diff_mask *m, const struct diff_outcome *a,
                const struct diff_outcome *b) {
    static const char *const seg[] = {"es", "cs", "ss", "ds", "fs", "gs"};
    print_code(c);
    fprintf(stderr, "  before:");
    print_before(c, in);
    field("vector", a->trap, b->trap);
    field("error", error_of(a), error_of(b));
    field("cr2", a->trap == VEC_PF ? a->cr2 : 0, b->trap == VEC_PF ? b->cr2 : 0);
    field("rip", a->rip, b->rip);
    field("rflags", a->rflags & m->rflags, b->rflags & m->rflags);
    for (unsigned i = 0; i < 16; i++) {
        char name[8];
        snprintf(name, sizeof name, "gpr %u", i);
        if (!(m->gpr >> i & 1))
            field(name, a->gpr[i], b->gpr[i]);
    }
    for (unsigned i = 0; i < DIFF_SEGS; i++)
        field(seg[i], a->sel[i], b->sel[i]);
    if (c->bases && c->code64) {
        field("fs base", a->fs_base, b->fs_base);
        field("gs base", a->gs_base, b->gs_base);
    }
    field("fcw", a->fcw, b->fcw);
    field("fsw", a->fsw, b->fsw);
    field("ftw", a->ftw, b->ftw);
    field("mxcsr", a->mxcsr, b->mxcsr);
    vectors("st", 0, a->st, b->st, 8, 16);
    vectors("xmm", 0, a->xmm, b->xmm, 16, 16);
    vectors("ymm", 0, a->ymm, b->ymm, 16, 16);
    vectors("zmm", 0, a->zmm, b->zmm, 16, 32);
    vectors("zmm", 16, a->high, b->high, 16, 64);
    vectors("k", 0, a->k, b->k, 8, 8);
}

void diff_print_memory(const struct diff_case *c, const uint8_t *guest,
                       const uint8_t *host) {
    unsigned shown = 0;
    for (uint32_t i = 0; i < DIFF_DATA_SIZE && shown < 16; i += 8) {
        uint64_t a, b;
        memcpy(&a, guest + i, 8), memcpy(&b, host + i, 8);
        bool masked = false;
        for (unsigned k = 0; k < DIFF_IGNORED; k++)
            masked |= i + 8 > c->ignore[k].at && i < c->ignore[k].at + c->ignore[k].len;
        if (a != b && !masked) {
            fprintf(stderr,
                    "  memory at %" PRIx64 ": guest %016" PRIx64 " host %016" PRIx64 "\n",
                    DIFF_DATA + i, a, b);
            shown++;
        }
    }
}
