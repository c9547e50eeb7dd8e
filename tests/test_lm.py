"""The problems of results/lm.py: what they ask has the answer that they say, and the hint is the same question."""

import random
import re
import sys

import pytest
from conftest import ROOT

import verifiers

sys.path.insert(0, str(ROOT / "results"))
import lm  # noqa: E402


def solve(task, question):
    """The answer, by another way than the generator's."""
    if task is lm.who:
        wanted = re.search(r"Who has (\d+) ", question)[1]
        return re.search(rf"(\w+) has {wanted} \w+\.", question)[1]
    words = re.search(r": (.*?)\.", question)[1].split(", ")
    return words[-1] if task is lm.last else words[words.index(re.search(r"after (\w+)\?", question)[1]) + 1]


@pytest.mark.parametrize("task", lm.EXAMPLES)
def test_questions_and_hints_have_the_answer(task):
    rng = random.Random(1)
    for _ in range(200):
        question, answer, hint = task(rng)
        assert solve(task, question) == solve(task, hint) == answer and len(hint) < len(question)
        assert verifiers.math_verdict(rf"It is \boxed{{{answer}}}.", answer) == "right"
        others = set(re.findall(r"[A-Z]?[a-z]+", question)) - {answer}
        assert all(verifiers.math_verdict(rf"\boxed{{{other}}}", answer) == "wrong" for other in sorted(others)[:3])


def test_chance_is_that_of_the_words_that_could_be_meant():
    rng = random.Random(2)
    choices = {"last": 5, "after": 3, "who": 6}  # after: the first of the four words follows none
    for task in lm.EXAMPLES:
        answers = [task(rng) for _ in range(20)]
        names = [len(re.findall(r" has \d+ \w+\.", q)) if task is lm.who else q.count(", ") + 1 for q, *_ in answers]
        assert set(names) == {choices[task.__name__] + (task is lm.after)}
        assert lm.CHANCE[task.__name__] == pytest.approx(1 / choices[task.__name__])


def test_the_examples_are_right():
    for task, (question, solution) in lm.EXAMPLES.items():
        assert verifiers.math_verdict(solution, solve(task, question)) == "right"


def test_no_problem_is_in_both_files(tmp_path, monkeypatch):
    monkeypatch.setattr(lm, "WORK", tmp_path)
    lm.write_problems()
    train, test = ({line for line in open(tmp_path / f"{name}.jsonl")} for name in ("train", "test"))
    assert len(train) == 600 and len(test) == 48 and not train & test
