"""Walrus by itself, beside nginx and the bare disk in the same run: `python3 Tests/Benchmarks/walrus.py [small large list memory] [--keys N]`.

Brings up a release-built karri-walrus (KARRI_WALRUS, else .build/release/karri-walrus) with a PostgreSQL of its own on loopback. CPU is user and
system time of Walrus and of all of PostgreSQL's processes together, for each request. Load comes from load.c beside this file, compiled
here. nginx serves plain files of the same size when it is installed (KARRI_NGINX names another binary); it stands for what HTTP alone costs.
docs/performance.md says what was seen and wanted.
"""

import argparse
import datetime
import hashlib
import hmac
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "IntegrationTests"))
from walrus_server import REGION, ROOT, Walrus, free_port  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
FOLDER = tempfile.mkdtemp(prefix="karri-walrus-bench-")
LOAD = f"{FOLDER}/load"
BODY = 1024


def presign(w, method, path, query=()):
    """A URL's path and query, signed as AWS SDKs do for a week."""
    host = f"127.0.0.1:{w.port}"
    moment = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{moment[:8]}/{REGION}/s3/aws4_request"
    pairs = dict(query, **{"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": f"{w.alice.access}/{scope}", "X-Amz-Date": moment,
                           "X-Amz-Expires": "604800", "X-Amz-SignedHeaders": "host"})
    text = "&".join(f"{quote(k, safe='-_.~')}={quote(str(v), safe='-_.~')}" for k, v in sorted(pairs.items()))
    canonical = f"{method}\n{quote(path, safe='/-_.~')}\n{text}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
    key = ("AWS4" + w.alice.secret).encode()
    for part in (moment[:8], REGION, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    return f"{quote(path, safe='/-_.~')}?{text}&X-Amz-Signature={hmac.new(key, sign.encode(), hashlib.sha256).hexdigest()}"


def family(pid):
    """A process and all below it."""
    children = {}
    for folder in os.listdir("/proc"):
        if folder.isdigit():
            try:
                parent = int(Path(f"/proc/{folder}/stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(folder))
            except OSError:
                pass
    found, todo = set(), [pid]
    while todo:
        p = todo.pop()
        found.add(p)
        todo += children.get(p, [])
    return found


def cpu(pids):
    total = 0
    for pid in pids:
        for p in family(pid):
            try:
                fields = Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()
                total += int(fields[11]) + int(fields[12])
            except OSError:
                pass
    return total / TICK


def peak_mib(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


class Measured:
    def __init__(self, pids):
        self.pids = pids

    def __enter__(self):
        self.began, self.cpu = time.monotonic(), cpu(self.pids)
        return self

    def __exit__(self, *_):
        self.cpu, self.seconds = cpu(self.pids) - self.cpu, time.monotonic() - self.began


def load(port, pids, lines, connections, seconds, body=0):
    with Measured(pids) as m:
        done = subprocess.run([LOAD, "127.0.0.1", str(port), str(connections), str(seconds), str(body)], input="\n".join(lines) + "\n",
                              capture_output=True, text=True, check=True)
    n, took, size, refused, broken, p50, p99 = (float(x) for x in done.stdout.split())
    if refused or broken:
        raise SystemExit(f"{refused:.0f} requests refused, {broken:.0f} broken")
    return dict(rate=n / took, cpu=m.cpu / max(n, 1) * 1000, p50=p50 / 1000, p99=p99 / 1000, n=n, bytes=size)


def row(what, r, wanted=""):
    print(f"| {what} | {r['rate']:,.0f}/s | {r['p50']:.2f} / {r['p99']:.2f} ms | **{r['cpu']:.3f} ms** | {wanted} |", flush=True)


def nginx(files):
    """A plain nginx over `files`; (port, process) or None when it is not installed."""
    binary = os.environ.get("KARRI_NGINX") or shutil.which("nginx")
    if not binary:
        return None
    port = free_port()
    conf = f"{FOLDER}/nginx.conf"
    Path(conf).write_text(f"""daemon off; worker_processes 2; pid {FOLDER}/nginx.pid; error_log /dev/null; user root;
events {{ worker_connections 1024; }}
http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; client_body_temp_path {FOLDER}/b; proxy_temp_path {FOLDER}/p;
fastcgi_temp_path {FOLDER}/f; uwsgi_temp_path {FOLDER}/u; scgi_temp_path {FOLDER}/s; server {{ listen 127.0.0.1:{port}; root {files}; }} }}
""")
    process = subprocess.Popen([binary, "-e", "/dev/null", "-c", conf, "-p", FOLDER], stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    return port, process


def small(w, pids, seconds):
    files = f"{FOLDER}/files"
    os.makedirs(files)
    Path(f"{files}/one").write_bytes(b"w" * BODY)
    disk = subprocess.run([LOAD, "fsync", f"{w.folder}/sync", str(seconds)], capture_output=True, text=True, check=True).stdout.split()
    row("the disk alone: append 1 KiB, fdatasync, one at a time", dict(rate=float(disk[0]) / float(disk[1]), p50=float(disk[5]) / 1000,
                                                                      p99=float(disk[6]) / 1000, cpu=0))
    web = nginx(files)
    keys = [f"/bench/s/{n:06d}" for n in range(2000)]
    puts = iter(range(1 << 30))

    def new(count):
        return [f"PUT {presign(w, 'PUT', f'/bench/p/{next(puts):08d}')}" for _ in range(count)]

    load(w.port, pids, [f"PUT {presign(w, 'PUT', k)}" for k in keys], 16, -len(keys), BODY)
    gets = [f"GET {presign(w, 'GET', k)}" for k in keys]
    heads = [f"HEAD {presign(w, 'HEAD', k)}" for k in keys]
    for c in (1, 16, 64):
        if web:
            row(f"nginx GET 1 KiB, c={c}", load(web[0], [web[1].pid], ["GET /one"], c, seconds))
        row(f"GET 1 KiB, c={c}", load(w.port, pids, gets, c, seconds), "at most 0.10 ms, at least 10,000/s" if c == 16 else "")
        row(f"HEAD 1 KiB, c={c}", load(w.port, pids, heads, c, seconds), "at most 0.08 ms" if c == 16 else "")
        wanted = {1: "p50 at most 1 ms", 64: "at most 0.4 ms, at least 5,000/s"}.get(c, "")
        row(f"PUT 1 KiB, durable, c={c}", load(w.port, pids, new(8000), c, -(2000 if c == 1 else 8000), BODY), wanted)
    if web:
        web[1].terminate()


def large(w, pids):
    path = f"{FOLDER}/big"
    block = os.urandom(1 << 20)
    with open(path, "wb") as f:
        for _ in range(256):
            f.write(block)
    size = 256 << 20
    curl = ["curl", "-sf", "-o", "/dev/null", "-H", "Expect:"]

    def line(what, m, wanted):
        print(f"| {what} | {size / m.seconds / 1e6:,.0f} MB/s | | **{m.cpu / (size / 1e9):.2f} CPU s/GB** | {wanted} |", flush=True)

    base = f"http://127.0.0.1:{w.port}"
    best = None
    for n in range(3):
        with Measured(pids) as m:
            subprocess.run(curl + ["-T", path, base + presign(w, "PUT", f"/bench/big{n}")], check=True)
        best = m if best is None or m.cpu < best.cpu else best
    line("PUT 256 MiB, unsigned payload", best, "at most 2.0 CPU s/GB")
    signed = None
    for n in range(2):
        data = Path(path).read_bytes()
        client = w.client(request_checksum_calculation="when_required", s3={"addressing_style": "path", "payload_signing_enabled": True})
        with Measured(pids) as m:
            client.put_object(Bucket="bench", Key="signed", Body=data)
        signed = m if signed is None or m.cpu < signed.cpu else signed
    line("PUT 256 MiB, signed payload (SHA-256)", signed, "at most 2.5 CPU s/GB")
    best = None
    for n in range(3):
        with Measured(pids) as m:
            subprocess.run(curl + [base + presign(w, "GET", "/bench/big0")], check=True)
        best = m if best is None or m.cpu < best.cpu else best
    line("GET 256 MiB", best, "at most 0.35 CPU s/GB, at least 1,000 MB/s")
    web = nginx(FOLDER)
    if web:
        with Measured([web[1].pid]) as m:
            subprocess.run(curl + [f"http://127.0.0.1:{web[0]}/big"], check=True)
        line("nginx GET 256 MiB", m, "")
        web[1].terminate()


def fill(w, bucket, count):
    """Rows for a list, by the thousand: what is measured is the page, not the PUT."""
    owner = w.alice.id
    w.postgres.sql(
        f"""INSERT INTO walrus.objects (bucket, key, size, etag, modified, account, grants, headers, metadata, inline)
        SELECT b.id, convert_to('d' || lpad((i % 100)::text, 2, '0') || '/k' || lpad(i::text, 9, '0'), 'UTF8'), 1, md5('w'),
            1790000000000 + i, '{owner}', o.grants, '{{}}', '{{}}', 'w'::bytea
        FROM walrus.buckets b, (SELECT grants FROM walrus.objects LIMIT 1) o, generate_series(1, {count}) i WHERE b.name = '{bucket}';
        ANALYZE walrus.objects;""")


def lists(w, pids, seconds, keys):
    w.client().put_object(Bucket="bench", Key="one", Body=b"w")
    for count in (100_000, keys):
        bucket = f"list{count}"
        w.client().create_bucket(Bucket=bucket)
        fill(w, bucket, count)
        lines = []
        for n in range(200):
            i = n * 7919 % count
            after = f"d{i % 100:02d}/k{i:09d}"
            lines.append("GET " + presign(w, "GET", f"/{bucket}", {"list-type": "2", "max-keys": "1000", "start-after": after}))
        row(f"a page of 1,000 of {count:,} keys, c=1", load(w.port, pids, lines, 1, seconds), "at most 5 ms, the same for both")


def memory(w, pids):
    """64 clients upload 64 MiB each, then download them, at once."""
    path = f"{FOLDER}/stream"
    with open(path, "wb") as f:
        f.truncate(64 << 20)

    def all_at_once(commands):
        processes = [subprocess.Popen(c) for c in commands]
        if any(p.wait() for p in processes):
            raise SystemExit("a transfer failed")

    base = f"http://127.0.0.1:{w.port}"
    all_at_once([["curl", "-sf", "-o", "/dev/null", "-H", "Expect:", "-T", path, base + presign(w, "PUT", f"/bench/st{n}")] for n in range(64)])
    up = peak_mib(w.process.pid)
    all_at_once([["curl", "-sf", "-o", "/dev/null", base + presign(w, "GET", f"/bench/st{n}")] for n in range(64)])
    print(f"| 64 clients streaming, peak resident memory of Walrus | {up:.0f} MiB up, {peak_mib(w.process.pid):.0f} MiB with the downloads | | | "
          "at most 100 MiB |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--keys", type=int, default=1_000_000)
    a = parser.parse_args()
    parts = a.parts or ["small", "large", "list", "memory"]
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", LOAD, str(Path(__file__).with_name("load.c"))], check=True)
    binary = os.environ.get("KARRI_WALRUS", f"{ROOT}/.build/release/karri-walrus")
    try:
        with Walrus(binary=binary) as w:
            pids = [w.process.pid, w.postgres.process.pid]
            w.client().create_bucket(Bucket="bench")
            print(f"{time.strftime('%F %T')}, load before {open('/proc/loadavg').read().split()[0]}, {os.cpu_count()} cores\n")
            print("| what | rate | p50 / p99 | CPU of Walrus and PostgreSQL | wanted |\n|---|---|---|---|---|")
            if "memory" in parts:
                memory(w, pids)
            if "small" in parts:
                small(w, pids, a.seconds)
            if "large" in parts:
                large(w, pids)
            if "list" in parts:
                lists(w, pids, a.seconds, a.keys)
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)


if __name__ == "__main__":
    main()
