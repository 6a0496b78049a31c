"""`safeguard webhooks`, from adding one to replaying what it did not take."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from configs.settings import Settings
from safeguard import app
from storage.errors import InvalidInput, NotFound
from tests.installation import apart


@pytest.fixture(scope="module")
def folder(servers: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that leads to a database of its own; webhooks may lead to the loopback, where nobody sends."""
    with apart(servers) as settings:
        made = tmp_path_factory.mktemp("home")
        assert settings.database_url is not None
        (made / "settings.env").write_text(
            f"SAFEGUARD_DATABASE_URL='{settings.database_url.get_secret_value()}'\n"
            "SAFEGUARD_WEBHOOK_ALLOW_PRIVATE=127.0.0.0/8\n"
        )
        yield made


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["webhooks", *arguments, "--home", str(folder)], env={"COLUMNS": "250"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def test_a_webhooks_life(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://127.0.0.1:9/hook"
    said = run(folder, "add", url, "--type", "image.decided", "--description", "Ы [bold]'\"\x1b[2J")
    number = re.findall(r"webhook (\d+);", said)[0]
    (secret,) = re.findall(r"^whsec_\S+$", said, re.MULTILINE)
    assert secret not in run(folder, "list") + run(folder, "show", number)
    assert url in run(folder, "list") and "image.decided" in run(folder, "list")
    assert "Ы [bold]'\"\N{REPLACEMENT CHARACTER}[2J" in run(folder, "show", number)
    assert "0 waiting, 0 dead" in run(folder, "show", number)
    rotated = run(folder, "rotate", number)
    assert "signs too until" in rotated and secret not in rotated and "whsec_" in rotated
    assert "disabled" in run(folder, "disable", number)
    assert "disabled by command line" in run(folder, "show", number)
    run(folder, "enable", number)
    from graphs import webhooks

    waiting = webhooks.test
    monkeypatch.setattr(webhooks, "test", lambda *given: waiting(*given, wait_s=0.0))
    assert "does the service run?" in run(folder, "test", number, code=1)
    assert "webhook.test" in run(folder, "deliveries", number, "--state", "waiting")
    assert "webhook.test" not in run(folder, "deliveries", number, "--state", "dead")
    assert "0 events are sent again" in run(folder, "replay", number, "--dead")
    assert "0 events are sent again" in run(folder, "replay", number, "--since", "2024-11-01T10:00:00+00:00")
    assert "1 events are sent again" in run(folder, "replay", number, "--event", "1")
    run(folder, "remove", number)
    with pytest.raises(NotFound):
        run(folder, "show", number)


def test_bad_input_is_told(folder: Path) -> None:
    for arguments, said in (
        (("add", "https://no-such-host.invalid/"), "no-such-host.invalid does not resolve"),
        (("add", "https://10.0.0.1/"), "not on the public internet"),
        (("add", "http://127.0.0.1/", "--type", "image.eaten"), "no such events: image.eaten"),
        (("replay", "1"), "exactly one"),
        (("replay", "1", "--since", "2024-11-01T10:00:00"), "time zone"),
    ):
        with pytest.raises(InvalidInput, match=re.escape(said)):
            run(folder, *arguments)
    assert "yesterday" in run(folder, "replay", "1", "--since", "yesterday", code=2)
