"""Every algorithm on the toy, over seeds: runs, evaluations, table and figure.

    python results/algorithms.py run [NAME ...]   # what is missing of RUNS and ABLATIONS, two at a time, 5 minutes each
    python results/algorithms.py table            # writes results/algorithms.md and .png, and README's table

results/algorithms/NAME-SEED.jsonl is a run's metrics.jsonl, NAME-SEED.json the evaluation of its last checkpoint.
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
FOLDER = ROOT / "results/algorithms"
BASE = "runs/algorithms-base.jsonl"  # responses of the model before training
SEEDS = {"GRPO": 5}  # else 3
LEVELS = ("easy", "medium", "hard")
LIMITS = "--max-prompt-tokens 128 --max-response-tokens 64"
TOY = (
    "--model toy/model --dataset toy/train.jsonl --eval-dataset toy/test.jsonl "
    f"{LIMITS} --problems 24 --steps 160 --eval-every 20"
)
RUNS = {
    "GRPO": "grpo.py --lr 2e-4",
    "Filter-GRPO": "grpo.py --lr 2e-4 --dynamic-sampling",
    "Guide-GRPO": "guide_grpo.py --lr 2e-4",
    "Guide-PPO": "guide_ppo.py --lr 2e-4 --critic-lr 1e-3",
    "GRPO slow": "grpo.py --lr 1e-4",
    "GRPO-N": "grpo_n.py --lr 1e-4",
    "W-REINFORCE": "grpo_n.py --lr 1e-4 --positive-weight 0.1",
    "GSPO": "gspo_n.py --lr 1e-4 --positive-weight 1",
    "GSPO-N": "gspo_n.py --lr 1e-4",
}
ABLATIONS = {
    "no ratio": "guide_grpo.py --lr 2e-4 --no-guided-ratio",
    "no clip": "guide_grpo.py --lr 2e-4 --no-clip-guided",
    "reshaped": "guide_grpo.py --lr 2e-4 --reshape quantile --no-clip-guided",
    "released": "guide_grpo.py --lr 2e-4 --guided-group replace --reshape quantile --no-clip-guided",
    "released with filter":
        "guide_grpo.py --lr 2e-4 --guided-group replace --reshape quantile --no-clip-guided --dynamic-sampling",
}
ALL = RUNS | ABLATIONS
KEPT = ("step", "eval/pass", "reward/mean", "sampler/", "group/", "guide/ratio_max", "guide/right", "response/trunc")


def call(command: str):
    """Runs a script on one thread, and leaves what it prints in results/algorithms/log.txt."""
    print(command, flush=True)
    with open(FOLDER / "log.txt", "a") as log:
        subprocess.run([sys.executable, *command.split()], cwd=ROOT, check=True, stdout=log, stderr=log,
                       env=os.environ | {"OMP_NUM_THREADS": "1"})


def train(name, seed):
    """The run and its evaluation, unless they are there: NAME-SEED.jsonl and NAME-SEED.json."""
    label = f"{name}-{seed}".replace(" ", "-")
    run = f"runs/algorithms-{label}"
    metrics, evaluation = FOLDER / f"{label}.jsonl", FOLDER / f"{label}.json"
    if not metrics.exists():
        call(f"{ALL[name]} {TOY} --seed {seed} --name algorithms-{label} --resume")
        rows = [json.loads(line) for line in open(ROOT / run / "metrics.jsonl")]
        slim = [{k: float(f"{v:.4g}") for k, v in row.items() if k.startswith(KEPT)} for row in rows]
        metrics.write_text("".join(json.dumps(row) + "\n" for row in slim))
    if name in RUNS and not evaluation.exists():
        call(f"evaluate.py --model {run} --dataset toy/test.jsonl {LIMITS} --seed {seed} --out {run}/responses.jsonl")
        call(f"compare.py after={run}/responses.jsonl --base base={BASE} --out {run}/evaluation")
        report = json.loads((ROOT / run / "evaluation/report.json").read_text())
        evaluation.write_text(json.dumps({part: report[part] for part in ("models", "decomposition")}))


def load(name) -> list[list[dict]]:
    """Rows of metrics for each seed that has been run."""
    files = sorted(FOLDER.glob(f"{name.replace(' ', '-')}-[0-9].jsonl"))
    return [[json.loads(line) for line in open(file)] for file in files]


def evaluations(name) -> list[dict]:
    """The model after training, 64 samples a problem, for each seed: entropy, pass@k by level, what changed."""
    files = sorted(FOLDER.glob(f"{name.replace(' ', '-')}-[0-9].json"))
    reports = [json.loads(file.read_text()) for file in files]
    return [report["models"]["after"] | {"changed": report["decomposition"]["after"]} for report in reports]


def pass_at(k: int, level: str, model: dict) -> float:
    return (model["by"][level] if level else model)["pass@k"][str(k)][0]


def final(column: str, rows: list[dict]) -> float:
    return next(row[column] for row in reversed(rows) if column in row)


def spread(values, digits=2) -> str:
    """Mean ± standard deviation over seeds."""
    sd = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{sd}"


def before() -> dict:
    """The base model's evaluation, which every run's holds too."""
    return json.loads(next(FOLDER.glob("*-[0-9].json")).read_text())["models"]["base"]


def markdown(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def table():
    columns = {
        "easy": lambda m: pass_at(1, "easy", m), "medium": lambda m: pass_at(1, "medium", m),
        "hard": lambda m: pass_at(1, "hard", m), "hard, pass@64": lambda m: pass_at(64, "hard", m),
        "all, pass@64": lambda m: pass_at(64, "", m), "entropy": lambda m: m["entropy"],
        "truncated": lambda m: m["truncated"],
    }
    counts = {part: lambda m, part=part: m["changed"][part]["count"]
              for part in ("self-distillation", "capability gain", "forgotten")}
    rows = [["before training", "–", "", *(spread([column(before())], 3 if what == "entropy" else 2)
                                            for what, column in columns.items()), "", "", ""]]
    for name, command in RUNS.items():
        if not (models := evaluations(name)):
            continue
        cells = [spread([column(model) for model in models], 3 if what == "entropy" else 2)
                 for what, column in columns.items()]
        cells += [spread([count(model) for model in models], 0) for count in counts.values()]
        rows.append([name, f"`{command}`", str(len(models)), *cells])
    ablations = []
    for name, command in {"Guide-GRPO": RUNS["Guide-GRPO"], **ABLATIONS}.items():
        if not (seeds := load(name)):
            continue
        scores = [spread([final(f"eval/pass@1/{level}", rows) for rows in seeds]) for level in LEVELS]
        each = ", ".join(f"{final('eval/pass@1/hard', rows):.2f}" for rows in seeds)
        learnt = [[f"{row['step']:.0f}" for row in rows if row.get("eval/pass@1/hard", 0) > 0.5] for rows in seeds]
        half = [steps[0] if steps else "–" for steps in learnt]
        largest = max(row.get("guide/ratio_max", 0) for rows in seeds for row in rows)
        ablations.append([name, f"`{command}`", *scores, each, ", ".join(half), f"{largest:.0f}"])
    brief(columns, rows)
    text = [
        "# The toy, 160 steps of 24 problems × 8 responses",
        "`python results/algorithms.py run` trains and evaluates what is missing, `table` redraws. "
        f"{platform.machine()}, {os.cpu_count()} CPU cores, one thread a run, float32.\n\n![curves](algorithms.png)",
        "Held-out problems after training, 64 samples each: mean ± standard deviation over seeds; pass@1 where nothing "
        "else\nis said; entropy in nats per token. The last three count problems of 144 at the first sample, of base "
        "and\nmodel, with k = 16.",
        markdown(["algorithm", "command", "seeds", *columns, *counts], rows),
        "What Guide-GRPO is made of. Held-out pass@1 at the last step, 4 samples each; hard letters by seed; the first "
        "of\nthe evaluations, one every 20 steps, with more than half of the hard ones right; the largest ratio of a "
        "guided token.",
        markdown(["Guide-GRPO", "command", *LEVELS, "hard by seed", "half at step", "largest ratio"], ablations),
    ]
    (ROOT / "results/algorithms.md").write_text("\n\n".join(text) + "\n")
    print("\n\n".join(text))
    draw()


def brief(columns: list[str], rows: list[list[str]]):
    """README's table between its marks: a few columns of algorithms.md, each run named with its learning rate."""
    short, cells = ["easy", "medium", "hard", "all, pass@64", "entropy"], []
    for name, command, _, *values in rows:
        rate = command.partition("--lr ")[2].split("`")[0].split(" ")[0]
        values = dict(zip(columns, values))
        cells.append([f"{name.removesuffix(' slow')}, {rate}" if rate else name, *(values[what] for what in short)])
    readme = ROOT / "README.md"
    above, _, rest = readme.read_text().partition("<!-- toy -->")
    table = markdown(["", *short], cells)
    readme.write_text(f"{above}<!-- toy -->\n{table}\n<!-- end -->{rest.partition('<!-- end -->')[2]}")


def draw():
    """Held-out pass@1 by level, entropy, pass@k after training, and how far sampler and trainer are apart."""
    figure, axes = plt.subplots(2, 3, figsize=(13, 7.4), layout="constrained")
    for color, name in enumerate(RUNS):
        if not evaluations(name):
            continue  # not run yet
        seeds, look = load(name), dict(color=f"C{color}", ls="--" if color > 3 else "-")

        def curve(axis, column):
            points = [[(row["step"], row[column]) for row in rows if column in row] for rows in seeds]
            steps = sorted(set.intersection(*({step for step, _ in line} for line in points)))
            values = np.array([[dict(line)[step] for step in steps] for line in points])
            if len(steps) > 50:  # one value a step is noise: means of ten
                steps, values = steps[9::10], values[:, : len(steps) // 10 * 10].reshape(len(seeds), -1, 10).mean(2)
            axis.fill_between(steps, values.min(0), values.max(0), alpha=0.12, lw=0, color=look["color"])
            axis.plot(steps, values.mean(0), label=name, **look)

        for axis, level in zip(axes[0], LEVELS):
            curve(axis, f"eval/pass@1/{level}")
            axis.set(title=f"{level} letters", ylabel="held-out pass@1", ylim=(-0.03, 1.03))
        curve(axes[1, 0], "sampler/entropy")
        curve(axes[1, 2], "sampler/logprob_gap_mean")
        models = evaluations(name)
        ks = [int(k) for k in models[0]["pass@k"]]
        axes[1, 1].plot(ks, np.mean([[pass_at(k, "", m) for k in ks] for m in models], axis=0), **look)
    axes[1, 1].plot(ks, [pass_at(k, "", before()) for k in ks], "k:", label="before training")
    axes[1, 1].set(title="after training, all letters", xlabel="k", ylabel="pass@k", ylim=(-0.03, 1.03))
    axes[1, 1].set_xscale("log", base=2)
    axes[1, 1].set_xticks(ks, ks)
    axes[1, 1].legend(fontsize=8)
    axes[1, 0].set(title="entropy while sampling", ylabel="nats per token", yscale="log")
    axes[1, 2].set(title="sampler against trainer, same weights", ylabel="mean |Δ log-prob|, nats", yscale="log")
    for axis in [*axes[0], axes[1, 0], axes[1, 2]]:
        axis.set(xlabel="step")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    axes[0, 2].legend(fontsize=8, loc="center right")
    figure.suptitle("The toy: mean over seeds, band from the lowest to the highest; solid at rate 2e-4, dashed at 1e-4")
    figure.savefig(ROOT / "results/algorithms.png", dpi=110)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    if sys.argv[1:2] == ["run"]:
        call(f"evaluate.py --model toy/model --dataset toy/test.jsonl {LIMITS} --out {BASE}")
        asked = [sys.argv[2:]] if sys.argv[2:] else [RUNS, ABLATIONS]
        jobs = [(name, seed) for names in asked for seed in range(5) for name in names if seed < SEEDS.get(name, 3)]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda job: train(*job), jobs))
    elif sys.argv[1:] != ["table"]:
        sys.exit(__doc__)
    table()
