"""`[task.sandbox]`: isolation and resource limits of programs that a model wrote."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from unmask.configs.address import valid_address
from unmask.configs.section import Section

Isolation = Literal["best", "namespaces", "process"]
# Keys without effect if `url` is given: the service decides.
LOCAL = ("isolation", "python", "file_mb", "processes")


class SandboxConfig(Section):
    """The sandbox of model-written programs; every limit applies to one test of one program."""

    isolation: Isolation = "best"
    """Isolation of programs: `namespaces` (no network, no files except Python's, no other processes),
    `process` (the kernel's limits and filters only, listed in docs/sandbox.md), or `best`: `namespaces` by
    the best backend of this machine, which `unmask doctor` names."""
    url: Annotated[str, valid_address("url", "http://host:port")] | None = None
    """Address of a service that runs the programs instead of this machine, with the interface of
    SandboxFusion (`POST url/run_code`): for machines on which programs cannot be isolated. The service
    receives every program and its tests' arguments."""
    python: Path | None = None
    """Interpreter of the programs; the current one if not given."""
    workers: int = Field(default=2, ge=1, le=1024)
    """Tests that run at the same time."""
    cpu_s: int = Field(default=6, ge=1, le=86_400)
    """Seconds of CPU time of a test, summed over all processes of its program. The effective time limit: a
    busy machine does not fail correct programs."""
    wall_s: float = Field(default=60.0, gt=0, le=86_400)
    """Seconds of elapsed time of a test; ends programs that sleep."""
    memory_mb: int = Field(default=1024, ge=64)
    """MiB of address space per process of a program; docs/sandbox.md lists the memory this leaves out."""
    file_mb: int = Field(default=64, ge=1)
    """Maximum MiB of a file, the standard input included, and under `namespaces` of all temporary files
    together."""
    output_mb: int = Field(default=16, ge=1)
    """Maximum MiB that a program prints, and of a result."""
    processes: int = Field(default=8, ge=1)
    """Maximum number of processes and threads of a program at the same time, itself included."""
    credit: Literal["all", "share"] = "all"
    """Credit for passing some of the tests: none (`all`; tests after a failed first one are not run), or
    their share (`share`)."""
    float_tolerance: float = Field(default=1e-6, ge=0, lt=1)
    """Absolute or relative tolerance between a printed number and the expected one, where both have a
    decimal point or an exponent; 0 compares them exactly."""

    @model_validator(mode="after")
    def _service_decides(self) -> "SandboxConfig":
        for name in LOCAL if self.url is not None else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} = {getattr(self, name)} has no effect with url = {self.url}: the service "
                    f"decides it; leave {name} out"
                )
        return self
