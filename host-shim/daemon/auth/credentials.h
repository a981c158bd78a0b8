/* Keys, clients of OAuth2 and the tokens they got: secrets that somebody sends to be let in. Of each only a
 * SHA-256 is kept; a secret is shown when it is made and never again. All in memory, each change committed
 * before it is reported. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "host-shim/daemon/store/store.h"

#define CREDENTIALS_MAX 1000       /* keys and clients of a prefix */
#define CREDENTIALS_TOKENS_MAX 100 /* of a client; the oldest makes room */
#define CREDENTIAL_ID_LEN 16
#define CREDENTIAL_TEXT_MAX 128 /* of a secret as it is sent */

enum credential_kind { CREDENTIAL_KEY, CREDENTIAL_CLIENT, CREDENTIAL_TOKEN };

struct credential { /* valid until the next turn of the loop */
	enum credential_kind kind;
	const char *id, *prefix, *name;
	const char *words; /* of scopes.h, as they were asked for */
	unsigned scopes;
	unsigned token_seconds;                  /* of a client: how long its tokens live */
	int64_t created_ms, expires_ms, used_ms; /* expires 0: never; used 0: not yet */
};

struct credentials;

int credentials_create(struct credentials **out, struct store *store, struct err *e);
void credentials_destroy(struct credentials *cs); /* after the store's last callback; NULL is fine */

/* The one that was sent, in time that does not depend on the secret: a key or a token by itself, a client by
 * its id and secret. NULL: none, expired, or not of that kind. Notes that it was used. */
const struct credential *credentials_check(struct credentials *cs, const char *sent);
const struct credential *credentials_check_client(struct credentials *cs, const char *id, const char *secret);
/* Whether text has the form of a token, valid or not. */
bool credentials_is_token(const char *text);

struct credential_spec { /* borrowed */
	enum credential_kind kind;
	const char *prefix, *name, *words; /* a token's name may be NULL */
	const struct credential *client;   /* of a token */
	unsigned token_seconds;
	int64_t expires_ms; /* 0: never */
};
/* c and secret (NUL-terminated) are valid during the call; both NULL on failure, with -EEXIST if the name is
 * taken, -ENOSPC beyond CREDENTIALS_MAX, or the store's. After the commit. */
typedef void (*credential_made_fn)(void *arg, const struct credential *c, const char *secret, int status);
void credentials_add(struct credentials *cs, const struct credential_spec *spec, credential_made_fn done,
		     void *arg);
typedef void (*credential_done_fn)(void *arg, int status);
/* By name, for a client by name or id; what it has issued goes with it. It is refused from now on, and status
 * comes after the commit: 0, -ENOENT or the store's. */
void credentials_remove(struct credentials *cs, const char *prefix, enum credential_kind kind,
			const char *name, credential_done_fn done, void *arg);
/* Keys or clients of a prefix, oldest first. */
void credentials_each(const struct credentials *cs, const char *prefix, enum credential_kind kind,
		      void (*fn)(void *arg, const struct credential *c), void *arg);
bool credentials_any(const struct credentials *cs, const char *prefix);
