#include "internal.h"
#include "limits.h"

void rest_get_config(void *app, struct http_request *r)
{
	(void)app;
	json_t *defaults =
		json_pack("{s:i, s:i, s:i, s:i, s:i}", "cpus", BOX_CPUS, "memory_mib", BOX_MEMORY_MIB,
			  "disk_size_gb", BOX_DISK_GB, "auto_stop", DEFAULT_AUTO_STOP, "auto_delete", 0);
	json_t *capabilities =
		json_pack("{s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:i, s:i, s:i, s:i}",
			  "linux_capabilities_enabled", 0, "snapshots_enabled", 0, "clone_enabled", 0,
			  "export_enabled", 0, "import_enabled", 0, "tty_enabled", 0, "streaming_enabled", 1,
			  "max_cpus", LIMIT_CPUS, "max_memory_mib", LIMIT_MEMORY_MIB, "max_disk_size_gb",
			  LIMIT_DISK_GB, "exec_timeout_max_seconds", LIMIT_SECONDS);
	http_reply_json(r, 200,
			json_pack("{s:o, s:{}, s:o}", "defaults", defaults, "overrides", "capabilities",
				  capabilities));
}

void rest_get_me(void *app, struct http_request *r)
{
	(void)app;
	http_reply_json(r, 200,
			json_pack("{s:s, s:s, s:s, s:n, s:[s,s,s,s,s], s:n}", "sub", "admin",
				  "principal_type", "service_account", "display_name", "tenon admin",
				  "path_prefix", "scopes", "box:read", "box:write", "box:exec", "box:delete",
				  "me:read", "expires_at"));
}
