"""Secret ciphers: a 328k-parameter language model and its problems, so that everything runs offline on a CPU.

    python toy.py            # rewrites toy/model, toy/train.jsonl and toy/test.jsonl in a few minutes

A letter names a secret key: one move per digit (`up` +1, `down` -1, `jump` +5, `keep` +0, mod 10).
The problem k(384105)=? asks for the enciphered digits; a solution works digit by digit and boxes them:

    3 up 4, 8 jump 3, 4 jump 9, 1 keep 1, 0 down 9, 5 keep 5 \\boxed{439195}

The base model can execute any move and follow a hint (`Hint: up, then jump, then jump, ...`), but without
a hint it only guesses each key: at every position it takes the right move with probability q, and spreads
the rest over the others by a habit of its own. Six guesses must all be right, so q sets the difficulty:

    easy    q = .83   solves about 1 in 3        (3 letters)
    medium  q = .60   solves about 1 in 21       (3 letters)
    hard    q = .33   solves about 1 in 770      (6 letters): eight samples are nearly always all wrong

RL must find the keys, and end up not needing the hint. Digit strings whose CRC-32 is 0 mod 10 are held out.
Another number of --digits makes longer or shorter responses at the same solve rates: q becomes q^(6 / digits).
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
import tyro
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from tqdm import trange
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

MOVES = {"up": 1, "down": -1, "jump": 5, "keep": 0}
DIGITS = 6
LEVELS = {"easy": (0.83, "abc"), "medium": (0.60, "dgh"), "hard": (0.33, "kmprsw")}
LETTERS = {letter: (level, q) for level, (q, letters) in LEVELS.items() for letter in letters}
TRAIN_PER_LETTER, TEST_PER_LETTER = 200, 12
STEPS, BATCH_SIZE, LEARNING_RATE, WARMUP = 700, 128, 3e-3, 50

SPECIAL = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|unk|>"]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_tokenizer(size=256):
    """Characters, plus one token for each word the solutions use, and unused ones."""
    words = ["Hint", "boxed", " then", " boxed"] + [space + move for move in MOVES for space in ("", " ")]
    vocabulary = SPECIAL + [chr(c) for c in range(32, 127)] + ["\n"] + words
    vocabulary += [f"<|unused_{i}|>" for i in range(size - len(vocabulary))]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token="<|unk|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+|[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>", unk_token="<|unk|>",
        additional_special_tokens=["<|user|>", "<|assistant|>"], chat_template=CHAT_TEMPLATE,
    )


def secrets(digits=DIGITS, seed=0):
    """The key of each letter, and the base model's habit: P(move | letter, position), summing to 1."""
    rng, names = np.random.default_rng(seed), list(MOVES)
    keys, habits = {}, {}
    for letter, (_, q) in LETTERS.items():
        keys[letter] = [str(rng.choice(names)) for _ in range(digits)]
        habits[letter], q = [], q ** (DIGITS / digits)
        for right in keys[letter]:
            wrong = rng.permutation([move for move in names if move != right])
            share = dict(zip(wrong, (0.6, 0.3, 0.1))) | {right: q / (1 - q)}
            habits[letter].append([share[move] * (1 - q) for move in names])
    return keys, habits


def encipher(digits, moves):
    return "".join(str((int(d) + MOVES[move]) % 10) for d, move in zip(digits, moves))


def solution(digits, moves):
    answer = encipher(digits, moves)
    steps = ", ".join(f"{d} {move} {a}" for d, move, a in zip(digits, moves, answer))
    return f"{steps} \\boxed{{{answer}}}"


def problem(letter, digits):
    return f"{letter}({digits})=?"


def hint(moves):
    return ", then ".join(moves)


def held_out(digits):
    return zlib.crc32(digits.encode()) % 10 == 0


def draw_digits(rng, count=DIGITS, test=False):
    while True:
        digits = "".join(map(str, rng.integers(0, 10, count)))
        if held_out(digits) == test:
            return digits


def pretrain(tokenizer, keys, habits, steps=STEPS, seed=0):
    """The base model: half of its texts follow a hint with random moves, half guess by the habit."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=4096, tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )
    model, rng = LlamaForCausalLM(config), np.random.default_rng(seed + 1)

    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    others = [p for n, p in model.named_parameters() if p.ndim == 1 or "layers" not in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.0, adjust_lr_fn="original"),
        torch.optim.AdamW(others, lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    shape = lambda s: min((s + 1) / WARMUP, 0.5 * (1 + np.cos(np.pi * s / steps)))
    schedulers = [torch.optim.lr_scheduler.LambdaLR(o, shape) for o in optimizers]

    bar = trange(steps, desc="pretrain")
    for _ in bar:
        texts = []
        for i in range(BATCH_SIZE):
            letter = str(rng.choice(list(LETTERS)))
            digits = draw_digits(rng, len(habits[letter]))
            hinted = i % 2 == 0
            moves = [str(rng.choice(list(MOVES), p=None if hinted else p)) for p in habits[letter]]
            user = problem(letter, digits) + (f"\n\nHint: {hint(moves)}" if hinted else "")
            chat = [{"role": "user", "content": user}]
            prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            prompt = tokenizer(prompt, add_special_tokens=False).input_ids
            reply = tokenizer(solution(digits, moves), add_special_tokens=False).input_ids + [tokenizer.eos_token_id]
            texts.append((prompt, reply))
        longest = max(len(p) + len(r) for p, r in texts)
        ids = torch.full((BATCH_SIZE, longest), tokenizer.pad_token_id)
        labels = torch.full((BATCH_SIZE, longest), -100)
        for row, (prompt, reply) in enumerate(texts):
            ids[row, : len(prompt) + len(reply)] = torch.tensor(prompt + reply)
            labels[row, len(prompt) : len(prompt) + len(reply)] = torch.tensor(reply)
        loss = model(input_ids=ids, labels=labels).loss
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, scheduler in zip(optimizers, schedulers):
            optimizer.step()
            scheduler.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    return model


def write_problems(folder, keys):
    """One JSON object a line: prompt (chat list), hint (text), answer, level. Letters take turns."""
    rng = np.random.default_rng(2)
    for name, count in (("train", TRAIN_PER_LETTER), ("test", TEST_PER_LETTER)):
        with open(folder / f"{name}.jsonl", "w") as file:
            for _ in range(count):
                for letter, (level, _) in LETTERS.items():
                    digits = draw_digits(rng, len(keys[letter]), test=name == "test")
                    row = dict(
                        prompt=[{"role": "user", "content": problem(letter, digits)}],
                        hint=hint(keys[letter]), answer=encipher(digits, keys[letter]), level=level,
                    )
                    file.write(json.dumps(row) + "\n")


def main(folder: Path = Path(__file__).parent / "toy", digits: int = DIGITS):
    """Writes model, train.jsonl and test.jsonl into the folder.

    Args:
        folder: Where to write.
        digits: How many digits a problem has. A response has about 7 tokens for each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, (keys, habits) = make_tokenizer(), secrets(digits)
    write_problems(folder, keys)
    model = pretrain(tokenizer, keys, habits)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters -> {folder}/model; problems -> {folder}/*.jsonl")


if __name__ == "__main__":
    tyro.cli(main)
