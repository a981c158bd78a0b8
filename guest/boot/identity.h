/* Which boot this is, and how long its stages took. */
#pragma once

#include <stdint.h>

#include "proto/tenon.pb-c.h"

#define BOOT_ID_SIZE 16
#define AGENT_VERSION "tenon 0.1.0"

struct identity {
	uint8_t boot_id[BOOT_ID_SIZE];
	uint64_t clone_generation; /* counts memory restores and clones: Resume sets it */
	Tenon__BootTimes times;    /* CLOCK_BOOTTIME, ns */
	uint32_t upgrades;         /* of this program in its process, in this boot */
};

void identity_init(struct identity *id);

/* CLOCK_BOOTTIME now, in ns. */
uint64_t identity_now(void);
