/* Removing directories that may be large. */
#pragma once

#include <uv.h>

/* path and all in it, on another thread. Takes path; NULL is fine. */
void removal_later(uv_loop_t *loop, char *path);
/* The same at once: for what is small, and for what an earlier tenond has left. */
void removal_now(const char *path);
