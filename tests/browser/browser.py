"""A real JupyterLab on a copy of this repository, and a headless Chromium that looks at it."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from jupyter_client import BlockingKernelClient
from playwright.sync_api import Locator, Page, sync_playwright

NOTEBOOK = "notebooks/04_dice_train.ipynb"
# No news dialog, no cell that is taken out of the page when it is out of sight, no autosave in the middle of a run.
OVERRIDES = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}


def chromium() -> str | None:
    """The browser's program, if there is one."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def wait_for(what: str, condition: Callable[[], object], seconds: float = 30.0) -> object:
    """The condition's value once it is true; AssertionError says what never came."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.05)
    return value


class Lab:
    """JupyterLab on `root` with homes, settings and runtime files of its own under `scratch`; ends with its kernels."""

    def __init__(self, root: Path, scratch: Path, environment: dict[str, str]):
        self.root, self.scratch, self.token = root, scratch, secrets.token_hex(8)
        self.runtime = scratch / "runtime"
        folders = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "share",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "HOME": "home",
            "IPYTHONDIR": "ipython",
        }
        self.environment = environment | {name: str(scratch / folder) for name, folder in folders.items()}
        for folder in folders.values():
            (scratch / folder).mkdir(parents=True)
        settings = scratch / "app-settings"
        settings.mkdir()
        (settings / "overrides.json").write_text(json.dumps(OVERRIDES))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def __enter__(self) -> "Lab":
        command = [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--allow-root",
            f"--port={self.port}",
            "--port-retries=0",
            f"--IdentityProvider.token={self.token}",
            f"--notebook-dir={self.root}",
            "--expose-app-in-browser",
            f"--LabApp.app_settings_dir={self.scratch / 'app-settings'}",
        ]
        self.log = open(self.scratch / "lab.log", "wb")  # closed in __exit__
        self.process = subprocess.Popen(
            command, cwd=self.root, env=self.environment, stdout=self.log, stderr=self.log, start_new_session=True
        )
        return self

    def __exit__(self, *error: object) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.log.close()

    def is_up(self) -> bool:
        """Whether it takes connections."""
        assert self.process.poll() is None, (self.scratch / "lab.log").read_text()[-3000:]
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def address(self) -> str:
        """Of the notebook in JupyterLab."""
        return f"http://127.0.0.1:{self.port}/lab/tree/{NOTEBOOK}?token={self.token}"

    def kernel(self) -> BlockingKernelClient:
        """A client of the one kernel that runs, beside the browser's."""
        (connection,) = self.runtime.glob("kernel-*.json")
        client = BlockingKernelClient(connection_file=str(connection))
        client.load_connection_file()
        client.start_channels()
        return client


class Notebook:
    """The notebook's page: commands of JupyterLab, cells, widgets, and values seen through the kernel."""

    def __init__(self, lab: Lab, page: Page, pictures: Path, label: str):
        self.lab, self.page, self.pictures, self.label = lab, page, pictures, label
        self.client: BlockingKernelClient | None = None

    def open(self) -> None:
        """Load the page and wait until the notebook is there, its kernel connected."""
        self.page.goto(self.lab.address)
        self.page.wait_for_function("window.jupyterapp !== undefined", timeout=60_000)
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
        self.page.wait_for_function(
            "() => { const panel = window.jupyterapp.shell.currentWidget;"
            " return panel && panel.sessionContext && panel.sessionContext.session?.kernel?.status === 'idle'; }",
            timeout=60_000,
        )
        self.client = self.lab.kernel()

    def command(self, name: str) -> None:
        """Run a command of JupyterLab to its end: its promise is kept when the cells are done."""
        self.page.evaluate("async name => { await window.jupyterapp.commands.execute(name); }", name)

    def begin(self, name: str) -> None:
        """Begin a command of JupyterLab; `end` waits for its end."""
        self.page.evaluate("name => { window.begun = window.jupyterapp.commands.execute(name); }", name)

    def end(self) -> None:
        """Wait for the end of what `begin` began, four minutes at most."""
        self.page.set_default_timeout(240_000)
        self.page.evaluate("async () => { await window.begun; }")

    def outputs(self) -> list[dict]:
        """All outputs of all code cells, as the notebook file would hold them."""
        return self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.content.widgets"
            ".filter(cell => cell.model.type === 'code').flatMap(cell => cell.model.outputs.toJSON())"
        )

    def run_cell(self, text: str) -> None:
        """Select the code cell that holds `text` and run it."""
        found = self.page.evaluate(
            """text => {
                const notebook = window.jupyterapp.shell.currentWidget.content;
                const place = notebook.widgets.findIndex(
                    cell => cell.model.type === 'code' && cell.model.sharedModel.source.includes(text));
                notebook.activeCellIndex = place;
                notebook.deselectAll();
                return place;
            }""",
            text,
        )
        assert found >= 0, f"no cell holds {text!r}"
        self.command("notebook:run-cell")

    def value(self, expression: str) -> object:
        """What an expression is in the kernel; the training goes on meanwhile."""
        code = f"__import__('json').dumps({expression})"
        asked = self.client.execute("", silent=True, user_expressions={"it": code})
        while (reply := self.client.get_shell_msg(timeout=30))["parent_header"].get("msg_id") != asked:
            pass
        it = reply["content"]["user_expressions"]["it"]
        assert it["status"] == "ok", f"{expression}: {it}"
        return json.loads(it["data"]["text/plain"][1:-1].encode().decode("unicode_escape"))

    def widget(self, name: str) -> Locator:
        """The newest widget with the class unet-<name>."""
        return self.page.locator(f".unet-{name}").last

    def picture(self, moment: str) -> None:
        """Keep what the window shows now."""
        self.pictures.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=self.pictures / f"{self.label}-{moment}.png")


def look_at(lab: Lab, pictures: Path, label: str, act: Callable[[Notebook], None]) -> None:
    """Open the notebook in a headless Chromium and let `act` work in it."""
    wait_for("JupyterLab", lab.is_up, 60)
    with sync_playwright() as play:
        options = ["--no-sandbox", "--disable-dev-shm-usage"]  # as root, in a container
        browser = play.chromium.launch(executable_path=chromium(), args=options)
        try:
            page = browser.new_page(viewport={"width": 1300, "height": 1500})
            notebook = Notebook(lab, page, pictures, label)
            notebook.open()
            try:
                act(notebook)
            except BaseException:
                notebook.picture("failed")
                raise
        finally:
            browser.close()
