"""Does a program pass its tests? Each response runs apart from them, with as little as the kernel lets us leave it.

Tests are Python (asserts, test functions, a TestCase, HumanEval's check(candidate)) or pairs of stdin and stdout.
Python tests run in a process of their own and reach the solution by calls with plain values alone: numbers, text,
bytes, None, and lists, tuples, sets and dicts of them. Of anything else they see only that it is there. So a solution
can neither read nor patch the tests, and none of its names replaces one of theirs.
"""

import ast
import builtins
import contextlib
import ctypes
import functools
import importlib
import json
import math
import os
import pickle
import re
import resource
import subprocess
import sys
import tempfile
import textwrap
import time
import types
import warnings

RUN_WALL_S, RUNS_WALL_S = 6, 30  # for all Python tests or one run from stdin to stdout, and for all such runs
MOST_TESTS = 30  # runs from stdin to stdout; further ones are left out
MEMORY = 2 << 30  # bytes of address space
PASSED = 77  # the exit status of tests that reached their end
AS_LISTS = "def as_lists(v):\n    return [as_lists(x) for x in v] if isinstance(v, (list, tuple)) else v\n"


# ----------------------------------------------------------------------------------------------------------- references
def code_reference(answer: str) -> str:
    """Tests for `code_verdict`: Python, or JSON with inputs and outputs. `answer` is Python, or the JSON of a list of
    asserts, or of test and entry_point, or of inputs and outputs, if need be with fn_name (LiveCodeBench, APPS). Raises
    ValueError with a sentence."""
    if not sandbox():
        undumpable()
        warnings.warn("`unshare` does not work here: code runs with network, files and processes in reach (see README)")
    entry = "candidate"
    with contextlib.suppress(ValueError):
        answer = json.loads(answer)
    try:
        if isinstance(answer, dict) and "test" in answer:
            entry, answer = answer.get("entry_point") or entry, answer["test"]
        elif isinstance(answer, dict):
            inputs, outputs = answer.get("inputs"), answer.get("outputs")
            if not inputs or not isinstance(outputs, list) or len(inputs) != len(outputs):
                raise ValueError("code tests need as many outputs as inputs, and at least one")
            if answer.get("fn_name"):
                answer = AS_LISTS + "\n".join(map(functools.partial(call, answer["fn_name"]), inputs, outputs))
            elif all(isinstance(text, str) for text in inputs + outputs):
                return json.dumps({"inputs": inputs[:MOST_TESTS], "outputs": outputs[:MOST_TESTS]})
            else:
                raise ValueError("inputs and outputs of code tests must be texts, or come with a fn_name")
        tests = "\n".join(answer) if isinstance(answer, list) else answer
        used, runs = names(tests, ast.Load), []
        for node in ast.parse(tests).body:
            definition = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            runs += starts(node, entry) if definition and node.name not in used else [""] * asserts(node)
    except (SyntaxError, TypeError) as e:
        raise ValueError(f"the code tests are no Python: {e}") from None
    if not runs:
        raise ValueError("the code tests hold no assert that would run")
    return "\n".join([tests, *filter(None, runs)])


def call(function: str, given, wanted) -> str:
    """An assert. LiveCodeBench has a line of JSON per argument, APPS a list of them and often a list of the result."""
    if not str(function).isidentifier():
        raise ValueError(f"fn_name must be the name of a function, not {function!r:.40}")
    if isinstance(given, str):
        try:
            given, wanted = [json.loads(line) for line in given.splitlines() if line.strip()], [json.loads(wanted)]
        except (ValueError, TypeError):
            raise ValueError(f"the inputs of {function} are no lines of JSON: {given!r:.60}") from None
    else:
        wanted = [wanted, *(wanted if isinstance(wanted, list) and len(wanted) == 1 else [])]
    return f"assert as_lists({function}(*{given!r})) in {wanted!r}"


def starts(node: ast.stmt, entry: str) -> list[str]:
    """The statements that run a test function, a check(candidate), a TestCase or pytest's class, if `node` is one."""
    methods = [n.name for n in getattr(node, "body", []) if isinstance(n, ast.FunctionDef) and n.name[:4] == "test"]
    if isinstance(node, ast.ClassDef) and "TestCase" in " ".join(map(ast.unparse, node.bases)):
        suite = f"__import__('unittest').defaultTestLoader.loadTestsFromTestCase({node.name})"
        return [f"assert {suite}.run(__import__('unittest').TestResult()).wasSuccessful()"] if methods else []
    if isinstance(node, ast.ClassDef) and node.name.startswith("Test") and asserts(node):
        return [f"t = {node.name}(); getattr(t, 'setup_method', dict)(); t.{name}()" for name in methods]
    if isinstance(node, ast.FunctionDef) and asserts(node):
        needed = node.args.args[len(node.args.defaults) :] if node.args.defaults else node.args.args
        if len(needed) == 1 and (node.name.startswith("check") or needed[0].arg == "candidate"):
            return [f"{node.name}({entry})"]
        return [f"{node.name}()"] if not needed and node.name.startswith("test") else []
    return []


def asserts(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Assert) for n in ast.walk(node))


def names(code: str, context: type) -> set[str]:
    """The names that a program loads, or binds."""
    nodes = list(ast.walk(ast.parse(code)))
    bound = {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    found = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, context)}
    return found | (bound if context is ast.Store else set())


# ------------------------------------------------------------------------------------------------------------- verdicts
def code_block(response: str, wanted: set[str]) -> str | None:
    """The last fenced block that is Python and binds a wanted name; else the last one tagged so; else the last."""
    if "<think>" in response and "</think>" not in response:
        return None
    fence = re.compile(r"^[ \t]*```([^\n`]*)\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)
    ranked = []
    for position, (tag, block) in enumerate(fence.findall(response.rpartition("</think>")[2])):
        defines, block = False, textwrap.dedent(block)
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            defines = bool(wanted & names(block, ast.Store))
        ranked.append((defines, tag.strip().lower().startswith("py"), position, block))
    return max(ranked)[-1] if ranked else None


def code_verdict(response: str, answer: str) -> str:
    """right if the response's program passes all tests in time, unparsed without a program, else wrong."""
    stdin = answer.startswith('{"inputs"')
    code = code_block(response, set() if stdin else names(answer, ast.Load) - names(answer, ast.Store))
    if code is None:
        return "unparsed"
    if not stdin:
        given = json.dumps([code, answer, sandbox()])
        status, _ = run([sys.executable, "-I", __file__, "tests"], given, RUN_WALL_S + 1)
        return "right" if status == PASSED else "wrong"
    pairs, deadline = json.loads(answer), time.monotonic() + RUNS_WALL_S
    code = code.encode(errors="replace").replace(b"\0", b"?")[:100_000]  # the kernel takes 131,072 bytes
    command, limits = [*sandbox(), sys.executable, "-I", "-c", code], functools.partial(limit_solution, sandbox())
    for given, wanted in zip(pairs["inputs"], pairs["outputs"]):
        status, output = run(command, given, RUN_WALL_S, limits)
        if status != 0 or time.monotonic() > deadline or not same_output(output, wanted):
            return "wrong"
    return "right"


def same_output(output: str, wanted: str) -> bool:
    """The same words on the same lines, as texts or, as 0.5 and 0.50, as numbers up to a relative 1e-9. Whole numbers
    are texts: 0101 is not 101."""
    lines = [[len(line.split()) for line in text.strip().split("\n")] for text in (output, wanted)]
    return lines[0] == lines[1] and all(map(same_word, output.split(), wanted.split()))


def same_word(a: str, b: str) -> bool:
    numbers = all(re.fullmatch(r"-?\d+(\.\d*)?([eE][+-]?\d+)?", word) for word in (a, b))
    decimal = re.search("[.eE]", a + b)
    return a == b or numbers and decimal is not None and math.isclose(float(a), float(b), rel_tol=1e-9)


def run(command: list, given: str, seconds: float, limits=None) -> tuple[int | None, str]:
    """Exit status (None if killed) and standard output of a command in an empty folder."""
    import psutil  # here, as a solution's process starts sooner without it

    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, cwd=folder, env={}, start_new_session=True, preexec_fn=limits,
                                   stdin=subprocess.PIPE, stdout=out, stderr=subprocess.DEVNULL)
        status, me = None, psutil.Process()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(given.encode(errors="replace"), timeout=seconds)
            status = process.returncode
        while me.children():  # orphans included, which the pool adopts
            for child in me.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            psutil.wait_procs(me.children(), timeout=1)
        out.seek(0)
        return status, out.read().decode(errors="replace")


def limit_solution(command: list[str]):
    for limit, most in ("AS", MEMORY), ("CPU", RUN_WALL_S), ("FSIZE", 16 << 20), ("CORE", 0):
        resource.setrlimit(getattr(resource, f"RLIMIT_{limit}"), (most, most))
    if not command:  # a namespace has a limit of its own
        resource.setrlimit(resource.RLIMIT_NPROC, (512, 512))
        libc, (DROP_CAPABILITY, NO_NEW_PRIVILEGES) = ctypes.CDLL(None), (24, 38)  # of prctl(2)
        for capability in range(64):
            libc.prctl(DROP_CAPABILITY, capability)  # with root's, no process is closed to it
        libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def undumpable():
    """Keeps other processes of this user out of this one's memory and files, where `unshare` does not hide it."""
    ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE


@functools.cache
def sandbox() -> list[str]:
    """The command in front of a solution, as far as this machine's kernel allows: no network, no other processes, no
    privileges, and every file read-only but those of a fresh folder in memory."""
    # From Linux 6.14 on, pid_max is the namespace's own: the limit that stops a fork bomb even for root.
    version = tuple(int(n) for n in re.findall(r"\d+", os.uname().release)[:2])
    processes = "echo 512 > /proc/sys/kernel/pid_max" if version >= (6, 14) else "ulimit -u 512"
    read_only = """
        mount -t tmpfs -o size=64m tmpfs "$PWD" && cd "$PWD" || exit 1
        while read -r _ m _; do
            case $m in "$PWD") ;; *) mount -o remount,bind,ro "$m" || exit 1 ;; esac
        done < /proc/self/mounts
        exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
    """
    namespaces = "--map-root-user --mount --net --ipc --pid --fork --kill-child --mount-proc".split()
    for script in (f"{processes}; {read_only}", f'{processes}; exec "$@"'):
        command = ["/usr/bin/unshare", *namespaces, "sh", "-c", script, "sh"]
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([*command, sys.executable, "-I", "-c", ""], cwd=folder, capture_output=True, check=True)
            return command
    return []


# ------------------------------------------------------------------------------------------------------- two processes
def plain(value):
    """A copy of built-in types alone; of any other value that counts as true, an object with nothing in it."""
    value = value.tolist() if hasattr(value, "tolist") else value  # NumPy's
    if isinstance(value, dict):
        return {plain(k): plain(v) for k, v in value.items()}
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return kind(map(plain, value))
    for kind in (bool, int, float, complex, str, bytes):
        if isinstance(value, kind):
            return kind(value)
    if value is None or value:
        return value and object()
    raise TypeError(f"{type(value)} is no plain value")


class Plain(pickle.Unpickler):
    def find_class(self, module, name):
        """No code gets in: of all names that a pickle may ask for, plain values need two."""
        if (module, name) in (("builtins", "complex"), ("builtins", "object")):
            return getattr(builtins, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no plain value")


def solution():
    """The solution's process: answers calls, and ends at the first one that it cannot answer with plain values."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0), os.dup2(null, 1)
    code, module = pickle.load(requests), types.ModuleType("solution")
    sys.modules["solution"] = module
    exec(compile(code, "solution", "exec"), vars(module))
    while True:
        name, args, kwargs = pickle.load(requests)
        name = name if name != "candidate" or name in vars(module) else entry_point(code)
        function = vars(module)[name] if name in vars(module) else getattr(module.Solution(), name)
        try:
            reply = None, function(*args, **kwargs), args
        except Exception as e:
            reply = next(c.__name__ for c in type(e).__mro__ if c.__module__ == "builtins"), str(e), args
        pickle.dump(plain(reply), replies)
        replies.flush()


def entry_point(code: str) -> str:
    """The function of a solution that no other of its functions calls, main excepted."""
    functions = [n for n in ast.parse(code).body if isinstance(n, ast.FunctionDef) and n.name != "main"]
    called = {name for f in functions for name in names(ast.unparse(f), ast.Load) - {f.name}}
    [name] = {f.name for f in functions} - called
    return name


class Counting(ast.NodeTransformer):
    """Calls __ran__ after each assert, and after each try with one, whose `else: assert False` need not run."""

    def visit_Assert(self, node):
        return [node, *ast.parse("__ran__(1)").body]

    def visit_Try(self, node):
        return [self.generic_visit(node), *ast.parse("__ran__(1)" if asserts(node) else "").body]


def tests():
    """The tests' process: exits with PASSED if the solution was called and an assert ran, and none failed."""
    import unittest

    undumpable()
    code, source, command = json.load(sys.stdin)
    solution = subprocess.Popen([*command, sys.executable, "-I", __file__, "solution"], env={},
                                preexec_fn=functools.partial(limit_solution, command),
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    pickle.dump(code, solution.stdin)

    def ask(name, *args, **kwargs):
        asked.append(name)
        try:
            pickle.dump(plain((name, args, kwargs)), solution.stdin)
            solution.stdin.flush()
            error, value, changed = Plain(solution.stdout).load()
            for mine, theirs in zip(args, changed):  # what the solution did to its arguments
                if isinstance(mine, list):
                    mine[:] = theirs
                elif isinstance(mine, (dict, set)):
                    mine.clear()
                    mine.update(theirs)
        except BaseException:
            os._exit(1)  # before the tests can take it for an exception of the solution's
        if error is None:
            return value
        known = getattr(builtins, str(error), None)
        known = known if isinstance(known, type) and issubclass(known, Exception) else Exception
        raise RuntimeError(value) if known is StopIteration else known(value)

    class Known(dict):
        def __missing__(self, name):
            """A module of Python's where the tests forgot to import it, else the solution's function."""
            if name.startswith("__"):
                raise KeyError(name)
            forgotten = name in sys.stdlib_module_names and re.search(rf"(?<![\w.]){name}\.", source)
            return importlib.import_module(name) if forgotten else functools.partial(ask, name)

    ran, asked, unittest.main = [], [], dict  # its tests are run below
    scope = {"__name__": "__main__", "__ran__": ran.append, "__builtins__": Known(vars(builtins))}
    used = names(source, ast.Load)
    scope |= {name: functools.partial(ask, name) for name in used if len(used) == 1}  # sum, in assert sum(1, 2) == 3
    exec(compile(Counting().visit(ast.parse(source)), "tests", "exec"), scope)
    os._exit(PASSED if ran and asked else 1)


if __name__ == "__main__":
    {"tests": tests, "solution": solution}[sys.argv[1]]()
