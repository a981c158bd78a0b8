/* Files of the box: what bulk.proto asks about them, served in a worker that sees the box's file system and
 * has nothing else. Operations may block and may take long; a host that leaves ends them. */
#pragma once

#include "guest/bulk/bulk.h"

bulk_op files_stat, files_read_link, files_list;
bulk_op files_read, files_write;
bulk_op files_make_dir, files_remove, files_rename, files_chmod, files_chown, files_set_times, files_symlink,
	files_link;
bulk_op files_tar_in, files_tar_out;
bulk_op files_watch;
