/* SPDX-License-Identifier: MIT */
/* Instructions that share a helper, each under its own name. */
#pragma once

#include "cpu/insn.h"
#include "cpu/model.h"
#include "penumbra/x86.h"

#define BY(member, name, function, value)                                                \
    static inline enum cpu_rc name(struct cpu *cpu, const struct insn *in) {             \
        struct insn one = *in;                                                           \
        one.member = value;                                                              \
        return function(cpu, &one);                                                      \
    }
BY(arg, op_rdfsbase, op_rdbase, SEG_FS)
BY(arg, op_rdgsbase, op_rdbase, SEG_GS)
BY(arg, op_wrfsbase, op_wrbase, SEG_FS)
BY(arg, op_wrgsbase, op_wrbase, SEG_GS)
BY(arg, op_lsl, op_lar, 1)
BY(arg, op_verw, op_verr, 1)
BY(arg, op_lldt, op_load_system, SEG_LDTR)
BY(arg, op_ltr, op_load_system, SEG_TR)
BY(arg, op_sldt, op_store_system, SEG_LDTR)
BY(arg, op_str, op_store_system, SEG_TR)
BY(arg, op_lgdt, op_load_table, 0)
BY(arg, op_lidt, op_load_table, 1)
BY(arg, op_sgdt, op_store_table, 0)
BY(arg, op_sidt, op_store_table, 1)
BY(arg, op_jmp_far, op_far, 0)
BY(arg, op_call_far, op_far, 1)
BY(arg, op_breakpoint, op_int3, VEC_BP)
BY(arg, op_int1, op_int3, VEC_DB)
BY(arg, op_aas, op_aaa, 1)
BY(arg, op_das, op_daa, 1)
BY(arg, op_stac, op_clac, 1)
BY(arg, op_rdrnd, op_rdrand, CPU_F_rdrand)
BY(arg, op_rdseed, op_rdrand, CPU_F_rdseed)
BY(arg, op_xsave_full, op_xsave, CPU_F_xsave)
BY(arg, op_xsaveopt, op_xsave, CPU_F_xsaveopt)
BY(arg, op_xsave_compact, op_xsavec, CPU_F_xsavec)
BY(arg, op_xsaves, op_xsavec, CPU_F_xsaves)
BY(arg, op_xrstor_user, op_xrstor, CPU_F_xsave)
BY(arg, op_xrstors, op_xrstor, CPU_F_xsaves)
BY(arg, op_fnsave, op_fnstenv, 1)
BY(arg, op_frstor, op_fldenv, 1)
BY(opcode, op_movs, op_string, 0xa4)
BY(opcode, op_cmps, op_string, 0xa6)
BY(opcode, op_stos, op_string, 0xaa)
BY(opcode, op_lods, op_string, 0xac)
BY(opcode, op_scas, op_string, 0xae)
#undef BY
