/* SPDX-License-Identifier: MIT */
/*
 * The guest's serial console on this process's stdin and stdout (or stderr).
 *
 * A terminal whose foreground is ours is put into raw mode and restored by console_close, at exit, and by every
 * signal that ends the process. Ctrl-A is the escape key there, and only there: x quits, c
 * switches to the monitor, h shows help, Ctrl-A sends one. Input that ends (EOF) does not end the guest.
 */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The guest's output goes to `out`, a descriptor. on_quit is called for Ctrl-A x, a closed output, and SIGINT, SIGTERM, SIGHUP, SIGQUIT:
 * from the console's own calls or from a signal handler. There is one console. */
void console_open(void (*on_quit)(void), int out);
void console_close(void);
/* Return: whether input can ever come (stdin is open and not /dev/null). */
bool console_has_input(void);

/* The machine's callbacks (machine.h); opaque is unused. */
void console_out(void *opaque, const uint8_t *buf, size_t size);
size_t console_in(void *opaque, uint8_t *buf, size_t size);
#define CONSOLE_ALSO_MAX 320u /* descriptors at most */
void console_idle(void *opaque, uint64_t ns, struct pollfd *also, unsigned count);

/* Ctrl-A c: keys are for a monitor, and again for the guest. name: its commands, NULL beyond the
 * last, for Tab. Without this call the key does nothing. */
void console_offer_monitor(const char *(*name)(unsigned i));
/* A line that was typed there, without its end. Return: false: there is none. */
bool console_has_line(void);
bool console_take_line(char *line, size_t size);
/* The monitor's answer, and a prompt behind it. */
void console_answer(const char *text, size_t size);

/* Why on_quit was called. */
int console_signal(void);    /* the signal, or 0 */
int console_out_error(void); /* errno of the failed write, or 0 */
