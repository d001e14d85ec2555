"""`[run]`: the run directory, the seed, and what is logged."""

from pathlib import Path

from pydantic import Field

from unmask.configs.section import Section


class RunConfig(Section):
    """The run directory, the seed, and what is logged."""

    dir: Path = Path("runs/latest")
    """Run directory; it must be empty or absent."""
    seed: int = Field(default=0, ge=0)
    """Seed from which every random draw of the run is derived."""
    threads: int = Field(default=1, ge=1, le=512)
    """CPU threads of torch; recorded, because another number changes the last bits of results."""
    keep_last: int = Field(default=2, ge=1)
    """Checkpoints kept for `--resume`; older ones are deleted."""
    trajectories: int = Field(default=8, ge=0)
    """Trajectories written to `trajectories.jsonl` per step; 0 writes none."""
    tensorboard: bool = False
    """Also write the metrics for TensorBoard, to `tensorboard/` in the run directory; needs the
    extra `tensorboard`."""
    wandb: str | None = None
    """Also send the metrics to this Weights & Biases project; needs the extra `wandb`, and sends
    nothing when WANDB_MODE=offline."""
    trackio: str | None = None
    """Also log the metrics to this project of trackio, in files of this machine (`trackio show`) unless
    TRACKIO_SPACE_ID or TRACKIO_SERVER_URL name another place; needs the extra `trackio`."""
    swanlab: str | None = None
    """Also send the metrics to this project of SwanLab; needs the extra `swanlab`, and sends nothing when
    SWANLAB_MODE=offline."""
    mlflow: str | None = None
    """Also send the metrics to this experiment of the MLflow server that MLFLOW_TRACKING_URI names; needs the
    extra `mlflow`."""
