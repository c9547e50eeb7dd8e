r"""GSPO-N: GSPO with only relative negative gradients ("The Debate on RLVR Reasoning Capability Boundary", Yao et
al., arXiv 2510.04028; GSPO: Zheng et al., arXiv 2507.18071).

For each problem q sample a group of G responses y_i from the sampler π_old, verify them (r_i = 1 if right,
else 0), and maximise

    J(θ) = E[ 1/G Σ_i min( s_i A⁻_i , clip(s_i, 1 − ε_low, 1 + ε_high) A⁻_i ) ]  −  β KL(π_θ ‖ π_ref)

    s_i  = exp( 1/|y_i| Σ_t [ log π_θ(y_it | q, y_i<t) − log π_old(y_it | q, y_i<t) ] )  a ratio per response
    A_i  = (r_i − mean(r)) / (std(r) + 1e-6)                      over the full group, right responses included
    A⁻_i = A_i if A_i < 0 else λ A_i                              λ = --positive-weight, 0

What differs from grpo.py: `advantages()` (see grpo_n.py, whose notes hold here too) and the ratio in `policy_loss()`.
 1. s_i is the geometric mean of the token ratios: all tokens of a response are clipped together, or none is.
 2. Its gradient is s_i A⁻_i / |y_i| Σ_t ∇ log π_θ(y_it): with --loss-norm sequence, grpo.py's where w = s_i = 1.
 3. A mean of logs hardly moves, so GSPO clips at 3e-4 and 4e-4, and takes four mini-batches per rollout batch.
 4. --positive-weight 1 is plain GSPO. In bfloat16 the gap between vLLM and the trainer alone moves s_i by more than
    these clips: watch policy/clip_low with --minibatches 1, where it should be 0, and widen the clips to the noise.

With the toy (see toy.py), on a CPU, a few minutes:

    python gspo_n.py --model toy/model --dataset toy/train.jsonl --eval-dataset toy/test.jsonl \
        --max-prompt-tokens 128 --max-response-tokens 64 --problems 24 --steps 160 --lr 1e-4

On a GPU:

    python gspo_n.py --model Qwen/Qwen2.5-1.5B-Instruct \
        --dataset openai/gsm8k:main --eval-dataset openai/gsm8k:main:test --max-response-tokens 1024 \
        --gradient-checkpointing
"""

import json
import os
import shutil
import signal
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

import datasets
import numpy as np
import torch
import tyro
import wandb
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.elastic.multiprocessing.errors import record
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import verifiers

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))  # set by torchrun
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # engine in this process: one seed, direct weight sync
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
logging.disable_progress_bar()  # of loading and saving models: the bar is the training's


# ------------------------------------------------------------------------------------------------------------ arguments
@dataclass
class Args:
    """Reinforcement learning with verifiable rewards in one file: vLLM samples, a Hugging Face model learns."""

    model: str
    """Hugging Face name or local folder of the model to train."""
    dataset: str
    """Problems to train on: a .jsonl, .json or .parquet file, or NAME[:CONFIG[:SPLIT]] on the hub; see README."""
    eval_dataset: str = ""
    """Held-out problems in the same forms. Empty: hold out --eval-problems of the training problems."""
    verifier: str = "math"
    """Who checks the answers: math, choice, code, or your own FILE.py:FUNCTION. A column verifier has precedence."""
    skip_bad_rows: bool = False
    """Leave out rows whose answer is missing or cannot be read, instead of stopping."""
    instruction: str = "Think step by step, and put your final answer in \\boxed{}."
    """Follows problems that are plain text, after an empty line. Chat lists are used as they are."""
    max_prompt_tokens: int = 1024
    """Problems with longer prompts are left out and counted."""
    max_response_tokens: int = 2048
    """Longer responses are cut and count as truncated."""
    name: str = ""
    """The run's folder is runs/NAME. Empty: script and time."""
    resume: bool = False
    """Continue runs/NAME from its newest checkpoint. Without one, start it."""
    seed: int = 0
    """Decides the order of problems, the samples and the mini-batches."""

    steps: int = 200
    """Rollout batches to sample and train on."""
    problems: int = 128
    """Problems per step."""
    group_size: int = 8
    """G: responses per problem."""
    minibatches: int = 4
    """Optimizer steps per rollout batch. Only the first is on-policy."""
    lr: float = 1e-6
    """Learning rate of AdamW, constant."""
    max_grad_norm: float = 1.0
    """Gradients of a larger norm are scaled down to it."""
    clip_low: float = 3e-4
    """ε_low: with A < 0, a response whose ratio is below 1 − ε_low is not pushed further down."""
    clip_high: float = 4e-4
    """ε_high: with A > 0, a response whose ratio is above 1 + ε_high is not pulled further up."""
    positive_weight: float = 0.0
    """λ, the weight of positive advantages: 0 is GSPO-N, 1 is GSPO."""
    loss_norm: Literal["sequence", "token", "constant"] = "sequence"
    """What divides a token's loss: its response's length (GRPO), the mean length (DAPO), or the limit (Dr. GRPO)."""
    kl_coef: float = 0.0
    """β, the weight of the KL to the starting model. Above 0, a frozen copy of that model is kept in memory."""
    temperature: float = 1.0
    """Of sampling, in training and evaluation. The trainer divides its logits by it too."""

    eval_every: int = 20
    """Steps between evaluations. There is always one before the first step and one after the last."""
    eval_problems: int = 500
    """Evaluate on at most this many problems."""
    eval_samples: int = 4
    """Responses per problem in an evaluation: the k of pass@k, and what pass@1 averages over."""
    wandb: bool = False
    """Log to Weights & Biases as well, project minrlvr."""
    save_every: int = 20
    """Steps between checkpoints. There is always one after the last step, and where SIGTERM or Ctrl-C stops the run."""
    keep: int = 2
    """How many checkpoints to keep, the newest ones."""

    vllm_tp: int = 1
    """With torchrun, how many ranks share one vLLM engine."""
    vllm_memory: float = 0.45
    """Share of the GPU's memory for vLLM. On a CPU VLLM_CPU_KVCACHE_SPACE decides, in GiB."""
    microbatch_tokens: int = 8192
    """Padded tokens per forward and backward pass. Lower it when training runs out of memory."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: slower, far less memory."""
    max_logprob_gap: float = 0.05
    """Stop when sampler and trainer, on the same weights, differ by more nats per token than this on average."""

    def __post_init__(self):
        may_be_zero = ("seed", "steps", "clip_low", "clip_high", "kl_coef", "positive_weight")
        for name, value in vars(self).items():
            least = "at least" if name in may_be_zero else "above"
            if type(value) in (int, float) and not (value > 0 or value == 0 and name in may_be_zero):
                sys.exit(f"--{name.replace('_', '-')} must be {least} 0, but is {value}")
        if self.group_size == 1:
            sys.exit("--group-size 1 makes every advantage zero: use at least 2")
        if self.minibatches > self.problems:
            sys.exit(f"--minibatches {self.minibatches} are more than --problems {self.problems}: lower the former")
        if self.resume and not self.name:
            sys.exit("--resume needs the --name of the run to continue")
        if WORLD % self.vllm_tp:
            sys.exit(f"--vllm-tp {self.vllm_tp} does not divide the {WORLD} ranks: choose torchrun --nproc-per-node")
        try:
            verifiers.load(self.verifier)
        except ValueError as e:
            sys.exit(f"--verifier: {e}")


# ------------------------------------------------------------------------------------------------------------- problems
@dataclass
class Problem:
    """One row of the dataset, ready for the sampler."""

    row: int  # its place in the dataset, from 0
    prompt: str
    prompt_ids: list[int]
    answer: str
    verifier: str
    level: str


def load_rows(source: str):
    """The rows of a local file or of a dataset on the hub, columns within columns as `outer.inner`."""
    name, config, split = (source.split(":") + ["", ""])[:3]
    kind = {".json": "json", ".jsonl": "json", ".parquet": "parquet"}.get(Path(source).suffix)
    try:
        files = {"data_files": source} if kind else {"name": config or None}
        rows = datasets.load_dataset(kind or name, **files, split=split or "train").flatten()
    except Exception as e:
        sys.exit(f"cannot load the dataset {source}: {type(e).__name__}: {' '.join(str(e).split())[:300]}")
    return rows if len(rows) else sys.exit(f"the dataset {source} has no rows")


def load_problems(source: str, tokenizer, args: Args) -> list[Problem]:
    """Problems with a readable answer and a prompt that fits; stops with a sentence when there are none."""
    rows = load_rows(source)

    def column(*names):
        found = [name for name in names if name in rows.column_names]
        return found[0] if found else sys.exit(f"{source} has columns {rows.column_names}, none of {', '.join(names)}")

    def encode(messages):
        if tokenizer.chat_template:
            prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        else:
            prompt = "Question: " + "\n".join(m["content"] for m in messages) + "\nAnswer:"
        return prompt, tokenizer(prompt, add_special_tokens=not tokenizer.chat_template).input_ids

    problem_column = column("problem", "question", "prompt")
    answer_column = column("answer", "solution", "reward_model.ground_truth", "test_list", "test")
    problems, bad, too_long = [], [], 0
    for index, row in enumerate(tqdm(rows, desc=f"reading {source}", leave=False, disable=RANK > 0)):
        messages, answer, verifier = row[problem_column], row[answer_column], row.get("verifier") or args.verifier
        try:
            answer = "" if answer is None else answer if isinstance(answer, str) else json.dumps(answer)
            answer = verifiers.reference(answer, verifier)
            if not messages:
                raise ValueError("the problem is empty")
        except ValueError as e:
            bad.append(f"row {index}: {e}")
            continue
        if isinstance(messages, str):
            messages = [{"role": "user", "content": f"{messages}\n\n{args.instruction}".strip()}]
        prompt, prompt_ids = encode(messages)
        if len(prompt_ids) > args.max_prompt_tokens:
            too_long += 1
        else:
            level = str(row.get("level") or "")
            problems.append(Problem(index, prompt, prompt_ids, answer, verifier, level))
    if bad and not args.skip_bad_rows:
        sys.exit(f"{len(bad)} of {len(rows)} rows of {source} have no usable problem or {answer_column} ({bad[0]}): "
                 "mend them, or pass --skip-bad-rows")
    print(f"{source}: {len(problems)} problems; {len(bad)} unusable ones and {too_long} with long prompts left out")
    return problems or sys.exit(f"no problem is left of {source}: --max-prompt-tokens is {args.max_prompt_tokens}")


# ---------------------------------------------------------------------------------------------------------------- ranks
def join_ranks():
    """With torchrun, one process group of all ranks. Only rank 0 prints results."""
    if WORLD > 1:
        if DEVICE == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl" if DEVICE == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(hours=2))  # for which a rank waits for a slower sampler
        sys.stdout = sys.stdout if RANK == 0 else open(os.devnull, "w")


def everyone(x) -> list:
    """x of every rank, in their order. All must call; without torchrun it is [x]."""
    if WORLD == 1:
        return [x]
    dist.all_gather_object(xs := [None] * WORLD, x)
    return xs


def full(x: Tensor) -> Tensor:
    """The whole of a tensor that FSDP keeps in pieces. All ranks must call."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def shard(model: nn.Module) -> nn.Module:
    """With torchrun, FSDP2: every rank keeps a piece of each weight, which is whole only while its layer works."""
    if WORLD > 1:
        for layer in model.lm.base_model.layers:
            fully_shard(layer)
        fully_shard(model, reshard_after_forward=True)
    return model.to(DEVICE)


# ------------------------------------------------------------------------------------------------------------- sampling
@dataclass
class Rollout:
    """One sampled response, with what the sampler and the verifier said of it."""

    problem: Problem
    token_ids: list[int]
    logprobs: list[float]
    text: str
    truncated: bool
    verdict: str
    reward: float
    advantage: float = 0.0

    @property
    def total_tokens(self) -> int:
        return len(self.problem.prompt_ids) + len(self.token_ids)


def start_engine(args: Args):
    from vllm import LLM  # takes ten seconds: --help and bad input answer before it

    return LLM(
        model=args.model, dtype="bfloat16" if DEVICE == "cuda" else "float32", seed=args.seed,
        max_model_len=args.max_prompt_tokens + args.max_response_tokens,
        gpu_memory_utilization=args.vllm_memory, enable_sleep_mode=DEVICE == "cuda",
        tensor_parallel_size=args.vllm_tp, distributed_executor_backend="external_launcher" if WORLD > 1 else None,
        logprobs_mode="processed_logprobs",  # temperature included: the probabilities that it samples from
    )


def sample(engine, problems: list[Problem], n: int, args: Args) -> list[list[Rollout]]:
    """n verified responses to each problem. Token ids go in and come out: text is never tokenised again. Every engine
    answers its share of the problems, and all ranks get all answers."""
    from vllm import SamplingParams

    engines, engine_rank = WORLD // args.vllm_tp, RANK // args.vllm_tp
    problems = problems[len(problems) * engine_rank // engines : len(problems) * (engine_rank + 1) // engines]
    params = SamplingParams(n=n, temperature=args.temperature, max_tokens=args.max_response_tokens, logprobs=0,
                            detokenize=False)  # token by token; all at once is faster
    prompts = [{"prompt_token_ids": p.prompt_ids} for p in problems]
    outputs = [(p, o) for p, request in zip(problems, engine.generate(prompts, params, use_tqdm=False))
               for o in request.outputs]
    texts = engine.get_tokenizer().batch_decode([o.token_ids for _, o in outputs], skip_special_tokens=True)
    verdicts = verifiers.verify([(p.verifier, text, p.answer) for (p, _), text in zip(outputs, texts)])
    rollouts = []
    for (problem, o), text, verdict in zip(outputs, texts, verdicts):
        logprobs = [step[token].logprob for token, step in zip(o.token_ids, o.logprobs)]
        truncated, reward = o.finish_reason == "length", float(verdict == "right")
        rollouts.append(Rollout(problem, list(o.token_ids), logprobs, text, truncated, verdict, reward))
    groups = [rollouts[i : i + n] for i in range(0, len(rollouts), n)]
    return [group for share in everyone(groups)[:: args.vllm_tp] for group in share]


# --------------------------------------------------------------------------------------------------------------- policy
class Policy(nn.Module):
    """A causal language model that returns the log-probs and entropies of the tokens asked for."""

    def __init__(self, args: Args):
        super().__init__()
        self.lm = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation="sdpa")
        self.lm.generation_config.do_sample = True  # or some models' temperature keeps Hugging Face from saving them
        self.temperature = args.temperature
        if args.gradient_checkpointing:
            self.lm.train().gradient_checkpointing_enable()  # Hugging Face ignores it outside of train()

    def score(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logprobs = (self.lm.get_output_embeddings()(hidden).float() / self.temperature).log_softmax(-1)
        entropy = -(logprobs.detach().exp() * logprobs.detach()).sum(-1)
        return logprobs.gather(-1, targets[:, None])[:, 0], entropy

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """log π(ids[:, t+1] | ids[:, :t+1]) and the entropy of that choice, in nats, where mask[:, t]; else 0.

        ids [B, L] are right-padded and need no attention mask: no token sees a later pad. The vocabulary is scored
        for 512 tokens at a time and again in the backward pass, because [B, L, vocabulary] would fill the memory.
        """
        with torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda", cache_enabled=False):
            hidden = self.lm.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][mask]
            chunks = zip(hidden.split(512), ids[:, 1:][mask].split(512))
            scores = [checkpoint(self.score, h, targets, use_reentrant=False) for h, targets in chunks]
        logprobs, entropy = (torch.cat(part) for part in zip(*scores))
        zeros = torch.zeros(mask.shape, device=mask.device)
        return zeros.masked_scatter(mask, logprobs), zeros.masked_scatter(mask, entropy)


def collate(rollouts: list[Rollout]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Token ids [B, L] and, at the position before each response token, the mask, log π_old and A, each [B, L − 1].
    The mask comes from lengths: an EOS that is also the pad stays a token to learn."""
    longest = max(r.total_tokens for r in rollouts)
    ids = torch.zeros(len(rollouts), longest, dtype=torch.long)
    mask = torch.zeros(len(rollouts), longest - 1, dtype=torch.bool)
    old_logprobs, advantage = torch.zeros(mask.shape), torch.zeros(mask.shape)
    for i, r in enumerate(rollouts):
        response = slice(len(r.problem.prompt_ids) - 1, r.total_tokens - 1)
        ids[i, : r.total_tokens] = torch.tensor(r.problem.prompt_ids + r.token_ids)
        mask[i, response], advantage[i, response] = True, r.advantage
        old_logprobs[i, response] = torch.tensor(r.logprobs)
    return ids.to(DEVICE), mask.to(DEVICE), old_logprobs.to(DEVICE), advantage.to(DEVICE)


# ------------------------------------------------------------------------------------------------------------ objective
def advantages(rewards_G: np.ndarray, positive_weight: float) -> np.ndarray:
    """A⁻_i: A_i = (r_i − mean) / (std + 1e-6) of the full group (population's std), times λ where it is positive."""
    advantages_G = (rewards_G - rewards_G.mean()) / (rewards_G.std() + 1e-6)
    return np.where(advantages_G < 0, advantages_G, positive_weight * advantages_G)


def policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantage: Tensor, mask: Tensor, args: Args):
    """−min(s A, clip(s, 1 − ε_low, 1 + ε_high) A) of each token [B, L − 1], and a value per response token to log.
    s is the same for all tokens of a response, so that --loss-norm sequence makes their mean the response's loss."""
    log_ratio = ((logprobs - old_logprobs) * mask).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
    ratio = log_ratio.exp().expand_as(mask)
    clipped_ratio = ratio.clamp(1 - args.clip_low, 1 + args.clip_high)
    loss = -torch.min(ratio * advantage, clipped_ratio * advantage)
    return loss, {
        "policy/ratio_mean": ratio[mask],
        "policy/ratio_max": ratio[mask],
        "policy/clip_low": ((ratio < 1 - args.clip_low) & (advantage < 0))[mask],
        "policy/clip_high": ((ratio > 1 + args.clip_high) & (advantage > 0))[mask],
    }


# --------------------------------------------------------------------------------- update, sync, evaluation, checkpoint
def microbatches(rollouts: list[Rollout], budget: int) -> list[list[Rollout]]:
    """This rank's share of the rollouts: those of like length together, in batches of at most `budget` tokens, with
    padding of at most a tenth of the others, or of one rollout. FSDP wants equally many batches on every rank: some may
    get a rollout without response, so without loss."""
    batches, batch, tokens = [], [], 0
    for r in sorted(rollouts, key=lambda r: r.total_tokens):
        tokens += r.total_tokens
        if batch and (len(batch) + 1) * r.total_tokens > min(budget, 1.1 * tokens):
            batches.append(batch)
            batch, tokens = [], r.total_tokens
        batch.append(r)
    batches.append(batch)
    batches += [[replace(rollouts[0], token_ids=[], logprobs=[])]] * (-len(batches) % WORLD)
    return batches[RANK::WORLD]


def update(policy: Policy, reference: Policy | None, optimizer, groups: list[list[Rollout]], args: Args) -> dict:
    """--minibatches optimizer steps. Returns metrics, those of tokens as means over all tokens with a gradient."""
    values, losses, norms = defaultdict(list), [], []
    gather = lambda name: torch.cat(everyone(torch.cat(values[name]).cpu()))
    for k in range(args.minibatches):
        minibatch = [r for group in groups[k :: args.minibatches] for r in group]  # problems come in random order
        mean_length, longest = np.mean([len(r.token_ids) for r in minibatch]), args.max_response_tokens
        trained = [r for r in minibatch if r.advantage != 0 or args.kl_coef > 0]
        if not trained:
            continue  # nothing to learn, so Adam's momentum should not move the weights either
        optimizer.zero_grad()
        losses.append(0.0)
        for batch in microbatches(trained, args.microbatch_tokens):
            ids, mask, old_logprobs, advantage = collate(batch)
            logprobs, entropy = policy(ids, mask)
            loss, stats = policy_loss(logprobs, old_logprobs, advantage, mask, args)
            stats["policy/entropy"] = entropy[mask]
            if not norms:  # the weights are still the sampler's
                gap = (logprobs - old_logprobs).abs()[mask]
                stats |= {"sampler/logprob_gap_mean": gap, "sampler/logprob_gap_max": gap}
            if reference is not None:
                log_ratio = reference(ids, mask)[0] - logprobs
                kl = log_ratio.exp() - 1 - log_ratio  # never negative: k3 of Schulman's note
                loss, stats["policy/kl"] = loss + args.kl_coef * kl, kl[mask]
            lengths = {"sequence": mask.sum(-1, keepdim=True).clamp(min=1), "token": mean_length, "constant": longest}
            loss = (loss * mask / lengths[args.loss_norm]).sum() / len(minibatch)  # skipped rollouts count
            (loss * WORLD).backward()  # FSDP takes the mean over ranks, but the denominator is global
            losses[-1] += loss.detach()
            for name, value in stats.items():
                values[name].append(value.detach().float())
        losses[-1] = sum(everyone(losses[-1].item()))
        gaps = gather("sampler/logprob_gap_mean")
        if not (gap := gaps.sum() / max(1, len(gaps))) <= args.max_logprob_gap:  # true for NaN as well
            sys.exit(f"with the same weights, sampler and trainer differ by {gap:.3f} nats per token, more than the "
                     f"--max-logprob-gap of {args.max_logprob_gap}: do both support this model and its precision?")
        norms.append(nn.utils.clip_grad_norm_(policy.parameters(), args.max_grad_norm).item())
        if not np.isfinite(losses[-1] + norms[-1]):
            raise FloatingPointError(f"the loss of mini-batch {k + 1} is {losses[-1]}, its gradient's norm {norms[-1]}")
        optimizer.step()
    if not norms:
        return {}
    tokens = {name: gather(name) for name in values}
    metrics = {name: (v.max() if name.endswith("_max") else v.mean()).item() for name, v in tokens.items() if len(v)}
    return metrics | {"policy/loss": float(np.mean(losses)), "policy/grad_norm": float(np.mean(norms))}


def sync_weights(policy: Policy, engine):
    """The policy's weights into the engine, one tensor at a time, and the engine's cache of old prefixes emptied."""
    if DEVICE == "cuda":
        engine.wake_up(tags=["weights"])
    # state_dict and not named_parameters: it names a tied lm_head, of which vLLM on a CPU keeps a packed copy
    weights = ((name, full(weight)) for name, weight in policy.lm.state_dict().items())
    engine.collective_rpc("reload_weights", kwargs=dict(weights_iterator=weights))
    if DEVICE == "cuda":
        engine.wake_up(tags=["kv_cache"])
    engine.reset_prefix_cache()


def describe(groups: list[list[Rollout]]) -> dict:
    """Metrics of what was sampled, before anything is learnt from it."""
    rollouts = [r for group in groups for r in group]
    right_PG = np.array([[r.reward for r in group] for group in groups])
    return {
        "reward/mean": right_PG.mean(),
        **{f"reward/{verdict}": np.mean([r.verdict == verdict for r in rollouts]) for verdict in verifiers.VERDICTS},
        "group/all_right": right_PG.all(axis=1).mean(),
        "group/all_wrong": (right_PG == 0).all(axis=1).mean(),
        "response/length": np.mean([len(r.token_ids) for r in rollouts]),
        "response/truncated": np.mean([r.truncated for r in rollouts]),
        # −log π_old averaged over sampled tokens estimates the mean entropy without bias, in nats per token
        "sampler/entropy": -np.mean([logprob for r in rollouts for logprob in r.logprobs]),
    }


def evaluate(engine, problems: list[Problem], args: Args) -> dict:
    """pass@1 (mean over k samples) and pass@k (any of the k), over all problems and by level."""
    groups, k, metrics = sample(engine, problems, args.eval_samples, args), args.eval_samples, {}
    for level in sorted({""} | {p.level for p in problems}):
        right = np.array([[r.reward for r in group] for group in groups if level in ("", group[0].problem.level)])
        suffix = f"/{level}" if level else ""
        metrics |= {f"eval/pass@1{suffix}": right.mean(), f"eval/pass@{k}{suffix}": right.max(axis=1).mean()}
    sampled = describe(groups)
    return metrics | {"eval/unparsed": sampled["reward/unparsed"], "eval/truncated": sampled["response/truncated"]}


def show(group: list[Rollout], step: int, run: Path, printed: bool):
    """One group to rollouts.jsonl, and one of its responses to the screen."""
    with open(run / "rollouts.jsonl", "a") as file:
        file.writelines(json.dumps({"step": step} | asdict(r)) + "\n" for r in group)
    if printed:
        r = group[0]
        tqdm.write(f"\n[step {step}] {r.problem.prompt}\n{r.text}\n[{r.verdict}; the answer is {r.problem.answer}]\n")


def whole(tensors) -> dict:
    """(name, tensor) pairs as whole tensors on rank 0's CPU, one at a time; nothing on the others. All must call."""
    kept = {}
    for name, tensor in tensors:
        tensor = full(tensor)
        if RANK == 0:
            kept[name] = tensor.cpu()
    return kept


def optimizer_state(optimizer) -> dict:
    return {i: whole(state.items()) for i, state in optimizer.state_dict()["state"].items()}


def restore_optimizer(optimizer, state: dict):
    """What `optimizer_state` returned on rank 0, on any number of ranks. Learning rates stay those of the flags."""
    def piece(parameter, tensor):
        if isinstance(parameter, DTensor) and tensor.ndim:
            return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
        return tensor.clone()  # the file that it is mapped from will be deleted

    parameters = optimizer.param_groups[0]["params"]
    state = {i: {name: piece(parameters[i], tensor) for name, tensor in state[i].items()} for i in state}
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def checkpoints(run: Path) -> list[Path]:
    return sorted(run.glob("step_" + "[0-9]" * 6))


def save_checkpoint(policy: Policy, tokenizer, trainer: dict, run: Path, step: int, args: Args) -> bool:
    """A Hugging Face folder and in it trainer.pt, written beside its place and renamed into it: complete, or not there.
    Then deletes all but the --keep newest ones. False if it could not be written, and then nothing is deleted."""
    weights = whole(policy.lm.named_parameters())
    if RANK > 0:
        return True
    path = run / f"step_{step:06d}"
    partial = path.with_suffix(".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        policy.lm.save_pretrained(partial, state_dict=weights)
        tokenizer.save_pretrained(partial)
        torch.save(trainer | {"step": step}, partial / "trainer.pt")
        os.sync()
        partial.rename(path)
    except Exception as e:  # safetensors, torch and the system each have their own for a full disk
        shutil.rmtree(partial, ignore_errors=True)
        reason = " ".join(str(e).split())[:300]
        tqdm.write(f"cannot write {path}: {reason}. Older checkpoints are intact.", file=sys.stderr)
        return False
    for old in checkpoints(run)[: -args.keep]:
        old.rename(old.with_suffix(".partial"))
    for partial in run.glob("step_*.partial"):
        shutil.rmtree(partial, ignore_errors=True)
    return True


def load_checkpoint(run: Path, args: Args) -> tuple[Policy, dict]:
    """The policy of the newest checkpoint and its trainer.pt; without one, of --model and nothing."""
    *older, path = [args.model, *checkpoints(run)]
    try:
        policy = Policy(replace(args, model=str(path)))
        return policy, torch.load(path / "trainer.pt", mmap=True) if older else {}
    except Exception as e:
        advice = f"delete it to continue from {older[-1]}" if older else "is it a causal language model?"
        sys.exit(f"{path} cannot be read ({' '.join(str(e).split())[:200]}): {advice}")


def rewind(run: Path, step: int) -> list[dict]:
    """Forgets what the logs say of later steps, and lines that a kill cut short. Returns the metrics that are left."""
    kept = {}
    for file in (run / "metrics.jsonl", run / "rollouts.jsonl"):
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        kept[file.stem] = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        partial = file.with_suffix(".partial")
        partial.write_text("".join(kept[file.stem]))
        partial.rename(file)
    return [json.loads(line) for line in kept["metrics"]]


def watch_signals() -> list[float]:
    """When SIGTERM or Ctrl-C came, for the end of the step. One more, not just the same from a scheduler and torchrun
    both, ends the process at once."""
    received = []

    def receive(number, frame):
        if received and time.time() > received[0] + 3:
            os._exit(128 + number)
        received.append(time.time())

    signal.signal(signal.SIGTERM, receive)
    signal.signal(signal.SIGINT, receive)
    return received


# ----------------------------------------------------------------------------------------------------------------- main
def seed_everything(seed: int, step: int, engine: int = 0):
    """vLLM runs in this process: on a CPU it draws from torch's generator, on a GPU it takes seeds from numpy's. With a
    seed for every step, a resumed run needs no saved state; the ranks of one engine must draw the same samples."""
    torch.manual_seed(hash((seed, step, engine)))
    np.random.seed(hash((seed, step, engine)) % 2**32)


def main(args: Args):
    join_ranks()
    run = Path("runs") / everyone(args.name or f"{Path(__file__).stem}-{time.strftime('%Y%m%d-%H%M%S')}")[0]
    if run.exists() and not args.resume:
        sys.exit(f"{run} already holds a run: choose another --name, or continue it with --resume")
    try:
        tokenizer, config = AutoTokenizer.from_pretrained(args.model), AutoConfig.from_pretrained(args.model)
    except Exception as e:
        sys.exit(f"{args.model} is neither a model's folder nor on the hub: {' '.join(str(e).split())[:300]}")
    if args.max_prompt_tokens + args.max_response_tokens > getattr(config, "max_position_embeddings", np.inf):
        sys.exit(f"{args.model} reads {config.max_position_embeddings} tokens: lower --max-{{prompt,response}}-tokens")
    problems = load_problems(args.dataset, tokenizer, args)
    if args.eval_dataset:
        held_out = load_problems(args.eval_dataset, tokenizer, args)[: args.eval_problems]
    else:
        shuffled = np.random.default_rng(args.seed).permutation(len(problems))
        held_out, problems = ([problems[i] for i in part] for part in np.split(shuffled, [args.eval_problems]))
    if len(problems) < args.problems:
        sys.exit(f"{len(problems)} problems to train on are fewer than the --problems {args.problems} of one step")

    epochs = range(args.steps * args.problems // len(problems) + 1)
    order = np.concatenate([np.random.default_rng((args.seed, e)).permutation(len(problems)) for e in epochs])

    mode = None if args.wandb and RANK == 0 else "disabled"
    known = dict(id=run.name, resume="allow") if args.resume else {}
    wandb.init(project="minrlvr", name=run.name, config=asdict(args), mode=mode, **known)
    policy, trainer = load_checkpoint(run, args)
    engine = start_engine(replace(args, model=policy.lm.name_or_path))
    policy = shard(policy)
    reference = shard(Policy(args).requires_grad_(False)) if args.kl_coef > 0 else None
    optimizer = torch.optim.AdamW(policy.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=0.0)
    if trainer:
        restore_optimizer(optimizer, trainer["optimizer"])
    done = trainer.pop("step", 0)
    if RANK == 0:
        run.mkdir(parents=True, exist_ok=True)
        if done:
            old = json.loads((run / "args.json").read_text())
            changed = [f"--{name} {old.get(name)} -> {value}" for name, value in asdict(args).items()
                       if old.get(name) != value and name != "resume"]
            print(f"{run} continues after step {done}; changed flags: {', '.join(changed) or 'none'}")
        (run / "args.json").write_text(json.dumps(asdict(args), indent=2))

    def log(step, metrics):
        if RANK == 0:
            with open(run / "metrics.jsonl", "a") as file:
                file.write(json.dumps({"step": step} | {name: float(value) for name, value in metrics.items()}) + "\n")
            wandb.log(metrics, step=step)

    rows = everyone(rewind(run, done or -1) if RANK == 0 else None)[0]
    evaluated = [{name: row[name] for name in row if name.startswith("eval/")} for row in rows if "eval/pass@1" in row]
    if not evaluated:
        seed_everything(args.seed, 0, RANK // args.vllm_tp)
        evaluated = [evaluate(engine, held_out, args)]
        log(0, evaluated[0])
    before, scores = evaluated[0], evaluated[-1]
    if before["eval/pass@1"] == 0:
        print(f"warning: no held-out response is right; {before['eval/truncated']:.0%} reached --max-response-tokens, "
              f"{before['eval/unparsed']:.0%} have no final \\boxed{{}}: is it the length or the template?")
    signals, stopped = watch_signals(), False
    bar = tqdm(range(done + 1, args.steps + 1), desc=run.name, initial=done, total=args.steps, disable=RANK > 0)
    for step in bar:
        seed_everything(args.seed, step, RANK // args.vllm_tp)
        clock = [time.time()]
        dealt = [problems[i] for i in order[(step - 1) * args.problems : step * args.problems]]
        groups = sample(engine, dealt, args.group_size, args)
        metrics = describe(groups)
        for group in groups:
            for r, advantage in zip(group, advantages(np.array([r.reward for r in group]), args.positive_weight)):
                r.advantage = float(advantage)
        clock.append(time.time())

        if DEVICE == "cuda":
            engine.sleep(level=1)  # not 2, which drops the weights that the sync writes into
        try:
            metrics |= update(policy, reference, optimizer, groups, args)
        except FloatingPointError as e:
            kept = ", ".join(path.name for path in checkpoints(run)) or "none"
            sys.exit(f"step {step}: {e}. That update was not made; checkpoints in {run}: {kept}. Lower --lr?")
        clock.append(time.time())
        optimizer.zero_grad()  # the memory of the gradients is the sampler's now
        sync_weights(policy, engine)
        clock.append(time.time())

        metrics |= dict(zip(("perf/sample_s", "perf/train_s", "perf/sync_s"), np.diff(clock)))
        metrics["perf/tokens_per_s"] = sum(len(r.token_ids) for g in groups for r in g) / (clock[-1] - clock[0])
        metrics["perf/gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30 if DEVICE == "cuda" else 0
        if evaluating := step % args.eval_every == 0 or step == args.steps:
            scores = evaluate(engine, held_out, args)
        log(step, metrics | scores if evaluating else metrics)
        if RANK == 0:
            show(groups[0], step, run, printed=evaluating)
        bar.set_postfix_str(f"reward {metrics['reward/mean']:.2f}, held-out pass@1 {scores['eval/pass@1']:.2f}, "
                            f"length {metrics['response/length']:.0f}, entropy {metrics['sampler/entropy']:.3f}")
        stopped = step < args.steps and any(everyone(bool(signals)))  # at the same step on all ranks
        if stopped or step == args.steps or step % args.save_every == 0:
            trainer = {"optimizer": optimizer_state(optimizer)}
            saved = save_checkpoint(policy, tokenizer, trainer, run, step, args)
            if not saved and (stopped or step == args.steps):
                sys.exit(1)
        if stopped:
            break
    for name in (name for name in scores if name in before):
        print(f"{name:24} {before[name]:.3f} -> {scores[name]:.3f}")
    print(f"{run} holds metrics.jsonl, rollouts.jsonl and {', '.join(path.name for path in checkpoints(run))}")
    if stopped:
        print("stopped by a signal: the same command with --resume goes on")


if __name__ == "__main__":
    record(main)(tyro.cli(Args))
