/* The subcommands. Each takes what stands behind its name and returns tenon's exit code. */
#pragma once

#include "api.h"

#define EXIT_TENON 125   /* tenon's own failure, as docker has it */
#define EXIT_NO_EXEC 126 /* found, but not to be executed */
#define EXIT_NOT_FOUND 127

struct globals {
	const char *host, *key, *ca;
};

int command_run(const struct globals *g, int argc, char **argv);
int command_exec(const struct globals *g, int argc, char **argv);
int command_attach(const struct globals *g, int argc, char **argv);
int command_logs(const struct globals *g, int argc, char **argv);
int command_cp(const struct globals *g, int argc, char **argv);
int command_snapshot(const struct globals *g, int argc, char **argv);
int command_clone(const struct globals *g, int argc, char **argv);
int command_export(const struct globals *g, int argc, char **argv);
int command_import(const struct globals *g, int argc, char **argv);
int command_ps(const struct globals *g, int argc, char **argv);
int command_volume(const struct globals *g, int argc, char **argv);
int command_rm(const struct globals *g, int argc, char **argv);
int command_pull(const struct globals *g, int argc, char **argv);
int command_load(const struct globals *g, int argc, char **argv);
int command_images(const struct globals *g, int argc, char **argv);
int command_rmi(const struct globals *g, int argc, char **argv);

/* DELETEs each name of a NULL-terminated list below what ("boxes"), and prints those that are gone. */
int remove_each(const struct globals *g, const char *what, char **names, const char *query);
/* Prints "tenon: …" to stderr and returns EXIT_TENON. */
int complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
