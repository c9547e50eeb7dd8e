r"""What did reinforcement learning change? pass@k with intervals, and where the gains come from.

    pass@k = mean over problems of  1 − C(n − c, k) / C(n, k)        n samples, c of them right, k ≤ n

is the unbiased estimate of Chen et al. (arXiv 2107.03374). --base splits what a model gained over the one it started
from, the question of the Guide paper (Nath et al., arXiv 2506.13923). With U / S the problems that the base fails /
solves at its first try and I[·] the indicator,

    gain       =  Σ_{i∈U} I[model solves i]
                  ├─ self-distillation   the base solves i within k samples
                  └─ capability gain     it does not
    forgotten  =  Σ_{i∈S} I[model fails i]                            Δ first try = (gain − forgotten) / N

The two names are the paper's; the formulas are ours, after its idea, and k = 16 is what summaries of it report. The
first try is the first sample, or with --greedy the greedy response, which may solve what samples rarely do. A
capability gain is relative to k: with more samples the base may solve the problem too, so raise --k before believing
in one. Samples differ by chance: a model compared with itself gains and forgets Σ p(1 − p) problems each. An interval
is the middle 95% of 2,000 bootstrap resamples of the problems; it knows nothing of other training seeds.

--hints samples every model also with the column hint in its prompt, on those problems that have one.

    python evaluate.py --model GRPO=runs/NAME Guide=runs/OTHER --base toy/model --dataset toy/test.jsonl \
        --max-prompt-tokens 128 --max-response-tokens 64

leaves in evals/test/ the responses (one file a model), report.json, table.md and pass_at_k.png. Files of responses are
kept and continued when the same command runs again, and can stand where a model is asked for.
"""

import copy
import ctypes
import json
import multiprocessing
import re
import signal
import sys
import zlib
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm
from transformers import AutoConfig, AutoTokenizer

import guide_grpo
import verifiers
from guide_grpo import checkpoints, load_problems, load_rows, sample, seed_everything, start_engine

CHUNK = 32  # problems that are sampled and written together
RESAMPLES = 2000


@dataclass
class Args:
    """pass@k of one or more models, what changed since --base, and what hints lift."""

    model: list[str]
    """Runs (their newest checkpoint), model folders, hub names or files of responses; LABEL=MODEL names a curve."""
    dataset: str
    """Problems: a .jsonl, .json or .parquet file, or NAME[:CONFIG[:SPLIT]] on the hub; see README."""
    base: str = ""
    """The model before training, in the same forms: adds its curve and the decomposition of what changed."""
    hints: bool = False
    """Sample every model with hints as well. Only problems that have one are used."""
    samples: int = 64
    """n: responses per problem."""
    k: int = 16
    """Samples within which the base solves a problem that counts as self-distillation."""
    greedy: bool = False
    """Sample one more response per problem, the greedy one, and let it be the first try instead of the first sample."""
    by: str = ""
    """Column to report by. Empty: the first of level, category, subject, type and data_source that exists."""
    max_problems: int = 0
    """Use at most so many problems, the first ones. 0: all."""
    out: str = ""
    """Folder for everything. Empty: evals/DATASET."""
    seed: int = 0
    """Decides the samples and the bootstrap."""
    temperature: float = 1.0
    """Of sampling. 1 is the distribution that training sees."""
    verifier: str = "math"
    """Who checks the answers: math, choice, code, or your own FILE.py:FUNCTION. A column verifier has precedence."""
    skip_bad_rows: bool = False
    """Leave out rows whose answer is missing or cannot be read, instead of stopping."""
    instruction: str = guide_grpo.Args.instruction
    """Follows problems that are plain text, after an empty line. Chat lists are used as they are."""
    max_prompt_tokens: int = 1024
    """Problems with longer prompts are left out and counted."""
    max_response_tokens: int = 2048
    """Longer responses are cut and count as truncated."""
    vllm_tp: int = 1
    """GPUs that share a model."""
    vllm_memory: float = 0.9
    """Share of the GPU's memory for vLLM. On a CPU VLLM_CPU_KVCACHE_SPACE decides, in GiB."""

    def __post_init__(self):
        for name in ("samples", "k", "temperature", "max_prompt_tokens", "max_response_tokens"):
            if not getattr(self, name) > 0:
                sys.exit(f"--{name.replace('_', '-')} must be above 0, but is {getattr(self, name)}")
        if self.seed < 0 or self.max_problems < 0:
            sys.exit("--seed and --max-problems must be at least 0")
        if not self.model:
            sys.exit("--model wants at least one model")
        if self.base and self.k > self.samples:
            sys.exit(f"--k {self.k} needs as many --samples, which are {self.samples}")
        try:
            verifiers.load(self.verifier)
        except ValueError as e:
            sys.exit(f"--verifier: {e}")


# ------------------------------------------------------------------------------------------------------------- sampling
def resolve(given: str) -> tuple[str, str]:
    """Label and place of a model: of a run, its newest checkpoint."""
    label, _, place = ("", "", given) if Path(given).exists() else given.rpartition("=")
    path = Path(place)
    if (path / "args.json").exists():
        kept = checkpoints(path)
        place = str(kept[-1]) if kept else sys.exit(f"{path} is a run without a checkpoint yet")
    elif path.suffix == ".jsonl" and not path.is_file():
        sys.exit(f"there is no file of responses {path}")
    return label or path.name.removesuffix(".jsonl"), place


def open_model(place: str, args: Args):
    """Its tokenizer; stops with a sentence if there is no such model, or it cannot read as much as args ask for."""
    try:
        tokenizer, config = AutoTokenizer.from_pretrained(place), AutoConfig.from_pretrained(place)
    except Exception as e:
        sys.exit(f"{place} is neither a run, a model's folder nor on the hub: {' '.join(str(e).split())[:300]}")
    if args.max_prompt_tokens + args.max_response_tokens > getattr(config, "max_position_embeddings", np.inf):
        sys.exit(f"{place} reads {config.max_position_embeddings} tokens: lower --max-{{prompt,response}}-tokens")
    return tokenizer


def select_problems(tokenizer, args: Args) -> list:
    """The problems that this tokenizer's model will be asked."""
    problems = load_problems(args.dataset, tokenizer, args)
    if args.hints:
        problems = [p for p in problems if p.hint_ids]
    if not problems:
        sys.exit(f"--hints: no problem of {args.dataset} has a hint that fits: add a column hint, see hints.py")
    return problems[: args.max_problems or None]


def sample_model(place: str, files: dict[bool, Path], problems: list, groups: list[str], args: Args):
    """Samples what is missing in the files of responses, without and with hints; runs in a process of its own."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # dies with the parent (PR_SET_PDEATHSIG): nobody writes after it
    engine = start_engine(replace(args, model=place))
    args = replace(args, vllm_tp=1)  # for `sample` it counts ranks of torchrun
    greedily = copy.copy(args)
    greedily.temperature = 0
    for hinted, file in files.items():
        made = settings(place, hinted, problems, args)
        rows = read_responses(file, made)
        if len(rows) == len(problems):
            continue
        rows = rows[: len(rows) // CHUNK * CHUNK]
        partial = file.with_suffix(".partial")
        partial.write_text("".join(json.dumps(row) + "\n" for row in [made, *rows]))
        partial.rename(file)
        bar = tqdm(desc=file.stem, initial=len(rows), total=len(problems), unit="problem")
        for start in range(len(rows), len(problems), CHUNK):
            seed_everything(args.seed, start)  # by chunk: an interrupted evaluation ends up with the same responses
            chunk = problems[start : start + CHUNK]
            sampled = sample(engine, chunk, args.samples, args, guided=hinted)
            greedy = sample(engine, chunk, 1, greedily, guided=hinted) if args.greedy else [[]] * len(chunk)
            with open(file, "a") as out:
                for p, group, responses, first in zip(chunk, groups[start:], sampled, greedy):
                    row = dict(row=p.row, group=group, prompt=p.prompt, answer=p.answer)
                    row |= dict(responses=[slim(r) for r in responses], greedy=slim(first[0]) if first else None)
                    out.write(json.dumps(row) + "\n")
            bar.update(len(chunk))


def slim(r) -> dict:
    return dict(text=r.text, verdict=r.verdict, tokens=len(r.token_ids), logprob=sum(r.logprobs), truncated=r.truncated)


def settings(place: str, hinted: bool, problems: list, args: Args) -> dict:
    """The first line of a file of responses: all that they depend on."""
    names = "dataset samples greedy seed temperature verifier instruction max_prompt_tokens max_response_tokens".split()
    asked = [(p.row, p.prompt, p.answer, p.verifier, p.hint_ids if hinted else []) for p in problems]
    settings = {name: getattr(args, name) for name in names}
    return {"model": place, "hinted": hinted, "checksum": zlib.crc32(repr(asked).encode())} | settings


def read_responses(file: Path, wanted: dict | None = None) -> list[dict]:
    """Rows of a file of responses, without a last one cut short; stops with a sentence if made by other settings."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    try:
        made, *rows = [json.loads(line) for line in lines if line.endswith("\n")] or [wanted]
        changed = [name for name, value in (wanted or {}).items() if made[name] != value]
        assert "hinted" in made and (wanted or rows and "responses" in rows[0])
    except (ValueError, KeyError, TypeError, AssertionError):
        sys.exit(f"{file} is not a file of responses that this script wrote")
    if changed:
        sys.exit(f"{file} was made with {changed[0]} {made[changed[0]]!r}, not {wanted[changed[0]]!r}: "
                 "choose another --out, or delete it")
    return rows


# ------------------------------------------------------------------------------------------------------------- analysis
def pass_at_k(n: int, c_N: np.ndarray, k: int) -> np.ndarray:
    """1 − C(n − c, k) / C(n, k) for each problem's c right responses among n (Chen et al., arXiv 2107.03374, eq. 1)."""
    drawn = np.arange(k)
    return 1 - np.clip((n - c_N[:, None] - drawn) / (n - drawn), 0, None).prod(axis=1)


def interval(values_N: np.ndarray, seed: int) -> list[float]:
    """Mean over problems, and the 2.5th and 97.5th percentiles of means over resampled problems."""
    N = len(values_N)
    means = np.random.default_rng(seed).multinomial(N, np.ones(N) / N, size=RESAMPLES) @ values_N / N
    return [float(np.mean(values_N)), *np.percentile(means, (2.5, 97.5)).tolist()]


def powers(n: int) -> list[int]:
    """1, 2, 4, ... and n."""
    return sorted({2**i for i in range(n.bit_length())} | {n})


def count_right(rows: list[dict], k: int | None = None) -> np.ndarray:
    """Right responses among each problem's first k, or among all."""
    return np.array([sum(r["verdict"] == "right" for r in row["responses"][:k]) for row in rows])


def first_try(rows: list[dict]) -> np.ndarray:
    """Solved at the first try, for each problem: by the greedy response if there is one, else by the first sample."""
    return np.array([(row["greedy"] or row["responses"][0])["verdict"] == "right" for row in rows])


def summarise(rows: list[dict], seed: int) -> dict:
    """Everything that is said of one model on some problems. Entropy is −log π per sampled token, in nats."""
    n, c_N = len(rows[0]["responses"]), count_right(rows)
    responses = [r for row in rows for r in row["responses"]]
    tokens = max(1, sum(r["tokens"] for r in responses))
    return {
        "problems": len(rows),
        "samples": n,
        "pass@k": {str(k): interval(pass_at_k(n, c_N, k), seed) for k in powers(n)},
        "greedy": interval(first_try(rows), seed) if rows[0]["greedy"] else None,
        "entropy": -sum(r["logprob"] for r in responses) / tokens,
        "length": tokens / len(responses),
        "truncated": float(np.mean([r["truncated"] for r in responses])),
        "verdicts": {v: float(np.mean([r["verdict"] == v for r in responses])) for v in verifiers.VERDICTS},
    }


def decompose(base: list[dict], rows: list[dict], k: int, seed: int) -> dict:
    """Self-distillation, capability gain and forgotten problems: counts, shares with intervals, and their rows."""
    before, after = first_try(base), first_try(rows)
    within_k = count_right(base, k) > 0
    parts = {
        "self-distillation": ~before & after & within_k,
        "capability gain": ~before & after & ~within_k,
        "forgotten": before & ~after,
    }
    result = {"k": k, "problems": len(rows), "delta first try": interval(after * 1.0 - before, seed)}
    for name, mask in parts.items():
        ids = [row["row"] for row, chosen in zip(rows, mask) if chosen]
        result[name] = {"count": len(ids), "share": interval(mask, seed), "rows": ids}
    return result


def by_group(rows: list[dict]) -> dict[str, list[int]]:
    """Positions of each group's problems, in the order in which groups first occur; nothing if there is one group."""
    positions = defaultdict(list)
    for i, row in enumerate(rows):
        positions[row["group"]].append(i)
    return positions if len(positions) > 1 else {}


def make_report(arms: dict[str, list[dict]], base: str, args: Args) -> dict:
    """arms: rows by label, `LABEL + hint` for those with hints; base: the label of the base, or nothing."""
    first = next(iter(arms.values()))
    groups = by_group(first)
    pick = lambda rows, positions: [rows[i] for i in positions]
    report = {"settings": vars(args), "models": {}, "decomposition": {}, "lift by hints": {}}
    for label, rows in arms.items():
        by = {group: summarise(pick(rows, positions), args.seed) for group, positions in groups.items()}
        report["models"][label] = summarise(rows, args.seed) | {"by": by}
        if base and label != base and not label.endswith(" + hint"):
            split = lambda positions: decompose(pick(arms[base], positions), pick(rows, positions), args.k, args.seed)
            by = {group: split(positions) for group, positions in groups.items()}
            report["decomposition"][label] = split(range(len(rows))) | {"by": by}
        if (hinted := arms.get(f"{label} + hint")) and len(hinted[0]["responses"]) == len(rows[0]["responses"]):
            n, (without, with_hint) = len(rows[0]["responses"]), map(count_right, (rows, hinted))
            lift = {str(k): pass_at_k(n, with_hint, k) - pass_at_k(n, without, k) for k in powers(n)}
            report["lift by hints"][label] = {k: interval(lift_N, args.seed) for k, lift_N in lift.items()}
    return report


# ----------------------------------------------------------------------------------------------------- table and figure
def cell(estimate: list[float] | None) -> str:
    return "{:.3f} ({:.3f}–{:.3f})".format(*estimate) if estimate else "–"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    line = lambda row: "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths)) + " |"
    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])


def table(report: dict) -> str:
    """The report's numbers, each with its interval, as Markdown."""
    models = report["models"]
    ks = [k for i, k in enumerate(powers(min(m["samples"] for m in models.values()))) if i % 2 == 0]
    rows, more = [], []
    for label, model in models.items():
        for group, m in {"all": model, **model["by"]}.items():
            estimates = [cell(m["pass@k"].get(str(k))) for k in ks]
            rows.append([label if group == "all" else "", group, str(m["problems"]), cell(m["greedy"]), *estimates])
        shares = [model["truncated"], *model["verdicts"].values()]
        more.append([label, f"{model['entropy']:.3f}", f"{model['length']:.1f}", *(f"{share:.3f}" for share in shares)])
    parts = [
        markdown(["model", "problems", "count", "greedy", *(f"pass@{k}" for k in ks)], rows),
        markdown(["model", "entropy", "tokens", "truncated", *verifiers.VERDICTS], more),
    ]
    rows = []
    for label, split in report["decomposition"].items():
        for group, d in {"all": split, **split["by"]}.items():
            counts = [str(d[part]["count"]) for part in ("self-distillation", "capability gain", "forgotten")]
            counts = [str(d["problems"]), *counts, cell(d["delta first try"])]
            rows.append([label if group == "all" else "", group, *counts])
    if rows:
        header = ["since the base", "problems", "count", f"self-distillation (k = {split['k']})", "capability gain",
                  "forgotten"]
        parts.append(markdown([*header, "Δ first try"], rows))
    if lifts := report["lift by hints"]:
        rows = [[label, *(cell(lift.get(str(k))) for k in ks)] for label, lift in lifts.items()]
        parts.append(markdown(["lift by hints", *(f"pass@{k}" for k in ks)], rows))
    parts.append("In parentheses: 95% bootstrap interval over problems. It has no width where all problems are alike;\n"
                 "up to 3 / count of others like them may still differ.\n")
    return "\n\n".join(parts)


def draw(report: dict, file: Path):
    """pass@k over k, for all problems and by group, and the decomposition as bars."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    models, splits = report["models"], report["decomposition"]
    groups = list(next(iter(models.values()))["by"])
    groups = ["all", *groups] if len(groups) <= 5 else ["all"]
    panels = len(groups) + bool(splits)
    shape = (1, panels) if panels <= 3 else (2, (panels + 1) // 2)
    figure, axes = plt.subplots(*shape, figsize=(4 * shape[1], 3.7 * shape[0]), layout="constrained", squeeze=False)
    axes, colors = list(axes.flat), {}
    for axis in axes[panels:]:
        axis.remove()
    for axis, group in zip(axes, groups):
        for label, model in models.items():
            curve = (model if group == "all" else model["by"][group])["pass@k"]
            ks, (mean, low, high) = [int(k) for k in curve], np.array(list(curve.values())).T
            hinted = label.endswith(" + hint")
            color = colors.setdefault(label.removesuffix(" + hint"), f"C{len(colors)}")
            marker = "osD^v"[list(colors).index(label.removesuffix(" + hint")) % 5]
            axis.plot(ks, mean, "--" if hinted else "-", marker=marker, ms=4, mfc="none", color=color, label=label)
            axis.fill_between(ks, low, high, color=color, alpha=0.15, lw=0)
        count = (model if group == "all" else model["by"][group])["problems"]
        axis.set_xscale("log", base=2)
        axis.set(title=f"{group} ({count} problems)", xlabel="k, samples per problem", ylim=(-0.03, 1.03))
        axis.set_xticks(ks, ks)
        axis.grid(alpha=0.3)
        axis.set(ylabel="pass@k: at least one of k is right")
    axes[0].legend(fontsize=8)
    if splits:
        axis, positions, k = axes[panels - 1], np.arange(len(splits)), report["settings"]["k"]
        share = lambda part: np.array([split[part]["share"][0] for split in splits.values()])
        distilled, gained, forgotten = map(share, ("self-distillation", "capability gain", "forgotten"))
        axis.bar(positions, distilled, color="0.6", label=f"self-distillation: the base solves it within {k}")
        axis.bar(positions, gained, bottom=distilled, color="C2", label="capability gain: it does not")
        axis.bar(positions, -forgotten, color="C3", label="forgotten")
        axis.axhline(0, color="k", lw=0.8)
        axis.set_xticks(positions, list(splits), rotation=20, ha="right")
        axis.set(title="what changed at the first try", ylabel="share of problems")
        axis.margins(y=0.3)
        axis.legend(fontsize=7, loc="upper left")
    n = next(iter(models.values()))["samples"]
    figure.suptitle(f"{report['settings']['dataset']}, {n} samples per problem; bands: 95% bootstrap over problems")
    figure.savefig(file, dpi=150)


# ----------------------------------------------------------------------------------------------------------------- main
def main(args: Args):
    dataset = Path(args.dataset).stem if Path(args.dataset).exists() else re.sub(r"[/:]", "-", args.dataset)
    out = Path(args.out or f"evals/{dataset}")
    base = resolve(args.base)[0] if args.base else ""
    named = [resolve(given) for given in ([args.base] if args.base else []) + args.model]
    labels = [label for label, _ in named]
    if len(set(labels)) < len(labels):
        sys.exit(f"two models have the same label among {', '.join(labels)}: write LABEL=MODEL")

    models = {label: place for label, place in named if not place.endswith(".jsonl")}
    arms = {label: read_responses(Path(place)) for label, place in named if label not in models}
    if arms and args.hints:
        sys.exit("--hints samples models: leave it out with files of responses, and name one LABEL + hint yourself")
    tokenizers = {label: open_model(place, args) for label, place in models.items()}
    problems = {label: select_problems(tokenizer, args) for label, tokenizer in tokenizers.items()}
    table_rows = load_rows(args.dataset) if models else None
    known = [args.by] if args.by else ["level", "category", "subject", "type", "data_source"]
    column = next((name for name in known if models and name in table_rows.column_names), None)
    if args.by and models and not column:
        sys.exit(f"--by {args.by}: {args.dataset} has columns {', '.join(table_rows.column_names)}")
    groups = [str(value) for value in table_rows[column]] if column else defaultdict(str)
    asked = {label: [(p.row, p.answer) for p in ps] for label, ps in problems.items()}
    asked |= {label: [(row["row"], row["answer"]) for row in rows] for label, rows in arms.items()}
    if any(rows != next(iter(asked.values())) for rows in asked.values()):
        counts = ", ".join(f"{label}: {len(rows)}" for label, rows in asked.items())
        sys.exit(f"not all models answered the same problems ({counts}): compare files of one dataset only; where a "
                 "prompt is too long for one of the models, raise --max-prompt-tokens")
    if base in arms and len(arms[base][0]["responses"]) < args.k:
        sys.exit(f"{base} has fewer than --k {args.k} responses per problem: lower --k")

    out.mkdir(parents=True, exist_ok=True)
    files = {
        label: {hinted: out / f"{label.replace('/', '_')}{' + hint' * hinted}.jsonl" for hinted in {False, args.hints}}
        for label in models
    }

    def is_complete(label, hinted, file):
        wanted = problems[label]
        return len(read_responses(file, settings(models[label], hinted, wanted, args))) == len(wanted)

    missing = {label for label in models if not all([is_complete(label, *item) for item in files[label].items()])}
    for label, place in named:
        if label in missing:
            work = (place, files[label], problems[label], [groups[p.row] for p in problems[label]], args)
            process = multiprocessing.get_context("spawn").Process(target=sample_model, args=work)
            process.start()  # an engine gives all of its memory back only with its process
            process.join()
            if process.exitcode:
                sys.exit(f"sampling from {label} failed, see above; the same command continues where it stopped")
        for hinted, file in files.get(label, {}).items():
            rows = [row | {"group": groups[row["row"]]} for row in read_responses(file)]
            arms[label + " + hint" * hinted] = rows
    arms = {name: arms[name] for label, _ in named for name in (label, f"{label} + hint") if name in arms}

    report = make_report(arms, base, args)
    (out / "report.json").write_text(json.dumps(report, indent=1))
    (out / "table.md").write_text(table(report))
    draw(report, out / "pass_at_k.png")
    print(f"\n{table(report)}\n{out} holds the responses, report.json, table.md and pass_at_k.png")


if __name__ == "__main__":
    main(tyro.cli(Args))
