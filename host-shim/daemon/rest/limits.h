/* What a client may ask for, beside what boxes.h says; /v1/config says the same. */
#pragma once

#define LIMIT_CPUS 255
#define LIMIT_MEMORY_MIB (1 << 20)
#define LIMIT_DISK_GB 16384
#define LIMIT_TERMINAL 65535  /* rows, columns */
#define LIMIT_SECONDS 2592000 /* of a timeout or an automatic stop: 30 days */
#define LIMIT_LABELS 16384    /* bytes; every list of boxes carries them */
#define LIMIT_TOKEN_SECONDS 86400
#define DEFAULT_TOKEN_SECONDS 3600
#define DEFAULT_AUTO_STOP 900
#define DEFAULT_STOP_SECONDS 30
