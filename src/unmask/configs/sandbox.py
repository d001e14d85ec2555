"""`sandbox`: how programs that a model wrote are locked in, and what they may use up."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from unmask.configs.address import check_address
from unmask.configs.section import Section

Isolation = Literal["best", "namespaces", "process"]
# What the service decides, with `url`.
LOCAL = ("isolation", "python", "file_mb", "processes")


class SandboxConfig(Section):
    """The sandbox of model-written programs; every limit holds for one test of one program."""

    isolation: Isolation = "best"
    """How programs are locked in: `namespaces` (no network, no files but Python's, no other processes),
    `process` (limits and rules of the kernel only, which docs/sandbox.md lists), or `best`, which is
    `namespaces` by the best means of this machine (`unmask doctor` names it)."""
    url: str | None = None
    """Address of a service that runs the programs instead of this machine, asked as SandboxFusion is
    (`POST url/run_code`): for machines on which programs cannot be locked in. It sees every program and
    its tests' arguments."""
    python: Path | None = None
    """Interpreter that runs the programs; the one that runs this when not given."""
    workers: int = Field(default=2, ge=1, le=1024)
    """Tests that run at the same time."""
    cpu_s: int = Field(default=6, ge=1, le=86_400)
    """Seconds of processor time a test may take, all processes of its program together; it decides, so
    that a busy machine fails no right program."""
    wall_s: float = Field(default=60.0, gt=0, le=86_400)
    """Seconds a test may take by the clock; it ends programs that sleep."""
    memory_mb: int = Field(default=1024, ge=64)
    """MiB of address space of each process of a program; docs/sandbox.md lists what else it can hold."""
    file_mb: int = Field(default=64, ge=1)
    """MiB a file may grow to, the standard input included, and of all temporary files together under
    `namespaces`."""
    output_mb: int = Field(default=16, ge=1)
    """MiB a program may print, and a result may take."""
    processes: int = Field(default=8, ge=1)
    """Processes and threads a program may have at the same time, itself included."""
    credit: Literal["all", "share"] = "all"
    """What passing some tests earns: `all` nothing (and the tests after a failed first one are not run),
    `share` their share."""
    float_tolerance: float = Field(default=1e-6, ge=0, lt=1)
    """How far a printed number may lie from the expected one, absolutely or relative to it, where both
    are written with a decimal point or an exponent; 0 compares them exactly."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None:
            check_address("url", value, "http://host:port")
        return value

    @model_validator(mode="after")
    def _service_decides(self) -> "SandboxConfig":
        for name in LOCAL if self.url is not None else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} = {getattr(self, name)} has no effect with url = {self.url}: the service "
                    f"decides it; leave {name} out"
                )
        return self
