"""hints.py: no answer gets through, and nothing written is lost."""

import json
import subprocess
import sys

import datasets
import pytest
import tyro
from conftest import ROOT, TOY

import hints
import verifiers

LEAKING = [
    ("math", "42", "You should arrive at 42."),
    ("math", "42", "The result is forty, no: \\boxed{42}"),
    ("math", "42", "It equals $6 \\cdot 7$."),
    ("math", "1,200", "Then she has 1200 apples."),
    ("math", "1200", "Then she has $1{,}200$ apples."),
    ("math", "0.75", "It is three quarters, that is 3/4."),
    ("math", "\\frac{3}{4}", "Cancel to get 0.75"),
    ("math", "\\frac{3}{4}", "Divide, so \\(x = \\frac{6}{8}\\)."),
    ("math", "x^2+1", "Factor out $x^2 + 1$ at the end."),
    ("math", "7", "There are seven of them."),
    ("math", "-3", "Take x = -3, and check."),
    ("math", "\\text{Evelyn}", "Who is fastest? evelyn is."),
    ("math", "(3, \\frac{\\pi}{2})", "Write it as $(3, \\pi/2)$."),
    ("math", "\\frac{3}{4}", "The slope is \\dfrac{3}{4} here."),
    ("math", "2x+1", "Factor 2x + 1 out."),
    ("math", "[0,1]", "Stay within [0, 1] all the time."),
    ("math", "\\text{New York}", "Think of new york city."),
    ("math", "-3", "It is minus three"),
    ("math", "-3", "It is −3"),
    ("math", "0.75", "that is .75 of it"),
    ("math", "\\frac{3}{4}", "it becomes ¾"),
    ("math", "42", "so ４２"),
    ("math", "1200", "between 500-1,200"),
    ("math", "1200", "then 1 200 are left"),
    ("math", "2\\pi", "once around is 2π"),
    ("choice", "B", "Look at option (B)."),
    ("choice", "B. New York", "It is in New York."),
    ("choice", "B. Paris", "It lies on the Seine: paris"),
    ("choice", "A", "The answer is A."),
    ("choice", "B. Newton's second law", "Use Newton's second law."),
    ("choice", "B. 1914–1918", "It was fought 1914–1918."),
    ("choice", "B. 3×5", "Work out 3×5 first."),
    ("code", "assert f(1) == 2", "def f(x):\n    return x + 1"),
    ("code", "assert f(1) == 2", "Try\n```python\ndef f(x):\n    return x + 1\n```"),
    ("code", "assert f(1) == 2", "Write\n  def f(x):\n      return x + 1\nand you are done."),
    ("code", "assert f(1) == 2", "Use `f = lambda x: x + 1` here."),
]
FINE = [
    ("math", "42", "Multiply the number of boxes by what is in each of the 6 boxes, then compare with 420 and 4.2."),
    ("math", "\\text{Evelyn}", "Compare everyone's distance with their time."),
    ("math", "x^2+1", "Look for a factor of the numerator that has no real roots."),
    ("math", "7", "Count each edge once; there are 17 vertices and 70 faces."),
    ("choice", "B. Paris", "A capital on the Seine. I would start with the rivers."),
    ("choice", "A. iron", "A metal is wanted, I think; consider environments."),
    ("code", "assert f(1) == 2", "Add one to the argument and return the sum."),
]


@pytest.mark.parametrize("verifier, answer, hint", LEAKING)
def test_a_hint_with_the_answer_in_it_leaks(verifier, answer, hint):
    assert hints.leaks([hint], [verifiers.reference(answer, verifier)], [verifier]) == [True]


def test_hints_without_the_answer_do_not():
    names, answers, texts = zip(*FINE)
    answers = [verifiers.reference(answer, name) for answer, name in zip(answers, names)]
    assert hints.leaks(texts, answers, names) == [False] * len(FINE)


def test_rows_are_read_as_training_reads_them(tmp_path):
    rows = [dict(question="Capital of France?", choices=dict(text=["Rome", "Paris"], label=["A", "B"]), answerKey=key)
            for key in ("B", None)]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "arc.parquet")
    args = hints.Args(model="", dataset=str(tmp_path / "arc.parquet"), out=tmp_path / "out.jsonl", verifier="choice")
    same, (read, unreadable) = hints.read_rows(args)
    assert same == rows and unreadable is None
    assert read["answer"] == "B. Paris" and "A. Rome\nB. Paris" in read["messages"][0]["content"]
    datasets.Dataset.from_list(rows[1:]).to_parquet(tmp_path / "arc.parquet")
    with pytest.raises(SystemExit, match="has no row to write a hint for: the answer is empty"):
        hints.read_rows(args)


SIZES = f"--model={TOY['model']}", "--max-prompt-tokens=256", "--max-response-tokens=64"


def write(*arguments, cwd):
    command = [sys.executable, str(ROOT / "hints.py"), *SIZES, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_hints_for_the_toy_never_hold_the_answer_and_resume(tmp_path, monkeypatch):
    rows = [json.loads(line) | {"hint": ""} for line in open(TOY["eval_dataset"])][:80]
    rows[0]["hint"], rows[1]["answer"] = "I was here before", ""
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # asked for nothing but the problem the toy writes a solution, right for about a third of easy letters
    flags = ["--dataset=in.jsonl", "--out=hints/out.jsonl", "--prompt={problem}", "--attempts=2", "--temperature=1"]
    done = write(*flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    written = [json.loads(line) for line in open(tmp_path / "hints/out.jsonl")]
    assert [{**row, "hint": ""} for row in written] == [{**row, "hint": ""} for row in rows]
    assert written[0]["hint"] == "I was here before" and written[1]["hint"] == ""
    assert sum(row["answer"] != "" and row["answer"] in row["hint"] for row in written) == 0
    counts = {line[7:]: int(line[:6]) for line in done.stdout.splitlines() if line[:6].strip().isdigit()}
    assert counts["thrown away: the answer was in it"] > 0
    assert counts["with a hint"] == sum(bool(row["hint"]) for row in written) > 60
    assert counts["without hint: no readable problem and answer"] == 1

    complete = (tmp_path / "hints/out.jsonl").read_text()
    lines = complete.splitlines(keepends=True)
    (tmp_path / "hints/out.jsonl").write_text("".join(lines[: hints.CHUNK]) + lines[hints.CHUNK][:30])
    done = write(*flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "hints/out.jsonl").read_text() == complete

    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "seven.jsonl").write_text("7\n")
    (tmp_path / "broken.py").write_text("def f(")
    for flag, sentence in [
        ("--dataset=hints/out.jsonl", "not be the --dataset itself"),
        ("--prompt=Hello", "--prompt has no {problem} in it"),
        ("--out=out.csv", "must end in .jsonl"),
        (f"--dataset={TOY['dataset']}", "holds rows of another dataset"),
        ("--attempts=0", "--attempts must be above 0"),
        ("--seed=-1", "--seed must be at least 0"),
        ("--out=folder.jsonl", "cannot write folder.jsonl"),
        ("--dataset=seven.jsonl", "cannot load the dataset seven.jsonl: the row is no JSON object"),
        ("--verifier=broken.py:f", "--verifier: "),
    ]:
        with pytest.raises(SystemExit, match=sentence):
            hints.main(tyro.cli(hints.Args, args=[*SIZES, *flags, flag]))
    assert (tmp_path / "hints/out.jsonl").read_text() == complete
