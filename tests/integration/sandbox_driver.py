"""Runs one sandbox for a test that wants it started by another user: JSON on standard input, JSON out."""

import asyncio
import json
import sys

from rlforge.sandbox.detection import isolation
from rlforge.sandbox.programs import Isolation, Limits, Program
from rlforge.sandbox.running import execute, python


async def main():
    asked = json.load(sys.stdin)
    level = Isolation(asked["level"]) if asked["level"] else await isolation()
    program = Program(command=python("main.py", *asked["arguments"]), files={"main.py": asked["code"]})
    done = await execute(program, Limits(**asked["limits"]), level)
    told = {name: getattr(done, name) for name in ("ended", "exit_code", "seconds", "isolation", "words")}
    json.dump(told | {"stdout": done.stdout.decode(), "stderr": done.stderr.decode()}, sys.stdout)


asyncio.run(main())
