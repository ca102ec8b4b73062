/* SPDX-License-Identifier: MIT */
/* penumbra: pick the subcommand. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *doc;
} commands[] = {
    {"run", cmd_run, "boot a guest under one of the MMUs"},
    {"host", cmd_host, "what this host offers"},
    {"bench", cmd_bench, "run the same workloads under each MMU"},
    {"compare", cmd_compare, "say which differences between two benchmarks are real"},
    {"merge", cmd_merge, "put the shards of a benchmark together"},
    {"trace", cmd_trace, "print, filter and digest a trace file"},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *out) {
    fputs("Usage: penumbra COMMAND [OPTION...]\n\n"
          "Boots x86-64 guests under one of several MMUs and shows what the MMU did.\n\n",
          out);
    for (unsigned i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].doc);
    fputs(
        "\n'penumbra COMMAND --help' tells the options of each.\n"
        "Exit codes: 0 the guest powered off or the command succeeded; 1 host failure;\n"
        "2 usage; 3 the guest crashed; 4 a limit ended it; 5 'compare --fail-above' is\n"
        "crossed; 6 a trace is damaged; debug-exit guests end with (value << 1) | 1.\n",
        out);
}

static void unknown(const char *name) {
    struct nearest near = {.word = name, .length = strlen(name)};
    for (unsigned i = 0; i < COMMANDS; i++)
        nearest_try(&near, commands[i].name);
    cli_error("no command is called '%s'%s%s%s (see penumbra --help)", name,
              near.best ? ": did you mean " : "", near.best ? near.best : "",
              near.best ? "?" : "");
}

/* A descriptor that was closed before us must not become a disk's, or a VM's: reading
 * and writing it fail, as they did. */
static void guard_stdio(void) {
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv) {
    guard_stdio();
    signal(SIGPIPE, SIG_IGN); /* a closed console is an error code, not a death */
    const char *name = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
        usage(stdout);
        return CLI_OK;
    }
    if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
        puts("penumbra " PENUMBRA_VERSION);
        return CLI_OK;
    }
    for (unsigned i = 0; i < COMMANDS; i++)
        if (!strcmp(name, commands[i].name))
            return commands[i].run(argc - 1, argv + 1);
    if (!*name)
        usage(stderr);
    else
        unknown(name);
    return CLI_USAGE;
}
