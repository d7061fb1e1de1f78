"""`python -m tests.abuse.attacker NAME`: one attack in a process of its own.

It reads the target as a line of JSON, says `ready`, waits for another line, and prints the end as JSON.
"""

import asyncio
import json
import resource
import sys
from dataclasses import asdict

from tests.abuse.attack import Target
from tests.abuse.attacks import ATTACKS

#: Seconds that an attack may take longer than it should.
GRACE = 20.0


async def attack(name: str, target: Target) -> None:
    """Attack, and print the end."""
    end = await asyncio.wait_for(ATTACKS[name].run(target), target.seconds + GRACE)
    print(json.dumps(asdict(end)), flush=True)


def main() -> None:
    """Wait for the word, and attack."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    target = Target(**json.loads(sys.stdin.readline()))
    if target.host != "127.0.0.1":
        sys.exit("An attack is aimed at this machine only.")
    print("ready", flush=True)
    sys.stdin.readline()
    asyncio.run(attack(sys.argv[1], target))


if __name__ == "__main__":
    main()
