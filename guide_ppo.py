r"""Guide-PPO: hints where every rollout failed, with a critic ("Adaptive Guidance Accelerates RL of Reasoning
Models", Nath et al., arXiv 2506.13923; PPO: Schulman et al., arXiv 1707.06347; GAE: arXiv 1506.02438).

For each problem q sample a group of G responses y_i from the sampler π_old, verify them (r_i = 1 if right,
else 0), let G more that see a hint h join the group where all fail, and maximise

    J(θ) = E[ Σ_i Σ_t min( w_it A_it , clip(w_it, 1 − ε_low, 1 + ε_high) A_it ) / Σ_i |y_i| ]  −  β KL(π_θ ‖ π_ref)

    w_it = π_θ(y_it | q, y_i<t) / π_old(y_it | c_i, y_i<t)        c_i = (q, h) if y_i was guided, else q
    Â_it = Σ_l (γλ)^l δ_i,t+l                                     `gae()`; A_it is Â_it whitened over the step's tokens
    δ_it = [t = |y_i|] r_i + γ V(q, y_i≤t) − V(q, y_i<t)          V = 0 after the last token, truncated or not

The critic minimises ½ max( (V − R)² , (clip(V, V_old − ε_v, V_old + ε_v) − R)² ) with R_it = Â_it + V_old(q, y_i<t).
The numerator and the critic never see the hint. What differs from guide_grpo.py:
 1. `Critic`, `gae()` and `estimate()` take the place of `advantages()`; the group only decides who gets a hint.
 2. `update()` trains the critic beside the policy. --critic-warmup-steps lets it go ahead alone.
 3. Advantages are hardly ever zero, so every rollout costs a backward pass; a token's share is 1/Σ|y|.
The paper names a PPO variant and its code does not have it: the critic on the hint-free prompt, γ = λ = 1 and the joint
group, from all of which the critic learns, are our reading. Memory: a second backbone, twice that of guide_grpo.py.

On a CPU with the toy (see toy.py), a few minutes, and on a GPU:

    python guide_ppo.py --model toy/model --dataset toy/train.jsonl --eval-dataset toy/test.jsonl \
        --max-prompt-tokens 128 --max-response-tokens 64 --problems 24 --steps 160 --lr 2e-4 --critic-lr 1e-3

    python guide_ppo.py --model Qwen/Qwen2.5-Math-1.5B --dataset vaskarnath/guide_math_rl_dataset \
        --max-response-tokens 2048 --gradient-checkpointing
"""

import inspect
import json
import os
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import timedelta
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Literal

import datasets
import numpy as np
import torch
import tyro
import wandb
from datasets.fingerprint import Hasher
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.checkpoint import state_dict as dcp
from torch.distributed.fsdp import fully_shard
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
from transformers.core_model_loading import revert_weight_conversion

import verifiers

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))  # set by torchrun
LOCAL_RANK = int(os.environ.get("LOCAL_RANK", 0))  # on its machine
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # engine in this process: one seed, direct weight sync
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

WHOLE = dcp.StateDictOptions(full_state_dict=True, cpu_offload=True)  # tensors unsharded, on rank 0; all ranks call
LOGS = ("metrics.jsonl", "rollouts.jsonl")


# ------------------------------------------------------------------------------------------------------------ arguments
@dataclass
class Args:
    """Reinforcement learning with verifiable rewards in one file: vLLM samples, a Hugging Face model learns."""

    model: str  # Hugging Face name or local folder of the model to train
    dataset: str  # Problems: a .jsonl, .json, .csv or .parquet file, a folder, or NAME[:CONFIG[:SPLIT]] on the hub
    eval_dataset: str = ""  # Held-out problems in the same forms. Empty: hold out --eval-problems of the others
    verifier: str = "math"  # Who checks: math, choice, code or your FILE.py:FUNCTION, where no column verifier says
    skip_bad_rows: bool = False  # Leave out rows without a usable problem or answer, instead of stopping
    instruction: str = "Think step by step, and put your final answer in \\boxed{}."  # Follows a problem that is text
    max_prompt_tokens: int = 1024  # Problems with longer prompts are left out and counted
    max_response_tokens: int = 2048  # Longer responses are cut and count as truncated
    name: str = ""  # The run's folder is runs/NAME. Empty: script and time
    resume: bool = False  # Continue runs/NAME from its newest checkpoint. Without one, start it
    seed: int = 0  # Decides the order of problems, the samples and the mini-batches

    steps: int = 200  # Rollout batches to sample and train on
    problems: int = 128  # Problems per step
    group_size: int = 8  # G: responses per problem
    dynamic_sampling: bool = False  # Replace groups all right or all wrong by further problems, 9 times at most (DAPO)
    minibatches: int = 2  # Optimizer steps per rollout batch. Only the first is on-policy
    lr: float = 1e-6  # Learning rate of AdamW (β .9 and .99, no weight decay), constant
    critic_lr: float = 1e-5  # Learning rate of the critic's AdamW, constant
    critic_warmup_steps: int = 0  # Steps at the start in which only the critic learns
    max_grad_norm: float = 1.0  # Gradients of a larger norm are scaled down to it
    gae_gamma: float = 1.0  # γ of GAE, the discount per token
    gae_lambda: float = 1.0  # λ of GAE: 1 trusts the reward alone, 0 the critic's next value alone
    clip_value: float = 0.2  # ε_v: values further than this from those at sampling time are not pulled further
    clip_low: float = 0.2  # ε_low: with A < 0, a token whose ratio is below 1 − ε_low is not pushed further down
    clip_high: float = 0.2  # ε_high: with A > 0, a token whose ratio is above 1 + ε_high is not pulled further up
    loss_norm: Literal["sequence", "token", "constant"] = "token"  # Divisor of a loss: |y|, the mean |y|, the limit
    kl_coef: float = 0.0  # β, the weight of the KL to the starting model, a frozen copy of which is then kept
    guidance: Literal["failed", "always", "never"] = "failed"  # Whom to sample again with the hint: failed groups, all
    guide_threshold: float = 0.0  # A group has failed when its share of right responses is at most this
    guided_group: Literal["mixed", "replace"] = "mixed"  # Guided rollouts join the failed group, or replace it
    guided_ratio: bool = True  # Weigh guided tokens by their importance ratio, or by 1 as if they were on-policy
    clip_guided: bool = True  # Clip guided tokens as all others; above 1 + ε_high no gradient, whatever the sign of A
    # Replace a guided token's ratio r by r / (r + γ), with --gamma or the 0.9 quantile of the step's ratios as γ
    reshape: Literal["none", "constant", "quantile"] = "none"
    gamma: float = 0.1  # γ of --reshape constant
    temperature: float = 1.0  # Of sampling, in training and evaluation. The trainer divides its logits by it too

    eval_every: int = 20  # Steps between evaluations. There is always one before the first step and after the last
    eval_problems: int = 500  # Evaluate on at most this many problems, the first of --eval-dataset
    eval_samples: int = 4  # Responses per problem in an evaluation: the k of pass@k, and what pass@1 averages over
    wandb: bool = False  # Log to Weights & Biases as well, project minrlvr
    save_every: int = 20  # Steps between checkpoints. There is always one at the end, and where a signal stops the run
    keep: int = 2  # How many checkpoints to keep, the newest ones

    vllm_tp: int = 1  # With torchrun, how many ranks share one vLLM engine
    vllm_memory: float = 0.45  # Share of the GPU's memory for vLLM. On a CPU VLLM_CPU_KVCACHE_SPACE decides, in GiB
    microbatch_tokens: int = 8192  # Padded tokens per forward and backward pass. Lower it if training lacks memory
    gradient_checkpointing: bool = False  # Recompute activations in the backward pass: slower, far less memory
    max_logprob_gap: float = 0.05  # Stop when sampler and trainer differ by more nats per token on the same weights

    def __post_init__(self):
        for name, value in vars(self).items():
            if type(value) in (int, float) and (value or getattr(Args, name) and name != "gae_lambda"):
                require(0 < value < np.inf, f"--{name.replace('_', '-')} must be a positive number, but is {value}")
        require(self.gae_gamma <= 1 and self.gae_lambda <= 1, "--gae-gamma and --gae-lambda must be at most 1")
        require(self.minibatches <= self.problems, "--minibatches are more than --problems: lower the former")
        require(self.guide_threshold < 1, "--guide-threshold 1 calls every group failed: use --guidance always")
        require(self.guided_ratio or self.reshape == "none", "--no-guided-ratio leaves nothing to --reshape: drop one")
        require(self.reshape == "none" or not self.clip_guided, f"--reshape {self.reshape} makes most ratios so small "
                "that what failed is clipped: add --no-clip-guided")
        require(self.name or not self.resume, "--resume needs the --name of the run to continue")
        require("/" not in self.name and self.name not in (".", ".."), "--name is the name of a folder within runs/")
        require(WORLD % self.vllm_tp == 0, f"--vllm-tp {self.vllm_tp} does not divide the {WORLD} ranks of torchrun")
        with user_error("--verifier"):
            verifiers.load(self.verifier)


def require(condition, sentence: str):
    if not condition:
        sys.exit(sentence)


@contextmanager
def user_error(sentence: str):
    """Ends the program with a sentence and the cause on one line, instead of a traceback."""
    try:
        yield
    except Exception as e:
        sys.exit(f"{sentence}: {' '.join(str(e).split())[:300] or type(e).__name__}")


# ------------------------------------------------------------------------------------------------------------- problems
@dataclass
class Problem:  # one row of the dataset, ready for the sampler
    row: int  # its place in the dataset, from 0
    prompt: str
    prompt_ids: list[int]
    hint_ids: list[int]  # of the prompt with the hint in its user turn; empty without one
    answer: str
    verifier: str
    level: str


def encode(messages: list[dict], tokenizer) -> tuple[str, list[int]]:
    """The prompt, as the chat template writes it or else plainly, and its token ids."""
    if tokenizer.chat_template:
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    else:
        prompt = "Question: " + "\n".join(turn["content"] for turn in messages) + "\nAnswer:"
    return prompt, tokenizer(prompt, add_special_tokens=not tokenizer.chat_template).input_ids


def add_hint(messages: list[dict], hint: str | list[dict]) -> list[dict]:
    """The chat with a hint in its last user turn: added to it if it is a text; a chat list's last turn replaces it."""
    users = [i for i, turn in enumerate(messages) if turn["role"] == "user"]
    if isinstance(hint, str) and users:
        hint = [messages[users[-1]] | {"content": f"{messages[users[-1]]['content']}\n\nHint: {hint}"}]
    turn = hint[-1] if isinstance(hint, list) and isinstance(hint[-1], dict) else {}
    if not users or turn.get("role") != "user" or not isinstance(turn.get("content"), str):
        raise ValueError(f"the hint is no text or turns that end with the user's, or the chat has none: {hint!r:.50}")
    return messages[: users[-1]] + [turn] + messages[users[-1] + 1 :]


def prepare(row: dict, index: int, tokenizer, args: Args) -> dict:
    """The fields of a Problem, and whether its prompt fits. Raises ValueError where the row cannot be used."""
    try:
        row = verifiers.read_row(row, args.verifier, args.instruction)
        prompt, prompt_ids = encode(row["messages"], tokenizer)
        hint_ids = encode(add_hint(row["messages"], row["hint"]), tokenizer)[1] if row["hint"] else []
        hint_ids = hint_ids if len(hint_ids) <= args.max_prompt_tokens else []
        problem = Problem(index, prompt, prompt_ids, hint_ids, row["answer"], row["verifier"], row["level"])
    except Exception as e:  # a chat template may raise anything
        if row != {"jsonl": ""} and not args.skip_bad_rows:  # but for a line that is empty
            raise ValueError(f"row {index}: {e}. Mend it, or pass --skip-bad-rows") from None
        problem = Problem(index, "", [], [], "", "", "")
    return vars(problem) | {"fits": 0 < len(problem.prompt_ids) <= args.max_prompt_tokens}


def load_problems(source: str, tokenizer, args: Args) -> datasets.Dataset:
    """The fields of a Problem in each row: made once, by all cores, then read from the cache of `datasets`. Ends with a
    sentence if a row has no usable problem or answer, or if no prompt fits."""
    with user_error(f"cannot load the dataset {source}"):
        rows = verifiers.reading.load_rows(source)
    kinds = {int: datasets.Value("int64"), str: datasets.Value("string"), list[int]: [datasets.Value("int32")]}
    columns = {field.name: kinds[field.type] for field in fields(Problem)} | {"fits": datasets.Value("bool")}
    key = [rows._fingerprint, tokenizer, args.verifier, args.instruction, args.skip_bad_rows, args.max_prompt_tokens]
    key += map(inspect.getsource, (prepare, encode, add_hint, verifiers, verifiers.reading, verifiers.sandbox))
    if LOCAL_RANK > 0:
        all_gather("wait for the machine's first rank, which fills the cache")
    with user_error(f"cannot use {source}"):
        problems = rows.map(prepare, with_indices=True, fn_kwargs=dict(tokenizer=tokenizer, args=args), desc=source,
                            features=datasets.Features(columns), remove_columns=rows.column_names,
                            num_proc=min(os.cpu_count(), len(rows) // 2500) or None, new_fingerprint=Hasher.hash(key))
    if LOCAL_RANK == 0:
        all_gather("it is filled")
    fits = np.flatnonzero(problems["fits"])
    print(f"{source}: {len(fits)} of {len(rows)} rows are problems with a prompt that fits")
    require(len(fits), f"none of {len(rows)} rows is left of {source}: --max-prompt-tokens is {args.max_prompt_tokens}")
    return problems.remove_columns("fits").select(fits)


# ---------------------------------------------------------------------------------------------------------------- ranks
def init_distributed():
    """With torchrun, one process group of all ranks. Only rank 0 prints results."""
    if WORLD > 1:
        if GPU:
            torch.cuda.set_device(LOCAL_RANK)
        dist.init_process_group("cpu:gloo,cuda:nccl" if GPU else "gloo", timeout=timedelta(hours=2))  # slow samplers
        if RANK > 0:
            sys.stdout = open(os.devnull, "w")


def all_gather(x) -> list:
    """x of every rank, in their order. All must call; without torchrun it is [x]."""
    xs = [x] * WORLD
    if WORLD > 1:
        dist.all_gather_object(xs, x)
    return xs


def shard(model: nn.Module) -> nn.Module:
    """With torchrun, FSDP2: every rank keeps a piece of each weight, which is whole only while its layer works."""
    if WORLD > 1:
        for layer in [m for m in model.modules() if type(m).__name__ in model.lm._no_split_modules]:
            fully_shard(layer)
        fully_shard(model, reshard_after_forward=True)
    return model.to(DEVICE)


# ------------------------------------------------------------------------------------------------------------- sampling
@dataclass
class Rollout:  # one sampled response, and what sampler, verifier and trainer say of it
    problem: Problem
    token_ids: list[int]
    logprobs: list[float]
    text: str
    truncated: bool
    verdict: str = "unparsed"
    reward: float = 0.0
    guided: bool = False
    advantage: list[float] | None = None
    trainer_logprobs: list[float] | None = None  # at its mini-batch, where it has a gradient, on the rank that had it
    values: list[float] | None = None
    returns: list[float] | None = None


def start_engine(args: Args):
    from vllm import LLM  # takes ten seconds: --help and bad input answer before it
    with user_error(f"vLLM cannot serve {args.model}"):
        return LLM(args.model, dtype="bfloat16" if GPU else "float32", seed=args.seed, enable_sleep_mode=GPU,
                   max_model_len=args.max_prompt_tokens + args.max_response_tokens, tensor_parallel_size=args.vllm_tp,
                   gpu_memory_utilization=args.vllm_memory, logprobs_mode="processed_logprobs",  # with the temperature
                   distributed_executor_backend="external_launcher" if WORLD > 1 else None)


def sample(engine, problems: list[Problem], n: int, args: Args) -> list[list[Rollout]]:
    """n verified responses to each problem. Token ids go in and come out: text is never tokenised again. Every engine
    answers its share of the problems, and all ranks get all answers."""
    from vllm import SamplingParams
    share = np.array_split(problems, WORLD // args.vllm_tp)[RANK // args.vllm_tp]
    params = SamplingParams(n=n, temperature=args.temperature, max_tokens=args.max_response_tokens, logprobs=0,
                            detokenize=False)  # token by token; all at once is faster
    prompts = [{"prompt_token_ids": p.prompt_ids} for p in share]
    bar = partial(tqdm, leave=False) if RANK == 0 and sys.stderr.isatty() else False
    rollouts, tokenizer = [], engine.get_tokenizer()
    for problem, request in zip(share, engine.generate(prompts, params, use_tqdm=bar)):
        texts = tokenizer.batch_decode([o.token_ids for o in request.outputs], skip_special_tokens=True)
        for o, text in zip(request.outputs, texts):
            logprobs = [step[token].logprob for token, step in zip(o.token_ids, o.logprobs)]
            rollouts.append(Rollout(problem, list(o.token_ids), logprobs, text, o.finish_reason == "length"))
    complete = [r for r in rollouts if not r.truncated]  # a response that was cut has not answered
    verdicts = verifiers.verify([(r.problem.verifier, r.text, r.problem.answer) for r in complete])
    for r, verdict in zip(complete, verdicts):
        r.verdict, r.reward = verdict, float(verdict == "right")
    groups = [rollouts[i : i + n] for i in range(0, len(rollouts), n)]
    return sum(all_gather(groups)[:: args.vllm_tp], [])  # the ranks of one engine have the same


def guide(engine, groups: list[list[Rollout]], args: Args) -> list[list[Rollout]]:
    """Samples again with the hint where --guidance says so, and changes those groups in place. Returns the new ones."""
    threshold = {"never": -1.0, "failed": args.guide_threshold, "always": 1.0}[args.guidance]
    failed = [i for i, group in enumerate(groups) if np.mean([r.reward for r in group]) <= threshold]
    problems = {i: groups[i][0].problem for i in failed if groups[i][0].problem.hint_ids}
    guided = sample(engine, [replace(p, prompt_ids=p.hint_ids) for p in problems.values()], args.group_size, args)
    for (i, problem), fresh in zip(problems.items(), guided):
        for r in fresh:
            r.problem, r.guided = problem, True  # it will be trained without the hint
        groups[i] = groups[i] + fresh if args.guided_group == "mixed" else fresh
    return guided


# --------------------------------------------------------------------------------------------------------------- policy
class Policy(nn.Module):
    """A causal language model that returns the log-probs and entropies of the tokens asked for."""

    def __init__(self, args: Args):
        super().__init__()
        config = AutoConfig.from_pretrained(args.model).get_text_config()
        attention = "eager" if getattr(config, "attn_logit_softcapping", None) else None  # sdpa leaves the cap out
        self.lm = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation=attention)
        self.lm.generation_config.do_sample = True  # or some models' temperature keeps Hugging Face from saving them
        self.temperature = args.temperature
        if args.gradient_checkpointing:
            for layer in [m for m in self.lm.modules() if type(m).__name__ in self.lm._no_split_modules]:
                layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
        ids = torch.arange(9)[None]
        with torch.no_grad():
            logprobs = (self.lm(ids, use_cache=False).logits[0, :8] / self.temperature).log_softmax(-1).diagonal(1)
            differ = (self(ids, ids[:, 1:] > 0)[0] - logprobs).abs().max()
        require(differ < 1e-3, f"{type(self.lm).__name__} changes its logits in a way that Policy.score does not know")

    def score(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits, config = self.lm.get_output_embeddings()(hidden).float(), self.lm.config.get_text_config()
        logits = logits * (getattr(config, "logit_scale", None) or 1) / getattr(config, "logits_scaling", 1)
        cap = getattr(config, "final_logit_softcapping", None)
        logits = cap * (logits / cap).tanh() if cap else logits
        logprobs = (logits / self.temperature).log_softmax(-1)
        entropy = -(logprobs.detach().exp() * logprobs.detach()).sum(-1)
        return logprobs.gather(-1, targets[:, None])[:, 0], entropy

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """log π(ids[:, t+1] | ids[:, :t+1]) and the entropy of that choice, in nats; 0 where mask[:, t] is not set.
        ids [B, L] are padded on the right and need no attention mask: no token sees a later pad. The vocabulary is
        scored for 512 tokens at a time and again in the backward pass: [B, L, vocabulary] would fill the memory."""
        with torch.autocast(DEVICE, torch.bfloat16, enabled=GPU, cache_enabled=False):
            # forward, because vLLM replaces the __call__ of families that it serves through transformers
            hidden = self.lm.base_model.forward(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][mask]
            chunks = zip(hidden.split(512), ids[:, 1:][mask].split(512))
            scores = [checkpoint(self.score, *chunk, use_reentrant=False) for chunk in chunks]
        logprobs, entropy = (torch.cat(part) for part in zip(*scores))
        zeros = torch.zeros(mask.shape, device=mask.device)
        return zeros.masked_scatter(mask, logprobs), zeros.masked_scatter(mask, entropy)


class Critic(nn.Module):
    """V(q, y_<t): the reward that the hint-free prompt and the response so far promise. Starts at 0 everywhere."""

    def __init__(self, args: Args):
        super().__init__()
        config = AutoConfig.from_pretrained(args.model).get_text_config()
        attention = "eager" if getattr(config, "attn_logit_softcapping", None) else None  # as in Policy
        self.lm = AutoModel.from_pretrained(args.model, dtype=torch.float32, attn_implementation=attention)
        self.head = nn.Linear(config.hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        if args.gradient_checkpointing:
            for layer in [m for m in self.lm.modules() if type(m).__name__ in self.lm._no_split_modules]:
                layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The value before each token that the mask asks for, else 0: [B, L − 1] for ids [B, L]."""
        with torch.autocast(DEVICE, torch.bfloat16, enabled=GPU, cache_enabled=False):
            hidden = self.lm.forward(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][mask]
        values = self.head(hidden.float())[:, 0]
        return torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, values)


def collate(rollouts: list[Rollout]) -> tuple[Tensor, ...]:
    """Token ids [B, L] and, at the position before each response token, the mask, log π_old, A, V_old and R, each
    [B, L − 1]. The mask comes from lengths: an EOS that is also the pad stays a token to learn."""
    ids, positions = [], []
    for r in rollouts:
        prompt = [(0, 0, 0, 0, 0)] * (len(r.problem.prompt_ids) - 1)
        response = [(1, *columns) for columns in zip(r.logprobs, r.advantage, r.values, r.returns)]
        ids.append(torch.tensor(r.problem.prompt_ids + r.token_ids))
        positions.append(torch.tensor(prompt + response, dtype=torch.float32).reshape(-1, 5))
    mask, *columns = nn.utils.rnn.pad_sequence(positions, batch_first=True).to(DEVICE).unbind(-1)
    return nn.utils.rnn.pad_sequence(ids, batch_first=True).to(DEVICE), mask.bool(), *columns


# ------------------------------------------------------------------------------------------------------------ objective
def gae(rewards: Tensor, values: Tensor, args: Args) -> Tensor:
    """A_t = δ_t + γλ A_t+1 with δ_t = r_t + γ V_t+1 − V_t, along the last axis. Both are 0 beyond a response's end."""
    values = nn.functional.pad(values, (0, 1))  # V and A are 0 after the last token
    advantage = torch.zeros_like(values)
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + args.gae_gamma * values[:, t + 1] - values[:, t]
        advantage[:, t] = delta + args.gae_gamma * args.gae_lambda * advantage[:, t + 1]
    return advantage[:, :-1]


@torch.no_grad()
def estimate(critic: Critic, groups: list[list[Rollout]], args: Args) -> dict:
    """Gives every rollout its values, returns and whitened advantages; returns metrics."""
    rollouts = [r for group in groups for r in group]
    for r in rollouts:
        r.advantage = r.values = r.returns = [0.0] * len(r.token_ids)
    batches, estimates = microbatches(rollouts, args.microbatch_tokens), []
    for batch in batches[RANK::WORLD]:
        ids, mask, *_ = collate(batch)
        values, rewards, mask = critic(ids, mask).cpu(), torch.zeros(mask.shape), mask.cpu()  # for a loop over tokens
        for i, r in enumerate(batch):
            rewards[i, mask[i].nonzero()[-1:]] = r.reward  # at the last token; some have none, see microbatches
        advantage = gae(rewards, values, args)
        columns = torch.stack([advantage, values, advantage + values], dim=1)
        estimates.append([columns[i][:, mask[i]].tolist() for i in range(len(batch))])
    for rank, shares in enumerate(all_gather(estimates)):
        for batch, share in zip(batches[rank::WORLD], shares):
            for r, columns in zip(batch, share):
                r.advantage, r.values, r.returns = columns
    A = np.concatenate([r.advantage for r in rollouts])
    for r in rollouts:
        r.advantage = ((np.array(r.advantage) - A.mean()) / (A.std() + 1e-8)).tolist()
    returns = np.concatenate([r.returns for r in rollouts])
    return {"value/explained_variance": 1 - A.var() / (returns.var() + 1e-8), "value/mean": (returns - A).mean()}


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, args: Args) -> Tensor:
    """½ max( (V − R)² , (clip(V, V_old ± ε_v) − R)² ) of each token [B, L − 1]."""
    clipped = old_values + (values - old_values).clamp(-args.clip_value, args.clip_value)
    return 0.5 * torch.max((values - returns) ** 2, (clipped - returns) ** 2)


def policy_loss(logprobs, old_logprobs, advantage, mask, guided: Tensor, gamma: float, args: Args):
    """−min(w A, clip(w, 1 − ε_low, 1 + ε_high) A) of each token [B, L − 1], and a value per response token to log.
    guided is [B, 1]. Its rows have w = r, or r / (r + γ) if γ > 0, or 1, as if on-policy, under --no-guided-ratio."""
    ratio = (logprobs - old_logprobs).exp()
    clipped_ratio = ratio.clamp(1 - args.clip_low, 1 + args.clip_high)
    loss = -torch.min(ratio * advantage, clipped_ratio * advantage)
    weight = ratio
    if not args.guided_ratio:
        weight = (logprobs - logprobs.detach()).exp()
    elif gamma > 0:
        weight = ratio / (ratio + gamma)
    clipped_weight = weight
    if args.clip_guided:
        weight = weight.clamp(max=1 + args.clip_high)
        clipped_weight = weight.clamp(min=1 - args.clip_low)
    loss = torch.where(guided, -torch.min(weight * advantage, clipped_weight * advantage), loss)
    mask, hinted = mask & ~guided, mask & guided
    return loss, {
        "policy/ratio_mean": ratio[mask], "policy/ratio_max": ratio[mask],
        "policy/clip_low": ((ratio < 1 - args.clip_low) & (advantage < 0))[mask],
        "policy/clip_high": ((ratio > 1 + args.clip_high) & (advantage > 0))[mask],
        "guide/ratio_mean": ratio[hinted], "guide/ratio_max": ratio[hinted],
    }


@torch.no_grad()
def reshape_gamma(policy: Policy, groups: list[list[Rollout]], args: Args) -> float:
    """γ of r / (r + γ), 0 for no reshaping; the quantile is of the guided tokens' ratios at the start of the step."""
    guided = [r for group in groups for r in group if r.guided]
    if args.reshape != "quantile" or not guided:
        return args.gamma if args.reshape == "constant" else 0.0
    ratios = []
    for batch in microbatches(guided, args.microbatch_tokens)[RANK::WORLD]:
        ids, mask, old_logprobs, *_ = collate(batch)
        ratios.append((policy(ids, mask)[0] - old_logprobs).exp()[mask].cpu())
    return max(1e-4, float(np.quantile(torch.cat([r for part in all_gather(ratios) for r in part]), 0.9)))


# --------------------------------------------------------------------------------- update, sync, evaluation, checkpoint
def microbatches(rollouts: list[Rollout], budget: int) -> list[list]:
    """The rollouts in batches of like length, so of little padding, of at most `budget` padded tokens or one rollout.
    Rank k takes every WORLD-th from k on; FSDP wants equally many on every rank, so some may have no response."""
    length = lambda r: len(r.problem.prompt_ids) + len(r.token_ids)
    batches, rest = [], sorted(rollouts, key=length, reverse=True)
    while rest:
        size = max(1, budget // length(rest[0]))
        batches.append([r for r in rest[:size] if length(r) > 0.85 * length(rest[0])])
        rest = rest[len(batches[-1]) :]
    while len(batches) % WORLD:
        batches.append([replace(rollouts[0], token_ids=[], logprobs=[])])
    return batches


def update(policy, reference, optimizer, critic, critic_optimizer, groups: list[list], step: int, args: Args) -> dict:
    """--minibatches steps of both optimizers. Returns metrics, those of tokens as means over all tokens."""
    token_stats, loss_sum, norms = [], 0.0, []
    gamma = reshape_gamma(policy, groups, args)
    for k in range(args.minibatches):
        minibatch = [r for group in groups[k :: args.minibatches] for r in group]  # problems come in random order
        mean_length = np.mean([len(r.token_ids) for r in minibatch])
        optimizer.zero_grad()
        critic_optimizer.zero_grad()
        for batch in microbatches(minibatch, args.microbatch_tokens)[RANK::WORLD]:
            ids, mask, old_logprobs, advantage, old_values, returns = collate(batch)
            logprobs, entropy = policy(ids, mask)
            guided = torch.tensor([[r.guided] for r in batch], device=DEVICE)
            loss, stats = policy_loss(logprobs, old_logprobs, advantage, mask, guided, gamma, args)
            stats["policy/entropy"] = entropy[mask]
            for r, row, response in zip(batch, logprobs.detach(), mask):
                r.trainer_logprobs = row[response].tolist()
            if not norms:  # the weights are still the sampler's
                gap = (logprobs - old_logprobs).abs()[mask & ~guided]
                stats |= {"sampler/logprob_gap_mean": gap, "sampler/logprob_gap_max": gap}
            if reference:
                log_ratio = reference(ids, mask)[0] - logprobs
                kl = log_ratio.exp() - 1 - log_ratio  # never negative: k3 of Schulman's note
                loss, stats["policy/kl"] = loss + args.kl_coef * kl, kl[mask]
            lengths = {"sequence": mask.sum(-1, keepdim=True).clamp(min=1), "token": mean_length,
                       "constant": args.max_response_tokens}[args.loss_norm]
            loss = (loss * mask / lengths).sum() / len(minibatch)  # all rollouts count
            (loss * WORLD).backward()  # FSDP takes the mean over ranks, but the denominator is global
            loss_sum += loss.item()
            critic_loss = value_loss(critic(ids, mask), old_values, returns, args)
            ((critic_loss * mask / lengths).sum() / len(minibatch) * WORLD).backward()
            stats["value/loss"] = critic_loss[mask]
            token_stats.append({name: value.detach().float() for name, value in stats.items()})
        norms.append(nn.utils.clip_grad_norm_(policy.parameters(), args.max_grad_norm).item())
        critic_norm = nn.utils.clip_grad_norm_(critic.parameters(), args.max_grad_norm).item()
        require(np.isfinite(norms[-1] + critic_norm), "a gradient is not finite: its update was not made; lower --lr?")
        if step > args.critic_warmup_steps:
            optimizer.step()
        critic_optimizer.step()
    metrics = {"policy/loss": sum(all_gather(loss_sum)) / len(norms), "policy/grad_norm": sum(norms) / len(norms)}
    for name in token_stats[0]:
        tokens = torch.cat(all_gather(torch.cat([stats[name] for stats in token_stats if name in stats]).cpu()))
        if len(tokens):
            metrics[name] = (tokens.max() if name.endswith("_max") else tokens.mean()).item()
    return metrics


def sync_weights(policy: Policy, engine):
    """The policy's weights into the engine, one tensor at a time, and the engine's cache of old prefixes emptied."""
    if GPU:
        engine.wake_up(tags=["weights"])
    modules = dict(engine.apply_model(nn.Module.named_modules)[0])
    state = policy.lm.state_dict()  # names a tied head as well, of which vLLM, if it has one, packs a copy on a CPU
    if "lm_head" not in modules:
        state.pop("lm_head.weight", None)
    weights = (item for name, w in state.items() for item in revert_weight_conversion(
        policy.lm, {name: w.full_tensor() if hasattr(w, "full_tensor") else w}).items())  # buffers are whole
    with user_error(f"vLLM does not take the weights of {type(policy.lm).__name__} in a sync"):
        engine.collective_rpc("reload_weights", kwargs=dict(weights_iterator=weights))
    for layer in modules.values():
        if not GPU and hasattr(getattr(layer, "quant_method", None), "moe_kernel"):  # a copy of the experts on a CPU
            layer.quant_method.moe_kernel.fused_experts.process_weights_after_loading(layer)
    if GPU:
        engine.wake_up(tags=["kv_cache"])
    require(engine.reset_prefix_cache(), "vLLM did not empty its cache of prefixes: its next samples would be stale")


def collect(engine, problems: datasets.Dataset, order, args: Args) -> tuple[list[list[Rollout]], dict]:
    """A group of rollouts for each of the next problems, and metrics of all that was sampled. With --dynamic-sampling
    groups without a contrast make room for further problems, round by round."""
    groups, sampled, guided = [], [], []
    for _ in range(10 if args.dynamic_sampling else 1):
        groups = [group for group in groups if len({r.reward for r in group}) > 1]
        batch = [Problem(**problems[int(i)]) for i in islice(order, args.problems - len(groups))]
        fresh = sample(engine, batch, args.group_size, args)
        sampled += fresh
        guided += guide(engine, fresh, args)
        groups += fresh
    metrics = rollout_metrics(sampled) | {"group/sampled": len(sampled), "guide/triggered": len(guided) / len(sampled)}
    if guided:
        metrics["guide/right"] = np.mean([r.reward for group in guided for r in group])
    return groups, metrics


def rollout_metrics(groups: list[list]) -> dict:
    """What was sampled, before anything is learnt from it."""
    rollouts = [r for group in groups for r in group]
    rewards_PG = np.array([[r.reward for r in group] for group in groups])
    metrics = {f"reward/{v}": np.mean([r.verdict == v for r in rollouts]) for v in verifiers.VERDICTS}
    return metrics | {
        "reward/mean": rewards_PG.mean(),
        "group/all_right": rewards_PG.all(axis=1).mean(),
        "group/all_wrong": (rewards_PG == 0).all(axis=1).mean(),
        "response/length": np.mean([len(r.token_ids) for r in rollouts]),
        "response/truncated": np.mean([r.truncated for r in rollouts]),
        "sampler/entropy": -np.mean([logprob for r in rollouts for logprob in r.logprobs]),  # nats, estimated
    }


def evaluate(engine, problems: list[Problem], step: int, args: Args) -> dict:
    """pass@1 (mean over k samples) and pass@k (any of the k), over all problems and by level; printed as well."""
    k, metrics = args.eval_samples, {}
    groups = sample(engine, problems, k, args)
    for level in sorted({p.level for p in problems} | {""}):
        rewards_PG = np.array([[r.reward for r in group] for group in groups if level in ("", group[0].problem.level)])
        metrics[f"eval/pass@1/{level}".rstrip("/")] = rewards_PG.mean()
        metrics[f"eval/pass@{k}/{level}".rstrip("/")] = rewards_PG.max(axis=1).mean()
    shares = rollout_metrics(groups)
    metrics |= {f"eval/{n.split('/')[1]}": shares[n] for n in ("reward/unparsed", "reward/error", "response/truncated")}
    tqdm.write(f"[step {step}] " + ", ".join(f"{name} {value:.3f}" for name, value in metrics.items()))
    return metrics


def log(run: Path, step: int, metrics: dict, rollouts: list[Rollout]):
    """Rank 0 adds lines of JSON to the LOGS, and with --wandb the metrics to Weights & Biases."""
    if RANK == 0:
        wandb.log(metrics, step=step)
        for name, rows in zip(LOGS, ([metrics], map(asdict, rollouts))):
            with open(run / name, "a") as file:
                file.writelines(json.dumps({"step": step} | row, default=float) + "\n" for row in rows)


def checkpoints(run: Path) -> list[Path]:
    return sorted(run.glob("step_" + "[0-9]" * 6))


def save_checkpoint(policy: Policy, tokenizer, trainer: dict, run: Path, step: int, args: Args):
    """A Hugging Face folder and in it trainer.pt, written beside its place and renamed into it: complete, or not there.
    Then deletes all but the --keep newest ones."""
    weights = dcp.get_model_state_dict(policy.lm, options=WHOLE)
    if RANK > 0:
        return
    path, unfinished = run / f"step_{step:06d}", run / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    with user_error(f"cannot write {path}, so nothing older is deleted"):
        weights = {name: w for name, w in weights.items() if name not in policy.lm.all_tied_weights_keys}  # once
        policy.lm.save_pretrained(unfinished, state_dict=weights)
        tokenizer.save_pretrained(unfinished)
        torch.save(trainer | {"step": step}, unfinished / "trainer.pt")
        os.sync()
        unfinished.rename(path)
    for old in checkpoints(run)[: -args.keep]:
        shutil.rmtree(old)


def load_checkpoint(run: Path, args: Args) -> tuple[Policy, dict]:
    """The policy of the newest checkpoint and its trainer.pt; without one, of --model and nothing."""
    path = [Path(args.model), *checkpoints(run)][-1]
    with user_error(f"{path} cannot be read; if it is a checkpoint, move it away to go on from the one before"):
        policy = Policy(replace(args, model=str(path)))
        return policy, (torch.load(path / "trainer.pt", mmap=True) if checkpoints(run) else {})


# ----------------------------------------------------------------------------------------------------------------- main
def seed_everything(seed: int, step: int, engine: int = 0):
    """vLLM draws from torch and numpy. With a seed for each step and engine, a resumed run needs no saved state."""
    seed = hash((seed, step, engine))
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)


def main(args: Args):
    # problems
    init_distributed()
    run = Path("runs") / all_gather(args.name or f"{Path(__file__).stem}-{time.strftime('%Y%m%d-%H%M%S')}")[0]
    settings, file = {"script": Path(__file__).stem} | asdict(args), run / "args.json"
    require(args.resume or not (file.exists() or checkpoints(run)),
            f"{run} already holds a run: choose another --name, or pass --resume")
    begun = json.loads(file.read_text()) if file.exists() else settings
    kept = "script model dataset eval_dataset verifier instruction max_prompt_tokens skip_bad_rows seed".split()
    for flag in kept + ["eval_problems"] * (not args.eval_dataset):  # else other problems, or held-out ones, are next
        require(begun[flag] == settings[flag], f"{run} has the {flag} {begun[flag]}: keep it, or choose another --name")
    with user_error(f"{args.model} is neither a model's folder nor on the hub"):
        tokenizer, config = AutoTokenizer.from_pretrained(args.model), AutoConfig.from_pretrained(args.model)
    reads = getattr(config.get_text_config(), "max_position_embeddings", np.inf)
    require(args.max_prompt_tokens + args.max_response_tokens <= reads,
            f"the model reads {reads} tokens: lower --max-prompt-tokens or --max-response-tokens")
    problems = load_problems(args.dataset, tokenizer, args)
    held_out = load_problems(args.eval_dataset, tokenizer, args) if args.eval_dataset else problems.shuffle(args.seed)
    problems = problems if args.eval_dataset else held_out.skip(args.eval_problems)
    held_out = [Problem(**row) for row in held_out.take(min(args.eval_problems, len(held_out)))]
    require(len(problems) >= args.problems, f"{len(problems)} problems not held out are fewer than --problems")
    require(args.guidance == "never" or any(problems["hint_ids"]), f"no problem of {args.dataset} has a hint "
            "that fits: add a column hint, or pass --guidance never")

    # models
    with user_error("cannot write to runs/"):
        (run / "unfinished").mkdir(parents=True, exist_ok=True)
    with user_error("cannot log to Weights & Biases"):
        wandb.init(project="minrlvr", name=run.name, id=run.name, resume="allow", config=settings,
                   mode=None if args.wandb and RANK == 0 else "disabled")
    print("loading the policy, then vLLM: a minute or two")
    policy, trainer = load_checkpoint(run, args)
    policy, critic = shard(policy), shard(Critic(args))
    reference = shard(Policy(args).requires_grad_(False)) if args.kl_coef else None
    optimizer = torch.optim.AdamW(policy.parameters(), args.lr, (0.9, 0.99), weight_decay=0.0, fused=GPU)
    critic_optimizer = torch.optim.AdamW(critic.parameters(), args.critic_lr, (0.9, 0.99), weight_decay=0.0, fused=GPU)
    if "optimizer" in trainer:
        dcp.set_optimizer_state_dict(policy, optimizer, trainer["optimizer"], options=WHOLE)
        optimizer.param_groups[0]["lr"] = args.lr  # of the flags, not of the checkpoint
    if trainer:
        dcp.set_model_state_dict(critic, trainer["critic"], options=WHOLE)
        dcp.set_optimizer_state_dict(critic, critic_optimizer, trainer["critic_optimizer"], options=WHOLE)
        critic_optimizer.param_groups[0]["lr"] = args.critic_lr
    engine = start_engine(replace(args, model=policy.lm.name_or_path))  # last, when all else is on the card
    done, sampled = trainer.get("step", 0), trainer.get("sampled", 0)
    epochs = (np.random.default_rng((args.seed, epoch)).permutation(len(problems)) for epoch in count())
    order = islice(chain.from_iterable(epochs), sampled, None)  # without end

    # logs
    if RANK == 0:
        file.write_text(json.dumps(settings, indent=2))
        for name in LOGS:  # forget what a run that was cut off said of later steps
            open(run / name, "a").truncate(trainer["log_bytes"][name] if trainer else 0)
    if done == 0:
        seed_everything(args.seed, 0, RANK // args.vllm_tp)
        log(run, 0, evaluate(engine, held_out, 0, args), [])

    # training
    signals = []  # SIGTERM or Ctrl-C, once received
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: (signals.append(number), tqdm.write(
            "stopping after this step: the same command with --resume goes on; Ctrl-\\ stops at once")))
    bar = tqdm(range(done + 1, args.steps + 1), desc=run.name, initial=done, total=args.steps, disable=RANK > 0)
    for step in bar:
        seed_everything(args.seed, step, RANK // args.vllm_tp)
        clock = [time.time()]
        groups, metrics = collect(engine, problems, order, args)
        sampled += metrics["group/sampled"]
        verdicts = {r.verdict for group in groups for r in group if not r.truncated}
        require(verdicts != {"error"}, "the verifier failed on every response of this step: see its messages")
        clock.append(time.time())

        if GPU:
            engine.sleep(level=1)  # not 2, which loses what a reload does not name
        metrics |= estimate(critic, groups, args)
        metrics |= update(policy, reference, optimizer, critic, critic_optimizer, groups, step, args)
        clock.append(time.time())
        metrics["perf/gpu_gib"] = np.diff(torch.cuda.mem_get_info())[0] / 2**30 if GPU else 0  # total − free
        optimizer.zero_grad()  # the memory of the gradients is the sampler's now
        critic_optimizer.zero_grad()
        sync_weights(policy, engine)
        clock.append(time.time())

        gap = metrics.get("sampler/logprob_gap_mean", 0)
        cause = "docs/faq.md says what to try" if step == done + 1 else "the sync of weights fails"
        require(gap <= args.max_logprob_gap, f"with the same weights, sampler and trainer differ by {gap:.3f} nats per "
                f"token, more than --max-logprob-gap {args.max_logprob_gap}: {cause}")
        metrics |= dict(zip(("perf/sample_s", "perf/train_s", "perf/sync_s"), np.diff(clock)))
        metrics["perf/tokens_per_s"] = sum(len(r.token_ids) for g in groups for r in g) / (clock[-1] - clock[0])
        bar.set_postfix({name: metrics[name] for name in ("reward/mean", "response/length", "sampler/entropy")})
        if step % args.eval_every == 0 or step == args.steps:
            r = groups[0][0]
            tqdm.write(f"[step {step}] {r.problem.prompt}\n{r.text}\n[{r.verdict}; the answer is {r.problem.answer}]\n")
            metrics |= evaluate(engine, held_out, step, args)
        log(run, step, metrics, groups[-1])
        stopped = any(all_gather(len(signals) > 0))  # at the same step on all ranks
        if stopped or step == args.steps or step % args.save_every == 0:
            trainer = {"sampled": sampled, "log_bytes": {name: (run / name).stat().st_size for name in LOGS}}
            if optimizer.state:  # empty before the first update, and then this would make one
                trainer["optimizer"] = dcp.get_optimizer_state_dict(policy, optimizer, options=WHOLE)
            trainer["critic_optimizer"] = dcp.get_optimizer_state_dict(critic, critic_optimizer, options=WHOLE)
            trainer["critic"] = dcp.get_model_state_dict(critic, options=WHOLE)
            save_checkpoint(policy, tokenizer, trainer, run, step, args)
        if stopped:
            break
    print(f"{run} holds the logs and the newest checkpoints")


if __name__ == "__main__":
    main(tyro.cli(Args))
