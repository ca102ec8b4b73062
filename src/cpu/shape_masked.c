/* SPDX-License-Identifier: MIT */
/*
 * AVX-512: which bytes of a memory operand the mask chooses. An instruction without fault
 * suppression (SDM volume 2, "Exceptions Type E1NF" and its like) accesses all of them.
 */
#include <Zydis/Zydis.h>

#include "cpu/shape.h"

/* Elements in memory, and elements made of them. */
static const struct {
    uint8_t from, to;
} broadcasts[] = {
    [ZYDIS_BROADCAST_MODE_1_TO_2] = {1, 2},   [ZYDIS_BROADCAST_MODE_1_TO_4] = {1, 4},
    [ZYDIS_BROADCAST_MODE_1_TO_8] = {1, 8},   [ZYDIS_BROADCAST_MODE_1_TO_16] = {1, 16},
    [ZYDIS_BROADCAST_MODE_1_TO_32] = {1, 32}, [ZYDIS_BROADCAST_MODE_1_TO_64] = {1, 64},
    [ZYDIS_BROADCAST_MODE_2_TO_4] = {2, 4},   [ZYDIS_BROADCAST_MODE_2_TO_8] = {2, 8},
    [ZYDIS_BROADCAST_MODE_2_TO_16] = {2, 16}, [ZYDIS_BROADCAST_MODE_4_TO_8] = {4, 8},
    [ZYDIS_BROADCAST_MODE_4_TO_16] = {4, 16}, [ZYDIS_BROADCAST_MODE_8_TO_16] = {8, 16},
};

static bool suppresses(const ZydisDecodedInstruction *zi) {
    switch (zi->mnemonic) { /* type E4NF, where Zydis 4.0 has E4 (tests/diff) */
    case ZYDIS_MNEMONIC_VCVTNE2PS2BF16:
    case ZYDIS_MNEMONIC_VDBPSADBW:
    case ZYDIS_MNEMONIC_VGF2P8AFFINEQB:
    case ZYDIS_MNEMONIC_VGF2P8AFFINEINVQB:
        return false;
    default:
        break;
    }
    switch (zi->meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_E1:
    case ZYDIS_EXCEPTION_CLASS_E2:
    case ZYDIS_EXCEPTION_CLASS_E3:
    case ZYDIS_EXCEPTION_CLASS_E4:
    case ZYDIS_EXCEPTION_CLASS_E5:
    case ZYDIS_EXCEPTION_CLASS_E6:
    case ZYDIS_EXCEPTION_CLASS_E10:
    case ZYDIS_EXCEPTION_CLASS_E11:
        return true;
    default:
        return false;
    }
}

static bool is_packed(ZydisMnemonic m) {
    switch (m) {
    case ZYDIS_MNEMONIC_VCOMPRESSPD:
    case ZYDIS_MNEMONIC_VCOMPRESSPS:
    case ZYDIS_MNEMONIC_VEXPANDPD:
    case ZYDIS_MNEMONIC_VEXPANDPS:
    case ZYDIS_MNEMONIC_VPCOMPRESSB:
    case ZYDIS_MNEMONIC_VPCOMPRESSD:
    case ZYDIS_MNEMONIC_VPCOMPRESSQ:
    case ZYDIS_MNEMONIC_VPCOMPRESSW:
    case ZYDIS_MNEMONIC_VPEXPANDB:
    case ZYDIS_MNEMONIC_VPEXPANDD:
    case ZYDIS_MNEMONIC_VPEXPANDQ:
    case ZYDIS_MNEMONIC_VPEXPANDW:
        return true;
    default:
        return false;
    }
}

static bool is_vector(const ZydisDecodedOperand *o) {
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
           ZydisRegisterGetClass(o->reg.value) != ZYDIS_REGCLASS_MASK;
}

/* Without a broadcast: as many as the mask has bits for. VPDPBUSD's operand has more elements
 * (of its sums), the destination of VCVTPD2PS more than the source. */
static unsigned count_elements(const ZydisDecodedOperand *dest,
                               const ZydisDecodedOperand *mem) {
    unsigned n = mem->element_count;
    return is_vector(dest) && dest->element_count < n ? dest->element_count : n;
}

void shape_masked(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op,
                  const ZydisDecodedOperand *mem, const struct dec *d, struct masked *m) {
    unsigned mode = zi->avx.broadcast.mode, size = mem->size / 8;
    if (!d->aaa || !suppresses(zi))
        return;
    if (mode) {
        m->from = broadcasts[mode].from;
        m->count = broadcasts[mode].to;
    } else {
        m->count = m->from = (uint8_t)count_elements(&op[0], mem);
    }
    if (!m->from || size % m->from)
        return;
    m->size = (uint8_t)(size / m->from);
    m->packed = is_packed(zi->mnemonic);
    m->k = d->aaa;
}
