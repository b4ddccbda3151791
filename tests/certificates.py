"""Certificates of a test, made by the command `openssl`."""

import shutil
import subprocess
from pathlib import Path

import pytest

NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def openssl(*arguments: str | Path) -> None:
    """Run `openssl`. Skips the test, loudly, where there is none."""
    if shutil.which("openssl") is None:
        pytest.skip("NOT tested: certificates need the command openssl (Debian: apt-get install openssl)")
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Authority:
    """A certificate authority in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.certificate, self._key = folder / "ca.pem", folder / "ca.key"
        extensions = ["-addext", "keyUsage=critical,keyCertSign"]
        subject = ["-subj", f"/CN={folder.name}", "-days", "2"]
        openssl("req", "-x509", *NEW_KEY, "-keyout", self._key, "-out", self.certificate, *subject, *extensions)

    def sign(self, name: str, host: str) -> Path:
        """A PEM file with a new key and its certificate for a host, such as `IP:127.0.0.1` or `DNS:kafka.example`."""
        folder = self.certificate.parent
        pem, request, key, extensions = (folder / f"{name}.{suffix}" for suffix in ("pem", "csr", "key", "ext"))
        extensions.write_text(f"subjectAltName={host}\nauthorityKeyIdentifier=keyid\nbasicConstraints=CA:FALSE\n")
        openssl("req", *NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        signed_by: list[str | Path] = [
            "-CA",
            self.certificate,
            "-CAkey",
            self._key,
            "-CAcreateserial",
            "-extfile",
            extensions,
        ]
        openssl("x509", "-req", "-in", request, *signed_by, "-days", "2", "-out", pem)
        pem.write_bytes(key.read_bytes() + pem.read_bytes())
        return pem


def encrypted(pem: Path, password: str) -> Path:
    """A PEM file with the key of another one, encrypted."""
    key = pem.with_suffix(".encrypted")
    openssl("pkcs8", "-topk8", "-v2", "aes256", "-in", pem, "-passout", f"pass:{password}", "-out", key)
    return key
