/* SPDX-License-Identifier: MIT */
/* What the kernel's memory management does for a process: faults and mappings. */
#define _GNU_SOURCE /* memfd_create */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include "linux.h"

#define PAGE 4096u

/* A file in memory (tmpfs) of that size, its first `filled` bytes written. */
static int make_file(uint64_t size, uint64_t filled) {
    char buf[PAGE];
    int fd = memfd_create("pn-linux", 0);
    if (fd < 0 || ftruncate(fd, (off_t)size))
        die("a file in memory");
    for (uint64_t at = 0; at < filled; at += PAGE) {
        memset(buf, (int)(at / PAGE % 251), PAGE);
        if (pwrite(fd, buf, PAGE, (off_t)at) != PAGE)
            die("a file in memory");
    }
    return fd;
}

static uint8_t *map(int fd, uint64_t size, int prot) {
    uint8_t *p = mmap(NULL, size, prot, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        die("mmap");
    return p;
}

static void map_again(uint8_t **p, int fd, uint64_t size) {
    munmap(*p, size);
    *p = map(fd, size, PROT_READ);
    if (msync(*p, size, MS_INVALIDATE))
        die("msync");
}

/* ---- Page faults ---- */

static uint32_t *permutation(uint64_t n) {
    uint64_t x = 88172645463325252ul;
    uint32_t *order = malloc(n * sizeof(*order));
    if (!order)
        die("memory");
    for (uint64_t i = 0; i < n; i++) {
        uint64_t j = next_random(&x) % (i + 1);
        order[i] = order[j];
        order[j] = (uint32_t)i;
    }
    return order;
}

/* Time is per page, as in lmbench. Linux maps cached neighbours along with a page, so
 * there are fewer faults than pages. */
uint64_t linux_pagefault(struct job *job) {
    uint64_t pages = job->bytes / PAGE, rounds = (job->n + pages - 1) / pages;
    uint64_t size = pages * PAGE, left = job->n;
    int fd = make_file(size, size);
    uint32_t *order = permutation(pages);
    uint8_t *p = map(fd, size, PROT_READ);
    uint64_t cost = now_ns();
    for (uint64_t r = 0; r < rounds; r++)
        map_again(&p, fd, size);
    cost = now_ns() - cost;
    uint64_t t = measure_begin();
    for (uint64_t r = 0; r < rounds; r++) {
        uint64_t n = left < pages ? left : pages;
        for (uint64_t i = 0; i < n; i++)
            job->sum += *(volatile uint8_t *)(p + (uint64_t)order[i] * PAGE);
        left -= n;
        map_again(&p, fd, size);
    }
    t = measure_end(t);
    munmap(p, size);
    free(order);
    close(fd);
    return t > cost ? t - cost : 0;
}

uint64_t linux_mapfile(struct job *job) {
    int fd = make_file(job->bytes, job->bytes);
    uint8_t *p = map(fd, job->bytes, PROT_READ);
    uint64_t t = measure_begin();
    for (uint64_t i = 0; i < job->n; i++)
        map_again(&p, fd, job->bytes);
    t = measure_end(t);
    job->sum = *p;
    munmap(p, job->bytes);
    close(fd);
    return t;
}

/* ---- Protection faults ---- */

static volatile sig_atomic_t caught;
static uint64_t wanted, seen;
static sigjmp_buf out;

static void on_segv(int sig) {
    (void)sig;
    if (++seen == wanted) /* the write is tried again until then */
        siglongjmp(out, 1);
}

static void on_usr1(int sig) {
    (void)sig;
    caught++;
}

static void handle(int sig, void (*handler)(int)) {
    struct sigaction a = {.sa_handler = handler};
    sigemptyset(&a.sa_mask);
    if (sigaction(sig, &a, NULL))
        die("sigaction");
}

static void send_self(uint64_t n, int sig) {
    pid_t me = getpid();
    for (uint64_t i = 0; i < n; i++)
        kill(me, sig);
}

uint64_t linux_sigsend(struct job *job) {
    uint64_t t = measure_begin();
    send_self(job->n, 0);
    t = measure_end(t);
    job->sum = job->n;
    return t;
}

uint64_t linux_sigcatch(struct job *job) {
    caught = 0;
    handle(SIGUSR1, on_usr1);
    uint64_t t = measure_begin();
    send_self(job->n, SIGUSR1);
    t = measure_end(t);
    handle(SIGUSR1, SIG_DFL);
    job->sum = (uint64_t)caught;
    return t;
}

/* Catching a signal, less sending it: what a protection fault's signal costs. */
static uint64_t catch_cost(uint64_t n) {
    uint64_t none = now_ns(), both;
    send_self(n, 0);
    none = now_ns() - none;
    handle(SIGUSR1, on_usr1);
    both = now_ns();
    send_self(n, SIGUSR1);
    both = now_ns() - both;
    handle(SIGUSR1, SIG_DFL);
    return both > none ? both - none : 0;
}

uint64_t linux_protfault(struct job *job) {
    int fd = make_file(PAGE, PAGE);
    uint8_t *p = map(fd, PAGE, PROT_READ);
    uint64_t cost = catch_cost(job->n);
    wanted = job->n;
    seen = 0;
    handle(SIGSEGV, on_segv);
    uint64_t t = measure_begin();
    if (!sigsetjmp(out, 1))
        *(volatile uint8_t *)p = 1;
    t = measure_end(t);
    handle(SIGSEGV, SIG_DFL);
    job->sum = seen;
    munmap(p, PAGE);
    close(fd);
    return t > cost ? t - cost : 0;
}

/* ---- Mappings ---- */

#define STEP (16u << 10)

uint64_t linux_mmap(struct job *job) {
    uint64_t size = job->bytes / PAGE * PAGE;
    int fd = make_file(size, 0);
    uint64_t t = measure_begin();
    for (uint64_t i = 0; i < job->n; i++) {
        uint8_t *p = map(fd, size, PROT_READ | PROT_WRITE);
        for (uint64_t at = 0; at < size / 10; at += STEP)
            ++*(volatile uint8_t *)(p + at);
        munmap(p, size);
    }
    t = measure_end(t);
    uint8_t last = 0;
    if (pread(fd, &last, 1, 0) != 1)
        die("pread");
    job->sum = last;
    close(fd);
    return t;
}
