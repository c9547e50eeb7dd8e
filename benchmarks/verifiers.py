"""How fast, and how safe, are the verifiers?

    python benchmarks/verifiers.py rate       # verifications per second, warm, by kind of answer; two interpreters
    python benchmarks/verifiers.py hostile    # 10,000 generated hostile responses: verdicts, time, memory, leftovers
    python benchmarks/verifiers.py gold FILE  # every answer of a dataset's file, boxed, against itself
    python benchmarks/verifiers.py suites FOLDER  # HumanEval's, MBPP's and GSM8K's own solutions, and broken ones
"""

import ast
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))
import verifiers  # noqa: E402

WORKERS = 2


def rate():
    kinds = {
        "math, integers": [("math", rf"so \boxed{{{i}}}", str(i + i % 2)) for i in range(3000)],
        "math, decimals": [("math", rf"so \boxed{{{i}.50}}", f"{i}.5") for i in range(1000)],
        "math, fractions": [("math", rf"so \boxed{{\frac{{{i}}}{{7}}}}", f"{i}/7") for i in range(1000)],
        "math, surds": [("math", rf"so \boxed{{{i}\sqrt{{3}}+1}}", rf"1+\sqrt{{{3 * i * i}}}") for i in range(2, 300)],
        "surds, groups of 8": [("math", rf"so \boxed{{{i}\sqrt{{7}}+{k}}}", rf"1+\sqrt{{{7 * i * i}}}")
                               for i in range(2, 300) for k in range(8)],
        "choice": [("choice", "The answer is (B).", "B. Paris")] * 3000,
        "code": [("code", f"```\ndef f(x):\n    return x + {i}\n```", f"assert f(1) == {i + 1}") for i in range(60)],
    }
    for name, jobs in kinds.items():
        rates = []
        for _ in range(5):
            start = time.perf_counter()
            verifiers.verify(jobs, workers=WORKERS)
            rates.append(len(jobs) / (time.perf_counter() - start))
        print(f"{name:18} first {rates[0]:7.0f} /s   warm median of 4 {sorted(rates[1:])[1]:7.0f} /s", flush=True)


def hostile(count=10_000):
    rng = random.Random(0)
    bits = [
        *"90x-+,()[]{}^!$%= ", "^{9^{9^9}}", "\\frac", "\\frac{1}{", "\\sqrt{", "\\text{", "\\left(", "\\boxed{",
        "\\boxed", "\\\\", "\\%", "\\sum_{i=1}^{10^8}", "\\int", "\\infty", "10^{10^{10}}", "answer is ",
        "####", "<think>", "</think>", "\ud800", "\u202e", "\N{ARABIC-INDIC DIGIT THREE}", "\0", "\n",
    ]
    jobs = []
    for _ in range(count):
        body = "".join(rng.choices(bits, k=rng.choice([3, 10, 30, 100])))
        body *= rng.choice([1, 1, 1, 1, 20, 1000])
        response = rng.choice(["{}", "\\boxed{{{}}}"]).format(body)
        jobs.append(("math", response, rng.choice(["7", "x+1", "(1,2)"])))
    start, peak, verdicts = time.perf_counter(), 0, Counter()
    for i in range(0, count, 500):
        verdicts.update(verifiers.verify(jobs[i : i + 500], workers=WORKERS))
        tree = [psutil.Process(), *psutil.Process().children(recursive=True)]
        peak = max(peak, sum(p.memory_info().rss for p in tree))
        print(f"{i + 500:6} {time.perf_counter() - start:6.0f} s {peak / 2**20:6.0f} MiB {dict(verdicts)}", flush=True)
    assert verifiers.verify([("math", "\\boxed{7}", "7")], workers=WORKERS) == ["right"]
    print(f"{len(psutil.Process().children(recursive=True))} processes left, {WORKERS} of them interpreters")


def gold(path):
    answers = [verifiers.reference(json.loads(line)["answer"]) for line in open(path)]
    verdicts = Counter(verifiers.verify([("math", f"so \\boxed{{ {a} }}", a) for a in answers], workers=WORKERS))
    print(f"{len(answers)} answers: {dict(verdicts)}")


class Nothing(ast.NodeTransformer):
    """Leaves of every function its name."""

    def visit_FunctionDef(self, node):
        node.body = ast.parse("return None").body
        return node


def suites(folder):
    folder = Path(folder)
    human = [json.loads(line) for line in open(folder / "humaneval" / "HumanEval.jsonl")]
    mbpp = json.loads((folder / "mbpp" / "sanitized-mbpp.json").read_text())
    programs = {
        "HumanEval": [(row["task_id"], row["prompt"] + row["canonical_solution"], json.dumps(row)) for row in human],
        "MBPP": [(row["task_id"], row["code"], json.dumps(row["test_imports"] + row["test_list"])) for row in mbpp],
    }
    for name, rows in programs.items():
        broken = [(i, ast.unparse(Nothing().visit(ast.parse(code))), tests) for i, code, tests in rows]
        for label, rows in ("canonical", rows), ("broken", broken):
            start = time.perf_counter()
            jobs = [("code", f"```python\n{code}\n```", verifiers.reference(tests, "code")) for _, code, tests in rows]
            verdicts = verifiers.verify(jobs, workers=WORKERS)
            seconds, odd = time.perf_counter() - start, "wrong" if label == "canonical" else "right"
            print(f"{name}, {label}: {dict(Counter(verdicts))} in {seconds:.0f} s", flush=True)
            for row, verdict in zip(rows, verdicts):
                if verdict == odd:
                    print(f"    {row[0]} is {odd}")
    start = time.perf_counter()
    answers = [json.loads(line)["answer"] for line in open(folder / "gsm8k" / "train.jsonl")]
    answers = [verifiers.reference(answer) for answer in answers]
    others = [next(b for b in answers[i:] + answers if float(b.replace(",", "")) != float(a.replace(",", "")))
              for i, a in enumerate(answers)]
    for label, references in ("itself", answers), ("another", others):
        jobs = [("math", f"so \\boxed{{{a}}}", b) for a, b in zip(answers, references)]
        print(f"GSM8K, each against {label}: {dict(Counter(verifiers.verify(jobs, workers=WORKERS)))}")
    print(f"{len(answers)} references in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    commands = {"rate": rate, "hostile": hostile, "gold": gold, "suites": suites}
    if sys.argv[1:2] and sys.argv[1] in commands:
        commands[sys.argv[1]](*sys.argv[2:])
    else:
        sys.exit(__doc__)
