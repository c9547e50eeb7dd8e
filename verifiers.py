"""Is the answer right? The one module that the training scripts share.

A verifier compares a model's response with a problem's reference answer and gives one of four verdicts:

    right      the final answer equals the reference, or the code passes every test
    wrong      it does not
    unparsed   there is no final answer to compare, or nothing readable in it
    error      the comparison itself failed or took too long; logged as a rate of its own

Only `right` earns the reward of 1. A problem names its verifier:

    math       numbers, expressions, sets, intervals, words; equality is math-verify's
    choice     a letter, or the text of that option
    code       the last fenced block of the response, run against tests
    FILE.py:FUNCTION   your own: function(response, answer) gives a verdict, or True or False

`verify` works through a batch in separate interpreters, one job at a time each. A job that takes too long or too much
memory is an `error`; its interpreter is killed and replaced, and the batch goes on.

Code runs in a process of its own with an empty folder, an empty environment, limits on time, memory, file size and
processes and, where Linux's `unshare` works, neither network nor sight of other processes. The tests run in another
process, which sends arguments and receives plain values, so that a solution can neither read nor patch them. This
stops accidents and reward hacking. It is no boundary against an attacker, who can read files and shares the kernel
with you; use a virtual machine for that.
"""

import ast
import builtins
import contextlib
import ctypes
import functools
import importlib.util
import itertools
import json
import logging
import os
import pickle
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

VERDICTS = ("right", "wrong", "unparsed", "error")
MATH_CPU_S = 2  # of the processor, not of the clock, so that a busy machine gives the same verdicts
CODE_WALL_S = 6  # for all tests of one response
JOB_WALL_S = 20  # then the interpreter is killed, whatever it is doing
MEMORY = 2 << 30  # bytes of address space of an interpreter, and of a solution
LONGEST, DEEPEST = 1000, 20  # characters and nested brackets of an answer that is worth parsing


class OutOfTime(BaseException):
    """Not an Exception: sympy catches those."""


# ----------------------------------------------------------------------------------------------------------------- math
def last_boxed(text: str) -> str | None:
    """What the last \\boxed{...} in `text` holds, braces nested to any depth; None if there is none or if it never
    closes, as in a response that was cut.

    >>> last_boxed(r"first \\boxed{1}, no: \\boxed{\\frac{1}{2}}")
    '\\\\frac{1}{2}'
    """
    start, depth = text.rfind(r"\boxed{"), 0
    for i in range(start + len(r"\boxed"), len(text)) if start >= 0 else ():
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start + len(r"\boxed{") : i].strip()
    return None


def final_answer(response: str) -> str | None:
    """The last box after the end of any thinking. A response without a box may end on `answer is ...`, `Answer: ...` or
    `#### ...`, of which the last one counts, to the end of its line. None if there is nothing of the kind."""
    if "<think>" in response and "</think>" not in response:
        return None
    response = response.rpartition("</think>")[2]
    if r"\boxed" in response:
        return last_boxed(response)
    said = re.findall(r"(?:answer is|answer:|####)([^\n]+)", response[-4000:], re.IGNORECASE)
    return said[-1].strip(" \t:*$").removesuffix(".").rstrip(" *$") if said else None


@functools.lru_cache(4096)
def parse(expression: str) -> list:
    """math-verify's reading of a final answer, after spellings that it would misread: spaced thousands, mixed numbers
    written as text, a trailing point. Empty if it cannot be read."""
    import math_verify

    brackets = ((c in "({[") - (c in ")}]") for c in expression)
    if len(expression) > LONGEST or max(itertools.accumulate(brackets, initial=0)) > DEEPEST:
        return []
    if re.search(r"\\(neg|lnot|not|cancel|phantom)\b", expression):
        return []  # it would drop the command and keep what it denies
    expression = re.sub(r"(?<!\\)\\[,;!: ]|~", " ", expression).strip(" $")
    expression = re.sub(r"(?<![\d.])\d{1,3}(?: \d{3})+(?![\d.])", lambda m: m[0].replace(" ", ""), expression)
    expression = re.sub(r"(?<![\d./])(\d+) +(\d+)/(\d+)(?![\d./])", r"\1\\frac{\2}{\3}", expression)
    expression = re.sub(r"(\d)\.$", r"\1", expression)
    return math_verify.parse(rf"\boxed{{{expression}}}", parsing_timeout=None, raise_on_error=True)


def math_reference(answer: str) -> str:
    """The final answer of a dataset's solution: after GSM8K's ####, else in the last box, else all of it."""
    final = answer.rpartition("####")[2] if "####" in answer else last_boxed(answer) if r"\boxed" in answer else answer
    final = (final or "").strip(" \n\t$")
    try:
        with cpu_limit(MATH_CPU_S):
            readable = final and parse(final)
    except (Exception, OutOfTime):
        readable = False
    if not readable:
        raise ValueError(f"cannot parse the answer {answer[-80:]!r}")
    return final


def math_verdict(response: str, answer: str) -> str:
    import math_verify

    given = final_answer(response)
    if not given:
        return "unparsed"
    if given == answer:
        return "right"
    with cpu_limit(MATH_CPU_S):
        parsed = parse(given)
        if not parsed:
            return "unparsed"
        same = math_verify.verify(parse(answer), parsed, timeout_seconds=None, raise_on_error=True)
        return "right" if same else "wrong"


@contextlib.contextmanager
def cpu_limit(seconds: float):
    def stop(*_):
        raise OutOfTime

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


# --------------------------------------------------------------------------------------------------------------- choice
def choice_parts(text: str) -> tuple[str, str]:
    """The letter and the words of an option: `(B)`, `**B**`, `B. Paris`, `\\text{B}` and `Paris` have one or both."""
    text = re.sub(r"\\(?:text|textbf|mathrm|mathbf)\b|[{}$*_`]", "", text).strip(" .\n\t")
    option = re.fullmatch(r"(?:option |choice )?(?:\(([A-Z])\)|([A-Z])[).:]|([A-Z])$)\s*(.*)", text, re.DOTALL | re.I)
    letter, words = ("".join(filter(None, option.groups()[:3])).upper(), option[4]) if option else ("", text)
    return letter, " ".join(words.lower().split())


def choice_reference(answer: str) -> str:
    """`B`, or with the option's text `B. Paris`, so that the text alone is right too."""
    final = last_boxed(answer) if r"\boxed" in answer else answer.rpartition("####")[2] or answer
    if not choice_parts(final or "")[0]:
        raise ValueError(f"cannot find the letter of a choice in {answer[-80:]!r}")
    return final.strip()


def choice_verdict(response: str, answer: str) -> str:
    """Where `final_answer` finds nothing, a last line that is a letter alone, or the right option, counts as well."""
    given, right = final_answer(response), choice_parts(answer)
    if given is None and r"\boxed" not in response and "<think>" not in response.rpartition("</think>")[2]:
        last_line = response.strip().rpartition("\n")[2][:LONGEST]
        given = last_line if choice_parts(last_line)[0] and choice_parts(last_line)[1] in ("", right[1]) else None
    if not given or len(given) > LONGEST:
        return "unparsed"
    letter, words = choice_parts(given)
    if not letter:
        return "right" if words and words == right[1] else "wrong"
    several = re.match(r"(?:and|or|,|/|&)", words) or re.search(r"\([a-z]\)", words)
    same_words = not words or words == right[1] or not right[1] and not several
    return "right" if letter == right[0] and same_words else "wrong"


# ----------------------------------------------------------------------------------------------------------------- code
def code_reference(answer: str) -> str:
    """Tests in one of three forms: Python with asserts (a list of them is joined), which may define `check(candidate)`
    as HumanEval's do; JSON with `test` and `entry_point`; or JSON with `inputs` and `outputs` for stdin and stdout."""
    try:
        tests = json.loads(answer)
    except ValueError:
        tests = answer
    if isinstance(tests, list):
        tests = "\n".join(tests)
    if isinstance(tests, dict) and "test" in tests:
        tests = tests["test"] + (f"\ncheck({tests['entry_point']})" if tests.get("entry_point") else "")
    if isinstance(tests, dict):
        inputs, outputs = tests.get("inputs"), tests.get("outputs")
        if not inputs or not outputs or len(inputs) != len(outputs):
            raise ValueError("code tests need as many outputs as inputs, and at least one")
        return json.dumps({"inputs": inputs, "outputs": outputs})
    try:
        tree = ast.parse(tests)
    except SyntaxError as e:
        raise ValueError(f"the code tests are no Python: {e}") from None
    if not any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
        raise ValueError("the code tests hold no assert")
    return tests


def code_verdict(response: str, answer: str) -> str:
    if "<think>" in response and "</think>" not in response:
        return "unparsed"
    blocks = re.findall(r"```[^\n]*\n(.*?)```", response.rpartition("</think>")[2], re.DOTALL)
    if not blocks:
        return "unparsed"
    deadline = time.monotonic() + CODE_WALL_S
    if not answer.startswith('{"inputs"'):
        job = json.dumps([blocks[-1], answer])
        return "right" if run([sys.executable, "-I", __file__, "tests"], job, deadline)[0] == PASSED else "wrong"
    tests, lines = json.loads(answer), lambda text: [line.rstrip() for line in text.strip().split("\n")]
    for given, wanted in zip(tests["inputs"], tests["outputs"]):
        program = [*sandbox(), sys.executable, "-I", "-c", blocks[-1]]
        status, output = run(program, given, deadline, limits=limit_solution)
        if status != 0 or lines(output) != lines(wanted):
            return "wrong"
    return "right"


PASSED = 77  # the exit status of tests that reached their end; a solution that leaves early has another


def run(command: list[str], given: str, deadline: float, limits=None) -> tuple[int | None, str]:
    """Exit status (None if killed at the deadline) and standard output of a program in an empty folder."""
    with tempfile.TemporaryDirectory() as folder, open(os.path.join(folder, "out"), "w+b") as out:
        process = subprocess.Popen(
            command, cwd=folder, env={}, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.DEVNULL,
            start_new_session=True, preexec_fn=limits,
        )
        try:
            process.communicate(given.encode(errors="replace"), timeout=max(0.1, deadline - time.monotonic()))
            status = process.returncode
        except subprocess.TimeoutExpired:
            status = None
        kill_children()
        process.wait()
        out.seek(0)
        return status, out.read().decode(errors="replace")


def kill_children():
    """Every process that this one started, and theirs, orphans included (see `work`)."""
    while children := psutil.Process().children(recursive=True):
        for child in children:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                pass
        psutil.wait_procs(children, timeout=1)


def limit_solution():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CODE_WALL_S, CODE_WALL_S))
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 20, 16 << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sandbox():  # inside a namespace of its own the count is limited there
        resource.setrlimit(resource.RLIMIT_NPROC, (512, 512))


@functools.cache
def sandbox() -> list[str]:
    """The command in front of a solution: own network, processes and user, as far as this machine's kernel allows."""
    # From Linux 6.14 on, pid_max is the namespace's own: the limit that stops a fork bomb even for root.
    version = tuple(int(n) for n in re.findall(r"\d+", os.uname().release)[:2])
    limit = "echo 512 > /proc/sys/kernel/pid_max; " if version >= (6, 14) else ""
    namespaces = "unshare --map-root-user --net --ipc --pid --fork --kill-child --mount-proc sh -c".split()
    command = [*namespaces, limit + 'exec "$@"', "sh"]
    works = shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    return [shutil.which("unshare"), *command[1:]] if works else []


SOLUTION = """
import os, pickle, sys
requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
null = os.open(os.devnull, os.O_RDWR)
os.dup2(null, 0), os.dup2(null, 1)
names, objects = {"__name__": "solution"}, []
exec(compile(pickle.load(requests), "solution", "exec"), names)
while True:
    target, name, args, kwargs = pickle.load(requests)
    try:
        value = (names[name] if target is None else getattr(objects[target], name))(*args, **kwargs)
        reply = "value", value
        if not isinstance(value, (int, float, complex, str, bytes, list, tuple, dict, set, frozenset, type(None))):
            objects.append(value)
            reply = "object", len(objects) - 1
    except Exception as e:
        reply = "raise", type(e).__name__
    pickle.dump(reply, replies)
    replies.flush()
"""


class Plain(pickle.Unpickler):
    """Numbers, texts and containers of them: no class of the solution's gets into the tests, nor any code."""

    def find_class(self, module, name):
        if (module, name) in (("builtins", "complex"), ("builtins", "frozenset"), ("builtins", "set")):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no plain value")


class Remote:
    """An object that lives in the solution's process; its methods can be called from here."""

    def __init__(self, call, target):
        self.call, self.target = call, target

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.call(self.target, name, args, kwargs)


def tests():
    """The test process: asserts run here, the solution's functions in a process that never sees them."""
    code, asserts = json.load(sys.stdin)
    solution = subprocess.Popen(
        [*sandbox(), sys.executable, "-I", "-c", SOLUTION], env={}, preexec_fn=limit_solution,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )
    pickle.dump(code, solution.stdin)

    def call(target, name, args, kwargs):
        pickle.dump((target, name, args, kwargs), solution.stdin)
        solution.stdin.flush()
        kind, value = Plain(solution.stdout).load()
        if kind == "raise":
            known = getattr(builtins, str(value), Exception)
            raise known(value) if isinstance(known, type) and issubclass(known, Exception) else Exception(value)
        return Remote(call, value) if kind == "object" else value

    defined = [n.name for n in ast.parse(code).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    names = {name: functools.partial(lambda name, *a, **k: call(None, name, a, k), name) for name in defined}
    names |= {"__name__": "tests"}
    exec(compile(asserts, "tests", "exec"), names)
    if "check" in names and "check" not in defined and not re.search(r"^check\(", asserts, re.MULTILINE):
        names["check"](names[defined[-1]])  # HumanEval's: the entry point is the solution's last definition
    os._exit(PASSED)


# ----------------------------------------------------------------------------------------------------------------- pool
BUILT_IN = {
    "math": (math_reference, math_verdict),
    "choice": (choice_reference, choice_verdict),
    "code": (code_reference, code_verdict),
}


@functools.cache
def load(name: str):
    """(reference, verdict) of a verifier by name. Raises ValueError with a sentence if there is none."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    path, _, function = name.rpartition(":")
    if not path.endswith(".py") or not Path(path).is_file():
        raise ValueError(f"there is no {name!r}: use {', '.join(BUILT_IN)}, or FILE.py:FUNCTION of a file")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, function, None)):
        raise ValueError(f"{path} has no function {function!r} to verify with")
    return (lambda answer: answer), getattr(module, function)


def reference(answer: str, verifier: str = "math") -> str:
    """The dataset's answer in the form that `verify` wants. Raises ValueError when it cannot be read."""
    if not answer.strip():
        raise ValueError("the answer is empty")
    return load(verifier)[0](answer)


def verify(jobs: list[tuple[str, str, str]], workers: int | None = None) -> list[str]:
    """A verdict for each (verifier, response, reference), in their order, which changes nothing; nor does `workers`,
    the number of interpreters (default: one per processor)."""
    return list(pool(workers or len(os.sched_getaffinity(0))).map(lambda job: interpreter().verify(job), jobs))


@functools.cache
def pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="verifier")


def interpreter(local=threading.local()) -> "Interpreter":
    """The interpreter that the current thread feeds."""
    if not hasattr(local, "interpreter"):
        local.interpreter = Interpreter()
    return local.interpreter


class Interpreter:
    """A process that verifies one job at a time; replaced when it hangs or dies."""

    process = None

    def verify(self, job: tuple[str, str, str]) -> str:
        try:
            if self.process is None:
                command = [sys.executable, __file__, "work"]
                self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                self.receive(timeout=120)  # it has imported math-verify
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
            return self.receive(JOB_WALL_S)
        except (OSError, ValueError):
            self.process.kill()
            self.process.wait()
            self.process = None
            return "error"

    def receive(self, timeout: float) -> str:
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            raise OSError("no verdict in time")
        return json.loads(self.process.stdout.readline())


def work():
    """The interpreter's side: one line in, one verdict out, until the trainer is gone."""
    import math_verify  # noqa: F401  a second that the first job should not wait for

    libc, (DIE_WITH_PARENT, ADOPT_ORPHANS) = ctypes.CDLL(None), (1, 36)  # of prctl(2)
    libc.prctl(DIE_WITH_PARENT, signal.SIGKILL), libc.prctl(ADOPT_ORPHANS, 1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable(logging.CRITICAL)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a verifier prints is no verdict
    verdict = "ready"
    for line in itertools.chain([None], sys.stdin):
        if line is not None:
            name, response, answer = json.loads(line)
            try:
                verdict = load(name)[1](response, answer)
                verdict = {True: "right", False: "wrong"}.get(verdict, verdict)
                if verdict not in VERDICTS:
                    raise ValueError(f"{name} must return True, False or one of {VERDICTS}, not {verdict!r}")
            except (Exception, OutOfTime):
                verdict = "error"
                if name not in BUILT_IN:
                    traceback.print_exc()  # the author of the verifier wants to see it
        replies.write(json.dumps(verdict) + "\n")
        replies.flush()


if __name__ == "__main__":
    {"work": work, "tests": tests}[sys.argv[1]]()
