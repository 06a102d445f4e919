"""Are concurrent requests on one key as if they had come one after the other? Clients write, delete, read and complete uploads on few keys, with
and without conditions, while Walrus is killed; what they asked and were told is a history, and a checker looks for an order that explains it.

The checker is Wing and Gong's search with Lowe's memory of (what is placed, state). A request without an answer may have happened at any later
time, or never. `python3 walrus_linear.py`; ends with code 1 when no order explains a key, and prints that key's history.
"""

import hashlib
import math
import os
import random
import sys
import threading
import time

from botocore.exceptions import BotoCoreError, ClientError

from walrus_server import Walrus

SECONDS = float(os.environ.get("KARRI_SECONDS", "8"))


class Op:
    """One request: when it was sent and answered, what it asked, what it was told (`None`: nothing, or that nobody knows)."""

    def __init__(self, kind, value=None, match=None, upload=None, start=0.0):
        self.kind, self.value, self.match, self.upload, self.start, self.end, self.answer = kind, value, match, upload, start, math.inf, None

    def done(self, end, answer):
        self.end, self.answer = end, answer
        return self

    def __repr__(self):
        more = " ".join(f"{n}={str(v)[:8]}" for n, v in (("value", self.value), ("match", self.match), ("upload", self.upload)) if v)
        return f"{self.start:9.4f}..{self.end:9.4f} {self.kind} {more} -> {str(self.answer)[:12]}"


def admitted(match, current):
    """What a condition says of the present object: None when it lets the request through, else the answer."""
    if match == "*":
        return "412" if current else None
    if match:
        return "404" if current is None else None if current == match else "412"
    return None


def apply(op, state):
    """The state after `op` in `state`, given its answer; None when it cannot have been answered so here. State: (ETag or None, uploads that ended)."""
    current, ended = state
    if op.kind == "get":
        return state if op.answer in (None, current or "404") else None
    if op.kind == "abort":
        if op.upload in ended:
            return state if op.answer in (None, "404") else None
        return (current, ended | {op.upload}) if op.answer in (None, "ok") else None
    if op.kind == "complete" and op.upload in ended:
        return state if op.answer in (None, "404") else None
    if op.kind == "delete" and current is None:
        # Nothing there is nothing to delete; a condition on it may be told to have failed.
        return state if op.answer in (None, "ok") or op.match and op.answer in ("404", "412") else None
    refusal = admitted(op.match, current)
    if refusal:
        return state if op.answer in (None, refusal) else None
    if op.answer not in (None, "ok"):
        return None
    if op.kind == "delete":
        return (None, ended)
    return (op.value, ended | {op.upload}) if op.kind == "complete" else (op.value, ended)


def explain(history, first=(None, frozenset())):
    """Whether some order of `history` that respects who was answered before whom was asked explains all answers."""
    ops = sorted(history, key=lambda o: o.start)
    certain = sum(1 << i for i, o in enumerate(ops) if o.answer is not None)
    seen, stack = set(), [(0, first)]
    while stack:
        placed, state = stack.pop()
        if placed & certain == certain:
            return True
        if (placed, state) in seen:
            continue
        seen.add((placed, state))
        horizon = min(o.end for i, o in enumerate(ops) if not placed >> i & 1)
        for i, o in enumerate(ops):
            if o.start > horizon:
                break
            if placed >> i & 1:
                continue
            after = apply(o, state)
            if after is not None:
                stack.append((placed | 1 << i, after))
    return False


def check(history):
    """Cuts at moments when nothing was under way would be quicker; few hundred requests a key need no cuts."""
    return explain(history)


def bites():
    """The checker refuses what is wrong, and takes what is right but looks odd."""
    def op(kind, start, end, answer, **more):
        return Op(kind, start=start, **more).done(end, answer)

    put = op("put", 0, 1, "ok", value="a")
    wrong = {
        "a read after an acknowledged write sees what was before": [put, op("put", 2, 3, "ok", value="b"), op("get", 4, 5, "a")],
        "two make what must not be there": [op("put", 0, 3, "ok", value="a", match="*"), op("put", 1, 4, "ok", value="b", match="*")],
        "two replace the same": [put, op("put", 2, 5, "ok", value="b", match="a"), op("put", 2, 5, "ok", value="c", match="a")],
        "a deleted object comes back": [put, op("delete", 2, 3, "ok"), op("get", 4, 5, "a")],
        "an upload is completed and aborted": [op("complete", 0, 3, "ok", value="m", upload="u"), op("abort", 1, 4, "ok", upload="u")],
        "reads go back in time": [put, op("put", 2, 9, "ok", value="b"), op("get", 3, 4, "b"), op("get", 5, 6, "a")],
        "an acknowledged write vanishes in a kill": [put, Op("put", value="b", start=2), op("get", 5, 6, "404")],
        "refused though it was free": [op("put", 0, 1, "412", value="a", match="*")],
    }
    right = {
        "order is free while both are under way": [op("put", 0, 9, "ok", value="a"), op("put", 1, 8, "ok", value="b"), op("get", 10, 11, "a")],
        "what had no answer happens late": [Op("put", value="z", start=0), put, op("get", 2, 3, "a"), op("get", 4, 5, "z")],
        "what had no answer never happens": [Op("delete", start=0), put, op("get", 2, 3, "a")],
        "one of two wins": [op("put", 0, 3, "ok", value="a", match="*"), op("put", 1, 4, "412", value="b", match="*"), op("get", 5, 6, "a")],
        "aborted too late": [op("complete", 0, 3, "ok", value="m", upload="u"), op("abort", 1, 4, "404", upload="u"), op("get", 5, 6, "m")],
    }
    for name, history in wrong.items():
        assert not check(history), f"the checker does not notice: {name}"
    for name, history in right.items():
        assert check(history), f"the checker refuses what may be: {name}"
    print(f"  the checker refuses {len(wrong)} wrong histories and takes {len(right)} right ones")


class Client:
    def __init__(self, w, number, histories, began, seed):
        self.s3 = w.client(connect_timeout=2, read_timeout=5)
        self.number, self.histories, self.began, self.rng = number, histories, began, random.Random(seed * 100 + number)
        self.stop, self.count = False, 0

    def data(self, least=0):
        self.count += 1
        # Some live in the database, some are files.
        size = max(least, self.rng.choice((40, 40, 40, 20_000)))
        return (b"%d/%d " % (self.number, self.count) * (size // 4 + 8))[:max(size, 24)]

    def known(self, key):
        """An ETag that was there lately, to be asked for."""
        values = [o.value for o in self.histories[key][-12:] if o.value]
        return self.rng.choice(values) if values else "0" * 32

    def ask(self, key, op, call):
        op.start = time.monotonic() - self.began
        self.histories[key].append(op)
        answer = None
        try:
            got = call()
            answer = got["ETag"].strip('"') if op.kind == "get" else "ok"
        except ClientError as e:
            status = e.response["ResponseMetadata"]["HTTPStatusCode"]
            if status < 500 and status != 409:
                answer = str(status)
        except (BotoCoreError, OSError):
            pass
        if answer is not None:
            op.done(time.monotonic() - self.began, answer)
        elif op.kind == "get":
            self.histories[key].remove(op)
        return answer

    def run(self):
        while not self.stop:
            key = self.rng.choice(list(self.histories))
            at = dict(Bucket="linear", Key=key)
            dice = self.rng.random()
            if dice < 0.35:
                answer = self.ask(key, Op("get"), lambda: self.s3.get_object(**at))
            elif dice < 0.70:
                body = self.data()
                match = self.rng.choice((None, None, "*", self.known(key)))
                condition = {} if match is None else {"IfNoneMatch": "*"} if match == "*" else {"IfMatch": match}
                op = Op("put", hashlib.md5(body).hexdigest(), match)
                answer = self.ask(key, op, lambda: self.s3.put_object(**at, **condition, Body=body))
            elif dice < 0.85:
                match = self.rng.choice((None, self.known(key)))
                answer = self.ask(key, Op("delete", match=match), lambda: self.s3.delete_object(**at, **({"IfMatch": match} if match else {})))
            else:
                answer = self.upload(key, at)
            if answer is None:
                time.sleep(0.05)

    def upload(self, key, at):
        body = self.data()
        try:
            upload = self.s3.create_multipart_upload(**at)["UploadId"]
            part = self.s3.upload_part(**at, UploadId=upload, PartNumber=1, Body=body)["ETag"]
        except (ClientError, BotoCoreError, OSError):
            return None
        value = hashlib.md5(hashlib.md5(body).digest()).hexdigest() + "-1"
        match = self.rng.choice((None, "*", self.known(key)))
        condition = {} if match is None else {"IfNoneMatch": "*"} if match == "*" else {"IfMatch": match}
        rival = None
        if self.rng.random() < 0.6:
            rival = threading.Thread(target=lambda: self.ask(
                key, Op("abort", upload=upload), lambda: self.s3.abort_multipart_upload(**at, UploadId=upload)))
            rival.start()
        answer = self.ask(key, Op("complete", value, match, upload), lambda: self.s3.complete_multipart_upload(
            **at, UploadId=upload, **condition, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]}))
        if rival:
            rival.join()
        return answer


def run(seed, kills):
    with Walrus() as w:
        w.client().create_bucket(Bucket="linear")
        histories = {f"k{n}": [] for n in range(4)}
        began = time.monotonic()
        clients = [Client(w, n, histories, began, seed) for n in range(6)]
        threads = [threading.Thread(target=c.run) for c in clients]
        for t in threads:
            t.start()
        rest = SECONDS / (kills + 1)
        for n in range(kills + 1):
            time.sleep(rest)
            if n < kills:
                w.kill()
                w.start()
        for c in clients:
            c.stop = True
        for t in threads:
            t.join()
        bad = 0
        for key, history in histories.items():
            if not check(history):
                bad += 1
                print(f"no order explains {key}:")
                for o in sorted(history, key=lambda o: o.start):
                    print("   ", o)
        total = sum(len(h) for h in histories.values())
        unknown = sum(o.answer is None for h in histories.values() for o in h)
        refused = sum(o.answer in ("412", "404") for h in histories.values() for o in h)
        code, text = w.fsck()
        print(f"  seed {seed}, {kills} kills: {total} requests on {len(histories)} keys, {refused} refused, {unknown} without an answer: "
              + ("every key has its order" if not bad else f"{bad} keys without"))
        assert code == 0, text
        assert not bad
        assert total > 100


if __name__ == "__main__":
    bites()
    seed = int(os.environ.get("KARRI_SEED", str(time.time_ns() % 100_000)))
    run(seed, kills=0)
    run(seed + 1, kills=2)
    sys.exit(0)
