"""What every test process does first: one torch thread, no network, repeatable hypothesis."""

import gc
import os

# Read once, when the libraries are imported: another number of threads gives other last bits.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

import hypothesis
import torch

from tests.forked_python import spare_time

# Modules and tests stay to the end: the collector of garbage would walk through them again and again.
gc.disable()
torch.set_num_threads(1)
# A shared two-core machine misses per-example deadlines, and a draw that fails once must fail again: a suite that is
# run twice draws the same examples.
hypothesis.settings.register_profile("unmask", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("unmask")


def pytest_collection_finish() -> None:
    """Begin the tests, with the collector of garbage on again."""
    spare_time()
    gc.enable()
