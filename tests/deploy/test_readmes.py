"""Each way to run it has a page that says that it was checked and not run, and whose links lead somewhere."""

import re

import pytest

from tests.deploy.reading import DEPLOY

WAYS = sorted(path for path in DEPLOY.iterdir() if path.is_dir())


@pytest.mark.parametrize("way", WAYS, ids=lambda path: path.name)
def test_it_says_what_was_not_run(way: object) -> None:
    page = DEPLOY / str(way) / "README.md"
    text = page.read_text()
    assert "make check-deploy" in text and re.search(r"\*\*.*(not run|none was run).*\*\*", text)
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (page.parent / target).exists(), f"{page} leads to {target}"
    for name in re.findall(r"`(?:deploy/\w+/)?([\w.]+\.(?:yaml|example))`", text):
        assert (page.parent / name).exists() or name == "serve_gpu.yaml", name
