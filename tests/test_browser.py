"""What a reader does: JupyterLab in a browser, the tour run from its first cell to its last, a slider moved."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import jupytext
import nbformat
import pytest

from pnn_utils import paths

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

PATIENCE = 240  # s, for a busy machine; on an idle one the notebook takes about 20 s
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Chromium and ChromeDriver (Debian: apt-get install chromium chromium-driver)")
# As root Chromium runs only without its sandbox; the other switches keep it from looking for hosts outside this machine.
SWITCHES = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", "--window-size=1400,1000")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a folder of the test's own with the tour in it, unexecuted; yields its address and the notebook's path."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = folder / "00_tour.ipynb"
    nbformat.write(jupytext.read(paths.SOURCES / "00_tour.py"), notebook)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = folder / "home"  # no settings or kernels of the person who runs the test
    environment = {**os.environ, "PNN_SCRATCH": str(folder / "scratch"), "PYTHONPATH": str(paths.ROOT), "JUPYTER_CONFIG_DIR": str(home),
                   "JUPYTER_DATA_DIR": str(home), "JUPYTER_RUNTIME_DIR": str(home), "JUPYTER_PREFER_ENV_PATH": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("JUPYTER_PATH", None)
    log = open(folder / "lab.log", "w")
    server = subprocess.Popen([sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
                               "--IdentityProvider.token=", "--ServerApp.port_retries=0", "--expose-app-in-browser", f"--ServerApp.root_dir={folder}"],
                              cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + 60
    try:
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/api/status", timeout=5).close()
                break
            assert server.poll() is None and time.monotonic() < end, (folder / "lab.log").read_text()[-2000:]
            time.sleep(0.2)
        yield address, notebook
    finally:
        server.terminate()
        server.wait(timeout=30)
        log.close()


@pytest.fixture
def browser(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(switch)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def test_tour_runs_in_a_browser_and_its_sliders_answer(lab, browser):
    address, notebook = lab
    browser.get(f"{address}/lab/tree/{notebook.name}?reset")

    def until(condition, patience=PATIENCE):
        return WebDriverWait(browser, patience, poll_frequency=0.02).until(condition)

    def command(name):
        return browser.execute_async_script("const [name, done] = arguments; jupyterapp.commands.execute(name).then(() => done(true), e => done(`${e}`))",
                                            name)

    browser.set_script_timeout(PATIENCE)
    until(lambda page: page.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell"))
    until(lambda page: page.execute_script("const p = window.jupyterapp.shell.currentWidget; return p?.sessionContext?.session?.kernel?.status === 'idle'"))
    assert command("notebook:run-all-cells") is True
    assert not browser.find_elements(By.CSS_SELECTOR, '[data-mime-type="application/vnd.jupyter.error"]')
    screen = until(lambda page: page.find_elements(By.CSS_SELECTOR, "img.widget-image"))[0]
    assert len(browser.find_elements(By.CSS_SELECTOR, ".jp-RenderedImage img")) >= 2, "the figures of sections 3 and 4 are not there"
    handles = browser.find_elements(By.CSS_SELECTOR, ".widget-slider .noUi-handle")
    assert len(handles) == 3

    before, answers = screen.get_attribute("src"), []
    for handle in handles:
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", handle)
        handle.click()
        begin = time.perf_counter()
        handle.send_keys(Keys.ARROW_LEFT)
        after = until(lambda page, before=before: (source := screen.get_attribute("src")) != before and source, 20)
        answers.append(time.perf_counter() - begin)
        before = after
    print("seconds from a key to the new figure:", *(f"{answer:.2f}" for answer in answers))

    assert command("docmanager:save") is True
    executed = nbformat.read(notebook, 4)
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for cell in code for output in cell.outputs) >= 2
