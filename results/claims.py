"""What the papers claim and what we measured, one row a claim: results/claims.md, from the files of the other commands.

    python results/claims.py

`holds`, `does not` and `only when` are decided here, by the comparison in each row.
"""

import json
from pathlib import Path

import toy
from toy import evaluations, load, markdown, pass_at, spread

RESULTS = Path(__file__).parent
TOY = "`results/toy.py run`"


def theory(file: str, claim: str) -> tuple[str, bool]:
    """The last cells of a claim's row in results/theory: what was measured, and whether it holds."""
    rows = [line.strip().strip("| ").split(" | ") for line in open(RESULTS / "theory" / file) if line.startswith("| ")]
    row = next(row for row in rows if row[0].startswith(claim))
    return row[-2], row[-1] == "yes"


def critical(norm: str) -> list[str]:
    """The range of SGD's critical learning rate at each response length, from results/lr_sweep.md."""
    rows = [line.strip().strip("| ").split(" | ") for line in open(RESULTS / "lr_sweep.md") if line.startswith("| SGD")]
    return [f"{converges}–{fails}" for _, kind, _, _, converges, fails, _ in rows if kind == norm]


def verdict(holds: bool, otherwise="does not") -> str:
    return "holds" if holds else otherwise


def claims() -> list[list[str]]:
    models = {name: evaluations(name) for name in toy.RUNS}
    hard = {name: [pass_at(1, "hard", m) for m in models[name]] for name in models}
    changed = lambda name, part: [m["changed"][part]["count"] for m in models[name]]
    hints = json.loads((RESULTS / "evaluate/hints.json").read_text())
    rows = []

    def row(*cells):
        rows.append(list(cells))

    row("Guidance learns problems on which every rollout fails; GRPO does not", "Guide [paper]", TOY,
        "pass@1 on hard letters: " + ", ".join(f"{n} {spread(hard[n])}" for n in ("GRPO", "Guide-GRPO", "Guide-PPO")),
        verdict(min(hard["Guide-GRPO"] + hard["Guide-PPO"]) > max(hard["GRPO"])))
    base, hinted = ([hints[label]["pass@k"][k][0] for k in ("1", "64")] for label in ("base", "base + hint"))
    row("Hints raise pass@k of the model that is not trained yet", "Guide [paper]", "`evaluate.py --hints`",
        f"pass@1 {base[0]:.2f} → {hinted[0]:.2f}, pass@64 {base[1]:.2f} → {hinted[1]:.2f} (the toy's hints say it all)",
        verdict(hinted[0] > base[0] and hinted[1] > base[1]))
    distilled, gained = changed("GRPO slow", "self-distillation"), changed("GRPO slow", "capability gain")
    row("Most of what RLVR gains is self-distillation, some is capability gain", "Guide [paper]", TOY,
        f"GRPO at rate 1e-4, k = 16: {spread(distilled, 0)} and {spread(gained, 0)} of 144 problems",
        verdict(all(d > g > 0 for d, g in zip(distilled, gained))))
    guided, fast = changed("Guide-GRPO", "capability gain"), changed("GRPO", "capability gain")
    row("Guidance shifts gains towards capability", "Guide, our reading", TOY,
        f"capability gain {spread(gained, 0)} with GRPO (at 2e-4 {spread(fast, 0)}), {spread(guided, 0)} with Guide",
        verdict(min(guided) > max(gained + fast)))

    last = {name: [toy.final("eval/pass@1/hard", rows) for rows in load(name)]
            for name in ["Guide-GRPO", *toy.ABLATIONS] if load(name)}
    for name, what, source in [
        ("no ratio", "the importance ratio to the prompt without the hint", "Guide [2nd]"),
        ("no clip", "the clip of guided tokens", "ours; Guide's code has none"),
    ]:
        if name in last:
            row(f"Guidance needs {what}", source, f"`results/toy.py run \"{name}\"`",
                f"hard letters at the last step {spread(last['Guide-GRPO'])} with, {spread(last[name])} without",
                verdict(max(last[name]) < min(last["Guide-GRPO"])))
    for name, what in [("reshaped", "Reshaping the ratio, r/(r + γ),"),
                       ("released", "Replacing the failed group, reshaping, and no clip, as released,")]:
        if name in last:
            row(f"{what} helps", "Guide [code]", f"`results/toy.py run {name}`",
                f"hard letters at the last step {spread(last['Guide-GRPO'])} without, {spread(last[name])} with",
                verdict(min(last[name]) > max(last["Guide-GRPO"])))

    for ours, full in (("GRPO-N", "GRPO slow"), ("GSPO-N", "GSPO")):
        entropy = {name: [m["entropy"] for m in models[name]] for name in (ours, full)}
        widest = {name: [pass_at(64, "", m) for m in models[name]] for name in (ours, full)}
        label = full.removesuffix(" slow")
        row(f"{ours} keeps more entropy than {label}", "two-stage [paper]", TOY,
            f"after training {spread(entropy[ours], 3)} against {spread(entropy[full], 3)} nats, both at rate 1e-4",
            verdict(min(entropy[ours]) > max(entropy[full])))
        row(f"{ours} keeps more pass@k than {label}", "two-stage [paper]", TOY,
            f"pass@64, all letters: {spread(widest[ours])} against {spread(widest[full])}; before training "
            f"{pass_at(64, '', toy.before()):.2f}", verdict(min(widest[ours]) > max(widest[full])))

    two = "`theory/two_stage.py`"
    stages = [theory("two_stage.md", f"T1, GRPO, {stage}") for stage in ("exploitation", "exploration")]
    row("Two stages: first the likely good action, while the best one loses; then that one", "two-stage [paper]", two,
        f"three actions: medians of the two masses {stages[0][0]}; later {stages[1][0]}",
        verdict(all(holds for _, holds in stages)))
    # the rows of T2 say below at the smaller η, above at the larger
    small, large = (theory("two_stage.md", f"T2, η = {eta}, found") for eta in (1, 4))
    never, _ = theory("two_stage.md", "T1, GRPO-N never")
    row("Only negative gradients find the best action more often", "two-stage [paper]", two,
        f"T2, −N minus GRPO: {small[0]} at η = 1, {large[0]} at η = 4; T1 (graded rewards), −N: {never}",
        "only when rewards are right or wrong and steps are large" if small[1] and large[1] else "does not")
    small, large = (theory("two_stage.md", f"T2, η = {eta}, entropy") for eta in (4, 16))
    row("Only negative gradients keep entropy", "two-stage [paper]", two,
        f"T2 at t = 50, −N minus GRPO: {small[0]} at η = 4, {large[0]} at η = 16",
        "only when steps are very large" if small[1] and large[1] else "does not")

    bandit = "`theory/gradient_gap.py bandit`"
    value, holds = theory("gradient_gap_bandit.md", "valley: sharp threshold at C = 2/κ, exact gap")
    row("A sharp threshold of the step size divides convergence from collapse", "Gradient Gap [paper]", bandit,
        f"critical C {value}, expected 2; the toy's language model: every rate after the last that learns ends near 0",
        verdict(holds))
    value, holds = theory("gradient_gap_bandit.md", "tokens: critical step, C gap")
    per_token, also = theory("gradient_gap_bandit.md", "tokens: critical step, C gap/T")
    row("The critical step shrinks with the length; dividing by the length repairs it", "Gradient Gap [paper]", bandit,
        f"{value} as it is; {per_token} divided", verdict(holds and also))
    row("The same in a language model, SGD", "Gradient Gap [paper]", "`results/lr_sweep.py run`",
        f"25, 46, 88 tokens: {', '.join(critical('constant'))} as it is; {', '.join(critical('sequence'))} divided by "
        "the length (one seed)", verdict(len(set(critical("sequence"))) == 1 < len(set(critical("constant"))),
                                         "only when"))
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
