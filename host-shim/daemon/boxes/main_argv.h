/* What the main command of a box is. */
#pragma once

#include "settings.h"

/* By docker's rules: create's lists stand before the image's, and its entrypoint voids the image's cmd too,
 * since that was meant for another program. A list that is given and empty counts as given. Where create
 * gives neither, the image's count only with image_command: published clients create a box without a word and
 * run commands in it, which must not hang on an image whose own command ends at once.
 *
 * A NULL-terminated list that borrows from s, to be freed; empty: there is no main command. NULL without
 * memory. */
const char **main_argv(const struct box_settings *s);
/* Whether that list is not empty. */
bool main_is_given(const struct box_settings *s);
