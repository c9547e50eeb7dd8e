"""Is the answer right? The one module that the training scripts share.

A verifier gives a response one of four verdicts, of which only `right` earns the reward of 1:

    right      the final answer equals the reference, or the code passes every test
    wrong      it does not
    unparsed   there is no final answer to compare, or nothing readable in it
    error      the comparison itself failed or took too long

A problem names its verifier: `math` (numbers, expressions, sets, intervals, words), `choice` (a letter, or the text of
that option), `code` (the last fenced block, run against tests: sandbox.py), or your own as FILE.py:FUNCTION, where
function(response, answer) gives a verdict, or True or False.

Equality in `math` is math-verify's. What we do before it, and why:

    reading.notation        its parser refuses some signs and commands, and drops `more`, `less` and `square` as units
    Exact                   it compares decimals to six places after the point
    parse                   it takes 1, 1 for 1, {{1}} for {1}, and 2, 1 for x = 1, y = 2
    same, solution          it solves 1 = 72 by 72, takes 1 + 1 = 3 for 2 + 2 = 5, and 10^-16 for 0
    equal                   12.5% is not 12.5 to it, and both (1, 2) and 1 < x < 2 are {1, 2}
    reading.worth_parsing   it reads what \\phantom hides, and takes minutes for deep nesting
    LITERAL, words          it drops a base, divides 12:30, takes dy/dx for 0, gcd(m, n) for 1, `listen` for a product
"""

import contextlib
import ctypes
import functools
import logging
import multiprocessing.connection
import os
import re
import resource
import runpy
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor

import latex2sympy2_extended as latex
import math_verify
import sympy
from sympy.core.function import AppliedUndef

import reading
import sandbox

VERDICTS = ("right", "wrong", "unparsed", "error")
MATH_CPU_S = 2  # of the processor, not of the clock, so that a busy machine gives the same verdicts
JOB_WALL_S = sandbox.RUNS_WALL_S + 15  # then the interpreter is killed, whatever it is doing

# ----------------------------------------------------------------------------------------------------------------- math
THINKING = re.compile(r"(?s)\A(?:.*</think>)?(?:.*<think>.*)?")  # up to its end, or all if that never came
BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
JOINED = re.compile(r"(?:[^A-Za-z=]|\b(?:and|or|text|q?quad)\b|\b\w\w?\s*=)*")  # between two boxes of one answer
LISTED = re.compile(r"(?is)(?:(?!\b(?:no|not|but|wait|wrong|actually|instead|mistake|sorry|correct)).)*")
SAYS = re.compile(
    r"(?i)(?:answers?(?: to (?:the|this) [a-z]+)?\W{0,4}(?:is|are|equals|(?:should|must|would|will|has to) be)\b:?|"
    r"answer\W{0,2}[:=]|answer\*{0,2}\s*?\n|<answer>|####)"
    r"(?:[*\s$`]|\\[\[(]|(?:therefore|thus|then|simply|equal to|the(?:re)?\b[^.\n\d]*? (?:is|are))\b)*"
)
AFTERTHOUGHT = re.compile(
    r"</answer>|,? (?:because|since)\b|, (?:as|which|so|where|when|but|not|i\.e\.)(?!\w)|; (?=[a-z]{2,} )|—(?!\d)|"
    r"[.!] +[A-Z]| \([a-z ]+\)|! *$"
)
LITERAL = re.compile(r"\d\)?_|\d:\d\d(?!\d)|:.*:|\^T\b|\\[lc]?dots|\.\.|\d\"|frac(?:d|\\partial)[^d\W](?:d|\\partial)"
                     r"|(?:gcd|lcm)\W*\d*[A-Za-z]")
NUMBER = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40}|/[1-9][0-9]{0,40})?")


class Exact(latex.latex2sympy2._Latex2Sympy):
    def parse_number(self, text: str):
        return sympy.Rational(text.replace(",", ""))  # a decimal as a fraction


def boxed(text: str, between: re.Pattern = JOINED) -> str:
    """What the last \\boxed{...} holds, braces nested to any depth, after what the boxes before it hold if all the text
    `between` matches. Empty if there is none or if it never closes, as in a response that was cut."""
    contents, end = [], 0
    while box := BOX.search(text, end):
        if contents and not between.fullmatch(text, end, box.start()):
            contents = []
        depth, end = 1, box.end()
        while depth and end < len(text):
            depth += (text[end] == "{") - (text[end] == "}")
            end += 1
        contents.append("" if depth else BOX.sub("{", text[box.end() : end - 1]).strip())
    return ", ".join(dict.fromkeys(contents)) if all(contents) else ""


def final_answer(response: str, between: re.Pattern = JOINED, likely=re.compile(r"[\d\\]").search) -> str:
    """The last box after the end of any thinking. A response without a box may say `answer is ...`, `Answer: ...`,
    `<answer>...` or `#### ...`, of which the last `likely` one counts (default: with a digit or LaTeX), else the last
    one, to the end of its line or sentence. Empty if there is nothing of the kind."""
    response = THINKING.sub("", response)
    if r"\boxed" in response or r"\fbox" in response:
        return boxed(response, between)
    said = [AFTERTHOUGHT.split(rest.split("\n")[0])[0].strip(" *$`_.") for rest in SAYS.split(response[-4000:])[1:]]
    return next((text for text in reversed(said) if likely(text)), said[-1] if said else "")


@functools.lru_cache(4096)
def parse(text: str) -> tuple:
    """A final answer as a sympy object (None: unreadable), and its unit, or the variables that it gives values to."""
    if not reading.worth_parsing(text):
        return None, ""
    text, label = reading.notation(text)
    if NUMBER.fullmatch(text):
        return sympy.Rational(text), label
    degrees = re.search(r"\\(?:sin|cos|tan|cot|sec|csc)\b", text) is not None
    try:
        spelled = latex.normalize_latex(text, latex.NormalizationConfig(malformed_operators=True, boxed="none"))
        value = Exact(None, None, degrees, latex.latex2sympy2.ConversionConfig(lowercase_symbols=False)).parse(spelled)
        value = value.subs("i", sympy.I) if sympy.Symbol("i") in value.free_symbols else value
    except Exception:
        return None, ""
    parts = getattr(value, "_unsorted_args", [value])  # of a chain of relations, and of a set
    names = {str(part.lhs) for part in parts if isinstance(part, sympy.Eq)}
    relations = all(isinstance(part, (sympy.Rel, sympy.And)) for part in parts)  # And: 1 < x < 2
    if isinstance(value, sympy.FiniteSet) and (len(names) > 1 or len(parts) > len(value)):
        label = ",".join(sorted(names))  # x = 1, y = 2 in the order of the names; and 1, 1 is not 1
        value = sympy.Tuple(*(getattr(part, "rhs", part) for part in sorted(parts, key=str)))
    elif relations and {*map(type, parts)} != {sympy.Eq} and len(value.free_symbols) == 1:
        label = str(*value.free_symbols)
        either = re.search(r"\bor\b", text) or "," in text and sympy.And(*parts).as_set() == sympy.S.EmptySet
        value = (sympy.Or if either else sympy.And)(*parts).as_set()  # x < 1, x > 3 means or
    nested = isinstance(value, sympy.FiniteSet) and any(isinstance(part, sympy.FiniteSet) for part in value)
    empty = value == sympy.S.EmptySet and re.search(r"\d", text)  # (5, 3] is a mistake, and no other's equal
    return None if nested or empty or value is sympy.zoo else value, label


@functools.lru_cache(4096)
def equal(given: str, answer: str) -> bool:
    skip = r"\\(?:left|right|triangle|angle)|\\[,;:! ]|[\s$]|(?<!\\)[{}]|\((?=\w+\)_)|(?<=\w)\)(?=_)|(?<!\.)\.(?![\d.])"
    texts = [reading.TEXT.sub(r"\1", text) for text in (given, answer)]
    plain = [re.sub(skip, "", text) for text in texts]
    literally = plain[0].casefold() == plain[1].casefold()
    words = all(text.isalpha() and len(text) > (1 if literally else 2) for text in plain)  # but xy is yx
    if texts[0] == texts[1] or words or any(LITERAL.search(text) for text in plain):
        return literally
    (a, label), (b, other_label) = parse(given), parse(answer)
    if a is None or b is None or label and other_label and label != other_label:
        return plain[0] == plain[1]
    values = [re.sub(r"^\w*(?:=|\\in)", "", text) for text in plain]
    mixed = any(x.startswith(("(", r"\langle")) for x in values) and any(x.startswith(r"\{") for x in values)
    ends = label + other_label and {type(x).__name__ for x in (a, b)} == {"Interval", "FiniteSet"}  # of 1 < x < 2
    if ends or mixed and not all(isinstance(value, sympy.FiniteSet) for value in (a, b)):
        return False  # an order, and none
    percent, number = (a, b) if label == "percent" else (b, a)
    if {label, other_label} == {"percent", ""} and isinstance(percent, sympy.Expr):  # 50% is 50, and 0.5
        return same(percent / 100, number) or (abs(percent) < 1) is not sympy.true and same(percent, number)
    return same(a, b)


def same(a, b) -> bool:
    """math-verify's equality, but of numbers relative to their size, and of an equation with a number only where that
    is its solution."""
    if not all(isinstance(x, sympy.Eq) and x.free_symbols for x in (a, b)):
        a, b = solution(a, given=True), solution(b)
    if a is None or b is None:
        return False
    if a == b or all(isinstance(x, (sympy.Rational, sympy.Symbol)) for x in (a, b)):
        return bool(a == b)
    if all(isinstance(x, sympy.Expr) and x.is_number for x in (a, b)):
        difference = abs(sympy.N(a / b, 400) - 1)
        if difference.is_Float:
            return bool(difference < 10 ** sympy.Integer(-390))
    if isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr):  # as a function of real numbers
        a, b = (x.subs({s: sympy.Symbol(s.name, real=True) for s in x.free_symbols}) for x in (a, b))
    if isinstance(a, sympy.Tuple):
        a, b = b, a  # of a tuple that comes first it keeps the order
    return math_verify.verify(b, a, numeric_precision=400, allow_set_relation_comp=True, timeout_seconds=None)


def solution(value, given: bool = False):
    """5 of x = 5, of f(2) = 2 + 3 = 5, of A = bh = 5 and of 2 + 3 = 5; nothing of 1 = 5 and 2x = 5. For what was given
    a number may have been asked, so that 100m - n = 5 is 5 as well; as a reference it is an equation."""
    equations = value._unsorted_args if isinstance(value, sympy.And) else [value]
    if not all(isinstance(equation, sympy.Eq) for equation in equations):
        return value
    *sides, last = equations[0].lhs, *(equation.rhs for equation in equations)
    asked = last.is_number and (sides[0].has(AppliedUndef) or given and len(sides[0].free_symbols) > 1)
    named = bool(asked) or isinstance(sides[0], AppliedUndef) or latex.is_expr_of_only_symbols(sides[0])
    formula = lambda side: named and side.free_symbols and not side.has(sides[0])
    return last if all(same(last, side) or formula(side) for side in sides[named:]) else None


def final_reference(answer: str, readable=reading.worth_parsing, what: str = "the answer") -> str:
    """The final answer of a dataset's solution: after GSM8K's ####, else in its boxes, else all of it."""
    final = answer.rpartition("####")[2]
    final = (boxed(final) if BOX.search(final) else final).strip(" \n\t$")
    if not final or not readable(final):
        raise ValueError(f"cannot read {what} in {answer[-80:]!r}")
    return final


def math_verdict(response: str, answer: str) -> str:
    given = final_answer(response)
    if not given:
        return "unparsed"
    if equal(given, answer) or "," in answer and equal(final_answer(response, LISTED), answer):
        return "right"
    return "wrong" if parse(given)[0] is not None else "unparsed"


# --------------------------------------------------------------------------------------------------------------- choice
def choice_verdict(response: str, answer: str) -> str:
    """The answer is `B`, or with its text `B. Paris`, so that the text alone is right too. Where `final_answer` finds
    nothing, a last line that is a letter alone, or the right option, counts as well. The letter counts, whatever
    follows it, unless that is a second letter or not the text of the reference."""
    right, text = reading.choice_parts(answer)
    given = final_answer(response, likely=re.compile(r"[A-Z\d\\]|^\W*\w\W*$").search)  # not `the others are wrong`
    if not given and r"\boxed" not in response:
        line = THINKING.sub("", response).strip().rpartition("\n")[2][-reading.LONGEST:].replace("*", "")
        said = None if reading.choice_parts(line)[1] in ("", text) else reading.CHOOSES.fullmatch(line)
        letter, words = reading.choice_parts(said[1] if said else line)
        given = f"{letter}. {words}" if letter and (said or words in ("", text)) else ""
    if not 0 < len(given) <= reading.LONGEST:
        return "unparsed"
    letter, words = reading.choice_parts(given)
    if not letter:
        named = words in (f"{right} {text}".lower(), f"{text} ({right}".lower())
        return "right" if text and (words == text or named) else "wrong"
    cut = r"\boxed" not in response and re.match(re.escape(words) + r"(?<=\w)(?<!\d)(?!\w)", text)  # Yes, because ...
    same_text = cut or re.match(re.escape(text) + r"(?!\w)", words) or reading.bare(words) == reading.bare(text)
    other = text and words and not (same_text or equal(words, text)) or reading.SECOND.match(words.removeprefix(text))
    return "right" if letter == right and not other else "wrong"


# ----------------------------------------------------------------------------------------------------------------- pool
BUILT_IN = {
    "math": (final_reference, math_verdict),
    "choice": (lambda a: final_reference(a, lambda t: reading.choice_parts(t)[0], "a letter A to J"), choice_verdict),
    "code": (reading.code_tests, sandbox.code_verdict),
}


@functools.cache
def load(name: str):
    """(reference, verdict) of a verifier by name. Raises ValueError with a sentence if there is none."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    path, _, function = name.rpartition(":")
    if not path.endswith(".py") or not os.path.isfile(path):
        raise ValueError(f"there is no {name!r}: use {', '.join(BUILT_IN)}, or FILE.py:FUNCTION of a file")
    verdict = runpy.run_path(path).get(function)
    if not callable(verdict):
        raise ValueError(f"{path} has no function {function!r} to verify with")
    return str, verdict


def reference(answer, verifier: str = "math") -> str:
    """The dataset's answer, a text, a number or a list or dict of them, in the form that `verify` wants. Raises
    ValueError with a sentence when it cannot be read."""
    return load(verifier)[0](reading.as_text(answer, verifier))


def read_row(row: dict, verifier: str, instruction: str) -> dict:
    """What a row of a dataset asks and what is right: `messages` (chat turns), `answer` as `verify` wants it,
    `verifier`, `level` and `hint`. Raises ValueError with a sentence."""
    row = reading.row_parts(row, verifier, instruction)
    return row | {"answer": reference(row["answer"], row["verifier"])}


def verify(jobs: list[tuple[str, str, str]], workers: int | None = None) -> list[str]:
    """A verdict for each (verifier, response, reference), in their order, which changes nothing; nor does `workers`,
    the number of interpreters (default: one per processor, shared with the machine's other ranks under torchrun)."""
    if any(name == "code" for name, *_ in jobs) and "unshare" not in sandbox.sandbox():
        sandbox.undumpable()
        warnings.warn("without `unshare`, code has network, files and processes in reach, see docs/verifiers.md")
    processors = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return list(pool(workers or max(1, processors)).map(ask, jobs))


pool = functools.cache(ThreadPoolExecutor)
local = threading.local()  # each thread of a pool feeds an interpreter of its own, one job at a time


def ask(job: tuple[str, str, str]) -> str:
    """A job that takes too much time or memory is an error; its interpreter is killed, the next job gets another."""
    seconds = JOB_WALL_S
    if not hasattr(local, "process"):
        seconds += 120  # it imports math-verify
        local.pipe, theirs = multiprocessing.Pipe()  # sockets, which no program can open by /proc/PID/fd
        command = [sys.executable, __file__, str(theirs.fileno())]
        local.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)  # without Ctrl-C
        theirs.close()
    with contextlib.suppress(OSError, EOFError):
        local.pipe.send(job)
        if local.pipe.poll(seconds):
            return local.pipe.recv()
    local.process.kill()
    local.process.wait()
    del local.process
    return "error"


def work(pipe: multiprocessing.connection.Connection):
    """The interpreter's side: a job in, its verdict out, until the trainer is gone."""
    libc, (DIE_WITH_PARENT, ADOPT_ORPHANS) = ctypes.CDLL(None), (1, 36)  # of prctl(2)
    libc.prctl(DIE_WITH_PARENT, signal.SIGKILL), libc.prctl(ADOPT_ORPHANS, 1)
    sandbox.undumpable()
    resource.setrlimit(resource.RLIMIT_AS, (sandbox.MEMORY, sandbox.MEMORY))
    signal.signal(signal.SIGPROF, signal.default_int_handler)  # a KeyboardInterrupt: sympy catches every Exception
    logging.disable(logging.CRITICAL)
    while True:
        name, response, answer = pipe.recv()
        try:
            signal.setitimer(signal.ITIMER_PROF, MATH_CPU_S if name in ("math", "choice") else 0)
            verdict = load(name)[1](response, answer)
            verdict = {True: "right", False: "wrong"}.get(verdict, verdict)
            if verdict not in VERDICTS:
                raise ValueError(f"{name} must return True, False or one of {VERDICTS}, not {verdict!r}")
        except BaseException:
            verdict = "error"
            if name not in BUILT_IN:
                traceback.print_exc()  # the author of the verifier wants to see it
        signal.setitimer(signal.ITIMER_PROF, 0)
        pipe.send(VERDICTS[VERDICTS.index(verdict)])  # a plain text, whatever the verifier's was


if __name__ == "__main__":
    with contextlib.suppress(EOFError):
        work(multiprocessing.connection.Connection(int(sys.argv[1])))
