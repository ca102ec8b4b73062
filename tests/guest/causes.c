// SPDX-License-Identifier: MIT
/*
 * Makes Linux change page tables, each way once, and says where: lines "STEP NAME FROM-TO". For reclaim
 * it is a file system in user space (FUSE), whose pages the kernel can take back: a guest without a disk
 * has no others.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define PAGE      4096ul
#define HUGE      (2ul << 20)
#define SMALL     (64 * PAGE)
#define FILE_SIZE (1ul << 30)
#define FILE_NODE 2

static void fail(const char *what) {
    printf("CAUSES-FAIL %s: %s\n", what, strerror(errno));
    exit(1);
}

static void step(const char *name, const void *from, size_t size) {
    printf("STEP %s 0x%lx-0x%lx\n", name, (unsigned long)from,
           (unsigned long)from + size - 1);
}

static void touch(void *p, size_t size) {
    for (size_t i = 0; i < size; i += PAGE)
        ((volatile char *)p)[i] = 1;
}

static char *map(size_t size) {
    char *p =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        fail("mmap");
    return p;
}

/* size bytes that begin at a large page. */
static char *map_large(size_t size) {
    char *p = map(size + HUGE);
    return (char *)(((uintptr_t)p + HUGE - 1) & ~(HUGE - 1));
}

static void rights(void) {
    char *p = map(SMALL);
    touch(p, SMALL);
    if (mprotect(p, SMALL, PROT_READ) || mprotect(p, SMALL, PROT_READ | PROT_WRITE))
        fail("mprotect");
    touch(p, SMALL);
    step("mprotect", p, SMALL);
}

/* Of /proc/vmstat. */
static unsigned long counter(const char *name) {
    char line[128];
    unsigned long value = 0;
    size_t n = strlen(name);
    FILE *f = fopen("/proc/vmstat", "r");
    while (f && fgets(line, sizeof(line), f))
        if (!strncmp(line, name, n) && line[n] == ' ')
            value = strtoul(line + n, NULL, 10);
    if (f)
        fclose(f);
    return value;
}

static void set(const char *name, const char *value) {
    char path[80];
    snprintf(path, sizeof(path), "/sys/kernel/mm/transparent_hugepage/%s", name);
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, value, strlen(value)) != (ssize_t)strlen(value))
        fail(path);
    close(fd);
}

static void huge_pages(void) {
    set("enabled", "madvise"); /* a guest with little memory has none else */
    char *p = map_large(HUGE), *q = map_large(HUGE);
    if (madvise(p, HUGE, MADV_HUGEPAGE))
        fail("MADV_HUGEPAGE");
    touch(p, HUGE);
    if (mprotect(p + HUGE / 2, PAGE, PROT_READ)) /* a part of it: it is split */
        fail("mprotect of a part");
    touch(p, HUGE / 2);
    step("split", p, HUGE);
    if (madvise(q, HUGE, MADV_NOHUGEPAGE))
        fail("MADV_NOHUGEPAGE");
    touch(q, HUGE);
    if (madvise(q, HUGE, MADV_HUGEPAGE) || madvise(q, HUGE, MADV_COLLAPSE))
        fail("MADV_COLLAPSE");
    touch(q, HUGE);
    step("collapse", q, HUGE);
}

/* khugepaged does it by itself, in time. */
static void khugepaged(void) {
    char *p = map_large(HUGE);
    if (madvise(p, HUGE, MADV_NOHUGEPAGE))
        fail("MADV_NOHUGEPAGE");
    touch(p, HUGE);
    if (madvise(p, HUGE, MADV_HUGEPAGE))
        fail("MADV_HUGEPAGE");
    unsigned long before = counter("thp_collapse_alloc");
    set("khugepaged/scan_sleep_millisecs", "1");
    for (int i = 0; i < 1000 && counter("thp_collapse_alloc") == before; i++)
        usleep(10000);
    set("khugepaged/scan_sleep_millisecs", "10000");
    if (counter("thp_collapse_alloc") == before)
        fail("khugepaged");
    step("khugepaged", p, HUGE);
}

/* ---- A file system ---- */

static void answer(int fd, uint64_t unique, int error, const void *data, size_t size) {
    static char out[sizeof(struct fuse_out_header) + (1 << 20)];
    struct fuse_out_header h = {sizeof(h) + (uint32_t)size, error, unique};
    memcpy(out, &h, sizeof(h));
    if (size)
        memcpy(out + sizeof(h), data, size);
    if (write(fd, out, h.len) != (ssize_t)h.len && errno != ENOENT)
        exit(1);
}

static struct fuse_attr attributes(uint64_t node) {
    int file = node == FILE_NODE;
    return (struct fuse_attr){.ino = node,
                              .size = file ? FILE_SIZE : 0,
                              .mode = file ? S_IFREG | 0444 : S_IFDIR | 0755,
                              .nlink = 1,
                              .blksize = PAGE};
}

static void serve_one(int fd, const struct fuse_in_header *h, const void *body) {
    static char page[1 << 20];
    struct fuse_entry_out entry = {.nodeid = FILE_NODE,
                                   .entry_valid = 1000,
                                   .attr_valid = 1000,
                                   .attr = attributes(FILE_NODE)};
    struct fuse_attr_out attr = {.attr_valid = 1000, .attr = attributes(h->nodeid)};
    struct fuse_open_out opened = {.open_flags = FOPEN_KEEP_CACHE};
    struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION,
                                 .minor = 31,
                                 .max_readahead = 65536,
                                 .max_write = 4096};
    const struct fuse_read_in *r = body;
    switch (h->opcode) {
    case FUSE_INIT:
        answer(fd, h->unique, 0, &init, sizeof(init));
        break;
    case FUSE_LOOKUP:
        answer(fd, h->unique, 0, &entry, sizeof(entry));
        break;
    case FUSE_GETATTR:
        answer(fd, h->unique, 0, &attr, sizeof(attr));
        break;
    case FUSE_OPEN:
        answer(fd, h->unique, 0, &opened, sizeof(opened));
        break;
    case FUSE_READ:
        answer(fd, h->unique, 0, page, r->size < sizeof(page) ? r->size : sizeof(page));
        break;
    case FUSE_FORGET:
        break;
    default:
        answer(fd, h->unique, -ENOSYS, NULL, 0);
    }
}

static void serve(int fd) {
    static char buf[1 << 17];
    for (;;) {
        ssize_t n = read(fd, buf, sizeof(buf));
        if (n >= (ssize_t)sizeof(struct fuse_in_header))
            serve_one(fd, (const void *)buf, buf + sizeof(struct fuse_in_header));
        else if (n >= 0 || (errno != EINTR && errno != ENOENT && errno != EAGAIN))
            _exit(0);
    }
}

static void reclaim(size_t memory) {
    char options[80];
    mknod("/dev/fuse", S_IFCHR | 0600, makedev(10, 229));
    mkdir("/files", 0755);
    int fd = open("/dev/fuse", O_RDWR);
    snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
    if (fd < 0 || mount("files", "/files", "fuse", MS_NOSUID | MS_NODEV, options))
        fail("fuse");
    pid_t server = fork();
    if (!server)
        serve(fd);
    int file = open("/files/data", O_RDONLY);
    char *p = file < 0 ? MAP_FAILED : mmap(NULL, memory, PROT_READ, MAP_SHARED, file, 0);
    if (p == MAP_FAILED)
        fail("a file of fuse");
    unsigned long sum = 0, before = counter("pgsteal_kswapd");
    for (size_t i = 0; i < memory; i += PAGE)
        sum += ((volatile unsigned char *)p)[i];
    printf("KSWAPD %lu pages, %lu\n", counter("pgsteal_kswapd") - before, sum);
    step("reclaim", p, memory);
    umount2("/files", MNT_DETACH);
    close(fd);
    waitpid(server, NULL, WNOHANG);
}

/* causes MIB: of the file that is read */
int main(int argc, char **argv) {
    size_t memory = argc > 1 ? strtoul(argv[1], NULL, 10) << 20 : 0;
    rights();
    huge_pages();
    khugepaged();
    if (memory)
        reclaim(memory);
    puts("CAUSES-DONE");
    return 0;
}
