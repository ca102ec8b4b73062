/* SPDX-License-Identifier: MIT */
/* What the transport's two files share (virtio.c, virtio_pci.c). */
#pragma once

#include "dev/virtio.h"

/* "Device Status Field" */
#define VIRTIO_DRIVER_OK   0x04u
#define VIRTIO_FEATURES_OK 0x08u
#define VIRTIO_NEEDS_RESET 0x40u
#define VIRTIO_STATUS_MASK 0x8fu /* those that the driver sets */

/* "Reserved Feature Bits" */
#define VIRTIO_F_INDIRECT_DESC 28u
#define VIRTIO_F_EVENT_IDX     29u
#define VIRTIO_F_VERSION_1     32u
#define VIRTIO_F_RING_PACKED   34u

#define VIRTIO_NO_VECTOR  0xffffu
#define VIRTIO_ISR_QUEUE  1u
#define VIRTIO_ISR_CONFIG 2u

struct vq virtio_vq(const struct virtio *v, unsigned queue);
void virtio_notified(struct virtio *v, unsigned queue);
void virtio_restart(struct virtio *v);
void virtio_set_status(struct virtio *v, uint8_t value);
void virtio_enable(struct virtio *v, unsigned queue);
/* virtio_pci.c: a queue was enabled or disabled, or the BAR moved. */
void virtio_put_bells(struct virtio *v);
