"""The embedded problems are what toy.py says they are."""

import json

import pytest
from conftest import ROOT
from safetensors.torch import load_file

import toy


def test_the_script_rewrites_the_committed_problems(tmp_path):
    keys, habits = toy.secrets()
    toy.write_problems(tmp_path, keys)
    for name in ("train.jsonl", "test.jsonl"):
        assert (tmp_path / name).read_text() == (ROOT / "toy" / name).read_text()
    for letter, (_, q) in toy.LETTERS.items():
        for right, habit in zip(keys[letter], habits[letter]):
            assert sum(habit) == pytest.approx(1)
            assert habit[list(toy.MOVES).index(right)] == pytest.approx(q)


def test_held_out_digits_are_never_trained_on():
    digits = {}
    for name in ("train", "test"):
        rows = [json.loads(line) for line in open(ROOT / f"toy/{name}.jsonl")]
        digits[name] = {row["prompt"][0]["content"][2:8] for row in rows}
        assert {row["level"] for row in rows} == {"easy", "medium", "hard"}
    assert not digits["train"] & digits["test"]


def test_encipher_and_solution():
    moves = ["down", "down", "jump", "keep", "up", "up"]
    assert toy.encipher("384109", moves) == "279110"
    assert toy.solution("384109", moves) == r"3 down 2, 8 down 7, 4 jump 9, 1 keep 1, 0 up 1, 9 up 0 \boxed{279110}"


def test_the_tokenizer_survives_saving_and_knows_every_word(tokenizer):
    text = f"<|user|>k(384109)=?\n\nHint: {toy.hint(['down', 'jump', 'up', 'keep'])}<|end|><|assistant|>"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text
    assert toy.make_tokenizer()(text, add_special_tokens=False).input_ids == ids


def test_the_model_is_small_enough_to_ship():
    path = ROOT / "toy/model/model.safetensors"
    assert path.stat().st_size < 2_000_000
    assert sum(t.numel() for t in load_file(path).values()) == 328_320
