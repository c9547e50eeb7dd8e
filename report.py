r"""Look at a run: one HTML page of its curves, flags and responses, with every token shaded by its gradient.

    python report.py runs/NAME [runs/OTHER ...]       # writes runs/NAME/report.html, which needs no network

A token's weight is −∂loss/∂log π_θ, by which its log-prob is pushed: its advantage times its importance ratio over the
divisor of --loss-norm, and nothing where the clip stops it (ours). It is the gradient of the script's `policy_loss()`
at the trainer's log-probs; other algorithms, by their `advantages()` and default flags, can be had by a switch.

A step is shown by its last group, of the last mini-batch, where ratios are not all 1. What the trainer did not score
(no advantage, or on another rank) has the ratio 1. For --loss-norm token the divisor is the mean length in the group.
With --reshape quantile, whose γ is not logged, there are no weights as run. The term of --kl-coef is left out.
"""

import importlib
import io
import json
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from transformers import AutoTokenizer

import grpo
import grpo_n
import gspo_n
import guide_grpo
from guide_grpo import checkpoints, user_error

OTHERS = {"GRPO": (grpo, {}), "GRPO-N": (grpo_n, {}), "GSPO-N": (gspo_n, {}), "Guide-GRPO": (guide_grpo, {}),
          "Guide-GRPO without ratio": (guide_grpo, {"guided_ratio": False})}
CHARTS = (  # twelve, of metrics that begin with these
    "reward/mean", "eval/pass@1/", "sampler/entropy", "response/length", "response/truncated reward/unparsed",
    "group/all", "sampler/logprob_gap_mean", "policy/ratio_max guide/ratio_max", "policy/clip", "policy/grad_norm",
    "guide/triggered guide/right", "perf/sample_s perf/train_s perf/sync_s")
COLORS, DASHES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"), ("-", "--", ":", "-.")
MOST_POINTS, MOST_TOKENS = 500, 200_000  # of a curve, of responses


@dataclass
class Args:
    """Writes an HTML page about runs: curves, flags, and responses with their gradients."""

    runs: tyro.conf.Positional[list[str]]  # Folders runs/NAME, of runs that are over or still going
    out: str = ""  # The page. Empty: report.html in the folder of the first run
    steps: int = 50  # Show the responses of at most so many steps of a run, evenly spread


def lines(file: Path):
    """The complete lines of a file that a run may still write to."""
    with open(file) as text:
        yield from (line for line in text if line.endswith("\n"))


def read_run(folder: Path) -> tuple[dict, list[dict]]:
    """Its flags and rows of metrics."""
    with user_error(f"{folder} holds no run, so no args.json and metrics.jsonl: pass a folder runs/NAME"):
        rows = [json.loads(row) for row in lines(folder / "metrics.jsonl")]
        return json.loads((folder / "args.json").read_text()), rows


# --------------------------------------------------------------------------------------------------------------- curves
def plot(axis, points: list[tuple], **style):
    """A curve, of at most MOST_POINTS means, pale, and a running mean over a tenth of it in front."""
    size = -(-len(points) // MOST_POINTS)
    steps, values = np.array([np.mean(points[i : i + size], axis=0) for i in range(0, len(points), size)]).T
    smooth = [values[max(0, i - len(values) // 10) : i + 1].mean() for i in range(len(values))]
    axis.plot(steps, values, alpha=0.3, **style | {"label": None})
    axis.plot(steps, smooth, **style)


def curves(runs: dict[str, list[dict]]) -> str:
    """The charts as one SVG, in colours that do on white and on black."""
    names = sorted({name for rows in runs.values() for row in rows for name in row})
    grey = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "legend.labelcolor")
    settings = {"svg.fonttype": "none", "font.size": 9, "text.parse_math": False}
    with matplotlib.rc_context(dict.fromkeys(grey, "#808080") | settings):
        figure = Figure(figsize=(13, 7.5), layout="constrained")
        for axis, chart in zip(figure.subplots(3, 4).flat, CHARTS):
            metrics = [name for name in names if f"{name}/".startswith(tuple(chart.split()))]
            for color, (run, rows) in zip(COLORS * 9, runs.items()):
                for dash, metric in zip(DASHES * 9, metrics):
                    label = f"{run}: {metric}" if len(runs) > 1 else metric
                    if points := [(row["step"], row[metric]) for row in rows if metric in row]:
                        plot(axis, points, color=color, ls=dash, label=label)
            axis.grid(alpha=0.2)
            axis.patch.set_alpha(0)
            axis.legend(fontsize=7, framealpha=0)
            axis.set_visible(bool(metrics))
        figure.patch.set_alpha(0)
        figure.savefig(svg := io.StringIO(), format="svg")
    return "<svg" + svg.getvalue().partition("<svg")[2]


# ------------------------------------------------------------------------------------------------------------ responses
def weights(script, flags: dict, group: list[dict], advantages: list) -> list[list[float]]:
    """−∂loss/∂log π_θ of each token of each response, by the script's policy_loss under its default flags and these."""
    args = SimpleNamespace(**{field.name: field.default for field in fields(script.Args)} | flags)
    gamma = args.gamma if getattr(args, "reshape", "none") == "constant" else 0.0
    pushes, mean_length = [], np.mean([len(r["token_ids"]) for r in group])
    for r, advantage in zip(group, advantages):
        old = torch.tensor([r["logprobs"]], dtype=torch.float64)
        new = torch.tensor([r.get("trainer_logprobs") or r["logprobs"]], dtype=torch.float64, requires_grad=True)
        A, mask = torch.tensor(advantage, dtype=torch.float64).expand_as(old), torch.ones_like(old, dtype=torch.bool)
        guided = [torch.tensor([[r.get("guided", False)]]), gamma] if hasattr(args, "guided_ratio") else []
        loss, _ = script.policy_loss(new, old, A, mask, *guided, args)
        divisor = {"sequence": old.numel(), "token": mean_length, "constant": args.max_response_tokens}[args.loss_norm]
        pushes.append((torch.autograd.grad(loss.sum(), new)[0][0] / -divisor).tolist())
    return pushes


def objectives(flags: dict, group: list[dict]) -> dict[str, list]:
    """Advantages and weights of the responses, as the run had them, and as the other algorithms would have them."""
    found, advantages = {}, [r["advantage"] for r in group]
    if flags.get("reshape") != "quantile" and Path(__file__).with_name(f"{flags['script']}.py").exists():
        script = importlib.import_module(flags["script"])
        found[f"{flags['script']}.py, as run"] = advantages, weights(script, flags, group, advantages)
    common = {name: flags[name] for name in ("loss_norm", "max_response_tokens")}
    for name, (script, others) in OTHERS.items():
        positive_weight = [script.Args.positive_weight] if hasattr(script.Args, "positive_weight") else []
        advantages = script.advantages(np.array([r["reward"] for r in group]), *positive_weight).tolist()
        found[name] = advantages, weights(script, common | others, group, advantages)
    return found


def pieces(token_ids: list[int], tokenizer) -> list[str]:
    """The text of each token. A character of several tokens comes with its last one."""
    texts, start = [], 0
    for end in range(1, len(token_ids) + 1):
        before = tokenizer.decode(token_ids[max(0, start - 1) : start])  # some drop a space that begins a text
        text = tokenizer.decode(token_ids[max(0, start - 1) : end]).removeprefix(before)
        complete = not text.endswith("\N{REPLACEMENT CHARACTER}")
        texts.append(text if complete else "")
        start = end if complete else start
    return texts


def read_rollouts(folder: Path, flags: dict, rows: list[dict], most: int) -> list[dict]:
    """The groups of at most `most` steps, as few as hold MOST_TOKENS, with everything that the page shows of them."""
    steps = [row["step"] for row in rows if "response/length" in row]
    tokens = 2 * flags["group_size"] * max((row.get("response/length", 0) for row in rows), default=0)  # a guided group
    most = min(most, len(steps), max(1, int(MOST_TOKENS / max(1, tokens))))
    wanted, groups = {steps[round(i)] for i in np.linspace(0, len(steps) - 1, most)}, {}
    for line in lines(folder / "rollouts.jsonl"):
        if int(line[len('{"step": ') : line.index(",")]) in wanted:
            row = json.loads(line)
            groups.setdefault(row["step"], []).append(row)
    with user_error("the tokenizer of the run cannot be read, from its newest checkpoint or --model"):
        tokenizer = AutoTokenizer.from_pretrained([Path(flags["model"]), *checkpoints(folder)][-1])
    return [{"step": step, "hinted": tokenizer.decode(group[0]["problem"].get("hint_ids", [])),
             "objectives": objectives(flags, group),
             "responses": [r | {"pieces": pieces(r["token_ids"], tokenizer)} for r in group],
             } for step, group in groups.items() if len(group) >= flags["group_size"]]


def main(args: Args):
    rows, data = {}, []
    for run in map(Path, args.runs or ["runs"]):
        name = run.name if [Path(r).name for r in args.runs].count(run.name) == 1 else str(run)
        flags, rows[name] = read_run(run)
        groups, steps = read_rollouts(run, flags, rows[name], args.steps), [row["step"] for row in rows[name]]
        data.append({"flags": {"run": name} | flags, "groups": groups, "steps": max(steps, default=0)})
    page = PAGE.replace("<!--curves-->", curves(rows)).replace("<!--data-->", json.dumps(data).replace("<", r"\u003c"))
    out = Path(args.out or f"{args.runs[0]}/report.html")
    with user_error(f"cannot write {out}"):
        out.write_text(page)
    print(f"open {out} in a browser")


# ----------------------------------------------------------------------------------------------------------------- page
PAGE = r"""<!DOCTYPE html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>minRLVR</title><style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; --up: 0, 114, 178; --down: 213, 94, 0 }
body { max-width: 1300px; margin: 1em auto; padding: 0 1em } svg { width: 100%; height: auto } .on { background: #8883 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #8881; padding: .6em; line-height: 1.8 }
table { border-collapse: collapse } td, th { padding: .1em .8em; text-align: left; border-bottom: 1px solid #8884 }
#group tr { cursor: pointer } select, input { font: inherit }
</style>
<h1>minRLVR</h1><!--curves-->
<details><summary>Flags</summary><table id="flags"></table></details>
<p>Run <select id="run"></select> step <input id="step" type="range" min="0"> <b id="at"></b>
 weights of <select id="algorithm"></select></p>
<p>← → step, ↑ ↓ response. <span style="background: rgba(var(--up), .6)">Blue</span> tokens are made
 likelier, <span style="background: rgba(var(--down), .6)">orange</span> ones rarer; the fuller, the harder. Point at
 one for its numbers. <span id="shown"></span></p>
<pre id="prompt"></pre> <pre id="text"></pre>
<table><thead><tr><th>response<th>verdict<th>reward<th>advantage<th>tokens<th></thead><tbody id="group"></tbody></table>
<script type="application/json" id="data"><!--data--></script><script>
const $ = id => document.getElementById(id), runs = JSON.parse($("data").textContent)
const add = (parent, tag, textContent) =>
  parent.appendChild(Object.assign(document.createElement(tag), { textContent }))
const number = x => String(+Number(x).toPrecision(3)), clamp = (x, n) => Math.max(0, Math.min(x, n - 1))
const mean = x => Array.isArray(x) ? x.reduce((a, b) => a + b, 0) / x.length : x
const at = { run: 0, step: 1e9, response: 0, algorithm: 0 }  // indices, which the address after # holds too
for (const [key, value] of new URLSearchParams(location.hash.slice(1))) at[key] = +value
$("run").append(...runs.map(run => new Option(run.flags.run)))
for (const flag of new Set(runs.flatMap(run => Object.keys(run.flags)))) {
  const row = add($("flags"), "tr", ""), values = runs.map(run => String(run.flags[flag] ?? "–"))
  row.className = new Set(values).size > 1 ? "on" : ""
  for (const value of [flag, ...values]) add(row, "td", value)
}
function show() {
  const run = runs[at.run = clamp(at.run, runs.length)]
  $("shown").textContent = `Shown: ${run.groups.length} of ${run.steps} steps, the last group of each.`
  for (const id of ["prompt", "text", "group"]) $(id).replaceChildren()
  if (!run.groups.length) return
  const group = run.groups[at.step = clamp(at.step, run.groups.length)], names = Object.keys(group.objectives)
  const response = group.responses[at.response = clamp(at.response, group.responses.length)]
  const [advantages, weights] = group.objectives[names[at.algorithm = clamp(at.algorithm, names.length)]]
  const most = Math.max(1e-12, ...weights.flat().map(Math.abs))
  $("algorithm").replaceChildren(...names.map(name => new Option(name)))
  $("run").selectedIndex = at.run; $("algorithm").selectedIndex = at.algorithm
  $("step").max = run.groups.length - 1; $("step").value = at.step; $("at").textContent = group.step
  const { prompt, answer } = response.problem
  $("prompt").textContent = `${response.guided ? group.hinted : prompt}\n[the answer is ${answer}]`
  group.responses.forEach((r, i) => {
    const row = add($("group"), "tr", ""), marks = (r.guided ? "guided " : "") + (r.truncated ? "cut" : "")
    for (const cell of [i + 1, r.verdict, r.reward, number(mean(advantages[i])), r.pieces.length, marks])
      add(row, "td", cell)
    Object.assign(row, { className: i == at.response ? "on" : "", onclick: () => { at.response = i; show() } })
  })
  response.pieces.forEach((piece, i) => {
    const token = add($("text"), "span", piece), weight = weights[at.response][i]
    token.style.background = `rgba(var(--${weight < 0 ? "down" : "up"}), ${0.75 * Math.abs(weight) / most})`
    token.dataset.weight = weight
    const logprob = response.logprobs[i], ratio = Math.exp((response.trainer_logprobs?.[i] ?? logprob) - logprob)
    token.title = `weight ${number(weight)}${weight == 0 && mean(advantages[at.response]) ? ", clipped" : ""}\n`
      + `log-prob ${number(logprob)}\nratio ${number(ratio)}`
  })
  history.replaceState(null, "", "#" + new URLSearchParams(at))
}
$("run").onchange = e => { Object.assign(at, { run: e.target.selectedIndex, step: 1e9, algorithm: 0 }); show() }
$("algorithm").onchange = e => { at.algorithm = e.target.selectedIndex; show() }
$("step").oninput = e => { at.step = +e.target.value; show() }
const keys = { ArrowLeft: ["step", -1], ArrowRight: ["step", 1], ArrowUp: ["response", -1], ArrowDown: ["response", 1] }
document.onkeydown = e => {
  const [what, by] = keys[e.key] || []
  if (!what || e.target.tagName == "SELECT") return
  at[what] += by; show(); e.preventDefault()
}
show()
</script>
"""

if __name__ == "__main__":
    main(tyro.cli(Args))
