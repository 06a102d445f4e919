"""A Walrus of its own for tests: a private PostgreSQL and the built karri-walrus, with accounts written into the identity schema.

Use as a context manager; or run it to keep one up: `python3 walrus_server.py` prints the endpoint and the keys and waits.
"""

import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
REGION = "karri-1"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Postgres:
    """A throw-away cluster that is durable within the life of the machine's kernel."""

    def __init__(self, folder):
        self.folder = folder
        versions = sorted(os.listdir("/usr/lib/postgresql"), key=int)
        self.bin = f"/usr/lib/postgresql/{versions[-1]}/bin"
        os.makedirs(folder, exist_ok=True)
        self.prefix = []
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
            self.prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
        subprocess.run(
            self.prefix + [f"{self.bin}/initdb", "-D", f"{folder}/data", "-U", "karri", "-A", "trust", "-E", "UTF8",
                           "--locale=C.UTF-8"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
        self.start()
        self.sql("CREATE DATABASE karri", database="postgres")

    def start(self):
        self.process = subprocess.Popen(
            self.prefix + [f"{self.bin}/postgres", "-D", f"{self.folder}/data", "-c", "listen_addresses=",
                           "-c", f"unix_socket_directories={self.folder}"],
            stdout=subprocess.DEVNULL, stderr=open(f"{self.folder}.log", "a"), cwd=self.folder)
        for _ in range(200):
            if subprocess.run(["pg_isready", "-q", "-h", self.folder, "-U", "karri", "-d", "postgres"]).returncode == 0:
                return
            time.sleep(0.05)
        raise RuntimeError("PostgreSQL did not start")

    @property
    def url(self):
        return f"host={self.folder} user=karri dbname=karri"

    def sql(self, text, database="karri"):
        done = subprocess.run(["psql", "-h", self.folder, "-U", "karri", "-d", database, "-qAt", "-v", "ON_ERROR_STOP=1"],
                              input=text, text=True, capture_output=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)


class Account:
    def __init__(self, account_id, name, canonical, access, secret):
        self.id, self.name, self.canonical, self.access, self.secret = account_id, name, canonical, access, secret


class Walrus:
    def __init__(self, min_free_mib=64, extra="", binary=None, tls=False):
        self.folder = tempfile.mkdtemp(prefix="karri-walrus-")
        os.chmod(self.folder, 0o755)
        self.port = free_port()
        self.binary = binary or os.environ.get("KARRI_WALRUS", f"{ROOT}/.build/debug/karri-walrus")
        self.postgres = Postgres(f"{self.folder}/postgres")
        self.key = secrets.token_bytes(32)
        self.process = None
        with open(f"{self.folder}/secret.key", "w") as f:
            f.write(self.key.hex() + "\n")
        self.config = f"{self.folder}/walrus.conf"
        self.certificate = None
        if tls:
            self.certificate = f"{self.folder}/cert.pem"
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                            "/CN=walrus", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{self.folder}/key.pem", "-out", self.certificate],
                           check=True, capture_output=True)
            extra += f"\ntls_certificate = {self.certificate}\ntls_key = {self.folder}/key.pem"
        with open(self.config, "w") as f:
            f.write(f"listen_address = 127.0.0.1\nport = {self.port}\ndatabase_url = {self.postgres.url}\n"
                    f"data_dir = {self.folder}/data\nsecret_key_file = {self.folder}/secret.key\n"
                    f"domain = s3.test\nregion = {REGION}\nmin_free_mib = {min_free_mib}\n{extra}\n")
        self.start()
        self.alice = self.account("alice")
        self.bob = self.account("bob")
        self.system = self.account("system", "000000000000")

    @property
    def endpoint(self):
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    def start(self):
        self.process = subprocess.Popen([self.binary, "run", "--config", self.config],
                                        stdout=open(f"{self.folder}/walrus.log", "a"), stderr=subprocess.STDOUT)
        for _ in range(300):
            if self.process.poll() is not None:
                raise RuntimeError("karri-walrus ended: " + open(f"{self.folder}/walrus.log").read()[-2000:])
            try:
                context = ssl.create_default_context(cafile=self.certificate) if self.certificate else None
                urllib.request.urlopen(self.endpoint + "/health", timeout=1, context=context).read()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("karri-walrus did not start: " + open(f"{self.folder}/walrus.log").read()[-2000:])

    def kill(self):
        self.process.kill()
        self.process.wait()

    def account(self, name, account_id=None):
        a = Account(account_id or "".join(secrets.choice("0123456789") for _ in range(12)), name, secrets.token_hex(32),
                    "AKIA" + "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16)), secrets.token_urlsafe(30))
        nonce = secrets.token_bytes(12)
        sealed = nonce + AESGCM(self.key).encrypt(nonce, a.secret.encode(), f"access-key:{a.access}".encode())
        self.postgres.sql(
            f"INSERT INTO identity.accounts VALUES ('{a.id}', '{a.name}', '{a.canonical}', 0);"
            f"INSERT INTO identity.access_keys (id, account, secret, created) VALUES ('{a.access}', '{a.id}', '\\x{sealed.hex()}', 0);"
            "SELECT pg_notify('identity', '');")
        return a

    def client(self, account=None, **config):
        import boto3
        from botocore.config import Config
        account = account or self.alice
        options = dict(s3={"addressing_style": "path"}, retries={"max_attempts": 1})
        options.update(config)
        return boto3.client("s3", endpoint_url=self.endpoint, aws_access_key_id=account.access, aws_secret_access_key=account.secret,
                            region_name=REGION, config=Config(**options))

    def environment(self, account=None):
        account = account or self.alice
        return dict(os.environ, AWS_ACCESS_KEY_ID=account.access, AWS_SECRET_ACCESS_KEY=account.secret, AWS_DEFAULT_REGION=REGION,
                    AWS_ENDPOINT_URL_S3=self.endpoint, AWS_PAGER="")

    def fsck(self, *more):
        done = subprocess.run([self.binary, "fsck", "--config", self.config, *more], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        self.postgres.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


if __name__ == "__main__":
    with Walrus() as w:
        print(f"export AWS_ACCESS_KEY_ID={w.alice.access} AWS_SECRET_ACCESS_KEY={w.alice.secret} AWS_DEFAULT_REGION={REGION} "
              f"AWS_ENDPOINT_URL_S3={w.endpoint}")
        print(f"# folder {w.folder}, pid {w.process.pid}, postgres {w.postgres.process.pid}", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            sys.exit(0)
