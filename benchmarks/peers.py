"""Other tools over the same pictures in a folder, each run by the interpreter of an environment of its own."""

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Peer:
    """A tool: how a table calls it, and a program that is given a folder of pictures and one to work in."""

    title: str
    program: str


FASTDUP = Peer(
    "fastdup, features of whole pictures",
    "import sys, fastdup;"
    "sys.exit(fastdup.run(input_dir=sys.argv[1], work_dir=sys.argv[2], run_mode=1, num_threads=int(sys.argv[3])))",
)
IMAGEDEDUP = Peer(
    "imagededup, PHash of whole pictures",
    "import sys\n"
    "from imagededup.methods import PHash\n"
    "if __name__ == '__main__':\n"
    "    PHash(verbose=False).encode_images(sys.argv[1], num_enc_workers=int(sys.argv[3]))",
)
"""Its networks want weights from a server that publishes them; its hashes do not."""


def seconds(peer: Peer, python: Path, files: list[bytes], threads: int) -> float:
    """Seconds that a peer takes for the pictures, with the start of its interpreter.

    Raises:
        subprocess.CalledProcessError: it failed.
        subprocess.TimeoutExpired: it took over an hour.
    """
    with tempfile.TemporaryDirectory(prefix="sg-peer-") as name:
        folder = Path(name) / "pictures"
        folder.mkdir()
        for number, content in enumerate(files):
            (folder / f"{number}.jpg").write_bytes(content)
        program = Path(name) / "program.py"
        program.write_text(peer.program)
        arguments = [str(python.absolute()), str(program), str(folder), str(Path(name) / "work"), str(threads)]
        begun = time.perf_counter()
        environment = os.environ | {"SENTRY_OPT_OUT": "1", "HOME": name}
        subprocess.run(arguments, env=environment, cwd=name, check=True, capture_output=True, timeout=3600)
        return time.perf_counter() - begun
