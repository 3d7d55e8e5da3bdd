"""What a reader does: JupyterLab in a browser, the tour run cell by cell, sliders moved, Play."""

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

from pnn_utils import files

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

PATIENCE = 240  # s, for a busy machine; on an idle one the notebook takes about 30 s
MISSING = files.missing("chromium", "chromedriver")
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)
# As root Chromium runs only without its sandbox; the other switches keep it from looking for hosts
# outside this machine.
SWITCHES = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--disable-quic", "--no-first-run", "--disable-sync", "--disable-component-update",
            "--disable-background-networking", "--window-size=1400,1000")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a folder with the tour, unexecuted; yields its address and the notebook."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = folder / "00_tour.ipynb"
    nbformat.write(jupytext.read(files.SOURCES / "00_tour.py"), notebook)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = folder / "home"  # no settings or kernels of the person who runs the test
    environment = {
        **os.environ, "PNN_SCRATCH": str(folder / "scratch"), "PYTHONPATH": str(files.ROOT),
        "JUPYTER_CONFIG_DIR": str(home), "JUPYTER_DATA_DIR": str(home),
        "JUPYTER_RUNTIME_DIR": str(home), "JUPYTER_PREFER_ENV_PATH": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("JUPYTER_PATH", None)
    log = open(folder / "lab.log", "w")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
         f"--port={port}", "--IdentityProvider.token=", "--ServerApp.port_retries=0",
         "--expose-app-in-browser", f"--ServerApp.root_dir={folder}"],
        cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + 60
    try:
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/api/status", timeout=5).close()
                break
            printed = (folder / "lab.log").read_text()[-2000:]
            assert server.poll() is None and time.monotonic() < end, printed
            time.sleep(0.2)
        yield address, notebook
    finally:
        server.terminate()
        server.wait(timeout=30)
        log.close()


@pytest.fixture
def browser(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(switch)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def test_tour_runs_in_a_browser_its_sliders_answer_and_its_balls_roll(lab, browser):
    address, notebook = lab
    browser.get(f"{address}/lab/tree/{notebook.name}?reset")

    def until(condition, patience=PATIENCE):
        return WebDriverWait(browser, patience, poll_frequency=0.02).until(condition)

    def command(name):
        return browser.execute_async_script(
            "const [name, done] = arguments;"
            "jupyterapp.commands.execute(name).then(() => done(true), e => done(`${e}`))", name)

    browser.set_script_timeout(PATIENCE)
    until(lambda page: page.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell"))
    until(lambda page: page.execute_script(
        "const p = window.jupyterapp.shell.currentWidget;"
        "return p?.sessionContext?.session?.kernel?.status === 'idle'"))
    assert command("notebook:run-all-cells") is True
    errors = '[data-mime-type="application/vnd.jupyter.error"]'
    assert not browser.find_elements(By.CSS_SELECTOR, errors)
    screen = until(lambda page: page.find_elements(By.CSS_SELECTOR, "img.widget-image"))[0]
    handles = browser.find_elements(By.CSS_SELECTOR, ".widget-slider .noUi-handle")
    assert len(handles) == 4

    before, answers = screen.get_attribute("src"), []
    for handle in handles:
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", handle)
        handle.click()
        begin = time.perf_counter()
        handle.send_keys(Keys.ARROW_RIGHT)
        until(lambda page, before=before: screen.get_attribute("src") != before, 20)
        answers.append(time.perf_counter() - begin)
        before = screen.get_attribute("src")
    print("seconds from a key to the new picture:", *(f"{answer:.2f}" for answer in answers))

    pictures, begin = {before}, time.perf_counter()
    browser.find_element(By.CSS_SELECTOR, ".widget-play button").click()

    def rolled(page):
        pictures.add(screen.get_attribute("src"))
        return page.find_elements(By.CSS_SELECTOR, ".widget-readout")[-1].text == "50"

    until(rolled, 60)
    print(f"Play: {len(pictures)} pictures in {time.perf_counter() - begin:.1f} s")
    assert len(pictures) > 10

    assert command("docmanager:save") is True
    executed = nbformat.read(notebook, 4)
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    hidden = [cell.metadata.get("jupyter", {}).get("source_hidden", False) for cell in code]
    collapsed = ".jp-CodeCell .jp-Cell-inputWrapper .jp-InputPlaceholder"
    assert len(browser.find_elements(By.CSS_SELECTOR, collapsed)) == sum(hidden)
