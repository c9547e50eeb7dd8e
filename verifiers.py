"""Is the answer right? The one module that the training scripts share.

A verifier compares a model's response with a problem's answer and gives one of four verdicts:

    right      the final answer equals the reference
    wrong      it does not
    unparsed   there is no final answer to compare: no complete \\boxed{...}, or nothing readable inside
    error      the comparison itself failed; never the model's merit, and logged as a rate of its own

Only `right` earns the reward of 1. Parsing and symbolic equality are math-verify's.
"""

import logging

import math_verify
from math_verify.errors import TimeoutException  # a BaseException: `except Exception` lets it through

VERDICTS = ("right", "wrong", "unparsed", "error")
TIMEOUT_S = 5  # seconds for one parse or one comparison, as in the Guide paper's released code

logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # a slow answer is a verdict here, not a log line


def last_boxed(text: str) -> str | None:
    """What the last complete \\boxed{...} in `text` holds, braces nested to any depth; None without one.

    >>> last_boxed(r"first \\boxed{1}, no: \\boxed{\\frac{1}{2}}")
    '\\\\frac{1}{2}'
    """
    end = len(text)
    while (start := text.rfind(r"\boxed{", 0, end)) >= 0:
        depth, inside = 0, start + len(r"\boxed{")
        for i in range(inside - 1, len(text)):
            depth += {"{": 1, "}": -1}.get(text[i], 0)
            if depth == 0:
                return text[inside:i].strip()
        end = start  # this box never closes (a truncated response): look for an earlier one
    return None


def parse(expression: str) -> list:
    """math-verify's reading of the inside of a box; empty when it cannot be read. Raises on a timeout."""
    return math_verify.parse(rf"\boxed{{{expression}}}", parsing_timeout=TIMEOUT_S, raise_on_error=True)


def reference(answer: str) -> str:
    """The final answer in a dataset's answer column: after GSM8K's ####, else in the last box, else all of it.

    Raises ValueError when nothing is left or math-verify cannot read it.

    >>> reference("48 / 2 = 24 clips in May. 48 + 24 = 72.\\n#### 72")
    '72'
    """
    final = answer.rsplit("####")[-1] if "####" in answer else last_boxed(answer) or answer
    final = final.strip().removeprefix("$").removesuffix("$").strip()
    if not final or not parse(final):
        raise ValueError(f"cannot parse the answer {answer[-80:]!r}")
    return final


def verify(response: str, answer: str) -> str:
    """The verdict on one response, given the reference answer as `reference` returns it."""
    try:
        given = last_boxed(response)
        if given is None:
            return "unparsed"
        if given == answer:
            return "right"
        parsed = parse(given)
        if not parsed:
            return "unparsed"
        equal = math_verify.verify(parse(answer), parsed, timeout_seconds=TIMEOUT_S, raise_on_error=True)
        return "right" if equal else "wrong"
    except (Exception, TimeoutException):  # sympy raises anything on hostile input; the verdict keeps it visible
        return "error"
