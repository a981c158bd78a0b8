/* GetMetrics. */
#pragma once

#include "guest/bulk/bulk.h"

/* So many that with all executions there can be the answer stays below its 256 KiB, every counter at its
 * widest. */
#define METRICS_DISKS 256
#define METRICS_NETWORKS 512

bulk_op metrics_get;
