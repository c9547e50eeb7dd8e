"""compare.py: its estimates against brute force, its table against its report, and what it refuses."""

import itertools
import json
import re

import numpy as np
import pytest

import compare


def row(i, verdicts, greedy="", group="all"):
    """A problem's row in a file of responses; a verdict is its first letter."""
    names = {"r": "right", "w": "wrong", "u": "unparsed"}
    tried = [dict(text="", verdict=names[v], tokens=10, logprob=-2.0, truncated=v == "u") for v in verdicts + greedy]
    first = tried.pop() if greedy else None
    return dict(row=i, group=group, prompt="?", answer=str(i), responses=tried, greedy=first)


def settings(**changed):
    return dict(model="m", dataset="d", hints=False, samples=4, greedy=False) | changed


def write(path, rows, **changed):
    made = settings(**dict(samples=len(rows[0]["responses"]), problems=len(rows)) | changed)
    path.write_text("".join(json.dumps(line) + "\n" for line in [made, *rows]))
    return str(path)


# ------------------------------------------------------------------------------------------------------------ estimates
def test_pass_at_k_is_the_share_of_subsets_with_a_right_response():
    for n in range(1, 8):
        for c, k in itertools.product(range(n + 1), range(1, n + 1)):
            subsets = [any(i < c for i in subset) for subset in itertools.combinations(range(n), k)]
            assert compare.pass_at_k(n, np.array([c]), k)[0] == pytest.approx(np.mean(subsets), abs=1e-12)
    assert np.isfinite(compare.pass_at_k(4096, np.arange(4097), 4096)).all()


def test_intervals_are_those_of_the_mean_and_the_same_every_time():
    values = np.array([0, 1] * 200)
    mean, low, high = compare.interval(values)
    assert mean == 0.5 and compare.interval(values) == [mean, low, high]
    standard_error = 0.5 / np.sqrt(len(values))
    assert (high - low) / 2 == pytest.approx(1.96 * standard_error, rel=0.1)


def test_decomposition_of_a_case_done_by_hand():
    base = [row(0, "wrww"), row(1, "wwww"), row(2, "wwwr"), row(3, "rwww"), row(4, "rrrr"), row(5, "wwww")]
    model = [row(0, "rrrr"), row(1, "rwww"), row(2, "rrww"), row(3, "wrrr"), row(4, "rrrr"), row(5, "wrrr")]
    split = compare.decompose(base, model, k=3)
    assert split["self-distillation"]["rows"] == [0]  # the base's second sample
    assert split["capability gain"]["rows"] == [1, 2]  # 2 needs a fourth sample
    assert split["forgotten"]["rows"] == [3]
    assert [split[part]["count"] for part in ("self-distillation", "capability gain", "forgotten")] == [1, 2, 1]
    assert split["delta first try"][0] == pytest.approx((1 + 2 - 1) / 6)
    assert compare.decompose(base, model, k=4)["capability gain"]["rows"] == [1]

    greedy = [base[0] | dict(greedy=base[4]["responses"][0]), *base[1:]]  # solves 0 at the first try
    assert compare.decompose(greedy, model, k=3)["self-distillation"]["count"] == 0


def test_table_and_report_say_the_same(tmp_path):
    groups = ["x", "x", "y", "y"]
    arms = {
        "base": [row(i, v, "w", g) for i, (v, g) in enumerate(zip(("wwwr", "rwww", "wwww", "uuuu"), groups))],
        "rl": [row(i, v, "r", g) for i, (v, g) in enumerate(zip(("rrrr", "rrww", "wwww", "wrrr"), groups))],
    }
    arms["rl + hint"] = [r | dict(responses=[arms["rl"][0]["responses"][0]] * 4) for r in arms["rl"]]
    made = {label: settings(model=label[:2], greedy=True, hints="hint" in label) for label in arms}
    report = json.loads(json.dumps(compare.make_report(made, arms, "base", k=4)))
    text = compare.table(report)
    rl = report["models"]["rl"]
    assert rl["pass@k"]["1"][0] == pytest.approx((4 + 2 + 0 + 3) / 16)
    assert rl["by"]["y"]["pass@k"]["4"][0] == pytest.approx(0.5)
    assert report["models"]["base"]["verdicts"]["unparsed"] == report["models"]["base"]["truncated"] == 0.25
    assert rl["entropy"] == pytest.approx(0.2) and rl["length"] == 10
    assert report["lift by hints"]["rl + hint"]["1"][0] == pytest.approx(1 - 9 / 16)
    assert "rl + hint" not in report["decomposition"]

    def cells(line):
        return [c.strip() for c in line.strip("|").split("|")]

    lines = text.splitlines()
    y = next(lines[i + 2] for i, line in enumerate(lines) if line.startswith("| rl "))
    assert cells(y)[1:3] == ["y", "2"]
    for shown, k in zip(cells(y)[4:], ("1", "4")):
        assert [float(x) for x in re.findall(r"-?\d\.\d+", shown)] == [round(v, 3) for v in rl["by"]["y"]["pass@k"][k]]
    later = [cells(line) for line in lines[lines.index(y) :] if line.startswith("| rl ")]
    split = next(row for row in later if row[1:3] == ["all", "4"] and len(row) == 7)
    parts = ("self-distillation", "capability gain", "forgotten")
    assert split[3:6] == [str(report["decomposition"]["rl"][part]["count"]) for part in parts]
    compare.draw(report, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_with_hints_all_are_compared_on_the_problems_that_have_one(tmp_path):
    plain = write(tmp_path / "plain.jsonl", [row(0, "rwww"), row(1, "wwww"), row(2, "rrrr")])
    hinted = write(tmp_path / "hinted.jsonl", [row(0, "rrrr"), row(1, "rrww")], hints=True)
    compare.main(compare.Args([plain, hinted], out=str(tmp_path / "out")))
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["models"]["plain"]["problems"] == report["models"]["hinted"]["problems"] == 2
    assert report["lift by hints"]["hinted"]["1"][0] == pytest.approx((4 + 2 - 1) / 8)
    assert not report["decomposition"]
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"report.json", "table.md", "pass_at_k.png"}

    compare.main(compare.Args([hinted], out=str(tmp_path / "alone"), base=f"before={plain}", k=4))
    assert not json.loads((tmp_path / "alone/report.json").read_text())["decomposition"]


# ----------------------------------------------------------------------------------------------------------- bad input
def refused(responses, base="", k=16):
    with pytest.raises(SystemExit) as stop:
        compare.main(compare.Args(responses, out="never", base=base, k=k))
    return str(stop.value)


def test_files_that_cannot_be_compared_end_with_a_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = write(tmp_path / "few.jsonl", [row(0, "rw")])
    more = write(tmp_path / "more.jsonl", [row(0, "rw"), row(1, "rw")])
    cut = write(tmp_path / "cut.jsonl", [row(0, "rw"), row(1, "rw")], problems=64)
    greedy = write(tmp_path / "greedy.jsonl", [row(0, "rw", greedy="r")], greedy=True)
    other = write(tmp_path / "other.jsonl", [row(0, "rw", group="hard")])
    for file in (more, greedy, other, write(tmp_path / "cold.jsonl", [row(0, "rw")], temperature=0.2)):
        assert "do not have the same problems, --by, greedy, temperature, verifier" in refused([few, file])
    hinted = write(tmp_path / "hinted.jsonl", [row(5, "rw")], hints=True)
    assert "name files of responses that share problems" in refused([few, hinted])
    assert "two files have the same label few" in refused([few], base=few)
    assert "--k 16 is not among 1 to 2, the responses per problem of b" in refused([f"a={few}"], base=f"b={few}")
    assert "--k 0 is not among" in refused([f"a={few}"], base=f"b={few}", k=0)
    assert "cut.jsonl holds 2 of 64 problems" in refused([cut])
    assert "name files of responses" in refused([])
    assert "gone.jsonl is not a file of responses" in refused(["gone.jsonl"])
    for text in ("[1, 2]\n", "", "{}\n", "no JSON\n", '{"problem": "1+1", "answer": "2"}\n'):
        (tmp_path / "bad.jsonl").write_text(text)
        assert "bad.jsonl is not a file of responses" in refused(["bad.jsonl"])
    assert not (tmp_path / "never").exists()
