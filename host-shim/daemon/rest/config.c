#include <string.h>

#include "host-shim/daemon/auth/scopes.h"
#include "internal.h"
#include "limits.h"

/* Of the prefix that is meant, for those who may see it; for all others, who need no key here, the most. */
static unsigned max_boxes(struct rest *rest, struct http_request *r)
{
	struct principal p;
	const char *prefix = http_prefix(r);
	bool sees = auth_principal(rest->config.auth, r, &p) &&
		    (!p.prefix || !prefix[0] || strcmp(p.prefix, prefix) == 0);
	const struct tenant *t = sees ? auth_tenant(rest->config.auth, r) : NULL;
	return t ? t->max_boxes : TENANT_BOXES_MAX;
}

void rest_get_config(void *app, struct http_request *r)
{
	unsigned boxes = max_boxes(app, r);
	json_t *defaults = json_pack("{s:i, s:i, s:i, s:i, s:i, s:b, s:b, s:s}", "cpus", BOX_CPUS,
				     "memory_mib", BOX_MEMORY_MIB, "disk_size_gb", BOX_DISK_GB, "auto_stop",
				     DEFAULT_AUTO_STOP, "auto_delete", 0, "auto_resume", 1, "auto_remove", 0,
				     "security_preset", "development"); /* the box is its own boundary */
	json_t *capabilities = json_pack(
		"{s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s}",
		"linux_capabilities_enabled", 1, "snapshots_enabled", 1, "clone_enabled", 1, "export_enabled",
		1, "import_enabled", 1, "tty_enabled", 1, "streaming_enabled", 1, "max_cpus", LIMIT_CPUS,
		"max_memory_mib", LIMIT_MEMORY_MIB, "max_disk_size_gb", LIMIT_DISK_GB,
		"exec_timeout_max_seconds", LIMIT_SECONDS, "max_boxes_per_path_prefix", (int)boxes,
		"max_boxes_per_prefix", (int)boxes, "max_concurrent_executions", BOX_EXECUTIONS_MAX,
		"max_volumes_per_path_prefix", VOLUMES_MAX, "max_volumes_per_box", BOX_VOLUMES_MAX,
		"idempotency_key_lifetime", "PT24H");
	json_object_set_new(capabilities, "supported_security_presets", rest_presets());
	http_reply_json(r, 200,
			json_pack("{s:o, s:{}, s:o}", "defaults", defaults, "overrides", "capabilities",
				  capabilities));
}

void rest_get_me(void *app, struct http_request *r)
{
	struct rest *rest = app;
	struct principal p;
	auth_principal(rest->config.auth, r, &p);
	/* The default needs no prefix in the URL. */
	const char *prefix = p.prefix && strcmp(p.prefix, TENANT_DEFAULT) != 0 ? p.prefix : NULL;
	http_reply_json(r, 200,
			json_pack("{s:s, s:s, s:s, s:s?, s:o, s:o}", "sub", p.id, "principal_type",
				  "service_account", "display_name", p.name, "path_prefix", prefix, "scopes",
				  scopes_list(p.scopes), "expires_at",
				  p.expires_ms ? rest_time(p.expires_ms) : json_null()));
}
