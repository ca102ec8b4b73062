/* SPDX-License-Identifier: MIT */
/*
 * An LD_PRELOAD shim that makes KVM fail. PN_SHIM says how:
 *
 *   absent, denied, nodriver   open("/dev/kvm") fails: ENOENT, EACCES, ENODEV
 *   api                        KVM_GET_API_VERSION is 11
 *   novm, novcpu, nomem        KVM_CREATE_VM: EBUSY, KVM_CREATE_VCPU: ENOMEM,
 *                              KVM_SET_USER_MEMORY_REGION: ENOMEM
 *   runfails                   the 20th KVM_RUN fails: EIO
 *   fault                      the 20th KVM_RUN fails: EFAULT
 *   dies                       the thread of the 20th KVM_RUN exits, as if killed
 *   internal                   from the 20th on, KVM_RUN is an internal error of KVM's
 *   again                      the 20th KVM_RUN is, and the next is not
 *   nonested                   KVM has no KVM_CAP_NESTED_STATE
 *   unoffered                  it has, and offers neither VMX nor SVM
 *   missed                     KVM_GET_DIRTY_LOG misses the first 512 pages of memslot 0
 *   stuck                      the 20th KVM_RUN never returns, whatever is sent to it
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NTH_RUN 20

static bool mode(const char *name) {
    const char *m = getenv("PN_SHIM");
    return m && strcmp(m, name) == 0;
}

static int fail(int error) {
    errno = error;
    return -1;
}

static int refuse_kvm(const char *path) {
    if (strcmp(path, "/dev/kvm"))
        return 0;
    return mode("absent")     ? ENOENT
           : mode("denied")   ? EACCES
           : mode("nodriver") ? ENODEV
                              : 0;
}

int open(const char *path, int flags, ...) {
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    va_list ap;
    va_start(ap, flags);
    mode_t m = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    int error = refuse_kvm(path);
    return error ? fail(error) : real(path, flags, m);
}

int open64(const char *path, int flags, ...) {
    va_list ap;
    va_start(ap, flags);
    mode_t m = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return open(path, flags, m);
}

/* The vCPU's struct kvm_run, mapped once more. */
static struct kvm_run *run_of(int fd) {
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

static void hang(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (;;)
        pause();
}

/* Return: 1 when the run is done for, with *rc. */
static int break_run(int fd, int *rc) {
    static atomic_int runs;
    int n = atomic_fetch_add(&runs, 1) + 1;
    if (n < NTH_RUN || (n > NTH_RUN && !mode("internal")))
        return 0;
    struct kvm_run *r = run_of(fd);
    *rc = 0;
    if (mode("runfails")) {
        *rc = fail(EIO);
    } else if (mode("fault")) {
        *rc = fail(EFAULT);
    } else if (mode("internal") || mode("again")) {
        r->exit_reason = KVM_EXIT_INTERNAL_ERROR;
        r->internal.suberror = KVM_INTERNAL_ERROR_DELIVERY_EV;
    } else if (mode("dies")) {
        syscall(SYS_exit, 0);
    } else if (mode("stuck")) {
        hang();
    } else {
        return 0;
    }
    return 1;
}

/* What a KVM with nested=0 offers. */
static void hide_hypervisors(struct kvm_cpuid2 *c) {
    for (unsigned i = 0; i < c->nent; i++)
        if (c->entries[i].function == 1)
            c->entries[i].ecx &= ~(1u << 5);
        else if (c->entries[i].function == 0x80000001u)
            c->entries[i].ecx &= ~(1u << 2);
}

int ioctl(int fd, unsigned long request, ...) {
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    va_list ap;
    va_start(ap, request);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    int rc;
    switch (request) {
    case KVM_GET_API_VERSION:
        if (mode("api"))
            return 11;
        break;
    case KVM_CHECK_EXTENSION:
        if (mode("nonested") && (uintptr_t)arg == KVM_CAP_NESTED_STATE)
            return 0;
        if (mode("unoffered") && (uintptr_t)arg == KVM_CAP_NESTED_STATE)
            return 4224;
        break;
    case KVM_GET_SUPPORTED_CPUID:
        rc = real(fd, request, arg);
        if (mode("unoffered") && rc == 0)
            hide_hypervisors(arg);
        return rc;
    case KVM_CREATE_VM:
        if (mode("novm"))
            return fail(EBUSY);
        break;
    case KVM_CREATE_VCPU:
        if (mode("novcpu"))
            return fail(ENOMEM);
        break;
    case KVM_SET_USER_MEMORY_REGION:
        if (mode("nomem"))
            return fail(ENOMEM);
        break;
    case KVM_GET_DIRTY_LOG:
        rc = real(fd, request, arg);
        if (mode("missed") && !((struct kvm_dirty_log *)arg)->slot)
            memset(((struct kvm_dirty_log *)arg)->dirty_bitmap, 0, 512 / 8);
        return rc;
    case KVM_RUN:
        if (break_run(fd, &rc))
            return rc;
        break;
    }
    return real(fd, request, arg);
}
