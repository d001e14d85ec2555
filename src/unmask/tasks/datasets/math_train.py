"""The 12,000 problems of MATH that are not in MATH-500, to train on; tested on MATH-500 (arXiv 2103.03874)."""

from unmask.tasks.dataset import Dataset, Source, problem_and_answer
from unmask.tasks.datasets import math500

DATASET = Dataset(
    hub="nlile/hendrycks-MATH-benchmark",
    sources={"train": Source("math-train", "train"), "test": math500.SOURCE},
    problem=problem_and_answer,
)
