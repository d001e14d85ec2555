"""Uploads an export to the Hugging Face Hub, by `huggingface_hub` and with its token, address and defaults.

The token is asked for before anything is written or uploaded. A repository that exists is updated: files of the
same names are replaced; weights and adapters of an earlier upload that are not part of this one are removed. (With
an `adapter_config.json` left there, transformers would take a whole model for adapters.)
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from unmask.checkpoints.lora_files import CONFIG as ADAPTER_CONFIG

REPLACED = ["*.safetensors", "*.safetensors.index.json", ADAPTER_CONFIG]


def check_account(repo: str) -> None:
    """Refuse an upload that cannot succeed: the name of a repository, no token, no network.

    Raises:
        ValueError: with the reason and how to log in.
    """
    from huggingface_hub import HfApi

    if repo.count("/") != 1:
        raise ValueError(f"--push {repo}: must be USER/NAME or ORGANISATION/NAME")
    with _one_sentence(repo):
        HfApi().whoami()


def push(directory: Path, repo: str, is_private: bool | None = None) -> str:
    """Upload the files of an export and return the address of their commit.

    Args:
        directory: the export.
        repo: `USER/NAME`; created if it does not exist.
        is_private: of a repository that is created; by default as its owner has set, which is public for users.

    Raises:
        ValueError: with the reason.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with _one_sentence(repo, f". {directory} is complete: `hf upload {repo} {directory} .`"):
        api.create_repo(repo, private=is_private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo,
            folder_path=directory,
            commit_message="Export by unmask",
            delete_patterns=REPLACED,
        )
    return done.commit_url


@contextmanager
def _one_sentence(repo: str, more: str = "") -> Generator[None, None, None]:
    try:
        yield
    except Exception as error:  # of HTTP clients, of files and of the storage's own client
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"--push {repo}: the Hub refused or was not reached: {reason}; `hf auth login` or HF_TOKEN gives a "
            f"token{more}"
        ) from error
