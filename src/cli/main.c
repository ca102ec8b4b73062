/* SPDX-License-Identifier: MIT */
/* penumbra: pick the subcommand. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "bench/harness/measure.h"
#include "cli/cli.h"
#include "cli/option.h"

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *doc;
} commands[] = {
#define COMMAND(name, run, doc) {name, run, doc},
#include "cli/commands.inc"
    {MEASURE_COMMAND, cmd_measure, NULL}, /* bench's own: one run, in a process apart */
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

#define GUESTS_CODE                                                                      \
    "(value << 1) | 1: the guest wrote value to the debug-exit port, as in QEMU; below " \
    "3 and above 63 it may look like another code: exit.guest_value of --stats tells"
#define SIGNAL_CODE "128 + N: signal N ended it (130: Ctrl-C)"

static const char what[] =
    "Boots x86-64 guests under one of several MMUs and shows what the MMU did.";

static void usage(FILE *out) {
    fprintf(out, "Usage: penumbra COMMAND [OPTION...]\n\n%s\n\n", what);
    for (unsigned i = 0; i < COMMANDS && commands[i].doc; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].doc);
    fputs("  help       the options of a command: penumbra help COMMAND\n"
          "  version    print the version\n\nExit codes:\n",
          out);
#define EXIT(name, code, when) fprintf(out, "  %d  %s\n", code, when);
#include "cli/exit_codes.inc"
    fputs("  " GUESTS_CODE "\n  " SIGNAL_CODE "\n", out);
}

/* Every command's part of a completion script, or of the reference. */
static void complete(const char *as) {
    for (unsigned i = 0; i < COMMANDS && commands[i].doc; i++) {
        char *argv[] = {"", (char *)(uintptr_t)as};
        commands[i].run(2, argv);
    }
}

static void bash(void) {
    puts("# bash completion for penumbra, generated from its tables of options.\n"
         "_penumbra() {\n"
         "    local cur=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD-1]}\n"
         "    local options= words= takes=none arguments=none i command=\n"
         "    [ \"$cur\" != = ] || cur=\n"
         "    [ \"$option\" != = ] || option=${COMP_WORDS[COMP_CWORD-2]}\n"
         "    [ \"${COMP_WORDS[COMP_CWORD]}\" != = ] || "
         "option=${COMP_WORDS[COMP_CWORD-1]}\n"
         "    [ \"$COMP_CWORD\" -lt 2 ] || command=${COMP_WORDS[1]}\n"
         "    COMPREPLY=()\n"
         "    case $command in\n"
         "    '') options='");
    for (unsigned i = 0; i < COMMANDS && commands[i].doc; i++)
        printf("%s ", commands[i].name);
    puts("help version' ;;\n    help) options='");
    for (unsigned i = 0; i < COMMANDS && commands[i].doc; i++)
        printf("%s ", commands[i].name);
    puts("' ;;");
    complete("--help=bash");
    puts("    esac\n"
         "    case $takes in\n"
         "    file) mapfile -t COMPREPLY < <(compgen -f -- \"$cur\") ;;\n"
         "    value) mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\") ;;\n"
         "    none)\n"
         "        mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$cur\")\n"
         "        if [ ${#COMPREPLY[@]} -eq 0 ] && [ $arguments = file ]; then\n"
         "            mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
         "        fi ;;\n"
         "    esac\n"
         "    [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace 2> /dev/null\n"
         "    return 0\n"
         "}\n"
         "complete -o filenames -F _penumbra penumbra");
}

static void zsh(void) {
    fputs("#compdef penumbra\n# Generated from penumbra's tables of options.\n"
          "local -a commands=(",
          stdout);
    for (unsigned i = 0; i < COMMANDS && commands[i].doc; i++)
        printf("'%s:%s' ", commands[i].name, commands[i].doc);
    puts("'help:the options of a command' 'version:print the version')\n"
         "if (( CURRENT == 2 )); then\n    _describe command commands\n    return\nfi\n"
         "local command=$words[2]\nshift words\n(( CURRENT-- ))\ncase $command in\n"
         "    help) _describe command commands ;;");
    complete("--help=zsh");
    puts("esac");
}

static void man_exit(const char *code, const char *when) {
    printf(".TP\n%s\n", code);
    man_text(NULL, when);
}

static void man(void) {
    man_begin("penumbra", "a workbench for memory virtualization");
    man_text("SYNOPSIS", "penumbra COMMAND [OPTION...]");
    man_text("DESCRIPTION", what);
    puts(".SH COMMANDS");
    for (unsigned i = 0; i < COMMANDS && commands[i].doc; i++) {
        printf(".TP\n\\fB%s\\fR\n", commands[i].name);
        man_text(NULL, commands[i].doc);
    }
    puts(".TP\n\\fBhelp\\fR \\fICOMMAND\\fR\nthe options of a command");
    puts(".TP\n\\fBversion\\fR\nprint the version\n.SH \"EXIT STATUS\"");
#define EXIT(name, code, when) man_exit(#code, when);
#include "cli/exit_codes.inc"
    puts(".PP\n" GUESTS_CODE "; " SIGNAL_CODE ".\n.SH \"SEE ALSO\"");
    for (unsigned i = 0; i < COMMANDS && commands[i].doc; i++)
        printf("%spenumbra\\-%s(1)", i ? ", " : "", commands[i].name);
    putchar('\n');
}

/* docs/reference/commands.md */
static void md(void) {
    md_begin("Commands", what);
    md_heading("Commands", "command", "does");
    for (unsigned i = 0; i < COMMANDS && commands[i].doc; i++)
        md_row(commands[i].name, commands[i].doc);
    md_heading("Exit codes", "code", "when");
#define EXIT(name, code, when) md_row(#code, when);
#include "cli/exit_codes.inc"
    puts("\n" GUESTS_CODE ".\n\n" SIGNAL_CODE ".");
    complete("--help=md");
}

/* What the build asks for. Return: whether it is one of these. */
static bool document(const char *as) {
    static const struct {
        const char *name;
        void (*print)(void);
    } forms[] = {{"man", man},           {"bash", bash},        {"zsh", zsh},
                 {"commands", md},       {"events", md_events}, {"counters", md_counters},
                 {"choices", md_choices}};
    for (unsigned i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
        if (!strcmp(as, forms[i].name)) {
            forms[i].print();
            return true;
        }
    return false;
}

static void unknown(const char *name) {
    struct nearest near = {.word = name, .length = strlen(name)};
    if (*name == '-') {
        cli_error("%s: the command comes first: is penumbra run %s meant? (see penumbra "
                  "--help)",
                  name, name);
        return;
    }
    for (unsigned i = 0; i < COMMANDS && commands[i].doc; i++)
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

static int command(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    if (!strncmp(name, "--help=", 7) && document(name + 7))
        return CLI_OK;
    if (!strcmp(name, "--version") || !strcmp(name, "-V") || !strcmp(name, "-v") ||
        !strcmp(name, "-version") || !strcmp(name, "version")) {
        cli_version();
        return CLI_OK;
    }
    bool help = !strcmp(name, "help");
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || (help && argc == 2)) {
        usage(stdout);
        return CLI_OK;
    }
    if (help) {
        name = argv[1] = argv[2];
        argv[2] = "--help";
        argc = 3;
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

int main(int argc, char **argv) {
    guard_stdio();
    signal(SIGPIPE, SIG_IGN); /* a closed console is an error code, not a death */
    return cli_flush(command(argc, argv));
}
