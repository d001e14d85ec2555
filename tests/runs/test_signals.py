"""The error of a run that a signal ended names the signal and the kept step."""

import signal

from unmask.runs.signals import Stopped, on_signal


def test_it_names_the_signal_and_the_step_that_is_kept() -> None:
    stopped = Stopped(signal.SIGTERM, 7)
    assert str(stopped) == "stopped by SIGTERM; the state of step 7 is kept"
    assert (stopped.signal_number, stopped.step) == (15, 7)


def test_the_message_names_no_step_when_none_is_kept() -> None:
    assert str(Stopped(signal.SIGINT, 0)) == "stopped by SIGINT; no step is kept yet"


def test_it_is_not_caught_with_ordinary_errors() -> None:
    assert not issubclass(Stopped, Exception)


def test_handlers_are_restored_after_the_block() -> None:
    before = signal.getsignal(signal.SIGTERM)
    received: list[int] = []
    with on_signal(lambda number, _: received.append(number)):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert received == [signal.SIGTERM, signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) is before
