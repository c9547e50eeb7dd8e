"""Does a program pass its tests? Each response runs apart from them, with as little as the kernel lets us leave it.

Tests are a Python program, also those of stdin and stdout: reading.code_tests writes it. They run in a process of their
own and reach the solution by calls with plain values alone; `plain` says which. So a solution can neither read nor
patch the tests, and none of its names replaces one of theirs.
"""

import ast
import builtins
import contextlib
import ctypes
import functools
import json
import math
import os
import pickle
import re
import subprocess
import sys
import tempfile
import textwrap
import types
from decimal import Decimal

RUN_WALL_S, RUNS_WALL_S = 6, 30  # for all Python tests or one run from stdin to stdout, and for all such runs
MEMORY = 2 << 30  # bytes of address space
PASSED = 77  # the exit status of tests that reached their end
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
ERRORS = {k: e for k, e in vars(builtins).items() if isinstance(e, type) and issubclass(e, Exception)}
del ERRORS["StopIteration"]  # it would end the tests' own loops
undumpable = lambda: ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE: this user's other processes cannot look into it
PROGRAM = """
import subprocess, sys
def __printed__(given):
    program = [sys.executable, "-I", "-c", {!r}]
    subprocess.run(program, input=given, errors="replace", stdout=open("output", "w"), timeout={}, check=True)
    return open("output", errors="replace").read()
"""  # as a function from its input to its output


def names(tree: ast.AST) -> tuple[set[str], set[str]]:
    """The names that a program loads, and those that it binds."""
    nodes = list(ast.walk(tree))
    loaded = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    bound = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return loaded, bound | {n.name for n in nodes if isinstance(n, DEFINITIONS)}


def code_block(response: str, wanted: set[str]) -> str | None:
    """The last fenced block that is Python and binds a wanted name; else the last one tagged so; else the last."""
    text, ranked = response.rpartition("</think>")[2], []
    fenced = re.findall(r"^[ \t]*```([^\n`]*)\n(.*?)^[ \t]*```", text, re.DOTALL | re.MULTILINE)
    for tag, block in fenced if "<think>" not in text else []:
        defines, block = False, textwrap.dedent(block)
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            defines = not wanted.isdisjoint(names(ast.parse(block))[1])
        ranked.append((defines, tag.strip().lower().startswith("py"), len(ranked), block))
    return max(ranked)[-1] if ranked else None


def code_verdict(response: str, answer: str) -> str:
    """right if the response's program passes all tests in time, unparsed without a program, else wrong."""
    import psutil  # here, as a solution's process starts sooner without it
    tree = ast.parse(answer)
    loaded, bound = names(tree)
    arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    code, status, seconds = code_block(response, loaded - bound - arguments), None, RUN_WALL_S + 1
    if code is None:
        return "unparsed"
    if "__printed__" in loaded:
        code, seconds = PROGRAM.format(code, RUN_WALL_S), RUNS_WALL_S
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = subprocess.run([sys.executable, "-I", __file__, "tests"], stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL, input=json.dumps([code, answer, sandbox()]).encode(),
                                    timeout=seconds, start_new_session=True, cwd=folder, env={}).returncode
        while left := psutil.Process().children(recursive=True):  # orphans included, which the pool adopts
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=1)
    return "right" if status == PASSED else "wrong"


def same_output(output: str, wanted: str) -> bool:
    """The same words on the same lines. With a point or an exponent they are numbers: 0.5 is 0.50, but 101 not 0101."""
    words, others = (re.findall(r"\S+|\n", text.strip()) for text in (output, wanted))
    with contextlib.suppress(ValueError):  # of more words, or of one that is no number
        differing = [(a, b) for a, b in zip(words, others, strict=True) if a != b]
        return all({*".eE"} & {*a, *b} and math.isclose(float(a), float(b), rel_tol=1e-9) for a, b in differing)
    return False


@functools.cache
def sandbox() -> list[str]:
    """The command in front of a solution. As far as this machine's kernel allows: no network, no other processes, no
    privileges, and every file read-only but those of a fresh folder in memory."""
    unshare = "unshare --map-root-user --mount --net --ipc --pid --fork --kill-child --mount-proc".split()
    # From Linux 6.14 on, pid_max is the namespace's own: the limit that stops a fork bomb even for root.
    kernel = [int(n) for n in re.findall(r"\d+", os.uname().release)[:2]]
    processes = "echo 512 > /proc/sys/kernel/pid_max\n" if kernel >= [6, 14] else ""
    read_only = """
        set -e
        mount -t tmpfs -o size=64m tmpfs "$PWD"
        cd "$PWD"
        cut -d" " -f2 /proc/self/mounts | grep -vxF "$PWD" | xargs -n1 mount -o remount,bind,ro
    """
    last = f"exec prlimit --as={MEMORY} --cpu={RUN_WALL_S} --fsize=16000000 --core=0 --nproc=512 setpriv --no-new-privs"
    drop = f"{last} --bounding-set=-all --inh-caps=-all"
    for front, script in (unshare, processes + read_only + drop), (unshare, processes + drop), ([], drop), ([], last):
        command = [*front, "sh", "-c", script + ' "$@"', "sh"]
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([*command, sys.executable, "-I", "-c", ""], cwd=folder, capture_output=True, check=True)
            return command
    raise ValueError("code needs prlimit and setpriv of util-linux to run")


def plain(value):
    """A copy of numbers, texts, bytes, and lists, tuples, sets and dicts of them; an iterator over what else holds
    values; of anything else that counts as true, an object with nothing in it."""
    value = value.tolist() if hasattr(value, "tolist") else value  # NumPy's
    if isinstance(value, dict):
        return {plain(k): plain(v) for k, v in value.items()}
    for kind in (bool, int, float, complex, Decimal, str, bytes, list, tuple, set, frozenset):
        if isinstance(value, kind):
            return kind(map(plain, value)) if kind in (list, tuple, set, frozenset) else kind(value)
    if isinstance(value, range) or not value:  # None; `Plain` refuses the rest, but for an empty deque and the like
        return () if hasattr(value, "__iter__") and not isinstance(value, range) else value
    return iter([plain(v) for v in value]) if hasattr(value, "__iter__") else object()


class Plain(pickle.Unpickler):
    def find_class(self, module, name):  # no code gets in: of all that a pickle may ask for, plain values need these
        return {"complex": complex, "Decimal": Decimal, "iter": iter, "range": range, "object": object}[name]


def solution():
    """The solution's process: answers calls, and ends at the first one that it cannot answer with plain values."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(2, 0), os.dup2(2, 1)  # standard error is the null device
    module = sys.modules["solution"] = types.ModuleType("solution")
    exec("from typing import *", vars(builtins))  # LiveCodeBench's signatures want List and others
    exec(code := pickle.load(requests), vars(module))
    while True:
        name, args, kwargs = pickle.load(requests)
        if name == "candidate" and not hasattr(module, name):  # the function that no other one calls, main excepted
            functions = [n for n in ast.parse(code).body if isinstance(n, ast.FunctionDef) and n.name != "main"]
            [name] = {f.name for f in functions}.difference(*(names(f)[0] - {f.name} for f in functions))
        function = getattr(module, name, None) or getattr(module.Solution(), name)
        try:
            reply = None, function(*args, **kwargs), [*args, *kwargs.values()]
        except Exception as e:
            error = next(c.__name__ for c in type(e).__mro__ if c.__name__ in ERRORS)
            reply = error, e.args, [*args, *kwargs.values()]
        os.write(replies, pickle.dumps(plain(reply)))


def tests():
    """The tests' process: exits with PASSED if the solution was called and an assert ran, and none failed."""
    import unittest
    undumpable()
    code, source, command = json.load(sys.stdin)
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    solution = subprocess.Popen([*command, sys.executable, "-I", __file__, "solution"], env={}, **pipes)
    os.write(solution.stdin.fileno(), pickle.dumps(code))
    ran, asked, unittest.main = [], [], dict  # its tests are run below
    unittest.TestCase.setUp = lambda self: getattr(self, "setup_method", dict)()  # pytest's

    def ask(name, *args, **kwargs):
        asked.append(name)
        try:
            os.write(solution.stdin.fileno(), pickle.dumps(plain((name, args, kwargs))))
            error, value, changed = plain(Plain(solution.stdout).load())
            for mine, theirs in zip([*args, *kwargs.values()], changed):  # what the solution did to its arguments
                if isinstance(mine, (list, set, dict)):
                    mine.clear()
                    (mine.extend if isinstance(mine, list) else mine.update)(theirs)
        except BaseException:
            os._exit(1)  # before the tests can take it for an exception of the solution's
        if error is not None:
            raise ERRORS.get(error, Exception)(*value)
        return value
    tree = ast.parse(source)
    used = names(tree)[0]
    wanted = used.difference(dir(builtins) if len(used) > 1 else [])  # assert sum(1, 2) == 3 wants the solution's
    scope = {name: functools.partial(ask, name) for name in wanted}
    sys.modules["solution"] = types.SimpleNamespace(**scope)  # KodCode's tests import from it
    scope |= {name: __import__(name) for name in wanted & sys.stdlib_module_names if re.search(rf"\b{name}\.", source)}
    scope |= {"__name__": "__main__", "__same__": same_output, "__ran__": lambda: ran.append(1) is None}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            node.test = ast.BoolOp(ast.And(), [node.test, ast.parse("__ran__()", mode="eval").body])
        elif isinstance(node, ast.Try) and "Assert(" in ast.dump(node):  # whose `else: assert False` need not run
            node.finalbody += ast.parse("__ran__()").body
    exec(compile(ast.fix_missing_locations(tree), "tests", "exec"), scope)
    os._exit(PASSED if ran and asked else 1)


if __name__ == "__main__":
    {"tests": tests, "solution": solution}[sys.argv[1]]()
