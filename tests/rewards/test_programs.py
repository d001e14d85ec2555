"""The program in a response: opening and closing fences, and the choice among several blocks."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.rewards.programs import defines, program_from_response

F = "def f(x):\n    return x\n"
DOC = 'def f(x):\n    """Return it.\n\n    ```python\n    f(1)\n    ```\n    """\n    return x\n'
FLUSH = '"""\n```python\nf(1)\n```\n"""\n' + F
NARROW = "def f(x):\n  '''\n  ```\n  f(1)\n  ```\n  '''\n  return x\n"
REMARKS = "# ```\n# f(1)\n# ```\nn = 1  # not ```x```\n" + F


@pytest.mark.parametrize("program", [F, DOC, FLUSH, NARROW, REMARKS, 's = "```"\n' + F])
@pytest.mark.parametrize("fence", ["```", "````", "~~~", "~~~~~"])
@pytest.mark.parametrize("info", ["python", "py", "Python3 title=a.py", " python", "{.python}", ""])
def test_a_block_ends_by_the_rules_of_markdown_and_python(program: str, fence: str, info: str):
    response = f"Here it is:\n\n{fence}{info}\n{program}{fence}\n\nIt's done.\n"
    assert program_from_response(response, ["f"]) == program
    assert program_from_response(response.replace("\n", "\r\n"), ["f"]).split() == program.split()


@pytest.mark.parametrize(
    ("response", "program"),
    [
        ("```python\nx = 1```", "x = 1"),
        ("```python\nx = 1``` It's set.\nMore.", "x = 1"),
        ("```python\nx = 1  # one```\nMore.", "x = 1  # one"),
        ("~~~python\nx = 1~~~\nMore.", "x = 1"),
        ("```python\nx = 1\n``` That's it.", "x = 1\n"),
        ("```python\nx = 1\n```<|im_end|>", "x = 1\n"),
        ("```python\nx = 1\n<|im_end|>", "x = 1\n"),
        ("```python\nx = 1<|im_end|>\n<|endoftext|>\n", "x = 1"),
        ("```python\nx = 1", "x = 1"),
        ("````python\nx = 1\n```\n", "x = 1\n```\n"),
        ("```python\nx = 1\n`````\nMore.", "x = 1\n"),
        ("~~~python\nx = 1\n```\n~~~\nMore.", "x = 1\n```\n"),
        ("```python\nx = 1\n  ```\nMore.", "x = 1\n"),
        ("Answer: ```python\nx = 1\n```", "x = 1\n"),
        ("<answer>```py\nx = 1\n```</answer>", "x = 1\n"),
        ("```python\nx = 1\n\n```python\nx = 2\n```", "x = 2\n"),
        ("1. So:\n  ```python\n  if x:\n    x = 1\ny = 2\n  ```", "if x:\n  x = 1\ny = 2\n"),
        ("- So:\n\n    ```python\n    if x:\n        x = 1\n    ```\n", "if x:\n    x = 1\n"),
        ("    return 1\n", "    return 1\n"),
        ("    return 1\n```\n\nThis returns one.", "    return 1\n"),
        ("def f():\n    return 1\n```", "def f():\n    return 1\n"),
        (" Here:\n```\nx = 1\n```", "x = 1\n"),
        ("# Doubled.\nx = 1\n```\n\nThis is one.", "# Doubled.\nx = 1\n"),
        ("# One\n\nIt is:\n```\nx = 1\n```", "x = 1\n"),
        ("````markdown\n# One\n```python\nx = 1\n```\n````", "x = 1\n"),
        ("```md\n```python\nx = 1\n```\n```", "x = 1\n"),
        ("```python\nx = 1\n</s>", "x = 1\n"),
        ("", ""),
        ("```python\n```", ""),
        ("```python\r\nx = 1\r\n```\r\nDone.", "x = 1\r\n"),
    ],
)
def test_blocks_that_markdown_does_not_have(response: str, program: str):
    assert program_from_response(response) == program


@pytest.mark.parametrize(
    ("response", "program"),
    [
        (f"```python\n{F}```\nUsage:\n```python\nprint(f(1))\n```", F),
        (f"```python\n{F}```\nUsage:\n```python\nassert f(1) == 1\n```\n```\n1\n```", F),
        (f"```python\ndef f(x): pass\n```\nBetter:\n```python\n{F}```", F),
        (f"```python\n{F}```\n```python\ndef ff(x): pass\n```", F),
        (f"```python\n{F}```\n```python\nprint('def f')\nf.x = 1\n```", F),
        (f"```\n{F}```\nRun it:\n```bash\npython f.py\n```", F),
        (f"```python\nprint(f(1))\n```\n```\n{F}```", F),
        ("```python\nasync def f(x): pass\n```\n```python\nf(1)\n```", "async def f(x): pass\n"),
        ("```python\nclass f:\n    pass\n```\n```python\nf()\n```", "class f:\n    pass\n"),
        ("```python\nf = lambda x: x\n```\n```python\nf == 1\n```", "f = lambda x: x\n"),
        ("```python\ng = f = abs\n```\n```python\nf(1)\n```", "g = f = abs\n"),
        ("```python\nf: int = 1\n```\n```python\nprint(f)\n```", "f: int = 1\n"),
        ("```python\na = 1\n```\n```python\nb = 2\n```", "a = 1\n\nb = 2\n"),
        # A draft whose string has no end takes nothing of what follows.
        (f'```python\ndef f(:\n    """Odd.\n```\nBetter:\n```python\n{F}```', F),
        (
            f'```python\ndef f(:\n  """Odd.\n```\n```python\n"""Even."""\n{F}```',
            f'"""Even."""\n{F}',
        ),
        ("```python\ndef f(x): ...", "def f(x): ..."),
    ],
)
def test_the_last_block_that_defines_the_names_is_the_program(response: str, program: str):
    assert program_from_response(response, ["f"]) == program


@pytest.mark.parametrize(
    ("blocks", "program"),
    [
        (["import math", "def f(x): return math.pi"], [0, 1]),
        (["from math import (\n    pi as p,\n)", "print(1)", "def f(x): return p"], [0, 2]),
        (["def g(x): return x", "def f(x): return g(x)", "print(f(1))"], [0, 1]),
        (["import math", "def g(x): return math.pi", "n = 1", "def f(x): return g(x)"], [0, 1, 3]),
        (["def f(x): return g(x)", "def g(x): return x", "def f(x): return g(x)"], [1, 2]),
        # What the program binds itself, or Python does, comes from nowhere else.
        (["n = f(1)", "def f(x):\n    n = x\n    return n"], [1]),
        (["def max(x): return 0", "def f(x): return max(x)"], [1]),
        (["y = 1", "def f(x) return y"], [1]),
    ],
)
def test_earlier_blocks_provide_missing_names(blocks: list[str], program: list[int]):
    response = "\n".join(f"Then:\n```python\n{block}\n```" for block in blocks)
    found = program_from_response(response, ["f"])
    assert found.split() == "\n".join(blocks[place] for place in program).split()


def test_a_script_gets_its_functions_from_earlier_blocks():
    response = "```python\ndef g(n): return n\n```\nRun:\n```python\nprint(g(input()))\n```"
    assert program_from_response(response) == "def g(n): return n\n\nprint(g(input()))\n"


def test_names_of_several_blocks_are_joined():
    response = "```python\ndef f(): pass\n```\nand\n```python\ndef g(): pass\n```"
    assert program_from_response(response, ["f", "g"]) == "def f(): pass\n\ndef g(): pass\n"
    both = "```python\ndef f(): pass\ndef g(): pass\n```\n"
    assert program_from_response(both + response, ["f", "g"]).count("def f") == 1
    assert program_from_response(f"{response}\n{both}", ["f", "g"]).count("def f") == 1


@pytest.mark.parametrize(
    "script", ["print(int(input()) + 1)\n", "import sys\nprint(sys.stdin.read())\n"]
)
def test_a_script_is_the_last_block_that_reads(script: str):
    draft, usage = "```python\nn = input()\n```\n", "Its core:\n```python\nprint(n + 1)\n```\n"
    assert program_from_response(f"{draft}Better:\n```python\n{script}```\n{usage}") == script
    assert program_from_response(f"```\n{script}```\nIt prints\n```text\n2\n```") == script
    assert program_from_response(f"{usage}```python\nprint(2)\n```\n```\n2\n```") == "print(2)\n"


def test_a_name_is_defined_at_the_top_level_only():
    assert defines("x = 1\ndef  f (x): pass", "f")
    for source in (
        "def ff(): pass",
        "  def f(): pass",
        "f == 1",
        "f += 1",
        "g.f = 1",
        "# def f():",
    ):
        assert not defines(source, "f")


@given(st.text(st.sampled_from("`~\"'#\\ \nx<|>"), max_size=60))
def test_any_text_has_a_program(text: str):
    for names in ((), ("x",)):
        assert isinstance(program_from_response(text, names), str)


@pytest.mark.parametrize(
    "piece",
    [
        *("```python\n", "```\n", "~~~\n~~~~\n", "```json\n", "`", " ", "<|x|>", "``` "),
        *(
            '```python\n"""\n```\n',
            "```python\n'''\n\"\"\"\n```\n",
            "```python\na = b\n```\n",
            "import (\n",
            "'\\\n",
            "#``` ",
            '"""',
        ),
    ],
)
@pytest.mark.parametrize("head", ["", "```python\n", "```python\n#"])
def test_no_response_takes_more_than_linear_time(head: str, piece: str):
    response = head + piece * (100_000 // len(piece)) + "x"
    start = time.process_time()
    program_from_response(response, ["f"])
    program_from_response(response)
    program_from_response(f"{response}\n```\n```python\nf = a + b + c\nprint(input())\n```")
    assert time.process_time() - start < 20  # half a second; quadratic it takes minutes
