"""Programs a model wrote, judged by their tests.

A trusted worker process runs the test, a sandbox holds the program (`rewards.code_tests`,
`rewards.sandbox`). Each test has a sandbox of its own: a program that dies in one test is new in the
next one, and nothing one test leaves behind is found by another.

Of every test there is an outcome: passed, wrong, timeout or crash. Where it cannot be known (a
sandbox that does not start, a test that is no Python) `judge` raises, because a zero would be
trained on.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from unmask.configs.sandbox import SandboxConfig
from unmask.rewards.code_tests import FACTORY, CodeTest, Outcome, record_from_test
from unmask.rewards.sandbox import START_LIMIT_S, limits_from_config, remove_folder
from unmask.rewards.sandbox_level import choose_means
from unmask.rewards.workers import Verdict, VerifierPool
from unmask.types import Score

# Seconds of processor time for the test's own side of a test: building cases and comparing results.
TEST_CPU_S = 30.0


@dataclass(frozen=True, slots=True)
class CodeVerdict:
    """What became of a program.

    Attributes:
        outcomes: of the tests that were run, in their order.
        num_tests: of all tests; the others were not run, because one had failed already.
    """

    outcomes: tuple[Outcome, ...]
    num_tests: int

    @property
    def share(self) -> float:
        """Share of the tests that were passed."""
        return self.outcomes.count("passed") / self.num_tests


def score_from_code_verdict(verdict: CodeVerdict, credit: Literal["all", "share"]) -> Score:
    """Turn a verdict into a reward, with its parts for the log."""
    reward = float(verdict.share == 1.0) if credit == "all" else verdict.share
    parts = {
        "graded": verdict.share,
        "code_timeout": float("timeout" in verdict.outcomes),
        "code_crash": float("crash" in verdict.outcomes),
    }
    return Score(reward, parts)


class CodeGrader:
    """Worker processes that test programs, started at the first call and kept until `close`."""

    def __init__(self, config: SandboxConfig) -> None:
        """Choose the walls; no process is left running.

        Raises:
            ValueError: this machine cannot lock programs in as the config requires.
        """
        self._stops_early = config.credit == "all"
        self._scratch = TemporaryDirectory(prefix="unmask-sandbox-", ignore_cleanup_errors=True)
        Path(self._scratch.name).chmod(0o711)  # a program's user passes through, and sees nothing
        args = {
            "means": choose_means(config.isolation, config.python),
            "limits": asdict(limits_from_config(config)),
            "python": None if config.python is None else str(config.python),
            "scratch": self._scratch.name,
        }
        self._pool = VerifierPool(
            FACTORY,
            args,
            config.workers,
            time_limit_s=TEST_CPU_S,
            wall_limit_s=START_LIMIT_S + config.wall_s + 4 * TEST_CPU_S,
            is_walled=False,  # it builds walls, which cannot be done behind one
        )

    def close(self) -> None:
        """End the workers and remove their files; a later `judge` starts new ones."""
        self._pool.close()
        # A worker that was killed could not tidy up after the program it held.
        for folder in Path(self._scratch.name).iterdir():
            remove_folder(folder)

    def judge(self, items: Sequence[tuple[str, Sequence[CodeTest]]]) -> list[CodeVerdict]:
        """Judge programs, each by its tests; the verdicts come in the order of the items.

        Raises:
            ValueError: a program without tests.
            RuntimeError: a test or the sandbox itself cannot run.
        """
        for program, tests in items:
            if not tests:
                raise ValueError(f"a program without tests cannot be judged: {program[:200]!r}")
        outcomes: list[list[Outcome]] = [[] for _ in items]
        first, others = slice(0, 1), slice(1, None)
        for some in (first, others) if self._stops_early else (slice(None),):
            self._run(items, some, outcomes)
        return [
            CodeVerdict(tuple(found), len(tests))
            for found, (_, tests) in zip(outcomes, items, strict=True)
        ]

    def _run(
        self,
        items: Sequence[tuple[str, Sequence[CodeTest]]],
        some: slice,
        outcomes: list[list[Outcome]],
    ) -> None:
        """Run some tests of every program that has failed none, or of all where a share earns something."""
        questions = [
            (found, {"program": program, "test": record_from_test(test)})
            for found, (program, tests) in zip(outcomes, items, strict=True)
            if not self._stops_early or set(found) <= {"passed"}
            for test in tests[some]
        ]
        verdicts = self._pool.judge([question for _, question in questions])
        for (found, _), verdict in zip(questions, verdicts, strict=True):
            found.append(_outcome(verdict))


def _outcome(verdict: Verdict) -> Outcome:
    return verdict.error or ("passed" if verdict.score == 1.0 else "wrong")
