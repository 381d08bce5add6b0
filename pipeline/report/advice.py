"""Warnings in plain words, with what to try."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refdepth.pipeline.engine import stage_names
from refdepth.pipeline.metric import read_scale
from refdepth.pipeline.report.facts import LOW_ACCEPTANCE, ViewFacts, accepted_share, read_facts
from refdepth.pipeline.results import Results
from refdepth.priors.scale_fit import ScaleFlag

_FEW_REGISTERED = 0.9
_NOTHING_TO_JUDGE = {"no_prior", "no_sources"}
_MOST_VERBATIM = 40
"""Of a stage."""
_SAID_ABOVE = ("skipped ", "separate models", "not placed: ", "photos have a pose", "has no prior")
"""Words of warnings whose facts `_photos` has told with advice."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """One thing to know."""

    what: str
    """What was found, one sentence."""
    try_: str
    """What to try, one or two sentences; empty when there is nothing to do."""
    names: tuple[str, ...] = ()
    """The views or photos it is about."""


_SCALE: Mapping[str, tuple[str, str]] = {
    ScaleFlag.NO_POINTS: (
        "Views that see no SfM point: their depth has no scale of its own.",
        "Take more photos that overlap with these, or leave them out.",
    ),
    ScaleFlag.FEW_POINTS: (
        "Views with too few SfM points for a scale of their own.",
        "Photos with more overlap and texture help; check their depth before you rely on it.",
    ),
    ScaleFlag.BADLY_SPREAD: (
        "Views whose SfM points lie in a small part of the picture, so that the rest is guessed.",
        "Add photos from where the rest of these pictures is seen too.",
    ),
    ScaleFlag.POOR_FIT: (
        "Views where the depth network and the SfM points disagree by much.",
        "Look for mirrors, glass, screens or moving things; try another --depth-model, or"
        " --depth-model sweep.",
    ),
    ScaleFlag.OPPOSED: (
        "Views whose prior grows where it should shrink.",
        "If you gave --depth-maps, check --depth-kind: inverse_affine means larger is nearer."
        " Otherwise the cameras are probably wrong: were enough photos placed?",
    ),
    ScaleFlag.UNRELATED: (
        "Views whose prior has nothing to do with their SfM points.",
        "If you gave --depth-maps, check that each belongs to its photo. Otherwise try another"
        " --depth-model, or --depth-model sweep.",
    ),
    ScaleFlag.BORROWED: (
        "Views that use the scale found for the other views.",
        "",
    ),
}
_REFINE: Mapping[str, tuple[str, str]] = {
    "no_sources": (
        "Views that no other view overlaps with: their depth is the scaled prior.",
        "Take photos in small steps, so that each surface is seen at least three times.",
    ),
    "no_prior": (
        "Views without any depth to begin with: they have none in the end either.",
        "Give a depth map for these too, or let a network make all of them: --depth-model.",
    ),
}


def advice_of(results: Results, facts: Mapping[str, ViewFacts] | None = None) -> list[Advice]:
    """What to know about the run as it lies there, finished or not. `facts` are those of
    `read_facts`, where they are at hand."""
    facts = read_facts(results) if facts is None else facts
    found = {name: results.manifest(name) for name in stage_names()}
    scale = read_scale(results)
    return [
        *advise(
            {name: manifest.summary for name, manifest in found.items() if manifest is not None},
            {results.names.own(name): one.fit for name, one in facts.items()},
            {results.names.own(name): one.record for name, one in facts.items()},
        ),
        *(Advice(what=f"Scale: {text}.", try_="") for text in (scale.warnings if scale else ())),
    ]


def advise(
    manifests: Mapping[str, Mapping[str, Any]],
    fits: Mapping[str, Mapping[str, Any]],
    records: Mapping[str, Mapping[str, Any]],
) -> list[Advice]:
    """What to know about a run, most important first. `manifests` are the stages' summaries,
    `fits` and `records` those of the views by the photos' own names."""
    empty = {str(name) for name in manifests.get("depth", {}).get("without_prior", ())}
    begun = {name: fit for name, fit in fits.items() if name not in empty}
    return [
        *_photos(manifests.get("prepare", {}), manifests.get("sfm", {})),
        *_flagged(begun, _SCALE),
        *_flagged(records, _REFINE),
        *_unaccepted(records),
        *_mixed(manifests),
        *_verbatim(manifests),
    ]


def _photos(prepare: Mapping[str, Any], sfm: Mapping[str, Any]) -> Iterable[Advice]:
    failed = tuple(str(name) for name in sfm.get("failed", ()))
    registered = len(sfm.get("registered", ()))
    if failed:
        few = registered < _FEW_REGISTERED * (registered + len(failed))
        yield Advice(
            what=f"{len(failed)} of {registered + len(failed)} photos could not be placed.",
            try_="Too little in common with the others: blurred, turned away, or a gap in the walk"
            " around. Add photos in between."
            + (" From a video, take more frames: --set prepare.frame_spacing=0.03." if few else ""),
            names=failed,
        )
    skipped = prepare.get("skipped", ())
    if skipped:
        reasons = tuple(
            f"{row.get('original')}: {str(row.get('reason')).rstrip('.')}" for row in skipped
        )
        again = any("same picture" not in reason for reason in reasons)
        yield Advice(
            what=f"{len(skipped)} {'file was' if len(skipped) == 1 else 'files were'} not used.",
            try_="What should be a photo can be exported again as JPEG or PNG." if again else "",
            names=reasons,
        )
    others = sfm.get("other_models", ())
    if others:
        yield Advice(
            what=f"The photos fall into {len(others) + 1} groups that could not be joined; the"
            " largest was used.",
            try_="Add photos that show the places where the groups meet.",
            names=tuple(str(name) for group in others for name in group),
        )


def _flagged(
    records: Mapping[str, Mapping[str, Any]], texts: Mapping[str, tuple[str, str]]
) -> Iterable[Advice]:
    by_flag: dict[str, list[str]] = {}
    for name, record in records.items():
        for flag in record.get("flags", ()):
            by_flag.setdefault(str(flag), []).append(name)
    known = [flag for flag in texts if flag in by_flag]
    for flag in [*known, *sorted(set(by_flag) - set(known))]:
        what, try_ = texts.get(flag, (f"Views marked {flag.replace('_', ' ')}.", ""))
        yield Advice(what=what, try_=try_, names=tuple(by_flag[flag]))


def _unaccepted(records: Mapping[str, Mapping[str, Any]]) -> Iterable[Advice]:
    poor = tuple(
        name
        for name, record in records.items()
        if not set(record.get("flags", ())) & _NOTHING_TO_JUDGE
        and (share := accepted_share(record)) is not None
        and share < LOW_ACCEPTANCE
    )
    if poor:
        yield Advice(
            what="Views where most of the refinement was turned down: a photo left out of it did"
            " not agree.",
            try_="Reflections, blur, moving things or a changed exposure are usual causes; the"
            " scaled prior was kept there.",
            names=poor,
        )


def _mixed(manifests: Mapping[str, Mapping[str, Any]]) -> Iterable[Advice]:
    for stage, what in (("depth", "Priors made"), ("refine", "Views refined")):
        places = manifests.get(stage, {}).get("made_on", {})
        if len(places) > 1:
            counts = ", ".join(f"{count} on {place}" for place, count in places.items())
            yield Advice(
                what=f"{what} on different devices ({counts}).",
                try_="They agree closely, not to the bit;"
                f" `refdepth stage {stage}` makes all of them on the present one.",
            )


def _verbatim(manifests: Mapping[str, Mapping[str, Any]]) -> Iterable[Advice]:
    """What the stages say themselves, except what is said above from their records. What they say
    of several photos in the same words is one thing to know."""
    said: set[str] = set()
    for stage, summary in manifests.items():
        if stage in ("scale", "refine"):
            continue
        photos: dict[str, list[str]] = {}
        warnings: Sequence[Any] = summary.get("warnings", ())
        for warning in map(str, warnings):
            if warning not in said and not any(words in warning for words in _SAID_ABOVE):
                said.add(warning)
                photo, colon, words = warning.partition(": ")
                photos.setdefault(words if colon else warning, []).append(photo if colon else "")
        for number, (words, names) in enumerate(photos.items()):
            if number == _MOST_VERBATIM:
                left = len(photos) - number
                yield Advice(
                    what=f"{stage}: {left} more of these; all are in {stage}/manifest.json.",
                    try_="",
                )
                break
            one = f"{names[0]}: {words}" if names[0] else words
            several = len(names) > 1
            what = f"{stage}: {words if several else one}"
            yield Advice(what=what, try_="", names=tuple(names) if several else ())
