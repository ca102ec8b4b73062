/* SPDX-License-Identifier: MIT */
/*
 * A guest that has every device in the middle of something is stopped, its devices'
 * states are put into a new machine, and it goes on: the devices do then what they would
 * have done, at the same virtual times, and the console shows the same. The same by a
 * snapshot, and what a snapshot is refused for.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine/snapshot.h"
#include "machine/state.h"

#define RAM     (4u << 20)
#define LOAD_AT 0x100000u
#define SEEN    0x210000u /* the handlers' counters, in the guest below */
#define RECORDS 100000u
#define ALL_EVENTS                                                                       \
    (1ull << PN_EV_pio | 1ull << PN_EV_mmio | 1ull << PN_EV_set_irq |                    \
     1ull << PN_EV_hlt | 1ull << PN_EV_interrupt)

/*
 * Interrupts: 8254 through PIC and vector 0x20, RTC through 0x28, UART through 0x24,
 * local APIC timer 0x40. Each handler says its letter on the console. The main loop
 * leaves each device half way: a count of two bytes written by one, a FIFO half read, a
 * command without its data, an index without its access, an item half read, a read-back
 * half taken.
 */
extern const uint8_t guest_begin[], guest_end[];
asm(".pushsection .rodata\n"
    ".macro outb port, value\n"
    "  mov $\\value, %al\n  mov $\\port, %edx\n  out %al, %dx\n"
    ".endm\n"
    ".macro inb port\n  mov $\\port, %edx\n  in %dx, %al\n.endm\n"
    ".macro show\n  mov $0x3f8, %edx\n  out %al, %dx\n.endm\n"
    ".global guest_begin, guest_end\n"
    "guest_begin:\n"
    "  mov $0x180000, %esp\n"
    "  mov $0x200200, %edi\n  lea on_pit(%rip), %rax\n  call gate\n"
    "  mov $0x200240, %edi\n  lea on_uart(%rip), %rax\n  call gate\n"
    "  mov $0x200280, %edi\n  lea on_rtc(%rip), %rax\n  call gate\n"
    "  mov $0x200400, %edi\n  lea on_apic(%rip), %rax\n  call gate\n"
    "  lidt idtr(%rip)\n"
    "  outb 0x20, 0x11\n  outb 0x21, 0x20\n  outb 0x21, 4\n  outb 0x21, 1\n"
    "  outb 0xa0, 0x11\n  outb 0xa1, 0x28\n  outb 0xa1, 2\n  outb 0xa1, 1\n"
    "  outb 0x21, 0xea\n  outb 0xa1, 0xfe\n" /* 8254, cascade, UART; RTC */
    "  outb 0x43, 0x34\n  outb 0x40, 0x9c\n  outb 0x40, 0x2e\n" /* mode 2, 10 ms */
    "  outb 0x43, 0xb4\n  outb 0x61, 1\n  outb 0x42, 0\n  outb 0x42, 0x80\n"
    "  outb 0x70, 0x0a\n  outb 0x71, 0x27\n" /* 512 Hz */
    "  outb 0x70, 0x0b\n  outb 0x71, 0x52\n" /* periodic and once a second */
    "  outb 0x3fa, 0xc1\n  outb 0x3fc, 0x1b\n  outb 0x3f9, 1\n" /* FIFO, loop, RX */
    "  mov $0xfee00000, %ebx\n"
    "  movl $0x1ff, 0xf0(%rbx)\n  movl $0xb, 0x3e0(%rbx)\n"
    "  movl $0x20040, 0x320(%rbx)\n  movl $3100000, 0x380(%rbx)\n" /* 3.1 ms */
    "  mov $0x602, %edx\n  mov $1, %eax\n  out %ax, %dx\n"         /* PM timer's SCI */
    "  mov $0x510, %edx\n  mov $0x15, %eax\n  out %ax, %dx\n"
    "  mov $60, %ebp\n"
    "1: sti\n  hlt\n  cli\n"
    "  outb 0x42, 0x11\n  mov %ebp, %eax\n  out %al, %dx\n" /* a count that waits */
    "  outb 0x43, 0x80\n  inb 0x42\n  call loopback\n"      /* latch, half read */
    "  outb 0x43, 0xe8\n  inb 0x42\n  call loopback\n"      /* read-back */
    "  inb 0x42\n  inb 0x42\n"
    "  mov $0x608, %edx\n  in %dx, %eax\n  call loopback\n"
    "  mov $0x600, %edx\n  in %dx, %ax\n  call loopback\n"
    "  inb 0x511\n  call loopback\n"
    "  outb 0x70, 0\n  inb 0x71\n  call loopback\n  outb 0x70, 0x55\n"
    "  outb 0x64, 0x20\n  inb 0x60\n  call loopback\n"
    "  outb 0x64, 0x61\n  mov %ebp, %eax\n  mov $0x60, %edx\n  out %al, %dx\n"
    "  outb 0x64, 0x21\n  inb 0x64\n  inb 0x60\n  call loopback\n  outb 0x64, 0xd4\n"
    "  mov %ebp, %eax\n  out %al, $0xe1\n  in $0xe0, %eax\n  out %al, $0x80\n"
    "  mov $0x5e0, %edx\n  mov %ebp, %eax\n  out %eax, %dx\n  in %dx, %eax\n"
    "  inb 0x92\n  xor $2, %al\n  out %al, $0x92\n"
    "  inb 0x3f8\n"
    "  mov 0x390(%rbx), %eax\n  call loopback\n" /* the APIC timer's count */
    "  mov %ebp, %eax\n  and $3, %al\n  jnz 2f\n"
    "  outb 0x3fc, 0xb\n  mov 0x210000, %al\n  call print\n"
    "  mov 0x210001, %al\n  call print\n  mov 0x210002, %al\n  call print\n"
    "  mov 0x210003, %al\n  call print\n  outb 0x3fc, 0x1b\n"
    "2: dec %ebp\n  jnz 1b\n"
    "  mov $0x604, %edx\n  mov $0x3400, %eax\n  out %ax, %dx\n  hlt\n"
    "loopback: show\n  ret\n"
    "print: and $0x3f, %al\n  add $0x30, %al\n  show\n  ret\n"
    "gate: mov %ax, (%rdi)\n  movw $0x10, 2(%rdi)\n  movw $0x8e00, 4(%rdi)\n"
    "  shr $16, %rax\n  mov %ax, 6(%rdi)\n  movl $0, 8(%rdi)\n  movl $0, 12(%rdi)\n  "
    "ret\n"
    "on_pit: incb 0x210000\n  push %rax\n  mov $0x20, %al\n  out %al, $0x20\n"
    "  pop %rax\n  iretq\n"
    "on_uart: incb 0x210001\n  push %rax\n  push %rdx\n  inb 0x3fa\n  inb 0x3f8\n"
    "  add %al, 0x210001\n  mov $0x20, %al\n  out %al, $0x20\n  pop %rdx\n  pop %rax\n"
    "  iretq\n"
    "on_rtc: incb 0x210002\n  push %rax\n  mov $0xc, %al\n  out %al, $0x70\n"
    "  in $0x71, %al\n  mov $0x20, %al\n  out %al, $0xa0\n  out %al, $0x20\n"
    "  pop %rax\n  iretq\n"
    "on_apic: incb 0x210003\n  movl $0, 0xb0(%rbx)\n  iretq\n"
    ".balign 8\n"
    "idtr: .word 0xfff\n .quad 0x200000\n"
    "guest_end:\n"
    ".popsection\n");

struct side {
    struct machine *m;
    struct pn_ring ring;
    struct machine_result result;
    char out[4096];
    size_t out_size;
};

static void serial_out(void *o, const uint8_t *buf, size_t size) {
    struct side *s = o;
    for (size_t i = 0; i < size && s->out_size < sizeof(s->out); i++)
        s->out[s->out_size++] = (char)buf[i];
}

static struct machine_config config(struct side *s, const struct pn_engine_ops *ops,
                                    uint64_t max_insns) {
    memset(s, 0, sizeof(*s));
    s->ring = (struct pn_ring){.mask = ALL_EVENTS,
                               .rec = calloc(RECORDS, sizeof(struct pn_event_rec)),
                               .size = RECORDS};
    struct machine_config cfg = {.engine = ops,
                                 .ram = RAM,
                                 .cpus = 1,
                                 .kernel_blob = guest_begin,
                                 .kernel_blob_size = (size_t)(guest_end - guest_begin),
                                 .append = "a command line to be read byte by byte",
                                 .format = FMT_FLAT,
                                 .flat_addr = LOAD_AT,
                                 .flat_bits = 64,
                                 .pv = 0,
                                 .max_insns = max_insns,
                                 .rings = &s->ring,
                                 .serial_out = serial_out,
                                 .opaque = s};
    pn_mmu_options_default(&cfg.mmu);
    return cfg;
}

static void begin(struct side *s, const struct pn_engine_ops *ops, uint64_t max_insns) {
    char err[256];
    struct machine_config cfg = config(s, ops, max_insns);
    ck_assert_msg(machine_create(&cfg, &s->m, err, sizeof(err)) == 0, "%s", err);
}

static void run(struct side *s) {
    char err[256];
    ck_assert_msg(machine_run(s->m, &s->result, err, sizeof(err)) == 0, "%s", err);
    ck_assert_uint_eq(s->ring.lost, 0);
}

static void end(struct side *s) {
    machine_destroy(s->m);
    free(s->ring.rec);
}

/* ---- By a snapshot ---- */

static char folder[] = "/tmp/pn-test-snapshot-XXXXXX", dir[sizeof(folder) + 2];

static void save(struct side *s) {
    char text[256] = "";
    struct err e = {text, sizeof(text)};
    s->m->ended = false; /* its limit has: the guest could go on */
    const struct snapshot_request save = {.dir = dir, .force = true};
    ck_assert_msg(!machine_snapshot_save(s->m, &save, &e), "%s", text);
    s->m->ended = true;
}

static struct snapshot *open_saved(void) {
    char text[256] = "";
    struct err e = {text, sizeof(text)};
    struct snapshot *s;
    ck_assert_msg(!snapshot_open(dir, &s, &e), "%s", text);
    ck_assert_uint_eq(snapshot_verify(s, stdout), 0);
    return s;
}

static void begin_saved(struct side *s, const struct pn_engine_ops *ops,
                        const struct snapshot *from) {
    char text[256] = "";
    struct err e = {text, sizeof(text)};
    struct machine_config cfg = config(s, ops, 0);
    ck_assert_int_eq(snapshot_config(from, &cfg, &e), 0);
    ck_assert_msg(!machine_create(&cfg, &s->m, text, sizeof(text)), "%s", text);
}

/* Everything that the guest can see goes over. */
static void hand_over(struct side *from, struct side *to) {
    struct machine_devices *d;
    struct pn_cpu_state *cpu = calloc(1, sizeof(*cpu));
    ck_assert_int_eq(machine_save_devices(from->m, &d), 0);
    ck_assert_int_eq(from->m->ops->get_state(from->m->engine, 0, cpu), 0);
    memcpy(to->m->ram.base, from->m->ram.base, RAM);
    ck_assert_int_eq(machine_load_devices(to->m, d), 0);
    ck_assert_int_eq(to->m->ops->set_state(to->m->engine, 0, cpu), 0);
    to->m->cpu[0] = from->m->cpu[0];
    machine_devices_free(d);
    free(cpu);
}

static void compare(const struct side *whole, const struct side *a, const struct side *b,
                    uint64_t at) {
    uint32_t n = a->ring.count, all = whole->ring.count;
    for (uint32_t i = 0; i < all && i < n + b->ring.count; i++) {
        const struct pn_event_rec *x = &whole->ring.rec[i];
        const struct pn_event_rec *y = i < n ? &a->ring.rec[i] : &b->ring.rec[i - n];
        ck_assert_msg(memcmp(x, y, sizeof(*x)) == 0,
                      "stopped at %lu, event %u: %s at %lu (%lx %lx %lx), and %s at %lu "
                      "(%lx %lx %lx)",
                      at, i, pn_event_name(x->id), x->time, x->arg[0], x->arg[1],
                      x->arg[3], pn_event_name(y->id), y->time, y->arg[0], y->arg[1],
                      y->arg[3]);
    }
    ck_assert_uint_eq(n + b->ring.count, all);
    ck_assert_uint_eq(a->out_size + b->out_size, whole->out_size);
    ck_assert_int_eq(memcmp(whole->out, a->out, a->out_size), 0);
    ck_assert_int_eq(memcmp(whole->out + a->out_size, b->out, b->out_size), 0);
    ck_assert_uint_eq(a->result.guest_insns + b->result.guest_insns,
                      whole->result.guest_insns);
    ck_assert_uint_eq(whole->result.guest_ns, b->result.guest_ns);
}

/* Under one engine to `part` of 20, then under the other. */
static void goes_on_from_a_folder(const struct pn_engine_ops *first,
                                  const struct pn_engine_ops *then) {
    struct side whole, a, b;
    begin(&whole, first, 0);
    run(&whole);
    for (uint64_t part = 1; part < 20; part++) {
        uint64_t at = whole.result.guest_insns * part / 20;
        begin(&a, first, at);
        run(&a);
        save(&a);
        struct snapshot *s = open_saved();
        begin_saved(&b, then, s);
        ck_assert_mem_eq(a.m->ram.base, b.m->ram.base, RAM);
        run(&b);
        ck_assert_int_eq(b.result.end, END_POWEROFF);
        ck_assert_uint_eq(machine_ram_digest(b.m), machine_ram_digest(whole.m));
        b.result.guest_insns -= a.result.guest_insns; /* it counts from power-on */
        compare(&whole, &a, &b, at);
        end(&a);
        end(&b);
        snapshot_close(s);
    }
    end(&whole);
}

START_TEST(a_snapshot_goes_on_alike_under_the_other_mmu) {
    const struct pn_engine_ops *shadow = pn_engine_find("shadow"),
                               *tdp = pn_engine_find("tdp");
    goes_on_from_a_folder(shadow, tdp);
    goes_on_from_a_folder(tdp, shadow);
}
END_TEST

START_TEST(a_snapshot_is_equal_to_itself_and_differs_from_a_later_one) {
    struct side a, b;
    char later[sizeof(dir)];
    begin(&a, pn_engine_find("shadow"), 1000);
    run(&a);
    save(&a);
    struct snapshot *first = open_saved();
    ck_assert_int_eq(snapshot_diff(first, first, stdout), 0);
    begin(&b, pn_engine_find("tdp"), 1000);
    run(&b);
    save(&b);
    struct snapshot *same = open_saved();
    ck_assert_int_eq(snapshot_diff(first, same, stdout), 0);
    end(&b);
    begin(&b, pn_engine_find("shadow"), 3000);
    run(&b);
    save(&b);
    struct snapshot *other = open_saved();
    FILE *out = fmemopen(later, sizeof(later), "w");
    ck_assert_int_gt(snapshot_diff(first, other, out), 3);
    fclose(out);
    snapshot_close(first);
    snapshot_close(same);
    snapshot_close(other);
    end(&a);
    end(&b);
}
END_TEST

START_TEST(another_machine_than_the_snapshots_is_refused_by_the_section) {
    static const struct {
        uint64_t ram;
        unsigned cpus;
        bool hpet;
        const char *model, *line;
    } other[] = {
        {RAM * 2, 1, false, NULL, "memory.bin: not the memory of a guest of 2048 pages"},
        {RAM, 2, false, NULL, "section vcpu1: there is none"},
        {RAM, 1, true, NULL, "section dev.hpet.0: there is none"},
        {RAM, 1, false, "x86-64-v2", "section cpuid: leaf 0x1 subleaf 0: ecx was"},
    };
    struct side a, b;
    begin(&a, pn_engine_find("shadow"), 1000);
    run(&a);
    save(&a);
    struct snapshot *s = open_saved();
    for (unsigned i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
        char text[256] = "";
        struct err e = {text, sizeof(text)};
        struct machine_config cfg = config(&b, pn_engine_find("tdp"), 0);
        ck_assert_int_eq(snapshot_config(s, &cfg, &e), 0);
        cfg.ram = other[i].ram;
        cfg.cpus = other[i].cpus;
        cfg.hpet = other[i].hpet;
        cfg.cpu_model = other[i].model;
        cfg.rings = NULL;
        ck_assert_int_eq(machine_create(&cfg, &b.m, text, sizeof(text)), -EINVAL);
        ck_assert_msg(strstr(text, other[i].line) != NULL, "%s", text);
        free(b.ring.rec);
    }
    snapshot_close(s);
    end(&a);
}
END_TEST

static void goes_on_alike(const struct pn_engine_ops *ops) {
    struct side whole, a, b;
    begin(&whole, ops, 0);
    run(&whole);
    ck_assert_int_eq(whole.result.end, END_POWEROFF);
    for (uint64_t part = 1; part < 40; part++) {
        uint64_t at = whole.result.guest_insns * part / 40;
        begin(&a, ops, at);
        run(&a);
        ck_assert_int_eq(a.result.end, END_MAX_INSNS);
        begin(&b, ops, 0);
        hand_over(&a, &b);
        run(&b);
        ck_assert_int_eq(b.result.end, END_POWEROFF);
        compare(&whole, &a, &b, at);
        end(&a);
        end(&b);
    }
    end(&whole);
}

START_TEST(every_device_of_a_stopped_guest_goes_on_in_a_new_machine) {
    goes_on_alike(pn_engine_find("shadow"));
}
END_TEST

START_TEST(and_under_tdp) {
    goes_on_alike(pn_engine_find("tdp"));
}
END_TEST

START_TEST(the_guest_meets_each_of_its_interrupts) {
    struct side s;
    begin(&s, pn_engine_find("shadow"), 0);
    run(&s);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_msg(s.m->ram.base[SEEN + i], "handler %u was never called", i);
    ck_assert_uint_gt(s.out_size, 20);
    end(&s);
}
END_TEST

START_TEST(states_of_the_future_are_refused) {
    struct side a, b;
    struct machine_devices *d;
    begin(&a, pn_engine_find("shadow"), 20000);
    run(&a);
    begin(&b, pn_engine_find("shadow"), 10000);
    ck_assert_int_eq(machine_save_devices(b.m, &d), 0);
    ck_assert_int_eq(machine_load_devices(a.m, d), -EINVAL);
    machine_devices_free(d);
    end(&a);
    end(&b);
}
END_TEST

/* Descriptor 0 is where nothing was opened, too. */
START_TEST(a_machine_closes_what_it_opened_alone) {
    char err[256];
    struct side s;
    struct machine_config cfg = config(&s, pn_engine_find("shadow"), 0);
    cfg.devices = "rng";
    ck_assert_int_ge(dup2(STDERR_FILENO, STDIN_FILENO), 0);
    ck_assert_msg(machine_create(&cfg, &s.m, err, sizeof(err)) == 0, "%s", err);
    end(&s);
    ck_assert_int_ge(fcntl(STDIN_FILENO, F_GETFD), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("devices");
    TCase *tc = tcase_create("devices");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, the_guest_meets_each_of_its_interrupts);
    tcase_add_test(tc, every_device_of_a_stopped_guest_goes_on_in_a_new_machine);
    tcase_add_test(tc, and_under_tdp);
    tcase_add_test(tc, a_machine_closes_what_it_opened_alone);
    tcase_add_test(tc, states_of_the_future_are_refused);
    tcase_add_test(tc, a_snapshot_goes_on_alike_under_the_other_mmu);
    tcase_add_test(tc, a_snapshot_is_equal_to_itself_and_differs_from_a_later_one);
    tcase_add_test(tc, another_machine_than_the_snapshots_is_refused_by_the_section);
    suite_add_tcase(suite, tc);
    if (!mkdtemp(folder))
        return EXIT_FAILURE;
    snprintf(dir, sizeof(dir), "%s/s", folder);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    const char *const files[] = {"s/manifest.json", "s/state.bin", "s/memory.bin", "s",
                                 ""};
    for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char path[64];
        snprintf(path, sizeof(path), "%s/%s", folder, files[i]);
        remove(path);
    }
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
