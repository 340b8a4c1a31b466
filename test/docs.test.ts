/** What the pages promise, compared with what the code does. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import Fastify, { type FastifyInstance } from 'fastify';
import { prepareTable } from '../examples/ctr/sample-table.js';
import { loadServeConfig } from '../src/config/load.js';
import { type ErrorCode, errorCodes, ServingError } from '../src/errors.js';
import { openRuntime, type Runtime } from '../src/runtime.js';
import { createServer, servingPlugin } from '../src/server/app.js';
import { errorReply } from '../src/server/error-reply.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const read = (file: string): string => readFileSync(join(root, file), 'utf8');

let cache: string;
let runtime: Runtime;
let app: FastifyInstance;

before(async () => {
  cache = mkdtempSync(join(tmpdir(), 'onnx-serving-docs-'));
  await prepareTable();
  // The model of `npm start`, and the one that docs/http.md asks.
  runtime = await openRuntime({
    models: [{ path: join(root, 'examples/ctr') }, { path: join(root, 'examples/ring') }],
    threads: 1,
    cacheDir: cache,
  });
  app = await createServer(runtime);
});
after(async () => {
  await app.close();
  await runtime.close();
  rmSync(cache, { recursive: true, force: true });
});

/** Rows of a page's tables whose first cell is code, cell by cell, without the backticks of the first one. */
function tableRows(page: string): string[][] {
  return page
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) =>
      line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim()),
    )
    .map(([first, ...rest]) => [first!.replaceAll('`', ''), ...rest]);
}

test('docs/errors.md has the codes of the registry with their kind, HTTP status and meaning', () => {
  const registered = Object.entries(errorCodes).map(([code, [kind, meaning]]) => [
    code,
    kind,
    String(errorReply(new ServingError(code as ErrorCode, ''), '').status),
    meaning,
  ]);
  assert.deepEqual(tableRows(read('docs/errors.md')), registered);
});

test('docs/metrics.md has every metric that is printed, with its type and labels', async () => {
  await ask(quickStart('README.md'));
  // Requests through a public name have a label more.
  await runtime.configureTraffic({ ctr: { variants: [{ tag: 'only', version: 1, weight: 1 }] } });
  await ask(quickStart('README.md'));
  const printed = readMetrics(await runtime.metrics());
  await runtime.configureTraffic({});
  const documented = new Map(
    tableRows(read('docs/metrics.md'))
      .filter(([name]) => name!.startsWith('onnx_serving_'))
      .map(([name, type, labels]) => [name!, { type: type!, labels: [...labels!.matchAll(/\w+/g)].flat() }]),
  );
  for (const [name, { type, labels }] of printed) {
    const row = documented.get(name);
    assert.ok(row, `docs/metrics.md has no ${name}`);
    assert.equal(row.type, type, name);
    // Of some metrics there is no sample now.
    if (labels) assert.deepEqual(row.labels.toSorted(), labels.toSorted(), name);
  }
  // What prom-client gives differs by platform.
  const own = [...documented.keys()].filter((name) => !/_(process|nodejs)_/.test(name));
  assert.deepEqual(
    own.filter((name) => !printed.has(name)),
    [],
    'docs/metrics.md has metrics that are not printed',
  );
});

interface PrintedMetric {
  readonly type: string;
  labels?: readonly string[];
}

function readMetrics(text: string): Map<string, PrintedMetric> {
  const metrics = new Map<string, PrintedMetric>();
  let current: PrintedMetric | undefined;
  for (const line of text.split('\n')) {
    const [, name, type] = /^# TYPE (\S+) (\S+)$/.exec(line) ?? [];
    if (name !== undefined && type !== undefined) {
      current = { type };
      metrics.set(name, current);
    } else if (current && /^\w/.test(line)) {
      // The text before the last blank is the name with its labels; values of labels stand in quotes.
      const labels = [...line.matchAll(/[{,](\w+)="/g)].map(([, label]) => label!);
      const all = new Set([...(current.labels ?? []), ...labels.filter((label) => label !== 'le')]);
      current.labels = [...all];
    }
  }
  return metrics;
}

test('docs/http.md lists the routes of the server, all of them and no others', async () => {
  const routes: string[] = [];
  const bare = Fastify();
  bare.addHook('onRoute', ({ method, url }) => {
    // A list of methods is the 405 beside a route; HEAD comes with every GET.
    if (typeof method === 'string' && method !== 'HEAD') {
      routes.push(`${method} ${url.replaceAll(/:(\w+)/g, '{$1}')}`);
    }
  });
  await bare.register(servingPlugin, { runtime });
  await bare.ready();
  await bare.close();
  const documented = tableRows(read('docs/http.md'))
    .map(([route]) => route!)
    .filter((route) => /^(GET|POST|PUT) \//.test(route))
    .flatMap((route) =>
      route.includes('[') ? [route.replace(/\[.*?\]/, ''), route.replaceAll(/[[\]]/g, '')] : [route],
    );
  assert.deepEqual([...new Set(documented)].toSorted(), routes.toSorted());
});

/** A request as a page has it: where it goes, the text of its body, and the answer that the page shows, if any. */
interface Curl {
  readonly url: string;
  readonly body: string;
  readonly answer?: Answer;
}

interface Answer {
  readonly outputs: readonly { readonly name: string; readonly data: readonly number[] }[];
}

/** The first curl with a body of a page. */
function quickStart(page: string): Curl {
  const match = /```sh\ncurl -s (\S+) -d '([^']+?)'\n```(?:\n\n```json\n(.+?)\n```)?/s.exec(read(page));
  assert.ok(match, `${page} has a curl`);
  const [, url, body, answer] = match;
  return {
    url: url!,
    body: body!,
    ...(answer === undefined ? {} : { answer: JSON.parse(answer) as Answer }),
  };
}

/** Sends it as curl would; the port is not looked at. */
async function ask({ url, body }: Curl): Promise<Answer> {
  assert.match(url, /^http:\/\/127\.0\.0\.1:9292\//);
  const reply = await app.inject({
    method: 'POST',
    url: new URL(url).pathname,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    payload: body,
  });
  assert.equal(reply.statusCode, 200, reply.body);
  return reply.json<Answer>();
}

for (const page of ['README.md', 'docs/http.md']) {
  test(`the first curl of ${page} gives the answer that is shown below it`, async () => {
    const curl = quickStart(page);
    assert.ok(curl.answer, `${page} shows the answer`);
    const rounded = (from: Answer): unknown => ({
      ...from,
      // The last digits differ between processors.
      outputs: from.outputs.map((output) => ({
        ...output,
        data: output.data.map((value) => value.toFixed(3)),
      })),
    });
    assert.deepEqual(rounded(await ask(curl)), rounded(curl.answer));
  });
}

test('what the README, examples/ctr and its model.json say of the answer to their request is one thing, and true', async () => {
  const { example } = JSON.parse(read('examples/ctr/model.json')) as {
    example: { request: object; meaning: string };
  };
  const answers = ['README.md', 'examples/ctr/README.md'].map(quickStart);
  for (const { body } of answers) assert.deepEqual(JSON.parse(body), example.request);
  const [ctr] = (await ask(answers[1]!)).outputs;
  const said = ctr!.data[0]!.toFixed(2);
  assert.match(example.meaning, new RegExp(`about ${said}$`));
  assert.ok(read('README.md').includes(`with a probability of ${said},`), said);
  assert.ok(read('examples/ctr/README.md').includes(`The answer to this row is ${said};`), said);
});

test('the stage that README.md and examples/ctr show is the one of the sample', () => {
  const { embeddings } = JSON.parse(read('examples/ctr/model.json')) as { embeddings: unknown };
  for (const page of ['README.md', 'examples/ctr/README.md']) {
    const [, shown] = /```json\n("embeddings": .+?)\n```/s.exec(read(page))!;
    assert.deepEqual(JSON.parse(`{${shown}}`), { embeddings }, page);
  }
});

test('the configuration that docs/traffic.md shows, piece by piece, is valid', () => {
  const pieces = [...read('docs/traffic.md').matchAll(/```yaml\n(.+?)```/gs)].map(([, piece]) => piece!);
  assert.equal(pieces.length, 3);
  const file = join(cache, 'serve.yaml');
  writeFileSync(file, pieces.join(''));
  const { traffic } = loadServeConfig({ flags: { config: file } }).runtime;
  assert.deepEqual(Object.keys(traffic.ranker!).toSorted(), [
    'guard',
    'shadow',
    'steps',
    'sticky',
    'variants',
  ]);
});

test('CHANGELOG.md has a heading for the version of the package', () => {
  const { version } = JSON.parse(read('package.json')) as { version: string };
  assert.ok(read('CHANGELOG.md').includes(`\n## [${version}]`), `no heading "## [${version}]"`);
});
