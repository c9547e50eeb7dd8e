"""evaluate.py: its estimates against brute force, and whole evaluations with the real engine."""

import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from conftest import ROOT, TOY

import evaluate

TINY = ["--max-prompt-tokens=128", "--max-response-tokens=64"]


def row(i, verdicts, greedy="", group="all"):
    """A problem's row in a file of responses; a verdict is its first letter."""
    names = {"r": "right", "w": "wrong", "u": "unparsed"}
    response = lambda v: dict(text="", verdict=names[v], tokens=10, logprob=-2.0, truncated=v == "u")
    first = response(greedy) if greedy else None
    return dict(row=i, group=group, prompt="?", answer=str(i), responses=[response(v) for v in verdicts], greedy=first)


# ------------------------------------------------------------------------------------------------------------ estimates
def test_pass_at_k_is_the_share_of_subsets_with_a_right_response():
    for n in range(1, 8):
        for c, k in itertools.product(range(n + 1), range(1, n + 1)):
            subsets = [any(i < c for i in subset) for subset in itertools.combinations(range(n), k)]
            assert evaluate.pass_at_k(n, np.array([c]), k)[0] == pytest.approx(np.mean(subsets), abs=1e-12)
    assert np.isfinite(evaluate.pass_at_k(4096, np.arange(4097), 4096)).all()


def test_intervals_are_those_of_the_mean_and_the_same_every_time():
    values = np.array([0, 1] * 200)
    mean, low, high = evaluate.interval(values, seed=0)
    assert mean == 0.5 and evaluate.interval(values, seed=0) == [mean, low, high]
    standard_error = 0.5 / np.sqrt(len(values))
    assert (high - low) / 2 == pytest.approx(1.96 * standard_error, rel=0.1)


def test_decomposition_of_a_case_done_by_hand():
    base = [row(0, "wrww"), row(1, "wwww"), row(2, "wwwr"), row(3, "rwww"), row(4, "rrrr"), row(5, "wwww")]
    model = [row(0, "rrrr"), row(1, "rwww"), row(2, "rrww"), row(3, "wrrr"), row(4, "rrrr"), row(5, "wrrr")]
    split = evaluate.decompose(base, model, k=3, seed=0)
    assert split["self-distillation"]["rows"] == [0]  # the base's second sample
    assert split["capability gain"]["rows"] == [1, 2]  # 2 needs a fourth sample
    assert split["forgotten"]["rows"] == [3]
    assert [split[part]["count"] for part in ("self-distillation", "capability gain", "forgotten")] == [1, 2, 1]
    assert split["delta first try"][0] == pytest.approx((1 + 2 - 1) / 6)
    assert evaluate.decompose(base, model, k=4, seed=0)["capability gain"]["rows"] == [1]

    greedy = [base[0] | dict(greedy=base[4]["responses"][0]), *base[1:]]  # solves 0 at the first try
    assert evaluate.decompose(greedy, model, k=3, seed=0)["self-distillation"]["count"] == 0


def test_table_and_report_say_the_same(tmp_path):
    groups = ["x", "x", "y", "y"]
    arms = {
        "base": [row(i, v, "w", g) for i, (v, g) in enumerate(zip(("wwwr", "rwww", "wwww", "uuuu"), groups))],
        "rl": [row(i, v, "r", g) for i, (v, g) in enumerate(zip(("rrrr", "rrww", "wwww", "wrrr"), groups))],
    }
    arms["rl + hint"] = [r | dict(responses=[arms["rl"][0]["responses"][0]] * 4) for r in arms["rl"]]
    args = evaluate.Args(model=["rl"], dataset="d", base="base", k=4, samples=4)
    report = json.loads(json.dumps(evaluate.make_report(arms, "base", args)))
    text = evaluate.table(report)
    rl = report["models"]["rl"]
    assert rl["pass@k"]["1"][0] == pytest.approx((4 + 2 + 0 + 3) / 16)
    assert rl["by"]["y"]["pass@k"]["4"][0] == pytest.approx(0.5)
    assert report["models"]["base"]["verdicts"]["unparsed"] == report["models"]["base"]["truncated"] == 0.25
    assert rl["entropy"] == pytest.approx(0.2) and rl["length"] == 10
    assert report["lift by hints"]["rl"]["1"][0] == pytest.approx(1 - 9 / 16)
    assert "rl + hint" not in report["decomposition"]

    def cells(line):
        return [c.strip() for c in line.strip("|").split("|")]

    lines = text.splitlines()
    y = next(lines[i + 2] for i, line in enumerate(lines) if line.startswith("| rl "))
    assert cells(y)[1:3] == ["y", "2"]
    for shown, k in zip(cells(y)[4:], ("1", "4")):
        assert [float(x) for x in re.findall(r"-?\d\.\d+", shown)] == [round(v, 3) for v in rl["by"]["y"]["pass@k"][k]]
    later = [cells(line) for line in lines[lines.index(y) :] if line.startswith("| rl ")]
    split = next(row for row in later if row[1:3] == ["all", "4"] and len(row) == 7)
    parts = ("self-distillation", "capability gain", "forgotten")
    assert split[3:6] == [str(report["decomposition"]["rl"][part]["count"]) for part in parts]
    evaluate.draw(report, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


# ----------------------------------------------------------------------------------------------------------- bad input
def write(path, rows):
    settings = evaluate.settings("m", False, [], evaluate.Args(model=["m"], dataset="d"))
    path.write_text("".join(json.dumps(r) + "\n" for r in [settings, *rows]))
    return str(path)


def refused(capsys=None, **flags):
    with pytest.raises(SystemExit) as stop:
        evaluate.main(evaluate.Args(**flags))
    return str(stop.value)


def test_bad_input_ends_with_a_sentence_before_any_engine_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toy = dict(dataset=TOY["eval_dataset"], max_prompt_tokens=128, max_response_tokens=64)
    assert "neither a run, a model's folder nor on the hub" in refused(model=["runs/none/at/all"], **toy)
    (tmp_path / "young").mkdir()
    (tmp_path / "young/args.json").write_text("{}")
    assert "young is a run without a checkpoint yet" in refused(model=["young"], **toy)
    assert "there is no file of responses" in refused(model=["gone.jsonl"], **toy)
    assert "the same label" in refused(model=[TOY["model"]], base=TOY["model"], **toy)
    assert "--k 16 needs as many --samples, which are 8" in refused(model=["m"], base="b", samples=8, **toy)
    assert "reads 4096 tokens" in refused(model=[TOY["model"]], dataset=TOY["eval_dataset"], max_response_tokens=9999)
    assert "--by taste" in refused(model=[TOY["model"]], by="taste", **toy)
    (tmp_path / "plain.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n')
    no_hints = toy | dict(dataset="plain.jsonl", hints=True)
    assert "no problem of plain.jsonl has a hint" in refused(model=[TOY["model"]], **no_hints)

    few = write(tmp_path / "few.jsonl", [row(0, "rw")])
    more = write(tmp_path / "more.jsonl", [row(0, "rw"), row(1, "rw")])
    message = refused(model=[few, more], dataset="d")
    assert "not all models answered the same problems (few: 1, more: 2)" in message
    assert "fewer than --k 16 responses" in refused(model=[f"a={few}"], base=f"b={few}", dataset="d")
    (tmp_path / "other.jsonl").write_text("[1, 2]\n")
    assert "is not a file of responses" in refused(model=["other.jsonl"], dataset="d")


# ---------------------------------------------------------------------------------------------------- real evaluations
def command(*arguments):
    size = [f"--dataset={TOY['eval_dataset']}", *TINY, "--samples=8", "--k=8", "--max-problems=64"]
    return [sys.executable, str(ROOT / "evaluate.py"), *size, *arguments]


def test_two_models_with_hints_in_one_command_and_a_kill_in_between(tmp_path):
    run = tmp_path / "runs/mine"
    run.mkdir(parents=True)
    (run / "args.json").write_text("{}")
    for step in ("step_000001", "step_000002"):
        shutil.copytree(TOY["model"], run / step)
    everything = command("--model", "runs/mine", f"--base=base={TOY['model']}", "--hints")

    process = subprocess.Popen(everything, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    responses = tmp_path / "evals/test/base.jsonl"
    while not responses.exists() or responses.read_text().count("\n") < 1 + evaluate.CHUNK:
        assert process.poll() is None
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not psutil.wait_procs(children, timeout=10)[1]  # nobody is left who writes
    with open(responses, "a") as file:
        file.write('{"row": 1, "resp')  # cut in the middle of a line
    kept = responses.read_text().splitlines()[: 1 + evaluate.CHUNK]

    done = subprocess.run(everything, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = responses.read_text().splitlines()
    assert lines[: 1 + evaluate.CHUNK] == kept and len(lines) == 1 + 64
    # interrupted or not: mine has the same weights as base and was sampled in one go
    mine = (tmp_path / "evals/test/mine.jsonl").read_text().splitlines()
    assert [json.loads(line)["responses"] for line in mine[1:]] == [json.loads(line)["responses"] for line in lines[1:]]
    assert json.loads(mine[0])["model"] == "runs/mine/step_000002"

    report = json.loads((tmp_path / "evals/test/report.json").read_text())
    assert list(report["models"]) == ["base", "base + hint", "mine", "mine + hint"]
    assert report["models"]["base"]["pass@k"]["1"][0] < 0.2 < 0.9 < report["models"]["base + hint"]["pass@k"]["1"][0]
    assert report["lift by hints"]["base"]["1"][1] > 0.7  # the lower end of the interval
    assert list(report["models"]["base"]["by"]) == ["easy", "medium", "hard"]
    assert report["decomposition"]["mine"]["delta first try"] == [0, 0, 0]  # the same responses
    text = (tmp_path / "evals/test/table.md").read_text()
    assert text in done.stdout and (tmp_path / "evals/test/pass_at_k.png").exists()

    other = subprocess.run([*everything, "--temperature=0.5"], cwd=tmp_path, capture_output=True, text=True)
    assert other.returncode == 1
    assert "was made with temperature 1.0, not 0.5: choose another --out" in other.stderr
    # the files themselves can be compared again, without a model
    again = command("--model", "new=evals/test/mine.jsonl", "--base=old=evals/test/base.jsonl", "--out=again")
    assert subprocess.run(again, cwd=tmp_path, capture_output=True, text=True).returncode == 0
    again = json.loads((tmp_path / "again/report.json").read_text())
    assert again["models"]["old"] == report["models"]["base"]
