"""Files of named data sets: where they are looked for, and how they are fetched, from a server on this machine."""

import contextlib
import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from layerwise.core.errors import DataError, UnsupportedError
from layerwise.data.download import RemoteFile, cache_folder, locate

CONTENT = bytes(range(256)) * 4096  # 1 MiB


@dataclass
class Server:
    """What the server does, and what it was asked."""

    address: str = ""
    ranges: list[str | None] = field(default_factory=list)
    understands_ranges: bool = True
    breaks_after: int | None = None  # bytes of the first answer
    content: bytes = CONTENT

    def file(self, path: str = "set/a.bin", content: bytes = CONTENT) -> RemoteFile:
        return RemoteFile(path, f"{self.address}/a.bin", hashlib.sha256(content).hexdigest(), len(content))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    known = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            known.ranges.append(asked)
            if self.path != "/a.bin":
                self.send_error(404, "Not Found")
                return
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and known.understands_ranges else 0
            body = known.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the reader may go away
                self.wfile.write(body[: known.breaks_after] if len(known.ranges) == 1 else body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    known.address = f"http://127.0.0.1:{httpd.server_address[1]}"
    for name in ("LAYERWISE_OFFLINE", "HF_HUB_OFFLINE", "LAYERWISE_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield known
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_download_has_the_bytes_and_names_address_and_size(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    found = locate("toy", [server.file()])
    assert found["set/a.bin"] == cache_folder() / "set/a.bin"
    assert found["set/a.bin"].read_bytes() == CONTENT
    said = capfd.readouterr().err
    assert f"{server.address}/a.bin" in said
    assert "1.0 MB" in said


def test_second_call_asks_no_server(server: Server) -> None:
    locate("toy", [server.file()])
    locate("toy", [server.file()])
    assert len(server.ranges) == 1


def test_broken_download_is_continued_from_where_it_stopped(server: Server) -> None:
    part = cache_folder() / "set/a.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:1000])
    assert locate("toy", [server.file()])["set/a.bin"].read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]
    assert not part.exists()


def test_connection_lost_midway_is_taken_up_again(server: Server) -> None:
    server.breaks_after = 5000
    assert locate("toy", [server.file()])["set/a.bin"].read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=5000-"]


def test_server_without_ranges_sends_the_whole_file_again(server: Server) -> None:
    server.understands_ranges = False
    part = cache_folder() / "set/a.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    assert locate("toy", [server.file()])["set/a.bin"].read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]


def test_wrong_bytes_are_an_error_and_leave_nothing(server: Server) -> None:
    server.content = CONTENT[::-1]
    with pytest.raises(DataError, match="other bytes than expected"):
        locate("toy", [server.file()])
    assert not list(cache_folder().rglob("a.bin"))
    assert not list(cache_folder().rglob("*.part"))


def test_endless_answer_is_cut_off(server: Server) -> None:
    server.content = CONTENT * 8
    with pytest.raises((DataError, UnsupportedError)):
        locate("toy", [server.file()])
    assert sum(path.stat().st_size for path in cache_folder().rglob("*") if path.is_file()) <= 3 * len(CONTENT)


def test_refusal_names_the_answer_and_the_remedy(server: Server) -> None:
    file = RemoteFile("set/b.bin", f"{server.address}/b.bin", "0" * 64, 10)
    with pytest.raises(UnsupportedError, match=r"404 Not Found.*data\.root=FOLDER holding b\.bin"):
        locate("toy", [file])


def test_unreachable_server_is_a_plain_error(server: Server) -> None:
    file = RemoteFile("set/a.bin", "http://127.0.0.1:9/a.bin", "0" * 64, 10)
    with pytest.raises(UnsupportedError, match=r"cannot download http://127\.0\.0\.1:9/a\.bin"):
        locate("toy", [file])


@pytest.mark.parametrize("switch", ["LAYERWISE_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_switch_forbids_and_says_what_to_do(
    server: Server, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    monkeypatch.setenv(switch, "1")
    with pytest.raises(UnsupportedError, match=rf"{switch}=1 forbids downloads.*data\.root=FOLDER: a\.bin"):
        locate("toy", [server.file()])
    assert server.ranges == []


def test_own_data_folder_comes_before_the_cache(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "own" / "set" / "a.bin"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    monkeypatch.setenv("LAYERWISE_DATA", str(tmp_path / "own"))
    assert locate("toy", [server.file()])["set/a.bin"] == own
    assert server.ranges == []


@pytest.mark.parametrize("below", ["a.bin", "set/a.bin"])
def test_root_is_searched_by_base_name_and_by_path(server: Server, tmp_path: Path, below: str) -> None:
    (tmp_path / below).parent.mkdir(exist_ok=True)
    (tmp_path / below).write_bytes(b"mine")
    assert locate("toy", [server.file()], str(tmp_path))["set/a.bin"] == tmp_path / below


def test_root_without_the_file_names_it_and_downloads_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"toy needs the file 'a\.bin'"):
        locate("toy", [server.file()], str(tmp_path))
    with pytest.raises(DataError, match="no such folder"):
        locate("toy", [server.file()], str(tmp_path / "nowhere"))
    assert server.ranges == []


def test_root_may_be_the_only_file_itself(server: Server, tmp_path: Path) -> None:
    (tmp_path / "mine.bin").write_bytes(b"mine")
    assert locate("toy", [server.file()], str(tmp_path / "mine.bin"))["set/a.bin"] == tmp_path / "mine.bin"
