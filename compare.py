r"""What did training change? Files of responses, side by side: pass@k with intervals, and where the gains come from.

    python compare.py GRPO=evals/grpo.jsonl Guide=evals/guide.jsonl --base evals/model.jsonl --out evals

With U / S the problems that the base fails / solves at its first try and I[·] the indicator,

    gain       =  Σ_{i∈U} I[model solves i]
                  ├─ self-distillation   the base solves i within k samples
                  └─ capability gain     it does not
    forgotten  =  Σ_{i∈S} I[model fails i]                            Δ first try = (gain − forgotten) / N

The names are the Guide paper's (Nath et al., arXiv 2506.13923); the formulas are ours, and k = 16 is what summaries of
it report. The first try is the first sample, or with --greedy the greedy response. Samples differ by chance: a model
compared with itself at another --seed gains and forgets Σ p(1 − p) problems each. Intervals are 95% of 2,000 bootstraps
over problems. With a file made with --hints, all are compared on the problems that have one; lift: with minus without.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure

import verifiers

SAME = ("greedy", "temperature", "verifier", "max_response_tokens")  # settings without which nothing compares
PARTS = ("self-distillation", "capability gain", "forgotten")


@dataclass
class Args:
    """Compares files of responses: pass@k, what changed since --base, what hints lift."""

    responses: tyro.conf.Positional[list[str]]  # Files that evaluate.py wrote. LABEL=FILE names a curve
    out: str  # Folder for report.json, table.md and pass_at_k.png
    base: str = ""  # The responses of the model before training, in the same form
    k: int = 16  # Samples within which the base solves a problem that counts as self-distillation


def read_responses(file: Path) -> tuple[dict, list[dict]]:
    """Settings and rows of a file of responses, without a last row cut short. Ends with a sentence if it is none."""
    try:
        settings, *rows = [json.loads(line) for line in open(file) if line.endswith("\n")]
        return settings, rows[: settings["problems"]]
    except (OSError, ValueError, KeyError, TypeError) as e:
        sys.exit(f"{file} is not a file of responses that evaluate.py wrote: {e!r}")


def read_all(args: Args) -> tuple[dict[str, dict], dict[str, list[dict]]]:
    """Settings and rows of the files by label, the base first. Ends with a sentence if they cannot be compared."""
    settings, arms = {}, {}
    for given in [args.base, *args.responses] if args.base else args.responses:
        label, file = given.split("=", 1) if "=" in given and not Path(given).exists() else (Path(given).stem, given)
        if label in arms:
            sys.exit(f"two files have the same label {label}: write LABEL=FILE")
        settings[label], arms[label] = made, rows = read_responses(Path(file))
        if len(rows) < made["problems"]:
            sys.exit(f"{file} holds {len(rows)} of {made['problems']} problems: the command that began it continues it")
    for label in [label for label in arms if settings[label]["hints"]]:
        hinted = {row["row"] for row in arms[label]}
        arms = {other: [row for row in rows if row["row"] in hinted] for other, rows in arms.items()}
    asked = {label: [(row["row"], row["answer"], row["group"]) for row in rows] for label, rows in arms.items()}
    first = list(arms)[0] if arms and all(arms.values()) else sys.exit("name files of responses that share problems")
    for label in arms:
        if asked[label] != asked[first] or any(settings[label].get(x) != settings[first].get(x) for x in SAME):
            sys.exit(f"{first} and {label} do not have the same problems, --by, {', '.join(SAME)}")
    if args.base and not 0 < args.k <= settings[first]["samples"]:
        sys.exit(f"--k {args.k} is not among 1 to {settings[first]['samples']}, the responses per problem of {first}")
    return settings, arms


def pass_at_k(n: int, c_N: np.ndarray, k: int) -> np.ndarray:
    """1 − C(n − c, k) / C(n, k) for each problem's c right responses among n (Chen et al., arXiv 2107.03374, eq. 1)."""
    return 1 - np.clip(1 - c_N[:, None] / (n - np.arange(k)), 0, None).prod(axis=1)


def pass_at_powers(rows: list[dict]) -> dict[str, np.ndarray]:
    """Each problem's pass@k at k = 1, 2, 4, ... and n."""
    n = len(rows[0]["responses"])
    c_N = np.array([sum(r["verdict"] == "right" for r in row["responses"]) for row in rows])
    return {str(k): pass_at_k(n, c_N, k) for k in sorted({2**i for i in range(n.bit_length())} | {n})}


def first_try(rows: list[dict]) -> np.ndarray:
    """Whether a problem is solved by the greedy response if there is one, else by the first sample [problems]."""
    return np.array([(row["greedy"] or row["responses"][0])["verdict"] == "right" for row in rows])


def interval(values_N: np.ndarray) -> list[float]:
    """Mean over problems, and the 2.5th and 97.5th percentiles of means over resampled problems."""
    N, rng = len(values_N), np.random.default_rng(0)
    means = [rng.multinomial(N, np.ones(N) / N) @ values_N / N for _ in range(2000)]  # not a matrix of 2000 × N
    return [float(np.mean(values_N)), *np.percentile(means, (2.5, 97.5)).tolist()]


def summarise(rows: list[dict]) -> dict:
    """All that is said of one model on some problems. Entropy is −log π per sampled token, in nats."""
    responses = [r for row in rows for r in row["responses"]]
    tokens = max(1, sum(r["tokens"] for r in responses))
    return {
        "problems": len(rows), "pass@k": {k: interval(values_N) for k, values_N in pass_at_powers(rows).items()},
        "greedy": interval(first_try(rows)) if rows[0]["greedy"] else None,
        "entropy": -sum(r["logprob"] for r in responses) / tokens, "length": tokens / len(responses),
        "truncated": float(np.mean([r["truncated"] for r in responses])),
        "verdicts": {v: float(np.mean([r["verdict"] == v for r in responses])) for v in verifiers.VERDICTS},
    }


def decompose(base: list[dict], rows: list[dict], k: int) -> dict:
    """Self-distillation, capability gain and forgotten problems: counts, shares with intervals, and their rows."""
    before, after = first_try(base), first_try(rows)
    within_k = np.array([any(r["verdict"] == "right" for r in row["responses"][:k]) for row in base])
    result = {"k": k, "problems": len(rows), "delta first try": interval(after * 1.0 - before)}
    for part, mask in zip(PARTS, (~before & after & within_k, ~before & after & ~within_k, before & ~after)):
        ids = [row["row"] for row, chosen in zip(rows, mask) if chosen]
        result[part] = {"count": len(ids), "share": interval(mask), "rows": ids}
    return result


def by_group(statistic, *arms: list[dict], **options) -> dict:
    """A statistic of all problems and, under `by`, of each group of them if there are several."""
    names = list(dict.fromkeys(row["group"] for row in arms[0]))
    parts = {name: [[row for row in rows if row["group"] == name] for rows in arms] for name in names if len(names) > 1}
    return statistic(*arms, **options) | {"by": {name: statistic(*part, **options) for name, part in parts.items()}}


def make_report(settings: dict[str, dict], arms: dict[str, list[dict]], base="", k=16) -> dict:
    """Settings and rows are by label. All but those with hints are decomposed against `base`, a label or nothing."""
    report = {"files": settings, "k": k, "models": {}, "decomposition": {}, "lift by hints": {}}
    plain = {made["model"]: label for label, made in settings.items() if not made["hints"]}
    for label, rows in arms.items():
        report["models"][label] = by_group(summarise, rows)
        hints, without = settings[label]["hints"], plain.get(settings[label]["model"])
        if base and label != base and not hints:
            report["decomposition"][label] = by_group(decompose, arms[base], rows, k=k)
        if hints and without:
            before, after = pass_at_powers(arms[without]), pass_at_powers(rows)
            report["lift by hints"][label] = {at: interval(after[at] - before[at]) for at in before if at in after}
    return report


def cell(estimate: list[float] | None) -> str:
    return "{:.3f} ({:.3f}–{:.3f})".format(*estimate) if estimate else "–"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def table(report: dict) -> str:
    """The report's numbers, each with its interval, as Markdown."""
    *ks, most = min((model["pass@k"] for model in report["models"].values()), key=len)
    ks, rates, shares, changes = [*ks[::2], most], [], [], []
    for label, model in report["models"].items():
        for group, m in [("all", model), *model["by"].items()]:
            row = [label if m is model else "", group, str(m["problems"]), cell(m["greedy"])]
            rates.append(row + [cell(m["pass@k"].get(k)) for k in ks])
        verdicts = map("{:.3f}".format, (model["truncated"], *model["verdicts"].values()))
        shares.append([label, f"{model['entropy']:.3f}", f"{model['length']:.1f}", *verdicts])
    for label, change in report["decomposition"].items():
        for group, c in [("all", change), *change["by"].items()]:
            counts = [str(c["problems"]), *(str(c[part]["count"]) for part in PARTS)]
            changes.append([label if c is change else "", group, *counts, cell(c["delta first try"])])
    lifts = [[label, *(cell(found.get(k)) for k in ks)] for label, found in report["lift by hints"].items()]
    pass_at, parts = [f"pass@{k}" for k in ks], [f"{PARTS[0]} (k = {report['k']})", *PARTS[1:]]
    tables = [
        markdown(["model", "problems", "count", "greedy", *pass_at], rates),
        markdown(["model", "entropy", "tokens", "truncated", *verifiers.VERDICTS], shares),
        markdown(["since the base", "problems", "count", *parts, "Δ first try"], changes) if changes else "",
        markdown(["lift by hints", *pass_at], lifts) if lifts else "",
        "In parentheses: 95% bootstrap interval over problems. It has no width where all problems are alike;\n"
        "up to 3 / count of others like them may still differ.\n",
    ]
    return "\n\n".join(filter(None, tables))


def draw(report: dict, file: Path):
    """pass@k over k for all problems and the first five groups of them, and the decomposition as bars."""
    models, changes, made = report["models"], report["decomposition"], list(report["files"].values())[0]
    groups = ["all", *list(models.values())[0]["by"]][:6]
    figure = Figure(figsize=(4.2 * (len(groups) + bool(changes)), 3.7), layout="constrained")
    axes = figure.subplots(1, len(groups) + bool(changes), squeeze=False)[0]
    for axis, group in zip(axes, groups):
        for i, (label, model) in enumerate(models.items()):
            m = {"all": model, **model["by"]}[group]
            ks, (mean, low, high) = [int(k) for k in m["pass@k"]], np.array(list(m["pass@k"].values())).T
            style = ("--" if report["files"][label]["hints"] else "-") + "osD^v"[i % 5]
            axis.semilogx(ks, mean, style, base=2, color=f"C{i}", ms=4, mfc="none", label=label)
            axis.fill_between(ks, low, high, color=f"C{i}", alpha=0.15, lw=0)
        axis.set(title=f"{group} ({m['problems']} problems)", xlabel="k", ylabel="pass@k", ylim=(-0.03, 1.03))
        axis.set_xticks(ks, ks)
    axes[0].legend(fontsize=8)
    if changes:
        distilled, gained, forgotten = ([change[part]["share"][0] for change in changes.values()] for part in PARTS)
        axes[-1].bar(list(changes), distilled, color="0.6", label=f"{PARTS[0]}: base solves it within {report['k']}")
        axes[-1].bar(list(changes), gained, bottom=distilled, color="C2", label="capability gain: it does not")
        axes[-1].bar(list(changes), np.negative(forgotten), color="C3", label="forgotten")
        axes[-1].set(title="what changed at the first try", ylabel="share of problems")
        axes[-1].legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    figure.suptitle(f"{made['dataset']}; bands: 95% bootstrap over problems")
    figure.savefig(file, dpi=150)


def main(args: Args):
    settings, arms = read_all(args)
    report, out = make_report(settings, arms, list(arms)[0] if args.base else "", args.k), Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report, indent=1))
    (out / "table.md").write_text(table(report))
    draw(report, out / "pass_at_k.png")
    print(f"\n{table(report)}\n{out} holds report.json, table.md and pass_at_k.png")


if __name__ == "__main__":
    main(tyro.cli(Args))
