import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { SplitSettings } from '../../src/config/traffic-settings.js';
import type { TrafficStatus } from '../../src/server/service.js';
import { tensor } from '../../src/tensor/tensor.js';
import { type Answer, binaryBody, call, errorOf, floatBytes, json, jsonInput } from '../support/http-call.js';
import { openWith, type Served, serveModels } from '../support/served.js';
import { pairModel, scaleModel } from '../support/test-models.js';
import { until } from '../support/until.js';

const traffic: Record<string, SplitSettings> = {
  public: {
    variants: [
      { tag: 'old', model: 'two', weight: 90 },
      { tag: 'new', model: 'three', weight: 10 },
    ],
    sticky: { by: 'header', name: 'X-User' },
  },
  // Its own name is a model's too.
  two: {
    variants: [
      { tag: 'self', version: 1, weight: 1 },
      { tag: 'other', model: 'three', weight: 0 },
    ],
  },
  odd: {
    variants: [
      { tag: 'good', model: 'two', weight: 1 },
      { tag: 'wrong', model: 'pair', weight: 0 },
    ],
    sticky: { by: 'parameter', name: 'user' },
  },
  leaving: {
    variants: [
      { tag: 'stays', model: 'two', weight: 50 },
      { tag: 'leaves', model: 'passing', weight: 50 },
    ],
    sticky: { by: 'id' },
  },
};

let served: Served;
let url: string;

before(async () => {
  served = await serveModels(
    { two: scaleModel(2), three: scaleModel(3), pair: pairModel(), passing: scaleModel(5) },
    { runtime: { modelControl: 'explicit', traffic } },
  );
  url = served.url;
});
after(() => served.close());

const x = [jsonInput('x', 'FP32', [1, 4], [1, 2, 3, 4])];
const infer = (
  name: string,
  more: { headers?: Record<string, string>; body?: object; path?: string } = {},
): Promise<Answer> =>
  call(`${url}/v2/models/${name}${more.path ?? ''}/infer`, {
    headers: more.headers ?? {},
    body: { inputs: x, ...more.body },
  });

interface Reply {
  readonly model_name: string;
  readonly model_version: string;
  readonly id?: string;
  readonly parameters?: { readonly variant: string };
  readonly outputs: readonly { readonly data: readonly number[] }[];
}

const status = async (name: string): Promise<TrafficStatus> =>
  json<TrafficStatus>(await call(`${url}/v2/traffic/${name}`));
const put = (name: string, body: object | string): Promise<Answer> =>
  call(`${url}/v2/traffic/${name}`, { method: 'PUT', body });

test('the reply names the variant in its header, parameters and version, under the public name', async () => {
  const factors: Record<string, number> = { old: 2, new: 3 };
  const seen = new Set<string>();
  for (let user = 0; user < 60; user++) {
    const answer = await infer('public', { headers: { 'x-user': `user-${user}` }, body: { id: `r${user}` } });
    assert.equal(answer.status, 200, answer.body.toString());
    const reply = json<Reply>(answer);
    const variant = reply.parameters!.variant;
    assert.equal(answer.headers['x-variant'], variant);
    assert.equal(reply.outputs[0]!.data[0], factors[variant], 'the answer is of the variant that it names');
    assert.deepEqual([reply.model_name, reply.model_version, reply.id], ['public', '1', `r${user}`]);
    seen.add(variant);
    const again = await infer('public', { headers: { 'X-USER': `user-${user}` } });
    assert.equal(again.headers['x-variant'], variant);
  }
  assert.deepEqual([...seen].toSorted(), ['new', 'old']);
});

test('binary and raw binary requests are split too, and their replies say so', async () => {
  const { headers, body } = binaryBody(
    {
      inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 4], parameters: { binary_data_size: 16 } }],
      parameters: { binary_data_output: true },
    },
    floatBytes(1, 2, 3, 4),
  );
  const answer = await call(`${url}/v2/models/public/infer`, { headers, body });
  assert.equal(answer.status, 200);
  const length = Number(answer.headers['inference-header-content-length']);
  const head = JSON.parse(answer.body.subarray(0, length).toString()) as Reply;
  assert.equal(head.parameters!.variant, answer.headers['x-variant']);
  const raw = await call(`${url}/v2/models/public/infer`, {
    headers: { 'inference-header-content-length': '0', 'x-user': 'user-1' },
    body: floatBytes(1, 2, 3, 4),
  });
  assert.equal(raw.status, 200);
  assert.match(String(raw.headers['x-variant']), /^(old|new)$/);
});

test('a request that names a version passes the split, and models without one say nothing of variants', async () => {
  const passed = await infer('two', { path: '/versions/1' });
  assert.equal(passed.headers['x-variant'], undefined);
  assert.equal(json<Reply>(passed).parameters, undefined);
  assert.equal((await infer('two')).headers['x-variant'], 'self');
  const plain = await infer('three');
  assert.equal(plain.headers['x-variant'], undefined);
  assert.equal(json<Reply>(plain).parameters, undefined);
  assert.equal((await infer('public', { path: '/versions/1' })).status, 404);
});

test('a parameter is a key, and requests with one are not mistaken for each other', async () => {
  assert.equal((await put('odd', { weights: { good: 1, wrong: 1 } })).status, 200);
  try {
    const place = async (user: unknown): Promise<string> =>
      String((await infer('odd', { body: { parameters: { user } } })).headers['x-variant']);
    const users = Array.from({ length: 30 }, (_, index) => `user-${index}`);
    const first: string[] = [];
    for (const user of users) first.push(await place(user));
    assert.deepEqual([...new Set(first)].toSorted(), ['good', 'wrong']);
    for (const [index, user] of users.entries()) assert.equal(await place(user), first[index]);
  } finally {
    assert.equal((await put('odd', { weights: { good: 1, wrong: 0 } })).status, 200);
  }
});

test('a failing variant is named in the error reply', async () => {
  assert.equal((await put('odd', { weights: { good: 0, wrong: 1 } })).status, 200);
  try {
    const answer = await infer('odd');
    assert.equal(answer.status, 400);
    assert.equal(answer.headers['x-variant'], 'wrong');
    assert.equal(json<{ code: string }>(answer).code, 'SRV_BAD_SIGNATURE');
    const wrong = (await status('odd')).variants[1]!;
    assert.ok(wrong.errors >= 1);
  } finally {
    assert.equal((await put('odd', { weights: { good: 1, wrong: 0 } })).status, 200);
  }
});

test('while a variant is unloaded others answer for it; with none left the answer is 503', async () => {
  const unload = (model: string): Promise<Answer> =>
    call(`${url}/v2/repository/models/${model}/unload`, { method: 'POST' });
  const load = (model: string): Promise<Answer> =>
    call(`${url}/v2/repository/models/${model}/load`, { method: 'POST' });
  const places = async (): Promise<string[]> => {
    const tags: string[] = [];
    for (let i = 0; i < 30; i++) {
      const answer = await infer('leaving', { body: { id: `user-${i}` } });
      assert.equal(answer.status, 200, answer.body.toString());
      tags.push(String(answer.headers['x-variant']));
    }
    return tags;
  };
  const before = await places();
  assert.equal((await unload('passing')).status, 200);
  assert.ok((await places()).every((tag) => tag === 'stays'));
  const leaves = (await status('leaving')).variants[1]!;
  assert.equal(leaves.not_ready, before.filter((tag) => tag === 'leaves').length);
  assert.equal(leaves.version, null);
  assert.equal((await put('leaving', { weights: { stays: 0, leaves: 1 } })).status, 200);
  const refused = await infer('leaving');
  assert.equal(refused.status, 503);
  assert.match(errorOf(refused), /'leaving' has no ready variant among leaves \(passing\)$/);
  const ready = await call(`${url}/v2/models/leaving/ready`);
  assert.equal(ready.status, 200, 'another variant could answer');
  assert.equal((await load('passing')).status, 200);
  assert.equal((await put('leaving', { weights: { stays: 50, leaves: 50 } })).status, 200);
  assert.deepEqual(await places(), before);
});

test('a public name appears in metadata, lists, index and statistics, and is ready', async () => {
  const metadata = json<{ name: string; versions: string[]; inputs: { name: string }[] }>(
    await call(`${url}/v2/models/public`),
  );
  assert.deepEqual([metadata.name, metadata.versions, metadata.inputs[0]!.name], ['public', [], 'x']);
  assert.deepEqual(json<{ versions: string[] }>(await call(`${url}/v2/models/two`)).versions, ['1']);
  const { models } = json<{ models: string[] }>(await call(`${url}/v2/models`));
  assert.deepEqual(models.toSorted(), ['leaving', 'odd', 'pair', 'passing', 'public', 'three', 'two']);
  const index = json<{ name: string; version: string; state: string }[]>(
    await call(`${url}/v2/repository/index`, { method: 'POST' }),
  );
  assert.deepEqual(
    index.find(({ name }) => name === 'public'),
    { name: 'public', version: '1', state: 'READY', reason: '' },
  );
  assert.equal(index.filter(({ name }) => name === 'two').length, 1);
  assert.deepEqual(json(await call(`${url}/v2/models/public/ready`)), { name: 'public', ready: true });
  assert.equal(json<{ name: string }>(await call(`${url}/v2/models/public/config`)).name, 'public');
  const stats = json<{ model_stats: { name: string; variant: string }[] }>(
    await call(`${url}/v2/models/public/stats`),
  );
  assert.deepEqual(
    stats.model_stats.map(({ name, variant }) => [name, variant]),
    [
      ['two', 'old'],
      ['three', 'new'],
    ],
  );
  const all = json<{ model_stats: { name: string }[] }>(await call(`${url}/v2/models/stats`));
  assert.deepEqual(all.model_stats.map(({ name }) => name).toSorted(), ['pair', 'passing', 'three', 'two']);
});

test('weights change by PUT at once, and bad changes change nothing', async () => {
  const changed = await put('public', { weights: { old: 0, new: 5 } });
  assert.equal(changed.status, 200);
  assert.deepEqual(
    json<TrafficStatus>(changed).variants.map(({ tag, weight, share }) => [tag, weight, share]),
    [
      ['old', 0, 0],
      ['new', 5, 1],
    ],
  );
  assert.equal((await infer('public')).headers['x-variant'], 'new');
  for (const [body, code] of [
    [{ weights: { old: 0, new: 0 } }, 'SRV_BAD_REQUEST'],
    [{ weights: { old: -1, new: 1 } }, 'SRV_BAD_REQUEST'],
    ['{"weights":', 'SRV_BAD_JSON'],
    ['', 'SRV_BAD_JSON'],
    ['null', 'SRV_BAD_REQUEST'],
  ] as const) {
    const answer = await put('public', body);
    assert.equal(answer.status, 400, JSON.stringify(body));
    assert.equal(json<{ code: string }>(answer).code, code);
  }
  assert.deepEqual(
    (await status('public')).variants.map(({ weight }) => weight),
    [0, 5],
  );
  assert.equal((await put('public', { weights: { old: 90, new: 10 } })).status, 200);
  const unknown = await put('pubic', { weights: { old: 1, new: 1 } });
  assert.equal(unknown.status, 404);
  assert.match(errorOf(unknown), /no traffic is split under 'pubic'; the public names are public, two/);
  const { traffic: list } = json<{ traffic: TrafficStatus[] }>(await call(`${url}/v2/traffic`));
  assert.deepEqual(
    list.map(({ name }) => name),
    ['public', 'two', 'odd', 'leaving'],
  );
  assert.equal((await call(`${url}/v2/traffic/public`, { method: 'DELETE' })).status, 405);
});

test('metrics name the variant', async () => {
  const text = await served.runtime.metrics();
  assert.match(text, /^onnx_serving_variant_requests_total\{model="public",variant="old",code="ok"\} \d+$/m);
  assert.match(
    text,
    /^onnx_serving_variant_requests_total\{model="odd",variant="wrong",code="SRV_BAD_SIGNATURE"\} \d+$/m,
  );
  assert.match(text, /^onnx_serving_variant_weight\{model="public",variant="new"\} 10$/m);
  assert.match(
    text,
    /^onnx_serving_variant_info\{model="public",variant="new",target="three",version="1"\} 1$/m,
  );
  assert.match(text, /^onnx_serving_variant_not_ready_total\{model="leaving",variant="leaves"\} [1-9]\d*$/m);
  assert.match(text, /^onnx_serving_variant_seconds_count\{model="public",variant="old"\} [1-9]\d*$/m);
  assert.match(text, /^onnx_serving_traffic_unkeyed_total\{model="public"\} [1-9]\d*$/m);
});

test('metrics of versions name the variant that their requests came through', async () => {
  const text = await served.runtime.metrics();
  const count = (model: string, code: string, variant: string): number => {
    const labels = `model="${model}",version="1",protocol="http",code="${code}"${variant}`;
    const line = text.split('\n').filter((one) => one.startsWith(`onnx_serving_requests_total{${labels}} `));
    assert.equal(line.length, 1, labels);
    return Number(line[0]!.split(' ')[1]);
  };
  const ofVariants = (name: string, tag: string): number =>
    served.runtime.traffic.get(name).variants.find((variant) => variant.tag === tag)!.requests;
  assert.equal(count('two', 'ok', ',variant="old"'), ofVariants('public', 'old'));
  assert.equal(count('three', 'ok', ',variant="new"'), ofVariants('public', 'new'));
  assert.equal(count('pair', 'SRV_BAD_SIGNATURE', ',variant="wrong"'), ofVariants('odd', 'wrong'));
  // A request that named its version is no variant's.
  assert.equal(count('two', 'ok', ''), 1);
  for (const stage of ['decode', 'queue', 'encode', 'total']) {
    const labels = `model="three",version="1",stage="${stage}",variant="new"`;
    assert.match(text, new RegExp(`^onnx_serving_stage_seconds_count\\{${labels}\\} [1-9]`, 'm'));
  }
  assert.doesNotMatch(text, /stage="(assemble|gather|compute)",variant=/, 'a batch is of several');
  const lines = text.split('\n').map((line) => line.split(' ')[0]!);
  const series = lines.filter((line) => line.startsWith('onnx_serving_'));
  assert.equal(new Set(series).size, series.length, 'no series comes twice');
});

const rows = { x: tensor('FP32', [1, 4], [1, 2, 3, 4]) };

test('a variant is gone from the metrics of versions with its split, and with its version', async () => {
  const only = (model: string): SplitSettings => ({ variants: [{ tag: 'only', model, weight: 1 }] });
  const { runtime, close } = await openWith(
    { two: scaleModel(2), three: scaleModel(3) },
    { traffic: { a: only('two'), b: only('two'), c: only('three') } },
  );
  try {
    const counts = async (): Promise<string[]> =>
      [
        ...(await runtime.metrics()).matchAll(
          /^onnx_serving_requests_total\{model="(\w+)".*?(,variant=.*)?\} (\d+)$/gm,
        ),
      ]
        .map(([, model, variant = '', count]) => `${model}${variant} ${count}`)
        .toSorted();
    for (const name of ['a', 'a', 'b', 'c', 'two']) await runtime.infer(name, rows);
    // Variants of one tag for one version are one series.
    assert.deepEqual(await counts(), ['three,variant="only" 1', 'two 1', 'two,variant="only" 3']);
    await runtime.configureTraffic({ b: only('two'), c: only('three') });
    assert.deepEqual(await counts(), ['three,variant="only" 1', 'two 1', 'two,variant="only" 1']);
    await runtime.load('three');
    assert.deepEqual(await counts(), ['two 1', 'two,variant="only" 1']);
    await runtime.configureTraffic({});
    assert.deepEqual(await counts(), ['two 1']);
  } finally {
    await close();
  }
});

test('embedded: infer names the variant, a routing key sticks, and traffic is read and changed in process', async () => {
  const { runtime, close } = await openWith(
    { two: scaleModel(2), three: scaleModel(3) },
    { traffic: { public: { ...traffic.public!, sticky: { by: 'header', name: 'x-user' } } } },
  );
  try {
    const tags = new Map<string, string>();
    for (let user = 0; user < 50; user++) {
      const { model, variant, outputs } = await runtime.infer('public', rows, { routingKey: `user-${user}` });
      assert.equal(model, 'public');
      assert.equal(outputs.y!.data[0], variant === 'old' ? 2 : 3);
      tags.set(`user-${user}`, variant!);
    }
    // Raising one weight moves keys to it alone.
    await runtime.traffic.set('public', { weights: { old: 90, new: 60 } });
    for (const [routingKey, before] of tags) {
      const { variant } = await runtime.infer('public', rows, { routingKey });
      assert.ok(variant === before || variant === 'new', `${routingKey}: ${before} > ${variant}`);
    }
    assert.equal(runtime.traffic.list().length, 1);
    assert.equal(runtime.traffic.get('public').variants[1]!.weight, 60);
    await assert.rejects(runtime.traffic.set('public', { weights: { old: 0, new: 0 } }), {
      code: 'SRV_BAD_REQUEST',
    });
    await assert.rejects(runtime.traffic.set('two', {}), { code: 'SRV_TRAFFIC_NOT_FOUND' });
    // A front end of it may not, because model control is off there.
    await assert.rejects(runtime.service.traffic.set('public', { weights: { old: 1, new: 1 } }), {
      code: 'SRV_MODEL_CONTROL_OFF',
    });
    assert.equal((await runtime.infer('two', rows)).variant, undefined);
  } finally {
    await close();
  }
});

test('another configuration is taken over as a whole: what is as before keeps its changes', async () => {
  const variants = (weight: number): SplitSettings['variants'] => [
    { tag: 'old', model: 'two', weight: 90 },
    { tag: 'new', model: 'three', weight },
  ];
  const { runtime, close } = await openWith(
    { two: scaleModel(2), three: scaleModel(3) },
    {
      traffic: {
        kept: { variants: variants(10) },
        changed: { variants: variants(10) },
        gone: { variants: variants(10) },
      },
    },
  );
  try {
    const weights = (name: string): number[] =>
      runtime.traffic.get(name).variants.map((variant) => variant.weight);
    for (const name of ['kept', 'changed', 'gone']) {
      await runtime.infer(name, rows);
      await runtime.traffic.set(name, { weights: { old: 1, new: 1 } });
    }
    const next = { kept: { variants: variants(10) }, changed: { variants: variants(20) } };
    await assert.rejects(
      runtime.configureTraffic({ ...next, more: { variants: [{ tag: 'a', model: 'four', weight: 1 }] } }),
      { code: 'SRV_BAD_CONFIG' },
    );
    await assert.rejects(runtime.configureTraffic({ ...next, more: { variants: [] } }), {
      code: 'SRV_BAD_CONFIG',
    });
    assert.deepEqual(
      [weights('kept'), weights('changed'), weights('gone')],
      [
        [1, 1],
        [1, 1],
        [1, 1],
      ],
    );
    await runtime.configureTraffic({ ...next, more: { variants: variants(5) } });
    assert.deepEqual(
      [weights('kept'), weights('changed'), weights('more')],
      [
        [1, 1],
        [90, 20],
        [90, 5],
      ],
    );
    assert.equal(
      runtime.traffic.get('changed').variants.reduce((sum, { requests }) => sum + requests, 0),
      1,
      'counts go on',
    );
    assert.throws(() => runtime.traffic.get('gone'), { code: 'SRV_TRAFFIC_NOT_FOUND' });
    await assert.rejects(runtime.infer('gone', rows), { code: 'SRV_MODEL_NOT_FOUND' });
    assert.equal((await runtime.infer('more', rows)).model, 'more');
    // Another shape of a name is a new split, whose counts begin anew.
    await runtime.configureTraffic({ changed: { variants: [{ tag: 'only', model: 'two', weight: 1 }] } });
    assert.deepEqual(
      runtime.traffic.list().map(({ name, variants: [first] }) => [name, first!.tag, first!.requests]),
      [['changed', 'only', 0]],
    );
  } finally {
    await close();
  }
});

test('a variant or shadow that stands for nothing known stops the start, and it is said what there is', async () => {
  const start = (split: SplitSettings): Promise<unknown> =>
    openWith({ ranker: scaleModel(2), scorer: scaleModel(3) }, { traffic: { public: split } });
  const good = { tag: 'good', model: 'ranker', weight: 1 };
  await assert.rejects(start({ variants: [good, { tag: 'b', model: 'rankr', weight: 1 }] }), {
    code: 'SRV_BAD_CONFIG',
    message:
      'Bad configuration: traffic.public.variants[1]: there is no model "rankr"; there are ranker, scorer; did you mean "ranker"?',
  });
  await assert.rejects(start({ variants: [good, { tag: 'b', model: 'ranker', version: 7, weight: 1 }] }), {
    code: 'SRV_BAD_CONFIG',
    message: /variants\[1\]: model "ranker" has no version 7 that is to be served; there are 1$/,
  });
  await assert.rejects(
    start({ variants: [good, { tag: 'b', model: 'ranker', label: 'canary', weight: 1 }] }),
    {
      code: 'SRV_BAD_CONFIG',
      message: /variants\[1\]: model "ranker" has no label "canary"/,
    },
  );
  await assert.rejects(start({ variants: [good], shadow: [{ tag: 's', model: 'public' }] }), {
    code: 'SRV_BAD_CONFIG',
    message: /shadow\[0\]: there is no model "public"/,
  });
});

test('a shadow gets copies, its answers are compared and dropped, and callers see nothing of it', async () => {
  const { runtime, close } = await openWith(
    { two: scaleModel(2), three: scaleModel(3), pair: pairModel() },
    {
      traffic: {
        public: {
          variants: [{ tag: 'old', model: 'two', weight: 1 }],
          shadow: [
            { tag: 'next', model: 'three', sample: 1 },
            { tag: 'wrong', model: 'pair', sample: 1 },
            { tag: 'never', model: 'three', sample: 0 },
          ],
        },
      },
    },
  );
  try {
    for (let i = 0; i < 5; i++) {
      const input = tensor('FP32', [1, 4], [1, 2, 3, 4]);
      const { outputs, variant } = await runtime.infer('public', { x: input });
      assert.deepEqual([variant, [...(outputs.y!.data as Float32Array)]], ['old', [2, 4, 6, 8]]);
      // The caller's memory is its own again.
      (input.data as Float32Array).fill(99);
      (outputs.y!.data as Float32Array).fill(77);
      const seen = i + 1;
      await until('both shadows have answered', () => {
        const [next, wrong] = runtime.traffic.get('public').shadow;
        return next!.compared === seen && wrong!.failed === seen;
      });
    }
    const [next, wrong, never] = runtime.traffic.get('public').shadow;
    assert.deepEqual(
      [next!.max_abs_difference, next!.argmax_flips, next!.argmax_rows, next!.failed, next!.shed],
      [4, 0, 5, 0, 0],
    );
    assert.equal(typeof next!.latency_difference_ms, 'number');
    assert.match(wrong!.last_failure!, /^SRV_BAD_SIGNATURE: /);
    assert.deepEqual([never!.compared, never!.failed, never!.shed], [0, 0, 0]);
    const text = await runtime.metrics();
    assert.match(
      text,
      /^onnx_serving_shadow_copies_total\{model="public",shadow="next",result="compared"\} 5$/m,
    );
    assert.match(text, /^onnx_serving_shadow_max_abs_difference\{model="public",shadow="next"\} 4$/m);
    assert.match(text, /^onnx_serving_shadow_argmax_total\{model="public",shadow="next",result="same"\} 5$/m);
    assert.match(
      text,
      /^onnx_serving_shadow_latency_difference_seconds_count\{model="public",shadow="next"\} 5$/m,
    );
    assert.match(
      text,
      /^onnx_serving_requests_total\{model="three",version="1",protocol="shadow",code="ok"\} 5$/m,
    );
  } finally {
    await close();
  }
});
