r"""Hints for any dataset: an instruct model reads problem and solution, and writes what helps without the answer.

    python hints.py --model Qwen/Qwen2.5-7B-Instruct --dataset openai/gsm8k:main --out gsm8k_hints.jsonl

copies the rows to a .jsonl file and adds the column hint, for `guide_grpo.py --dataset gsm8k_hints.jsonl` and for
`evaluate.py --hints`. The Guide paper's hints were, by summaries of it, written by GPT-4o from the reference solution;
the prompt here is ours: --prompt shows and replaces it.

A hint leaks when it contains the final answer: when `verifiers.py` accepts the hint as a response, or any number in it
(in digits or as a word up to twenty), any formula between $ or after =, any option or any piece of code, or when the
answer stands in it literally. It does not ask what a number was said for, so problems whose answer is 1, 2, x or a
rarely get a hint. A leaking or empty hint is written again, up to --attempts times, then left empty and counted. What
the check cannot see is an answer in other words ("forty-two", "a dozen", "the capital of France") or a computation of
which only the last step is missing.

Rows are written in their order as soon as they are done. The same command continues where the file ends, and rows that
have a hint already keep it, so a second pass over the output with another --seed tries the empty ones again.
"""

import json
import os
import re
import sys
import textwrap
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import tyro
from tqdm import tqdm

import reading
import verifiers
from evaluate import open_model
from guide_grpo import require, seed_everything, start_engine, user_error

CHUNK = 64  # rows that are worked on and written together
PROMPT = """Here is a problem and its solution.

Problem:
{problem}

Solution:
{solution}

Write a hint for a student who cannot get started: in at most three sentences, the idea and the steps that lead to the
solution, without carrying them out. Do not state the final answer or any value from which it can be read off. Reply
with the hint only."""
WORDS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty""".split()
NUMBER_WORDS = re.compile(rf"\b(?:{'|'.join(WORDS)})\b", re.IGNORECASE)
NUMBER = re.compile(r"-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?: ?/ ?\d+)?%?")
MARKS = str.maketrans({"−": "-", "⁄": "/", "π": r"\pi ", "√": r"\sqrt ", "²": "^2", "³": "^3",
                       "\u200b": None, "\u2060": None})
DEFINITION = re.compile(r"^([ \t]*)(?:def|class|import|from)\b.*(?:\n(?:\1[ \t]+.*|[ \t]*$))*", re.MULTILINE)
SPANS = re.compile(r"\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]|=\s*([^\s=,;]+)", re.DOTALL)
OPTION = re.compile(r"\(([A-Z])\)|\b([B-HJ-Z])\b|\b([AI])(?=[).:,]|$)")  # A and I alone are words


@dataclass
class Args:
    """Writes a column hint for a dataset, without the final answer in it."""

    model: str
    """Hugging Face name or local folder of an instruct model: it must have a chat template."""
    dataset: str
    """A .jsonl, .json or .parquet file, or NAME[:CONFIG[:SPLIT]] on the hub; columns as in docs/data-and-models.md."""
    out: Path
    """The .jsonl file to write, or to continue."""
    prompt: str = PROMPT
    """What the model is asked, or a file with it. {problem} and {solution} are replaced by those of the row."""
    attempts: int = 4
    """Hints to try for a row before it is left without one."""
    verifier: str = "math"
    """Whose notion of the same answer decides what leaks: math, choice, code, or FILE.py:FUNCTION."""
    temperature: float = 0.7
    """Of sampling the hints."""
    max_prompt_tokens: int = 4096
    """Rows whose problem and solution are longer get no hint and are counted."""
    max_response_tokens: int = 512
    """Longer hints are discarded."""
    seed: int = 0
    """Decides the samples."""
    vllm_tp: int = 1
    """GPUs that share the model."""
    vllm_memory: float = 0.9
    """Share of the GPU's memory for vLLM. On a CPU VLLM_CPU_KVCACHE_SPACE decides, in GiB."""

    def __post_init__(self):
        for name in ("attempts", "temperature", "max_prompt_tokens", "max_response_tokens"):
            if not getattr(self, name) > 0:
                sys.exit(f"--{name.replace('_', '-')} must be above 0, but is {getattr(self, name)}")
        if len(self.prompt) < 200 and Path(self.prompt).is_file():
            self.prompt = Path(self.prompt).read_text()
        if "{problem}" not in self.prompt:
            sys.exit(f"--prompt has no {{problem}} in it, nor is it a file: {self.prompt[:80]!r}")
        require(self.seed >= 0, "--seed must be at least 0")
        require(self.out.suffix == ".jsonl" and self.out.resolve() != Path(self.dataset).resolve(),
                f"--out {self.out} must end in .jsonl and not be the --dataset itself")
        with user_error("--verifier"):
            verifiers.load(self.verifier)


# ---------------------------------------------------------------------------------------------------------------- leaks
def plain(text: str) -> str:
    """One spelling for numbers: digits for words up to twenty, ASCII signs, no separators of thousands."""
    text = unicodedata.normalize("NFKC", text.translate(MARKS)).translate(MARKS)
    text = NUMBER_WORDS.sub(lambda m: str(WORDS.index(m[0].lower())), text)
    text = re.sub(r"\b(?:minus|negative) (?=\d)", "-", text, flags=re.IGNORECASE)
    return re.sub(r"(?<=\d)(?:\{,\}|\\,| )(?=\d{3}(?!\d))", "", text)


def candidates(hint: str, verifier: str) -> list[str]:
    """Everything in a hint that could be taken for a final answer, each as a response for `verifiers.verify`."""
    if verifier == "code":
        parts = [hint, *(match[0] for match in DEFINITION.finditer(hint)), *re.findall(r"`+([^`]+)`+", hint)]
        return [hint, *("```python\n" + textwrap.dedent(part).strip("\n") + "\n```" for part in parts)]
    if verifier == "choice":
        spans = OPTION.findall(hint)
    else:
        hint = plain(hint)
        spans = SPANS.findall(hint) + [(sign,) for n in NUMBER.findall(hint) for sign in (n, n.lstrip("-"))]
    spans = [next(filter(None, groups), "").strip().rstrip(".,") for groups in spans]
    return [hint, *(f"\\boxed{{{span}}}" for span in dict.fromkeys(spans) if span)]


def literally(answer: str, hint: str) -> bool:
    """Whether the answer stands in the hint up to case, spaces and LaTeX's marks, and not inside a longer word."""
    strip = lambda text: re.sub(r"\\(?:text|mathrm|left|right|[,;!])|[${}]", "", re.sub(r"\\[dt]frac", r"\\frac", text))
    letters = r"\s*".join(map(re.escape, re.sub(r"\s", "", strip(plain(answer)))))
    return bool(letters and re.search(rf"(?<!\w){letters}(?!\w)", strip(plain(hint)), re.IGNORECASE))


def leaks(hints: list[str], answers: list[str], names: list[str]) -> list[bool]:
    """Whether each hint contains its answer (which `verifiers.reference` has read) in the eyes of its verifier."""
    jobs, owners = [], []
    for i, (hint, answer, name) in enumerate(zip(hints, answers, names)):
        for response in candidates(hint, name):
            jobs.append((name, response, answer))
            owners.append(i)
    told = {i for i, verdict in zip(owners, verifiers.verify(jobs)) if verdict == "right"}
    shown = [reading.choice_parts(answer)[1] if name == "choice" else answer for answer, name in zip(answers, names)]
    return [i in told or literally(answer, hint) for i, (answer, hint) in enumerate(zip(shown, hints))]


# ----------------------------------------------------------------------------------------------------------------- main
def read_rows(args: Args) -> tuple[list[dict], list[dict | None]]:
    """All rows as they are, and as `verifiers.read_row` has them, or None; stops with a sentence if it has none."""
    with user_error(f"cannot load the dataset {args.dataset}"):
        rows = [reading.parsed(row) for row in reading.load_rows(args.dataset) if row != {"jsonl": ""}]
    read, reason = [], "there are none"
    for row in rows:
        try:
            read.append(verifiers.read_row(row, args.verifier, ""))
        except (ValueError, TypeError, LookupError) as e:
            read.append(None)
            reason = e
    if not any(read):
        sys.exit(f"{args.dataset} has no row to write a hint for: {reason}")
    return rows, read


def continued(file: Path, rows: list[dict]) -> int:
    """How many rows the file holds already. Cuts off a last line that was not finished."""
    whole = [line for line in open(file, "rb") if line.endswith(b"\n")] if file.exists() else []
    bare = lambda row: json.dumps(row | {"hint": ""}, default=str, sort_keys=True)
    if len(whole) > len(rows) or any(bare(json.loads(line)) != bare(row) for line, row in zip(whole, rows)):
        sys.exit(f"{file} holds rows of another dataset: choose another --out")
    if file.exists():
        os.truncate(file, sum(map(len, whole)))
    return len(whole)


def main(args: Args):
    tokenizer = open_model(args.model, args)
    if not tokenizer.chat_template:
        sys.exit(f"{args.model} has no chat template: hints want an instruct model")
    rows, read = read_rows(args)
    with user_error(f"cannot write {args.out}"):
        args.out.parent.mkdir(parents=True, exist_ok=True)
        open(args.out, "a").close()
        start = continued(args.out, rows)
    text = lambda value: value if isinstance(value, str) else json.dumps(value, default=str)

    def prompt_ids(row, problem):
        given = (row[name] for name in ("solution", *reading.ANSWER) if not reading.empty(row.get(name)))
        parts = {"{problem}": problem["messages"][-1]["content"], "{solution}": text(next(given, problem["answer"]))}
        content = re.sub(r"\{problem\}|\{solution\}", lambda m: parts[m[0]], args.prompt)
        chat = [{"role": "user", "content": content}]
        chat = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return tokenizer(chat, add_special_tokens=False).input_ids

    counts = Counter()
    engine = start_engine(args) if start < len(rows) else None
    bar = tqdm(desc=str(args.out), initial=start, total=len(rows), unit="row")
    for start in range(start, len(rows), CHUNK):
        seed_everything(args.seed, start)
        chunk, pending = rows[start : start + CHUNK], []
        hints = [row.get("hint") or "" for row in chunk]
        for i, (row, problem) in enumerate(zip(chunk, read[start : start + CHUNK])):
            if hints[i]:
                continue
            if problem is None:
                counts["without hint: no readable problem and answer"] += 1
            elif len(ids := prompt_ids(row, problem)) > args.max_prompt_tokens:
                counts["without hint: longer than --max-prompt-tokens"] += 1
            else:
                pending.append((i, ids, problem["answer"], problem["verifier"]))
        for attempt in range(args.attempts):
            written = write(engine, [ids for _, ids, _, _ in pending], args)
            leaking = leaks(written, [reference for *_, reference, _ in pending], [name for *_, name in pending])
            for (i, *_), hint, leak in zip(pending, written, leaking):
                counts["thrown away: the answer was in it"] += leak
                counts["thrown away: empty or too long"] += not hint
                hints[i] = "" if leak else hint
            pending = [job for job in pending if not hints[job[0]]]
        counts["without hint: no attempt was good"] += len(pending)
        counts["with a hint"] += sum(map(bool, hints))
        with open(args.out, "a") as file:
            file.writelines(json.dumps(row | {"hint": hint}, default=str) + "\n" for row, hint in zip(chunk, hints))
        bar.update(len(chunk))
    bar.close()
    for name, count in sorted(counts.items()):
        print(f"{count:6} {name}")
    print(f"{args.out} holds all {len(rows)} rows")


def write(engine, prompts: list[list[int]], args: Args) -> list[str]:
    """One hint per prompt, without any thinking before it; empty if it was cut."""
    from vllm import SamplingParams

    params = SamplingParams(temperature=args.temperature, max_tokens=args.max_response_tokens)
    requests = [{"prompt_token_ids": ids} for ids in prompts]
    outputs = [request.outputs[0] for request in engine.generate(requests, params, use_tqdm=False)]
    return [o.text.rpartition("</think>")[2].strip() if o.finish_reason == "stop" else "" for o in outputs]


if __name__ == "__main__":
    main(tyro.cli(Args))
