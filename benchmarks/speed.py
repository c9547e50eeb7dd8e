"""Is the readable one slow? Each command measures both sides in one run, by turns, and writes its table into README.md.

    python benchmarks/speed.py trl --trl-python runs/TRL/bin/python   # a step of grpo.py and of TRL's GRPOTrainer
    python benchmarks/speed.py lm --trl-python … --model NAME         # the same with a language model of your own
    python benchmarks/speed.py sample     # sampling, beside LLM.generate with the same requests
    python benchmarks/speed.py train      # an update, beside forward and backward passes over the same tokens, packed
    python benchmarks/speed.py prompts --model NAME    # a group with its prompt once, beside once for each response
    python benchmarks/speed.py memory     # log-probs over a vocabulary of 151,936, beside all logits at once
    python benchmarks/speed.py growth     # seconds against length, group size and model size, with exponents

For `trl` and `lm`: python -m venv runs/TRL; runs/TRL/bin/pip install torch trl, and on a GPU vllm. Values are medians
(lowest–highest). Nothing else should run on the machine.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
import gpu_check  # noqa: E402

import grpo  # noqa: E402
import toy  # noqa: E402

WORK = ROOT / "runs/speed"
GPU = torch.cuda.is_available()
COIN = f"{ROOT}/benchmarks/gpu_check.py:coin"  # rewards for noise, so that every group has something to learn
MODELS = {  # hidden, MLP, layers, heads, key-value heads, vocabulary
    "toy's shape": (128, 256, 2, 2, 1, 256),
    "0.5B" if GPU else "2M, vocabulary 4,096": gpu_check.SHAPES["0.5B"] if GPU else (192, 512, 3, 3, 3, 4096),
}
PEAK_FLOPS = {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H200": 989e12}  # dense bfloat16, of their data sheets


@dataclass
class Args:
    """Measures one thing side by side and writes its table into benchmarks/README.md."""

    what: tyro.conf.Positional[str]
    """trl, lm, sample, train, prompts, memory or growth."""
    trl_python: str = ""
    """For `trl` and `lm`: the Python of an environment with TRL."""
    model: str = ""
    """For `lm` and `prompts`: a model's folder, or its name on the hub."""
    rounds: int = 7
    """How often each side is measured, after two warm-ups."""


def spread(values) -> str:
    return f"{np.median(values):.3g} ({min(values):.3g}–{max(values):.3g})"


def write(name: str, header: str, rows: list[list[str]], beside: str = ""):
    """Puts a table between the two marks of its name in README.md, and prints it. `beside` is what it compares with."""
    cells = [header.split("|"), ["---"] * len(header.split("|")), *rows]
    table = "\n".join("| " + " | ".join(cell.strip() for cell in row) + " |" for row in cells)
    device = torch.cuda.get_device_name() if GPU else f"{os.cpu_count()} CPU cores"
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    note = f"{device}, {platform.machine()}; threads: {threads}; torch {torch.__version__}{beside}"
    readme = ROOT / "benchmarks/README.md"
    before, _, rest = readme.read_text().partition(f"<!-- {name} -->")
    readme.write_text(f"{before}<!-- {name} -->\n{table}\n\n{note}\n<!-- end -->{rest.partition('<!-- end -->')[2]}")
    print(table, note, sep="\n\n", flush=True)


def logged(command: list) -> float:
    """Runs a command, and leaves what it prints in runs/speed/log.txt. Returns the peak of its memory in GiB."""
    with open(WORK / "log.txt", "a") as log:
        process = subprocess.Popen([str(part) for part in command], cwd=WORK, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"a run failed: see {WORK}/log.txt")
    return usage.ru_maxrss / 2**20


def run_grpo(name: str, model: Path | str, problems: Path | str, steps: int, *flags: str) -> list[dict]:
    """Metrics of a run of grpo.py with a learning rate that changes nothing, without its two first steps. A complete
    run is not repeated, so that an interrupted `growth` goes on where it was; delete runs/speed to measure anew."""
    command = [sys.executable, ROOT / "grpo.py", "--model", model, "--dataset", problems, "--steps", steps + 2,
               "--lr=1e-9", "--max-prompt-tokens=160", "--eval-problems=8", "--eval-samples=1", "--eval-every=1000",
               "--save-every=1000", "--resume", "--name", name, *flags]
    WORK.mkdir(parents=True, exist_ok=True)
    metrics = WORK / "runs" / name / "metrics.jsonl"
    if not metrics.exists() or len(metrics.read_text().splitlines()) < steps + 3:
        memory = logged(command)
        metrics.with_name("memory").write_text(str(memory))
    rows = [json.loads(line) for line in open(metrics)]
    return [row | {"seconds": sum(row[f"perf/{part}_s"] for part in ("sample", "train", "sync"))} for row in rows[3:]]


def model_folder(shape: str, length=0) -> Path:
    folder = WORK / f"model-{time.time_ns()}"
    gpu_check.make_model(folder, *MODELS[shape], length=length)
    return folder


# ---------------------------------------------------------------------------------------------------------------- sides
def trl(args: Args):
    """End to end, alternating processes. Lengths are equal in distribution: both sample from the same model."""
    problems = ROOT / "toy/train.jsonl"
    setups = {"the toy, 46 tokens each": (ROOT / "toy/model", problems, 24, 64, "math")}
    for shape in list(MODELS)[: 1 + GPU]:
        setups[f"{shape}, random weights, uneven lengths"] = model_folder(shape, length=256), problems, 24, 256, COIN
    beside_trl("trl", setups, args)


def lm(args: Args):
    """Four problems × 8: the question of results/lm.py with its solved example, and a prompt that asks for a text."""
    sys.path.append(str(ROOT / "results"))
    from lm import WORDS, write_problems

    write_problems()
    stories = WORK / "stories.jsonl"
    words = np.random.default_rng(0).choice(WORDS, (64, 3))
    ask = lambda words: [{"role": "user", "content": f"Write one sentence about each: {', '.join(words)}."}]
    stories.write_text("".join(json.dumps({"prompt": ask(row), "answer": "1"}) + "\n" for row in words))
    beside_trl("lm", {"long prompts, short responses": (args.model, ROOT / "runs/lm/train.jsonl", 4, 24, COIN),
                      "short prompts, long responses": (args.model, stories, 4, 160, COIN)}, args)


def beside_trl(name: str, setups: dict, args: Args):
    rows = []
    for setup, (model, file, problems, tokens, verifier) in setups.items():
        ours, theirs, memory = [], {"seconds": [], "generate": [], "lengths": []}, {"grpo.py": 0.0, "TRL": 0.0}
        for _ in range(2):
            run = f"trl-{time.time_ns()}"
            ours += run_grpo(run, model, file, args.rounds, f"--problems={problems}",
                             f"--max-response-tokens={tokens}", f"--verifier={verifier}")
            memory["grpo.py"] = max(memory["grpo.py"], float((WORK / "runs" / run / "memory").read_text()))
            out = WORK / "trl.json"
            command = [args.trl_python, ROOT / "benchmarks/trl_grpo.py", model, file, problems, args.rounds + 2, tokens]
            memory["TRL"] = max(memory["TRL"], logged([*command, out]))
            other = json.loads(out.read_text())
            theirs = {part: values + other[part][2:] for part, values in theirs.items()}
        seconds, n = [row["seconds"] for row in ours], 8 * problems
        share = lambda part: f"{sum(row[f'perf/{part}_s'] for row in ours) / sum(seconds):.0%}"
        generate = "–" if GPU else f"{np.mean(theirs['generate']) / np.mean(theirs['seconds']):.0%}"
        rows.append([setup, spread(seconds), spread(theirs["seconds"]), f"{n / np.median(seconds):.3g}",
                     f"{n / np.median(theirs['seconds']):.3g}",
                     f"**{np.median(theirs['seconds']) / np.median(seconds):.2f}**",
                     f"{np.mean([row['response/length'] for row in ours]):.0f} / {np.mean(theirs['lengths']):.0f}",
                     f"{share('sample')}, {share('train')}, {share('sync')}", generate,
                     f"{memory['grpo.py']:.1f} / {memory['TRL']:.1f}"])
    write(name, "setup | grpo.py, s per step | TRL, s per step | grpo.py, samples/s | TRL, samples/s | ratio | "
          "mean tokens, grpo.py / TRL | grpo.py: sampling, training, sync | TRL: `generate` | "
          "peak GiB, grpo.py / TRL", rows, f"; {other['versions']}")


def sample(args: Args):
    """LLM.generate alone, and grpo.sample: the same call, then text, verdicts and Rollouts."""
    from transformers import AutoTokenizer
    from vllm import SamplingParams

    settings = grpo.Args("toy/model", "toy/train.jsonl", max_prompt_tokens=128, max_response_tokens=64)
    problems = grpo.load_problems(settings.dataset, AutoTokenizer.from_pretrained(settings.model), settings)
    problems = [grpo.Problem(**row) for row in problems]
    engine = grpo.start_engine(settings)
    common = dict(n=8, temperature=1.0, max_tokens=64)
    sides = {
        "LLM.generate, logprobs=0, as it comes (makes text token by token)": SamplingParams(**common, logprobs=0),
        "LLM.generate, logprobs=0, detokenize=False": SamplingParams(**common, logprobs=0, detokenize=False),
        "grpo.sample": None,
    }
    seconds, verify, verifying = {side: [] for side in sides}, grpo.verifiers.verify, []

    def timed(jobs):
        start = time.perf_counter()
        verdicts = verify(jobs)
        verifying.append(time.perf_counter() - start)
        return verdicts

    grpo.verifiers.verify = timed
    for k in range(3 * args.rounds + 2):
        batch = problems[24 * k : 24 * k + 24]
        prompts = [{"prompt_token_ids": p.prompt_ids} for p in batch]
        for side, params in list(sides.items())[:: 1 if k % 2 else -1]:
            torch.manual_seed(k)
            start = time.perf_counter()
            if params:
                engine.generate(prompts, params, use_tqdm=False)
            else:
                grpo.sample(engine, batch, 8, settings)
            seconds[side].append(time.perf_counter() - start)
    ours = np.median(seconds["grpo.sample"][2:])
    rows = [[side, spread(v[2:]), f"{ours / np.median(v[2:]):.3f}"] for side, v in seconds.items()]
    rows.append(["verification, within grpo.sample", spread(verifying[2:]), ""])
    write("sample", "24 × 8 responses of 46 tokens | s | grpo.sample is … times this", rows)


def train(args: Args):
    """grpo.update, and forward and backward passes, clipping and AdamW over as many tokens in rows of equal length."""
    rows = []
    for shape in MODELS:
        settings = grpo.Args(str(model_folder(shape)), "", max_response_tokens=256, max_logprob_gap=1e9)
        policy, rng = grpo.Policy(settings).to(grpo.DEVICE), np.random.default_rng(0)
        optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-9)
        ids = lambda n: rng.integers(3, MODELS[shape][-1], int(n)).tolist()

        def rollout(problem):
            response = ids(np.clip(rng.lognormal(4, 0.6), 1, 256))
            old = [-np.log(MODELS[shape][-1])] * len(response)
            return grpo.Rollout(problem, response, old, "", False, "right", 1.0, rng.normal())

        problems = [grpo.Problem(i, "", ids(rng.integers(10, 60)), "", "math", "") for i in range(24)]
        groups = [[rollout(problem) for _ in range(8)] for problem in problems]
        length = lambda r: len(r.problem.prompt_ids + r.token_ids)
        tokens = sum(length(r) for group in groups for r in group)
        padded = sum(len(batch) * max(map(length, batch)) for k in range(2) for batch in
                     grpo.microbatches([r for group in groups[k::2] for r in group], settings.microbatch_tokens))
        packed = torch.tensor([ids(tokens // 192) for _ in range(192)], device=grpo.DEVICE)

        def bare():
            for half in packed.split(96):
                optimizer.zero_grad()
                for batch in half.split(settings.microbatch_tokens // packed.shape[1]):
                    with torch.autocast(grpo.DEVICE, torch.bfloat16, enabled=GPU, cache_enabled=False):
                        policy.lm(input_ids=batch, labels=batch, use_cache=False).loss.backward()
                torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
                optimizer.step()

        seconds = {bare: [], grpo.update: []}
        for _ in range(args.rounds + 2):
            for side, values in seconds.items():
                start = time.perf_counter()
                side(*[policy, None, optimizer, groups, settings] if side is grpo.update else [])
                torch.cuda.synchronize() if GPU else None
                values.append(time.perf_counter() - start)
        packed_s, ours_s = (values[2:] for values in seconds.values())
        parameters = sum(p.numel() for p in policy.parameters())
        peak = PEAK_FLOPS.get(torch.cuda.get_device_name()) if GPU else None
        used = f"{6 * parameters * tokens / np.median(ours_s) / peak:.1%}" if peak else "–"
        rows.append([shape, spread(packed_s), spread(ours_s), f"**{np.median(ours_s) / np.median(packed_s):.2f}**",
                     f"{padded / tokens - 1:.1%}", used])
    write("train", f"{tokens:,} tokens, 2 optimizer steps | packed, s | grpo.update, s | ratio | padding | FLOPs used",
          rows)


def prompts(args: Args):
    """Forward and backward pass of a group of eight. With the prompt once, each response attends to it and to itself:
    a mask of all pairs of tokens, and positions that start again."""
    lm, rows = grpo.AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).to(grpo.DEVICE), []
    for prompt, response in ((93, 14), (40, 80)):
        ids = torch.randint(lm.config.vocab_size, (8, prompt + response), device=grpo.DEVICE)
        ids[:, :prompt] = ids[0, :prompt]
        row = torch.cat([ids[0, :prompt], ids[:, prompt:].flatten()])[None]
        positions = torch.cat([torch.arange(prompt), torch.arange(prompt, prompt + response).repeat(8)])[None]
        whose = torch.tensor([-1] * prompt + [i for i in range(8) for _ in range(response)])
        mask = ((whose == -1) | (whose == whose[:, None])).tril()[None, None]
        once = dict(input_ids=row, position_ids=positions.to(ids.device), attention_mask=mask.to(ids.device))
        seconds, found = {"each": [], "once": []}, {}
        for _ in range(args.rounds + 2):
            for side, inputs in ({"each": dict(input_ids=ids), "once": once}).items():
                start = time.perf_counter()
                hidden = lm.base_model(**inputs).last_hidden_state[:, prompt:].reshape(8, response, -1)
                logprobs = lm.lm_head(hidden)[:, :-1].log_softmax(-1).gather(-1, ids[:, prompt + 1 :, None])
                logprobs.sum().backward()
                found[side] = logprobs.detach().cpu()
                seconds[side].append(time.perf_counter() - start)
                lm.zero_grad()
        before, after = seconds["each"][2:], seconds["once"][2:]
        ratio, difference = np.median(before) / np.median(after), (found["each"] - found["once"]).abs().max()
        rows.append([f"{prompt} + {response}", spread(before), spread(after), f"**{ratio:.2f}**", f"{difference:.0e}"])
    write("prompts", "tokens, prompt + response | prompt 8 times, s | once, s | ratio | log-probs differ by", rows)


def memory(args: Args):
    """Each side in a process of its own, by turns: the peak over what the model alone needs."""
    gpu_check.make_model(WORK / "model-memory", 64, 64, 1, 1, 1, 151_936)
    peaks = {"all": [], "grpo": []}
    for _ in range(5):
        for side, values in peaks.items():
            child = subprocess.run([sys.executable, __file__, f"memory-{side}"], stdout=subprocess.PIPE, check=True)
            values.append(float(child.stdout.split()[-1]))
    whole, ours = (np.median(values) for values in peaks.values())
    write("memory", "4,096 tokens × 151,936 | all logits at once, GiB | Policy.forward, GiB | ratio",
          [["forward and backward pass", spread(peaks["all"]), spread(peaks["grpo"]), f"**{ours / whole:.2f}**"]])


def memory_of(side: str):
    policy = grpo.Policy(grpo.Args(str(WORK / "model-memory"), "")).to(grpo.DEVICE)
    peak = torch.cuda.max_memory_allocated if GPU else lambda: 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ids = torch.randint(0, 151_936, (8, 513), device=grpo.DEVICE)

    def step(ids):
        if side == "grpo":
            logprobs, _ = policy(ids, torch.ones_like(ids[:, 1:], dtype=torch.bool))
        else:
            logits = policy.lm(input_ids=ids, use_cache=False).logits[:, :-1].float()
            logprobs = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])
        logprobs.mean().backward()

    step(ids[:1, :9])
    before = peak()
    step(ids)
    print((peak() - before) / 2**30)


def growth(args: Args):
    """One size at a time around 24 problems × 8 responses × 64 tokens, every response of the full length."""
    tokens, groups, hidden = (64, 128, 256), (8, 16, 32), (128, 256, 512)
    sizes = [("response tokens", n, (n, 8, 128)) for n in tokens] + [("group size", n, (64, n, 128)) for n in groups]
    sizes += [("parameters", n, (64, 8, n)) for n in hidden]
    measured, rows = {}, []
    problems = WORK / "train.jsonl"
    WORK.mkdir(parents=True, exist_ok=True)
    toy.write_problems(WORK, toy.secrets()[0])
    for what, n, (length, group, width) in sizes:
        model = WORK / f"model-{width}"
        parameters = gpu_check.make_model(model, width, 2 * width, 2, width // 64, 1, 256)
        n = parameters if what == "parameters" else n
        steps = run_grpo(
            f"growth-{width}-{group}-{length}", model, problems, args.rounds, "--problems=24",
            f"--group-size={group}", f"--max-response-tokens={length}", f"--verifier={COIN}")
        seconds = [[step[f"perf/{part}_s"] for step in steps] for part in ("sample", "train")]
        measured.setdefault(what, []).append((n, *seconds))
    for what, points in measured.items():
        for (n, *sides), earlier in zip(points, [None, *points]):
            def local(i):
                if not earlier:
                    return ""
                ratio = np.median(sides[i]) / np.median(earlier[i + 1])
                return f"{np.log(ratio) / np.log(n / earlier[0]):.2f}"

            rows.append([what, f"{n:,}", spread(sides[0]), local(0), spread(sides[1]), local(1)])
        x = np.log([n for n, *_ in points])
        fits = [np.polyfit(x, np.log([np.median(point[i]) for point in points]), 1)[0] for i in (1, 2)]
        rows.append([what, "fit to all", "", f"**{fits[0]:.2f}**", "", f"**{fits[1]:.2f}**"])
    write("growth", "what | size | sampling, s | exponent since the row above | training, s | exponent", rows)


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].startswith("memory-"):
        memory_of(sys.argv[1].removeprefix("memory-"))
    else:
        args = tyro.cli(Args)
        sides = {"trl": trl, "lm": lm, "sample": sample, "train": train, "prompts": prompts, "memory": memory,
                 "growth": growth}
        if args.what not in sides:
            sys.exit(f"{args.what} is none of {', '.join(sides)}")
        if args.what in ("trl", "lm") and not args.trl_python:
            sys.exit(f"{args.what} needs --trl-python: the Python of an environment with TRL")
        if args.what in ("lm", "prompts") and not args.model:
            sys.exit(f"{args.what} needs --model: a folder, or a name on the hub")
        sides[args.what](args)
