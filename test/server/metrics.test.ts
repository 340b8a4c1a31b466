import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { call, jsonInput } from '../support/http-call.js';
import { type Served, serveModels } from '../support/served.js';
import { scaleModel } from '../support/test-models.js';

let served: Served;

before(async () => {
  served = await serveModels({ scale: scaleModel(), 'odd "name"': scaleModel() });
});
after(() => served.close());

interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** The fixed names of requests and devices, with the type of each. */
const names: Readonly<Record<string, string>> = {
  onnx_serving_requests_total: 'counter',
  onnx_serving_stage_seconds: 'histogram',
  onnx_serving_batch_rows: 'histogram',
  onnx_serving_queue_depth: 'gauge',
  onnx_serving_in_flight: 'gauge',
  onnx_serving_loaded_bytes: 'gauge',
  onnx_serving_queue_bytes: 'gauge',
  onnx_serving_slab_bytes: 'gauge',
  onnx_serving_workers: 'gauge',
  onnx_serving_worker_busy_seconds_total: 'counter',
  onnx_serving_worker_busy_ratio: 'gauge',
};

/** Reads Prometheus' text format by its grammar; anything else is an error. */
function parse(text: string): { types: Map<string, string>; samples: Sample[] } {
  const types = new Map<string, string>();
  const samples: Sample[] = [];
  assert.ok(text.endsWith('\n'), 'the last line ends');
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const type = /^# TYPE ([a-zA-Z_:][\w:]*) (counter|gauge|histogram|summary|untyped)$/.exec(line);
    if (type) {
      assert.ok(!types.has(type[1]!), `one type for ${type[1]}`);
      types.set(type[1]!, type[2]!);
      continue;
    }
    if (/^# HELP [a-zA-Z_:][\w:]* .+$/.test(line)) continue;
    // Prometheus takes its special numbers in any case, and prom-client writes Nan.
    const sample = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (nan|[+-]Inf|-?[\d.]+(?:e[+-]?\d+)?)$/i.exec(line);
    assert.ok(sample, `a line of the format: ${line}`);
    const labels: Record<string, string> = {};
    const rest = (sample[2] ?? '').replace(
      /([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/g,
      (_, key, value) => {
        labels[key] = value;
        return '';
      },
    );
    assert.equal(rest, '', `labels of ${line}`);
    samples.push({ name: sample[1]!, labels, value: Number(sample[3]!.replace('Inf', 'Infinity')) });
  }
  return { types, samples };
}

test('the metrics page is Prometheus text with every documented name, and counts what happened', async () => {
  const infer = (model: string, values: number[]): Promise<{ status: number }> =>
    call(`${served.url}/v2/models/${encodeURIComponent(model)}/infer`, {
      body: { inputs: [jsonInput('x', 'FP32', [1, values.length], values)] },
    });
  assert.equal((await infer('scale', [1, 2, 3, 4])).status, 200);
  assert.equal((await infer('scale', [1, 2, 3, 4])).status, 200);
  assert.equal((await infer('scale', [1, 2, 3])).status, 400);
  assert.equal((await infer('odd "name"', [1, 2, 3, 4])).status, 200);
  assert.equal((await infer('nothing', [1, 2, 3, 4])).status, 404);
  const broken = await call(`${served.url}/v2/models/scale/infer`, { body: 'no JSON' });
  assert.equal(broken.status, 400);
  await served.runtime.infer('scale', { x: { datatype: 'FP32', shape: [1, 4], data: new Float32Array(4) } });

  const page = await call(`${served.url}/metrics`);
  assert.equal(page.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
  const { types, samples } = parse(page.body.toString());
  for (const [name, type] of Object.entries(names)) assert.equal(types.get(name), type, name);
  const count = (model: string, code: string, protocol = 'http'): number | undefined =>
    samples.find(
      ({ name, labels }) =>
        name === 'onnx_serving_requests_total' &&
        labels.model === model &&
        labels.code === code &&
        labels.protocol === protocol,
    )?.value;
  assert.equal(count('scale', 'ok'), 2);
  assert.equal(count('scale', 'ok', 'process'), 1);
  assert.equal(count('scale', 'SRV_BAD_SIGNATURE'), 1);
  assert.equal(count('scale', 'SRV_BAD_JSON'), 1);
  assert.equal(count('odd \\"name\\"', 'ok'), 1);
  assert.equal(count('', 'SRV_MODEL_NOT_FOUND'), 1);
  for (const { name, labels } of samples) {
    const family = name.replace(/_(bucket|sum|count)$/, '');
    assert.ok(types.has(name) || types.has(family), `${name} has a type`);
    assert.ok(name.startsWith('onnx_serving_'), name);
    if (name === 'onnx_serving_queue_depth') assert.ok('version' in labels);
  }
});

test('each stage has a histogram whose buckets grow and end with the count', async () => {
  const { samples } = parse((await call(`${served.url}/metrics`)).body.toString());
  for (const stage of ['decode', 'queue', 'assemble', 'gather', 'compute', 'encode', 'total']) {
    const own = samples.filter(({ labels }) => labels.model === 'scale' && labels.stage === stage);
    const buckets = own
      .filter(({ name }) => name === 'onnx_serving_stage_seconds_bucket')
      .map(({ value }) => value);
    assert.deepEqual(
      buckets,
      buckets.toSorted((a, b) => a - b),
      stage,
    );
    const count = own.find(({ name }) => name === 'onnx_serving_stage_seconds_count')!.value;
    assert.equal(buckets.at(-1), count, stage);
    assert.equal(count, stage === 'decode' ? 2 : 3, stage);
  }
});

test('the event loop, memory and processor time of the process are there', async () => {
  const { types } = parse((await call(`${served.url}/metrics`)).body.toString());
  for (const name of ['nodejs_eventloop_lag_p99_seconds', 'cpu_seconds_total', 'resident_memory_bytes']) {
    assert.ok(
      [...types.keys()].some((key) => key.startsWith('onnx_serving_') && key.endsWith(name)),
      name,
    );
  }
});

test('the documentation of metrics has every name', (t) => {
  const file = fileURLToPath(new URL('../../../docs/metrics.md', import.meta.url));
  if (!existsSync(file)) return t.skip('docs/metrics.md is not there');
  const text = readFileSync(file, 'utf8');
  for (const name of Object.keys(names)) assert.ok(text.includes(name), name);
});
