/* SPDX-License-Identifier: MIT */
/*
 * The stack of an inner ring, as call gates and interrupt gates take it from the TSS.
 *
 * Source: SDM volume 3, "Task-State Segment (TSS)", "64-bit TSS", "Stack Switching".
 */
#include "cpu/system.h"

enum cpu_rc inner_stack(struct cpu *cpu, unsigned cpl, unsigned ext, struct inner *in) {
    const struct pn_segment *tr = &cpu->seg[SEG_TR];
    uint8_t raw[8] = {0};
    uint16_t sel = 0;
    uint64_t sp = 0;
    unsigned size, at;
    bool wide = mode_long(cpu);
    if (wide)
        at = 4 + cpl * 8, size = 8;
    else if (tr->attr & 8) /* 32-bit TSS: ESP, SS and a pad */
        at = 4 + cpl * 8, size = 6;
    else
        at = 2 + cpl * 4, size = 4;
    if (at + size - 1 > tr->limit)
        return cpu_raise_code(cpu, VEC_TS, (tr->sel & ~3u) | ext);
    if (sys_read(cpu, tr->base + at, raw, size))
        return CPU_FAULT;

    in->null = wide;
    in->cpl = cpl;
    in->st = (struct stack){
        .mask = UINT64_MAX, .mode = cpl == 3 ? PN_TLB_USER : PN_TLB_SUPER, .error = ext};
    if (wide) {
        memcpy(&in->st.sp, raw, 8);
        return CPU_NEXT;
    }
    memcpy(&sp, raw, size - 2);
    memcpy(&sel, raw + size - 2, 2);
    if (sel_null(sel))
        return cpu_raise_code(cpu, VEC_TS, ext);
    if (ss_fetch(cpu, sel, cpl, VEC_TS, ext, &in->d))
        return CPU_FAULT;
    seg_set(&in->ss, sel, in->d.raw);
    in->st.seg = &in->ss;
    in->st.sp = sp;
    in->st.mask = in->ss.attr & ATTR_DB ? UINT32_MAX : UINT16_MAX;
    in->st.error = (sel & ~3u) | ext;
    return CPU_NEXT;
}

enum cpu_rc inner_touch(struct cpu *cpu, struct inner *in) {
    if (in->null)
        return CPU_NEXT;
    if (desc_touch(cpu, &in->d))
        return CPU_FAULT;
    in->ss.attr |= TYPE_ACC;
    return CPU_NEXT;
}

void inner_commit(struct cpu *cpu, const struct inner *in) {
    if (in->null)
        seg_set_null(&cpu->seg[SEG_SS], (uint16_t)in->cpl);
    else
        cpu->seg[SEG_SS] = in->ss;
    stack_commit(cpu, &in->st);
}
