"""Two-stage learning in a three-action softmax: exploitation, then perhaps exploration (Yao et al., arXiv 2510.04028).

A policy π = softmax(z) over actions a1 (likely, good), a2 (rare, best), a3 (likely, worthless) is trained on groups
of G = 8 sampled actions, on-policy, without clipping or length:

    z ← z + η/G Σ_i A_i (e_{y_i} − π),        Â_i = (r_i − mean(r)) / (std(r) + 1e-6)   over the whole group

    GRPO           A_i = Â_i                  GRPO-N   A_i = min(Â_i, 0)              positive-only   A_i = max(Â_i, 0)
    W-REINFORCE    A_i = λ if r_i = 1, −1 if r_i = 0, λ = 0.1, no baseline and no std   (Zhu et al., arXiv 2506.01347)

    T1   rewards (.8, 1, 0), certain                     π0 = (.5, .01, .49)    η = .5         3000 steps
    T2   reward 1 with probability (.8, 1, 0), else 0    π0 = (.5, .02, .48)    η = 1 … 16     1000 steps

"Found" means π(a2) > .5 at that step; asking for .9 lowers no share by more than .03. W-REINFORCE has no definition
for T1's reward of .8, so T1 leaves it out.

What is whose. [paper] 2510.04028: found tokens gain mass first and the rare optimal one hardly moves; later it takes
over; using only the relative negative gradients keeps exploring. [2nd] From summaries of that paper: the toy's three
actions with rewards .8, 1, 0, and Theorem 1, with Â(v) read as E[Â_i | y_i = v]:

    E[Δz_v] = η π(v) [ (1 − π(v)) Â(v) − Σ_{u≠v} π(u) Â(u) ]

[ours] All other choices and numbers; that the normaliser of GRPO-N stays 1/G; T2; and, for binary rewards,

    lemma     E[∇GRPO-N] = p E[∇GRPO],   E[∇positive-only] = (1 − p) E[∇GRPO],   p = P(r = 1), any G.  With k right,
              E[Σ_i A_i ∇log π(y_i)] is c_k k(1 − k/G) (g⁺ − g⁻), of which −N keeps the part with g⁻; as
              p g⁺ + (1 − p) g⁻ = E[∇log π] = 0, that part is p of the whole.        g± = E[∇log π | right, wrong]
    likewise  E[∇W-REINFORCE] = (1 + λ) ∇E[r]
    unseen    a token u that the group lacks has Δz_u = −(η/G) π(u) Σ_i A_i: 0 under GRPO, and with k right of G
              +η π(u) √(k(G − k))/G under GRPO-N, as much downwards under positive-only

The lemma's reading: whatever GRPO-N gains on T2 comes from noise and finite steps, because in expectation it goes in
GRPO's direction, only more slowly.

    python theory/two_stage.py        # results/theory/two_stage{.md,.png,_lemma.png}; exits with 1 if a claim fails
"""

import sys
from collections import namedtuple
from functools import cache
from itertools import combinations_with_replacement
from math import factorial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

FOLDER = Path(__file__).parent.parent / "results/theory"
G, LAMBDA, FOUND = 8, 0.1, 0.5
ETAS = (1, 2, 4, 6, 16)  # of T2
NAMES = ("GRPO", "GRPO-N", "positive-only", "W-REINFORCE")

# An outcome is an action with a reward; `chance` [outcomes] is P(reward | action). Groups are counts of outcomes.
Toy = namedtuple("Toy", "pi0 action reward chance")
T1 = Toy(np.array([0.5, 0.01, 0.49]), np.array([0, 1, 2]), np.array([0.8, 1.0, 0.0]), np.ones(3))
T2 = Toy(np.array([0.5, 0.02, 0.48]), np.array([0, 0, 1, 2]), np.array([1.0, 0, 1, 0]), np.array([0.8, 0.2, 1, 1]))


def two_right(p):
    """Four actions, two right and two wrong, with success probability p."""
    pi0 = np.array([0.7 * p, 0.3 * p, 0.6 * (1 - p), 0.4 * (1 - p)])
    return Toy(pi0, np.arange(4), np.array([1.0, 1, 0, 0]), np.ones(4))


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def advantages(counts, toy, name):
    """A of each outcome [..., outcomes] in groups with these counts [..., outcomes]; see the module's docstring."""
    if name == "W-REINFORCE":
        return np.broadcast_to(np.where(toy.reward == 1, LAMBDA, -1.0), counts.shape)
    size = counts.sum(-1, keepdims=True)
    centred = toy.reward - counts @ toy.reward[:, None] / size
    a = centred / (np.sqrt((counts * centred**2).sum(-1, keepdims=True) / size) + 1e-6)
    return {"GRPO": a, "GRPO-N": np.minimum(a, 0), "positive-only": np.maximum(a, 0)}[name]


def update(counts, pi, toy, name):
    """Δz/η = (1/G) Σ_i A_i (e_{y_i} − π), [..., actions], for groups given as counts [..., outcomes]."""
    weights = counts * advantages(counts, toy, name) / counts.sum(-1, keepdims=True)
    return weights @ np.eye(len(toy.pi0))[toy.action] - weights.sum(-1, keepdims=True) * pi


def sample(rng, pi, toy):
    """Counts [seeds, outcomes] of one group of G for each policy pi [seeds, actions]."""
    q = pi[:, toy.action] * toy.chance
    return rng.multinomial(G, q / q.sum(-1, keepdims=True))


def simulate(toy, name, eta, steps, seeds, seed=0):
    """π before each step and after the last, [steps + 1, seeds, actions]."""
    rng, z = np.random.default_rng(seed), np.log(np.tile(toy.pi0, (seeds, 1)))
    history = np.empty((steps + 1, *z.shape))
    for t in range(steps + 1):
        history[t] = pi = softmax(z)
        z = z + eta * update(sample(rng, pi, toy), pi, toy, name)
    return history


# ----------------------------------------------------------------------------------------------- exact expectations


@cache
def groups(size, outcomes):
    """Every multiset of `size` outcomes as counts [groups, outcomes], and its number of orders [groups]."""
    multisets = combinations_with_replacement(range(outcomes), size)
    counts = np.array([np.bincount(m, minlength=outcomes) for m in multisets])
    return counts, np.array([factorial(size) / np.prod([factorial(n) for n in row]) for row in counts])


def enumerate_groups(pi, toy, size):
    """The same counts, and the probability of each under the policy pi [actions]."""
    counts, orders = groups(size, len(toy.action))
    return counts, orders * np.prod((pi[toy.action] * toy.chance) ** counts, axis=1)


def expected_update(pi, toy, name, size=G):
    """E[Δz]/η [actions]."""
    counts, probability = enumerate_groups(pi, toy, size)
    return probability @ update(counts, pi, toy, name)


def theorem_1(pi, toy, size=G):
    """E[Δz_v]/(η π(v)) [actions] by Theorem 1 [2nd], with Â(v) = E[Â_i | y_i = v] over the other size − 1 members."""
    counts, probability = enumerate_groups(pi, toy, size - 1)
    a = np.zeros(len(pi))
    for k, one in enumerate(np.eye(len(toy.action))):
        a[toy.action[k]] += toy.chance[k] * probability @ advantages(counts + one, toy, "GRPO")[:, k]
    return (1 - pi) * a - (pi @ a - pi * a)


def mean_field(toy, name, eta, steps):
    """π [steps + 1, actions] when every step is its expectation."""
    z, path = np.log(toy.pi0), [toy.pi0]
    for _ in range(steps):
        z = z + eta * expected_update(path[-1], toy, name)
        path.append(softmax(z))
    return np.array(path)


def lemma(toy, size):
    """At π0: the multiples of E[∇GRPO] nearest to E[∇GRPO-N] and to E[∇positive-only], and the largest deviation of
    these from p and 1 − p times it, and of E[∇W-REINFORCE] from (1 + λ)∇E[r], by enumeration."""
    reward = np.bincount(toy.action, toy.chance * toy.reward)  # mean reward of each action
    p = toy.pi0 @ reward
    full, negative, positive, weighted = (expected_update(toy.pi0, toy, name, size) for name in NAMES)
    errors = negative - p * full, positive - (1 - p) * full, weighted - (1 + LAMBDA) * toy.pi0 * (reward - p)
    return negative @ full / (full @ full), positive @ full / (full @ full), [abs(e).max() for e in errors]


def unseen(k, name):
    """Δz_u/(η π(u)) of an action u that is not in a group with k right of G."""
    toy = two_right(0.5)
    return update(np.array([k, 0, G - k, 0]), toy.pi0, toy, name)[3] / toy.pi0[3]


# ----------------------------------------------------------------------------------------- measurements and verdicts


def summary(history):
    """Over seeds: quartiles of π [3, steps + 1, actions]; share found and mean entropy (nats) with standard errors."""
    entropy = -(history * np.log(np.maximum(history, 1e-300))).sum(-1)
    found, root = (history[..., 1] > FOUND).mean(1), np.sqrt(history.shape[1])
    return dict(
        quartiles=np.quantile(history, [0.25, 0.5, 0.75], axis=1), found=found, entropy=entropy.mean(1),
        found_se=np.sqrt(found * (1 - found)) / root, entropy_se=entropy.std(1) / root,
    )


def sampled_theorem_1(path, groups_each=200_000):
    """Mean and standard error of Δz_v/(η π(v)), [points, actions] each, over sampled GRPO groups of T1 at π in path."""
    rng, delta = np.random.default_rng(1), []
    for pi in path:
        samples = update(sample(rng, np.tile(pi, (groups_each, 1)), T1), pi, T1, "GRPO") / pi
        delta.append((samples.mean(0), samples.std(0) / np.sqrt(groups_each)))
    return np.moveaxis(np.array(delta), 1, 0)


def show(s, key, t):
    return f"{s[key][t]:.3f} ± {s[key + '_se'][t]:.3f}"


def verdicts(one, two, path, means, errors):
    """Rows (claim, whose, expected, measured ± standard error, holds)."""
    exact = max(abs(expected_update(pi, T1, "GRPO") - pi * theorem_1(pi, T1)).max() for pi in path)
    z = abs((means - [theorem_1(pi, T1) for pi in path]) / errors).max()
    rows = [("Theorem 1, every group enumerated", "2nd-hand", "deviation < 1e-12", f"{exact:.0e}", exact < 1e-12),
            (f"Theorem 1, {means.size} means over 200,000 sampled groups", "2nd-hand", "within 4 standard errors",
             f"furthest {z:.1f}", z < 4)]
    toys = [T2, *(two_right(p) for p in np.linspace(0.1, 0.9, 9))]
    worst = np.max([lemma(toy, size)[2] for toy in toys for size in (2, 3, 4, 8)], axis=0)
    claims = "E[∇GRPO-N] = p E[∇GRPO]", "E[∇positive-only] = (1 − p) E[∇GRPO]", "E[∇W-REINFORCE] = (1 + λ) ∇E[r]"
    rows += [(f"{claim}; T2 and p = .1 … .9, G = 2, 3, 4, 8, every group", "ours", "deviation < 1e-12", f"{e:.0e}",
              e < 1e-12) for claim, e in zip(claims, worst)]
    worst = max(abs(unseen(k, name) - sign * np.sqrt(k * (G - k)) / G)
                for k in range(G + 1) for name, sign in zip(NAMES, (0, 1, -1)))
    rows.append(("an action the group lacks: logit + 0 under GRPO, + η π √(k(G − k))/G under GRPO-N, − that under "
                 "positive-only", "ours", "deviation < 1e-5 (1e-6 is in Â)", f"{worst:.0e}", worst < 1e-5))

    grpo, middle = one["GRPO"], one["GRPO"]["quartiles"][1]
    rows += [
        ("T1, GRPO, exploitation: at t = 50 a1 has the mass, and a2 less than at the start", "paper; set-up ours",
         "median π(a1) > .9, π(a2) < .005", f"{middle[50, 0]:.3f}, {middle[50, 1]:.4f}",
         middle[50, 0] > 0.9 and middle[50, 1] < 0.005),
        ("T1, GRPO, exploration: a2 takes over later", "paper; set-up ours",
         "median π(a2) > .99 at t = 1000; found > .95 at 3000",
         f"{middle[1000, 1]:.4f}; {show(grpo, 'found', 1000)} at 1000, {show(grpo, 'found', 3000)} at 3000",
         middle[1000, 1] > 0.99 and grpo["found"][3000] > 0.95),
        ("T1, GRPO-N never finds a2: it discards the positive push that a2 needs", "ours",
         "none at t = 3000", f"{one['GRPO-N']['found'][3000]:.0%} of 1000 seeds", one["GRPO-N"]["found"][3000] == 0),
    ]
    for key, t, eta, sign in (("found", 1000, 1, -1), ("found", 1000, 4, 1), ("found", 1000, 16, 1),
                              ("entropy", 50, 1, 1), ("entropy", 50, 4, -1), ("entropy", 50, 16, 1)):
        a, b = two["GRPO-N", eta], two["GRPO", eta]
        difference, error = a[key][t] - b[key][t], np.hypot(a[key + "_se"][t], b[key + "_se"][t])
        rows.append((f"T2, η = {eta}, {key} at t = {t}: GRPO-N {'above' if sign > 0 else 'below'} GRPO", "ours",
                     f"difference {'> +' if sign > 0 else '< −'}3 standard errors",
                     f"{show(a, key, t)} − {show(b, key, t)} = {difference:.3f} ± {error:.3f}".replace("-", "−"),
                     sign * difference > 3 * error))
    (a, a_se, a_eta), (b, b_se, b_eta) = (
        max((two[name, eta]["found"][1000], two[name, eta]["found_se"][1000], eta) for eta in ETAS)
        for name in ("GRPO-N", "GRPO"))
    rows.append(("T2, found at t = 1000, each at its best η: GRPO-N above GRPO", "ours",
                 "difference > +3 standard errors",
                 f"{a:.3f} (η = {a_eta}) − {b:.3f} (η = {b_eta}) = {a - b:.3f} ± {np.hypot(a_se, b_se):.3f}",
                 a - b > 3 * np.hypot(a_se, b_se)))
    return rows


def report(rows, one, two):
    lines = ["| claim | whose | expected | measured ± standard error | holds |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {' | '.join(row[:4])} | {'yes' if row[4] else '**NO**'} |" for row in rows]
    lines += ["", "| measured (ours) | " + " | ".join(NAMES) + " |", "| --- |" + " --- |" * len(NAMES)]
    cases = [("T1, η = 0.5", one, "found", t) for t in (1000, 3000)]
    cases += [(f"T2, η = {eta}", {name: two[name, eta] for name in NAMES}, key, t)
              for key, t in (("found", 1000), ("entropy", 50)) for eta in ETAS]
    for label, runs, key, t in cases:
        cells = [show(runs[name], key, t) if name in runs else "undefined" for name in NAMES]
        lines.append(f"| {label}: {key} at t = {t} | {' | '.join(cells)} |")
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------------------- figures


def dress(axis, title, ylabel, xlabel="step + 1", log="x", columns=1, **settings):
    axis.set_title(title, fontsize=11)
    axis.set(xlabel=xlabel, ylabel=ylabel, **{f"{x}scale": "log" for x in log}, **settings)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, ncols=columns)


def draw_toys(one, two, field):
    figure, axes = plt.subplots(2, 3, figsize=(15, 8.6), layout="constrained")
    t = np.arange(len(field)) + 1  # a logarithmic axis has no place for step 0
    for axis, runs in zip(axes[:, 0], (one, {name: two[name, 4] for name in NAMES})):
        for name, style in (("GRPO", "-"), ("GRPO-N", "--")):
            for v in range(3):
                low, middle, high = runs[name]["quartiles"][..., v]
                axis.plot(t[: len(middle)], middle, style, color=f"C{v}", label=f"{name}: a{v + 1}")
                if name == "GRPO":
                    axis.fill_between(t[: len(middle)], low, high, color=f"C{v}", alpha=0.12, lw=0)
    axes[0, 0].plot(t, field, "k:", lw=1, label=["GRPO: mean field (theory)", None, None])
    for color, name in enumerate(NAMES, 3):
        style, runs = dict(color=f"C{color}", label=name), [two[name, eta] for eta in ETAS]
        rates, errors = ([s[key][-1] for s in runs] for key in ("found", "found_se"))
        axes[1, 1].errorbar(ETAS, rates, errors, fmt="o-", ms=4, **style)
        axes[1, 2].plot(t[:1001], two[name, 16]["entropy"], **style)
        if name in one:
            axes[0, 1].plot(t, one[name]["found"], **style)
            axes[0, 2].plot(t, one[name]["entropy"], **style)
    mass, entropy = "π(a): median of seeds; band: GRPO's quartiles", "entropy of π, mean over seeds (nats)"
    dress(axes[0, 0], "T1: a1 gains and a2 loses, then a2 takes over;\nunder GRPO-N it never does", mass, log="xy",
          columns=2, ylim=(1e-5, 1.6))
    dress(axes[0, 1], "T1, three rewards: GRPO and positive-only\nfind the best action, GRPO-N never",
          f"share of 1000 seeds with π(a2) > {FOUND}")
    dress(axes[0, 2], "T1: GRPO-N's entropy only falls;\nthe takeover by a2 raises the others'", entropy, log="xy")
    dress(axes[1, 0], "T2, η = 4: where a1 sometimes fails,\nGRPO-N lifts a2 too", mass, log="xy", columns=2,
          ylim=(1e-5, 1.6))
    dress(axes[1, 1], "T2, right or wrong: GRPO-N wins from η = 2,\nW-REINFORCE from η = 4 (± 1 standard error)",
          f"share of 2000 seeds, π(a2) > {FOUND} at step 1000", "step size η", "", 2, ylim=(0, 1.25))
    dress(axes[1, 2], "T2, η = 16: GRPO-N has more entropy than GRPO\nearly on", entropy, log="xy")
    figure.suptitle("Only negative gradients: where they fail (T1: rewards .8, 1, 0) and where they win (T2: success "
                    "rates .8, 1, 0). Toys and numbers of this project, after arXiv 2510.04028")
    figure.savefig(FOLDER / "two_stage.png", dpi=110)


def draw_lemma(path, points, means, errors):
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.8), layout="constrained")
    p, k = np.linspace(0.05, 0.95, 19), np.arange(G + 1)
    for size, marker in ((2, "o"), (4, "x"), (8, "+")):
        negative, positive, _ = zip(*(lemma(two_right(q), size) for q in p))
        left.plot(p, negative, marker, mfc="none", color="C4", label=f"GRPO-N, G = {size}")
        left.plot(p, positive, marker, mfc="none", color="C5", label=f"positive-only, G = {size}")
    left.plot(p, np.stack([p, 1 - p], 1), "k-", lw=0.8, label=["theory: p and 1 − p", None])
    for color, (name, sign) in enumerate(zip(NAMES, (0, 1, -1)), 3):
        middle.plot(k, [unseen(i, name) for i in k], "o", color=f"C{color}", label=name)
        middle.plot(k, sign * np.sqrt(k * (G - k)) / G, "k-", lw=0.8, label="0, ± √(k(G − k))/G" if sign == 0 else None)
    theory = np.array([theorem_1(pi, T1) for pi in path])
    for v in range(3):
        right.plot(np.arange(len(path)) + 1, theory[:, v], color=f"C{v}", label=f"a{v + 1}: Theorem 1")
        right.errorbar(points + 1, means[:, v], errors[:, v], fmt="o", ms=4, color=f"C{v}",
                       label=f"a{v + 1}: sampled, ± standard error")
    dress(left, "Lemma: in expectation GRPO-N is p times GRPO\n(every group enumerated)",
          "E[∇ of the variant] / E[∇GRPO]", "success probability p", "", 2, ylim=(0, 1.5))
    dress(middle, "An action the group lacks: only negative\ngradients raise its logit",
          "Δz / (η π) of the absent action", "right answers k of G = 8", "", ylim=(-0.6, 1))
    dress(right, "Theorem 1 on T1: while a1 saturates, its push\nvanishes and a2's, per probability, grows",
          "E[Δz(a)] / (η π(a))", "step + 1 of the mean field", columns=2, ylim=(-3, 5.5))
    figure.suptitle("Expected updates. Lemma and absent actions: ours; Theorem 1: second-hand from arXiv 2510.04028")
    figure.savefig(FOLDER / "two_stage_lemma.png", dpi=110)


def main():
    one = {name: summary(simulate(T1, name, 0.5, 3000, seeds=1000)) for name in NAMES[:3]}
    two = {(name, eta): summary(simulate(T2, name, eta, 1000, seeds=2000)) for eta in ETAS for name in NAMES}
    field, points = mean_field(T1, "GRPO", 0.5, 3000), np.array([0, 2, 5, 10, 20, 50, 100, 200, 300, 340, 400])
    sampled = sampled_theorem_1(field[points])
    rows = verdicts(one, two, field[points], *sampled)
    FOLDER.mkdir(parents=True, exist_ok=True)
    draw_toys(one, two, field)
    draw_lemma(field[:501], points, *sampled)
    print(text := report(rows, one, two))
    (FOLDER / "two_stage.md").write_text(
        "# Two-stage learning in a three-action softmax\n\n`python theory/two_stage.py`: T1 1000 seeds, T2 2000 seeds, "
        "generator seed 0 for each, G = 8.\nFound: π(a2) > .5. Entropy: nats, mean over seeds. Figures: "
        f"two_stage.png, two_stage_lemma.png.\n\n{text}\n")
    sys.exit(not all(row[4] for row in rows))


if __name__ == "__main__":
    main()
