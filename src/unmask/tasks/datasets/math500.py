"""MATH-500: 500 test problems of MATH (arXiv 2103.03874), chosen by Lightman et al. (arXiv 2305.20050)."""

from unmask.tasks.dataset import Dataset, Source, problem_and_answer

SOURCE = Source("math500", "test")

DATASET = Dataset("HuggingFaceH4/MATH-500", {"test": SOURCE}, problem_and_answer)
