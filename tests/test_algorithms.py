"""What sets the other scripts apart from grpo.py, against enumeration, brute force and hand computations."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from conftest import TOY, read
from test_grpo import ONE, gradients, make_rollouts, relative_error

import grpo
import grpo_n
import gspo_n
import guide_grpo
import guide_ppo

PPO_TOY = TOY | dict(critic_lr=1e-3)


# ------------------------------------------------------------------------------- only relative negative gradients


@pytest.mark.parametrize("group_size", [2, 3])
def test_lemma_expected_gradient_of_grpo_n_is_p_times_that_of_grpo(group_size):
    """Exact: every group of two-token responses from a tabular policy over three tokens, binary rewards."""
    torch.manual_seed(0)
    first, second = torch.randn(3, requires_grad=True), torch.randn(3, 3, requires_grad=True)
    responses = list(itertools.product(range(3), repeat=2))
    rewards = np.array([float(a + b in (1, 3)) for a, b in responses])
    tokens = torch.stack([
        torch.stack([first.log_softmax(-1)[a], second.log_softmax(-1)[a, b]]) for a, b in responses
    ])  # log-probs [9, 2]
    probability = tokens.sum(-1).exp().detach().numpy()
    p = float(probability @ rewards)
    mask = torch.ones(group_size, 2, dtype=torch.bool)

    def expected_gradient(module, args, *extra):
        total = 0.0
        for group in itertools.product(range(9), repeat=group_size):
            members = list(group)
            advantage = module.advantages(rewards[members], *extra)
            logprobs = tokens[members]
            advantage = torch.tensor(advantage, dtype=torch.float32)[:, None].expand(-1, 2)
            loss, _ = module.policy_loss(logprobs, logprobs.detach(), advantage, mask, args)
            total = total + float(np.prod(probability[members])) * loss.sum() / group_size
        grads = torch.autograd.grad(total, (first, second), retain_graph=True)
        return torch.cat([g.flatten() for g in grads])

    full = expected_gradient(grpo, grpo.Args(**TOY))
    negative = expected_gradient(grpo_n, grpo_n.Args(**TOY), 0.0)
    assert 0.1 < p < 0.9 and full.norm() > 1e-2
    assert relative_error(negative, p * full) < 1e-4
    assert relative_error(expected_gradient(grpo_n, grpo_n.Args(**TOY), 1.0), full) < 1e-6
    weighted = expected_gradient(grpo_n, grpo_n.Args(**TOY), 0.1)
    assert relative_error(weighted, (p + 0.1 * (1 - p)) * full) < 1e-4  # positive-only is (1 − p) E[∇ GRPO]


@pytest.mark.parametrize("module", [grpo_n, gspo_n])
def test_only_negative_advantages_are_left_and_the_group_still_sets_them(module):
    rewards = np.array([1.0, 0.0, 0.0, 0.0])
    assert module.advantages(rewards, 0.0) == pytest.approx([0, *[-1 / math.sqrt(3)] * 3], abs=1e-5)
    assert module.advantages(rewards, 0.1)[0] == pytest.approx(0.1 * math.sqrt(3), abs=1e-5)
    assert module.advantages(rewards, 1.0) == pytest.approx(grpo.advantages(rewards))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_uniform_groups_have_exactly_no_gradient(problems, value):
    rewards = np.full(8, value)
    assert not grpo.advantages(rewards).any() and not grpo_n.advantages(rewards, 0.0).any()
    for module in (grpo_n, gspo_n, guide_grpo):
        args = module.Args(**TOY)
        policy = module.Policy(args)
        rollouts = make_rollouts(policy, problems, 8)
        for r in rollouts:
            r.advantage, r.guided = 0.0, False
        before = torch.cat([p.detach().flatten() for p in policy.parameters()])
        assert module.update(policy, None, torch.optim.AdamW(policy.parameters(), lr=1.0), [rollouts], args) == {}
        assert torch.equal(before, torch.cat([p.detach().flatten() for p in policy.parameters()]))


@pytest.mark.parametrize("ratio, keeps_gradient", [(0.5, False), (0.79, False), (0.81, True), (1.3, True), (9.0, True)])
def test_a_negative_advantage_is_clipped_below_only(ratio, keeps_gradient):
    logprobs = torch.tensor([[math.log(ratio)]], requires_grad=True)
    loss, stats = grpo_n.policy_loss(logprobs, torch.zeros(1, 1), torch.tensor([[-1.0]]), ONE, grpo_n.Args(**TOY))
    loss.sum().backward()
    assert logprobs.grad.item() == pytest.approx(ratio if keeps_gradient else 0.0)
    assert stats["policy/clip_low"].item() != keeps_gradient and not stats["policy/clip_high"].item()


# ------------------------------------------------------------------------------------------------ sequence ratios


def test_gspo_ratio_is_the_exponential_of_the_mean_log_ratio_and_its_gradient_is_s_a_over_length():
    args = gspo_n.Args(**TOY | dict(clip_low=0.9, clip_high=9.0))
    rng = torch.Generator().manual_seed(0)
    logprobs = torch.randn(3, 7, generator=rng, requires_grad=True)
    old_logprobs, advantage = torch.randn(3, 7, generator=rng), torch.tensor([[1.0], [-2.0], [0.5]]).expand(3, 7)
    mask = torch.zeros(3, 7, dtype=torch.bool)
    mask[0, 2:], mask[1, 1:4], mask[2, 6:] = True, True, True  # 5, 3 and 1 tokens
    loss, stats = gspo_n.policy_loss(logprobs, old_logprobs, advantage, mask, args)
    s = [math.exp((logprobs - old_logprobs)[i][mask[i]].mean().item()) for i in range(3)]
    assert stats["policy/ratio_mean"].tolist() == pytest.approx([s[0]] * 5 + [s[1]] * 3 + [s[2]])
    (loss * mask / mask.sum(-1, keepdim=True)).sum().backward()  # --loss-norm sequence
    for i, length in enumerate((5, 3, 1)):
        expected = -advantage[i, 0].item() * s[i] / length
        assert logprobs.grad[i][mask[i]].tolist() == pytest.approx([expected] * length, rel=1e-5)
        assert not logprobs.grad[i][~mask[i]].any()


def test_gspo_clips_whole_responses():
    args = gspo_n.Args(**TOY)
    assert (args.clip_low, args.clip_high, args.minibatches) == (3e-4, 4e-4, 4)
    mask = torch.ones(2, 2, dtype=torch.bool)
    logprobs = torch.tensor([[0.5, -0.6], [0.5, -0.4]], requires_grad=True)  # mean −0.05 and +0.05
    loss, stats = gspo_n.policy_loss(logprobs, torch.zeros(2, 2), -torch.ones(2, 2), mask, args)
    loss.sum().backward()
    assert stats["policy/clip_low"].tolist() == [True, True, False, False]
    assert logprobs.grad[0].tolist() == [0, 0] and (logprobs.grad[1] > 0).all()


# ------------------------------------------------------------------------------------------------------- guidance


@pytest.fixture(scope="module")
def hinted_problems(tokenizer):
    return read(guide_grpo, TOY["dataset"], tokenizer, guide_grpo.Args(**TOY))


def test_guided_gradient_is_unbiased_for_the_prompt_without_the_hint():
    """Exact: sampling four tokens with the hint and correcting has the gradient of the success rate without it."""
    plain = torch.tensor([0.5, -1.0, 0.2, -0.3], requires_grad=True)
    hinted = torch.tensor([-1.0, 2.0, 0.0, 0.3])  # another prompt, another distribution
    rewards = torch.tensor([0.0, 1.0, 0.0, 1.0])
    args = guide_grpo.Args(**TOY | dict(clip_guided=False))
    guided = torch.tensor([[True]])
    total = 0.0
    for token in range(4):
        old = hinted.log_softmax(-1)[token].reshape(1, 1)
        new = plain.log_softmax(-1)[token].reshape(1, 1)
        loss, _ = guide_grpo.policy_loss(new, old, rewards[token].reshape(1, 1), ONE, guided, 0.0, args)
        total = total - old.exp() * loss
    (gradient,) = torch.autograd.grad(total.sum(), plain)
    (expected,) = torch.autograd.grad((plain.softmax(-1) * rewards).sum(), plain)
    assert torch.allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("reshape", ["none", "constant"])
def test_guided_update_is_the_brute_force_gradient_with_two_prompts(hinted_problems, reshape):
    args = guide_grpo.Args(**TOY | dict(minibatches=1, max_grad_norm=1e9, clip_guided=False, reshape=reshape))
    policy = guide_grpo.Policy(args)
    rollouts, expected = [], []
    rng = np.random.default_rng(0)
    for i in range(4):
        problem, tokens = hinted_problems[i], rng.integers(5, 100, 6 + i).tolist()
        hinted_ids = torch.tensor([problem.hint_ids + tokens])
        mask = torch.zeros(1, hinted_ids.shape[1] - 1, dtype=torch.bool)
        mask[0, len(problem.hint_ids) - 1 :] = True
        with torch.no_grad():  # what the sampler would report: under the prompt with the hint
            old = policy(hinted_ids, mask)[0][mask]
        rollouts.append(guide_grpo.Rollout(problem, tokens, old.tolist(), "", False, "right", 1.0, True, 1.0 - 0.7 * i))
        logits = policy.lm(torch.tensor([problem.prompt_ids + tokens])).logits[0]  # under the prompt without
        start = len(problem.prompt_ids) - 1
        new = torch.stack([logits[start + t].log_softmax(-1)[token] for t, token in enumerate(tokens)])
        ratio = (new - old).exp()
        assert (new - old).abs().max() > 0.1  # the prompts matter
        weight = ratio / (ratio + args.gamma) if reshape == "constant" else ratio
        expected.append(-(weight * rollouts[-1].advantage).mean() / 4)
    policy.zero_grad()
    sum(expected).backward()
    expected = torch.cat([p.grad.flatten() for p in policy.parameters()])
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
    for budget in (1, 10**6):
        args.microbatch_tokens = budget
        metrics = guide_grpo.update(policy, None, optimizer, [rollouts], args)
        assert relative_error(torch.cat([p.grad.flatten() for p in policy.parameters()]), expected) < 1e-5
        assert "sampler/logprob_gap_mean" not in metrics  # a guided ratio is no disagreement of the engines


@pytest.mark.parametrize(
    "flags, ratio, advantage, guided, gradient",
    [
        # gradient is d objective / d log π
        (dict(), 0.3, 1.0, True, 0.3),
        (dict(), 1.5, 1.0, True, 0.0),  # clipped as any other token
        (dict(), 1.1, -1.0, True, -1.1),
        (dict(), 2000.0, -1.0, True, 0.0),  # a slip that the hint made rare must not outweigh the batch
        (dict(), 2000.0, -1.0, False, -2000.0),  # plain tokens are as in grpo.py
        (dict(clip_guided=False), 1.5, 1.0, True, 1.5),
        (dict(clip_guided=False), 1.5, 1.0, False, 0.0),  # plain tokens are always clipped
        (dict(guided_ratio=False), 0.3, 1.0, True, 1.0),
        (dict(guided_ratio=False), 0.3, -1.0, False, 0.0),
        (dict(reshape="constant", clip_guided=False), 0.3, 1.0, True, 0.1 * 0.3 / 0.4**2),  # γ r / (r + γ)²
        (dict(reshape="constant", clip_guided=False), 0.3, -1.0, True, -0.1 * 0.3 / 0.4**2),
        (dict(reshape="constant", clip_guided=False), 0.3, 1.0, False, 0.3),
        (dict(reshape="constant", clip_guided=False), 0.1, 1.0, True, 0.25),  # r = γ: the most a token can weigh
    ],
)
def test_ablations_of_guided_tokens(flags, ratio, advantage, guided, gradient):
    args = guide_grpo.Args(**TOY | flags)
    logprobs = torch.tensor([[math.log(ratio)]], requires_grad=True)
    gamma = guide_grpo.reshape_gamma(None, [], args)
    loss, _ = guide_grpo.policy_loss(
        logprobs, torch.zeros(1, 1), torch.tensor([[advantage]]), ONE, torch.tensor([[guided]]), gamma, args
    )
    loss.sum().backward()
    assert -logprobs.grad.item() == pytest.approx(gradient, rel=1e-4)


def test_guide_samples_failed_groups_again_with_the_hint(engine, hinted_problems, policy):
    args = guide_grpo.Args(**TOY)
    grpo.sync_weights(policy, engine)
    hard = [p for p in hinted_problems if p.level == "hard"][:4]
    hard[3] = dataclasses.replace(hard[3], hint_ids=[])
    torch.manual_seed(0)
    groups = guide_grpo.sample(engine, hard, 8, args)
    assert not any(r.reward for group in groups for r in group)
    groups[0][0].reward = 1.0  # not failed: stays as it is
    guided = guide_grpo.guide(engine, groups, args)
    assert [len(group) for group in groups] == [8, 16, 16, 8]
    assert len(guided) == 2 and np.mean([r.reward for group in guided for r in group]) > 0.8
    for group in groups[1:3]:
        assert [r.guided for r in group] == [False] * 8 + [True] * 8
        # their log-probs are those under the hinted prompt, and the trainer's tokens have the plain one
        with_hint = dataclasses.replace(group[0].problem, prompt_ids=group[0].problem.hint_ids)
        hinted = [dataclasses.replace(r, problem=with_hint) for r in group]
        for rollouts, same in ((hinted[8:], True), (group[8:], False), (group[:8], True)):
            ids, mask, old_logprobs, _ = guide_grpo.collate(rollouts)
            with torch.no_grad():
                gap = (policy(ids, mask)[0] - old_logprobs).abs()[mask].max()
            assert (gap < 1e-4) == same
    groups = guide_grpo.sample(engine, hard[:3], 8, args)
    guide_grpo.guide(engine, groups, dataclasses.replace(args, guided_group="replace"))
    assert all(len(group) == 8 and all(r.guided for r in group) for group in groups)
    assert guide_grpo.guide(engine, groups, dataclasses.replace(args, guidance="never")) == []
    groups[0][0].reward = 1.0
    assert len(guide_grpo.guide(engine, groups, dataclasses.replace(args, guidance="always"))) == 3


def test_quantile_gamma_is_that_of_the_guided_ratios(hinted_problems):
    args = guide_grpo.Args(**TOY | dict(reshape="quantile", clip_guided=False))
    policy = guide_grpo.Policy(args)
    rollouts = make_rollouts(policy, hinted_problems, 6, noise=1.0)
    for i, r in enumerate(rollouts):
        r.guided = i % 2 == 0
    ids, mask, old_logprobs, _ = guide_grpo.collate(rollouts[::2])
    with torch.no_grad():
        ratios = (policy(ids, mask)[0] - old_logprobs).exp()[mask]
    gamma = guide_grpo.reshape_gamma(policy, [rollouts], args)
    assert gamma == pytest.approx(ratios.quantile(0.9).item(), rel=1e-4)
    assert guide_grpo.reshape_gamma(policy, [rollouts[1::2]], args) == 0.0  # nothing guided, nothing to reshape


@pytest.mark.parametrize(
    "hint, text",
    [
        ("up, then down", "<|user|>a(123)=?\n\nHint: up, then down<|end|><|assistant|>"),
        ([{"role": "user", "content": "a(123)=? up!"}], "<|user|>a(123)=? up!<|end|><|assistant|>"),
        ([], ""),
        (None, ""),
        ("", ""),
        ("  ", ""),
        ("up, then down, then " * 100, ""),  # does not fit --max-prompt-tokens: no hint
    ],
)
def test_hints_are_texts_or_chat_lists(tmp_path, tokenizer, hint, text):
    from test_inputs import write

    row = {"prompt": [{"role": "user", "content": "a(123)=?"}], "answer": "1", "hint": hint}
    path = write(tmp_path / "a.jsonl", [row])
    (problem,) = read(guide_grpo, path, tokenizer, guide_grpo.Args(**TOY))
    assert tokenizer.decode(problem.hint_ids) == text
    assert tokenizer.decode(problem.prompt_ids) == "<|user|>a(123)=?<|end|><|assistant|>"


@pytest.mark.parametrize(
    "hint", [7, ["up"], [{"from": "human", "value": "up"}], [{"role": "user", "content": None}],
             [{"role": "user", "content": "up"}, {"role": "assistant", "content": "Well."}]],
)  # fmt: skip
def test_hints_in_another_form_are_refused(hint):
    with pytest.raises(ValueError, match="the hint is no text or turns that end with the user's"):
        guide_grpo.add_hint([{"role": "user", "content": "a(123)=?"}], hint)


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (dict(guide_threshold=1.0), "use --guidance always"),
        (dict(guided_ratio=False, reshape="constant"), "nothing to --reshape: drop one"),
        (dict(reshape="quantile"), "add --no-clip-guided"),
        (dict(guide_threshold=-0.5), "--guide-threshold must be a positive number, but is -0.5"),
    ],
)
def test_contradictory_guide_flags(flags, sentence):
    with pytest.raises(SystemExit, match=sentence):
        guide_grpo.Args(**TOY | flags)


# ----------------------------------------------------------------------------------------------------- the critic


def test_gae_by_hand():
    args = guide_ppo.Args(**PPO_TOY | dict(gae_gamma=0.9, gae_lambda=0.5))
    values = torch.tensor([[0.0, 0.5, 0.4, 0.8, 0.0], [0.0, 0.1, 0.2, 0.3, 0.4]])
    rewards = torch.tensor([[0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    # first row: a response of three tokens, right, then a pad. δ_3 = 1 − .8, δ_2 = .9·.8 − .4, δ_1 = .9·.4 − .5
    a3, d2, d1 = 0.2, 0.32, -0.14
    a2 = d2 + 0.45 * a3
    advantage = guide_ppo.gae(rewards, values, args)
    assert advantage[0, 1:4].tolist() == pytest.approx([d1 + 0.45 * a2, a2, a3])
    # second row: cut at the limit. It ends there with no reward and no bootstrap: δ_4 = 0 − .4
    b4, e3, e2, e1 = -0.4, 0.9 * 0.4 - 0.3, 0.9 * 0.3 - 0.2, 0.9 * 0.2 - 0.1
    b3 = e3 + 0.45 * b4
    b2 = e2 + 0.45 * b3
    assert advantage[1, 1:].tolist() == pytest.approx([e1 + 0.45 * b2, b2, b3, b4])
    args = dataclasses.replace(args, gae_gamma=1.0, gae_lambda=1.0)  # then A = R − V
    assert guide_ppo.gae(rewards, values, args)[0, 1:4].tolist() == pytest.approx([0.5, 0.6, 0.2])


def test_estimates_are_whitened_and_explain_what_they_say(hinted_problems):
    args = guide_ppo.Args(**PPO_TOY)
    policy, critic = guide_ppo.Policy(args), guide_ppo.Critic(args)
    rollouts = make_rollouts(policy, hinted_problems, 12)
    for i, r in enumerate(rollouts):
        r.advantage, r.values, r.returns, r.guided, r.reward = [], [], [], False, float(i % 3 == 0)
    metrics = guide_ppo.estimate(critic, [rollouts[:6], rollouts[6:]], args)
    assert metrics["value/mean"] == 0 and metrics["value/explained_variance"] == pytest.approx(0, abs=1e-6)
    everything = np.concatenate([r.advantage for r in rollouts])
    assert everything.mean() == pytest.approx(0, abs=1e-6) and everything.std() == pytest.approx(1, abs=1e-4)
    for r in rollouts:
        assert len(r.advantage) == len(r.values) == len(r.token_ids)
        assert r.returns == [r.reward] * len(r.token_ids)  # γ = λ = 1: the reward, at every token
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.0)
    critic_optimizer = torch.optim.AdamW(critic.parameters(), lr=1e-3)
    args = dataclasses.replace(args, max_logprob_gap=10)
    losses = []
    for step in range(1, 9):
        halves = [rollouts[:2], rollouts[2:]]
        metrics = guide_ppo.update(policy, None, optimizer, critic, critic_optimizer, halves, step, args)
        losses.append(metrics["value/loss"])
        metrics = guide_ppo.estimate(critic, [rollouts], args)
    assert losses[-1] < 0.5 * losses[0]
    assert metrics["value/explained_variance"] > 0.4


def test_critic_warmup_leaves_the_policy_alone(hinted_problems):
    args = guide_ppo.Args(**PPO_TOY | dict(critic_warmup_steps=1, max_logprob_gap=10))
    policy, critic = guide_ppo.Policy(args), guide_ppo.Critic(args)
    rollouts = make_rollouts(policy, hinted_problems, 4)
    for i, r in enumerate(rollouts):
        r.advantage, r.values, r.returns, r.guided, r.reward = [], [], [], False, float(i == 0)
    guide_ppo.estimate(critic, [rollouts], args)
    flat = lambda model: torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3)
    critic_optimizer = torch.optim.AdamW(critic.parameters(), lr=1e-3)
    for step, policy_moves in ((1, False), (2, True)):
        before = flat(policy), flat(critic)
        guide_ppo.update(policy, None, optimizer, critic, critic_optimizer, [rollouts[:2], rollouts[2:]], step, args)
        assert torch.equal(before[0], flat(policy)) != policy_moves
        assert not torch.equal(before[1], flat(critic))


@pytest.mark.parametrize(
    "value, old, target, loss",
    [
        (0.5, 0.5, 1.0, 0.5 * 0.25),
        (0.9, 0.5, 1.0, 0.5 * 0.09),  # clipped to .7: the larger of the two losses, without a gradient
        (0.1, 0.5, 1.0, 0.5 * 0.81),  # went the wrong way: the unclipped loss is larger
    ],
)
def test_clipped_value_loss(value, old, target, loss):
    args = guide_ppo.Args(**PPO_TOY)
    assert guide_ppo.value_loss(*torch.tensor([value, old, target]), args).item() == pytest.approx(loss)


def test_grpo_and_its_copy_have_the_same_gradient(policy, problems, args):
    """--guidance never, and --positive-weight 1, are grpo.py."""
    rollouts = make_rollouts(policy, problems, 5)
    for r in rollouts:
        r.guided = False
    expected, _ = gradients(policy, rollouts, args)
    for module in (grpo_n, guide_grpo):
        own = module.Args(**TOY | dict(minibatches=1, max_grad_norm=1e9, max_logprob_gap=1e9))
        copy = module.Policy(own)
        module.update(copy, None, torch.optim.SGD(copy.parameters(), lr=0.0), [rollouts], own)
        assert torch.equal(torch.cat([p.grad.flatten() for p in copy.parameters()]), expected)


def test_a_dataset_without_hints_is_refused(tmp_path):
    from test_inputs import write

    path = write(tmp_path / "a.jsonl", [{"problem": "?", "answer": "1"}] * 24)
    with pytest.raises(SystemExit, match="no problem of .* has a hint that fits: add a column hint"):
        guide_grpo.main(guide_grpo.Args(**TOY | dict(dataset=path)))
