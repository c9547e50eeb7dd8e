"""Theory against a language model: how guidance depends on the number of decisions, at the same solve rate.

    python results/decisions.py run      # makes the toys, trains what is missing, two at a time, a minute or two each
    python results/decisions.py table    # writes results/decisions.md and .png

The hard letters of toy.py, alone, with 1, 2, 4 and 6 digits: an answer is as many decisions, and is right by luck once
in 770 tries whatever their number, because each is then the rarer the fewer they are. theory/guide.py expects:

    GRPO             learns as slowly with any number: it waits for a whole answer that is right by luck
    token ratio      guide_grpo.py: slower the rarer each decision, and with a single one hardly sooner than GRPO
    without ratio    --no-guided-ratio: soon, with any number

results/decisions/DIGITS.json is the base model's pass@k, NAME-DIGITS-SEED.jsonl a run's evaluations.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import algorithms
import matplotlib.pyplot as plt
import numpy as np
from algorithms import ROOT, call, final, markdown

FOLDER, WORK = ROOT / "results/decisions", ROOT / "runs/decisions"
DIGITS, SEEDS, STEPS, EVERY = (1, 2, 4, 6), 3, 120, 10
LIMITS = "--max-prompt-tokens 128 --max-response-tokens 64"
RUNS = {
    "GRPO": "grpo.py",
    "token ratio": "guide_grpo.py",
    "without ratio": "guide_grpo.py --no-guided-ratio",
}
KEPT = ("step", "eval/pass@1", "eval/truncated", "guide/right")


def make_toy(digits: int):
    """runs/decisions/DIGITS: toy.py's model, and of its problems those with hard letters. Ten problems of one digit are
    too few to hold any out: there the evaluation asks the problems of training."""
    folder = WORK / str(digits)
    if not (folder / "hard-test.jsonl").exists():
        call(f"toy.py --folder {folder} --digits {digits}")
        for name in ("train", "test"):
            file = folder / f"{'train' if digits == 1 else name}.jsonl"
            rows = [line for line in open(file) if json.loads(line)["level"] == "hard"]
            (folder / f"hard-{name}.jsonl").write_text("".join(rows[:72] if name == "test" else rows))
    if not (base := FOLDER / f"{digits}.json").exists():
        out = f"runs/decisions/{digits}/base.jsonl"
        call(f"evaluate.py --model {folder}/model --dataset {folder}/hard-test.jsonl {LIMITS} --samples 256 "
             f"--out {out}")
        call(f"compare.py base={out} --out {folder}/evaluation")
        report = json.loads((folder / "evaluation/report.json").read_text())
        base.write_text(json.dumps(report["models"]["base"]["pass@k"]))


def train(name: str, digits: int, seed: int):
    label = f"{name.replace(' ', '-')}-{digits}-{seed}"
    out, toy = FOLDER / f"{label}.jsonl", f"runs/decisions/{digits}"
    if not out.exists():
        call(f"{RUNS[name]} --model {toy}/model --dataset {toy}/hard-train.jsonl --eval-dataset {toy}/hard-test.jsonl "
             f"{LIMITS} --problems 12 --steps {STEPS} --eval-every {EVERY} --keep 1 --lr 2e-4 --seed {seed} "
             f"--name decisions-{label} --resume")
        rows = [json.loads(line) for line in open(ROOT / f"runs/decisions-{label}/metrics.jsonl")]
        points = [{column: row[column] for column in KEPT if column in row} for row in rows if "eval/pass@1" in row]
        out.write_text("".join(json.dumps(point) + "\n" for point in points))


def load(name: str, digits: int) -> list[list[dict]]:
    """The evaluations of each seed that has been run."""
    files = sorted(FOLDER.glob(f"{name.replace(' ', '-')}-{digits}-*.jsonl"))
    return [[json.loads(line) for line in open(file)] for file in files]


def half(points: list[dict]) -> float:
    """The first evaluated step with more than half of the problems solved."""
    return next((point["step"] for point in points if point["eval/pass@1"] > 0.5), np.inf)


def table():
    figure, axes = plt.subplots(1, len(DIGITS), figsize=(14, 3.6), layout="constrained", sharey=True)
    steps, ends = [], []
    for digits, axis in zip(DIGITS, axes):
        base = json.loads((FOLDER / f"{digits}.json").read_text())["1"][0]
        steps.append([str(digits), f"{0.33 ** (6 / digits):.2g}", f"{base:.4f}"])
        ends.append([str(digits)])
        for color, name in enumerate(RUNS):
            runs = load(name, digits)
            steps[-1].append(", ".join("–" if np.isinf(step) else f"{step:.0f}" for step in map(half, runs)))
            ends[-1] += [", ".join(f"{final(column, points):.2f}" for points in runs) for column in KEPT[1:3]]
            for seed, points in enumerate(runs):
                axis.plot([point["step"] for point in points], [point["eval/pass@1"] for point in points],
                          color=f"C{color}", alpha=0.8, label=name if seed == 0 else None)
        axis.set(title=f"{digits} decision{'s' * (digits > 1)}, each right {0.33 ** (6 / digits):.2g}", xlabel="step")
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="pass@1", ylim=(-0.03, 1.03))
    axes[0].legend(fontsize=8)
    figure.suptitle("The same solve rate, 1 in 770, in fewer and rarer decisions")
    figure.savefig(ROOT / "results/decisions.png", dpi=110)
    text = [
        "# The same solve rate in fewer and rarer decisions",
        "`python results/decisions.py run` trains what is missing, `table` redraws. One thread a run, float32, on CPUs."
        "\n\n![curves](decisions.png)",
        f"Hard letters of the toy alone, {STEPS} steps of 12 problems × 8 responses, rate 2e-4. The first of the "
        f"evaluations, one\nevery {EVERY} steps, with more than half of the held-out problems solved, seed by seed; a "
        "dash: never. `base` is the\nsolve rate before training, of 256 samples a problem. With one "
        "digit none is held out: these are the\nproblems of training.",
        markdown(["decisions", "each right", "base", *RUNS], steps),
        "At the last step, seed by seed: pass@1, and the share of responses that ran to the limit.",
        markdown(["decisions", *(f"{name}: {what}" for name in RUNS for what in ("pass@1", "cut"))], ends),
    ]
    (ROOT / "results/decisions.md").write_text("\n\n".join(text) + "\n")
    print("\n\n".join(text))


if __name__ == "__main__":
    algorithms.FOLDER = WORK  # of the log
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
