/* tenon-net: the network of one box, as a child of its tenon-vmm.
 * usage: tenon-net FD     a datagram socket, whose other end is QEMU's: one Ethernet frame each */
#include <stdio.h>
#include <stdlib.h>

#include "confine.h"
#include "stack.h"

int main(int argc, char **argv)
{
	static struct stack stack;
	struct err e = {0};
	int guest = argc == 2 ? atoi(argv[1]) : -1;
	if (guest < 3) {
		fprintf(stderr, "usage: tenon-net FD\n");
		return 2;
	}
	int r = confine_process(&e);
	if (r == 0)
		r = stack_init(&stack, guest, &e);
	if (r == 0)
		r = confine_calls(&e);
	if (r == 0)
		r = stack_run(&stack, &e);
	fprintf(stderr, "tenon-net: %s\n", e.msg);
	return 1;
}
