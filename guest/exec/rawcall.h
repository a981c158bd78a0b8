/* System calls without libc, for code that shares its memory with the agent but is not the agent: a spawned
 * child before execve. libc's wrappers would write the errno that the agent is about to read. Results are
 * negative errno. */
#pragma once

#include <sys/syscall.h>

#if !defined(__x86_64__)
#error "port me: raw system calls and raw_clone are written for x86-64 only"
#endif

/* A function that runs there: no sanitizer that keeps books per thread, nor a stack protector that reads
 * thread-local storage. */
#define BESIDE __attribute__((no_sanitize("address", "undefined"), no_stack_protector))

static inline long raw_call(long nr, long a, long b, long c, long d)
{
	long r;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return r;
}

/* prctl(2) of one argument: some operations insist that the other three are zero. */
static inline long raw_prctl(long operation, long arg)
{
	long r;
	register long r10 __asm__("r10") = 0;
	register long r8 __asm__("r8") = 0;
	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"((long)SYS_prctl), "D"(operation), "S"(arg), "d"(0L), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return r;
}

/* clone or clone3 (by nr and its first two arguments) with a new stack: the child calls fn(arg), which must
 * not return. clone(2): the child's result is 0 on the stack named in a or b; every register but rax, rcx and
 * r11 is kept. */
static inline long raw_clone(long nr, long a, long b, void (*fn)(void *), void *arg)
{
	long r;
	register long r8 __asm__("r8") = 0;
	register long r10 __asm__("r10") = 0;
	register void (*r12)(void *) __asm__("r12") = fn;
	register void *r13 __asm__("r13") = arg;
	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %%r13, %%rdi\n\t"
			 "call *%%r12\n\t"
			 "hlt\n"
			 "1:"
			 : "=a"(r)
			 : "a"(nr), "D"(a), "S"(b), "d"(0L), "r"(r10), "r"(r8), "r"(r12), "r"(r13)
			 : "rcx", "r11", "memory");
	return r;
}
