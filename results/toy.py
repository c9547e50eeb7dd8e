"""Every algorithm on the toy, over seeds: runs, table and figure.

    python results/toy.py run [NAME ...]     # trains what is missing, two runs at a time, 3 to 8 minutes each
    python results/toy.py table              # writes results/toy.md and results/toy.png from results/toy/*.jsonl

A run is kept as results/toy/NAME-SEED.jsonl: what its metrics.jsonl says of evaluation, reward, entropy and guidance.
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

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "results/toy"
SEEDS = (0, 1, 2)
TOY = (
    "--model toy/model --dataset toy/train.jsonl --eval-dataset toy/test.jsonl "
    "--max-prompt-tokens 128 --max-response-tokens 64 --problems 24 --steps 160 --eval-every 20"
)
RUNS = {
    "GRPO": "grpo.py --lr 2e-4",
    "Guide-GRPO": "guide_grpo.py --lr 2e-4",
    "Guide-PPO": "guide_ppo.py --lr 2e-4 --critic-lr 1e-3",
    "GRPO-N": "grpo_n.py --lr 1e-4",
    "GSPO-N": "gspo_n.py --lr 1e-4",
    "Guide-GRPO, released": "guide_grpo.py --lr 2e-4 --guided-group replace --reshape quantile --no-clip-guided",
    "Guide-GRPO, no ratio": "guide_grpo.py --lr 2e-4 --no-guided-ratio",
}
KEPT = ("step", "eval/", "reward/mean", "sampler/entropy", "group/", "guide/", "value/")
COLUMNS = ["eval/pass@1/easy", "eval/pass@1/medium", "eval/pass@1/hard", "eval/pass@4/hard", "sampler/entropy"]


def train(name, seed):
    kept = FOLDER / f"{name}-{seed}.jsonl"
    if kept.exists():
        return
    run = f"toy-{name}-{seed}".replace(" ", "").replace(",", "-")
    command = [sys.executable, *RUNS[name].split(), *TOY.split(), "--seed", str(seed), "--name", run, "--resume"]
    print(" ".join(command[1:]), flush=True)
    with open(FOLDER / "log.txt", "a") as log:
        subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=log, stderr=log, check=True)
    rows = [json.loads(line) for line in open(ROOT / "runs" / run / "metrics.jsonl")]
    slim = [{k: round(v, 5) for k, v in row.items() if k.startswith(KEPT)} for row in rows]
    kept.write_text("".join(json.dumps(row) + "\n" for row in slim))


def load(name):
    """Rows of metrics for each seed that has been run."""
    return [[json.loads(line) for line in open(path)] for path in sorted(FOLDER.glob(f"{name}-[0-9]*.jsonl"))]


def final(rows, column):
    return next(row[column] for row in reversed(rows) if column in row)


def table():
    lines = [
        "# The toy, 160 steps of 24 problems x 8 responses", "",
        "Held-out problems after training: mean over seeds (each seed's value). Entropy is `sampler/entropy` of",
        "the last training batch, in nats per token. `python results/toy.py run` trains missing runs, `table` redraws.",
        f"Machine: {platform.machine()}, {os.cpu_count()} CPU cores, one thread a run, float32.", "",
        "| algorithm | command | " + " | ".join(c.split("/", 1)[1] for c in COLUMNS) + " |",
        "| --- | --- |" + " --- |" * len(COLUMNS),
    ]
    base = [rows[0] for name in RUNS for rows in load(name)]
    cells = [f"{np.mean([row[c] for row in base]):.3f}" if c in base[0] else "" for c in COLUMNS]
    lines.append("| before training | – | " + " | ".join(cells) + " |")
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), sharey=True, layout="constrained")
    for color, name in enumerate(RUNS):
        seeds = load(name)
        if not seeds:
            continue
        cells = []
        for column in COLUMNS:
            values = [final(rows, column) for rows in seeds]
            cells.append(f"{np.mean(values):.2f} ({', '.join(f'{v:.2f}' for v in values)})")
        lines.append(f"| {name} | `{RUNS[name]}` | " + " | ".join(cells) + " |")
        for axis, level in zip(axes, ("easy", "medium", "hard")):
            evaluated = [[row for row in rows if "eval/pass@1" in row] for rows in seeds]
            steps = [row["step"] for row in evaluated[0]]
            curves = np.array([[row[f"eval/pass@1/{level}"] for row in rows] for rows in evaluated])
            axis.fill_between(steps, curves.min(0), curves.max(0), color=f"C{color}", alpha=0.15, lw=0)
            count = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
            axis.plot(steps, curves.mean(0), color=f"C{color}", label=f"{name} ({count})")
            axis.set(title=f"{level} letters", xlabel="step")
            axis.grid(alpha=0.3)
    axes[0].set(ylabel="held-out pass@1")
    axes[2].legend(fontsize=8, loc="center right")
    figure.suptitle("On letters whose eight samples all fail, guidance learns (mean; band: lowest to highest seed)")
    figure.savefig(ROOT / "results/toy.png", dpi=130)
    (ROOT / "results/toy.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    if sys.argv[1:2] == ["run"]:
        jobs = [(name, seed) for seed in SEEDS for name in sys.argv[2:] or RUNS]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda job: train(*job), jobs))
    elif sys.argv[1:] != ["table"]:
        sys.exit(__doc__)
    table()
