"""What the papers claim and what we measured, one row a claim: results/claims.md, from the files of the other commands.

    python results/claims.py

The verdicts are decided here, by the comparison in each row.
"""

import json
from pathlib import Path

import algorithms
import decisions
import lm
import numpy as np
from algorithms import evaluations, load, markdown, pass_at, spread

RESULTS = Path(__file__).parent
TOY, LM = "`results/algorithms.py run`", "`results/lm.py run`"


def theory(file: str, claim: str) -> tuple[str, bool]:
    """The last cells of a claim's row in results/theory: what was measured, and whether it holds."""
    rows = [line.strip().strip("| ").split(" | ") for line in open(RESULTS / "theory" / file) if line.startswith("| ")]
    row = next(row for row in rows if row[0].startswith(claim))
    return row[-2], row[-1] == "yes"


def sweep() -> list[list[str]]:
    """The rows of results/lr_sweep.md: optimiser, norm, digits, tokens, converges up to, fails from, after by rate."""
    rows = [line.strip().strip("| ").split(" | ") for line in open(RESULTS / "lr_sweep.md") if line.startswith("| ")]
    return [row for row in rows if row[0] in ("AdamW", "SGD")]


def critical(norm: str) -> list[tuple[float, float]]:
    """SGD's last learning rate that converges and first that fails, at each response length."""
    return [(float(row[4]), float(row[5])) for row in sweep() if row[:2] == ["SGD", norm]]


def beyond() -> tuple[int, float]:
    """How many runs of the sweep had at least the first rate that fails, and the highest pass@1 that they ended at."""
    ends = [float(after) for row in sweep() for rate, after in (point.split(": ") for point in row[6].split(", "))
            if float(rate) >= float(row[5])]
    return len(ends), max(ends)


def verdict(holds: bool, otherwise="does not") -> str:
    return "holds" if holds else otherwise


def claims() -> list[list[str]]:
    models = {name: evaluations(name) for name in algorithms.RUNS}
    hard = {name: [pass_at(1, "hard", m) for m in models[name]] for name in models}
    changed = lambda name, part: [m["changed"][part]["count"] for m in models[name]]
    hints = json.loads((RESULTS / "evaluate/hints.json").read_text())
    rows = []

    def row(*cells):
        rows.append(list(cells))

    row("Guidance learns problems that eight rollouts nearly always fail; GRPO does not", "Guide [paper], ours", TOY,
        "pass@1 on hard letters: " + ", ".join(f"{n} {spread(hard[n])}" for n in ("GRPO", "Guide-GRPO", "Guide-PPO")),
        verdict(min(hard["Guide-GRPO"] + hard["Guide-PPO"]) > 0.5 and max(hard["GRPO"] + hard["GRPO slow"]) < 0.05))
    drawn = [sum(r["group/sampled"] for r in rows if "group/sampled" in r) / rows[-1]["step"]
             for rows in load("Filter-GRPO")]
    row("Filtering groups without a contrast helps less than guidance", "Guide [2nd]", TOY,
        f"pass@1 on hard letters: Filter-GRPO {spread(hard['Filter-GRPO'])}, {np.mean(drawn):.0f} problems a step; "
        f"Guide-GRPO {spread(hard['Guide-GRPO'])}, 24",
        verdict(max(hard["Filter-GRPO"]) < min(hard["Guide-GRPO"])))
    base, hinted = ([hints[label]["pass@k"][k][0] for k in ("1", "64")] for label in ("base", "base + hint"))
    row("Hints raise pass@k of the model that is not trained yet", "Guide [paper]", "`evaluate.py --hints`",
        f"pass@1 {base[0]:.2f} → {hinted[0]:.2f}, pass@64 {base[1]:.2f} → {hinted[1]:.2f} (the toy's hints say it all)",
        verdict(hinted[0] > base[0] and hinted[1] > base[1]))
    distilled, gained = changed("GRPO slow", "self-distillation"), changed("GRPO slow", "capability gain")
    row("Most of what RLVR gains is self-distillation, some is capability gain", "Guide [paper]", TOY,
        f"GRPO at rate 1e-4, k = 16: {spread(distilled, 0)} and {spread(gained, 0)} of 144 problems",
        verdict(all(d > g > 0 for d, g in zip(distilled, gained))))
    share = lambda name: [gain / (gain + distilled) for gain, distilled in
                          zip(changed(name, "capability gain"), changed(name, "self-distillation"))]
    row("Guidance shifts gains towards capability", "Guide, our reading", TOY,
        f"capability's share of all gains: {spread(share('GRPO slow'))} with GRPO at 1e-4, {spread(share('GRPO'))} at "
        f"2e-4, {spread(share('Guide-GRPO'))} with Guide-GRPO",
        verdict(min(share("Guide-GRPO")) > max(share("GRPO slow") + share("GRPO"))))

    last = {name: [algorithms.final("eval/pass@1/hard", rows) for rows in load(name)]
            for name in ["Guide-GRPO", *algorithms.ABLATIONS] if load(name)}
    for name, other, what, source in [
        ("Guide-GRPO", "no ratio", "The importance ratio to the prompt without the hint", "Guide [paper]"),
        ("Guide-GRPO", "no clip", "The clip of guided tokens", "ours; Guide's code has none"),
        ("reshaped", "no clip", "Reshaping the unclipped ratio, r/(r + γ),", "Guide [code]"),
        ("released", "reshaped", "Replacing the failed group, with that reshaping,", "Guide [code]"),
        ("released with filter", "released", "Filtering, with these defaults of the released code,", "Guide [code]"),
    ]:
        if last.keys() >= {name, other}:
            yes, no = last[name], last[other]
            otherwise = "it hurts" if max(yes) < min(no) else "not clearly: seeds overlap"
            row(f"{what} helps", source, TOY, f"hard letters at the last step {spread(yes)} with, {spread(no)} without",
                verdict(min(yes) > max(no), otherwise))

    longer, holds = theory("guide.md", "GRPO: each further decision multiplies the steps")
    tokens, also = theory("guide.md", "token ratio, without and with the clip: from L = 4 to 8")
    row("The more decisions, the more guidance gains: exponential time becomes linear", "ours", "`theory/guide.py`",
        f"steps grow by {longer} with each further decision under GRPO; by {tokens} from 4 to 8 with guidance",
        verdict(holds and also))
    ends = {name: [algorithms.final("eval/pass@1", run) for digits in (4, 6) for run in decisions.load(name, digits)]
            for name in decisions.RUNS}
    sooner = [min(ends[name]) > max(ends["GRPO"]) for name in ("token ratio", "without ratio")]
    row("The same in a language model, four and six decisions", "ours", "`results/decisions.py run`",
        "pass@1 after 120 steps, by seed: " + "; ".join(
            f"{name} {', '.join(f'{end:.2f}' for end in ends[name])}" for name in ends),
        verdict(all(sooner), "without the ratio; with it not at every seed" if sooner[1] else "does not"))

    for ours, full in (("GRPO-N", "GRPO slow"), ("GSPO-N", "GSPO")):
        during = {name: [np.mean([r["sampler/entropy"] for r in rows if 20 <= r["step"] <= 100]) for rows in load(name)]
                  for name in (ours, full)}
        after = {name: [m["entropy"] for m in models[name]] for name in (ours, full)}
        widest = {name: [pass_at(64, "", m) for m in models[name]] for name in (ours, full)}
        label = full.removesuffix(" slow")
        more = [min(entropy[ours]) > max(entropy[full]) for entropy in (during, after)]
        row(f"{ours} keeps more entropy than {label}", "two-stage [paper]", TOY,
            f"nats, both at rate 1e-4: {spread(during[ours], 3)} against {spread(during[full], 3)} in steps 20 to 100, "
            f"{spread(after[ours], 3)} against {spread(after[full], 3)} after training",
            verdict(all(more), "only while it learns, more slowly" if more[0] else "does not"))
        row(f"{ours} keeps more pass@k than {label}", "two-stage, our reading", TOY,
            f"pass@64, all letters: {spread(widest[ours])} against {spread(widest[full])}; before training "
            f"{pass_at(64, '', algorithms.before()):.2f}", verdict(min(widest[ours]) > max(widest[full])))

    read = {name: [pass_at(1, "last", m) for m in lm.load(name)[1]] for name in lm.RUNS | lm.SWEEP}
    entropy = {name: [m["entropy"] for m in lm.load(name)[1]] for name in lm.RUNS}
    for ours in ("GRPO-N", "GSPO-N"):
        row(f"{ours} keeps more entropy than GRPO in a model of 135M parameters", "two-stage [paper]", LM,
            f"nats after training: {spread(entropy[ours])} against {spread(entropy['GRPO'])}; it has learnt less, the "
            f"last of five words {spread(read[ours])} against {spread(read['GRPO'])}",
            verdict(min(entropy[ours]) > max(entropy["GRPO"])))

    two = "`theory/two_stage.py`"
    stages = [theory("two_stage.md", f"T1, GRPO, {stage}") for stage in ("exploitation", "exploration")]
    row("Two stages: first the likely good action, while the best one loses; then that one", "two-stage [paper]", two,
        f"three actions: medians of the two masses {stages[0][0]}; later {stages[1][0]}",
        verdict(all(holds for _, holds in stages)))
    # the rows of T2 say below at the smaller η, above at the larger
    small, large = (theory("two_stage.md", f"T2, η = {eta}, found") for eta in (1, 4))
    never, _ = theory("two_stage.md", "T1, GRPO-N never")
    row("Only negative gradients find the best action more often", "two-stage, our reading", two,
        f"T2, −N minus GRPO: {small[0]} at η = 1, {large[0]} at η = 4; T1 (graded rewards), −N: {never}",
        "only when rewards are right or wrong and steps are large" if small[1] and large[1] else "does not")
    # the row of T2 says below at η = 4, above at the others
    tiny, small, large = (theory("two_stage.md", f"T2, η = {eta}, entropy") for eta in (1, 4, 16))
    row("Only negative gradients keep entropy", "two-stage [paper]", two,
        f"T2 at t = 50, −N minus GRPO: {tiny[0]} at η = 1, {small[0]} at η = 4, {large[0]} at η = 16",
        "only at some step sizes" if tiny[1] and small[1] and large[1] else "does not")

    bandit = "`theory/gradient_gap.py bandit`"
    value, holds = theory("gradient_gap_bandit.md", "valley: sharp threshold at C = 2/κ, exact gap")
    row("A sharp threshold of the step size divides convergence from collapse", "Gradient Gap [paper]", bandit,
        f"critical C {value}, expected 2", verdict(holds))
    count, highest = beyond()
    row("The same in a language model", "Gradient Gap [paper]", "`results/lr_sweep.py run`",
        f"{count} runs at or above the first learning rate that fails, in 12 settings: all end at a held-out pass@1 "
        f"of at most {highest:.2f} on easy and medium letters", verdict(highest < 0.1))
    *learns, collapses = read["GRPO"], *(read[name] for name in lm.SWEEP)
    row("The same in a model of 135M parameters, AdamW", "Gradient Gap [paper]", LM,
        "the last of five words, chance .2: " + ", ".join(spread(ends) for ends in (*learns, collapses))
        + f" at 5e-6 and {', '.join(name.removeprefix('GRPO-') for name in lm.SWEEP)}",
        verdict(min(map(min, learns)) > 0.4 and max(collapses) < 0.1))
    value, holds = theory("gradient_gap_bandit.md", "tokens: critical step, C gap")
    per_token, also = theory("gradient_gap_bandit.md", "tokens: critical step, C gap/T")
    row("The critical step shrinks with the length; dividing by the length repairs it", "Gradient Gap [paper]", bandit,
        f"{value} as it is; {per_token} divided", verdict(holds and also))
    plain, divided = critical("constant"), critical("sequence")
    ranges = lambda rates: ", ".join(f"{converges:g}–{fails:g}" for converges, fails in rates)
    row("The same in a language model, SGD", "Gradient Gap [paper]", "`results/lr_sweep.py run`",
        f"25, 46, 88 tokens: {ranges(plain)} as it is; {ranges(divided)} divided by the length (one seed)",
        verdict(plain == sorted(plain, reverse=True) and plain[0] > plain[-1] and len(set(divided)) == 1))
    value, holds = theory("gradient_gap_bandit.md", "cosine: with a fixed step GRPO stagnates")
    row("With a fixed step success can stagnate below 1", "Gradient Gap [paper]", bandit,
        f"failures over (4/3)η²: {value}", verdict(holds))
    return rows


if __name__ == "__main__":
    text = "\n\n".join([
        "# Claims", "`python results/claims.py`, from the files that the commands below leave in `results/`. ± is the "
        "standard deviation\nover seeds on the toy, the standard error in the theory. [paper], [2nd]hand, [code]: what "
        "the claim is taken from.", markdown(["claim", "source", "command", "what we saw", ""], claims())])
    (RESULTS / "claims.md").write_text(text + "\n")
    print(text)
