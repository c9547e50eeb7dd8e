"""Programs that pass their tests, and programs that only look like it."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

import sandbox
import verifiers


def verdict(response, answer):
    return verifiers.verify([("code", response, verifiers.reference(answer, "code"))])[0]


def code(source):
    return f"Here it is:\n```python\n{source}\n```\nDone."


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
        ("def f(x):\n    raise ValueError('no')", "try:\n    f(1)\nexcept ValueError:\n    pass\nelse:\n    assert False"),
        ("def f():\n    return {'a': (1, {2}), 'b': [None, 1.5, 'x', 2j]}", "assert f()['a'][1] == {2} and f()['b'][3] == 2j"),
        ("from collections import Counter\ndef f(x):\n    return Counter(x)", "assert f([1, 1, 2]) == {1: 2, 2: 1}"),
        ("def f(a):\n    a.sort()", "a = [3, 1]\nf(a)\nassert a == [1, 3]"),
        ("class E(ValueError):\n    pass\ndef f():\n    raise E('neg')", "try:\n    f()\nexcept ValueError as e:\n    assert str(e) == 'neg'\nelse:\n    assert False"),
        ("def sum(a, b):\n    return a + b", "assert sum(10, 15) == 25"),
        ("def f(d, key):\n    return d[key]", "try:\n    f({}, 3)\nexcept KeyError as e:\n    assert e.args == (3,)\nelse:\n    assert False"),
        ("def f(x):\n    return x.decode('utf8')", "try:\n    f(b'\\xff')\nexcept ValueError:\n    pass\nelse:\n    assert False"),
        ("import numpy as np\ndef f(x):\n    return np.int64(x), np.arange(3)", "assert f(2)[0] == 2"),
        ("print('noise')\ndef add(a, b):\n    print('more')\n    return a + b", ADD),
        ("import math\ndef f(x):\n    return math.pi * x", "assert f(2) == 2 * math.pi"),
        ("import re\ndef f(x):\n    return re.match('a', x)", "assert f('a') and not f('b')"),
        ("def f(n):\n    for i in range(n):\n        yield i", "assert list(f(3)) == [0, 1, 2]"),
        ("def f(d):\n    return d.keys()", "assert sorted(f({2: 1, 1: 1})) == [1, 2]"),
        ("from collections import deque\ndef f(x):\n    return deque(x)", "assert list(f([1])) == [1] and not f([])"),
        ("def f(nums):\n    nums.sort()", "a = [3, 1]\nf(nums=a)\nassert a == [1, 3]"),
        ("class Solution:\n    def total(self, nums):\n        return sum(nums)", json.dumps({"test": "def check(candidate):\n    assert candidate(nums=[1, 2]) == 3", "entry_point": "Solution().total"})),
        ("def f(n):\n    return range(n)", "assert f(3) == range(3) and len(f(4)) == 4 and not f(0)"),
        ("from decimal import Decimal\ndef f(x):\n    return Decimal(x)", "from decimal import Decimal\nassert f('0.1') == Decimal('0.1') and not f('0')"),
    ],
)
def test_solutions_that_pass(source, tests):
    assert verdict(code(source), tests) == "right"


@pytest.mark.parametrize(
    "source, tests",
    [
        ("class Solution:\n    def twice(self, x):\n        return 2 * x", "assert Solution().twice(3) == 6"),
        ("f = lambda x: x + 1\nK = 3", "assert f(1) == 2 and K == 3"),
        ("def f(n):\n    for i in range(n):\n        yield i", "assert f(3) == [0, 1, 2]"),
        ("from collections import deque\ndef f(n):\n    return deque([n])", "assert len(f(3)) == 1"),
        ("from fractions import Fraction\ndef f():\n    return Fraction(1, 2)", "assert f() == 0.5"),
        ("import types\ndef f():\n    return types.SimpleNamespace(x=3)", "assert f().x == 3"),
        ("class P:\n    def __init__(self, x):\n        self.x = x\n    def __len__(self):\n        return 7", "p = P(3)\nassert p.x == 3 and len(p) == 7"),
        ("class N:\n    def __init__(self, v, n=None):\n        self.v, self.n = v, n\ndef ln(a):\n    return 1 + ln(a.n) if a else 0", "assert ln(N(1, N(2))) == 2"),
        ("def mk(a):\n    return lambda b: a + b", "assert mk(2)(3) == 5"),
    ],
)
def test_only_calls_with_plain_values_reach_a_solution(source, tests):
    assert verdict(code(source), tests) == "wrong"


CHEATS = [
    "def add(a, b):\n    return a - b",
    "def add(a, b):\n    return 3",
    "import sys\nsys.exit(0)",
    "import os\nos._exit(0)",
    f"import os\nos._exit({sandbox.PASSED})",
    f"def add(a, b):\n    import os\n    os._exit({sandbox.PASSED})",
    "raise SystemExit(0)",
    "def all(x):\n    return True\ndef set(x):\n    return 1\ndef add(a, b):\n    return 0",
    "class add:\n    def __init__(self, a, b):\n        pass",
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
    "import math\n__builtins__ = {'len': 3}\n__name__ = '__main__'\ndef add(a, b):\n    return 0",
    "class Text(str):\n    __eq__ = lambda self, other: True\n    __hash__ = None\ndef add(a, b):\n    return Text('3')",
    "import threading, os\nthreading.Thread(target=lambda: [os.write(n, b'right') for n in range(9)], daemon=True).start()\ndef add(a, b):\n    return 0",
    "print('right')\nprint('\"right\"')\ndef add(a, b):\n    raise AssertionError",
    "def add(a, b):\n    import sys\n    sys.exit(77)",
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

    def solutions():  # by how they are started
        commands = [p.info["cmdline"] or [""] for p in psutil.process_iter(["cmdline"])]
        return [c for c in commands if c[:2] == [sys.executable, "-I"] or "unshare" in c[0]]

    deadline = time.monotonic() + 10  # another test, side by side, may have started one
    while solutions() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not solutions()
    assert verdict(code("def add(a, b):\n    return a + b"), ADD) == "right"


@pytest.mark.parametrize(
    "source, tests",
    [
        ("def check(candidate):\n    pass", "def check(candidate):\n    assert candidate(2) == 4"),
        ("def set(x):\n    return 1\ndef both(a, b):\n    return 0", "assert set(both((3, 4, 5), (5, 7, 4))) == set((4, 5))"),
        ("def abs(x):\n    return 0\ndef cut(x):\n    return 9", "def check(candidate):\n    assert abs(candidate(1.33) - 0.33) < 1e-6"),
        ("def range(*a):\n    return []\ndef f(i):\n    return 0", "for i in range(3):\n    assert f(i) == i * i + 1"),
        ("class A:\n    def __init__(self):\n        self.active = False", "a = A()\nassert a.active"),
        ("class A:\n    pass", "a = A()\nassert hasattr(a, 'push')"),
        ("import math\nmath.pi = 0\ndef f(x):\n    return 0", "assert f(2) == 2 * math.pi"),
        ("class math:\n    pi = 0\ndef f(x):\n    return 0", "assert f(2) == 2 * math.pi"),
        ("def f(x):\n    return object()", "assert f(2) == 4"),
        ("class Zero:\n    __bool__ = lambda self: False\ndef f(x):\n    return Zero()", "assert f(2)"),
        ("def f(x):\n    raise StopIteration", "assert all(map(lambda i: f(i) == i + 1, [1, 2]))"),
        ("class A:\n    __iter__ = None\ndef f(x):\n    return A()", "try:\n    f(3)\nexcept TypeError:\n    pass\nelse:\n    assert False"),
        ("def f(x):\n    return b'\\xff'.decode('utf8')", "try:\n    f(3)\nexcept TypeError:\n    pass\nelse:\n    assert False"),
        ("def f(x):\n    return 0", "import unittest\nclass F(unittest.TestCase):\n    def test_a(self):\n        assert f(0) == 0\n    def test_b(self):\n        assert f(1) == 3\nunittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(F))"),
    ],
)
def test_solutions_cannot_replace_what_the_tests_use(source, tests):
    assert verdict(code(source), tests) == "wrong"


def test_a_solution_changes_no_file_where_the_kernel_allows_it(tmp_path):
    if not any("remount" in word for word in sandbox.sandbox()):
        pytest.skip("mounts cannot be made read-only here")
    target = tmp_path / "file"
    target.write_text("as it was")
    source = f"import os, glob\nfor p in ({str(target)!r}, {sandbox.__file__!r}, '/tmp/leak', '/dev/shm/leak', '/proc/sys/kernel/pid_max'):\n"
    source += "    try: open(p, 'r+' if os.path.exists(p) else 'w').write('# 100000')\n    except OSError: pass\n"
    before = open(sandbox.__file__).read()
    assert verdict(code(source + "print(sum(map(int, input().split())))"), IO) == "right"
    assert target.read_text() == "as it was" and open(sandbox.__file__).read() == before
    assert not os.path.exists("/tmp/leak") and not os.path.exists("/dev/shm/leak")


def test_a_solution_reaches_no_network_where_the_kernel_allows_it():
    if "unshare" not in sandbox.sandbox():
        pytest.skip("unshare does not work here, and docs/verifiers.md says what that means")
    source = "import socket\ndef add(a, b):\n    socket.create_connection(('127.0.0.1', {}), timeout=1)\n    return a + b"
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        assert verdict(code(source.format(server.getsockname()[1])), ADD) == "wrong"


@pytest.mark.parametrize(
    "response, expected",
    [
        ("no code at all", "unparsed"),
        (code("def add(a, b):\n    return a + b") + "\n\n```\n3\n```", "right"),  # its output, shown
        (code("def add(a, b):\n    return a + b") + "\n\n```python\nprint(add(1, 2))\n```", "right"),  # its use
        ("1. So:\n   ```python\n   def add(a, b):\n       return a + b\n   ```\n", "right"),  # indented in a list
        ("```python\ndef add(a, b):\n    return a + b", "unparsed"),  # cut off
        (code("def add(a, b):\n    return 0") + "\n" + code("def add(a, b):\n    return a + b"), "right"),  # the last block
        ("<think>" + code("def add(a, b):\n    return a + b"), "unparsed"),
    ],
)
def test_which_code_counts(response, expected):
    assert verdict(response, ADD) == expected


@pytest.mark.parametrize("answer", ["x = 1", "def check(", "assert True", "def check(candidate):\n    assert 1 + 1 == 2", '{"inputs": ["1"], "outputs": []}', '{"inputs": []}', "[]", '{"inputs": [[1]], "outputs": [2]}',
    "def test_f(fixture):\n    assert f(1) == 2", "def helper():\n    assert f(1) == 2", "class Helper:\n    def test(self):\n        assert f(1) == 2", "async def test_f():\n    assert f(1) == 2", "import unittest\nclass T(unittest.TestCase):\n    pass", "[1]",
    "def test_f():\n    assert f(0) == 0\n@pytest.mark.parametrize('x, y', [(1, 3)])\ndef test_g(x, y):\n    assert f(x) == y", "assert f(0) == 0\nasync def test_f():\n    assert f(1) == 3",
    "class TestF:\n    def test_a(self):\n        assert f(0) == 0\n    class TestEdge:\n        def test_b(self):\n            assert f(1) == 3",
    "class TestF:\n    def test_a(self):\n        assert f(0) == 0\n    async def test_b(self):\n        assert f(1) == 3",
    "assert f(0) == 0\ndef run_all():\n    assert f(1) == 3", '{"inputs": ["1"], "outputs": "2"}'])
def test_code_references_without_tests_are_refused(answer):
    with pytest.raises(ValueError, match="tests"):
        verifiers.reference(answer, "code")


RUN_TESTS = [
    "def test_f():\n    assert f(1) == 3", "class TestF:\n    def test_f(self):\n        assert f(1) == 3",
    "import unittest\nclass F(unittest.TestCase):\n    def test_f(self):\n        self.assertEqual(f(1), 3)\nif __name__ == '__main__':\n    unittest.main()",
    "class TestF:\n    def setup_method(self):\n        self.x = 1\n    def test_f(self):\n        assert f(self.x) == 3",
    "import unittest as u\nclass Base(u.TestCase):\n    def setUp(self):\n        self.x = 1\nclass F(Base):\n    def test_f(self):\n        self.assertEqual(f(self.x), 3)",
    "def test_f():\n    if f(1) != 3:\n        raise ValueError\ndef test_g():\n    assert f(0) == 0",
    "if __name__ == '__main__':\n    assert f(1) == 3", "def check_f(candidate):\n    assert candidate(1) == 3",
    "def check(candidate):\n    assert candidate(1) == 3\ncheck(f)", "def test_f():\n    assert f(1) == 3\ntest_f()",
    json.dumps({"test": "def check_it(candidate):\n    assert candidate(1) == 3", "entry_point": "f"}),
    json.dumps({"fn_name": "f", "inputs": ["1\n", "2"], "outputs": ["3", "6\n"]}),
    json.dumps({"fn_name": "f", "inputs": [[1], [2]], "outputs": [3, [6]]}), "from solution import f\ndef test_f():\n    assert f(1) == 3",
    "class F:\n    def test_f(self):\n        assert f(1) == 3\nF().test_f()",
]  # fmt: skip


@pytest.mark.parametrize("tests", RUN_TESTS)
def test_every_form_of_tests_runs(tests):
    assert verdict(code("def f(x):\n    return 3 * x"), tests) == "right"
    assert verdict(code("def f(x):\n    return 2 * x"), tests) == "wrong"
    assert verdict(code("__builtins__ = {}\ndef f(x):\n    return 2 * x"), tests) == "wrong"


def test_a_usage_in_a_block_of_its_own_is_no_solution():
    tests = "def close(a, b):\n    return abs(a - b) < 1e-6\nfor b in range(3):\n    assert close(f(b), b)"
    response = code("def f(x):\n    return x") + "\nFor example\n```python\na = f(1)\nprint(a)\n```\n"
    assert verdict(response, tests) == "right"


def test_large_arguments_are_read_in_time():
    numbers = "[" + ", ".join(["1"] * 100_000) + "]"
    tests = json.dumps({"fn_name": "f", "inputs": [numbers] * 20, "outputs": ["100000"] * 20})
    assert verdict(code("class Solution:\n    def f(self, x: List[int]) -> int:\n        return sum(x)"), tests) == "right"


def test_a_name_of_typing_is_no_solution():
    tests = json.dumps({"fn_name": "final", "inputs": ["1"], "outputs": ["1"]})
    assert verdict(code("x = 1"), tests) == "wrong"
    assert verdict(code("class Solution:\n    def final(self, x):\n        return x"), tests) == "right"


@pytest.mark.parametrize("tests", ["if f(1) == 4:\n    assert True", "for x in f(1):\n    assert x"])
def test_a_pass_needs_an_assert_that_ran(tests):
    assert verdict(code("def f(x):\n    return []"), tests) == "wrong"


@pytest.mark.parametrize("source, expected", [
    ("def f(x):\n    return g(x)\ndef g(x):\n    return 3 * x", "right"),
    ("def g(x):\n    return 3 * x\ndef f(x):\n    return f(x - 1) + 3 if x else g(0)\ndef main():\n    f(1)", "right"),
    ("def f(x):\n    return 3 * x\ndef other(x):\n    return 3 * x", "wrong"),
])
def test_the_entry_point_is_the_function_that_no_other_calls(source, expected):
    assert verdict(code(source), "def check(candidate):\n    assert candidate(1) == 3") == expected


def test_methods_of_livecodebench_and_results_that_are_tuples():
    tests = json.dumps({"fn_name": "twice", "inputs": ["[1, 2]\n\"a\""], "outputs": ["[2, [4]]"]})
    source = "class Solution:\n    def twice(self, numbers: List[int], name: str):\n        return 2, (4,)"
    assert verdict(code(source), tests) == "right"
    assert verdict(code(source.replace("(4,)", "4")), tests) == "wrong"


@pytest.mark.parametrize("printed, wanted, expected", [
    ("0.5", "0.50", "right"), ("1e3", "1000", "right"), ("YES  no", "YES no\n", "right"), ("0.333333333333", "0.3333333333333", "right"),
    ("yes", "YES", "wrong"), ("1 2", "1\n2", "wrong"), ("12", "1 2", "wrong"), ("0.33", "0.333", "wrong"), ("nan", "0", "wrong"),
    ("10000000000000000000001", "10000000000000000000002", "wrong"), ("inf", "1", "wrong"), ("", "1", "wrong"), ("1_0", "10", "wrong"), ("sNaN", "1.0", "wrong"),
])  # fmt: skip
def test_outputs_are_compared_word_by_word(printed, wanted, expected):
    assert verdict(code(f"print({printed!r})"), json.dumps({"inputs": [""], "outputs": [wanted]})) == expected


def test_every_pair_of_input_and_output_counts():
    tests = json.dumps({"inputs": [str(i) for i in range(40)], "outputs": [str(i) for i in range(40)]})
    assert verdict(code("print(input())"), tests) == "right"
    assert verdict(code("n = int(input())\nprint(n if n < 39 else 0)"), tests) == "wrong"


def test_slow_runs_have_time_enough():
    tests = json.dumps({"inputs": ["1"] * 15, "outputs": ["1"] * 15})
    assert verdict(code("import time\ntime.sleep(1)\nprint(input())"), tests) == "right"
    assert verifiers.JOB_WALL_S > sandbox.RUNS_WALL_S + sandbox.RUN_WALL_S


@pytest.mark.parametrize("tests", [
    "t = lambda: add(1, 2) == 3\nassert t", "if False:\n    assert add(1, 2) == 3", "for x in []:\n    assert add(x, 1) == 3",
    "import unittest\nclass T(unittest.TestCase):\n    @unittest.skip('')\n    def test_a(self):\n        self.assertEqual(add(1, 2), 3)",
    "import sys\nsys.exit(0)\nassert add(1, 2) == 3", "def test_a():\n    return\n    assert add(1, 2) == 3",
])
def test_tests_that_ask_nothing_of_a_solution_are_passed_by_none(tests):
    assert verdict(code("def add(a, b):\n    return a + b"), tests) == "wrong"


@pytest.mark.parametrize("output, wanted, expected", [
    ("0.50", "0.5", "right"), ("1.0", "1", "right"), ("1 2 ", "1 2", "right"), ("Case 1: 2.50", "Case 1: 2.5", "right"),
    ("0.3333333333", "0.3333333333333333", "right"), ("101", "0101", "wrong"), ("-1", "-01", "wrong"),
    ("1 2", "1\n2", "wrong"), ("2 1", "1 2", "wrong"), ("0.1", "0.2", "wrong"), ("nan", "1.0", "wrong"), ("True", "1", "wrong"),
    ("100000000000000001", "100000000000000000", "wrong"),
])
def test_outputs_are_texts_with_numbers_in_them(output, wanted, expected):
    tests = json.dumps({"inputs": ["1"], "outputs": [wanted]})
    assert verdict(code(f"print({output!r})"), tests) == expected


@pytest.mark.parametrize("answer", [
    {"fn_name": "f", "inputs": ["a b"], "outputs": ["3"]}, {"fn_name": "f(", "inputs": ["1"], "outputs": ["3"]},
    {"fn_name": 3, "inputs": ["1"], "outputs": ["3"]},
])
def test_calls_that_cannot_be_read_are_refused(answer):
    with pytest.raises(ValueError, match="inputs and outputs no JSON|fn_name, a function's name"):
        verifiers.reference(json.dumps(answer), "code")


REDUCED = """
import sandbox, verifiers
assert "unshare" not in sandbox.sandbox()
tests = "assert f(1) == 31337"  # as from the cache of a dataset: nothing was read in this process
jobs = [("code", "```python\\ndef f(x):\\n    return %d\\n```" % n, tests) for n in (31337, 0)]
parent = '''```python
import os
def f(x):
    pid = os.getppid()
    for _ in range(3):  # the tests' process, the pool's, the trainer's
        for name in ("fd/0", "fd/1", "mem"):
            try:
                os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_NONBLOCK)
                return name
            except PermissionError:
                pass
        pid = int(open(f"/proc/{pid}/stat").read().split()[3])
    return 31337
```'''
verdicts = verifiers.verify(jobs, workers=1)
print(verdicts + verifiers.verify([("code", parent, tests)], workers=1))
"""


@pytest.mark.parametrize("user", ["", "setpriv --bounding-set=-all --inh-caps=-all "])  # root, and one without privileges
def test_without_unshare_the_processes_around_a_solution_stay_closed_and_the_run_says_so(user):
    command = f'echo 0 > /proc/sys/user/max_user_namespaces && exec {user}{sys.executable} -c "$0"'
    done = subprocess.run(["unshare", "--map-root-user", "sh", "-c", command, REDUCED], capture_output=True, text=True,
                          cwd=os.path.dirname(sandbox.__file__))
    if "unshare failed" in done.stderr:
        pytest.skip("this kernel has no namespace in which to forbid namespaces")
    assert done.stdout == "['right', 'wrong', 'right']\n", done.stderr[-2000:]
    assert done.stderr.count("UserWarning") == 1, done.stderr
