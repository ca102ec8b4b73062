/* SPDX-License-Identifier: MIT */
/*
 * KVM's interrupt controllers and PIT to and from the neutral state (penumbra/chips.h).
 *
 * KVM keeps the levels of its input lines beside the chips' registers, and lets an edge
 * in whenever a line rises. So a state is set in three steps: every input shut, then the
 * lines as they stand, then the chips.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "base/ticks.h"
#include "engine/kvm_vm.h"

#define ENTRY_MASKED 0x10000u
#define ENTRY_LEVEL  0x8000u
#define ENTRY_STATUS 0x1000u
#define ENTRY_RIRR   0x4000u
#define ENTRY_VALID  0xff0000000001ffffull

static const uint8_t elcr_mask[2] = {0xf8, 0xde};

static void from_pic(struct pn_pic *d, const struct kvm_pic_state *s, unsigned n) {
    *d = (struct pn_pic){
        .line = s->last_irr,
        .irr = s->irr,
        .isr = s->isr,
        .imr = s->imr,
        .base = s->irq_base & 0xf8,
        .first = s->priority_add & 7,
        .elcr = s->elcr & elcr_mask[n],
        .init = s->init_state ? s->init_state + 1 : 0,
        .want_icw4 = s->init4 != 0,
        .read_isr = s->read_reg_select != 0,
        .poll = s->poll != 0,
        .special_mask = s->special_mask != 0,
        .auto_eoi = s->auto_eoi != 0,
        .rotate_auto = s->rotate_on_auto_eoi != 0,
        .nested = s->special_fully_nested_mode != 0,
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
        .elcr_mask = elcr_mask[n],
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

/* KVM's read and write states are the access mode, and 4 for the high byte of two. Its
 * counters begin at a time of the host's; ours at a tick since the machine's clock was 0.
 * When channel 0 began KVM does not tell (its timer alone has it): a period begins now,
 * for an interrupt too many does less harm than none.
 * KVM does not remember the gate's edge: in modes 1 and 5 a gate that is up has risen. */
static void from_channel(const struct pn_engine *e, struct pn_pit_channel *d,
                         const struct kvm_pit_channel_state *s, unsigned n) {
    int64_t ns = s->count_load_time - (int64_t)e->start_ns;
    uint64_t now = ticks_at(host_ns() - e->start_ns, PN_PIT_HZ);
    uint64_t start = n == 0 ? now : ns > 0 ? ticks_at((uint64_t)ns, PN_PIT_HZ) : 0;
    bool by_edge = s->mode == 1 || s->mode == 5;
    bool set = s->mode <= 5; /* 0xff: never set */
    *d = (struct pn_pit_channel){
        .count = s->count ? s->count : 0x10000,
        .start = start,
        .latch = s->latched_count,
        .latched = s->count_latched == 4 ? 2 : s->count_latched,
        .status = s->status,
        .status_latched = s->status_latched != 0,
        .mode = set ? s->mode : 3,
        .access = s->rw_mode ? s->rw_mode : 3,
        .bcd = s->bcd != 0,
        .gate = s->gate != 0,
        .loaded = set,
        .write_low = s->write_latch,
        .write_high = s->write_state == 4,
        .read_high = s->read_state == 4,
    };
    d->triggered = by_edge && d->gate;
    d->stopped = !by_edge && !d->gate;
    if (d->stopped && now > start)
        d->before = now - start;
}

/* KVM has no count that waits for its turn: it takes over at once there, as when a guest
 * writes one under KVM. */
static void to_channel(const struct pn_engine *e, struct kvm_pit_channel_state *d,
                       const struct pn_pit_channel *s) {
    uint64_t now = ticks_at(host_ns() - e->start_ns, PN_PIT_HZ);
    uint64_t start = s->stopped ? now : s->start, before = s->before;
    if (s->next_count && !s->stopped && s->mode != 1 && s->mode != 5) {
        start = s->next_at < now ? s->next_at : now;
        before = 0;
    }
    *d = (struct kvm_pit_channel_state){
        .count = s->next_count ? s->next_count : s->count,
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
        .count_load_time = s->loaded
                               ? (int64_t)(e->start_ns + ticks_ns(start, PN_PIT_HZ) -
                                           ticks_ns(before, PN_PIT_HZ))
                               : 0,
    };
}

/* As our own IO-APIC would have it. */
static uint64_t from_entry(uint64_t e) {
    e &= ENTRY_VALID & ~(uint64_t)ENTRY_STATUS;
    return e & ENTRY_LEVEL ? e : e & ~(uint64_t)ENTRY_RIRR;
}

int kvm_get_chips(struct pn_engine *e, struct pn_chips *s) {
    memset(s, 0, sizeof(*s));
    for (unsigned n = 0; n < 2; n++) {
        struct kvm_irqchip chip = {.chip_id = n};
        if (ioctl(e->vm, KVM_GET_IRQCHIP, &chip) < 0)
            return -errno;
        from_pic(&s->pic[n], &chip.chip.pic, n);
    }
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
    struct kvm_pit_state2 pit;
    if (ioctl(e->vm, KVM_GET_IRQCHIP, &chip) < 0 || ioctl(e->vm, KVM_GET_PIT2, &pit) < 0)
        return -errno;
    for (unsigned i = 0; i < PN_IOAPIC_PINS; i++)
        s->ioapic.entry[i] = from_entry(chip.chip.ioapic.redirtbl[i].bits);
    s->ioapic.select = (uint8_t)chip.chip.ioapic.ioregsel;
    s->ioapic.id = chip.chip.ioapic.id & 0xf;
    for (unsigned i = 0; i < 3; i++)
        from_channel(e, &s->pit.channel[i], &pit.channels[i], i);
    s->pit.speaker = (pit.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON) != 0;
    return 0;
}

/* The level pins' inputs are taken from `lines` again; an edge pin's has been seen. */
static int set_chips(struct pn_engine *e, const struct pn_chips *s, uint32_t lines) {
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

int kvm_set_chips(struct pn_engine *e, const struct pn_chips *s, uint32_t lines) {
    struct pn_chips shut = *s;
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
    struct kvm_pit_state2 pit = {.flags =
                                     s->pit.speaker ? KVM_PIT_FLAGS_SPEAKER_DATA_ON : 0};
    for (unsigned i = 0; i < 3; i++)
        to_channel(e, &pit.channels[i], &s->pit.channel[i]);
    if (rc == 0 && ioctl(e->vm, KVM_SET_PIT2, &pit) < 0)
        rc = -errno;
    return rc;
}

void kvm_pit_mute(struct pn_engine *e, bool on) {
    struct kvm_pit_state2 pit;
    if (ioctl(e->vm, KVM_GET_PIT2, &pit) < 0)
        return;
    pit.flags &= ~(uint32_t)KVM_PIT_FLAGS_HPET_LEGACY;
    pit.flags |= on ? KVM_PIT_FLAGS_HPET_LEGACY : 0;
    (void)ioctl(e->vm, KVM_SET_PIT2, &pit);
}
