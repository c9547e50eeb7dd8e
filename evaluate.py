r"""pass@k of one model: n verified responses to every problem, in one file.

    pass@k = mean over problems of  1 − C(n − c, k) / C(n, k)        n responses, c of them right, k ≤ n

is the unbiased estimate of Chen et al. (arXiv 2107.03374).

    python evaluate.py --model runs/NAME --dataset toy/test.jsonl --max-prompt-tokens 128 --max-response-tokens 64

writes evals/NAME.jsonl and prints its pass@k. The file's first line holds all that the responses depend on, and every
other line a problem with its responses. The same command continues an interrupted file, and on a CPU ends up with the
responses of an uninterrupted one. --hints puts the column hint into the prompts and asks the problems that have one;
the file is then evals/NAME+hints.jsonl.

An engine gives all of its memory back only with its process, so several models are several commands. compare.py then
says what training or the hints changed:

    python compare.py evals/grpo.jsonl evals/guide.jsonl --base evals/model.jsonl --out evals
"""

import json
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm
from transformers import AutoConfig, AutoTokenizer

import guide_grpo
import reading
import verifiers
from compare import make_report, read_responses, table
from guide_grpo import checkpoints, load_problems, require, sample, seed_everything, start_engine, user_error

CHUNK = 32  # problems that are sampled and written together
GROUPS = ("level", "category", "subject", "type", "data_source")
SETTINGS = ("dataset", "hints", "samples", "greedy", "seed", "temperature", "verifier", "instruction",
            "max_prompt_tokens", "max_response_tokens")  # of the flags, those that responses depend on


@dataclass
class Args:
    """Samples a model's responses to the problems of a dataset, and says its pass@k."""

    model: str  # A run (its newest checkpoint), a model's folder or a hub name
    dataset: str  # Problems: a .jsonl, .json, .csv or .parquet file, a folder, or NAME[:CONFIG[:SPLIT]] on the hub
    out: str = ""  # The file of responses. Empty: evals/MODEL.jsonl, with hints evals/MODEL+hints.jsonl
    hints: bool = False  # Put the hint into the prompt, and ask only problems that have one
    samples: int = 64  # n: responses per problem
    greedy: bool = False  # One more response per problem, the greedy one, is its first try in compare.py
    by: str = ""  # Column to report by. Empty: the first of level, category, subject, type, data_source that exists
    max_problems: int = 0  # Use at most so many problems, the first ones. 0: all
    seed: int = 0  # Decides the samples
    temperature: float = 1.0  # Of sampling. 1 is the distribution that training sees
    verifier: str = "math"  # Who checks: math, choice, code or your FILE.py:FUNCTION, where no column verifier says
    skip_bad_rows: bool = False  # Leave out rows without a usable problem or answer, instead of stopping
    instruction: str = guide_grpo.Args.instruction  # Follows a problem that is text
    max_prompt_tokens: int = 1024  # Problems with longer prompts are left out and counted
    max_response_tokens: int = 2048  # Longer responses are cut and count as truncated
    vllm_tp: int = 1  # GPUs that share the model
    vllm_memory: float = 0.9  # Share of the GPU's memory for vLLM. On a CPU VLLM_CPU_KVCACHE_SPACE decides, in GiB

    def __post_init__(self):
        for name in ("samples", "max_prompt_tokens", "max_response_tokens", "vllm_tp", "vllm_memory"):
            value = getattr(self, name)
            require(value > 0, f"--{name.replace('_', '-')} must be above 0, but is {value}")
        require(min(self.seed, self.max_problems, self.temperature) >= 0, "--seed, --max-problems and --temperature "
                "must be at least 0")
        require(self.temperature > 0 or self.samples == 1, "--temperature 0 has one response: add --samples 1, or "
                "sample and pass --greedy")
        require(guide_grpo.WORLD == 1, "without torchrun, please: --vllm-tp says how many GPUs share the model")
        with user_error("--verifier"):
            verifiers.load(self.verifier)


# -------------------------------------------------------------------------------------------------- model and problems
def newest_checkpoint(model: str) -> str:
    """Of a run; any other model is returned as it is."""
    if not (Path(model) / "args.json").exists():
        return model
    require(checkpoints(Path(model)), f"{model} is a run without a checkpoint yet")
    return str(checkpoints(Path(model))[-1])


def open_model(model: str, args: Args):
    """Its tokenizer. Ends with a sentence if there is no such model, or it cannot read as many tokens as args ask."""
    with user_error(f"{model} is neither a run, a model's folder nor on the hub"):
        tokenizer, config = AutoTokenizer.from_pretrained(model), AutoConfig.from_pretrained(model)
    reads = getattr(config.get_text_config(), "max_position_embeddings", np.inf)
    require(args.max_prompt_tokens + args.max_response_tokens <= reads, f"{model} reads {reads} tokens: lower "
            "--max-{prompt,response}-tokens")
    return tokenizer


def select_problems(tokenizer, args: Args) -> list[guide_grpo.Problem]:
    """The problems that will be asked."""
    problems = load_problems(args.dataset, tokenizer, args)
    asked = problems.take(min(args.max_problems or len(problems), len(problems)))
    problems = [guide_grpo.Problem(**row) for row in asked]
    if args.hints:
        problems = [p for p in problems if p.hint_ids]
    require(problems, f"--hints: no problem of {args.dataset} has a hint that fits: add a column hint, see hints.py")
    return problems


def read_groups(problems: list[guide_grpo.Problem], args: Args) -> list[str]:
    """Each problem's value in the column to report by."""
    with user_error(f"cannot load the dataset {args.dataset}"):
        rows = [reading.parsed(row) for row in reading.load_rows(args.dataset).select([p.row for p in problems])]
    named = lambda name: any(row.get(name) is not None for row in rows)
    columns = ", ".join(dict.fromkeys(name for row in rows for name in row))
    require(not args.by or named(args.by), f"--by {args.by}: {args.dataset} has columns {columns}")
    column = args.by or next(filter(named, GROUPS), "")
    return ["" if row.get(column) is None else str(row[column]) for row in rows]


# ------------------------------------------------------------------------------------------------------------ responses
def rows_so_far(file: Path, settings: dict) -> list[dict]:
    """Rows of a finished file, or those in whole chunks of an interrupted one. Ends with a sentence if the responses to
    come would be of another kind."""
    if not file.exists():
        return []
    made, rows = read_responses(file)
    for name, value in settings.items():
        require(made.get(name) == value, f"{file} was made with {name} {made.get(name)!r}, not {value!r}: choose "
                "another --out, or delete it")
    return rows if len(rows) == settings["problems"] else rows[: len(rows) // CHUNK * CHUNK]


def write(file: Path, lines: list[dict], mode: str):
    with open(file, mode) as out:
        out.writelines(json.dumps(line) + "\n" for line in lines)


def slim(r: guide_grpo.Rollout) -> dict:
    return dict(text=r.text, verdict=r.verdict, tokens=len(r.token_ids), logprob=sum(r.logprobs), truncated=r.truncated)


def answer(engine, problems: list[guide_grpo.Problem], groups: list[str], args: Args) -> list[dict]:
    """The problems' rows for the file of responses. A response's logprob is the sum over its tokens, in nats."""
    asked = [replace(p, prompt_ids=p.hint_ids) for p in problems] if args.hints else problems
    sampled = sample(engine, asked, args.samples, args)
    greedy = [[]] * len(problems)
    if args.greedy:
        greedy = sample(engine, asked, 1, replace(args, temperature=0, samples=1))
    return [
        dict(row=p.row, group=group, prompt=p.prompt, answer=p.answer, responses=[slim(r) for r in responses],
             greedy=slim(first[0]) if first else None)
        for p, group, responses, first in zip(problems, groups, sampled, greedy)
    ]


# ----------------------------------------------------------------------------------------------------------------- main
def main(args: Args):
    model = newest_checkpoint(args.model)
    problems = select_problems(open_model(model, args), args)
    groups = read_groups(problems, args)
    asked = [(p.row, p.hint_ids if args.hints else p.prompt_ids, p.answer, p.verifier) for p in problems]
    settings = {"model": model} | {name: getattr(args, name) for name in SETTINGS}
    asked += [file.stat().st_mtime for file in sorted(Path(model).glob("*.safetensors"))]
    own = sorted({p.verifier.rpartition(":")[0] for p in problems} - {""})
    asked += [Path(file).read_bytes() for file in own]
    settings |= {"problems": len(problems), "checksum": zlib.crc32(repr(asked).encode())}

    name = Path(args.model).name + ("+hints" if args.hints else "")
    out = Path(args.out or f"evals/{name}.jsonl")
    rows = [row | {"group": group} for row, group in zip(rows_so_far(out, settings), groups)]
    with user_error(f"cannot write {out}"):
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = out.with_suffix(".partial")
        write(partial, [settings, *rows], "w")
        partial.rename(out)

    engine = start_engine(replace(args, model=model)) if len(rows) < len(problems) else None
    args = replace(args, vllm_tp=1)  # for `sample` it counts ranks of torchrun
    bar = tqdm(desc=str(out), initial=len(rows), total=len(problems), unit="problem")
    for start in range(len(rows), len(problems), CHUNK):
        seed_everything(args.seed, start)  # by chunk: an interrupted evaluation ends up with the same responses
        chunk = answer(engine, problems[start : start + CHUNK], groups[start : start + CHUNK], args)
        write(out, chunk, "a")
        rows += chunk
        bar.update(len(chunk))
    bar.close()
    print(f"\n{table(make_report({out.stem: settings}, {out.stem: rows}))}\n{out} holds the responses")


if __name__ == "__main__":
    main(tyro.cli(Args))
