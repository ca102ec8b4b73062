/* SPDX-License-Identifier: MIT */
/*
 * Memory of our own whose pages come when they are touched: whoever touches one that is missing
 * waits in the host's kernel (userfaultfd) until it is put. ioctl_userfaultfd(2).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* kernel: will the kernel touch it, too, for a hypervisor? Return: a descriptor that does not block,
 * or -errno with a line in e that begins with what. */
int uffd_open(bool kernel, const char *what, struct err *e);
/* Whole pages, which nobody has registered. Return: 0 or -errno. */
int uffd_watch(int fd, void *at, size_t size);
/* What is missing then is zeros; whoever waits goes on. */
void uffd_unwatch(int fd, void *at, size_t size);
/* Put whole pages where none are, and wake who waits for them. data NULL: zeros.
 * Return: 0; -EEXIST: there is one, and of those before it all are put; or -errno. */
int uffd_put(int fd, void *at, const void *data, size_t size);
int uffd_wake(int fd, void *at, size_t size); /* Return: 0 or -errno */
/* The next address that somebody waits at. Return: whether there is one. */
bool uffd_next(int fd, uint64_t *address);
