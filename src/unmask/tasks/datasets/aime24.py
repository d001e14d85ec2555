"""AIME 2024 I and II: 30 problems whose answers are whole numbers from 0 to 999."""

from unmask.tasks.dataset import Dataset, Source, problem_and_answer

# The hub calls its only split "train"; it is the test split here.
SOURCE = Source("aime24", "train")
DATASET = Dataset("HuggingFaceH4/aime_2024", {"test": SOURCE}, problem_and_answer)
