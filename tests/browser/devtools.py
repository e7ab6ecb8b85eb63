"""Controls an offline Chromium through the DevTools protocol over a pair of pipes.

The protocol is documented at chromedevtools.github.io/devtools-protocol. With
`--remote-debugging-pipe` the browser reads file descriptor 3 and writes 4; a message is JSON
followed by a zero byte.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-dev-shm-usage --hide-scrollbars --remote-debugging-pipe"
)
DRAWN = "document.body.getAttribute('aria-busy') === 'false'"


class Page:
    """A page of the browser; records console messages (`complaints`) and network requests."""

    def __init__(self, browser: "subprocess.Popen[bytes]", write: int, read: int) -> None:
        self._browser, self._write, self._read = browser, write, read
        self._number, self._buffer = 0, b""
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; events that arrive meanwhile are recorded."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._number:
                assert "error" not in found, found
                return dict(found["result"])
            self._note(found)

    def look(self, *, width: int = 1280, dark: bool = False, media: str = "screen") -> None:
        """Emulate a screen of that width, in the light or dark colour scheme, or another medium."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def open(self, path: Path, anchor: str = "") -> None:
        """Load a file and wait until it has drawn its charts."""
        self.call("Page.navigate", url=path.as_uri() + anchor)
        self.wait(f"document.readyState === 'complete' && {DRAWN}")

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + seconds
        while not self.ask(condition):
            assert time.monotonic() < until, f"not so after {seconds} s: {condition}"
            time.sleep(0.05)

    def ask(self, expression: str) -> Any:
        """Evaluate an expression in the page and return its value; promises are awaited."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Write a screenshot of the page as a PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        path.write_bytes(base64.b64decode(found["data"]))

    def paper(self, path: Path) -> None:
        """Print the page to a PDF."""
        found = self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], 90)
            assert ready, "chromium does not answer"
            more = os.read(self._read, 1 << 20)
            assert more, f"chromium ended with status {self._browser.poll()}"
            self._buffer += more
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        method, found = event.get("method"), event.get("params", {})
        if method == "Runtime.consoleAPICalled":
            said = [str(each.get("value", each.get("description"))) for each in found["args"]]
            self.complaints.append(f"{found['type']}: {' '.join(said)}")
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(found["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.complaints.append(f"{found['entry']['level']}: {found['entry']['text']}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(found["request"]["url"])


@contextmanager
def page(profile: Path) -> Iterator[Page]:
    """Start an offline browser and open a page in it.

    Args:
        profile: an empty folder for the browser's profile.
    """
    assert BROWSER is not None
    to_browser, write = os.pipe()
    read, from_browser = os.pipe()
    # The shell moves the pipes to the file descriptors that the browser expects.
    command = [
        "bash",  # other shells redirect only single-digit file descriptors
        "-c",
        f'exec "$@" 3<&{to_browser} 4>&{from_browser}',
        "bash",
        BROWSER,
        *FLAGS.split(),
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={profile}",
    ]
    browser = subprocess.Popen(
        command,
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Page(browser, write, read)
    finally:
        os.close(write)
        os.close(read)
        try:
            browser.wait(60)
        except subprocess.TimeoutExpired:
            browser.kill()
            browser.wait()
