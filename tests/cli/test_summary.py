import refdepth.pipeline.report.advice
from refdepth.cli.console import out
from refdepth.cli.summary import print_summary
from refdepth.pipeline.report.advice import Advice
from refdepth.pipeline.workspace import Workspace


def test_what_to_know_is_said_in_words_with_names_and_what_to_try(tmp_path, monkeypatch):
    names = tuple(f"photo_{number}.jpg" for number in range(6))
    advice = [
        Advice(what="Views without texture.", try_="Take more photos.", names=names),
        Advice(what="fuse: [odd] result", try_=""),
    ]
    monkeypatch.setattr(refdepth.pipeline.report.advice, "advice_of", lambda results: advice)
    monkeypatch.setattr(out, "width", 80)
    with out.capture() as captured:
        print_summary(Workspace(tmp_path), [])
    said = " ".join(captured.get().split())
    assert (
        "! Views without texture (photo_0.jpg, photo_1.jpg, photo_2.jpg, photo_3.jpg and 2 more)."
        " Take more photos. ! fuse: [odd] result" in said
    )
    assert max(map(len, captured.get().splitlines()[:4])) <= 80
