"""On Linux, install torch's CPU build from PyTorch's own index, where that answers in time.

pip's default torch for Linux is a CUDA build of several GB that nothing here needs. Where the
index does not answer within `SECONDS`, nothing is done and pip's default comes with the rest.
PNN_TORCH_INDEX names another index; empty, pip's default is wanted.
"""

import os
import re
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

INDEX = "https://download.pytorch.org/whl/cpu"
SECONDS = 3


def answers(index, seconds):
    """Tell whether an index lists torch within this time, slow name servers included."""
    found = []

    def ask():
        try:
            with urllib.request.urlopen(f"{index}/torch/", timeout=seconds) as reply:
                found.append(reply.status == 200)
        except (OSError, ValueError):  # refused, timed out, no such host, no address at all
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(found and found[0])


def main():
    index = os.environ.get("PNN_TORCH_INDEX", INDEX).rstrip("/")
    if not sys.platform.startswith("linux") or not index:
        return 0
    if not answers(index, SECONDS):
        print(f"{index} does not answer within {SECONDS} s: pip's default torch is taken")
        return 0
    requirements = Path(__file__).parents[1] / "requirements.txt"
    pinned = re.search(r"^torch==\S+$", requirements.read_text(), re.M).group()
    print(f"{pinned} for the CPU, from {index}", flush=True)
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--index-url", index, pinned]
    if subprocess.run(command).returncode:
        print("that failed: pip's default torch is taken")
    return 0


if __name__ == "__main__":
    sys.exit(main())
