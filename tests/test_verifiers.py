"""Verdicts on what models really write, and on what they should not have written."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import verifiers


def verdict(response, answer, verifier="math"):
    return verifiers.verify([(verifier, response, verifiers.reference(answer, verifier))])[0]


# ------------------------------------------------------------------------------------------------------------ math

RIGHT = [  # (inside the box, reference)
    ("1.5^2", "2.25"), ("x^1.5", "x^{3/2}"), ("2(1.5)", "3"), ("1.5x", "3x/2"), ("1.5+0.5x", "\\frac{3+x}{2}"),
    ("72", "72"), ("72.", "72"), ("72.0", "72"), ("+72", "72"), ("007", "7"), ("-7", "-7"), (" 72 ", "72"),
    ("1,080", "1080"), ("1{,}080", "1080"), ("1\\,080", "1080"), ("1 080", "1080"), ("12 345 678", "12345678"),
    ("\\frac{1}{2}", "0.5"), ("\\frac12", "1/2"), ("\\dfrac{2}{4}", "\\frac12"), ("\\tfrac{1}{2}", ".5"),
    ("1\\frac{1}{2}", "1.5"), ("1 1/2", "3/2"), ("3 \\frac14", "13/4"), ("-\\frac{3}{4}", "-0.75"),
    ("50\\%", "0.5"), ("50%", "50\\%"), ("\\$5", "5"), ("5\\text{ cm}", "5"), ("5\\,\\text{cm}^2", "5"),
    ("90^\\circ", "90"), ("x=5", "5"), ("\\sqrt{\\frac{1}{4}}", "\\frac12"), ("2\\sqrt{3}", "\\sqrt{12}"),
    ("(x+1)^2", "x^2+2x+1"), ("\\pi", "\\pi"), ("\\infty", "\\infty"), ("-\\infty", "-\\infty"),
    ("(1,2]", "(1,2]"), ("[0, \\infty)", "[0,\\infty)"), ("\\{1,2,3\\}", "\\{3,2,1\\}"), ("1, 2", "2, 1"), ("moon, cat", "cat, moon"),
    ("(1,2)", "(1, 2)"), ("\\text{Blue}", "blue"), ("\\textbf{yes}", "yes"), ("\\emptyset", "\\emptyset"),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"), ("10^{19}", "1" + "0" * 19),
    ("10,000", "10,\\!000"), ("32,\\! 348", "32348"), ("12.5\\%", "12.5"), ("16\\frac{2}{3}\\%", "16\\frac{2}{3}"),
    ("18 dollars", "18"), ("18 people", "18"), ("2/3 cups", "\\frac23"), ("60 miles per hour", "60"), ("€18", "18"),
    ("\\text{\\$}72", "72"), ("5 cm^2", "5"), ("0.\\overline{3}", "1/3"), ("0.1\\overline{6}", "1/6"),
    ("101_3", "101_{3}"), ("BA", "ba"),
]  # fmt: skip
WRONG = [
    ("71", "72"), ("-72", "72"), ("7 2", "72"), ("72, 73", "72"), ("1 1/2", "1"), ("1 1/2", "0.5"), ("1 000", "0"),
    ("1 000", "1"), ("0.33", "1/3"), ("[1,2]", "(1,2]"), ("(2,1)", "(1,2)"), ("\\{1,2\\}", "\\{1,2,3\\}"),
    ("５", "6"), ("٣", "4"), ("½", "2"), ("x", "5"), ("\\text{72 or 73}", "72"), ("1/0", "72"), ("\\cancel{72}", "72"), ("\\not 72", "72"), ("\\infty", "-\\infty"),
    ("nan", "72"), ("None", "0"), ("False", "0"), ("True", "1"), ("[]", "0"), ("1e400", "\\infty"), ("0x48", "72"),
    ("7_2", "72"), ("72!", "72"), ("72 \\mod 5", "72"), ("50\\%", "5000"), ("\\neq 72", "72"), ("> 72", "72"), ("101_3", "101_2"),
    ("72_5", "72"), ("listen", "silent"), ("72 \\text{ is wrong}", "72"), ("18 or 19", "18"), ("0.\\overline{3}", "0.3"), ("\\neg 72", "72"), ("import os", "72"), ("__import__('os')", "72"), ("exit()", "72"),
]  # fmt: skip


@pytest.mark.parametrize("inside, answer", RIGHT)
def test_equal_answers_are_right(inside, answer):
    assert verdict(f"So \\boxed{{{inside}}}.", answer) == "right"


@pytest.mark.parametrize("inside, answer", WRONG)
def test_other_answers_are_never_right(inside, answer):
    assert verdict(f"So \\boxed{{{inside}}}.", answer) in ("wrong", "unparsed")


@pytest.mark.parametrize(
    "response, expected",
    [
        (r"\boxed{71}, no, \boxed{72}", "right"),
        (r"\boxed{72}, no, \boxed{71}", "wrong"),
        (r"\boxed{72} or \boxed{7", "unparsed"),  # cut off: what it was going to say is unknown
        (r"\boxed{72", "unparsed"),
        (r"\boxed{}", "unparsed"),
        (r"\boxed", "unparsed"),
        (r"put your final answer in \boxed{}. 72", "unparsed"),  # the instruction, echoed
        (r"I need \boxed{}. So \boxed{72}", "right"),
        ("<think> \\boxed{72}", "unparsed"),  # never stopped thinking
        ("<think> \\boxed{71} </think> \\boxed{72}", "right"),
        ("<think> \\boxed{72} </think> I do not know", "unparsed"),
        ("72", "unparsed"),
        ("", "unparsed"),
        ("The answer is 72.", "right"),
        ("The answer is **72**.", "right"),
        ("Answer: $72$", "right"),
        ("so\n#### 72", "right"),
        ("The answer is 71. No, the answer is 72.", "right"),
        ("The answer is 72. No, the answer is 71.", "wrong"),
        ("The answer is 72 or 71", "wrong"),
        ("**Final Answer**: 72", "right"),
        ("**Final Answer:**\n\n72", "right"),
        ("**Final Answer**\n\n72", "right"),
        ("Answer:\n72", "right"),
        ("The answer is:\n$$72$$", "right"),
        ("<answer>72</answer>", "right"),
        ("\\boxed {72}", "right"),
        ("\\fbox{72}", "right"),
        ("The answer is 72, because 70 + 2 = 72.", "right"),
        ("The answer is 72 (apples).", "right"),
        ("#### 72 dollars", "right"),
        ("#### 72\n\nThe answer is correct.", "right"),
        ("The answer is 72. Let me check that the answer is right.", "right"),
        ("The answer is", "unparsed"),
        ("the answer is 72 " + r"\boxed{71}", "wrong"),  # a box, once there, counts
        ("\\boxed{\\boxed{72}}", "right"),
        ("\x00\ud800\\boxed{72}\uffff", "right"),
    ],
)
def test_where_the_final_answer_is(response, expected):
    assert verdict(response, "72") == expected


SAME = [  # (inside the box, reference)
    ("x=5", "5"), ("5", "x=5"), ("0.5", "1/2"), ("\\{2,1\\}", "\\{1,2\\}"), ("\\log_2 3", "\\log_2(3)"),
    ("R_1+R_2", "R_2+R_1"), ("a_n=2n+1", "2n+1"), ("x>3", "(3,\\infty)"), ("(3,\\infty)", "x>3"),
    ("3\\le x\\le5", "[3,5]"), ("[3,5]", "3\\le x\\le 5"), ("45°", "45^\\circ"), ("\\sin 30^\\circ", "\\frac12"),
    ("\\sin 30^\\circ", "1/2"), ("\\varnothing", "\\emptyset"), ("1.5e3", "1500"), ("1.5\\times10^3", "1500"),
    ("\\text{72 km}", "72"), ("3 × 4", "12"), ("−5", "-5"), ("3·4", "12"), ("18 dollars", "18"),
    ("60 miles per hour", "60"), ("5 cm^2", "5"), ("72 km/h", "72"), ("5 \\text{ m/s}^2", "5"), ("5\\text{ m}", "5"),
    ("x<-1 \\text{ or } x>1", "(-\\infty,-1)\\cup(1,\\infty)"),
    ("(-\\infty,-1)\\cup(1,\\infty)", "x<-1 \\text{ or } x>1"), ("x \\in (1,2)", "(1,2)"), ("1<x<2", "(1,2)"),
    ("x=1, y=2", "(1,2)"), ("2+3=5", "5"), ("x=2+3=5", "5"), ("\\geq 5", "x \\geq 5"), ("≥ 5", "\\geq 5"),
    ("5 \\le x", "x \\ge 5"), ("2x>6", "x>3"), ("x^2+y^2=1", "y^2+x^2-1=0"), ("y=2x+3", "2x+3"),
    ("1.6\\times10^{-19}", "1.60 \\times 10^{-19}"), ("1.6e-19", "1.6\\times10^{-19}"), ("2^{10}", "1024"),
    ("\\frac{1}{2^{99}}", "2^{-99}"), ("12:30 p.m.", "12:30 PM"), ("1:2", "1:2"), ("f'(x)", "f'(x)"),
    ("3+2i", "2i+3"), ("\\sqrt{2}/2", "\\frac{1}{\\sqrt2}"), ("50\\%", "50"), ("50", "50\\%"),
    ("72 percent", "72\\%"), ("72 per cent", "72"), ("3 hours", "3"), ("1 hour", "1"), ("72 apples", "72"),
    ("10\\pi\\text{ cm}^2", "10\\pi"), ("\\text{New York}", "new york"), ("1, 2", "1 \\text{ and } 2"),
    ("x = 1 \\text{ or } x = 2", "1, 2"), ("x=1,2", "1,2"), ("x \\neq 2", "x≠2"), ("2(1.5)", "3"),
    ("90 degrees", "90^\\circ"), ("\\pm 3", "3,-3"), ("\\$1,234.50", "1234.5"), ("1234.50 dollars", "\\$1,234.5"),
    ("\\mathbb{R}\\setminus\\{2\\}", "x\\ne 2"), ("\\frac{1}{3}x", "x/3"), ("2\\times 3", "6"),
    ("\\left(1,2\\right)", "(1,2)"), ("xy", "yx"), ("2xy", "2yx"), ("1.0", "1"), ("0.10", "1/10"), ("|x-5|", "|5-x|"),
    ("\\sin^2 x+\\cos^2 x", "1"), ("(x+1)(x-1)", "x^2-1"), ("1{,}000{,}000", "10^6"), ("72 people", "72"),
    ("72 km", "72"), ("\\text{(A)}", "A"), ("100^{\\circ}\\text{C}", "100"), ("25\\text{ mph}", "25"),
    ("1/2", "\\frac{1}{2}"), ("3, 4", "3,4"), ("4, 3", "3, 4"), ("n=3", "3"), ("f(2)=5", "5"),
    ("P(A)=\\frac12", "0.5"), ("AB=5", "5"), ("\\angle ABC = 60^\\circ", "60"), ("[-2,2]", "-2\\le x\\le 2"),
    ("x\\le 3", "(-\\infty,3]"), ("\\cos 60°", "0.5"), ("\\tan 45^{\\circ}", "1"), ("6.02\\times10^{23}", "6.02e23"),
    ("6.02*10^23", "6.02e23"), ("2\\text{ cm}^3", "2"), ("3\\text{ square feet}", "3"), ("12 inches", "12"),
    ("5 years old", "5"), ("7 days", "7"), ("\\approx 72", "72"), ("C(5,2)", "C(5,2)"), ("2:3", "2 : 3"),
    ("(1011)_2", "1011_2"), ("x=1,080", "1080"), ("√2", "\\sqrt2"), ("i^2", "-1"), ("\\lg 100", "2"),
    ("6.02 x 10^{23}", "6.02e23"), ("45\\degree", "45°"), ("¥50", "50"), ("50 yen", "50"), ("24 eggs", "24"),
    ("3\\text{ boxes}", "3"), ("x^2+1=0", "1+x^2=0"), ("72 J", "72"), ("72 N", "72"), ("72\\text{ C}", "72"), ("5\\text{ V}", "5"),
    ("45^o", "45"), ("45^{o}", "45^\\circ"), ("1.6\\times10^{-19}\\text{ C}", "1.6\\times10^{-19}"),
    ("\\text{approximately } 72", "72"), ("\\text{about }72\\text{ km}", "72"), ("2(3)", "6"), ("-7 1/2", "-7.5"),
    ("3\\sqrt13", "3\\sqrt{13}"), ("√10", "\\sqrt{10}"), ("PV=nRT", "P=\\frac{nRT}{V}"), ("z=3+2i", "3+2i"),
    ("1\\%", "1"), ("100\\%", "1"), ("0.5\\%", "0.005"), ("(1+i)^2", "2i"), ("1.5, 2.5", "5/2, 3/2"),
    ("A=\\begin{pmatrix}0.5\\\\1\\end{pmatrix}", "A = \\begin{pmatrix}\\frac12\\\\1\\end{pmatrix}"),
    ("x\\in(1,\\frac42]", "x \\in (1, 2]"), ("\\sqrt{0.5}", "\\frac{\\sqrt2}{2}"), ("x = 0.5+1 = 1.5", "3/2"),
    ("x = \\frac{-1\\pm\\sqrt5}{2}", "\\frac{-1-\\sqrt5}{2}, \\frac{-1+\\sqrt5}{2}"), ("\\{\\pm 3\\}", "3, -3"),
    ("100^\\circ C", "100"), ("20^{\\circ} F", "20^\\circ"), ("10\\text{,}000", "10000"), ("\\text{Rs. }50", "50"),
    ("12\\text{ eV}", "12"), ("\\sqrt{4x^2}", "2|x|"), ("|x|^2", "x^2"), ("x^2>4", "(-\\infty,-2)\\cup(2,\\infty)"),
    ("\\sin^2(x)+\\cos^2(x)", "1"), ("\\tan^2(y)+1", "\\sec^2(y)"), ("x^2(x+1)", "x^3+x^2"), ("28 pct", "28\\%"), ("\\frac{1}{3},", "1/3"),
    ("1-\\frac{1}{\\mathrm{e}}", "1-\\frac1e"), ("\\langle 1,2\\rangle", "(1,2)"), ("125\\textnormal{ miles}", "125"),
    ("June 20", "\\text{June 20}"), ("\\{(1,2),(3,4)\\}", "(3,4),(1,2)"), ("10^-3", "0.001"), ("k<-2, k>2", "k<-2 \\text{ or } k>2"), ("x < 2, x > 3", "(-\\infty,2)\\cup(3,\\infty)"), ("x>1, x<3", "(1,3)"), ("3\\times10^8m/s", "3\\times10^8"), ("\\frac{5}{2}m/s", "\\frac52"), ("3*pi", "3\\pi"), ("2sqrt{3}", "2\\sqrt3"),
    ("\\frac\\pi4", "\\pi/4"), ("\\frac{d}{dx}x^2", "2x"), ("(2,1)", "2, 1"), ("R_1+r_1", "r_1+R_1"),
    ("2\\gamma m", "2m\\gamma"), ("\\gamma(v+1)", "\\gamma v+\\gamma"), ("\\Gamma\\left(5\\right)", "24"), ("x\\gamma^2", "\\gamma^2x"),
    ("x-y=5", "5"), ("|a-b|=5", "5"), ("100m+n=307", "307"), ("p^2+q^2=25", "25"), (r"A=\frac12bh=24", r"24"),
    (r"V=\pi r^2h=12\pi", r"12\pi"), ("AB=AC=5", "5"), ("f'(2)=12", "12"), ("f(1)+f(2)=7", "7"),
    (r"-1<x<0 \text{ or } x>1", r"(-1,0)\cup(1,\infty)"), (r"1<x<2 or 3<x<4", r"(1,2)\cup(3,4)"),
    (r"x=1 \text{ or } x>3", r"\{1\}\cup(3,\infty)"), (r"x\in(0,1)", r"0,1"), (r"\frac{2mg}{3}", r"\frac23mg"),
    (r"\frac{mL^2}{3}", r"\frac{1}{3}mL^2"), ("2+3=5", "3+2=5"), ("500mg", "500"), ("60m/s", "60"),
    (r"10\pi cm^2", r"10\pi"), (r"\gcd(m,n)", r"\gcd(m,n)"), (r"\gcd(12,18)", r"6"), ("2^{1000}-1", "2^{1000} - 1"),
    (r"(\sqrt2+\sqrt3)^2", r"5+2\sqrt6"), (r"\emptyset", r"\varnothing"), (r"x<1 \text{ and } x>-1", r"(-1,1)"),
    (r"f(x)=x^2=x\cdot x", r"x^2"), ("y=2x+3", "2x+3"), ("a_n=n(n+1)=n^2+n", "n^2+n"), ("S=1+2+3=6", "6"),
    ("m+n=7", "7"),
]  # fmt: skip
DIFFERENT = [  # (inside the box, reference)
    ("moon cat", "cat moon"), ("2, 1", "x=1, y=2"), ("a=1, b=2", "x=1, y=2"), ("x=2, y=1", "x=1, y=2"),
    ("1.6\\times10^{-19}", "1.7\\times10^{-19}"), ("1.6e-19", "1.7e-19"), ("0.0000001", "0.0000002"),
    ("\\frac1{2^{99}}", "\\frac1{2^{98}}"), ("0.333", "1/3"), ("0.3333333333", "1/3"), ("3.14159265", "\\pi"),
    ("\\geq 5", "\\leq 5"), ("\\lt 5", "\\gt 5"), ("\\le 5", "5"), ("≥ 5", "≤ 5"), ("≠ 5", "5"), ("1=72", "72"),
    ("2x=5", "5"), ("> 5", "< 5"), ("x>5", "x\\ge 5"), ("x>3", "y>3"), ("2 thirds", "2"), ("3 squared", "3"),
    ("2 dozen", "2"), ("72 million", "72"), ("72 thousand", "72"), ("72 hundred", "72"), ("72 billion", "72"),
    ("72 \\text{ or more}", "72"), ("72 or more", "72"), ("\\text{at least }72", "72"), ("at least 72", "72"),
    ("half 72", "72"), ("double 72", "72"), ("\\text{72 million}", "72"), ("72 \\text{ million}", "72"),
    ("72 million dollars", "72"), ("2 dozens", "2"), ("2 thirds of a cup", "2"), ("5 cubed", "5"), ("72 less", "72"),
    ("72 plus", "72"), ("72 to 80", "72"), ("minus 72", "72"), ("negative 72", "72"), ("no more than 72", "72"),
    ("(2,1)", "\\{1,2\\}"), ("\\{1,2\\}", "(2,1)"), ("\\{1,2\\}", "(1,2)"), ("f'(x)", "f(x)"), ("f''(x)", "f'(x)"),
    ("12:30 AM", "12:30 PM"), ("1:00", "12:00"), ("1:2", "2:1"), ("1:2:3", "1:3:2"), ("1011_2", "1011_3"),
    ("3\\le x\\le5", "(3,5)"), ("3<x<5", "[3,5]"), ("x>3", "[3,\\infty)"), ("x>3", "(-\\infty,3)"), ("5 km", "5 m"),
    ("y=1,x=2", "x=1,y=2"), ("5 ft 3 in", "5"), ("3 hours 20 minutes", "3"), ("2 pairs", "2"), ("\\text{BC}", "AB"),
    ("x+1", "x+2"), ("\\sqrt{2}", "1.41421356"), ("5m", "5"), ("72 m", "72"), ("72 \\text{ too many}", "72"),
    ("3 \\text{ fifths}", "3"), ("72k", "72"), ("\\$72k", "72"), ("72 M", "72"), ("72\\text{M}", "72"),
    ("72\\text{K}", "72"), ("5 tenths", "5"), ("a million", "1"), ("72 \\text{ percent}", "0.5"),
    ("\\{(1,2)\\}", "\\{(2,1)\\}"), ("10^{-300}", "2\\cdot10^{-300}"), ("10^{-500}", "10^{-501}"),
    ("\\sqrt{2}\\cdot10^{-30}", "\\sqrt{3}\\cdot 10^{-30}"), ("12:30", "12:03"), ("72 times", "72"),
    ("x \\ne 72", "72"), ("72 < 73", "73"), ("\\text{not }72", "72"), ("72\\pm1", "72"), ("72^\\circ", "72\\pi"),
    ("1e-7", "0"), ("0.0000001", "0"), ("1.23456789", "1.2345678"), ("99.9999999", "100"), ("|x-5|", "5-x"),
    ("x_1", "x_2"), ("\\log_2 3", "\\log_3 2"), ("72 \\times", "72"), ("72-", "72"), ("72..73", "72"),
    ("72\\to 73", "73"), ("72\\Rightarrow 73", "72"), ("72 \\quad 0", "72"), ("2x", "x=2"), ("3:45 PM", "3:45 AM"),
    ("R_1", "R_2"), ("f(x)", "f(y)"), ("[1,2)", "(1,2]"), ("\\ge 5", "5"), ("5-", "5"),
    ("\\text{about half of }72", "72"),
    ("x^2=-1", "x^2=-2"), ("x^2+1=0", "x^2+2=0"), ("R+r", "2r"), ("x", "X"), ("A^T", "A"), ("~p", "p"), ("(5,3]", "(4,2]"),
    ("5\\ldots", "5"), ("5...", "5"), ("5\"", "5"), ("72 negatives", "72"), ("5 opposites", "5"), ("5 reciprocals", "5"),
    ("5 myriads", "5"), ("5 kilos", "5"), ("5 basis points", "5"), ("3 squares", "3"), ("30 radians", "30^\\circ"),
    ("(1011)_2", "(1011)_3"), ("1,1", "1"), ("2, 2", "2"), ("1, 1, 2", "1, 2"), ("3,5,5", "3,5"),
    ("\\{\\{1\\},\\{2\\}\\}", "\\{1,2\\}"), ("\\{\\{1,2\\}\\}", "\\{1,2\\}"), ("0.5\\%", "0.5"), ("0.5", "0.5\\%"),
    ("0.25\\%", "\\frac14"), ("72J", "72"), ("72 x", "72"), ("x^o", "x"), ("1-\\frac{1}{2^{100}}", "1"), ("i^3", "i"),
    ("10\\%, 20\\%", "10, 20"), ("72 \\text{ approximately}", "72"), ("f(x)=2x+3", "f(x)=3x+3"), ("1.5, 2", "2, 2.5"),
    ("\\phantom{72}", "72"), ("\\phantom{7}2", "9"), ("\\frac{-1\\pm\\sqrt5}{2}", "\\frac{-1+\\sqrt5}{2}"), ("72\\pm 0", "72"),
    ("\\sqrt{x^2}", "x"), ("a+bi", "a-bi"), ("z=3+2i", "z=3-2i"),
    ("20^\\circ C", "20^\\circ F"), ("20°F", "20^{\\circ}\\text{C}"), ("\\triangle ABC", "\\triangle ACB"), ("\\langle 2,1\\rangle", "\\{1,2\\}"), ("\\sin^2(x)", "\\sin(x^2)"),
    ("\\gamma+1", "\\gamma+2"), ("\\gamma+1", "1"), ("\\gamma", "\\Gamma"), ("\\gamma", "0.57721566490153"),
    ("R_1", "r_1"), ("\\Sigma", "\\sigma"), ("\\frac{dy}{dx}", "0"), ("\\frac{\\partial f}{\\partial x}", "0"), ("5\\text{ s}", "5\\text{ m}"), ("5\\text{ ms}", "5\\text{ m}"),
    ("x\\in\\{1,2\\}", "(1,2)"), ("S=\\{1,2\\}", "(1,2)"), ("(2,1)", "1, 2"),
    ("\\sqrt{2}mg", "\\sqrt{2}"), ("2a+3b=c", "c"), ("a^2+b^2=c^2", "c^2"), ("x=2x=5", "5"), ("x=x+1=5", "5"),
    (r"-1<x<2", r"x=-1 \text{ or } x=2"), (r"0<x<1", r"\{0,1\}"), ("1<x<2", "1,2"), (r"|x|<3", r"\pm 3"),
    (r"-1<k<1", r"k=\pm1"), (r"k=\pm1", r"-1<k<1"), ("9+16=24", "9+16=25"), ("f(2023)=2024", "f(2023)=2023"),
    (r"\sqrt{16}=2", r"\sqrt{16}=4"), ("3=2", "5=5"), ("P(3)=11", "P(3)=10"), (r"\frac{2}{3}", r"\frac{2}{3}mg"),
    (r"\frac{2}{3}mg", r"\frac23"), (r"\frac{1}{3}mL^2", r"\frac13"), (r"\frac{3}{2}g/L", r"\frac32"),
    ("x<1,x>3", "x<2,x>4"), ("m>3, m<1", "m<1, m>2"), (r"x<1,x>3", r"\emptyset"), (r"m+n-1", r"m+n-\gcd(m,n)"),
    (r"1", r"\gcd(a,b)"), (r"mn", r"\frac{mn}{\gcd(m,n)}"), (r"ab", r"\text{lcm}(a,b)"), ("2^{1000}", "2^{1000}-1"),
    (r"1", r"1-\frac1{2^{1000}}"), ("200!+1", "200!"), (r"\binom{1010}{505}-1", r"\binom{1010}{505}"),
    ("2^{1006}-2", "2^{1006}"), ("2x=5", "5"), ("x^2=5", "5"), ("1=72", "72"), ("x=2+3=6", "6"), ("x=1=2", "2"),
    ("f(x)=2x+3", "f(x)=3x+3"), ("1", "2x+z=1"),
]  # fmt: skip


@pytest.mark.parametrize("inside, answer", SAME)
def test_notation_units_sets_and_relations(inside, answer):
    assert verdict(f"So \\boxed{{{inside}}}.", answer) == "right"


@pytest.mark.parametrize("inside, answer", DIFFERENT)
def test_what_changes_an_answer_is_never_dropped(inside, answer):
    assert verdict(f"So \\boxed{{{inside}}}.", answer) in ("wrong", "unparsed")


@pytest.mark.parametrize(
    "response, answer, expected",
    [
        ("\\boxed{1} and \\boxed{2}", "1, 2", "right"),
        ("$x=\\boxed{1}$ or $x=\\boxed{2}$", "1, 2", "right"),
        ("First \\boxed{1}. Second \\boxed{2}.", "1, 2", "right"),
        ("- \\boxed{1}\n- \\boxed{2}", "1, 2", "right"),
        ("\\boxed{1}, \\boxed{2}, and \\boxed{3}", "1, 2, 3", "right"),
        ("\\boxed{1}, no, \\boxed{2}", "1, 2", "wrong"),
        ("\\boxed{1}", "\\boxed{1} and \\boxed{2}", "wrong"),
        ("\\boxed{2}", "\\boxed{1} and \\boxed{2}", "wrong"),
        ("\\boxed{2, 1}", "\\boxed{1} and \\boxed{2}", "right"),
        ("\\boxed{71} and \\boxed{72}", "72", "wrong"),
        ("\\boxed{72}\n\\boxed{72}", "72", "right"),
        ("The answer is 72, which is even.", "72", "right"),
        ("The answer is approximately 72.", "72", "right"),
        ("The answer is 72 km/h.", "72", "right"),
        ("The answer should be 72.", "72", "right"),
        ("The answer is: 72, so we are done", "72", "right"),
        ("The answer is x = 72.", "72", "right"),
        ("The answer is about 72 million.", "72", "wrong"),
        ("The answer is 72 or more.", "72", "wrong"),
        ("Final Answer: The largest $n$ is 72. I hope it is correct.", "72", "right"),
        ("Answer: there are 72 ways", "72", "right"),
        ("The answers are 3 and 5.", "5, 3", "right"),
        ("Answer: the price of 2 shirts is 72", "72", "wrong"),  # of one, perhaps
        ("The answer is that the number is not 72.", "72", "wrong"),
        ("\\boxed{1} \\boxed{2}", "2", "wrong"),
        ("\\boxed{4}", "\\boxed{-1} \\text{ and } \\boxed{4}", "wrong"),
        ("\\boxed{-1, 4}", "\\boxed{-1} \\text{ and } \\boxed{4}", "right"),
        ("The answer is therefore 72.", "72", "right"),
        ("The answer is \\[72\\]", "72", "right"),
        ("The answer is 72 because it is.", "72", "right"),
        ("The answer is 72; it is even.", "72", "right"),
        ("The answer is 72 — an even number.", "72", "right"),
        ("The answer equals 72.", "72", "right"),
        ("The answer is 1/2, i.e. 0.5.", "1/2", "right"),
        ("The answer is 72, not 71.", "72", "right"),
        ("The answer is 71, not 72.", "72", "wrong"),
        ("The answer is 72—an even number.", "72", "right"),
        ("The answer is 10—20.", "10", "unparsed"),
        ("The answer to the question is 72.", "72", "right"),
        ("### Answer\n72", "72", "right"),
        ("## Final Answer\n\n72", "72", "right"),
        ("The answer is 1; 2.", "1", "wrong"),
        ("The answer is **72**!", "72", "right"),
        ("The answer is 5! That is not 120.", "5", "right"),
        ("The answer is $5!$.", "120", "right"),
        ("<think>It is \\boxed{72}.</think> No. <think>It is \\boxed{72}.", "72", "unparsed"),
    ],
)
def test_several_boxes_and_prose(response, answer, expected):
    assert verdict(response, answer) == expected


HOSTILE = [
    "9^{9^{9^{9}}}", "10^{10^{10}}", "2^{100000000}", "(10^{10})!", "100000!", "9" * 900, "1" + "0" * 990, "(" * 600,
    "(" * 300 + "1" + ")" * 300, "\\frac{" * 100 + "1" + "}{2}" * 100, "{" * 400 + "}" * 400, "\\sqrt" * 150 + "2",
    "\\sum_{i=1}^{10^9} i", "\\int_0^1 x^x dx", "\\prod_{n=1}^{10^8} n", "x" * 900, "1+" * 400 + "1", "x^" * 200 + "x",
    "\\left(" * 50, "1,"  * 400 + "1", "\\{" + ",".join(map(str, range(250))) + "\\}", "\\binom{10^9}{10^8}", "\\" * 500,
    "%" * 500, "$" * 500, "\u202e72", "7\u200b2", "\N{MATHEMATICAL BOLD DIGIT SEVEN}", "\ud83d", "=" * 300, "\n" * 300,
    "\\text{" * 30 + "}" * 30, "\\begin{pmatrix}" * 20, "-" * 700 + "1", "1e999999999", "\\log(\\log(0))", "0^{-1}",
    "\\sin" * 100 + "(1)", "\\overline{" * 15 + "3" + "}" * 15, "\\pm" * 100 + "1", "|" * 200, "3!!!!!!!!", "\\infty-\\infty",
]  # fmt: skip


def test_hostile_answers_are_never_right_and_never_hang():
    start = time.monotonic()
    jobs = [("math", f"\\boxed{{{h}}}", answer) for h in HOSTILE for answer in ("3", "x+1")]
    verdicts = verifiers.verify(jobs)
    assert "right" not in verdicts
    assert time.monotonic() - start < len(jobs) * verifiers.MATH_CPU_S
    assert verdict("\\boxed{72}", "72") == "right"  # and the interpreters are alive


def test_a_megabyte_takes_no_time():
    start = time.monotonic()
    for text in ("a" * 10**6, "\\boxed{" * 150_000, "{" * 10**6, "answer is " * 10**5, "\\boxed{" + "9" * 10**6 + "}"):
        assert verdict(text, "72") == "unparsed"
    assert verdict("a" * 10**6 + "\\boxed{72}", "72") == "right"
    assert time.monotonic() - start < 20


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**31), 10**31), st.integers(-3, 3))
def test_integers_compared_as_text_get_the_verdict_of_math_verify(number, difference):
    given, answer = str(number), str(number + difference)
    assert verifiers.math_verdict(f"\\boxed{{{given}}}", answer) == ("right" if difference == 0 else "wrong")
    assert verifiers.equal(given, answer) == (difference == 0)
    assert verifiers.math_verdict(f"\\boxed{{0{abs(number)}}}", str(abs(number))) == "right"


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(max_size=200), st.integers(-(10**9), 10**9))
def test_any_text_gets_a_verdict_and_only_a_box_with_the_answer_is_right(text, number):
    responses = [text, f"\\boxed{{{text}}}", f"{text}\\boxed{{{number}}}", f"\\boxed{{{number}}}\n{number + 1} {text}"]
    verdicts = verifiers.verify([("math", r, str(number)) for r in responses])
    assert set(verdicts) <= set(verifiers.VERDICTS)
    if "<think>" not in text:
        assert verdicts[2] == "right"


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


@pytest.mark.parametrize("answer", ["", "  ", r"\boxed{}", r"\boxed{7", "####", "#### ", "(" * 300 + ")" * 300])
def test_unreadable_references_are_refused(answer):
    with pytest.raises(ValueError, match="cannot read the answer in|the answer is empty"):
        verifiers.reference(answer)


# ---------------------------------------------------------------------------------------------------------- choice

SPELLINGS = ["{}", "({})", "{})", "{}.", "**{}**", "**({})**", "\\text{{{}}}", "\\textbf{{({})}}", "Option {}", "{}. Paris"]


@pytest.mark.parametrize("spelling, frame", list(itertools.product(
    SPELLINGS, ["So \\boxed{{{}}}", "The answer is {}", "Answer: {}", "Thus\n{}", "It is not (A).\nThe answer is {}."]
)))
def test_choices_in_every_spelling(spelling, frame):
    for letter, expected in (("B", "right"), ("C", "wrong")):
        assert verdict(frame.format(spelling.format(letter)), "B. Paris", "choice") == expected


@pytest.mark.parametrize(
    "response, answer, expected",
    [
        ("\\boxed{Paris}", "B. Paris", "right"),
        ("\\boxed{paris}", "(B) Paris", "right"),
        ("\\boxed{London}", "B. Paris", "wrong"),
        ("\\boxed{B. London}", "B. Paris", "wrong"),  # the letter and the text disagree
        ("\\boxed{A and B}", "B", "wrong"),
        ("\\boxed{A, B}", "B", "wrong"),
        ("\\boxed{AB}", "B", "wrong"),
        ("\\boxed{b}", "B", "right"),
        ("\\boxed{}", "B", "unparsed"),
        ("B is wrong, and so are the others", "B", "unparsed"),
        ("", "B", "unparsed"),
        ("<think> the answer is B", "B", "unparsed"),
        ("A\nB\nC\nD", "D", "right"),  # its last line
        ("\\boxed{A and B}", "A", "wrong"),
        ("\\boxed{A. and B.}", "A", "wrong"),
        ("\\boxed{(A) (B)}", "A", "wrong"),
        ("\\boxed{A) London}", "A", "right"),  # the reference has no words to compare
        ("\\boxed{A cat}", "A", "wrong"),
        ("The answer is B because it is.", "B. Paris", "right"),
        ("The answer is B, Paris", "B. Paris", "right"),
        ("\\boxed{B - Paris}", "B. Paris", "right"),
        ("Answer: B (Paris)", "B. Paris", "right"),
        ("\\boxed{\\textbf{(B)}~12}", "(B) 12", "right"),
        ("\\boxed{B. 12%}", "B. 12\\%", "right"),
        ("The answer is \\(B\\)", "B", "right"),
        ("B. Paris is the capital of France.", "B. Paris", "unparsed"),
        ("The answer is B. Paris is the capital of France.", "B. Paris", "right"),
        ("The correct option is B.", "B", "right"),
        ("**Final Answer**: B", "B", "right"),
        ("\\boxed{A. B. C. D.}", "A", "wrong"),
        ("\\boxed{A: is wrong}", "A", "wrong"),
        ("\\boxed{A. No wait, B}", "A", "wrong"),
        ("\\boxed{A) x B) y}", "A", "wrong"),
        ("\\boxed{A. x or B. y}", "A", "wrong"),
        ("\\boxed{A. x and B. y}", "A", "wrong"),
        ("The correct answer would be B.", "B", "right"),
        ("So it must be B.", "B", "right"),
        ("The answer should be C", "C", "right"),
        ("Correct option: C", "C", "right"),
        ("**Correct option:** C", "C", "right"),
        ("It is (C)", "C", "right"),
        ("So it is (C).", "B", "wrong"),
        ("It is not (C).", "C", "unparsed"),
        ("\\boxed{D. hepatitis B.}", "D", "right"),
        ("\\boxed{D. hepatitis B.}", "B", "wrong"),
        ("\\boxed{A - vitamin C}", "A", "right"),
        ("\\boxed{A) B is right}", "A", "right"),  # the letter counts
        ("\\boxed{A. x; J. z}", "A", "wrong"),
        ("\\boxed{J}", "J", "right"),
        ("\\boxed{A} and \\boxed{B}", "B", "wrong"),
        ("\\boxed{A. x; J. z}", "A. x", "wrong"),
        ("The answer is (A), not (B).", "A", "right"),
        ("Correct option: (G) none", "G", "right"),
        ("It's (C)", "C", "right"),
        ("Hence, (C).", "C", "right"),
        ("Option C is correct.", "C", "right"),
        ("C is correct.", "C", "right"),
        ("I choose C.", "C", "right"),
        ("Answer - C", "C", "right"),
        ("It is not (A). It is (B).", "A", "wrong"),
        ("It is (A) or (B)", "A", "wrong"),
        ("\\boxed{D) None of A, B, C}", "D", "right"),
        ("\\boxed{D. Both A and B}", "D", "right"),
        ("\\boxed{D) None of A, B, C}", "D. None of A, B, C", "right"),
        ("\\boxed{A, but also B}", "A", "wrong"),
        ("\\boxed{A. x, B}", "A", "wrong"),
        ("I would choose C.", "C", "right"),
        ("Option C is the correct answer.", "C", "right"),
        ("\\boxed{C — Rome}", "C. Rome", "right"),
        ("The correct answer is C!", "C", "right"),
        ("I'd go with C.", "C", "right"),
        ("That is (C).", "C", "right"),
        ("\\boxed{5}", "B. -5", "wrong"),
        ("\\boxed{B. 5}", "B. -5", "wrong"),
        ("\\boxed{\\frac12}", "C. $-\\frac12$", "wrong"),
        ("\\boxed{C. -5 m/s}", "C. 5 m/s", "wrong"),
        ("\\boxed{-5}", "B. -5", "right"),
        ("\\boxed{-10 kJ/mol}", "A. -10 kJ/mol", "right"),
        ("\\boxed{B. -5}", "B. -5", "right"),
        ("\\boxed{C. −5}", "C. -5", "right"),
        ("We can rule out option A", "A", "unparsed"),
        ("Incorrect option: A", "A", "unparsed"),
        ("The wrong option is A", "A", "unparsed"),
        ("\\boxed{\\$1,000}", "C. $1,000", "right"),
        ("\\boxed{B Paris}", "B. Paris", "right"),
        ("\\boxed{B\\ Paris}", "B. Paris", "right"),
        ("The answer is Paris (B).", "B. Paris", "right"),
        ("The answer is C—Rome.", "C. Rome", "right"),
        ("The answer is C—Rome.", "C", "right"),
        ("Therefore, (C) is the answer.", "C", "right"),
        ("C is the best answer.", "C", "right"),
        ("\\boxed{C. 5 m/s^2}", "C. 5 m/s²", "right"),
        ("\\boxed{C. 3\\times 10^8}", "C. 3 × 10^8", "right"),
        ("\\boxed{C. 37^\\circ C}", "C. 37°C", "right"),
        ("\\boxed{C. 1,000}", "C. 1000", "right"),
        ("\\boxed{C. \\dfrac12}", "C. \\frac{1}{2}", "right"),
        ("\\boxed{\\textbf{(A)}\\quad 5}", "A. 5", "right"),
        ("\\boxed{C. 15}", "C. 1.5", "wrong"),
        ("Answer: A) Yes, because X", "A. Yes, because X", "right"),
        ("The answer is (B) St. Louis.", "B. St. Louis", "right"),
        ("Answer: B) Rome, which is old", "B. Paris, which is old", "wrong"),
        ("Without friction the answer is 10 m/s. But the answer is C.", "B. 10 m/s", "wrong"),
        ("The answer is not 20 m/s. The answer is B.", "B. 10 m/s", "right"),
        ("The correct answer is C.\nThe other answers are incorrect.", "C", "right"),
        ("The answer is C.\nThis answer is independent of x.", "C", "right"),
        ("The answer is B.\nActually the answer is clearly C.", "B. 7", "wrong"),
        ("The answer is B.\nWait, the answer is Rome.", "B. Paris", "wrong"),
        ("The answer is B.\nNo, the answer is 9.", "B. 7", "wrong"),
        ("The answer is B.\nThe answer is not B.", "B. 7", "wrong"),
        ("The answer is B. 1", "B. 100", "wrong"),
        ("The answer is B. -", "B. -5", "wrong"),
        ("Answer: [B]", "B. Paris", "right"),
        ("The answer is \"B\".", "B. Paris", "right"),
        ("I'll go with B.", "B. Paris", "right"),
        ("It isn't answer B", "B. Paris", "unparsed"),
        ("It is not option B.", "B. Paris", "unparsed"),
        ("Therefore, it is A, not option B.", "B. Paris", "wrong"),
        ("This rules out option B.", "B. Paris", "unparsed"),
        ("**D. It is undefined**", "D. It is undefined", "right"),
        ("\\boxed{B, not C}", "B", "right"),
        ("\\boxed{C. \\frac{1}{2}}", "C. 1/2", "right"),
        ("\\boxed{C. \\pi}", "C. π", "right"),
        ("\\boxed{C. \\frac13}", "C. 1/2", "wrong"),
        ("\\boxed{y'}", "B. y", "wrong"),
        ("\\boxed{u × v}", "B. u · v", "wrong"),
        ("Since A is wrong, it must be B.", "B", "right"),
        ("\\boxed{C. 52}", "C. 5", "wrong"),
        ("\\boxed{D. Rome}", "C. Rome", "wrong"),
        ("\\boxed{C. Paris}", "C. Rome", "wrong"),
        ("The answer is C - Rome.", "C. Rome", "right"),
        ("The answer is B-5", "B", "wrong"),
        ("\\boxed{B. x > 5}", "B. x < 5", "wrong"),
        ("\\boxed{B. \\alpha}", "B. \\beta", "wrong"),
        ("\\boxed{B. 1/2}", "B. 12", "wrong"),
        ("So A is the answer we can rule out", "A", "unparsed"),
        ("It turns out it's B", "B", "right"),
        ("Option C", "C", "right"),
        ("The correct option is C.", "C", "right"),
    ],
)
def test_choices(response, answer, expected):
    assert verdict(response, answer, "choice") == expected


# ------------------------------------------------------------------------------------------------- the pool, and yours


def test_verdicts_depend_on_neither_order_nor_workers():
    jobs = [("math", f"\\boxed{{{inside}}}", answer) for inside, answer in RIGHT + WRONG]
    jobs += [("choice", "\\boxed{B}", "B"), ("code", "```\ndef add(a, b):\n    return a + b\n```", "assert add(1, 2) == 3")]
    expected = verifiers.verify(jobs)
    shuffled = list(range(len(jobs)))
    random.Random(0).shuffle(shuffled)
    assert [expected[i] for i in shuffled] == verifiers.verify([jobs[i] for i in shuffled], workers=1)
    assert expected == verifiers.verify(jobs, workers=3)


MINE = """
import os, signal, time
def mine(response, answer):
    if response == "hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 60))
        time.sleep(1000)
    if response == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if response == "exit":
        raise SystemExit(0)
    if response == "print":
        print("right")
    if response == "eat":
        return "x" * 10**11
    return {"yes": True, "no": False, "odd": "maybe"}.get(response, "wrong")
"""


def test_a_verifier_of_your_own_that_hangs_or_dies_is_an_error_and_the_rest_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(verifiers, "JOB_WALL_S", 10)  # a hang costs the test all of it
    path = tmp_path / "my_file.py"
    path.write_text(MINE)
    name = f"{path}:mine"
    assert verifiers.reference("anything", name) == "anything"
    responses = ["yes", "no", "hang", "die", "exit", "odd", "eat", "print", "yes"]
    start = time.monotonic()
    assert verifiers.verify([(name, r, "x") for r in responses], workers=2) == [
        "right", "wrong", "error", "error", "error", "error", "error", "wrong", "right",
    ]  # fmt: skip
    assert time.monotonic() - start < 2 * verifiers.JOB_WALL_S


@pytest.mark.parametrize("name, sentence", [
    ("maths", "there is no 'maths': use math, choice, code, or FILE.py:FUNCTION"),
    ("nowhere.py:f", "there is no 'nowhere.py:f'"),
    (f"{__file__}:no_such", "has no function 'no_such'"),
])
def test_unknown_verifiers(name, sentence):
    with pytest.raises(ValueError, match=sentence):
        verifiers.load(name)


def test_interpreters_die_with_the_trainer(tmp_path):
    script = "import os, sys, verifiers\nverifiers.verify([('math', '\\\\boxed{1}', '1')] * 4)\nprint('up', flush=True)\n"
    script += "sys.stdin.read()"
    trainer = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               cwd=os.path.dirname(verifiers.__file__))
    assert trainer.stdout.readline() == b"up\n"
    children = psutil.Process(trainer.pid).children(recursive=True)
    assert children
    os.kill(trainer.pid, signal.SIGKILL)
    trainer.wait()
    assert not psutil.wait_procs(children, timeout=5)[1]
