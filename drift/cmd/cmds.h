#ifndef DRIFT_CMD_CMDS_H
#define DRIFT_CMD_CMDS_H
/* Subcommands: their own argument vector in (argv[0] is "ds4-drift NAME"), the exit code out.
 */
#define CMD(name, what) int cmd_##name(int argc, char **argv);
#include "drift/cmd/cmds.def"
#undef CMD
#endif
