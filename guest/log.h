/* Terse lines for whoever reads the console. Bounded in length and in rate, and never blocking: what cannot
 * be written at once is dropped. */
#pragma once

/* PID 1 writes to the kernel log, which never blocks and reaches the console by itself; others to stderr.
 * Until this is called nothing is written. */
void log_init(int pid1);

/* One line, "tenon-init: " in front, cut at 240 bytes. */
void log_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
