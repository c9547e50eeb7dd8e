"""The Gradient Gap and the step size of RL with verifiable rewards (Suk & Duan, arXiv 2510.08539), measured.

    python theory/gradient_gap.py bandit    # results/theory/gradient_gap_bandit.{md,png}; exits with 1 if a claim fails
    python theory/gradient_gap.py lm --model toy/model --dataset toy/train.jsonl    # gradient_gap_lm.{md,png}, a minute

For any policy π_θ let J = P(right), Φ = log J/(1 − J), gap = E[∇log π | right] − E[∇log π | wrong].
Then ∇J = J(1 − J) gap [2nd], so ∇Φ = gap [ours].

[paper] The gap points from wrong to right regions of response space. A sharp step size divides convergence from
collapse. It shrinks with the response's length and with the failure rate, hence length normalisation; with a fixed
step success can stagnate below 100%. [2nd] For steps of size η_k along unit directions w, with Δμ = gap · w:

    T1   η_k ≤ [Δμ_k]₊ / (2 (L_o + 8 G_o²))  ⇒  J_K ≥ J_0 / (J_0 + (1 − J_0) e^{−M/2}),   M = Σ_k [Δμ_k]₊ η_k,
         where ‖∇log π‖ ≤ G_o and ‖∇² log π‖ ≤ L_o for whole responses
    T2   too large a step makes J fall at every iteration, although it is aligned with the gap

[ours] The set-ups, their laws and numbers. A step is θ ← θ + C gap: η_k = C Δμ_k, and T1 wants C ≤ 1/(2(L_o + 8G_o²)).

    valley    Two arms, Φ = a x − κ y²/2, a = .5, κ = 1, start (0, 1). A step takes y to (1 − Cκ) y: J → 1 below
              C = 2/κ, J → 0 above it, and J only ever falls above (2/κ)(1 + a²/κ²). Scores are (r − J)∇Φ, so where
              |y| ≤ 1, G_o² = a² + κ² and L_o = κ + G_o²/4. Sampled: the mean score of the right minus that of the
              wrong of G = 8 responses, here the gap without error. A group without both makes no step, so sampled runs
              nearly stop once J is near 1, and a divergence that is slower than that does not show.
    tokens    T tokens, each 1 with probability σ(θ), right if their sum N is within 3√T/2 of T/2; J_0 = .2, θ_0 > 0,
              200 steps. For large T only √T θ matters: critical C ∝ 1/T; per token (C/T) ∝ 1; unit step ∝ 1/√T. The
              score is N − Tσ(θ): on [0, θ_0] G_o = Tσ(θ_0), L_o = T/4, so the C that T1 allows falls as 1/T².
    cosine    π(right) = cos²θ, θ_0 ~ U(.7, 1.2), 4000 steps. GRPO's ∇J/√(J(1 − J)) has norm 2 everywhere: θ ends up
              jumping across 0 by 2η, on average at 1 − J = (4/3)η². REINFORCE's ∇J, and GRPO with η√(1 − J), contract
              for η < 1.
    lm        A language model. With g = ∇log π(y|q) (trajectory level) or g/|y| (token level) and p the success rate
              of a problem, GRPO's on-policy update for it is exactly √(p(1 − p)) gap, with --loss-norm constant or
              sequence respectively (G is half of --samples). ‖gap‖² and the cosine's three products are products of
              two independent halves of the samples, which the noise of either does not bias; a root of one is biased.
              Memory: policy and engine on one device, and on the host 12 vectors as long as the chosen parameters,
              which --only limits for a large model.
    tabular   Softmax over actions: gap_v = π(v)/J if right, −π(v)/(1 − J) if wrong. Right logits rise, wrong ones
              fall, so J rises at any step size: a control without a threshold.
"""

import json
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

FOLDER = Path(__file__).parent.parent / "results/theory"
A, KAPPA = 0.5, 1.0
LENGTHS = 2 ** np.arange(6, 12)


def sigmoid(x):
    return 0.5 + 0.5 * np.tanh(x / 2)


def log_odds(z, right):
    """Φ of softmax(z), z [actions], right a mask."""
    lse = lambda z: (top := z.real.max()) + np.log(np.exp(z - top).sum())
    return lse(z[right]) - lse(z[~right])


def tabular_gap(z, right):
    """E[e_v − π | right] − E[e_v − π | wrong], [actions]."""
    softmax = lambda z: np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    scores = np.eye(len(z)) - softmax(z)
    return softmax(z[right]) @ scores[right] - softmax(z[~right]) @ scores[~right]


def random_policies(n, seed=0):
    rng = np.random.default_rng(seed)
    for size in rng.integers(2, 30, n):
        yield rng.normal(0, 2, size), rng.permutation(size) < rng.integers(1, size)


def identity_error(z, right, h=1e-30):
    """Largest |∂Φ/∂z_v − gap_v|. The derivative is Im Φ(z + ih e_v)/h, which subtracts nothing: exact to rounding."""
    return abs([log_odds(z + 1j * h * e, right).imag / h for e in np.eye(len(z))] - tabular_gap(z, right)).max()


def climb(z, right, eta, steps=100):
    """Φ [steps + 1] under z ← z + η gap."""
    phi = [log_odds(z, right)]
    for _ in range(steps):
        z = z + eta * tabular_gap(z, right)
        phi.append(log_odds(z, right))
    return np.array(phi)


def valley(C, steps=5000, rng=None, group=8):
    """Φ [steps + 1, *C.shape] of runs with step sizes C: exact, or with an rng from sampled groups."""
    x, y, phi = np.zeros_like(C), np.ones_like(C), np.empty((steps + 1, *C.shape))
    for k in range(steps + 1):
        phi[k], step = A * x - KAPPA * y**2 / 2, C
        if rng is not None:
            n_right = rng.binomial(group, sigmoid(phi[k]))
            step = np.where((n_right > 0) & (n_right < group), C, 0)
        x, y = x + step * A, np.clip((1 - step * KAPPA) * y, -1e150, 1e150)
    return phi


def threshold(runs=1, rng=None, rounds=32):
    """Bisected C [runs] between convergence (J > ½ after 5000 steps) and collapse."""
    low, high = np.full(runs, 1.0), np.full(runs, 4.0)
    for _ in range(rounds):
        C = (low + high) / 2
        converges = valley(C, rng=rng)[-1] > 0
        low, high = np.where(converges, C, low), np.where(converges, high, C)
    return C


def t1_step(G_o, L_o):
    """The largest C that T1 allows."""
    return 1 / (2 * (L_o + 8 * G_o**2))


def valley_t1(steps=1000):
    """The valley at T1's largest C: that C, J [steps + 1] as measured, and T1's lower bound on it."""
    G_o = np.hypot(A, KAPPA)
    C = t1_step(G_o, KAPPA + G_o**2 / 4)
    J = sigmoid(valley(np.array(C), steps))
    gap = np.hypot(A, KAPPA * (1 - C * KAPPA) ** np.arange(steps))
    M = np.concatenate([[0], np.cumsum(C * gap**2)])
    return C, J, J[0] / (J[0] + (1 - J[0]) * np.exp(-M / 2))


def tokens(T, points=3001):
    """θ [points], densest around 0 where J is high, Φ and the gap there, by exact binomial sums, and θ_0."""
    theta = np.sinh(np.linspace(-1, 1, points) * np.arcsinh(6 * np.sqrt(T))) / np.sqrt(T)
    N, log_factorial = np.arange(T + 1), np.concatenate([[0], np.cumsum(np.log(np.arange(1, T + 1)))])
    log_p = N * theta[:, None] - log_factorial - log_factorial[::-1]  # up to what does not depend on N
    sides = []
    for side in ((right := abs(N - T / 2) <= 1.5 * np.sqrt(T)), ~right):
        mass = np.logaddexp.reduce(log_p[:, side], axis=1)
        sides.append((mass, np.exp(log_p[:, side] - mass[:, None]) @ N[side]))
    phi, gap = np.subtract(*sides)
    return theta, phi, gap, np.interp(np.log(4), -phi[theta > 0], theta[theta > 0])


def critical_step(T, table, rule, phase=0.0, steps=200):
    """The first step size on a grid of ratio 1.04 with final J < .95, after the first with more; `phase` shifts the
    grid. A scan, because some larger steps work again by luck and would mislead a bisection."""
    theta, phi, gap, theta_0 = table
    size = 1e-4 * 1.04 ** (phase + np.arange(352))
    at = np.full(size.shape, theta_0)
    for _ in range(steps):
        g = np.interp(at, theta, gap)
        at = at + size * {"C gap": g, "C gap/T": g / T, "unit step": np.sign(g)}[rule]
    works = sigmoid(np.interp(at, theta, phi)) >= 0.95
    return size[(first := works.argmax()) + (~works[first:]).argmax()]


def floor(eta, rule, starts=400, steps=4000, seed=0):
    """1 − J [starts, *eta.shape] at the end, as the mean of the last two steps: θ alternates between two points."""
    theta, now = np.random.default_rng(seed).uniform(0.7, 1.2, (starts, 1)) + 0 * eta, 1.0
    for _ in range(steps):
        s, c, before = np.sin(theta), np.cos(theta), now
        unit = 2 * np.sign(s * c)
        theta = theta - eta * {"GRPO": unit, "REINFORCE": 2 * s * c, "GRPO with η√(1 − J)": unit * abs(s)}[rule]
        now = np.sin(theta) ** 2
    return (before + now) / 2


def dress(axis, title, xlabel, ylabel, log="", **settings):
    axis.set_title(title, fontsize=11)
    axis.set(xlabel=xlabel, ylabel=ylabel, **{f"{x}scale": "log" for x in log}, **settings)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


def finish(name, command, figure, rows, more=()):
    """Write the figure, write and print the verdicts (claim, whose, expected, measured ± standard error, holds)."""
    lines = ["| claim | whose | expected | measured ± standard error | holds |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {' | '.join(row[:4])} | {'yes' if row[4] else '**NO**'} |" for row in rows]
    print("\n".join(lines))
    lines = ["# The Gradient Gap, measured", "", f"`python theory/gradient_gap.py {command}`; {name}.png", "", *lines]
    lines += more
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.md").write_text("\n".join(lines) + "\n")
    figure.savefig(FOLDER / f"{name}.png", dpi=110)
    sys.exit(not all(row[4] for row in rows))


def bandit(seed: int = 0):
    """The valley, tokens, cosine and tabular set-ups: every claim checked, and drawn."""
    rng = np.random.default_rng(seed)
    figure, axes = plt.subplots(2, 3, figsize=(15, 8.6), layout="constrained")
    (runs, sweep, bound), (length, fixed, control) = axes

    worst = max(identity_error(z, right) for z, right in random_policies(200, seed))
    rows = [("∇Φ = gap, 200 random softmax policies", "ours", "deviation < 1e-14", f"{worst:.0e}", worst < 1e-14)]

    critical, exact, sampled = 2 / KAPPA, threshold()[0], threshold(100, rng, 12)
    falls = critical * (1 + A**2 / KAPPA**2)
    below, above = ((np.diff(valley(np.array(f * falls), 100)) < 0).all() for f in (0.99, 1.01))
    rows += [
        ("valley: sharp threshold at C = 2/κ, exact gap", "paper; value ours", f"{critical:.3f} ± .002, bisected",
         f"{exact:.4f}", abs(exact - critical) < 0.002),
        ("valley: sharp threshold at C = 2/κ, sampled groups", "paper; value ours", f"{critical:.1f} ± 5%, spread < 1%",
         f"{sampled.mean():.4f} ± {sampled.std() / 10:.4f}, spread of 100 runs {sampled.std():.4f}",
         abs(sampled.mean() / critical - 1) < 0.05 and sampled.std() < 0.01 * critical),
        (f"valley: above C = {falls} J falls at every step", "2nd-hand (T2); value ours", "at 1.01 × it; not at 0.99 ×",
         f"{'yes' if above else 'no'}; {'yes' if below else 'no'}", above and not below),
    ]
    for color, C in enumerate((1.0, 1.9, 2.1, 2.6)):
        runs.plot(sigmoid(valley(np.array(C), 60)), color=f"C{color}", label=f"C = {C}, exact")
        runs.plot(sigmoid(valley(np.array(C), 60, rng)), ":", color=f"C{color}", label=f"C = {C}, sampled")
    dress(runs, "Valley: below C = 2/κ = 2 success rises to 1,\nabove it collapses", "step", "J")

    C1, J, lower = valley_t1()
    rows.append((f"valley: T1's lower bound holds at the largest C it allows, {C1:.4f}", "2nd-hand; constants ours",
                 "J > bound", f"least J − bound {(J - lower)[1:].min():.4f}; threshold {exact / C1:.0f} × this C",
                 (J > lower)[1:].all() and C1 < exact))
    C = np.unique([*np.geomspace(0.03, 4, 30), *np.linspace(1.9, 2.15, 26)])
    ends = sigmoid(valley(np.tile(C, (40, 1)), rng=rng)[-1])
    sweep.plot(C, sigmoid(valley(C)[-1]), label="exact")
    sweep.errorbar(C, ends.mean(0), ends.std(0) / np.sqrt(40), fmt="o", ms=3, label="sampled, 40 runs ± standard error")
    sweep.axvline(critical, color="k", ls="--", lw=1, label="theory: 2/κ")
    sweep.axvline(C1, color="k", ls=":", label="T1 allows up to here")
    dress(sweep, f"Valley: the threshold is sharp\n(exact {exact:.3f}, sampled {sampled.mean():.3f})", "step size C",
          "J after 5000 steps", "x")
    bound.plot(J, label=f"measured at T1's largest C = {C1:.3f}")
    bound.plot(lower, "k--", label="T1's lower bound")
    dress(bound, f"Valley: T1 (2nd-hand) bounds J from below,\nwith steps {exact / C1:.0f} times below the threshold",
          "step", "J")

    tables, scale = {T: tokens(T) for T in LENGTHS}, LENGTHS / np.exp(np.log(LENGTHS).mean())
    allowed = np.array([t1_step(T * sigmoid(table[3]), T / 4) for T, table in tables.items()])
    for rule, power, marker in (("C gap", -1, "o"), ("C gap/T", 0, "s"), ("unit step", -0.5, "^")):
        steps = np.array([[critical_step(T, tables[T], rule, i / 16) for T in LENGTHS] for i in range(16)])
        slopes = np.polyfit(np.log(LENGTHS), np.log(steps).T, 1)[0]
        slope, error = slopes.mean(), slopes.std() / 4
        rows.append((f"tokens: critical step, {rule}", "paper (length matters); power ours", f"∝ T^{power} ± .05",
                     f"log-log slope {slope:.3f} ± {error:.3f} over 16 grids", abs(slope - power) < 0.05))
        lines = length.plot(LENGTHS, steps.T, marker, ms=4, mfc="none", color=f"C{len(rows) % 4}")
        lines[0].set_label(f"{rule}: slope {slope:.2f} (16 grids)")
        length.plot(LENGTHS, np.exp(np.log(steps).mean()) * scale**power, "k--", lw=1)
        if rule == "C gap":
            ratio = steps.mean(0) / allowed
    rows.append(("tokens: the C that T1 allows is below the critical one", "2nd-hand; constants ours", "at every T",
                 f"{ratio[0]:.0f} (T = 64) to {ratio[-1]:.0f} (T = 2048) times, median {np.median(ratio):.0f}",
                 ratio.min() > 1))
    length.plot(LENGTHS, allowed, "k:", label="T1 allows C gap up to here")
    length.plot([], "k--", lw=1, label="theory: slopes −1, 0, −½")
    dress(length, "Tokens: the critical step falls as 1/T;\nnormalised by length it does not",
          "response length T (tokens)", "critical step size", "xy", ylim=(1e-8, 1e6))

    eta = np.array([0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 0.95, 1.05])
    for rule, style in (("GRPO", "o-"), ("REINFORCE", "s-"), ("GRPO with η√(1 − J)", "x--")):
        failure = floor(eta, rule, seed=seed)
        mean, error = failure.mean(0), failure.std(0) / np.sqrt(len(failure))
        fixed.plot(eta, np.maximum(mean, 1e-9), style, label=rule)
        law = 4 / 3 * eta[:5] ** 2
        if rule == "GRPO":
            ratio = mean[:5] / law
            row = ("cosine: with a fixed step GRPO stagnates, 1 − J = (4/3)η²", "paper (stagnation); law ours",
                   "ratio 1 ± .05 at η = .0125 … .2", f"{', '.join(f'{r:.3f}' for r in ratio)}, each ± "
                   f"{(error[:5] / law).max():.3f}", (abs(ratio - 1) < 0.05).all())
        else:
            row = (f"cosine: {rule} does not stagnate for η < 1", "ours", "1 − J < 1e-12 to η = .95, > .01 at 1.05",
                   f"{mean[:-1].max():.0e}, {mean[-1]:.2f}", mean[:-1].max() < 1e-12 and mean[-1] > 0.01)
        rows.append(row)
    fixed.plot(eta[:5], law, "k--", lw=1, zorder=3, label="theory: (4/3) η²")
    dress(fixed, "Cosine: GRPO's fixed step leaves a floor;\na step that shrinks with failure leaves none",
          "step size η", "1 − J after 4000 steps (below 1e-9: at 1e-9)", "xy")

    policies, sizes = list(random_policies(30, seed)), 10.0 ** np.arange(-2, 5)
    least = min(np.diff(climb(z, right, size)).min() for z, right in policies for size in sizes)
    rows.append(("tabular: J rises at every step, η = .01, .1, … 10⁴", "ours", "ΔΦ > 0", f"≥ {least:.4f}", least > 0))
    for e in (0.1, 0.3, 1, 3, 100):
        control.plot(sigmoid(climb(np.log(np.arange(1.0, 11)), np.arange(10) == 0, e, 30)), label=f"η = {e:g}")
    dress(control, "Control, tabular softmax, 10 actions, 1 right:\nJ rises at any step size", "step", "J")

    figure.suptitle("Gradient Gap: step sizes that converge, collapse and stagnate. Set-ups and laws of this project, "
                    "after arXiv 2510.08539; T1 second-hand")
    finish("gradient_gap_bandit", f"bandit --seed {seed}", figure, rows)


def score(policy, rollouts, parameters, token_level):
    """Σ ∇log π(y|q) over rollouts, each divided by |y| at token level: one vector on the CPU."""
    import torch

    import grpo

    total = torch.zeros(sum(p.numel() for p in parameters))
    for batch in grpo.microbatches(rollouts, 8192) if rollouts else []:
        ids, mask, *_ = grpo.collate(batch)
        logprobs = policy(ids, mask)[0]
        loss = (logprobs / mask.sum(-1, keepdim=True) if token_level else logprobs).sum()
        total += torch.cat([g.flatten().cpu() for g in torch.autograd.grad(loss, parameters)])
    return total


def measure(policy, groups, parameters, token_level):
    """The gap of each problem and of all, and GRPO's update, from two halves of each group's samples.

    Returns per problem a dict of success rate, mean length and an unbiased ‖gap‖², which may be negative (None without
    right and wrong in both halves), and a dict of the norms of the pooled gap and the update, and of their cosine.
    """
    problems, pooled, update = [], {}, [0.0, 0.0]
    count = {(half, right): 0 for half in (0, 1) for right in (0.0, 1.0)}
    for group in groups:
        gaps = []
        for half in (0, 1):
            members = {right: [r for r in group[half::2] if r.reward == right] for right in (0.0, 1.0)}
            sums = {right: score(policy, rollouts, parameters, token_level) for right, rollouts in members.items()}
            for right in sums:
                pooled[half, right] = pooled.get((half, right), 0) + sums[right]
                count[half, right] += len(members[right])
            if members[0.0] and members[1.0]:
                gaps.append(sums[1.0] / len(members[1.0]) - sums[0.0] / len(members[0.0]))
                p = len(members[1.0]) / len(group[half::2])
                update[half] = update[half] + np.sqrt(p * (1 - p)) * gaps[-1] / len(groups)
        square = float(gaps[0] @ gaps[1]) if len(gaps) == 2 else None
        problems.append(dict(success=float(np.mean([r.reward for r in group])), square=square,
                             length=float(np.mean([len(r.token_ids) for r in group]))))
    gap = [pooled[half, 1.0] / count[half, 1.0] - pooled[half, 0.0] / count[half, 0.0] for half in (0, 1)]
    size = lambda pair: float(np.sqrt(float(pair[0] @ pair[1])))  # nan if the halves disagree: too few samples
    across = float(update[0] @ gap[1] + update[1] @ gap[0]) / 2
    return problems, dict(gap=size(gap), update=size(update), cosine=across / size(gap) / size(update))


def lm(model: str, dataset: str, problems: int = 48, samples: int = 64, only: str = "", seed: int = 0,
       max_prompt_tokens: int = 128, max_response_tokens: int = 128, name: str = "gradient_gap_lm"):
    """The gap of a language model: per problem and pooled, at trajectory and token level, and GRPO's alignment with it.

    Args:
        model: Hugging Face name or folder.
        dataset: Problems, in the forms that the training scripts read.
        problems: How many of them, drawn at random.
        samples: Responses per problem; half of them estimate the gap against the other half.
        only: Regular expression for the names of the parameters to differentiate. Empty: all.
        seed: Of the problems and the samples.
        max_prompt_tokens: As in the training scripts.
        max_response_tokens: As in the training scripts.
        name: Of the .md, .png and .json files in results/theory.
    """
    sys.path.insert(0, str(FOLDER.parent.parent))
    import grpo

    args = grpo.Args(model, dataset, max_prompt_tokens=max_prompt_tokens, max_response_tokens=max_response_tokens)
    everything = grpo.load_problems(dataset, grpo.AutoTokenizer.from_pretrained(model), args)
    chosen = [grpo.Problem(**row) for row in everything.shuffle(seed).take(problems)]
    policy = grpo.Policy(args).to(grpo.DEVICE)
    parameters = [p for n, p in policy.lm.named_parameters() if re.search(only, n)]
    engine = grpo.start_engine(args)
    grpo.seed_everything(seed, 0)
    groups = grpo.sample(engine, chosen, samples, args)

    both = lambda group: all(len({r.reward for r in group[half::2]}) == 2 for half in (0, 1))
    mixed = next((group for group in groups if both(group)), None)
    if mixed is None:
        sys.exit(f"no problem has right and wrong ones in both halves of {samples} samples: take more --samples")
    rows, more, numbers, figure = [], [], {}, plt.figure(figsize=(14, 4.4), layout="constrained")
    by_success, by_length, alignment = figure.subplots(1, 3)
    for level, marker in (("trajectory", "o"), ("token", "x")):
        token_level, loss_norm = level == "token", "sequence" if level == "token" else "constant"
        # the identity, on one problem, through grpo.py's own advantages and loss
        for r, advantage in zip(mixed, grpo.advantages(np.array([r.reward for r in mixed]))):
            r.advantage = float(advantage)
        total, p = 0, np.mean([r.reward for r in mixed])
        for batch in grpo.microbatches(mixed, 8192):
            ids, mask, _, advantage = grpo.collate(batch)
            logprobs = policy(ids, mask)[0]
            loss = grpo.policy_loss(logprobs, logprobs.detach(), advantage, mask, args)[0] * mask
            loss = (loss / mask.sum(-1, keepdim=True) if token_level else loss).sum() / len(mixed)
            total -= grpo.torch.cat([g.flatten().cpu() for g in grpo.torch.autograd.grad(loss, parameters)])
        gap = sum((1 if right else -1) * score(policy, [r for r in mixed if r.reward == right], parameters, token_level)
                  / sum(r.reward == right for r in mixed) for right in (1.0, 0.0))
        error = float((total - np.sqrt(p * (1 - p)) * gap).norm() / total.norm())
        rows.append((f"{level} level: GRPO's update with --loss-norm {loss_norm} = √(p(1 − p)) gap", "ours",
                     "one problem, relative error < 1e-3", f"{error:.0e}", error < 1e-3))

        found, all_of_them = measure(policy, groups, parameters, token_level)
        usable, numbers[level] = [f for f in found if f["square"] is not None], dict(problems=found, pooled=all_of_them)
        rows.append((f"{level} level: GRPO's update over all problems aligns with the pooled gap", "paper (needed to "
                     "converge); value ours", "cosine > 0", f"{all_of_them['cosine']:.2f}", all_of_them["cosine"] > 0))
        success, length, square = (np.array([f[key] for f in usable]) for key in ("success", "length", "square"))
        norm = np.sqrt(square.clip(0))
        by_success.plot(success, norm, marker, mfc="none", label=f"{level} level")
        by_length.plot(length, norm, marker, mfc="none", label=f"{level} level")
        alignment.bar(level, all_of_them["cosine"], color="C0" if token_level else "C1")
        if not more:
            more = ["", f"{len(usable)} of {len(found)} problems have right and wrong responses in both halves.", "",
                    "‖gap‖ is the root of the mean of the problems' unbiased squares, ± its standard error.", "",
                    "| level | success rate | problems | ‖gap‖ | mean tokens |", "| --- | --- | --- | --- | --- |"]
        for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1)):
            inside = (success > low) & (success <= high)
            if inside.sum() > 1:
                size = np.sqrt(max(0, square[inside].mean()))
                error = square[inside].std(ddof=1) / np.sqrt(inside.sum()) / (2 * size) if size else np.nan
                more.append(f"| {level} | {low}–{high} | {inside.sum()} | {size:.3f} ± {error:.3f} | "
                            f"{length[inside].mean():.1f} |")
        more.append(f"| {level}, pooled | all | {len(found)} | {all_of_them['gap']:.3f} | |")
    dress(by_success, "The gap of each problem\nagainst how often it is solved", "success rate p", "‖gap‖", "y")
    dress(by_length, "…and against the length of its responses", "tokens per response, mean", "‖gap‖", "y")
    alignment.plot([], label="GRPO's update and the pooled gap")
    dress(alignment, "GRPO points along the gap", "", "cosine, corrected for noise", ylim=(0, 1.1))
    figure.suptitle(f"Gradient Gap of {model} on {dataset}, {samples} samples per problem (measured by this project)")
    (FOLDER / f"{name}.json").write_text(json.dumps(numbers))
    finish(name, " ".join(sys.argv[1:]), figure, rows, more)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"bandit": bandit, "lm": lm})
