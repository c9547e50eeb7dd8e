"""Reads what datasets and models write: rows, answers, the tests of code, the notation of mathematics.

The training scripts know it through verifiers.py alone. What cannot be read raises ValueError with a sentence, but for
`load_rows`, which raises what `datasets` does.
"""

import ast
import contextlib
import json
import random
import re
from itertools import takewhile
from pathlib import Path

import sandbox

PLAIN, LETTERS = (str, int, float), "ABCDEFGHIJ"
# Columns, of which the first that has a value counts:
PROBLEM = "problem", "question", "prompt", "Problem", "Question", "question_stem", "text"
ANSWER = ("answer", "final_answer", "expected_answer", "solution", "reward_model.ground_truth", "test_list", "test",
          "answerKey", "correct", "Answer", "Correct Answer")
TESTS = "answer", "test_list", "test", "input_output"


# ----------------------------------------------------------------------------------------------------------------- rows
def load_rows(source: str):
    """The rows of FILE, FOLDER or NAME[:CONFIG[:SPLIT]], a datasets.Dataset. Those of .jsonl stay text, in a column
    `jsonl`, until they are `parsed`: an integer there has any size and a column any type, unlike Arrow's."""
    import datasets  # here, as the interpreters of `verify` start sooner without it
    name, config, split = (source.split(":", 2) + ["", ""])[:3]
    path, split = Path(name), split or "train"
    try:
        if ".jsonl" in path.suffixes:
            return datasets.load_dataset("text", data_files=name, split=split).rename_column("text", "jsonl")
        if path.is_file():
            return datasets.load_dataset(str(path.absolute().parent), data_files=path.name, split=split)
        return datasets.load_dataset(name, config or None, split=split)
    except datasets.exceptions.DatasetGenerationError as e:
        raise e.__cause__ or e  # it says nothing of its own


def empty(value) -> bool:
    if isinstance(value, (list, dict)):
        return all(map(empty, value.values() if isinstance(value, dict) else value))
    return value is None or not str(value).strip()


def column(row: dict, what: str, columns: tuple[str, ...]):
    for name in columns:
        if not empty(row.get(name)):
            return row[name]
    raise ValueError(f"the {what} is empty: nothing in {', '.join(columns)}, among its columns {', '.join(row)}")


def parsed(row: dict) -> dict:
    """The row itself, or what the JSON in its column `jsonl` is."""
    if "jsonl" in row:
        with contextlib.suppress(ValueError):
            row = json.loads(row["jsonl"].lstrip("\ufeff"))  # the mark at the start of some files
        if not isinstance(row, dict) or "jsonl" in row:
            raise ValueError("the row is no JSON object")
    return row


def row_parts(row: dict, verifier: str, instruction: str) -> dict:
    """`messages` (chat turns; a text is the user's, then the options of a multiple choice and the instruction),
    `answer` as it stands, for `as_text`, `verifier`, `level` and `hint` of a row."""
    row = parsed(row)
    if isinstance(row.get("reward_model"), dict):  # verl's
        row = row | {"reward_model.ground_truth": row["reward_model"].get("ground_truth")}
    verifier, level = str(row.get("verifier") or verifier), row.get("level")
    if verifier == "math" and not all(empty(row.get(name)) for name in ("options", "choices", "Correct Answer")):
        raise ValueError("the row is a multiple choice: pass --verifier choice")
    problem = column(row, "problem", PROBLEM)
    answer = column(row, "answer", TESTS + ANSWER if verifier == "code" else ANSWER)
    options, answer = lettered(row, answer) if verifier == "choice" else ([], answer)
    if answer == row.get("test_list"):  # MBPP
        answer = [*filter(None, [*(row.get("test_imports") or []), row.get("test_setup_code"), *answer])]
    if answer == row.get("test") and row.get("entry_point"):  # HumanEval
        answer = {"test": answer, "entry_point": row["entry_point"]}
    if isinstance(problem, str):
        problem = [{"role": "user", "content": "\n".join([problem, *options, "", instruction]).strip()}]
    for turn in problem if isinstance(problem, list) else [problem]:
        if not isinstance(turn, dict) or not all(isinstance(turn.get(key), str) for key in ("role", "content")):
            raise ValueError(f"the problem is neither a text nor chat turns of role and content: {problem!r:.80}")
    return dict(messages=problem, answer=answer, verifier=verifier, level="" if level is None else str(level),
                hint=None if empty(row.get("hint")) else row["hint"])


def lettered(row: dict, answer) -> tuple[list[str], str]:
    """The options of a multiple choice as `A. Rome`, and the right one of them. They are a list (MMLU, MMLU-Pro), with
    letters (AQuA) or without, a dict, lists of text and label (ARC), columns A to D (CMMLU) or GPQA's, which are
    shuffled, always in the same way; the answer is a label, a text, a letter in some spelling or an index. Without
    options, none and the answer."""
    columns = [row[letter] for letter in takewhile(lambda letter: not empty(row.get(letter)), LETTERS)]
    options, labels = row.get("options") or row.get("choices") or columns, LETTERS
    if "Correct Answer" in row:
        options = [row["Correct Answer"], *(row.get(f"Incorrect Answer {i}") for i in (1, 2, 3))]
        random.Random(str(options)).shuffle(options)
        labels = options
    elif isinstance(options, dict):
        options = {label: option for label, option in options.items() if option is not None}
        labels, options = options.get("label") or [*options], options.get("text") or [*options.values()]
    texts = isinstance(options, list) and all(isinstance(option, PLAIN) for option in options)
    if not texts or len(options) > len(LETTERS):
        raise ValueError(f"the options are not a list of at most {len(LETTERS)} texts: {options!r:.80}")
    if not options:
        return [], answer
    texts, name = [str(option).strip() for option in options], str(answer).strip()
    marked = [re.fullmatch(rf"(?s)\(?{letter}[).:](.+)", text) for letter, text in zip(LETTERS, texts)]
    texts = [mark[1].strip() for mark in marked] if all(marked) else texts
    lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, texts)]
    known = [range(10), labels] if isinstance(answer, int) else [LETTERS, range(10), texts, labels]  # the last counts
    named = {str(spelling): line for spellings in known for spelling, line in zip(spellings, lines)}
    right = named.get(name, named.get(choice_parts(name)[0]))
    if not right:
        raise ValueError(f"the answer {name!r:.80} is none of the options")
    return lines, right


def as_text(answer, verifier: str) -> str:
    """A text, a number, or a list or dict of them; for `math` a list, or its JSON, is several answers."""
    if verifier == "math" and isinstance(answer, str) and answer.startswith('["'):
        with contextlib.suppress(ValueError):
            answer = json.loads(answer)
    if isinstance(answer, (list, dict)) and answer and verifier not in ("math", "choice"):
        answer = json.dumps(answer, default=str)
    elif isinstance(answer, list) and all(isinstance(x, PLAIN) for x in answer):
        answer = ", ".join(map(str, answer))
    elif isinstance(answer, float):
        if not abs(answer) < 2**53:  # nor is nan
            raise ValueError(f"the answer {answer!r} may have lost digits as a floating-point number: write it as text")
        answer = f"{answer:.15g}"  # 0.1 + 0.2 is 0.3
    if empty(answer):
        raise ValueError("the answer is empty")
    if not isinstance(answer, PLAIN):
        raise ValueError(f"the answer is neither a text nor a number: {answer!r:.80}")
    return str(answer)


# -------------------------------------------------------------------------------------------------------- tests of code
def code_tests(answer: str) -> str:
    """The program that tests a solution, from Python or the JSON of a list of asserts, of test and entry_point, or of
    inputs and outputs, if need be with fn_name (LiveCodeBench, APPS)."""
    sandbox.sandbox()  # where it cannot be made, data is refused
    with contextlib.suppress(ValueError):
        answer = json.loads(answer)
    try:
        if isinstance(answer, dict) and "test" in answer:
            entry, answer = answer.get("entry_point"), answer["test"]
            answer += f"\ncandidate = {entry.rpartition('.')[2]}" if entry else ""  # of Solution().f too
        elif isinstance(answer, dict):
            inputs, outputs, function = map(answer.get, ("inputs", "outputs", "fn_name"))
            fits = str(function).isidentifier() if function else all(isinstance(x, str) for x in [*inputs, *outputs])
            if not fits or not inputs or not isinstance(outputs, list) or len(inputs) != len(outputs):
                raise ValueError("code tests need as many outputs as inputs, and texts or fn_name, a function's name")
            answer = [call(function, given, wanted) for given, wanted in zip(inputs, outputs)]
        tests = "\n".join(answer) if isinstance(answer, list) else answer
        tree = ast.parse(tests)
    except (SyntaxError, TypeError, json.JSONDecodeError) as e:
        raise ValueError(f"the code tests are no Python, or the inputs and outputs no JSON: {e}") from None
    loaded, bound = sandbox.names(tree)
    if "assert" not in ast.unparse(tree) or loaded <= bound:
        raise ValueError("the code tests hold no assert that would run and call a solution")
    return "\n".join([tests, *filter(None, (start(node, loaded) for node in tree.body))])


def call(function: str | None, given, wanted) -> str:
    """An assert. LiveCodeBench has a line of JSON per argument, APPS a list of them and often a list of the result."""
    if not function:
        return f"assert __same__(__printed__({given!r}), {wanted!r})"  # sandbox.same_output and sandbox.PROGRAM
    accepted = [wanted, *(wanted if isinstance(wanted, list) and len(wanted) == 1 else [])]
    if isinstance(given, str):
        given, accepted = [json.loads(line) for line in given.splitlines() if line.strip()], [json.loads(wanted)]
    given, accepted = json.dumps(given), json.dumps(accepted)  # which has no tuples, and is read sooner than Python
    return f"assert json.loads(json.dumps({function}(*json.loads({given!r})))) in json.loads({accepted!r})"


def start(node: ast.stmt, used: set[str]) -> str:
    """The statement that runs the tests which `node` defines, if need be. Raises ValueError if nothing runs them."""
    if isinstance(node, ast.ClassDef) and (node.bases or node.name.startswith("Test")):  # unittest's or pytest's
        within = [n for n in node.body if isinstance(n, (ast.ClassDef, ast.AsyncFunctionDef))]  # which unittest skips
        tests = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name.startswith("test")]
        if tests and "assert" not in "".join(map(ast.unparse, within)):
            suite = f"unittest.TestLoader().loadTestsFromTestCase(type('T', ({node.name}, unittest.TestCase), {{}}))"
            return f"assert {suite}.run(unittest.TestResult()).wasSuccessful()"
    if not isinstance(node, sandbox.DEFINITIONS) or node.name in used:
        return ""
    needed = len(node.args.args) - len(node.args.defaults) if isinstance(node, ast.FunctionDef) else None
    if needed == 1 and (node.name.startswith("check") or node.args.args[0].arg == "candidate"):
        return f"{node.name}(candidate)"
    if needed == 0 and node.name.startswith("test"):
        return f"{node.name}()"
    if "assert" in ast.unparse(node):
        raise ValueError(f"the asserts in {node.name} of the code tests would never run")
    return ""


# ------------------------------------------------------------------------------------------------------------- notation
LONGEST, MOST_BRACKETS = 1000, 50  # characters, and brackets of a kind, of an answer that is worth parsing
TEXT = re.compile(r"\\(?:text(?:bf|it|rm|normal)?|mbox|math(?:rm|bf))\s*\{([^{}]*)\}")
UNICODE = str.maketrans({"–": "-", "·": r"\cdot ", "√": r"\sqrt ", "∞": r"\infty ", "²": "^2", "³": "^3"})
SPELLINGS = [
    (r"\\?[$€£¥₹]|\\! *|(?<!\\)\\[()\[\]]|\\text(?=\{,\})|\\text\{Rs\. ?\}", ""), (r"(?<!\\)\\[,;: ]|(?<=.)~", " "),
    (r"°|\\degree\b|(?<=\d)\^\{?o\}?$", r"^\\circ "), (r"\\lg\b", r"\\log"), (r"\\varnothing\b", r"\\emptyset "),
    (r"\^?\{?\\circ\}? *(?:\\(?:text|mathrm)\{)? *([CF])\b\}?", r" degree\1"), (r"\\mathrm\{([ei])\}", r"\1 "),
    (r"^(?:[=≈ ]|\\approx\b|(\\text\{)? *(?:approximately|about|roughly|approx\.|exactly) *(?(1)\}))+", ""),
    (r"'", r"^{\\prime}"), (r"\\langle\b", "("), (r"\\rangle\b", ")"), (r"\\?%|\b(?:pct|percentage)\b", " percent"),
    (r"(?<=\d)[eE]([+-]?\d+)", r"\\times 10^{\1}"), (r"(?<=\d) ?x ?(?=10\^)", r"\\times "), (r"\^(-\d+)", r"^{\1}"),
    (r"\\sqrt *(\d+)", r"\\sqrt{\1}"), (r"(?<=\d) (?=\d{3}(?!\d))", ""), (r"(\d) +(\d+)/(\d+)", r"\1\\frac{\2}{\3}"),
    (r"\\frac *(\\[a-z]+)", r"\\frac{\1}"), (r"(?<=\d)(?<![_^]\d)\(", r"\\cdot ("),  # 2(1.5) is no mixed number
    (r"\\(?:(g)|(G)(?!amma *(?:\\left)? *\())amma\b", r" \1\2_{amma}"),  # else \gamma + 1 is the value of Γ at 1
    (r"(?<![\\A-Za-z])(?=pi\b|sqrt\{)", r"\\"), (r"^ *(?=[<>≤≥≠]|\\(?:[lg][et]q?(?:slant)?|neq?)\b)", "x "),
    (r"^(?:\w+ *= *)?-?\d{1,3}(?:,\d{3})+(?:\.\d+)?$", lambda m: m[0].replace(",", "")),
    (r"^(?!.*\\\{).*\\pm.*$", lambda m: m[0].replace(r"\pm", "+") + "," + m[0].replace(r"\pm", "-")),
    (r"(\d*\.(\d*))\\overline\{(\d+)\}",
     lambda m: f"({m[1]}0+\\frac{{{m[3]}}}{{{'9' * len(m[3])}{'0' * len(m[2])}}})"),
]  # fmt: skip
QUANTITY = re.compile(r"(.*?(?:[\d})]|\\pi))(\s*([A-Za-z](?:[A-Za-z\s/.]|\^\{?-?[1-9]\}?)*))", re.DOTALL)
UNITS = set("""km cm mm nm kg mg lb oz ft yd mi mph kph ml mL hr min sec ms Hz kW kWh kJ Pa kPa eV mol USD cc sq cu per
    square cubic people men women children feet foot inch meter metre mile yard hour minute day week month year dollar
    cent euro yen rupee degree degreeC degreeF gram kilogram kilometer centimeter millimeter milliliter pound ounce ton
    liter litre gallon quart pint cup tablespoon teaspoon second acre unit person m g s h l L N J W V A C in percent
    calorie mark point page piece slice book letter word card coin ticket stamp sticker photo song question student
    friend boy girl kid customer passenger animal bird cat dog cow chicken fish apple orange banana tomato egg cookie
    cake pie pizza cupcake candy candie sandwich serving fruit flower tree plant seed leaf leave marble bead balloon
    ball block toy doll game pencil pen crayon notebook box bag can bottle glass chair seat room car wheel shirt shoe
    item trip step way integer triangle old pack edge face""".split())  # what measures, and what GSM8K asks for most


def worth_parsing(text: str) -> bool:
    return len(text) <= LONGEST and max(map(text.count, "([{")) <= MOST_BRACKETS and "phantom" not in text


def notation(text: str) -> tuple[str, str]:
    """An answer as math-verify's parser reads it, and its unit."""
    text = text.translate(UNICODE)
    for pattern, spelling in SPELLINGS:
        text = re.sub(pattern, spelling, text)
    return split_unit(text.strip().rstrip(".,"))


def split_unit(text: str) -> tuple[str, str]:
    """`5 cm^2`, `18 dollars` and `\\text{72 km}` without their units, and the units. Only what is known to be one goes:
    the words of UNITS, because `72 million`, `72 opposites` and `72 or more` are not 72. A single letter is a unit
    after a slash, in \\text{} or, of J, N, W and V, after a space; elsewhere a variable."""
    plain = TEXT.sub(r" \1 ", text).strip()
    quantity = QUANTITY.fullmatch(plain)
    if not quantity:
        return text if re.search("[A-Za-z]", plain) else plain, ""
    words = re.findall("[A-Za-z]+", quantity[2])
    known = "squares" not in words and all({w, w.removesuffix("s"), w.removesuffix("es")} & UNITS for w in words)
    letter = min(map(len, words)) == 1 and not re.search(r"/|\s[JNWV]$", quantity[2])
    if not known or plain == text and (letter or re.search(r"(?:frac|sqrt)\S*(?:m[gL]|g/L)", text)):  # \frac12mg
        return text, ""
    return quantity[1], re.sub(r"(?<=\w\w)s\b|[\s{}.]", "", quantity[2])


# -------------------------------------------------------------------------------------------------- options of a choice
OPTION = re.compile(
    r"(?is)(?:option |choice )?[(\[]?([A-J])(?:\)? is (?:the )?(?:(?:correct|right)\b(?: \w+$)?|(?:best )?answer$)|"
    r"[).:\]]+|(?=$|\s*(?:—|[-–]\s)|\s+\(|,\s+(?!(?:or|and|[A-J])\b)))(?:[-–—,]*\s|—)*(.*)"
)
CHOOSES = re.compile(
    r"(?i).*(?<!wrong )(?<!incorrect )(?<!rule out )(?<!liminate )(?<!not )(?<!rules out )\b(?:"
    r"(?:option|choice)(?: is)?:?|answer [-–—]|(?:it|that)(?: i|['’])s|(?:must|should|would) be|"
    r"I(?: would|['’](?:d|ll))? (?:choose|pick|select|go with)|(?:hence|thus|therefore|so),?) (.+)"
)
LAYOUT = re.compile(r"\\(?:times|cdot)\b|\^?\\circ\b|(?<=\\)[dt](?=frac)|[×°'‘’\s]|(?<=\d),(?=\d{3})")
# A second letter, in what follows the first one:
SECOND = re.compile(
    r"(?!(?:none|all|both|neither|not) )(?:(?:and|or|but|is|[,/&])\b|"
    r".*?(?:(?:^|[.,;:]\s+|\()\(?[a-j](?:[.):](?:\s|$)|$)|[\s(][a-j][.):]\s+\S))"
)


def choice_parts(text: str) -> tuple[str, str]:
    """The letter and the words of an option: `(B)`, `**B**`, `B. Paris`, `\\text{B}` and `Paris` have one or both."""
    text = re.sub(r"\\([%$&#])", r"\1", re.sub(r"\\(?:[,;!: ()\[\]]|q?quad\b)|~", " ", text)).replace("−", "-")
    text = re.sub(r"\\(?:text|math|rm|bf)(?:bf|rm|sf|it)?\b|[{}$*_`]", "", text).strip(' .!\n\t"“”')
    option = OPTION.fullmatch(text)
    letter, words = (option[1].upper(), option[2]) if option else ("", text)
    return letter, " ".join(words.lower().strip(' ()"“”').split())


def bare(words: str) -> str:
    """The words of an option without what copies change: 5 m/s² is 5 m/s^2, and Newton’s is Newton's."""
    return LAYOUT.sub("", words.translate(UNICODE))
