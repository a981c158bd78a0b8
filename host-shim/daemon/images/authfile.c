#include "authfile.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <nettle/base64.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/cleanup.h"

#define FILE_MAX (1u << 20)

static char *with_secret(const struct reference *r, const char *username, const char *password)
{
	char host[REFERENCE_NAME_MAX + 1];
	_cleanup_free_ char *pair = NULL, *encoded = NULL;
	int n = asprintf(&pair, "%s:%s", username, password);
	if (n < 0)
		return NULL;
	encoded = malloc(BASE64_ENCODE_RAW_LENGTH((size_t)n) + 1);
	if (!encoded)
		return NULL;
	base64_encode_raw(encoded, (size_t)n, (const uint8_t *)pair);
	encoded[BASE64_ENCODE_RAW_LENGTH((size_t)n)] = '\0';
	explicit_bzero(pair, (size_t)n);
	strcpy(host, r->repository);
	host[strcspn(host, "/")] = '\0';
	json_t *o = json_pack("{s:{s:{s:s}}}", "auths", host, "auth", encoded);
	char *text = o ? json_dumps(o, 0) : NULL;
	json_decref(o);
	explicit_bzero(encoded, strlen(encoded));
	return text;
}

static int copy_of(char **out, const char *path, struct err *e)
{
	struct stat st;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, "pull", errno, "%.100s", path);
	if (!S_ISREG(st.st_mode) || st.st_mode & 077)
		return err_set(e, "pull", EPERM,
			       "%.100s: must be a file that only its owner may read (mode 0600)", path);
	_cleanup_free_ char *text = calloc(1, FILE_MAX + 1);
	ssize_t n = text ? read(fd, text, FILE_MAX) : -1;
	if (n < 0)
		return err_sys(e, "pull", errno, "%.100s", path);
	*out = steal_ptr(&text);
	return 0;
}

int authfile_make(const char *path, const struct reference *r, const char *username, const char *password,
		  const char *host_file, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	int status = 0;
	if (username)
		text = with_secret(r, username, password);
	else if (host_file)
		status = copy_of(&text, host_file, e);
	else
		text = strdup("{\"auths\": {}}");
	if (status < 0)
		return status;
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	size_t len = text ? strlen(text) : 0;
	if (!text || fd < 0 || write(fd, text, len) != (ssize_t)len)
		status = err_sys(e, "pull", text ? errno : ENOMEM, "credentials");
	if (text)
		explicit_bzero(text, len);
	return status;
}
