/**
 * Trains the price model anew every few seconds, on the sales of the last days, and writes it over the one before.
 * The file READY is touched when it is whole. A day lasts as long as a round.
 *
 *   node dist/examples/hot-reload/train.js DIRECTORY [--every 3]
 */
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { drawSale, randomNumbers, type Sale } from './houses.js';
import { fitPrices, priceModel } from './price-model.js';

const { values: flags, positionals } = parseArgs({
  options: { every: { type: 'string', default: '3' } },
  allowPositionals: true,
});
const directory = positionals[0];
if (directory === undefined) throw new Error('expected the directory to write to');
const everyMs = Number(flags.every) * 1000;

const salesADay = 200;
const rememberedDays = 5;
const random = randomNumbers(1);
const sales: Sale[] = [];

mkdirSync(directory, { recursive: true });
for (let day = 0; ; day++) {
  for (let index = 0; index < salesADay; index++) sales.push(drawSale(random, day));
  sales.splice(0, Math.max(0, sales.length - salesADay * rememberedDays));
  writeFileSync(join(directory, 'model.onnx.new'), priceModel(fitPrices(sales)));
  renameSync(join(directory, 'model.onnx.new'), join(directory, 'model.onnx'));
  writeFileSync(join(directory, 'READY'), '');
  process.stdout.write(`day ${day}\n`);
  await sleep(everyMs);
}
