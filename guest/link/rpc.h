/* Requests: from a message to the verbs of exec/, box/ and power/, and back to a Response. */
#pragma once

#include "guest/link/link.h"

/* Serves one Request of the main connection, answering now or later. Needs room in the queue for the largest
 * Response. -EPROTO with *e: it is no Request. */
int rpc_serve(struct link *l, const struct message *m, struct err *e);
