#!/usr/bin/env python3
"""Invoices signed with SM2, judged by an implementation that nobody here wrote: gmalg, in plain Python.

    python tests/clients/python/test_sm2.py [BINARY]     (or SKPROXY_BIN)

Needs gmalg and what test_issue.py needs. A demo gets one more device, with an SM2 key; what it signs is
read from the wire, its public key from DescribeDevice.
"""

import hashlib
import json
import os
import pathlib
import secrets
import subprocess
import sys
import tempfile

import gmalg

from test_issue import CALL_LIMIT_S, Demo, Suite, generate, varint

INVOICES = 20
IDENTITY = b"1234567812345678"
# SubjectPublicKeyInfo of an uncompressed point: id-ecPublicKey, curve 1.2.156.10197.1.301 (GM/T 0009).
SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d034200")


def fields(message):
    """(number, start, end, content) of each field; content is bytes or a number."""
    at = 0
    while at < len(message):
        start = at
        tag, at = varint(message, at)
        assert tag & 7 in (0, 2), f"wire type {tag & 7}"
        content, at = varint(message, at)
        if tag & 7 == 2:
            content, at = message[at : at + content], at + content
        yield tag >> 3, start, at, content


def scalars(signature):
    """r and s of a DER signature: 32 bytes each."""
    assert signature[0] == 0x30 and signature[1] == len(signature) - 2, signature.hex()
    numbers, at = [], 2
    while at < len(signature):
        assert signature[at] == 0x02, signature.hex()
        size = signature[at + 1]
        number = signature[at + 2 : at + 2 + size]
        assert number[0] < 0x80 and (size == 1 or number[0] or number[1] >= 0x80), signature.hex()
        numbers.append(int.from_bytes(number, "big").to_bytes(32, "big"))
        at += 2 + size
    assert len(numbers) == 2, signature.hex()
    return numbers


def operate(demo, *arguments):
    """Runs an operator's command against the demo."""
    line = [demo.binary, *arguments, "--socket", demo.facts["admin_socket"], "--format", "json"]
    answer = subprocess.run(line, capture_output=True, timeout=CALL_LIMIT_S, check=False)
    assert answer.returncode == 0, answer.stderr.decode()
    return json.loads(answer.stdout)


def add_device(demo):
    """A device with an SM2 key and numbers of its own."""
    operate(
        demo, "device", "add", "--id", "vd-sm2", "--taxpayer", demo.facts["taxpayer_id"],
        "--machine-number", "661000000777", "--backend", "software-sm2", "--kind", "e-normal",
        "--test",
    )  # fmt: skip
    operate(
        demo, "stock", "add", "--device", "vd-sm2", "--kind", "e-normal", "--code", "044002609911",
        "--first", "00000001", "--last", "00000100",
    )  # fmt: skip


def check(demo, stubs):
    add_device(demo)
    suite = Suite(demo, stubs)
    messages, services = suite.platform
    request = messages.DescribeDeviceRequest(device_id="vd-sm2")
    device = services.DeviceServiceStub(suite.channel).DescribeDevice(request, timeout=CALL_LIMIT_S)
    spki = device.public_key
    assert spki[: len(SPKI)] == SPKI and len(spki) == len(SPKI) + 65, spki.hex()
    verifier = gmalg.SM2(uid=IDENTITY, pk=spki[len(SPKI) :])
    for _ in range(INVOICES):
        draft = suite.draft("SM" + secrets.token_hex(8).upper())
        draft.device_id = "vd-sm2"
        invoice = suite.issued(draft)
        assert invoice.signature_algorithm == suite.types.SIGNATURE_ALGORITHM_SM2_SM3, invoice
        assert invoice.signer_key == hashlib.sha256(spki).digest(), invoice
        wire = suite.raw_invoice(draft)
        # Fields 1 to 7 are the signed record.
        signed = wire[: max(end for number, _, end, _ in fields(wire) if number <= 7)]
        r, s = scalars(next(content for number, _, _, content in fields(wire) if number == 12))
        assert verifier.verify(signed, r, s), signed.hex()
        flipped = bytes([signed[0], signed[1] ^ 1]) + signed[2:]
        for message, pair in ((flipped, (r, s)), (signed, (s, r)), (signed + b"\0", (r, s))):
            assert not verifier.verify(message, *pair), message.hex()
    print(f"ok   {INVOICES} invoices signed with SM2 verify, and nothing else does")


def main():
    binary = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SKPROXY_BIN")
    if not binary:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory(prefix="skproxy-sm2-") as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "stubs").mkdir()
        stubs = generate(scratch / "stubs")
        demo = Demo(binary, scratch / "data")
        try:
            check(demo.start(), stubs)
        except BaseException:
            print(demo.tail(), file=sys.stderr)
            raise
        finally:
            demo.kill()
    print("1 passed, 0 failed")


if __name__ == "__main__":
    main()
