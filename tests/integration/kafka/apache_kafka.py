"""A real Apache Kafka for tests: one KRaft broker on loopback, which can be stopped and started again.

Its jars come from Maven, as `pom.xml` says, and are kept in the user's cache folder.
"""

import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from loadtest.demo.processes import free_port
from tests.polling import until

_POM = Path(__file__).with_name("pom.xml")
_CLUSTER = "MkU3OEVBNTcwNTJENDM2Qk"
"""An id, as KRaft wants it: 16 bytes in base64."""
_STOP_S = 60.0
_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}/data
log.retention.ms=-1
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
"""


class KafkaMissing(Exception):
    """Apache Kafka cannot be run here; the text says what to install."""


def kafka_jars() -> Path:
    """The folder of Kafka's jars, which Maven fills once. Raises `KafkaMissing`."""
    if shutil.which("java") is None:
        raise KafkaMissing("no java: install Java 17 (Debian: apt-get install openjdk-17-jre-headless)")
    version = hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]
    jars = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "marquee" / f"kafka-{version}"
    if not (jars / ".complete").exists():
        if shutil.which("mvn") is None:
            raise KafkaMissing("no mvn, which fetches Kafka's jars: install Maven (Debian: apt-get install maven)")
        command = ["mvn", "-B", "-q", "-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KafkaMissing(f"mvn cannot fetch Kafka's jars: {done.stdout.strip()[-300:]}")
        (jars / ".complete").touch()
    return jars


class ApacheKafka:
    """One broker. Its records and its address outlive `stop`.

    `properties` are further lines of `server.properties`, with the same places to fill in; the last line of a key
    counts. `formatting` are further arguments of `kafka-storage.sh format`.
    """

    def __init__(self, jars: Path, folder: Path, properties: str = "", formatting: Sequence[str] = ()) -> None:
        self._port = free_port()
        self.address = f"127.0.0.1:{self._port}"
        self._java = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*"]
        self._properties, self._log = folder / "server.properties", folder / "kafka.log"
        text = (_PROPERTIES + properties).format(port=self._port, controller=free_port(), folder=folder)
        self._properties.write_text(text, "utf-8")
        self._process: subprocess.Popen[bytes] | None = None
        self.run_tool("kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(self._properties), *formatting)

    def run_tool(self, name: str, *arguments: str) -> None:
        """Run one of Kafka's own tools, named by its class."""
        done = subprocess.run([*self._java, name, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start the broker and wait until it listens."""
        with self._log.open("ab") as log:
            command = [*self._java, "kafka.Kafka", str(self._properties)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(self._listens)

    def stop(self) -> None:
        """Stop the broker, as an operator does."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_STOP_S)
            self._process = None

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"Kafka has ended: {self._log.read_text('utf-8', 'replace')[-2000:]}"
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError:
            return False
        return True
