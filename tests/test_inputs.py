"""What users feed in: common datasets load unconverted, and bad input ends with one sentence before the engine."""

import gzip
import json
import subprocess
import sys

import datasets
import pytest
from conftest import ROOT, TOY, read
from transformers import AutoConfig

import grpo
import guide_ppo
import verifiers

GSM8K = {"question": "Natalia sold 48 clips, then half as many. How many?", "answer": "48/2 = <<48/2=24>>24\n#### 72"}
MATH = {"problem": "What is $1/2 + 1/4$?", "solution": "It is $\\boxed{\\frac{3}{4}}$.", "level": "Level 1"}
VERL = {
    "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 6 times 7?"}],
    "reward_model": {"ground_truth": "42", "style": "rule"},
    "data_source": "test",
}


def write(path, rows):
    if path.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    "name, row, answer, prompt",
    [
        ("a.jsonl", GSM8K, "72", "clips, then half as many. How many?"),
        ("a.json", MATH, "\\frac{3}{4}", "What is $1/2 + 1/4$?"),
        ("a.parquet", VERL, "42", "<|system|>Be brief.<|end|><|user|>What is 6 times 7?<|end|><|assistant|>"),
    ],
)
def test_common_formats_load_unconverted(tmp_path, tokenizer, args, name, row, answer, prompt):
    (problem,) = read(grpo, write(tmp_path / name, [row]), tokenizer, args)
    assert problem.answer == answer
    assert problem.level == row.get("level", "")
    assert prompt in problem.prompt
    assert ("\\boxed{}" in problem.prompt) == (name != "a.parquet")  # the instruction follows plain text only
    assert problem.prompt_ids == tokenizer(problem.prompt, add_special_tokens=False).input_ids


ROWS = [{"problem": f"{i} + 1 = ?", "answer": str(i + 1), "level": 0} for i in range(4)]


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.jsonl.gz", "lines.json", "list.json", "a.csv", "a.tsv", "a.parquet", "folder"]
)
def test_every_kind_of_file_holds_the_same_problems(tmp_path, tokenizer, args, name):
    path, rows = tmp_path / name, datasets.Dataset.from_list(ROWS)
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    if name == "a.jsonl.gz":
        path.write_bytes(gzip.compress(lines.encode()))
    elif name in ("a.jsonl", "lines.json", "list.json"):
        path.write_text(json.dumps(ROWS, indent=1) if name == "list.json" else lines)
    elif name in ("a.csv", "a.tsv"):
        rows.to_csv(path, sep="," if name == "a.csv" else "\t")
    elif name == "folder":
        path.mkdir()
        rows.select([0, 1]).to_parquet(path / "0.parquet")
        rows.select([2, 3]).to_parquet(path / "1.parquet")
    else:
        rows.to_parquet(path)
    problems = read(grpo, str(path), tokenizer, args)
    assert [p.answer for p in problems] == ["1", "2", "3", "4"] and "2 + 1 = ?" in problems[2].prompt
    assert all(p.level == "0" for p in problems)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "./a.parquet"])
def test_a_file_in_the_folder_where_one_is(tmp_path, tokenizer, args, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    rows = datasets.Dataset.from_list(ROWS)
    {"csv": rows.to_csv, "parquet": rows.to_parquet, "jsonl": rows.to_json}[name.rpartition(".")[2]](name)
    assert [p.answer for p in read(grpo, name, tokenizer, args)] == ["1", "2", "3", "4"]


def test_the_marks_and_empty_lines_of_some_editors(tmp_path, tokenizer, args):
    (tmp_path / "a.jsonl").write_text("\ufeff" + "\n\n".join(map(json.dumps, ROWS)) + "\n\n")
    assert [p.answer for p in read(grpo, str(tmp_path / "a.jsonl"), tokenizer, args)] == ["1", "2", "3", "4"]


def test_a_broken_file_is_said_to_be_broken(tmp_path, tokenizer, args):
    (tmp_path / "a.csv").write_text("problem,answer\n1 + 1,2\n1,2,3,4\n")
    with pytest.raises(SystemExit, match="cannot load the dataset .*Expected 2 fields in line 3, saw 4"):
        read(grpo, str(tmp_path / "a.csv"), tokenizer, args)


def test_slices_and_integers_of_any_size(tmp_path, tokenizer, args):
    big = 3**100
    path = write(tmp_path / "a.jsonl", [*ROWS, {"problem": "?", "answer": big}, {"problem": "?", "answer": "text"}])
    assert [p.answer for p in read(grpo, path, tokenizer, args)][4:] == [str(big), "text"]
    assert [p.answer for p in read(grpo, f"{path}::train[1:3]", tokenizer, args)] == ["2", "3"]
    with pytest.raises(SystemExit, match="cannot load the dataset .*Unknown split"):
        read(grpo, f"{path}::test", tokenizer, args)
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    with pytest.raises(SystemExit, match="cannot load the dataset .*save_to_disk"):
        read(grpo, str(tmp_path / "saved"), tokenizer, args)


def test_each_row_may_name_its_verifier(tmp_path, tokenizer, args):
    rows = [
        {"problem": "?", "answer": "(B) Paris", "verifier": "choice"},
        {"problem": "?", "answer": "assert f(1) == 2", "verifier": "code"},
        {"problem": "?", "answer": "5", "verifier": None},
    ]
    problems = read(grpo, write(tmp_path / "a.jsonl", rows), tokenizer, args)
    assert [p.verifier for p in problems] == ["choice", "code", "math"]
    rows[0]["verifier"] = "mine.py:nothing"
    with pytest.raises(SystemExit, match="row 0: there is no 'mine.py:nothing'"):
        read(grpo, write(tmp_path / "b.jsonl", rows), tokenizer, args)


@pytest.mark.parametrize("column", ["test_list", "test"])
def test_code_tests_are_read_from_their_usual_columns(tmp_path, tokenizer, args, column):
    args.verifier = "code"
    tests = ["assert f(1) == 2", "assert f(2) == 3"]
    row = {"prompt": "Add one.", column: tests if column == "test_list" else "\n".join(tests)}
    (problem,) = read(grpo, write(tmp_path / "a.jsonl", [row]), tokenizer, args)
    assert problem.answer == "assert f(1) == 2\nassert f(2) == 3"


def test_a_tokenizer_without_chat_template_gets_the_plain_one(tmp_path, tokenizer, args):
    plain = type(tokenizer).from_pretrained(TOY["model"])
    plain.chat_template, args.instruction = None, ""
    (problem,) = read(grpo, write(tmp_path / "a.jsonl", [{"problem": "1+1?", "answer": 2}]), plain, args)
    assert problem.prompt == "Question: 1+1?\nAnswer:"


def test_long_prompts_are_left_out_and_counted(tmp_path, tokenizer, args, capsys):
    rows = [{"problem": "?", "answer": "1"}, {"problem": "?" * 500, "answer": "2"}]
    assert [p.answer for p in read(grpo, write(tmp_path / "a.jsonl", rows), tokenizer, args)] == ["1"]
    assert "1 of 2 rows are problems with a prompt that fits" in capsys.readouterr().out


def test_rows_are_read_once_and_again_when_it_matters(tmp_path, tokenizer, args, monkeypatch):
    path = write(tmp_path / "a.jsonl", ROWS)
    first = read(grpo, path, tokenizer, args)
    monkeypatch.setattr(verifiers, "read_row", None)
    args.lr, args.name = 1.0, "another"  # flags that change no problem
    assert read(grpo, path, tokenizer, args) == first
    for flag, value in (("instruction", "Be brief."), ("verifier", "choice"), ("max_prompt_tokens", 90)):
        with pytest.raises(SystemExit, match="row 0: 'NoneType' object is not callable"):
            read(grpo, path, tokenizer, grpo.Args(**TOY | {flag: value}))
    monkeypatch.undo()
    write(tmp_path / "a.jsonl", ROWS[1:])
    assert read(grpo, path, tokenizer, args)[0].answer == first[1].answer


def test_many_rows_are_read_side_by_side_in_their_order(tmp_path, tokenizer, args):
    rows = [{"problem": f"{i} + 1 = ?", "answer": i + 1} for i in range(6000)]
    path = write(tmp_path / "a.jsonl", rows)
    assert [p.answer for p in read(grpo, path, tokenizer, args)] == [str(i + 1) for i in range(6000)]
    rows[4321]["answer"] = None
    with pytest.raises(SystemExit, match="row 4321: the answer is empty: .* Mend it, or pass --skip-bad-rows"):
        read(grpo, write(tmp_path / "b.jsonl", rows), tokenizer, args)


def test_bad_rows_are_left_out_on_request(tmp_path, tokenizer, args):
    args.skip_bad_rows = True
    rows = [{"problem": "?", "answer": a} for a in ("1", None, "", "2")]
    assert [p.answer for p in read(grpo, write(tmp_path / "a.jsonl", rows), tokenizer, args)] == ["1", "2"]


BAD_FLAGS = [
    (dict(lr=-1.0), "--lr must be a positive number, but is -1.0"),
    (dict(lr=float("nan")), "--lr must be a positive number"),
    (dict(steps=-1), "--steps must be a positive number"),
    (dict(group_size=1), "use at least 2"),
    (dict(minibatches=25), "--minibatches are more than --problems"),
    (dict(lr=float("inf")), "--lr must be a positive number, but is inf"),
    (dict(name="../x"), "--name is the name of a folder within runs/"),
    (dict(name=".."), "--name is the name of a folder within runs/"),
    (dict(max_response_tokens=0), "--max-response-tokens must be a positive number"),
    (dict(temperature=0.0), "--temperature must be a positive number"),
    (dict(verifier="maths"), "--verifier: there is no 'maths': use math, choice, code, or FILE.py:FUNCTION"),
]


@pytest.mark.parametrize("flags, sentence", BAD_FLAGS)
def test_bad_flags(flags, sentence):
    with pytest.raises(SystemExit, match=sentence):
        grpo.Args(**TOY | flags)


BAD_DATA = [
    ([], "cannot load|none of 0 rows is left"),
    ([{"body": "?", "label": "1"}], "is empty: nothing in problem, question, prompt.* columns .*body, label"),
    ([{"problem": "?", "label": "1"}], "is empty: nothing in answer, .*solution, reward_model.ground_truth"),
    ([{"problem": "?", "answer": "1"}, {"problem": "?", "answer": None}], "row 1: .*or pass --skip-bad-rows"),
    ([{"problem": "?", "answer": "1"}, {"problem": "?", "answer": "\\boxed{}"}], r"row 1: cannot read"),
    ([{"prompt": "?", "reward_model": {"style": "rule"}}], "nothing in answer, .*solution, reward_model.ground_truth"),
    ([{"problem": None, "answer": "1"}, {"problem": "?", "answer": "1"}], "cannot use .*: row 0: "),
    ([{"prompt": [], "answer": "1"}], "cannot use .*: row 0: "),
    ([{"problem": "?" * 500, "answer": "1"}], "none of 1 rows is left .* --max-prompt-tokens is 128"),
    ([{"problem": "?", "answer": "1"}], "1 problems not held out are fewer than --problems"),
]


@pytest.mark.parametrize("rows, sentence", BAD_DATA)
def test_bad_data_stops_before_the_engine(tmp_path, rows, sentence):
    with pytest.raises(SystemExit, match=sentence):
        grpo.main(grpo.Args(**TOY | dict(dataset=write(tmp_path / "a.jsonl", rows))))


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (dict(model="no/such/model/here"), "no/such/model/here is neither a model's folder nor on the hub"),
        (dict(dataset="nowhere.jsonl"), "cannot load the dataset nowhere.jsonl: Unable to find"),
        (dict(max_response_tokens=100_000), "reads 4096 tokens: lower --max-"),
    ],
)
def test_bad_names_stop_before_the_engine(flags, sentence):
    with pytest.raises(SystemExit, match=sentence):
        grpo.main(grpo.Args(**TOY | flags))


def test_what_a_model_reads_may_stand_in_its_text_config(tmp_path, tokenizer):
    AutoConfig.for_model("gemma3", text_config=dict(max_position_embeddings=150)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(SystemExit, match="reads 150 tokens: lower --max-"):
        grpo.main(grpo.Args(**TOY | dict(model=str(tmp_path))))


def test_a_folder_that_holds_a_run_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/mine").mkdir(parents=True)
    settings = {"script": "grpo"} | vars(grpo.Args(**TOY | dict(name="mine")))
    (tmp_path / "runs/mine/args.json").write_text(json.dumps(settings))
    with pytest.raises(SystemExit, match="runs/mine already holds a run: choose another --name"):
        grpo.main(grpo.Args(**TOY | dict(name="mine")))
    with pytest.raises(SystemExit, match="runs/mine has the seed 0: keep it, or choose another --name"):
        grpo.main(grpo.Args(**TOY | dict(name="mine", resume=True, seed=1)))
    with pytest.raises(SystemExit, match="runs/mine has the instruction Think.*: keep it"):
        grpo.main(grpo.Args(**TOY | dict(name="mine", resume=True, instruction="Box it.")))
    with pytest.raises(SystemExit, match="runs/mine has the script grpo: keep it"):
        guide_ppo.main(guide_ppo.Args(**TOY | dict(name="mine", resume=True)))
    (tmp_path / "runs/mine/args.json").write_text(json.dumps(settings | dict(eval_dataset="")))
    with pytest.raises(SystemExit, match="runs/mine has the eval_problems 500: keep it"):
        grpo.main(grpo.Args(**TOY | dict(name="mine", resume=True, eval_dataset="", eval_problems=99)))


def test_a_run_that_cannot_be_written_is_refused_before_the_models_load(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/mine").mkdir(parents=True)
    (tmp_path / "runs/mine/unfinished").write_text("as if the folder were read-only, but for root as well")
    with pytest.raises(SystemExit, match="cannot write to runs/: .*unfinished"):
        grpo.main(grpo.Args(**TOY | dict(name="mine", resume=True)))
    assert "loading the policy" not in capsys.readouterr().out


def test_wandb_without_a_login_is_refused_before_the_models_load(tmp_path):
    command = [sys.executable, str(ROOT / "grpo.py"), "--wandb", "--model", TOY["model"], "--dataset", TOY["dataset"]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, stdin=subprocess.DEVNULL,
                          env={"HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)})
    assert done.returncode == 1 and "cannot log to Weights & Biases: " in done.stderr
    assert "loading the policy" not in done.stdout


def test_on_the_command_line_it_is_one_sentence_and_a_status(tmp_path):
    command = [sys.executable, str(ROOT / "grpo.py"), "--model", "no-such-model", "--dataset", TOY["dataset"]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("no-such-model is neither")
    assert not list(tmp_path.iterdir())
