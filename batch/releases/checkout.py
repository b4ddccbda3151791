"""The git checkout of the running code, whose commit is part of the provenance of releases and benchmarks."""

import shutil
import subprocess
from pathlib import Path


def git(*arguments: str) -> str | None:
    """Run git in the checkout and return its output; None outside a checkout, or without git.

    As an installed package, this file may lie inside the repository of another project, whose commit says nothing about
    Marquee. So git must track this very file.
    """
    executable = shutil.which("git")
    if executable is None:
        return None
    command, here = [executable, "-C", str(Path(__file__).parent)], Path(__file__).name
    tracked = subprocess.run([*command, "ls-files", "--error-unmatch", here], capture_output=True, check=False)
    if tracked.returncode:
        return None
    output = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    return output.stdout.strip() or None
