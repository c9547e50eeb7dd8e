"""What test_ranks.py runs on each of two ranks under torchrun: one argument, a folder with what one rank computed."""

import copy
import dataclasses
import sys
from pathlib import Path

import torch
from conftest import TOY, read
from test_grpo import make_rollouts
from transformers import AutoTokenizer

import grpo


def whole(x):
    return x.full_tensor() if isinstance(x, torch.distributed.tensor.DTensor) else x


folder = Path(sys.argv[1])
assert grpo.WORLD == 2
grpo.init_distributed()
args = dataclasses.replace(grpo.Args(**TOY), **torch.load(folder / "flags.pt"))
tokenizer = AutoTokenizer.from_pretrained(args.model)
problems = read(grpo, args.dataset, tokenizer, args)

# the same rollouts on one rank and on two: the same gradient, also where a rank has nothing but padding
policy = grpo.shard(grpo.Policy(args))
rollouts = make_rollouts(grpo.Policy(args), problems, 5)
optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3)
for name, expected in torch.load(folder / "expected.pt").items():
    count, budget = name
    still = torch.optim.SGD(policy.parameters(), lr=0.0)
    flags = dataclasses.replace(args, microbatch_tokens=budget)
    metrics = grpo.update(policy, None, still, [copy.deepcopy(rollouts[:count])], flags)
    gradient = torch.cat([p.grad.full_tensor().flatten() for p in policy.parameters()])
    assert (gradient - expected["gradient"]).abs().max() < 1e-6, name
    assert metrics.keys() == expected["metrics"].keys()
    for metric, value in expected["metrics"].items():
        assert abs(metrics[metric] - value) < 1e-4 * max(1, abs(value)), (name, metric)

# a checkpoint of two ranks is that of one, and the optimiser comes back in pieces
grpo.update(policy, None, optimizer, [rollouts], args)
state = grpo.dcp.get_optimizer_state_dict(policy, optimizer, options=grpo.WHOLE)
assert bool(state) == (grpo.RANK == 0)
grpo.save_checkpoint(policy, tokenizer, {"optimizer": state}, folder, 1, args)
grpo.all_gather("saved")
loaded, trainer = grpo.load_checkpoint(folder, args)
loaded = grpo.shard(loaded)
again = torch.optim.AdamW(loaded.parameters(), lr=1e-3)
grpo.dcp.set_optimizer_state_dict(loaded, again, trainer["optimizer"], options=grpo.WHOLE)
for a, b in zip(again.state.values(), optimizer.state.values()):
    assert all(torch.equal(whole(a[key]), whole(b[key])) for key in ("step", "exp_avg", "exp_avg_sq"))

# one engine each: other samples of the same problem, and what each said reaches both
engine = grpo.start_engine(args)
grpo.seed_everything(0, 1, grpo.RANK)
groups = grpo.sample(engine, [problems[0], problems[0]], 4, args)
assert len(groups) == 2 and grpo.all_gather(groups)[0] == grpo.all_gather(groups)[1]
assert [r.token_ids for r in groups[0]] != [r.token_ids for r in groups[1]]
assert len(grpo.sample(engine, problems[:1], 2, args)) == 1  # one rank has nothing to do
print("rank 0 found nothing wrong")
