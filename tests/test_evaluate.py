"""evaluate.py: what it refuses, and whole evaluations with the real engine, killed and continued."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from conftest import ROOT, TOY

import evaluate

TOY_TEST = dict(dataset=TOY["eval_dataset"], max_prompt_tokens=128, max_response_tokens=64)


# ----------------------------------------------------------------------------------------------------------- bad input
def refused(**flags):
    with pytest.raises(SystemExit) as stop:
        evaluate.main(evaluate.Args(**flags))
    return str(stop.value)


def test_bad_input_ends_with_a_sentence_before_any_engine_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate, "start_engine", pytest.fail)
    model = dict(model=TOY["model"], **TOY_TEST)
    assert "neither a run, a model's folder nor on the hub" in refused(model="runs/none/at/all", **TOY_TEST)
    (tmp_path / "young").mkdir()
    (tmp_path / "young/args.json").write_text("{}")
    assert "young is a run without a checkpoint yet" in refused(model="young", **TOY_TEST)
    assert "reads 4096 tokens" in refused(model=TOY["model"], dataset=TOY["eval_dataset"], max_response_tokens=9999)
    assert "--by taste: " in refused(by="taste", **model)
    (tmp_path / "plain.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n')
    assert "no problem of plain.jsonl has a hint" in refused(**model | dict(dataset="plain.jsonl", hints=True))
    (tmp_path / "other.jsonl").write_text("[1, 2]\n")
    assert "other.jsonl is not a file of responses" in refused(out="other.jsonl", **model)
    assert "cannot write plain.jsonl/below/it.jsonl" in refused(out="plain.jsonl/below/it.jsonl", **model)
    assert "--samples must be above 0, but is 0" in refused(samples=0, **model)
    assert "--temperature 0 has one response" in refused(temperature=0, **model)
    assert "--verifier" in refused(verifier="gone.py:check", **model)


def test_responses_of_another_verifier_or_of_other_weights_are_not_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate, "start_engine", lambda args: sys.exit("it starts"))
    shutil.copytree(TOY["model"], "model")
    flags = dict(model="model", verifier="mine.py:f", out="a.jsonl", **TOY_TEST)
    (tmp_path / "mine.py").write_text("def f(response, answer):\n    return True\n")
    assert refused(**flags) == "it starts" and refused(**flags) == "it starts"
    (tmp_path / "mine.py").write_text("def f(response, answer):\n    return False\n")
    assert "a.jsonl was made with checksum" in refused(**flags)
    (tmp_path / "mine.py").write_text("def f(response, answer):\n    return True\n")
    assert refused(**flags) == "it starts"
    os.utime("model/model.safetensors", (1, 1))
    assert "a.jsonl was made with checksum" in refused(**flags)


# ---------------------------------------------------------------------------------------------------- real evaluations
def command(*arguments):
    size = "--max-prompt-tokens=128 --max-response-tokens=64 --samples=8 --max-problems=64 --vllm-memory=0.2".split()
    return [sys.executable, str(ROOT / "evaluate.py"), f"--dataset={TOY['eval_dataset']}", *size, *arguments]


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_run_and_its_base_with_hints_and_a_kill_in_between(tmp_path, monkeypatch):
    checkpoints = tmp_path / "runs/mine"
    checkpoints.mkdir(parents=True)
    (checkpoints / "args.json").write_text("{}")
    for step in ("step_000001", "step_000002"):
        shutil.copytree(TOY["model"], checkpoints / step)
    mine = command("--model=runs/mine")

    process = subprocess.Popen(mine, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    responses = tmp_path / "evals/mine.jsonl"
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

    printed = run(mine, tmp_path)
    lines = responses.read_text().splitlines()
    assert lines[: 1 + evaluate.CHUNK] == kept and len(lines) == 1 + 64
    assert json.loads(lines[0])["model"] == "runs/mine/step_000002"
    # interrupted or not: the base has the same weights and is sampled in one go
    run(command(f"--model={TOY['model']}", "--out=evals/base.jsonl"), tmp_path)
    base = (tmp_path / "evals/base.jsonl").read_text().splitlines()
    assert base[1:] == lines[1:]
    run(command(f"--model={TOY['model']}", "--hints"), tmp_path)

    files = ["mine=evals/mine.jsonl", "evals/model+hints.jsonl", "--base=base=evals/base.jsonl"]
    said = run([sys.executable, str(ROOT / "compare.py"), *files, "--k=8", "--out=evals"], tmp_path)
    report = json.loads((tmp_path / "evals/report.json").read_text())
    assert list(report["models"]) == ["base", "mine", "model+hints"]
    assert report["models"]["base"]["pass@k"]["1"][0] < 0.2 < 0.9 < report["models"]["model+hints"]["pass@k"]["1"][0]
    assert report["lift by hints"]["model+hints"]["1"][1] > 0.7  # the lower end of the interval
    assert list(report["models"]["base"]["by"]) == ["easy", "medium", "hard"]
    assert report["decomposition"]["mine"]["delta first try"] == [0, 0, 0]  # the same responses
    text = (tmp_path / "evals/table.md").read_text()
    assert text in said and (tmp_path / "evals/pass_at_k.png").exists()
    shown = next(line for line in text.splitlines() if line.startswith("| mine")).partition("| all")[2]
    assert shown.split() == next(line for line in printed.splitlines() if "| all" in line).partition("| all")[2].split()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate, "start_engine", pytest.fail)
    again = dict(model="runs/mine", samples=8, max_problems=64, **TOY_TEST)
    assert "was made with temperature 1.0, not 0.5: choose another --out" in refused(temperature=0.5, **again)
    evaluate.main(evaluate.Args(**again))  # it is complete: nothing to sample
    assert responses.read_text().splitlines() == lines
