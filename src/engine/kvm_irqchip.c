/* SPDX-License-Identifier: MIT */
/*
 * KVM's interrupt controllers and PIT to and from the neutral state.
 *
 * KVM keeps the levels of its input lines beside the chips' registers, and lets an edge
 * in whenever a line rises. So a state is set in three steps: every input shut, then the
 * lines as they stand, then the chips.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "engine/kvm_vm.h"

#define ENTRY_MASKED 0x10000u
#define ENTRY_LEVEL  0x8000u

static void from_pic(struct pn_pic *d, const struct kvm_pic_state *s) {
    *d = (struct pn_pic){
        .line = s->last_irr,
        .irr = s->irr,
        .isr = s->isr,
        .imr = s->imr,
        .base = s->irq_base,
        .first = s->priority_add,
        .elcr = s->elcr,
        .init = s->init_state ? s->init_state + 1 : 0,
        .want_icw4 = s->init4,
        .read_isr = s->read_reg_select,
        .poll = s->poll,
        .special_mask = s->special_mask,
        .auto_eoi = s->auto_eoi,
        .rotate_auto = s->rotate_on_auto_eoi,
        .nested = s->special_fully_nested_mode,
    };
}

static void to_pic(struct kvm_pic_state *d, const struct pn_pic *s, unsigned n) {
    *d = (struct kvm_pic_state){
        .last_irr = s->line,
        .irr = s->irr,
        .isr = s->isr,
        .imr = s->imr,
        .irq_base = s->base,
        .priority_add = s->first,
        .elcr = s->elcr,
        .elcr_mask = n ? 0xde : 0xf8,
        .init_state = s->init ? s->init - 1 : 0,
        .init4 = s->want_icw4,
        .read_reg_select = s->read_isr,
        .poll = s->poll,
        .special_mask = s->special_mask,
        .auto_eoi = s->auto_eoi,
        .rotate_on_auto_eoi = s->rotate_auto,
        .special_fully_nested_mode = s->nested,
    };
}

/* KVM's read and write states are the access mode, and 4 for the high byte of two. */
static void from_channel(struct pn_pit_channel *d,
                         const struct kvm_pit_channel_state *s) {
    int64_t ns = (int64_t)host_ns() - s->count_load_time;
    *d = (struct pn_pit_channel){
        .count = s->count ? s->count : 0x10000,
        .ns = s->count_load_time && ns > 0 ? (uint64_t)ns : 0,
        .latch = s->latched_count,
        .latched = s->count_latched == 4 ? 2 : s->count_latched,
        .status = s->status,
        .status_latched = s->status_latched,
        .mode = s->mode,
        .access = s->rw_mode,
        .bcd = s->bcd,
        .gate = s->gate,
        .loaded = s->count_load_time != 0,
        .write_low = s->write_latch,
        .write_high = s->write_state == 4,
        .read_high = s->read_state == 4,
    };
}

static void to_channel(struct kvm_pit_channel_state *d, const struct pn_pit_channel *s) {
    *d = (struct kvm_pit_channel_state){
        .count = s->count,
        .latched_count = s->latch,
        .count_latched = s->latched,
        .status_latched = s->status_latched,
        .status = s->status,
        .read_state = s->read_high ? 4 : s->access,
        .write_state = s->write_high ? 4 : s->access,
        .write_latch = s->write_low,
        .rw_mode = s->access,
        .mode = s->mode,
        .bcd = s->bcd,
        .gate = s->gate,
        .count_load_time = s->loaded ? (int64_t)host_ns() - (int64_t)s->ns : 0,
    };
}

int kvm_get_irqchip(struct pn_engine *e, struct pn_irqchip *s) {
    memset(s, 0, sizeof(*s));
    for (unsigned n = 0; n < 2; n++) {
        struct kvm_irqchip chip = {.chip_id = n};
        if (ioctl(e->vm, KVM_GET_IRQCHIP, &chip) < 0)
            return -errno;
        from_pic(&s->pic[n], &chip.chip.pic);
    }
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
    struct kvm_pit_state2 pit;
    if (ioctl(e->vm, KVM_GET_IRQCHIP, &chip) < 0 || ioctl(e->vm, KVM_GET_PIT2, &pit) < 0)
        return -errno;
    for (unsigned i = 0; i < PN_IOAPIC_PINS; i++)
        s->ioapic.entry[i] = chip.chip.ioapic.redirtbl[i].bits;
    s->ioapic.select = (uint8_t)chip.chip.ioapic.ioregsel;
    s->ioapic.id = (uint8_t)chip.chip.ioapic.id;
    for (unsigned i = 0; i < 3; i++)
        from_channel(&s->pit[i], &pit.channels[i]);
    s->speaker = (pit.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON) != 0;
    return 0;
}

/* The level pins' inputs are taken from `lines` again; an edge pin's has been seen. */
static int set_chips(struct pn_engine *e, const struct pn_irqchip *s, uint32_t lines) {
    for (unsigned n = 0; n < 2; n++) {
        struct kvm_irqchip chip = {.chip_id = n};
        to_pic(&chip.chip.pic, &s->pic[n], n);
        chip.chip.pic.last_irr = (uint8_t)(lines >> 8 * n);
        if (ioctl(e->vm, KVM_SET_IRQCHIP, &chip) < 0)
            return -errno;
    }
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
    struct kvm_ioapic_state *io = &chip.chip.ioapic;
    *io = (struct kvm_ioapic_state){
        .base_address = IOAPIC_BASE, .ioregsel = s->ioapic.select, .id = s->ioapic.id};
    for (unsigned i = 0; i < PN_IOAPIC_PINS; i++) {
        io->redirtbl[i].bits = s->ioapic.entry[i];
        unsigned gsi = i == 2 ? 0 : i;
        if (s->ioapic.entry[i] & ENTRY_LEVEL && lines >> gsi & 1)
            io->irr |= 1u << i;
    }
    return ioctl(e->vm, KVM_SET_IRQCHIP, &chip) < 0 ? -errno : 0;
}

int kvm_set_irqchip(struct pn_engine *e, const struct pn_irqchip *s, uint32_t lines) {
    struct pn_irqchip shut = *s;
    shut.pic[0].imr = shut.pic[1].imr = 0xff;
    for (unsigned i = 0; i < PN_IOAPIC_PINS; i++)
        shut.ioapic.entry[i] = ENTRY_MASKED;
    int rc = set_chips(e, &shut, 0);
    for (unsigned gsi = 0; rc == 0 && gsi < GSIS; gsi++) {
        struct kvm_irq_level l = {.irq = gsi, .level = lines >> gsi & 1};
        if (l.level && ioctl(e->vm, KVM_IRQ_LINE, &l) < 0)
            rc = -errno;
    }
    if (rc == 0)
        rc = set_chips(e, s, lines);
    struct kvm_pit_state2 pit = {.flags = s->speaker ? KVM_PIT_FLAGS_SPEAKER_DATA_ON : 0};
    for (unsigned i = 0; i < 3; i++)
        to_channel(&pit.channels[i], &s->pit[i]);
    if (rc == 0 && ioctl(e->vm, KVM_SET_PIT2, &pit) < 0)
        rc = -errno;
    return rc;
}
