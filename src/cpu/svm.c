/* SPDX-License-Identifier: MIT */
/*
 * The world switch: VMRUN and #VMEXIT, VMLOAD and VMSAVE.
 *
 * Sources: APM volume 2, "VMRUN", "#VMEXIT", "Saving Host State", "TLB Control"; volume 3,
 * under each instruction's name.
 */
#include "cpu/svm.h"

#include "cpu/cet.h"
#include "cpu/control.h"

/* ---- Segments ---- */

/* Attributes are a descriptor's bits 40..47 and 52..55, side by side. A segment that is not
 * present may not be used. */
void svm_save_segment(struct svm_save *s, unsigned at, const struct pn_segment *seg) {
    uint32_t attr = seg->attr & ATTR_UNUSABLE ? seg->attr & ~(uint32_t)ATTR_P : seg->attr;
    uint16_t packed = (uint16_t)((attr & 0xff) | (attr >> 4 & 0xf00));
    uint32_t limit = seg->limit;
    memcpy(s->at + at, &seg->sel, 2);
    memcpy(s->at + at + 2, &packed, 2);
    memcpy(s->at + at + 4, &limit, 4);
    save_put(s, at + 8, seg->base);
}

void svm_load_segment(const struct svm_save *s, unsigned at, struct pn_segment *seg) {
    uint16_t packed;
    uint32_t limit;
    memcpy(&seg->sel, s->at + at, 2);
    memcpy(&packed, s->at + at + 2, 2);
    memcpy(&limit, s->at + at + 4, 4);
    seg->limit = limit;
    seg->base = save_get(s, at + 8);
    seg->attr = (packed & 0xffu) | (packed & 0xf00u) << 4;
    if (!(packed & ATTR_P))
        seg->attr |= ATTR_UNUSABLE;
}

static void save_table(struct svm_save *s, unsigned at, const struct cpu_table *t) {
    uint32_t limit = t->limit;
    memcpy(s->at + at + 4, &limit, 4);
    save_put(s, at + 8, t->base);
}

static void load_table(const struct svm_save *s, unsigned at, struct cpu_table *t) {
    uint16_t limit;
    memcpy(&limit, s->at + at + 4, 2);
    t->limit = limit;
    t->base = save_get(s, at + 8);
}

static uint64_t sign_extend(const struct cpu *cpu, uint64_t a) {
    unsigned shift = cpu_has(cpu, CPU_F_la57) ? 7 : 16;
    return (uint64_t)((int64_t)(a << shift) >> shift);
}

/* ---- What VMRUN and #VMEXIT save and load ---- */

static const struct {
    uint8_t seg;
    uint16_t at;
} switched[] = {
    {SEG_ES, SAVE_ES}, {SEG_CS, SAVE_CS}, {SEG_SS, SAVE_SS}, {SEG_DS, SAVE_DS}};
#define SWITCHED (sizeof(switched) / sizeof(switched[0]))

static void save_state(const struct cpu *cpu, uint64_t rip, struct svm_save *s) {
    for (unsigned i = 0; i < SWITCHED; i++)
        svm_save_segment(s, switched[i].at, &cpu->seg[switched[i].seg]);
    save_table(s, SAVE_GDTR, &cpu->gdtr);
    save_table(s, SAVE_IDTR, &cpu->idtr);
    s->at[SAVE_CPL] = cpu->cpl;
    save_put(s, SAVE_EFER, cpu->efer);
    save_put(s, SAVE_CR4, cpu->cr4);
    save_put(s, SAVE_CR3, cpu->cr3);
    save_put(s, SAVE_CR0, cpu->cr0);
    save_put(s, SAVE_RFLAGS, cpu_rflags(cpu));
    save_put(s, SAVE_RIP, rip);
    save_put(s, SAVE_RSP, cpu->gpr[R_SP]);
    save_put(s, SAVE_RAX, cpu->gpr[R_AX]);
    if (cpu_has(cpu, CPU_F_shstk)) {
        save_put(s, SAVE_S_CET, cpu->msr_s_cet);
        save_put(s, SAVE_SSP, cpu->ssp);
        save_put(s, SAVE_SSP_TABLE, cpu->msr_ssp_table);
    }
}

/* It has passed svm_save_valid. */
static void load_state(struct cpu *cpu, const struct svm_save *s) {
    for (unsigned i = 0; i < SWITCHED; i++)
        svm_load_segment(s, switched[i].at, &cpu->seg[switched[i].seg]);
    load_table(s, SAVE_GDTR, &cpu->gdtr);
    load_table(s, SAVE_IDTR, &cpu->idtr);
    cpu->gdtr.base = sign_extend(cpu, cpu->gdtr.base);
    cpu->idtr.base = sign_extend(cpu, cpu->idtr.base);
    cpu->efer = save_get(s, SAVE_EFER);
    cpu->cr4 = save_get(s, SAVE_CR4);
    cpu->cr3 = save_get(s, SAVE_CR3);
    cpu->cr0 = save_get(s, SAVE_CR0) | CR0_ET;
    cpu->efer &= ~EFER_LMA;
    if (cpu->efer & EFER_LME && cpu->cr0 & CR0_PG)
        cpu->efer |= EFER_LMA;
    flags_load(cpu, save_get(s, SAVE_RFLAGS));
    cpu->rip = save_get(s, SAVE_RIP);
    cpu->gpr[R_SP] = save_get(s, SAVE_RSP);
    cpu->gpr[R_AX] = save_get(s, SAVE_RAX);
    if (cpu_has(cpu, CPU_F_shstk)) {
        cpu->msr_s_cet = save_get(s, SAVE_S_CET);
        cpu->ssp = save_get(s, SAVE_SSP);
        cpu->msr_ssp_table = save_get(s, SAVE_SSP_TABLE);
    }
    cpu->cpl = s->at[SAVE_CPL] & 3;
    if (!(cpu->cr0 & CR0_PE))
        cpu->cpl = 0;
    else if (cpu->sys_flags & FL_VM)
        cpu->cpl = 3;
    cpu->seg[SEG_SS].attr = (cpu->seg[SEG_SS].attr & ~0x60u) | (uint32_t)cpu->cpl << 5;
    cpu->intr_shadow = 0;
}

/* ---- The VMCB in memory ---- */

/* Return: the bytes were all there. */
static bool read_phys(struct cpu *cpu, pn_gpa gpa, void *buf, size_t size) {
    return pn_mmu_read_phys(cpu->mmu, gpa, buf, size) == size;
}

static void write_phys(struct cpu *cpu, pn_gpa gpa, const void *buf, size_t size) {
    pn_mmu_vcpu_write(cpu->vmmu, gpa, buf, size);
}

static uint64_t get(const uint8_t *control, unsigned at, unsigned size) {
    uint64_t v = 0;
    memcpy(&v, control + at, size);
    return v;
}

static void read_control(struct cpu *cpu) {
    uint8_t c[VMCB_CONTROL_END] = {0};
    struct svm_ctl *ctl = &cpu->svm.ctl;
    read_phys(cpu, cpu->svm.vmcb, c, sizeof c);
    *ctl = (struct svm_ctl){
        .cr = (uint32_t)get(c, VMCB_CR, 4),
        .dr = (uint32_t)get(c, VMCB_DR, 4),
        .exceptions = (uint32_t)get(c, VMCB_EXCEPTIONS, 4),
        .icpt = {(uint32_t)get(c, VMCB_MISC1, 4), (uint32_t)get(c, VMCB_MISC2, 4),
                 (uint32_t)get(c, VMCB_MISC3, 4)},
        .asid = (uint32_t)get(c, VMCB_ASID, 4),
        .pause_count = (uint16_t)get(c, VMCB_PAUSE_COUNT, 2),
        .tlb_control = (uint8_t)get(c, VMCB_TLB_CONTROL, 1),
        .nested = get(c, VMCB_NP, 1) & 1 && cpu_has(cpu, CPU_F_npt),
        .ncr3 = get(c, VMCB_NCR3, 8),
        .iopm = get(c, VMCB_IOPM, 8) & PN_PAGE_MASK,
        .msrpm = get(c, VMCB_MSRPM, 8) & PN_PAGE_MASK,
        .event = get(c, VMCB_EVENT_INJ, 8),
        .next = get(c, VMCB_NRIP, 8),
        .tsc_offset = (int64_t)get(c, VMCB_TSC_OFFSET, 8),
    };
}

/* ---- The MMU's part ---- */

/* L1's paging, of which only what its second level's format follows from is of use. */
static void host_paging(const struct cpu *cpu, struct pn_paging *p) {
    struct svm_save s = {0};
    pn_mmu_read_phys(cpu->mmu, cpu->svm.hsave + VMCB_SAVE, &s, sizeof s);
    *p = (struct pn_paging){.cr0 = save_get(&s, SAVE_CR0) | CR0_PE | CR0_PG,
                            .cr4 = save_get(&s, SAVE_CR4),
                            .efer = save_get(&s, SAVE_EFER)};
}

static void enter_world(struct cpu *cpu) {
    struct pn_world w = {.asid = cpu->svm.ctl.asid, .second = cpu->svm.ctl.nested};
    struct pn_paging p;
    if (w.second) {
        host_paging(cpu, &w.host);
        w.host.cr3 = cpu->svm.ctl.ncr3;
    }
    cpu_paging(cpu, &p);
    pn_mmu_set_world(cpu->vmmu, &w, &p);
}

static void leave_world(struct cpu *cpu) {
    struct pn_paging p;
    cpu_paging(cpu, &p);
    pn_mmu_set_world(cpu->vmmu, &(const struct pn_world){0}, &p);
}

/* ---- #VMEXIT ---- */

static void set_guest(struct cpu *cpu, bool guest) {
    cpu->svm.guest = guest;
    cpu->svm.gif = guest;
    cpu->svm.active = true;
    cpu->intr_line = 1; /* what may come is another thing now */
}

static bool shows_bytes(const struct cpu *cpu, uint64_t code, uint64_t info1) {
    bool fault = code == SVM_EXIT_NPF || code == SVM_EXIT_EXCEPTION + VEC_PF;
    return fault && !(info1 & PN_PF_FETCH) && cpu_has(cpu, CPU_F_decodeassists);
}

static void store_exit(struct cpu *cpu, uint64_t code, uint64_t info1, uint64_t info2,
                       uint64_t next) {
    uint8_t c[VMCB_CONTROL_END] = {0};
    uint64_t v;
    read_phys(cpu, cpu->svm.vmcb, c, sizeof c);
#define PUT(at, value) (v = (value), memcpy(c + (at), &v, 8))
    PUT(VMCB_INT_CTL, cpu->svm.int_ctl);
    PUT(VMCB_INT_STATE, (get(c, VMCB_INT_STATE, 8) & ~UINT64_C(1)) | cpu_shadowed(cpu));
    PUT(VMCB_EXIT_CODE, code);
    PUT(VMCB_EXIT_INFO1, info1);
    PUT(VMCB_EXIT_INFO2, info2);
    PUT(VMCB_EXIT_INT_INFO, cpu->svm.in_flight);
    PUT(VMCB_EVENT_INJ, get(c, VMCB_EVENT_INJ, 8) & ~INJ_VALID);
    if (cpu_has(cpu, CPU_F_nrip_save))
        PUT(VMCB_NRIP, next);
#undef PUT
    memset(c + VMCB_BYTES, 0, 16);
    if (shows_bytes(cpu, code, info1))
        c[VMCB_BYTES] = (uint8_t)cpu_peek_code(cpu, c + VMCB_BYTES + 1);
    write_phys(cpu, cpu->svm.vmcb, c, sizeof c);
}

static void store_guest(struct cpu *cpu) {
    struct svm_save s = {0};
    read_phys(cpu, cpu->svm.vmcb + VMCB_SAVE, &s, sizeof s);
    save_state(cpu, cpu->rip, &s);
    save_put(&s, SAVE_DR7, cpu->dr[7]);
    save_put(&s, SAVE_DR6, cpu->dr[6]);
    save_put(&s, SAVE_CR2, cpu->cr2);
    if (cpu->svm.ctl.nested)
        save_put(&s, SAVE_PAT, cpu->msr_pat);
    write_phys(cpu, cpu->svm.vmcb + VMCB_SAVE, &s, sizeof s);
}

static enum cpu_rc shut_down(struct cpu *cpu) {
    cpu->fault_name = "#VMEXIT to a host state that is none";
    return CPU_SHUTDOWN;
}

static enum cpu_rc load_host(struct cpu *cpu) {
    struct svm_save s = {0};
    read_phys(cpu, cpu->svm.hsave + VMCB_SAVE, &s, sizeof s);
    s.at[SAVE_CPL] = 0;
    if (!svm_save_valid(cpu, &s, true))
        return shut_down(cpu);
    load_state(cpu, &s);
    cpu->db_pending = cpu->sys_flags & FL_TF ? DR6_BS : 0; /* VMRUN is done */
    cpu->dr[7] = DR7_FIXED;
    if (cpu->svm.ctl.nested)
        cpu->msr_pat = save_get(&s, SAVE_PAT);
    bool legacy = pae_paging(cpu->cr0, cpu->cr4, cpu->efer);
    if (legacy && cr3_load_pdptes(cpu, cpu->cr3))
        return shut_down(cpu);
    leave_world(cpu);
    cpu_update_mode(cpu);
    return CPU_JUMP;
}

/* Its counter, beside world_exits. */
static enum pn_stat exit_kind(uint64_t code) {
    static const uint8_t level3[] = {ICPT_INVLPGA, ICPT_VMRUN, ICPT_VMLOAD,
                                     ICPT_VMSAVE,  ICPT_STGI,  ICPT_CLGI};
    if (code < SVM_EXIT_EXCEPTION)
        return PN_STAT_world_exits_register;
    if (code < SVM_EXIT_ICPT)
        return PN_STAT_world_exits_exception;
    for (unsigned i = 0; i < sizeof level3; i++)
        if (code == (uint64_t)SVM_EXIT_ICPT + level3[i])
            return PN_STAT_world_exits_level3;
    switch (code) {
    case SVM_EXIT_ICPT + ICPT_INTR:
    case SVM_EXIT_ICPT + ICPT_NMI:
    case SVM_EXIT_ICPT + ICPT_VINTR:
        return PN_STAT_world_exits_event;
    case SVM_EXIT_ICPT + ICPT_IOIO:
        return PN_STAT_world_exits_io;
    case SVM_EXIT_ICPT + ICPT_MSR:
        return PN_STAT_world_exits_msr;
    case SVM_EXIT_ICPT + ICPT_VMMCALL:
        return PN_STAT_world_exits_hypercall;
    case SVM_EXIT_NPF:
        return PN_STAT_world_exits_npf;
    case SVM_EXIT_INVALID:
        return PN_STAT_world_exits_invalid;
    default:
        return PN_STAT_world_exits_insn;
    }
}

static enum cpu_rc finish_exit(struct cpu *cpu, uint64_t code) {
    cpu->svm.in_flight = 0;
    cpu->halted = PN_RUNS;
    cpu->tsc_offset -= cpu->svm.ctl.tsc_offset;
    set_guest(cpu, false);
    pn_count(cpu->stats, world_exits);
    cpu->stats->v[exit_kind(code)]++;
    return load_host(cpu);
}

enum cpu_rc svm_exit(struct cpu *cpu, uint64_t code, uint64_t info1, uint64_t info2,
                     uint64_t next) {
    pn_emit(cpu->ring, world_exit, code, info1, info2);
    store_exit(cpu, code, info1, info2, next);
    store_guest(cpu);
    return finish_exit(cpu, code);
}

/* ---- VMRUN ---- */

static void flush_for(struct cpu *cpu) {
    unsigned how = cpu->svm.ctl.tlb_control;
    if (how)
        pn_mmu_flush_asid(cpu->vmmu, cpu->svm.ctl.asid, how == 1);
}

static void load_guest(struct cpu *cpu, const struct svm_save *s) {
    load_state(cpu, s);
    cpu->dr[7] = (save_get(s, SAVE_DR7) & 0xffff23ff) | DR7_FIXED;
    cpu->dr[6] = (save_get(s, SAVE_DR6) & 0xe00f) | DR6_FIXED;
    cpu->cr2 = save_get(s, SAVE_CR2);
    cpu->db_pending = 0;
    if (cpu->svm.ctl.nested)
        cpu->msr_pat = save_get(s, SAVE_PAT);
    cpu->tsc_offset += cpu->svm.ctl.tsc_offset;
    cpu->svm.pauses = cpu->svm.ctl.pause_count;
}

/* PDPTEs are loaded as by MOV CR3; where they cannot be, the state is none. */
static bool load_pdptes(struct cpu *cpu) {
    return !pae_paging(cpu->cr0, cpu->cr4, cpu->efer) ||
           cr3_load_pdptes(cpu, cpu->cr3) == CPU_NEXT;
}

static enum cpu_rc fail_entry(struct cpu *cpu) {
    pn_emit(cpu->ring, world_exit, SVM_EXIT_INVALID, 0, 0);
    cpu->tsc_offset += cpu->svm.ctl.tsc_offset; /* finish_exit takes it back */
    store_exit(cpu, SVM_EXIT_INVALID, 0, 0, 0);
    return finish_exit(cpu, SVM_EXIT_INVALID);
}

static enum cpu_rc enter_guest(struct cpu *cpu, uint64_t int_state,
                               const struct svm_save *s) {
    load_guest(cpu, s);
    set_guest(cpu, true);
    flush_for(cpu);
    enter_world(cpu);
    cpu_update_mode(cpu);
    if (!load_pdptes(cpu)) {
        /* With nested paging it may be L1 that has to map them first. */
        enum cpu_rc rc;
        struct pn_fault f = cpu->fault;
        if (f.vector == PN_VEC_NPF && svm_fault(cpu, &f, &rc))
            return rc;
        return svm_exit(cpu, SVM_EXIT_INVALID, 0, 0, 0);
    }
    if (pae_paging(cpu->cr0, cpu->cr4, cpu->efer))
        cpu_update_paging(cpu);
    if (int_state & 1) {
        cpu->intr_shadow = PN_SHADOW_STI;
        cpu->shadow_at = cpu_insns(cpu) + 1;
    }
    if (cpu->svm.ctl.event & INJ_VALID)
        return svm_inject(cpu, cpu->svm.ctl.event);
    return CPU_JUMP;
}

static void save_host(struct cpu *cpu, uint64_t next) {
    struct svm_save s = {0};
    /* VMSAVE's part may be there, and stays: KVM has one page for both. */
    read_phys(cpu, cpu->svm.hsave + VMCB_SAVE, &s, sizeof s);
    save_state(cpu, next, &s);
    save_put(&s, SAVE_PAT, cpu->msr_pat);
    write_phys(cpu, cpu->svm.hsave + VMCB_SAVE, &s, sizeof s);
    cpu->svm.host_if = (cpu->sys_flags & FL_IF) != 0;
}

void svm_put_host(struct cpu *cpu, const uint8_t save[SAVE_SIZE], uint64_t event) {
    /* What VMRUN saves (save_state). */
    static const struct {
        uint16_t at, size;
    } part[] = {{SAVE_ES, SAVE_FS - SAVE_ES},
                {SAVE_GDTR, 16},
                {SAVE_IDTR, 16},
                {SAVE_CPL, 1},
                {SAVE_EFER, 8},
                {SAVE_CR4, SAVE_DR7 - SAVE_CR4},
                {SAVE_RFLAGS, 16},
                {SAVE_RSP, 8},
                {SAVE_RAX, 8}};
    struct svm_save s = {0};
    read_phys(cpu, cpu->svm.hsave + VMCB_SAVE, &s, sizeof s);
    for (unsigned i = 0; i < sizeof part / sizeof part[0]; i++)
        memcpy(s.at + part[i].at, save + part[i].at, part[i].size);
    save_put(&s, SAVE_PAT, cpu->msr_pat); /* KVM has one for both */
    write_phys(cpu, cpu->svm.hsave + VMCB_SAVE, &s, sizeof s);
    cpu->svm.entering = event & INJ_VALID ? event : 0;
}

void svm_refresh(struct cpu *cpu) {
    cpu->svm.stale = 0;
    if (!cpu->svm.guest)
        return;
    struct svm_save s = {0};
    read_phys(cpu, cpu->svm.hsave + VMCB_SAVE, &s, sizeof s);
    cpu->svm.host_if = (save_get(&s, SAVE_RFLAGS) & FL_IF) != 0;
    read_control(cpu);
    cpu->tsc_offset += cpu->svm.ctl.tsc_offset;
    enter_world(cpu);
    cpu_update_mode(cpu);
}

/* The address in RAX of a VMCB. Return: CPU_NEXT, or CPU_FAULT. */
static enum cpu_rc vmcb_address(struct cpu *cpu, const struct insn *in, pn_gpa *gpa) {
    *gpa = cpu->gpr[R_AX] & addr_mask(in->addrsize);
    if (*gpa & (PN_PAGE_SIZE - 1) || *gpa >> cpu->model->phys_bits ||
        !pn_mmu_slot_find(cpu->mmu, *gpa))
        return gp0(cpu);
    return CPU_NEXT;
}

/* All of SVM's instructions but VMMCALL need EFER.SVME, protected mode and ring 0. */
static enum cpu_rc svm_allowed(struct cpu *cpu) {
    if (!(cpu->efer & EFER_SVME) || !mode_prot(cpu))
        return cpu_raise(cpu, VEC_UD);
    return cpu->cpl ? gp0(cpu) : CPU_NEXT;
}

/* Is the instruction, which is SVM's, L2's and intercepted? Return: as svm_fault. */
static bool exits(struct cpu *cpu, const struct insn *in, unsigned icpt,
                  enum cpu_rc *rc) {
    if (likely(!cpu->svm.guest) || !svm_intercepts(cpu, icpt))
        return false;
    *rc = svm_exit(cpu, SVM_EXIT_ICPT + icpt, 0, 0, next_rip(cpu, in));
    return true;
}

enum cpu_rc op_vmrun(struct cpu *cpu, const struct insn *in) {
    enum cpu_rc rc;
    struct svm_save s = {0};
    uint8_t state[16];
    pn_gpa vmcb;
    if (svm_allowed(cpu))
        return CPU_FAULT;
    if (exits(cpu, in, ICPT_VMRUN, &rc))
        return rc;
    if (vmcb_address(cpu, in, &vmcb))
        return CPU_FAULT;
    pn_count(cpu->stats, world_entries);
    pn_emit(cpu->ring, world_entry, vmcb);
    cpu->svm.vmcb = vmcb;
    save_host(cpu, next_rip(cpu, in));
    read_control(cpu);
    read_phys(cpu, vmcb + VMCB_INT_CTL, state, sizeof state);
    cpu->svm.int_ctl = get(state, 0, 8);
    read_phys(cpu, vmcb + VMCB_SAVE, &s, sizeof s);
    if (!svm_control_valid(cpu, &cpu->svm.ctl) || !svm_save_valid(cpu, &s, false))
        return fail_entry(cpu);
    return enter_guest(cpu, get(state, 8, 8), &s);
}

/* ---- VMLOAD, VMSAVE ---- */

static const struct {
    uint16_t at, field;
    bool address;
} loaded[] = {
    {SAVE_KERNEL_GS_BASE, offsetof(struct cpu, msr_kernel_gs_base), true},
    {SAVE_STAR, offsetof(struct cpu, msr_star), false},
    {SAVE_LSTAR, offsetof(struct cpu, msr_lstar), true},
    {SAVE_CSTAR, offsetof(struct cpu, msr_cstar), true},
    {SAVE_SFMASK, offsetof(struct cpu, msr_sfmask), false},
    {SAVE_SYSENTER_CS, offsetof(struct cpu, msr_sysenter_cs), false},
    {SAVE_SYSENTER_ESP, offsetof(struct cpu, msr_sysenter_esp), true},
    {SAVE_SYSENTER_EIP, offsetof(struct cpu, msr_sysenter_eip), true},
};
#define LOADED (sizeof(loaded) / sizeof(loaded[0]))

static const struct {
    uint8_t seg;
    uint16_t at;
} loaded_segments[] = {
    {SEG_FS, SAVE_FS}, {SEG_GS, SAVE_GS}, {SEG_LDTR, SAVE_LDTR}, {SEG_TR, SAVE_TR}};

static uint64_t *field_of(struct cpu *cpu, unsigned i) {
    return (uint64_t *)(void *)((char *)cpu + loaded[i].field);
}

enum cpu_rc op_vmload(struct cpu *cpu, const struct insn *in) {
    enum cpu_rc rc;
    struct svm_save s = {0};
    pn_gpa vmcb;
    if (svm_allowed(cpu))
        return CPU_FAULT;
    if (exits(cpu, in, ICPT_VMLOAD, &rc))
        return rc;
    if (vmcb_address(cpu, in, &vmcb))
        return CPU_FAULT;
    read_phys(cpu, vmcb + VMCB_SAVE, &s, sizeof s);
    for (unsigned i = 0; i < sizeof loaded_segments / sizeof loaded_segments[0]; i++) {
        struct pn_segment *seg = &cpu->seg[loaded_segments[i].seg];
        svm_load_segment(&s, loaded_segments[i].at, seg);
        seg->base = sign_extend(cpu, seg->base);
    }
    for (unsigned i = 0; i < LOADED; i++) {
        uint64_t v = save_get(&s, loaded[i].at);
        *field_of(cpu, i) = loaded[i].address ? sign_extend(cpu, v) : v;
    }
    cpu->msr_sfmask = (uint32_t)cpu->msr_sfmask;
    cpu->msr_sysenter_cs = (uint32_t)cpu->msr_sysenter_cs;
    cpu_update_mode(cpu);
    return CPU_STOP;
}

enum cpu_rc op_vmsave(struct cpu *cpu, const struct insn *in) {
    enum cpu_rc rc;
    struct svm_save s = {0};
    pn_gpa vmcb;
    if (svm_allowed(cpu))
        return CPU_FAULT;
    if (exits(cpu, in, ICPT_VMSAVE, &rc))
        return rc;
    if (vmcb_address(cpu, in, &vmcb))
        return CPU_FAULT;
    read_phys(cpu, vmcb + VMCB_SAVE, &s, sizeof s);
    for (unsigned i = 0; i < sizeof loaded_segments / sizeof loaded_segments[0]; i++)
        svm_save_segment(&s, loaded_segments[i].at, &cpu->seg[loaded_segments[i].seg]);
    for (unsigned i = 0; i < LOADED; i++)
        save_put(&s, loaded[i].at, *field_of(cpu, i));
    write_phys(cpu, vmcb + VMCB_SAVE, &s, sizeof s);
    return CPU_STOP;
}

/* ---- GIF, INVLPGA ---- */

/* CLGI and, with arg, STGI. L2's may be virtual. */
enum cpu_rc op_stgi(struct cpu *cpu, const struct insn *in) {
    enum cpu_rc rc;
    if (svm_allowed(cpu))
        return CPU_FAULT;
    if (exits(cpu, in, in->arg ? ICPT_STGI : ICPT_CLGI, &rc))
        return rc;
    cpu->intr_line = 1;
    if (cpu->svm.guest && cpu->svm.int_ctl & V_GIF_ENABLE && cpu_has(cpu, CPU_F_vgif)) {
        cpu->svm.int_ctl = (cpu->svm.int_ctl & ~V_GIF) | (in->arg ? V_GIF : 0);
        return CPU_STOP;
    }
    cpu->svm.gif = in->arg != 0;
    cpu->svm.active = cpu->svm.guest || !cpu->svm.gif;
    return CPU_STOP;
}

enum cpu_rc op_invlpga(struct cpu *cpu, const struct insn *in) {
    enum cpu_rc rc;
    if (svm_allowed(cpu))
        return CPU_FAULT;
    if (exits(cpu, in, ICPT_INVLPGA, &rc))
        return rc;
    pn_gva lin = cpu->gpr[R_AX] & addr_mask(in->addrsize);
    if (canonical(cpu, lin))
        pn_mmu_invlpga(cpu->vmmu, lin, (uint32_t)cpu->gpr[R_CX]);
    return CPU_STOP;
}
