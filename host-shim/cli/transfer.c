#include "transfer.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "child.h"

static size_t on_read(char *out, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	ssize_t n;
	do
		n = read(t->fd, out, size * count);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return (size_t)n;
	/* An archive that was not finished must not pass for a whole one. */
	t->failed = n < 0 || (t->packer && !child_succeeded(t->packer));
	t->packer = 0;
	return t->failed ? CURL_READFUNC_ABORT : 0;
}

static size_t on_write(char *bytes, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	long status = 0;
	size_t n = size * count;
	curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200) {
		size_t keep = n < TRANSFER_REPLY_MAX - t->reply_len ? n : TRANSFER_REPLY_MAX - t->reply_len;
		memcpy(t->reply + t->reply_len, bytes, keep);
		t->reply_len += keep;
		return n;
	}
	for (size_t at = 0; at < n;) {
		ssize_t written = write(t->fd, bytes + at, n - at);
		if (written < 0 && errno != EINTR) {
			t->failed = true;
			return 0;
		}
		at += written > 0 ? (size_t)written : 0;
	}
	return n;
}

void transfer_receive(struct transfer *t)
{
	curl_easy_setopt(t->curl, CURLOPT_WRITEFUNCTION, on_write);
	curl_easy_setopt(t->curl, CURLOPT_WRITEDATA, t);
}

void transfer_send(struct transfer *t)
{
	curl_easy_setopt(t->curl, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(t->curl, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(t->curl, CURLOPT_READDATA, t);
}

int transfer_perform(struct transfer *t)
{
	struct api_error e;
	long status = 0;
	CURLcode code = curl_easy_perform(t->curl);
	curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
	if (code == CURLE_OK && status / 100 == 2)
		return 0;
	if (status >= 400) {
		api_read_error(&e, status, t->reply, t->reply_len);
		return complain("%s", e.message);
	}
	if (t->failed)
		return complain("the archive could not be passed on");
	return complain("%s", curl_easy_strerror(code));
}
