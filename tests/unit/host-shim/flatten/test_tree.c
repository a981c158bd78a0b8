/* Layers of names, and what is left of them: "name", "name/" (a folder), "name>target" (a symbolic link),
 * "name=target" (a hard link). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host-shim/flatten/tree.h"

#define LAYERS 4
#define ENTRIES 8

static int put(struct tree *t, const char *text)
{
	char name[8192];
	struct err e = {0};
	struct tree_entry entry = {.name = name, .type = S_IFREG};
	strcpy(name, text);
	char *mark = strpbrk(name, ">=");
	if (mark && *mark == '>') {
		entry.type = S_IFLNK;
		entry.symlink = mark + 1;
	} else if (mark) {
		entry.type = 0;
		entry.hardlink = mark + 1;
	} else if (*name && name[strlen(name) - 1] == '/') {
		entry.type = S_IFDIR;
	}
	if (mark)
		*mark = '\0';
	int r = tree_put(t, &entry, &e);
	assert_int_equal(r, -e.errnum);
	return r;
}

static int add_implicit(void *arg, const struct node *n)
{
	char path[TREE_PATH_MAX + 1];
	tree_path(n, path);
	if (n->parent)
		strcat(strcat(arg, path), "/? ");
	return 0;
}

/* "etc/x:1 " for each file: its names, and the layer it comes from; "etc/? " for a folder that no entry
 * speaks of. */
static void print(struct tree *t, char *out)
{
	*out = '\0';
	for (unsigned layer = 0; layer < LAYERS; layer++)
		for (uint32_t index = 0; index < ENTRIES; index++) {
			struct inode *i = tree_source(t, layer, index);
			const struct node *n;
			if (!i)
				continue;
			TAILQ_FOREACH (n, &i->nodes, same) {
				char path[TREE_PATH_MAX + 1];
				tree_path(n, path);
				strcat(strcat(out, path), TAILQ_NEXT(n, same) ? "=" : "");
			}
			sprintf(out + strlen(out), "%s:%u ", i->type == S_IFDIR ? "/" : "", layer);
		}
	tree_each_implicit(t, add_implicit, out);
}

static void test_layers(void **state)
{
	static const struct {
		const char *layers[LAYERS][ENTRIES];
		const char *left;
	} cases[] = {
		{{{"a", "d/", "d/x"}}, "a:0 d/:0 d/x:0 "},
		{{{"d/x"}}, "d/x:0 d/? "},
		{{{"a"}, {"a"}}, "a:1 "},
		{{{"d/", "d/x"}, {"d/"}}, "d/x:0 d/:1 "},
		{{{"a"}, {".wh.a"}}, ""},
		{{{"a"}, {".wh.a"}, {"a"}}, "a:2 "},
		{{{"a"}, {"a", ".wh.a"}}, "a:1 "},
		{{{"a"}, {".wh.a", "a"}}, "a:1 "},
		{{{"d/", "d/x"}, {".wh.d"}}, ""},
		{{{"d/", "d/x"}, {".wh.d", "d/y"}}, "d/y:1 d/? "},
		{{{"d/", "d/x"}, {"d/y", ".wh.d"}}, "d/y:1 d/? "},
		{{{"d/", "d/x"}, {"d/", ".wh.d"}}, "d/:1 "},
		{{{"d/", "d/x", "d/e/", "d/e/z"}, {"d/.wh..wh..opq", "d/e/y"}}, "d/:0 d/e/y:1 d/e/? "},
		{{{"d/", "d/x"}, {"d/y", "d/.wh..wh..opq"}}, "d/:0 d/y:1 "},
		{{{"d/", "d/x"}, {"d/.wh..wh..opq", "d/x"}, {"d/.wh..wh..opq"}}, "d/:0 "},
		{{{"d/", "d/x"}, {"d"}}, "d:1 "},
		{{{"d"}, {"d/", "d/x"}}, "d/:1 d/x:1 "},
		{{{"d/", "d/x"}, {"d>e"}}, "d:1 "},
		{{{"l>d", "d/"}, {"l/x", "l/y/"}}, "l:0 d/:0 d/x:1 d/y/:1 "},
		{{{"l>d", "d/"}, {"l/"}}, "d/:0 l/:1 "},
		{{{"l>../../d", "d/", "d/x"}, {"l/.wh.x"}}, "l:0 d/:0 "},
		{{{"l>/d/e"}, {"l/x"}}, "l:0 d/e/x:1 d/? d/e/? "},
		{{{"a", "b=a", "c=b"}}, "a=b=c:0 "},
		{{{"a"}, {"b=a", ".wh.a"}}, "b:0 "},
		{{{"a", "b=a"}, {".wh.a"}, {".wh.b"}}, ""},
		{{{"d/", "d/x"}, {"d=d/x"}}, "d:0 "},
		{{{"a"}, {"a=a", ".wh.a"}}, "a:0 "},
		{{{"s>t", "r=s"}}, "s=r:0 "},
		{{{"/a", "./b", "c//d", "./"}}, "a:0 b:0 c/d:0 ./:0 c/? "},
		{{{"a", ".wh..wh.aufs", ".wh..wh.plnk/"}}, "a:0 "},
		{{{".wh.none", "no/.wh.x", "f"}, {"f/.wh.x"}}, "f:0 "},
		{{{".whx", "x.wh."}}, ".whx:0 x.wh.:0 "},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char left[1024];
		struct err e;
		struct tree *t = tree_create(&(struct tree_limits){.entries = 100, .memory_bytes = 1 << 20});
		for (unsigned layer = 0; layer < LAYERS; layer++) {
			assert_int_equal(tree_begin_layer(t, &e), 0);
			for (unsigned n = 0; n < ENTRIES && cases[i].layers[layer][n]; n++) {
				int r = put(t, cases[i].layers[layer][n]);
				if (r != 0)
					fail_msg("case %zu: %s: %d", i, cases[i].layers[layer][n], r);
			}
		}
		print(t, left);
		if (strcmp(left, cases[i].left) != 0)
			fail_msg("case %zu: \"%s\", not \"%s\"", i, left, cases[i].left);
		tree_destroy(t);
	}
}

static void test_refusals(void **state)
{
	static const struct {
		const char *text;
		int errnum;
	} cases[] = {
		{"../x", EINVAL},   {"a/../x", EINVAL}, {"d/..", EINVAL},
		{"", EINVAL},       {"x>", EINVAL},     {"x=../d/f", EINVAL},
		{"x=none", ENOENT}, {"x=d", EISDIR},    {"x=d/none", ENOENT},
		{"f/x", ENOTDIR},   {"loop/x", ELOOP},  {".wh.", EINVAL},
		{".wh..", EINVAL},  {".wh...", EINVAL}, {"x=", ENOENT},
		{"x=/", ENOENT},    {".", EINVAL},      {"/", 0},
		{"lf/x", ENOTDIR},
	};
	struct err e;
	struct tree *t = tree_create(&(struct tree_limits){.entries = 100, .memory_bytes = 1 << 20});
	(void)state;
	assert_int_equal(tree_begin_layer(t, &e), 0);
	assert_int_equal(put(t, "d/") | put(t, "f") | put(t, "loop>loop") | put(t, "lf>f"), 0);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (put(t, cases[i].text) != -cases[i].errnum)
			fail_msg("%s", cases[i].text);
	tree_destroy(t);
}

static void test_limits(void **state)
{
	struct err e;
	char name[8192];
	struct tree *t = tree_create(&(struct tree_limits){.entries = 10, .memory_bytes = 1 << 20});
	(void)state;
	assert_int_equal(tree_begin_layer(t, &e), 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(put(t, "a"), 0);
	assert_int_equal(put(t, "a"), -E2BIG);
	tree_destroy(t);

	t = tree_create(&(struct tree_limits){.entries = 10000, .memory_bytes = 100000});
	assert_int_equal(tree_begin_layer(t, &e), 0);
	int r = 0;
	for (int i = 0; r == 0 && i < 10000; i++) {
		sprintf(name, "%0200d", i);
		r = put(t, name);
	}
	assert_int_equal(r, -E2BIG);
	tree_destroy(t);

	t = tree_create(&(struct tree_limits){.entries = 10000, .memory_bytes = 1 << 24});
	assert_int_equal(tree_begin_layer(t, &e), 0);
	memset(name, 'n', 256);
	name[256] = '\0';
	assert_int_equal(put(t, name), -ENAMETOOLONG);
	for (int i = 0; i < 2048; i++)
		memcpy(name + 2 * i, "d/", 2);
	strcpy(name + 4094, "x");
	assert_int_equal(put(t, name), 0); /* the deepest that there is */
	strcpy(name + 4094, "xx");
	assert_int_equal(put(t, name), -EINVAL);
	/* Longer than a path through a link. */
	assert_int_equal(put(t, "l>d/d/d/d/d/d/d/d"), 0);
	strcpy(name, "l/");
	for (int i = 0; i < 2044; i++)
		memcpy(name + 2 + 2 * i, "d/", 2);
	strcpy(name + 4090, "yy");
	assert_int_equal(put(t, name), -ENAMETOOLONG);
	tree_destroy(t);
}

/* A hundred thousand names in and out again. */
static void test_many(void **state)
{
	struct err e;
	char name[64];
	struct tree *t = tree_create(&(struct tree_limits){.entries = 300000, .memory_bytes = 1 << 28});
	(void)state;
	assert_int_equal(tree_begin_layer(t, &e), 0);
	assert_int_equal(put(t, "first"), 0);
	for (int i = 0; i < 100000; i++) {
		sprintf(name, i % 2 ? "d%d/f%d" : "d%d/f%d=first", i % 1000, i);
		assert_int_equal(put(t, name), 0);
	}
	assert_int_equal(tree_begin_layer(t, &e), 0);
	for (int i = 0; i < 1000; i++) {
		sprintf(name, ".wh.d%d", i);
		assert_int_equal(put(t, name), 0);
	}
	assert_non_null(tree_source(t, 0, 0));
	for (uint32_t i = 1; i < 100001; i++)
		assert_null(tree_source(t, 0, i));
	tree_destroy(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layers),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
