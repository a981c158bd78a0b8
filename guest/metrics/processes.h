/* ListProcesses. */
#pragma once

#include "guest/bulk/bulk.h"

bulk_op processes_list;
