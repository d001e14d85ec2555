"""AIME 2025 I and II: 30 problems whose answers are whole numbers from 0 to 999."""

from unmask.tasks.dataset import Dataset, Source, problem_and_answer

DATASET = Dataset("math-ai/aime25", {"test": Source("aime25", "test")}, problem_and_answer)
