/* The kernel's side of a seccomp filter, for tests: what a program says to a call (seccomp(2), classic BPF).
 */
#pragma once

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define X32(nr) (0x40000000 | (nr))

struct bpf {
	struct sock_filter code[BPF_MAXINSNS];
	unsigned n;
};

/* What was built into fd. */
static inline int bpf_read(struct bpf *p, int fd)
{
	ssize_t n = pread(fd, p->code, sizeof p->code, 0);
	p->n = n > 0 ? (unsigned)n / sizeof *p->code : 0;
	return n > 0 && (size_t)n % sizeof *p->code == 0;
}

static inline uint32_t bpf_run(const struct bpf *p, uint32_t arch, int nr, uint64_t arg0)
{
	const struct seccomp_data data = {.nr = nr, .arch = arch, .args = {arg0}};
	uint32_t a = 0;
	for (unsigned pc = 0; pc < p->n; pc++) {
		const struct sock_filter *i = &p->code[pc];
		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			memcpy(&a, (const char *)&data + i->k, sizeof a);
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= i->k;
			break;
		case BPF_JMP | BPF_JA:
			pc += i->k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			pc += a == i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			pc += a > i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			pc += a >= i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			pc += a & i->k ? i->jt : i->jf;
			break;
		case BPF_RET | BPF_K:
			return i->k;
		default:
			return UINT32_MAX;
		}
	}
	return UINT32_MAX;
}
