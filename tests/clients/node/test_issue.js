// What a platform written in JavaScript meets: the contract read from proto/ at run time, mutual TLS, the
// invoice, the same bytes again, and every field that a refused request got wrong.
//
//     node tests/clients/node/test_issue.js BINARY
//
// Needs @grpc/grpc-js and @grpc/proto-loader, found through NODE_PATH. Uses nothing of skproxy but the
// files in proto/ and what `skproxy demo --format json` prints.
'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');

const ROOT = path.resolve(__dirname, '../../..');
const PROTO = path.join(ROOT, 'proto');
const START_LIMIT_MS = 60_000;
const CALL_LIMIT_MS = 20_000;

/** Starts `skproxy demo` and resolves with its process and the JSON value it prints. */
function startDemo(binary, directory) {
  return new Promise((resolve, reject) => {
    const demo = spawn(binary, ['demo', '--dir', directory, '--format', 'json'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const late = setTimeout(() => reject(new Error('the demo says nothing')), START_LIMIT_MS);
    let text = '';
    demo.on('exit', (code) => reject(new Error(`the demo ended with ${code}`)));
    demo.stdout.on('data', (chunk) => {
      text += chunk;
      try {
        const facts = JSON.parse(text);
        clearTimeout(late);
        resolve({ demo, facts });
      } catch {
        // Not whole yet.
      }
    });
  });
}

function connect(facts) {
  const definition = loader.loadSync('skproxy/v1/invoice_service.proto', {
    includeDirs: [PROTO],
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  });
  const { InvoiceService } = grpc.loadPackageDefinition(definition).skproxy.v1;
  const tls = grpc.credentials.createSsl(
    fs.readFileSync(facts.ca),
    fs.readFileSync(facts.client_key),
    fs.readFileSync(facts.client_certificate),
  );
  return new InvoiceService(facts.platform_address, tls, {
    'grpc.ssl_target_name_override': 'localhost',
  });
}

function call(client, method, request) {
  return new Promise((resolve, reject) => {
    const options = { deadline: Date.now() + CALL_LIMIT_MS };
    client[method](request, options, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

/** One line of 100.00 yuan at 13 %. */
function draft(facts, serial) {
  return {
    serial,
    kind: 'INVOICE_KIND_E_NORMAL',
    color: 'INVOICE_COLOR_BLUE',
    seller: {
      taxpayerId: facts.taxpayer_id,
      name: facts.seller_name,
      addressPhone: '示例市示例路1号 000-00000000',
      bankAccount: '示例银行 0000000000',
    },
    buyer: { name: '个人' },
    drawer: '示例甲',
    amountFen: '10000',
    taxFen: '1300',
    totalFen: '11300',
    taxMethod: 'TAX_METHOD_ORDINARY',
    taxCodeVersion: '33.0',
    lines: [
      {
        kind: 'LINE_KIND_NORMAL',
        taxCode: '1060105040000000000',
        name: '*纸制品*打印纸',
        amountFen: '10000',
        rateMillionths: 130000,
        taxFen: '1300',
      },
    ],
  };
}

/** The details of an error: its reason and the fields at fault. */
function detailsOf(error) {
  const types = protobuf.loadSync(path.join(__dirname, 'details.proto'));
  const of = (name) => types.lookupType(`google.rpc.${name}`);
  const [bytes] = error.metadata.get('grpc-status-details-bin');
  const found = { reason: '', fields: [] };
  for (const detail of of('Status').decode(bytes).details) {
    const name = detail.type_url.split('/').pop();
    if (name === 'google.rpc.ErrorInfo') {
      const info = of('ErrorInfo').decode(detail.value);
      assert.strictEqual(info.domain, 'skproxy');
      found.reason = info.reason;
    } else if (name === 'google.rpc.BadRequest') {
      found.fields = of('BadRequest').decode(detail.value).fieldViolations;
    }
  }
  return found;
}

async function main(binary) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'skproxy-node-'));
  const { demo, facts } = await startDemo(path.resolve(binary), path.join(directory, 'demo'));
  const client = connect(facts);
  try {
    const wanted = { draft: draft(facts, 'NODE-1') };
    const first = await call(client, 'IssueInvoice', wanted);
    assert.strictEqual(first.outcome.result, 'issued');
    assert.match(first.outcome.issued.invoice.number, /^[0-9]{8}$/);
    const again = await call(client, 'IssueInvoice', wanted);
    assert.deepStrictEqual(again.outcome.issued.invoice, first.outcome.issued.invoice);

    const wrong = draft(facts, 'NODE-2');
    Object.assign(wrong, { totalFen: '11301', remark: '😀' });
    wrong.lines[0].taxFen = '1200';
    const refused = await call(client, 'IssueInvoice', { draft: wrong }).then(
      () => assert.fail('it was issued'),
      (error) => error,
    );
    assert.strictEqual(refused.code, grpc.status.INVALID_ARGUMENT);
    const { reason, fields } = detailsOf(refused);
    assert.ok(reason, 'a reason');
    const paths = fields.map((violation) => violation.field);
    for (const field of ['draft.total_fen', 'draft.remark', 'draft.lines[0].tax_fen']) {
      assert.ok(paths.includes(field), `${field} is not among ${paths}`);
    }
    const total = fields.find((violation) => violation.field === 'draft.total_fen');
    assert.match(total.description, /differs by 1 fen/);

    const resolved = await call(client, 'ResolveInvoice', {
      taxpayerId: facts.taxpayer_id,
      serial: 'NODE-2',
    });
    assert.strictEqual(resolved.outcome.result, 'closed', 'a refusal bound nothing');
    console.log('issued, replayed, refused field by field, resolved: all as the contract says');
  } finally {
    client.close();
    demo.removeAllListeners('exit');
    demo.kill('SIGKILL');
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
