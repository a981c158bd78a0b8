/* One question to a tenon-vmm on its vmm.sock: connect, HELLO, request, response, close. They are rare enough
 * to have a connection each, and so nothing has to be kept alive or made again. */
#pragma once

#include <jansson.h>
#include <uv.h>

#include "proto/err.h"
#include "proto/vmm.pb-c.h"

struct vmm_call;

/* m NULL: failed, e says why (an Error from the other side included). m is valid during the call. */
typedef void (*vmm_call_fn)(void *arg, const Tenon__VmmResponse *m, const struct err *e);

/* done runs exactly once, later, unless the call is cancelled. */
int vmm_call(struct vmm_call **out, uv_loop_t *loop, const char *socket_path,
	     const Tenon__VmmRequest *request, unsigned deadline_ms, vmm_call_fn done, void *arg,
	     struct err *e);
/* One command for QEMU's monitor; takes it. */
int vmm_call_qmp(struct vmm_call **out, uv_loop_t *loop, const char *socket_path, json_t *command,
		 unsigned deadline_ms, vmm_call_fn done, void *arg, struct err *e);
/* What QEMU returned to it, to be released. NULL: e says why, EREMOTEIO if it was QEMU that refused; anything
 * else leaves open whether it was done. m and e as done has them. */
json_t *vmm_call_returned(const Tenon__VmmResponse *m, const struct err *why, struct err *e);
/* done will not run. Not after it has. NULL is fine. */
void vmm_call_cancel(struct vmm_call *c);
