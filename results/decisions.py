"""Theory against a language model: how guidance depends on the number of decisions, at the same solve rate.

    python results/decisions.py run      # makes the toys, trains what is missing, two at a time, a minute or two each
    python results/decisions.py table    # writes results/decisions.md and .png

The hard letters of toy.py, alone, with 1, 2, 4 and 6 digits: an answer is as many decisions, and the base model finds
it once in 770 tries whatever their number, because each is then the rarer the fewer they are. theory/guide.py expects:

    GRPO             learns as slowly with any number: it waits for a whole answer that is right by luck
    token ratio      guide_grpo.py: slower the rarer each decision, and with a single one hardly sooner than GRPO
    without ratio    --no-guided-ratio: soon, with any number

results/decisions/NAME-DIGITS-SEED.jsonl is a run's held-out pass@1.
"""

import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from algorithms import markdown

ROOT = Path(__file__).parent.parent
FOLDER, WORK = ROOT / "results/decisions", ROOT / "runs/decisions"
DIGITS, SEEDS, STEPS, EVERY = (1, 2, 4, 6), 3, 120, 10
RUNS = {
    "GRPO": "grpo.py",
    "token ratio": "guide_grpo.py",
    "without ratio": "guide_grpo.py --no-guided-ratio",
}


def call(command: str):
    """Runs a script on one thread, and leaves what it prints in runs/decisions/log.txt."""
    print(command, flush=True)
    with open(WORK / "log.txt", "a") as log:
        subprocess.run([sys.executable, *command.split()], cwd=ROOT, check=True, stdout=log, stderr=log,
                       env=os.environ | {"OMP_NUM_THREADS": "1"})


def make_toy(digits: int):
    """runs/decisions/DIGITS: toy.py's model, and of its problems those with hard letters."""
    folder = WORK / str(digits)
    if not (folder / "hard-test.jsonl").exists():
        call(f"toy.py --folder {folder} --digits {digits}")
        for name in ("train", "test"):
            rows = [line for line in open(folder / f"{name}.jsonl") if json.loads(line)["level"] == "hard"]
            (folder / f"hard-{name}.jsonl").write_text("".join(rows))


def train(name: str, digits: int, seed: int):
    label = f"{name.replace(' ', '-')}-{digits}-{seed}"
    out, toy = FOLDER / f"{label}.jsonl", f"runs/decisions/{digits}"
    if not out.exists():
        call(f"{RUNS[name]} --model {toy}/model --dataset {toy}/hard-train.jsonl --eval-dataset {toy}/hard-test.jsonl "
             f"--max-prompt-tokens 128 --max-response-tokens 64 --problems 12 --steps {STEPS} --eval-every {EVERY} "
             f"--keep 1 --lr 2e-4 --seed {seed} --name decisions-{label} --resume")
        rows = [json.loads(line) for line in open(ROOT / f"runs/decisions-{label}/metrics.jsonl")]
        points = [{k: row[k] for k in ("step", "eval/pass@1")} for row in rows if "eval/pass@1" in row]
        out.write_text("".join(json.dumps(point) + "\n" for point in points))


def load(name: str, digits: int) -> list[list[dict]]:
    """Held-out pass@1 by step of each seed that has been run."""
    files = sorted(FOLDER.glob(f"{name.replace(' ', '-')}-{digits}-*.jsonl"))
    return [[json.loads(line) for line in open(file)] for file in files]


def half(points: list[dict]) -> float:
    """The first evaluated step with more than half of the held-out problems solved."""
    return next((point["step"] for point in points if point["eval/pass@1"] > 0.5), np.inf)


def table():
    figure, axes = plt.subplots(1, len(DIGITS), figsize=(14, 3.6), layout="constrained", sharey=True)
    rows = []
    for digits, axis in zip(DIGITS, axes):
        cells = []
        for color, name in enumerate(RUNS):
            runs = load(name, digits)
            halves = sorted(half(points) for points in runs)
            ends = [points[-1]["eval/pass@1"] for points in runs]
            steps = ", ".join("–" if np.isinf(step) else f"{step:.0f}" for step in halves)
            cells.append(f"{steps} ({np.mean(ends):.2f})" if runs else "")
            for seed, points in enumerate(runs):
                axis.plot([point["step"] for point in points], [point["eval/pass@1"] for point in points],
                          color=f"C{color}", alpha=0.8, label=name if seed == 0 else None)
        rows.append([str(digits), f"{0.33 ** (6 / digits):.4f}", *cells])
        axis.set(title=f"{digits} decision{'s' * (digits > 1)}, each right {0.33 ** (6 / digits):.2g}", xlabel="step")
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="held-out pass@1", ylim=(-0.03, 1.03))
    axes[0].legend(fontsize=8)
    figure.suptitle("The same solve rate, 1 in 770, in fewer and rarer decisions")
    figure.savefig(ROOT / "results/decisions.png", dpi=110)
    text = [
        "# The same solve rate in fewer and rarer decisions",
        f"`python results/decisions.py run` trains what is missing, `table` redraws. {platform.machine()}, "
        f"{os.cpu_count()} CPU cores, one\nthread a run, float32.\n\n![curves](decisions.png)",
        f"Hard letters of the toy alone, {STEPS} steps of 12 problems × 8 responses at rate 2e-4. The first of the "
        f"evaluations, one\nevery {EVERY} steps, with more than half of the held-out problems solved, by seed; in "
        "parentheses the mean pass@1 at\nthe last step.",
        markdown(["decisions", "each right", *RUNS], rows),
    ]
    (ROOT / "results/decisions.md").write_text("\n\n".join(text) + "\n")
    print("\n\n".join(text))


if __name__ == "__main__":
    if sys.argv[1:] == ["run"]:
        FOLDER.mkdir(exist_ok=True)
        WORK.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(make_toy, DIGITS))
            list(pool.map(lambda job: train(*job), [(name, digits, seed) for seed in range(SEEDS) for digits in DIGITS
                                                    for name in RUNS]))
    elif sys.argv[1:] != ["table"]:
        sys.exit(__doc__)
    table()
