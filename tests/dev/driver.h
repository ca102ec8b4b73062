/* SPDX-License-Identifier: MIT */
/*
 * A virtio driver for tests: it finds a device through PCI, sets its queues up, split or
 * packed, and hands it buffers. Guest memory is the fixture's, from 0x1000 on for the areas of queues.
 */
#pragma once

#include "fixture.h"

#include "dev/virtio_devices.h"

#define DRV_SIZE    8u /* descriptors of a queue */
#define DRV_BUFFERS 0x8000u

enum { DRV_READ = 0, DRV_NEXT = 1, DRV_WRITE = 2, DRV_INDIRECT = 4 };
#define DRV_PACKED_BIT (1ull << 34)
#define DRV_EVENT_BIT  (1ull << 29)

/* Common configuration, in BAR 0. */
enum { DRV_STATUS = 0x14, DRV_NEEDS_RESET = 0x40 };

struct drv_segment {
    uint64_t gpa;
    uint32_t size;
    uint16_t flags; /* DRV_WRITE, DRV_INDIRECT */
};

struct drv {
    struct fx *f;
    unsigned slot, queue;
    uint64_t bar, desc, driver, device;
    bool packed;
    uint16_t next, seen; /* places or counts, as in the device */
    bool wrap, seen_wrap;
};

uint64_t drv_config(unsigned slot, unsigned at); /* its ECAM address */
/* Take all features but those in `without`, and set queue `queue` up. */
void drv_begin(struct drv *d, struct fx *f, unsigned slot, unsigned queue,
               uint64_t without);
/* Another queue of the same device, whose driver has begun. */
void drv_more(struct drv *d, const struct drv *first, unsigned queue);
/* A descriptor as it lies in the ring, at a place. */
void drv_put(struct drv *d, unsigned place, uint64_t gpa, uint32_t size, uint16_t flags,
             uint16_t next);
/* Make a chain available and notify; nothing has been served then. */
void drv_give(struct drv *d, const struct drv_segment *s, unsigned count);
/* What came back. Return: bytes written, or -1: nothing did. */
int64_t drv_take(struct drv *d);
/* Give, let time pass, take. */
int64_t drv_do(struct drv *d, const struct drv_segment *s, unsigned count);
uint8_t drv_status(struct drv *d);
