"""Building and importing tasks does not load the packages that generate and verify."""

import subprocess
import sys


def test_importing_tasks_imports_no_heavy_package():
    program = (
        "import sys, unmask.tasks.build;"
        "print(sorted({'torch', 'reasoning_gym', 'math_verify', 'sympy', 'numpy'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
