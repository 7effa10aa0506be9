"""Single-line mutations of axes, dictionaries, scoring and readout; each must make a test fail.

    python tests/mutations.py            # all of them, about half an hour on one core
    python tests/mutations.py greedy     # those whose name contains a word

Each is applied to a copy of the tree, and the tests named beside it, which pass there without it, are
run. Exit code 1 if a mutant survives.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Mutation(NamedTuple):
    """A line to break, and the tests that must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTATIONS = (
    Mutation(
        "audit: a difference is not paired",
        "audit/rows.py",
        "moved = one.draws - other.draws",
        "moved = one.draws + other.draws",
        "audit/test_lenses.py",
    ),
    Mutation(
        "audit: an interval that straddles its bar passes",
        "audit/cards.py",
        "Verdict.PASS if low > bar else",
        "Verdict.PASS if value > bar else",
        "audit/test_documents.py",
    ),
    Mutation(
        "audit: ranks over all L0 bands together",
        "audit/correlations.py",
        "here = at[self._stratum[at] == stratum]",
        "here = at",
        "audit/test_lenses.py",
    ),
    Mutation(
        "audit: noise keeps what all SAEs share at a seed",
        "audit/lenses/repeatability.py",
        "left = left - left.mean(0, keepdims=True)",
        "left = left - 0 * left.mean(0, keepdims=True)",
        "audit/test_lenses.py",
    ),
    Mutation(
        "audit: the SAE farthest above its null is the one that counts",
        "audit/lenses/order.py",
        "name, least = min(found.items(), key=lambda item: item[1].value)",
        "name, least = max(found.items(), key=lambda item: item[1].value)",
        "audit/test_lenses.py",
    ),
    Mutation(
        "audit: an axis that is lost in most families orders boards all the same",
        "audit/judging.py",
        "failed += [c for c in self.of(FAMILIES, axis) if _greys(c) and c.verdict == Verdict.FAIL]",
        "failed += []",
        "audit/test_documents.py",
    ),
    Mutation(
        "audit: what was held out decides which axes order",
        "audit/lenses/truth.py",
        "by = by or [card.axis for card in general if card.verdict != Verdict.FAIL]",
        "by = [card.axis for card in general if card.verdict != Verdict.FAIL]",
        "audit/test_lenses.py",
    ),
    Mutation(
        "tables: what fails on every board is greyed on audited boards alone",
        "reporting/ordering.py",
        'axes = document.get("everywhere", {}) if board is None else board["axes"]',
        'axes = {} if board is None else board["axes"]',
        "reporting/test_ordering.py",
    ),
    Mutation(
        "greedy: sign of the gain",
        "edits/few_latents.py",
        "gain = 2 * d * torch.einsum",
        "gain = -2 * d * torch.einsum",
        "edits/test_few_latents.py",
    ),
    Mutation(
        "greedy: a latent may be taken twice",
        "edits/few_latents.py",
        "open_ = open_.scatter(1, pick, False)",
        "open_ = open_",
        "edits/test_few_latents.py",
    ),
    Mutation(
        "greedy: never stops",
        "edits/few_latents.py",
        "go = top[:, 0] > 0",
        "go = top[:, 0] > -1e9",
        "edits/test_few_latents.py",
    ),
    Mutation(
        "greedy: ties to the smaller contribution",
        "edits/few_latents.py",
        "pick = norm.masked_fill(~tied, -1.0).argmax",
        "pick = (-norm).masked_fill(~tied, -1e9).argmax",
        "edits/test_few_latents.py",
    ),
    Mutation(
        "aware: ranks by the worst F1",
        "edits/few_latents.py",
        "order = score.argsort(descending=True, stable=True)",
        "order = score.argsort(stable=True)",
        "edits/test_few_latents.py",
    ),
    Mutation(
        "difference: source minus base turned round",
        "dictionaries/codes.py",
        "value = torch.cat([-alpha.value, beta.value])",
        "value = torch.cat([alpha.value, -beta.value])",
        "measures/test_measures.py",
    ),
    Mutation(
        "detector: sign ignored",
        "dictionaries/codes.py",
        "torch.where(self.value > 0, self.latent, self.latent + self.d_sae)",
        "self.latent",
        "measures/test_measures.py",
    ),
    Mutation(
        "F1: factor two lost",
        "measures/detection.py",
        "return 2 * self.true_positives / both",
        "return self.true_positives / both",
        "measures/test_measures.py",
    ),
    Mutation(
        "F1*: chance level off",
        "measures/detection.py",
        "chance = 2 * prevalence / (1 + prevalence)",
        "chance = prevalence",
        "measures/test_measures.py",
    ),
    Mutation(
        "union: grows past its best",
        "measures/detection.py",
        "if float(f1[pick]) <= best:",
        "if float(f1[pick]) <= -1:",
        "measures/test_measures.py theory/test_theorems.py",
    ),
    Mutation(
        "explained latents: only one value",
        "measures/detection.py",
        "tp = table.true_positives.gather(1, order).cumsum(1)",
        "tp = table.true_positives.gather(1, order)",
        "measures/test_measures.py",
    ),
    Mutation(
        "supervised: atoms not centred",
        "dictionaries/supervised.py",
        "centred = (section.fit.acts - mean).double()",
        "centred = section.fit.acts.double()",
        "dictionaries/test_supervised.py",
    ),
    Mutation(
        "supervised: edit adds what it should remove",
        "dictionaries/supervised.py",
        "return base + (new - old) @ self.W_dec",
        "return base + (old - new) @ self.W_dec",
        "dictionaries/test_supervised.py",
    ),
    Mutation(
        "supervised: nesting ignored",
        "dictionaries/supervised.py",
        "if child is not None and child.parent is not None:",
        "if child is not None and child.parent is not None and False:",
        "dictionaries/test_supervised.py",
    ),
    Mutation(
        "approximation: necessity replaces by the reconstruction",
        "axes/approximation.py",
        '"rest": bench.mean + (test.acts - hat)',
        '"rest": bench.mean + hat',
        "theory/test_theorems.py",
    ),
    Mutation(
        "axes: choices made on test",
        "axes/interpretability.py",
        'select, test = subject.table(prop, "select"), subject',
        'select, test = subject.table(prop, "test"), subject',
        "axes/test_splits.py",
    ),
    Mutation(
        "control: success against the clean answer",
        "axes/control.py",
        "run.top == test.expected[name]",
        "run.top == test.readout.answer",
        "theory/test_theorems.py",
    ),
    Mutation(
        "oversplitting: fragments of low precision",
        "axes/oversplitting.py",
        "precise = hits >= FRAGMENT_PRECISION * table.fires",
        "precise = hits >= 0",
        "axes/test_axes.py",
    ),
    Mutation(
        "readout: LD of the wrong sign",
        "cross_section.py",
        "for token in (answer, distractor)",
        "for token in (distractor, answer)",
        "test_cross_section.py",
    ),
    Mutation(
        "readout: KL in the other direction",
        "cross_section.py",
        "reference.exp() * (reference - log_probs(logits))",
        "log_probs(logits).exp() * (log_probs(logits) - reference)",
        "test_cross_section.py",
    ),
    Mutation(
        "repeated edits: the reference is merged with an edit",
        "patching/distinct.py",
        "key[0] = -torch.inf",
        "key[0] = key[0]",
        "patching/test_patching.py",
    ),
    Mutation(
        "repeated edits: broken ones count as the reference",
        "patching/distinct.py",
        "key = key.where(key.isfinite(), torch.nan)",
        "key = key",
        "patching/test_patching.py",
    ),
    Mutation(
        "IOI: labels stay on the CPU",
        "kinds/names/sections.py",
        "return labels.to(model.device)",
        "return labels",
        "models/test_device.py",
    ),
    Mutation(
        "scoring: sufficiency of absolute values",
        "scoring/approximation.py",
        "return ratio(ctx.mean(key) - mean, spread(ctx), IRRELEVANT)",
        "return ratio((ctx.mean(key) - mean).map(abs), spread(ctx), IRRELEVANT)",
        "axes/test_axes.py",
    ),
    Mutation(
        "scoring: retention upside down",
        "scoring/occlusion.py",
        "kept = ratio(weak.written, strong.written,",
        "kept = ratio(strong.written, weak.written,",
        "scoring/test_scoring.py",
    ),
    Mutation(
        "scoring: undetected values count as unsplit",
        "scoring/oversplitting.py",
        "inverse.append(seen / n90)",
        "inverse.append(seen * 0.0 + 1 / n90)",
        "axes/test_splits.py",
    ),
    Mutation(
        "scoring: normalised is clamped",
        "scoring/estimates.py",
        'return ratio(value - floor, span, "the ceiling is not credibly different from the floor")',
        "return (ratio(value - floor, span, '')).map(lambda x: x.clip(0, 1))",
        "axes/test_axes.py",
    ),
    Mutation(
        "bootstrap: prompts instead of clusters",
        "scoring/estimates.py",
        "ways = np.asarray(cluster)[:, None] if units",
        "ways = np.arange(len(cluster))[:, None] if units",
        "scoring/test_estimates.py",
    ),
    Mutation(
        "read & write: silence counts as the value's own latent",
        "measures/read_write.py",
        "mine = own >= others",
        "mine = own >= -others",
        "measures/test_read_write.py",
    ),
    Mutation(
        "read & write: what is written against a value counts for it",
        "measures/read_write.py",
        "written = rise * gain",
        "written = (rise * gain).abs()",
        "measures/test_read_write.py",
    ),
    Mutation(
        "read & write: sharing latents is free",
        "measures/read_write.py",
        "share = 1 / effective[only.value].clamp(min=1)",
        "share = torch.ones_like(only.star)",
        "measures/test_read_write.py",
    ),
    Mutation(
        "read & write: a latent stands for whatever it writes",
        "measures/read_write.py",
        "tables = (writers.gain, writers.gain * writers.stands_for,",
        "tables = (writers.gain, writers.gain * 1.0,",
        "measures/test_read_write.py",
    ),
    Mutation(
        "read & write: frequent values count more",
        "measures/read_write.py",
        "* positives.clamp(min=1))",
        "* positives.mean())",
        "measures/test_read_write.py",
    ),
    Mutation(
        "read & write: writing too much earns more",
        "scoring/read_write.py",
        "np.clip(scale * x, 0.0, 1.0))",
        "np.maximum(scale * x, 0.0))",
        "theory/test_read_write_theorems.py",
    ),
    Mutation(
        "read & write: the null is the dictionary itself",
        "axes/read_write.py",
        "drawn = [written_by(null, prop, bench) for null in nulls]",
        "drawn = [written_by(subject, prop, bench) for null in nulls]",
        "theory/test_read_write_theorems.py",
    ),
    Mutation(
        "thresholds: cut at the worst place",
        "measures/thresholds.py",
        "-torch.inf).argmax(0, keepdim=True)",
        "torch.inf).argmin(0, keepdim=True)",
        "measures/test_thresholds.py",
    ),
    Mutation(
        "matched null: one firing too few",
        "dictionaries/matched.py",
        "fires[part][None] - 1)",
        "(fires[part][None] - 2).clamp(min=0))",
        "dictionaries/test_matched.py",
    ),
    Mutation(
        "writers: the partner's codes stay out",
        "edits/writers.py",
        "difference(gone, come)",
        "difference(gone, gone)",
        "edits/test_writers.py",
    ),
    Mutation(
        "writers: latents that are on against the value are swapped too",
        "edits/writers.py",
        "writers.rise[place, at] > 0",
        "writers.rise[place, at] != 0",
        "edits/test_writers.py",
    ),
    Mutation(
        "read & write: shrinkage is forgiven without end",
        "scoring/read_write.py",
        "scale = min(LARGEST_SCALE, ",
        "scale = max(LARGEST_SCALE, ",
        "theory/test_read_write_theorems.py",
    ),
    Mutation(
        "read & write: noise counts like the rest",
        "scoring/read_write.py",
        "Weighed(effect * there, whole)",
        "Weighed(effect, whole)",
        "scoring/test_scoring.py",
    ),
    Mutation(
        "levels: rare values choose them too",
        "measures/thresholds.py",
        "star.masked_fill(~common[own] | (star <= 0), -torch.inf)",
        "star.masked_fill(star <= 0, -torch.inf)",
        "measures/test_thresholds.py",
    ),
    Mutation(
        "levels: equal codes are parted",
        "measures/thresholds.py",
        "last[:-1] = first[1:] | (v[1:] != v[:-1])",
        "last[:-1] = True",
        "measures/test_thresholds.py",
    ),
    Mutation(
        "levels: latents stand for what they do wherever they are on",
        "axes/base.py",
        "f1_table(from_level(codes, level), prop.select",
        "f1_table(codes, prop.select",
        "theory/test_read_write_theorems.py",
    ),
    Mutation(
        "weights: an effect of 5 % counts",
        "scoring/causal.py",
        "(x - LEAST_EFFECT) / (1 - LEAST_EFFECT)",
        "x / 1.0",
        "scoring/test_scoring.py",
    ),
    Mutation(
        "weights: all attributes alike",
        "scoring/causal.py",
        "products = [part * weight for",
        "products = [part * 1.0 for",
        "scoring/test_scoring.py",
    ),
    Mutation(
        "edits: what the source brings is not resampled",
        "scoring/estimates.py",
        "joint.counts *= np.where(way < 0, 1, times[:, way])",
        "joint.counts *= np.where(way < 0, 1, 1 + 0 * times[:, way])",
        "scoring/test_two_ways.py",
    ),
    Mutation(
        "edits: what prompt and source share counts twice",
        "scoring/estimates.py",
        "other = (names[place] == given) & (place != own)",
        "other = names[place] == given",
        "scoring/test_two_ways.py",
    ),
    Mutation(
        "partners: drawn by place",
        "edits/writers.py",
        "drawn = _mixed(content[base][:, None], content[pool][None, :], seed)",
        "drawn = _mixed(base[:, None], pool[None, :], seed)",
        "edits/test_writers.py",
    ),
    Mutation(
        "control: harmful supervised edits weigh too",
        "scoring/control.py",
        "found[name] = weight * _positive(best)",
        "found[name] = weight * 1.0",
        "scoring/test_scoring.py",
    ),
    Mutation(
        "partners: as alike as can be",
        "edits/writers.py",
        "(differs + 0.5 * drawn).argmax(1)",
        "(differs + 0.5 * drawn).argmin(1)",
        "edits/test_writers.py",
    ),
    Mutation(
        "fidelity: against the mean instead of no edit",
        "scoring/control.py",
        'Key("task", "kl", key.attribute, "none"))',
        'Key("task", "kl", key.attribute, "ceiling"))',
        "scoring/test_scoring.py",
    ),
    Mutation(
        "masks: swapping everything is no candidate",
        "edits/masks.py",
        'device=live.device), "all")',
        'device=live.device) * False, "all")',
        "edits/test_masks.py",
    ),
    Mutation(
        "soft-frozen: rows turn as they like",
        "dictionaries/frozen.py",
        "return torch.where(along >= cosine, rows, edge)",
        "return rows",
        "dictionaries/test_frozen.py",
    ),
    Mutation(
        "bootstrap: sums over prompts stand for those over prompts and sources",
        "scoring/estimates.py",
        'for name in ("_whole", "_by_cell", "_totals"):',
        'for name in ("_whole", "_by_cell"):',
        "scoring/test_two_ways.py",
    ),
    Mutation(
        "bootstrap: only the last way is resampled",
        "scoring/estimates.py",
        "self.counts *= times[:, way]",
        "self.counts = 1.0 * times[:, way]",
        "scoring/test_two_ways.py",
    ),
    Mutation(
        "bootstrap: units counted in the way that has most",
        "scoring/estimates.py",
        "return min(int((np.bincount(way[marked]) > 0).sum()) for way in self._ways)",
        "return max(int((np.bincount(way[marked]) > 0).sum()) for way in self._ways)",
        "scoring/test_two_ways.py",
    ),
    Mutation(
        "detection: a value that was not drawn counts as missed",
        "scoring/detection.py",
        "draws = np.divide((known * drawn).sum(1), whole, out=np.full(len(whole), np.nan), where=whole > 0)",
        "draws = of_values.draws.mean(1)",
        "scoring/test_two_ways.py",
    ),
    Mutation(
        "normalised: the ceiling may be worse than the floor",
        "scoring/estimates.py",
        "if span.excludes_zero and sign * float(span) < 0:",
        "if False:",
        "scoring/test_two_ways.py",
    ),
    Mutation(
        "latents: all dictionaries share resamples",
        "scoring/base.py",
        "if split not in OWN:",
        "if True:",
        "scoring/test_two_ways.py",
    ),
    Mutation(
        "ranks: draws not moved to the estimates",
        "scoring/estimates.py",
        "draws = draws + (values - np.nanmean(draws, axis=0))",
        "draws = draws",
        "scoring/test_two_ways.py",
    ),
    Mutation(
        "seeds: a single one borrows no variance",
        "regression/differences.py",
        "    if pool is None:",
        "    if pool is None or len(side) == 1:",
        "regression/test_regression.py",
    ),
    Mutation(
        "IOI: every pair in one order",
        "kinds/names/prompts.py",
        "(round_ + place + io) % 2",
        "(turn + io) % 2",
        "kinds/test_names.py",
    ),
    Mutation(
        "IOI: test asks in the phrasings of fit",
        "kinds/names/words.py",
        'held_out = split == "test"',
        "held_out = False",
        "kinds/test_names.py",
    ),
    Mutation(
        "templates: ahead of the other name is enough",
        "kinds/templates.py",
        "return min(self.accuracy, self.argmax) >= ABLE",
        "return self.accuracy >= ABLE",
        "kinds/test_names.py",
    ),
    Mutation(
        "null: labels permuted prompt by prompt",
        "measures/detection.py",
        "torch.stack([cluster, labels], 1)",
        "torch.stack([torch.arange(len(labels)), labels], 1)",
        "measures/test_permuted.py",
    ),
)


def passes(tree: Path, tests: str) -> bool:
    """Whether tests pass in a copy of the tree.

    Raises:
        SystemExit: if they could not be run: that catches nothing.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout", "0"]
    command += [f"tests/{name}" for name in tests.split()]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{tests} could not be run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def survives(mutation: Mutation, tree: Path) -> bool:
    """Whether the tests named beside a mutation pass although it is applied."""
    path = tree / "saebench" / mutation.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        raise SystemExit(f"{mutation.name}: {mutation.file} has {text.count(mutation.old)} such lines")
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        return passes(tree, mutation.tests)
    finally:
        path.write_text(text, encoding="utf-8")


def copied(folder: Path) -> Path:
    """The tree to break: code and tests are copied, what they only read is linked."""
    tree = folder / "project"
    for name in ("saebench", "tests"):
        shutil.copytree(ROOT / name, tree / name)
    for name in ("tasks", "results", "docs", "benchmarks", "README.md", "Makefile", "pyproject.toml"):
        (tree / name).symlink_to(ROOT / name)
    return tree


def main() -> int:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    alive, sound = 0, set[str]()
    with tempfile.TemporaryDirectory() as folder:
        tree = copied(Path(folder))
        for mutation in MUTATIONS:
            if word not in mutation.name:
                continue
            if mutation.tests not in sound and not passes(tree, mutation.tests):
                raise SystemExit(f"{mutation.tests} fails without any mutation")
            sound.add(mutation.tests)
            survived = survives(mutation, tree)
            alive += survived
            print(f"{'SURVIVED' if survived else 'caught  '}  {mutation.name}", flush=True)
    print(f"{alive} survived")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
