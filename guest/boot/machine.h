/* What PID 1 owes the machine before the link is up: boot step 1, the same for every box. Nothing here ends
 * the boot: what fails is logged. */
#pragma once

/* /dev first; then descriptors 0–2 on the console or /dev/null and the log; then /proc /sys /dev/pts /run and
 * cgroup2. */
void machine_prepare(void);

/* The agent's own cgroup with memory.min, and the one that executions live under. Returns its path, or NULL
 * if there are none. */
const char *machine_make_cgroups(void);

/* Ctrl-Alt-Del becomes a signal to us and no reboot. */
void machine_take_ctrl_alt_del(void);
