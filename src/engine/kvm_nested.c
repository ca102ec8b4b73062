/* SPDX-License-Identifier: MIT */
/*
 * What KVM keeps of a guest that is a hypervisor: KVM_GET_NESTED_STATE and KVM_SET_NESTED_STATE.
 *
 * Between two KVMs it goes as KVM gave it. From the software CPU, whose SVM keeps all in guest
 * memory as a processor does, it is made of the VMCB and of the host save area: both have the
 * layout that KVM asks for.
 *
 * Source: Documentation/virt/kvm/api.rst, "4.114 KVM_GET_NESTED_STATE".
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine/kvm_vm.h"
#include "engine/nested.h"

union nested {
    struct kvm_nested_state head;
    uint8_t bytes[PN_NESTED_SIZE];
};
_Static_assert(sizeof(struct kvm_nested_state) + 2 * KVM_STATE_NESTED_VMX_VMCS_SIZE ==
                   PN_NESTED_SIZE,
               "the largest is VMX's, with a shadow VMCS");

#define SVM_SIZE                                                                         \
    ((uint32_t)(sizeof(struct kvm_nested_state) + KVM_STATE_NESTED_SVM_VMCB_SIZE))
#define NO_VMX (~UINT64_C(0)) /* in the place of an address */

static bool has_state(int fd, const char *by, char *err, size_t err_size) {
    int size = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_NESTED_STATE);
    if (size >= (int)sizeof(struct kvm_nested_state) && size <= (int)PN_NESTED_SIZE)
        return true;
    snprintf(err, err_size,
             "--cpu: +%s: this host's KVM has no state of a guest's guests "
             "(KVM_CAP_NESTED_STATE): take --mmu shadow or tdp, or leave it out",
             by);
    return false;
}

int kvm_may_nest(struct pn_engine *e, const char *by, char *err, size_t err_size) {
    if (!has_state(e->kvm, by, err, err_size))
        return -EINVAL;
    e->nested = true;
    e->nested_svm = !strcmp(by, "svm");
    return 0;
}

bool kvm_nested_goes_there(const char *by, char *err, size_t err_size) {
    int fd;
    bool goes;
    if (strcmp(by, "svm")) {
        snprintf(err, err_size,
                 "--handover kvm: a guest that has VMX stays under shadow and tdp, or "
                 "under kvm: leave %s out of --cpu",
                 by);
        return false;
    }
    fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        snprintf(err, err_size, "--handover kvm: /dev/kvm: %s", strerror(errno));
        return false;
    }
    goes = has_state(fd, by, err, err_size);
    close(fd);
    return goes;
}

/* ---- Get ---- */

static void get_svm(struct pn_cpu_state *s, const union nested *n) {
    const uint8_t *vmcb = n->bytes + sizeof(n->head);
    s->gif = (n->head.flags & KVM_STATE_NESTED_GIF_SET) != 0;
    s->in_guest = (n->head.flags & KVM_STATE_NESTED_GUEST_MODE) != 0;
    if (!s->in_guest || n->head.size < SVM_SIZE)
        return;
    s->vmcb = n->head.hdr.svm.vmcb_pa;
    memcpy(&s->v_int_ctl, vmcb + VMCB_INT_CTL, sizeof(s->v_int_ctl));
    memcpy(&s->pauses, vmcb + VMCB_PAUSE_COUNT, sizeof(s->pauses));
    s->nested_size = n->head.size;
}

static void get_vmx(struct pn_cpu_state *s, const union nested *n) {
    if (n->head.hdr.vmx.vmxon_pa != NO_VMX)
        s->nested_size = n->head.size;
}

int kvm_get_nested(struct kvm_vcpu *v, struct pn_cpu_state *s) {
    union nested n = {.head.size = sizeof(n)};
    s->gif = 1;
    if (!v->engine->nested)
        return 0;
    if (ioctl(v->fd, KVM_GET_NESTED_STATE, &n) < 0)
        return -1;
    if (n.head.format == KVM_STATE_NESTED_FORMAT_SVM)
        get_svm(s, &n);
    else
        get_vmx(s, &n);
    memcpy(s->nested, n.bytes, s->nested_size);
    return 0;
}

/* ---- Set ---- */

int kvm_leave_nested(struct kvm_vcpu *v) {
    struct kvm_nested_state n = {.size = sizeof(n)};
    if (!v->engine->nested)
        return 0;
    if (v->engine->nested_svm) {
        n.format = KVM_STATE_NESTED_FORMAT_SVM;
        n.flags = KVM_STATE_NESTED_GIF_SET;
    } else {
        n.format = KVM_STATE_NESTED_FORMAT_VMX;
        n.hdr.vmx.vmxon_pa = n.hdr.vmx.vmcs12_pa = NO_VMX;
    }
    return ioctl(v->fd, KVM_SET_NESTED_STATE, &n);
}

/* From another KVM. */
static int set_again(struct kvm_vcpu *v, const struct pn_cpu_state *s, union nested *n) {
    memcpy(n->bytes, s->nested, s->nested_size);
    if (s->nested_size < sizeof(n->head) || n->head.size != s->nested_size ||
        n->head.format != (v->engine->nested_svm ? KVM_STATE_NESTED_FORMAT_SVM
                                                 : KVM_STATE_NESTED_FORMAT_VMX)) {
        errno = EINVAL;
        return -1;
    }
    return ioctl(v->fd, KVM_SET_NESTED_STATE, n);
}

/* From the software CPU: what VMRUN read, and what it saved. An event that it brought is
 * delivered, or on its way (set_events), and a flush is done. */
static int set_svm(struct kvm_vcpu *v, const struct pn_cpu_state *s, union nested *n) {
    uint8_t *vmcb = n->bytes + sizeof(n->head);
    n->head.format = KVM_STATE_NESTED_FORMAT_SVM;
    n->head.flags = s->gif ? KVM_STATE_NESTED_GIF_SET : 0;
    n->head.size = sizeof(n->head);
    if (s->in_guest) {
        n->head.flags |= KVM_STATE_NESTED_GUEST_MODE;
        n->head.size = SVM_SIZE;
        n->head.hdr.svm.vmcb_pa = s->vmcb;
        if (kvm_read_phys(v->engine, s->vmcb, vmcb, VMCB_SAVE) != VMCB_SAVE ||
            kvm_read_phys(v->engine, s->msr[PN_MSR_vm_hsave_pa] + VMCB_SAVE,
                          vmcb + VMCB_SAVE, SAVE_SIZE) != SAVE_SIZE) {
            errno = EFAULT;
            return -1;
        }
        memcpy(vmcb + VMCB_INT_CTL, &s->v_int_ctl, sizeof(s->v_int_ctl));
        memset(vmcb + VMCB_EVENT_INJ, 0, 8);
        vmcb[VMCB_TLB_CONTROL] = 0;
    }
    return ioctl(v->fd, KVM_SET_NESTED_STATE, n);
}

int kvm_set_nested(struct kvm_vcpu *v, const struct pn_cpu_state *s) {
    union nested n;
    memset(&n, 0, sizeof(n));
    if (s->nested_size && v->engine->nested)
        return set_again(v, s, &n);
    return v->engine->nested && v->engine->nested_svm ? set_svm(v, s, &n) : 0;
}

/* ---- The guest's guest ---- */

bool kvm_runs_nested(const struct pn_cpu_state *s) {
    struct kvm_nested_state head = {.flags = 0};
    if (s->nested_size >= sizeof(head) && s->nested_size <= PN_NESTED_SIZE)
        memcpy(&head, s->nested, sizeof(head));
    return s->in_guest || head.flags & KVM_STATE_NESTED_GUEST_MODE;
}

int kvm_nested_host(const struct pn_cpu_state *s, uint8_t save[SAVE_SIZE],
                    uint64_t *event) {
    union nested n;
    const uint8_t *vmcb = n.bytes + sizeof(n.head);
    if (!s->nested_size)
        return 0;
    if (s->nested_size > PN_NESTED_SIZE)
        return -EINVAL;
    memcpy(n.bytes, s->nested, s->nested_size);
    if (s->nested_size < sizeof(n.head) || n.head.format != KVM_STATE_NESTED_FORMAT_SVM)
        return -ENOTSUP;
    if (s->nested_size < SVM_SIZE || !s->in_guest)
        return -EINVAL;
    memcpy(event, vmcb + VMCB_EVENT_INJ, sizeof(*event));
    if (!(n.head.flags & KVM_STATE_NESTED_RUN_PENDING))
        *event = 0;
    if (!svm_event_valid(*event))
        return -EINVAL;
    memcpy(save, vmcb + VMCB_SAVE, SAVE_SIZE);
    return 1;
}
