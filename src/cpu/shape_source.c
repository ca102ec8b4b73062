/* SPDX-License-Identifier: MIT */
/* Zydis's decoders as a CPU model wants them, and which instruction sets it has. */
#include <stdlib.h>

#include <Zydis/Zydis.h>

#include "cpu/model.h"
#include "cpu/shape.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define ALWAYS 0xffffu

static const struct {
    uint8_t isa;
    uint16_t feature;
} isa_features[] = {
#define ISA(set, feature) {ZYDIS_ISA_SET_##set, CPU_F_##feature},
#define ISA_ALWAYS(set)   {ZYDIS_ISA_SET_##set, ALWAYS},
#include "cpu/isa.inc"
};

static bool model_offers(const struct cpu_model *model, unsigned feature) {
    return feature == ALWAYS || cpu_model_has(model, (enum cpu_feature)feature);
}

/* Zydis's optional modes are other meanings of encodings: those of features that not every
 * model has, and of an accelerator. Without its mode LZCNT is BSR, TZCNT BSF, WBNOINVD
 * WBINVD, and what MPX, CET and CLDEMOTE take are NOPs with a ModRM byte. */
static bool mode_wanted(const struct cpu_model *model, ZydisDecoderMode mode) {
    switch (mode) {
    case ZYDIS_DECODER_MODE_AMD_BRANCHES:
        return cpu_model_follows(model, RULE_near_16);
    case ZYDIS_DECODER_MODE_CET:
        return cpu_model_has_cet(model);
    case ZYDIS_DECODER_MODE_LZCNT:
        return cpu_model_has(model, CPU_F_abm);
    case ZYDIS_DECODER_MODE_TZCNT:
        return cpu_model_has(model, CPU_F_bmi1);
    default:
        return false;
    }
}

struct shape_source *shape_source_create(const struct cpu_model *model) {
    struct shape_source *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    static const struct {
        ZydisMachineMode mode;
        ZydisStackWidth width;
    } kinds[4] = {
        [KIND_64] = {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
        [KIND_32] = {ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32},
        [KIND_16] = {ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_STACK_WIDTH_16},
        [KIND_REAL] = {ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16},
    };
    for (unsigned k = 0; k < 4; k++) {
        ZydisDecoder *d = &s->dec[k];
        ZydisDecoderInit(d, kinds[k].mode, kinds[k].width);
        for (unsigned m = 0; m <= ZYDIS_DECODER_MODE_MAX_VALUE; m++)
            ZydisDecoderEnableMode(d, m, mode_wanted(model, m));
    }
    for (size_t i = 0; i < COUNT(isa_features); i++)
        s->isa[isa_features[i].isa] = true;
    for (size_t i = 0; i < COUNT(isa_features); i++)
        s->isa[isa_features[i].isa] &= model_offers(model, isa_features[i].feature);
    s->model = model;
    return s;
}
