"""A program that has a cluster of its own and talks with it; integration tests do the same. Run: python main.py"""

import asyncio
import logging
import os
import urllib.request

from eggcluster import Cluster

HERE = os.path.dirname(os.path.abspath(__file__))
log = logging.getLogger("main")


def fetch(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        return str(answer.read().decode())


async def main() -> None:
    async with Cluster("app:app", base_dir=HERE, workers=2, port=0) as cluster:
        log.info("%s is served by %s", cluster.address, cluster.workers)

        for number, worker in enumerate(cluster.workers, start=7):
            answer = await cluster.messenger.request("square", number, to=f"app#{worker.slot}", timeout=5)
            log.info("%d squared is %s", number, answer)

        greeted = asyncio.create_task(cluster.messenger.wait_for("greeted", timeout=5))
        log.info(await asyncio.to_thread(fetch, f"{cluster.address}/hello/egg"))
        log.info("a worker told its parent the name that it greeted: %s", await greeted)
    log.info("closed, exit code %s", cluster.exit_code)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asyncio.run(main())
