#ifndef DRIFT_CMD_INFO_DEVICE_H
#define DRIFT_CMD_INFO_DEVICE_H
/* `info --device`: every Vulkan device, opened and measured. */
#include <stdbool.h>

#include "engine/base/err.h"

/* Prints to standard output: groups of facts, or with json one array of {"index", "unfit",
 * "facts"}, where unfit is null or says why the device cannot run strict rows, and facts maps
 * keys to text. A device that cannot be opened shows what it says of itself. */
ds4_status info_devices(bool json, ds4_err *err);

#endif
