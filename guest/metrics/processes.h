/* ListProcesses. */
#pragma once

#include "guest/bulk/bulk.h"

#define PROCESSES_NAME 64 /* four times what Linux allows */
#define PROCESSES_COMMAND 4096
#define PROCESSES_PACKED (PROCESSES_COMMAND + 512) /* no process takes more in its list */

bulk_op processes_list;
