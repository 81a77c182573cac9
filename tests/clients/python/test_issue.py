#!/usr/bin/env python3
"""What a platform written in Python meets: generated stubs, mutual TLS, rich errors, and the same bytes
back after the proxy was killed.

    python tests/clients/python/test_issue.py [BINARY]     (or SKPROXY_BIN)

Needs grpcio, grpcio-tools, grpcio-status, grpcio-health-checking and grpcio-reflection. Uses nothing of
skproxy but the files in proto/ and what `skproxy demo --format json` prints.
"""

import importlib
import json
import os
import pathlib
import secrets
import select
import subprocess
import sys
import tempfile
import time
import traceback

import grpc
import grpc_tools
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROTO = ROOT / "proto"
START_LIMIT_S = 60
CALL_LIMIT_S = 60
IN_DOUBT_LIMIT_S = 60


class Demo:
    """A running `skproxy demo` over one data directory."""

    def __init__(self, binary, directory):
        self.binary = binary
        self.directory = directory
        self.log = open(pathlib.Path(directory).parent / "demo.log", "ab")
        self.process = None
        self.facts = None

    def start(self):
        self.process = subprocess.Popen(
            [self.binary, "demo", "--dir", str(self.directory), "--format", "json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        self.facts = self.read_value()
        return self

    def read_value(self):
        """The one JSON value on stdout; the process goes on running."""
        text, deadline = b"", time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            ready, _, _ = select.select([self.process.stdout], [], [], 0.2)
            if ready:
                part = os.read(self.process.stdout.fileno(), 65536)
                if not part:
                    raise RuntimeError(f"the demo ended with {self.process.wait()}: {self.tail()}")
                text += part
                try:
                    return json.loads(text)
                except ValueError:
                    continue
        raise RuntimeError(f"no JSON value within {START_LIMIT_S} s: {text!r} {self.tail()}")

    def tail(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")[-2000:]

    def kill(self):
        """SIGKILL: nothing is drained, nothing is flushed."""
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()
            self.process.stdout.close()

    def address(self):
        return self.facts["platform_address"].removeprefix("https://").rstrip("/")

    def channel(self, certificate=True):
        def read(key):
            return pathlib.Path(self.facts[key]).read_bytes()

        identity = {}
        if certificate:
            identity = {
                "private_key": read("client_key"),
                "certificate_chain": read("client_certificate"),
            }
        credentials = grpc.ssl_channel_credentials(root_certificates=read("ca"), **identity)
        return grpc.secure_channel(self.address(), credentials)


class Suite:
    """The tests, in the order in which they run; they share one proxy and one issued invoice."""

    def __init__(self, demo, stubs):
        self.demo = demo
        self.types = stubs["types_pb2"]
        self.messages = stubs["invoice_service_pb2"]
        self.services = stubs["invoice_service_pb2_grpc"]
        self.platform = stubs["services_pb2"], stubs["services_pb2_grpc"]
        self.first = self.draft("PY" + secrets.token_hex(8).upper())
        self.invoice = None
        self.connect()

    def connect(self):
        self.channel = self.demo.channel()
        grpc.channel_ready_future(self.channel).result(timeout=CALL_LIMIT_S)
        self.stub = self.services.InvoiceServiceStub(self.channel)

    def draft(self, serial):
        types, facts = self.types, self.demo.facts
        return types.InvoiceDraft(
            serial=serial,
            kind=types.INVOICE_KIND_E_NORMAL,
            color=types.INVOICE_COLOR_BLUE,
            seller=types.Party(
                taxpayer_id=facts["taxpayer_id"],
                name=facts["seller_name"],
                address_phone="示例市示例路1号 000-00000000",
            ),
            buyer=types.Party(name="个人"),
            drawer="开票员",
            amount_fen=20000,
            tax_fen=2600,
            total_fen=22600,
            tax_code_version="33.0",
            device_id=facts["device_id"],
            lines=[
                types.InvoiceLine(
                    kind=types.LINE_KIND_NORMAL,
                    tax_code="1060105040000000000",
                    name="*纸制品*打印纸",
                    unit="包",
                    quantity="2",
                    unit_price="100",
                    amount_fen=20000,
                    rate_millionths=130000,
                    tax_fen=2600,
                )
            ],
        )

    def issue(self, draft):
        return self.stub.IssueInvoice(
            self.messages.IssueInvoiceRequest(draft=draft), timeout=CALL_LIMIT_S
        ).outcome

    def issued(self, draft):
        """The outcome once it is ISSUED; IN_DOUBT is asked about as the contract says."""
        outcome, deadline = self.issue(draft), time.monotonic() + IN_DOUBT_LIMIT_S
        while outcome.WhichOneof("result") == "in_doubt" and time.monotonic() < deadline:
            time.sleep(min(outcome.in_doubt.ask_after_ms, 1000) / 1000)
            outcome = self.resolve(draft.serial)
        assert outcome.WhichOneof("result") == "issued", outcome
        return outcome.issued.invoice

    def resolve(self, serial):
        request = self.messages.ResolveInvoiceRequest(
            taxpayer_id=self.demo.facts["taxpayer_id"], serial=serial
        )
        return self.stub.ResolveInvoice(request, timeout=CALL_LIMIT_S).outcome

    def raw_invoice(self, draft):
        """The invoice's bytes as they are on the wire, before any library decoded them."""
        call = self.channel.unary_unary(
            "/skproxy.v1.InvoiceService/IssueInvoice",
            request_serializer=self.messages.IssueInvoiceRequest.SerializeToString,
            response_deserializer=None,
        )
        response = call(self.messages.IssueInvoiceRequest(draft=draft), timeout=CALL_LIMIT_S)
        # IssueInvoiceResponse.outcome, Outcome.issued, Issued.invoice: field 1 each.
        return field_one(field_one(field_one(response)))

    def refused(self, call, code, reason):
        """Checks that a call is refused with that code and reason; its other details."""
        try:
            answer = call()
        except grpc.RpcError as error:
            assert error.code() == code, f"{error.code()} {error.details()}"
            details = {}
            for packed in rpc_status.from_call(error).details:
                for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest):
                    if packed.Is(kind.DESCRIPTOR):
                        details[kind] = kind()
                        packed.Unpack(details[kind])
            info = details[error_details_pb2.ErrorInfo]
            assert (info.domain, info.reason) == ("skproxy", reason), info
            return details
        raise AssertionError(f"not refused: {answer}")

    def test_an_invoice_is_issued_over_mutual_tls(self):
        self.invoice = self.issued(self.first)
        assert self.invoice.draft == self.first
        assert self.invoice.number and self.invoice.issue_time.endswith("+08:00"), self.invoice
        assert self.invoice.signature, self.invoice

    def test_the_same_request_gets_the_same_bytes(self):
        wire = self.raw_invoice(self.first)
        assert self.issued(self.first).SerializeToString(deterministic=True) == (
            self.invoice.SerializeToString(deterministic=True)
        )
        assert self.raw_invoice(self.first) == wire
        self.wire = wire

    def test_another_serial_gets_another_number(self):
        other = self.issued(self.draft("PY" + secrets.token_hex(8).upper()))
        assert (other.code, other.number) != (self.invoice.code, self.invoice.number)

    def test_after_a_kill_and_a_restart_the_bytes_are_the_same(self):
        self.channel.close()
        self.demo.kill()
        self.demo.start()
        self.connect()
        assert self.raw_invoice(self.first) == self.wire
        found = self.resolve(self.first.serial).issued.invoice
        assert found.SerializeToString(deterministic=True) == (
            self.invoice.SerializeToString(deterministic=True)
        )

    def test_the_same_serial_with_other_content_is_a_conflict(self):
        other = self.draft(self.first.serial)
        other.drawer = "复核员"
        self.refused(
            lambda: self.issue(other), grpc.StatusCode.ALREADY_EXISTS, "SERIAL_CONFLICT"
        )

    def test_a_resolved_unused_serial_is_closed_for_ever(self):
        draft = self.draft("PY" + secrets.token_hex(8).upper())
        request = self.messages.GetInvoiceRequest(
            taxpayer_id=self.demo.facts["taxpayer_id"], serial=draft.serial
        )
        known = self.stub.GetInvoice(request, timeout=CALL_LIMIT_S).outcome
        assert known.WhichOneof("result") == "unknown", known
        for _ in range(2):
            outcome = self.resolve(draft.serial)
            assert outcome.WhichOneof("result") == "closed", outcome
        self.refused(lambda: self.issue(draft), grpc.StatusCode.ALREADY_EXISTS, "SERIAL_CLOSED")

    def test_a_dry_run_spends_nothing_and_knows_what_is_issued(self):
        def validate(draft):
            request = self.messages.ValidateInvoiceRequest(draft=draft)
            return self.stub.ValidateInvoice(request, timeout=CALL_LIMIT_S)

        assert not validate(self.draft("PY" + secrets.token_hex(8).upper())).HasField("known")
        assert validate(self.first).known.issued.invoice == self.invoice
        wrong = self.draft(self.first.serial)
        wrong.drawer = "复核员"
        self.refused(
            lambda: validate(wrong), grpc.StatusCode.ALREADY_EXISTS, "SERIAL_CONFLICT"
        )

    def test_a_stream_answers_each_item(self):
        wrong = self.draft("PY" + secrets.token_hex(8).upper())
        wrong.total_fen += 1
        drafts = {7: self.first, 8: wrong, 9: self.draft("PY" + secrets.token_hex(8).upper())}
        items = [
            self.messages.IssueInvoiceStreamRequest(item=item, draft=draft)
            for item, draft in drafts.items()
        ]
        answers = {
            answer.item: answer
            for answer in self.stub.IssueInvoiceStream(iter(items), timeout=CALL_LIMIT_S)
        }
        assert answers[7].outcome.issued.invoice == self.invoice, answers[7]
        assert answers[9].outcome.issued.invoice.number, answers[9]
        info = error_details_pb2.ErrorInfo()
        assert any(packed.Unpack(info) for packed in answers[8].status.details), answers[8]
        assert info.reason == "TOTAL_SUM_MISMATCH", info

    def test_a_list_holds_what_was_issued_and_goes_on(self):
        def listed(cursor):
            request = self.messages.ListInvoicesRequest(
                taxpayer_id=self.demo.facts["taxpayer_id"],
                **{"from": "2020-01-01T00:00:00+08:00"},
                until="2099-01-01T00:00:00+08:00",
                cursor=cursor,
            )
            return list(self.stub.ListInvoices(request, timeout=CALL_LIMIT_S))

        everything = listed("")
        assert self.invoice in [response.issued.invoice for response in everything]
        assert listed(everything[0].cursor) == everything[1:]

    def test_every_violated_field_is_named(self):
        draft = self.draft("PY" + secrets.token_hex(8).upper())
        draft.total_fen += 1
        draft.lines[0].tax_fen += 500
        try:
            answer = self.issue(draft)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
            reasons = [
                info.reason
                for info in unpacked(error, error_details_pb2.ErrorInfo)
            ]
            fields = {
                violation.field
                for bad in unpacked(error, error_details_pb2.BadRequest)
                for violation in bad.field_violations
            }
            assert len(reasons) == 1 and reasons[0].isupper(), reasons
            assert "draft.total_fen" in fields, fields
            assert any(field.startswith("draft.lines[0].") for field in fields), fields
        else:
            raise AssertionError(f"not refused: {answer}")

    def test_the_refused_request_did_not_bind_its_serial(self):
        draft = self.draft("PY" + secrets.token_hex(8).upper())
        draft.total_fen += 1
        try:
            self.issue(draft)
        except grpc.RpcError:
            draft.total_fen -= 1
        self.issued(draft)

    def operate(self, words):
        """An operator's command to the running demo."""
        command = [self.demo.binary, *words.split(), "--socket", self.demo.facts["admin_socket"]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=CALL_LIMIT_S)
        assert done.returncode == 0, (words, done.stdout, done.stderr)

    def void(self, invoice, request_id, amount_fen=None):
        request = self.messages.VoidInvoiceRequest(
            taxpayer_id=self.demo.facts["taxpayer_id"],
            code=invoice.code,
            number=invoice.number,
            reason="开错",
            request_id=request_id,
        )
        if amount_fen is not None:
            request.amount_fen = amount_fen
        return self.stub.VoidInvoice(request, timeout=CALL_LIMIT_S).voided

    def test_a_paper_invoice_is_voided_once_and_says_so_for_ever(self):
        taxpayer, kind = self.demo.facts["taxpayer_id"], "--kind normal-paper"
        self.operate(
            f"device add --id PY-PAPER --taxpayer {taxpayer} --machine-number 000000000009 "
            f"--backend software-p256 {kind}"
        )
        self.operate(
            f"stock add --device PY-PAPER {kind} --code 050000000104 --first 00000001 "
            "--last 00000009"
        )
        draft = self.draft("PYV" + secrets.token_hex(8).upper())
        draft.kind, draft.device_id = self.types.INVOICE_KIND_NORMAL_PAPER, "PY-PAPER"
        invoice = self.issued(draft)
        # Another amount is another invoice, so nothing is voided.
        self.refused(
            lambda: self.void(invoice, "PYV1", draft.amount_fen + 1),
            grpc.StatusCode.INVALID_ARGUMENT,
            "TOTAL_AMOUNT_MISMATCH",
        )
        assert self.resolve(draft.serial).WhichOneof("result") == "issued"
        voided = self.void(invoice, "PYV1", draft.amount_fen)
        assert (voided.number, voided.reason) == (invoice.number, "开错"), voided
        assert voided.issued.invoice == invoice, "it keeps its bytes"
        for again in (self.void(invoice, "PYV1"), self.void(invoice, "PYV2")):
            assert again.voided_at == voided.voided_at, again
        outcome = self.resolve(draft.serial)
        assert outcome.WhichOneof("result") == "voided", outcome
        assert outcome.voided.issued.invoice == invoice, outcome

    def test_an_electronic_invoice_is_not_voided(self):
        invoice = self.issued(self.draft("PYE" + secrets.token_hex(8).upper()))
        self.refused(
            lambda: self.void(invoice, "PYE1"),
            grpc.StatusCode.FAILED_PRECONDITION,
            "VOID_NOT_ALLOWED",
        )

    def test_the_caller_learns_who_it_is(self):
        messages, services = self.platform
        stub = services.PlatformServiceStub(self.channel)
        answer = stub.GetSelf(messages.GetSelfRequest(), timeout=CALL_LIMIT_S)
        assert self.demo.facts["taxpayer_id"] in answer.taxpayer_ids, answer

    def test_health_says_serving(self):
        stub = health_pb2_grpc.HealthStub(self.channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_LIMIT_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, answer

    def test_reflection_lists_the_services(self):
        names = set()
        for version in ("v1", "v1alpha"):  # the messages of both are the same
            call = self.channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            try:
                for answer in call(iter([request]), timeout=CALL_LIMIT_S):
                    names |= {service.name for service in answer.list_services_response.service}
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
        assert "skproxy.v1.InvoiceService" in names, names

    def test_without_a_certificate_nothing_is_answered(self):
        with self.demo.channel(certificate=False) as channel:
            stub = self.services.InvoiceServiceStub(channel)
            request = self.messages.IssueInvoiceRequest(draft=self.first)
            try:
                answer = stub.IssueInvoice(request, timeout=CALL_LIMIT_S)
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.UNAVAILABLE, error
            else:
                raise AssertionError(f"answered: {answer}")


def unpacked(error, kind):
    """The details of that kind of a failed call."""
    for packed in rpc_status.from_call(error).details:
        if packed.Is(kind.DESCRIPTOR):
            message = kind()
            packed.Unpack(message)
            yield message


def field_one(message):
    """The bytes of field 1, which must be length-delimited and there once."""
    at, found = 0, []
    while at < len(message):
        tag, at = varint(message, at)
        assert tag & 7 == 2, f"wire type {tag & 7}"
        size, at = varint(message, at)
        if tag >> 3 == 1:
            found.append(message[at : at + size])
        at += size
    assert len(found) == 1, f"field 1 is there {len(found)} times"
    return found[0]


def varint(message, at):
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def generate(directory):
    """Stubs of the platforms' contract, by the means every Python team uses."""
    files = [str(path.relative_to(PROTO)) for path in sorted((PROTO / "skproxy/v1").glob("*.proto"))]
    outputs = [f"--python_out={directory}", f"--grpc_python_out={directory}"]
    # What `python -m grpc_tools.protoc` adds by itself: google/protobuf.
    known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    includes = [f"-I{PROTO}", f"-I{known}"]
    assert protoc.main(["protoc", *includes, *outputs, *files]) == 0, "protoc refuses proto/"
    sys.path.insert(0, str(directory))
    names = ["types_pb2", "invoice_service_pb2", "invoice_service_pb2_grpc"]
    names += ["services_pb2", "services_pb2_grpc"]
    return {name: importlib.import_module(f"skproxy.v1.{name}") for name in names}


def run(suite):
    """Runs every test; later ones still run when one failed."""
    passed = failed = 0
    for name in [name for name in vars(Suite) if name.startswith("test_")]:
        try:
            getattr(suite, name)()
            passed += 1
            print(f"ok   {name}")
        except Exception:
            failed += 1
            print(f"FAIL {name}")
            traceback.print_exc()
    print(f"{passed} passed, {failed} failed")
    return failed == 0 and passed > 0


def main():
    binary = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SKPROXY_BIN")
    if not binary:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory(prefix="skproxy-python-") as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "stubs").mkdir()
        stubs = generate(scratch / "stubs")
        demo = Demo(binary, scratch / "data")
        try:
            good = run(Suite(demo.start(), stubs))
            if not good:
                print(demo.tail(), file=sys.stderr)
        finally:
            demo.kill()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
