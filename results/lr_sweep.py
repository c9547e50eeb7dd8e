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
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter

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
ADAMW = "torch.optim.AdamW(policy.parameters(), args.lr, (0.9, 0.99), weight_decay=0.0, fused=GPU)"
SGD = "torch.optim.SGD(policy.parameters(), args.lr)"


def toy(digits):
    return Path("toy" if digits == 6 else f"runs/toy-{digits}-digits")


def train(optimizer, norm, digits, rate, seed=0):
    """One run, kept as one line of runs.jsonl."""
    run = f"sweep-{optimizer}-{norm}-{digits}-{rate:g}-{seed}"
    script = "grpo.py" if optimizer == "AdamW" else "runs/grpo_sgd.py"
    command = [sys.executable, script, f"--model={toy(digits)}/model", f"--dataset={toy(digits)}/train.jsonl",
               f"--eval-dataset={toy(digits)}/test.jsonl", f"--lr={rate}", f"--loss-norm={norm}", f"--seed={seed}",
               f"--name={run}", "--resume", *FLAGS.split()]
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
    source = (ROOT / "grpo.py").read_text()
    assert source.count(ADAMW) == 1, "grpo.py's optimiser has changed: change ADAMW here"
    (ROOT / "runs").mkdir(exist_ok=True)
    (ROOT / "runs/grpo_sgd.py").write_text(source.replace(ADAMW, SGD))
    for digits in DIGITS:
        if not (ROOT / toy(digits) / "model").exists():
            command = [sys.executable, "toy.py", "--folder", str(toy(digits)), "--digits", str(digits)]
            subprocess.run(command, cwd=ROOT, check=True)
    kept = {(r["optimizer"], r["norm"], r["digits"], r["lr"], r["seed"]) for r in runs()}
    jobs = [(*setting, digits, rate, seed) for seed, digits in product(seeds, DIGITS)
            for setting, rates in RATES.items() for rate in rates]
    with ThreadPoolExecutor(int(os.environ.get("JOBS", 2))) as pool:
        list(pool.map(lambda job: job in kept or train(*job), jobs))


def gaps():
    """Norms of the base models' pooled gaps, by level and number of digits; measured where missing."""
    norms = {"trajectory": [], "token": []}
    for digits in DIGITS:
        file = FOLDER / f"gap-{digits}.json"
        if not file.exists():
            flags = f"--model {toy(digits)}/model --dataset {toy(digits)}/train.jsonl --name ../lr_sweep/{file.stem}"
            command = [sys.executable, "theory/gradient_gap.py", "lm", *flags.split()]
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        for level, found in json.loads(file.read_text()).items():
            norms[level].append(found["pooled"]["gap"])
    return norms


def success(row, when):
    """Mean held-out pass@1 of easy and medium letters; hard ones GRPO never learns. 0 for a run that had to stop."""
    return ((row[when]["easy"] or 0) + (row[when]["medium"] or 0)) / 2


def critical(optimizer, norm, digits):
    """(largest rate that ends above the start, smallest rate that ends below it): a first-failure scan."""
    tried = sorted((r for r in runs() if (r["optimizer"], r["norm"], r["digits"]) == (optimizer, norm, digits)),
                   key=lambda r: r["lr"])
    first = next((i for i, r in enumerate(tried) if success(r, "after") < success(r, "before")), len(tried))
    return tried[first - 1]["lr"] if first else 0, tried[first]["lr"] if first < len(tried) else np.inf


def table():
    lines = [
        "# The critical learning rate of GRPO on the toy, by response length", "",
        f"{STEPS} steps of 24 problems x 8 responses from the base model, one seed. A run fails if held-out pass@1 on",
        "easy and medium letters ends below where it began; the critical rate lies between the first that fails and",
        "the one before it. `python results/lr_sweep.py run` trains what is missing, `table` redraws. The runs kept",
        "here are of grpo.py at commit 2d1923a, which dealt problems to mini-batches in another order.", "",
        "| optimiser | loss norm | digits | tokens | converges up to | fails from | after, by rate |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    figure, axes = plt.subplots(2, 3, figsize=(14, 8), layout="constrained")
    panels = dict(zip(RATES, axes[:, :2].flat))
    tokens = {r["digits"]: r["tokens"] for r in runs()}
    length = np.array([tokens[digits] for digits in DIGITS])
    for color, ((optimizer, norm), axis) in enumerate(panels.items()):
        between = []
        for shade, digits in enumerate(DIGITS):
            tried = sorted((r for r in runs() if (r["optimizer"], r["norm"], r["digits"]) == (optimizer, norm, digits)),
                           key=lambda r: r["lr"])
            rates, after = [r["lr"] for r in tried], [success(r, "after") for r in tried]
            axis.plot(rates, after, "o-", color=f"C{shade}", label=f"{tokens[digits]:.0f} tokens")
            below, above = critical(optimizer, norm, digits)
            between.append((below, above))
            shown = ", ".join(f"{rate:g}: {value:.2f}" for rate, value in zip(rates, after))
            cells = optimizer, norm, digits, round(tokens[digits]), f"{below:g}", f"{above:g}", shown
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        axis.set(xscale="log", title=f"{optimizer}, --loss-norm {norm}", xlabel="learning rate", ylim=(-0.03, 1.03),
                 ylabel="held-out pass@1, easy and medium")
        low, high = np.array(between).T
        middle, style = np.sqrt(low * high), "o-" if norm == "sequence" else "s--"
        axes[0, 2].errorbar(length * 1.03**color, middle, (middle - low, high - middle), fmt=style,
                            color=f"C{color + 3}", label=f"{optimizer}, {norm}")
    axes[0, 2].plot(length, 60 / length, "k:", lw=1, label="slope −1: theory without normalisation")
    axes[0, 2].set(xscale="log", yscale="log", xlabel="tokens per response",
                   ylabel="critical learning rate, between two tried",
                   title="SGD: the critical rate falls with length\nunless the loss is divided by it")
    for level, norms in gaps().items():
        axes[1, 2].plot(length, norms, "o-", label=f"{level} level")
        lines.append(f"{'' if level == 'token' else chr(10)}- ‖pooled gap‖ of the base, {level} level: "
                     + ", ".join(f"{norm:.3g} at {tokens[digits]:.0f} tokens" for digits, norm in zip(DIGITS, norms)))
    axes[1, 2].set(xscale="log", yscale="log", title="Gradient Gap of the base models", xlabel="tokens per response",
                   ylabel="‖pooled gap‖")
    for axis in axes[:, 2]:
        axis.set_xticks(length, [f"{tokens:.0f}" for tokens in length])
    for axis in axes.flat:
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.suptitle("A sharp critical learning rate divides learning from collapse (GRPO on the toy, one seed)")
    figure.savefig(ROOT / "results/lr_sweep.png", dpi=120)
    (ROOT / "results/lr_sweep.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    if sys.argv[1:] == ["run"]:
        make_missing(seeds=(0,))
    elif sys.argv[1:] != ["table"]:
        sys.exit(__doc__)
    table()
