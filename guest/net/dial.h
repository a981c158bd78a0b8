/* A connection to a port on this machine's loopback. */
#pragma once

#include <stdint.h>

/* To 127.0.0.1, else to ::1. leaver: a socket whose hang-up gives it up, or -1. Returns a non-blocking
 * descriptor without Nagle's delay, or the -errno of the first that was tried; -ETIMEDOUT after ms in all;
 * -ECANCELED when the leaver left. */
int dial_loopback(uint16_t port, int leaver, int ms);
