"""Verdicts on what models really write, and on what they should not have written."""

import itertools
import json
import os
import random
import signal
import time

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import verifiers


def verdict(response, answer, verifier="math"):
    return verifiers.verify([(verifier, response, verifiers.reference(answer, verifier))])[0]


def code(source):
    return f"Here it is:\n```python\n{source}\n```\nDone."


# ------------------------------------------------------------------------------------------------------------ math

RIGHT = [  # (inside the box, reference)
    ("72", "72"), ("72.", "72"), ("72.0", "72"), ("+72", "72"), ("007", "7"), ("-7", "-7"), (" 72 ", "72"),
    ("1,080", "1080"), ("1{,}080", "1080"), ("1\\,080", "1080"), ("1 080", "1080"), ("12 345 678", "12345678"),
    ("\\frac{1}{2}", "0.5"), ("\\frac12", "1/2"), ("\\dfrac{2}{4}", "\\frac12"), ("\\tfrac{1}{2}", ".5"),
    ("1\\frac{1}{2}", "1.5"), ("1 1/2", "3/2"), ("3 \\frac14", "13/4"), ("-\\frac{3}{4}", "-0.75"),
    ("50\\%", "0.5"), ("50%", "50\\%"), ("\\$5", "5"), ("5\\text{ cm}", "5"), ("5\\,\\text{cm}^2", "5"),
    ("90^\\circ", "90"), ("x=5", "5"), ("\\sqrt{\\frac{1}{4}}", "\\frac12"), ("2\\sqrt{3}", "\\sqrt{12}"),
    ("(x+1)^2", "x^2+2x+1"), ("\\pi", "\\pi"), ("\\infty", "\\infty"), ("-\\infty", "-\\infty"),
    ("(1,2]", "(1,2]"), ("[0, \\infty)", "[0,\\infty)"), ("\\{1,2,3\\}", "\\{3,2,1\\}"), ("1, 2", "2, 1"),
    ("(1,2)", "(1, 2)"), ("\\text{Blue}", "blue"), ("\\textbf{yes}", "yes"), ("\\emptyset", "\\emptyset"),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"), ("10^{19}", "1" + "0" * 19),
]  # fmt: skip
WRONG = [
    ("71", "72"), ("-72", "72"), ("7 2", "72"), ("72, 73", "72"), ("1 1/2", "1"), ("1 1/2", "0.5"), ("1 000", "0"),
    ("1 000", "1"), ("0.33", "1/3"), ("[1,2]", "(1,2]"), ("(2,1)", "(1,2)"), ("\\{1,2\\}", "\\{1,2,3\\}"),
    ("５", "6"), ("٣", "4"), ("½", "2"), ("x", "5"), ("\\text{72 or 73}", "72"), ("1/0", "72"), ("\\cancel{72}", "72"), ("\\not 72", "72"), ("\\infty", "-\\infty"),
    ("nan", "72"), ("None", "0"), ("False", "0"), ("True", "1"), ("[]", "0"), ("1e400", "\\infty"), ("0x48", "72"),
    ("7_2", "72"), ("72!", "72"), ("\\neg 72", "72"), ("import os", "72"), ("__import__('os')", "72"), ("exit()", "72"),
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
        ("The answer is", "unparsed"),
        ("the answer is 72 " + r"\boxed{71}", "wrong"),  # a box, once there, counts
        ("\\boxed{\\boxed{72}}", "right"),
        ("\x00\ud800\\boxed{72}\uffff", "right"),
    ],
)
def test_where_the_final_answer_is(response, expected):
    assert verdict(response, "72") == expected


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
    with pytest.raises(ValueError, match="cannot parse the answer|the answer is empty"):
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
    ],
)
def test_choices(response, answer, expected):
    assert verdict(response, answer, "choice") == expected


# ------------------------------------------------------------------------------------------------------------ code

ADD = "assert add(1, 2) == 3\nassert add(5, 5) == 10"
IO = json.dumps({"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"]})
HUMANEVAL = json.dumps({"test": "def check(candidate):\n    assert candidate(2) == 4", "entry_point": "double"})


@pytest.mark.parametrize(
    "source, tests",
    [
        ("def add(a, b):\n    return a + b", ADD),
        ("def add(a, b):\n    return a + b", json.dumps(ADD.split("\n"))),  # MBPP's list
        ("def double(x):\n    return 2 * x\ndef other(x):\n    return 0", HUMANEVAL),
        ("def helper(x):\n    return x\ndef double(x):\n    return 2 * helper(x)", json.loads(HUMANEVAL)["test"]),
        ("a, b = map(int, input().split())\nprint(a + b)", IO),
        ("import sys\nfor line in sys.stdin:\n    print(sum(map(int, line.split())), ' ')", IO),
        ("class Solution:\n    def twice(self, x):\n        return 2 * x", "assert Solution().twice(3) == 6"),
        ("def f(x):\n    raise ValueError('no')", "try:\n    f(1)\nexcept ValueError:\n    pass\nelse:\n    assert False"),
        ("def f():\n    return {'a': (1, {2}), 'b': [None, 1.5, 'x', 2j]}", "assert f()['a'][1] == {2} and f()['b'][3] == 2j"),
        ("print('noise')\ndef add(a, b):\n    print('more')\n    return a + b", ADD),
    ],
)
def test_solutions_that_pass(source, tests):
    assert verdict(code(source), tests, "code") == "right"


CHEATS = [
    "def add(a, b):\n    return a - b",
    "def add(a, b):\n    return 3",
    "import sys\nsys.exit(0)",
    "import os\nos._exit(0)",
    f"import os\nos._exit({verifiers.PASSED})",
    f"def add(a, b):\n    import os\n    os._exit({verifiers.PASSED})",
    "raise SystemExit(0)",
    "class Any:\n    __eq__ = lambda self, other: True\ndef add(a, b):\n    return Any()",
    "class Three(int):\n    __eq__ = lambda self, other: True\ndef add(a, b):\n    return Three(0)",
    "import builtins\nbuiltins.AssertionError = Exception\ndef add(a, b):\n    return 0",
    "import builtins\nbuiltins.__build_class__ = None\ndef add(a, b):\n    return 0",
    "import pickle\npickle.load = lambda f: (None, 'add', (1, 2), {})\ndef add(a, b):\n    return 3",
    "import sys\nframe = sys._getframe()\nwhile frame.f_back:\n    frame = frame.f_back\nfor k in list(frame.f_globals):\n"
    "    frame.f_globals[k] = None\ndef add(a, b):\n    return 0",
    "import glob\nfor p in glob.glob('*') + glob.glob('/tmp/*') + ['/proc/self/cmdline', '/proc/1/cmdline']:\n"
    "    try: exec(open(p).read())\n    except Exception: pass\ndef add(a, b):\n    return 0",
    "import os\nfor fd in range(20):\n    try: os.write(fd, b'right')\n    except OSError: pass\ndef add(a, b):\n    return 0",
    "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\ndef add(a, b):\n    return 0",
    "import pickle, os\nclass Evil:\n    def __reduce__(self):\n        return os._exit, (0,)\ndef add(a, b):\n    return Evil()",
    "def add(a, b):\n    while True:\n        pass",
    "def add(a, b):\n    return add(a, b)",
    "def add(a, b):\n    import time\n    time.sleep(1000)",
    "import os\nwhile True:\n    os.fork()",
    "import threading\nwhile True:\n    threading.Thread(target=lambda: [0] * 10**7).start()",
    "def add(a, b):\n    return [0] * 10**12",
    "x = []\nwhile True:\n    x.append('x' * 10**7)",
    "open('big', 'wb').write(b'0' * 10**9)\ndef add(a, b):\n    return a + b + 1",
    "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(1000)\ndef add(a, b):\n    return 0",
    "def add(a, b)\n    return a + b",
    "",
]
IO_CHEATS = [
    "print(3)", "print(open('/proc/self/cmdline').read())", "import sys\nsys.exit(0)", "while True:\n    print('x' * 1000)",
    "print('3\\n7')", "import os\nprint(os.environ, os.listdir('.'), os.listdir('..'))", "input()\ninput()\ninput()", "1/0",
    "a, b = map(int, input().split())\nprint(a + b)\nraise SystemExit(1)",
]  # fmt: skip


def test_cheats_are_wrong_and_leave_nothing_behind():
    jobs = [("code", code(source), verifiers.reference(ADD, "code")) for source in CHEATS]
    jobs += [("code", code(source), verifiers.reference(IO, "code")) for source in IO_CHEATS]
    verdicts = verifiers.verify(jobs)
    assert [job[1] for job, v in zip(jobs, verdicts) if v != "wrong"] == []
    time.sleep(0.5)
    commands = [p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"])]
    assert not [c for c in commands if "-I" in c or any("unshare" in word for word in c)]  # how solutions are started
    assert verdict(code("def add(a, b):\n    return a + b"), ADD, "code") == "right"


def test_a_solution_reaches_no_network_where_the_kernel_allows_it():
    if not verifiers.sandbox():
        pytest.skip("unshare does not work here, and the README says what that means")
    source = "import socket\ndef add(a, b):\n    socket.create_connection(('127.0.0.1', {}), timeout=1)\n    return a + b"
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        assert verdict(code(source.format(server.getsockname()[1])), ADD, "code") == "wrong"


@pytest.mark.parametrize(
    "response, expected",
    [
        ("no code at all", "unparsed"),
        ("```python\ndef add(a, b):\n    return a + b", "unparsed"),  # cut off
        (code("wrong = 1") + code("def add(a, b):\n    return a + b"), "right"),  # the last block
        ("<think>" + code("def add(a, b):\n    return a + b"), "unparsed"),
    ],
)
def test_which_code_counts(response, expected):
    assert verdict(response, ADD, "code") == expected


@pytest.mark.parametrize("answer", ["x = 1", "def check(", '{"inputs": ["1"], "outputs": []}', '{"inputs": []}', "[]"])
def test_code_references_without_tests_are_refused(answer):
    with pytest.raises(ValueError, match="tests"):
        verifiers.reference(answer, "code")


# ------------------------------------------------------------------------------------------------- the pool, and yours


def test_verdicts_depend_on_neither_order_nor_workers():
    jobs = [("math", f"\\boxed{{{inside}}}", answer) for inside, answer in RIGHT + WRONG]
    jobs += [("choice", "\\boxed{B}", "B"), ("code", code("def add(a, b):\n    return a + b"), ADD)]
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
    import subprocess
    import sys

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
