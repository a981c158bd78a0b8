/* The terminal that tenon was started on, while a remote one stands in its place. */
#pragma once

#include <stdbool.h>

/* Whether stdin is a terminal. */
bool terminal_is(void);
/* Every byte as it is typed, none echoed: all that is the other terminal's to do. Undone by terminal_restore,
 * which also runs at exit(3). -errno. */
int terminal_raw(void);
void terminal_restore(void); /* nothing unless it is raw */
/* False if there is none, or it does not know its size. */
bool terminal_size(unsigned *rows, unsigned *cols);
