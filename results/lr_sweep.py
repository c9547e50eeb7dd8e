"""The critical learning rate of a language model: GRPO on toys of several response lengths, by optimiser and loss norm.

    python results/lr_sweep.py run      # makes the toys, then trains what is missing, two runs at a time: hours
    python results/lr_sweep.py table    # writes results/lr_sweep.md and .png from results/lr_sweep/runs.jsonl

The Gradient Gap paper (arXiv 2510.08539) proves for plain gradient ascent that learning converges below a critical step
size and collapses above it, and that the critical step shrinks with the response length unless the update is divided by
it. Here --loss-norm sequence divides by it, and constant (by the same --max-response-tokens for all toys) does not.
SGD is the theorem's setting. AdamW, grpo.py's optimiser, does not feel a constant factor of the loss at all, so that
loss norm and length should matter far less: that is ours to show. The toys' letters are solved equally often whatever
the number of digits; a response has about 7 tokens per digit. The SGD run is grpo.py with one line replaced.
"""

import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "results/lr_sweep"
DIGITS = (3, 6, 12)
STEPS = 40
RATES = {
    ("AdamW", "sequence"): [2e-4 * 2**i for i in range(5)],
    ("AdamW", "constant"): [2e-4 * 2**i for i in range(5)],
    ("SGD", "sequence"): [0.025 * 2**i for i in range(6)],
    ("SGD", "constant"): [0.1 * 2**i for i in range(7)],
}
FLAGS = (
    f"--problems 24 --steps {STEPS} --eval-every {STEPS} --eval-problems 72 --max-prompt-tokens 128 "
    "--max-response-tokens 128 --minibatches 2 --max-grad-norm 1e9"
)
ADAMW = "torch.optim.AdamW(policy.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=0.0)"
SGD = "torch.optim.SGD(policy.parameters(), lr=args.lr)"


def toy(digits):
    return ROOT / ("toy" if digits == 6 else f"runs/toy-{digits}-digits")


def train(optimizer, norm, digits, rate, seed=0):
    """One run, kept as one line of runs.jsonl."""
    run = f"sweep-{optimizer}-{norm}-{digits}-{rate:g}-{seed}"
    script = "grpo.py" if optimizer == "AdamW" else "runs/grpo_sgd.py"
    command = [sys.executable, script, f"--model={toy(digits)}/model", f"--dataset={toy(digits)}/train.jsonl",
               f"--eval-dataset={toy(digits)}/test.jsonl", f"--lr={rate}", f"--loss-norm={norm}", f"--seed={seed}",
               f"--name={run}", *FLAGS.split()]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with open(FOLDER / "log.txt", "a") as log:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    rows = [json.loads(line) for line in open(ROOT / "runs" / run / "metrics.jsonl")]
    row = dict(optimizer=optimizer, norm=norm, digits=digits, lr=rate, seed=seed, exit=done.returncode,
               tokens=rows[1]["response/length"], reward=[round(row["reward/mean"], 4) for row in rows[1:]])
    for name, at in (("before", rows[0]), ("after", rows[-1])):
        row[name] = {level: at.get(f"eval/pass@1/{level}") for level in ("easy", "medium", "hard")}
    with open(FOLDER / "runs.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")


def runs():
    file = FOLDER / "runs.jsonl"
    return [json.loads(line) for line in open(file)] if file.exists() else []


def make_missing(seeds):
    for digits in DIGITS:
        if not (toy(digits) / "model").exists():
            command = [sys.executable, "toy.py", "--folder", str(toy(digits)), "--digits", str(digits)]
            subprocess.run(command, cwd=ROOT, check=True)
    source = (ROOT / "grpo.py").read_text()
    assert source.count(ADAMW) == 1, "grpo.py's optimiser has changed: change ADAMW here"
    (ROOT / "runs/grpo_sgd.py").write_text(source.replace(ADAMW, SGD))
    kept = {(r["optimizer"], r["norm"], r["digits"], r["lr"], r["seed"]) for r in runs()}
    jobs = [(*setting, digits, rate, seed) for seed, digits in product(seeds, DIGITS)
            for setting, rates in RATES.items() for rate in rates]
    with ThreadPoolExecutor(int(os.environ.get("JOBS", 2))) as pool:
        list(pool.map(lambda job: job in kept or train(*job), jobs))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    make_missing(seeds=(0,))
