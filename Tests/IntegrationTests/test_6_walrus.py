"""Walrus on its own: stock S3 clients with all their checksums and signatures, kills under load, full disks, quotas,
damaged bytes, TLS, linearizability. See the scripts."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("script", ["walrus_clients.py", "walrus_faults.py", "walrus_linear.py", "walrus_guards.py"])
def test_walrus(script):
    pytest.importorskip("cryptography")
    done = subprocess.run([sys.executable, script], cwd=HERE, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
