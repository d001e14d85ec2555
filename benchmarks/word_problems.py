"""Word problems with small numbers in the record format of GSM8K: the task of `real_model.py`."""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

NAMES = ("Ann", "Tom", "Mia", "Sam", "Lea", "Max", "Eva", "Ben")
THINGS = ("apples", "books", "coins", "cards", "pens", "eggs", "stamps", "shells")
GAINS = ("buys {} more", "finds {} more", "gets {} more", "is given {} more")
LOSSES = ("loses {}", "sells {}", "gives away {}", "drops {}")


def problems(seed: int, largest: int = 40) -> Iterator[dict[str, str]]:
    """Yield random problems with numbers up to `largest` without end, each once, as records of GSM8K."""
    random, seen = Random(seed), set[str]()
    while True:
        name, things, first = (
            random.choice(NAMES),
            random.choice(THINGS),
            random.randint(2, largest),
        )
        is_gain = random.random() < 0.5
        count = random.randint(2, largest if is_gain else first)
        event = random.choice(GAINS if is_gain else LOSSES).format(count)
        question = f"{name} has {first} {things} and {event}. How many are left?"
        if question not in seen:
            seen.add(question)
            left = first + count if is_gain else first - count
            step = f"{first}{'+' if is_gain else '-'}{count}={left}"
            yield {"question": question, "answer": f"{step}\n#### {left}"}


def write_problems(
    directory: Path, seed: int, num_train: int, num_test: int, largest: int = 40
) -> None:
    """Write the files that the data set `gsm8k` reads; no question is in both."""
    stream = problems(seed, largest)
    for split, count in (("train", num_train), ("test", num_test)):
        lines = (f"{json.dumps(next(stream))}\n" for _ in range(count))
        (directory / f"gsm8k-{split}.jsonl").write_text("".join(lines))
