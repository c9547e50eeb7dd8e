"""Whole runs as a user starts them: the real command, the real engine, files on disk."""

import json
import os
import subprocess
import sys

from conftest import AS_ON_GPU, EAGER, MEAN_GAP, ROOT, TOY
from transformers import AutoModelForCausalLM, AutoTokenizer


def command_line(flags):
    names = {f"--{key.replace('_', '-')}": value for key, value in flags.items()}
    return [name if value is True else f"{name}={value}" for name, value in names.items()]


def run(script, cwd, env=None, **flags):
    """Starts a script on the toy in an empty folder; returns its rows of metrics and what it printed."""
    command = [sys.executable, str(ROOT / script), *command_line(TOY | dict(name="run") | flags)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in open(cwd / "runs/run/metrics.jsonl")], done.stdout


METRICS = """reward/mean reward/right reward/wrong reward/unparsed reward/error group/all_right group/all_wrong
response/length response/truncated sampler/entropy sampler/logprob_gap_mean sampler/logprob_gap_max policy/loss
policy/entropy policy/grad_norm policy/ratio_mean policy/ratio_max policy/clip_low policy/clip_high perf/sample_s
perf/train_s perf/sync_s perf/tokens_per_s perf/gpu_gib""".split()


def test_grpo_learns_the_toy(tmp_path):
    compiled = {name: value for name, value in os.environ.items() if name not in EAGER}
    metrics, printed = run("grpo.py", tmp_path, compiled, steps=50, eval_every=25, lr=1e-4)
    assert [row["step"] for row in metrics] == list(range(51))
    assert all(name in row for row in metrics[1:] for name in METRICS)
    evaluated = [row for row in metrics if "eval/pass@1" in row]
    assert [row["step"] for row in evaluated] == [0, 25, 50]
    before, after = ([row[f"eval/pass@1/{level}"] for level in ("easy", "medium")] for row in evaluated[::2])
    # 36 problems x 4 samples a level: the standard error is at most 0.05. Of those in results/algorithms: .87, .74
    assert max(before) < 0.5 and before[1] < 0.15 and after[0] > 0.7 and after[1] > 0.5
    assert all(row["sampler/logprob_gap_mean"] < MEAN_GAP for row in metrics[1:])  # every sync was whole

    folder = tmp_path / "runs/run"
    assert json.loads((folder / "args.json").read_text())["steps"] == 50
    shown = [json.loads(line) for line in open(folder / "rollouts.jsonl")]
    assert len(shown) == 50 * 8 and {"step", "problem", "text", "verdict", "reward", "advantage"} <= shown[0].keys()
    for text in ("[step 25] <|user|>", "; the answer is", "eval/pass@1 ", "runs/run holds the logs"):
        assert text in printed
    assert AutoTokenizer.from_pretrained(folder / "step_000050").eos_token == "<|end|>"
    assert AutoModelForCausalLM.from_pretrained(folder / "step_000050").num_parameters() == 328_320


def test_every_option_of_the_loss_runs(tmp_path):
    metrics, _ = run("grpo.py", tmp_path, steps=2, kl_coef=0.1, loss_norm="token", clip_high=0.28, minibatches=3,
                     temperature=0.9, eval_dataset="", eval_problems=8)
    assert metrics[1]["policy/kl"] >= 0 and metrics[1]["sampler/logprob_gap_mean"] < MEAN_GAP


def comparable(rows):
    return [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in rows]


def same(rows, others):
    """Of two runs with equal seeds, equal to the bit; on a GPU that they measured the same things."""
    return [sorted(row) for row in rows] == [sorted(row) for row in others] if AS_ON_GPU else rows == others


def test_each_script_runs_and_switched_off_it_is_grpo_to_the_bit(tmp_path):
    def two_steps(name, script, **flags):
        (tmp_path / name).mkdir()
        return comparable(run(script, tmp_path / name, steps=2, eval_problems=24, **flags)[0])

    grpo = two_steps("grpo", "grpo.py")
    never = two_steps("never", "guide_grpo.py", guidance="never")
    assert [row.pop("guide/triggered", None) for row in never] == [None, 0, 0] and same(never, grpo)

    guided = two_steps("guide", "guide_grpo.py")
    assert same(guided[:1], grpo[:1])
    assert AS_ON_GPU or guided[1]["reward/mean"] == grpo[1]["reward/mean"]  # the same plain rollouts, then hints
    assert guided[1]["guide/triggered"] > 0 and guided[1]["guide/right"] > 0.8
    assert 0 < guided[1]["guide/ratio_mean"] < 1.5 and guided[1]["sampler/logprob_gap_mean"] < MEAN_GAP

    even = "def ends_even(response, answer):\n    return response.strip()[-2:-1] in tuple('02468')"
    (tmp_path / "mine.py").write_text(even)
    mine = dict(verifier=f"{tmp_path}/mine.py:ends_even")
    negative = two_steps("negative", "grpo_n.py", **mine)
    assert 0.3 < negative[1]["reward/mean"] < 0.7 and negative[2]["policy/loss"] >= 0
    sequence = two_steps("sequence", "gspo_n.py", **mine)
    assert 0.3 < sequence[1]["reward/mean"] < 0.7 and sequence[1]["policy/ratio_max"] < 1.2


def test_the_gpu_check_works_at_a_tiny_size_on_a_cpu():
    command = "benchmarks/gpu_check.py --shape tiny --problems 4 --tokens 32 --steps 3 --scripts grpo".split()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "grpo.py to step 2: exit 0" in done.stdout and "| grpo | 0.00000, 0.00000, 0.00000 | 0.000 |" in done.stdout
    assert all(f"\n## {part}\n" in done.stdout for part in ("Versions", "Precision", "Speed", "Memory"))
