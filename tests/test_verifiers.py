"""Verdicts on the answers that models really write, and on some they should not have written."""

import pytest

import verifiers


@pytest.mark.parametrize(
    "response, answer, verdict",
    [
        (r"so \boxed{72}", "72", "right"),
        (r"\boxed{71}, no, \boxed{72}", "72", "right"),  # the last box counts
        (r"\boxed{72}, no, \boxed{71}", "72", "wrong"),
        (r"\boxed{72} or \boxed{7", "72", "right"),  # a box cut off is no box
        (r"\boxed{\frac{1}{2}}", "0.5", "right"),
        (r"\boxed{\dfrac{2}{4}}", r"\frac12", "right"),
        (r"\boxed{\sqrt{\frac{1}{4}}}", r"\frac12", "right"),
        (r"\boxed{1{,}000}", "1000", "right"),
        (r"\boxed{50\%}", "0.5", "right"),
        (r"\boxed{\text{Blue}}", "blue", "right"),
        (r"\boxed{(1, 2]}", "(1,2]", "right"),
        (r"\boxed{[1, 2]}", "(1,2]", "wrong"),
        (r"\boxed{x^2 + 2x + 1}", "(x+1)^2", "right"),
        (r"\boxed{007}", "7", "right"),
        (r"\boxed{-7}", "7", "wrong"),
        ("the answer is 72", "72", "unparsed"),
        (r"\boxed{72", "72", "unparsed"),
        (r"\boxed{}", "72", "unparsed"),
        ("", "72", "unparsed"),
        (r"\boxed{1/0}", "72", "wrong"),
    ],
)
def test_verdicts(response, answer, verdict):
    assert verifiers.verify(response, verifiers.reference(answer)) == verdict


def test_a_computation_that_never_ends_is_an_error_in_time():
    assert verifiers.verify(r"\boxed{9^{9^{9^{9}}}}", "3") == "error"


@pytest.mark.parametrize(
    "answer, final",
    [
        ("48/2 = <<48/2=24>>24\n#### 72", "72"),
        ("#### 1,080", "1,080"),
        (r"It is $\boxed{\frac{3}{4}}$.", r"\frac{3}{4}"),
        ("$\\frac{3}{4}$", r"\frac{3}{4}"),
        (" 42 ", "42"),
    ],
)
def test_references(answer, final):
    assert verifiers.reference(answer) == final


@pytest.mark.parametrize("answer", ["", "  ", r"\boxed{}", "####", "#### "])
def test_unreadable_references_are_refused(answer):
    with pytest.raises(ValueError, match="cannot parse the answer"):
        verifiers.reference(answer)
