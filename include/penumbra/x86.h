/* SPDX-License-Identifier: MIT */
/*
 * Bits, indices and vectors of the architecture, once, for every room. Names are those of
 * the SDM (Intel, volumes 3 and 4), written REGISTER_BIT. The error code of a page fault
 * is in penumbra/types.h.
 */
#pragma once

#include <stdint.h>

/* ---- RFLAGS ---- */

#define FL_CF    0x0001u
#define FL_FIXED 0x0002u /* always set */
#define FL_PF    0x0004u
#define FL_AF    0x0010u
#define FL_ZF    0x0040u
#define FL_SF    0x0080u
#define FL_TF    0x0100u
#define FL_IF    0x0200u
#define FL_DF    0x0400u
#define FL_OF    0x0800u
#define FL_IOPL  0x3000u
#define FL_NT    0x4000u
#define FL_RF    0x10000u
#define FL_VM    0x20000u
#define FL_AC    0x40000u
#define FL_VIF   0x80000u
#define FL_VIP   0x100000u
#define FL_ID    0x200000u

/* ---- Control registers; 64 bits wide, so that ~ of one is, too ---- */

#define CR0_PE UINT64_C(0x1)
#define CR0_MP UINT64_C(0x2)
#define CR0_EM UINT64_C(0x4)
#define CR0_TS UINT64_C(0x8)
#define CR0_ET UINT64_C(0x10)
#define CR0_NE UINT64_C(0x20)
#define CR0_WP UINT64_C(0x10000)
#define CR0_AM UINT64_C(0x40000)
#define CR0_NW UINT64_C(0x20000000)
#define CR0_CD UINT64_C(0x40000000)
#define CR0_PG UINT64_C(0x80000000)

#define CR3_PCID    UINT64_C(0xfff)     /* with CR4.PCIDE */
#define CR3_NOFLUSH (UINT64_C(1) << 63) /* of the operand of MOV CR3 */

#define CR4_VME        UINT64_C(0x1)
#define CR4_PVI        UINT64_C(0x2)
#define CR4_TSD        UINT64_C(0x4)
#define CR4_DE         UINT64_C(0x8)
#define CR4_PSE        UINT64_C(0x10)
#define CR4_PAE        UINT64_C(0x20)
#define CR4_MCE        UINT64_C(0x40)
#define CR4_PGE        UINT64_C(0x80)
#define CR4_PCE        UINT64_C(0x100)
#define CR4_OSFXSR     UINT64_C(0x200)
#define CR4_OSXMMEXCPT UINT64_C(0x400)
#define CR4_UMIP       UINT64_C(0x800)
#define CR4_LA57       UINT64_C(0x1000)
#define CR4_VMXE       UINT64_C(0x2000)
#define CR4_FSGSBASE   UINT64_C(0x10000)
#define CR4_PCIDE      UINT64_C(0x20000)
#define CR4_OSXSAVE    UINT64_C(0x40000)
#define CR4_SMEP       UINT64_C(0x100000)
#define CR4_SMAP       UINT64_C(0x200000)
#define CR4_PKE        UINT64_C(0x400000)
#define CR4_CET        UINT64_C(0x800000)
#define CR4_PKS        UINT64_C(0x1000000)

#define EFER_SCE  UINT64_C(0x1)
#define EFER_LME  UINT64_C(0x100)
#define EFER_LMA  UINT64_C(0x400)
#define EFER_NXE  UINT64_C(0x800)
#define EFER_SVME UINT64_C(0x1000)

/* ---- Debug registers ---- */

#define DR6_BD    0x2000u
#define DR6_BS    0x4000u
#define DR6_BT    0x8000u
#define DR6_FIXED 0xffff0ff0u /* bits that read as 1 */
#define DR7_LOCAL 0x155u      /* L0..L3 and LE */
#define DR7_FIXED 0x400u
#define DR7_GD    0x2000u

/* ---- Entries of paging structures: 32-bit, PAE, 4-level and 5-level ---- */

#define PTE_P  UINT64_C(0x1)
#define PTE_W  UINT64_C(0x2)
#define PTE_U  UINT64_C(0x4)
#define PTE_A  UINT64_C(0x20)
#define PTE_D  UINT64_C(0x40)
#define PTE_PS UINT64_C(0x80) /* maps a large page; in a 4 KiB entry: PAT */

/* ---- Segments: attr of struct pn_segment, a descriptor's bits 40..55 ---- */

#define ATTR_S        0x0010u /* code or data, not system */
#define ATTR_P        0x0080u
#define ATTR_L        0x2000u
#define ATTR_DB       0x4000u
#define ATTR_G        0x8000u
#define ATTR_UNUSABLE 0x10000u /* as in a VMCS */

#define TYPE_ACC  1u
#define TYPE_RW   2u /* data: writable; code: readable */
#define TYPE_DOWN 4u /* data: expand-down */
#define TYPE_CONF 4u /* code: conforming */
#define TYPE_CODE 8u

/* ---- Vectors ---- */

enum {
    VEC_DE = 0,
    VEC_DB = 1,
    VEC_NMI = 2,
    VEC_BP = 3,
    VEC_OF = 4,
    VEC_BR = 5,
    VEC_UD = 6,
    VEC_NM = 7,
    VEC_DF = 8,
    VEC_TS = 10,
    VEC_NP = 11,
    VEC_SS = 12,
    VEC_GP = 13,
    VEC_PF = 14,
    VEC_MF = 16,
    VEC_AC = 17,
    VEC_MC = 18,
    VEC_XM = 19,
    VEC_VE = 20,
    VEC_CP = 21
};

/* Error codes of #CP (SDM volume 3, "Interrupt 21 - Control Protection Exception (#CP)"). */
enum {
    CP_NEAR_RET = 1,
    CP_FAR_RET = 2,
    CP_ENDBRANCH = 3,
    CP_RSTORSSP = 4,
    CP_SETSSBSY = 5
};

/* Error codes that name a selector (SDM volume 3, "Error Code"). */
#define ERR_IDT 2u

/* ---- XSAVE ---- */

/* Offsets in the area (SDM volume 1, "Legacy Region", "XSAVE Header"). */
#define FX_FCW       0
#define FX_FSW       2
#define FX_FTW       4
#define FX_FOP       6
#define FX_FIP       8
#define FX_FDP       16
#define FX_MXCSR     24
#define FX_MASK      28
#define FX_ST        32
#define FX_XMM       160
#define FX_XMM_SIZE  256u
#define FX_LEGACY    416 /* bytes that FXSAVE writes */
#define FX_SIZE      512
#define XSAVE_HEADER 512u /* XSTATE_BV, XCOMP_BV */

/* State components: bits of XCR0 and XSTATE_BV. */
#define XSTATE_X87     UINT64_C(1)
#define XSTATE_SSE     UINT64_C(2)
#define XSTATE_AVX     UINT64_C(4)
#define XSTATE_OPMASK  UINT64_C(0x20) /* K0..7 */
#define XSTATE_ZMM_HI  UINT64_C(0x40) /* upper halves of ZMM0..15 */
#define XSTATE_HI16    UINT64_C(0x80) /* ZMM16..31 */
#define XSTATE_PKRU    UINT64_C(0x200)
#define XSTATE_PKRU_NR 9u /* the bit's number: its subleaf of CPUID leaf 0dh */
/* Supervisor components, bits of IA32_XSS: U_CET and PL3_SSP; PL0_SSP to PL2_SSP. */
#define XSTATE_CET_U    UINT64_C(0x800)
#define XSTATE_CET_S    UINT64_C(0x1000)
#define XSTATE_CET_U_NR 11u
#define XSTATE_CET_S_NR 12u
#define XSTATE_CET      (XSTATE_CET_U | XSTATE_CET_S)
#define XSTATE_AVX512   (XSTATE_OPMASK | XSTATE_ZMM_HI | XSTATE_HI16)

#define FCW_RESET  0x40u /* power-up, RESET */
#define FCW_INIT   0x37fu
#define MXCSR_INIT 0x1f80u
#define MXCSR_MASK 0xffffu

/* ---- MSRs ---- */

/* MSR_FEATURE_CONTROL */
#define FEATURE_CONTROL_LOCK  UINT64_C(1)
#define FEATURE_CONTROL_VMXON UINT64_C(4)

enum {
    MSR_P5_MC_ADDR = 0x00,
    MSR_P5_MC_TYPE = 0x01,
    MSR_TSC = 0x10,
    MSR_KVM_WALL_CLOCK_OLD = 0x11,
    MSR_KVM_SYSTEM_TIME_OLD = 0x12,
    MSR_PLATFORM_ID = 0x17,
    MSR_APIC_BASE = 0x1b,
    MSR_FEATURE_CONTROL = 0x3a,
    MSR_TSC_ADJUST = 0x3b,
    MSR_SPEC_CTRL = 0x48,
    MSR_PRED_CMD = 0x49,
    MSR_UCODE_WRITE = 0x79,
    MSR_UCODE_REV = 0x8b,
    MSR_PLATFORM_INFO = 0xce,
    MSR_MTRR_CAP = 0xfe,
    MSR_ARCH_CAPABILITIES = 0x10a,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MCG_CAP = 0x179,
    MSR_MCG_STATUS = 0x17a,
    MSR_MISC_ENABLE = 0x1a0,
    MSR_DEBUGCTL = 0x1d9,
    MSR_LAST_BRANCH = 0x1db, /* from, to; of the last interrupt: from, to */
    MSR_MTRR_PHYS = 0x200,   /* base, mask, base, mask ... */
    MSR_MTRR_FIX64K = 0x250,
    MSR_MTRR_FIX16K = 0x258, /* and 0x259 */
    MSR_MTRR_FIX4K = 0x268,  /* .. 0x26f */
    MSR_PAT = 0x277,
    MSR_MTRR_DEF = 0x2ff,
    MSR_VMX_BASIC = 0x480,
    MSR_VMX_PIN = 0x481,
    MSR_VMX_PROC = 0x482,
    MSR_VMX_EXIT = 0x483,
    MSR_VMX_ENTRY = 0x484,
    MSR_VMX_MISC = 0x485,
    MSR_VMX_CR0_FIXED0 = 0x486,
    MSR_VMX_CR0_FIXED1 = 0x487,
    MSR_VMX_CR4_FIXED0 = 0x488,
    MSR_VMX_CR4_FIXED1 = 0x489,
    MSR_VMX_VMCS_ENUM = 0x48a,
    MSR_VMX_PROC2 = 0x48b,
    MSR_VMX_EPT_VPID = 0x48c,
    MSR_VMX_TRUE_PIN = 0x48d,
    MSR_VMX_TRUE_PROC = 0x48e,
    MSR_VMX_TRUE_EXIT = 0x48f,
    MSR_VMX_TRUE_ENTRY = 0x490,
    MSR_VMX_VMFUNC = 0x491,
    MSR_U_CET = 0x6a0,
    MSR_S_CET = 0x6a2,
    MSR_PL0_SSP = 0x6a4, /* to PL3_SSP, 0x6a7 */
    MSR_SSP_TABLE = 0x6a8,
    MSR_TSC_DEADLINE = 0x6e0,
    MSR_PKRS = 0x6e1,
    MSR_X2APIC = 0x800,
    MSR_X2APIC_LAST = 0x8ff,
    MSR_XSS = 0xda0,
    MSR_KVM_WALL_CLOCK = 0x4b564d00,
    MSR_KVM_SYSTEM_TIME = 0x4b564d01,
    MSR_KVM_STEAL_TIME = 0x4b564d03,
    MSR_KVM_EOI = 0x4b564d04,
    MSR_KVM_LAST = 0x4b564dff
};
/* Beyond an int, so no enumerators in C11. */
#define MSR_EFER           0xc0000080u
#define MSR_STAR           0xc0000081u
#define MSR_LSTAR          0xc0000082u
#define MSR_CSTAR          0xc0000083u
#define MSR_SFMASK         0xc0000084u
#define MSR_FS_BASE        0xc0000100u
#define MSR_GS_BASE        0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX        0xc0000103u
#define MSR_TSC_RATIO      0xc0000104u
#define TSC_RATIO_ONE      (UINT64_C(1) << 32)
#define MSR_K7_EVNTSEL0    0xc0010000u /* four, and their counters behind them */
#define MSR_K7_COUNTERS    8u
#define MSR_SYSCFG         0xc0010010u
#define MSR_HWCR           0xc0010015u
#define MSR_NB_CFG         0xc001001fu
#define MSR_VM_CR          0xc0010114u
#define MSR_VM_HSAVE_PA    0xc0010117u

/* Of MSR_U_CET and MSR_S_CET (SDM volume 1, "Control-flow Enforcement Technology (CET)"). */
#define CET_SHSTK    UINT64_C(0x1)  /* shadow stacks */
#define CET_WRSS     UINT64_C(0x2)  /* WRSS */
#define CET_IBT      UINT64_C(0x4)  /* indirect-branch tracking */
#define CET_LEGACY   UINT64_C(0x8)  /* the legacy code page bitmap */
#define CET_NOTRACK  UINT64_C(0x10) /* heed the prefix 3E */
#define CET_SUPP_DIS UINT64_C(0x20) /* legacy treatment suppresses nothing */
#define CET_RESERVED UINT64_C(0x3c0)
#define CET_SUPPRESS UINT64_C(0x400) /* tracking is suppressed */
#define CET_WAIT     UINT64_C(0x800) /* the tracker waits for ENDBRANCH */
#define CET_BITMAP   (~UINT64_C(0xfff))

/* ---- Interrupt controllers ---- */

#define APIC_BASE_BSP   0x100u /* of MSR_APIC_BASE */
#define APIC_BASE_X2    0x400u
#define APIC_BASE_EN    0x800u
#define APIC_BASE_RESET 0xfee00000u
#define IOAPIC_BASE     0xfec00000u
#define GSIS            24u /* global interrupts: the I/O APIC's pins */
