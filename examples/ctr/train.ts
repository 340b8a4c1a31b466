/**
 * Makes the sample's files: trains on generated rows, writes `model.onnx` and `rows.bin`, and says how good they are
 * on rows that were not trained on. Seeded: the files come out the same.
 *
 *   node dist/examples/ctr/train.js [--rows 4000000]
 *   node dist/examples/ctr/train.js --whole OUT.onnx   network and table in one model, from the shipped files
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { modelFile, rowsFile } from './artefacts.js';
import { auc } from './auc.js';
import { denseModel } from './dense-model.js';
import { tableRows } from './feature-hash.js';
import { ImpressionStream, seeds } from './generator.js';
import { exampleOf } from './model-input.js';
import { dim } from './network.js';
import { packRows } from './rows-file.js';
import { ShippedModel } from './shipped-model.js';
import type { Trainer } from './trainer.js';
import { trainModel } from './training.js';
import { wholeModel } from './whole-model.js';

/** Rows of ids that were seen less often are not shipped: they were held near zero anyway. */
const leastSeen = 12;
const evaluationRows = 200_000;

const print = (line: string): void => void process.stdout.write(`${line}\n`);

const { values: flags } = parseArgs({
  options: { rows: { type: 'string', default: '4000000' }, whole: { type: 'string' } },
});
if (flags.whole !== undefined) {
  writeFileSync(flags.whole, wholeModel());
  print(flags.whole);
} else {
  const rows = Number(flags.rows);
  if (!(Number.isInteger(rows) && rows > 0)) {
    throw new Error(`--rows: expected an integer of at least 1, got ${flags.rows}`);
  }
  const trainer = train(rows);
  ship(trainer);
  await report(trainer);
}

function train(rows: number): Trainer {
  const start = performance.now();
  const seconds = (): string => ((performance.now() - start) / 1000).toFixed(0).padStart(4);
  const trainer = trainModel({
    rows,
    onProgress: (done) => print(`${seconds()} s  ${done.rows} rows, cross-entropy ${done.loss.toFixed(4)}`),
  });
  const cpu = process.cpuUsage();
  const cpuSeconds = (cpu.user + cpu.system) / 1e6;
  print(`trained on ${rows} rows in ${seconds().trim()} s, of which ${cpuSeconds.toFixed(0)} s on a core`);
  return trainer;
}

function ship({ network, table, seen }: Trainer): void {
  const model = denseModel(network);
  writeFileSync(modelFile, model);
  print(`${modelFile}: ${model.length} bytes`);
  const rows = packRows({ count: tableRows, dim, values: table }, (id) => seen[id]! >= leastSeen);
  writeFileSync(rowsFile, rows);
  const count = (least: number): number => seen.reduce((sum, times) => sum + (times >= least ? 1 : 0), 0);
  print(`${rowsFile}: ${rows.length} bytes, ${count(leastSeen)} rows of ${count(1)} ids seen`);
}

async function report(trainer: Trainer): Promise<void> {
  const stream = new ImpressionStream(seeds.evaluation);
  const impressions = Array.from({ length: evaluationRows }, () => stream.next());
  const examples = impressions.map(exampleOf);
  const labels = examples.map(({ label }) => label);
  const clicks = labels.reduce<number>((sum, label) => sum + label, 0);
  const shipped = await ShippedModel.open();
  const probabilities = await shipped.predict(examples);
  await shipped.close();
  const mean = probabilities.reduce((sum, probability) => sum + probability, 0) / evaluationRows;
  print(
    `on ${evaluationRows} unseen rows, ${((100 * clicks) / evaluationRows).toFixed(2)} % of them clicked:`,
  );
  print(
    `  AUC of the truth    ${auc(
      impressions.map(({ probability }) => probability),
      labels,
    ).toFixed(4)}`,
  );
  print(
    `  AUC as trained      ${auc(
      examples.map((row) => trainer.predict(row)),
      labels,
    ).toFixed(4)}`,
  );
  print(`  AUC as shipped      ${auc(probabilities, labels).toFixed(4)}`);
  print(`  mean probability    ${(100 * mean).toFixed(2)} %`);
}
