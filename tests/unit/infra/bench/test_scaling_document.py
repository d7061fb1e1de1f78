"""docs/scaling.md shows what the sizing command calculates."""

from infra.bench import scaling_document


def test_the_page_on_scaling_is_up_to_date() -> None:
    stale = [
        file.name
        for file, text in scaling_document.generated().items()
        if not file.exists() or file.read_text() != text
    ]
    assert stale == [], "run `make docs`"
