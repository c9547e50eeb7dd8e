r"""pass@k of one model: n verified responses to every problem, in one file.

    pass@k = mean over problems of  1 − C(n − c, k) / C(n, k)        n responses, c of them right, k ≤ n

is the unbiased estimate of Chen et al. (arXiv 2107.03374).

    python evaluate.py --model runs/NAME --dataset toy/test.jsonl --max-prompt-tokens 128 --max-response-tokens 64

writes evals/test/NAME.jsonl. Its first line holds all that the responses depend on, and every other line a problem with
its responses. The same command continues an interrupted file, and ends up with the responses of an uninterrupted one.
--hints puts the column hint into the prompts, asks the problems that have one, and writes evals/test/NAME+hints.jsonl.

An engine gives all of its memory back only with its process, so several models are several commands; compare.py then
says what training or the hints changed:

    for name in grpo guide; do python evaluate.py --model runs/$name --dataset toy/test.jsonl; done
    python compare.py evals/test/grpo.jsonl evals/test/guide.jsonl --out evals/test
"""

import json
import re
import sys
import zlib
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm
from transformers import AutoConfig, AutoTokenizer

import guide_grpo
import verifiers
from compare import make_report, read_responses, table
from guide_grpo import checkpoints, load_problems, load_rows, sample, seed_everything, start_engine

CHUNK = 32  # problems that are sampled and written together
GROUPS = ("level", "category", "subject", "type", "data_source")
SETTINGS = ("dataset", "hints", "samples", "greedy", "seed", "temperature", "verifier", "instruction",
            "max_prompt_tokens", "max_response_tokens")  # of those below, the ones that responses depend on


@dataclass
class Args:
    """Samples a model's responses to the problems of a dataset, and says its pass@k."""

    model: str  # a run (its newest checkpoint), a model's folder or a hub name
    dataset: str  # a .jsonl, .json or .parquet file, or NAME[:CONFIG[:SPLIT]] on the hub; see README
    out: str = ""  # the file of responses. Empty: evals/DATASET/MODEL.jsonl, with hints MODEL+hints.jsonl
    hints: bool = False  # put the hint into the prompt. Only problems that have one are asked
    samples: int = 64  # n: responses per problem
    greedy: bool = False  # one more response per problem, the greedy one: for compare.py the first try
    by: str = ""  # column to report by. Empty: the first of level, category, subject, type, data_source that exists
    max_problems: int = 0  # use at most so many problems, the first ones. 0: all
    seed: int = 0  # decides the samples
    temperature: float = 1.0  # of sampling. 1 is the distribution that training sees
    verifier: str = "math"  # math, choice, code, or your own FILE.py:FUNCTION. A column verifier has precedence
    skip_bad_rows: bool = False  # leave out rows whose answer is missing or cannot be read, instead of stopping
    instruction: str = guide_grpo.Args.instruction  # follows problems that are plain text, after an empty line
    max_prompt_tokens: int = 1024  # problems with longer prompts are left out and counted
    max_response_tokens: int = 2048  # longer responses are cut and count as truncated
    vllm_tp: int = 1  # GPUs that share the model
    vllm_memory: float = 0.9  # share of the GPU's memory for vLLM. On a CPU VLLM_CPU_KVCACHE_SPACE decides, in GiB

    def __post_init__(self):
        for name in ("samples", "max_prompt_tokens", "max_response_tokens"):
            if getattr(self, name) < 1:
                sys.exit(f"--{name.replace('_', '-')} must be above 0, but is {getattr(self, name)}")
        if min(self.seed, self.max_problems, self.temperature) < 0:
            sys.exit("--seed, --max-problems and --temperature must be at least 0")
        if self.temperature == 0 and self.samples > 1:
            sys.exit("--temperature 0 samples the same response again and again: add --samples 1")
        try:
            verifiers.load(self.verifier)
        except ValueError as e:
            sys.exit(f"--verifier: {e}")


# -------------------------------------------------------------------------------------------------- model and problems
def newest_checkpoint(model: str) -> str:
    """Of a run; any other model is returned as it is."""
    if not (Path(model) / "args.json").exists():
        return model
    kept = checkpoints(Path(model))
    return str(kept[-1]) if kept else sys.exit(f"{model} is a run without a checkpoint yet")


def open_model(model: str, args: Args):
    """Its tokenizer; stops with a sentence if there is no such model, or it cannot read as much as args ask for."""
    try:
        tokenizer, config = AutoTokenizer.from_pretrained(model), AutoConfig.from_pretrained(model)
    except Exception as e:
        sys.exit(f"{model} is neither a run, a model's folder nor on the hub: {' '.join(str(e).split())[:300]}")
    if args.max_prompt_tokens + args.max_response_tokens > getattr(config, "max_position_embeddings", np.inf):
        sys.exit(f"{model} reads {config.max_position_embeddings} tokens: lower --max-{{prompt,response}}-tokens")
    return tokenizer


def select_problems(tokenizer, args: Args) -> list:
    """The problems that will be asked."""
    problems = list(islice(load_problems(args.dataset, tokenizer, args), args.max_problems or None))
    if args.hints:
        problems = [p for p in problems if p.hint_ids]
    if not problems:
        sys.exit(f"--hints: no problem of {args.dataset} has a hint that fits: add a column hint, see hints.py")
    return problems


def read_groups(args: Args) -> list[str]:
    """Every row's value in the column to report by."""
    rows = load_rows(args.dataset)
    if args.by and args.by not in rows.column_names:
        sys.exit(f"--by {args.by}: {args.dataset} has columns {', '.join(rows.column_names)}")
    column = args.by or next((name for name in GROUPS if name in rows.column_names), None)
    return [str(value) for value in rows[column]] if column else [""] * len(rows)


# ------------------------------------------------------------------------------------------------------------ responses
def output_file(args: Args) -> Path:
    dataset = Path(args.dataset).stem if Path(args.dataset).exists() else re.sub(r"[/:]", "-", args.dataset)
    name = Path(args.model).name + ("+hints" if args.hints else "")
    return Path(args.out or f"evals/{dataset}/{name}.jsonl")


def rows_so_far(file: Path, settings: dict) -> list[dict]:
    """Rows of an interrupted file, in whole chunks, or of a finished one; stops with a sentence if the responses to
    come would be of another kind."""
    if not file.exists():
        return []
    made, rows = read_responses(file)
    for name, value in settings.items():
        if made.get(name) != value:
            sys.exit(f"{file} was made with {name} {made.get(name)!r}, not {value!r}: choose another --out, or delete it")
    return rows if len(rows) == settings["problems"] else rows[: len(rows) // CHUNK * CHUNK]


def write(file: Path, lines: list[dict], mode: str):
    with open(file, mode) as out:
        out.writelines(json.dumps(line) + "\n" for line in lines)


def slim(r) -> dict:
    return dict(text=r.text, verdict=r.verdict, tokens=len(r.token_ids), logprob=sum(r.logprobs), truncated=r.truncated)


def answer(engine, problems: list, groups: list[str], args: Args) -> list[dict]:
    """The problems' rows for the file of responses."""
    args = replace(args, vllm_tp=1)  # for `sample` it counts ranks of torchrun
    sampled = sample(engine, problems, args.samples, args, guided=args.hints)
    greedy = [[None]] * len(problems)
    if args.greedy:
        greedy = sample(engine, problems, 1, replace(args, temperature=0, samples=1), guided=args.hints)
    return [
        dict(row=p.row, group=groups[p.row], prompt=p.prompt, answer=p.answer,
             responses=[slim(r) for r in responses], greedy=slim(first) if first else None)
        for p, responses, [first] in zip(problems, sampled, greedy)
    ]


# ----------------------------------------------------------------------------------------------------------------- main
def main(args: Args):
    model = newest_checkpoint(args.model)
    problems, groups = select_problems(open_model(model, args), args), read_groups(args)
    asked = [(p.row, p.hint_ids if args.hints else p.prompt_ids, p.answer, p.verifier) for p in problems]
    settings = {"model": model} | {name: getattr(args, name) for name in SETTINGS}
    settings |= {"problems": len(problems), "checksum": zlib.crc32(repr(asked).encode())}

    out = output_file(args)
    rows = [row | {"group": groups[row["row"]]} for row in rows_so_far(out, settings)]
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    write(partial, [settings, *rows], "w")
    partial.rename(out)

    engine = start_engine(replace(args, model=model)) if len(rows) < len(problems) else None
    bar = tqdm(desc=str(out), initial=len(rows), total=len(problems), unit="problem")
    for start in range(len(rows), len(problems), CHUNK):
        seed_everything(args.seed, start)  # by chunk: an interrupted evaluation ends up with the same responses
        chunk = answer(engine, problems[start : start + CHUNK], groups, args)
        write(out, chunk, "a")
        rows += chunk
        bar.update(len(chunk))
    bar.close()
    print(f"\n{table(make_report({out.stem: rows}, '', {}, 0, args.seed))}\n{out} holds the responses")


if __name__ == "__main__":
    main(tyro.cli(Args))
