/* Numbers and words out of the texts of /proc and of cgroups. Nothing here fails: a number that is missing
 * reads as 0 and one that is too large as UINT64_MAX. Texts end with a NUL. Pure, but for scan_file. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Skips blanks, then takes the digits that follow. */
uint64_t scan_number(const char **p);

/* Skips blanks, then takes a number like "11.59" in thousandths; what is finer is cut. */
uint64_t scan_thousandths(const char **p);

/* Skips n words and the blanks before each, within the line. */
void scan_skip(const char **p, int n);

/* Skips blanks, then takes a word within the line: its length, 0 if there is none. */
size_t scan_word(const char **p, const char **word);

/* What follows key at the beginning of a word of this line, or NULL. */
const char *scan_pair(const char *line, const char *key);

/* To the beginning of the next line; false at the end of the text. */
bool scan_next_line(const char **p);

/* What follows key at the beginning of a line, or NULL. */
const char *scan_after(const char *text, const char *key);

/* The number there, or `missing`. */
uint64_t scan_value(const char *text, const char *key, uint64_t missing);

/* Without wrapping. */
uint64_t scan_times(uint64_t a, uint64_t b);
uint64_t scan_sum(uint64_t a, uint64_t b);
uint32_t scan_u32(uint64_t v);

/* The text of a file below dir, to its end or as far as it fits, and a NUL. Its length, or -errno. */
long scan_file(int dir, const char *name, char *text, size_t size);
