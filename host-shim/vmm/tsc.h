/* This machine's time stamp counter. */
#pragma once

/* Its frequency in kHz, measured against CLOCK_MONOTONIC_RAW to some millionths; takes 5 ms. */
unsigned long tsc_khz(void);
