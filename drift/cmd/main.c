/* The program: one dispatch table over cmds.def. */
#include <stdio.h>
#include <string.h>

#include "drift/cmd/cmds.h"
#include "drift/cmd/options.h"
#include "engine/ds4.h"

static const struct {
    const char *name, *what;
    char *title; /* argv[0] of the command, for its usage lines */
    int (*run)(int argc, char **argv);
} commands[] = {
#define CMD(name, what) {#name, what, (char[]){"ds4-drift " #name}, cmd_##name},
#include "drift/cmd/cmds.def"
#undef CMD
};

static void usage(FILE *to) {
    fputs("usage: ds4-drift COMMAND [OPTION...]\n\n", to);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].what);
    fputs(
        "\n`ds4-drift COMMAND --help` explains a command. Exit codes: 0 agree or pass, 1 drift or fail,\n"
        "2 not comparable, 3 inconclusive, 4 environment, 64 usage, 65 bad input data, 74 I/O.\n",
        to);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        usage(stderr);
        return 64;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        usage(stdout);
        return 0;
    }
    if (!strcmp(argv[1], "--version")) {
        puts("ds4-drift " DS4_VERSION);
        return 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(argv[1], commands[i].name)) {
            cmd_remember(argc, argv);
            argv[1] = commands[i].title;
            return commands[i].run(argc - 1, argv + 1);
        }
    fprintf(stderr, "ds4-drift: no command \"%s\"; `ds4-drift --help` lists them\n", argv[1]);
    return 64;
}
