"""A chosen part of tests/agent once more, where it counts: against PID 1 of a real box, through a real vsock."""

import pytest

from test_bulk import (  # noqa: F401
    test_it_outlives_the_main_connection, test_malformed_ends_that_connection_only, test_operations_in_a_row_and_ahead)
from test_exec import (  # noqa: F401
    test_a_start_that_fails_names_stage_and_errno, test_background_child_neither_delays_nor_loses,
    test_children_get_clean_signals, test_cwd, test_death_by_signal_is_not_a_code,
    test_exit_codes, test_grace_catches_children_of_a_leader_that_obeyed, test_kill_to_all_takes_the_children,
    test_signals, test_stdin_stays_open_until_eof, test_ten_megabytes_through_stdin, test_timeout_is_term_first,
    test_timeout_kills_after_the_grace)
from test_link import test_frames_that_crossed_are_ignored, test_malformed_frames_end_that_connection_only  # noqa: F401
from test_races import (  # noqa: F401
    test_a_detach_and_an_exit, test_a_timeout_and_an_exit, test_an_acknowledgement_and_the_last_byte,
    test_stdin_and_the_end_of_its_reader)
from test_resume import (  # noqa: F401
    test_a_lost_connection_kills_nothing, test_ack_leaves_a_tombstone, test_credit_is_honoured_to_the_byte,
    test_drop_oldest_never_blocks_and_tells, test_exit_while_nobody_is_there)


class InVm:
    """What those tests know as an agent."""

    def __init__(self, vm):
        self.vm = vm
        self.dial = vm.connect
        self.bulk = vm.bulk

    def raw(self):
        import wire

        return wire.Conn(self.vm.dial(self.vm.port), hello=False)

    def alive(self):
        return self.vm.process.poll() is None


@pytest.fixture
def agent(agent_vm):
    return InVm(agent_vm)
