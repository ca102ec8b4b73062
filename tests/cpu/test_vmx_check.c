/* SPDX-License-Identifier: MIT */
/*
 * VMX: the checks of an entry. Each row breaks one rule of the manual's, or comes as near to it as
 * may be, and L2 is entered.
 */
#include "fixture_vmx.h"

#define ENTERS   0
#define CONTROLS 7 /* VM-instruction errors */
#define HOST_BAD 8
#define STATE    0x80000021u /* or the reason of the exit */
/* L2 in 32-bit code with tables of 32 bits; with EPT; and an unrestricted one in 64-bit code. */
#define NARROW                                                                           \
    {ENTRY, ENTRY_MUST}, {0x6804, 0x2000}, {                                             \
        0x4816, 0xc09b                                                                   \
    }
#define FREE                                                                             \
    {PROC2, VX_PROC2 | 2 | 1u << 7}, {0x201a, EPT | 0x1e}, {                             \
        ENTRY, ENTRY_MUST                                                                \
    }
#define NARROW_EPT {PROC2, VX_PROC2 | 2}, {0x201a, EPT | 0x1e}, NARROW
#define POKES      8
#define HIGH       0xffff800000000000 /* the lowest address of the upper half */

struct poke {
    unsigned field;
    uint64_t value;
};
static const struct row {
    struct poke poke[POKES];
    unsigned result, qualification;
} rows[] = {
    /* ---- Controls ---- */
    {{{TARGETS, 5}}, CONTROLS, 0},
    {{{0x2000, IO_A + 8}}, CONTROLS, 0},
    {{{0x2002, 1ull << 46}}, CONTROLS, 0},
    {{{0x2004, MSRS + 1}}, CONTROLS, 0},
    {{{PROC2, 1u << 5}}, CONTROLS, 0},                  /* VPID 0 */
    {{{PROC2, 1u << 7}}, CONTROLS, 0},                  /* unrestricted without EPT */
    {{{PROC2, 1u << 1}}, CONTROLS, 0},                  /* EPTP 0 */
    {{{PIN, PIN_MUST | 1u << 5}}, CONTROLS, 0},         /* virtual NMIs, no NMI exits */
    {{{PROC, PROC_MUST | 1u << 22}}, CONTROLS, 0},      /* NMI windows without them */
    {{{INJECT, VALID | 1u << 8}}, CONTROLS, 0},         /* a type that is none */
    {{{INJECT, VALID | 2u << 8 | 3}}, CONTROLS, 0},     /* an NMI with vector 3 */
    {{{INJECT, VALID | 3u << 8 | 32}}, CONTROLS, 0},    /* exception 32 */
    {{{INJECT, VALID | 1u << 12}}, CONTROLS, 0},        /* a reserved bit */
    {{{INJECT, VALID | 1u << 11 | 0x30}}, CONTROLS, 0}, /* an interrupt's error code */
    {{{INJECT, VALID | 7u << 8 | 1}}, CONTROLS, 0},     /* other events have vector 0 */
    {{{TARGETS, 4}}, ENTERS, 0},
    {{{0x4014, 1}, {0x200a, LIST + 8}}, CONTROLS, 0}, /* lists of MSRs */
    {{{0x4014, 1}, {0x200a, 1ull << 46}}, CONTROLS, 0},
    {{{0x4014, 2}, {0x200a, (1ull << 46) - 16}}, CONTROLS, 0}, /* its end */
    {{{0x4014, 0}, {0x200a, LIST + 8}}, ENTERS, 0},
    {{{0x4010, 1}, {0x2008, LIST + 8}}, CONTROLS, 0},
    {{{0x4010, 1}, {0x2008, (1ull << 46) - 16}}, ENTERS, 0},
    {{{0x400e, 1}, {0x2006, LIST + 8}}, CONTROLS, 0},
    {{{0x400e, 2}, {0x2006, (1ull << 46) - 16}}, CONTROLS, 0},
    {{{0x2002, IO_B + 1}}, CONTROLS, 0},
    {{{PROC, VX_PROC & ~(1u << 25)}, {0x2000, 1}, {0x2002, 1}}, ENTERS, 0},
    {{{PROC, VX_PROC & ~(1u << 28)}, {0x2004, 1}}, ENTERS, 0},
    {{{PROC, VX_PROC & ~(1u << 31)}, {PROC2, ~0u}}, ENTERS, 0}, /* no secondary ones */
    {{{PROC, VX_PROC | 1u << 21}, {0x2012, LIST + 8}}, CONTROLS, 0}, /* virtual APIC */
    {{{PROC, VX_PROC | 1u << 21}, {0x2012, LIST}}, ENTERS, 0},
    {{{PROC, VX_PROC | 1u << 21}, {0x2012, LIST}, {0x401c, 16}}, CONTROLS, 0},
    {{{PROC, VX_PROC | 1u << 21}, {0x2012, LIST}, {0x401c, 1}}, CONTROLS, 0},
    {{{PROC2, VX_PROC2 | 1u << 5}, {0, 1}}, ENTERS, 0},            /* VPID */
    {{{PROC2, VX_PROC2 | 1u << 17}, {0x200e, LIST}}, CONTROLS, 0}, /* PML without EPT */
    {{{PROC2, VX_PROC2 | 1u << 22}}, CONTROLS, 0},                 /* MBEC without it */
    {{{PROC2, VX_PROC2 | 2 | 1u << 17}, {0x201a, EPT | 0x1e}, {0x200e, LIST + 8}},
     CONTROLS,
     0},
    {{{PROC2, VX_PROC2 | 2 | 1u << 17}, {0x201a, EPT | 0x5e}, {0x200e, LIST}}, ENTERS, 0},
    {{{PROC2, VX_PROC2 | 2 | 1u << 22}, {0x201a, EPT | 0x1e}}, ENTERS, 0},
    {{{PROC2, VX_PROC2 | 1u << 18}, {0x202a, LIST + 8}}, CONTROLS, 0}, /* #VE's page */
    {{{PROC2, VX_PROC2 | 1u << 13}, {0x2018, 2}}, CONTROLS, 0},        /* VM functions */
    {{{PROC2, VX_PROC2 | 1u << 13}, {0x2018, 0}}, ENTERS, 0},
    {{{PROC2, VX_PROC2 | 1u << 13}, {0x2018, 1}, {0x2024, LIST}},
     CONTROLS,
     0}, /* no EPT */
    {{{PROC2, VX_PROC2 | 2 | 1u << 13},
      {0x201a, EPT | 0x1e},
      {0x2018, 1},
      {0x2024, LIST + 8}},
     CONTROLS,
     0},
    {{{PROC2, VX_PROC2 | 2 | 1u << 13},
      {0x201a, EPT | 0x1e},
      {0x2018, 1},
      {0x2024, LIST}},
     ENTERS,
     0},
    {{{PROC2, VX_PROC2 | 1u << 14}, {0x2026, IO_A + 8}, {0x2028, IO_B}},
     CONTROLS,
     0}, /* shadowing */
    {{{PROC2, VX_PROC2 | 1u << 14}, {0x2026, IO_A}, {0x2028, IO_B + 8}}, CONTROLS, 0},
    {{{PROC2, VX_PROC2 | 1u << 14}, {0x2026, IO_A}, {0x2028, IO_B}}, ENTERS, 0},
    {{{EXIT, VX_EXIT | 1u << 22}}, CONTROLS, 0}, /* the timer is saved, and is off */
    {{{PIN, PIN_MUST | 1u << 6}, {EXIT, VX_EXIT | 1u << 22}, {0x482e, ~0u}}, ENTERS, 0},
    {{{PIN, PIN_MUST | 1u << 3 | 1u << 5}, {PROC, VX_PROC | 1u << 22}}, ENTERS, 0},
    {{{INJECT, VALID | 1u << 11 | 3u << 8 | 13}, {INJECT_ERROR, 0x10000}}, CONTROLS, 0},
    {{{INJECT, VALID | 1u << 11 | 2u << 8 | 2}}, CONTROLS, 0},
    {{{INJECT, VALID | 1u << 11 | 4u << 8 | 0x80}}, CONTROLS, 0},
    {{{INJECT, VALID | 4u << 8 | 0x80}, {INJECT_LEN, 16}}, CONTROLS, 0},
    {{{INJECT, VALID | 5u << 8 | 1}, {INJECT_LEN, 16}}, CONTROLS, 0},
    {{{INJECT, VALID | 6u << 8 | 3}, {INJECT_LEN, 16}}, CONTROLS, 0},
    {{{INJECT, 1u << 8 | 0x7000}}, ENTERS, 0}, /* it is not valid */
    {{{INJECT, VALID | 7u << 8}, {INJECT_LEN, 16}}, ENTERS, 0},
    {{{PROC2, VX_PROC2 | 2 | 1u << 7},
      {0x201a, EPT | 0x1e},
      {ENTRY, ENTRY_MUST},
      {0x6800, 0x20},
      {INJECT, VALID | 1u << 11 | 3u << 8 | 13}},
     CONTROLS,
     0}, /* real mode has no error codes */
    /* ---- L1 ---- */
    {{{0x6c00, 0x80000031ull & ~0x20u}}, HOST_BAD, 0},  /* CR0.NE */
    {{{0x6c00, 1ull << 32 | 0x80000031}}, HOST_BAD, 0}, /* CR0's upper half */
    {{{0x6c04, 0x20}}, HOST_BAD, 0},                    /* CR4.VMXE */
    {{{0x6c04, 0x2000}}, HOST_BAD, 0},                  /* 64 bits without PAE */
    {{{0x6c02, 1ull << 46}}, HOST_BAD, 0},              /* CR3 */
    {{{0x6c10, 1ull << 47}}, HOST_BAD, 0},              /* SYSENTER_ESP */
    {{{0x6c12, 1ull << 47}}, HOST_BAD, 0},
    {{{0x6c06, 1ull << 47}}, HOST_BAD, 0}, /* bases */
    {{{0x6c08, 1ull << 47}}, HOST_BAD, 0},
    {{{0x6c0a, 1ull << 47}}, HOST_BAD, 0},
    {{{0x6c0c, 1ull << 47}}, HOST_BAD, 0},
    {{{0x6c0e, 1ull << 47}}, HOST_BAD, 0},
    {{{0x6c16, 1ull << 47}}, HOST_BAD, 0}, /* RIP */
    {{{0xc02, 0}}, HOST_BAD, 0},           /* CS, TR are no null selectors */
    {{{0xc0c, 0}}, HOST_BAD, 0},
    {{{0xc00, 3}}, HOST_BAD, 0}, /* RPL, TI */
    {{{0xc04, KDATA | 4}}, HOST_BAD, 0},
    {{{EXIT, EXIT_MUST}}, HOST_BAD, 0}, /* a narrow host in long mode */
    {{{0x6c0c, 1ull << 63}}, HOST_BAD, 0},
    {{{0xc06, KDATA | 2}}, HOST_BAD, 0},
    {{{0xc08, KDATA | 4}}, HOST_BAD, 0},
    {{{0xc0a, KDATA | 1}}, HOST_BAD, 0},
    {{{0xc0c, TSS_SEL | 4}}, HOST_BAD, 0},
    {{{0xc04, 0}}, ENTERS, 0},                      /* SS of a host in 64-bit mode */
    {{{0x6c04, 0x2020 | 1ull << 40}}, HOST_BAD, 0}, /* CR4 */
    {{{EXIT, VX_EXIT | 1u << 19}, {0x2c00, 2}}, HOST_BAD, 0}, /* PAT: types 2, 3, 8 */
    {{{EXIT, VX_EXIT | 1u << 19}, {0x2c00, 3ull << 56}}, HOST_BAD, 0},
    {{{EXIT, VX_EXIT | 1u << 19}, {0x2c00, 8}}, HOST_BAD, 0},
    {{{EXIT, VX_EXIT | 1u << 19}, {0x2c00, 0x0706050401000606}}, ENTERS, 0},
    {{{0x2c00, 2}}, ENTERS, 0}, /* it is not loaded */
    {{{EXIT, VX_EXIT | 1u << 21}, {0x2c02, 1ull << 40 | 0xd01}}, HOST_BAD, 0}, /* EFER */
    {{{EXIT, VX_EXIT | 1u << 21}, {0x2c02, 0x101}}, HOST_BAD, 0},
    {{{EXIT, VX_EXIT | 1u << 21}, {0x2c02, 0x401}}, HOST_BAD, 0},
    {{{EXIT, VX_EXIT | 1u << 21}, {0x2c02, 0xd01}}, ENTERS, 0},
    /* ---- L2 ---- */
    {{{0x6800, 0x80000011}}, STATE, 0}, /* CR0.NE */
    {{{0x6800, 0x31}}, STATE, 0},       /* CR0.PG */
    {{{0x6802, 1ull << 46}}, STATE, 0}, /* CR3 */
    {{{0x6804, 0x20}}, STATE, 0},       /* CR4.VMXE */
    {{{0x6804, 0x2000}}, STATE, 0},     /* long mode without PAE */
    {{{ENTRY, ENTRY_MUST}}, STATE, 2},  /* PAE: the PDPTEs at CR3 are none */
    {{{0x6824, 1ull << 47}}, STATE, 0}, /* SYSENTER_ESP */
    {{{0x6826, 1ull << 47}}, STATE, 0},
    {{{0x6816, 1ull << 47}}, STATE, 0}, /* GDTR, IDTR */
    {{{0x6818, 1ull << 47}}, STATE, 0},
    {{{0x4810, 0x10000}}, STATE, 0},
    {{{0x4812, 0x10000}}, STATE, 0},
    {{{RIP, 1ull << 47}}, STATE, 0},
    {{{RFLAGS, 0}}, STATE, 0},
    {{{RFLAGS, 2 | 1u << 15}}, STATE, 0},
    {{{RFLAGS, 2 | FL_VM}}, STATE, 0},  /* in long mode */
    {{{0x80e, TSS_SEL | 4}}, STATE, 0}, /* TR in an LDT */
    {{{0x4822, 0x83}}, STATE, 0},       /* TR of 16 bits in long mode */
    {{{0x4822, UNUSABLE}}, STATE, 0},
    {{{0x4816, 0xa093}}, STATE, 0},     /* CS is data */
    {{{0x4816, 0xe09b}}, STATE, 0},     /* L and D */
    {{{0x4816, 0xa01b}}, STATE, 0},     /* not present */
    {{{0x4816, 0xa0fb}}, STATE, 0},     /* its DPL is not SS's */
    {{{0x4818, 0xc091}}, STATE, 0},     /* SS is read-only */
    {{{0x4818, 0xc0f3}}, STATE, 0},     /* its DPL is not its RPL */
    {{{0x481a, 0xc092}}, STATE, 0},     /* DS was not accessed */
    {{{0x481a, 0xc099}}, STATE, 0},     /* DS may not be read */
    {{{0x481a, 0xc193}}, STATE, 0},     /* a reserved bit */
    {{{0x4806, 0xffff0}}, STATE, 0},    /* DS: G and its limit */
    {{{0x680c, 1ull << 32}}, STATE, 0}, /* DS's base */
    {{{0x680e, 1ull << 47}}, STATE, 0}, /* FS's */
    {{{0x4820, 0x83}}, STATE, 0},       /* LDTR's type */
    {{{ACTIVITY, 2}}, STATE, 0},        /* shutdown is not supported */
    {{{BLOCKED, 3}}, STATE, 0},
    {{{BLOCKED, 1}}, STATE, 0}, /* STI with IF clear */
    {{{BLOCKED, 4}}, STATE, 0}, /* SMIs outside SMM */
    {{{BLOCKED, 32}}, STATE, 0},
    {{{PENDING, 1u << 13}}, STATE, 0},
    {{{INJECT, VALID | 0x31}}, STATE, 0}, /* an interrupt with IF clear */
    {{{0x2800, VMCS_AT + 8}}, STATE, 4},  /* the link pointer */
    {{{0x2800, 0x2f000}}, STATE, 4},
    {{{ENTRY, VX_ENTRY | 4}, {0x2802, 4}}, STATE, 0}, /* DEBUGCTL, DR7 */
    {{{ENTRY, VX_ENTRY | 4}, {0x2802, 3}}, ENTERS, 0},
    {{{ENTRY, VX_ENTRY | 4}, {0x681a, 1ull << 32}}, STATE, 0},
    {{{0x2802, 4}, {0x681a, 1ull << 32}}, ENTERS, 0},        /* they are not loaded */
    {{{ENTRY, VX_ENTRY | 1u << 14}, {0x2804, 2}}, STATE, 0}, /* PAT */
    {{{ENTRY, VX_ENTRY | 1u << 14}, {0x2804, 0x0706050401000606}}, ENTERS, 0},
    {{{ENTRY, VX_ENTRY | 1u << 15}, {0x2806, 1ull << 40 | 0xd01}}, STATE, 0}, /* EFER */
    {{{ENTRY, VX_ENTRY | 1u << 15}, {0x2806, 0x101}}, STATE, 0},
    {{{ENTRY, VX_ENTRY | 1u << 15}, {0x2806, 0x401}}, STATE, 0},
    {{{ENTRY, VX_ENTRY | 1u << 15}, {0x2806, 0xd01}}, ENTERS, 0},
    {{NARROW, {0x6804, 0x22000}}, STATE, 0}, /* CR4.PCIDE without 64 bits */
    {{NARROW}, ENTERS, 0},
    {{NARROW, {RIP, 1ull << 32}}, STATE, 0},
    {{{0x4816, 0xc09b}, {RIP, 1ull << 32}}, STATE, 0}, /* a compatibility segment */
    {{NARROW, {0x4822, 0x83}}, ENTERS, 0},             /* TR of 16 bits */
    {{{0x4822, 0x8b | 1u << 8}}, STATE, 0},            /* a reserved bit */
    {{{0x4822, 0x9b}}, STATE, 0},                      /* TR is no system segment */
    {{{0x680a + 10, 1ull << 47}}, STATE, 0},           /* TR's base */
    {{{0x4820, 0x82}, {0x480c, 0x67}, {0x80c, 0x70}}, ENTERS, 0}, /* LDTR */
    {{{0x4820, 0x82}, {0x480c, 0x67}, {0x80c, 0x74}}, STATE, 0},
    {{{0x4820, 0x02}, {0x480c, 0x67}, {0x80c, 0x70}}, STATE, 0},
    {{{0x4820, 0x82}, {0x480c, 0x67}, {0x80c, 0x70}, {0x6812, 1ull << 47}}, STATE, 0},
    {{{0x6810, 1ull << 47}}, STATE, 0}, /* GS's base */
    {{{0x6808, 1ull << 32}}, STATE, 0}, /* CS's, SS's, ES's */
    {{{0x680a, 1ull << 32}}, STATE, 0},
    {{{0x6806, 1ull << 32}}, STATE, 0},
    {{{0x4818, 0xc097}}, ENTERS, 0}, /* SS expands down */
    {{{0x4818, 0xc09b}}, STATE, 0},  /* SS is code */
    {{{0x4818, UNUSABLE}}, ENTERS, 0},
    {{{0x804, KDATA | 3}}, STATE, 0}, /* its RPL is not CS's */
    {{{0x4816, 0xa09f}}, ENTERS, 0},  /* CS conforms */
    {{{0x4816, 0xa0ff}}, STATE, 0},   /* its DPL is above SS's */
    {{{0x4816, 0xa09a}}, STATE, 0},   /* it was not accessed */
    {{{0x806, KDATA | 3}}, STATE, 0}, /* DS's DPL is below its RPL */
    {{{0x806, KDATA | 3}, {0x481a, 0xc0f3}}, ENTERS, 0},
    {{{0x806, KDATA | 3}, {0x481a, 0xc09f}}, ENTERS, 0}, /* conforming code */
    {{{0x4806, 0x100fff}, {0x481a, 0x4093}}, STATE, 0},  /* a wide limit without G */
    {{{0x4806, 0x100fff}, {0x481a, 0x4093}, {0x4806, 0xffff}}, ENTERS, 0},
    {{{0x4814, UNUSABLE}, {0x4806, 0xffff0}}, STATE, 0},
    {{{0x481a, UNUSABLE}, {0x4806, 0xffff0}}, ENTERS, 0}, /* of an unusable one nothing */
    /* Unrestricted guests: CS may be data of ring 0, and privileges are not compared. */
    {{FREE, {0x4816, 0xc093}}, ENTERS, 0},
    {{FREE, {0x4816, 0xc0f3}}, STATE, 0},
    {{FREE, {0x4816, 0xc093}, {0x4818, 0xc0f3}}, STATE, 0},
    {{FREE, {0x806, KDATA | 3}}, ENTERS, 0},
    {{FREE, {0x804, KDATA | 3}}, ENTERS, 0},
    {{FREE, {0x6800, 0x20}, {0x6804, 0x2000}}, ENTERS, 0}, /* real mode */
    {{FREE, {0x6800, 0x20}, {0x6804, 0x2000}, {0x4818, 0xc0f3}}, STATE, 0},
    {{FREE, {0x6800, 0x80000020}}, STATE, 0},                /* PG without PE */
    {{FREE, {0x6800, 0}}, STATE, 0},                         /* NE */
    {{FREE, {0x6800, 0x20}, {RFLAGS, 2 | FL_VM}}, STATE, 0}, /* VM without PE */
    /* PDPTEs of a guest with EPT are fields. */
    {{NARROW_EPT, {0x6804, 0x2020}, {0x280c, 3}}, STATE, 2},
    {{NARROW_EPT, {0x6804, 0x2020}, {0x2810, 1ull << 46 | 1}}, STATE, 2},
    {{NARROW_EPT, {0x6804, 0x2020}, {0x280e, 0x1001}, {0x2810, 2}}, ENTERS, 0},
    {{NARROW_EPT, {0x280c, 3}}, ENTERS, 0}, /* no PAE */
    /* Activity, and what blocks events */
    {{{ACTIVITY, 1}}, ENTERS, 0},
    {{{ACTIVITY, 3}}, STATE, 0},
    {{{ACTIVITY, 1}, {RFLAGS, 2 | FL_IF}, {BLOCKED, 1}}, STATE, 0},
    {{{ACTIVITY, 1}, {BLOCKED, 2}}, STATE, 0},
    {{{ACTIVITY, 1},
      {0x802, UCODE | 3},
      {0x804, UDATA | 3},
      {0x4816, 0xa0fb},
      {0x4818, 0xc0f3}},
     STATE,
     0},
    {{{ACTIVITY, 1}, {INJECT, VALID | 3u << 8 | 6}}, STATE, 0},
    {{{ACTIVITY, 1}, {INJECT, VALID | 4u << 8 | 0x80}, {INJECT_LEN, 2}}, STATE, 0},
    {{{ACTIVITY, 1}, {INJECT, VALID | 7u << 8}}, ENTERS, 0},
    {{{BLOCKED, 8}}, ENTERS, 0},
    {{{BLOCKED, 2}}, ENTERS, 0},
    {{{BLOCKED, 1}, {RFLAGS, 2 | FL_IF}}, ENTERS, 0},
    {{{BLOCKED, 1}, {RFLAGS, 2 | FL_IF}, {INJECT, VALID | 0x31}}, STATE, 0},
    {{{BLOCKED, 2}, {RFLAGS, 2 | FL_IF}, {INJECT, VALID | 0x31}}, STATE, 0},
    {{{BLOCKED, 2}, {INJECT, VALID | 2u << 8 | 2}}, STATE, 3},
    {{{BLOCKED, 1}, {RFLAGS, 2 | FL_IF}, {INJECT, VALID | 2u << 8 | 2}}, STATE, 3},
    {{{BLOCKED, 8}, {PIN, PIN_MUST | 1u << 3 | 1u << 5}, {INJECT, VALID | 2u << 8 | 2}},
     STATE,
     0},
    {{{BLOCKED, 2}, {RFLAGS, 2 | FL_TF}}, STATE, 0}, /* a trap that is not pending */
    {{{BLOCKED, 2}, {RFLAGS, 2 | FL_TF}, {PENDING, 1u << 14}}, ENTERS, 0},
    {{{BLOCKED, 2}, {PENDING, 1u << 14}}, STATE, 0},
    /* With DEBUGCTL.BTF TF steps by branches. */
    {{{BLOCKED, 2}, {RFLAGS, 2 | FL_TF}, {0x2802, 2}}, ENTERS, 0},
    {{{BLOCKED, 2}, {RFLAGS, 2 | FL_TF}, {PENDING, 1u << 14}, {0x2802, 2}}, STATE, 0},
    {{{ACTIVITY, 1}, {RFLAGS, 2 | FL_TF}}, STATE, 0},
    {{{0x2800, 1ull << 46}}, STATE, 4},
    {{{0x2800, OTHER_AT}}, ENTERS, 0},
    {{{0x2800, VMCS_AT}}, STATE, 4}, /* the current VMCS */
    {{{PROC2, VX_PROC2 | 1u << 14}, {0x2026, IO_A}, {0x2028, IO_B}, {0x2800, OTHER_AT}},
     STATE,
     4}, /* it is no shadow */
    /* ---- Edges that are passed, and what has none above ---- */
    {{{0x400e, 2}, {0x2006, (1ull << 46) - 32}}, ENTERS, 0},
    {{{PROC2, VX_PROC2 | 1u << 18}, {0x202a, (1ull << 46) - 0x1000}}, ENTERS, 0},
    {{{PROC, VX_PROC | 1u << 21}, {0x2012, LIST}, {0x401c, 0}}, ENTERS, 0},
    {{{INJECT, VALID | 1u << 11 | 3u << 8 | 13}, {INJECT_ERROR, 0xffff}}, ENTERS, 0},
    {{{0xc00, 0xfff8}}, ENTERS, 0}, /* L1's selectors */
    {{{0xc02, 0xfff8}}, ENTERS, 0},
    {{{0xc06, 0xfff8}}, ENTERS, 0},
    {{{0xc08, 0xfff8}}, ENTERS, 0},
    {{{0xc0a, 0xfff8}}, ENTERS, 0},
    {{{0xc0c, 0xfff8}}, ENTERS, 0},
    {{{0x6c00, 0xffffffff}}, ENTERS, 0}, /* its registers */
    {{{0x6c02, (1ull << 46) - 1}}, ENTERS, 0},
    {{{0x6c04, 0x220a0}}, ENTERS, 0},
    {{{0x6c06, HIGH}}, ENTERS, 0},
    {{{0x6c08, HIGH}}, ENTERS, 0},
    {{{0x6c0a, HIGH}}, ENTERS, 0},
    {{{0x6c0c, HIGH}}, ENTERS, 0},
    {{{0x6c0e, HIGH}}, ENTERS, 0},
    {{{0x6c10, HIGH}}, ENTERS, 0},
    {{{0x6c12, HIGH}}, ENTERS, 0},
    {{{0x6c16, HIGH}}, ENTERS, 0},
    {{{0x800, KDATA | 3}}, STATE, 0}, /* L2's selectors: ES, FS, GS, TR */
    {{{0x800, KDATA | 3}, {0x4814, 0xc0f3}}, ENTERS, 0},
    {{{0x808, KDATA | 3}, {0x481c, 0xc093}, {0x4808, ~0u}}, STATE, 0},
    {{{0x808, KDATA | 3}, {0x481c, 0xc0f3}, {0x4808, ~0u}}, ENTERS, 0},
    {{{0x80a, KDATA | 3}, {0x481e, 0xc093}, {0x480a, ~0u}}, STATE, 0},
    {{{0x80a, KDATA | 3}, {0x481e, 0xc0f3}, {0x480a, ~0u}}, ENTERS, 0},
    {{{0x80e, 0xfff8}}, ENTERS, 0},
    {{{0x4800, 0xffff0}}, STATE, 0}, /* its limits */
    {{{0x4800, 0xfffff}}, ENTERS, 0},
    {{{0x4802, 0xffff0}}, STATE, 0},
    {{{0x4802, 0xfffff}}, ENTERS, 0},
    {{{0x4804, 0xffff0}}, STATE, 0},
    {{{0x4804, 0xfffff}}, ENTERS, 0},
    {{{0x481c, 0xc093}, {0x4808, 0xffff0}}, STATE, 0},
    {{{0x481e, 0xc093}, {0x480a, 0xffff0}}, STATE, 0},
    {{{0x480e, 0x100067}}, STATE, 0},
    {{{0x480e, 0xfffff}}, ENTERS, 0},
    {{{0x4814, UNUSABLE}}, ENTERS, 0},
    {{{0x6806, 0xffffffff}}, ENTERS, 0}, /* its bases */
    {{{0x6808, 0xffffffff}}, ENTERS, 0},
    {{{0x680a, 0xffffffff}}, ENTERS, 0},
    {{{0x680c, 0xffffffff}}, ENTERS, 0},
    {{{0x680e, HIGH}}, ENTERS, 0},
    {{{0x6810, HIGH}}, ENTERS, 0},
    {{{0x4820, 0x82}, {0x480c, 0x67}, {0x80c, 0x70}, {0x6812, HIGH}}, ENTERS, 0},
    {{{0x6814, HIGH}}, ENTERS, 0},
    {{NARROW_EPT, {0x6804, 0x2020}, {0x280a, 3}}, STATE, 2},
    {{NARROW_EPT, {0x6804, 0x2020}, {0x280a, 0x1001}}, ENTERS, 0},
    {{NARROW_EPT, {0x6804, 0x2020}, {0x280e, 0x21}}, STATE, 2},
    {{{0x4810, 0xffff}}, ENTERS, 0},
    {{{0x4812, 0xffff}}, ENTERS, 0},
    {{{0x6802, (1ull << 46) - 0x1000}}, ENTERS, 0},
    {{{0x6816, HIGH}}, ENTERS, 0},
    {{{0x6818, HIGH}}, ENTERS, 0},
    {{{RIP, HIGH}}, ENTERS, 0},
    {{{0x6824, HIGH}}, ENTERS, 0},
    {{{0x6826, HIGH}}, ENTERS, 0},
};
#define ROWS (int)(sizeof rows / sizeof rows[0])

START_TEST(a_vmcs_that_may_not_be_is_refused) {
    const struct row *r = &rows[_i];
    gate_set(VEC_GP, KCODE, 0xa000, 14, 0, 0); /* for what is injected */
    for (unsigned k = 0; k < POKES && (!k || r->poke[k].field || r->poke[k].value); k++)
        vx_put(r->poke[k].field, r->poke[k].value);
    if (r->result == CONTROLS || r->result == HOST_BAD) {
        vx_fails(vx_launch(), r->result);
        return;
    }
    ck_assert_int_eq(vx_launch(), CPU_JUMP);
    if (r->result == ENTERS) {
        ck_assert_msg(fx.cpu->vmx.guest, "reason %x", (unsigned)vx_get(REASON));
        return;
    }
    vx_left(STATE);
    ck_assert_uint_eq(vx_get(QUALIFICATION), r->qualification);
    vx_fill(); /* and without it L2 is entered */
    vx_enter();
}
END_TEST

/* The fields that a rule of VM entry is about, by their encodings (SDM volume 3, "VM-Execution
 * Control Fields" to "Checks on Guest Page-Directory-Pointer-Table Entries"): for each there is a
 * row that fails and one that enters. Those of the virtual APIC are in test_vmx_apic.c; limits and
 * bases of segments in virtual-8086 mode below. */
static const uint16_t checked[] = {
    /* controls */
    PIN, PROC, PROC2, EXIT, ENTRY, TARGETS, 0x2000, 0x2002, 0x2004, 0x2006, 0x2008,
    0x200a, 0x200e, 0x2012, 0x2018, 0x201a, 0x2024, 0x2026, 0x2028, 0x202a, 0x400e,
    0x4010, 0x4014, 0x401c, INJECT, INJECT_ERROR, INJECT_LEN,
    /* the host */
    0xc00, 0xc02, 0xc04, 0xc06, 0xc08, 0xc0a, 0xc0c, 0x2c00, 0x2c02, 0x6c00, 0x6c02,
    0x6c04, 0x6c06, 0x6c08, 0x6c0a, 0x6c0c, 0x6c0e, 0x6c10, 0x6c12, 0x6c16,
    /* the guest: selectors, limits, rights, bases */
    0x800, 0x804, 0x806, 0x808, 0x80a, 0x80c, 0x80e, 0x4800, 0x4802, 0x4804, 0x4806,
    0x4808, 0x480a, 0x480c, 0x480e, 0x4814, 0x4816, 0x4818, 0x481a, 0x481c, 0x481e,
    0x4820, 0x4822, 0x6806, 0x6808, 0x680a, 0x680c, 0x680e, 0x6810, 0x6812, 0x6814,
    /* registers, and what is none */
    0x2800, 0x2802, 0x2804, 0x2806, 0x280a, 0x280c, 0x280e, 0x2810, 0x4810, 0x4812,
    BLOCKED, ACTIVITY, 0x6800, 0x6802, 0x6804, 0x6816, 0x6818, 0x681a, RIP, RFLAGS,
    PENDING, 0x6824, 0x6826};

static bool pokes(const struct row *r, unsigned field) {
    for (unsigned k = 0; k < POKES; k++)
        if (r->poke[k].field == field)
            return true;
    return false;
}

START_TEST(each_field_that_is_checked_enters_and_fails) {
    unsigned missing = 0;
    for (unsigned i = 0; i < sizeof checked / sizeof checked[0]; i++) {
        unsigned enters = 0, fails = 0;
        for (int k = 0; k < ROWS; k++)
            if (pokes(&rows[k], checked[i]))
                *(rows[k].result == ENTERS ? &enters : &fails) += 1;
        missing += !enters || !fails;
        if (!enters || !fails)
            fprintf(stderr, "field %#x: %u rows enter, %u fail\n", checked[i], enters,
                    fails);
    }
    ck_assert_uint_eq(missing, 0);
}
END_TEST

/* Virtual-8086 mode, of which each segment is its selector's. */
START_TEST(virtual_8086_segments_are_what_they_were) {
    for (unsigned i = 0; i < 19; i++) {
        vx_fill();
        vx_put(ENTRY, ENTRY_MUST);
        vx_put(0x6804, 0x2000);
        vx_put(RFLAGS, 2 | FL_VM);
        for (unsigned seg = 0; seg < 6; seg++) {
            vx_put(0x800 + seg * 2, 0x1000 + seg);
            vx_put(0x6806 + seg * 2, (0x1000 + seg) << 4);
            vx_put(0x4800 + seg * 2, 0xffff);
            vx_put(0x4814 + seg * 2, 0xf3);
        }
        static const struct poke odd[] = {
            {0x6806, 0x10}, {0x4800, 0x1ffff}, {0x4814, 0xf7}};
        if (i)
            vx_put(odd[(i - 1) % 3].field + (i - 1) / 3 * 2, odd[(i - 1) % 3].value);
        ck_assert_int_eq(vx_launch(), CPU_JUMP);
        if (i)
            vx_left(STATE);
        else
            ck_assert_uint_eq(fx.cpu->vmx.guest, 1);
        vx_leave();
    }
}
END_TEST

/* L1 in 32-bit code, with tables of 32 bits that lead to the same addresses. */
static void narrow_l1(void) {
    vx_ok(vx_at(op_vmclear, VMCS_AT));
    for (unsigned i = 0; i < 1024; i++)
        ram_put(0x6000 + i * 4, i << 22 | 0x83, 4);
    fx.cpu->efer = 0;
    fix_prot();
    fx.cpu->cr0 = CR0_PE | CR0_PG | CR0_NE | 0x11;
    fx.cpu->cr3 = 0x6000;
    fx.cpu->cr4 = CR4_PSE | CR4_VMXE;
    cpu_update_paging(fx.cpu);
    cpu_update_mode(fx.cpu);
}

START_TEST(a_narrow_host_has_checks_of_its_own) {
    static const struct row each[] = {
        {{{0, 0}}, ENTERS, 0},
        {{{0x6c04, 0x22010}}, HOST_BAD, 0}, /* CR4.PCIDE */
        {{{0x6c16, 0}}, ENTERS, 0},
        {{{0xc04, 0}}, HOST_BAD, 0},                      /* SS */
        {{{ENTRY, VX_ENTRY}}, HOST_BAD, 0},               /* a wide guest */
        {{{EXIT, EXIT_MUST | 4 | 1u << 9}}, HOST_BAD, 0}, /* a wide host */
        {{{EXIT, EXIT_MUST | 4 | 1u << 21}, {0x2c02, 0x500}}, HOST_BAD, 0},
    };
    narrow_l1();
    for (unsigned i = 0; i < sizeof each / sizeof each[0]; i++) {
        vx_fill();
        vx_put(0x2801,
               ~0u); /* the link pointer's upper half, which 32-bit code has to write */
        vx_put(EXIT, EXIT_MUST | 4);
        vx_put(ENTRY, ENTRY_MUST);
        for (unsigned k = 0; k < POKES && each[i].poke[k].field; k++)
            vx_put(each[i].poke[k].field, each[i].poke[k].value);
        if (each[i].result == ENTERS) {
            ck_assert_int_eq(vx_launch(), CPU_JUMP);
            ck_assert_msg(fx.cpu->vmx.guest, "reason %x", (unsigned)vx_get(REASON));
            vx_leave();
        } else {
            vx_fails(vx_launch(), each[i].result);
        }
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("vmx_check");
    TCase *t = fix_case("vmx_check");
    tcase_add_checked_fixture(t, vx_create, vx_destroy);
    tcase_add_loop_test(t, a_vmcs_that_may_not_be_is_refused, 0, ROWS);
    tcase_add_test(t, each_field_that_is_checked_enters_and_fails);
    tcase_add_test(t, virtual_8086_segments_are_what_they_were);
    tcase_add_test(t, a_narrow_host_has_checks_of_its_own);
    suite_add_tcase(suite, t);
    return fix_run(suite);
}
