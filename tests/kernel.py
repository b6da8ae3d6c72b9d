"""A real Jupyter kernel of this interpreter, and what a front end would send to it."""

import ast
import sys
import time
from pathlib import Path
from queue import Empty

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

REPO = Path(__file__).resolve().parent.parent


class Kernel:
    """ipykernel of sys.executable, whatever kernelspecs are installed; starts in the repository."""

    def __enter__(self) -> "Kernel":
        self.manager = KernelManager(kernel_name="")
        command = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        self.manager._kernel_spec = KernelSpec(argv=command, language="python", interrupt_mode="signal")
        self.manager.start_kernel(cwd=str(REPO))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self.heard: list[dict] = []  # every iopub message since the start
        return self

    def __exit__(self, *error: object) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        del self.client

    def listen(self, seconds: float = 0.0) -> list[dict]:
        """Take what has come in on iopub, waiting so long for the first."""
        try:
            while True:
                self.heard.append(self.client.get_iopub_msg(timeout=seconds))
                seconds = 0.0
        except Empty:
            return self.heard

    def send(self, code: str) -> str:
        """Ask for the execution of a cell; returns its message's id."""
        return self.client.execute(code)

    def reply(self, asked: str, seconds: float = 60.0) -> dict:
        """The content of the reply to one request."""
        end = time.monotonic() + seconds
        while True:
            message = self.client.get_shell_msg(timeout=max(end - time.monotonic(), 0.1))
            if message["parent_header"].get("msg_id") == asked:
                return message["content"]

    def run(self, code: str) -> dict:
        """Execute a cell to its end; AssertionError with its traceback if it fails."""
        content = self.reply(self.send(code))
        assert content["status"] == "ok", "\n".join(content.get("traceback", [content["status"]]))
        return content

    def value(self, expression: str) -> object:
        """A Python value of the kernel's, from an expression whose repr can be read."""
        asked = self.client.execute("", silent=True, user_expressions={"it": f"({expression})"})
        found = self.reply(asked)["user_expressions"]["it"]
        assert found["status"] == "ok", found
        return ast.literal_eval(found["data"]["text/plain"])

    def until(self, expression: str, seconds: float = 30.0) -> None:
        """Wait until an expression is true there."""
        end = time.monotonic() + seconds
        while not self.value(f"bool({expression})"):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.05)

    def widget(self, name: str, data: dict) -> None:
        """What the browser sends of a widget: a changed value, or a click."""
        comm = self.value(f"{name}.model_id")
        message = self.client.session.msg("comm_msg", {"comm_id": comm, "data": data})
        self.client.shell_channel.send(message)

    def change(self, name: str, value: object) -> None:
        """A reader has set a widget's value."""
        self.widget(name, {"method": "update", "state": {"value": value}, "buffer_paths": []})

    def click(self, name: str) -> None:
        """A reader has clicked a button."""
        self.widget(name, {"method": "custom", "content": {"event": "click"}})

    def interrupt(self) -> None:
        """Jupyter's stop button."""
        self.manager.interrupt_kernel()
