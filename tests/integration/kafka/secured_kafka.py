"""An Apache Kafka with a listener for every way to connect: TLS or none, login or none, certificates right and wrong.

| listener | protocol | what it wants |
|---|---|---|
| `plain` | PLAINTEXT | nothing; whoever uses it may do everything |
| `tls` | SSL | – |
| `mutual` | SSL | a certificate of our authority |
| `login` | SASL_PLAINTEXT | user and password |
| `secure` | SASL_SSL | user and password |
| `elsewhere` | SASL_SSL | the same, and shows the certificate of another host |
| `moved` | PLAINTEXT | nothing, but advertises an address where nothing listens, `NOWHERE` |

`marquee` has the rights that docs/operations.md names, `stranger` has none.
"""

from pathlib import Path

from loadtest.demo.processes import free_port
from tests.certificates import Authority
from tests.integration.kafka.apache_kafka import ApacheKafka

PASSWORD = "pl4nted-P4ssword"
"""Of both users, by SCRAM-SHA-512 and PLAIN."""
_PROTOCOLS = {
    "TLS": "SSL", "MUTUAL": "SSL", "LOGIN": "SASL_PLAINTEXT", "SECURE": "SASL_SSL", "ELSEWHERE": "SASL_SSL",
    "MOVED": "PLAINTEXT",
}  # fmt: skip
SCRAM = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_user": "marquee", "sasl_password": PASSWORD}
PLAIN = {**SCRAM, "sasl_mechanism": "PLAIN"}
NOWHERE = "127.0.0.1:1"
_USERS = ("marquee", "stranger")
_LOGIN_MODULES = "org.apache.kafka.common.security"
_PROPERTIES = """
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:CN=client
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
ssl.keystore.type=PEM
ssl.truststore.type=PEM
listener.name.elsewhere.ssl.keystore.type=PEM
listener.name.mutual.ssl.client.auth=required
"""


class SecuredKafka:
    """The broker, its addresses by listener, and the certificates of those who connect."""

    def __init__(self, jars: Path, folder: Path) -> None:
        self.authority = Authority(folder / "authority")
        self.client = self.authority.sign("client", "DNS:client")
        listeners = {name: f"127.0.0.1:{free_port()}" for name in _PROTOCOLS}
        scram = [f"SCRAM-SHA-512=[name={user},password={PASSWORD}]" for user in _USERS]
        formatting = [argument for user in scram for argument in ("--add-scram", user)]
        self._kafka = ApacheKafka(jars, folder, self._properties(listeners), formatting)
        self.address = {"plain": self._kafka.address} | {name.lower(): where for name, where in listeners.items()}

    def start(self) -> None:
        """Start the broker, and give `marquee` its rights."""
        self._kafka.start()
        self._allow("--operation", "Read", "--operation", "Describe", "--topic", "*")
        self._allow("--operation", "Read", "--group", "marquee-", "--resource-pattern-type", "prefixed")

    def stop(self) -> None:
        """Stop the broker."""
        self._kafka.stop()

    def environ(self, listener: str, **keys: object) -> dict[str, str]:
        """Settings of a connection to a listener, as variables of the environment."""
        keys["bootstrap"] = self.address[listener]
        return {f"MARQUEE_STREAM_{key.upper()}": str(value) for key, value in keys.items()}

    def allow_copies(self, topic: str) -> None:
        """Give `marquee` the further rights that copies to a topic need, as docs/operations.md names them."""
        self._allow("--operation", "Write", "--topic", topic)
        self._allow("--operation", "Write", "--transactional-id", "marquee-", "--resource-pattern-type", "prefixed")

    def _allow(self, *rights: str) -> None:
        server = ["--bootstrap-server", self.address["plain"], "--add", "--allow-principal", "User:marquee"]
        self._kafka.run_tool("kafka.admin.AclCommand", *server, *rights)

    def _properties(self, listeners: dict[str, str]) -> str:
        here = self.authority.sign("broker", "IP:127.0.0.1")
        elsewhere = self.authority.sign("elsewhere", "DNS:kafka.example")
        lines = [
            _PROPERTIES,
            f"ssl.truststore.location={self.authority.certificate}",
            f"ssl.keystore.location={here}",
            f"listener.name.elsewhere.ssl.keystore.location={elsewhere}",
        ]
        addresses = ",".join(f"{name}://{where}" for name, where in listeners.items())
        protocols = ",".join(f"{name}:{protocol}" for name, protocol in _PROTOCOLS.items())
        lines.append(f"listeners=PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller}},{addresses}")
        advertised = addresses.replace(f"MOVED://{listeners['MOVED']}", f"MOVED://{NOWHERE}")
        lines.append(f"advertised.listeners=PLAINTEXT://127.0.0.1:{{port}},{advertised}")
        lines.append(f"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,{protocols}")
        passwords = " ".join(f'user_{user}="{PASSWORD}"' for user in _USERS)
        for login in (f"listener.name.{name.lower()}" for name, protocol in _PROTOCOLS.items() if "SASL" in protocol):
            lines.append(f"{login}.scram-sha-512.sasl.jaas.config={_LOGIN_MODULES}.scram.ScramLoginModule required;")
            lines.append(
                f"{login}.plain.sasl.jaas.config={_LOGIN_MODULES}.plain.PlainLoginModule required {passwords};"
            )
        return "\n".join(lines)
