"""Rows of datasets as they are published: what is asked, and what is right."""

import datetime
import json

import pytest

import verifiers

OPTIONS = ["Rome", "Paris", "Bern", "Oslo"]
ASKED = "Capital of France?\nA. Rome\nB. Paris\nC. Bern\nD. Oslo\n\nBox it."


def read(row, verifier="math", instruction="Box it."):
    return verifiers.read_row(row, verifier, instruction)


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Capital of France?", "options": OPTIONS, "answer": "B", "answer_index": 1, "category": "x"},
        {"question": "Capital of France?", "choices": {"text": OPTIONS, "label": [*"ABCD"]}, "answerKey": "B"},
        {"question": "Capital of France?", "choices": {"text": OPTIONS, "label": [*"1234"]}, "answerKey": "2"},
        {"question": "Capital of France?", "choices": OPTIONS, "answer": 1, "subject": "x"},
        {"question": "Capital of France?", "choices": OPTIONS, "answer": "1"},
        {"question": "Capital of France?", "options": dict(zip("ABCD", OPTIONS)), "answer": "B"},
        {"question": "Capital of France?", "options": OPTIONS, "answer": "Paris"},
        {"question_stem": "Capital of France?", "choices": {"text": OPTIONS, "label": [*"ABCD"]}, "answerKey": "B"},
        {"question": "Capital of France?", "options": OPTIONS, "answer": "(B)"},
        {"question": "Capital of France?", "options": ["A. Rome", "B. Paris", "C. Bern", "D. Oslo"], "answer": "B"},
        {"question": "Capital of France?", "options": ["A)Rome", "B)Paris", "C)Bern", "D)Oslo"], "answer": "B. Paris"},
        {"question": "Capital of France?", "options": dict(zip("1234", OPTIONS)) | {"5": None}, "answer": 2},
        {"question": "Capital of France?", "choices": {"text": OPTIONS, "label": [*"1234"]}, "answerKey": 2},
        {"Question": "Capital of France?", **dict(zip("ABCD", OPTIONS)), "Answer": "B"},
        {"Question": "Capital of France?", **dict(zip("ABCD", OPTIONS)), "E": None, "I": "7", "Answer": "B"},
        {"question": "Capital of France?", "options": ["A)Rome", "B)Paris", "C)Bern", "D)Oslo"], "correct": "B"},
        {"jsonl": json.dumps({"question": "Capital of France?", "choices": OPTIONS, "answer": 1})},
    ],
)
def test_multiple_choice_is_asked_with_its_options(row):
    problem = read(row, "choice")
    assert problem["messages"] == [{"role": "user", "content": ASKED}]
    assert problem["answer"] == "B. Paris"


def test_gpqa_is_shuffled_always_in_the_same_way():
    row = {"Question": "Capital of France?", "Correct Answer": "Paris\n"}
    row |= {f"Incorrect Answer {i + 1}": town for i, town in enumerate(["Rome", "Bern", "Oslo"])}
    places = set()
    for i in range(20):
        problem = read(row | {"Incorrect Answer 1": f"Rome {i}"}, "choice")
        assert f"\n{problem['answer']}\n" in problem["messages"][0]["content"]
        assert problem == read(row | {"Incorrect Answer 1": f"Rome {i}"}, "choice")
        places.add(problem["answer"])
    assert places == {"A. Paris", "B. Paris", "C. Paris", "D. Paris"}


def test_gpqa_whose_texts_are_letters():
    row = {"Question": "Which base pairs with A?", "Correct Answer": "B"}
    row |= {f"Incorrect Answer {i + 1}": letter for i, letter in enumerate("ACD")}
    assert read(row, "choice")["answer"][1:] == ". B"


@pytest.mark.parametrize("row", [{"options": OPTIONS, "answer": "B"}, {"Correct Answer": "Paris"}])
def test_a_multiple_choice_is_not_asked_without_its_options(row):
    with pytest.raises(ValueError, match="the row is a multiple choice: pass --verifier choice"):
        read({"question": "Capital of France?"} | row)


def test_columns_of_options_that_hold_none():
    for row in ({"Correct Answer": None}, {"choices": {"text": None, "label": None}}, {"options": []}):
        assert read({"question": "1 + 1?", "answer": "2"} | row)["answer"] == "2"


@pytest.mark.parametrize("answer", ["E", 4, -1, "London", "4"])
def test_an_answer_that_is_none_of_the_options(answer):
    with pytest.raises(ValueError, match="the answer '.*' is none of the options"):
        read({"question": "?", "choices": OPTIONS, "answer": answer}, "choice")


def test_options_that_are_no_texts_or_too_many():
    for options in ("A, B", [None, "x"], [*"abcdefghijk"]):
        with pytest.raises(ValueError, match="the options are not a list of at most 10 texts"):
            read({"question": "?", "choices": options, "answer": "A"}, "choice")


@pytest.mark.parametrize(
    "answer, verifier, expected",
    [
        (7, "math", "7"),
        (0, "math", "0"),
        (2**80 + 1, "math", str(2**80 + 1)),
        (0.5, "math", "0.5"),
        (0.1 + 0.2, "math", "0.3"),
        (72.0, "math", "72"),
        (["3", "4"], "math", "3, 4"),
        ([3, 4], "math", "3, 4"),
        (["72"], "math", "72"),
        ('["72"]', "math", "72"),  # Skywork-OR1's
        ('["', "math", '["'),
        (["B"], "choice", "B"),
        ("\\boxed{1} and \\boxed{2}", "math", "1, 2"),
        ("First \\boxed{71}, but no: \\boxed{72}", "math", "72"),
    ],
)
def test_references_of_any_type(answer, verifier, expected):
    assert verifiers.reference(answer, verifier) == expected


@pytest.mark.parametrize("answer", [None, "", " \n", [], {}, [None]])
def test_empty_answers(answer):
    with pytest.raises(ValueError, match="the answer is empty"):
        verifiers.reference(answer)


@pytest.mark.parametrize("answer", [b"72", datetime.date(2025, 1, 1), {"a": 1}, [["3"]]])
def test_answers_of_no_use(answer):
    with pytest.raises(ValueError, match="the answer is neither a text nor a number"):
        verifiers.reference(answer)


def test_numbers_that_are_none_or_may_be_others():
    for answer in (float("nan"), float("inf"), 2.0**60):
        with pytest.raises(ValueError, match="may have lost digits as a floating-point number: write it as text"):
            verifiers.reference(answer)


def test_a_list_is_several_answers_in_any_order():
    reference = verifiers.reference(["3", "4"])
    assert verifiers.math_verdict("\\boxed{4, 3}", reference) == "right"
    assert verifiers.math_verdict("\\boxed{3} and \\boxed{4}", reference) == "right"
    assert verifiers.math_verdict("\\boxed{4}", reference) == "wrong"


def test_integers_beyond_64_bits_stay_exact():
    row = {"jsonl": '{"problem": "?", "answer": 123456789012345678901234567890}'}
    assert read(row)["answer"] == "123456789012345678901234567890"


@pytest.mark.parametrize("level, expected", [(0, "0"), (3, "3"), ("Level 5", "Level 5"), (None, "")])
def test_levels(level, expected):
    assert read({"problem": "?", "answer": "1", "level": level})["level"] == expected


def test_a_chat_is_used_as_it_is():
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]
    assert read({"prompt": chat, "answer": 2})["messages"] == chat


@pytest.mark.parametrize(
    "problem",
    [[{"from": "human", "value": "?"}], ["?"], [{"role": "user", "content": None}],
     [{"role": "user", "content": [{"type": "text", "text": "?"}]}], 7, {"role": "user"}],
)  # fmt: skip
def test_problems_in_another_form(problem):
    with pytest.raises(ValueError, match="the problem is neither a text nor chat turns of role and content"):
        read({"problem": problem, "answer": "1"})


@pytest.mark.parametrize("problem", ["", "  \n", None, []])
def test_empty_problems(problem):
    with pytest.raises(ValueError, match="the problem is empty"):
        read({"problem": problem, "answer": "1"})


@pytest.mark.parametrize("text", ["{", "7", "[1, 2]", ""])
def test_rows_that_are_no_json_object(text):
    with pytest.raises(ValueError, match="the row is no JSON object"):
        read({"jsonl": text})


def test_code_as_published():
    row = {"prompt": "def f(x):", "test": "def check(candidate):\n    assert candidate(1) == 2", "entry_point": "f"}
    assert read(row, "code")["answer"] == verifiers.reference({"test": row["test"], "entry_point": "f"}, "code")
    row = {"question": "?", "solution": "def f(x): return 2", "test": "from solution import f\nassert f(1) == 2"}
    assert "assert f(1) == 2" in read(row, "code")["answer"]  # KodCode
    tests = json.dumps({"inputs": ["1"], "outputs": ["2"]})
    row = {"question": "?", "solutions": "[]", "input_output": tests}  # APPS
    assert read(row, "code")["answer"] == verifiers.reference(tests, "code")
    row = {"text": "?", "test_list": ["assert f(1) == 2"], "code": "def f(x): return 2"}
    assert read(row, "code")["messages"][0]["content"].startswith("?")  # MBPP
    row = {"prompt": "?", "test_imports": ["import math"], "test_list": ["assert f(1) == math.e", "assert f(0) == 1"]}
    assert read(row, "code")["answer"] == "import math\nassert f(1) == math.e\nassert f(0) == 1"
