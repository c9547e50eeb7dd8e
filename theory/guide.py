"""What a hint buys, and what the importance ratio leaves of it (after Nath et al., arXiv 2506.13923).

An answer is L decisions, each of V = 4 options by a softmax of its own logits z; option 0 is right, with probability
q, and the answer is right if all L decisions are: q^L. A hint adds b to the logit of every right option, so that the
sampler is right with q_h where the policy is right with q. G = 8 answers form a group. Where all fail, G guided ones
join it, as in guide_grpo.py:

    z ← z + η/N Σ_i A_i w_it (e_{y_it} − π_t),    A_i = (r_i − mean(r)) / (std(r) + 1e-6) over the joint group of N

    GRPO              never a hint
    token ratio       w_it = π(y_it) / μ(y_it) for a guided y_i drawn from μ, else 1         guide_grpo.py's ratio
    token, clipped    the same, but no gradient where guide_grpo.py's clip stops it          guide_grpo.py
    sequence ratio    w_it = Π_s π(y_is) / μ(y_is)                                           exact
    weight 1          w_it = 1                                                               --no-guided-ratio

What is whose. [paper] Hints where all fail, the ratio to the hint-free prompt, and that guidance makes learning more
efficient; its theorem we do not have. [ours] The rest. The expected push that one sampled answer, weighted with r,
gives the logit of one right option is

    on-policy         q^(L−1)   q (1 − q)       waits for all other decisions to be right by luck
    token ratio       q_h^(L−1) q (1 − q)       corrects the law of this token only: an approximation, and the point
    sequence ratio    q^(L−1)   q (1 − q)       the exact correction takes back all that the hint gave
    weight 1          q_h^(L−1) q_h (1 − q)     biased: a rare token is pushed as if it were not

so that many decisions are learnt with the token ratio, in a time that hardly depends on L, while a single rare one
(L = 1, where token and sequence ratio are the same) is not learnt sooner than without a hint.

    python theory/guide.py        # results/theory/guide{.md,.png}; exits with 1 if a claim fails
"""

import sys
from itertools import product
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

FOLDER = Path(__file__).parent.parent / "results/theory"
V, G, Q, Q_HINT, ETA, CLIP, STEPS, SEEDS = 4, 8, 1 / 3, 0.97, 1.0, 0.2, 3000, 100
NAMES = ("GRPO", "token ratio", "token, clipped", "sequence ratio", "weight 1")
LENGTHS, RARE = (1, 2, 3, 4, 5, 6, 8), (0.3, 0.1, 0.03, 0.01, 0.003)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def start(q):
    """Logits [V] of a decision that is right with probability q."""
    return np.log([q] + [(1 - q) / (V - 1)] * (V - 1))


def bias(q, q_hint):
    """b: what the hint adds to the right option's logit, to lift q to q_hint."""
    return np.log(q_hint / (1 - q_hint)) - np.log(q / (1 - q))


def weights(ratio, advantage, name):
    """w_it of guided tokens [..., L] from their ratios [..., L] and advantages [..., 1]."""
    if name == "sequence ratio":
        return np.broadcast_to(ratio.prod(-1, keepdims=True), ratio.shape)
    if name == "weight 1":
        return np.ones_like(ratio)
    stopped = (ratio > 1 + CLIP) | ((ratio < 1 - CLIP) & (advantage < 0))
    return np.where(stopped, 0.0, ratio) if name == "token, clipped" else ratio


# ------------------------------------------------------------------------------------------------ exact expectations
def push(q, q_hint, length, name):
    """E[r w (1{y = 0} − q)] of the first decision's right option, over all V^L answers."""
    pi = softmax(start(q))
    mu = pi if name == "GRPO" else softmax(start(q) + bias(q, q_hint) * np.eye(V)[0])
    total = 0.0
    for y in product(range(V), repeat=length):
        right = float(not any(y))
        ratio = pi[list(y)] / mu[list(y)]
        w = 1.0 if name == "GRPO" else weights(ratio, np.array([right]), name)[0]
        total += mu[list(y)].prod() * right * w * ((y[0] == 0) - q)
    return total


def predicted(q, q_hint, length, name):
    others = q if name in ("GRPO", "sequence ratio") else q_hint
    return others ** (length - 1) * (q_hint if name == "weight 1" else q) * (1 - q)


# -------------------------------------------------------------------------------------------------------- simulation
def draw(rng, pi):
    """G answers [seeds, G, L] of policies pi [seeds, L, V]."""
    u = rng.random((len(pi), G, pi.shape[1], 1))
    return (u > pi.cumsum(-1)[:, None, :, :-1]).sum(-1)


def advantages(rewards):
    """As in grpo.py, for each row of rewards [seeds, N]."""
    centred = rewards - rewards.mean(-1, keepdims=True)
    return centred / (rewards.std(-1, keepdims=True) + 1e-6)


def gradient(y, a, w, pi):
    """1/N Σ_i A_i w_it (e_{y_it} − π_t) [seeds, L, V] of answers y [seeds, N, L]."""
    return np.einsum("sn,snl,snlv->slv", a, w, np.eye(V)[y] - pi[:, None]) / y.shape[1]


def steps_to_learn(length, q, name, seeds=SEEDS, steps=STEPS, seed=0):
    """The first step before which π(all right) > 1/2, for each seed; infinite if none of `steps` is."""
    rng, hint = np.random.default_rng(seed), bias(q, Q_HINT) * np.eye(V)[0]
    z, found, alive = np.tile(start(q), (seeds, length, 1)), np.full(seeds, np.inf), np.arange(seeds)
    for step in range(steps):
        pi = softmax(z)
        done = pi[:, :, 0].prod(-1) > 0.5
        found[alive[done]] = step
        z, pi, alive = z[~done], pi[~done], alive[~done]
        if not len(alive):
            break
        y = draw(rng, pi)
        right = (y == 0).all(-1).astype(float)
        failed = ~right.any(-1)
        change = gradient(y, advantages(right), np.ones(y.shape), pi)
        if name != "GRPO" and failed.any():
            plain, mu = pi[failed], softmax(z[failed] + hint)
            guided = draw(rng, mu)
            both = np.concatenate([y[failed], guided], 1)
            a = advantages((both == 0).all(-1).astype(float))
            pick = lambda p: np.take_along_axis(p[:, None], guided[..., None], -1)[..., 0]
            w = weights(pick(plain) / pick(mu), a[:, G:, None], name)
            change[failed] = gradient(both, a, np.concatenate([np.ones(w.shape), w], 1), plain)
        z = z + ETA * change
    return found


def median(found):
    """The median over seeds, and a 95% interval of it from the order statistics."""
    ordered, n = np.sort(found), len(found)
    reach = 0.98 * np.sqrt(n)
    return ordered[n // 2], ordered[int(n / 2 - reach)], ordered[min(n - 1, int(np.ceil(n / 2 + reach)))]


# ------------------------------------------------------------------------------------------------------------ report
def show(found):
    share = np.isfinite(found).mean()
    text = "–" if share <= 0.5 else "{:.0f} [{:.0f}, {:.0f}]".format(*median(found))
    return text if share == 1 else f"{text} ({share:.2f})"


def verdicts(by_length, by_rarity):
    """Rows (claim, expected, measured, holds)."""
    grid = [(q, h, n, name) for q in (0.05, 1 / 3, 0.7) for h in (0.8, 0.97) for n in (1, 2, 4) for name in NAMES]
    off = max(abs(push(*case) - predicted(*case)) for case in grid)
    steps = {(n, name): median(by_length[n, name])[0] for n, name in by_length}
    rare = {(q, name): median(by_rarity[q, name]) for q, name in by_rarity}
    growth = [steps[n + 1, "GRPO"] / steps[n, "GRPO"] for n in (3, 4, 5)]
    late = [steps[8, name] / steps[4, name] for name in ("token ratio", "token, clipped")]
    lost = max(np.isfinite(by_length[n, "sequence ratio"]).mean() for n in (5, 6, 8))
    same = all((by_rarity[q, "token ratio"] == by_rarity[q, "sequence ratio"]).all() for q in RARE)
    gain = [rare[q, "GRPO"][0] / rare[q, name][0] for name in NAMES[1:3] for q in (0.01, 0.003)]
    biased = [rare[q, "GRPO"][0] / rare[q, "weight 1"][0] for q in (0.01, 0.003)]
    write = lambda values: ", ".join(f"{value:.2f}" for value in values)
    return [
        ("the four expected pushes, every answer enumerated, L = 1, 2, 4", "deviation < 1e-12", f"{off:.0e}",
         off < 1e-12),
        ("GRPO: each further decision multiplies the steps, L = 3 … 6", "each factor > 1.6", write(growth),
         min(growth) > 1.6),
        ("token ratio, without and with the clip: from L = 4 to 8 the steps grow about as L", "factors < 2.5",
         write(late), max(late) < 2.5),
        ("token ratio at L = 8: GRPO takes more steps", "more than 10 times",
         f"{steps[8, 'GRPO'] / steps[8, 'token ratio']:.0f} times", steps[8, "GRPO"] > 10 * steps[8, "token ratio"]),
        ("sequence ratio: most seeds never learn, L = 5, 6, 8", "share that learns < .25", f"at most {lost:.2f}",
         lost < 0.25),
        ("L = 1: token and sequence ratio are the same", "equal step by step", "equal" if same else "not equal", same),
        ("one rare decision, q = .01, .003: the ratio leaves hardly a gain, without and with the clip", "factors < 1.5",
         write(gain),
         max(gain) < 1.5),
        ("one rare decision, q = .01, .003: weight 1 gains", "factors > 3", write(biased), min(biased) > 3),
    ]


def table(header, rows):
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [header, ["---"] * len(header), *rows])


def draw_figure(by_length, by_rarity):
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    for axis, data, values in ((axes[0], by_length, LENGTHS), (axes[1], by_rarity, RARE)):
        for color, name in enumerate(NAMES):
            learnt = [x for x in values if np.isfinite(data[x, name]).mean() > 0.5]
            middle, low, high = np.array([median(data[x, name]) for x in learnt]).T
            where = learnt if axis is axes[0] else 1 / np.array(learnt)
            axis.plot(where, middle, "o-", color=f"C{color}", ms=4, label=name, alpha=0.8)
            axis.fill_between(where, low, np.minimum(high, STEPS), color=f"C{color}", alpha=0.15, lw=0)
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
    axes[0].set(title="Many decisions, each right with 1/3: GRPO pays for\nevery one of them, guidance hardly",
                xlabel="decisions L in an answer", ylabel="steps until π(right) > 1/2: median of 100 seeds")
    axes[1].set(title="One rare decision: with the ratio a hint gains nothing,\nwithout it it does",
                xlabel="rarity 1/q of the right option", xscale="log")
    last = (3, median(by_length[3, "sequence ratio"])[0])
    axes[0].annotate("sequence ratio: beyond this\nmost seeds never learn", last, (1, 60), color="C3", fontsize=8,
                     arrowprops=dict(arrowstyle="-", color="C3"))
    axes[0].legend(fontsize=8)
    figure.suptitle("A hint lifts every right option to .97. Toy and argument of this project, after arXiv 2506.13923")
    figure.savefig(FOLDER / "guide.png", dpi=110)


def main():
    by_length = {(n, name): steps_to_learn(n, Q, name) for n in LENGTHS for name in NAMES}
    by_rarity = {(q, name): steps_to_learn(1, q, name) for q in RARE for name in NAMES}
    rows = verdicts(by_length, by_rarity)
    claims = [(*row[:3], "yes" if row[3] else "NO") for row in rows]
    claims = table(("claim (ours)", "expected", "measured", "holds"), claims)
    lengths = table(("L", *NAMES), [(n, *(show(by_length[n, name]) for name in NAMES)) for n in LENGTHS])
    rarity = table(("q", *NAMES), [(q, *(show(by_rarity[q, name]) for name in NAMES)) for q in RARE])
    FOLDER.mkdir(parents=True, exist_ok=True)
    draw_figure(by_length, by_rarity)
    text = f"""# What a hint buys, and what the ratio leaves of it

`python theory/guide.py`: {SEEDS} seeds, generator seed 0 for each cell, G = {G}, q_h = {Q_HINT}, η = {ETA:.0f}.

{claims}

Steps until π(all right) > 1/2, median of seeds and its 95% interval; in parentheses the share that gets there within
{STEPS} steps, where it is not 1. L decisions, each right with probability 1/3:

{lengths}

One decision, right with probability q:

{rarity}
"""
    print(text)
    (FOLDER / "guide.md").write_text(text)
    sys.exit(not all(row[3] for row in rows))


if __name__ == "__main__":
    main()
