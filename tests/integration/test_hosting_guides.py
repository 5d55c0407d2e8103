"""The guides to hosting are run: every program, every command, in the order of the page."""

import asyncio
import json
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.certificates import Authority

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
BIN = Path(sys.executable).parent


class Guide:
    """A page in a folder of its own: its programs as files, certificates beside them."""

    def __init__(self, page, file, folder):
        self.text = (GUIDES / page).read_text()
        self.folder = folder
        self.programs = re.findall(r"^```python\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)
        self.scripts = re.findall(r"^```sh\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)
        self.file = file
        (folder / file).write_text(re.sub(r"//0\.0\.0\.0:\d+", "//127.0.0.1:0", self.programs[0]))
        Authority(folder, "authority").issue("server")

    def commands(self, word):
        """Shown commands that begin with a word."""
        lines = "\n".join(self.scripts)
        return [shlex.split(found) for found in re.findall(rf"^{word} (?:[^'\n]|'[^']*')*", lines, re.MULTILINE)]

    async def serving(self, *command):
        """A process that serves in the folder, and its address."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.folder,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": f"{BIN}:/usr/bin:/bin", "ARM_TOKEN": "sesame", "JUDGE_TOKEN": "sesame", "KEY": "shared"},
        )
        line = await asyncio.wait_for(process.stderr.readline(), 60)
        return process, json.loads(line)["address"]

    async def run(self, *command):
        """What a command prints."""
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self.folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        said, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, errors.decode()
        return said.decode()


async def stopped(process):
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.communicate(), 30)
    return process.returncode


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="the page shows curl, which is not here")
PAGES = [("host-an-environment.md", "arm.py"), ("host-a-reward.md", "judge.py")]


@pytest.mark.parametrize(("page", "file"), PAGES)
async def test_the_program_of_the_page_serves_until_sigterm(page, file, tmp_path):
    guide = Guide(page, file, tmp_path)
    process, address = await guide.serving(sys.executable, file)
    assert address.startswith({"arm.py": "grpc://", "judge.py": "https://"}[file])
    assert await stopped(process) == 0


@pytest.mark.parametrize(("page", "file"), PAGES)
async def test_every_command_of_the_page_serves_until_sigterm(page, file, tmp_path):
    guide = Guide(page, file, tmp_path)
    commands = guide.commands("rlforge")
    assert len(commands) >= 2
    for command in commands:
        command[command.index("--at") + 1] = re.sub(r"//.*", "//127.0.0.1:0", command[command.index("--at") + 1])
        process, _ = await guide.serving(f"{BIN}/{command[0]}", *command[1:])
        assert await stopped(process) == 0


async def test_the_client_program_plays_with_the_served_arm(tmp_path):
    guide = Guide(*PAGES[0], tmp_path)
    process, address = await guide.serving(sys.executable, "arm.py")
    said = await guide.run(sys.executable, "-c", guide.programs[1].replace("grpc://127.0.0.1:50051", address))
    assert said == "The box is 5 cm away. Move how far? 1.0\n"
    assert await stopped(process) == 0


@needs_curl
async def test_the_requests_by_hand_play_with_the_arm(tmp_path):
    guide = Guide(*PAGES[0], tmp_path)
    process, address = await guide.serving(
        f"{BIN}/rlforge", "serve", "environment", "arm.py:Arm", "--at", "http://127.0.0.1:0"
    )
    opening, stepping, freeing = (
        [word.replace("http://127.0.0.1:8080", address) for word in command] for command in guide.commands("curl")
    )
    opened = await guide.run(*opening, "-s")
    world = re.search(r"(?i)^location: /v1/worlds/(\w+)", opened, re.MULTILINE).group(1)
    shown = json.loads(await guide.run(*(word.replace("WORLD", world) for word in stepping), "-s"))
    assert (shown["reward"], shown["terminated"]) == (1.0, True)
    await guide.run(*(word.replace("WORLD", world) for word in freeing), "-s", "--fail")
    assert await stopped(process) == 0


@needs_curl
async def test_the_request_by_hand_is_judged(tmp_path):
    guide = Guide(*PAGES[1], tmp_path)
    process, address = await guide.serving(
        f"{BIN}/rlforge", "serve", "reward", "judge.py:reward", "--at", "http://127.0.0.1:0"
    )
    [asking] = guide.commands("curl")
    said = await guide.run(*(word.replace("http://127.0.0.1:8443", address) for word in asking), "-s")
    assert json.loads(said)["scores"][0]["scored"]["value"] == 1.0
    assert await stopped(process) == 0


async def test_the_check_of_a_signature_holds(tmp_path):
    guide = Guide(*PAGES[1], tmp_path)
    await guide.run(sys.executable, "-c", guide.programs[1])
