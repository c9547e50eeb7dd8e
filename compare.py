r"""What did training change? Files of responses, side by side: pass@k with intervals, and where the gains come from.

    python compare.py GRPO=evals/grpo.jsonl Guide=evals/guide.jsonl --base evals/base.jsonl --out evals/toy

reads what evaluate.py wrote, and leaves report.json, table.md and pass_at_k.png in --out. --base splits what a model
gained over the one it started from, the question of the Guide paper (Nath et al., arXiv 2506.13923). With U / S the
problems that the base fails / solves at its first try and I[·] the indicator,

    gain       =  Σ_{i∈U} I[model solves i]
                  ├─ self-distillation   the base solves i within k samples
                  └─ capability gain     it does not
    forgotten  =  Σ_{i∈S} I[model fails i]                            Δ first try = (gain − forgotten) / N

The two names are the paper's; the formulas are ours, after its idea, and k = 16 is what summaries of it report. The
first try is the first sample, or the greedy response of files made with --greedy, which may solve what samples rarely
do. A capability gain is relative to k: with more samples the base may solve the problem too, so raise --k before
believing in one. Samples differ by chance: a model compared with itself gains and forgets Σ p(1 − p) problems each. An
interval is the middle 95% of 2,000 bootstrap resamples of the problems; it knows nothing of other training seeds.

A file made with --hints is paired with the one that the same model wrote without: the difference is the lift by hints.
Then all files are compared on the problems that have a hint.
"""

import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure

import verifiers

RESAMPLES = 2000
PARTS = ("self-distillation", "capability gain", "forgotten")


@dataclass
class Args:
    """Compares files of responses: pass@k, what changed since --base, what hints lift."""

    responses: tyro.conf.Positional[list[str]]  # files that evaluate.py wrote; LABEL=FILE names a curve
    out: str  # folder for report.json, table.md and pass_at_k.png
    base: str = ""  # the responses of the model before training, in the same form
    k: int = 16  # samples within which the base solves a problem that counts as self-distillation
    seed: int = 0  # of the bootstrap


# -------------------------------------------------------------------------------------------------------------- reading
def read_responses(file: Path) -> tuple[dict, list[dict]]:
    """Settings and rows of a file of responses, without a last row cut short; stops with a sentence if it is none."""
    if not file.is_file():
        sys.exit(f"there is no file of responses {file}")
    try:
        settings, *rows = [json.loads(line) for line in open(file) if line.endswith("\n")]
        if settings["problems"] < len(rows) or not all(row["responses"] for row in rows):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        sys.exit(f"{file} is not a file of responses that evaluate.py wrote")
    return settings, rows


def read_arms(args: Args) -> tuple[dict[str, dict], dict[str, list[dict]]]:
    """Settings and rows by label, those of the base first; stops with a sentence where they cannot be compared."""
    settings, arms = {}, {}
    for given in [args.base, *args.responses] if args.base else args.responses:
        label, _, file = ("", "", given) if Path(given).exists() else given.rpartition("=")
        label = label or Path(file).stem
        if label in arms:
            sys.exit(f"two files have the same label {label}: write LABEL=FILE")
        settings[label], arms[label] = read_responses(Path(file))
        if len(arms[label]) < settings[label]["problems"]:
            sys.exit(f"{file} is not complete: it holds {len(arms[label])} of {settings[label]['problems']} problems. "
                     "The command of evaluate.py that began it continues it")
    asked = {label: [(row["row"], row["answer"]) for row in rows] for label, rows in arms.items()}
    for label in [label for label in arms if settings[label]["hints"]]:
        hinted = set(asked[label])
        for other in arms:
            arms[other] = [row for row in arms[other] if (row["row"], row["answer"]) in hinted]
    compared = [[(row["row"], row["answer"]) for row in rows] for rows in arms.values()]
    if not compared[0] or any(problems != compared[0] for problems in compared):
        counts = ", ".join(f"{label}: {len(problems)}" for label, problems in asked.items())
        sys.exit(f"not all files answered the same problems ({counts}): compare files of one dataset only; where a "
                 "prompt is too long for one of the models, raise its --max-prompt-tokens")
    first, *others = arms
    if args.base and settings[first]["samples"] < args.k:
        sys.exit(f"{first} has {settings[first]['samples']} responses per problem, fewer than --k {args.k}: lower --k")
    for label in others:
        if args.base and settings[label]["greedy"] != settings[first]["greedy"]:
            sys.exit(f"only one of {first} and {label} has greedy responses: give both evaluations --greedy, or none")
    return settings, arms


# ----------------------------------------------------------------------------------------------------------- statistics
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
    before, after, within_k = first_try(base), first_try(rows), count_right(base, k) > 0
    result = {"k": k, "problems": len(rows), "delta first try": interval(after * 1.0 - before, seed)}
    for part, mask in zip(PARTS, (~before & after & within_k, ~before & after & ~within_k, before & ~after)):
        ids = [row["row"] for row, chosen in zip(rows, mask) if chosen]
        result[part] = {"count": len(ids), "share": interval(mask, seed), "rows": ids}
    return result


def lift(plain: list[dict], hinted: list[dict], seed: int) -> dict:
    """pass@k with hints minus pass@k without, at every k that both have the samples for."""
    (n, c_N), (m, d_N) = ((len(rows[0]["responses"]), count_right(rows)) for rows in (plain, hinted))
    return {str(k): interval(pass_at_k(m, d_N, k) - pass_at_k(n, c_N, k), seed) for k in powers(min(n, m))}


def make_report(arms: dict[str, list[dict]], base: str, hinted: dict[str, str], k: int, seed: int) -> dict:
    """arms: rows by label. base: the label of the base, or nothing. hinted: for the label of every arm with hints that
    of the same model without, or nothing; they are not decomposed."""
    groups = defaultdict(list)
    for i, row in enumerate(next(iter(arms.values()))):
        groups[row["group"]].append(i)
    by = {label: {group: [rows[i] for i in groups[group]] for group in groups} for label, rows in arms.items()}
    report = {"models": {}, "decomposition": {}, "lift by hints": {}}
    for label, rows in arms.items():
        parts = by[label] if len(groups) > 1 else {}
        report["models"][label] = summarise(rows, seed)
        report["models"][label]["by"] = {group: summarise(part, seed) for group, part in parts.items()}
        if base and label != base and label not in hinted:
            split = {group: decompose(by[base][group], part, k, seed) for group, part in parts.items()}
            report["decomposition"][label] = decompose(arms[base], rows, k, seed) | {"by": split}
        if hinted.get(label):
            report["lift by hints"][hinted[label]] = lift(arms[hinted[label]], rows, seed)
    return report


# ----------------------------------------------------------------------------------------------------- table and figure
def cell(estimate: list[float] | None) -> str:
    return "{:.3f} ({:.3f}–{:.3f})".format(*estimate) if estimate else "–"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def table(report: dict) -> str:
    """The report's numbers, each with its interval, as Markdown."""
    models, rows, shares, splits = report["models"], [], [], []
    ks = [str(k) for k in powers(min(model["samples"] for model in models.values()))[::2]]
    for label, model in models.items():
        for group, m in {"all": model, **model["by"]}.items():
            name = label if m is model else ""
            rows.append([name, group, str(m["problems"]), cell(m["greedy"]), *(cell(m["pass@k"].get(k)) for k in ks)])
        numbers = [model["truncated"], *model["verdicts"].values()]
        shares.append([label, f"{model['entropy']:.3f}", f"{model['length']:.1f}", *map("{:.3f}".format, numbers)])
    for label, split in report["decomposition"].items():
        for group, d in {"all": split, **split["by"]}.items():
            counts = [str(d["problems"]), *(str(d[part]["count"]) for part in PARTS)]
            splits.append([label if d is split else "", group, *counts, cell(d["delta first try"])])
    lifts = [[label, *(cell(found.get(k)) for k in ks)] for label, found in report["lift by hints"].items()]
    pass_at = [f"pass@{k}" for k in ks]
    parts = [markdown(["model", "problems", "count", "greedy", *pass_at], rows),
             markdown(["model", "entropy", "tokens", "truncated", *verifiers.VERDICTS], shares)]
    if splits:
        header = ["since the base", "problems", "count", f"{PARTS[0]} (k = {split['k']})", *PARTS[1:], "Δ first try"]
        parts.append(markdown(header, splits))
    if lifts:
        parts.append(markdown(["lift by hints", *pass_at], lifts))
    parts.append("In parentheses: 95% bootstrap interval over problems. It has no width where all problems are alike;\n"
                 "up to 3 / count of others like them may still differ.\n")
    return "\n\n".join(parts)


def draw(report: dict, hinted: dict[str, str], title: str, file: Path):
    """pass@k over k, for all problems and by group, and the decomposition as bars."""
    models, splits = report["models"], report["decomposition"]
    groups = list(next(iter(models.values()))["by"])
    groups = ["all", *groups] if len(groups) <= 5 else ["all"]
    panels = len(groups) + (1 if splits else 0)
    height = 1 if panels <= 3 else 2
    width = -(-panels // height)
    figure = Figure(figsize=(4 * width, 3.7 * height), layout="constrained")
    colors = {label: i for i, label in enumerate(label for label in models if not hinted.get(label))}
    for panel, group in enumerate(groups, 1):
        axis = figure.add_subplot(height, width, panel)
        for label, model in models.items():
            m = model if group == "all" else model["by"][group]
            ks, (mean, low, high) = [int(k) for k in m["pass@k"]], np.array(list(m["pass@k"].values())).T
            i = colors[hinted.get(label) or label]
            style = "--" if label in hinted else "-"
            axis.plot(ks, mean, style, marker="osD^v"[i % 5], ms=4, mfc="none", color=f"C{i}", label=label)
            axis.fill_between(ks, low, high, color=f"C{i}", alpha=0.15, lw=0)
        axis.set_xscale("log", base=2)
        axis.set_xticks(ks, ks)
        axis.set(title=f"{group} ({m['problems']} problems)", xlabel="k, samples per problem", ylim=(-0.03, 1.03),
                 ylabel="pass@k: at least one of k is right")
        axis.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    if splits:
        axis = figure.add_subplot(height, width, panels)
        shares = [np.array([split[part]["share"][0] for split in splits.values()]) for part in PARTS]
        k = next(iter(splits.values()))["k"]
        axis.bar(list(splits), shares[0], color="0.6", label=f"self-distillation: the base solves it within {k}")
        axis.bar(list(splits), shares[1], bottom=shares[0], color="C2", label="capability gain: it does not")
        axis.bar(list(splits), -shares[2], color="C3", label="forgotten")
        axis.axhline(0, color="k", lw=0.8)
        axis.tick_params("x", rotation=20)
        axis.set(title="what changed at the first try", ylabel="share of problems")
        axis.margins(y=0.3)
        axis.legend(fontsize=7, loc="upper left")
    figure.suptitle(title)
    figure.savefig(file, dpi=150)


# ----------------------------------------------------------------------------------------------------------------- main
def main(args: Args):
    settings, arms = read_arms(args)
    plain = {made["model"]: label for label, made in settings.items() if not made["hints"]}
    hinted = {label: plain.get(made["model"], "") for label, made in settings.items() if made["hints"]}
    base = next(iter(arms)) if args.base else ""
    report = {"settings": vars(args), "files": settings} | make_report(arms, base, hinted, args.k, args.seed)
    first, out = next(iter(settings.values())), Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report, indent=1))
    (out / "table.md").write_text(table(report))
    title = f"{first['dataset']}, {first['samples']} samples per problem; bands: 95% bootstrap over problems"
    draw(report, hinted, title, out / "pass_at_k.png")
    print(f"\n{table(report)}\n{out} holds report.json, table.md and pass_at_k.png")


if __name__ == "__main__":
    main(tyro.cli(Args))
