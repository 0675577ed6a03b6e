"""The cache: what is fetched, what is believed, and what the error says when nothing helps."""

import functools
import gzip
import hashlib
import http.server
import threading

import pytest

from shohin.core.errors import DataError
from shohin.data.files import File, Source, cache_dir, debian_package, download, folder, obtain

CONTENT = {"a": b"first " * 100, "b": b"second"}
FILES = [File(name=n, size=len(c), sha256=hashlib.sha256(c).hexdigest()) for n, c in CONTENT.items()]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOHIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "datasets" / "things"


class Fake:
    """A source that gives what it is told to, call after call, and counts."""

    def __init__(self, *answers, again=True):
        self.answers, self.calls = list(answers), []
        self.source = Source(label="fake", fetch=self.fetch, again=again)

    def fetch(self, files, into):
        self.calls.append([file.name for file in files])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        for file in files:
            if file.name in answer:
                (into / file.name).write_bytes(answer[file.name])


def check(paths, home):
    assert {name: path.read_bytes() for name, path in paths.items()} == CONTENT
    assert sorted(path.name for path in home.iterdir()) == ["a", "b"]  # no temporary files are left


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("SHOHIN_CACHE")
    assert "shohin" in str(cache_dir())


def test_fetches_once(home):
    fake = Fake(CONTENT)
    check(obtain("things", FILES, [fake.source]), home)
    check(obtain("things", FILES, [fake.source]), home)
    assert fake.calls == [["a", "b"]]


def test_asks_the_next_source_only_for_what_is_missing(home):
    one, two = Fake({"a": CONTENT["a"]}, again=False), Fake(CONTENT)
    check(obtain("things", FILES, [one.source, two.source]), home)
    assert (one.calls, two.calls) == ([["a", "b"]], [["b"]])


@pytest.mark.parametrize("damage", [b"", CONTENT["a"][:-1], CONTENT["a"][:-1] + b"!", CONTENT["a"] + b"!"])
def test_a_damaged_file_in_the_cache_is_fetched_again(home, damage):
    obtain("things", FILES, [Fake(CONTENT).source])
    (home / "a").write_bytes(damage)
    fake = Fake(CONTENT)
    check(obtain("things", FILES, [fake.source]), home)
    assert fake.calls == [["a"]]


def test_a_truncated_download_is_tried_again_once(home):
    fake = Fake({**CONTENT, "a": CONTENT["a"][:7]}, CONTENT)
    check(obtain("things", FILES, [fake.source]), home)
    assert fake.calls == [["a", "b"], ["a"]]


def test_the_error_tells_all_that_was_tried(home):
    home.mkdir(parents=True)
    (home / "a").write_bytes(b"x")
    short = Fake({"a": b"y"}, {"a": CONTENT["b"] * 100})
    with pytest.raises(DataError) as caught:
        obtain("things", FILES, [short.source, folder(home / "none"), Fake(OSError("no route"), again=False).source])
    message = str(caught.value)
    for part in (
        "things: no source has a, b",
        f"cache: {home / 'a'}: truncated: 1 of 600 bytes",
        "fake: a: truncated: 1 of 600 bytes",
        "fake: b: not there",
        "fake: a: corrupt: sha256 is ",
        f"{home / 'none'}: there is no such folder",
        "fake: OSError: no route",
        f"put the files (decompressed) into {home}",
        "SHOHIN_CACHE",
    ):
        assert part in message
    assert not list(home.glob(".fetch-*"))
    assert (home / "a").read_bytes() == b"x"  # what was there is not lost for what could not be had


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SHOHIN_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="the cache .* cannot be written"):
        obtain("things", FILES, [Fake(CONTENT, CONTENT).source])


def test_a_programming_error_in_a_source_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        obtain("things", FILES, [Fake(ZeroDivisionError()).source])


def test_from_a_folder_plain_or_packed(tmp_path, home):
    (tmp_path / "a").write_bytes(CONTENT["a"])
    (tmp_path / "b.gz").write_bytes(gzip.compress(CONTENT["b"]))
    check(obtain("things", FILES, [folder(tmp_path)]), home)


@pytest.fixture
def server(tmp_path):
    served = tmp_path / "served"
    served.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=served)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield served, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


def test_from_a_download(server, home):
    served, url = server
    for name, content in CONTENT.items():
        (served / f"{name}.gz").write_bytes(gzip.compress(content))
    check(obtain("things", FILES, [download(url, ".gz")]), home)


def test_from_a_download_that_is_not_compressed(server, home):
    served, url = server
    for name, content in CONTENT.items():
        (served / name).write_bytes(content)
    check(obtain("things", FILES, [download(url)]), home)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "a.gz: HTTPError: HTTP Error 404"),
        (gzip.compress(CONTENT["a"], mtime=0)[:-12], "a.gz: EOFError"),
        (b"<html>not found</html>", "a.gz: BadGzipFile"),
    ],
)
def test_a_download_that_fails_says_how(server, content, message):
    served, url = server
    if content is not None:
        (served / "a.gz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        obtain("things", FILES, [download(url, ".gz")])


def test_a_host_that_does_not_answer_is_named():
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/: a: URLError"):
        obtain("things", FILES, [download("http://127.0.0.1:9/")])


def test_without_apt_a_package_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DataError, match="Debian package thing: there is no apt-get here"):
        obtain("things", FILES, [debian_package("thing", "usr/share/thing")])


def test_a_package_is_unpacked(tmp_path, monkeypatch, home):
    """With stand-ins for apt-get and dpkg-deb: the first download fails, as with empty lists; the second works."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "apt-get").write_text(
        "#!/bin/sh\n"
        'case "$*" in *update*) mkdir -p lists && touch lists/fresh;;\n'
        '*download*) [ -e lists/fresh ] || { echo "E: Unable to locate package" >&2; exit 100; }\n'
        ": > thing_1.deb;; esac\n"
    )
    inside = "unpacked/usr/share/thing"
    unpack = " && ".join(f"printf '{content.decode()}' > {inside}/{name}" for name, content in CONTENT.items())
    (tools / "dpkg-deb").write_text(f"#!/bin/sh\nmkdir -p {inside} && {unpack}\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    check(obtain("things", FILES, [debian_package("thing", "usr/share/thing")]), home)
    (tools / "apt-get").write_text("#!/bin/sh\necho 'E: Unable to locate package' >&2; exit 100\n")
    with pytest.raises(DataError, match=r"`apt-get ... thing` failed \(100\): E: Unable .*with fresh lists"):
        obtain("others", FILES, [debian_package("thing", "usr/share/thing")])
