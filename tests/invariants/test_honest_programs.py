"""Programs with ordinary needs work with every isolation backend."""

import textwrap

import pytest

from tests.sandboxes import NAMESPACES, python_for, ready
from unmask.sandbox.command import Backend
from unmask.sandbox.isolation import BACKENDS
from unmask.sandbox.limits import Limits


@pytest.fixture(params=BACKENDS)
def every(request: pytest.FixtureRequest) -> Backend:
    python_for(request.param)
    return request.param


@pytest.fixture(params=NAMESPACES)
def namespaces(request: pytest.FixtureRequest) -> Backend:
    python_for(request.param)
    return request.param


HONEST = {
    "threads": """
        import threading
        def f(x):
            found = []
            threads = [threading.Thread(target=found.append, args=(n,)) for n in range(4)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            return sorted(found) == [0, 1, 2, 3]
    """,
    "a Python of its own": """
        import subprocess, sys
        def f(x):
            return subprocess.run([sys.executable, "-c", "print(6)"], capture_output=True).stdout == b"6\\n"
    """,
    "a process": """
        import multiprocessing
        def send(end): end.send(7)
        def f(x):
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.get_context("fork").Process(target=send, args=(theirs,))
            process.start()
            return ours.recv() == 7 and process.join() is None
    """,
    "temporary files": """
        import os, shutil, tempfile
        def f(x):
            with tempfile.TemporaryDirectory() as folder:
                os.mkdir(f"{folder}/a")
                open(f"{folder}/one", "w").write("text")
                os.rename(f"{folder}/one", f"{folder}/a/one")
                shutil.copyfile(f"{folder}/a/one", f"{folder}/two")
                return open(f"{folder}/two").read() == "text"
    """,
    "an event loop": """
        import asyncio, sys
        async def g():
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(3)", stdout=-1)
            return (await process.communicate())[0]
        def f(x): return asyncio.run(g()) == b"3\\n"
    """,
    "signals of its own": """
        import signal
        def f(x):
            found = []
            signal.signal(signal.SIGALRM, lambda *_: found.append(1))
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            signal.pause()
            return found == [1]
    """,
    "a database": """
        import sqlite3
        def f(x):
            with sqlite3.connect("base") as base:
                base.execute("create table t (n)")
                base.execute("insert into t values (3)")
                return base.execute("select n from t").fetchall() == [(3,)]
    """,
    "numpy": """
        def f(x):
            try: import numpy
            except ImportError: return True
            return float((numpy.ones((9, 9)) @ numpy.ones((9, 9))).sum()) == 729.0
    """,
}
# These need the folder of POSIX shared memory, which isolation `process` closes.
SHARING = {
    "a pool": """
        import multiprocessing
        def square(x): return x * x
        def f(x):
            with multiprocessing.get_context("fork").Pool(2) as pool: return pool.map(square, [2, 3]) == [4, 9]
    """,
    "a manager": """
        import multiprocessing
        def f(x):
            with multiprocessing.get_context("fork").Manager() as manager:
                shared = manager.dict(a=1)
                return dict(shared) == {"a": 1}
    """,
    "shared memory": """
        from multiprocessing import shared_memory
        def f(x):
            memory = shared_memory.SharedMemory(create=True, size=1000)
            memory.buf[0] = 3
            found = memory.buf[0] == 3
            memory.close()
            memory.unlink()
            return found
    """,
}


@pytest.mark.parametrize("use", HONEST)
def test_honest_programs_work(every: Backend, use: str):
    assert honest(every, HONEST[use]) is True


@pytest.mark.parametrize("use", SHARING)
def test_honest_programs_share_memory_with_namespaces(namespaces: Backend, use: str):
    assert honest(namespaces, SHARING[use]) is True


def honest(backend: Backend, program: str) -> object:
    with ready(backend, Limits(wall_s=100.0)) as sandbox:
        sandbox.load(textwrap.dedent(program))
        found = sandbox.call("f", 0)
        sandbox.finish()
        assert sandbox.failure is None
        return found
