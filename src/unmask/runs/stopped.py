"""How a run that a signal ended says so."""

import signal


class Stopped(BaseException):
    """A signal ended the run, and the state of its last complete step is kept.

    No `Exception`, as KeyboardInterrupt is none: a signal comes in the middle of anything, a user's
    own reward included, and `except Exception` there must not hold it up.

    Attributes:
        signal_number: which signal.
        step: the step whose state is kept; 0 if there is none yet.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        """Remember which signal it was, and when."""
        name = signal.Signals(signal_number).name
        kept = f"the state of step {step} is kept" if step else "no step is kept yet"
        super().__init__(f"stopped by {name}; {kept}")
        self.signal_number = signal_number
        self.step = step
