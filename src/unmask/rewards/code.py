"""Grades programs that a model wrote by their tests.

A trusted worker process runs the test, and a sandbox runs the program (`rewards.code_tests`,
`sandbox.process`). Each test gets a new sandbox, so the tests of a program cannot affect each other.

The outcome of a test is passed, wrong, timeout or crash; or unfit, if the test itself cannot run. An
unfit test is counted separately, because it does not depend on the program; `find_unfit` finds such
tests before any program is graded. A sandbox that does not start raises an error: a zero would be
trained on.
"""

import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from unmask.configs.sandbox import SandboxConfig
from unmask.rewards.code_tests import (
    FACTORY,
    CodeTest,
    Outcome,
    SourceTest,
    StdioTest,
    may_hand_over,
    record_from_test,
)
from unmask.sandbox.guest.supervisor import forbid_inspection
from unmask.sandbox.isolation import choose_backend, describe_isolation
from unmask.sandbox.limits import UnfitTestError, check_stdin, limits_from_config
from unmask.sandbox.process import START_LIMIT_S
from unmask.sandbox.user import remove
from unmask.sandbox.verifier_pool import Verdict, VerifierPool
from unmask.types import Score

# Processor time in seconds for the test's own part: building cases and comparing results, which a
# hostile result can make slow.
TEST_CPU_S = 10.0
CLEAN_LIMIT_S = 60.0
# Seconds by the clock for one test by a service: each call may wait in its queue and be repeated.
REMOTE_TEST_S = 3600.0


@dataclass(frozen=True, slots=True)
class CodeVerdict:
    """The grading result of a program.

    Attributes:
        outcomes: of the tests that were run, in their order.
        num_tests: number of all tests; after a failure the others may have been skipped.
        unfit: why a test could not run, whatever the program; empty if all could.
    """

    outcomes: tuple[Outcome, ...]
    num_tests: int
    unfit: str = ""

    @property
    def share(self) -> float:
        """The share of the tests that passed."""
        return self.outcomes.count("passed") / self.num_tests


def score_from_code_verdict(verdict: CodeVerdict, credit: Literal["all", "share"]) -> Score:
    """Return the reward of a verdict, with its parts for the log."""
    reward = float(verdict.share == 1.0) if credit == "all" else verdict.share
    parts = {
        "graded": verdict.share,
        "code_timeout": float("timeout" in verdict.outcomes),
        "code_crash": float("crash" in verdict.outcomes),
    }
    # A response with this part is counted separately, and its group is not trained on.
    return Score(0.0, parts | {"unfit": 1.0}) if verdict.unfit else Score(reward, parts)


class CodeGrader:
    """Worker processes that test programs, started by the first call and kept until `close`.

    Attributes:
        isolation: how programs are isolated, for the record of a run.
    """

    def __init__(self, config: SandboxConfig) -> None:
        """Choose the isolation backend; no process keeps running.

        Raises:
            ValueError: this machine cannot isolate programs as the config requires.
        """
        backend = None if config.url else choose_backend(config.isolation, config.python)
        if backend == "limits":
            # A program of the same user must neither read the tests in this memory nor write to a worker.
            forbid_inspection()
        service = f"by the service at {config.url}"
        self.isolation = service if backend is None else describe_isolation(backend)
        self._stops_early = config.credit == "all"
        self._scratch = TemporaryDirectory(prefix="unmask-sandbox-", ignore_cleanup_errors=True)
        Path(self._scratch.name).chmod(0o711)  # programs may enter folders below, but not list them
        self._limits = limits_from_config(config)
        args = {
            "backend": backend,
            "limits": asdict(self._limits),
            "python": None if config.python is None else str(config.python),
            "scratch": self._scratch.name,
            "float_tolerance": config.float_tolerance,
            "url": config.url,
        }
        local_limit_s = START_LIMIT_S + config.wall_s + 4 * TEST_CPU_S
        self._pool = VerifierPool(
            FACTORY,
            args,
            config.workers,
            time_limit_s=TEST_CPU_S,
            wall_limit_s=REMOTE_TEST_S if config.url else local_limit_s,
            is_isolated=False,  # an isolated process cannot isolate others
        )

    def close(self) -> None:
        """End the workers and remove their files; a later `grade` starts new ones."""
        self._pool.close()
        # A worker that was killed has not removed the files of its program.
        deadline = time.monotonic() + CLEAN_LIMIT_S
        for folder in Path(self._scratch.name).iterdir():
            if not remove(folder, deadline):
                warnings.warn(
                    f"{folder} could not be removed in {CLEAN_LIMIT_S:g} s: remove it yourself",
                    stacklevel=2,
                )

    def find_unfit(self, problems: Sequence[tuple[str | None, Sequence[CodeTest]]]) -> list[str]:
        """Return for each problem why its tests cannot run; an empty string if they can.

        Args:
            problems: the published solution, if there is one, and the tests. The solution is run only
                if a test may pass the program more than literals, because nothing else shows whether
                such a test works.
        """
        found = [self._too_large(tests) for _, tests in problems]
        placed = [(place, test) for place, (_, tests) in enumerate(problems) for test in tests]
        sources = [(place, test) for place, test in placed if isinstance(test, SourceTest)]
        questions = [{"program": None, "test": record_from_test(test)} for _, test in sources]
        for (place, _), verdict in zip(sources, self._pool.grade(questions), strict=True):
            if verdict.error:
                found[place] = verdict.reason or f"a test's setup ends in a {verdict.error}"
        unsure = {place for place, test in sources if not found[place] and may_hand_over(test)}
        solved = {
            place: (program, tests)
            for place, (program, tests) in enumerate(problems)
            if place in unsure and program is not None
        }
        for place, verdict in zip(solved, self.grade([*solved.values()]), strict=True):
            if verdict.share < 1:
                found[place] = verdict.unfit or "a test fails the published solution"
        return found

    def _too_large(self, tests: Sequence[CodeTest]) -> str:
        try:
            for test in tests:
                if isinstance(test, StdioTest):
                    check_stdin(test.stdin, self._limits)
        except UnfitTestError as error:
            return str(error)
        return ""

    def grade(self, items: Sequence[tuple[str, Sequence[CodeTest]]]) -> list[CodeVerdict]:
        """Grade programs, each by its tests, and return the verdicts in the order of the items.

        Raises:
            ValueError: a program without tests.
            RuntimeError: the sandbox itself cannot run.
        """
        for program, tests in items:
            if not tests:
                raise ValueError(f"a program without tests cannot be graded: {program[:200]!r}")
        verdicts: list[list[Verdict]] = [[] for _ in items]
        for some in (slice(1), slice(1, None)) if self._stops_early else (slice(None),):
            self._run(items, some, verdicts)
        graded = zip(verdicts, items, strict=True)
        return [_code_verdict(found, len(tests)) for found, (_, tests) in graded]

    def _run(
        self,
        items: Sequence[tuple[str, Sequence[CodeTest]]],
        some: slice,
        verdicts: list[list[Verdict]],
    ) -> None:
        """Run some tests of each program; with credit "all" only of programs that have failed none."""
        questions = [
            (found, {"program": program, "test": record_from_test(test)})
            for found, (program, tests) in zip(verdicts, items, strict=True)
            if not self._stops_early or all(verdict.score == 1.0 for verdict in found)
            for test in tests[some]
        ]
        graded = self._pool.grade([question for _, question in questions])
        for (found, _), verdict in zip(questions, graded, strict=True):
            found.append(verdict)


def _code_verdict(found: Sequence[Verdict], num_tests: int) -> CodeVerdict:
    outcomes: list[Outcome] = [v.error or ("passed" if v.score == 1.0 else "wrong") for v in found]
    unfit = next((verdict.reason for verdict in found if verdict.error == "unfit"), "")
    return CodeVerdict(tuple(outcomes), num_tests, unfit)
