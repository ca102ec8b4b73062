/* SPDX-License-Identifier: MIT */
/* Workloads that leave ring 3, or the guest. */
#include "user.h"

static inline void call_int3(void) {
    uint64_t rax = CALL_NULL;
    __asm__ volatile("int3" : "+a"(rax) : : "memory");
}

static inline void call_syscall(void) {
    uint64_t rax = CALL_NULL;
    __asm__ volatile("syscall" : "+a"(rax) : : "rcx", "r11", "memory");
}

uint64_t work_syscall(uint64_t *sum) {
    uint64_t n = ARG(syscall, calls), done = 0;
    begin();
    switch (ARG(syscall, via)) {
    case 0:
        for (; done < n; done++)
            call(CALL_NULL, 0, 0);
        break;
    case 1:
        for (; done < n; done++)
            call_int3();
        break;
    default:
        for (; done < n; done++)
            call_syscall();
    }
    end();
    *sum = done;
    return n;
}

static inline uint32_t cpuid(void) {
    uint32_t a = 0, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return b;
}

/* The call is made in ring 3. A hypervisor that intercepts it exits, and refuses it. In
 * ring 0 KVM without EPT and NPT would never return from it. KVM would patch the other
 * vendor's instruction, so take the one of this CPU. */
static void hypercalls(uint64_t n) {
    uint64_t rax;
    if (cpuid() == 0x68747541) /* "Auth", AMD */
        for (; n; n--)
            __asm__ volatile("vmmcall" : "=a"(rax) : "a"(0xfffful) : "memory");
    else
        for (; n; n--)
            __asm__ volatile("vmcall" : "=a"(rax) : "a"(0xfffful) : "memory");
}

uint64_t work_exit(uint64_t *sum) {
    uint64_t n = ARG(exit, count), kind = ARG(exit, kind); /* enum exit_kind */
    call4(CALL_MAP, REGION, MMIO_ECHO, 1, MAP_WRITE);
    begin();
    if (kind == EXIT_HYPERCALL)
        hypercalls(n);
    else if (ARG(exit, ring) == 1)
        call4(CALL_TRAP, kind, n, REGION, 0);
    else if (kind == EXIT_OUT)
        for (uint64_t i = n; i; i--)
            outb(PORT_ECHO, (uint8_t)i);
    else if (kind == EXIT_CPUID)
        for (uint64_t i = n; i; i--)
            cpuid();
    else
        for (uint64_t i = n; i; i--)
            *(volatile uint32_t *)REGION = (uint32_t)i;
    end();
    if (call(CALL_COUNT, COUNT_NO_HYPERCALL, 0))
        note("nobody takes hypercalls here: each was a #UD");
    *sum = kind == EXIT_OUT ? inb(PORT_ECHO) : *(volatile uint32_t *)REGION;
    return n;
}

/* ---- Memslots ---- */

#define WINDOW (REGION + (1ul << 32))

static void request(enum pn_mark kind, uint64_t arg) {
    mark(kind, arg);
    if (inl(PN_MARK_PORT) != PN_MARK_DONE)
        fail(WORKLOAD_EXIT_HOST, "the host serves no slot requests at the mark port");
}

/* Read what is in the window and write something new. */
static uint64_t use_window(uint64_t n, uint64_t value) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        volatile uint64_t *w = at(WINDOW + i * PAGE);
        sum = mix(sum, *w);
        *w = value + i;
    }
    return sum;
}

/* The window's two addresses are mapped one after the other at the same gva. */
static void map_window(uint64_t pa, uint64_t n) {
    call4(CALL_MAP, WINDOW, pa, n, MAP_WRITE | MAP_FLUSH);
}

static uint64_t use_memory(uint64_t n) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += ++*at(REGION + i * PAGE);
    return sum;
}

uint64_t work_memslot(uint64_t *sum) {
    uint64_t n = ARG(memslot, pages), rounds = ARG(memslot, rounds);
    uint64_t load = ARG(memslot, load);
    if (load)
        region(load * PAGE, 0);
    use_memory(load);
    request(PN_MARK_ADD, n); /* see that it is served before anything is measured */
    request(PN_MARK_DELETE, 0);
    begin();
    for (uint64_t r = 1; r <= rounds; r++) {
        request(PN_MARK_ADD, n);
        map_window(PN_WINDOW_A, n);
        *sum = mix(*sum, use_window(n, r) + use_memory(load));
        request(PN_MARK_MOVE, 0);
        map_window(PN_WINDOW_B, n);
        *sum = mix(*sum, use_window(n, r << 32) + use_memory(load));
        request(PN_MARK_DELETE, 0);
        call4(CALL_UNMAP, WINDOW, n, MAP_FLUSH, 0);
        *sum = mix(*sum, use_memory(load));
    }
    end();
    return rounds * 3;
}
