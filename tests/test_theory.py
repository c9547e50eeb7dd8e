"""The numbers behind theory/: identities by enumeration and brute force, simulations at a small size."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, TOY
from test_grpo import make_rollouts

import grpo
import guide_grpo
from results import lr_sweep
from theory import gradient_gap as gap
from theory import guide
from theory import two_stage as two

# ---------------------------------------------------------------------------------------------------- two_stage.py


def brute_force(pi, toy, name, size):
    """E[Δz]/η over ordered groups, with the trainers' own advantage, sample by sample."""
    total, outcomes = np.zeros(len(pi)), range(len(toy.action))
    for group in itertools.product(outcomes, repeat=size):
        group = list(group)
        a = grpo.advantages(toy.reward[group])
        if name == "W-REINFORCE":
            a = np.where(toy.reward[group] == 1, 0.1, -1.0)
        a = {"GRPO-N": np.minimum(a, 0), "positive-only": np.maximum(a, 0)}.get(name, a)
        probability = np.prod((pi[toy.action] * toy.chance)[group])
        for a_i, y_i in zip(a, toy.action[group]):
            total += probability * a_i * (np.eye(len(pi))[y_i] - pi) / size
    return total


@pytest.mark.parametrize("name", two.NAMES)
@pytest.mark.parametrize("toy", [two.T1, two.T2], ids=["T1", "T2"])
def test_expected_update_is_that_of_brute_force(toy, name):
    expected = brute_force(toy.pi0, toy, name, 3)
    assert abs(expected).max() > 1e-2
    assert two.expected_update(toy.pi0, toy, name, 3) == pytest.approx(expected, abs=1e-12)


def test_sampled_update_has_the_enumerated_mean():
    rng, n = np.random.default_rng(0), 40_000
    for toy in (two.T1, two.T2):
        counts = two.sample(rng, np.tile(toy.pi0, (n, 1)), toy)
        assert (counts.sum(-1) == two.G).all()
        for name in two.NAMES:
            delta = two.update(counts, toy.pi0, toy, name)
            error = delta.std(0) / np.sqrt(n)
            assert (abs(delta.mean(0) - two.expected_update(toy.pi0, toy, name)) < 4 * error).all()


@pytest.mark.parametrize("size", [2, 5, 8])
@pytest.mark.parametrize("toy", [two.T2, *map(two.two_right, (0.05, 0.4, 0.9))], ids=["T2", ".05", ".4", ".9"])
def test_lemma(toy, size):
    p = sum(toy.pi0[toy.action] * toy.chance * toy.reward)
    negative, positive, deviations = two.lemma(toy, size)
    assert (negative, positive) == pytest.approx((p, 1 - p), abs=1e-12)
    assert max(deviations) < 1e-12


def test_lemma_needs_two_reward_levels():
    assert max(two.lemma(two.T1, 8)[2][:2]) > 1e-2


@pytest.mark.parametrize("size", [2, 4])
def test_theorem_1(size):
    for toy in (two.T1, two.T2):
        for pi in (toy.pi0, np.array([0.9, 0.07, 0.03])):
            assert pi * two.theorem_1(pi, toy, size) == pytest.approx(brute_force(pi, toy, "GRPO", size), abs=1e-12)


def test_logit_of_an_unsampled_action():
    assert [two.unseen(k, "GRPO") for k in range(9)] == pytest.approx([0] * 9, abs=1e-12)
    for k, rise in {0: 0, 1: np.sqrt(7) / 8, 4: 0.5, 8: 0}.items():
        assert two.unseen(k, "GRPO-N") == pytest.approx(rise, abs=1e-5)
        assert two.unseen(k, "positive-only") == pytest.approx(-rise, abs=1e-5)


def test_t1_exploits_then_explores_and_grpo_n_never_finds():
    """1000 seeds gave .0024 and .880 ± .010."""
    history = two.simulate(two.T1, "GRPO", 0.5, 1000, seeds=300, seed=1)
    s = two.summary(history)
    assert s["quartiles"][1, 0] == pytest.approx(two.T1.pi0)
    assert s["quartiles"][1, 50, 1] == pytest.approx(0.0024, abs=0.0002)
    assert s["quartiles"][1, 1000, 1] > 0.99
    assert s["found"][1000] == pytest.approx(0.88, abs=4 * 0.32 / np.sqrt(300))
    assert two.summary(two.simulate(two.T1, "GRPO-N", 0.5, 1000, seeds=300))["found"].max() == 0
    field = two.mean_field(two.T1, "GRPO", 0.5, 400)
    assert field[50, 1] == pytest.approx(0.0026, abs=1e-4) and field[400, 1] > 0.9


@pytest.mark.parametrize("name, eta, found, entropy", [
    ("GRPO", 1, 0.502, 0.0680), ("GRPO", 4, 0.796, 0.0437), ("GRPO", 16, 0.418, 0.0065),
    ("GRPO-N", 1, 0.303, 0.0810), ("GRPO-N", 4, 0.934, 0.0346), ("GRPO-N", 16, 0.815, 0.0267),
    ("positive-only", 1, 0.051, 0.1719), ("positive-only", 4, 0.327, 0.0938), ("positive-only", 16, 0.298, 0.0278),
    ("W-REINFORCE", 1, 0.013, 0.1015), ("W-REINFORCE", 4, 0.915, 0.0420), ("W-REINFORCE", 16, 0.837, 0.0247),
])
def test_t2_rates(name, eta, found, entropy):
    """Expected: means over 32,000 other seeds."""
    s = two.summary(two.simulate(two.T2, name, eta, 1000, seeds=500, seed=3))
    assert s["found"][-1] == pytest.approx(found, abs=4 * np.sqrt(found * (1 - found) / 500))
    assert s["entropy"][50] == pytest.approx(entropy, abs=4 * s["entropy_se"][50])
    assert s["entropy"][0] == pytest.approx(-(two.T2.pi0 * np.log(two.T2.pi0)).sum())


# ------------------------------------------------------------------------------------------------- gradient_gap.py


def test_gap_is_the_gradient_of_the_log_odds_and_has_its_closed_form():
    for z, right in gap.random_policies(50, seed=2):
        assert gap.identity_error(z, right) < 1e-14
        pi = np.exp(z) / np.exp(z).sum()
        J = pi[right].sum()
        assert gap.tabular_gap(z, right) == pytest.approx(np.where(right, pi / J, -pi / (1 - J)), abs=1e-12)
        assert gap.log_odds(z, right) == pytest.approx(np.log(J / (1 - J)), abs=1e-12)


def test_tabular_control_never_falls():
    for z, right in gap.random_policies(10, seed=3):
        for eta in (0.01, 1.0, 1e4):
            assert (np.diff(gap.climb(z, right, eta, 50)) > 0).all()


def test_valley_threshold():
    """At a finite number of steps K the exact threshold is 2/κ + δ with (1 + κδ)^{2K} = 4 a² K/κ², both sides of Φ."""
    K, a, kappa = 5000, gap.A, gap.KAPPA
    predicted = (1 + np.exp(np.log(4 * a**2 * K / kappa**2) / (2 * K))) / kappa
    assert gap.threshold()[0] == pytest.approx(predicted, abs=1e-5)
    assert predicted == pytest.approx(2.0009, abs=1e-4)
    sampled = gap.threshold(20, np.random.default_rng(5), 12)
    assert sampled.mean() == pytest.approx(2.046, abs=0.003)


def test_valley_falls_at_once_only_above_two_and_a_half():
    for C, falls in ((2.48, False), (2.52, True)):
        assert (np.diff(gap.valley(np.array(C), 100)) < 0).all() == falls


def test_valley_constants_bound_scores_and_their_derivatives():
    """G_o and L_o by finite differences of log π of both arms, over the strip |y| ≤ 1."""
    G_o = np.hypot(gap.A, gap.KAPPA)
    L_o = gap.KAPPA + G_o**2 / 4
    rng, h, scores, curvatures = np.random.default_rng(0), 1e-4, [], []
    for x, y in zip(rng.uniform(-20, 20, 500), rng.uniform(-1, 1, 500)):
        for sign in (1, -1):
            log_p = lambda x, y: -np.logaddexp(0, -sign * (gap.A * x - gap.KAPPA * y**2 / 2))
            g = lambda x, y: np.array([log_p(x + h, y) - log_p(x - h, y), log_p(x, y + h) - log_p(x, y - h)]) / (2 * h)
            scores.append(np.linalg.norm(g(x, y)))
            hessian = np.stack([g(x + h, y) - g(x - h, y), g(x, y + h) - g(x, y - h)]) / (2 * h)
            curvatures.append(np.linalg.norm(hessian, 2))
    assert 0.9 * G_o < max(scores) <= G_o * 1.0001
    assert 0.7 * L_o < max(curvatures) <= L_o * 1.0001
    assert gap.t1_step(G_o, L_o) == pytest.approx(1 / (2 * (1.3125 + 8 * 1.25)))


def test_t1_bounds_the_valley_from_below():
    C, J, lower = gap.valley_t1(steps=500)
    assert C == pytest.approx(0.0442, abs=1e-4) and J[0] == pytest.approx(lower[0])
    assert (J > lower)[1:].all() and 0.8 < lower[-1] < J[-1]


def test_tokens_is_brute_force_over_sequences():
    T = 10
    theta, phi, gaps, theta_0 = gap.tokens(T)
    sequences = np.array(list(itertools.product((0, 1), repeat=T)))
    right = abs(sequences.sum(1) - T / 2) <= 1.5 * np.sqrt(T)
    assert 0 < right.sum() < 2**T

    def exact(at):
        p = 1 / (1 + np.exp(-at))
        probability, score = np.where(sequences, p, 1 - p).prod(1), (sequences - p).sum(1)
        mean = lambda mask: np.average(score[mask], weights=probability[mask])
        J = probability[right].sum()
        return J, mean(right) - mean(~right)

    for i in (1000, 1500, 1700, 2000):
        J, difference = exact(theta[i])
        assert phi[i] == pytest.approx(np.log(J / (1 - J)), abs=1e-9)
        assert gaps[i] == pytest.approx(difference, abs=1e-9)
    assert theta_0 > 0 and exact(theta_0)[0] == pytest.approx(0.2, abs=1e-4)


@pytest.mark.parametrize("rule, power", [("C gap", -1), ("C gap/T", 0), ("unit step", -0.5)])
def test_critical_step_scales_with_length(rule, power):
    lengths = 2 ** np.arange(6, 11)
    tables = {T: gap.tokens(T, 1501) for T in lengths}
    steps = [[gap.critical_step(T, tables[T], rule, i / 8) for T in lengths] for i in range(8)]
    slope = np.polyfit(np.log(lengths), np.log(steps).T, 1)[0].mean()
    assert slope == pytest.approx(power, abs=0.06)


def test_floor_of_a_fixed_step_and_its_cure():
    eta = np.array([0.05, 0.1, 0.95, 1.05])
    grpo_floor = gap.floor(eta, "GRPO", starts=2000, steps=1000)
    error = grpo_floor.std(0) / np.sqrt(2000)
    assert (abs(grpo_floor.mean(0) - 4 / 3 * eta**2) < 4 * error)[:2].all()
    for rule in ("REINFORCE", "GRPO with η√(1 − J)"):
        failure = gap.floor(eta, rule, starts=50, steps=1000).mean(0)
        assert failure[:3].max() < 1e-12 and failure[3] > 0.01


@pytest.mark.parametrize("holds", [True, False])
def test_a_claim_that_fails_fails_the_script(holds, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gap, "FOLDER", tmp_path)
    with pytest.raises(SystemExit) as end:
        gap.finish("name", "bandit", gap.plt.figure(), [("a", "ours", "b", "c", True), ("d", "ours", "e", "f", holds)])
    assert bool(end.value.code) != holds
    assert ("**NO**" in capsys.readouterr().out) != holds and (tmp_path / "name.png").exists()
    assert ("**NO**" in (tmp_path / "name.md").read_text()) != holds


# ---------------------------------------------------------------------------------------------- a language model's gap
def test_gaps_of_a_language_model_are_those_of_its_gradients(problems, args):
    """Two problems with six responses each, against a backward pass per response."""
    policy = grpo.Policy(args)
    parameters = list(policy.parameters())
    groups = []
    for i in range(2):
        group = make_rollouts(policy, problems, 6, seed=i)
        for j, r in enumerate(group):
            r.problem, r.reward = problems[i], float(j in (0, 1, 4, 5)[: 2 + 2 * i])  # both halves have right and wrong
        groups.append(group)

    def score(r, token_level):
        ids, mask, *_ = grpo.collate([r])
        total = policy(ids, mask)[0].sum() / (len(r.token_ids) if token_level else 1)
        return torch.cat([g.flatten() for g in torch.autograd.grad(total, parameters)])

    for token_level in (False, True):
        found, pooled = gap.measure(policy, groups, parameters, token_level)
        halves, updates, everyone = [[], []], [0, 0], [{0: [], 1: []}, {0: [], 1: []}]
        for group in groups:
            for half in (0, 1):
                members = {right: [r for r in group[half::2] if r.reward == right] for right in (0, 1)}
                scores = {right: [score(r, token_level) for r in members[right]] for right in (0, 1)}
                difference = sum(scores[1]) / len(scores[1]) - sum(scores[0]) / len(scores[0])
                halves[half].append(difference)
                p = len(scores[1]) / 3
                updates[half] += np.sqrt(p * (1 - p)) * difference / 2
                for right in (0, 1):
                    everyone[half][right] += scores[right]
        for i in range(2):
            assert found[i]["square"] == pytest.approx(float(halves[0][i] @ halves[1][i]), rel=1e-3)
        gaps = [sum(half[1]) / len(half[1]) - sum(half[0]) / len(half[0]) for half in everyone]
        for name, pair in (("gap", gaps), ("update", updates)):
            product = float(pair[0] @ pair[1])
            assert np.isnan(pooled[name]) if product < 0 else pooled[name] ** 2 == pytest.approx(product, rel=1e-3)


def test_the_gap_of_the_toy_is_measured_with_the_real_engine(tmp_path):
    command = [sys.executable, str(ROOT / "theory/gradient_gap.py"), "lm", f"--model={TOY['model']}", "--problems=12",
               f"--dataset={TOY['dataset']}", "--samples=32", "--only=layers.1", f"--name={tmp_path}/gap"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    numbers = json.loads((tmp_path / "gap.json").read_text())
    assert numbers["trajectory"]["pooled"]["gap"] == pytest.approx(46 * numbers["token"]["pooled"]["gap"], rel=0.1)
    assert len(numbers["token"]["problems"]) == 12 and (tmp_path / "gap.png").exists()


# -------------------------------------------------------------------------------------------------------- guide.py


@pytest.mark.parametrize("name, flags", [
    ("token ratio", dict(clip_guided=False)), ("token, clipped", {}), ("weight 1", dict(guided_ratio=False)),
])
@pytest.mark.parametrize("advantage", [1.5, -0.5])
def test_weights_of_guided_tokens_are_those_of_the_script(name, flags, advantage):
    args = guide_grpo.Args(**TOY | flags)
    log_ratio = torch.tensor([[-4.0, -0.3, -0.1, 0.0, 0.1, 0.3, 2.0]], requires_grad=True)
    mask, a = torch.ones(1, 7, dtype=torch.bool), torch.full((1, 7), advantage)
    loss, _ = guide_grpo.policy_loss(log_ratio, torch.zeros(1, 7), a, mask, torch.tensor([[True]]), 0.0, args)
    loss.sum().backward()
    ratio = log_ratio.detach().exp().numpy()
    w = guide.weights(ratio, a[:, :1].numpy(), name)
    if name == "weight 1":  # which the script clips by the ratio of the update alone, 1 at its start
        assert (w == 1).all()
    np.testing.assert_allclose(-log_ratio.grad.numpy(), w * advantage, rtol=1e-5)


@pytest.mark.parametrize("name", guide.NAMES)
def test_expected_pushes_are_the_closed_forms_and_those_of_samples(name):
    assert guide.push(0.2, 0.9, 3, name) == pytest.approx(guide.predicted(0.2, 0.9, 3, name), abs=1e-12)
    rng, pi = np.random.default_rng(0), guide.softmax(guide.start(0.2))
    mu = pi if name == "GRPO" else guide.softmax(guide.start(0.2) + guide.bias(0.2, 0.9) * np.eye(4)[0])
    assert mu[0] == pytest.approx(0.2 if name == "GRPO" else 0.9)
    y = guide.draw(rng, np.tile(mu, (40_000, 2, 1))).reshape(-1, 2)
    right = (y == 0).all(-1)
    w = np.ones(y.shape) if name == "GRPO" else guide.weights((pi / mu)[y], right[:, None].astype(float), name)
    pushes = right * w[:, 0] * ((y[:, 0] == 0) - 0.2)
    assert abs(pushes.mean() - guide.predicted(0.2, 0.9, 2, name)) < 4 * pushes.std() / np.sqrt(len(y))


def test_simulated_step_is_the_gradient_of_the_loss():
    rng, z = np.random.default_rng(1), torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    y, a, w = rng.integers(0, 4, (1, 5, 3)), rng.normal(size=(1, 5)), rng.random((1, 5, 3))
    logprobs = z.log_softmax(-1)
    objective = sum(a[0, i] * w[0, i, t] * logprobs[t, y[0, i, t]] for i in range(5) for t in range(3)) / 5
    objective.backward()
    pi = z.detach().softmax(-1).numpy()[None]
    np.testing.assert_allclose(guide.gradient(y, a, w, pi)[0], z.grad.numpy(), atol=1e-12)


def test_guidance_learns_many_decisions_and_not_a_rare_one():
    steps = {name: guide.median(guide.steps_to_learn(5, 1 / 3, name, seeds=20, steps=200))[0] for name in guide.NAMES}
    assert 3 * steps["token ratio"] < steps["GRPO"] < steps["sequence ratio"] == np.inf
    rare = {name: guide.steps_to_learn(1, 0.01, name, seeds=20, steps=400) for name in guide.NAMES}
    assert (rare["token ratio"] == rare["sequence ratio"]).all()
    assert 3 * np.median(rare["weight 1"]) < np.median(rare["GRPO"]) < 1.5 * np.median(rare["token ratio"])


def test_the_sweep_finds_the_optimiser_that_it_replaces():
    assert (ROOT / "grpo.py").read_text().count(lr_sweep.ADAMW) == 1
