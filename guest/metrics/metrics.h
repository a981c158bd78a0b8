/* GetMetrics. */
#pragma once

#include "guest/bulk/bulk.h"

bulk_op metrics_get;
