"""Signals that stop a run: their handlers, and the exception that ends a training run."""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal ended the run, and the state of its last complete step is kept.

    Not an `Exception`, like KeyboardInterrupt: a signal arrives at any point, a user's reward function
    included, and `except Exception` there must not catch it.

    Attributes:
        signal_number: the signal.
        step: the step whose state is kept; 0 if there is none yet.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        """Store the signal and the kept step."""
        name = signal.Signals(signal_number).name
        kept = f"the state of step {step} is kept" if step else "no step is kept yet"
        super().__init__(f"stopped by {name}; {kept}")
        self.signal_number = signal_number
        self.step = step


@contextmanager
def on_signal(handler: Callable[[int, FrameType | None], None]) -> Generator[None, None, None]:
    """Handle SIGINT and SIGTERM inside the `with`; restore the previous handlers after it.

    Python accepts handlers in the main thread only; in another thread the signals are not handled.
    """
    is_main = threading.current_thread() is threading.main_thread()
    # SIGINT explicitly: a shell makes its background jobs ignore it.
    before = {number: signal.signal(number, handler) for number in STOPPING if is_main}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
