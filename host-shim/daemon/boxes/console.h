/* The end of a guest's console, made fit to be shown: it is the guest's to write and may hold anything. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define CONSOLE_EXCERPT 400 /* bytes of console in an error, at most */

/* Copies text to out without escape sequences and control characters; lines end in \n, bytes beyond ASCII
 * become
 * '?'. Keeps the end if it does not fit in cap - 1 bytes. Returns the length. */
size_t console_clean(char *out, size_t cap, const char *text, size_t len);
/* What is worth showing of a cleaned console: from its last "Kernel panic" on, else its last lines. At most
 * cap - 1 bytes. Returns whether there was a panic. */
bool console_excerpt(char *out, size_t cap, const char *clean);
/* The same of console.log in a box's state directory, which tenon-vmm begins anew with each run; "" without
 * one. */
bool console_read(char *out, size_t cap, const char *state_dir);
/* console.log of a box's state directory, to be read; -ENOENT if there is none, or it is no file. */
int console_open(const char *state_dir);
