"""The environment takes torch's CPU build where PyTorch's index answers, else pip's default."""

import functools
import http.server
import importlib.util
import re
import socket
import threading
import time
import zipfile

import pytest

from pnn_utils.files import ROOT

SCRIPT = ROOT / ".ci" / "cpu_torch.py"
spec = importlib.util.spec_from_file_location("cpu_torch", SCRIPT)
cpu_torch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cpu_torch)
PINNED = re.search(r"^torch==(\S+)$", (ROOT / "requirements.txt").read_text(), re.M).group(1)


@pytest.fixture
def index(tmp_path):
    """A package index on this machine that holds a tiny torch; yields its address."""
    folder = tmp_path / "torch"
    folder.mkdir()
    version = f"{PINNED}+cpu"
    with zipfile.ZipFile(folder / f"torch-{version}-py3-none-any.whl", "w") as wheel:
        about = f"torch-{version}.dist-info"
        wheel.writestr("torch/__init__.py", f"__version__ = {version!r}\n")
        wheel.writestr(f"{about}/METADATA",
                       f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        wheel.writestr(f"{about}/WHEEL",
                       "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    handler.log_message = lambda *arguments: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def install(folder, monkeypatch, index):
    """Let the script install into an empty folder; return its torch's version, or None."""
    monkeypatch.setenv("PNN_TORCH_INDEX", index)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")  # no other index or folder of this machine
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_TARGET", str(folder / "installed"))
    monkeypatch.setattr(cpu_torch.sys, "platform", "linux")
    assert cpu_torch.main() == 0
    module = folder / "installed" / "torch" / "__init__.py"
    return re.search("'(.*)'", module.read_text()).group(1) if module.exists() else None


def test_index_that_answers_gives_the_cpu_build(index, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(cpu_torch, "SECONDS", 60)  # a busy machine is no absent index
    assert install(tmp_path, monkeypatch, index) == f"{PINNED}+cpu"
    assert index in capfd.readouterr().out


def test_index_that_does_not_answer_leaves_torch_to_pip(tmp_path, monkeypatch, capfd):
    with socket.socket() as silent:  # takes connections and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert install(tmp_path, monkeypatch, address) is None
    assert "does not answer" in capfd.readouterr().out
    assert cpu_torch.SECONDS <= time.monotonic() - start < 30
    assert not cpu_torch.answers("http://127.0.0.1:9", 1)


def test_no_index_is_asked_where_none_is_wanted(tmp_path, monkeypatch, capfd):
    assert install(tmp_path, monkeypatch, "") is None
    assert capfd.readouterr().out == ""
