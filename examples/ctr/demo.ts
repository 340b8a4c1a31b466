/**
 * Sends rows that the model was not trained on to a server, one a request, and says how good and how fast the answers
 * are. Without --url it serves the sample itself, on a free port.
 *
 *   node dist/examples/ctr/demo.js [--url http://127.0.0.1:9292] [--model DIR] [--name ctr] [--rows 20000]
 *     [--concurrency 32] [--criteo FILE]
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { modelDirectory } from './artefacts.js';
import { auc } from './auc.js';
import { type CriteoRow, parseCriteo } from './criteo-file.js';
import { ImpressionStream, seeds } from './generator.js';
import { InferClient } from './infer-client.js';
import { exampleOf, type ModelInput } from './model-input.js';
import { prepareTable } from './sample-table.js';
import { quantile, type SentRows, sendRows } from './send-rows.js';
import { type ServerChild, startServer } from './server-child.js';

const { values: flags } = parseArgs({
  options: {
    url: { type: 'string' },
    model: { type: 'string', default: modelDirectory },
    name: { type: 'string', default: 'ctr' },
    rows: { type: 'string', default: '20000' },
    concurrency: { type: 'string', default: '32' },
    criteo: { type: 'string' },
  },
});
const concurrency = positiveInteger('--concurrency', flags.concurrency);
const rows = positiveInteger('--rows', flags.rows);

let server: ServerChild | undefined;
let client: InferClient | undefined;
try {
  const criteo = flags.criteo === undefined ? undefined : parseCriteo(readFileSync(flags.criteo, 'utf8'));
  if (flags.url === undefined) {
    if (flags.model === modelDirectory) await prepareTable();
    server = await startServer(flags.model, flags.name);
  }
  client = new InferClient(flags.url ?? server!.url, flags.name, concurrency);
  if (criteo) await sendCriteo(criteo);
  else await sendGenerated();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
  process.exitCode = 1;
} finally {
  client?.close();
  await server?.close();
}

async function sendGenerated(): Promise<void> {
  const stream = new ImpressionStream(seeds.demo);
  const impressions = Array.from({ length: rows }, () => stream.next());
  const labels = impressions.map(({ label }) => label);
  const sent = await send(impressions.map(exampleOf));
  print(`AUC of the served probabilities: ${auc(sent.probabilities, labels).toFixed(4)}`);
  const best = auc(
    impressions.map(({ probability }) => probability),
    labels,
  );
  print(`AUC of the truth on these rows:  ${best.toFixed(4)} (the best to be expected)`);
}

async function sendCriteo(criteo: readonly CriteoRow[]): Promise<void> {
  const sent = await send(criteo);
  const ascending = sent.probabilities.slice().sort();
  const missing = criteo.reduce((sum, row) => sum + row.missing, 0);
  const shown = [0, 0.25, 0.5, 0.75, 1].map((share) => quantile(ascending, share).toFixed(3));
  print(`${criteo.length} rows with ${missing} missing fields in, ${ascending.length} probabilities out:`);
  print(`least ${shown[0]}, quartiles ${shown[1]}, ${shown[2]}, ${shown[3]}, greatest ${shown[4]}`);
  print('How well they fit the labels means nothing: the model was trained on generated rows, and these');
  print('categories and clicks come from elsewhere. This shows that rows of the real form are served.');
}

async function send(inputs: readonly ModelInput[]): Promise<SentRows> {
  // The first answers pay for warming up; they are not in the numbers.
  await sendRows(inputs.slice(0, 10 * concurrency), concurrency, (row) => client!.infer(row));
  const sent = await sendRows(inputs, concurrency, (row) => client!.infer(row));
  const { latenciesMs, seconds } = sent;
  const rate = Math.round(inputs.length / seconds);
  const [p50, p99] = [0.5, 0.99].map((share) => quantile(latenciesMs, share).toFixed(2));
  print(
    `${inputs.length} requests in ${seconds.toFixed(2)} s: ${rate} requests/s with ${concurrency} at a time`,
  );
  print(`latency p50 ${p50} ms, p99 ${p99} ms (this client's own work included)`);
  return sent;
}

function positiveInteger(flag: string, text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  process.stderr.write(`${flag}: expected an integer of at least 1, got ${text}\n`);
  process.exit(2);
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
