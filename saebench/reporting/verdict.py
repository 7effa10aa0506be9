"""A regression verdict as text: for a terminal, a pull request, a CI server, a program."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from xml.etree import ElementTree

from saebench.records.result import Result
from saebench.regression.compare import Comparison, Verdict
from saebench.regression.differences import FAILURES, Difference, Status
from saebench.reporting.text import change, markdown_text, number, printable

# In words and a sign, never in colour alone.
_WORDS: dict[Status, str] = {
    "worse": "✗ worse",
    "lost": "✗ lost",
    "tolerated": "~ worse, within tolerance",
    "same": "= no credible difference",
    "better": "✓ better",
    "gained": "✓ newly defined",
    "undefined": "– undefined",
    "shown": "",
}
_STYLES: dict[Status, str] = {
    "worse": "bold red",
    "lost": "bold red",
    "tolerated": "yellow",
    "better": "green",
    "gained": "green",
}
_COLUMNS = (
    "score",
    "baseline",
    "candidate",
    "difference [95 %]",
    "p (Holm)",
    "could see",
    "may lose",
    "verdict",
)


def _cells(d: Difference) -> tuple[str, ...]:
    better = " (lower is better)" if d.direction == "lower" else ""
    difference = _change(d.difference)
    if d.ci is not None:
        difference += f" [{_change(d.ci[0])}, {_change(d.ci[1])}]"
    p = "–" if d.p_holm is None else "< 0.001" if d.p_holm < 0.001 else f"{d.p_holm:.3f}"
    verdict = _WORDS[d.status] + (f" ({d.reason})" if d.reason else "")
    return (
        d.label + better,
        _number(d.baseline),
        _number(d.candidate),
        difference,
        p,
        _number(d.detectable),
        "–" if d.tolerance is None else f"{d.tolerance.size:g}",
        verdict,
    )


def _number(value: float | None) -> str:
    return "–" if value is None else number(value).replace("-", "−")


def _change(value: float | None) -> str:
    return "–" if value is None else change(value).replace("-", "−")


def _heading(comparison: Comparison) -> list[str]:
    first = comparison.baseline[0]
    return [
        f"candidate: {_who(comparison.candidate)}",
        f"baseline: {_who(comparison.baseline)}",
        f"on: {first.task.name} v{first.task.version}, model {first.model.name}, site {first.site},"
        f" budget {first.budget}, {first.task.n.test} prompts, {comparison.n_units} independent units",
    ]


def _who(group: Sequence[Result]) -> str:
    names = ", ".join(f"{r.dictionary.name} ({r.dictionary.sha256[:8]})" for r in group)
    return f"{len(group)} seeds: {names}" if len(group) > 1 else names


def _power(comparison: Comparison) -> str:
    seen = [d.detectable for d in comparison.judged if d.detectable is not None]
    if not seen:
        return "The outcomes are identical, so there is no difference to see."
    return (
        "A loss of the size under “could see” is found with 80 % probability, after Holm's"
        f" correction for {len(comparison.judged)} scores: {min(seen):.3f} to {max(seen):.3f}."
    )


def render_terminal(verdict: Verdict):
    """The verdict as a rich renderable: print it with `rich.console.Console().print`."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    comparison = verdict.comparison
    table = Table(*_COLUMNS, box=None, header_style="bold", pad_edge=False)
    for d in comparison.judged:
        table.add_row(*(escape(printable(c)) for c in _cells(d)), style=_STYLES.get(d.status, ""))
    heading = [Text(printable(line)) for line in _heading(comparison)]
    notes = [Text(line) for line in (_power(comparison), *comparison.notes)]
    style = "bold green" if verdict.passed else "bold red"
    sentence = Text(printable(verdict.sentence), style=style)
    return Group(*heading, Text(), table, Text(), *notes, sentence)


def render_markdown(verdict: Verdict) -> str:
    """The verdict for a comment on a pull request; all other scores fold away below it."""
    comparison = verdict.comparison
    title = "### SAE quality: " + ("no regression" if verdict.passed else "regression")
    parts = [title, "", markdown_text(verdict.sentence), ""]
    parts += [f"- {markdown_text(line)}" for line in _heading(comparison)]
    parts += ["", *_markdown_table(comparison.judged), "", _power(comparison)]
    parts += [f"\n{markdown_text(note)}" for note in comparison.notes]
    changed = [d for d in comparison.shown if d.difference]
    if changed:
        summary = f"{len(changed)} further scores that differ, without a verdict"
        parts += ["", f"<details><summary>{summary}</summary>", ""]
        parts += [*_markdown_table(changed), "", "</details>"]
    return "\n".join(parts) + "\n"


def _markdown_table(rows: Sequence[Difference]) -> list[str]:
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|---|--:|--:|--:|--:|--:|--:|---|"]
    return lines + ["| " + " | ".join(map(markdown_text, _cells(d))) + " |" for d in rows]


def render_junit(verdict: Verdict) -> str:
    """The verdict as JUnit XML, one test case for each judged score."""
    comparison = verdict.comparison
    suite = ElementTree.Element(
        "testsuite",
        name="saebench regress",
        tests=str(len(comparison.judged)),
        failures=str(len(comparison.failures)),
        errors="0",
        skipped=str(sum(d.status == "undefined" for d in comparison.judged)),
    )
    for d in comparison.judged:
        name = printable(d.label)
        case = ElementTree.SubElement(suite, "testcase", classname="saebench", name=name)
        described = zip(_COLUMNS[1:], _cells(d)[1:], strict=True)
        text = printable("; ".join(f"{column}: {cell}" for column, cell in described))
        if d.status in FAILURES:
            ElementTree.SubElement(case, "failure", message=text)
        elif d.status == "undefined":
            ElementTree.SubElement(case, "skipped", message=text)
        ElementTree.SubElement(case, "system-out").text = text
    heading = "\n".join(map(printable, _heading(comparison)))
    ElementTree.SubElement(suite, "system-out").text = heading
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, "unicode") + "\n"


def render_json(verdict: Verdict) -> str:
    """The verdict as one line of strict JSON, with every difference."""
    comparison = verdict.comparison
    document = {
        "schema": "saebench.verdict/1",
        "passed": verdict.passed,
        "sentence": verdict.sentence,
        "candidate": [_identity(r) for r in comparison.candidate],
        "baseline": [_identity(r) for r in comparison.baseline],
        "n_units": comparison.n_units,
        "notes": comparison.notes,
        "judged": [asdict(d) for d in comparison.judged],
        "shown": [asdict(d) for d in comparison.shown],
    }
    return json.dumps(document, allow_nan=False)


def _identity(result: Result) -> dict[str, str]:
    name, sha256 = result.dictionary.name, result.dictionary.sha256
    return {"id": result.id, "dictionary": name, "sha256": sha256}
