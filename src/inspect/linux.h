/* SPDX-License-Identifier: MIT */
/*
 * A Linux guest of 64 bits, looked at from outside: its tasks, their memory, and what an address
 * belongs to. It takes the kernel's image, for symbols and types, and the guest's memory; no
 * agent runs in the guest.
 *
 * Memory is read while the guest may be in the middle of a change, and a guest may lie. So
 * every answer is checked as far as it can be, every walk has a limit, and what does not fit
 * is said to be unknown. Nothing in the guest changes. No locks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "inspect/btf.h"
#include "inspect/symbols.h"

/* ---- The kernel's image ---- */

struct linux_image;
/* A bzImage, or a vmlinux. Return: 0; -EINVAL: not a Linux kernel, or one without symbols or
 * types; what file_read said; with a line in e. */
int linux_image_load(const char *path, struct linux_image **out, struct err *e);
/* The same of parts, which are then the image's, also when it fails. */
int linux_image_create(struct symbols *symbols, struct types *types, const char *name,
                       struct linux_image **out, struct err *e);
void linux_image_free(struct linux_image *image); /* NULL: nothing */

/* ---- The guest ---- */

struct linux_guest {
    const struct linux_image *image;
    uint64_t moved; /* KASLR: how far the image is from where it is linked */
    unsigned cpus;
    bool five_levels;
    /* Kernel memory by linear address. Return: bytes done from the start. */
    size_t (*read)(void *opaque, uint64_t gva, void *buf, size_t size);
    /* Where a linear address of the kernel's is. Return: false: it is not mapped. */
    bool (*where)(void *opaque, uint64_t gva, uint64_t *gpa);
    void *opaque;
};

enum linux_symbol {
#define SYMBOL(name, needed) LINUX_##name,
#include "inspect/linux_symbols.inc"
    LINUX_SYMBOLS
};
/* Where a symbol of the kernel's is now. Return: false: it has none of that name. */
bool linux_symbol(const struct linux_guest *g, enum linux_symbol s, uint64_t *gva);
/* Does the memory hold this kernel? Its first task, the idle one, tells. */
bool linux_is_there(const struct linux_guest *g);

#define LINUX_COMM  16u
#define LINUX_STACK 0x4000u /* THREAD_SIZE, arch/x86/include/asm/page_64_types.h */
struct linux_task {
    uint64_t at; /* its task_struct */
    uint32_t pid, tgid;
    char comm[LINUX_COMM];   /* ends in a NUL; what cannot be printed is '?' */
    char leader[LINUX_COMM]; /* the name of its thread group's first thread */
    uint64_t mm;             /* 0: a thread of the kernel */
    uint64_t cr3;            /* of its address space, without flags; 0: none of its own */
    uint64_t stack;          /* in the kernel, LINUX_STACK bytes */
};
bool linux_task_read(const struct linux_guest *g, uint64_t at, struct linux_task *t);
/* How a task that is in the kernel came there from user space. */
struct linux_entry {
    uint64_t
        syscall;  /* number of the system call; UINT64_MAX: an exception or interrupt */
    uint64_t rip; /* in user space */
};
/* rip: where the kernel is now. Return: false: not known, as in a thread of the kernel, in
 * the first instructions of an entry, and when user space is of 32 bits. */
bool linux_entry_read(const struct linux_guest *g, const struct linux_task *t,
                      uint64_t rip, struct linux_entry *e);
/* What runs on the CPU of that number. */
bool linux_current(const struct linux_guest *g, unsigned cpu, struct linux_task *t);
/* Return: false: enough. */
typedef bool (*linux_task_fn)(void *opaque, const struct linux_task *t);
/* Every thread of every process, processes in the order of their start; the idle tasks are not
 * in the list. Return: false: ended early, by fn or since the list cannot be followed. */
bool linux_tasks(const struct linux_guest *g, linux_task_fn fn, void *opaque);

/* ---- Modules ---- */

#define LINUX_MODULE   57u /* MODULE_NAME_LEN and a NUL */
#define LINUX_FUNCTION 128u
#define LINUX_TEXTS    2u /* of a module: its own, and that of its init */
struct linux_text {
    uint64_t from, to; /* to is not in it */
};
struct linux_module {
    uint64_t at; /* its struct module */
    char name[LINUX_MODULE];
    struct linux_text text[LINUX_TEXTS]; /* from == to: none */
    uint64_t kallsyms;                   /* its struct mod_kallsyms */
};
typedef bool (*linux_module_fn)(void *opaque, const struct linux_module *m);
/* Does the kernel's image tell how to find modules? */
bool linux_has_modules(const struct linux_image *image);
/* All that are loaded, the latest first. Return: as linux_tasks. */
bool linux_modules(const struct linux_guest *g, linux_module_fn fn, void *opaque);
/* The functions of its text, where they are now. most: no table of more symbols is read.
 * Return: how many symbols were read; -EFAULT: it has none that can be read; -EINVAL: no function is
 * among them; -ENOMEM. */
int linux_module_symbols(const struct linux_guest *g, const struct linux_module *m,
                         uint32_t most, struct symbols **out);

/* Functions by address, with the symbols of modules that were asked for before. */
struct linux_functions;
struct linux_functions *linux_functions_create(void);    /* NULL: out of memory */
void linux_functions_destroy(struct linux_functions *f); /* NULL: nothing */
struct linux_function {
    char name[LINUX_FUNCTION]; /* "?": not known, and then `of` is the address alone */
    char module[LINUX_MODULE];
    struct linux_text of, text; /* of the function; of the module's text that it is in */
};
/* The function of a module that the address lies in. Return: false: in no module. */
bool linux_function_at(struct linux_functions *f, const struct linux_guest *g,
                       uint64_t address, struct linux_function *out);

/* ---- Addresses ---- */

#define LINUX_NAME 32u
#define LINUX_PATH 256u
struct linux_vma {
    uint64_t at;           /* its vm_area_struct */
    uint64_t start, end;   /* end is not in it */
    uint64_t flags;        /* LINUX_VM_* */
    char name[LINUX_NAME]; /* of the file, without its folders, perhaps cut; "[heap]",
                              "[stack]", "[vdso]", "[anon]"; "?": not known */
};
/* VM_READ and so on, of the kernel. */
#define LINUX_VM_READ   1u
#define LINUX_VM_WRITE  2u
#define LINUX_VM_EXEC   4u
#define LINUX_VM_SHARED 8u

enum linux_found { LINUX_FOUND, LINUX_NOTHING, LINUX_UNKNOWN };
/* The mapping of mm that has the address. NOTHING: v has the range that no mapping has. */
enum linux_found linux_vma_at(const struct linux_guest *g, uint64_t mm, uint64_t address,
                              struct linux_vma *v);
typedef bool (*linux_vma_fn)(void *opaque, const struct linux_vma *v);
/* All of them, by address. Return: as linux_tasks. */
bool linux_vmas(const struct linux_guest *g, uint64_t mm, linux_vma_fn fn, void *opaque);
/* The path of its file, from the root of its file system on. Return: false: it has none, or
 * it is not known. */
bool linux_vma_path(const struct linux_guest *g, const struct linux_vma *v,
                    char path[LINUX_PATH]);

/* What a range of linear addresses is for. */
struct linux_region {
    uint64_t from, to; /* both are in it */
    char name
        [LINUX_NAME]; /* of a mapping as above, "[no mapping]", or "[direct map]" ... */
};
/* What address is, while t runs under cr3. Under a CR3 that is not t's, or where t is NULL,
 * nothing is known of user space. Return: false: unknown. */
bool linux_region_of(const struct linux_guest *g, const struct linux_task *t,
                     uint64_t cr3, uint64_t address, struct linux_region *r);
/* Is cr3 the address space `own`, or the second one of it that page-table isolation has, in
 * the page behind it? */
bool linux_same_space(uint64_t own, uint64_t cr3);
