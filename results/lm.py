r"""A language model of 135M parameters learns to read, on two CPU cores: runs, evaluations, table and figure.

    python results/lm.py run MODEL [NAME ...]     # what is missing, one run at a time, 10 to 35 minutes each
    python results/lm.py table                    # writes results/lm.md and .png

MODEL is HuggingFaceTB/SmolLM2-135M-Instruct, or a folder of it. The model cannot add, so the problems only ask it to
read; each shows one solved example, which shows the box. Answering with one of the words or names of the problem
without reading is right with the chance of the level:

    last    the last of five words                              1/5
    after   the word that follows another one, of four          1/3
    who     who of six people has so many things                1/6

A hint is the same question about the words or the sentence that matter, and nothing else.
results/lm/NAME-SEED.jsonl is a run's metrics.jsonl, NAME-SEED.json the evaluation of its last checkpoint.
"""

import json
import os
import platform
import random
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from algorithms import markdown, pass_at, spread

ROOT = Path(__file__).parent.parent
FOLDER, WORK = ROOT / "results/lm", ROOT / "runs/lm"
CHANCE = {"last": 1 / 5, "after": 1 / 3, "who": 1 / 6}
LIMITS = "--max-prompt-tokens 160 --max-response-tokens 24"
TASK = (
    f"--dataset runs/lm/train.jsonl --eval-dataset runs/lm/test.jsonl {LIMITS} --problems 6 --steps 15 --eval-every 5 "
    "--eval-samples 2 --keep 1 --gradient-checkpointing --microbatch-tokens 2048"
)
RUNS = {
    "GRPO": "grpo.py --lr 5e-6",
    "Guide-GRPO": "guide_grpo.py --lr 5e-6",
    "GRPO-N": "grpo_n.py --lr 5e-6",
    "GSPO-N": "gspo_n.py --lr 5e-6",
}
SWEEP = {f"GRPO-{rate}": f"grpo.py --lr {rate}" for rate in ("2e-5", "8e-5", "3.2e-4")}
SEEDS = {"GRPO": 3, "Guide-GRPO": 3, "GRPO-N": 3, "GSPO-N": 3} | dict.fromkeys(SWEEP, 1)
KEPT = ("step", "eval/", "reward/", "response/", "sampler/", "group/", "guide/triggered", "guide/right", "perf/")
NAMES = "Anna Tom Maria Sam Lucy Ben Nora Max Ella Jack Rosa Paul".split()
THINGS = "apples pens books cups coins shells cards stamps balls keys hats rings".split()
WORDS = """apple bird candle dog engine flower garden house island jacket kitchen lemon mirror night ocean paper queen
    river stone table uncle village window zebra""".split()
TEXT = """The Moon goes around the Earth once in about a month. Its gravity pulls at the oceans, and so the sea rises
and falls twice a day. Water boils at a lower temperature on a high mountain, because the air there is thin. A good
recipe for bread needs flour, water, salt and yeast, and some hours of patience. When the French Revolution began in
1789, the king still lived in Versailles. Birds have hollow bones and light feathers, which help them to fly. If you
borrow a book from the library, you have to bring it back in time, or you pay a fine."""  # what may be forgotten


# ------------------------------------------------------------------------------------------------------------- problems
def last(rng) -> tuple[str, str, str]:
    """Question, answer, and the question that is the hint."""
    words = rng.sample(WORDS, 5)
    ask = lambda words: f"The words are: {', '.join(words)}. What is the last word?"
    return ask(words), words[-1], ask(words[-2:])


def after(rng) -> tuple[str, str, str]:
    words, at = rng.sample(WORDS, 4), rng.randrange(1, 4)
    ask = lambda words, word: f"The words are: {', '.join(words)}. Which word comes after {word}?"
    return ask(words, words[at - 1]), words[at], ask(words[at - 1 : at + 1], words[at - 1])


def who(rng) -> tuple[str, str, str]:
    names, numbers, things, at = rng.sample(NAMES, 6), rng.sample(range(2, 50), 6), rng.choice(THINGS), rng.randrange(6)
    facts = [f"{name} has {number} {things}." for name, number in zip(names, numbers)]
    ask = lambda facts: f"{' '.join(facts)} Who has {numbers[at]} {things}?"
    return ask(facts), names[at], ask(facts[at : at + 1])


EXAMPLES = {
    last: ("The words are: moon, cat, tree. What is the last word?", r"The last word is \boxed{tree}."),
    after: ("The words are: moon, cat, tree. Which word comes after cat?", r"After cat comes \boxed{tree}."),
    who: ("Tim has 4 plums. Eve has 9 plums. Who has 4 plums?", r"\boxed{Tim} has 4 plums."),
}


def write_problems():
    """runs/lm/train.jsonl and test.jsonl, levels by turns; no problem is in both."""
    rng, seen = random.Random(0), set()
    WORK.mkdir(parents=True, exist_ok=True)
    for name, count in (("test", 16), ("train", 200)):
        with open(WORK / f"{name}.jsonl", "w") as file:
            for task in [*EXAMPLES] * count:
                question, answer, hint = task(rng)
                while question in seen:
                    question, answer, hint = task(rng)
                seen.add(question)
                example, solution = EXAMPLES[task]
                chat = [{"role": "system", "content": r"Answer with the final answer in \boxed{}."},
                        {"role": "user", "content": example}, {"role": "assistant", "content": solution},
                        {"role": "user", "content": question}]
                row = dict(prompt=chat, hint=[{"role": "user", "content": hint}], answer=answer, level=task.__name__)
                file.write(json.dumps(row) + "\n")


# ------------------------------------------------------------------------------------------------------------------ run
def call(command: str):
    """Runs a script, and leaves what it prints in runs/lm/log.txt."""
    print(command, flush=True)
    with open(WORK / "log.txt", "a") as log:
        subprocess.run([sys.executable, *command.split()], cwd=ROOT, check=True, stdout=log, stderr=log)


def text_loss(model: str) -> float:
    """Mean −log p of the tokens of TEXT, in nats: a general text, of which no problem speaks."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(model)(TEXT, return_tensors="pt").input_ids
    return AutoModelForCausalLM.from_pretrained(model)(input_ids=ids, labels=ids).loss.item()


def respond(model: str, out: str, flags: str = ""):
    call(f"evaluate.py --model {model} --dataset runs/lm/test.jsonl {LIMITS} --samples 16 --out runs/lm/{out} {flags}")


def base(model: str):
    """Responses of the model before training, with and without hints: results/lm/base.json."""
    if not (WORK / "base.jsonl").exists():  # which the evaluations of runs are compared with
        respond(model, "base.jsonl")
    if not (FOLDER / "base.json").exists():
        respond(model, "hints.jsonl", "--hints")
        call("compare.py hints=runs/lm/hints.jsonl --base base=runs/lm/base.jsonl --out runs/lm/hints")
        report = json.loads((WORK / "hints/report.json").read_text())
        threads = os.environ.get("OMP_NUM_THREADS", "all")
        (FOLDER / "base.json").write_text(json.dumps({
            "models": report["models"], "text": text_loss(model),
            "model": os.environ.get("MODEL_NAME", Path(model).name),
            "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores, OMP_NUM_THREADS {threads}, float32"}))


def train(name: str, seed: int, model: str):
    """The run and its evaluation, unless they are there: NAME-SEED.jsonl and NAME-SEED.json."""
    metrics, evaluation = FOLDER / f"{name}-{seed}.jsonl", FOLDER / f"{name}-{seed}.json"
    run = f"runs/lm-{name}-{seed}"
    if not metrics.exists():
        start = time.time()
        call(f"{(RUNS | SWEEP)[name]} --model {model} {TASK} --seed {seed} --name lm-{name}-{seed} --resume")
        rows = [json.loads(line) for line in open(ROOT / run / "metrics.jsonl")]
        rows[-1]["minutes"] = (time.time() - start) / 60
        slim = [{k: float(f"{v:.4g}") for k, v in row.items() if k.startswith((*KEPT, "minutes"))} for row in rows]
        metrics.write_text("".join(json.dumps(row) + "\n" for row in slim))
    if not evaluation.exists():
        respond(run, f"{name}-{seed}.jsonl")
        call(f"compare.py after=runs/lm/{name}-{seed}.jsonl --base base=runs/lm/base.jsonl --out runs/lm/{name}-{seed}")
        report = json.loads((WORK / f"{name}-{seed}/report.json").read_text())
        newest = str(max((ROOT / run).glob("step_*")))
        evaluation.write_text(json.dumps(report["models"]["after"] | {
            "changed": report["decomposition"]["after"], "text": text_loss(newest)}))


# ---------------------------------------------------------------------------------------------------------------- table
def load(name: str) -> tuple[list[list[dict]], list[dict]]:
    """Rows of metrics and the evaluation of each seed that has been run."""
    done = [seed for seed in range(SEEDS[name]) if (FOLDER / f"{name}-{seed}.json").exists()]
    return ([[json.loads(line) for line in open(FOLDER / f"{name}-{seed}.jsonl")] for seed in done],
            [json.loads((FOLDER / f"{name}-{seed}.json").read_text()) for seed in done])


def table():
    before = json.loads((FOLDER / "base.json").read_text())
    columns = {level: lambda m, level=level: pass_at(1, level, m) for level in CHANCE}
    columns |= {"all, pass@16": lambda m: pass_at(16, "", m), "unparsed": lambda m: m["verdicts"]["unparsed"],
                "entropy": lambda m: m["entropy"], "a text, nats": lambda m: m["text"]}
    parts = ("self-distillation", "capability gain", "forgotten")
    models = {"before training": before["models"]["base"] | {"text": before["text"]},
              "before, with hints": before["models"]["hints"] | {"text": before["text"]}}
    rows = [["chance", "–", "", *(f"{chance:.2f}" for chance in CHANCE.values()), *[""] * 8]]
    rows += [[label, "–", "", *(f"{column(m):.2f}" for column in columns.values()), *[""] * 4]
             for label, m in models.items()]
    seconds = []
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.8), layout="constrained")
    for color, (name, command) in enumerate((RUNS | SWEEP).items()):
        runs, after = load(name)
        if not runs:
            continue
        counts = [spread([m["changed"][part]["count"] for m in after], 0) for part in parts]
        minutes = spread([run[-1]["minutes"] for run in runs], 0)
        cells = [spread([column(m) for m in after]) for column in columns.values()]
        rows.append([name, f"`{command}`", str(len(runs)), *cells, *counts, minutes])
        phases = [np.mean([row[column] for run in runs for row in run[1:]])
                  for column in ("perf/sample_s", "perf/train_s", "perf/sync_s", "response/length")]
        seconds.append([name, *(f"{value:.1f}" for value in phases)])
        curves = {level: f"eval/pass@1/{level}" for level in CHANCE} | {"entropy while sampling": "sampler/entropy"}
        for axis, (title, column) in zip(axes if name in RUNS else [], curves.items()):
            for seed, run in enumerate(runs):
                points = [(row["step"], row[column]) for row in run if column in row]
                axis.plot(*zip(*points), color=f"C{color}", alpha=0.8, label=name if seed == 0 else None)
            axis.set(title=title, xlabel="step")
            axis.grid(alpha=0.3)
            if title in CHANCE:
                axis.axhline(CHANCE[title], color="k", ls=":", lw=1)
                axis.set(ylim=(-0.03, 1.03))
    axes[0].set(ylabel="held-out pass@1 (dotted: chance)")
    axes[2].legend(fontsize=8, loc="upper center")
    axes[3].set(ylabel="nats per token")
    figure.suptitle(f"Learning to read: {before['model']}; a line a seed")
    figure.savefig(ROOT / "results/lm.png", dpi=110)
    _, first = next(iter(load(name) for name in RUNS if load(name)[1]))
    problems = first[0]["problems"]
    text = [
        "# A real language model, 15 steps of 6 problems × 8 responses",
        f"`python results/lm.py run MODEL` with {before['model']}, {before['machine']}; `table` redraws.\n\n"
        "![curves](lm.png)",
        f"{problems} held-out problems, 16 samples each: pass@1 by level, mean ± standard deviation over seeds; "
        "entropy in nats\nper token; nats per token of a fixed general text, of which no problem speaks (more: "
        "forgotten). The next three count\nproblems at the first sample, of base and model, with k = 16. Minutes of a "
        "run, evaluations included.",
        markdown(["", "command", "seeds", *columns, *parts, "minutes"], rows),
        "Seconds of a step and tokens of a response, means over all steps. A prompt has 93 tokens and is trained again "
        "for\neach of its responses.",
        markdown(["", "sampling", "training", "sync", "tokens"], seconds),
    ]
    (ROOT / "results/lm.md").write_text("\n\n".join(text) + "\n")
    print("\n\n".join(text))


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"] and len(sys.argv) > 2:
        FOLDER.mkdir(exist_ok=True)
        write_problems()
        base(sys.argv[2])
        for seed in range(max(SEEDS.values())):
            for name in sys.argv[3:] or SEEDS:
                if seed < SEEDS[name]:
                    train(name, seed, sys.argv[2])
    elif sys.argv[1:] != ["table"]:
        sys.exit(__doc__)
    table()
