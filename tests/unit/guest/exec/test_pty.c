/* A terminal of this machine: what its two ends are told. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/exec/input.h"
#include "guest/exec/output.h"
#include "guest/exec/pty.h"

static uint8_t mem[RING_SIZE];

struct fixture {
	int master, slave;
};

static int set_up(void **state)
{
	static struct fixture f;
	const struct winsize size = {.ws_row = 30, .ws_col = 100};
	f.master = pty_open(-1, &size, &f.slave);
	*state = &f;
	return f.master < 0 || fcntl(f.slave, F_SETFL, O_NONBLOCK) < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	close(f->master);
	close(f->slave);
	return 0;
}

static void is_made_as_asked(void **state)
{
	struct fixture *f = *state;
	struct winsize size;
	struct termios t;
	assert_int_equal(ioctl(f->slave, TIOCGWINSZ, &size), 0);
	assert_int_equal(size.ws_row, 30);
	assert_int_equal(size.ws_col, 100);
	assert_int_equal(tcgetattr(f->slave, &t), 0);
	assert_true(t.c_iflag & IUTF8 && t.c_lflag & ICANON && t.c_oflag & OPOST);
	assert_true(fcntl(f->master, F_GETFD) & FD_CLOEXEC && fcntl(f->slave, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(f->master, F_GETFL) & O_NONBLOCK);
	assert_int_equal(pty_foreground(f->master), 0);
}

static void sizes(void **state)
{
	(void)state;
	struct fault fault;
	struct winsize size;
	Tenon__Tty asked = TENON__TTY__INIT;
	assert_int_equal(pty_size(&asked, "r", "c", &size, &fault), 0);
	assert_int_equal(size.ws_row, 24);
	assert_int_equal(size.ws_col, 80);
	asked.rows = asked.cols = 65535;
	assert_int_equal(pty_size(&asked, "r", "c", &size, &fault), 0);
	assert_int_equal(size.ws_row, 65535);
	asked.cols = 65536;
	assert_int_equal(pty_size(&asked, "r", "c", &size, &fault), -EINVAL);
	assert_string_equal(fault.field, "c");
	asked.rows = UINT32_MAX;
	assert_int_equal(pty_size(&asked, "r", "c", &size, &fault), -EINVAL);
	assert_string_equal(fault.field, "r");
}

static void of_a_given_devpts(void **state)
{
	(void)state;
	const struct winsize size = {.ws_row = 1, .ws_col = 1};
	int slave = -1, dir = open("/dev/pts", O_PATH | O_DIRECTORY),
	    other = open("/tmp", O_PATH | O_DIRECTORY);
	int master = pty_open(dir, &size, &slave);
	assert_true(master >= 0 && slave >= 0);
	close(master);
	close(slave);
	assert_int_equal(pty_open(other, &size, &slave), -ENOENT);
	/* Something else mounted there is not opened. */
	if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0) {
		int own = open("/dev/pts", O_PATH | O_DIRECTORY);
		assert_int_equal(mount("/dev/null", "/dev/pts/ptmx", NULL, MS_BIND, NULL), 0);
		assert_int_equal(pty_open(own, &size, &slave), -EXDEV);
		umount2("/dev/pts/ptmx", MNT_DETACH);
		close(own);
	}
	close(dir);
	close(other);
}

static void set_flags(int fd, tcflag_t lflag_off, tcflag_t iflag_off)
{
	struct termios t;
	assert_int_equal(tcgetattr(fd, &t), 0);
	t.c_lflag &= ~lflag_off;
	t.c_iflag &= ~iflag_off;
	assert_int_equal(tcsetattr(fd, TCSANOW, &t), 0);
}

static unsigned veofs(const struct fixture *f, uint8_t last)
{
	uint8_t written = 0;
	assert_int_equal(pty_end_input(f->master, last, &written), 0);
	uint8_t before = written;
	assert_int_equal(pty_end_input(f->master, last, &written), 0); /* a repeat writes nothing */
	assert_int_equal(written, before);
	return written;
}

static void end_of_input_by_mode(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(veofs(f, '\n'), 1);
	assert_int_equal(veofs(f, 4), 1);
	assert_int_equal(veofs(f, '\r'), 1);
	assert_int_equal(veofs(f, 'x'), 2);
	assert_int_equal(veofs(f, 0), 2); /* VEOL is disabled, which is 0 too */
	set_flags(f->slave, 0, ICRNL);
	assert_int_equal(veofs(f, '\r'), 2);
	set_flags(f->slave, ICANON, 0);
	assert_int_equal(veofs(f, 'x'), 1);
	struct termios t;
	tcgetattr(f->slave, &t);
	t.c_cc[VEOF] = _POSIX_VDISABLE;
	tcsetattr(f->slave, TCSANOW, &t);
	assert_int_equal(veofs(f, 'x'), 0);
}

static void end_of_input_goes_on_after_it_blocked(void **state)
{
	struct fixture *f = *state;
	static const char lines[1024] = {[0 ... 1023] = '\n'};
	uint8_t written = 0;
	set_flags(f->slave, ECHO, 0);
	while (write(f->master, lines, sizeof lines) > 0)
		;
	while (write(f->master, lines, 1) > 0)
		;
	assert_int_equal(pty_end_input(f->master, 'x', &written), -EAGAIN);
	assert_int_equal(written, 0);
	char got[4096];
	int r = -EAGAIN;
	for (int i = 0; i < 100000 && r == -EAGAIN; i++) {
		while (read(f->slave, got, sizeof got) > 0)
			;
		r = pty_end_input(f->master, 'x', &written);
	}
	assert_int_equal(r, 0);
	assert_int_equal(written, 2);
}

static void input_is_kept_while_nobody_holds_it_open(void **state)
{
	struct fixture *f = *state;
	struct exec_input in;
	exec_input_init(&in, f->master);
	assert_false(exec_input_waiting(&in));
	close(f->slave);
	assert_int_equal(exec_input_put(&in, mem, 0, (const uint8_t *)"ab", 2), 0);
	assert_true(exec_input_waiting(&in));
	assert_false(exec_input_write(&in, mem, true));
	assert_false(exec_input_waiting(&in));
	assert_int_equal(exec_input_end(&in, 2), 0);
	assert_true(exec_input_waiting(&in));
	assert_true(exec_input_write(&in, mem, true));
	assert_int_equal(in.veofs, 2); /* the line was not ended */
	f->slave = ioctl(f->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK);
	char got[8];
	int n = -1;
	for (int i = 0; i < 100000 && n < 0; i++) /* a worker of the kernel's carries it over */
		n = (int)read(f->slave, got, sizeof got);
	assert_int_equal(n, 2);
	assert_int_equal(read(f->slave, got, sizeof got), 0);
}

/* Fills what the terminal holds; returns how much that was. */
static size_t fill(int slave)
{
	static const char bytes[1000] = {0};
	size_t all = 0;
	for (ssize_t n; (n = write(slave, bytes, sizeof bytes)) > 0;)
		all += (size_t)n;
	return all;
}

static void output_is_read_until_it_is_empty(void **state)
{
	struct fixture *f = *state;
	struct exec_output o = {.fd = f->master, .limit = 1 << 20, .readable = true};
	size_t all = fill(f->slave);
	assert_true(all > 8192 && all < RING_SIZE);
	int reads = 0;
	while (exec_output_read(&o, mem, OUTPUT_TTY | OUTPUT_TTY_LED))
		reads++;
	assert_true(reads > 1); /* each gives a part: a short one means nothing */
	assert_int_equal(o.ring.end, all);
	assert_false(o.readable || o.eof);

	bool open;
	assert_true(exec_output_total(&o, OUTPUT_TTY, &open) == OUTPUT_TOTAL_UNKNOWN && open);
	assert_int_equal(write(f->slave, "tail", 4), 4);
	close(f->slave);
	f->slave = -1;
	o.readable = true;
	assert_true(exec_output_read(&o, mem, OUTPUT_TTY | OUTPUT_TTY_LED));
	assert_false(exec_output_read(&o, mem, OUTPUT_TTY | OUTPUT_TTY_LED)); /* it may be opened again */
	assert_false(o.readable || o.eof);
	assert_true(exec_output_total(&o, OUTPUT_TTY, &open) == OUTPUT_TOTAL_UNKNOWN && !open);
	o.readable = true;
	assert_true(exec_output_read(&o, mem, OUTPUT_TTY));
	assert_true(o.eof);
	assert_int_equal(exec_output_total(&o, OUTPUT_TTY, &open), all + 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(is_made_as_asked, set_up, tear_down),
		cmocka_unit_test(sizes),
		cmocka_unit_test(of_a_given_devpts),
		cmocka_unit_test_setup_teardown(end_of_input_by_mode, set_up, tear_down),
		cmocka_unit_test_setup_teardown(end_of_input_goes_on_after_it_blocked, set_up, tear_down),
		cmocka_unit_test_setup_teardown(input_is_kept_while_nobody_holds_it_open, set_up, tear_down),
		cmocka_unit_test_setup_teardown(output_is_read_until_it_is_empty, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
