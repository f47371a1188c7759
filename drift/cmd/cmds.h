#ifndef DRIFT_CMD_CMDS_H
#define DRIFT_CMD_CMDS_H
/* Subcommands: the whole argument vector in (argv[1] is the command), the exit code out. */
#define CMD(name, what) int cmd_##name(int argc, char **argv);
#include "drift/cmd/cmds.def"
#undef CMD
#endif
