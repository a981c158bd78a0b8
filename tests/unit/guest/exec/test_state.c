/* The table of proto/EXEC.md, walked: every state with every event. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/exec/state.h"

#define NEVER                   \
	{                       \
		-1, EXEC_DO_LOG \
	}
#define FREE_IF_DRAINED                                             \
	{                                                           \
		EXEC_FREE, EXEC_DO_FINISH_GRACE | EXEC_DO_TOMBSTONE \
	}

/* As in the document, column by column; next -1: it cannot happen, the row stays. */
static const struct {
	int next;
	unsigned actions;
} expected[EXEC_STATES][EXEC_EVENTS] = {
	/* started, failed, child exit, kill, timeout, grace over, ack, then if drained */
	[EXEC_FREE] = {NEVER, NEVER, NEVER, NEVER, NEVER, NEVER, NEVER, NEVER},
	[EXEC_SPAWNING] = {{EXEC_RUNNING, EXEC_DO_ANSWER | EXEC_DO_ARM_TIMEOUT},
			   {EXEC_FREE, EXEC_DO_ANSWER_FAILED},
			   {EXEC_FREE, EXEC_DO_ANSWER_FAILED},
			   {EXEC_ABORTED, EXEC_DO_KILL | EXEC_DO_ANSWER_FAILED | EXEC_DO_DISARM},
			   {EXEC_ABORTED, EXEC_DO_KILL | EXEC_DO_ANSWER_TIMEOUT},
			   NEVER,
			   {EXEC_SPAWNING, EXEC_DO_REFUSE},
			   {EXEC_SPAWNING, 0}},
	[EXEC_ABORTED] = {{EXEC_ABORTED, 0},
			  {EXEC_ABORTED, 0},
			  {EXEC_FREE, 0},
			  {EXEC_ABORTED, 0},
			  NEVER,
			  NEVER,
			  {EXEC_ABORTED, EXEC_DO_REFUSE},
			  {EXEC_ABORTED, 0}},
	[EXEC_RUNNING] = {NEVER,
			  NEVER,
			  {EXEC_EXITED, EXEC_DO_RECORD | EXEC_DO_DISARM},
			  {EXEC_KILLED, EXEC_DO_KILL | EXEC_DO_DISARM},
			  {EXEC_STOPPING, EXEC_DO_TERM | EXEC_DO_ARM_GRACE},
			  NEVER,
			  {EXEC_RUNNING, EXEC_DO_REFUSE},
			  {EXEC_RUNNING, 0}},
	[EXEC_STOPPING] = {NEVER,
			   NEVER,
			   {EXEC_EXITED, EXEC_DO_RECORD},
			   {EXEC_KILLED, EXEC_DO_KILL | EXEC_DO_DISARM},
			   NEVER,
			   {EXEC_KILLED, EXEC_DO_KILL},
			   {EXEC_STOPPING, EXEC_DO_REFUSE},
			   {EXEC_STOPPING, 0}},
	[EXEC_KILLED] = {NEVER,
			 NEVER,
			 {EXEC_EXITED, EXEC_DO_RECORD},
			 {EXEC_KILLED, EXEC_DO_KILL},
			 NEVER,
			 NEVER,
			 {EXEC_KILLED, EXEC_DO_REFUSE},
			 {EXEC_KILLED, 0}},
	[EXEC_EXITED] = {NEVER,
			 NEVER,
			 NEVER,
			 {EXEC_EXITED, EXEC_DO_KILL},
			 NEVER,
			 {EXEC_EXITED, EXEC_DO_KILL},
			 {EXEC_ACKED, 0},
			 {EXEC_EXITED, 0}},
	[EXEC_ACKED] = {NEVER,
			NEVER,
			NEVER,
			{EXEC_ACKED, EXEC_DO_KILL},
			NEVER,
			{EXEC_ACKED, EXEC_DO_KILL},
			{EXEC_ACKED, 0},
			FREE_IF_DRAINED},
};

static void every_state_with_every_event(void **state)
{
	(void)state;
	for (int s = 0; s < EXEC_STATES; s++)
		for (int e = 0; e < EXEC_EVENTS; e++) {
			struct exec_transition t = exec_state_step((enum exec_state)s, (enum exec_event)e);
			int next = expected[s][e].next < 0 ? s : expected[s][e].next;
			if (t.next != (enum exec_state)next || t.actions != expected[s][e].actions)
				fail_msg("%s, event %d: to %s with 0x%x", exec_state_name((enum exec_state)s),
					 e, exec_state_name(t.next), t.actions);
		}
}

/* Whatever comes in whatever order: a row that was started is answered once and leaves one way only. */
static void random_lives_are_answered_once(void **state)
{
	(void)state;
	srand(1);
	for (int life = 0; life < 20000; life++) {
		enum exec_state s = EXEC_SPAWNING;
		int answers = 0, records = 0, tombstones = 0;
		for (int i = 0; i < 40 && s != EXEC_FREE; i++) {
			struct exec_transition t =
				exec_state_step(s, (enum exec_event)(rand() % EXEC_EVENTS));
			answers += (t.actions &
				    (EXEC_DO_ANSWER | EXEC_DO_ANSWER_FAILED | EXEC_DO_ANSWER_TIMEOUT)) != 0;
			records += (t.actions & EXEC_DO_RECORD) != 0;
			tombstones += (t.actions & EXEC_DO_TOMBSTONE) != 0;
			if (t.actions & EXEC_DO_LOG)
				assert_int_equal(t.next, s);
			s = t.next;
		}
		assert_true(answers <= 1 && records <= 1 && tombstones <= records);
		if (s == EXEC_FREE)
			assert_int_equal(answers, 1);
		if (s == EXEC_EXITED || s == EXEC_ACKED)
			assert_int_equal(records, 1);
	}
}

static void fresh_memory_is_free_rows(void **state)
{
	(void)state;
	assert_int_equal(EXEC_FREE, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_state_with_every_event),
		cmocka_unit_test(random_lives_are_answered_once),
		cmocka_unit_test(fresh_memory_is_free_rows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
