"""Twenty questions that any instructed model should answer, and a check of its response.

They are not a benchmark: a model that gets some wrong is weak, one that gets all of them wrong is
loaded or prompted wrongly (template, mask id, shifted rows), which is what `unmask verify` shows them
for. They are sums, facts and single lines of code, so that a broken part of the vocabulary shows too. No
answer occurs in its own question, so a model that repeats its prompt answers none.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the text that a right response contains."""

    text: str
    answer: str

    def is_answered(self, response: str) -> bool:
        """Return whether the answer occurs in a response, as whole words and in any case.

        Thousands may be separated (`1,024`) and code may be spaced (`xs [ 0 ]`).
        """
        if re.fullmatch(r"[\w .]+", self.answer):
            text = re.sub(r"(?<=\d),(?=\d{3})", "", response)
            words = r"\s+".join(map(re.escape, self.answer.split()))
            return bool(re.search(rf"(?<![\w.]){words}(?!\w|\.\d)", text, re.IGNORECASE))
        return _unspaced(self.answer) in _unspaced(response)


def _unspaced(text: str) -> str:
    return re.sub(r"\s+", "", text).replace("'", '"').casefold()


QUESTIONS = (
    Question("What is 7 + 5? Reply with the number only.", "12"),
    Question("What is 9 * 6? Reply with the number only.", "54"),
    Question("What is 100 - 37? Reply with the number only.", "63"),
    Question("What is 144 divided by 12, plus 3? Reply with the number only.", "15"),
    Question("Tom has 3 bags with 4 apples each and eats 2. How many apples are left?", "10"),
    Question("A pencil costs 15 cents. How many cents do 6 pencils cost?", "90"),
    Question("How many minutes are there in 3 hours?", "180"),
    Question("Which number comes next: 2, 4, 8, 16?", "32"),
    Question("What is the capital of France? Reply with one word.", "Paris"),
    Question("What is the capital of Japan? Reply with one word.", "Tokyo"),
    Question("Which planet do people live on? Reply with one word.", "Earth"),
    Question("How many days does a week have? Reply with a digit.", "7"),
    Question("What do bees make from nectar? Reply with one word.", "honey"),
    Question("What is the chemical formula of water?", "H2O"),
    Question("What is the opposite of hot? Reply with one word.", "cold"),
    Question("In which month is Christmas Day? Reply with one word.", "December"),
    Question("Write one line of Python that prints hello.", 'print("hello")'),
    Question("Write a Python expression for the sum of all numbers of the list xs.", "sum(xs)"),
    Question("Write a Python expression for the number of items of the list xs.", "len(xs)"),
    Question("Write a Python expression for the first item of the list xs.", "xs[0]"),
)
