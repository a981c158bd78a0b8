/* One question to a tenon-vmm on its vmm.sock: connect, HELLO, request, response, close. They are rare enough to
 * have a connection each, and so nothing has to be kept alive or made again. */
#pragma once

#include <uv.h>

#include "proto/err.h"
#include "proto/vmm.pb-c.h"

struct vmm_call;

/* m NULL: failed, e says why (an Error from the other side included). m is valid during the call. */
typedef void (*vmm_call_fn)(void *arg, const Tenon__VmmResponse *m, const struct err *e);

/* done runs exactly once, later, unless the call is cancelled. */
int vmm_call(struct vmm_call **out, uv_loop_t *loop, const char *socket_path, const Tenon__VmmRequest *request,
	     unsigned deadline_ms, vmm_call_fn done, void *arg, struct err *e);
/* done will not run. Not after it has. NULL is fine. */
void vmm_call_cancel(struct vmm_call *c);
