"""Nothing of a run folder is opened through a link, and nothing waits for a pipe."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from dltrain.errors import UserError
from dltrain.files import (
    NotAFileError,
    lines_of,
    make_room,
    open_file,
    open_within,
    own,
    read_text,
    read_within,
    require_file,
    require_plain,
)
from dltrain.runs.folder import RunFolder
from dltrain.runs.listing import listed_run
from dltrain.runs.load import read_config, spec_of_run

MODES = ("r", "rb", "r+", "w", "wb", "a")
WRITTEN = ("w", "wb", "a", "r+", "r+b")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "tables").mkdir(parents=True)
    (folder / "metrics.csv").write_text("mine\n")
    (folder / "tables" / "test.csv").write_text("mine\n")
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "home" / "tables").mkdir(parents=True)
    file = tmp_path / "home" / "diary.txt"
    file.write_text("dear diary\n")
    return file


def replaced(file: Path, by: Path) -> None:
    file.unlink()
    file.symlink_to(by)


@pytest.mark.parametrize("mode", MODES)
def test_a_file_that_is_a_link_is_not_opened(run: Path, outside: Path, mode: str) -> None:
    replaced(run / "metrics.csv", outside)

    with pytest.raises(UserError, match=r"metrics\.csv: it is a link: a run's files lie in its"):
        open_within(run, "metrics.csv", mode)
    assert outside.read_text() == "dear diary\n"


@pytest.mark.parametrize("mode", ["w", "a"])
def test_no_file_is_made_where_a_link_leads_nowhere(run: Path, outside: Path, mode: str) -> None:
    (run / "train.log").symlink_to(outside.parent / "new")

    with pytest.raises(NotAFileError, match="a link"):
        open_within(run, "train.log", mode)
    assert not (outside.parent / "new").exists()


@pytest.mark.parametrize("mode", MODES)
def test_a_folder_that_is_a_link_is_not_gone_through(run: Path, outside: Path, mode: str) -> None:
    (run / "figures").symlink_to(outside.parent)

    with pytest.raises(NotAFileError, match="figures: it is a link"):
        open_within(run, "figures/diary.txt", mode)
    with pytest.raises(NotAFileError, match="figures: it is a link"):
        own(run, "figures/diary.txt")
    with pytest.raises(NotAFileError, match="figures: it is a link"):
        make_room(run, "figures/curves.png")
    with pytest.raises(NotAFileError, match="figures: it is a link"):
        RunFolder(run).write_text("figures/curves.png", "")
    assert outside.read_text() == "dear diary\n"
    assert {file.name for file in outside.parent.iterdir()} == {"diary.txt", "tables"}


@pytest.mark.parametrize("name", ["../home/diary.txt", "/etc/hostname", "tables/../../x", ""])
def test_a_name_does_not_lead_out(run: Path, outside: Path, name: str) -> None:
    for door in (open_within, own, make_room):
        with pytest.raises(NotAFileError, match="outside of the run folder"):
            door(run, name)


@pytest.mark.parametrize("mode", WRITTEN)
def test_a_file_with_a_second_name_is_not_written_to(run: Path, outside: Path, mode: str) -> None:
    (run / "metrics.csv").unlink()
    os.link(outside, run / "metrics.csv")

    with pytest.raises(NotAFileError, match="hard link"):
        open_within(run, "metrics.csv", mode)
    assert read_within(run, "metrics.csv") == outside.read_bytes() == b"dear diary\n"


def test_what_lies_in_the_folder_is_opened_as_ever(run: Path) -> None:
    with open_within(run, "tables/test.csv", "a") as file:
        file.write("more\n")
    with open_within(run, "new.csv", "w", newline="") as file:
        file.write("a\r\n")
    with open_within(run, "new.csv", "r+b") as file:
        file.truncate(1)

    assert read_within(run, "tables/test.csv") == b"mine\nmore\n"
    assert read_within(run, "new.csv") == b"a"
    assert own(run, "none.csv") == run / "none.csv"
    require_plain(run)
    with pytest.raises(FileNotFoundError, match="none"):
        open_within(run, "none.csv")
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_within(run, "tables/test.csv", 4)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket has a hundred letters at most
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(here)


@pytest.mark.parametrize(
    ("make", "kind"),
    [(pipe, "a pipe"), (listening, "a socket"), (Path.mkdir, "a folder")],
    ids=["pipe", "socket", "folder"],
)
def test_what_has_no_end_is_not_waited_for(
    run: Path, make: Callable[[Path], object], kind: str
) -> None:
    for name in ("config.yaml", "summary.json", "data.json", "train.log"):
        make(run / name)
    folder = RunFolder(run)

    for mode in MODES:
        with pytest.raises(OSError, match=kind):
            open_within(run, "train.log", mode)
    with pytest.raises(OSError, match=kind):
        require_file(run / "train.log")
    if kind != "a socket":  # which the system itself does not open
        with pytest.raises(UserError, match=kind):
            open_file(run / "train.log")
    for read in (read_config, spec_of_run):
        with pytest.raises(UserError):
            read(folder)
    with pytest.raises(UserError, match=kind):
        folder.read_json("summary.json")
    assert listed_run(run).status == "unreadable"
    if kind != "a folder":
        with pytest.raises(UserError, match=kind):
            folder.hold()


def test_the_lines_of_a_text_whatever_its_ends_and_what_is_none(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b"\xef\xbb\xbf\xe5\xa5\xbd\r\n\nb\rc")
    assert list(lines_of(file)) == ["好", "", "b", "c"]
    for content, said in (
        (b"a\nb\xff\n", "line 2 is no UTF-8 text: it has the byte 0xff"),
        (b"RIFF\0\0\0\0WAVE", "is no text: it is a sound"),
        ("a".encode("utf-16"), "is UTF-16: save it as UTF-8"),
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=said):
            list(lines_of(file))
    with pytest.raises(OSError, match="a folder"):
        list(lines_of(tmp_path))


def test_a_device_is_no_file() -> None:
    with pytest.raises(UserError, match="/dev/zero: it is a device, and no file"):
        read_text(Path("/dev/zero"))


@pytest.mark.parametrize("name", [".lock", "checkpoints", "tables/test.csv", "wandb"])
def test_a_run_folder_with_a_link_is_not_written_in(run: Path, outside: Path, name: str) -> None:
    if (run / name).exists():
        (run / name).unlink()
    (run / name).symlink_to(outside)
    folder = RunFolder(run)

    with pytest.raises(UserError, match=f"{name}: it is a link"):
        folder.hold()
    with pytest.raises(UserError, match=f"{name}: it is a link"):
        folder.place("samples")
    assert outside.read_text() == "dear diary\n"
