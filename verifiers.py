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

Code runs in sandbox.py, which says what it keeps a solution from.
"""

import contextlib
import ctypes
import functools
import importlib.util
import itertools
import json
import logging
import os
import re
import resource
import secrets
import select
import signal
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sandbox

VERDICTS = ("right", "wrong", "unparsed", "error")
MATH_CPU_S = 2  # of the processor, not of the clock, so that a busy machine gives the same verdicts
JOB_WALL_S = sandbox.RUNS_WALL_S + 15  # then the interpreter is killed, whatever it is doing
LONGEST, DEEPEST = 1000, 20  # characters and nested brackets of an answer that is worth parsing
logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it warns that we keep the time ourselves


class OutOfTime(BaseException):
    """Not an Exception: sympy catches those."""


# ----------------------------------------------------------------------------------------------------------------- math
BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
SAYS = re.compile(r"(?:answer\W{0,4}is\b:?|answer\W{0,2}:|<answer>|####)[*\s$]*", re.IGNORECASE)
AFTERTHOUGHT = re.compile(r"</answer>|, (?:because|since|as) |\. +[A-Z]| \([a-z ]+\)")
DENIED = re.compile(r"\\(?:neg|lnot|not|neq|ne|cancel|bcancel|xcancel|phantom)\b|\\text\{[^}]*\b(?:not|wrong)\b")
UNITS = re.compile(r"^(\\?\$?-?[\d,]*\.?\d+(?:/\d+)?)(?: (?!(?:and|or|to|not)\b)[A-Za-z]+){1,4}(?:\^\{?\d\}?)?$")
REPEATING = re.compile(r"(\d*)\.(\d*)\\overline\{(\d+)\}")
INTEGER = re.compile(r"-?[1-9][0-9]{0,30}|0")


def last_boxed(text: str) -> str | None:
    """What the last \\boxed{...} in `text` holds, braces nested to any depth; None if there is none or if it never
    closes, as in a response that was cut.

    >>> last_boxed(r"first \\boxed{1}, no: \\boxed{\\frac{1}{2}}")
    '\\\\frac{1}{2}'
    """
    start, depth = max((box.end() for box in BOX.finditer(text)), default=0), 1
    for i in range(start, len(text)) if start else ():
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start:i].strip()
    return None


def final_answer(response: str) -> str | None:
    """The last box after the end of any thinking. A response without a box may say `answer is ...`, `Answer: ...`,
    `<answer>...` or `#### ...`, of which the last one with a digit or LaTeX counts, else the last one, to the end of
    its line or sentence. None if there is nothing of the kind."""
    if "<think>" in response and "</think>" not in response:
        return None
    response = response.rpartition("</think>")[2]
    if r"\boxed" in response or r"\fbox" in response:
        return last_boxed(response)
    said = [AFTERTHOUGHT.split(rest.split("\n")[0])[0] for rest in SAYS.split(response[-4000:])[1:]]
    said = [re.sub(r"^[\s*$`_]+|[\s*$`_.]+$", "", text) for text in said]
    return next((s for s in reversed(said) if re.search(r"[\d\\]", s)), said[-1] if said else None)


@functools.lru_cache(4096)
def parse(expression: str) -> list:
    """math-verify's reading of a final answer, after spellings that it would misread: spaced thousands, mixed numbers
    written as text, units, repeating decimals, a trailing point. Empty if it cannot be read."""
    import math_verify

    brackets = ((c in "({[") - (c in ")}]") for c in expression)
    if len(expression) > LONGEST or max(itertools.accumulate(brackets, initial=0)) > DEEPEST:
        return []
    if DENIED.search(expression):
        return []  # it would drop the command and keep what it denies
    expression = re.sub(r"[€£]|\\text\{(?:\\\$|Rs\. ?)\}", "", re.sub(r"\\! *", "", expression))
    expression = re.sub(r"(?<!\\)\\[,;: ]|~", " ", expression.replace(r"\text{,}", ",")).strip(" $")
    expression = re.sub(r"(?<![\d.])\d{1,3}(?: \d{3})+(?![\d.])", lambda m: m[0].replace(" ", ""), expression)
    expression = re.sub(r"(?<![\d./])(\d+) +(\d+)/(\d+)(?![\d./])", r"\1\\frac{\2}{\3}", expression)
    expression = UNITS.sub(r"\1", re.sub(r"([\d.])\.$", r"\1", expression))
    expression = REPEATING.sub(repeating_fraction, expression)
    return math_verify.parse(rf"\boxed{{{expression}}}", parsing_timeout=None, raise_on_error=True)


def repeating_fraction(match: re.Match) -> str:
    """0.1\\overline{6} as a fraction: (16 − 1) / 90."""
    whole, fixed, repeated = match.groups()
    numerator = int(whole + fixed + repeated) - int(whole + fixed or 0)
    return rf"\frac{{{numerator}}}{{{(10 ** len(repeated) - 1) * 10 ** len(fixed)}}}"


def equal(given: str, answer: str) -> bool:
    import math_verify

    plain = [re.sub(r"[\s{}$]|\\text(?:bf|it|rm)?|\\mathrm", "", text) for text in (given, answer)]
    if "_" in answer or "_" in given:  # a number's base, which math-verify ignores
        return plain[0] == plain[1]
    if all(len(text) > 1 and text.isalpha() for text in plain):  # a word, not a product of letters
        return plain[0].casefold() == plain[1].casefold()
    if given[:1] in "<>" and answer[:1] not in "<>":
        return False
    return math_verify.verify(parse(answer), parse(given), timeout_seconds=None, raise_on_error=True)


def math_reference(answer: str) -> str:
    """The final answer of a dataset's solution: after GSM8K's ####, else in the last box, else all of it."""
    final = answer.rpartition("####")[2].strip().split("\n")[0] if "####" in answer else answer
    final = last_boxed(final) if BOX.search(final) else final
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
    given = final_answer(response)
    if not given:
        return "unparsed"
    if given == answer:
        return "right"
    if INTEGER.fullmatch(given) and INTEGER.fullmatch(answer):
        return "wrong"  # as math-verify would say, a millisecond later
    with cpu_limit(MATH_CPU_S):
        if not parse(given):
            return "unparsed"
        percent = re.compile(r"\s*\\?%$")  # a reference of 12.5 may mean percent: 12.5% is right too
        same = equal(given, answer) or percent.search(given) and equal(percent.sub("", given), percent.sub("", answer))
        return "right" if same else "wrong"


@contextlib.contextmanager
def cpu_limit(seconds: float):
    def stop(*_):
        raise OutOfTime

    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


# --------------------------------------------------------------------------------------------------------------- choice
def choice_parts(text: str) -> tuple[str, str]:
    """The letter and the words of an option: `(B)`, `**B**`, `B. Paris`, `\\text{B}` and `Paris` have one or both."""
    text = re.sub(r"\\[,;!: ()]|~|\\(?:rm|bf|mathsf)\b", " ", text).replace(r"\%", "%")
    text = re.sub(r"\\(?:text|textbf|mathrm|mathbf)\b|[{}$*_`]", "", text).strip(" .\n\t")
    bare = r"([A-Z])(?=$|\s*[-–]\s|,\s+(?!or\b|and\b|[A-Z]\b)|\s+\(|\s+because\b)"
    pattern = rf"(?:option |choice )?(?:\(([A-Z])\):?|([A-Z])[).:]|{bare})[-–,\s]*(.*)"
    option = re.fullmatch(pattern, text, re.DOTALL | re.IGNORECASE)
    letter, words = ("".join(filter(None, option.groups()[:3])).upper(), option[4]) if option else ("", text)
    return letter, " ".join(words.lower().strip(" ()").split())


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
        said = re.search(r"(?:option|choice) is:? ([^\n]+)", last_line)
        last_line = said[1] if said else last_line
        given = last_line if choice_parts(last_line)[0] and choice_parts(last_line)[1] in ("", right[1]) else None
    if not given or len(given) > LONGEST:
        return "unparsed"
    letter, words = choice_parts(given)
    if not letter:
        return "right" if words and words == right[1] else "wrong"
    several = re.match(r"(?:and|or|,|/|&|is)\b", words) or re.search(r"(?:^|[\s(.,;:])[b-h](?:[.):]|$)", words)
    same_words = not words or re.match(re.escape(right[1]) + r"(?!\w)", words) if right[1] else not several
    return "right" if letter == right[0] and (same_words or words.startswith("because")) else "wrong"


# ----------------------------------------------------------------------------------------------------------------- pool
BUILT_IN = {
    "math": (math_reference, math_verdict),
    "choice": (choice_reference, choice_verdict),
    "code": (sandbox.code_reference, sandbox.code_verdict),
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


PROBLEM = "problem", "question", "prompt"  # columns, of which the first that has a value counts
ANSWER = "answer", "solution", "reward_model.ground_truth", "test_list", "test"


def read_row(row: dict, verifier: str, instruction: str) -> dict:
    """What a row of a dataset asks and what is right: `messages` (chat turns; a text is the user's, then the
    instruction), `answer` as `verify` wants it, `verifier`, `level` and `hint`. A row may be JSON in a column `jsonl`.
    Raises ValueError with a sentence."""
    row = json.loads(row["jsonl"]) if "jsonl" in row else row
    verifier, level = row.get("verifier") or verifier, row.get("level")
    problem, answer = column(row, *PROBLEM), column(row, *ANSWER)
    if isinstance(problem, str):
        problem = [{"role": "user", "content": f"{problem}\n\n{instruction}".strip()}]
    for turn in problem if isinstance(problem, list) else [problem]:
        if not isinstance(turn, dict) or not all(isinstance(turn.get(key), str) for key in ("role", "content")):
            raise ValueError(f"the problem is neither a text nor chat turns of role and content: {problem!r:.80}")
    answer = answer if isinstance(answer, str) else json.dumps(answer)
    return dict(messages=problem, answer=reference(answer, verifier), verifier=verifier, hint=row.get("hint"),
                level="" if level is None else str(level))


def column(row: dict, *names: str):
    for name in names:
        outer, _, inner = name.partition(".")
        value = row.get(outer)
        value = value.get(inner) if inner and isinstance(value, dict) else value
        if value not in (None, "", []):
            return value
    raise ValueError(f"nothing in {', '.join(names)}; its columns are {', '.join(row)}")


def verify(jobs: list[tuple[str, str, str]], workers: int | None = None) -> list[str]:
    """A verdict for each (verifier, response, reference), in their order, which changes nothing; nor does `workers`,
    the number of interpreters (default: one per processor, shared with the machine's other ranks under torchrun)."""
    processors = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return list(pool(workers or max(1, processors)).map(lambda job: interpreter().verify(job), jobs))


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
                command = [sys.executable, __file__]
                pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                self.process = subprocess.Popen(command, start_new_session=True, **pipes)  # Ctrl-C is the trainer's
                self.receive(timeout=120)  # it has imported math-verify
            token = secrets.token_hex()  # a program that finds this pipe's other end still does not know it
            self.process.stdin.write(json.dumps([token, *job]) + "\n")
            self.process.stdin.flush()
            answered, verdict = self.receive(JOB_WALL_S)
            if answered != token:
                raise ValueError("this verdict is not the interpreter's")
            return verdict
        except (OSError, ValueError, TypeError):
            if self.process:
                self.process.kill()
                self.process.wait()
            self.process = None
            return "error"

    def receive(self, timeout: float) -> list[str]:
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            raise OSError("no verdict in time")
        return json.loads(self.process.stdout.readline())


def work():
    """The interpreter's side: one line in, one verdict out, until the trainer is gone."""
    import math_verify  # noqa: F401  a second that the first job should not wait for

    libc, (DIE_WITH_PARENT, ADOPT_ORPHANS) = ctypes.CDLL(None), (1, 36)  # of prctl(2)
    libc.prctl(DIE_WITH_PARENT, signal.SIGKILL), libc.prctl(ADOPT_ORPHANS, 1)
    sandbox.undumpable()
    resource.setrlimit(resource.RLIMIT_AS, (sandbox.MEMORY, sandbox.MEMORY))
    logging.disable(logging.CRITICAL)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a verifier prints is no verdict
    token, verdict = None, "ready"
    for line in itertools.chain([None], sys.stdin):
        if line is not None:
            token, name, response, answer = json.loads(line)
            try:
                verdict = load(name)[1](response, answer)
                verdict = {True: "right", False: "wrong"}.get(verdict, verdict)
                if verdict not in VERDICTS:
                    raise ValueError(f"{name} must return True, False or one of {VERDICTS}, not {verdict!r}")
            except (Exception, OutOfTime):
                verdict = "error"
                if name not in BUILT_IN:
                    traceback.print_exc()  # the author of the verifier wants to see it
        replies.write(json.dumps([token, verdict]) + "\n")
        replies.flush()


if __name__ == "__main__":
    work()
