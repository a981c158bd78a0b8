/* The registered prefixes. What belongs to one (boxes, executions, keys) is seen by its callers alone.
 * "default" is always there, and is what a URL without a prefix means. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "host-shim/daemon/store/store.h"

#define TENANT_DEFAULT "default"
#define TENANTS_MAX 1024
#define TENANT_BOXES_MAX 1000 /* where registering it says nothing else */

struct tenants;

struct tenant {
	const char *prefix; /* lives as long as the registry */
	unsigned max_boxes;
	int64_t created_ms;
};

/* Loads them; waits for the store. */
int tenants_create(struct tenants **out, struct store *store, struct err *e);
void tenants_destroy(struct tenants *ts); /* after the store's last callback; NULL is fine */
/* NULL if it is not registered. */
const struct tenant *tenants_find(const struct tenants *ts, const char *prefix);
/* All, NULL-terminated, valid until the next change. */
const char *const *tenants_prefixes(struct tenants *ts);
/* Whether text can be a prefix: segments of letters, digits, '.', '_', '-', each beginning with a letter or
 * digit, 128 bytes together. Reserved first segments are the router's to refuse. */
bool tenant_is_valid(const char *text);

/* status 0, or -EEXIST, -ENOENT, -ENOSPC (TENANTS_MAX), or the store's. On the loop thread, after the
 * commit. */
typedef void (*tenant_done_fn)(void *arg, int status);
void tenants_add(struct tenants *ts, const char *prefix, unsigned max_boxes, tenant_done_fn done, void *arg);
/* The caller has made sure that nothing belongs to it. TENANT_DEFAULT stays. */
void tenants_remove(struct tenants *ts, const char *prefix, tenant_done_fn done, void *arg);
