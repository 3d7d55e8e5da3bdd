"""The virtual room in real time: two null sinks of PulseAudio, and the room between them.

    this process --> PortAudio --> ALSA --> [sink loudspeaker] --> room.py --> [sink microphone]
         ^------------ PortAudio <-- ALSA <-------------- monitor of it <-------------|

The server is one of its own, beside any that runs, and ends with the block:

    with Server(seed=0) as server:
        card = SoundCard()          # PortAudio's default devices are the room's
        server.change(moved=0.05)   # the room becomes another while the server runs
"""

import contextlib
import fcntl
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pnn_utils import files

ASOUND = """\
</usr/share/alsa/alsa.conf>
pcm.!default { type pulse }
ctl.!default { type pulse }
"""


def missing():
    """Say what the server needs and is not there, and how to get it; "" if nothing is missing."""
    reason = files.missing("pulseaudio", "parec")
    try:
        importlib.import_module("sounddevice")
    except (ImportError, OSError) as error:
        reason += f" no sounddevice ({error}): pip install .[sound]; apt-get install libportaudio2"
    return reason.strip()


class Server(contextlib.ExitStack):
    """A sound server with the room of one copy; while it runs, this process plays into it."""

    def __init__(self, seed=0, **changes):
        super().__init__()
        self.about = {"seed": seed, "changes": changes}

    def __enter__(self):
        super().__enter__()
        folder = Path(self.enter_context(tempfile.TemporaryDirectory()))
        (folder / "asound.conf").write_text(ASOUND)
        self.environment = {
            "PULSE_SERVER": f"unix:{folder}/socket", "PULSE_RUNTIME_PATH": str(folder),
            "PULSE_SINK": "loudspeaker", "PULSE_SOURCE": "microphone.monitor",
            "ALSA_CONFIG_PATH": str(folder / "asound.conf")}
        sink = "module-null-sink rate=48000 channels=1 format=float32le sink_name="
        self._start(["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1",
                     "--disable-shm=yes", "-L", f"{sink}loudspeaker", "-L", f"{sink}microphone",
                     "-L", f"module-native-protocol-unix auth-anonymous=1 socket={folder}/socket"])
        deadline = time.monotonic() + 20
        while not (folder / "socket").exists():
            if time.monotonic() > deadline:
                raise TimeoutError("PulseAudio did not start")
            time.sleep(0.05)
        self.room = self.enter_context(contextlib.ExitStack())
        self.change()
        self._here()
        return self

    def change(self, **changes):
        """Put a room with other parameters in the old one's place."""
        self.about["changes"] |= changes
        self.room.close()
        form = ["--raw", "--format=float32le", "--rate=48000", "--channels=1"]
        program = [sys.executable, Path(__file__).with_name("room.py"), json.dumps(self.about)]
        pipe, start = subprocess.PIPE, self.room.enter_context
        room = start(self._process(program, stdin=pipe, stdout=pipe, stderr=pipe))
        if room.stderr.readline() != b"ready\n":
            raise OSError("the virtual room did not start")
        # What waits between the programs is delay: little may.
        fcntl.fcntl(room.stdout, fcntl.F_SETPIPE_SZ, 4096)
        say = start(self._process(["pacat", *form, "-d", "microphone", "--latency-msec=100"],
                                  stdin=room.stdout))
        hear = start(self._process(["parec", *form, "-d", "loudspeaker.monitor",
                                    "--latency-msec=20"], stdout=room.stdin))
        self.processes = hear, room, say
        time.sleep(1)  # until their buffers are as full as they will be

    def _here(self):
        """Let this process's PortAudio find the room as its default device."""
        for name, value in self.environment.items():
            self.callback(_restore, name, os.environ.get(name))
            os.environ[name] = value
        sounddevice = importlib.import_module("sounddevice")
        sounddevice._terminate()
        sounddevice._initialize()

    def _start(self, command):
        return self.enter_context(self._process(command))

    @contextlib.contextmanager
    def _process(self, command, **pipes):
        root = {"PYTHONPATH": str(files.ROOT), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, env=os.environ | self.environment | root,
                                   start_new_session=True,
                                   **{"stderr": subprocess.DEVNULL} | pipes)
        with contextlib.suppress(OSError):  # ahead of other work, where the system lets us (Linux)
            Path(f"/proc/{process.pid}/autogroup").write_text("-15")
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe:
                    pipe.close()


def _restore(name, value):
    os.environ.pop(name)
    if value is not None:
        os.environ[name] = value
